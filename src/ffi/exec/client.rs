//! A command at the peer whose output is in one reply.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::request::{ExecRequest, Form, request_of};
use super::{ExecResult, result_of_reply};
use crate::error::Result;
use crate::ffi::boundary::outcome::{small, value};
use crate::ffi::boundary::parameters::{Handle, Mut, Options, Out, Ref, Results, Value};
use crate::ffi::connection::FrameConnection;
use crate::ops::exec::{self, Reply};
use crate::wire::memory::reserve;

/// For exec_output_bytes() and exec_read(): standard output.
pub const EXEC_STDOUT: i32 = 1;
/// The same: standard error.
pub const EXEC_STDERR: i32 = 2;

/// The output of a command.
///
/// It belongs to the caller and is freed with exec_output_free(). It never changes: any number
/// of threads may use it.
pub struct ExecOutput {
    /// Standard output, a NUL, standard error, a NUL.
    bytes: Vec<u8>,
    stderr_at: usize,
}

impl ExecOutput {
    pub(in crate::ffi) fn new(reply: Reply) -> Result<ExecOutput> {
        let (mut bytes, stderr_at) = reply.into_body();
        reserve(&mut bytes, 2)?;
        bytes.insert(stderr_at, 0);
        bytes.push(0);
        Ok(ExecOutput { bytes, stderr_at: stderr_at + 1 })
    }

    /// One of the outputs, without its NUL.
    fn output(&self, which: c_int) -> Option<&[u8]> {
        match which {
            EXEC_STDOUT => Some(&self.bytes[..self.stderr_at - 1]),
            EXEC_STDERR => Some(&self.bytes[self.stderr_at..self.bytes.len() - 1]),
            _ => None,
        }
    }
}

/// Runs a command at the peer, and waits for the reply.
///
/// timeout_ms covers the whole exchange, and must not be 0: a call cannot be resumed. When
/// command_timeout_ms expires, the server ends the command and still replies. result may be
/// NULL. On success *out is the output, freed with exec_output_free(); on failure it is NULL.
///
/// Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more). Only after EXEC_EXITED are the output
/// and the status complete. -100 and below: an error reply, such as FRAME_EREMOTE_SPAWN_FAILED
/// or FRAME_EREMOTE_DENIED; the connection is in sync. Once a byte of the request was accepted,
/// every other failure breaks the connection: FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_ECLOSED
/// (the peer closed instead of replying, as after a refused key), FRAME_EBADREPLY, FRAME_ETOOBIG
/// (more than twice max_output), and the codes of frame_connection_recv() and
/// frame_connection_send(). FRAME_EINVAL: nothing was sent, and frame_last_error() names the
/// member.
#[unsafe(no_mangle)]
pub extern "C" fn exec_call(
    c: Handle<FrameConnection>,
    what: Options<ExecRequest>,
    timeout_ms: c_int,
    result: Results<ExecResult>,
    out: Out<ExecOutput>,
) -> c_int {
    small(|| {
        let (place, c) = (out.get("out")?, c.get("c")?);
        result.check("result")?;
        let (request, _) = request_of(what, Form::Reply)?;
        let timeout = c.exchange_timeout(timeout_ms)?;
        let reply = c.cell.both(|connection| exec::call(connection, &request, timeout))?;
        let ended = result_of_reply(&reply);
        let output = ExecOutput::new(reply)?;
        result.put(&ended, "result")?;
        place.put(output);
        Ok(ended.outcome)
    })
}

/// The output that the command wrote to `which`, EXEC_STDOUT or EXEC_STDERR, with a NUL after
/// it.
///
/// The bytes are not converted, and are valid until exec_output_free(). *len is their number;
/// len may be NULL. "" with a length of 0 if there are none. NULL for a NULL output and for any
/// other `which`.
#[unsafe(no_mangle)]
pub extern "C" fn exec_output_bytes(
    output: Ref<ExecOutput>,
    which: c_int,
    len: Value<usize>,
) -> *const c_void {
    value(ptr::null(), || {
        let bytes = output.optional().and_then(|output| output.output(which));
        len.put(bytes.map_or(0, <[u8]>::len));
        bytes.map_or(ptr::null(), |bytes| bytes.as_ptr().cast())
    })
}

/// Frees the object; NULL is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn exec_output_free(output: Mut<ExecOutput>) {
    value((), || output.free());
}
