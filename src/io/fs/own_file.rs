//! A file of the library's own that is being written: its name, its lock and its descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::locked::Locked;
use crate::io::fs::temporary::Temporary;

/// A file under a name of the library's own, and under a lock. On drop it loses the name,
/// unless it is to be kept and has something in it, and then the lock: whoever gets the
/// lock after this can tell by the name whether there is anything to go on with.
#[derive(Debug)]
pub(super) struct OwnFile {
    // The fields are dropped in this order, and are never taken apart.
    name: Temporary,
    file: Locked,
}

impl OwnFile {
    /// A new one, for a file that is to be stored as `target`. It is not kept.
    pub fn create(parent: &Arc<OwnedFd>, target: &[u8], mode: Mode) -> Result<OwnFile> {
        let mut created = None;
        let name = Temporary::create(parent, target, &mut |name| {
            created = Some(create_file(parent.as_fd(), name, mode)?);
            Ok(())
        })?;
        let none = || Error::new(ErrorKind::State, "there is no temporary file");
        Ok(OwnFile { name, file: created.ok_or_else(none)? })
    }

    /// The file under `name`, which is the library's. It is kept.
    pub fn existing(parent: &Arc<OwnedFd>, name: String, file: Locked) -> OwnFile {
        OwnFile { name: Temporary::existing(parent, name, true), file }
    }

    /// The directory that it is in.
    pub fn parent(&self) -> &Arc<OwnedFd> {
        &self.name.parent
    }

    /// Nothing is left of it, unless it gets its final name.
    pub fn give_up(&mut self) {
        self.name.keep = false;
    }

    /// Takes the place of `leaf`.
    pub fn replace(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        self.name.replace(leaf)
    }

    /// EEXIST if the name is taken.
    pub fn take_free_name(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        self.name.take_free_name(leaf)
    }

    /// Takes the place, and the name, of `other`, and is kept from now on.
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
    // If it cannot be locked, its age alone tells a sweep that it is in use.
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    Ok(Locked::new(file))
}
