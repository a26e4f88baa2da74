//! Datagrams, and commands asked for in them.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::boundary::arguments::{
    bytes, descriptor, free, invalid, object, optional_text, out, write_optional,
};
use super::boundary::options::{self, SizedStruct, limit, timeout};
use super::boundary::outcome::{code, small, value};
use super::exec::{self, EXEC_NO_INPUT, EXEC_TTY, ExecOptions, ExecOutput, ExecResult};
use super::frame::FrameHandle;
use crate::error::{Error, Result};
use crate::io::stream::datagram::address;
use crate::limits;
use crate::ops::datagram::exec::{Answer, Server};
use crate::ops::datagram::{self, Options};
use crate::ops::exec::{Policy, ServeOptions};
use crate::wire::auth::Key;

/// From exec_datagram_serve(): a request that came before, and is still running, or whose
/// reply was sent again.
pub const EXEC_REPEATED: i32 = 7;
/// From exec_datagram_serve(): a datagram that got no answer; error in the result says why.
pub const EXEC_IGNORED: i32 = 8;

/// How datagrams are sent and received. Initialise it with FRAME_DATAGRAM_OPTIONS_INIT; a
/// member that is 0 has its default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameDatagramOptions {
    /// sizeof(struct frame_datagram_options), set by FRAME_DATAGRAM_OPTIONS_INIT.
    pub size: u32,
    /// Milliseconds for the whole call, on the monotonic clock; the default is
    /// FRAME_NO_TIMEOUT. FRAME_DONT_WAIT fails at once where the call would wait.
    pub timeout_ms: i32,
    /// Bytes of a datagram to be sent; default 8 KiB, at most 65,507. What has to cross
    /// the Internet unfragmented is better kept to 1,200. Received are all up to 65,507.
    pub max_datagram: u32,
    /// None are defined: 0.
    pub flags: u32,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameDatagramOptions {}

/// Remembers the requests that came in datagrams, and their replies, for 30 s at least: of
/// the last 1,024 requests, and 32 MiB of replies.
///
/// It belongs to the caller and is freed with exec_datagram_server_free(). Any number of
/// threads may serve with it at the same time.
pub struct ExecDatagramServer(Server);

/// Sends one frame as one datagram.
///
/// to is a struct sockaddr of to_len bytes; NULL and 0 send to where the socket is
/// connected. header is a JSON object in UTF-8, without the key data_size, which the
/// library adds; NULL is an empty one. body may be NULL where body_len is 0. opts may be
/// NULL.
///
/// Everything is borrowed for the call. fd is a UDP or Unix datagram socket, blocking or
/// not. Threads may send on one descriptor side by side.
///
/// Returns 0: it is on its way, and may be lost on it. Nothing was sent with any other
/// code. FRAME_ETOOBIG: the datagram is above max_datagram, or too large for the network
/// (errno EMSGSIZE). FRAME_ETIMEDOUT: no room in the queue. FRAME_EBADJSON, FRAME_EBADFIELD
/// (the header has a data_size), FRAME_EINVAL. FRAME_EBADF: not a datagram socket.
/// FRAME_EIO with errno; ECONNREFUSED tells that nobody received an earlier datagram, and
/// this one may be sent again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_datagram_send(
    fd: c_int,
    to: *const c_void,
    to_len: usize,
    header: *const c_char,
    body: *const c_void,
    body_len: usize,
    opts: *const FrameDatagramOptions,
) -> c_int {
    code(|| {
        let connected = to.is_null() && to_len == 0;
        // SAFETY: the pointers are what the header asks for.
        let (to, header, body) = unsafe {
            (
                bytes(to.cast(), to_len, "to")?,
                optional_text(header, "header")?,
                bytes(body.cast(), body_len, "body")?,
            )
        };
        let to = if connected { None } else { Some(address(to)?) };
        // SAFETY: as above.
        let options = unsafe { read(opts) }?;
        datagram::send(descriptor(fd)?, to.as_ref(), header, body, &options)
    })
}

/// Receives one datagram, which has to be one whole frame, into memory.
///
/// On success *out is the frame, which the caller frees with frame_free(); on failure it
/// is NULL. frame_source() says who sent it, which on a network anybody can forge. opts
/// may be NULL. fd is borrowed, a UDP or Unix datagram socket, blocking or not. Threads
/// may receive on one descriptor side by side.
///
/// Returns 0. Whatever is returned, the next call receives the next datagram.
/// FRAME_ETIMEDOUT: none came. FRAME_ELIMIT: it was cut, being larger than 65,507 bytes.
/// FRAME_EBADLENGTH: it is empty, or its length or data_size does not lead exactly to its
/// end. FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG (data_size is beyond 63 bits). Such a
/// datagram is gone. FRAME_EIO with errno: ECONNREFUSED tells that nobody received an
/// earlier datagram. FRAME_EBADF: not a datagram socket. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_datagram_recv(
    fd: c_int,
    out: *mut *mut FrameHandle,
    opts: *const FrameDatagramOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, options) = unsafe { (self::out(out, "out")?, read(opts)?) };
        let (frame, source) = datagram::recv(descriptor(fd)?, &options)?;
        *out = Box::into_raw(Box::new(FrameHandle::datagram(frame, source)));
        Ok(())
    })
}

