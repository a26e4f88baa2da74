//! Frames in datagrams.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use super::boundary::hook::hook;
use super::boundary::options::{self, SizedStruct, limit, timeout};
use super::boundary::outcome::{code, value};
use super::boundary::parameters::{Bytes, Fd, Options, Out, Ref, Text, Value};
use super::frame::FrameHandle;
use crate::error::Result;
use crate::io::stream::datagram::address;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::datagram;

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
    /// Asked before each wait and after each signal, and at least once a second while a call
    /// waits: a result other than 0 ends the call with FRAME_ECANCELED. NULL: nothing is asked.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to interrupted.
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for FrameDatagramOptions {}

/// Sends one frame as one datagram.
///
/// to is a struct sockaddr of to_len bytes; NULL and 0 send to where the socket is connected.
/// header is a JSON object in UTF-8, without the key data_size, which the library adds; NULL is
/// an empty one. body may be NULL if body_len is 0. opts may be NULL.
///
/// Everything is borrowed for the call. fd is a UDP or Unix datagram socket, blocking or not.
/// Threads may send on one descriptor at the same time.
///
/// Returns 0: it is on its way, and may be lost on it. Nothing was sent with any other code.
/// FRAME_ETOOBIG: the datagram is above max_datagram, or too large for the network (errno
/// EMSGSIZE). FRAME_ETIMEDOUT: no room in the queue. FRAME_ECANCELED, FRAME_EBADJSON,
/// FRAME_EBADFIELD (the header has a data_size), FRAME_EINVAL. FRAME_EBADF: not a datagram
/// socket. FRAME_EIO with errno; ECONNREFUSED tells that nobody received an earlier datagram,
/// and this one may be sent again.
#[unsafe(no_mangle)]
pub extern "C" fn frame_datagram_send(
    fd: Fd,
    to: Bytes,
    to_len: usize,
    header: Text,
    body: Bytes,
    body_len: usize,
    opts: Options<FrameDatagramOptions>,
) -> c_int {
    code(|| {
        let to =
            if to.is_null() && to_len == 0 { None } else { Some(address(to.get(to_len, "to")?)?) };
        let (header, body) = (header.optional("header")?, body.get(body_len, "body")?);
        let options = opts.read("struct frame_datagram_options")?.convert()?;
        datagram::send(fd.borrow()?, to.as_ref(), header, body, &options)
    })
}

/// Receives one datagram, which has to be one whole frame, into memory.
///
/// On success *out is the frame, which the caller frees with frame_free(); on failure it is
/// NULL. frame_datagram_source() says who sent it, which on a network anybody can forge. opts
/// may be NULL. fd is borrowed, a UDP or Unix datagram socket, blocking or not. Threads may
/// receive on one descriptor at the same time.
///
/// Returns 0. Whatever is returned, the next call receives the next datagram. FRAME_ETIMEDOUT,
/// FRAME_ECANCELED: none came. FRAME_ELIMIT: it was cut, being larger than 65,507 bytes.
/// FRAME_EBADLENGTH: it is empty, or its length or data_size does not lead exactly to its end.
/// FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG (data_size is beyond 63 bits). Such a datagram
/// is gone. FRAME_EIO with errno: ECONNREFUSED tells that nobody received an earlier datagram.
/// FRAME_EBADF: not a datagram socket. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_datagram_recv(
    fd: Fd,
    opts: Options<FrameDatagramOptions>,
    out: Out<FrameHandle>,
) -> c_int {
    code(|| {
        let place = out.get("out")?;
        let options = opts.read("struct frame_datagram_options")?.convert()?;
        let (frame, source) = datagram::recv(fd.borrow()?, &options)?;
        place.put(FrameHandle::datagram(frame, source));
        Ok(())
    })
}

/// The struct sockaddr of the sender of a received datagram, fit for frame_datagram_send().
///
/// *len, if len is not NULL, is its length. It is valid until frame_free(). NULL with a length
/// of 0 if there is none: a Unix socket without a name sent it, the frame came in a stream, or
/// it is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_datagram_source(
    frame: Ref<FrameHandle>,
    len: Value<usize>,
) -> *const c_void {
    value(ptr::null(), || {
        let source = frame.optional().and_then(|frame| frame.source.as_ref());
        len.put(source.map_or(0, |source| source.addr_len() as usize));
        source.map_or(ptr::null(), |source| source.as_ptr().cast())
    })
}

impl FrameDatagramOptions {
    fn convert(&self) -> Result<datagram::Options> {
        options::unused(self.flags, "frame_datagram_options.flags")?;
        let (default, hard) = (limits::DATAGRAM_SEND as u64, limits::DATAGRAM_HARD as u64);
        let max_datagram = limit(self.max_datagram.into(), default, hard, "max_datagram")?;
        let interrupt =
            self.interrupted.map(|asked| Arc::new(Interrupt::by_hook(hook(asked, self.context))));
        Ok(datagram::Options {
            timeout: timeout(self.timeout_ms, None)?,
            max_datagram: usize::try_from(max_datagram).unwrap_or(limits::DATAGRAM_HARD),
            interrupt,
        })
    }
}
