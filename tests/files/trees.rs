//! Trees that are put and got whole.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use framefd::ops::file::{self, Links, Transfer, Transferred};
use framefd::{ErrorKind, Result};
use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use rustix::process::{Gid, Uid};

use crate::common::process::alone;
use crate::common::{kind, sealing};
use crate::{
    End, Kind, Tree, against, content, get_path, names, plain, put_path, quick, send_tree, serve,
    take_tree,
};

fn copying() -> Transfer<'static> {
    Transfer { links: Links::Copy, preserve: true, ..plain() }
}

fn with_server<T>(tree: &Tree, client: impl FnOnce(&End) -> T) -> T {
    against(Kind::Unix, tree, quick, client).0
}

fn put_tree(tree: &Tree, name: &str, path: &Path, options: &Transfer<'_>) -> Result<Transferred> {
    with_server(tree, |end| send_tree(end, name.as_bytes(), path, options))
}

fn get_tree(tree: &Tree, name: &str, path: &Path, options: &Transfer<'_>) -> Result<Transferred> {
    with_server(tree, |end| take_tree(end, name.as_bytes(), path, options))
}

/// Everything beneath a directory: directories, contents, and targets of links.
pub fn snapshot(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            let what = if kind.is_dir() {
                waiting.push(path.clone());
                "a directory".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", path.read_link().unwrap().display())
            } else if kind.is_file() {
                format!("{:?}", fs::read(&path).unwrap())
            } else {
                "something else".to_owned()
            };
            found.insert(path.strip_prefix(top).unwrap().to_owned(), what);
        }
    }
    found
}

/// Modes and, of files, times of modification.
pub fn attributes(top: &Path) -> BTreeMap<PathBuf, (u32, Option<SystemTime>)> {
    let attributes = |path: &PathBuf| {
        let metadata = top.join(path).symlink_metadata().unwrap();
        let modified = metadata.is_file().then(|| metadata.modified().unwrap());
        (metadata.mode(), modified)
    };
    snapshot(top).keys().map(|path| (path.clone(), attributes(path))).collect()
}

