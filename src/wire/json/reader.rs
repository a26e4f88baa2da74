//! Reads JSON objects: one member of a text, or all keys of a message, each of one type.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::json::id::{Id, MAX_TEXT};
use crate::wire::json::plain;
use crate::wire::pairs::keep_last;
use crate::wire::quote;

/// The text of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    /// The value in `text`, without the space around it; [`ErrorKind::BadJson`] if it could not
    /// be sent as a value in a header.
    pub fn parse(text: &'a str) -> Result<Value<'a>> {
        let raw: &RawValue = serde_json::from_str(text).map_err(bad_json)?;
        Value(raw.get()).check(limits::MAX_DEPTH_HARD)
    }

    /// The text of a value that was found before.
    pub(super) fn known(text: &'a str) -> Value<'a> {
        Value(text)
    }

    /// Its text.
    pub fn raw(self) -> &'a str {
        self.0
    }

    /// Its value as a string, which is copied only if it has escapes.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inside.contains('\\') {
            return serde_json::from_str(self.0).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(inside))
    }

    /// Its value as a plain integer, without a fraction or an exponent.
    pub fn integer(self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The plain integer, if it is not negative.
    pub fn size(self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// An `id`.
    fn id(self) -> Option<Id> {
        match self.integer() {
            Some(number) => Some(Id::Number(number)),
            None => Id::text(self.text()?.into_owned()),
        }
    }

    /// The JSON of an `id`. With the peer's escapes it can be much longer than what it stands for.
    pub(super) fn id_to_repeat(self) -> Option<Cow<'a, str>> {
        if self.integer().is_some() {
            return Some(Cow::Borrowed(self.0));
        }
        match self.text()? {
            text if text.len() > MAX_TEXT => None,
            Cow::Borrowed(_) => Some(Cow::Borrowed(self.0)),
            Cow::Owned(text) => serde_json::to_string(&text).ok().map(Cow::Owned),
        }
    }

    /// `true` or `false`.
    pub fn boolean(self) -> Option<bool> {
        self.0.parse().ok()
    }

    fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// Checks what a [`RawValue`] does not check: escapes, numbers and depth.
    fn check(self, max_depth: u32) -> Result<Value<'a>> {
        if self.0.starts_with('"') && !self.0.contains('\\') {
            return Ok(self);
        }
        let mut json = serde_json::Deserializer::from_str(self.0);
        Checked::below_the_object(max_depth).deserialize(&mut json).map_err(bad_json)?;
        Ok(self)
    }
}

/// A member of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its value; the last one if the key is given more than once.
    pub value: Value<'a>,
    /// The key is given more than once.
    pub is_repeated: bool,
}

/// The member at the top-level key `key` of the header `text`. One pass finds it and checks that
/// `text` is an object that could be sent; [`ErrorKind::BadJson`] if not. Keys are compared
/// without their escapes.
pub fn member<'a>(text: &'a str, key: &str) -> Result<Option<Member<'a>>> {
    let found = find(text, key, limits::MAX_DEPTH_HARD)?;
    if let Some(member) = found {
        member.value.check(limits::MAX_DEPTH_HARD)?;
    }
    Ok(found)
}

/// The value at `key`; [`ErrorKind::Missing`] if there is no such key, and
/// [`ErrorKind::BadField`] if it is there more than once.
pub fn value<'a>(text: &'a str, key: &str) -> Result<Value<'a>> {
    match member(text, key)? {
        None => Err(Error::new(ErrorKind::Missing, format!("there is no {key:?}"))),
        Some(member) if member.is_repeated => Err(twice(key)),
        Some(member) => Ok(member.value),
    }
}

/// The string at `key`, as [`value`] finds it.
pub fn string<'a>(text: &'a str, key: &str) -> Result<Cow<'a, str>> {
    typed(text, key, "a string", Value::text)
}

