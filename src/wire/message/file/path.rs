//! Requests about names, without contents (stat, list, mkdir, symlink), and their replies.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Entry, FileMode, FileName, Stat, ok};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::digest::Digest;
use crate::wire::json::header::Header;
use crate::wire::json::reader::{Fields, required};
use crate::wire::json::writer::Writer;
use crate::wire::message::{Id, as_reply, request};

/// A request about a name. Each `cmd` uses some of these keys and ignores the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathRequest {
    /// Repeated in the reply.
    pub id: Option<Id>,
    name: FileName,
    /// For a stat: it is about the partial file that an interrupted put of the name has left.
    pub partial: Option<bool>,
    /// For a mkdir: the permission bits, reduced by the server's umask.
    pub mode: Option<FileMode>,
    /// For a mkdir and a symlink: missing parent directories are made.
    pub parents: Option<bool>,
    /// For a symlink: whether it may replace another symbolic link. By default it may.
    pub overwrite: Option<bool>,
    target: FileName,
}

impl PathRequest {
    /// A request about `name`; an empty name, for a stat or a list, is the root.
    pub fn new(name: &[u8]) -> PathRequest {
        PathRequest { name: FileName::new(name), ..PathRequest::default() }
    }

    /// The same with the target of a symbolic link.
    #[must_use]
    pub fn with_target(self, target: &[u8]) -> PathRequest {
        PathRequest { target: FileName::new(target), ..self }
    }

    /// The header of its frame, for the request `cmd`.
    pub fn header(&self, cmd: &str) -> String {
        request(cmd, &|header| {
            header.id(self.id.as_ref());
            self.name.write("filename", header);
            header.plain("partial", self.partial);
            header.text("mode", self.mode.map(String::from).as_deref());
            header.plain("parents", self.parents);
            header.plain("overwrite", self.overwrite);
            self.target.write("target", header);
            header.plain("working", self.partial);
        })
    }

    /// Reads the request from `header`.
    pub fn read(header: &Header) -> Result<PathRequest> {
        let fields = header.fields()?;
        fields.boolean("working")?;
        Ok(PathRequest {
            id: fields.id()?,
            name: FileName::of("filename", &fields)?,
            partial: fields.boolean("partial")?,
            mode: fields.parsed("mode")?,
            parents: fields.boolean("parents")?,
            overwrite: fields.boolean("overwrite")?,
            target: FileName::of("target", &fields)?,
        })
    }

    /// The name, unchecked.
    pub fn name(&self) -> Result<Vec<u8>> {
        self.name.bytes()
    }

    /// The target, unchecked.
    pub fn target(&self) -> Result<Vec<u8>> {
        self.target.bytes_at("target")
    }
}

/// The header of the reply to a mkdir, a symlink or, with the array of entries as its body,
/// a list. The identity is that of a directory that was listed.
pub fn done(identity: Option<&str>, id: Option<&Id>) -> String {
    let mut header = ok(id);
    header.text("identity", identity);
    header.finish()
}

/// Reads the identity of a directory from the reply to a stat or a list; old servers send none.
pub fn identity_of(header: &Header) -> Result<Option<String>> {
    as_reply(header.fields().and_then(|fields| fields.text("identity")))
}

impl Stat {
    fn write(&self, object: &mut Writer) {
        object.text("kind", Some(self.kind.text()));
        object.plain("size", Some(self.size));
        object.text("mode", Some(&String::from(FileMode(self.mode))));
        object.plain("mtime", Some(self.mtime));
    }

    fn of(fields: &Fields<'_>) -> Result<Stat> {
        let mode: FileMode = fields.parsed("mode")?.ok_or_else(|| required("mode"))?;
        Ok(Stat {
            kind: fields.parsed("kind")?.ok_or_else(|| required("kind"))?,
            size: fields.size("size")?.ok_or_else(|| required("size"))?,
            mode: mode.0,
            mtime: fields.integer("mtime")?.ok_or_else(|| required("mtime"))?,
        })
    }
}

/// The replies to a stat.
#[derive(Debug)]
pub struct StatReply;

