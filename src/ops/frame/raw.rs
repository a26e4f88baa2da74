//! Frames and packets over descriptors, whole or with the body in pieces.

use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Patience};
use crate::io::stream::aligned::reserve_aligned;
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::wire::frame::decoder::Limits;
use crate::wire::frame::head::{Head, PREFIX_SIZE};
use crate::wire::frame::packet::{PrefixFormat, check_size, header_length};
use crate::wire::json::header::{Header, SHORT_TEXT};
use crate::wire::memory::reserve;

/// How frames and packets are sent and received.
#[derive(Clone, Debug)]
pub struct Options {
    /// For the whole call; `None` waits for ever, zero does not wait.
    pub timeout: Option<Duration>,
    /// Bytes of header text.
    pub max_header: u64,
    /// Levels of nesting in a received header.
    pub max_depth: u32,
    /// Bytes of a body or a packet that is received into memory.
    pub max_body: u64,
    /// How the length of a packet is written; frames always use the default.
    pub prefix: PrefixFormat,
    /// What ends the call besides its timeout.
    pub interrupt: Option<Arc<Interrupt>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            timeout: None,
            max_header: limits::MAX_HEADER,
            max_depth: limits::MAX_DEPTH,
            max_body: limits::MAX_BODY,
            prefix: PrefixFormat::default(),
            interrupt: None,
        }
    }
}

impl Options {
    /// What a decoder has to know of them.
    pub fn limits(&self) -> Limits {
        let Options { max_header, max_depth, max_body, prefix, .. } = *self;
        Limits { max_header, max_depth, max_body, prefix }
    }

    fn deadline(&self) -> Deadline {
        Deadline::from_timeout(self.timeout)
    }

    fn source<'fd>(&self, fd: BorrowedFd<'fd>, deadline: Deadline) -> Source<'fd> {
        let mut source = Source::new(fd, deadline);
        source.set_interrupt(self.interrupt.clone());
        source
    }

    fn sink<'fd>(&self, fd: BorrowedFd<'fd>, patience: impl Into<Patience>) -> Sink<'fd> {
        let mut sink = Sink::new(fd, patience);
        sink.set_interrupt(self.interrupt.clone());
        sink
    }
}

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// The body.
    pub body: Vec<u8>,
}

/// A message that a connection has received.
#[derive(Debug)]
pub struct Message {
    /// The header; `None` for a packet.
    pub header: Option<Header>,
    /// The body, or the bytes of a packet.
    pub body: Vec<u8>,
}

/// Sends one frame: `header`, a JSON object without `data_size` or nothing, and `body`.
/// A socket that has room takes it in one system call.
#[inline]
pub fn send(
    fd: BorrowedFd<'_>,
    header: Option<&str>,
    body: &[u8],
    options: &Options,
) -> Result<()> {
    send_slices(fd, header, &[body], options)
}

/// Sends one frame whose body is `slices`, one after the other.
pub fn send_slices(
    fd: BorrowedFd<'_>,
    header: Option<&str>,
    slices: &[&[u8]],
    options: &Options,
) -> Result<()> {
    send_by(fd, header, slices, options, options.deadline().into())
}

/// As [`send_slices`], where the time is not for this call alone.
pub(crate) fn send_by(
    fd: BorrowedFd<'_>,
    header: Option<&str>,
    slices: &[&[u8]],
    options: &Options,
    patience: Patience,
) -> Result<()> {
    let body_len = slices.iter().map(|slice| slice.len() as u64).sum();
    let head = Head::new(header, body_len, options.max_header)?;
    let [start, keys] = head.pieces();
    let mut sink = options.sink(fd, patience);
    if head.len() as u64 + body_len <= FLAT as u64 {
        let mut flat = [0; FLAT];
        let mut end = 0;
        for piece in [start, keys].iter().chain(slices) {
            flat[end..end + piece.len()].copy_from_slice(piece);
            end += piece.len();
        }
        return sink.write_all(&flat[..end]);
    }
    if let [body] = slices {
        return sink.write_all_vectored(&mut [start, keys, body].map(IoSlice::new));
    }
    let mut pieces = vec![IoSlice::new(start), IoSlice::new(keys)];
    pieces.extend(slices.iter().map(|slice| IoSlice::new(slice)));
    sink.write_all_vectored(&mut pieces)
}

/// A frame up to this size is sent in one piece: the kernel takes a sixth longer for three
/// than the copy does.
const FLAT: usize = 2048;

