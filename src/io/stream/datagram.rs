//! Datagrams: each is sent and received whole, under one deadline.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendFlags, SocketAddr,
    SocketAddrAny, SocketType, sockopt,
};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::wait::{Interrupt, poll, wait};

/// The sender or receiver of a datagram.
pub type Address = SocketAddrAny;

/// The address whose `struct sockaddr` has these bytes.
pub fn address(bytes: &[u8]) -> Result<Address> {
    let invalid = || Error::new(ErrorKind::Argument, "that is not a socket address");
    let family = bytes.first_chunk().ok_or_else(invalid)?;
    let least = match AddressFamily::from_raw(u16::from_ne_bytes(*family)) {
        AddressFamily::INET => size_of::<libc::sockaddr_in>(),
        AddressFamily::INET6 => size_of::<libc::sockaddr_in6>(),
        _ => size_of::<libc::sa_family_t>(),
    };
    if !(least..=size_of::<libc::sockaddr_storage>()).contains(&bytes.len()) {
        return Err(invalid());
    }
    let len = u32::try_from(bytes.len()).map_err(|_| invalid())?;
    // SAFETY: `len` initialised bytes, no more than the storage has, and as many as the
    // families that are ever decoded need.
    Ok(unsafe { SocketAddrAny::read(bytes.as_ptr().cast(), len) })
}

/// Sends one datagram: to `to`, or to the connected address. [`ErrorKind::TooBig`] if the
/// network cannot carry its size.
///
/// It waits for a full queue until the deadline. The failure of an earlier datagram may be
/// reported here (udp(7): ECONNREFUSED); this one is then not sent.
pub fn send(
    fd: BorrowedFd<'_>,
    to: Option<&Address>,
    datagram: &[u8],
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<()> {
    check_type(fd)?;
    let mut flags = SendFlags::NOSIGNAL;
    flags.set(SendFlags::DONTWAIT, !deadline.is_never() || interrupt.is_some());
    loop {
        let sent = match to {
            Some(to) => rustix::net::sendto(fd, datagram, flags, to),
            None => rustix::net::send(fd, datagram, flags),
        };
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                wait(fd, PollFlags::OUT, deadline, interrupt)?;
                pause("the queue is full", deadline, interrupt)?;
            }
            Err(errno @ Errno::NOBUFS) => {
                pause("", deadline, interrupt).map_err(|error| match error.kind() {
                    ErrorKind::TimedOut => Error::system("send", errno),
                    _ => error,
                })?;
            }
            Err(errno @ Errno::MSGSIZE) => {
                return Err(Error::system_as(ErrorKind::TooBig, "send", errno));
            }
            Err(errno) => return Err(Error::system("send", errno)),
        }
    }
}

/// Receives one datagram into `buffer`, and returns its sender; a Unix socket without a name has
/// no address. A datagram larger than `buffer` is lost, and is [`ErrorKind::Limit`].
///
/// The failure of an earlier datagram may be reported here (udp(7): ECONNREFUSED); the next call
/// receives again.
pub fn recv<'a>(
    fd: BorrowedFd<'_>,
    buffer: &'a mut [u8],
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<(&'a [u8], Option<Address>)> {
    check_type(fd)?;
    let mut flags = RecvFlags::TRUNC; // the length is then the datagram's own
    flags.set(RecvFlags::DONTWAIT, !deadline.is_never() || interrupt.is_some());
    let limit = buffer.len();
    let mut was_ready = false;
    let message = loop {
        let mut slices = [IoSliceMut::new(buffer)];
        let mut no_control = RecvAncillaryBuffer::default();
        match rustix::net::recvmsg(fd, &mut slices, &mut no_control, flags) {
            Ok(message) => break message,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if was_ready => {
                // Another thread has it; or what is ready is only the host's error queue
                // (IP_RECVERR), which stays ready.
                pause("", deadline, interrupt)?;
                was_ready = false;
            }
            Err(Errno::AGAIN) => {
                wait(fd, PollFlags::IN, deadline, interrupt)?;
                was_ready = true;
            }
            Err(errno) => return Err(Error::system("recv", errno)),
        }
    };
    if message.flags.contains(ReturnFlags::TRUNC) || message.bytes > limit {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("a datagram of {} bytes was cut, the limit is {limit}", message.bytes),
        ));
    }
    Ok((&buffer[..message.bytes], message.address))
}

