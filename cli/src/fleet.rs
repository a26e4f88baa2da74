//! One command at many hosts at a time.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use framefd::ErrorKind;
use framefd::exec::{self, RemoteCommand, Request, Stream};
use framefd::frame::Handle;

use crate::args::{Peer, Run};
use crate::dial;
use crate::failure::{FAILED, Failure, Result, SOME};
use crate::hosts::{Hosts, Target};
use crate::output::{harmless, say, show_on, shown, unwritten};
use crate::run::{Task, overdue, status, time_of, without_number};
use crate::signals::Relay;

/// What all hosts share.
struct Fleet<'a> {
    hosts: &'a Hosts,
    peer: &'a Peer,
    task: &'a Task,
    /// The input of each command.
    input: Option<Vec<u8>>,
    waiting: Mutex<VecDeque<OsString>>,
    /// The connections that are open.
    running: Arc<Mutex<Running>>,
    results: Mutex<Results>,
}

#[derive(Default)]
struct Running {
    handles: Vec<(usize, Handle)>,
    next: usize,
    /// A signal was sent: no other host begins.
    is_over: bool,
}

#[derive(Default)]
struct Results {
    succeeded: usize,
    failed: Vec<String>,
    lost: Vec<String>,
    /// The output cannot be written any more.
    unwritten: Option<Failure>,
}

/// Runs the command at each host of the list, or of the file of that name.
pub fn run(hosts: &Hosts, list: &OsStr, arguments: &Run, task: &Task) -> Result<u8> {
    let names = names(list)?;
    let input = arguments.input.as_deref().map(read).transpose()?;
    let running = Arc::new(Mutex::new(Running::default()));
    let fleet = Fleet {
        hosts,
        peer: &arguments.peer,
        task,
        input,
        waiting: Mutex::new(names.into()),
        running: Arc::clone(&running),
        results: Mutex::default(),
    };
    let to_all = move || {
        let mut running = locked(&running);
        running.is_over = true;
        running.handles.iter().map(|(_, handle)| handle.clone()).collect()
    };
    let relay = Relay::start(to_all, None)?;
    let at_once = usize::from(arguments.at_once).min(locked(&fleet.waiting).len());
    thread::scope(|scope| {
        for _ in 0..at_once {
            if thread::Builder::new().spawn_scoped(scope, || fleet.work()).is_err() {
                // The others do its part.
                say("fewer hosts at a time: no more threads can be started (see --at-once)");
                break;
            }
        }
    });
    // Where no thread could be started at all.
    fleet.work();
    let left: Vec<_> = locked(&fleet.waiting).drain(..).map(|host| shown(&host)).collect();
    fleet.end(&left, &relay)
}

