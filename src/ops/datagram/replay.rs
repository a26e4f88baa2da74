//! The table of received datagram requests: each runs at most once, and a repeated one gets the
//! stored reply.
//!
//! Two bounds, since a request that is remembered takes 64 bytes, and a reply up to 32 MiB:
//!
//! | in | are | leaves |
//! |---|---|---|
//! | `seen` | names and times of requests | 30 s after its time; earlier if 65,536 newer ones are there |
//! | `kept` | running requests, and replies | 30 s after its end; earlier if 1,024 newer ones or 32 MiB are there |
//!
//! A request's time is the one that its client has signed, on the wall clock. What leaves `seen`
//! raises `forgotten`, and no request made at that time or before is accepted again, even if the
//! clock is set back. Without a key it is the moment of its arrival, on the monotonic clock; and
//! each time it is repeated its 30 s begin anew.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::datagram::parts::Parts;

/// A received request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// With a key its nonce; otherwise its id and address, see [`name_of`].
    pub name: u128,
    /// The address that it came from, see [`name_of`].
    pub source: u128,
    /// With a key: when it was made, in milliseconds since 1970.
    pub time: Option<i64>,
}

/// 128 bits of the SHA-256 of a value, which stand for it in the table.
pub(crate) fn name_of(value: &impl Hash) -> u128 {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0 // the whole digest is below
        }
    }
    let mut sha = Sha(Sha256::new());
    value.hash(&mut sha);
    let digest = sha.0.finalize();
    digest.first_chunk().map_or(0, |bytes| u128::from_ne_bytes(*bytes))
}

/// Decision about a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is new: run it, then [`Table::finish`] it.
    Run,
    /// It was received before: send the reply again if it is still stored.
    Repeated(Option<Arc<Parts>>),
}

/// The two clocks at one moment, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// The monotonic clock, since the table was made.
    up: i64,
    /// The wall clock, since 1970.
    wall: i64,
}

impl Now {
    /// For a table that was made at `start`.
    pub(crate) fn since(start: Instant) -> Now {
        Now { up: i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX), wall: wall() }
    }
}

/// Milliseconds since 1970, as in a request's time.
pub(crate) fn wall() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)
}

/// The requests of the last 30 s, up to the table's limits.
#[derive(Debug)]
pub(crate) struct Table {
    by_wall: bool,
    seen: HashMap<u128, i64>,
    /// The requests in `seen`, the oldest first; their times may have become later.
    oldest: BinaryHeap<(Reverse<i64>, u128)>,
    kept: Vec<Kept>,
    /// Requests made then or before may have run: they are older than this table, or have left
    /// `seen`.
    forgotten: i64,
    max: Max,
}

#[derive(Clone, Copy, Debug)]
struct Max {
    seen: usize,
    kept: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    name: u128,
    source: u128,
    /// Not while it runs.
    finished: Option<i64>,
    /// `None` if there was no room for it.
    reply: Option<Arc<Parts>>,
    /// When the whole of it may be sent again.
    pause: i64,
}

impl Table {
    /// `by_wall`: requests have times.
    pub(crate) fn new(now: Now, by_wall: bool) -> Table {
        let max = Max {
            seen: limits::DATAGRAM_SEEN,
            kept: limits::DATAGRAM_TABLE,
            bytes: limits::DATAGRAM_TABLE_BYTES,
        };
        Table::with_limits(now, by_wall, max)
    }

    fn with_limits(now: Now, by_wall: bool, max: Max) -> Table {
        let (seen, oldest, kept) = (HashMap::new(), BinaryHeap::new(), Vec::new());
        // A request of the same millisecond most likely comes from the first client.
        Table { by_wall, seen, oldest, kept, forgotten: now.wall - 1, max }
    }

