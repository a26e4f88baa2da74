//! Text for people, and bytes for a standard output that may not block.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::failure::{Failure, PIPE, Result};

/// Writes all of it to standard output.
pub fn show(bytes: &[u8]) -> Result<()> {
    write_all(io::stdout().as_fd(), bytes).map_err(|errno| unwritten("standard output", errno))
}

/// Says one line on standard error, if anybody reads it.
pub fn say(line: &str) {
    if !line.is_empty() {
        let _ = write_all(io::stderr().as_fd(), format!("framefd: {line}\n").as_bytes());
    }
}

/// What failed if `what` could not be written.
pub fn unwritten(what: &str, errno: Errno) -> Failure {
    let why = io::Error::from(errno).to_string();
    let why = why.split(" (os error").next().unwrap_or_default();
    match errno {
        Errno::PIPE => nobody_reads(what),
        Errno::NOSPC => Failure::new(format!("{what}: {why}: make room, and try again")),
        _ => Failure::new(format!("{what}: {why}: the rest of the output is lost")),
    }
}

/// The reader of the output is gone.
pub fn nobody_reads(what: &str) -> Failure {
    let line = format!("{what}: broken pipe: nobody reads it any more, so this ends here");
    Failure::new(line).with_status(PIPE)
}

/// Writes all of it, also to a descriptor that does not block.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(fd, PollFlags::OUT),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn wait_for(fd: BorrowedFd<'_>, events: PollFlags) {
    // If it fails, the caller's next try does.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, events)], None);
}

/// Writes a line to a reader that may be gone, or may not read any more: then it is dropped.
pub fn write_if_taken(fd: BorrowedFd<'_>, line: &[u8]) {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    if poll(&mut fds, Some(&now)).is_ok_and(|taken| taken > 0) {
        // A pipe that takes anything takes as much as a line has.
        let _ = rustix::io::write(fd, line);
    }
}

/// Waits until there is something to read, or the end; false after a signal or that much time.
pub fn is_readable(fd: BorrowedFd<'_>, time: Duration) -> bool {
    let time = Timespec::try_from(time).ok();
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], time.as_ref()).is_ok_and(|got| got > 0)
}

/// Bytes of anybody as one line: control characters and the backslash are escaped.
pub fn one_line(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => shown.push_str("\\\\"),
                letter if letter.is_control() || is_hidden(letter) => {
                    for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                        shown.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                letter => shown.push(letter),
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

/// The same for an argument.
pub fn shown(text: &OsStr) -> String {
    one_line(text.as_bytes())
}

/// Characters that end a line, or turn its direction.
fn is_hidden(letter: char) -> bool {
    matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_line() {
        for (name, line) in [
            (&b"a b"[..], "a b"),
            (b"a\nb\\c", "a\\x0ab\\\\c"),
            (b"\xff\xc3\xa9", "\\xff\u{e9}"),
            (b"\x1b[2J\xe2\x80\xae", "\\x1b[2J\\xe2\\x80\\xae"),
        ] {
            assert_eq!(one_line(name), line);
        }
    }
}
