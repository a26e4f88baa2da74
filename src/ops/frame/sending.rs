//! The sending direction of a connection: its queue and its position in the stream.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::transport::{MAX_PIECES, Outgoing};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time};
use crate::io::stream::sink::Meanwhile;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::wire::frame::head::{Head, MORE_THAN_KEYS};
use crate::wire::frame::queue::{Format, Queue};
use crate::wire::message::OkReply;
use crate::wire::seal::record::Sealer;

/// Outcome of a message that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it was written.
    Whole,
    /// A part of it is queued. It must not be sent again.
    Queued,
}

/// What a send does with a message if it times out before a byte of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfLate {
    Refuse,
    Queue,
    /// Even beyond the limit of the queue.
    QueueAnyway,
}

/// Writes to one descriptor. Each call that may wait gets the receiving direction as well, and
/// reads meanwhile: the peer may be waiting for that.
///
/// After [`ErrorKind::TimedOut`] and [`ErrorKind::Canceled`] nothing was accepted. Every other
/// failure of the descriptor sticks.
#[derive(Debug)]
pub struct Sending<'fd> {
    sink: Option<Outgoing<'fd>>,
    interrupt: Arc<Interrupt>,
    queue: Queue,
    /// Bytes of it that the last write left, because there was no room.
    left_over: usize,
    format: Format,
    max_header: u64,
    max_queue: u64,
    /// The longest wait for a byte to be taken.
    stall: Option<Duration>,
    /// Bytes that a begun body still needs.
    to_send: u64,
    has_ended: bool,
    failed: Option<Error>,
}

