//! Typed requests and replies, as in section "Requests and replies" of docs/protocol.md.

pub mod exec;
pub mod file;

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::header::{Header, keys_to_send};
pub use crate::wire::json::id::Id;
use crate::wire::json::id::MAX_TEXT;
use crate::wire::json::reader::{self, Fields, required};
use crate::wire::json::writer::Writer;

/// The fields of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The kind of request.
    pub cmd: String,
    /// Repeated in the replies.
    pub id: Option<Id>,
}

impl Message for Request {
    fn of(fields: &Fields<'_>) -> Result<Request> {
        let cmd = fields.text("cmd")?.ok_or_else(|| required("cmd"))?;
        Ok(Request { cmd, id: fields.id()? })
    }
}

/// A reply that reports failure; its body is empty.
#[derive(Debug)]
pub struct ErrorReply<'a> {
    code: &'static str,
    message: &'a str,
    id: Option<&'a Id>,
}

impl<'a> ErrorReply<'a> {
    /// The reply that reports a failure of `kind`, with `message` for people. A message above 1
    /// KiB is cut: it may quote the request, and must fit the reply's header.
    pub fn new(kind: ErrorKind, message: &'a str, id: Option<&'a Id>) -> ErrorReply<'a> {
        let rest = message.strip_prefix(kind.text()).and_then(|rest| rest.strip_prefix(": "));
        let message = rest.filter(|_| SAID_BY_THE_CODE.contains(&kind)).unwrap_or(message);
        let mut end = message.len().min(MAX_TEXT);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        ErrorReply { code: reply_code(kind), message: &message[..end], id }
    }

    /// Adds its keys to a header.
    pub fn write(&self, header: &mut Writer) {
        header.text("status", Some("error"));
        header.text("code", Some(self.code));
        header.text("message", Some(self.message));
        header.id(self.id);
    }

    /// The header of its frame.
    pub fn header(&self) -> String {
        written(&|header| self.write(header))
    }
}

/// The id of a request that may be invalid otherwise.
pub fn id_of(request: &Header) -> Option<Id> {
    id_in(request.text())
}

/// The header of a request for `cmd`, with the keys that `write` adds.
pub fn request(cmd: &str, write: &dyn Fn(&mut Writer)) -> String {
    written(&|header| {
        header.text("cmd", Some(cmd));
        write(header);
    })
}

/// A header with the keys that `write` adds.
pub fn written(write: &dyn Fn(&mut Writer)) -> String {
    let mut header = Writer::default();
    write(&mut header);
    header.finish()
}

/// A message that is read from the keys of its header.
pub trait Message: Sized {
    /// Reads it; [`ErrorKind::BadField`] if a key is missing or wrong.
    fn of(fields: &Fields<'_>) -> Result<Self>;
}

/// Reads the message in a header.
pub fn read<T: Message>(header: &Header) -> Result<T> {
    T::of(&header.fields()?)
}

/// Reads a reply; [`ErrorKind::BadReply`] if a key is missing or wrong.
pub fn read_reply<T: Message>(reply: &Header) -> Result<T> {
    as_reply(reply.fields().and_then(|fields| T::of(&fields)))
}

/// Adds this id to the text of a header. A header that already has an id is refused.
pub fn with_id(header: &str, id: &Id) -> Result<String> {
    let keys = keys_to_send(header)?;
    if Fields::parse(header)?.has("id") {
        return Err(Error::new(ErrorKind::Argument, "the id is the library's to choose"));
    }
    let mut with_id = written(&|header| header.id(Some(id)));
    append_keys(&mut with_id, keys);
    Ok(with_id)
}

/// The header of the reply to a request: `"status":"ok"`, the request's id, and other keys. It is
/// written without a copy, and needs no check.
#[derive(Debug)]
pub struct OkReply<'a> {
    id: Option<Cow<'a, str>>,
    /// The others, and the brace that closes the header.
    keys: &'a str,
}

