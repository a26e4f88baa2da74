//! A command on the other end whose output comes as it appears.

use std::ffi::{c_char, c_int, c_void};

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::{
    buffer, bytes, descriptor, free, invalid, out, write_optional,
};
use crate::ffi::boundary::options::{self, duplex, timeout};
use crate::ffi::boundary::outcome::{code, count, small, value};
use crate::ffi::exec::{ExecOptions, ExecResult, argv_of, exact, outcome_code, read, result_of};
use crate::ffi::frame::FrameHandle;
use crate::io::process::terminal::WindowSize;
use crate::ops::exec::Stream;
use crate::ops::exec::{self, Running};
use crate::ops::frame::{Connection, Handle};
use crate::wire::message::exec::ExecReply;

/// For exec_stream_read(): standard output.
pub const EXEC_STDOUT: i32 = 1;
/// For exec_stream_read(): standard error.
pub const EXEC_STDERR: i32 = 2;

/// A command that runs on the other end: its output as it appears, its input as it is
/// written.
///
/// It belongs to the caller and is freed with exec_stream_free(). One thread at a time may
/// use it, except for exec_stream_signal() and exec_stream_resize(), which any thread and
/// any signal handler may call meanwhile. The descriptor of the connection stays the
/// caller's, may be polled, and is not for anything else until the command has ended.
pub struct ExecStream {
    command: Command,
    /// Beside the command, and not reached through it, as it is used meanwhile.
    handle: Handle,
}

/// Client: has the other end's shell run a command, whose output then comes as it appears.
///
/// command is command_len bytes of shell code. On success *out is the running command,
/// freed with exec_stream_free(); on failure it is NULL. opts may be NULL; timeout_ms is
/// for this call, which only sends the request. With neither opts->input nor
/// EXEC_NO_INPUT the command's input is what exec_stream_write() gives until
/// exec_stream_end_input().
///
/// There is no limit to the output, unless opts->max_output sets one. Whether the server
/// runs the command at all, the first exec_stream_read() tells.
///
/// Returns 0. FRAME_ETIMEDOUT, FRAME_EINVAL, FRAME_EBADF: nothing was sent. Close the
/// connection after FRAME_ESTALLED and FRAME_EIO with errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_start(
    fd: c_int,
    command: *const c_char,
    command_len: usize,
    out: *mut *mut ExecStream,
    opts: *const ExecOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let out = unsafe { self::out(out, "out") }?;
        // SAFETY: as above.
        let command = unsafe { bytes(command.cast(), command_len, "command") }?;
        // SAFETY: as above.
        unsafe { start(fd, command, None, out, opts) }
    })
}

/// Client: as exec_start() for a program and its arguments, without a shell; argv is as for
/// exec_request_argv().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_start_argv(
    fd: c_int,
    argv: *const *const c_char,
    out: *mut *mut ExecStream,
    opts: *const ExecOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let out = unsafe { self::out(out, "out") }?;
        // SAFETY: as above.
        let argv = unsafe { argv_of(argv) }?;
        // SAFETY: as above.
        unsafe { start(fd, b"", Some(argv), out, opts) }
    })
}

/// Takes what the command has written, as it comes: 1 to cap bytes.
///
/// buf is for cap bytes, at least 1. *output is EXEC_STDOUT or EXEC_STDERR; the order
/// between the two is not kept, unless EXEC_MERGE makes them one. timeout_ms is for this
/// call: milliseconds, 0 and FRAME_NO_TIMEOUT wait for ever, FRAME_DONT_WAIT does not wait:
/// the call for a loop of one's own, when the connection can be read.
///
/// Returns the count of bytes, or 0 once the command has ended and all that it wrote has
/// been taken: then exec_stream_result() tells how it ended, and the connection is free for
/// the next request. FRAME_ETIMEDOUT: nothing yet; call again. A code of -100 or below: the
/// other end refused to run it, as for exec_request(); the connection is in step. Close it
/// after all others: FRAME_ETRUNCATED and FRAME_ECLOSED (the other end is gone),
/// FRAME_EBADREPLY (output is missing, or the reply contradicts itself), FRAME_ESTALLED,
/// FRAME_EIO with errno, FRAME_EINVAL (nothing was done).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_read(
    stream: *mut ExecStream,
    output: *mut c_int,
    buf: *mut c_void,
    cap: usize,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let (command, buf) = unsafe { (command_of(stream)?, buffer(buf.cast(), cap, "buf")?) };
        if buf.is_empty() {
            return Err(invalid("cap is 0"));
        }
        let Some((from, length)) =
            command.running.read(&mut command.connection, buf, timeout(timeout_ms, None)?)?
        else {
            return Ok(0);
        };
        let from = if from == Stream::Stdout { EXEC_STDOUT } else { EXEC_STDERR };
        // SAFETY: as above.
        unsafe { write_optional(output, from) };
        Ok(i64::try_from(length).unwrap_or(i64::MAX))
    })
}

