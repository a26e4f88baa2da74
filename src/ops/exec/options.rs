//! How a server runs commands.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::command::Limits;
use crate::error::Result;
use crate::io::process::environment::Environment;
use crate::io::process::spawn::Confinement;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::frame::Client;
use crate::wire::json::header::Header;
use crate::wire::message::exec::{ExecRequest, OnClose};

/// How a server runs a command. A request can only lower the limits.
#[derive(Clone)]
pub struct ServeOptions<'a> {
    /// Limits of a command.
    pub limits: Limits,
    /// What to do when the client disconnects.
    pub on_close: OnClose,
    /// How long a command runs on after its client has closed its sending direction, which may
    /// be a half-close.
    pub close_grace: Duration,
    /// How long a client may go without sending a byte of its request or reading one of its reply;
    /// by default [`limits::REPLY_TIMEOUT`]. On average it must let
    /// [`limits::LEAST_RATE`] bytes pass in a second. It applies also to the output of a stream
    /// once its command has ended; by default, a client may read that as slowly as before the
    /// end: as long as the command might have run.
    pub reply_timeout: Option<Duration>,
    /// The command's variables, before those of the request.
    pub environment: Environment,
    /// Its working directory, which relative paths of the request are relative to; `None` is the
    /// host's.
    pub directory: Option<PathBuf>,
    /// May end a run without a connection, which has its own. The run fails then, and the
    /// command is killed.
    pub interrupt: Option<&'a Interrupt>,
    /// Its limits beyond the host's.
    pub confinement: Confinement,
    /// The supplementary groups of its user, if the confinement names one.
    pub groups: Vec<u32>,
    /// Called for each valid request before its command is run.
    pub policy: Option<Policy<'a>>,
}

/// Decides whether a command is run, and may choose how. An error refuses it, usually
/// [`ErrorKind::Denied`](crate::ErrorKind::Denied): the client receives its reply code and its
/// details.
pub type Policy<'a> = &'a (dyn Fn(&Inquiry<'_>, &mut Choice) -> Result<()> + Sync);

/// How one command is run: as the options say, unless the policy changes it. The request's own
/// wishes are looked at after that: it can lower a limit, its directory is relative to the one
/// here, and its variables come after those here.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Limits. That of the command's length has been checked by now.
    pub limits: Limits,
    /// Its variables.
    pub environment: Environment,
    /// Its working directory.
    pub directory: Option<PathBuf>,
    /// Its user, its umask and its limits beyond the host's.
    pub confinement: Confinement,
    /// The supplementary groups of that user.
    pub groups: Vec<u32>,
    /// Shell code that is run in place of what was asked for.
    pub command: Option<Vec<u8>>,
}

/// A client's request, as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// Shell code; empty if `request` has an `argv`.
    pub command: &'a [u8],
    /// The options of the request.
    pub request: &'a ExecRequest,
    /// Its header, unless it has none.
    pub header: Option<&'a Header>,
    /// Whose it is. Nothing is known of the sender of a datagram, nor without a connection.
    pub client: Client<'a>,
}

impl ServeOptions<'_> {
    /// What a policy is asked to change.
    pub(super) fn choice(&self) -> Choice {
        Choice {
            limits: self.limits,
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            confinement: self.confinement,
            groups: self.groups.clone(),
            command: None,
        }
    }

    /// The most time without a byte of a request or a reply.
    pub(super) fn stall(&self) -> Duration {
        self.reply_timeout.unwrap_or(limits::REPLY_TIMEOUT)
    }
}

impl fmt::Debug for ServeOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("limits", &self.limits)
            .field("on_close", &self.on_close)
            .finish_non_exhaustive()
    }
}

impl Default for ServeOptions<'_> {
    fn default() -> Self {
        ServeOptions {
            limits: Limits::default(),
            on_close: OnClose::default(),
            close_grace: limits::CLOSE_GRACE,
            reply_timeout: None,
            environment: Environment::default(),
            directory: None,
            interrupt: None,
            confinement: Confinement::default(),
            groups: Vec::new(),
            policy: None,
        }
    }
}