impl<'a> OkReply<'a> {
    /// The reply to `request`, the text of a request's header, with the members of `header`, which
    /// must have none of the library's keys.
    pub fn new(request: &'a str, header: Option<&'a str>) -> Result<OkReply<'a>> {
        OkReply::with(reader::id_to_repeat(request), header)
    }

    /// The same to a request that was received.
    pub fn to(request: &'a Header, header: Option<&'a str>) -> Result<OkReply<'a>> {
        OkReply::with(request.id_to_repeat(), header)
    }

    fn with(id: Option<Cow<'a, str>>, header: Option<&'a str>) -> Result<OkReply<'a>> {
        let Some(header) = header else { return Ok(OkReply { id, keys: "}" }) };
        let keys = keys_to_send(header)?;
        let fields = Fields::parse(header)?;
        if let Some(own) = ["status", "id"].into_iter().find(|key| fields.has(key)) {
            let detail = format!("{own:?} is written by the library");
            return Err(Error::new(ErrorKind::BadField, detail));
        }
        Ok(OkReply { id, keys })
    }

    /// The text behind the brace that opens it, in pieces.
    #[inline]
    pub fn pieces(&self) -> [&str; 4] {
        let has_more = !self.keys.starts_with('}');
        match &self.id {
            None if has_more => [r#""status":"ok","#, self.keys, "", ""],
            None => [r#""status":"ok"}"#, "", "", ""],
            Some(id) if has_more => [r#""status":"ok","id":"#, id, ",", self.keys],
            Some(id) => [r#""status":"ok","id":"#, id, "}", ""],
        }
    }

    /// Its text.
    #[cold]
    pub fn text(&self) -> String {
        let mut text = String::from("{");
        for piece in self.pieces() {
            text.push_str(piece);
        }
        text
    }
}

/// The id in the text of a request's header.
pub fn id_in(request: &str) -> Option<Id> {
    reader::id(request)
}

/// Adds keys and the closing brace to an object that has some keys.
fn append_keys(object: &mut String, keys: &str) {
    if !keys.starts_with('}') {
        object.pop();
        object.push(',');
        object.push_str(keys);
    }
}

/// Reads a message from a reply: any mistake in it is [`ErrorKind::BadReply`].
fn as_reply<T>(read: Result<T>) -> Result<T> {
    read.map_err(|error| Error::new(ErrorKind::BadReply, error.detail().to_owned()))
}

/// The kind of reply that a request must have: what is no error is not a reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// With `"status":"ok"`.
    Ok,
    /// Of a command: with an `exit_code`. See [`is_of_oldest`](exec::is_of_oldest).
    Exec,
}

impl ReplyKind {
    /// Whether a reply is of this kind; `is_old`: the peer repeats no ids.
    pub fn is_of(self, reply: &Fields<'_>, is_old: bool) -> Result<bool> {
        let status = as_reply(reply.text("status"))?;
        Ok(match (self, status.as_deref()) {
            (_, Some(status)) if status != "ok" => false,
            (ReplyKind::Ok, status) => status.is_some(),
            (ReplyKind::Exec, _) => reply.has("exit_code") || (is_old && exec::is_of_oldest(reply)),
        })
    }

    /// What a reply of another kind does not have.
    pub fn missing(self) -> &'static str {
        match self {
            ReplyKind::Ok => "it has no \"status\":\"ok\"",
            ReplyKind::Exec => "it is no reply to a command",
        }
    }
}

/// Passes a reply on, or turns an error reply into its error.
pub fn check_reply(fields: &Fields<'_>) -> Result<()> {
    as_reply(fields.text("status")).and_then(|status| match status.as_deref() {
        Some("error") => Err(refusal(fields)?),
        _ => Ok(()),
    })
}

fn refusal(fields: &Fields<'_>) -> Result<Error> {
    let code = as_reply(fields.text("code"))?.unwrap_or_default();
    let kind = REPLY_CODES
        .iter()
        .find(|(text, _)| *text == code)
        .map_or(ErrorKind::RemoteOther, |(_, kind)| *kind);
    let message = as_reply(fields.text("message"))?.unwrap_or_default();
    if SAID_BY_THE_CODE.iter().any(|kind| kind.text() == message) {
        return Ok(Error::new(kind, ""));
    }
    Ok(Error::new(kind, crate::wire::json::escape(message.as_bytes())))
}

const REPLY_CODES: [(&str, ErrorKind); 13] = [
    ("bad_request", ErrorKind::RemoteBadRequest),
    ("unsupported", ErrorKind::RemoteUnsupported),
    ("denied", ErrorKind::RemoteDenied),
    ("not_found", ErrorKind::RemoteNotFound),
    ("exists", ErrorKind::RemoteExists),
    ("too_big", ErrorKind::RemoteTooBig),
    ("no_space", ErrorKind::RemoteNoSpace),
    ("timed_out", ErrorKind::RemoteTimedOut),
    ("checksum", ErrorKind::RemoteChecksum),
    ("busy", ErrorKind::RemoteBusy),
    ("spawn_failed", ErrorKind::RemoteSpawnFailed),
    ("io", ErrorKind::RemoteIo),
    ("other", ErrorKind::RemoteOther),
];

/// Kinds whose reply code means the same: the message need not say it again.
const SAID_BY_THE_CODE: [ErrorKind; 9] = [
    ErrorKind::NotFound,
    ErrorKind::Exists,
    ErrorKind::TooBig,
    ErrorKind::NoSpace,
    ErrorKind::TimedOut,
    ErrorKind::Checksum,
    ErrorKind::Denied,
    ErrorKind::Spawn,
    ErrorKind::Unsupported,
];

/// The reply code for `kind`.
fn reply_code(kind: ErrorKind) -> &'static str {
    let remote = match kind {
        ErrorKind::BadLength
        | ErrorKind::BadJson
        | ErrorKind::BadField
        | ErrorKind::Missing
        | ErrorKind::Truncated
        | ErrorKind::Argument => ErrorKind::RemoteBadRequest,
        ErrorKind::Unsupported => ErrorKind::RemoteUnsupported,
        ErrorKind::Denied | ErrorKind::Path | ErrorKind::Auth => ErrorKind::RemoteDenied,
        ErrorKind::NotFound => ErrorKind::RemoteNotFound,
        ErrorKind::Exists => ErrorKind::RemoteExists,
        ErrorKind::TooBig => ErrorKind::RemoteTooBig,
        ErrorKind::NoSpace => ErrorKind::RemoteNoSpace,
        ErrorKind::TimedOut | ErrorKind::Stalled => ErrorKind::RemoteTimedOut,
        ErrorKind::Checksum => ErrorKind::RemoteChecksum,
        ErrorKind::Busy | ErrorKind::Limit => ErrorKind::RemoteBusy,
        ErrorKind::Spawn => ErrorKind::RemoteSpawnFailed,
        passed_on if passed_on.is_remote() => passed_on,
        _ => ErrorKind::RemoteIo,
    };
    REPLY_CODES.iter().find(|(_, kind)| *kind == remote).map_or("io", |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Header {
        Header::parse(text.as_bytes().to_vec(), 32).unwrap()
    }

    #[test]
    fn an_error_reply_comes_back_as_its_remote_kind() {
        let kinds = [
            (ErrorKind::Path, ErrorKind::RemoteDenied),
            (ErrorKind::NotFound, ErrorKind::RemoteNotFound),
            (ErrorKind::Spawn, ErrorKind::RemoteSpawnFailed),
            (ErrorKind::BadField, ErrorKind::RemoteBadRequest),
            (ErrorKind::Panic, ErrorKind::RemoteIo),
            (ErrorKind::RemoteBusy, ErrorKind::RemoteBusy),
            (ErrorKind::RemoteOther, ErrorKind::RemoteOther),
        ];
        let id = Id::Text("7".into());
        for (local, remote) in kinds {
            let text = ErrorReply::new(local, "why \"so\"", Some(&id)).header();
            let error = check_reply(&reply(&text).fields().unwrap()).unwrap_err();
            assert_eq!((error.kind(), error.detail()), (remote, "why \"so\""));
            assert!(error.kind().is_remote());
            assert_eq!(reply(&text).string("id").unwrap(), "7");
        }
    }

    #[test]
    fn a_message_does_not_repeat_what_its_code_says() {
        let error = |kind: ErrorKind, detail: &str| {
            let text = Error::new(kind, detail.to_owned()).to_string();
            let text = ErrorReply::new(kind, &text, None).header();
            check_reply(&reply(&text).fields().unwrap()).unwrap_err().to_string()
        };
        assert_eq!(error(ErrorKind::NotFound, "open \"a\""), "not found at the peer: open \"a\"");
        assert_eq!(error(ErrorKind::NotFound, ""), "not found at the peer");
        assert_eq!(error(ErrorKind::TooBig, "5 bytes"), "larger than the peer's limit: 5 bytes");
        assert!(error(ErrorKind::Path, "a/..").ends_with(": the path is not acceptable: a/.."));
    }

    #[test]
    fn an_unknown_code_is_an_error_all_the_same() {
        for text in [r#"{"status":"error","code":"new"}"#, r#"{"status":"error"}"#] {
            assert_eq!(
                check_reply(&reply(text).fields().unwrap()).unwrap_err().kind(),
                ErrorKind::RemoteOther
            );
        }
        for text in [r#"{"status":"ok"}"#, "{}"] {
            assert!(check_reply(&reply(text).fields().unwrap()).is_ok());
        }
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        for (long, cut) in
            [("x".repeat(2000), 1024), ("ü".repeat(2000), 1024), ("あ".repeat(400), 1023)]
        {
            let reply = ErrorReply::new(ErrorKind::BadField, &long, None);
            assert_eq!(reply.message, &long[..cut]);
        }
    }

    #[test]
    fn an_id_is_a_short_string_or_an_integer() {
        let parse = |text: &str| read::<Request>(&reply(text));
        assert_eq!(parse(r#"{"cmd":"x","id":3}"#).unwrap().id, Some(Id::Number(3)));
        let text = "x".repeat(1024);
        assert_eq!(
            parse(&format!(r#"{{"cmd":"x","id":"{text}"}}"#)).unwrap().id,
            Some(Id::Text(text.clone()))
        );
        for bad in ["1.5", "[]", "{}", "true", &format!("\"{text}x\"")] {
            let error = parse(&format!(r#"{{"cmd":"x","id":{bad}}}"#)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadField);
        }
    }
}
