//! Removing what a directory has: never through a link, and not from another file system.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::check::refused;
use crate::io::fs::directory::all_names;
use crate::wire::quote;

/// Removes `leaf` from `dir`; if it is a directory, with everything in it. `tell` gets each name,
/// relative to `dir`, after those that are in it, and decides whether it is removed. It is no
/// error if something is gone already.
pub fn remove(
    dir: BorrowedFd<'_>,
    leaf: &[u8],
    tell: &mut dyn FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let mut at = Vec::new();
    let mut levels: Vec<Level> = Vec::new();
    let mut next = Some(Box::from(leaf));
    loop {
        let length = at.len();
        let Some(name) = next else {
            let Some(done) = levels.pop() else { return Ok(()) };
            let above = levels.last().map_or(dir, |level| level.dir.as_fd());
            if tell(&at)? {
                unlink(above, &done.name, AtFlags::REMOVEDIR)
                    .map_err(|errno| refused("remove", &at, errno))?;
            }
            at.truncate(done.length);
            next = levels.last_mut().and_then(|level| level.rest.pop());
            continue;
        };
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(&name);
        let above = levels.last().map_or(dir, |level| level.dir.as_fd());
        if let Some(dir) = open(above, &name).map_err(|errno| not_opened(&at, errno))? {
            let rest = all_names(dir.as_fd())?;
            levels.push(Level { dir, name, length, rest });
        } else {
            if tell(&at)? {
                unlink(above, &name, AtFlags::empty())
                    .map_err(|errno| refused("remove", &at, errno))?;
            }
            at.truncate(length);
        }
        next = levels.last_mut().and_then(|level| level.rest.pop());
    }
}

/// A directory that is being emptied.
struct Level {
    dir: OwnedFd,
    name: Box<[u8]>,
    /// Bytes of the path above it.
    length: usize,
    /// The names in it that are left, the last one first.
    rest: Vec<Box<[u8]>>,
}

/// Opens `name` if it is a directory of the same file system.
fn open(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let opened = retry_on_intr(|| rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve));
    let opened = match opened {
        // Missing before Linux 5.6, EPERM from sandboxes, EAGAIN while something is renamed.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::AGAIN) => {
            at::open(dir, name, flags, Mode::empty()).and_then(|found| {
                let (ours, theirs) = (rustix::fs::fstat(dir)?, rustix::fs::fstat(&found)?);
                if ours.st_dev == theirs.st_dev { Ok(found) } else { Err(Errno::XDEV) }
            })
        }
        opened => opened,
    };
    match opened {
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(None),
        opened => opened.map(Some),
    }
}

fn not_opened(name: &[u8], errno: Errno) -> Error {
    match errno {
        Errno::XDEV => {
            let what = format!("remove {}: another file system is mounted there", quote(name));
            Error::new(ErrorKind::Path, what)
        }
        errno => refused("remove", name, errno),
    }
}

fn unlink(dir: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::io::testing::{Tree, failing};

    /// Removes `dir`, or only tells what it would remove; the names in their order.
    fn removed(tree: &Tree, leaf: &[u8], really: bool) -> (Result<()>, Vec<String>) {
        let told = RefCell::new(Vec::new());
        let mut tell = |name: &[u8]| {
            told.borrow_mut().push(String::from_utf8_lossy(name).into_owned());
            Ok(really)
        };
        let done = remove(tree.root.as_fd(), leaf, &mut tell);
        (done, told.into_inner())
    }

    fn plant() -> Tree {
        let tree = Tree::new();
        fs::create_dir_all(tree.path("dir/a/b")).unwrap();
        for name in ["dir/a/b/x", "dir/a/b/.framefd-0123456789abcdef.tmp", "dir/z"] {
            fs::write(tree.path(name), "").unwrap();
        }
        symlink("../../outside", tree.path("dir/a/up")).unwrap();
        symlink("../old", tree.path("dir/leaf")).unwrap();
        tree
    }

    #[test]
    fn a_directory_goes_with_everything_in_it_and_no_link_is_followed() {
        let all = [
            "dir/a/b/.framefd-0123456789abcdef.tmp",
            "dir/a/b/x",
            "dir/a/b",
            "dir/a/up",
            "dir/a",
            "dir/leaf",
            "dir/z",
            "dir",
        ];
        for errno in [None, Some(Errno::NOSYS), Some(Errno::AGAIN)] {
            let calls: Vec<_> = errno.map(|errno| (libc::SYS_openat2, errno)).into_iter().collect();
            let tree = plant();
            let (done, told) = failing(&calls, || removed(&tree, b"dir", false));
            done.unwrap();
            assert_eq!(told, all);
            assert!(tree.path("dir/a/b/x").exists());
            let (done, told) = failing(&calls, || removed(&tree, b"dir", true));
            done.unwrap();
            assert_eq!(told, all);
            let left = crate::io::testing::names(&tree.path(""));
            assert_eq!(left, ["old"]);
            assert!(tree.dir.path().join("outside/file").exists());
        }
    }

    #[test]
    fn a_file_or_a_link_goes_alone_and_what_is_gone_is_no_error() {
        let tree = plant();
        symlink("dir", tree.path("link")).unwrap();
        for name in ["link", "old", "missing"] {
            let (done, told) = removed(&tree, name.as_bytes(), true);
            done.unwrap();
            assert_eq!(told, [name]);
            assert!(tree.path(name).symlink_metadata().is_err());
        }
        assert!(tree.path("dir/z").exists());
    }

    #[test]
    fn a_failure_names_what_stays() {
        let tree = plant();
        let denied = [(libc::SYS_unlinkat, Errno::ACCESS)];
        let (done, told) = failing(&denied, || removed(&tree, b"dir", true));
        let error = done.unwrap_err();
        assert_eq!((error.kind(), told.len()), (ErrorKind::Denied, 1));
        assert!(error.detail().contains("dir/a/b/.framefd-"), "{error}");
        let mounted = [(libc::SYS_openat2, Errno::XDEV)];
        let (done, told) = failing(&mounted, || removed(&tree, b"dir", true));
        assert_eq!((done.unwrap_err().kind(), told.len()), (ErrorKind::Path, 0));
        assert!(tree.path("dir/z").exists());
    }
}
