//! The receiving direction of a connection: its buffer and its position in the stream.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::message::Body;
use super::sending::Sending;
use super::transport::Incoming;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time};
use crate::io::stream::aligned::reserve_aligned;
use crate::io::stream::sink::{Meanwhile, Taken};
use crate::io::wait::Interrupt;
use crate::limits;
use crate::wire::frame::decoder::{Decoder, Limits, Span};
use crate::wire::frame::head::PREFIX_SIZE;
use crate::wire::frame::queue::Format;
use crate::wire::json::header::Header;
use crate::wire::memory::{copy, reserve, reserve_step};
use crate::wire::message::exec::is_late_input;
use crate::wire::seal::record::Opener;

/// Reads from one descriptor. Each call that may wait gets the sending direction as well: its
/// queue is written first, since the peer may be waiting for that.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub struct Receiving<'fd> {
    source: Option<Incoming<'fd>>,
    interrupt: Arc<Interrupt>,
    decoder: Decoder,
    format: Format,
    max_depth: u32,
    /// The longest wait for a byte.
    stall: Option<Duration>,
    /// No byte is read beyond the current message.
    is_exact: bool,
    /// Bytes that were received while a send waited. The next call decodes them: the decoder's
    /// memory may be borrowed, by the very message that is being sent.
    taken_in: Vec<u8>,
    /// A send stops waiting once something is received: a receive waits for it.
    is_waited_for: bool,
    /// The error that ended reading. The descriptor reports it only once.
    failed: Option<Error>,
    /// The peer has ended its direction.
    has_ended: bool,
    /// The bytes that were read ahead were returned to the caller: nothing can be received any
    /// more.
    is_given_up: bool,
    /// Bytes that were dropped while this connection ends. Nothing can be received then either.
    drained: Option<u64>,
    /// A streamed command has ended: the peer's further input to it is dropped.
    drops_late_input: bool,
}

/// The next request, as far as it was received.
#[derive(Debug)]
pub(crate) enum Ahead {
    /// Nothing of it.
    Nothing,
    /// A part of its header.
    Part,
    /// The rest of the body of the request before it has not come yet.
    Rest,
    /// Its header, and the number of bytes of its body. It was not taken.
    Header(Header, u64),
}

