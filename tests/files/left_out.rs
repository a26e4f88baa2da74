//! What cannot be transferred of a tree is left out and counted, and the rest goes on.

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use framefd::ops::file::{Transfer, Transferred};
use framefd::{Error, ErrorKind};

use crate::trees::without_rights;
use crate::{End, Kind, Tree, against, names, plain, quick, send_tree, serve, take_tree};

/// Three directories and the tree itself, each with a file.
fn plant(top: &Path) {
    for dir in ["", "a", "b", "c"] {
        fs::create_dir(top.join(dir)).unwrap();
        fs::write(top.join(dir).join("file"), "abc").unwrap();
    }
}

const ALL: Transferred = Transferred {
    bytes: 12,
    files: 4,
    directories: 4,
    links: 0,
    skipped: 0,
    failed: 0,
    sha256: None,
};

fn one_file_less() -> Transferred {
    Transferred { files: 3, bytes: 9, failed: 1, ..ALL }
}

fn put_tree(tree: &Tree, how: &Transfer<'_>) -> (Option<Error>, Transferred) {
    transfer(tree, |end, so_far| {
        let how = Transfer { so_far: Some(so_far), ..*how };
        send_tree(end, b"new", &tree.local("tree"), &how).err()
    })
}

fn get_tree(tree: &Tree, how: &Transfer<'_>) -> (Option<Error>, Transferred) {
    transfer(tree, |end, so_far| {
        let how = Transfer { so_far: Some(so_far), ..*how };
        take_tree(end, b"tree", &tree.local("copy"), &how).err()
    })
}

fn transfer(
    tree: &Tree,
    client: impl FnOnce(&End, &Cell<Transferred>) -> Option<Error>,
) -> (Option<Error>, Transferred) {
    let so_far = Cell::default();
    let (error, _) = against(Kind::Unix, tree, quick, |end| {
        let error = client(end, &so_far);
        end.assert_in_sync();
        error
    });
    (error, so_far.get())
}

fn assert_left_out(error: Option<Error>, name: &str, why: ErrorKind) {
    let error = error.expect("an error");
    assert_eq!(error.kind(), ErrorKind::Incomplete, "{error}");
    assert!(error.detail().contains(name) && error.detail().contains(why.text()), "{error}");
}

#[test]
fn what_the_server_refuses() {
    let tree = Tree::new();
    plant(&tree.local("tree"));
    fs::create_dir_all(tree.at("new/b/file")).unwrap();
    fs::write(tree.at("new/c"), "no directory").unwrap();
    let (error, done) = put_tree(&tree, &plain());
    assert_left_out(error, "\"new/b/file\"", ErrorKind::RemoteDenied);
    assert_eq!(done, Transferred { files: 2, directories: 3, bytes: 6, failed: 2, ..ALL });
    assert_eq!(tree.read("new/a/file"), b"abc");
    let (error, done) = put_tree(&tree, &Transfer { overwrite: false, ..plain() });
    assert_left_out(error, "\"new/file\"", ErrorKind::RemoteExists);
    assert_eq!((done.files, done.failed), (0, 4));
}

#[test]
fn what_is_in_the_way_here() {
    let tree = Tree::new();
    plant(&tree.at("tree"));
    fs::create_dir_all(tree.local("copy/b/file")).unwrap();
    fs::write(tree.local("copy/c"), "no directory").unwrap();
    let (error, done) = get_tree(&tree, &plain());
    assert_left_out(error, "\"tree/b/file\"", ErrorKind::Path);
    assert_eq!(done, Transferred { files: 2, directories: 3, bytes: 6, failed: 2, ..ALL });
    assert_eq!(names(&tree.local("copy")), ["a", "b", "c", "file"]);
}

#[test]
fn what_vanishes_after_it_was_listed() {
    let (tree, other) = (Tree::new(), Tree::new());
    plant(&tree.local("tree"));
    fs::write(tree.local("tree/z"), "abc").unwrap();
    plant(&other.at("tree"));
    fs::write(other.at("tree/z"), "abc").unwrap();
    let vanish = |path| {
        move |_: &[u8], _, _| {
            let _ = fs::remove_file(&path);
            ControlFlow::Continue(())
        }
    };
    let removing = vanish(tree.local("tree/z"));
    let (error, done) = put_tree(&tree, &Transfer { progress: Some(&removing), ..plain() });
    assert_left_out(error, "\"new/z\"", ErrorKind::NotFound);
    assert_eq!(done, Transferred { failed: 1, ..ALL });
    let removing = vanish(other.at("tree/z"));
    let (error, done) = get_tree(&other, &Transfer { progress: Some(&removing), ..plain() });
    assert_left_out(error, "\"tree/z\"", ErrorKind::RemoteNotFound);
    assert_eq!(done, Transferred { failed: 1, ..ALL });
}

