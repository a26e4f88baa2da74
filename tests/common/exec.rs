//! A server of one exec request, and a way to see when a command begins and when nothing
//! is left of it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use framefd::ops::exec::{self, Reply, Request, ServeOptions, Served};
use framefd::ops::frame::{Connection, ConnectionOptions, Ends, Options};
use framefd::wire::json::header::Header;
use framefd::{Duplex, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use tempfile::TempDir;

use super::sealing;

/// Far more than any of these exchanges takes, and far less than the `sleep`s in them.
pub const LONG: Duration = Duration::from_secs(20);

pub fn within(timeout: Duration) -> Options {
    Options { timeout: Some(timeout), ..Options::default() }
}

/// A connection that reads ahead.
pub fn connect<'fd>(ends: impl Into<Ends<'fd>>) -> Connection<'fd> {
    Connection::new(ends, ConnectionOptions::default()).unwrap()
}

/// One that reads not a byte too much, for a test that goes on with the descriptors.
pub fn exact<'fd>(ends: impl Into<Ends<'fd>>) -> Connection<'fd> {
    let options = ConnectionOptions { exact: true, ..ConnectionOptions::default() };
    Connection::new(ends, options).unwrap()
}

/// Receives one request and serves it.
pub fn serve(duplex: Duplex<'_>, options: &ServeOptions<'_>) -> Result<Served> {
    serve_next(&mut sealing::as_server(duplex, exact), options)
}

/// Receives the next request and serves it.
pub fn serve_next(connection: &mut Connection<'_>, options: &ServeOptions<'_>) -> Result<Served> {
    let header = next_header(connection)?;
    exec::serve(connection, &header, options)
}

/// The header of the next message.
pub fn next_header(connection: &mut Connection<'_>) -> Result<Header> {
    let (view, _) = connection.recv_header(LONG)?;
    Header::parse(view.header().as_bytes().to_vec(), 32)
}

/// Asks for a command, and takes the reply.
pub fn ask(client: Duplex<'_>, request: &Request<'_>) -> Result<Reply> {
    exec::call(&mut sealing::as_client(client, exact), request, LONG)
}

/// Tells when a command runs: all its processes hold a FIFO open, which is at its end when
/// the last of them is gone, be it a zombie or not.
pub struct Presence {
    directory: TempDir,
    fifo: File,
}

impl Presence {
    pub fn new() -> Presence {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        Presence { directory, fifo: fifo.into() }
    }

    /// `text` as a command whose presence is told.
    pub fn of(&self, text: &str) -> String {
        format!("exec 3>{}; echo >&3; {text}", self.directory.path().join("fifo").display())
    }

    #[track_caller]
    pub fn wait_for_begin(&self) {
        assert!(self.is(PollFlags::IN), "the command does not begin");
    }

    /// It has begun, and all of it has ended.
    #[track_caller]
    pub fn wait_for_end(&self) {
        assert!(self.is(PollFlags::HUP), "something of the command lives on");
    }

    fn is(&self, what: PollFlags) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.fifo.as_fd(), what)];
        let timeout = Timespec::try_from(LONG).unwrap();
        poll(&mut fds, Some(&timeout)).unwrap();
        fds[0].revents().contains(what)
    }
}
