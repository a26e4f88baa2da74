//! One frame or packet on a raw descriptor, whole, and not a byte beyond it.

use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Frame, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, TimeLimit};
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
    /// For the whole call; `None` waits forever, zero does not wait.
    pub timeout: Option<Duration>,
    /// Bytes of header text.
    pub max_header: u64,
    /// Levels of nesting in a received header.
    pub max_depth: u32,
    /// Bytes of a body or a packet that is received into memory.
    pub max_body: u64,
    /// How the length of a packet is written; frames always use the default.
    pub prefix: PrefixFormat,
    /// May end the call before its timeout.
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
    /// The part of them for a decoder.
    pub fn limits(&self) -> Limits {
        let Options { max_header, max_depth, max_body, prefix, .. } = *self;
        Limits { max_header, max_depth, max_body, prefix }
    }

    fn deadline(&self) -> Deadline {
        Deadline::from_timeout(self.timeout)
    }

    fn source<'fd>(&self, fd: BorrowedFd<'fd>) -> Source<'fd> {
        let mut source = Source::new(fd, self.deadline());
        source.set_interrupt(self.interrupt.clone());
        source
    }

    fn sink<'fd>(&self, fd: BorrowedFd<'fd>, time_limit: impl Into<TimeLimit>) -> Sink<'fd> {
        let mut sink = Sink::new(fd, time_limit);
        sink.set_interrupt(self.interrupt.clone());
        sink
    }
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

/// As [`send_slices`], with a time that covers several calls.
pub(crate) fn send_by(
    fd: BorrowedFd<'_>,
    header: Option<&str>,
    slices: &[&[u8]],
    options: &Options,
    time_limit: TimeLimit,
) -> Result<()> {
    let body_len = slices.iter().map(|slice| slice.len() as u64).sum();
    let head = Head::new(header, body_len, options.max_header)?;
    let [start, keys] = head.pieces();
    let mut sink = options.sink(fd, time_limit);
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

/// Receives one frame into memory.
#[inline]
pub fn recv(fd: BorrowedFd<'_>, options: &Options) -> Result<Frame> {
    let mut source = options.source(fd);
    let header = recv_header(&mut source, options)?;
    let body = recv_body(&mut source, header.data_size().unwrap_or(0), options)?;
    Ok(Frame { header, body })
}

/// A message that was received into a buffer.
#[derive(Debug)]
pub enum Received {
    /// It is in the buffer: the header's text with a NUL after it, which is empty for a packet,
    /// and the body.
    InBuffer(Range<usize>, Range<usize>),
    /// It did not fit, and has memory of its own.
    Own(Message),
}

/// How a message that does not fit a buffer is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfLarge {
    /// It gets memory of its own, up to `max_body`.
    Own,
    /// It is [`ErrorKind::TooBig`], and the stream is out of sync.
    Refuse,
}

/// Receives one frame into `buf`. Nothing is allocated if it fits and its header has less than
/// 64 bytes.
pub fn recv_into(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    if_large: IfLarge,
    options: &Options,
) -> Result<Received> {
    let mut source = options.source(fd);
    let header = recv_header(&mut source, options)?;
    let text = header.text_with_nul();
    let start = text.len().next_multiple_of(BODY_ALIGNMENT);
    let len = header.data_size().unwrap_or(0);
    if let Some(place) = recv_in_place(&mut source, len, buf, start, if_large)? {
        buf[..text.len()].copy_from_slice(text);
        return Ok(Received::InBuffer(0..text.len(), place));
    }
    let body = recv_body(&mut source, len, options)?;
    Ok(Received::Own(Message { header: Some(header), body: body.into() }))
}

/// Sends one packet: the length and `data`.
pub fn send_packet(fd: BorrowedFd<'_>, data: &[u8], options: &Options) -> Result<()> {
    let prefix = options.prefix.encode(data.len() as u64)?;
    let prefix = IoSlice::new(&prefix[..options.prefix.width()]);
    options.sink(fd, options.deadline()).write_all_vectored(&mut [prefix, IoSlice::new(data)])
}

/// Receives one packet into memory.
pub fn recv_packet(fd: BorrowedFd<'_>, options: &Options) -> Result<Vec<u8>> {
    let mut source = options.source(fd);
    let len = recv_length(&mut source, options.prefix, options.max_body)?;
    recv_body(&mut source, len, options)
}

/// Receives one packet into `buf`.
pub fn recv_packet_into(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    if_large: IfLarge,
    options: &Options,
) -> Result<Received> {
    let mut source = options.source(fd);
    let len = recv_length(&mut source, options.prefix, u64::MAX)?;
    if let Some(place) = recv_in_place(&mut source, len, buf, 0, if_large)? {
        return Ok(Received::InBuffer(0..0, place));
    }
    let body = recv_body(&mut source, len, options)?;
    Ok(Received::Own(Message { header: None, body: body.into() }))
}

fn recv_header(source: &mut Source<'_>, options: &Options) -> Result<Header> {
    let mut prefix = [0; PREFIX_SIZE];
    source.read_exact(&mut prefix)?;
    let length = header_length(&prefix, options.max_header)?;
    if length < SHORT_TEXT {
        let mut text = [0; SHORT_TEXT];
        source.read_exact(&mut text[..length])?;
        return Header::parse_short(text, length, options.max_depth);
    }
    let mut text = Vec::new();
    if length < limits::FIRST_STEP {
        // With room for the NUL behind it: the memory is asked for once.
        reserve(&mut text, length + 1)?;
    }
    source.read_vec(&mut text, length as u64)?;
    Header::parse(text, options.max_depth)
}

fn recv_length(source: &mut Source<'_>, format: PrefixFormat, max: u64) -> Result<u64> {
    let mut prefix = [0; 8];
    let prefix = &mut prefix[..format.width()];
    source.read_exact(prefix)?;
    format.decode_within(prefix, max)
}

fn recv_body(source: &mut Source<'_>, len: u64, options: &Options) -> Result<Vec<u8>> {
    check_size(len, options.max_body)?;
    let mut body = Vec::new();
    source.read_vec(&mut body, len)?;
    Ok(body)
}

/// Receives a body at `start` in `buf`; `None` if it does not fit.
fn recv_in_place(
    source: &mut Source<'_>,
    len: u64,
    buf: &mut [u8],
    start: usize,
    if_large: IfLarge,
) -> Result<Option<Range<usize>>> {
    let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len));
    match end.filter(|end| *end <= buf.len()) {
        Some(end) => {
            source.read_exact(&mut buf[start..end])?;
            Ok(Some(start..end))
        }
        None if if_large == IfLarge::Own => Ok(None),
        None => {
            let detail = format!("a body of {len} bytes does not fit a buffer of {}", buf.len());
            Err(Error::new(ErrorKind::TooBig, detail))
        }
    }
}

/// Of a body behind its header in a buffer, as malloc(3) has it.
const BODY_ALIGNMENT: usize = 16;
