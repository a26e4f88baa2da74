//! Files: put to a server, fetched from one, and served.
//!
//! Each request is an exchange on a connection. A failure after a byte of it was accepted breaks
//! the connection, because the rest of the reply must not be taken for the next one. An error
//! reply leaves it in sync. So does a local failure of a get (a full disk, a limit, a `progress`
//! that cancels) if 1 MiB or less is left to receive; that is then dropped.

mod asking;
mod client;
mod content;
mod meter;
mod mirror;
mod options;
mod server;
mod transfer;
mod tree;
mod upload;

use std::ops::ControlFlow;
use std::path::Path;

pub use client::{list, mkdir, partial, stat};
pub use mirror::{Change, Mirror};
pub use options::{Choice, Inquiry, Policy, Rights, ServeOptions};
pub use server::{Served, serve};
pub use transfer::{Links, Local, Transfer};

pub use crate::io::fs::sweep::sweep;
pub use crate::wire::entry::{Entry, Kind, Stat};

use client::{get_fd, get_path, put_fd, put_path};
use tree::{get_mirror, get_tree, put_mirror, put_tree};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Time, TimeLimit};
use crate::ops::frame::Connection;
use crate::wire::digest::Digest;

/// Stores a file or a tree on the server. The digest in the server's reply is compared with that
/// of the sent file.
///
/// A path must be a regular file, which is sent whole, or for a tree a directory: otherwise
/// [`ErrorKind::Path`]. From a descriptor the next `length` bytes are sent; without a length,
/// those up to the end of a regular file.
///
/// With `resume` the server keeps the bytes of an interrupted put in a partial file. The next
/// put asks for it. If a regular source begins with these bytes, only the rest is sent.
/// Otherwise, and to a server that cannot resume, the whole file is sent. `offset` is for a
/// caller who already knows how many bytes the server has. They are the bytes before the offset
/// of the source (of a path, the first ones), and are not sent. They must be readable for the
/// digest, unless there is no checksum.
///
/// A tree is a directory; other files in it on the server stay. Each file is stored like a single
/// one. What cannot be transferred, or vanishes meanwhile, is left out and counted; at the end
/// that is [`ErrorKind::Incomplete`], which names the first. An error that is not one file's alone
/// ends the put. With `resume`, which implies `preserve`, files of the same size and modification
/// time on the server are not sent again. With `preserve` the owner of a directory keeps all
/// permissions in it, since it could not be filled otherwise. Nothing outside the tree is sent,
/// even if it is changed meanwhile. `links` decides about links. An entry that is not a file,
/// directory or link is skipped and counted, and so is a link that leads out of the tree, or is to
/// be followed and leads to a directory or to nothing.
///
/// The server checks the name. Its error reply is an error of a remote kind. It leaves the
/// connection in sync, unless more than 8 MiB were left to send; so do [`ErrorKind::Checksum`] and
/// a source that fails before its first byte was read. A source that fails later, or ends too
/// early ([`ErrorKind::Truncated`]), breaks the connection.
pub fn put(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    time: impl Into<Time>,
) -> Result<Transferred> {
    what.check_put()?;
    let time_limit = what.time_limit(time)?;
    let mut done = Transferred::default();
    let outcome = match what.local {
        Local::Path(path) if what.tree => put_tree(connection, what, path, time_limit, &mut done),
        Local::Path(path) => put_path(connection, what, path, time_limit, &mut done),
        Local::Fd(fd) => put_fd(connection, what, fd, time_limit, &mut done),
    };
    what.conclude(done, outcome)
}

