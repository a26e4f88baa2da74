//! What is typed on the terminal, on its way to a command: Enter, ~ and a dot end the connection,
//! also if the host does not answer any more.
//!
//! | state | a tilde | a dot | Enter | another byte |
//! |---|---|---|---|---|
//! | begin of a line | is held back | goes on | goes on | goes on |
//! | after that tilde | one goes on | ends it | both go on | both go on |
//! | in a line | goes on | goes on | goes on | goes on |
//!
//! Enter leads to the first state, and every other byte that goes on to the last one.

use std::io::{self, PipeReader, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use framefd::frame::Handle;

use crate::failure::{Failure, Result};

#[derive(Clone, Copy, PartialEq)]
enum State {
    Begin,
    Tilde,
    Line,
}

/// Passes what is typed on to the other end of the pipe, and aborts the connection if that is
/// typed: then `is_over` is set.
pub fn start(handle: Handle, is_over: Arc<AtomicBool>) -> Result<PipeReader> {
    let refused = |error: io::Error| Failure::new(format!("what is typed: {error}"));
    let (reader, mut writer) = io::pipe().map_err(refused)?;
    let work = move || {
        let (mut stdin, mut state) = (io::stdin(), State::Begin);
        let (mut typed, mut passed) = ([0; 4096], Vec::new());
        while let Ok(got @ 1..) = stdin.read(&mut typed) {
            passed.clear();
            let ends = pass(&mut state, &typed[..got], &mut passed);
            // The command may have ended.
            if writer.write_all(&passed).is_err() {
                return;
            }
            if ends {
                is_over.store(true, Ordering::Release);
                return handle.abort();
            }
        }
    };
    thread::Builder::new().spawn(work).map_err(refused)?;
    Ok(reader)
}

/// Whether it ends the connection.
fn pass(state: &mut State, typed: &[u8], passed: &mut Vec<u8>) -> bool {
    for &byte in typed {
        let before = *state;
        *state = match byte {
            b'\r' | b'\n' => State::Begin,
            b'~' if before == State::Begin => {
                *state = State::Tilde;
                continue;
            }
            b'.' if before == State::Tilde => return true,
            _ => State::Line,
        };
        if before == State::Tilde && byte != b'~' {
            passed.push(b'~');
        }
        passed.push(byte);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tilde_at_the_begin_of_a_line_is_special() {
        for (typed, expected, ends) in [
            ("ls ~/a\r~/b\r", "ls ~/a\r~/b\r", false),
            ("~~.\r", "~.\r", false),
            ("a~.\r", "a~.\r", false),
            ("~\r.", "~\r.", false),
            ("~", "", false),
            ("~.", "", true),
            ("ls\r~.x", "ls\r", true),
            ("ls\n~.", "ls\n", true),
            ("~a~.", "~a~.", false),
        ] {
            // Whole, and byte by byte.
            for step in [typed.len(), 1] {
                let (mut state, mut passed, mut ended) = (State::Begin, Vec::new(), false);
                for piece in typed.as_bytes().chunks(step) {
                    ended = ended || pass(&mut state, piece, &mut passed);
                }
                assert_eq!((str::from_utf8(&passed), ended), (Ok(expected), ends), "{typed:?}");
            }
        }
    }
}
