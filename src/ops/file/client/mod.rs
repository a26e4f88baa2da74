//! The client: sends files, fetches them, and asks about them.

mod get;
mod put;
mod query;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Time, TimeLimit};
use crate::ops::frame::Connection;
use crate::wire::json::header::Header;
use crate::wire::message::file::Working;
use crate::wire::message::{Id, ReplyKind};

pub(super) use get::{Place, get_fd, get_path, get_to, has_same};
pub(super) use put::{put_fd, put_path};
pub(super) use query::{identity, list_identified, make_link};
pub use query::{list, mkdir, partial, stat};

/// Sends a request without a body and receives the header of its reply, but not the body.
fn ask(
    connection: &mut Connection<'_>,
    request: &str,
    id: &Id,
    time_limit: TimeLimit,
) -> Result<Header> {
    connection.send_by(Some(request), [&[], &[]], time_limit)?;
    recv_reply(connection, id, time_limit)
}

/// Receives the header of the reply to the request `id`, but not the body. An error reply is an
/// error of a remote kind, and has no body.
fn recv_reply(connection: &mut Connection<'_>, id: &Id, time_limit: TimeLimit) -> Result<Header> {
    let reply = wait_for_reply(connection, id, time_limit)?;
    check_ok(connection, &reply, id)?;
    Ok(reply)
}

/// Receives the first frame that does not say that the server is at work. As long as it says so,
/// only the deadline ends the wait.
fn wait_for_reply(
    connection: &mut Connection<'_>,
    id: &Id,
    time_limit: TimeLimit,
) -> Result<Header> {
    let mut time = Time::from(time_limit);
    let mut reply = connection.header_by(time_limit)?;
    while is_working(connection, &reply, id)? {
        connection.shared().interrupt().turn(&mut time)?;
        reply = connection.header_by(time_limit)?;
    }
    Ok(reply)
}

/// Checks that a frame is the reply to the request `id`, and no error.
fn check_ok(connection: &mut Connection<'_>, reply: &Header, id: &Id) -> Result<()> {
    connection.check_reply(&reply.fields()?, id, ReplyKind::Ok)
}

/// Whether a frame says that the server is at work on the request `id`.
fn is_working(connection: &mut Connection<'_>, frame: &Header, id: &Id) -> Result<bool> {
    let fields = frame.fields()?;
    if !Working::is(&fields) {
        return Ok(false);
    }
    connection.check_answer(&fields, id)?;
    check_no_body(connection)?;
    Ok(true)
}

/// Fails if the reply that was received last has a body.
fn check_no_body(connection: &Connection<'_>) -> Result<()> {
    match connection.to_receive() {
        0 => Ok(()),
        _ => Err(Error::new(ErrorKind::BadReply, "the reply has a body")),
    }
}

/// Whether the peer does not have the first bytes of a file as declared, so that the whole file
/// must be transferred.
pub(super) fn starts_over(error: &Error) -> bool {
    use ErrorKind::{RemoteBadRequest, RemoteChecksum, RemoteUnsupported};
    matches!(error.kind(), RemoteBadRequest | RemoteChecksum | RemoteUnsupported)
}
