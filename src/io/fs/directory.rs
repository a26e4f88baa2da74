//! Listing a directory, and making directories and links in it.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, RawDir};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::at;
use crate::io::fs::check::{refused, stat_of};
use crate::io::fs::mode;
use crate::io::fs::root::Root;
use crate::io::fs::store::StoreOptions;
use crate::io::fs::temporary::Temporary;
use crate::limits;
use crate::wire::entry::{Entry, Kind};
use crate::wire::memory::copy;
use crate::wire::name::{Name, check_link_target, is_reserved};
use crate::wire::pairs::sorted;

/// All names in a directory, in the order of their bytes, without the library's own files. The
/// directory is open for reading and was not read yet. [`ErrorKind::TooBig`] if they take more
/// than 64 MiB of memory.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<Box<[u8]>>> {
    names_within(dir, limits::MAX_BODY, &is_reserved)
}

/// The same with the library's own files, the last one first.
pub(super) fn all_names(dir: BorrowedFd<'_>) -> Result<Vec<Box<[u8]>>> {
    let mut names = names_within(dir, limits::MAX_BODY, &|_| false)?;
    names.reverse();
    Ok(names)
}

/// The file of the name `leaf`, with the target if it is a link; `None` if there is none, or not
/// any more.
pub fn entry(dir: BorrowedFd<'_>, leaf: &[u8]) -> Result<Option<Entry>> {
    let found = at::stat(dir, leaf).and_then(|stat| {
        let stat = stat_of(&stat);
        let target = match stat.kind {
            Kind::Symlink => Some(rustix::fs::readlinkat(dir, leaf, Vec::new())?.into_bytes()),
            _ => None,
        };
        Ok(Entry { name: leaf.to_vec(), stat, target })
    });
    match found {
        // EINVAL: the link was replaced by something else.
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        found => found.map(Some).map_err(|errno| refused("stat", leaf, errno)),
    }
}

/// Makes a directory with the mode, by default 0777, reduced by the process's umask. An existing
/// one is not changed; [`ErrorKind::Exists`] if the name is something else.
pub fn make_directory(root: Root<'_>, name: Name<'_>, options: &StoreOptions) -> Result<()> {
    let refused = |errno| refused("make the directory", name.as_bytes(), errno);
    let parent = open_parent(root, name, options)?;
    let (leaf, mode) = (name.split().1, options.mode.unwrap_or(0o777) & 0o777);
    match at::make_directory(parent.as_fd(), leaf, Mode::from_raw_mode(mode)) {
        Ok(()) => sync(&parent, options).map_err(refused),
        Err(Errno::EXIST) => match entry(parent.as_fd(), leaf)? {
            Some(there) if there.stat.kind == Kind::Dir => Ok(()),
            _ => Err(refused(Errno::EXIST)),
        },
        Err(errno) => Err(refused(errno)),
    }
}

/// Removes the permission bits of a directory that are not in `mode`.
pub fn restrict(dir: BorrowedFd<'_>, mode: u32) -> Result<()> {
    let failed = |errno| Error::system("the mode of the directory", errno);
    let there = rustix::fs::fstat(dir).map_err(failed)?.st_mode & 0o7777;
    let special = 0o7000;
    match there & (mode | special) {
        less if less == there => Ok(()),
        less => mode::set(dir, Mode::from_raw_mode(less)).map_err(failed),
    }
}

/// Makes a symbolic link, if [`check_link_target`] accepts its target. An existing link with the
/// same target stays; another one is replaced atomically, if allowed. [`ErrorKind::Exists`] if
/// it is not allowed, or if the name is not a link.
pub fn make_link(
    root: Root<'_>,
    name: Name<'_>,
    target: &[u8],
    options: &StoreOptions,
) -> Result<()> {
    check_link_target(name, target, &|name| is_directory(root, name))?;
    let refused = |errno| refused("make the link", name.as_bytes(), errno);
    let parent = open_parent(root, name, options)?;
    let leaf = name.split().1;
    match at::make_link(parent.as_fd(), leaf, target) {
        Ok(()) => {}
        Err(Errno::EXIST) => match entry(parent.as_fd(), leaf)?.and_then(|there| there.target) {
            Some(there) if there == target => return Ok(()),
            Some(_) if options.overwrite => {
                let mut new = Temporary::create_link(&parent, name.as_bytes(), target)?;
                new.replace_link(leaf).map_err(refused)?;
            }
            _ => return Err(refused(Errno::EXIST)),
        },
        Err(errno) => return Err(refused(errno)),
    }
    sync(&parent, options).map_err(refused)
}

