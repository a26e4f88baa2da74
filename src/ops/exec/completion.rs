//! The result of a run, the command's output, and the reply made of both.

use super::command::{Limits, OnOutputLimit};
use super::handler::{Flow, Handler, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::io::process::child::Status;
use crate::wire::memory::reserve;
use crate::wire::message::Id;
use crate::wire::message::exec::ExecReply;

/// The result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// How the command ended.
    pub status: Status,
    /// It was ended because it exceeded its time limit.
    pub timed_out: bool,
    /// A process that it started still kept a pipe open when reading stopped.
    pub pipe_held: bool,
    /// Bytes it wrote to its standard output.
    pub stdout_total: u64,
    /// Bytes it wrote to its standard error.
    pub stderr_total: u64,
}

/// The result of a run, and the command's output.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Its result.
    pub completion: Completion,
    /// The first [`Limits::max_output`] bytes of its standard output.
    pub stdout: Vec<u8>,
    /// The same of its standard error.
    pub stderr: Vec<u8>,
    /// One of them had more bytes than were kept.
    pub truncated: bool,
}

impl Captured {
    /// The reply to the request with this id.
    pub(super) fn reply(&self, id: Option<Id>) -> ExecReply {
        let (exit_code, signal) = match self.completion.status {
            Status::Exited(code) => (Some(code), None),
            Status::Signaled(signal) => (Some(128 + signal), Some(signal)),
            Status::Lost => (None, None),
        };
        ExecReply {
            id,
            stdout_size: Some(self.stdout.len() as u64),
            stderr_size: Some(self.stderr.len() as u64),
            exit_code,
            signal,
            timed_out: self.completion.timed_out,
            truncated: self.truncated,
            pipe_held: self.completion.pipe_held,
            stdout_total: Some(self.completion.stdout_total),
            stderr_total: Some(self.completion.stderr_total),
            charset: charset(),
        }
    }

    /// The body of the reply: standard output, then standard error.
    pub(super) fn into_body(self) -> Result<Vec<u8>> {
        let Captured { mut stdout, stderr, .. } = self;
        if stdout.is_empty() {
            return Ok(stderr);
        }
        reserve(&mut stdout, stderr.len())?;
        stdout.extend_from_slice(&stderr);
        Ok(stdout)
    }
}

/// Keeps the first bytes of both streams.
#[derive(Debug)]
pub struct Collector {
    kept: [Vec<u8>; 2],
    max: usize,
    on_limit: OnOutputLimit,
    truncated: bool,
}

impl Collector {
    /// Keeps output up to the limit.
    pub fn new(limits: &Limits) -> Collector {
        Collector {
            kept: [Vec::new(), Vec::new()],
            max: usize::try_from(limits.max_output).unwrap_or(usize::MAX),
            on_limit: limits.on_output_limit,
            truncated: false,
        }
    }

    /// After a run: takes the kept output.
    pub fn captured(&mut self, completion: Completion) -> Captured {
        let [stdout, stderr] = std::mem::take(&mut self.kept);
        Captured { completion, stdout, stderr, truncated: self.truncated }
    }
}

impl Handler for Collector {
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        let kept = &mut self.kept[stream as usize];
        let taken = &bytes[..bytes.len().min(self.max - kept.len())];
        kept.try_reserve(taken.len()).map_err(|_| Error::new(ErrorKind::NoMemory, "output"))?;
        kept.extend_from_slice(taken);
        if taken.len() == bytes.len() {
            return Ok(Flow::Continue);
        }
        self.truncated = true;
        Ok(match self.on_limit {
            OnOutputLimit::Drain => Flow::Continue,
            OnOutputLimit::End => Flow::End,
        })
    }
}

/// The encoding that the locale variables name, as locale(7) reads them: the command gets
/// the same ones.
fn charset() -> Option<String> {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty());
    codeset_of(&locale.unwrap_or_default()).map(str::to_owned)
}

/// The codeset of `language_TERRITORY.codeset@modifier`. Without one only the C library knows
/// it.
fn codeset_of(locale: &str) -> Option<&str> {
    let (locale, _) = locale.split_once('@').unwrap_or((locale, ""));
    match locale.split_once('.') {
        Some((_, codeset)) => Some(codeset),
        None => matches!(locale, "" | "C" | "POSIX").then_some("US-ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_tells_its_codeset_or_it_is_not_known() {
        for (locale, codeset) in [
            ("", Some("US-ASCII")),
            ("C", Some("US-ASCII")),
            ("POSIX", Some("US-ASCII")),
            ("C.UTF-8", Some("UTF-8")),
            ("de_DE.ISO-8859-15@euro", Some("ISO-8859-15")),
            ("de_DE", None),
            ("de_DE@euro", None),
        ] {
            assert_eq!(codeset_of(locale), codeset, "{locale}");
        }
    }
}
