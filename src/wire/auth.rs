//! The handshake's bytes: keys, the challenge, and its answer by HMAC-SHA256 (RFC 2104, FIPS
//! 180-4).

use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Bytes of a challenge.
pub const CHALLENGE_SIZE: usize = 32;
/// Bytes of an answer.
pub const ANSWER_SIZE: usize = 32;

/// A shared key. Its bytes are wiped when it is dropped, and never printed.
#[derive(Clone)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// A key of 16 to 1,024 bytes. HMAC pads with zeros, so NULs at the end of a key make no
    /// difference.
    pub fn new(bytes: &[u8]) -> Result<Key> {
        if bytes.len() < limits::MIN_KEY {
            return Err(Error::new(
                ErrorKind::Key,
                format!("{} bytes are too few, the least is {}", bytes.len(), limits::MIN_KEY),
            ));
        }
        Key::new_short(bytes)
    }

    /// A key that may be as short as 1 byte, for peers that cannot use longer ones.
    pub fn new_short(bytes: &[u8]) -> Result<Key> {
        match bytes.len() {
            0 => Err(Error::new(ErrorKind::Key, "the key is empty")),
            1..=limits::MAX_KEY => Ok(Key(Zeroizing::new(bytes.to_vec()))),
            more => Err(Error::new(
                ErrorKind::Key,
                format!("{more} bytes are too many, the limit is {}", limits::MAX_KEY),
            )),
        }
    }

    /// A new random key of 32 bytes from the kernel.
    pub fn generate() -> Result<Key> {
        let mut bytes = Zeroizing::new(vec![0; limits::KEY_SIZE]);
        fill_random(&mut bytes)?;
        Ok(Key(bytes))
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both keys give the same HMACs. HMAC hashes a key that is longer than its block,
    /// and pads a shorter one with NULs.
    pub fn is_same_as(&self, other: &Key) -> bool {
        match [self, other].map(|key| key.as_bytes().len() > HMAC_BLOCK) {
            [false, false] => unpadded(self.as_bytes()) == unpadded(other.as_bytes()),
            _ => self.block() == other.block(),
        }
    }

    /// Equal for two keys exactly if they give the same HMACs.
    pub(crate) fn block(&self) -> Zeroizing<Vec<u8>> {
        if self.0.len() > HMAC_BLOCK {
            let hash = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(&*self.0)));
            return Zeroizing::new(unpadded(&*hash).to_vec());
        }
        Zeroizing::new(unpadded(&self.0).to_vec())
    }

    /// The start of an HMAC-SHA256 with this key.
    pub(crate) fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("HMAC takes any length"))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

fn unpadded(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &key[..end]
}

/// Bytes of a block of SHA-256, which HMAC pads a key to.
const HMAC_BLOCK: usize = 64;

/// The name of a key in a ring: 1 to 64 of `A-Za-z0-9._-`, no dot first. The default is the
/// empty id, which a single key has.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The id with this text, which is not the empty one.
    pub fn new(text: &[u8]) -> Result<KeyId> {
        let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        let why = match text {
            [] => "is empty",
            [b'.', ..] => "begins with a dot",
            _ if text.len() > limits::KEY_ID => "is longer than 64 bytes",
            _ if text.iter().all(known) => {
                return Ok(KeyId(text.iter().copied().map(char::from).collect()));
            }
            _ => "has another character than A-Z, a-z, 0-9, \".\", \"_\" and \"-\"",
        };
        let id = crate::wire::quote(text);
        Err(Error::new(ErrorKind::Key, format!("{id} cannot be the id of a key: it {why}")))
    }

    /// The text; empty for the id of a single key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A challenge that was sent. It accepts one answer only.
#[derive(Debug)]
pub struct Challenge([u8; CHALLENGE_SIZE]);

impl Challenge {
    /// A new one from the kernel's random numbers; fails without them.
    pub fn new() -> Result<Challenge> {
        let mut bytes = [0; CHALLENGE_SIZE];
        fill_random(&mut bytes)?;
        Ok(Challenge(bytes))
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8; CHALLENGE_SIZE] {
        &self.0
    }

    /// Which of `keys` the answer was made with: its index.
    pub fn verify(self, keys: &[&Key], answer: &[u8; ANSWER_SIZE]) -> Result<usize> {
        self.verify_named(keys.iter().copied().enumerate(), answer)
    }

    /// The name of the key that the answer was made with. Every key is tried and compared in
    /// constant time, so the time does not depend on the match.
    pub fn verify_named<'key, Name>(
        self,
        keys: impl IntoIterator<Item = (Name, &'key Key)>,
        answer: &[u8; ANSWER_SIZE],
    ) -> Result<Name> {
        let mut matched = None;
        for (name, key) in keys {
            let good = key.mac().chain_update(self.0).verify_slice(answer).is_ok();
            if good && matched.is_none() {
                matched = Some(name);
            }
        }
        matched.ok_or_else(|| Error::new(ErrorKind::Auth, ""))
    }
}