/// Whether `name` is a directory, and not a link to one.
pub fn is_directory(root: Root<'_>, name: Name<'_>) -> bool {
    root.stat(Some(name)).is_ok_and(|stat| stat.kind == Kind::Dir)
}

fn names_within(
    dir: BorrowedFd<'_>,
    max: u64,
    is_left_out: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<Box<[u8]>>> {
    let (mut names, mut size) = (Vec::new(), 0);
    for_each_name(dir, &mut |name, _| {
        if is_left_out(name) {
            return Ok(());
        }
        size += (name.len() + NAME_OVERHEAD) as u64;
        if size > max {
            return Err(Error::new(ErrorKind::TooBig, "the directory has too many names"));
        }
        names.try_reserve(1).map_err(|_| Error::new(ErrorKind::NoMemory, "names"))?;
        names.push(copy(name, 0)?.into_boxed_slice());
        Ok(())
    })?;
    Ok(sorted(names))
}

/// Passes every name in a directory except `.` and `..` to `take`, with its type if the file
/// system reports it.
pub(crate) fn for_each_name(
    dir: BorrowedFd<'_>,
    take: &mut dyn FnMut(&[u8], FileType) -> Result<()>,
) -> Result<()> {
    let failed = |errno| match errno {
        // It was removed after it was opened.
        Errno::NOENT => Error::system_as(ErrorKind::NotFound, "read the directory", errno),
        errno => Error::system("read the directory", errno),
    };
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(limits::GROW_STEP).map_err(|_| failed(Errno::NOMEM))?;
    buffer.resize(limits::GROW_STEP, MaybeUninit::uninit());
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => take(name, entry.file_type())?,
            },
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

fn open_parent(root: Root<'_>, name: Name<'_>, options: &StoreOptions) -> Result<Arc<OwnedFd>> {
    root.make_parents(options.parents, options.sync).open_parent(name).map(Arc::new)
}

fn sync(parent: &OwnedFd, options: &StoreOptions) -> rustix::io::Result<()> {
    if options.sync { at::sync(parent.as_fd()) } else { Ok(()) }
}

/// The memory of a name, without its bytes.
const NAME_OVERHEAD: usize = 48;

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use rustix::fs::CWD;

    use super::*;
    use crate::io::testing::{
        self, Tree, alone, failing, unprivileged, while_swapping, with_each_resolver,
    };

    const DEFAULT: StoreOptions = StoreOptions { sync: false, ..StoreOptions::DEFAULT };
    const PARENTS: StoreOptions = StoreOptions { parents: true, ..DEFAULT };

    fn name(text: &str) -> Name<'_> {
        Name::new(text.as_bytes()).unwrap()
    }

    fn kind<T>(result: Result<T>) -> ErrorKind {
        result.err().expect("an error").kind()
    }

    fn list(tree: &Tree, dir: Option<&str>) -> Result<Vec<Box<[u8]>>> {
        names(tree.root().open_directory(dir.map(name))?.as_fd())
    }

    fn target(tree: &Tree, link: &str) -> String {
        fs::read_link(tree.path(link)).unwrap().into_os_string().into_string().unwrap()
    }

    #[test]
    fn names_come_whatever_they_are_in_the_order_of_their_bytes() {
        let tree = Tree::new();
        let odd: [&[u8]; 7] = [b"\n", b"\x1b[2J", b" ", b"-rf", b"A", b"a", b"caf\xe9"];
        for name in odd.iter().chain(&[&b".framefd-x"[..], b".FRAMEFD-0.tmp"]) {
            fs::write(tree.path("dir").join(OsStr::from_bytes(name)), "").unwrap();
        }
        with_each_resolver(|| {
            let found = list(&tree, Some("dir")).unwrap();
            assert!(found.iter().map(|name| &**name).eq(odd), "{found:?}");
            let found = list(&tree, None).unwrap();
            assert!(found.iter().map(|name| &**name).eq([&b"dir"[..], b"old"]), "{found:?}");
        });
    }

    #[test]
    fn only_directories_are_listed() {
        let tree = Tree::new();
        symlink("dir", tree.path("link")).unwrap();
        symlink("../outside", tree.path("up")).unwrap();
        rustix::fs::mknodat(CWD, tree.path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        with_each_resolver(|| {
            for (dir, expected) in [
                ("old", ErrorKind::Path),
                ("link", ErrorKind::Path),
                ("up", ErrorKind::Path),
                ("fifo", ErrorKind::Path),
                ("link/x", ErrorKind::Path),
                ("old/x", ErrorKind::Path),
                ("missing", ErrorKind::NotFound),
                ("missing/x", ErrorKind::NotFound),
            ] {
                assert_eq!(kind(list(&tree, Some(dir))), expected, "{dir}");
            }
            assert!(list(&tree, Some("dir")).unwrap().is_empty());
        });
    }

    #[test]
    fn more_names_than_memory_is_given_for_are_too_many() {
        let tree = Tree::new();
        let dir = || tree.root().open_directory(None).unwrap();
        let two = 2 * (3 + NAME_OVERHEAD as u64);
        assert_eq!(names_within(dir().as_fd(), two, &is_reserved).unwrap().len(), 2);
        assert_eq!(kind(names_within(dir().as_fd(), two - 1, &is_reserved)), ErrorKind::TooBig);
    }

    #[test]
    fn an_entry_is_the_name_itself() {
        let tree = Tree::new();
        symlink("\u{e9}/../..", tree.path("link")).unwrap();
        rustix::fs::mknodat(CWD, tree.path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let modified = std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        fs::File::open(tree.path("old")).unwrap().set_modified(modified).unwrap();
        let entry = |leaf: &str| entry(tree.root.as_fd(), leaf.as_bytes()).unwrap();
        for (leaf, kind) in [
            ("dir", Kind::Dir),
            ("old", Kind::File),
            ("link", Kind::Symlink),
            ("fifo", Kind::Other),
        ] {
            let found = entry(leaf).unwrap();
            let metadata = tree.path(leaf).symlink_metadata().unwrap();
            assert_eq!((&*found.name, found.stat.kind), (leaf.as_bytes(), kind));
            assert_eq!(found.stat.mode, metadata.mode() & 0o7777);
            assert_eq!(found.stat, tree.root().stat(Some(name(leaf))).unwrap());
        }
        let old = entry("old").unwrap();
        assert_eq!((old.stat.size, old.stat.mtime, old.target), (3, 1_700_000_000_123, None));
        assert_eq!(entry("link").unwrap().target.unwrap(), "\u{e9}/../..".as_bytes());
        assert!(entry("missing").is_none());
        let replaced = [(libc::SYS_readlinkat, Errno::INVAL)];
        assert!(failing(&replaced, || entry("link")).is_none());
    }

    #[test]
    fn directories_are_made_and_those_that_are_there_are_left() {
        let name_of_this =
            "io::fs::directory::tests::directories_are_made_and_those_that_are_there_are_left";
        alone(name_of_this, &[], || {
            rustix::process::umask(Mode::from_raw_mode(0o026));
            let tree = Tree::new();
            symlink("../outside", tree.path("up")).unwrap();
            symlink("dir", tree.path("link")).unwrap();
            symlink("../outside/new", tree.path("dangling")).unwrap();
            with_each_resolver(|| {
                let make = |text, options| make_directory(tree.root(), name(text), options);
                let mode = |text| fs::metadata(tree.path(text)).unwrap().mode() & 0o7777;
                make("dir/a", &DEFAULT).unwrap();
                assert_eq!(mode("dir/a"), 0o751);
                let private = StoreOptions { mode: Some(0o7700), ..PARENTS };
                make("dir/b/c/d", &private).unwrap();
                assert_eq!((mode("dir/b"), mode("dir/b/c/d")), (0o751, 0o700));
                make("dir/a", &private).unwrap();
                assert_eq!(mode("dir/a"), 0o751);
                for (text, options, expected) in [
                    ("missing/x", &DEFAULT, ErrorKind::NotFound),
                    ("old", &DEFAULT, ErrorKind::Exists),
                    ("link", &DEFAULT, ErrorKind::Exists),
                    ("dangling", &DEFAULT, ErrorKind::Exists),
                    ("old/x", &PARENTS, ErrorKind::Path),
                    ("up/x/y", &PARENTS, ErrorKind::Path),
                    ("link/x", &PARENTS, ErrorKind::Path),
                    ("dangling/x", &PARENTS, ErrorKind::Path),
                ] {
                    assert_eq!(kind(make(text, options)), expected, "{text}");
                }
                fs::remove_dir_all(tree.path("dir")).unwrap();
                fs::create_dir(tree.path("dir")).unwrap();
            });
            assert_eq!(testing::names(&tree.dir.path().join("outside")), ["file"]);
        });
    }

    #[test]
    fn a_directory_gets_no_more_rights_than_it_had() {
        let tree = Tree::new();
        let dir = fs::File::open(tree.path("dir")).unwrap();
        let set = |mode| fs::set_permissions(tree.path("dir"), fs::Permissions::from_mode(mode));
        for (there, mode, expected) in
            [(0o755, 0o555, 0o555), (0o750, 0o777, 0o750), (0o3770, 0o2705, 0o3700), (0o700, 0, 0)]
        {
            set(there).unwrap();
            restrict(dir.as_fd(), mode).unwrap();
            assert_eq!(fs::metadata(tree.path("dir")).unwrap().mode() & 0o7777, expected);
        }
        set(0o700).unwrap();
        let no_change = [(libc::SYS_fchmod, Errno::IO)];
        failing(&no_change, || restrict(dir.as_fd(), 0o777)).unwrap();
        assert_eq!(kind(failing(&no_change, || restrict(dir.as_fd(), 0))), ErrorKind::Io);
        let no_modes = [(libc::SYS_fchmod, Errno::PERM)]; // FAT
        failing(&no_modes, || restrict(dir.as_fd(), 0)).unwrap();
    }

    #[test]
    fn links_are_made_and_other_links_replaced_whole() {
        let tree = Tree::new();
        symlink("../outside", tree.path("up")).unwrap();
        let keep = StoreOptions { overwrite: false, ..DEFAULT };
        with_each_resolver(|| {
            let link = |text, target: &str, options| {
                make_link(tree.root(), name(text), target.as_bytes(), options)
            };
            link("dir/a", "../old", &keep).unwrap();
            link("dir/a", "../old", &keep).unwrap();
            assert_eq!(fs::read_to_string(tree.path("dir/a")).unwrap(), "old");
            assert_eq!(kind(link("dir/a", "b", &keep)), ErrorKind::Exists);
            assert_eq!(target(&tree, "dir/a"), "../old");
            link("dir/a", "b", &DEFAULT).unwrap();
            assert_eq!(target(&tree, "dir/a"), "b");
            link("dir/b/c/d", "../../..", &PARENTS).unwrap();
            for (text, to, options, expected) in [
                ("new", "..", &DEFAULT, ErrorKind::Path),
                ("new", "/etc/passwd", &DEFAULT, ErrorKind::Path),
                ("dir/new", "../../x", &DEFAULT, ErrorKind::Path),
                ("up/new", "x", &PARENTS, ErrorKind::Path),
                ("missing/new", "x", &DEFAULT, ErrorKind::NotFound),
                ("old", "x", &DEFAULT, ErrorKind::Exists),
                ("dir", "x", &DEFAULT, ErrorKind::Exists),
            ] {
                assert_eq!(kind(link(text, to, options)), expected, "{text} to {to}");
            }
            assert_eq!(
                (tree.names(""), tree.names("dir")),
                (vec!["dir".into(), "old".into(), "up".into()], vec!["a".into(), "b".into()],)
            );
            fs::remove_file(tree.path("dir/a")).unwrap();
            fs::remove_dir_all(tree.path("dir/b")).unwrap();
        });
        assert_eq!(testing::names(&tree.dir.path().join("outside")), ["file"]);
    }

    /// Names and targets of few components, so that they often collide.
    fn path(depth: usize) -> impl Strategy<Value = String> {
        prop::collection::vec("[a-c]", 1..=depth).prop_map(|components| components.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::io::testing::cases(64), failure_persistence: None, ..<_>::default() })]
        #[test]
        fn no_chain_of_links_leads_out(
            steps in prop::collection::vec((path(3), 0..4_usize, path(3), any::<bool>()), 1..24),
        ) {
            let tree = Tree::new();
            let root = fs::canonicalize(tree.path("")).unwrap();
            for outside in ["a", "b", "c"] {
                fs::create_dir(tree.dir.path().join(outside)).unwrap();
            }
            let mut links = Vec::new();
            for (text, ups, down, is_link) in &steps {
                let to = "../".repeat(*ups) + down;
                if !is_link {
                    let _ = make_directory(tree.root(), name(text), &PARENTS);
                } else if make_link(tree.root(), name(text), to.as_bytes(), &PARENTS).is_ok() {
                    links.push(tree.path(text));
                }
            }
            for link in links {
                if let Ok(real) = fs::canonicalize(&link) {
                    prop_assert!(real.starts_with(&root), "{link:?} leads to {real:?}: {steps:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_made_is_synced_where_that_is_asked_for() {
        let tree = Tree::new();
        let sync = StoreOptions { sync: true, ..PARENTS };
        failing(&[(libc::SYS_fsync, Errno::IO)], || {
            let io = |result: Result<()>| assert_eq!(result.unwrap_err().errno(), libc::EIO);
            io(make_directory(tree.root(), name("a"), &sync));
            io(make_directory(tree.root(), name("b/c"), &sync));
            io(make_link(tree.root(), name("l"), b"x", &sync));
            io(make_link(tree.root(), name("l"), b"y", &sync));
            make_directory(tree.root(), name("d/e"), &PARENTS).unwrap();
            make_link(tree.root(), name("m"), b"x", &PARENTS).unwrap();
        });
    }

    #[test]
    fn permissions_are_told() {
        use std::os::unix::fs::PermissionsExt as _;
        let tree = Tree::new();
        let set = |name, mode| {
            fs::set_permissions(tree.path(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::write(tree.path("dir/x"), "").unwrap();
        set("", 0o755);
        for mode in [0o000, 0o444] {
            set("dir", mode);
            unprivileged(|| {
                with_each_resolver(|| {
                    let denied = |result: Result<()>| assert_eq!(kind(result), ErrorKind::Denied);
                    let dir = list(&tree, Some("dir"));
                    assert_eq!(dir.is_ok(), mode == 0o444);
                    denied(tree.root().stat(Some(name("dir/x"))).map(drop));
                    denied(make_directory(tree.root(), name("new"), &DEFAULT));
                    denied(make_link(tree.root(), name("new"), b"x", &DEFAULT));
                    let dir = fs::File::open(tree.path("dir"));
                    if let Ok(dir) = dir {
                        denied(entry(dir.as_fd(), b"x").map(drop));
                    }
                });
            });
        }
        set("dir", 0o755);
    }

    #[test]
    fn a_directory_that_turns_into_a_link_leads_nowhere() {
        let tree = Tree::new();
        fs::write(tree.path("dir/file"), "inside").unwrap();
        fs::write(tree.path("dir/a"), "").unwrap();
        symlink("../outside", tree.path("up")).unwrap();
        while_swapping(tree.root.as_fd(), ["dir", "up"], || {
            with_each_resolver(|| {
                let (mut done, mut refused) = (0, 0);
                let start = Instant::now();
                while done.min(refused) < 300 && start.elapsed() < Duration::from_secs(10) {
                    let root = tree.root();
                    let new = format!("dir/new{done}");
                    let results = [
                        root.stat(Some(name("dir/file"))).map(|stat| assert_eq!(stat.size, 6)),
                        list(&tree, Some("dir")).map(|names| assert_eq!(&*names[0], b"a")),
                        make_directory(root, name(&new), &DEFAULT),
                        make_link(root, name("dir/link"), new.as_bytes(), &DEFAULT),
                    ];
                    for result in results {
                        match result {
                            Ok(()) => done += 1,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Path, "{error}");
                                refused += 1;
                            }
                        }
                    }
                }
                assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
            });
        });
        assert_eq!(testing::names(&tree.dir.path().join("outside")), ["file"]);
    }
}