impl<'fd> Receiving<'fd> {
    pub(super) fn new(
        fd: Option<BorrowedFd<'fd>>,
        interrupt: &Arc<Interrupt>,
        limits: Limits,
        format: Format,
        is_exact: bool,
        stall: Option<Duration>,
    ) -> Receiving<'fd> {
        let source = fd.map(|fd| Incoming::new(fd, interrupt));
        Receiving {
            source,
            interrupt: Arc::clone(interrupt),
            decoder: Decoder::new(limits),
            format,
            max_depth: limits.max_depth,
            stall,
            is_exact,
            taken_in: Vec::new(),
            is_waited_for: false,
            failed: None,
            has_ended: false,
            is_given_up: false,
            drained: None,
            drops_late_input: false,
        }
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'fd>> {
        self.source.as_ref().map(Incoming::fd)
    }

    /// Whether the peer has ended its direction.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the descriptor is read no more.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended || self.is_given_up
    }

    /// Whether bytes were read that no call has taken. They must be used before a wait for the
    /// descriptor.
    pub(super) fn has_input(&self) -> bool {
        !self.taken_in.is_empty()
            || !self.decoder.rest().is_empty()
            || self.has_ended
            || self.holds_sealed()
    }

    /// From now on the bytes are sealed.
    pub(super) fn seal(&mut self, opener: Opener, is_dead: &Arc<AtomicBool>) {
        if let Some(source) = &mut self.source {
            source.seal(opener, is_dead);
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.source.as_ref().is_some_and(Incoming::is_sealed)
    }

    /// Whether a sealed connection has failed in either direction.
    pub(super) fn is_dead(&self) -> bool {
        self.source.as_ref().is_some_and(Incoming::is_dead)
    }

    /// Passes on the bytes that were read ahead.
    pub(super) fn pass_on(&mut self, opener: &mut Opener) -> Result<()> {
        self.decode_taken_in()?;
        opener.feed(self.decoder.rest())?;
        self.decoder.drop_rest();
        Ok(())
    }

    /// Whether no byte beyond the current message may be read.
    pub(crate) fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Looks for the cause of a hang-up. A sealed direction that was cut has no end mark, and is
    /// no half-close: that is an error.
    pub(super) fn look_for_end(&mut self) -> Result<()> {
        let mut before = None;
        while self.is_sealed()
            && !self.has_ended
            && self.failed.is_none()
            && self.taken_in.len() < limits::COPY_STEP
        {
            let received = self.source.as_ref().map_or(0, Incoming::received);
            // A part of a record was received as well, though nothing of it is taken in.
            let now = Some((received, self.taken_in.len()));
            if std::mem::replace(&mut before, now) == now {
                break;
            }
            self.take_in();
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Whether a send that waits stops once something is received.
    pub(super) fn stop_sends(&mut self, stop: bool) {
        self.is_waited_for = stop;
    }

    /// Whether something was received while a send waited, and not used yet.
    pub(super) fn has_taken_in(&self) -> bool {
        !self.taken_in.is_empty()
    }

    /// Bytes of a body in pieces that were not taken yet.
    pub(crate) fn left(&self) -> u64 {
        self.decoder.left()
    }

    /// Drops input for a command that has ended, until the next other frame.
    pub(super) fn drop_late_input(&mut self) {
        self.drops_late_input = true;
    }

    /// The memory that spans are in.
    pub(super) fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// The same, by shared reference.
    pub(crate) fn buffer(&mut self) -> &[u8] {
        self.decoder.buffer()
    }

    /// Stops receiving; returns the bytes that were read and not taken.
    pub(super) fn unread(&mut self) -> Result<&[u8]> {
        if self.is_sealed() {
            let detail = "what was read ahead on a sealed connection is no part of its stream";
            return Err(Error::new(ErrorKind::State, detail));
        }
        self.is_given_up = true;
        self.decode_taken_in()?;
        Ok(self.decoder.rest())
    }

    /// The next message.
    pub(super) fn next(
        &mut self,
        sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<Span> {
        let format = self.format;
        self.message(sending, time, |decoder| match format {
            Format::Frames => decoder.next_frame_span(),
            Format::Packets(_) => decoder.next_packet_span(),
        })
    }

    /// The next message, if it was read already.
    pub(super) fn next_there(&mut self) -> Result<Option<Span>> {
        match self.format {
            Format::Frames => self.decoder.next_frame_span(),
            Format::Packets(_) => self.decoder.next_packet_span(),
        }
    }

    /// The next request, as far as it was received. What is there of the body before it, and of
    /// input for a command that has ended, is dropped.
    pub(super) fn ahead(&mut self) -> Result<Ahead> {
        self.check()?;
        if self.taken_in.is_empty() && self.decoder.is_between() {
            return Ok(Ahead::Nothing);
        }
        self.decode_taken_in()?;
        loop {
            self.decoder.body(usize::MAX);
            if self.left() > 0 {
                return Ok(Ahead::Rest);
            }
            let Some((text, known)) = self.decoder.peek()? else {
                let is_empty = self.decoder.rest().is_empty();
                return Ok(if is_empty { Ahead::Nothing } else { Ahead::Part });
            };
            let header = Header::checked(text, known)?;
            if !(self.drops_late_input && is_late_input(&header)) {
                self.drops_late_input = false;
                return Ok(Ahead::Header(header, known.data_size.unwrap_or(0)));
            }
            self.decoder.next_header_span()?;
        }
    }

    /// Reads once; `None`: nothing is there.
    pub(super) fn read_there(&mut self, time: &mut Time) -> Result<Option<usize>> {
        self.check()?;
        self.decode_taken_in()?;
        if self.has_ended && self.failed.is_none() {
            // A send that waited has come to the end.
            return Ok(Some(0));
        }
        match self.read_more(time) {
            Ok(0) => {
                self.has_ended = true;
                Ok(Some(0))
            }
            Ok(got) => Ok(Some(got)),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes that were received and not taken.
    pub(super) fn buffered(&self) -> usize {
        self.decoder.rest().len() + self.taken_in.len()
    }

    /// Whether nothing is lost with it but its seal and what [`new`](Self::new) gets.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_open = !self.is_over() && self.failed.is_none() && self.drained.is_none();
        let is_whole = self.source.as_ref().is_none_or(Incoming::is_whole);
        is_open && is_whole && !self.has_input() && self.decoder.is_between()
    }

    /// Its seal, and where it says that a direction has failed.
    pub(super) fn into_opener(self) -> Option<(Opener, Arc<AtomicBool>)> {
        self.source.and_then(Incoming::into_opener)
    }

    /// Whether input for a command that has ended is dropped.
    pub(super) fn drops_late_input(&self) -> bool {
        self.drops_late_input
    }

    /// Total of bytes that were read from the descriptor.
    pub(super) fn received(&self) -> u64 {
        self.source.as_ref().map_or(0, Incoming::received)
    }

    /// The position in the stream of messages: bytes of them that were taken.
    pub(super) fn position(&self) -> u64 {
        let passed_on = self.source.as_ref().map_or(0, Incoming::passed_on);
        passed_on.saturating_sub(self.buffered() as u64)
    }

    /// Frees the buffers that are empty, but the one that it returns.
    pub(super) fn give_back(&mut self) -> Vec<u8> {
        if let Some(source) = &mut self.source {
            source.release();
        }
        self.decoder.release()
    }

    /// Whether sealed bytes are held of which no call has taken anything.
    pub(super) fn holds_sealed(&self) -> bool {
        self.source.as_ref().is_some_and(Incoming::holds_bytes)
    }

    /// The body of a message that was taken, as an owned value.
    pub(super) fn owned_body(&mut self, span: &Span) -> Result<Body> {
        match self.decoder.take_buffer(span)? {
            Some(memory) => Ok(Body::within(memory, span.body.start)),
            None => Ok(copy(self.decoder.view(span).body(), 0)?.into()),
        }
    }

    /// The header of the next message; its body is then read in pieces.
    pub(super) fn next_header(
        &mut self,
        sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<Span> {
        self.check_format()?;
        self.message(sending, time, Decoder::next_header_span)
    }

    /// The header of the next message as an owned value, as [`next_header`].
    ///
    /// [`next_header`]: Self::next_header
    pub(super) fn header(
        &mut self,
        sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<Header> {
        let span = self.next_header(sending, time)?;
        let text = &self.decoder.buffer()[span.header];
        let text = &text[..text.len().saturating_sub(1)];
        // With room for the NUL after it.
        Header::parse(copy(text, 1)?, self.max_depth)
    }

    /// Receives `len` bytes that are not a message, all of them or none.
    pub(super) fn raw(
        &mut self,
        len: usize,
        sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<&[u8]> {
        let span = self.wait_for(sending, time, |decoder| decoder.raw_span(len))?;
        Ok(&self.decoder.buffer()[span])
    }

    /// Reads 1 to `buf.len()` bytes of a body in pieces, as they are received; 0 is its end.
    /// Bytes that are not in the buffer yet are read directly into `buf`.
    pub(super) fn read(
        &mut self,
        buf: &mut [u8],
        mut sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<usize> {
        self.check()?;
        loop {
            self.decode_taken_in()?;
            let is_done = buf.is_empty() || self.left() == 0;
            let there = self.decoder.body(buf.len());
            if is_done || !there.is_empty() {
                buf[..there.len()].copy_from_slice(there);
                return Ok(there.len());
            }
            let len = usize::try_from(self.left()).unwrap_or(usize::MAX).min(buf.len());
            if len < limits::READ_AHEAD_MIN {
                self.fill(sending.as_deref_mut(), time)?;
                continue;
            }
            if self.flush(sending.as_deref_mut(), time)? {
                continue;
            }
            let got = self.source(time)?.read(&mut buf[..len])?;
            return self.passed_by(got);
        }
    }

    /// Waits until [`body_there`](Self::body_there) has something.
    pub(super) fn await_body(
        &mut self,
        mut sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<()> {
        self.check()?;
        loop {
            self.decode_taken_in()?;
            if !self.body_there().is_empty() || self.left() == 0 {
                return Ok(());
            }
            self.fill(sending.as_deref_mut(), time)?;
        }
    }

    /// The received bytes of a body in pieces.
    pub(super) fn body_there(&self) -> &[u8] {
        self.decoder.body_there()
    }

    /// Takes the first `count` bytes of it.
    pub(super) fn consume(&mut self, count: usize) {
        self.decoder.body(count);
    }

    /// Passes the rest of a body in pieces to `take`, at most `step` bytes at a time.
    pub(super) fn for_each_chunk(
        &mut self,
        step: usize,
        mut sending: Option<&mut Sending<'_>>,
        time: &mut Time,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let (mut chunk, mut start) = (Vec::new(), 0);
        let mut is_first = true;
        while self.left() > 0 {
            if !is_first {
                self.interrupt.turn(time)?;
            }
            self.decode_taken_in()?;
            let there = self.decoder.body(step);
            if !there.is_empty() {
                take(there)?;
                continue;
            }
            is_first = false;
            if self.flush(sending.as_deref_mut(), time)? {
                continue;
            }
            let len = self.left().min(step as u64);
            if chunk.capacity() == 0 {
                start = reserve_aligned(&mut chunk, usize::try_from(len).unwrap_or(step))?;
            }
            chunk.truncate(start);
            let got = self.source(time)?.read_more(&mut chunk, len)?;
            self.passed_by(got)?;
            take(&chunk[start..])?;
        }
        Ok(())
    }

    /// The next `len` bytes of a body in pieces, which has at least as many. The memory grows
    /// with the bytes that are received.
    pub(super) fn front(
        &mut self,
        len: u64,
        mut sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<Vec<u8>> {
        self.check()?;
        let len = len.min(self.left());
        let mut out = Vec::new();
        loop {
            self.decode_taken_in()?;
            let wanted = len - out.len() as u64;
            let there = self.decoder.body(usize::try_from(wanted).unwrap_or(usize::MAX));
            reserve(&mut out, there.len())?;
            out.extend_from_slice(there);
            let wanted = len - out.len() as u64;
            if wanted == 0 {
                return Ok(out);
            }
            if !out.is_empty() {
                self.interrupt.turn(time)?;
            }
            if self.flush(sending.as_deref_mut(), time)? {
                continue;
            }
            if out.len() == out.capacity() {
                let came = out.len();
                reserve_step(&mut out, limits::FIRST_STEP, came, wanted)?;
            }
            let got = self.source(time)?.read_more(&mut out, wanted)?;
            self.passed_by(got)?;
        }
    }

    /// Appends received bytes of the body, at most `max` and as many as `out` has room for;
    /// `None`: more must be received.
    pub(super) fn try_read_more(&mut self, out: &mut Vec<u8>, max: u64) -> Result<Option<usize>> {
        self.check()?;
        self.decode_taken_in()?;
        let room = out.capacity() - out.len();
        let len = usize::try_from(max.min(self.left())).unwrap_or(usize::MAX).min(room);
        let there = self.decoder.body(len);
        if !there.is_empty() || len == 0 {
            out.extend_from_slice(there);
            return Ok(Some(there.len()));
        }
        self.fail_if_over()?;
        match self.source(&mut Deadline::PAST.into())?.try_read_more(out, len as u64)? {
            None => Ok(None),
            Some(got) => self.passed_by(got).map(Some),
        }
    }

    /// Drops the rest of a body in pieces.
    pub(super) fn skip(
        &mut self,
        mut sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<()> {
        self.check()?;
        let mut is_first = true;
        while self.left() > 0 {
            self.decode_taken_in()?;
            self.decoder.body(usize::MAX);
            if self.left() == 0 {
                break;
            }
            if !is_first {
                self.interrupt.turn(time)?;
            }
            is_first = false;
            self.fill(sending.as_deref_mut(), time)?;
        }
        Ok(())
    }

    /// Fails if this connection has stopped receiving.
    pub(super) fn check_drain(&self) -> Result<()> {
        if self.is_given_up && self.drained.is_none() { Err(given_back()) } else { Ok(()) }
    }

    /// Drops received bytes until the peer has ended its direction or sent `max` bytes. A call
    /// after an interruption continues.
    pub(super) fn drain(&mut self, max: u64, time: &mut Time) -> Result<()> {
        self.is_given_up = true;
        let mut dropped = self.drained.unwrap_or(self.taken_in.len() as u64);
        self.taken_in = Vec::new();
        dropped += self.decoder.drop_rest() as u64;
        self.drained = Some(dropped);
        let mut room = Vec::new();
        reserve(&mut room, limits::GROW_STEP)?;
        let mut is_first = true;
        while dropped < max && !self.has_ended {
            if !is_first {
                self.interrupt.turn(time)?;
            }
            is_first = false;
            let Some(source) = &mut self.source else { return Ok(()) };
            source.begin(time.time_limit().next());
            match source.drop_more(&mut room, max - dropped)? {
                0 => self.has_ended = true,
                got => dropped += got as u64,
            }
            self.drained = Some(dropped);
        }
        Ok(())
    }

    /// Drops the rest of a body, and waits until `take` finds a message.
    fn message(
        &mut self,
        mut sending: Option<&mut Sending<'_>>,
        time: &mut Time,
        take: impl FnMut(&mut Decoder) -> Result<Option<Span>>,
    ) -> Result<Span> {
        loop {
            if self.decoder.left() > 0 {
                self.skip(sending.as_deref_mut(), time)?;
            }
            if self.drops_late_input && self.skip_late_input(sending.as_deref_mut(), time)? {
                self.interrupt.turn(time)?;
                continue;
            }
            return self.wait_for(sending, time, take);
        }
    }

    /// Looks at the next header; false if it is not for a command that has ended.
    fn skip_late_input(
        &mut self,
        sending: Option<&mut Sending<'_>>,
        time: &mut Time,
    ) -> Result<bool> {
        let is_late = self.wait_for(sending, time, |decoder| {
            let header = decoder.peek_header()?;
            Ok(header.map(|text| {
                Header::parse(text.to_vec(), limits::MAX_DEPTH_HARD)
                    .is_ok_and(|header| is_late_input(&header))
            }))
        })?;
        if is_late {
            self.decoder.next_header_span()?;
        } else {
            self.drops_late_input = false;
        }
        Ok(is_late)
    }

    /// Reads until `take` finds something in the received bytes.
    #[inline]
    fn wait_for<T>(
        &mut self,
        mut sending: Option<&mut Sending<'_>>,
        time: &mut Time,
        mut take: impl FnMut(&mut Decoder) -> Result<Option<T>>,
    ) -> Result<T> {
        self.check()?;
        let mut is_first = true;
        loop {
            self.decode_taken_in()?;
            if let Some(found) = take(&mut self.decoder)? {
                return Ok(found);
            }
            if !is_first {
                self.interrupt.turn(time)?;
            }
            is_first = false;
            self.fill(sending.as_deref_mut(), time)?;
        }
    }

    /// Reads at least one byte, unless a send has read some meanwhile.
    fn fill(&mut self, mut sending: Option<&mut Sending<'_>>, time: &mut Time) -> Result<()> {
        if self.flush(sending.as_deref_mut(), time)? {
            return Ok(());
        }
        match self.read_more(time) {
            Ok(0) => Err(self.end()),
            Ok(_) => Ok(()),
            Err(error) => {
                if error.kind() == ErrorKind::TimedOut {
                    self.give_back();
                    sending.map(Sending::give_back);
                }
                Err(error)
            }
        }
    }

    /// Writes queued bytes until something is received: true then. The next send reports a
    /// failure of it, so that messages that the peer has sent are not lost. But an interrupt is
    /// returned at once, because the host may ask only once.
    fn flush(&mut self, sending: Option<&mut Sending<'_>>, time: &mut Time) -> Result<bool> {
        if let Some(sending) = sending.filter(|sending| sending.queued() > 0) {
            // What was read already, in a record that is not open yet, is not waited for.
            if self.holds_sealed() {
                self.take_in();
                if !self.taken_in.is_empty() {
                    return Ok(true);
                }
            }
            self.is_waited_for = true;
            let flushed = sending.flush(Some(self), time);
            self.is_waited_for = false;
            if let Err(error) = flushed
                && error.kind() == ErrorKind::Canceled
            {
                return Err(error);
            }
        }
        Ok(!self.taken_in.is_empty())
    }

    #[inline]
    fn decode_taken_in(&mut self) -> Result<()> {
        if !self.taken_in.is_empty() {
            self.decoder.append(&self.taken_in)?;
            self.taken_in = Vec::new();
        }
        Ok(())
    }

    /// See [`Sink::write_beside`](crate::io::stream::sink::Sink::write_beside).
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn read_more(&mut self, time: &mut Time) -> Result<usize> {
        self.fail_if_over()?;
        let (is_exact, width) = (self.is_exact, self.prefix_width());
        let Some(source) = &mut self.source else { return Err(no_descriptor()) };
        source.begin(time.time_limit().within(self.stall).next());
        let missing = self.decoder.missing(width);
        let buffer = self.decoder.space()?;
        let room = buffer.capacity() - buffer.len();
        // A large message fills a buffer alone, and can take it along.
        let is_alone = is_exact || missing >= limits::OWN_BUFFER as u64;
        let max = if is_alone { missing } else { u64::MAX };
        let got = source.read_more(buffer, max.min(room as u64))?;
        self.decoder.fed(got, room);
        Ok(got)
    }

    fn fail_if_over(&mut self) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.has_ended { Err(self.end()) } else { Ok(()) }
    }

    /// The descriptor, ready for a read under `time`.
    fn source(&mut self, time: &mut Time) -> Result<&mut Incoming<'fd>> {
        self.fail_if_over()?;
        let Some(source) = &mut self.source else { return Err(no_descriptor()) };
        source.begin(time.time_limit().within(self.stall).next());
        Ok(source)
    }

    /// `got` bytes of a body were read directly, not into the buffer; 0 is the end of the
    /// stream.
    fn passed_by(&mut self, got: usize) -> Result<usize> {
        if got == 0 {
            return Err(self.end());
        }
        self.decoder.passed_by(got);
        Ok(got)
    }

    fn end(&mut self) -> Error {
        self.has_ended = true;
        self.decoder.end()
    }

    fn check(&self) -> Result<()> {
        if self.is_given_up {
            return Err(given_back());
        }
        if self.source.is_none() { Err(no_descriptor()) } else { Ok(()) }
    }

    pub(super) fn check_format(&self) -> Result<()> {
        match self.format {
            Format::Frames => Ok(()),
            Format::Packets(_) => Err(Error::new(ErrorKind::State, "a packet has no header")),
        }
    }

    fn prefix_width(&self) -> usize {
        match self.format {
            Format::Frames => PREFIX_SIZE,
            Format::Packets(prefix) => prefix.width(),
        }
    }
}

impl Meanwhile for Receiving<'_> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd().filter(|_| !self.is_over() && self.failed.is_none() && !self.is_exact)
    }

    fn take_in(&mut self) -> Taken {
        let step = self.taken_in.len().max(limits::READ_AHEAD_MAX);
        let is_full = self.taken_in.len() == self.taken_in.capacity();
        if self.taken_in.len() + self.decoder.rest().len() >= limits::TAKEN_IN
            || (is_full && reserve(&mut self.taken_in, step).is_err())
        {
            return Taken::Last;
        }
        let Some(source) = &mut self.source else { return Taken::Last };
        match source.try_read_more(&mut self.taken_in, u64::MAX) {
            Ok(None) => return Taken::More,
            Ok(got) => self.has_ended |= got == Some(0),
            Err(error) => self.failed = Some(error),
        }
        if self.is_waited_for {
            Taken::Enough
        } else if self.has_ended || self.failed.is_some() {
            Taken::Last
        } else {
            Taken::More
        }
    }
}

/// The direction that is read while the other one waits.
pub(super) fn meanwhile<'a>(
    receiving: Option<&'a mut Receiving<'_>>,
) -> Option<&'a mut dyn Meanwhile> {
    match receiving {
        Some(receiving) => Some(receiving),
        None => None,
    }
}

fn given_back() -> Error {
    Error::new(ErrorKind::State, "receiving was stopped by unread")
}

fn no_descriptor() -> Error {
    Error::new(ErrorKind::BadDescriptor, "the connection has no descriptor to read from")
}
