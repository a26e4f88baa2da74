//! Commands for somebody else: run one and reply, or ask for one to be run.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::ptr;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::{
    bytes, free, invalid, object, object_mut, out, strings, write_optional,
};
use crate::ffi::boundary::options::{self, SizedStruct, duplex, limit, timeout};
use crate::ffi::boundary::outcome::{code, small, value};
use crate::ffi::boundary::policy::{self, CArray, c_string};
use crate::ffi::frame::FrameHandle;
use crate::io::process::environment::{Base, Environment};
use crate::io::process::spawn::Confinement;
use crate::limits;
use crate::ops::Duplex;
use crate::ops::exec::{self, Inquiry, Policy, Reply, Request, ServeOptions, Served};
use crate::ops::exec::{Limits, OnOutputLimit};
use crate::ops::frame::{Body, BodyReader, Connection, ConnectionOptions};
use crate::wire::json::header::Header;
use crate::wire::message::exec::{ExecReply, ExecRequest, OnClose, Outcome, Tty};

/// The command ended by itself: exit_code says how.
pub const EXEC_EXITED: i32 = 0;
/// A signal ended the command.
pub const EXEC_SIGNALED: i32 = 1;
/// The command was ended because its time was up.
pub const EXEC_TIMED_OUT: i32 = 2;
/// The command wrote more than was kept; what was kept is there.
pub const EXEC_OUTPUT_LIMIT: i32 = 3;
/// The command ended, but how is not known: the server's host reaps or ignores its
/// children, or the server does not report it.
pub const EXEC_STATUS_LOST: i32 = 4;
/// Server: the command could not be started; an error reply was sent.
pub const EXEC_SPAWN_FAILED: i32 = 5;
/// Server: the request was refused, for an empty command, a NUL byte in it, a length above
/// the limit, a bad field, a policy's verdict, or because running it failed for want of
/// memory; an error reply was sent.
pub const EXEC_REFUSED: i32 = 6;

/// For exec_options.flags: a client that goes away does not end its command.
pub const EXEC_ON_CLOSE_RUN: u32 = 1;
/// For exec_options.flags, on a server: commands get all of the host's environment instead
/// of a clean one.
pub const EXEC_HOST_ENVIRONMENT: u32 = 2;
/// For exec_options.flags, on a server: a command is ended at the output limit; without
/// it, it runs on and the rest of its output is dropped.
pub const EXEC_END_AT_LIMIT: u32 = 4;
/// For exec_options.flags, on a client: standard error goes where standard output goes, in
/// the order in which the command writes.
pub const EXEC_MERGE: u32 = 8;
/// For exec_options.flags, on a client of exec_start(): the command gets a terminal of
/// rows and columns as its three standard streams; all it writes is standard output.
pub const EXEC_TTY: u32 = 16;
/// For exec_options.flags, on a client of exec_start(): no input will be written; the
/// command's standard input ends at once.
pub const EXEC_NO_INPUT: u32 = 32;
/// For exec_options.flags, on a server: commands have the umask of exec_options.umask
/// instead of the host's.
pub const EXEC_UMASK: u32 = 64;

/// In exec_result.flags: the command was ended because its time was up.
pub const EXEC_RESULT_TIMED_OUT: u32 = 1;
/// In exec_result.flags: the command wrote more than was kept.
pub const EXEC_RESULT_TRUNCATED: u32 = 2;
/// In exec_result.flags: another process still held the command's output open after its
/// end, which was not waited for.
pub const EXEC_RESULT_PIPE_HELD: u32 = 4;
/// In exec_result.flags, on a server: the client closed its sending side meanwhile. With
/// EXEC_ON_CLOSE_RUN it is not watched, and this never set.
pub const EXEC_RESULT_CLIENT_GONE: u32 = 8;

