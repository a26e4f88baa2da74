//! The two directions of a connection, each for one thread at a time.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::connection::Connection;
use super::message::Message;
use super::receiving::{Receiving, meanwhile};
use super::sending::{Sending, Sent, is_resumable};
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time};
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::limits;
use crate::wire::frame::decoder::{FrameView, Span};
use crate::wire::json::header::Header;
use crate::wire::memory::{copy, reserve};
use crate::wire::message::exec::is_stream_request;
use crate::wire::message::{self, ErrorReply, OkReply};

/// Receives messages. The unread rest of a body in pieces is dropped when the next message is
/// received.
///
/// Unless the connection is duplex, queued bytes are written before a receive waits.
#[derive(Debug)]
pub struct ReceiveHalf<'a, 'fd> {
    pub(crate) receiving: &'a mut Receiving<'fd>,
    pub(crate) sending: Option<&'a mut Sending<'fd>>,
    pub(crate) shared: &'a Shared,
}

/// Sends messages, each whole or not at all.
///
/// Unless the connection is duplex, a send that waits also reads from the peer.
#[derive(Debug)]
pub struct SendHalf<'a, 'fd> {
    pub(crate) sending: &'a mut Sending<'fd>,
    pub(crate) receiving: Option<&'a mut Receiving<'fd>>,
    pub(crate) shared: &'a Arc<Shared>,
}

impl<'fd> Connection<'fd> {
    /// Both directions, for two threads. From then on a receive does not write, and a send does
    /// not read.
    pub fn split(&mut self) -> (ReceiveHalf<'_, 'fd>, SendHalf<'_, 'fd>) {
        let Connection { receiving, sending, shared, .. } = self;
        let (receive, send) = (None, None);
        (
            ReceiveHalf { receiving, sending: send, shared },
            SendHalf { sending, receiving: receive, shared },
        )
    }

    pub(super) fn receive_half(&mut self) -> ReceiveHalf<'_, 'fd> {
        let Connection { receiving, sending, shared, is_duplex, .. } = self;
        ReceiveHalf { receiving, sending: (!*is_duplex).then_some(sending), shared }
    }

    pub(super) fn send_half(&mut self) -> SendHalf<'_, 'fd> {
        let Connection { receiving, sending, shared, is_duplex, .. } = self;
        SendHalf { sending, receiving: (!*is_duplex).then_some(receiving), shared }
    }
}

