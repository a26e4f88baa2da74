//! What a client puts or gets, and how. What cannot apply is refused, and named.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use super::{Progress, Transferred};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Patience, Time};
use crate::io::fs::store::StoreOptions;
use crate::limits;

/// A file or a tree, at the peer and here. A member that does not apply to a transfer is
/// [`ErrorKind::Argument`] unless it has its default.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Transfer<'a> {
    /// Its name at the peer; empty, for a tree, is the root.
    pub name: &'a [u8],
    /// What it is here.
    pub local: Local<'a>,
    /// It is a directory, with all that is in it.
    pub tree: bool,
    /// Put of a descriptor: how many bytes. A regular file has its own length.
    pub length: Option<u64>,
    /// Bytes of the file that the receiving side has already: those of the source, or of the
    /// destination, before where it stands.
    pub offset: u64,
    /// Permission bits of the file that is stored, less the umask there. The default is 0666.
    pub mode: Option<u32>,
    /// Its time of modification in milliseconds since 1970; by default, now.
    pub mtime: Option<i64>,
    /// Whether it may replace a file.
    pub overwrite: bool,
    /// Put: directories that are missing on the way to it are made.
    pub parents: bool,
    /// Get of a path or a tree: whether it returns only when the files would survive a power
    /// loss.
    pub sync: bool,
    /// The mode and the time of modification of the source are taken along.
    pub preserve: bool,
    /// The bytes of a file that is cut are kept, and the next time goes on from there. Files of
    /// a tree that are the same on both sides are passed over.
    pub resume: bool,
    /// Whether the digest of the content passes as well, and is compared.
    pub checksum: bool,
    /// Put: whether the server replies. One that does not knows neither checksums nor options.
    pub reply: bool,
    /// What becomes of symbolic links in a tree.
    pub links: Links,
    /// Get: bytes that are taken of a file; `None` has no limit.
    pub max_size: Option<u64>,
    /// Bytes of content in a second; `None` is as fast as it goes. A get asks the server to
    /// keep to it as well. A server that receives slows the client down by not reading on: the
    /// client sees that go on in steps of up to 64 KiB, so below 4 KiB/s it may take it for a
    /// stall.
    pub rate: Option<u64>,
    /// How long it goes on without a byte; `None` is for ever.
    pub stall: Option<Duration>,
    /// Told after each piece.
    pub progress: Option<Progress<'a>>,
    /// Set when the call ends, also when it fails: how far it came.
    pub so_far: Option<&'a Cell<Transferred>>,
}

/// A file or a directory here.
#[derive(Clone, Copy, Debug)]
pub enum Local<'a> {
    /// At a path.
    Path(&'a Path),
    /// A descriptor, which is borrowed: of a file, from where it stands, or of a pipe or a
    /// socket.
    Fd(BorrowedFd<'a>),
}

/// What a client does about the symbolic links of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// Leaves them out, and counts them.
    #[default]
    Skip,
    /// Ends with [`ErrorKind::Path`] at the first.
    Refuse,
    /// Puts what they lead to, as long as that is within the tree.
    Follow,
    /// Makes the same links on the other side.
    Copy,
}

