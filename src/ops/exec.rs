//! Commands for somebody else: run one and reply, or ask for one to be run.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::Duplex;
use super::frame::{self, Body};
use super::reply;
use super::run::{self, Collector, Command, Events, Flow, Limits, Program, Stdio, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::io::child::Status;
use crate::io::deadline::{Deadline, Patience};
use crate::io::environment::Environment;
use crate::io::spawn::{Confinement, Directory};
use crate::limits;
use crate::wire::header::Header;
use crate::wire::message::exec::{ExecReply, ExecRequest, OnClose, Outcome};
use crate::wire::message::{self, Id};

/// How a server runs a command. What a request asks for can only lower the limits.
#[derive(Clone, Debug)]
pub struct ServeOptions {
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
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            limits: Limits::default(),
            on_close: OnClose::default(),
            close_grace: limits::CLOSE_GRACE,
            reply_timeout: limits::REPLY_TIMEOUT,
            environment: Environment::default(),
            directory: None,
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
pub fn run_and_reply(duplex: Duplex<'_>, command: &[u8], options: &ServeOptions) -> Result<Served> {
    execute(duplex, ExecRequest::default(), command, options)
}

/// Serves a received exec request: runs what it asks for and sends one reply. Where the
/// body of a refused request does not come whole, the reply is sent all the same, and an
/// error returned.
pub fn serve(
    duplex: Duplex<'_>,
    request: &Header,
    mut body: Body<'_, '_>,
    options: &ServeOptions,
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
    execute(duplex, parsed, &command, options)
}

/// Runs a command for its output alone, as a server of an older wire does.
pub fn run_locally(command: &[u8], options: &ServeOptions) -> Result<Reply> {
    let (header, body) = run_alone(&ExecRequest::default(), command, options)?;
    Reply::new(header, body)
}

/// Runs what a request asks for, whatever becomes of the client. The header and the body
/// of the reply; the id is the caller's to add.
pub(crate) fn run_request(
    request: &Header,
    command: &[u8],
    options: &ServeOptions,
) -> Result<(ExecReply, Vec<u8>)> {
    run_alone(&check(request)?, command, options)
}

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Shell code; empty where `options` has an `argv`.
    pub command: &'a [u8],
    /// What the header says. A `max_output` is always sent, [`limits::MAX_OUTPUT`] if none
    /// is here: twice that is what the reply may have.
    pub options: ExecRequest,
    /// The whole exchange.
    pub timeout: Option<Duration>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The header.
    pub header: ExecReply,
    body: Vec<u8>,
    stderr_at: usize,
}

impl Reply {
    pub(crate) fn new(header: ExecReply, body: Vec<u8>) -> Result<Reply> {
        let stderr_at = header.split(body.len() as u64)?;
        Ok(Reply { header, body, stderr_at: usize::try_from(stderr_at).unwrap_or(usize::MAX) })
    }

    /// Standard output.
    pub fn stdout(&self) -> &[u8] {
        &self.body[..self.stderr_at]
    }

    /// Standard error.
    pub fn stderr(&self) -> &[u8] {
        &self.body[self.stderr_at..]
    }

    /// How the command ended.
    pub fn outcome(&self) -> Outcome {
        self.header.outcome()
    }
}

/// Asks the other end to run a command, and takes its reply. A command that failed, was
/// ended or wrote too much is a reply; an error reply is an error of a remote kind.
pub fn request(duplex: Duplex<'_>, request: &Request<'_>) -> Result<Reply> {
    let deadline = Deadline::from_timeout(request.timeout);
    let framing = frame::Options::default();
    let max_output = request.options.max_output.unwrap_or(limits::MAX_OUTPUT);
    let options = ExecRequest { max_output: Some(max_output), ..request.options.clone() };
    let header = message::to_request("exec", &options)?;
    frame::send_by(duplex.writer, Some(&header), &[request.command], &framing, deadline.into())?;
    let answered = || {
        let (header, mut body) = frame::recv_header_by(duplex.reader, &framing, deadline)?;
        let body = body.read_all_by(max_output.saturating_mul(2), deadline)?;
        Ok((header, body))
    };
    let (header, body) = answered().map_err(reply::overdue)?;
    let refused = message::check_reply(&header);
    let id = message::id_of(&header);
    // A server that could not make out the id refuses without it.
    if id != options.id && !(id.is_none() && refused.is_err()) {
        return Err(Error::new(ErrorKind::BadReply, "it answers another request"));
    }
    refused?;
    Reply::new(header.read_as()?, body)
}

fn run_alone(
    request: &ExecRequest,
    text: &[u8],
    options: &ServeOptions,
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
    options: &ServeOptions,
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
    options: &ServeOptions,
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
    options: &ServeOptions,
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
        confinement: Confinement::default(),
    })
}

