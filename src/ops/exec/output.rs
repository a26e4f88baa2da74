//! The destination of a command's output: kept for one reply, or sent at once.

use super::command::{Limits, OnOutputLimit};
use super::completion::{Captured, Collector, Completion};
use super::handler::{Flow, Handler as _, Stream};
use crate::error::Result;
use crate::ops::frame::Connection;
use crate::wire::message::Id;
use crate::wire::message::exec::output_header;

/// The destination of a command's output.
pub(super) enum Destination {
    /// Into memory.
    Kept(Collector),
    /// To the client.
    Sent(Sent),
}

/// Frames of output.
pub(super) struct Sent {
    /// By [`Stream`].
    headers: [String; 2],
    /// Bytes of each that may still be sent.
    left: [u64; 2],
    on_limit: OnOutputLimit,
    truncated: bool,
}

impl Destination {
    pub(super) fn sent(id: Option<&Id>, limits: &Limits) -> Destination {
        Destination::Sent(Sent {
            headers: [output_header(0, id), output_header(1, id)],
            left: [limits.max_output; 2],
            on_limit: limits.on_output_limit,
            truncated: false,
        })
    }

    /// The header of a frame of output, if output is sent at once.
    pub(super) fn stream_header(&self) -> Option<&str> {
        match self {
            Destination::Kept(_) => None,
            Destination::Sent(sent) => Some(&sent.headers[0]),
        }
    }

    /// Whether it is sent at once.
    pub(super) fn is_stream(&self) -> bool {
        self.stream_header().is_some()
    }

    /// Keeps `bytes`, or sends them. Bytes that are not accepted at once are moved to the queue,
    /// which must be empty. Without a connection they are counted and dropped.
    pub(super) fn take(
        &mut self,
        connection: Option<&mut Connection<'_>>,
        stream: Stream,
        bytes: &mut Vec<u8>,
    ) -> Result<Flow> {
        match self {
            Destination::Kept(collector) => collector.output(stream, bytes),
            Destination::Sent(sent) => sent.take(connection, stream, bytes),
        }
    }

    /// After a run: the kept output.
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
}

impl Sent {
    fn take(
        &mut self,
        connection: Option<&mut Connection<'_>>,
        stream: Stream,
        bytes: &mut Vec<u8>,
    ) -> Result<Flow> {
        let index = stream as usize;
        let length = usize::try_from(self.left[index]).unwrap_or(usize::MAX).min(bytes.len());
        let is_too_much = length < bytes.len();
        self.truncated |= is_too_much;
        bytes.truncate(length);
        self.left[index] -= length as u64;
        if let Some(connection) = connection
            && length > 0
        {
            connection.put_body(&self.headers[index], bytes)?;
        }
        match self.on_limit {
            OnOutputLimit::End if is_too_much => Ok(Flow::End),
            _ => Ok(Flow::Continue),
        }
    }
}
