//! Helpers of connecting, listening and accepting: lookups, sockets, errors, waiting.

use std::net::ToSocketAddrs as _;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::PollFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, socket_with,
};

use super::text::{Address, shown};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::wait::{Interrupt, poll};
use crate::wire::{escape, quote};

/// The address of a socket, or of its peer, as text for [`connect`](super::connect()) and
/// [`listen`](super::listen()).
///
/// A Unix socket without a name is `unix:`, which nobody can connect to. An IPv4 address that
/// an IPv6 socket shows as `::ffff:192.0.2.1` is `192.0.2.1`. [`ErrorKind::Unsupported`] for
/// other families, and for an abstract name with a NUL in it.
pub fn address_of(fd: BorrowedFd<'_>, of_peer: bool) -> Result<Vec<u8>> {
    let address = if of_peer {
        rustix::net::getpeername(fd).map_err(|errno| Error::system("getpeername", errno))?
    } else {
        Some(rustix::net::getsockname(fd).map_err(|errno| Error::system("getsockname", errno))?)
    };
    text_of(address)
}

/// The same for an address that is known; none is that of a Unix socket without a name.
pub fn text_of(address: Option<SocketAddrAny>) -> Result<Vec<u8>> {
    address.map_or(Ok(b"unix:".to_vec()), |address| shown(&address))
}

impl Address {
    /// The socket addresses, in the order of preference that the lookup of a name gives.
    ///
    /// Only names are looked up. The C library does that without a deadline.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddrAny>> {
        let unix = |address: rustix::io::Result<SocketAddrUnix>| {
            address.map(Into::into).map_err(|errno| Error::system("the Unix address", errno))
        };
        Ok(vec![match self {
            Address::Name { host, port } => return look_up(host, *port),
            Address::Ip(address) => SocketAddrAny::from(*address),
            Address::Path(path) => unix(SocketAddrUnix::new(path.as_slice()))?,
            Address::Abstract(name) => unix(SocketAddrUnix::new_abstract_name(name))?,
            Address::Vsock { cid, port } => vsock(*cid, *port),
        }])
    }
}

fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddrAny>> {
    let failed = |error: std::io::Error| {
        let what = format!("the lookup of {}", quote(host.as_bytes()));
        match Errno::from_io_error(&error) {
            Some(errno) => Error::system(&what, errno),
            None => Error::new(ErrorKind::NotFound, format!("{what}: {error}")),
        }
    };
    Ok((host, port).to_socket_addrs().map_err(failed)?.map(SocketAddrAny::from).collect())
}

fn vsock(cid: u32, port: u32) -> SocketAddrAny {
    // SAFETY: a struct of integers, for which zero is a value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = AddressFamily::VSOCK.as_raw();
    (address.svm_cid, address.svm_port) = (cid, port);
    // SAFETY: as many initialised bytes as the struct has: an address of the family it names.
    unsafe { SocketAddrAny::read((&raw const address).cast(), VSOCK_SIZE) }
}

/// A stream socket for `address`: non-blocking, and closed on exec.
pub(super) fn socket_for(address: &SocketAddrAny) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(address.address_family(), SocketType::STREAM, flags, None)
        .map_err(|errno| refused("socket", errno))
}

/// Adds the failed address to an error.
pub(super) fn naming(address: &SocketAddrAny, doing: &str) -> impl Fn(Error) -> Error {
    let text = shown(address).unwrap_or_default();
    let doing = format!("{doing} {}", escape(&text));
    move |error| error.context(&doing)
}

/// A failed system call on a socket, or on the file of a Unix socket.
pub(super) fn refused(what: &str, errno: Errno) -> Error {
    let kind = match errno {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
        Errno::AFNOSUPPORT => ErrorKind::Unsupported,
        _ => return Error::system(what, errno),
    };
    Error::system_as(kind, what, errno)
}

/// Every wait of this module. False: the deadline passed.
pub(super) fn wait(
    fds: &mut [PollFd<'_>],
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<bool> {
    poll(fds, deadline, interrupt).map(|ready| ready > 0)
}

/// Bytes of `struct sockaddr_vm`, whose size the kernel's interface fixes.
const VSOCK_SIZE: u32 = 16;
const _: () = assert!(size_of::<libc::sockaddr_vm>() == VSOCK_SIZE as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vsock_address_is_shown() {
        assert_eq!(shown(&vsock(3, 7000)).unwrap(), b"vsock:3:7000");
    }
}
