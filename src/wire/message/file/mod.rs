//! What the messages about files share; each kind of request has a file of its own.

mod get;
mod path;
mod put;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

pub use get::{GetReply, GetRequest};
pub use path::{Entry, PathRequest, Stat, StatReply, done};
pub use put::{PutExtent, PutReply, PutRequest};

use crate::error::{Error, ErrorKind, Result};
use crate::wire::digest::Digest;
use crate::wire::json::builder::bytes_of;
use crate::wire::json::fields::{Fields, Writer, required};
use crate::wire::json::header::Header;
use crate::wire::message::Id;

/// The name of a file: text where it is UTF-8, else Base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileName {
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename_b64: Option<String>,
}

impl FileName {
    /// The message fields for `name`.
    pub fn new(name: &[u8]) -> FileName {
        let (filename, filename_b64) = text_of(name);
        FileName { filename, filename_b64 }
    }

    fn of(fields: &Fields<'_>) -> Result<FileName> {
        let (filename, filename_b64) = (fields.text("filename")?, fields.text("filename_b64")?);
        Ok(FileName { filename, filename_b64 })
    }

    fn write(&self, header: &mut Writer) {
        header.text("filename", self.filename.as_deref());
        header.text("filename_b64", self.filename_b64.as_deref());
    }

    /// The name that a message carries, whatever it is.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        bytes_of(self.filename.as_deref(), self.filename_b64.as_deref(), "filename")
    }
}

/// Permission bits as octal text, such as `0644`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
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

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link itself, not what it leads to.
    Symlink,
    /// A device, a FIFO, a socket, and whatever else there may be.
    Other,
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
    /// The digest of the whole file, also where only the rest of it was sent.
    pub sha256: Digest,
}

impl Trailer {
    /// The header of its frame.
    pub fn header(&self) -> String {
        let mut header = Writer::default();
        header.text("sha256", Some(&self.sha256.to_string()));
        header.finish()
    }

    /// The trailer that `header` carries.
    pub fn read(header: &Header) -> Result<Trailer> {
        let sha256 = header.fields()?.parsed("sha256")?;
        Ok(Trailer { sha256: sha256.ok_or_else(|| required("sha256"))? })
    }
}

/// `bytes` as text where they are UTF-8, else in Base64.
fn text_of(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64_STANDARD.encode(bytes))),
    }
}

/// The bytes that come in a body where `offset` of a file of `filesize` bytes are there.
fn rest_of(filesize: u64, offset: Option<u64>) -> Result<u64> {
    let offset = offset.unwrap_or(0);
    filesize.checked_sub(offset).ok_or_else(|| {
        let detail = format!("filesize is {filesize}, and offset {offset} lies behind it");
        Error::new(ErrorKind::BadField, detail)
    })
}

/// The header of a reply that reports success, begun.
fn ok(id: Option<&Id>) -> Writer {
    let mut header = Writer::default();
    header.text("status", Some("ok"));
    header.id(id);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::to_request;

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
            assert_eq!(to_request("get", &request).unwrap(), text);
            let request = GetRequest::read(&header(text)).unwrap();
            assert_eq!(request.name.bytes().unwrap(), name);
        }
        let none = GetRequest::read(&header(r#"{"cmd":"get"}"#)).unwrap();
        assert_eq!(none.name.bytes().unwrap_err().kind(), ErrorKind::Missing);
    }

    #[test]
    fn what_is_not_known_is_left_out_of_a_message() {
        let request = PutRequest { name: FileName::new(b"a"), filesize: 5, ..Default::default() };
        let text = to_request("put", &request).unwrap();
        assert_eq!(text, r#"{"cmd":"put","filename":"a","filesize":5}"#);
        let name = FileName::new(b"a");
        let reply = PutReply { id: None, name, filesize: Some(5), sha256: None };
        assert_eq!(reply.header(), r#"{"status":"ok","filename":"a","filesize":5}"#);
        let text = to_request("stat", &PathRequest::new(b"")).unwrap();
        assert_eq!(text, r#"{"cmd":"stat","filename":""}"#);
    }
}
