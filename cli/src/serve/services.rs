//! What the server does for its clients: commands and files, within the rules for their keys.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use framefd::auth::KeyId;
use framefd::file::Rights;
use framefd::serve::{Commands, Files};
use framefd::{Error, ErrorKind, exec, file, limits};

use super::account::Account;
use super::audit::quoted;
use super::rules::{Rule, Rules, directory};
use crate::args::Serve;
use crate::failure::{Failure, Result};
use crate::output::shown;

/// The rules, which can be replaced; nothing if every key may do everything that is served.
pub struct Book(Option<RwLock<Arc<Rules>>>);

impl Book {
    pub fn load(arguments: &Serve) -> Result<Book> {
        let rules = arguments.config.as_deref().map(Rules::load).transpose()?;
        if arguments.root.is_none() && rules.as_ref().is_some_and(Rules::have_roots) {
            let line = "--config: root is for files, which are not served: give --root as well";
            return Err(Failure::new(line));
        }
        Ok(Book(rules.map(|rules| RwLock::new(Arc::new(rules)))))
    }

    /// Reads the rules again. Requests that have begun keep what they had.
    pub fn again(&self, path: &Path) -> Result<()> {
        if let Some(rules) = &self.0 {
            let now = Arc::new(Rules::load(path)?);
            *rules.write().unwrap_or_else(PoisonError::into_inner) = now;
        }
        Ok(())
    }

    fn rule(&self, key: Option<&KeyId>) -> Rule {
        let Some(rules) = &self.0 else { return Rule::default() };
        let rules = Arc::clone(&rules.read().unwrap_or_else(PoisonError::into_inner));
        rules.of(key.unwrap_or(&KeyId::default()))
    }
}

/// The commands of clients.
pub fn commands(arguments: &Serve, book: &Arc<Book>) -> Commands {
    let mut options = exec::ServeOptions::default();
    options.limits.time = arguments.timeout;
    options.environment.additions = of_user();
    let book = Arc::clone(book);
    let policy = move |inquiry: &exec::Inquiry<'_>, choice: &mut exec::Choice| {
        let rule = book.rule(inquiry.client.key());
        may_run(&rule, inquiry)?;
        choose(&rule, choice);
        if let Some(command) = rule.command {
            let asked = match &inquiry.request.argv {
                Some(argv) => quoted(argv).into_bytes(),
                None => inquiry.command.to_vec(),
            };
            let variable = (b"FRAMEFD_ORIGINAL_COMMAND".to_vec(), asked);
            choice.environment.additions.push(variable);
            choice.command = Some(command.into_bytes());
        }
        Ok(())
    };
    Commands { options, policy: Some(Box::new(policy)) }
}

/// Whether a key may run a command.
fn may_run(rule: &Rule, inquiry: &exec::Inquiry<'_>) -> Result<(), Error> {
    let denied = |what: &str| Err(denied(inquiry.client.key(), what));
    if rule.rights.is_some_and(|rights| !rights.exec) {
        return denied("may run no commands here");
    }
    if !rule.allows(inquiry.command, inquiry.request.argv.as_deref()) {
        return denied("may not run this command here");
    }
    let env = inquiry.request.env.as_deref().unwrap_or_default();
    if rule.is_strict() && env.iter().any(|(name, _)| name != "TERM") {
        return denied("may set no variables here");
    }
    if rule.is_strict() && inquiry.request.cwd.is_some() {
        return denied("may choose no directory here");
    }
    Ok(())
}

/// How its command is run.
fn choose(rule: &Rule, choice: &mut exec::Choice) {
    let (limits, confinement) = (&mut choice.limits, &mut choice.confinement);
    limits.time = [rule.timeout, limits.time].into_iter().flatten().min();
    limits.max_output = rule.max_output.unwrap_or(limits.max_output);
    confinement.umask = rule.umask;
    confinement.cpu_seconds = rule.cpu;
    confinement.memory = rule.memory;
    confinement.processes = rule.processes;
    confinement.file_size = rule.file_size;
    if let Some(user) = &rule.user {
        // Otherwise it is our own.
        if rustix::process::geteuid().is_root() {
            confinement.user = Some((user.account.uid, user.account.gid));
            choice.groups.clone_from(&user.groups);
        }
        choice.directory = Some(user.account.directory());
        let variables = user.account.variables();
        choice.environment.additions =
            variables.map(|(name, value)| (name.into(), value.to_vec())).collect();
    }
}

/// The files of clients.
pub fn files(arguments: &Serve, root: &Path, book: &Arc<Book>) -> Result<Files> {
    let opened = directory(root)
        .map_err(|why| Failure::new(format!("--root {}: {why}", shown(root.as_os_str()))))?;
    let book = Arc::clone(book);
    let policy = move |inquiry: &file::Inquiry<'_>, choice: &mut file::Choice| {
        let rule = book.rule(inquiry.client.key());
        choice.root = rule.root.map(|root| root.directory);
        let Some(rights) = rule.rights else { return Ok(()) };
        let (may, what) = match inquiry.cmd {
            "get" | "list" | "stat" => (rights.read, "may read no files here"),
            _ => (rights.write, "may write no files here"),
        };
        let (read, write) = (rights.read, rights.write);
        choice.rights = choice.rights.and(Rights { read, create: write, replace: write });
        if may { Ok(()) } else { Err(denied(inquiry.client.key(), what)) }
    };
    let rights = if arguments.writable { Rights::ALL } else { Rights::READ };
    Ok(Files {
        root: opened,
        options: file::ServeOptions { rights, ..file::ServeOptions::default() },
        policy: Some(Box::new(policy)),
    })
}

fn denied(key: Option<&KeyId>, what: &str) -> Error {
    let who = match key.map_or("", KeyId::as_str) {
        "" => "this key".to_owned(),
        key => format!("the key {key}"),
    };
    Error::new(ErrorKind::Denied, format!("{who} {what}"))
}

/// Removes what transfers have left unfinished a day ago, while the server runs.
pub fn sweep(root: &Path) {
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

/// What the system knows of our user, where the environment has none: a unit of systemd has no
/// HOME, and programs look for files there. The host's own shell is not passed on.
fn of_user() -> Vec<(Vec<u8>, Vec<u8>)> {
    let Some(account) = Account::ours() else { return Vec::new() };
    let is_missing = |name: &str| name == "SHELL" || std::env::var_os(name).is_none();
    let missing = account.variables().filter(|(name, _)| is_missing(name));
    missing.map(|(name, value)| (name.into(), value.to_vec())).collect()
}
