//! The one error type: what went wrong as a stable code, and the details in words.

use std::borrow::Cow;
use std::fmt;

/// Defines [`ErrorKind`] with its code and its line of text in one place.
macro_rules! error_kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// What went wrong. The numbers are the C interface's `FRAME_E...` codes:
        /// they never change and are never reused.
        ///
        /// Codes of -100 and below were reported by the other end in an error reply
        /// (docs/protocol.md, "Requests and replies"); all others are local findings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $name = $code),* }

        impl ErrorKind {
            /// Every kind there is.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$name),*];

            /// One line of text for people, NUL-terminated for C.
            pub const fn c_text(self) -> &'static std::ffi::CStr {
                match self { $(ErrorKind::$name => $text),* }
            }

            /// The kind with this number.
            pub const fn from_code(code: i32) -> Option<ErrorKind> {
                match code { $($code => Some(ErrorKind::$name),)* _ => None }
            }
        }
    };
}

error_kinds! {
    /// The other end closed the stream between two frames: a clean end.
    Closed = -1, c"the other end closed the connection";
    /// The stream ended inside a frame, a packet or a handshake.
    Truncated = -2, c"the stream ended in the middle of a message";
    /// The deadline passed before a first byte came or went, or what did is in a buffer: the
    /// stream is in step.
    TimedOut = -3, c"timed out";
    /// A length prefix that cannot be one: negative, zero for a header, or cut.
    BadLength = -4, c"the length prefix is not valid";
    /// A declared size is above the limit, or above what the format can carry.
    TooBig = -5, c"the message is larger than the limit";
    /// The header is not one UTF-8 JSON object.
    BadJson = -6, c"the header is not a JSON object";
    /// A header field has the wrong type or value, or is given twice.
    BadField = -7, c"a header field is not valid";
    /// The header has no such field.
    Missing = -8, c"the header has no such field";
    /// The other end's answer to the challenge is wrong.
    Auth = -9, c"authentication failed";
    /// The key, or the file it is in, cannot be used.
    Key = -10, c"the key cannot be used";
    /// The file name is not acceptable, or leads out of the root.
    Path = -11, c"the path is not acceptable";
    /// The target exists and must not be replaced.
    Exists = -12, c"the file exists";
    /// There is no such file.
    NotFound = -13, c"no such file";
    /// The disk or the quota is full.
    NoSpace = -14, c"no space left";
    /// The content does not match its checksum.
    Checksum = -15, c"the checksum does not match";
    /// The command could not be started.
    Spawn = -16, c"the command could not be started";
    /// A datagram was cut, or a table of a bounded size is full.
    Limit = -17, c"a limit was reached";
    /// An argument of the call is not valid.
    Argument = -18, c"invalid argument";
    /// The descriptor is not open, or of a kind the call cannot use.
    BadDescriptor = -19, c"the descriptor cannot be used";
    /// Memory could not be had.
    NoMemory = -20, c"out of memory";
    /// The object is not in a state that allows this call.
    State = -21, c"the call is not possible in this state";
    /// The object, or the partial file of a transfer, is in use by another.
    Busy = -22, c"in use by another";
    /// A system call failed; errno says why.
    Io = -23, c"a system call failed";
    /// Refused by a policy or by permissions.
    Denied = -24, c"not permitted";
    /// The request is of a kind that is not served here.
    Unsupported = -25, c"not supported";
    /// A callback of the caller's asked to stop.
    Canceled = -26, c"canceled by the caller";
    /// A reply that does not answer the request, or contradicts itself.
    BadReply = -27, c"the reply does not fit the request";
    /// A defect in this library: a panic was caught at the C boundary.
    Panic = -28, c"internal error in framefd";
    /// The deadline passed inside a message: the stream is no longer in step.
    Stalled = -29, c"timed out in the middle of a message";
    /// The connection cannot be used after an earlier failure, which the detail names.
    Broken = -30, c"the connection was broken by an earlier failure";
    /// The connection was aborted, by another thread or a signal handler.
    Aborted = -31, c"the connection was aborted";
    /// The object belongs to the parent process: after fork(2) the child cannot use it.
    Forked = -32, c"the object belongs to the parent process";

    /// Reply code `bad_request`.
    RemoteBadRequest = -100, c"the other end could not understand the request";
    /// Reply code `unsupported`.
    RemoteUnsupported = -101, c"the other end does not support the request";
    /// Reply code `denied`.
    RemoteDenied = -102, c"the other end refused the request";
    /// Reply code `not_found`.
    RemoteNotFound = -103, c"the other end has no such file";
    /// Reply code `exists`.
    RemoteExists = -104, c"the file exists on the other end";
    /// Reply code `too_big`.
    RemoteTooBig = -105, c"the request is larger than the other end's limit";
    /// Reply code `no_space`.
    RemoteNoSpace = -106, c"the other end has no space left";
    /// Reply code `timed_out`.
    RemoteTimedOut = -107, c"the other end timed out";
    /// Reply code `checksum`.
    RemoteChecksum = -108, c"the checksum did not match on the other end";
    /// Reply code `busy`.
    RemoteBusy = -109, c"the other end is busy";
    /// Reply code `spawn_failed`.
    RemoteSpawnFailed = -110, c"the other end could not start the command";
    /// Reply code `io`.
    RemoteIo = -111, c"a system call failed on the other end";
    /// An error reply whose code this version does not know.
    RemoteOther = -199, c"the other end reported an error";
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

    /// Whether the other end reported this in an error reply. The connection is then
    /// still in step.
    pub const fn is_remote(self) -> bool {
        self.code() <= ErrorKind::RemoteBadRequest.code()
    }
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the details in words and, for a failed system call, its errno.
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

    /// A failed system call, with the kind that its errno stands for.
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

    /// A failed system call whose kind the caller knows better than its errno tells.
    pub fn system_as(kind: ErrorKind, what: &str, errno: rustix::io::Errno) -> Error {
        let text = std::io::Error::from(errno);
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

    /// The details: what was expected, what came, the text of the errno.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The same error, its details led by what was being done.
    #[must_use]
    pub fn context(mut self, doing: &str) -> Error {
        self.detail = format!("{doing}: {}", self.detail).into();
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
    use super::*;

    #[test]
    fn every_code_is_negative_unique_and_found_again() {
        for kind in ErrorKind::ALL {
            assert!(kind.code() < 0);
            assert_eq!(ErrorKind::from_code(kind.code()), Some(*kind));
            assert!(!kind.text().is_empty());
        }
        let mut codes: Vec<i32> = ErrorKind::ALL.iter().map(|k| k.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn a_system_error_keeps_its_errno_and_says_what_failed() {
        let error = Error::system("write", rustix::io::Errno::NOSPC);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NoSpace, 28));
        assert!(error.to_string().contains("write: No space left on device"), "{error}");
    }
}
