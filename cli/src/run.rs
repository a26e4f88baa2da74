//! A command at one host: live input and output, signals, and its exit status.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framefd::exec::{self, ExecReply, ExecRequest, Request, Tty};
use framefd::frame::{Deadline, Handle};
use framefd::{Error, ErrorKind};

use crate::args::{Run, Shell};
use crate::failure::{FAILED, Failure, Result, errno_of, text_of};
use crate::hosts::{Hosts, Target};
use crate::output::{nobody_reads, say, shown, unwritten};
use crate::signals::Relay;
use crate::terminal::{self, Raw};
use crate::{dial, fleet, typed};

/// What a command reads.
pub enum Input {
    Nothing,
    Stdin,
    File(File),
}

/// What is to be run.
pub struct Task {
    /// Shell code; empty if the options have a program.
    pub command: Vec<u8>,
    pub options: ExecRequest,
}

/// A login shell of the server's user.
pub const SHELL: &[u8] = br#"exec "${SHELL:-/bin/sh}" -l"#;

/// Runs `framefd run`.
pub fn run(arguments: &Run) -> Result<u8> {
    let mut words = arguments.words.iter();
    let host = if arguments.hosts.is_some() { None } else { words.next() };
    let task = task(arguments, words.next().map(OsString::as_os_str))?;
    if let Some(extra) = words.next() {
        let line =
            format!("run: one argument too many: {}; with --hosts there is no HOST", shown(extra));
        return Err(Failure::new(line));
    }
    let input = match &arguments.input {
        Some(path) => Input::File(open(path)?),
        None if arguments.no_input => Input::Nothing,
        // A loop of a shell would lose its lines, but a command that is typed waits for keys.
        None if io::stdin().is_terminal() && !arguments.tty => Input::Nothing,
        None => Input::Stdin,
    };
    let hosts = Hosts::load()?;
    if let Some(list) = &arguments.hosts {
        return fleet::run(&hosts, list, arguments, &task);
    }
    let Some(host) = host else {
        return Err(Failure::new("run: no HOST: see framefd run --help"));
    };
    let target = hosts.find(host, None, &arguments.peer)?;
    stream(&target, arguments.peer.connect_timeout, &task, &input)
}

/// Runs `framefd shell`.
pub fn shell(arguments: &Shell) -> Result<u8> {
    let target = Hosts::load()?.find(&arguments.host, None, &arguments.peer)?;
    let options = on_terminal(ExecRequest::default());
    let task = Task { command: SHELL.to_vec(), options };
    stream(&target, arguments.peer.connect_timeout, &task, &Input::Stdin)
}

/// The same command with a terminal like ours.
pub fn on_terminal(options: ExecRequest) -> ExecRequest {
    let size = terminal::size();
    let mut env = options.env.unwrap_or_default();
    if let Ok(term) = std::env::var("TERM")
        && !env.iter().any(|(name, _)| name == "TERM")
    {
        env.push(("TERM".to_owned(), term));
    }
    let tty = Some(Tty { rows: size.rows, columns: size.columns });
    ExecRequest { tty, env: Some(env), ..options }
}

fn task(arguments: &Run, command: Option<&OsStr>) -> Result<Task> {
    let options = ExecRequest {
        cwd: arguments.cwd.as_deref().map(|cwd| text("--cwd", cwd)).transpose()?,
        env: variables(&arguments.env)?,
        timeout_ms: arguments
            .timeout
            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        merge: arguments.merge.then_some(true),
        ..ExecRequest::default()
    };
    let options = if arguments.tty { on_terminal(options) } else { options };
    match (command, &arguments.program[..]) {
        (Some(command), []) if !command.is_empty() => {
            Ok(Task { command: command.as_bytes().to_vec(), options })
        }
        (None, program @ [first, ..]) if !first.is_empty() => Ok(with_program(program, options)),
        (Some(_), [_, ..]) => Err(Failure::new(
            "run: shell code and a program: give one COMMAND, or a program after --",
        )),
        _ => Err(Failure::new("run: no COMMAND: give shell code in one argument, or -- PROGRAM")),
    }
}

/// A program and its arguments. Those that are not UTF-8 can only be sent as shell code.
fn with_program(program: &[OsString], options: ExecRequest) -> Task {
    let texts = program.iter().map(|word| word.to_str().map(str::to_owned));
    if let Some(argv) = texts.collect::<Option<Vec<_>>>() {
        return Task { command: Vec::new(), options: ExecRequest { argv: Some(argv), ..options } };
    }
    let mut command = b"exec".to_vec();
    for word in program {
        command.extend_from_slice(b" '");
        for &byte in word.as_bytes() {
            if byte == b'\'' { command.extend_from_slice(b"'\\''") } else { command.push(byte) }
        }
        command.push(b'\'');
    }
    Task { command, options }
}

fn variables(given: &[OsString]) -> Result<Option<Vec<(String, String)>>> {
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in given {
        let variable = text("--env", variable)?;
        match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                env.retain(|(other, _)| other != name);
                env.push((name.to_owned(), value.to_owned()));
            }
            _ => {
                let line = format!("--env {}: it is not NAME=VALUE", shown(OsStr::new(&variable)));
                return Err(Failure::new(line));
            }
        }
    }
    Ok((!env.is_empty()).then_some(env))
}

fn text(option: &str, value: &OsStr) -> Result<String> {
    let refused = || Failure::new(format!("{option} {}: only UTF-8 can be sent", shown(value)));
    value.to_str().map(str::to_owned).ok_or_else(refused)
}

