//! A log: one JSON object a line, in a file, in systemd's journal, or on standard error.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use framefd::frame::HeaderBuilder;
use framefd::serve::Level;

use crate::failure::{Failure, Result};
use crate::output::{shown, write_if_taken};
use crate::run::without_number;

/// What the server says, and each request when it is over.
pub struct Log {
    path: Option<PathBuf>,
    place: Mutex<Place>,
}

enum Place {
    /// A file, and whether its last line is whole.
    File(File, bool),
    Journal(UnixDatagram),
    StandardError,
}

impl Log {
    /// A log in a file, in the journal if it is called so, or on standard error.
    pub fn open(path: Option<&Path>) -> Result<Log> {
        let opened = match path {
            None => Ok(Place::StandardError),
            Some(path) if path == Path::new("journal") => journal(),
            Some(path) => append(path).map(|file| Place::File(file, true)),
        };
        let place = opened.map_err(|error| match path {
            Some(path) if path != Path::new("journal") => {
                let path = shown(path.as_os_str());
                Failure::new(format!("--log {path}: {}", without_number(&error)))
            }
            _ => Failure::new(format!(
                "--log journal: {JOURNAL}: {}; without --log it is standard error",
                without_number(&error)
            )),
        })?;
        Ok(Log { path: path.map(Path::to_owned), place: Mutex::new(place) })
    }

    /// Opens the file again, which was renamed. No line is lost: each is in one of the two.
    pub fn again(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Place::File(file, is_whole), Some(path)) = (&mut *place, &self.path)
            && let Ok(opened) = append(path)
        {
            (*file, *is_whole) = (opened, true);
        }
    }

    /// Something that has happened.
    pub fn event(&self, level: Level, line: &str) {
        let name = format!("{level:?}").to_lowercase();
        self.line(level, &[("level", &name), ("message", line)]);
    }

    /// A line of the audit, after its time.
    pub fn record(&self, members: &HeaderBuilder) {
        let mut line = HeaderBuilder::new();
        if line.integer("time_ms", now()).and_then(|()| line.merge(members.text())).is_ok() {
            self.write(Level::Info, line.text());
        }
    }

    /// Bytes of a command or a name in a line.
    pub fn longest(&self) -> usize {
        if self.path.is_some() { LONGEST } else { LONGEST_TO_A_PIPE }
    }

    fn line(&self, level: Level, members: &[(&str, &str)]) {
        let mut line = HeaderBuilder::new();
        let mut added = line.integer("time_ms", now());
        for (name, value) in members {
            added = added.and_then(|()| line.string(name, value));
        }
        if added.is_ok() {
            self.write(level, line.text());
        }
    }

    /// A full disk, or a reader that is gone, does not end the server.
    fn write(&self, level: Level, line: &str) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *place {
            Place::File(file, is_whole) => {
                // What a full disk has cut is a line of its own.
                let before = if *is_whole { "" } else { "\n" };
                *is_whole = file.write_all(format!("{before}{line}\n").as_bytes()).is_ok();
            }
            Place::Journal(journal) => {
                if send(journal, level, line).is_err() {
                    // It was started again, or cannot take such a line.
                    let reader = format!("<{}>{line}\n", priority(level));
                    write_if_taken(io::stderr().as_fd(), reader.as_bytes());
                }
            }
            Place::StandardError => {
                write_if_taken(io::stderr().as_fd(), format!("{line}\n").as_bytes());
            }
        }
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

/// The journal, by its native protocol.
fn journal() -> io::Result<Place> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(JOURNAL)?;
    Ok(Place::Journal(socket))
}

fn send(journal: &UnixDatagram, level: Level, line: &str) -> io::Result<()> {
    let entry = format!(
        "MESSAGE={line}\nPRIORITY={}\nSYSLOG_IDENTIFIER=framefd\nSYSLOG_PID={}\n",
        priority(level),
        std::process::id()
    );
    match journal.send(entry.as_bytes()) {
        // Its socket is another one since it was started again.
        Err(_) => journal.connect(JOURNAL).and_then(|()| journal.send(entry.as_bytes())).map(drop),
        Ok(_) => Ok(()),
    }
}

/// That of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

const JOURNAL: &str = "/run/systemd/journal/socket";
/// Bytes of a command or a name in the log.
const LONGEST: usize = 64 * 1024;
/// The same, so that the line is within PIPE_BUF, if each is escaped.
const LONGEST_TO_A_PIPE: usize = 700;
