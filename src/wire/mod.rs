//! Bytes only: no file descriptors, no clock, no allocation from a declared size.

pub mod auth;
pub mod builder;
pub mod datagram;
pub mod decoder;
pub mod digest;
mod escape;
pub mod fields;
pub mod head;
pub mod header;
pub mod memory;
pub mod message;
pub mod name;
pub mod packet;
pub mod parts;

pub use escape::{escape, quote};
