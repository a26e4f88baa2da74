//! The handshake against peers that hold the key, that do not, and that misbehave.

mod common;

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use common::channel::{Channel, Kind, socket_pair, unread};
use common::proxy::{Direction, Fault, at_every_offset};
use common::{encoded, kind};
use framefd::ops::auth::keyring::Keyring;
use framefd::ops::frame::{self, Options};
use framefd::wire::auth::{Challenge, KeyId, answer};
use framefd::{Duplex, ErrorKind, Key, Result};

const SOON: Duration = Duration::from_secs(10);
const COMMAND: &[u8] = b"a command";

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).unwrap()
}

fn serve(stream: &UnixStream, timeout: Duration) -> Result<()> {
    framefd::ops::auth::server(stream.as_fd().into(), &[&key(1)], timeout).map(|_| ())
}

fn prove(stream: &UnixStream, key: &Key) -> Result<()> {
    framefd::ops::auth::client(stream.as_fd().into(), key, SOON)
}

/// What a server makes of `bytes`, sent without a look at its challenge, and how many of
/// them it read.
fn server_reads(bytes: &[u8]) -> (Result<()>, usize) {
    let (mut peer, server) = socket_pair();
    peer.write_all(bytes).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let verdict = serve(&server, SOON);
    (verdict, bytes.len() - usize::try_from(unread(&server)).unwrap())
}

