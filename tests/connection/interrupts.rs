//! What ends a wait: an abort from another thread, and the host's hook.

use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::frame::{Connection, ConnectionOptions, Ends};

use crate::{LONG, connection, numbered, pair};

/// A reading and a writing end that give and take nothing, and what keeps them open.
fn stuck() -> Vec<(&'static str, Ends<'static>, Vec<OwnedFd>)> {
    let (socket, peer) = pair();
    let (reader, keeps_reader) = rustix::pipe::pipe().unwrap();
    let (keeps_writer, writer) = rustix::pipe::pipe().unwrap();
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).unwrap();
    rustix::pty::grantpt(&terminal).unwrap();
    rustix::pty::unlockpt(&terminal).unwrap();
    let name = rustix::pty::ptsname(&terminal, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let line = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    let mut raw = rustix::termios::tcgetattr(&line).unwrap();
    raw.make_raw();
    rustix::termios::tcsetattr(&line, rustix::termios::OptionalActions::Now, &raw).unwrap();
    vec![
        ("socket", Ends::Both(socket.into()), vec![peer.into()]),
        ("pipes", Ends::Owned(Some(reader), Some(writer)), vec![keeps_reader, keeps_writer]),
        ("terminal", Ends::Both(line), vec![terminal]),
    ]
}

#[test]
fn an_abort_ends_what_receives_and_what_sends() {
    // A busy machine may be late now and then, but not each time.
    let mut soonest = std::collections::BTreeMap::new();
    for sends in [false, true] {
        for timeout in [None, Some(LONG)] {
            for (name, ends, _kept) in stuck() {
                let mut connection = Connection::new(ends, ConnectionOptions::default()).unwrap();
                let handle = connection.handle();
                let aborting = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(30));
                    handle.abort();
                    Instant::now()
                });
                let error = if sends {
                    connection.send(None, &vec![b'x'; 16 << 20], timeout).unwrap_err()
                } else {
                    connection.recv(timeout).unwrap_err()
                };
                let late = aborting.join().unwrap().elapsed();
                assert_eq!(error.kind(), ErrorKind::Aborted, "{name}");
                let known = soonest.entry(name).or_insert(late);
                *known = late.min(*known);
                assert_eq!(connection.recv(timeout).unwrap_err().kind(), ErrorKind::Aborted);
                let error = connection.send(None, b"", timeout).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Aborted);
            }
        }
    }
    assert!(soonest.values().all(|late| *late < Duration::from_millis(100)), "{soonest:?}");
}