impl<'fd> ReceiveHalf<'_, 'fd> {
    /// The next message, borrowed until the next call. A `timeout` of zero does not wait, `None`
    /// waits forever.
    pub fn next(&mut self, timeout: impl Into<Time>) -> Result<FrameView<'_>> {
        let span = self.next_span(timeout)?;
        Ok(self.receiving.decoder().view(&span))
    }

    /// The next message as an owned value.
    pub fn recv(&mut self, timeout: impl Into<Time>) -> Result<Message> {
        let span = self.next_span(timeout)?;
        // It was consumed: if it is lost, the connection is out of sync.
        self.owned(&span).inspect_err(|error| self.shared.break_by(error))
    }

    fn owned(&mut self, span: &Span) -> Result<Message> {
        let decoder = self.receiving.decoder();
        let header = match decoder.view(span).header() {
            "" => None,
            text => Some(Header::parse(copy(text.as_bytes(), 1)?, limits::MAX_DEPTH_HARD)?),
        };
        Ok(Message { header, body: self.receiving.owned_body(span)? })
    }

    /// The header of the next message, borrowed until the next call, and the length of its body.
    /// Read the body with [`read`](Self::read) and [`read_to`](Self::read_to).
    pub fn recv_header(&mut self, timeout: impl Into<Time>) -> Result<(FrameView<'_>, u64)> {
        let mut time = timeout.into();
        let span = self.receive(|receiving, sending| receiving.next_header(sending, &mut time))?;
        let left = self.receiving.left();
        Ok((self.receiving.decoder().view(&span), left))
    }

    /// The position of the next header in the decoder's buffer.
    pub(crate) fn header_span(&mut self, timeout: impl Into<Time>) -> Result<Span> {
        let mut time = timeout.into();
        self.receive(|receiving, sending| receiving.next_header(sending, &mut time))
    }

    /// Reads 1 to `buf.len()` bytes of the body as they are received; 0 is its end.
    pub fn read(&mut self, buf: &mut [u8], timeout: impl Into<Time>) -> Result<usize> {
        let mut time = timeout.into();
        self.receive(|receiving, sending| receiving.read(buf, sending, &mut time))
    }

    /// Copies the rest of the body to a descriptor; returns the number of copied bytes. A
    /// failure of that descriptor leaves the connection in sync, and the rest of the body can
    /// still be read.
    pub fn read_to(&mut self, to: BorrowedFd<'_>, timeout: impl Into<Time>) -> Result<u64> {
        let mut time = timeout.into();
        let mut sink = Sink::new(to, Deadline::NEVER);
        sink.set_interrupt(Some(Arc::clone(self.shared.interrupt())));
        let mut copied = 0;
        while self.receiving.left() > 0 {
            let turn = match copied {
                0 => Ok(()),
                _ => self.shared.interrupt().turn(&mut time),
            };
            let outcome = turn.and_then(|()| {
                self.receive(|receiving, sending| receiving.await_body(sending, &mut time))
            });
            match outcome {
                Err(error) if copied > 0 && is_resumable(&error) => return Ok(copied),
                outcome => outcome?,
            }
            sink.set_time_limit(time.time_limit());
            sink.set_mid_message(false);
            let written = sink.write(&[IoSlice::new(self.receiving.body_there())]);
            match written {
                Ok(written) => {
                    self.receiving.consume(written);
                    copied += written as u64;
                }
                Err(error) if copied > 0 && is_resumable(&error) => return Ok(copied),
                Err(error) => return Err(error),
            }
        }
        Ok(copied)
    }

    /// The position of the next message in the decoder's buffer.
    pub(crate) fn next_span(&mut self, timeout: impl Into<Time>) -> Result<Span> {
        let mut time = timeout.into();
        self.receive(|receiving, sending| receiving.next(sending, &mut time))
    }

    /// The position of the one after it, if that was read already.
    pub(crate) fn next_span_there(&mut self) -> Option<Span> {
        // The next call for this message reports a failure again.
        self.receiving.next_there().unwrap_or(None)
    }

    /// Runs a receive. A failure breaks the connection, unless the call can be repeated.
    #[inline]
    pub(super) fn receive<T>(
        &mut self,
        work: impl FnOnce(&mut Receiving<'fd>, Option<&mut Sending<'fd>>) -> Result<T>,
    ) -> Result<T> {
        self.shared.check()?;
        let received = work(self.receiving, self.sending.as_deref_mut());
        received.inspect_err(|error| self.note(error))
    }

    /// Breaks the connection if `error` leaves it out of sync.
    #[cold]
    fn note(&self, error: &Error) {
        if !matches!(
            error.kind(),
            ErrorKind::Closed
                | ErrorKind::TimedOut
                | ErrorKind::Canceled
                | ErrorKind::State
                | ErrorKind::Argument
                | ErrorKind::NoMemory
                | ErrorKind::Aborted
                | ErrorKind::Broken
        ) && self.receiving.fd().is_some()
        {
            self.shared.break_by(error);
        }
    }
}

impl SendHalf<'_, '_> {
    /// Sends one message: `header`, a JSON object without `data_size` or nothing, and `body`.
    /// [`ErrorKind::TimedOut`]: it was not accepted, and can be sent again.
    pub fn send(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        timeout: impl Into<Time>,
    ) -> Result<Sent> {
        self.shared.check()?;
        let mut time = timeout.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.send(header, [body, &[]], other, &mut time)
    }

