//! The length prefix of a packet, in all its widths.

use crate::error::{Error, ErrorKind, Result};

/// How a packet's length is written before it. The default is four bytes,
/// little-endian, signed; other ecosystems differ (Erlang's `{packet, N}` and tokio's
/// `LengthDelimitedCodec` are big-endian and unsigned).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixFormat {
    width: u8,
    big_endian: bool,
    unsigned: bool,
}

impl Default for PrefixFormat {
    fn default() -> Self {
        PrefixFormat { width: 4, big_endian: false, unsigned: false }
    }
}

impl PrefixFormat {
    /// A format of `width` bytes: 1, 2, 4 or 8.
    pub fn new(width: u8, big_endian: bool, unsigned: bool) -> Result<PrefixFormat> {
        if !matches!(width, 1 | 2 | 4 | 8) {
            return Err(Error::new(
                ErrorKind::Argument,
                format!("a length prefix is 1, 2, 4 or 8 bytes wide, not {width}"),
            ));
        }
        Ok(PrefixFormat { width, big_endian, unsigned })
    }

    /// Bytes the prefix takes.
    #[inline]
    pub fn width(self) -> usize {
        usize::from(self.width)
    }

    /// The largest length of this prefix.
    #[inline]
    pub fn max(self) -> u64 {
        let bits = u32::from(self.width) * 8 - u32::from(!self.unsigned);
        u64::MAX >> (64 - bits)
    }

    /// The prefix for `length`, in the first [`width`](Self::width) bytes.
    #[inline]
    pub fn encode(self, length: u64) -> Result<[u8; 8]> {
        if length > self.max() {
            return Err(self.too_long(length));
        }
        let mut out = [0; 8];
        if self.big_endian {
            out[..self.width()].copy_from_slice(&length.to_be_bytes()[8 - self.width()..]);
        } else {
            out = length.to_le_bytes();
        }
        Ok(out)
    }

    /// The length in `prefix`, which has exactly [`width`](Self::width) bytes.
    #[inline]
    pub fn decode(self, prefix: &[u8]) -> Result<u64> {
        debug_assert_eq!(prefix.len(), self.width());
        let mut bytes = [0; 8];
        let raw = if self.big_endian {
            bytes[8 - prefix.len()..].copy_from_slice(prefix);
            u64::from_be_bytes(bytes)
        } else {
            bytes[..prefix.len()].copy_from_slice(prefix);
            u64::from_le_bytes(bytes)
        };
        if raw > self.max() {
            return Err(self.negative(raw, prefix));
        }
        Ok(raw)
    }

    /// As [`decode`](Self::decode), but no more than `max`.
    #[inline]
    pub fn decode_within(self, prefix: &[u8], max: u64) -> Result<u64> {
        let length = self.decode(prefix)?;
        if length > max {
            return Err(too_big(length, max, looks_like(prefix)));
        }
        Ok(length)
    }

    #[cold]
    fn too_long(self, length: u64) -> Error {
        Error::new(
            ErrorKind::TooBig,
            format!("{length} bytes do not fit a prefix that ends at {}", self.max()),
        )
    }

    #[cold]
    fn negative(self, raw: u64, prefix: &[u8]) -> Error {
        let unused = 64 - u32::from(self.width) * 8;
        #[expect(clippy::cast_possible_wrap, reason = "the sign bit is what is looked at")]
        let signed = (raw << unused) as i64 >> unused;
        Error::new(
            ErrorKind::BadLength,
            format!("the length is negative ({signed}){}", looks_like(prefix)),
        )
    }
}

/// The length of the header after this prefix.
#[inline]
pub(crate) fn header_length(prefix: &[u8], max_header: u64) -> Result<usize> {
    match PrefixFormat::default().decode_within(prefix, max_header)? {
        0 => Err(Error::new(ErrorKind::BadLength, "a header of 0 bytes")),
        // The prefix ends at 2 GiB.
        length => Ok(usize::try_from(length).unwrap_or(usize::MAX)),
    }
}

/// Refuses a size that the peer declared and that is above `max`.
#[inline]
pub(crate) fn check_size(declared: u64, max: u64) -> Result<()> {
    if declared > max { Err(too_big(declared, max, "")) } else { Ok(()) }
}

#[cold]
fn too_big(declared: u64, max: u64, remark: &str) -> Error {
    Error::new(
        ErrorKind::TooBig,
        format!("{declared} bytes are declared, the limit is {max}{remark}"),
    )
}

/// Guesses the peer's protocol from its first bytes, for error texts: the usual cause of an
/// invalid length is a wrong port.
fn looks_like(first: &[u8]) -> &'static str {
    match first {
        [b'G', b'E', b'T', b' ']
        | [b'P', b'O', b'S', b'T']
        | [b'P', b'U', b'T', b' ']
        | [b'H', b'E', b'A', b'D']
        | [b'H', b'T', b'T', b'P'] => "; the bytes look like HTTP",
        [0x16, 0x03, _, _] => "; the bytes look like TLS",
        [b'S', b'S', b'H', b'-'] => "; the bytes look like SSH",
        b"FDS1" => "; the peer speaks sealed",
        [0, high, _, _] | [0, _, high, _] if *high < 0x80 => {
            "; the bytes look like a big-endian length"
        }
        [_, b'"', ..] | [b'{', ..] => "; the bytes look like JSON without its length",
        _ => "; does the peer ask for a key?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats() -> impl Iterator<Item = PrefixFormat> {
        [1, 2, 4, 8].into_iter().flat_map(|width| {
            [(false, false), (false, true), (true, false), (true, true)]
                .map(|(big, unsigned)| PrefixFormat::new(width, big, unsigned).unwrap())
        })
    }

    #[test]
    fn every_format_carries_its_extremes_and_refuses_one_more() {
        for format in formats() {
            for length in [0, 1, 0x7f, format.max() / 2, format.max() - 1, format.max()] {
                let bytes = format.encode(length).unwrap();
                assert_eq!(format.decode(&bytes[..format.width()]).unwrap(), length);
            }
            if let Some(over) = format.max().checked_add(1) {
                assert_eq!(format.encode(over).unwrap_err().kind(), ErrorKind::TooBig);
            }
        }
    }

    #[test]
    fn the_layout_is_what_the_name_says() {
        let cases: [(u8, bool, bool, u64, &[u8]); 6] = [
            (4, false, false, 5, &[5, 0, 0, 0]),
            (4, true, true, 5, &[0, 0, 0, 5]),
            (2, true, true, 0xfffe, &[0xff, 0xfe]),
            (2, false, true, 0xfffe, &[0xfe, 0xff]),
            (1, false, true, 255, &[255]),
            (8, true, false, 1, &[0, 0, 0, 0, 0, 0, 0, 1]),
        ];
        for (width, big, unsigned, length, bytes) in cases {
            let format = PrefixFormat::new(width, big, unsigned).unwrap();
            assert_eq!(&format.encode(length).unwrap()[..format.width()], bytes);
        }
    }

    #[test]
    fn a_negative_length_is_refused_and_named() {
        for format in formats().filter(|format| !format.unsigned) {
            let error = format.decode(&[0xff; 8][..format.width()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadLength);
            assert!(error.detail().contains("(-1)"), "{error}");
        }
    }

    #[test]
    fn an_odd_width_is_refused() {
        for width in [0, 3, 5, 6, 7, 9, 255] {
            let error = PrefixFormat::new(width, false, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
        }
    }
}
