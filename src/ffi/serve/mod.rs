//! Servers: they accept connections, check keys, serve requests, and stop without losing one.

mod options;
mod served;

pub use options::*;
pub use served::*;

use std::ffi::{c_int, c_void};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::hook::{self, ServeFunction};
use crate::ffi::boundary::options::{self as checks, SizedStruct, parameter};
use crate::ffi::boundary::outcome::{code, code_in_handler, small, value};
use crate::ffi::boundary::parameters::{Context, Fd, Handle, Options, Out, Results, Text};
use crate::ffi::connection::FrameConnection;
use crate::ffi::exec::ExecOptions;
use crate::ffi::file::{FrameFileOptions, copied, rights};
use crate::ffi::frame::FrameView;
use crate::limits;
use crate::ops::file;
use crate::ops::frame::Connection;
use crate::ops::serve::{
    BodyMode, Commands, ExecPolicy, FilePolicy, Files, Handled, Left, Listening, Request, Serve,
    Server, lend,
};

/// A server of connections: of its own requests, of commands and of files. Everything is off until
/// it is added.
///
/// It belongs to the caller, and is freed with frame_server_free(). Any thread may use it, but one
/// at a time calls frame_server_run() or frame_server_step(); another gets FRAME_EBUSY. It is the
/// only object of the library with threads of its own, see the member workers.
///
/// After fork(2) its functions return FRAME_EFORKED in the child, and frame_server_stop() must not
/// be called there.
pub struct FrameServer {
    server: Server,
    stall: Duration,
}

/// Makes a server that serves nothing and listens nowhere. opts may be NULL; its strings are
/// copied.
///
/// On success *out is the server; on failure it is NULL. Returns 0, FRAME_EINVAL, FRAME_EKEY (the
/// ring is empty), FRAME_ENOTSUP (this library was built without sealing), or FRAME_EIO with errno
/// (EMFILE: it needs four or five descriptors).
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_new(
    opts: Options<FrameServerOptions>,
    out: Out<FrameServer>,
) -> c_int {
    code(|| {
        let (place, opts) = (out.get("out")?, opts.read("opts")?);
        let options = opts.convert()?;
        let stall = options.limits.stall;
        place.put(FrameServer { server: Server::new(options)?, stall });
        Ok(())
    })
}

/// Frees a server; NULL is ignored. Its connections are closed at once, see frame_server_stop()
/// for another end. It waits for handlers that run. Call it on no thread of the server, and after
/// the last call that uses it has returned.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_free(s: Handle<FrameServer>) {
    value((), || s.free());
}

/// Accepts connections of a listening socket, TCP or Unix: of frame_listen(), of systemd. Any
/// number of them, also while the server runs.
///
/// fd is borrowed, and must stay open until frame_server_run() has returned. It may block or not.
///
/// Returns 0. FRAME_EINVAL: it does not listen; or other hosts can reach it, and the server has no
/// ring and no FRAME_SERVER_OPEN. FRAME_ESTATE: it has stopped. FRAME_EBADF; FRAME_EIO with
/// errno.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_listen(s: Handle<FrameServer>, fd: Fd) -> c_int {
    code(|| s.get("s")?.server.listen(Listening::Borrowed(fd.borrow()?)))
}

/// Serves a connection that exists: of inetd, one end of a socketpair, one that dialled out. With
/// a ring its client must prove a key like any other; without one it can use everything.
///
/// fd is a stream socket. On success it is the server's, which closes it; on failure it stays the
/// caller's. Returns 0, FRAME_ESTATE: it has stopped; FRAME_EBADF, FRAME_EINVAL, FRAME_EIO with
/// errno.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_add(s: Handle<FrameServer>, fd: Fd) -> c_int {
    code(|| {
        let borrowed = fd.borrow()?;
        s.get("s")?.server.add_by(borrowed, || fd.take())
    })
}

/// For the flags of frame_server_handle(): the handler is called once the header has come, and
/// reads the body with frame_connection_read(). What it leaves is dropped, up to 16 MiB.
pub const FRAME_HANDLER_STREAM: u32 = 1;
/// The same: the handler may reply later, on any thread. If it returns 0, c is the host's until
/// frame_server_done(). The server serves other clients meanwhile; further requests of this one
/// wait. c can be used like any other connection: a host with a loop of its own polls for what
/// frame_connection_inspect() says. request is valid until the handler returns.
///
/// If the handler returns a code, c is not its own, and frame_server_done() was not called. When a
/// stop ends what still runs, calls on c return FRAME_EABORTED.
pub const FRAME_HANDLER_LATER: u32 = 2;

