//! Bytes only: no file descriptors, no clock, no allocation from a declared size.

pub mod auth;
pub mod datagram;
pub mod digest;
pub mod entry;
pub mod frame;
pub mod json;
pub mod memory;
pub mod message;
pub mod name;
pub mod pairs;
#[cfg(feature = "seal")]
pub mod seal;
#[cfg(not(feature = "seal"))]
#[path = "seal_absent.rs"]
pub mod seal;
pub mod strings;

pub use json::{escape, quote};
