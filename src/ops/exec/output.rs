//! Where a command's output goes: kept for one reply, or sent as it comes.

use super::command::{Limits, OnOutputLimit};
use super::completion::{Captured, Collector, Completion};
use super::handler::{Flow, Handler as _, Stream};
use crate::error::{Error, Result};
use crate::ops::frame::link::Outbox;
use crate::wire::message::Id;
use crate::wire::message::exec::output_header;

/// Where the output of a client's command goes.
pub(super) enum Destination<'fd> {
    /// Into memory.
    Kept(Collector),
    /// To the client.
    Sent(Sent<'fd>),
}

/// Frames of output.
pub(super) struct Sent<'fd> {
    outbox: Outbox<'fd>,
    /// By [`Stream`].
    headers: [String; 2],
    /// Bytes of each that may still be sent.
    left: [u64; 2],
    on_limit: OnOutputLimit,
    truncated: bool,
    /// Why no more can be sent.
    failure: Option<Error>,
}

impl<'fd> Destination<'fd> {
    pub(super) fn sent(outbox: Outbox<'fd>, id: Option<&Id>, limits: &Limits) -> Destination<'fd> {
        Destination::Sent(Sent {
            outbox,
            headers: [output_header(0, id), output_header(1, id)],
            left: [limits.max_output; 2],
            on_limit: limits.on_output_limit,
            truncated: false,
            failure: None,
        })
    }

    /// Whether it is sent as it comes.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Destination::Sent(_))
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_sent(&self) -> bool {
        match self {
            Destination::Kept(_) => true,
            Destination::Sent(sent) => sent.outbox.is_empty(),
        }
    }

    /// Keeps `bytes`, or sends them as far as they are taken; the buffer stays here then.
    pub(super) fn take(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        match self {
            Destination::Kept(collector) => collector.output(stream, bytes),
            Destination::Sent(sent) => sent.take(stream, bytes),
        }
    }

    /// Puts in a frame of no output.
    pub(super) fn probe(&mut self) -> Result<()> {
        match self {
            Destination::Sent(sent) if sent.outbox.is_empty() => sent.outbox.put(&sent.headers[0]),
            _ => Ok(()),
        }
    }

    /// Puts in a frame without a body.
    pub(super) fn put(&mut self, header: &str) -> Result<()> {
        match self {
            Destination::Kept(_) => Ok(()),
            Destination::Sent(sent) => sent.outbox.put(header),
        }
    }

    /// Sends what is taken; the count of bytes.
    pub(super) fn flush(&mut self) -> Result<usize> {
        match self {
            Destination::Kept(_) => Ok(0),
            Destination::Sent(sent) => sent.outbox.flush(),
        }
    }

    /// Nothing can be sent any more, because of `error`: what comes is dropped.
    pub(super) fn give_up(&mut self, error: Error) {
        if let Destination::Sent(sent) = self {
            sent.outbox.give_up();
            sent.failure.get_or_insert(error);
        }
    }

    /// After a run: what was kept of it.
    pub(super) fn captured(&mut self, completion: Completion) -> Captured {
        match self {
            Destination::Kept(collector) => collector.captured(completion),
            Destination::Sent(Sent { truncated, .. }) => Captured {
                completion,
                stdout: Vec::new(),
                stderr: Vec::new(),
                truncated: *truncated,
            },
        }
    }

    /// Why something could not be sent, if it could not.
    pub(super) fn failure(&self) -> Result<()> {
        match self {
            Destination::Sent(Sent { failure: Some(error), .. }) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl Sent<'_> {
    fn take(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        let index = stream as usize;
        let length = usize::try_from(self.left[index]).unwrap_or(usize::MAX).min(bytes.len());
        let is_too_much = length < bytes.len();
        self.truncated |= is_too_much;
        bytes.truncate(length);
        self.left[index] -= length as u64;
        if length > 0 {
            self.outbox.send(&self.headers[index], bytes)?;
        }
        match self.on_limit {
            OnOutputLimit::End if is_too_much => Ok(Flow::End),
            _ => Ok(Flow::Continue),
        }
    }
}