/// Sends the header of a frame whose body of `body_len` bytes the returned writer sends.
pub fn send_header<'fd>(
    fd: BorrowedFd<'fd>,
    header: Option<&str>,
    body_len: u64,
    options: &Options,
) -> Result<BodyWriter<'fd>> {
    send_header_by(fd, header, body_len, options, options.deadline().into())
}

/// As [`send_header`], where the time is not for this call alone.
pub(crate) fn send_header_by<'fd>(
    fd: BorrowedFd<'fd>,
    header: Option<&str>,
    body_len: u64,
    options: &Options,
    patience: Patience,
) -> Result<BodyWriter<'fd>> {
    let head = Head::new(header, body_len, options.max_header)?;
    let mut sink = options.sink(fd, patience);
    sink.write_all_vectored(&mut head.pieces().map(IoSlice::new))?;
    Ok(BodyWriter { sink, left: body_len, broken: false })
}

/// Receives one frame into memory.
#[inline]
pub fn recv(fd: BorrowedFd<'_>, options: &Options) -> Result<Frame> {
    let deadline = options.deadline();
    let (header, mut body) = recv_header_by(fd, options, deadline)?;
    let body = body.read_all_by(options.max_body, deadline)?;
    Ok(Frame { header, body })
}

/// Receives the header of one frame; its body, of any size, stays in the stream for the
/// returned reader.
pub fn recv_header<'fd>(
    fd: BorrowedFd<'fd>,
    options: &Options,
) -> Result<(Header, BodyReader<'fd>)> {
    recv_header_by(fd, options, options.deadline())
}

/// A message that was received into a buffer.
#[derive(Debug)]
pub enum Received {
    /// It is in the buffer: the header's text with a NUL behind it, which is empty for a packet,
    /// and the body.
    InBuffer(Range<usize>, Range<usize>),
    /// It did not fit, and has memory of its own.
    Own(Message),
}

/// What becomes of a message that does not fit a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfLarge {
    /// It gets memory of its own, up to `max_body`.
    Own,
    /// It is [`ErrorKind::TooBig`], and the stream is out of sync.
    Refuse,
}

/// Receives one frame into `buf`. No memory is asked for if it fits and its header has less
/// than 64 bytes.
pub fn recv_into(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    if_large: IfLarge,
    options: &Options,
) -> Result<Received> {
    let (header, body) = recv_header(fd, options)?;
    let text = header.text_with_nul();
    let text_len = text.len();
    let start = text_len.next_multiple_of(BODY_ALIGNMENT);
    match body.into_buffer(buf, start, if_large, options)? {
        Ok(place) => {
            buf[..text_len].copy_from_slice(text);
            Ok(Received::InBuffer(0..text_len, place))
        }
        Err(body) => Ok(Received::Own(Message { header: Some(header), body })),
    }
}

/// Sends one packet: the length and `data`.
pub fn send_packet(fd: BorrowedFd<'_>, data: &[u8], options: &Options) -> Result<()> {
    let prefix = options.prefix.encode(data.len() as u64)?;
    let prefix = IoSlice::new(&prefix[..options.prefix.width()]);
    options.sink(fd, options.deadline()).write_all_vectored(&mut [prefix, IoSlice::new(data)])
}

/// Receives one packet into memory.
pub fn recv_packet(fd: BorrowedFd<'_>, options: &Options) -> Result<Vec<u8>> {
    let (max, deadline) = (options.max_body, options.deadline());
    recv_packet_length_by(fd, options, max, deadline)?.read_all_by(max, deadline)
}

/// Receives one packet into `buf`.
pub fn recv_packet_into(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    if_large: IfLarge,
    options: &Options,
) -> Result<Received> {
    let body = recv_packet_length(fd, options)?;
    match body.into_buffer(buf, 0, if_large, options)? {
        Ok(place) => Ok(Received::InBuffer(0..0, place)),
        Err(body) => Ok(Received::Own(Message { header: None, body })),
    }
}

/// Receives the length of one packet; its bytes stay in the stream for the returned
/// reader.
pub fn recv_packet_length<'fd>(fd: BorrowedFd<'fd>, options: &Options) -> Result<BodyReader<'fd>> {
    recv_packet_length_by(fd, options, u64::MAX, options.deadline())
}

/// The rest of a body that is still in the stream, and the count of what is left of it.
/// Nothing can be read beyond its end. The count stays right whatever fails, so after a
/// timeout, or when the destination failed, the rest can still be read or skipped.
#[derive(Debug)]
pub struct BodyReader<'fd> {
    source: Source<'fd>,
    left: u64,
}

