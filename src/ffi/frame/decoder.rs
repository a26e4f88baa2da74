//! Frames without a descriptor: a decoder and an encoder for programs that do their own
//! reading and writing, such as those with an event loop.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

use crate::error::Result;
use crate::ffi::boundary::arguments::{
    buffer, bytes, free, invalid, object_mut, optional_text, out, write_optional,
};
use crate::ffi::boundary::outcome::{code, count, small, value};
use crate::ffi::frame::{FrameHandle, FrameOptions, boxed, for_frames, read};
use crate::wire::frame::decoder::{Decoder, Span};
use crate::wire::frame::head::Head;
use crate::wire::json::header::Header;

/// A frame or a packet in the memory of a reader or decoder, borrowed until the next call
/// for that object, or in the caller's (frame_recv_into()). Those of one call are there
/// together, one behind the other in one piece of memory. frame_copy() makes one that stays.
/// The struct never grows: it is used in arrays.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameView {
    /// The JSON text of the header with a NUL after it; NULL for a packet.
    pub header: *const c_char,
    /// Its length without the NUL.
    pub header_len: usize,
    /// The body, or the bytes of a packet; NULL where there are none.
    pub body: *const c_void,
    /// Their count.
    pub body_len: usize,
}

/// Takes frames and packets out of bytes as they come. It reads no descriptor and never
/// waits: it is for a program with its own event loop.
///
/// It belongs to the caller, is freed with frame_decoder_free() and may be used by one
/// thread at a time. An error of the stream sticks: from then on every call returns it.
pub struct FrameDecoder {
    decoder: Decoder,
    /// What frame_decoder_space() has handed out.
    room: usize,
}

/// Copies a frame or a packet out of the memory it is borrowed from.
///
/// On success *out is the frame, which the caller frees with frame_free(), and which every
/// function that takes a frame accepts; on failure it is NULL.
///
/// Returns 0, FRAME_EINVAL, FRAME_EBADJSON (the header is not what a reader or decoder
/// gave) or FRAME_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_copy(view: *const FrameView, out: *mut *mut FrameHandle) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let out = unsafe { self::out(out, "out")? };
        // SAFETY: as above.
        let view = unsafe { crate::ffi::boundary::arguments::object(view, "view")? };
        // SAFETY: as above; the view's pointers go with their lengths.
        let (header, body) = unsafe {
            (
                bytes(view.header.cast::<u8>(), view.header_len, "view->header")?,
                bytes(view.body.cast::<u8>(), view.body_len, "view->body")?,
            )
        };
        let header = match header {
            [] => None,
            text => Some(Header::parse(copied(text)?, crate::limits::MAX_DEPTH_HARD)?),
        };
        *out = boxed(FrameHandle::whole(header, copied(body)?));
        Ok(())
    })
}

/// Writes what goes before the body of a frame: the length and the header. The program sends
/// it and then body_len bytes of body, with one writev(2) for instance.
///
/// buf takes up to cap bytes and may be NULL where cap is 0. header is as for frame_send(),
/// NULL is an empty one; 43 bytes more than its length are enough. opts may be NULL.
///
/// Returns how many bytes it is; where that is more than cap, nothing was written, and the
/// call can be made again with more room. FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD
/// (the header has a data_size), FRAME_ETOOBIG (the header is above max_header, or body_len
/// above 2^63 - 1). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_encode(
    buf: *mut c_void,
    cap: usize,
    header: *const c_char,
    body_len: u64,
    opts: *const FrameOptions,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let (buf, header, options) = unsafe {
            (buffer(buf.cast(), cap, "buf")?, optional_text(header, "header")?, for_frames(opts)?)
        };
        let head = Head::new(header, body_len, options.max_header)?;
        Ok(write_pieces(&head.pieces(), buf))
    })
}

/// Writes what goes before the bytes of a packet: their length, as frame_options.prefix says.
/// The program then sends len bytes.
///
/// As frame_encode() otherwise; FRAME_ETOOBIG where the prefix cannot say the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_packet_encode(
    buf: *mut c_void,
    cap: usize,
    len: u64,
    opts: *const FrameOptions,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let (buf, options) = unsafe { (buffer(buf.cast(), cap, "buf")?, read(opts)?) };
        let format = options.convert()?.prefix;
        Ok(write_pieces(&[&format.encode(len)?[..format.width()]], buf))
    })
}

/// Makes a decoder for a stream that is at the start of a message.
///
/// On success *out is the decoder, on failure NULL. opts may be NULL; its limits hold for
/// every message, its prefix for frame_decoder_next_packet(), timeout_ms means nothing here.
///
/// Returns 0 or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_new(
    out: *mut *mut FrameDecoder,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, options) = unsafe { (self::out(out, "out")?, read(opts)?) };
        let decoder = Decoder::new(options.convert()?.limits());
        *out = boxed(FrameDecoder { decoder, room: 0 });
        Ok(())
    })
}

/// Frees a decoder and what it lent; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_free(decoder: *mut FrameDecoder) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(decoder) });
}

