//! Listening sockets, and the tokens of what is no connection.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::io::poller::Token;

/// A listening socket.
pub enum Listening {
    /// It is closed when the server has stopped.
    Owned(OwnedFd),
    /// It stays open.
    Borrowed(BorrowedFd<'static>),
}

impl Listening {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Listening::Owned(fd) => fd.as_fd(),
            Listening::Borrowed(fd) => *fd,
        }
    }
}

impl From<OwnedFd> for Listening {
    fn from(fd: OwnedFd) -> Listening {
        Listening::Owned(fd)
    }
}

impl From<BorrowedFd<'static>> for Listening {
    fn from(fd: BorrowedFd<'static>) -> Listening {
        Listening::Borrowed(fd)
    }
}

pub(super) struct Listener {
    /// `None`: it failed.
    pub(super) socket: Option<Listening>,
}

/// Tokens of what is no connection: the highest bit is set.
pub(super) const LISTENER: Token = 1 << 63;
pub(super) const STOP: Token = LISTENER | 1 << 32;
pub(super) const TIMER: Token = STOP + 1;
pub(super) const QUIT: Token = STOP + 2;