/// Opens a file to be read.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| {
        Failure::new(format!("{}: {}", shown(path.as_os_str()), without_number(&error)))
    })
}

/// The text of an error of the system.
pub fn without_number(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

/// Runs a command at a host; the exit status is its own.
pub fn stream(target: &Target, timeout: Duration, task: &Task, input: &Input) -> Result<u8> {
    let mut connection = dial::connection(target, timeout, None)?;
    let request =
        Request { command: &task.command, options: task.options.clone(), ..Request::default() };
    let mut command = exec::start(&mut connection, &request, None)
        .map_err(|error| Failure::to_ask(target, &error, true))?;
    let handle: Handle = command.handle();
    let reads_keys = task.options.tty.is_some() && matches!(input, Input::Stdin);
    let raw = Cooked(reads_keys.then(Raw::start).flatten().map(Arc::new));
    let left = Arc::new(AtomicBool::new(false));
    let typed = match &raw.0 {
        Some(_) => Some(typed::start(handle.clone(), Arc::clone(&left))?),
        None => None,
    };
    let relay = Relay::start(move || vec![handle.clone()], raw.0.clone())?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let from = match input {
        Input::Nothing => None,
        Input::Stdin => Some(typed.as_ref().map_or(stdin.as_fd(), AsFd::as_fd)),
        Input::File(file) => Some(file.as_fd()),
    };
    let copied = command.copy(from, stdout.as_fd(), stderr.as_fd(), time_of(task));
    drop(raw);
    match (copied, relay.ended_by()) {
        (Err(_), _) if left.load(Ordering::Acquire) => {
            let line = "closed: Enter ~ . was typed, which ends the command";
            Err(Failure::new(format!("{}: {line}", target.shown)))
        }
        (Err(error), Some(number)) if error.kind() == ErrorKind::Aborted => {
            let line = "interrupted: the connection was closed, which ends the command";
            Err(Failure::by_signal(number, &format!("{}: {line}", target.shown)))
        }
        (Err(error), _) if error.kind() == ErrorKind::TimedOut => Err(overdue(target)),
        (Err(error), _) => {
            Err(local(&error).unwrap_or_else(|| Failure::to_ask(target, &error, true)))
        }
        (Ok(()), _) => command.reply().map_or(Ok(FAILED), |reply| Ok(status(target, reply))),
    }
}

/// How long to wait for the end of a command: a host may not end it in its time.
pub fn time_of(task: &Task) -> Deadline {
    match task.options.timeout_ms {
        Some(milliseconds) => Deadline::after(Duration::from_millis(milliseconds) + LATE),
        None => Deadline::NEVER,
    }
}

/// The host has not ended the command in its time.
pub fn overdue(target: &Target) -> Failure {
    let line = "no word that the command was ended when its time was up (--timeout): the \
                connection was closed";
    Failure::new(format!("{}: {line}", target.shown))
}

/// Restores the terminal, whatever happens.
struct Cooked(Option<Arc<Raw>>);

impl Drop for Cooked {
    fn drop(&mut self) {
        if let Some(raw) = &self.0 {
            raw.end();
        }
    }
}

/// The failure of one of our own three descriptors.
fn local(error: &Error) -> Option<Failure> {
    if error.kind().is_remote() {
        return None;
    }
    let (what, why) =
        error.detail().split_once(": ").filter(|(what, _)| what.starts_with("standard "))?;
    Some(match (what, errno_of(error)) {
        (_, Some(rustix::io::Errno::PIPE)) => nobody_reads(what),
        ("standard input", _) => Failure::new(format!("{what}: {why}: the command was ended")),
        (_, Some(errno)) => unwritten(what, errno),
        (_, None) => Failure::new(text_of(error)),
    })
}

/// The exit status of a command, after words about what is not to be seen from it.
pub fn status(target: &Target, reply: &ExecReply) -> u8 {
    let note = |line: &str| say(&format!("{}: {line}", target.shown));
    if reply.timed_out {
        note("the command was ended: its time was up (see --timeout)");
    }
    if reply.truncated {
        note("the command wrote more than the server keeps: the rest is lost");
    }
    if reply.pipe_held {
        note("a job in the background holds the output, which nobody reads any more: redirect it");
    }
    if reply.exit_code.is_none() {
        note("the server does not know the command's exit status");
    }
    reply.exit_code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

/// How much later than in its time a command may end: there may be much output on its way.
const LATE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_program_of_any_bytes_is_sent() {
        let words = |words: &[&[u8]]| -> Vec<OsString> {
            words.iter().map(|word| OsString::from_vec(word.to_vec())).collect()
        };
        let sent = with_program(&words(&[b"echo", b"a b"]), ExecRequest::default());
        assert_eq!(sent.options.argv, Some(vec!["echo".to_owned(), "a b".to_owned()]));
        let sent = with_program(&words(&[b"echo", b"\xff'$x\n"]), ExecRequest::default());
        assert_eq!(sent.command, b"exec 'echo' '\xff'\\''$x\n'");
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let env = |given: &[&str]| variables(&given.iter().map(OsString::from).collect::<Vec<_>>());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(env(&[]).unwrap(), None);
        let found = env(&["A=1", "B=", "A=2=3"]).unwrap().unwrap();
        assert_eq!(found, [pair("B", ""), pair("A", "2=3")]);
        for bad in ["A", "=1", ""] {
            assert!(env(&[bad]).unwrap_err().line.contains("NAME=VALUE"), "{bad}");
        }
    }
}
