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
    /// Milliseconds for the whole call, on the monotonic clock; the default is FRAME_NO_TIMEOUT.
    /// FRAME_DONT_WAIT fails at once if the call would have to wait.
    pub timeout_ms: i32,
    /// The largest datagram that is sent, in bytes; default 8 KiB, at most 65,507. Use 1,200 to
    /// avoid fragments on the Internet. Datagrams of any size up to 65,507 are received.
    pub max_datagram: u32,
    /// Must be 0: none are defined.
    pub flags: u32,
    /// Called before each wait, after each signal, and at least once a second while a call
    /// waits. Return non-zero to end the call with FRAME_ECANCELED. May be NULL.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to interrupted().
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for FrameDatagramOptions {}

/// Sends one frame as one datagram.
///
/// to is a struct sockaddr of to_len bytes; NULL and 0 send to the address that the socket is
/// connected to. header is a JSON object in UTF-8 without the key data_size, which the library
/// adds; NULL is an empty object. body may be NULL if body_len is 0. opts may be NULL.
///
/// Everything is borrowed for the call. fd is a UDP or Unix datagram socket, blocking or not.
/// Threads may send on one descriptor at the same time.
///
/// Returns 0: the datagram was sent, and may still be lost. After any other code nothing was
/// sent. FRAME_ETOOBIG: the datagram exceeds max_datagram, or is too large for the network
/// (errno EMSGSIZE). FRAME_ETIMEDOUT: the socket's queue is full. FRAME_ECANCELED,
/// FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size), FRAME_EINVAL. FRAME_EBADF: not
/// a datagram socket. FRAME_EIO with errno; ECONNREFUSED means that an earlier datagram was not
/// received by anyone, and this one may be sent again.
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

/// Receives one datagram, which must be exactly one frame.
///
/// On success *out is the frame, which the caller frees with frame_free(); on failure it is
/// NULL. frame_datagram_source() returns the sender's address, which anyone on a network can
/// forge. opts may be NULL. fd is borrowed, a UDP or Unix datagram socket, blocking or not.
/// Threads may receive on one descriptor at the same time.
///
/// Returns 0. After any code the next call receives the next datagram. FRAME_ETIMEDOUT,
/// FRAME_ECANCELED: none was received. FRAME_ELIMIT: the datagram was larger than 65,507 bytes
/// and was truncated. FRAME_EBADLENGTH: it is empty, or its length or data_size does not match
/// its size. FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG (data_size exceeds 63 bits). Such a
/// datagram is lost. FRAME_EIO with errno: ECONNREFUSED means that an earlier datagram was not
/// received by anyone. FRAME_EBADF: not a datagram socket. FRAME_EINVAL.
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

/// The sender of a received datagram: a struct sockaddr for frame_datagram_send().
///
/// *len, if len is not NULL, is its length. It is valid until frame_free(). NULL with a length
/// of 0 if there is none: the sender is a Unix socket without a name, the frame was received
/// from a stream, or frame is NULL.
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
