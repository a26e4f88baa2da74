//! The object of a server, for its host.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use rustix::net::AddressFamily;
use rustix::net::sockopt;

use super::engine::Engine;
use super::later::Later;
use super::listening::Listening;
use super::locked;
use super::log::{Counters, Level};
use super::options::ServerOptions;
use super::service::{
    BodyMode, Commands, Files, Handler, LaterHandler, Request, Serve, Service, Services,
};
use super::stop::Stop;
use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::root::Root;
use crate::io::poller::Token;
use crate::ops::frame::Connection;

/// A server. Everything is off until it is added.
///
/// Add what it serves and where it listens, then call [`run`](Self::run), or
/// [`step`](Self::step) from a loop of the host.
pub struct Server {
    engine: Arc<Engine>,
    /// Until the first turn.
    services: Mutex<Option<Services>>,
    /// Held during a turn, with the events that it serves.
    turn: Mutex<Vec<Token>>,
}

/// Stops a server, from any thread and from a signal handler.
#[derive(Clone)]
pub struct Stopper(Arc<Stop>);

impl Stopper {
    /// As [`Server::stop`].
    pub fn stop(&self) {
        self.0.ask();
    }
}

impl Server {
    /// A server that serves nothing and listens nowhere.
    pub fn new(options: ServerOptions) -> Result<Server> {
        if options.access.ring.as_ref().is_some_and(|ring| ring.is_empty()) {
            return Err(Error::new(ErrorKind::Key, "the key ring is empty"));
        }
        if options.access.open && options.access.ring.is_some() {
            let detail = "a server with a key ring is not open to everybody";
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        if options.access.ring.is_some() && !options.access.plain && !cfg!(feature = "seal") {
            let detail = "this library was built without sealing: only plain access is possible";
            return Err(Error::new(ErrorKind::Unsupported, detail));
        }
        let mut services = Services::default();
        if options.hello {
            services.add("hello", Service::Hello)?;
        }
        Ok(Server {
            engine: Arc::new(Engine::new(options)?),
            services: Mutex::new(Some(services)),
            turn: Mutex::default(),
        })
    }

    /// Accepts connections of a listening socket, TCP or Unix, which may block or not. Any
    /// number; also while it runs.
    ///
    /// [`ErrorKind::Argument`]: it does not listen, or it can be reached from other hosts and the
    /// server has no keys and is not [`open`](super::Access::open). [`ErrorKind::State`]: it has
    /// stopped.
    pub fn listen(&self, socket: impl Into<Listening>) -> Result<()> {
        let socket = socket.into();
        self.check_serves()?;
        let is_listening = sockopt::socket_acceptconn(socket.fd())
            .map_err(|errno| Error::system("getsockopt", errno))?;
        if !is_listening {
            return Err(Error::new(ErrorKind::Argument, "the socket does not listen"));
        }
        let access = &self.engine.common.options.access;
        if access.ring.is_none() && !access.open {
            check_local(socket.fd())?;
        }
        self.engine.listen(socket)
    }

    /// Serves a connection that exists: of inetd, a socketpair, one that dialled out. Without
    /// keys its peer can use everything that the server serves. [`ErrorKind::State`]: it has
    /// stopped.
    pub fn add(&self, connection: OwnedFd) -> Result<()> {
        self.check_serves()?;
        self.engine.check(connection.as_fd())?;
        self.engine.admit(self.engine.connect(connection.into())?, None);
        Ok(())
    }

    /// The same for a descriptor that `take` takes once nothing can fail any more.
    pub(crate) fn add_by(
        &self,
        fd: BorrowedFd<'static>,
        take: impl FnOnce() -> Option<OwnedFd>,
    ) -> Result<()> {
        self.check_serves()?;
        self.engine.check(fd)?;
        let connection = self.engine.connect(fd.into())?;
        self.engine.admit(connection.owning(take(), None), None);
        Ok(())
    }

    /// Requests with this `cmd` go to `handler`, on one of the server's threads.
    pub fn handle(
        &self,
        cmd: &str,
        mode: BodyMode,
        handler: impl Fn(&mut Connection<'static>, &Request<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        let handler: Box<Handler> = Box::new(handler);
        self.handle_by(cmd, mode, Box::new(handler))
    }

    /// The same for a handler that may reply later, on any thread, while the server serves others.
    /// Further requests of the client wait until then.
    pub fn handle_later(
        &self,
        cmd: &str,
        mode: BodyMode,
        handler: impl Fn(Connection<'static>, &Request<'_>, Later) + Send + Sync + 'static,
    ) -> Result<()> {
        let handler: Box<LaterHandler> = Box::new(handler);
        self.handle_by(cmd, mode, Box::new(handler))
    }

    /// The same for a handler that takes the connection.
    pub(crate) fn handle_by(
        &self,
        cmd: &str,
        mode: BodyMode,
        handler: Box<dyn Serve>,
    ) -> Result<()> {
        self.change(|services| services.add(cmd, Service::Handler(handler, mode)))
    }

    /// Runs the commands of its clients. They can do everything that the host's user can.
    pub fn serve_commands(&self, commands: Commands) -> Result<()> {
        self.change(|services| services.add_commands(commands))
    }

    /// Serves the files below a directory.
    pub fn serve_files(&self, files: Files) -> Result<()> {
        Root::new(files.root.as_fd())?;
        self.change(|services| services.add_files(files))
    }

    fn change(&self, change: impl FnOnce(&mut Services) -> Result<()>) -> Result<()> {
        self.check_process()?;
        match &mut *locked(&self.services) {
            Some(services) => change(services),
            None => Err(Error::new(ErrorKind::State, "the server runs")),
        }
    }

    /// Serves until it is stopped and every request is answered. [`ErrorKind::TimedOut`]: some
    /// were cut when [`drain`](super::Limits::drain) had passed, or a second stop came.
    pub fn run(&self) -> Result<()> {
        loop {
            match self.step(None) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) if error.kind() == ErrorKind::Closed => break,
                Err(error) => return Err(error),
            }
        }
        if self.engine.has_cut() {
            return Err(Error::new(ErrorKind::TimedOut, "requests were cut by the stop"));
        }
        Ok(())
    }

