//! Both ends of a streamed command: a client of ours or as raw as can be, and a server.

use std::thread;

use framefd::ops::exec::{Limits, Stream};
use framefd::ops::exec::{RemoteCommand, Request, ServeOptions, Served};
use framefd::ops::frame::{self, Frame};
use framefd::wire::message::exec::{ExecReply, ExecRequest};
use framefd::{Duplex, Result};
use serde_json::Value;

use super::channel::Channel;
use super::exec::{LONG, serve, within};

/// No command outlives a test by long, even if it fails.
pub fn limited() -> ServeOptions<'static> {
    let limits = Limits { time: Some(LONG), ..Limits::default() };
    ServeOptions { limits, ..ServeOptions::default() }
}

/// Two descriptors for each end: those of a client, and those of a server.
pub fn duplexes<'a>(there: &'a Channel, back: &'a Channel) -> (Duplex<'a>, Duplex<'a>) {
    use std::os::fd::AsFd as _;
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
    Request { command: command.as_bytes(), timeout: Some(LONG), ..Request::default() }
}

/// The same with options.
pub fn shell_with(command: &str, options: ExecRequest) -> Request<'_> {
    Request { options, ..shell(command) }
}

pub fn start<'fd>(client: Duplex<'fd>, request: &Request<'_>) -> RemoteCommand<'fd> {
    RemoteCommand::start(client, request).unwrap()
}

/// Reads until there is so much of standard output that it ends in `text`.
pub fn read_until(remote: &mut RemoteCommand<'_>, text: &str) {
    let mut stdout = Vec::new();
    let mut buf = [0; 1000];
    while !stdout.ends_with(text.as_bytes()) {
        let (stream, got) = remote.read(&mut buf, Some(LONG)).unwrap().expect("it goes on");
        assert_eq!(stream, Stream::Stdout, "{}", String::from_utf8_lossy(&buf[..got]));
        stdout.extend_from_slice(&buf[..got]);
    }
}

/// Reads to the end: both outputs.
pub fn read_all(remote: &mut RemoteCommand<'_>) -> Result<[Vec<u8>; 2]> {
    let mut outputs = [Vec::new(), Vec::new()];
    let mut buf = vec![0; 70_000];
    while let Some((stream, got)) = remote.read(&mut buf, Some(LONG))? {
        outputs[stream as usize].extend_from_slice(&buf[..got]);
    }
    Ok(outputs)
}

/// Both outputs as text, and the reply.
pub fn finish(remote: &mut RemoteCommand<'_>) -> (String, String, ExecReply) {
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
