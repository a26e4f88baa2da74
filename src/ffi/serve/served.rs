//! A request that is over, as a server of C is told about it.

use std::ffi::{CString, c_char};
use std::ptr;

use crate::error::ErrorKind;
use crate::ffi::boundary::hook::{self, ToldFunction};
use crate::ffi::boundary::parameters::Context;
use crate::ffi::boundary::policy::{CArray, ClientText, pointer};
use crate::ffi::exec::result_of;
use crate::ops::serve::{Served, What};

/// A request that is over: it was served, refused or cut. Everything in it is valid until the
/// function returns that is told.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameServed {
    /// sizeof(struct frame_served) of this library: members beyond it do not exist.
    pub size: u32,
    /// 0; otherwise the code of the error reply, or of what has cut the request: FRAME_EABORTED
    /// (the server was stopped), FRAME_ECLOSED and FRAME_ETRUNCATED (the client has gone). A
    /// handler's own error replies do not count, only what it returns.
    pub error: i32,
    /// The id of the key that the client has proved, "" for a key without an id; NULL if the server
    /// has no keys.
    pub key_id: *const c_char,
    /// The address of the client, as of frame_address(); NULL if it has none.
    pub address: *const c_char,
    /// At a Unix socket the client's process; otherwise 0. See frame_credentials.
    pub pid: i32,
    /// The same: its user id; otherwise UINT32_MAX.
    pub uid: u32,
    /// The same: its group id; otherwise UINT32_MAX.
    pub gid: u32,
    /// Of a command that ran: EXEC_EXITED, EXEC_SIGNALED and so on; otherwise -1.
    pub outcome: i32,
    /// The same: as in exec_result; otherwise -1.
    pub exit_code: i32,
    /// The same: the signal that ended it, or 0.
    pub signal: i32,
    /// The cmd of the request; NULL if it had none.
    pub cmd: *const c_char,
    /// Its header, as JSON text.
    pub header: *const c_char,
    /// Shell code that was to run, or the name of a file, which may be one that is refused;
    /// what_len bytes and a NUL. NULL for anything else, and for a command that was refused before
    /// it was read.
    pub what: *const c_char,
    /// Bytes of what.
    pub what_len: u64,
    /// A program that was to run and its arguments, then NULL; NULL for anything else.
    pub argv: *const *const c_char,
    /// Bytes of the request behind its header that were received.
    pub bytes_in: u64,
    /// Bytes of its replies, with their headers. The last of them may not be written yet.
    pub bytes_out: u64,
    /// Milliseconds from its header to its end.
    pub time_ms: u64,
}

/// Tells the host.
pub(super) fn told(function: ToldFunction<FrameServed>, context: Context, served: &Served<'_>) {
    // Nothing that has a NUL inside can be told; it was refused, and the header has all of it.
    let text = |text: &str| CString::new(text).ok();
    let who = ClientText::of(&served.client);
    let cmd = text(served.cmd).filter(|cmd| !cmd.is_empty());
    let header = text(served.header);
    let what = match served.what {
        What::Shell(bytes) | What::File(bytes) => Some([bytes, b"\0"].concat()),
        What::Program(_) | What::Nothing => None,
    };
    let argv = match served.what {
        What::Program(argv) => CArray::new(argv.iter().cloned(), "argv").ok(),
        _ => None,
    };
    let result = served.command.map(|reply| result_of(reply, false));
    let shown = FrameServed {
        size: u32::try_from(size_of::<FrameServed>()).unwrap_or(u32::MAX),
        error: served.error.map_or(0, ErrorKind::code),
        key_id: pointer(who.key_id.as_ref()),
        address: pointer(who.address.as_ref()),
        pid: who.credentials.pid,
        uid: who.credentials.uid,
        gid: who.credentials.gid,
        outcome: result.map_or(-1, |result| result.outcome),
        exit_code: result.map_or(-1, |result| result.exit_code),
        signal: result.map_or(0, |result| result.signal),
        cmd: pointer(cmd.as_ref()),
        header: pointer(header.as_ref()),
        what: what.as_ref().map_or(ptr::null(), |what| what.as_ptr().cast()),
        what_len: what.as_ref().map_or(0, |what| what.len() as u64 - 1),
        argv: argv.as_ref().map_or(ptr::null(), CArray::as_ptr),
        bytes_in: served.bytes_in,
        bytes_out: served.bytes_out,
        time_ms: u64::try_from(served.time.as_millis()).unwrap_or(u64::MAX),
    };
    hook::tell(function, context, &shown);
}
