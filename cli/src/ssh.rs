//! The arguments of ssh(1), for programs that call it.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt as _};

use framefd::exec::ExecRequest;

use crate::args::{Peer, Ssh};
use crate::failure::{Failure, Result};
use crate::hosts::Hosts;
use crate::output::{show, shown};
use crate::run::{Input, SHELL, Task, on_terminal, stream};

/// What the words mean.
#[derive(Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Call {
    host: OsString,
    /// Blanks between its words, as ssh has it; empty is a shell.
    command: Vec<u8>,
    port: Option<OsString>,
    no_input: bool,
    /// -t once or more; -T is 0.
    terminal: u32,
    /// -G: only show what would be done.
    shows: bool,
    /// -V: only show the version.
    shows_version: bool,
    key: Option<OsString>,
    id: Option<OsString>,
    name: Option<OsString>,
    plain: bool,
    connect_timeout: Option<u64>,
}

/// Options of ssh(1) without a value that have no meaning here.
const FLAGS: &[u8] = b"46AaCgKkMqvXxYy";
/// Options with a value that have none either.
const VALUES: &[u8] = b"BbcEeFIlmPQSi";
/// What cannot be done.
const REFUSED: &[u8] = b"DfJLNORWsw";

/// Runs `framefd ssh`.
pub fn run(arguments: &Ssh) -> Result<u8> {
    let call = read(&arguments.words)?;
    if call.shows_version {
        return show(concat!("framefd ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()).map(|()| 0);
    }
    if call.shows {
        // git asks so whether -p and the like are understood.
        return show(format!("host {}\n", shown(&call.host)).as_bytes()).map(|()| 0);
    }
    let mut peer = Peer {
        key: call.key.map(Into::into),
        id: call.id,
        name: call.name,
        plain: call.plain,
        connect_timeout: std::time::Duration::from_secs(10),
    };
    if let Some(seconds) = call.connect_timeout {
        peer.connect_timeout = std::time::Duration::from_secs(seconds);
    }
    let target = Hosts::load()?.find(&call.host, call.port.as_deref(), &peer)?;
    let is_here = io::stdin().is_terminal();
    let is_shell = call.command.is_empty();
    let wants = call.terminal > 1 || is_here && (call.terminal == 1 || is_shell);
    let options = ExecRequest::default();
    let options = if wants { on_terminal(options) } else { options };
    let command = if is_shell { SHELL.to_vec() } else { call.command };
    let input = if call.no_input { Input::Nothing } else { Input::Stdin };
    stream(&target, peer.connect_timeout, &Task { command, options }, &input)
}

/// Reads the words. Options may follow the host, but not the command.
fn read(words: &[OsString]) -> Result<Call> {
    let mut call = Call::default();
    let mut words = words.iter().map(OsString::as_os_str);
    let mut host: Option<&OsStr> = None;
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        match bytes {
            b"--" => {
                host = host.or_else(|| words.next());
                call.command = joined(words.by_ref());
            }
            [b'-', b'-', rest @ ..] => long(&mut call, rest, &mut words)?,
            [b'-', letters @ ..] if !letters.is_empty() => short(&mut call, letters, &mut words)?,
            _ if host.is_none() => host = Some(word),
            _ => call.command = joined(std::iter::once(word).chain(words.by_ref())),
        }
    }
    match host {
        Some(host) => place(&mut call, host),
        None if call.shows_version => {}
        None => return Err(Failure::new("ssh: no HOST: see framefd ssh --help")),
    }
    Ok(call)
}

fn joined<'a>(words: impl Iterator<Item = &'a OsStr>) -> Vec<u8> {
    let words: Vec<&[u8]> = words.map(OsStrExt::as_bytes).collect();
    words.join(&b' ')
}

/// Takes USER@ and ssh:// off the host.
fn place(call: &mut Call, host: &OsStr) {
    let mut host = host.as_bytes();
    if let Some(rest) = host.strip_prefix(b"ssh://") {
        host = rest.strip_suffix(b"/").unwrap_or(rest);
        if let Some(colon) = host.iter().rposition(|&byte| byte == b':')
            && host[colon + 1..].iter().all(u8::is_ascii_digit)
        {
            call.port = Some(OsString::from_vec(host[colon + 1..].to_vec()));
            host = &host[..colon];
        }
    }
    let user = host.iter().rposition(|&byte| byte == b'@').filter(|_| !host.starts_with(b"unix:"));
    call.host = OsString::from_vec(host[user.map_or(0, |at| at + 1)..].to_vec());
}

fn long<'a>(
    call: &mut Call,
    option: &[u8],
    words: &mut impl Iterator<Item = &'a OsStr>,
) -> Result<()> {
    let equals = option.iter().position(|&byte| byte == b'=');
    let (name, given) = match equals {
        Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]))),
        None => (option, None),
    };
    let place = match name {
        b"plain" => {
            call.plain = true;
            return Ok(());
        }
        b"key" => &mut call.key,
        b"id" => &mut call.id,
        b"name" => &mut call.name,
        _ => {
            let option = shown(OsStr::from_bytes(option));
            return Err(Failure::new(format!(
                "ssh: unknown option --{option}: see framefd ssh --help"
            )));
        }
    };
    let Some(value) = given.or_else(|| words.next()) else {
        return Err(no_value(&format!("-{}", shown(OsStr::from_bytes(option)))));
    };
    *place = Some(value.to_owned());
    Ok(())
}

