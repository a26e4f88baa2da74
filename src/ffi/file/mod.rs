//! Files: put, got and served, their names and trees.

pub mod query;
mod transfer;
pub mod tree;

pub use transfer::*;
