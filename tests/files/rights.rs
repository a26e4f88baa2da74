//! What a request would do beside its own cmd is asked for as well, and no reply tells of a
//! content that the client may not get.

use std::fs;
use std::os::fd::AsFd as _;
use std::sync::Mutex;

use framefd::ops::file::{Choice, Inquiry, ServeOptions};
use framefd::{Error, ErrorKind, Result};

use crate::common::{encoded, kind};
use crate::continued::resuming;
use crate::{Kind, Tree, digest, file_of, put_fd, serve};

/// The partial file of `old`.
const PART: &str = ".framefd-cba06b5736faf67e.part";

/// The replies to `requests`, whole, from a server whose policy denies what `denied` names.
fn replies(tree: &Tree, denied: &[&str], requests: &[Vec<u8>]) -> Vec<String> {
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| -> Result<()> {
        if denied.contains(&inquiry.cmd) {
            return Err(Error::new(ErrorKind::Denied, ""));
        }
        Ok(())
    };
    let (client, server) = Kind::Unix.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let options =
                ServeOptions { policy: Some(&policy), sync: false, ..ServeOptions::default() };
            serve(&server, &tree.root, &options);
            drop(server);
        });
        let ask = |request: &Vec<u8>| {
            client.send(request);
            let reply = client.recv();
            reply.header.text().to_owned() + &String::from_utf8(reply.body).unwrap()
        };
        let replies = requests.iter().map(ask).collect();
        drop(client);
        replies
    })
}

