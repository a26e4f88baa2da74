//! The get request and its reply.

use super::{FileMode, FileName, ok, rest_of};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::digest::Digest;
use crate::wire::json::header::Header;
use crate::wire::json::reader::{Fields, required};
use crate::wire::message::{Id, Message, read_reply, request};

/// Asks for a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetRequest {
    /// Repeated in the reply.
    pub id: Option<Id>,
    /// Its name, relative to the server's root.
    pub name: FileName,
    /// A [`Trailer`](super::Trailer) must follow the content.
    pub trailer: Option<bool>,
    /// Bytes of the file that the client already has.
    pub offset: Option<u64>,
    /// The digest that those bytes must match.
    pub prefix_sha256: Option<Digest>,
    /// The most bytes per second that the client wants. If the client only read more slowly, the
    /// server could take that for a stall.
    pub rate: Option<u64>,
}

impl GetRequest {
    /// The header of its frame.
    pub fn header(&self) -> String {
        request("get", &|header| {
            header.id(self.id.as_ref());
            self.name.write("filename", header);
            header.plain("trailer", self.trailer);
            header.plain("offset", self.offset);
            header.text("prefix_sha256", self.prefix_sha256.map(String::from).as_deref());
            header.plain("rate", self.rate);
            header.plain("working", self.prefix_sha256.map(|_| true));
        })
    }

    /// Reads the request from `header`.
    pub fn read(header: &Header) -> Result<GetRequest> {
        let fields = header.fields()?;
        fields.boolean("working")?;
        Ok(GetRequest {
            id: fields.id()?,
            name: FileName::of("filename", &fields)?,
            trailer: fields.boolean("trailer")?,
            offset: fields.size("offset")?,
            prefix_sha256: fields.parsed("prefix_sha256")?,
            rate: fields.size("rate")?,
        })
    }
}

/// The header of the reply to a get; its body is the content after the request's offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetReply {
    /// The request's.
    pub id: Option<Id>,
    /// The request's.
    pub name: FileName,
    /// Bytes of the whole file.
    pub filesize: u64,
    /// Its permission bits.
    pub mode: Option<FileMode>,
    /// Its time of modification, in milliseconds since 1970.
    pub mtime: Option<i64>,
    /// The digest of the whole file, from a server that knows it in advance.
    pub sha256: Option<Digest>,
    /// A [`Trailer`](super::Trailer) follows the body. A server that does not know trailers
    /// leaves it out.
    pub trailer: Option<bool>,
}

impl GetReply {
    /// The header of its frame.
    pub fn header(&self) -> String {
        let mut header = ok(self.id.as_ref());
        self.name.write("filename", &mut header);
        header.plain("filesize", Some(self.filesize));
        header.text("mode", self.mode.map(String::from).as_deref());
        header.plain("mtime", self.mtime);
        header.text("sha256", self.sha256.map(String::from).as_deref());
        header.plain("trailer", self.trailer);
        header.finish()
    }

    /// Reads the reply from `header`, if it matches a request with this offset: its body is the
    /// rest of the file.
    pub fn read(header: &Header, offset: u64) -> Result<GetReply> {
        let bad = |detail: String| Error::new(ErrorKind::BadReply, detail);
        let reply: GetReply = read_reply(header)?;
        let rest = rest_of(reply.filesize, Some(offset));
        let rest = rest.map_err(|error| bad(error.detail().to_owned()))?;
        match header.data_size() {
            Some(body) if body == rest => Ok(reply),
            Some(body) => {
                Err(bad(format!("{rest} bytes of the file are to come, but data_size is {body}")))
            }
            None => Err(bad("there is no data_size".into())),
        }
    }
}

impl Message for GetReply {
    fn of(fields: &Fields<'_>) -> Result<GetReply> {
        Ok(GetReply {
            id: fields.id()?,
            name: FileName::of("filename", fields)?,
            filesize: fields.size("filesize")?.ok_or_else(|| required("filesize"))?,
            mode: fields.parsed("mode")?,
            mtime: fields.integer("mtime")?,
            sha256: fields.parsed("sha256")?,
            trailer: fields.boolean("trailer")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::file::tests::header;

    #[test]
    fn a_get_may_begin_in_the_middle() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let text = format!(r#"{{"filename":"a","offset":3,"prefix_sha256":"{digest}"}}"#);
        let request = GetRequest::read(&header(&text)).unwrap();
        assert_eq!(request.offset, Some(3));
        assert_eq!(request.prefix_sha256.unwrap().to_string(), digest);
        for bad in [r#""offset":-1"#, r#""offset":"1""#, r#""prefix_sha256":"""#, r#""trailer":1"#]
        {
            let error = GetRequest::read(&header(&format!(r#"{{"filename":"a",{bad}}}"#)));
            assert_eq!(error.unwrap_err().kind(), ErrorKind::BadField, "{bad}");
        }
    }

    #[test]
    fn a_reply_to_a_get_has_one_size() {
        let read = |text: &str, offset| GetReply::read(&header(text), offset);
        assert_eq!(read(r#"{"data_size":5,"filesize":5}"#, 0).unwrap().filesize, 5);
        assert_eq!(read(r#"{"data_size":3,"filesize":5}"#, 2).unwrap().filesize, 5);
        assert_eq!(read(r#"{"data_size":0,"filesize":5}"#, 5).unwrap().filesize, 5);
        for (bad, offset) in [
            ("{}", 0),
            (r#"{"data_size":5}"#, 0),
            (r#"{"filesize":0}"#, 0),
            (r#"{"data_size":5,"filesize":4}"#, 0),
            (r#"{"data_size":5,"filesize":5}"#, 1),
            (r#"{"data_size":0,"filesize":5}"#, 6),
            (r#"{"data_size":5,"filesize":-5}"#, 0),
            (r#"{"data_size":5,"filesize":5,"sha256":""}"#, 0),
            (r#"{"data_size":5,"filesize":5,"mode":"8"}"#, 0),
        ] {
            assert_eq!(read(bad, offset).unwrap_err().kind(), ErrorKind::BadReply, "{bad}");
        }
    }
}
