//! Requests that are answered after their handler has returned.
//!
//! | who has the connection | until |
//! |---|---|
//! | the host, since the handler was called | it gives the connection back, on any thread |
//! | the server, once the handler has returned too | the next request |

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex};

use super::locked;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::frame::Connection;

/// What a handler leaves behind.
pub(crate) struct Left {
    /// `None`: it is lost, and closed.
    pub(crate) connection: Option<Box<Connection<'static>>>,
    pub(crate) outcome: Result<()>,
    /// The text of the error reply, if not that of the error.
    pub(crate) message: Option<String>,
}

impl Left {
    pub(crate) fn new(connection: Option<Box<Connection<'static>>>, outcome: Result<()>) -> Left {
        Left { connection, outcome, message: None }
    }
}

/// For a handler that answers now or later: the server waits for the connection of the request. If
/// this is dropped before [`done`](Self::done), the client is closed without a reply.
pub struct Later(Option<Arc<Mutex<Place>>>);

/// The same, for the server.
pub(crate) struct Lent(Arc<Mutex<Place>>);

/// Goes on with the connection.
type GoOn = Box<dyn FnOnce(Left) + Send>;

/// Where the two meet: the second one to come goes on.
enum Place {
    Empty,
    Left(Box<Left>),
    Awaited(GoOn),
}

/// A connection is lent.
pub(crate) fn lend() -> (Later, Lent) {
    let place = Arc::new(Mutex::new(Place::Empty));
    (Later(Some(Arc::clone(&place))), Lent(place))
}

impl Later {
    /// The request is served: with what was sent on the connection, or with the reply `ok` if that
    /// is nothing. Or it has failed, which becomes the error reply. Any thread.
    pub fn done(self, connection: Connection<'static>, outcome: Result<()>) {
        self.give_back(Left::new(Some(Box::new(connection)), outcome));
    }

    /// If the handler has returned, this thread goes on with the connection.
    pub(crate) fn give_back(mut self, left: Left) {
        self.settle(left);
    }

    fn settle(&mut self, left: Left) {
        let Some(meeting) = self.0.take() else { return };
        let mut place = locked(&meeting);
        if let Place::Awaited(go_on) = mem::replace(&mut *place, Place::Empty) {
            drop(place);
            go_on(left);
        } else {
            *place = Place::Left(Box::new(left));
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.settle(Left::new(None, Err(Error::new(ErrorKind::Canceled, ""))));
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later").finish_non_exhaustive()
    }
}

impl Lent {
    /// What has come back already.
    pub(super) fn left(&self) -> Option<Left> {
        match mem::replace(&mut *locked(&self.0), Place::Empty) {
            Place::Left(left) => Some(*left),
            Place::Empty | Place::Awaited(_) => None,
        }
    }

    /// Has `go_on` called once it is back: by the thread that gives it back or, if that has
    /// happened, by this one.
    pub(super) fn wait(self, go_on: impl FnOnce(Left) + Send + 'static) {
        let mut place = locked(&self.0);
        if let Place::Left(left) = mem::replace(&mut *place, Place::Empty) {
            drop(place);
            go_on(*left);
        } else {
            *place = Place::Awaited(Box::new(go_on));
        }
    }
}