impl<'fd> BodyReader<'fd> {
    /// The next `left` bytes of `fd`.
    pub(crate) fn new(fd: BorrowedFd<'fd>, left: u64) -> BodyReader<'fd> {
        BodyReader { source: Source::new(fd, Deadline::NEVER), left }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Reads 1 to `buf.len()` bytes as they come; 0 is the body's end.
    pub fn read(&mut self, buf: &mut [u8], timeout: Option<Duration>) -> Result<usize> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if len == 0 {
            return Ok(0);
        }
        self.set_patience(Patience::whole(timeout));
        let got = self.source.read(&mut buf[..len])?;
        self.took(got)
    }

    /// The rest of the body in memory, if it is at most `max` bytes; where it is more,
    /// nothing is consumed.
    pub fn read_all(&mut self, max: u64, timeout: Option<Duration>) -> Result<Vec<u8>> {
        self.read_all_by(max, Deadline::from_timeout(timeout))
    }

    /// Copies the rest of the body to `to`.
    pub fn copy_to(&mut self, to: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<()> {
        let patience = Patience::whole(timeout);
        let mut sink = Sink::new(to, patience);
        sink.set_mid_message(true);
        self.for_each_chunk(limits::COPY_STEP, patience, |chunk| sink.write_all(chunk))
    }

    /// Reads the rest of the body and drops it.
    pub fn skip(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.skip_by(Patience::whole(timeout))
    }

    /// Hands the rest of the body to `take`, at most `step` bytes at a time.
    pub(crate) fn for_each_chunk(
        &mut self,
        step: usize,
        patience: Patience,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let step = usize::try_from(self.left).unwrap_or(usize::MAX).min(step);
        let mut chunk = Vec::new();
        let start = reserve_aligned(&mut chunk, step)?;
        while self.left > 0 {
            chunk.truncate(start);
            self.set_patience(patience);
            let got = self.source.read_more(&mut chunk, self.left.min(step as u64))?;
            self.took(got)?;
            take(&chunk[start..])?;
        }
        Ok(())
    }

    /// As [`read_all`](Self::read_all), where the time is not for this call alone.
    pub(crate) fn read_all_by(&mut self, max: u64, deadline: Deadline) -> Result<Vec<u8>> {
        check_size(self.left, max)?;
        self.read_front_by(self.left, deadline)
    }

    /// The next `len` bytes of the body in memory, no more than there are.
    fn read_front_by(&mut self, len: u64, deadline: Deadline) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.source.set_deadline(deadline);
        self.source.set_mid_message(true);
        let outcome = self.source.read_vec(&mut out, len.min(self.left));
        self.left -= out.len() as u64;
        outcome.map(|()| out)
    }

    /// Reads all of the body to `start` in `buf`, or into memory of its own if it does not fit.
    fn into_buffer(
        mut self,
        buf: &mut [u8],
        start: usize,
        if_large: IfLarge,
        options: &Options,
    ) -> Result<std::result::Result<Range<usize>, Vec<u8>>> {
        let room = buf.len().checked_sub(start).map_or(0, |room| room as u64 + 1);
        if self.left < room {
            #[expect(clippy::cast_possible_truncation, reason = "no more than there is room for")]
            let end = start + self.left as usize;
            self.source.read_exact(&mut buf[start..end])?;
            return Ok(Ok(start..end));
        }
        if if_large == IfLarge::Refuse {
            let (left, cap) = (self.left, buf.len());
            let detail = format!("a body of {left} bytes does not fit a buffer of {cap}");
            return Err(Error::new(ErrorKind::TooBig, detail));
        }
        check_size(self.left, options.max_body)?;
        let mut body = Vec::new();
        self.source.read_vec(&mut body, self.left)?;
        Ok(Err(body))
    }

    fn skip_by(&mut self, patience: Patience) -> Result<()> {
        self.for_each_chunk(limits::GROW_STEP, patience, |_| Ok(()))
    }

    /// A timeout between two reads loses nothing here, so it is not a stall.
    fn set_patience(&mut self, patience: Patience) {
        self.source.set_deadline(patience.next());
        self.source.set_mid_message(false);
    }

    fn took(&mut self, got: usize) -> Result<usize> {
        if got == 0 {
            let left = self.left;
            return Err(Error::new(
                ErrorKind::Truncated,
                format!("{left} bytes of it are missing"),
            ));
        }
        self.left -= got as u64;
        Ok(got)
    }
}

/// The body of a frame that is being sent in pieces, and the count of what it still
/// needs. A body that is not sent whole leaves the stream out of step.
#[derive(Debug)]
pub struct BodyWriter<'fd> {
    sink: Sink<'fd>,
    left: u64,
    broken: bool,
}

