//! A file that is written beside its target, and replaces it as a whole or not at all.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::check::{refused, regular, size};
use crate::io::fs::in_place;
use crate::io::fs::mode;
use crate::io::fs::own_file::OwnFile;
use crate::io::fs::partial;
use crate::io::fs::range::{read_start, seek};
use crate::io::fs::root::{Root, open_regular};
use crate::io::fs::write::{close, set_time, write_all};
use crate::io::signal::with_blocked;
use crate::wire::name::Name;
use crate::wire::quote;

/// How a file is stored.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct StoreOptions {
    /// Its permission bits, reduced by the process's umask. Bits other than 0777 (setuid,
    /// setgid, sticky) are ignored. By default a file that is replaced keeps its own.
    pub mode: Option<u32>,
    /// Those of a file that replaces none, if `mode` is not set. The default is 0666.
    pub new_mode: Option<u32>,
    /// Its time of modification in milliseconds since 1970; by default, now.
    pub mtime: Option<i64>,
    /// Whether it may replace a file; by default it may.
    pub overwrite: bool,
    /// Whether a file that is there gets the new content, and stays the same file; by default it
    /// is replaced.
    pub in_place: bool,
    /// Whether [`NewFile::commit`] returns only when it would survive a power failure; by
    /// default it does.
    pub sync: bool,
    /// Whether missing parent directories are made, once the file is complete; by default not.
    pub parents: bool,
}

impl StoreOptions {
    /// The default of each.
    pub const DEFAULT: StoreOptions = StoreOptions {
        mode: None,
        new_mode: None,
        mtime: None,
        overwrite: true,
        in_place: false,
        sync: true,
        parents: false,
    };

    /// The permission bits of a file that replaces none.
    fn bits(&self) -> Mode {
        Mode::from_raw_mode(self.mode.or(self.new_mode).unwrap_or(0o666) & 0o777)
    }
}

/// A file that gets its name only once it is complete. Until [`commit`](Self::commit) it is an
/// unfinished file in the target's directory.
///
/// The target is replaced and not written to: open descriptors and other names (hard links)
/// keep the old content. Only a regular file is replaced: [`ErrorKind::Path`] if the target is
/// anything else, including a link.
///
/// With [`in_place`](StoreOptions::in_place) the complete content is copied to the target by
/// [`commit`](Self::commit). Open descriptors and other names see it, and it keeps its owner and
/// access control list. The unfinished file may then be in another directory, if there can be none
/// in the target's.
#[derive(Debug)]
pub struct NewFile {
    file: OwnFile,
    target: Target,
    mode: Option<Mode>,
    options: StoreOptions,
    pending: Option<Pending>,
    /// Bytes of it so far.
    size: u64,
}

/// Work that is delayed until the first write, so that a caller that only compares the prefix
/// changes nothing.
#[derive(Debug)]
enum Pending {
    /// Truncate the partial file to this many bytes.
    Cut(u64),
    /// Replace this partial file, if the transfer that has it has written nothing since then.
    Replace(OwnFile, Option<i64>),
    /// Become the partial file, in a directory that is to be made.
    Become,
}

impl NewFile {
    /// Begins to store `name` as a temporary file, which is removed when this is dropped. Errors
    /// of [`commit`](Self::commit) that can be detected now are returned here.
    pub fn create(root: Root<'_>, name: Name<'_>, options: StoreOptions) -> Result<NewFile> {
        let (target, exists) = Target::open(root, name, &options)?;
        let (file, mode) = match new_temporary(&target.dir, &target, &options) {
            Err(error) if options.in_place && exists => elsewhere(root, &target, &options, error),
            made => made,
        }?;
        Ok(NewFile { file, target, mode, options, pending: None, size: 0 })
    }

