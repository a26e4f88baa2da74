//! Calls: whole, or the end of the connection; and no answer is taken for another's.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use framefd::ErrorKind;
use framefd::ops::exec;
use framefd::ops::file::{self, Local, Transfer};
use framefd::ops::frame::{Connection, Frame, Options, recv, send};

use crate::{LONG, connection, pair};

/// Answers each request with what `reply` makes of it.
fn server(fd: UnixStream, reply: impl Fn(&Frame) -> (String, Vec<u8>) + Send + 'static) {
    std::thread::spawn(move || {
        while let Ok(request) = recv(fd.as_fd(), &Options::default()) {
            let (header, body) = reply(&request);
            send(fd.as_fd(), Some(&header), &body, &Options::default()).unwrap();
        }
    });
}

fn ok(request: &Frame) -> (String, Vec<u8>) {
    let id = request.header.string("id").unwrap();
    (format!(r#"{{"status":"ok","id":"{id}"}}"#), request.body.clone())
}

#[test]
fn a_call_gets_the_reply_to_its_own_id() {
    let (ours, theirs) = pair();
    server(theirs, ok);
    let mut client = connection(&ours);
    for n in 1..=3 {
        let reply = client.call(r#"{"cmd":"add","x":1}"#, b"body", LONG).unwrap();
        assert_eq!(reply.header.unwrap().string("id").unwrap(), format!("~{n}"));
        assert_eq!(reply.body, b"body");
    }
    let error = client.call(r#"{"id":1}"#, b"", LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    let error = client.call("{}", b"", Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(client.state().broken.is_none());
}

#[test]
fn an_error_reply_leaves_it_in_sync() {
    let (ours, theirs) = pair();
    server(theirs, |request| {
        let id = request.header.string("id").unwrap();
        let error = r#""status":"error","code":"not_found","message":"no such key""#;
        (format!(r#"{{{error},"id":"{id}"}}"#), Vec::new())
    });
    let mut client = connection(&ours);
    for _ in 0..2 {
        let error = client.call(r#"{"cmd":"get"}"#, b"", LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RemoteNotFound);
        assert!(error.detail().contains("no such key"), "{error}");
    }
}

#[test]
fn a_call_that_ends_before_its_reply_breaks_the_connection() {
    let (ours, theirs) = pair();
    server(theirs, |request| {
        std::thread::sleep(Duration::from_millis(50));
        ok(request)
    });
    let mut client = connection(&ours);
    let error = client.call(r#"{"cmd":"first"}"#, b"", Duration::from_millis(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    std::thread::sleep(Duration::from_millis(100));
    let error = client.call(r#"{"cmd":"second"}"#, b"", LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broken);
    assert!(error.detail().contains("timed out"), "{error}");
}

#[test]
fn only_a_reply_of_its_own_kind_and_id_is_one() {
    let cases: &[(&str, Option<ErrorKind>)] = &[
        (r#"{"status":"ok","id":"ID"}"#, None),
        (r#"{"status":"ok"}"#, None),
        (r#"{"status":"ok","id":"~7"}"#, Some(ErrorKind::BadReply)),
        (r#"{"status":"ok","id":1}"#, Some(ErrorKind::BadReply)),
        (r#"{"status":"ok","id":["ID"]}"#, Some(ErrorKind::BadReply)),
        (r#"{"status":"ok","id":"other","id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r#"{"id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r"{}", Some(ErrorKind::BadReply)),
        (r#"{"cmd":"get","id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r#"{"cmd":"get","status":"ok","id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r#"{"cmd":"get","status":"error","id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r#"{"status":"OK","id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r#"{"status":1,"id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r#"{"status":"error","code":1,"id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r#"{"status":"error","message":1,"id":"ID"}"#, Some(ErrorKind::BadReply)),
        (r#"{"status":"error","code":"denied"}"#, Some(ErrorKind::RemoteDenied)),
        (r#"{"status":"error","code":"denied","body":1}"#, Some(ErrorKind::BadReply)),
    ];
    for (reply, kind) in cases {
        let (ours, theirs) = pair();
        server(theirs, move |request| {
            let id = request.header.string("id").unwrap();
            let body = if reply.contains("body") { b"x".to_vec() } else { Vec::new() };
            (reply.replace("ID", &id), body)
        });
        let mut client = connection(&ours);
        let got = client.call(r#"{"cmd":"get"}"#, b"", LONG);
        assert_eq!(got.err().map(|error| error.kind()), *kind, "{reply}");
        let breaks = kind.is_some_and(|kind| !kind.is_remote());
        assert_eq!(client.state().broken.is_some(), breaks, "{reply}");
    }
}

#[test]
fn a_server_that_repeated_an_id_has_to_go_on() {
    for (second, kind) in [
        (r#"{"status":"ok"}"#, ErrorKind::BadReply),
        (r#"{"status":"error","code":"denied"}"#, ErrorKind::BadReply),
        (r#"{"status":"error","code":"bad_request"}"#, ErrorKind::RemoteBadRequest),
    ] {
        let (ours, theirs) = pair();
        server(theirs, move |request| match &*request.header.string("id").unwrap() {
            "~1" => ok(request),
            _ => (second.to_owned(), Vec::new()),
        });
        let mut client = connection(&ours);
        client.call("{}", b"", LONG).unwrap();
        assert_eq!(client.call("{}", b"", LONG).unwrap_err().kind(), kind, "{second}");
    }
}

type Call = fn(&mut Connection<'_>, &[u8], Duration) -> framefd::Result<()>;

/// Calls with a large request.
const CALLS: [Call; 3] = [
    |client, body, timeout| client.call("{}", body, timeout).map(drop),
    |client, body, timeout| {
        let request = exec::Request { command: b"cat", input: body, ..Default::default() };
        exec::call(client, &request, timeout).map(drop)
    },
    |client, body, timeout| {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, body).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let local = Local::Fd(file.as_fd());
        file::put(client, &Transfer { local, ..Transfer::path(b"f", "".as_ref()) }, timeout)
            .map(drop)
    },
];

const REFUSAL: &str = r#"{"status":"error","code":"too_big","id":"~1"}"#;

#[test]
fn a_refusal_is_the_outcome_although_the_peer_closes_before_it_has_read_the_request() {
    let large = vec![0; 16 << 20];
    for (reply, kind) in [
        (REFUSAL, ErrorKind::RemoteTooBig),
        (r#"{"status":"error","code":"too_big"}"#, ErrorKind::RemoteTooBig),
        (r#"{"status":"error","code":"too_big","id":"~2"}"#, ErrorKind::Io),
        (r#"{"status":"ok","id":"~1"}"#, ErrorKind::Io),
        (r#"{"exit_code":0,"id":"~1"}"#, ErrorKind::Io),
    ] {
        for (number, call) in CALLS.into_iter().enumerate() {
            let (ours, theirs) = pair();
            std::thread::spawn(move || {
                rustix::io::read(&theirs, &mut [0; 100]).unwrap();
                send(theirs.as_fd(), Some(reply), b"", &Options::default()).unwrap();
            });
            let mut client = connection(&ours);
            let refused = call(&mut client, &large, LONG).unwrap_err();
            assert_eq!(refused.kind(), kind, "{number} {reply}: {refused}");
            // The rest of the request was never sent.
            let next = client.call("{}", b"", LONG).unwrap_err();
            assert_eq!(next.kind(), ErrorKind::Broken, "{number} {reply}: {next}");
        }
    }
}

#[test]
fn a_refusal_is_the_outcome_although_the_peer_reads_no_more() {
    let large = vec![0; 16 << 20];
    for (number, call) in CALLS.into_iter().enumerate() {
        let (ours, theirs) = pair();
        send(theirs.as_fd(), Some(REFUSAL), b"", &Options::default()).unwrap();
        let mut client = connection(&ours);
        let refused = call(&mut client, &large, Duration::from_millis(20)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::RemoteTooBig, "{number}: {refused}");
        let next = client.call("{}", b"", LONG).unwrap_err();
        assert_eq!(next.kind(), ErrorKind::Broken, "{number}: {next}");
    }
}
