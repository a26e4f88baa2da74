//! The features: frames, keys, commands, files, datagrams and servers.

pub mod auth;
pub mod datagram;
pub mod exec;
pub mod file;
pub mod frame;
#[cfg(feature = "serve")]
pub mod serve;

use std::os::fd::BorrowedFd;

/// The two directions of a connection: one descriptor twice, or a pair such as standard
/// input and output.
#[derive(Clone, Copy, Debug)]
pub struct Duplex<'fd> {
    /// To read from the peer.
    pub reader: BorrowedFd<'fd>,
    /// To write to the peer.
    pub writer: BorrowedFd<'fd>,
}

impl<'fd> From<BorrowedFd<'fd>> for Duplex<'fd> {
    fn from(fd: BorrowedFd<'fd>) -> Self {
        Duplex { reader: fd, writer: fd }
    }
}
