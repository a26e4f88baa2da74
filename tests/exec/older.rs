//! Servers that know no streams: they pass over what they do not understand in a request,
//! and reply once, with all of the output.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;

use crate::common::channel::socket_pair;
use crate::common::exec::LONG;
use crate::common::stream::{Remote, finish, json_of, read_all, recv, send, shell, start};
use crate::common::{encoded, kind, sealing};
use framefd::ops::exec::Stream;
use framefd::{Duplex, ErrorKind};
use rustix::event::PollFlags;
use serde_json::{Value, json};

/// A client of a server that has replied with these frames, and what `ask` made of them.
fn answered<T>(
    frames: &[(Value, &[u8])],
    ask: impl FnOnce(&mut Remote<'_>, Duplex<'_>, Duplex<'_>) -> T,
) -> T {
    let (client, server) = socket_pair();
    let (client, server) = (client.as_fd().into(), server.as_fd().into());
    let mut remote = start(client, &shell("anything"));
    assert_eq!(recv(server).body, b"anything");
    for (header, body) in frames {
        send(server, header, body);
    }
    ask(&mut remote, client, server)
}

fn whole() -> Value {
    json!({"stdout_size": 6, "stderr_size": 5, "exit_code": 3})
}

#[test]
fn their_output_is_read_from_the_reply() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    answered(&[(whole(), b"outputerror")], |remote, client, server| {
        let mut pieces = Vec::new();
        let mut buf = [0; 4];
        assert!(remote.events().contains(PollFlags::IN));
        while let Some((stream, got)) = remote.read(&mut buf, Some(LONG)).unwrap() {
            pieces.push((stream, buf[..got].to_vec()));
        }
        let expected = [
            (Stream::Stdout, "outp"),
            (Stream::Stdout, "ut"),
            (Stream::Stderr, "erro"),
            (Stream::Stderr, "r"),
        ];
        let pieces: Vec<_> = pieces.iter().map(|(s, b)| (*s, str::from_utf8(b).unwrap())).collect();
        assert_eq!(pieces, expected);
        assert_eq!(remote.reply().unwrap().exit_code, Some(3));
        assert!(!remote.events().contains(PollFlags::IN));
        send(server, &json!({"next": true}), b"");
        assert_eq!(json_of(&recv(client)), json!({"next": true, "data_size": 0}));
    });
}

#[test]
fn their_output_is_copied_from_the_reply() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    answered(&[(whole(), b"outputerror")], |remote, _, _| {
        let mut files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        remote.copy(None, files[0].as_fd(), files[1].as_fd(), Some(LONG)).unwrap();
        let mut text = |file: &mut File| {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(files.each_mut().map(&mut text), ["output", "error"]);
        assert_eq!(remote.reply().unwrap().exit_code, Some(3));
    });
}

#[test]
fn they_may_say_less_or_nothing() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let reply = json!({"exit_code": 0});
    answered(&[(reply.clone(), b"")], |remote, _, _| {
        let (stdout, stderr, reply) = finish(remote);
        assert_eq!((&*stdout, &*stderr, reply.exit_code), ("", "", Some(0)));
    });
    answered(&[(reply, b"output")], |remote, _, _| {
        let (stdout, stderr, reply) = finish(remote);
        assert_eq!((&*stdout, &*stderr, reply.exit_code), ("output", "", Some(0)));
    });
}

#[test]
fn a_reply_whose_output_is_cut_is_none() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let (client, server) = socket_pair();
    let mut remote = start(client.as_fd().into(), &shell("anything"));
    recv(server.as_fd().into());
    let reply =
        encoded(r#"{"stdout_size":6,"stderr_size":5,"exit_code":3,"data_size":11}"#, b"outp");
    (&server).write_all(&reply).unwrap();
    drop(server);
    assert_eq!(kind(read_all(&mut remote)), ErrorKind::Truncated);
    assert!(remote.reply().is_none());
}

#[test]
fn a_reply_that_contradicts_itself_is_refused() {
    let output = (json!({"stream": "stdout"}), b"output".as_slice());
    let total = json!({"stdout_total": 6, "stderr_total": 0, "exit_code": 0});
    for frames in [
        vec![(whole(), b"output".as_slice())],
        vec![(json!({"stdout_total": 7, "stderr_total": 0, "exit_code": 0}), b"output")],
        vec![(total.clone(), b"")],
        vec![output.clone(), (whole(), b"outputerror")],
        vec![output.clone(), (json!({"exit_code": 0}), b"")],
        vec![output, (total, b"output")],
    ] {
        answered(&frames, |remote, _, _| {
            assert_eq!(kind(read_all(remote)), ErrorKind::BadReply, "{frames:?}");
        });
    }
}
