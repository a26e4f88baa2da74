//! What goes right: files of every size, over every kind of connection.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use framefd::ErrorKind;
use framefd::ops::file::{ServeOptions, Served, Transfer, Transferred};
use serde_json::json;

use crate::common::process::{alone, peak_memory};
use crate::common::{encoded, kind, peer, sealing};
use crate::{
    End, FIRST, Kind, Tree, against, content, digest, file_of, get, get_fd, get_path, get_with,
    names, plain, put, put_fd, put_path, send_tree, serve, unhashed_file, with_server,
};

const MIB: usize = 1024 * 1024;

#[test]
fn a_file_of_any_size_goes_there_and_back() {
    for channel in Kind::ALL {
        let tree = Tree::new();
        let ((), session) = against(channel, &tree, ServeOptions::default, |end| {
            for size in [0, 1, MIB - 1, MIB, MIB + 1] {
                let bytes = content(size);
                let sha256 = digest(&bytes);
                let is_it = |transfer: Transferred| {
                    assert_eq!(transfer.bytes, size as u64);
                    assert_eq!(transfer.sha256.unwrap().to_string(), sha256);
                };
                is_it(put(end, "new", &bytes).unwrap());
                assert!(tree.read("new") == bytes, "{channel:?} {size}");
                let (got, copy) = get(end, "new");
                is_it(got.unwrap());
                assert!(copy == bytes, "{channel:?} {size}");
            }
        });
        assert!(sealing::is_closed(session.end.kind()));
        assert_eq!(session.served.len(), 10);
        assert!(session.served.iter().all(|served| matches!(served, Served::Done(_))));
        assert_eq!(tree.names(), ["new", "old"]);
    }
}

#[test]
fn files_go_from_path_to_path() {
    let tree = Tree::new();
    let (source, copy) = (tree.local("source"), tree.local("copy"));
    fs::write(&source, content(3000)).unwrap();
    fs::write(&copy, "before").unwrap();
    std::os::unix::fs::symlink("source", tree.local("link")).unwrap();
    let private = Transfer { mode: Some(0o600), ..plain() };
    with_server(&tree, |end| {
        let link = tree.local("link");
        put_path(end, b"new", &link, &plain()).unwrap();
        get_path(end, b"new", &copy, &private).unwrap();
    });
    assert_eq!(tree.read("new"), content(3000));
    assert_eq!(fs::read(&copy).unwrap(), content(3000));
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(names(&tree.local("")), ["copy", "link", "source"]);
}