impl Fleet<'_> {
    /// Takes one host after the other.
    fn work(&self) {
        loop {
            if locked(&self.running).is_over || locked(&self.results).unwritten.is_some() {
                return;
            }
            let Some(host) = locked(&self.waiting).pop_front() else { return };
            let outcome = self.run_at(&host);
            let mut results = locked(&self.results);
            match outcome {
                Ok(0) => results.succeeded += 1,
                Ok(status) => results.failed.push(format!("{}: {status}", shown(&host))),
                Err(failure) if results.unwritten.is_some() => drop(failure),
                Err(failure) => {
                    say(&failure.line);
                    results.lost.push(shown(&host));
                }
            }
        }
    }

    fn run_at(&self, host: &OsStr) -> Result<u8> {
        let target = self.hosts.find(host, None, self.peer)?;
        let mut connection = dial::connection(&target, self.peer.connect_timeout, None)?;
        let mut options = self.task.options.clone();
        options.stdin_size = self.input.is_none().then_some(0);
        let request = Request { command: &self.task.command, options, ..Request::default() };
        // From here on the handle passes signals on.
        let mut command = exec::start(&mut connection, &request, None)
            .map_err(|error| Failure::to_ask(&target, &error, true))?;
        let number = {
            let mut running = locked(&self.running);
            if running.is_over {
                return Err(Failure::new(format!("{}: not begun: interrupted", target.shown)));
            }
            running.next += 1;
            let number = running.next;
            running.handles.push((number, command.handle()));
            number
        };
        let ended = self.copy(&mut command, &target);
        locked(&self.running).handles.retain(|(other, _)| *other != number);
        ended
    }

    /// Shows the output of a command line by line.
    fn copy(&self, command: &mut RemoteCommand<'_, '_>, target: &Target) -> Result<u8> {
        let failed = |error: framefd::Error| match error.kind() {
            ErrorKind::TimedOut => overdue(target),
            _ => Failure::to_ask(target, &error, true),
        };
        let time = time_of(self.task);
        let mut input = self.input.as_deref().unwrap_or_default();
        let (mut buffer, mut lines) = (vec![0; 64 * 1024], [Vec::new(), Vec::new()]);
        loop {
            if self.input.is_some() && !input.is_empty() {
                let sent = command.write(input, time).map_err(failed)?;
                input = &input[sent..];
                // Unless some was sent, there is output to be read, or the end.
                if sent > 0 {
                    continue;
                }
            } else if self.input.is_some() {
                command.end_input(time).map_err(failed)?;
            }
            let Some((stream, length)) = command.read(&mut buffer, time).map_err(failed)? else {
                break;
            };
            let held = &mut lines[stream as usize];
            held.extend_from_slice(&buffer[..length]);
            let end = match held.iter().rposition(|&byte| byte == b'\n') {
                Some(last) => last + 1,
                None if held.len() > LONGEST => held.len(),
                None => continue,
            };
            let whole: Vec<u8> = held.drain(..end).collect();
            self.show(target, stream, &whole)?;
        }
        for (stream, held) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&lines) {
            self.show(target, stream, held)?;
        }
        command.reply().map_or(Ok(FAILED), |reply| Ok(status(target, reply)))
    }

    /// Writes lines, each with its host.
    fn show(&self, target: &Target, stream: Stream, lines: &[u8]) -> Result<()> {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let (fd, what): (BorrowedFd<'_>, _) = match stream {
            Stream::Stdout => (stdout.as_fd(), "standard output"),
            Stream::Stderr => (stderr.as_fd(), "standard error"),
        };
        // There one host could write the lines of another.
        let is_terminal = fd.is_terminal();
        let mut text = Vec::with_capacity(lines.len() + 64);
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            text.extend_from_slice(target.shown.as_bytes());
            text.extend_from_slice(b": ");
            if is_terminal {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                text.extend_from_slice(harmless(line).as_bytes());
            } else {
                text.extend_from_slice(line);
            }
            text.push(b'\n');
        }
        show_on(fd, &text).map_err(|errno| {
            // It ends the others as well.
            locked(&self.results).unwritten.get_or_insert_with(|| unwritten(what, errno));
            locked(&self.running).handles.iter().for_each(|(_, handle)| handle.abort());
            Failure::new("")
        })
    }

    /// Says how many hosts did what.
    fn end(self, left: &[String], relay: &Relay) -> Result<u8> {
        let results = self.results.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = results.unwritten {
            return Err(failure);
        }
        let count = results.succeeded + results.failed.len() + results.lost.len() + left.len();
        let mut said = format!("hosts: {count}, succeeded: {}", results.succeeded);
        for (what, hosts) in
            [("failed", &results.failed[..]), ("not run", &results.lost), ("not begun", left)]
        {
            if !hosts.is_empty() {
                said += &format!(", {what}: {} ({})", hosts.len(), some_of(hosts));
            }
        }
        say(&said);
        Ok(match relay.ended_by() {
            Some(number) => 128 + u8::try_from(number).unwrap_or(0),
            None if !results.lost.is_empty() || !left.is_empty() => FAILED,
            None if !results.failed.is_empty() => SOME,
            None => 0,
        })
    }
}

fn some_of(hosts: &[String]) -> String {
    match hosts {
        [first @ .., _] if first.len() >= NAMED => format!("{}, ...", hosts[..NAMED].join(", ")),
        _ => hosts.join(", "),
    }
}

/// The hosts of a file, one on each line, or of a list.
fn names(list: &OsStr) -> Result<Vec<OsString>> {
    let is_file = fs::metadata(list).is_ok_and(|meta| !meta.is_dir());
    let text = if is_file { read(Path::new(list))? } else { list.as_bytes().to_vec() };
    let separator = if is_file { b'\n' } else { b',' };
    let names: Vec<_> = text
        .split(|&byte| byte == separator)
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && !name.starts_with(b"#"))
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect();
    if names.is_empty() {
        return Err(Failure::new(format!("--hosts {}: it names no host", shown(list))));
    }
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        Failure::new(format!("{}: {}", shown(path.as_os_str()), without_number(&error)))
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line that does not end is cut here.
const LONGEST: usize = 64 * 1024;
/// Hosts that a summary names.
const NAMED: usize = 10;
