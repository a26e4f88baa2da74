//! A failure: one line that says what went wrong and what to do, and an exit status.

use framefd::{Error, ErrorKind};

use crate::hosts::Target;

/// The exit status of a program that could not do what it was asked to.
pub const FAILED: u8 = 255;
/// A file that could not be transferred, or a command of several that failed.
pub const SOME: u8 = 1;
/// Nobody reads the output: as if SIGPIPE had ended the program.
pub const PIPE: u8 = 141;

/// Why the program ends, and how.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    /// Empty: nothing is to be said.
    pub line: String,
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(line: impl Into<String>) -> Failure {
        Failure { status: FAILED, line: line.into() }
    }

    /// Something of the library's, said of `what`.
    pub fn of(what: &str, error: &Error) -> Failure {
        Failure::new(format!("{what}: {}", text_of(error)))
    }

    /// The same failure with another status.
    pub fn with_status(self, status: u8) -> Failure {
        Failure { status, ..self }
    }

    /// A signal has ended the work.
    pub fn by_signal(number: i32, line: &str) -> Failure {
        Failure { status: 128 + u8::try_from(number).unwrap_or(0), line: line.to_owned() }
    }

    /// A host that could not be connected to.
    pub fn to_connect(target: &Target, error: &Error) -> Failure {
        let advice = match (error.kind(), error.errno()) {
            (_, CONNECTION_REFUSED) => {
                "nothing listens there: is the server running, and is the port right?"
            }
            (ErrorKind::TimedOut, _) => "is the host up, and is the port right?",
            (ErrorKind::NotFound, NO_FILE) => "is the server running, and is the path right?",
            (ErrorKind::NotFound, _) => "is the name right?",
            (ErrorKind::Argument, _) if !target.is_known => {
                let (host, file) = (&target.shown, &target.hosts);
                let why = error.detail();
                let line = format!("{host}: not in {file}, and no address like host:port ({why})");
                return Failure::new(line);
            }
            _ => "",
        };
        Failure::advised(target, error, advice)
    }

    /// A host whose handshake failed.
    pub fn to_prove(target: &Target, error: &Error) -> Failure {
        let advice = match (error.kind(), target.plain) {
            (ErrorKind::Closed | ErrorKind::Truncated, false) => {
                let line = "the server refused the handshake: does it have this key (-k), under \
                            this id (--id), and this name (--name)?";
                return Failure::new(format!("{}: {line}", target.shown));
            }
            (ErrorKind::Auth | ErrorKind::TimedOut, false) => "if it does not, give --plain",
            (ErrorKind::TimedOut, true) => {
                "if it is sealed, leave out --plain; if it has no key, leave out -k"
            }
            _ => "",
        };
        Failure::advised(target, error, advice)
    }

    /// A request that failed.
    pub fn to_ask(target: &Target, error: &Error, is_first: bool) -> Failure {
        let advice = match error.kind() {
            ErrorKind::Closed
            | ErrorKind::Truncated
            | ErrorKind::BadLength
            | ErrorKind::BadJson
            | ErrorKind::TooBig
                if is_first && target.plain =>
            {
                match target.key {
                    Some(_) => "is the key (-k) right? If the server is sealed, leave out --plain",
                    None => "does the server want a key (-k)? If it is sealed, leave out --plain",
                }
            }
            ErrorKind::Closed | ErrorKind::Truncated => "the connection is lost: try again",
            ErrorKind::RemoteUnsupported => "this server does not do that",
            ErrorKind::RemoteBusy => "try again later",
            ErrorKind::RemoteSpawnFailed if error.detail().starts_with("working directory") => {
                "is the directory there (--cwd)?"
            }
            ErrorKind::RemoteSpawnFailed => "is the program there, and may it be run?",
            _ => "",
        };
        Failure::advised(target, error, advice)
    }

    fn advised(target: &Target, error: &Error, advice: &str) -> Failure {
        let semicolon = if advice.is_empty() { "" } else { "; " };
        Failure::new(format!("{}: {}{semicolon}{advice}", target.shown, text_of(error)))
    }
}

/// The words of an error. The details of a failed system call say enough.
pub fn text_of(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Io if !error.detail().is_empty() => error.detail().to_owned(),
        _ => error.to_string(),
    }
}

const CONNECTION_REFUSED: i32 = rustix::io::Errno::CONNREFUSED.raw_os_error();
const NO_FILE: i32 = rustix::io::Errno::NOENT.raw_os_error();
