//! An unfinished file of the library: its name, its lock and its descriptor.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::locked::Locked;
use crate::io::fs::temporary::Temporary;

/// A locked file with a name of the library, or without one until it is complete: then a process
/// that is killed leaves nothing. On drop the name is removed, unless the file is to
/// be kept and is not empty, and then the lock. The next holder of the lock can tell by the name
/// whether there is anything to continue.
///
/// The name of a partial file is known to others. One that takes it over gives its name to a new
/// file, at any moment. So before such a file is renamed or removed, it is moved to a name that
/// nobody knows, where nobody replaces it any more.
#[derive(Debug)]
pub(super) struct OwnFile {
    // The order of the fields is the order in which they are dropped.
    name: Temporary,
    file: Locked,
    is_partial: bool,
    keep: bool,
}

impl OwnFile {
    /// A new one, for a file to be stored as `target`. It is not kept. It has no name if the file
    /// system and /proc allow it to get one later.
    pub fn create(parent: &Arc<OwnedFd>, target: &[u8], mode: Mode) -> Result<OwnFile> {
        match at::open(parent.as_fd(), b".", OFlags::RDWR | OFlags::TMPFILE, mode) {
            // The name is taken: all but the last step of linkat(2) is possible, in a sandbox too.
            Ok(file) if at::link(&linked(file.as_fd()), parent.as_fd(), b".") == TAKEN => {
                Ok(OwnFile::new(Temporary::unused(parent)?, locked(file)))
            }
            _ => OwnFile::named(parent, target, mode),
        }
    }

    /// As [`create`](Self::create), with a name from the beginning.
    fn named(parent: &Arc<OwnedFd>, target: &[u8], mode: Mode) -> Result<OwnFile> {
        let mut created = None;
        let name = Temporary::create(parent, target, &mut |name| {
            created = Some(create_file(parent.as_fd(), name, mode)?);
            Ok(())
        })?;
        let none = || Error::new(ErrorKind::State, "there is no temporary file");
        Ok(OwnFile::new(name, created.ok_or_else(none)?))
    }

    fn new(name: Temporary, file: Locked) -> OwnFile {
        OwnFile { name, file, is_partial: false, keep: false }
    }

    /// The partial file under `name`. It is kept.
    pub fn existing(parent: &Arc<OwnedFd>, name: String, file: Locked) -> OwnFile {
        let name = Temporary::existing(parent, name);
        OwnFile { name, file, is_partial: true, keep: true }
    }

    /// The same, but another has locked it: it can only be replaced.
    pub fn taken(parent: &Arc<OwnedFd>, name: String, file: Locked) -> OwnFile {
        let mut taken = OwnFile::existing(parent, name, file);
        taken.name.exists = false;
        taken
    }

    /// The directory that it is in.
    pub fn parent(&self) -> &Arc<OwnedFd> {
        &self.name.parent
    }

    /// The file is not kept, unless it gets its final name.
    pub fn give_up(&mut self) {
        self.keep = false;
    }

    /// Whether another has taken over this partial file.
    pub fn is_lost(&self) -> bool {
        self.is_partial && rustix::fs::fstat(&self.file).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Moves a partial file to a name that nobody knows. EEXIST if another has taken it over.
    pub fn claim(&mut self) -> rustix::io::Result<()> {
        if !self.is_partial || !self.name.exists {
            return Ok(());
        }
        if self.is_named()? {
            let dir = Arc::clone(self.parent());
            let mut known = Temporary::unused(&dir).map_err(|_| Errno::IO)?;
            match self.name.replace(&dir, known.name.as_bytes()) {
                // Another is doing the same.
                Err(Errno::NOENT) => return Err(Errno::EXIST),
                moved => moved?,
            }
            known.exists = true;
            std::mem::swap(&mut self.name, &mut known);
            if self.is_named()? {
                self.is_partial = false;
                return Ok(());
            }
            // It was taken over meanwhile. Nobody has missed the new one yet, unless a third has the
            // name by now: then that one has taken it over as well.
            if self.name.take_free_name(&dir, known.name.as_bytes()) == TAKEN {
                self.name.remove();
            }
        }
        self.name.exists = false;
        Err(Errno::EXIST)
    }

    /// Replaces `leaf` in `dir`.
    pub fn replace(&mut self, dir: &OwnedFd, leaf: &[u8]) -> rustix::io::Result<()> {
        self.give_name()?;
        self.name.replace(dir, leaf)
    }

    /// Takes the name `leaf` in `dir`; EEXIST if it is taken.
    pub fn take_free_name(&mut self, dir: &OwnedFd, leaf: &[u8]) -> rustix::io::Result<()> {
        if self.name.exists {
            return self.name.take_free_name(dir, leaf);
        }
        self.link(dir, leaf)
    }

    /// The same, for a name of the library: it is kept from now on.
    pub fn move_to(&mut self, dir: &Arc<OwnedFd>, name: String) -> rustix::io::Result<()> {
        self.take_free_name(dir, name.as_bytes())?;
        self.name = Temporary::existing(dir, name);
        (self.is_partial, self.keep) = (true, true);
        Ok(())
    }

    /// Replaces the partial file `other` under its name, and is kept from now on. EEXIST if that
    /// is not there any more.
    pub fn take_over(&mut self, mut other: OwnFile) -> rustix::io::Result<()> {
        if !other.is_named()? {
            return Err(Errno::EXIST);
        }
        self.give_name()?;
        self.name.take_over(&mut other.name)?;
        (self.is_partial, self.keep) = (true, true);
        Ok(())
    }

    /// Gives the file the name of the library that it does without until it is complete. ENOENT
    /// if somebody has given its name to another file.
    fn give_name(&mut self) -> rustix::io::Result<()> {
        if !self.name.exists {
            self.link(self.parent(), self.name.name.as_bytes())?;
            self.name.exists = true;
            return Ok(());
        }
        if self.is_named()? { Ok(()) } else { Err(Errno::NOENT) }
    }

    /// Whether its name leads to it.
    fn is_named(&self) -> rustix::io::Result<bool> {
        at::leads_to(self.parent().as_fd(), self.name.name.as_bytes(), self.file.as_fd())
    }

    fn link(&self, dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
        at::link(&linked(self.file.as_fd()), dir.as_fd(), name)
    }
}

impl AsFd for OwnFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let is_empty = || rustix::fs::fstat(&self.file).is_ok_and(|stat| stat.st_size == 0);
        if self.keep && !is_empty() {
            self.name.exists = false;
        } else {
            // If it cannot be moved, it is removed under the name that it has.
            let _ = self.claim();
        }
    }
}

