//! Requests about names, without contents: stat, list, mkdir and symlink.

use super::{ask, check_no_body};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Time, TimeLimit};
use crate::limits;
use crate::ops::file::transfer::to_wait;
use crate::ops::file::{Entry, PartialFile, Stat};
use crate::ops::frame::Connection;
use crate::wire::json::header::Header;
use crate::wire::message::file::{FileMode, PathRequest, StatReply, identity_of};

/// Describes `name` on the server, without following a link; an empty name is the root.
pub fn stat(connection: &mut Connection<'_>, name: &[u8], time: impl Into<Time>) -> Result<Stat> {
    let mut told = None;
    ask_bare(connection, "stat", PathRequest::new(name), time.into(), &mut |reply| {
        told = Some(StatReply::read(reply)?);
        Ok(())
    })?;
    told.ok_or_else(no_reply)
}

/// The size and digest of the part that the server has of an interrupted put of `name`.
/// [`ErrorKind::RemoteNotFound`](crate::ErrorKind::RemoteNotFound) if there is none.
pub fn partial(
    connection: &mut Connection<'_>,
    name: &[u8],
    time: impl Into<Time>,
) -> Result<PartialFile> {
    let mut request = PathRequest::new(name);
    request.partial = Some(true);
    let mut told = None;
    ask_bare(connection, "stat", request, time.into(), &mut |reply| {
        let (bytes, sha256) = StatReply::read_partial(reply)?;
        told = Some(PartialFile { bytes, sha256 });
        Ok(())
    })?;
    told.ok_or_else(no_reply)
}

/// The entries of the server's directory `name`; an empty name is the root.
///
/// The names are untrusted: check one before you show it or use it in a path. A reply of more
/// than 64 MiB is [`ErrorKind::TooBig`](crate::ErrorKind::TooBig), and breaks the connection.
pub fn list(
    connection: &mut Connection<'_>,
    name: &[u8],
    time: impl Into<Time>,
) -> Result<Vec<Entry>> {
    list_identified(connection, name, to_wait(time)?).map(|(entries, _)| entries)
}

/// As [`list`], and the identity of the directory, if the server tells it.
pub(in crate::ops::file) fn list_identified(
    connection: &mut Connection<'_>,
    name: &[u8],
    time_limit: TimeLimit,
) -> Result<(Vec<Entry>, Option<String>)> {
    let id = connection.next_id();
    let mut request = PathRequest::new(name);
    request.id = Some(id.clone());
    connection.exchange(|connection| {
        let reply = ask(connection, &request.header("list"), &id, time_limit)?;
        let entries = Entry::read_list(&connection.body_by(limits::MAX_BODY, time_limit)?)?;
        Ok((entries, identity_of(&reply)?))
    })
}

/// Makes the directory `name` on the server, with `mode`, if given, reduced by the server's
/// umask. With `parents`, missing parent directories are made as well. It is no error if the
/// directory exists; [`ErrorKind::RemoteExists`](crate::ErrorKind::RemoteExists) if the name is
/// something else.
pub fn mkdir(
    connection: &mut Connection<'_>,
    name: &[u8],
    mode: Option<u32>,
    parents: bool,
    time: impl Into<Time>,
) -> Result<()> {
    let mut request = PathRequest::new(name);
    request.mode = mode.map(|mode| FileMode(mode & 0o777));
    request.parents = parents.then_some(true);
    ask_bare(connection, "mkdir", request, time.into(), &mut |_| Ok(()))
}

/// The identity of the directory `name` on the server, if it tells it.
pub(in crate::ops::file) fn identity(
    connection: &mut Connection<'_>,
    name: &[u8],
    time_limit: TimeLimit,
) -> Result<Option<String>> {
    let mut told = None;
    let request = PathRequest::new(name);
    let asked = ask_bare(connection, "stat", request, time_limit.into(), &mut |reply| {
        told = identity_of(reply)?;
        Ok(())
    });
    match asked {
        Err(error) if !error.kind().is_remote() => Err(error),
        _ => Ok(told),
    }
}

/// Makes the symbolic link `name` on the server.
pub(in crate::ops::file) fn make_link(
    connection: &mut Connection<'_>,
    name: &[u8],
    target: &[u8],
    overwrite: bool,
    time_limit: TimeLimit,
) -> Result<()> {
    let mut request = PathRequest::new(name).with_target(target);
    request.overwrite = (!overwrite).then_some(false);
    ask_bare(connection, "symlink", request, time_limit.into(), &mut |_| Ok(()))
}

/// Sends a request, and passes the header of its reply to `read`.
#[inline(never)]
fn ask_bare(
    connection: &mut Connection<'_>,
    cmd: &str,
    mut request: PathRequest,
    time: Time,
    read: &mut dyn FnMut(&Header) -> Result<()>,
) -> Result<()> {
    let time_limit = to_wait(time)?;
    let id = connection.next_id();
    request.id = Some(id.clone());
    connection.exchange(|connection| {
        let reply = ask(connection, &request.header(cmd), &id, time_limit)?;
        check_no_body(connection)?;
        read(&reply)
    })
}

fn no_reply() -> Error {
    Error::new(ErrorKind::State, "there was no reply")
}
