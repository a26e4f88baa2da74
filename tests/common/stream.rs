//! Both ends of a streamed command: a client of ours or as raw as can be, and a server.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use framefd::io::process::terminal::WindowSize;
use framefd::ops::exec::{Request, Running, ServeOptions, Served, Stream};
use framefd::ops::frame::{self, Frame};
use framefd::wire::json::header::Header;
use framefd::wire::message::exec::{ExecReply, ExecRequest, is_late_input};
use framefd::{Duplex, Result};
use rustix::event::PollFlags;
use serde_json::Value;

use super::channel::Channel;
use super::exec::{LONG, exact, serve, within};
use super::peer;
use super::run::limits;
use super::sealing::{self, Link};

/// No command outlives a test by long, even if it fails.
pub fn limited() -> ServeOptions<'static> {
    ServeOptions { limits: limits(), ..ServeOptions::default() }
}

/// Two descriptors for each end: those of a client, and those of a server.
pub fn duplexes<'a>(there: &'a Channel, back: &'a Channel) -> (Duplex<'a>, Duplex<'a>) {
    (
        Duplex { reader: back.reader.as_fd(), writer: there.writer.as_fd() },
        Duplex { reader: there.reader.as_fd(), writer: back.writer.as_fd() },
    )
}

/// Serves one request while `client` is at the other end.
pub fn serving<T: Send>(
    server: Duplex<'_>,
    options: &ServeOptions<'_>,
    client: impl FnOnce() -> T + Send,
) -> (Result<Served>, T) {
    thread::scope(|scope| {
        let client = scope.spawn(client);
        let outcome = serve(server, options);
        (outcome, client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A request for shell code.
pub fn shell(command: &str) -> Request<'_> {
    Request { command: command.as_bytes(), ..Request::default() }
}

/// The same with options.
pub fn shell_with(command: &str, options: ExecRequest) -> Request<'_> {
    Request { options, ..shell(command) }
}

/// A streamed command, and a connection of its own on which it runs.
#[derive(Debug)]
pub struct Remote<'fd> {
    pub connection: Link<'fd>,
    pub running: Running,
}

impl<'fd> Remote<'fd> {
    /// Nothing is read beyond its reply.
    pub fn start(client: Duplex<'fd>, request: &Request<'_>) -> Result<Remote<'fd>> {
        let mut connection = sealing::as_client(client, exact);
        let running = Running::start(&mut connection, request, LONG)?;
        Ok(Remote { connection, running })
    }

    pub fn read(
        &mut self,
        buf: &mut [u8],
        timeout: Option<Duration>,
    ) -> Result<Option<(Stream, usize)>> {
        self.running.read(&mut self.connection, buf, timeout)
    }

    pub fn write(&mut self, bytes: &[u8], timeout: Option<Duration>) -> Result<usize> {
        self.running.write(&mut self.connection, bytes, timeout)
    }

    pub fn end_input(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.running.end_input(&mut self.connection, timeout)
    }

    pub fn copy(
        &mut self,
        stdin: Option<BorrowedFd<'_>>,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.running.copy(&mut self.connection, stdin, [stdout, stderr], timeout)
    }

    pub fn reply(&self) -> Option<&ExecReply> {
        self.running.reply()
    }

    pub fn events(&self) -> PollFlags {
        self.running.events(&self.connection)
    }

    pub fn signal(&self, number: i32) {
        self.connection.handle().signal(number).unwrap();
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        self.connection.handle().resize(WindowSize { rows, columns }).unwrap();
    }
}

pub fn start<'fd>(client: Duplex<'fd>, request: &Request<'_>) -> Remote<'fd> {
    Remote::start(client, request).unwrap()
}

/// Reads until there is so much of standard output that it ends in `text`.
pub fn read_until(remote: &mut Remote<'_>, text: &str) {
    let mut stdout = Vec::new();
    let mut buf = [0; 1000];
    while !stdout.ends_with(text.as_bytes()) {
        let (stream, got) = remote.read(&mut buf, Some(LONG)).unwrap().expect("it goes on");
        assert_eq!(stream, Stream::Stdout, "{}", String::from_utf8_lossy(&buf[..got]));
        stdout.extend_from_slice(&buf[..got]);
    }
}

/// Reads to the end: both outputs.
pub fn read_all(remote: &mut Remote<'_>) -> Result<[Vec<u8>; 2]> {
    let mut outputs = [Vec::new(), Vec::new()];
    let mut buf = vec![0; 70_000];
    while let Some((stream, got)) = remote.read(&mut buf, Some(LONG))? {
        outputs[stream as usize].extend_from_slice(&buf[..got]);
    }
    Ok(outputs)
}

/// Both outputs as text, and the reply.
pub fn finish(remote: &mut Remote<'_>) -> (String, String, ExecReply) {
    let [stdout, stderr] = read_all(remote).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
    (stdout, stderr, remote.reply().unwrap().clone())
}

/// Sends a frame as a client that knows nothing but frames does.
pub fn send(client: Duplex<'_>, header: &Value, body: &[u8]) {
    frame::send(client.writer, Some(&header.to_string()), body, &within(LONG)).unwrap();
}

/// The next frame that comes.
pub fn recv(client: Duplex<'_>) -> Frame {
    frame::recv(client.reader, &within(LONG)).unwrap()
}

/// Its header, for comparison.
pub fn json_of(frame: &Frame) -> Value {
    serde_json::from_str(frame.header.text()).unwrap()
}

/// Drops a frame that a client sent to a command that had ended. False if it has closed instead.
pub fn drop_late_input(server: &impl AsFd) -> bool {
    let Some(mut late) = peer::next(server) else { return false };
    let header = Header::parse(late.text.clone().into_bytes(), 32).unwrap();
    assert!(is_late_input(&header), "{}", late.text);
    late.skip();
    true
}
