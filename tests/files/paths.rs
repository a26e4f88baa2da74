//! Stat, list, mkdir and symlink, and the policy that is asked about every request, on the
//! bare wire.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use framefd::ops::file::{Choice, Inquiry, ServeOptions, Served};
use framefd::{Error, ErrorKind};
use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};

use crate::common::process::alone;
use crate::common::{encoded, sealing};
use crate::{End, Kind, Tree, against, serve, status, with_server};

fn request(cmd: &str, name: &str, keys: &str) -> String {
    let name = serde_json::to_string(name).unwrap();
    format!(r#"{{"cmd":"{cmd}","filename":{name}{keys}}}"#)
}

fn stat(end: &End, name: &str) -> Value {
    end.send_raw(&request("stat", name, ""), b"");
    let reply = end.recv();
    assert!(reply.body.is_empty());
    serde_json::from_str(reply.header.text()).unwrap()
}

fn list(end: &End, name: &str) -> Vec<Value> {
    end.send_raw(&request("list", name, ""), b"");
    let reply = end.recv();
    assert_eq!(status(&reply), "ok");
    serde_json::from_slice(&reply.body).unwrap()
}

/// A file, a directory, a link and a FIFO; the file has a mode and a time of its own.
fn furnish(tree: &Tree) {
    fs::create_dir(tree.at("dir")).unwrap();
    symlink("../local/caf\u{e9}", tree.at("link")).unwrap();
    rustix::fs::mknodat(CWD, tree.at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::set_permissions(tree.at("old"), fs::Permissions::from_mode(0o4711)).unwrap();
    let modified = SystemTime::UNIX_EPOCH - Duration::from_millis(1);
    File::options().write(true).open(tree.at("old")).unwrap().set_modified(modified).unwrap();
}

#[test]
fn a_stat_tells_what_a_name_is() {
    let tree = Tree::new();
    furnish(&tree);
    with_server(&tree, |end| {
        let old = json!({"data_size": 0, "status": "ok", "size": 3, "kind": "file",
            "mode": "4711", "mtime": -1});
        assert_eq!(stat(end, "old"), old);
        for (name, kind) in [("", "dir"), ("dir", "dir"), ("link", "symlink"), ("fifo", "other")] {
            let (reply, found) = (stat(end, name), tree.at(name).symlink_metadata().unwrap());
            assert_eq!((&reply["kind"], &reply["size"]), (&json!(kind), &json!(found.len())));
            assert_eq!(reply["mode"], format!("{:04o}", found.mode() & 0o7777));
        }
        for (name, code) in [
            ("missing", "not_found"),
            ("missing/x", "not_found"),
            ("old/x", "denied"),
            ("link/x", "denied"),
            ("..", "denied"),
            ("dir/", "denied"),
            (".framefd-0123456789abcdef.tmp", "denied"),
        ] {
            assert_eq!(end.ask(&request("stat", name, ""), b""), code, "{name}");
            let partial = request("stat", name, r#","partial":true"#);
            let expected = if name == "missing" { "not_found" } else { code };
            assert_eq!(end.ask(&partial, b""), expected, "{name}");
        }
        assert_eq!(end.ask(&request("stat", "", r#","partial":true"#), b""), "denied");
        assert_eq!(end.ask(r#"{"cmd":"stat"}"#, b""), "bad_request");
        assert_eq!(end.ask(&request("stat", "old", r#","partial":1"#), b""), "bad_request");
        end.assert_in_sync();
    });
}

#[test]
fn a_list_tells_what_is_in_a_directory() {
    let tree = Tree::new();
    furnish(&tree);
    for name in [&b"a\n\x1b[2J"[..], b"caf\xe9", b"x ", b".framefd-0123456789abcdef.tmp"] {
        fs::write(tree.at("dir").join(OsStr::from_bytes(name)), "12345").unwrap();
    }
    symlink(OsStr::from_bytes(b"\xff"), tree.at("dir/y")).unwrap();
    let ((), session) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
        let entries = list(end, "");
        let names: Vec<_> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["dir", "fifo", "link", "old"]);
        let kinds: Vec<_> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["dir", "other", "symlink", "file"]);
        assert_eq!(entries[2]["target"], "../local/caf\u{e9}");
        let old = json!({"name": "old", "kind": "file", "size": 3, "mode": "4711", "mtime": -1});
        assert_eq!(entries[3], old);

        let entries = list(end, "dir");
        assert_eq!(entries.len(), 4);
        assert_eq!((&entries[0]["name"], &entries[0]["size"]), (&json!("a\n\u{1b}[2J"), &json!(5)));
        assert_eq!(
            (&entries[1]["name"], &entries[1]["name_b64"]),
            (&Value::Null, &json!("Y2Fm6Q=="))
        );
        assert_eq!(
            (&entries[2]["name"], &entries[3]["target_b64"]),
            (&json!("x "), &json!("/w=="))
        );
        for (name, code) in [
            ("old", "denied"),
            ("link", "denied"),
            ("fifo", "denied"),
            ("missing", "not_found"),
            ("../local", "denied"),
            ("dir/.", "denied"),
        ] {
            assert_eq!(end.ask(&request("list", name, ""), b""), code, "{name}");
        }
        fs::remove_dir_all(tree.at("dir")).unwrap();
        fs::create_dir(tree.at("dir")).unwrap();
        end.send_raw(&request("list", "dir", r#","data_size":3"#), b"new");
        assert_eq!(end.recv().body, b"[]");
    });
    let Served::Done(listed) = &session.served[0] else { panic!("{session:?}") };
    assert!(listed.bytes > 200 && listed.sha256.is_none());
}

#[test]
fn what_vanishes_from_a_list_meanwhile_is_left_out() {
    let tree = Tree::new();
    fs::create_dir(tree.at("dir")).unwrap();
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let names: Vec<_> = (0..50).map(|number| tree.at(&format!("dir/{number}"))).collect();
            while running.load(Ordering::Relaxed) {
                for name in &names {
                    symlink("x", name).unwrap();
                }
                for name in &names {
                    fs::remove_file(name).unwrap();
                }
            }
        });
        with_server(&tree, |end| {
            for _ in 0..300 {
                assert!(list(end, "dir").len() <= 50);
            }
        });
        running.store(false, Ordering::Relaxed);
    });
}

#[test]
fn directories_and_links_are_made() {
    alone("paths::directories_and_links_are_made", || {
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let tree = Tree::new();
        symlink("../local", tree.at("up")).unwrap();
        let mode = |name| fs::metadata(tree.at(name)).unwrap().mode() & 0o7777;
        with_server(&tree, |end| {
            let mkdir = |name, keys| end.ask(&request("mkdir", name, keys), b"");
            assert_eq!(mkdir("a", ""), "ok");
            assert_eq!(mkdir("a", r#","mode":"0700""#), "ok");
            assert_eq!(mkdir("a/b", r#","mode":"7770""#), "ok");
            assert_eq!((mode("a"), mode("a/b")), (0o755, 0o750));
            assert_eq!(mkdir("c/d/e", ""), "not_found");
            assert_eq!(mkdir("c/d/e", r#","parents":true"#), "ok");
            for (name, code) in
                [("old", "exists"), ("up", "exists"), ("up/x", "denied"), ("", "denied")]
            {
                assert_eq!(mkdir(name, r#","parents":true"#), code, "{name}");
            }
            assert_eq!(mkdir("f", r#","mode":7"#), "bad_request");

            let link = |name, target: &str, keys: &str| {
                let target = serde_json::to_string(target).unwrap();
                end.ask(&request("symlink", name, &format!(r#","target":{target}{keys}"#)), b"")
            };
            assert_eq!(link("c/l", "d/e", ""), "ok");
            assert_eq!(link("c/l", "../old", r#","overwrite":false"#), "exists");
            assert_eq!(link("c/l", "d/e", r#","overwrite":false"#), "ok");
            assert_eq!(link("c/l", "../old", ""), "ok");
            assert_eq!(fs::read(tree.at("c/l")).unwrap(), b"old");
            assert_eq!(link("g/h/l", "x", ""), "not_found");
            assert_eq!(link("g/h/l", "../../old", r#","parents":true"#), "ok");
            for target in ["", "/etc/passwd", "..", "../old", "a/../..", "x/../b", "a\0"] {
                assert_eq!(link("l", target, ""), "denied", "{target}");
            }
            assert_eq!(link("old", "a", ""), "exists");
            assert_eq!(link("a", "old", ""), "exists");
            assert_eq!(link("up/l", "old", r#","parents":true"#), "denied");
            assert_eq!(link("", "old", ""), "denied");
            assert_eq!(end.ask(&request("symlink", "l", ""), b""), "bad_request");
            assert_eq!(end.ask(&request("symlink", "l", r#","target_b64":"/w==""#), b""), "ok");
            end.assert_in_sync();
        });
        assert_eq!(tree.names(), ["a", "c", "g", "l", "old", "up"]);
        assert_eq!(crate::names(&tree.local("")), [""; 0]);
    });
}

#[test]
fn parents_are_made_for_a_put_that_asks_for_them() {
    let tree = Tree::new();
    symlink("../local", tree.at("up")).unwrap();
    let put = |end: &End, name: &str, keys: &str| {
        end.ask(&request("put", name, &format!(r#","filesize":3,"data_size":3{keys}"#)), b"new")
    };
    let parents = r#","parents":true"#;
    with_server(&tree, |end| {
        assert_eq!(put(end, "a/b/c", ""), "not_found");
        assert_eq!(put(end, "a/b/c", parents), "ok");
        assert_eq!(put(end, "d/e/f", r#","parents":true,"resume":true"#), "ok");
        assert_eq!(put(end, "up/x/y", parents), "denied");
        assert_eq!(put(end, "old/x", parents), "denied");
        end.assert_in_sync();
    });
    let making = || ServeOptions { parents: true, ..ServeOptions::default() };
    against(Kind::Unix, &tree, making, |end| {
        assert_eq!(put(end, "g/h", ""), "ok");
        assert_eq!(put(end, "i/j", r#","parents":false"#), "not_found");
        assert_eq!(end.ask(&request("mkdir", "k/l", ""), b""), "ok");
    });
    assert_eq!((tree.read("a/b/c"), tree.read("d/e/f")), (b"new".to_vec(), b"new".to_vec()));
    assert_eq!(tree.names(), ["a", "d", "g", "k", "old", "up"]);
    assert_eq!(crate::names(&tree.local("")), [""; 0]);
}

#[test]
fn a_server_that_keeps_files_keeps_links_too() {
    let tree = Tree::new();
    symlink("old", tree.at("link")).unwrap();
    let keep = || ServeOptions { overwrite: false, ..ServeOptions::default() };
    against(Kind::Unix, &tree, keep, |end| {
        let link = request("symlink", "link", r#","target":"new","overwrite":true"#);
        assert_eq!(end.ask(&link, b""), "exists");
        assert_eq!(end.ask(&request("mkdir", "dir", ""), b""), "ok");
        assert_eq!(end.ask(&request("mkdir", "dir", ""), b""), "ok");
    });
    assert_eq!(fs::read_link(tree.at("link")).unwrap(), OsStr::new("old"));
}

#[test]
fn a_reply_about_a_name_repeats_the_id() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        for cmd in ["stat", "list", "mkdir", "symlink"] {
            for (name, expected) in [("", ["ok", "ok", "error", "error"]), ("d", ["ok"; 4])] {
                let keys = r#","target":"x","id":"an id""#;
                let reply = || {
                    end.send_raw(&request(cmd, name, keys), b"");
                    serde_json::from_str::<Value>(end.recv().header.text()).unwrap()
                };
                let _ = (fs::remove_file(tree.at("d")), fs::remove_dir(tree.at("d")));
                if cmd != "symlink" {
                    fs::create_dir(tree.at("d")).unwrap();
                }
                let reply = reply();
                let at = ["stat", "list", "mkdir", "symlink"].iter().position(|c| *c == cmd);
                assert_eq!(
                    (&reply["status"], &reply["id"]),
                    (&json!(expected[at.unwrap()]), &json!("an id"))
                );
            }
        }
    });
}

#[test]
fn a_client_that_does_not_wait_had_it_done() {
    let tree = Tree::new();
    let (client, server) = Kind::Unix.connect();
    for cmd in ["mkdir", "stat", "list"] {
        client.send_raw(&request(cmd, "dir", ""), b"");
    }
    drop(client);
    let session = serve(&server, &tree.root, &ServeOptions::default());
    assert!(sealing::is_closed(session.end.kind()));
    let unanswered = |served: &Served| matches!(served, Served::Unanswered(_));
    assert!(session.served.len() == 3 && session.served.iter().all(unanswered), "{session:?}");
    assert_eq!(tree.names(), ["dir", "old"]);
}

#[test]
fn a_policy_is_asked_before_anything_is_done() {
    let tree = Tree::new();
    let asked = Mutex::new(Vec::new());
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| {
        let name = str::from_utf8(inquiry.name).unwrap().to_owned();
        let user = inquiry.header.string("user").map_or("nobody".into(), Cow::into_owned);
        asked.lock().unwrap().push((inquiry.cmd.to_owned(), name, inquiry.filesize, user));
        match inquiry.header.string("user").as_deref() {
            Ok("root") => Ok(()),
            Ok(_) => Err(Error::new(ErrorKind::Denied, "not for \u{1b}you")),
            Err(_) => Err(Error::new(ErrorKind::Busy, "who are you?")),
        }
    };
    let options = ServeOptions { policy: Some(&policy), ..ServeOptions::default() };
    let (client, server) = Kind::Unix.connect();
    let sends = [
        ("put", "new", r#","filesize":3,"data_size":3,"parents":true"#, Some(3)),
        ("put", "a/new", r#","filesize":5,"data_size":3,"offset":2,"resume":true"#, Some(5)),
        ("get", "old", "", None),
        ("stat", "", "", None),
        ("stat", "old", r#","partial":true"#, None),
        ("list", "", "", None),
        ("mkdir", "a/b", r#","parents":true"#, None),
        ("symlink", "link", r#","target":"old""#, None),
    ];
    let mut expected = Vec::new();
    for (cmd, name, keys, filesize) in sends {
        for (user, keys) in [("nobody", keys.to_owned()), ("me", format!(r#"{keys},"user":"me""#))]
        {
            let body = if cmd == "put" { &b"new"[..] } else { b"" };
            client.send(&encoded(&request(cmd, name, &keys), body));
            expected.push((cmd.to_owned(), name.to_owned(), filesize, user.to_owned()));
        }
    }
    // What is refused anyway is not asked about.
    for (cmd, name) in
        [("put", ".."), ("get", "a//b"), ("mkdir", ""), ("symlink", "/"), ("dance", "x")]
    {
        client.send_raw(&request(cmd, name, r#","filesize":0,"user":"root""#), b"");
    }
    client.send_raw(&request("put", "new", r#","filesize":3,"user":"root""#), b"new");
    client.half_close();
    let session = serve(&server, &tree.root, &options);
    assert_eq!(session.end.kind(), ErrorKind::Closed);
    for _ in sends {
        let reply = client.recv();
        let message = reply.header.string("message").unwrap();
        assert!(status(&reply) == "busy" && message.contains("who are you?"), "{message}");
        let reply = client.recv();
        let message = reply.header.string("message").unwrap();
        assert!(status(&reply) == "denied" && message.contains("not for \u{1b}you"), "{message}");
    }
    for _ in 0..5 {
        assert_ne!(status(&client.recv()), "ok");
    }
    assert_eq!(status(&client.recv()), "ok");
    expected.push(("put".into(), "new".into(), Some(3), "root".into()));
    assert_eq!(asked.into_inner().unwrap(), expected);
    assert_eq!(tree.names(), ["new", "old"]);
}

#[test]
fn a_root_that_is_moved_or_removed_is_served_on() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        fs::rename(tree.at(""), tree.local("elsewhere")).unwrap();
        fs::create_dir(tree.at("")).unwrap();
        let put = |name| end.ask(&request("put", name, r#","filesize":3,"data_size":3"#), b"new");
        assert_eq!((put("new"), put("old")), ("ok".into(), "ok".into()));
        assert_eq!(crate::names(&tree.local("elsewhere")), ["new", "old"]);
        assert_eq!(list(end, "").len(), 2);
        fs::remove_dir_all(tree.local("elsewhere")).unwrap();
        assert_eq!(put("new"), "not_found");
        assert_eq!(end.ask(&request("list", "", ""), b""), "not_found");
        let resumed = request("put", "new", r#","filesize":3,"data_size":3,"resume":true"#);
        assert_eq!(end.ask(&resumed, b"new"), "not_found");
        for cmd in ["get", "mkdir", "symlink"] {
            let keys = r#","target":"x","parents":true"#;
            assert_eq!(end.ask(&request(cmd, "new/x", keys), b""), "not_found", "{cmd}");
        }
        assert_eq!(stat(end, "")["kind"], "dir");
    });
    assert_eq!(tree.names(), [""; 0]);
}
