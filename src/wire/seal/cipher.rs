//! A key of a suite, and the only place that has one: its use, its replacement, its wiping, and
//! the counter of a direction.

use std::hint::black_box;

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::terms::Suite;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Bytes of a key.
pub(super) const KEY_SIZE: usize = 32;
/// Bytes of a tag.
pub(super) const TAG_SIZE: usize = 16;

/// Pages of the stack that a handshake uses at most; unoptimised code uses more.
const STACK_PAGES: usize = if cfg!(debug_assertions) { 8 } else { 4 };

/// The bytes of a key, wiped when they are dropped.
pub(super) type KeyBytes = Zeroizing<[u8; KEY_SIZE]>;

/// A key that can be used. ring does not wipe its keys: this one stays in its box, so that there
/// is one copy of it, and is overwritten there.
pub(super) struct CipherKey {
    suite: Suite,
    key: Box<LessSafeKey>,
}

impl CipherKey {
    pub(super) fn new(suite: Suite, key: &[u8; KEY_SIZE]) -> CipherKey {
        wipe_for(suite);
        CipherKey { suite, key: boxed(suite, key) }
    }

    /// Takes another key in place of this one.
    pub(super) fn set(&mut self, key: &[u8; KEY_SIZE]) {
        wipe_for(self.suite);
        put(&mut self.key, self.suite, key);
    }

    /// Encrypts `text` in place; returns its tag.
    pub(super) fn seal(&self, n: u64, ad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_SIZE]> {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(n), Aad::from(ad), text);
        let tag = tag.map_err(|_| failed("a record is too large"))?;
        Ok(tag.as_ref().try_into().unwrap_or_else(|_| unreachable!("a tag has 16 bytes")))
    }

    /// Decrypts `text` in place, if its tag is right.
    pub(super) fn open(
        &self,
        n: u64,
        ad: &[u8],
        text: &mut [u8],
        tag: [u8; TAG_SIZE],
    ) -> Result<()> {
        self.key
            .open_in_place_separate_tag(self.nonce(n), Aad::from(ad), tag.into(), text, 0..)
            .map(|_| ())
            .map_err(|_| failed("the tag is wrong"))
    }

    /// Noise's REKEY: the start of zeros that are encrypted with the nonce that nothing else has.
    #[inline(never)]
    fn rekey(&mut self) -> Result<()> {
        let mut next: KeyBytes = Zeroizing::new([0; KEY_SIZE]);
        self.seal(u64::MAX, &[], &mut *next)?;
        self.set(&next);
        Ok(())
    }

    /// The counter as Noise writes it into a nonce.
    fn nonce(&self, n: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&match self.suite {
            Suite::AesGcm => n.to_be_bytes(),
            Suite::ChaChaPoly => n.to_le_bytes(),
        });
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for CipherKey {
    fn drop(&mut self) {
        // A key of AES is the larger one. One of ChaCha20 would leave some of the box as it is,
        // or fill it with what is on the stack.
        *self.key = expand(Suite::AesGcm, &[0; KEY_SIZE]);
        // Nobody may find that memory that is freed next need not be written.
        black_box(&mut *self.key);
    }
}

/// Overwrites what calls that have returned left on the stack. Those of a handshake and of a change
/// of keys copy secrets there, and each record of ChaCha20 its key, in code that is not ours.
#[inline(never)]
pub(super) fn wipe_stack() {
    fn wipe_more(pages: usize) {
        black_box(&mut [0_u64; 512]);
        if pages > 1 {
            wipe_more(black_box(pages - 1));
            // Not the last call, so that it does not become a loop.
            black_box(());
        }
    }
    wipe_more(STACK_PAGES);
}

/// A key of ChaCha20 is the smaller one: what is on the stack beside it comes with it.
fn wipe_for(suite: Suite) {
    if suite == Suite::ChaChaPoly {
        wipe_stack();
    }
}

#[inline(never)]
fn boxed(suite: Suite, key: &[u8; KEY_SIZE]) -> Box<LessSafeKey> {
    Box::new(expand(suite, key))
}

#[inline(never)]
fn put(place: &mut LessSafeKey, suite: Suite, key: &[u8; KEY_SIZE]) {
    *place = expand(suite, key);
}

fn expand(suite: Suite, key: &[u8; KEY_SIZE]) -> LessSafeKey {
    let algorithm = match suite {
        Suite::AesGcm => &AES_256_GCM,
        Suite::ChaChaPoly => &CHACHA20_POLY1305,
    };
    let key = UnboundKey::new(algorithm, key);
    LessSafeKey::new(key.unwrap_or_else(|_| unreachable!("both take keys of 32 bytes")))
}

/// One direction of a session: its key and how far it is used. A counter is used once: it moves
/// on with each record, and nothing moves it back.
pub(super) struct Direction {
    key: CipherKey,
    used: Used,
}

/// How far a direction is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Records since the session began.
    pub n: u64,
    /// Records under this key.
    pub records: u64,
    /// The sum of their length fields.
    pub bytes: u64,
}

impl Direction {
    pub(super) fn new(suite: Suite, key: &[u8; KEY_SIZE], used: Used) -> Direction {
        Direction { key: CipherKey::new(suite, key), used }
    }

    pub(super) fn used(&self) -> Used {
        self.used
    }

    /// Encrypts a record in place; returns its tag.
    pub(super) fn seal(&mut self, record: &mut [u8]) -> Result<[u8; TAG_SIZE]> {
        self.check()?;
        let tag = self.key.seal(self.used.n, &[], record)?;
        self.advance(record.len())?;
        Ok(tag)
    }

    /// Decrypts a record in place, if its tag is right. The counter stays if it is wrong.
    pub(super) fn open(&mut self, record: &mut [u8], tag: [u8; TAG_SIZE]) -> Result<()> {
        self.check()?;
        self.key.open(self.used.n, &[], record, tag)?;
        self.advance(record.len())
    }

    /// The last number is for REKEY alone.
    fn check(&self) -> Result<()> {
        if self.used.n == u64::MAX {
            return Err(failed("the session has used all its numbers"));
        }
        Ok(())
    }

    fn advance(&mut self, len: usize) -> Result<()> {
        self.used.n += 1;
        self.used.records += 1;
        self.used.bytes += (len + TAG_SIZE) as u64;
        let Used { records, bytes, .. } = self.used;
        if records >= limits::SEAL_RECORDS || bytes >= limits::SEAL_BYTES {
            let replaced = self.key.rekey();
            wipe_stack();
            replaced?;
            (self.used.records, self.used.bytes) = (0, 0);
        }
        Ok(())
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        wipe_stack();
    }
}

pub(super) fn failed(why: &'static str) -> Error {
    Error::new(ErrorKind::Auth, why)
}
