//! Files whose way was cut, and the rest of them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use framefd::io::fs::root::Root;
use framefd::io::fs::store::{NewFile, StoreOptions};
use framefd::ops::file::{ServeOptions, Transfer, Transferred};
use framefd::ops::frame;
use framefd::wire::name::Name;
use framefd::{ErrorKind, Result};
use serde_json::Value;

use crate::common::proxy::{self, Fault, at_every_offset};
use crate::common::{encoded, kind, sealing};
use crate::{
    End, Kind, Tree, against, content, digest, file_of, get_fd, get_path, names, plain, put_fd,
    put_path, quick, rewound, serve, unhashed_file,
};

const MIB: usize = 1024 * 1024;

pub fn resuming() -> Transfer<'static> {
    Transfer { resume: true, ..plain() }
}

fn end(stream: &UnixStream) -> End {
    let clone = || OwnedFd::from(stream.try_clone().unwrap());
    End { reader: clone(), writer: clone() }
}

/// The same for a get that does not wait for the disk.
fn unsynced() -> Transfer<'static> {
    Transfer { sync: false, ..resuming() }
}

/// The frames in these bytes: headers and sizes of bodies.
fn frames(mut bytes: &[u8]) -> Vec<(Value, usize)> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(4) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&rest[..length]).unwrap();
        let body = usize::try_from(header["data_size"].as_u64().unwrap()).unwrap();
        bytes = &rest[length + body..];
        frames.push((header, body));
    }
    frames
}

/// Bytes of content in them.
fn content_of(bytes: &[u8]) -> usize {
    frames(bytes).iter().map(|(_, body)| body).sum()
}

