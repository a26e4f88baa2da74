//! The permission bits of files: kept if one is replaced, otherwise those of the source.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use framefd::ops::file::{ServeOptions, Transfer};

use crate::common::file_of;
use crate::{
    Kind, Tree, against, get_path, plain, put_fd, put_path, quick, send_tree, take_tree,
    with_server,
};

fn write(path: &Path, mode: u32) {
    fs::write(path, "content").unwrap();
    set(path, mode);
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn resuming() -> Transfer<'static> {
    Transfer { resume: true, ..plain() }
}

#[test]
fn a_file_that_is_replaced_keeps_its_own() {
    let tree = Tree::new();
    let (source, target) = (tree.local("x"), tree.at("x"));
    with_server(&tree, |end| {
        for (theirs, ours) in [(0o600, 0o644), (0o755, 0o600), (0o600, 0o777), (0o666, 0o400)] {
            for how in [plain(), resuming()] {
                write(&source, ours);
                write(&target, theirs);
                put_path(end, b"x", &source, &how).unwrap();
                assert_eq!(mode(&target), theirs, "{ours:o}");
                put_fd(end, b"x", File::open(&source).unwrap().as_fd(), None, &how).unwrap();
                assert_eq!(mode(&target), theirs, "{ours:o}");
                get_path(end, b"x", &source, &how).unwrap();
                assert_eq!(mode(&source), ours, "{theirs:o}");
            }
        }
        let preserve = Transfer { preserve: true, ..plain() };
        put_path(end, b"x", &source, &preserve).unwrap();
        assert_eq!(mode(&target), 0o400);
        put_path(end, b"x", &source, &Transfer { mode: Some(0o640), ..preserve }).unwrap();
        assert_eq!(mode(&target), 0o640);
        get_path(end, b"x", &source, &preserve).unwrap();
        assert_eq!(mode(&source), 0o640);
        get_path(end, b"x", &source, &Transfer { mode: Some(0o604), ..plain() }).unwrap();
        assert_eq!(mode(&source), 0o604);
    });
}

#[test]
fn a_new_file_gets_those_of_the_source() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        for (number, (bits, how)) in
            [(0o600, plain()), (0o700, plain()), (0o700, resuming())].into_iter().enumerate()
        {
            let (source, name) = (tree.local("x"), format!("x{number}"));
            write(&source, bits);
            put_path(end, name.as_bytes(), &source, &how).unwrap();
            assert_eq!(mode(&tree.at(&name)), bits);
            get_path(end, name.as_bytes(), &tree.local(&name), &how).unwrap();
            assert_eq!(mode(&tree.local(&name)), bits);
        }
        // A file without a name has a mode by chance, and a pipe has none that matters.
        let nameless = file_of(b"content");
        rustix::fs::fchmod(&nameless, rustix::fs::Mode::RWXU).unwrap();
        put_fd(end, b"nameless", nameless.as_fd(), None, &plain()).unwrap();
        assert_eq!(mode(&tree.at("nameless")) & 0o111, 0);
    });
}

/// The file that it was to replace is gone when it is complete.
#[test]
fn a_file_that_replaces_none_after_all_is_no_more_open_than_the_source() {
    let tree = Tree::new();
    let (theirs, ours) = (tree.at("x"), tree.local("x"));
    let vanish = |_: &[u8], _, _| {
        fs::remove_file(&ours).unwrap();
        ControlFlow::Continue(())
    };
    with_server(&tree, |end| {
        for bits in [0o600, 0o640, 0o700] {
            write(&theirs, bits);
            write(&ours, 0o666);
            get_path(end, b"x", &ours, &Transfer { progress: Some(&vanish), ..plain() }).unwrap();
            assert_eq!(mode(&ours) & !bits, 0);
        }
    });
}

#[test]
fn a_tree_is_no_more_open_at_the_other_side() {
    let tree = Tree::new();
    for dir in ["tree", "tree/closed", "tree/open"] {
        fs::create_dir(tree.local(dir)).unwrap();
    }
    write(&tree.local("tree/closed/secret"), 0o600);
    write(&tree.local("tree/open/program"), 0o700);
    set(&tree.local("tree/closed"), 0o700);
    set(&tree.local("tree"), 0o710);
    // Nor is it meanwhile.
    let look = |_: &[u8], _, _| {
        for top in [tree.at("tree"), tree.local("back")].iter().filter(|top| top.exists()) {
            assert_eq!(mode(top) & 0o067, 0);
        }
        ControlFlow::Continue(())
    };
    let how = Transfer { progress: Some(&look), ..plain() };
    with_server(&tree, |end| {
        send_tree(end, b"tree", &tree.local("tree"), &how).unwrap();
        take_tree(end, b"tree", &tree.local("back"), &how).unwrap();
    });
    for top in [tree.at("tree"), tree.local("back")] {
        assert_eq!(mode(&top) & 0o067, 0);
        assert_eq!(mode(&top.join("closed")), 0o700);
        assert_eq!(mode(&top.join("closed/secret")), 0o600);
        assert_eq!(mode(&top.join("open/program")), 0o700);
    }
}

#[test]
fn a_servers_mode_is_for_new_files_and_gives_no_more_than_the_source() {
    let tree = Tree::new();
    let options = || ServeOptions { mode: Some(0o604), ..quick() };
    write(&tree.at("x"), 0o640);
    against(Kind::Unix, &tree, options, |end| {
        for (bits, expected) in [(0o600, 0o600), (0o755, 0o604)] {
            write(&tree.local("x"), bits);
            let name = format!("new{bits:o}");
            put_path(end, name.as_bytes(), &tree.local("x"), &plain()).unwrap();
            assert_eq!(mode(&tree.at(&name)) | 0o022, expected | 0o022, "{bits:o}");
            put_path(end, b"x", &tree.local("x"), &plain()).unwrap();
            assert_eq!(mode(&tree.at("x")), 0o640);
        }
        let request = r#"{"cmd":"put","filename":"from an old client","filesize":0}"#;
        assert_eq!(end.ask(request, b""), "ok");
        assert_eq!(mode(&tree.at("from an old client")) & 0o700, 0o600);
        let request = r#"{"cmd":"put","filename":"x","filesize":0,"mode":"0600"}"#;
        assert_eq!(end.ask(request, b""), "ok");
        assert_eq!(mode(&tree.at("x")), 0o600, "the request insists");
    });
}

/// An old server takes the mode for what a file shall have, and does not know `keep_mode`.
#[test]
fn an_old_server_gets_the_mode_and_opens_no_file_wider() {
    let tree = Tree::new();
    write(&tree.local("x"), 0o640);
    let (client, server) = Kind::Unix.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let header = server.recv().header;
            assert_eq!(header.string("mode").unwrap(), "0640");
            let (id, size) = (header.string("id").unwrap(), header.integer("filesize").unwrap());
            let reply = format!(r#"{{"status":"ok","filesize":{size},"id":"{id}"}}"#);
            server.send_raw(&reply, b"");
        });
        let unhashed = Transfer { checksum: false, ..plain() };
        put_path(&client, b"x", &tree.local("x"), &unhashed).unwrap();
    });
}
