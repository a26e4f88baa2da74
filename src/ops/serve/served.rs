//! What the host is told about each request when it is over.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::SocketAddrAny;

use crate::error::ErrorKind;
use crate::io::stream::address::{self, Credentials};
use crate::ops::exec;
use crate::ops::frame::{Client, Connection};
use crate::wire::message::exec::ExecReply;

/// Called once for each request when it is over, by the thread that has served it.
pub type ServedFunction = Arc<dyn Fn(&Served<'_>) + Send + Sync>;

/// A request that is over: it was served, refused or cut.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// Whose it was.
    pub client: Client<'a>,
    /// The text of its header.
    pub header: &'a str,
    /// Its `cmd`; empty if it had none.
    pub cmd: &'a str,
    /// What it asked for.
    pub what: What<'a>,
    /// The kind of the error that it ended with: that of the error reply, or of what has cut it.
    /// [`ErrorKind::Aborted`]: the server was stopped. [`ErrorKind::Closed`] and
    /// [`ErrorKind::Truncated`]: the client has gone.
    pub error: Option<ErrorKind>,
    /// The reply to a command that ran.
    pub command: Option<&'a ExecReply>,
    /// Bytes of the request behind its header that were received.
    pub bytes_in: u64,
    /// Bytes of its replies, with their headers. The last of them may not be written yet.
    pub bytes_out: u64,
    /// From its header to its end.
    pub time: Duration,
}

/// What a request asked for, beyond its `cmd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// Nothing that the library knows.
    Nothing,
    /// To run this shell code.
    Shell(&'a [u8]),
    /// To run this program with its arguments.
    Program(&'a [String]),
    /// A file of this name, which may be one that is refused.
    File(&'a [u8]),
}

/// What is kept of a connection while the host wants to be told about its requests.
pub(super) struct Audit {
    pub(super) address: String,
    pub(super) credentials: Option<Credentials>,
    /// The request that is not over.
    pub(super) open: Option<Box<Account>>,
}

/// A request that is not over.
pub(super) struct Account {
    pub(super) begun: Instant,
    pub(super) header: String,
    pub(super) cmd: String,
    pub(super) what: Noted,
    pub(super) command: Option<ExecReply>,
    /// Positions in the two streams.
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// A copy of what a request asks for.
#[derive(Debug, Default)]
pub(super) enum Noted {
    #[default]
    Nothing,
    Shell(Vec<u8>),
    Program(Vec<String>),
    File(Vec<u8>),
}

impl Noted {
    /// The command that a policy is asked about.
    pub(super) fn command(inquiry: &exec::Inquiry<'_>) -> Noted {
        match &inquiry.request.argv {
            Some(argv) => Noted::Program(argv.clone()),
            None => Noted::Shell(inquiry.command.to_vec()),
        }
    }

    pub(super) fn shown(&self) -> What<'_> {
        match self {
            Noted::Nothing => What::Nothing,
            Noted::Shell(code) => What::Shell(code),
            Noted::Program(argv) => What::Program(argv),
            Noted::File(name) => What::File(name),
        }
    }
}

impl Audit {
    /// For a connection that was just made. A socket that was reset tells no address any more, so
    /// accept(2) has.
    pub(super) fn new(connection: &Connection<'_>, from: Option<SocketAddrAny>) -> Audit {
        let known = from.and_then(|from| address::text_of(Some(from)).ok());
        let known = known.map(|text| String::from_utf8_lossy(&text).into_owned());
        let client = connection.client();
        let address = known.or_else(|| client.address()).unwrap_or_default();
        Audit { address, credentials: client.credentials(), open: None }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("address", &self.address).finish_non_exhaustive()
    }
}
