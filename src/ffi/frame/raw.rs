//! One message on a raw descriptor.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use super::view::FrameView;
use crate::error::Result;
use crate::ffi::boundary::hook::hook;
use crate::ffi::boundary::options::{self, SizedStruct, limit, timeout};
use crate::ffi::boundary::outcome::{code, value};
use crate::ffi::boundary::parameters::{Bytes, Fd, Mut, Options, Out, Ref, Room, Text, Value};
use crate::io::stream::datagram::Address;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::frame::{self, Body, Frame, IfLarge, Message, Received};
use crate::wire::frame::packet::PrefixFormat;
use crate::wire::frame::queue::Format;
use crate::wire::json::header::Header;

/// For frame_options.format and frame_connection_options.format: a message is a JSON header and
/// a body.
pub const FRAME_FORMAT_FRAMES: u32 = 0;
/// The same: a message is a length and bytes. Headers are NULL.
pub const FRAME_FORMAT_PACKETS: u32 = 1;

/// For frame_options.prefix, added to the width in bytes (1, 2, 4 or 8): the most significant
/// byte comes first.
pub const FRAME_PREFIX_BIG_ENDIAN: u32 = 0x100;
/// For frame_options.prefix, added to the width: the length has no sign bit.
pub const FRAME_PREFIX_UNSIGNED: u32 = 0x200;

/// How messages are sent and received on a raw descriptor or without one. Initialise it with
/// FRAME_OPTIONS_INIT; a member that is 0 has its default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameOptions {
    /// sizeof(struct frame_options), set by FRAME_OPTIONS_INIT.
    pub size: u32,
    /// Milliseconds for the whole call, on the monotonic clock; the default is
    /// FRAME_NO_TIMEOUT. FRAME_DONT_WAIT fails at once if the call would have to wait.
    pub timeout_ms: i32,
    /// Bytes of header text; default 64 KiB, at most 16 MiB.
    pub max_header: u64,
    /// Bytes of a body or packet received into memory; default 64 MiB, or FRAME_NO_LIMIT.
    pub max_body: u64,
    /// Levels of nesting in a received header; default 32, at most 127.
    pub max_depth: u32,
    /// FRAME_FORMAT_FRAMES or FRAME_FORMAT_PACKETS.
    pub format: u32,
    /// For packets: the width of the length in bytes (1, 2, 4 or 8), plus
    /// FRAME_PREFIX_BIG_ENDIAN and FRAME_PREFIX_UNSIGNED; default 4, little-endian, signed.
    /// Erlang's {packet,N} and tokio's LengthDelimitedCodec are big-endian and unsigned.
    pub prefix: u32,
    /// Must be 0: none are defined.
    pub flags: u32,
    /// Called before each wait, after each signal, and at least once a second while a call
    /// waits. Return non-zero to end the call with FRAME_ECANCELED, or with FRAME_ESTALLED
    /// inside a message. May be NULL.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to interrupted().
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for FrameOptions {}

/// A received message that owns its memory.
///
/// It belongs to the caller and is freed with frame_free(). It never changes: any number of
/// threads may read it.
pub struct FrameHandle {
    pub(in crate::ffi) header: Option<Header>,
    body: Body,
    /// Of a datagram; not in place, since it is larger than all the rest.
    pub(in crate::ffi) source: Option<Box<Address>>,
}

impl FrameHandle {
    pub(in crate::ffi) fn datagram(frame: Frame, source: Option<Address>) -> FrameHandle {
        let Frame { header, body } = frame;
        FrameHandle { header: Some(header), body: body.into(), source: source.map(Box::new) }
    }

    /// A message without a header is a packet.
    pub(in crate::ffi) fn received(message: Message) -> FrameHandle {
        FrameHandle { header: message.header, body: message.body, source: None }
    }
}

/// Sends one message: a JSON header and body_len bytes of body, in one system call if the
/// descriptor takes it.
///
/// header is a JSON object in UTF-8 without the key data_size, which the library adds. NULL is
/// an empty object; for packets header must be NULL. body may be NULL if body_len is 0. opts may
/// be NULL.
///
/// Everything is borrowed for the call. fd is a socket, pipe or terminal, blocking or not; it is
/// not closed and none of its flags is changed. Set TCP_NODELAY on a TCP socket: otherwise a
/// small message may wait for the peer's delayed acknowledgement. Only one thread at a time may
/// send on a descriptor; another may receive meanwhile.
///
/// Returns 0. Nothing was sent and the stream is in sync: FRAME_ETIMEDOUT, FRAME_ECANCELED,
/// FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size), FRAME_ETOOBIG
/// (the header exceeds max_header, or the length does not fit the prefix). The stream is out of
/// sync, close it: FRAME_ESTALLED (a part was sent before the timeout or the interruption),
/// FRAME_EBADF, FRAME_EIO with errno (EPIPE if the peer is gone; no SIGPIPE is raised).
#[unsafe(no_mangle)]
pub extern "C" fn frame_send(
    fd: Fd,
    header: Text,
    body: Bytes,
    body_len: usize,
    opts: Options<FrameOptions>,
) -> c_int {
    code(|| {
        let (header, body) = (header.optional("header")?, body.get(body_len, "body")?);
        let (options, format) = opts.framing()?;
        match (format, header) {
            (Format::Frames, header) => frame::send(fd.borrow()?, header, body, &options),
            (Format::Packets(_), None) => frame::send_packet(fd.borrow()?, body, &options),
            (Format::Packets(_), Some(_)) => Err(options::not_here("header", "packets")),
        }
    })
}

