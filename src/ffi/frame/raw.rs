//! Frames and packets.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::{
    buffer, bytes, descriptor, free, invalid, object, object_mut, optional_text, out, text,
    write_optional,
};
use crate::ffi::boundary::options::{self, SizedStruct, limit, timeout};
use crate::ffi::boundary::outcome::{code, count, small, value};
use crate::ffi::frame::decoder::{FrameView, views_of};
use crate::io::stream::datagram::Address;
use crate::limits;
use crate::ops::frame::{self, Body, BodyReader, BodyWriter, Frame, Message, Options, Received};
use crate::wire::frame::packet::PrefixFormat;
use crate::wire::json::header::Header;

/// For frame_options.prefix, to be added to the width in bytes (1, 2, 4 or 8): the most
/// significant byte comes first.
pub const FRAME_PREFIX_BIG_ENDIAN: u32 = 0x100;
/// For frame_options.prefix, to be added to the width: the length has no sign bit.
pub const FRAME_PREFIX_UNSIGNED: u32 = 0x200;

/// How frames and packets are sent and received. Initialise it with FRAME_OPTIONS_INIT;
/// a member that is 0 has its default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameOptions {
    /// sizeof(struct frame_options), set by FRAME_OPTIONS_INIT.
    pub size: u32,
    /// Milliseconds for the whole call, on the monotonic clock; the default is
    /// FRAME_NO_TIMEOUT. FRAME_DONT_WAIT fails at once where the call would wait.
    pub timeout_ms: i32,
    /// Bytes of header text; default 64 KiB, at most 16 MiB.
    pub max_header: u64,
    /// Bytes of a body or packet received into memory; default 64 MiB, or FRAME_NO_LIMIT.
    /// A body that is streamed has no limit.
    pub max_body: u64,
    /// Levels of nesting in a received header; default 32, at most 127.
    pub max_depth: u32,
    /// The length prefix of packets: the width in bytes, plus FRAME_PREFIX_BIG_ENDIAN and
    /// FRAME_PREFIX_UNSIGNED as they apply; default 4, little-endian, signed. Erlang's
    /// {packet,N} and tokio's LengthDelimitedCodec are both: big-endian and unsigned.
    /// Frames have one prefix and take none here.
    pub prefix: u32,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameOptions {}

/// A received frame, packet or datagram, whole or with its body still in the stream.
///
/// It belongs to the caller and is freed with frame_free(). One thread at a time may use
/// it, except that the functions which take it as const may run side by side.
pub struct FrameHandle {
    pub(in crate::ffi) header: Option<Header>,
    body: Vec<u8>,
    rest: Option<BodyReader<'static>>,
    strings: Strings,
    /// Of a datagram; not in place, since it is larger than all the rest.
    pub(in crate::ffi) source: Option<Box<Address>>,
}

impl FrameHandle {
    pub(in crate::ffi) fn whole(header: Option<Header>, body: Vec<u8>) -> FrameHandle {
        FrameHandle { header, body, rest: None, strings: Strings::default(), source: None }
    }

    pub(in crate::ffi) fn datagram(frame: Frame, source: Option<Address>) -> FrameHandle {
        FrameHandle { source: source.map(Box::new), ..Self::whole(Some(frame.header), frame.body) }
    }

    /// A message of a connection: one without a header is a packet.
    pub(in crate::ffi) fn received(message: Message) -> FrameHandle {
        FrameHandle::whole(message.header, message.body)
    }

    fn streamed(header: Option<Header>, rest: BodyReader<'static>) -> FrameHandle {
        FrameHandle { rest: Some(rest), ..Self::whole(header, Vec::new()) }
    }

    fn header(&self) -> Result<&Header> {
        self.header.as_ref().ok_or_else(no_header)
    }

    fn rest(&mut self) -> Result<&mut BodyReader<'static>> {
        let whole = || Error::new(ErrorKind::State, "the body is in memory: see frame_body()");
        self.rest.as_mut().ok_or_else(whole)
    }

    /// The header and the body of a request, wherever the body is.
    pub(in crate::ffi) fn parts(&mut self) -> Result<(&Header, Body<'_, 'static>)> {
        let FrameHandle { header, body, rest, .. } = self;
        let header = header.as_ref().ok_or_else(no_header)?;
        Ok((header, rest.as_mut().map_or(Body::Memory(body), Body::Stream)))
    }
}

