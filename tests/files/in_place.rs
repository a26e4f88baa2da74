//! Files that are written in place: put, got, refused, and asked of servers that cannot do so.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, symlink};

use framefd::ErrorKind;
use framefd::ops::file::{self, Choice, Inquiry, Local, ServeOptions, Transfer};
use framefd::wire::digest::Hasher;
use rustix::fs::{CWD, FileType, Mode};

use crate::common::{encoded, kind};
use crate::continued::{resuming, scripted};
use crate::{
    Kind, Tree, against, content, digest, file_of, get_path, plain, put_fd, put_path, quick,
    send_tree, serve, status, take_tree, with_server,
};

fn in_place() -> Transfer<'static> {
    Transfer { in_place: true, ..plain() }
}

/// `old` in the root gets a second name among the client's files.
fn linked() -> Tree {
    let tree = Tree::new();
    fs::hard_link(tree.at("old"), tree.local("link")).unwrap();
    tree
}

#[test]
fn a_put_and_a_get_keep_the_file() {
    for kind in Kind::ALL {
        let tree = linked();
        let longer = content(3 << 20);
        let before = fs::metadata(tree.at("old")).unwrap().ino();
        against(kind, &tree, quick, |end| {
            for bytes in [&longer[..], b"", b"new", &longer[..70_000]] {
                fs::write(tree.local("source"), bytes).unwrap();
                for how in [in_place(), Transfer { resume: true, ..in_place() }] {
                    let put = put_path(end, b"old", &tree.local("source"), &how).unwrap();
                    assert_eq!(put.sha256.unwrap().to_string(), digest(bytes));
                    assert!(fs::read(tree.local("link")).unwrap() == bytes);
                }
            }
            put_path(end, b"new", &tree.local("source"), &in_place()).unwrap();
            // And back, to a file that has two names as well.
            fs::write(tree.local("copy"), "copy").unwrap();
            fs::hard_link(tree.local("copy"), tree.local("other")).unwrap();
            let how = Transfer { mtime: Some(5000), sync: false, ..in_place() };
            get_path(end, b"new", &tree.local("copy"), &how).unwrap();
            assert!(fs::read(tree.local("other")).unwrap() == longer[..70_000]);
            assert_eq!(fs::metadata(tree.local("other")).unwrap().mtime(), 5);
        });
        assert_eq!(tree.names(), ["new", "old"]);
        assert_eq!(fs::metadata(tree.at("old")).unwrap().ino(), before);
    }
}

#[test]
fn the_files_of_a_tree_are_written_in_place() {
    let tree = linked();
    fs::create_dir(tree.local("tree")).unwrap();
    fs::write(tree.local("tree/old"), "newer").unwrap();
    fs::write(tree.local("tree/more"), "more").unwrap();
    with_server(&tree, |end| {
        let put = send_tree(end, b"", &tree.local("tree"), &in_place()).unwrap();
        assert_eq!((put.files, fs::read(tree.local("link")).unwrap()), (2, b"newer".to_vec()));
        fs::write(tree.at("old"), "newest").unwrap();
        fs::hard_link(tree.local("tree/old"), tree.local("other")).unwrap();
        take_tree(end, b"", &tree.local("tree"), &in_place()).unwrap();
        assert_eq!(fs::read(tree.local("other")).unwrap(), b"newest");
    });
}

