//! The messages of a connection, for a thread that has both directions.

use std::os::fd::BorrowedFd;

use super::connection::Connection;
use super::message::Message;
use super::sending::{Sent, is_resumable};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time, TimeLimit};
use crate::wire::frame::decoder::FrameView;
use crate::wire::frame::packet::check_size;
use crate::wire::json::header::Header;

/// Receiving: as [`ReceiveHalf`](super::ReceiveHalf).
impl Connection<'_> {
    /// The next message, borrowed until the next call. A `timeout` of zero does not wait, `None`
    /// waits forever.
    #[inline]
    pub fn next(&mut self, timeout: impl Into<Time>) -> Result<FrameView<'_>> {
        let span = self.receive_half().next_span(timeout)?;
        Ok(self.receiving.decoder().view(&span))
    }

    /// The next message as an owned value.
    pub fn recv(&mut self, timeout: impl Into<Time>) -> Result<Message> {
        self.receive_half().recv(timeout)
    }

    /// The header of the next message, borrowed until the next call, and the length of its body.
    /// Read the body with [`read`](Self::read) and [`read_to`](Self::read_to).
    pub fn recv_header(&mut self, timeout: impl Into<Time>) -> Result<(FrameView<'_>, u64)> {
        let mut time = timeout.into();
        let span = self
            .receive_half()
            .receive(|receiving, sending| receiving.next_header(sending, &mut time))?;
        let left = self.receiving.left();
        Ok((self.receiving.decoder().view(&span), left))
    }

    /// Reads 1 to `buf.len()` bytes of the body as they are received; 0 is its end.
    pub fn read(&mut self, buf: &mut [u8], timeout: impl Into<Time>) -> Result<usize> {
        self.receive_half().read(buf, timeout)
    }

    /// Copies the rest of the body to a descriptor; returns the number of copied bytes. A
    /// failure of that descriptor leaves the connection in sync, and the rest of the body can
    /// still be read.
    pub fn read_to(&mut self, to: BorrowedFd<'_>, timeout: impl Into<Time>) -> Result<u64> {
        self.receive_half().read_to(to, timeout)
    }

    /// Bytes of a body in pieces that were not read yet.
    pub fn to_receive(&self) -> u64 {
        self.receiving.left()
    }
}

/// Sending: as [`SendHalf`](super::SendHalf).
impl Connection<'_> {
    /// Sends one message: `header`, a JSON object without `data_size` or nothing, and `body`.
    /// [`ErrorKind::TimedOut`]: it was not accepted, and can be sent again.
    pub fn send(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        timeout: impl Into<Time>,
    ) -> Result<Sent> {
        self.send_half().send(header, body, timeout)
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
        self.send_half().queue(header, body, timeout)
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
        self.send_half().reply(request, header, body, timeout)
    }

    /// Queues the error reply to a request: the reply code for `kind`, and a message for people.
    pub fn reply_error(
        &mut self,
        request: &str,
        kind: ErrorKind,
        message: Option<&str>,
        timeout: impl Into<Time>,
    ) -> Result<()> {
        self.send_half().reply_error(request, kind, message, timeout)
    }

    /// Writes all queued bytes.
    pub fn flush(&mut self, timeout: impl Into<Time>) -> Result<()> {
        self.send_half().flush(timeout)
    }

    /// Begins a message with a body of `body_len` bytes, to be sent with [`write`](Self::write).
    /// The head is written with the first piece. Until the body is complete every other send is
    /// [`ErrorKind::State`].
    pub fn begin(&mut self, header: Option<&str>, body_len: u64) -> Result<()> {
        self.send_half().begin(header, body_len)
    }

    /// Sends the next piece of the body; returns the number of accepted bytes, all unless the
    /// call timed out.
    pub fn write(&mut self, piece: &[u8], timeout: impl Into<Time>) -> Result<usize> {
        self.send_half().write(piece, timeout)
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
        self.send_half().write_from(from, len, timeout)
    }
}