/// Receives one message into newly allocated memory.
///
/// On success *out is the message, which the caller frees with frame_free(); on failure it is
/// NULL. opts may be NULL. fd is borrowed, is not read beyond the message, and keeps its flags.
/// Only one thread at a time may receive on a descriptor.
///
/// Returns 0. The stream is in sync: FRAME_ECLOSED (the peer closed it between messages),
/// FRAME_ETIMEDOUT and FRAME_ECANCELED (nothing was received). The stream is out of sync, close
/// it: FRAME_ETRUNCATED (it ended inside the message), FRAME_ESTALLED (the timeout or the
/// interruption came inside the message), FRAME_EBADLENGTH, FRAME_ETOOBIG (above max_header or
/// max_body; nothing is allocated for it), FRAME_EBADJSON, FRAME_EBADFIELD (data_size is not a
/// plain integer, or is given twice), FRAME_ENOMEM, FRAME_EIO with errno. FRAME_EINVAL,
/// FRAME_EBADF: nothing was read.
#[unsafe(no_mangle)]
pub extern "C" fn frame_recv(fd: Fd, out: Out<FrameHandle>, opts: Options<FrameOptions>) -> c_int {
    code(|| {
        let place = out.get("out")?;
        let (options, format) = opts.framing()?;
        let message = match format {
            Format::Frames => {
                let Frame { header, body } = frame::recv(fd.borrow()?, &options)?;
                Message { header: Some(header), body: body.into() }
            }
            Format::Packets(_) => {
                let body = frame::recv_packet(fd.borrow()?, &options)?.into();
                Message { header: None, body }
            }
        };
        place.put(FrameHandle::received(message));
        Ok(())
    })
}

/// Receives one message into the caller's buffer: the header's text, a NUL, then the body at a
/// multiple of 16 bytes from buf. A packet's bytes start at buf. The library allocates nothing
/// if the message fits and its header has less than 64 bytes.
///
/// buf has cap bytes and may be NULL if cap is 0. If the message fits, *view points into buf and
/// *rest is NULL. If it does not fit, *rest is the whole message as from frame_recv(), and *view
/// points into it until frame_free(). max_body applies to *rest only. rest may be NULL: then a
/// message that does not fit is refused. opts may be NULL.
///
/// Returns 0 or a code of frame_recv(). FRAME_ETOOBIG: the message does not fit and rest is
/// NULL, or it exceeds max_body. The stream is then out of sync.
#[unsafe(no_mangle)]
pub extern "C" fn frame_recv_into(
    fd: Fd,
    buf: Room,
    cap: usize,
    opts: Options<FrameOptions>,
    view: Value<FrameView>,
    rest: Out<FrameHandle>,
) -> c_int {
    code(|| {
        let (rest, view) = (rest.optional("rest")?, view.required("view")?);
        let (buf, (options, format)) = (buf.get(cap, "buf")?, opts.framing()?);
        let if_large = if rest.is_some() { IfLarge::Own } else { IfLarge::Refuse };
        let received = match format {
            Format::Frames => frame::recv_into(fd.borrow()?, buf, if_large, &options)?,
            Format::Packets(_) => frame::recv_packet_into(fd.borrow()?, buf, if_large, &options)?,
        };
        match (received, rest) {
            (Received::InBuffer(header, body), _) => view.put(FrameView::new(buf, &header, &body)),
            (Received::Own(message), rest) => {
                let frame = FrameHandle::received(message);
                if let Some(place) = rest {
                    view.put(place.put(frame).view());
                }
            }
        }
        Ok(())
    })
}

