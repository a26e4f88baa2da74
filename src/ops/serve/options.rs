//! How a server serves: access, limits, the log.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::log::{Level, LogFunction};
use super::served::ServedFunction;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::ops::auth::keyring::Keyring;
use crate::ops::frame::{Client, ConnectionOptions};
use crate::wire::seal::terms::Terms;

/// Who may use a server.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The keys of its clients. They can be replaced while it runs. Without a ring it serves
    /// everybody, and listens on this host only.
    pub ring: Option<Arc<Keyring>>,
    /// Its clients use the plain handshake: it proves their key when the connection opens, and
    /// protects nothing later. Otherwise connections are sealed: both ends are proved, and every
    /// byte is encrypted.
    pub plain: bool,
    /// What the clients of sealed connections know beforehand.
    pub terms: Terms,
    /// Without a ring it listens on other addresses too, and serves everybody who can reach them.
    /// For networks that are trusted.
    pub open: bool,
    /// The users whose processes are served at Unix sockets, root no more than others; `None`:
    /// whoever can connect, which the mode of the socket's file decides. Other users are told
    /// `denied`. Clients at other sockets are not asked for a user.
    pub users: Option<Vec<u32>>,
}

impl Access {
    /// Whether the user of a client at a Unix socket is among those that are served.
    pub(super) fn admits(&self, client: &Client<'_>) -> bool {
        let Some(users) = &self.users else { return true };
        client.credentials().is_none_or(|credentials| users.contains(&credentials.uid))
    }
}

/// Limits of a server. Each is reached by peers only, and holds for all of them together or for
/// each of them, as it says.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections. The next one is told `busy` when it sends its request.
    pub max_connections: usize,
    /// Connections beside them that have not proved a key yet, or that are being refused. The
    /// next one closes the oldest of them, once that has had 100 ms.
    pub max_unauthenticated: usize,
    /// Commands that run at once; others wait. 0 is two for each processor.
    pub max_commands: usize,
    /// Requests about files that are served at once; others wait.
    pub max_transfers: usize,
    /// Bytes of unfinished requests of all connections. A request that exceeds it is told `busy`.
    pub max_memory: u64,
    /// Bytes of a request's header.
    pub max_header: u64,
    /// Levels of nesting in it.
    pub max_depth: u32,
    /// Bytes of a request's body that a handler gets in memory.
    pub max_body: u64,
    /// Bytes of a connection's replies that were not written yet.
    pub max_queue: u64,
    /// The whole handshake.
    pub auth_timeout: Duration,
    /// From the first byte of a request to the last of its header.
    pub frame_timeout: Duration,
    /// Without a byte of a request's body, or of the replies that the client reads. On average
    /// [`limits::LEAST_RATE`] bytes must pass in a second.
    pub stall: Duration,
    /// Without a request.
    pub idle: Duration,
    /// From a stop to the end of what still runs.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: limits::CONNECTIONS,
            max_unauthenticated: limits::UNAUTHENTICATED,
            max_commands: 0,
            max_transfers: limits::TRANSFERS,
            max_memory: limits::SERVER_MEMORY,
            max_header: limits::MAX_HEADER,
            max_depth: limits::MAX_DEPTH,
            max_body: limits::MAX_BODY,
            max_queue: limits::MAX_QUEUE,
            auth_timeout: limits::AUTH_TIMEOUT,
            frame_timeout: limits::FRAME_TIMEOUT,
            stall: limits::REPLY_TIMEOUT,
            idle: limits::IDLE_TIMEOUT,
            drain: limits::DRAIN_TIMEOUT,
        }
    }
}

impl Limits {
    /// The limits, within each other.
    pub(super) fn checked(mut self) -> Result<Limits> {
        if self.max_connections == 0 || self.max_unauthenticated == 0 || self.max_transfers == 0 {
            return Err(Error::new(ErrorKind::Argument, "a limit of connections is 0"));
        }
        if self.max_connections.saturating_add(self.max_unauthenticated) > MAX_SLOTS {
            return Err(Error::new(ErrorKind::Argument, "max_connections is above a million"));
        }
        if self.max_commands == 0 {
            let cpus = rustix::thread::sched_getaffinity(None).map_or(1, |cpus| cpus.count());
            self.max_commands = limits::COMMANDS_PER_CPU * (cpus as usize).max(1);
        }
        self.auth_timeout = self.auth_timeout.min(limits::AUTH_TIMEOUT_HARD);
        Ok(self)
    }

    /// Those of each connection.
    pub(super) fn connection(&self) -> ConnectionOptions {
        ConnectionOptions {
            max_header: self.max_header,
            max_depth: self.max_depth,
            max_body: self.max_body,
            max_queue: self.max_queue,
            stall: Some(self.stall),
            ..ConnectionOptions::default()
        }
    }
}

/// More connections than a process has descriptors.
const MAX_SLOTS: usize = 1 << 20;

/// Asked while a call waits; `Break` ends the call.
pub type Interrupted = Arc<dyn Fn() -> ControlFlow<()> + Send + Sync>;

/// How a server serves.
#[derive(Clone, Default)]
pub struct ServerOptions {
    /// Who may use it.
    pub access: Access,
    /// Threads for requests. With 0 requests are served on the thread that calls
    /// [`run`](super::Server::run) or [`step`](super::Server::step), one at a time. Otherwise
    /// commands and transfers have threads of their own beside these.
    pub workers: usize,
    /// Answer the request `hello`, which asks what the server can do.
    pub hello: bool,
    /// Its limits.
    pub limits: Limits,
    /// Gets a line for what an operator wants to know.
    pub log: Option<LogFunction>,
    /// The lines that it gets: this level and those that matter more.
    pub log_level: Level,
    /// Reap the processes that this one inherits, as process 1 of a container or as a subreaper:
    /// what commands leave behind. Otherwise it has no effect. Children of the library are left
    /// to it. Those that the host has started have a second, in which it has to wait for them.
    pub reap: bool,
    /// Asked before each wait, after each signal and once a second, by the thread of
    /// [`run`](super::Server::run) or [`step`](super::Server::step); without workers also while a
    /// request waits. `Break` ends the call, and then `run` or `step`, with
    /// [`ErrorKind::Canceled`].
    pub interrupted: Option<Interrupted>,
    /// Called exactly once for each request when it is over, also if it was refused, or cut by a
    /// stop or by its client: an audit log is made of this. No call is left out, so it should not
    /// take long: the next request of the connection waits for it. A panic in it is caught.
    ///
    /// A request begins with the last byte of its header. Bytes that are no request are not told.
    pub served: Option<ServedFunction>,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("access", &self.access)
            .field("workers", &self.workers)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
