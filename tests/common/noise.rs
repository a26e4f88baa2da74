//! The handshake of a sealed stream by hand, for tests that have to know every secret of it.
#![allow(dead_code, reason = "no suite uses all of it")]

use curve25519_dalek::montgomery::MontgomeryPoint;
use framefd::wire::seal::terms::Suite;
use hkdf::Hkdf;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

/// One end, up to some point.
pub struct Noise {
    suite: Suite,
    hash: [u8; 32],
    chaining: [u8; 32],
    cipher: [u8; 32],
    /// Every secret so far, with its name.
    pub secrets: Vec<(String, [u8; 32])>,
}

impl Noise {
    /// At the start, with the token psk.
    pub fn new(suite: Suite, key: &[u8], prologue: &[u8]) -> Noise {
        let name: &[u8] = match suite {
            Suite::AesGcm => b"Noise_NNpsk0_25519_AESGCM_SHA256",
            Suite::ChaChaPoly => b"Noise_NNpsk0_25519_ChaChaPoly_SHA256",
        };
        let start = <[u8; 32]>::try_from(name).unwrap_or_else(|_| Sha256::digest(name).into());
        let mut psk = [0; 32];
        let info = [VERSION, &[suite as u8][..]].concat();
        Hkdf::<Sha256>::new(None, key).expand(&info, &mut psk).unwrap();
        let secrets = vec![("psk".to_owned(), psk)];
        let mut noise = Noise { suite, hash: start, chaining: start, cipher: psk, secrets };
        noise.mix_hash(prologue);
        let [chaining, hash, cipher] = hkdf(&noise.chaining, &psk);
        noise.mix_hash(&hash);
        noise.become_known(chaining, cipher);
        noise
    }

    /// The token e: a public key, of either end.
    pub fn public(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        self.mix_key(public);
    }

    /// The token ee.
    pub fn multiply(&mut self, private: [u8; 32], theirs: &[u8; 32]) {
        let shared = MontgomeryPoint(*theirs).mul_clamped(private).to_bytes();
        self.secrets.push(("shared".to_owned(), shared));
        self.mix_key(&shared);
    }

    /// An empty payload: the tag at the end of a message.
    pub fn tag(&mut self) -> [u8; 16] {
        let tag = seal(self.suite, &self.cipher, 0, &self.hash, &mut []);
        self.mix_hash(&tag);
        tag
    }

    /// The client's key and the server's.
    pub fn split(&mut self) -> [[u8; 32]; 2] {
        let [k1, k2, _] = hkdf(&self.chaining, &[]);
        self.secrets.extend([("k1".to_owned(), k1), ("k2".to_owned(), k2)]);
        [k1, k2]
    }

    fn mix_hash(&mut self, bytes: &[u8]) {
        self.hash = Sha256::new().chain_update(self.hash).chain_update(bytes).finalize().into();
    }

    fn mix_key(&mut self, material: &[u8]) {
        let [chaining, cipher, _] = hkdf(&self.chaining, material);
        self.become_known(chaining, cipher);
    }

    fn become_known(&mut self, chaining: [u8; 32], cipher: [u8; 32]) {
        let number = self.secrets.iter().filter(|(name, _)| name.starts_with("ck")).count() + 1;
        self.secrets.push((format!("ck{number}"), chaining));
        self.secrets.push((format!("cipher{number}"), cipher));
        (self.chaining, self.cipher) = (chaining, cipher);
    }
}

/// Every secret of a handshake besides the key and the private keys, with its name; `private` is
/// that of `ours`.
pub fn secrets(
    suite: Suite,
    key: &[u8],
    private: [u8; 32],
    [client, server]: [&[u8; 32]; 2],
    theirs: &[u8; 32],
) -> Vec<(String, [u8; 32])> {
    let mut noise = Noise::new(suite, key, b"");
    noise.public(client);
    noise.public(server);
    noise.multiply(private, theirs);
    noise.split();
    noise.secrets
}

/// Encrypts in place; returns the tag.
pub fn seal(suite: Suite, key: &[u8; 32], n: u64, ad: &[u8], text: &mut [u8]) -> [u8; 16] {
    let mut nonce = [0; 12];
    let (algorithm, counter) = match suite {
        Suite::AesGcm => (&AES_256_GCM, n.to_be_bytes()),
        Suite::ChaChaPoly => (&CHACHA20_POLY1305, n.to_le_bytes()),
    };
    nonce[4..].copy_from_slice(&counter);
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(ad), text).unwrap();
    tag.as_ref().try_into().unwrap()
}

/// The three outputs of Noise's HKDF; its chaining key is the salt.
fn hkdf(chaining: &[u8; 32], material: &[u8]) -> [[u8; 32]; 3] {
    let mut out = [0; 96];
    Hkdf::<Sha256>::new(Some(chaining), material).expand(&[], &mut out).unwrap();
    [0, 32, 64].map(|at| out[at..at + 32].try_into().unwrap())
}

/// In the derivation of the psk and in the prologue.
pub const VERSION: &[u8] = b"framefd seal v1\0";
