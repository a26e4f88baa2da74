//! Sealed streams, as state machines: bytes in, bytes out. docs/protocol.md, "Sealed connections".
//!
//! ```text
//! terms.rs      what both ends know beforehand, and the suites
//! handshake.rs  Handshake: preface, two messages, CONFIRM -> a Session
//!   noise.rs      the two messages, by snow
//!   resolver.rs   their cryptography, in the shape that snow asks for
//! record.rs     Sealer and Opener: the two directions of a session
//!   cipher.rs     a key, its counter, its replacement and its wiping
//! stream.rs     Seal: all of it, for an event loop of somebody else
//! ```

mod cipher;
pub mod handshake;
mod noise;
pub mod record;
mod resolver;
pub mod stream;
pub mod terms;

pub use cipher::Used;

#[cfg(test)]
mod tests;
