//! Common parts of the messages about files. Each kind of request has its own source file.

mod get;
mod path;
mod put;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
pub use get::{GetReply, GetRequest};
pub use path::{PathRequest, StatReply, done, identity_of};
pub use put::{Overwrite, PutExtent, PutReply, PutRequest};

use crate::error::{Error, ErrorKind, Result};
use crate::wire::digest::Digest;
pub use crate::wire::entry::{Entry, Kind, Stat};
use crate::wire::json::header::Header;
use crate::wire::json::reader::{Fields, bytes_of, required};
use crate::wire::json::writer::Writer;
use crate::wire::message::{Id, written};

/// The name of a file in a message: text if it is UTF-8, otherwise Base64 under another key. A
/// message from a peer may have neither or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileName {
    text: Option<String>,
    base64: Option<String>,
}

impl FileName {
    /// The message fields for `name`.
    pub fn new(name: &[u8]) -> FileName {
        match str::from_utf8(name) {
            Ok(text) => FileName { text: Some(text.to_owned()), base64: None },
            Err(_) => FileName { text: None, base64: Some(BASE64_STANDARD.encode(name)) },
        }
    }

    /// The name, unchecked.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.bytes_at("filename")
    }

    /// Fails if a reply names another file than `asked`. The oldest servers send no name.
    pub fn check(&self, asked: &[u8]) -> Result<()> {
        if *self == FileName::default() || self.bytes().is_ok_and(|name| name == asked) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::BadReply, "it names another file"))
    }

    /// The name in the header of a request, if it has one.
    pub fn in_request(header: &Header) -> Option<Vec<u8>> {
        FileName::of("filename", &header.fields().ok()?).ok()?.bytes().ok()
    }

    fn of(key: &str, fields: &Fields<'_>) -> Result<FileName> {
        Ok(FileName { text: fields.text(key)?, base64: fields.text(&format!("{key}_b64"))? })
    }

    fn write(&self, key: &str, header: &mut Writer) {
        header.text(key, self.text.as_deref());
        header.text(&format!("{key}_b64"), self.base64.as_deref());
    }

    fn bytes_at(&self, key: &str) -> Result<Vec<u8>> {
        bytes_of(self.text.as_deref(), self.base64.as_deref(), key)
    }
}

/// Permission bits as octal text, such as `0644`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl From<FileMode> for String {
    fn from(mode: FileMode) -> String {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for FileMode {
    type Error = Error;

    fn try_from(text: String) -> Result<FileMode> {
        let refused = || Error::new(ErrorKind::BadField, "mode is not octal text up to 7777");
        if !text.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(refused());
        }
        match u32::from_str_radix(&text, 8) {
            Ok(mode @ 0..=0o7777) => Ok(FileMode(mode)),
            _ => Err(refused()),
        }
    }
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Dir => "dir",
            Kind::Symlink => "symlink",
            Kind::Other => "other",
        }
    }
}

impl TryFrom<String> for Kind {
    type Error = Error;

    fn try_from(text: String) -> Result<Kind> {
        Ok(match &*text {
            "file" => Kind::File,
            "dir" => Kind::Dir,
            "symlink" => Kind::Symlink,
            _ => Kind::Other,
        })
    }
}

/// The frame after a content, for a sender that computes the digest as it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The digest of the whole file, even if only the rest of it was sent.
    pub sha256: Digest,
}

impl Trailer {
    /// The header of its frame.
    pub fn header(&self) -> String {
        let mut header = Writer::default();
        header.text("sha256", Some(&self.sha256.to_string()));
        header.finish()
    }

    /// Reads the trailer from `header`.
    pub fn read(header: &Header) -> Result<Trailer> {
        let sha256 = header.fields()?.parsed("sha256")?;
        Ok(Trailer { sha256: sha256.ok_or_else(|| required("sha256"))? })
    }
}

/// A frame before the reply: the server is at work, and the client waits on.
pub struct Working;

impl Working {
    /// Whether a request asks for such frames.
    pub fn is_asked(request: &Header) -> bool {
        request
            .fields()
            .and_then(|fields| fields.boolean("working"))
            .is_ok_and(|is| is == Some(true))
    }

    /// The header of its frame.
    pub fn header(id: Option<&Id>) -> String {
        written(&|header| {
            header.plain("working", Some(true));
            header.id(id);
        })
    }

    /// Whether a frame is one, and not the reply.
    pub fn is(fields: &Fields<'_>) -> bool {
        fields.boolean("working").is_ok_and(|is| is == Some(true)) && !fields.has("status")
    }
}

/// The bytes of a body that has a file of `filesize` bytes without its first `offset` bytes.
fn rest_of(filesize: u64, offset: Option<u64>) -> Result<u64> {
    let offset = offset.unwrap_or(0);
    filesize.checked_sub(offset).ok_or_else(|| {
        let detail = format!("filesize is {filesize}, and offset {offset} lies behind it");
        Error::new(ErrorKind::BadField, detail)
    })
}

/// Begins the header of a reply that reports success.
fn ok(id: Option<&Id>) -> Writer {
    let mut header = Writer::default();
    header.text("status", Some("ok"));
    header.id(id);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn header(text: &str) -> Header {
        Header::parse(text.as_bytes().to_vec(), 32).unwrap()
    }

    #[test]
    fn a_name_that_is_not_text_travels_too() {
        for (name, text) in [
            (&b"caf\xe9"[..], r#"{"cmd":"get","filename_b64":"Y2Fm6Q=="}"#),
            ("\u{e9}\"\n".as_bytes(), "{\"cmd\":\"get\",\"filename\":\"\u{e9}\\\"\\n\"}"),
        ] {
            let request = GetRequest { name: FileName::new(name), ..GetRequest::default() };
            assert_eq!(request.header(), text);
            let request = GetRequest::read(&header(text)).unwrap();
            assert_eq!(request.name.bytes().unwrap(), name);
        }
        let none = GetRequest::read(&header(r#"{"cmd":"get"}"#)).unwrap();
        assert_eq!(none.name.bytes().unwrap_err().kind(), ErrorKind::Missing);
    }

    #[test]
    fn what_is_not_known_is_left_out_of_a_message() {
        let request = PutRequest { name: FileName::new(b"a"), filesize: 5, ..Default::default() };
        let text = request.header();
        assert_eq!(text, r#"{"cmd":"put","filename":"a","filesize":5}"#);
        let name = FileName::new(b"a");
        let reply = PutReply { id: None, name, filesize: Some(5), sha256: None, overwrite: None };
        assert_eq!(reply.header(), r#"{"status":"ok","filename":"a","filesize":5}"#);
        let text = PathRequest::new(b"").header("stat");
        assert_eq!(text, r#"{"cmd":"stat","filename":""}"#);
    }
}
