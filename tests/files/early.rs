//! A request that is refused is answered before its body has come, and a client that sends a body
//! sees that.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use framefd::ops::file::{Choice, Inquiry, ServeOptions, Served, Transfer, Transferred};
use framefd::{Error, ErrorKind, Result};

use crate::common::{encoded, kind};
use crate::{
    End, FIRST, Kind, Tree, against, content, file_of, plain, put_fd, quick, serve, status,
};

const MIB: usize = 1 << 20;
/// More than a server drops, and than a client sends to no purpose.
const MUCH: usize = 40 * MIB;

/// A file of zeros.
fn large() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MUCH as u64).unwrap();
    file
}

fn header(name: &str, size: u64, keys: &str) -> String {
    format!(r#"{{"cmd":"put","filename":"{name}","filesize":{size},"data_size":{size}{keys}}}"#)
}

#[test]
fn a_refusal_does_not_wait_for_the_body() {
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| -> Result<()> {
        match inquiry.name {
            b"forbidden" => Err(Error::new(ErrorKind::Denied, "")),
            _ => Ok(()),
        }
    };
    let declared = 1 << 40;
    let too_big = declared + 1;
    let cases = [
        (header("..", declared, ""), "denied"),
        (header("forbidden", declared, ""), "denied"),
        (header("old", declared, r#","overwrite":false"#), "exists"),
        (header("missing/x", declared, ""), "not_found"),
        (header("old", too_big, ""), "too_big"),
        (header("old", declared, r#","mode":8"#), "bad_request"),
        (header("old", declared, r#","trailer":true,"sha256":"x""#), "bad_request"),
        (r#"{"cmd":"put","filename":"..","filesize":1099511627776}"#.into(), "denied"),
        (r#"{"cmd":"get","filename":"old","data_size":1099511627776}"#.into(), "too_big"),
        (r#"{"cmd":"stat","filename":"old","data_size":1099511627776}"#.into(), "too_big"),
        (r#"{"cmd":"dance","data_size":1099511627776}"#.into(), "unsupported"),
        (r#"{"data_size":1099511627776}"#.into(), "bad_request"),
    ];
    let tree = Tree::new();
    for (request, code) in cases {
        let (client, server) = Kind::Tcp.connect();
        std::thread::scope(|scope| {
            let session = scope.spawn(|| {
                let (policy, max_size) = (Some(&policy as _), Some(declared));
                serve(&server, &tree.root, &ServeOptions { policy, max_size, ..quick() })
            });
            let client = client;
            assert_eq!(client.ask(&request, b""), code, "{request}");
            drop(client);
            let session = session.join().unwrap();
            assert!(matches!(session.served[..], [Served::Refused(_)]), "{session:?}");
            assert_eq!(session.end.kind(), ErrorKind::Broken);
        });
    }
    tree.assert_untouched();
}

#[test]
fn a_little_that_follows_a_refusal_is_dropped() {
    let tree = Tree::new();
    for channel in Kind::ALL {
        against(channel, &tree, quick, |end| {
            for (keys, trailer) in [("", false), (r#","trailer":true"#, true)] {
                end.send_raw(&header("..", 3, keys), b"");
                assert_eq!(status(&end.recv()), "denied");
                end.send(b"new");
                if trailer {
                    end.send_raw(r#"{"sha256":"of no use"}"#, b"");
                }
                end.assert_in_sync();
            }
        });
    }
    tree.assert_untouched();
}

#[test]
fn a_client_that_sends_on_after_a_refusal_is_left() {
    let tree = Tree::new();
    let ((), session) = against(Kind::Tcp, &tree, quick, |end| {
        end.send_raw(&header("..", 1 << 40, ""), b"");
        let piece = vec![0; MIB];
        let mut to = File::from(end.writer.try_clone().unwrap());
        let mut sent = 0;
        while to.write_all(&piece).is_ok() {
            sent += MIB;
            assert!(sent < MUCH);
        }
        // The reply is there all the same.
        assert_eq!(status(&end.recv()), "denied");
    });
    assert_eq!(session.end.kind(), ErrorKind::Broken);
}

/// What became of a put, how much of it was sent, and whether its connection is in sync.
fn put_to(end: &End, name: &str, source: &File, how: &Transfer<'_>) -> (ErrorKind, u64, bool) {
    let so_far = Cell::new(Transferred::default());
    let mut connection = end.connection();
    let local = framefd::ops::file::Local::Fd(source.as_fd());
    let what = Transfer { name: name.as_bytes(), local, so_far: Some(&so_far), ..*how };
    let put = framefd::ops::file::put(&mut connection, &what, None);
    (kind(put), so_far.get().bytes, connection.state().broken.is_none())
}

#[test]
fn a_client_stops_if_it_is_refused_before_much_of_a_file() {
    let tree = Tree::new();
    for channel in Kind::ALL {
        for checksum in [true, false] {
            let how = Transfer { checksum, ..plain() };
            against(channel, &tree, quick, |end| {
                let (kind, sent, in_sync) = put_to(end, "..", &large(), &how);
                assert_eq!((kind, in_sync), (ErrorKind::RemoteDenied, false), "{channel:?}");
                assert!(sent < MUCH as u64 / 2, "{sent}");
            });
            // A little is sent to its end.
            against(channel, &tree, quick, |end| {
                let source = file_of(&content(3 * MIB));
                let refused = put_to(end, "..", &source, &how);
                assert_eq!(refused, (ErrorKind::RemoteDenied, 3 << 20, true));
                end.assert_in_sync();
            });
        }
    }
    tree.assert_untouched();
}

/// Puts a large file to a peer that reads the header, does what `server` does, and stays until
/// the put is over.
fn against_a(server: impl FnOnce(&End) + Send, how: &Transfer<'_>) -> (ErrorKind, bool) {
    let (client, server_end) = Kind::Tcp.connect();
    let (is_over, waits) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut from = File::from(server_end.reader.try_clone().unwrap());
            let mut start = [0; 4];
            from.read_exact(&mut start).unwrap();
            let mut header = vec![0; u32::from_le_bytes(start) as usize];
            from.read_exact(&mut header).unwrap();
            server(&server_end);
            let _ = waits.recv();
        });
        let client = client;
        let (kind, _, in_sync) = put_to(&client, "new", &large(), how);
        drop(is_over);
        (kind, in_sync)
    })
}

fn refuse(end: &End) {
    end.answer(FIRST, &encoded(r#"{"status":"error","code":"no_space"}"#, b""));
}

/// Reads what is sent until the client ends, or this much.
fn read_on(end: &End, most: usize) {
    let from = File::from(end.reader.try_clone().unwrap());
    std::io::copy(&mut from.take(most as u64), &mut std::io::sink()).unwrap();
}

#[test]
fn a_server_that_refuses_may_read_on_or_not_or_close() {
    let refused = (ErrorKind::RemoteNoSpace, false);
    assert_eq!(against_a(refuse, &plain()), refused, "it reads no more");
    let resets = |end: &End| {
        refuse(end);
        // With unread input that is a reset.
        rustix::net::shutdown(&end.reader, rustix::net::Shutdown::Both).unwrap();
    };
    assert_eq!(against_a(resets, &plain()), refused);
    let reads_on = |end: &End| {
        read_on(end, MUCH / 4);
        refuse(end);
        read_on(end, MUCH / 8);
    };
    assert_eq!(against_a(reads_on, &plain()), refused);
    // In pieces of the rate, too.
    let slow = Transfer { rate: Some(u64::MAX), ..plain() };
    assert_eq!(against_a(refuse, &slow), refused);
}

#[test]
fn what_comes_early_and_is_no_refusal_stops_nothing() {
    let ok = |end: &End| {
        end.answer(FIRST, &encoded(r#"{"working":true}"#, b""));
        end.answer(FIRST, &encoded(&format!(r#"{{"status":"ok","filesize":{MUCH}}}"#), b""));
        read_on(end, MUCH);
    };
    let (client, server_end) = Kind::Tcp.connect();
    std::thread::scope(|scope| {
        scope.spawn(move || ok(&server_end));
        let how = Transfer { checksum: false, ..plain() };
        let stored = put_fd(&client, b"new", large().as_fd(), None, &how).unwrap();
        assert_eq!(stored.bytes, MUCH as u64);
    });
    for lie in [
        r#"{"status":"error","code":"no_space","id":"another's"}"#,
        r#"{"working":true,"id":"another's"}"#,
        r#"{"working":true,"data_size":1}"#,
        r#"{"status":"perhaps"}"#,
    ] {
        let lies = |end: &End| {
            end.answer(FIRST, &encoded(lie, b""));
            read_on(end, MUCH);
        };
        assert_eq!(against_a(lies, &plain()), (ErrorKind::BadReply, false), "{lie}");
    }
}

#[test]
fn a_server_that_neither_reads_nor_answers_is_left() {
    let how = Transfer { stall: Some(Duration::from_millis(100)), ..plain() };
    let half = |end: &End| end.send(&encoded(r#"{"working":true}"#, b"")[..9]);
    let kinds = [against_a(|_| (), &how), against_a(half, &how)].map(|(kind, _)| kind);
    assert!(
        kinds.iter().all(|kind| matches!(kind, ErrorKind::TimedOut | ErrorKind::Stalled)),
        "{kinds:?}"
    );
}

/// As long as it says that it works, it need not read.
#[test]
fn a_server_that_works_may_leave_the_content_unread() {
    let how = Transfer { stall: Some(Duration::from_secs(1)), ..plain() };
    let works = |end: &End| {
        for _ in 0..8 {
            end.answer(FIRST, &encoded(r#"{"working":true}"#, b""));
            std::thread::sleep(Duration::from_millis(150));
        }
        refuse(end);
    };
    assert_eq!(against_a(works, &how), (ErrorKind::RemoteNoSpace, false));
}