/// Memory for the next bytes of the stream, so that read(2) puts them where they are
/// decoded. frame_decoder_fed() then says how many came.
///
/// *len is how many there is room for, at least one. The memory belongs to the decoder and is
/// valid until the next call for it. It is 8 KiB at first and 128 KiB where that much comes
/// again and again; for a body that is longer it grows with the bytes that came, here or of
/// the frame before, never with what was declared.
///
/// NULL with a length of 0 once the decoder has failed, or there is no memory; the next
/// frame_decoder_next() returns the error that sticks, if there is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_space(
    decoder: *mut FrameDecoder,
    len: *mut usize,
) -> *mut c_void {
    let mut space = (ptr::null_mut(), 0);
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let FrameDecoder { decoder, room } = unsafe { object_mut(decoder, "decoder")? };
        *room = 0;
        let free: &mut [MaybeUninit<u8>] = decoder.space()?.spare_capacity_mut();
        *room = free.len();
        space = (free.as_mut_ptr().cast(), free.len());
        Ok(())
    });
    // SAFETY: as above.
    unsafe { write_optional(len, space.1) };
    space.0
}

/// Says that n bytes of the stream were put where frame_decoder_space() said.
///
/// Returns 0, or FRAME_EINVAL: it is more than there was room for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_fed(decoder: *mut FrameDecoder, n: usize) -> c_int {
    code(|| {
        // SAFETY: the pointer is what the header asks for.
        let FrameDecoder { decoder, room } = unsafe { object_mut(decoder, "decoder")? };
        if n > *room {
            return Err(invalid(format!("{n} bytes, but there was room for {room}")));
        }
        let buffer = decoder.buffer();
        // SAFETY: the caller has written them to the spare capacity, which nothing has
        // changed since: every other call sets the room to 0.
        unsafe { buffer.set_len(buffer.len() + n) };
        decoder.fed(n, std::mem::take(room));
        Ok(())
    })
}

/// Takes in the next len bytes of the stream, which are copied.
///
/// bytes may be NULL where len is 0. Returns 0, FRAME_ENOMEM (nothing was taken in),
/// FRAME_EINVAL, or the error that sticks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_feed(
    decoder: *mut FrameDecoder,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let bytes = unsafe { crate::ffi::boundary::arguments::bytes(bytes.cast(), len, "bytes")? };
        // SAFETY: as above.
        unsafe { decoder_of(decoder)? }.feed(bytes)
    })
}

/// Takes the frames of which all bytes were fed, in order, max at most.
///
/// views has room for max of them. They are borrowed until the next call for the decoder.
///
/// Returns their count, 0 where the next one is not whole yet. FRAME_EBADLENGTH,
/// FRAME_ETOOBIG (above max_header or max_body: as soon as that is known), FRAME_EBADJSON,
/// FRAME_EBADFIELD: it sticks, and comes after all frames before it were taken.
/// FRAME_ESTATE: bytes of a streamed body are left. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_next(
    decoder: *mut FrameDecoder,
    views: *mut FrameView,
    max: usize,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let (decoder, views) = unsafe { (decoder_of(decoder)?, views_of(views, max)?) };
        take(decoder, views, Decoder::next_frame_span)
    })
}

/// Takes the packets of which all bytes were fed, in order, max at most.
///
/// As frame_decoder_next() otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_next_packet(
    decoder: *mut FrameDecoder,
    views: *mut FrameView,
    max: usize,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let (decoder, views) = unsafe { (decoder_of(decoder)?, views_of(views, max)?) };
        take(decoder, views, Decoder::next_packet_span)
    })
}

/// Takes the header of the next frame if all of it was fed. Its body, of any size, is then
/// taken with frame_decoder_body() until frame_decoder_left() is 0; max_body does not apply.
///
/// The body of *view is NULL. Returns 1, or 0 where the header is not whole yet. The codes
/// of frame_decoder_next().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_next_header(
    decoder: *mut FrameDecoder,
    view: *mut FrameView,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let (decoder, views) = unsafe { (decoder_of(decoder)?, views_of(view, 1)?) };
        take(decoder, views, Decoder::next_header_span).map(|taken| c_int::from(taken > 0))
    })
}

/// Takes the bytes of a streamed body that were fed.
///
/// *piece is where they are, borrowed until the next call for the decoder; NULL where there
/// are none. Returns their count: 0 where more have to be fed, and at the body's end, when
/// frame_decoder_left() is 0. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_body(
    decoder: *mut FrameDecoder,
    piece: *mut *const c_void,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let piece = unsafe { self::out(piece.cast::<*mut c_void>(), "piece")? };
        // SAFETY: as above.
        let body = unsafe { decoder_of(decoder)? }.body(usize::MAX);
        if !body.is_empty() {
            *piece = body.as_ptr().cast_mut().cast();
        }
        Ok(body.len().try_into().unwrap_or(i64::MAX))
    })
}

