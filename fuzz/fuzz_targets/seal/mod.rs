//! One end of a sealed stream that is given bytes of its honest peer, which are changed on the
//! way, and then any others.
#![allow(dead_code, reason = "each target attacks one end")]

use framefd::ErrorKind;
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::stream::{Read, Seal};
use framefd::wire::seal::terms::{Suite, Terms};

/// The end that is attacked.
#[derive(PartialEq)]
pub enum Which {
    Client,
    Server,
}

/// Gives one end what `input` says.
pub fn attack(input: &[u8], which: Which) {
    let Some((input, others)) = Input::read(input) else { return };
    let (mut client, mut server) = input.pair();
    let is_client = which == Which::Client;
    let honest = if is_client { &mut server } else { &mut client };
    honest.write(b"a request or an answer", input.ends).unwrap();
    if input.is_finished {
        settle(&mut client, &mut server);
        let honest = if is_client { &mut server } else { &mut client };
        honest.write(b"and more of it", true).unwrap_or_default();
    } else if is_client {
        pass(&mut client, &mut server);
    } else if input.is_begun {
        // Up to what follows the server's message.
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }
    let (end, honest) = if is_client { (&mut client, &server) } else { (&mut server, &client) };
    deliver(end, honest.output(), &input, others);
}

/// How the bytes are made and cut.
struct Input {
    suite: Suite,
    /// The client has the server's message.
    is_begun: bool,
    ends: bool,
    /// The handshake is done before.
    is_finished: bool,
    /// Bytes of the honest peer that come first; the rest of the input follows.
    honest: usize,
    /// The bit of them that is changed, if there is one.
    bit: usize,
    step: usize,
}

impl Input {
    fn read(input: &[u8]) -> Option<(Input, &[u8])> {
        let ([what, honest, high, low, step], rest) = input.split_first_chunk::<5>()?;
        let input = Input {
            suite: if what & 1 == 0 { Suite::AesGcm } else { Suite::ChaChaPoly },
            is_begun: what & 2 != 0,
            ends: what & 4 != 0,
            is_finished: what & 8 != 0,
            honest: usize::from(*honest),
            bit: usize::from(u16::from_be_bytes([*high, *low])),
            step: 1 + usize::from(*step),
        };
        Some((input, rest))
    }

    /// A client and its server.
    fn pair(&self) -> (Seal, Seal) {
        let key = || Key::new(&[7; 32]).unwrap();
        let (id, terms) = (KeyId::new(b"web").unwrap(), Terms::default());
        let client = Seal::client(&key(), &id, &terms, self.suite).unwrap();
        (client, Seal::server(&terms, Box::new(move |_| key())).unwrap())
    }
}

/// Exchanges all that both want to send.
fn settle(one: &mut Seal, two: &mut Seal) {
    while !one.output().is_empty() || !two.output().is_empty() {
        pass(one, two);
        pass(two, one);
    }
}

/// Gives all that one end wants to send to the other.
fn pass(from: &mut Seal, to: &mut Seal) {
    to.feed(from.output()).unwrap();
    from.written(from.output().len());
    while let Read::Bytes(_) = to.read().unwrap() {}
}

/// Gives `end` some bytes of its honest peer, then others, in pieces. Whole and cut, it finds the
/// same.
fn deliver(end: &mut Seal, honest: &[u8], input: &Input, others: &[u8]) {
    let mut bytes = honest[..honest.len().min(input.honest)].to_vec();
    let is_changed = input.bit < bytes.len() * 8;
    if is_changed {
        bytes[input.bit / 8] ^= 1 << (input.bit % 8);
    }
    let is_honest = !is_changed && others.is_empty();
    bytes.extend_from_slice(others);
    for piece in bytes.chunks(input.step) {
        if end.feed(piece).is_err() {
            break;
        }
        loop {
            match end.read() {
                Ok(Read::Bytes(bytes)) => assert!(!bytes.is_empty()),
                Ok(_) => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Auth);
                    assert!(!is_honest, "{error}");
                    assert!(end.output().is_empty() && end.session().is_none());
                    break;
                }
            }
        }
        let room = end.space().map(|space| space.capacity()).unwrap_or_default();
        assert!(room <= 64 * 1024, "{room}");
    }
    let is_whole = end.finish().is_ok();
    assert!(!is_whole || end.session().is_some());
}