#[test]
fn what_cannot_be_stored_changes_nothing() {
    let tree = linked();
    fs::create_dir(tree.at("dir")).unwrap();
    rustix::fs::mknodat(CWD, tree.at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink("../local/link", tree.at("out")).unwrap();
    let before = tree.names();
    let put = |name: &str, keys: &str| {
        format!(r#"{{"cmd":"put","filename":"{name}","overwrite":"in_place","filesize":3{keys}}}"#)
    };
    let wrong = format!(r#","sha256":"{}""#, digest(b"other"));
    with_server(&tree, |end| {
        for name in ["dir", "fifo", "out", "out/x"] {
            assert_eq!(end.ask(&put(name, ""), b"new"), "denied", "{name}");
            // It is known before the content comes.
            let ask = put(name, r#","ask":true,"data_size":0"#);
            assert_eq!(end.ask(&ask, b""), "denied", "{name}");
        }
        assert_eq!(end.ask(&put("old", &wrong), b"new"), "checksum");
        assert_eq!(end.ask(&put("old", r#","ask":true,"data_size":0"#), b""), "ok");
        end.assert_in_sync();
        // The connection is lost before the last byte.
        let whole = encoded(&put("old", ""), b"new");
        end.send(&whole[..whole.len() - 1]);
    });
    assert_eq!((tree.names(), tree.read("old")), (before, b"old".to_vec()));
    let no_overwrite = || ServeOptions { overwrite: false, ..quick() };
    against(Kind::Unix, &tree, no_overwrite, |end| {
        assert_eq!(end.ask(&put("old", ""), b"new"), "exists");
    });
    let denied =
        |inquiry: &Inquiry<'_>, _: &mut Choice| match inquiry.header.string("overwrite").as_deref()
        {
            Ok("in_place") => Err(framefd::Error::new(ErrorKind::Denied, "not in place")),
            _ => Ok(()),
        };
    let (client, server) = Kind::Unix.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            serve(&server, &tree.root, &ServeOptions { policy: Some(&denied), ..quick() });
        });
        let client = client;
        assert_eq!(client.ask(&put("old", ""), b"new"), "denied");
    });
    assert_eq!(fs::read(tree.local("link")).unwrap(), b"old");
}

#[test]
fn a_get_whose_digest_is_wrong_changes_nothing() {
    let tree = linked();
    let wrong = Hasher::default().finish().to_string();
    let reply = encoded(
        &format!(r#"{{"status":"ok","filesize":3,"data_size":3,"sha256":"{wrong}"}}"#),
        b"new",
    );
    let (got, _) = scripted(&[reply], |end| get_path(end, b"x", &tree.local("link"), &in_place()));
    assert_eq!((kind(got), tree.read("old")), (ErrorKind::Checksum, b"old".to_vec()));
}

#[test]
fn a_server_that_cannot_do_so_stores_nothing_or_is_told_of() {
    let source = file_of(b"new");
    let refused = encoded(r#"{"status":"error","code":"bad_request","message":"a boolean"}"#, b"");
    let ignored = encoded(r#"{"status":"ok","filesize":3}"#, b"");
    for (reply, expected) in
        [(refused, ErrorKind::RemoteBadRequest), (ignored, ErrorKind::Unsupported)]
    {
        let (put, seen) = scripted(&[reply], |end| {
            let mut connection = end.connection();
            let what = Transfer { name: b"x", local: Local::Fd(source.as_fd()), ..in_place() };
            let put = file::put(&mut connection, &what, None);
            assert!(connection.state().broken.is_none());
            put
        });
        assert_eq!(kind(put), expected);
        assert_eq!(seen[0].1["overwrite"], "in_place");
        std::io::Seek::rewind(&mut &source).unwrap();
    }
}

#[test]
fn a_server_says_that_it_copies() {
    let tree = linked();
    with_server(&tree, |end| {
        let request =
            r#"{"cmd":"put","filename":"old","overwrite":"in_place","filesize":3,"working":true}"#;
        end.send_raw(request, b"new");
        let reply = end.recv();
        assert_eq!(status(&reply), "ok", "a short copy is not worth a frame");
        assert_eq!(reply.header.string("overwrite").unwrap(), "in_place");
        assert_eq!(end.ask(&request.replace("true", "1"), b"new"), "bad_request");
    });
    // While another copies, or has locked the file.
    let lock = File::open(tree.at("old")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    with_server(&tree, |end| {
        let source = file_of(b"newer");
        let put = put_fd(end, b"old", source.as_fd(), None, &in_place());
        assert_eq!(kind(put), ErrorKind::RemoteBusy);
        end.assert_in_sync_with("old", b"new");
    });
}

#[test]
fn what_contradicts_it_is_named() {
    let tree = linked();
    let dest = tempfile::tempfile().unwrap();
    let (client, _server) = Kind::Unix.connect();
    let path = tree.local("link");
    let check = |outcome: framefd::Result<_>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.detail().contains("in_place"), "{error}");
    };
    let contradiction = Transfer { overwrite: false, ..in_place() };
    check(put_path(&client, b"x", &path, &contradiction));
    check(get_path(&client, b"x", &path, &contradiction));
    check(put_path(&client, b"x", &path, &Transfer { reply: false, ..in_place() }));
    check(crate::get_fd(&client, b"x", dest.as_fd(), &in_place()));
    // It goes together with a put that is resumed.
    let resumed = Transfer { in_place: true, ..resuming() };
    with_server(&tree, |end| put_path(end, b"old", &path, &resumed).map(drop)).unwrap();
}