/// A folder with files, directories and links of many kinds, all of them within.
pub fn plant(top: &Path) -> Transferred {
    let at = |name: &str| top.join(name);
    for dir in ["", "empty", "a", "a/b", "a/b/c", "a b", "z"] {
        fs::create_dir(at(dir)).unwrap();
    }
    let names: [&[u8]; 8] =
        [b"0", b"a/-rf", b"a/b/caf\xe9", b"a/b/c/x", b"a b/ ", b"a.txt", b"z/\xff\xfe", b"z/0"];
    let mut bytes = 0;
    for (number, name) in names.iter().enumerate() {
        let path = top.join(OsStr::from_bytes(name));
        let size = if number == 3 { 2_100_000 } else { number * 7 };
        fs::write(&path, content(size)).unwrap();
        bytes += size as u64;
        let modified = UNIX_EPOCH + Duration::from_millis(1_600_000_000_000 + number as u64);
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
    for (target, link) in [
        ("0", "link"),
        ("../0", "a/up"),
        ("../../a/b/caf\u{fffd}", "a/b/dangling"),
        ("c", "a/b/directory"),
        ("..", "a/b/c/parent"),
    ] {
        symlink(target, at(link)).unwrap();
    }
    let set = |name: &str, mode| {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("0", 0o600);
    set("a.txt", 0o4755);
    set("a/b/c", 0o1750);
    set("empty", 0o700);
    Transferred { files: 8, directories: 7, links: 5, bytes, ..Transferred::default() }
}

#[test]
fn a_tree_goes_there_and_back() {
    for channel in Kind::ALL {
        let tree = Tree::new();
        let expected = plant(&tree.local("tree"));
        let before = snapshot(&tree.local("tree"));
        let ((), session) = against(channel, &tree, quick, |end| {
            let local = |name| tree.local(name);
            let put = send_tree(end, b"new", &local("tree"), &copying());
            assert_eq!(put.unwrap(), expected);
            assert_eq!(snapshot(&tree.at("new")), before);
            let got = take_tree(end, b"new", &local("copy"), &copying());
            assert_eq!(got.unwrap(), expected);
            assert_eq!(snapshot(&local("copy")), before);
            end.assert_in_sync();
        });
        assert!(sealing::is_closed(session.end.kind()), "{session:?}");
    }
}

#[test]
fn what_is_there_already_stays_or_is_replaced() {
    let tree = Tree::new();
    let expected = plant(&tree.local("tree"));
    fs::create_dir_all(tree.at("new/a/b")).unwrap();
    fs::create_dir_all(tree.local("copy/a/b")).unwrap();
    for top in [tree.at("new"), tree.local("copy")] {
        fs::write(top.join("a/other"), "stays").unwrap();
        fs::write(top.join("0"), "is replaced").unwrap();
        symlink("is replaced", top.join("link")).unwrap();
    }
    assert_eq!(put_tree(&tree, "new", &tree.local("tree"), &copying()).unwrap(), expected);
    let mut after = snapshot(&tree.local("tree"));
    after.insert("a/other".into(), format!("{:?}", b"stays"));
    assert_eq!(snapshot(&tree.at("new")), after);
    fs::remove_file(tree.at("new/a/other")).unwrap();
    assert_eq!(get_tree(&tree, "new", &tree.local("copy"), &copying()).unwrap(), expected);
    assert_eq!(snapshot(&tree.local("copy")), after);

    let keep = Transfer { overwrite: false, ..plain() };
    let put = put_tree(&tree, "new", &tree.local("tree"), &keep).unwrap_err();
    assert_eq!(put.kind(), ErrorKind::Incomplete);
    assert!(put.detail().contains("\"new/0\""), "{put}");
    let got = get_tree(&tree, "new", &tree.local("copy"), &keep).unwrap_err();
    assert_eq!(got.kind(), ErrorKind::Incomplete);
    assert!(got.detail().contains("\"new/0\""), "{got}");
}

#[test]
fn modes_and_times_are_kept_where_that_is_asked_for() {
    alone("trees::modes_and_times_are_kept_where_that_is_asked_for", || {
        rustix::process::umask(Mode::from_raw_mode(0o027));
        let tree = Tree::new();
        plant(&tree.local("tree"));
        fs::set_permissions(tree.local("tree/z"), fs::Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(tree.local("tree"), fs::Permissions::from_mode(0o511)).unwrap();
        put_tree(&tree, "new", &tree.local("tree"), &copying()).unwrap();
        get_tree(&tree, "new", &tree.local("copy"), &copying()).unwrap();
        let umask = 0o027;
        for (top, filled) in [(tree.at("new"), 0o700), (tree.local("copy"), 0)] {
            // The server's directories can be filled, and are taken as they are.
            let expected = |(path, (mode, modified)): (PathBuf, (u32, Option<SystemTime>))| {
                let is_dir = FileType::from_raw_mode(mode) == FileType::Directory;
                let is_link = FileType::from_raw_mode(mode) == FileType::Symlink;
                let kept = if is_link { mode } else { mode & !0o7000 & !umask };
                (path, (if is_dir { kept | filled } else { kept }, modified))
            };
            let source = if filled > 0 { tree.local("tree") } else { tree.at("new") };
            let expected: BTreeMap<_, _> = attributes(&source).into_iter().map(expected).collect();
            assert_eq!(attributes(&top), expected);
        }
        let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(tree.at("new")), mode(tree.at("new/z"))), (0o710, 0o750));
        // What a directory had less of is taken away once it is full.
        for dir in ["new", "new/z", "new/a/b/c"] {
            fs::set_permissions(tree.at(dir), fs::Permissions::from_mode(0o555)).unwrap();
        }
        get_tree(&tree, "new", &tree.local("fresh"), &copying()).unwrap();
        for dir in ["fresh", "fresh/z", "fresh/a/b/c"] {
            assert_eq!(mode(tree.local(dir)), 0o550, "{dir}");
        }
        // Those that are there are left.
        fs::set_permissions(tree.local("fresh/z"), fs::Permissions::from_mode(0o777)).unwrap();
        get_tree(&tree, "new", &tree.local("fresh"), &copying()).unwrap();
        assert_eq!(mode(tree.local("fresh/z")), 0o777);

        let unlike = Transfer { preserve: false, ..copying() };
        put_tree(&tree, "plain", &tree.local("tree"), &unlike).unwrap();
        let given = Transfer { mode: Some(0o600), mtime: Some(1000), ..copying() };
        get_tree(&tree, "plain", &tree.local("plain"), &given).unwrap();
        assert_eq!((mode(tree.at("plain/z")), mode(tree.at("plain/0"))), (0o750, 0o600));
        assert!(fs::metadata(tree.at("plain/0")).unwrap().mtime() > 1_700_000_000);
        let there = fs::metadata(tree.local("plain/a.txt")).unwrap();
        assert_eq!((there.mode() & 0o7777, there.mtime()), (0o600, 1));
        assert_eq!(mode(tree.local("plain/a")), 0o750);
    });
}

#[test]
fn directories_without_rights_are_filled_by_who_has_no_others() {
    let tree = Tree::new();
    let set = |path: PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir_all(tree.local("tree/a/b")).unwrap();
    fs::write(tree.local("tree/a/b/file"), "abc").unwrap();
    for path in [tree.dir.path().to_owned(), tree.at(""), tree.local("")] {
        set(path, 0o777);
    }
    for dir in ["tree/a/b", "tree/a", "tree"] {
        set(tree.local(dir), 0o555);
    }
    std::thread::scope(|scope| {
        let (client, server) = Kind::Unix.connect();
        let tree = &tree;
        scope.spawn(move || {
            without_rights();
            serve(&server, &tree.root, &quick());
        });
        scope.spawn(move || {
            without_rights();
            let client = &client;
            send_tree(client, b"new", &tree.local("tree"), &copying()).unwrap();
            for dir in ["new/a/b", "new/a", "new"] {
                set(tree.at(dir), 0o555);
            }
            take_tree(client, b"new", &tree.local("copy"), &copying()).unwrap();
        });
    });
    for dir in ["copy", "copy/a", "copy/a/b"] {
        assert_eq!(fs::metadata(tree.local(dir)).unwrap().mode() & 0o700, 0o500, "{dir}");
        set(tree.local(dir), 0o755);
    }
    assert_eq!(fs::read(tree.local("copy/a/b/file")).unwrap(), b"abc");
    for path in ["new", "new/a", "new/a/b"].map(|dir| tree.at(dir)) {
        set(path, 0o755);
    }
    for path in ["tree", "tree/a", "tree/a/b"].map(|dir| tree.local(dir)) {
        set(path, 0o755);
    }
}

/// Gives this thread the rights of nobody, where it has those of root.
pub fn without_rights() {
    if rustix::process::geteuid().is_root() {
        let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
    }
}

#[test]
fn a_single_file_keeps_its_mode_and_time_too() {
    let tree = Tree::new();
    let (source, copy) = (tree.local("source"), tree.local("copy"));
    fs::write(&source, "abc").unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o2600)).unwrap();
    let modified = UNIX_EPOCH - Duration::from_millis(1);
    File::options().write(true).open(&source).unwrap().set_modified(modified).unwrap();
    for resume in [false, true] {
        let options = Transfer { preserve: true, resume, ..plain() };
        with_server(&tree, |end| {
            put_path(end, b"new", &source, &options).unwrap();
            get_path(end, b"new", &copy, &options).unwrap();
        });
        for path in [&tree.at("new"), &copy] {
            let there = fs::metadata(path).unwrap();
            assert_eq!((there.mode() & 0o7777, there.modified().unwrap()), (0o600, modified));
        }
    }
    let options = Transfer { preserve: true, mode: Some(0o640), mtime: Some(2000), ..plain() };
    with_server(&tree, |end| {
        put_path(end, b"said", &source, &options).unwrap();
        get_path(end, b"new", &copy, &options).unwrap();
    });
    for path in [&tree.at("said"), &copy] {
        let there = fs::metadata(path).unwrap();
        assert_eq!((there.mode() & 0o7777, there.mtime()), (0o640, 2));
    }
}