/// What came of an exchange that was not cut, and the bytes that went each way.
struct Passed<T> {
    client: T,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

fn through<T>(tree: &Tree, client: impl FnOnce(&End) -> T) -> Passed<T> {
    // The proxy's client is our server, as only that one has a thread of its own.
    let server = |stream: &UnixStream| drop(serve(&end(stream), &tree.root, &quick()));
    let passed = proxy::run(Fault::None, server, |stream| client(&end(stream)));
    let proxy::Outcome { server: client, to_server, to_client, .. } = passed;
    Passed { client, to_server: to_client, to_client: to_server }
}

/// The size of the one partial file in the directory, if there is one.
fn partial_size(dir: &Path) -> Option<usize> {
    let partial = names(dir).into_iter().find(|name| name.starts_with(".framefd-"))?;
    assert_eq!(Path::new(&partial).extension().unwrap(), "part");
    Some(usize::try_from(fs::metadata(dir.join(partial)).unwrap().len()).unwrap())
}

fn check_whole(passed: Transferred, bytes: &[u8]) {
    assert_eq!(passed.bytes, bytes.len() as u64);
    assert_eq!(passed.sha256.unwrap().to_string(), digest(bytes));
}

#[test]
fn a_put_that_is_cut_at_any_byte_goes_on_from_there() {
    let tree = Tree::new();
    let bytes = content(20);
    fs::write(tree.local("source"), &bytes).unwrap();
    let put = |end: &End| put_path(end, b"new", &tree.local("source"), &resuming());
    let client = |stream: &UnixStream| put(&end(stream));
    let server = |stream: &UnixStream| serve(&end(stream), &tree.root, &quick());
    let kept = RefCell::new(Vec::new());
    at_every_offset(client, server, |fault, put_first: Result<Transferred>, _| {
        let there = partial_size(&tree.at(""));
        if tree.names().contains(&"new".to_owned()) {
            // Only the reply was cut, or nothing.
            assert_eq!((tree.read("new"), there), (bytes.clone(), None), "{fault:?}");
        } else {
            assert!(put_first.is_err(), "{fault:?}");
            let again = through(&tree, put);
            check_whole(again.client.unwrap(), &bytes);
            assert_eq!(content_of(&again.to_server), 20 - there.unwrap_or(0), "{fault:?}");
            kept.borrow_mut().extend(there);
        }
        assert_eq!((tree.read("new"), partial_size(&tree.at(""))), (bytes.clone(), None));
        fs::remove_file(tree.at("new")).unwrap();
    });
    let mut kept = kept.take();
    kept.dedup();
    assert!(kept.is_sorted() && kept.len() >= 20, "{kept:?}");
}

#[test]
fn a_get_that_is_cut_at_any_byte_goes_on_from_there() {
    let tree = Tree::new();
    let bytes = content(20);
    fs::write(tree.at("file"), &bytes).unwrap();
    let copy = tree.local("copy");
    let get = |end: &End| get_path(end, b"file", &copy, &unsynced());
    let client = |stream: &UnixStream| get(&end(stream));
    let server = |stream: &UnixStream| serve(&end(stream), &tree.root, &quick());
    let kept = RefCell::new(Vec::new());
    at_every_offset(client, server, |fault, got: Result<Transferred>, _| {
        let there = partial_size(&tree.local(""));
        assert_eq!(got.is_ok(), copy.exists(), "{fault:?}");
        if got.is_err() {
            let again = through(&tree, get);
            check_whole(again.client.unwrap(), &bytes);
            assert_eq!(content_of(&again.to_client), 20 - there.unwrap_or(0), "{fault:?}");
            kept.borrow_mut().extend(there);
        }
        assert_eq!((fs::read(&copy).unwrap(), names(&tree.local(""))), {
            (bytes.clone(), vec!["copy".into()])
        });
        fs::remove_file(&copy).unwrap();
    });
    let mut kept = kept.take();
    kept.dedup();
    assert!(kept.is_sorted() && kept.len() >= 20, "{kept:?}");
}

/// Breaks off at that many bytes, or as soon as there are as many.
fn until(bytes: usize) -> impl Fn(&[u8], u64, u64) -> ControlFlow<()> {
    move |_, done, _| {
        if done >= bytes as u64 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn a_file_of_many_pieces_is_cut_between_any_two() {
    let bytes = content(3 * MIB + 1);
    let tree = Tree::new();
    fs::write(tree.at("file"), &bytes).unwrap();
    for cut in [MIB, 2 * MIB, 3 * MIB, 3 * MIB + 1] {
        let stop = until(cut);
        let stopping = Transfer { progress: Some(&stop), ..resuming() };
        let source = file_of(&bytes);
        let (put, _) = against(Kind::Unix, &tree, quick, |end| {
            put_fd(end, b"new", source.as_fd(), None, &stopping)
        });
        assert_eq!(kind(put), ErrorKind::Canceled);
        assert_eq!(partial_size(&tree.at("")), Some(cut));
        let again = through(&tree, |end| {
            let source = rewound(source);
            put_fd(end, b"new", source.as_fd(), None, &resuming())
        });
        check_whole(again.client.unwrap(), &bytes);
        assert_eq!(content_of(&again.to_server), bytes.len() - cut);
        assert!(tree.read("new") == bytes);
        assert_eq!(tree.names(), ["file", "new", "old"]);

        let copy = tree.local("copy");
        let (got, _) = against(Kind::Unix, &tree, quick, |end| {
            get_path(end, b"file", &copy, &Transfer { sync: false, ..stopping })
        });
        assert_eq!(kind(got), ErrorKind::Canceled);
        let there = partial_size(&tree.local("")).unwrap();
        assert!(there >= cut && !copy.exists());
        let again = through(&tree, |end| get_path(end, b"file", &copy, &unsynced()));
        check_whole(again.client.unwrap(), &bytes);
        assert_eq!(content_of(&again.to_client), bytes.len() - there);
        assert!(fs::read(&copy).unwrap() == bytes);
        assert_eq!(names(&tree.local("")), ["copy"]);
        fs::remove_file(copy).unwrap();
    }
}

/// Puts the bytes, and is cut when so many have passed.
fn put_a_part(tree: &Tree, bytes: &[u8], cut: usize) {
    let (client, server) = Kind::Unix.connect();
    let header = format!(
        r#"{{"cmd":"put","filename":"new","filesize":{0},"data_size":{0},"resume":true}}"#,
        bytes.len()
    );
    client.send(&encoded(&header, &bytes[..cut]));
    client.half_close();
    serve(&server, &tree.root, &ServeOptions::default());
    assert_eq!(partial_size(&tree.at("")), Some(cut));
}

#[test]
fn a_put_starts_over_where_the_source_is_another() {
    let old = content(1000);
    let mut other = content(1000);
    other[3] ^= 1;
    let cases = [
        ("another content", other, 1000),
        ("shorter than what is there", old[..499].to_vec(), 499),
        ("as short as what is there", old[..500].to_vec(), 0),
        ("longer", [&old[..], b"more"].concat(), 504),
        ("another end", [&old[..600], b"more"].concat(), 104),
        ("empty", vec![], 0),
    ];
    for (case, bytes, sent) in cases {
        for checksum in [true, false] {
            let tree = Tree::new();
            put_a_part(&tree, &old, 500);
            let source = file_of(&bytes);
            let options = Transfer { checksum, ..resuming() };
            let put = through(&tree, |end| put_fd(end, b"new", source.as_fd(), None, &options));
            assert_eq!(put.client.unwrap().bytes, bytes.len() as u64, "{case}");
            assert_eq!(content_of(&put.to_server), sent, "{case}");
            assert_eq!((tree.read("new"), tree.names().len()), (bytes.clone(), 2), "{case}");
        }
    }
}

#[test]
fn a_put_resumes_what_stands_in_the_middle_of_a_source() {
    let tree = Tree::new();
    put_a_part(&tree, &content(1000)[300..900], 100);
    let mut source = file_of(&content(1000));
    source.seek(SeekFrom::Start(300)).unwrap();
    let put = through(&tree, |end| put_fd(end, b"new", source.as_fd(), Some(600), &resuming()));
    assert_eq!((put.client.unwrap().bytes, content_of(&put.to_server)), (600, 500));
    assert_eq!(tree.read("new"), &content(1000)[300..900]);
}

#[test]
fn a_source_that_cannot_go_back_is_put_from_its_start() {
    let tree = Tree::new();
    put_a_part(&tree, &content(1000), 500);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&content(1000)).unwrap();
    let put = through(&tree, |end| put_fd(end, b"new", reader.as_fd(), Some(1000), &resuming()));
    check_whole(put.client.unwrap(), &content(1000));
    assert_eq!(content_of(&put.to_server), 1000);
    assert_eq!(tree.read("new"), content(1000));
}

#[test]
fn a_source_that_changes_while_it_is_put_is_refused_or_put_as_it_was() {
    // It is cut once the rest is announced.
    let tree = Tree::new();
    let bytes = content(4 * MIB);
    put_a_part(&tree, &bytes, 1000);
    let source = file_of(&bytes);
    let cut = |_: &[u8], _, _| {
        source.set_len(2 * MIB as u64).unwrap();
        ControlFlow::Continue(())
    };
    let options = Transfer { progress: Some(&cut), ..resuming() };
    let (put, _) = against(Kind::Unix, &tree, quick, |end| {
        put_fd(end, b"new", source.as_fd(), None, &options)
    });
    assert_eq!(kind(put), ErrorKind::Truncated);
    assert_eq!((tree.names().len(), tree.read("old")), (2, b"old".to_vec()));
    // It grows, and what was announced is what arrives.
    let source = file_of(&bytes);
    let grow = |_: &[u8], _, _| {
        source.set_len(5 * MIB as u64).unwrap();
        ControlFlow::Continue(())
    };
    let options = Transfer { progress: Some(&grow), ..resuming() };
    let (put, _) = against(Kind::Unix, &tree, quick, |end| {
        put_fd(end, b"new", source.as_fd(), None, &options)
    });
    check_whole(put.unwrap(), &bytes);
    assert!(tree.read("new") == bytes);
}

/// A request's command, its header and its body.
pub type Asked = (String, Value, Vec<u8>);

/// Answers one request after the other, and returns them.
pub fn scripted<T>(replies: &[Vec<u8>], client: impl FnOnce(&End) -> T) -> (T, Vec<Asked>) {
    answered(replies, sealing::repeating, client)
}

/// The same if `finish` makes a reply of the request's id and what is scripted.
pub fn answered<T>(
    replies: &[Vec<u8>],
    finish: for<'a> fn(&str, &'a [u8]) -> Cow<'a, [u8]>,
    client: impl FnOnce(&End) -> T,
) -> (T, Vec<Asked>) {
    let (client_end, server_end) = Kind::Unix.connect();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let mut seen = Vec::new();
            for reply in replies {
                let mut request = server_end.recv();
                if request.header.string("cmd").is_err() {
                    request = server_end.recv(); // that was a trailer
                }
                let header: Value = serde_json::from_str(request.header.text()).unwrap();
                if header["trailer"] == true && header["cmd"] == "put" {
                    let trailer = server_end.recv();
                    assert!(trailer.header.string("sha256").is_ok());
                }
                let cmd = header["cmd"].as_str().unwrap().to_owned();
                server_end.send(&finish(header["id"].as_str().unwrap(), reply));
                seen.push((cmd, header, request.body));
            }
            let rest = frame::recv(server_end.reader.as_fd(), &frame::Options::default());
            assert!(rest.is_err(), "{rest:?}");
            seen
        });
        let outcome = client(&client_end);
        drop(client_end);
        (outcome, server.join().unwrap())
    })
}

