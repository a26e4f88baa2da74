//! The JSON of headers: read, written, and quoted in messages for people.

pub mod builder;
mod escape;
pub mod fields;
pub mod header;

pub use escape::{escape, quote};