/// For features with a deadline that covers several calls.
impl Connection<'_> {
    /// The header of the next message as an owned value; its body is read in pieces.
    pub(crate) fn header_by(&mut self, time: impl Into<Time>) -> Result<Header> {
        self.header_within(time.into())
    }

    /// Compiled once, like the other `..._within`, and not for each kind of time.
    #[inline(never)]
    fn header_within(&mut self, mut time: Time) -> Result<Header> {
        self.receive_half().receive(|receiving, sending| receiving.header(sending, &mut time))
    }

    /// The rest of the body in memory, if it has at most `max` bytes; otherwise nothing is
    /// consumed.
    pub(crate) fn body_by(&mut self, max: u64, time: impl Into<Time>) -> Result<Vec<u8>> {
        check_size(self.to_receive(), max)?;
        self.front_by(u64::MAX, time)
    }

    /// The next `len` bytes of the body, no more than there are.
    pub(crate) fn front_by(&mut self, len: u64, time: impl Into<Time>) -> Result<Vec<u8>> {
        self.front_within(len, time.into())
    }

    #[inline(never)]
    fn front_within(&mut self, len: u64, mut time: Time) -> Result<Vec<u8>> {
        self.receive_half().receive(|receiving, sending| receiving.front(len, sending, &mut time))
    }

    /// Passes the rest of the body to `take`, at most `step` bytes at a time. After an error of
    /// `take` the connection is in sync, and the rest can still be read.
    pub(crate) fn for_each_chunk(
        &mut self,
        step: usize,
        time_limit: TimeLimit,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut time = time_limit.into();
        let mut refused = None;
        let received = self.receive_half().receive(|receiving, sending| {
            receiving.for_each_chunk(step, sending, &mut time, |piece| {
                take(piece).map_err(|error| {
                    refused = Some(error);
                    Error::new(ErrorKind::State, "the piece was not taken")
                })
            })
        });
        match refused {
            Some(error) => Err(error),
            None => received,
        }
    }

    /// Drops the rest of the body.
    #[inline(never)]
    pub(crate) fn skip_by(&mut self, time_limit: TimeLimit) -> Result<()> {
        let mut time = time_limit.into();
        self.receive_half().receive(|receiving, sending| receiving.skip(sending, &mut time))
    }

    /// Treats the next `len` bytes of the stream as the body of the last received header, which
    /// declares none: the oldest programs send such a body.
    pub(crate) fn expect_body(&mut self, len: u64) {
        self.receiving.decoder().expect_body(len);
    }

    /// Receives `len` bytes that are not a message, all of them or none.
    pub(crate) fn raw_by(&mut self, len: usize, time: impl Into<Time>) -> Result<&[u8]> {
        let mut time = time.into();
        self.shared.check()?;
        let sending = (!self.is_duplex).then_some(&mut self.sending);
        self.receiving.raw(len, sending, &mut time)
    }

    /// Sends bytes that are not a message.
    pub(crate) fn send_raw(&mut self, bytes: &[u8], time: impl Into<Time>) -> Result<Sent> {
        self.send_half().send_raw(bytes, time)
    }

    /// Sends a message whose body is `bodies` one after the other, all of it.
    pub(crate) fn send_by(
        &mut self,
        header: Option<&str>,
        bodies: [&[u8]; 2],
        time_limit: impl Into<Time>,
    ) -> Result<()> {
        self.send_within(header, bodies, time_limit.into())
    }

    #[inline(never)]
    fn send_within(&mut self, header: Option<&str>, bodies: [&[u8]; 2], time: Time) -> Result<()> {
        self.send_half().send_by(header, bodies, time)
    }

    /// Sends a message without a body, even if receiving has broken the connection: the last
    /// one, an error reply.
    pub(crate) fn send_last(&mut self, header: &str, time_limit: impl Into<Time>) -> Result<()> {
        let mut time = time_limit.into();
        if !self.shared.is_here() {
            return Err(Error::new(ErrorKind::Forked, ""));
        }
        if self.sending.may_leave([&[], &[]]) {
            return self.sending.send_or_queue(Some(header), &[], None, &mut time);
        }
        match self.sending.send(Some(header), [&[], &[]], None, &mut time)? {
            Sent::Whole => Ok(()),
            Sent::Queued => self.sending.flush(None, &mut time),
        }
    }

    /// Sends the head of a message whose body has `body_len` bytes, and the `first` of them.
    /// [`ErrorKind::TimedOut`] before a byte was accepted: it can be sent again.
    pub(crate) fn begin_by(
        &mut self,
        header: &str,
        body_len: u64,
        first: &[u8],
        time_limit: impl Into<Time>,
    ) -> Result<()> {
        self.send_half().begin_by(header, body_len, first, time_limit)
    }

    /// The error after which nothing can be sent any more, if there is one.
    pub(crate) fn send_failure(&self) -> Option<&Error> {
        self.sending.failure()
    }

    /// Bytes of a begun body that were not accepted yet.
    pub(crate) fn to_send(&self) -> u64 {
        self.sending.to_send()
    }

    /// Sends the next piece of the body until something is received; returns the number of
    /// accepted bytes. The time starts anew with each call.
    pub(crate) fn write_until_received(
        &mut self,
        piece: &[u8],
        time_limit: TimeLimit,
    ) -> Result<usize> {
        self.receiving.stop_sends(true);
        let written = self.write(piece, time_limit);
        self.receiving.stop_sends(false);
        match written {
            Err(error) if error.kind() == ErrorKind::TimedOut && self.receiving.has_taken_in() => {
                Ok(0)
            }
            written => written,
        }
    }

    /// Sends the next piece of the body, all of it.
    pub(crate) fn write_by(&mut self, piece: &[u8], time_limit: impl Into<Time>) -> Result<()> {
        self.send_half().write_by(piece, time_limit)
    }
}

