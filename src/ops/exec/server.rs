//! Runs what a client asks for, and replies.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::client::Reply;
use super::presence::{Client, ClientState};
use super::report::report;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Patience};
use crate::io::environment::Environment;
use crate::io::spawn::{Confinement, Directory};
use crate::limits;
use crate::ops::frame::{self, Body};
use crate::ops::run::{self, Collector, Command, Events, Flow, Limits, Program, Stdio, Stream};
use crate::ops::{Duplex, reply};
use crate::wire::header::Header;
use crate::wire::message::exec::{ExecReply, ExecRequest, OnClose};
use crate::wire::message::{self, Id};

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
    /// How long the reply may wait for a client that does not read.
    pub reply_timeout: Duration,
    /// The command's variables, before those of the request.
    pub environment: Environment,
    /// Where it starts, and what a relative path in the request is relative to; `None` is
    /// the host's directory.
    pub directory: Option<PathBuf>,
    /// What it may not do that the host may.
    pub confinement: Confinement,
    /// Asked before a client's command is run, once its request is found to be one that can
    /// be followed.
    pub policy: Option<Policy<'a>>,
}

/// Says whether a command is run. An error refuses it: the code that stands for its kind,
/// [`ErrorKind::Denied`] as a rule, and its details go to the client.
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
            confinement: Confinement::default(),
            policy: None,
        }
    }
}

/// What a server told its client; in each case the stream is in step.
#[derive(Debug)]
pub enum Served {
    /// The command ran.
    Ran(Report),
    /// It could not be started.
    SpawnFailed(Error),
    /// The request was refused.
    Refused(Error),
}

impl Served {
    /// What is reported of a command that did not run because of `error`.
    pub(crate) fn failed(error: Error) -> Served {
        match error.kind() {
            ErrorKind::Spawn => Served::SpawnFailed(error),
            _ => Served::Refused(error),
        }
    }
}

/// How a command that a client asked for went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The reply's header.
    pub reply: ExecReply,
    /// The client went away meanwhile, or only closed its sending side.
    pub client_gone: bool,
}

/// Runs `command` through `/bin/sh -c` and sends one reply.
pub fn run_and_reply(
    duplex: Duplex<'_>,
    command: &[u8],
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let request = ExecRequest::default();
    if let Err(error) = admit(&request, command, None, options) {
        return refuse(duplex, None, error, options);
    }
    execute(duplex, request, command, options)
}

/// Serves a received exec request: runs what it asks for and sends one reply. Where the
/// body of a refused request does not come whole, the reply is sent all the same, and an
/// error returned.
pub fn serve(
    duplex: Duplex<'_>,
    request: &Header,
    mut body: Body<'_, '_>,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let refused = |body: &mut Body<'_, '_>, error: Error| {
        let skipped = body.skip(options.reply_timeout);
        let refused = refuse(duplex, message::id_of(request).as_ref(), error, options);
        skipped.and(refused)
    };
    let parsed = match check(request) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&mut body, error),
    };
    let max_command = options.limits.max_command.min(limits::MAX_COMMAND_HARD);
    if body.len() > max_command {
        let error = format!("a command of {} bytes, where {max_command} are allowed", body.len());
        return refused(&mut body, Error::new(ErrorKind::TooBig, error));
    }
    let command = body.gather(max_command, Some(options.reply_timeout))?;
    if let Err(error) = admit(&parsed, &command, Some(request), options) {
        return refused(&mut body, error);
    }
    execute(duplex, parsed, &command, options)
}

/// Runs a command for its output alone, as a server of an older wire does.
pub fn run_locally(command: &[u8], options: &ServeOptions<'_>) -> Result<Reply> {
    let (header, body) = run_alone(&ExecRequest::default(), command, options)?;
    Reply::new(header, body)
}

/// Runs what a request asks for, whatever becomes of the client. The header and the body
/// of the reply; the id is the caller's to add.
pub(crate) fn run_request(
    request: &Header,
    command: &[u8],
    options: &ServeOptions<'_>,
) -> Result<(ExecReply, Vec<u8>)> {
    let parsed = check(request)?;
    admit(&parsed, command, Some(request), options)?;
    run_alone(&parsed, command, options)
}

/// Asks the policy.
fn admit(
    request: &ExecRequest,
    command: &[u8],
    header: Option<&Header>,
    options: &ServeOptions<'_>,
) -> Result<()> {
    options.policy.map_or(Ok(()), |policy| policy(&Inquiry { command, request, header }))
}

