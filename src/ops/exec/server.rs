//! Runs what a client asks for, and replies.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::Reply;
use super::feed::Feed;
use super::output::Output;
use super::report::report;
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::process::environment::Environment;
use crate::io::process::spawn::{Confinement, Directory};
use crate::io::process::terminal::WindowSize;
use crate::limits;
use crate::ops::Duplex;
use crate::ops::exec::engine::{self, Collector, Command, Limits, Program, Stdio};
use crate::ops::frame::Body;
use crate::ops::frame::link::{Inbox, Outbox};
use crate::ops::frame::reply;
use crate::wire::json::header::Header;
use crate::wire::message::exec::{ExecReply, ExecRequest, OnClose, Tty};
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
    /// How long the reply may wait for a client that does not read, and so may the output
    /// of a stream once its command has ended.
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
    execute(duplex, request, command, Body::Memory(&[]), options)
}

/// Serves a received exec request: runs what it asks for and sends one reply, and where it
/// asks for a stream, output before that as it comes. Nothing is read behind the request,
/// or, in a stream, behind a frame for the running command; see [`is_late_input`] for those
/// that come too late.
///
/// Where the body of a request that is refused, or not read by its command, does not come
/// whole, the reply is sent all the same, and an error returned. Input that is cut while the
/// command runs, and a frame that is not for a running command, are errors as well: the
/// command is killed, and the client told so. [`ErrorKind::Closed`] is a client that went
/// away from its command, [`ErrorKind::Stalled`] one that did not read on after its end.
///
/// [`is_late_input`]: super::is_late_input
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
    let (parsed, length) = match parse(request, body.len(), options) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&mut body, error),
    };
    let command = body.take(length, options.reply_timeout)?;
    if let Err(error) = admit(&parsed, &command, Some(request), options) {
        return refused(&mut body, error);
    }
    execute(duplex, parsed, &command, body, options)
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
    let (parsed, length) = parse(request, command.len() as u64, options)?;
    if parsed.stream == Some(true) || length < command.len() as u64 {
        let detail = "in datagrams there is no stream and no input";
        return Err(Error::new(ErrorKind::Unsupported, detail));
    }
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
    let output = engine::run(&command, &limits)?;
    let header = report(None, &output);
    let mut body = output.stdout;
    body.extend_from_slice(&output.stderr);
    Ok((header, body))
}

/// The options of a request that can be followed, and the length of its command, which
/// the input follows.
fn parse(
    request: &Header,
    body_len: u64,
    options: &ServeOptions<'_>,
) -> Result<(ExecRequest, u64)> {
    let request: ExecRequest = message::read(request)?;
    let bad = |detail| Err(Error::new(ErrorKind::BadField, detail));
    if request.tty.is_some() && request.stream != Some(true) {
        return bad("a tty without stream");
    }
    let Some(length) = body_len.checked_sub(request.stdin_size.unwrap_or(0)) else {
        return bad("stdin_size is more than the body has");
    };
    let max = options.limits.max_command.min(limits::MAX_COMMAND_HARD);
    if length > max {
        let error = format!("a command of {length} bytes, where {max} are allowed");
        return Err(Error::new(ErrorKind::TooBig, error));
    }
    Ok((request, length))
}

fn execute<'a>(
    duplex: Duplex<'a>,
    request: ExecRequest,
    text: &[u8],
    input: Body<'a, '_>,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let limits = narrowed(&options.limits, &request);
    let streams = request.stream == Some(true);
    let is_live = streams && request.stdin_size.is_none();
    let id = request.id.as_ref();
    let output = if streams {
        Output::sent(Outbox::new(duplex.writer), id, &limits)
    } else {
        Output::Kept(Collector::new(&limits))
    };
    let feed = Feed::new(input, streams.then(|| Inbox::new(duplex.reader)), !is_live);
    let on_close = request.on_close.unwrap_or(options.on_close);
    let mut session = Session::new(duplex, on_close, options, output, feed);
    let directory = directory_of(&request, options);
    let outcome = command_of(&request, text, directory.as_deref(), options)
        .and_then(|command| engine::run_with(&command, &limits, &mut session));
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            if let Some(offence) = session.blame(&error, id) {
                return Err(offence);
            }
            let finished = session.finish(None);
            return finished.and(refuse(duplex, id, error, options));
        }
    };
    session.check_client()?;
    let client_gone = session.client_closed();
    let reply = session.reply(outcome, request.id)?;
    Ok(Served::Ran(Report { reply, client_gone }))
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

/// The server's limits, and the request's where they are lower. Output that is not kept
/// has a limit only where the request asks for one.
fn narrowed(server: &Limits, request: &ExecRequest) -> Limits {
    let asked = request.timeout_ms.map(Duration::from_millis);
    let kept = if request.stream == Some(true) { u64::MAX } else { server.max_output };
    Limits {
        time: [server.time, asked].into_iter().flatten().min(),
        max_output: request.max_output.map_or(kept, |max| max.min(kept)),
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
        stdio: stdio_of(request),
        confinement: options.confinement,
    })
}

fn stdio_of(request: &ExecRequest) -> Stdio {
    match (request.tty, request.stream, request.stdin_size) {
        (Some(Tty { rows, columns }), ..) => Stdio::Terminal(WindowSize { rows, columns }),
        (None, stream, size) => Stdio::Pipes {
            input: size.map_or(stream == Some(true), |size| size > 0),
            merge: request.merge == Some(true),
        },
    }
}

fn directory_of(request: &ExecRequest, options: &ServeOptions<'_>) -> Option<PathBuf> {
    match (&options.directory, &request.cwd) {
        (Some(directory), Some(cwd)) => Some(directory.join(cwd)),
        (directory, None) => directory.clone(),
        (None, Some(cwd)) => Some(cwd.into()),
    }
}
