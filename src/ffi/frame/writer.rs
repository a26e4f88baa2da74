//! A buffer for one descriptor to write to.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use crate::error::Result;
use crate::ffi::boundary::arguments::{
    bytes, descriptor, free, invalid, object_mut, optional_text, out,
};
use crate::ffi::boundary::options::timeout;
use crate::ffi::boundary::outcome::{self, code, value};
use crate::ffi::frame::reader::FrameReader;
use crate::ffi::frame::{FrameOptions, boxed, read};
use crate::io::deadline::Deadline;
use crate::ops::frame::reader::Reader;
use crate::ops::frame::writer::Writer;

/// Writes frames and packets to one descriptor through a queue: small ones go out together.
/// What is queued is written when it is 64 KiB, with frame_writer_flush(), and before a
/// reader that is tied to it waits (frame_reader_tie()).
///
/// It belongs to the caller, is freed with frame_writer_free() and may be used by one thread
/// at a time. The descriptor stays the caller's, blocking or not.
///
/// A message is accepted whole or not at all. FRAME_EIO, with errno, sticks: EPIPE where the
/// other end is gone (no SIGPIPE is raised).
pub struct FrameWriter {
    pub(in crate::ffi) writer: Writer<'static>,
    /// The reader of frame_reader_tie(), or NULL.
    pub(in crate::ffi) reader: *mut FrameReader,
}

/// Makes a writer for fd, which has to stay open.
///
/// On success *out is the writer, on failure NULL. opts may be NULL; its max_header holds for
/// every frame, its prefix for frame_writer_send_packet(), its timeout_ms for each call that
/// says 0.
///
/// Returns 0, FRAME_EINVAL or FRAME_EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_writer_new(
    fd: c_int,
    out: *mut *mut FrameWriter,
    opts: *const FrameOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, options) = unsafe { (self::out(out, "out")?, read(opts)?) };
        let writer = Writer::new(descriptor(fd)?, &options.convert()?);
        *out = boxed(FrameWriter { writer, reader: ptr::null_mut() });
        Ok(())
    })
}

/// Frees a writer; NULL is nothing. What is queued is dropped: frame_writer_flush() goes
/// before. A reader it is tied to is untied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_writer_free(writer: *mut FrameWriter) {
    value((), || {
        // SAFETY: the pointer is what the header asks for.
        let reader = unsafe { writer.as_ref() }.map_or(ptr::null_mut(), |writer| writer.reader);
        // SAFETY: a tied reader is there: frame_reader_free() unties.
        if let Some(reader) = unsafe { reader.as_mut() } {
            reader.writer = ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { free(writer) };
    });
}

/// Sends one frame, later or at once: it is copied to the queue, or written together with
/// what is queued where it does not fit.
///
/// header, body and body_len are as for frame_send(), borrowed for the call. timeout_ms is in
/// milliseconds, FRAME_NO_TIMEOUT or FRAME_DONT_WAIT; 0 is that of the options.
///
/// Returns 0: the frame is accepted whole. Where the time was up (with FRAME_DONT_WAIT that
/// is at once) a part of it may be in the queue, of any size: frame_writer_left() tells.
/// FRAME_ETIMEDOUT: the queue is full, nothing of the frame was accepted, call again.
/// FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG: refused, as
/// frame_send() does. FRAME_EBADF, FRAME_EIO with errno: it sticks. FRAME_ENOMEM: nothing
/// of the frame was accepted; where a part of it had gone out, it sticks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_writer_send(
    writer: *mut FrameWriter,
    header: *const c_char,
    body: *const c_void,
    body_len: usize,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (header, body) =
            unsafe { (optional_text(header, "header")?, bytes(body.cast(), body_len, "body")?) };
        // SAFETY: as above.
        let (writer, reader) = unsafe { parts(writer)? };
        let timeout = timeout_of(writer, timeout_ms)?;
        writer.send(header, body, reader, timeout)
    })
}

