//! Connecting to an address, or to each address of a name in turn, under one deadline.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, sockopt};

use super::socket::{naming, refused, socket_for, wait};
use super::text::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::wait::Interrupt;

/// Connects to `address` and returns a stream socket that blocks and is closed on exec.
///
/// If a name has several addresses, they are tried in the order of the lookup, each with an
/// equal share of the remaining time. The error is that of the first, with all of them in its
/// details, or [`ErrorKind::TimedOut`] once the deadline has passed. A system error keeps its
/// errno. `interrupt` ends every wait, but not the lookup of a name.
pub fn connect(
    address: impl AsRef<[u8]>,
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<OwnedFd> {
    let address = Address::parse(address.as_ref())?;
    if let Address::Name { port: 0, .. } = address {
        return Err(port_0());
    }
    if let Address::Ip(ip) = &address
        && ip.port() == 0
    {
        return Err(port_0());
    }
    connect_to_any(&address.resolve()?, deadline, interrupt)
}

fn port_0() -> Error {
    Error::new(ErrorKind::Argument, "the address: port 0 is only for listening")
}

fn connect_to_any(
    addresses: &[SocketAddrAny],
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<OwnedFd> {
    let mut failed: Option<Error> = None;
    for (index, address) in addresses.iter().enumerate() {
        let error = match connect_to(address, share(deadline, addresses.len() - index), interrupt) {
            Ok(socket) => return Ok(socket),
            Err(error) => naming(address, "connect to")(error),
        };
        // The host ended the call, not this try.
        if matches!(error.kind(), ErrorKind::Canceled | ErrorKind::Aborted) {
            return Err(error);
        }
        let timed_out = error.kind() == ErrorKind::TimedOut && deadline.passed();
        failed = Some(match failed {
            None => error,
            Some(first) if timed_out => error.and(&first),
            Some(first) => first.and(&error),
        });
        if timed_out {
            break;
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "the name has no address")))
}

/// The remaining time divided by `count`.
fn share(deadline: Deadline, count: usize) -> Deadline {
    match deadline.remaining() {
        Some(left) if count > 1 => Deadline::after(left / u32::try_from(count).unwrap_or(u32::MAX)),
        _ => deadline,
    }
}

fn connect_to(
    address: &SocketAddrAny,
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<OwnedFd> {
    let socket = socket_for(address)?;
    let mut pause = FIRST_PAUSE;
    loop {
        match rustix::net::connect(&socket, address) {
            Ok(()) => break,
            // Only for a Unix socket: the queue of the listener is full, and poll(2) does not
            // report when that ends.
            Err(Errno::AGAIN) if is_unix(address) => {
                if deadline.passed() {
                    return Err(Error::new(ErrorKind::TimedOut, "the listener's queue is full"));
                }
                wait(&mut [], deadline.min(Deadline::after(pause)), interrupt)?;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(Errno::INPROGRESS | Errno::INTR) => {
                finish(socket.as_fd(), deadline, interrupt)?;
                break;
            }
            Err(errno) => return Err(refused("connect", errno)),
        }
    }
    if is_its_own_peer(socket.as_fd()) {
        return Err(Error::system("connect", Errno::CONNREFUSED));
    }
    rustix::io::ioctl_fionbio(&socket, false).map_err(|errno| Error::system("ioctl", errno))?;
    Ok(socket)
}

/// Waits for the result of a connection attempt.
fn finish(socket: BorrowedFd<'_>, deadline: Deadline, interrupt: Option<&Interrupt>) -> Result<()> {
    if !wait(&mut [PollFd::from_borrowed_fd(socket, PollFlags::OUT)], deadline, interrupt)? {
        return Err(Error::new(ErrorKind::TimedOut, "no answer"));
    }
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) | Err(errno) => Err(refused("connect", errno)),
    }
}

/// Whether a TCP socket has connected to itself. That happens on one machine, if nobody
/// listens on a port and the kernel picks the same one for this end.
fn is_its_own_peer(socket: BorrowedFd<'_>) -> bool {
    let internet = |address: SocketAddrAny| SocketAddr::try_from(address).ok();
    let here = rustix::net::getsockname(socket).ok().and_then(internet);
    let there = rustix::net::getpeername(socket).ok().flatten().and_then(internet);
    here.is_some() && here == there
}

fn is_unix(address: &SocketAddrAny) -> bool {
    address.address_family() == rustix::net::AddressFamily::UNIX
}

/// First pause before a full queue is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::{AddressFamily, SocketType};

    use super::*;

    fn closed_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_socket_that_is_its_own_peer_is_found_out() {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        rustix::net::bind(&socket, &any).unwrap();
        let own = rustix::net::getsockname(&socket).unwrap();
        assert!(!is_its_own_peer(socket.as_fd()));
        rustix::net::connect(&socket, &own).unwrap();
        assert!(is_its_own_peer(socket.as_fd()));
        let (unix, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!is_its_own_peer(unix.as_fd()), "two sockets without a name are two");
    }

    #[test]
    fn the_next_address_is_tried_and_all_failures_are_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, other) = (closed_port(), closed_port());
        let live = listener.local_addr().unwrap();
        let deadline = Deadline::after(Duration::from_secs(10));
        assert!(connect_to_any(&[one.into(), live.into()], deadline, None).is_ok());
        let error = connect_to_any(&[one.into(), other.into()], deadline, None).unwrap_err();
        assert_eq!(error.errno(), Errno::CONNREFUSED.raw_os_error());
        for address in [one, other] {
            assert!(error.detail().contains(&address.to_string()), "{error}");
        }
        assert_eq!(connect_to_any(&[], deadline, None).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn each_address_has_a_share_of_the_time() {
        let deadline = Deadline::after(Duration::from_secs(30));
        let left = share(deadline, 3).remaining().unwrap();
        assert!((9..=10).contains(&left.as_secs()), "{left:?}");
        assert_eq!(share(deadline, 1).remaining().unwrap().as_secs(), 29);
        assert!(share(Deadline::NEVER, 3).is_never());
    }
}
