//! An unfinished file of the library: its name, its lock and its descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::locked::Locked;
use crate::io::fs::temporary::Temporary;

/// A locked file with a name of the library. On drop the name is removed, unless the file is to
/// be kept and is not empty, and then the lock. The next holder of the lock can tell by the name
/// whether there is anything to continue.
#[derive(Debug)]
pub(super) struct OwnFile {
    // The order of the fields is the order in which they are dropped.
    name: Temporary,
    file: Locked,
}

impl OwnFile {
    /// A new one, for a file to be stored as `target`. It is not kept.
    pub fn create(parent: &Arc<OwnedFd>, target: &[u8], mode: Mode) -> Result<OwnFile> {
        let mut created = None;
        let name = Temporary::create(parent, target, &mut |name| {
            created = Some(create_file(parent.as_fd(), name, mode)?);
            Ok(())
        })?;
        let none = || Error::new(ErrorKind::State, "there is no temporary file");
        Ok(OwnFile { name, file: created.ok_or_else(none)? })
    }

    /// The file of the library under `name`. It is kept.
    pub fn existing(parent: &Arc<OwnedFd>, name: String, file: Locked) -> OwnFile {
        OwnFile { name: Temporary::existing(parent, name, true), file }
    }

    /// The directory that it is in.
    pub fn parent(&self) -> &Arc<OwnedFd> {
        &self.name.parent
    }

    /// The file is not kept, unless it gets its final name.
    pub fn give_up(&mut self) {
        self.name.keep = false;
    }

    /// Replaces `leaf`.
    pub fn replace(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        self.name.replace(leaf)
    }

    /// EEXIST if the name is taken.
    pub fn take_free_name(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        self.name.take_free_name(leaf)
    }

    /// Replaces `other` under its name, and is kept from now on.
    pub fn take_over(&mut self, mut other: OwnFile) -> rustix::io::Result<()> {
        self.name.take_over(&mut other.name)
    }
}

impl AsFd for OwnFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn create_file(parent: BorrowedFd<'_>, name: &[u8], mode: Mode) -> rustix::io::Result<Locked> {
    let file = at::open(parent, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)?;
    // If it cannot be locked, only its age shows a sweep that it is in use.
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    Ok(Locked::new(file))
}