/// The header of a message: the JSON text as it was received, with a NUL after it.
///
/// *len, if len is not NULL, is its length without the NUL. The text is valid until
/// frame_free(). NULL with a length of 0 for a packet or a NULL message.
#[unsafe(no_mangle)]
pub extern "C" fn frame_header(frame: Ref<FrameHandle>, len: Value<usize>) -> *const c_char {
    value(ptr::null(), || {
        let view = frame.optional().map(FrameHandle::view);
        len.put(view.map_or(0, |view| view.header_len));
        view.map_or(ptr::null(), |view| view.header)
    })
}

/// The body of a message, or the bytes of a packet.
///
/// *len, if len is not NULL, is their number. The bytes are valid until frame_free(). NULL with
/// a length of 0 for an empty body or a NULL message.
#[unsafe(no_mangle)]
pub extern "C" fn frame_body(frame: Ref<FrameHandle>, len: Value<usize>) -> *const c_void {
    value(ptr::null(), || {
        let view = frame.optional().map(FrameHandle::view);
        len.put(view.map_or(0, |view| view.body_len));
        view.map_or(ptr::null(), |view| view.body)
    })
}

/// Frees a message; NULL is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn frame_free(frame: Mut<FrameHandle>) {
    value((), || frame.free());
}

impl FrameHandle {
    /// Its address, as long as it lives.
    fn view(&self) -> FrameView {
        let header = self.header.as_ref().map_or(&[][..], Header::text_with_nul);
        let header_view = FrameView::new(header, &(0..header.len()), &(0..0));
        FrameView {
            header: header_view.header,
            header_len: header_view.header_len,
            ..FrameView::new(&self.body, &(0..0), &(0..self.body.len()))
        }
    }
}

impl Options<FrameOptions> {
    /// The options of Rust, and how messages look. NULL is all defaults, which is what most
    /// pass.
    #[inline]
    pub(super) fn framing(self) -> Result<(frame::Options, Format)> {
        if self.is_null() {
            return Ok((frame::Options::default(), Format::Frames));
        }
        self.read("struct frame_options")?.convert()
    }

    /// The same for a function without a descriptor, to which times do not apply.
    #[inline]
    pub(super) fn framing_alone(self) -> Result<(frame::Options, Format)> {
        if self.is_null() {
            return Ok((frame::Options::default(), Format::Frames));
        }
        let opts = self.read("struct frame_options")?;
        options::unused(opts.timeout_ms, "frame_options.timeout_ms")?;
        match opts.interrupted {
            Some(_) => Err(options::not_here("frame_options.interrupted", "this function")),
            None => opts.convert(),
        }
    }
}

impl FrameOptions {
    fn convert(&self) -> Result<(frame::Options, Format)> {
        options::unused(self.flags, "frame_options.flags")?;
        let format = format(self.format, self.prefix)?;
        let (header, max_header) = (limits::MAX_HEADER, limits::MAX_HEADER_HARD);
        let interrupt =
            self.interrupted.map(|asked| Arc::new(Interrupt::by_hook(hook(asked, self.context))));
        let options = frame::Options {
            timeout: timeout(self.timeout_ms, None)?,
            max_header: limit(self.max_header, header, max_header, "max_header")?,
            max_depth: depth(self.max_depth)?,
            max_body: limit(self.max_body, limits::MAX_BODY, u64::MAX, "max_body")?,
            prefix: match format {
                Format::Frames => PrefixFormat::default(),
                Format::Packets(prefix) => prefix,
            },
            interrupt,
        };
        Ok((options, format))
    }
}

/// The members format and prefix.
pub(in crate::ffi) fn format(format: u32, prefix: u32) -> Result<Format> {
    match format {
        FRAME_FORMAT_FRAMES if prefix == 0 => Ok(Format::Frames),
        FRAME_FORMAT_FRAMES => Err(options::not_here("prefix", "frames")),
        FRAME_FORMAT_PACKETS => self::prefix(prefix).map(Format::Packets),
        other => Err(options::unknown(other, "format")),
    }
}

/// A max_depth member.
pub(in crate::ffi) fn depth(max_depth: u32) -> Result<u32> {
    let (default, hard) = (limits::MAX_DEPTH, limits::MAX_DEPTH_HARD);
    let depth = limit(max_depth.into(), default.into(), hard.into(), "max_depth")?;
    Ok(depth.try_into().unwrap_or(hard))
}

/// A prefix member.
fn prefix(prefix: u32) -> Result<PrefixFormat> {
    let width = match prefix & !(FRAME_PREFIX_BIG_ENDIAN | FRAME_PREFIX_UNSIGNED) {
        0 => 4,
        width => u8::try_from(width).map_err(|_| options::unknown(prefix, "prefix"))?,
    };
    let (big, unsigned) =
        (prefix & FRAME_PREFIX_BIG_ENDIAN != 0, prefix & FRAME_PREFIX_UNSIGNED != 0);
    PrefixFormat::new(width, big, unsigned)
}
