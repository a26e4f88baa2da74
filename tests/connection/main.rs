//! The promises of a connection, each with its test.

mod auth;
mod bodies;
#[path = "../common/channel.rs"]
#[allow(dead_code)]
mod channel;
mod exchanges;
mod floods;
mod handed_on;
mod interrupts;
mod lifecycle;
mod messages;
mod random;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use framefd::ops::frame::{Connection, ConnectionOptions};

/// Long enough for anything, short enough for a broken test to end.
const LONG: Duration = Duration::from_secs(20);
/// What is not waited for.
const NO_TIME: Duration = Duration::ZERO;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn connection(fd: &UnixStream) -> Connection<'_> {
    Connection::new(fd.as_fd(), ConnectionOptions::default()).unwrap()
}

fn exact(fd: &UnixStream) -> Connection<'_> {
    let options = ConnectionOptions { exact: true, ..ConnectionOptions::default() };
    Connection::new(fd.as_fd(), options).unwrap()
}

/// How many random cases a property gets: `usual`, unless PROPTEST_CASES says otherwise.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").map_or(usual, |cases| cases.parse().unwrap())
}

/// A frame as an old program writes it.
fn frame(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The frame of a message with the number `n` and a body of `len` bytes.
fn numbered(n: usize, len: usize) -> Vec<u8> {
    frame(
        &format!(r#"{{"data_size":{len},"n":{n}}}"#),
        &vec![b'a' + u8::try_from(n % 26).unwrap(); len],
    )
}

/// Bytes that wait in a socket.
fn unread(fd: &UnixStream) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap()
}

/// Fills what the kernel holds for the peer of `fd`; returns how many bytes that were.
fn fill(fd: &UnixStream) -> usize {
    fd.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(more) = (&*fd).write(&[0; 4096]) {
        sent += more;
    }
    fd.set_nonblocking(false).unwrap();
    sent
}
