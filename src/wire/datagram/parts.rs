//! A reply that is larger than one datagram: numbered parts, split and joined.

use std::mem;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::datagram::{self, DatagramKey};
use crate::wire::json::header::Header;
use crate::wire::json::reader::{Fields, required};
use crate::wire::json::writer::Writer;
use crate::wire::memory::reserve;
use crate::wire::message::{self, Id, Message};

/// The fields that identify a request, repeated in every datagram of its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The client's id for the request.
    pub id: Id,
    /// When the request was made, in milliseconds since 1970.
    pub time: Option<i64>,
    /// Unique for each request: 32 hex digits.
    pub nonce: Option<String>,
}

impl Message for Mark {
    fn of(fields: &Fields<'_>) -> Result<Mark> {
        Ok(Mark {
            id: fields.id()?.ok_or_else(|| required("id"))?,
            time: fields.integer("time")?,
            nonce: fields.text("nonce")?,
        })
    }
}

impl Mark {
    /// Adds its keys to a header.
    pub fn write(&self, header: &mut Writer) {
        header.id(Some(&self.id));
        header.plain("time", self.time);
        header.text("nonce", self.nonce.as_deref());
    }
}

/// A reply to the client whose request has this mark, in datagrams. Each datagram is made when
/// it is sent, so the reply takes the memory of its body.
#[derive(Debug)]
pub struct Parts {
    mark: Mark,
    /// The header of part 0, which has the keys of the reply.
    first: String,
    body: Vec<u8>,
    /// Bytes of the body in each part but the last.
    room: usize,
    count: u32,
    max: usize,
}

impl Parts {
    /// A reply in datagrams of at most `max` bytes each. `reply` writes its keys, without an
    /// `id`.
    pub fn new(
        mark: Mark,
        reply: &dyn Fn(&mut Writer),
        body: Vec<u8>,
        key: Option<&DatagramKey>,
        max: usize,
    ) -> Result<Parts> {
        let first = part_header(&mark, None, Some(reply));
        let fits =
            datagram::size(&first, body.len(), key).is_ok_and(|head| max >= head + body.len());
        if fits {
            return Ok(Parts { mark, first, room: body.len().max(1), body, count: 1, max });
        }
        // Every part has the room that the longest header leaves.
        let longest = part_header(&mark, Some((u32::MAX, u32::MAX)), Some(reply));
        let room = max.checked_sub(datagram::size(&longest, max, key)?).filter(|room| *room > 0);
        let room = room.ok_or_else(|| {
            Error::new(ErrorKind::TooBig, format!("its header leaves no room in {max} bytes"))
        })?;
        let count = u32::try_from(body.len().div_ceil(room).max(1)).unwrap_or(u32::MAX);
        if count > limits::DATAGRAM_PARTS {
            let limit = limits::DATAGRAM_PARTS;
            let detail = format!("a reply in {count} parts, the limit is {limit}");
            return Err(Error::new(ErrorKind::TooBig, detail));
        }
        let first = part_header(&mark, Some((0, count)), Some(reply));
        Ok(Parts { mark, first, body, room, count, max })
    }

    /// How many datagrams it takes.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of memory that it uses.
    pub fn bytes(&self) -> usize {
        self.first.len() + self.body.capacity()
    }

    /// One of its datagrams, counted from 0.
    pub fn datagram(&self, number: u32, key: Option<&DatagramKey>) -> Result<Vec<u8>> {
        let later = (number > 0).then(|| part_header(&self.mark, Some((number, self.count)), None));
        let header = later.as_deref().unwrap_or(&self.first);
        let start = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(self.room);
        let rest = self.body.get(start..).unwrap_or_default();
        datagram::encode(Some(header), &rest[..rest.len().min(self.room)], key, self.max)
    }
}

