//! A command at the peer whose output comes as it appears. Until it has ended, the connection is
//! for these functions alone.

use std::ffi::c_int;

use super::client::{EXEC_STDERR, EXEC_STDOUT};
use super::request::{ExecRequest, Form, request_of};
use super::{ExecResult, result_of};
use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::outcome::{code, count, small};
use crate::ffi::boundary::parameters::{Bytes, Fd, Handle, Options, Results, Room, Value};
use crate::ffi::connection::{FrameConnection, length};
use crate::io::process::terminal::WindowSize;
use crate::ops::exec::{Running, Stream};
use crate::ops::frame::Connection;

/// Starts a command whose output comes as it appears.
///
/// what is the command. Until exec_finish() or exec_copy() has returned how it ended, every
/// other function that receives or sends on the connection returns FRAME_ESTATE. The first
/// exec_read() reports whether the server accepted the command. To give it up, free the
/// connection and close its descriptors: that ends the command, unless it is EXEC_DETACHED.
///
/// Returns 0: the request was accepted, and what is not written yet will be by the calls that
/// follow. FRAME_ETIMEDOUT: nothing was accepted. FRAME_EINVAL, which names the member, and the
/// codes of frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn exec_start(
    c: Handle<FrameConnection>,
    what: Options<ExecRequest>,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        let c = c.get("c")?;
        let request = request_of(what, Form::Stream)?;
        let timeout = c.timeout(timeout_ms)?;
        c.cell.start(|connection| Running::start(connection, &request, timeout))
    })
}

/// Reads 1 to cap bytes of output into buf, as they come. *which is EXEC_STDOUT or EXEC_STDERR.
///
/// Returns how many; 0: the command has ended and all of its output was read, exec_finish() says
/// how it ended. FRAME_ETIMEDOUT and FRAME_ECANCELED: call again; 0 as timeout_ms does not wait.
/// -100 and below: the server refused the command; the connection is in sync and free. Other
/// failures break the connection: FRAME_ETRUNCATED, FRAME_ECLOSED (nothing came at all),
/// FRAME_EBADREPLY, and the codes of frame_connection_recv(). FRAME_ESTATE: no command was
/// started. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn exec_read(
    c: Handle<FrameConnection>,
    buf: Room,
    cap: usize,
    timeout_ms: c_int,
    which: Value<c_int>,
) -> i64 {
    count(|| {
        let (buf, c) = (buf.get(cap, "buf")?, c.get("c")?);
        if cap == 0 {
            return Err(invalid("cap is 0"));
        }
        let timeout = c.timeout(timeout_ms)?;
        c.running(|running, connection| match running.read(connection, buf, timeout)? {
            None => Ok(0),
            Some((stream, got)) => {
                which.put(if stream == Stream::Stderr { EXEC_STDERR } else { EXEC_STDOUT });
                length(got as u64)
            }
        })
    })
}

/// Gives the command input.
///
/// Returns how much of it was taken; 0: output waits and has to be read first, or the command
/// has ended. FRAME_ETIMEDOUT: nothing was taken. FRAME_ESTATE: the input has ended. Otherwise as
/// exec_read().
#[unsafe(no_mangle)]
pub extern "C" fn exec_write(
    c: Handle<FrameConnection>,
    data: Bytes,
    len: usize,
    timeout_ms: c_int,
) -> i64 {
    count(|| {
        let (data, c) = (data.get(len, "data")?, c.get("c")?);
        let timeout = c.timeout(timeout_ms)?;
        c.running(|running, connection| length(running.write(connection, data, timeout)? as u64))
    })
}

/// Ends the input, and waits until all of it was written, or output has to be read first, or the
/// command has ended. A second call only waits.
///
/// Returns 0. FRAME_ETIMEDOUT: not all was written, and will be by the calls that follow.
/// Otherwise as exec_read().
#[unsafe(no_mangle)]
pub extern "C" fn exec_end_input(c: Handle<FrameConnection>, timeout_ms: c_int) -> c_int {
    code(|| {
        let c = c.get("c")?;
        let timeout = c.timeout(timeout_ms)?;
        c.running(|running, connection| running.end_input(connection, timeout))
    })
}

