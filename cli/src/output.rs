//! Text for people, and bytes for a standard output that may not block.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::failure::{Failure, PIPE, Result};

/// Writes all of it to standard output.
pub fn show(bytes: &[u8]) -> Result<()> {
    show_on(io::stdout().as_fd(), bytes).map_err(|errno| unwritten("standard output", errno))
}

/// Writes all of it, and nothing of other threads between.
pub fn show_on(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    let _screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
    write_all(fd, bytes)
}

/// Says one line on standard error, if anybody reads it. Whatever is in it, it is one, and text.
pub fn say(line: &str) {
    if !line.is_empty() {
        let line = escaped(line.as_bytes(), char::is_control);
        let _ = show_on(io::stderr().as_fd(), format!("framefd: {line}\n").as_bytes());
    }
}

/// Held while something is written that other threads must not write into.
static SCREEN: Mutex<()> = Mutex::new(());

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
    escaped(bytes, |letter| letter == '\\' || letter.is_control() || is_hidden(letter))
}

/// A line of a stranger's for a terminal: it can move no cursor, and change no colour.
pub fn harmless(line: &[u8]) -> String {
    escaped(line, |letter| letter != '\t' && (letter.is_control() || is_hidden(letter)))
}

fn escaped(bytes: &[u8], is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::new();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' if is_escaped('\\') => shown.push_str("\\\\"),
                letter if is_escaped(letter) => {
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

/// Characters that end a line, turn its direction, or are not to be seen.
fn is_hidden(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
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
            (b"\xc2\x9b2J\r\xe2\x80\x8b", "\\xc2\\x9b2J\\x0d\\xe2\\x80\\x8b"),
        ] {
            assert_eq!(one_line(name), line);
        }
        assert_eq!(harmless(b"a\tb\\c\x1b[2J\r\n\x9b"), "a\tb\\c\\x1b[2J\\x0d\\x0a\\x9b");
    }
}