impl BodyWriter<'_> {
    /// Bytes the body still needs.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Sends all of `piece`. One that is longer than what the body needs is refused, and
    /// nothing of it is sent.
    pub fn write(&mut self, piece: &[u8], timeout: Option<Duration>) -> Result<()> {
        self.write_by(piece, Patience::whole(timeout))
    }

    /// Sends the next `len` bytes that `from` gives; fewer than that is
    /// [`ErrorKind::Truncated`]. [`ErrorKind::TimedOut`] says that `from` gave nothing in
    /// time, and that all it gave before was sent.
    pub fn copy_from(
        &mut self,
        from: BorrowedFd<'_>,
        len: u64,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.check(len)?;
        let patience = Patience::whole(timeout);
        BodyReader::new(from, len).for_each_chunk(limits::COPY_STEP, patience, |chunk| {
            self.write_by(chunk, patience).map_err(|error| {
                // `from` will not give the chunk again.
                self.broken = true;
                match error.kind() {
                    ErrorKind::TimedOut => {
                        Error::new(ErrorKind::Stalled, error.detail().to_owned())
                    }
                    _ => error,
                }
            })
        })
    }

    /// Ends the frame: an error if the body was not sent whole.
    pub fn finish(&self) -> Result<()> {
        self.check(0)?;
        if self.left > 0 {
            return Err(Error::new(
                ErrorKind::State,
                format!("{} bytes of the body were not sent", self.left),
            ));
        }
        Ok(())
    }

    /// As [`write`](Self::write), where the time is not for this call alone.
    pub(crate) fn write_by(&mut self, piece: &[u8], patience: Patience) -> Result<()> {
        self.check(piece.len() as u64)?;
        self.sink.set_patience(patience);
        self.sink.set_mid_message(false);
        match self.sink.write_all(piece) {
            Ok(()) => {
                self.left -= piece.len() as u64;
                Ok(())
            }
            // Nothing went out, so the same piece can be sent again.
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(error),
            Err(error) => {
                self.broken = true;
                Err(error)
            }
        }
    }

    fn check(&self, more: u64) -> Result<()> {
        if self.broken {
            return Err(Error::new(ErrorKind::State, "a part of the body failed before"));
        }
        if more > self.left {
            return Err(Error::new(
                ErrorKind::Argument,
                format!("{more} bytes, but the body needs only {}", self.left),
            ));
        }
        Ok(())
    }
}

/// Of a body behind its header in a buffer, as malloc(3) has it.
const BODY_ALIGNMENT: usize = 16;

/// As [`recv_header`], where the time is not for this call alone.
pub(crate) fn recv_header_by<'fd>(
    fd: BorrowedFd<'fd>,
    options: &Options,
    deadline: Deadline,
) -> Result<(Header, BodyReader<'fd>)> {
    let mut source = options.source(fd, deadline);
    let mut prefix = [0; PREFIX_SIZE];
    source.read_exact(&mut prefix)?;
    let length = header_length(&prefix, options.max_header)?;
    let header = if length < SHORT_TEXT {
        let mut text = [0; SHORT_TEXT];
        source.read_exact(&mut text[..length])?;
        Header::parse_short(text, length, options.max_depth)?
    } else {
        let mut text = Vec::new();
        if length < limits::FIRST_STEP {
            // With room for the NUL behind it: the memory is asked for once.
            reserve(&mut text, length + 1)?;
        }
        source.read_vec(&mut text, length as u64)?;
        Header::parse(text, options.max_depth)?
    };
    let left = header.data_size().unwrap_or(0);
    Ok((header, BodyReader { source, left }))
}

fn recv_packet_length_by<'fd>(
    fd: BorrowedFd<'fd>,
    options: &Options,
    max: u64,
    deadline: Deadline,
) -> Result<BodyReader<'fd>> {
    let mut source = options.source(fd, deadline);
    let left = recv_length(&mut source, options.prefix, max)?;
    Ok(BodyReader { source, left })
}

fn recv_length(source: &mut Source<'_>, format: PrefixFormat, max: u64) -> Result<u64> {
    let mut prefix = [0; 8];
    let prefix = &mut prefix[..format.width()];
    source.read_exact(prefix)?;
    format.decode_within(prefix, max)
}
