//! A whole sealed stream for an event loop of somebody else: received bytes go in at one side,
//! bytes to send come out of it; the other side has the plain ones.

use zeroize::{Zeroize as _, Zeroizing};

use super::handshake::{Handshake, Session, Step};
use super::record::Opened;
use super::terms::{Suite, Terms};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::auth::{Key, KeyId};
use crate::wire::memory::reserve;

/// A sealed stream: the handshake, then both directions.
///
/// Give it what was received, call [`read`](Seal::read) until it wants more, and send the
/// [`output`](Seal::output). A failure sticks, drops the output and wipes the keys.
pub struct Seal {
    stage: Stage,
    /// Bytes of the handshake that were not used yet.
    received: Vec<u8>,
    /// Bytes of the stream that wait for the handshake's end.
    waiting: Zeroizing<Vec<u8>>,
    /// The stream ends after them.
    ends: bool,
    output: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
    /// How many opened bytes the last read has given out.
    given: usize,
}

type KeyFor = Box<dyn Fn(&KeyId) -> Key + Send>;

enum Stage {
    Handshake(Box<Handshake>, KeyFor),
    Session(Box<Session>),
    Failed(Error),
}

/// What [`Seal::read`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// Nothing, until more is received.
    More,
    /// The next bytes of the stream.
    Bytes(&'a [u8]),
    /// The peer has ended the stream.
    End,
}

impl Seal {
    /// A client's. The output has what it sends first.
    pub fn client(key: &Key, id: &KeyId, terms: &Terms, suite: Suite) -> Result<Seal> {
        let (handshake, sent) = Handshake::client(key, id, terms, suite)?;
        // A client is not asked for a key; it has none that is not its own.
        let key = key.clone();
        Ok(Seal::new(handshake, Box::new(move |_| key.clone()), sent))
    }

    /// A server's; `key_for` as for [`Handshake::step`].
    pub fn server(terms: &Terms, key_for: KeyFor) -> Result<Seal> {
        Ok(Seal::new(Handshake::server(terms)?, key_for, Vec::new()))
    }

    fn new(handshake: Handshake, key_for: KeyFor, output: Vec<u8>) -> Seal {
        Seal {
            stage: Stage::Handshake(Box::new(handshake), key_for),
            received: Vec::new(),
            waiting: Zeroizing::new(Vec::new()),
            ends: false,
            output,
            sent: 0,
            given: 0,
        }
    }

    /// The buffer to append received bytes to, with room for at least one.
    pub fn space(&mut self) -> Result<&mut Vec<u8>> {
        self.take_given();
        match &mut self.stage {
            Stage::Failed(error) => Err(error.clone()),
            Stage::Session(session) => session.opener.space(),
            Stage::Handshake(..) => {
                // All of a handshake fits. What comes with its end is moved once.
                reserve(&mut self.received, FIRST_READ)?;
                Ok(&mut self.received)
            }
        }
    }

