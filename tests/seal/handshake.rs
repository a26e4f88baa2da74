//! The handshake: who is refused, when, and what it says.

use super::*;

#[test]
fn an_end_needs_exactly_its_bytes_and_looks_at_no_other() {
    let (key, terms) = (key(7), terms("db.example"));
    for suite in SUITES {
        for (name, lengths) in
            [("web-1", &[4, 2, 5, 2, 48, 2, 17][..]), ("", &[4, 2, 2, 48, 2, 17])]
        {
            let id = if name.is_empty() { KeyId::default() } else { id(name) };
            let (mut client, sent) = End::client(&key, &id, &terms, suite);
            let mut server = End::server(&key, &terms);
            let (mut needed, mut bytes) = (Vec::new(), &sent[..]);
            let mut reply = Vec::new();
            while !bytes.is_empty() {
                let (first, rest) = bytes.split_at(server.handshake.needs());
                (needed, bytes) = ([&needed[..], &[first.len()]].concat(), rest);
                if let Step::Reply(bytes) = server.handshake.step(first, &|_| key.clone()).unwrap()
                {
                    reply = bytes;
                }
            }
            let (_, confirm) = client.finishes(&reply);
            needed.push(server.handshake.needs());
            server.replies(&confirm[..2]);
            needed.push(server.handshake.needs());
            assert_eq!(needed, lengths);
            let stream = [&confirm[2..], b"a record"].concat();
            let mut rest = &stream[..];
            assert!(matches!(server.take(&mut rest), Said::Done(..)));
            assert_eq!(rest, b"a record");
            assert!(server.handshake.step(&[0], &|_| key.clone()).is_err(), "it is over");
        }
    }
}

/// Every bit of all that the handshake sends, and of what both ends know, is refused by the
/// message that follows it.
#[test]
fn every_flipped_bit_of_the_handshake_is_refused() {
    let (key, names) = (key(7), terms("db.example"));
    for suite in SUITES {
        let (_, sent) = End::client(&key, &id("web-1"), &names, suite);
        for bit in 0..sent.len() * 8 {
            let mut bytes = sent.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut server = End::server(&key, &names);
            let refused = server.refuses(&bytes);
            // A longer id waits for its bytes.
            let is_longer = bytes[5] > 5 && bytes[5] <= 64;
            assert!(refused || is_longer, "bit {bit}");
            assert!(!is_longer || server.refuses(&[b'x'; 128]), "bit {bit}");
        }
        for bit in 0..50 * 8 {
            let (mut client, sent) = End::client(&key, &id("web-1"), &names, suite);
            let mut reply = End::server(&key, &names).replies(&sent);
            reply[bit / 8] ^= 1 << (bit % 8);
            assert!(client.refuses(&reply), "bit {bit}");
        }
        for bit in 0..19 * 8 {
            let (mut client, sent) = End::client(&key, &id("web-1"), &names, suite);
            let mut server = End::server(&key, &names);
            let (_, mut confirm) = client.finishes(&server.replies(&sent));
            confirm[bit / 8] ^= 1 << (bit % 8);
            assert!(server.refuses(&confirm), "bit {bit}");
        }
        let others = [terms("db.examplf"), terms("db.exampl"), terms("db.examplee"), terms("")];
        let role = Terms { client_serves: true, ..names.clone() };
        for other in others.into_iter().chain([role]) {
            assert!(End::server(&key, &other).refuses(&sent), "{other:?}");
        }
    }
}

/// A stranger, another's key and an unknown id: nothing is answered, and as much is read.
#[test]
fn a_client_without_the_key_is_refused_without_a_word() {
    let (held, decoy, terms) = (key(7), key(8), terms("db.example"));
    let (web, empty) = (id("web-1"), KeyId::default());
    for suite in SUITES {
        for (key, named) in [
            (key(9), web.clone()),
            (held.clone(), id("nobody")),
            (held.clone(), empty.clone()),
            (decoy.clone(), web.clone()),
        ] {
            let (_, sent) = Handshake::client(&key, &named, &terms, suite).unwrap();
            let mut server = Handshake::server(&terms).unwrap();
            let ring = |asked: &KeyId| if *asked == web { held.clone() } else { decoy.clone() };
            let mut read = 0;
            let error = loop {
                let needs = server.needs();
                read += needs;
                match server.step(&sent[read - needs..read], &ring) {
                    Ok(Step::More) => {}
                    Ok(_) => panic!("{named:?} is answered"),
                    Err(error) => break error,
                }
            };
            assert_eq!((error.kind(), read), (ErrorKind::Auth, sent.len()));
            assert_eq!(server.key_id(), &named);
        }
        // An id that is known, and one that is empty, with their keys.
        for named in [&web, &empty] {
            let (mut client, sent) = End::client(&held, named, &terms, suite);
            client.finishes(&End::server(&held, &terms).replies(&sent));
        }
    }
}

#[test]
fn a_key_that_can_be_guessed_is_refused() {
    let (short, terms) = (Key::new(&[1; 31]).unwrap(), Terms::default());
    let made = Handshake::client(&short, &KeyId::default(), &terms, Suite::AesGcm);
    assert_eq!(made.err().unwrap().kind(), ErrorKind::Key);
    let (_, sent) = Handshake::client(&key(1), &KeyId::default(), &terms, Suite::AesGcm).unwrap();
    let mut server = Handshake::server(&terms).unwrap();
    let mut bytes = &sent[..];
    let error = loop {
        let (first, rest) = bytes.split_at(server.needs());
        bytes = rest;
        if let Err(error) = server.step(first, &|_| short.clone()) {
            break error;
        }
    };
    assert_eq!((error.kind(), bytes.len()), (ErrorKind::Key, 0));
}

