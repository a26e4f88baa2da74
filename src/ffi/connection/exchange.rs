//! Exchanges on a connection: a request and its reply.

use std::ffi::c_int;

use crate::error::ErrorKind;
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::outcome::code;
use crate::ffi::boundary::parameters::{Bytes, Handle, Out, Text};
use crate::ffi::connection::FrameConnection;
use crate::ffi::frame::FrameHandle;
use crate::wire::message::OkReply;

/// Sends a request and receives its reply, which repeats the request's id and has "status":"ok".
///
/// header is a JSON object without id and data_size, which the library adds. On success *reply
/// is the reply, which the caller frees with frame_free(); on failure it is NULL. timeout_ms
/// covers the whole exchange, and must not be 0: a call cannot be resumed.
///
/// Returns 0. -100 and below: an error reply; frame_last_error() has its message, and the
/// connection is in sync, unless the peer read only a part of the request. Once a byte of the
/// request was accepted, every other failure breaks the connection: FRAME_ETIMEDOUT,
/// FRAME_ECANCELED, FRAME_EBADREPLY (the reply is for another request, or has no "status":"ok"),
/// FRAME_ECLOSED, and the codes of frame_connection_recv() and frame_connection_send().
/// FRAME_EINVAL: the header has an id, or timeout_ms is 0. Without a handshake, a peer that never
/// repeats an id is accepted too.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_call(
    c: Handle<FrameConnection>,
    header: Text,
    body: Bytes,
    body_len: usize,
    timeout_ms: c_int,
    reply: Out<FrameHandle>,
) -> c_int {
    code(|| {
        let (place, c) = (reply.get("reply")?, c.get("c")?);
        let (header, body) = (header.get("header")?, body.get(body_len, "body")?);
        let timeout = c.exchange_timeout(timeout_ms)?;
        let frame = c.cell.both(|connection| connection.call(header, body, timeout))?;
        place.put(FrameHandle::received(frame));
        Ok(())
    })
}

/// Queues the reply to a request: "status":"ok", the request's id, the members of header, and
/// body_len bytes of body.
///
/// request is the text of the request's header. header is a JSON object or NULL. Members that
/// the library writes (status, id, data_size) are FRAME_EBADFIELD. The call waits only as
/// frame_connection_queue() does: with 0 as timeout_ms not at all.
/// The next receive writes it; before frame_connection_free() call frame_connection_flush() or
/// frame_connection_end().
///
/// Returns 0 or a code of frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_reply(
    c: Handle<FrameConnection>,
    request: Text,
    header: Text,
    body: Bytes,
    body_len: usize,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        let c = c.get("c")?;
        let asked = c.asked().filter(|asked| request.is(asked.text_with_nul()));
        let header = header.optional("header")?;
        let reply = match asked {
            Some(asked) => OkReply::to(asked, header)?,
            None => OkReply::new(request.get("request")?, header)?,
        };
        let (body, timeout) = (body.get(body_len, "body")?, c.timeout(timeout_ms)?);
        c.cell.send(|mut half| half.queue_reply(&reply, body, timeout))
    })
}

/// Queues the error reply to a request, with the reply code for `code`. message is text for
/// people, or NULL.
///
/// code is a FRAME_E... code; FRAME_EREMOTE_... chooses a reply code directly. If the request
/// asks for a streamed command, input and signals that follow it are dropped, unless the
/// connection has FRAME_CONNECTION_DUPLEX. Otherwise as frame_connection_reply().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_reply_error(
    c: Handle<FrameConnection>,
    request: Text,
    code: c_int,
    message: Text,
    timeout_ms: c_int,
) -> c_int {
    self::code(|| {
        let (request, c) = (request.get("request")?, c.get("c")?);
        let message = message.optional("message")?;
        let kind = ErrorKind::from_code(code)
            .ok_or_else(|| invalid(format!("{code} is not an error code")))?;
        let timeout = c.timeout(timeout_ms)?;
        c.cell.send(|mut half| half.reply_error(request, kind, message, timeout))
    })
}
