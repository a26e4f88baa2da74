//! Finds frames and packets in the bytes that it is fed, without a descriptor, a clock or a
//! wait.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::frame::head::PREFIX_SIZE;
use crate::wire::frame::packet::{PrefixFormat, check_size, header_length};
use crate::wire::json::header::Known;
use crate::wire::memory::{copy, reserve, reserve_step};

/// Limits of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of header text.
    pub max_header: u64,
    /// Levels of nesting in a header.
    pub max_depth: u32,
    /// The largest body or packet that is received into memory, in bytes.
    pub max_body: u64,
    /// How the length of a packet is written; frames always use the default.
    pub prefix: PrefixFormat,
}

/// One direction of a stream: the bytes that were received and not taken yet. An error of the
/// stream sticks, because the start of the next message is then unknown.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// The received bytes. Memory grows with them, never with a declared size.
    buffer: Vec<u8>,
    /// The start of the bytes in the buffer that were not taken.
    start: usize,
    /// The head of the frame that begins there, if it was read and the body is not complete.
    head: Option<Head>,
    /// Bytes of the message that begins there, if more than the received ones are known to be
    /// needed; otherwise 0.
    expected: u64,
    /// Bytes of a streamed body that were not taken yet.
    left: u64,
    /// The size of the next read: larger if reads fill the buffer.
    read_ahead: usize,
    /// Bytes of the last message: the next one often has the same size.
    last_len: usize,
    failed: Option<Error>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    header_len: usize,
    known: Known,
}

impl Head {
    fn body_len(self) -> u64 {
        self.known.data_size.unwrap_or(0)
    }
}

/// The position of a frame or a packet in a decoder's buffer, valid until more is fed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    /// With the NUL after it; empty for a packet.
    pub(crate) header: Range<usize>,
    pub(crate) body: Range<usize>,
}

/// A frame or a packet in a decoder's buffer.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    header: &'a [u8],
    body: &'a [u8],
}

impl<'a> FrameView<'a> {
    /// The JSON text of the header; empty for a packet.
    pub fn header(&self) -> &'a str {
        let text = self.header.strip_suffix(b"\0").unwrap_or_default();
        // Checked when it was read; the fallback is never taken.
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// The body, or the bytes of a packet.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}

impl Decoder {
    /// A decoder for a stream that is at the start of a message.
    pub fn new(limits: Limits) -> Decoder {
        let read_ahead = limits::READ_AHEAD_MIN;
        Decoder {
            limits,
            buffer: Vec::new(),
            start: 0,
            head: None,
            expected: 0,
            left: 0,
            read_ahead,
            last_len: 0,
            failed: None,
        }
    }

    /// Adds the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        self.append(bytes)
    }

    /// As [`feed`](Self::feed), also after an error that sticks: [`rest`](Self::rest) then has
    /// all received bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.start_anew();
        self.compact(bytes.len());
        let room = self.buffer.capacity() - self.buffer.len();
        if room < bytes.len() {
            // Doubling, so that the buffer is not moved for each of many small pieces.
            let step = bytes.len().max(self.buffer.len());
            reserve(&mut self.buffer, step)?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next frame, if all of it was fed. One above `max_body` fails as soon as its header
    /// was fed.
    pub fn next_frame(&mut self) -> Result<Option<FrameView<'_>>> {
        Ok(self.next_frame_span()?.map(|span| self.view(&span)))
    }

