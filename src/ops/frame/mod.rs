//! Frames and packets: one on a raw descriptor, or many through a buffer.

pub(crate) mod link;
mod raw;
pub mod reader;
pub mod reply;
pub mod writer;

pub use raw::*;
