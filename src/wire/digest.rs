//! A SHA-256 digest (FIPS 180-4) and its text of 64 hex digits.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind};

/// The digest of a content. Its text is read in either case and written in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest([u8; 32]);

/// A digest that is being computed.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds the next piece of the content.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all the pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Digest, Error> {
        let refused = || Error::new(ErrorKind::BadField, "sha256 is not 64 hex digits");
        let mut digest = [0; 32];
        if text.len() != 2 * digest.len() {
            return Err(refused());
        }
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            let (high, low) = value(digits[0]).zip(value(digits[1])).ok_or_else(refused)?;
            *byte = u8::try_from(16 * high + low).map_err(|_| refused())?;
        }
        Ok(Digest(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the example of one block: "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parse(text: &str) -> Result<Digest, Error> {
        text.to_owned().try_into()
    }

    #[test]
    fn a_digest_is_that_of_all_the_pieces() {
        let mut hasher = Hasher::default();
        for piece in ["a", "", "bc"] {
            hasher.update(piece.as_bytes());
        }
        assert_eq!(hasher.finish().to_string(), ABC);
    }

    #[test]
    fn the_case_of_the_digits_does_not_matter() {
        assert_eq!(parse(&ABC.to_uppercase()).unwrap(), parse(ABC).unwrap());
        assert_eq!(parse(&ABC.to_uppercase()).unwrap().to_string(), ABC);
    }

    #[test]
    fn what_is_not_64_hex_digits_is_refused() {
        let spoilt = |with: &str| format!("{}{with}", &ABC[with.len()..]);
        for bad in ["", &ABC[1..], &format!("{ABC}0"), &spoilt("g"), &spoilt("+1"), &spoilt("é")] {
            assert_eq!(parse(bad).unwrap_err().kind(), ErrorKind::BadField, "{bad}");
        }
    }
}
