//! Checks of the entry that a name leads to, and the errors for it.

use std::os::fd::BorrowedFd;
use std::time::SystemTime;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::entry::{self, Kind};
use crate::wire::quote;

/// The error for an `errno` of a request for `name`.
pub(super) fn refused(doing: &str, name: &[u8], errno: Errno) -> Error {
    let what = format!("{doing} {}", quote(name));
    let kind = match errno {
        // One text for all of them, since the errno depends on the way of the lookup.
        Errno::XDEV | Errno::LOOP | Errno::NOTDIR => {
            let why = "a component is not a directory, and links are not followed";
            return Error::new(ErrorKind::Path, format!("{what}: {why}"));
        }
        Errno::ISDIR | Errno::NXIO | Errno::NAMETOOLONG => ErrorKind::Path,
        Errno::NOENT => ErrorKind::NotFound,
        Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
        Errno::EXIST => ErrorKind::Exists,
        Errno::TXTBSY => ErrorKind::Busy,
        _ => return Error::system(&what, errno),
    };
    Error::system_as(kind, &what, errno)
}

/// Refuses anything but a regular file.
pub(super) fn regular(name: &[u8], stat: &Stat) -> Result<()> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        _ => "not a regular file",
    };
    Err(Error::new(ErrorKind::Path, format!("{} is {what}", quote(name))))
}

/// The file that `fd` is open on, and whether its mode is one. A file without a name has it by
/// chance, unless it is a copy of a file in /proc or /sys, which has the sticky bit.
pub fn stat(fd: BorrowedFd<'_>) -> Result<(entry::Stat, bool)> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| Error::system("fstat", errno))?;
    Ok((stat_of(&stat), stat.st_nlink > 0 || stat.st_mode & 0o1000 != 0))
}

/// The part of `stat` that a peer may know.
pub(super) fn stat_of(stat: &Stat) -> entry::Stat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    };
    let milliseconds = i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0);
    let mtime = stat.st_mtime.saturating_mul(1000).saturating_add(milliseconds);
    entry::Stat { kind, size: size(stat), mode: stat.st_mode & 0o7777, mtime }
}

/// Whether a file was last written before then.
pub(super) fn is_older(stat: &Stat, before: SystemTime) -> bool {
    let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(before.as_millis()).is_ok_and(|before| stat_of(stat).mtime < before)
}

/// Bytes of a file.
pub(super) fn size(stat: &Stat) -> u64 {
    stat.st_size.try_into().unwrap_or(0)
}