/// The strings of a header that C holds pointers to: a list that only grows, so that each
/// stays where it is.
#[derive(Default)]
struct Strings(OnceLock<Box<Known>>);

struct Known {
    key: String,
    text_with_nul: String,
    next: Strings,
}

impl Strings {
    /// The string at `key` with a NUL behind it. It is read once.
    fn of(&self, header: &Header, key: &str) -> Result<&str> {
        let mut list = self;
        loop {
            let known = if let Some(known) = list.0.get() {
                known
            } else {
                let text_with_nul = format!("{}\0", header.string(key)?);
                let key = key.to_owned();
                let new = Known { key, text_with_nul, next: Strings::default() };
                list.0.get_or_init(|| Box::new(new))
            };
            if known.key == key {
                return Ok(&known.text_with_nul);
            }
            list = &known.next;
        }
    }
}

/// A frame that is being sent: its header is out, its body is sent in pieces.
///
/// It belongs to the caller, is freed with frame_sender_free() and may be used by one
/// thread at a time.
pub struct FrameSender(BodyWriter<'static>);

/// Sends one frame: a JSON header and body_len bytes of body. A socket that has room
/// takes it in one system call.
///
/// header is a JSON object in UTF-8, without the key data_size, which the library adds;
/// NULL is an empty one. body may be NULL where body_len is 0. opts may be NULL.
///
/// Everything is borrowed for the call. fd is a socket, pipe or terminal, blocking or
/// not; it is not closed and none of its flags changed. Threads that send on one
/// descriptor have to take turns; one may send while another receives.
///
/// Returns 0. FRAME_ETIMEDOUT: nothing was sent, the stream is in step. FRAME_EINVAL,
/// FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size) and FRAME_ETOOBIG (the
/// header is above max_header): refused, nothing was sent. FRAME_ESTALLED: a part was
/// sent when the time was up. FRAME_EBADF, FRAME_EIO with errno (EPIPE where the other
/// end is gone; no SIGPIPE is raised). After those the stream is out of step: close it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_send(
    fd: c_int,
    header: *const c_char,
    body: *const c_void,
    body_len: usize,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (header, body, options) = unsafe {
            (
                optional_text(header, "header")?,
                bytes(body.cast(), body_len, "body")?,
                for_frames(opts)?,
            )
        };
        frame::send(descriptor(fd)?, header, body, &options)
    })
}

/// Receives one frame into memory.
///
/// On success *out is the frame, which the caller frees with frame_free(); on failure it
/// is NULL. opts may be NULL. fd is borrowed, is not read beyond the frame, and keeps its
/// flags. Threads that receive on one descriptor have to take turns.
///
/// Returns 0. In step: FRAME_ECLOSED (the other end closed between frames),
/// FRAME_ETIMEDOUT (nothing came in time). Out of step, close the stream:
/// FRAME_ETRUNCATED (it ended inside the frame), FRAME_ESTALLED (the time was up inside
/// the frame), FRAME_EBADLENGTH, FRAME_ETOOBIG (above max_header or max_body; nothing is
/// allocated for it), FRAME_EBADJSON, FRAME_EBADFIELD (data_size is not a plain integer,
/// or there twice), FRAME_ENOMEM, FRAME_EIO with errno. FRAME_EINVAL, FRAME_EBADF:
/// nothing was read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_recv(
    fd: c_int,
    out: *mut *mut FrameHandle,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, options) = unsafe { (self::out(out, "out")?, for_frames(opts)?) };
        let frame = frame::recv(descriptor(fd)?, &options)?;
        *out = boxed(FrameHandle::whole(Some(frame.header), frame.body));
        Ok(())
    })
}

/// Receives the header of one frame and leaves its body, of any size, in the stream: to
/// be read with frame_body_read(), frame_body_copy() or frame_body_gather(), or dropped
/// with frame_body_skip(). The next frame begins when frame_body_left() is 0.
///
/// As frame_recv() otherwise; max_body does not apply. fd must stay open while the body
/// is read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_recv_header(
    fd: c_int,
    out: *mut *mut FrameHandle,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, options) = unsafe { (self::out(out, "out")?, for_frames(opts)?) };
        let (header, rest) = frame::recv_header(descriptor(fd)?, &options)?;
        *out = boxed(FrameHandle::streamed(Some(header), rest));
        Ok(())
    })
}