/// How a command is run, or asked for. Initialise it with EXEC_OPTIONS_INIT; a member that
/// is 0 has its default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExecOptions {
    /// sizeof(struct exec_options), set by EXEC_OPTIONS_INIT.
    pub size: u32,
    /// Milliseconds. Client: for the whole exchange, or to send the request of
    /// exec_start(); default FRAME_NO_TIMEOUT, or with a command_timeout_ms that and
    /// grace_ms and 10 s. Server: how long the reply may wait without a byte for a client
    /// that does not read, which does not count while a streamed command still runs;
    /// default 30 s.
    pub timeout_ms: i32,
    /// The descriptor to write to, where it is not the one that is read from.
    pub write_fd: i32,
    /// EXEC_ON_CLOSE_RUN and the like.
    pub flags: u32,
    /// How long the command may run, in milliseconds; default FRAME_NO_TIMEOUT. A client's
    /// goes into its request; the server's is the most that a request can ask for.
    pub command_timeout_ms: i32,
    /// Server: milliseconds from SIGTERM to SIGKILL; default 2 s.
    pub grace_ms: i32,
    /// Server: milliseconds that output is read on after the command's end while another
    /// process holds it open; default 500 ms.
    pub drain_ms: i32,
    /// Server: milliseconds from the client's end-of-stream, which may be a half-close, to
    /// the end of its command; default 2 s. A hang-up ends it at once.
    pub close_grace_ms: i32,
    /// Bytes kept of each of the two outputs; default 16 MiB. A client's goes into its
    /// request; the server's is the most that a request can ask for. A streamed command
    /// has no such limit unless its client sets one.
    pub max_output: u64,
    /// Server: bytes of a command; default 64 KiB, at most 131,071.
    pub max_command: u64,
    /// The working directory; NULL is the server's own.
    pub cwd: *const c_char,
    /// Variables for the command: an array of "NAME=value" that ends with NULL, added to
    /// the clean environment; NULL is none.
    pub env: *const *const c_char,
    /// Client: input_len bytes for the command's standard input, which then ends. NULL is
    /// no input, or for exec_start() what exec_stream_write() gives. Input that the
    /// command does not read is dropped and no error.
    pub input: *const c_void,
    /// Bytes of input.
    pub input_len: u64,
    /// Server: seconds of processor time for each process of a command (RLIMIT_CPU), as
    /// setrlimit(2) bounds it; 0 is the host's own limit, here and for the next three.
    pub cpu_seconds: u64,
    /// Server: bytes of memory for each process of a command (RLIMIT_AS).
    pub memory: u64,
    /// Server: processes that the command's user may have at once, in all (RLIMIT_NPROC).
    pub processes: u64,
    /// Server: bytes of a file that a command writes (RLIMIT_FSIZE).
    pub file_size: u64,
    /// Server, with EXEC_UMASK: the umask of commands.
    pub umask: u32,
    /// Server that runs as root: the user id that commands get; 0 is the host's. They then
    /// have the group gid and no other, and HOME, USER and LOGNAME only if env sets them.
    pub uid: u32,
    /// Server: the group id that goes with uid; one without the other is FRAME_EINVAL.
    pub gid: u32,
    /// Client, with EXEC_TTY: lines of the terminal; default 24.
    pub rows: u16,
    /// Client, with EXEC_TTY: columns of the terminal; default 80.
    pub columns: u16,
    /// Server: asked before anything is run; may be NULL. 0 allows the request. A
    /// FRAME_E... code refuses it: the client gets the reply code that stands for it, and
    /// what was written to reason, a C string of reason_size bytes at most, as the message.
    /// Any other number is FRAME_EACCES. It is called on the thread of the call.
    pub policy: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            inquiry: *const ExecInquiry,
            reason: *mut c_char,
            reason_size: usize,
        ) -> c_int,
    >,
    /// What policy is given; the library does not look at it.
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers only, `size` first, no padding.
unsafe impl SizedStruct for ExecOptions {}

/// What a client wants to have run, for a policy. Everything in it is valid until the
/// policy returns.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExecInquiry {
    /// sizeof(struct exec_inquiry) of this library: what is beyond it is not there.
    pub size: u32,
    /// EXEC_MERGE, EXEC_TTY, EXEC_ON_CLOSE_RUN, as the request has them.
    pub flags: u32,
    /// The header of the request, JSON text; NULL for exec_and_reply().
    pub header: *const c_char,
    /// The shell code: command_len bytes; none where there is an argv.
    pub command: *const c_char,
    /// Bytes of command.
    pub command_len: usize,
    /// Program and arguments, ending with NULL; NULL for shell code.
    pub argv: *const *const c_char,
    /// The working directory that is asked for; NULL if none is.
    pub cwd: *const c_char,
    /// The variables that are asked for, "NAME=value", ending with NULL; never NULL.
    pub env: *const *const c_char,
}

