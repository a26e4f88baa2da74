//! The promises of a connection, each with its test.

mod auth;
mod bodies;
#[path = "../common/mod.rs"]
mod common;
mod exchanges;
mod floods;
mod handed_on;
mod interrupts;
mod lifecycle;
mod messages;
mod random;
mod sealed;
mod sealed_crowd;
mod sealed_peers;

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::channel::{fill, socket_pair as pair, tcp, unread};
use common::exec::{LONG, connect};
use common::{cases, encoded, kind};
use framefd::ops::frame::Connection;

/// What is not waited for.
const NO_TIME: Duration = Duration::ZERO;

fn connection(fd: &UnixStream) -> Connection<'_> {
    connect(fd.as_fd())
}

fn exact(fd: &UnixStream) -> Connection<'_> {
    common::exec::exact(fd.as_fd())
}

/// The frame of a message with the number `n` and a body of `len` bytes.
fn numbered(n: usize, len: usize) -> Vec<u8> {
    encoded(
        &format!(r#"{{"data_size":{len},"n":{n}}}"#),
        &vec![b'a' + u8::try_from(n % 26).unwrap(); len],
    )
}
