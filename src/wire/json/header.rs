//! The JSON header of a frame: its checks, typed access, and `data_size`.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::escape;
use crate::wire::json::plain;
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
    known: Known,
}

/// What the library looks for in each header, found by the pass that checks it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) data_size: Option<u64>,
    cmd: Place,
    id: Place,
}

/// Where the value of a key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The header is not spelled as most are: it has to be searched.
    #[default]
    Unknown,
    /// There is no such key, or more than one.
    None,
    At(u8, u8),
}

impl Place {
    /// Of a value in a short text, as far as it was read.
    fn of(value: Option<Range<usize>>, is_repeated: bool) -> Place {
        let Some(Range { start, end }) = value.filter(|_| !is_repeated) else { return Place::None };
        match (u8::try_from(start), u8::try_from(end)) {
            (Ok(start), Ok(end)) => Place::At(start, end),
            _ => Place::Unknown,
        }
    }
}

/// The text of a header and a NUL behind it, so that C can be handed a pointer to it.
#[derive(Debug)]
enum Text {
    /// That of most headers needs no memory of its own.
    Short([u8; SHORT_TEXT], usize),
    Long(Vec<u8>),
}

/// Bytes before the number in a header that begins with its size.
const OPENING: usize = 13;

/// A text of fewer bytes than this is short.
pub(crate) const SHORT_TEXT: usize = 64;

impl Header {
    /// Parses a header: UTF-8, one JSON object nested at most `max_depth` deep (the object
    /// itself is level 1), a plain `data_size` or none.
    pub fn parse(mut text: Vec<u8>, max_depth: u32) -> Result<Header> {
        let known = Known::read(&text, max_depth)?;
        reserve(&mut text, 1)?;
        text.push(0);
        Ok(Header { text: Text::Long(text), known })
    }

    /// As [`parse`](Self::parse): `len` bytes of text, then zeros.
    #[inline]
    pub(crate) fn parse_short(
        text: [u8; SHORT_TEXT],
        len: usize,
        max_depth: u32,
    ) -> Result<Header> {
        let known = Known::read(&text[..len], max_depth)?;
        Ok(Header { text: Text::Short(text, len), known })
    }

    /// A header that was read before, and what was found.
    pub(crate) fn checked(text: &[u8], known: Known) -> Result<Header> {
        let text = if text.len() < SHORT_TEXT {
            let mut short = [0; SHORT_TEXT];
            short[..text.len()].copy_from_slice(text);
            Text::Short(short, text.len())
        } else {
            let mut long = copy(text, 1)?;
            long.push(0);
            Text::Long(long)
        };
        Ok(Header { text, known })
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
        self.known.data_size
    }

