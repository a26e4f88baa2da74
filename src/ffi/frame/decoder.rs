//! A decoder and an encoder without descriptors, for programs that read and write themselves.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use super::raw::FrameOptions;
use super::view::{FrameView, view_of};
use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::options;
use crate::ffi::boundary::outcome::{code, count, small, value};
use crate::ffi::boundary::parameters::{Array, Mut, Options, Out, Ref, Room, Text, Value, commit};
use crate::wire::frame::decoder::{Decoder, Span};
use crate::wire::frame::head::Head;
use crate::wire::frame::queue::Format;

/// Finds messages in the bytes of a stream. It reads no descriptor and never waits.
///
/// It belongs to the caller, is freed with frame_decoder_free() and may be used by one thread at
/// a time. An error of the stream sticks: every later call returns it.
pub struct FrameDecoder {
    decoder: Decoder,
    format: Format,
    /// The room that frame_decoder_reserve() has returned.
    room: usize,
    /// A body is being taken in pieces.
    in_body: bool,
}

/// Writes the bytes that precede a body: the length and the header of a frame, or the length of
/// a packet. The program then sends them and body_len bytes of body, for example with one
/// writev(2).
///
/// buf has cap bytes; the length of header plus 43 is enough. NULL asks for the length only.
/// header is as for frame_send(). opts may be NULL; timeout_ms and interrupted do not apply. Any
/// thread.
///
/// Returns the number of bytes. FRAME_ETOOBIG: more than cap, and nothing was written; or the
/// header exceeds max_header; or body_len does not fit the prefix. FRAME_EINVAL, FRAME_EBADJSON,
/// FRAME_EBADFIELD (the header has a data_size).
#[unsafe(no_mangle)]
pub extern "C" fn frame_encode(
    buf: Room,
    cap: usize,
    header: Text,
    body_len: u64,
    opts: Options<FrameOptions>,
) -> i64 {
    count(|| {
        let header = header.optional("header")?;
        let (options, format) = opts.framing_alone()?;
        match (format, header) {
            (Format::Frames, header) => {
                write(&Head::new(header, body_len, options.max_header)?.pieces(), buf, cap)
            }
            (Format::Packets(prefix), None) => {
                write(&[&prefix.encode(body_len)?[..prefix.width()]], buf, cap)
            }
            (Format::Packets(_), Some(_)) => Err(options::not_here("header", "packets")),
        }
    })
}

/// Makes a decoder for a stream that is at the start of a message.
///
/// On success *out is the decoder; on failure it is NULL. opts may be NULL; timeout_ms and
/// interrupted do not apply.
///
/// Returns 0 or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_new(opts: Options<FrameOptions>, out: Out<FrameDecoder>) -> c_int {
    code(|| {
        let place = out.get("out")?;
        let (options, format) = opts.framing_alone()?;
        let decoder = Decoder::new(options.limits());
        place.put(FrameDecoder { decoder, format, room: 0, in_body: false });
        Ok(())
    })
}

/// Frees a decoder and the memory of its messages; NULL is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_free(decoder: Mut<FrameDecoder>) {
    value((), || decoder.free());
}

/// Reserves memory for the next bytes of the stream, to be filled by read(2). Then call
/// frame_decoder_commit() with their number.
///
/// *room, if room is not NULL, is the number of bytes that fit, at least 1. The memory belongs
/// to the decoder and is valid until the next call on it. It is 8 KiB at first, and 128 KiB once
/// reads keep filling it. For a longer body it grows with the bytes that were received, never
/// with the declared size.
///
/// Returns NULL with a room of 0 if the decoder has failed or there is no memory. After a
/// failure frame_decoder_next() returns its code.
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_reserve(
    decoder: Mut<FrameDecoder>,
    room: Value<usize>,
) -> *mut c_void {
    let mut space = (ptr::null_mut(), 0);
    code(|| {
        let handle = decoder.get("decoder")?;
        handle.room = 0;
        let free: &mut [MaybeUninit<u8>] = handle.decoder.space()?.spare_capacity_mut();
        space = (free.as_mut_ptr().cast(), free.len());
        handle.room = space.1;
        Ok(())
    });
    room.put(space.1);
    space.0
}

/// Reports that n bytes of the stream were written to the memory of frame_decoder_reserve().
///
/// Returns 0, or FRAME_EINVAL: n is larger than the room was.
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_commit(decoder: Mut<FrameDecoder>, n: usize) -> c_int {
    code(|| {
        let FrameDecoder { decoder, room, .. } = decoder.get("decoder")?;
        if n > *room {
            let detail = format!("n is {n}, but there was room for {room}");
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        // Nothing has changed the spare capacity since: every other call sets the room to 0.
        commit(decoder.buffer(), n)?;
        decoder.fed(n, std::mem::take(room));
        Ok(())
    })
}

/// Takes at most max complete messages out of the committed bytes, in order.
///
/// views has room for max messages, and max is at least 1. They are valid until the next
/// frame_decoder_reserve(), or until the decoder is freed.
///
/// Returns their number, 0 if the next message is not complete. FRAME_EBADLENGTH, FRAME_ETOOBIG
/// (above max_header or max_body), FRAME_EBADJSON, FRAME_EBADFIELD: the error sticks, and is
/// returned after all messages before it. FRAME_ESTATE: bytes of a body in pieces are left.
/// FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_next(
    decoder: Mut<FrameDecoder>,
    views: Array<FrameView>,
    max: usize,
) -> i64 {
    count(|| {
        let (handle, views) = (taking(decoder)?, views.get(max, "views")?);
        let taken = match handle.format {
            _ if views.is_empty() => Err(Error::new(ErrorKind::Argument, "max is 0")),
            Format::Frames => take(&mut handle.decoder, views, Decoder::next_frame_span),
            Format::Packets(_) => take(&mut handle.decoder, views, Decoder::next_packet_span),
        }?;
        handle.in_body &= taken == 0;
        Ok(taken)
    })
}

