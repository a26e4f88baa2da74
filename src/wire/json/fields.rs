//! The keys of a JSON object as messages read and write them: each once, of one type.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::builder::bytes_of;
use crate::wire::message::Id;
use crate::wire::quote;

/// The top level of a JSON object. A key that is not there is `None`, and so is one whose
/// value is `null`; what else is not of the type that is asked for, or is there twice, is
/// [`ErrorKind::BadField`]. Keys that are not asked for can be anything.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The object that `json` is.
    pub fn parse(json: &'a str) -> Result<Fields<'a>> {
        serde_json::from_str(json)
            .map_err(|error| Error::new(ErrorKind::BadField, error.to_string()))
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        self.value(key, "a string", |raw| {
            if raw.starts_with('"') { serde_json::from_str(raw).ok() } else { None }
        })
    }

    /// A plain integer that is not negative.
    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        self.value(key, "a plain integer from 0 to 2^64 - 1", |raw| raw.parse().ok())
    }

    /// A plain integer.
    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.value(key, "a plain integer of 64 bits", |raw| raw.parse().ok())
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.value(key, "true or false", |raw| raw.parse().ok())
    }

    /// An array of strings.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.value(key, "an array of strings", |raw| serde_json::from_str(raw).ok())
    }

    /// An array of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.value(key, "an array of numbers", |raw| serde_json::from_str(raw).ok())
    }

    /// An object of strings.
    pub fn table(&self, key: &str) -> Result<Option<BTreeMap<String, String>>> {
        self.value(key, "an object of strings", |raw| serde_json::from_str(raw).ok())
    }

    /// An object.
    pub fn object(&self, key: &str) -> Result<Option<Fields<'a>>> {
        let Some(raw) = self.raw(key)? else { return Ok(None) };
        Fields::parse(raw).map(Some).map_err(|_| wrong_type(key, "an object", raw))
    }

    /// A plain integer of a smaller type.
    pub fn small<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>> {
        let small = |number| T::try_from(number).ok();
        self.value(key, "an integer in its range", |raw| raw.parse().ok().and_then(small))
    }

    /// A string that is the text of something.
    pub fn parsed<T: TryFrom<String, Error = Error>>(&self, key: &str) -> Result<Option<T>> {
        self.text(key)?.map(T::try_from).transpose()
    }

    /// The bytes that are there under `key` or, where they are not UTF-8, `key_b64`.
    pub fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match (self.text(key)?, self.text(&format!("{key}_b64"))?) {
            (None, None) => Ok(None),
            (plain, base64) => bytes_of(plain.as_deref(), base64.as_deref(), key).map(Some),
        }
    }

    /// The `id`: an integer or a short string.
    pub fn id(&self) -> Result<Option<Id>> {
        let expected = "an integer or a string of at most 1 KiB";
        self.value("id", expected, |raw| match raw.parse() {
            Ok(number) => Some(Id::Number(number)),
            Err(_) => Id::text(serde_json::from_str(raw).ok()?),
        })
    }

    /// Whether a key is there, be it `null`.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    fn value<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(raw) = self.raw(key)? else { return Ok(None) };
        parse(raw).map(Some).ok_or_else(|| wrong_type(key, expected, raw))
    }

    fn raw(&self, key: &str) -> Result<Option<&'a str>> {
        let mut found = self.0.iter().filter(|(name, _)| name == key).map(|(_, raw)| raw.get());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Error::new(ErrorKind::BadField, format!("{key:?} is given twice"))),
            (found, None) => Ok(found.filter(|raw| *raw != "null")),
        }
    }
}

/// A JSON object in the making. What is `None` is left out.
#[derive(Debug)]
pub struct Writer(String);

impl Default for Writer {
    /// The object without keys.
    fn default() -> Writer {
        let mut json = String::with_capacity(USUAL_SIZE);
        json.push('{');
        Writer(json)
    }
}

impl Writer {
    /// A string.
    pub fn text(&mut self, key: &str, value: Option<&str>) {
        // The fallback is never taken: a string is always JSON.
        let json = value.map(|value| serde_json::to_string(value).unwrap_or_default());
        self.json(key, json.as_deref());
    }

    /// Bytes, in Base64 under `key_b64` where they are not UTF-8.
    pub fn bytes(&mut self, key: &str, value: Option<&[u8]>) {
        match value.map(|value| str::from_utf8(value).map_err(|_| BASE64_STANDARD.encode(value))) {
            None => {}
            Some(Ok(text)) => self.text(key, Some(text)),
            Some(Err(base64)) => self.text(&format!("{key}_b64"), Some(&base64)),
        }
    }

    /// A number, `true` or `false`.
    pub fn plain(&mut self, key: &str, value: Option<impl ToString>) {
        self.json(key, value.map(|value| value.to_string()).as_deref());
    }

    /// `true`, where it is set.
    pub fn flag(&mut self, key: &str, is_set: bool) {
        self.plain(key, is_set.then_some(true));
    }

    /// What is JSON already.
    pub fn json(&mut self, key: &str, json: Option<&str>) {
        let Some(json) = json else { return };
        if self.0.len() > 1 {
            self.0.push(',');
        }
        for part in ["\"", key, "\":", json] {
            self.0.push_str(part);
        }
    }

    /// The `id`.
    pub fn id(&mut self, id: Option<&Id>) {
        match id {
            None => {}
            Some(Id::Number(number)) => self.plain("id", Some(*number)),
            Some(Id::Text(text)) => self.text("id", Some(text)),
        }
    }

    /// The object with all its keys.
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Bytes that most objects have room in.
const USUAL_SIZE: usize = 256;

/// The error where a key has to be there.
pub fn required(key: &str) -> Error {
    Error::new(ErrorKind::BadField, format!("there is no {key:?}"))
}

fn wrong_type(key: &str, expected: &str, raw: &str) -> Error {
    let detail = format!("{key:?} is not {expected}: {}", quote(raw.as_bytes()));
    Error::new(ErrorKind::BadField, detail)
}

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(value: D) -> Result<Fields<'de>, D::Error> {
        value.deserialize_map(FieldsVisitor)
    }
}

/// A key, which is copied only if it has escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
        let mut fields = Vec::new();
        while let Some((Key(key), value)) = map.next_entry()? {
            fields.push((key, value));
        }
        Ok(Fields(fields))
    }
}

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
    fn what_is_written_is_read_again() {
        let mut writer = Writer::default();
        assert_eq!(Writer::default().finish(), "{}");
        writer.id(Some(&Id::Text("\"".into())));
        writer.text("t", Some("\u{e9}\n"));
        writer.text("none", None);
        writer.bytes("a", Some(b"\xff"));
        writer.bytes("c", Some(b"x"));
        writer.bytes("d", None);
        writer.plain("s", Some(u64::MAX));
        writer.plain("b", Some(true));
        writer.plain("n", None::<i64>);
        let text = writer.finish();
        let expected = r#"{"id":"\"","t":"\u{e9}\n","a_b64":"/w==","c":"x","s":18446744073709551615,"b":true}"#;
        assert_eq!(text, expected.replace(r"\u{e9}", "\u{e9}"));
        let fields = Fields::parse(&text).unwrap();
        assert_eq!(fields.id().unwrap(), Some(Id::Text("\"".into())));
        assert_eq!(fields.bytes("a").unwrap().unwrap(), [0xff]);
        let mut writer = Writer::default();
        writer.id(Some(&Id::Number(-7)));
        writer.id(None);
        assert_eq!(writer.finish(), r#"{"id":-7}"#);
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
