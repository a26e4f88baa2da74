//! What each key may do: the file of --config, as authorized_keys has it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use framefd::auth::KeyId;
use toml::{Table, Value};

use super::account::Account;
use crate::failure::{Failure, Result};
use crate::hosts::private_table;
use crate::output::shown;
use crate::run::without_number;

/// The rules of a file, by the ids of keys.
#[derive(Debug, Default)]
pub struct Rules {
    path: PathBuf,
    by_id: BTreeMap<String, Rule>,
}

/// The user of commands.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    pub account: Account,
    pub groups: Vec<u32>,
}

/// A directory that names of files are below.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    pub directory: Arc<OwnedFd>,
}

impl PartialEq for Root {
    fn eq(&self, other: &Root) -> bool {
        self.path == other.path
    }
}

/// What a key may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Everything that the server serves, if nothing is said.
    pub rights: Option<Rights>,
    pub user: Option<User>,
    pub umask: Option<u32>,
    /// These commands and no others.
    pub commands: Option<Vec<Allowed>>,
    /// Run in place of each command.
    pub command: Option<String>,
    /// Names of files are below it.
    pub root: Option<Root>,
    pub timeout: Option<Duration>,
    pub cpu: Option<u64>,
    pub memory: Option<u64>,
    pub processes: Option<u64>,
    pub file_size: Option<u64>,
    pub max_output: Option<u64>,
}

/// What may be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rights {
    pub exec: bool,
    pub read: bool,
    pub write: bool,
}

/// A command that is allowed.
#[derive(Clone, Debug, PartialEq)]
pub enum Allowed {
    /// This shell code.
    Code(String),
    /// This program with these arguments.
    Program(Vec<String>),
}

impl Rules {
    /// Reads a file, and checks all of it.
    pub fn load(path: &Path) -> Result<Rules> {
        let example = "docs/agents.md has an example";
        let Some(table) = private_table(path, example)? else {
            let line = format!("--config {}: there is no such file", shown(path.as_os_str()));
            return Err(Failure::new(line));
        };
        Rules::read(path, &table)
    }

    fn read(path: &Path, table: &Table) -> Result<Rules> {
        let mut rules = Rules { path: path.to_owned(), by_id: BTreeMap::new() };
        for (name, value) in table {
            let rule = rules.rule(name, value).map_err(|why| {
                let (path, name) = (shown(path.as_os_str()), shown(name.as_ref()));
                Failure::new(format!("--config {path}: [{name}]: {why}"))
            })?;
            rules.by_id.insert(name.clone(), rule);
        }
        let others = rules.by_id.get("*").cloned().unwrap_or_default();
        for (name, rule) in &mut rules.by_id {
            if name != "*" {
                *rule = std::mem::take(rule).or(others.clone());
            }
        }
        Ok(rules)
    }

    /// The rule for a key. A key that the file does not name has that of `["*"]`, or no rights.
    pub fn of(&self, id: &KeyId) -> Rule {
        let rule = self.by_id.get(id.as_str()).or_else(|| self.by_id.get("*"));
        let none = || Rule { rights: Some(Rights::default()), ..Rule::default() };
        rule.cloned().unwrap_or_else(none)
    }

    /// Whether one of them is about files.
    pub fn have_roots(&self) -> bool {
        self.by_id.values().any(|rule| rule.root.is_some())
    }

    fn rule(&self, name: &str, value: &Value) -> Result<Rule, String> {
        if name != "*" && KeyId::new(name.as_bytes()).is_err() {
            return Err("it cannot be the id of a key".to_owned());
        }
        let Value::Table(table) = value else {
            return Err("it is not a table: write [ID] above its members".to_owned());
        };
        let mut rule = Rule::default();
        for (member, value) in table {
            self.member(&mut rule, member, value)?;
        }
        if rule.command.is_some() && rule.commands.is_some() {
            return Err("command and commands exclude each other".to_owned());
        }
        Ok(rule)
    }

    fn member(&self, rule: &mut Rule, member: &str, value: &Value) -> Result<(), String> {
        match member {
            "rights" => rule.rights = Some(rights(value)?),
            "user" => rule.user = Some(user(value)?),
            "umask" => rule.umask = Some(umask(value)?),
            "commands" => rule.commands = Some(commands(value)?),
            "command" => rule.command = Some(text(member, value)?),
            "root" => rule.root = Some(self.root(&text(member, value)?)?),
            "timeout" => rule.timeout = Some(Duration::from_secs(number(member, value)?)),
            "cpu" => rule.cpu = Some(number(member, value)?),
            "memory" => rule.memory = Some(size(member, value)?),
            "processes" => rule.processes = Some(number(member, value)?),
            "file_size" => rule.file_size = Some(size(member, value)?),
            "max_output" => rule.max_output = Some(size(member, value)?),
            _ => {
                let member = shown(member.as_ref());
                return Err(format!("no member is called {member}: {KNOWN} are known"));
            }
        }
        Ok(())
    }

