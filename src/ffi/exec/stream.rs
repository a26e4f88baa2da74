//! A command at the peer whose output is received while it runs. Until it has ended, only these
//! functions may use the connection.

use std::ffi::c_int;

use super::client::{EXEC_STDERR, EXEC_STDOUT};
use super::request::{ExecRequest, Form, request_of};
use super::{ExecResult, result_of};
use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::cell::Slot;
use crate::ffi::boundary::outcome::{code, code_in_handler, count, small};
use crate::ffi::boundary::parameters::{Bytes, Fd, Handle, Options, Results, Room, Value};
use crate::ffi::connection::{FrameConnection, length};
use crate::io::process::terminal::WindowSize;
use crate::ops::exec::{Running, Stream};
use crate::ops::frame::Connection;

/// Starts a command whose output is received while it runs.
///
/// Until exec_finish() or exec_copy() has returned the outcome, every other function that
/// receives or sends on the connection returns FRAME_ESTATE. The first exec_read() reports
/// whether the server accepted the command. To give up, free the connection and close its
/// descriptors: that ends the command, unless it is EXEC_DETACHED.
///
/// Returns 0: the request was accepted; the calls that follow write the rest of it.
/// FRAME_ETIMEDOUT: nothing was accepted. FRAME_EINVAL, whose detail names the member, and the
/// codes of frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn exec_start(
    c: Handle<FrameConnection>,
    what: Options<ExecRequest>,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        let c = c.get("c")?;
        let (request, _) = request_of(what, Form::Stream)?;
        let timeout = c.timeout(timeout_ms)?;
        c.cell.start(|connection| Running::start(connection, &request, timeout))
    })
}

/// Reads 1 to cap bytes of output into buf, as they are received. *which is then EXEC_STDOUT or
/// EXEC_STDERR.
///
/// Returns their number. 0: the command has ended and all of its output was read; exec_finish()
/// returns its outcome. FRAME_ETIMEDOUT and FRAME_ECANCELED: call again; a timeout_ms of 0 does
/// not wait. -100 and below: the server refused the command; the connection is in sync and free
/// again, but it is broken if output was received before. Every other failure breaks the
/// connection: FRAME_ETRUNCATED, FRAME_ECLOSED (nothing was received at all), FRAME_EBADREPLY, and
/// the codes of frame_connection_recv(). FRAME_ESTATE: no command was started. FRAME_EINVAL.
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

/// Sends input to the command.
///
/// Returns the number of accepted bytes. 0: output must be read first, or the command has ended.
/// FRAME_ETIMEDOUT: nothing was accepted. FRAME_ESTATE: the input has ended. Otherwise as
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

/// Ends the input. Then it waits until all input was written, output must be read first, or the
/// command has ended. A second call only waits.
///
/// Returns 0. FRAME_ETIMEDOUT: a part is not written yet; the calls that follow write it.
/// Otherwise as exec_read().
#[unsafe(no_mangle)]
pub extern "C" fn exec_end_input(c: Handle<FrameConnection>, timeout_ms: c_int) -> c_int {
    code(|| {
        let c = c.get("c")?;
        let timeout = c.timeout(timeout_ms)?;
        c.running(|running, connection| running.end_input(connection, timeout))
    })
}

/// Copies between descriptors and the command until it has ended: input from in_fd (-1 is no
/// input), output to out_fd and err_fd. All three are borrowed. Only bytes that are sent to the
/// command are read from in_fd.
///
/// result may be NULL. Returns the outcome, EXEC_EXITED to EXEC_STATUS_LOST; the connection is
/// then free again. FRAME_ETIMEDOUT, FRAME_ECANCELED, and a failure of one of the descriptors
/// (FRAME_EIO or FRAME_ENOSPC, with errno): the command runs on and nothing is lost; the call
/// can be made again. Otherwise as exec_read().
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

/// Drops the unread output, ends the input, and waits for the end of the command.
///
/// result may be NULL. Returns the outcome, EXEC_EXITED to EXEC_STATUS_LOST; the connection is
/// then free again. Otherwise as exec_read().
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

/// Sends a signal to the command's process group. The running call for the command transmits it,
/// or the next one does. A signal that is sent twice before that arrives once.
///
/// signal is a number of signal(7) of this system: HUP, INT, QUIT, TERM, KILL, USR1, USR2, CONT,
/// TSTP, STOP, WINCH, ALRM or PIPE. Any thread, and any signal handler.
///
/// Returns 0, FRAME_EINVAL (another signal), FRAME_ESTATE (no command was ever started) or
/// FRAME_EFORKED, and leaves frame_last_error() as it is.
#[unsafe(no_mangle)]
pub extern "C" fn exec_signal(c: Handle<FrameConnection>, signal: c_int) -> c_int {
    code_in_handler(|| c.get_in_handler()?.cell.handle().signal(signal))
}

/// Changes the size of the command's terminal, in the same way. Any thread, and any signal
/// handler. Returns 0, FRAME_ESTATE or FRAME_EFORKED, and leaves frame_last_error() as it is.
#[unsafe(no_mangle)]
pub extern "C" fn exec_resize(c: Handle<FrameConnection>, rows: u16, columns: u16) -> c_int {
    code_in_handler(|| c.get_in_handler()?.cell.handle().resize(WindowSize { rows, columns }))
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
    slot: &mut Slot,
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