impl<'a> Transfer<'a> {
    /// The file at a path here.
    pub fn path(name: &'a [u8], path: &'a Path) -> Transfer<'a> {
        Transfer::new(name, Local::Path(path))
    }

    /// The directory at a path here, with all that is in it.
    pub fn tree(name: &'a [u8], path: &'a Path) -> Transfer<'a> {
        Transfer { tree: true, ..Transfer::path(name, path) }
    }

    /// A descriptor.
    pub fn fd(name: &'a [u8], fd: BorrowedFd<'a>) -> Transfer<'a> {
        Transfer::new(name, Local::Fd(fd))
    }

    fn new(name: &'a [u8], local: Local<'a>) -> Transfer<'a> {
        Transfer {
            name,
            local,
            tree: false,
            length: None,
            offset: 0,
            mode: None,
            mtime: None,
            overwrite: true,
            parents: false,
            sync: true,
            preserve: false,
            resume: false,
            checksum: true,
            reply: true,
            links: Links::Skip,
            max_size: None,
            rate: None,
            stall: Some(limits::STALL_TIMEOUT),
            progress: None,
            so_far: None,
        }
    }

    /// Refuses what cannot apply to a put.
    pub(super) fn check_put(&self) -> Result<()> {
        refuse("a put", [("max_size", self.max_size.is_some()), ("sync", !self.sync)])?;
        if !self.reply {
            refuse("a put to a server that does not reply", self.asked_for())?;
        }
        if self.tree {
            return self.check_tree();
        }
        let is_path = matches!(self.local, Local::Path(_));
        refuse("a put of a path", [("length", is_path && self.length.is_some())])?;
        refuse("a single file", [("links", self.links != Links::Skip)])
    }

    /// Refuses what cannot apply to a get.
    pub(super) fn check_get(&self) -> Result<()> {
        let members = [("parents", self.parents), ("reply", !self.reply)];
        refuse("a get", members)?;
        refuse("a get", [("length", self.length.is_some())])?;
        if self.tree {
            refuse(
                "a get: a server's links are not followed",
                [("links", self.links == Links::Follow)],
            )?;
            return self.check_tree();
        }
        refuse("a single file", [("links", self.links != Links::Skip)])?;
        match self.local {
            Local::Path(_) => refuse("a get to a path", [("offset", self.offset > 0)]),
            Local::Fd(_) => {
                refuse("a get to a descriptor", [("sync", !self.sync)])?;
                let unlike = Transfer { offset: 0, ..*self };
                refuse("a get to a descriptor", unlike.asked_for())
            }
        }
    }

    fn check_tree(&self) -> Result<()> {
        let is_fd = matches!(self.local, Local::Fd(_));
        refuse(
            "a tree",
            [
                ("fd", is_fd),
                ("length", self.length.is_some()),
                ("offset", self.offset > 0),
                ("reply", !self.reply),
            ],
        )
    }

    /// What a file that is stored may be asked to have.
    fn asked_for(&self) -> [(&'static str, bool); 7] {
        [
            ("offset", self.offset > 0),
            ("mode", self.mode.is_some()),
            ("mtime", self.mtime.is_some()),
            ("overwrite", !self.overwrite),
            ("parents", self.parents),
            ("preserve", self.preserve),
            ("resume", self.resume),
        ]
    }

    /// How a get stores what comes.
    pub(super) fn store(&self) -> StoreOptions {
        let Transfer { mode, mtime, overwrite, sync, .. } = *self;
        StoreOptions { mode, mtime, overwrite, sync, parents: false }
    }

    /// How long it may take.
    pub(super) fn patience(&self, time: impl Into<Time>) -> Result<Patience> {
        Ok(Patience { deadline: to_wait(time)?.deadline, stall: self.stall })
    }

    /// Says how far it came.
    pub(super) fn conclude(&self, done: Transferred, outcome: Result<()>) -> Result<Transferred> {
        if let Some(so_far) = self.so_far {
            so_far.set(done);
        }
        outcome.map(|()| done)
    }
}

/// How long a request may take. It has to wait for its reply: no time at all is refused.
pub(super) fn to_wait(time: impl Into<Time>) -> Result<Patience> {
    let mut time = time.into();
    if time.is_none() {
        return Err(Error::new(ErrorKind::Argument, "a request has to wait for its reply"));
    }
    Ok(time.patience())
}

/// Refuses the first of the members that is set.
fn refuse<const N: usize>(what: &str, members: [(&str, bool); N]) -> Result<()> {
    match members.iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((member, _)) => {
            let detail = format!("{member} does not apply to {what}");
            Err(Error::new(ErrorKind::Argument, detail))
        }
    }
}
