//! The table of received datagram requests: each runs at most once, and a repeated one gets the
//! stored reply.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};
use crate::io::stream::datagram::Address;
use crate::limits;
use crate::wire::message::Id;

/// Identifies one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// Of a client that has the key.
    Nonce(u128),
    /// Chosen by the sender; the address tells clients apart.
    Id(Option<Address>, Id),
}

/// The sender of a request and, with a key, when it was made: milliseconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub source: Option<Address>,
    pub time: Option<i64>,
}

/// The datagrams of a reply.
pub(crate) type Reply = Arc<[Vec<u8>]>;

/// Decision about a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is new: run it, then [`Table::finish`] it.
    Run,
    /// It was received before: send the reply again if it is still stored.
    Repeated(Option<Reply>),
}

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    monotonic: Instant,
    /// Milliseconds since 1970, as in a request's time.
    wall: i64,
}

impl Now {
    pub(crate) fn read() -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        Now { monotonic: Instant::now(), wall }
    }

    pub(crate) fn wall(self) -> i64 {
        self.wall
    }
}

/// The requests of the last 30 s, up to the table's limit.
#[derive(Debug)]
pub(crate) struct Table {
    entries: HashMap<Name, Entry>,
    max_entries: usize,
    max_bytes: usize,
    forgotten: Forgotten,
}

#[derive(Debug)]
struct Entry {
    origin: Origin,
    /// The time of the request, if it has one, is acceptable until then.
    acceptable: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Running,
    /// `None` if there was no room for the reply.
    Finished {
        at: Instant,
        reply: Option<Reply>,
    },
}

/// Requests made at `time` or before may have run without an entry here: they are older than
/// this server, or were removed for newer ones. They are refused until they are too old anyway.
#[derive(Clone, Copy, Debug)]
struct Forgotten {
    time: i64,
    until: Instant,
}

impl Table {
    pub(crate) fn new(now: Now) -> Table {
        Table::with_limits(now, limits::DATAGRAM_TABLE, limits::DATAGRAM_TABLE_BYTES)
    }

    fn with_limits(now: Now, max_entries: usize, max_bytes: usize) -> Table {
        // A request of the same millisecond most likely comes from the first client.
        let forgotten = Forgotten::new(now.wall - 1, now);
        Table { entries: HashMap::new(), max_entries, max_bytes, forgotten }
    }

    /// Decides about a request. An error is a request that gets no answer: too old, from the
    /// future, possibly run before, repeated from another address, or above the limit.
    pub(crate) fn admit(&mut self, name: &Name, origin: Origin, now: Now) -> Result<Admission> {
        self.entries.retain(|_, entry| !entry.is_over(now));
        if let known @ Admission::Repeated(_) = self.find(name, origin.source.as_ref())? {
            return Ok(known);
        }
        let ahead = origin.time.map_or(Ok(Duration::ZERO), |time| self.check_time(time, now))?;
        if self.entries.len() >= self.max_entries {
            self.forget_oldest(now)?;
        }
        let acceptable = now.monotonic + ahead + limits::DATAGRAM_REPLAY;
        let entry = Entry { origin, acceptable, state: State::Running };
        self.entries.insert(name.clone(), entry);
        Ok(Admission::Run)
    }

    /// Whether a request was received before, from the same `source`.
    pub(crate) fn find(&self, name: &Name, source: Option<&Address>) -> Result<Admission> {
        let Some(entry) = self.entries.get(name) else { return Ok(Admission::Run) };
        if entry.origin.source.as_ref() != source {
            // Otherwise the reply could be sent to anyone who copies the request or forges its
            // sender.
            return Err(denied("it was sent from another address before"));
        }
        Ok(Admission::Repeated(match &entry.state {
            State::Running => None,
            State::Finished { reply, .. } => reply.clone(),
        }))
    }

