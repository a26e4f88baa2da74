//! A command to run, its environment and its limits.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::io::process::environment::Environment;
use crate::io::process::spawn::Confinement;
use crate::limits;

pub use crate::io::process::stdio::Stdio;

/// A command to run and its environment. It leads a process group of its own.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    /// The program.
    pub program: Program<'a>,
    /// Its working directory; by default the host's.
    pub directory: Option<&'a Path>,
    /// Its variables.
    pub environment: Environment,
    /// Its descriptors 0, 1 and 2; it has no other.
    pub stdio: Stdio,
    /// Its limits beyond the host's.
    pub confinement: Confinement,
    /// The supplementary groups of its user, if the confinement names one.
    pub groups: Vec<u32>,
}

/// The program of a command.
#[derive(Clone, Debug)]
pub enum Program<'a> {
    /// Shell code, run by `/bin/sh -c`. Never build it from untrusted input; use `Argv`.
    Shell(&'a [u8]),
    /// A program and its arguments, without a shell.
    Argv(Vec<&'a [u8]>),
}

impl<'a> Command<'a> {
    /// `text` as shell code, in the host's directory, with a clean environment.
    pub fn shell(text: &'a [u8]) -> Command<'a> {
        Command::new(Program::Shell(text))
    }

    /// A program and its arguments, in the host's directory, with a clean environment.
    pub fn argv(argv: Vec<&'a [u8]>) -> Command<'a> {
        Command::new(Program::Argv(argv))
    }

    fn new(program: Program<'a>) -> Command<'a> {
        Command {
            program,
            directory: None,
            environment: Environment::default(),
            stdio: Stdio::default(),
            confinement: Confinement::default(),
            groups: Vec::new(),
        }
    }
}

/// Limits of a command.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of shell code, or of all arguments together, each with its NUL. A longer command is
    /// refused, and so is one above [`limits::MAX_COMMAND_HARD`].
    pub max_command: u64,
    /// How long it may run.
    pub time: Option<Duration>,
    /// From SIGTERM to SIGKILL, for a command that is ended.
    pub term_grace: Duration,
    /// How long its output is read after its end, while a process that it started keeps a pipe
    /// open.
    pub drain_grace: Duration,
    /// Bytes of output kept, for each stream.
    pub max_output: u64,
    /// Applies to a command that writes more.
    pub on_output_limit: OnOutputLimit,
}

/// The treatment of a command that writes more than is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOutputLimit {
    /// It runs on, and the rest of its output is dropped.
    Drain,
    /// It is ended.
    End,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_command: limits::MAX_COMMAND,
            time: None,
            term_grace: limits::TERM_GRACE,
            drain_grace: limits::DRAIN_GRACE,
            max_output: limits::MAX_OUTPUT,
            on_output_limit: OnOutputLimit::Drain,
        }
    }
}

/// The argument vector, if it is within the limits.
pub(super) fn arguments<'p, 'a>(
    program: &'p Program<'a>,
    limits: &Limits,
) -> Result<Cow<'p, [&'a [u8]]>> {
    let (argv, length, empty) = match program {
        // "--": a command may begin with a dash.
        Program::Shell(text) => {
            let argv = vec![b"/bin/sh".as_slice(), b"-c", b"--", text];
            (Cow::Owned(argv), text.len(), text.is_empty())
        }
        Program::Argv(argv) => {
            let length = argv.iter().map(|arg| arg.len() + 1).sum();
            (
                Cow::Borrowed(argv.as_slice()),
                length,
                argv.first().is_none_or(|program| program.is_empty()),
            )
        }
    };
    if empty {
        return Err(Error::new(ErrorKind::Argument, "the command is empty"));
    }
    let max = limits.max_command.min(limits::MAX_COMMAND_HARD);
    if length as u64 > max {
        return Err(Error::new(
            ErrorKind::TooBig,
            format!("a command of {length} bytes, the limit is {max}"),
        ));
    }
    Ok(argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_within_its_limits() {
        let limits = |max_command| Limits { max_command, ..Limits::default() };
        let text = vec![b'x'; 200_000];
        let length = |program: &Program<'_>, max| arguments(program, &limits(max)).map(|_| ());
        let too_big = Some(ErrorKind::TooBig);
        for (size, max, kind) in [
            (1, 1, None),
            (2, 1, too_big),
            (65_536, limits::MAX_COMMAND, None),
            (65_537, limits::MAX_COMMAND, too_big),
            (131_071, u64::MAX, None),
            (131_072, u64::MAX, too_big),
        ] {
            let shell = Program::Shell(&text[..size]);
            assert_eq!(length(&shell, max).err().map(|error| error.kind()), kind, "{size}");
            // Two arguments, each with its NUL.
            if size > 3 {
                let argv = Program::Argv(vec![b"x", &text[..size - 3]]);
                assert_eq!(length(&argv, max).err().map(|error| error.kind()), kind, "{size}");
            }
        }
    }
}