    /// Queues a message, to be written with others: once there are 64 KiB, by
    /// [`flush`](Self::flush), and before a receive waits. [`ErrorKind::TimedOut`]: the queue is
    /// full.
    #[inline]
    pub fn queue(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        timeout: impl Into<Time>,
    ) -> Result<()> {
        self.shared.check()?;
        let mut time = timeout.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.queue(header, body, other, &mut time)
    }

    /// The same for one message of several that share a deadline.
    #[inline]
    pub(crate) fn queue_by(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        time: &mut Time,
    ) -> Result<()> {
        self.shared.check()?;
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.queue(header, body, other, time)
    }

    /// Queues the reply to `request`, the text of a request's header: `"status":"ok"`, its id,
    /// and the members of `header`.
    pub fn reply(
        &mut self,
        request: &str,
        header: Option<&str>,
        body: &[u8],
        timeout: impl Into<Time>,
    ) -> Result<()> {
        self.queue_reply(&OkReply::new(request, header)?, body, timeout)
    }

    /// Queues a reply.
    pub(crate) fn queue_reply(
        &mut self,
        reply: &OkReply<'_>,
        body: &[u8],
        timeout: impl Into<Time>,
    ) -> Result<()> {
        self.shared.check()?;
        let mut time = timeout.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.queue_reply(reply, body, other, &mut time)
    }

    /// Queues the error reply to a request: the reply code for `kind`, and a message for people.
    pub fn reply_error(
        &mut self,
        request: &str,
        kind: ErrorKind,
        message: Option<&str>,
        timeout: impl Into<Time>,
    ) -> Result<()> {
        let id = message::id_in(request);
        let text = message.unwrap_or(kind.text());
        let reply = ErrorReply::new(kind, text, id.as_ref()).header();
        self.queue(Some(&reply), &[], timeout)?;
        if let Some(receiving) = &mut self.receiving
            && is_stream_request(request)
        {
            receiving.drop_late_input();
        }
        Ok(())
    }

    /// Writes all queued bytes and ends this direction. The other one goes on.
    pub fn end(&mut self, timeout: impl Into<Time>) -> Result<()> {
        self.shared.check()?;
        let mut time = timeout.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.end(other, &mut time)
    }

    /// Writes all queued bytes.
    pub fn flush(&mut self, timeout: impl Into<Time>) -> Result<()> {
        self.shared.check()?;
        let mut time = timeout.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.flush(other, &mut time)
    }

    /// Begins a message with a body of `body_len` bytes, to be sent with [`write`](Self::write).
    /// The head is written with the first piece. Until the body is complete every other send is
    /// [`ErrorKind::State`].
    pub fn begin(&mut self, header: Option<&str>, body_len: u64) -> Result<()> {
        self.shared.check()?;
        self.sending.begin(header, body_len)
    }

    /// Sends the next piece of the body; returns the number of accepted bytes, all unless the
    /// call timed out.
    pub fn write(&mut self, piece: &[u8], timeout: impl Into<Time>) -> Result<usize> {
        self.shared.check()?;
        let mut time = timeout.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.write(piece, other, &mut time)
    }

