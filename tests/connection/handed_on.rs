//! What is left to whoever goes on with the descriptors: after an unread, a fork, an abort.
#![allow(unsafe_code)] // fork(2)

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::exec::{Command, Limits};
use framefd::ops::frame::{Connection, ConnectionOptions, Sent};

use crate::common::run::run;
use crate::{LONG, NO_TIME, connection, exact, fill, numbered, pair};

#[test]
fn after_an_unread_no_call_takes_another_byte() {
    let (ours, mut theirs) = pair();
    let bytes = [numbered(1, 10), b"behind".to_vec()].concat();
    theirs.write_all(&bytes[..bytes.len() - 10]).unwrap();
    let mut connection = connection(&ours);
    connection.recv_header(LONG).unwrap();
    let rest = connection.unread().unwrap().to_vec();
    assert_eq!(rest, b"bbbbbb");
    theirs.write_all(&bytes[bytes.len() - 10..]).unwrap();
    let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
    for kind in [
        connection.read(&mut [0; 4], LONG).unwrap_err().kind(),
        connection.read_to(null.as_fd(), LONG).unwrap_err().kind(),
        connection.recv_header(LONG).map(drop).unwrap_err().kind(),
        connection.next(LONG).map(drop).unwrap_err().kind(),
        connection.end(true, LONG).unwrap_err().kind(),
    ] {
        assert_eq!(kind, ErrorKind::State);
    }
    // A send that waits takes in what comes; but not any more.
    fill(&ours);
    let error = connection.send(None, b"x", Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(connection.state().events[0].is_empty() && connection.state().broken.is_none());
    assert_eq!(connection.unread().unwrap(), rest, "and again");
    drop(connection);
    let mut next = [0; 10];
    (&ours).read_exact(&mut next).unwrap();
    assert_eq!(&next, b"bbbbbehind");
}

/// What is done before, and how much of the body it takes.
type Work = fn(&mut Connection<'_>) -> usize;

#[test]
fn an_unread_gives_exactly_the_bytes_that_no_call_took() {
    let first = numbered(1, 20_000);
    let all = [&first[..], &numbered(2, 5), b"\xff\xff\xff\xff and more"].concat();
    let head = first.len() - 20_000;
    let works: [(&str, Work); 7] = [
        ("nothing", |_| 0),
        ("a header", |c| c.recv_header(LONG).map(|_| 0).unwrap()),
        ("a piece", |c| {
            c.recv_header(LONG).unwrap();
            let mut buf = [0; 1234];
            c.read(&mut buf, LONG).unwrap()
        }),
        ("a message", |c| c.recv(LONG).map(|m| m.body.len()).unwrap()),
        ("an abort", |c| {
            let got = c.recv(LONG).unwrap().body.len();
            c.handle().abort();
            assert_eq!(c.recv(LONG).unwrap_err().kind(), ErrorKind::Aborted);
            got
        }),
        ("a send that took in", |c| {
            let got = c.recv(LONG).unwrap().body.len();
            let sent = c.send(None, &vec![0; 4 << 20], NO_TIME).unwrap();
            assert_eq!(sent, Sent::Queued);
            c.flush(Duration::from_millis(5)).unwrap_err();
            got
        }),
        ("all, and broken", |c| {
            c.recv(LONG).unwrap();
            c.recv(LONG).unwrap();
            assert_eq!(c.recv(LONG).unwrap_err().kind(), ErrorKind::BadLength);
            usize::MAX
        }),
    ];
    for is_exact in [false, true] {
        for (name, work) in works {
            let (ours, mut theirs) = pair();
            theirs.write_all(&all).unwrap();
            drop(theirs.shutdown(std::net::Shutdown::Write));
            let mut receiver = if is_exact { exact(&ours) } else { connection(&ours) };
            let taken = match work(&mut receiver) {
                0 if name == "nothing" => 0,
                usize::MAX => first.len() + numbered(2, 5).len(),
                body => head + body,
            };
            let mut rest = receiver.unread().unwrap().to_vec();
            drop(receiver);
            if name == "an abort" {
                assert!(all[taken..].starts_with(&rest), "{name}");
            } else {
                (&ours).read_to_end(&mut rest).unwrap();
                assert!(rest == all[taken..], "{name}, exact: {is_exact}: {}", rest.len());
            }
            drop(theirs);
        }
    }
}

/// Runs `child` in a process of its own, and returns whether it was true there.
fn in_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls into the library and ends by _exit(2).
    match unsafe { libc::fork() } {
        // SAFETY: it ends the child without running anything of the parent's.
        0 => unsafe { libc::_exit(i32::from(!child())) },
        pid => {
            let deadline = Instant::now() + LONG;
            let mut status = -1;
            // SAFETY: `status` is an int, and the child is ours.
            while unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } == 0 {
                if Instant::now() > deadline {
                    // SAFETY: as above.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            status == 0
        }
    }
}

#[test]
fn a_child_of_a_child_is_another_one_and_has_connections_of_its_own() {
    let (ours, theirs) = pair();
    let mut parents = connection(&ours);
    parents.queue(None, b"queued", LONG).unwrap();
    (&theirs).write_all(&[numbered(1, 3), numbered(2, 3)].concat()).unwrap();
    parents.recv(LONG).unwrap();
    let before = crate::unread(&theirs);
    let talks = || {
        let (one, other) = pair();
        let (mut one, mut other) = (connection(&one), connection(&other));
        one.send(None, b"hello", LONG).is_ok() && other.recv(LONG).is_ok_and(|m| m.body == b"hello")
    };
    let is_good = in_child(|| {
        let (own, own_peer) = pair();
        let mut childs = Connection::new(OwnedFd::from(own), ConnectionOptions::default()).unwrap();
        childs.queue(None, b"the child's", LONG).unwrap();
        let is_good = in_child(|| {
            let kinds = [parents.flush(LONG), childs.flush(LONG)].map(Result::err);
            kinds.iter().flatten().filter(|error| error.kind() == ErrorKind::Forked).count() == 2
                && parents.unread().is_ok_and(|rest| rest == numbered(2, 3))
                && talks()
        });
        is_good
            && parents.recv(LONG).is_err_and(|error| error.kind() == ErrorKind::Forked)
            && childs.flush(LONG).is_ok()
            && connection(&own_peer).recv(LONG).is_ok_and(|m| m.body == b"the child's")
            && talks()
    });
    assert!(is_good);
    assert_eq!(crate::unread(&theirs), before, "no child wrote");
    assert_eq!(parents.recv(LONG).unwrap().header.unwrap().integer("n").unwrap(), 2);
    parents.flush(LONG).unwrap();
    assert_eq!(connection(&theirs).recv(LONG).unwrap().body, b"queued");
}

#[test]
fn a_command_of_ours_does_not_make_a_connection_forked() {
    let (ours, theirs) = pair();
    let mut one = connection(&ours);
    one.queue(None, b"queued", LONG).unwrap();
    let ended = run(&Command::shell(b"exit 3"), &Limits::default());
    assert!(ended.is_ok());
    assert!(std::process::Command::new("true").status().unwrap().success());
    one.flush(LONG).unwrap();
    assert_eq!(connection(&theirs).recv(LONG).unwrap().body, b"queued");
}

#[test]
fn a_child_frees_while_another_thread_of_its_parent_aborts() {
    for _ in 0..30 {
        let handles: Vec<_> = (0..50)
            .map(|_| {
                let (ours, _theirs) = pair();
                Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap()
            })
            .collect();
        let (send, started) = mpsc::channel();
        let aborts: Vec<_> = handles.iter().map(Connection::handle).collect();
        let aborting = std::thread::spawn(move || {
            send.send(()).unwrap();
            for _ in 0..200 {
                aborts.iter().for_each(framefd::ops::frame::Handle::abort);
            }
        });
        started.recv().unwrap();
        let mut handles = Some(handles);
        assert!(in_child(|| {
            drop(handles.take());
            true
        }));
        aborting.join().unwrap();
    }
}
