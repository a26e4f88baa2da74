//! A connection in a server's loop: steps that never wait.

use super::connection::Connection;
use super::receiving::Ahead;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time};
use crate::limits;
use crate::wire::memory::reserve;
use crate::wire::message::{ErrorReply, OkReply};

/// Buffers that a connection has while it is served. The next one gets them.
#[derive(Default)]
pub(crate) struct Buffers {
    read: Vec<u8>,
    written: Vec<u8>,
    /// For the body of a request, while its handler runs.
    pub(crate) body: Vec<u8>,
}

impl Buffers {
    /// Whether they are worth keeping, and small.
    pub(crate) fn are_usual(&self) -> bool {
        (1..=2 * limits::READ_AHEAD_MIN).contains(&self.read.capacity())
            && self.written.capacity() <= limits::WRITE_BEHIND
    }
}

/// A step that does not wait.
fn at_once() -> Time {
    Time::from(Deadline::PAST)
}

impl Connection<'_> {
    /// Looks at the bytes that were received. Input for a command that has ended is dropped.
    pub(crate) fn ahead(&mut self) -> Result<Ahead> {
        self.shared().check()?;
        self.receiving.ahead()
    }

    /// Reads once; 0 is the end of the stream, `None`: nothing is there.
    pub(crate) fn read_there(&mut self) -> Result<Option<usize>> {
        self.receiving.read_there(&mut at_once())
    }

    /// Takes the next message if all of it was received. Its body is then in `memory`, from the
    /// position that it returns to the end.
    pub(crate) fn body_there(&mut self, memory: &mut Vec<u8>) -> Result<Option<usize>> {
        let Some(span) = self.receiving.next_there()? else { return Ok(None) };
        let decoder = self.receiving.decoder();
        if let Some(own) = decoder.take_buffer(&span)? {
            *memory = own;
            return Ok(Some(span.body.start));
        }
        let body = &decoder.buffer()[span.body];
        memory.clear();
        if memory.capacity() < body.len() {
            reserve(memory, body.len())?;
        }
        memory.extend_from_slice(body);
        Ok(Some(0))
    }

    /// Takes the header of the next message, which was received.
    pub(crate) fn take_header(&mut self) -> Result<()> {
        self.receiving.decoder().next_header_span().map(drop)
    }

    /// Bytes that were received and not taken.
    pub(crate) fn buffered(&self) -> usize {
        self.receiving.buffered()
    }

    /// Whether the last read has left bytes that a poll does not report.
    pub(crate) fn holds_sealed(&self) -> bool {
        self.receiving.holds_sealed()
    }

    /// Total of bytes that were read from the descriptor.
    pub(crate) fn received(&self) -> u64 {
        self.receiving.received()
    }

    /// The position in the stream of received messages.
    pub(crate) fn position(&self) -> u64 {
        self.receiving.position()
    }

    /// Total of bytes that were written to the descriptor.
    pub(crate) fn written(&self) -> u64 {
        self.sending.written()
    }

    /// Is served with these buffers; returns that for a body.
    pub(crate) fn adopt(&mut self, buffers: Buffers) -> Vec<u8> {
        self.receiving.decoder().adopt(buffers.read);
        self.sending.adopt(buffers.written);
        buffers.body
    }

    /// Frees the buffers that are empty, but those that it returns, and a large `body`.
    pub(crate) fn give_back(&mut self, mut body: Vec<u8>) -> Buffers {
        if body.capacity() > limits::READ_AHEAD_MIN {
            body = Vec::new();
        }
        Buffers { read: self.receiving.give_back(), written: self.sending.give_back(), body }
    }

    /// Queues a reply without a body.
    pub(crate) fn queue_reply(&mut self, reply: &OkReply<'_>) -> Result<()> {
        self.send_half().queue_reply(reply, &[], at_once())
    }

    /// Queues an error reply to what has no readable `id`, even if receiving has broken the
    /// connection. Whatever the error was, clients accept only `bad_request` without an id.
    pub(crate) fn put_error(&mut self, error: &Error) -> Result<()> {
        let reply = ErrorReply::new(ErrorKind::BadField, &error.to_string(), None).header();
        self.sending.put(&reply)
    }

    /// Writes what is queued, ends this direction, and drops received bytes until the peer has
    /// ended its own; true once that is done. A broken connection is ended as well: the peer may
    /// not have read the last reply.
    pub(crate) fn try_end(&mut self) -> Result<bool> {
        let mut time = at_once();
        let ended = self
            .sending
            .end(None, &mut time)
            .and_then(|()| self.receiving.drain(limits::LINGER, &mut time));
        match ended {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }
}