/// Bytes of a streamed body that were not taken yet; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_left(decoder: *const FrameDecoder) -> u64 {
    // SAFETY: the pointer is what the header asks for.
    value(0, || unsafe { decoder.as_ref() }.map_or(0, |handle| handle.decoder.left()))
}

/// What was fed and not taken, for a program that goes on with the stream in another way.
///
/// *len, where len is not NULL, is its length. The bytes are borrowed until the next call
/// for the decoder; NULL with a length of 0 where there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_rest(
    decoder: *const FrameDecoder,
    len: *mut usize,
) -> *const c_void {
    // SAFETY: the pointers are what the header asks for.
    value(ptr::null(), || unsafe {
        rest_of(decoder.as_ref().map_or(&[], |handle| handle.decoder.rest()), len)
    })
}

/// Says that the stream has ended, after all whole messages were taken, and returns what
/// that means, which is never 0.
///
/// Returns FRAME_ECLOSED: between two messages, a clean end. FRAME_ETRUNCATED: bytes are left
/// that are no whole message; it sticks. The error that sticks already. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_decoder_end(decoder: *mut FrameDecoder) -> c_int {
    // SAFETY: the pointer is what the header asks for.
    code(|| Err(unsafe { decoder_of(decoder)? }.end()))
}

/// Takes as many messages as there are into `views`. An error comes with the next call where
/// there are messages before it, since it sticks.
#[inline]
pub(in crate::ffi) fn take(
    decoder: &mut Decoder,
    views: &mut [MaybeUninit<FrameView>],
    next: impl Fn(&mut Decoder) -> Result<Option<Span>>,
) -> Result<i64> {
    let mut taken = 0;
    for view in views {
        match next(decoder) {
            Ok(Some(span)) => {
                view.write(FrameView::new(decoder.buffer(), &span.header, &span.body))
            }
            Err(error) if taken == 0 => return Err(error),
            _ => break,
        };
        taken += 1;
        // A streamed body is to be taken before what follows it.
        if decoder.left() > 0 {
            break;
        }
    }
    Ok(taken)
}

/// The message in `buffer`.
#[inline]
pub(in crate::ffi) fn view_of(buffer: &[u8], span: &Span) -> FrameView {
    FrameView::new(buffer, &span.header, &span.body)
}

impl FrameView {
    /// The header and the body that C passes.
    pub(in crate::ffi) fn parts<'a>(&self) -> Result<(Option<&'a str>, &'a [u8])> {
        // SAFETY: the header says that a view's pointers go with their lengths.
        let (header, body) = unsafe {
            (
                optional_text(self.header, "header")?,
                bytes(self.body.cast::<u8>(), self.body_len, "body")?,
            )
        };
        Ok((header, body))
    }

    /// A frame in `buffer`; the header has its NUL, and is empty for a packet.
    #[inline]
    pub(in crate::ffi) fn new(
        buffer: &[u8],
        header: &Range<usize>,
        body: &Range<usize>,
    ) -> FrameView {
        let at = |range: &Range<usize>| match range.len() {
            0 => ptr::null(),
            _ => buffer.as_ptr().wrapping_add(range.start),
        };
        FrameView {
            header: at(header).cast(),
            header_len: header.len().saturating_sub(1),
            body: at(body).cast(),
            body_len: body.len(),
        }
    }
}

/// Room for views.
///
/// # Safety
/// `views` is NULL or points to memory for `max` of them that nobody else uses for `'a`.
pub(in crate::ffi) unsafe fn views_of<'a>(
    views: *mut FrameView,
    max: usize,
) -> Result<&'a mut [MaybeUninit<FrameView>]> {
    if views.is_null() || max == 0 || max > isize::MAX as usize / size_of::<FrameView>() {
        return Err(invalid(format!("there is no room for views: {max} at {views:?}")));
    }
    // SAFETY: not NULL, not longer than a slice can be, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(views.cast(), max) })
}

/// Lends what is left of a stream.
///
/// # Safety
/// `len` is NULL or points to memory for a length.
pub(in crate::ffi) unsafe fn rest_of(rest: &[u8], len: *mut usize) -> *const c_void {
    // SAFETY: the caller's promise.
    unsafe { write_optional(len, rest.len()) };
    if rest.is_empty() { ptr::null() } else { rest.as_ptr().cast() }
}

/// The decoder, whose room is not valid any more.
unsafe fn decoder_of<'a>(decoder: *mut FrameDecoder) -> Result<&'a mut Decoder> {
    // SAFETY: the caller's promise.
    let handle = unsafe { object_mut(decoder, "decoder")? };
    handle.room = 0;
    Ok(&mut handle.decoder)
}

/// Writes `pieces` to `buf` if they fit; returns how many bytes they are.
fn write_pieces(pieces: &[&[u8]], buf: &mut [u8]) -> i64 {
    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
    if len <= buf.len() {
        let mut at = 0;
        for piece in pieces {
            buf[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
    }
    len.try_into().unwrap_or(i64::MAX)
}

fn copied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    crate::wire::memory::reserve(&mut copy, bytes.len() + 1)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}
