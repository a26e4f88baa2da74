//! Removes unfinished files, which it finds by their names.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock};

use crate::error::Result;
use crate::io::fs::at;
use crate::io::fs::check::is_older;
use crate::io::fs::directory::for_each_name;
use crate::io::fs::locked::Locked;
use crate::io::fs::partial::PARTIAL;
use crate::io::fs::root::Root;
use crate::io::fs::temporary::TEMPORARY;
use crate::wire::name::{MAX_COMPONENTS, RESERVED};

/// Removes the temporary and partial files below `root` that no transfer is writing, and that
/// were last written longer ago than `older_than`; returns their number. A file younger than a
/// second always stays: it may not be locked yet.
///
/// Symbolic links are not followed. Entries that cannot be read or removed are skipped; it is an
/// error only if the root itself cannot be read.
pub fn sweep(root: BorrowedFd<'_>, older_than: Duration) -> Result<u64> {
    let age = older_than.max(Duration::from_secs(1));
    let Some(before) = SystemTime::now().checked_sub(age) else { return Ok(0) };
    let root = Root::new(root)?.open_directory(None)?;
    let mut removed = 0;
    let mut directories = vec![Directory::sweep(root, before, &mut removed)?];
    while let Some(directory) = directories.last_mut() {
        let Some(name) = directory.below.pop() else {
            directories.pop();
            continue;
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = at::open(directory.fd.as_fd(), &name, flags, Mode::empty());
        // No name reaches further down.
        if let (Ok(fd), true) = (opened, directories.len() <= MAX_COMPONENTS) {
            directories.extend(Directory::sweep(fd, before, &mut removed));
        }
    }
    Ok(removed)
}

/// A directory that was swept, and the names of its directories that were not yet.
struct Directory {
    fd: OwnedFd,
    below: Vec<Box<[u8]>>,
}

impl Directory {
    fn sweep(fd: OwnedFd, before: SystemTime, removed: &mut u64) -> Result<Directory> {
        let mut below = Vec::new();
        for_each_name(fd.as_fd(), &mut |name, kind| {
            if is_unfinished(name) {
                *removed += u64::from(remove_if_dead(fd.as_fd(), name, before) == Ok(true));
            } else if matches!(kind, FileType::Directory | FileType::Unknown) {
                below.push(name.into());
            }
            Ok(())
        })?;
        Ok(Directory { fd, below })
    }
}

/// Whether a name is that of an unfinished file.
fn is_unfinished(name: &[u8]) -> bool {
    let stem = |suffix: &str| name.strip_suffix(suffix.as_bytes());
    let stem = stem(TEMPORARY).or_else(|| stem(PARTIAL));
    let digits = stem.and_then(|stem| stem.strip_prefix(RESERVED.as_bytes()));
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

fn remove_if_dead(
    dir: BorrowedFd<'_>,
    name: &[u8],
    before: SystemTime,
) -> rustix::io::Result<bool> {
    let found = at::stat(dir, name)?;
    if !is_older(&found, before) {
        return Ok(false);
    }
    let _locked = match FileType::from_raw_mode(found.st_mode) {
        // It gets its name as soon as it is made.
        FileType::Symlink => None,
        FileType::RegularFile => {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = at::open(dir, name, flags, Mode::empty())?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            let file = Locked::new(file);
            // It may have been given its final name before it was locked, or be written
            // by another since it was looked at.
            if !at::leads_to(dir, name, file.as_fd())?
                || !is_older(&rustix::fs::fstat(&file)?, before)
            {
                return Ok(false);
            }
            Some(file)
        }
        _ => return Ok(false),
    };
    at::unlink(dir, name)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD};
    use rustix::io::Errno;

    use super::*;
    use crate::io::fs::store::{NewFile, StoreOptions};
    use crate::io::testing::{Tree, failing, names, unprivileged, with_each_resolver};
    use crate::wire::name::Name;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const TEMP: &str = ".framefd-0123456789abcdef.tmp";
    const PART: &str = ".framefd-0123456789abcdef.part";

    /// A file that was last written two days ago.
    fn old(path: impl AsRef<Path>) {
        File::create(&path).unwrap();
        age(path);
    }

    fn age(path: impl AsRef<Path>) {
        let modified = SystemTime::now() - 2 * DAY;
        File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }

    #[test]
    fn what_is_old_and_unfinished_goes_at_every_depth() {
        let tree = Tree::new();
        let deep = ["d"; 40].join("/");
        fs::create_dir_all(tree.path(&deep)).unwrap();
        with_each_resolver(|| {
            for dir in ["", "dir", &deep] {
                for name in [TEMP, PART] {
                    old(tree.path(dir).join(name));
                }
            }
            assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 6);
            assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 0);
            assert!(tree.names(&deep).is_empty());
        });
        assert_eq!(
            (tree.names(""), tree.names("dir").len()),
            (vec!["d".into(), "dir".into(), "old".into()], 0)
        );
    }

    #[test]
    fn where_no_name_reaches_nothing_is_swept() {
        let tree = Tree::new();
        let deep = ["d"; 300].join("/");
        fs::create_dir_all(tree.path(&deep)).unwrap();
        old(tree.path(&deep).join(TEMP));
        assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 0);
        assert_eq!(tree.names(&deep), [TEMP]);
    }

    #[test]
    fn everything_else_stays() {
        let tree = Tree::new();
        let others = [
            "x",
            "0123456789abcdef.tmp",
            ".framefd-0123456789abcdef",
            ".framefd-0123456789abcdef.tmp.x",
            ".framefd-0123456789abcdeg.tmp",
            ".framefd-0123456789abcde.tmp",
            ".framefd-0123456789abcdef0.part",
            ".FRAMEFD-0123456789abcdef.part",
        ];
        for name in others {
            old(tree.path(name));
        }
        age(tree.path("old"));
        fs::create_dir(tree.path(TEMP)).unwrap();
        rustix::fs::mknodat(CWD, tree.path(PART), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let before = tree.names("");
        assert_eq!(sweep(tree.root.as_fd(), Duration::ZERO).unwrap(), 0);
        assert_eq!(tree.names(""), before);
    }

    #[test]
    fn what_is_young_stays() {
        let tree = Tree::new();
        old(tree.path(TEMP));
        assert_eq!(sweep(tree.root.as_fd(), 3 * DAY).unwrap(), 0);
        assert_eq!(sweep(tree.root.as_fd(), Duration::MAX).unwrap(), 0);
        assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 1);
        File::create(tree.path(TEMP)).unwrap();
        assert_eq!(sweep(tree.root.as_fd(), Duration::ZERO).unwrap(), 0);
        assert_eq!(tree.names(""), [TEMP, "dir", "old"]);
    }

    #[test]
    fn what_is_being_written_stays() {
        let tree = Tree::new();
        let (name, options) = (Name::new(b"old").unwrap(), StoreOptions::DEFAULT);
        let mut temporary = tree.create("dir/x", options).unwrap();
        let mut partial = NewFile::resume(tree.root(), name, options, 0, &mut |_| Ok(())).unwrap();
        for file in [&mut temporary, &mut partial] {
            file.write(b"new").unwrap();
        }
        let age_all = |dir: &str| {
            for name in tree.names(dir) {
                if name.starts_with(RESERVED) {
                    age(tree.path(dir).join(name));
                }
            }
        };
        age_all("");
        age_all("dir");
        assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 0);
        temporary.commit().unwrap();
        drop(partial);
        assert_eq!((tree.read("dir/x"), tree.names("").len()), ("new".into(), 3));
        age_all("");
        assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 1);
        assert_eq!(
            (tree.names(""), tree.read("old")),
            (vec!["dir".into(), "old".into()], "old".into())
        );
    }

    #[test]
    fn links_go_and_are_not_followed() {
        let tree = Tree::new();
        let outside = tree.dir.path().join("outside");
        old(outside.join(TEMP));
        symlink("../outside", tree.path("up")).unwrap();
        symlink("../outside/file", tree.path(TEMP)).unwrap();
        age(outside.join("file"));
        symlink("../outside/file", tree.path(PART)).unwrap();
        // `File` cannot set a link's own time.
        let stamp = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
            last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
        };
        let set = |name| rustix::fs::utimensat(&tree.root, name, &stamp, AtFlags::SYMLINK_NOFOLLOW);
        assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 0, "the links themselves are young");
        set(TEMP).unwrap();
        set(PART).unwrap();
        assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 2);
        assert_eq!(tree.names(""), ["dir", "old", "up"]);
        assert_eq!(names(&outside), [TEMP, "file"]);
    }

    #[test]
    fn what_cannot_be_read_or_locked_is_passed_over() {
        use std::os::unix::fs::PermissionsExt as _;
        let tree = Tree::new();
        let set = |name, mode| {
            fs::set_permissions(tree.path(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        old(tree.path(TEMP));
        let locks = [(libc::SYS_flock, Errno::NOLCK)];
        assert_eq!(failing(&locks, || sweep(tree.root.as_fd(), DAY)).unwrap(), 0);
        set("dir", 0o000);
        set("", 0o755);
        assert_eq!(unprivileged(|| sweep(tree.root.as_fd(), DAY)).unwrap(), 0);
        set("", 0o000);
        unprivileged(|| sweep(tree.root.as_fd(), DAY)).unwrap_err();
        set("", 0o755);
        set("dir", 0o755);
        assert_eq!(sweep(tree.root.as_fd(), DAY).unwrap(), 1);
        let file = File::open(tree.path("old")).unwrap();
        sweep(file.as_fd(), DAY).unwrap_err();
    }
}
