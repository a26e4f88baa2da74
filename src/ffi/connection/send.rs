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
/// header is a JSON object without data_size, which the library adds. NULL is an empty object;
/// for packets header must be NULL. body may be NULL if body_len is 0. Both are borrowed for the
/// call.
///
/// Returns 0: the whole message was written. 1: it was accepted and a part is queued; do not
/// send it again. FRAME_ETIMEDOUT and FRAME_ECANCELED: nothing was accepted; it can be sent
/// again. FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size),
/// FRAME_ETOOBIG (above max_header, or too long for the prefix), FRAME_ESTATE (a body in pieces
/// is not complete, or this direction was ended): nothing was accepted. FRAME_EIO with errno:
/// nothing can be sent any more, but messages that the peer has sent can be received.
/// FRAME_EBROKEN, FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY, FRAME_ENOMEM, FRAME_EBADF (nothing
/// to write to).
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

/// Queues messages, to be written together: once there are 64 KiB, by frame_connection_flush(),
/// and before a receive waits. With 64 KiB queued the call waits for room, up to timeout_ms.
/// After that, and at once with 0, it accepts more, up to max_queue.
///
/// messages is an array of count messages, borrowed for the call. Headers and bodies are as for
/// frame_connection_send().
///
/// Returns the number of accepted messages. It is less than count if the call timed out or one
/// of them is refused. If the first one fails: a code of frame_connection_send().
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

/// Writes all queued bytes.
///
/// Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: not all bytes were written, call again;
/// frame_connection_inspect() reports how many are left. Otherwise a code of
/// frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_flush(c: Handle<FrameConnection>, timeout_ms: c_int) -> c_int {
    code(|| {
        let c = c.get("c")?;
        let timeout = c.timeout(timeout_ms)?;
        c.cell.send(|mut half| half.flush(timeout))
    })
}

/// Begins a message with a body of body_len bytes, any number. Pass the body in pieces with
/// frame_connection_write() and frame_connection_write_from().
///
/// The header is written together with the first piece. Until the body is complete every other
/// function that sends returns FRAME_ESTATE.
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

/// Sends the next len bytes of the body.
///
/// Returns the number of accepted bytes. It is less than len if the call timed out; pass the
/// others again. FRAME_EINVAL: more bytes than the body has left; nothing was accepted.
/// Otherwise a code of frame_connection_send().
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

/// Sends the next len bytes of the body from a descriptor, which is borrowed.
///
/// Returns the number of accepted bytes. It is less than len if from_fd has ended or the call
/// timed out. All bytes that were read from from_fd were accepted. A failure of from_fd is
/// FRAME_EIO with errno; the connection stays in sync, and the rest of the body can still be
/// sent. Otherwise a code of frame_connection_write().
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
