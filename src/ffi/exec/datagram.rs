//! Commands in datagrams: requested from a server, and served.

use std::ffi::c_int;

use super::client::ExecOutput;
use super::options::ExecOptions;
use super::request::{EXEC_DETACHED, ExecRequest, Form, request_of};
use super::server::served_result;
use super::{ExecResult, result_of, result_of_reply};
use crate::error::{Error, Result};
use crate::ffi::boundary::options::{limit, parameter, unused};
use crate::ffi::boundary::outcome::{code, small, value};
use crate::ffi::boundary::parameters::{Bytes, Fd, Handle, Options, Out, Results};
use crate::limits;
use crate::ops::datagram::exec::{self, Answer, Server};
use crate::ops::exec::{Policy, ServeOptions};
use crate::wire::auth::Key;
use crate::wire::message::exec::ExecReply;

/// Datagram server: the request was served before, and the same reply was sent again.
pub const EXEC_REPEATED: i32 = 7;
/// Datagram server: the datagram is ignored, without a reply; error in exec_result says why.
pub const EXEC_IGNORED: i32 = 8;

/// Serves commands that are requested in datagrams. Each request runs at most once, however
/// often it is received.
///
/// That is promised for one server, in one process, as long as it exists:
///
/// - With a key without exception. A request that the server cannot tell from one that ran is
///   ignored: one that was made before the server; one of more than 65,536 in 30 s, the oldest
///   first; and, after this machine's clock was set back by more than 30 s, those made until it
///   has caught up.
/// - Without a key, if the client repeats the request within 30 s, and no more than 65,536 others
///   are received meanwhile.
///
/// The reply to a repeated request is sent again for 30 s, for up to 1,024 requests and 32 MiB;
/// after that a repeated request gets no answer. Two servers do not know of each other's
/// requests: use one for a socket, with as many threads as you like, and a key of its own.
///
/// It belongs to the caller and is freed with exec_datagram_server_free(). In a child of fork(2)
/// it can only be freed.
pub struct ExecDatagramServer(Server);

/// Makes a server.
///
/// key is key_len bytes, 16 to 1,024, shared with the clients; it is copied. A datagram gets no
/// answer if its tag does not match the key, or if it was made more than 30 s ago by this
/// machine's clock, or before this call. NULL and 0 are no key: then all users of this machine
/// are served, and nobody else.
///
/// On success *out is the server, freed with exec_datagram_server_free(); on failure it is NULL.
/// Returns 0, FRAME_EKEY or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn exec_datagram_server_new(
    key: Bytes,
    key_len: usize,
    out: Out<ExecDatagramServer>,
) -> c_int {
    code(|| {
        let place = out.get("out")?;
        place.put(ExecDatagramServer(Server::new(key_of(key, key_len)?.as_ref())?));
        Ok(())
    })
}

/// Receives one datagram, runs the requested command, and sends the reply in as many datagrams
/// of up to 8 KiB as needed.
///
/// A request that is received twice runs once: while it runs the second one is dropped, and
/// later the same reply is sent again, to the same address only. Commands run as for
/// exec_serve(). opts and result may be NULL. In opts, max_output is 1 MiB by default, at most
/// 16 MiB; write_fd, reply_timeout_ms, close_grace_ms and EXEC_DETACHED do not apply. A lost
/// client does not end its command: set command_timeout_ms, since older clients ask for no limit.
/// fd is a UDP or Unix datagram socket, borrowed for the call; threads may serve on one
/// descriptor at the same time. The call lasts as long as the command, and up to a second longer
/// if the client does not read; timeout_ms is for the wait for a datagram. If every thread runs a
/// command nobody gets an answer. Let one more thread serve, and its policy return FRAME_EBUSY
/// while the others run commands.
///
/// Returns EXEC_EXITED to EXEC_REFUSED for a new request: the reply was sent. If a part of it
/// could not be sent, error in result is the code of that failure, and the client will ask
/// again. EXEC_REPEATED. EXEC_IGNORED: error in result is FRAME_EAUTH (no tag, or a wrong one),
/// FRAME_EACCES (not from this machine, its time is not acceptable, or it was sent from another
/// address before), FRAME_EBUSY (1,024 requests are running), FRAME_EBADLENGTH, FRAME_EBADJSON,
/// FRAME_EBADFIELD, FRAME_EMISSING, FRAME_ETOOBIG, FRAME_ELIMIT (no request) or FRAME_ENOMEM.
/// Below 0: FRAME_ETIMEDOUT, no datagram was received; FRAME_ECANCELED, interrupted() ended the
/// wait, or the command, which got no reply; FRAME_EFORKED; FRAME_EBADF, FRAME_EIO with errno,
/// FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn exec_datagram_serve(
    server: Handle<ExecDatagramServer>,
    fd: Fd,
    opts: Options<ExecOptions>,
    timeout_ms: c_int,
    result: Results<ExecResult>,
) -> c_int {
    small(|| {
        result.check("result")?;
        let (server, fd) = (server.get("server")?, fd.borrow()?);
        let mut opts = opts.read("opts")?;
        unused(opts.write_fd, "exec_options.write_fd")?;
        unused(opts.reply_timeout_ms, "exec_options.reply_timeout_ms")?;
        unused(opts.close_grace_ms, "exec_options.close_grace_ms")?;
        unused(opts.flags & EXEC_DETACHED, "EXEC_DETACHED")?;
        // Less output is kept, because a lost reply is sent again as a whole.
        let (default, hard) = (limits::DATAGRAM_OUTPUT, limits::MAX_OUTPUT);
        opts.max_output = limit(opts.max_output, default, hard, "max_output")?;
        let policy = opts.policy();
        let policy = policy.as_ref().map(|policy| policy as Policy<'_>);
        let interrupt = opts.interrupt();
        let options = ServeOptions { policy, interrupt: interrupt.as_ref(), ..opts.convert()? };
        let answer = server.0.serve(fd, parameter(timeout_ms, None)?, &options)?;
        let value = answer_result(&answer);
        result.put(&value, "result")?;
        Ok(value.outcome)
    })
}

/// Frees a server that no thread uses any more; NULL is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn exec_datagram_server_free(server: Handle<ExecDatagramServer>) {
    value((), || server.free());
}

