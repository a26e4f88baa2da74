//! Who the client of a connection is, for a server's decisions and its records.

use std::os::fd::BorrowedFd;

use super::connection::Connection;
use crate::io::stream::address::{self, Credentials};
use crate::wire::auth::KeyId;

/// The client of a connection. What it is asked for is looked up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client<'a> {
    key: Option<&'a KeyId>,
    origin: Origin<'a>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Origin<'a> {
    #[default]
    Unknown,
    Socket(BorrowedFd<'a>),
    Known(&'a str, Option<Credentials>),
}

impl<'a> Client<'a> {
    /// One at the other end of a raw descriptor.
    pub(crate) fn at(fd: BorrowedFd<'a>) -> Client<'a> {
        Client { key: None, origin: Origin::Socket(fd) }
    }

    /// The same with a key that it has proved.
    pub(crate) fn with_key(self, key: Option<&'a KeyId>) -> Client<'a> {
        Client { key, ..self }
    }

    /// One whose address was looked up before.
    pub(crate) fn known(
        key: Option<&'a KeyId>,
        address: &'a str,
        credentials: Option<Credentials>,
    ) -> Client<'a> {
        Client { key, origin: Origin::Known(address, credentials) }
    }

    /// The id of the key that it has proved, empty for a key without an id; `None`: there was no
    /// handshake.
    pub fn key(&self) -> Option<&'a KeyId> {
        self.key
    }

    /// Its address, as [`connect`](crate::frame::connect) takes it; `None` if it is not known: it has
    /// reset the connection, or this is no socket. Most clients at a Unix socket have no name, and
    /// are `unix:`.
    pub fn address(&self) -> Option<String> {
        match self.origin {
            Origin::Unknown | Origin::Known("", _) => None,
            Origin::Socket(fd) => {
                let text = address::address_of(fd, true).ok()?;
                Some(String::from_utf8_lossy(&text).into_owned())
            }
            Origin::Known(address, _) => Some(address.to_owned()),
        }
    }

    /// Its process and user, if it is connected by a Unix socket.
    pub fn credentials(&self) -> Option<Credentials> {
        match self.origin {
            Origin::Unknown => None,
            Origin::Socket(fd) => address::credentials_of(fd).ok().flatten(),
            Origin::Known(_, credentials) => credentials,
        }
    }
}

impl Connection<'_> {
    /// The client at the other end, for a server.
    pub fn client(&self) -> Client<'_> {
        let key = self.proof().map(|proof| &proof.key_id);
        let origin = self.read_fd().map_or(Origin::Unknown, Origin::Socket);
        Client { key, origin }
    }
}