    /// The string at `cmd`, as [`string`](Self::string) finds it.
    pub(crate) fn cmd(&self) -> Result<Cow<'_, str>> {
        // A text without escapes.
        match self.at(self.known.cmd) {
            Some([b'"', cmd @ .., b'"']) => std::str::from_utf8(cmd)
                .map_or_else(|_| self.string("cmd"), |cmd| Ok(Cow::Borrowed(cmd))),
            _ => self.string("cmd"),
        }
    }

    /// The JSON of the `id`, for a reply that repeats it.
    pub(crate) fn id_to_repeat(&self) -> Option<Cow<'_, str>> {
        match self.known.id {
            Place::Unknown => reader::id_to_repeat(self.text()),
            place => Value::known(std::str::from_utf8(self.at(place)?).ok()?).id_to_repeat(),
        }
    }

    fn at(&self, place: Place) -> Option<&[u8]> {
        let Place::At(start, end) = place else { return None };
        self.text_with_nul().get(usize::from(start)..usize::from(end))
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

impl Known {
    /// Checks `text` as [`Header::parse`] does.
    #[inline]
    pub(crate) fn read(text: &[u8], max_depth: u32) -> Result<Known> {
        match leading_size(text) {
            Some((size, end)) if end + 1 == text.len() && text[end] == b'}' => {
                Ok(Known { data_size: Some(size), cmd: Place::None, id: Place::None })
            }
            first => Known::search(text, first, max_depth),
        }
    }

    /// `first` is the `data_size` that was read already.
    fn search(text: &[u8], first: Option<(u64, usize)>, max_depth: u32) -> Result<Known> {
        let (mut size, mut cmd, mut id) = (None, None, None);
        let (mut is_size_repeated, mut is_cmd_repeated, mut is_id_repeated) = (false, false, false);
        let take = |key: Range<_>, value| match &text[key] {
            key if key == DATA_SIZE.as_bytes() => is_size_repeated = size.replace(value).is_some(),
            b"cmd" => is_cmd_repeated = cmd.replace(value).is_some(),
            b"id" => is_id_repeated = id.replace(value).is_some(),
            _ => {}
        };
        let taken = match first {
            Some((_, end)) if text.get(end) == Some(&b',') => {
                plain::members_from(text, end + 1, take)
            }
            Some(_) => None,
            None => plain::members(text, take),
        };
        if taken.is_none() {
            return Known::parse(as_utf8(text)?, max_depth);
        }
        let data_size = match (first, size) {
            (first, None) => first.map(|(size, _)| size),
            (Some(_), Some(_)) => return Err(repeated_size()),
            _ if is_size_repeated => return Err(repeated_size()),
            (None, Some(value)) => Some(parse_data_size(&text[value])?),
        };
        let cmd = Place::of(cmd, is_cmd_repeated);
        Ok(Known { data_size, cmd, id: Place::of(id, is_id_repeated) })
    }

    fn parse(text: &str, max_depth: u32) -> Result<Known> {
        let data_size = match reader::parse(text, DATA_SIZE, max_depth)? {
            None => None,
            Some(member) if member.is_repeated => return Err(repeated_size()),
            Some(member) => Some(parse_data_size(member.value.raw().as_bytes())?),
        };
        Ok(Known { data_size, ..Known::default() })
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

/// The size and the position behind it, if a header begins with it and spells it as this library
/// does: what the JSON parser would find, in a tenth of the time.
#[inline]
fn leading_size(text: &[u8]) -> Option<(u64, usize)> {
    let (opening, rest) = text.split_first_chunk::<OPENING>()?;
    if opening != b"{\"data_size\":" {
        return None;
    }
    let (mut size, mut len) = (0, 0);
    while let Some(digit) = rest.get(len).filter(|digit| digit.is_ascii_digit()) {
        size = size * 10 + u64::from(digit - b'0');
        len += 1;
        // One more digit may not fit.
        if len == 19 {
            return None;
        }
    }
    // JSON has no leading zeros.
    (len == 1 || (len > 1 && rest[0] != b'0')).then_some((size, OPENING + len))
}

fn as_utf8(text: &[u8]) -> Result<&str> {
    std::str::from_utf8(text)
        .map_err(|error| Error::new(ErrorKind::BadJson, format!("it is not UTF-8: {error}")))
}

/// RFC 8259 allows many spellings of a number. Only one is accepted, so that two readers of a
/// frame cannot disagree about its end.
fn parse_data_size(value: &[u8]) -> Result<u64> {
    let mut size = Some(0_u64);
    for byte in value {
        if !byte.is_ascii_digit() {
            let shown = escape(&value[..value.len().min(32)]);
            return Err(bad_field(format!("data_size is not a plain integer: {shown}")));
        }
        let digit = u64::from(byte - b'0');
        size = size.and_then(|size| size.checked_mul(10)?.checked_add(digit));
    }
    size.filter(|size| *size <= MAX_DATA_SIZE)
        .ok_or_else(|| Error::new(ErrorKind::TooBig, "data_size does not fit 63 bits"))
}

#[cold]
fn repeated_size() -> Error {
    bad_field("data_size is given twice")
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
    fn what_is_known_of_a_header_is_what_is_in_it() {
        let far = format!(r#"{{"a":"{}","cmd":"x","id":1}}"#, "x".repeat(245));
        for (text, is_known) in [
            ("{}", false),
            (r#"{"data_size":1}"#, true),
            (r#"{"cmd":"echo"}"#, true),
            (r#"{"data_size":1,"cmd":"e","id":7,"a":"cmd"}"#, true),
            (r#"{"cmd":"","id":""}"#, true),
            (r#"{"cmd":1,"id":true}"#, true),
            (r#"{"cmd":null,"id":null}"#, true),
            (r#"{"cmd":"a","id":1,"cmd":"b","id":1}"#, true),
            (r#"{"id":9223372036854775808}"#, true),
            (r#"{"cmd":"a","c\u006dd":"b","i\u0064":1,"id":1}"#, false),
            (r#"{ "cmd":"a","id":-7}"#, false),
            (r#"{"cmd":"\n","id":"\n"}"#, false),
            (r#"{"cmd":"é","id":"é"}"#, false),
            (r#"{"cmd":1.5,"id":[1]}"#, false),
            (&far, false),
        ] {
            let header = parse(text).unwrap();
            assert_eq!(header.known.cmd != Place::Unknown, is_known, "{text}");
            assert_eq!(header.known.id != Place::Unknown, is_known, "{text}");
            assert_eq!(header.cmd(), header.string("cmd"), "{text}");
            assert_eq!(header.id_to_repeat(), reader::id_to_repeat(text), "{text}");
        }
    }

    /// What is read by hand is what the parser reads; whether it was.
    fn is_read_by_both(text: &str) -> bool {
        let outcome = |read: Result<Known>| read.map(|known| known.data_size);
        let by_hand = outcome(Known::read(text.as_bytes(), limits::MAX_DEPTH));
        let by_parser = outcome(Known::parse(text, limits::MAX_DEPTH));
        assert_eq!(by_hand.as_ref().map_err(Error::kind), by_parser.as_ref().map_err(Error::kind));
        by_hand.is_ok()
    }

    #[test]
    fn a_size_is_read_by_hand_as_the_parser_reads_it() {
        let pieces =
            ["{\"data_size\":", "{\"data_siz", "{ \"data_size\":", "", "{\"a\":1,\"data_size\":"];
        let numbers =
            ["0", "1", "-1", "00", "01", "+1", "1e3", "1.0", " 7", "7 ", "", "\"5\"", "٣"];
        let numbers = numbers.iter().map(ToString::to_string).chain((1..25).map(|n| "9".repeat(n)));
        let mut read = 0;
        for number in numbers {
            for start in pieces {
                for end in ["}", "", "} ", "}}", ",\"a\":1}", ",}", ",\"data_size\":1}"] {
                    read += usize::from(is_read_by_both(&format!("{start}{number}{end}")));
                }
            }
        }
        // Three beginnings, three ends: 0, 1, two with a space, and 1 to 18 nines.
        assert_eq!(read, 3 * 3 * (4 + 18));
    }

    proptest::proptest! {
        #[test]
        fn any_size_is_read_by_hand_as_the_parser_reads_it(size in 0..MAX_DATA_SIZE, cut in 0..19_u32) {
            let text = format!("{{\"data_size\":{}}}", size / 10_u64.pow(cut));
            proptest::prop_assert!(is_read_by_both(&text));
        }

        #[test]
        fn any_bytes_are_read_by_hand_as_the_parser_reads_them(text in "\\{?\"?data_size\"?:?[-0-9. e+]{0,22}\\}?") {
            is_read_by_both(&text);
        }

        #[test]
        fn any_keys_are_read_by_hand_as_the_parser_reads_them(
            text in "\\{((\"data_size\":[0-9]{1,3}|\"cmd\":\"x\"|\"[aé]\": ?(1|-0|true|\"\\\\n\")|\"data_size\":(\"1\"|null)),?){0,4}\\}"
        ) {
            is_read_by_both(&text);
        }
    }
}
