//! Sealed streams: two machines that talk, and what else may be said to one.

use framefd::ErrorKind;
use framefd::limits::{SEAL_RECORD, SEAL_RECORDS};
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::Used;
use framefd::wire::seal::handshake::{Handshake, Session, Step};
use framefd::wire::seal::record::{Opened, Opener, Sealer};
use framefd::wire::seal::terms::{ServerName, Suite, Terms};

const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

/// One end, and what it was given.
struct End {
    handshake: Handshake,
    key: Key,
}

/// What an end says to some bytes.
enum Said {
    /// It needs more, and has replied this.
    More(Vec<u8>),
    /// It is done: the session, and its first record.
    Done(Box<Session>, Vec<u8>),
    Refused(ErrorKind),
}

impl End {
    fn client(key: &Key, id: &KeyId, terms: &Terms, suite: Suite) -> (End, Vec<u8>) {
        let (handshake, sent) = Handshake::client(key, id, terms, suite).unwrap();
        (End { handshake, key: key.clone() }, sent)
    }

    fn server(key: &Key, terms: &Terms) -> End {
        End { handshake: Handshake::server(terms).unwrap(), key: key.clone() }
    }

    /// Takes as many of `bytes` as the handshake wants, and leaves the rest.
    fn take(&mut self, bytes: &mut &[u8]) -> Said {
        let mut replied = Vec::new();
        while bytes.len() >= self.handshake.needs() {
            let (first, rest) = bytes.split_at(self.handshake.needs());
            *bytes = rest;
            match self.handshake.step(first, &|_| self.key.clone()) {
                Ok(Step::More) => {}
                Ok(Step::Reply(reply)) => replied.extend(reply),
                Ok(Step::Done { session, confirm }) => return Said::Done(session, confirm),
                Err(error) => return Said::Refused(error.kind()),
            }
        }
        Said::More(replied)
    }

    fn replies(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.take(&mut &bytes[..]) {
            Said::More(reply) => reply,
            Said::Done(..) => panic!("done"),
            Said::Refused(kind) => panic!("{kind:?}"),
        }
    }

    fn finishes(&mut self, bytes: &[u8]) -> (Box<Session>, Vec<u8>) {
        match self.take(&mut &bytes[..]) {
            Said::Done(session, confirm) => (session, confirm),
            Said::More(_) => panic!("more"),
            Said::Refused(kind) => panic!("{kind:?}"),
        }
    }

    /// Refuses `bytes`, and everything after.
    fn refuses(&mut self, bytes: &[u8]) -> bool {
        let Said::Refused(kind) = self.take(&mut &bytes[..]) else { return false };
        assert_eq!(kind, ErrorKind::Auth);
        let again = self.handshake.step(&[0], &|_| self.key.clone()).err().unwrap();
        assert_eq!(again.kind(), ErrorKind::Auth);
        true
    }
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).unwrap()
}

fn terms(name: &str) -> Terms {
    Terms { name: ServerName::new(name.as_bytes()).unwrap(), client_serves: false }
}

fn id(text: &str) -> KeyId {
    KeyId::new(text.as_bytes()).unwrap()
}

/// A session between two ends that agree, and the client's first record.
fn sessions(suite: Suite) -> (Session, Session, Vec<u8>) {
    let (key, terms) = (key(7), terms("db.example"));
    let (mut client, sent) = End::client(&key, &id("web-1"), &terms, suite);
    let mut server = End::server(&key, &terms);
    let reply = server.replies(&sent);
    let (at_client, confirm) = client.finishes(&reply);
    let (at_server, nothing) = server.finishes(&confirm);
    assert!(nothing.is_empty());
    (*at_client, *at_server, confirm)
}

/// All that is opened of `bytes`, and the kind of the failure, if there is one.
fn open_all(opener: &mut Opener, bytes: &[u8]) -> (Vec<u8>, Result<Opened, ErrorKind>) {
    let mut read = Vec::new();
    if let Err(error) = opener.feed(bytes) {
        return (read, Err(error.kind()));
    }
    loop {
        match opener.open() {
            Ok(Opened::Data) => {
                read.extend_from_slice(opener.opened());
                opener.take(opener.opened().len());
            }
            Ok(other) => return (read, Ok(other)),
            Err(error) => return (read, Err(error.kind())),
        }
    }
}

