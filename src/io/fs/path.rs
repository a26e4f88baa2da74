//! Files by paths of the host, which are resolved as by open(2).

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};
use crate::io::fs::at;
use crate::io::fs::check::{refused, regular, stat_of};
use crate::io::fs::settled::settled;
use crate::wire::entry::Stat;
use crate::wire::quote;

/// Opens the regular file at `path` for reading, without waiting for a FIFO.
/// [`ErrorKind::Path`](crate::ErrorKind::Path) for anything else.
pub fn open_file(path: &Path) -> Result<(OwnedFd, Stat)> {
    let name = path.as_os_str().as_bytes();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
        .map_err(|errno| refused("open", name, errno))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| Error::system("fstat", errno))?;
    regular(name, &stat)?;
    let (file, stat) = settled(file, stat).map_err(|error| error.context(&quote(name)))?;
    Ok((file, stat_of(&stat)))
}

/// Opens the directory that `path` is in, as an `O_PATH` descriptor, and returns the last
/// component, empty if the path ends with a slash.
pub fn open_parent(path: &Path) -> Result<(OwnedFd, &[u8])> {
    let name = path.as_os_str().as_bytes();
    let (parent, leaf) = match name.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&name[..=slash], &name[slash + 1..]),
        None => (&b"."[..], name),
    };
    let parent = retry_on_intr(|| rustix::fs::open(parent, PARENT, Mode::empty()))
        .map_err(|errno| refused("open the directory of", name, errno))?;
    Ok((parent, leaf))
}

/// Opens the directory at `path` for reading.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
        .map_err(|errno| refused("open", path.as_os_str().as_bytes(), errno))
}

/// Makes the directory at `path` if nothing is there, with the mode 0777 reduced by the
/// process's umask; with `sync` it survives a power failure. Returns whether it was made.
pub fn make_directory(path: &Path, sync: bool) -> Result<bool> {
    let refused = |errno| refused("make the directory", path.as_os_str().as_bytes(), errno);
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => return Ok(false),
        made => made.map_err(refused)?,
    }
    if sync {
        let above = rustix::fs::openat(open_directory(path)?, "..", PARENT, Mode::empty());
        above.and_then(|above| at::sync(above.as_fd())).map_err(refused)?;
    }
    Ok(true)
}

const PARENT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::ErrorKind;
    use crate::io::testing::failing;

    #[test]
    fn a_directory_is_made_once_and_synced() {
        let dir = tempfile::tempdir().unwrap();
        let (new, synced) = (dir.path().join("new"), dir.path().join("synced"));
        assert!(make_directory(&new, true).unwrap() && new.is_dir());
        assert!(!make_directory(&new, true).unwrap());
        assert!(!make_directory(&new.join(""), true).unwrap());
        assert!(make_directory(&new.join("slash/"), false).unwrap());
        let no_sync = [(libc::SYS_fsync, Errno::IO)];
        let error = failing(&no_sync, || make_directory(&synced, true)).unwrap_err();
        assert_eq!(error.errno(), libc::EIO);
        assert!(failing(&no_sync, || make_directory(&new.join("not"), false)).unwrap());
        let error = make_directory(&dir.path().join("missing/x"), true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn only_directories_are_opened_as_such() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(".", dir.path().join("link")).unwrap();
        open_directory(dir.path()).unwrap();
        open_directory(&dir.path().join("link")).unwrap();
        for (name, expected) in [("file", ErrorKind::Path), ("missing", ErrorKind::NotFound)] {
            assert_eq!(open_directory(&dir.path().join(name)).unwrap_err().kind(), expected);
        }
    }
}
