//! Frames in both directions of a connection at once: what is to be sent goes as far as it
//! is taken, what is received comes as far as it is there, and neither waits.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::io::deadline::Deadline;
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::limits;
use crate::ops::frame::{BodyReader, Options};
use crate::wire::frame::head::{Head, PREFIX_SIZE};
use crate::wire::frame::packet::header_length;
use crate::wire::json::header::Header;
use crate::wire::memory::reserve;

/// Frames on their way out: one with a body at most, and a few without.
#[derive(Debug)]
pub(crate) struct Outbox<'fd> {
    sink: Sink<'fd>,
    /// In the order of the wire. The middle one is the body; the others are whole frames,
    /// and the first ends in the body's head.
    parts: [Vec<u8>; 3],
    /// Bytes of them that went out.
    sent: usize,
    /// The frame that the first of them belong to has begun to go out.
    has_begun: bool,
    /// A write has failed: all that is put in from then on is dropped.
    is_broken: bool,
}

impl<'fd> Outbox<'fd> {
    pub(crate) fn new(fd: BorrowedFd<'fd>) -> Outbox<'fd> {
        let sink = Sink::new(fd, Deadline::NEVER);
        Outbox { sink, parts: Default::default(), sent: 0, has_begun: false, is_broken: false }
    }

    /// Whether all has gone out.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.iter().all(Vec::is_empty)
    }

    /// Whether the next frame with a body can be put in.
    pub(crate) fn takes_body(&self) -> bool {
        !self.is_broken && self.parts[BODY].is_empty()
    }

    /// Whether a frame without a body can be put in: the other end decides how fast they
    /// go out, and must not decide how many there are.
    pub(crate) fn takes_control(&self) -> bool {
        !self.is_broken && self.parts[HEAD].len() + self.parts[TAIL].len() < CONTROL_ROOM
    }

    /// Puts in a frame without a body.
    pub(crate) fn put(&mut self, header: &str) -> Result<()> {
        let head = Head::new(Some(header), 0, limits::MAX_HEADER)?;
        let at = if self.parts[BODY].is_empty() { HEAD } else { TAIL };
        if !self.is_broken {
            head.append_to(&mut self.parts[at]);
        }
        Ok(())
    }

    /// Puts in a frame with a body, if [`takes_body`](Self::takes_body), and sends what is
    /// taken of it at once. The rest stays here, and `body` is then another, empty buffer.
    pub(crate) fn send(&mut self, header: &str, body: &mut Vec<u8>) -> Result<()> {
        let head = Head::new(Some(header), body.len() as u64, limits::MAX_HEADER)?;
        if self.is_broken {
            return Ok(());
        }
        head.append_to(&mut self.parts[HEAD]);
        std::mem::swap(&mut self.parts[BODY], body);
        let flushed = self.flush();
        if self.parts[BODY].is_empty() {
            std::mem::swap(&mut self.parts[BODY], body);
        }
        flushed.map(|_| ())
    }

    /// Puts in the rest of a frame that has begun to go out.
    pub(crate) fn put_rest(&mut self, body: Vec<u8>) {
        self.parts[BODY] = body;
        self.has_begun = true;
    }

    /// Sends what is taken; returns the count of bytes. After an error nothing is left.
    pub(crate) fn flush(&mut self) -> Result<usize> {
        let mut total = 0;
        while !self.is_empty() {
            let mut slices = [HEAD, BODY, TAIL].map(|part| IoSlice::new(&self.parts[part]));
            let mut rest = &mut slices[..];
            IoSlice::advance_slices(&mut rest, self.sent);
            match self.sink.try_write(rest) {
                Ok(None) => break,
                Ok(Some(sent)) => {
                    total += sent;
                    self.sent += sent;
                    self.has_begun = true;
                }
                Err(error) => {
                    self.give_up();
                    return Err(error);
                }
            }
            if self.sent == self.parts.iter().map(Vec::len).sum::<usize>() {
                self.clear();
            }
        }
        Ok(total)
    }

    /// Drops what has not begun to go out. What has is needed: the stream would be out of
    /// step without its end.
    pub(crate) fn drop_unsent(&mut self) {
        if !self.has_begun {
            self.clear();
        } else if self.sent < self.parts[HEAD].len() + self.parts[BODY].len() {
            self.parts[TAIL].clear();
        }
    }