    /// Continues to store `name` after its first `offset` bytes, which are passed to `prefix` in
    /// pieces. They are those of the partial file or, if that has fewer, a copy of those of the
    /// stored file; [`ErrorKind::BadField`] if neither has as many. An error of `prefix` ends it.
    ///
    /// With an offset of 0 the partial file begins anew. It stays when this is dropped, with the
    /// bytes written so far; before the first write it is unchanged. [`ErrorKind::Busy`] if
    /// another transfer is writing it, [`ErrorKind::Path`] if something else has its name.
    ///
    /// A transfer that wrote nothing for [`limits::SILENT`] loses its partial file with the first
    /// write to this one, which is a copy: its own next write, or its commit, is `Busy`.
    pub fn resume(
        root: Root<'_>,
        name: Name<'_>,
        options: StoreOptions,
        offset: u64,
        prefix: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<NewFile> {
        let (target, _) = Target::open(root, name, &options)?;
        let parent = Arc::clone(&target.dir);
        if target.directories().is_some() {
            // There is neither a partial file nor a stored one.
            let nothing = || target.too_short(offset);
            (offset == 0).then_some(()).ok_or_else(nothing)?;
            let (file, mode) = new_temporary(&parent, &target, &options)?;
            let pending = Some(Pending::Become);
            return Ok(NewFile { file, target, mode, options, pending, size: 0 });
        }
        let (partial, size, silent_since) = partial::lock(&parent, name)?;
        let refused = |errno| target.refused("resume", errno);
        if offset <= size && silent_since.is_none() {
            read_start(partial.as_fd(), offset, prefix)?.map_err(refused)?;
            // Only a new file shows the umask.
            let (_, mode) = new_temporary(&parent, &target, &options)?;
            let pending = Some(Pending::Cut(offset));
            return Ok(NewFile { file: partial, target, mode, options, pending, size: offset });
        }
        let stored = (offset > size).then(|| target.open_stored(name, offset)).transpose()?;
        let beginning = stored.as_ref().map_or(partial.as_fd(), |stored| stored.as_fd());
        let (file, mode) = new_temporary(&parent, &target, &options)?;
        read_start(beginning, offset, &mut |piece| {
            prefix(piece)?;
            write_all(file.as_fd(), piece).map_err(refused)
        })?
        .map_err(refused)?;
        let pending = Some(Pending::Replace(partial, silent_since));
        Ok(NewFile { file, target, mode, options, pending, size: offset })
    }

    /// Uses the mode and the modification time of the source if the options set none.
    pub fn adopt(&mut self, mode: Option<u32>, mtime: Option<i64>) -> Result<()> {
        self.options.mtime = self.options.mtime.or(mtime);
        let before = self.options.mode;
        self.options.mode = before.or(mode);
        if before == self.options.mode { Ok(()) } else { self.probe() }
    }

    /// Uses the mode of the source if it replaces no file and the options set none.
    pub fn adopt_if_new(&mut self, mode: Option<u32>) -> Result<()> {
        let before = self.options.bits();
        self.options.new_mode = mode;
        if before == self.options.bits() || self.target.check(true)?.is_some() {
            return Ok(());
        }
        self.probe()
    }

    /// Only a new file shows the umask.
    fn probe(&mut self) -> Result<()> {
        (_, self.mode) = new_temporary(self.file.parent(), &self.target, &self.options)?;
        Ok(())
    }

    /// Appends all of `bytes`. After an error drop this; nothing is left of it then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.begin().and_then(|()| {
            let written = self.append(bytes);
            written.map_err(|errno| self.target.refused("write", errno))?;
            if self.file.is_lost() { Err(taken_over()) } else { Ok(()) }
        });
        written.inspect_err(|_| self.file.give_up())
    }

    /// Appends `bytes`, and leaves out blocks of zeros.
    fn append(&mut self, mut bytes: &[u8]) -> rustix::io::Result<()> {
        while !bytes.is_empty() {
            let mut len = block_at(self.size, bytes);
            let is_hole = is_zeros(&bytes[..len]);
            while len < bytes.len() && is_zeros(next_block(bytes, len)) == is_hole {
                len += next_block(bytes, len).len();
            }
            let (run, rest) = bytes.split_at(len);
            self.size += len as u64;
            if is_hole {
                seek(self.file.as_fd(), self.size)?;
            } else {
                write_all(self.file.as_fd(), run)?;
            }
            bytes = rest;
            if is_hole && rest.is_empty() {
                // Its size is always that of what has come.
                with_blocked(|| rustix::fs::ftruncate(&self.file, self.size))?;
            }
        }
        Ok(())
    }

    /// Gives up without leaving anything, not even a partial file.
    pub fn discard(mut self) {
        self.file.give_up();
        if let Some(Pending::Replace(partial, _)) = &mut self.pending {
            partial.give_up();
        }
    }

    /// Gives the file its mode, its time and, last, its name.
    ///
    /// [`ErrorKind::Exists`] if the name exists and may not be replaced. After any error the
    /// target is unchanged and nothing else is left, with two exceptions: if only its directory
    /// could not be synced, the new file is in place; and a target that is written in place may
    /// have a part of each content, which the error says.
    pub fn commit(self) -> Result<()> {
        self.commit_at_work(&mut || {})
    }

    /// As [`commit`](Self::commit), which takes long in place: calls `at_work` meanwhile.
    pub fn commit_at_work(mut self, at_work: &mut dyn FnMut()) -> Result<()> {
        let begun = self.begin();
        let NewFile { mut file, mut target, mode, options, pending: _, size } = self;
        file.give_up();
        begun?;
        let name = target.name.clone();
        let refused = |errno| refused("store", &name, errno);
        file.claim().map_err(|errno| target.cannot_begin(errno))?;
        let replaced = target.check(options.overwrite)?;
        if options.in_place {
            if replaced.is_some() {
                return target.overwrite(&file, size, mode, &options, at_work);
            }
            // It was there, and this cannot get its name.
            let is_beside = Arc::ptr_eq(file.parent(), &target.dir);
            is_beside.then_some(()).ok_or_else(|| refused(Errno::NOENT))?;
        }
        describe(&file, &target.leaf, replaced.as_ref(), mode, &options).map_err(refused)?;
        if options.sync {
            // Never repeated after an error: the kernel forgets the pages that it could not
            // write, and a second fsync would succeed without them.
            retry_on_intr(|| rustix::fs::fsync(&file)).map_err(refused)?;
        }
        // The file stays open, and thus locked, until it has its name.
        rustix::io::fcntl_dupfd_cloexec(&file, 0).and_then(close).map_err(refused)?;
        target.make_directories(options.sync)?;
        let parent = Arc::clone(&target.dir);
        target.check(options.overwrite)?;
        if options.overwrite && !options.in_place {
            file.replace(&parent, &target.leaf).map_err(refused)?;
        } else {
            file.take_free_name(&parent, &target.leaf).map_err(refused)?;
        }
        if options.sync {
            at::sync(parent.as_fd()).map_err(refused)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        let begun = match self.pending.take() {
            None => Ok(()),
            Some(Pending::Cut(offset)) => {
                retry_on_intr(|| rustix::fs::ftruncate(&self.file, offset))
                    .and_then(|()| seek(self.file.as_fd(), offset))
            }
            Some(Pending::Replace(partial, since)) => match since {
                Some(since) if partial::written_at(partial.as_fd()) != Ok(since) => {
                    Err(Errno::EXIST)
                }
                _ => self.file.take_over(partial),
            },
            Some(Pending::Become) => {
                self.target.make_directories(self.options.sync)?;
                let name = partial::partial_name(Name::new(&self.target.leaf)?);
                self.file.move_to(&self.target.dir, name)
            }
        };
        begun.map_err(|errno| self.target.cannot_begin(errno))
    }
}

