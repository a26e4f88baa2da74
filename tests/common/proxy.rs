//! A proxy between a client and a server that splits what passes, or cuts the connection,
//! at any byte.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use super::channel::unread;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// What the proxy does to an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each byte is delivered once the one before it was read, in both directions.
    ByteByByte,
    /// So many bytes are delivered, and read, before the rest is.
    Split(Direction, u64),
    /// After so many bytes the connection ends, both ways; the next byte is lost.
    Cut(Direction, u64),
}

/// What came of an exchange, and the bytes that were sent for it.
#[derive(Debug)]
pub struct Outcome<C, S> {
    pub client: C,
    pub server: S,
    pub to_server: Vec<u8>,
    pub to_client: Vec<u8>,
}

/// Runs an exchange through the proxy. A connection ends when its closure returns.
pub fn run<C: Send, S>(
    fault: Fault,
    client: impl FnOnce(&UnixStream) -> C + Send,
    server: impl FnOnce(&UnixStream) -> S,
) -> Outcome<C, S> {
    let (client_end, client_side) = End::pair();
    let (server_end, server_side) = End::pair();
    std::thread::scope(|scope| {
        let (client_end, server_end) = (&client_end, &server_end);
        let (client_side, server_side) = (&client_side, &server_side);
        let to_server = scope
            .spawn(move || pump(client_side, server_side, server_end, fault, Direction::ToServer));
        let to_client = scope
            .spawn(move || pump(server_side, client_side, client_end, fault, Direction::ToClient));
        let client = scope.spawn(move || client_end.run(client));
        let server = server_end.run(server);
        Outcome {
            client: client.join().unwrap(),
            server,
            to_server: to_server.join().unwrap(),
            to_client: to_client.join().unwrap(),
        }
    })
}

/// Runs an exchange whole, byte by byte, and split and cut at every byte of each
/// direction; `check` looks at what came of it. Returns the bytes to the server and to
/// the client of the whole exchange, for the caller to see that something was tested.
pub fn at_every_offset<C: Send, S>(
    client: impl Fn(&UnixStream) -> C + Sync,
    server: impl Fn(&UnixStream) -> S,
    check: impl Fn(Fault, C, S),
) -> (u64, u64) {
    let attempt = |fault| {
        let outcome = run(fault, &client, &server);
        check(fault, outcome.client, outcome.server);
        (outcome.to_server.len() as u64, outcome.to_client.len() as u64)
    };
    let (to_server, to_client) = attempt(Fault::None);
    attempt(Fault::ByteByByte);
    for (direction, length) in [(Direction::ToServer, to_server), (Direction::ToClient, to_client)]
    {
        for at in 1..length {
            attempt(Fault::Split(direction, at));
        }
        for at in 0..length {
            attempt(Fault::Cut(direction, at));
        }
    }
    (to_server, to_client)
}

/// What a closure has of a connection.
struct End {
    stream: UnixStream,
    closed: AtomicBool,
}

impl End {
    fn pair() -> (End, UnixStream) {
        let (stream, other) = UnixStream::pair().unwrap();
        (End { stream, closed: AtomicBool::new(false) }, other)
    }

    fn run<T>(&self, closure: impl FnOnce(&UnixStream) -> T) -> T {
        let _closes = Closes(self);
        closure(&self.stream)
    }

    /// Waits until what was delivered has been read.
    fn wait_until_read(&self) {
        while unread(&self.stream) > 0 && !self.closed.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}

/// Closes when the closure is done, also by a panic.
struct Closes<'a>(&'a End);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        let _ = self.0.stream.shutdown(Shutdown::Both);
    }
}

/// Carries one direction to its end; returns the bytes that came. What cannot be
/// delivered, since the receiver is gone, is dropped.
fn pump(
    mut from: &UnixStream,
    mut to: &UnixStream,
    receiver: &End,
    fault: Fault,
    direction: Direction,
) -> Vec<u8> {
    let mut passed = Vec::new();
    let mut delivering = true;
    let mut buf = vec![0; 65536];
    loop {
        let total = passed.len() as u64;
        // As many bytes as up to the fault, so that it lies between two reads.
        let limit = match fault {
            Fault::ByteByByte => 1,
            Fault::Split(of, at) | Fault::Cut(of, at) if of == direction && total < at => {
                at - total
            }
            _ => u64::MAX,
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(buf.len());
        let got = match from.read(&mut buf[..limit]) {
            Ok(0) | Err(_) => break,
            Ok(got) => got,
        };
        if fault == Fault::Cut(direction, total) {
            // In this order: the receiver may have a reply to the end that it sees.
            let _ = from.shutdown(Shutdown::Write);
            let _ = to.shutdown(Shutdown::Write);
            delivering = false;
        }
        passed.extend_from_slice(&buf[..got]);
        if delivering {
            let _ = to.write_all(&buf[..got]);
            let total = passed.len() as u64;
            if fault == Fault::ByteByByte || fault == Fault::Split(direction, total) {
                receiver.wait_until_read();
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    passed
}