/// The integer at `key`, as [`value`] finds it.
pub fn integer(text: &str, key: &str) -> Result<i64> {
    typed(text, key, "a plain integer of 64 bits", Value::integer)
}

/// The boolean at `key`, as [`value`] finds it.
pub fn boolean(text: &str, key: &str) -> Result<bool> {
    typed(text, key, "true or false", Value::boolean)
}

fn typed<'a, T>(
    text: &'a str,
    key: &str,
    expected: &str,
    read: impl FnOnce(Value<'a>) -> Option<T>,
) -> Result<T> {
    let value = value(text, key)?;
    read(value).ok_or_else(|| wrong_type(key, expected, value))
}

/// The `id` in a text, if there is one, and only one, that can be read.
pub fn id(text: &str) -> Option<Id> {
    the_id(text)?.id()
}

/// The JSON text of the same, for a reply that repeats it.
pub fn id_to_repeat(text: &str) -> Option<Cow<'_, str>> {
    the_id(text)?.id_to_repeat()
}

fn the_id(text: &str) -> Option<Value<'_>> {
    let found = find(text, "id", limits::MAX_DEPTH_HARD).ok().flatten()?;
    (!found.is_repeated).then_some(found.value)
}

/// Checks the syntax and depth of one JSON object, and finds a member. The found value is
/// not checked.
#[inline]
pub(super) fn find<'a>(text: &'a str, key: &str, max_depth: u32) -> Result<Option<Member<'a>>> {
    let mut found = None;
    let taken = plain::members(text.as_bytes(), |name, value| {
        if text.as_bytes()[name] == *key.as_bytes() {
            let value = Value(&text[value]);
            found = Some(Member { value, is_repeated: found.is_some() });
        }
    });
    if taken.is_some() { Ok(found) } else { parse(text, key, max_depth) }
}

/// The same by the parser.
pub(super) fn parse<'a>(text: &'a str, key: &str, max_depth: u32) -> Result<Option<Member<'a>>> {
    if text.starts_with('\u{feff}') {
        return Err(Error::new(ErrorKind::BadJson, "it begins with a byte order mark"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Find { key, max_depth })
        .and_then(|found| json.end().map(|()| found))
        .map_err(bad_json)
}

/// The top level of a JSON object. A missing key is `None`, and so is one whose value is `null`.
/// A value of another type than the requested one is [`ErrorKind::BadField`], and so is a key
/// that is given twice. Other keys are ignored.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Fields<'a> {
    /// Parses an object.
    pub fn parse(json: &'a str) -> Result<Fields<'a>> {
        let mut fields = Vec::with_capacity(USUAL_FIELDS);
        let take = |key: Range<_>, value: Range<_>| {
            fields.push((Cow::Borrowed(&json[key]), Value(&json[value])));
        };
        if plain::members(json.as_bytes(), take).is_some() {
            return Ok(Fields(fields));
        }
        let mut object = serde_json::Deserializer::from_str(json);
        object
            .deserialize_map(FieldsVisitor)
            .and_then(|fields| object.end().map(|()| fields))
            .map_err(|error| Error::new(ErrorKind::BadField, error.to_string()))
    }

    /// The keys and values, in order.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, Value<'a>)> {
        self.0.iter().map(|(key, value)| (&**key, *value))
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        self.typed(key, "a string", |value| value.text().map(Cow::into_owned))
    }

    /// A plain integer that is not negative.
    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a plain integer from 0 to 2^64 - 1", Value::size)
    }

    /// A plain integer.
    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "a plain integer of 64 bits", Value::integer)
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::boolean)
    }

    /// An array of strings.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.typed(key, "an array of strings", |value| serde_json::from_str(value.0).ok())
    }

    /// An array of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.typed(key, "an array of numbers", |value| serde_json::from_str(value.0).ok())
    }

    /// An object of strings. The last value of a key counts.
    pub fn table(&self, key: &str) -> Result<Option<Vec<(String, String)>>> {
        self.typed(key, "an object of strings", |value| {
            let object = Fields::parse(value.0).ok()?;
            let pair = |(name, value): (&str, Value<'_>)| {
                Some((name.to_owned(), value.text()?.into_owned()))
            };
            let mut pairs = object.members().map(pair).collect::<Option<Vec<_>>>()?;
            keep_last(&mut pairs);
            Some(pairs)
        })
    }

    /// An object.
    pub fn object(&self, key: &str) -> Result<Option<Fields<'a>>> {
        self.typed(key, "an object", |value| Fields::parse(value.0).ok())
    }

    /// A plain integer of a smaller type.
    pub fn small<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>> {
        self.typed(key, "an integer in its range", |value| T::try_from(value.integer()?).ok())
    }

    /// A string that is the text of something.
    pub fn parsed<T: TryFrom<String, Error = Error>>(&self, key: &str) -> Result<Option<T>> {
        self.text(key)?.map(T::try_from).transpose()
    }

    /// The bytes under `key` or, if they are not UTF-8, under `key_b64`.
    pub fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match (self.text(key)?, self.text(&format!("{key}_b64"))?) {
            (None, None) => Ok(None),
            (plain, base64) => bytes_of(plain.as_deref(), base64.as_deref(), key).map(Some),
        }
    }

    /// The `id`: an integer or a short string.
    pub fn id(&self) -> Result<Option<Id>> {
        self.typed("id", "an integer or a string of at most 1 KiB", Value::id)
    }

    /// Whether a key exists, even with the value `null`.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key)? else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong_type(key, expected, value))
    }

    fn value(&self, key: &str) -> Result<Option<Value<'a>>> {
        let mut found = self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| *value);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(twice(key)),
            (found, None) => Ok(found.filter(|value| !value.is_null())),
        }
    }
}

