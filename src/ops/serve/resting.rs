//! A connection that waits for its next request, as small as it gets: most of a server's do that
//! most of the time.

use std::time::{Duration, Instant};

use super::common::Common;
use super::peer::{Peer, Waits};
use super::served::Audit;
use crate::io::poller::Interest;
use crate::limits;
use crate::ops::frame::{Connection, Resting};

/// A connection that waits, and that no thread has.
pub(super) enum Kept {
    Whole(Box<Peer>),
    Resting(Box<Rest>),
}

/// What is left of one at rest.
pub(super) struct Rest {
    connection: Resting,
    is_fresh: bool,
    armed: Option<Interest>,
    fruitless: u8,
    due: Instant,
    audit: Option<Box<Audit>>,
}

impl Kept {
    /// Keeps a connection; at rest, if it waits for its first request: that may never come.
    pub(super) fn new(peer: Box<Peer>) -> Kept {
        if peer.is_fresh { peer.rest() } else { Kept::Whole(peer) }
    }

    /// The connection, to go on with.
    pub(super) fn wake(self, common: &Common) -> Box<Peer> {
        match self {
            Kept::Whole(peer) => peer,
            Kept::Resting(rest) => Box::new(rest.wake(common)),
        }
    }

    /// When it is to be put to rest, if it should be.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        match self {
            Kept::Whole(peer) if peer.may_rest() => peer.since.checked_add(REST),
            _ => None,
        }
    }

    /// Puts it to rest.
    pub(super) fn rest(self) -> Kept {
        match self {
            Kept::Whole(peer) => peer.rest(),
            rest @ Kept::Resting(_) => rest,
        }
    }

    /// The server stops: a new time, if it waits for a request or the handshake.
    pub(super) fn drain(&mut self, now: Instant) -> Option<Instant> {
        match self {
            Kept::Whole(peer) => peer.drain(now),
            Kept::Resting(rest) => {
                rest.due = now + quiet(rest.is_fresh);
                Some(rest.due)
            }
        }
    }
}

impl Peer {
    /// Whether it only waits for a request.
    fn may_rest(&self) -> bool {
        self.waits == Waits::Request
            && self.limit.is_none()
            && self.ahead.is_none()
            && self.counted == 0
            && !(self.refused.is_some() || self.is_ending || self.has_ended || self.holds)
    }

    fn rest(mut self: Box<Peer>) -> Kept {
        let may_rest = self.is_authenticated && self.may_rest();
        let connection = self.connection.take_if(|there| may_rest && there.is_at_rest());
        match connection.and_then(|connection| connection.rest()) {
            Some(connection) => Kept::Resting(Box::new(Rest {
                connection,
                is_fresh: self.is_fresh,
                armed: self.armed,
                fruitless: self.fruitless,
                due: self.due,
                audit: self.audit.take(),
            })),
            None => Kept::Whole(self),
        }
    }
}

impl Rest {
    fn wake(self, common: &Common) -> Peer {
        let connection = self.connection.wake(&common.limits().connection());
        let mut peer = Peer::new(connection, false, None, self.audit);
        let proof = peer.connection.as_deref().and_then(Connection::proof);
        peer.key = proof.map(|proof| proof.key_id.clone()).unwrap_or_default();
        (peer.is_fresh, peer.armed) = (self.is_fresh, self.armed);
        (peer.waits, peer.due, peer.fruitless) = (Waits::Request, self.due, self.fruitless);
        peer
    }
}

/// How long a server that stops waits for a request that may be on its way. The first one comes a
/// round trip after the connection.
pub(super) fn quiet(is_fresh: bool) -> Duration {
    if is_fresh { limits::QUIET * 5 } else { limits::QUIET }
}

/// How long a connection waits for a request before it is put to rest: a busy one never is.
const REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::io::testing;
    use crate::ops::serve::{Server, ServerOptions};

    /// A socket reports its error queue until the host has read it, and the server does not.
    #[test]
    fn a_socket_that_calls_for_nothing_does_not_keep_it_busy() {
        let (ours, theirs) = testing::with_an_error_queue();
        let server = Server::new(ServerOptions::default()).unwrap();
        server.add(ours).unwrap();
        let begun = Instant::now();
        let mut turns = 0;
        while begun.elapsed() < Duration::from_millis(300) {
            match server.step(Some(Duration::from_millis(10))) {
                Ok(()) => turns += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        // One in a millisecond, after the first ones.
        assert!((17..400).contains(&turns), "{turns}");
        drop(theirs);
    }
}