    /// Keeps the reply to a request that has run. If there are too many bytes, the oldest
    /// replies are dropped; their requests still count as run.
    pub(crate) fn finish(&mut self, name: &Name, reply: Option<Reply>, now: Now) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.state = State::Finished { at: now.monotonic, reply };
        }
        let mut bytes: usize = self.entries.values().map(Entry::reply_bytes).sum();
        while bytes > self.max_bytes {
            let with_reply = self.entries.iter().filter(|(_, entry)| entry.reply_bytes() > 0);
            let oldest = with_reply.min_by_key(|(_, entry)| entry.finished_at());
            let Some(oldest) = oldest.map(|(oldest, _)| oldest.clone()) else { break };
            if oldest == *name {
                break; // the newest one is kept, whatever it takes
            }
            let Some(entry) = self.entries.get_mut(&oldest) else { break };
            bytes -= entry.reply_bytes();
            if let State::Finished { reply, .. } = &mut entry.state {
                *reply = None;
            }
        }
    }

    /// How far a request's clock is ahead of this one.
    fn check_time(&self, time: i64, now: Now) -> Result<Duration> {
        let off = Duration::from_millis(time.abs_diff(now.wall));
        if off > limits::DATAGRAM_REPLAY {
            return Err(denied(format!("its time is {off:?} off")));
        }
        if time <= self.forgotten.time && now.monotonic < self.forgotten.until {
            return Err(denied("it may have run before"));
        }
        Ok(if time > now.wall { off } else { Duration::ZERO })
    }

    fn forget_oldest(&mut self, now: Now) -> Result<()> {
        let finished =
            self.entries.iter().filter(|(_, entry)| matches!(entry.state, State::Finished { .. }));
        let oldest = finished.min_by_key(|(_, entry)| entry.finished_at());
        let oldest = oldest.map(|(name, _)| name.clone());
        let Some(entry) = oldest.and_then(|name| self.entries.remove(&name)) else {
            let running = self.entries.len();
            return Err(Error::new(ErrorKind::Busy, format!("{running} requests are running")));
        };
        if let Some(time) = entry.origin.time {
            let still = now.monotonic < self.forgotten.until;
            let time = if still { time.max(self.forgotten.time) } else { time };
            self.forgotten = Forgotten::new(time, now);
        }
        Ok(())
    }
}

impl Entry {
    /// By now neither a repeated request nor a copy of it can be accepted.
    fn is_over(&self, now: Now) -> bool {
        match self.state {
            State::Running => false,
            State::Finished { at, .. } => {
                now.monotonic >= self.acceptable.max(at + limits::DATAGRAM_REPLAY)
            }
        }
    }

    fn finished_at(&self) -> Option<Instant> {
        match self.state {
            State::Running => None,
            State::Finished { at, .. } => Some(at),
        }
    }

    fn reply_bytes(&self) -> usize {
        match &self.state {
            State::Finished { reply: Some(reply), .. } => reply.iter().map(Vec::len).sum(),
            _ => 0,
        }
    }
}

impl Forgotten {
    /// A time is accepted from 30 s before to 30 s after it.
    fn new(time: i64, now: Now) -> Forgotten {
        Forgotten { time, until: now.monotonic + 2 * limits::DATAGRAM_REPLAY }
    }
}