/// The bytes that were sent under `key` or, if they are not UTF-8, under `key_b64`.
pub fn bytes_of(plain: Option<&str>, base64: Option<&str>, key: &str) -> Result<Vec<u8>> {
    match (plain, base64) {
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(text)) => BASE64_STANDARD.decode(text).map_err(|error| {
            Error::new(ErrorKind::BadField, format!("{key}_b64 is not Base64: {error}"))
        }),
        (None, None) => Err(Error::new(ErrorKind::Missing, format!("there is no {key:?}"))),
        (Some(_), Some(_)) => {
            Err(Error::new(ErrorKind::BadField, format!("both {key} and {key}_b64 are there")))
        }
    }
}

/// The error for a required key that is missing.
pub fn required(key: &str) -> Error {
    Error::new(ErrorKind::BadField, format!("there is no {key:?}"))
}

fn twice(key: &str) -> Error {
    Error::new(ErrorKind::BadField, format!("{key:?} is given twice"))
}

fn wrong_type(key: &str, expected: &str, value: Value<'_>) -> Error {
    let detail = format!("{key:?} is not {expected}: {}", quote(value.0.as_bytes()));
    Error::new(ErrorKind::BadField, detail)
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes a value")]
fn bad_json(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::BadJson, error.to_string())
}

struct Find<'k> {
    key: &'k str,
    max_depth: u32,
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(is_key) = map.next_key_seed(IsKey(self.key))? {
            if is_key {
                let raw: &RawValue = map.next_value()?;
                found = Some(Member { value: Value(raw.get()), is_repeated: found.is_some() });
            } else {
                map.next_value_seed(Checked::below_the_object(self.max_depth))?;
            }
        }
        Ok(found)
    }
}

/// Compares the key without its escapes, so that an escape cannot hide it.
struct IsKey<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// Reads and drops any value, with `levels` of nesting left.
#[derive(Clone, Copy)]
struct Checked {
    levels: u32,
}

