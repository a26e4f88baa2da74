//! The records of a session: a [`Sealer`] writes them, an [`Opener`] reads them.
//!
//! A record is a length of 2 bytes, most significant first, and as many bytes: the encrypted kind
//! and body, and the tag. Both ends of it are worked on in place, in one buffer a direction.

use std::ops::Range;

use zeroize::Zeroize as _;

use super::cipher::{Direction, KEY_SIZE, TAG_SIZE, Used, failed};
use super::terms::Suite;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Bytes of the length field.
const LENGTH_SIZE: usize = 2;
/// Bytes of a record besides the body.
const OVERHEAD: usize = LENGTH_SIZE + 1 + TAG_SIZE;
/// Bytes of a record without a body, such as the client's first.
pub(super) const EMPTY_SIZE: usize = OVERHEAD;

/// The kinds of record.
pub(super) mod kind {
    pub const DATA: u8 = 0;
    pub const END: u8 = 1;
    pub const CONFIRM: u8 = 2;
    pub const PADDED: u8 = 3;
}

/// The direction that is written.
pub struct Sealer {
    /// None after a failure.
    direction: Option<Direction>,
    has_ended: bool,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    pub(super) fn new(direction: Direction) -> Sealer {
        Sealer { direction: Some(direction), has_ended: false }
    }

    /// A direction that begins with this key, somewhere in its course.
    pub fn with_key(suite: Suite, key: &[u8; KEY_SIZE], used: Used) -> Sealer {
        Sealer::new(Direction::new(suite, key, used))
    }

    /// Appends records to `out` until `max` bytes of `pieces`, in order, are sealed, or all.
    /// Returns their number. A lack of memory changes nothing.
    pub fn data(&mut self, pieces: &[&[u8]], max: usize, out: &mut Vec<u8>) -> Result<usize> {
        self.check()?;
        let there = pieces.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        let total = there.min(max);
        let records = total.div_ceil(limits::SEAL_RECORD);
        reserve(out, total.saturating_add(records.saturating_mul(OVERHEAD)))?;
        let mut pieces = Pieces { first: &[], rest: pieces };
        let (before, mut left) = (out.len(), total);
        while left > 0 {
            let len = left.min(limits::SEAL_RECORD);
            let sealed = self.record(kind::DATA, len, out, |out| pieces.append(len, out));
            if let Err(error) = sealed {
                out.truncate(before);
                return Err(error);
            }
            left -= len;
        }
        Ok(total)
    }

    /// Appends the record that ends this direction.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.empty(kind::END, out)?;
        self.has_ended = true;
        Ok(())
    }

    /// Appends the client's first record.
    pub(super) fn confirm(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.empty(kind::CONFIRM, out)
    }

    /// Whether [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// How far the direction is used; `None` after a failure.
    pub fn used(&self) -> Option<Used> {
        self.direction.as_ref().map(Direction::used)
    }

    /// Wipes the key: the session has failed.
    pub fn fail(&mut self) {
        self.direction = None;
    }

    /// Appends a record of any kind, for tests of what a peer might send.
    #[doc(hidden)]
    pub fn raw(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
        reserve(out, body.len() + OVERHEAD)?;
        self.record(kind, body.len(), out, |out| out.extend_from_slice(body))
    }

    fn empty(&mut self, kind: u8, out: &mut Vec<u8>) -> Result<()> {
        self.check()?;
        reserve(out, EMPTY_SIZE)?;
        self.record(kind, 0, out, |_| ())
    }

    /// Appends a record to `out`, which has room for it.
    fn record(
        &mut self,
        kind: u8,
        len: usize,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        let Some(direction) = &mut self.direction else { return Err(broken()) };
        let start = out.len();
        let length = u16::try_from(1 + len + TAG_SIZE).map_err(|_| failed("too large a record"))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.push(kind);
        body(out);
        match direction.seal(&mut out[start + LENGTH_SIZE..]) {
            Ok(tag) => {
                out.extend_from_slice(&tag);
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                self.fail();
                Err(error)
            }
        }
    }

    fn check(&self) -> Result<()> {
        if self.direction.is_none() {
            return Err(broken());
        }
        if self.has_ended {
            return Err(Error::new(ErrorKind::State, "the stream was ended before"));
        }
        Ok(())
    }
}

/// Bytes in pieces that are taken in order.
struct Pieces<'a> {
    first: &'a [u8],
    rest: &'a [&'a [u8]],
}

