//! What a connection of a server waits for, and how long.
//!
//! | waits for | its time is up after | what follows |
//! |---|---|---|
//! | the handshake | `auth_timeout` since it was accepted | closed |
//! | a request | `idle`; [`limits::QUIET`] once the server stops | ended |
//! | the rest of a header | `frame_timeout` since its first byte | `bad_request`, ended |
//! | the rest of a body | `stall` without a byte, or below the least rate | `timed_out`, ended |
//! | the rest of a body that nobody wants | [`limits::REFUSED_TIME`] | ended |
//! | room for replies | `stall` without a byte read, or below the least rate | closed |
//! | the end of the stream, after it was ended | [`limits::LINGER_TIME`] | closed |
//!
//! *Ended* is: what is queued is written, this direction is shut down, and what still comes is
//! dropped until the peer has closed as well.

use std::time::{Duration, Instant};

use super::common::Common;
use super::log::{Level, add};
use super::peer::{Next, Peer, Waits};
use super::resting::quiet;
use crate::error::{Error, ErrorKind};
use crate::io::poller::{Interest, is_readable};
use crate::io::stream::sink::unread;
use crate::limits;

impl Peer {
    /// Ends the connection from now on.
    pub(super) fn begin_end(&mut self, common: &Common) -> Next {
        // The rest of a request does not come any more.
        self.conclude(common, Some(ErrorKind::Truncated));
        self.is_ending = true;
        self.ahead = None;
        self.waits = Waits::Nothing;
        self.end(common)
    }

    pub(super) fn end(&mut self, common: &Common) -> Next {
        let Some(connection) = &mut self.connection else { return Next::Close };
        match connection.try_end() {
            Ok(true) | Err(_) => Next::Close,
            Ok(false) if connection.queued() > 0 => {
                self.wait(common, Instant::now(), Waits::Room, false)
            }
            Ok(false) => self.wait(common, Instant::now(), Waits::End, false),
        }
    }

    /// Waits for this. `moved`: the peer has sent something.
    pub(super) fn wait(
        &mut self,
        common: &Common,
        now: Instant,
        waits: Waits,
        moved: bool,
    ) -> Next {
        let Some(connection) = &mut self.connection else { return Next::Close };
        let queued = connection.queued();
        let waits = if queued > 0 && waits != Waits::Handshake { Waits::Room } else { waits };
        let has_written = connection.written() > self.written;
        let moved = if waits == Waits::Room { has_written } else { moved };
        self.count_bytes(common);
        let is_new = waits != self.waits;
        if is_new || moved {
            self.waits = waits;
            self.due = self.step_of(common, now);
            if waits == Waits::Room {
                self.read = self.read_by_peer();
            }
        }
        if is_new {
            (self.since, self.read_before) = (now, self.read);
            self.limit = self.limit_of(common, now);
        }
        self.fruitless = if is_new || moved { 0 } else { self.fruitless.saturating_add(1) };
        if self.fruitless > FRUITLESS {
            // The error queue of a socket is reported until the host has read it.
            std::thread::sleep(PAUSE);
        }
        if let Some(refused) = self.count_memory(common) {
            return refused;
        }
        let due = self.limit.map_or(self.due, |limit| limit.min(self.due));
        if due <= now && !is_new {
            return self.overdue(common, now);
        }
        let may_read = !self.has_ended && !self.is_ending && queued <= limits::REPLIES;
        Next::Wait(
            match waits {
                Waits::Room if may_read => Interest::Both,
                Waits::Room => Interest::Write,
                _ => Interest::Read,
            },
            due,
        )
    }

    /// Counts the bytes that were read and written since it was last called.
    pub(super) fn count_bytes(&mut self, common: &Common) {
        let Some(connection) = &self.connection else { return };
        let (received, written) = (connection.received(), connection.written());
        add(&common.counts.bytes_in, received.saturating_sub(self.received));
        add(&common.counts.bytes_out, written.saturating_sub(self.written));
        (self.received, self.written) = (received, written);
    }

    /// When the time of a new wait is up, whatever happens until then.
    fn limit_of(&self, common: &Common, now: Instant) -> Option<Instant> {
        let limits = &common.options.limits;
        let at_least_rate = |bytes: u64| Duration::from_secs(bytes / limits::LEAST_RATE);
        let time = match self.waits {
            Waits::Handshake if common.is_draining() => limits::LINGER_TIME,
            Waits::Handshake => limits.auth_timeout,
            Waits::Header => limits.frame_timeout,
            Waits::Rest => limits::REFUSED_TIME,
            Waits::End => limits::LINGER_TIME,
            Waits::Body => {
                let len = self.ahead.as_ref().map_or(0, |(_, len)| *len);
                limits.stall.saturating_add(at_least_rate(len))
            }
            Waits::Nothing | Waits::Request | Waits::Room => return None,
        };
        now.checked_add(time)
    }