/// The header of a part, with its number, the count of parts and the fields of the reply.
fn part_header(
    mark: &Mark,
    number: Option<(u32, u32)>,
    reply: Option<&dyn Fn(&mut Writer)>,
) -> String {
    message::written(&|header| {
        mark.write(header);
        header.plain("part", number.map(|(part, _)| part));
        header.plain("parts", number.map(|(_, parts)| parts));
        if let Some(reply) = reply {
            reply(header);
        }
    })
}

/// The received parts of one reply, in any order, some of them twice. Its memory is that of the
/// received bytes.
#[derive(Debug)]
pub struct Reassembly {
    max_body: usize,
    header: Option<Header>,
    /// In the order in which they were received.
    bodies: Vec<(u32, Vec<u8>)>,
    /// A bit for each part, up to the last received one.
    received: Vec<u64>,
    parts: Option<u32>,
    /// Every part before this one was received.
    first_missing: u32,
    body_len: usize,
}

impl Reassembly {
    /// For a reply whose body has at most `max_body` bytes.
    pub fn new(max_body: usize) -> Reassembly {
        Reassembly {
            max_body,
            header: None,
            bodies: Vec::new(),
            received: Vec::new(),
            parts: None,
            first_missing: 0,
            body_len: 0,
        }
    }

    /// Adds a part; false if it was received before. [`ErrorKind::BadReply`] if it contradicts
    /// itself or earlier parts, [`ErrorKind::TooBig`] if it exceeds the limit.
    pub fn add(&mut self, header: Header, body: Vec<u8>) -> Result<bool> {
        let (part, parts) = number(&header)?;
        if *self.parts.get_or_insert(parts) != parts {
            return Err(bad_reply("two parts disagree about their count"));
        }
        if self.has(part) {
            return Ok(false);
        }
        if body.len() > self.max_body - self.body_len {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("the reply is larger than {} bytes", self.max_body),
            ));
        }
        self.bodies.try_reserve(1).map_err(no_memory)?;
        self.body_len += body.len();
        self.bodies.push((part, body));
        let (word, bit) = place(part);
        if self.received.len() <= word {
            self.received.resize(word + 1, 0);
        }
        self.received[word] |= bit;
        if part == 0 {
            self.header = Some(header);
        }
        Ok(true)
    }

    /// Whether this part was received.
    pub fn has(&self, part: u32) -> bool {
        let (word, bit) = place(part);
        self.received.get(word).is_some_and(|word| word & bit != 0)
    }

    /// The first missing parts, at most `max`; none before their count is known.
    pub fn missing(&mut self, max: usize) -> Vec<u32> {
        // Otherwise a peer that sends only what it is asked for makes each call look at all parts.
        while self.has(self.first_missing) {
            self.first_missing += 1;
        }
        let rest = self.first_missing..self.parts.unwrap_or(0);
        rest.filter(|part| !self.has(*part)).take(max).collect()
    }

    /// The number of received parts, and the number of all parts if it is known.
    pub fn progress(&self) -> (usize, Option<u32>) {
        (self.bodies.len(), self.parts)
    }

    /// The header of part 0 and the whole body, once every part was received.
    pub fn finish(&mut self) -> Result<Option<(Header, Vec<u8>)>> {
        if self.parts.is_none_or(|parts| (self.bodies.len() as u64) < u64::from(parts)) {
            return Ok(None);
        }
        let Some(header) = self.header.take() else { return Ok(None) };
        let (mut places, mut body) = (Vec::new(), Vec::new());
        places.try_reserve_exact(self.bodies.len()).map_err(no_memory)?;
        places.resize(self.bodies.len(), 0);
        for (at, (part, _)) in self.bodies.iter().enumerate() {
            places[*part as usize] = at;
        }
        reserve(&mut body, self.body_len)?;
        for at in places {
            body.append(&mut mem::take(&mut self.bodies[at].1));
        }
        Ok(Some((header, body)))
    }
}

/// The word and the bit of a part that was received.
fn place(part: u32) -> (usize, u64) {
    ((part / 64) as usize, 1 << (part % 64))
}