/// How a command ended. Initialise it with EXEC_RESULT_INIT: size says how much of it may
/// be written.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExecResult {
    /// sizeof(struct exec_result), set by EXEC_RESULT_INIT.
    pub size: u32,
    /// EXEC_EXITED or the like, as returned.
    pub outcome: i32,
    /// 0 to 255; 128 and the signal for a death by signal; -1 where it is not known.
    pub exit_code: i32,
    /// The signal that ended the command, or 0.
    pub signal: i32,
    /// EXEC_RESULT_TIMED_OUT and the like: all that apply.
    pub flags: u32,
    /// Server: the FRAME_E... code of what was reported to the client for
    /// EXEC_SPAWN_FAILED and EXEC_REFUSED; else 0.
    pub error: i32,
    /// Bytes the command wrote to its standard output, kept or not.
    pub stdout_total: u64,
    /// Bytes the command wrote to its standard error, kept or not.
    pub stderr_total: u64,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for ExecResult {}

/// What a command wrote and how it ended.
///
/// It belongs to the caller and is freed with exec_output_free(). It never changes: any
/// number of threads may use it.
pub struct ExecOutput {
    reply: Reply,
    charset: CString,
}

/// Server: runs a command through /bin/sh and sends one reply frame with what it wrote to
/// its two outputs and how it ended.
///
/// command is command_len bytes of shell code, however they came; whoever may send them
/// may do anything that the host's user may. opts and result may be NULL.
///
/// The command's standard input is /dev/null. It leads its own process group, with default
/// signal actions, nothing blocked and no descriptor of the host's; its environment is
/// clean: PATH, SHELL, and HOME, USER, LOGNAME, TMPDIR, TZ, LANG and the LC_* of locale(7) of
/// the host's.
/// Its end and both outputs are waited for together. Out of time, its group gets SIGTERM,
/// and SIGKILL after a grace; so it does when the client goes away. When the calling
/// thread dies the command is killed. fd is not read.
///
/// No signal handler is touched: a host that ignores SIGCHLD or reaps all its children
/// works, and on Linux before 6.15 only loses the exit status (EXEC_STATUS_LOST). Any
/// number of threads may run commands at once, on different descriptors.
///
/// Returns EXEC_EXITED and the like (0 or more): a reply was sent and the stream is in
/// step. FRAME_ECLOSED: the client hung up and its command was ended. FRAME_ESTALLED,
/// FRAME_EIO with errno, FRAME_EBADF: the reply did not get through. FRAME_EINVAL:
/// nothing was run. Close the stream after those.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_and_reply(
    fd: c_int,
    command: *const c_char,
    command_len: usize,
    opts: *const ExecOptions,
    result: *mut ExecResult,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let command = unsafe { bytes(command.cast(), command_len, "command") }?;
        // SAFETY: as above.
        unsafe {
            serve(fd, opts, result, |duplex, options| exec::run_and_reply(duplex, command, options))
        }
    })
}

/// Server: does what a received exec request asks for, and sends one reply frame.
///
/// request is a frame with the cmd "exec", from frame_recv_header() or frame_recv(); its
/// body is received here. Its argv, cwd, env, timeout_ms, max_output, on_close, merge, tty,
/// stdin_size, stream and id are followed, its limits only where they are lower than those
/// of opts.
///
/// Where the client asked for a stream, output is sent as it appears, the reply comes last,
/// and fd is read meanwhile, frame by frame, for input, signals and terminal sizes; what
/// still comes of these after the reply, exec_is_late_input() tells from requests. Memory
/// is constant: a client that does not read slows the command down.
///
/// The rest, and the codes, are as for exec_and_reply(); after FRAME_ETRUNCATED,
/// FRAME_ETIMEDOUT, FRAME_ESTALLED and FRAME_EBADFIELD the request or the client's part of
/// the stream did not come whole, or was not understood.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_serve(
    fd: c_int,
    request: *mut FrameHandle,
    opts: *const ExecOptions,
    result: *mut ExecResult,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let request = unsafe { object_mut(request, "request") }?;
        let (header, body) = request.parts()?;
        // SAFETY: as above.
        unsafe {
            serve(fd, opts, result, |duplex, options| {
                serve_request(&mut exact(duplex)?, header, body, options).map_err(late)
            })
        }
    })
}