#[test]
fn what_cannot_be_read() {
    let tree = Tree::new();
    for top in [tree.local("tree"), tree.at("tree")] {
        plant(&top);
        for (name, mode) in [("a/file", 0), ("c", 0), ("b", 0o444)] {
            fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    for path in [tree.dir.path().to_owned(), tree.at(""), tree.local("")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let expected = Transferred { files: 1, directories: 2, bytes: 3, failed: 3, ..ALL };
    let (client, server) = Kind::Unix.connect();
    let nothing = |_: &[u8], _, _| ControlFlow::Continue(());
    std::thread::scope(|scope| {
        let tree = &tree;
        scope.spawn(move || {
            without_rights();
            serve(&server, &tree.root, &quick());
        });
        scope.spawn(move || {
            without_rights();
            let so_far = Cell::default();
            // With progress all is counted first, which these do not end either.
            let how = Transfer { so_far: Some(&so_far), progress: Some(&nothing), ..plain() };
            let put = send_tree(&client, b"new", &tree.local("tree"), &how);
            assert_left_out(put.err(), "\"new/a/file\"", ErrorKind::Denied);
            assert_eq!(so_far.take(), expected);
            let got = take_tree(&client, b"tree", &tree.local("copy"), &how);
            assert_left_out(got.err(), "\"tree/a/file\"", ErrorKind::RemoteDenied);
            assert_eq!(so_far.take(), expected);
        });
    });
    for dir in ["tree/b", "tree/c"] {
        for path in [tree.local(dir), tree.at(dir)] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

#[test]
fn what_is_too_large_or_too_deep() {
    let tree = Tree::new();
    plant(&tree.at("tree"));
    fs::write(tree.at("tree/b/file"), vec![b'x'; 3_000_000]).unwrap();
    let (error, done) = get_tree(&tree, &Transfer { max_size: Some(1000), ..plain() });
    assert_left_out(error, "\"tree/b/file\"", ErrorKind::TooBig);
    assert_eq!(done, one_file_less());

    plant(&tree.local("tree"));
    let deep = "x/".repeat(260);
    fs::create_dir_all(tree.local("tree").join(&deep)).unwrap();
    let (error, done) = put_tree(&tree, &plain());
    assert_left_out(error, "255 components", ErrorKind::Path);
    assert_eq!((done.files, done.directories, done.failed), (4, 4 + 254, 1));
}

/// A full disk is not a matter of one file.
#[test]
fn what_is_everybodys_error_ends_it() {
    let tree = Tree::new();
    plant(&tree.at("tree"));
    let canceled = |_: &[u8], _, _| ControlFlow::Break(());
    let (error, done) = get_tree(&tree, &Transfer { progress: Some(&canceled), ..plain() });
    assert_eq!(error.unwrap().kind(), ErrorKind::Canceled);
    assert_eq!((done.files, done.failed), (0, 0));
}

#[test]
fn names_with_control_characters_are_carried() {
    let tree = Tree::new();
    let odd = ["Icon\r", "new\nline", "\t", "\u{1b}[2J", "\u{7f}"];
    fs::create_dir(tree.local("tree")).unwrap();
    for name in odd {
        fs::create_dir(tree.local("tree").join(name)).unwrap();
        fs::write(tree.local("tree").join(name).join(name), name).unwrap();
    }
    against(Kind::Unix, &tree, quick, |end| {
        send_tree(end, b"tree", &tree.local("tree"), &plain()).unwrap();
        take_tree(end, b"tree", &tree.local("copy"), &plain()).unwrap();
    });
    for name in odd {
        assert_eq!(fs::read(tree.local("copy").join(name).join(name)).unwrap(), name.as_bytes());
    }
}

/// On one machine a tree can contain the place where it is stored.
#[test]
fn the_destination_of_the_tree_itself() {
    let tree = Tree::new();
    plant(&tree.at("a"));
    let copying = |put: bool, name: &str, path: &Path, progress: bool| {
        let counts = Cell::default();
        let count = |_: &[u8], done: u64, total: u64| {
            counts.set((done, total));
            ControlFlow::Continue(())
        };
        let progress = progress.then_some(&count as framefd::ops::file::Progress<'_>);
        let done = against(Kind::Unix, &tree, quick, |end| {
            let how = Transfer { parents: put, progress, ..plain() };
            let transfer = if put { send_tree } else { take_tree };
            transfer(end, name.as_bytes(), path, &how).unwrap()
        })
        .0;
        let (bytes, total) = counts.get();
        assert_eq!(bytes, total, "what it leaves out does not count");
        done
    };
    for (put, name, at) in [
        (true, "a/copy", "a"),
        (true, "a/b/deep/copy", "a"),
        (false, "a", "a/copy"),
        (false, "a", "a/b/copy"),
        (false, "", "a/c/copy"),
    ] {
        // The second time it is there already.
        for progress in [false, true] {
            let done = copying(put, name, &tree.at(at), progress);
            assert!(done.files <= 12 && done.failed == 0, "{name} {at}: {done:?}");
        }
        let place = tree.at(if put { name } else { at });
        assert!(place.join("a/file").exists() || place.join("a/a/file").exists(), "{name} {at}");
        assert!(!place.join("copy/copy").exists() && !place.join("b/copy/b/copy").exists());
        fs::remove_dir_all(tree.at("a")).unwrap();
        plant(&tree.at("a"));
    }
    // Onto itself it stays as it is.
    let done = copying(true, "a", &tree.at("a"), false);
    assert_eq!((done, names(&tree.at("a")).len()), (ALL, 4));
}
