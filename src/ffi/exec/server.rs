//! Commands that are run here, for a peer.

use std::ffi::c_int;

use super::client::ExecOutput;
use super::options::ExecOptions;
use super::request::EXEC_DETACHED;
use super::{EXEC_REFUSED, EXEC_SPAWN_FAILED, ExecResult, result_of, result_of_reply};
use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::options::unused;
use crate::ffi::boundary::outcome::small;
use crate::ffi::boundary::parameters::{Bytes, Fd, Handle, Options, Out, Results, Text};
use crate::ffi::connection::FrameConnection;
use crate::limits;
use crate::ops::exec::{self, Policy, ServeOptions, Served};
use crate::wire::json::header::Header;
use crate::wire::message::exec::ExecReply;

/// Runs shell code and sends one reply on a raw descriptor, with the command's two outputs and
/// its exit status.
///
/// command is command_len bytes for /bin/sh, received in any way. Their sender can do everything
/// that the host's user can. opts and result may be NULL.
///
/// The command's standard input is /dev/null. It leads its own process group, with default
/// signal actions, no blocked signals and no descriptor of the host. Its environment is clean:
/// PATH, SHELL, and the host's HOME, USER, LOGNAME, TMPDIR, TZ, LANG and the LC_* of locale(7).
/// When its time limit expires or the client disconnects, the group gets SIGTERM, then SIGKILL
/// after grace_ms. If the calling thread dies, the command is killed. fd is not read.
///
/// No signal handler is changed. A host may ignore SIGCHLD or reap all its children; on Linux
/// before 6.15 the exit status is then lost (EXEC_STATUS_LOST). Any number of threads may run
/// commands at once, on different descriptors.
///
/// Returns EXEC_EXITED to EXEC_REFUSED (0 or more): a reply was sent, and the stream is usable.
/// FRAME_ECLOSED: the client hung up, and its command was ended. FRAME_ESTALLED, FRAME_EIO with
/// errno, FRAME_EBADF: the reply could not be sent. FRAME_ECANCELED: interrupted() ended the
/// call and the command. Close the stream after these. FRAME_EINVAL: nothing was run.
#[unsafe(no_mangle)]
pub extern "C" fn exec_and_reply(
    fd: Fd,
    command: Text,
    command_len: usize,
    opts: Options<ExecOptions>,
    result: Results<ExecResult>,
) -> c_int {
    small(|| {
        result.check("result")?;
        let command = Bytes::of(command.as_ptr().cast()).get(command_len, "command")?;
        let opts = opts.read("opts")?;
        let duplex = fd.duplex(opts.write_fd)?;
        let interrupt = opts.interrupt();
        let options = ServeOptions { interrupt: interrupt.as_ref(), ..opts.convert()? };
        let served =
            with_policy(&opts, options, |options| exec::run_and_reply(duplex, command, options))?;
        report(&served, &result)
    })
}

/// Serves an exec request whose header was just received with frame_connection_recv_header():
/// reads the body, runs the command and sends the reply.
///
/// request is the text of the header. Its members argv, cwd, env, timeout_ms, max_output,
/// on_close, merge, tty, stdin_size, stream and id apply; a limit applies only if it is lower
/// than that of opts. If the client asked for a stream, output is sent while the command runs,
/// and the reply comes last; input, signals and terminal sizes are received meanwhile. Those
/// that arrive too late are dropped by the connection. A client that does not read slows the
/// command down.
///
/// Otherwise as exec_and_reply(). FRAME_EINVAL and FRAME_ESTATE (the body was received already)
/// change nothing. Every other code below 0 breaks the connection: FRAME_ECLOSED (the client
/// disconnected from its command), FRAME_ETRUNCATED, FRAME_ESTALLED (the client does not read),
/// FRAME_EBADFIELD (a frame that is not for a running command).
#[unsafe(no_mangle)]
pub extern "C" fn exec_serve(
    c: Handle<FrameConnection>,
    request: Text,
    opts: Options<ExecOptions>,
    result: Results<ExecResult>,
) -> c_int {
    small(|| {
        result.check("result")?;
        let (request, c) = (header_of(request)?, c.get("c")?);
        let opts = opts.read("opts")?;
        unused(opts.write_fd, "exec_options.write_fd")?;
        if opts.interrupted.is_some() {
            return Err(crate::ffi::boundary::options::not_here("interrupted", "a connection"));
        }
        let options = opts.convert()?;
        let served = with_policy(&opts, options, |options| {
            c.cell.both(|connection| {
                if connection.to_receive() != request.data_size().unwrap_or(0) {
                    let detail = "a part of the request's body was received before";
                    return Err(Error::new(ErrorKind::State, detail));
                }
                exec::serve(connection, &request, options)
            })
        })?;
        report(&served, &result)
    })
}

/// Runs shell code and returns its output; nothing is sent. It is for servers of other
/// protocols.
///
/// On success *out is the output, freed with exec_output_free(); on failure it is NULL. opts and
/// result may be NULL. write_fd, reply_timeout_ms, close_grace_ms, policy and EXEC_DETACHED do
/// not apply.
///
/// Returns EXEC_EXITED to EXEC_STATUS_LOST. FRAME_ESPAWN with errno: the command could not be
/// started. FRAME_EINVAL: it is empty or has a NUL byte. FRAME_ETOOBIG: it is longer than
/// max_command. FRAME_ECANCELED, FRAME_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn exec_run(
    command: Text,
    command_len: usize,
    opts: Options<ExecOptions>,
    result: Results<ExecResult>,
    out: Out<ExecOutput>,
) -> c_int {
    small(|| {
        let place = out.get("out")?;
        result.check("result")?;
        let command = Bytes::of(command.as_ptr().cast()).get(command_len, "command")?;
        let opts = opts.read("opts")?;
        unused(opts.write_fd, "exec_options.write_fd")?;
        unused(opts.reply_timeout_ms, "exec_options.reply_timeout_ms")?;
        unused(opts.close_grace_ms, "exec_options.close_grace_ms")?;
        unused(opts.policy.map(|_| 1), "exec_options.policy")?;
        unused(opts.flags & EXEC_DETACHED, "EXEC_DETACHED")?;
        let interrupt = opts.interrupt();
        let options = ServeOptions { interrupt: interrupt.as_ref(), ..opts.convert()? };
        let reply = exec::run_locally(command, &options)?;
        let ended = result_of_reply(&reply);
        let output = ExecOutput::new(reply)?;
        result.put(&ended, "result")?;
        place.put(output);
        Ok(ended.outcome)
    })
}

/// The header of a request, from its text.
pub(in crate::ffi) fn header_of(request: Text) -> Result<Header> {
    Header::parse(request.get("request")?.as_bytes().to_vec(), limits::MAX_DEPTH_HARD)
}

fn with_policy(
    opts: &ExecOptions,
    options: ServeOptions<'_>,
    work: impl FnOnce(&ServeOptions<'_>) -> Result<Served>,
) -> Result<Served> {
    let policy = opts.policy();
    let policy = policy.as_ref().map(|policy| policy as Policy<'_>);
    work(&ServeOptions { policy, ..options })
}

fn report(served: &Served, result: &Results<ExecResult>) -> Result<c_int> {
    let value = served_result(served);
    result.put(&value, "result")?;
    Ok(value.outcome)
}

/// The result of serving a request, for C.
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
