//! Frames, authentication, remote commands and file transfer over any file descriptor.
//!
//! The layers, each importing only from those below it:
//!
//! - [`ffi`]: the C interface of `include/framefd.h`.
//! - [`ops`]: the features: frames, the handshake, commands, files, datagrams.
//! - [`io`]: descriptors: deadlines, reading, writing, processes, paths.
//! - [`wire`]: bytes: prefixes, headers, messages, challenges.
//! - [`error`], [`limits`].

pub mod error;
pub mod ffi;
pub mod io;
pub mod limits;
pub mod ops;
pub mod wire;

pub use error::{Error, ErrorKind, Result};
pub use ops::Duplex;
pub use wire::auth::Key;