/// A tree with one link.
fn with_link(tree: &Tree, name: &str, target: &str) -> PathBuf {
    let top = tree.local("tree");
    let _ = fs::remove_dir_all(&top);
    fs::create_dir_all(top.join("dir/sub")).unwrap();
    fs::create_dir_all(tree.local("outside")).unwrap();
    fs::write(tree.local("outside/file"), "outside").unwrap();
    fs::write(top.join("dir/file"), "inside").unwrap();
    rustix::fs::mknodat(CWD, top.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink(target, top.join(name)).unwrap();
    top
}

/// What is always transferred of it.
fn small() -> Transferred {
    Transferred { files: 1, directories: 3, bytes: 6, ..Transferred::default() }
}

#[test]
fn links_are_left_out_or_refused() {
    let tree = Tree::new();
    let top = with_link(&tree, "dir/link", "file");
    let refuse = Transfer { links: Links::Refuse, ..plain() };
    let put = put_tree(&tree, "refused", &top, &refuse).unwrap_err();
    assert_eq!(put.kind(), ErrorKind::Path);
    assert!(put.detail().contains("\"refused/dir/link\""), "{put}");
    // What went before is complete.
    assert_eq!(names(&tree.at("refused/dir")), ["file"]);

    let expected = Transferred { skipped: 2, ..small() };
    assert_eq!(put_tree(&tree, "skipped", &top, &plain()).unwrap(), expected);
    assert_eq!(names(&tree.at("skipped")), ["dir"]);
    assert_eq!(names(&tree.at("skipped/dir")), ["file", "sub"]);

    fs::rename(&top, tree.at("tree")).unwrap();
    let got = get_tree(&tree, "tree", &tree.local("refused"), &refuse).unwrap_err();
    assert_eq!(got.kind(), ErrorKind::Path);
    assert!(got.detail().contains("\"tree/dir/link\""), "{got}");
    let copy = tree.local("copy");
    assert_eq!(get_tree(&tree, "tree", &copy, &plain()).unwrap(), expected);
    assert_eq!((names(&copy), names(&copy.join("dir"))), {
        (vec!["dir".into()], vec!["file".into(), "sub".into()])
    });
}

#[test]
fn links_within_are_followed_to_files() {
    let tree = Tree::new();
    let follow = Transfer { links: Links::Follow, ..plain() };
    for (name, target) in [
        ("link", "dir/file"),
        ("dir/link", "file"),
        ("dir/sub/link", "../file"),
        ("dir/sub/link", "../../dir/sub/../file"),
    ] {
        let top = with_link(&tree, name, target);
        symlink("sub", top.join("dir/sub2")).unwrap();
        fs::remove_file(top.join("dir/sub2")).unwrap();
        let put = put_tree(&tree, "new", &top, &follow).unwrap();
        let expected = Transferred { files: 2, skipped: 1, bytes: 12, ..small() };
        assert_eq!(put, expected);
        assert_eq!(tree.read(&format!("new/{name}")), b"inside");
        assert!(!tree.at("new").join(name).is_symlink());
        fs::remove_dir_all(tree.at("new")).unwrap();
    }
    let absolute = tree.local("tree/dir/file").display().to_string();
    for (name, target) in [
        ("link", "../outside/file"),
        ("link", ".."),
        ("link", "/etc/passwd"),
        ("link", &absolute),
        ("dir/link", "../../outside/file"),
        ("dir/link", "../../tree/dir/file"),
        ("link", "dir"),
        ("link", "fifo"),
        ("link", "link"),
        ("link", "missing"),
        ("link", "/proc/self/status"),
    ] {
        let top = with_link(&tree, name, target);
        let put = put_tree(&tree, "new", &top, &follow);
        assert_eq!(put.unwrap(), Transferred { skipped: 2, ..small() }, "{target}");
        assert!(!tree.at("new").join(name).exists());
    }
    let got = get_tree(&tree, "new", &tree.local("copy"), &follow);
    assert_eq!(kind(got), ErrorKind::Argument);
    assert!(!tree.local("copy").exists());
}

#[test]
fn links_that_stay_inside_are_copied_in_every_spelling() {
    let tree = Tree::new();
    for (name, target) in [
        ("link", "dir/file"),
        ("link", "./dir/file"),
        ("link", "."),
        ("link", "dir/"),
        ("link", "dir//file"),
        ("link", "dir/../dir/file"),
        ("link", "dir/sub/../../x"),
        ("dir/link", "../"),
        ("dir/link", "..//dir/./file"),
        ("dir/link", "sub/../file"),
        ("dir/link", "a\nb"),
        ("dir/sub/link", "../../dir/sub/.."),
    ] {
        let top = with_link(&tree, name, target);
        let expected = Transferred { links: 1, skipped: 1, ..small() };
        for _ in 0..2 {
            assert_eq!(put_tree(&tree, "new", &top, &copying()).unwrap(), expected, "{target}");
            let got = get_tree(&tree, "new", &tree.local("copy"), &copying());
            assert_eq!(got.unwrap(), Transferred { skipped: 0, ..expected }, "{target}");
        }
        for top in [tree.at("new"), tree.local("copy")] {
            assert_eq!(fs::read_link(top.join(name)).unwrap(), Path::new(target));
            fs::remove_dir_all(top).unwrap();
        }
    }
}

#[test]
fn links_that_may_lead_out_are_not_copied() {
    let tree = Tree::new();
    for (name, target) in [
        ("link", ".."),
        ("link", "../tree/dir"),
        ("link", "/etc"),
        ("link", "missing/../dir"),
        ("link", "dir/../.."),
        ("dir/link", "../.."),
        ("dir/link", "../../outside/file"),
    ] {
        let top = with_link(&tree, name, target);
        let put = put_tree(&tree, "deep/new", &top, &Transfer { links: Links::Copy, ..plain() });
        assert_eq!(kind(put), ErrorKind::RemoteNotFound, "its directory is missing");
        let parents = Transfer { links: Links::Copy, parents: true, ..plain() };
        let put = put_tree(&tree, "deep/new", &top, &parents).unwrap();
        assert_eq!(put, Transferred { skipped: 2, ..small() }, "{name} to {target}");
        assert!(!tree.at("deep/new").join(name).is_symlink());
        fs::remove_dir_all(tree.at("deep")).unwrap();

        fs::rename(&top, tree.at("tree")).unwrap();
        let copy = tree.local("copy");
        let got = get_tree(&tree, "tree", &copy, &copying()).unwrap();
        assert_eq!(got, Transferred { skipped: 2, ..small() }, "{name} to {target}");
        assert!(!copy.join(name).is_symlink());
        fs::remove_dir_all(copy).unwrap();
        fs::remove_dir_all(tree.at("tree")).unwrap();
    }
}

/// What a link goes through on its way up may not be a link itself.
#[test]
fn a_link_does_not_turn_back_behind_another_link() {
    let tree = Tree::new();
    let top = with_link(&tree, "dir/sub/root", "../..");
    symlink("root/../x", top.join("dir/sub/link")).unwrap();
    let expected = Transferred { links: 1, skipped: 2, ..small() };
    assert_eq!(put_tree(&tree, "new", &top, &copying()).unwrap(), expected);
    let ask = |link: &str, target: &str| {
        let request = format!(r#"{{"cmd":"symlink","filename":"{link}","target":"{target}"}}"#);
        with_server(&tree, |end| end.ask(&request, b""))
    };
    assert_eq!(ask("new/dir/sub/link", "root/../x"), "denied");
    assert_eq!(ask("new/dir/sub/link", "later/../../../x"), "denied");
    assert_eq!(ask("new/dir/sub/link", "../sub/../x"), "ok");
}

#[test]
fn what_is_no_file_is_neither_opened_nor_sent() {
    let tree = Tree::new();
    let top = with_link(&tree, "dir/link", "file");
    let _listener = UnixListener::bind(top.join("socket")).unwrap();
    let expected = Transferred { links: 1, skipped: 2, ..small() };
    assert_eq!(put_tree(&tree, "new", &top, &copying()).unwrap(), expected);
    fs::rename(&top, tree.at("tree")).unwrap();
    assert_eq!(get_tree(&tree, "tree", &tree.local("copy"), &copying()).unwrap(), expected);
    for top in [tree.at("new"), tree.local("copy")] {
        assert_eq!(names(&top), ["dir"]);
    }
}

#[test]
fn a_second_time_only_what_has_changed_passes() {
    let tree = Tree::new();
    let resume = Transfer { resume: true, links: Links::Copy, ..plain() };
    let all = plant(&tree.local("tree"));
    let nothing = Transferred { bytes: 0, ..all };
    let put = || put_tree(&tree, "new", &tree.local("tree"), &resume).unwrap();
    let get = || get_tree(&tree, "new", &tree.local("copy"), &resume).unwrap();
    assert_eq!((put(), put(), get(), get()), (all, nothing, all, nothing));
    assert_eq!(snapshot(&tree.local("copy")), snapshot(&tree.local("tree")));

    // Another size, another time, gone, and not a file any more.
    fs::write(tree.local("tree/0"), "changed").unwrap();
    let modified = UNIX_EPOCH + Duration::from_secs(1);
    let touched = File::options().write(true).open(tree.local("tree/a/-rf")).unwrap();
    touched.set_modified(modified).unwrap();
    fs::remove_file(tree.at("new/a.txt")).unwrap();
    let changed = Transferred { bytes: 7 + 7 + 35, ..all };
    assert_eq!((put(), put()), (changed, nothing));
    fs::remove_file(tree.local("copy/a.txt")).unwrap();
    assert_eq!((get(), get()), (changed, nothing));
    assert_eq!(snapshot(&tree.local("copy")), snapshot(&tree.local("tree")));
    assert_eq!(snapshot(&tree.at("new")), snapshot(&tree.local("tree")));

    // What a link leads to has not changed either.
    let top = with_link(&tree, "dir/link", "file");
    let follow = Transfer { links: Links::Follow, ..resume };
    for bytes in [12, 0] {
        assert_eq!(put_tree(&tree, "followed", &top, &follow).unwrap().bytes, bytes);
    }
    fs::remove_dir_all(top).unwrap();
    plant(&tree.local("tree"));
    let all = Transferred { bytes: all.bytes - 7, ..all };

    // One time for all of them says nothing of any.
    let dated = Transfer { mtime: Some(1000), ..resume };
    for _ in 0..2 {
        assert_eq!(put_tree(&tree, "new", &tree.local("tree"), &dated).unwrap().bytes, {
            all.bytes + 7
        });
        assert_eq!(get_tree(&tree, "new", &tree.local("copy"), &dated).unwrap().bytes, {
            all.bytes + 7
        });
    }
}

#[test]
fn a_tree_that_was_cut_goes_on_within_its_file() {
    let tree = Tree::new();
    let all = plant(&tree.local("tree"));
    let before = snapshot(&tree.local("tree"));
    let resume = Transfer { resume: true, links: Links::Copy, ..plain() };
    let stop = |_: &[u8], done, _| {
        if done > 1_500_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopping = Transfer { progress: Some(&stop), ..resume };
    let seen = RefCell::new(Vec::new());
    let note = |_: &[u8], done, total| {
        seen.borrow_mut().push((done, total));
        ControlFlow::Continue(())
    };
    let noting = Transfer { progress: Some(&note), ..resume };
    let is_near = |seen: Vec<(u64, u64)>| {
        assert!(seen.is_sorted() && seen.iter().all(|(_, total)| *total == all.bytes));
        assert_eq!(seen.last().unwrap().0, all.bytes);
        // The large file begins where it was cut, at more than 1.5 million.
        let first = seen.iter().find(|(done, _)| *done > 1000).unwrap();
        assert!(first.0 > 1_500_000, "{seen:?}");
    };

    let put = put_tree(&tree, "new", &tree.local("tree"), &stopping).unwrap_err();
    assert_eq!(put.kind(), ErrorKind::Canceled);
    assert!(put.detail().contains("\"new/a/b/c/x\""), "{put}");
    // Of a directory the files come first, then the directories in their order.
    assert!(tree.at("new/a/b/caf\u{e9}").parent().unwrap().is_dir() && !tree.at("new/z").exists());
    put_tree(&tree, "new", &tree.local("tree"), &noting).unwrap();
    is_near(seen.take());
    assert_eq!(snapshot(&tree.at("new")), before);

    let got = get_tree(&tree, "new", &tree.local("copy"), &stopping).unwrap_err();
    assert_eq!(got.kind(), ErrorKind::Canceled);
    assert!(got.detail().contains("\"new/a/b/c/x\""), "{got}");
    get_tree(&tree, "new", &tree.local("copy"), &noting).unwrap();
    is_near(seen.take());
    assert_eq!(snapshot(&tree.local("copy")), before);
}

#[test]
fn progress_is_that_of_the_whole_tree() {
    let tree = Tree::new();
    let all = plant(&tree.local("tree"));
    let seen = RefCell::new(Vec::new());
    let note = |_: &[u8], done, total| {
        seen.borrow_mut().push((done, total));
        ControlFlow::Continue(())
    };
    let check = |total: u64| {
        let seen = seen.take();
        assert_eq!(seen[0].0, 0, "of an empty file");
        assert!(seen.is_sorted_by(|one, next| one.0 <= next.0), "{seen:?}");
        assert!(seen.iter().all(|passed| passed.1 == total), "{seen:?}");
        assert_eq!(seen.last(), Some(&(total, total)));
    };
    let options = Transfer { progress: Some(&note), links: Links::Follow, ..plain() };
    for link in ["a/b/dangling", "a/b/directory", "a/b/c/parent"] {
        fs::remove_file(tree.local("tree").join(link)).unwrap();
    }
    put_tree(&tree, "new", &tree.local("tree"), &options).unwrap();
    check(all.bytes);
    let options = Transfer { links: Links::Skip, ..options };
    get_tree(&tree, "new", &tree.local("copy"), &options).unwrap();
    check(all.bytes);
    // What does not pass again counts as well, and can be the end.
    let options = Transfer { resume: true, ..options };
    get_tree(&tree, "new", &tree.local("copy"), &options).unwrap();
    check(all.bytes);
    get_tree(&tree, "new", &tree.local("copy"), &options).unwrap();
    assert_eq!(seen.take().last(), Some(&(all.bytes, all.bytes)));
    let stop = |_: &[u8], _, _| ControlFlow::Break(());
    let got =
        get_tree(&tree, "new", &tree.local("copy"), &Transfer { progress: Some(&stop), ..options });
    assert_eq!(kind(got), ErrorKind::Canceled);
}

#[test]
fn a_tree_that_grows_after_it_was_counted() {
    let tree = Tree::new();
    let top = tree.local("tree");
    fs::create_dir_all(top.join("z")).unwrap();
    fs::write(top.join("a"), "abc").unwrap();
    let seen = RefCell::new(Vec::new());
    let grow = |_: &[u8], done, total| {
        fs::write(tree.local("tree/z/later"), "0123456789").unwrap();
        seen.borrow_mut().push((done, total));
        ControlFlow::Continue(())
    };
    let options = Transfer { progress: Some(&grow), ..plain() };
    let put = put_tree(&tree, "new", &top, &options).unwrap();
    assert_eq!((put.files, put.bytes), (2, 13));
    assert_eq!(seen.take(), [(3, 3), (13, 13)]);
}

#[test]
fn the_roots_and_names_of_trees() {
    let tree = Tree::new();
    let top = tree.local("tree");
    fs::create_dir_all(top.join("dir")).unwrap();
    fs::write(top.join("dir/file"), "abc").unwrap();
    // The root itself, a name with missing directories, and what is no name.
    put_tree(&tree, "", &top, &plain()).unwrap();
    assert_eq!(tree.read("dir/file"), b"abc");
    assert_eq!(kind(put_tree(&tree, "a/b", &top, &plain())), ErrorKind::RemoteNotFound);
    put_tree(&tree, "a/b", &top, &Transfer { parents: true, ..plain() }).unwrap();
    assert_eq!(tree.read("a/b/dir/file"), b"abc");
    for name in ["/", "..", "a/..", "a/", ".framefd-x"] {
        assert_eq!(kind(put_tree(&tree, name, &top, &plain())), ErrorKind::Path, "{name}");
        let got = get_tree(&tree, name, &tree.local("none"), &plain());
        assert_eq!(kind(got), ErrorKind::Path, "{name}");
    }
    // A path that is no directory, one that is missing, one behind a link and a slash.
    let link = tree.local("link");
    symlink("tree", &link).unwrap();
    put_tree(&tree, "linked", &link.join(""), &plain()).unwrap();
    assert_eq!(tree.read("linked/dir/file"), b"abc");
    assert_eq!(kind(put_tree(&tree, "x", &top.join("dir/file"), &plain())), ErrorKind::Path);
    assert_eq!(kind(put_tree(&tree, "x", &tree.local("no"), &plain())), ErrorKind::NotFound);

    assert_eq!(get_tree(&tree, "", &tree.local("all/"), &plain()).unwrap().files, 4);
    assert_eq!(fs::read(tree.local("all/a/b/dir/file")).unwrap(), b"abc");
    symlink("all", tree.local("to")).unwrap();
    get_tree(&tree, "dir", &tree.local("to"), &plain()).unwrap();
    assert_eq!(fs::read(tree.local("all/file")).unwrap(), b"abc");
    for (name, path, expected) in [
        ("missing", "none", ErrorKind::RemoteNotFound),
        ("old", "none", ErrorKind::RemoteDenied),
        ("dir", "none/none", ErrorKind::NotFound),
        ("dir", "tree/dir/file", ErrorKind::Path),
    ] {
        assert_eq!(kind(get_tree(&tree, name, &tree.local(path), &plain())), expected, "{name}");
        assert!(!tree.local("none").exists());
    }
    for options in [Transfer { offset: 1, ..plain() }, Transfer { reply: false, ..plain() }] {
        assert_eq!(kind(put_tree(&tree, "x", &top, &options)), ErrorKind::Argument);
        let got = get_tree(&tree, "dir", &tree.local("none"), &options);
        assert_eq!(kind(got), ErrorKind::Argument);
    }
}

#[test]
fn a_tree_as_deep_as_a_name_on_a_small_stack() {
    let tree = Tree::new();
    let top = tree.local("tree");
    let deep = |components: usize| vec!["d"; components].join("/");
    fs::create_dir_all(top.join(deep(253))).unwrap();
    fs::write(top.join(deep(253)).join("f"), "abc").unwrap();
    let on_a_small_stack = |body: &(dyn Fn() -> Result<Transferred> + Sync)| {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(64 * 1024);
            thread.spawn_scoped(scope, body).unwrap().join().unwrap()
        })
    };
    let expected = Transferred { files: 1, directories: 254, bytes: 3, ..Default::default() };
    let put = on_a_small_stack(&|| put_tree(&tree, "n", &top, &copying()));
    assert_eq!(put.unwrap(), expected);
    let got = on_a_small_stack(&|| get_tree(&tree, "n", &tree.local("copy"), &copying()));
    assert_eq!(got.unwrap(), expected);
    assert_eq!(fs::read(tree.local("copy").join(deep(253)).join("f")).unwrap(), b"abc");
    // One more is a name that nobody takes.
    let put = on_a_small_stack(&|| put_tree(&tree, "n/n", &top, &copying())).unwrap_err();
    assert_eq!(put.kind(), ErrorKind::Incomplete);
    assert!(put.detail().contains("255 components"), "{put}");
}

#[test]
fn a_tree_has_one_deadline() {
    let tree = Tree::new();
    plant(&tree.local("tree"));
    let (client, _server) = Kind::Unix.connect();
    let hasty = Duration::from_millis(20);
    let start = Instant::now();
    let (from, to) = (tree.local("tree"), tree.local("copy"));
    let put = file::put(&mut client.connection(), &Transfer::tree(b"new", &from), hasty);
    assert_eq!(kind(put), ErrorKind::TimedOut);
    let got = file::get(&mut client.connection(), &Transfer::tree(b"new", &to), hasty);
    assert_eq!(kind(got), ErrorKind::TimedOut);
    // The files are slow one by one, and the time is that of all.
    let slow = Transfer { rate: Some(100), ..Transfer::tree(b"new", &from) };
    let put = with_server(&tree, |end| {
        file::put(&mut end.connection(), &slow, Duration::from_millis(300))
    });
    assert_eq!(kind(put), ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// Runs `body` while a thread exchanges two names in `dir`, as fast as it can.
fn while_swapping(dir: &Path, names: [&str; 2], body: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (stop, dir) = (AtomicBool::new(false), File::open(dir).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let [one, other] = names;
                let (dir, flags) = (dir.as_fd(), RenameFlags::EXCHANGE);
                rustix::fs::renameat_with(dir, one, dir, other, flags).unwrap();
            }
        });
        let _stop = Stop(&stop); // also by a panic
        body();
    });
}

