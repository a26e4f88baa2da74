//! Requests about names rather than contents (stat, list, mkdir, symlink) and their replies.

use serde::{Deserialize, Serialize};

use super::{FileMode, Kind, ok, text_of};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::builder::bytes_of;
use crate::wire::digest::Digest;
use crate::wire::header::Header;
use crate::wire::message::{Id, read_reply};

/// Asks what a name is or has in it, or for it to be made. Each `cmd` has its own of these
/// keys, and does not look at the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRequest {
    /// Repeated in the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename_b64: Option<String>,
    /// Of a stat: the partial file of the name is meant, which a put that was cut has left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<bool>,
    /// Of a mkdir: the permission bits, less the server's umask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
    /// Of a mkdir and a symlink: directories that are missing on the way are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<bool>,
    /// Of a symlink: it may replace another symbolic link; where it is not there, it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
}

impl PathRequest {
    /// A request about `name`; empty, for a stat or a list, it is the root.
    pub fn new(name: &[u8]) -> PathRequest {
        let (filename, filename_b64) = text_of(name);
        PathRequest { filename, filename_b64, ..PathRequest::default() }
    }

    /// The same with what a symbolic link is to lead to.
    #[must_use]
    pub fn with_target(self, target: &[u8]) -> PathRequest {
        let (target, target_b64) = text_of(target);
        PathRequest { target, target_b64, ..self }
    }

    /// The request that `header` carries.
    pub fn read(header: &Header) -> Result<PathRequest> {
        header.read_as()
    }

    /// The name, whatever it is.
    pub fn name(&self) -> Result<Vec<u8>> {
        bytes_of(self.filename.as_deref(), self.filename_b64.as_deref(), "filename")
    }

    /// The target, whatever it is.
    pub fn target(&self) -> Result<Vec<u8>> {
        bytes_of(self.target.as_deref(), self.target_b64.as_deref(), "target")
    }
}

/// The reply to a mkdir, a symlink or, with the array of [`ListEntry`] as its body, a list.
#[derive(Clone, Debug, Serialize)]
pub struct DoneReply {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Id>,
}

impl DoneReply {
    /// The reply to the request with this id.
    pub fn new(id: Option<Id>) -> DoneReply {
        DoneReply { status: ok(), id }
    }
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Bytes of a regular file; of the others what their file system says.
    pub size: u64,
    /// Permission bits, those of 07777.
    pub mode: u32,
    /// Time of modification in milliseconds since 1970.
    pub mtime: i64,
}

/// The reply to a stat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatReply {
    /// `ok`; [`check_reply`](crate::wire::message::check_reply) knows the other one.
    #[serde(skip_deserializing, default = "ok")]
    pub status: &'static str,
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Bytes.
    pub size: u64,
    /// What it is; not of a partial file, which is always a regular one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Permission bits; not of a partial file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
    /// Time of modification in milliseconds since 1970; not of a partial file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// The digest, of a partial file alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

impl StatReply {
    /// What `stat` says.
    pub fn of(stat: &Stat, id: Option<Id>) -> StatReply {
        StatReply {
            status: ok(),
            id,
            size: stat.size,
            kind: Some(stat.kind),
            mode: Some(FileMode(stat.mode)),
            mtime: Some(stat.mtime),
            sha256: None,
        }
    }

    /// A partial file with this content.
    pub fn of_partial(size: u64, sha256: Digest, id: Option<Id>) -> StatReply {
        let sha256 = Some(sha256);
        StatReply { status: ok(), id, size, kind: None, mode: None, mtime: None, sha256 }
    }

    /// What the reply that `header` carries says of a file.
    pub fn read(header: &Header) -> Result<Stat> {
        match read_reply(header)? {
            StatReply { size, kind: Some(kind), mode: Some(mode), mtime: Some(mtime), .. } => {
                Ok(Stat { kind, size, mode: mode.0, mtime })
            }
            _ => Err(Error::new(ErrorKind::BadReply, "kind, mode or mtime is missing")),
        }
    }

    /// The size and the digest that it says a partial file has.
    pub fn read_partial(header: &Header) -> Result<(u64, Digest)> {
        let reply: StatReply = read_reply(header)?;
        match reply.sha256 {
            Some(sha256) => Ok((reply.size, sha256)),
            None => Err(Error::new(ErrorKind::BadReply, "sha256 is missing")),
        }
    }
}

/// What a directory has under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, one component. In a list from the other end it can be anything.
    pub name: Vec<u8>,
    /// What it is.
    pub stat: Stat,
    /// Where a symbolic link leads.
    pub target: Option<Vec<u8>>,
}

/// One of the objects in the array that is the body of the reply to a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_b64: Option<String>,
    kind: Kind,
    size: u64,
    mode: FileMode,
    mtime: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
}

impl From<&Entry> for ListEntry {
    fn from(entry: &Entry) -> ListEntry {
        let (name, name_b64) = text_of(&entry.name);
        let (target, target_b64) = entry.target.as_deref().map_or((None, None), text_of);
        let Stat { kind, size, mode, mtime } = entry.stat;
        ListEntry { name, name_b64, kind, size, mode: FileMode(mode), mtime, target, target_b64 }
    }
}

impl TryFrom<ListEntry> for Entry {
    type Error = Error;

    fn try_from(entry: ListEntry) -> Result<Entry> {
        let ListEntry { kind, size, mode, mtime, .. } = entry;
        let name = bytes_of(entry.name.as_deref(), entry.name_b64.as_deref(), "name")?;
        let target = match (entry.target, entry.target_b64) {
            (None, None) => None,
            (text, base64) => Some(bytes_of(text.as_deref(), base64.as_deref(), "target")?),
        };
        Ok(Entry { name, stat: Stat { kind, size, mode: mode.0, mtime }, target })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::header;
    use super::*;
    use crate::wire::message::{to_header, to_request};

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const STAT: Stat = Stat { kind: Kind::File, size: 3, mode: 0o644, mtime: -1 };

    #[test]
    fn a_request_has_what_its_command_needs() {
        let link = PathRequest::new(b"a").with_target(b"caf\xe9");
        let text = to_request("symlink", &link).unwrap();
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
        let done = to_header(&DoneReply::new(Some(Id::Number(7)))).unwrap();
        assert_eq!(done, r#"{"status":"ok","id":7}"#);
    }

    #[test]
    fn what_is_told_of_a_file_comes_back() {
        let text = to_header(&StatReply::of(&STAT, None)).unwrap();
        let expected = r#"{"status":"ok","size":3,"kind":"file","mode":"0644","mtime":-1}"#;
        assert_eq!(text, expected);
        assert_eq!(StatReply::read(&header(&text)).unwrap(), STAT);
        let sha256 = DIGEST.to_owned().try_into().unwrap();
        let text = to_header(&StatReply::of_partial(3, sha256, None)).unwrap();
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
            assert_eq!(serde_json::to_string(&ListEntry::from(&entry)).unwrap(), text);
            let read: ListEntry = serde_json::from_str(&text).unwrap();
            assert_eq!(Entry::try_from(read).unwrap(), entry);
        }
        for bad in [r#""mtime":0"#, r#""mtime":0,"name":"a","name_b64":"""#] {
            let text = format!(r#"{{"kind":"file","size":3,"mode":"0644",{bad}}}"#);
            let read: ListEntry = serde_json::from_str(&text).unwrap();
            assert!(Entry::try_from(read).is_err(), "{bad}");
        }
    }
}
