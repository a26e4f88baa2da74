//! Builds a header for programs without a JSON library.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};

/// A JSON object that grows by one key at a time. A call that fails adds nothing.
#[derive(Clone, Debug)]
pub struct HeaderBuilder {
    /// The object and a final NUL for C: always complete.
    text: String,
    keys: Vec<String>,
}

impl Default for HeaderBuilder {
    fn default() -> Self {
        HeaderBuilder { text: "{}\0".into(), keys: Vec::new() }
    }
}

impl HeaderBuilder {
    /// An empty object.
    pub fn new() -> HeaderBuilder {
        HeaderBuilder::default()
    }

    /// Adds a string, escaped as JSON wants it.
    pub fn string(&mut self, key: &str, value: &str) -> Result<()> {
        self.value(key, &value)
    }

    /// Adds bytes that need not be text: as a string where they are UTF-8, else in
    /// Base64 (RFC 4648) under `key` with `_b64` behind it.
    pub fn bytes(&mut self, key: &str, value: &[u8]) -> Result<()> {
        match std::str::from_utf8(value) {
            Ok(text) => self.string(key, text),
            Err(_) => self.string(&format!("{key}_b64"), &BASE64_STANDARD.encode(value)),
        }
    }

    /// Adds an integer.
    pub fn integer(&mut self, key: &str, value: i64) -> Result<()> {
        self.value(key, &value)
    }

    /// Adds `true` or `false`.
    pub fn boolean(&mut self, key: &str, value: bool) -> Result<()> {
        self.value(key, &value)
    }

    /// Adds any value that is already JSON.
    pub fn json(&mut self, key: &str, value: &str) -> Result<()> {
        let value: &RawValue = serde_json::from_str(value)
            .map_err(|error| Error::new(ErrorKind::BadJson, format!("{key:?}: {error}")))?;
        self.value(key, &value)
    }

    /// The object as it is now.
    pub fn text(&self) -> &str {
        &self.text[..self.text.len() - 1]
    }

    /// The object as it is now, with a final NUL.
    pub fn text_with_nul(&self) -> &str {
        &self.text
    }

    fn value(&mut self, key: &str, value: &impl serde::Serialize) -> Result<()> {
        if key == "data_size" {
            return Err(Error::new(ErrorKind::BadField, "data_size is written by the library"));
        }
        if self.keys.iter().any(|known| known == key) {
            return Err(Error::new(ErrorKind::BadField, format!("{key:?} is there already")));
        }
        let json = |error: serde_json::Error| Error::new(ErrorKind::BadJson, error.to_string());
        let key_text = serde_json::to_string(key).map_err(json)?;
        let value = serde_json::to_string(value).map_err(json)?;
        let comma = if self.keys.is_empty() { "" } else { "," };
        self.text.truncate(self.text.len() - "}\0".len());
        for part in [comma, &key_text, ":", &value, "}\0"] {
            self.text.push_str(part);
        }
        self.keys.push(key.to_owned());
        Ok(())
    }
}

/// The bytes that were sent under `key` or, where they are not UTF-8, under `key_b64`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::header::Header;

    #[test]
    fn what_goes_in_comes_out() {
        let nasty = "\"quotes\"\\, new\nline, \u{1b}, \0 and größe";
        let mut builder = HeaderBuilder::new();
        assert_eq!(builder.text(), "{}");
        builder.string("filename", nasty).unwrap();
        builder.string("\"key\"", "").unwrap();
        builder.integer("size", i64::MIN).unwrap();
        builder.boolean("yes", true).unwrap();
        builder.json("list", " [1, {\"a\": null}] ").unwrap();
        let header = Header::parse(builder.text().into(), 32).unwrap();
        assert_eq!(header.string("filename").unwrap(), nasty);
        assert_eq!(header.string("\"key\"").unwrap(), "");
        assert_eq!(header.integer("size").unwrap(), i64::MIN);
        assert!(header.boolean("yes").unwrap());
        assert!(header.text().contains(r#""list":[1, {"a": null}]"#), "{}", header.text());
    }

    #[test]
    fn bytes_that_are_not_text_come_back_too() {
        for bytes in [&b"plain"[..], b"caf\xe9", b"", b"\xff\x00\n"] {
            let mut builder = HeaderBuilder::new();
            builder.bytes("filename", bytes).unwrap();
            let header = Header::parse(builder.text().into(), 32).unwrap();
            let (plain, base64) = (header.string("filename"), header.string("filename_b64"));
            assert_eq!(bytes_of(plain.ok(), base64.ok(), "filename").unwrap(), bytes);
        }
        assert_eq!(bytes_of(None, None, "a").unwrap_err().kind(), ErrorKind::Missing);
        assert_eq!(bytes_of(Some(""), Some(""), "a").unwrap_err().kind(), ErrorKind::BadField);
        assert_eq!(bytes_of(None, Some("?"), "a").unwrap_err().kind(), ErrorKind::BadField);
    }

    #[test]
    fn what_fails_adds_nothing() {
        let mut builder = HeaderBuilder::new();
        builder.integer("a", 1).unwrap();
        let twice = builder.integer("a", 2).unwrap_err();
        let size = builder.integer("data_size", 2).unwrap_err();
        let json = builder.json("b", "{").unwrap_err();
        assert_eq!(
            [twice.kind(), size.kind(), json.kind()],
            [ErrorKind::BadField, ErrorKind::BadField, ErrorKind::BadJson]
        );
        assert_eq!(builder.text(), r#"{"a":1}"#);
    }
}