#[test]
fn paths_that_are_no_files_are_refused_before_anything_is_sent() {
    let tree = Tree::new();
    let at = |name| tree.local(name);
    let fifo = at("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink("elsewhere", at("link")).unwrap();
    fs::write(at("there"), "there").unwrap();
    let options = plain();
    let keep = Transfer { overwrite: false, ..plain() };
    with_server(&tree, |end| {
        let put = |path: PathBuf| kind(put_path(end, b"new", &path, &options));
        assert_eq!(put(at("fifo")), ErrorKind::Path);
        assert_eq!(put(at("")), ErrorKind::Path);
        assert_eq!(put("/dev/null".into()), ErrorKind::Path);
        assert_eq!(put(at("missing")), ErrorKind::NotFound);
        let get = |path: PathBuf, options| kind(get_path(end, b"old", &path, options));
        for path in [at("fifo"), at("link"), at(""), at("."), at(".."), "/".into(), "".into()] {
            assert_eq!(get(path.clone(), &options), ErrorKind::Path, "{path:?}");
        }
        assert_eq!(get(at("missing/x"), &options), ErrorKind::NotFound);
        assert_eq!(get(at("there"), &keep), ErrorKind::Exists);
        end.assert_in_sync();
    });
    assert_eq!(names(&tree.local("")), ["fifo", "link", "there"]);
    tree.assert_untouched();
}

/// `size` bytes of which only the last was written.
fn sparse(tree: &Tree, size: u64) {
    let mut sparse = File::create(tree.at("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(size - 1)).unwrap();
    sparse.write_all(b"x").unwrap();
}

#[test]
fn a_large_file_passes_in_little_memory() {
    alone("whole::a_large_file_passes_in_little_memory", || {
        let tree = Tree::new();
        let size = (300 << 20) + 5;
        sparse(&tree, size);
        let unhashed = Transfer { checksum: false, ..plain() };
        let null = File::create("/dev/null").unwrap();
        with_server(&tree, |end| {
            let got = get_fd(end, b"sparse", null.as_fd(), &unhashed).unwrap();
            assert_eq!(got, unhashed_file(size));
            end.assert_in_sync();
        });
        assert!(peak_memory() < 64 << 20, "{} bytes", peak_memory());
    });
}

#[test]
fn more_bytes_than_32_bits_count_pass_in_little_memory() {
    alone("whole::more_bytes_than_32_bits_count_pass_in_little_memory", || {
        let size = (4 << 30) + 1;
        let unhashed = Transfer { checksum: false, ..plain() };
        let (zero, null) = (File::open("/dev/zero").unwrap(), File::create("/dev/null").unwrap());
        // A server that only counts, for what is stored would fill the disk.
        let (client, server) = Kind::Unix.connect();
        let server = || {
            let mut request = peer::next(&server.reader).unwrap();
            let announced = request.left;
            request.skip();
            assert_eq!(request.left, 0);
            let stored = format!(r#"{{"status":"ok","filesize":{announced}}}"#);
            server.answer(FIRST, &encoded(&stored, b""));
            let id = server.recv().header.string("id").unwrap().into_owned();
            let reply = json!({"status": "ok", "filesize": size, "id": id});
            peer::begin(&server.writer, reply, size);
            io::copy(&mut (&zero).take(size), &mut peer::Raw(server.writer.as_fd())).unwrap();
        };
        std::thread::scope(|scope| {
            scope.spawn(server);
            let whole = unhashed_file(size);
            let put = put_fd(&client, b"x", zero.as_fd(), Some(size), &unhashed);
            assert_eq!(put.unwrap(), whole);
            assert_eq!(get_fd(&client, b"x", null.as_fd(), &unhashed).unwrap(), whole);
        });
        assert!(peak_memory() < 64 << 20, "{} bytes", peak_memory());
    });
}

#[test]
fn a_terabyte_is_announced_as_one() {
    let tree = Tree::new();
    let size = (1 << 40) + 5;
    sparse(&tree, size);
    let (end, _) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
        end.send_raw(r#"{"cmd":"get","filename":"sparse"}"#, b"");
        let reply = peer::next(&end.reader).unwrap();
        (reply.header()["filesize"].as_u64().unwrap(), reply.left)
    });
    assert_eq!(end, (size, size));

    let (client, server) = Kind::Unix.connect();
    let source = File::open(tree.at("sparse")).unwrap();
    let first = |_: &[u8], _, total| {
        assert_eq!(total, size);
        ControlFlow::Break(())
    };
    let options = Transfer { progress: Some(&first), ..plain() };
    let received = std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let End { reader, writer: _writer } = server;
            peer::next(&reader).unwrap().left
        });
        let sent = put_fd(&client, b"x", source.as_fd(), None, &options);
        // The server is gone after the header, which may be before the first piece.
        assert!(matches!(kind(sent), ErrorKind::Canceled | ErrorKind::Io));
        server.join().unwrap()
    });
    assert_eq!(received, size);
}

#[test]
fn a_put_sends_what_its_source_has_and_no_more() {
    let tree = Tree::new();
    let options = plain();
    with_server(&tree, |end| {
        let mut file = file_of(b"0123456789");
        file.seek(SeekFrom::Start(4)).unwrap();
        let put = |source: &File, length| put_fd(end, b"new", source.as_fd(), length, &options);
        put(&file, None).unwrap();
        assert_eq!(tree.read("new"), b"456789");
        file.seek(SeekFrom::Start(4)).unwrap();
        put(&file, Some(2)).unwrap();
        assert_eq!(tree.read("new"), b"45");
        file.seek(SeekFrom::Start(20)).unwrap();
        put(&file, None).unwrap();
        assert_eq!(tree.read("new"), b"");

        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"piped and more").unwrap();
        let reader = File::from(std::os::fd::OwnedFd::from(reader));
        assert_eq!(kind(put(&reader, None)), ErrorKind::Argument);
        put(&reader, Some(5)).unwrap();
        assert_eq!(tree.read("new"), b"piped");
    });
}

