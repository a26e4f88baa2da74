//! Partial files: the received part of a file whose transfer was interrupted.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::check::{self, refused, regular};
use crate::io::fs::locked::{self, Locked};
use crate::io::fs::own_file::OwnFile;
use crate::io::fs::root::Root;
use crate::limits;
use crate::wire::digest::Hasher;
use crate::wire::name::{Name, RESERVED};
use crate::wire::quote;

/// How the names of partial files end.
pub(super) const PARTIAL: &str = ".part";

/// Opens the partial file of `name` for reading, and returns its size as well; `None` if there
/// is none. No transfer can continue it while it is open: [`ErrorKind::Busy`] if one does
/// already, unless that is silent. [`ErrorKind::Path`] if something else has its name.
pub fn open_partial(root: Root<'_>, name: Name<'_>) -> Result<Option<(Locked, u64)>> {
    let parent = root.open_parent(name)?;
    let shared = |file: &OwnedFd| locked::lock(file, FlockOperation::NonBlockingLockShared);
    let found = open_locked(parent.as_fd(), name, OFlags::RDONLY, &shared)?;
    Ok(found.map(|found| (found.file, found.size)))
}

/// Opens the partial file of `name` for writing, or makes it; returns its size as well. If a
/// transfer has it that is silent, the time of its last write is returned: it must not be
/// written, but it can be replaced.
pub(super) fn lock(parent: &Arc<OwnedFd>, name: Name<'_>) -> Result<(OwnFile, u64, Option<i64>)> {
    let exclusive = |file: &OwnedFd| locked::lock(file, FlockOperation::NonBlockingLockExclusive);
    match open_locked(parent.as_fd(), name, OFlags::RDWR | OFlags::CREATE, &exclusive)? {
        Some(Found { file, size, silent_since }) => {
            let own = if silent_since.is_some() { OwnFile::taken } else { OwnFile::existing };
            Ok((own(parent, partial_name(name), file), size, silent_since))
        }
        None => Err(refused("resume", name.as_bytes(), Errno::NOENT)),
    }
}

/// A partial file, which is locked unless a silent transfer has it.
struct Found {
    file: Locked,
    size: u64,
    silent_since: Option<i64>,
}

/// When the transfer that has a partial file wrote to it, in milliseconds since 1970.
pub(super) fn written_at(file: BorrowedFd<'_>) -> rustix::io::Result<i64> {
    rustix::fs::fstat(file).map(|stat| check::stat_of(&stat).mtime)
}

/// Opens the partial file of `name`, locks it and checks that it is ours; with `O_CREAT` it is
/// made if there is none.
fn open_locked(
    parent: BorrowedFd<'_>,
    name: Name<'_>,
    flags: OFlags,
    lock: &dyn Fn(&OwnedFd) -> rustix::io::Result<()>,
) -> Result<Option<Found>> {
    let partial = partial_name(name);
    let refused = |errno| refused("open the partial file of", name.as_bytes(), errno);
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    for _ in 0..ATTEMPTS {
        // Checked before it is opened, because some devices act when they are opened.
        let flags = match at::stat(parent, partial.as_bytes()) {
            // Its name was given to another one while it was looked at.
            Ok(stat) if stat.st_nlink == 0 => continue,
            Ok(stat) => {
                check_ours(name, &stat)?;
                flags.difference(OFlags::CREATE)
            }
            Err(Errno::NOENT) if flags.contains(OFlags::CREATE) => flags | OFlags::EXCL,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(refused(errno)),
        };
        let mode = Mode::RUSR | Mode::WUSR;
        let file = match at::open(parent, partial.as_bytes(), flags, mode) {
            Err(Errno::EXIST) => continue,
            // If a new one cannot be made either, the directory is gone.
            Err(Errno::NOENT) if !flags.contains(OFlags::CREATE) => continue,
            opened => opened.map_err(refused)?,
        };
        let is_taken = match lock(&file) {
            Err(Errno::WOULDBLOCK) => true,
            locked => locked.map(|()| false).map_err(refused)?,
        };
        let file = Locked::new(file);
        let stat = rustix::fs::fstat(&file).map_err(refused)?;
        let before = SystemTime::now().checked_sub(limits::SILENT);
        if is_taken && !before.is_some_and(|before| check::is_older(&stat, before)) {
            break;
        }
        // The holder of the lock may have given the file its final name, or removed it.
        if at::leads_to(parent, partial.as_bytes(), file.as_fd()) == Ok(true) {
            check_ours(name, &stat)?;
            let there = check::stat_of(&stat);
            let silent_since = is_taken.then_some(there.mtime);
            return Ok(Some(Found { file, size: there.size, silent_since }));
        }
    }
    let detail = format!("the partial file of {} is in use", quote(name.as_bytes()));
    Err(Error::new(ErrorKind::Busy, detail))
}