#[test]
fn a_directory_that_turns_into_a_link_sends_nothing_from_outside() {
    let tree = Tree::new();
    let top = tree.local("tree");
    fs::create_dir_all(top.join("dir/sub")).unwrap();
    fs::create_dir_all(tree.local("outside/sub")).unwrap();
    for dir in ["", "sub"] {
        fs::write(top.join("dir").join(dir).join("file"), "inside").unwrap();
        fs::write(tree.local("outside").join(dir).join("file"), "outside").unwrap();
    }
    symlink("../outside", top.join("up")).unwrap();
    while_swapping(&top, ["dir", "up"], || {
        with_server(&tree, |end| {
            let start = Instant::now();
            let (mut whole, mut refused, mut without) = (0, 0, 0);
            for links in [Links::Skip, Links::Follow].into_iter().cycle() {
                // On a busy machine it takes longer until both have happened.
                let long = if whole > 0 && refused > 0 { 10 } else { 100 };
                if start.elapsed() > Duration::from_secs(long) || (whole > 50 && refused > 50) {
                    break;
                }
                let options = Transfer { links, ..plain() };
                match send_tree(end, b"new", &top, &options) {
                    Ok(Transferred { files: 2, .. }) => whole += 1,
                    Ok(_) => without += 1,
                    Err(error) => {
                        let expected =
                            [ErrorKind::Incomplete, ErrorKind::Path, ErrorKind::NotFound];
                        assert!(expected.contains(&error.kind()), "{error}");
                        refused += 1;
                    }
                }
                let stored = snapshot(&tree.at("new"));
                let outside = format!("{:?}", b"outside");
                assert!(stored.values().all(|stored| *stored != outside), "{stored:?}");
                let _ = fs::remove_dir_all(tree.at("new"));
            }
            assert!(whole > 0 && refused > 0, "{whole} {refused} {without}");
        });
    });
}

