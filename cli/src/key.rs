//! Keys in files: a new one, and which one a file has.

use std::ffi::OsStr;
use std::path::Path;

use framefd::{ErrorKind, auth, limits};
use sha2::{Digest as _, Sha256};

use crate::args::{Key, KeyVerb};
use crate::failure::{Failure, Result, SOME};
use crate::hosts::load_key;
use crate::output::{show, shown};

/// Runs `framefd key`.
pub fn run(arguments: &Key) -> Result<u8> {
    match &arguments.verb {
        KeyVerb::New { file } => {
            auth::generate(file).map_err(|error| {
                let advice = match error.kind() {
                    ErrorKind::Exists => "; it stays as it is: choose another name",
                    ErrorKind::NotFound => "; make its directory first",
                    _ => "",
                };
                let Failure { line, .. } = Failure::of(&shown(file.as_os_str()), &error);
                Failure::new(line + advice).with_status(SOME)
            })?;
            describe(file)
        }
        KeyVerb::Show { file } => describe(file),
    }
}

/// Its id and its fingerprint, and nothing that would tell the key.
fn describe(file: &Path) -> Result<u8> {
    let key = load_key(file).map_err(|failure| failure.with_status(SOME))?;
    let bytes = key.as_bytes();
    if bytes.len() < limits::SEAL_KEY {
        // A fingerprint would help to guess it.
        let line =
            format!("{}: a key of {} bytes can be guessed", shown(file.as_os_str()), bytes.len());
        return Err(Failure::new(line + ": make one with framefd key new").with_status(SOME));
    }
    // HMAC uses the plain digest of a long key in its place: that must stay secret.
    let digest = Sha256::new().chain_update(b"framefd key fingerprint\0").chain_update(bytes);
    let mut hex = String::new();
    for byte in digest.finalize().iter().take(16) {
        hex += &format!("{byte:02x}");
    }
    let id = file.file_name().unwrap_or(OsStr::new(""));
    show(format!("id {}\nfingerprint {hex}\n", shown(id)).as_bytes())?;
    Ok(0)
}
