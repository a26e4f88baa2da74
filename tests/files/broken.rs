//! Exchanges that do not come to their end: cut, stalled, out of space.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::file::{self, Local, ServeOptions, Served, Transfer};
use framefd::wire::digest::Hasher;
use rustix::io::Errno;

use crate::common::channel::{drain, fill, set_blocking};
use crate::common::process::alone_in;
use crate::common::proxy::{Direction, Fault, at_every_offset};
use crate::common::{encoded, kind, peer, sealing};
use crate::{
    End, Kind, Tree, against, content, file_of, get, get_fd, get_path, names, plain, put, put_fd,
    quick, serve, status, with_server,
};

/// A put of `old` as new programs send it, and as the oldest do.
fn puts() -> [Vec<u8>; 2] {
    let content = b"new content";
    let mut hasher = Hasher::default();
    hasher.update(content);
    let size = content.len();
    let fields = format!(r#""cmd":"put","filename":"old","filesize":{size}"#);
    let trailer = encoded(&format!(r#"{{"sha256":"{}"}}"#, hasher.finish()), b"");
    let new = encoded(&format!(r#"{{{fields},"data_size":{size},"trailer":true}}"#), content);
    [[new, trailer].concat(), encoded(&format!("{{{fields}}}"), content)]
}

#[test]
fn a_put_that_is_cut_anywhere_leaves_the_old_file() {
    for whole in puts() {
        let tree = Tree::new();
        for cut in 0..whole.len() {
            let (client, server) = Kind::Unix.connect();
            client.send(&whole[..cut]);
            client.half_close();
            let session = serve(&server, &tree.root, &ServeOptions::default());
            let expected = if cut == 0 { ErrorKind::Closed } else { ErrorKind::Truncated };
            assert_eq!(session.end.kind(), expected, "after {cut} bytes");
            assert!(session.served.is_empty(), "after {cut} bytes");
            tree.assert_untouched();
        }
        let (client, server) = Kind::Unix.connect();
        client.send(&whole);
        client.half_close();
        serve(&server, &tree.root, &ServeOptions::default());
        assert_eq!(tree.read("old"), b"new content");
    }
}

#[test]
fn a_put_that_stalls_anywhere_leaves_the_old_file_and_is_told() {
    let impatient =
        || ServeOptions { stall: Some(Duration::from_millis(20)), ..ServeOptions::default() };
    for whole in puts() {
        let header = 4 + whole[0] as usize;
        for sent in [header, header + 1, whole.len() - 1] {
            let tree = Tree::new();
            let (reply, session) = against(Kind::Unix, &tree, impatient, |end| {
                end.send(&whole[..sent]);
                let reply = status(&end.recv());
                assert!(end.is_closed());
                reply
            });
            assert_eq!((&*reply, session.end.kind()), ("timed_out", ErrorKind::TimedOut));
            tree.assert_untouched();
        }
    }
}

#[test]
fn a_refusal_whose_body_does_not_come_is_told_before_the_close() {
    let tree = Tree::new();
    let impatient = || ServeOptions {
        stall: Some(Duration::from_millis(20)),
        max_size: Some(100),
        ..ServeOptions::default()
    };
    let ((), session) = against(Kind::Unix, &tree, impatient, |end| {
        let tebibyte = r#"{"cmd":"put","filename":"x","filesize":1099511627776}"#;
        assert_eq!(end.ask(tebibyte, b""), "too_big");
        assert!(end.is_closed());
    });
    let [Served::Refused(error)] = &session.served[..] else { panic!("{session:?}") };
    assert_eq!((error.kind(), session.end.kind()), (ErrorKind::TooBig, ErrorKind::Broken));
    tree.assert_untouched();
}

#[test]
fn a_client_that_has_gone_has_its_files_stored() {
    if sealing::leaves_out(sealing::GONE) {
        return;
    }
    for channel in Kind::ALL {
        let tree = Tree::new();
        let (client, server) = channel.connect();
        for name in ["a", "..", "b", "c"] {
            let header = format!(r#"{{"cmd":"put","filename":"{name}","filesize":3}}"#);
            client.send_raw(&header, b"new");
        }
        drop(client);
        let session = serve(&server, &tree.root, &ServeOptions::default());
        assert_eq!(session.served.len(), 4, "{channel:?} {session:?}");
        // TCP learns of it from the first reply.
        assert!(matches!(session.served[3], Served::Unanswered(_)), "{channel:?} {session:?}");
        assert!(matches!(session.served[1], Served::Refused(_)), "{channel:?} {session:?}");
        assert_eq!(tree.names(), ["a", "b", "c", "old"]);
        assert_eq!(tree.read("c"), b"new");
    }
}

#[test]
fn an_old_uploader_can_be_left_without_a_reply() {
    let tree = Tree::new();
    let silent = || ServeOptions { reply: false, ..ServeOptions::default() };
    let ((), session) = against(Kind::Unix, &tree, silent, |end| {
        for name in ["a", "..", "b"] {
            let header = format!(r#"{{"cmd":"put","filename":"{name}","filesize":3}}"#);
            end.send_raw(&header, b"new");
        }
        end.assert_in_sync();
        put(end, "c", b"new").unwrap();
    });
    assert_eq!(session.served.len(), 5);
    assert_eq!(tree.names(), ["a", "b", "c", "old"]);
}

#[test]
fn a_file_that_becomes_shorter_is_not_made_up() {
    let tree = Tree::new();
    fs::write(tree.at("log"), vec![b'x'; 4 << 20]).unwrap();
    let ((), session) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
        end.send_raw(r#"{"cmd":"get","filename":"log","trailer":true}"#, b"");
        let mut reply = peer::next(&end.reader).unwrap();
        File::options().write(true).open(tree.at("log")).unwrap().set_len(3 << 20).unwrap();
        reply.skip();
        assert_eq!(reply.left, 1 << 20);
    });
    assert_eq!(session.end.kind(), ErrorKind::Truncated);
    assert!(session.end.detail().contains("shorter"), "{}", session.end);
    assert_eq!(session.so_far.bytes, 3 << 20);
}

#[test]
fn a_source_that_ends_early_breaks_the_connection() {
    let tree = Tree::new();
    let (client, session) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
        let source = file_of(b"new");
        put_fd(end, b"old", source.as_fd(), Some(4), &plain())
    });
    let error = client.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated);
    assert!(error.detail().contains("shorter"), "{error}");
    assert_eq!(session.end.kind(), ErrorKind::Truncated);
    assert_eq!(session.so_far.bytes, 3);
    tree.assert_untouched();
}

#[test]
fn a_server_that_goes_silent_is_not_waited_for() {
    let (client, _server) = Kind::Unix.connect();
    let short = Some(Duration::from_millis(20));
    let stalled = (Transfer { stall: short, ..plain() }, None);
    let late = (plain(), short);
    let file = tempfile::tempfile().unwrap();
    for (how, time) in [stalled, late] {
        let what = Transfer { name: b"x", local: Local::Fd(file.as_fd()), ..how };
        let put = Transfer { length: Some(0), ..what };
        let put = file::put(&mut client.connection(), &put, time);
        let get = file::get(&mut client.connection(), &what, time);
        assert_eq!((kind(put), kind(get)), (ErrorKind::TimedOut, ErrorKind::TimedOut));
    }
    // As much as the connection takes, and no reader.
    let large = file_of(&content(2 << 20));
    let put = put_fd(&client, b"x", large.as_fd(), None, &stalled.0);
    assert_eq!(kind(put), ErrorKind::TimedOut);
}

#[test]
fn a_server_that_only_says_that_it_is_at_work_does_not_extend_the_time() {
    let (client, server) = Kind::Unix.connect();
    let working = encoded(r#"{"working":true,"id":"~1"}"#, b"").repeat(2000);
    let flooding = std::thread::spawn(move || {
        let mut writer = fs::File::from(server.writer);
        while writer.write_all(&working).is_ok() {}
    });
    let large = file_of(&content(2 << 20));
    let what = Transfer { name: b"x", local: Local::Fd(large.as_fd()), ..plain() };
    let (start, time) = (Instant::now(), Duration::from_millis(100));
    let put = file::put(&mut client.connection(), &what, time);
    assert_eq!(kind(put), ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    drop(client);
    flooding.join().unwrap();
}

#[test]
fn a_connection_that_takes_nothing_is_in_sync_after_the_time_is_up() {
    if sealing::leaves_out(sealing::ROOM) {
        return;
    }
    let (client, server) = Kind::Unix.connect();
    fill(&client.writer);
    let file = tempfile::tempfile().unwrap();
    let what = Transfer::fd(b"x", file.as_fd());
    let mut connection = client.connection();
    for length in [0, 1 << 20] {
        file.set_len(length).unwrap();
        let hasty = Duration::from_millis(5);
        let put = file::put(&mut connection, &what, hasty);
        let get = file::get(&mut connection, &what, hasty);
        let stat = file::stat(&mut connection, b"x", hasty);
        assert_eq!((kind(put), kind(get)), (ErrorKind::TimedOut, ErrorKind::TimedOut));
        assert_eq!(kind(stat), ErrorKind::TimedOut);
        // There would be no reply without a wait.
        let put = file::put(&mut connection, &what, Duration::ZERO);
        let stat = file::stat(&mut connection, b"x", Duration::ZERO);
        assert_eq!((kind(put), kind(stat)), (ErrorKind::Argument, ErrorKind::Argument));
        let state = connection.state();
        assert!(state.broken.is_none() && state.queued == 0, "{state:?}");
    }
    drain(&server.reader);
    server.send_raw(r#"{"status":"ok"}"#, b"");
    assert!(file::mkdir(&mut connection, b"x", None, false, None).is_ok());
}

/// As many small pieces as a socket takes.
fn fill_in_pieces(stream: &UnixStream) -> usize {
    set_blocking(stream, false);
    let mut pieces = 0;
    loop {
        match rustix::io::write(stream, &[0; 1000]) {
            Ok(_) => pieces += 1,
            Err(Errno::AGAIN) => break,
            Err(errno) => panic!("write: {errno}"),
        }
    }
    set_blocking(stream, true);
    pieces
}

#[test]
fn who_reads_slowly_has_not_stalled() {
    let (client, mut server) = UnixStream::pair().unwrap();
    let pieces = fill_in_pieces(&client);
    let end = End { reader: client.try_clone().unwrap().into(), writer: client.into() };
    let stall = Duration::from_secs(1);
    std::thread::scope(|scope| {
        let put = scope.spawn(move || {
            let options = Transfer { stall: Some(stall), reply: false, ..plain() };
            let source = file_of(&content(1 << 20));
            put_fd(&end, b"new", source.as_fd(), None, &options)
        });
        // Three quarters have to go before the socket is ready again: that is made to take
        // longer than a stall may, and each piece much less.
        for _ in 0..pieces {
            server.read_exact(&mut [0; 1000]).unwrap();
            std::thread::sleep(stall * 2 / u32::try_from(pieces).unwrap());
        }
        std::io::copy(&mut server, &mut std::io::sink()).unwrap();
        put.join().unwrap().unwrap();
    });
}

/// A connection's one end as the proxy gives it.
fn end(stream: &UnixStream) -> End {
    let reader: OwnedFd = stream.try_clone().unwrap().into();
    End { writer: reader.try_clone().unwrap(), reader }
}

#[test]
fn an_exchange_that_is_split_or_cut_anywhere_is_whole_or_an_error() {
    let tree = Tree::new();
    let serving = |stream: &UnixStream| serve(&end(stream), &tree.root, &quick());
    let putting = |stream: &UnixStream| put(&end(stream), "old", b"new");
    let sizes = at_every_offset(putting, serving, |fault, client, session| {
        let stored = match fault {
            Fault::Cut(Direction::ToServer, _) => &b"old"[..],
            _ => b"new",
        };
        let succeeds = !matches!(fault, Fault::Cut(..));
        assert_eq!(client.is_ok(), succeeds, "{fault:?}: {client:?}");
        assert_eq!(tree.read("old"), stored, "{fault:?}: {session:?}");
        assert_eq!(tree.names(), ["old"], "{fault:?}");
        fs::write(tree.at("old"), "old").unwrap();
    });
    assert!(sizes.0 > 100 && sizes.1 > 100, "{sizes:?}");

    let copy = tree.local("copy");
    let getting = |stream: &UnixStream| {
        get_path(&end(stream), b"old", &copy, &Transfer { sync: false, ..plain() })
    };
    let sizes = at_every_offset(getting, serving, |fault, client, _| {
        let succeeds = !matches!(fault, Fault::Cut(..));
        assert_eq!(client.is_ok(), succeeds, "{fault:?}: {client:?}");
        assert_eq!(fs::read(&copy).is_ok_and(|bytes| bytes == b"old"), succeeds, "{fault:?}");
        let _ = fs::remove_file(&copy);
        assert_eq!(names(&tree.local("")), [""; 0], "{fault:?}");
    });
    assert!(sizes.0 > 30 && sizes.1 > 100, "{sizes:?}");
}

#[test]
fn a_full_disk_is_told_and_the_next_request_served() {
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
    let name = "broken::a_full_disk_is_told_and_the_next_request_served";
    alone_in(name, &wrapper, || {
        let tree = Tree::new();
        fs::create_dir(tree.at("small")).unwrap();
        let mount = |dir| {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=64k", "framefd"]).arg(dir);
            assert!(mount.status().unwrap().success());
        };
        mount(tree.at("small"));
        mount(tree.local(""));
        with_server(&tree, |end| {
            put(end, "small/file", b"old").unwrap();
            for size in [128 << 10, 3 << 20] {
                let full = put(end, "small/file", &content(size));
                assert_eq!(kind(full), ErrorKind::RemoteNoSpace);
                assert_eq!(names(&tree.at("small")), ["file"]);
                assert_eq!(tree.read("small/file"), b"old");
            }
            put(end, "small/file", &content(32 << 10)).unwrap();
            put(end, "large", &content(128 << 10)).unwrap();
            let path = tree.local("copy");
            let full = get_path(end, b"large", &path, &plain());
            assert_eq!(kind(full), ErrorKind::NoSpace);
            assert_eq!(names(&tree.local("")), [""; 0]);
        });
        for dir in [tree.at("small"), tree.local("")] {
            assert!(Command::new("umount").arg(dir).status().unwrap().success());
        }
    });
}

#[test]
fn a_full_destination_ends_a_get() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let got = get_fd(end, b"old", full.as_fd(), &plain());
        let error = got.unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NoSpace, 28));
    });
}

#[test]
fn a_get_is_refused_above_the_clients_limit() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        let options = Transfer { max_size: Some(2), ..plain() };
        let (got, bytes) = crate::get_with(end, "old", &options);
        assert_eq!((kind(got), bytes), (ErrorKind::TooBig, vec![]));
    });
    with_server(&tree, |end| {
        let (got, bytes) = get(end, "missing");
        assert_eq!((kind(got), bytes), (ErrorKind::RemoteNotFound, vec![]));
        end.assert_in_sync();
    });
}
