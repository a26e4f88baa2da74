//! Peers of a sealed connection that have the key, know the wire, and behave as no program does.

use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::auth::keyring::Keyring;
use framefd::ops::exec::ServeOptions;
use framefd::ops::frame::{Connection, ConnectionOptions, Sent};
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::handshake::{Handshake, Session, Step};
use framefd::wire::seal::record::Opened;
use framefd::wire::seal::terms::{Suite, Terms};
use rustix::net::sockopt;

use super::common::exec::{Presence, serve_next};
use super::{LONG, NO_TIME, encoded, fill, kind, pair, tcp};

const DATA: u8 = 0;
const END: u8 = 1;
const PADDED: u8 = 3;
/// More than a call takes to notice that its time is up, less than [`LONG`].
const SOON: Duration = Duration::from_secs(2);

fn key() -> Key {
    Key::new(&[1; 32]).unwrap()
}

/// A sealed connection on `ours`, which is the server, and what a client needs to write records
/// to `theirs` by itself.
fn sealed(
    ours: &UnixStream,
    mut theirs: &UnixStream,
    options: ConnectionOptions,
) -> (Connection<'static>, Session) {
    let ours = OwnedFd::from(ours.try_clone().unwrap());
    let mut server = Connection::new(ours, options).unwrap();
    let (ring, terms, id) = (Keyring::new(), Terms::default(), KeyId::default());
    ring.add(id.clone(), key()).unwrap();
    let begun = Handshake::client(&key(), &id, &terms, Suite::preferred());
    let (mut client, first) = begun.unwrap();
    theirs.write_all(&first).unwrap();
    assert_eq!(kind(server.seal_server(&ring, &terms, NO_TIME)), ErrorKind::TimedOut);
    let mut reply = [0; 50];
    theirs.read_exact(&mut reply).unwrap();
    client.step(&reply[..2], &|_| key()).unwrap();
    let done = client.step(&reply[2..], &|_| key());
    let Ok(Step::Done { session, confirm }) = done else { panic!("not done") };
    theirs.write_all(&confirm).unwrap();
    server.seal_server(&ring, &terms, LONG).unwrap();
    (server, *session)
}

fn record(session: &mut Session, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    session.sealer.raw(kind, body, &mut out).unwrap();
    out
}

/// Everything that can be opened of what was received.
fn opened(session: &mut Session, received: &[u8]) -> Vec<u8> {
    session.opener.feed(received).unwrap();
    let mut plain = Vec::new();
    while session.opener.open().unwrap() == Opened::Data {
        plain.extend_from_slice(session.opener.opened());
        session.opener.take(session.opener.opened().len());
    }
    plain
}

#[test]
fn a_send_that_does_not_time_out_has_written_all_of_its_message() {
    for in_pieces in [false, true] {
        // The kernel takes a part of what is sealed at once.
        let (a, b) = tcp();
        sockopt::set_socket_send_buffer_size(&a, 4096).unwrap();
        sockopt::set_socket_recv_buffer_size(&b, 4096).unwrap();
        let [a, b] = [a, b].map(|end| UnixStream::from(OwnedFd::from(end)));
        let (mut server, mut session) = sealed(&a, &b, ConnectionOptions::default());
        let body: Vec<u8> = (0..=250).cycle().take(300_000).collect();
        let received = std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut received = Vec::new();
                (&b).read_to_end(&mut received).unwrap();
                received
            });
            if in_pieces {
                server.begin(None, body.len() as u64).unwrap();
                assert_eq!(server.write(&body, LONG).unwrap(), body.len());
            } else {
                assert_eq!(server.send(None, &body, LONG).unwrap(), Sent::Whole);
            }
            assert_eq!(server.state().queued, 0);
            // Not ended, but closed: nothing is lost all the same.
            drop((server, a));
            reading.join().unwrap()
        });
        assert!(opened(&mut session, &received).ends_with(&body), "in pieces: {in_pieces}");
    }
}

#[test]
fn a_hook_that_ends_a_wait_once_ends_the_send() {
    for len in [1000, 300_000] {
        let (a, b) = pair();
        let ends = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&ends);
        let hook = move || {
            let ends = asked.swap(false, Ordering::Relaxed);
            if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options =
            ConnectionOptions { interrupted: Some(Box::new(hook)), ..ConnectionOptions::default() };
        let (mut server, mut session) = sealed(&a, &b, options);
        fill(&a);
        ends.store(true, Ordering::Relaxed);
        let start = Instant::now();
        // What was sealed is accepted.
        assert_eq!(server.send(None, &vec![1; len], LONG).unwrap(), Sent::Queued);
        assert!(start.elapsed() < SOON, "{len}");
        assert!(server.state().queued > len as u64);
        let received = std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut received = Vec::new();
                (&b).read_to_end(&mut received).unwrap();
                received
            });
            server.end(false, LONG).unwrap();
            reading.join().unwrap()
        });
        // Records are not zeros, with which the socket was filled: see `fill`.
        let first = received.iter().position(|byte| *byte != 0).unwrap();
        let whole = opened(&mut session, &received[first..]);
        assert!(whole.ends_with(&vec![1; len]), "{len}");
    }
}

