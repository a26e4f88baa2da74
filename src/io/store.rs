//! A file that is written beside its target and takes its place whole, or not at all.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use rand::TryRng;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, ErrorKind, Result};
use crate::io::root::{Root, refused, regular, stat_leaf, sync_directory};
use crate::io::signal::with_blocked;
use crate::wire::name::{Name, RESERVED};

/// How a file is stored.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Its permission bits, less the process's umask. Of others than 0777 (setuid,
    /// setgid, sticky) nothing is taken. The default is 0666.
    pub mode: Option<u32>,
    /// Its time of modification in milliseconds since 1970; by default, now.
    pub mtime: Option<i64>,
    /// Whether it may replace a file; by default it may.
    pub overwrite: bool,
    /// Whether [`NewFile::commit`] returns only when it would survive a power loss; by
    /// default so.
    pub sync: bool,
    /// Whether directories that are missing on the way to it are made; by default not.
    pub parents: bool,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { mode: None, mtime: None, overwrite: true, sync: true, parents: false }
    }
}

/// A file that has its name only once it is complete. Until [`commit`](Self::commit) it
/// is a temporary in the target's directory, which goes when this is dropped.
///
/// The target is replaced and never written to: who has it open, or has it under another
/// name (a hard link), keeps the old content. Only a regular file is replaced:
/// [`ErrorKind::Path`] where the target is anything else, a link included.
#[derive(Debug)]
pub struct NewFile {
    file: OwnedFd,
    temporary: Temporary,
    target: Target,
    mode: Option<Mode>,
    options: StoreOptions,
}

impl NewFile {
    /// Begins to store `name`. What [`commit`](Self::commit) would refuse is refused here
    /// if it can be seen already.
    pub fn create(root: Root<'_>, name: Name<'_>, options: StoreOptions) -> Result<NewFile> {
        let parent = root.make_parents(options.parents).open_parent(name)?;
        let target = Target { name: name.as_bytes().into(), leaf: name.split().1.into() };
        target.check(parent.as_fd(), options.overwrite)?;
        let mode = Mode::from_raw_mode(options.mode.unwrap_or(0o666) & 0o777);
        let (temporary, file) = Temporary::create(parent, &target, mode, random_name)?;
        let mode = make_private(file.as_fd()).map_err(|errno| target.refused("store", errno))?;
        Ok(NewFile { file, temporary, target, mode, options })
    }

    /// Appends all of `bytes`. After an error there is nothing to do but to drop this.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        with_blocked(|| write_all(self.file.as_fd(), bytes))
            .map_err(|errno| self.target.refused("write", errno))
    }

    /// Gives the file its mode, its time and, last, its name.
    ///
    /// [`ErrorKind::Exists`] where the name is taken and may not be replaced. After any
    /// error the target is as it was, with one exception: when its directory alone could
    /// not be synced, the new file is in place.
    pub fn commit(self) -> Result<()> {
        let NewFile { file, mut temporary, target, mode, options } = self;
        let refused = |errno| target.refused("store", errno);
        if let Some(mode) = mode {
            rustix::fs::fchmod(&file, mode).map_err(refused)?;
        }
        if let Some(mtime) = options.mtime {
            rustix::fs::futimens(&file, &modified_at(mtime)).map_err(refused)?;
        }
        if options.sync {
            // Never again after an error: the kernel forgets the pages that it could not
            // write, and a second fsync would succeed without them.
            retry_on_intr(|| rustix::fs::fsync(&file)).map_err(refused)?;
        }
        close(file).map_err(refused)?;
        target.check(temporary.parent.as_fd(), options.overwrite)?;
        if options.overwrite {
            temporary.replace(&target.leaf).map_err(refused)?;
        } else {
            temporary.take_free_name(&target.leaf).map_err(refused)?;
        }
        if options.sync {
            sync_directory(temporary.parent.as_fd()).map_err(refused)?;
        }
        Ok(())
    }
}

