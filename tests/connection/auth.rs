//! The handshake on a connection: read-ahead, resumed, and a failure that breaks it.

use std::io::{Read as _, Write as _};

use framefd::ErrorKind;
use framefd::ops::auth::keyring::Keyring;
use framefd::wire::auth::{Key, KeyId, answer};

use super::{LONG, NO_TIME, connection, encoded, exact, pair};

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).unwrap()
}

fn ring() -> Keyring {
    let ring = Keyring::new();
    ring.add(KeyId::new(b"one").unwrap(), key(1)).unwrap();
    ring.add(KeyId::new(b"two").unwrap(), key(2)).unwrap();
    ring
}

#[test]
fn both_ends_can_be_resumed_at_every_step() {
    let (client, server) = pair();
    for is_exact in [false, true] {
        let make = if is_exact { exact } else { connection };
        let (mut client, mut server) = (make(&client), make(&server));
        let late = client.auth_client(&key(2), NO_TIME).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        for _ in 0..3 {
            let late = server.auth_server(&ring(), NO_TIME).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
        }
        client.auth_client(&key(2), NO_TIME).unwrap();
        client.send(Some(r#"{"cmd":"x"}"#), b"", LONG).unwrap();
        assert_eq!(server.auth_server(&ring(), NO_TIME).unwrap().as_str(), "two");
        assert_eq!(server.next(LONG).unwrap().header(), r#"{"data_size":0,"cmd":"x"}"#);
    }
}

#[test]
fn an_answer_that_comes_in_parts_is_one() {
    let (mut client, server) = pair();
    let mut server = connection(&server);
    assert!(server.auth_server(&ring(), NO_TIME).is_err());
    let mut challenge = [0; 32];
    client.read_exact(&mut challenge).unwrap();
    let answer = answer(&key(1), &challenge);
    for byte in answer {
        assert_eq!(server.auth_server(&ring(), NO_TIME).unwrap_err().kind(), ErrorKind::TimedOut);
        client.write_all(&[byte]).unwrap();
    }
    client.write_all(&encoded("{}", b"")).unwrap();
    assert_eq!(server.auth_server(&ring(), NO_TIME).unwrap().as_str(), "one");
    assert_eq!(server.next(NO_TIME).unwrap().header(), "{}");
    client.set_nonblocking(true).unwrap();
    assert!(client.read(&mut [0]).is_err(), "one challenge was sent");
}

#[test]
fn any_other_failure_breaks_the_connection() {
    for (prover, timeout, expected) in [
        (Some(key(3)), LONG, ErrorKind::Auth),
        (None, std::time::Duration::from_millis(20), ErrorKind::TimedOut),
    ] {
        let (client, server) = pair();
        let (mut client, mut server) = (connection(&client), connection(&server));
        let _ = server.auth_server(&ring(), NO_TIME);
        if let Some(key) = prover {
            client.auth_client(&key, LONG).unwrap();
        }
        assert_eq!(server.auth_server(&ring(), timeout).unwrap_err().kind(), expected);
        assert_eq!(server.auth_server(&ring(), LONG).unwrap_err().kind(), ErrorKind::Broken);
        assert_eq!(server.next(LONG).unwrap_err().kind(), ErrorKind::Broken);
    }

    let (client, server) = pair();
    let mut server = connection(&server);
    let error = server.auth_server(&Keyring::new(), LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    assert_eq!(crate::unread(&client), 0);

    let (client, server) = pair();
    let mut client = connection(&client);
    drop(server);
    assert_eq!(client.auth_client(&key(1), LONG).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.send(None, b"", LONG).unwrap_err().kind(), ErrorKind::Broken);
}

#[test]
fn a_body_in_pieces_comes_first() {
    let (client, server) = pair();
    let (mut client, mut server) = (connection(&client), connection(&server));
    client.begin(None, 2).unwrap();
    assert_eq!(client.auth_client(&key(1), LONG).unwrap_err().kind(), ErrorKind::State);
    client.write(b"ab", LONG).unwrap();
    server.recv_header(LONG).unwrap();
    assert_eq!(server.auth_server(&ring(), LONG).unwrap_err().kind(), ErrorKind::State);
    assert_eq!(server.read(&mut [0; 2], LONG).unwrap(), 2);
    assert_eq!(server.auth_server(&ring(), NO_TIME).unwrap_err().kind(), ErrorKind::TimedOut);
    client.auth_client(&key(1), LONG).unwrap();
    server.auth_server(&ring(), LONG).unwrap();
}

#[test]
fn one_side_without_a_key_is_told_so() {
    let (client, server) = pair();
    let mut client = connection(&client);
    // The server asks for a key, with a challenge that is no length.
    (&server).write_all(&[0xff; 32]).unwrap();
    let error = client.recv(LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadLength);
    assert!(error.detail().contains("does the peer ask for a key?"), "{error}");

    // It asks for none, and waits for a request.
    for is_raw in [false, true] {
        let (client, _server) = pair();
        let short = std::time::Duration::from_millis(5);
        let late = if is_raw {
            framefd::ops::auth::client(std::os::fd::AsFd::as_fd(&client).into(), &key(1), short)
        } else {
            connection(&client).auth_client(&key(1), short)
        };
        let late = late.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert!(late.detail().contains("does the server ask for a key?"), "{late}");
    }
}

#[test]
fn a_sealed_client_is_named_by_a_plain_server() {
    let sealed: Vec<u8> = [b"FDS1\x01\x00\x00\x30".as_slice(), &[7; 48]].concat();
    let (client, server) = pair();
    (&client).write_all(&sealed).unwrap();
    let error = connection(&server).auth_server(&ring(), LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert_eq!(error.detail(), "the client speaks sealed");

    let (client, server) = pair();
    (&client).write_all(&sealed).unwrap();
    let error = connection(&server).recv(LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert!(error.detail().ends_with("; the peer speaks sealed"), "{error}");
}