#[test]
fn what_speaks_something_else_is_named() {
    for (word, says) in [
        (b"GET ", "HTTP"),
        (b"SSH-", "SSH"),
        (b"\x16\x03\x01\x02", "TLS"),
        (b"\x20\0\0\0", "frame"),
        (b"a\x1b[m", r#"begins with "a\u{1b}[m": does the client speak sealed?"#),
        (b"FDS2", "\"FDS2\""),
    ] {
        let mut server = Handshake::server(&Terms::default()).unwrap();
        let error = server.step(word, &|_| key(1)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Auth);
        assert!(error.detail().contains(says), "{error}");
    }
    for (head, says) in [([0, 0], "suite 0"), ([3, 0], "suite 3"), ([1, 65], "65 bytes")] {
        let mut server = Handshake::server(&Terms::default()).unwrap();
        assert!(matches!(server.step(b"FDS1", &|_| key(1)), Ok(Step::More)));
        let error = server.step(&head, &|_| key(1)).err().unwrap();
        assert!(error.detail().contains(says), "{error}");
    }
    for id in [b".a", b"a/", b"\0a", b"a "] {
        let mut server = Handshake::server(&Terms::default()).unwrap();
        for bytes in [&b"FDS1"[..], &[1, 2]] {
            assert!(matches!(server.step(bytes, &|_| key(1)), Ok(Step::More)));
        }
        assert_eq!(server.step(id, &|_| key(1)).err().unwrap().kind(), ErrorKind::Auth);
    }
    // A plain server begins with its challenge.
    let terms = Terms::default();
    let mut client =
        Handshake::client(&key(1), &KeyId::default(), &terms, Suite::AesGcm).unwrap().0;
    let error = client.step(&[7, 7], &|_| key(1)).err().unwrap();
    assert!(error.detail().contains("does the server speak sealed?"), "{error}");
}

#[test]
fn messages_of_other_sessions_and_ones_own_are_refused() {
    let (key, terms) = (key(7), terms("db.example"));
    for suite in SUITES {
        let [(mut one, sent_one), (mut two, sent_two)] =
            [0; 2].map(|_| End::client(&key, &id("web-1"), &terms, suite));
        assert_ne!(sent_one, sent_two);
        let mut server = End::server(&key, &terms);
        let reply = server.replies(&sent_two);
        assert!(one.refuses(&reply), "of another session");
        let (mut reflected, sent) = End::client(&key, &id("web-1"), &terms, suite);
        assert!(reflected.refuses(&sent[11..]), "its own message");
        let (_, confirm) = two.finishes(&reply);
        // A replay gets an answer of its own, and no further.
        for _ in 0..100 {
            let mut replayed = End::server(&key, &terms);
            assert_ne!(replayed.replies(&sent_two), reply);
            assert!(replayed.refuses(&confirm));
        }
        server.finishes(&confirm);
    }
}

/// With a name, a client cannot be connected to another holder of its key, or to itself. With
/// the empty name it can: nobody may claim otherwise.
#[test]
fn a_connection_is_rerouted_only_without_a_name() {
    let key = key(7);
    for suite in SUITES {
        for (expected, other, works) in [("a", "b", false), ("a", "", false), ("", "", true)] {
            let (mut client, sent) = End::client(&key, &KeyId::default(), &terms(expected), suite);
            let mut rerouted = End::server(&key, &terms(other));
            if works {
                let (_, confirm) = client.finishes(&rerouted.replies(&sent));
                rerouted.finishes(&confirm);
            } else {
                assert!(rerouted.refuses(&sent));
            }
        }
    }
}

/// Between message 2 and the session there is CONFIRM, once, and nothing else.
#[test]
fn nothing_but_the_confirmation_confirms() {
    let (key, names) = (key(7), terms("db.example"));
    for suite in SUITES {
        let begun = || {
            let (mut client, sent) = End::client(&key, &id("web-1"), &names, suite);
            let mut server = End::server(&key, &names);
            let (session, confirm) = client.finishes(&server.replies(&sent));
            (session, server, confirm)
        };
        for (kind, body) in [(0, &b"x"[..]), (1, b""), (2, b"x"), (3, b"\0\0"), (4, b"")] {
            // As its first record: the client's own one was not made.
            let (mut client, mut server, confirm) = begun();
            let mut record = Vec::new();
            client.sealer.raw(kind, body, &mut record).unwrap();
            assert!(server.refuses(&record), "kind {kind}");
            assert!(server.handshake.step(&confirm[..2], &|_| key.clone()).is_err());
        }
        for length in [0_u16, 16, 18, 65_535] {
            let (_, mut server, _) = begun();
            assert!(server.refuses(&length.to_be_bytes()));
        }
        let (_, server, confirm) = begun();
        let mut server = server;
        let (mut session, _) = server.finishes(&confirm);
        assert_eq!(open_all(&mut session.opener, &confirm).1, Err(ErrorKind::Auth), "twice");
        // Its own records, which are made with the other key.
        let (mut client, mut server, confirm) = begun();
        server.finishes(&confirm);
        assert_eq!(open_all(&mut client.opener, &confirm).1, Err(ErrorKind::Auth), "reflected");
    }
}
