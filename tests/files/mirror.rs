//! Trees that are brought into line with each other.

use std::cell::RefCell;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use framefd::ops::file::{self, Change, Links, Local, Mirror, Transfer, Transferred};
use framefd::{ErrorKind, Result};

use crate::common::kind;
use crate::common::process::alone_in;
use crate::trees::{attributes, plant, snapshot};
use crate::{End, Kind, ServeOptions, Tree, against, plain, quick};

#[derive(Clone, Copy, Default)]
struct How {
    digests: bool,
    remove: bool,
    dry_run: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Put,
    Get,
}

use Way::{Get, Put};

impl Way {
    fn run(
        self,
        tree: &Tree,
        end: &End,
        what: &Transfer<'_>,
        mirror: &Mirror<'_>,
    ) -> Result<Transferred> {
        let here = tree.local("here");
        let (name, local) = (&b"there"[..], Local::Path(&here));
        let what = Transfer { name, local, tree: true, sync: self == Put, ..*what };
        let connection = &mut end.connection();
        match self {
            Put => file::mirror_put(connection, &what, mirror, None),
            Get => file::mirror_get(connection, &what, mirror, None),
        }
    }
}

/// Brings one side into line with the other: what came of it, and the changes, sorted.
fn mirror_to(
    tree: &Tree,
    way: Way,
    options: fn() -> ServeOptions<'static>,
    how: How,
) -> (Result<Transferred>, Vec<(Change, String)>) {
    let told = RefCell::new(Vec::new());
    let report = |change: Change, name: &[u8]| {
        told.borrow_mut().push((change, String::from_utf8_lossy(name).into_owned()));
        ControlFlow::Continue(())
    };
    let How { digests, remove, dry_run } = how;
    let mirror = Mirror { digests, remove, dry_run, report: &report };
    let what = Transfer { links: Links::Copy, resume: true, ..plain() };
    let done = against(Kind::Unix, tree, options, |end| way.run(tree, end, &what, &mirror)).0;
    let mut told = told.into_inner();
    told.sort_by(|one, other| one.1.cmp(&other.1));
    (done, told)
}

fn mirror(tree: &Tree, way: Way, how: How) -> (Result<Transferred>, Vec<(Change, String)>) {
    mirror_to(tree, way, quick, how)
}

/// A tree, and its source and destination in that direction.
fn planted(way: Way) -> (Tree, std::path::PathBuf, std::path::PathBuf) {
    let tree = Tree::new();
    let (mut source, mut dest) = (tree.local("here"), tree.at("there"));
    if way == Get {
        std::mem::swap(&mut source, &mut dest);
    }
    plant(&source);
    (tree, source, dest)
}