/// The struct sockaddr of the sender of a received datagram, fit for frame_datagram_send().
///
/// *len, where len is not NULL, is its length. It is valid until frame_free(). NULL with
/// a length of 0 where there is none: a Unix socket without a name sent it, the frame came
/// in a stream, or it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_source(frame: *const FrameHandle, len: *mut usize) -> *const c_void {
    value(ptr::null(), || {
        // SAFETY: the pointers are what the header asks for.
        let source = unsafe { frame.as_ref() }.and_then(|frame| frame.source.as_ref());
        // SAFETY: as above.
        unsafe { write_optional(len, source.map_or(0, |source| source.addr_len() as usize)) };
        source.map_or(ptr::null(), |source| source.as_ptr().cast())
    })
}

/// Server: a memory of datagram requests, for exec_datagram_serve().
///
/// key is key_len bytes, 16 to 1,024, shared with the clients; it is copied. Then whatever
/// does not end in the tag that the key makes of it, was made more than 30 s ago by this
/// machine's clock, or before this call, gets no answer at all. NULL and 0 are no key:
/// then whoever is on this machine is served, every user of it, and nobody else.
///
/// Two servers that share a key share no memory: what was recorded on its way to one of
/// them can be played to the other within 30 s. Give each a key of its own.
///
/// On success *out is the server, freed with exec_datagram_server_free(); on failure it is
/// NULL. Returns 0, FRAME_EKEY or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_datagram_server_new(
    key: *const c_void,
    key_len: usize,
    out: *mut *mut ExecDatagramServer,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, key) = unsafe { (self::out(out, "out")?, self::key(key, key_len)?) };
        *out = Box::into_raw(Box::new(ExecDatagramServer(Server::new(key.as_ref())?)));
        Ok(())
    })
}

/// Server: receives one datagram, runs the command that it asks for and sends the reply,
/// in as many datagrams of up to 8 KiB as it takes.
///
/// A request that comes twice runs once: while it runs the second one is dropped, and later
/// the same reply is sent again, to the same address only. What is run, and how, is as for
/// exec_serve(). opts and result may be NULL. In opts timeout_ms is the wait for a
/// datagram, by default FRAME_NO_TIMEOUT; max_output is 1 MiB by default, at most 16 MiB;
/// a lost client does not end its command. fd is a UDP or Unix datagram socket, borrowed
/// for the call; threads may serve on one descriptor side by side, and the call lasts as
/// long as the command: one thread serves one command at a time.
///
/// Returns EXEC_EXITED to EXEC_STATUS_LOST, EXEC_SPAWN_FAILED or EXEC_REFUSED for a new
/// request: the reply was sent, unless error in result is the FRAME_E... code of what
/// kept it, or a part of it, from being sent; the client will ask again. EXEC_REPEATED.
/// EXEC_IGNORED: error in result is FRAME_EAUTH (no tag, or a wrong one), FRAME_EACCES
/// (not from this machine, or its time is not acceptable, or it was sent from another
/// address before), FRAME_EBUSY (1,024 requests are running), FRAME_EBADLENGTH,
/// FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_EMISSING, FRAME_ETOOBIG or FRAME_ELIMIT (no
/// request). A negative code: FRAME_ETIMEDOUT, no datagram came; FRAME_EBADF, FRAME_EIO
/// with errno, FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_datagram_serve(
    server: *mut ExecDatagramServer,
    fd: c_int,
    opts: *const ExecOptions,
    result: *mut ExecResult,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let (server, options) = unsafe {
            options::check_result(result, "struct exec_result")?;
            (object(server, "server")?, read_exec(opts)?)
        };
        let wait = timeout(options.timeout_ms, None)?;
        // SAFETY: as above.
        let serve_options = unsafe { options.for_server() }?;
        let policy = options.policy();
        let policy = policy.as_ref().map(|policy| policy as Policy<'_>);
        let serve_options = ServeOptions { policy, ..serve_options };
        let answer = server.0.serve(descriptor(fd)?, wait, &serve_options)?;
        let value = answer_result(&answer);
        // SAFETY: as above.
        unsafe { options::write(result, &value, "struct exec_result") }?;
        Ok(value.outcome)
    })
}

/// Frees a server that no thread uses any more; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_datagram_server_free(server: *mut ExecDatagramServer) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(server) });
}

