//! Receiving on a connection. The unread rest of a body in pieces is dropped when the next
//! message is received.

use std::ffi::c_int;

use crate::error::Result;
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::outcome::{code, count};
use crate::ffi::boundary::parameters::{Array, Fd, Handle, Out, Room, Value};
use crate::ffi::connection::FrameConnection;
use crate::ffi::frame::{FrameHandle, FrameView, view_of};

/// Receives one message into newly allocated memory.
///
/// On success *out is the message, which the caller frees with frame_free(); on failure it is
/// NULL.
///
/// Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: nothing is lost, call again. FRAME_ECLOSED:
/// the peer closed the stream between two messages. These break the connection:
/// FRAME_ETRUNCATED, FRAME_EBADLENGTH, FRAME_ETOOBIG (above max_header or max_body),
/// FRAME_EBADJSON, FRAME_EBADFIELD (data_size), FRAME_EIO with errno, and FRAME_EAUTH (it is
/// sealed, and its bytes were changed or are not the peer's). FRAME_EBROKEN,
/// FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY, FRAME_EINVAL, FRAME_ENOMEM, FRAME_EBADF (the
/// connection has nothing to read from), FRAME_ESTATE (after frame_connection_unread()).
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_recv(
    c: Handle<FrameConnection>,
    timeout_ms: c_int,
    out: Out<FrameHandle>,
) -> c_int {
    code(|| {
        let (place, c) = (out.get("out")?, c.get("c")?);
        let timeout = c.timeout(timeout_ms)?;
        let frame = c.cell.receive(|mut half| half.recv(timeout))?;
        place.put(FrameHandle::received(frame));
        Ok(())
    })
}

/// Receives at most max messages in order: those that were received already, or it waits for
/// one.
///
/// views has room for max messages, and max is at least 1. They are valid until the next receive
/// on this connection, or until it is freed.
///
/// Returns their number, at least 1, or a code of frame_connection_recv(). A failure is returned
/// after all messages before it.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_next(
    c: Handle<FrameConnection>,
    views: Array<FrameView>,
    max: usize,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        let (views, c) = (views.get(max, "views")?, c.get("c")?);
        let timeout = c.timeout(timeout_ms)?;
        let Some((first, others)) = views.split_first_mut() else {
            return Err(invalid("max is 0"));
        };
        c.cell.receive(|mut half| {
            let span = half.next_span(timeout)?;
            first.write(view_of(half.receiving.buffer(), &span));
            let mut taken = 1;
            for view in others {
                let Some(span) = half.next_span_there() else { break };
                view.write(view_of(half.receiving.buffer(), &span));
                taken += 1;
            }
            Ok(taken)
        })
    })
}

/// Receives the header of the next message. Read its body with frame_connection_read() and
/// frame_connection_read_to(), or pass it to exec_serve() or frame_file_serve(). The next
/// receive drops the unread rest.
///
/// *view has the header, which is valid until the next receive, and no body. *body_len is the
/// length of the body, of any size; body_len may be NULL.
///
/// Returns 0 or a code of frame_connection_recv(); FRAME_ESTATE for packets, which have no
/// header.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_recv_header(
    c: Handle<FrameConnection>,
    timeout_ms: c_int,
    view: Value<FrameView>,
    body_len: Value<u64>,
) -> c_int {
    code(|| {
        let (view, c) = (view.required("view")?, c.get("c")?);
        let timeout = c.timeout(timeout_ms)?;
        c.cell.receive(|mut half| {
            let span = half.header_span(timeout)?;
            view.put(view_of(half.receiving.buffer(), &span));
            body_len.put(half.receiving.left());
            Ok(())
        })
    })
}

/// Reads 1 to cap bytes of the body into buf, as they are received.
///
/// Returns their number, 0 at the end of the body, or a code of frame_connection_recv(). cap is
/// at least 1.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_read(
    c: Handle<FrameConnection>,
    buf: Room,
    cap: usize,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        let (buf, c) = (buf.get(cap, "buf")?, c.get("c")?);
        if cap == 0 {
            return Err(invalid("cap is 0"));
        }
        let timeout = c.timeout(timeout_ms)?;
        let got = c.cell.receive(|mut half| half.read(buf, timeout))?;
        length(got as u64)
    })
}

/// Copies the rest of the body to a descriptor, which is borrowed.
///
/// Returns the number of bytes copied. It is less than the rest if the call timed out;
/// frame_connection_inspect() reports the bytes that are left. A failure of to_fd (FRAME_EIO
/// with errno, FRAME_ENOSPC) leaves the connection in sync, and the rest of the body can still
/// be read. Otherwise a code of frame_connection_recv().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_read_to(
    c: Handle<FrameConnection>,
    to_fd: Fd,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        let (to, c) = (to_fd.borrow()?, c.get("c")?);
        let timeout = c.timeout(timeout_ms)?;
        length(c.cell.receive(|mut half| half.read_to(to, timeout))?)
    })
}

/// A number of bytes as C gets it.
pub(in crate::ffi) fn length(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|_| invalid("more bytes than fit"))
}
