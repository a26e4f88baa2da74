//! A buffer for one descriptor to read from.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::Duration;

use crate::error::Result;
use crate::ffi::boundary::arguments::{buffer, descriptor, free, object_mut, out};
use crate::ffi::boundary::options::timeout;
use crate::ffi::boundary::outcome::{code, count, value};
use crate::ffi::frame::decoder::{FrameView, rest_of, take, views_of};
use crate::ffi::frame::writer::FrameWriter;
use crate::ffi::frame::{FrameOptions, boxed, read};
use crate::ops::frame::reader::Reader;
use crate::ops::frame::writer::Writer;
use crate::wire::frame::decoder::{Decoder, Span};

/// Reads frames and packets from one descriptor through a buffer: one system call brings as
/// many as are there.
///
/// It belongs to the caller, is freed with frame_reader_free() and may be used by one thread
/// at a time. The descriptor stays the caller's, blocking or not, and is read beyond the
/// frame that was asked for: whoever reads on without the reader begins with what
/// frame_reader_rest() has.
///
/// After FRAME_ETIMEDOUT nothing is lost, the call can be made again. A framing error and
/// FRAME_ETRUNCATED stick. In an event loop, call with FRAME_DONT_WAIT until FRAME_ETIMEDOUT
/// before polling again: frames may be in the buffer while the descriptor has nothing.
pub struct FrameReader {
    reader: Reader<'static>,
    /// The writer of frame_reader_tie(), or NULL.
    pub(in crate::ffi) writer: *mut FrameWriter,
}

/// Makes a reader for what comes next from fd, which has to stay open.
///
/// On success *out is the reader, on failure NULL. opts may be NULL; its limits hold for
/// every message, its prefix for frame_reader_next_packet(), its timeout_ms for each call
/// that says 0.
///
/// Returns 0, FRAME_EINVAL or FRAME_EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_new(
    fd: c_int,
    out: *mut *mut FrameReader,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, options) = unsafe { (self::out(out, "out")?, read(opts)?) };
        let reader = Reader::new(descriptor(fd)?, &options.convert()?);
        *out = boxed(FrameReader { reader, writer: ptr::null_mut() });
        Ok(())
    })
}

/// Frees a reader, what it lent, and what it had read and not given; NULL is nothing. A
/// writer tied to it is untied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_free(reader: *mut FrameReader) {
    value((), || {
        // SAFETY: the pointer is what the header asks for.
        let writer = unsafe { reader.as_ref() }.map_or(ptr::null_mut(), |reader| reader.writer);
        // SAFETY: a tied writer is there: frame_writer_free() unties.
        if let Some(writer) = unsafe { writer.as_mut() } {
            writer.reader = ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { free(reader) };
    });
}

/// Ties a writer to a reader, which then keeps two ends that write to each other from
/// waiting for each other: before the reader waits, the writer sends what it has queued; and
/// while the writer waits for the other end to read, the reader takes in what that sends, up
/// to 64 MiB; what the reader has lent stays where it is.
///
/// They may be of one descriptor or of two. From then on one thread at a time may use either.
/// writer NULL unties. Each can be tied to one other: a former tie ends. Whichever is freed
/// first is untied.
///
/// Returns 0 or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_tie(
    reader: *mut FrameReader,
    writer: *mut FrameWriter,
) -> c_int {
    code(|| {
        // SAFETY: the pointer is what the header asks for.
        let of_reader = unsafe { object_mut(reader, "reader")? };
        // SAFETY: whatever is tied is there: what is freed is untied.
        if let Some(former) = unsafe { of_reader.writer.as_mut() } {
            former.reader = ptr::null_mut();
        }
        of_reader.writer = writer;
        // SAFETY: the pointer is what the header asks for.
        if let Some(of_writer) = unsafe { writer.as_mut() } {
            let former = std::mem::replace(&mut of_writer.reader, reader);
            if former != reader {
                // SAFETY: as above.
                if let Some(former) = unsafe { former.as_mut() } {
                    former.writer = ptr::null_mut();
                }
            }
        }
        Ok(())
    })
}

/// Takes the frames that are there, in order, max at most, and waits where there is none.
///
/// views has room for max of them; they are borrowed until the next call for the reader. A
/// frame that does not fit the buffer is gathered in memory that grows with what comes.
///
/// timeout_ms is in milliseconds, FRAME_NO_TIMEOUT or FRAME_DONT_WAIT; 0 is that of the
/// options.
///
/// Returns their count, at least 1. FRAME_ETIMEDOUT: nothing is lost, call again.
/// FRAME_ECLOSED: the other end closed between frames. FRAME_ETRUNCATED, FRAME_EBADLENGTH,
/// FRAME_ETOOBIG, FRAME_EBADJSON, FRAME_EBADFIELD: it sticks, and comes after all frames
/// before it were taken. FRAME_ESTATE: bytes of a streamed body are left. FRAME_EIO with
/// errno, FRAME_EBADF, FRAME_ENOMEM, FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_next(
    reader: *mut FrameReader,
    views: *mut FrameView,
    max: usize,
    timeout_ms: c_int,
) -> i64 {
    // SAFETY: the pointers are what the header asks for.
    count(|| unsafe { next(reader, views, max, timeout_ms, Decoder::next_frame_span) })
}

/// Takes the packets that are there, in order, max at most, and waits where there is none.
///
/// As frame_reader_next() otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_next_packet(
    reader: *mut FrameReader,
    views: *mut FrameView,
    max: usize,
    timeout_ms: c_int,
) -> i64 {
    // SAFETY: the pointers are what the header asks for.
    count(|| unsafe { next(reader, views, max, timeout_ms, Decoder::next_packet_span) })
}

