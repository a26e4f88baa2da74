//! Datagrams, and commands asked for in them.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::boundary::arguments::{bytes, descriptor, invalid, optional_text, out, write_optional};
use super::boundary::options::{self, SizedStruct, limit, timeout};
use super::boundary::outcome::{code, value};
use super::frame::FrameHandle;
use crate::error::Result;
use crate::io::stream::datagram::address;
use crate::limits;
use crate::ops::datagram::{self, Options};

/// How datagrams are sent and received. Initialise it with FRAME_DATAGRAM_OPTIONS_INIT; a
/// member that is 0 has its default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameDatagramOptions {
    /// sizeof(struct frame_datagram_options), set by FRAME_DATAGRAM_OPTIONS_INIT.
    pub size: u32,
    /// Milliseconds for the whole call, on the monotonic clock; the default is
    /// FRAME_NO_TIMEOUT. FRAME_DONT_WAIT fails at once where the call would wait.
    pub timeout_ms: i32,
    /// Bytes of a datagram to be sent; default 8 KiB, at most 65,507. What has to cross
    /// the Internet unfragmented is better kept to 1,200. Received are all up to 65,507.
    pub max_datagram: u32,
    /// None are defined: 0.
    pub flags: u32,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameDatagramOptions {}

/// Sends one frame as one datagram.
///
/// to is a struct sockaddr of to_len bytes; NULL and 0 send to where the socket is
/// connected. header is a JSON object in UTF-8, without the key data_size, which the
/// library adds; NULL is an empty one. body may be NULL where body_len is 0. opts may be
/// NULL.
///
/// Everything is borrowed for the call. fd is a UDP or Unix datagram socket, blocking or
/// not. Threads may send on one descriptor side by side.
///
/// Returns 0: it is on its way, and may be lost on it. Nothing was sent with any other
/// code. FRAME_ETOOBIG: the datagram is above max_datagram, or too large for the network
/// (errno EMSGSIZE). FRAME_ETIMEDOUT: no room in the queue. FRAME_EBADJSON, FRAME_EBADFIELD
/// (the header has a data_size), FRAME_EINVAL. FRAME_EBADF: not a datagram socket.
/// FRAME_EIO with errno; ECONNREFUSED tells that nobody received an earlier datagram, and
/// this one may be sent again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_datagram_send(
    fd: c_int,
    to: *const c_void,
    to_len: usize,
    header: *const c_char,
    body: *const c_void,
    body_len: usize,
    opts: *const FrameDatagramOptions,
) -> c_int {
    code(|| {
        let connected = to.is_null() && to_len == 0;
        // SAFETY: the pointers are what the header asks for.
        let (to, header, body) = unsafe {
            (
                bytes(to.cast(), to_len, "to")?,
                optional_text(header, "header")?,
                bytes(body.cast(), body_len, "body")?,
            )
        };
        let to = if connected { None } else { Some(address(to)?) };
        // SAFETY: as above.
        let options = unsafe { read(opts) }?;
        datagram::send(descriptor(fd)?, to.as_ref(), header, body, &options)
    })
}

/// Receives one datagram, which has to be one whole frame, into memory.
///
/// On success *out is the frame, which the caller frees with frame_free(); on failure it
/// is NULL. frame_source() says who sent it, which on a network anybody can forge. opts
/// may be NULL. fd is borrowed, a UDP or Unix datagram socket, blocking or not. Threads
/// may receive on one descriptor side by side.
///
/// Returns 0. Whatever is returned, the next call receives the next datagram.
/// FRAME_ETIMEDOUT: none came. FRAME_ELIMIT: it was cut, being larger than 65,507 bytes.
/// FRAME_EBADLENGTH: it is empty, or its length or data_size does not lead exactly to its
/// end. FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG (data_size is beyond 63 bits). Such a
/// datagram is gone. FRAME_EIO with errno: ECONNREFUSED tells that nobody received an
/// earlier datagram. FRAME_EBADF: not a datagram socket. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_datagram_recv(
    fd: c_int,
    out: *mut *mut FrameHandle,
    opts: *const FrameDatagramOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, options) = unsafe { (self::out(out, "out")?, read(opts)?) };
        let (frame, source) = datagram::recv(descriptor(fd)?, &options)?;
        *out = Box::into_raw(Box::new(FrameHandle::datagram(frame, source)));
        Ok(())
    })
}

/// The struct sockaddr of the sender of a received datagram, fit for frame_datagram_send().
///
/// *len, where len is not NULL, is its length. It is valid until frame_free(). NULL with
/// a length of 0 where there is none: a Unix socket without a name sent it, the frame came
/// in a stream, or it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_source(frame: *const FrameHandle, len: *mut usize) -> *const c_void {
    value(ptr::null(), || {
        // SAFETY: the pointers are what the header asks for.
        let source = unsafe { frame.as_ref() }.and_then(|frame| frame.source.as_ref());
        // SAFETY: as above.
        unsafe { write_optional(len, source.map_or(0, |source| source.addr_len() as usize)) };
        source.map_or(ptr::null(), |source| source.as_ptr().cast())
    })
}

/// Reads the caller's options; NULL is all defaults.
unsafe fn read(opts: *const FrameDatagramOptions) -> Result<Options> {
    // SAFETY: the caller's promise.
    let options = unsafe { options::read(opts, "struct frame_datagram_options") }?;
    if options.flags != 0 {
        return Err(invalid(format!("flags are {:#x}", options.flags)));
    }
    let (default, hard) = (limits::DATAGRAM_SEND as u64, limits::DATAGRAM_HARD as u64);
    let max_datagram = limit(options.max_datagram.into(), default, hard, "max_datagram")?;
    Ok(Options {
        timeout: timeout(options.timeout_ms, None)?,
        max_datagram: usize::try_from(max_datagram).unwrap_or(limits::DATAGRAM_HARD),
    })
}