impl<'fd> Sending<'fd> {
    pub(super) fn new(
        fd: Option<BorrowedFd<'fd>>,
        interrupt: &Arc<Interrupt>,
        format: Format,
        max_header: u64,
        max_queue: u64,
        stall: Option<Duration>,
    ) -> Sending<'fd> {
        let sink = fd.map(|fd| Outgoing::new(fd, interrupt));
        Sending {
            sink,
            interrupt: Arc::clone(interrupt),
            queue: Queue::default(),
            left_over: 0,
            format,
            max_header,
            max_queue,
            stall,
            to_send: 0,
            has_ended: false,
            failed: None,
        }
    }

    /// Bytes of a header.
    pub(super) fn max_header(&self) -> u64 {
        self.max_header
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'fd>> {
        self.sink.as_ref().map(Outgoing::fd)
    }

    /// From now on the bytes are sealed. `first` is sent before that as it is.
    pub(super) fn seal(&mut self, sealer: Sealer, first: Vec<u8>, is_dead: &Arc<AtomicBool>) {
        if let Some(sink) = &mut self.sink {
            sink.seal(sealer, first, is_dead);
        }
    }

    /// Bytes that were accepted and not written.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        self.queue.len() + self.pending()
    }

    /// Bytes that were written to the descriptor.
    pub(super) fn written(&self) -> u64 {
        self.sink.as_ref().map_or(0, Outgoing::written)
    }

    /// Bytes of them that are not a moved body.
    pub(super) fn queued_small(&self) -> usize {
        self.queue.small()
    }

    /// Whether it is of a server.
    fn is_served(&self) -> bool {
        self.stall.is_some()
    }

    /// Whether a message with these bodies is queued if there is no room for it: a server's, if it
    /// is small.
    pub(super) fn may_leave(&self, [first, second]: [&[u8]; 2]) -> bool {
        self.is_served() && second.is_empty() && first.len() <= limits::WRITE_BEHIND
    }

    /// Total of accepted bytes.
    pub(super) fn accepted(&self) -> u64 {
        self.queue.accepted()
    }

    /// Bytes that a begun body still needs.
    pub(super) fn to_send(&self) -> u64 {
        self.to_send
    }

    /// Whether this direction was ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The error after which nothing can be sent any more, if there is one.
    pub(super) fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Sends one message, whose body is `bodies` one after the other.
    pub(super) fn send(
        &mut self,
        header: Option<&str>,
        bodies: [&[u8]; 2],
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<Sent> {
        self.accept(header, bodies, other, time, IfLate::Refuse)
    }

    /// Queues a message, to be written with others: once there are 64 KiB, and before a receive
    /// waits.
    #[inline]
    pub(super) fn queue(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<()> {
        if self.gathers(header.map_or(0, str::len) + body.len()) {
            self.check_message()?;
            match (self.format, header) {
                (Format::Frames, _) => {
                    return self.queue.append_frame(header, body, self.max_header);
                }
                (Format::Packets(prefix), None) => {
                    let prefix_bytes = prefix.encode(body.len() as u64)?;
                    return self.queue.append(&[&prefix_bytes[..prefix.width()], body]);
                }
                _ => {}
            }
        }
        self.send_or_queue(header, body, other, time)
    }

    /// Sends a message, and queues what there is no room for.
    #[inline(never)]
    pub(super) fn send_or_queue(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<()> {
        // Nobody in a server waits for a peer that does not read, as long as the queue has room.
        let mut at_once = Deadline::PAST.into();
        let fits = self.fits(header.map_or(0, str::len) + body.len());
        let time = if self.is_served() && fits { &mut at_once } else { time };
        self.accept(header, [body, &[]], other, time, IfLate::Queue).map(drop)
    }

    /// As [`queue`](Self::queue), for a reply.
    pub(super) fn queue_reply(
        &mut self,
        reply: &OkReply<'_>,
        body: &[u8],
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<()> {
        let keys = reply.pieces();
        let keys_len: usize = keys.iter().map(|piece| piece.len()).sum();
        if self.format == Format::Frames && self.gathers(keys_len + body.len()) {
            self.check_message()?;
            return self.queue.append_checked(keys, body, self.max_header);
        }
        self.send_or_queue(Some(&reply.text()), body, other, time)
    }

    /// Whether a message with as many bytes of header and body is gathered with others.
    #[inline]
    fn gathers(&self, len: usize) -> bool {
        // If there was no room, not every further message tries to write.
        self.fits(len)
            && self.queue.len() + len + MORE_THAN_KEYS <= self.left_over + limits::WRITE_BEHIND
    }

    /// Whether the queue has room for it.
    #[inline]
    fn fits(&self, len: usize) -> bool {
        (self.queue.len() + len + MORE_THAN_KEYS) as u64 <= self.max_queue
    }

    /// Queues a frame without a body, however much is queued.
    pub(super) fn put(&mut self, header: &str) -> Result<()> {
        self.check_message()?;
        self.queue.append_frame(Some(header), &[], self.max_header)
    }

    /// Queues a frame whose body is moved and not copied, and writes as much of it as is
    /// accepted at once. `body` is then an empty buffer, the same one if everything was written.
    pub(super) fn put_body(&mut self, header: &str, body: &mut Vec<u8>) -> Result<()> {
        self.check_message()?;
        let head = Head::new(Some(header), body.len() as u64, self.max_header)?;
        self.queue.append_moved(&head, body)?;
        let flushed = self.flush(None, &mut Deadline::PAST.into());
        self.queue.give_back(body);
        match flushed {
            Err(error) if !is_resumable(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the buffer of a moved body that was written.
    pub(super) fn release(&mut self) {
        self.queue.give_back(&mut Vec::new());
    }

    /// Whether nothing is lost with it but its seal and what [`new`](Self::new) gets.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_open = !self.has_ended && self.failed.is_none();
        let is_whole = self.sink.as_ref().is_none_or(Outgoing::is_whole);
        is_open && is_whole && self.queued() == 0 && self.to_send == 0
    }

    /// Its seal.
    pub(super) fn into_sealer(self) -> Option<Sealer> {
        self.sink.and_then(Outgoing::into_sealer)
    }

    /// Frees the buffers if they are empty, but the one that it returns.
    pub(super) fn give_back(&mut self) -> Vec<u8> {
        self.sink.iter_mut().for_each(Outgoing::release);
        self.queue.release()
    }

    /// Uses this buffer, which is empty.
    pub(super) fn adopt(&mut self, buffer: Vec<u8>) {
        self.queue.adopt(buffer);
    }

    /// Whether a body can be moved into the queue.
    pub(super) fn takes_body(&self) -> bool {
        self.failed.is_none() && self.queue.takes_body()
    }

    /// Drops messages that were accepted after this position and of which nothing was written.
    pub(super) fn drop_behind(&mut self, position: u64) {
        self.queue.drop_behind(position);
    }

    /// Begins a message whose body of `body_len` bytes is sent in pieces. The head is written
    /// with the first of them.
    pub(super) fn begin(&mut self, header: Option<&str>, body_len: u64) -> Result<()> {
        self.check_message()?;
        if self.queue.len() as u64 >= self.max_queue {
            return Err(Error::new(ErrorKind::TimedOut, "the queue is full"));
        }
        match self.format {
            Format::Frames => {
                let head = Head::new(header, body_len, self.max_header)?;
                self.queue.append(&head.pieces())?;
            }
            Format::Packets(prefix) => {
                check_no_header(header)?;
                let bytes = prefix.encode(body_len)?;
                self.queue.append(&[&bytes[..prefix.width()]])?;
            }
        }
        self.to_send = body_len;
        Ok(())
    }

    /// Sends the head of a message whose body has `body_len` bytes, and the `first` of them;
    /// both are accepted or neither is.
    pub(super) fn begin_with(
        &mut self,
        header: &str,
        body_len: u64,
        first: &[u8],
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<Sent> {
        self.check_message()?;
        let head = Head::new(Some(header), body_len, self.max_header)?;
        let [start, keys] = head.pieces();
        let pieces = [start, keys, first, &[]];
        let sent = self.write_through(pieces, other, time, IfLate::Refuse)?;
        self.to_send = body_len - first.len() as u64;
        Ok(sent)
    }

    /// Sends the next piece of a begun body; returns the number of accepted bytes.
    pub(super) fn write(
        &mut self,
        piece: &[u8],
        mut other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<usize> {
        self.check()?;
        if piece.len() as u64 > self.to_send {
            let (more, left) = (piece.len(), self.to_send);
            let detail = format!("{more} bytes, but the body needs only {left}");
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        let mut accepted = 0;
        let mut is_first = true;
        while accepted < piece.len()
            || self.pending() > 0
            || (piece.is_empty() && self.queued() > 0)
        {
            let turn = self.turn(&mut is_first, time);
            let written = turn
                .and_then(|()| self.write_some(&[&piece[accepted..]], reborrow(&mut other), time));
            match written {
                Ok(sent) => {
                    accepted += sent;
                    self.to_send -= sent as u64;
                }
                Err(error) if is_resumable(&error) && accepted > 0 => return Ok(accepted),
                Err(error) => return Err(error),
            }
        }
        Ok(accepted)
    }

    /// Accepts the rest of a piece that cannot be read again.
    pub(super) fn queue_piece(&mut self, piece: &[u8]) -> Result<()> {
        // Without it the stream is out of sync.
        let queued = self.queue.append(&[piece]);
        queued.inspect_err(|error| self.failed = Some(error.clone()))?;
        self.to_send -= piece.len() as u64;
        Ok(())
    }

    /// Sends bytes that are not a message.
    pub(super) fn send_raw(
        &mut self,
        bytes: &[u8],
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<Sent> {
        self.check_message()?;
        // A handshake has taken its step already, and its bytes are few.
        self.write_through([bytes, &[], &[], &[]], other, time, IfLate::QueueAnyway)
    }

    /// Writes all queued bytes.
    #[inline]
    pub(super) fn flush(
        &mut self,
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<()> {
        self.check()?;
        self.flush_to(0, other, time)
    }

    /// Writes queued bytes until at most `most` are left.
    pub(super) fn flush_to(
        &mut self,
        most: usize,
        mut other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<()> {
        let mut is_first = true;
        while self.queued() > most {
            self.turn(&mut is_first, time)?;
            self.write_some(&[], reborrow(&mut other), time)?;
        }
        Ok(())
    }

    /// Ends this direction once everything is written: a socket is shut down for writing.
    pub(super) fn end(
        &mut self,
        mut other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<()> {
        if self.has_ended {
            return Ok(());
        }
        if self.to_send > 0 {
            return Err(unfinished(self.to_send));
        }
        // Nothing is sealed after the end mark, so it is sealed once nothing else waits.
        self.flush(reborrow(&mut other), time)?;
        self.sink.as_mut().map_or(Ok(()), Outgoing::put_end_mark)?;
        self.flush(other, time)?;
        self.has_ended = true;
        let Some(fd) = self.fd() else { return Ok(()) };
        match rustix::net::shutdown(fd, rustix::net::Shutdown::Write) {
            // Other descriptors end when their owner closes them.
            Ok(()) | Err(rustix::io::Errno::NOTSOCK | rustix::io::Errno::NOTCONN) => Ok(()),
            Err(errno) => Err(Error::system("shutdown", errno)),
        }
    }

    fn accept(
        &mut self,
        header: Option<&str>,
        [first, second]: [&[u8]; 2],
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
        if_late: IfLate,
    ) -> Result<Sent> {
        self.check_message()?;
        let body_len = (first.len() + second.len()) as u64;
        match self.format {
            Format::Frames => {
                let head = Head::new(header, body_len, self.max_header)?;
                let [start, keys] = head.pieces();
                self.write_through([start, keys, first, second], other, time, if_late)
            }
            Format::Packets(prefix) => {
                check_no_header(header)?;
                let bytes = prefix.encode(body_len)?;
                let start = &bytes[..prefix.width()];
                self.write_through([start, first, second, &[]], other, time, if_late)
            }
        }
    }

    /// Writes queued bytes and then `pieces`. After a timeout the rest of a message that has
    /// begun is queued: it was accepted.
    fn write_through(
        &mut self,
        pieces: [&[u8]; 4],
        mut other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
        if_late: IfLate,
    ) -> Result<Sent> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut flat = [0; FLAT];
        let mut pieces = pieces;
        if len <= FLAT {
            // The kernel takes longer for several pieces than the copy does.
            let mut end = 0;
            for piece in pieces {
                flat[end..end + piece.len()].copy_from_slice(piece);
                end += piece.len();
            }
            pieces = [&flat[..end], &[], &[], &[]];
        }
        let mut accepted = 0;
        let mut is_first = true;
        while accepted < len || self.pending() > 0 {
            let turn = self.turn(&mut is_first, time);
            match turn.and_then(|()| self.write_some(&pieces, reborrow(&mut other), time)) {
                Ok(sent) => {
                    advance(&mut pieces, sent);
                    accepted += sent;
                }
                Err(error) if !is_resumable(&error) => return Err(error),
                Err(error) => {
                    let is_queued = match if_late {
                        IfLate::Refuse => false,
                        IfLate::Queue => (self.queue.len() + len) as u64 <= self.max_queue,
                        IfLate::QueueAnyway => true,
                    };
                    if accepted == 0 && !is_queued {
                        return Err(error);
                    }
                    let queued = self.queue.append(&pieces);
                    if accepted > 0 {
                        // Without its rest the stream is out of sync.
                        queued.inspect_err(|error| self.failed = Some(error.clone()))?;
                    } else {
                        queued?;
                    }
                    return Ok(Sent::Queued);
                }
            }
        }
        Ok(Sent::Whole)
    }

    /// Before each turn of a loop that writes. What has cut the last write short, after bytes were
    /// sealed, ends the loop: the host may ask only once.
    fn turn(&mut self, is_first: &mut bool, time: &mut Time) -> Result<()> {
        let cut_short = self.sink.as_mut().and_then(Outgoing::take_cut_short);
        if std::mem::take(is_first) {
            return Ok(());
        }
        cut_short.map_or_else(|| self.interrupt.turn(time), Err)
    }

    /// Bytes that were sealed and not written: no other bytes can take their place.
    fn pending(&self) -> usize {
        self.sink.as_ref().map_or(0, Outgoing::pending)
    }

    /// Writes at least one byte of the queue and then `pieces`; returns the number of bytes of
    /// `pieces`.
    fn write_some(
        &mut self,
        pieces: &[&[u8]],
        other: Option<&mut dyn Meanwhile>,
        time: &mut Time,
    ) -> Result<usize> {
        let Some(sink) = &mut self.sink else {
            let detail = "the connection has no descriptor to write to";
            return Err(Error::new(ErrorKind::BadDescriptor, detail));
        };
        let time_limit = time.time_limit().within(self.stall);
        let mut all: [&[u8]; MAX_PIECES] = [&[]; MAX_PIECES];
        let mut count = 0;
        if let (Some(only), []) = (self.queue.only_piece(), pieces) {
            (all[0], count) = (only, 1);
        } else {
            for piece in self.queue.pieces().iter().chain(pieces).filter(|piece| !piece.is_empty())
            {
                all[count] = piece;
                count += 1;
            }
        }
        let sent = sink.write_beside(&all[..count], other, time_limit);
        let sent = sent.inspect_err(|error| {
            if !is_resumable(error) {
                self.failed = Some(error.clone());
            }
            self.left_over = self.queue.len();
        })?;
        let sent = self.queue.advance(sent);
        self.left_over = self.queue.len();
        Ok(sent)
    }

    fn check_message(&self) -> Result<()> {
        self.check()?;
        if self.to_send > 0 {
            return Err(unfinished(self.to_send));
        }
        if self.has_ended || self.sink.as_ref().is_some_and(Outgoing::has_end_mark) {
            return Err(Error::new(ErrorKind::State, "this direction was ended"));
        }
        Ok(())
    }

    #[inline]
    fn check(&self) -> Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(cause) => Err(broken(cause)),
        }
    }
}

#[cold]
fn broken(cause: &Error) -> Error {
    Error::new(ErrorKind::Broken, cause.to_string())
}

/// A message up to this size is written in one piece.
const FLAT: usize = 2048;

/// Whether a call can be made again after this error.
pub(super) fn is_resumable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Canceled)
}

fn unfinished(left: u64) -> Error {
    Error::new(ErrorKind::State, format!("the body in pieces needs {left} more bytes"))
}

fn check_no_header(header: Option<&str>) -> Result<()> {
    match header {
        None => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::Argument, "a packet has no header")),
    }
}

fn advance(pieces: &mut [&[u8]; 4], mut by: usize) {
    for piece in pieces {
        let skipped = by.min(piece.len());
        *piece = &piece[skipped..];
        by -= skipped;
    }
}

/// The same option for one call of several.
fn reborrow<'a>(other: &'a mut Option<&mut dyn Meanwhile>) -> Option<&'a mut dyn Meanwhile> {
    match other {
        Some(other) => Some(&mut **other),
        None => None,
    }
}