/// Leads to an open file. linkat(2) takes the descriptor itself from privileged processes only.
fn linked(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

const TAKEN: rustix::io::Result<()> = Err(Errno::EXIST);

fn create_file(parent: BorrowedFd<'_>, name: &[u8], mode: Mode) -> rustix::io::Result<Locked> {
    at::open(parent, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode).map(locked)
}

/// If it cannot be locked, only its age shows a sweep that it is in use.
fn locked(file: OwnedFd) -> Locked {
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    Locked::new(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::io::fs::store::StoreOptions;
    use crate::io::testing::{Tree, failing};

    type Create = fn(&Arc<OwnedFd>, &[u8], Mode) -> Result<OwnFile>;

    /// With and without a name.
    const KINDS: [Create; 2] = [OwnFile::create, OwnFile::named];

    #[test]
    fn with_or_without_a_name_it_gets_its_final_one() {
        for create in KINDS {
            let tree = Tree::new();
            let parent = Arc::new(OwnedFd::from(tree.root.try_clone().unwrap()));
            let new = || {
                let file = create(&parent, b"x", Mode::RUSR | Mode::WUSR).unwrap();
                rustix::io::write(&file, b"new").unwrap();
                file
            };
            drop(new());
            tree.assert_untouched();
            assert_eq!(new().take_free_name(&parent, b"old"), Err(Errno::EXIST));
            tree.assert_untouched();
            new().take_free_name(&parent, b"free").unwrap();
            new().replace(&parent, b"old").unwrap();
            new().replace(&parent, b"another").unwrap();
            assert_eq!(tree.names(""), ["another", "dir", "free", "old"]);
            for name in ["another", "free", "old"] {
                assert_eq!(tree.read(name), "new");
                assert_eq!(fs::metadata(tree.path(name)).unwrap().nlink(), 1);
            }
            let mut file = new();
            file.take_over(OwnFile::named(&parent, b"x", Mode::RUSR).unwrap()).unwrap();
            drop(file);
            assert_eq!(tree.names("").len(), 5, "it is kept");
        }
    }

    #[test]
    fn in_a_sandbox_without_linkat_it_has_a_name() {
        for errno in [Errno::PERM, Errno::NOSYS] {
            let tree = Tree::new();
            let no_link = [(libc::SYS_linkat, errno)];
            let options = StoreOptions { sync: false, ..StoreOptions::DEFAULT };
            failing(&no_link, || tree.store("old", b"new", options)).unwrap();
            assert_eq!((tree.names("").len(), tree.read("old")), (2, "new".into()));
        }
    }

    #[test]
    fn a_name_that_another_file_has_got_is_not_renamed() {
        let tree = Tree::new();
        let parent = Arc::new(OwnedFd::from(tree.root.try_clone().unwrap()));
        let mut file = OwnFile::named(&parent, b"x", Mode::RUSR).unwrap();
        fs::remove_file(tree.path(&file.name.name)).unwrap();
        fs::write(tree.path(&file.name.name), "another's").unwrap();
        assert_eq!(file.replace(&parent, b"old"), Err(Errno::NOENT));
        assert_eq!(tree.read("old"), "old");
    }

    #[test]
    fn a_file_that_is_not_complete_has_no_name() {
        let tree = Tree::new();
        let parent = Arc::new(OwnedFd::from(tree.root.try_clone().unwrap()));
        let flags = OFlags::RDWR | OFlags::TMPFILE;
        if at::open(parent.as_fd(), b".", flags, Mode::RUSR).is_ok() {
            let _file = OwnFile::create(&parent, b"x", Mode::RUSR).unwrap();
            tree.assert_untouched();
        }
    }
}
