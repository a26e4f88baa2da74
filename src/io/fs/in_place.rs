//! A complete content that is written over an existing file, which stays the same file.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::check::{refused, size};
use crate::io::fs::locked::{Locked, lock};
use crate::io::fs::range::read_start;
use crate::io::fs::root::open_regular;
use crate::io::fs::write::{close, set_time, write_all};
use crate::io::signal::with_blocked;
use crate::wire::name::Name;
use crate::wire::quote;

/// What an existing file gets.
pub(super) struct Content<'a> {
    /// Its bytes, from the start of this file.
    pub from: BorrowedFd<'a>,
    /// How many they are.
    pub size: u64,
    /// New permission bits.
    pub mode: Option<Mode>,
    /// A new time of modification in milliseconds since 1970.
    pub mtime: Option<i64>,
    /// Whether it must survive a power failure.
    pub sync: bool,
}

/// Whether the process may write to the file. It is opened for a moment.
pub(super) fn check(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
    open_regular(dir, name, OFlags::WRONLY).map(drop)
}

/// Writes `content` over the regular file `name`, and cuts it to its size. `at_work` is called
/// again and again.
///
/// [`ErrorKind::Busy`] if another does the same, or has locked the file with flock(2). What can be
/// known beforehand (the right to set its mode and time, the space for a longer content) is an
/// error that changes nothing of its content. After any other error it has parts of both
/// contents, and the error says so.
pub(super) fn overwrite(
    dir: BorrowedFd<'_>,
    name: Name<'_>,
    content: &Content<'_>,
    at_work: &mut dyn FnMut(),
) -> Result<()> {
    let refused = |errno| refused("write", name.as_bytes(), errno);
    let (file, stat) = open_regular(dir, name, OFlags::WRONLY)?;
    match lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            let detail = format!("{} is being written", quote(name.as_bytes()));
            return Err(Error::new(ErrorKind::Busy, detail));
        }
        locked => locked.map_err(refused)?,
    }
    let file = Locked::new(file);
    prepare(file.as_fd(), &stat, content).map_err(refused)?;
    let mut copy = |piece: &[u8]| {
        at_work();
        write_all(file.as_fd(), piece).map_err(refused)
    };
    let copied = read_start(content.from, content.size, &mut copy);
    let finished = copied.and_then(|read| {
        let finished = read.and_then(|()| finish(file.as_fd(), content));
        finished.map_err(refused)
    });
    finished.map_err(|error| error.context("the file may have a part of each content"))
}

/// Does all that can fail before the content is lost. After an error content and mode are as
/// before.
fn prepare(file: BorrowedFd<'_>, stat: &Stat, content: &Content<'_>) -> rustix::io::Result<()> {
    let prepared = reserve(file, content.size).and_then(|()| {
        set_time(file, content.mtime)?;
        // Neither content is open to more users than both modes allow.
        content.mode.map_or(Ok(()), |mode| set_mode(file, mode & Mode::from_raw_mode(stat.st_mode)))
    });
    prepared.inspect_err(|_| {
        // What was reserved behind its end is given back.
        if let Ok(now) = rustix::fs::fstat(file)
            && size(&now) < content.size
        {
            let _ = rustix::fs::ftruncate(file, size(&now));
        }
    })
}

fn reserve(file: BorrowedFd<'_>, size: u64) -> rustix::io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    let call = || rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size);
    match with_blocked(|| retry_on_intr(call)) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(errno),
        // Not every file system can reserve.
        _ => Ok(()),
    }
}

fn finish(file: BorrowedFd<'_>, content: &Content<'_>) -> rustix::io::Result<()> {
    if size(&rustix::fs::fstat(file)?) != content.size {
        with_blocked(|| retry_on_intr(|| rustix::fs::ftruncate(file, content.size)))?;
    }
    if let Some(mode) = content.mode {
        set_mode(file, mode)?;
    }
    set_time(file, content.mtime)?;
    if content.sync {
        retry_on_intr(|| rustix::fs::fsync(file))?;
    }
    // The file stays open, and thus locked.
    rustix::io::fcntl_dupfd_cloexec(file, 0).and_then(close)
}