    /// A directory, whose path in the file is beside it.
    fn root(&self, path: &str) -> Result<Root, String> {
        let path = self.path.parent().unwrap_or(Path::new("")).join(path);
        let opened = directory(&path);
        let opened = opened.map_err(|why| format!("root {}: {why}", shown(path.as_os_str())))?;
        Ok(Root { path, directory: Arc::new(opened) })
    }
}

/// Opens a directory.
pub fn directory(path: &Path) -> Result<OwnedFd, String> {
    let opened = File::options().read(true).custom_flags(DIRECTORY).open(path);
    opened.map(OwnedFd::from).map_err(|error| without_number(&error))
}

impl Rule {
    /// The rule, and what it does not say.
    fn or(self, others: Rule) -> Rule {
        // A list of commands must not be joined with a command in place of them.
        let says = self.command.is_some() || self.commands.is_some();
        let rest = if says { Rule { command: None, commands: None, ..others } } else { others };
        Rule {
            rights: self.rights.or(rest.rights),
            user: self.user.or(rest.user),
            umask: self.umask.or(rest.umask),
            commands: self.commands.or(rest.commands),
            command: self.command.or(rest.command),
            root: self.root.or(rest.root),
            timeout: self.timeout.or(rest.timeout),
            cpu: self.cpu.or(rest.cpu),
            memory: self.memory.or(rest.memory),
            processes: self.processes.or(rest.processes),
            file_size: self.file_size.or(rest.file_size),
            max_output: self.max_output.or(rest.max_output),
        }
    }

    /// Whether a command is one of those that are allowed.
    pub fn allows(&self, code: &[u8], argv: Option<&[String]>) -> bool {
        let Some(commands) = &self.commands else { return true };
        commands.iter().any(|allowed| match (allowed, argv) {
            (Allowed::Code(allowed), None) => allowed.as_bytes() == code,
            (Allowed::Program(allowed), Some(argv)) => allowed == argv,
            _ => false,
        })
    }

    /// Whether it allows some commands only. Then a client sets neither their variables, which
    /// could make them do anything, nor their directory.
    pub fn is_strict(&self) -> bool {
        self.command.is_some() || self.commands.is_some()
    }
}

fn text(member: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains('\0') => Ok(text.clone()),
        Value::String(_) => Err(format!("{member} is empty, or has a NUL")),
        _ => Err(format!("{member} is not a string: write it in quotes")),
    }
}

fn number(member: &str, value: &Value) -> Result<u64, String> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| format!("{member} is not a number from 1"))
}

