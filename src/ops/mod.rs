//! The features: what a program does with frames, keys, commands and files.

pub mod auth;
pub mod datagram;
pub(crate) mod exchange;
pub mod exec;
pub mod exec_datagram;
pub mod file;
pub mod frame;
pub mod key_file;
pub(crate) mod link;
pub mod reader;
pub(crate) mod replay;
pub mod reply;
pub mod run;
pub mod writer;

use std::os::fd::BorrowedFd;

/// The two directions of a connection: one descriptor twice, or a pair such as standard
/// input and output.
#[derive(Clone, Copy, Debug)]
pub struct Duplex<'fd> {
    /// Where bytes of the other end come from.
    pub reader: BorrowedFd<'fd>,
    /// Where bytes to the other end go.
    pub writer: BorrowedFd<'fd>,
}

impl<'fd> From<BorrowedFd<'fd>> for Duplex<'fd> {
    fn from(fd: BorrowedFd<'fd>) -> Self {
        Duplex { reader: fd, writer: fd }
    }
}
