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
use crate::wire::json::header::Header;
use crate::wire::message::exec::{ExecRequest, OnClose};

/// How a server runs a command. What a request asks for can only lower the limits.
#[derive(Clone)]
pub struct ServeOptions<'a> {
    /// What the command may use.
    pub limits: Limits,
    /// What becomes of it when the client goes away.
    pub on_close: OnClose,
    /// How long a command goes on after its client has closed its sending side, which may
    /// be a half-close.
    pub close_grace: Duration,
    /// How long the reply may wait for a client that does not read, and so may the output
    /// of a stream once its command has ended.
    pub reply_timeout: Duration,
    /// The command's variables, before those of the request.
    pub environment: Environment,
    /// Where it starts, and what a relative path in the request is relative to; `None` is
    /// the host's directory.
    pub directory: Option<PathBuf>,
    /// What may end a run whose client is not on a connection, which has its own. The run fails
    /// then, and the command is killed.
    pub interrupt: Option<&'a Interrupt>,
    /// What it may not do that the host may.
    pub confinement: Confinement,
    /// Asked before a client's command is run, once its request is found to be one that can
    /// be followed.
    pub policy: Option<Policy<'a>>,
}

/// Says whether a command is run. An error refuses it: the code that stands for its kind,
/// [`ErrorKind::Denied`](crate::ErrorKind::Denied) as a rule, and its details go to the client.
pub type Policy<'a> = &'a (dyn Fn(&Inquiry<'_>) -> Result<()> + Sync);

/// What a client wants to have run.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// Shell code; empty where `request` has an `argv`.
    pub command: &'a [u8],
    /// The options of the request.
    pub request: &'a ExecRequest,
    /// Its header, unless it came without one.
    pub header: Option<&'a Header>,
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
            reply_timeout: limits::REPLY_TIMEOUT,
            environment: Environment::default(),
            directory: None,
            interrupt: None,
            confinement: Confinement::default(),
            policy: None,
        }
    }
}