/// Takes the header of the next frame if all of it was committed. Take its body with
/// frame_decoder_body(); max_body does not apply.
///
/// *view has the header, valid as long as a message of frame_decoder_next(), and no body.
/// *body_len is the length of the body, of any size; body_len may be NULL.
///
/// Returns 1, or 0 if the header is not complete. FRAME_ESTATE also for packets, which have no
/// header. Otherwise a code of frame_decoder_next().
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_next_header(
    decoder: Mut<FrameDecoder>,
    view: Value<FrameView>,
    body_len: Value<u64>,
) -> c_int {
    small(|| {
        let (handle, view) = (taking(decoder)?, view.required("view")?);
        if handle.format != Format::Frames {
            return Err(Error::new(ErrorKind::State, "packets have no header"));
        }
        let Some(span) = handle.decoder.next_header_span()? else { return Ok(0) };
        handle.in_body = true;
        view.put(view_of(handle.decoder.buffer(), &span));
        body_len.put(handle.decoder.left());
        Ok(1)
    })
}

/// Takes the committed bytes of a body in pieces.
///
/// *piece points to them and is valid as long as a message of frame_decoder_next(). It is NULL
/// if there are none.
///
/// Returns their number, 0 at the end of the body. FRAME_ETIMEDOUT: more bytes are needed.
/// FRAME_ESTATE: no header was taken with frame_decoder_next_header(). FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_body(
    decoder: Mut<FrameDecoder>,
    piece: Value<*const c_void>,
) -> i64 {
    count(|| {
        let (handle, piece) = (taking(decoder)?, piece.required("piece")?.cleared());
        if !handle.in_body {
            return Err(Error::new(ErrorKind::State, "there is no body in pieces"));
        }
        if handle.decoder.left() == 0 {
            return Ok(0);
        }
        let body = handle.decoder.body(usize::MAX);
        if body.is_empty() {
            return Err(Error::new(ErrorKind::TimedOut, "more bytes of the body are needed"));
        }
        piece.put(body.as_ptr().cast());
        Ok(i64::try_from(body.len()).unwrap_or(i64::MAX))
    })
}

/// The bytes that were committed and not taken, for a program that continues without the
/// decoder.
///
/// *len, if len is not NULL, is their number. The bytes are valid as long as a message of
/// frame_decoder_next(). NULL with a length of 0 if there are none.
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_unread(
    decoder: Ref<FrameDecoder>,
    len: Value<usize>,
) -> *const c_void {
    value(ptr::null(), || {
        let rest = decoder.optional().map_or(&[][..], |handle| handle.decoder.rest());
        len.put(rest.len());
        if rest.is_empty() { ptr::null() } else { rest.as_ptr().cast() }
    })
}

/// Call it at the end of the stream, after all complete messages were taken. It never returns 0.
///
/// Returns FRAME_ECLOSED: the stream ended between two messages, a clean end. FRAME_ETRUNCATED:
/// it ended inside a message; the error sticks. Or the error that sticks already, or
/// FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_decoder_end(decoder: Mut<FrameDecoder>) -> c_int {
    code(|| Err(taking(decoder)?.decoder.end()))
}

/// The decoder, whose room is not valid any more.
fn taking<'a>(decoder: Mut<FrameDecoder>) -> Result<&'a mut FrameDecoder> {
    let handle = decoder.get("decoder")?;
    handle.room = 0;
    Ok(handle)
}

/// Takes as many messages as there are into `views`. An error comes with the next call if there
/// are messages before it, since it sticks.
#[inline]
fn take(
    decoder: &mut Decoder,
    views: &mut [MaybeUninit<FrameView>],
    next: impl Fn(&mut Decoder) -> Result<Option<Span>>,
) -> Result<i64> {
    let mut taken = 0;
    for view in views {
        match next(decoder) {
            Ok(Some(span)) => view.write(view_of(decoder.buffer(), &span)),
            Err(error) if taken == 0 => return Err(error),
            _ => break,
        };
        taken += 1;
    }
    Ok(taken)
}

/// Writes `pieces` to `buf`, all or nothing; returns how many bytes they are.
fn write(pieces: &[&[u8]], buf: Room, cap: usize) -> Result<i64> {
    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
    if !buf.is_null() {
        let buf = buf.get(cap, "buf")?;
        if len > cap {
            let detail = format!("it takes {len} bytes, and buf has {cap}");
            return Err(Error::new(ErrorKind::TooBig, detail));
        }
        let mut at = 0;
        for piece in pieces {
            buf[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
    }
    Ok(i64::try_from(len).unwrap_or(i64::MAX))
}