fn run_alone(
    request: &ExecRequest,
    text: &[u8],
    options: &ServeOptions<'_>,
) -> Result<(ExecReply, Vec<u8>)> {
    let limits = narrowed(&options.limits, request);
    let directory = directory_of(request, options);
    let command = command_of(request, text, directory.as_deref(), options)?;
    let output = run::run(&command, &limits)?;
    let header = report(None, &output);
    let mut body = output.stdout;
    body.extend_from_slice(&output.stderr);
    Ok((header, body))
}

/// The options of a request that can be followed.
fn check(request: &Header) -> Result<ExecRequest> {
    let request: ExecRequest = request.read_as()?;
    let unsupported = |what: &str| {
        Err(Error::new(ErrorKind::Unsupported, format!("{what} is not supported here")))
    };
    if request.stream == Some(true) {
        return unsupported("stream");
    }
    if request.stdin_size.is_some_and(|size| size > 0) {
        return unsupported("stdin_size");
    }
    Ok(request)
}

fn execute(
    duplex: Duplex<'_>,
    request: ExecRequest,
    text: &[u8],
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let limits = narrowed(&options.limits, &request);
    let on_close = request.on_close.unwrap_or(options.on_close);
    let mut session = Session {
        collector: Collector::new(&limits),
        client: Client::new(duplex, on_close, options.close_grace),
    };
    let directory = directory_of(&request, options);
    let outcome = command_of(&request, text, directory.as_deref(), options)
        .and_then(|command| run::run_with(&command, &limits, &mut session));
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return refuse(duplex, request.id.as_ref(), error, options),
    };
    let Session { collector, client } = session;
    if matches!(client.state, ClientState::Gone) {
        return Err(Error::new(ErrorKind::Closed, "the client went away from its command"));
    }
    let output = collector.into_output(outcome);
    let reply = report(request.id, &output);
    frame::send_by(
        duplex.writer,
        Some(&message::to_header(&reply)?),
        &[&output.stdout, &output.stderr],
        &frame::Options::default(),
        Patience::without_stall(options.reply_timeout),
    )
    .map_err(reply::overdue)?;
    Ok(Served::Ran(Report { reply, client_gone: !matches!(client.state, ClientState::Present) }))
}

fn refuse(
    duplex: Duplex<'_>,
    id: Option<&Id>,
    error: Error,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    reply::send_error(duplex.writer, &error, id, Patience::without_stall(options.reply_timeout))
        .map_err(reply::overdue)?;
    Ok(Served::failed(error))
}

/// The server's limits, and the request's where they are lower.
fn narrowed(server: &Limits, request: &ExecRequest) -> Limits {
    let asked = request.timeout_ms.map(Duration::from_millis);
    Limits {
        time: [server.time, asked].into_iter().flatten().min(),
        max_output: request.max_output.map_or(server.max_output, |max| max.min(server.max_output)),
        ..*server
    }
}

fn command_of<'a>(
    request: &'a ExecRequest,
    text: &'a [u8],
    directory: Option<&'a Path>,
    options: &ServeOptions<'_>,
) -> Result<Command<'a>> {
    let program = match &request.argv {
        None => Program::Shell(text),
        Some(_) if !text.is_empty() => {
            return Err(Error::new(ErrorKind::BadField, "argv and a command text"));
        }
        Some(argv) => Program::Argv(argv.iter().map(String::as_bytes).collect()),
    };
    let mut environment = options.environment.clone();
    let additions = request.env.iter().flatten();
    environment
        .additions
        .extend(additions.map(|(name, value)| (name.clone().into(), value.clone().into())));
    Ok(Command {
        program,
        directory: directory.map(Directory::Path),
        environment,
        stdio: Stdio::default(),
        confinement: options.confinement,
    })
}

fn directory_of(request: &ExecRequest, options: &ServeOptions<'_>) -> Option<PathBuf> {
    match (&options.directory, &request.cwd) {
        (Some(directory), Some(cwd)) => Some(directory.join(cwd)),
        (directory, None) => directory.clone(),
        (None, Some(cwd)) => Some(cwd.into()),
    }
}

/// A command that runs for a client.
struct Session<'fd> {
    collector: Collector,
    client: Client<'fd>,
}

impl Events for Session<'_> {
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        self.collector.output(stream, bytes)
    }

    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        self.client.watch(fds);
    }

    fn ready(&mut self, ready: &[PollFlags]) -> Result<Flow> {
        self.client.ready(ready)
    }

    fn deadline(&self) -> Deadline {
        match self.client.state {
            ClientState::Closed { until } => until,
            _ => Deadline::NEVER,
        }
    }

    fn overdue(&mut self) -> Result<Flow> {
        self.client.state = ClientState::ClosedLong;
        Ok(Flow::End)
    }
}
