//! A failure: one line that says what went wrong and what to do, and an exit status.

use std::ffi::OsStr;

use framefd::{Error, ErrorKind};
use rustix::io::Errno;

use crate::hosts::Target;
use crate::output::shown;

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
        let advice = match (error.kind(), errno_of(error)) {
            (_, Some(Errno::CONNREFUSED)) => {
                "nothing listens there: is the server running, and is the port right?"
            }
            (_, Some(Errno::HOSTUNREACH | Errno::NETUNREACH)) => "is the network up?",
            (_, Some(Errno::ACCESS | Errno::PERM)) => "may this user connect to it?",
            (_, Some(Errno::MFILE | Errno::NFILE)) => {
                "fewer hosts at a time (--at-once), or more descriptors (ulimit -n)"
            }
            (ErrorKind::TimedOut, _) | (_, Some(Errno::TIMEDOUT)) => {
                "is the host up, and is the port right?"
            }
            (ErrorKind::NotFound, Some(Errno::NOENT)) => {
                "is the server running, and is the path right?"
            }
            (ErrorKind::NotFound, _) if error.detail().ends_with("Try again") => {
                "is a name server there (/etc/resolv.conf)?"
            }
            (ErrorKind::NotFound, _) => "is the name right?",
            (ErrorKind::Argument, _) if !target.is_known => {
                let (host, file) = (&target.shown, &target.hosts);
                let why = error.detail();
                let line = format!("{host}: not in {file}, and no address like host:port ({why})");
                return Failure::new(line);
            }
            _ => "",
        };
        Failure::advised(&target.shown, error, advice)
    }

    /// An address that cannot be listened on.
    pub fn to_listen(address: &OsStr, error: &Error) -> Failure {
        let advice = match (error.kind(), errno_of(error)) {
            (_, Some(Errno::ADDRINUSE)) => "is another program listening there?",
            (ErrorKind::Exists, _) => "choose another path",
            (_, Some(Errno::ADDRNOTAVAIL)) => "has this machine that address?",
            (_, Some(Errno::ACCESS | Errno::PERM)) => "may this user listen there?",
            (ErrorKind::Argument, _) => "write host:port, [::1]:port, unix:/path or vsock:cid:port",
            (ErrorKind::NotFound, Some(Errno::NOENT)) => "is its directory there?",
            (ErrorKind::NotFound, _) => "is the name right?",
            _ => "",
        };
        Failure::advised(&shown(address), error, advice)
    }

    /// A host whose handshake failed.
    pub fn to_prove(target: &Target, error: &Error) -> Failure {
        let advice = match (error.kind(), target.plain) {
            (ErrorKind::Closed | ErrorKind::Truncated, false) => {
                let line = "the server refused the handshake: does it have this key (-k), under \
                            this id (--id), and this name (--name)?";
                return Failure::new(format!("{}: {line}", target.shown));
            }
            (ErrorKind::Auth, false) => "If not, give --plain. Or is the port another server's?",
            (ErrorKind::TimedOut, false) => {
                "If not, give --plain. Or is the server busy, or the port another one's?"
            }
            (ErrorKind::TimedOut, true) => {
                "If it is sealed, leave out --plain; if it has no key, leave out -k. Or is the \
                 server busy, or the port another one's?"
            }
            _ => "",
        };
        Failure::advised(&target.shown, error, advice)
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
                    Some(_) => {
                        "is the key (-k) right? If the server is sealed, leave out --plain. Or is \
                         the port another server's?"
                    }
                    None => {
                        "does the server want a key (-k)? If it is sealed, leave out --plain. Or \
                         is the port another server's?"
                    }
                }
            }
            ErrorKind::Closed | ErrorKind::Truncated => LOST,
            ErrorKind::Io if is_lost(error) => LOST,
            ErrorKind::RemoteUnsupported => {
                "the server has to serve commands (framefd serve --exec), and be no older than this"
            }
            ErrorKind::RemoteDenied => "this key may not do that there",
            ErrorKind::RemoteBadRequest => TOO_OLD,
            ErrorKind::RemoteBusy => "try again later",
            ErrorKind::RemoteSpawnFailed if error.detail().starts_with("working directory") => {
                "is the directory there (--cwd)?"
            }
            ErrorKind::RemoteSpawnFailed if error.detail().starts_with("terminal") => {
                "the host has no terminals: is /dev/pts mounted there?"
            }
            ErrorKind::RemoteSpawnFailed => "is the program there, and may it be run?",
            _ => "",
        };
        Failure::advised(&target.shown, error, advice)
    }

    /// A request about a file that failed, or the file on this side; `again` is how it goes on.
    pub fn of_file(
        place: &str,
        verb: &str,
        again: &str,
        target: &Target,
        error: &Error,
    ) -> Failure {
        use ErrorKind as E;
        let detail = error.detail();
        let (is_there, is_put) = (detail.contains("is a directory"), verb == "put");
        let is_above = detail.contains("the directory of");
        let advice = match error.kind() {
            E::RemoteDenied if is_there && verb == "get" => "give -r",
            E::RemoteDenied if is_there && is_put => "end its name with a slash to put it in there",
            E::RemoteDenied if detail.contains("path is not acceptable") => {
                "names are below the server's root, and links are not followed"
            }
            // The rights of a server's: to read, to create, to replace.
            E::RemoteDenied if detail.contains("reading is off here") => {
                "the server has to allow it (framefd serve --root)"
            }
            E::RemoteDenied if detail.contains("is off here") => {
                "the server has to allow it (framefd serve --writable)"
            }
            E::RemoteDenied => "has the server's user, and this key, the right to do that?",
            E::RemoteNotFound if is_put && is_above => {
                "make the directory above it first (framefd mkdir -p), or give --parents"
            }
            E::RemoteNotFound if !matches!(verb, "get" | "ls" | "stat") && is_above => {
                "make the directory above it first (framefd mkdir -p)"
            }
            E::RemoteNotFound => "is the name right? It begins at the server's root",
            E::RemoteExists => "choose another name, or remove what is there",
            E::RemoteUnsupported => {
                "the server has to serve files (framefd serve --root), and be no older than this"
            }
            E::RemoteBadRequest => TOO_OLD,
            E::RemoteBusy if detail.contains("too many") => "try again later",
            E::RemoteBusy => "another transfer writes it: try again later",
            E::RemoteNoSpace => &format!("make room there, and {again}"),
            E::NoSpace => &format!("make room here, and {again}"),
            E::Truncated | E::Stalled => again,
            E::Incomplete => "the others were transferred; run it again once that is mended",
            E::Denied => "check the permissions here",
            E::NotFound => "is the directory here?",
            E::Path | E::Exists | E::Checksum | E::Io | E::Argument => "",
            kind if kind.is_remote() => "",
            _ => return Failure::to_ask(target, error, true),
        };
        Failure::advised(place, error, advice).with_status(SOME)
    }

    fn advised(place: &str, error: &Error, advice: &str) -> Failure {
        let text = text_of(error);
        let mark = match (advice.is_empty(), text.ends_with('?')) {
            (true, _) => "",
            (_, true) => " ",
            (_, false) => "; ",
        };
        Failure::new(format!("{place}: {text}{mark}{advice}"))
    }
}

/// The words of an error. The details of a failed system call say enough.
pub fn text_of(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Io if !error.detail().is_empty() => error.detail().to_owned(),
        _ => error.to_string(),
    }
}

/// The number of a system call's error.
pub fn errno_of(error: &Error) -> Option<Errno> {
    (error.errno() > 0).then(|| Errno::from_raw_os_error(error.errno()))
}

fn is_lost(error: &Error) -> bool {
    matches!(errno_of(error), Some(Errno::CONNRESET | Errno::PIPE | Errno::TIMEDOUT))
}

const LOST: &str = "the connection is lost: try again";
const TOO_OLD: &str = "is the server older than this program?";