/// For a write(2), splice(2) or `copy_file_range(2)` of the caller's own, which may raise
/// `SIGXFSZ`.
impl AsFd for NewFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What is to be stored: the name as it was asked for, and its last component.
#[derive(Debug)]
struct Target {
    name: Box<[u8]>,
    leaf: Box<[u8]>,
}

impl Target {
    fn check(&self, parent: BorrowedFd<'_>, overwrite: bool) -> Result<()> {
        match stat_leaf(parent, &self.leaf) {
            Ok(stat) => {
                regular(&self.name, &stat)?;
                if overwrite { Ok(()) } else { Err(self.refused("store", Errno::EXIST)) }
            }
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.refused("store", errno)),
        }
    }

    fn refused(&self, doing: &str, errno: Errno) -> Error {
        refused(doing, &self.name, errno)
    }
}

/// The temporary name of a file, removed on drop.
#[derive(Debug)]
struct Temporary {
    parent: OwnedFd,
    name: String,
    exists: bool,
}

impl Temporary {
    /// Tries one of `names` after another: whatever is there already is left alone.
    fn create(
        parent: OwnedFd,
        target: &Target,
        mode: Mode,
        mut names: impl FnMut() -> Result<String>,
    ) -> Result<(Temporary, OwnedFd)> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            let name = names()?;
            match retry_on_intr(|| rustix::fs::openat(&parent, &name, flags, mode)) {
                Ok(file) => return Ok((Temporary { parent, name, exists: true }, file)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(target.refused("store", errno)),
            }
        }
        Err(Error::system("no free name for a temporary file", Errno::EXIST))
    }

    fn replace(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        rustix::fs::renameat(&self.parent, &self.name, &self.parent, leaf)?;
        self.exists = false;
        Ok(())
    }

    /// EEXIST where the name is taken.
    fn take_free_name(&mut self, leaf: &[u8]) -> rustix::io::Result<()> {
        let (parent, flags) = (&self.parent, RenameFlags::NOREPLACE);
        match rustix::fs::renameat_with(parent, &self.name, parent, leaf, flags) {
            // Not every file system knows the flag; link(2) never replaces either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(parent, &self.name, parent, leaf, AtFlags::empty())?;
                self.remove();
            }
            renamed => {
                renamed?;
                self.exists = false;
            }
        }
        Ok(())
    }

    fn remove(&mut self) {
        // Where it fails there is nobody to tell; the name says whose the file is.
        let _ = rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty());
        self.exists = false;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.exists {
            self.remove();
        }
    }
}

/// Names tried for a temporary. With 64 random bits the first is free, unless somebody
/// knows them beforehand.
const ATTEMPTS: u32 = 8;

fn random_name() -> Result<String> {
    let random = rand::rngs::SysRng
        .try_next_u64()
        .map_err(|error| Error::new(ErrorKind::Io, format!("random bytes: {error}")))?;
    Ok(format!("{RESERVED}{random:016x}.tmp"))
}