/// Bytes, with K, M or G behind them.
fn size(member: &str, value: &Value) -> Result<u64, String> {
    let refused = || format!("{member} is no size: write bytes, or \"512M\", with K, M or G");
    let Value::String(text) = value else { return number(member, value).map_err(|_| refused()) };
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (&text[..], 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(refused)
}

fn umask(value: &Value) -> Result<u32, String> {
    let mask = value.as_str().and_then(|text| u32::from_str_radix(text, 8).ok());
    mask.filter(|mask| *mask <= 0o777)
        .ok_or_else(|| "umask is not one in quotes, like \"027\"".to_owned())
}

fn user(value: &Value) -> Result<User, String> {
    let name = text("user", value)?;
    let account =
        Account::find(&name).ok_or_else(|| format!("user {} is unknown", shown(name.as_ref())))?;
    let us = rustix::process::geteuid();
    if us.is_root() || us.as_raw() == account.uid {
        return Ok(User { groups: account.groups(), account });
    }
    Err(format!("user {}: only root may become somebody else", shown(name.as_ref())))
}

fn rights(value: &Value) -> Result<Rights, String> {
    let refused = "rights is not an array of \"exec\", \"read\" and \"write\"";
    let mut rights = Rights::default();
    for right in value.as_array().ok_or(refused)? {
        match right.as_str() {
            Some("exec") => rights.exec = true,
            Some("read") => rights.read = true,
            Some("write") => rights.write = true,
            _ => return Err(refused.to_owned()),
        }
    }
    Ok(rights)
}

fn commands(value: &Value) -> Result<Vec<Allowed>, String> {
    let refused = "commands is not an array of strings, or of arrays with a program's arguments";
    let allowed = |command: &Value| match command {
        Value::String(code) => Some(Allowed::Code(code.clone())),
        Value::Array(argv) if !argv.is_empty() => {
            let words = argv.iter().map(|word| word.as_str().map(str::to_owned));
            words.collect::<Option<_>>().map(Allowed::Program)
        }
        _ => None,
    };
    let all = value.as_array().and_then(|all| all.iter().map(allowed).collect());
    all.ok_or_else(|| refused.to_owned())
}

const DIRECTORY: i32 = rustix::fs::OFlags::DIRECTORY.bits().cast_signed();
const KNOWN: &str = "rights, user, umask, commands, command, root, timeout, cpu, memory, \
                     processes, file_size and max_output";

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Rules> {
        Rules::read(Path::new("/etc/framefd/rules.toml"), &text.parse().unwrap())
    }

    fn of(text: &str, id: &str) -> Rule {
        rules(text).unwrap().of(&KeyId::new(id.as_bytes()).unwrap())
    }

    #[test]
    fn a_key_that_nothing_is_said_of_has_no_rights() {
        assert_eq!(of("[a]", "b").rights, Some(Rights::default()));
        assert_eq!(of("[a]", "a").rights, None);
        assert_eq!(of("['*']\numask = '022'", "b"), Rule { umask: Some(0o22), ..Rule::default() });
    }

    #[test]
    fn what_a_key_does_not_say_comes_from_the_others() {
        let text = "[a]\nrights = ['read']\ncommand = 'x'\n[b]\nmemory = '2K'\n\
                    ['*']\nrights = ['exec']\ncommands = ['y']\nmemory = 7";
        let (a, b) = (of(text, "a"), of(text, "b"));
        assert_eq!(a.rights, Some(Rights { read: true, ..Rights::default() }));
        assert_eq!((a.command.as_deref(), &a.commands, a.memory), (Some("x"), &None, Some(7)));
        assert_eq!((b.command.as_deref(), b.memory), (None, Some(2048)));
        assert_eq!(b.commands, Some(vec![Allowed::Code("y".into())]));
    }

    #[test]
    fn commands_are_compared_as_they_are() {
        let rule = of("[a]\ncommands = ['ls -l', ['ls', '-l']]", "a");
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(rule.allows(b"ls -l", None) && rule.is_strict());
        assert!(rule.allows(b"", Some(&argv(&["ls", "-l"]))));
        for code in [&b"ls"[..], b"ls -l ", b"ls -l; id"] {
            assert!(!rule.allows(code, None));
        }
        assert!(!rule.allows(b"ls -l", Some(&argv(&["ls -l"]))));
        assert!(!rule.allows(b"", Some(&argv(&["ls", "-l", "/"]))));
        assert!(Rule::default().allows(b"anything", None) && !Rule::default().is_strict());
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (text, why) in [
            ("[a]\nright = []", "no member is called right: rights, user, "),
            ("[a]\nrights = 'exec'", "rights is not an array of"),
            ("[a]\nrights = ['run']", "rights is not an array of"),
            ("[a]\nuser = 'nobody-has-this-name'", "user nobody-has-this-name is unknown"),
            ("[a]\numask = 22", "umask is not one in quotes"),
            ("[a]\numask = '1000'", "umask is not one in quotes"),
            ("[a]\ncommands = [[]]", "commands is not an array"),
            ("[a]\ncommand = ''", "command is empty"),
            ("[a]\ncommand = 'x'\ncommands = []", "exclude each other"),
            ("[a]\ntimeout = 0", "timeout is not a number from 1"),
            ("[a]\nmemory = '1T'", "memory is no size"),
            ("[a]\nmemory = '99999999999G'", "memory is no size"),
            ("a = 1", "it is not a table"),
        ] {
            let failure = rules(text).unwrap_err();
            assert!(failure.line.contains(why), "{failure:?}");
            assert!(failure.line.starts_with("--config /etc/framefd/rules.toml: [a]: "));
        }
    }

    #[test]
    fn a_root_in_the_file_is_beside_it() {
        assert_eq!(of("[a]\nroot = '/'", "a").root.unwrap().path, Path::new("/"));
        let failure = rules("[a]\nroot = 'none'").unwrap_err();
        assert!(failure.line.contains("root /etc/framefd/none: No such file"), "{failure:?}");
    }
}
