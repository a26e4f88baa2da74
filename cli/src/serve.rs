//! A server of commands and files.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use framefd::auth::{KeyId, Keyring, Rules};
use framefd::frame::{HeaderBuilder, address_of, listen};
use framefd::serve::{Access, Commands, Files, Level, Limits, Server, ServerOptions};
use framefd::{Error, ErrorKind, exec, file, limits};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::Serve;
use crate::failure::{Failure, Result, text_of};
use crate::hosts::terms;
use crate::output::{one_line, show, shown, write_if_taken};

/// Runs `framefd serve`.
pub fn run(arguments: &Serve) -> Result<u8> {
    if !arguments.exec && arguments.root.is_none() {
        return Err(Failure::new("serve: nothing to serve: give --exec, or --root DIRECTORY"));
    }
    let log = Arc::new(Log::open(arguments.log.as_deref())?);
    let ring = ring(arguments)?;
    let server = server(arguments, ring.as_ref(), &log)?;
    for address in &arguments.listen {
        let listener = listen(address.as_bytes(), 0, 0).map_err(|error| {
            Failure::new(format!("{}; is another program listening there?", text_of(&error)))
        })?;
        let heard = address_of(listener.as_fd(), false)
            .map_err(|error| Failure::of(&shown(address), &error))?;
        server.listen(listener).map_err(|error| {
            let advice = "beyond this machine a server needs a key: -k FILE or --keys DIRECTORY";
            Failure::new(format!("{}: {}; {advice}", shown(address), text_of(&error)))
        })?;
        // Nobody may be left who reads it.
        let _ = show(&[b"listening on ", &heard[..], b"\n"].concat());
    }
    obey_signals(&server, ring, arguments, log)?;
    if let Some(root) = arguments.root.as_deref().filter(|_| arguments.writable) {
        sweep(root);
    }
    match server.run() {
        // A second signal, or the time for what still ran.
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(0),
        Err(error) => Err(Failure::new(text_of(&error))),
        Ok(()) => Ok(0),
    }
}

fn ring(arguments: &Serve) -> Result<Option<Arc<Keyring>>> {
    let Some(keys) = arguments.keys.as_ref().or(arguments.key.as_ref()) else {
        if arguments.plain {
            return Ok(None);
        }
        let line = "no key: give -k FILE or --keys DIRECTORY, or --plain for all of this machine";
        return Err(Failure::new(format!("serve: {line}")));
    };
    let ring = Keyring::new();
    ring.load(keys, RULES).map_err(|error| Failure::new(text_of(&error)))?;
    Ok(Some(Arc::new(ring)))
}

fn server(arguments: &Serve, ring: Option<&Arc<Keyring>>, log: &Arc<Log>) -> Result<Server> {
    let failed = |error: Error| Failure::new(format!("serve: {}", text_of(&error)));
    let lines = Arc::clone(log);
    let server = Server::new(ServerOptions {
        access: Access {
            ring: ring.cloned(),
            plain: arguments.plain,
            terms: terms(arguments.name.as_deref().unwrap_or_default())?,
            users: None,
        },
        workers: thread::available_parallelism().map_or(2, usize::from),
        hello: true,
        limits: Limits {
            max_connections: arguments.max as usize,
            max_commands: arguments.max_commands as usize,
            ..Limits::default()
        },
        log: Some(Arc::new(move |level, line| lines.event(level, line))),
        log_level: Level::Info,
        ..ServerOptions::default()
    });
    let server = server.map_err(failed)?;
    if arguments.exec {
        server.serve_commands(commands(arguments, log)).map_err(failed)?;
    }
    if let Some(root) = &arguments.root {
        server.serve_files(files(arguments, root, log)?).map_err(failed)?;
    }
    Ok(server)
}

fn commands(arguments: &Serve, log: &Arc<Log>) -> Commands {
    let mut options = exec::ServeOptions::default();
    options.limits.time = arguments.timeout;
    options.environment.additions = of_user();
    let log = Arc::clone(log);
    let policy = move |inquiry: &exec::Inquiry<'_>, _: &mut exec::Choice| {
        let what: Vec<u8> = match &inquiry.request.argv {
            Some(argv) => argv.join(" ").into_bytes(),
            None => inquiry.command.to_vec(),
        };
        log.request("exec", &what, inquiry.client.key());
        Ok(())
    };
    Commands { options, policy: Some(Box::new(policy)) }
}