/// The target of a store: its directory or the nearest one that exists, the requested name, its
/// last component, and the part of the name below that directory. That has more than one component
/// if directories are to be made: only when there is something to store in them.
#[derive(Debug)]
struct Target {
    dir: Arc<OwnedFd>,
    name: Box<[u8]>,
    leaf: Box<[u8]>,
    rest: Box<[u8]>,
}

impl Target {
    /// The target, and whether there is a file.
    fn open(root: Root<'_>, name: Name<'_>, options: &StoreOptions) -> Result<(Target, bool)> {
        let leaf = name.split().1;
        let (dir, rest) = if options.parents {
            root.open_nearest(name)?
        } else {
            (root.open_parent(name)?, leaf)
        };
        let (dir, name) = (Arc::new(dir), name.as_bytes().into());
        let target = Target { dir, name, leaf: leaf.into(), rest: rest.into() };
        let exists = target.check(options.overwrite)?.is_some();
        if exists && options.in_place {
            in_place::check(target.dir.as_fd(), target.name()?)?;
        }
        Ok((target, exists))
    }

    fn name(&self) -> Result<Name<'_>> {
        Name::new(&self.name)
    }

    /// The target below the nearest directory, if directories are missing.
    fn directories(&self) -> Option<&[u8]> {
        (self.rest.len() > self.leaf.len()).then_some(&self.rest)
    }

    /// Makes the missing directories.
    fn make_directories(&mut self, sync: bool) -> Result<()> {
        let Some(rest) = self.directories() else { return Ok(()) };
        let root = Root::new(self.dir.as_fd())?.make_parents(true, sync);
        self.dir = Arc::new(root.open_parent(Name::new(rest)?)?);
        self.rest = self.leaf.clone();
        Ok(())
    }

    /// Writes the complete `file` over the existing one.
    fn overwrite(
        &self,
        file: &OwnFile,
        size: u64,
        mode: Option<Mode>,
        options: &StoreOptions,
        at_work: &mut dyn FnMut(),
    ) -> Result<()> {
        let private = Mode::RUSR | Mode::WUSR;
        let content = in_place::Content {
            from: file.as_fd(),
            size,
            mode: options.mode.map(|_| mode.unwrap_or(private)),
            mtime: options.mtime,
            sync: options.sync,
        };
        in_place::overwrite(self.dir.as_fd(), self.name()?, &content, at_work)
    }

    /// The existing file, if it has at least `size` bytes.
    fn open_stored(&self, name: Name<'_>, wanted: u64) -> Result<OwnedFd> {
        match open_regular(self.dir.as_fd(), name, OFlags::RDONLY) {
            Ok((file, stat)) if size(&stat) >= wanted => Ok(file),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Err(self.too_short(wanted)),
        }
    }

    fn too_short(&self, wanted: u64) -> Error {
        let detail = format!("there are no {wanted} bytes of {}", quote(&self.name));
        Error::new(ErrorKind::BadField, detail)
    }

    /// The file that is to be replaced.
    fn check(&self, overwrite: bool) -> Result<Option<Stat>> {
        if self.directories().is_some() {
            return Ok(None);
        }
        match at::stat(self.dir.as_fd(), &self.leaf) {
            Ok(stat) => {
                regular(&self.name, &stat)?;
                if overwrite { Ok(Some(stat)) } else { Err(self.refused("store", Errno::EXIST)) }
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.refused("store", errno)),
        }
    }

    /// EEXIST says that another transfer has the partial file.
    fn cannot_begin(&self, errno: Errno) -> Error {
        if errno == Errno::EXIST { taken_over() } else { self.refused("write", errno) }
    }

    fn refused(&self, doing: &str, errno: Errno) -> Error {
        refused(doing, &self.name, errno)
    }
}

