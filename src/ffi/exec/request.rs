//! The request for a command, in one struct: for a reply, for a stream, and in datagrams.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::hook::hook;
use crate::ffi::boundary::options::{self, SizedStruct, time};
use crate::ffi::boundary::parameters::{Bytes, Options, Text, Texts};
use crate::io::wait::Interrupt;
use crate::ops::exec::Request;
use crate::wire::message::exec::{ExecRequest as Wire, OnClose, Tty};
use crate::wire::pairs::keep_last;

/// For exec_request.flags: standard error is merged into standard output, in the order in which
/// the command writes.
pub const EXEC_MERGE: u32 = 1;
/// For exec_request.flags of exec_start(): the command's three standard streams are a terminal
/// of `rows` and `columns`, and its TERM is "xterm" unless env sets another. All of its output is
/// standard output.
pub const EXEC_TTY: u32 = 2;
/// For exec_request.flags of exec_start(): there is no input; the command's standard input ends
/// at once.
pub const EXEC_NO_INPUT: u32 = 4;
/// For exec_request.flags and exec_options.flags: a command runs on if its client disconnects.
pub const EXEC_DETACHED: u32 = 8;

/// A command for the peer: shell code, or a program and its arguments; and how to run it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExecRequest {
    /// sizeof(struct exec_request).
    pub size: u32,
    /// EXEC_MERGE, EXEC_TTY, EXEC_NO_INPUT, EXEC_DETACHED, combined with |.
    pub flags: u32,
    /// Shell code for the server's /bin/sh. Never build it from untrusted input; use argv.
    pub command: *const c_char,
    /// Bytes of command; 0 if it ends with a NUL.
    pub command_len: u64,
    /// A program and its arguments in UTF-8, then NULL. No shell interprets them. A program
    /// without a slash is searched in the server's PATH. command must be NULL then.
    pub argv: *const *const c_char,
    /// The working directory; NULL is the server's own.
    pub cwd: *const c_char,
    /// Variables "NAME=value", then NULL. They are added to the command's clean environment.
    /// NULL is none.
    pub env: *const *const c_char,
    /// The whole standard input of the command, input_len bytes. NULL is no input; for
    /// exec_start() it is the input of exec_write(). Input that the command does not read is
    /// dropped without an error.
    pub input: *const c_void,
    /// Bytes of input.
    pub input_len: u64,
    /// Bytes kept of each of the two outputs; default 16 MiB, for a streamed command no limit.
    pub max_output: u64,
    /// Milliseconds after which the server ends the command; default FRAME_NO_TIMEOUT.
    pub command_timeout_ms: i32,
    /// With EXEC_TTY: lines of the terminal; default 24.
    pub rows: u16,
    /// With EXEC_TTY: columns of the terminal; default 80.
    pub columns: u16,
    /// exec_datagram_call() only: as in frame_options. A connection uses its own.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to interrupted().
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding.
unsafe impl SizedStruct for ExecRequest {}

/// The members that apply in a kind of call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::ffi) enum Form {
    /// One reply.
    Reply,
    /// Streamed output.
    Stream,
    /// One datagram.
    Datagram,
}

/// The request that C passes, for Rust, and what may end its exchange.
pub(in crate::ffi) fn request_of<'a>(
    what: Options<ExecRequest>,
    form: Form,
) -> Result<(Request<'a>, Option<Interrupt>)> {
    let what = what.required("what")?;
    let streamed = EXEC_TTY | EXEC_NO_INPUT;
    let known = EXEC_MERGE | EXEC_DETACHED | if form == Form::Stream { streamed } else { 0 };
    options::flags(what.flags, known, "exec_request.flags")?;
    let has = |flag| what.flags & flag != 0;
    if !has(EXEC_TTY) {
        options::unused(what.rows, "exec_request.rows")?;
        options::unused(what.columns, "exec_request.columns")?;
    }
    let argv =
        Texts::of(what.argv).optional("argv")?.map(|argv| texts(argv, "argv")).transpose()?;
    let command = command_of(&what)?;
    match (&argv, command.is_empty()) {
        (Some(argv), _) if argv.is_empty() => return Err(invalid("argv is empty")),
        (Some(_), false) => return Err(invalid("command and argv are both set")),
        _ => {}
    }
    let input_len = size(what.input_len, "input_len")?;
    if form == Form::Datagram {
        options::unused(input_len, "exec_request.input")?;
    } else if what.interrupted.is_some() {
        return Err(options::not_here("interrupted", "a connection"));
    }
    let interrupt = what.interrupted.map(|asked| Interrupt::by_hook(hook(asked, what.context)));
    let input = Bytes::of(what.input).get(input_len, "input")?;
    if has(EXEC_NO_INPUT) && !input.is_empty() {
        return Err(options::not_here("input", "EXEC_NO_INPUT"));
    }
    let cwd = Text::of(what.cwd).optional("cwd")?.map(str::to_owned);
    let env = Texts::of(what.env).optional("env")?.map(variables).transpose()?;
    let or = |value, default| if value == 0 { default } else { value };
    let tty = Tty { rows: or(what.rows, 24), columns: or(what.columns, 80) };
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let options = Wire {
        argv,
        cwd,
        env,
        timeout_ms: time(what.command_timeout_ms, None, "command_timeout_ms")?.map(milliseconds),
        max_output: (what.max_output != 0).then_some(what.max_output),
        on_close: has(EXEC_DETACHED).then_some(OnClose::Run),
        merge: has(EXEC_MERGE).then_some(true),
        tty: has(EXEC_TTY).then_some(tty),
        stdin_size: has(EXEC_NO_INPUT).then_some(0),
        ..Wire::default()
    };
    Ok((Request { command, input, options }, interrupt))
}

fn command_of<'a>(what: &ExecRequest) -> Result<&'a [u8]> {
    match (what.command.is_null(), what.command_len) {
        (true, 0) => Ok(&[]),
        (true, _) => Err(invalid("command is NULL, and command_len is not 0")),
        (false, 0) => Text::of(what.command).bytes("command"),
        (false, len) => Text::of(what.command).sized(size(len, "command_len")?, "command"),
    }
}

fn size(len: u64, what: &str) -> Result<usize> {
    usize::try_from(len).map_err(|_| invalid(format!("{what} is {len}")))
}

fn texts(strings: Vec<&[u8]>, what: &str) -> Result<Vec<String>> {
    strings.into_iter().map(|string| utf8(string, what)).collect()
}

fn variables(pairs: Vec<&[u8]>) -> Result<Vec<(String, String)>> {
    let pair = |pair| {
        let (name, value) = split(pair)?;
        Ok((utf8(name, "env")?, utf8(value, "env")?))
    };
    let mut variables = pairs.into_iter().map(pair).collect::<Result<_>>()?;
    keep_last(&mut variables);
    Ok(variables)
}

/// The name and the value of "NAME=value".
pub(super) fn split(pair: &[u8]) -> Result<(&[u8], &[u8])> {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) if at > 0 => Ok((&pair[..at], &pair[at + 1..])),
        _ => Err(invalid("env has a string that is not NAME=value")),
    }
}

fn utf8(bytes: &[u8], what: &str) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Error::new(ErrorKind::Argument, format!("{what} is not UTF-8")))
}