/// Gives the command input: some of len bytes, as much as there is room for on the way.
///
/// One thread that writes and reads in turn does not block itself: where output waits to be
/// read first, nothing is taken. timeout_ms is as for exec_stream_read().
///
/// Returns the count of bytes that were taken. 0: read first; or the command has ended, and
/// more input is of no use. FRAME_ETIMEDOUT: nothing was taken; call again. FRAME_ESTATE:
/// the command takes no input, or its end was told. The rest as for exec_stream_read().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_write(
    stream: *mut ExecStream,
    data: *const c_void,
    len: usize,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let (command, data) = unsafe { (command_of(stream)?, bytes(data.cast(), len, "data")?) };
        let taken =
            command.running.write(&mut command.connection, data, timeout(timeout_ms, None)?)?;
        Ok(i64::try_from(taken).unwrap_or(i64::MAX))
    })
}

/// Tells the command that its input ends here.
///
/// Returns 0, also where it has ended before. The rest as for exec_stream_write().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_end_input(
    stream: *mut ExecStream,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        // SAFETY: the pointer is what the header asks for.
        let command = unsafe { command_of(stream) }?;
        command.running.end_input(&mut command.connection, timeout(timeout_ms, None)?)
    })
}

/// Has the other end send a signal to the command's process group: SIGHUP, SIGINT, SIGQUIT,
/// SIGTERM, SIGKILL, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP, SIGSTOP, SIGALRM, SIGPIPE or
/// SIGWINCH.
///
/// May be called from any thread and from a signal handler while another call uses the
/// stream: that call, or the next one, sends it, behind the input that was taken before.
///
/// Returns 0 or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_signal(stream: *const ExecStream, signal: c_int) -> c_int {
    // Fit for a handler: the guard has been set up by the call that made the stream.
    value(ErrorKind::Panic.code(), || {
        // SAFETY: the pointer is what the header asks for.
        match unsafe { handle_of(stream) } {
            Some(handle) if handle.signal(signal).is_ok() => 0,
            _ => ErrorKind::Argument.code(),
        }
    })
}

/// Changes the size of the command's terminal; without EXEC_TTY nothing happens. Callable
/// as exec_stream_signal() is.
///
/// Returns 0 or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_resize(
    stream: *const ExecStream,
    rows: u16,
    columns: u16,
) -> c_int {
    value(ErrorKind::Panic.code(), || {
        // SAFETY: the pointer is what the header asks for.
        match unsafe { handle_of(stream) } {
            Some(handle) => {
                let resized = handle.resize(WindowSize { rows, columns });
                resized.map_or_else(|error| error.kind().code(), |()| 0)
            }
            None => ErrorKind::Argument.code(),
        }
    })
}

