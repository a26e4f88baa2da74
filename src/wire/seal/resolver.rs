//! The cryptography of the handshake, in the shape that snow asks for. Every secret is wiped.

use std::hint::black_box;

use curve25519_dalek::montgomery::MontgomeryPoint;
use sha2::{Digest as _, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::{Zeroize as _, Zeroizing};

use super::cipher::{CipherKey, KEY_SIZE, KeyBytes, TAG_SIZE};
use super::terms::Suite;

/// Gives X25519, SHA-256 and the cipher of a suite.
pub(super) struct Resolver(pub(super) Suite);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Kernel))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(X25519 { private: Zeroizing::new([0; KEY_SIZE]), public: [0; KEY_SIZE] }))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Sha(Sha256::new())))
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(Aead { suite: self.0, key: None }))
    }
}

/// Random numbers from the kernel.
struct Kernel;

impl Random for Kernel {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        #[cfg(test)]
        if calls::count(|calls| &mut calls.random) && calls::no_random() {
            return Err(snow::Error::Rng);
        }
        crate::wire::auth::fill_random(bytes).map_err(|_| snow::Error::Rng)
    }
}

struct X25519 {
    private: KeyBytes,
    public: [u8; KEY_SIZE],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_SIZE
    }

    fn priv_len(&self) -> usize {
        KEY_SIZE
    }

    fn set(&mut self, private: &[u8]) {
        self.private.copy_from_slice(private);
        #[cfg(test)]
        calls::count(|calls| &mut calls.curve);
        // From a table: that takes a third of the time.
        self.public = MontgomeryPoint::mul_base_clamped(*self.private).to_bytes();
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private: KeyBytes = Zeroizing::new([0; KEY_SIZE]);
        random.try_fill_bytes(&mut *private)?;
        self.set(&*private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.first_chunk().ok_or(snow::Error::Dh)?;
        let mut shared = self.multiply(MontgomeryPoint(*public));
        out[..KEY_SIZE].copy_from_slice(&shared);
        shared.zeroize();
        Ok(())
    }
}

impl X25519 {
    fn multiply(&self, point: MontgomeryPoint) -> [u8; KEY_SIZE] {
        #[cfg(test)]
        calls::count(|calls| &mut calls.curve);
        point.mul_clamped(*self.private).to_bytes()
    }
}

struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        // All of it, with the block that was hashed last.
        self.0 = Sha256::new();
        black_box(&mut self.0);
    }

    fn input(&mut self, data: &[u8]) {
        #[cfg(test)]
        calls::count(|calls| &mut calls.hash);
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}

impl Drop for Sha {
    fn drop(&mut self) {
        self.reset();
    }
}

struct Aead {
    suite: Suite,
    key: Option<CipherKey>,
}

impl Cipher for Aead {
    fn name(&self) -> &'static str {
        match self.suite {
            Suite::AesGcm => "AESGCM",
            Suite::ChaChaPoly => "ChaChaPoly",
        }
    }

    fn set(&mut self, key: &[u8; KEY_SIZE]) {
        match &mut self.key {
            Some(cipher) => cipher.set(key),
            None => self.key = Some(CipherKey::new(self.suite, key)),
        }
    }

    fn encrypt(&self, n: u64, ad: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        #[cfg(test)]
        calls::count(|calls| &mut calls.cipher);
        let (text, tag) = out[..plain.len() + TAG_SIZE].split_at_mut(plain.len());
        text.copy_from_slice(plain);
        let sealed = self.key.as_ref().map(|key| key.seal(n, ad, text));
        let Some(Ok(sealed)) = sealed else { unreachable!("snow sets a key, and texts are short") };
        tag.copy_from_slice(&sealed);
        plain.len() + TAG_SIZE
    }

    fn decrypt(
        &self,
        n: u64,
        ad: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        #[cfg(test)]
        calls::count(|calls| &mut calls.cipher);
        let (text, tag) = sealed.split_last_chunk::<TAG_SIZE>().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(text);
        let key = self.key.as_ref().ok_or(snow::Error::Decrypt)?;
        key.open(n, ad, out, *tag).map_err(|_| snow::Error::Decrypt)?;
        Ok(text.len())
    }
}

/// What this thread has called, for tests.
#[cfg(test)]
pub(super) mod calls {
    use std::cell::{Cell, RefCell};

    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Calls {
        pub random: usize,
        pub curve: usize,
        pub hash: usize,
        pub cipher: usize,
    }

    thread_local! {
        static CALLS: RefCell<Calls> = const { RefCell::new(Calls {
            random: 0, curve: 0, hash: 0, cipher: 0,
        }) };
        static NO_RANDOM: Cell<bool> = const { Cell::new(false) };
    }

    pub fn count(which: impl FnOnce(&mut Calls) -> &mut usize) -> bool {
        CALLS.with_borrow_mut(|calls| *which(calls) += 1);
        true
    }

    pub fn no_random() -> bool {
        NO_RANDOM.get()
    }

    /// The calls of `action`.
    pub fn during(action: impl FnOnce()) -> Calls {
        CALLS.set(Calls::default());
        action();
        CALLS.take()
    }

    /// Does `action` without random numbers.
    pub fn without_random<T>(action: impl FnOnce() -> T) -> T {
        NO_RANDOM.set(true);
        let result = action();
        NO_RANDOM.set(false);
        result
    }
}