/// Runs a command as exec_and_reply() does, for its output alone: nothing is sent. For
/// servers of older wires.
///
/// On success *out is the output, freed with exec_output_free(); on failure it is NULL.
/// opts may be NULL; write_fd and timeout_ms have no meaning here.
///
/// Returns EXEC_EXITED to EXEC_STATUS_LOST. FRAME_ESPAWN with errno: it could not be
/// started. FRAME_EINVAL: empty, or a NUL byte in it. FRAME_ETOOBIG: above
/// max_command. FRAME_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_run(
    command: *const c_char,
    command_len: usize,
    out: *mut *mut ExecOutput,
    opts: *const ExecOptions,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, command, options) = unsafe {
            (self::out(out, "out")?, bytes(command.cast(), command_len, "command")?, read(opts)?)
        };
        // SAFETY: as above.
        let options = unsafe { options.for_server() }?;
        Ok(hand_out(out, exec::run_locally(command, &options)?))
    })
}

/// Client: sends a command for the other end's shell, and waits for the reply.
///
/// command is command_len bytes of shell code: what is put together from other people's
/// strings belongs into exec_request_argv(). On success *out is the output, freed with
/// exec_output_free(); on failure it is NULL. opts may be NULL; command_timeout_ms,
/// max_output, cwd, env, input, EXEC_MERGE and EXEC_ON_CLOSE_RUN are sent along. For
/// output as it appears there is exec_start().
///
/// Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more) with *out set: the exchange is
/// complete and the stream in step; anything but EXEC_EXITED says that the output or the
/// status is not what a command left to itself would give. A code of -100 or below: the
/// other end's error reply, such as FRAME_EREMOTE_SPAWN_FAILED, FRAME_EREMOTE_BAD_REQUEST or
/// FRAME_EREMOTE_DENIED, still in step. FRAME_ETIMEDOUT: nothing was sent. FRAME_ECLOSED:
/// the other end closed instead of replying, as one that refuses a key does. After that
/// and FRAME_ESTALLED, FRAME_ETRUNCATED, FRAME_EBADREPLY (the reply contradicts itself),
/// FRAME_ETOOBIG (more than twice max_output), FRAME_EIO and the codes of frame_recv(),
/// close the stream. FRAME_EINVAL, FRAME_EBADF: nothing was sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_request(
    fd: c_int,
    command: *const c_char,
    command_len: usize,
    out: *mut *mut ExecOutput,
    opts: *const ExecOptions,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let out = unsafe { self::out(out, "out") }?;
        // SAFETY: as above.
        let command = unsafe { bytes(command.cast(), command_len, "command") }?;
        // SAFETY: as above.
        unsafe { request(fd, command, None, out, opts) }
    })
}

/// Client: as exec_request() for a program and its arguments, without a shell.
///
/// argv is an array of C strings in UTF-8 that ends with NULL; a program without a slash
/// is looked for in the server's PATH.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_request_argv(
    fd: c_int,
    argv: *const *const c_char,
    out: *mut *mut ExecOutput,
    opts: *const ExecOptions,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let out = unsafe { self::out(out, "out") }?;
        // SAFETY: as above.
        let argv = unsafe { argv_of(argv) }?;
        // SAFETY: as above.
        unsafe { request(fd, b"", Some(argv), out, opts) }
    })
}

/// What the command wrote to its standard output.
///
/// *len, where len is not NULL, is the count of bytes. They are the command's own, in the
/// encoding that exec_output_charset() names, and valid until exec_output_free(). NULL
/// with a length of 0 where there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_output_stdout(
    output: *const ExecOutput,
    len: *mut usize,
) -> *const c_void {
    // SAFETY: the pointers are what the header asks for.
    value(ptr::null(), || unsafe { part(output, len, Reply::stdout) })
}