#[test]
fn the_store_is_as_the_client_asks_within_what_the_server_allows() {
    alone("whole::the_store_is_as_the_client_asks_within_what_the_server_allows", || {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let tree = Tree::new();
        let mode = |name| fs::metadata(tree.at(name)).unwrap().mode() & 0o7777;
        with_server(&tree, |end| {
            let raw = |rest: &str| {
                let header =
                    format!(r#"{{"cmd":"put","filename":"new","filesize":0,"data_size":0{rest}}}"#);
                assert_eq!(end.ask(&header, b""), "ok");
            };
            raw("");
            assert_eq!(mode("new"), 0o644);
            raw(r#","mode":"7777""#);
            assert_eq!(mode("new"), 0o755);
            raw(r#","mode":"0600","mtime":-1500"#);
            let stat = fs::metadata(tree.at("new")).unwrap();
            let modified = (stat.mtime(), stat.mtime_nsec());
            assert_eq!((mode("new"), modified), (0o600, (-2, 500_000_000)));

            let options = Transfer {
                mode: Some(0o751),
                mtime: Some(1_700_000_000_123),
                overwrite: false,
                ..plain()
            };
            let source = file_of(b"x");
            let put = |name: &[u8]| put_fd(end, name, source.as_fd(), Some(0), &options);
            assert_eq!(kind(put(b"new")), ErrorKind::RemoteExists);
            put(b"fresh").unwrap();
            let modified = fs::metadata(tree.at("fresh")).unwrap().mtime_nsec();
            assert_eq!((mode("fresh"), modified), (0o751, 123_000_000));
        });
        let private = || ServeOptions { mode: Some(0o600), ..ServeOptions::default() };
        let (stored, _) = against(Kind::Unix, &tree, private, |end| put(end, "private", b""));
        stored.unwrap();
        assert_eq!(mode("private"), 0o600);
    });
}

#[test]
fn a_server_that_keeps_files_keeps_them() {
    let tree = Tree::new();
    let keep = || ServeOptions { overwrite: false, ..ServeOptions::default() };
    let ((), _) = against(Kind::Unix, &tree, keep, |end| {
        let header = r#"{"cmd":"put","filename":"old","filesize":3,"overwrite":true}"#;
        assert_eq!(end.ask(header, b"new"), "exists");
        end.assert_in_sync();
    });
    tree.assert_untouched();
}

#[test]
fn names_are_bytes() {
    let tree = Tree::new();
    let names: [&[u8]; 6] =
        [b"caf\xe9", "caf\u{e9}".as_bytes(), "cafe\u{301}".as_bytes(), b"-rf", b"x ", b"OLD"];
    with_server(&tree, |end| {
        let options = plain();
        for name in names {
            put_fd(end, name, file_of(name).as_fd(), None, &options).unwrap();
        }
        for name in names {
            let copy = tree.local("copy");
            get_path(end, name, &copy, &options).unwrap();
            assert_eq!(fs::read(copy).unwrap(), name);
        }
        let reply = || end.recv().header.string("filename_b64").unwrap().into_owned();
        end.send_raw(r#"{"cmd":"get","filename_b64":"Y2Fm6Q=="}"#, b"");
        assert_eq!(reply(), "Y2Fm6Q==");
        let put = r#"{"cmd":"put","filename_b64":"Y2Fm6Q==","filesize":0,"data_size":0}"#;
        end.send_raw(put, b"");
        assert_eq!(reply(), "Y2Fm6Q==");
    });
    assert_eq!(tree.names().len(), names.len() + 1);
}

#[test]
fn every_reply_repeats_the_id() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        for rest in [
            r#""cmd":"get","filename":"old""#,
            r#""cmd":"get","filename":"missing""#,
            r#""cmd":"put","filename":"new","filesize":0"#,
            r#""cmd":"put","filename":"..","filesize":0"#,
            r#""cmd":"put","data_size":0,"filesize":-1"#,
            r#""cmd":"dance""#,
            r#""cmd":7"#,
        ] {
            end.send_raw(&format!(r#"{{{rest},"id":"an id"}}"#), b"");
            assert_eq!(end.recv().header.string("id").unwrap(), "an id", "{rest}");
            end.send_raw(&format!(r#"{{{rest},"id":-7}}"#), b"");
            assert_eq!(end.recv().header.integer("id").unwrap(), -7, "{rest}");
        }
    });
}

#[test]
fn a_digest_is_sent_with_what_is_got_where_it_is_asked_for() {
    let tree = Tree::new();
    with_server(&tree, |end| {
        end.send_raw(r#"{"cmd":"get","filename":"old","trailer":true}"#, b"");
        let reply = end.recv();
        assert!(reply.header.boolean("trailer").unwrap());
        assert_eq!(end.recv().header.string("sha256").unwrap(), digest(b"old"));

        end.send_raw(r#"{"cmd":"get","filename":"old"}"#, b"");
        let reply = end.recv();
        let text = r#"{"data_size":3,"status":"ok","filename":"old","filesize":3,"mode":""#;
        assert!(reply.header.text().starts_with(text), "{}", reply.header.text());
        assert!(!reply.header.text().contains("trailer"));

        let unhashed = Transfer { checksum: false, ..plain() };
        let (got, bytes) = get_with(end, "old", &unhashed);
        assert_eq!((got.unwrap().sha256, bytes), (None, b"old".to_vec()));
    });
}

#[test]
fn a_server_that_does_not_hash_still_checks_what_it_is_sent() {
    let tree = Tree::new();
    let unhashed = || ServeOptions { checksum: false, ..ServeOptions::default() };
    against(Kind::Unix, &tree, unhashed, |end| {
        let put = r#"{"cmd":"put","filename":"new","filesize":3,"data_size":3"#;
        let wrong = digest(b"other");
        assert_eq!(end.ask(&format!(r#"{put},"sha256":"{wrong}"}}"#), b"new"), "checksum");
        end.send_raw(&format!("{put}}}"), b"new");
        assert_eq!(end.recv().header.string("sha256").unwrap_err().kind(), ErrorKind::Missing);
    });
}

#[test]
fn progress_is_told_and_can_break_off() {
    let tree = Tree::new();
    let size = 3 * MIB + 1;
    fs::write(tree.at("large"), content(size)).unwrap();
    let seen = RefCell::new(Vec::new());
    let note = |name: &[u8], done, total| {
        assert!(matches!(name, b"small" | b"broken" | b"large"));
        seen.borrow_mut().push((done, total));
        if done > 2 << 20 && total > 3 << 20 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let options = Transfer { progress: Some(&note), ..plain() };
    let (client, session) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
        let small = file_of(b"abc");
        put_fd(end, b"small", small.as_fd(), None, &options).unwrap();
        assert_eq!(seen.take(), [(3, 3)]);
        let large = file_of(&content(size));
        put_fd(end, b"broken", large.as_fd(), None, &options)
    });
    assert_eq!(kind(client), ErrorKind::Canceled);
    assert_eq!(session.end.kind(), ErrorKind::Truncated);
    let seen = seen.take();
    assert!(seen.is_sorted() && seen.last().unwrap().0 <= 3 << 20, "{seen:?}");
    assert_eq!(tree.names(), ["large", "old", "small"]);

    let copy = tree.local("copy");
    let (client, _) = against(Kind::Unix, &tree, ServeOptions::default, |end| {
        get_path(end, b"large", &copy, &options)
    });
    assert_eq!(kind(client), ErrorKind::Canceled);
    assert_eq!(names(&tree.local("")), [""; 0]);
}

#[test]
fn of_eight_puts_at_once_one_is_there_whole() {
    let tree = Tree::new();
    let start = Barrier::new(8);
    let bytes = |number: u8| vec![b'0' + number; 200_000];
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (tree, start) = (&tree, &start);
            scope.spawn(move || {
                with_server(tree, |end| {
                    start.wait();
                    put(end, "new", &bytes(number)).unwrap();
                });
            });
        }
    });
    let stored = tree.read("new");
    assert!((0..8).any(|number| stored == bytes(number)));
    assert_eq!(tree.names(), ["new", "old"]);
}

#[test]
fn who_gets_a_file_that_is_put_meanwhile_gets_the_old_one_whole() {
    let tree = Tree::new();
    let (old, new) = (vec![b'o'; 4 * MIB], vec![b'n'; 4 * MIB]);
    fs::write(tree.at("file"), &old).unwrap();
    let unhashed = Transfer { checksum: false, ..plain() };
    with_server(&tree, |getter| {
        let header = r#"{"cmd":"get","filename":"file"}"#;
        getter.send_raw(header, b"");
        let reply = peer::next(&getter.reader).unwrap();
        with_server(&tree, |putter| {
            let source = file_of(&new);
            put_fd(putter, b"file", source.as_fd(), None, &unhashed).unwrap();
        });
        assert!(tree.read("file") == new);
        assert!(reply.body() == old);
    });
}

#[test]
fn what_grows_is_sent_as_large_as_it_was() {
    let tree = Tree::new();
    let size = 4 * MIB;
    fs::write(tree.at("log"), vec![b'x'; size]).unwrap();
    with_server(&tree, |end| {
        end.send_raw(r#"{"cmd":"get","filename":"log"}"#, b"");
        let reply = peer::next(&end.reader).unwrap();
        let mut log = File::options().append(true).open(tree.at("log")).unwrap();
        log.write_all(b"more").unwrap();
        assert_eq!(reply.header()["filesize"], size);
        assert!(reply.body() == vec![b'x'; size]);
        end.assert_in_sync();
    });
}

/// The kernel says that these have 0 bytes, or a page, and has fewer or more.
#[test]
fn files_of_proc_and_sys_are_sent_whole() {
    let tree = Tree::new();
    let mut sources = vec!["/proc/version", "/proc/cpuinfo"];
    sources.extend(["/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/notes"]);
    with_server(&tree, |end| {
        for source in sources.into_iter().filter(|source| Path::new(source).exists()) {
            put_path(end, b"put", Path::new(source), &plain()).unwrap();
            assert_eq!(tree.read("put").len(), fs::read(source).unwrap().len(), "{source}");
            let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
            assert_eq!(mode(&tree.at("put")) & !mode(Path::new(source)), 0, "{source}");
            fs::remove_file(tree.at("put")).unwrap();
        }
        let top = Path::new("/proc/sys/kernel/random");
        // Some are for root only.
        let _ = send_tree(end, b"random", top, &plain());
        assert_eq!(tree.read("random/poolsize"), fs::read(top.join("poolsize")).unwrap());
    });
    let proc = File::open("/proc").unwrap();
    let (client, server) = Kind::Unix.connect();
    std::thread::scope(|scope| {
        scope.spawn(move || serve(&server, &proc, &ServeOptions::default()));
        let (got, bytes) = get(&client, "version");
        assert_eq!((got.unwrap().bytes, bytes), {
            let version = fs::read("/proc/version").unwrap();
            (version.len() as u64, version)
        });
        drop(client);
    });
}

#[test]
fn a_sparse_file_stays_sparse() {
    let tree = Tree::new();
    let source = tree.local("sparse");
    let file = File::create(&source).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 5 << 20).unwrap();
    file.set_len(16 << 20).unwrap();
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    with_server(&tree, |end| {
        put_path(end, b"sparse", &source, &plain()).unwrap();
        get_path(end, b"sparse", &tree.local("back"), &plain()).unwrap();
    });
    assert!(fs::read(tree.local("back")).unwrap() == fs::read(&source).unwrap());
    for stored in [tree.at("sparse"), tree.local("back")] {
        assert!(blocks(&stored) <= blocks(&source) + 64, "{} blocks", blocks(&stored));
    }
}
