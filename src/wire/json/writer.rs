//! Writes JSON objects: headers of messages, and those that a program builds key by key.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::json::header::DATA_SIZE;
use crate::wire::json::id::Id;
use crate::wire::json::reader::{self, Fields, Value};
use crate::wire::pairs::keep_last;

/// A JSON object that is being written. `None` is left out. The caller uses no key twice.
#[derive(Clone, Debug)]
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
        let Some(value) = value else { return };
        self.key(key);
        push_quoted(&mut self.0, value);
    }

    /// Bytes: in Base64 under `key_b64` if they are not UTF-8.
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

    /// `true`, if it is set.
    pub fn flag(&mut self, key: &str, is_set: bool) {
        self.plain(key, is_set.then_some(true));
    }

    /// An array of strings.
    pub fn texts(&mut self, key: &str, values: Option<&[impl AsRef<str>]>) {
        let array =
            |values: &[_]| list(values.iter().map(|value: &_| quoted(AsRef::as_ref(value))));
        self.json(key, values.map(array).as_deref());
    }

    /// An array of numbers.
    pub fn numbers(&mut self, key: &str, values: Option<&[u32]>) {
        let array = |values: &[u32]| list(values.iter().map(ToString::to_string));
        self.json(key, values.map(array).as_deref());
    }

    /// An object of strings.
    pub fn table(&mut self, key: &str, table: Option<&[(String, String)]>) {
        let Some(table) = table else { return };
        let mut object = Writer::default();
        for (name, value) in table {
            object.member(name, &quoted(value));
        }
        self.json(key, Some(&object.finish()));
    }

    /// Text that is already JSON.
    pub fn json(&mut self, key: &str, json: Option<&str>) {
        let Some(json) = json else { return };
        self.member(key, json);
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

    fn member(&mut self, key: &str, json: &str) {
        self.key(key);
        self.0.push_str(json);
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        push_quoted(&mut self.0, key);
        self.0.push(':');
    }
}

/// A header that a program builds, with any keys, each checked. A call that fails adds nothing.
#[derive(Clone, Debug)]
pub struct HeaderBuilder {
    /// Always closed, by [`END`].
    object: Writer,
    keys: Vec<String>,
}

impl Default for HeaderBuilder {
    fn default() -> Self {
        let mut object = Writer::default();
        object.0.push_str(END);
        HeaderBuilder { object, keys: Vec::new() }
    }
}

impl HeaderBuilder {
    /// An empty object.
    pub fn new() -> HeaderBuilder {
        HeaderBuilder::default()
    }

    /// Adds a string, with the escapes that JSON needs.
    pub fn string(&mut self, key: &str, value: &str) -> Result<()> {
        self.add(key, &quoted(value))
    }

    /// Adds bytes that need not be text: as a string if they are UTF-8, otherwise in Base64 (RFC
    /// 4648) under `key` with `_b64` appended.
    pub fn bytes(&mut self, key: &str, value: &[u8]) -> Result<()> {
        match std::str::from_utf8(value) {
            Ok(text) => self.string(key, text),
            Err(_) => self.string(&format!("{key}_b64"), &BASE64_STANDARD.encode(value)),
        }
    }

    /// Adds an integer.
    pub fn integer(&mut self, key: &str, value: i64) -> Result<()> {
        self.add(key, &value.to_string())
    }

    /// Adds `true` or `false`.
    pub fn boolean(&mut self, key: &str, value: bool) -> Result<()> {
        self.add(key, &value.to_string())
    }

    /// Adds any value that is already JSON.
    pub fn json(&mut self, key: &str, value: &str) -> Result<()> {
        let value = Value::parse(value)
            .map_err(|error| Error::new(error.kind(), format!("{key:?}: {}", error.detail())))?;
        self.add(key, value.raw())
    }

    /// Adds the members of another header with unchanged values, as a relay does. It leaves out
    /// `data_size` and keys that the object already has. If a key is twice in `header`, the last
    /// value counts.
    pub fn merge(&mut self, header: &str) -> Result<()> {
        reader::find(header, DATA_SIZE, limits::MAX_DEPTH_HARD)?;
        let fields = Fields::parse(header)?;
        let is_new = |(key, _): &(&str, _)| *key != DATA_SIZE && !self.has(key);
        let mut members: Vec<_> = fields.members().filter(is_new).collect();
        keep_last(&mut members);
        for (key, value) in members {
            self.add(key, value.raw())?;
        }
        Ok(())
    }

