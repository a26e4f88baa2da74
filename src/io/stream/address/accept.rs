//! The next connection of a listening socket.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with, sockopt};

use super::socket::{refused, wait};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::process::fork::Origin;
use crate::io::wait::Interrupt;

/// The next connection, as a socket that blocks and is closed on exec.
///
/// [`ErrorKind::TimedOut`] if there was none in time. A connection that ended before it was
/// accepted is skipped. If the process has no descriptor left, the error has the errno EMFILE,
/// and the connection stays in the queue. `interrupt` ends the wait.
///
/// The socket may block or not, and keeps its flags. Any number of threads may accept from one
/// socket. If other processes or the host's own accept(2) use it too, it should not block: if
/// they take the connection between poll(2) and accept(2), this call would wait for the next one
/// beyond its deadline.
pub fn accept(
    listening: BorrowedFd<'_>,
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<OwnedFd> {
    loop {
        match accept_from(listening) {
            Ok(Some((accepted, _))) => return Ok(accepted),
            Ok(None) => check(listening)?,
            Err(error) => return check(listening).and(Err(error)),
        }
        let mut fds = [PollFd::from_borrowed_fd(listening, PollFlags::IN)];
        if deadline.passed() || !wait(&mut fds, deadline, interrupt)? {
            return Err(Error::new(ErrorKind::TimedOut, "nobody connected"));
        }
    }
}

/// A connection that has come to a listening socket, and the address of the peer: the connection no
/// longer tells it once the peer has reset it. `None`: nobody has connected.
pub fn accept_from(listening: BorrowedFd<'_>) -> Result<Option<Accepted>> {
    let flags =
        rustix::fs::fcntl_getfl(listening).map_err(|errno| Error::system("fcntl", errno))?;
    if flags.contains(OFlags::NONBLOCK) {
        try_accept(listening)
    } else {
        try_accept_blocking(listening)
    }
}

/// Whether a socket from which nothing could be accepted listens at all.
fn check(listening: BorrowedFd<'_>) -> Result<()> {
    match sockopt::socket_acceptconn(listening) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(ErrorKind::BadDescriptor, "it does not listen")),
        Err(errno) => Err(Error::system("getsockopt", errno)),
    }
}

/// A connection, and the address of its peer.
type Accepted = (OwnedFd, Option<SocketAddrAny>);

/// A connection from a socket that does not block or is ready.
fn try_accept(listening: BorrowedFd<'_>) -> Result<Option<Accepted>> {
    match acceptfrom_with(listening, SocketFlags::CLOEXEC) {
        Ok(accepted) => Ok(Some(accepted)),
        Err(
            Errno::AGAIN
            | Errno::INTR
            // Errors of that one connection: accept(2), "Error handling".
            | Errno::CONNABORTED
            | Errno::NETDOWN
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH,
        ) => Ok(None),
        Err(errno) => Err(refused("accept", errno)),
    }
}

/// The same from a socket that blocks. Linux has no MSG_DONTWAIT for accept(2), so it is called
/// only right after poll(2) has reported a connection, and by one thread at a time.
fn try_accept_blocking(listening: BorrowedFd<'_>) -> Result<Option<Accepted>> {
    let _turn = Turn::take();
    let mut fds = [PollFd::from_borrowed_fd(listening, PollFlags::IN)];
    if !wait(&mut fds, Deadline::PAST, None)? {
        return Ok(None);
    }
    try_accept(listening)
}

/// The right to accept from a socket that blocks. Held for two system calls that do not wait.
struct Turn(());

/// The process whose thread has its turn, or 0. In a child of fork(2) the parent's number here
/// is ignored, because that thread does not exist in the child.
static HOLDER: AtomicU64 = AtomicU64::new(0);

impl Turn {
    fn take() -> Turn {
        let me = Origin::here().number();
        let mut expected = 0;
        while let Err(holder) =
            HOLDER.compare_exchange(expected, me, Ordering::Acquire, Ordering::Relaxed)
        {
            expected = if holder == me { 0 } else { holder };
            std::thread::yield_now();
        }
        Turn(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HOLDER.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    use super::*;
    use crate::io::testing;

    #[test]
    fn a_connection_that_failed_is_passed_over_until_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for errno in [Errno::CONNABORTED, Errno::PROTO, Errno::HOSTUNREACH] {
            testing::failing(&[(libc::SYS_accept4, errno)], || {
                let deadline = Deadline::after(Duration::from_millis(20));
                let error = accept(listener.as_fd(), deadline, None).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
            });
        }
        accept(listener.as_fd(), Deadline::after(Duration::from_secs(10)), None).unwrap();
    }

    #[test]
    fn a_process_without_descriptors_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for (errno, kind) in [
            (Errno::MFILE, ErrorKind::Io),
            (Errno::NFILE, ErrorKind::Io),
            (Errno::NOMEM, ErrorKind::NoMemory),
            (Errno::PERM, ErrorKind::Denied),
        ] {
            testing::failing(&[(libc::SYS_accept4, errno)], || {
                let error = accept(listener.as_fd(), Deadline::NEVER, None).unwrap_err();
                assert_eq!((error.kind(), error.errno()), (kind, errno.raw_os_error()));
            });
        }
    }

    #[test]
    fn a_turn_that_another_process_left_behind_is_free() {
        HOLDER.store(u64::MAX, Ordering::Relaxed);
        drop(Turn::take());
        assert_ne!(HOLDER.load(Ordering::Relaxed), u64::MAX);
    }
}