fn directory_of(request: &ExecRequest, options: &ServeOptions) -> Option<PathBuf> {
    match (&options.directory, &request.cwd) {
        (Some(directory), Some(cwd)) => Some(directory.join(cwd)),
        (directory, None) => directory.clone(),
        (None, Some(cwd)) => Some(cwd.into()),
    }
}

fn report(id: Option<Id>, output: &run::Output) -> ExecReply {
    let outcome = &output.outcome;
    let (exit_code, signal) = match outcome.status {
        Status::Exited(code) => (Some(code), None),
        Status::Signaled(signal) => (Some(128 + signal), Some(signal)),
        Status::Lost => (None, None),
    };
    ExecReply {
        id,
        stdout_size: Some(output.stdout.len() as u64),
        stderr_size: Some(output.stderr.len() as u64),
        exit_code,
        signal,
        timed_out: outcome.timed_out,
        truncated: output.truncated,
        pipe_held: outcome.pipe_held,
        stdout_total: Some(outcome.stdout_total),
        stderr_total: Some(outcome.stderr_total),
        charset: charset(),
    }
}

/// The encoding that the locale variables name, as locale(7) reads them: the command gets
/// the same ones.
fn charset() -> Option<String> {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty());
    codeset_of(&locale.unwrap_or_default()).map(str::to_owned)
}

/// Of `language_TERRITORY.codeset@modifier`. Where it names none, only the C library knows.
fn codeset_of(locale: &str) -> Option<&str> {
    let (locale, _) = locale.split_once('@').unwrap_or((locale, ""));
    match locale.split_once('.') {
        Some((_, codeset)) => Some(codeset),
        None => matches!(locale, "" | "C" | "POSIX").then_some("US-ASCII"),
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

/// The client of a running command, as far as its descriptors tell without being read.
struct Client<'fd> {
    duplex: Duplex<'fd>,
    on_close: OnClose,
    grace: Duration,
    state: ClientState,
}

#[derive(Clone, Copy, Debug)]
enum ClientState {
    /// Nothing was heard of its going.
    Present,
    /// It has closed its sending side; perhaps it waits for the reply.
    Closed { until: Deadline },
    /// The same, longer than the grace: its command was ended.
    ClosedLong,
    /// A reset or a hang-up: nobody is there.
    Gone,
}

impl<'fd> Client<'fd> {
    fn new(duplex: Duplex<'fd>, on_close: OnClose, grace: Duration) -> Client<'fd> {
        Client { duplex, on_close, grace, state: ClientState::Present }
    }

    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if self.on_close == OnClose::Run || matches!(self.state, ClientState::Gone) {
            return;
        }
        let watch = |fd: BorrowedFd<'a>, what| PollFd::from_borrowed_fd(fd, what);
        if matches!(self.state, ClientState::Present) {
            fds.push(watch(self.duplex.reader, PollFlags::RDHUP));
        }
        fds.push(watch(self.duplex.writer, PollFlags::empty()));
    }

    fn ready(&mut self, ready: &[PollFlags]) -> Result<Flow> {
        let (reader, writer) = match ready {
            [reader, writer] => (*reader, *writer),
            [writer] => (PollFlags::empty(), *writer),
            _ => return Ok(Flow::Continue),
        };
        if (reader | writer).contains(PollFlags::NVAL) {
            // It was the host that closed it.
            return Err(Error::system("poll", Errno::BADF));
        }
        if writer.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.state = ClientState::Gone;
            return Ok(Flow::End);
        }
        if !reader.is_empty() {
            self.state = ClientState::Closed { until: Deadline::after(self.grace) };
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_tells_its_codeset_or_it_is_not_known() {
        for (locale, codeset) in [
            ("", Some("US-ASCII")),
            ("C", Some("US-ASCII")),
            ("POSIX", Some("US-ASCII")),
            ("C.UTF-8", Some("UTF-8")),
            ("de_DE.ISO-8859-15@euro", Some("ISO-8859-15")),
            ("de_DE", None),
            ("de_DE@euro", None),
        ] {
            assert_eq!(codeset_of(locale), codeset, "{locale}");
        }
    }
}
