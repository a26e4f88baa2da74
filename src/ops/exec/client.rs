//! Asks the other end for a command, and takes its reply.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::limits;
use crate::ops::Duplex;
use crate::ops::frame::{self, reply};
use crate::wire::json::reader::Fields;
use crate::wire::message::exec::{self, ExecReply, ExecRequest, Outcome};
use crate::wire::message::{self, Id, Message as _};

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Shell code; empty where `options` has an `argv`.
    pub command: &'a [u8],
    /// What the command reads from its standard input, all of it. Where it is empty, the
    /// command of a [`request`] reads nothing, and a [`RemoteCommand`](super::RemoteCommand)
    /// what is written to it, unless `options` has a `stdin_size` of 0.
    pub input: &'a [u8],
    /// What the header says. [`request`] always sends a `max_output`, [`limits::MAX_OUTPUT`]
    /// if none is here: twice that is what the reply may have. A `stdin_size` has to be the
    /// length of `input`, and need not be here.
    pub options: ExecRequest,
    /// The whole exchange; for a [`RemoteCommand`](super::RemoteCommand), until the command
    /// has been sent.
    pub timeout: Option<Duration>,
}

impl Request<'_> {
    /// The size of the input, if it goes along with the request.
    pub(crate) fn stdin_size(&self) -> Result<Option<u64>> {
        let length = self.input.len() as u64;
        match self.options.stdin_size {
            Some(size) if size != length => {
                Err(Error::new(ErrorKind::Argument, "stdin_size is not the length of the input"))
            }
            None if length > 0 => Ok(Some(length)),
            known => Ok(known),
        }
    }
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
    if request.options.stream == Some(true) {
        return Err(Error::new(ErrorKind::Argument, "a stream has more than one reply"));
    }
    let deadline = Deadline::from_timeout(request.timeout);
    let framing = frame::Options::default();
    let max_output = request.options.max_output.unwrap_or(limits::MAX_OUTPUT);
    let options = ExecRequest {
        max_output: Some(max_output),
        stdin_size: request.stdin_size()?,
        ..request.options.clone()
    };
    let header = options.header();
    let body = [request.command, request.input];
    frame::send_by(duplex.writer, Some(&header), &body, &framing, deadline.into())?;
    let answered = || {
        let (header, mut body) = frame::recv_header_by(duplex.reader, &framing, deadline)?;
        let body = body.read_all_by(max_output.saturating_mul(2), deadline)?;
        Ok((header, body))
    };
    let (header, body) = answered().map_err(reply::overdue)?;
    let fields = header.fields()?;
    check_reply(&fields, options.id.as_ref())?;
    if exec::output_of(&fields)?.is_some() {
        return Err(Error::new(ErrorKind::BadReply, "a part of a stream is no reply"));
    }
    Reply::new(ExecReply::of(&fields)?, body)
}

/// Passes on the reply to the request with this id, or turns an error reply into its error.
pub(super) fn check_reply(fields: &Fields<'_>, asked: Option<&Id>) -> Result<()> {
    let refused = message::check_reply(fields);
    let id = fields.id().ok().flatten();
    // A server that could not make out the id refuses without it.
    if id.is_none() && refused.is_err() {
        return refused;
    }
    check_id(id.as_ref(), asked)?;
    refused
}

/// Whether a frame with this id answers the request with that one.
pub(super) fn check_id(id: Option<&Id>, asked: Option<&Id>) -> Result<()> {
    if id != asked {
        return Err(Error::new(ErrorKind::BadReply, "it answers another request"));
    }
    Ok(())
}
