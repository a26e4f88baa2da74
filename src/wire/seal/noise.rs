//! The two messages of the handshake, Noise's NNpsk0 with empty payloads, and the keys that come
//! out of it.

use std::hint::black_box;

use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::cipher::{KEY_SIZE, KeyBytes, TAG_SIZE};
use super::resolver::Resolver;
use super::terms::Suite;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a message: a public key and a tag.
pub(super) const MESSAGE_SIZE: usize = KEY_SIZE + TAG_SIZE;

/// A handshake that goes on. snow leaves secrets behind in memory that it frees, so the state
/// stays in its box and is overwritten there.
pub(super) struct Noise {
    state: Box<HandshakeState>,
    suite: Suite,
}

/// What a handshake leaves: the key that the client writes with, the server's, and the hash of
/// all that both ends have seen.
pub(super) struct Split {
    pub(super) client: KeyBytes,
    pub(super) server: KeyBytes,
    pub(super) hash: [u8; 32],
}

impl Noise {
    pub(super) fn new(
        suite: Suite,
        psk: &KeyBytes,
        prologue: &[u8],
        is_client: bool,
    ) -> Result<Noise> {
        #[cfg(test)]
        let fixed = fixed::next();
        #[cfg(not(test))]
        let fixed: Option<[u8; KEY_SIZE]> = None;
        let state = build(suite, psk, prologue, is_client, fixed.as_ref())?;
        Ok(Noise { state: Box::new(state), suite })
    }

    /// Our message.
    pub(super) fn write(&mut self) -> Result<[u8; MESSAGE_SIZE]> {
        let mut message = [0; MESSAGE_SIZE];
        match self.state.write_message(&[], &mut message) {
            Ok(MESSAGE_SIZE) => Ok(message),
            Err(snow::Error::Rng) => Err(Error::new(ErrorKind::Key, "no random numbers")),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads the peer's message; false if it does not verify.
    pub(super) fn read(&mut self, message: &[u8; MESSAGE_SIZE]) -> bool {
        self.state.read_message(message, &mut []).is_ok()
    }

    /// The keys, after both messages.
    pub(super) fn split(mut self) -> Split {
        let (client, server) = self.state.dangerously_get_raw_split();
        let (client, server) = (Zeroizing::new(client), Zeroizing::new(server));
        let hash = self.state.get_handshake_hash().first_chunk();
        Split { client, server, hash: *hash.unwrap_or_else(|| unreachable!("SHA-256 has 32")) }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        // With a key in each place, so that every byte is written.
        let name = protocol(self.suite);
        let blank = name.parse().and_then(|name| {
            let builder = Builder::with_resolver(name, Box::new(Resolver(self.suite)));
            (0..10).try_fold(builder, |builder, at| builder.psk(at, &[0; KEY_SIZE]))
        });
        if let Ok(blank) = blank.and_then(Builder::build_initiator) {
            *self.state = blank;
            black_box(&mut *self.state);
        }
    }
}

fn build(
    suite: Suite,
    psk: &KeyBytes,
    prologue: &[u8],
    is_client: bool,
    fixed: Option<&[u8; KEY_SIZE]>,
) -> Result<HandshakeState> {
    let state = protocol(suite).parse().and_then(|name| {
        let mut builder = Builder::with_resolver(name, Box::new(Resolver(suite)));
        builder = builder.psk(0, psk)?.prologue(prologue)?;
        if let Some(fixed) = fixed {
            builder = builder.fixed_ephemeral_key_for_testing_only(fixed);
        }
        if is_client { builder.build_initiator() } else { builder.build_responder() }
    });
    state.map_err(|error| unexpected(&error))
}

fn protocol(suite: Suite) -> &'static str {
    match suite {
        Suite::AesGcm => "Noise_NNpsk0_25519_AESGCM_SHA256",
        Suite::ChaChaPoly => "Noise_NNpsk0_25519_ChaChaPoly_SHA256",
    }
}

/// A failure that nothing from outside can cause.
fn unexpected(what: &impl std::fmt::Debug) -> Error {
    Error::new(ErrorKind::Auth, format!("the handshake failed: {what:?}"))
}

/// Private keys for the next handshakes of this thread, for vectors.
#[cfg(test)]
pub(super) mod fixed {
    use std::cell::RefCell;

    thread_local!(static KEYS: RefCell<Vec<[u8; 32]>> = const { RefCell::new(Vec::new()) });

    /// Takes `keys`, in order.
    pub fn set(keys: &[[u8; 32]]) {
        KEYS.set(keys.iter().rev().copied().collect());
    }

    pub(super) fn next() -> Option<[u8; 32]> {
        KEYS.with_borrow_mut(Vec::pop)
    }
}
