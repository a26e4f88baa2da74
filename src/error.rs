//! The one error type: a stable code, and the details in words.

use std::borrow::Cow;
use std::fmt;

/// Defines [`ErrorKind`]: what each kind means, its code, its name in C, its line of text.
///
/// This is the one place where a code is typed. The C header has its names, numbers and
/// meanings from here, and Python has them from the header (`make header`).
macro_rules! error_kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $code:literal, $c_name:ident, $text:literal;)*) => {
        /// The kind of an error. The numbers are the C interface's `FRAME_E...` codes: they
        /// never change and are never reused.
        ///
        /// Codes of -100 and below were reported by the peer in an error reply
        /// (docs/protocol.md, "Requests and replies"); all others are local findings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[doc = $doc])* $kind = $code),* }

        impl ErrorKind {
            /// Every kind, by falling number.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$kind),*];

            /// The name of its code in C, such as `FRAME_ETIMEDOUT`.
            pub const fn c_name(self) -> &'static str {
                match self { $(ErrorKind::$kind => stringify!($c_name)),* }
            }

            /// Its meaning, as in the documentation, line by line.
            pub const fn meaning(self) -> &'static str {
                match self { $(ErrorKind::$kind => concat!($($doc, "\n"),*)),* }
            }

            /// One line of text for people, NUL-terminated for C.
            pub const fn c_text(self) -> &'static std::ffi::CStr {
                match self { $(ErrorKind::$kind => $text),* }
            }

            /// The kind with this number.
            pub const fn from_code(code: i32) -> Option<ErrorKind> {
                match code { $($code => Some(ErrorKind::$kind),)* _ => None }
            }
        }
    };
}

