//! A buffer for one descriptor to write to: small frames go out together.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::stream::sink::Sink;
use crate::io::wait::poll;
use crate::limits;
use crate::ops::frame::Options;
use crate::ops::frame::reader::Reader;
use crate::wire::frame::head::{self, Head, MORE_THAN_KEYS};
use crate::wire::frame::packet::PrefixFormat;
use crate::wire::memory::reserve;

/// Writes frames and packets, later than it is told to. What is queued goes out when it is
/// 64 KiB, with [`flush`](Self::flush), and before a reader that goes with it waits.
///
/// A message is accepted whole or not at all: after [`ErrorKind::TimedOut`] nothing of it was,
/// and the call can be made again. Every other error of the descriptor sticks, and so does a
/// want of memory for the rest of a message of which a part went out.
#[derive(Debug)]
pub struct Writer<'fd> {
    fd: BorrowedFd<'fd>,
    sink: Sink<'fd>,
    queue: Vec<u8>,
    /// Bytes of the queue that went out.
    sent: usize,
    timeout: Option<Duration>,
    max_header: u64,
    prefix: PrefixFormat,
    failed: Option<Error>,
}

impl<'fd> Writer<'fd> {
    /// Writes to `fd`. The timeout of `options` is that of each call which names none.
    pub fn new(fd: BorrowedFd<'fd>, options: &Options) -> Writer<'fd> {
        Writer {
            fd,
            sink: Sink::new(fd, Deadline::NEVER),
            queue: Vec::new(),
            sent: 0,
            timeout: options.timeout,
            max_header: options.max_header,
            prefix: options.prefix,
            failed: None,
        }
    }

    /// Accepts a frame: queued, or sent from where it is if it is large.
    #[inline]
    pub fn send(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        reader: Option<&mut Reader<'_>>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.accept_frame(header, body, reader, || Deadline::from_timeout(timeout))
    }

    /// As [`send`](Self::send), where the time is not for this call alone.
    pub(crate) fn send_by(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        reader: Option<&mut Reader<'_>>,
        deadline: Deadline,
    ) -> Result<()> {
        self.accept_frame(header, body, reader, || deadline)
    }

    /// Accepts a packet, likewise.
    pub fn send_packet(
        &mut self,
        data: &[u8],
        reader: Option<&mut Reader<'_>>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let prefix = self.prefix.encode(data.len() as u64)?;
        let pieces = [&prefix[..self.prefix.width()], &[], data];
        self.accept(pieces, reader, Deadline::from_timeout(timeout))
    }

    /// Writes all that is queued. After [`ErrorKind::TimedOut`] a part may have gone out, and
    /// [`left`](Self::left) is the rest of it.
    pub fn flush(
        &mut self,
        reader: Option<&mut Reader<'_>>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.flush_by(reader, Deadline::from_timeout(timeout))
    }

    /// Bytes that were accepted and not written.
    pub fn left(&self) -> usize {
        self.queue.len() - self.sent
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn flush_by(
        &mut self,
        mut reader: Option<&mut Reader<'_>>,
        deadline: Deadline,
    ) -> Result<()> {
        self.check()?;
        while self.left() > 0 {
            self.write([&[]; 3], reader.as_deref_mut(), deadline)?;
        }
        Ok(())
    }

    /// Asks for the deadline only where it may have to wait.
    #[inline]
    fn accept_frame(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        reader: Option<&mut Reader<'_>>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<()> {
        let body_len = body.len() as u64;
        if self.has_room(header.map_or(0, str::len) + MORE_THAN_KEYS + body.len()) {
            head::append(&mut self.queue, header, body_len, self.max_header)?;
            self.queue.extend_from_slice(body);
            return Ok(());
        }
        let head = Head::new(header, body_len, self.max_header)?;
        let [start, keys] = head.pieces();
        self.accept([start, keys, body], reader, deadline())
    }

    /// Whether the queue has the memory for `len` bytes more and need not be written before.
    #[inline]
    fn has_room(&self, len: usize) -> bool {
        self.fits(len) && self.queue.capacity() - self.queue.len() >= len
    }

    #[inline]
    fn fits(&self, len: usize) -> bool {
        self.failed.is_none() && self.left() + len <= limits::WRITE_BEHIND
    }

    /// Queues the message if it fits, and else writes what is queued and as much of the message
    /// behind it as the time allows. One of which a part went out is accepted, whatever memory
    /// its rest takes.
    fn accept(
        &mut self,
        mut pieces: [&[u8]; 3],
        mut reader: Option<&mut Reader<'_>>,
        deadline: Deadline,
    ) -> Result<()> {
        self.check()?;
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.fits(len) {
            return self.enqueue(pieces);
        }
        let mut accepted = 0;
        while accepted < len {
            match self.write(pieces, reader.as_deref_mut(), deadline) {
                Ok(sent) => {
                    pieces = advance(pieces, sent);
                    accepted += sent;
                }
                Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
                Err(_) if accepted > 0 => {
                    let queued = self.enqueue(pieces);
                    return queued.inspect_err(|error| self.failed = Some(error.clone()));
                }
                Err(_) if self.fits(len) => return self.enqueue(pieces),
                Err(timeout) => return Err(timeout),
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, pieces: [&[u8]; 3]) -> Result<()> {
        if self.sent >= self.left() {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let room = len.max(limits::WRITE_BEHIND.saturating_sub(self.queue.len()));
        reserve(&mut self.queue, room)?;
        for piece in pieces {
            self.queue.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Writes at least a byte of what is queued and of `pieces` behind it; returns how much of
    /// `pieces`. While it waits, `reader` takes in what comes, since the other end may wait
    /// for that.
    fn write(
        &mut self,
        pieces: [&[u8]; 3],
        reader: Option<&mut Reader<'_>>,
        deadline: Deadline,
    ) -> Result<usize> {
        let [start, keys, body] = pieces.map(IoSlice::new);
        let mut slices = [IoSlice::new(&self.queue[self.sent..]), start, keys, body];
        let mut slices = &mut slices[..];
        IoSlice::advance_slices(&mut slices, 0);
        let sent = match reader {
            None => {
                self.sink.set_patience(deadline);
                self.sink.set_mid_message(false);
                self.sink.write(slices)
            }
            Some(reader) => write_and_take_in(&mut self.sink, self.fd, slices, reader, deadline),
        };
        let sent = sent.inspect_err(|error| {
            if error.kind() != ErrorKind::TimedOut {
                self.failed = Some(error.clone());
            }
        })?;
        let of_queue = sent.min(self.left());
        self.sent += of_queue;
        if self.left() == 0 {
            self.sent = 0;
            self.queue.clear();
            if self.queue.capacity() > limits::BUFFER_KEPT {
                self.queue = Vec::new();
            }
        }
        Ok(sent - of_queue)
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

fn write_and_take_in(
    sink: &mut Sink<'_>,
    fd: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    reader: &mut Reader<'_>,
    deadline: Deadline,
) -> Result<usize> {
    let mut reads = true;
    loop {
        if let Some(sent) = sink.try_write(slices)? {
            return Ok(sent);
        }
        let mut fds = [(fd, PollFlags::OUT), (reader.fd(), PollFlags::IN)]
            .map(|(fd, what)| PollFd::from_borrowed_fd(fd, what));
        let watched = if reads { 2 } else { 1 };
        if poll(&mut fds[..watched], deadline, None)? == 0 {
            return Err(Error::new(ErrorKind::TimedOut, "the other end does not read"));
        }
        if !fds[1].revents().is_empty() {
            // Why nothing more comes, the next call of the reader tells.
            reads = reader.take_in();
        }
    }
}

fn advance(pieces: [&[u8]; 3], mut by: usize) -> [&[u8]; 3] {
    pieces.map(|piece| {
        let skipped = by.min(piece.len());
        by -= skipped;
        &piece[skipped..]
    })
}