    /// The next packet, if all of it was fed.
    pub fn next_packet(&mut self) -> Result<Option<FrameView<'_>>> {
        Ok(self.next_packet_span()?.map(|span| self.view(&span)))
    }

    /// The header of the next frame, if all of it was fed. The body, of any size, is then
    /// taken with [`body`](Self::body) until [`left`](Self::left) is 0.
    pub fn next_header(&mut self) -> Result<Option<FrameView<'_>>> {
        Ok(self.next_header_span()?.map(|span| self.view(&span)))
    }

    /// Takes at most `max` fed bytes of a streamed body.
    pub fn body(&mut self, max: usize) -> &[u8] {
        let range = self.body_span(max);
        &self.buffer[range]
    }

    /// Bytes of a streamed body that were not taken yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The bytes that were fed and not taken, for code that continues with the stream.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Drops the bytes that were fed and not taken; returns their number.
    pub(crate) fn drop_rest(&mut self) -> usize {
        let dropped = self.rest().len();
        self.start = self.buffer.len();
        dropped
    }

    /// Call at the end of the stream. Between two messages it returns [`ErrorKind::Closed`],
    /// otherwise [`ErrorKind::Truncated`].
    pub fn end(&mut self) -> Error {
        if let Err(failed) = self.check() {
            return failed;
        }
        let came = self.rest().len() as u64;
        if came == 0 && self.left == 0 {
            return Error::new(ErrorKind::Closed, "");
        }
        let missing = if self.left > came {
            format!("{} bytes of it are missing", self.left - came)
        } else {
            format!("{came} of at least {} bytes were received", self.expected.max(came + 1))
        };
        self.fail(Error::new(ErrorKind::Truncated, missing))
    }

    /// The buffer with room at its end, at least one byte. The room is a good size for a read,
    /// or the rest of the current message if that is not more than was received already. After
    /// appending call [`fed`](Self::fed).
    pub(crate) fn space(&mut self) -> Result<&mut Vec<u8>> {
        self.check()?;
        self.start_anew();
        let came = self.rest().len();
        let missing = self.expected.saturating_sub(came as u64).max(1);
        let wanted = missing.max(self.read_ahead as u64);
        self.compact(usize::try_from(wanted).unwrap_or(usize::MAX));
        let room = self.buffer.capacity() - self.buffer.len();
        if missing > room as u64 || self.buffer.capacity() < self.read_ahead {
            let first = self.last_len.min(limits::FIRST_STEP).max(self.read_ahead);
            reserve_step(&mut self.buffer, first, came, wanted)?;
        }
        Ok(&mut self.buffer)
    }

    /// The number of bytes that the current message still needs, as far as that is known: none
    /// of them belongs to the next one. `width` is that of the prefix.
    pub(crate) fn missing(&self, width: usize) -> u64 {
        let came = self.rest().len() as u64;
        let known = match self.left {
            0 if self.expected > 0 => self.expected,
            0 => width as u64,
            left => left,
        };
        known.saturating_sub(came).max(1)
    }

    /// Gives the buffer away if it is empty: for an idle stream.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        if self.start < self.buffer.len() {
            return Vec::new();
        }
        self.start = 0;
        self.buffer.clear();
        std::mem::take(&mut self.buffer)
    }

    /// Uses this buffer, which is empty, unless it has one.
    pub(crate) fn adopt(&mut self, buffer: Vec<u8>) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffer;
        }
    }

    /// Takes the next `len` bytes, which are not a message, if all were fed.
    pub(crate) fn raw_span(&mut self, len: usize) -> Result<Option<Range<usize>>> {
        self.check_between()?;
        if self.rest().len() < len {
            self.expected = len as u64;
            return Ok(None);
        }
        self.expected = 0;
        self.start += len;
        Ok(Some(self.start - len..self.start))
    }

    /// The text of the next header, if all of it was fed, without taking it.
    pub(crate) fn peek_header(&mut self) -> Result<Option<&[u8]>> {
        Ok(self.peek()?.map(|(text, _)| text))
    }

    /// The same with what is known of it.
    pub(crate) fn peek(&mut self) -> Result<Option<(&[u8], Known)>> {
        let head = self.read_head()?;
        self.head = head;
        let text = self.start + PREFIX_SIZE;
        Ok(head.map(|head| (&self.buffer[text..text + head.header_len], head.known)))
    }

    /// Treats the next `len` bytes as a streamed body, although the last header declares none.
    pub(crate) fn expect_body(&mut self, len: u64) {
        debug_assert!(self.left == 0);
        self.left = len;
    }

    /// The bytes of a streamed body that were fed and not taken.
    pub(crate) fn body_there(&self) -> &[u8] {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let rest = self.rest();
        &rest[..rest.len().min(left)]
    }

    /// Records that `count` bytes were written into the `room`.
    pub(crate) fn fed(&mut self, count: usize, room: usize) {
        if count == room {
            self.read_ahead = (2 * self.read_ahead).min(limits::READ_AHEAD_MAX);
        }
    }

    /// Counts `count` bytes of a streamed body that were read without the buffer, which is
    /// empty.
    pub(crate) fn passed_by(&mut self, count: usize) {
        debug_assert!(self.rest().is_empty());
        self.left -= count as u64;
    }

    pub(crate) fn view(&self, span: &Span) -> FrameView<'_> {
        FrameView {
            header: &self.buffer[span.header.clone()],
            body: &self.buffer[span.body.clone()],
        }
    }

    /// The memory that spans refer to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Gives away the buffer if the large message at `span`, which was taken last, is most of
    /// it. The bytes behind it get a new buffer.
    pub(crate) fn take_buffer(&mut self, span: &Span) -> Result<Option<Vec<u8>>> {
        let len = span.body.len();
        if len < limits::OWN_BUFFER || len < self.buffer.capacity() / 2 {
            return Ok(None);
        }
        let behind = copy(self.rest(), 0)?;
        let mut taken = std::mem::replace(&mut self.buffer, behind);
        taken.truncate(span.body.end);
        self.start = 0;
        Ok(Some(taken))
    }

    #[inline]
    pub(crate) fn next_frame_span(&mut self) -> Result<Option<Span>> {
        let Some(head) = self.read_head()? else { return Ok(None) };
        check_size(head.body_len(), self.limits.max_body).map_err(|error| self.fail(error))?;
        let head_len = PREFIX_SIZE + head.header_len;
        let Some(body) = self.body_behind(head_len, head.body_len()) else {
            self.head = Some(head);
            return Ok(None);
        };
        let header = self.take_header(head);
        self.start = body.end;
        Ok(Some(Span { header, body }))
    }

    pub(crate) fn next_packet_span(&mut self) -> Result<Option<Span>> {
        self.check_between()?;
        // A part of it may have been taken for the head of a frame.
        (self.head, self.expected) = (None, 0);
        let Some(body_len) = self.packet_length()? else { return Ok(None) };
        let width = self.limits.prefix.width();
        let Some(body) = self.body_behind(width, body_len) else { return Ok(None) };
        self.start = body.end;
        Ok(Some(Span { header: 0..0, body }))
    }

    pub(crate) fn next_header_span(&mut self) -> Result<Option<Span>> {
        let Some(head) = self.read_head()? else { return Ok(None) };
        let header = self.take_header(head);
        self.start += PREFIX_SIZE + head.header_len;
        self.left = head.body_len();
        Ok(Some(Span { header, body: 0..0 }))
    }

    pub(crate) fn body_span(&mut self, max: usize) -> Range<usize> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = self.rest().len().min(left).min(max);
        self.start += len;
        self.left -= len as u64;
        self.start - len..self.start
    }

    /// The head of the next frame, if all of it was fed.
    #[inline]
    fn read_head(&mut self) -> Result<Option<Head>> {
        self.check_between()?;
        if self.head.is_some() {
            return Ok(self.head);
        }
        let rest = &self.buffer[self.start..];
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX_SIZE>() else { return Ok(None) };
        let head = header_length(prefix, self.limits.max_header).and_then(|header_len| {
            let Some(text) = rest.get(..header_len) else {
                self.expected = (PREFIX_SIZE + header_len) as u64;
                return Ok(None);
            };
            let known = Known::read(text, self.limits.max_depth)?;
            Ok(Some(Head { header_len, known }))
        });
        head.map_err(|error| self.fail(error))
    }

    /// Ends the header's text with a NUL. The text moves over the prefix, which is no longer
    /// needed.
    #[inline]
    fn take_header(&mut self, Head { header_len, .. }: Head) -> Range<usize> {
        (self.head, self.expected) = (None, 0);
        let text = self.start + PREFIX_SIZE;
        self.buffer.copy_within(text..text + header_len, text - 1);
        self.buffer[text + header_len - 1] = 0;
        text - 1..text + header_len
    }

    /// The length of the packet that begins the rest, if it was fed.
    fn packet_length(&mut self) -> Result<Option<u64>> {
        let Limits { prefix, max_body, .. } = self.limits;
        let Some(bytes) = self.rest().get(..prefix.width()) else { return Ok(None) };
        let length = prefix.decode_within(bytes, max_body);
        length.map(Some).map_err(|error| self.fail(error))
    }

    /// The position of the body that begins `head_len` bytes into the rest, if all of it was
    /// fed.
    #[inline]
    fn body_behind(&mut self, head_len: usize, body_len: u64) -> Option<Range<usize>> {
        let start = self.start + head_len;
        if ((self.buffer.len() - start) as u64) < body_len {
            self.expected = body_len.saturating_add(head_len as u64);
            return None;
        }
        self.expected = 0;
        #[expect(clippy::cast_possible_truncation, reason = "no more than the buffer has")]
        let body_len = body_len as usize;
        self.last_len = head_len + body_len;
        Some(start..start + body_len)
    }

    /// Starts at the front again once everything was taken; a large buffer is freed.
    fn start_anew(&mut self) {
        if self.start == self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
            if self.buffer.capacity() > limits::BUFFER_KEPT {
                self.buffer = Vec::new();
            }
        }
    }

    /// Moves the bytes that were not taken to the front, if the room after them is less than
    /// `wanted`, and if the room in front is larger than these bytes.
    fn compact(&mut self, wanted: usize) {
        let came = self.buffer.len() - self.start;
        if self.buffer.capacity() - self.buffer.len() < wanted && self.start >= came {
            self.buffer.copy_within(self.start.., 0);
            self.buffer.truncate(came);
            self.start = 0;
        }
    }

    /// Whether it is between two messages, and nothing of the next one was fed.
    pub(crate) fn is_between(&self) -> bool {
        self.check_between().is_ok() && self.rest().is_empty()
    }

    #[inline]
    fn check_between(&self) -> Result<()> {
        if self.failed.is_some() || self.left > 0 {
            self.check()?;
            let left = self.left;
            return Err(Error::new(ErrorKind::State, format!("{left} bytes of a body are left")));
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failed = Some(error.clone());
        error
    }
}