/// Gives a complete file its mode, its time and its owner.
fn describe(
    file: &OwnFile,
    leaf: &[u8],
    replaced: Option<&Stat>,
    mode: Option<Mode>,
    options: &StoreOptions,
) -> rustix::io::Result<()> {
    let fd = file.as_fd();
    let bits = match replaced {
        Some(replaced) => {
            let kept = mode::take_after(fd, replaced);
            if options.mode.is_some() {
                mode
            } else {
                Some(mode::take_acl(fd, (file.parent().as_fd(), leaf), kept))
            }
        }
        // It may have replaced one when the mode was made.
        None => mode.map(|mode| mode & options.bits()),
    };
    if let Some(bits) = bits {
        mode::set(fd, bits)?;
    }
    set_time(fd, options.mtime)?;
    if let Some(replaced) = replaced {
        mode::take_owner(fd, replaced);
    }
    Ok(())
}

fn taken_over() -> Error {
    Error::new(ErrorKind::Busy, "another transfer of the file has begun meanwhile")
}

/// A new temporary for `target`, not accessible to others; and its final mode, if that differs.
///
/// It is created with its final mode, so that the kernel applies the umask or the directory's
/// default ACL: umask(2) cannot be read without setting it. A process that opens the file in
/// between gains nothing that the finished file would not give.
fn new_temporary(
    parent: &Arc<OwnedFd>,
    target: &Target,
    options: &StoreOptions,
) -> Result<(OwnFile, Option<Mode>)> {
    let file = OwnFile::create(parent, &target.name, options.bits())?;
    let private = Mode::RUSR | Mode::WUSR;
    let made_private = rustix::fs::fstat(&file).and_then(|stat| {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
        if mode == private {
            return Ok(None);
        }
        match rustix::fs::fchmod(&file, private) {
            Ok(()) => Ok(Some(mode)),
            // A file system without modes, as FAT.
            Err(Errno::PERM | Errno::NOTSUP) => Ok(None),
            Err(errno) => Err(errno),
        }
    });
    let mode = made_private.map_err(|errno| target.refused("store", errno))?;
    Ok((file, mode))
}

