//! A peer that never pauses: time, memory, aborts and hooks hold all the same.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::frame::{Connection, ConnectionOptions, Ends};

use crate::common::process::memory;
use crate::{LONG, NO_TIME, connection, encoded, fill, numbered, pair};

/// More than anybody sends.
const ENDLESS: u64 = 1 << 62;
/// More than a call takes to notice that its time is up.
const SOON: Duration = Duration::from_secs(2);

/// Writes `first`, and then `again` without a pause until nobody reads any more.
fn flood(to: impl Into<OwnedFd>, first: Vec<u8>, again: Vec<u8>) -> JoinHandle<()> {
    let mut to = File::from(to.into());
    std::thread::spawn(move || {
        let mut outcome = to.write_all(&first);
        while outcome.is_ok() {
            outcome = to.write_all(&again);
        }
    })
}

/// A message whose body does not end, on a pipe: the receiving end, and who floods it.
fn endless_body(options: ConnectionOptions) -> (Connection<'static>, JoinHandle<()>) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let head = encoded(&format!(r#"{{"data_size":{ENDLESS}}}"#), b"");
    let flooding = flood(writer, head, vec![0; 65536]);
    let mut receiver = Connection::new(Ends::Owned(Some(reader), None), options).unwrap();
    assert_eq!(receiver.recv_header(LONG).unwrap().1, ENDLESS);
    (receiver, flooding)
}

/// A call with this timeout, and how it failed.
type Call<'a> = &'a mut dyn FnMut(&mut Connection<'_>, Option<Duration>) -> Option<ErrorKind>;

/// Each call that takes a body without an end.
fn each_call(mut check: impl FnMut(&str, Call<'_>)) {
    let null = || File::options().write(true).open("/dev/null").unwrap();
    check("drops it", &mut |receiver, timeout| receiver.next(timeout).err().map(|e| e.kind()));
    check("copies it", &mut |receiver, timeout| {
        receiver.read_to(null().as_fd(), timeout).err().map(|e| e.kind())
    });
}

#[test]
fn time_holds_while_a_body_without_an_end_is_dropped_or_copied() {
    for timeout in [NO_TIME, Duration::from_millis(1), Duration::from_millis(100)] {
        each_call(|name, call| {
            let (mut receiver, flooding) = endless_body(ConnectionOptions::default());
            for _ in 0..2 {
                let start = Instant::now();
                let kind = call(&mut receiver, Some(timeout));
                assert!(start.elapsed() < timeout + SOON, "{name}: {:?}", start.elapsed());
                assert!(matches!(kind, None | Some(ErrorKind::TimedOut)), "{name}: {kind:?}");
            }
            assert!(receiver.to_receive() > 0 && receiver.state().broken.is_none(), "{name}");
            drop(receiver);
            flooding.join().unwrap();
        });
    }
}

#[test]
fn an_abort_ends_what_never_waits() {
    each_call(|name, call| {
        let (mut receiver, flooding) = endless_body(ConnectionOptions::default());
        let handle = receiver.handle();
        let aborting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            handle.abort();
            Instant::now()
        });
        let kind = call(&mut receiver, None);
        let late = aborting.join().unwrap().elapsed();
        assert_eq!(kind, Some(ErrorKind::Aborted), "{name}");
        assert!(late < SOON, "{name}: {late:?}");
        drop(receiver);
        flooding.join().unwrap();
    });
}

#[test]
fn the_host_is_asked_once_a_second_by_what_never_waits() {
    each_call(|name, call| {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let start = Instant::now();
        let hook = move || {
            count.fetch_add(1, Ordering::Relaxed);
            if start.elapsed() < SOON { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let options =
            ConnectionOptions { interrupted: Some(Box::new(hook)), ..ConnectionOptions::default() };
        let (mut receiver, flooding) = endless_body(options);
        loop {
            match call(&mut receiver, None) {
                None => {}
                kind => break assert_eq!(kind, Some(ErrorKind::Canceled), "{name}"),
            }
        }
        assert!(start.elapsed() < 3 * SOON, "{name}: {:?}", start.elapsed());
        assert!(receiver.state().broken.is_none());
        drop(receiver);
        flooding.join().unwrap();
    });
}

#[test]
fn time_holds_while_the_peer_takes_all_that_is_sent() {
    for timeout in [NO_TIME, Duration::from_millis(50)] {
        let (ours, mut theirs) = pair();
        let reading = std::thread::spawn(move || {
            let mut buf = vec![0; 65536];
            while theirs.read(&mut buf).is_ok_and(|got| got > 0) {}
        });
        let mut sender = connection(&ours);
        sender.begin(None, ENDLESS).unwrap();
        let zeros = File::open("/dev/zero").unwrap();
        let start = Instant::now();
        let given = sender.write_from(zeros.as_fd(), ENDLESS, timeout).unwrap();
        assert!(start.elapsed() < timeout + SOON, "{:?}", start.elapsed());
        assert_eq!(sender.state().to_send, ENDLESS - given);
        drop(sender);
        drop(ours);
        reading.join().unwrap();
    }
}

#[test]
fn a_drain_ends_at_256_kib_in_however_many_calls() {
    let (ours, theirs) = pair();
    let flooding = flood(theirs, Vec::new(), vec![0; 4096]);
    let mut ending = Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
    let mut calls = 0;
    while let Err(error) = ending.end(true, Duration::from_nanos(1)) {
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        calls += 1;
        assert!(calls < 10_000);
    }
    assert_eq!(ending.unread().unwrap(), b"", "it was dropped");
    drop(ending);
    flooding.join().unwrap();
}

#[test]
fn what_is_taken_in_is_bounded_over_many_sends() {
    let (ours, theirs) = pair();
    fill(&ours);
    let flooding = flood(theirs.try_clone().unwrap(), Vec::new(), numbered(1, 10).repeat(1000));
    let mut connection = connection(&ours);
    let before = memory();
    for _ in 0..12 {
        let error = connection.send(None, b"x", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(connection.next(LONG).unwrap().body(), b"bbbbbbbbbb");
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 400 << 20, "{} MiB", grown >> 20);
    drop(connection);
    drop((ours, theirs));
    flooding.join().unwrap();
}

#[test]
fn a_body_from_a_descriptor_is_not_read_faster_than_the_peer_takes_it() {
    let (ours, _theirs) = pair();
    let mut sender = connection(&ours);
    sender.begin(None, ENDLESS).unwrap();
    let zeros = File::open("/dev/zero").unwrap();
    let refused = (0..200).find_map(|_| sender.write_from(zeros.as_fd(), 1 << 20, NO_TIME).err());
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::TimedOut));
    assert!(sender.state().queued < 4 << 20, "{}", sender.state().queued);
}
