//! The handshake, and keys in files.

mod handshake;
pub mod key_file;

pub use handshake::{client, server};
