//! Replies that every kind of request can have.

use std::ffi::{c_char, c_int};

use crate::error::{ErrorKind, Result};
use crate::ffi::boundary::arguments::{descriptor, invalid, optional_text, strings};
use crate::ffi::boundary::outcome;
use crate::ffi::frame::{FrameHandle, FrameOptions, read};
use crate::io::deadline::Patience;
use crate::ops::frame::reply;
use crate::wire::message::{self, Id};

/// Server: sends the error reply to a request that is not served: status "error", the
/// reply code that stands for code, a message for people, and the request's id.
///
/// request is the frame that is answered, or NULL where what came was no frame: then close
/// the connection afterwards. What is left of its body in the stream stays there; see
/// frame_body_skip(). code is a FRAME_E... code, and one of -100 or below is passed on as
/// what it is. message is UTF-8; NULL is frame_strerror(code). opts may be NULL. All are
/// borrowed for the call.
///
/// Returns 0, and the codes of frame_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reply_error(
    fd: c_int,
    request: *const FrameHandle,
    code: c_int,
    message: *const c_char,
    opts: *const FrameOptions,
) -> c_int {
    outcome::code(|| {
        let kind = ErrorKind::from_code(code);
        let kind = kind.ok_or_else(|| invalid(format!("code is {code}")))?;
        // SAFETY: the pointers are what the header asks for.
        let (message, options) = unsafe { (optional_text(message, "message")?, read(opts)?) };
        // SAFETY: as above.
        let id = unsafe { id_of(request) };
        let patience = Patience::whole(options.for_frames()?.timeout);
        let message = message.unwrap_or(kind.text());
        reply::send_failure(descriptor(fd)?, kind, message, id.as_ref(), patience)
    })
}

/// Server: answers a request with the cmd "hello": the library's version, what is served,
/// and the default limits.
///
/// cmds is an array of C strings in UTF-8 that ends with NULL, such as "exec", "put" and
/// "get". request and opts are as for frame_reply_error(). Returns 0, and the codes of
/// frame_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reply_hello(
    fd: c_int,
    request: *const FrameHandle,
    cmds: *const *const c_char,
    opts: *const FrameOptions,
) -> c_int {
    outcome::code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (cmds, options) = unsafe { (strings(cmds, "cmds")?, read(opts)?) };
        let text = |cmd| std::str::from_utf8(cmd).map_err(|_| invalid("cmds is not UTF-8"));
        let cmds = cmds.into_iter().map(text).collect::<Result<Vec<_>>>()?;
        // SAFETY: as above.
        let id = unsafe { id_of(request) };
        let patience = Patience::whole(options.for_frames()?.timeout);
        reply::send_hello(descriptor(fd)?, &cmds, id.as_ref(), patience)
    })
}

/// The kind that a code stands for.
pub(in crate::ffi) fn kind_of(code: c_int) -> Option<ErrorKind> {
    ErrorKind::from_code(code)
}

/// # Safety
/// `request` is NULL or points to a live object that nobody changes meanwhile.
unsafe fn id_of(request: *const FrameHandle) -> Option<Id> {
    // SAFETY: the caller's promise.
    unsafe { request.as_ref() }.and_then(|request| request.header.as_ref().and_then(message::id_of))
}