#[test]
fn a_session_carries_bytes_both_ways_until_each_end() {
    for suite in SUITES {
        let (mut client, mut server, _) = sessions(suite);
        assert_eq!(client.hash, server.hash);
        assert_eq!((&client.key_id, &server.key_id), (&id("web-1"), &id("web-1")));
        assert_eq!((client.suite, server.suite), (suite, suite));
        let (from, to) = (&mut client, &mut server);
        let mut sent = Vec::new();
        assert_eq!(from.sealer.data(&[b"one ", b"two"], usize::MAX, &mut sent).unwrap(), 7);
        assert_eq!(open_all(&mut to.opener, &sent), (b"one two".to_vec(), Ok(Opened::More)));
        sent.clear();
        from.sealer.end(&mut sent).unwrap();
        assert!(from.sealer.has_ended() && !to.opener.has_ended());
        assert_eq!(to.opener.finish().unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(open_all(&mut to.opener, &sent), (Vec::new(), Ok(Opened::End)));
        to.opener.finish().unwrap();
        let more = from.sealer.data(&[b"x"], 1, &mut sent).unwrap_err();
        assert_eq!(more.kind(), ErrorKind::State);
        // The reply still comes.
        sent.clear();
        to.sealer.data(&[b"reply"], usize::MAX, &mut sent).unwrap();
        to.sealer.end(&mut sent).unwrap();
        assert_eq!(open_all(&mut from.opener, &sent), (b"reply".to_vec(), Ok(Opened::End)));
    }
}

#[test]
fn every_size_is_cut_into_records() {
    for suite in SUITES {
        let (mut client, mut server, _) = sessions(suite);
        for size in [1, 16_383, 16_384, 16_385, 65_518, 65_519, 1 << 20] {
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut sent = Vec::new();
            let (one, two) = bytes.split_at(size / 3);
            assert_eq!(client.sealer.data(&[one, two], usize::MAX, &mut sent).unwrap(), size);
            let records = size.div_ceil(SEAL_RECORD);
            assert_eq!(sent.len(), size + 19 * records);
            let (read, last) = open_all(&mut server.opener, &sent);
            assert!(read == bytes && last == Ok(Opened::More) && server.opener.is_empty());
        }
        // A peer may send larger ones, up to what the length holds.
        let mut sent = Vec::new();
        client.sealer.raw(0, &vec![1; 65_518], &mut sent).unwrap();
        assert_eq!(open_all(&mut server.opener, &sent), (vec![1; 65_518], Ok(Opened::More)));
        let error = client.sealer.raw(0, &vec![1; 65_519], &mut sent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth);
    }
}

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

#[test]
fn every_flipped_bit_of_a_record_is_found() {
    for suite in SUITES {
        // The last one is the first under another key.
        for used in [0, SEAL_RECORDS - 3].map(|records| Used { records, ..Used::default() }) {
            let key = [9; 32];
            let mut sealer = Sealer::with_key(suite, &key, used);
            let mut records = Vec::new();
            for text in [b"one", b"two", b"3.."] {
                let mut sent = Vec::new();
                sealer.data(&[text], 3, &mut sent).unwrap();
                records.push(sent);
            }
            let mut last = Vec::new();
            sealer.data(&[b"!!!!"], 4, &mut last).unwrap();
            records.push(last);
            let stream = records.concat();
            let lengths: Vec<usize> = records.iter().map(Vec::len).collect();
            for bit in 0..stream.len() * 8 {
                let mut bytes = stream.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut opener = Opener::with_key(suite, &key, used);
                let (read, last) = open_all(&mut opener, &bytes);
                let (mut whole, mut end) = (0, 0);
                while end + lengths[whole] <= bit / 8 {
                    end += lengths[whole];
                    whole += 1;
                }
                assert_eq!(read.len(), 3 * whole, "nothing of the changed record");
                // A length that became longer is a wait for what does not come.
                let is_length = bit / 8 - end < 2;
                assert!(last == Err(ErrorKind::Auth) || is_length && last == Ok(Opened::More));
                if last.is_err() {
                    assert!(opener.used().is_none() && opener.opened().is_empty());
                    assert_eq!(opener.feed(&[0]).unwrap_err().kind(), ErrorKind::Auth);
                    assert_eq!(opener.space().unwrap_err().kind(), ErrorKind::Auth);
                    assert_eq!(opener.finish().unwrap_err().kind(), ErrorKind::Auth);
                }
            }
        }
    }
}
