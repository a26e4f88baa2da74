//! Runs what a client asks for, and replies.

use super::client::Reply;
use super::completion::Collector;
use super::input::ClientInput;
use super::job::Job;
use super::options::ServeOptions;
use super::output::Destination;
use super::presence::Presence;
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::ops::Duplex;
use crate::ops::frame::Body;
use crate::ops::frame::link::{Inbox, Outbox};
use crate::ops::frame::reply;
use crate::wire::json::header::Header;
use crate::wire::memory::reserve;
use crate::wire::message::exec::{ExecReply, ExecRequest};
use crate::wire::message::{self, Id};

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
    let (job, length) = match Job::parse(request, body.len(), options) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&mut body, error),
    };
    let command = body.take(length, options.reply_timeout)?;
    if let Err(error) = job.admit(&command, Some(request)) {
        return refused(&mut body, error);
    }
    execute(duplex, job, &command, body, options)
}

fn execute<'a>(
    duplex: Duplex<'a>,
    job: Job<'_>,
    text: &[u8],
    body: Body<'a, '_>,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let id = job.request.id.as_ref();
    let (output, frames) = if job.is_streamed() {
        let output = Destination::sent(Outbox::new(duplex.writer), id, &job.limits);
        (output, Some(Inbox::new(duplex.reader)))
    } else {
        (Destination::Kept(Collector::new(&job.limits)), None)
    };
    let is_last = !job.is_streamed() || job.request.stdin_size.is_some();
    let input = ClientInput::new(body, frames, is_last);
    let presence = Presence::new(job.request.on_close, options);
    let mut session = Session::new(duplex, presence, options, output, input);
    let completion = match job.run(text, &mut session) {
        Ok(completion) => completion,
        Err(error) if session.blame(&error, id) => return Err(error),
        Err(error) => {
            let finished = session.finish(None);
            return finished.and(refuse(duplex, id, error, options));
        }
    };
    session.presence().check()?;
    let client_gone = !session.presence().is_present();
    let reply = session.reply(completion, job.request.id)?;
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

/// Runs a command for its output alone, as a server of an older wire does.
pub fn run_locally(command: &[u8], options: &ServeOptions<'_>) -> Result<Reply> {
    let (header, body) = run_alone(&Job::new(ExecRequest::default(), options), command)?;
    Reply::new(header, body)
}

/// Runs what a request asks for, whatever becomes of the client. The header and the body
/// of the reply; the id is the caller's to add.
pub(crate) fn run_request(
    request: &Header,
    command: &[u8],
    options: &ServeOptions<'_>,
) -> Result<(ExecReply, Vec<u8>)> {
    let (job, length) = Job::parse(request, command.len() as u64, options)?;
    if job.is_streamed() || length < command.len() as u64 {
        let detail = "in datagrams there is no stream and no input";
        return Err(Error::new(ErrorKind::Unsupported, detail));
    }
    job.admit(command, Some(request))?;
    run_alone(&job, command)
}

fn run_alone(job: &Job<'_>, text: &[u8]) -> Result<(ExecReply, Vec<u8>)> {
    let mut collector = Collector::new(&job.limits);
    let completion = job.run(text, &mut collector)?;
    let captured = collector.captured(completion);
    let header = captured.reply(None);
    let mut body = captured.stdout;
    reserve(&mut body, captured.stderr.len())?;
    body.extend_from_slice(&captured.stderr);
    Ok((header, body))
}