    /// Decides about a request. An error is a request that gets no answer: too old, from the
    /// future, possibly run before, repeated from another address, or above the limit.
    pub(crate) fn admit(&mut self, asked: Asked, now: Now) -> Result<Admission> {
        self.forget(now);
        if let known @ Admission::Repeated(_) = self.find(asked, now)? {
            return Ok(self.unless_just_sent(known, asked.name, now));
        }
        asked.time.map_or(Ok(()), |time| self.check_time(time, now))?;
        if self.kept.len() >= self.max.kept {
            self.drop_oldest_reply()?;
        }
        // First what can fail: a request that is remembered and does not run is never answered.
        self.kept.try_reserve(1).map_err(no_memory)?;
        self.remember(asked.name, asked.time.unwrap_or(now.up))?;
        let Asked { name, source, .. } = asked;
        self.kept.push(Kept { name, source, finished: None, reply: None, pause: 0 });
        Ok(Admission::Run)
    }

    /// Whether a request was received before, from the same address.
    pub(crate) fn find(&mut self, asked: Asked, now: Now) -> Result<Admission> {
        let by_wall = self.by_wall;
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.name == asked.name) {
            if kept.source != asked.source {
                // Otherwise the reply could be sent to anyone who copies the request or forges
                // its sender.
                return Err(denied("it was sent from another address before"));
            }
            if !by_wall {
                kept.finished = kept.finished.map(|_| now.up);
            }
            return Ok(Admission::Repeated(kept.reply.clone()));
        }
        Ok(self.seen.get_mut(&asked.name).map_or(Admission::Run, |time| {
            if !by_wall {
                *time = now.up;
            }
            Admission::Repeated(None)
        }))
    }

    /// A long reply is not sent again at once: anyone who has recorded its request, or forges its
    /// sender, could have 100 bytes answered with megabytes, as often as they like.
    fn unless_just_sent(&mut self, known: Admission, name: u128, now: Now) -> Admission {
        match self.kept.iter_mut().find(|kept| kept.name == name) {
            Some(kept) if now.up < kept.pause => Admission::Repeated(None),
            Some(kept) => {
                kept.pause = now.up + kept.pause();
                known
            }
            None => known,
        }
    }

    /// Keeps the reply to a request that has run. If there are too many bytes, the oldest
    /// replies are dropped; their requests still count as run.
    pub(crate) fn finish(&mut self, name: u128, reply: Option<&Arc<Parts>>, now: Now) {
        let mut bytes = 0;
        for kept in &mut self.kept {
            if kept.name == name {
                kept.finished = Some(now.up);
                kept.reply = reply.map(Arc::clone);
                kept.pause = now.up + kept.pause();
            }
            bytes += kept.bytes();
        }
        while bytes > self.max.bytes {
            // The newest one is kept, whatever it takes.
            let others = self.kept.iter_mut().filter(|kept| kept.name != name && kept.bytes() > 0);
            let Some(oldest) = others.min_by_key(|kept| kept.finished) else { break };
            bytes -= oldest.bytes();
            oldest.reply = None;
        }
    }

    fn check_time(&self, time: i64, now: Now) -> Result<()> {
        let off = time.abs_diff(now.wall);
        if off > REPLAY.unsigned_abs() {
            return Err(denied(format!("its time is {off} ms off")));
        }
        if time <= self.forgotten {
            return Err(denied("it may have run before: this server began later, or forgot it"));
        }
        Ok(())
    }

    fn remember(&mut self, name: u128, time: i64) -> Result<()> {
        while self.seen.len() >= self.max.seen {
            self.forget_oldest();
        }
        self.seen.try_reserve(1).map_err(no_memory)?;
        self.oldest.try_reserve(1).map_err(no_memory)?;
        if self.seen.insert(name, time).is_none() {
            self.oldest.push((Reverse(time), name));
        }
        Ok(())
    }

    /// Forgets what can no longer be accepted.
    fn forget(&mut self, now: Now) {
        self.kept.retain(|kept| kept.finished.is_none_or(|at| now.up - at <= REPLAY));
        let now = if self.by_wall { now.wall } else { now.up };
        while self.oldest.peek().is_some_and(|(Reverse(time), _)| now - time > REPLAY) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((Reverse(time), name)) = self.oldest.pop() else { return };
        match self.seen.get(&name) {
            Some(later) if *later > time => self.oldest.push((Reverse(*later), name)),
            _ => {
                self.seen.remove(&name);
                self.forgotten = self.forgotten.max(time);
            }
        }
    }

    fn drop_oldest_reply(&mut self) -> Result<()> {
        let finished = self.kept.iter().enumerate().filter(|(_, kept)| kept.finished.is_some());
        let Some((at, _)) = finished.min_by_key(|(_, kept)| kept.finished) else {
            let running = self.kept.len();
            return Err(Error::new(ErrorKind::Busy, format!("{running} requests are running")));
        };
        let Kept { name, finished, .. } = self.kept.swap_remove(at);
        match finished {
            // It may have run for longer than `seen` remembers.
            Some(at) if !self.by_wall => self.remember(name, at),
            _ => Ok(()),
        }
    }
}