/// Runs a command through a datagram server. The request is sent again until the whole reply was
/// received: after 200 ms, then after twice as long each time, up to 2 s.
///
/// fd is a UDP or Unix datagram socket that is connected to the server, so that only the
/// server's datagrams are received. A Unix socket needs a name to get a reply. fd is borrowed
/// for the call, for one thread at a time. what must fit one datagram of 65,507 bytes: input,
/// EXEC_TTY and EXEC_NO_INPUT do not apply, max_output is 1 MiB by default and at most 16 MiB.
/// The command may run as long as the exchange, or command_timeout_ms if that is less; with
/// EXEC_DETACHED it runs on without its client.
/// key is key_len bytes, 16 to 1,024, as the server has them; NULL and 0 are no key. timeout_ms
/// covers the whole exchange; FRAME_DEFAULT_TIMEOUT is 30 s. result may be NULL. On success *out
/// is the output, freed with exec_output_free(); on failure it is NULL.
///
/// Returns EXEC_EXITED to EXEC_STATUS_LOST. The command ran once; after a code below 0 it may not
/// have run. -100 and below: the server's error reply. FRAME_ETIMEDOUT: the reply was not received
/// completely. FRAME_ECANCELED. FRAME_EIO with errno: ECONNREFUSED, at once, if nobody receives.
/// FRAME_EBADREPLY: the reply contradicts itself, or has no exit_code. FRAME_ETOOBIG: the request
/// does not fit, or the reply is larger than twice max_output. FRAME_EKEY, FRAME_EINVAL,
/// FRAME_EBADF: nothing was sent. The socket can be used again after any of them.
#[unsafe(no_mangle)]
pub extern "C" fn exec_datagram_call(
    fd: Fd,
    what: Options<ExecRequest>,
    key: Bytes,
    key_len: usize,
    timeout_ms: c_int,
    result: Results<ExecResult>,
    out: Out<ExecOutput>,
) -> c_int {
    small(|| {
        let place = out.get("out")?;
        result.check("result")?;
        let (request, interrupt) = request_of(what, Form::Datagram)?;
        let timeout = parameter(timeout_ms, Some(limits::DATAGRAM_TIMEOUT))?;
        let key = key_of(key, key_len)?;
        let (fd, interrupt) = (fd.borrow()?, interrupt.as_ref());
        let reply = exec::request(fd, &request, timeout, key.as_ref(), interrupt)?;
        let ended = result_of_reply(&reply);
        let output = ExecOutput::new(reply)?;
        result.put(&ended, "result")?;
        place.put(output);
        Ok(ended.outcome)
    })
}

/// The result of serving a datagram, for C.
fn answer_result(answer: &Answer) -> ExecResult {
    let none = |outcome, error: Option<&Error>| ExecResult {
        outcome,
        exit_code: -1,
        error: error.map_or(0, |error| error.kind().code()),
        ..result_of(&ExecReply::default(), false)
    };
    match answer {
        Answer::Served { served, unsent: None } => served_result(served),
        Answer::Served { served, unsent: Some(error) } => {
            ExecResult { error: error.kind().code(), ..served_result(served) }
        }
        Answer::Repeated => none(EXEC_REPEATED, None),
        Answer::Ignored(error) => none(EXEC_IGNORED, Some(error)),
    }
}

/// A key, or none for NULL and 0. An empty one is no open door.
fn key_of(key: Bytes, key_len: usize) -> Result<Option<Key>> {
    if key.is_null() && key_len == 0 {
        return Ok(None);
    }
    Key::new(key.get(key_len, "key")?).map(Some)
}
