//! A header is taken, and says, what a JSON parser makes of it. Most headers are read by hand
//! instead.

#![no_main]

use std::collections::BTreeMap;
use std::fmt;

use framefd::wire::json::header::{Header, MAX_DATA_SIZE};
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

const MAX_DEPTH: u32 = 5;

fuzz_target!(|text: &[u8]| {
    let header = Header::parse(text.to_vec(), MAX_DEPTH).ok();
    let expected = by_parser(text);
    assert_eq!(header.is_some(), expected.is_some());
    let (Some(header), Some((data_size, values))) = (header, expected) else { return };
    assert_eq!(header.text().as_bytes(), text);
    assert_eq!(header.data_size(), data_size);
    for (key, (value, raw)) in values {
        let (mut string, mut integer, mut boolean) = (None, None, None);
        match value {
            // The parser takes this one spelling of zero for a fraction.
            _ if raw == "-0" => integer = Some(0),
            Value::String(text) => string = Some(text),
            Value::Integer(number) => integer = Some(number),
            Value::Boolean(is_true) => boolean = Some(is_true),
            Value::Other => {}
        }
        assert_eq!(header.string(&key).ok().as_deref(), string.as_deref());
        assert_eq!(header.integer(&key).ok(), integer);
        assert_eq!(header.boolean(&key).ok(), boolean);
    }
});

/// The size and the values of a header that is to be taken.
fn by_parser(text: &[u8]) -> Option<(Option<u64>, BTreeMap<String, (Value, String)>)> {
    let Entries(entries) = serde_json::from_slice(text).ok()?;
    let mut sizes = Vec::new();
    let mut values = BTreeMap::new();
    for (key, raw) in entries {
        if key == "data_size" {
            sizes.push(raw.get().to_owned());
        }
        let value: Value = serde_json::from_str(raw.get()).ok()?;
        if depth(raw.get()) >= MAX_DEPTH {
            return None;
        }
        if values.contains_key(&key) {
            // One that comes twice is no string, no integer and no boolean.
            values.insert(key, (Value::Other, String::new()));
        } else {
            values.insert(key, (value, raw.get().to_owned()));
        }
    }
    match &sizes[..] {
        [] => Some((None, values)),
        [size] if size.bytes().all(|byte| byte.is_ascii_digit()) => {
            let size = size.parse().ok().filter(|size| *size <= MAX_DATA_SIZE)?;
            Some((Some(size), values))
        }
        _ => None,
    }
}

/// Levels of nesting in a text that is JSON: none in a number. Keys that come twice count too.
fn depth(json: &str) -> u32 {
    let (mut level, mut most, mut in_string, mut is_escaped) = (0, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                level += 1;
                most = most.max(level);
            }
            b']' | b'}' if !in_string => level -= 1,
            _ => {}
        }
    }
    most
}

/// The keys of an object and the text of their values, in order, repeated ones too.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// A value as the parser sees it. serde_json's own Value refuses an object with a key that
/// serde_json keeps for itself.
enum Value {
    String(String),
    Integer(i64),
    Boolean(bool),
    /// Null, a number that is no `i64`, an array or an object, checked to its end.
    Other,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.try_into().map_or(Value::Other, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_bool<E>(self, is_true: bool) -> Result<Value, E> {
        Ok(Value::Boolean(is_true))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut array: S) -> Result<Value, S::Error> {
        while array.next_element::<Value>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut object: M) -> Result<Value, M::Error> {
        while object.next_entry::<String, Value>()?.is_some() {}
        Ok(Value::Other)
    }
}