/// Passes requests with this cmd to handler, on a thread of the server, several at once.
///
/// request has the header and the body, valid until handler returns. It replies with
/// frame_connection_reply(), which queues and does not wait as long as max_queue has room, or with
/// any other function on c; no wait for the client lasts longer than stall_ms. c is the server's:
/// it is not to be kept, freed or ended. frame_connection_proof() tells who the client is.
///
/// If handler returns 0 and has sent nothing, the reply is `ok`. If it returns a FRAME_E... code,
/// the reply is the error for it (FRAME_EIO for any other number), with the line of
/// frame_strerror(). If it has sent something before, the connection is ended instead.
///
/// cmd is copied; context is passed to handler. Call it before the first turn. Returns 0,
/// FRAME_EEXIST (something serves this cmd), FRAME_ESTATE (the server runs), FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_handle(
    s: Handle<FrameServer>,
    cmd: Text,
    handler: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            c: *mut FrameConnection,
            request: *const FrameView,
        ) -> c_int,
    >,
    context: *mut c_void,
    flags: u32,
) -> c_int {
    code(|| {
        let (s, cmd) = (s.get("s")?, cmd.get("cmd")?);
        let function = handler.ok_or_else(|| invalid("handler is NULL"))?;
        let flags = checks::flags(flags, FRAME_HANDLER_STREAM | FRAME_HANDLER_LATER, "flags")?;
        let mode = match flags & FRAME_HANDLER_STREAM {
            0 => BodyMode::Whole,
            _ => BodyMode::Streamed,
        };
        let handler = Handler {
            function,
            context: Context::new(context),
            timeout: Some(s.stall),
            keeps: flags & FRAME_HANDLER_LATER != 0,
        };
        s.server.handle_by(cmd, mode, Box::new(handler))
    })
}

/// The host's handler.
struct Handler {
    function: ServeFunction<FrameConnection, FrameView>,
    context: Context,
    /// What FRAME_DEFAULT_TIMEOUT is in it.
    timeout: Option<Duration>,
    /// FRAME_HANDLER_LATER.
    keeps: bool,
}

impl Serve for Handler {
    fn serve(&self, connection: Box<Connection<'static>>, request: &Request<'_>) -> Handled {
        let header = request.header.text_with_nul();
        let view = FrameView {
            header: header.as_ptr().cast(),
            header_len: header.len() - 1,
            body: if request.body.is_empty() {
                std::ptr::null()
            } else {
                request.body.as_ptr().cast()
            },
            body_len: request.body.len(),
        };
        if self.keeps {
            let (later, lent) = lend();
            let give_back = Box::new(|connection, outcome, message| {
                later.give_back(Left { connection: Some(connection), outcome, message });
            });
            let c = FrameConnection::lent(connection, self.timeout, give_back);
            let failed = hook::serve_and_keep(self.function, self.context, c, &view);
            if let Some((c, code)) = failed {
                // It fails only if the host still uses c. Then the connection is lost.
                let _ = c.give_back(outcome_of(code), None);
            }
            return Handled::Later(lent);
        }
        let mut c = FrameConnection::of_request(connection, self.timeout, request.header);
        let code = hook::serve(self.function, self.context, &mut c, &view);
        Handled::Now(Left::new(c.cell.take().ok(), outcome_of(code)))
    }

    fn may_keep(&self) -> bool {
        self.keeps
    }
}

/// What a handler has returned.
fn outcome_of(code: c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Error::new(ErrorKind::from_code(code).unwrap_or(ErrorKind::Io), "")),
    }
}

/// Ends a request whose handler has FRAME_HANDLER_LATER: with what was sent on c, or with the reply
/// `ok` if that is nothing. If code is not 0, the reply is the error for it, as for a handler's
/// result; message is its text for people, or NULL.
///
/// Any thread may call it, before or after the handler has returned, also after
/// frame_server_free(). It does not wait. Then free c with frame_connection_free(); without this
/// call that ends the request with FRAME_ECANCELED.
///
/// Returns 0. FRAME_ESTATE: c is not the connection of such a request, or the request is done.
/// FRAME_EBUSY: another call is using c. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_done(
    c: Handle<FrameConnection>,
    code: c_int,
    message: Text,
) -> c_int {
    self::code(|| {
        let (c, message) = (c.get("c")?, message.optional("message")?);
        c.give_back(outcome_of(code), message.map(str::to_owned))
    })
}

/// Serves commands, see exec_serve(). Their senders can do everything that the host's user can.
///
/// opts may be NULL; its strings are copied, and its policy is called on any thread of the server.
/// command_timeout_ms is 1 h by default here. Call it before the first turn. Returns 0,
/// FRAME_EEXIST (something serves exec), FRAME_ESTATE (the server runs), FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_serve_exec(
    s: Handle<FrameServer>,
    opts: Options<ExecOptions>,
) -> c_int {
    code(|| {
        let (s, opts) = (s.get("s")?, opts.read("opts")?);
        checks::unused(opts.write_fd, "exec_options.write_fd")?;
        if opts.interrupted.is_some() {
            return Err(checks::not_here("interrupted", "a connection"));
        }
        let mut options = opts.convert()?;
        if opts.command_timeout_ms == 0 {
            options.limits.time = Some(limits::COMMAND_TIME);
        }
        let policy = opts.policy().map(|policy| -> ExecPolicy { Box::new(policy) });
        s.server.serve_commands(Commands { options, policy })
    })
}

