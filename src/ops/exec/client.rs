//! Runs a command at the peer and receives its reply.

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Time;
use crate::limits;
use crate::ops::frame::Connection;
use crate::wire::message::exec::{ExecReply, ExecRequest, Outcome};
use crate::wire::message::{Id, ReplyKind, read_reply};

/// A command for the peer: shell code, or a program and its arguments.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Shell code; empty if `options` has an `argv`.
    pub command: &'a [u8],
    /// All of the command's standard input. If it is empty, the command of a [`call`] reads
    /// nothing, and that of a [`RemoteCommand`](super::RemoteCommand) reads what is written to
    /// it, unless `options` has a `stdin_size` of 0.
    pub input: &'a [u8],
    /// The members of the header. [`call`] always sends a `max_output`, by default
    /// [`limits::MAX_OUTPUT`]; the reply may have twice as many bytes. `stdin_size` is optional,
    /// and must be the length of `input`. The library sets `id` and `stream`.
    pub options: ExecRequest,
}

impl Request<'_> {
    /// The header's options, without an id.
    pub(crate) fn checked_options(&self) -> Result<ExecRequest> {
        let bad = |detail| Err(Error::new(ErrorKind::Argument, detail));
        let options = &self.options;
        if options.id.is_some() || options.stream.is_some() {
            return bad("id and stream are for the library to set");
        }
        if options.argv.is_some() && !self.command.is_empty() {
            return bad("a command and an argv");
        }
        let length = self.input.len() as u64;
        let stdin_size = match options.stdin_size {
            Some(size) if size != length => {
                return bad("stdin_size is not the length of the input");
            }
            None if length > 0 => Some(length),
            known => known,
        };
        Ok(ExecRequest { stdin_size, ..options.clone() })
    }
}

/// The reply to a command.
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

    /// Both outputs in one, and where standard error begins.
    pub(crate) fn into_body(self) -> (Vec<u8>, usize) {
        (self.body, self.stderr_at)
    }

    /// How the command ended.
    pub fn outcome(&self) -> Outcome {
        self.header.outcome()
    }
}

/// Runs a command at the peer, and returns its reply, also if the command failed, was ended or
/// wrote too much. An error reply is an error of a remote kind.
///
/// Every other error breaks the connection once a byte of the request was accepted.
pub fn call(
    connection: &mut Connection<'_>,
    request: &Request<'_>,
    timeout: impl Into<Time>,
) -> Result<Reply> {
    let mut time = timeout.into();
    if time.is_none() {
        return Err(Error::new(ErrorKind::Argument, "a call has to wait for its reply"));
    }
    let options = request.checked_options()?;
    if options.tty.is_some() {
        return Err(Error::new(ErrorKind::Argument, "a terminal is for a streamed command"));
    }
    let max_output = options.max_output.unwrap_or(limits::MAX_OUTPUT);
    let id = connection.next_id();
    let options = ExecRequest { id: Some(id.clone()), max_output: Some(max_output), ..options };
    let header = options.header();
    connection.exchange(|connection| {
        send(connection, &header, request, &mut time)?;
        receive(connection, &id, max_output, &mut time)
    })
}

fn send(
    connection: &mut Connection<'_>,
    header: &str,
    Request { command, input, .. }: &Request<'_>,
    time: &mut Time,
) -> Result<()> {
    if input.len() <= limits::GROW_STEP {
        return connection.send_by(Some(header), [command, input], time.time_limit());
    }
    // The rest of a large input that is not accepted in time is not copied.
    let length = command.len() as u64 + input.len() as u64;
    connection.begin_by(header, length, command, time.time_limit())?;
    connection.write_by(input, time.time_limit())
}

fn receive(
    connection: &mut Connection<'_>,
    id: &Id,
    max_output: u64,
    time: &mut Time,
) -> Result<Reply> {
    let header = connection.header_by(time.time_limit())?;
    let fields = header.fields()?;
    connection.check_reply(&fields, id, ReplyKind::Exec)?;
    if fields.has("stream") {
        return Err(Error::new(ErrorKind::BadReply, "a part of a stream is not a reply"));
    }
    let reply = read_reply(&header)?;
    let body = connection.body_by(max_output.saturating_mul(2), time.time_limit())?;
    Reply::new(reply, body)
}
