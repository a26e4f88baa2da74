//! Addresses as text: "host:port", "[::1]:port", "[fe80::1%eth0]:port", "unix:/path",
//! "unix:@name", "vsock:cid:port".

use std::ffi::c_int;

use crate::ffi::boundary::options::{parameter, timeout, unused};
use crate::ffi::boundary::outcome::{code, count, small};
use crate::ffi::boundary::parameters::{Fd, Options, Out, Text, TextRoom};
use crate::ffi::connection::{FrameConnection, FrameConnectionOptions};
use crate::io::deadline::Deadline;
use crate::io::stream::address;
use crate::limits;
use crate::ops::frame::Connection;

/// Connects to an address and makes a connection, which owns the descriptor.
///
/// If a name has several addresses, they are tried in order. opts may be NULL;
/// FRAME_CONNECTION_OWN is implied. connect_timeout_ms covers all of it except the lookup of a
/// name, which the C library does without a deadline.
///
/// On success *out is the connection; on failure it is NULL. Returns 0, FRAME_ETIMEDOUT,
/// FRAME_EIO with errno (ECONNREFUSED, EHOSTUNREACH and so on), FRAME_ENOENT (no such name),
/// FRAME_EINVAL (invalid address, named in frame_last_error()), FRAME_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connect(
    address: Text,
    opts: Options<FrameConnectionOptions>,
    out: Out<FrameConnection>,
) -> c_int {
    code(|| {
        let (place, opts) = (out.get("out")?, opts.read("opts")?);
        let address = address.bytes("address")?;
        let (options, default) = opts.convert()?;
        let time = timeout(opts.connect_timeout_ms, Some(limits::CONNECT_TIMEOUT))?;
        let fd =
            address::connect(address, Deadline::from_timeout(time), opts.interrupt().as_ref())?;
        place.put(FrameConnection::new(Box::new(Connection::new(fd, options)?), default));
        Ok(())
    })
}

/// Makes a listening socket. The caller owns it; it is closed on exec.
///
/// backlog is the length of its queue; 0 is the default, 4,096. mode is that of a Unix socket's
/// file; 0 is 0600. A socket file that nobody listens on is replaced; any other file stays and
/// is an error. A TCP port can be used again at once after its last listener (SO_REUSEADDR).
///
/// Returns the descriptor, FRAME_EIO with errno (EADDRINUSE, EACCES and so on), FRAME_EEXIST,
/// FRAME_ENOENT or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_listen(address: Text, backlog: c_int, mode: u32) -> c_int {
    small(|| {
        use std::os::fd::IntoRawFd as _;
        let listening = address::listen(address.bytes("address")?, backlog, mode)?;
        Ok(listening.into_raw_fd())
    })
}

/// Accepts the next connection of a listening socket. The socket may block or not, and keeps its
/// flags.
///
/// On success *out is the connection, which owns its descriptor; on failure it is NULL. opts may
/// be NULL; FRAME_CONNECTION_OWN is implied. Any number of threads may accept from one socket.
///
/// Returns 0, FRAME_ETIMEDOUT, FRAME_EIO with errno (EMFILE: the connection stays in the queue),
/// FRAME_EBADF, FRAME_EINVAL, FRAME_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn frame_accept(
    listening_fd: Fd,
    opts: Options<FrameConnectionOptions>,
    timeout_ms: c_int,
    out: Out<FrameConnection>,
) -> c_int {
    code(|| {
        let (place, opts) = (out.get("out")?, opts.read("opts")?);
        let (options, default) = opts.convert()?;
        unused(opts.connect_timeout_ms, "connect_timeout_ms")?;
        let deadline = Deadline::from_timeout(parameter(timeout_ms, default)?);
        let fd = address::accept(listening_fd.borrow()?, deadline, opts.interrupt().as_ref())?;
        place.put(FrameConnection::new(Box::new(Connection::new(fd, options)?), default));
        Ok(())
    })
}

/// Writes the address of a socket, or of its peer, to buf as text with a NUL. Functions that
/// take an address accept this text. A Unix socket without a name is "unix:".
///
/// buf may be NULL to ask for the length only. Returns the length without the NUL, FRAME_ETOOBIG
/// (cap is too small; nothing was written), FRAME_EBADF (not a socket), FRAME_ENOTSUP (another
/// address family), FRAME_EIO with errno (ENOTCONN).
#[unsafe(no_mangle)]
pub extern "C" fn frame_address(fd: Fd, of_peer: bool, buf: TextRoom, cap: usize) -> i64 {
    count(|| {
        let text = address::address_of(fd.borrow()?, of_peer)?;
        buf.put(cap, &text, "the address")
    })
}
