//! The handshake of a sealed stream: the client's preface and message, the server's message, the
//! client's CONFIRM.
//!
//! | end | expects | bytes | then |
//! |---|---|---|---|
//! | server | the word | 4 | |
//! | | suite, n | 2 | |
//! | | the id | n | |
//! | both | the length of a message | 2 | |
//! | | the message | 48 | server: sends its own; client: done, sends CONFIRM |
//! | server | the length of a record | 2 | |
//! | | CONFIRM | 17 | done |
//!
//! The first failure ends it, and wipes what it had.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::cipher::{Direction, KEY_SIZE, KeyBytes, Used, failed, wipe_stack};
use super::noise::{MESSAGE_SIZE, Noise};
use super::record::{EMPTY_SIZE, Opener, Sealer};
use super::terms::{Suite, Terms};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::auth::{Key, KeyId};
use crate::wire::quote;

/// A handshake, at one of its ends.
pub struct Handshake {
    terms: Terms,
    is_client: bool,
    expects: Expects,
    /// As sent, as far as it is known.
    preface: Vec<u8>,
    suite: Suite,
    id: KeyId,
    noise: Option<Noise>,
    /// The server's, before the client has confirmed.
    session: Option<Box<Session>>,
}

/// What the next bytes are.
enum Expects {
    Word,
    Head,
    Id(usize),
    MessageLength,
    Message,
    ConfirmLength,
    Confirm,
    Nothing,
    Failed(Error),
}

/// What follows a step.
pub enum Step {
    /// More bytes are needed.
    More,
    /// To be sent; then more bytes are needed.
    Reply(Vec<u8>),
    /// The peer has the key, and the session begins.
    Done {
        /// Both directions.
        session: Box<Session>,
        /// The client's first record, to be sent before any other, in the same write or not;
        /// empty at the server.
        confirm: Vec<u8>,
    },
}

/// What a handshake results in.
pub struct Session {
    /// The direction that is written.
    pub sealer: Sealer,
    /// The direction that is read.
    pub opener: Opener,
    /// A hash of the whole handshake: the same at both ends and in no other session, for channel
    /// binding.
    pub hash: [u8; 32],
    /// The key that both ends have.
    pub key_id: KeyId,
    /// The suite that the client chose.
    pub suite: Suite,
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handshake(..)")
    }
}

impl Handshake {
    /// A client's, and what it sends first. Fails for a key below 32 bytes.
    pub fn client(
        key: &Key,
        id: &KeyId,
        terms: &Terms,
        suite: Suite,
    ) -> Result<(Handshake, Vec<u8>)> {
        let begun = Handshake::begin(key, id, terms, suite);
        wipe_stack();
        begun
    }

    #[inline(never)]
    fn begin(key: &Key, id: &KeyId, terms: &Terms, suite: Suite) -> Result<(Handshake, Vec<u8>)> {
        let mut preface = WORD.to_vec();
        let id_bytes = id.as_str().as_bytes();
        preface.extend([suite as u8, one_byte(id_bytes)]);
        preface.extend_from_slice(id_bytes);
        let prologue = prologue(terms, &preface);
        let mut noise = Noise::new(suite, &psk(key, suite)?, &prologue, true)?;
        let mut sent = preface.clone();
        sent.extend_from_slice(&framed(noise.write()?));
        let handshake = Handshake {
            terms: terms.clone(),
            is_client: true,
            expects: Expects::MessageLength,
            preface,
            suite,
            id: id.clone(),
            noise: Some(noise),
            session: None,
        };
        Ok((handshake, sent))
    }

    /// A server's.
    pub fn server(terms: &Terms) -> Result<Handshake> {
        Ok(Handshake {
            terms: terms.clone(),
            is_client: false,
            expects: Expects::Word,
            preface: Vec::new(),
            suite: Suite::AesGcm,
            id: KeyId::default(),
            noise: None,
            session: None,
        })
    }

    /// How many bytes the next step needs. It is never 0, and nothing beyond them belongs to it.
    pub fn needs(&self) -> usize {
        match self.expects {
            Expects::Word => WORD.len(),
            Expects::Head | Expects::MessageLength | Expects::ConfirmLength => 2,
            Expects::Id(len) => len,
            Expects::Message => MESSAGE_SIZE,
            Expects::Confirm => EMPTY_SIZE - 2,
            Expects::Nothing | Expects::Failed(_) => 1,
        }
    }

