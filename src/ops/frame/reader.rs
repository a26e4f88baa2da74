//! A buffer for one descriptor to read from: one system call brings as many frames as are
//! there.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::io::deadline::{Deadline, Patience};
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::limits;
use crate::ops::frame::Options;
use crate::ops::frame::writer::Writer;
use crate::wire::frame::decoder::{Decoder, FrameView};
use crate::wire::memory::reserve;

/// Reads frames and packets, and more of the stream than was asked for.
///
/// [`TimedOut`](crate::ErrorKind::TimedOut) loses nothing: what came is kept, and the call can
/// be made again. What [`rest`](Self::rest) has is the next part of the stream for whoever
/// reads on without this reader.
#[derive(Debug)]
pub struct Reader<'fd> {
    source: Source<'fd>,
    decoder: Decoder,
    /// What came while a writer waited, to be decoded by the next call: the decoder's memory
    /// may be lent, and its caller may be writing it.
    taken_in: Vec<u8>,
    /// Why nothing more was taken in, which the descriptor tells once.
    failed: Option<Error>,
    timeout: Option<Duration>,
}

impl<'fd> Reader<'fd> {
    /// Reads what comes next from `fd`. The timeout of `options` is that of each call which
    /// names none.
    pub fn new(fd: BorrowedFd<'fd>, options: &Options) -> Reader<'fd> {
        Reader {
            source: Source::new(fd, Deadline::NEVER),
            decoder: Decoder::new(options.limits()),
            taken_in: Vec::new(),
            failed: None,
            timeout: options.timeout,
        }
    }

    /// The next frame, which is borrowed until the next call. One that is longer than the
    /// buffer is gathered in memory of its own size.
    pub fn next_frame(&mut self) -> Result<FrameView<'_>> {
        let span = self.wait_for(None, self.timeout, Decoder::next_frame_span)?;
        Ok(self.decoder.view(&span))
    }

