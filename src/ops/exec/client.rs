//! Runs a command at the peer and receives its reply.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Time;
use crate::limits;
use crate::ops::frame::Connection;
use crate::wire::message::exec::{ExecReply, ExecRequest, Outcome};
use crate::wire::message::{Id, ReplyKind, read_reply};
use crate::wire::strings;

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
        if options.argv_size.is_some() || options.env_size.is_some() {
            return bad("argv_size and env_size are for the library to set");
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

/// The header of a request, and the front of its body: the command, and the arguments and
/// variables if they are too long for a header of the connection. A server that does not know
/// these refuses them, because of their NUL bytes.
pub(super) fn written<'a>(
    mut options: ExecRequest,
    command: &'a [u8],
    connection: &Connection<'_>,
) -> Result<(String, Cow<'a, [u8]>)> {
    let header = options.header();
    if (header.len() + DATA_SIZE_ROOM) as u64 <= connection.max_header() {
        return Ok((header, command.into()));
    }
    let mut front = command.to_vec();
    let (argv, env) = (options.argv.take(), options.env.take().unwrap_or_default());
    for argument in argv.iter().flatten() {
        strings::add(&mut front, [argument.as_bytes(), b"", b""])?;
    }
    options.argv_size = argv.map(|_| front.len() as u64);
    let start = front.len();
    for (name, value) in &env {
        if name.contains('=') {
            return Err(Error::new(ErrorKind::Argument, "a variable's name has a '='"));
        }
        strings::add(&mut front, [name.as_bytes(), b"=", value.as_bytes()])?;
    }
    options.env_size = (!env.is_empty()).then_some((front.len() - start) as u64);
    Ok((options.header(), front.into()))
}

/// Bytes of a header that are for its `data_size`.
const DATA_SIZE_ROOM: usize = 40;

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
    let (header, front) = written(options, request.command, connection)?;
    connection.exchange(|connection| {
        send(connection, &header, &front, request.input, &mut time)?;
        receive(connection, &id, max_output, &mut time)
    })
}

fn send(
    connection: &mut Connection<'_>,
    header: &str,
    front: &[u8],
    input: &[u8],
    time: &mut Time,
) -> Result<()> {
    if input.len() <= limits::GROW_STEP {
        return connection.send_by(Some(header), [front, input], time.time_limit());
    }
    // The rest of a large input that is not accepted in time is not copied.
    let length = front.len() as u64 + input.len() as u64;
    connection.begin_by(header, length, front, time.time_limit())?;
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