#[test]
fn a_message_that_is_there_is_received_before_anything_is_written() {
    let (a, b) = pair();
    let (mut server, mut session) = sealed(&a, &b, ConnectionOptions::default());
    // Both are read at once.
    let mut both = Vec::new();
    for text in [&b"first"[..], b"second"] {
        let frame = encoded(&format!(r#"{{"data_size":{}}}"#, text.len()), text);
        both.extend(record(&mut session, DATA, &frame));
    }
    (&b).write_all(&both).unwrap();
    assert_eq!(server.recv(LONG).unwrap().body, b"first");
    fill(&a);
    server.queue(None, b"reply", NO_TIME).unwrap();
    let start = Instant::now();
    assert_eq!(server.recv(LONG).unwrap().body, b"second");
    assert!(start.elapsed() < SOON);
}

#[test]
fn a_handshake_is_no_message_that_a_full_queue_refuses() {
    let (a, b) = pair();
    fill(&a);
    let options = ConnectionOptions { max_queue: 1, ..ConnectionOptions::default() };
    let mut client = Connection::new(OwnedFd::from(a), options).unwrap();
    let mut step =
        || kind(client.seal_client(&key(), &KeyId::default(), &Terms::default(), None, NO_TIME));
    assert_eq!(step(), ErrorKind::TimedOut);
    let mut received = vec![0; 1 << 20];
    b.set_nonblocking(true).unwrap();
    while (&b).read(&mut received).is_ok() {}
    assert_eq!(step(), ErrorKind::TimedOut);
    let len = (&b).read(&mut received).unwrap();
    assert!(received[..len].starts_with(b"FDS1") && len == 56);
}

/// Calls `work` while the peer writes records of this kind and body without a pause.
fn flooded([first, body]: [&[u8]; 2], kind: u8, work: impl FnOnce(&mut Connection<'_>)) {
    let (a, b) = pair();
    let (mut server, mut session) = sealed(&a, &b, ConnectionOptions::default());
    if !first.is_empty() {
        (&b).write_all(&record(&mut session, DATA, first)).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut again = Vec::new();
            while (&b).write_all(&again).is_ok() {
                again.clear();
                while again.len() < 10_000 {
                    again.extend(record(&mut session, kind, body));
                }
            }
        });
        work(&mut server);
        a.shutdown(std::net::Shutdown::Both).unwrap();
    });
}

#[test]
fn records_without_a_pause_hold_no_call() {
    let head = encoded(r#"{"data_size":1099511627776}"#, b"");
    let (padding, large) = (vec![0; 60_000], vec![0; 1 << 20]);
    let floods = [
        ("without a byte", [&b""[..], b"\0\0"], PADDED),
        ("of padding", [b"", &padding], PADDED),
        ("of one byte", [&head, b"x"], DATA),
    ];
    for (name, bodies, kind_of) in floods {
        for timeout in [NO_TIME, Duration::from_millis(30)] {
            flooded(bodies, kind_of, |server| {
                if kind_of == DATA {
                    server.recv_header(LONG).unwrap();
                }
                let start = Instant::now();
                for _ in 0..2 {
                    assert_eq!(kind(server.next(timeout)), ErrorKind::TimedOut, "{name}");
                }
                server.send(None, &large, timeout).unwrap();
                assert_eq!(kind(server.end(true, timeout)), ErrorKind::TimedOut, "{name}");
                assert!(start.elapsed() < 2 * SOON, "{name}: {:?}", start.elapsed());
            });
        }
        flooded(bodies, kind_of, |server| {
            let handle = server.handle();
            let aborting = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                handle.abort();
                Instant::now()
            });
            let failed = loop {
                if let Err(error) = server.recv_header(None) {
                    break error.kind();
                }
            };
            assert_eq!(failed, ErrorKind::Aborted, "{name}");
            assert!(aborting.join().unwrap().elapsed() < SOON, "{name}");
        });
    }
}