impl Pieces<'_> {
    fn append(&mut self, mut len: usize, out: &mut Vec<u8>) {
        while len > 0 {
            if self.first.is_empty() {
                let Some((first, rest)) = self.rest.split_first() else { return };
                (self.first, self.rest) = (first, rest);
            }
            let (taken, left) = self.first.split_at(len.min(self.first.len()));
            out.extend_from_slice(taken);
            (self.first, len) = (left, len - taken.len());
        }
    }
}

/// What [`Opener::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The next record is not complete.
    More,
    /// [`Opener::opened`] has bytes.
    Data,
    /// The peer ended the stream.
    End,
}

/// The direction that is read.
pub struct Opener {
    /// None after a failure.
    direction: Option<Direction>,
    failed: Option<Error>,
    buffer: Vec<u8>,
    /// Where the records that were not opened begin.
    start: usize,
    /// What was opened and not taken.
    plain: Range<usize>,
    has_ended: bool,
    /// Bytes to read at once.
    read_ahead: usize,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(..)")
    }
}

impl Opener {
    pub(super) fn new(direction: Direction) -> Opener {
        Opener {
            direction: Some(direction),
            failed: None,
            buffer: Vec::new(),
            start: 0,
            plain: 0..0,
            has_ended: false,
            read_ahead: limits::READ_AHEAD_MIN,
        }
    }

    /// A direction that begins with this key, somewhere in its course.
    pub fn with_key(suite: Suite, key: &[u8; KEY_SIZE], used: Used) -> Opener {
        Opener::new(Direction::new(suite, key, used))
    }

    /// Adds the next bytes that were received.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        self.start_anew();
        self.compact(bytes.len());
        reserve(&mut self.buffer, bytes.len())?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The buffer to append received bytes to, with room for at least one. The room is a good
    /// size for a read: it doubles while reads fill it. A length that the peer declares alone
    /// does not make it larger.
    pub fn space(&mut self) -> Result<&mut Vec<u8>> {
        self.check()?;
        let is_filled = self.buffer.len() == self.buffer.capacity() && !self.buffer.is_empty();
        if is_filled {
            self.read_ahead = (2 * self.read_ahead).min(limits::READ_AHEAD_MAX);
        }
        self.start_anew();
        self.compact(self.read_ahead);
        let room = self.buffer.capacity() - self.buffer.len();
        let is_small = self.buffer.capacity() < self.read_ahead;
        if is_small || room < self.missing().min(self.read_ahead) {
            reserve(&mut self.buffer, self.read_ahead)?;
        }
        Ok(&mut self.buffer)
    }

    /// The same buffer as it is, to which bytes were added in place.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Opens the next record with bytes of the stream, unless some of the last one are left.
    /// Nothing of a record is given out before its tag was verified. A failure sticks.
    pub fn open(&mut self) -> Result<Opened> {
        self.check()?;
        if !self.plain.is_empty() {
            return Ok(Opened::Data);
        }
        let opened = self.next_record();
        opened.inspect_err(|error| {
            self.failed = Some(error.clone());
            self.fail();
        })
    }

    /// The bytes of the stream that were opened and not taken.
    pub fn opened(&self) -> &[u8] {
        &self.buffer[self.plain.clone()]
    }

