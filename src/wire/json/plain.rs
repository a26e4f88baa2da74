//! Objects as most programs write them, short and flat, in ASCII and without spaces or escapes: what
//! the JSON parser would find in them, in a tenth of the time.

use std::ops::Range;

/// Calls `take` for the position of each key, without its quotes, and of each value; `None` if the
/// object is spelled in any other way, and then some may have been taken.
#[inline]
pub(super) fn members(bytes: &[u8], take: impl FnMut(Range<usize>, Range<usize>)) -> Option<()> {
    if bytes.first() != Some(&b'{') {
        return None;
    }
    members_from(bytes, 1, take)
}

/// The same for an object that was read up to this position, where a key begins.
#[inline]
pub(super) fn members_from(
    bytes: &[u8],
    mut at: usize,
    mut take: impl FnMut(Range<usize>, Range<usize>),
) -> Option<()> {
    if bytes.len() > LONGEST {
        return None;
    }
    loop {
        let colon = string_end(bytes, at)?;
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let end = value_end(bytes, colon + 1)?;
        take(at + 1..colon - 1, colon + 1..end);
        match bytes.get(end)? {
            b',' => at = end + 1,
            b'}' if end + 1 == bytes.len() => return Some(()),
            _ => return None,
        }
    }
}

/// The end of a scalar that begins there.
#[inline]
fn value_end(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes.get(start)? {
        b'"' => string_end(bytes, start),
        digit @ b'0'..=b'9' => {
            let mut end = start + 1;
            while bytes.get(end).is_some_and(u8::is_ascii_digit) {
                end += 1;
            }
            // JSON has no leading zeros.
            (end == start + 1 || *digit != b'0').then_some(end)
        }
        b't' => word_end(bytes, start, b"true"),
        b'f' => word_end(bytes, start, b"false"),
        b'n' => word_end(bytes, start, b"null"),
        _ => None,
    }
}

/// The end of a string that begins there with its quote.
#[inline]
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut rest = bytes.get(start..)?.iter();
    if rest.next() != Some(&b'"') {
        return None;
    }
    while let Some(byte) = rest.next() {
        if IS_SPECIAL[usize::from(*byte)] {
            return (*byte == b'"').then(|| bytes.len() - rest.len());
        }
    }
    None
}

fn word_end(bytes: &[u8], start: usize, word: &[u8]) -> Option<usize> {
    bytes[start..].starts_with(word).then_some(start + word.len())
}

/// What does not stand for itself in a string, and what is no ASCII.
const IS_SPECIAL: [bool; 256] = {
    let mut table = [true; 256];
    let mut plain = 0x20;
    while plain < 0x80 {
        table[plain] = false;
        plain += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};
/// The parser is faster where strings are long.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use serde_json::{Map, Value};

    use super::*;

    fn found(text: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        members(text.as_bytes(), |key, value| {
            found.push((text[key].to_owned(), text[value].to_owned()));
        })?;
        Some(found)
    }

    #[test]
    fn what_it_takes_is_what_is_there() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            found(r#"{"data_size":64,"cmd":"e","":true,"a":false,"a":null,"a":0}"#).unwrap(),
            [
                pair("data_size", "64"),
                pair("cmd", "\"e\""),
                pair("", "true"),
                pair("a", "false"),
                pair("a", "null"),
                pair("a", "0"),
            ]
        );
        for other in [
            "",
            "{",
            "{}",
            "{}}",
            "[1]",
            "{\"a\":1",
            "{\"a\":1}}",
            "{\"a\":1},",
            "{\"a\":1,}",
            "{\"a\":}",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1.5}",
            "{\"a\":-1}",
            "{\"a\":nul}",
            "{\"a\":tru}",
            "{\"a\":truex}",
            "{\"a\":{}}",
            "{\"a\":\"\\n\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"}",
            "{\"a\":\"é\"}",
            "{\"é\":1}",
            "{ \"a\":1}",
            "{\"a\": 1}",
            "\u{feff}{\"a\":1}",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
        assert!(found(&format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST - 8))).is_some());
        assert!(found(&format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST - 7))).is_none());
    }

    proptest! {
        /// Whatever it takes the parser finds as well.
        #[test]
        fn it_agrees_with_the_parser(text in "\\{(\"[a-c\\\\é]?\":(\"[a\\\\n\\t]{0,2}\"|-?[0-9]{1,3}|true|null|\\{\\}|[tf]),?){0,3}\\}?") {
            if let Some(found) = found(&text) {
                let parsed: Map<String, Value> = serde_json::from_str(&text).unwrap();
                for (key, value) in &found {
                    prop_assert!(parsed.contains_key(key));
                    serde_json::from_str::<&RawValue>(value).unwrap();
                }
                let last = found.last().unwrap();
                prop_assert_eq!(parsed[&last.0].to_string(), last.1.clone());
            }
        }
    }
}