#[test]
fn a_command_follows_the_answer_whatever_the_splits() {
    let client = |stream: &UnixStream| {
        prove(stream, &key(1))?;
        frame::send(stream.as_fd(), Some(r#"{"cmd":"exec"}"#), b"true", &Options::default())?;
        frame::recv(stream.as_fd(), &Options::default()).map(|reply| reply.body)
    };
    let server = |stream: &UnixStream| {
        serve(stream, SOON)?;
        let request = frame::recv(stream.as_fd(), &Options::default())?;
        frame::send(stream.as_fd(), None, b"done", &Options::default())?;
        Ok(request.body)
    };
    let cut = |at, start| if at == start { ErrorKind::Closed } else { ErrorKind::Truncated };
    let check = |fault, client: Result<Vec<u8>>, server: Result<Vec<u8>>| match fault {
        Fault::Cut(Direction::ToServer, at) => {
            assert_eq!(kind(server), cut(at, if at < 32 { 0 } else { 32 }), "{fault:?}");
            assert_eq!(kind(client), ErrorKind::Closed, "{fault:?}");
        }
        Fault::Cut(Direction::ToClient, at) if at < 32 => {
            assert_eq!(kind(client), cut(at, 0), "{fault:?}");
            assert_eq!(kind(server), ErrorKind::Closed, "{fault:?}");
        }
        Fault::Cut(Direction::ToClient, at) => {
            assert_eq!(kind(client), cut(at, 32), "{fault:?}");
            assert_eq!(server.unwrap(), b"true", "{fault:?}");
        }
        _ => {
            assert_eq!(server.unwrap(), b"true", "{fault:?}");
            assert_eq!(client.unwrap(), b"done", "{fault:?}");
        }
    };
    let (to_server, to_client) = at_every_offset(client, server, check);
    assert_eq!((to_server, to_client), (32 + 4 + 28 + 4, 32 + 4 + 15 + 4));
}

#[test]
fn a_wrong_key_gets_no_further() {
    let (client, server) = socket_pair();
    let proving = thread::spawn(move || {
        prove(&client, &key(2)).unwrap(); // the wire has no verdict
        (&client).write_all(COMMAND).unwrap();
        client
    });
    let verdict = serve(&server, SOON);
    let mut client = proving.join().unwrap();
    let error = verdict.unwrap_err();
    assert_eq!((error.kind(), error.detail()), (ErrorKind::Auth, ""), "and says no more");
    assert_eq!(unread(&server), COMMAND.len() as u64, "the command is not looked at");
    drop(server);
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "no byte for the wrong one");
}

#[test]
fn what_is_pipelined_after_a_right_answer_is_the_applications() {
    let (mut client, server) = socket_pair();
    let serving = thread::spawn({
        let server = server.try_clone().unwrap();
        move || serve(&server, SOON)
    });
    let mut challenge = [0; 32];
    client.read_exact(&mut challenge).unwrap();
    let reply = answer(&key(1), &challenge);
    client.write_all(&[&reply[..], COMMAND].concat()).unwrap();
    serving.join().unwrap().unwrap();
    let mut next = vec![0; COMMAND.len()];
    (&server).read_exact(&mut next).unwrap();
    assert_eq!(next, COMMAND);
}

#[test]
fn whatever_comes_instead_of_the_answer_is_a_wrong_answer() {
    let hello = encoded(r#"{"cmd":"hello"}"#, b"");
    let exec = encoded(r#"{"cmd":"exec","data_size":6}"#, b"reboot");
    let put = encoded(r#"{"cmd":"put","filename":"a","filesize":1}"#, b"x");
    let garbage = vec![0xaa; 65536];
    let padded_ok = encoded(r#"{"status":"ok","message":"auth ok"}"#, b"");
    for bytes in
        [&exec[..], &put, &garbage, &padded_ok, &[hello, vec![0; 32]].concat(), &[0; 32], &[0; 33]]
    {
        let (verdict, consumed) = server_reads(bytes);
        assert_eq!((kind(verdict), consumed), (ErrorKind::Auth, 32));
    }
}

#[test]
fn a_short_answer_is_none() {
    for (length, expected) in
        [(0, ErrorKind::Closed), (1, ErrorKind::Truncated), (31, ErrorKind::Truncated)]
    {
        assert_eq!(kind(server_reads(&[b'x'; 32][..length]).0), expected);
    }
    assert_eq!(kind(server_reads(b"auth ok\n").0), ErrorKind::Truncated);
}

#[test]
fn there_is_one_try() {
    let (mut client, server) = socket_pair();
    let serving = thread::spawn({
        let server = server.try_clone().unwrap();
        move || serve(&server, SOON)
    });
    let mut challenge = [0; 32];
    client.read_exact(&mut challenge).unwrap();
    let right = answer(&key(1), &challenge);
    let mut wrong = right;
    wrong[31] ^= 1;
    client.write_all(&[wrong, right].concat()).unwrap();
    assert_eq!(kind(serving.join().unwrap()), ErrorKind::Auth);
    assert_eq!(unread(&server), 32, "the second answer is not looked at");
}

#[test]
fn an_answer_is_good_for_its_own_connection() {
    let mut earlier = None;
    for _ in 0..3 {
        let (mut client, server) = socket_pair();
        let serving = thread::spawn(move || serve(&server, SOON));
        let mut challenge = [0; 32];
        client.read_exact(&mut challenge).unwrap();
        let replayed = earlier.is_some();
        let reply = earlier.unwrap_or_else(|| answer(&key(1), &challenge));
        client.write_all(&reply).unwrap();
        let verdict = serving.join().unwrap();
        if replayed {
            assert_eq!(kind(verdict), ErrorKind::Auth);
        } else {
            verdict.unwrap();
        }
        earlier = Some(reply);
    }
}

/// The limit that auth_server() documents: whoever sits in between can pass the challenge
/// on and the answer back, and needs no key. Tested lest somebody claim more.
#[test]
fn a_relay_without_the_key_succeeds() {
    let (mut relay_to_server, server) = socket_pair();
    let (mut relay_to_client, client) = socket_pair();
    let serving = thread::spawn(move || serve(&server, SOON).map(|()| server));
    let proving = thread::spawn(move || prove(&client, &key(1)));
    let mut passed = [0; 32];
    relay_to_server.read_exact(&mut passed).unwrap();
    relay_to_client.write_all(&passed).unwrap();
    relay_to_client.read_exact(&mut passed).unwrap();
    relay_to_server.write_all(&passed).unwrap();
    relay_to_server.write_all(&encoded("{}", b"")).unwrap();
    proving.join().unwrap().unwrap();
    let server = serving.join().unwrap().expect("the relay is taken for the client");
    frame::recv(server.as_fd(), &Options::default()).expect("and gives the commands");
}

#[test]
fn challenges_do_not_repeat() {
    let mut seen = HashSet::new();
    for _ in 0..10_000 {
        assert!(seen.insert(*Challenge::new().unwrap().as_bytes()));
    }
    // What is sent is such a challenge, from every thread another one.
    let sent = thread::scope(|scope| {
        let challenge = || {
            let (mut client, server) = socket_pair();
            let _ = serve(&server, Duration::ZERO);
            let mut challenge = [0; 32];
            client.read_exact(&mut challenge).unwrap();
            challenge
        };
        [scope.spawn(challenge), scope.spawn(challenge)].map(|thread| thread.join().unwrap())
    });
    assert!(sent.into_iter().all(|challenge| seen.insert(challenge)));
}

#[test]
fn any_of_several_keys_is_taken_and_named() {
    let keys = [key(1), key(2), key(3)];
    for (byte, expected) in [(1, Ok(0)), (2, Ok(1)), (3, Ok(2)), (4, Err(ErrorKind::Auth))] {
        let (client, server) = socket_pair();
        let proving = thread::spawn(move || prove(&client, &key(byte)).map(|()| client));
        let all: Vec<&Key> = keys.iter().collect();
        let verdict = framefd::ops::auth::server(server.as_fd().into(), &all, SOON);
        proving.join().unwrap().unwrap();
        assert_eq!(verdict.map_err(|error| error.kind()), expected);
    }
    let (_client, server) = socket_pair();
    let verdict = framefd::ops::auth::server(server.as_fd().into(), &[], SOON);
    assert_eq!(kind(verdict), ErrorKind::Key, "no key is no open door");
}

#[test]
fn a_ring_is_asked_when_the_answer_has_come() {
    let id = |text: &str| KeyId::new(text.as_bytes()).unwrap();
    let ring = Keyring::new();
    let (client, server) = socket_pair();
    let verdict = framefd::ops::auth::server_ring(server.as_fd().into(), &ring, SOON);
    assert_eq!((kind(verdict), unread(&client)), (ErrorKind::Key, 0), "no key is no open door");

    ring.add(id("one"), key(1)).unwrap();
    for (byte, expected) in [(1, Ok("one")), (2, Ok("two")), (3, Err(ErrorKind::Auth))] {
        let (mut client, server) = socket_pair();
        let verdict = thread::scope(|scope| {
            let serving =
                scope.spawn(|| framefd::ops::auth::server_ring(server.as_fd().into(), &ring, SOON));
            let mut challenge = [0; 32];
            client.read_exact(&mut challenge).unwrap();
            if byte == 2 {
                ring.add(id("two"), key(2)).unwrap();
            }
            client.write_all(&answer(&key(byte), &challenge)).unwrap();
            serving.join().unwrap()
        });
        assert_eq!(verdict.map_err(|error| error.kind()), expected.map(id));
    }
}

#[test]
fn the_deadline_covers_the_whole_handshake() {
    let short = Duration::from_millis(20);
    for (came, expected) in
        [(0, ErrorKind::TimedOut), (1, ErrorKind::Stalled), (31, ErrorKind::Stalled)]
    {
        let start = Instant::now();
        let (mut client, server) = socket_pair();
        client.write_all(&[0; 32][..came]).unwrap();
        assert_eq!(kind(serve(&server, short)), expected, "{came} bytes of an answer");

        let (mut server, client) = socket_pair();
        server.write_all(&[0; 32][..came]).unwrap();
        let proved = framefd::ops::auth::client(client.as_fd().into(), &key(1), short);
        assert_eq!(kind(proved), expected, "{came} bytes of a challenge");
        assert_eq!(unread(&server), 0, "and none of an answer");
        assert!((2 * short..SOON).contains(&start.elapsed()));
    }
}

#[test]
fn an_answer_at_the_deadline_is_taken_or_not_but_never_half() {
    let limit = Duration::from_millis(2);
    for n in 0..200 {
        let (mut client, server) = socket_pair();
        let answering = thread::spawn(move || {
            let mut challenge = [0; 32];
            client.read_exact(&mut challenge).unwrap();
            thread::sleep(limit * (90 + n % 20) / 100);
            client.write_all(&answer(&key(1), &challenge)).unwrap();
            client
        });
        let verdict = serve(&server, limit);
        let client = answering.join().unwrap();
        match verdict {
            Ok(()) => assert_eq!(unread(&server), 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                assert_eq!(unread(&server), 32, "it comes too late, whole");
            }
        }
        drop(client);
    }
}

#[test]
fn the_two_directions_may_be_two_descriptors() {
    for kind in [Kind::Pipe, Kind::FromTerminal, Kind::UnixSocket] {
        let Channel { writer: to_server, reader: from_client } = kind.open();
        let Channel { writer: to_client, reader: from_server } = kind.open();
        thread::scope(|scope| {
            scope.spawn(|| {
                let duplex = Duplex { reader: from_server.as_fd(), writer: to_server.as_fd() };
                framefd::ops::auth::client(duplex, &key(1), SOON).unwrap();
            });
            let duplex = Duplex { reader: from_client.as_fd(), writer: to_client.as_fd() };
            assert_eq!(framefd::ops::auth::server(duplex, &[&key(1)], SOON).unwrap(), 0);
        });
    }
}