/// As [`new_temporary`], for a target that is written in place, if its own directory gives
/// `refusal`: in the root, or in a directory for temporary files.
fn elsewhere(
    root: Root<'_>,
    target: &Target,
    options: &StoreOptions,
    refusal: Error,
) -> Result<(OwnFile, Option<Mode>)> {
    if refusal.kind() == ErrorKind::NoSpace {
        return Err(refusal);
    }
    let temporary = |path: &&[u8]| at::open(CWD, path, OFlags::DIRECTORY, Mode::empty()).ok();
    let dirs = [&b"/var/tmp"[..], b"/tmp"];
    let mut dirs =
        root.open_directory(None).ok().into_iter().chain(dirs.iter().filter_map(temporary));
    let made = dirs.find_map(|dir| new_temporary(&Arc::new(dir), target, options).ok());
    made.ok_or(refusal)
}

/// The bytes up to the next block, for a file of `size` bytes.
fn block_at(size: u64, bytes: &[u8]) -> usize {
    let within = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    bytes.len().min(BLOCK - within)
}

fn next_block(bytes: &[u8], from: usize) -> &[u8] {
    &bytes[from..bytes.len().min(from + BLOCK)]
}

/// For a block, or the part of one that has come.
fn is_zeros(block: &[u8]) -> bool {
    block[0] == 0 && block[1..] == block[..block.len() - 1]
}