    /// The descriptor to wait for, until it can be read, before each [`step`](Self::step).
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.engine.control.fd()
    }

    /// One turn, for a host with its own loop: does what can be done, and waits for that up to
    /// `timeout`. Without workers a turn serves requests, and takes as long as they do.
    ///
    /// [`ErrorKind::TimedOut`]: there was nothing to do. [`ErrorKind::Closed`]: the server has
    /// stopped. [`ErrorKind::Busy`]: another thread is in a turn, or a handler calls this.
    pub fn step(&self, timeout: Option<Duration>) -> Result<()> {
        self.check_process()?;
        let mut turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(ErrorKind::Busy, "the server is in a turn"));
            }
        };
        let was_over = self.engine.is_over();
        self.start()?;
        let stepped = self.engine.step(timeout, &mut turn);
        if !was_over && self.engine.is_over() {
            self.finish();
        }
        stepped
    }

    /// Fixes what it serves, and starts the threads.
    fn start(&self) -> Result<()> {
        if !self.engine.common.has_services()
            && let Some(mut services) = locked(&self.services).take()
        {
            services.finish(&self.engine.common.options.limits);
            self.engine.common.set_services(services);
            self.engine.common.log.line(Level::Info, format_args!("serving"));
            self.engine.reap(Instant::now());
        }
        if self.engine.is_over() { Ok(()) } else { self.engine.start() }
    }

    fn finish(&self) {
        self.engine.forget_listeners();
        self.engine.quit.ring();
        if self.engine.has_none() {
            self.engine.pool.join();
        }
        self.engine.common.log.line(Level::Info, format_args!("stopped"));
    }

    /// Stops: nothing more is accepted but what waits for it, requests that have come are
    /// answered, idle connections are ended. A second stop ends everything at once.
    /// Async-signal-safe.
    pub fn stop(&self) {
        self.engine.stop.ask();
    }

    /// To stop it from where the server itself cannot be.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.engine.stop))
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.engine.common.counts.read()
    }

    /// Whoever came to one that has stopped would wait for ever.
    fn check_serves(&self) -> Result<()> {
        self.check_process()?;
        if self.engine.is_over() {
            return Err(Error::new(ErrorKind::State, "the server has stopped"));
        }
        Ok(())
    }

    fn check_process(&self) -> Result<()> {
        if self.engine.is_here() { Ok(()) } else { Err(Error::new(ErrorKind::Forked, "")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.engine.is_here() {
            return;
        }
        self.engine.end_now();
        self.engine.quit.ring();
        self.engine.pool.join();
    }
}

/// Refuses a socket that other hosts can reach.
fn check_local(socket: BorrowedFd<'_>) -> Result<()> {
    let failed = |errno| Error::system("getsockname", errno);
    let address = rustix::net::getsockname(socket).map_err(failed)?;
    let is_local = match address.address_family() {
        AddressFamily::UNIX => true,
        _ => SocketAddr::try_from(address)
            .is_ok_and(|address| address.ip().to_canonical().is_loopback()),
    };
    if is_local {
        return Ok(());
    }
    let detail = "other hosts can reach this address: give the server a key ring, or listen on \
                  127.0.0.1, [::1] or a Unix socket";
    Err(Error::new(ErrorKind::Argument, detail))
}