/// Whether a datagram that `fd` received from `source` was sent on this machine: from a
/// loopback address (127.0.0.0/8, ::1, also as an IPv6 address that stands for an IPv4
/// one), or through a Unix socket.
///
/// Linux drops packets from outside that claim such an address, unless route_localnet
/// is set.
pub fn is_local(fd: BorrowedFd<'_>, source: Option<&Address>) -> bool {
    let Some(source) = source else {
        return sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX);
    };
    match source.address_family() {
        AddressFamily::UNIX => true,
        _ => SocketAddr::try_from(source.clone())
            .is_ok_and(|address| address.ip().to_canonical().is_loopback()),
    }
}

/// On a stream MSG_TRUNC would drop bytes, and nothing would separate frames.
fn check_type(fd: BorrowedFd<'_>) -> Result<()> {
    let kind = sockopt::socket_type(fd).map_err(|errno| Error::system("getsockopt", errno))?;
    if kind != SocketType::DGRAM {
        return Err(Error::new(ErrorKind::BadDescriptor, "it is not a datagram socket"));
    }
    Ok(())
}

/// Waits a little where poll(2) does not report what is waited for: the room in a network
/// device's queue, or in that of a Unix socket this one is not connected to.
fn pause(missing: &'static str, deadline: Deadline, interrupt: Option<&Interrupt>) -> Result<()> {
    if deadline.passed() {
        return Err(Error::new(ErrorKind::TimedOut, missing));
    }
    poll(&mut [], deadline.min(Deadline::after(PAUSE)), interrupt).map(|_| ())
}

