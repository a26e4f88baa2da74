//! Files for their owner only, such as key files.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::directory::names;
use crate::wire::quote;

/// An opened file or directory, which is checked before anything is read from it. A refusal is
/// [`ErrorKind::Key`].
#[derive(Debug)]
pub struct Opened {
    file: OwnedFd,
    stat: Stat,
    group_readable: bool,
}

/// Opens the file or the directory at `path`.
///
/// With `group_readable`, the group may read a file, it may belong to root, and there may be
/// symbolic links to it: Kubernetes and systemd provide secrets that way. Files in systemd's
/// `$CREDENTIALS_DIRECTORY` may be so in any case.
pub fn open(path: &Path, group_readable: bool) -> Result<Opened> {
    open_at(CWD, path, group_readable || is_credential(path))
}

impl Opened {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// The file, if it is a regular one that belongs to the process's user, and that only its
    /// owner may use. Root may use the files of all users.
    pub fn into_file(self) -> Result<OwnedFd> {
        self.check(None)?;
        Ok(self.file)
    }

    /// The names in a directory that only its owner may change, in the order of their bytes,
    /// without those that begin with a dot.
    pub fn names(&self) -> Result<Vec<Box<[u8]>>> {
        let mode = self.stat.st_mode & 0o7777;
        // All users may add files to a directory of Kubernetes, but the owner of each file is
        // checked.
        let is_sticky = self.group_readable && mode & 0o1000 != 0;
        if mode & 0o022 != 0 && !is_sticky {
            return refuse(format!("others may add files (mode {mode:04o}): chmod go-w it"));
        }
        if self.stat.st_uid != 0 && !self.trusts(self.stat.st_uid, None) {
            return refuse(format!("it belongs to user {}", self.stat.st_uid));
        }
        let mut names = names(self.file.as_fd())?;
        names.retain(|name| !name.starts_with(b"."));
        Ok(names)
    }

    /// The file `name` in the directory, with the rules of [`into_file`](Self::into_file). Root
    /// may use those of the directory's owner, too.
    pub fn file(&self, name: &[u8]) -> Result<OwnedFd> {
        let path = Path::new(OsStr::from_bytes(name));
        let opened = open_at(self.file.as_fd(), path, self.group_readable)?;
        opened.check(Some(&self.stat)).map_err(|error| error.context(&shown(path)))?;
        Ok(opened.file)
    }

    fn check(&self, directory: Option<&Stat>) -> Result<()> {
        let (mode, owner) = (self.stat.st_mode & 0o7777, self.stat.st_uid);
        if FileType::from_raw_mode(self.stat.st_mode) != FileType::RegularFile {
            return refuse("it is not a regular file".into());
        }
        let (others, mend) = if self.group_readable { (0o037, 440) } else { (0o077, 600) };
        if mode & others != 0 {
            return refuse(format!("others may use it (mode {mode:04o}): chmod {mend} it"));
        }
        if !self.trusts(owner, directory) {
            return refuse(format!("it belongs to user {owner}"));
        }
        Ok(())
    }

    /// Whether a file of `owner` may be used. Root may use the files of all users, but in a
    /// directory only those of its owner.
    fn trusts(&self, owner: u32, directory: Option<&Stat>) -> bool {
        let me = rustix::process::geteuid();
        owner == me.as_raw()
            || (self.group_readable && owner == 0)
            || (me.is_root() && directory.is_none_or(|directory| directory.st_uid == owner))
    }
}

fn open_at(dir: BorrowedFd<'_>, path: &Path, group_readable: bool) -> Result<Opened> {
    let follow = if group_readable { OFlags::empty() } else { OFlags::NOFOLLOW };
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | follow;
    let file =
        rustix::fs::openat(dir, path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP if !group_readable => {
                Error::new(ErrorKind::Key, "it is a symbolic link").context(&shown(path))
            }
            errno => failed("open", path, errno),
        })?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed("fstat", path, errno))?;
    Ok(Opened { file, stat, group_readable })
}

/// Whether it is a credential from systemd for this process.
fn is_credential(path: &Path) -> bool {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    let climbs = path.components().any(|part| part == Component::ParentDir);
    !climbs && directory.is_some_and(|directory| path.starts_with(directory))
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::new(ErrorKind::Key, why))
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

/// Removes the file at `path`, if possible.
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