    /// The next packet, likewise.
    pub fn next_packet(&mut self) -> Result<FrameView<'_>> {
        let span = self.wait_for(None, self.timeout, Decoder::next_packet_span)?;
        Ok(self.decoder.view(&span))
    }

    /// The header of the next frame, likewise; its body, of any size, is then read with
    /// [`read`](Self::read), [`copy_to`](Self::copy_to) or [`skip`](Self::skip).
    pub fn next_header(&mut self) -> Result<FrameView<'_>> {
        let span = self.wait_for(None, self.timeout, Decoder::next_header_span)?;
        Ok(self.decoder.view(&span))
    }

    /// Bytes of a streamed body that were not read yet.
    pub fn left(&self) -> u64 {
        self.decoder.left()
    }

    /// What was read from the descriptor and not taken.
    pub fn rest(&mut self) -> Result<&[u8]> {
        self.decode_taken_in()?;
        Ok(self.decoder.rest())
    }

    /// Reads 1 to `buf.len()` bytes of a streamed body as they come; 0 is its end. What is
    /// not in the buffer yet goes past it.
    pub fn read(
        &mut self,
        buf: &mut [u8],
        writer: Option<&mut Writer<'_>>,
        timeout: Option<Duration>,
    ) -> Result<usize> {
        self.decode_taken_in()?;
        let is_done = buf.is_empty() || self.left() == 0;
        let there = self.decoder.body(buf.len());
        if is_done || !there.is_empty() {
            buf[..there.len()].copy_from_slice(there);
            return Ok(there.len());
        }
        let deadline = Deadline::from_timeout(timeout);
        let len = usize::try_from(self.left()).unwrap_or(usize::MAX).min(buf.len());
        if len < limits::READ_AHEAD_MIN {
            self.fill(writer, deadline)?;
            return self.read(buf, None, timeout);
        }
        if self.flush(writer, deadline) {
            return self.read(buf, None, timeout);
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.source.set_deadline(deadline);
        self.source.set_mid_message(false);
        match self.source.read(&mut buf[..len])? {
            0 => Err(self.decoder.end()),
            got => {
                self.decoder.passed_by(got);
                Ok(got)
            }
        }
    }

    /// Copies the rest of a streamed body to `to`.
    pub fn copy_to(
        &mut self,
        to: BorrowedFd<'_>,
        writer: Option<&mut Writer<'_>>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let patience = Patience::whole(timeout);
        let mut sink = Sink::new(to, patience);
        sink.set_mid_message(true);
        self.for_each_piece(writer, patience.deadline, |piece| sink.write_all(piece))
    }

    /// Reads the rest of a streamed body and drops it.
    pub fn skip(
        &mut self,
        writer: Option<&mut Writer<'_>>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.for_each_piece(writer, Deadline::from_timeout(timeout), |_| Ok(()))
    }

    /// Reads on until `take` finds something in what came. Before each system call `writer`
    /// sends what it has: the other end may wait for that.
    pub(crate) fn wait_for<T>(
        &mut self,
        mut writer: Option<&mut Writer<'_>>,
        timeout: Option<Duration>,
        mut take: impl FnMut(&mut Decoder) -> Result<Option<T>>,
    ) -> Result<T> {
        let mut deadline = None;
        loop {
            self.decode_taken_in()?;
            if let Some(found) = take(&mut self.decoder)? {
                return Ok(found);
            }
            let deadline = *deadline.get_or_insert_with(|| Deadline::from_timeout(timeout));
            self.fill(writer.as_deref_mut(), deadline)?;
        }
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'fd> {
        self.source.fd()
    }

    /// Takes in what is there already, without a change to what is lent; false if there will
    /// be no more, or no more is to be held.
    pub(crate) fn take_in(&mut self) -> bool {
        let step = self.taken_in.len().max(limits::READ_AHEAD_MAX);
        let is_full = self.taken_in.len() == self.taken_in.capacity();
        if self.taken_in.len() >= limits::TAKEN_IN
            || (is_full && reserve(&mut self.taken_in, step).is_err())
        {
            return false;
        }
        match self.source.try_read_more(&mut self.taken_in, u64::MAX) {
            Ok(got) => got != Some(0),
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }

    /// Takes in at least a byte.
    fn fill(&mut self, writer: Option<&mut Writer<'_>>, deadline: Deadline) -> Result<()> {
        if self.flush(writer, deadline) {
            return Ok(());
        }
        match self.read_more(deadline)? {
            0 => Err(self.decoder.end()),
            _ => Ok(()),
        }
    }

    /// Has `writer` send what it has; true if something was taken in meanwhile. Should it
    /// fail, its own next call tells: what the other end sent before is not lost.
    fn flush(&mut self, writer: Option<&mut Writer<'_>>, deadline: Deadline) -> bool {
        if let Some(writer) = writer {
            let _ = writer.flush_by(Some(self), deadline);
        }
        !self.taken_in.is_empty()
    }

    fn decode_taken_in(&mut self) -> Result<()> {
        if !self.taken_in.is_empty() {
            self.decoder.append(&self.taken_in)?;
            self.taken_in = Vec::new();
        }
        Ok(())
    }

    fn read_more(&mut self, deadline: Deadline) -> Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.source.set_deadline(deadline);
        self.source.set_mid_message(false);
        let buffer = self.decoder.space()?;
        let room = buffer.capacity() - buffer.len();
        let got = self.source.read_more(buffer, room as u64)?;
        self.decoder.fed(got, room);
        Ok(got)
    }

    fn for_each_piece(
        &mut self,
        mut writer: Option<&mut Writer<'_>>,
        deadline: Deadline,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        while self.left() > 0 {
            self.decode_taken_in()?;
            let piece = self.decoder.body(usize::MAX);
            if piece.is_empty() {
                self.fill(writer.as_deref_mut(), deadline)?;
            } else {
                take(piece)?;
            }
        }
        Ok(())
    }
}
