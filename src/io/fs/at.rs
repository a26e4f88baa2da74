//! System calls on one name in a directory. None of them follows a link of that name.
//!
//! Each is compiled once, and not into every caller: the conversion of a path takes more
//! code than the call.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, Result, retry_on_intr};

#[inline(never)]
pub(crate) fn open(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(dir, name, flags, mode))
}

#[inline(never)]
pub(super) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Whether `name` leads to the file that `held` is open on.
#[inline(never)]
pub(super) fn leads_to(dir: BorrowedFd<'_>, name: &[u8], held: BorrowedFd<'_>) -> Result<bool> {
    let held = rustix::fs::fstat(held)?;
    match stat(dir, name) {
        Ok(there) => Ok((held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[inline(never)]
pub(super) fn make_directory(dir: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<()> {
    rustix::fs::mkdirat(dir, name, mode)
}

#[inline(never)]
pub(super) fn make_link(dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> Result<()> {
    rustix::fs::symlinkat(target, dir, name)
}

/// Each name is in its directory.
#[inline(never)]
pub(super) fn rename(
    (from_dir, from): (BorrowedFd<'_>, &[u8]),
    (to_dir, to): (BorrowedFd<'_>, &[u8]),
    flags: RenameFlags,
) -> Result<()> {
    if flags.is_empty() {
        return rustix::fs::renameat(from_dir, from, to_dir, to);
    }
    rustix::fs::renameat_with(from_dir, from, to_dir, to, flags)
}

/// Gives the file that `path` leads to another name.
#[inline(never)]
pub(super) fn link(path: &str, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    rustix::fs::linkat(rustix::fs::CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)
}

/// Reads an extended attribute, and returns its length. Needs /proc.
#[inline(never)]
pub(super) fn attribute(
    dir: BorrowedFd<'_>,
    name: &[u8],
    attribute: &str,
    value: &mut [u8],
) -> Result<usize> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    rustix::fs::lgetxattr(path, attribute, value)
}

#[inline(never)]
pub(super) fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    rustix::fs::unlinkat(dir, name, AtFlags::empty())
}

/// Makes new and renamed entries of `dir` survive a power failure, as `PostgreSQL`'s
/// `fsync_fname` does. It is no error if the directory cannot be read or its file system has no
/// fsync for directories.
pub(super) fn sync(dir: BorrowedFd<'_>) -> Result<()> {
    let dir = match open(dir, b".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => return Ok(()),
        dir => dir?,
    };
    match retry_on_intr(|| rustix::fs::fsync(&dir)) {
        Err(Errno::INVAL) => Ok(()),
        synced => synced,
    }
}