/// For loops that wait for several descriptors at once.
impl<'fd> Connection<'fd> {
    /// The descriptor and events to wait for input.
    pub(crate) fn read_fd(&self) -> Option<BorrowedFd<'fd>> {
        self.receiving.fd()
    }

    /// The descriptor and events to wait for room.
    pub(crate) fn write_fd(&self) -> Option<BorrowedFd<'fd>> {
        self.sending.fd()
    }

    /// Whether bytes were read ahead that no call has taken: they must be used before a wait.
    pub(crate) fn has_input(&self) -> bool {
        self.receiving.has_input()
    }

    /// Whether a sealed connection has failed in either direction.
    pub(crate) fn is_dead(&self) -> bool {
        self.receiving.is_dead()
    }

    /// Fails if the peer's end of stream is none: see [`Receiving::look_for_end`].
    pub(crate) fn look_for_end(&mut self) -> Result<()> {
        self.receiving.look_for_end()
    }

    /// The header of the next message, if all of it was received.
    pub(crate) fn try_header(&mut self) -> Result<Option<Header>> {
        match self
            .receive_half()
            .receive(|receiving, _| receiving.header(None, &mut Deadline::PAST.into()))
        {
            Ok(header) => Ok(Some(header)),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends received bytes of the body, as many as `out` has room for; `None`: more must be
    /// received.
    pub(crate) fn try_read_more(&mut self, out: &mut Vec<u8>, max: u64) -> Result<Option<usize>> {
        self.receive_half().receive(|receiving, _| receiving.try_read_more(out, max))
    }

    /// Queues a frame without a body.
    pub(crate) fn put(&mut self, header: &str) -> Result<()> {
        self.shared.check()?;
        self.sending.put(header)
    }

    /// Queues a frame whose body is moved and not copied, if [`takes_body`](Self::takes_body),
    /// and writes as much as is accepted at once.
    pub(crate) fn put_body(&mut self, header: &str, body: &mut Vec<u8>) -> Result<()> {
        self.shared.check()?;
        self.sending.put_body(header, body)
    }

    /// Queues a frame as those two do, even if receiving has broken the connection: an error
    /// reply can still be sent.
    pub(crate) fn put_anyway(&mut self, header: &str, body: &mut Vec<u8>) -> Result<()> {
        if body.is_empty() { self.sending.put(header) } else { self.sending.put_body(header, body) }
    }

    /// Returns the buffer of a large body that was written.
    pub(crate) fn release(&mut self) {
        self.sending.release();
    }

    /// Writes queued bytes without a wait; returns the number of bytes on the wire.
    #[inline]
    pub(crate) fn try_flush(&mut self) -> Result<u64> {
        let before = self.sending.written();
        match self.sending.flush(None, &mut Deadline::PAST.into()) {
            Err(error) if !is_resumable(&error) => Err(error),
            _ => Ok(self.sending.written() - before),
        }
    }

    /// Bytes of a header that it sends.
    pub(crate) fn max_header(&self) -> u64 {
        self.sending.max_header()
    }

    /// Bytes that were accepted and not written.
    pub(crate) fn queued(&self) -> usize {
        self.sending.queued()
    }

    /// Whether a body can be moved into the queue.
    pub(crate) fn takes_body(&self) -> bool {
        self.sending.takes_body()
    }

    /// Whether a frame without a body should be queued. A slow peer must not let their number
    /// grow.
    pub(crate) fn takes_control(&self) -> bool {
        self.sending.failure().is_none() && self.sending.queued_small() < CONTROL_ROOM
    }

    /// The position of the next message in the sent stream.
    pub(crate) fn accepted(&self) -> u64 {
        self.sending.accepted()
    }

    /// Drops messages that begin at this position or later, and of which nothing was written.
    pub(crate) fn drop_behind(&mut self, position: u64) {
        self.sending.drop_behind(position);
    }

    /// Drops input for a streamed command that has ended.
    pub(crate) fn drop_late_input(&mut self) {
        self.receiving.drop_late_input();
    }
}

/// The most bytes of frames without a body that may be queued: dozens of them.
const CONTROL_ROOM: usize = 4096;
