//! Files below a directory that no name leads out of, stored whole or not at all.

pub(crate) mod at;
pub mod check;
pub mod directory;
pub mod identity;
mod in_place;
pub mod locked;
mod mode;
mod own_file;
pub mod partial;
pub mod path;
pub mod private;
pub mod range;
pub mod remove;
pub mod root;
mod settled;
pub mod store;
pub mod sweep;
mod temporary;
mod write;