fn error(code: &str) -> Vec<u8> {
    encoded(&format!(r#"{{"status":"error","code":"{code}"}}"#), b"")
}

fn partial(bytes: &[u8]) -> Vec<u8> {
    let sha256 = digest(bytes);
    encoded(&format!(r#"{{"status":"ok","size":{},"sha256":"{sha256}"}}"#, bytes.len()), b"")
}

#[test]
fn a_put_that_is_refused_its_offset_starts_over_on_the_same_connection() {
    let put = |replies: &[Vec<u8>]| {
        let source = file_of(b"abcdef");
        scripted(replies, |end| put_fd(end, b"new", source.as_fd(), None, &resuming()))
    };
    let done = || encoded(r#"{"status":"ok","filesize":6}"#, b"");
    for code in ["checksum", "bad_request"] {
        let (sent, seen) = put(&[partial(b"abc"), error(code), done()]);
        check_whole(sent.unwrap(), b"abcdef");
        let [(stat, asked, _), (_, first, rest), (_, second, all)] = &seen[..] else { panic!() };
        assert_eq!((&**stat, &asked["partial"]), ("stat", &Value::from(true)));
        assert_eq!((&first["offset"], &**rest), (&Value::from(3), &b"def"[..]));
        assert_eq!(first["prefix_sha256"], digest(b"abc"));
        assert_eq!((second.get("offset"), &**all), (None, &b"abcdef"[..]));
        assert_eq!((&first["resume"], &second["resume"]), (&true.into(), &true.into()));
        assert_eq!((&first["filesize"], &second["filesize"]), (&6.into(), &6.into()));
    }
    // Once, and not for everything.
    let (sent, seen) = put(&[partial(b"abc"), error("checksum"), error("checksum")]);
    assert_eq!((kind(sent), seen.len()), (ErrorKind::RemoteChecksum, 3));
    let (sent, seen) = put(&[partial(b"abc"), error("no_space")]);
    assert_eq!((kind(sent), seen.len()), (ErrorKind::RemoteNoSpace, 2));
    let (sent, seen) = put(&[error("not_found"), error("checksum")]);
    assert_eq!((kind(sent), seen.len()), (ErrorKind::RemoteChecksum, 2));
    for code in ["busy", "io"] {
        let (sent, seen) = put(&[error(code)]);
        assert!(sent.unwrap_err().kind().is_remote() && seen.len() == 1, "{code}");
    }
    // A server that knows nothing of it is given what it knows.
    let (sent, seen) = put(&[error("unsupported"), done()]);
    check_whole(sent.unwrap(), b"abcdef");
    assert_eq!((seen[1].1.get("resume"), &*seen[1].2), (None, &b"abcdef"[..]));
    // One that tells nothing of what it has is given the whole.
    let (sent, seen) = put(&[error("denied"), done()]);
    check_whole(sent.unwrap(), b"abcdef");
    assert_eq!((&seen[1].1["resume"], &*seen[1].2), (&true.into(), &b"abcdef"[..]));
    // What it has may be anything.
    for theirs in [partial(b"abd"), partial(b"abcdefg"), partial(b"")] {
        let (sent, seen) = put(&[theirs, done()]);
        check_whole(sent.unwrap(), b"abcdef");
        assert_eq!((seen[1].1.get("offset"), &*seen[1].2), (None, &b"abcdef"[..]));
    }
    let huge = String::from_utf8(partial(b"abc"))
        .unwrap()
        .split_off(4)
        .replace("\"size\":3", "\"size\":-3");
    assert_eq!(kind(put(&[encoded(&huge, b"")]).0), ErrorKind::BadReply);
    let (sent, _) = put(&[encoded(r#"{"status":"ok","size":3}"#, b"")]);
    assert_eq!(kind(sent), ErrorKind::BadReply);
    let lie = encoded(r#"{"status":"ok","filesize":3}"#, b"");
    assert_eq!(kind(put(&[partial(b"abc"), lie]).0), ErrorKind::Checksum);
}

#[test]
fn an_offset_is_what_the_server_has_already() {
    let options = Transfer { offset: 3, ..plain() };
    let put = |source: &File, length, options: &Transfer<'_>, replies: &[Vec<u8>]| {
        scripted(replies, |end| put_fd(end, b"x", source.as_fd(), length, options))
    };
    let at = |start: u64| {
        let mut source = file_of(b"-abcdef");
        source.seek(SeekFrom::Start(start)).unwrap();
        source
    };
    let done = || encoded(r#"{"status":"ok","filesize":6}"#, b"");
    let (sent, seen) = put(&at(4), None, &options, &[done()]);
    check_whole(sent.unwrap(), b"abcdef");
    let (_, header, body) = &seen[0];
    assert_eq!((&header["offset"], &header["filesize"]), (&3.into(), &6.into()));
    assert_eq!(body, b"def");
    assert_eq!((&header["prefix_sha256"], header.get("resume")), (&digest(b"abc").into(), None));
    let (sent, _) = put(&at(4), Some(3), &options, &[error("checksum")]);
    assert_eq!(kind(sent), ErrorKind::RemoteChecksum);
    let (sent, _) = put(&at(2), None, &options, &[]);
    assert_eq!(kind(sent), ErrorKind::Argument);
    let (sent, _) = put(&at(4), Some(u64::MAX), &options, &[]);
    assert_eq!(kind(sent), ErrorKind::Argument);
    let (sent, _) = put(&at(4), None, &Transfer { reply: false, ..options }, &[]);
    assert_eq!(kind(sent), ErrorKind::Argument);
    // What cannot be read again has no digest.
    let pipe = || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"def").unwrap();
        File::from(OwnedFd::from(reader))
    };
    let (sent, _) = put(&pipe(), Some(3), &options, &[]);
    assert_eq!(kind(sent), ErrorKind::Argument);
    let unhashed = Transfer { checksum: false, ..options };
    let (sent, seen) = put(&pipe(), Some(3), &unhashed, &[done()]);
    assert_eq!(sent.unwrap(), unhashed_file(6));
    assert_eq!((seen[0].1.get("prefix_sha256"), &*seen[0].2), (None, &b"def"[..]));
}

#[test]
fn an_offset_of_a_path_is_its_first_bytes() {
    let tree = Tree::new();
    fs::write(tree.local("source"), b"abcdef").unwrap();
    let put = |offset| {
        put_a_part(&tree, b"abcdef", 3);
        let options = Transfer { offset, ..resuming() };
        through(&tree, |end| put_path(end, b"new", &tree.local("source"), &options))
    };
    let whole = put(3);
    check_whole(whole.client.unwrap(), b"abcdef");
    assert_eq!((content_of(&whole.to_server), tree.read("new")), (3, b"abcdef".to_vec()));
    assert_eq!(kind(put(7).client), ErrorKind::Argument);
}

#[test]
fn the_rest_of_a_file_is_got_into_a_descriptor() {
    let tree = Tree::new();
    fs::write(tree.at("file"), b"abcdef").unwrap();
    let get = |start: &[u8], options: &Transfer<'_>| {
        let mut dest = tempfile::tempfile().unwrap();
        dest.write_all(start).unwrap();
        let got = through(&tree, |end| get_fd(end, b"file", dest.as_fd(), options));
        let mut bytes = Vec::new();
        rewound(dest).read_to_end(&mut bytes).unwrap();
        (got.client, bytes, content_of(&got.to_client))
    };
    let from = |offset| Transfer { offset, ..plain() };
    let (got, bytes, passed) = get(b"-abc", &from(3));
    check_whole(got.unwrap(), b"abcdef");
    assert_eq!((&*bytes, passed), (&b"-abcdef"[..], 3));
    let (got, bytes, passed) = get(b"abcdef", &from(6));
    check_whole(got.unwrap(), b"abcdef");
    assert_eq!((&*bytes, passed), (&b"abcdef"[..], 0));
    let (got, bytes, _) = get(b"abd", &from(3));
    assert_eq!((kind(got), &*bytes), (ErrorKind::RemoteChecksum, &b"abd"[..]));
    let (got, bytes, _) = get(b"abcdefg", &from(7));
    assert_eq!((kind(got), &*bytes), (ErrorKind::RemoteBadRequest, &b"abcdefg"[..]));
    let (got, _, _) = get(b"ab", &from(3));
    assert_eq!(kind(got), ErrorKind::Argument);
    // Without a digest what was there is not looked at.
    let unhashed = Transfer { checksum: false, ..from(3) };
    let (got, bytes, _) = get(b"?", &unhashed);
    assert_eq!(got.unwrap(), unhashed_file(6));
    assert_eq!(bytes, b"?def");
    let (reader, writer) = std::io::pipe().unwrap();
    let got = through(&tree, |end| {
        let piped = get_fd(end, b"file", writer.as_fd(), &from(3));
        assert_eq!(kind(piped), ErrorKind::Argument);
        get_fd(end, b"file", writer.as_fd(), &unhashed)
    });
    got.client.unwrap();
    drop(writer);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "def");
}

/// What a get of `old` that was cut has left at the path.
fn get_a_part(path: &Path, bytes: &[u8]) {
    let dir = File::open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().as_encoded_bytes();
    let (root, name) = (Root::new(dir.as_fd()).unwrap(), Name::new(name).unwrap());
    let mut file = NewFile::resume(root, name, StoreOptions::DEFAULT, 0, &mut |_| Ok(())).unwrap();
    file.write(bytes).unwrap();
}

#[test]
fn a_get_starts_over_where_the_file_is_another() {
    let here = content(500);
    let mut other = content(1000);
    other[3] ^= 1;
    let cases = [
        ("the same", content(1000), 500),
        ("another content", other, 1000),
        ("shorter than what is here", content(499), 499),
        ("as short as what is here", content(500), 0),
        ("empty", vec![], 0),
    ];
    for (case, bytes, passed) in cases {
        for checksum in [true, false] {
            let tree = Tree::new();
            fs::write(tree.at("file"), &bytes).unwrap();
            let copy = tree.local("copy");
            get_a_part(&copy, &here);
            let options = Transfer { checksum, ..resuming() };
            let got = through(&tree, |end| {
                let got = get_path(end, b"file", &copy, &options);
                end.assert_in_sync();
                got
            });
            assert_eq!(got.client.unwrap().bytes, bytes.len() as u64, "{case}");
            assert_eq!(content_of(&got.to_client), passed + 3, "{case}");
            assert!(fs::read(&copy).unwrap() == bytes, "{case}");
            assert_eq!(names(&tree.local("")), ["copy"], "{case}");
        }
    }
}

#[test]
fn a_get_that_does_not_match_in_the_end_leaves_nothing() {
    let get = |replies: &[Vec<u8>]| {
        let tree = Tree::new();
        let copy = tree.local("copy");
        get_a_part(&copy, b"abc");
        let (got, seen) = scripted(replies, |end| get_path(end, b"file", &copy, &unsynced()));
        (got, seen, partial_size(&tree.local("")), copy.exists())
    };
    let rest = |trailer: &str| {
        let header = r#"{"status":"ok","filesize":6,"data_size":3,"trailer":true}"#;
        [encoded(header, b"def"), encoded(trailer, b"")].concat()
    };
    let wrong = rest(&format!(r#"{{"sha256":"{}"}}"#, digest(b"abcdeg")));
    let (got, seen, left, there) = get(&[wrong]);
    assert_eq!((kind(got), left, there), (ErrorKind::Checksum, None, false));
    let (_, header, _) = &seen[0];
    assert_eq!((&header["offset"], &header["prefix_sha256"]), (&3.into(), &digest(b"abc").into()));
    let (got, _, left, there) = get(&[rest("{}")]);
    assert_eq!((kind(got), left, there), (ErrorKind::BadField, None, false));
    let (got, _, left, there) = get(&[rest(&format!(r#"{{"sha256":"{}"}}"#, digest(b"abcdef")))]);
    check_whole(got.unwrap(), b"abcdef");
    assert_eq!((left, there), (None, true));
    // An answer that fits nothing leaves what is here for the next time.
    for (reply, expected) in [
        (r#"{"status":"ok","filesize":6,"data_size":4}"#, ErrorKind::BadReply),
        (r#"{"status":"ok","filesize":2,"data_size":0}"#, ErrorKind::BadReply),
        (r#"{"status":"ok","filesize":6}"#, ErrorKind::BadReply),
        (r#"{"status":"error","code":"denied"}"#, ErrorKind::RemoteDenied),
    ] {
        let (got, _, left, there) = get(&[encoded(reply, b"")]);
        assert_eq!((kind(got), left, there), (expected, Some(3), false), "{reply}");
    }
    // A server that knows no offset, and says so or not, has all of it taken.
    let whole = || encoded(r#"{"status":"ok","filesize":6,"data_size":6}"#, b"uvwxyz");
    for replies in [vec![error("unsupported"), whole()], vec![whole()]] {
        let (got, seen, left, there) = get(&replies);
        check_whole(got.unwrap(), b"uvwxyz");
        assert_eq!((seen.len(), left, there), (replies.len(), None, true));
    }
}

#[test]
fn a_partial_file_that_somebody_writes_is_not_touched() {
    let tree = Tree::new();
    let copy = tree.local("copy");
    get_a_part(&copy, b"o");
    let dir = File::open(tree.local("")).unwrap();
    let (root, name) = (Root::new(dir.as_fd()).unwrap(), Name::new(b"copy").unwrap());
    let held = NewFile::resume(root, name, StoreOptions::DEFAULT, 0, &mut |_| Ok(())).unwrap();
    // It is not silent, however long the get has to wait for a processor.
    let part =
        names(&tree.local("")).into_iter().find(|name| name.starts_with(".framefd-")).unwrap();
    let part = File::options().write(true).open(tree.local(&part)).unwrap();
    part.set_modified(SystemTime::now() + Duration::from_secs(1000)).unwrap();
    let got = through(&tree, |end| get_path(end, b"old", &copy, &unsynced()));
    assert_eq!(kind(got.client), ErrorKind::Busy);
    assert!(got.to_server.is_empty());
    drop(held);
    through(&tree, |end| get_path(end, b"old", &copy, &unsynced())).client.unwrap();
    assert_eq!(fs::read(copy).unwrap(), b"old");
}

#[test]
fn offsets_beyond_32_bits() {
    let tree = Tree::new();
    let size = (4 << 30) + 1;
    let sparse = File::create(tree.at("sparse")).unwrap();
    sparse.set_len(size - 1).unwrap();
    File::options().append(true).open(tree.at("sparse")).unwrap().write_all(b"x").unwrap();
    let unhashed = Transfer { checksum: false, offset: size - 1, ..plain() };
    let dest = tempfile::tempfile().unwrap();
    let got = through(&tree, |end| get_fd(end, b"sparse", dest.as_fd(), &unhashed));
    assert_eq!(got.client.unwrap(), unhashed_file(size));
    assert_eq!(std::io::read_to_string(rewound(dest)).unwrap(), "x");

    let mut source = File::open(tree.at("sparse")).unwrap();
    source.seek(SeekFrom::Start(size - 1)).unwrap();
    let reply = encoded(&format!(r#"{{"status":"ok","filesize":{size}}}"#), b"");
    let (put, seen) =
        scripted(&[reply], |end| put_fd(end, b"new", source.as_fd(), None, &unhashed));
    assert_eq!(put.unwrap().bytes, size);
    let (_, header, body) = &seen[0];
    assert_eq!((&header["offset"], &header["filesize"]), (&(size - 1).into(), &size.into()));
    assert_eq!(body, b"x");
}
