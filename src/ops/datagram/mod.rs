//! Frames in datagrams, and commands in them.

pub(crate) mod exchange;
pub mod exec;
mod frame;
pub(crate) mod replay;

pub use frame::*;