    /// Takes `count` of the opened bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn take(&mut self, count: usize) {
        assert!(count <= self.plain.len(), "{count} of {} bytes", self.plain.len());
        self.plain.start += count;
    }

    /// Whether no byte is held that was not used, opened or not.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.start == self.buffer.len()
    }

    /// Call at the end of the stream, once [`open`](Self::open) found no more.
    pub fn finish(&self) -> Result<()> {
        self.check()?;
        if self.has_ended {
            return Ok(());
        }
        let left = self.buffer.len() - self.start;
        let detail = format!("the sealed stream was cut, {left} bytes into a record");
        Err(Error::new(ErrorKind::Truncated, detail))
    }

    /// Whether the peer ended the stream.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// How far the direction is used; `None` after a failure.
    pub fn used(&self) -> Option<Used> {
        self.direction.as_ref().map(Direction::used)
    }

    /// Frees the buffer if it is empty: for an idle stream.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.buffer = Vec::new();
            self.start = 0;
            self.plain = 0..0;
            self.read_ahead = limits::READ_AHEAD_MIN;
        }
    }

    /// Wipes the key and all bytes that are held: the session has failed.
    pub fn fail(&mut self) {
        self.direction = None;
        self.failed.get_or_insert_with(broken);
        self.buffer.zeroize();
        self.start = 0;
        self.plain = 0..0;
    }

    /// Opens the server's first record, which must be the client's CONFIRM.
    pub(super) fn confirm(&mut self) -> Result<()> {
        match self.next_raw()? {
            Some((kind::CONFIRM, body)) if body.is_empty() => Ok(()),
            _ => Err(failed("the client's first record is not its confirmation")),
        }
    }

    fn next_record(&mut self) -> Result<Opened> {
        loop {
            if self.has_ended {
                return match self.buffer.len() - self.start {
                    0 => Ok(Opened::End),
                    _ => Err(failed("bytes were received after the end of the stream")),
                };
            }
            let Some((kind, body)) = self.next_raw()? else { return Ok(Opened::More) };
            match kind {
                kind::DATA if !body.is_empty() => self.plain = body,
                kind::END if body.is_empty() => self.has_ended = true,
                kind::PADDED => self.plain = self.unpad(body)?,
                kind => {
                    let detail = format!("a record of kind {kind} with {} bytes", body.len());
                    return Err(Error::new(ErrorKind::Auth, detail));
                }
            }
            if !self.plain.is_empty() {
                return Ok(Opened::Data);
            }
        }
    }

    /// Decrypts the next record in place, if it is complete: its kind, and where its body is.
    fn next_raw(&mut self) -> Result<Option<(u8, Range<usize>)>> {
        let Some(direction) = &mut self.direction else { return Err(broken()) };
        let rest = &mut self.buffer[self.start..];
        let Some((length, rest)) = rest.split_first_chunk_mut::<LENGTH_SIZE>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some(text_len) = length.checked_sub(TAG_SIZE).filter(|len| *len > 0) else {
            return Err(Error::new(ErrorKind::Auth, format!("a record of {length} bytes")));
        };
        let Some(record) = rest.get_mut(..length) else { return Ok(None) };
        let (text, tag) = record.split_at_mut(text_len);
        let tag = tag.try_into().unwrap_or_else(|_| unreachable!("it has the size of a tag"));
        direction.open(text, tag)?;
        let (kind, body) = (text[0], self.start + LENGTH_SIZE + 1);
        self.start += LENGTH_SIZE + length;
        Ok(Some((kind, body..body + text_len - 1)))
    }

    /// Where the bytes of the stream are in the body of a padded record.
    fn unpad(&self, body: Range<usize>) -> Result<Range<usize>> {
        let start = body.start + LENGTH_SIZE;
        let bytes = &self.buffer[body.clone()];
        let len = bytes.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)));
        match len {
            Some(len) if len <= body.end - start => Ok(start..start + len),
            _ => Err(failed("a padded record has fewer bytes than it says")),
        }
    }

    /// Bytes that the next record still needs, as far as that is known.
    fn missing(&self) -> usize {
        let rest = &self.buffer[self.start..];
        let whole = rest
            .first_chunk()
            .map_or(LENGTH_SIZE, |len| LENGTH_SIZE + usize::from(u16::from_be_bytes(*len)));
        whole.saturating_sub(rest.len()).max(1)
    }

    /// Starts at the front again once everything was taken; a large buffer is freed.
    fn start_anew(&mut self) {
        if self.is_empty() {
            self.start = 0;
            self.plain = 0..0;
            self.buffer.clear();
            if self.buffer.capacity() > limits::BUFFER_KEPT {
                self.buffer = Vec::new();
            }
        }
    }

    /// Moves what is held to the front, if the room after it is less than `wanted`, and if the
    /// room in front is larger than that: so no byte is moved more than once, on average.
    fn compact(&mut self, wanted: usize) {
        let first = if self.plain.is_empty() { self.start } else { self.plain.start };
        let held = self.buffer.len() - first;
        if self.buffer.capacity() - self.buffer.len() < wanted && first >= held {
            self.buffer.copy_within(first.., 0);
            self.buffer.truncate(held);
            self.start -= first;
            // Empty or not, it stood in front.
            self.plain = 0..self.plain.len();
        }
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

/// Room for `more` bytes, and for later ones as well if the buffer has to move.
fn reserve(buffer: &mut Vec<u8>, more: usize) -> Result<()> {
    buffer
        .try_reserve(more)
        .map_err(|_| Error::new(ErrorKind::NoMemory, format!("{more} bytes more")))
}

fn broken() -> Error {
    failed("the sealed session has failed before")
}