/// Refuses a file of another user, and one that has another name as well.
fn check_ours(name: Name<'_>, stat: &Stat) -> Result<()> {
    let ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_nlink == 1;
    if ours && regular(name.as_bytes(), stat).is_ok() {
        return Ok(());
    }
    let detail = format!("the partial file of {} is not the library's own", quote(name.as_bytes()));
    Err(Error::new(ErrorKind::Path, detail))
}

/// The name of the partial file: the same for each call, and short even if `name` is as long as
/// a name can be.
pub(super) fn partial_name(name: Name<'_>) -> String {
    let mut hasher = Hasher::default();
    hasher.update(name.split().1);
    let digest = hasher.finish().to_string();
    format!("{RESERVED}{}{PARTIAL}", &digest[..16])
}

/// How often a partial file may be found removed before it counts as in use.
const ATTEMPTS: u32 = 8;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::thread::ScopedJoinHandle;
    use std::time::{Duration, Instant};

    use rustix::fs::{CWD, FileType};

    use super::*;
    use crate::io::fs::store::{NewFile, StoreOptions};
    use crate::io::testing::{Tree, alone, failing, names, while_swapping, with_each_resolver};

    /// Of `old`: sha256sum(1).
    const PART: &str = ".framefd-cba06b5736faf67e.part";
    const NO_SYNC: StoreOptions = StoreOptions { sync: false, ..StoreOptions::DEFAULT };

    fn name() -> Name<'static> {
        Name::new(b"old").unwrap()
    }

    /// The prefix as well.
    fn resume(tree: &Tree, offset: u64) -> Result<(NewFile, String)> {
        let mut prefix = Vec::new();
        let mut take = |piece: &[u8]| {
            prefix.extend_from_slice(piece);
            Ok(())
        };
        let file = NewFile::resume(tree.root(), name(), NO_SYNC, offset, &mut take)?;
        Ok((file, String::from_utf8(prefix).unwrap()))
    }

    /// A file whose transfer was interrupted after `bytes`.
    fn cut_after(tree: &Tree, bytes: &[u8]) {
        resume(tree, 0).unwrap().0.write(bytes).unwrap();
    }

    fn kind<T>(result: Result<T>) -> ErrorKind {
        result.err().expect("an error").kind()
    }

    /// As if the partial file had been written to then.
    fn written(tree: &Tree, then: SystemTime) {
        let Ok(file) = fs::File::options().write(true).open(tree.path(PART)) else { return };
        file.set_modified(then).unwrap();
    }

    /// As if nothing had been written to it for a while.
    fn silence(tree: &Tree) {
        written(tree, SystemTime::now() - 2 * limits::SILENT);
    }

    /// As if something were written to it all the time: this process may have to wait for a
    /// processor for longer than a transfer may be silent.
    fn keep_alive(tree: &Tree) {
        written(tree, SystemTime::now() + 1000 * limits::SILENT);
    }

    fn assert_in_use(tree: &Tree) {
        keep_alive(tree);
        for offset in [0, 1, 3, 4] {
            assert_eq!(kind(resume(tree, offset)), ErrorKind::Busy, "{offset}");
        }
    }

    #[test]
    fn what_is_cut_stays_and_is_continued() {
        let tree = Tree::new();
        with_each_resolver(|| {
            cut_after(&tree, b"abc");
            assert_eq!(tree.names(""), [PART, "dir", "old"]);
            assert_eq!((tree.read(PART), tree.read("old")), ("abc".into(), "old".into()));
            let mode = fs::metadata(tree.path(PART)).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o600);
            assert_eq!(open_partial(tree.root(), name()).unwrap().unwrap().1, 3);

            let (mut file, prefix) = resume(&tree, 3).unwrap();
            file.write(b"d").unwrap();
            file.write(b"ef").unwrap();
            assert_eq!((prefix, tree.read("old")), ("abc".into(), "old".into()));
            file.commit().unwrap();
            assert_eq!(
                (tree.names(""), tree.read("old")),
                (vec!["dir".into(), "old".into()], "abcdef".into())
            );
            assert!(open_partial(tree.root(), name()).unwrap().is_none());
            fs::write(tree.path("old"), "old").unwrap();
        });
    }

    #[test]
    fn it_is_cut_to_the_offset_with_the_first_write() {
        let tree = Tree::new();
        cut_after(&tree, b"abcdef");
        for offset in [0, 4] {
            let (file, prefix) = resume(&tree, offset).unwrap();
            assert_eq!(prefix, &"abcd"[..usize::try_from(offset).unwrap()]);
            drop(file);
            assert_eq!(tree.read(PART), "abcdef");
        }
        resume(&tree, 4).unwrap().0.write(b"X").unwrap();
        assert_eq!(tree.read(PART), "abcdX");
        resume(&tree, 2).unwrap().0.commit().unwrap();
        assert_eq!(
            (tree.read("old"), tree.names("")),
            ("ab".into(), vec!["dir".into(), "old".into()])
        );
        resume(&tree, 0).unwrap().0.commit().unwrap();
        assert_eq!(tree.read("old"), "");
    }

    #[test]
    fn where_there_is_none_it_begins_with_the_stored_file() {
        let tree = Tree::new();
        let (file, prefix) = resume(&tree, 2).unwrap();
        assert_eq!(prefix, "ol");
        drop(file);
        assert_eq!(tree.names(""), ["dir", "old"]);

        let (mut file, _) = resume(&tree, 2).unwrap();
        file.write(b"X").unwrap();
        drop(file);
        assert_eq!((tree.read(PART), tree.read("old")), ("olX".into(), "old".into()));
        // Both have two bytes: the partial file is preferred.
        assert_eq!(resume(&tree, 3).unwrap().1, "olX");
        fs::remove_file(tree.path(PART)).unwrap();

        for written in [&b"der"[..], b""] {
            let (mut file, prefix) = resume(&tree, 3).unwrap();
            assert_eq!(prefix, "old");
            file.write(written).unwrap();
            file.commit().unwrap();
            assert_eq!(tree.read("old"), format!("old{}", str::from_utf8(written).unwrap()));
            assert_eq!(tree.names(""), ["dir", "old"]);
            fs::write(tree.path("old"), "old").unwrap();
        }
    }

    #[test]
    fn a_child_that_shares_it_does_not_keep_it_locked() {
        let tree = Tree::new();
        cut_after(&tree, b"x");
        let parent = Arc::new(rustix::io::fcntl_dupfd_cloexec(&tree.root, 0).unwrap());
        let (partial, ..) = lock(&parent, name()).unwrap();
        // As in a child between its start and its execve(2).
        let _shared = rustix::io::fcntl_dupfd_cloexec(&partial, 0).unwrap();
        drop(partial);
        resume(&tree, 0).unwrap();
    }

    #[test]
    fn one_that_is_too_short_gives_way_with_the_first_write() {
        let tree = Tree::new();
        cut_after(&tree, b"x");
        let (mut file, prefix) = resume(&tree, 2).unwrap();
        assert_eq!(prefix, "ol");
        assert_in_use(&tree);
        file.write(b"X").unwrap();
        assert_in_use(&tree);
        drop(file);
        assert_eq!((tree.read(PART), tree.names("").len()), ("olX".into(), 3));
        let (file, _) = resume(&tree, 1).unwrap();
        drop(file);
        fs::write(tree.path("old"), "longer").unwrap();
        drop(resume(&tree, 5).unwrap());
        assert_eq!((tree.read(PART), tree.names("").len()), ("olX".into(), 3));
    }

    #[test]
    fn what_is_read_first_can_be_ended_and_changes_nothing() {
        let tree = Tree::new();
        let long = vec![b'x'; 3 * 1024 * 1024];
        for stored in [false, true] {
            cut_after(&tree, if stored { b"x" } else { &long });
            fs::write(tree.path("old"), if stored { &long } else { &b"old"[..] }).unwrap();
            let before = (tree.names(""), tree.read(PART).len());
            let mut pieces = 0;
            let mut end = |_: &[u8]| {
                pieces += 1;
                Err(Error::new(ErrorKind::TimedOut, ""))
            };
            let resumed = NewFile::resume(tree.root(), name(), NO_SYNC, 2_000_000, &mut end);
            assert_eq!((kind(resumed), pieces), (ErrorKind::TimedOut, 1));
            assert_eq!((tree.names(""), tree.read(PART).len()), before);
        }
    }

    #[test]
    fn bytes_that_nobody_has_are_no_beginning() {
        let tree = Tree::new();
        assert_eq!(kind(resume(&tree, 4)), ErrorKind::BadField);
        assert_eq!(tree.names(""), ["dir", "old"]);
        cut_after(&tree, b"x");
        assert_eq!(kind(resume(&tree, 4)), ErrorKind::BadField);
        assert_eq!(kind(resume(&tree, u64::MAX)), ErrorKind::BadField);
        assert_eq!(tree.read(PART), "x");
        fs::remove_file(tree.path("old")).unwrap();
        assert_eq!(kind(resume(&tree, 2)), ErrorKind::BadField);
        assert_eq!(tree.read(PART), "x");
    }

    #[test]
    fn what_is_discarded_and_what_fails_leaves_nothing() {
        let tree = Tree::new();
        cut_after(&tree, b"");
        tree.assert_untouched();
        for offset in [0, 1, 2] {
            cut_after(&tree, b"x");
            resume(&tree, offset).unwrap().0.discard();
            tree.assert_untouched();
            cut_after(&tree, b"x");
            let (mut file, _) = resume(&tree, offset).unwrap();
            let full = failing(&[(libc::SYS_write, Errno::NOSPC)], || file.write(b"y"));
            assert_eq!(kind(full), ErrorKind::NoSpace);
            drop(file);
            tree.assert_untouched();
            cut_after(&tree, b"x");
            let file = resume(&tree, offset).unwrap().0;
            let failed = failing(&[(libc::SYS_fchmod, Errno::IO)], || file.commit());
            assert_eq!(kind(failed), ErrorKind::Io);
            tree.assert_untouched();
        }
    }

    #[test]
    fn only_one_at_a_time_continues_it() {
        let tree = Tree::new();
        let (mut file, _) = resume(&tree, 0).unwrap();
        file.write(b"abc").unwrap();
        assert_in_use(&tree);
        assert_eq!(kind(open_partial(tree.root(), name())), ErrorKind::Busy);
        tree.store("old", b"plain", NO_SYNC).unwrap();
        assert_eq!(tree.read("old"), "plain");
        file.commit().unwrap();
        assert_eq!(tree.read("old"), "abc");
        // Two readers do not exclude each other.
        cut_after(&tree, b"abc");
        let reading = open_partial(tree.root(), name()).unwrap();
        assert!(reading.is_some() && open_partial(tree.root(), name()).is_ok());
        assert_in_use(&tree);
        drop(reading);
        resume(&tree, 3).unwrap();
    }

    #[test]
    fn one_that_gets_its_final_name_before_it_is_locked_is_another_file() {
        let tree = Tree::new();
        cut_after(&tree, b"abc");
        let meanwhile = |file: &OwnedFd| {
            let _ = fs::rename(tree.path(PART), tree.path("old"));
            locked::lock(file, FlockOperation::NonBlockingLockExclusive)
        };
        let opened = open_locked(tree.root.as_fd(), name(), OFlags::RDWR, &meanwhile);
        assert!(opened.unwrap().is_none());
        let removing = |file: &OwnedFd| {
            fs::remove_file(tree.path(PART)).unwrap();
            locked::lock(file, FlockOperation::NonBlockingLockExclusive)
        };
        let flags = OFlags::RDWR | OFlags::CREATE;
        let opened = open_locked(tree.root.as_fd(), name(), flags, &removing);
        assert_eq!(kind(opened), ErrorKind::Busy);
        assert_eq!(
            (tree.names(""), tree.read("old")),
            (vec!["dir".into(), "old".into()], "abc".into())
        );
    }

    #[test]
    fn many_at_once_never_mix() {
        let tree = Tree::new();
        let content = |number: u8, from: usize| vec![b'0' + number; 5000 - from];
        let once = |number: u8| -> Result<()> {
            let (mut file, _) = resume(&tree, 0)?;
            content(number, 0).chunks(500).try_for_each(|piece| file.write(piece))?;
            file.commit()
        };
        let store = |number: u8| {
            let mut stored = 0;
            for _ in 0..200 {
                match once(number) {
                    Ok(()) => stored += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
                }
                let found = fs::read(tree.path("old")).unwrap();
                assert!(found == b"old" || found == content(found[0] - b'0', 0), "{found:?}");
            }
            stored
        };
        let stored: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || store(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(stored > 0);
        assert_eq!(tree.names(""), ["dir", "old"]);
    }

    /// One that has written "abc" and is silent.
    fn silent(tree: &Tree) -> NewFile {
        fs::write(tree.path("old"), "older").unwrap();
        let (mut file, _) = resume(tree, 0).unwrap();
        file.write(b"abc").unwrap();
        assert_in_use(tree);
        silence(tree);
        file
    }

    #[test]
    fn a_transfer_that_is_silent_loses_it() {
        let tree = Tree::new();
        for (offset, expected) in [(0, "!"), (2, "ab!"), (3, "abc!"), (4, "olde!")] {
            let mut first = silent(&tree);
            assert_eq!(open_partial(tree.root(), name()).unwrap().unwrap().1, 3);
            // A look at it changes nothing.
            drop(resume(&tree, offset).unwrap());
            resume(&tree, offset).unwrap().0.discard();
            assert_eq!(tree.read(PART), "abc");
            let (mut second, _) = resume(&tree, offset).unwrap();
            second.write(b"!").unwrap();
            assert_eq!(kind(first.write(b"x")), ErrorKind::Busy);
            drop(first);
            assert_eq!((tree.read(PART), tree.names("").len()), (expected.into(), 3));
            assert_in_use(&tree);
            second.commit().unwrap();
            assert_eq!((tree.read("old"), tree.names("").len()), (expected.into(), 2));
        }
    }

    #[test]
    fn what_was_taken_over_is_neither_stored_nor_removed() {
        let ends: [fn(NewFile); 3] =
            [drop, NewFile::discard, |file| assert_eq!(kind(file.commit()), ErrorKind::Busy)];
        for end in ends {
            let tree = Tree::new();
            let first = silent(&tree);
            let (mut second, _) = resume(&tree, 3).unwrap();
            second.write(b"").unwrap();
            end(first);
            assert_eq!((tree.read(PART), tree.read("old")), ("abc".into(), "older".into()));
            second.commit().unwrap();
            assert_eq!((tree.read("old"), tree.names("").len()), ("abc".into(), 2));
        }
    }

    #[test]
    fn one_that_writes_again_keeps_it() {
        let tree = Tree::new();
        let mut first = silent(&tree);
        let newer = || resume(&tree, 2).unwrap().0;
        let (mut second, mut third, fourth) = (newer(), newer(), newer());
        first.write(b"d").unwrap();
        assert_eq!(kind(second.write(b"x")), ErrorKind::Busy);
        first.commit().unwrap();
        assert_eq!(kind(third.write(b"x")), ErrorKind::Busy);
        assert_eq!(kind(fourth.commit()), ErrorKind::Busy);
        drop((second, third));
        assert_eq!((tree.read("old"), tree.names("").len()), ("abcd".into(), 2));

        let _first = silent(&tree);
        let (mut second, mut third) = (newer(), newer());
        second.write(b"x").unwrap();
        assert_eq!(kind(third.write(b"y")), ErrorKind::Busy);
        drop(third);
        second.commit().unwrap();
        assert_eq!((tree.read("old"), tree.names("").len()), ("abx".into(), 2));
    }

    #[test]
    fn many_that_take_it_over_never_mix() {
        let tree = Tree::new();
        let is_busy = |error: Error| assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        let tree = &tree;
        let store = |number: u8| -> Result<()> {
            let (mut file, _) = resume(tree, 0)?;
            for _ in 0..10 {
                file.write(&[number; 500])?;
            }
            file.commit()
        };
        let stored: usize = std::thread::scope(|scope| {
            let workers = [b'1', b'2', b'3'].map(|number| {
                scope.spawn(move || {
                    let stored = (0..200).map(|_| store(number).map_err(is_busy));
                    stored.flatten().count()
                })
            });
            while !workers.iter().all(ScopedJoinHandle::is_finished) {
                silence(tree);
                let there = tree.read("old");
                let is_whole = there == there[..1].repeat(5000);
                assert!(is_whole || there == "old", "{there}");
            }
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert!(stored > 0);
        resume(tree, 0).unwrap().0.commit().unwrap();
        assert_eq!(tree.names(""), ["dir", "old"]);
    }

    type Plant<'a> = Box<dyn Fn(&Path) + Sync + 'a>;

    #[test]
    fn what_somebody_planted_is_refused() {
        let tree = Tree::new();
        let outside = tree.dir.path().join("outside/file");
        let link = |to: &'static str| move |path: &Path| symlink(to, path).unwrap();
        let make =
            |kind| move |path: &Path| rustix::fs::mknodat(CWD, path, kind, Mode::RWXU, 0).unwrap();
        let mut planted: Vec<(&str, Plant<'_>)> = vec![
            ("link", Box::new(link("../outside/file"))),
            ("dangling link", Box::new(link("../outside/new"))),
            ("link within", Box::new(link("old"))),
            ("fifo", Box::new(make(FileType::Fifo))),
            ("socket", Box::new(|path| drop(UnixListener::bind(path).unwrap()))),
            ("directory", Box::new(|path| fs::create_dir(path).unwrap())),
            ("hard link", Box::new(|path| fs::hard_link(&outside, path).unwrap())),
        ];
        if rustix::process::geteuid().is_root() {
            planted.push((
                "another's",
                Box::new(|path| {
                    fs::write(path, "outside").unwrap();
                    std::os::unix::fs::chown(path, Some(65534), None).unwrap();
                }),
            ));
            planted.push((
                "device",
                Box::new(|path| {
                    let full = rustix::fs::makedev(1, 7);
                    // Not every container is allowed to.
                    if rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::RWXU, full)
                        .is_err()
                    {
                        fs::create_dir(path).unwrap();
                    }
                }),
            ));
        }
        for (what, plant) in &planted {
            let path = tree.path(PART);
            plant(&path);
            with_each_resolver(|| {
                for offset in [0, 2] {
                    assert_eq!(kind(resume(&tree, offset)), ErrorKind::Path, "{what}");
                }
                assert_eq!(kind(open_partial(tree.root(), name())), ErrorKind::Path, "{what}");
            });
            assert!(path.symlink_metadata().is_ok() && tree.names("").len() == 3, "{what}");
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
            assert_eq!(names(&tree.dir.path().join("outside")), ["file"]);
            assert_eq!(
                (fs::read_to_string(&outside).unwrap(), tree.read("old")),
                ("outside".into(), "old".into())
            );
        }
    }

    #[test]
    fn a_directory_that_turns_into_a_link_gets_nothing_outside() {
        let tree = Tree::new();
        symlink("../outside", tree.path("up")).unwrap();
        let name = Name::new(b"dir/file").unwrap();
        let mut number = 0;
        let mut attempt = || {
            number += 1;
            open_partial(tree.root(), name)?;
            let offset = u64::from(number % 2 == 0);
            let mut file = NewFile::resume(tree.root(), name, NO_SYNC, offset, &mut |_| Ok(()))?;
            file.write(b"new")?;
            if number % 3 == 0 { file.commit() } else { Ok(()) }
        };
        while_swapping(tree.root.as_fd(), ["dir", "up"], || {
            let (mut done, mut refused) = (0, 0);
            let start = Instant::now();
            while done.min(refused) < 300 && start.elapsed() < Duration::from_secs(10) {
                match attempt() {
                    Ok(()) => done += 1,
                    // There is nothing to continue yet.
                    Err(error) if error.kind() == ErrorKind::BadField => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Path, "{error}");
                        refused += 1;
                    }
                }
            }
            assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
        });
        assert_eq!(names(&tree.dir.path().join("outside")), ["file"]);
        assert_eq!(fs::read(tree.dir.path().join("outside/file")).unwrap(), b"outside");
    }

    #[test]
    fn its_mode_obeys_the_umask_in_the_end() {
        alone("io::fs::partial::tests::its_mode_obeys_the_umask_in_the_end", &[], || {
            rustix::process::umask(Mode::from_raw_mode(0o026));
            let tree = Tree::new();
            let options = StoreOptions { mode: Some(0o7777), parents: true, ..NO_SYNC };
            let name = Name::new(b"made/x").unwrap();
            for offset in [0, 1, 3] {
                let resumed = NewFile::resume(tree.root(), name, options, offset, &mut |_| Ok(()));
                let mut file = resumed.unwrap();
                file.write(b"xx").unwrap();
                if offset > 0 {
                    file.commit().unwrap();
                    let mode = fs::metadata(tree.path("made/x")).unwrap().mode() & 0o7777;
                    assert_eq!(mode, 0o751);
                }
            }
            assert_eq!(tree.read("made/x"), "xxxxx");
        });
    }

    #[test]
    fn a_file_system_without_locks_is_good_enough() {
        for errno in [Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOLCK] {
            let tree = Tree::new();
            failing(&[(libc::SYS_flock, errno)], || {
                cut_after(&tree, b"ab");
                assert_eq!(open_partial(tree.root(), name()).unwrap().unwrap().1, 2);
                let (mut file, prefix) = resume(&tree, 2).unwrap();
                file.write(b"c").unwrap();
                file.commit().unwrap();
                assert_eq!(prefix, "ab");
            });
            assert_eq!((tree.read("old"), tree.names("").len()), ("abc".into(), 2));
        }
        let tree = Tree::new();
        failing(&[(libc::SYS_flock, Errno::IO)], || {
            assert_eq!(resume(&tree, 0).unwrap_err().errno(), libc::EIO);
        });
    }

    #[test]
    fn permissions_are_those_of_the_directory() {
        let tree = Tree::new();
        fs::set_permissions(tree.path(""), fs::Permissions::from_mode(0o555)).unwrap();
        let denied = crate::io::testing::unprivileged(|| kind(resume(&tree, 0)));
        assert_eq!(denied, ErrorKind::Denied);
        fs::set_permissions(tree.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
