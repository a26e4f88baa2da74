//! A sealed connection: what it proves, and that everything works as on a plain one.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::auth::keyring::Keyring;
use framefd::ops::frame::{Connection, Sent};
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::handshake::Handshake;
use framefd::wire::seal::terms::{ServerName, Suite, Terms};

use super::common::channel::every_channel;
use super::common::exec::connect;
use super::common::proxy::{self, Direction, Fault};
use super::common::stream::duplexes;
use super::{LONG, NO_TIME, connection, encoded, exact, kind, pair};

const HANDSHAKE: Duration = Duration::from_secs(20);

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).unwrap()
}

fn id(text: &str) -> KeyId {
    KeyId::new(text.as_bytes()).unwrap()
}

fn ring() -> Keyring {
    let ring = Keyring::new();
    ring.add(id("one"), key(1)).unwrap();
    ring.add(id("two"), key(2)).unwrap();
    ring
}

fn named(name: &str) -> Terms {
    Terms { name: ServerName::new(name.as_bytes()).unwrap(), client_serves: false }
}

/// Both ends of a sealed connection; the client has the key "one".
fn seal(client: &mut Connection<'_>, server: &mut Connection<'_>, suite: Suite) {
    let (ring, terms) = (ring(), named("db"));
    std::thread::scope(|scope| {
        let verdict = scope.spawn(|| server.seal_server(&ring, &terms, HANDSHAKE));
        client.seal_client(&key(1), &id("one"), &terms, Some(suite), HANDSHAKE).unwrap();
        assert_eq!(verdict.join().unwrap().unwrap(), id("one"));
    });
}

fn sealed<'a>(client: &'a UnixStream, server: &'a UnixStream) -> (Connection<'a>, Connection<'a>) {
    let (mut client, mut server) = (connection(client), connection(server));
    seal(&mut client, &mut server, Suite::preferred());
    (client, server)
}

#[test]
fn messages_of_every_size_pass_on_every_kind_of_descriptor() {
    let sizes = [0, 1, 100, 16_383, 16_384, 16_385, 65_518, 65_536, 200_000, 1 << 20];
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        for ((name, _, there), (_, _, back)) in every_channel().zip(every_channel()) {
            let (client, server) = duplexes(&there, &back);
            let (mut client, mut server) = (connect(client), connect(server));
            seal(&mut client, &mut server, suite);
            std::thread::scope(|scope| {
                let echo = scope.spawn(move || {
                    for _ in sizes {
                        let message = server.recv(LONG).unwrap();
                        server.send(None, &message.body, LONG).unwrap();
                    }
                    server.end(false, LONG).unwrap();
                    assert_eq!(kind(server.recv(LONG)), ErrorKind::Closed, "the client's end");
                });
                for size in sizes {
                    let body: Vec<u8> = (0..=250).cycle().take(size).collect();
                    client.send(None, &body, LONG).unwrap();
                    assert!(client.recv(LONG).unwrap().body == body, "{name} {suite:?} {size}");
                }
                assert_eq!(kind(client.recv(LONG)), ErrorKind::Closed, "{name}");
                client.end(false, LONG).unwrap();
                echo.join().unwrap();
            });
        }
    }
}

