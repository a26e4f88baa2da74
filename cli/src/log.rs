//! A log: one JSON object a line.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use framefd::auth::KeyId;
use framefd::frame::HeaderBuilder;
use framefd::serve::Level;

use crate::failure::{Failure, Result};
use crate::output::{one_line, shown, write_if_taken};
use crate::run::without_number;

/// What the server says, and each request as it begins.
pub struct Log {
    path: Option<PathBuf>,
    file: Mutex<Option<File>>,
}

impl Log {
    /// A log in a file, or on standard error.
    pub fn open(path: Option<&Path>) -> Result<Log> {
        let file = path.map(append).transpose().map_err(|error| {
            let path = shown(path.unwrap_or(Path::new("")).as_os_str());
            Failure::new(format!("--log {path}: {}", without_number(&error)))
        })?;
        Ok(Log { path: path.map(Path::to_owned), file: Mutex::new(file) })
    }

    /// Opens the file again, which was renamed.
    pub fn again(&self) {
        if let Some(Ok(file)) = self.path.as_deref().map(append) {
            *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
    }

    /// Something that has happened.
    pub fn event(&self, level: Level, line: &str) {
        let name = format!("{level:?}").to_lowercase();
        self.line(&[("level", name.as_bytes()), ("message", line.as_bytes())]);
    }

    /// A request that begins.
    pub fn request(&self, cmd: &str, what: &[u8], key: Option<&KeyId>) {
        let longest = if self.path.is_some() { LONGEST } else { LONGEST_TO_A_PIPE };
        let what = one_line(&what[..what.len().min(longest)]);
        let key = key.map_or("", KeyId::as_str).as_bytes();
        self.line(&[("key", key), ("cmd", cmd.as_bytes()), ("what", what.as_bytes())]);
    }

    fn line(&self, members: &[(&str, &[u8])]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = HeaderBuilder::new();
        let time = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let mut added = line.integer("time_ms", time);
        for (name, value) in members {
            added = added.and_then(|()| line.string(name, &String::from_utf8_lossy(value)));
        }
        // A full disk, or a reader that is gone, does not end the server.
        if added.is_ok() {
            let text = format!("{}\n", line.text());
            match &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(file) => drop(file.write_all(text.as_bytes())),
                None => write_if_taken(io::stderr().as_fd(), text.as_bytes()),
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

/// Bytes of a command or a name in the log.
const LONGEST: usize = 64 * 1024;
/// The same, so that the line is within PIPE_BUF, if each is escaped.
const LONGEST_TO_A_PIPE: usize = 700;
