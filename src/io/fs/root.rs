//! A directory that no name leads out of.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::check::{refused, regular, stat_of};
use crate::io::fs::settled::settled;
use crate::wire::entry;
use crate::wire::name::Name;
use crate::wire::quote;

/// The directory that names are relative to. Symbolic links are never followed, even if they
/// stay inside; mount points are crossed.
///
/// Each call resolves the name's directory once, with openat2(2), and does the rest
/// relative to the descriptor that it got, so a rename meanwhile cannot redirect it.
/// If openat2 is missing or forbidden, one openat(2) per component gives the same
/// results.
///
/// Errors of every call: [`ErrorKind::Path`] if a part of the name is not a directory, or if the
/// name is not a regular file; [`ErrorKind::NotFound`], [`ErrorKind::Denied`]; for other errnos
/// see [`Error::system`].
#[derive(Clone, Copy, Debug)]
pub struct Root<'fd> {
    dir: BorrowedFd<'fd>,
    make_parents: bool,
    sync_parents: bool,
}

impl<'fd> Root<'fd> {
    /// The directory that `dir` is open on; `O_PATH` is enough. [`ErrorKind::BadDescriptor`] if
    /// it is not a directory.
    pub fn new(dir: BorrowedFd<'fd>) -> Result<Root<'fd>> {
        let stat = rustix::fs::fstat(dir).map_err(|errno| Error::system("fstat", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Error::new(ErrorKind::BadDescriptor, "the root is not a directory"));
        }
        Ok(Root { dir, make_parents: false, sync_parents: true })
    }

    /// Whether [`open_parent`](Self::open_parent) makes missing directories, with the mode 0777
    /// reduced by the process's umask, and whether each must survive a power failure. By default
    /// it makes none.
    #[must_use]
    pub fn make_parents(self, make: bool, sync: bool) -> Root<'fd> {
        Root { make_parents: make, sync_parents: sync, ..self }
    }

    /// Describes `name`, without following a link; without a name, the root.
    pub fn stat(self, name: Option<Name<'_>>) -> Result<entry::Stat> {
        let Some(name) = name else {
            let stat = rustix::fs::fstat(self.dir);
            return stat.map(|stat| stat_of(&stat)).map_err(|errno| Error::system("fstat", errno));
        };
        let parent = self.directory_of(name, false)?;
        at::stat(parent.as_fd(), name.split().1)
            .map(|stat| stat_of(&stat))
            .map_err(|errno| refused("stat", name.as_bytes(), errno))
    }

    /// Opens an existing regular file for reading. It never waits for a FIFO, and does not open
    /// a device.
    pub fn open_file(self, name: Name<'_>) -> Result<(OwnedFd, entry::Stat)> {
        let parent = self.directory_of(name, false)?;
        // Checked before it is opened, because some devices act when they are opened.
        let found = at::stat(parent.as_fd(), name.split().1);
        regular(name.as_bytes(), &found.map_err(|errno| refused("open", name.as_bytes(), errno))?)?;
        let (file, stat) = open_regular(parent.as_fd(), name, OFlags::RDONLY)?;
        let (file, stat) =
            settled(file, stat).map_err(|error| error.context(&quote(name.as_bytes())))?;
        Ok((file, stat_of(&stat)))
    }

