//! What the behaviour suites share.
#![allow(dead_code, reason = "no suite uses all of it")]

pub mod agreement;
pub mod channel;
pub mod exec;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod run;
pub mod sealing;
pub mod stream;

use std::fs::File;
use std::io::{Seek as _, Write as _};

use framefd::{ErrorKind, Result};

/// What a call failed with; that it succeeded is a failure of the test.
#[track_caller]
pub fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("this call has to fail").kind()
}

/// How many random cases a property gets: `usual`, unless PROPTEST_CASES says otherwise.
pub fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").map_or(usual, |cases| cases.parse().unwrap())
}

/// A frame as it is on the wire.
pub fn encoded(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Bytes that do not repeat soon.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..u32::try_from(len).unwrap()).map(|i| ((i * 31) >> 5).to_le_bytes()[0]).collect()
}

/// A file with these bytes, at its start.
pub fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}