impl StatReply {
    /// The header of the reply that describes a file.
    pub fn header(stat: &Stat, identity: Option<&str>, id: Option<&Id>) -> String {
        let mut header = ok(id);
        stat.write(&mut header);
        header.text("identity", identity);
        header.finish()
    }

    /// The header of the reply that describes a partial file.
    pub fn partial_header(size: u64, sha256: Option<Digest>, id: Option<&Id>) -> String {
        let mut header = ok(id);
        header.plain("size", Some(size));
        header.text("sha256", sha256.map(String::from).as_deref());
        header.finish()
    }

    /// Reads the attributes of a file from the reply `header`.
    pub fn read(header: &Header) -> Result<Stat> {
        as_reply(header.fields().and_then(|fields| Stat::of(&fields)))
    }

    /// Reads the size and the digest of a partial file.
    pub fn read_partial(header: &Header) -> Result<(u64, Digest)> {
        let read = |fields: Fields<'_>| {
            let size = fields.size("size")?.ok_or_else(|| required("size"))?;
            Ok((size, fields.parsed("sha256")?.ok_or_else(|| required("sha256"))?))
        };
        as_reply(header.fields().and_then(read))
    }
}

impl Entry {
    /// Its JSON object in the body of the reply to a list.
    pub fn json(&self) -> String {
        let mut object = Writer::default();
        object.bytes("name", Some(&self.name));
        self.stat.write(&mut object);
        object.bytes("target", self.target.as_deref());
        object.finish()
    }

    /// The entries in the body of the reply to a list, in its order.
    pub fn read_list(body: &[u8]) -> Result<Vec<Entry>> {
        let bad = |detail: String| Error::new(ErrorKind::BadReply, format!("the list: {detail}"));
        let text = str::from_utf8(body).map_err(|error| bad(error.to_string()))?;
        let list: List = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        list.0
    }

    fn of(fields: &Fields<'_>) -> Result<Entry> {
        let name = fields.bytes("name")?.ok_or_else(|| required("name"))?;
        Ok(Entry { name, stat: Stat::of(fields)?, target: fields.bytes("target")? })
    }
}

/// Entries are read one by one, so that a long text that is not a list takes no memory.
/// The error is that there is no memory for them.
struct List(Result<Vec<Entry>>);