/// Takes the header of the next frame. Its body, of any size, is then read with
/// frame_reader_read() or frame_reader_copy(), or dropped with frame_reader_skip(); the next
/// frame begins when frame_reader_left() is 0. max_body does not apply.
///
/// The body of *view is NULL. Returns 0. As frame_reader_next() otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_next_header(
    reader: *mut FrameReader,
    view: *mut FrameView,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the pointers are what the header asks for.
    code(|| unsafe { next(reader, view, 1, timeout_ms, Decoder::next_header_span) }.map(|_| ()))
}

/// Reads on in a streamed body: 1 to cap bytes into buf, as they come; never beyond the
/// body's end. What is not in the buffer yet goes straight to buf, where cap is at least
/// 8 KiB.
///
/// buf may be NULL where cap is 0. timeout_ms is as for frame_reader_next().
///
/// Returns the count, 0 only at the body's end (or for a cap of 0). FRAME_ETIMEDOUT: nothing
/// was lost, call again. FRAME_ETRUNCATED: the stream ended. FRAME_EIO, FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_read(
    reader: *mut FrameReader,
    buf: *mut c_void,
    cap: usize,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let buf = unsafe { buffer(buf.cast(), cap, "buf")? };
        // SAFETY: as above.
        let (reader, writer) = unsafe { parts(reader)? };
        let timeout = timeout_of(reader, timeout_ms)?;
        Ok(reader.read(buf, writer, timeout)?.try_into().unwrap_or(i64::MAX))
    })
}

/// Copies the rest of a streamed body to another descriptor, in constant memory.
///
/// to_fd is borrowed; what a writer has queued for it goes out later, unless it is flushed
/// before. timeout_ms is as for frame_reader_next(), for the whole call.
///
/// Returns 0. FRAME_ETIMEDOUT: all that was taken was written, call again. FRAME_ESTALLED,
/// FRAME_EIO, FRAME_ENOSPC: bytes may be missing in to_fd, but frame_reader_skip() still
/// leads to the next frame. FRAME_ETRUNCATED: the stream ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_copy(
    reader: *mut FrameReader,
    to_fd: c_int,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        // SAFETY: the pointer is what the header asks for.
        let (reader, writer) = unsafe { parts(reader)? };
        let timeout = timeout_of(reader, timeout_ms)?;
        reader.copy_to(descriptor(to_fd)?, writer, timeout)
    })
}

/// Reads the rest of a streamed body and drops it.
///
/// Returns 0, also where nothing is left. FRAME_ETIMEDOUT: call again. FRAME_ETRUNCATED,
/// FRAME_EIO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_skip(reader: *mut FrameReader, timeout_ms: c_int) -> c_int {
    code(|| {
        // SAFETY: the pointer is what the header asks for.
        let (reader, writer) = unsafe { parts(reader)? };
        let timeout = timeout_of(reader, timeout_ms)?;
        reader.skip(writer, timeout)
    })
}

/// Bytes of a streamed body that were not read yet; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_left(reader: *const FrameReader) -> u64 {
    // SAFETY: the pointer is what the header asks for.
    value(0, || unsafe { reader.as_ref() }.map_or(0, |handle| handle.reader.left()))
}

/// What was read from the descriptor and not taken, for a program that goes on with the
/// stream in another way.
///
/// *len, where len is not NULL, is its length. The bytes are borrowed until the next call
/// for the reader; NULL with a length of 0 where there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_reader_rest(
    reader: *mut FrameReader,
    len: *mut usize,
) -> *const c_void {
    // SAFETY: the pointers are what the header asks for.
    value(ptr::null(), || unsafe {
        let rest = reader.as_mut().map(|handle| handle.reader.rest().unwrap_or_default());
        rest_of(rest.unwrap_or_default(), len)
    })
}

#[inline]
unsafe fn next(
    reader: *mut FrameReader,
    views: *mut FrameView,
    max: usize,
    timeout_ms: c_int,
    next: impl Fn(&mut Decoder) -> Result<Option<Span>>,
) -> Result<i64> {
    // SAFETY: the caller's promise.
    let views = unsafe { views_of(views, max)? };
    // SAFETY: as above.
    let (reader, writer) = unsafe { parts(reader)? };
    let timeout = timeout_of(reader, timeout_ms)?;
    reader.wait_for(writer, timeout, |decoder| {
        take(decoder, views, &next).map(|taken| (taken > 0).then_some(taken))
    })
}

/// The reader and the writer that is tied to it.
#[inline]
unsafe fn parts<'a>(
    reader: *mut FrameReader,
) -> Result<(&'a mut Reader<'static>, Option<&'a mut Writer<'static>>)> {
    // SAFETY: the caller's promise.
    let handle = unsafe { object_mut(reader, "reader")? };
    // SAFETY: a tied writer is there: frame_writer_free() unties.
    let writer = unsafe { handle.writer.as_mut() };
    Ok((&mut handle.reader, writer.map(|writer| &mut writer.writer)))
}

#[inline]
fn timeout_of(reader: &Reader<'_>, timeout_ms: c_int) -> Result<Option<Duration>> {
    timeout(timeout_ms, reader.timeout())
}

impl FrameReader {
    pub(in crate::ffi) fn reader(&mut self) -> &mut Reader<'static> {
        &mut self.reader
    }
}
