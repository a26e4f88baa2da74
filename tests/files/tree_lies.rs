//! A client's trees against a server that lies about its own.

use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use framefd::ops::file::{self, Change, Links, Local, Mirror, Progress, Transfer, Transferred};
use framefd::ops::frame;
use framefd::wire::entry::Entry;
use framefd::wire::json::header::Header;
use framefd::{ErrorKind, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::common::process::{address_space, alone, peak_memory};
use crate::common::{encoded, kind, sealing};
use crate::{End, FIRST, Kind, Tree, names, plain, send_tree, take_tree};

/// Answers each request with the bytes that `answer` has for it.
fn lie(server: &End, answer: impl Fn(&str, &Header) -> Vec<u8>) {
    while let Ok(request) = frame::recv(server.reader.as_fd(), &frame::Options::default()) {
        let [cmd, id] = ["cmd", "id"].map(|key| request.header.string(key).unwrap());
        server.answer(&id, &answer(&cmd, &request.header));
    }
}

fn list(entries: &[&str]) -> Vec<u8> {
    reply_list(&format!("[{}]", entries.join(",")))
}

fn reply_list(body: &str) -> Vec<u8> {
    encoded(&format!(r#"{{"status":"ok","data_size":{}}}"#, body.len()), body.as_bytes())
}

fn entry(name: &str, rest: &str) -> String {
    let name = serde_json::to_string(name).unwrap();
    format!(r#"{{"name":{name},"size":3,"mode":"0644","mtime":0,{rest}}}"#)
}

fn content(bytes: &[u8]) -> Vec<u8> {
    let header = format!(r#"{{"status":"ok","filesize":{0},"data_size":{0}}}"#, bytes.len());
    encoded(&header, bytes)
}

/// Takes the tree `evil` from a server that answers like that, to a folder `copy` that
/// has a file, a directory and links that lead out of it.
fn get_tree(
    options: &Transfer<'_>,
    answer: impl Fn(&str, &Header) -> Vec<u8> + Send,
) -> (Result<Transferred>, Vec<String>) {
    get_tree_from(options, |server| lie(server, answer))
}

fn get_tree_from(
    options: &Transfer<'_>,
    server: impl FnOnce(&End) + Send,
) -> (Result<Transferred>, Vec<String>) {
    get_tree_by(server, |client, path| take_tree(client, b"evil", path, options))
}

fn get_tree_by(
    server: impl FnOnce(&End) + Send,
    get: impl FnOnce(&End, &Path) -> Result<Transferred>,
) -> (Result<Transferred>, Vec<String>) {
    let tree = Tree::new();
    for dir in ["copy", "copy/dir", "outside"] {
        fs::create_dir(tree.local(dir)).unwrap();
    }
    fs::write(tree.local("copy/file"), "mine").unwrap();
    fs::write(tree.local("outside/file"), "outside").unwrap();
    symlink("../outside", tree.local("copy/up")).unwrap();
    symlink("../outside/file", tree.local("copy/leaf")).unwrap();
    symlink("../outside/new", tree.local("copy/dangling")).unwrap();
    let (client, server_end) = Kind::Unix.connect();
    let got = std::thread::scope(|scope| {
        scope.spawn(move || server(&server_end));
        let client = client;
        get(&client, &tree.local("copy"))
    });
    assert_eq!(names(&tree.local("")), ["copy", "outside"]);
    assert_eq!(names(&tree.local("outside")), ["file"]);
    assert_eq!(fs::read(tree.local("outside/file")).unwrap(), b"outside");
    assert_eq!(tree.dir.path().read_dir().unwrap().count(), 2);
    (got, names(&tree.local("copy")))
}

/// One entry of the tree, with this in its name, could not be transferred because of `kind`.
fn assert_incomplete(got: Result<Transferred>, kind: ErrorKind, name: &str) {
    let error = got.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete, "{error}");
    assert!(error.detail().contains(name) && error.detail().contains(kind.text()), "{error}");
}

/// Nothing is in the folder but what was there.
const UNTOUCHED: [&str; 5] = ["dangling", "dir", "file", "leaf", "up"];

#[test]
fn names_that_lead_elsewhere() {
    let long = "x".repeat(256);
    let bad = [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "a/",
        "/a",
        "../a",
        "a/../../b",
        "/etc/passwd",
        "a\0b",
        ".framefd-0123456789abcdef.part",
        ".FRAMEFD-x",
        &long,
    ];
    let all = Transfer { links: Links::Copy, ..plain() };
    for name in bad {
        for rest in [r#""kind":"file""#, r#""kind":"dir""#, r#""kind":"symlink","target":"x""#] {
            let list = list(&[&entry(name, rest)]);
            let (got, there) = get_tree(&all, |cmd, _| match cmd {
                "list" => list.clone(),
                _ => content(b"abc"),
            });
            assert_eq!(kind(got), ErrorKind::Path, "{name:?} {rest}");
            assert_eq!(there, UNTOUCHED);
        }
    }
}

/// A mirror that removes what the server does not list, whatever it lists.
#[test]
fn what_a_mirror_removes_is_within_and_is_what_is_missing() {
    let report = |_: Change, _: &[u8]| ControlFlow::Continue(());
    let mirror = Mirror { digests: true, remove: true, dry_run: false, report: &report };
    let all = Transfer { links: Links::Copy, ..plain() };
    let dir = |name| entry(name, r#""kind":"dir""#);
    let file = |name| entry(name, r#""kind":"file""#);
    let up = entry("up", r#""kind":"symlink","target":"../outside""#);
    for (entries, error, expected) in [
        (vec![], None, &[][..]),
        (vec![dir("up"), dir("dangling")], None, &["dangling", "up"]),
        (vec![file("leaf"), file("dir")], None, &["dir", "leaf"]),
        (vec![up.replace(r#""up""#, r#""dir""#)], None, &[]),
        (vec![up], None, &["up"]),
        (vec![dir("../outside")], Some(ErrorKind::Path), &[]),
        (vec![dir("..")], Some(ErrorKind::Path), &[]),
        (vec![dir("a"), dir("a")], Some(ErrorKind::BadReply), &UNTOUCHED),
    ] {
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let top = list(&entries);
        let answer = |cmd: &str, request: &Header| match cmd {
            "list" if request.string("filename").unwrap() == "evil" => top.clone(),
            "list" => list(&[]),
            _ => content(b"abc"),
        };
        let (got, there) = get_tree_by(
            |server| lie(server, answer),
            |client, path| {
                let (name, local) = (&b"evil"[..], Local::Path(path));
                let what = Transfer { name, local, tree: true, sync: false, ..all };
                file::mirror_get(&mut client.connection(), &what, &mirror, None)
            },
        );
        assert_eq!(got.err().map(|error| error.kind()), error, "{entries:?}");
        assert_eq!(there, expected, "{entries:?}");
    }
}

#[test]
fn lists_that_are_none() {
    let file = entry("a", r#""kind":"file""#);
    let cases = [
        (reply_list("{}"), ErrorKind::BadReply),
        (reply_list("7"), ErrorKind::BadReply),
        (reply_list(""), ErrorKind::BadReply),
        (reply_list("["), ErrorKind::BadReply),
        (reply_list("[]]"), ErrorKind::BadReply),
        (reply_list(&format!("[{file},{file}]")), ErrorKind::BadReply),
        (reply_list(&format!("[{file},7]")), ErrorKind::BadReply),
        (reply_list(&format!("[{}]", file.replace('3', "-3"))), ErrorKind::BadReply),
        (reply_list(&format!("[{}]", file.replace('3', "3.5"))), ErrorKind::BadReply),
        (reply_list(&format!("[{}]", file.replace('3', "99999999999999999999"))), {
            ErrorKind::BadReply
        }),
        (reply_list(&format!("[{}]", file.replace("0644", "9"))), ErrorKind::BadReply),
        (reply_list(&format!("[{}]", file.replace("\"name\":\"a\",", ""))), ErrorKind::BadReply),
        (reply_list(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))), {
            ErrorKind::BadReply
        }),
        (encoded(r#"{"status":"ok","data_size":1073741824}"#, b"["), ErrorKind::TooBig),
        (encoded(r#"{"status":"ok","data_size":67108864}"#, b"["), ErrorKind::Truncated),
        (encoded(r#"{"status":"ok","data_size":-1}"#, b"["), ErrorKind::BadField),
        (encoded(r#"{"status":"ok"}"#, b""), ErrorKind::BadReply),
        (encoded(r#"{"status":"error","code":"not_found"}"#, b""), ErrorKind::RemoteNotFound),
        (encoded(r#"{"status":"ok","id":7,"data_size":2}"#, b"[]"), ErrorKind::BadReply),
    ];
    for (reply, expected) in cases {
        let (got, there) = get_tree_from(&plain(), |server| {
            server.recv();
            server.answer(FIRST, &reply);
        });
        let start = String::from_utf8_lossy(&reply[..reply.len().min(200)]).into_owned();
        assert_eq!(kind(got), expected, "{start}");
        assert_eq!(there, UNTOUCHED);
    }
}

#[test]
fn long_lists_of_nothing_take_no_more_than_they_have() {
    alone("tree_lies::long_lists_of_nothing_take_no_more_than_they_have", || {
        let size = 16 << 20;
        let keys = r#""":0,"#.repeat(size / 5);
        for bad in [
            format!("[{}0]", "0,".repeat(size / 2)),
            format!("[{{{}}}]", keys.trim_end_matches(',')),
        ] {
            let reply = reply_list(&bad);
            let (got, _) = get_tree(&plain(), |_, _| reply.clone());
            assert_eq!(kind(got), ErrorKind::BadReply);
        }
        // It is here several times: made, said, sent and received; a tunnel has it as well.
        let times = if sealing::are_sealed() { 12 } else { 8 };
        assert!(peak_memory() < times * size as u64, "{} bytes", peak_memory());
    });
}

#[test]
fn what_is_here_is_not_led_through() {
    for (name, rest, expected) in [
        ("up", r#""kind":"dir""#, ErrorKind::Exists),
        ("dangling", r#""kind":"dir""#, ErrorKind::Exists),
        ("file", r#""kind":"dir""#, ErrorKind::Exists),
        ("leaf", r#""kind":"file""#, ErrorKind::Path),
        ("dangling", r#""kind":"file""#, ErrorKind::Path),
        ("up", r#""kind":"file""#, ErrorKind::Path),
        ("dir", r#""kind":"file""#, ErrorKind::Path),
        ("file", r#""kind":"symlink","target":"dir""#, ErrorKind::Exists),
        ("dir", r#""kind":"symlink","target":"file""#, ErrorKind::Exists),
    ] {
        let top = list(&[&entry(name, rest)]);
        for resume in [false, true] {
            let options = Transfer { links: Links::Copy, resume, ..plain() };
            let (got, there) = get_tree(&options, |cmd, header| {
                match (cmd, header.string("filename").as_deref()) {
                    ("list", Ok("evil")) => top.clone(),
                    ("list", _) => list(&[&entry("x", r#""kind":"file""#)]),
                    _ => content(b"abc"),
                }
            });
            assert_incomplete(got, expected, &format!("evil/{name}"));
            assert_eq!(there, UNTOUCHED);
        }
    }
}

#[test]
fn links_that_lead_out() {
    let bad = [
        "",
        "..",
        "../x",
        "/",
        "/etc/passwd",
        "x/..",
        "x/../..",
        "x/../../y",
        "up/..",
        "dir/../..",
        "..//x",
        "./../x",
        "a\0b",
        ".framefd-x",
    ];
    let options = Transfer { links: Links::Copy, ..plain() };
    let skipped = Transferred { directories: 1, skipped: 1, ..Transferred::default() };
    for target in bad {
        let target = serde_json::to_string(target).unwrap();
        let link = entry("new", &format!(r#""kind":"symlink","target":{target}"#));
        let list = list(&[&link]);
        let (got, there) = get_tree(&options, |_, _| list.clone());
        assert_eq!((got.unwrap(), &*there), (skipped, &UNTOUCHED.map(String::from)[..]));
    }
    let no_target = list(&[&entry("new", r#""kind":"symlink""#)]);
    let (got, _) = get_tree(&options, |_, _| no_target.clone());
    assert_eq!(got.unwrap(), skipped);
}

#[test]
fn a_link_and_then_something_behind_it() {
    // Two entries of one name, in one list or one after the other, are the oldest trick.
    let options = Transfer { links: Links::Copy, ..plain() };
    let twice =
        list(&[&entry("x", r#""kind":"symlink","target":"dir""#), &entry("x", r#""kind":"dir""#)]);
    let (got, there) = get_tree(&options, |_, _| twice.clone());
    assert_eq!((kind(got), &*there), (ErrorKind::BadReply, &UNTOUCHED.map(String::from)[..]));
    // A file system that takes both names for one finds the link, and does not follow it.
    let (got, there) =
        get_tree(&options, |cmd, header| match (cmd, header.string("filename").as_deref()) {
            ("list", Ok("evil")) => list(&[
                &entry("X", r#""kind":"symlink","target":"dir""#),
                &entry("x", r#""kind":"dir""#),
            ]),
            _ => list(&[]),
        });
    assert_eq!(got.unwrap().links, 1);
    assert_eq!(there, ["X", "dangling", "dir", "file", "leaf", "up", "x"]);
}

#[test]
fn kinds_that_are_others() {
    let error = |code: &str| encoded(&format!(r#"{{"status":"error","code":"{code}"}}"#), b"");
    for (said, cmd, answer, expected) in [
        ("file", "get", error("denied"), ErrorKind::Incomplete),
        ("dir", "list", error("denied"), ErrorKind::Incomplete),
        ("file", "get", error("no_space"), ErrorKind::RemoteNoSpace),
        ("dir", "list", error("unsupported"), ErrorKind::RemoteUnsupported),
        ("file", "get", list(&[]), ErrorKind::BadReply),
        ("dir", "list", content(b"abc"), ErrorKind::BadReply),
    ] {
        let top = list(&[&entry("new", &format!(r#""kind":"{said}""#))]);
        let (got, there) = get_tree(&plain(), |asked, header| {
            let is_it = asked == cmd && header.string("filename").as_deref() == Ok("evil/new");
            if is_it { answer.clone() } else { top.clone() }
        });
        assert_eq!(kind(got), expected, "{said}");
        assert_eq!(there, UNTOUCHED);
    }
    let others = ["fifo", "socket", "other", "door", ""];
    let others = others.map(|said| entry(&format!("a {said}"), &format!(r#""kind":"{said}""#)));
    let others = list(&others.each_ref().map(String::as_str));
    let (got, there) = get_tree(&plain(), |_, _| others.clone());
    let expected = Transferred { directories: 1, skipped: 5, ..Transferred::default() };
    assert_eq!((got.unwrap(), &*there), (expected, &UNTOUCHED.map(String::from)[..]));
}

#[test]
fn sizes_that_are_others() {
    // What the list says of a size is no size of a file that comes.
    let huge = u64::MAX.to_string();
    let one = entry("a", r#""kind":"file""#).replace('3', &huge);
    let two = entry("b", r#""kind":"file""#).replace('3', &huge);
    let top = list(&[&one, &two]);
    let seen = std::cell::RefCell::new(Vec::new());
    let note = |_: &[u8], done, total| {
        seen.borrow_mut().push((done, total));
        std::ops::ControlFlow::Continue(())
    };
    let options = Transfer { progress: Some(&note), ..plain() };
    let (got, there) =
        get_tree(&options, |cmd, _| if cmd == "list" { top.clone() } else { content(b"abc") });
    assert_eq!((got.unwrap().bytes, there.len()), (6, 7));
    assert_eq!(seen.take(), [(3, u64::MAX), (6, u64::MAX)]);
    // The limit is for both: what is listed as larger is not asked for.
    let top = list(&[&entry("a", r#""kind":"file""#), &one.replace("\"a\"", "\"b\"")]);
    let (got, there) = get_tree(&Transfer { max_size: Some(3), ..plain() }, |cmd, header| {
        let is_b = header.string("filename").as_deref() == Ok("evil/b");
        assert!(!is_b, "it is too large");
        if cmd == "list" { top.clone() } else { content(b"abcd") }
    });
    assert_incomplete(got, ErrorKind::TooBig, "2 failed");
    assert_eq!(there, UNTOUCHED);
}

/// As little stack as a thread can have.
fn on_a_small_stack<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(64 * 1024);
        thread.spawn_scoped(scope, body).unwrap().join().unwrap()
    })
}

#[test]
fn a_tree_without_an_end() {
    let below = list(&[&entry("d", r#""kind":"dir""#)]);
    for progress in [false, true] {
        let (got, _) = on_a_small_stack(|| {
            let note = |_: &[u8], _, _| std::ops::ControlFlow::Continue(());
            let options =
                Transfer { progress: progress.then_some(&note as Progress<'_>), ..plain() };
            get_tree(&options, |_, _| below.clone())
        });
        let error = got.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incomplete);
        assert!(error.detail().contains("255 components"), "{error}");
    }
}

#[test]
fn a_tree_that_only_grows_wider() {
    // Each directory has many others: what waits is limited.
    let name = |number: usize| format!("{number:0200}");
    let many: Vec<String> =
        (0..20_000).map(|number| entry(&name(number), r#""kind":"dir""#)).collect();
    let many = reply_list(&format!("[{}]", many.join(",")));
    let note = |_: &[u8], _, _| std::ops::ControlFlow::Continue(());
    let options = Transfer { progress: Some(&note), ..plain() };
    let (got, there) = get_tree(&options, |_, _| many.clone());
    assert_eq!((kind(got), &*there), (ErrorKind::TooBig, &UNTOUCHED.map(String::from)[..]));
}

#[test]
fn a_put_does_not_believe_in_what_is_there() {
    let tree = Tree::new();
    fs::create_dir(tree.local("tree")).unwrap();
    fs::write(tree.local("tree/file"), "abc").unwrap();
    let resume = Transfer { resume: true, ..plain() };
    let modified = std::time::UNIX_EPOCH;
    fs::File::open(tree.local("tree/file")).unwrap().set_modified(modified).unwrap();
    let done = || encoded(r#"{"status":"ok","filesize":3}"#, b"");
    let put = |list: Vec<u8>, put: Vec<u8>| {
        let (client, server) = Kind::Unix.connect();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let server = server;
                let options = frame::Options::default();
                while let Ok(request) = frame::recv(server.reader.as_fd(), &options) {
                    let reply = match request.header.string("cmd").as_deref() {
                        Ok("mkdir") => &done(),
                        Ok("list") => &list,
                        Ok("stat") => &encoded(r#"{"status":"error","code":"not_found"}"#, b""),
                        Ok("put") => &put,
                        _ => continue, // the trailer
                    };
                    server.answer(&request.header.string("id").unwrap(), reply);
                }
            });
            let client = client;
            send_tree(&client, b"new", &tree.local("tree"), &resume)
        })
    };
    let same = entry("file", r#""kind":"file""#);
    let [x, y] = ["x", "y"].map(|name| entry(name, r#""kind":"file""#));
    // In whatever order.
    for there in [list(&[&same]), list(&[&x, &y, &same]), list(&[&same, &y, &x])] {
        let passed_over = put(there, done()).unwrap();
        assert_eq!((passed_over.files, passed_over.bytes), (1, 0));
    }
    for other in [
        entry("file", r#""kind":"dir""#),
        entry("file", r#""kind":"file""#).replace('3', "4"),
        entry("file", r#""kind":"file""#).replace("\"mtime\":0", "\"mtime\":1"),
        entry("../file", r#""kind":"file""#),
        entry("tree/file", r#""kind":"file""#),
    ] {
        assert_eq!(put(list(&[&other, &other]), done()).unwrap().bytes, 3, "{other}");
    }
    assert_eq!(kind(put(reply_list("{}"), done())), ErrorKind::BadReply);
    let error = encoded(r#"{"status":"error","code":"no_space"}"#, b"");
    let error = put(list(&[]), error).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RemoteNoSpace);
    assert!(error.detail().contains("\"new/file\""), "{error}");
}

#[test]
fn a_list_that_is_too_large_for_the_memory_is_an_error_like_any_other() {
    alone("tree_lies::a_list_that_is_too_large_for_the_memory_is_an_error_like_any_other", || {
        let entry = entry("a", r#""kind":"file""#);
        // The entries are larger than the 64 MiB that malloc(3) reserves for a thread.
        let count = 600_000;
        let mut list = String::with_capacity(count * (entry.len() + 1) + 1);
        for index in 0..count {
            list.push(if index == 0 { '[' } else { ',' });
            list.push_str(&entry);
        }
        list.push(']');
        let limit = Rlimit { current: Some(address_space() + (10 << 20)), maximum: None };
        setrlimit(Resource::As, limit).unwrap();
        let read = Entry::read_list(list.as_bytes()).map(|entries| entries.len());
        assert_eq!(kind(read), ErrorKind::NoMemory);
    });
}

/// What cannot be sent is not a failure of one file, also if no byte of its request was taken.
#[test]
fn one_that_leaves_between_two_requests_ends_the_tree() {
    if sealing::leaves_out("a tunnel has taken the request when it learns that nobody reads") {
        return;
    }
    let files = ["x", "y"].map(|name| entry(name, r#""kind":"file""#));
    let answer = |cmd: &str| match cmd {
        "list" => list(&[&files[0], &files[1]]),
        "stat" => encoded(r#"{"status":"ok","kind":"dir","size":0,"mode":"0755","mtime":0}"#, b""),
        _ => encoded(r#"{"status":"ok"}"#, b""),
    };
    for (transfer, last) in [(take_tree as fn(&_, &_, &_, &_) -> _, "list"), (send_tree, "stat")] {
        let tree = Tree::new();
        fs::create_dir(tree.local("tree")).unwrap();
        fs::write(tree.local("tree/x"), "abc").unwrap();
        fs::write(tree.local("tree/y"), "abc").unwrap();
        let (client, server) = Kind::Unix.connect();
        let left = std::thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let header = server.recv().header;
                    let [cmd, id] = ["cmd", "id"].map(|key| header.string(key).unwrap());
                    if cmd == last {
                        rustix::net::shutdown(&server.reader, rustix::net::Shutdown::Read).unwrap();
                    }
                    server.answer(&id, &answer(&cmd));
                    if cmd == last {
                        break;
                    }
                }
            });
            let left: Result<Transferred> =
                transfer(&client, b"tree", &tree.local("tree"), &plain());
            left.unwrap_err()
        });
        assert_eq!((left.kind(), left.errno()), (ErrorKind::Io, libc::EPIPE), "{left}");
    }
}
