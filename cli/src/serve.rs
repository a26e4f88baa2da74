//! A server of commands and files.

mod account;
mod audit;
mod rules;
mod services;

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use framefd::auth::{KeyId, Keyring, Rules};
use framefd::frame::{address_of, listen};
use framefd::serve::{Access, Level, Limits, Server, ServerOptions};
use framefd::{Error, ErrorKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::Serve;
use crate::dial_out::DialOut;
use crate::failure::{Failure, Result, text_of};
use crate::forward::is_local;
use crate::hosts::{no_key, terms};
use crate::inherited;
use crate::log::Log;
use crate::output::{show, shown};
use services::Book;

/// Runs `framefd serve`.
pub fn run(arguments: &Serve) -> Result<u8> {
    // Before anything is opened that could get the number of a missing one.
    let given = inherited::listeners()?;
    let connection = if arguments.stdio { Some(inherited::connection()?) } else { None };
    if !arguments.exec && arguments.root.is_none() {
        return Err(Failure::new("serve: nothing to serve: give --exec, or --root DIRECTORY"));
    }
    let listens = !arguments.listen.is_empty() || !given.is_empty();
    if !listens && connection.is_none() && arguments.dial.is_empty() {
        let line = "serve: nowhere to serve: give --listen ADDRESS, --stdio or --dial ADDRESS, or \
                    start it from a socket unit of systemd";
        return Err(Failure::new(line));
    }
    let log = Arc::new(Log::open(arguments.log.as_deref())?);
    let ring = ring(arguments)?;
    if arguments.config.is_some() && ring.is_none() {
        let line = "--config gives rights to keys, and there are none: give --keys DIRECTORY";
        return Err(Failure::new(line));
    }
    let book = Arc::new(Book::load(arguments)?);
    let server = Arc::new(server(arguments, ring.as_ref(), &book, &log)?);
    if let Some(connection) = connection {
        add(&server, connection, ring.is_some())?;
    } else {
        for socket in given {
            listen_on(&server, socket, "a socket of systemd")?;
        }
        for address in &arguments.listen {
            let socket = listen(address.as_bytes(), 0, 0)
                .map_err(|error| Failure::to_listen(address, &error))?;
            listen_on(&server, socket, &shown(address))?;
        }
    }
    let (stop, stopping) = io::pipe().map_err(|error| Failure::new(format!("pipe: {error}")))?;
    let hubs = match &ring {
        Some(ring) => dial_out(arguments, &server, ring, &log, stop)?,
        None => None,
    };
    obey_signals(&server, ring, book, arguments, log, (hubs, stopping))?;
    if let Some(root) = arguments.root.as_deref().filter(|_| arguments.writable) {
        services::sweep(root);
    }
    inherited::notify("READY=1");
    let ended = if arguments.stdio { run_one(&server) } else { server.run() };
    match ended {
        // A second signal, or the time for what still ran.
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(0),
        Err(error) => Err(Failure::new(text_of(&error))),
        Ok(()) => Ok(0),
    }
}

fn listen_on(server: &Server, socket: OwnedFd, name: &str) -> Result<()> {
    let heard = address_of(socket.as_fd(), false).map_err(|error| Failure::of(name, &error))?;
    server
        .listen(socket)
        .map_err(|error| Failure::new(format!("{name}: {}; {NEEDS_KEY}", text_of(&error))))?;
    // Nobody may be left who reads it.
    let _ = show(&[b"listening on ", &heard[..], b"\n"].concat());
    Ok(())
}

/// Starts the connections to hubs.
fn dial_out(
    arguments: &Serve,
    server: &Arc<Server>,
    ring: &Arc<Keyring>,
    log: &Arc<Log>,
    stop: PipeReader,
) -> Result<Option<Arc<DialOut>>> {
    let (Some(key), Some(name)) = (&arguments.dial_key, &arguments.name) else { return Ok(None) };
    let dial_out = Arc::new(DialOut {
        server: Arc::clone(server),
        name: KeyId::new(name.as_bytes()).map_err(|error| Failure::of("--name", &error))?,
        key: key.clone(),
        ring: Arc::clone(ring),
        log: Arc::clone(log),
        stop,
    });
    dial_out.check_key()?;
    arguments.dial.iter().try_for_each(|address| dial_out.start(address, arguments.hold))?;
    Ok(Some(dial_out))
}

/// Adds the one connection of a server that listens nowhere.
fn add(server: &Server, connection: OwnedFd, has_keys: bool) -> Result<()> {
    let peer = address_of(connection.as_fd(), true).unwrap_or_default();
    if !has_keys && !is_local(&peer) {
        return Err(Failure::new(format!("--stdio: {NEEDS_KEY}")));
    }
    server.add(connection).map_err(|error| Failure::of("--stdio", &error))
}

/// Serves until that connection has ended. Everything runs on this thread.
fn run_one(server: &Server) -> std::result::Result<(), Error> {
    let mut is_over = false;
    loop {
        match server.step(None) {
            Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
            Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
            _ => {}
        }
        if !is_over && server.counters().connections_now == 0 {
            is_over = true;
            server.stop();
        }
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
    ring.load(keys, RULES).map_err(|error| no_key(&error))?;
    Ok(Some(Arc::new(ring)))
}

fn server(
    arguments: &Serve,
    ring: Option<&Arc<Keyring>>,
    book: &Arc<Book>,
    log: &Arc<Log>,
) -> Result<Server> {
    let failed = |error: Error| Failure::new(format!("serve: {}", text_of(&error)));
    let (lines, records) = (Arc::clone(log), Arc::clone(log));
    let server = Server::new(ServerOptions {
        access: Access {
            ring: ring.cloned(),
            plain: arguments.plain,
            terms: terms(arguments.name.as_deref().unwrap_or_default())?,
            ..Access::default()
        },
        workers: if arguments.stdio {
            0
        } else {
            thread::available_parallelism().map_or(2, usize::from)
        },
        hello: true,
        limits: Limits {
            max_connections: arguments.max as usize,
            max_commands: arguments.max_commands as usize,
            ..Limits::default()
        },
        log: Some(Arc::new(move |level, line| lines.event(level, line))),
        log_level: Level::Info,
        served: Some(Arc::new(move |served| audit::record(&records, served))),
        ..ServerOptions::default()
    });
    let server = server.map_err(failed)?;
    if arguments.exec {
        server.serve_commands(services::commands(arguments, book)).map_err(failed)?;
    }
    if let Some(root) = &arguments.root {
        server.serve_files(services::files(arguments, root, book)?).map_err(failed)?;
    }
    Ok(server)
}

/// HUP: reads the rules and the keys again, and opens the log again. INT, TERM: stops; the second time at once.
fn obey_signals(
    server: &Server,
    ring: Option<Arc<Keyring>>,
    book: Arc<Book>,
    arguments: &Serve,
    log: Arc<Log>,
    (hubs, stopping): (Option<Arc<DialOut>>, PipeWriter),
) -> Result<()> {
    let mut stopping = Some(stopping);
    let refused = |error: io::Error| Failure::new(format!("no handler of signals: {error}"));
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(refused)?;
    let (stopper, keys) = (server.stopper(), arguments.keys.clone().or(arguments.key.clone()));
    let config = arguments.config.clone();
    let work = move || {
        for number in signals.forever() {
            if number != SIGHUP {
                inherited::notify("STOPPING=1");
                // Hubs can lend no connection any more.
                drop(stopping.take());
                stopper.stop();
                continue;
            }
            log.again();
            // A new key must not have the rights of an old rule.
            if let Some(Err(failure)) = config.as_deref().map(|path| book.again(path)) {
                let line = format!("the rules and the keys stay as they are: {}", failure.line);
                log.event(Level::Error, &line);
                continue;
            }
            let Some((ring, keys)) = ring.as_ref().zip(keys.as_deref()) else { continue };
            match load_again(ring, keys, hubs.as_deref()) {
                Ok(()) => log.event(Level::Info, "the keys were read again"),
                Err(failure) => {
                    let line = format!("the keys stay as they are: {}", failure.line);
                    log.event(Level::Error, &line);
                }
            }
        }
    };
    thread::Builder::new().spawn(work).map(drop).map_err(refused)
}

/// A hub holds connections that it could use at once if a client had its key.
fn load_again(ring: &Keyring, keys: &Path, hubs: Option<&DialOut>) -> Result<()> {
    let new = Keyring::new();
    new.load(keys, RULES).map_err(|error| Failure::new(text_of(&error)))?;
    if let Some(hubs) = hubs {
        hubs.check_clients(&new)?;
    }
    // What was checked, and not what the files have become meanwhile.
    ring.take_over(new);
    Ok(())
}

const NEEDS_KEY: &str = "beyond this machine a server needs a key: -k FILE or --keys DIRECTORY";
/// Keys as Kubernetes and systemd hand them over.
pub const RULES: Rules = Rules { allow_short: false, group_readable: true };
