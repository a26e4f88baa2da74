//! What a server refuses, and that the next request is served all the same.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use framefd::ErrorKind;
use framefd::ops::file::{self, ServeOptions, Served};
use framefd::wire::json::header::Header;
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Gid, Uid};

use crate::common::{encoded, kind};
use crate::{Kind, Tree, against, file_of, put, serve, status, with_server};

/// Of "new".
const DIGEST: &str = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437";

fn put_header(name: &str, rest: &str) -> String {
    let name = serde_json::to_string(name).unwrap();
    format!(r#"{{"cmd":"put","filename":{name},"filesize":3,"data_size":3{rest}}}"#)
}

fn get_header(name: &str) -> String {
    format!(r#"{{"cmd":"get","filename":{}}}"#, serde_json::to_string(name).unwrap())
}

#[test]
fn names_that_lead_elsewhere() {
    let tree = Tree::new();
    let long = ["x".repeat(256), "x/".repeat(255) + "x", "xxxxxxx/".repeat(512)];
    with_server(&tree, |end| {
        let bad = [
            "",
            "/",
            "//",
            ".",
            "..",
            "./x",
            "../x",
            "a/../../x",
            "a/..",
            "a//b",
            "a/",
            "old/",
            "/etc/passwd",
            "a\0b",
            ".framefd-0123456789abcdef.tmp",
        ];
        for name in bad.into_iter().chain(long.iter().map(String::as_str)) {
            assert_eq!(end.ask(&put_header(name, ""), b"new"), "denied", "put {name:?}");
            assert_eq!(end.ask(&get_header(name), b""), "denied", "get {name:?}");
        }
        for rest in ["", r#","filename":7"#, r#","filename_b64":"?""#] {
            let get = end.ask(&format!(r#"{{"cmd":"get"{rest}}}"#), b"");
            let put =
                end.ask(&format!(r#"{{"cmd":"put","filesize":3,"data_size":3{rest}}}"#), b"new");
            assert_eq!((&*get, &*put), ("bad_request", "bad_request"), "{rest}");
        }
        assert_eq!(end.ask(&put_header("missing/x", ""), b"new"), "not_found");
        assert_eq!(end.ask(&get_header("missing"), b""), "not_found");
        end.assert_in_sync();
    });
    tree.assert_untouched();
    assert_eq!(tree.dir.path().read_dir().unwrap().count(), 2);
}

#[test]
fn what_is_no_regular_file() {
    let tree = Tree::new();
    fs::write(tree.local("file"), "outside").unwrap();
    fs::create_dir(tree.at("dir")).unwrap();
    symlink("../local/file", tree.at("leaf")).unwrap();
    symlink("../local/new", tree.at("dangling")).unwrap();
    symlink("../local", tree.at("up")).unwrap();
    symlink("dir", tree.at("link")).unwrap();
    symlink("old", tree.at("within")).unwrap();
    rustix::fs::mknodat(CWD, tree.at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    UnixListener::bind(tree.at("socket")).unwrap();
    let before = tree.names();
    with_server(&tree, |end| {
        for name in [
            "dir", "leaf", "dangling", "up", "up/file", "link/x", "within", "fifo", "socket",
            "old/x",
        ] {
            assert_eq!(end.ask(&put_header(name, ""), b"new"), "denied", "put {name}");
            assert_eq!(end.ask(&get_header(name), b""), "denied", "get {name}");
        }
        end.assert_in_sync();
    });
    assert_eq!(tree.names(), before);
    assert_eq!(crate::names(&tree.local("")), ["file"]);
    assert_eq!(fs::read_to_string(tree.local("file")).unwrap(), "outside");
}

#[test]
fn fields_that_are_not_what_they_should_be() {
    let tree = Tree::new();
    let cases = [
        (r#""filesize":-1"#, "bad_request"),
        (r#""filesize":5.5"#, "bad_request"),
        (r#""filesize":3.0"#, "bad_request"),
        (r#""filesize":3e0"#, "bad_request"),
        (r#""filesize":"3""#, "bad_request"),
        (r#""filesize":null"#, "bad_request"),
        (r#""filesize":2"#, "bad_request"),
        (r#""filesize":4"#, "bad_request"),
        (r#""filesize":9223372036854775808"#, "too_big"),
        (r#""filesize":99999999999999999999"#, "bad_request"),
        (r#""size":3"#, "bad_request"),
        (r#""filesize":3,"sha256":"11507a""#, "bad_request"),
        (r#""filesize":3,"sha256":null,"mode":"0999""#, "bad_request"),
        (r#""filesize":3,"mode":420"#, "bad_request"),
        (r#""filesize":3,"mtime":"now""#, "bad_request"),
        (r#""filesize":3,"overwrite":0"#, "bad_request"),
        (r#""filesize":3,"resume":1"#, "bad_request"),
        (r#""filesize":3,"parents":1"#, "bad_request"),
        (r#""filesize":3,"offset":1"#, "bad_request"),
        (r#""filesize":2,"offset":3"#, "bad_request"),
        (r#""filesize":4,"offset":1.0"#, "bad_request"),
        (r#""filesize":4,"offset":1"#, "bad_request"),
        (r#""filesize":3,"prefix_sha256":"11507a""#, "bad_request"),
    ];
    with_server(&tree, |end| {
        for (fields, code) in cases {
            let header = format!(r#"{{"cmd":"put","filename":"x","data_size":3,{fields}}}"#);
            assert_eq!(end.ask(&header, b"new"), code, "{fields}");
        }
        assert_eq!(end.ask(r#"{"cmd":"get","filename":"old","offset":-1}"#, b""), "bad_request");
        assert_eq!(end.ask(r#"{"cmd":"get","filename":"old","trailer":7}"#, b""), "bad_request");
        end.assert_in_sync();
    });
    tree.assert_untouched();
}

#[test]
fn what_is_neither_put_nor_get() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        assert_eq!(end.ask(r#"{"cmd":"dance","data_size":3}"#, b"new"), "unsupported");
        assert_eq!(end.ask(r#"{"cmd":7,"data_size":3}"#, b"new"), "bad_request");
        assert_eq!(end.ask(r#"{"data_size":3}"#, b"new"), "bad_request");
        assert_eq!(end.ask(r#"{"cmd":"get","filename":"x","data_size":3}"#, b"new"), "not_found");
        end.assert_in_sync();
    });
}

/// Input for a streamed command, which may come right behind its request, is none.
#[test]
fn a_streamed_command_is_refused_once() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        let code = end.ask(r#"{"cmd":"exec","stream":true,"data_size":3}"#, b"cat");
        assert_eq!(code, "unsupported");
        end.send_raw(r#"{"stream":"stdin","data_size":3}"#, b"new");
        end.send_raw(r#"{"stream":"stdin","eof":true}"#, b"");
        end.assert_in_sync();
    });
}

#[test]
fn more_than_the_limit() {
    let tree = Tree::new();
    let small = || ServeOptions { max_size: Some(3), ..ServeOptions::default() };
    against(Kind::Unix, &tree, small, |end| {
        assert_eq!(kind(put(end, "new", b"four")), ErrorKind::RemoteTooBig);
        put(end, "new", b"now").unwrap();
        end.assert_in_sync();
        // Nothing is set aside for what is only declared, and no limit is one to pass.
        let tebibyte = r#"{"cmd":"put","filename":"x","filesize":1099511627776}"#;
        end.send_raw(tebibyte, b"a little of it");
        end.half_close();
        assert_eq!(status(&end.recv()), "too_big");
        assert!(end.is_closed());
    });
    assert_eq!(tree.names(), ["new", "old"]);
}

#[test]
fn a_put_whose_end_nobody_knows_is_answered_and_ends_the_connection() {
    for fields in [
        r#""filesize":-1"#,
        r#""filesize":"3""#,
        r#""filesize":9223372036854775808"#,
        r#""filesize":3,"filesize":4"#,
        r#""filesize":3,"offset":1"#,
        r#""filesize":3,"data_size":3,"trailer":"yes""#,
    ] {
        let tree = Tree::new();
        let ((), session) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
            end.send_raw(&format!(r#"{{"cmd":"put","filename":"x",{fields}}}"#), b"new");
            assert_ne!(status(&end.recv()), "ok");
        });
        assert!(session.served.is_empty(), "{fields}");
        assert!(
            matches!(
                session.end.kind(),
                ErrorKind::BadField | ErrorKind::TooBig | ErrorKind::Missing
            ),
            "{session:?}"
        );
        tree.assert_untouched();
    }
}

#[test]
fn a_content_that_does_not_match_its_digest() {
    let tree = Tree::new();
    let wrong = DIGEST.replace('1', "2");
    let upper = DIGEST.to_uppercase();
    with_server(&tree, |end| {
        let with = |digest: &str| put_header("old", &format!(r#","sha256":"{digest}""#));
        let trailer = put_header("old", r#","trailer":true"#);
        let both = put_header("old", &format!(r#","trailer":true,"sha256":"{DIGEST}""#));
        let follows = |digest: &str| encoded(&format!(r#"{{"sha256":"{digest}"}}"#), b"");
        let with_trailer = |header: &str, trailer: &[u8]| {
            end.send_raw(header, b"new");
            end.send(trailer);
            status(&end.recv())
        };
        assert_eq!(end.ask(&with(&wrong), b"new"), "checksum");
        assert_eq!(with_trailer(&trailer, &follows(&wrong)), "checksum");
        assert_eq!(with_trailer(&both, &follows(&wrong)), "checksum");
        assert_eq!(with_trailer(&trailer, &follows("1234")), "bad_request");
        assert_eq!(with_trailer(&trailer, &encoded("{}", b"")), "bad_request");
        // The trailer of what is refused anyway is received with it.
        let nowhere = put_header("..", r#","trailer":true"#);
        assert_eq!(with_trailer(&nowhere, &follows(DIGEST)), "denied");
        tree.assert_untouched();

        for header in [with(DIGEST), with(&upper), with("").replace(r#","sha256":"""#, "")] {
            assert_eq!(end.ask(&header, b"new"), "ok");
            assert_eq!(tree.read("old"), b"new");
            fs::write(tree.at("old"), "old").unwrap();
        }
        assert_eq!(with_trailer(&both, &follows(&upper)), "ok");
        assert_eq!(tree.read("old"), b"new");
    });
    assert_eq!(tree.names(), ["old"]);
}

#[test]
fn what_follows_a_put_is_the_next_frame() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        let next = encoded(&get_header("old"), b"");
        end.send_raw(&put_header("new", ""), &[b"new", &next[..]].concat());
        assert_eq!(status(&end.recv()), "ok");
        assert_eq!(end.recv().body, b"old");
    });
    assert_eq!(tree.read("new"), b"new");
}

#[test]
fn a_name_that_is_taken_where_nothing_may_be_replaced() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        let header = put_header("old", r#","overwrite":false"#);
        assert_eq!(end.ask(&header, b"new"), "exists");
        let header = put_header("new", r#","overwrite":false"#);
        assert_eq!(end.ask(&header, b"new"), "ok");
        assert_eq!(end.ask(&header, b"NEW"), "exists");
        end.assert_in_sync();
    });
    assert_eq!((tree.read("old"), tree.read("new")), (b"old".to_vec(), b"new".to_vec()));
}

#[test]
fn what_the_servers_user_may_not_touch() {
    let tree = Tree::new();
    fs::create_dir(tree.at("closed")).unwrap();
    fs::create_dir(tree.at("blind")).unwrap();
    fs::write(tree.at("secret"), "secret").unwrap();
    let modes = [("closed", 0o555), ("blind", 0o000), ("secret", 0o600), ("old", 0o644)];
    for (name, mode) in [("", 0o755)].into_iter().chain(modes) {
        fs::set_permissions(tree.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let (client, server) = Kind::Unix.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(group, group, group).unwrap();
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            } else {
                let none = fs::Permissions::from_mode(0o000);
                fs::set_permissions(tree.at("secret"), none).unwrap();
            }
            serve(&server, &tree.root, &ServeOptions::default());
        });
        let client = client;
        assert_eq!(client.ask(&get_header("secret"), b""), "denied");
        assert_eq!(client.ask(&put_header("closed/x", ""), b"new"), "denied");
        let resumed = put_header("closed/x", r#","resume":true"#);
        assert_eq!(client.ask(&resumed, b"new"), "denied");
        let named = |cmd: &str, name: &str| {
            let header = format!(r#"{{"cmd":"{cmd}","filename":"{name}","target":"old"}}"#);
            client.ask(&header, b"")
        };
        assert_eq!((named("mkdir", "closed/x"), named("symlink", "closed/x")), {
            ("denied".into(), "denied".into())
        });
        assert_eq!((named("list", "blind"), named("stat", "blind/x")), {
            ("denied".into(), "denied".into())
        });
        assert_eq!(named("stat", "secret"), "ok");
        client.assert_in_sync();
    });
}

#[test]
fn what_a_caller_may_not_do() {
    let tree = Tree::new();
    let (client, server) = Kind::Unix.connect();
    client.send_raw(&put_header("new", ""), b"new");
    let mut connection = server.server();
    let (view, left) = connection.recv_header(None).unwrap();
    let header = Header::parse(view.header().as_bytes().to_vec(), 32).unwrap();
    assert_eq!(left, 3);
    let options = ServeOptions::default();
    let file = file_of(b"");
    let not_a_root = file::serve(&mut connection, &header, file.as_fd(), &options);
    assert_eq!(kind(not_a_root), ErrorKind::BadDescriptor);
    connection.read(&mut [0; 1], None).unwrap();
    let begun = file::serve(&mut connection, &header, tree.root.as_fd(), &options);
    assert_eq!(kind(begun), ErrorKind::State);
    // Neither has done anything.
    assert!(connection.state().broken.is_none());
    assert_eq!(connection.to_receive(), 2);
    tree.assert_untouched();
}

#[test]
fn a_refusal_says_which_file_and_why() {
    let tree = Tree::new();
    let (message, session) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
        end.send_raw(&get_header("\u{1b}[2J/"), b"");
        end.recv().header.string("message").unwrap().into_owned()
    });
    assert!(message.ends_with(r#""\u{1b}[2J/""#), "{message}");
    let [Served::Refused(error)] = &session.served[..] else { panic!("{session:?}") };
    assert_eq!((error.kind(), &error.to_string()), (ErrorKind::Path, &message));
}
