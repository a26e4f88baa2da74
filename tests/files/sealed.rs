//! Files on sealed connections: whole, refused early, and cut.

use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;

use framefd::ops::file::{self, Local, Served, Transfer};
use framefd::ops::frame::{Connection, ConnectionOptions};
use framefd::{ErrorKind, Result};

use super::common::channel::{socket_pair, tcp};
use super::common::{file_of, kind, pattern, sealing};
use super::{Tree, plain, quick, serve_one};

/// Serves files to a client over a Unix socket and over TCP, until its stream has ended; what the
/// server did in turn.
fn serve(
    tree: &Tree,
    client: impl Fn(Connection<'static>) + Sync,
    check: impl Fn(Vec<Result<Served>>),
) {
    let owner = |fd: OwnedFd| Connection::new(fd, ConnectionOptions::default()).unwrap();
    let (unix, tcp) = (socket_pair(), tcp());
    for (ours, theirs) in [(unix.0.into(), unix.1.into()), (tcp.0.into(), tcp.1.into())] {
        let (mut ours, mut theirs) = (owner(ours), owner(theirs));
        sealing::both(&mut ours, &mut theirs);
        thread::scope(|scope| {
            scope.spawn(|| client(ours));
            let mut served = Vec::new();
            loop {
                served.push(serve_one(&mut theirs, &tree.root, &quick()));
                if served.last().is_some_and(Result::is_err) {
                    break;
                }
            }
            drop(theirs);
            check(served);
        });
    }
}

#[test]
fn a_file_comes_whole_both_ways_and_after_a_refusal() {
    let tree = Tree::new();
    let content = pattern(3 << 20);
    let client = |mut ours: Connection<'_>| {
        let source = file_of(&content);
        let what = Transfer { name: b"new", local: Local::Fd(source.as_fd()), ..plain() };
        file::put(&mut ours, &what, None).unwrap();
        let refused =
            Transfer { name: b"nowhere/new", local: Local::Path(&tree.at("new")), ..what };
        assert_eq!(kind(file::put(&mut ours, &refused, None)), ErrorKind::RemoteNotFound);
        ours.end(false, None).unwrap();
    };
    serve(&tree, client, |served| {
        assert_eq!(served.last().unwrap().as_ref().unwrap_err().kind(), ErrorKind::Closed);
        assert!(tree.read("new") == content);
        std::fs::remove_file(tree.at("new")).unwrap();
    });
}

#[test]
fn a_put_that_is_cut_leaves_no_file() {
    let tree = Tree::new();
    for sent in [0, 1, 100_000] {
        let client = |mut ours: Connection<'_>| {
            ours.begin(Some(r#"{"cmd":"put","filename":"new","filesize":100001}"#), 100_001)
                .unwrap();
            ours.write(&vec![b'x'; sent], None).unwrap();
        };
        serve(&tree, client, |served| {
            let (Ok(Served::Refused(error)) | Err(error)) = &served[0] else {
                panic!("{served:?}")
            };
            assert_eq!(error.kind(), ErrorKind::Truncated, "{sent}: {error}");
            tree.assert_untouched();
        });
    }
}