/// Only the owner may set a mode, but everybody may leave it as it is.
fn set_mode(file: BorrowedFd<'_>, mode: Mode) -> rustix::io::Result<()> {
    let now = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
    if now == mode { Ok(()) } else { rustix::fs::fchmod(file, mode) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use rustix::fs::{CWD, FileType};
    use rustix::process::geteuid;

    use super::*;
    use crate::io::fs::store::{NewFile, StoreOptions};
    use crate::io::testing::{Tree, alone, failing, unprivileged, with_each_resolver};

    const IN_PLACE: StoreOptions = StoreOptions { in_place: true, ..StoreOptions::DEFAULT };

    fn kind<T>(result: Result<T>) -> ErrorKind {
        result.err().expect("an error").kind()
    }

    fn set_mode(tree: &Tree, name: &str, mode: u32) {
        fs::set_permissions(tree.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode_of(tree: &Tree, name: &str) -> u32 {
        fs::metadata(tree.path(name)).unwrap().mode() & 0o7777
    }

    /// "new" for `old`, complete and not stored yet.
    fn complete(tree: &Tree, options: StoreOptions) -> NewFile {
        let mut file = tree.create("old", options).unwrap();
        file.write(b"new").unwrap();
        file
    }

    #[test]
    fn it_stays_the_same_file() {
        let tree = Tree::new();
        fs::hard_link(tree.path("old"), tree.path("dir/other")).unwrap();
        let root = geteuid().is_root();
        if root {
            chown(tree.path("old"), Some(12), Some(34)).unwrap();
        }
        set_mode(&tree, "old", 0o4751);
        let identity = || {
            let there = fs::metadata(tree.path("old")).unwrap();
            (there.ino(), there.nlink(), there.uid(), there.gid(), root.then_some(there.mode()))
        };
        let before = identity();
        let mut sparse = vec![0; 100_000];
        sparse[50_000] = 1;
        let longer = vec![b'x'; 3 << 20];
        for content in [b"new".as_slice(), &longer, &sparse, b"", b"o", &longer[..5000]] {
            let mut file = tree.create("old", IN_PLACE).unwrap();
            content.chunks(70_000).for_each(|piece| file.write(piece).unwrap());
            assert_eq!(tree.names(""), ["dir", "old"]);
            file.commit().unwrap();
            assert!(fs::read(tree.path("dir/other")).unwrap() == content);
            assert_eq!((identity(), tree.names("").len()), (before, 2));
        }
    }

    #[test]
    fn the_caller_hears_of_each_piece() {
        let tree = Tree::new();
        let mut file = tree.create("old", IN_PLACE).unwrap();
        file.write(&vec![b'x'; 5 << 20]).unwrap();
        let mut pieces = 0;
        file.commit_at_work(&mut || pieces += 1).unwrap();
        assert!(pieces >= 5, "{pieces}");
    }

    #[test]
    fn a_mode_and_a_time_are_set_if_they_are_asked_for() {
        let tree = Tree::new();
        for (mode, expected) in [(0o640, 0o640), (0o600, 0o600), (0o755, 0o755), (0o444, 0o444)] {
            set_mode(&tree, "old", 0o664);
            let options = StoreOptions { mode: Some(mode), mtime: Some(-1500), ..IN_PLACE };
            tree.store("old", b"new", options).unwrap();
            let there = fs::metadata(tree.path("old")).unwrap();
            assert_eq!((there.mode() & 0o7777, there.mtime()), (expected, -2));
        }
        set_mode(&tree, "old", 0o664);
        tree.store("old", b"", StoreOptions { new_mode: Some(0o600), ..IN_PLACE }).unwrap();
        assert_eq!((mode_of(&tree, "old"), tree.read("old")), (0o664, String::new()));
    }

    #[test]
    fn a_fault_before_the_copy_changes_nothing_and_a_later_one_says_so() {
        let tree = Tree::new();
        let asked = StoreOptions { mode: Some(0o604), mtime: Some(0), ..IN_PLACE };
        for (call, errno, expected) in [
            (libc::SYS_flock, Errno::IO, ErrorKind::Io),
            (libc::SYS_fchmod, Errno::PERM, ErrorKind::Denied),
            (libc::SYS_utimensat, Errno::PERM, ErrorKind::Denied),
            (libc::SYS_fallocate, Errno::NOSPC, ErrorKind::NoSpace),
            (libc::SYS_fallocate, Errno::DQUOT, ErrorKind::NoSpace),
        ] {
            let file = complete(&tree, asked);
            let state = || {
                let there = fs::metadata(tree.path("old")).unwrap();
                (there.mode(), there.blocks(), tree.read("old"))
            };
            let before = state();
            let error = failing(&[(call, errno)], || file.commit()).unwrap_err();
            assert_eq!((error.kind(), before), (expected, state()), "{error}");
            assert!(!error.detail().contains("part"), "{error}");
        }
        for (call, errno, expected) in [
            (libc::SYS_write, Errno::NOSPC, ErrorKind::NoSpace),
            (libc::SYS_write, Errno::IO, ErrorKind::Io),
            (libc::SYS_fsync, Errno::IO, ErrorKind::Io),
            (libc::SYS_close, Errno::DQUOT, ErrorKind::NoSpace),
        ] {
            let file = complete(&tree, IN_PLACE);
            let error = failing(&[(call, errno)], || file.commit()).unwrap_err();
            assert_eq!((error.kind(), error.errno()), (expected, errno.raw_os_error()));
            assert!(error.detail().contains("may have a part of each content"), "{error}");
        }
        assert_eq!(tree.names(""), ["dir", "old"]);
        for errno in [Errno::NOTSUP, Errno::NOSYS, Errno::PERM] {
            failing(&[(libc::SYS_fallocate, errno)], || tree.store("old", b"x", IN_PLACE)).unwrap();
        }
        assert_eq!(tree.read("old"), "x");
    }

    #[test]
    fn only_one_at_a_time_writes_it() {
        let tree = Tree::new();
        let other = fs::File::open(tree.path("old")).unwrap();
        rustix::fs::flock(&other, FlockOperation::LockShared).unwrap();
        assert_eq!(kind(complete(&tree, IN_PLACE).commit()), ErrorKind::Busy);
        tree.assert_untouched();
        drop(other);
        // What is copied is never a mixture of two.
        let store = |number: u8| {
            for _ in 0..50 {
                let mut file = tree.create("old", IN_PLACE).unwrap();
                file.write(&vec![number; 100_000 + usize::from(number)]).unwrap();
                match file.commit() {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
                }
            }
        };
        std::thread::scope(|scope| {
            let _ = [b'1', b'2', b'3'].map(|number| scope.spawn(move || store(number)));
        });
        let there = fs::read(tree.path("old")).unwrap();
        assert!(there == vec![there[0]; 100_000 + usize::from(there[0])]);
    }

    #[test]
    fn only_a_regular_file_is_written() {
        let tree = Tree::new();
        let make = |name: &str, kind, device| {
            rustix::fs::mknodat(CWD, tree.path(name), kind, Mode::RWXU, device)
        };
        make("fifo", FileType::Fifo, 0).unwrap();
        let _socket = UnixListener::bind(tree.path("socket")).unwrap();
        symlink("../outside/file", tree.path("out")).unwrap();
        symlink("old", tree.path("within")).unwrap();
        symlink("../outside", tree.path("up")).unwrap();
        let mut names = vec!["dir", "fifo", "socket", "out", "within", "up/file"];
        // Not every container is allowed to.
        if make("full", FileType::CharacterDevice, rustix::fs::makedev(1, 7)).is_ok() {
            names.push("full");
        }
        with_each_resolver(|| {
            for name in &names {
                assert_eq!(kind(tree.create(name, IN_PLACE)), ErrorKind::Path, "{name}");
            }
        });
        // Nor if it takes the place of one meanwhile.
        let file = complete(&tree, IN_PLACE);
        fs::rename(tree.path("out"), tree.path("old")).unwrap();
        assert_eq!(kind(file.commit()), ErrorKind::Path);
        assert_eq!(fs::read_to_string(tree.dir.path().join("outside/file")).unwrap(), "outside");
    }

    #[test]
    fn a_missing_file_is_made_and_none_is_replaced() {
        let tree = Tree::new();
        let made = StoreOptions { mode: Some(0o600), parents: true, ..IN_PLACE };
        tree.store("new/x", b"new", made).unwrap();
        assert_eq!((tree.read("new/x"), mode_of(&tree, "new/x")), ("new".into(), 0o600));
        // One that comes meanwhile is written in place, and one that goes is made.
        let mut file = tree.create("late", IN_PLACE).unwrap();
        file.write(b"new").unwrap();
        fs::hard_link(tree.path("old"), tree.path("late")).unwrap();
        file.commit().unwrap();
        assert_eq!(tree.read("old"), "new");
        let file = complete(&tree, IN_PLACE);
        fs::remove_file(tree.path("old")).unwrap();
        file.commit().unwrap();
        assert_eq!((tree.read("old"), tree.read("late")), ("new".into(), "new".into()));
        let no = StoreOptions { overwrite: false, ..IN_PLACE };
        assert_eq!(kind(tree.create("old", no)), ErrorKind::Exists);
    }

    #[test]
    fn it_needs_no_right_in_the_directory() {
        let tree = Tree::new();
        set_mode(&tree, "", 0o555);
        if !geteuid().is_root() {
            return;
        }
        chown(tree.path("old"), Some(65534), Some(65534)).unwrap();
        fs::write(tree.path("dir/roots"), "root's").unwrap();
        fs::write(tree.path("dir/shared"), "root's").unwrap();
        set_mode(&tree, "dir/shared", 0o666);
        unprivileged(|| {
            assert_eq!(kind(tree.create("old", StoreOptions::DEFAULT)), ErrorKind::Denied);
            tree.store("old", b"new", IN_PLACE).unwrap();
            assert_eq!(kind(tree.create("new", IN_PLACE)), ErrorKind::Denied);
            assert_eq!(kind(tree.create("dir/roots", IN_PLACE)), ErrorKind::Denied);
            // Only the owner can set a mode and a time.
            for asked in [
                StoreOptions { mode: Some(0o600), ..IN_PLACE },
                StoreOptions { mtime: Some(0), ..IN_PLACE },
            ] {
                assert_eq!(kind(tree.store("dir/shared", b"new", asked)), ErrorKind::Denied);
                assert_eq!(tree.read("dir/shared"), "root's");
            }
            let same = StoreOptions { mode: Some(0o666 & !0o022), ..IN_PLACE };
            assert_eq!(kind(tree.store("dir/shared", b"new", same)), ErrorKind::Denied);
            tree.store("dir/shared", b"new", IN_PLACE).unwrap();
            // What goes meanwhile cannot be made.
            let file = tree.create("dir/shared", IN_PLACE).unwrap();
            fs::rename(tree.path("dir/shared"), tree.path("dir/moved")).unwrap_err();
            drop(file);
        });
        let mut file = unprivileged(|| tree.create("dir/shared", IN_PLACE)).unwrap();
        file.write(b"newer").unwrap();
        fs::rename(tree.path("dir/shared"), tree.path("dir/moved")).unwrap();
        assert_eq!(kind(unprivileged(|| file.commit())), ErrorKind::NotFound);
        let there = [tree.read("old"), tree.read("dir/moved"), tree.read("dir/roots")];
        assert_eq!(there, ["new", "new", "root's"]);
        assert_eq!((tree.names("").len(), tree.names("dir").len()), (2, 2));
    }

    #[test]
    fn a_partial_file_is_continued_and_copied() {
        let tree = Tree::new();
        fs::hard_link(tree.path("old"), tree.path("dir/other")).unwrap();
        let name = Name::new(b"old").unwrap();
        let resume =
            |offset| NewFile::resume(tree.root(), name, IN_PLACE, offset, &mut |_| Ok(())).unwrap();
        resume(0).write(b"a longer").unwrap();
        assert_eq!((tree.read("old"), tree.names("").len()), ("old".into(), 3));
        let mut file = resume(8);
        file.write(b" content").unwrap();
        file.commit().unwrap();
        assert_eq!((tree.read("dir/other"), tree.names("").len()), ("a longer content".into(), 2));
        // Without one, the beginning is that of the file itself.
        let mut file = resume(8);
        file.write(b"!").unwrap();
        file.commit().unwrap();
        assert_eq!((tree.read("dir/other"), tree.names("").len()), ("a longer!".into(), 2));
    }

    #[test]
    fn a_mounted_file_is_written_and_a_full_disk_keeps_it() {
        // Its own user and mount namespace, so that it can mount.
        let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
        let name = "io::fs::in_place::tests::a_mounted_file_is_written_and_a_full_disk_keeps_it";
        alone(name, &wrapper, || {
            let tree = Tree::new();
            let run = |program: &str, arguments: &[&str], path: &str| {
                let status = Command::new(program).args(arguments).arg(tree.path(path)).status();
                assert!(status.unwrap().success());
            };
            run("mount", &["-t", "tmpfs", "-o", "size=64k", "framefd"], "dir");
            fs::write(tree.path("dir/mounted"), "mounted").unwrap();
            let mounted = tree.path("dir/mounted");
            run("mount", &["--bind", mounted.to_str().unwrap()], "old");
            let error = tree.store("old", b"new", StoreOptions::DEFAULT).unwrap_err();
            assert_eq!(error.errno(), libc::EBUSY);
            with_each_resolver(|| {
                for content in ["a longer content", "new", "mounted"] {
                    tree.store("old", content.as_bytes(), IN_PLACE).unwrap();
                    assert_eq!(tree.read("dir/mounted"), content);
                }
            });
            let error = tree.store("old", &vec![b'x'; 128 << 10], IN_PLACE).unwrap_err();
            assert_eq!((error.kind(), tree.read("old")), (ErrorKind::NoSpace, "mounted".into()));
            // Nothing stays reserved.
            fs::write(tree.path("dir/other"), vec![b'x'; 56 << 10]).unwrap();
            run("umount", &[], "old");
            assert_eq!((tree.read("old"), tree.names("").len()), ("old".into(), 2));
            run("umount", &[], "dir");
        });
    }
}
