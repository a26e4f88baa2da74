//! The handshake on raw descriptors.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::io::wait::{Interrupt, wait};
use crate::limits;
use crate::ops::Duplex;
use crate::ops::auth::keyring::Keyring;
use crate::wire::auth::{ANSWER_SIZE, CHALLENGE_SIZE, Challenge, Key, KeyId, answer};

/// How a handshake is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// For the whole handshake, at most one minute.
    pub timeout: Duration,
    /// Ends the handshake early.
    pub interrupt: Option<Arc<Interrupt>>,
}

impl From<Duration> for Options {
    fn from(timeout: Duration) -> Options {
        Options { timeout, interrupt: None }
    }
}

/// Asks the peer to prove that it holds one of `keys`, and returns which. On [`ErrorKind::Auth`]
/// the caller closes the connection.
///
/// Nothing else is proved: the server is not authenticated, later bytes are not protected, and a
/// man in the middle can relay the handshake.
pub fn server(duplex: Duplex<'_>, keys: &[&Key], options: impl Into<Options>) -> Result<usize> {
    if keys.is_empty() {
        return Err(Error::new(ErrorKind::Key, "no key was given"));
    }
    let (challenge, answer) = challenge(duplex, &options.into())?;
    challenge.verify(keys, &answer)
}

/// As [`server`] with the keys that `ring` holds when the answer is received. It tries all of
/// them, with one HMAC for each.
pub fn server_ring(
    duplex: Duplex<'_>,
    ring: &Keyring,
    options: impl Into<Options>,
) -> Result<KeyId> {
    if ring.is_empty() {
        return Err(Error::new(ErrorKind::Key, "the key ring is empty"));
    }
    let (challenge, answer) = challenge(duplex, &options.into())?;
    ring.verify(challenge, &answer)
}

/// Sends a new challenge and receives the answer.
fn challenge(duplex: Duplex<'_>, options: &Options) -> Result<(Challenge, [u8; ANSWER_SIZE])> {
    let deadline = handshake_deadline(options.timeout);
    let challenge = Challenge::new()?;
    send(duplex.writer, challenge.as_bytes(), deadline, options)?;
    Ok((challenge, receive(duplex.reader, deadline, options)?))
}

/// Answers the peer's challenge with `key`. The server sends no result: after a wrong key the
/// next receive finds the connection closed.
pub fn client(duplex: Duplex<'_>, key: &Key, options: impl Into<Options>) -> Result<()> {
    let options = options.into();
    let deadline = handshake_deadline(options.timeout);
    let challenge = receive::<CHALLENGE_SIZE>(duplex.reader, deadline, &options);
    let challenge = challenge.map_err(no_challenge)?;
    send(duplex.writer, &answer(key, &challenge), deadline, &options)
}

/// Why there was no challenge: a server that asks for no key waits for a request.
pub(super) fn no_challenge(error: Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::new(error.kind(), "does the server ask for a key?"),
        _ => error,
    }
}

fn send(fd: BorrowedFd<'_>, bytes: &[u8], deadline: Deadline, options: &Options) -> Result<()> {
    let mut sink = Sink::new(fd, deadline);
    sink.set_interrupt(options.interrupt.clone());
    sink.write_all(bytes)
}

/// Receives the next message. It waits before the first read, because the peer cannot have
/// answered yet.
fn receive<const SIZE: usize>(
    fd: BorrowedFd<'_>,
    deadline: Deadline,
    options: &Options,
) -> Result<[u8; SIZE]> {
    let interrupt = options.interrupt.as_deref();
    wait(fd, PollFlags::IN, deadline, interrupt).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => Error::new(ErrorKind::TimedOut, "nothing was received"),
        _ => error,
    })?;
    let mut bytes = [0; SIZE];
    let mut source = Source::new(fd, deadline);
    source.set_interrupt(options.interrupt.clone());
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A silent peer is given up after this time, however long the caller's timeout is.
pub(super) fn handshake_deadline(timeout: Duration) -> Deadline {
    Deadline::after(timeout.min(limits::AUTH_TIMEOUT_HARD))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::io::Errno;

    use super::*;
    use crate::io::testing;

    #[test]
    fn without_random_numbers_nothing_is_sent() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let key = Key::new(&[7; 32]).unwrap();
        // Without the system call and without the file that would stand in for it.
        let calls = [(libc::SYS_getrandom, Errno::IO), (libc::SYS_openat, Errno::IO)];
        testing::failing(&calls, || {
            let error = server(ours.as_fd().into(), &[&key], Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Key);
            assert_eq!(Key::generate().unwrap_err().kind(), ErrorKind::Key);
        });
        assert_eq!(rustix::io::ioctl_fionread(&theirs), Ok(0));
    }

    #[test]
    fn no_handshake_takes_longer_than_the_hard_limit() {
        for timeout in [Duration::MAX, Duration::from_secs(61)] {
            let left = handshake_deadline(timeout).remaining().unwrap();
            assert!((59..=60).contains(&left.as_secs()), "{left:?}");
        }
        assert!(handshake_deadline(Duration::ZERO).passed());
    }
}