/// Short compared with any deadline, long compared with a system call.
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::io::testing;
    use crate::limits;

    const SOON: Duration = Duration::from_millis(20);

    fn soon() -> Deadline {
        Deadline::after(SOON)
    }

    fn udp_pair() -> (UdpSocket, UdpSocket) {
        let (one, other) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        one.connect(other.local_addr().unwrap()).unwrap();
        (one, other)
    }

    fn address_of(socket: &UdpSocket) -> Address {
        rustix::net::getsockname(socket).unwrap()
    }

    #[test]
    fn a_datagram_comes_whole_and_with_its_source() {
        let (one, other) = udp_pair();
        let mut buffer = [0; 100];
        for deadline in [Deadline::NEVER, Deadline::after(Duration::from_secs(10))] {
            send(one.as_fd(), None, b"first", deadline, None).unwrap();
            send(one.as_fd(), None, b"", deadline, None).unwrap();
            for expected in [&b"first"[..], b""] {
                let (datagram, source) = recv(other.as_fd(), &mut buffer, deadline, None).unwrap();
                assert_eq!((datagram, source), (expected, Some(address_of(&one))));
            }
        }
        send(other.as_fd(), Some(&address_of(&one)), b"back", soon(), None).unwrap();
        assert_eq!(recv(one.as_fd(), &mut buffer, soon(), None).unwrap().0, b"back");
    }

    #[test]
    fn nothing_is_a_timeout() {
        let (one, _other) = udp_pair();
        for deadline in [Deadline::after(Duration::ZERO), soon()] {
            let error = recv(one.as_fd(), &mut [0; 100], deadline, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
    }

    #[test]
    fn a_cut_datagram_is_named_and_gone() {
        let (one, other) = udp_pair();
        let mut buffer = [0; 10];
        for len in [10, 11, 9] {
            send(one.as_fd(), None, &vec![b'x'; len], soon(), None).unwrap();
        }
        assert_eq!(recv(other.as_fd(), &mut buffer, soon(), None).unwrap().0, b"xxxxxxxxxx");
        let error = recv(other.as_fd(), &mut buffer, soon(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.detail().contains("11 bytes") && error.detail().contains("10"), "{error}");
        assert_eq!(recv(other.as_fd(), &mut buffer, soon(), None).unwrap().0, b"xxxxxxxxx");
    }

    #[test]
    fn the_largest_datagram_goes_and_one_byte_more_does_not() {
        let (one, other) = udp_pair();
        let mut buffer = vec![0; limits::DATAGRAM_HARD];
        send(one.as_fd(), None, &vec![7; limits::DATAGRAM_HARD], soon(), None).unwrap();
        let len = recv(other.as_fd(), &mut buffer, soon(), None).unwrap().0.len();
        assert_eq!(len, limits::DATAGRAM_HARD);
        let error = send(one.as_fd(), None, &vec![7; limits::DATAGRAM_HARD + 1], soon(), None);
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::TooBig, libc::EMSGSIZE));
    }

    #[test]
    fn a_closed_port_is_reported() {
        let (one, other) = udp_pair();
        drop(other);
        send(one.as_fd(), None, b"x", soon(), None).unwrap();
        let error = recv(one.as_fd(), &mut [0; 100], soon(), None).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::ECONNREFUSED));
        let error = recv(one.as_fd(), &mut [0; 100], soon(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "it is reported once");
    }

    #[test]
    fn a_full_queue_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let to = rustix::net::getsockname(&receiver).unwrap();
        let mut sent = 0;
        let error = loop {
            match send(sender.as_fd(), Some(&to), b"x", soon(), None) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                send(
                    sender.as_fd(),
                    Some(&to),
                    b"last",
                    Deadline::after(Duration::from_secs(60)),
                    None,
                )
            });
            for _ in 0..=sent {
                recv(receiver.as_fd(), &mut [0; 10], Deadline::NEVER, None).unwrap();
            }
            sending.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_full_device_is_waited_for_until_the_deadline() {
        let (one, _other) = udp_pair();
        let error = testing::failing(&[(libc::SYS_sendto, Errno::NOBUFS)], || {
            send(one.as_fd(), None, b"x", soon(), None).unwrap_err()
        });
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::ENOBUFS));
    }

    /// A socket whose error queue has an entry, as of a host that has set IP_RECVERR.
    fn with_an_error_queue() -> UdpSocket {
        let (one, other) = udp_pair();
        let on: libc::c_int = 1;
        let len = u32::try_from(size_of_val(&on)).unwrap();
        // SAFETY: an int, and its length.
        let set = unsafe {
            let value = (&raw const on).cast();
            libc::setsockopt(one.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, value, len)
        };
        assert_eq!(set, 0);
        drop(other);
        send(one.as_fd(), None, b"x", soon(), None).unwrap();
        let error = recv(one.as_fd(), &mut [0; 100], soon(), None).unwrap_err();
        assert_eq!(error.errno(), libc::ECONNREFUSED);
        one
    }

    #[test]
    fn an_error_queue_is_not_taken_for_a_datagram() {
        let one = with_an_error_queue();
        let deadline = soon();
        let error = recv(one.as_fd(), &mut [0; 100], deadline, None).unwrap_err();
        assert_eq!((error.kind(), deadline.passed()), (ErrorKind::TimedOut, true));
        // Nor does it hide one.
        let other = UdpSocket::bind(one.peer_addr().unwrap()).unwrap();
        other.send_to(b"here", one.local_addr().unwrap()).unwrap();
        let later = Deadline::after(Duration::from_secs(60));
        assert_eq!(recv(one.as_fd(), &mut [0; 100], later, None).unwrap().0, b"here");
        // A full queue beside it.
        let error = testing::failing(&[(libc::SYS_sendto, Errno::AGAIN)], || {
            send(one.as_fd(), None, b"x", soon(), None).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn only_datagram_sockets_will_do() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        for fd in [OwnedFd::from(stream), OwnedFd::from(pipe)] {
            let error = recv(fd.as_fd(), &mut [0; 10], soon(), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadDescriptor);
            let error = send(fd.as_fd(), None, b"x", soon(), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadDescriptor);
        }
    }

    #[test]
    fn what_is_on_this_machine_is_local() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = |text: &str| {
            let address: SocketAddr = text.parse().unwrap();
            is_local(udp.as_fd(), Some(&address.into()))
        };
        for text in ["127.0.0.1:5", "127.255.0.9:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert!(local(text), "{text}");
        }
        for text in ["10.0.0.1:5", "128.0.0.1:5", "0.0.0.0:5", "[::]:5", "[::ffff:10.0.0.1]:5"] {
            assert!(!local(text), "{text}");
        }
        assert!(!is_local(udp.as_fd(), None));
        let (unix, _other) = UnixDatagram::pair().unwrap();
        assert!(is_local(unix.as_fd(), None));
    }

    #[test]
    fn an_address_is_its_bytes() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let known = address_of(&udp);
        // SAFETY: as many bytes as the address says.
        let bytes = unsafe {
            std::slice::from_raw_parts(known.as_ptr().cast::<u8>(), known.addr_len() as usize)
        };
        assert_eq!(address(bytes).unwrap(), known);
        for bad in [&[][..], &bytes[..1], &bytes[..15], &[0; 129]] {
            assert_eq!(address(bad).unwrap_err().kind(), ErrorKind::Argument);
        }
    }
}