#[test]
fn an_abort_races_with_a_sender_and_a_free_two_thousand_times() {
    for round in 0..2000 {
        let (ours, theirs) = pair();
        let mut receiver =
            Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
        let handle = receiver.handle();
        let sending = std::thread::spawn(move || {
            let bytes = numbered(1, 10);
            while (&theirs).write_all(&bytes).is_ok() {}
        });
        let aborting = std::thread::spawn(move || {
            for _ in 0..round % 100 {
                std::hint::spin_loop();
            }
            handle.abort();
        });
        let error = loop {
            match receiver.next(None) {
                Ok(view) => assert_eq!(view.body(), b"bbbbbbbbbb"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Aborted);
        drop(receiver);
        aborting.join().unwrap();
        sending.join().unwrap();
    }
}

#[test]
fn an_abort_after_the_end_touches_no_descriptor_of_somebody_else() {
    let (ours, theirs) = pair();
    let connection = Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
    let handle = connection.handle();
    drop(connection);
    drop(theirs);
    // One of these most likely has the number that was closed.
    let (mut one, mut other) = pair();
    handle.abort();
    one.write_all(b"x").unwrap();
    other.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_hook_ends_a_wait_and_nothing_is_lost() {
    let (ours, mut theirs) = pair();
    let (stop, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (stops, count) = (Arc::clone(&stop), Arc::clone(&asked));
    let hook = move || {
        count.fetch_add(1, Ordering::Relaxed);
        if stops.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let options =
        ConnectionOptions { interrupted: Some(Box::new(hook)), ..ConnectionOptions::default() };
    let mut receiver = Connection::new(ours.as_fd(), options).unwrap();
    let bytes = numbered(1, 5);
    theirs.write_all(&bytes[..7]).unwrap();
    assert_eq!(receiver.recv(None).unwrap_err().kind(), ErrorKind::Canceled);
    theirs.write_all(&bytes[7..]).unwrap();
    stop.store(false, Ordering::Relaxed);
    let before = asked.load(Ordering::Relaxed);
    assert_eq!(receiver.recv(None).unwrap().body, b"bbbbb");
    assert_eq!(asked.load(Ordering::Relaxed), before, "it did not wait");
}

#[test]
fn one_thread_sends_while_another_receives() {
    let (ours, theirs) = pair();
    let options = ConnectionOptions { duplex: true, ..ConnectionOptions::default() };
    let mut duplex = Connection::new(ours.as_fd(), options).unwrap();
    duplex.queue(None, b"queued", LONG).unwrap();
    let error = duplex.recv(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(duplex.state().queued > 0, "a receive does not touch the other direction");
    let (mut receiver, mut sender) = duplex.split();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut peer = connection(&theirs);
            assert_eq!(peer.recv(LONG).unwrap().body, b"queued");
            for _ in 0..1000 {
                let got = peer.recv(LONG).unwrap().body;
                peer.send(None, &got, LONG).unwrap();
            }
        });
        scope.spawn(|| {
            for _ in 0..1000 {
                assert_eq!(receiver.recv(LONG).unwrap().body.len(), 10_000);
            }
        });
        for _ in 0..1000 {
            sender.send(None, &[b'x'; 10_000], LONG).unwrap();
        }
    });
}

#[test]
fn an_abort_ends_a_wait_for_a_descriptor_that_is_not_the_connections() {
    for sends in [false, true] {
        // A busy machine may be late now and then, but not each time.
        let mut soonest = LONG;
        for duplex in [false, true, false, true] {
            let (ours, mut theirs) = pair();
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let options = ConnectionOptions { duplex, ..ConnectionOptions::default() };
            let mut connection = Connection::new(ours.as_fd(), options).unwrap();
            theirs.write_all(&numbered(1, 200_000)).unwrap();
            let handle = connection.handle();
            let aborting = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                handle.abort();
                Instant::now()
            });
            let error = if sends {
                connection.begin(None, 10).unwrap();
                connection.write_from(reader.as_fd(), 10, None).unwrap_err()
            } else {
                connection.recv_header(None).unwrap();
                connection.read_to(writer.as_fd(), None).unwrap_err()
            };
            soonest = soonest.min(aborting.join().unwrap().elapsed());
            assert_eq!(error.kind(), ErrorKind::Aborted, "sends: {sends}");
        }
        assert!(soonest < Duration::from_millis(100), "sends: {sends}, {soonest:?}");
    }
}

/// As Python's signal check does, the hook says once that the call is to end.
#[test]
fn a_hook_that_says_once_that_it_is_to_end_is_heard() {
    for has_queued in [false, true] {
        let (ours, _theirs) = pair();
        crate::fill(&ours);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let hook = move || match count.fetch_add(1, Ordering::Relaxed) {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let options =
            ConnectionOptions { interrupted: Some(Box::new(hook)), ..ConnectionOptions::default() };
        let mut connection = Connection::new(ours.as_fd(), options).unwrap();
        if has_queued {
            connection.queue(None, b"queued", LONG).unwrap();
        }
        let error = connection.recv(LONG).unwrap_err();
        assert_eq!((error.kind(), has_queued), (ErrorKind::Canceled, has_queued));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let error = connection.recv(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(asked.load(Ordering::Relaxed), 1, "it was not to wait");
    }
}
