//! The whole stream, for an event loop of somebody else.

use super::*;

/// Two ends of a whole stream, the bytes between them in pieces of `step`.
fn exchange(one: &mut Seal, two: &mut Seal, step: usize) -> [(Vec<u8>, bool); 2] {
    let mut read = [(Vec::new(), false), (Vec::new(), false)];
    loop {
        let mut moved = 0;
        for (turn, read) in read.iter_mut().enumerate() {
            let (from, to) =
                if turn == 0 { (&mut *one, &mut *two) } else { (&mut *two, &mut *one) };
            let piece = from.output()[..from.output().len().min(step)].to_vec();
            from.written(piece.len());
            moved += piece.len();
            to.feed(&piece).unwrap();
            loop {
                match to.read().unwrap() {
                    Read::Bytes(bytes) => read.0.extend_from_slice(bytes),
                    Read::End => break read.1 = true,
                    Read::More => break,
                }
            }
        }
        if moved == 0 {
            return read;
        }
    }
}

fn streams(suite: Suite, server_key: Key) -> (Seal, Seal) {
    let terms = terms("db.example");
    let client = Seal::client(&key(7), &id("web-1"), &terms, suite).unwrap();
    (client, Seal::server(&terms, Box::new(move |_| server_key.clone())).unwrap())
}

#[test]
fn a_stream_shakes_hands_and_carries_what_waited() {
    for suite in SUITES {
        for step in [1, 7, 50, 100_000] {
            let (mut client, mut server) = streams(suite, key(7));
            client.write(b"early ", false).unwrap();
            server.write(b"reply", true).unwrap();
            client.write(b"and late", true).unwrap();
            assert_eq!(client.write(b"", false).unwrap_err().kind(), ErrorKind::State);
            assert_eq!(server.output(), b"", "it waits for the client's confirmation");
            let [to_server, to_client] = exchange(&mut client, &mut server, step);
            assert_eq!(to_server, (b"early and late".to_vec(), true));
            assert_eq!(to_client, (b"reply".to_vec(), true));
            let (ours, theirs) = (client.session().unwrap(), server.session().unwrap());
            assert_eq!((ours.hash, &ours.key_id), (theirs.hash, &theirs.key_id));
            client.finish().unwrap();
            server.finish().unwrap();
            client.release();
        }
        let (mut client, mut server) = streams(suite, key(7));
        exchange(&mut client, &mut server, 9);
        for size in [0, 1, 100_000] {
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            client.write(&bytes, false).unwrap();
            server.write(&bytes, false).unwrap();
            let [to_server, to_client] = exchange(&mut client, &mut server, 4000);
            assert!(to_server == (bytes.clone(), false) && to_client == (bytes, false));
        }
        assert_eq!(client.finish().unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(client.write(b"x", false).unwrap_err().kind(), ErrorKind::Truncated);
    }
}

#[test]
fn a_stream_that_fails_says_no_more() {
    for suite in SUITES {
        let (mut client, mut server) = streams(suite, key(8));
        assert_eq!(client.write(&vec![0; 65_536], false), Ok(()));
        let error = client.write(b"x", false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State, "too much waits");
        server.write(b"x", false).unwrap();
        server.feed(client.output()).unwrap();
        assert_eq!(server.read().unwrap_err().kind(), ErrorKind::Auth);
        assert_eq!(server.output(), b"");
        for again in [server.feed(b"x"), server.write(b"x", false), server.finish()] {
            assert_eq!(again.unwrap_err().kind(), ErrorKind::Auth);
        }
        assert!(server.session().is_none() && server.read().is_err() && server.space().is_err());
        // Cut in the handshake.
        assert_eq!(client.finish().unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(client.output(), b"");
        // What is not sent when a record is wrong stays unsent.
        let (mut client, mut server) = streams(suite, key(7));
        exchange(&mut client, &mut server, 50);
        server.write(b"a reply", false).unwrap();
        assert!(!server.output().is_empty());
        server.feed(&[0; 100]).unwrap();
        assert_eq!(server.read().unwrap_err().kind(), ErrorKind::Auth);
        assert_eq!(server.output(), b"");
    }
}
