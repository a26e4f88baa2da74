//! The bytes of a connection's two directions: as they are, or sealed.
//!
//! If a sealed direction that is received fails, nothing more is received or sent in either one,
//! and the keys are wiped. A write that fails ends its own direction only, as without a seal: the
//! peer's last reply may still be there.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time, TimeLimit};
use crate::io::stream::sink::{Meanwhile, Sink};
use crate::io::stream::source::Source;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::wire::seal::record::{Opened, Opener, Sealer};

/// The bytes that are received.
#[derive(Debug)]
pub(super) struct Incoming<'fd> {
    source: Source<'fd>,
    interrupt: Arc<Interrupt>,
    deadline: Deadline,
    seal: Option<Box<Opening>>,
    /// Total of bytes that were passed on, without their seal.
    passed_on: u64,
}

/// The state of a sealed direction that is received.
#[derive(Debug)]
struct Opening {
    /// `None` after a failure: its key is wiped.
    opener: Option<Opener>,
    is_dead: Arc<AtomicBool>,
    /// Total of bytes that were read from the descriptor, before the seal as well.
    received: u64,
}

impl<'fd> Incoming<'fd> {
    pub(super) fn new(fd: BorrowedFd<'fd>, interrupt: &Arc<Interrupt>) -> Incoming<'fd> {
        let mut source = Source::new(fd, Deadline::NEVER);
        source.set_interrupt(Some(Arc::clone(interrupt)));
        let (interrupt, deadline) = (Arc::clone(interrupt), Deadline::NEVER);
        Incoming { source, interrupt, deadline, seal: None, passed_on: 0 }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'fd> {
        self.source.fd()
    }

    /// From now on the bytes are sealed. `opener` has those that were read ahead.
    pub(super) fn seal(&mut self, opener: Opener, is_dead: &Arc<AtomicBool>) {
        let (opener, is_dead) = (Some(opener), Arc::clone(is_dead));
        self.seal = Some(Box::new(Opening { opener, is_dead, received: self.passed_on }));
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    /// Whether a sealed conversation has failed in either direction.
    pub(super) fn is_dead(&self) -> bool {
        self.seal.as_ref().is_some_and(|seal| seal.is_dead.load(Ordering::Acquire))
    }

    /// Total of bytes that were read from the descriptor.
    pub(super) fn received(&self) -> u64 {
        self.seal.as_ref().map_or(self.passed_on, |seal| seal.received)
    }

    /// Total of bytes that were passed on, without their seal.
    pub(super) fn passed_on(&self) -> u64 {
        self.passed_on
    }

    /// Whether received bytes are held here that were not taken.
    pub(super) fn holds_bytes(&self) -> bool {
        let opener = self.seal.as_ref().and_then(|seal| seal.opener.as_ref());
        opener.is_some_and(|opener| !opener.is_empty())
    }

    /// Whether it is not sealed, or neither direction of the seal has failed.
    pub(super) fn is_whole(&self) -> bool {
        self.seal.as_ref().is_none_or(|seal| seal.opener.is_some()) && !self.is_dead()
    }

    /// The seal, and where it says that a direction has failed.
    pub(super) fn into_opener(self) -> Option<(Opener, Arc<AtomicBool>)> {
        let Opening { opener, is_dead, .. } = *self.seal?;
        opener.map(|opener| (opener, is_dead))
    }

    /// Gives an empty buffer back.
    pub(super) fn release(&mut self) {
        if let Some(opener) = self.seal.as_mut().and_then(|seal| seal.opener.as_mut()) {
            opener.release();
        }
    }

    /// The next read begins a message, and has this deadline.
    pub(super) fn begin(&mut self, deadline: Deadline) {
        self.deadline = deadline;
        self.source.set_deadline(deadline);
        self.source.set_mid_message(false);
    }

    /// Adds 1 to `max` received bytes to `out`, within its capacity; 0 is end of stream.
    #[inline]
    pub(super) fn read_more(&mut self, out: &mut Vec<u8>, max: u64) -> Result<usize> {
        if self.seal.is_none() {
            let got = self.source.read_more(out, max)?;
            self.passed_on += got as u64;
            return Ok(got);
        }
        let room = out.capacity() - out.len();
        self.take_opened(usize::try_from(max).unwrap_or(usize::MAX).min(room), |bytes| {
            out.extend_from_slice(bytes);
        })
    }

    /// The same without waiting; `None` if nothing was received.
    pub(super) fn try_read_more(&mut self, out: &mut Vec<u8>, max: u64) -> Result<Option<usize>> {
        if self.seal.is_none() {
            let got = self.source.try_read_more(out, max)?;
            self.passed_on += got.unwrap_or(0) as u64;
            return Ok(got);
        }
        self.begin(Deadline::PAST);
        match self.read_more(out, max) {
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
            got => got.map(Some),
        }
    }

    /// Reads 1 to `buf.len()` bytes as they are received; 0 is end of stream.
    #[inline]
    pub(super) fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        if self.seal.is_none() {
            let got = self.source.read(buf)?;
            self.passed_on += got as u64;
            return Ok(got);
        }
        let (len, mut rest) = (buf.len(), buf);
        self.take_opened(len, |bytes| {
            let (start, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            start.copy_from_slice(bytes);
            rest = behind;
        })
    }

    /// Drops received bytes, sealed or not; 0 is end of stream.
    pub(super) fn drop_more(&mut self, room: &mut Vec<u8>, max: u64) -> Result<usize> {
        room.clear();
        let got = self.source.read_more(room, max)?;
        match &mut self.seal {
            Some(seal) => seal.received += got as u64,
            None => self.passed_on += got as u64,
        }
        Ok(got)
    }

    /// Takes what was received already, of several records as well, or waits for a record.
    fn take_opened(&mut self, max: usize, mut take: impl FnMut(&[u8])) -> Result<usize> {
        if max == 0 {
            return Ok(0);
        }
        let Some(seal) = &mut self.seal else { return Ok(0) };
        let opener = seal.opener.as_mut().filter(|_| !seal.is_dead.load(Ordering::Acquire));
        let Some(opener) = opener else { return Err(dead()) };
        let source = (&mut self.source, &mut seal.received);
        match await_opened(source, opener, self.deadline, &self.interrupt) {
            Ok(true) => {
                let mut len = 0;
                // The next call reports a failure again.
                while len < max && matches!(opener.open(), Ok(Opened::Data)) {
                    let there = opener.opened();
                    let step = there.len().min(max - len);
                    take(&there[..step]);
                    opener.take(step);
                    len += step;
                }
                self.passed_on += len as u64;
                Ok(len)
            }
            Ok(false) => Ok(0),
            Err(error) => {
                if is_fatal(&error) {
                    seal.is_dead.store(true, Ordering::Release);
                    seal.opener = None;
                }
                Err(error)
            }
        }
    }
}

/// Reads until a record with bytes is open, and counts the bytes that it reads; false: the peer
/// has ended its direction.
fn await_opened(
    (source, received): (&mut Source<'_>, &mut u64),
    opener: &mut Opener,
    deadline: Deadline,
    interrupt: &Interrupt,
) -> Result<bool> {
    let mut time = None;
    loop {
        if !opener.opened().is_empty() {
            return Ok(true);
        }
        match opener.open()? {
            Opened::Data => continue,
            Opened::End => return Ok(false),
            Opened::More => {}
        }
        match &mut time {
            // Records of which a part is missing, or that are empty, do not extend the call.
            Some(_) if deadline.is_past() => return Err(Error::new(ErrorKind::TimedOut, "")),
            Some(time) => interrupt.turn(time)?,
            None => time = Some(Time::from(deadline)),
        }
        source.set_mid_message(false);
        match source.read_more(opener.space()?, u64::MAX) {
            Ok(0) => return opener.finish().map(|()| false),
            Ok(got) => *received += got as u64,
            Err(error) if error.errno() == Errno::CONNRESET.raw_os_error() => {
                let detail = "the connection was reset before the peer ended it";
                return Err(Error::new(ErrorKind::Truncated, detail));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The bytes that are sent.
#[derive(Debug)]
pub(super) struct Outgoing<'fd> {
    sink: Sink<'fd>,
    seal: Option<Box<Sealing>>,
    /// Total of bytes that were written to the descriptor.
    written: u64,
}

/// The state of a sealed direction that is sent.
#[derive(Debug)]
struct Sealing {
    /// `None` after a failure: its key is wiped.
    sealer: Option<Sealer>,
    /// Records, which are written as they are. The bytes before `start` were written.
    records: Vec<u8>,
    start: usize,
    /// Why the last write has ended early, although it has accepted bytes.
    cut_short: Option<Error>,
    is_dead: Arc<AtomicBool>,
}

impl<'fd> Outgoing<'fd> {
    pub(super) fn new(fd: BorrowedFd<'fd>, interrupt: &Arc<Interrupt>) -> Outgoing<'fd> {
        let mut sink = Sink::new(fd, Deadline::NEVER);
        sink.set_interrupt(Some(Arc::clone(interrupt)));
        Outgoing { sink, seal: None, written: 0 }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'fd> {
        self.sink.fd()
    }

    /// From now on the bytes are sealed. `first` is written before them as it is.
    pub(super) fn seal(&mut self, sealer: Sealer, first: Vec<u8>, is_dead: &Arc<AtomicBool>) {
        let (sealer, is_dead) = (Some(sealer), Arc::clone(is_dead));
        let (start, cut_short) = (0, None);
        self.seal = Some(Box::new(Sealing { sealer, records: first, start, cut_short, is_dead }));
    }

    /// Bytes of records that were not written yet.
    #[inline]
    pub(super) fn pending(&self) -> usize {
        self.seal.as_ref().map_or(0, |seal| seal.records.len() - seal.start)
    }

    /// Whether it is not sealed, or its seal has not failed and no call has to be told why a write
    /// was cut short.
    pub(super) fn is_whole(&self) -> bool {
        let is_whole = |seal: &Sealing| seal.sealer.is_some() && seal.cut_short.is_none();
        self.seal.as_deref().is_none_or(is_whole)
    }

    /// The seal.
    pub(super) fn into_sealer(self) -> Option<Sealer> {
        self.seal.and_then(|seal| seal.sealer)
    }

    /// The timeout or the interrupt of a write that has accepted bytes all the same.
    #[inline]
    pub(super) fn take_cut_short(&mut self) -> Option<Error> {
        self.seal.as_mut().and_then(|seal| seal.cut_short.take())
    }

    /// Gives an empty buffer back.
    pub(super) fn release(&mut self) {
        if let Some(seal) = self.seal.as_mut().filter(|seal| seal.start == seal.records.len()) {
            (seal.records, seal.start) = (Vec::new(), 0);
        }
    }

    /// Total of bytes that were written to the descriptor.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether the end mark was sealed: nothing can follow it.
    pub(super) fn has_end_mark(&self) -> bool {
        let sealer = self.seal.as_ref().and_then(|seal| seal.sealer.as_ref());
        sealer.is_some_and(Sealer::has_ended)
    }

    /// Seals the end mark of a sealed direction, to be written like other bytes.
    pub(super) fn put_end_mark(&mut self) -> Result<()> {
        let Some(seal) = &mut self.seal else { return Ok(()) };
        match &mut seal.sealer {
            Some(sealer) if !sealer.has_ended() => sealer.end(&mut seal.records),
            _ => Ok(()),
        }
    }

    /// Writes at least one byte and returns how many bytes of `pieces`, none of which is empty,
    /// were accepted; reads `other` while it waits.
    ///
    /// What was sealed counts as accepted. If only records are written that were sealed before,
    /// that is 0.
    #[inline]
    pub(super) fn write_beside(
        &mut self,
        pieces: &[&[u8]],
        other: Option<&mut dyn Meanwhile>,
        time_limit: TimeLimit,
    ) -> Result<usize> {
        self.sink.set_time_limit(time_limit);
        self.sink.set_mid_message(false);
        let Some(seal) = &mut self.seal else {
            let mut slices = [IoSlice::new(&[]); MAX_PIECES];
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
            }
            let sent = self.sink.write_beside(&slices[..pieces.len()], other)?;
            self.written += sent as u64;
            return Ok(sent);
        };
        let (accepted, sent) = seal.write(&mut self.sink, pieces, other);
        match sent {
            Ok(sent) => self.written += sent as u64,
            // The records are written by the next call.
            Err(error) if accepted > 0 && !is_fatal(&error) => seal.cut_short = Some(error),
            Err(error) => return Err(error),
        }
        Ok(accepted)
    }
}

impl Sealing {
    /// Seals the next bytes unless there are records to write, and writes those; returns the
    /// number of bytes that it sealed, and the outcome of the write.
    fn write(
        &mut self,
        sink: &mut Sink<'_>,
        pieces: &[&[u8]],
        other: Option<&mut dyn Meanwhile>,
    ) -> (usize, Result<usize>) {
        if self.is_dead.load(Ordering::Acquire) {
            self.sealer = None;
        }
        let Some(sealer) = &mut self.sealer else { return (0, Err(dead())) };
        let mut accepted = 0;
        if self.start == self.records.len() {
            empty(&mut self.records, pieces);
            self.start = 0;
            match sealer.data(pieces, AT_ONCE, &mut self.records) {
                Ok(count) => accepted = count,
                Err(error) => return (0, Err(error)),
            }
        }
        let sent = sink.write_beside(&[IoSlice::new(&self.records[self.start..])], other);
        match &sent {
            Ok(sent) => self.start += sent,
            // What the peer has sent before can still be received.
            Err(error) if is_fatal(error) => self.sealer = None,
            Err(_) => {}
        }
        (accepted, sent)
    }
}

/// Empties the buffer for records; a large one is given back if little is to come.
fn empty(records: &mut Vec<u8>, pieces: &[&[u8]]) {
    records.clear();
    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
    if records.capacity() > KEPT && len < KEPT / 2 {
        *records = Vec::new();
    }
}

/// Whether a sealed conversation ends with this failure.
fn is_fatal(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::TimedOut | ErrorKind::Canceled | ErrorKind::NoMemory | ErrorKind::Aborted
    )
}

#[cold]
fn dead() -> Error {
    // What has failed is known to whom it was reported.
    Error::new(ErrorKind::Broken, "the other direction of the sealed connection has failed")
}

/// The most pieces of one write.
pub(super) const MAX_PIECES: usize = 7;
/// The most bytes that are sealed for one write: 64 KiB, as a connection queues, and a record
/// more, so that a message of 64 KiB and its header are one write.
const AT_ONCE: usize = limits::WRITE_BEHIND + limits::SEAL_RECORD;
/// Room for records that a connection keeps while it sends little.
const KEPT: usize = 4096;