fn no_value(option: &str) -> Failure {
    Failure::new(format!("ssh: -{option} needs a value: see framefd ssh --help"))
}

fn short<'a>(
    call: &mut Call,
    letters: &[u8],
    words: &mut impl Iterator<Item = &'a OsStr>,
) -> Result<()> {
    for (at, letter) in letters.iter().enumerate() {
        let name = char::from(*letter);
        match letter {
            b'n' => call.no_input = true,
            b't' => call.terminal += 1,
            b'T' => call.terminal = 0,
            b'G' => call.shows = true,
            b'V' => call.shows_version = true,
            letter if FLAGS.contains(letter) => {}
            letter if REFUSED.contains(letter) => {
                let line = "is for another connection, or none: framefd forward does that";
                return Err(Failure::new(format!("ssh: -{name} is not supported: it {line}")));
            }
            letter if VALUES.contains(letter) || b"op".contains(letter) => {
                let rest = &letters[at + 1..];
                let value = match rest {
                    [] => words.next().ok_or_else(|| no_value(&name.to_string()))?.as_bytes(),
                    rest => rest,
                };
                match letter {
                    b'p' => call.port = Some(OsStr::from_bytes(value).to_owned()),
                    b'o' => option(call, value),
                    _ => {}
                }
                return Ok(());
            }
            _ => {
                let line = format!("ssh: unknown option -{name}: see framefd ssh --help");
                return Err(Failure::new(line));
            }
        }
    }
    Ok(())
}

/// NAME=VALUE or NAME VALUE, as in ssh_config(5). Most have no meaning here.
fn option(call: &mut Call, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let Some((name, value)) = text.split_once(['=', ' ']) else { return };
    let value = value.trim_matches([' ', '=', '"']);
    match name.trim().to_ascii_lowercase().as_str() {
        "port" => call.port = Some(value.into()),
        "connecttimeout" => {
            call.connect_timeout = value.parse().ok().filter(|seconds| *seconds > 0);
        }
        "requesttty" if value == "force" => call.terminal = 2,
        "requesttty" if value == "yes" => call.terminal = 1,
        "requesttty" if value == "no" => call.terminal = 0,
        "stdinnull" if value == "yes" => call.no_input = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Call {
        super::read(&words.iter().map(OsString::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_callers_of_ssh_say_is_understood() {
        // Ansible
        let call = read(&[
            "-C",
            "-o",
            "ControlMaster=auto",
            "-o",
            "ControlPersist=60s",
            "-o",
            "KbdInteractiveAuthentication=no",
            "-o",
            "User=\"root\"",
            "-o",
            "ConnectTimeout=7",
            "-o",
            "Port=7000",
            "-tt",
            "web-1",
            "/bin/sh -c 'echo ~ && sleep 0'",
        ]);
        assert_eq!((call.host.to_str(), call.terminal), (Some("web-1"), 2));
        assert_eq!(call.command, b"/bin/sh -c 'echo ~ && sleep 0'");
        assert_eq!((call.port.unwrap().to_str(), call.connect_timeout), (Some("7000"), Some(7)));
        // git
        let call =
            read(&["-o", "SendEnv=GIT_PROTOCOL", "-p", "7000", "git@host", "git-upload-pack '/a'"]);
        assert_eq!(
            (call.host.to_str(), &call.command[..]),
            (Some("host"), &b"git-upload-pack '/a'"[..])
        );
        assert!(read(&["-G", "-4", "host"]).shows);
        // rsync
        let call =
            read(&["-p7000", "-l", "me", "host", "rsync", "--server", "-e.iLsfx", ".", "a b"]);
        assert_eq!(call.command, b"rsync --server -e.iLsfx . a b");
        // people
        let call = read(&["host", "-T", "-n", "--", "ls", "-l"]);
        assert_eq!((&call.command[..], call.no_input), (&b"ls -l"[..], true));
        let call = read(&["ssh://me@[::1]:70/", "true"]);
        assert_eq!((call.host.to_str(), call.port.unwrap().to_str()), (Some("[::1]"), Some("70")));
        let call =
            read(&["--key", "k", "--id=me", "--name", "n", "--plain", "-vvqxA", "unix:/a@b", "x"]);
        assert_eq!(
            (call.host.to_str(), call.key.unwrap().to_str()),
            (Some("unix:/a@b"), Some("k"))
        );
        assert!(call.plain && call.id.unwrap() == "me" && call.name.unwrap() == "n");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (words, why) in [
            (&["-W", "a:1", "host"][..], "-W is not supported"),
            (&["-N", "host"], "-N is not supported"),
            (&["-L", "80:a:80", "host"], "-L is not supported"),
            (&["-R8080:a:80", "host"], "-R is not supported"),
            (&["-TD1080", "host"], "-D is not supported"),
            (&["-%", "host"], "unknown option -%"),
            (&["--bogus", "host"], "unknown option --bogus"),
            (&["host", "-p"], "-p needs a value"),
            (&["--key"], "--key needs a value"),
            (&["-q"], "no HOST"),
        ] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            let failure = super::read(&words).unwrap_err();
            assert!(failure.line.contains(why), "{failure:?}");
        }
    }
}