/// Receives one frame into the caller's buffer: the header's text with a NUL after it, and
/// the body behind it, 16 bytes aligned to buf. The library asks for no memory where the
/// header has less than 64 bytes.
///
/// buf takes up to cap bytes and may be NULL where cap is 0. On success with 0, *view says
/// where in buf the two are. rest is where a frame goes that does not fit: *rest is NULL if it
/// did, else as from frame_recv_header(), freed with frame_free(). Where rest itself is NULL, a
/// frame that does not fit is refused. opts may be NULL; max_body does not apply.
///
/// Returns 0, or 1: it does not fit, *rest is set and *view is all zero. The codes of
/// frame_recv(), and FRAME_ETOOBIG where it does not fit and rest is NULL: the stream is then
/// out of step.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_recv_into(
    fd: c_int,
    buf: *mut c_void,
    cap: usize,
    view: *mut FrameView,
    rest: *mut *mut FrameHandle,
    opts: *const FrameOptions,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let rest = if rest.is_null() { None } else { Some(unsafe { out(rest, "rest")? }) };
        // SAFETY: as above.
        let view = &mut unsafe { views_of(view, 1)? }[0];
        // SAFETY: as above.
        let (buf, options) = unsafe { (buffer(buf.cast(), cap, "buf")?, for_frames(opts)?) };
        match frame::recv_into(descriptor(fd)?, buf, &options)? {
            Received::Whole(header, body) => {
                view.write(FrameView::new(buf, &header, &body));
                Ok(0)
            }
            Received::TooLong(header, body) => {
                let Some(rest) = rest else {
                    let left = body.left();
                    return Err(Error::new(
                        ErrorKind::TooBig,
                        format!("a body of {left} bytes does not fit a buffer of {cap}"),
                    ));
                };
                view.write(FrameView::new(&[], &(0..0), &(0..0)));
                *rest = boxed(FrameHandle::streamed(Some(header), body));
                Ok(1)
            }
        }
    })
}

/// Frees a frame; NULL is nothing. What is left of a body in the stream stays there: the
/// stream is then out of step, unless frame_body_skip() went before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_free(frame: *mut FrameHandle) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(frame) });
}

/// The header of a frame: the JSON text as it came, with a NUL after it.
///
/// *len, where len is not NULL, is its length without the NUL. The text is valid until
/// frame_free(). NULL with a length of 0 for a packet or a NULL frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_header(frame: *const FrameHandle, len: *mut usize) -> *const c_char {
    value(ptr::null(), || {
        // SAFETY: the pointers are what the header asks for.
        let header = unsafe { frame.as_ref() }.and_then(|frame| frame.header.as_ref());
        let text = header.map(Header::text_with_nul);
        // SAFETY: as above.
        unsafe { write_optional(len, text.map_or(0, |text| text.len() - 1)) };
        text.map_or(ptr::null(), |text| text.as_ptr().cast())
    })
}

/// The body of a frame, or a packet's bytes, where they are in memory.
///
/// *len, where len is not NULL, is their count. The bytes are valid until frame_free().
/// NULL with a length of 0 for an empty body, one that is still in the stream, or a NULL
/// frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_body(frame: *const FrameHandle, len: *mut usize) -> *const c_void {
    value(ptr::null(), || {
        // SAFETY: the pointers are what the header asks for.
        let body = unsafe { frame.as_ref() }.map_or(&[][..], |frame| &frame.body);
        // SAFETY: as above.
        unsafe { write_optional(len, body.len()) };
        if body.is_empty() { ptr::null() } else { body.as_ptr().cast() }
    })
}

/// A string at the top level of the header.
///
/// On success *text is the string, unescaped, with a NUL after it, valid until
/// frame_free(), and *len its length; on failure *text is NULL. len may be NULL: then a
/// string that has a NUL inside is refused, since it would look shorter than it is. A key
/// that is there twice has its last value.
///
/// Returns 0, FRAME_EMISSING (no such key), FRAME_EBADFIELD (not a string, or a NUL
/// inside), FRAME_ESTATE (a packet has no header) or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_header_string(
    frame: *const FrameHandle,
    key: *const c_char,
    text: *mut *const c_char,
    len: *mut usize,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let out = unsafe { self::out(text.cast::<*mut c_char>(), "text")? };
        // SAFETY: as above.
        let (frame, key) = unsafe { (object(frame, "frame")?, self::text(key, "key")?) };
        let found = frame.strings.of(frame.header()?, key)?;
        let found_len = found.len() - 1;
        if len.is_null() && found[..found_len].contains('\0') {
            return Err(Error::new(ErrorKind::BadField, format!("{key:?} has a NUL inside")));
        }
        // SAFETY: as above.
        unsafe { write_optional(len, found_len) };
        *out = found.as_ptr().cast_mut().cast();
        Ok(())
    })
}