/// Serves the files below the directory root_fd, see frame_file_serve(). flags are the rights
/// that there are: FRAME_SERVE_READ, FRAME_SERVE_CREATE, FRAME_SERVE_REPLACE, FRAME_SERVE_WRITE.
///
/// root_fd is borrowed for the call only. opts may be NULL; its policy is called on any thread of
/// the server, and asked only about what flags allow. Call it before the first turn. Returns 0,
/// FRAME_EEXIST (something serves one of its requests), FRAME_ESTATE (the server runs),
/// FRAME_EINVAL, FRAME_EBADF (not a directory), FRAME_EIO with errno.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_serve_files(
    s: Handle<FrameServer>,
    root_fd: Fd,
    flags: u32,
    opts: Options<FrameFileOptions>,
) -> c_int {
    code(|| {
        let (s, opts, root) = (s.get("s")?, opts.read("opts")?, root_fd.borrow()?);
        if flags == 0 {
            return Err(invalid("flags allow neither reading nor writing"));
        }
        let options = file::ServeOptions { rights: rights(flags, "flags")?, ..opts.convert()? };
        let policy = opts.policy().map(|policy| -> FilePolicy { Box::new(policy) });
        s.server.serve_files(Files { root: copied(root)?, options, policy })
    })
}

/// Serves until the server is stopped and every request is answered.
///
/// Returns 0. FRAME_ETIMEDOUT: requests were cut, because drain_ms had passed or a second stop
/// came. FRAME_EBUSY: it runs, or a handler calls this. FRAME_ECANCELED: interrupted() says so; it
/// can be called again. FRAME_EIO with errno (EAGAIN: no threads), FRAME_EFORKED.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_run(s: Handle<FrameServer>) -> c_int {
    code(|| s.get("s")?.server.run())
}

/// The descriptor to poll(2) for reading before each frame_server_step(). It is valid until
/// frame_server_free(), and readable for the first turn too.
///
/// Returns it, or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_poll_fd(s: Handle<FrameServer>) -> c_int {
    use std::os::fd::AsRawFd as _;
    small(|| Ok(s.get("s")?.server.poll_fd().as_raw_fd()))
}

/// One turn, for a host with a loop of its own: does what can be done, and waits for that as
/// timeout_ms says. Without workers it serves requests, and takes as long as they do.
///
/// Returns 0. FRAME_ETIMEDOUT: there was nothing to do. FRAME_ECLOSED: the server has stopped.
/// FRAME_EBUSY, FRAME_ECANCELED, FRAME_EIO with errno, FRAME_EFORKED.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_step(s: Handle<FrameServer>, timeout_ms: c_int) -> c_int {
    code(|| s.get("s")?.server.step(parameter(timeout_ms, None)?))
}

/// Stops a server. Who waits in the queue of a listening socket is accepted and served, requests
/// that have come are answered, idle connections are ended. A second call ends everything at once:
/// calls on connections return FRAME_EABORTED, and commands are killed.
///
/// Any thread and any signal handler may call it until frame_server_free(). It only sets a number
/// and writes to an eventfd(2). Returns 0 or FRAME_EINVAL (NULL), and leaves frame_last_error() as
/// it is.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_stop(s: Handle<FrameServer>) -> c_int {
    code_in_handler(|| {
        s.get_in_handler()?.server.stop();
        Ok(())
    })
}

/// What a server has done so far, and does at the moment.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameServerCounts {
    /// sizeof(struct frame_server_counts).
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// Connections that were accepted or added.
    pub connections: u64,
    /// Connections that exist.
    pub connections_now: u64,
    /// Requests that are over: served, refused or cut.
    pub requests: u64,
    /// Requests that are being served.
    pub requests_now: u64,
    /// Requests that got an error reply or were cut, and bytes that were no request.
    pub errors: u64,
    /// Connections that were refused because they proved no key, or not in time, or because of
    /// their user.
    pub refused_auth: u64,
    /// Connections that were refused or closed, and requests that were told `busy`, because of a
    /// limit.
    pub refused_limit: u64,
    /// Connections that were closed because the client was too slow.
    pub timed_out: u64,
    /// Bytes that were written to clients.
    pub bytes_out: u64,
    /// Bytes that were read from them.
    pub bytes_in: u64,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameServerCounts {}

/// Writes the counters of a server to *out. Any thread, at any time.
///
/// Returns 0 or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_server_counters(
    s: Handle<FrameServer>,
    out: Results<FrameServerCounts>,
) -> c_int {
    code(|| {
        out.required("out")?;
        let counters = s.get("s")?.server.counters();
        let shown = FrameServerCounts {
            size: 0,
            reserved: 0,
            connections: counters.connections,
            connections_now: counters.connections_now,
            requests: counters.requests,
            requests_now: counters.requests_now,
            errors: counters.errors,
            refused_auth: counters.refused_auth,
            refused_limit: counters.refused_limit,
            timed_out: counters.timed_out,
            bytes_out: counters.bytes_out,
            bytes_in: counters.bytes_in,
        };
        out.put(&shown, "out")
    })
}
