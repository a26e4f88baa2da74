//! What the numbers mean: error codes, versions, defaults.

use std::ffi::{c_char, c_int};

use super::boundary::arguments::{invalid, text};
use super::boundary::outcome;
use crate::error::ErrorKind;
use crate::limits;

/// The other end closed the stream between two frames: a clean end.
pub const FRAME_ECLOSED: i32 = -1;
/// The stream ended inside a frame, a packet or a handshake.
pub const FRAME_ETRUNCATED: i32 = -2;
/// The deadline passed before a first byte came or went, or what did is in a buffer: the
/// stream is in step.
pub const FRAME_ETIMEDOUT: i32 = -3;
/// A length prefix that cannot be one: negative, zero for a header, or cut.
pub const FRAME_EBADLENGTH: i32 = -4;
/// A declared size is above the limit, or above what the format can carry.
pub const FRAME_ETOOBIG: i32 = -5;
/// The header is not one UTF-8 JSON object.
pub const FRAME_EBADJSON: i32 = -6;
/// A header field has the wrong type or value, or is given twice.
pub const FRAME_EBADFIELD: i32 = -7;
/// The header has no such field.
pub const FRAME_EMISSING: i32 = -8;
/// The other end's answer to the challenge is wrong.
pub const FRAME_EAUTH: i32 = -9;
/// The key, or the file it is in, cannot be used.
pub const FRAME_EKEY: i32 = -10;
/// The file name is not acceptable, or leads out of the root.
pub const FRAME_EPATH: i32 = -11;
/// The target exists and must not be replaced.
pub const FRAME_EEXIST: i32 = -12;
/// There is no such file.
pub const FRAME_ENOENT: i32 = -13;
/// The disk or the quota is full.
pub const FRAME_ENOSPC: i32 = -14;
/// The content does not match its checksum.
pub const FRAME_ECHECKSUM: i32 = -15;
/// The command could not be started.
pub const FRAME_ESPAWN: i32 = -16;
/// A datagram was cut, or a table of a bounded size is full.
pub const FRAME_ELIMIT: i32 = -17;
/// An argument of the call is not valid.
pub const FRAME_EINVAL: i32 = -18;
/// The descriptor is not open, or of a kind the call cannot use.
pub const FRAME_EBADF: i32 = -19;
/// Memory could not be had.
pub const FRAME_ENOMEM: i32 = -20;
/// The object is not in a state that allows this call.
pub const FRAME_ESTATE: i32 = -21;
/// The object, or the partial file of a transfer, is in use by another.
pub const FRAME_EBUSY: i32 = -22;
/// A system call failed; errno says why.
pub const FRAME_EIO: i32 = -23;
/// Refused by a policy or by permissions.
pub const FRAME_EACCES: i32 = -24;
/// The request is of a kind that is not served here.
pub const FRAME_ENOTSUP: i32 = -25;
/// A callback of the caller's asked to stop.
pub const FRAME_ECANCELED: i32 = -26;
/// A reply that does not answer the request, or contradicts itself.
pub const FRAME_EBADREPLY: i32 = -27;
/// A defect in this library: a panic was caught at the C boundary.
pub const FRAME_EPANIC: i32 = -28;
/// The deadline passed inside a message: the stream is no longer in step.
pub const FRAME_ESTALLED: i32 = -29;
/// The connection cannot be used after an earlier failure, which the detail names.
pub const FRAME_EBROKEN: i32 = -30;
/// The connection was aborted, by another thread or a signal handler.
pub const FRAME_EABORTED: i32 = -31;
/// The object belongs to the parent process: after fork(2) the child cannot use it.
pub const FRAME_EFORKED: i32 = -32;
/// Reply code `bad_request`.
pub const FRAME_EREMOTE_BAD_REQUEST: i32 = -100;
/// Reply code `unsupported`.
pub const FRAME_EREMOTE_UNSUPPORTED: i32 = -101;
/// Reply code `denied`.
pub const FRAME_EREMOTE_DENIED: i32 = -102;
/// Reply code `not_found`.
pub const FRAME_EREMOTE_NOT_FOUND: i32 = -103;
/// Reply code `exists`.
pub const FRAME_EREMOTE_EXISTS: i32 = -104;
/// Reply code `too_big`.
pub const FRAME_EREMOTE_TOO_BIG: i32 = -105;
/// Reply code `no_space`.
pub const FRAME_EREMOTE_NO_SPACE: i32 = -106;
/// Reply code `timed_out`.
pub const FRAME_EREMOTE_TIMED_OUT: i32 = -107;
/// Reply code `checksum`.
pub const FRAME_EREMOTE_CHECKSUM: i32 = -108;
/// Reply code `busy`.
pub const FRAME_EREMOTE_BUSY: i32 = -109;
/// Reply code `spawn_failed`.
pub const FRAME_EREMOTE_SPAWN_FAILED: i32 = -110;
/// Reply code `io`.
pub const FRAME_EREMOTE_IO: i32 = -111;
/// An error reply whose code this version does not know.
pub const FRAME_EREMOTE_OTHER: i32 = -199;