/// Client: asks for a command in a datagram, sends it again while no whole reply comes
/// (after 200 ms, then twice as long, up to 2 s), and puts the reply together.
///
/// fd is a UDP or Unix datagram socket that is connected to the server, so that nobody
/// else's datagrams are taken; a Unix socket needs a name of its own to be answered. It is
/// borrowed for the call, and used by one thread at a time. command is command_len bytes
/// of shell code; with the rest of the request it has to fit one datagram of 65,507 bytes.
/// key is key_len bytes, 16 to 1,024, as the server has them; NULL and 0 are no key. On
/// success *out is the output, freed with exec_output_free(); on failure it is NULL. opts
/// may be NULL, and is as for exec_request(), except that timeout_ms is 30 s by default
/// where there is no command_timeout_ms, and max_output 1 MiB, at most 16 MiB.
///
/// Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more) with *out set. The command ran once,
/// or with a negative code perhaps not at all. A code of -100 or below: the server's error
/// reply. FRAME_ETIMEDOUT: the reply, or a part of it, did not come. FRAME_EIO with errno:
/// ECONNREFUSED where nobody receives, at once. FRAME_EBADREPLY: the reply contradicts
/// itself. FRAME_ETOOBIG: the request does not fit, or the reply is larger than twice
/// max_output. FRAME_EKEY, FRAME_EINVAL (input and EXEC_TTY among others: a datagram has
/// no room for them), FRAME_EBADF: nothing was sent. The socket can be used again after
/// any of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exec_datagram_request(
    fd: c_int,
    command: *const c_char,
    command_len: usize,
    key: *const c_void,
    key_len: usize,
    out: *mut *mut ExecOutput,
    opts: *const ExecOptions,
) -> c_int {
    small(|| {
        // SAFETY: the pointers are what the header asks for.
        let out = unsafe { self::out(out, "out") }?;
        // SAFETY: as above.
        let (command, key, options) = unsafe {
            (
                bytes(command.cast(), command_len, "command")?,
                self::key(key, key_len)?,
                read_exec(opts)?,
            )
        };
        // SAFETY: as above.
        let (request, mut timeout) = unsafe { options.for_client(command, None) }?;
        let streams = options.flags & (EXEC_TTY | EXEC_NO_INPUT) != 0;
        if streams || !request.input.is_empty() {
            return Err(invalid("a command in a datagram has no input and no terminal"));
        }
        if options.timeout_ms == 0 && options.command_timeout_ms == 0 {
            timeout = Some(limits::DATAGRAM_TIMEOUT);
        }
        let reply = datagram::exec::request(descriptor(fd)?, &request, timeout, key.as_ref())?;
        Ok(exec::hand_out(out, reply))
    })
}

/// What a server reports of a datagram.
fn answer_result(answer: &Answer) -> ExecResult {
    let none = |outcome, error: Option<&Error>| ExecResult {
        size: 0,
        outcome,
        exit_code: -1,
        signal: 0,
        flags: 0,
        error: error.map_or(0, |error| error.kind().code()),
        stdout_total: 0,
        stderr_total: 0,
    };
    match answer {
        Answer::Served { served, unsent: None } => exec::served_result(served),
        Answer::Served { served, unsent: Some(error) } => {
            ExecResult { error: error.kind().code(), ..exec::served_result(served) }
        }
        Answer::Repeated => none(EXEC_REPEATED, None),
        Answer::Ignored(error) => none(EXEC_IGNORED, Some(error)),
    }
}

/// The options for commands in datagrams: a reply that is lost is sent again whole, so
/// that less output is kept.
unsafe fn read_exec(opts: *const ExecOptions) -> Result<ExecOptions> {
    // SAFETY: the caller's promise.
    let mut options = unsafe { exec::read(opts) }?;
    if options.write_fd != 0 {
        return Err(invalid("write_fd is not for datagrams"));
    }
    let (default, hard) = (limits::DATAGRAM_OUTPUT, limits::MAX_OUTPUT);
    options.max_output = limit(options.max_output, default, hard, "max_output")?;
    Ok(options)
}

/// A key, or none for NULL and 0.
unsafe fn key(key: *const c_void, key_len: usize) -> Result<Option<Key>> {
    if key.is_null() && key_len == 0 {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    Key::new(unsafe { bytes(key.cast(), key_len, "key") }?).map(Some)
}

/// Reads the caller's options; NULL is all defaults.
unsafe fn read(opts: *const FrameDatagramOptions) -> Result<Options> {
    // SAFETY: the caller's promise.
    let options = unsafe { options::read(opts, "struct frame_datagram_options") }?;
    if options.flags != 0 {
        return Err(invalid(format!("flags are {:#x}", options.flags)));
    }
    let (default, hard) = (limits::DATAGRAM_SEND as u64, limits::DATAGRAM_HARD as u64);
    let max_datagram = limit(options.max_datagram.into(), default, hard, "max_datagram")?;
    Ok(Options {
        timeout: timeout(options.timeout_ms, None)?,
        max_datagram: usize::try_from(max_datagram).unwrap_or(limits::DATAGRAM_HARD),
    })
}
