//! Serves a client's request for a command.

use super::client::Reply;
use super::completion::Collector;
use super::handler::{Flow, Handler, Stream};
use super::job::Job;
use super::options::ServeOptions;
use super::presence::is_interrupt;
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::TimeLimit;
use crate::io::wait::Interrupt;
use crate::ops::frame::{Client, Connection};
use crate::wire::json::header::Header;
use crate::wire::message::exec::{ExecReply, ExecRequest};
use crate::wire::message::{self, ErrorReply, Id};

/// Outcome of a request; in each case the stream is in sync.
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
    /// The report of a command that did not run because of `error`.
    pub(crate) fn failed(error: Error) -> Served {
        match error.kind() {
            ErrorKind::Spawn => Served::SpawnFailed(error),
            _ => Served::Refused(error),
        }
    }
}

/// The result of serving a request.
#[derive(Clone, Debug)]
pub struct Report {
    /// The reply's header.
    pub reply: ExecReply,
    /// The client disconnected during the command, or closed its sending direction.
    pub client_gone: bool,
}

/// Serves an exec request whose header was just received on `connection`: reads its body, runs
/// the command and sends the reply. If the request asks for a stream, output is sent before that
/// while the command runs. The connection drops input that arrives too late for a streamed
/// command.
///
/// If a request is refused or its command does not read the body, and the body is not received
/// completely, the reply is sent and an error is returned. Truncated input, and a frame that is
/// not for a running command, are errors as well: the command is killed, and an error reply is
/// sent. [`ErrorKind::Closed`]: the client disconnected from its command.
/// [`ErrorKind::Stalled`]: it made no progress for too long. Every error breaks the connection.
pub fn serve(
    connection: &mut Connection<'_>,
    request: &Header,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    connection.check_exchange()?;
    let served = serve_request(connection, request, options).map_err(given_up);
    connection.release();
    if request.boolean("stream").is_ok_and(|streams| streams) {
        // Of a command that was refused, too: its client may have sent input behind the request.
        connection.drop_late_input();
    }
    served.inspect_err(|error| connection.shared().break_by(error))
}

fn serve_request(
    connection: &mut Connection<'_>,
    request: &Header,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let refused = |connection: &mut Connection<'_>, error: Error| {
        let time_limit = TimeLimit::for_dropped(connection.to_receive(), options.stall());
        let skipped = connection.skip_by(time_limit);
        let refused = refuse(connection, message::id_of(request).as_ref(), error, options);
        skipped.and(refused)
    };
    let (mut job, length) = match Job::parse(request, connection.to_receive(), options) {
        Ok(parsed) => parsed,
        Err(error) => return refused(connection, error),
    };
    let front = connection.front_by(length, TimeLimit::for_bytes(length, options.stall()))?;
    let admitted = job.unpack(&front).and_then(|text| {
        job.admit(text, Some(request), connection.client())?;
        Ok(text)
    });
    match admitted {
        Ok(text) => execute(connection, job, text, options),
        Err(error) => refused(connection, error),
    }
}

/// A client that was given up is not waited for again, although the error is a timeout.
fn given_up(error: Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::new(ErrorKind::Stalled, error.detail().to_owned()),
        _ => error,
    }
}

fn execute(
    connection: &mut Connection<'_>,
    job: Job<'_>,
    text: &[u8],
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let id = job.request.id.as_ref();
    let mut session = Session::new(connection, &job, options)?;
    let completion = match job.run(text, &mut session) {
        Ok(completion) => completion,
        Err(error) if is_interrupt(&error) || session.blame(&error, id) => return Err(error),
        Err(error) => {
            let finished = session.finish(None);
            return finished.and(refuse(connection, id, error, options));
        }
    };
    session.presence().check()?;
    let client_gone = !session.presence().is_present();
    let reply = session.reply(completion, job.request.id)?;
    Ok(Served::Ran(Report { reply, client_gone }))
}

fn refuse(
    connection: &mut Connection<'_>,
    id: Option<&Id>,
    error: Error,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let reply = ErrorReply::new(error.kind(), &error.to_string(), id).header();
    let length = connection.queued() + reply.len();
    connection.send_last(&reply, TimeLimit::for_bytes(length as u64, options.stall()))?;
    Ok(Served::failed(error))
}

/// Runs a command for its output only, for servers of other protocols.
pub fn run_locally(command: &[u8], options: &ServeOptions<'_>) -> Result<Reply> {
    let (header, body) = run_alone(&Job::new(ExecRequest::default(), options), command)?;
    Reply::new(header, body)
}

/// Runs the command of a request, even if the client disconnects. Returns the header and the
/// body of the reply; the caller adds the id.
pub(crate) fn run_request(
    request: &Header,
    command: &[u8],
    options: &ServeOptions<'_>,
) -> Result<(ExecReply, Vec<u8>)> {
    let (mut job, length) = Job::parse(request, command.len() as u64, options)?;
    if job.is_streamed() || length < command.len() as u64 {
        let detail = "in datagrams there is no stream and no input";
        return Err(Error::new(ErrorKind::Unsupported, detail));
    }
    let text = job.unpack(command)?;
    job.admit(text, Some(request), Client::default())?;
    run_alone(&job, text)
}

fn run_alone(job: &Job<'_>, text: &[u8]) -> Result<(ExecReply, Vec<u8>)> {
    let mut alone = Alone { collector: Collector::new(&job.limits), interrupt: job.interrupt() };
    let completion = job.run(text, &mut alone)?;
    let captured = alone.collector.captured(completion);
    let header = captured.reply(None);
    Ok((header, captured.into_body()?))
}

/// A command without a client on a connection.
struct Alone<'a> {
    collector: Collector,
    interrupt: Option<&'a Interrupt>,
}

impl Handler for Alone<'_> {
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        self.collector.output(stream, bytes)
    }

    fn interrupt(&self) -> Option<&Interrupt> {
        self.interrupt
    }
}
