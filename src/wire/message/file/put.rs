//! The put request, the bytes that follow it, and its reply.

use super::{FileMode, FileName, ok, rest_of};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::digest::Digest;
use crate::wire::json::header::{Header, MAX_DATA_SIZE};
use crate::wire::json::reader::{Fields, required};
use crate::wire::json::writer::Writer;
use crate::wire::message::{Id, Message, request};

/// Stores a file. Its content is the frame's body; with an `offset`, only the rest of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    /// Repeated in the reply.
    pub id: Option<Id>,
    /// Its name, relative to the server's root.
    pub name: FileName,
    /// Bytes of the whole file.
    pub filesize: u64,
    /// The digest that the whole content must match.
    pub sha256: Option<Digest>,
    /// Its permission bits, reduced by the server's umask.
    pub mode: Option<FileMode>,
    /// A file that is replaced keeps its own permission bits, and only a new one gets `mode`.
    pub keep_mode: Option<bool>,
    /// Its time of modification, in milliseconds since 1970.
    pub mtime: Option<i64>,
    /// A [`Trailer`](super::Trailer) follows the body.
    pub trailer: Option<bool>,
    /// What becomes of a file that is there. By default it is replaced.
    pub overwrite: Option<Overwrite>,
    /// Missing parent directories are made.
    pub parents: Option<bool>,
    /// Bytes of the file that the server already has; they are not in the body.
    pub offset: Option<u64>,
    /// The digest that those bytes must match.
    pub prefix_sha256: Option<Digest>,
    /// The bytes of an interrupted put are kept, to be continued.
    pub resume: Option<bool>,
    /// Whether the put would be refused; nothing is sent and stored.
    pub ask: Option<bool>,
}

/// What becomes of a file that is there when another is put under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and the put is refused.
    No,
    /// It is replaced by the new file.
    Yes,
    /// It gets the new content, and stays the same file. Servers that cannot do so refuse the
    /// put, since they expect a boolean.
    InPlace,
}

impl Overwrite {
    fn read(fields: &Fields<'_>) -> Result<Option<Overwrite>> {
        if fields.text(OVERWRITE).is_ok_and(|text| text.as_deref() == Some(IN_PLACE)) {
            return Ok(Some(Overwrite::InPlace));
        }
        let yes = |yes| if yes { Overwrite::Yes } else { Overwrite::No };
        Ok(fields.boolean(OVERWRITE)?.map(yes))
    }

    fn write(self, header: &mut Writer) {
        match self {
            Overwrite::InPlace => header.text(OVERWRITE, Some(IN_PLACE)),
            other => header.plain(OVERWRITE, Some(other == Overwrite::Yes)),
        }
    }
}

const OVERWRITE: &str = "overwrite";
const IN_PLACE: &str = "in_place";

impl PutRequest {
    /// The header of its frame.
    pub fn header(&self) -> String {
        request("put", &|header| {
            header.id(self.id.as_ref());
            self.name.write("filename", header);
            header.plain("filesize", Some(self.filesize));
            header.text("sha256", self.sha256.map(String::from).as_deref());
            header.text("mode", self.mode.map(String::from).as_deref());
            header.plain("keep_mode", self.keep_mode);
            header.plain("mtime", self.mtime);
            header.plain("trailer", self.trailer);
            self.overwrite.inspect(|overwrite| overwrite.write(header));
            header.plain("parents", self.parents);
            header.plain("offset", self.offset);
            header.text("prefix_sha256", self.prefix_sha256.map(String::from).as_deref());
            header.plain("resume", self.resume);
            header.plain("ask", self.ask);
            let is_read = self.offset.is_some() || self.overwrite == Some(Overwrite::InPlace);
            header.plain("working", is_read.then_some(true));
        })
    }

