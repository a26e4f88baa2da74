//! An open file under a lock of flock(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, Result};

/// Locks `file`, if its file system has locks. Without them only the digest shows that two have
/// written a partial file at once.
pub(super) fn lock(file: &OwnedFd, operation: FlockOperation) -> Result<()> {
    match flock(file, operation) {
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(()),
        locked => locked,
    }
}

/// A file that is unlocked when this is dropped. Closing it would not be enough: a child that
/// another thread has just started shares it until its execve(2).
#[derive(Debug)]
pub struct Locked(OwnedFd);

impl Locked {
    /// Takes a file that is already locked.
    pub(super) fn new(file: OwnedFd) -> Locked {
        Locked(file)
    }
}

impl AsFd for Locked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // If there are no locks, there is nothing to undo.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
