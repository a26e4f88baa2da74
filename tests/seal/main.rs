//! Sealed streams: two machines that talk, and what else may be said to one.

mod handshake;
mod records;
mod stream;

use framefd::ErrorKind;
use framefd::limits::{READ_AHEAD_MAX, READ_AHEAD_MIN, SEAL_BYTES, SEAL_RECORD, SEAL_RECORDS};
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::Used;
use framefd::wire::seal::handshake::{Handshake, Session, Step};
use framefd::wire::seal::record::{Opened, Opener, Sealer};
use framefd::wire::seal::stream::{Read, Seal};
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