#[test]
fn a_directory_that_turns_into_a_link_gets_nothing_outside() {
    let tree = Tree::new();
    fs::create_dir_all(tree.at("tree/dir/sub")).unwrap();
    for dir in ["dir", "dir/sub"] {
        fs::write(tree.at("tree").join(dir).join("file"), "new").unwrap();
        symlink("file", tree.at("tree").join(dir).join("link")).unwrap();
    }
    let copy = tree.local("copy");
    fs::create_dir_all(copy.join("dir")).unwrap();
    fs::create_dir_all(tree.local("outside")).unwrap();
    fs::write(tree.local("outside/file"), "outside").unwrap();
    symlink("../outside", copy.join("up")).unwrap();
    while_swapping(&copy, ["dir", "up"], || {
        with_server(&tree, |end| {
            let (mut got, mut refused) = (0, 0);
            let start = Instant::now();
            let long = |both| Duration::from_secs(if both { 10 } else { 100 });
            while got.min(refused) < 50 && start.elapsed() < long(got.min(refused) > 0) {
                match take_tree(end, b"tree", &copy, &copying()) {
                    Ok(_) => got += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Incomplete, "{error}");
                        refused += 1;
                    }
                }
                assert_eq!(names(&tree.local("outside")), ["file"]);
            }
            assert!(got > 0 && refused > 0, "{got} {refused}");
        });
    });
    assert_eq!(fs::read(tree.local("outside/file")).unwrap(), b"outside");
}

