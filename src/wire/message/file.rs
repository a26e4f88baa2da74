//! The put and get requests, their replies, and the trailer that follows a content.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::Id;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::builder::bytes_of;
use crate::wire::digest::Digest;
use crate::wire::header::{Header, MAX_DATA_SIZE};

/// The name of a file: text where it is UTF-8, else Base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileName {
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename_b64: Option<String>,
}

impl FileName {
    /// The message fields for `name`.
    pub fn new(name: &[u8]) -> FileName {
        match std::str::from_utf8(name) {
            Ok(text) => FileName { filename: Some(text.to_owned()), filename_b64: None },
            Err(_) => FileName { filename: None, filename_b64: Some(BASE64_STANDARD.encode(name)) },
        }
    }

    /// The name that a message carries, whatever it is.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        bytes_of(self.filename.as_deref(), self.filename_b64.as_deref(), "filename")
    }
}

/// Permission bits as octal text, such as `0644`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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

/// Stores a file; its content is the frame's body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutRequest {
    /// Repeated in the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Where it goes, relative to the server's root.
    #[serde(flatten)]
    pub name: FileName,
    /// Bytes of the whole file.
    pub filesize: u64,
    /// What the content has to match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its permission bits, less the server's umask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
    /// Its time of modification, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// A [`Trailer`] follows the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailer: Option<bool>,
    /// It may replace a file; where it is not there, it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// Bytes of the file that the server has already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What is cut is kept, to be continued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<bool>,
}

impl PutRequest {
    /// The request that `header` carries, if it can be followed: `filesize` is the size of
    /// the body, and nothing is asked for that is not known here.
    pub fn read(header: &Header) -> Result<PutRequest> {
        let request: PutRequest = header.read_as()?;
        if request.resume == Some(true) {
            return unsupported("resume");
        }
        if request.offset.is_some_and(|offset| offset > 0) {
            return unsupported("an offset");
        }
        if request.filesize > MAX_DATA_SIZE {
            return Err(Error::new(ErrorKind::TooBig, "filesize does not fit 63 bits"));
        }
        match header.data_size() {
            Some(body) if body != request.filesize => Err(Error::new(
                ErrorKind::BadField,
                format!("filesize is {}, but data_size {body}", request.filesize),
            )),
            _ => Ok(request),
        }
    }
}

/// What follows the header of a put in the stream, whether or not it can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutExtent {
    /// Bytes of the body.
    pub body: u64,
    /// Whether a [`Trailer`] follows it.
    pub trailer: bool,
}

impl PutExtent {
    /// The extent of the put that begins with `header`. The oldest uploaders send no
    /// `data_size`: their body is as long as the file. After an error nobody knows where
    /// the next frame begins.
    pub fn of(header: &Header) -> Result<PutExtent> {
        #[derive(Deserialize)]
        struct HasTrailer {
            trailer: Option<bool>,
        }
        #[derive(Deserialize)]
        struct Sizes {
            #[serde(default)]
            filesize: u64,
            offset: Option<u64>,
        }
        let body = match header.data_size() {
            Some(body) => body,
            None => match header.read_as()? {
                Sizes { offset: Some(_), .. } => {
                    return Err(Error::new(ErrorKind::Missing, "an offset needs a data_size"));
                }
                Sizes { filesize, .. } if filesize > MAX_DATA_SIZE => {
                    return Err(Error::new(ErrorKind::TooBig, "filesize does not fit 63 bits"));
                }
                Sizes { filesize, .. } => filesize,
            },
        };
        let HasTrailer { trailer } = header.read_as()?;
        Ok(PutExtent { body, trailer: trailer == Some(true) })
    }
}

/// The reply to a put: what was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReply {
    /// `ok`; [`check_reply`](super::check_reply) knows the other one.
    #[serde(skip_deserializing, default = "ok")]
    pub status: &'static str,
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The request's.
    #[serde(flatten)]
    pub name: FileName,
    /// Bytes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesize: Option<u64>,
    /// Its digest, where one was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// Asks for a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRequest {
    /// Repeated in the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Which one, relative to the server's root.
    #[serde(flatten)]
    pub name: FileName,
    /// A [`Trailer`] is to follow the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailer: Option<bool>,
    /// Where to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl GetRequest {
    /// The request that `header` carries, if it can be followed.
    pub fn read(header: &Header) -> Result<GetRequest> {
        let request: GetRequest = header.read_as()?;
        if request.offset.is_some_and(|offset| offset > 0) {
            return unsupported("an offset");
        }
        Ok(request)
    }
}

/// The header of the reply to a get; its body is the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReply {
    /// `ok`; [`check_reply`](super::check_reply) knows the other one.
    #[serde(skip_deserializing, default = "ok")]
    pub status: &'static str,
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The request's.
    #[serde(flatten)]
    pub name: FileName,
    /// Bytes of the whole file.
    pub filesize: u64,
    /// Its digest, from a server that knows it beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// A [`Trailer`] follows the body. A server that knows none leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailer: Option<bool>,
}

impl GetReply {
    /// The reply that `header` carries, if it is one: its body is the whole file.
    pub fn read(header: &Header) -> Result<GetReply> {
        let bad = |detail: String| Error::new(ErrorKind::BadReply, detail);
        let reply: GetReply = header.read_as().map_err(|error| bad(error.detail().to_owned()))?;
        match header.data_size() {
            Some(body) if body == reply.filesize => Ok(reply),
            Some(body) => Err(bad(format!("filesize is {}, but data_size {body}", reply.filesize))),
            None => Err(bad("there is no data_size".into())),
        }
    }
}