    /// The id that the client has named. Nothing has verified it yet.
    pub fn key_id(&self) -> &KeyId {
        &self.id
    }

    /// Takes the next bytes, exactly [`needs`](Self::needs) of them. A server asks `key_for` for
    /// the key of an id. For an unknown id it should give a random key, always the same one, so
    /// that nobody can tell.
    pub fn step(&mut self, bytes: &[u8], key_for: &dyn Fn(&KeyId) -> Key) -> Result<Step> {
        if let Expects::Failed(error) = &self.expects {
            return Err(error.clone());
        }
        let is_message = matches!(self.expects, Expects::Message);
        let result = self.next(bytes, key_for);
        if let Err(error) = &result {
            self.expects = Expects::Failed(error.clone());
            (self.noise, self.session) = (None, None);
        }
        if is_message {
            wipe_stack();
        }
        result
    }

    #[inline(never)]
    fn next(&mut self, bytes: &[u8], key_for: &dyn Fn(&KeyId) -> Key) -> Result<Step> {
        if bytes.len() != self.needs() {
            let detail = format!("{} bytes, {} are needed", bytes.len(), self.needs());
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        match self.expects {
            Expects::Word => self.read_word(bytes)?,
            Expects::Head => self.read_head([bytes[0], bytes[1]])?,
            Expects::Id(_) => self.read_id(bytes)?,
            Expects::MessageLength => self.read_message_length(bytes)?,
            Expects::Message if self.is_client => return self.read_reply(bytes),
            Expects::Message => return self.answer(bytes, key_for),
            Expects::ConfirmLength => self.read_confirm_length(bytes)?,
            Expects::Confirm => return self.read_confirm(bytes),
            Expects::Nothing | Expects::Failed(_) => {
                return Err(Error::new(ErrorKind::State, "the handshake is over"));
            }
        }
        Ok(Step::More)
    }

    fn read_word(&mut self, word: &[u8]) -> Result<()> {
        if word != WORD {
            let (came, what) = (quote(word), recognise(word));
            let detail =
                format!("the client begins with {came}{what}: does the client speak sealed?");
            return Err(Error::new(ErrorKind::Auth, detail));
        }
        self.preface.extend_from_slice(word);
        self.expects = Expects::Head;
        Ok(())
    }

    fn read_head(&mut self, [suite, len]: [u8; 2]) -> Result<()> {
        self.suite = Suite::from_wire(suite)
            .ok_or_else(|| Error::new(ErrorKind::Auth, format!("there is no suite {suite}")))?;
        let len_here = usize::from(len);
        if len_here > limits::KEY_ID {
            let detail = format!("the id of the client's key has {len} bytes, above 64");
            return Err(Error::new(ErrorKind::Auth, detail));
        }
        self.preface.extend([suite, len]);
        self.expects = match len_here {
            0 => Expects::MessageLength,
            len => Expects::Id(len),
        };
        Ok(())
    }

    fn read_id(&mut self, id: &[u8]) -> Result<()> {
        self.id = KeyId::new(id).map_err(|error| {
            Error::new(ErrorKind::Auth, error.detail().to_owned()).context("the client's key")
        })?;
        self.preface.extend_from_slice(id);
        self.expects = Expects::MessageLength;
        Ok(())
    }

    fn read_message_length(&mut self, length: &[u8]) -> Result<()> {
        if length != MESSAGE_LENGTH {
            let came = quote(length);
            let detail = if self.is_client {
                format!("the server begins with {came}: does the server speak sealed?")
            } else {
                format!("{came} is not the length of the client's message")
            };
            return Err(Error::new(ErrorKind::Auth, detail));
        }
        self.expects = Expects::Message;
        Ok(())
    }

    /// The server's one attempt, with one key.
    fn answer(&mut self, message: &[u8], key_for: &dyn Fn(&KeyId) -> Key) -> Result<Step> {
        let prologue = prologue(&self.terms, &self.preface);
        let psk = psk(&key_for(&self.id), self.suite)?;
        let mut noise = Noise::new(self.suite, &psk, &prologue, false)?;
        if !noise.read(exactly(message)) {
            let id = quote(self.id.as_str().as_bytes());
            let detail = format!(
                "the client does not have the key {id}, or it expects another name of the server \
                 or the other role"
            );
            return Err(Error::new(ErrorKind::Auth, detail));
        }
        let reply = framed(noise.write()?);
        self.session = Some(Box::new(self.session(noise)));
        self.expects = Expects::ConfirmLength;
        Ok(Step::Reply(reply))
    }

    fn read_confirm_length(&mut self, length: &[u8]) -> Result<()> {
        if length != CONFIRM_LENGTH {
            return Err(failed("the client's first record is not its confirmation"));
        }
        self.expects = Expects::Confirm;
        Ok(())
    }

    fn read_confirm(&mut self, record: &[u8]) -> Result<Step> {
        let Some(mut session) = self.session.take() else {
            return Err(Error::new(ErrorKind::State, "the handshake is over"));
        };
        session.opener.feed(&CONFIRM_LENGTH)?;
        session.opener.feed(record)?;
        session.opener.confirm()?;
        self.expects = Expects::Nothing;
        Ok(Step::Done { session, confirm: Vec::new() })
    }

    fn read_reply(&mut self, message: &[u8]) -> Result<Step> {
        let Some(mut noise) = self.noise.take() else {
            return Err(Error::new(ErrorKind::State, "the handshake is over"));
        };
        if !noise.read(exactly(message)) {
            return Err(failed("the server's message is not made with this key"));
        }
        let mut session = Box::new(self.session(noise));
        let mut confirm = Vec::new();
        session.sealer.confirm(&mut confirm)?;
        self.expects = Expects::Nothing;
        Ok(Step::Done { session, confirm })
    }

    fn session(&self, noise: Noise) -> Session {
        let split = noise.split();
        let (ours, theirs) = if self.is_client {
            (&split.client, &split.server)
        } else {
            (&split.server, &split.client)
        };
        Session {
            sealer: Sealer::new(Direction::new(self.suite, ours, Used::default())),
            opener: Opener::new(Direction::new(self.suite, theirs, Used::default())),
            hash: split.hash,
            key_id: self.id.clone(),
            suite: self.suite,
        }
    }
}

/// The key for the handshake's messages, which is no key for anything else.
fn psk(key: &Key, suite: Suite) -> Result<KeyBytes> {
    let len = key.as_bytes().len();
    if len < limits::SEAL_KEY {
        let detail = format!("{len} bytes are too few for a sealed stream, the least is 32");
        return Err(Error::new(ErrorKind::Key, detail));
    }
    let mut psk: KeyBytes = Zeroizing::new([0; KEY_SIZE]);
    Hkdf::<Sha256>::new(None, key.as_bytes())
        .expand_multi_info(&[VERSION, &[suite as u8]], &mut *psk)
        .unwrap_or_else(|_| unreachable!("HKDF gives up to 8,160 bytes"));
    Ok(psk)
}

/// What both ends must agree on.
fn prologue(terms: &Terms, preface: &[u8]) -> Vec<u8> {
    let name = terms.name.as_str().as_bytes();
    let role = [u8::from(terms.client_serves)];
    [VERSION, &role, preface, &[one_byte(name)], name].concat()
}

/// A message with its length.
fn framed(message: [u8; MESSAGE_SIZE]) -> Vec<u8> {
    [&MESSAGE_LENGTH[..], &message].concat()
}

fn exactly(message: &[u8]) -> &[u8; MESSAGE_SIZE] {
    message.first_chunk().unwrap_or_else(|| unreachable!("checked by `next`"))
}

/// The length of a name or an id, which has at most 64 bytes.
fn one_byte(text: &[u8]) -> u8 {
    text.len().try_into().unwrap_or(u8::MAX)
}

/// Names what speaks instead of a sealed client, if that is well known.
fn recognise(word: &[u8]) -> &'static str {
    match word {
        [0x16, 3, ..] => ", as TLS does",
        b"SSH-" => ", as SSH does",
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"OPTI" | b"PRI " | b"CONN" => ", as HTTP does",
        [_, _, 0, 0] => ", which may be the length of a frame",
        _ => "",
    }
}

/// The first bytes of a sealed client.
const WORD: [u8; 4] = *b"FDS1";
/// With the NUL after it, in the derivation of a key and in the prologue.
const VERSION: &[u8] = b"framefd seal v1\0";
/// 48, as a length on the wire.
const MESSAGE_LENGTH: [u8; 2] = [0, 0x30];
/// 17, that of a record without a body.
const CONFIRM_LENGTH: [u8; 2] = [0, 0x11];