error_kinds! {
    /// The peer closed the stream between two messages: a clean end.
    Closed = -1, FRAME_ECLOSED, c"the peer closed the connection";
    /// The stream ended inside a frame, a packet or a handshake.
    Truncated = -2, FRAME_ETRUNCATED, c"the stream ended in the middle of a message";
    /// Timed out before a byte was sent or received, or all received bytes are in a buffer. The
    /// stream is still usable: call again.
    TimedOut = -3, FRAME_ETIMEDOUT, c"timed out";
    /// Invalid length prefix: negative, zero for a header, or incomplete.
    BadLength = -4, FRAME_EBADLENGTH, c"the length prefix is not valid";
    /// A declared size is above the limit, or above the most that the format can carry.
    TooBig = -5, FRAME_ETOOBIG, c"larger than the limit";
    /// The header is not one UTF-8 JSON object.
    BadJson = -6, FRAME_EBADJSON, c"the header is not a JSON object";
    /// A header field has the wrong type or value, or is given twice.
    BadField = -7, FRAME_EBADFIELD, c"a header field is not valid";
    /// The header has no such field.
    Missing = -8, FRAME_EMISSING, c"the header has no such field";
    /// The peer's answer to the challenge is wrong: it does not have the key.
    Auth = -9, FRAME_EAUTH, c"authentication failed";
    /// The key, or the file it is in, cannot be used.
    Key = -10, FRAME_EKEY, c"the key cannot be used";
    /// The file name is not acceptable, or leads out of the root.
    Path = -11, FRAME_EPATH, c"the path is not acceptable";
    /// The target or the name exists, and must not be replaced.
    Exists = -12, FRAME_EEXIST, c"it exists already";
    /// There is no such file, or nothing else of the name that was asked for.
    NotFound = -13, FRAME_ENOENT, c"not found";
    /// The disk or the quota is full.
    NoSpace = -14, FRAME_ENOSPC, c"no space left";
    /// The content does not match its checksum.
    Checksum = -15, FRAME_ECHECKSUM, c"the checksum does not match";
    /// The command could not be started.
    Spawn = -16, FRAME_ESPAWN, c"the command could not be started";
    /// A datagram was cut, or a table of a bounded size is full.
    Limit = -17, FRAME_ELIMIT, c"a limit was reached";
    /// An argument, a member of the options or a flag is not valid; the detail names it.
    Argument = -18, FRAME_EINVAL, c"invalid argument";
    /// The descriptor is not open, or of a kind that the call cannot use.
    BadDescriptor = -19, FRAME_EBADF, c"the descriptor cannot be used";
    /// Out of memory.
    NoMemory = -20, FRAME_ENOMEM, c"out of memory";
    /// The object is not in a state that allows this call.
    State = -21, FRAME_ESTATE, c"the call is not possible in this state";
    /// Another thread or transfer is using the object or the partial file.
    Busy = -22, FRAME_EBUSY, c"in use by another";
    /// A system call failed; errno says why.
    Io = -23, FRAME_EIO, c"a system call failed";
    /// Refused by a policy or by permissions.
    Denied = -24, FRAME_EACCES, c"not permitted";
    /// The peer, or this kernel, does not support the request.
    Unsupported = -25, FRAME_ENOTSUP, c"not supported";
    /// A callback of the caller asked to stop.
    Canceled = -26, FRAME_ECANCELED, c"canceled by the caller";
    /// A reply does not answer the request, or contradicts itself.
    BadReply = -27, FRAME_EBADREPLY, c"the reply does not fit the request";
    /// A defect in this library: a panic was caught at the C boundary.
    Panic = -28, FRAME_EPANIC, c"internal error in framefd";
    /// Timed out inside a message: the stream can no longer be used.
    Stalled = -29, FRAME_ESTALLED, c"timed out in the middle of a message";
    /// The connection cannot be used after an earlier failure, which the detail names.
    Broken = -30, FRAME_EBROKEN, c"the connection was broken by an earlier failure";
    /// The connection was aborted, by another thread or a signal handler.
    Aborted = -31, FRAME_EABORTED, c"the connection was aborted";
    /// The object belongs to the parent process: after fork(2) the child cannot use it.
    Forked = -32, FRAME_EFORKED, c"the object belongs to the parent process";
    /// A part of a tree could not be transferred, and the rest was. The detail names the first.
    Incomplete = -33, FRAME_EINCOMPLETE, c"not all of the tree was transferred";

    /// Reply code `bad_request`: the peer could not understand the request.
    RemoteBadRequest = -100, FRAME_EREMOTE_BAD_REQUEST,
        c"the peer could not understand the request";
    /// Reply code `unsupported`: the peer does not support the request.
    RemoteUnsupported = -101, FRAME_EREMOTE_UNSUPPORTED, c"the peer does not support the request";
    /// Reply code `denied`: the peer refused the request.
    RemoteDenied = -102, FRAME_EREMOTE_DENIED, c"the peer refused the request";
    /// Reply code `not_found`: the peer has no such file, or nothing else of that name.
    RemoteNotFound = -103, FRAME_EREMOTE_NOT_FOUND, c"not found at the peer";
    /// Reply code `exists`: the file, or what else has that name, exists at the peer.
    RemoteExists = -104, FRAME_EREMOTE_EXISTS, c"it exists already at the peer";
    /// Reply code `too_big`: the request is above a limit of the peer.
    RemoteTooBig = -105, FRAME_EREMOTE_TOO_BIG, c"larger than the peer's limit";
    /// Reply code `no_space`: the peer's disk or quota is full.
    RemoteNoSpace = -106, FRAME_EREMOTE_NO_SPACE, c"the peer has no space left";
    /// Reply code `timed_out`: the request did not reach the peer in time.
    RemoteTimedOut = -107, FRAME_EREMOTE_TIMED_OUT, c"the peer timed out";
    /// Reply code `checksum`: the content that the peer received does not match its checksum.
    RemoteChecksum = -108, FRAME_EREMOTE_CHECKSUM, c"the checksum did not match at the peer";
    /// Reply code `busy`: try again later.
    RemoteBusy = -109, FRAME_EREMOTE_BUSY, c"the peer is busy";
    /// Reply code `spawn_failed`: the peer could not start the command.
    RemoteSpawnFailed = -110, FRAME_EREMOTE_SPAWN_FAILED, c"the peer could not start the command";
    /// Reply code `io`: the peer failed, such as in a system call.
    RemoteIo = -111, FRAME_EREMOTE_IO, c"the request failed at the peer";
    /// A reply code that this version does not know.
    RemoteOther = -199, FRAME_EREMOTE_OTHER, c"the peer reported an error";
}

