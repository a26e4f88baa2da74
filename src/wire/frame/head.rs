//! The head of a frame: the length prefix, and the header with `data_size` in it.
#![allow(clippy::inline_always)] // the path of each queued frame, in a library that is built for size

use crate::error::{Error, ErrorKind, Result};
use crate::wire::frame::packet::PrefixFormat;
use crate::wire::json::header::{MAX_DATA_SIZE, keys_to_send};

/// The prefix and the header of a frame to send, in two pieces: nothing is allocated, and the
/// caller's text is not copied.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The prefix, and the header up to the end of `data_size`; all of it if there are no
    /// other keys.
    start: [u8; START_SIZE],
    start_len: usize,
    /// The keys of the caller's header, and the brace that closes it.
    keys: &'a str,
}

impl<'a> Head<'a> {
    /// The head of a frame with `header`, one JSON object without `data_size` or nothing, and a
    /// body of `body_len` bytes. `data_size` is the first key, so that it is easy to see in a
    /// log.
    #[inline]
    pub fn new(header: Option<&'a str>, body_len: u64, max_header: u64) -> Result<Head<'a>> {
        let keys = keys_of(header)?;
        let start_len = start_len(keys, keys.len(), body_len, max_header)?;
        let mut start = TEMPLATE;
        complete(&mut start, start_len, keys, keys.len(), body_len);
        Ok(Head { start, start_len, keys })
    }

    /// Bytes of it.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.start_len + self.keys.len()
    }

    /// The pieces, in the order of the wire.
    #[inline]
    pub fn pieces(&self) -> [&[u8]; 2] {
        [&self.start[..self.start_len], self.keys.as_bytes()]
    }

    /// Adds it to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        for piece in self.pieces() {
            out.extend_from_slice(piece);
        }
    }
}

/// As [`Head::new`] with these keys, written directly to the end of `out`: for many small frames.
/// `out` has room for [`MORE_THAN_KEYS`] bytes and the keys. They are in pieces; the first one is
/// empty only if there are none.
#[inline(always)]
pub fn append<const N: usize>(
    out: &mut Vec<u8>,
    keys: [&str; N],
    body_len: u64,
    max_header: u64,
) -> Result<()> {
    let keys_len = keys.iter().map(|piece| piece.len()).sum();
    let start_len = start_len(keys[0], keys_len, body_len, max_header)?;
    let mut start = TEMPLATE;
    complete(&mut start, start_len, keys[0], keys_len, body_len);
    out.extend_from_slice(&start[..start_len]);
    for piece in keys {
        if !piece.is_empty() {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    Ok(())
}

/// The keys of a header to send, and the brace that closes it.
#[inline(always)]
pub fn keys_of(header: Option<&str>) -> Result<&str> {
    match header {
        None => Ok(""),
        Some(header) => keys_to_send(header),
    }
}

/// The number of bytes before `keys`, of `keys_len` bytes, if the head may be sent.
#[inline(always)]
fn start_len(keys: &str, keys_len: usize, body_len: u64, max_header: u64) -> Result<usize> {
    if body_len > MAX_DATA_SIZE {
        return Err(too_big("a body", body_len, MAX_DATA_SIZE));
    }
    let digits = body_len.checked_ilog10().map_or(1, |log| log as usize + 1);
    let len = NUMBER_AT + digits + usize::from(!keys.starts_with('}'));
    let text_len = (len - PREFIX_SIZE + keys_len) as u64;
    let max_header = max_header.min(PrefixFormat::default().max());
    if text_len > max_header {
        return Err(too_big("a header", text_len, max_header));
    }
    Ok(len)
}

/// Fills in the template.
#[inline(always)]
fn complete(
    start: &mut [u8; START_SIZE],
    start_len: usize,
    keys: &str,
    keys_len: usize,
    body_len: u64,
) {
    let mut number_end = start_len;
    if !keys.starts_with('}') {
        number_end -= 1;
        start[number_end] = if keys.is_empty() { b'}' } else { b',' };
    }
    let mut rest = body_len;
    for digit in start[NUMBER_AT..number_end].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a header ends where the prefix does")]
    let text_len = (start_len - PREFIX_SIZE + keys_len) as u32;
    start[..PREFIX_SIZE].copy_from_slice(&text_len.to_le_bytes());
}

#[cold]
fn too_big(what: &str, len: u64, max: u64) -> Error {
    Error::new(ErrorKind::TooBig, format!("{what} of {len} bytes, the limit is {max}"))
}

/// Bytes of the prefix of a header.
pub const PREFIX_SIZE: usize = 4;

/// The most bytes by which a head is longer than the caller's header.
pub const MORE_THAN_KEYS: usize = START_SIZE;

const OPENING: &[u8; 13] = b"{\"data_size\":";
const NUMBER_AT: usize = PREFIX_SIZE + OPENING.len();
/// Of [`MAX_DATA_SIZE`].
const MAX_DIGITS: usize = 19;
const START_SIZE: usize = NUMBER_AT + MAX_DIGITS + 1;

const TEMPLATE: [u8; START_SIZE] = {
    let mut template = [0; START_SIZE];
    let mut at = 0;
    while at < OPENING.len() {
        template[PREFIX_SIZE + at] = OPENING[at];
        at += 1;
    }
    template
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn text(header: Option<&str>, body_len: u64) -> Result<String> {
        let head = Head::new(header, body_len, limits::MAX_HEADER);
        let mut at_once = vec![b'x'];
        let appended = keys_of(header)
            .and_then(|keys| append(&mut at_once, [keys], body_len, limits::MAX_HEADER));
        let head = head.inspect_err(|error| {
            assert_eq!((appended.as_ref(), &*at_once), (Err(error), &b"x"[..]));
        })?;
        let mut bytes = b"x".to_vec();
        head.append_to(&mut bytes);
        assert_eq!((appended, &at_once), (Ok(()), &bytes));
        bytes.remove(0);
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
        let long = format!(r#"{{"k":"{}"}}"#, "x".repeat(100_000));
        assert_eq!(text(Some(&long), 5).unwrap_err().kind(), ErrorKind::TooBig);
        assert_eq!(Head::new(None, 5, 14).unwrap_err().kind(), ErrorKind::TooBig);
        assert!(Head::new(None, 5, 15).is_ok());
    }
}