/// Sends count frames, as frame_writer_send() does one after the other.
///
/// bodies and body_lens are arrays of count members, headers too, or NULL where no frame has
/// a header; a member of headers may be NULL. timeout_ms is for the whole call.
///
/// Returns how many were accepted, which is less than count only where the time was up or the
/// next one failed: sent alone, it says why. Where not even the first is accepted, its code.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_writer_send_many(
    writer: *mut FrameWriter,
    headers: *const *const c_char,
    bodies: *const *const c_void,
    body_lens: *const usize,
    count: usize,
    timeout_ms: c_int,
) -> i64 {
    outcome::count(|| {
        if count > 0 && (bodies.is_null() || body_lens.is_null()) {
            return Err(invalid("bodies or body_lens is NULL"));
        }
        // SAFETY: the pointers are what the header asks for.
        let (writer, mut reader) = unsafe { parts(writer)? };
        let deadline = Deadline::from_timeout(timeout_of(writer, timeout_ms)?);
        for at in 0..count {
            // SAFETY: the arrays have `count` members, each as for frame_writer_send().
            let frame = unsafe {
                let header = if headers.is_null() { ptr::null() } else { *headers.add(at) };
                optional_text(header, "header").and_then(|header| {
                    Ok((header, bytes((*bodies.add(at)).cast(), *body_lens.add(at), "body")?))
                })
            };
            let sent = frame.and_then(|(header, body)| {
                writer.send_by(header, body, reader.as_deref_mut(), deadline)
            });
            match sent {
                Ok(()) => {}
                Err(error) if at == 0 => return Err(error),
                Err(_) => return Ok(at.try_into().unwrap_or(i64::MAX)),
            }
        }
        Ok(count.try_into().unwrap_or(i64::MAX))
    })
}

/// Sends one packet, later or at once: its length as frame_options.prefix says, and len bytes.
///
/// data may be NULL where len is 0. As frame_writer_send() otherwise; FRAME_ETOOBIG where the
/// prefix cannot say the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_writer_send_packet(
    writer: *mut FrameWriter,
    data: *const c_void,
    len: usize,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let data = unsafe { bytes(data.cast(), len, "data")? };
        // SAFETY: as above.
        let (writer, reader) = unsafe { parts(writer)? };
        let timeout = timeout_of(writer, timeout_ms)?;
        writer.send_packet(data, reader, timeout)
    })
}

/// Writes all that is queued.
///
/// timeout_ms is as for frame_writer_send(). Returns 0. FRAME_ETIMEDOUT: a part may have been
/// written, frame_writer_left() is the rest; call again, in an event loop once the descriptor
/// can be written to. FRAME_EBADF, FRAME_EIO with errno: it sticks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_writer_flush(writer: *mut FrameWriter, timeout_ms: c_int) -> c_int {
    code(|| {
        // SAFETY: the pointer is what the header asks for.
        let (writer, reader) = unsafe { parts(writer)? };
        let timeout = timeout_of(writer, timeout_ms)?;
        writer.flush(reader, timeout)
    })
}

/// Bytes that were accepted and not written; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_writer_left(writer: *const FrameWriter) -> usize {
    // SAFETY: the pointer is what the header asks for.
    value(0, || unsafe { writer.as_ref() }.map_or(0, |handle| handle.writer.left()))
}

/// The writer and the reader that it is tied to.
#[inline]
unsafe fn parts<'a>(
    writer: *mut FrameWriter,
) -> Result<(&'a mut Writer<'static>, Option<&'a mut Reader<'static>>)> {
    // SAFETY: the caller's promise.
    let handle = unsafe { object_mut(writer, "writer")? };
    // SAFETY: a tied reader is there: frame_reader_free() unties.
    let reader = unsafe { handle.reader.as_mut() };
    Ok((&mut handle.writer, reader.map(FrameReader::reader)))
}

#[inline]
fn timeout_of(writer: &Writer<'_>, timeout_ms: c_int) -> Result<Option<Duration>> {
    timeout(timeout_ms, writer.timeout())
}
