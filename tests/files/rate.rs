//! How fast a content passes where that is limited.

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::file::{self, Options, Served, Transfer};

use crate::common::kind;
use crate::{End, Kind, Tree, against, content, file_of, get_with};

const RATE: u64 = 400_000;
const SIZE: usize = 200_000;
/// What the content takes at least.
const WAIT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(20);

fn limited() -> Options<'static> {
    Options { rate: Some(RATE), ..Options::default() }
}

fn put(end: &End, options: &Options<'_>) -> Transfer {
    let source = file_of(&content(SIZE));
    file::put(end.duplex(), b"new", source.as_fd(), None, options).unwrap()
}

fn get(end: &End, options: &Options<'_>) -> Transfer {
    get_with(end, "large", options).0.unwrap()
}

#[test]
fn a_limit_holds_in_both_directions_on_both_ends() {
    let run = |server: fn() -> Options<'static>, client: fn(&End, &Options<'_>) -> Transfer| {
        let tree = Tree::new();
        fs::write(tree.at("large"), content(SIZE)).unwrap();
        let limits = [limited(), Options::default()];
        let options = &limits[usize::from(server().rate.is_some())];
        let start = Instant::now();
        let (passed, session) = against(Kind::Unix, &tree, server, |end| client(end, options));
        let took = start.elapsed();
        assert_eq!(passed.bytes, SIZE as u64);
        assert!(matches!(session.served[..], [Served::Done(_)]));
        assert!(WAIT <= took && took < LONG, "{took:?}");
    };
    std::thread::scope(|scope| {
        for server in [limited, Options::default] {
            for client in [put, get] {
                scope.spawn(move || run(server, client));
            }
        }
    });
}

#[test]
fn a_get_asks_the_server_to_keep_to_it() {
    let run = |server: fn() -> Options<'static>, key: &str| {
        let tree = Tree::new();
        fs::write(tree.at("large"), content(SIZE)).unwrap();
        let start = Instant::now();
        against(Kind::Pipes, &tree, server, |end| {
            end.send_raw(&format!(r#"{{"cmd":"get","filename":"large",{key}}}"#), b"");
            assert_eq!(end.recv().body.len(), SIZE);
        });
        start.elapsed()
    };
    assert!(run(Options::default, r#""rate":400000"#) >= WAIT);
    // The lower of the two counts.
    assert!(run(limited, r#""rate":40000000"#) >= WAIT);
    let generous = || Options { rate: Some(40_000_000), ..Options::default() };
    assert!(run(generous, r#""rate":400000"#) >= WAIT);

    let (client, server) = Kind::Unix.connect();
    server.half_close();
    let dest = tempfile::tempfile().unwrap();
    let got = file::get(client.duplex(), b"large", dest.as_fd(), &limited());
    assert_eq!((kind(got), server.recv().header.integer("rate").unwrap()), {
        (ErrorKind::Closed, 400_000)
    });
}

#[test]
fn many_small_files_are_as_slow_as_a_large_one() {
    let tree = Tree::new();
    let start = Instant::now();
    let ((), session) = against(Kind::Unix, &tree, limited, |end| {
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
    let (put, _) = against(Kind::Unix, &tree, limited, |end| crate::put(end, "..", &content(SIZE)));
    assert_eq!(kind(put), ErrorKind::RemoteDenied);
    assert!(start.elapsed() >= WAIT);
}

#[test]
fn the_other_end_sees_some_of_it_several_times_a_second() {
    let tree = Tree::new();
    fs::write(tree.at("large"), content(SIZE)).unwrap();
    let seen = RefCell::new(vec![0]);
    let note = |done, _| {
        seen.borrow_mut().push(done);
        ControlFlow::Continue(())
    };
    let options = Options { progress: Some(&note), ..limited() };
    for client in [put, get] {
        against(Kind::Unix, &tree, Options::default, |end| client(end, &options));
        let seen = seen.replace(vec![0]);
        assert!(seen.windows(2).all(|pair| pair[1] - pair[0] <= RATE / 4), "{seen:?}");
    }
    // Down to a byte at a time.
    let timeout = Some(Duration::from_millis(20));
    let options = Options { rate: Some(0), timeout, ..options };
    against(Kind::Pipes, &tree, Options::default, |end| {
        let source = file_of(b"abc");
        let put = file::put(end.duplex(), b"new", source.as_fd(), None, &options);
        assert_eq!(kind(put), ErrorKind::Stalled);
    });
    assert_eq!(seen.take(), [0, 1]);
}

#[test]
fn the_time_for_the_whole_is_not_exceeded() {
    let hasty =
        || Options { rate: Some(10), timeout: Some(Duration::from_millis(50)), ..limited() };
    let start = Instant::now();
    for client in [true, false] {
        let tree = Tree::new();
        fs::write(tree.at("large"), content(SIZE)).unwrap();
        let server = if client { Options::default } else { hasty };
        let options = if client { hasty() } else { Options::default() };
        let (put, session) = against(Kind::Unix, &tree, server, |end| {
            let source = file_of(&content(1000));
            file::put(end.duplex(), b"new", source.as_fd(), None, &options)
        });
        let put = if client { put.unwrap_err() } else { session.end };
        assert_eq!(put.kind(), ErrorKind::Stalled);
        assert!(put.detail().contains("rate"), "{put}");
        let (got, session) =
            against(Kind::Unix, &tree, server, |end| get_with(end, "large", &options).0);
        let got = if client { got.unwrap_err() } else { session.end };
        assert_eq!(got.kind(), ErrorKind::Stalled);
        assert!(got.detail().contains("rate"), "{got}");
    }
    assert!(start.elapsed() < LONG);
}