    /// The buffer of the last [`space`](Self::space) as it is, to which bytes were added in place.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.stage {
            Stage::Session(session) => session.opener.buffer(),
            _ => &mut self.received,
        }
    }

    /// Adds bytes that were received.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.take_given();
        match &mut self.stage {
            Stage::Failed(error) => Err(error.clone()),
            Stage::Session(session) => session.opener.feed(bytes),
            Stage::Handshake(..) => {
                reserve(&mut self.received, bytes.len())?;
                self.received.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Moves the handshake on, or gives the next bytes of the stream. They are valid until the
    /// next call. There may be output afterwards.
    pub fn read(&mut self) -> Result<Read<'_>> {
        self.take_given();
        let opened = self.advance();
        let opened = opened.map_err(|error| self.fail(error))?;
        match (opened, &self.stage) {
            (Opened::Data, Stage::Session(session)) => {
                self.given = session.opener.opened().len();
                Ok(Read::Bytes(session.opener.opened()))
            }
            (Opened::End, _) => Ok(Read::End),
            _ => Ok(Read::More),
        }
    }

    /// Call once nothing more can be received, and [`read`](Self::read) found no more: whether
    /// the peer has ended the stream, or it was cut.
    pub fn finish(&mut self) -> Result<()> {
        let result = match &self.stage {
            Stage::Failed(error) => return Err(error.clone()),
            Stage::Session(session) => session.opener.finish(),
            Stage::Handshake(..) => {
                Err(Error::new(ErrorKind::Truncated, "the stream ended inside the handshake"))
            }
        };
        result.map_err(|error| self.fail(error))
    }

    /// Seals `bytes`; if it `ends`, they are the last. Before the handshake is done they wait: up
    /// to 64 KiB, more is [`ErrorKind::State`]. A lack of memory changes nothing.
    pub fn write(&mut self, bytes: &[u8], ends: bool) -> Result<()> {
        if self.ends {
            return Err(Error::new(ErrorKind::State, "the stream was ended before"));
        }
        match &mut self.stage {
            Stage::Failed(error) => return Err(error.clone()),
            Stage::Handshake(..) => {
                if self.waiting.len() + bytes.len() > limits::WRITE_BEHIND {
                    let detail = "too much is written before the handshake is done";
                    return Err(Error::new(ErrorKind::State, detail));
                }
                // At once, so that nothing of it stays behind in memory that it moved from.
                if self.waiting.capacity() == 0 && !bytes.is_empty() {
                    reserve(&mut self.waiting, limits::WRITE_BEHIND)?;
                }
                self.waiting.extend_from_slice(bytes);
            }
            Stage::Session(session) => {
                compact(&mut self.output, &mut self.sent);
                let sealed = seal(session, bytes, ends, &mut self.output);
                if let Err(error) = sealed {
                    let is_over = error.kind() == ErrorKind::Auth;
                    return Err(if is_over { self.fail(error) } else { error });
                }
            }
        }
        self.ends = ends;
        Ok(())
    }

    /// The failure that has ended the stream, if there was one.
    pub fn check(&self) -> Result<()> {
        match &self.stage {
            Stage::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// The bytes to send.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// Records that `count` bytes of the output were sent.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn written(&mut self, count: usize) {
        assert!(count <= self.output().len(), "{count} of {} bytes", self.output().len());
        self.sent += count;
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            if self.output.capacity() > limits::BUFFER_KEPT {
                self.output = Vec::new();
            }
        }
    }

    /// The session, once the peer has proved that it has the key.
    pub fn session(&self) -> Option<&Session> {
        match &self.stage {
            Stage::Session(session) => Some(session),
            _ => None,
        }
    }

    /// Frees buffers that are empty: for an idle stream.
    pub fn release(&mut self) {
        self.take_given();
        if let Stage::Session(session) = &mut self.stage {
            session.opener.release();
        }
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }

    fn advance(&mut self) -> Result<Opened> {
        while let Stage::Handshake(handshake, key_for) = &mut self.stage {
            let needs = handshake.needs();
            let Some(bytes) = self.received.get(..needs) else { return Ok(Opened::More) };
            let step = handshake.step(bytes, key_for)?;
            self.received.drain(..needs);
            match step {
                Step::More => {}
                Step::Reply(reply) => self.output.extend_from_slice(&reply),
                Step::Done { session, confirm } => self.begin(session, &confirm)?,
            }
        }
        match &mut self.stage {
            Stage::Session(session) => session.opener.open(),
            Stage::Failed(error) => Err(error.clone()),
            Stage::Handshake(..) => Ok(Opened::More),
        }
    }

    /// What has waited follows the client's first record.
    fn begin(&mut self, mut session: Box<Session>, confirm: &[u8]) -> Result<()> {
        self.output.extend_from_slice(confirm);
        session.opener.feed(&self.received)?;
        self.received = Vec::new();
        seal(&mut session, &self.waiting, self.ends, &mut self.output)?;
        self.waiting = Zeroizing::new(Vec::new());
        self.stage = Stage::Session(session);
        Ok(())
    }

    fn take_given(&mut self) {
        if let Stage::Session(session) = &mut self.stage {
            session.opener.take(self.given);
        }
        self.given = 0;
    }

    /// Ends the stream with this error: it sticks, and the keys are wiped.
    pub fn fail(&mut self, error: Error) -> Error {
        self.stage = Stage::Failed(error.clone());
        self.waiting.zeroize();
        (self.received, self.output, self.sent) = (Vec::new(), Vec::new(), 0);
        error
    }
}

/// Appends `bytes` as records, and the last one if it `ends`: all of them or none.
fn seal(session: &mut Session, bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> Result<()> {
    if ends {
        // Room for what is sealed last, before anything is sealed.
        let records = bytes.len().div_ceil(limits::SEAL_RECORD) + 1;
        reserve(out, bytes.len().saturating_add(records.saturating_mul(32)))?;
    }
    session.sealer.data(&[bytes], bytes.len(), out)?;
    if ends { session.sealer.end(out) } else { Ok(()) }
}

/// Moves what was not sent to the front, if that is the smaller part.
fn compact(output: &mut Vec<u8>, sent: &mut usize) {
    let left = output.len() - *sent;
    if *sent > 0 && *sent >= left {
        output.copy_within(*sent.., 0);
        output.truncate(left);
        *sent = 0;
    }
}

/// Bytes to read at once in a handshake, which has at most 120.
const FIRST_READ: usize = 512;
