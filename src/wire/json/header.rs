//! The JSON header of a frame: its checks, typed access, and `data_size`.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::json::reader::{self, Fields, Value, find};
use crate::wire::memory::{copy, reserve};

/// The key for the number of body bytes; the only one that framing uses.
pub(super) const DATA_SIZE: &str = "data_size";

/// The largest body: old readers store its size in a signed 64-bit integer.
pub const MAX_DATA_SIZE: u64 = i64::MAX as u64;

/// A received header: one JSON object (RFC 8259), its text untouched.
#[derive(Debug)]
pub struct Header {
    text: Text,
    data_size: Option<u64>,
}

/// The text of a header and a NUL behind it, so that C can be handed a pointer to it.
#[derive(Debug)]
enum Text {
    /// That of most headers needs no memory of its own.
    Short([u8; SHORT_TEXT], usize),
    Long(Vec<u8>),
}

/// A text of fewer bytes than this is short.
pub(crate) const SHORT_TEXT: usize = 64;

impl Header {
    /// Parses a header: UTF-8, one JSON object nested at most `max_depth` deep (the object
    /// itself is level 1), a plain `data_size` or none.
    pub fn parse(mut text: Vec<u8>, max_depth: u32) -> Result<Header> {
        let data_size = read_data_size(&text, max_depth)?;
        reserve(&mut text, 1)?;
        text.push(0);
        Ok(Header { text: Text::Long(text), data_size })
    }

    /// As [`parse`](Self::parse): `len` bytes of text, then zeros.
    #[inline]
    pub(crate) fn parse_short(
        text: [u8; SHORT_TEXT],
        len: usize,
        max_depth: u32,
    ) -> Result<Header> {
        let data_size = read_data_size(&text[..len], max_depth)?;
        Ok(Header { text: Text::Short(text, len), data_size })
    }

    /// A header that was parsed before, and the `data_size` that was found.
    pub(crate) fn checked(text: &[u8], data_size: Option<u64>) -> Result<Header> {
        let text = if text.len() < SHORT_TEXT {
            let mut short = [0; SHORT_TEXT];
            short[..text.len()].copy_from_slice(text);
            Text::Short(short, text.len())
        } else {
            let mut long = copy(text, 1)?;
            long.push(0);
            Text::Long(long)
        };
        Ok(Header { text, data_size })
    }

    /// The JSON text as it was received.
    pub fn text(&self) -> &str {
        let text = self.text_with_nul();
        // Checked when it was parsed; the fallback is never taken.
        std::str::from_utf8(&text[..text.len() - 1]).unwrap_or_default()
    }

    /// The JSON text with a final NUL.
    #[inline]
    pub fn text_with_nul(&self) -> &[u8] {
        match &self.text {
            Text::Short(bytes, len) => &bytes[..=*len],
            Text::Long(bytes) => bytes,
        }
    }

    /// The value of `data_size`, if it is given.
    pub fn data_size(&self) -> Option<u64> {
        self.data_size
    }

    /// The string at the top-level key `key`. A key that is there more than once is
    /// [`ErrorKind::BadField`].
    pub fn string(&self, key: &str) -> Result<Cow<'_, str>> {
        reader::string(self.text(), key)
    }

    /// The integer at the top-level key `key`.
    pub fn integer(&self, key: &str) -> Result<i64> {
        reader::integer(self.text(), key)
    }

    /// The boolean at the top-level key `key`.
    pub fn boolean(&self, key: &str) -> Result<bool> {
        reader::boolean(self.text(), key)
    }

    /// The keys as a message reads them.
    pub fn fields(&self) -> Result<Fields<'_>> {
        Fields::parse(self.text())
    }
}

/// Checks `text` as [`Header::parse`] does, and returns its `data_size`.
#[inline]
pub fn read_data_size(text: &[u8], max_depth: u32) -> Result<Option<u64>> {
    match canonical_data_size(text) {
        Some(size) => Ok(Some(size)),
        None => parse_for_data_size(text, max_depth),
    }
}

fn parse_for_data_size(text: &[u8], max_depth: u32) -> Result<Option<u64>> {
    match find(as_utf8(text)?, DATA_SIZE, max_depth)? {
        None => Ok(None),
        Some(member) if member.is_repeated => Err(bad_field("data_size is given twice")),
        Some(member) => parse_data_size(member.value).map(Some),
    }
}

/// The text after the brace that opens `header`, a JSON object that may be sent: its keys and
/// the brace that closes it.
pub(crate) fn keys_to_send(header: &str) -> Result<&str> {
    if find(header, DATA_SIZE, limits::MAX_DEPTH_HARD)?.is_some() {
        return Err(bad_field("data_size is written by the library"));
    }
    Ok(header.trim_ascii_start()[1..].trim_ascii_start())
}

/// The size in a header that has no other key and is spelled as this library spells it, which
/// most are: what the JSON parser would find, in a tenth of the time.
#[inline]
fn canonical_data_size(text: &[u8]) -> Option<u64> {
    let (opening, rest) = text.split_first_chunk::<13>()?;
    let (closing, digits) = rest.split_last()?;
    // One more digit may not fit, and JSON has no leading zeros.
    let is_canonical = opening == b"{\"data_size\":"
        && *closing == b'}'
        && matches!(digits.len(), 1..=18)
        && (digits.len() == 1 || digits[0] != b'0');
    if !is_canonical {
        return None;
    }
    let mut size = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        size = size * 10 + u64::from(digit - b'0');
    }
    Some(size)
}

fn as_utf8(text: &[u8]) -> Result<&str> {
    std::str::from_utf8(text)
        .map_err(|error| Error::new(ErrorKind::BadJson, format!("it is not UTF-8: {error}")))
}

