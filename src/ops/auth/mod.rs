//! The handshake, keys in files, and rings of keys.

mod handshake;
pub mod key_file;
pub mod keyring;

pub use handshake::{client, server, server_ring};