impl ErrorKind {
    /// The stable number of this kind.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// One line of text for people.
    pub const fn text(self) -> &'static str {
        match self.c_text().to_str() {
            Ok(text) => text,
            Err(_) => "",
        }
    }

    /// Whether the peer reported this in an error reply. The connection is then still usable.
    pub const fn is_remote(self) -> bool {
        self.code() <= ErrorKind::RemoteBadRequest.code()
    }
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error: its kind, the details in words and, for a failed system call, its errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    errno: i32,
    detail: Cow<'static, str>,
}

impl Error {
    /// An error that is not a failed system call.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Error {
        Error { kind, errno: 0, detail: detail.into() }
    }

    /// A failed system call, with the kind for its errno.
    pub fn system(what: &str, errno: rustix::io::Errno) -> Error {
        use rustix::io::Errno;
        let kind = match errno {
            Errno::BADF | Errno::NOTSOCK => ErrorKind::BadDescriptor,
            Errno::NOSPC | Errno::DQUOT => ErrorKind::NoSpace,
            Errno::NOMEM => ErrorKind::NoMemory,
            _ => ErrorKind::Io,
        };
        Error::system_as(kind, what, errno)
    }

    /// A failed system call with another kind than that for its errno.
    pub fn system_as(kind: ErrorKind, what: &str, errno: rustix::io::Errno) -> Error {
        let text = std::io::Error::from(errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        Error { kind, errno: errno.raw_os_error(), detail: format!("{what}: {text}").into() }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno of the failed system call, or 0.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// The details, such as the expected value, the received one and the text of the errno.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The same error, with the action in front of its details.
    #[must_use]
    pub fn context(mut self, doing: &str) -> Error {
        let colon = if self.detail.is_empty() { "" } else { ": " };
        self.detail = format!("{doing}{colon}{}", self.detail).into();
        self
    }

    /// The same error, its details followed by those of another try that failed.
    #[must_use]
    pub fn and(mut self, other: &Error) -> Error {
        self.detail = format!("{}; {}", self.detail, other.detail).into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            f.write_str(self.kind.text())
        } else {
            write!(f, "{}: {}", self.kind.text(), self.detail)
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_negative_unique_sorted_and_found_again() {
        let mut above = 0;
        for kind in ErrorKind::ALL {
            assert!(kind.code() < above, "{kind:?} is not where its number belongs");
            above = kind.code();
            assert_eq!(ErrorKind::from_code(kind.code()), Some(*kind));
            assert!(!kind.text().is_empty() && !kind.meaning().is_empty());
            assert_eq!(kind.is_remote(), kind.c_name().starts_with("FRAME_EREMOTE_"), "{kind:?}");
        }
        let names: HashSet<&str> = ErrorKind::ALL.iter().map(|kind| kind.c_name()).collect();
        assert_eq!(names.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn a_system_error_keeps_its_errno_and_says_what_failed() {
        let error = Error::system("write", rustix::io::Errno::NOSPC);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NoSpace, 28));
        assert!(error.to_string().contains("write: No space left on device"), "{error}");
    }

    #[test]
    fn a_context_stands_before_the_details_or_alone() {
        let with = |detail: &str| Error::new(ErrorKind::Closed, detail.to_owned()).context("name");
        assert_eq!((with("why").detail(), with("").detail()), ("name: why", "name"));
    }
}
