//! What the behaviour suites share.
#![allow(dead_code, reason = "no suite uses all of it")]

pub mod channel;
pub mod exec;
pub mod process;
pub mod proxy;

use framefd::{ErrorKind, Result};

/// What a call failed with; that it succeeded is a failure of the test.
#[track_caller]
pub fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("this call has to fail").kind()
}