impl Checked {
    /// The value of a key at the top level, which is the first one.
    fn below_the_object(max_depth: u32) -> Checked {
        Checked { levels: max_depth.saturating_sub(1) }
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Checked, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Checked { levels }),
            None => Err(E::custom("it is nested too deep")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let inner = self.deeper()?;
        while map.next_key_seed(IsKey(""))?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            let raw: &RawValue = map.next_value()?;
            fields.push((key, Value(raw.get())));
        }
        Ok(Fields(fields))
    }
}

/// A key, which is copied only if it has escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Cow<'de, str>, D::Error> {
        key.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// As many as most objects have.
const USUAL_FIELDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_what_it_has_to_be() {
        let text = r#"{"t":"\u00e9","s":18446744073709551615,"i":-1,"b":true,"n":null,
                       "a_b64":"/w==","c":"x","id":"7","x":[{}]}"#;
        let fields = Fields::parse(text).unwrap();
        assert_eq!(fields.text("t").unwrap().unwrap(), "\u{e9}");
        assert_eq!(fields.size("s").unwrap(), Some(u64::MAX));
        assert_eq!(fields.integer("i").unwrap(), Some(-1));
        assert_eq!(fields.boolean("b").unwrap(), Some(true));
        assert_eq!((fields.text("n").unwrap(), fields.size("missing").unwrap()), (None, None));
        assert!(fields.has("n") && !fields.has("missing"));
        assert_eq!(fields.bytes("a").unwrap().unwrap(), [0xff]);
        assert_eq!(fields.bytes("c").unwrap().unwrap(), b"x");
        assert_eq!(
            (fields.bytes("d").unwrap(), fields.id().unwrap()),
            (None, Some(Id::Text("7".into())))
        );
    }

    #[test]
    fn an_id_is_repeated_as_what_it_stands_for() {
        let repeated = |id: &str| {
            let text = format!(r#"{{"id":{id}}}"#);
            let json = id_to_repeat(&text).map(Cow::into_owned);
            let again = json.as_ref().and_then(|json| super::id(&format!(r#"{{"id":{json}}}"#)));
            assert_eq!(again, super::id(&text), "{text}");
            json
        };
        for id in ["7", "-9223372036854775808", "\"a\"", "\"é\"", "\"\""] {
            assert_eq!(repeated(id).as_deref(), Some(id));
        }
        let long = |len, letter: &str| format!("\"{}\"", letter.repeat(len));
        assert_eq!(repeated(&long(MAX_TEXT, "\\u0061")), Some(long(MAX_TEXT, "a")));
        assert_eq!(repeated(r#""\u0022\n""#).as_deref(), Some(r#""\"\n""#));
        let too_long = [long(MAX_TEXT + 1, "a"), long(MAX_TEXT + 1, "\\u0061")];
        for id in ["1.0", "9223372036854775808", "null", "[1]", "{}", "true", r#""\ud800""#]
            .into_iter()
            .chain(too_long.iter().map(String::as_str))
        {
            assert_eq!(repeated(id), None, "{id:.20}");
        }
        assert_eq!(id_to_repeat(r#"{"id":1,"i\u0064":1}"#), None);
        assert_eq!(id_to_repeat(r#"{"id":1"#), None);
    }

    #[test]
    fn a_member_is_found_in_a_text() {
        let text = r#" {"a":1,"o":{"s":1,"k":[1, 2]},"\u0073":"x\n","a":true,"l":[ ],"n":null} "#;
        let raw =
            |key| member(text, key).unwrap().map(|found| (found.value.raw(), found.is_repeated));
        assert_eq!(raw("o"), Some((r#"{"s":1,"k":[1, 2]}"#, false)));
        assert_eq!((raw("l"), raw("n")), (Some(("[ ]", false)), Some(("null", false))));
        assert_eq!((raw("a"), raw("k"), raw("")), (Some(("true", true)), None, None));
        let start = text.as_ptr() as usize;
        assert_eq!(raw("l").unwrap().0.as_ptr() as usize - start, text.find("[ ]").unwrap());
        assert_eq!(string(text, "s").unwrap(), "x\n");
        assert!(matches!(string(r#"{"s":"x"}"#, "s"), Ok(Cow::Borrowed("x"))));
        let number = |raw: &str| integer(&format!(r#"{{"i":{raw}}}"#), "i").ok();
        assert_eq!((number("-9223372036854775808"), number("-0")), (Some(i64::MIN), Some(0)));
        assert_eq!(
            (number("9223372036854775808"), number("1.0"), number("1e0")),
            (None, None, None)
        );
        for (key, kind) in
            [("n", ErrorKind::BadField), ("a", ErrorKind::BadField), ("x", ErrorKind::Missing)]
        {
            assert_eq!(string(text, key).unwrap_err().kind(), kind, "{key}");
            assert_eq!(integer(text, key).unwrap_err().kind(), kind, "{key}");
            assert_eq!(boolean(text, key).unwrap_err().kind(), kind, "{key}");
        }
    }

    #[test]
    fn a_text_that_is_no_header_has_no_members() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let most = limits::MAX_DEPTH_HARD as usize;
        for key in ["k", "other"] {
            let find = |value: &str| member(&format!(r#"{{"k":{value},"z":0}}"#), key).map(drop);
            assert!(find(&nested(most - 1)).is_ok(), "{key}");
            let deep = [nested(most), nested(100_000)];
            let bad =
                [r#""\ud800""#, "1e400", "[\"\\ud800\"]", "", "01", "\"\n\""].map(String::from);
            for bad in deep.into_iter().chain(bad) {
                assert_eq!(find(&bad).unwrap_err().kind(), ErrorKind::BadJson, "{key} {bad:.20}");
            }
        }
        for bad in ["", "[]", "1", "null", "{", "{} {}", "\u{feff}{}", "{'k':1}", "{\"k\":1,}"] {
            assert_eq!(member(bad, "k").unwrap_err().kind(), ErrorKind::BadJson, "{bad}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let sizes = ["-1", "-0", "5.5", "5.0", "5e0", "1e3", "\"5\"", "[5]", "true", "{}"];
        for raw in sizes.into_iter().chain(["18446744073709551616"]) {
            let text = format!(r#"{{"k":{raw}}}"#);
            let error = Fields::parse(&text).unwrap().size("k").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadField, "{raw}");
            assert!(error.detail().contains(&quote(raw.as_bytes())), "{error}");
        }
        for raw in ["5", "[]", "true", "{}"] {
            let text = format!(r#"{{"k":{raw},"k_b64":{raw}}}"#);
            let fields = Fields::parse(&text).unwrap();
            assert_eq!(fields.text("k").unwrap_err().kind(), ErrorKind::BadField, "{raw}");
            assert_eq!(fields.bytes("k").unwrap_err().kind(), ErrorKind::BadField, "{raw}");
        }
        for raw in ["1.0", "\"1\"", "9223372036854775808", "true"] {
            let text = format!(r#"{{"k":{raw}}}"#);
            assert!(Fields::parse(&text).unwrap().integer("k").is_err(), "{raw}");
        }
        for raw in ["1", "\"true\"", "[]"] {
            let text = format!(r#"{{"k":{raw}}}"#);
            assert!(Fields::parse(&text).unwrap().boolean("k").is_err(), "{raw}");
        }
        let twice = Fields::parse(r#"{"k":1,"\u006b":1,"other":1,"other":2}"#).unwrap();
        assert!(twice.size("k").unwrap_err().detail().contains("twice"));
        assert!(twice.size("missing").unwrap().is_none());
        for bad in ["[]", "1", "null", "{", "{} {}"] {
            assert_eq!(Fields::parse(bad).unwrap_err().kind(), ErrorKind::BadField, "{bad}");
        }
    }
}
