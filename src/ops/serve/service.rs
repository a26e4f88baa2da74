//! What a server does for a request: the host's handlers, and the features of the library.

use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use super::later::{Later, Left, Lent, lend};
use super::locked;
use super::options::Limits;
use super::served::Noted;
use crate::error::{Error, ErrorKind, Result};
use crate::io::process::fork::Origin;
use crate::limits;
use crate::ops::frame::{Client, Connection};
use crate::ops::{exec, file};
use crate::wire::json::header::Header;
use crate::wire::message::written;

/// A request, for its handler.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its header.
    pub header: &'a Header,
    /// Its body; empty for a handler that reads it in pieces.
    pub body: &'a [u8],
    /// Whose it is.
    pub client: Client<'a>,
}

/// Serves a request on its connection. If it returns `Ok` without a reply, the server sends one.
/// If it returns an error, that becomes the error reply; or, if something was sent before, the end
/// of the connection.
pub type Handler = dyn Fn(&mut Connection<'static>, &Request<'_>) -> Result<()> + Send + Sync;

/// Serves a request as [`Handler`], and gives its connection back with [`Later::done`], before or
/// after it returns.
pub type LaterHandler = dyn Fn(Connection<'static>, &Request<'_>, Later) + Send + Sync;

/// What has become of a request once its handler has returned.
pub(crate) enum Handled {
    Now(Left),
    Later(Lent),
}

/// A handler, which gets the connection.
pub(crate) trait Serve: Send + Sync {
    /// Serves a request.
    fn serve(&self, connection: Box<Connection<'static>>, request: &Request<'_>) -> Handled;

    /// Whether it may keep the connection.
    fn may_keep(&self) -> bool {
        false
    }
}

impl Serve for Box<Handler> {
    fn serve(&self, mut connection: Box<Connection<'static>>, request: &Request<'_>) -> Handled {
        let served = catch_unwind(AssertUnwindSafe(|| self(&mut connection, request)));
        let served = served.unwrap_or_else(|_| Err(Error::new(ErrorKind::Panic, "a handler")));
        Handled::Now(Left::new(Some(connection), served))
    }
}

impl Serve for Box<LaterHandler> {
    fn serve(&self, connection: Box<Connection<'static>>, request: &Request<'_>) -> Handled {
        let (later, lent) = lend();
        // After a panic the connection is dropped, and so closed.
        let _ = catch_unwind(AssertUnwindSafe(|| self(*connection, request, later)));
        Handled::Later(lent)
    }

    fn may_keep(&self) -> bool {
        true
    }
}

/// How a handler gets the body of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// In memory. The handler is called once all of it has come.
    Whole,
    /// It reads the body with [`Connection::read`]. The handler is called once the header has
    /// come.
    Streamed,
}

