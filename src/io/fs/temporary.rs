//! Names of unfinished files, which are removed unless they are kept.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rand::TryRng;
use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::check::refused;
use crate::wire::name::RESERVED;

/// How the names of temporaries end.
pub(super) const TEMPORARY: &str = ".tmp";

/// A name of the library in a directory. On drop it is removed.
#[derive(Debug)]
pub(super) struct Temporary {
    pub parent: Arc<OwnedFd>,
    pub name: String,
    pub exists: bool,
}

impl Temporary {
    /// An existing file of the library under `name`.
    pub fn existing(parent: &Arc<OwnedFd>, name: String) -> Temporary {
        Temporary { parent: Arc::clone(parent), name, exists: true }
    }

    /// A new name that nothing has yet.
    pub fn unused(parent: &Arc<OwnedFd>) -> Result<Temporary> {
        let mut name = Temporary::existing(parent, random_name()?);
        name.exists = false;
        Ok(name)
    }

    /// A new name for something to be stored as `target`; `make` creates it.
    pub fn create(
        parent: &Arc<OwnedFd>,
        target: &[u8],
        make: &mut dyn FnMut(&[u8]) -> rustix::io::Result<()>,
    ) -> Result<Temporary> {
        Temporary::make(parent, target, &mut random_name, make)
    }

    /// A new symbolic link, to be renamed to `link`.
    pub fn create_link(parent: &Arc<OwnedFd>, link: &[u8], target: &[u8]) -> Result<Temporary> {
        Temporary::create(parent, link, &mut |name| at::make_link(parent.as_fd(), name, target))
    }

    /// Tries one of `names` after another; existing files are not touched.
    fn make(
        parent: &Arc<OwnedFd>,
        target: &[u8],
        names: &mut dyn FnMut() -> Result<String>,
        make: &mut dyn FnMut(&[u8]) -> rustix::io::Result<()>,
    ) -> Result<Temporary> {
        for _ in 0..ATTEMPTS {
            let name = names()?;
            match make(name.as_bytes()) {
                Ok(()) => return Ok(Temporary::existing(parent, name)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(refused("store", target, errno)),
            }
        }
        Err(Error::system("no free name for a temporary file", Errno::EXIST))
    }

    /// Replaces `leaf` in `dir`.
    pub fn replace(&mut self, dir: &OwnedFd, leaf: &[u8]) -> rustix::io::Result<()> {
        self.rename(dir, leaf, RenameFlags::empty())
    }

    /// Replaces `leaf` if that is a symbolic link: EEXIST if something else has taken the name
    /// meanwhile, which stays.
    pub fn replace_link(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        let (dir, name) = (self.parent.as_fd(), self.name.as_bytes());
        let exchange = || at::rename((dir, name), (dir, leaf), RenameFlags::EXCHANGE);
        match exchange() {
            // Not every file system knows the flag.
            Err(Errno::INVAL | Errno::NOSYS) => {
                return self.replace(&Arc::clone(&self.parent), leaf);
            }
            exchanged => exchanged?,
        }
        let found = at::stat(dir, name)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            return Ok(());
        }
        exchange()?;
        Err(Errno::EXIST)
    }

    /// EEXIST if the name is taken.
    pub fn take_free_name(&mut self, dir: &OwnedFd, leaf: &[u8]) -> rustix::io::Result<()> {
        match self.rename(dir, leaf, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag; link(2) never replaces either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(
                    &self.parent,
                    self.name.as_bytes(),
                    dir,
                    leaf,
                    AtFlags::empty(),
                )?;
                self.remove();
                Ok(())
            }
            renamed => renamed,
        }
    }

    fn rename(&mut self, dir: &OwnedFd, leaf: &[u8], flags: RenameFlags) -> rustix::io::Result<()> {
        let from = (self.parent.as_fd(), self.name.as_bytes());
        at::rename(from, (dir.as_fd(), leaf), flags)?;
        self.exists = false;
        Ok(())
    }

    /// Replaces `other` under its name.
    pub fn take_over(&mut self, other: &mut Temporary) -> rustix::io::Result<()> {
        self.replace(&Arc::clone(&other.parent), other.name.as_bytes())?;
        other.exists = false;
        self.name = std::mem::take(&mut other.name);
        self.exists = true;
        Ok(())
    }

    /// Removes it at once.
    pub fn remove(&mut self) {
        // A failure cannot be reported; the name shows that the file is the library's.
        let _ = at::unlink(self.parent.as_fd(), self.name.as_bytes());
        self.exists = false;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.exists {
            self.remove();
        }
    }
}

/// Names tried for a temporary. With 64 random bits the first is free, unless an attacker can
/// predict them.
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

    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::io::testing::{Tree, names};

    #[test]
    fn a_link_replaces_nothing_but_a_link() {
        let tree = Tree::new();
        symlink("x", tree.path("link")).unwrap();
        let parent = Arc::new(rustix::io::fcntl_dupfd_cloexec(&tree.root, 0).unwrap());
        for (leaf, expected) in [("link", Ok(())), ("old", Err(Errno::EXIST))] {
            let mut new = Temporary::create_link(&parent, b"link", b"old").unwrap();
            assert_eq!(new.replace_link(leaf.as_bytes()), expected);
        }
        let mut new = Temporary::create_link(&parent, b"link", b"old").unwrap();
        assert_eq!(new.replace_link(b"dir"), Err(Errno::EXIST));
        drop(new);
        assert_eq!((tree.read("old"), tree.read("link")), ("old".into(), "old".into()));
        assert_eq!(tree.names(""), ["dir", "link", "old"]);
        let no_flag = [(libc::SYS_renameat2, Errno::INVAL)];
        let mut new = Temporary::create_link(&parent, b"link", b"dir").unwrap();
        crate::io::testing::failing(&no_flag, || new.replace_link(b"link")).unwrap();
        assert_eq!(std::fs::read_link(tree.path("link")).unwrap().as_os_str(), "dir");
    }

    #[test]
    fn a_planted_name_is_left_alone() {
        let tree = Tree::new();
        symlink("../outside/new", tree.path("dangling")).unwrap();
        symlink("../outside/file", tree.path("link")).unwrap();
        let parent = Arc::new(rustix::io::fcntl_dupfd_cloexec(&tree.root, 0).unwrap());
        let create = |names: &[&str]| {
            let mut names = names.iter().cycle();
            let mut next = || Ok((*names.next().unwrap()).into());
            Temporary::make(&parent, b"x", &mut next, &mut |name| {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                at::open(parent.as_fd(), name, flags, Mode::RWXU).map(drop)
            })
        };
        let error = create(&["dangling", "link", "old"]).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::EEXIST));
        let temporary = create(&["dangling", "link", "free"]).unwrap();
        assert_eq!(temporary.name, "free");
        drop(temporary);
        assert_eq!(tree.names(""), ["dangling", "dir", "link", "old"]);
        assert_eq!(names(&tree.dir.path().join("outside")), ["file"]);
    }
}
