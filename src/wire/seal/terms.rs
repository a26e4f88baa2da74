//! What both ends know before they connect, and the suites of algorithms.

use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// The algorithms of a session; the client chooses. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-256 in Galois/counter mode.
    AesGcm = 1,
    /// ChaCha20 and Poly1305.
    ChaChaPoly = 2,
}

impl Suite {
    /// The suite that this machine is fast at.
    pub fn preferred() -> Suite {
        if Suite::AesGcm.is_in_hardware() { Suite::AesGcm } else { Suite::ChaChaPoly }
    }

    /// Whether this machine has the instructions that make the suite fast. ChaCha20 needs none;
    /// AES without them is 13 times slower.
    pub fn is_in_hardware(self) -> bool {
        self == Suite::ChaChaPoly || has_aes()
    }

    /// The suite with this number on the wire.
    pub(crate) fn from_wire(number: u8) -> Option<Suite> {
        [Suite::AesGcm, Suite::ChaChaPoly].into_iter().find(|suite| *suite as u8 == number)
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// What both ends know beforehand, besides the key. Neither member is sent: a handshake between
/// ends that do not agree on them fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The server's name. With the empty one, somebody in between can connect a client to any
    /// other holder of its key.
    pub name: ServerName,
    /// Whether the client, the end that connected, is the one that serves requests.
    pub client_serves: bool,
}

/// The name of a server: 0 to 64 of `A-Za-z0-9._-`. The default is the empty name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerName(String);

impl ServerName {
    /// The name with this text.
    pub fn new(text: &[u8]) -> Result<ServerName> {
        let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        let why = match text {
            _ if text.len() > limits::SERVER_NAME => "is longer than 64 bytes",
            _ if text.iter().all(known) => {
                return Ok(ServerName(text.iter().copied().map(char::from).collect()));
            }
            _ => "has another character than A-Z, a-z, 0-9, \".\", \"_\" and \"-\"",
        };
        let name = crate::wire::quote(text);
        Err(Error::new(
            ErrorKind::Argument,
            format!("{name} cannot be the name of a server: it {why}"),
        ))
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_are_checked() {
        for good in ["", "db.example", ".x", "A-Z_09", &"x".repeat(64)] {
            assert_eq!(ServerName::new(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in ["a b", "a/b", "\0", "\n", "ö", ":", &"x".repeat(65)] {
            let error = ServerName::new(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{bad:?}");
        }
    }

    #[test]
    fn a_suite_that_is_preferred_is_fast() {
        assert!(Suite::preferred().is_in_hardware());
        assert!(Suite::ChaChaPoly.is_in_hardware());
        for number in 0..=255 {
            let known = (number == 1 || number == 2).then_some(number);
            assert_eq!(Suite::from_wire(number).map(|suite| suite as u8), known);
        }
    }
}