/// Decides about a command, and may choose how it is run: as [`exec::Policy`].
pub type ExecPolicy =
    Box<dyn Fn(&exec::Inquiry<'_>, &mut exec::Choice) -> Result<()> + Send + Sync>;
/// Decides about a request for a file, and may choose how it is served: as [`file::Policy`].
pub type FilePolicy =
    Box<dyn Fn(&file::Inquiry<'_>, &mut file::Choice) -> Result<()> + Send + Sync>;

/// The files of a server.
pub struct Files {
    /// The directory that no name leads out of.
    pub root: OwnedFd,
    /// How they are served, and what may be done with them. A policy here is beside
    /// [`policy`](Self::policy).
    pub options: file::ServeOptions<'static>,
    /// Asked about everything that `options` allow.
    pub policy: Option<FilePolicy>,
}

/// Commands of a server.
pub struct Commands {
    /// How they are run. Set a time limit; [`Commands::default`] has one.
    pub options: exec::ServeOptions<'static>,
    /// Asked about every command.
    pub policy: Option<ExecPolicy>,
}

impl Default for Commands {
    fn default() -> Commands {
        let mut options = exec::ServeOptions::default();
        options.limits.time = Some(limits::COMMAND_TIME);
        Commands { options, policy: None }
    }
}

/// What serves a `cmd`.
pub(super) enum Service {
    Handler(Box<dyn Serve>, BodyMode),
    Hello,
    /// Of [`Services::commands`].
    Command,
    /// Of [`Services::files`].
    File,
}

/// Everything that a server serves.
#[derive(Default)]
pub(super) struct Services {
    /// Sorted by `cmd`.
    by_cmd: Vec<(String, Service)>,
    commands: Option<Commands>,
    files: Option<Files>,
    /// The keys of the reply to `hello`.
    pub(super) hello: String,
}

impl Services {
    pub(super) fn add(&mut self, cmd: &str, service: Service) -> Result<()> {
        if cmd.is_empty() {
            return Err(Error::new(ErrorKind::Argument, "the cmd is empty"));
        }
        match self.place(cmd) {
            Ok(_) => Err(taken(cmd)),
            Err(place) => {
                self.by_cmd.insert(place, (cmd.into(), service));
                Ok(())
            }
        }
    }

    fn place(&self, cmd: &str) -> Result<usize, usize> {
        self.by_cmd.binary_search_by(|(known, _)| known.as_str().cmp(cmd))
    }

    /// What serves this.
    pub(super) fn get(&self, cmd: &str) -> Option<&Service> {
        self.place(cmd).ok().map(|place| &self.by_cmd[place].1)
    }

    pub(super) fn add_commands(&mut self, commands: Commands) -> Result<()> {
        self.add("exec", Service::Command)?;
        self.commands = Some(commands);
        Ok(())
    }

    pub(super) fn add_files(&mut self, files: Files) -> Result<()> {
        if let Some(cmd) = FILE_CMDS.iter().find(|cmd| self.get(cmd).is_some()) {
            return Err(taken(cmd));
        }
        for cmd in FILE_CMDS {
            self.add(cmd, Service::File)?;
        }
        self.files = Some(files);
        Ok(())
    }

    /// Called once everything was added.
    pub(super) fn finish(&mut self, limits: &Limits) {
        // Whoever asks knows of hello.
        let others = self.by_cmd.iter().filter(|(_, service)| !matches!(service, Service::Hello));
        let cmds: Vec<&str> = others.map(|(cmd, _)| cmd.as_str()).collect();
        let commands = self.commands.as_ref().map(|commands| commands.options.limits);
        let numbers = written(&|header| {
            header.plain("max_header", Some(limits.max_header));
            header.plain("max_body", Some(limits.max_body));
            header.plain("max_command", commands.map(|limits| limits.max_command));
            header.plain("max_output", commands.map(|limits| limits.max_output));
        });
        self.hello = written(&|header| {
            header.text("version", Some(env!("CARGO_PKG_VERSION")));
            header.texts("cmds", Some(&cmds));
            header.json("limits", Some(&numbers));
        });
    }

    /// Runs the command of a request whose header was just received; `wanted` gets a copy of it.
    pub(super) fn run_command(
        &self,
        connection: &mut Connection<'static>,
        request: &Header,
        wanted: Option<&Mutex<Noted>>,
    ) -> Result<exec::Served> {
        let Some(commands) = &self.commands else { return Err(unknown()) };
        let origin = Origin::here();
        let policy = |inquiry: &exec::Inquiry<'_>, choice: &mut exec::Choice| {
            if let Some(noted) = wanted {
                *locked(noted) = Noted::command(inquiry);
            }
            answered(origin, commands.permit(inquiry, choice))
        };
        let options = exec::ServeOptions { policy: Some(&policy), ..commands.options.clone() };
        exec::serve(connection, request, &options)
    }

    /// Serves a request for a file whose header was just received.
    pub(super) fn serve_file(
        &self,
        connection: &mut Connection<'static>,
        request: &Header,
        stall: Duration,
    ) -> Result<Option<Error>> {
        let Some(files) = &self.files else { return Err(unknown()) };
        let origin = Origin::here();
        let policy = |inquiry: &file::Inquiry<'_>, choice: &mut file::Choice| {
            answered(origin, files.permit(inquiry, choice))
        };
        let stall = files.options.stall.into_iter().chain([stall]).min();
        let options = file::ServeOptions { policy: Some(&policy), stall, ..files.options };
        Ok(match file::serve(connection, request, files.root.as_fd(), &options)? {
            file::Served::Done(_) | file::Served::Unanswered(_) => None,
            file::Served::Refused(error) => Some(error),
        })
    }
}

impl Commands {
    fn permit(&self, inquiry: &exec::Inquiry<'_>, choice: &mut exec::Choice) -> Result<()> {
        self.options.policy.map_or(Ok(()), |policy| policy(inquiry, choice))?;
        self.policy.as_ref().map_or(Ok(()), |policy| policy(inquiry, choice))
    }
}

impl Files {
    fn permit(&self, inquiry: &file::Inquiry<'_>, choice: &mut file::Choice) -> Result<()> {
        self.options.policy.map_or(Ok(()), |policy| policy(inquiry, choice))?;
        self.policy.as_ref().map_or(Ok(()), |policy| policy(inquiry, choice))
    }
}

const FILE_CMDS: [&str; 6] = ["get", "list", "mkdir", "put", "stat", "symlink"];

/// What a policy has answered, unless it has forked, and this is the child.
fn answered(origin: Origin, answer: Result<()>) -> Result<()> {
    if origin.is_here() { answer } else { Err(Error::new(ErrorKind::Forked, "")) }
}

fn unknown() -> Error {
    Error::new(ErrorKind::State, "it is not served")
}

fn taken(cmd: &str) -> Error {
    Error::new(ErrorKind::Exists, format!("\"{cmd}\" is served already"))
}
