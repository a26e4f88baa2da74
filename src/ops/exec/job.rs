//! A request's command, within the server's limits.

use std::path::PathBuf;
use std::time::Duration;

use super::command::{Command, Limits, Stdio};
use super::completion::Completion;
use super::engine::run_with;
use super::handler::Handler;
use super::options::{Choice, Inquiry, ServeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::io::process::terminal::WindowSize;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::frame::Client;
use crate::wire::json::header::Header;
use crate::wire::message;
use crate::wire::message::exec::{ExecRequest, Tty};
use crate::wire::pairs::keep_last;
use crate::wire::strings;

/// One command for a client.
pub(super) struct Job<'a> {
    pub(super) request: ExecRequest,
    pub(super) limits: Limits,
    directory: Option<PathBuf>,
    /// What a policy has made of the options.
    choice: Option<Choice>,
    options: &'a ServeOptions<'a>,
}

impl<'a> Job<'a> {
    pub(super) fn new(request: ExecRequest, options: &'a ServeOptions<'a>) -> Job<'a> {
        let limits = narrowed(&options.limits, &request);
        let directory = directory_of(&request, options.directory.as_ref());
        Job { request, limits, directory, choice: None, options }
    }

    /// Reads a request, and the length of the front of its body, which [`unpack`](Self::unpack)
    /// takes. The input follows it.
    pub(super) fn parse(
        header: &Header,
        body_len: u64,
        options: &'a ServeOptions<'a>,
    ) -> Result<(Job<'a>, u64)> {
        let request: ExecRequest = message::read(header)?;
        let bad = |detail| Err(Error::new(ErrorKind::BadField, detail));
        if request.tty.is_some() && request.stream != Some(true) {
            return bad("a tty without stream");
        }
        let Some(front) = body_len.checked_sub(request.stdin_size.unwrap_or(0)) else {
            return bad("stdin_size is more than the body has");
        };
        let env_size = request.env_size.unwrap_or(0);
        let Some(length) = front.checked_sub(env_size) else {
            return bad("env_size is more than the body has");
        };
        if let Some(size) = request.argv_size
            && (size != length || request.argv.is_some())
        {
            return bad("argv_size does not fit the body, or there is an argv as well");
        }
        let max = options.limits.max_command.min(limits::MAX_COMMAND_HARD);
        for (what, length, max) in
            [("a command", length, max), ("variables", env_size, limits::MAX_ENVIRONMENT)]
        {
            if length > max {
                let error = format!("{what} of {length} bytes, the limit is {max}");
                return Err(Error::new(ErrorKind::TooBig, error));
            }
        }
        Ok((Job::new(request, options), front))
    }

    /// Takes the arguments and variables out of the front of the body. The rest is the text of
    /// the command.
    pub(super) fn unpack<'b>(&mut self, front: &'b [u8]) -> Result<&'b [u8]> {
        let request = &mut self.request;
        let env_size = usize::try_from(request.env_size.unwrap_or(0)).unwrap_or(usize::MAX);
        let (text, variables) = front.split_at(front.len().saturating_sub(env_size));
        for mut pair in strings::list(variables)? {
            let Some(end) = pair.find('=') else {
                return Err(Error::new(ErrorKind::BadField, "a variable without a '='"));
            };
            let value = pair.split_off(end + 1);
            pair.truncate(end);
            request.env.get_or_insert_default().push((pair, value));
        }
        // A policy must see what the command gets, and nothing else.
        request.env.iter_mut().for_each(keep_last);
        if request.argv_size.is_none() {
            return Ok(text);
        }
        request.argv = Some(strings::list(text)?);
        Ok(&[])
    }

    /// Asks the policy about the command, which is `text` unless there is an `argv`.
    pub(super) fn admit(
        &mut self,
        text: &[u8],
        header: Option<&Header>,
        client: Client<'_>,
    ) -> Result<()> {
        let Some(policy) = self.options.policy else { return Ok(()) };
        let inquiry = Inquiry { command: text, request: &self.request, header, client };
        let mut choice = self.options.choice();
        policy(&inquiry, &mut choice)?;
        self.limits = narrowed(&choice.limits, &self.request);
        self.directory = directory_of(&self.request, choice.directory.as_ref());
        self.choice = Some(choice);
        Ok(())
    }

    /// Runs it.
    pub(super) fn run(&self, text: &[u8], handler: &mut dyn Handler) -> Result<Completion> {
        run_with(&self.command(text)?, &self.limits, handler)
    }

    /// May end it early, if it runs without a connection.
    pub(super) fn interrupt(&self) -> Option<&'a Interrupt> {
        self.options.interrupt
    }

    /// Whether its output is sent while it runs.
    pub(super) fn is_streamed(&self) -> bool {
        self.request.stream == Some(true)
    }

    fn command<'b>(&'b self, text: &'b [u8]) -> Result<Command<'b>> {
        let chosen = self.choice.as_ref().and_then(|choice| choice.command.as_deref());
        let mut command = match (chosen, &self.request.argv) {
            (Some(code), _) => Command::shell(code),
            (None, None) => Command::shell(text),
            (None, Some(_)) if !text.is_empty() => {
                return Err(Error::new(ErrorKind::BadField, "argv and a command text"));
            }
            (None, Some(argv)) => Command::argv(argv.iter().map(String::as_bytes).collect()),
        };
        let options = self.options;
        let (environment, confinement, groups) = match &self.choice {
            Some(choice) => (&choice.environment, choice.confinement, &choice.groups),
            None => (&options.environment, options.confinement, &options.groups),
        };
        command.environment = environment.clone();
        let additions = self.request.env.iter().flatten();
        command
            .environment
            .additions
            .extend(additions.map(|(name, value)| (name.clone().into(), value.clone().into())));
        command.directory = self.directory.as_deref();
        command.stdio = stdio_of(&self.request);
        command.confinement = confinement;
        command.groups.clone_from(groups);
        Ok(command)
    }
}

/// The server's limits, or the request's if they are lower. Output that is not kept has a limit
/// only if the request sets one.
fn narrowed(server: &Limits, request: &ExecRequest) -> Limits {
    let asked = request.timeout_ms.map(Duration::from_millis);
    let kept = if request.stream == Some(true) { u64::MAX } else { server.max_output };
    Limits {
        time: [server.time, asked].into_iter().flatten().min(),
        max_output: request.max_output.map_or(kept, |max| max.min(kept)),
        ..*server
    }
}

fn stdio_of(request: &ExecRequest) -> Stdio {
    match (request.tty, request.stream, request.stdin_size) {
        (Some(Tty { rows, columns }), ..) => Stdio::Terminal(WindowSize { rows, columns }),
        (None, stream, size) => Stdio::Pipes {
            input: size.map_or(stream == Some(true), |size| size > 0),
            merge: request.merge == Some(true),
        },
    }
}

fn directory_of(request: &ExecRequest, directory: Option<&PathBuf>) -> Option<PathBuf> {
    match (directory, &request.cwd) {
        (Some(directory), Some(cwd)) => Some(directory.join(cwd)),
        (directory, None) => directory.cloned(),
        (None, Some(cwd)) => Some(cwd.into()),
    }
}
