//! A client against a server that lies.

use std::fs;
use std::os::fd::AsFd as _;

use framefd::ErrorKind;
use framefd::ops::file::Transfer;

use crate::common::{encoded, kind};
use crate::{FIRST, Kind, Tree, file_of, get_path, get_with, names, plain, put_fd};

/// Of "evil" and "abc".
const EVIL: &str = "b5c1fb2efc6d6b4674c2fdcc48ce01b43a3b7c03763c0c3355de0099ee0f8c73";
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn trailer(sha256: &str) -> Vec<u8> {
    encoded(&format!(r#"{{"sha256":"{sha256}"}}"#), b"")
}

#[test]
fn nothing_a_server_says_leads_a_get_elsewhere() {
    let tree = Tree::new();
    let elsewhere = tree.local("elsewhere");
    let names_of_its_own =
        [elsewhere.display().to_string(), "../elsewhere".into(), "elsewhere".into(), String::new()];
    for name in names_of_its_own {
        let (client, server) = Kind::Unix.connect();
        let header = format!(r#"{{"status":"ok","filename":"{name}","filesize":3,"data_size":3}}"#);
        server.answer(FIRST, &encoded(&header, b"abc"));
        let path = tree.local("asked");
        let got = get_path(&client, b"asked", &path, &plain());
        assert_eq!(kind(got), ErrorKind::BadReply, "{name:?}");
        assert_eq!(names(&tree.local("")), [""; 0]);
    }
}

#[test]
fn a_get_takes_no_content_that_contradicts_what_was_said() {
    let trailed = r#"{"status":"ok","filesize":3,"data_size":3,"trailer":true}"#;
    let sized = |sizes: &str| encoded(&format!(r#"{{"status":"ok",{sizes}}}"#), b"abc");
    let cases = [
        (sized(r#""filesize":4,"data_size":3"#), ErrorKind::BadReply),
        (sized(r#""filesize":3,"data_size":4"#), ErrorKind::BadReply),
        (sized(r#""filesize":-3,"data_size":3"#), ErrorKind::BadReply),
        (sized(r#""filesize":3"#), ErrorKind::BadReply),
        (sized(r#""data_size":3"#), ErrorKind::BadReply),
        (sized(r#""filesize":3,"data_size":-3"#), ErrorKind::BadField),
        (sized(r#""filesize":101,"data_size":101"#), ErrorKind::TooBig),
        (sized(r#""filesize":9223372036854775807,"data_size":9223372036854775807"#), {
            ErrorKind::TooBig
        }),
        (sized(&format!(r#""filesize":3,"data_size":3,"sha256":"{EVIL}""#)), {
            ErrorKind::Checksum
        }),
        (sized(r#""filesize":3,"data_size":3,"sha256":"ba78""#), ErrorKind::BadReply),
        ([encoded(trailed, b"abc"), trailer(EVIL)].concat(), ErrorKind::Checksum),
        ([encoded(trailed, b"abc"), trailer("")].concat(), ErrorKind::BadField),
        ([encoded(trailed, b"abc"), encoded("{}", b"")].concat(), ErrorKind::BadField),
        (
            [
                encoded(trailed, b"abc"),
                encoded(&format!(r#"{{"sha256":"{ABC}","data_size":1}}"#), b"x"),
            ]
            .concat(),
            ErrorKind::BadField,
        ),
        (encoded(trailed, b"abc"), ErrorKind::Truncated),
        (encoded(r#"{"status":"error","code":"denied","data_size":1}"#, b"x"), ErrorKind::BadReply),
        (sized(r#""filesize":3,"data_size":3,"id":7"#), ErrorKind::BadReply),
        (encoded("[]", b""), ErrorKind::BadJson),
        (encoded("", b""), ErrorKind::BadLength),
    ];
    let options = Transfer { max_size: Some(100), ..plain() };
    for (reply, expected) in cases {
        let shown = String::from_utf8_lossy(&reply).into_owned();
        let tree = Tree::new();
        let path = tree.local("asked");
        let ask = |to_path: bool| {
            let (client, server) = Kind::Unix.connect();
            server.answer(FIRST, &reply);
            server.half_close();
            if to_path {
                return kind(get_path(&client, b"asked", &path, &options));
            }
            let (got, bytes) = get_with(&client, "asked", &options);
            assert!(bytes.is_empty() || bytes == b"abc");
            kind(got)
        };
        assert_eq!((ask(true), ask(false)), (expected, expected), "{shown}");
        assert_eq!(names(&tree.local("")), [""; 0], "{shown}");
    }
}

#[test]
fn a_get_takes_a_digest_that_comes_first() {
    let (client, server) = Kind::Unix.connect();
    let upper = ABC.to_uppercase();
    let header = format!(r#"{{"status":"ok","filesize":3,"data_size":3,"sha256":"{upper}"}}"#);
    server.answer(FIRST, &encoded(&header, b"abc"));
    let (got, bytes) = get_with(&client, "asked", &plain());
    assert_eq!((got.unwrap().sha256.unwrap().to_string(), bytes), (ABC.into(), b"abc".to_vec()));
}

#[test]
fn a_put_compares_what_the_server_says_it_has_stored() {
    let put = |reply: &str, body: &[u8]| {
        let (client, server) = Kind::Unix.connect();
        server.answer(FIRST, &encoded(reply, body));
        server.half_close();
        let source = file_of(b"abc");
        put_fd(&client, b"new", source.as_fd(), None, &plain())
    };
    for good in [
        r#"{"status":"ok","filesize":3}"#.to_owned(),
        format!(r#"{{"status":"ok","filename":"new","filesize":3,"sha256":"{ABC}"}}"#),
    ] {
        assert_eq!(put(&good, b"").unwrap().sha256.unwrap().to_string(), ABC);
    }
    let evil = format!(r#"{{"status":"ok","filesize":3,"sha256":"{EVIL}"}}"#);
    assert_eq!(kind(put(&evil, b"")), ErrorKind::Checksum);
    for (bad, body, expected) in [
        (r#"{"status":"ok","filesize":2}"#, &b""[..], ErrorKind::Checksum),
        (r#"{"status":"ok","filesize":"3"}"#, b"", ErrorKind::BadReply),
        (r#"{"status":"ok","sha256":"ba78"}"#, b"", ErrorKind::BadReply),
        (r#"{"status":"ok","data_size":1}"#, b"x", ErrorKind::BadReply),
        (r#"{"status":"ok","id":"another's"}"#, b"", ErrorKind::BadReply),
        (r#"{"status":"ok","filename":"other"}"#, b"", ErrorKind::BadReply),
        (r#"{"status":"ok","filename":"new","filename_b64":"bmV3"}"#, b"", ErrorKind::BadReply),
        (r#"{"filesize":3}"#, b"", ErrorKind::BadReply),
        ("{}", b"", ErrorKind::BadReply),
        (r#"{"status":"ok"}"#, b"", ErrorKind::BadReply),
        (r#"{"cmd":"put","filename":"new","filesize":3,"id":"~1"}"#, b"", ErrorKind::BadReply),
        (r#"{"status":"fine"}"#, b"", ErrorKind::BadReply),
        (r#"{"status":"error","code":"no_space","message":"m"}"#, b"", ErrorKind::RemoteNoSpace),
    ] {
        assert_eq!(kind(put(bad, body)), expected, "{bad}");
    }
}

#[test]
fn an_old_server_gets_what_it_knows_and_is_not_waited_for() {
    let (client, server) = Kind::Unix.connect();
    let source = file_of(b"abc");
    let silent = Transfer { reply: false, ..plain() };
    for unknown in [
        Transfer { mode: Some(0o600), ..silent },
        Transfer { mtime: Some(0), ..silent },
        Transfer { overwrite: false, ..silent },
        Transfer { parents: true, ..silent },
        Transfer { preserve: true, ..silent },
        Transfer { resume: true, ..silent },
        Transfer { offset: 1, ..silent },
    ] {
        let put = put_fd(&client, b"new", source.as_fd(), None, &unknown);
        assert_eq!(kind(put), ErrorKind::Argument);
    }
    put_fd(&client, b"new", source.as_fd(), None, &silent).unwrap();
    drop(client);
    let mut sent = Vec::new();
    std::io::Read::read_to_end(&mut fs::File::from(server.reader), &mut sent).unwrap();
    let header = r#"{"data_size":3,"cmd":"put","filename":"new","filesize":3}"#;
    assert_eq!(sent, encoded(header, b"abc"));
}