fn no_memory<E>(_: E) -> Error {
    Error::new(ErrorKind::NoMemory, "for one part more")
}

/// The number of a part, and the count of parts.
fn number(header: &Header) -> Result<(u32, u32)> {
    let fields = header.fields()?;
    let number = |key| {
        fields
            .small(key)
            .map_err(|error| Error::new(ErrorKind::BadReply, error.detail().to_owned()))
    };
    match (number("part")?, number("parts")?) {
        (None, None) => Ok((0, 1)),
        (Some(part), Some(parts)) if part < parts => {
            if parts > limits::DATAGRAM_PARTS {
                return Err(Error::new(ErrorKind::TooBig, format!("a reply in {parts} parts")));
            }
            Ok((part, parts))
        }
        _ => Err(bad_reply("part and parts do not number a part")),
    }
}

fn bad_reply(detail: &'static str) -> Error {
    Error::new(ErrorKind::BadReply, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::Key;
    use crate::wire::datagram::DatagramKeys;

    /// The exit code of a reply.
    fn exit(code: i32) -> impl Fn(&mut Writer) {
        move |header: &mut Writer| header.plain("exit_code", Some(code))
    }

    fn mark() -> Mark {
        Mark { id: Id::Text("7".into()), time: Some(1), nonce: Some("ab".repeat(16)) }
    }

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn part(text: &str) -> Header {
        Header::parse(text.as_bytes().to_vec(), 32).unwrap()
    }

    /// The datagrams of a reply.
    fn split(
        mark: &Mark,
        reply: &dyn Fn(&mut Writer),
        body: &[u8],
        key: Option<&DatagramKey>,
        max: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let parts = Parts::new(mark.clone(), reply, body.to_vec(), key, max)?;
        (0..parts.count()).map(|number| parts.datagram(number, key)).collect()
    }

    fn add(to: &mut Reassembly, datagram: &[u8], key: Option<&DatagramKey>) -> bool {
        let (header, body) = datagram::decode(datagram, key).unwrap();
        to.add(header, body.to_vec()).unwrap()
    }

    #[test]
    fn a_small_reply_is_one_datagram_without_a_number() {
        let datagrams = split(&mark(), &exit(3), b"out", None, 8192).unwrap();
        assert_eq!(datagrams.len(), 1);
        let (header, body) = datagram::decode(&datagrams[0], None).unwrap();
        assert_eq!((header.integer("exit_code").unwrap(), body), (3, &b"out"[..]));
        assert_eq!(message::read::<Mark>(&header).unwrap(), mark());
        assert_eq!(header.integer("parts").unwrap_err().kind(), ErrorKind::Missing);
    }

    #[test]
    fn parts_come_back_together_in_any_order() {
        let key = DatagramKeys::derive(&Key::new(&[1; 16]).unwrap()).unwrap();
        let key = Some(&key.reply);
        for (len, max) in [(1000, 300), (100_000, 1200), (65_507, 65_507), (200_000, 65_507)] {
            let whole = body(len);
            let datagrams = split(&mark(), &exit(0), &whole, key, max).unwrap();
            assert!(datagrams.len() > 1);
            let mut parts = Reassembly::new(len);
            for datagram in datagrams.iter().rev() {
                assert!(datagram.len() <= max);
                let (header, _) = datagram::decode(datagram, key).unwrap();
                assert_eq!(message::read::<Mark>(&header).unwrap(), mark());
                assert!(parts.finish().unwrap().is_none());
                assert!(add(&mut parts, datagram, key));
                assert!(!add(&mut parts, datagram, key), "a part that is there already");
            }
            let (header, together) = parts.finish().unwrap().unwrap();
            assert_eq!(header.integer("exit_code").unwrap(), 0);
            assert!(together == whole);
        }
    }

    #[test]
    fn every_size_near_the_limit_fits() {
        for len in 1..600 {
            let datagrams = split(&mark(), &exit(0), &body(len), None, 250).unwrap();
            let mut parts = Reassembly::new(len);
            for datagram in &datagrams {
                assert!(datagram.len() <= 250);
                add(&mut parts, datagram, None);
            }
            assert!(parts.finish().unwrap().unwrap().1 == body(len), "{len}");
        }
    }

    #[test]
    fn a_header_that_leaves_no_room_is_refused() {
        let mark = Mark { id: Id::Text("x".repeat(300)), ..mark() };
        let error = split(&mark, &exit(0), b"", None, 300).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        let error = split(&super::tests::mark(), &exit(0), b"12345", None, 8);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TooBig);
    }

    #[test]
    fn numbers_that_contradict_are_refused() {
        let bad = [
            r#"{"part":0}"#,
            r#"{"parts":2}"#,
            r#"{"part":2,"parts":2}"#,
            r#"{"part":0,"parts":0}"#,
            r#"{"part":-1,"parts":2}"#,
            r#"{"part":"0","parts":2}"#,
            r#"{"part":0,"part":1,"parts":2}"#,
        ];
        for text in bad {
            let error = Reassembly::new(10).add(part(text), b"".to_vec()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadReply, "{text}");
        }
        let mut parts = Reassembly::new(10);
        parts.add(part(r#"{"part":0,"parts":2}"#), b"a".to_vec()).unwrap();
        for text in [r#"{"part":1,"parts":3}"#, "{}", r#"{"part":0,"parts":1}"#] {
            let error = parts.add(part(text), b"b".to_vec()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadReply, "{text}");
        }
        assert!(parts.finish().unwrap().is_none());
        assert_eq!(parts.missing(5), [1]);
        parts.add(part(r#"{"part":1,"parts":2}"#), b"b".to_vec()).unwrap();
        assert_eq!(parts.finish().unwrap().unwrap().1, b"ab");
    }

    #[test]
    fn the_first_missing_parts_are_named() {
        let mut parts = Reassembly::new(10);
        assert!(parts.missing(5).is_empty(), "nobody knows yet");
        for number in [1, 4] {
            parts.add(part(&format!(r#"{{"part":{number},"parts":6}}"#)), Vec::new()).unwrap();
        }
        assert_eq!(parts.missing(3), [0, 2, 3]);
        assert_eq!(parts.missing(9), [0, 2, 3, 5]);
    }

    #[test]
    fn a_peer_that_answers_one_by_one_does_not_make_every_part_be_looked_at_again() {
        let count = limits::DATAGRAM_PARTS;
        let mut parts = Reassembly::new(0);
        for number in (1..count).chain([0]) {
            let header = part(&format!(r#"{{"part":{number},"parts":{count}}}"#));
            parts.add(header, Vec::new()).unwrap();
            assert_eq!(parts.first_missing, 0);
        }
        assert!(parts.missing(16).is_empty());
        assert_eq!(parts.first_missing, count);
    }

    #[test]
    fn a_reply_takes_the_memory_of_its_body() {
        let parts = Parts::new(mark(), &exit(0), body(100_000), None, 1200).unwrap();
        assert!(parts.count() > 80);
        assert!((100_000..101_000).contains(&parts.bytes()), "{}", parts.bytes());
        assert!(parts.datagram(parts.count(), None).unwrap().len() < 200, "nothing is left");
    }

    #[test]
    fn neither_bytes_nor_parts_are_without_limit() {
        let mut parts = Reassembly::new(3);
        parts.add(part(r#"{"part":0,"parts":3}"#), b"ab".to_vec()).unwrap();
        let error = parts.add(part(r#"{"part":1,"parts":3}"#), b"cd".to_vec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        let error = Reassembly::new(3).add(part(r#"{"part":0,"parts":4294967295}"#), b"".to_vec());
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TooBig);
        let error = split(&mark(), &exit(0), &body(5_000_000), None, 200);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TooBig);
    }
}
