//! Files: put on a server, got from one, and served.
//!
//! Each request is an exchange of a connection. A failure after a byte of it was accepted
//! breaks the connection, since the rest of the reply must not be taken for the next one. An
//! error reply leaves it in sync. So does a local failure of a get (a full disk, a limit, a
//! `progress` that breaks off) if 1 MiB or less is still to come, which is then dropped.

mod client;
mod content;
mod meter;
mod options;
mod server;
mod transfer;
mod tree;
mod upload;

use std::ops::ControlFlow;

pub use client::{list, mkdir, partial, stat};
pub use options::{Inquiry, Policy, ServeOptions};
pub use server::{Served, serve};
pub use transfer::{Links, Local, Transfer};

pub use crate::io::fs::sweep::sweep;
pub use crate::wire::entry::{Entry, Kind, Stat};

use client::{get_fd, get_path, put_fd, put_path};
use tree::{get_tree, put_tree};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Time;
use crate::ops::frame::Connection;
use crate::wire::digest::Digest;

/// Stores a file on the server, or a tree. The server says what it has stored, and that is
/// compared with what was sent.
///
/// A path is that of a regular file, and all of it is sent, or of a directory for a tree: else
/// [`ErrorKind::Path`]. Of a descriptor the next `length` bytes are sent; without a length,
/// those to the end of a regular file.
///
/// With `resume` the server keeps the bytes of a put that is cut, in a file beside the name.
/// The next put asks for it. If a regular source begins with these bytes, only the rest is
/// sent; else, and to a server that cannot resume, all of it. `offset` is for a caller who
/// knows beforehand how many bytes the server has: these are before where the source stands (of
/// a path, the first ones), and are not sent. They have to be readable for their digest, unless
/// there is no checksum.
///
/// A tree is a directory; files in it on the server that are not sent stay. Each file is stored
/// as one alone would be. The first error ends the put and names the file; those before it are
/// complete. With `resume`, which implies `preserve`, files that the server has with the same
/// size and time of modification do not pass again. With `preserve` the owner of a directory
/// keeps all rights in it, as it could not be filled otherwise. Nothing outside the tree is
/// sent, however it is changed meanwhile. Whatever is neither file, directory nor link is left
/// out and counted; a name that the server would not take is [`ErrorKind::Path`]. `links`
/// decides about links: it is an error to follow one that leads out of the tree, to a directory
/// or to nothing, or to copy one that may lead out.
///
/// The server judges the name. Its error reply is an error of a remote kind, comes after all of
/// the file was sent, and leaves the connection in sync, as [`ErrorKind::Checksum`] does. So
/// does a source that fails before its first byte was read. One that fails later, or ends too
/// early ([`ErrorKind::Truncated`]), breaks the connection.
pub fn put(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    time: impl Into<Time>,
) -> Result<Transferred> {
    what.check_put()?;
    let patience = what.patience(time)?;
    let mut done = Transferred::default();
    let outcome = match what.local {
        Local::Path(path) if what.tree => put_tree(connection, what, path, patience, &mut done),
        Local::Path(path) => put_path(connection, what, path, patience, &mut done),
        Local::Fd(fd) => put_fd(connection, what, fd, patience, &mut done),
    };
    what.conclude(done, outcome)
}

/// Takes a file of the server's, or a tree.
///
/// At a path it is there once it is complete and has matched its digest: until then, and after
/// a failure, the old file stays. With `resume` the bytes of a get that is cut are kept in a
/// file beside it, and the next one goes on from there; if the server's file begins with others
/// by then, it starts over.
///
/// A descriptor has the bytes that came even after a failure. With an `offset` the caller has
/// so many bytes of the file already: only the rest is asked for. They are those before where
/// the descriptor stands, and have to be readable for their digest, unless there is no checksum.
/// [`ErrorKind::RemoteChecksum`] says that the server's file begins with others,
/// [`ErrorKind::RemoteBadRequest`] that it is shorter.
///
/// A tree goes to a directory, which is made if it is missing; files in it that do not come
/// stay. Each file is taken as one alone would be. The first error ends the get and names the
/// file; those before it are complete. With `resume`, which implies `preserve`, files that are
/// here with the same size and time of modification do not pass again. `preserve` gives the
/// directories that are made here their mode as well. A name that is not one acceptable
/// component is [`ErrorKind::Path`], as is a tree deeper than a name can be; two entries of one
/// name are [`ErrorKind::BadReply`]. Links are made here with [`Links::Copy`] alone, and only
/// such as cannot lead out of the tree.
///
/// The server has no say in where anything goes. An error reply and [`ErrorKind::Checksum`]
/// leave the connection in sync. So does a local failure, such as a full disk or a file above
/// `max_size`, if 1 MiB or less of the file is still to come and comes within a second. Every
/// other failure breaks the connection once the request was accepted.
pub fn get(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    time: impl Into<Time>,
) -> Result<Transferred> {
    what.check_get()?;
    let patience = what.patience(time)?;
    let mut done = Transferred::default();
    let outcome = match what.local {
        Local::Path(path) if what.tree => get_tree(connection, what, path, patience, &mut done),
        Local::Path(path) => get_path(connection, what, path, patience, &mut done),
        Local::Fd(fd) => get_fd(connection, what, fd, patience, &mut done),
    };
    what.conclude(done, outcome)
}

/// Told after each piece the name of the file, how many bytes have passed, and of how many;
/// may break off. In a tree the bytes are those of the whole tree.
pub type Progress<'a> = &'a dyn Fn(&[u8], u64, u64) -> ControlFlow<()>;

/// What has passed: a file, or what is in a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Bytes of the files, whether all of them had to pass or not. In a tree, files that were
    /// the same on both sides do not count.
    pub bytes: u64,
    /// Regular files that passed, or were the same on both sides.
    pub files: u64,
    /// Directories, that of the tree itself included.
    pub directories: u64,
    /// Symbolic links that were made.
    pub links: u64,
    /// Links, devices and whatever else was left out.
    pub skipped: u64,
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

/// What a server has of a put that was cut.
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