const _: () = {
    assert!(ErrorKind::ALL.len() == 45);
    assert!(FRAME_ECLOSED == ErrorKind::Closed.code());
    assert!(FRAME_ETRUNCATED == ErrorKind::Truncated.code());
    assert!(FRAME_ETIMEDOUT == ErrorKind::TimedOut.code());
    assert!(FRAME_EBADLENGTH == ErrorKind::BadLength.code());
    assert!(FRAME_ETOOBIG == ErrorKind::TooBig.code());
    assert!(FRAME_EBADJSON == ErrorKind::BadJson.code());
    assert!(FRAME_EBADFIELD == ErrorKind::BadField.code());
    assert!(FRAME_EMISSING == ErrorKind::Missing.code());
    assert!(FRAME_EAUTH == ErrorKind::Auth.code());
    assert!(FRAME_EKEY == ErrorKind::Key.code());
    assert!(FRAME_EPATH == ErrorKind::Path.code());
    assert!(FRAME_EEXIST == ErrorKind::Exists.code());
    assert!(FRAME_ENOENT == ErrorKind::NotFound.code());
    assert!(FRAME_ENOSPC == ErrorKind::NoSpace.code());
    assert!(FRAME_ECHECKSUM == ErrorKind::Checksum.code());
    assert!(FRAME_ESPAWN == ErrorKind::Spawn.code());
    assert!(FRAME_ELIMIT == ErrorKind::Limit.code());
    assert!(FRAME_EINVAL == ErrorKind::Argument.code());
    assert!(FRAME_EBADF == ErrorKind::BadDescriptor.code());
    assert!(FRAME_ENOMEM == ErrorKind::NoMemory.code());
    assert!(FRAME_ESTATE == ErrorKind::State.code());
    assert!(FRAME_EBUSY == ErrorKind::Busy.code());
    assert!(FRAME_EIO == ErrorKind::Io.code());
    assert!(FRAME_EACCES == ErrorKind::Denied.code());
    assert!(FRAME_ENOTSUP == ErrorKind::Unsupported.code());
    assert!(FRAME_ECANCELED == ErrorKind::Canceled.code());
    assert!(FRAME_EBADREPLY == ErrorKind::BadReply.code());
    assert!(FRAME_EPANIC == ErrorKind::Panic.code());
    assert!(FRAME_ESTALLED == ErrorKind::Stalled.code());
    assert!(FRAME_EBROKEN == ErrorKind::Broken.code());
    assert!(FRAME_EABORTED == ErrorKind::Aborted.code());
    assert!(FRAME_EFORKED == ErrorKind::Forked.code());
    assert!(FRAME_EREMOTE_BAD_REQUEST == ErrorKind::RemoteBadRequest.code());
    assert!(FRAME_EREMOTE_UNSUPPORTED == ErrorKind::RemoteUnsupported.code());
    assert!(FRAME_EREMOTE_DENIED == ErrorKind::RemoteDenied.code());
    assert!(FRAME_EREMOTE_NOT_FOUND == ErrorKind::RemoteNotFound.code());
    assert!(FRAME_EREMOTE_EXISTS == ErrorKind::RemoteExists.code());
    assert!(FRAME_EREMOTE_TOO_BIG == ErrorKind::RemoteTooBig.code());
    assert!(FRAME_EREMOTE_NO_SPACE == ErrorKind::RemoteNoSpace.code());
    assert!(FRAME_EREMOTE_TIMED_OUT == ErrorKind::RemoteTimedOut.code());
    assert!(FRAME_EREMOTE_CHECKSUM == ErrorKind::RemoteChecksum.code());
    assert!(FRAME_EREMOTE_BUSY == ErrorKind::RemoteBusy.code());
    assert!(FRAME_EREMOTE_SPAWN_FAILED == ErrorKind::RemoteSpawnFailed.code());
    assert!(FRAME_EREMOTE_IO == ErrorKind::RemoteIo.code());
    assert!(FRAME_EREMOTE_OTHER == ErrorKind::RemoteOther.code());
};

/// The version that this header belongs to.
pub const FRAME_VERSION_MAJOR: i32 = 0;
/// See FRAME_VERSION_MAJOR.
pub const FRAME_VERSION_MINOR: i32 = 1;
/// See FRAME_VERSION_MAJOR.
pub const FRAME_VERSION_PATCH: i32 = 0;
/// Changes when a program must be rebuilt; compare it with frame_abi_version().
pub const FRAME_ABI_VERSION: i32 = 0;

/// The version of the library as text, such as "0.1.0".
///
/// The text is static. May be called from any thread and from a signal handler. Cannot
/// fail. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn frame_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The number of the library's binary interface: a program loaded with another
/// FRAME_ABI_VERSION than this must not use it.
///
/// May be called from any thread and from a signal handler. Cannot fail. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn frame_abi_version() -> c_int {
    FRAME_ABI_VERSION
}

/// One line of English for a code, without a full stop.
///
/// Every int has a text; it is static. May be called from any thread and from a signal
/// handler. Cannot fail. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn frame_strerror(code: c_int) -> *const c_char {
    outcome::text(code).as_ptr()
}

/// The details of this thread's last failed call: what was expected, what came, the text
/// of the errno. For people; a program branches on the code.
///
/// The text is empty before the first failure, and stays valid and unchanged until the
/// next failing call of the same thread. Bytes of the other end are escaped in it. May
/// be called from any thread. Cannot fail. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn frame_last_error() -> *const c_char {
    outcome::last()
}

/// The default that a limit or a time of 0 stands for, by the name of its option:
/// "max_header", "max_depth", "max_body", "max_command", "max_output" (bytes, levels),
/// "auth_timeout_ms", "grace_ms", "drain_ms", "close_grace_ms", "reply_timeout_ms",
/// "stall_ms", "partial_age_ms", "max_datagram", "min_key".
///
/// Returns the value, or FRAME_EINVAL for NULL or an unknown name. May be called from
/// any thread. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_default(name: *const c_char) -> i64 {
    outcome::count(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { text(name, "name") }?;
        let (_, value) = limits::DEFAULTS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| invalid(format!("there is no default called {name:?}")))?;
        Ok(*value)
    })
}
