//! Several requests on one connection: each gets its own reply, or the connection is broken.

use std::cell::Cell;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use framefd::ops::exec;
use framefd::ops::file::{self, Links, Local, ServeOptions, Transfer, Transferred};
use framefd::ops::frame::{self, Connection, ConnectionOptions};
use framefd::wire::json::header::Header;
use framefd::{ErrorKind, Result};
use rustix::io::Errno;

use crate::common::channel::{fill, unread};
use crate::common::{encoded, kind, sealing};
use crate::{End, FIRST, Kind, Tree, content, file_of, plain, quick, serve_one, with_server};

const MIB: usize = 1024 * 1024;

/// Numbers that look random, and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Serves files, commands and echoes on one connection.
fn serve_all(end: &End, root: &File) -> ErrorKind {
    let mut connection = end.server();
    let mut one = || {
        let (view, _) = connection.recv_header(None)?;
        let header = Header::parse(view.header().as_bytes().to_vec(), 32)?;
        match header.string("cmd").as_deref() {
            Ok("echo") => {}
            Ok("exec") => {
                let options = exec::ServeOptions::default();
                return exec::serve(&mut connection, &header, &options).map(drop);
            }
            _ => return file::serve(&mut connection, &header, root.as_fd(), &quick()).map(drop),
        }
        let mut body = vec![0; usize::try_from(connection.to_receive()).unwrap()];
        let mut filled = 0;
        while filled < body.len() {
            filled += connection.read(&mut body[filled..], None)?;
        }
        let id = header.string("id")?;
        let reply = format!(r#"{{"status":"ok","id":"{id}"}}"#);
        connection.send(Some(&reply), &body, None).map(drop)
    };
    loop {
        if let Err(error) = one() {
            return error.kind();
        }
    }
}

#[test]
fn requests_of_every_kind_follow_each_other_on_one_connection() {
    let mut numbers = Numbers(7);
    for channel in Kind::ALL {
        let tree = Tree::new();
        fs::create_dir_all(tree.local("tree/dir")).unwrap();
        fs::write(tree.local("tree/dir/file"), content(5000)).unwrap();
        let (client, server) = channel.connect();
        std::thread::scope(|scope| {
            let root = &tree.root;
            let thread = scope.spawn(move || serve_all(&server, root));
            let mut connection = client.connection();
            for _ in 0..150 {
                one_of_all(&mut connection, &tree, &mut numbers);
            }
            assert!(connection.state().broken.is_none());
            drop(connection);
            drop(client);
            assert!(sealing::is_closed(thread.join().unwrap()));
        });
    }
}

/// Makes one request or another, and looks at its outcome.
fn one_of_all(connection: &mut Connection<'_>, tree: &Tree, numbers: &mut Numbers) {
    let bytes = content(numbers.below(3) * numbers.below(200_000));
    let (name, path) = (b"new", tree.local("copy"));
    match numbers.below(11) {
        0 => {
            let source = file_of(&bytes);
            file::put(connection, &Transfer::fd(name, source.as_fd()), None).unwrap();
            assert!(tree.read("new") == bytes);
        }
        1 => {
            fs::write(tree.at("new"), &bytes).unwrap();
            let what = Transfer { sync: false, ..Transfer::path(name, &path) };
            let got = file::get(connection, &what, None).unwrap();
            assert!((got.bytes, got.files) == (bytes.len() as u64, 1));
            assert!(fs::read(path).unwrap() == bytes);
        }
        2 => {
            let found = file::stat(connection, b"old", None).unwrap();
            assert_eq!((found.kind, found.size), (file::Kind::File, 3));
        }
        3 => assert_eq!(kind(file::stat(connection, b"no", None)), ErrorKind::RemoteNotFound),
        4 => {
            let list = file::list(connection, b"", None).unwrap();
            assert!(list.iter().any(|entry| entry.name == b"old"));
        }
        5 => {
            file::mkdir(connection, b"a/b", Some(0o700), true, None).unwrap();
            assert!(tree.at("a/b").is_dir());
        }
        6 => {
            let from = tree.local("tree");
            let what = Transfer { resume: numbers.below(2) == 0, ..Transfer::tree(b"t", &from) };
            let sent = file::put(connection, &what, None).unwrap();
            assert_eq!((sent.files, sent.directories, sent.sha256), (1, 2, None));
            let (to, name) = (tree.local("back"), b"t");
            let what = Transfer { sync: false, ..Transfer::tree(name, &to) };
            file::get(connection, &what, None).unwrap();
            assert_eq!(fs::read(to.join("dir/file")).unwrap(), content(5000));
        }
        7 => {
            let source = file_of(&bytes);
            let put = file::put(connection, &Transfer::fd(b"..", source.as_fd()), None);
            assert_eq!(kind(put), ErrorKind::RemoteDenied);
        }
        8 => {
            let request = exec::Request { command: b"cat", input: &bytes, ..Default::default() };
            let reply = exec::call(connection, &request, None).unwrap();
            assert!(reply.stdout() == bytes);
        }
        9 => {
            let command = b"cat; printf done >&2";
            let request = exec::Request { command, ..Default::default() };
            let mut command = exec::start(connection, &request, None).unwrap();
            command.write(b"abc", None).unwrap();
            command.end_input(None).unwrap();
            assert_eq!(command.finish(None).unwrap().exit_code, Some(0));
        }
        _ => {
            let reply = connection.call(r#"{"cmd":"echo"}"#, &bytes, None).unwrap();
            assert!(reply.body == bytes);
        }
    }
}

#[test]
fn a_get_follows_messages_that_were_read_ahead() {
    let tree = Tree::new();
    fs::write(tree.at("file"), content(300_000)).unwrap();
    let (client, server) = Kind::Unix.connect();
    let messages: Vec<u8> = (0..3).flat_map(|n| encoded(&format!(r#"{{"n":{n}}}"#), b"")).collect();
    server.send(&messages);
    std::thread::scope(|scope| {
        let root = &tree.root;
        scope.spawn(move || serve_all(&server, root));
        let client = client;
        let mut connection = client.connection();
        for n in 0..3 {
            let view = connection.next(None).unwrap();
            assert!(view.header().contains(&format!(r#""n":{n}"#)), "{}", view.header());
            // The first read took them all.
            assert_eq!(unread(&client.reader), 0);
        }
        let dest = tempfile::tempfile().unwrap();
        for offset in [0, 300_000] {
            let what = Transfer { offset, ..Transfer::fd(b"file", dest.as_fd()) };
            assert_eq!(file::get(&mut connection, &what, None).unwrap().bytes, 300_000);
        }
    });
}

#[test]
fn a_server_that_has_read_ahead_serves_all_of_it() {
    let tree = Tree::new();
    let (client, server) = Kind::Unix.connect();
    let get = encoded(r#"{"cmd":"get","filename":"new"}"#, b"");
    let declared = encoded(r#"{"cmd":"put","filename":"new","filesize":3,"data_size":3}"#, b"abc");
    let old = encoded(r#"{"cmd":"put","filename":"new","filesize":4}"#, b"defg");
    client.send(&[declared, get.clone(), old, get].concat());
    client.half_close();
    assert_eq!(serve_all(&server, &tree.root), ErrorKind::Closed);
    let replies: Vec<_> = (0..4).map(|_| client.recv().body).collect();
    assert_eq!(replies, [&b""[..], b"abc", b"", b"defg"]);
}

#[test]
fn the_reply_to_a_get_that_timed_out_is_not_that_to_the_next() {
    for has_ids in [true, false] {
        let tree = Tree::new();
        let (client, server) = Kind::Unix.connect();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                server.recv();
                std::thread::sleep(Duration::from_millis(60));
                let id = if has_ids { r#","id":"~1""# } else { "" };
                let reply = format!(r#"{{"status":"ok","filesize":3,"data_size":3{id}}}"#);
                server.send_raw(&reply, b"a's");
                // There is no second request; the client leaves with this reply unread.
                let next = frame::recv(server.reader.as_fd(), &frame::Options::default());
                assert!(matches!(kind(next), ErrorKind::Io | ErrorKind::Closed));
            });
            let client = client;
            let mut connection = client.connection();
            let (a, b) = (tree.local("a"), tree.local("b"));
            let hasty = Duration::from_millis(10);
            let got = file::get(&mut connection, &Transfer::path(b"a", &a), hasty);
            assert_eq!(kind(got), ErrorKind::TimedOut);
            std::thread::sleep(Duration::from_millis(120));
            let got = file::get(&mut connection, &Transfer::path(b"b", &b), None).unwrap_err();
            assert_eq!(got.kind(), ErrorKind::Broken);
            assert!(got.detail().contains("timed out"), "{got}");
            assert!(!a.exists() && !b.exists());
            assert_eq!(kind(file::stat(&mut connection, b"b", None)), ErrorKind::Broken);
        });
    }
}

/// Gets `old` and then a file of `size` bytes, which fails, from one server; returns what the
/// second failed with, whether a third one succeeds, and how far the second came.
fn fail(size: usize, how: &Transfer<'_>, to_full: bool) -> (ErrorKind, bool, u64) {
    let tree = Tree::new();
    fs::write(tree.at("file"), content(size)).unwrap();
    let so_far = Cell::new(Transferred::default());
    let outcome = with_server(&tree, |end| {
        let mut connection = end.connection();
        let dest = tempfile::tempfile().unwrap();
        let old = Transfer::fd(b"old", dest.as_fd());
        file::get(&mut connection, &old, None).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let local = Local::Fd(if to_full { full.as_fd() } else { dest.as_fd() });
        let failing = Transfer { name: b"file", local, so_far: Some(&so_far), ..*how };
        let failed = kind(file::get(&mut connection, &failing, None));
        let third = file::get(&mut connection, &old, None);
        let is_broken = connection.state().broken.is_some();
        assert_eq!(is_broken, third.is_err(), "{third:?}");
        assert!(!is_broken || kind(third.clone()) == ErrorKind::Broken);
        (failed, third.is_ok())
    });
    (outcome.0, outcome.1, so_far.get().bytes)
}

#[test]
fn a_local_failure_of_a_get_breaks_the_connection_only_if_much_is_to_come() {
    let (small, large) = (MIB, 8 * MIB);
    let stop = |_: &[u8], _, _| ControlFlow::Break(());
    let stopping = Transfer { progress: Some(&stop), ..plain() };
    let bounded = Transfer { max_size: Some(1000), ..plain() };
    for (how, to_full, expected) in [
        (plain(), true, ErrorKind::NoSpace),
        (bounded, false, ErrorKind::TooBig),
        (stopping, false, ErrorKind::Canceled),
    ] {
        for checksum in [true, false] {
            let how = Transfer { checksum, ..how };
            let (failed, goes_on, _) = fail(small, &how, to_full);
            assert_eq!((failed, goes_on), (expected, true));
            let (failed, goes_on, came) = fail(large, &how, to_full);
            assert_eq!((failed, goes_on), (expected, false));
            assert_eq!(came > 0, expected == ErrorKind::Canceled);
        }
    }
}

#[test]
fn what_is_dropped_after_a_failure_is_not_waited_for_long() {
    let (client, server) = Kind::Unix.connect();
    server.answer(FIRST, &encoded(r#"{"status":"ok","filesize":3,"data_size":3}"#, b"a"));
    let dest = tempfile::tempfile().unwrap();
    let what = Transfer { max_size: Some(1), ..Transfer::fd(b"x", dest.as_fd()) };
    let mut connection = client.connection();
    let start = Instant::now();
    assert_eq!(kind(file::get(&mut connection, &what, None)), ErrorKind::TooBig);
    assert!(start.elapsed() < Duration::from_secs(15));
    let broken = connection.state().broken.unwrap();
    assert_eq!(broken.kind(), ErrorKind::TooBig);
}

#[test]
fn a_source_that_cannot_be_read_leaves_the_connection_in_sync() {
    let tree = Tree::new();
    fs::write(tree.local("file"), "abc").unwrap();
    let unreadable = File::options().write(true).open(tree.local("file")).unwrap();
    with_server(&tree, |end| {
        let mut connection = end.connection();
        let what = Transfer::fd(b"new", unreadable.as_fd());
        let put = file::put(&mut connection, &what, None).unwrap_err();
        assert_eq!((put.kind(), put.errno()), {
            (ErrorKind::BadDescriptor, Errno::BADF.raw_os_error())
        });
        assert!(connection.state().broken.is_none());
        let source = file_of(b"abc");
        let short = Transfer { length: Some(4), ..Transfer::fd(b"new", source.as_fd()) };
        assert_eq!(kind(file::put(&mut connection, &short, None)), ErrorKind::Truncated);
        assert!(connection.state().broken.is_some());
    });
    tree.assert_untouched();
}

#[test]
fn how_far_a_put_came_is_known_after_a_failure_too() {
    let tree = Tree::new();
    fs::create_dir_all(tree.local("tree/b")).unwrap();
    for name in ["tree/a", "tree/b/c"] {
        fs::write(tree.local(name), "abc").unwrap();
    }
    fs::create_dir_all(tree.at("t/b/c")).unwrap();
    let so_far = Cell::new(Transferred::default());
    with_server(&tree, |end| {
        let from = tree.local("tree");
        let what = Transfer { so_far: Some(&so_far), ..Transfer::tree(b"t", &from) };
        let put = file::put(&mut end.connection(), &what, None);
        assert_eq!(kind(put), ErrorKind::Incomplete);
    });
    let expected =
        Transferred { files: 1, directories: 2, bytes: 3, failed: 1, ..Transferred::default() };
    assert_eq!(so_far.get(), expected);
}

#[test]
fn progress_names_the_file() {
    let tree = Tree::new();
    fs::create_dir_all(tree.local("tree/b")).unwrap();
    for name in ["tree/a", "tree/b/c"] {
        fs::write(tree.local(name), "abc").unwrap();
    }
    let seen = std::cell::RefCell::new(Vec::new());
    let note = |name: &[u8], done, total| {
        seen.borrow_mut().push((String::from_utf8(name.to_vec()).unwrap(), done, total));
        ControlFlow::Continue(())
    };
    with_server(&tree, |end| {
        let mut connection = end.connection();
        let (from, to) = (tree.local("tree"), tree.local("copy"));
        let put = Transfer { progress: Some(&note), ..Transfer::tree(b"t", &from) };
        let get = Transfer { progress: Some(&note), ..Transfer::tree(b"t", &to) };
        file::put(&mut connection, &put, None).unwrap();
        file::get(&mut connection, &get, None).unwrap();
    });
    let once = [("t/a".to_owned(), 3, 6), ("t/b/c".to_owned(), 6, 6)];
    assert_eq!(seen.take(), [once.clone(), once].concat());
}

#[test]
fn a_member_that_does_not_apply_is_refused_and_named() {
    let tree = Tree::new();
    fs::create_dir(tree.local("tree")).unwrap();
    let (path, top) = (tree.local("tree/file"), tree.local("tree"));
    fs::write(&path, "abc").unwrap();
    let source = file_of(b"abc");
    let file_here = Transfer::path(b"x", &path);
    let whole_tree = Transfer::tree(b"x", &top);
    let fd = Transfer::fd(b"x", source.as_fd());
    let length = Some(1);
    let puts = [
        (Transfer { max_size: length, ..fd }, "max_size"),
        (Transfer { sync: false, ..file_here }, "sync"),
        (Transfer { length, ..file_here }, "length"),
        (Transfer { links: Links::Skip, tree: true, ..fd }, "fd"),
        (Transfer { links: Links::Copy, ..fd }, "links"),
        (Transfer { length, ..whole_tree }, "length"),
        (Transfer { offset: 1, ..whole_tree }, "offset"),
        (Transfer { reply: false, ..whole_tree }, "reply"),
        (Transfer { reply: false, preserve: true, ..file_here }, "preserve"),
    ];
    let gets = [
        (Transfer { parents: true, ..file_here }, "parents"),
        (Transfer { reply: false, ..file_here }, "reply"),
        (Transfer { length, ..fd }, "length"),
        (Transfer { offset: 1, ..file_here }, "offset"),
        (Transfer { links: Links::Refuse, ..file_here }, "links"),
        (Transfer { links: Links::Follow, ..whole_tree }, "links"),
        (Transfer { offset: 1, ..whole_tree }, "offset"),
        (Transfer { tree: true, ..fd }, "fd"),
        (Transfer { sync: false, ..fd }, "sync"),
        (Transfer { mode: Some(0o600), ..fd }, "mode"),
        (Transfer { mtime: Some(0), ..fd }, "mtime"),
        (Transfer { overwrite: false, ..fd }, "overwrite"),
        (Transfer { preserve: true, ..fd }, "preserve"),
        (Transfer { resume: true, ..fd }, "resume"),
    ];
    let (client, server) = Kind::Unix.connect();
    let mut connection = client.connection();
    let check = |outcome: Result<Transferred>, member: &str| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{member}");
        assert!(error.detail().starts_with(&format!("{member} ")), "{error}");
    };
    for (what, member) in puts {
        check(file::put(&mut connection, &what, None), member);
    }
    for (what, member) in gets {
        check(file::get(&mut connection, &what, None), member);
    }
    assert!(connection.state().broken.is_none());
    assert_eq!(unread(&server.reader), 0);
}

#[test]
fn a_server_that_repeats_ids_has_to_go_on() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let ask = |replies: &[&str]| {
        let (client, server) = Kind::Unix.connect();
        for reply in replies {
            server.send_raw(reply, b"");
        }
        let mut connection = client.connection();
        let made: Vec<_> = replies
            .iter()
            .map(|_| file::mkdir(&mut connection, b"x", None, false, None))
            .map(|made| made.err().map(|error| error.kind()))
            .collect();
        made
    };
    let [first, second] = [r#"{"status":"ok","id":"~1"}"#, r#"{"status":"ok","id":"~2"}"#];
    let none = r#"{"status":"ok"}"#;
    assert_eq!(ask(&[first, second]), [None, None]);
    assert_eq!(ask(&[none, none]), [None, None]);
    assert_eq!(ask(&[none, second]), [None, None]);
    assert_eq!(ask(&[second]), [Some(ErrorKind::BadReply)]);
    let broken = [None, Some(ErrorKind::BadReply), Some(ErrorKind::Broken)];
    assert_eq!(ask(&[first, none, second]), broken);
    assert_eq!(ask(&[first, first, second]), broken);
}

#[test]
fn an_exact_connection_reads_not_a_byte_beyond_a_file() {
    let (client, server) = Kind::Unix.connect();
    let reply = encoded(r#"{"status":"ok","filesize":3,"data_size":3}"#, b"abc");
    server.send(&[&reply[..], b"beyond"].concat());
    let options = ConnectionOptions { exact: true, ..ConnectionOptions::default() };
    let mut connection = Connection::new(client.reader.as_fd(), options).unwrap();
    let dest = tempfile::tempfile().unwrap();
    let what = Transfer::fd(b"x", dest.as_fd());
    assert_eq!(file::get(&mut connection, &what, None).unwrap().bytes, 3);
    assert_eq!(unread(&client.reader), 6);
}

#[test]
fn a_server_that_gives_up_breaks_its_connection() {
    let tree = Tree::new();
    let (client, server) = Kind::Unix.connect();
    client.send_raw(r#"{"cmd":"put","filename":"x","filesize":"?"}"#, b"");
    client.send_raw(r#"{"cmd":"get","filename":"old"}"#, b"");
    let mut connection = server.server();
    let options = ServeOptions::default();
    assert_eq!(kind(serve_one(&mut connection, &tree.root, &options)), ErrorKind::BadField);
    assert_eq!(kind(serve_one(&mut connection, &tree.root, &options)), ErrorKind::Broken);
    assert_eq!(client.recv().header.string("code").unwrap(), "bad_request");
}

#[test]
fn an_abort_ends_a_transfer_whatever_it_waits_for() {
    let (_writer, silent) = {
        let (reader, writer) = std::io::pipe().unwrap();
        (writer, File::from(OwnedFd::from(reader)))
    };
    let full = {
        let (reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        (reader, File::from(OwnedFd::from(writer)))
    };
    let source = file_of(b"abc");
    let put = Transfer::fd(b"x", source.as_fd());
    let get = Transfer::fd(b"x", full.1.as_fd());
    for (what, is_put) in [
        (put, true),
        (Transfer { rate: Some(1), ..put }, true),
        (Transfer { length: Some(3), ..Transfer::fd(b"x", silent.as_fd()) }, true),
        (get, false),
    ] {
        let (client, server) = Kind::Unix.connect();
        if !is_put {
            server.answer(FIRST, &encoded(r#"{"status":"ok","filesize":3,"data_size":3}"#, b"abc"));
        }
        let mut connection = client.connection();
        let handle = connection.handle();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                handle.abort();
            });
            let start = Instant::now();
            let ended = if is_put {
                file::put(&mut connection, &what, None)
            } else {
                file::get(&mut connection, &what, None)
            };
            assert_eq!(kind(ended), ErrorKind::Aborted);
            assert!(start.elapsed() < Duration::from_secs(15));
        });
    }
}
