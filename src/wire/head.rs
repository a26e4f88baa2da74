//! What goes before a body: the length prefix, and the header with `data_size` in it.

use super::header::{DATA_SIZE, MAX_DATA_SIZE, keys_to_send};
use super::packet::PrefixFormat;
use crate::error::{Error, ErrorKind, Result};

/// The prefix and the header of a frame to send, in the two pieces that it is made of: no
/// memory is asked for, and the caller's text is not copied.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The prefix, and the header up to the end of `data_size`.
    start: [u8; START_SIZE],
    start_len: usize,
    /// The keys of the caller's header, and the brace that closes it.
    keys: &'a str,
}

impl<'a> Head<'a> {
    /// The head of a frame with `header`, one JSON object without `data_size` or nothing,
    /// and a body of `body_len` bytes. `data_size` is the first key, so that a reader who
    /// logs headers sees it.
    pub fn new(header: Option<&'a str>, body_len: u64, max_header: u64) -> Result<Head<'a>> {
        if body_len > MAX_DATA_SIZE {
            return Err(Error::new(ErrorKind::TooBig, format!("a body of {body_len} bytes")));
        }
        let keys = header.map_or(Ok("}"), keys_to_send)?;
        let mut head = Head { start: [0; START_SIZE], start_len: PREFIX_SIZE, keys };
        head.put(OPENING);
        head.put_number(body_len);
        if !keys.starts_with('}') {
            head.put(b",");
        }
        let text_len = (head.len() - PREFIX_SIZE) as u64;
        if text_len > max_header {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("a header of {text_len} bytes, the limit is {max_header}"),
            ));
        }
        let prefix = PrefixFormat::default().encode(text_len)?;
        head.start[..PREFIX_SIZE].copy_from_slice(&prefix[..PREFIX_SIZE]);
        Ok(head)
    }

    /// Bytes of it.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.start_len + self.keys.len()
    }

    /// The pieces, in the order of the wire.
    pub fn pieces(&self) -> [&[u8]; 2] {
        [&self.start[..self.start_len], self.keys.as_bytes()]
    }

    /// Adds it to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        self.pieces().into_iter().for_each(|piece| out.extend_from_slice(piece));
    }

    fn put(&mut self, piece: &[u8]) {
        let end = self.start_len + piece.len();
        self.start[self.start_len..end].copy_from_slice(piece);
        self.start_len = end;
    }

    fn put_number(&mut self, mut number: u64) {
        let mut digits = [0; MAX_DIGITS];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.put(&digits[at..]);
            }
        }
    }
}

/// Bytes of the prefix of a header.
pub const PREFIX_SIZE: usize = 4;

const OPENING: &[u8] = b"{\"data_size\":";
/// Of [`MAX_DATA_SIZE`].
const MAX_DIGITS: usize = 19;
const START_SIZE: usize = PREFIX_SIZE + OPENING.len() + MAX_DIGITS + 1;

const _: () = assert!(OPENING.len() == DATA_SIZE.len() + 4);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn text(header: Option<&str>, body_len: u64) -> Result<String> {
        let head = Head::new(header, body_len, limits::MAX_HEADER)?;
        let mut bytes = Vec::new();
        head.append_to(&mut bytes);
        assert_eq!(bytes.len(), head.len());
        let text = bytes.split_off(PREFIX_SIZE);
        assert_eq!(PrefixFormat::default().decode(&bytes)?, text.len() as u64);
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn data_size_is_added_and_nothing_else() {
        assert_eq!(text(None, 5).unwrap(), r#"{"data_size":5}"#);
        assert_eq!(text(Some("{}"), 0).unwrap(), r#"{"data_size":0}"#);
        assert_eq!(text(Some(" { } "), 10).unwrap(), r#"{"data_size":10} "#);
        let longest = format!(r#"{{"data_size":{MAX_DATA_SIZE},"cmd": "x"}}"#);
        assert_eq!(text(Some(r#"{"cmd": "x"}"#), MAX_DATA_SIZE).unwrap(), longest);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for own in [r#"{"data_size":5}"#, r#"{"data\u005fsize":5}"#] {
            assert_eq!(text(Some(own), 5).unwrap_err().kind(), ErrorKind::BadField);
        }
        for bad in ["", "[]", "{", "{}x", "null", "{}{}", "\u{feff}{}"] {
            assert_eq!(text(Some(bad), 5).unwrap_err().kind(), ErrorKind::BadJson, "{bad}");
        }
        assert_eq!(text(None, 1 << 63).unwrap_err().kind(), ErrorKind::TooBig);
        assert_eq!(Head::new(None, 5, 14).unwrap_err().kind(), ErrorKind::TooBig);
        assert!(Head::new(None, 5, 15).is_ok());
    }
}