/// Copies between descriptors and the command until it has ended: in_fd to its input, its
/// output to out_fd, its standard error to err_fd, in constant memory.
///
/// in_fd may be -1 for no input; its end is the input's end. out_fd and err_fd may be the
/// same. None of them is closed, and no flags are changed; one that blocks slows the
/// command down. timeout_ms is for the whole of it, as for exec_stream_read().
///
/// Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more): the command has ended, and all that
/// it wrote was written. FRAME_ETIMEDOUT: call again to go on. The rest as for
/// exec_stream_read(); FRAME_EIO with errno may also come from one of the three
/// descriptors, as EPIPE does where nobody reads the output any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_copy(
    stream: *mut ExecStream,
    in_fd: c_int,
    out_fd: c_int,
    err_fd: c_int,
    timeout_ms: c_int,
) -> c_int {
    small(|| {
        // SAFETY: the pointer is what the header asks for.
        let command = unsafe { command_of(stream) }?;
        let input = if in_fd == -1 { None } else { Some(descriptor(in_fd)?) };
        let (output, errors) = (descriptor(out_fd)?, descriptor(err_fd)?);
        let (time, outputs) = (timeout(timeout_ms, None)?, [output, errors]);
        command.running.copy(&mut command.connection, input, outputs, time)?;
        reply_of(command).map(|reply| outcome_code(reply.outcome()))
    })
}

/// What the stream waits for, for a loop of one's own: POLLIN, or POLLIN | POLLOUT while
/// something is still to be sent to the other end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_events(stream: *const ExecStream) -> c_int {
    value(0, || {
        // SAFETY: the pointer is what the header asks for.
        let command = unsafe { command_of(stream.cast_mut()) };
        command.map_or(0, |command| {
            c_int::from(command.running.events(&command.connection).bits().cast_signed())
        })
    })
}

/// How the command ended, in *result; stdout_total and stderr_total are what came.
///
/// Returns 0. FRAME_ESTATE: it has not ended. FRAME_EINVAL (NULL, or a size that is not
/// set).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_result(
    stream: *const ExecStream,
    result: *mut ExecResult,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let command = unsafe { command_of(stream.cast_mut()) }?;
        if result.is_null() {
            return Err(invalid("result is NULL"));
        }
        let value = result_of(reply_of(command)?, false);
        // SAFETY: as above.
        unsafe { options::write(result, &value, "struct exec_result") }
    })
}

/// Frees a stream; NULL is nothing. A command that still runs is left to the server, which
/// ends it once the connection is closed, unless EXEC_ON_CLOSE_RUN was asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_stream_free(stream: *mut ExecStream) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(stream) });
}

/// Server: whether a received frame is a client's input, signal or terminal size for a
/// streamed command that had ended by then. It is to be dropped, with its body, and
/// needs no reply.
///
/// Returns 1 or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_is_late_input(request: *const FrameHandle) -> c_int {
    value(0, || {
        // SAFETY: the pointer is what the header asks for.
        let request = unsafe { request.as_ref() };
        let header = request.and_then(|request| request.header.as_ref());
        header.is_some_and(exec::is_late_input).into()
    })
}

/// What one thread at a time uses.
struct Command {
    connection: Connection<'static>,
    running: Running,
}

/// The part of a stream that one thread at a time uses.
unsafe fn command_of<'a>(stream: *mut ExecStream) -> Result<&'a mut Command> {
    if stream.is_null() {
        return Err(invalid("stream is NULL"));
    }
    // SAFETY: not NULL, and the caller's promise. No reference to the whole is made: other
    // threads may hold one to its control.
    Ok(unsafe { &mut (*stream).command })
}

/// The part of a stream that any thread may use.
unsafe fn handle_of<'a>(stream: *const ExecStream) -> Option<&'a Handle> {
    if stream.is_null() {
        return None;
    }
    // SAFETY: as in `command_of`.
    Some(unsafe { &(*stream).handle })
}

fn reply_of(command: &Command) -> Result<&ExecReply> {
    command.running.reply().ok_or_else(|| Error::new(ErrorKind::State, "the command has not ended"))
}

unsafe fn start(
    fd: c_int,
    command: &[u8],
    argv: Option<Vec<String>>,
    out: &mut *mut ExecStream,
    opts: *const ExecOptions,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let options = unsafe { read(opts) }?;
    // SAFETY: as above.
    let (request, _) = unsafe { options.for_client(command, argv) }?;
    let timeout = timeout(options.timeout_ms, None)?;
    let mut connection = exact(duplex(fd, options.write_fd)?)?;
    let running = Running::start(&mut connection, &request, timeout)?;
    let handle = connection.handle();
    let command = Command { connection, running };
    *out = Box::into_raw(Box::new(ExecStream { command, handle }));
    Ok(())
}
