//! Messages: one on a raw descriptor, headers as text, and messages without a descriptor.

pub mod builder;
pub mod decoder;
pub mod header;
mod raw;
mod view;

pub use raw::*;
pub use view::*;
