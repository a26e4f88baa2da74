//! The handshake, keys in files, and rings of keys.

mod connection;
mod handshake;
pub mod key_file;
pub mod keyring;
mod sealed;
mod stream;

pub use handshake::{Options, client, server, server_ring};
pub use stream::SealedStream;