/// An integer at the top level of the header, in *value.
///
/// Returns 0, FRAME_EMISSING, FRAME_EBADFIELD (not an integer, or beyond 64 bits with a
/// sign), FRAME_ESTATE or FRAME_EINVAL; *value is then unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_header_int(
    frame: *const FrameHandle,
    key: *const c_char,
    value: *mut i64,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (frame, key, value) =
            unsafe { (object(frame, "frame")?, text(key, "key")?, object_mut(value, "value")?) };
        *value = frame.header()?.integer(key)?;
        Ok(())
    })
}

/// A boolean at the top level of the header, in *value.
///
/// Returns 0, FRAME_EMISSING, FRAME_EBADFIELD (neither true nor false), FRAME_ESTATE or
/// FRAME_EINVAL; *value is then unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_header_bool(
    frame: *const FrameHandle,
    key: *const c_char,
    value: *mut bool,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (frame, key) = unsafe { (object(frame, "frame")?, text(key, "key")?) };
        if value.is_null() {
            return Err(invalid("value is NULL"));
        }
        let found = frame.header()?.boolean(key)?;
        // SAFETY: not NULL; written without looking at what C has there.
        unsafe { value.write(found) };
        Ok(())
    })
}

/// Bytes of the body that are still in the stream; 0 for a NULL frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_body_left(frame: *const FrameHandle) -> u64 {
    value(0, || {
        // SAFETY: the pointer is what the header asks for.
        let frame = unsafe { frame.as_ref() };
        frame.and_then(|frame| frame.rest.as_ref()).map_or(0, BodyReader::left)
    })
}

/// Reads on in a body that is in the stream: 1 to cap bytes into buf, as they come; never
/// beyond the body's end.
///
/// buf may be NULL where cap is 0. opts may be NULL; its timeout_ms is for this call.
///
/// Returns the count, 0 only at the body's end (or for a cap of 0). FRAME_ETIMEDOUT:
/// nothing was lost, call again. FRAME_ETRUNCATED: the stream ended. FRAME_ESTATE: the
/// body is in memory. FRAME_EIO, FRAME_EINVAL. frame_body_left() is right after every
/// one of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_body_read(
    frame: *mut FrameHandle,
    buf: *mut c_void,
    cap: usize,
    opts: *const FrameOptions,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let (frame, buf, options) =
            unsafe { (object_mut(frame, "frame")?, buffer(buf.cast(), cap, "buf")?, read(opts)?) };
        Ok(frame.rest()?.read(buf, options.timeout()?)?.try_into().unwrap_or(i64::MAX))
    })
}

/// Copies the rest of a body from the stream to another descriptor, in constant memory.
///
/// to_fd is borrowed; it may be a file, socket, pipe or terminal. opts may be NULL.
///
/// Returns 0. FRAME_ETIMEDOUT: all that was read was written, call again. FRAME_ESTALLED,
/// FRAME_EIO, FRAME_ENOSPC: bytes may be missing in to_fd, but frame_body_skip() still
/// brings the stream back in step. FRAME_ETRUNCATED: the stream ended. FRAME_ESTATE: the
/// body is in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_body_copy(
    frame: *mut FrameHandle,
    to_fd: c_int,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (frame, options) = unsafe { (object_mut(frame, "frame")?, read(opts)?) };
        frame.rest()?.copy_to(descriptor(to_fd)?, options.timeout()?)
    })
}

/// Reads the rest of a body from the stream into memory, where frame_body() finds it.
///
/// opts may be NULL. Returns 0, also where it is there already. FRAME_ETOOBIG: it is
/// larger than max_body; nothing was read. FRAME_ESTALLED, FRAME_ETRUNCATED, FRAME_EIO,
/// FRAME_ENOMEM: what came is lost; frame_body_skip() drops the rest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_body_gather(
    frame: *mut FrameHandle,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (frame, options) = unsafe { (object_mut(frame, "frame")?, read(opts)?) };
        let options = options.convert()?;
        if let Some(rest) = &mut frame.rest {
            frame.body = rest.read_all(options.max_body, options.timeout)?;
            frame.rest = None;
        }
        Ok(())
    })
}