impl<'de> serde::Deserialize<'de> for List {
    fn deserialize<D: serde::Deserializer<'de>>(list: D) -> Result<List, D::Error> {
        list.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<List, S::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element::<&RawValue>()? {
            let text = entry.get();
            if text.len() as u64 > limits::MAX_HEADER {
                return Err(S::Error::custom("an entry is too long"));
            }
            if entries.try_reserve(1).is_err() {
                // The parser takes text that is left over for a syntax error.
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(List(Err(Error::new(ErrorKind::NoMemory, "the list"))));
            }
            let entry = Fields::parse(text).and_then(|fields| Entry::of(&fields));
            entries.push(entry.map_err(|error| S::Error::custom(error.detail()))?);
        }
        Ok(List(Ok(entries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::entry::Kind;
    use crate::wire::message::file::tests::header;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const STAT: Stat = Stat { kind: Kind::File, size: 3, mode: 0o644, mtime: -1 };

    #[test]
    fn a_request_has_what_its_command_needs() {
        let link = PathRequest::new(b"a").with_target(b"caf\xe9");
        let text = link.header("symlink");
        assert_eq!(text, r#"{"cmd":"symlink","filename":"a","target_b64":"Y2Fm6Q=="}"#);
        let link = PathRequest::read(&header(&text)).unwrap();
        assert_eq!(
            (&*link.name().unwrap(), &*link.target().unwrap()),
            (&b"a"[..], &b"caf\xe9"[..])
        );
        let text = r#"{"filename_b64":"","mode":"0750","parents":true,"id":7}"#;
        let made = PathRequest::read(&header(text)).unwrap();
        assert_eq!((made.name().unwrap(), made.mode), (vec![], Some(FileMode(0o750))));
        assert_eq!((made.parents, made.id.clone()), (Some(true), Some(Id::Number(7))));
        assert_eq!(made.target().unwrap_err().kind(), ErrorKind::Missing);
        for bad in [r#""partial":1"#, r#""mode":7"#, r#""filename":"b""#, r#""target":7"#] {
            let error = PathRequest::read(&header(&format!(r#"{{"filename":"a",{bad}}}"#)));
            assert_eq!(error.unwrap_err().kind(), ErrorKind::BadField, "{bad}");
        }
        let neither = PathRequest::read(&header("{}")).unwrap();
        assert_eq!(neither.name().unwrap_err().kind(), ErrorKind::Missing);
        let listed = done(Some("1f"), Some(&Id::Number(7)));
        assert_eq!(listed, r#"{"status":"ok","id":7,"identity":"1f"}"#);
        assert_eq!(identity_of(&header(&listed)).unwrap().as_deref(), Some("1f"));
        assert_eq!(identity_of(&header("{}")).unwrap(), None);
        let error = identity_of(&header(r#"{"identity":1}"#)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadReply);
    }

    #[test]
    fn what_is_told_of_a_file_comes_back() {
        let text = StatReply::header(&STAT, None, None);
        let expected = r#"{"status":"ok","kind":"file","size":3,"mode":"0644","mtime":-1}"#;
        assert_eq!(text, expected);
        assert_eq!(StatReply::read(&header(&text)).unwrap(), STAT);
        let sha256 = DIGEST.to_owned().try_into().unwrap();
        let text = StatReply::partial_header(3, Some(sha256), None);
        assert_eq!(text, format!(r#"{{"status":"ok","size":3,"sha256":"{DIGEST}"}}"#));
        assert_eq!(StatReply::read_partial(&header(&text)).unwrap(), (3, sha256));
        let new = expected.replace("file", "door");
        assert_eq!(StatReply::read(&header(&new)).unwrap().kind, Kind::Other);
        for bad in ["{}", &text, r#"{"size":-1}"#, &expected.replace("0644", "9")] {
            let error = StatReply::read(&header(bad)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadReply, "{bad}");
        }
        let error = StatReply::read_partial(&header(expected)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadReply);
    }

    #[test]
    fn an_entry_of_any_name_comes_back() {
        let stat = r#""kind":"file","size":3,"mode":"0644","mtime":-1"#;
        for (name, target, first, last) in [
            (&b"a\n"[..], None, r#""name":"a\n","#, ""),
            (b"\xff", Some(b"x".to_vec()), r#""name_b64":"/w==","#, r#","target":"x""#),
            (b"a", Some(b"\xff".to_vec()), r#""name":"a","#, r#","target_b64":"/w==""#),
        ] {
            let text = format!("{{{first}{stat}{last}}}");
            let entry = Entry { name: name.to_vec(), stat: STAT, target };
            assert_eq!(entry.json(), text);
            assert_eq!(Entry::read_list(format!("[{text}]").as_bytes()).unwrap(), [entry]);
        }
        for bad in [r#""mtime":0"#, r#""mtime":0,"name":"a","name_b64":"""#] {
            let text = format!(r#"[{{"kind":"file","size":3,"mode":"0644",{bad}}}]"#);
            let error = Entry::read_list(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadReply, "{bad}");
        }
        for bad in ["{}", "[{}]", "[1]", "[[]]", "[", "[]x", ""] {
            let error = Entry::read_list(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadReply, "{bad}");
        }
        assert!(Entry::read_list(b" [ ] ").unwrap().is_empty());
    }

    #[test]
    fn an_entry_is_no_longer_than_a_name_and_a_target_can_be() {
        let escaped = "\\u00e9".repeat(255);
        let target = "x".repeat(4095);
        let list = |rest: &str| {
            let entry = format!(
                r#"{{"name":"{escaped}","kind":"symlink","size":0,"mode":"0777","mtime":0,
                    "target":"{target}"{rest}}}"#
            );
            Entry::read_list(format!("[{entry},{entry}]").as_bytes())
        };
        let entries = list("").unwrap();
        assert_eq!((entries[0].name.len(), &entries[0]), (510, &entries[1]));
        let keys = format!(",{}\"new\":0", "\"\":0,".repeat(20_000));
        let error = list(&keys).unwrap_err();
        assert!(error.detail().contains("too long"), "{error}");
    }
}