    /// Reads the request from `header`, if it can be served: the size of the body must be
    /// `filesize` minus `offset`.
    pub fn read(header: &Header) -> Result<PutRequest> {
        let fields = header.fields()?;
        let request = PutRequest {
            id: fields.id()?,
            name: FileName::of("filename", &fields)?,
            filesize: fields.size("filesize")?.ok_or_else(|| required("filesize"))?,
            sha256: fields.parsed("sha256")?,
            mode: fields.parsed("mode")?,
            keep_mode: fields.boolean("keep_mode")?,
            mtime: fields.integer("mtime")?,
            trailer: fields.boolean("trailer")?,
            overwrite: Overwrite::read(&fields)?,
            parents: fields.boolean("parents")?,
            offset: fields.size("offset")?,
            prefix_sha256: fields.parsed("prefix_sha256")?,
            resume: fields.boolean("resume")?,
            ask: fields.boolean("ask")?,
        };
        fields.boolean("working")?;
        if request.filesize > MAX_DATA_SIZE {
            return Err(Error::new(ErrorKind::TooBig, "filesize does not fit 63 bits"));
        }
        let mut rest = rest_of(request.filesize, request.offset)?;
        if request.ask == Some(true) {
            rest = 0;
        }
        match header.data_size() {
            Some(body) if body != rest => Err(Error::new(
                ErrorKind::BadField,
                format!("{rest} bytes of the file are to come, but data_size is {body}"),
            )),
            _ => Ok(request),
        }
    }
}

/// The bytes after the header of a put in the stream, whether or not it can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutExtent {
    /// Bytes of the body.
    pub body: u64,
    /// Whether a [`Trailer`](super::Trailer) follows it.
    pub trailer: bool,
}

impl PutExtent {
    /// The extent of the put that begins with `header`. The oldest clients send no `data_size`:
    /// their body is as long as the file. After an error the start of the next frame is unknown.
    pub fn of(header: &Header) -> Result<PutExtent> {
        let fields = header.fields()?;
        let is_question = fields.boolean("ask").is_ok_and(|ask| ask == Some(true));
        let body = match header.data_size() {
            Some(body) => body,
            None if is_question => 0,
            None if fields.size("offset")?.is_some() => {
                return Err(Error::new(ErrorKind::Missing, "an offset needs a data_size"));
            }
            None => match fields.size("filesize")? {
                Some(filesize) if filesize > MAX_DATA_SIZE => {
                    return Err(Error::new(ErrorKind::TooBig, "filesize does not fit 63 bits"));
                }
                Some(filesize) => filesize,
                None if fields.has("filesize") => return Err(required("filesize")),
                None => 0,
            },
        };
        let has_trailer = fields.boolean("trailer")? == Some(true);
        Ok(PutExtent { body, trailer: has_trailer && !is_question })
    }
}

/// The reply to a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutReply {
    /// The request's.
    pub id: Option<Id>,
    /// The request's.
    pub name: FileName,
    /// Bytes of the whole file.
    pub filesize: Option<u64>,
    /// Its digest, if one was computed.
    pub sha256: Option<Digest>,
    /// The request's, if that is [`Overwrite::InPlace`]: a server that does not know it may say
    /// nothing of it.
    pub overwrite: Option<Overwrite>,
}

impl PutReply {
    /// The header of its frame.
    pub fn header(&self) -> String {
        let mut header = ok(self.id.as_ref());
        self.name.write("filename", &mut header);
        header.plain("filesize", self.filesize);
        header.text("sha256", self.sha256.map(String::from).as_deref());
        self.overwrite.inspect(|overwrite| overwrite.write(&mut header));
        header.finish()
    }
}

