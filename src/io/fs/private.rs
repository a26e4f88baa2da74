//! Files for their owner alone, such as those with a key.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::quote;

/// Opens the file at `path` for reading. [`ErrorKind::Key`] for a file that others may read
/// or write, for one of another user's, a symbolic link, and anything that is not a regular
/// file.
pub fn open(path: &Path) -> Result<OwnedFd> {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| failed("open", path, errno))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed("fstat", path, errno))?;
    let refuse = |why: String| Err(Error::new(ErrorKind::Key, format!("{}: {why}", shown(path))));
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refuse("it is not a regular file".into());
    }
    if stat.st_mode & 0o077 != 0 {
        return refuse(format!(
            "others may use it (mode {:04o}): chmod 600 it",
            stat.st_mode & 0o7777
        ));
    }
    let me = rustix::process::geteuid();
    if stat.st_uid != me.as_raw() && !me.is_root() {
        return refuse(format!("it belongs to user {}", stat.st_uid));
    }
    Ok(file)
}

/// Makes a new file at `path`, readable and writable by its owner alone.
pub fn create(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| failed("create", path, errno))
}

/// Returns once the file would survive a power loss.
pub fn sync(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fsync(file).map_err(|errno| Error::system("fsync", errno))
}

/// Removes the file at `path`, if that can be done.
pub fn remove(path: &Path) {
    let _ = rustix::fs::unlinkat(CWD, path, AtFlags::empty());
}

fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    let kind = match errno {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::EXIST => ErrorKind::Exists,
        Errno::LOOP | Errno::ISDIR | Errno::NXIO => ErrorKind::Key,
        Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
        _ => return Error::system(what, errno).context(&shown(path)),
    };
    Error::system_as(kind, what, errno).context(&shown(path))
}

fn shown(path: &Path) -> String {
    quote(path.as_os_str().as_bytes())
}