/// Copies between descriptors and the command until it has ended: input from in_fd (-1: none, it
/// ends), output to out_fd and err_fd. All three are borrowed; none is read or written beyond
/// what the command gets and gave.
///
/// result may be NULL. Returns how the command ended, EXEC_EXITED to EXEC_STATUS_LOST; the
/// connection is free then. FRAME_ETIMEDOUT, FRAME_ECANCELED, and a failure of one of the
/// descriptors (FRAME_EIO or FRAME_ENOSPC, with errno): the command runs on, and the call can be
/// made again without a loss. Otherwise as exec_read().
#[unsafe(no_mangle)]
pub extern "C" fn exec_copy(
    c: Handle<FrameConnection>,
    in_fd: Fd,
    out_fd: Fd,
    err_fd: Fd,
    timeout_ms: c_int,
    result: Results<ExecResult>,
) -> c_int {
    small(|| {
        result.check("result")?;
        let (from, to) = (in_fd.optional()?, [out_fd.borrow()?, err_fd.borrow()?]);
        let c = c.get("c")?;
        let timeout = c.timeout(timeout_ms)?;
        c.ended(&result, |running, connection| running.copy(connection, from, to, timeout))
    })
}

/// Drops the output that is left, ends the input, and waits for the end of the command.
///
/// result may be NULL. Returns how the command ended, EXEC_EXITED to EXEC_STATUS_LOST; the
/// connection is free then. Otherwise as exec_read().
#[unsafe(no_mangle)]
pub extern "C" fn exec_finish(
    c: Handle<FrameConnection>,
    timeout_ms: c_int,
    result: Results<ExecResult>,
) -> c_int {
    small(|| {
        result.check("result")?;
        let c = c.get("c")?;
        let timeout = c.timeout(timeout_ms)?;
        c.ended(&result, |running, connection| running.finish(connection, timeout).map(drop))
    })
}

/// Sends a signal to the command's process group: whoever is in a call for the command does
/// that, or makes the next one. What is sent twice before that arrives once.
///
/// signal is a number of signal(7) of this system: HUP, INT, QUIT, TERM, KILL, USR1, USR2, CONT,
/// TSTP, STOP, WINCH, ALRM or PIPE. Any thread, and any signal handler.
///
/// Returns 0, FRAME_EINVAL (another signal) or FRAME_ESTATE (no command was ever started).
#[unsafe(no_mangle)]
pub extern "C" fn exec_signal(c: Handle<FrameConnection>, signal: c_int) -> c_int {
    code(|| c.get("c")?.cell.handle().signal(signal))
}

/// Gives the command's terminal another size, in the same way. Any thread, and any signal
/// handler. Returns 0 or FRAME_ESTATE.
#[unsafe(no_mangle)]
pub extern "C" fn exec_resize(c: Handle<FrameConnection>, rows: u16, columns: u16) -> c_int {
    code(|| c.get("c")?.cell.handle().resize(WindowSize { rows, columns }))
}

impl FrameConnection {
    /// Runs a call for the command that was started.
    fn running<T>(
        &self,
        work: impl FnOnce(&mut Running, &mut Connection<'static>) -> Result<T>,
    ) -> Result<T> {
        self.cell.any(|connection, slot| work_on(connection, slot, work))
    }

    /// Runs a call that ends with the command, and frees the connection for others.
    fn ended(
        &self,
        result: &Results<ExecResult>,
        work: impl FnOnce(&mut Running, &mut Connection<'static>) -> Result<()>,
    ) -> Result<c_int> {
        let ended = self.cell.any(|connection, slot| {
            let ended = work_on(connection, slot, |running, connection| {
                work(running, connection)?;
                let reply = running.reply();
                let reply =
                    reply.ok_or_else(|| Error::new(ErrorKind::State, "it has not ended"))?;
                Ok(result_of(reply, false))
            })?;
            *slot = None;
            Ok(ended)
        })?;
        result.put(&ended, "result")?;
        Ok(ended.outcome)
    }
}

/// Works on the command in `slot`, and takes it out if there is none any more: it was refused,
/// or the connection is of no use.
fn work_on<T>(
    connection: &mut Connection<'static>,
    slot: &mut Option<Running>,
    work: impl FnOnce(&mut Running, &mut Connection<'static>) -> Result<T>,
) -> Result<T> {
    let Some(running) = slot else {
        connection.shared().check()?;
        return Err(Error::new(ErrorKind::State, "no command was started"));
    };
    let outcome = work(running, connection);
    if outcome.is_err() && running.is_lost(connection) {
        *slot = None;
    }
    outcome
}
