//! Files by the host's own paths, which lead where open(2) says.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::retry_on_intr;

use crate::error::{Error, Result};
use crate::io::root::{refused, regular};

/// Opens the regular file at `path` for reading, and never waits for a FIFO.
/// [`ErrorKind::Path`](crate::ErrorKind::Path) for anything else.
pub fn open_file(path: &Path) -> Result<(OwnedFd, Stat)> {
    let name = path.as_os_str().as_bytes();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
        .map_err(|errno| refused("open", name, errno))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| Error::system("fstat", errno))?;
    regular(name, &stat)?;
    Ok((file, stat))
}

/// Opens the directory that `path` is in, as an `O_PATH` descriptor, and gives the last
/// component, empty where the path ends in a slash.
pub fn open_parent(path: &Path) -> Result<(OwnedFd, &[u8])> {
    let name = path.as_os_str().as_bytes();
    let (parent, leaf) = match name.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&name[..=slash], &name[slash + 1..]),
        None => (&b"."[..], name),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = retry_on_intr(|| rustix::fs::open(parent, flags, Mode::empty()))
        .map_err(|errno| refused("open the directory of", name, errno))?;
    Ok((parent, leaf))
}

/// Bytes of a file.
pub fn size(stat: &Stat) -> u64 {
    stat.st_size.try_into().unwrap_or(0)
}
