//! A command at the peer that is written to and read while it runs.

use std::os::fd::BorrowedFd;

use rustix::event::PollFlags;

use super::client::Request;
use super::handler::Stream;
use super::running::Running;
use crate::error::Result;
use crate::io::deadline::Time;
use crate::ops::frame::{Connection, Handle};
use crate::wire::message::exec::ExecReply;

/// Starts a command whose output is read, and whose input is written, while it runs. The calls
/// that follow send the rest of the request.
///
/// After [`ErrorKind::TimedOut`] and [`ErrorKind::Argument`] nothing was accepted.
///
/// [`ErrorKind::TimedOut`]: crate::ErrorKind::TimedOut
/// [`ErrorKind::Argument`]: crate::ErrorKind::Argument
pub fn start<'c, 'fd>(
    connection: &'c mut Connection<'fd>,
    request: &Request<'_>,
    timeout: impl Into<Time>,
) -> Result<RemoteCommand<'c, 'fd>> {
    let running = Running::start(connection, request, timeout)?;
    Ok(RemoteCommand { connection, running })
}

/// A command that runs at the peer of a connection. Once [`read`](Self::read),
/// [`copy`](Self::copy) or [`finish`](Self::finish) has reported its end, the connection is
/// free for the next exchange.
///
/// After [`TimedOut`], [`Canceled`] and [`State`] a call can be made again. An error reply
/// before any output leaves the connection in sync. Any other error breaks it, and every later
/// call returns the error again. Dropping a command before its end breaks the connection;
/// closing that ends the command, unless the request says otherwise.
///
/// [`TimedOut`]: crate::ErrorKind::TimedOut
/// [`Canceled`]: crate::ErrorKind::Canceled
/// [`State`]: crate::ErrorKind::State
#[derive(Debug)]
pub struct RemoteCommand<'c, 'fd> {
    connection: &'c mut Connection<'fd>,
    running: Running,
}

impl RemoteCommand<'_, '_> {
    /// Reads output as it is received: [`Running::read`].
    pub fn read(
        &mut self,
        buf: &mut [u8],
        timeout: impl Into<Time>,
    ) -> Result<Option<(Stream, usize)>> {
        self.running.read(self.connection, buf, timeout)
    }

    /// Sends input: [`Running::write`].
    pub fn write(&mut self, bytes: &[u8], timeout: impl Into<Time>) -> Result<usize> {
        self.running.write(self.connection, bytes, timeout)
    }

    /// Ends the input: [`Running::end_input`].
    pub fn end_input(&mut self, timeout: impl Into<Time>) -> Result<()> {
        self.running.end_input(self.connection, timeout)
    }

    /// Copies between descriptors and the command until its end: [`Running::copy`].
    pub fn copy(
        &mut self,
        stdin: Option<BorrowedFd<'_>>,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
        timeout: impl Into<Time>,
    ) -> Result<()> {
        self.running.copy(self.connection, stdin, [stdout, stderr], timeout)
    }

    /// Drops the unread output, and waits for the end: [`Running::finish`].
    pub fn finish(&mut self, timeout: impl Into<Time>) -> Result<&ExecReply> {
        self.running.finish(self.connection, timeout)
    }

    /// The result of the command: [`Running::reply`].
    pub fn reply(&self) -> Option<&ExecReply> {
        self.running.reply()
    }

    /// The events to poll the descriptors for: [`Running::events`].
    pub fn events(&self) -> PollFlags {
        self.running.events(self.connection)
    }

    /// The handle to send signals and sizes, from any thread and from signal handlers.
    pub fn handle(&self) -> Handle {
        self.connection.handle()
    }
}

impl Drop for RemoteCommand<'_, '_> {
    fn drop(&mut self) {
        self.running.abandon(self.connection);
    }
}