/// The answer to `challenge`.
pub fn answer(key: &Key, challenge: &[u8; CHALLENGE_SIZE]) -> [u8; ANSWER_SIZE] {
    key.mac().chain_update(challenge).finalize().into_bytes().into()
}

/// Fills `bytes` from getrandom(2). There is no generator state that a fork could repeat.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    rand::rngs::SysRng
        .try_fill_bytes(bytes)
        .map_err(|error| Error::new(ErrorKind::Key, format!("no random numbers: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> Key {
        Key::new_short(bytes).unwrap()
    }

    #[test]
    fn the_answer_is_hmac_sha256() {
        // RFC 4231, test case 2, whose data is shorter than a challenge.
        let tag = key(b"Jefe").mac().chain_update(b"what do ya want for nothing?").finalize();
        let expected = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95,
            0x75, 0xc7, 0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9,
            0x64, 0xec, 0x38, 0x43,
        ];
        assert_eq!(<[u8; 32]>::from(tag.into_bytes()), expected);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let right = key(&[7; 32]);
        for bit in 0..ANSWER_SIZE * 8 {
            let challenge = Challenge::new().unwrap();
            let mut answer = answer(&right, challenge.as_bytes());
            answer[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(challenge.verify(&[&right], &answer).unwrap_err().kind(), ErrorKind::Auth);
        }
    }

    #[test]
    fn the_key_that_matched_is_named() {
        let keys = [key(&[1; 16]), key(&[2; 100]), key(&[3; 32])];
        let all: Vec<&Key> = keys.iter().collect();
        for (index, key) in keys.iter().enumerate() {
            let challenge = Challenge::new().unwrap();
            let answer = answer(key, challenge.as_bytes());
            assert_eq!(challenge.verify(&all, &answer).unwrap(), index);
        }
        let challenge = Challenge::new().unwrap();
        let other = answer(&key(&[4; 32]), challenge.as_bytes());
        assert!(challenge.verify(&all, &other).is_err());
        let challenge = Challenge::new().unwrap();
        let answer = answer(&keys[0], challenge.as_bytes());
        assert!(challenge.verify(&[], &answer).is_err(), "no key matches nothing");
    }

    #[test]
    fn lengths_of_keys_are_checked() {
        assert_eq!(Key::new(&[0; 15]).unwrap_err().kind(), ErrorKind::Key);
        assert!(Key::new(&[0; 16]).is_ok());
        assert!(Key::new_short(&[0; 1]).is_ok());
        assert_eq!(Key::new_short(&[]).unwrap_err().kind(), ErrorKind::Key);
        assert!(Key::new(&[0; 1024]).is_ok());
        assert_eq!(Key::new(&[0; 1025]).unwrap_err().kind(), ErrorKind::Key);
    }

    #[test]
    fn keys_that_hmac_takes_for_one_are_the_same() {
        let long = [7; 65];
        let hashed = <[u8; 32]>::from(Sha256::digest(long));
        for (one, other, same) in [
            (&b"key"[..], &b"key"[..], true),
            (b"key", b"key\0\0", true),
            (b"key", b"kez", false),
            (b"key", b"key\0x", false),
            (b"\0key", b"key", false),
            (&[0; 16], &[0; 32], true),
            (&long, &hashed, true),
            (&long, &long[..64], false),
            (&[7; 66], &long, false),
            (&long, &long, true),
        ] {
            let (one, other) = (key(one), key(other));
            assert_eq!(one.is_same_as(&other), same, "{:?}", one.as_bytes());
            assert_eq!(other.is_same_as(&one), same);
            assert_eq!(one.block() == other.block(), same);
            let challenge = [5; 32];
            assert_eq!(answer(&one, &challenge) == answer(&other, &challenge), same);
        }
    }

    #[test]
    fn an_id_has_its_alphabet() {
        let longest = "x".repeat(64);
        for text in ["a", "Z", "0", "web-1", "_", "-", "a.b", "a..", &longest] {
            assert_eq!(KeyId::new(text.as_bytes()).unwrap().as_str(), text);
        }
        for (text, why) in [
            (&b""[..], "empty"),
            (b".", "dot"),
            (b"..data", "dot"),
            (b"a b", "another character"),
            (b"a/b", "another character"),
            (b"a\n", "another character"),
            (b"a\0", "another character"),
            (b"caf\xc3\xa9", "another character"),
            (&[b'x'; 65], "longer"),
        ] {
            let error = KeyId::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Key);
            assert!(error.detail().contains(why), "{error}");
        }
        assert_eq!(KeyId::default().as_str(), "");
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", key(b"secret secret secret")), "Key(..)");
    }
}
