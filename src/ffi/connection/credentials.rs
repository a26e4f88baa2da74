//! Who is at the other end of a connection's Unix socket.

use std::ffi::c_int;

use crate::error::{Error, ErrorKind};
use crate::ffi::boundary::options::SizedStruct;
use crate::ffi::boundary::outcome::code;
use crate::ffi::boundary::parameters::{Handle, Results};
use crate::ffi::connection::FrameConnection;

/// A process at the other end of a Unix socket, as it was when it connected, began to listen, or
/// made the pair: SO_PEERCRED of unix(7).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameCredentials {
    /// sizeof(struct frame_credentials).
    pub size: u32,
    /// Its process id; 0 if it is in another pid namespace. The process may have ended since, and
    /// another one have the number.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameCredentials {}

/// Writes to *out who is at the other end of a Unix socket, on either side of it.
///
/// Returns 0, FRAME_ENOTSUP (another kind of descriptor), FRAME_EINVAL, FRAME_EBUSY.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_credentials(
    c: Handle<FrameConnection>,
    out: Results<FrameCredentials>,
) -> c_int {
    code(|| {
        out.required("out")?;
        let found = c.get("c")?.cell.any(|connection, _| Ok(connection.client().credentials()))?;
        let none = || Error::new(ErrorKind::Unsupported, "this is no Unix socket");
        let found = found.ok_or_else(none)?;
        let shown = FrameCredentials { size: 0, pid: found.pid, uid: found.uid, gid: found.gid };
        out.put(&shown, "out")
    })
}