    /// Nothing more goes out.
    pub(crate) fn give_up(&mut self) {
        self.is_broken = true;
        self.clear();
    }

    /// The buffers stay: the next frame is put in them.
    fn clear(&mut self) {
        self.parts.iter_mut().for_each(Vec::clear);
        self.sent = 0;
        self.has_begun = false;
    }
}

/// Headers of frames on their way in. Their bodies are read by the caller, each to its end
/// before the next header.
#[derive(Debug)]
pub(crate) struct Inbox<'fd> {
    fd: BorrowedFd<'fd>,
    source: Source<'fd>,
    options: Options,
    /// The prefix of a frame, or its header once the prefix has said how long it is, as far
    /// as they came.
    part: Vec<u8>,
    length: Option<usize>,
}

impl<'fd> Inbox<'fd> {
    pub(crate) fn new(fd: BorrowedFd<'fd>) -> Inbox<'fd> {
        let source = Source::new(fd, Deadline::NEVER);
        Inbox { fd, source, options: Options::default(), part: Vec::new(), length: None }
    }

    /// Whether a part of a header has been read.
    pub(crate) fn is_mid_header(&self) -> bool {
        self.length.is_some() || !self.part.is_empty()
    }

    /// The next header, if all of it is there, and its body, which is not read.
    /// End-of-stream is [`ErrorKind::Closed`] between two frames, else
    /// [`ErrorKind::Truncated`].
    pub(crate) fn next(&mut self) -> Result<Option<(Header, BodyReader<'fd>)>> {
        loop {
            if !self.fill(self.length.unwrap_or(PREFIX_SIZE))? {
                return Ok(None);
            }
            let part = std::mem::take(&mut self.part);
            if self.length.take().is_some() {
                let header = Header::parse(part, self.options.max_depth)?;
                let left = header.data_size().unwrap_or(0);
                return Ok(Some((header, BodyReader::new(self.fd, left))));
            }
            self.length = Some(header_length(&part, self.options.max_header)?);
        }
    }

    /// Reads until there are `length` bytes of this part; false if they are not all there.
    fn fill(&mut self, length: usize) -> Result<bool> {
        while self.part.len() < length {
            let left = length - self.part.len();
            reserve(&mut self.part, left.min(limits::GROW_STEP))?;
            match self.source.try_read_more(&mut self.part, left as u64)? {
                None => return Ok(false),
                Some(0) => {
                    self.source.set_mid_message(self.is_mid_header());
                    return Err(self.source.cut(self.part.len() as u64, length as u64));
                }
                Some(_) => {}
            }
        }
        Ok(true)
    }
}

/// Places in [`Outbox::parts`].
const HEAD: usize = 0;
const BODY: usize = 1;
const TAIL: usize = 2;
/// Bytes of frames without a body that may wait: dozens of them.
const CONTROL_ROOM: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::error::ErrorKind;

