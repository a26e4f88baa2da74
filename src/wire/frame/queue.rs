//! Messages that were accepted and not written yet. No descriptor, no clock.
#![allow(clippy::inline_always)] // the path of each queued frame, in a library that is built for size

use super::head::{self, Head};
use super::packet::PrefixFormat;
use crate::error::Result;
use crate::limits;
use crate::wire::memory::reserve;

/// The format of a stream's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A JSON header and a body.
    #[default]
    Frames,
    /// A length and bytes.
    Packets(PrefixFormat),
}

/// The bytes that one direction of a stream still has to write.
#[derive(Debug, Default)]
pub struct Queue {
    /// In the order of the wire. The middle one is a large body that was moved here; the first
    /// one ends with its head.
    parts: [Vec<u8>; 3],
    /// Bytes of the parts that were written.
    sent: usize,
    /// Total of written bytes.
    written: u64,
}

impl Queue {
    /// Bytes that were accepted and not written yet.
    #[inline]
    pub fn len(&self) -> usize {
        let [head, body, tail] = &self.parts;
        head.len() + body.len() + tail.len() - self.sent
    }

    /// Bytes of them that are no moved body.
    pub fn small(&self) -> usize {
        self.parts[HEAD].len() + self.parts[TAIL].len()
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Total of accepted bytes: the position of the next message.
    pub fn accepted(&self) -> u64 {
        self.written + self.len() as u64
    }

    /// The bytes to write next, in order.
    pub fn pieces(&self) -> [&[u8]; 3] {
        let mut sent = self.sent;
        self.parts.each_ref().map(|part| {
            let skipped = sent.min(part.len());
            sent -= skipped;
            &part[skipped..]
        })
    }

    /// The same, if they are in one piece.
    pub fn only_piece(&self) -> Option<&[u8]> {
        let [head, body, tail] = &self.parts;
        if body.is_empty() && tail.is_empty() { head.get(self.sent..) } else { None }
    }

    /// Records that `count` bytes were written: first those of the queue. Returns the number of
    /// the others, which were never in it. A large buffer is freed.
    pub fn advance(&mut self, count: usize) -> usize {
        let of_queue = count.min(self.len());
        self.written += count as u64;
        if of_queue > 0 {
            self.sent += of_queue;
            self.drop_sent();
        }
        count - of_queue
    }

    fn drop_sent(&mut self) {
        if self.parts[BODY].is_empty() {
            if self.sent < self.parts[HEAD].len() {
                return;
            }
        } else if self.sent < self.parts[HEAD].len() + self.parts[BODY].len() {
            return;
        }
        self.sent -= self.parts[HEAD].len() + self.parts[BODY].len();
        empty(&mut self.parts[HEAD]);
        self.parts[BODY].clear();
        self.parts.swap(HEAD, TAIL);
        if self.sent > 0 && self.sent == self.parts[HEAD].len() {
            empty(&mut self.parts[HEAD]);
            self.sent = 0;
        }
    }

    /// Adds a small frame. `max_header` limits its header.
    #[inline(always)]
    pub fn append_frame(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        max_header: u64,
    ) -> Result<()> {
        self.append_checked([head::keys_of(header)?], body, max_header)
    }

    /// The same for a header whose keys were checked, as [`head::append`] gets them.
    #[inline(always)]
    pub fn append_checked<const N: usize>(
        &mut self,
        keys: [&str; N],
        body: &[u8],
        max_header: u64,
    ) -> Result<()> {
        let keys_len: usize = keys.iter().map(|piece| piece.len()).sum();
        let last = self.room_for(keys_len + head::MORE_THAN_KEYS + body.len())?;
        head::append(last, keys, body.len() as u64, max_header)?;
        last.extend_from_slice(body);
        Ok(())
    }

    /// Adds a message, or its rest, in pieces.
    pub fn append(&mut self, pieces: &[&[u8]]) -> Result<()> {
        let last = self.room_for(pieces.iter().map(|piece| piece.len()).sum())?;
        for piece in pieces {
            last.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Whether a body can be moved here: one at a time.
    pub fn takes_body(&self) -> bool {
        self.parts[BODY].is_empty()
    }

    /// Adds a frame whose body is moved here; `body` is then another, empty buffer.
    pub fn append_moved(&mut self, head: &Head<'_>, body: &mut Vec<u8>) -> Result<()> {
        debug_assert!(self.takes_body());
        self.append(&head.pieces())?;
        std::mem::swap(&mut self.parts[BODY], body);
        Ok(())
    }

    /// Returns the buffer of a moved body that was written: the next one can be read into it.
    pub fn give_back(&mut self, body: &mut Vec<u8>) {
        if self.parts[BODY].is_empty() {
            std::mem::swap(&mut self.parts[BODY], body);
        }
    }

    /// Gives the buffer of small frames away if everything was written, and frees the others: for an
    /// idle stream.
    pub fn release(&mut self) -> Vec<u8> {
        if !self.is_empty() {
            return Vec::new();
        }
        self.sent = 0;
        // The two take turns.
        let [head, _, tail] = std::mem::take(&mut self.parts);
        let mut buffer = if head.capacity() > 0 { head } else { tail };
        buffer.clear();
        buffer
    }

    /// Uses this buffer, which is empty, unless it has one.
    pub fn adopt(&mut self, buffer: Vec<u8>) {
        if self.parts[HEAD].capacity() == 0 {
            self.parts[HEAD] = buffer;
        }
    }

    /// Drops messages that begin at `position` of the stream or later, and of which nothing was
    /// written.
    pub fn drop_behind(&mut self, position: u64) {
        let Some(keep) = position.checked_sub(self.written) else { return };
        let mut keep = usize::try_from(keep).unwrap_or(usize::MAX).saturating_add(self.sent);
        for part in &mut self.parts {
            part.truncate(keep);
            keep -= part.len();
        }
        self.drop_sent();
    }

    /// The last part, with room for `len` more bytes.
    #[inline(always)]
    fn room_for(&mut self, len: usize) -> Result<&mut Vec<u8>> {
        let last = if self.parts[BODY].is_empty() { HEAD } else { TAIL };
        if self.parts[last].capacity() - self.parts[last].len() < len {
            self.make_room(last, len)?;
        }
        Ok(&mut self.parts[last])
    }

    #[cold]
    fn make_room(&mut self, last: usize, len: usize) -> Result<()> {
        let part = &mut self.parts[last];
        // Moves the rest to the front if it is smaller than the written part before it.
        if last == HEAD && self.sent >= part.len() - self.sent {
            part.drain(..self.sent);
            self.sent = 0;
        }
        // A peer that does not read must not cost an allocation a message.
        let step = match limits::WRITE_BEHIND.saturating_sub(part.len()) {
            0 => limits::WRITE_BEHIND,
            rest => rest,
        };
        reserve(part, len.max(step))
    }
}

/// Empties a buffer, and gives a large one back.
fn empty(part: &mut Vec<u8>) {
    part.clear();
    if part.capacity() > limits::BUFFER_KEPT {
        *part = Vec::new();
    }
}

/// Places in [`Queue::parts`].
const HEAD: usize = 0;
const BODY: usize = 1;
const TAIL: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(queue: &Queue) -> Vec<u8> {
        queue.pieces().concat()
    }

    /// Writes the queue `step` bytes at a time, and returns the written bytes.
    fn drain(queue: &mut Queue, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !queue.is_empty() {
            let all = bytes(queue);
            let count = step.min(all.len());
            out.extend_from_slice(&all[..count]);
            queue.advance(count);
        }
        out
    }

    fn head(body_len: u64) -> Head<'static> {
        Head::new(Some(r#"{"a":1}"#), body_len, limits::MAX_HEADER).unwrap()
    }

    #[test]
    fn messages_come_out_in_order_in_steps_of_every_size() {
        for step in 1..40 {
            let mut queue = Queue::default();
            queue.append_frame(None, b"first", limits::MAX_HEADER).unwrap();
            let mut body = b"moved".to_vec();
            queue.append_moved(&head(5), &mut body).unwrap();
            assert!(body.is_empty() && !queue.takes_body());
            queue.append(&[b"be", b"hind"]).unwrap();
            let all = bytes(&queue);
            assert_eq!(queue.accepted(), all.len() as u64);
            assert!(all.ends_with(b"movedbehind"));
            assert_eq!(drain(&mut queue, step), all, "{step}");
            assert_eq!((queue.written, queue.takes_body()), (all.len() as u64, true));
            queue.append(&[b"again"]).unwrap();
            assert_eq!(drain(&mut queue, step), b"again");
        }
    }

    #[test]
    fn a_message_behind_a_position_is_dropped_unless_it_has_begun() {
        for written in 0..12 {
            let mut queue = Queue::default();
            queue.append(&[b"first"]).unwrap();
            let position = queue.accepted();
            queue.append(&[b"second"]).unwrap();
            queue.advance(written.min(11));
            let expected =
                if written > 5 { &b"firstsecond"[written.min(11)..] } else { &b"first"[written..] };
            queue.drop_behind(position);
            assert_eq!(bytes(&queue), expected, "{written}");
            queue.append(&[b"third"]).unwrap();
            assert_eq!(bytes(&queue), [expected, b"third"].concat(), "{written}");
        }
    }

    #[test]
    fn a_moved_body_can_be_dropped_with_its_head() {
        let mut queue = Queue::default();
        queue.append(&[b"first"]).unwrap();
        let position = queue.accepted();
        queue.append_moved(&head(4), &mut b"body".to_vec()).unwrap();
        queue.append(&[b"tail"]).unwrap();
        queue.drop_behind(position);
        assert_eq!((bytes(&queue).as_slice(), queue.takes_body()), (&b"first"[..], true));
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let mut queue = Queue::default();
        queue.append(&[&vec![b'x'; 2 * limits::BUFFER_KEPT]]).unwrap();
        queue.advance(queue.len());
        assert_eq!(queue.parts.map(|part| part.capacity()), [0; 3]);
    }
}
