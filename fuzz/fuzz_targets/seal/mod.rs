//! What the two targets share: an honest pair, and bytes of one that are changed on the way.

use framefd::ErrorKind;
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::stream::{Read, Seal};
use framefd::wire::seal::terms::{Suite, Terms};

pub const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

/// How the bytes are made and cut.
pub struct Input {
    pub suite: u8,
    pub ends: bool,
    /// The handshake is done before.
    pub is_finished: bool,
    /// Bytes of the honest peer that come first; the rest of the input follows.
    honest: usize,
    /// The bit of them that is changed, if there is one.
    bit: usize,
    step: usize,
}

impl Input {
    pub fn read(input: &[u8]) -> Option<(Input, &[u8])> {
        let ([what, honest, high, low, step], rest) = input.split_first_chunk::<5>()?;
        let input = Input {
            suite: *what,
            ends: what & 4 != 0,
            is_finished: what & 8 != 0,
            honest: usize::from(*honest),
            bit: usize::from(u16::from_be_bytes([*high, *low])),
            step: 1 + usize::from(*step),
        };
        Some((input, rest))
    }
}

pub fn client(suite: Suite) -> Seal {
    Seal::client(&key(), &KeyId::new(b"web").unwrap(), &Terms::default(), suite).unwrap()
}

pub fn server() -> Seal {
    Seal::server(&Terms::default(), Box::new(|_| key())).unwrap()
}

fn key() -> Key {
    Key::new(&[7; 32]).unwrap()
}

/// Exchanges all that both want to send.
pub fn settle(one: &mut Seal, two: &mut Seal) {
    while !one.output().is_empty() || !two.output().is_empty() {
        for turn in 0..2 {
            let (from, to) =
                if turn == 0 { (&mut *one, &mut *two) } else { (&mut *two, &mut *one) };
            to.feed(from.output()).unwrap();
            from.written(from.output().len());
            while let Read::Bytes(_) = to.read().unwrap() {}
        }
    }
}

/// Gives `end` some bytes of its honest peer, then others, in pieces. Whole and cut, it finds the
/// same.
pub fn deliver(end: &mut Seal, honest: &[u8], input: &Input, others: &[u8]) {
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