/// What the command wrote to its standard error; as exec_output_stdout().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_output_stderr(
    output: *const ExecOutput,
    len: *mut usize,
) -> *const c_void {
    // SAFETY: the pointers are what the header asks for.
    value(ptr::null(), || unsafe { part(output, len, Reply::stderr) })
}

/// The encoding of the server's locale, such as "UTF-8"; "" where it did not say. Valid
/// until exec_output_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_output_charset(output: *const ExecOutput) -> *const c_char {
    value(c"".as_ptr(), || {
        // SAFETY: the pointer is what the header asks for.
        let output = unsafe { output.as_ref() };
        output.map_or(c"".as_ptr(), |output| output.charset.as_ptr())
    })
}

/// How the command ended, in *result.
///
/// Returns 0 or FRAME_EINVAL (NULL, or a size that is not set).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_output_result(
    output: *const ExecOutput,
    result: *mut ExecResult,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let output = unsafe { object(output, "output") }?;
        if result.is_null() {
            return Err(invalid("result is NULL"));
        }
        let reply = &output.reply;
        let header = &reply.header;
        let value = ExecResult {
            stdout_total: header.stdout_total.unwrap_or(reply.stdout().len() as u64),
            stderr_total: header.stderr_total.unwrap_or(reply.stderr().len() as u64),
            ..result_of(header, false)
        };
        // SAFETY: as above.
        unsafe { options::write(result, &value, "struct exec_result") }
    })
}

/// Frees an output; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_output_free(output: *mut ExecOutput) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(output) });
}

/// Serves a command as `work` does, and reports how it went.
///
/// # Safety
/// The pointers are what the header asks for.
pub(in crate::ffi) unsafe fn serve(
    fd: c_int,
    opts: *const ExecOptions,
    result: *mut ExecResult,
    work: impl FnOnce(crate::Duplex<'static>, &ServeOptions<'_>) -> Result<Served>,
) -> Result<c_int> {
    // SAFETY: the caller's promise.
    let options = unsafe {
        options::check_result(result, "struct exec_result")?;
        read(opts)?
    };
    let policy = options.policy();
    // SAFETY: as above.
    let serve_options = unsafe { options.for_server() }?;
    let policy = policy.as_ref().map(|policy| policy as Policy<'_>);
    let serve_options = ServeOptions { policy, ..serve_options };
    let served = work(duplex(fd, options.write_fd)?, &serve_options)?;
    let value = served_result(&served);
    // SAFETY: as above.
    unsafe { options::write(result, &value, "struct exec_result") }?;
    Ok(value.outcome)
}

/// What a server reports of a request.
pub(in crate::ffi) fn served_result(served: &Served) -> ExecResult {
    let failed = |outcome, error: &Error| ExecResult {
        outcome,
        exit_code: -1,
        error: error.kind().code(),
        ..result_of(&ExecReply::default(), false)
    };
    match served {
        Served::Ran(report) => result_of(&report.reply, report.client_gone),
        Served::SpawnFailed(error) => failed(EXEC_SPAWN_FAILED, error),
        Served::Refused(error) => failed(EXEC_REFUSED, error),
    }
}

/// Hands a reply to the caller; returns what kind of one it is.
pub(in crate::ffi) fn hand_out(out: &mut *mut ExecOutput, reply: Reply) -> c_int {
    let outcome = outcome_code(reply.outcome());
    let charset = reply.header.charset.clone().unwrap_or_default().replace('\0', "");
    let charset = CString::new(charset).unwrap_or_default();
    *out = Box::into_raw(Box::new(ExecOutput { reply, charset }));
    outcome
}

/// A program and its arguments, as the caller has them.
///
/// # Safety
/// As for [`strings`].
pub(in crate::ffi) unsafe fn argv_of(argv: *const *const c_char) -> Result<Vec<String>> {
    // SAFETY: the caller's promise.
    let argv = unsafe { strings(argv, "argv") }?;
    if argv.is_empty() {
        return Err(invalid("argv is empty"));
    }
    argv.into_iter().map(|argument| utf8(argument, "argv")).collect()
}

unsafe fn request(
    fd: c_int,
    command: &[u8],
    argv: Option<Vec<String>>,
    out: &mut *mut ExecOutput,
    opts: *const ExecOptions,
) -> Result<c_int> {
    // SAFETY: the caller's promise.
    let options = unsafe { read(opts) }?;
    // SAFETY: as above.
    let (request, timeout) = unsafe { options.for_client(command, argv) }?;
    if options.flags & (EXEC_TTY | EXEC_NO_INPUT) != 0 {
        return Err(invalid("EXEC_TTY and EXEC_NO_INPUT are for exec_start()"));
    }
    let mut connection = exact(duplex(fd, options.write_fd)?)?;
    let reply = exec::call(&mut connection, &request, timeout);
    let reply = reply.map_err(|error| match connection.state().broken {
        Some(_) => late(error),
        None => error,
    });
    Ok(hand_out(out, reply?))
}

/// Serves a request whose body may have been received before.
fn serve_request(
    connection: &mut Connection<'static>,
    header: &Header,
    body: Body<'_, 'static>,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    if let Body::Memory(bytes) = &body {
        connection.take_back(bytes)?;
    }
    connection.expect_body(body.len());
    let served = exec::serve(connection, header, options);
    if let (Body::Stream(reader), Some(fd)) = (body, connection.read_fd()) {
        *reader = BodyReader::new(fd, connection.to_receive());
    }
    served
}

/// A descriptor remembers nothing: the code says that the stream is out of sync.
pub(in crate::ffi) fn late(error: Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::new(ErrorKind::Stalled, error.detail().to_owned()),
        _ => error,
    }
}