#[test]
fn every_other_record_is_refused() {
    let bodies = [&b""[..], b"x", b"\0\0", b"\0\x01", b"\0\x01\0\0"];
    for (kind_of, body) in [DATA, END, 2, PADDED, 4, 255]
        .into_iter()
        .flat_map(|kind_of| bodies.map(|body| (kind_of, body)))
    {
        let (a, b) = pair();
        let (mut server, mut session) = sealed(&a, &b, ConnectionOptions::default());
        (&b).write_all(&record(&mut session, kind_of, body)).unwrap();
        let expected = match (kind_of, body) {
            (DATA, [_, ..]) | (PADDED, [0, 0] | [0, 1, _, ..]) => ErrorKind::TimedOut,
            (END, []) => ErrorKind::Closed,
            _ => ErrorKind::Auth,
        };
        assert_eq!(kind(server.recv(NO_TIME)), expected, "{kind_of} {body:?}");
    }
    for length in 0..17 {
        let (a, b) = pair();
        let (mut server, _) = sealed(&a, &b, ConnectionOptions::default());
        (&b).write_all(&[0, length]).unwrap();
        assert_eq!(kind(server.recv(NO_TIME)), ErrorKind::Auth, "{length}");
    }
}

/// Without the end mark it is no half-close, whose client waits for the reply.
#[test]
fn a_client_that_is_cut_off_has_hung_up_from_its_command() {
    let held = encoded(r#"{"data_size":16000,"stream":"stdin"}"#, &[b'x'; 16_000]).repeat(20);
    let cases = [
        ("", &[][..], true),
        ("", &[], false),
        (r#","stream":true"#, &[], true),
        (r#","stream":true"#, &held, true),
        (r#","stream":true"#, &held, false),
    ];
    for (members, input, inside) in cases {
        let (a, b) = pair();
        let (mut server, mut session) = sealed(&a, &b, ConnectionOptions::default());
        let presence = Presence::new();
        let text = presence.of("sleep 1000");
        let header = format!(r#"{{"cmd":"exec","data_size":{}{members}}}"#, text.len());
        (&b).write_all(&record(&mut session, DATA, &encoded(&header, text.as_bytes()))).unwrap();
        std::thread::scope(|scope| {
            let outcome =
                scope.spawn(move || serve_next(&mut server, &ServeOptions::default()).err());
            presence.wait_for_begin();
            let mut last = Vec::new();
            for piece in input.chunks(16_000) {
                last.extend(record(&mut session, DATA, piece));
            }
            if inside {
                last.extend([0, 32, 1, 2, 3]);
            }
            (&b).write_all(&last).unwrap();
            b.shutdown(std::net::Shutdown::Write).unwrap();
            presence.wait_for_end();
            let error = outcome.join().unwrap().map(|error| error.kind());
            assert_eq!(error, Some(ErrorKind::Closed), "{members} {} {inside}", input.len());
        });
    }
}

#[test]
fn a_sender_whose_receiver_has_failed_is_broken_and_not_refused() {
    let (a, b) = pair();
    let (mut server, _session) = sealed(&a, &b, ConnectionOptions::default());
    fill(&a);
    let (mut receiver, mut sender) = server.split();
    std::thread::scope(|scope| {
        let large = vec![0; 300_000];
        let sending = scope.spawn(move || kind(sender.send(None, &large, LONG)));
        (&b).write_all(&[0, 17]).unwrap();
        (&b).write_all(&[0; 17]).unwrap();
        assert_eq!(kind(receiver.recv(LONG)), ErrorKind::Auth);
        scope.spawn(move || (&b).read_to_end(&mut Vec::new()));
        assert_eq!(sending.join().unwrap(), ErrorKind::Broken);
        a.shutdown(std::net::Shutdown::Both).unwrap();
    });
}

#[test]
fn a_reset_inside_a_handshake_is_a_cut() {
    let (ring, terms, id) = (Keyring::new(), Terms::default(), KeyId::default());
    ring.add(id.clone(), key()).unwrap();
    for is_client in [true, false] {
        let (a, mut b) = tcp();
        let mut ours = Connection::new(OwnedFd::from(a), ConnectionOptions::default()).unwrap();
        let mut step = |timeout| {
            kind(if is_client {
                ours.seal_client(&key(), &id, &terms, None, timeout)
            } else {
                ours.seal_server(&ring, &terms, timeout).map(drop)
            })
        };
        b.write_all(if is_client { &[0] } else { b"FDS1" }).unwrap();
        assert_eq!(step(NO_TIME), ErrorKind::TimedOut);
        sockopt::set_socket_linger(&b, Some(Duration::ZERO)).unwrap();
        drop(b);
        assert_eq!(step(LONG), ErrorKind::Truncated, "client: {is_client}");
    }
}