fn put(keys: &str, body: &[u8]) -> Vec<u8> {
    encoded(&format!(r#"{{"cmd":"put","filename":"old","data_size":{}{keys}}}"#, body.len()), body)
}

#[test]
fn no_reply_tells_of_a_content_that_may_not_be_got() {
    let guesses = ["s", "se", "sec", "secret"].map(|guess| {
        let offset = guess.len();
        let prefix = digest(guess.as_bytes());
        format!(r#","filesize":7,"offset":{offset},"prefix_sha256":"{prefix}""#)
    });
    let wrong = digest(b"");
    let mut requests = Vec::new();
    for (guess, len) in guesses.iter().zip([1, 2, 3, 6]) {
        for resume in ["", r#","resume":true"#] {
            requests.push(put(&format!("{guess}{resume}"), &b"?????????"[..7 - len]));
        }
    }
    for keys in [
        r#","filesize":4,"offset":3"#.to_owned(),
        format!(r#","filesize":4,"offset":3,"sha256":"{wrong}""#),
        r#","filesize":9,"offset":8"#.to_owned(),
    ] {
        requests.push(put(&keys, b"x"));
    }
    for keys in [r#","partial":true"#, r#","partial":true,"offset":3"#] {
        requests.push(encoded(&format!(r#"{{"cmd":"stat","filename":"old"{keys}}}"#), b""));
    }
    requests.push(encoded(r#"{"cmd":"get","filename":"old"}"#, b""));
    let with = |stored: &str, part: &str| {
        let tree = Tree::new();
        fs::write(tree.at("old"), stored).unwrap();
        fs::write(tree.at(PART), part).unwrap();
        let replies = replies(&tree, &["get"], &requests);
        assert_eq!(tree.read("old"), stored.as_bytes());
        assert_eq!(tree.read(PART), part.as_bytes());
        replies
    };
    let one = with("secret", "secret");
    assert!(one.iter().all(|reply| reply.contains("denied")), "{one:?}");
    for (stored, part) in [("public", "secret"), ("secret", "public"), ("s", ""), ("secret", "s")] {
        assert_eq!(with(stored, part), one);
    }
}

/// Not even to a client that may get it: what the digest is of is the client's to know.
#[test]
fn an_error_reply_has_no_digest_of_what_is_stored() {
    let tree = Tree::new();
    let wrong = digest(b"wrong");
    let requests = [
        put(&format!(r#","filesize":3,"offset":2,"prefix_sha256":"{wrong}""#), b"x"),
        put(&format!(r#","filesize":3,"offset":2,"sha256":"{wrong}""#), b"x"),
        encoded(
            &format!(r#"{{"cmd":"get","filename":"old","offset":2,"prefix_sha256":"{wrong}"}}"#),
            b"",
        ),
    ];
    let replies = replies(&tree, &[], &requests);
    for reply in replies {
        assert!(reply.contains(r#""code":"checksum""#), "{reply}");
        assert!(!reply.contains(&digest(b"ol")) && !reply.contains(&digest(b"olx")), "{reply}");
    }
    tree.assert_untouched();
}

#[test]
fn each_right_that_a_request_uses_is_asked_for() {
    let tree = Tree::new();
    let asked = Mutex::new(Vec::new());
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| {
        let name = str::from_utf8(inquiry.name).unwrap();
        asked.lock().unwrap().push(format!("{} {name}", inquiry.cmd));
        Ok(())
    };
    let options = ServeOptions { policy: Some(&policy), ..ServeOptions::default() };
    let (client, server) = Kind::Unix.connect();
    for request in [
        put(r#","filesize":3"#, b"new"),
        put(r#","filesize":4,"offset":3"#, b"X"),
        put(r#","filesize":3,"offset":0,"resume":true"#, b"old"),
        encoded(r#"{"cmd":"stat","filename":"old","partial":true}"#, b""),
        encoded(r#"{"cmd":"stat","filename":"old"}"#, b""),
        encoded(r#"{"cmd":"get","filename":"old","offset":1}"#, b""),
    ] {
        client.send(&request);
    }
    client.half_close();
    serve(&server, &tree.root, &options);
    assert_eq!(
        asked.into_inner().unwrap(),
        ["put old", "put old", "get old", "put old", "stat old", "get old", "stat old", "get old"]
    );
}

#[test]
fn a_client_that_may_not_get_puts_the_whole_file() {
    let tree = Tree::new();
    fs::write(tree.at(PART), "abc").unwrap();
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| match inquiry.cmd {
        "get" => Err(Error::new(ErrorKind::Denied, "")),
        _ => Ok(()),
    };
    let (client, server) = Kind::Unix.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let options =
                ServeOptions { policy: Some(&policy), sync: false, ..ServeOptions::default() };
            serve(&server, &tree.root, &options);
        });
        let client = client;
        let source = file_of(b"abcdef");
        put_fd(&client, b"old", source.as_fd(), None, &resuming()).unwrap();
        assert_eq!(kind(crate::get(&client, "old").0), ErrorKind::RemoteDenied);
    });
    assert_eq!((tree.read("old"), tree.names()), (b"abcdef".to_vec(), vec!["old".into()]));
}

#[test]
fn a_refused_put_leaves_no_directories() {
    let tree = Tree::new();
    let wrong = digest(b"wrong");
    let resumed = r#","resume":true,"offset":0"#;
    let mut requests = Vec::new();
    for keys in [
        format!(r#","filesize":3,"sha256":"{wrong}""#),
        format!(r#","filesize":3{resumed},"prefix_sha256":"{wrong}""#),
        format!(r#","filesize":4,"offset":1,"prefix_sha256":"{wrong}""#),
        r#","filesize":4"#.to_owned(),
        r#","filesize":3,"mode":8"#.to_owned(),
    ] {
        let keys =
            format!(r#"{{"cmd":"put","filename":"a/b/c","data_size":3,"parents":true{keys}}}"#);
        requests.push(encoded(&keys, b"new"));
    }
    let all = replies(&tree, &[], &requests);
    assert!(all.iter().all(|reply| reply.contains(r#""status":"error""#)), "{all:?}");
    tree.assert_untouched();
    let good = [r#","filesize":3"#, r#","filesize":3,"resume":true"#].map(|keys| {
        encoded(
            &format!(r#"{{"cmd":"put","filename":"a/b/c","data_size":3,"parents":true{keys}}}"#),
            b"new",
        )
    });
    for request in good {
        // A policy that lets nobody make directories is asked about these, too.
        let denied = replies(&tree, &["mkdir"], std::slice::from_ref(&request));
        assert!(denied[0].contains(r#""code":"denied""#), "{denied:?}");
        tree.assert_untouched();
        let stored = replies(&tree, &[], &[request]);
        assert!(stored[0].contains(r#""status":"ok""#), "{stored:?}");
        assert_eq!(
            (tree.read("a/b/c"), crate::names(&tree.at("a/b"))),
            (b"new".to_vec(), vec!["c".to_owned()])
        );
        fs::remove_dir_all(tree.at("a")).unwrap();
        assert_eq!(tree.names(), ["old"]);
    }
}

#[test]
fn each_directory_that_is_made_is_asked_about() {
    let tree = Tree::new();
    fs::create_dir(tree.at("a")).unwrap();
    let asked = Mutex::new(Vec::new());
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| {
        let name = str::from_utf8(inquiry.name).unwrap();
        asked.lock().unwrap().push(format!("{} {name}", inquiry.cmd));
        Ok(())
    };
    let options = ServeOptions { policy: Some(&policy), ..ServeOptions::default() };
    let (client, server) = Kind::Unix.connect();
    for (cmd, name, keys) in [
        ("put", "a/b/c/x", r#","filesize":0,"parents":true"#),
        ("put", "a/b/c/y", r#","filesize":0,"parents":true"#),
        ("put", "d/x", r#","filesize":0"#),
        ("mkdir", "a/b/e/f", r#","parents":true"#),
        ("symlink", "g/l", r#","parents":true,"target":"x""#),
    ] {
        client.send_raw(&format!(r#"{{"cmd":"{cmd}","filename":"{name}"{keys}}}"#), b"");
    }
    client.half_close();
    serve(&server, &tree.root, &options);
    let expected = [
        "put a/b/c/x",
        "mkdir a/b",
        "mkdir a/b/c",
        "put a/b/c/y",
        "put d/x",
        "mkdir a/b/e/f",
        "mkdir a/b/e",
        "symlink g/l",
        "mkdir g",
    ];
    assert_eq!(asked.into_inner().unwrap(), expected);
}

/// What is cut is kept where its file is to be, in the directories of that.
#[test]
fn a_cut_put_with_new_directories_is_continued() {
    let tree = Tree::new();
    let begin = r#"{"cmd":"put","filename":"a/b/old","filesize":6,"parents":true,"resume":true"#;
    let (client, server) = Kind::Unix.connect();
    client.send(&encoded(&format!(r#"{begin},"data_size":6}}"#), b"abc"));
    client.half_close();
    serve(&server, &tree.root, &ServeOptions::default());
    assert_eq!(tree.read(&format!("a/b/{PART}")), b"abc");
    assert_eq!(tree.names(), ["a", "old"]);
    let rest = encoded(&format!(r#"{begin},"data_size":3,"offset":3}}"#), b"def");
    let stored = replies(&tree, &[], &[rest]);
    assert!(stored[0].contains(r#""status":"ok""#), "{stored:?}");
    assert_eq!(
        (tree.read("a/b/old"), crate::names(&tree.at("a/b"))),
        (b"abcdef".to_vec(), vec!["old".to_owned()])
    );
}