#[test]
fn names_that_are_not_text_are_told_in_lists() {
    let tree = Tree::new();
    fs::create_dir(tree.at("dir")).unwrap();
    let odd: [&[u8]; 4] = [b"a\nb", b"caf\xe9", b"x", b"\xff"];
    for name in odd {
        fs::write(tree.at("dir").join(OsStr::from_bytes(name)), "abc").unwrap();
    }
    symlink(std::ffi::OsString::from_vec(b"\xff".to_vec()), tree.at("dir/link")).unwrap();
    with_server(&tree, |end| {
        let mut linked = end.connection();
        let connection = &mut *linked;
        let list = file::list(connection, b"dir", None).unwrap();
        let found: Vec<&[u8]> = list.iter().map(|entry| &*entry.name).collect();
        assert_eq!(found, [&b"a\nb"[..], b"caf\xe9", b"link", b"x", b"\xff"]);
        assert_eq!(list[2].target.as_deref(), Some(&b"\xff"[..]));
        assert_eq!((list[3].stat.size, list[3].stat.kind), (3, file::Kind::File));
        let found = file::list(connection, b"", None).unwrap();
        assert_eq!(found.len(), 2);

        let mut stat = |name| file::stat(connection, name, None);
        assert_eq!(stat(b"dir/x").unwrap(), list[3].stat);
        assert_eq!(stat(b"dir/link").unwrap().kind, file::Kind::Symlink);
        assert_eq!(stat(b"").unwrap().kind, file::Kind::Dir);
        assert_eq!(kind(stat(b"no")), ErrorKind::RemoteNotFound);
        let partial = file::partial(connection, b"old", None);
        assert_eq!(kind(partial), ErrorKind::RemoteNotFound);
        assert_eq!(kind(file::list(connection, b"old", None)), ErrorKind::RemoteDenied);

        let mut make =
            |name: &[u8], parents| file::mkdir(connection, name, Some(0o700), parents, None);
        make(b"made", false).unwrap();
        make(b"made", false).unwrap();
        assert_eq!(fs::metadata(tree.at("made")).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(kind(make(b"a/b/c", false)), ErrorKind::RemoteNotFound);
        make(b"a/b/c", true).unwrap();
        assert!(tree.at("a/b/c").is_dir());
        assert_eq!(kind(make(b"old", false)), ErrorKind::RemoteExists);
        drop(linked);
        end.assert_in_sync();
    });
}