/// Fetches a file or a tree from the server.
///
/// A file appears at a path once it is complete and matches its digest. Until then, and after a
/// failure, the old file stays. With `resume` the bytes of an interrupted get are kept in a
/// partial file, and the next one continues it; if the server's file begins with other bytes by
/// then, it starts over.
///
/// A descriptor gets all bytes that are received, also before a failure. With an `offset` the
/// caller already has that many bytes of the file, before the descriptor's offset, and only the
/// rest is requested. They must be readable for the digest, unless there is no checksum.
/// [`ErrorKind::RemoteChecksum`]: the server's file begins with other bytes.
/// [`ErrorKind::RemoteBadRequest`]: it is shorter.
///
/// A tree is written to a directory, which is made if it is missing; other files in it stay. Each
/// file is fetched like a single one. What cannot be fetched is left out, as by a put. With
/// `resume`, which implies `preserve`, local files of the same size and modification time are not
/// fetched again. New directories get the mode of the server's. A name that is not one acceptable
/// component is [`ErrorKind::Path`]; two entries of one name are [`ErrorKind::BadReply`]. Links
/// are made only with [`Links::Copy`]; those that could lead out of the tree are skipped and
/// counted.
///
/// The server cannot choose where files are written. An error reply and [`ErrorKind::Checksum`]
/// leave the connection in sync. So does a local failure, such as a full disk or a file above
/// `max_size`, if 1 MiB or less of the file is left and is received within a second. Every other
/// failure breaks the connection once the request was accepted.
pub fn get(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    time: impl Into<Time>,
) -> Result<Transferred> {
    what.check_get()?;
    let time_limit = what.time_limit(time)?;
    let mut done = Transferred::default();
    let outcome = match what.local {
        Local::Path(path) if what.tree => get_tree(connection, what, path, time_limit, &mut done),
        Local::Path(path) => get_path(connection, what, path, time_limit, &mut done),
        Local::Fd(fd) => get_fd(connection, what, fd, time_limit, &mut done),
    };
    what.conclude(done, outcome)
}

/// Brings a tree of the server into line with a local one, as [`put`] sends a tree. It cannot
/// remove anything, since no request does. To a server from which this client may not get files,
/// files are sent whole if only their mode or time differs.
pub fn mirror_put(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    mirror: &Mirror<'_>,
    time: impl Into<Time>,
) -> Result<Transferred> {
    what.check_put()?;
    transfer::refuse("a put", [("remove", mirror.remove)])?;
    mirrored(connection, what, mirror, time.into(), put_mirror)
}

/// Brings a local tree into line with one of the server, as [`get`] fetches a tree.
pub fn mirror_get(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    mirror: &Mirror<'_>,
    time: impl Into<Time>,
) -> Result<Transferred> {
    what.check_get()?;
    mirrored(connection, what, mirror, time.into(), get_mirror)
}

type Mirroring = fn(
    &mut Connection<'_>,
    (&Transfer<'_>, &Mirror<'_>),
    &Path,
    TimeLimit,
    &mut Transferred,
) -> Result<()>;

fn mirrored(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    mirror: &Mirror<'_>,
    time: Time,
    work: Mirroring,
) -> Result<Transferred> {
    let what = mirror::of_tree(what)?;
    let time_limit = what.time_limit(time)?;
    let mut done = Transferred::default();
    let outcome = match what.local {
        Local::Path(path) => work(connection, (&what, mirror), path, time_limit, &mut done),
        Local::Fd(_) => Err(Error::new(ErrorKind::Argument, "fd does not apply to a tree")),
    };
    what.conclude(done, outcome)
}

/// Called after each piece, and once for an empty file, with the name of the file, the bytes done
/// and the total; it may cancel the transfer. In a tree the bytes are those of the whole tree.
pub type Progress<'a> = &'a dyn Fn(&[u8], u64, u64) -> ControlFlow<()>;

/// Result of a transfer of a file or a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Bytes of the files, including those that did not have to be transferred. In a tree, files
    /// that were the same on both sides do not count.
    pub bytes: u64,
    /// Regular files that were transferred, or were the same on both sides.
    pub files: u64,
    /// Directories, including that of the tree itself.
    pub directories: u64,
    /// Symbolic links that were made.
    pub links: u64,
    /// Links, devices and other entries that were skipped.
    pub skipped: u64,
    /// Entries of a tree that could not be transferred.
    pub failed: u64,
    /// The digest of the whole file, if one was computed; not of a tree.
    pub sha256: Option<Digest>,
}

impl Transferred {
    fn check(&self, expected: Option<Digest>) -> Result<()> {
        match (self.sha256, expected) {
            (Some(found), Some(expected)) if found != expected => Err(Error::new(
                ErrorKind::Checksum,
                format!("the content has {found}, and should have {expected}"),
            )),
            _ => Ok(()),
        }
    }
}

/// The part that a server has of an interrupted put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialFile {
    /// Bytes of it.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
}

fn check_size(size: u64, max: u64) -> Result<()> {
    if size > max {
        let detail = format!("a file of {size} bytes, the limit is {max}");
        return Err(Error::new(ErrorKind::TooBig, detail));
    }
    Ok(())
}
