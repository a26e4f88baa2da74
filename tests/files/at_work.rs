//! A server that reads the first bytes of a file says so, and both sides look at their deadlines
//! meanwhile.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use framefd::ErrorKind;
use framefd::ops::file::{self, ServeOptions, Transfer};

use crate::common::{encoded, kind, sealing};
use crate::continued::{resuming, scripted};
use crate::{End, FIRST, Kind, Tree, against, digest, file_of, put_fd, with_server};

/// The partial file of `old`.
const PART: &str = ".framefd-cba06b5736faf67e.part";

const WORKING: &str = r#"{"data_size":0,"working":true,"id":7}"#;

/// The headers that answer a request, the reply last.
fn answers(end: &End, request: &str, body: &[u8]) -> Vec<String> {
    end.send_raw(request, body);
    let mut headers = Vec::new();
    loop {
        let header = end.recv().header;
        headers.push(header.text().to_owned());
        if header.string("status").is_ok() {
            return headers;
        }
    }
}

#[test]
fn who_asks_is_told_that_the_server_is_at_work() {
    let tree = Tree::new();
    std::fs::write(tree.at(PART), "old").unwrap();
    let prefix = digest(b"ol");
    let requests = [
        (r#"{"cmd":"stat","filename":"old","partial":true,"id":7"#.to_owned(), &b""[..]),
        (
            format!(
                r#"{{"cmd":"get","filename":"old","offset":2,"prefix_sha256":"{prefix}","id":7"#
            ),
            b"",
        ),
        (
            r#"{"cmd":"put","filename":"old","filesize":3,"data_size":1,"offset":2,"id":7"#
                .to_owned(),
            b"d",
        ),
    ];
    with_server(&tree, |end| {
        for (request, body) in requests {
            let quiet = answers(end, &format!("{request}}}"), body);
            assert_eq!(quiet.len(), 1, "{quiet:?}");
            if !body.is_empty() {
                std::fs::write(tree.at(PART), "old").unwrap();
            }
            let told = answers(end, &format!(r#"{request},"working":true}}"#), body);
            let [working @ .., reply] = &told[..] else { panic!() };
            assert!(working.iter().all(|frame| frame == WORKING), "{told:?}");
            assert!(!working.is_empty() && reply.contains(r#""status":"ok""#), "{told:?}");
            let bad = answers(end, &format!(r#"{request},"working":1}}"#), body);
            assert!(bad.len() == 1 && bad[0].contains("bad_request"), "{bad:?}");
        }
        end.assert_in_sync();
    });
}

#[test]
fn a_client_waits_on_as_long_as_the_server_works() {
    let source = file_of(b"abcdef");
    let partial =
        encoded(&format!(r#"{{"status":"ok","size":3,"sha256":"{}"}}"#, digest(b"abc")), b"");
    let working = encoded(r#"{"working":true}"#, b"");
    let done = encoded(r#"{"status":"ok","filesize":6}"#, b"");
    let three = [&working[..], &working, &working].concat();
    let (put, seen) =
        scripted(&[[&three[..], &partial].concat(), [&three[..], &done].concat()], |end| {
            put_fd(end, b"new", source.as_fd(), None, &resuming())
        });
    put.unwrap();
    assert_eq!(
        (seen[0].1["working"].as_bool(), seen[1].1["working"].as_bool()),
        (Some(true), Some(true))
    );
    // Such a frame is of the same request, and has no body.
    for lie in [r#"{"working":true,"id":"another's"}"#, r#"{"working":true,"data_size":1}"#] {
        let (put, _) = scripted(&[encoded(lie, b"x")], |end| {
            put_fd(end, b"new", source.as_fd(), None, &resuming())
        });
        assert_eq!(kind(put), ErrorKind::BadReply, "{lie}");
    }
}

#[test]
fn a_server_that_works_for_ever_is_left_at_the_deadline() {
    let (client, server) = Kind::Unix.connect();
    let working = sealing::repeating(FIRST, &encoded(r#"{"working":true}"#, b"")).repeat(100);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut to = File::from(server.writer);
            while std::io::Write::write_all(&mut to, &working).is_ok() {}
        });
        let client = client;
        let asked = file::partial(&mut client.connection(), b"x", Duration::from_millis(100));
        assert_eq!(kind(asked), ErrorKind::TimedOut);
    });
}

#[test]
fn a_deadline_ends_the_reading_of_a_file() {
    let tree = Tree::new();
    File::create(tree.at(PART)).unwrap().set_len(1 << 26).unwrap();
    let late =
        || ServeOptions { timeout: Some(Duration::from_nanos(1)), ..ServeOptions::default() };
    against(Kind::Unix, &tree, late, |end| {
        let code = end.ask(r#"{"cmd":"stat","filename":"old","partial":true}"#, b"");
        assert_eq!(code, "timed_out");
    });
    // A client's own: nothing is sent then.
    File::create(tree.local(PART)).unwrap().set_len(1 << 26).unwrap();
    let (client, _server) = Kind::Unix.connect();
    let mut connection = client.connection();
    let path = tree.local("old");
    let get = Transfer { name: b"old", resume: true, ..Transfer::path(b"", &path) };
    assert_eq!(
        kind(file::get(&mut connection, &get, Duration::from_nanos(1))),
        ErrorKind::TimedOut
    );
    assert!(connection.state().broken.is_none());
}
