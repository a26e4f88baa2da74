//! The options of a put or a get. An option that does not apply is refused, and named.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use super::{Progress, Transferred};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Time, TimeLimit};
use crate::io::fs::store::StoreOptions;
use crate::limits;

/// A file or a tree, at the peer and here. A member that does not apply to a transfer is
/// [`ErrorKind::Argument`] unless it has its default.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Transfer<'a> {
    /// Its name at the peer; empty is the root, for a tree only.
    pub name: &'a [u8],
    /// The local file.
    pub local: Local<'a>,
    /// It is a directory, with everything in it.
    pub tree: bool,
    /// Put of a descriptor: the number of bytes. A regular file has its own length.
    pub length: Option<u64>,
    /// Bytes of the file that the receiving side already has: those before the offset of the
    /// source or of the destination.
    pub offset: u64,
    /// Permission bits of the stored file, reduced by the umask there. By default a file that is
    /// replaced keeps its own, and a new one gets those of the source, or 0666 if it has none.
    pub mode: Option<u32>,
    /// Its modification time in milliseconds since 1970; by default, now.
    pub mtime: Option<i64>,
    /// Whether it may replace a file.
    pub overwrite: bool,
    /// A file that is there gets the new content, and stays the same file: with its owner, its
    /// access control list and its other names, and where it cannot be replaced.
    pub in_place: bool,
    /// Put: missing parent directories are made.
    pub parents: bool,
    /// Get of a path or a tree: whether it returns only when the files would survive a power
    /// failure.
    pub sync: bool,
    /// The mode and the modification time of the source are preserved, also if a file is
    /// replaced.
    pub preserve: bool,
    /// The bytes of an interrupted transfer are kept, and the next one continues there. Files of
    /// a tree that are the same on both sides are skipped.
    pub resume: bool,
    /// Whether the digest of the content is sent as well, and is compared.
    pub checksum: bool,
    /// Put: whether the server replies. A server that does not knows neither checksums nor
    /// options.
    pub reply: bool,
    /// The treatment of symbolic links in a tree.
    pub links: Links,
    /// Get: the largest file that is accepted, in bytes; `None` has no limit.
    pub max_size: Option<u64>,
    /// Bytes of content per second; `None` is no limit. A get asks the server to keep to it as
    /// well. A receiving server slows the client down by not reading. The client then makes
    /// progress in steps of up to 64 KiB, so below 4 KiB/s it may report a stall.
    pub rate: Option<u64>,
    /// How long it may go without a byte; `None` is forever.
    pub stall: Option<Duration>,
    /// Called after each piece.
    pub progress: Option<Progress<'a>>,
    /// Set when the call ends, also after a failure: how far it came.
    pub so_far: Option<&'a Cell<Transferred>>,
}

/// A local file or directory.
#[derive(Clone, Copy, Debug)]
pub enum Local<'a> {
    /// At a path.
    Path(&'a Path),
    /// A borrowed descriptor: a regular file, from its offset, or a pipe or a socket.
    Fd(BorrowedFd<'a>),
}

/// How a client treats the symbolic links of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// Skips them, and counts them.
    #[default]
    Skip,
    /// Ends with [`ErrorKind::Path`] at the first one.
    Refuse,
    /// Puts their targets, which must be within the tree.
    Follow,
    /// Makes the same links on the other side.
    Copy,
}

impl<'a> Transfer<'a> {
    /// The local file at a path.
    pub fn path(name: &'a [u8], path: &'a Path) -> Transfer<'a> {
        Transfer::new(name, Local::Path(path))
    }

    /// The local directory at a path, with everything in it.
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
            in_place: false,
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

    /// Refuses options that do not apply to a put.
    pub(super) fn check_put(&self) -> Result<()> {
        self.check_place()?;
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

    /// Refuses options that do not apply to a get.
    pub(super) fn check_get(&self) -> Result<()> {
        self.check_place()?;
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

    fn check_place(&self) -> Result<()> {
        let in_place = self.in_place && !self.overwrite;
        refuse("a transfer that overwrites no file", [("in_place", in_place)])
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

    /// The attributes that a put requests for the stored file.
    fn asked_for(&self) -> [(&'static str, bool); 8] {
        [
            ("offset", self.offset > 0),
            ("mode", self.mode.is_some()),
            ("mtime", self.mtime.is_some()),
            ("overwrite", !self.overwrite),
            ("in_place", self.in_place),
            ("parents", self.parents),
            ("preserve", self.preserve),
            ("resume", self.resume),
        ]
    }

    /// How a get stores the content.
    pub(super) fn store(&self) -> StoreOptions {
        let Transfer { mode, mtime, overwrite, in_place, sync, .. } = *self;
        StoreOptions { mode, mtime, overwrite, in_place, sync, ..StoreOptions::DEFAULT }
    }

    /// How long it may take.
    pub(super) fn time_limit(&self, time: impl Into<Time>) -> Result<TimeLimit> {
        Ok(TimeLimit { deadline: to_wait(time)?.deadline, stall: self.stall })
    }

    /// Records how far it came.
    pub(super) fn conclude(&self, done: Transferred, outcome: Result<()>) -> Result<Transferred> {
        if let Some(so_far) = self.so_far {
            so_far.set(done);
        }
        outcome.map(|()| done)
    }
}

/// How long a request may take. It must wait for its reply, so a timeout of zero is refused.
pub(super) fn to_wait(time: impl Into<Time>) -> Result<TimeLimit> {
    let mut time = time.into();
    if time.is_none() {
        return Err(Error::new(ErrorKind::Argument, "a request has to wait for its reply"));
    }
    Ok(time.time_limit())
}

/// Refuses the first of the members that is set.
pub(super) fn refuse<const N: usize>(what: &str, members: [(&str, bool); N]) -> Result<()> {
    match members.iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((member, _)) => {
            let detail = format!("{member} does not apply to {what}");
            Err(Error::new(ErrorKind::Argument, detail))
        }
    }
}