/// The frame after a content, for a sender that computes the digest as it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// The digest of the content.
    pub sha256: Digest,
}

fn ok() -> &'static str {
    "ok"
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, format!("{what} is not supported here")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{to_header, to_request};

    fn header(text: &str) -> Header {
        Header::parse(text.as_bytes().to_vec(), 32).unwrap()
    }

    fn put(rest: &str) -> Result<PutRequest> {
        PutRequest::read(&header(&format!(r#"{{"cmd":"put","filename":"a"{rest}}}"#)))
    }

    #[test]
    fn a_put_says_where_how_large_and_how() {
        let digest = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        let request = put(&format!(
            r#","id":"i","filesize":3,"data_size":3,"sha256":"{digest}","mode":"0640",
               "mtime":-1,"trailer":true,"overwrite":false,"new":[1.5]"#
        ));
        let request = request.unwrap();
        assert_eq!(request.name.bytes().unwrap(), b"a");
        assert_eq!((request.filesize, request.mode), (3, Some(FileMode(0o640))));
        assert_eq!((request.mtime, request.overwrite), (Some(-1), Some(false)));
        assert_eq!(request.sha256.unwrap().to_string(), digest.to_lowercase());
        assert_eq!(put(r#","filesize":3"#).unwrap().filesize, 3, "from the oldest uploaders");
        assert!(put(r#","filesize":3,"offset":0,"resume":false"#).is_ok());
    }

    #[test]
    fn a_put_that_cannot_be_followed_is_refused() {
        let sizes = ["-1", "-0", "5.5", "5.0", "5e0", "\"5\"", "null", "[5]", "true"];
        let sizes = sizes.iter().map(|size| format!(r#","filesize":{size}"#));
        let others = [
            "",
            r#","filesize":18446744073709551616"#,
            r#","filesize":3,"filesize":3"#,
            r#","filesize":3,"data_size":4"#,
            r#","filesize":3,"sha256":"ba78""#,
            r#","filesize":3,"sha256":7"#,
            r#","filesize":3,"mode":"0888""#,
            r#","filesize":3,"mode":"+644""#,
            r#","filesize":3,"mode":"""#,
            r#","filesize":3,"mode":"17777""#,
            r#","filesize":3,"mode":420"#,
            r#","filesize":3,"mtime":1.5"#,
            r#","filesize":3,"trailer":1"#,
            r#","filesize":3,"overwrite":"no""#,
            r#","filesize":3,"filename":"b""#,
        ];
        for rest in sizes.chain(others.map(String::from)) {
            assert_eq!(put(&rest).unwrap_err().kind(), ErrorKind::BadField, "{rest}");
        }
        for rest in [r#","filesize":3,"resume":true"#, r#","filesize":3,"offset":1,"data_size":2"#]
        {
            assert_eq!(put(rest).unwrap_err().kind(), ErrorKind::Unsupported, "{rest}");
        }
        let error = put(r#","filesize":9223372036854775808"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
    }

    #[test]
    fn the_end_of_a_bad_put_is_known_where_its_sizes_are_good() {
        let extent = |text: &str| PutExtent::of(&header(text));
        for (text, body, trailer) in [
            (r#"{"data_size":3,"filesize":"5","sha256":7}"#, 3, false),
            (r#"{"data_size":3,"filesize":5,"trailer":true}"#, 3, true),
            (r#"{"filesize":5,"mode":8}"#, 5, false),
            ("{}", 0, false),
        ] {
            assert_eq!(extent(text).unwrap(), PutExtent { body, trailer }, "{text}");
        }
        for text in [
            r#"{"filesize":-1}"#,
            r#"{"filesize":"5"}"#,
            r#"{"filesize":null}"#,
            r#"{"filesize":5,"filesize":5}"#,
            r#"{"filesize":9223372036854775808}"#,
            r#"{"filesize":5,"offset":1}"#,
            r#"{"data_size":3,"trailer":1}"#,
        ] {
            assert!(extent(text).is_err(), "{text}");
        }
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
    fn a_get_from_the_middle_is_not_served() {
        let error = GetRequest::read(&header(r#"{"filename":"a","offset":1}"#)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_reply_to_a_get_has_one_size() {
        let read = |text: &str| GetReply::read(&header(text));
        assert_eq!(read(r#"{"data_size":5,"filesize":5}"#).unwrap().filesize, 5);
        for bad in [
            "{}",
            r#"{"data_size":5}"#,
            r#"{"filesize":0}"#,
            r#"{"data_size":5,"filesize":4}"#,
            r#"{"data_size":5,"filesize":-5}"#,
            r#"{"data_size":5,"filesize":5,"sha256":""}"#,
        ] {
            assert_eq!(read(bad).unwrap_err().kind(), ErrorKind::BadReply, "{bad}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out_of_a_message() {
        let request = PutRequest { name: FileName::new(b"a"), filesize: 5, ..Default::default() };
        let text = to_request("put", &request).unwrap();
        assert_eq!(text, r#"{"cmd":"put","filename":"a","filesize":5}"#);
        let name = FileName::new(b"a");
        let reply = PutReply { status: ok(), id: None, name, filesize: Some(5), sha256: None };
        assert_eq!(to_header(&reply).unwrap(), r#"{"status":"ok","filename":"a","filesize":5}"#);
    }
}