fn denied(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Denied, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of 3 requests and 100 bytes, and the clocks at its start.
    struct Rig {
        table: Table,
        start: Now,
    }

    impl Rig {
        fn new() -> Rig {
            let start = Now { monotonic: Instant::now(), wall: 1_000_000 };
            Rig { table: Table::with_limits(start, 3, 100), start }
        }

        /// `ms` after the start.
        fn at(&self, ms: u32) -> Now {
            Now {
                monotonic: self.start.monotonic + Duration::from_millis(ms.into()),
                wall: self.start.wall + i64::from(ms),
            }
        }

        /// A request that the client makes at `made` and the server gets at `at`.
        fn admit(&mut self, name: u8, made: u32, at: u32) -> Result<Admission> {
            let time = Some(self.start.wall + i64::from(made));
            let now = self.at(at);
            self.table.admit(&nonce(name), Origin { source: None, time }, now)
        }

        fn finish(&mut self, name: u8, bytes: usize, at: u32) {
            let now = self.at(at);
            self.table.finish(&nonce(name), Some(Arc::new([vec![name; bytes]])), now);
        }

        fn runs(&mut self, name: u8, made: u32, at: u32) {
            assert!(matches!(self.admit(name, made, at), Ok(Admission::Run)), "{name}");
        }

        /// The bytes of the reply to a repeated request.
        fn repeats(&mut self, name: u8, made: u32, at: u32) -> Option<usize> {
            match self.admit(name, made, at) {
                Ok(Admission::Repeated(reply)) => reply.map(|reply| reply[0].len()),
                other => panic!("{name}: {other:?}"),
            }
        }

        fn refuses(&mut self, name: u8, made: u32, at: u32) -> ErrorKind {
            self.admit(name, made, at).unwrap_err().kind()
        }
    }

    fn nonce(name: u8) -> Name {
        Name::Nonce(name.into())
    }

    #[test]
    fn a_request_runs_once_and_its_reply_is_there_for_30_s() {
        let mut rig = Rig::new();
        rig.runs(1, 0, 0);
        assert_eq!(rig.repeats(1, 0, 50_000), None, "while it runs");
        rig.finish(1, 7, 60_000);
        assert_eq!(rig.repeats(1, 0, 89_999), Some(7), "however old the request");
        assert_eq!(rig.refuses(1, 0, 90_000), ErrorKind::Denied);
    }

    #[test]
    fn a_request_without_a_time_runs_again_after_30_s() {
        let mut rig = Rig::new();
        let name = Name::Id(None, Id::Number(1));
        let origin = Origin { source: None, time: None };
        let mut admit = |at| rig.table.admit(&name, origin.clone(), at).unwrap();
        let start = rig.start;
        assert!(matches!(admit(start), Admission::Run));
        assert!(matches!(admit(start), Admission::Repeated(None)));
        rig.table.finish(&name, None, start);
        let later = |ms| rig.at(ms);
        let (before, after) = (later(29_999), later(30_000));
        let mut admit = |at| rig.table.admit(&name, origin.clone(), at).unwrap();
        assert!(matches!(admit(before), Admission::Repeated(None)));
        assert!(matches!(admit(after), Admission::Run));
    }

    #[test]
    fn a_time_outside_30_s_is_refused() {
        let mut rig = Rig::new();
        for (name, made, at) in [(1, 0, 30_001), (2, 60_001, 30_000)] {
            assert_eq!(rig.refuses(name, made, at), ErrorKind::Denied);
        }
        rig.runs(1, 0, 30_000);
        rig.runs(2, 60_000, 30_000);
        for time in [i64::MIN, i64::MAX] {
            let origin = Origin { source: None, time: Some(time) };
            let error = rig.table.admit(&nonce(3), origin, rig.start).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
        }
    }

    #[test]
    fn a_time_from_the_future_is_remembered_until_it_is_old() {
        let mut rig = Rig::new();
        rig.runs(1, 30_000, 0);
        rig.finish(1, 7, 0);
        assert_eq!(rig.repeats(1, 30_000, 59_999), Some(7));
        assert_eq!(rig.refuses(1, 30_000, 60_001), ErrorKind::Denied);
    }

    #[test]
    fn what_was_made_before_the_server_is_refused() {
        let mut rig = Rig::new();
        let origin = Origin { source: None, time: Some(rig.start.wall - 1) };
        let error = rig.table.admit(&nonce(1), origin, rig.start).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        rig.runs(1, 0, 0);
    }

    #[test]
    fn a_copy_from_another_address_gets_nothing() {
        let mut rig = Rig::new();
        rig.runs(1, 0, 0);
        rig.finish(1, 7, 0);
        let other: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
        let origin = Origin { source: Some(other.into()), time: Some(rig.start.wall) };
        let error = rig.table.admit(&nonce(1), origin, rig.start).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_but_not_that_it_ran() {
        let mut rig = Rig::new();
        for name in 1..=3 {
            rig.runs(name, u32::from(name), 10);
        }
        assert_eq!(rig.refuses(4, 10, 10), ErrorKind::Busy, "all of them run");
        rig.finish(2, 1, 11);
        rig.finish(1, 1, 12);
        rig.runs(4, 10, 13);
        assert_eq!(rig.table.entries.len(), 3);
        assert_eq!(rig.refuses(2, 2, 14), ErrorKind::Denied, "it made room");
        assert_eq!(rig.repeats(1, 1, 14), Some(1));
        assert_eq!(rig.refuses(5, 2, 14), ErrorKind::Denied, "as old as what made room");
        rig.runs(5, 3, 14);
        assert_eq!(rig.refuses(6, 20, 20), ErrorKind::Busy);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_shut_clients_out_for_long() {
        let mut rig = Rig::new();
        let hour = 3_600_000;
        let origin = |wall| Origin { source: None, time: Some(wall) };
        let set_back = |now: Now| Now { wall: now.wall - hour, ..now };
        let (soon, later) = (set_back(rig.at(59_999)), set_back(rig.at(60_000)));
        let error = rig.table.admit(&nonce(1), origin(soon.wall), soon).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let admitted = rig.table.admit(&nonce(1), origin(later.wall), later);
        assert!(matches!(admitted, Ok(Admission::Run)));
    }

    #[test]
    fn too_many_bytes_drop_the_oldest_replies_alone() {
        let mut rig = Rig::new();
        for name in 1..=3 {
            rig.runs(name, 0, 0);
        }
        rig.finish(1, 60, 1);
        rig.finish(2, 40, 2);
        assert_eq!(rig.repeats(1, 0, 3), Some(60));
        rig.finish(3, 1, 3);
        assert_eq!(rig.repeats(1, 0, 4), None);
        assert_eq!(rig.repeats(2, 0, 4), Some(40));
        rig.runs(4, 4, 5);
        rig.finish(4, 1000, 6);
        assert_eq!(rig.repeats(4, 4, 7), Some(1000), "the newest is kept");
        assert_eq!(rig.repeats(2, 0, 7), None);
    }
}