/// A connection for one call, that reads nothing beyond its last message.
pub(in crate::ffi) fn exact(duplex: Duplex<'static>) -> Result<Connection<'static>> {
    let options = ConnectionOptions { exact: true, as_is: true, ..ConnectionOptions::default() };
    Connection::new(duplex, options)
}

unsafe fn part(
    output: *const ExecOutput,
    len: *mut usize,
    part: fn(&Reply) -> &[u8],
) -> *const c_void {
    // SAFETY: the caller's promise.
    let bytes = unsafe { output.as_ref() }.map_or(&[][..], |output| part(&output.reply));
    // SAFETY: as above.
    unsafe { write_optional(len, bytes.len()) };
    if bytes.is_empty() { ptr::null() } else { bytes.as_ptr().cast() }
}

pub(in crate::ffi) fn outcome_code(outcome: Outcome) -> c_int {
    match outcome {
        Outcome::Exited => EXEC_EXITED,
        Outcome::Signaled => EXEC_SIGNALED,
        Outcome::TimedOut => EXEC_TIMED_OUT,
        Outcome::OutputLimit => EXEC_OUTPUT_LIMIT,
        Outcome::StatusLost => EXEC_STATUS_LOST,
    }
}

pub(in crate::ffi) fn result_of(reply: &ExecReply, client_gone: bool) -> ExecResult {
    let flags = [
        (reply.timed_out, EXEC_RESULT_TIMED_OUT),
        (reply.truncated, EXEC_RESULT_TRUNCATED),
        (reply.pipe_held, EXEC_RESULT_PIPE_HELD),
        (client_gone, EXEC_RESULT_CLIENT_GONE),
    ];
    ExecResult {
        size: 0,
        outcome: outcome_code(reply.outcome()),
        exit_code: reply.exit_code.unwrap_or(-1),
        signal: reply.signal.unwrap_or(0),
        flags: flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum(),
        error: 0,
        stdout_total: reply.stdout_total.unwrap_or(0),
        stderr_total: reply.stderr_total.unwrap_or(0),
    }
}

impl ExecOptions {
    /// # Safety
    /// The pointers in it are what the header asks for.
    pub(in crate::ffi) unsafe fn for_server(&self) -> Result<ServeOptions<'static>> {
        self.check_flags()?;
        if self.umask & !0o777 != 0 {
            return Err(invalid(format!("umask is {:#o}", self.umask)));
        }
        // A gid that was forgotten would leave the command in root's group.
        if (self.uid == 0) != (self.gid == 0) {
            return Err(invalid("uid and gid have to be set both, or neither"));
        }
        let bound = |value: u64| (value != 0).then_some(value);
        // SAFETY: the caller's promise.
        let (directory, additions) = unsafe { (self.directory(), self.variables()?) };
        let host = self.flags & EXEC_HOST_ENVIRONMENT != 0;
        let end = self.flags & EXEC_END_AT_LIMIT != 0;
        Ok(ServeOptions {
            limits: Limits {
                max_command: limit(
                    self.max_command,
                    limits::MAX_COMMAND,
                    limits::MAX_COMMAND_HARD,
                    "max_command",
                )?,
                time: timeout(self.command_timeout_ms, None)?,
                term_grace: grace(self.grace_ms, limits::TERM_GRACE)?,
                drain_grace: grace(self.drain_ms, limits::DRAIN_GRACE)?,
                max_output: limit(self.max_output, limits::MAX_OUTPUT, u64::MAX, "max_output")?,
                on_output_limit: if end { OnOutputLimit::End } else { OnOutputLimit::Drain },
            },
            on_close: if self.runs_on() { OnClose::Run } else { OnClose::Kill },
            close_grace: grace(self.close_grace_ms, limits::CLOSE_GRACE)?,
            reply_timeout: timeout(self.timeout_ms, Some(limits::REPLY_TIMEOUT))?
                .unwrap_or(Duration::MAX),
            environment: Environment {
                base: if host { Base::Host } else { Base::Clean },
                additions,
            },
            directory,
            confinement: Confinement {
                umask: (self.flags & EXEC_UMASK != 0).then_some(self.umask),
                cpu_seconds: bound(self.cpu_seconds),
                memory: bound(self.memory),
                processes: bound(self.processes),
                file_size: bound(self.file_size),
                user: (self.uid != 0).then_some((self.uid, self.gid)),
            },
            policy: None,
            interrupt: None,
        })
    }

    /// The caller's policy, for the options of a server.
    pub(in crate::ffi) fn policy(
        &self,
    ) -> Option<impl Fn(&Inquiry<'_>) -> Result<()> + Sync + use<>> {
        let callback = Callback { policy: self.policy?, context: self.context };
        Some(move |inquiry: &Inquiry<'_>| callback.ask(inquiry))
    }

    /// # Safety
    /// The pointers in it are what the header asks for.
    pub(in crate::ffi) unsafe fn for_client<'a>(
        &self,
        command: &'a [u8],
        argv: Option<Vec<String>>,
    ) -> Result<(Request<'a>, Option<Duration>)> {
        self.check_flags()?;
        // SAFETY: the caller's promise.
        let (directory, variables) = unsafe { (self.directory(), self.variables()?) };
        let command_time = timeout(self.command_timeout_ms, None)?;
        let grace = grace(self.grace_ms, limits::TERM_GRACE)?;
        let whole = command_time.map(|time| time + grace + limits::REPLY_MARGIN);
        let cwd = directory.map(|path| utf8(path.as_os_str().as_bytes(), "cwd")).transpose()?;
        let pairs =
            variables.iter().map(|(name, value)| Ok((utf8(name, "env")?, utf8(value, "env")?)));
        let env = pairs.collect::<Result<BTreeMap<_, _>>>()?;
        let input_len = usize::try_from(self.input_len)
            .map_err(|_| invalid(format!("input_len is {}", self.input_len)))?;
        // SAFETY: as above.
        let input = unsafe { bytes(self.input.cast(), input_len, "input") }?;
        let has = |flag| self.flags & flag != 0;
        let or = |value, default| if value == 0 { default } else { value };
        let tty = Tty { rows: or(self.rows, 24), columns: or(self.columns, 80) };
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let request = Request {
            command,
            options: ExecRequest {
                argv,
                cwd,
                env: if env.is_empty() { None } else { Some(env) },
                timeout_ms: command_time.map(milliseconds),
                max_output: (self.max_output != 0).then_some(self.max_output),
                on_close: self.runs_on().then_some(OnClose::Run),
                merge: has(EXEC_MERGE).then_some(true),
                tty: has(EXEC_TTY).then_some(tty),
                stdin_size: has(EXEC_NO_INPUT).then_some(0),
                ..ExecRequest::default()
            },
            input,
        };
        Ok((request, timeout(self.timeout_ms, whole)?))
    }

    fn runs_on(&self) -> bool {
        self.flags & EXEC_ON_CLOSE_RUN != 0
    }

    fn check_flags(&self) -> Result<()> {
        let known = EXEC_ON_CLOSE_RUN
            | EXEC_HOST_ENVIRONMENT
            | EXEC_END_AT_LIMIT
            | EXEC_MERGE
            | EXEC_TTY
            | EXEC_NO_INPUT
            | EXEC_UMASK;
        if self.flags & !known != 0 {
            return Err(invalid(format!("flags are {:#x}", self.flags)));
        }
        Ok(())
    }

    unsafe fn directory(&self) -> Option<PathBuf> {
        if self.cwd.is_null() {
            return None;
        }
        // SAFETY: not NULL, and the caller's promise.
        let path = unsafe { CStr::from_ptr(self.cwd) }.to_bytes();
        Some(std::ffi::OsStr::from_bytes(path).into())
    }

    unsafe fn variables(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.env.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: not NULL, and the caller's promise.
        let pairs = unsafe { strings(self.env, "env") }?;
        pairs
            .into_iter()
            .map(|pair| match pair.iter().position(|byte| *byte == b'=') {
                Some(at) if at > 0 => Ok((pair[..at].to_vec(), pair[at + 1..].to_vec())),
                _ => Err(invalid("env has a string that is not NAME=value")),
            })
            .collect()
    }
}