fn files(arguments: &Serve, root: &Path, log: &Arc<Log>) -> Result<Files> {
    let opened =
        File::options().read(true).custom_flags(DIRECTORY).open(root).map_err(|error| {
            let why = crate::run::without_number(&error);
            Failure::new(format!("--root {}: {why}", shown(root.as_os_str())))
        })?;
    let log = Arc::clone(log);
    let policy = move |inquiry: &file::Inquiry<'_>, _: &mut file::Choice| {
        log.request(inquiry.cmd, inquiry.name, inquiry.client.key());
        Ok(())
    };
    Ok(Files {
        root: OwnedFd::from(opened),
        options: file::ServeOptions {
            rights: if arguments.writable { file::Rights::ALL } else { file::Rights::READ },
            ..file::ServeOptions::default()
        },
        policy: Some(Box::new(policy)),
    })
}

/// Removes what transfers have left unfinished a day ago, while the server runs.
fn sweep(root: &Path) {
    if root.canonicalize().is_ok_and(|root| root == Path::new("/")) {
        // It would read the whole machine.
        return;
    }
    if let Ok(root) = File::open(root) {
        let work = move || file::sweep(root.as_fd(), limits::PARTIAL_AGE);
        // It is tried again at the next start.
        drop(thread::Builder::new().spawn(work));
    }
}

/// HUP: reads the keys again, and opens the log again. INT, TERM: stops; the second time at once.
fn obey_signals(
    server: &Server,
    ring: Option<Arc<Keyring>>,
    arguments: &Serve,
    log: Arc<Log>,
) -> Result<()> {
    let refused = |error: io::Error| Failure::new(format!("no handler of signals: {error}"));
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(refused)?;
    let (stopper, keys) = (server.stopper(), arguments.keys.clone().or(arguments.key.clone()));
    let work = move || {
        for number in signals.forever() {
            if number != SIGHUP {
                stopper.stop();
                continue;
            }
            log.again();
            let Some((ring, keys)) = ring.as_ref().zip(keys.as_deref()) else { continue };
            match ring.load(keys, RULES) {
                Ok(()) => log.event(Level::Info, "the keys were read again"),
                Err(error) => {
                    let line = format!("the keys stay as they are: {}", text_of(&error));
                    log.event(Level::Error, &line);
                }
            }
        }
    };
    thread::Builder::new().spawn(work).map(drop).map_err(refused)
}

/// What the system knows of our user, where the environment has none: a unit of systemd has no
/// HOME, and programs look for files there.
fn of_user() -> Vec<(Vec<u8>, Vec<u8>)> {
    let users = std::fs::read("/etc/passwd").unwrap_or_default();
    let us = rustix::process::geteuid().as_raw().to_string();
    let fields = users.split(|&byte| byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        (fields.len() == 7 && fields[2] == us.as_bytes()).then_some(fields)
    });
    let Some(fields) = fields else { return Vec::new() };
    let known = [("HOME", fields[5]), ("USER", fields[0]), ("LOGNAME", fields[0])];
    let missing = known.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
    // The host's own shell is not passed on.
    let all = missing.chain([("SHELL", fields[6])]).filter(|(_, value)| !value.is_empty());
    all.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

// ---- the log

/// One JSON object a line: what the server says, and each request as it begins.
struct Log {
    path: Option<PathBuf>,
    file: Mutex<Option<File>>,
}

impl Log {
    fn open(path: Option<&Path>) -> Result<Log> {
        let file = path.map(append).transpose().map_err(|error| {
            let path = shown(path.unwrap_or(Path::new("")).as_os_str());
            Failure::new(format!("--log {path}: {}", crate::run::without_number(&error)))
        })?;
        Ok(Log { path: path.map(Path::to_owned), file: Mutex::new(file) })
    }

    /// Opens the file again, which was renamed.
    fn again(&self) {
        if let Some(Ok(file)) = self.path.as_deref().map(append) {
            *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
    }

    fn event(&self, level: Level, line: &str) {
        let name = format!("{level:?}").to_lowercase();
        self.line(&[("level", name.as_bytes()), ("message", line.as_bytes())]);
    }

    fn request(&self, cmd: &str, what: &[u8], key: Option<&KeyId>) {
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

/// Keys as Kubernetes and systemd hand them over.
const RULES: Rules = Rules { allow_short: false, group_readable: true };
/// Bytes of a command or a name in the log.
const LONGEST: usize = 64 * 1024;
/// The same, so that the line is within PIPE_BUF, if each is escaped.
const LONGEST_TO_A_PIPE: usize = 700;
const DIRECTORY: i32 = rustix::fs::OFlags::DIRECTORY.bits().cast_signed();
