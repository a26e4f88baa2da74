//! The JSON of headers: read, written, and quoted in messages for people.

mod escape;
pub mod header;
pub mod id;
mod plain;
pub mod reader;
pub mod writer;

pub use escape::{escape, quote};