/// The caller's policy, and what it is given.
struct Callback {
    policy: unsafe extern "C" fn(
        context: *mut c_void,
        inquiry: *const ExecInquiry,
        reason: *mut c_char,
        reason_size: usize,
    ) -> c_int,
    context: *mut c_void,
}

// SAFETY: the options that it is in never leave the thread of the call they are made for.
unsafe impl Sync for Callback {}

impl Callback {
    /// Shows a request to the policy.
    fn ask(&self, inquiry: &Inquiry<'_>) -> Result<()> {
        let request = inquiry.request;
        let header = inquiry.header.map(|header| c_string(header.text(), "header")).transpose()?;
        let cwd = request.cwd.as_deref().map(|cwd| c_string(cwd, "cwd")).transpose()?;
        let argv = request.argv.iter().flatten().cloned();
        let argv = request.argv.is_some().then(|| CArray::new(argv, "argv")).transpose()?;
        let env = request.env.iter().flatten().map(|(name, value)| format!("{name}={value}"));
        let env = CArray::new(env, "env")?;
        let flags = [
            (request.merge == Some(true), EXEC_MERGE),
            (request.tty.is_some(), EXEC_TTY),
            (request.on_close == Some(OnClose::Run), EXEC_ON_CLOSE_RUN),
        ];
        let pointer =
            |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        let shown = ExecInquiry {
            size: u32::try_from(size_of::<ExecInquiry>()).unwrap_or(u32::MAX),
            flags: flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum(),
            header: pointer(&header),
            command: inquiry.command.as_ptr().cast(),
            command_len: inquiry.command.len(),
            argv: argv.as_ref().map_or(ptr::null(), CArray::as_ptr),
            cwd: pointer(&cwd),
            env: env.as_ptr(),
        };
        policy::ask(|reason, size| {
            // SAFETY: the header's contract for the callback and its context; all that is
            // shown lives until it returns.
            unsafe { (self.policy)(self.context, &raw const shown, reason, size) }
        })
    }
}

/// Reads the caller's options; NULL is all defaults.
pub(in crate::ffi) unsafe fn read(opts: *const ExecOptions) -> Result<ExecOptions> {
    // SAFETY: the caller's promise.
    unsafe { options::read(opts, "struct exec_options") }
}

/// A time that always ends: a negative one is none at all.
fn grace(milliseconds: i32, default: Duration) -> Result<Duration> {
    timeout(milliseconds, Some(default))?
        .ok_or_else(|| invalid("a grace cannot be FRAME_NO_TIMEOUT"))
}

fn utf8(bytes: &[u8], what: &str) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Error::new(ErrorKind::Argument, format!("{what} is not UTF-8")))
}