#[test]
fn both_ends_can_be_resumed_at_every_step() {
    let (client_end, server_end) = pair();
    let (mut client, mut server) = (connection(&client_end), connection(&server_end));
    let (ring, terms) = (ring(), named("db"));
    let client_step = |client: &mut Connection<'_>| {
        client.seal_client(&key(2), &id("two"), &terms, None, NO_TIME)
    };
    assert_eq!(kind(client_step(&mut client)), ErrorKind::TimedOut);
    // Until it is complete nothing else may be sent.
    assert_eq!(kind(client.send(None, b"in clear", LONG)), ErrorKind::State);
    assert_eq!(kind(client.recv(NO_TIME)), ErrorKind::State);
    for _ in 0..2 {
        assert_eq!(kind(server.seal_server(&ring, &terms, NO_TIME)), ErrorKind::TimedOut);
        assert_eq!(kind(server.recv(NO_TIME)), ErrorKind::State);
    }
    client_step(&mut client).unwrap();
    client.queue(Some(r#"{"cmd":"x"}"#), b"", LONG).unwrap();
    client.flush(LONG).unwrap();
    assert_eq!(server.seal_server(&ring, &terms, NO_TIME).unwrap(), id("two"));
    assert_eq!(server.next(NO_TIME).unwrap().header(), r#"{"data_size":0,"cmd":"x"}"#);
    let [ours, theirs] = [client.proof().unwrap(), server.proof().unwrap()];
    assert_eq!((&ours.key_id, ours.seal), (&theirs.key_id, theirs.seal));
    assert!(client.state().sealed && server.state().sealed);
}

#[test]
fn a_begun_handshake_does_not_become_a_plain_one() {
    let (a, b) = pair();
    let (mut client, mut server) = (connection(&a), connection(&b));
    let (ring, terms) = (ring(), named("db"));
    let begun = server.seal_server(&ring, &terms, NO_TIME);
    assert_eq!(kind(begun), ErrorKind::TimedOut);
    assert_eq!(kind(server.auth_server(&ring, NO_TIME)), ErrorKind::State);
    let begun = client.seal_client(&key(1), &id("one"), &terms, None, NO_TIME);
    assert_eq!(kind(begun), ErrorKind::TimedOut);
    assert_eq!(kind(client.auth_client(&key(1), NO_TIME)), ErrorKind::State);
    // Nothing was sent, and both go on.
    std::thread::scope(|scope| {
        let verdict = scope.spawn(|| server.seal_server(&ring, &terms, HANDSHAKE));
        client.seal_client(&key(1), &id("one"), &terms, None, HANDSHAKE).unwrap();
        assert_eq!(verdict.join().unwrap().unwrap(), id("one"));
    });
}

#[test]
fn it_must_be_the_first_call() {
    let terms = Terms::default();
    let try_client = |client: &mut Connection<'_>| {
        kind(client.seal_client(&key(1), &id("one"), &terms, None, NO_TIME))
    };
    let (a, b) = pair();
    assert_eq!(try_client(&mut exact(&a)), ErrorKind::Argument);
    let mut client = connection(&a);
    client.queue(None, b"", LONG).unwrap();
    assert_eq!(try_client(&mut client), ErrorKind::State);
    let mut server = connection(&b);
    assert_eq!(kind(server.seal_server(&Keyring::new(), &terms, LONG)), ErrorKind::Key);
    let short = Keyring::new();
    short.add(id("a"), Key::new(&[1; 31]).unwrap()).unwrap();
    let error = server.seal_server(&short, &terms, LONG).unwrap_err();
    assert_eq!(error.detail(), r#"the key "a" has 31 bytes, sealing needs 32"#);
    let error = server.seal_client(&Key::new(&[1; 31]).unwrap(), &id("a"), &terms, None, LONG);
    assert_eq!(kind(error), ErrorKind::Key);
    // Nothing was sent, and it can still be used.
    assert_eq!(super::unread(&a), 0);
    server.send(None, b"", LONG).unwrap();

    let (a, b) = pair();
    let (mut client, mut server) = sealed(&a, &b);
    assert_eq!(try_client(&mut client), ErrorKind::State);
    assert_eq!(kind(server.unread().map(drop)), ErrorKind::State);
    assert_eq!(kind(client.auth_client(&key(1), LONG)), ErrorKind::State);
}

/// What the two ends of a handshake report, with these keys and terms.
fn handshake(
    (key_byte, id, terms): (u8, &KeyId, &Terms),
    server_terms: &Terms,
) -> [Option<ErrorKind>; 2] {
    let (a, b) = pair();
    std::thread::scope(|scope| {
        let served = scope.spawn(move || {
            // Closed after a refusal, as a server does it.
            let b = b;
            connection(&b).seal_server(&ring(), server_terms, HANDSHAKE).err()
        });
        let client = connection(&a).seal_client(&key(key_byte), id, terms, None, HANDSHAKE).err();
        [client, served.join().unwrap()].map(|error| error.map(|error| error.kind()))
    })
}

#[test]
fn key_id_name_and_role_must_be_the_same() {
    let refused = [Some(ErrorKind::Truncated), Some(ErrorKind::Auth)];
    let (db, one) = (named("db"), id("one"));
    assert_eq!(handshake((1, &one, &db), &db), [None; 2]);
    for (key, name) in [(9, "one"), (1, "two"), (1, "three"), (2, "one")] {
        assert_eq!(handshake((key, &id(name), &db), &db), refused, "{key} {name}");
    }
    for (ours, theirs) in [("db", "web"), ("db", ""), ("", "db"), ("db", "db1")] {
        assert_eq!(handshake((1, &one, &named(ours)), &named(theirs)), refused, "{ours} {theirs}");
    }
    let serving = Terms { client_serves: true, ..named("db") };
    assert_eq!(handshake((1, &one, &serving), &serving), [None; 2]);
    assert_eq!(handshake((1, &one, &serving), &db), refused);
    assert_eq!(handshake((1, &one, &db), &serving), refused);
    assert_eq!(handshake((1, &KeyId::default(), &db), &db), refused, "there is no unnamed key");
}

#[test]
fn the_wrong_kind_of_peer_is_named() {
    // A plain client at a sealed server: it waits for a challenge.
    let (a, mut b) = pair();
    b.write_all(&[0xfd; 32]).unwrap();
    let error = connection(&a).seal_server(&ring(), &named("db"), LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(error.detail().contains("sealed"), "{error}");
    // A sealed client at a plain server, which sends a challenge first.
    let (a, mut b) = pair();
    b.write_all(&[0xfd; 32]).unwrap();
    let terms = named("db");
    let error = connection(&a).seal_client(&key(1), &id("one"), &terms, None, HANDSHAKE);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(error.detail().contains("sealed"), "{error}");
    // One that says nothing.
    let (a, _b) = pair();
    let soon = Duration::from_millis(20);
    let error = connection(&a).seal_client(&key(1), &id("one"), &terms, None, soon).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.detail().contains("sealed"), "{error}");
}

/// What a client has seen, in order.
type Seen = Vec<Result<Vec<u8>, ErrorKind>>;

/// Silence at any step, and a byte now and then, end at the one deadline of the handshake.
#[test]
fn one_deadline_covers_the_whole_handshake() {
    let (terms, soon) = (named("db"), Duration::from_millis(150));
    let (_, first) = Handshake::client(&key(1), &id("one"), &terms, Suite::AesGcm).unwrap();
    for steps in [0, 1, 4, 6, 9, 11, 12, first.len() - 1, first.len()] {
        for trickles in [false, true] {
            let ((a, b), begin) = (pair(), Instant::now());
            let refused = std::thread::scope(|scope| {
                let server = scope.spawn(move || {
                    connection(&a).seal_server(&ring(), &named("db"), soon).unwrap_err()
                });
                (&b).write_all(&first[..steps]).unwrap();
                // Each byte comes long before the deadline, and so would the next one.
                for byte in first[steps..].iter().filter(|_| trickles) {
                    std::thread::sleep(soon / 5);
                    if server.is_finished() || (&b).write_all(&[*byte]).is_err() {
                        break;
                    }
                }
                server.join().unwrap()
            });
            let late = first.len() - steps < 5;
            assert_eq!(refused.kind(), ErrorKind::TimedOut, "{steps} {trickles} {refused}");
            assert!(begin.elapsed() >= soon && (late || begin.elapsed() < 20 * soon), "{steps}");
        }
    }
    // The client's end: a server that sends a part of its message.
    for steps in [0, 1, 2, 49] {
        let (a, b) = pair();
        (&b).write_all(&[&[0, 48][..], &[7; 47]].concat()[..steps]).unwrap();
        let refused = connection(&a).seal_client(&key(1), &id("one"), &terms, None, soon);
        assert_eq!(kind(refused), ErrorKind::TimedOut, "{steps}");
    }
}

/// A client that sends two messages and reads the reply to each, and its end.
fn converse(socket: &UnixStream) -> Seen {
    let mut client = connection(socket);
    let (terms, mut seen) = (named("db"), Vec::new());
    let begun = client.seal_client(&key(1), &id("one"), &terms, None, HANDSHAKE);
    if let Err(error) = begun {
        return vec![Err(error.kind())];
    }
    for text in [&b"first"[..], b"second"] {
        let reply = client.send(None, text, LONG).and_then(|_| client.recv(LONG));
        let reply = reply.map(|reply| reply.body.to_vec()).map_err(|error| error.kind());
        let failed = reply.is_err();
        seen.push(reply);
        if failed {
            return seen;
        }
    }
    let _ = client.end(false, LONG);
    seen.push(client.recv(LONG).map(|_| Vec::new()).map_err(|error| error.kind()));
    seen
}

/// The server for it. Returns the messages, and how the conversation ended.
fn answer(socket: &UnixStream) -> (Vec<Vec<u8>>, ErrorKind) {
    let mut server = connection(socket);
    let mut seen = Vec::new();
    if let Err(error) = server.seal_server(&ring(), &named("db"), HANDSHAKE) {
        return (seen, error.kind());
    }
    loop {
        let received = server.recv(LONG).and_then(|message| {
            seen.push(message.body.to_vec());
            server.send(None, &[&message.body[..], b"!"].concat(), LONG)
        });
        if let Err(error) = received {
            if error.kind() == ErrorKind::Closed {
                // The client has ended its direction only.
                server.end(false, LONG).unwrap();
            }
            return (seen, error.kind());
        }
    }
}

#[test]
fn a_conversation_that_is_split_or_cut_anywhere_is_whole_or_truncated() {
    let replies: [&[u8]; 2] = [b"first!", b"second!"];
    let check = |fault: Fault, client: Seen, server: (Vec<_>, _)| {
        let (messages, end) = server;
        let is_cut = matches!(fault, Fault::Cut(..));
        for (message, expected) in messages.iter().zip([b"first".to_vec(), b"second".to_vec()]) {
            assert_eq!(*message, expected, "{fault:?}");
        }
        for (seen, expected) in client.iter().zip(replies) {
            assert!(seen.as_ref().is_ok_and(|seen| seen == expected) || is_cut, "{fault:?}");
        }
        if is_cut {
            // One of them has its end only if nothing was missing for it.
            let ends = [client.last().unwrap().clone().unwrap_err(), end];
            let whole = [client.len() == 3, messages.len() == 2];
            for (end, is_whole) in ends.into_iter().zip(whole) {
                let known = matches!(
                    end,
                    ErrorKind::Truncated | ErrorKind::Io | ErrorKind::Broken | ErrorKind::Closed
                );
                let is_clean = is_whole || fault == Fault::Cut(Direction::ToServer, 0);
                assert!(known && (is_clean || end != ErrorKind::Closed), "{fault:?}: {end:?}");
            }
        } else {
            assert_eq!((client.len(), end), (3, ErrorKind::Closed), "{fault:?}");
            assert_eq!(client[2], Err(ErrorKind::Closed), "{fault:?}");
        }
    };
    let (to_server, to_client) = proxy::at_every_offset(converse, answer, check);
    assert!(to_server > 100 && to_client > 100);
}

#[test]
fn every_changed_byte_is_found() {
    let whole = proxy::run(Fault::None, converse, answer);
    for (direction, len) in
        [(Direction::ToServer, whole.to_server.len()), (Direction::ToClient, whole.to_client.len())]
    {
        for at in 0..len {
            let (seen, (messages, end)) = changed(direction, at, |byte| byte ^ 1);
            let last = seen.last().unwrap().clone();
            let failed = |kind| {
                matches!(
                    kind,
                    ErrorKind::Auth
                        | ErrorKind::Truncated
                        | ErrorKind::TimedOut
                        | ErrorKind::Io
                        | ErrorKind::Broken
                )
            };
            // Its receiver fails, and then both of them do.
            let (ours, theirs) = (last.err().is_some_and(failed), failed(end));
            assert!(ours || theirs, "{direction:?} {at}: {seen:?} {end:?}");
            for (message, expected) in messages.iter().zip([b"first".to_vec(), b"second".into()]) {
                assert_eq!(*message, expected, "{direction:?} {at}");
            }
            for (seen, expected) in seen.iter().flatten().zip([&b"first!"[..], b"second!"]) {
                assert_eq!(seen, expected, "{direction:?} {at}");
            }
        }
    }
}

/// A conversation whose byte `at` of a direction is changed on the way. Each end is closed when
/// it is done, so nobody waits for bytes that a changed length promises.
fn changed(
    direction: Direction,
    at: usize,
    change: impl Fn(u8) -> u8 + Copy + Send,
) -> (Seen, (Vec<Vec<u8>>, ErrorKind)) {
    let (client_end, client_side) = pair();
    let (server_end, server_side) = pair();
    std::thread::scope(|scope| {
        for (mut from, mut to, changes) in [
            (&client_side, &server_side, direction == Direction::ToServer),
            (&server_side, &client_side, direction == Direction::ToClient),
        ] {
            scope.spawn(move || {
                let (mut buf, mut passed) = (vec![0; 4096], 0);
                // After the change it waits a moment at most: a length may promise too much.
                while let Ok(got @ 1..) = from.read(&mut buf) {
                    if changes && (passed..passed + got).contains(&at) {
                        buf[at - passed] = change(buf[at - passed]);
                        from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                    }
                    passed += got;
                    if to.write_all(&buf[..got]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
        let client = scope.spawn(move || {
            let client_end = client_end;
            converse(&client_end)
        });
        let served = {
            let server_end = server_end;
            answer(&server_end)
        };
        (client.join().unwrap(), served)
    })
}

/// Somebody in between, who passes bytes on and has no key.
fn relay(to: &UnixStream, from: &UnixStream) {
    std::thread::scope(|scope| {
        for (mut from, mut to) in [(to, from), (from, to)] {
            scope.spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
}

#[test]
fn who_relays_reads_nothing_and_cannot_lead_a_client_elsewhere_if_the_server_has_a_name() {
    // The client means "db", and somebody in between connects it to another holder of the key.
    for (meant, reached, expected) in [
        ("db", "db", None),
        ("db", "web", Some(ErrorKind::Truncated)),
        // It is pinned here that the empty name does not protect against this.
        ("", "", None),
    ] {
        let (client_end, client_side) = pair();
        let (server_end, server_side) = pair();
        std::thread::scope(|scope| {
            scope.spawn(move || relay(&client_side, &server_side));
            let server = scope.spawn(move || {
                let server_end = server_end;
                connection(&server_end).seal_server(&ring(), &named(reached), HANDSHAKE).err()
            });
            let mut client = connection(&client_end);
            let begun =
                client.seal_client(&key(1), &id("one"), &named(meant), None, HANDSHAKE).err();
            assert_eq!(begun.map(|error| error.kind()), expected, "{meant:?} {reached:?}");
            drop(client);
            client_end.shutdown(std::net::Shutdown::Both).unwrap();
            let refused = server.join().unwrap().map(|error| error.kind());
            assert_eq!(refused, expected.map(|_| ErrorKind::Auth));
        });
    }
}

#[test]
fn after_a_failure_nothing_is_sent_or_received() {
    let (a, b) = pair();
    let (mut client, mut server) = sealed(&a, &b);
    client.send(None, b"whole", LONG).unwrap();
    assert_eq!(server.recv(LONG).unwrap().body, b"whole");
    (&a).write_all(&[0, 17]).unwrap();
    (&a).write_all(&[0; 17]).unwrap();
    assert_eq!(kind(server.recv(LONG)), ErrorKind::Auth);
    assert_eq!(kind(server.send(None, b"more", LONG)), ErrorKind::Broken);
    assert_eq!(kind(server.end(false, LONG)), ErrorKind::Broken);
    assert_eq!(server.state().broken.unwrap().kind(), ErrorKind::Auth);
    drop(server);
    assert_eq!(super::unread(&a), 0);
    b.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(kind(client.recv(LONG)), ErrorKind::Truncated);
}

#[test]
fn a_half_close_still_gets_the_reply() {
    let (a, b) = pair();
    let (mut client, mut server) = sealed(&a, &b);
    client.send(None, b"request", LONG).unwrap();
    client.end(false, LONG).unwrap();
    assert_eq!(server.recv(LONG).unwrap().body, b"request");
    assert_eq!(kind(server.recv(LONG)), ErrorKind::Closed);
    assert!(server.state().peer_ended);
    server.send(None, b"reply", LONG).unwrap();
    server.end(true, LONG).unwrap();
    assert_eq!(client.recv(LONG).unwrap().body, b"reply");
    assert_eq!(kind(client.recv(LONG)), ErrorKind::Closed);
    assert_eq!(kind(client.send(None, b"", LONG)), ErrorKind::State);
}

#[test]
fn a_slow_peer_loses_nothing() {
    let (a, b) = pair();
    let (mut client, mut server) = sealed(&a, &b);
    // More than the socket takes, without waiting: it is accepted or not, and not both.
    let (zeros, mut accepted, mut refused) = (vec![0; 30_000], 0_u32, 0);
    while refused < 3 {
        let body = [accepted.to_le_bytes().as_slice(), &zeros].concat();
        match client.send(None, &body, NO_TIME) {
            Ok(_) => accepted += 1,
            Err(error) if error.kind() == ErrorKind::TimedOut => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(accepted > 3 && client.state().queued > 0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            for number in 0.. {
                let Ok(message) = server.recv(LONG) else { return number };
                assert_eq!(message.body[..4], u32::to_le_bytes(number));
            }
            0
        });
        client.flush(LONG).unwrap();
        assert_eq!(client.state().queued, 0);
        client.end(false, LONG).unwrap();
        assert_eq!(reader.join().unwrap(), accepted);
    });
}

#[test]
fn a_send_that_has_returned_left_nothing_behind() {
    let (a, b) = pair();
    rustix::net::sockopt::set_socket_send_buffer_size(&a, 4096).unwrap();
    let (mut client, mut server) = sealed(&a, &b);
    let (body, size) = (vec![b'x'; 300_000], 300_000);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| [(); 2].map(|()| server.recv(LONG).unwrap().body.len()));
        assert_eq!(client.send(None, &body, LONG).unwrap(), Sent::Whole);
        assert_eq!(client.state().queued, 0);
        client.begin(None, size).unwrap();
        assert_eq!(client.write(&body, LONG).unwrap(), body.len());
        assert_eq!(client.state().queued, 0);
        assert_eq!(reader.join().unwrap(), [body.len(); 2]);
    });
    // What was accepted and not written can be seen.
    let sent = client.send(None, &body, NO_TIME).unwrap();
    assert_eq!((sent, client.state().queued > 0), (Sent::Queued, true));
}

#[test]
fn removing_a_key_ends_its_connections_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, byte: u8| {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).mode(0o600).open(directory.path().join(name)).unwrap();
        file.write_all(&[byte; 32]).unwrap();
    };
    write("one", 1);
    write("two", 2);
    let ring = Keyring::new();
    ring.load(directory.path(), framefd::ops::auth::key_file::Rules::default()).unwrap();
    let ends = [pair(), pair()];
    let mut sessions: Vec<_> = ends
        .iter()
        .zip([(1, "one"), (2, "two")])
        .map(|((a, b), (byte, name))| {
            let (mut client, mut server) = (connection(a), connection(b));
            std::thread::scope(|scope| {
                let verdict = scope.spawn(|| server.seal_server(&ring, &named("db"), HANDSHAKE));
                let (key, id) = (key(byte), id(name));
                client.seal_client(&key, &id, &named("db"), None, HANDSHAKE).unwrap();
                verdict.join().unwrap().unwrap();
            });
            (client, server)
        })
        .collect();
    std::fs::remove_file(directory.path().join("one")).unwrap();
    write("three", 3);
    std::thread::scope(|scope| {
        let [(first, waiting), (second, other)] = &mut sessions[..] else { panic!() };
        // It waits, and is woken.
        let waiter = scope.spawn(|| (waiting.recv(LONG).err().unwrap(), waiting.recv(LONG).err()));
        std::thread::sleep(Duration::from_millis(20));
        ring.load(directory.path(), framefd::ops::auth::key_file::Rules::default()).unwrap();
        let (error, later) = waiter.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Aborted);
        assert!(later.unwrap().detail().contains(r#"the id "one" was removed"#));
        assert_eq!(kind(first.recv(LONG)), ErrorKind::Truncated);
        second.send(None, b"goes on", LONG).unwrap();
        assert_eq!(other.recv(LONG).unwrap().body, b"goes on");
    });
    assert_eq!(handshake((3, &id("three"), &named("db")), &named("db"))[0].unwrap().code(), -2);
}

#[test]
fn bytes_after_the_handshake_belong_to_the_session() {
    let (a, b) = pair();
    let (ring, terms) = (ring(), named("db"));
    let (mut client, mut server) = (connection(&a), connection(&b));
    assert!(client.seal_client(&key(1), &id("one"), &terms, None, NO_TIME).is_err());
    assert!(server.seal_server(&ring, &terms, NO_TIME).is_err());
    client.seal_client(&key(1), &id("one"), &terms, None, NO_TIME).unwrap();
    // All of it is there before the server reads CONFIRM.
    for text in [&b"first"[..], b"second"] {
        client.send(None, text, LONG).unwrap();
    }
    client.end(false, LONG).unwrap();
    server.seal_server(&ring, &terms, NO_TIME).unwrap();
    for text in [&b"first"[..], b"second"] {
        assert_eq!(server.recv(NO_TIME).unwrap().body, text);
    }
    assert_eq!(kind(server.recv(NO_TIME)), ErrorKind::Closed);
}

#[test]
fn what_travels_is_not_what_was_sent() {
    let secret = b"a secret that nobody in between may read";
    let outcome = proxy::run(
        Fault::None,
        |socket| {
            let mut client = connection(socket);
            client.seal_client(&key(1), &id("one"), &named("db"), None, HANDSHAKE).unwrap();
            client.send(Some(r#"{"cmd":"secret"}"#), secret, LONG).unwrap();
            client.end(false, LONG).unwrap();
        },
        |socket| {
            let mut server = connection(socket);
            server.seal_server(&ring(), &named("db"), HANDSHAKE).unwrap();
            assert_eq!(server.recv(LONG).unwrap().body, secret);
        },
    );
    assert!(outcome.to_server.windows(6).all(|window| window != b"secret"));
    let expected = encoded(r#"{"data_size":40,"cmd":"secret"}"#, secret).len();
    // A preface, two messages, CONFIRM, one record and END.
    assert_eq!(outcome.to_server.len(), 9 + 50 + 19 + expected + 19 + 19);
}