/// RFC 8259 allows many spellings of a number. Only one is accepted, so that two readers of a
/// frame cannot disagree about its end.
fn parse_data_size(value: Value<'_>) -> Result<u64> {
    let text = value.raw();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let shown: String = text.chars().take(32).collect();
        return Err(bad_field(format!("data_size is not a plain integer: {shown}")));
    }
    match text.parse() {
        Ok(size) if size <= MAX_DATA_SIZE => Ok(size),
        _ => Err(Error::new(ErrorKind::TooBig, "data_size does not fit 63 bits")),
    }
}

fn bad_field(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadField, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Header> {
        Header::parse(text.as_bytes().to_vec(), limits::MAX_DEPTH)
    }

    fn kind(text: &str) -> ErrorKind {
        parse(text).unwrap_err().kind()
    }

    #[test]
    fn data_size_has_one_spelling() {
        assert_eq!(parse("{}").unwrap().data_size(), None);
        assert_eq!(parse(r#" {"data_size": 7 }"#).unwrap().data_size(), Some(7));
        assert_eq!(parse(r#"{"data\u005fsize":9223372036854775807}"#).unwrap().data_size(), {
            Some(MAX_DATA_SIZE)
        });
        for value in ["null", "true", "\"5\"", "{}", "[]", "-1", "-0", "5.0", "1e3", "1e400"] {
            assert_eq!(kind(&format!("{{\"data_size\":{value}}}")), ErrorKind::BadField, "{value}");
        }
        for value in ["NaN", "Infinity", "007", "+5", "0x5", ""] {
            assert_eq!(kind(&format!("{{\"data_size\":{value}}}")), ErrorKind::BadJson, "{value}");
        }
        for value in ["9223372036854775808", "18446744073709551616", &"9".repeat(5000)] {
            assert_eq!(kind(&format!("{{\"data_size\":{value}}}")), ErrorKind::TooBig, "{value}");
        }
        assert_eq!(kind(r#"{"data_size":1,"data\u005fsize":1}"#), ErrorKind::BadField);
        assert_eq!(parse(r#"{"a":{"data_size":9}}"#).unwrap().data_size(), None);
    }

    #[test]
    fn depth_is_counted_from_the_object_itself() {
        let nested = |levels: usize| {
            format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        assert!(parse(&nested(32)).is_ok());
        assert_eq!(kind(&nested(33)), ErrorKind::BadJson);
        assert_eq!(kind(&nested(100_000)), ErrorKind::BadJson);
    }

    #[test]
    fn typed_getters_tell_missing_from_wrong() {
        let header = parse(r#"{"s":"a\u0000b","i":-5,"b":true,"u":18446744073709551615,"f":1.5}"#);
        let header = header.unwrap();
        assert_eq!(header.string("s").unwrap(), "a\0b");
        assert_eq!(header.integer("i").unwrap(), -5);
        assert!(header.boolean("b").unwrap());
        assert_eq!(header.string("x").unwrap_err().kind(), ErrorKind::Missing);
        assert_eq!(header.string("i").unwrap_err().kind(), ErrorKind::BadField);
        assert_eq!(header.integer("u").unwrap_err().kind(), ErrorKind::BadField);
        assert_eq!(header.integer("f").unwrap_err().kind(), ErrorKind::BadField);
        assert_eq!(header.boolean("s").unwrap_err().kind(), ErrorKind::BadField);
    }

    #[test]
    fn what_is_read_by_hand_is_what_the_parser_reads() {
        let by_parser = |text: &str| {
            let found = find(text, DATA_SIZE, limits::MAX_DEPTH).ok()??;
            parse_data_size(found.value).ok().filter(|_| !found.is_repeated)
        };
        let pieces =
            ["{\"data_size\":", "{\"data_siz", "{ \"data_size\":", "", "{\"a\":1,\"data_size\":"];
        let numbers =
            ["0", "1", "-1", "00", "01", "+1", "1e3", "1.0", " 7", "7 ", "", "\"5\"", "٣"];
        let numbers = numbers.iter().map(ToString::to_string).chain((1..25).map(|n| "9".repeat(n)));
        let mut agreed = 0;
        for number in numbers {
            for start in pieces {
                for end in ["}", "", "} ", "}}", ",\"a\":1}"] {
                    let text = format!("{start}{number}{end}");
                    if let Some(size) = canonical_data_size(text.as_bytes()) {
                        assert_eq!(by_parser(&text), Some(size), "{text}");
                        agreed += 1;
                    }
                }
            }
        }
        assert_eq!(agreed, 2 + 18, "0, 1, and 1 to 18 nines");
    }

    proptest::proptest! {
        #[test]
        fn any_size_is_read_by_hand_as_the_parser_reads_it(size in 0..MAX_DATA_SIZE, cut in 0..19_u32) {
            let text = format!("{{\"data_size\":{}}}", size / 10_u64.pow(cut));
            let found = find(&text, DATA_SIZE, 1).unwrap().unwrap();
            let by_parser = parse_data_size(found.value).unwrap();
            proptest::prop_assert_eq!(read_data_size(text.as_bytes(), 1).unwrap(), Some(by_parser));
        }

        #[test]
        fn any_bytes_read_by_hand_are_read_so_by_the_parser(text in "\\{?\"?data_size\"?:?[-0-9. e+]{0,22}\\}?") {
            if let Some(size) = canonical_data_size(text.as_bytes()) {
                let found = find(&text, DATA_SIZE, 1).unwrap().unwrap();
                proptest::prop_assert_eq!(parse_data_size(found.value).unwrap(), size);
            }
        }
    }
}