fn set_time(path: &Path, milliseconds: u64) {
    let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn only_what_differs_is_transferred() {
    for way in [Put, Get] {
        let (tree, source, dest) = planted(way);
        let (dry, would) = mirror(&tree, way, How { dry_run: true, ..How::default() });
        assert!(!dest.exists());
        let (done, changes) = mirror(&tree, way, How::default());
        assert_eq!((dry.unwrap(), would), (done.clone().unwrap(), changes.clone()));
        let done = done.unwrap();
        assert_eq!(snapshot(&dest), snapshot(&source));
        let all = changes.iter().filter(|(change, _)| *change == Change::File).count() as u64;
        assert_eq!((all, done.files, done.links), (8, 8, 5));
        assert_eq!(changes.iter().filter(|(change, _)| *change == Change::Link).count(), 5);
        assert_eq!(changes.len(), 8 + 5 + 7);
        // Once more: nothing.
        let (again, changes) = mirror(&tree, way, How::default());
        assert_eq!(changes, []);
        assert_eq!(again.unwrap(), Transferred { bytes: 0, ..done });
        // One of each.
        fs::write(source.join("0"), "is longer").unwrap();
        set_time(&source.join("0"), 9);
        set_time(&dest.join("a.txt"), 5);
        set_mode(&source.join("z/0"), 0o711);
        fs::remove_file(source.join("link")).unwrap();
        symlink("z", source.join("link")).unwrap();
        fs::create_dir(source.join("new")).unwrap();
        fs::write(dest.join("a/other"), "stays").unwrap();
        let number = dest.join("a/b/c/x").metadata().unwrap().ino();
        let expected = [
            (Change::File, "0"),
            (Change::File, "a.txt"),
            (Change::Link, "link"),
            (Change::Directory, "new"),
            (Change::Attributes, "z/0"),
        ]
        .map(|(change, name)| (change, name.to_owned()));
        let (dry, would) = mirror(&tree, way, How { dry_run: true, ..How::default() });
        let (done, changes) = mirror(&tree, way, How::default());
        assert_eq!((dry.unwrap(), &would[..]), (done.unwrap(), &expected[..]));
        assert_eq!(changes, expected);
        assert_eq!(dest.join("a/b/c/x").metadata().unwrap().ino(), number);
        let mut after = snapshot(&source);
        let mut modes = attributes(&source);
        after.insert("a/other".into(), format!("{:?}", b"stays"));
        assert_eq!(snapshot(&dest), after);
        modes.retain(|path, _| source.join(path).is_file() && !source.join(path).is_symlink());
        let found = attributes(&dest);
        for (path, (mode, time)) in modes {
            let (expected, found) = ((mode & 0o777, time), found[&path]);
            assert_eq!((found.0 & 0o777, found.1), expected, "{}", path.display());
        }
    }
}

#[test]
fn digests_tell_what_times_do_not() {
    let by_digest = How { digests: true, ..How::default() };
    for way in [Put, Get] {
        let (tree, source, dest) = planted(way);
        mirror(&tree, way, How::default()).0.unwrap();
        // The same size and time, and another content; and the other way round.
        let time = source.join("a/b/c/x").metadata().unwrap().modified().unwrap();
        let mut content = fs::read(source.join("a/b/c/x")).unwrap();
        content[1_500_000] ^= 1;
        fs::write(dest.join("a/b/c/x"), &content).unwrap();
        File::options().write(true).open(dest.join("a/b/c/x")).unwrap().set_modified(time).unwrap();
        set_time(&dest.join("a.txt"), 5);
        set_time(&dest.join("0"), 5);
        assert_eq!(mirror(&tree, way, How::default()).1.len(), 2);
        set_time(&dest.join("a.txt"), 5);
        set_time(&dest.join("0"), 5);
        let (done, changes) = mirror(&tree, way, by_digest);
        assert_eq!(done.unwrap().bytes, 2_100_000);
        let names: Vec<_> = changes.iter().map(|(change, name)| (*change, &**name)).collect();
        assert_eq!(
            names,
            [(Change::Attributes, "0"), (Change::Attributes, "a.txt"), (Change::File, "a/b/c/x")]
        );
        assert_eq!(snapshot(&dest), snapshot(&source));
        assert_eq!(mirror(&tree, way, by_digest).1, []);
    }
}

/// What an interrupted transfer has left is not the content of a file whose mode is set.
#[test]
fn a_partial_file_is_not_taken_for_the_content() {
    const PART: &str = ".framefd-cba06b5736faf67e.part"; // of `old`
    for (way, checksum) in [(Put, true), (Put, false), (Get, true), (Get, false)] {
        let (tree, source, dest) = planted(way);
        fs::write(source.join("old"), "content").unwrap();
        mirror(&tree, way, How::default()).0.unwrap();
        fs::write(dest.join(PART), "something else").unwrap();
        set_mode(&source.join("old"), 0o711);
        let report = |_: Change, _: &[u8]| ControlFlow::Continue(());
        let mirror = Mirror { digests: false, remove: false, dry_run: false, report: &report };
        let what = Transfer { checksum, ..plain() };
        against(Kind::Unix, &tree, quick, |end| way.run(&tree, end, &what, &mirror)).0.unwrap();
        assert_eq!(fs::read(dest.join("old")).unwrap(), b"content");
        assert_eq!(dest.join("old").metadata().unwrap().mode() & 0o777, 0o711);
    }
}

/// A server that lets its clients put, and get nothing.
#[test]
fn what_may_not_be_compared_is_sent_whole() {
    fn no_get() -> ServeOptions<'static> {
        fn policy(
            asked: &framefd::ops::file::Inquiry<'_>,
            _: &mut framefd::ops::file::Choice,
        ) -> Result<()> {
            match asked.cmd {
                "get" => Err(framefd::Error::new(ErrorKind::Denied, "")),
                _ => Ok(()),
            }
        }
        ServeOptions { policy: Some(&policy), ..quick() }
    }
    let (tree, source, dest) = planted(Put);
    mirror_to(&tree, Put, no_get, How::default()).0.unwrap();
    set_mode(&source.join("z/0"), 0o711);
    set_time(&dest.join("a.txt"), 5);
    let by_digest = How { digests: true, ..How::default() };
    let (done, _) = mirror_to(&tree, Put, no_get, by_digest);
    assert!(done.unwrap().bytes > 2_100_000);
    assert_eq!(dest.join("z/0").metadata().unwrap().mode() & 0o777, 0o711);
    assert_eq!(snapshot(&dest), snapshot(&source));
}