    /// The current object.
    pub fn text(&self) -> &str {
        let text = self.text_with_nul();
        &text[..text.len() - 1]
    }

    /// The current object, with a final NUL.
    pub fn text_with_nul(&self) -> &str {
        &self.object.0
    }

    fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key)
    }

    fn add(&mut self, key: &str, json: &str) -> Result<()> {
        if key == DATA_SIZE {
            return Err(Error::new(ErrorKind::BadField, "data_size is written by the library"));
        }
        if self.has(key) {
            return Err(Error::new(ErrorKind::BadField, format!("{key:?} is there already")));
        }
        let open = self.object.0.len() - END.len();
        self.object.0.truncate(open);
        self.object.member(key, json);
        self.object.0.push_str(END);
        self.keys.push(key.to_owned());
        Ok(())
    }
}

/// `text` as a JSON string. The fallback is never used: any text can be one.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn push_quoted(to: &mut String, text: &str) {
    if text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)) {
        return to.push_str(&quoted(text));
    }
    to.push('"');
    to.push_str(text);
    to.push('"');
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

/// Enough bytes for most objects.
const USUAL_SIZE: usize = 256;

/// The end of a built header: the brace, and a NUL for C.
const END: &str = "}\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::header::Header;
    use crate::wire::json::reader::bytes_of;

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
            assert_eq!(
                bytes_of(plain.ok().as_deref(), base64.ok().as_deref(), "filename").unwrap(),
                bytes
            );
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
    fn arrays_and_tables_are_written_as_json() {
        let table = vec![("a\"".to_owned(), "\n".to_owned()), ("b".to_owned(), String::new())];
        let mut writer = Writer::default();
        writer.texts("t", Some(&["a\"", ""]));
        writer.texts("none", None::<&[&str]>);
        writer.numbers("n", Some(&[0, u32::MAX]));
        writer.numbers("e", Some(&[]));
        writer.table("o", Some(&table));
        let text = writer.finish();
        let expected = r#"{"t":["a\"",""],"n":[0,4294967295],"e":[],"o":{"a\"":"\n","b":""}}"#;
        assert_eq!(text, expected);
        assert_eq!(Fields::parse(&text).unwrap().table("o").unwrap(), Some(table));
    }

    #[test]
    fn a_header_is_merged_for_a_relay() {
        let mut builder = HeaderBuilder::new();
        builder.string("via", "relay").unwrap();
        builder
            .merge(
                r#" {"cmd":"x", "data\u005fsize": 5, "v\u0069a":"peer","l":[1, 2],"a\n":1.50,"cmd":"y"} "#,
            )
            .unwrap();
        assert_eq!(builder.text(), r#"{"via":"relay","l":[1, 2],"a\n":1.50,"cmd":"y"}"#);
        builder.merge(builder.clone().text()).unwrap();
        builder.merge("{}").unwrap();
        assert_eq!(builder.integer("l", 1).unwrap_err().kind(), ErrorKind::BadField);
        let deep = format!(r#"{{"a":1,"b":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for bad in ["", "[]", "{", r#"{"new":1,"new2":"\ud800"}"#, "{}{}", &deep] {
            assert_eq!(builder.merge(bad).unwrap_err().kind(), ErrorKind::BadJson, "{bad}");
        }
        assert_eq!(builder.text(), r#"{"via":"relay","l":[1, 2],"a\n":1.50,"cmd":"y"}"#);
    }

    #[test]
    fn json_that_could_not_be_sent_is_not_added() {
        let mut builder = HeaderBuilder::new();
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for bad in [r#""\ud800""#, "1e400", &deep, "", "1 2", "{\"a\":1", "nul"] {
            assert_eq!(builder.json("a", bad).unwrap_err().kind(), ErrorKind::BadJson, "{bad}");
        }
        assert_eq!(builder.text(), "{}");
    }
}