impl Kept {
    /// Milliseconds from one time its whole reply is sent to the next: less than a client waits
    /// before it asks again, and four times as long as sending takes.
    fn pause(&self) -> i64 {
        let count = self.reply.as_ref().map_or(0, |reply| reply.count());
        if count as usize <= limits::DATAGRAM_MISSING { 0 } else { 100 + i64::from(count) / 2 }
    }

    fn bytes(&self) -> usize {
        self.reply.as_ref().map_or(0, |reply| reply.bytes())
    }
}

fn no_memory<E>(_: E) -> Error {
    Error::new(ErrorKind::NoMemory, "for one request more")
}

fn denied(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Denied, detail)
}

/// In milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "it is 30 s")]
const REPLAY: i64 = limits::DATAGRAM_REPLAY.as_millis() as i64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::datagram::parts::Mark;
    use crate::wire::message::Id;

    /// A table of 4 requests, 3 replies and 1,000 bytes. The wall clock is `skew` off.
    struct Rig {
        table: Table,
        skew: i64,
    }

    const START: i64 = 1_000_000;

    impl Rig {
        fn new(by_wall: bool) -> Rig {
            let max = Max { seen: 4, kept: 3, bytes: 1000 };
            let start = Now { up: 0, wall: START };
            Rig { table: Table::with_limits(start, by_wall, max), skew: 0 }
        }

        /// `ms` after the start.
        fn at(&self, ms: i64) -> Now {
            Now { up: ms, wall: START + self.skew + ms }
        }

        /// A request that the client makes at `made` and the server receives at `at`.
        fn admit(&mut self, name: u128, made: i64, at: i64) -> Result<Admission> {
            let time = self.table.by_wall.then_some(START + made);
            let now = self.at(at);
            self.table.admit(Asked { name, source: 0, time }, now)
        }

        fn finish(&mut self, name: u128, bytes: usize, at: i64) {
            let mark = Mark { id: Id::Number(1), time: None, nonce: None };
            let parts = Parts::new(mark, &|_| {}, vec![0; bytes], None, 8192).unwrap();
            let now = self.at(at);
            self.table.finish(name, Some(&Arc::new(parts)), now);
        }

        fn runs(&mut self, name: u128, made: i64, at: i64) {
            assert!(matches!(self.admit(name, made, at), Ok(Admission::Run)), "{name}");
        }

        /// It runs, and its reply has no body.
        fn ran(&mut self, name: u128, made: i64, at: i64) {
            self.runs(name, made, at);
            self.finish(name, 0, at);
        }

        /// Whether the reply to a repeated request is still there.
        fn repeats(&mut self, name: u128, made: i64, at: i64) -> bool {
            match self.admit(name, made, at) {
                Ok(Admission::Repeated(reply)) => reply.is_some(),
                other => panic!("{name}: {other:?}"),
            }
        }

        fn refuses(&mut self, name: u128, made: i64, at: i64) {
            assert_eq!(self.admit(name, made, at).unwrap_err().kind(), ErrorKind::Denied, "{name}");
        }
    }

    #[test]
    fn a_request_runs_once_and_its_reply_is_there_for_30_s() {
        let mut rig = Rig::new(true);
        rig.runs(1, 0, 0);
        assert!(!rig.repeats(1, 0, 50_000), "while it runs");
        rig.finish(1, 7, 60_000);
        assert!(rig.repeats(1, 0, 90_000), "however old the request");
        rig.refuses(1, 0, 90_001);
    }

    #[test]
    fn without_a_key_a_request_runs_once_as_long_as_it_is_repeated() {
        let mut rig = Rig::new(false);
        rig.ran(1, 0, 0);
        for at in [30_000, 60_000, 90_000] {
            assert!(rig.repeats(1, 0, at));
        }
        rig.runs(1, 0, 120_001);
    }

    #[test]
    fn a_long_command_without_a_key_is_remembered_from_its_end() {
        let mut rig = Rig::new(false);
        rig.runs(1, 0, 0);
        rig.ran(2, 0, 100_000);
        rig.finish(1, 0, 100_001);
        rig.ran(3, 0, 100_002);
        rig.ran(4, 0, 100_003);
        rig.ran(5, 0, 100_004);
        assert!(!rig.repeats(1, 0, 120_000), "its reply made room");
        assert!(!rig.repeats(1, 0, 150_000), "it was repeated");
        rig.runs(1, 0, 180_001);
    }

    #[test]
    fn a_time_outside_30_s_is_refused() {
        let mut rig = Rig::new(true);
        rig.refuses(1, 0, 30_001);
        rig.refuses(2, 60_001, 30_000);
        rig.runs(1, 0, 30_000);
        rig.runs(2, 60_000, 30_000);
        for time in [i64::MIN, i64::MAX] {
            let asked = Asked { name: 3, source: 0, time: Some(time) };
            let error = rig.table.admit(asked, rig.at(0)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
        }
    }

    #[test]
    fn a_time_from_the_future_is_remembered_until_it_is_old() {
        let mut rig = Rig::new(true);
        rig.ran(1, 30_000, 0);
        for name in 2..5 {
            rig.ran(name, 20_000, 10_000);
        }
        assert!(!rig.repeats(1, 30_000, 60_000));
        rig.refuses(1, 30_000, 60_001);
    }

    #[test]
    fn what_was_made_before_the_server_is_refused() {
        let mut rig = Rig::new(true);
        rig.refuses(1, -1, 0);
        rig.runs(1, 0, 0);
    }

    #[test]
    fn a_copy_from_another_address_gets_nothing() {
        for by_wall in [true, false] {
            let mut rig = Rig::new(by_wall);
            rig.ran(1, 0, 0);
            let asked = Asked { name: 1, source: 7, time: by_wall.then_some(START) };
            let now = rig.at(0);
            assert_eq!(rig.table.admit(asked, now).unwrap_err().kind(), ErrorKind::Denied);
            assert_eq!(rig.table.find(asked, now).unwrap_err().kind(), ErrorKind::Denied);
        }
    }

    #[test]
    fn a_reply_makes_room_and_its_request_still_counts_as_run() {
        let mut rig = Rig::new(true);
        for name in 1..=3 {
            rig.runs(name, 10, 10);
        }
        assert_eq!(rig.admit(4, 10, 10).unwrap_err().kind(), ErrorKind::Busy, "all of them run");
        rig.finish(2, 1, 11);
        rig.finish(1, 1, 12);
        rig.runs(4, 10, 13);
        assert!(!rig.repeats(2, 10, 14));
        assert!(rig.repeats(1, 10, 14));
        assert_eq!(rig.table.kept.len(), 3);
    }

    #[test]
    fn one_client_whose_clock_is_ahead_shuts_nobody_out() {
        let mut rig = Rig::new(true);
        rig.ran(1, 20_000, 0);
        // More than the table holds, and each is still known for as long as there is room.
        for name in 2..100 {
            let time = i64::try_from(name).unwrap();
            rig.ran(name, time, time);
            assert!(rig.repeats(name, time, time));
            assert!(rig.table.seen.len() <= 4 && rig.table.oldest.len() == rig.table.seen.len());
        }
        assert_eq!(rig.table.forgotten, START + 96);
        rig.refuses(96, 96, 100);
        rig.refuses(100, 96, 100);
        assert!(!rig.repeats(1, 20_000, 100), "the one from the future is there too");
    }

    #[test]
    fn a_lost_request_is_accepted_late_however_many_others_ran() {
        let mut rig = Rig::new(true);
        rig.table.max.seen = limits::DATAGRAM_SEEN;
        for name in 0..5000 {
            rig.ran(name, 1000 + i64::try_from(name).unwrap(), 6000);
        }
        rig.runs(9999, 1, 7000);
    }

    #[test]
    fn a_clock_that_is_set_back_runs_nothing_twice() {
        let hour = 3_600_000;
        let mut rig = Rig::new(true);
        rig.ran(1, 0, 0);
        rig.ran(2, 40_000, 40_000); // the first one has left the table
        assert!(!rig.table.seen.contains_key(&1));
        rig.skew = -40_000;
        rig.refuses(1, 0, 40_001);
        assert!(rig.repeats(2, 40_000, 40_001), "it is known, however far its time is off");
        rig.runs(3, 1, 40_002);
        // Made before the clock was set back, and never run: it may have, for all that is known.
        rig.skew = -hour;
        rig.refuses(4, 40_003 - hour, 40_003);
        // Set forward, it forgets the more.
        rig.skew = hour;
        rig.ran(5, 40_004 + hour, 40_004);
        assert!(rig.table.seen.len() == 1);
        rig.skew = 0;
        rig.refuses(2, 40_000, 80_000);
        rig.runs(6, 80_001, 80_001);
    }

    #[test]
    fn too_many_bytes_drop_the_oldest_replies_alone() {
        let mut rig = Rig::new(true);
        for name in 1..=3 {
            rig.runs(name, 0, 0);
        }
        rig.finish(1, 600, 1);
        rig.finish(2, 300, 2);
        assert!(rig.repeats(1, 0, 3));
        rig.finish(3, 100, 4);
        assert!(!rig.repeats(1, 0, 4));
        assert!(rig.repeats(2, 0, 4));
        rig.runs(4, 4, 5);
        rig.finish(4, 10_000, 6);
        assert!(rig.repeats(4, 4, 7), "the newest is kept");
    }

    #[test]
    fn a_long_reply_is_not_sent_again_at_once() {
        let mut rig = Rig::new(true);
        rig.table.max.bytes = 10_000_000;
        rig.runs(1, 0, 0);
        rig.finish(1, 1_000_000, 10);
        assert!(!rig.repeats(1, 0, 100));
        let asked = Asked { name: 1, source: 0, time: None };
        let parts = rig.table.find(asked, rig.at(100));
        assert!(matches!(parts, Ok(Admission::Repeated(Some(_)))), "single ones are");
        assert!(rig.repeats(1, 0, 200), "a client asks again after 200 ms");
        assert!(!rig.repeats(1, 0, 201));
        assert!(rig.repeats(1, 0, 600));
        rig.runs(2, 0, 0);
        rig.finish(2, 100_000, 10);
        assert!(rig.repeats(2, 0, 10) && rig.repeats(2, 0, 10), "it is short");
    }

    #[test]
    fn names_are_of_all_that_they_stand_for() {
        let of = |source: u128, id: Id| name_of(&(source, &id));
        let names = [
            of(1, Id::Number(1)),
            of(2, Id::Number(1)),
            of(1, Id::Number(2)),
            of(1, Id::Text("1".into())),
            of(1, Id::Text("\u{1}\0\0\0\0\0\0\0".into())),
            of(1, Id::Text(String::new())),
        ];
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name));
        }
        assert_eq!(of(1, Id::Number(1)), names[0]);
    }
}