/// Reads the rest of a body from the stream and drops it, in constant memory.
///
/// opts may be NULL. Returns 0, also where nothing is left. FRAME_ETIMEDOUT: call again.
/// FRAME_ETRUNCATED, FRAME_EIO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_body_skip(
    frame: *mut FrameHandle,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (frame, options) = unsafe { (object_mut(frame, "frame")?, read(opts)?) };
        let timeout = options.timeout()?;
        frame.rest.as_mut().map_or(Ok(()), |rest| rest.skip(timeout))
    })
}

/// Sends the header of a frame whose body of body_len bytes follows in pieces, through
/// frame_sender_write() and frame_sender_copy(); frame_sender_finish() ends it.
///
/// On success *out is the sender, which the caller frees with frame_sender_free(); on
/// failure it is NULL. fd must stay open while the body is sent, and nothing else may be
/// sent on it meanwhile. header, opts and the codes are as for frame_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_sender_new(
    fd: c_int,
    header: *const c_char,
    body_len: u64,
    out: *mut *mut FrameSender,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, header, options) = unsafe {
            (self::out(out, "out")?, optional_text(header, "header")?, for_frames(opts)?)
        };
        *out = boxed(FrameSender(frame::send_header(descriptor(fd)?, header, body_len, &options)?));
        Ok(())
    })
}

/// Sends the next piece of a body.
///
/// piece may be NULL where len is 0. opts may be NULL; its timeout_ms is for this call.
///
/// Returns 0. FRAME_EINVAL: the piece is longer than what the body still needs; nothing
/// of it was sent. FRAME_ETIMEDOUT: nothing of it was sent, call again. FRAME_ESTALLED,
/// FRAME_EIO: the stream is out of step, close it; FRAME_ESTATE ever after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_sender_write(
    sender: *mut FrameSender,
    piece: *const c_void,
    len: usize,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (sender, piece, options) = unsafe {
            (object_mut(sender, "sender")?, bytes(piece.cast(), len, "piece")?, read(opts)?)
        };
        sender.0.write(piece, options.timeout()?)
    })
}

/// Sends the next len bytes of a body from another descriptor, in constant memory.
///
/// from_fd is borrowed and read from where it stands. opts may be NULL.
///
/// Returns 0. FRAME_EINVAL: more than what the body still needs. FRAME_ETRUNCATED:
/// from_fd ended early. FRAME_ETIMEDOUT: from_fd gave nothing in time. After these two, what
/// from_fd gave was sent, and frame_sender_left() says what the body still needs.
/// FRAME_ESTALLED, FRAME_EIO: the stream is out of step, close it; FRAME_ESTATE ever after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_sender_copy(
    sender: *mut FrameSender,
    from_fd: c_int,
    len: u64,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (sender, options) = unsafe { (object_mut(sender, "sender")?, read(opts)?) };
        sender.0.copy_from(descriptor(from_fd)?, len, options.timeout()?)
    })
}

/// Bytes the body still needs; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_sender_left(sender: *const FrameSender) -> u64 {
    // SAFETY: the pointer is what the header asks for.
    value(0, || unsafe { sender.as_ref() }.map_or(0, |sender| sender.0.left()))
}

/// Checks that the body was sent whole. The sender is still to be freed.
///
/// Returns 0, or FRAME_ESTATE: bytes are missing, the stream is out of step.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_sender_finish(sender: *const FrameSender) -> c_int {
    // SAFETY: the pointer is what the header asks for.
    code(|| unsafe { object(sender, "sender") }?.0.finish())
}

/// Frees a sender; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_sender_free(sender: *mut FrameSender) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(sender) });
}

/// Sends one packet: its length as frame_options.prefix says, and len bytes.
///
/// data may be NULL where len is 0: an empty packet is a packet. opts may be NULL. As
/// frame_send() otherwise; FRAME_ETOOBIG where the prefix cannot say the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_packet_send(
    fd: c_int,
    data: *const c_void,
    len: usize,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (data, options) = unsafe { (bytes(data.cast(), len, "data")?, read(opts)?) };
        frame::send_packet(descriptor(fd)?, data, &options.convert()?)
    })
}