    const MIB: usize = 1024 * 1024;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    /// All that `fd` gets until the other end is closed.
    fn all_of(mut fd: UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        fd.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn frame_of(header: &str, body: &[u8]) -> Vec<u8> {
        let len = body.len() as u64;
        let mut bytes = Vec::new();
        Head::new(Some(header), len, limits::MAX_HEADER).unwrap().append_to(&mut bytes);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_body_that_is_taken_at_once_is_sent_from_where_it_is() {
        let (ours, theirs) = pair();
        let mut outbox = Outbox::new(ours.as_fd());
        let mut body = b"hello".to_vec();
        let at = body.as_ptr();
        outbox.send(r#"{"a":1}"#, &mut body).unwrap();
        assert!(outbox.is_empty() && body.is_empty());
        assert_eq!(body.as_ptr(), at, "the buffer is back");
        drop(ours);
        assert_eq!(all_of(theirs), frame_of(r#"{"a":1}"#, b"hello"));
    }

    #[test]
    fn a_body_that_is_not_taken_at_once_stays_and_is_not_copied() {
        let (ours, theirs) = pair();
        let mut outbox = Outbox::new(ours.as_fd());
        let mut body = vec![b'x'; MIB];
        let at = body.as_ptr();
        outbox.send(r#"{"a":1}"#, &mut body).unwrap();
        assert!(!outbox.is_empty() && !outbox.takes_body());
        assert_eq!((outbox.parts[BODY].as_ptr(), body.len()), (at, 0));
        outbox.put(r#"{"behind":1}"#).unwrap();
        outbox.drop_unsent();
        assert!(!outbox.is_empty(), "it has begun");
        assert!(outbox.parts[TAIL].is_empty());
        outbox.put(r#"{"behind":1}"#).unwrap();
        let reading = std::thread::spawn(move || all_of(theirs));
        while !outbox.is_empty() {
            outbox.flush().unwrap();
        }
        assert!(outbox.takes_body());
        body.extend_from_slice(b"second");
        outbox.send("{}", &mut body).unwrap();
        assert!(outbox.is_empty());
        drop(ours);
        let bytes = reading.join().unwrap();
        let first = frame_of(r#"{"a":1}"#, &vec![b'x'; MIB]);
        let expected = [first, frame_of(r#"{"behind":1}"#, b""), frame_of("{}", b"second")];
        assert!(bytes == expected.concat());
    }

    #[test]
    fn what_the_other_end_does_not_take_is_bounded() {
        let (ours, _theirs) = pair();
        let mut outbox = Outbox::new(ours.as_fd());
        outbox.send("{}", &mut vec![b'x'; MIB]).unwrap();
        let mut count = 0;
        while outbox.takes_control() {
            outbox.put(r#"{"signal":"INT"}"#).unwrap();
            count += 1;
        }
        assert!((10..1000).contains(&count), "{count}");
    }

    #[test]
    fn what_has_not_begun_to_go_out_can_be_dropped() {
        let (ours, theirs) = pair();
        let mut outbox = Outbox::new(ours.as_fd());
        outbox.put("{}").unwrap();
        outbox.drop_unsent();
        assert_eq!(outbox.flush().unwrap(), 0);
        outbox.put_rest(b"rest".to_vec());
        outbox.drop_unsent();
        assert_eq!(outbox.flush().unwrap(), 4);
        drop(theirs);
        outbox.put("{}").unwrap();
        assert_eq!(outbox.flush().unwrap_err().kind(), ErrorKind::Io);
        assert!(outbox.is_empty() && !outbox.takes_body() && !outbox.takes_control());
        outbox.put("{}").unwrap();
        let mut body = b"dropped".to_vec();
        outbox.send("{}", &mut body).unwrap();
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_header_comes_in_pieces_and_nothing_behind_it_is_read() {
        let (ours, mut theirs) = pair();
        let mut inbox = Inbox::new(ours.as_fd());
        assert!(inbox.next().unwrap().is_none() && !inbox.is_mid_header());
        let mut head = Vec::new();
        Head::new(Some(r#"{"a":1}"#), 5, limits::MAX_HEADER).unwrap().append_to(&mut head);
        for byte in &head[..head.len() - 1] {
            theirs.write_all(&[*byte]).unwrap();
            assert!(inbox.next().unwrap().is_none() && inbox.is_mid_header());
        }
        theirs.write_all(&head[head.len() - 1..]).unwrap();
        theirs.write_all(b"hello\x02\0\0\0{}next").unwrap();
        let (header, mut body) = inbox.next().unwrap().unwrap();
        assert_eq!((header.integer("a").unwrap(), body.left()), (1, 5));
        assert!(!inbox.is_mid_header());
        assert_eq!(body.read_all(5, None).unwrap(), b"hello");
        let (_, body) = inbox.next().unwrap().unwrap();
        assert_eq!((body.left(), rustix::io::ioctl_fionread(&ours)), (0, Ok(4)));
    }

    #[test]
    fn the_end_between_two_frames_is_told_from_a_cut() {
        for (bytes, kind) in [
            (b"".as_slice(), ErrorKind::Closed),
            (b"\x02", ErrorKind::Truncated),
            (b"\x02\0\0\0", ErrorKind::Truncated),
            (b"\x02\0\0\0{", ErrorKind::Truncated),
            (b"\0\0\0\0", ErrorKind::BadLength),
            (b"\xff\xff\xff\xff", ErrorKind::BadLength),
            (b"\x01\0\x01\0", ErrorKind::TooBig),
            (b"\x02\0\0\0[]", ErrorKind::BadJson),
        ] {
            let (ours, mut theirs) = pair();
            theirs.write_all(bytes).unwrap();
            drop(theirs);
            assert_eq!(Inbox::new(ours.as_fd()).next().unwrap_err().kind(), kind, "{bytes:?}");
        }
    }
}
