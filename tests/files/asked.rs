//! A put that only asks is answered as the put itself would be, and a client asks before it sends a
//! large file.

use std::fs::{self, File};
use std::os::fd::AsFd as _;

use framefd::ErrorKind;
use framefd::ops::file::{self, Local, Transfer};

use crate::common::{encoded, kind, sealing};
use crate::continued::{self, resuming};
use crate::{Kind, Tree, against, digest, put, quick, with_server};

/// The partial file of `old`.
const PART: &str = ".framefd-cba06b5736faf67e.part";
const SIZE: u64 = 3 << 20;

fn put_header(name: &str, keys: &str) -> String {
    format!(r#"{{"cmd":"put","filename":"{name}","filesize":3,"data_size":3{keys}}}"#)
}

fn question(name: &str, keys: &str) -> String {
    format!(r#"{{"cmd":"put","filename":"{name}","filesize":3,"data_size":0,"ask":true{keys}}}"#)
}

#[test]
fn the_answer_is_that_to_the_put_itself() {
    let tree = Tree::new();
    fs::create_dir(tree.at("dir")).unwrap();
    let cases = [
        ("new", "", "ok"),
        ("old", "", "ok"),
        ("..", "", "denied"),
        ("dir", "", "denied"),
        ("old", r#","overwrite":false"#, "exists"),
        ("missing/x", "", "not_found"),
        ("old/x", r#","parents":true"#, "denied"),
        ("a/b/x", r#","parents":true"#, "ok"),
        ("c/d/x", r#","parents":true,"resume":true"#, "ok"),
        ("new", r#","mode":8"#, "bad_request"),
        ("new", r#","resume":true"#, "ok"),
    ];
    with_server(&tree, |end| {
        for (name, keys, code) in cases {
            let before = tree.names();
            assert_eq!(end.ask(&question(name, keys), b""), code, "{name} {keys}");
            assert_eq!(tree.names(), before, "{name} {keys}");
            assert_eq!(end.ask(&put_header(name, keys), b"new"), code, "{name} {keys}");
        }
        // Neither the partial file nor the stored one is read or changed.
        fs::write(tree.at(PART), "ab").unwrap();
        for keys in [r#","resume":true"#, r#","resume":true,"offset":2"#, r#","offset":3"#] {
            assert_eq!(end.ask(&question("old", keys), b""), "ok", "{keys}");
        }
        let keys = format!(r#","offset":2,"prefix_sha256":"{}""#, digest(b"??"));
        assert_eq!(end.ask(&question("old", &keys), b""), "ok");
        assert_eq!((tree.read(PART), tree.read("old")), (b"ab".to_vec(), b"new".to_vec()));
        for keys in [r#","offset":4"#, r#","ask":1"#] {
            assert_eq!(end.ask(&question("old", keys), b""), "bad_request", "{keys}");
        }
        let with_body = put_header("old", r#","ask":true"#);
        assert_eq!(end.ask(&with_body, b"new"), "bad_request");
        end.assert_in_sync_with("old", b"new");
    });
}

fn large() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    file
}

fn answered(keys: &str, number: u32) -> Vec<u8> {
    encoded(&format!(r#"{{"id":"~{number}",{keys}}}"#), b"")
}

const OK: &str = r#""status":"ok""#;
/// There is no partial file.
const NONE: &str = r#""status":"error","code":"not_found""#;

/// What a put of a large file came to, and the requests that were seen; the first one is a stat of
/// the partial file.
fn put_after_stat(replies: &[Vec<u8>], how: &Transfer<'_>) -> (Option<ErrorKind>, Vec<String>) {
    let (outcome, seen) = continued::answered(
        replies,
        |_, reply| reply.into(),
        |end| {
            let mut connection = end.connection();
            let source = large();
            let what = Transfer { name: b"new", local: Local::Fd(source.as_fd()), ..*how };
            let put = file::put(&mut connection, &what, None);
            assert_eq!(connection.state().broken.is_none(), {
                let kind = put.as_ref().err().map(framefd::Error::kind);
                kind.is_none_or(ErrorKind::is_remote)
            });
            put.err().map(|error| error.kind())
        },
    );
    let names = seen.iter().map(|(cmd, header, body)| {
        let is_question = header["ask"] == true;
        assert_eq!(body.len() as u64, if is_question || cmd == "stat" { 0 } else { SIZE });
        if is_question { "ask".into() } else { cmd.clone() }
    });
    (outcome, names.collect())
}

#[test]
fn a_client_asks_a_server_that_repeats_ids() {
    let stored = format!(r#"{OK},"filesize":{SIZE}"#);
    let told = |first: &str, replies: &[&str]| {
        let replies = replies.iter().zip(2..).map(|(keys, number)| answered(keys, number));
        let replies: Vec<_> = [first.as_bytes().to_vec()].into_iter().chain(replies).collect();
        put_after_stat(&replies, &resuming())
    };
    let repeats = String::from_utf8(answered(NONE, 1)).unwrap();
    let refusal = |code: &str| format!(r#""status":"error","code":"{code}""#);
    assert_eq!(
        told(&repeats, &[OK, &stored]),
        (None, vec!["stat".into(), "ask".into(), "put".into()])
    );
    for code in ["bad_request", "unsupported"] {
        let known = told(&repeats, &[&refusal(code), &stored]);
        assert_eq!(known, (None, vec!["stat".into(), "ask".into(), "put".into()]), "{code}");
    }
    for (code, expected) in
        [("denied", ErrorKind::RemoteDenied), ("exists", ErrorKind::RemoteExists)]
    {
        let refused = told(&repeats, &[&refusal(code)]);
        assert_eq!(refused, (Some(expected), vec!["stat".into(), "ask".into()]));
    }
    // The answer binds nobody.
    let later = told(&repeats, &[OK, &refusal("no_space")]);
    assert_eq!(later.0, Some(ErrorKind::RemoteNoSpace));
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    // One of those that repeat none might take the question for an empty file.
    let old = String::from_utf8(encoded(&format!("{{{NONE}}}"), b"")).unwrap();
    let stored = encoded(&format!("{{{stored}}}"), b"");
    let unasked = put_after_stat(&[old.into_bytes(), stored], &resuming());
    assert_eq!(unasked, (None, vec!["stat".into(), "put".into()]));
}

#[test]
fn an_answer_that_is_none_ends_the_put() {
    for lie in [
        r#"{"status":"ok"}"#,
        r#"{"status":"ok","id":"another's"}"#,
        r#"{"id":"~2"}"#,
        r#"{"status":"ok","id":"~2","data_size":1}"#,
    ] {
        let (put, seen) = put_after_stat(&[answered(NONE, 1), encoded(lie, b"x")], &resuming());
        assert_eq!((put, seen.len()), (Some(ErrorKind::BadReply), 2), "{lie}");
    }
}

#[test]
fn a_large_file_that_is_refused_leaves_the_connection_in_sync() {
    let tree = Tree::new();
    for channel in Kind::ALL {
        against(channel, &tree, quick, |end| {
            let mut connection = end.connection();
            let source = tempfile::tempfile().unwrap();
            source.set_len(1 << 30).unwrap();
            for _ in 0..2 {
                let local = Local::Fd(source.as_fd());
                let what = Transfer { name: b"old/x", local, ..resuming() };
                let refused = kind(file::put(&mut connection, &what, None));
                assert_eq!(refused, ErrorKind::RemoteDenied);
            }
            file::stat(&mut connection, b"old", None).unwrap();
            drop(connection);
            put(end, "old", b"old").unwrap();
        });
    }
    tree.assert_untouched();
}