impl Message for PutReply {
    fn of(fields: &Fields<'_>) -> Result<PutReply> {
        Ok(PutReply {
            id: fields.id()?,
            name: FileName::of("filename", fields)?,
            filesize: fields.size("filesize")?,
            sha256: fields.parsed("sha256")?,
            overwrite: Overwrite::read(fields)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::file::tests::header;

    const DIGEST: &str = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";

    fn put(rest: &str) -> Result<PutRequest> {
        PutRequest::read(&header(&format!(r#"{{"cmd":"put","filename":"a"{rest}}}"#)))
    }

    #[test]
    fn a_put_says_where_how_large_and_how() {
        let request = put(&format!(
            r#","id":"i","filesize":3,"data_size":3,"sha256":"{DIGEST}","mode":"0640",
               "keep_mode":true,"mtime":-1,"trailer":true,"overwrite":false,"parents":true,"new":[1.5]"#
        ));
        let request = request.unwrap();
        assert_eq!(request.name.bytes().unwrap(), b"a");
        assert_eq!((request.filesize, request.mode), (3, Some(FileMode(0o640))));
        assert_eq!((request.mtime, request.overwrite), (Some(-1), Some(Overwrite::No)));
        assert_eq!(request.keep_mode, Some(true));
        assert_eq!(request.sha256.unwrap().to_string(), DIGEST.to_lowercase());
        assert_eq!((request.parents, request.resume, request.offset), (Some(true), None, None));
        assert_eq!(put(r#","filesize":3"#).unwrap().filesize, 3, "from the oldest uploaders");
    }

    #[test]
    fn a_put_says_what_becomes_of_the_file_that_is_there() {
        for (text, overwrite) in [
            ("true", Some(Overwrite::Yes)),
            ("false", Some(Overwrite::No)),
            ("\"in_place\"", Some(Overwrite::InPlace)),
            ("null", None),
        ] {
            let read = put(&format!(r#","filesize":3,"overwrite":{text}"#)).unwrap();
            assert_eq!(read.overwrite, overwrite);
            let keys = read.header().split_once(r#""filesize":3"#).unwrap().1.to_owned();
            let written = overwrite.map_or(String::new(), |_| format!(r#","overwrite":{text}"#));
            assert!(keys.starts_with(&written), "{keys}");
            let takes_long = keys.contains("working");
            assert_eq!(takes_long, overwrite == Some(Overwrite::InPlace), "{keys}");
        }
    }

    #[test]
    fn a_put_may_bring_the_rest_of_a_file() {
        let request = put(&format!(
            r#","filesize":5,"data_size":3,"offset":2,"resume":true,"prefix_sha256":"{DIGEST}""#
        ));
        let request = request.unwrap();
        assert_eq!((request.filesize, request.offset), (5, Some(2)));
        assert_eq!(request.prefix_sha256.unwrap().to_string(), DIGEST.to_lowercase());
        for rest in ["\"data_size\":0,\"offset\":5", "\"data_size\":5,\"offset\":0"] {
            assert!(put(&format!(r#","filesize":5,{rest}"#)).is_ok(), "{rest}");
        }
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
            r#","filesize":3,"data_size":3,"offset":1"#,
            r#","filesize":3,"data_size":0,"offset":4"#,
            r#","filesize":3,"data_size":4,"offset":-1"#,
            r#","filesize":3,"data_size":2,"offset":1.0"#,
            r#","filesize":3,"data_size":2,"offset":1,"offset":1"#,
            r#","filesize":3,"prefix_sha256":"ba78""#,
            r#","filesize":3,"resume":1"#,
            r#","filesize":3,"parents":"yes""#,
            r#","filesize":3,"sha256":"ba78""#,
            r#","filesize":3,"sha256":7"#,
            r#","filesize":3,"mode":"0888""#,
            r#","filesize":3,"mode":"+644""#,
            r#","filesize":3,"mode":"""#,
            r#","filesize":3,"mode":"17777""#,
            r#","filesize":3,"mode":420"#,
            r#","filesize":3,"keep_mode":1"#,
            r#","filesize":3,"mtime":1.5"#,
            r#","filesize":3,"trailer":1"#,
            r#","filesize":3,"overwrite":"no""#,
            r#","filesize":3,"overwrite":"in_place","overwrite":"in_place""#,
            r#","filesize":3,"filename":"b""#,
        ];
        for rest in sizes.chain(others.map(String::from)) {
            assert_eq!(put(&rest).unwrap_err().kind(), ErrorKind::BadField, "{rest}");
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
            (r#"{"data_size":3,"filesize":5,"offset":9}"#, 3, false),
            (r#"{"filesize":5,"mode":8}"#, 5, false),
            (r#"{"filesize":5,"ask":true,"trailer":true}"#, 0, false),
            (r#"{"data_size":3,"filesize":5,"ask":7,"trailer":true}"#, 3, true),
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
}
