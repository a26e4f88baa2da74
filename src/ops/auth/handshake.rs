//! The authentication handshake over descriptors, and keys in files.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::io::wait::wait;
use crate::limits;
use crate::ops::Duplex;
use crate::ops::auth::keyring::Keyring;
use crate::wire::auth::{ANSWER_SIZE, CHALLENGE_SIZE, Challenge, Key, KeyId, answer};

/// Proves to this side that the other one holds one of `keys`, and says which. On
/// [`ErrorKind::Auth`] the caller closes the connection.
///
/// It proves that and no more: the server is not authenticated, later bytes are not
/// protected, and whoever sits in between can relay it.
pub fn server(duplex: Duplex<'_>, keys: &[&Key], timeout: Duration) -> Result<usize> {
    if keys.is_empty() {
        return Err(Error::new(ErrorKind::Key, "no key was given"));
    }
    let (challenge, answer) = challenge(duplex, timeout)?;
    challenge.verify(keys, &answer)
}

/// As [`server`] with the keys that `ring` holds when the answer has come. It tries all of
/// them, and takes one HMAC for each.
pub fn server_ring(duplex: Duplex<'_>, ring: &Keyring, timeout: Duration) -> Result<KeyId> {
    if ring.is_empty() {
        return Err(Error::new(ErrorKind::Key, "the key ring is empty"));
    }
    let (challenge, answer) = challenge(duplex, timeout)?;
    ring.verify(challenge, &answer)
}

/// Sends a new challenge and receives the answer.
fn challenge(duplex: Duplex<'_>, timeout: Duration) -> Result<(Challenge, [u8; ANSWER_SIZE])> {
    let deadline = handshake_deadline(timeout);
    let challenge = Challenge::new()?;
    Sink::new(duplex.writer, deadline).write_all(challenge.as_bytes())?;
    Ok((challenge, receive(duplex.reader, deadline)?))
}

/// Answers the other side's challenge with `key`. The wire has no verdict: a wrong key
/// shows as a closed connection at the next receive.
pub fn client(duplex: Duplex<'_>, key: &Key, timeout: Duration) -> Result<()> {
    let deadline = handshake_deadline(timeout);
    let challenge = receive::<CHALLENGE_SIZE>(duplex.reader, deadline)?;
    Sink::new(duplex.writer, deadline).write_all(&answer(key, &challenge))
}

/// Receives the next message. The peer has only just got its turn, so that a read
/// before the wait would find nothing.
fn receive<const SIZE: usize>(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<[u8; SIZE]> {
    wait(fd, PollFlags::IN, deadline, None).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => Error::new(ErrorKind::TimedOut, "nothing was received"),
        _ => error,
    })?;
    let mut bytes = [0; SIZE];
    Source::new(fd, deadline).read_exact(&mut bytes)?;
    Ok(bytes)
}

/// However long the caller would wait, a peer that says nothing is not waited for.
fn handshake_deadline(timeout: Duration) -> Deadline {
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
