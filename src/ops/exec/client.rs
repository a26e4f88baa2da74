//! Asks the other end for a command, and takes its reply.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::limits;
use crate::ops::{Duplex, frame, reply};
use crate::wire::message;
use crate::wire::message::exec::{ExecReply, ExecRequest, Outcome};

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