    /// As [`open_file`](Self::open_file), but follows symbolic links that stay inside:
    /// [`ErrorKind::Path`] if one leads out. [`ErrorKind::Unsupported`] without openat2(2).
    /// Needs /proc.
    pub fn open_followed(self, name: Name<'_>) -> Result<(OwnedFd, entry::Stat)> {
        let name = name.as_bytes();
        let found = self.follow(name).map_err(|errno| refused_link(name, errno))?;
        let failed = |errno| refused("open", name, errno);
        let stat = rustix::fs::fstat(&found).map_err(failed)?;
        regular(name, &stat)?;
        // Opened by its descriptor, so that the name is not resolved again.
        let found = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::open(&*found, flags, Mode::empty()));
        let settled = settled(file.map_err(failed)?, stat);
        let (file, stat) = settled.map_err(|error| error.context(&quote(name)))?;
        Ok((file, stat_of(&stat)))
    }

    fn follow(self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let open = || rustix::fs::openat2(self.dir, path, flags, Mode::empty(), resolve);
        // EAGAIN: something was renamed meanwhile, try again.
        let mut opened = Err(Errno::AGAIN);
        for _ in 0..FOLLOW_ATTEMPTS {
            opened = retry_on_intr(open);
            if !matches!(opened, Err(Errno::AGAIN)) {
                break;
            }
        }
        opened
    }

    /// Opens the directory that `name` is in, as an `O_PATH` descriptor: for calls
    /// relative to it.
    pub fn open_parent(self, name: Name<'_>) -> Result<OwnedFd> {
        self.directory_of(name, self.make_parents)
    }

    /// The nearest directory above `name` that exists, and the rest of the name from there on.
    pub(super) fn open_nearest(self, name: Name<'_>) -> Result<(OwnedFd, &[u8])> {
        let mut at = name;
        loop {
            match (self.directory_of(at, false), at.split().0) {
                (Err(error), Some(above)) if error.kind() == ErrorKind::NotFound => at = above,
                (opened, above) => {
                    let begins = above.map_or(0, |above| above.as_bytes().len() + 1);
                    return Ok((opened?, &name.as_bytes()[begins..]));
                }
            }
        }
    }

    /// Opens a directory for reading; without a name, the root.
    pub fn open_directory(self, name: Option<Name<'_>>) -> Result<OwnedFd> {
        let path = name.map_or(&b"."[..], Name::as_bytes);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.resolve(path, flags, false).map_err(|errno| refused("open", path, errno))
    }

    fn directory_of(self, name: Name<'_>, make: bool) -> Result<OwnedFd> {
        let path = name.split().0.map_or(&b"."[..], Name::as_bytes);
        self.resolve(path, DIRECTORY, make)
            .map_err(|errno| refused("open the directory of", name.as_bytes(), errno))
    }

    fn resolve(self, path: &[u8], flags: OFlags, make: bool) -> rustix::io::Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened =
            retry_on_intr(|| rustix::fs::openat2(self.dir, path, flags, Mode::empty(), resolve));
        match opened {
            // Missing before Linux 5.6, EPERM from sandboxes. After EAGAIN the walk is used
            // instead of another try.
            Err(Errno::NOSYS | Errno::PERM | Errno::TOOBIG | Errno::INVAL | Errno::AGAIN) => {
                self.walk(path, flags, make)
            }
            Err(Errno::NOENT) if make => self.walk(path, flags, make),
            opened => opened,
        }
    }

    fn walk(self, path: &[u8], flags: OFlags, make: bool) -> rustix::io::Result<OwnedFd> {
        let mut dir = at::open(self.dir, b".", DIRECTORY, Mode::empty())?;
        let mut components = path.split(|byte| *byte == b'/').peekable();
        while let Some(component) = components.next() {
            let flags = if components.peek().is_some() { DIRECTORY } else { flags };
            dir = match at::open(dir.as_fd(), component, flags, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    self.make_component(dir.as_fd(), component)?;
                    at::open(dir.as_fd(), component, flags, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(dir)
    }

    fn make_component(self, dir: BorrowedFd<'_>, component: &[u8]) -> rustix::io::Result<()> {
        match at::make_directory(dir, component, Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) => Ok(()), // made by another
            Ok(()) if self.sync_parents => at::sync(dir),
            made => made,
        }
    }
}

/// As [`refused`], but links were followed.
fn refused_link(name: &[u8], errno: Errno) -> Error {
    let fault = |kind, why| Error::new(kind, format!("{} {why}", quote(name)));
    match errno {
        Errno::XDEV => fault(ErrorKind::Path, "leads out of the root"),
        Errno::LOOP => fault(ErrorKind::Path, "leads nowhere"),
        Errno::NOSYS | Errno::PERM => {
            fault(ErrorKind::Unsupported, "cannot be followed without openat2")
        }
        errno => refused("open", name, errno),
    }
}

/// Opens it for reading or for writing. If the leaf was replaced after the check, the new file is
/// opened without waiting and refused.
pub(super) fn open_regular(
    parent: BorrowedFd<'_>,
    name: Name<'_>,
    access: OFlags,
) -> Result<(OwnedFd, Stat)> {
    let refused = |errno| refused("open", name.as_bytes(), errno);
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = at::open(parent, name.split().1, flags, Mode::empty()).map_err(refused)?;
    let stat = rustix::fs::fstat(&file).map_err(refused)?;
    regular(name.as_bytes(), &stat)?;
    Ok((file, stat))
}

/// How often following a link is tried while something is being renamed.
const FOLLOW_ATTEMPTS: u32 = 128;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use rustix::fs::CWD;
    use tempfile::TempDir;

    use super::*;
    use crate::io::testing::{failing, unprivileged, while_swapping, with_each_resolver};

    /// `outside/file` and, beside it, `root` with a file in a directory and one of each
    /// thing that is not to be followed or opened.
    fn tree() -> TempDir {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        for dir in ["outside", "root", "root/dir", "root/dir/sub"] {
            fs::create_dir(at(dir)).unwrap();
        }
        fs::write(at("outside/file"), "outside").unwrap();
        fs::write(at("root/dir/file"), "inside").unwrap();
        for (target, link) in [
            ("../outside/file", "leaf"),
            ("../outside/new", "dangling"),
            ("/etc/passwd", "absolute"),
            ("dir/file", "within"),
            ("loop", "loop"),
            ("../outside", "up"),
            ("dir", "link"),
            ("../..", "dir/sub/up"),
        ] {
            symlink(target, at("root").join(link)).unwrap();
        }
        let fifo = at("root/fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        UnixListener::bind(at("root/socket")).unwrap();
        tree
    }

    fn open(path: impl AsRef<Path>) -> fs::File {
        fs::File::open(path).unwrap()
    }

    fn read(root: Root<'_>, name: &[u8]) -> Result<String> {
        let (file, stat) = root.open_file(Name::new(name)?)?;
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        assert_eq!(stat.size, text.len() as u64);
        Ok(text)
    }

    fn kind<T>(result: Result<T>) -> ErrorKind {
        result.err().expect("an error").kind()
    }

    #[test]
    fn only_regular_files_within_are_opened() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        let cases: [(&[u8], ErrorKind); 21] = [
            (b"../outside/file", ErrorKind::Path),
            (b"leaf", ErrorKind::Path),
            (b"dangling", ErrorKind::Path),
            (b"absolute", ErrorKind::Path),
            (b"within", ErrorKind::Path),
            (b"loop", ErrorKind::Path),
            (b"up", ErrorKind::Path),
            (b"up/file", ErrorKind::Path),
            (b"up/missing", ErrorKind::Path),
            (b"link/file", ErrorKind::Path),
            (b"link/sub/file", ErrorKind::Path),
            (b"dir/sub/up/outside/file", ErrorKind::Path),
            (b"dir/file/x", ErrorKind::Path),
            (b"fifo/x", ErrorKind::Path),
            (b"dir", ErrorKind::Path),
            (b"dir/sub", ErrorKind::Path),
            (b"fifo", ErrorKind::Path),
            (b"socket", ErrorKind::Path),
            (b"missing", ErrorKind::NotFound),
            (b"missing/x", ErrorKind::NotFound),
            (b"dir/missing/x/y", ErrorKind::NotFound),
        ];
        with_each_resolver(|| {
            let root = Root::new(dir.as_fd()).unwrap();
            assert_eq!(read(root, b"dir/file").unwrap(), "inside");
            for (name, expected) in cases {
                let error = read(root, name).expect_err(&quote(name));
                assert_eq!(error.kind(), expected, "{error}");
            }
        });
    }

    #[test]
    fn the_error_is_the_same_with_and_without_openat2() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        let root = Root::new(dir.as_fd()).unwrap();
        for name in [&b"up/file"[..], b"dir/file/x", b"missing/x", b"loop/x", b"dir/sub/up/x"] {
            let name = Name::new(name).unwrap();
            let expected = root.open_parent(name).unwrap_err();
            for errno in [Errno::NOSYS, Errno::PERM, Errno::TOOBIG, Errno::INVAL, Errno::AGAIN] {
                let error = failing(&[(libc::SYS_openat2, errno)], || root.open_parent(name));
                assert_eq!(error.unwrap_err(), expected);
            }
        }
    }

    #[test]
    fn openat2_resolves_in_one_step() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        let root = Root::new(dir.as_fd()).unwrap();
        let name = Name::new(b"dir/sub/x").unwrap();
        assert!(failing(&[(libc::SYS_openat, Errno::IO)], || root.open_parent(name)).is_ok());
    }

    #[test]
    fn what_takes_the_place_of_a_file_is_refused_without_waiting() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        for name in ["leaf", "loop", "fifo", "socket", "dir"] {
            let opened =
                open_regular(dir.as_fd(), Name::new(name.as_bytes()).unwrap(), OFlags::RDONLY);
            assert_eq!(kind(opened), ErrorKind::Path, "{name}");
        }
        let null = open_regular(open("/dev").as_fd(), Name::new(b"null").unwrap(), OFlags::RDONLY);
        assert_eq!(kind(null), ErrorKind::Path);
    }

    #[test]
    fn links_are_followed_within_and_to_files() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        let root = Root::new(dir.as_fd()).unwrap();
        let read = |name: &str| -> Result<String> {
            let (file, stat) = root.open_followed(Name::new(name.as_bytes())?)?;
            let text = std::io::read_to_string(fs::File::from(file)).unwrap();
            assert_eq!(stat.size, text.len() as u64);
            Ok(text)
        };
        for (target, link) in
            [("../within", "dir/back"), ("sub/../file", "dir/round"), ("fifo", "to-fifo")]
        {
            symlink(target, tree.path().join("root").join(link)).unwrap();
        }
        for name in
            ["within", "link/file", "dir/back", "dir/round", "dir/sub/up/within", "dir/file"]
        {
            assert_eq!(read(name).unwrap(), "inside", "{name}");
        }
        for (name, expected) in [
            ("leaf", ErrorKind::Path),
            ("dangling", ErrorKind::Path),
            ("absolute", ErrorKind::Path),
            ("loop", ErrorKind::Path),
            ("up/file", ErrorKind::Path),
            ("dir/sub/up/outside/file", ErrorKind::NotFound),
            ("link", ErrorKind::Path),
            ("to-fifo", ErrorKind::Path),
            ("socket", ErrorKind::Path),
            ("missing", ErrorKind::NotFound),
        ] {
            let error = read(name).expect_err(name);
            assert_eq!(error.kind(), expected, "{name}: {error}");
        }
        let proc = open("/proc");
        let magic = Root::new(proc.as_fd()).unwrap();
        let magic = magic.open_followed(Name::new(b"self/exe").unwrap());
        assert_eq!(kind(magic), ErrorKind::Path);
        // No rename can make a link be followed.
        for errno in [Errno::NOSYS, Errno::PERM] {
            let within = || root.open_followed(Name::new(b"within").unwrap());
            let followed = failing(&[(libc::SYS_openat2, errno)], within);
            assert_eq!(kind(followed), ErrorKind::Unsupported);
        }
        let busy = [(libc::SYS_openat2, Errno::AGAIN)];
        let followed = failing(&busy, || root.open_followed(Name::new(b"within").unwrap()));
        assert_eq!(followed.unwrap_err().errno(), libc::EAGAIN);
    }

    #[test]
    fn a_device_is_refused_without_being_opened() {
        let dev = open("/dev");
        let root = Root::new(dev.as_fd()).unwrap();
        let no_open = [(libc::SYS_openat, Errno::IO)];
        let opened = failing(&no_open, || root.open_file(Name::new(b"null").unwrap()));
        assert_eq!(kind(opened), ErrorKind::Path);
    }

    #[test]
    fn devices_and_magic_links_are_refused() {
        let (dev, proc) = (open("/dev"), open("/proc"));
        let this = std::process::id();
        with_each_resolver(|| {
            let (dev, proc) = (Root::new(dev.as_fd()).unwrap(), Root::new(proc.as_fd()).unwrap());
            assert_eq!(kind(dev.open_file(Name::new(b"null").unwrap())), ErrorKind::Path);
            for name in ["self/status", "thread-self/status"] {
                assert_eq!(kind(read(proc, name.as_bytes())), ErrorKind::Path);
            }
            for name in ["exe", "cwd/x", "root/etc/passwd", "fd/0"] {
                let name = format!("{this}/{name}");
                assert_eq!(kind(read(proc, name.as_bytes())), ErrorKind::Path, "{name}");
            }
        });
    }

    #[test]
    fn a_name_is_its_bytes() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let tree = tree();
        let names: [&[u8]; 7] = [
            b"caf\xe9",
            "caf\u{e9}".as_bytes(),
            "cafe\u{301}".as_bytes(),
            b"CAFE",
            b"cafe",
            b"-rf",
            b"cafe. ",
        ];
        for name in names {
            fs::write(tree.path().join("root").join(OsStr::from_bytes(name)), quote(name)).unwrap();
        }
        let dir = open(tree.path().join("root"));
        with_each_resolver(|| {
            let root = Root::new(dir.as_fd()).unwrap();
            for name in names {
                assert_eq!(read(root, name).unwrap(), quote(name));
            }
            assert_eq!(kind(read(root, b"Caf\xe9")), ErrorKind::NotFound);
        });
    }

    #[test]
    fn long_names_within_the_limits_reach_the_file_system() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        let leaf = [b'x'; 255];
        fs::write(tree.path().join("root").join("x".repeat(255)), "long").unwrap();
        let deep = vec!["x".repeat(255); 16].join("/");
        with_each_resolver(|| {
            let root = Root::new(dir.as_fd()).unwrap();
            assert_eq!(read(root, &leaf).unwrap(), "long");
            assert_eq!(kind(read(root, deep.as_bytes())), ErrorKind::Path);
        });
    }

    #[test]
    fn missing_parents_are_made_only_when_asked_for() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        with_each_resolver(|| {
            let root = Root::new(dir.as_fd()).unwrap();
            let name = Name::new(b"dir/a/b/c").unwrap();
            assert_eq!(kind(root.open_parent(name)), ErrorKind::NotFound);
            let making = root.make_parents(true, true);
            making.open_parent(name).unwrap();
            making.open_parent(name).unwrap();
            assert_eq!(kind(making.open_file(Name::new(b"n/f").unwrap())), ErrorKind::NotFound);
            assert_eq!(kind(making.open_parent(Name::new(b"up/a/b").unwrap())), ErrorKind::Path);
            assert_eq!(
                kind(making.open_parent(Name::new(b"dangling/b").unwrap())),
                ErrorKind::Path
            );
            assert!(!tree.path().join("root/n").exists());
            fs::remove_dir_all(tree.path().join("root/dir/a")).unwrap();
        });
        assert_eq!(fs::read_dir(tree.path().join("outside")).unwrap().count(), 1);
    }

    #[test]
    fn parents_that_were_made_are_synced() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        let root = Root::new(dir.as_fd()).unwrap().make_parents(true, true);
        let make = |name: &str, fsync| {
            let name = Name::new(name.as_bytes()).unwrap();
            failing(&[(libc::SYS_fsync, fsync)], || root.open_parent(name))
        };
        assert_eq!(make("a/x", Errno::IO).unwrap_err().errno(), libc::EIO);
        assert!(make("b/x", Errno::INVAL).is_ok());
        assert!(make("dir/x", Errno::IO).is_ok(), "it was there");
    }

    #[test]
    fn permissions_are_kept_apart_from_bad_names() {
        let tree = tree();
        let at = |name: &str| tree.path().join("root").join(name);
        let dir = open(at(""));
        fs::set_permissions(at(""), fs::Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(at("dir/file"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(at("dir/sub"), fs::Permissions::from_mode(0o000)).unwrap();
        unprivileged(|| {
            with_each_resolver(|| {
                let root = Root::new(dir.as_fd()).unwrap().make_parents(true, true);
                assert_eq!(kind(read(root, b"dir/file")), ErrorKind::Denied);
                assert_eq!(kind(read(root, b"dir/sub/x")), ErrorKind::Denied);
                assert_eq!(kind(read(root, b"dir/sub/up/x")), ErrorKind::Denied);
                assert_eq!(kind(read(root, b"dir/missing")), ErrorKind::NotFound);
                assert_eq!(kind(root.open_parent(Name::new(b"new/x").unwrap())), ErrorKind::Denied);
            });
        });
        fs::set_permissions(at("dir/sub"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(at(""), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_root_is_a_directory() {
        let tree = tree();
        let file = open(tree.path().join("root/dir/file"));
        assert_eq!(kind(Root::new(file.as_fd())), ErrorKind::BadDescriptor);
        let path = rustix::fs::open(tree.path().join("root"), DIRECTORY, Mode::empty()).unwrap();
        let root = Root::new(path.as_fd()).unwrap();
        assert_eq!(read(root, b"dir/file").unwrap(), "inside");
    }

    #[test]
    fn a_link_that_turns_into_another_is_followed_within_alone() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        let root = Root::new(dir.as_fd()).unwrap();
        while_swapping(dir.as_fd(), ["within", "leaf"], || {
            let (mut opened, mut refused) = (0, 0);
            let start = Instant::now();
            while opened.min(refused) < 1000 && start.elapsed() < Duration::from_secs(10) {
                match root.open_followed(Name::new(b"within").unwrap()) {
                    Ok((file, _)) => {
                        let text = std::io::read_to_string(fs::File::from(file)).unwrap();
                        assert_eq!(text, "inside");
                        opened += 1;
                    }
                    Err(error) => {
                        assert!(error.kind() == ErrorKind::Path || error.errno() == libc::EAGAIN);
                        refused += 1;
                    }
                }
            }
            assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
        });
    }

    #[test]
    fn a_directory_that_turns_into_a_link_leads_nowhere() {
        let tree = tree();
        let dir = open(tree.path().join("root"));
        while_swapping(dir.as_fd(), ["dir", "up"], || {
            with_each_resolver(|| {
                let root = Root::new(dir.as_fd()).unwrap();
                let (mut opened, mut refused) = (0, 0);
                let start = Instant::now();
                while opened.min(refused) < 1000 && start.elapsed() < Duration::from_secs(10) {
                    match read(root, b"dir/file") {
                        Ok(text) => {
                            assert_eq!(text, "inside");
                            opened += 1;
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Path, "{error}");
                            refused += 1;
                        }
                    }
                }
                assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
            });
        });
    }
}