    /// Sends the next `len` bytes of the body from a descriptor, or as many as it has; returns
    /// their number. A failure of that descriptor leaves the connection in sync, and the rest of
    /// the body can still be sent.
    pub fn write_from(
        &mut self,
        from: BorrowedFd<'_>,
        len: u64,
        timeout: impl Into<Time>,
    ) -> Result<u64> {
        self.shared.check()?;
        if len > self.sending.to_send() {
            let left = self.sending.to_send();
            let detail = format!("{len} bytes, but the body needs only {left}");
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        let mut time = timeout.into();
        let mut source = Source::new(from, Deadline::NEVER);
        source.set_interrupt(Some(Arc::clone(self.shared.interrupt())));
        let mut piece = Vec::new();
        let mut copied = 0;
        while copied < len {
            let turn = match copied {
                0 => Ok(()),
                _ => self.shared.interrupt().turn(&mut time),
            };
            // Bytes that were read must be accepted, so no more are read than there is room for.
            let other = meanwhile(self.receiving.as_deref_mut());
            match turn.and_then(|()| self.sending.flush_to(limits::WRITE_BEHIND, other, &mut time))
            {
                Err(error) if copied > 0 && is_resumable(&error) => break,
                outcome => outcome?,
            }
            piece.clear();
            let step = usize::try_from(len - copied).unwrap_or(usize::MAX).min(limits::COPY_STEP);
            reserve(&mut piece, step)?;
            match self.read_piece(&mut source, &mut piece, len - copied, &mut time) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if copied > 0 && is_resumable(&error) => break,
                Err(error) => return Err(error),
            }
            let other = meanwhile(self.receiving.as_deref_mut());
            let given = match self.sending.write(&piece, other, &mut time) {
                Ok(given) => given,
                Err(error) if is_resumable(&error) => 0,
                Err(error) => return Err(error),
            };
            // `from` cannot be read again.
            self.sending.queue_piece(&piece[given..])?;
            copied += piece.len() as u64;
        }
        Ok(copied)
    }

    /// Reads the next piece of a body from a descriptor. Before it waits, it writes all queued
    /// bytes: the source of the body may depend on them.
    fn read_piece(
        &mut self,
        source: &mut Source<'_>,
        piece: &mut Vec<u8>,
        max: u64,
        time: &mut Time,
    ) -> Result<usize> {
        if let Some(got) = source.try_read_more(piece, max)? {
            return Ok(got);
        }
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.flush(other, time)?;
        source.set_deadline(time.time_limit().next());
        source.set_mid_message(false);
        source.read_more(piece, max)
    }

    /// Sends a message whose body is `bodies` one after the other, all of it. A server queues what
    /// there is no room for, if it is small: nobody waits there for a peer that does not read.
    pub(super) fn send_by(
        &mut self,
        header: Option<&str>,
        bodies: [&[u8]; 2],
        time_limit: impl Into<Time>,
    ) -> Result<()> {
        self.shared.check()?;
        let mut time = time_limit.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        if self.sending.may_leave(bodies) {
            return self.sending.send_or_queue(header, bodies[0], other, &mut time);
        }
        match self.sending.send(header, bodies, other, &mut time)? {
            Sent::Whole => Ok(()),
            Sent::Queued => {
                let other = meanwhile(self.receiving.as_deref_mut());
                self.sending.flush(other, &mut time)
            }
        }
    }

    /// Sends the head of a message whose body has `body_len` bytes, and the `first` of them.
    pub(super) fn begin_by(
        &mut self,
        header: &str,
        body_len: u64,
        first: &[u8],
        time_limit: impl Into<Time>,
    ) -> Result<()> {
        self.shared.check()?;
        let mut time = time_limit.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        match self.sending.begin_with(header, body_len, first, other, &mut time)? {
            Sent::Whole => Ok(()),
            Sent::Queued => {
                let other = meanwhile(self.receiving.as_deref_mut());
                self.sending.flush(other, &mut time)
            }
        }
    }

    /// Sends the next piece of the body, all of it.
    pub(super) fn write_by(&mut self, piece: &[u8], time_limit: impl Into<Time>) -> Result<()> {
        let mut time = time_limit.into();
        let mut given = 0;
        while given < piece.len() {
            let other = meanwhile(self.receiving.as_deref_mut());
            given += self.sending.write(&piece[given..], other, &mut time)?;
        }
        Ok(())
    }

    /// Sends bytes that are not a message.
    pub(super) fn send_raw(&mut self, bytes: &[u8], time: impl Into<Time>) -> Result<Sent> {
        self.shared.check()?;
        let mut time = time.into();
        let other = meanwhile(self.receiving.as_deref_mut());
        self.sending.send_raw(bytes, other, &mut time)
    }
}
