//! Bytes of the other end made fit for a log line or a terminal.

use std::fmt::Write as _;

/// Bytes of the other end that a text of ours may repeat.
const SHOWN: usize = 256;

/// `bytes` as text: control characters and what is not UTF-8 escaped, cut after 256
/// bytes, so that they can neither forge a line nor steer a terminal.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes[..bytes.len().min(SHOWN)].utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}"); // writing to a String cannot fail
        }
    }
    if bytes.len() > SHOWN {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn controls_and_broken_text_are_escaped() {
        assert_eq!(escape("größe".as_bytes()), "größe");
        assert_eq!(escape(b"a\n\x1b[2J\xff\0"), r"a\n\u{1b}[2J\xff\u{0}");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(escape(&[b'x'; 257]), format!("{}...", "x".repeat(256)));
        assert_eq!(escape(&[b'x'; 256]), "x".repeat(256));
    }
}
