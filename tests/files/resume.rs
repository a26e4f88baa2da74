//! Puts that are cut and continued, and gets that begin in the middle, on the bare wire.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::{Duration, SystemTime};

use framefd::ErrorKind;
use framefd::ops::file::{ServeOptions, Served};
use framefd::ops::frame;

use crate::common::process::alone_in;
use crate::common::{encoded, sealing};
use crate::{End, Kind, Tree, against, content, digest, put, serve, status, with_server};

/// The partial file of `old`: the start of sha256sum(1).
const PART: &str = ".framefd-cba06b5736faf67e.part";
const STAT: &str = r#"{"cmd":"stat","filename":"old","partial":true}"#;

/// A put of `whole` from `offset` on.
fn rest(whole: &[u8], offset: usize, keys: &str) -> Vec<u8> {
    let (all, left) = (whole.len(), whole.len() - offset);
    let sizes = format!(r#""filesize":{all},"offset":{offset},"data_size":{left}"#);
    encoded(&format!(r#"{{"cmd":"put","filename":"old",{sizes}{keys}}}"#), &whole[offset..])
}

fn prefix(bytes: &[u8]) -> String {
    format!(r#","prefix_sha256":"{}""#, digest(bytes))
}

/// Sends a request and gives the code of the error reply, or `ok`.
fn ask(end: &End, request: &[u8]) -> String {
    end.send(request);
    status(&end.recv())
}

/// Leaves `bytes` of a longer file as the partial one.
fn leave(tree: &Tree, bytes: &[u8]) {
    let request = rest(&[bytes, b"x"].concat(), 0, r#","resume":true"#);
    send_and_close(tree, &request[..request.len() - 1]);
    assert_eq!(tree.read(PART), bytes);
}

fn send_and_close(tree: &Tree, bytes: &[u8]) -> ErrorKind {
    let (client, server) = Kind::Unix.connect();
    client.send(bytes);
    client.half_close();
    serve(&server, &tree.root, &ServeOptions::default()).end.kind()
}

#[test]
fn a_put_that_is_cut_anywhere_is_continued() {
    let whole = b"new content";
    let trailer = encoded(&format!(r#"{{"sha256":"{}"}}"#, digest(whole)), b"");
    let first = [rest(whole, 0, r#","resume":true,"trailer":true"#), trailer.clone()].concat();
    let header = first.len() - trailer.len() - whole.len();
    for cut in 1..first.len() {
        let tree = Tree::new();
        assert_eq!(send_and_close(&tree, &first[..cut]), ErrorKind::Truncated);
        let came = cut.saturating_sub(header).min(whole.len());
        assert_eq!(tree.read("old"), b"old");
        with_server(&tree, |end| {
            if came == 0 {
                assert_eq!(ask(end, &encoded(STAT, b"")), "not_found");
                tree.assert_untouched();
                return;
            }
            assert_eq!(tree.read(PART), &whole[..came], "cut after {cut}");
            end.send_raw(STAT, b"");
            let reply = end.recv();
            let size = reply.header.integer("size").unwrap();
            assert_eq!(usize::try_from(size).unwrap(), came);
            assert_eq!(reply.header.string("sha256").unwrap(), digest(&whole[..came]));
            let keys = prefix(&whole[..came]) + r#","resume":true,"trailer":true"#;
            end.send(&rest(whole, came, &keys));
            end.send(&trailer);
            let reply = end.recv();
            assert_eq!(reply.header.integer("filesize").unwrap(), 11);
            assert_eq!(reply.header.string("sha256").unwrap(), digest(whole));
            assert_eq!((tree.read("old"), tree.names()), (whole.to_vec(), vec!["old".into()]));
        });
    }
}

#[test]
fn a_put_that_stalls_or_is_reset_is_kept_as_well() {
    let whole = content(3000);
    let request = rest(&whole, 0, r#","resume":true"#);
    let tree = Tree::new();
    let impatient =
        || ServeOptions { stall: Some(Duration::from_millis(20)), ..ServeOptions::default() };
    let ((), session) = against(Kind::Unix, &tree, impatient, |end| {
        end.send(&request[..request.len() - 1]);
        assert_eq!(status(&end.recv()), "timed_out");
    });
    assert_eq!(session.end.kind(), ErrorKind::TimedOut);
    assert_eq!(tree.read(PART), &whole[..2999]);

    let (client, server) = Kind::Tcp.connect();
    client.send(&request[..request.len() - 1]);
    let lingering = std::net::TcpStream::from(client.reader);
    rustix::net::sockopt::set_socket_linger(&lingering, Some(Duration::ZERO)).unwrap();
    drop((client.writer, lingering));
    let end = serve(&server, &tree.root, &ServeOptions::default()).end.kind();
    // A tunnel passes it on as a hang-up.
    assert_eq!(end, if sealing::are_sealed() { ErrorKind::Truncated } else { ErrorKind::Io });
    assert!(tree.names().contains(&PART.into()));
}

#[test]
fn what_does_not_continue_what_is_there_changes_nothing() {
    let tree = Tree::new();
    leave(&tree, b"new con");
    with_server(&tree, |end| {
        let untouched = || {
            assert_eq!((tree.read(PART), tree.read("old")), (b"new con".to_vec(), b"old".to_vec()));
        };
        let whole = b"new content";
        for keys in ["", r#","resume":true"#] {
            let wrong = prefix(b"new cow") + keys;
            assert_eq!(ask(end, &rest(whole, 7, &wrong)), "checksum");
            untouched();
            // Of the stored file, which would be the beginning here.
            assert_eq!(ask(end, &rest(whole, 0, &(prefix(b"o") + keys))), "checksum");
            untouched();
            assert_eq!(ask(end, &rest(whole, 8, keys)), "bad_request");
            untouched();
        }
        fs::write(tree.at("old"), "old and long").unwrap();
        assert_eq!(ask(end, &rest(whole, 8, &prefix(b"new cont"))), "checksum");
        assert_eq!((tree.read(PART), tree.names().len()), (b"new con".to_vec(), 2));
        assert_eq!(ask(end, &rest(whole, 7, &prefix(b"new con"))), "ok");
    });
    assert_eq!((tree.read("old"), tree.names()), (b"new content".to_vec(), vec!["old".into()]));
}

#[test]
fn only_who_asks_for_it_finds_it_again() {
    let tree = Tree::new();
    leave(&tree, b"new con");
    let cut = rest(b"new content", 7, "");
    assert_eq!(send_and_close(&tree, &cut[..cut.len() - 1]), ErrorKind::Truncated);
    tree.assert_untouched();
}

#[test]
fn a_content_that_is_wrong_or_refused_is_not_kept() {
    let tree = Tree::new();
    let whole = b"new content";
    let wrong = encoded(&format!(r#"{{"sha256":"{}"}}"#, digest(b"other")), b"");
    with_server(&tree, |end| {
        let keys = format!(r#","resume":true,"sha256":"{}""#, digest(b"other"));
        for offset in [0, 7] {
            leave(&tree, b"new con");
            assert_eq!(ask(end, &rest(whole, offset, &keys)), "checksum");
            tree.assert_untouched();
            leave(&tree, b"new con");
            let trailed = rest(whole, offset, r#","resume":true,"trailer":true"#);
            assert_eq!(ask(end, &[trailed, wrong.clone()].concat()), "checksum");
            tree.assert_untouched();
        }
        leave(&tree, whole);
        assert_eq!(ask(end, &rest(whole, 11, &keys)), "checksum");
        tree.assert_untouched();
        end.assert_in_sync();
    });
    let trailed = rest(whole, 0, r#","resume":true,"trailer":true"#);
    assert_eq!(send_and_close(&tree, &[trailed, encoded("[]", b"")].concat()), ErrorKind::BadJson);
    tree.assert_untouched();
}

#[test]
fn a_put_can_begin_with_the_stored_file() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        assert_eq!(ask(end, &rest(b"older", 3, &prefix(b"old"))), "ok");
        assert_eq!(tree.read("old"), b"older");
        assert_eq!(ask(end, &rest(b"oldest", 6, "")), "bad_request");
        assert_eq!(ask(end, &rest(b"old", 3, "")), "ok");
        let none = rest(b"oldest", 3, "");
        let none = String::from_utf8(none).unwrap().replace(r#""old""#, r#""new""#);
        assert_eq!(ask(end, none.as_bytes()), "bad_request");
        tree.assert_untouched();
        let cut = rest(b"older", 3, r#","resume":true"#);
        assert_eq!(send_and_close(&tree, &cut[..cut.len() - 1]), ErrorKind::Truncated);
        assert_eq!((tree.read(PART), tree.read("old")), (b"olde".to_vec(), b"old".to_vec()));
        assert_eq!(ask(end, &rest(b"new", 0, r#","resume":true"#)), "ok");
        assert_eq!((tree.read("old"), tree.names()), (b"new".to_vec(), vec!["old".into()]));
    });
}

#[test]
fn one_client_at_a_time_continues_a_file() {
    let tree = Tree::new();
    let whole = content(3000);
    let resumed = rest(&whole, 0, r#","resume":true"#);
    with_server(&tree, |first| {
        let (start, end) = resumed.split_at(resumed.len() - 1);
        first.send(start);
        while fs::metadata(tree.at(PART)).map_or(true, |part| part.len() < 2999) {
            std::thread::yield_now();
        }
        // It is not silent, however long the second one has to wait for a processor.
        let part = File::options().write(true).open(tree.at(PART)).unwrap();
        part.set_modified(SystemTime::now() + Duration::from_secs(1000)).unwrap();
        with_server(&tree, |second| {
            assert_eq!(ask(second, &encoded(STAT, b"")), "busy");
            assert_eq!(ask(second, &resumed), "busy");
            put(second, "old", b"plain").unwrap();
            second.assert_in_sync_with("old", b"plain");
        });
        assert_eq!(ask(first, end), "ok");
        assert_eq!(ask(first, &encoded(STAT, b"")), "not_found");
    });
    assert_eq!((tree.read("old"), tree.names()), (whole, vec!["old".into()]));
}

#[test]
fn a_client_whose_connection_is_lost_takes_its_file_over() {
    let tree = Tree::new();
    let whole = content(3000);
    let resumed = rest(&whole, 0, r#","resume":true"#);
    with_server(&tree, |lost| {
        let (start, end) = resumed.split_at(resumed.len() - 1000);
        lost.send(start);
        while fs::metadata(tree.at(PART)).map_or(true, |part| part.len() < 2000) {
            std::thread::yield_now();
        }
        let part = File::options().write(true).open(tree.at(PART)).unwrap();
        part.set_modified(SystemTime::now() - Duration::from_secs(3)).unwrap();
        with_server(&tree, |again| {
            assert_eq!(ask(again, &encoded(STAT, b"")), "ok");
            let keys = prefix(&whole[..2000]) + r#","resume":true"#;
            assert_eq!(ask(again, &rest(&whole, 2000, &keys)), "ok");
        });
        assert_eq!((tree.read("old"), tree.names()), (whole.clone(), vec!["old".into()]));
        // Nothing that comes late is stored.
        assert_eq!(ask(lost, end), "busy");
        lost.assert_in_sync_with("old", &whole);
    });
    assert_eq!((tree.read("old"), tree.names()), (whole, vec!["old".into()]));
}

#[test]
fn what_is_planted_for_a_partial_file_is_refused() {
    let tree = Tree::new();
    fs::write(tree.local("file"), "outside").unwrap();
    let plant: [&dyn Fn(); 4] = [
        &|| symlink("../local/file", tree.at(PART)).unwrap(),
        &|| symlink("../local/new", tree.at(PART)).unwrap(),
        &|| fs::hard_link(tree.local("file"), tree.at(PART)).unwrap(),
        &|| fs::create_dir(tree.at(PART)).unwrap(),
    ];
    with_server(&tree, |end| {
        for plant in plant {
            plant();
            for offset in [0, 3] {
                let request = rest(b"older", offset, r#","resume":true"#);
                assert_eq!(ask(end, &request), "denied");
            }
            assert_eq!(ask(end, &encoded(STAT, b"")), "denied");
            let path = tree.at(PART);
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        }
        for cmd in ["get", "put", "stat", "list"] {
            let request = format!(r#"{{"cmd":"{cmd}","filename":"{PART}","filesize":0}}"#);
            assert_eq!(end.ask(&request, b""), "denied", "{cmd}");
        }
        end.assert_in_sync();
    });
    tree.assert_untouched();
    assert_eq!(crate::names(&tree.local("")), ["file"]);
    assert_eq!(fs::read(tree.local("file")).unwrap(), b"outside");
}

#[test]
fn a_full_disk_keeps_no_partial_file() {
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
    alone_in("resume::a_full_disk_keeps_no_partial_file", &wrapper, || {
        let tree = Tree::new();
        let mount = ["-t", "tmpfs", "-o", "size=64k", "framefd"];
        let mut command = std::process::Command::new("mount");
        assert!(command.args(mount).arg(tree.at("")).status().unwrap().success());
        let root = File::open(tree.at("")).unwrap();
        let tree = Tree { root, ..tree };
        fs::write(tree.at("old"), "old").unwrap();
        with_server(&tree, |end| {
            let large = content(128 << 10);
            assert_eq!(ask(end, &rest(&large, 0, r#","resume":true"#)), "no_space");
            tree.assert_untouched();
            leave(&tree, &large[..1000]);
            assert_eq!(ask(end, &rest(&large, 1000, r#","resume":true"#)), "no_space");
            tree.assert_untouched();
            end.assert_in_sync();
        });
        let mut command = std::process::Command::new("umount");
        assert!(command.arg("-l").arg(tree.at("")).status().unwrap().success());
    });
}

#[test]
fn a_get_can_begin_anywhere() {
    let tree = Tree::new();
    let whole = content(3000);
    fs::write(tree.at("file"), &whole).unwrap();
    let get = |keys: &str| format!(r#"{{"cmd":"get","filename":"file"{keys}}}"#);
    with_server(&tree, |end| {
        for offset in [0, 1, 2999, 3000] {
            for prefix in [String::new(), prefix(&whole[..offset])] {
                let at = format!(r#","offset":{offset}"#) + &prefix;
                end.send_raw(&get(&at), b"");
                let reply = end.recv();
                assert_eq!(reply.header.integer("filesize").unwrap(), 3000);
                assert!(reply.body == whole[offset..], "{at}");
                end.send_raw(&get(&(at + r#","trailer":true"#)), b"");
                assert!(end.recv().body == whole[offset..]);
                assert_eq!(end.recv().header.string("sha256").unwrap(), digest(&whole));
            }
            let wrong = format!(r#","offset":{offset}"#) + &prefix(b"x");
            assert_eq!(end.ask(&get(&wrong), b""), "checksum");
        }
        assert_eq!(end.ask(&get(r#","offset":3001"#), b""), "bad_request");
        assert_eq!(end.ask(&get(r#","offset":18446744073709551615"#), b""), "bad_request");
        end.assert_in_sync();
        end.send_raw(&get(""), b"");
        let (reply, stat) = (end.recv().header, fs::metadata(tree.at("file")).unwrap());
        let mode = format!("{:04o}", stat.mode() & 0o7777);
        assert_eq!(reply.string("mode").unwrap(), mode);
        let modified = stat.mtime() * 1000 + stat.mtime_nsec() / 1_000_000;
        assert_eq!(reply.integer("mtime").unwrap(), modified);
    });
}

#[test]
fn offsets_are_of_64_bits() {
    let tree = Tree::new();
    let size = (4 << 30) + 5;
    let mut whole = File::create(tree.at("file")).unwrap();
    whole.set_len(size - 5).unwrap();
    std::io::Seek::seek(&mut whole, std::io::SeekFrom::End(0)).unwrap();
    std::io::Write::write_all(&mut whole, b"bytes").unwrap();
    let (bytes, session) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
        let get = format!(r#"{{"cmd":"get","filename":"file","offset":{}}}"#, size - 6);
        end.send_raw(&get, b"");
        end.recv().body
    });
    let [Served::Done(got)] = &session.served[..] else { panic!("{session:?}") };
    assert_eq!((&*bytes, got.bytes), (&b"\0bytes"[..], size));
}

#[test]
fn what_is_only_declared_costs_nothing() {
    let tree = Tree::new();
    let tebibyte = r#"{"cmd":"put","filename":"old","filesize":1099511627776"#;
    for (keys, kept) in [("}", false), (r#","resume":true}"#, true)] {
        with_server(&tree, |end| {
            end.send_raw(&format!("{tebibyte}{keys}"), b"a little of it");
            let written = || {
                let mut entries = fs::read_dir(tree.at("")).unwrap();
                entries.find_map(|entry| {
                    let stat = entry.unwrap().metadata().ok()?; // it may be gone again
                    (stat.len() == 14).then_some(stat.blocks())
                })
            };
            // What nobody resumes need not have a name yet.
            let mut blocks = if kept { None } else { Some(0) };
            while blocks.is_none() {
                blocks = written();
            }
            assert!(blocks < Some(1000), "{blocks:?}");
            end.half_close();
            let received = frame::recv(end.reader.as_fd(), &frame::Options::default()).unwrap();
            assert_eq!(status(&received), "bad_request");
        });
        assert_eq!(tree.names().contains(&PART.into()), kept);
        assert_eq!(tree.read("old"), b"old");
    }
    assert_eq!(tree.read(PART), b"a little of it");
}