/// What a file system can leave out of a file, and what the zeros are compared in.
const BLOCK: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use rustix::fs::FileType;
    use rustix::process::{Resource, Rlimit};

    use super::*;
    use crate::io::testing::{
        Tree, alone, failing, names, unprivileged, while_swapping, with_each_resolver,
    };
    use crate::wire::name::RESERVED;

    fn kind<T>(result: Result<T>) -> ErrorKind {
        result.err().expect("an error").kind()
    }

    const DEFAULT: StoreOptions = StoreOptions::DEFAULT;
    const NO_OVERWRITE: StoreOptions = StoreOptions { overwrite: false, ..DEFAULT };
    const NO_SYNC: StoreOptions = StoreOptions { sync: false, ..DEFAULT };

    #[test]
    fn a_file_appears_whole_and_only_on_commit() {
        let tree = Tree::new();
        let reader = fs::File::open(tree.path("old")).unwrap();
        let mut file = tree.create("old", StoreOptions::DEFAULT).unwrap();
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
    fn blocks_of_zeros_take_no_space() {
        let tree = Tree::new();
        let mut content = vec![0; 9 << 20];
        content[(1 << 20) + 5] = 1;
        content[5 << 20..(5 << 20) + 5000].fill(2);
        for (step, len) in [(1 << 20, 9 << 20), (10_000, (9 << 20) - 1), (4095, 6 << 20)] {
            let content = &content[..len];
            let mut file = tree.create("old", NO_SYNC).unwrap();
            content.chunks(step).for_each(|piece| file.write(piece).unwrap());
            file.commit().unwrap();
            assert!(fs::read(tree.path("old")).unwrap() == content, "{step}");
            let there = fs::metadata(tree.path("old")).unwrap();
            if step == 1 << 20 {
                assert!(there.blocks() * 512 < 1 << 20, "{} blocks", there.blocks());
            }
        }
        // What is resumed may begin and end with zeros, within a block.
        let name = Name::new(b"x").unwrap();
        for part in [100, 4096, 10_000] {
            let resume = |offset| {
                NewFile::resume(tree.root(), name, NO_SYNC, offset, &mut |_| Ok(())).unwrap()
            };
            let mut file = resume(0);
            file.write(&vec![1; part]).unwrap();
            drop(file);
            let mut file = resume(part as u64);
            file.write(&vec![0; 100_000]).unwrap();
            file.commit().unwrap();
            let stored = fs::read(tree.path("x")).unwrap();
            assert!(stored == [vec![1; part], vec![0; 100_000]].concat(), "{part}");
        }
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let tree = Tree::new();
        let mut file = tree.create("old", DEFAULT).unwrap();
        file.write(b"new").unwrap();
        // If it has a name meanwhile, nobody else can use it.
        for temporary in tree.names("").iter().filter(|name| name.starts_with(RESERVED)) {
            let digits = &temporary[RESERVED.len()..].strip_suffix(".tmp").unwrap();
            assert!(digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            assert_eq!(kind(Name::new(temporary.as_bytes())), ErrorKind::Path);
        }
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
    fn modes_obey_the_umask_and_are_never_special() {
        alone("io::fs::store::tests::modes_obey_the_umask_and_are_never_special", &[], || {
            rustix::process::umask(Mode::from_raw_mode(0o026));
            let tree = Tree::new();
            let cases =
                [(None, 0o640), (Some(0o7777), 0o751), (Some(0o644), 0o640), (Some(0o400), 0o400)];
            for (mode, expected) in cases {
                let file = tree.create("old", StoreOptions { mode, ..DEFAULT }).unwrap();
                let meanwhile = rustix::fs::fstat(&file.file).unwrap().st_mode & 0o7777;
                assert_eq!(meanwhile, 0o600);
                file.commit().unwrap();
                let mode = fs::metadata(tree.path("old")).unwrap().mode() & 0o7777;
                assert_eq!(mode, expected, "{mode:o}");
            }
            let name = Name::new(b"made/x").unwrap();
            let options = StoreOptions { parents: true, ..DEFAULT };
            NewFile::create(tree.root(), name, options).unwrap().commit().unwrap();
            assert_eq!(fs::metadata(tree.path("made")).unwrap().mode() & 0o7777, 0o751);
        });
    }

    #[test]
    fn modes_and_times_are_adopted_where_none_were_named() {
        let name = "io::fs::store::tests::modes_and_times_are_adopted_where_none_were_named";
        alone(name, &[], || {
            rustix::process::umask(Mode::from_raw_mode(0o026));
            let tree = Tree::new();
            let named = StoreOptions { mode: Some(0o600), mtime: Some(1000), ..DEFAULT };
            for (options, mode, mtime, expected) in [
                (DEFAULT, Some(0o7777), Some(2000), (0o751, 2)),
                (DEFAULT, Some(0o600), Some(-1), (0o600, -1)),
                (DEFAULT, Some(0), Some(2000), (0, 2)),
                (named, Some(0o777), Some(2000), (0o600, 1)),
                (named, None, None, (0o600, 1)),
            ] {
                let parted = NewFile::resume(
                    tree.root(),
                    Name::new(b"old").unwrap(),
                    options,
                    0,
                    &mut |_| Ok(()),
                );
                for mut file in [tree.create("old", options).unwrap(), parted.unwrap()] {
                    file.adopt(mode, mtime).unwrap();
                    let meanwhile = rustix::fs::fstat(&file.file).unwrap().st_mode & 0o7777;
                    assert_eq!(meanwhile & 0o177, 0);
                    file.commit().unwrap();
                    let there = fs::metadata(tree.path("old")).unwrap();
                    assert_eq!((there.mode() & 0o7777, there.mtime()), expected);
                }
            }
            assert_eq!(tree.names(""), ["dir", "old"]);
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
            let NewFile { mut file, .. } = tree.create("new", NO_OVERWRITE).unwrap();
            failing(missing, || {
                assert_eq!(file.take_free_name(&file.parent().clone(), b"old"), Err(Errno::EXIST));
                assert_eq!(file.take_free_name(&file.parent().clone(), b"dir"), Err(Errno::EXIST));
                file.take_free_name(&file.parent().clone(), b"new").unwrap();
            });
            assert_eq!(tree.names(""), ["dir", "new", "old"]);
            assert_eq!(tree.read("old"), "old");
            fs::remove_file(tree.path("new")).unwrap();
        }
    }

    /// A file that is given up loses its name before its lock, so nobody can continue a file
    /// that is about to be removed.
    #[test]
    fn what_is_given_up_is_removed_before_it_is_unlocked() {
        let tree = Tree::new();
        let name = Name::new(b"new").unwrap();
        for round in 0..200 {
            let mut file =
                NewFile::resume(tree.root(), name, NO_OVERWRITE, 0, &mut |_| Ok(())).unwrap();
            file.write(b"x").unwrap();
            let partial =
                tree.names("").into_iter().find(|name| name.starts_with(RESERVED)).unwrap();
            let other = fs::File::open(tree.path(&partial)).unwrap();
            fs::write(tree.path("new"), "").unwrap();
            let waiting = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let names = scope.spawn(|| {
                    waiting.store(true, Ordering::Release);
                    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
                    other.metadata().unwrap().nlink()
                });
                while !waiting.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                std::thread::sleep(Duration::from_micros(200));
                assert_eq!(kind(file.commit()), ErrorKind::Exists);
                assert_eq!(names.join().unwrap(), 0, "it still had its name, round {round}");
            });
            fs::remove_file(tree.path("new")).unwrap();
        }
    }

    /// Different for each number, and longer than one write.
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
        alone("io::fs::store::tests::a_full_disk_is_told_and_keeps_the_old_file", &wrapper, || {
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
        // Only the file itself is opened by then.
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
        let name = "io::fs::store::tests::a_file_size_limit_ends_the_write_and_not_the_process";
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
                // A directory that cannot be listed can still have unfinished files.
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
