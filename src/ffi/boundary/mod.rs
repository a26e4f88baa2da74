//! The border to C: arguments, options, callbacks and results.

pub mod options;

pub(super) mod arguments;
pub(super) mod cell;
pub(super) mod hook;
pub(super) mod outcome;
pub(super) mod parameters;
pub(super) mod policy;