/// Closes the new, still empty `file` to others; returns the mode that it is to have in
/// the end, where that differs.
///
/// The file was created with its final mode, so that it is the kernel that has applied
/// the umask, or the directory's default ACL in its place: umask(2) cannot be asked
/// without being set. Whoever opens the file in between gains nothing that the finished
/// file would not give.
fn make_private(file: BorrowedFd<'_>) -> rustix::io::Result<Option<Mode>> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode & 0o777);
    let private = mode & (Mode::RUSR | Mode::WUSR);
    if mode == private {
        return Ok(None);
    }
    match rustix::fs::fchmod(file, private) {
        Ok(()) => Ok(Some(mode)),
        // A file system without modes, as FAT.
        Err(Errno::PERM | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match retry_on_intr(|| rustix::io::write(file, bytes))? {
            0 => return Err(Errno::IO),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

/// Closes with the error that a network file system has kept until then.
fn close(file: OwnedFd) -> rustix::io::Result<()> {
    // SAFETY: the descriptor was owned, and nothing uses it any more.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 {
        return Ok(());
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(Errno::INTR) | None => Ok(()), // Linux has closed it: close(2)
        Some(errno) => Err(errno),
    }
}

fn modified_at(milliseconds: i64) -> Timestamps {
    let nanoseconds = milliseconds.rem_euclid(1000) * 1_000_000;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: milliseconds.div_euclid(1000), tv_nsec: nanoseconds },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Barrier;
    use std::time::{Duration, Instant};

    use rustix::fs::{CWD, FileType};
    use rustix::process::{Resource, Rlimit};
    use tempfile::TempDir;

    use super::*;
    use crate::io::testing::{alone, failing, unprivileged, while_swapping, with_each_resolver};

    /// `outside/file` and, beside it, `root` with a file `old` and a directory `dir`.
    struct Tree {
        dir: TempDir,
        root: fs::File,
    }

    impl Tree {
        fn new() -> Tree {
            let dir = tempfile::tempdir().unwrap();
            for name in ["outside", "root", "root/dir"] {
                fs::create_dir(dir.path().join(name)).unwrap();
            }
            fs::write(dir.path().join("outside/file"), "outside").unwrap();
            fs::write(dir.path().join("root/old"), "old").unwrap();
            let root = fs::File::open(dir.path().join("root")).unwrap();
            Tree { dir, root }
        }

        fn root(&self) -> Root<'_> {
            Root::new(self.root.as_fd()).unwrap()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("root").join(name)
        }

        fn create(&self, name: &str, options: StoreOptions) -> Result<NewFile> {
            NewFile::create(self.root(), Name::new(name.as_bytes()).unwrap(), options)
        }

        fn store(&self, name: &str, bytes: &[u8], options: StoreOptions) -> Result<()> {
            let mut file = self.create(name, options)?;
            file.write(bytes)?;
            file.commit()
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }

        /// The names in `dir`, sorted.
        fn names(&self, dir: &str) -> Vec<String> {
            names(&self.path(dir))
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| name(entry).into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn kind<T>(result: Result<T>) -> ErrorKind {
        result.err().expect("an error").kind()
    }

    const DEFAULT: StoreOptions =
        StoreOptions { mode: None, mtime: None, overwrite: true, sync: true, parents: false };
    const NO_OVERWRITE: StoreOptions = StoreOptions { overwrite: false, ..DEFAULT };
    const NO_SYNC: StoreOptions = StoreOptions { sync: false, ..DEFAULT };

    #[test]
    fn a_file_appears_whole_and_only_on_commit() {
        let tree = Tree::new();
        let reader = fs::File::open(tree.path("old")).unwrap();
        let mut file = tree.create("old", StoreOptions::default()).unwrap();
        file.write(b"n").unwrap();
        file.write(b"").unwrap();
        file.write(b"ew").unwrap();
        assert_eq!(tree.read("old"), "old");
        file.commit().unwrap();
        assert_eq!(tree.read("old"), "new");
        assert_eq!(std::io::read_to_string(reader).unwrap(), "old");
        tree.store("dir/empty", b"", DEFAULT).unwrap();
        assert_eq!(tree.read("dir/empty"), "");
        assert_eq!(
            (tree.names(""), tree.names("dir")),
            (vec!["dir".into(), "old".into()], vec!["empty".into()])
        );
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let tree = Tree::new();
        let mut file = tree.create("old", DEFAULT).unwrap();
        file.write(b"new").unwrap();
        let temporary = tree.names("").into_iter().find(|name| name.starts_with(RESERVED)).unwrap();
        let digits = &temporary[RESERVED.len()..].strip_suffix(".tmp").unwrap();
        assert!(digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_eq!(kind(Name::new(temporary.as_bytes())), ErrorKind::Path);
        drop(file);
        assert_eq!(tree.names(""), ["dir", "old"]);
        assert_eq!(tree.read("old"), "old");
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let tree = Tree::new();
        symlink("../outside/file", tree.path("leaf")).unwrap();
        symlink("../outside/new", tree.path("dangling")).unwrap();
        symlink("../outside", tree.path("up")).unwrap();
        symlink("dir", tree.path("link")).unwrap();
        rustix::fs::mknodat(CWD, tree.path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        UnixListener::bind(tree.path("socket")).unwrap();
        let before = tree.names("");
        with_each_resolver(|| {
            for options in [DEFAULT, NO_OVERWRITE] {
                for name in [
                    "leaf", "dangling", "up", "up/file", "up/new", "link/x", "old/x", "dir",
                    "fifo", "socket",
                ] {
                    assert_eq!(kind(tree.create(name, options)), ErrorKind::Path, "{name}");
                }
                assert_eq!(kind(tree.create("missing/x", options)), ErrorKind::NotFound);
            }
        });
        assert_eq!(tree.names(""), before);
        assert_eq!(names(&tree.dir.path().join("outside")), ["file"]);
        assert_eq!(tree.names("dir"), [""; 0]);
    }

    #[test]
    fn what_takes_the_targets_place_meanwhile_is_not_replaced() {
        let tree = Tree::new();
        let plant: [(&str, &dyn Fn(PathBuf)); 3] = [
            ("link", &|path| symlink("../outside/file", path).unwrap()),
            ("directory", &|path| fs::create_dir(path).unwrap()),
            ("fifo", &|path| {
                rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            }),
        ];
        for (name, plant) in plant {
            let file = tree.create(name, DEFAULT).unwrap();
            plant(tree.path(name));
            let planted = fs::symlink_metadata(tree.path(name)).unwrap().ino();
            assert_eq!(kind(file.commit()), ErrorKind::Path, "{name}");
            assert_eq!(fs::symlink_metadata(tree.path(name)).unwrap().ino(), planted);
        }
        assert_eq!(tree.names(""), ["dir", "directory", "fifo", "link", "old"]);
    }

    #[test]
    fn a_hard_link_is_replaced_and_not_written_through() {
        let tree = Tree::new();
        let outside = tree.dir.path().join("outside/file");
        fs::hard_link(&outside, tree.path("link")).unwrap();
        with_each_resolver(|| {
            tree.store("link", b"new", DEFAULT).unwrap();
            assert_eq!(tree.read("link"), "new");
            assert_eq!(fs::read_to_string(&outside).unwrap(), "outside");
        });
    }

    #[test]
    fn names_are_bytes_and_twins_are_two() {
        let tree = Tree::new();
        let twins = ["caf\u{e9}", "cafe\u{301}", "CAFE", "cafe", "cafe ", "-rf"];
        for name in twins {
            tree.store(&format!("dir/{name}"), name.as_bytes(), DEFAULT).unwrap();
        }
        assert_eq!(tree.names("dir").len(), twins.len());
        for name in twins {
            assert_eq!(tree.read(&format!("dir/{name}")), name);
        }
    }

    #[test]
    fn a_planted_temporary_name_is_left_alone() {
        let tree = Tree::new();
        symlink("../outside/new", tree.path("dangling")).unwrap();
        symlink("../outside/file", tree.path("link")).unwrap();
        let create = |names: &[&str]| {
            let parent = rustix::io::fcntl_dupfd_cloexec(&tree.root, 0).unwrap();
            let target = Target { name: (*b"x").into(), leaf: (*b"x").into() };
            let mut names = names.iter().cycle();
            Temporary::create(parent, &target, Mode::RWXU, || Ok((*names.next().unwrap()).into()))
        };
        let error = create(&["dangling", "link", "old"]).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::EEXIST));
        let (temporary, _file) = create(&["dangling", "link", "free"]).unwrap();
        assert_eq!(temporary.name, "free");
        drop(temporary);
        assert_eq!(tree.names(""), ["dangling", "dir", "link", "old"]);
        assert_eq!(names(&tree.dir.path().join("outside")), ["file"]);
    }

    #[test]
    fn modes_obey_the_umask_and_are_never_special() {
        alone("io::store::tests::modes_obey_the_umask_and_are_never_special", &[], || {
            rustix::process::umask(Mode::from_raw_mode(0o026));
            let tree = Tree::new();
            let cases =
                [(None, 0o640), (Some(0o7777), 0o751), (Some(0o644), 0o640), (Some(0o400), 0o400)];
            for (mode, expected) in cases {
                let file = tree.create("old", StoreOptions { mode, ..DEFAULT }).unwrap();
                let meanwhile = rustix::fs::fstat(&file).unwrap().st_mode & 0o7777;
                assert_eq!(meanwhile, expected & 0o600);
                file.commit().unwrap();
                let mode = fs::metadata(tree.path("old")).unwrap().mode() & 0o7777;
                assert_eq!(mode, expected, "{mode:o}");
            }
            let name = Name::new(b"made/x").unwrap();
            let options = StoreOptions { parents: true, ..DEFAULT };
            NewFile::create(tree.root(), name, options).unwrap();
            assert_eq!(fs::metadata(tree.path("made")).unwrap().mode() & 0o7777, 0o751);
        });
    }

    #[test]
    fn a_file_system_without_modes_is_good_enough() {
        let tree = Tree::new();
        let no_modes = [(libc::SYS_fchmod, Errno::PERM)];
        failing(&no_modes, || tree.store("old", b"new", DEFAULT)).unwrap();
        assert_eq!(tree.read("old"), "new");
    }

    #[test]
    fn the_time_of_modification_is_kept_to_the_millisecond() {
        let tree = Tree::new();
        for (mtime, seconds, nanoseconds) in
            [(1_700_000_000_123, 1_700_000_000, 123_000_000), (0, 0, 0), (-1, -1, 999_000_000)]
        {
            tree.store("old", b"new", StoreOptions { mtime: Some(mtime), ..DEFAULT }).unwrap();
            let stat = fs::metadata(tree.path("old")).unwrap();
            assert_eq!((stat.mtime(), stat.mtime_nsec()), (seconds, nanoseconds));
        }
    }

    #[test]
    fn an_existing_file_is_kept_where_it_may_not_be_replaced() {
        let tree = Tree::new();
        assert_eq!(kind(tree.create("old", NO_OVERWRITE)), ErrorKind::Exists);
        let file = tree.create("new", NO_OVERWRITE).unwrap();
        fs::write(tree.path("new"), "other").unwrap();
        assert_eq!(kind(file.commit()), ErrorKind::Exists);
        assert_eq!((tree.read("old"), tree.read("new")), ("old".into(), "other".into()));
        assert_eq!(tree.names(""), ["dir", "new", "old"]);
    }

    /// With and without a renameat2(2) that knows `RENAME_NOREPLACE`.
    const RENAMES: [&[(libc::c_long, Errno)]; 3] =
        [&[], &[(libc::SYS_renameat2, Errno::INVAL)], &[(libc::SYS_renameat2, Errno::NOSYS)]];

    #[test]
    fn taking_a_free_name_never_replaces() {
        let tree = Tree::new();
        for missing in RENAMES {
            let NewFile { mut temporary, .. } = tree.create("new", NO_OVERWRITE).unwrap();
            failing(missing, || {
                assert_eq!(temporary.take_free_name(b"old"), Err(Errno::EXIST));
                assert_eq!(temporary.take_free_name(b"dir"), Err(Errno::EXIST));
                temporary.take_free_name(b"new").unwrap();
            });
            assert_eq!(tree.names(""), ["dir", "new", "old"]);
            assert_eq!(tree.read("old"), "old");
            fs::remove_file(tree.path("new")).unwrap();
        }
    }

    /// Different for each number, and more than one write long.
    fn content(number: u8) -> Vec<u8> {
        vec![b'0' + number; 100_000]
    }

    /// Stores `name` from eight threads at once.
    fn store_at_once(tree: &Tree, name: &str, options: StoreOptions) -> Vec<Result<()>> {
        let start = Barrier::new(8);
        let store = |number| {
            start.wait();
            let mut file = tree.create(name, options)?;
            content(number).chunks(10_000).try_for_each(|bytes| file.write(bytes))?;
            file.commit()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || store(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn of_eight_at_once_the_last_wins_whole() {
        let tree = Tree::new();
        for result in store_at_once(&tree, "dir/x", DEFAULT) {
            result.unwrap();
        }
        let stored = fs::read(tree.path("dir/x")).unwrap();
        assert!((0..8).any(|number| stored == content(number)));
        assert_eq!(tree.names("dir"), ["x"]);
    }

    #[test]
    fn of_eight_at_once_one_is_first_where_none_may_replace() {
        let tree = Tree::new();
        let results = store_at_once(&tree, "dir/x", NO_OVERWRITE);
        let stored = fs::read(tree.path("dir/x")).unwrap();
        for (number, result) in (0..8).zip(results) {
            match result {
                Ok(()) => assert_eq!(stored, content(number)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Exists, "{error}");
                    assert_ne!(stored, content(number));
                }
            }
        }
        assert_eq!(tree.names("dir"), ["x"]);
    }

    #[test]
    fn a_full_disk_is_told_and_keeps_the_old_file() {
        // Its own user and mount namespace, so that it can mount.
        let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
        alone("io::store::tests::a_full_disk_is_told_and_keeps_the_old_file", &wrapper, || {
            let tree = Tree::new();
            let mount = ["-t", "tmpfs", "-o", "size=64k", "framefd"];
            let mounted = Command::new("mount").args(mount).arg(tree.path("dir")).status();
            assert!(mounted.unwrap().success());
            tree.store("dir/x", b"old", DEFAULT).unwrap();

            let mut file = tree.create("dir/x", DEFAULT).unwrap();
            let error = file.write(&vec![b'x'; 128 * 1024]).unwrap_err();
            assert_eq!((error.kind(), error.errno()), (ErrorKind::NoSpace, libc::ENOSPC));
            drop(file);
            assert_eq!(tree.names("dir"), ["x"]);
            assert_eq!(tree.read("dir/x"), "old");

            tree.store("dir/x", &vec![b'x'; 32 * 1024], DEFAULT).unwrap();
            assert_eq!(tree.read("dir/x").len(), 32 * 1024);
            assert!(Command::new("umount").arg(tree.path("dir")).status().unwrap().success());
        });
    }

    #[test]
    fn a_fault_at_any_step_keeps_the_old_file() {
        let tree = Tree::new();
        let renames = |errno| vec![(libc::SYS_renameat, errno), (libc::SYS_renameat2, errno)];
        let cases = [
            (vec![(libc::SYS_write, Errno::IO)], ErrorKind::Io),
            (vec![(libc::SYS_write, Errno::DQUOT)], ErrorKind::NoSpace),
            (vec![(libc::SYS_fchmod, Errno::IO)], ErrorKind::Io),
            (vec![(libc::SYS_fsync, Errno::IO)], ErrorKind::Io),
            (vec![(libc::SYS_fsync, Errno::NOSPC)], ErrorKind::NoSpace),
            (renames(Errno::NOSPC), ErrorKind::NoSpace),
            (renames(Errno::ROFS), ErrorKind::Io),
            (renames(Errno::ACCESS), ErrorKind::Denied),
        ];
        for (calls, expected) in cases {
            let error = failing(&calls, || tree.store("old", b"new", DEFAULT)).unwrap_err();
            assert_eq!((error.kind(), error.errno()), (expected, calls[0].1.raw_os_error()));
            assert_eq!(tree.read("old"), "old", "{error}");
            assert_eq!(tree.names(""), ["dir", "old"], "{error}");
        }
    }

    #[test]
    fn a_fault_at_close_keeps_the_old_file() {
        let tree = Tree::new();
        let file = tree.create("old", NO_SYNC).unwrap();
        let error = failing(&[(libc::SYS_close, Errno::IO)], || file.commit()).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::EIO));
        assert_eq!(
            (tree.read("old"), tree.names("")),
            ("old".into(), vec!["dir".into(), "old".into()])
        );
    }

    #[test]
    fn the_directory_is_synced_once_the_file_is_in_place() {
        let tree = Tree::new();
        let file = tree.create("old", DEFAULT).unwrap();
        // It is opened for that; nothing else is opened by then.
        let error = failing(&[(libc::SYS_openat, Errno::IO)], || file.commit()).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::EIO));
        assert_eq!((tree.read("old"), tree.names("").len()), (String::new(), 2));
    }

    #[test]
    fn nothing_is_synced_where_that_was_not_asked_for() {
        let tree = Tree::new();
        failing(&[(libc::SYS_fsync, Errno::IO)], || tree.store("old", b"new", NO_SYNC)).unwrap();
        assert_eq!(tree.read("old"), "new");
    }

    #[test]
    fn a_file_size_limit_ends_the_write_and_not_the_process() {
        let name = "io::store::tests::a_file_size_limit_ends_the_write_and_not_the_process";
        alone(name, &[], || {
            let tree = Tree::new();
            let limit = Rlimit { current: Some(8192), maximum: Some(8192) };
            rustix::process::setrlimit(Resource::Fsize, limit).unwrap();
            let mut file = tree.create("old", DEFAULT).unwrap();
            file.write(&[b'x'; 8000]).unwrap();
            let error = file.write(&[b'x'; 8000]).unwrap_err();
            assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::EFBIG));
            drop(file);
            assert_eq!((tree.read("old"), tree.names("").len()), ("old".into(), 2));
        });
    }

    #[test]
    fn permissions_of_the_directory_decide() {
        let tree = Tree::new();
        fs::create_dir(tree.path("drop")).unwrap();
        let set = |name, mode| {
            fs::set_permissions(tree.path(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        set("", 0o755);
        set("dir", 0o555);
        set("drop", 0o333);
        unprivileged(|| {
            with_each_resolver(|| {
                assert_eq!(kind(tree.create("dir/x", DEFAULT)), ErrorKind::Denied);
                // Where names cannot be listed, files can be left all the same.
                tree.store("drop/x", b"new", DEFAULT).unwrap();
            });
        });
        set("dir", 0o755);
        set("drop", 0o755);
        assert_eq!((tree.names("dir").len(), tree.names("drop")), (0, vec!["x".into()]));
    }

    #[test]
    fn a_directory_that_turns_into_a_link_gets_nothing_outside() {
        let tree = Tree::new();
        symlink("../outside", tree.path("up")).unwrap();
        while_swapping(tree.root.as_fd(), ["dir", "up"], || {
            with_each_resolver(|| {
                let (mut stored, mut refused) = (0, 0);
                let start = Instant::now();
                while stored.min(refused) < 300 && start.elapsed() < Duration::from_secs(10) {
                    match tree.store("dir/file", b"new", NO_SYNC) {
                        Ok(()) => stored += 1,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Path, "{error}");
                            refused += 1;
                        }
                    }
                }
                assert!(stored > 0 && refused > 0, "{stored} stored, {refused} refused");
            });
        });
        let outside = tree.dir.path().join("outside");
        assert_eq!(names(&outside), ["file"]);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside");
        let within = if tree.path("dir").is_symlink() { "up" } else { "dir" };
        assert_eq!(tree.names(within), ["file"]);
    }
}
