//! The border to C: arguments, options and callbacks come in here, outcomes go out.

pub mod options;

pub(super) mod arguments;
pub(super) mod cell;
pub(super) mod hook;
pub(super) mod outcome;
pub(super) mod parameters;
pub(super) mod policy;
