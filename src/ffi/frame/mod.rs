//! Frames and packets: one by one, through buffers, and without a descriptor.

pub mod builder;
pub mod decoder;
mod raw;
pub mod reader;
pub mod reply;
pub mod writer;

pub use raw::*;
