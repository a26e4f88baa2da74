//! Names of the library's own files: what is not finished yet, and goes unless it is kept.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rand::TryRng;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, ErrorKind, Result};
use crate::io::root::{refused, stat_leaf};
use crate::wire::name::RESERVED;

/// How the names of temporaries end.
pub(super) const TEMPORARY: &str = ".tmp";

/// A name of the library's own in a directory. On drop it is removed, unless it is to be
/// kept and has something in it.
#[derive(Debug)]
pub(super) struct Temporary {
    pub parent: Arc<OwnedFd>,
    pub name: String,
    pub keep: bool,
    exists: bool,
}

impl Temporary {
    /// What is there under `name`, and is the library's.
    pub fn existing(parent: &Arc<OwnedFd>, name: String, keep: bool) -> Temporary {
        Temporary { parent: Arc::clone(parent), name, keep, exists: true }
    }

    /// A new, locked file for what is to be stored as `target`.
    pub fn create(
        parent: &Arc<OwnedFd>,
        target: &[u8],
        mode: Mode,
    ) -> Result<(Temporary, OwnedFd)> {
        let create = |name: &str| create_file(parent, name, mode);
        Temporary::create_with(parent, target, random_name, create)
    }

    /// A new symbolic link, to be given the name `link`.
    pub fn create_link(parent: &Arc<OwnedFd>, link: &[u8], target: &[u8]) -> Result<Temporary> {
        let create = |name: &str| rustix::fs::symlinkat(target, parent, name);
        Ok(Temporary::create_with(parent, link, random_name, create)?.0)
    }

    /// Tries one of `names` after another: whatever is there already is left alone.
    fn create_with<T>(
        parent: &Arc<OwnedFd>,
        target: &[u8],
        mut names: impl FnMut() -> Result<String>,
        create: impl Fn(&str) -> rustix::io::Result<T>,
    ) -> Result<(Temporary, T)> {
        for _ in 0..ATTEMPTS {
            let name = names()?;
            match create(&name) {
                Ok(new) => return Ok((Temporary::existing(parent, name, false), new)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(refused("store", target, errno)),
            }
        }
        Err(Error::system("no free name for a temporary file", Errno::EXIST))
    }

    /// Takes the place of `leaf`.
    pub fn replace(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        rustix::fs::renameat(&self.parent, &self.name, &self.parent, leaf)?;
        self.exists = false;
        Ok(())
    }

    /// EEXIST where the name is taken.
    pub fn take_free_name(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        let (parent, flags) = (&self.parent, RenameFlags::NOREPLACE);
        match rustix::fs::renameat_with(parent, &self.name, parent, leaf, flags) {
            // Not every file system knows the flag; link(2) never replaces either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(parent, &self.name, parent, leaf, AtFlags::empty())?;
                self.remove();
            }
            renamed => {
                renamed?;
                self.exists = false;
            }
        }
        Ok(())
    }

    /// Takes the place, and the name, of `other`, and is kept from now on.
    pub fn take_over(&mut self, other: &mut Temporary) -> rustix::io::Result<()> {
        rustix::fs::renameat(&self.parent, &self.name, &self.parent, &other.name)?;
        other.exists = false;
        self.name = std::mem::take(&mut other.name);
        self.keep = true;
        Ok(())
    }

    fn remove(&mut self) {
        // Where it fails there is nobody to tell; the name says whose the file is.
        let _ = rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty());
        self.exists = false;
    }

    fn is_empty(&self) -> bool {
        stat_leaf(self.parent.as_fd(), self.name.as_bytes()).is_ok_and(|stat| stat.st_size == 0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.exists && (!self.keep || self.is_empty()) {
            self.remove();
        }
    }
}

fn create_file(parent: &OwnedFd, name: &str, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(parent, name, flags, mode))?;
    // Where it cannot be locked its age alone tells a sweep that it is in use.
    let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    Ok(file)
}

/// Names tried for a temporary. With 64 random bits the first is free, unless somebody
/// knows them beforehand.
const ATTEMPTS: u32 = 8;

fn random_name() -> Result<String> {
    let random = rand::rngs::SysRng
        .try_next_u64()
        .map_err(|error| Error::new(ErrorKind::Io, format!("random bytes: {error}")))?;
    Ok(format!("{RESERVED}{random:016x}{TEMPORARY}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::io::testing::{Tree, names};

    #[test]
    fn a_planted_name_is_left_alone() {
        let tree = Tree::new();
        symlink("../outside/new", tree.path("dangling")).unwrap();
        symlink("../outside/file", tree.path("link")).unwrap();
        let parent = Arc::new(rustix::io::fcntl_dupfd_cloexec(&tree.root, 0).unwrap());
        let create = |names: &[&str]| {
            let mut names = names.iter().cycle();
            let next = || Ok((*names.next().unwrap()).into());
            Temporary::create_with(&parent, b"x", next, |name| {
                create_file(&parent, name, Mode::RWXU)
            })
        };
        let error = create(&["dangling", "link", "old"]).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::EEXIST));
        let (temporary, _file) = create(&["dangling", "link", "free"]).unwrap();
        assert_eq!(temporary.name, "free");
        drop(temporary);
        assert_eq!(tree.names(""), ["dangling", "dir", "link", "old"]);
        assert_eq!(names(&tree.dir.path().join("outside")), ["file"]);
    }
}
