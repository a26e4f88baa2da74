//! A sealed stream for an event loop of somebody else, with the keys of a ring.

use std::sync::{Arc, OnceLock};

use super::keyring::Keyring;
use crate::error::{Error, ErrorKind, Result};
use crate::io::process::fork::Origin;
use crate::ops::frame::Proof;
use crate::wire::auth::{Key, KeyId};
use crate::wire::seal::stream::{Read, Seal};
use crate::wire::seal::terms::{Suite, Terms};

/// A [`Seal`] that belongs to one process, and ends when its key leaves the ring.
pub struct SealedStream {
    seal: Seal,
    origin: Origin,
    /// A server's ring, and the key that the client has named.
    membership: Option<(Arc<Keyring>, Arc<OnceLock<Key>>)>,
    /// The generation of the ring in which the key was seen.
    generation: u64,
}

impl SealedStream {
    /// A client's; without a `suite` the processor decides.
    pub fn client(
        key: &Key,
        id: &KeyId,
        terms: &Terms,
        suite: Option<Suite>,
    ) -> Result<SealedStream> {
        let suite = suite.unwrap_or_else(Suite::preferred);
        let seal = Seal::client(key, id, terms, suite)?;
        Ok(SealedStream { seal, origin: Origin::here(), membership: None, generation: 0 })
    }

    /// A server's, with the keys that `ring` has when the client names its own.
    pub fn server(ring: &Arc<Keyring>, terms: &Terms) -> Result<SealedStream> {
        if ring.is_empty() {
            return Err(Error::new(ErrorKind::Key, "the key ring is empty"));
        }
        let (keys, named) = (Arc::clone(ring), Arc::new(OnceLock::new()));
        let (decoy, learned) = (ring.decoy()?, Arc::clone(&named));
        let key_for = move |id: &KeyId| {
            let key = keys.sealing_key(id).unwrap_or_else(|| decoy.clone());
            learned.get_or_init(|| key).clone()
        };
        let seal = Seal::server(terms, Box::new(key_for))?;
        let membership = Some((Arc::clone(ring), named));
        let generation = ring.generation();
        Ok(SealedStream { seal, origin: Origin::here(), membership, generation })
    }

    /// The buffer to append received bytes to, with room for at least one.
    pub fn space(&mut self) -> Result<&mut Vec<u8>> {
        self.check()?;
        self.seal.space()
    }

    /// The same buffer as it is, to which bytes were added in place.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.seal.buffer()
    }

    /// The next bytes of the stream, valid until the next call; there may be output afterwards.
    pub fn read(&mut self) -> Result<Read<'_>> {
        self.check()?;
        self.seal.read()
    }

    /// Whether the stream was ended, once nothing more can be received.
    pub fn finish(&mut self) -> Result<()> {
        self.check()?;
        self.seal.finish()
    }

    /// Seals `bytes`; if it `ends`, they are the last. Before the handshake is done they wait, up
    /// to 64 KiB.
    pub fn write(&mut self, bytes: &[u8], ends: bool) -> Result<()> {
        self.check()?;
        self.seal.write(bytes, ends)
    }

    /// The bytes to send, after `written` of those before were.
    pub fn output(&mut self, written: usize) -> Result<&[u8]> {
        self.check()?;
        self.seal.check()?;
        let there = self.seal.output().len();
        if written > there {
            let detail = format!("written is {written}, but there were {there} bytes");
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        self.seal.written(written);
        Ok(self.seal.output())
    }

    /// What the handshake has proved, once it is done.
    pub fn proof(&self) -> Result<Option<Proof>> {
        self.check_process()?;
        Ok(self.seal.session().map(|session| {
            let seal = Some((session.suite, session.hash));
            Proof { key_id: session.key_id.clone(), seal }
        }))
    }

    fn check_process(&self) -> Result<()> {
        if self.origin.is_here() { Ok(()) } else { Err(Error::new(ErrorKind::Forked, "")) }
    }

    /// Fails in a child of fork(2), and once the key has left the ring.
    fn check(&mut self) -> Result<()> {
        self.check_process()?;
        let (Some((ring, named)), Some(session)) = (&self.membership, self.seal.session()) else {
            return Ok(());
        };
        let now = ring.generation();
        if let Some(key) = named.get().filter(|_| now != self.generation)
            && let Err(error) = ring.check(&session.key_id, key)
        {
            return Err(self.seal.fail(error));
        }
        self.generation = now;
        Ok(())
    }
}