/// Receives one packet into memory: frame_body() has its bytes.
///
/// As frame_recv() otherwise; FRAME_ETOOBIG where the packet is above max_body.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_packet_recv(
    fd: c_int,
    out: *mut *mut FrameHandle,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, options) = unsafe { (self::out(out, "out")?, read(opts)?) };
        let packet = frame::recv_packet(descriptor(fd)?, &options.convert()?)?;
        *out = boxed(FrameHandle::whole(None, packet));
        Ok(())
    })
}

/// Receives one packet into the caller's buffer.
///
/// buf takes up to cap bytes and may be NULL where cap is 0. rest is where the part goes
/// that does not fit: *rest is NULL if all did, else a handle to the bytes that are still
/// in the stream, for frame_body_read() and its like, freed with frame_free(). Where rest
/// itself is NULL, a packet that does not fit is refused. opts may be NULL.
///
/// Returns the length of the whole packet: more than cap says that *rest is set. The codes
/// of frame_recv(), and FRAME_ETOOBIG where the packet is above max_body or does not fit
/// and rest is NULL: the stream is then out of step.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_packet_recv_into(
    fd: c_int,
    buf: *mut c_void,
    cap: usize,
    rest: *mut *mut FrameHandle,
    opts: *const FrameOptions,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let rest = if rest.is_null() { None } else { Some(unsafe { out(rest, "rest")? }) };
        // SAFETY: as above.
        let (buf, options) = unsafe { (buffer(buf.cast(), cap, "buf")?, read(opts)?) };
        let mut options = options.convert()?;
        if rest.is_none() {
            options.max_body = options.max_body.min(cap as u64);
        }
        let (len, left) = frame::recv_packet_into(descriptor(fd)?, buf, &options)?;
        if let (Some(rest), Some(left)) = (rest, left) {
            *rest = boxed(FrameHandle::streamed(None, left));
        }
        Ok(len.try_into().unwrap_or(i64::MAX))
    })
}

impl FrameOptions {
    fn timeout(&self) -> Result<Option<std::time::Duration>> {
        timeout(self.timeout_ms, None)
    }

    pub(in crate::ffi) fn convert(&self) -> Result<Options> {
        Ok(Options {
            timeout: self.timeout()?,
            max_header: limit(
                self.max_header,
                limits::MAX_HEADER,
                limits::MAX_HEADER_HARD,
                "max_header",
            )?,
            max_depth: depth(self.max_depth)?,
            max_body: limit(self.max_body, limits::MAX_BODY, u64::MAX, "max_body")?,
            prefix: prefix(self.prefix)?,
        })
    }

    pub(in crate::ffi) fn for_frames(&self) -> Result<Options> {
        if self.prefix != 0 {
            return Err(invalid("prefix is for packets: a frame has its own"));
        }
        self.convert()
    }
}

/// Reads the caller's options for frames; NULL is all defaults, which is what most pass.
#[inline]
pub(in crate::ffi) unsafe fn for_frames(opts: *const FrameOptions) -> Result<Options> {
    if opts.is_null() {
        return Ok(Options::default());
    }
    // SAFETY: the caller's promise.
    unsafe { read(opts) }?.for_frames()
}

/// Reads the caller's options; NULL is all defaults.
pub(in crate::ffi) unsafe fn read(opts: *const FrameOptions) -> Result<FrameOptions> {
    // SAFETY: the caller's promise.
    unsafe { options::read(opts, "struct frame_options") }
}

fn no_header() -> Error {
    Error::new(ErrorKind::State, "a packet has no header")
}

/// A max_depth member.
pub(in crate::ffi) fn depth(max_depth: u32) -> Result<u32> {
    let (default, hard) = (limits::MAX_DEPTH, limits::MAX_DEPTH_HARD);
    let depth = limit(max_depth.into(), default.into(), hard.into(), "max_depth")?;
    Ok(depth.try_into().unwrap_or(hard))
}

/// A prefix member.
pub(in crate::ffi) fn prefix(prefix: u32) -> Result<PrefixFormat> {
    let width = prefix & !(FRAME_PREFIX_BIG_ENDIAN | FRAME_PREFIX_UNSIGNED);
    let width = match width {
        0 => 4,
        width => u8::try_from(width).map_err(|_| invalid(format!("prefix is {prefix:#x}")))?,
    };
    let (big, unsigned) =
        (prefix & FRAME_PREFIX_BIG_ENDIAN != 0, prefix & FRAME_PREFIX_UNSIGNED != 0);
    PrefixFormat::new(width, big, unsigned)
}

pub(in crate::ffi) fn boxed<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}
