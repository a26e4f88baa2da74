//! framefd: runs commands and copies files on other machines, over sealed connections.
//!
//! [`args`] has what it understands. Each verb is a function that returns the exit status, or a
//! [`Failure`] with the one line that is said of it.

mod args;
mod dial;
mod dial_out;
mod failure;
mod files;
mod fleet;
mod forward;
mod handover;
mod hosts;
mod hub;
mod inherited;
mod init;
mod key;
mod lend;
mod log;
mod output;
mod run;
mod sealed;
mod serve;
mod signals;
mod ssh;
mod sync;
mod terminal;
mod tunnel;
mod typed;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use args::{Arguments, Verb};
use clap::Parser as _;
use clap::error::ErrorKind;
use failure::{FAILED, Failure, Result};

fn main() -> ExitCode {
    match parse().and_then(|arguments| arguments.map_or(Ok(0), |arguments| perform(&arguments))) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            output::say(&failure.line);
            ExitCode::from(failure.status)
        }
    }
}

fn perform(arguments: &Arguments) -> Result<u8> {
    if matches!(arguments.verb, Verb::Serve(_) | Verb::Hub(_) | Verb::Forward(_))
        && let Some(status) = init::serve_as_first()?
    {
        return Ok(status);
    }
    match &arguments.verb {
        Verb::Serve(arguments) => serve::run(arguments),
        Verb::Run(arguments) => run::run(arguments),
        Verb::Shell(arguments) => run::shell(arguments),
        Verb::Put(arguments) => files::put(arguments),
        Verb::Get(arguments) => files::get(arguments),
        Verb::Ls(arguments) => files::ls(arguments),
        Verb::Stat(arguments) => files::stat(arguments),
        Verb::Mkdir(arguments) => files::mkdir(arguments),
        Verb::Sync(arguments) => sync::run(arguments),
        Verb::Pipe(arguments) => forward::pipe(arguments),
        Verb::Forward(arguments) => forward::forward(arguments),
        Verb::Ssh(arguments) => ssh::run(arguments),
        Verb::Hub(arguments) => hub::run(arguments),
        Verb::Key(arguments) => key::run(arguments),
    }
}

/// The arguments; nothing if help or the version was all that was asked for.
fn parse() -> Result<Option<Arguments>> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    // Some programs take the name of an ssh, and no arguments for it.
    if words.first().is_some_and(|name| name.as_bytes().ends_with(b"framefd-ssh")) {
        words.insert(1, "ssh".into());
    }
    // The words of ssh are its own, but somebody may ask for help.
    let verb = words.get(1).and_then(|verb| verb.to_str()).unwrap_or_default().to_owned();
    if verb == "ssh" && words.get(2).is_some_and(|word| word == "--help") {
        let mut all = <Arguments as clap::CommandFactory>::command();
        all.build();
        let text = all.find_subcommand_mut("ssh").map(|ssh| ssh.render_long_help().to_string());
        return output::show(text.unwrap_or_default().as_bytes()).map(|()| None);
    }
    match Arguments::try_parse_from(words) {
        Ok(arguments) => Ok(Some(arguments)),
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            output::show(error.to_string().as_bytes()).map(|()| None)
        }
        Err(error) => Err(mistake(&error, &verb)),
    }
}

/// What is wrong with the arguments, on one line.
fn mistake(error: &clap::Error, verb: &str) -> Failure {
    let text = error.to_string();
    // Its first paragraph; the tips and the usage follow.
    let what = text.split("\n\n").next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let what = what.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let is_verb = <Arguments as clap::CommandFactory>::command().find_subcommand(verb).is_some();
    let advice = match (error.kind(), verb) {
        (ErrorKind::UnknownArgument, "run") => {
            "quote shell code, or put -- before a program and its arguments; see framefd run --help"
                .to_owned()
        }
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand, _) => {
            let place = if is_verb { format!("framefd {verb}") } else { "framefd".to_owned() };
            return Failure::new(format!("no verb: see {place} --help"));
        }
        _ if is_verb => format!("see framefd {verb} --help"),
        _ => "see framefd --help".to_owned(),
    };
    Failure { status: FAILED, line: format!("{}; {advice}", output::one_line(what.as_bytes())) }
}
