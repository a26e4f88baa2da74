//! How fast a content passes where that is limited.

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::file::{self, Local, ServeOptions, Served, Transfer, Transferred};

use crate::common::kind;
use crate::{End, Kind, Tree, against, content, file_of, get_fd, get_with, plain, put_fd};

const RATE: u64 = 400_000;
const SIZE: usize = 200_000;
/// What the content takes at least.
const WAIT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(20);

fn limited() -> Transfer<'static> {
    Transfer { rate: Some(RATE), ..plain() }
}

fn limiting() -> ServeOptions<'static> {
    ServeOptions { rate: Some(RATE), ..ServeOptions::default() }
}

fn put(end: &End, options: &Transfer<'_>) -> Transferred {
    let source = file_of(&content(SIZE));
    put_fd(end, b"new", source.as_fd(), None, options).unwrap()
}

fn get(end: &End, options: &Transfer<'_>) -> Transferred {
    get_with(end, "large", options).0.unwrap()
}

#[test]
fn a_limit_holds_in_both_directions_on_both_ends() {
    let run = |server: fn() -> ServeOptions<'static>,
               client: fn(&End, &Transfer<'_>) -> Transferred| {
        let tree = Tree::new();
        fs::write(tree.at("large"), content(SIZE)).unwrap();
        let limits = [limited(), plain()];
        let options = &limits[usize::from(server().rate.is_some())];
        let start = Instant::now();
        let (passed, session) = against(Kind::Unix, &tree, server, |end| client(end, options));
        let took = start.elapsed();
        assert_eq!(passed.bytes, SIZE as u64);
        assert!(matches!(session.served[..], [Served::Done(_)]));
        assert!(WAIT <= took && took < LONG, "{took:?}");
    };
    std::thread::scope(|scope| {
        for server in [limiting, ServeOptions::default] {
            for client in [put, get] {
                scope.spawn(move || run(server, client));
            }
        }
    });
}

#[test]
fn a_get_asks_the_server_to_keep_to_it() {
    let run = |server: fn() -> ServeOptions<'static>, key: &str| {
        let tree = Tree::new();
        fs::write(tree.at("large"), content(SIZE)).unwrap();
        let start = Instant::now();
        against(Kind::Pipes, &tree, server, |end| {
            end.send_raw(&format!(r#"{{"cmd":"get","filename":"large",{key}}}"#), b"");
            assert_eq!(end.recv().body.len(), SIZE);
        });
        start.elapsed()
    };
    assert!(run(ServeOptions::default, r#""rate":400000"#) >= WAIT);
    // The lower of the two counts.
    assert!(run(limiting, r#""rate":40000000"#) >= WAIT);
    let generous = || ServeOptions { rate: Some(40_000_000), ..ServeOptions::default() };
    assert!(run(generous, r#""rate":400000"#) >= WAIT);

    let (client, server) = Kind::Unix.connect();
    server.half_close();
    let dest = tempfile::tempfile().unwrap();
    let got = get_fd(&client, b"large", dest.as_fd(), &limited());
    assert_eq!((kind(got), server.recv().header.integer("rate").unwrap()), {
        (ErrorKind::Closed, 400_000)
    });
}

#[test]
fn many_small_files_are_as_slow_as_a_large_one() {
    let tree = Tree::new();
    let start = Instant::now();
    let ((), session) = against(Kind::Unix, &tree, limiting, |end| {
        for _ in 0..20 {
            crate::put(end, "new", &content(SIZE / 20)).unwrap();
        }
    });
    assert_eq!(session.served.len(), 20);
    assert!(start.elapsed() >= WAIT);
}

#[test]
fn what_is_refused_is_held_back_too() {
    let tree = Tree::new();
    let start = Instant::now();
    let (put, _) =
        against(Kind::Unix, &tree, limiting, |end| crate::put(end, "..", &content(SIZE)));
    assert_eq!(kind(put), ErrorKind::RemoteDenied);
    assert!(start.elapsed() >= WAIT);
}

#[test]
fn the_other_end_sees_some_of_it_several_times_a_second() {
    let tree = Tree::new();
    fs::write(tree.at("large"), content(SIZE)).unwrap();
    let seen = RefCell::new(vec![0]);
    let note = |_: &[u8], done, _| {
        seen.borrow_mut().push(done);
        ControlFlow::Continue(())
    };
    let options = Transfer { progress: Some(&note), ..limited() };
    for client in [put, get] {
        against(Kind::Unix, &tree, ServeOptions::default, |end| client(end, &options));
        let seen = seen.replace(vec![0]);
        assert!(seen.windows(2).all(|pair| pair[1] - pair[0] <= RATE / 4), "{seen:?}");
    }
    // Down to a byte at a time.
    let options = Transfer { rate: Some(0), ..options };
    against(Kind::Pipes, &tree, ServeOptions::default, |end| {
        let source = file_of(b"abc");
        let what = Transfer { name: b"new", local: Local::Fd(source.as_fd()), ..options };
        let put = file::put(&mut end.connection(), &what, Duration::from_millis(20));
        assert_eq!(kind(put), ErrorKind::TimedOut);
    });
    assert_eq!(seen.take(), [0, 1]);
}

#[test]
fn the_time_for_the_whole_is_not_exceeded() {
    const HASTE: Duration = Duration::from_millis(50);
    let hasty = || ServeOptions { rate: Some(10), timeout: Some(HASTE), ..ServeOptions::default() };
    let start = Instant::now();
    for client in [true, false] {
        let tree = Tree::new();
        fs::write(tree.at("large"), content(SIZE)).unwrap();
        let server = if client { ServeOptions::default } else { hasty };
        let time = client.then_some(HASTE);
        let rate = client.then_some(10);
        let (put, session) = against(Kind::Unix, &tree, server, |end| {
            let source = file_of(&content(1000));
            let what = Transfer { rate, ..Transfer::fd(b"new", source.as_fd()) };
            file::put(&mut end.connection(), &what, time)
        });
        let put = if client { put.unwrap_err() } else { session.end };
        assert_eq!(put.kind(), ErrorKind::TimedOut);
        assert!(put.detail().contains("rate"), "{put}");
        let (got, session) = against(Kind::Unix, &tree, server, |end| {
            let dest = tempfile::tempfile().unwrap();
            let what = Transfer { rate, ..Transfer::fd(b"large", dest.as_fd()) };
            file::get(&mut end.connection(), &what, time)
        });
        let got = if client { got.unwrap_err() } else { session.end };
        assert_eq!(got.kind(), ErrorKind::TimedOut);
        assert!(got.detail().contains("rate"), "{got}");
    }
    assert!(start.elapsed() < LONG);
}