    /// When its time is up if nothing happens from now on.
    fn step_of(&self, common: &Common, now: Instant) -> Instant {
        let limits = &common.options.limits;
        let time = match self.waits {
            Waits::Request if common.is_draining() => quiet(self.is_fresh),
            Waits::Request => limits.idle,
            Waits::Body | Waits::Room => limits.stall,
            _ => FAR,
        };
        now.checked_add(time).unwrap_or(now + FAR)
    }

    /// Counts what it holds in memory. If that is too much, its request is refused.
    fn count_memory(&mut self, common: &Common) -> Option<Next> {
        let connection = self.connection.as_mut()?;
        let holds = connection.buffered() as u64;
        let all = common.count_memory(self.counted, holds);
        self.counted = holds;
        let is_large = holds > limits::MAX_HEADER && self.waits == Waits::Body;
        if !is_large || all <= common.options.limits.max_memory {
            return None;
        }
        let (header, _) = self.ahead.take()?;
        add(&common.counts.refused_limit, 1);
        common.log.line(Level::Warning, format_args!("max_memory was reached"));
        let refused = self.refuse(common, &header, ErrorKind::Busy, "too many requests");
        Some(refused.map_or(Next::Close, |_| self.begin_end(common)))
    }

    /// It is closed: what it held is free.
    pub(super) fn forget_memory(&mut self, common: &Common) {
        common.count_memory(self.counted, 0);
        self.counted = 0;
    }

    /// Its time is up.
    pub(super) fn expire(&mut self, common: &Common) -> Next {
        let now = Instant::now();
        let is_input = !matches!(self.waits, Waits::Room | Waits::End);
        if is_input && (self.holds || self.fd().is_some_and(is_readable)) {
            // No thread has looked at it yet. That is not the peer's fault.
            let interest = self.armed.unwrap_or(Interest::Read);
            return Next::Wait(interest, now + UNREAD);
        }
        self.overdue(common, now)
    }

    fn overdue(&mut self, common: &Common, now: Instant) -> Next {
        match self.waits {
            Waits::Request | Waits::Rest | Waits::Nothing => self.begin_end(common),
            Waits::Room => self.stalled(common, now),
            Waits::End => Next::Close,
            Waits::Handshake => {
                add(&common.counts.refused_auth, 1);
                add(&common.counts.timed_out, 1);
                common.log.line(Level::Warning, format_args!("{}: no key in time", self.who()));
                Next::Close
            }
            Waits::Header | Waits::Body => {
                add(&common.counts.timed_out, 1);
                common
                    .log
                    .line(Level::Warning, format_args!("{}: a request is too slow", self.who()));
                let error = Error::new(ErrorKind::TimedOut, "the request did not arrive in time");
                let told = match (self.ahead.take(), &mut self.connection) {
                    (Some((header, _)), _) => {
                        self.refuse(common, &header, error.kind(), error.detail()).map(drop)
                    }
                    (None, Some(connection)) => connection.put_error(&error),
                    (None, None) => Err(error),
                };
                told.map_or(Next::Close, |()| self.begin_end(common))
            }
        }
    }

    /// Whether a peer for whose reading it waits does read. The kernel reports room late.
    fn stalled(&mut self, common: &Common, now: Instant) -> Next {
        let (before, read) = (self.read, self.read_by_peer());
        let stall = common.options.limits.stall;
        let since = u64::try_from(read - self.read_before).unwrap_or(0);
        let time = stall.saturating_add(Duration::from_secs(since / limits::LEAST_RATE));
        let is_slow = now.saturating_duration_since(self.since) > time.saturating_add(stall);
        if read <= before || is_slow {
            add(&common.counts.timed_out, 1);
            common.log.line(Level::Warning, format_args!("{}: does not read", self.who()));
            self.conclude(common, Some(ErrorKind::Stalled));
            return Next::Close;
        }
        self.read = read;
        self.due = now.checked_add(stall).unwrap_or(now + FAR);
        Next::Wait(self.armed.unwrap_or(Interest::Write), self.due)
    }

    /// Bytes that the peer has read, as far as the kernel knows.
    fn read_by_peer(&self) -> i64 {
        let unread = self.fd().and_then(unread).unwrap_or(0);
        self.written.cast_signed() - i64::from(unread)
    }

    /// The server stops: a new time, if it waits for a request or the handshake.
    pub(super) fn drain(&mut self, now: Instant) -> Option<Instant> {
        match self.waits {
            Waits::Handshake => self.limit = Some(now + limits::LINGER_TIME),
            Waits::Request => self.due = now + quiet(self.is_fresh),
            _ => return None,
        }
        Some(self.limit.map_or(self.due, |limit| limit.min(self.due)))
    }
}

/// No time limit.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long a request that has come waits for a thread until it is looked for again.
const UNREAD: Duration = Duration::from_millis(100);
/// Events without a byte, one after the other, before they are slowed down, and by how much.
const FRUITLESS: u8 = 16;
const PAUSE: Duration = Duration::from_millis(1);
