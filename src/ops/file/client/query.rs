//! What is asked about names rather than contents, and made without any.

use super::{ask, without_body};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::limits;
use crate::ops::Duplex;
use crate::ops::file::content::inside;
use crate::ops::file::{Entry, Options, Stat, Transfer};
use crate::wire::json::header::Header;
use crate::wire::message::file::{FileMode, PathRequest, StatReply};

/// What the server has as `name`, be it a link; an empty name is its root.
pub fn stat(duplex: Duplex<'_>, name: &[u8], options: &Options<'_>) -> Result<Stat> {
    stat_by(duplex, name, options.patience())
}

/// What the server has of a put of `name` that was cut, to be resumed: its size and its
/// digest. [`ErrorKind::RemoteNotFound`] if there is nothing.
pub fn partial(duplex: Duplex<'_>, name: &[u8], options: &Options<'_>) -> Result<Transfer> {
    partial_by(duplex, name, options.patience())
}

/// What is in the server's directory `name`; an empty name is its root.
///
/// The names are the server's: before one is shown or made a path it has to be looked at.
/// The reply has at most 64 MiB: [`ErrorKind::TooBig`], and the stream is out of sync.
pub fn list(duplex: Duplex<'_>, name: &[u8], options: &Options<'_>) -> Result<Vec<Entry>> {
    list_by(duplex, name, options.patience())
}

/// Makes the directory `name` on the server, with the mode of `options.store` if it has
/// one. It may be there already; [`ErrorKind::RemoteExists`] if it is something else.
pub fn make_directory(duplex: Duplex<'_>, name: &[u8], options: &Options<'_>) -> Result<()> {
    make_directory_by(duplex, name, options, options.patience())
}

/// As [`stat`](fn@stat), with time that is not for this call alone.
pub(in crate::ops::file) fn stat_by(
    duplex: Duplex<'_>,
    name: &[u8],
    patience: Patience,
) -> Result<Stat> {
    StatReply::read(&ask_bare(duplex, "stat", &PathRequest::new(name), patience)?)
}

/// As [`partial`], with time that is not for this call alone.
pub(in crate::ops::file) fn partial_by(
    duplex: Duplex<'_>,
    name: &[u8],
    patience: Patience,
) -> Result<Transfer> {
    let mut request = PathRequest::new(name);
    request.partial = Some(true);
    let reply = ask_bare(duplex, "stat", &request, patience)?;
    let (bytes, sha256) = StatReply::read_partial(&reply)?;
    Ok(Transfer { bytes, sha256: Some(sha256) })
}

/// As [`list`], with time that is not for this call alone.
pub(in crate::ops::file) fn list_by(
    duplex: Duplex<'_>,
    name: &[u8],
    patience: Patience,
) -> Result<Vec<Entry>> {
    let request = PathRequest::new(name).header("list");
    let (_, mut body) = ask(duplex, &request, patience)?;
    let size = body.left();
    if size > limits::MAX_BODY {
        return Err(Error::new(ErrorKind::TooBig, format!("a list of {size} bytes")));
    }
    let mut text = Vec::new();
    body.for_each_chunk(limits::GROW_STEP, patience, |piece| {
        text.try_reserve(piece.len())
            .map_err(|_| Error::new(ErrorKind::NoMemory, format!("a list of {size} bytes")))?;
        text.extend_from_slice(piece);
        Ok(())
    })
    .map_err(inside)?;
    Entry::read_list(&text)
}

/// As [`make_directory`], with time that is not for this call alone.
pub(in crate::ops::file) fn make_directory_by(
    duplex: Duplex<'_>,
    name: &[u8],
    options: &Options<'_>,
    patience: Patience,
) -> Result<()> {
    let mut request = PathRequest::new(name);
    request.mode = options.store.mode.map(|mode| FileMode(mode & 0o777));
    request.parents = options.store.parents.then_some(true);
    ask_bare(duplex, "mkdir", &request, patience).map(drop)
}

/// Makes the symbolic link `name` on the server.
pub(in crate::ops::file) fn make_link_by(
    duplex: Duplex<'_>,
    name: &[u8],
    target: &[u8],
    options: &Options<'_>,
    patience: Patience,
) -> Result<()> {
    let mut request = PathRequest::new(name).with_target(target);
    request.parents = options.store.parents.then_some(true);
    request.overwrite = (!options.store.overwrite).then_some(false);
    ask_bare(duplex, "symlink", &request, patience).map(drop)
}

fn ask_bare(
    duplex: Duplex<'_>,
    cmd: &str,
    request: &PathRequest,
    patience: Patience,
) -> Result<Header> {
    let (header, body) = ask(duplex, &request.header(cmd), patience)?;
    without_body(header, &body)
}
