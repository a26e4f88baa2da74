//! Makes bytes of the peer safe for a log line or a terminal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// The most bytes of the peer that an error text repeats.
const SHOWN: usize = 256;

/// `bytes` as text that cannot forge a line or control a terminal: unprintable bytes are
/// escaped, and the text is cut after 256 bytes.
#[expect(clippy::unnecessary_debug_formatting, reason = "Debug is what escapes")]
pub fn escape(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SHOWN)];
    let quoted = format!("{:?}", OsStr::from_bytes(start));
    let rest = if start.len() < bytes.len() { "..." } else { "" };
    quoted[1..quoted.len() - 1].replace("\\\"", "\"") + rest
}

/// The same in quotes, for a name within a sentence.
pub fn quote(bytes: &[u8]) -> String {
    format!("\"{}\"", escape(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_printable() {
        let cases: [(&[u8], &str); 5] = [
            (b"", ""),
            ("größe \"-x\"".as_bytes(), "größe \"-x\""),
            (b"a\n\x1b[2J\0", r"a\n\u{1b}[2J\0"),
            (b"caf\xe9", r"caf\xE9"),
            ("\u{202e}\u{9b}".as_bytes(), r"\u{202e}\u{9b}"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(escape(bytes), shown);
            assert_eq!(quote(bytes), format!("\"{shown}\""));
        }
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(escape(&[b'x'; 257]), format!("{}...", "x".repeat(256)));
        assert_eq!(escape(&[b'x'; 256]), "x".repeat(256));
    }
}
