//! Sending on a connection. A message is accepted whole or not at all.

use std::ffi::c_int;

use super::receive::length;
use crate::error::ErrorKind;
use crate::ffi::boundary::outcome::{code, count, small};
use crate::ffi::boundary::parameters::{Bytes, Fd, Handle, Ref, Text};
use crate::ffi::connection::FrameConnection;
use crate::ffi::frame::FrameView;
use crate::ops::frame::Sent;

/// Sends one message: a JSON header and body_len bytes of body, in one system call if the
/// descriptor takes it.
///
/// header is a JSON object without data_size, which the library adds; NULL is an empty one, and
/// the only one for packets. body may be NULL if body_len is 0. Both are borrowed for the call.
///
/// Returns 0: all of it was written. 1: it was accepted and some of it is queued, do not send it
/// again. FRAME_ETIMEDOUT and FRAME_ECANCELED: nothing of it was accepted, it can be sent again.
/// FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size), FRAME_ETOOBIG
/// (above max_header, or beyond the prefix), FRAME_ESTATE (a body in pieces is not complete, or
/// this direction was ended): nothing was accepted. FRAME_EIO with errno: nothing can be sent
/// any more, but what the peer sent before can be received. FRAME_EBROKEN, FRAME_EABORTED,
/// FRAME_EFORKED, FRAME_EBUSY, FRAME_ENOMEM, FRAME_EBADF (nothing to write to).
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_send(
    c: Handle<FrameConnection>,
    header: Text,
    body: Bytes,
    body_len: usize,
    timeout_ms: c_int,
) -> c_int {
    small(|| {
        let c = c.get("c")?;
        let (header, body) = (header.optional("header")?, body.get(body_len, "body")?);
        let timeout = c.timeout(timeout_ms)?;
        match c.cell.send(|mut half| half.send(header, body, timeout))? {
            Sent::Whole => Ok(0),
            Sent::Queued => Ok(1),
        }
    })
}

/// Accepts messages to be written together: once they are 64 KiB, by frame_connection_flush(),
/// and before a receive waits. It waits only while more than max_queue would be queued.
///
/// messages are count of them, borrowed for the call; headers and bodies are as for
/// frame_connection_send().
///
/// Returns how many were accepted, less than count if the time was up or one of them is refused.
/// A failure before the first is a code of frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_queue(
    c: Handle<FrameConnection>,
    messages: Ref<FrameView>,
    count: usize,
    timeout_ms: c_int,
) -> i64 {
    self::count(|| {
        let (messages, c) = (messages.slice(count, "messages")?, c.get("c")?);
        let timeout = c.timeout(timeout_ms)?;
        c.cell.send(|mut half| {
            let mut time = timeout.into();
            for (accepted, message) in messages.iter().enumerate() {
                let queued = message
                    .parts()
                    .and_then(|(header, body)| half.queue_by(header, body, &mut time));
                match queued {
                    Ok(()) => {}
                    Err(_) if accepted > 0 => return length(accepted as u64),
                    Err(error) => return Err(error),
                }
            }
            length(messages.len() as u64)
        })
    })
}

/// Writes all that is queued.
///
/// Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: not all, call again; frame_connection_inspect()
/// has the number of bytes that are left. The other codes of frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_flush(c: Handle<FrameConnection>, timeout_ms: c_int) -> c_int {
    code(|| {
        let c = c.get("c")?;
        let timeout = c.timeout(timeout_ms)?;
        c.cell.send(|mut half| half.flush(timeout))
    })
}

/// Begins a message whose body of body_len bytes, any number, is given in pieces with
/// frame_connection_write() and frame_connection_write_from().
///
/// Its header is written together with the first piece. Until the last byte was given every
/// other function that sends returns FRAME_ESTATE.
///
/// Returns 0 or a code of frame_connection_send(). It never waits.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_begin(
    c: Handle<FrameConnection>,
    header: Text,
    body_len: u64,
) -> c_int {
    code(|| {
        let (header, c) = (header.optional("header")?, c.get("c")?);
        c.cell.send(|mut half| half.begin(header, body_len))
    })
}

/// Gives the next len bytes of the body.
///
/// Returns how many were accepted: all, or less if the time was up; give the others again.
/// FRAME_EINVAL: more than the body needs, nothing was accepted. The codes of
/// frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_write(
    c: Handle<FrameConnection>,
    data: Bytes,
    len: usize,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        let (data, c) = (data.get(len, "data")?, c.get("c")?);
        let timeout = c.timeout(timeout_ms)?;
        length(c.cell.send(|mut half| half.write(data, timeout))? as u64)
    })
}

/// Gives the next len bytes of the body from a descriptor, which is borrowed.
///
/// Returns how many: less than len if from_fd has no more, or if the time was up. What was read
/// from from_fd was accepted. A failure of from_fd is FRAME_EIO with errno, and leaves the
/// connection in sync and the rest of the body to be given. The codes of
/// frame_connection_write().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_write_from(
    c: Handle<FrameConnection>,
    from_fd: Fd,
    len: u64,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        let (from, c) = (from_fd.borrow()?, c.get("c")?);
        let timeout = c.timeout(timeout_ms)?;
        let copied = c.cell.send(|mut half| half.write_from(from, len, timeout))?;
        debug_assert!(copied <= len, "{:?}", ErrorKind::Panic);
        length(copied)
    })
}