#[test]
fn what_the_source_does_not_have_is_removed_if_that_is_asked_for() {
    let removing = How { remove: true, ..How::default() };
    let (tree, source, dest) = planted(Get);
    fs::create_dir(tree.local("outside")).unwrap();
    fs::write(tree.local("outside/file"), "stays").unwrap();
    fs::create_dir_all(dest.join("gone/deep")).unwrap();
    fs::write(dest.join("gone/deep/f"), "").unwrap();
    symlink("../../outside", dest.join("gone/up")).unwrap();
    symlink("../outside", dest.join("a")).unwrap();
    fs::create_dir(dest.join("0")).unwrap();
    fs::write(dest.join("z"), "a file with the name of a directory").unwrap();
    fs::write(dest.join("link"), "a file with the name of a link").unwrap();
    fs::write(dest.join(".framefd-0123456789abcdef.part"), "").unwrap();
    let (without, _) = mirror(&tree, Get, How::default());
    let error = without.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete);
    assert!(error.detail().starts_with("4 failed"), "{error}");
    assert!(dest.join("gone/deep/f").exists());
    let before = snapshot(&dest);
    let (dry, would) = mirror(&tree, Get, How { dry_run: true, ..removing });
    assert_eq!(snapshot(&dest), before);
    let (done, changes) = mirror(&tree, Get, removing);
    assert_eq!((dry.unwrap(), would), (done.unwrap(), changes.clone()));
    let removed: Vec<&str> =
        changes.iter().filter(|(c, _)| *c == Change::Remove).map(|(_, name)| &**name).collect();
    assert_eq!(removed, ["0", "a", "gone", "gone/deep", "gone/deep/f", "gone/up", "link", "z"]);
    fs::remove_file(dest.join(".framefd-0123456789abcdef.part")).unwrap();
    assert_eq!(snapshot(&dest), snapshot(&source));
    assert_eq!(fs::read(tree.local("outside/file")).unwrap(), b"stays");
    assert_eq!(kind(mirror(&tree, Put, removing).0), ErrorKind::Argument);
}

/// What is mounted in the tree is another tree.
#[test]
fn nothing_is_removed_from_another_file_system() {
    const NAME: &str = "mirror::nothing_is_removed_from_another_file_system";
    if std::env::var_os("FRAMEFD_TEST_ALONE").is_none() {
        let unshared = std::process::Command::new("unshare").args(["-Urm", "true"]).output();
        if !unshared.is_ok_and(|done| done.status.success()) {
            return println!("skipped: no name spaces here");
        }
    }
    alone_in(NAME, &["unshare", "-Urm"], || {
        let (tree, _, dest) = planted(Get);
        fs::create_dir_all(dest.join("gone/mounted")).unwrap();
        fs::create_dir(tree.local("elsewhere")).unwrap();
        fs::write(tree.local("elsewhere/file"), "stays").unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["--bind", tree.local("elsewhere").to_str().unwrap()])
            .arg(dest.join("gone/mounted"))
            .status()
            .unwrap();
        assert!(mounted.success());
        let (done, _) = mirror(&tree, Get, How { remove: true, ..How::default() });
        let error = done.unwrap_err();
        assert!(error.detail().contains("another file system is mounted there"), "{error}");
        assert_eq!(fs::read(tree.local("elsewhere/file")).unwrap(), b"stays");
        assert!(dest.join("a/b/c/x").exists());
    });
}

#[test]
fn a_report_ends_it() {
    for way in [Put, Get] {
        let (tree, _, dest) = planted(way);
        let report = |_: Change, _: &[u8]| ControlFlow::Break(());
        let mirror = Mirror { digests: false, remove: false, dry_run: false, report: &report };
        let done = against(Kind::Unix, &tree, quick, |end| way.run(&tree, end, &plain(), &mirror));
        assert_eq!(kind(done.0), ErrorKind::Canceled);
        assert!(!dest.exists());
    }
}
