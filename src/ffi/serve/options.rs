//! How a server of C serves: its options.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use super::served::{FrameServed, told};
use crate::error::Result;
use crate::ffi::auth::AuthKeyring;
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::hook;
use crate::ffi::boundary::options::{self, SizedStruct, limit, time};
use crate::ffi::boundary::parameters::{Context, Ref, Text, numbers};
use crate::limits;
use crate::ops::serve::{Access, Level, Limits, LogFunction, ServedFunction, ServerOptions};
use crate::wire::seal::terms::{ServerName, Terms};

/// For frame_server_options.flags: clients use the plain handshake, see AUTH_PLAIN. Without this
/// flag connections are sealed.
pub const FRAME_SERVER_PLAIN: u32 = 1;
/// The same: the request hello is answered, which asks what the server can do.
pub const FRAME_SERVER_HELLO: u32 = 2;
/// The same: without a ring the server listens on other addresses too, and serves everybody who
/// can reach them. For networks that are trusted.
pub const FRAME_SERVER_OPEN: u32 = 4;
/// The same: processes are reaped that this one inherits, as process 1 of a container or as a
/// subreaper: what commands leave behind. Otherwise the flag has no effect. Children of the
/// library are left to it. For those that it has started the host has to wait within a second of
/// their end.
pub const FRAME_SERVER_REAP: u32 = 8;

/// A level of the log: the server could not do its work.
pub const FRAME_LOG_ERROR: u32 = 1;
/// The same: it refused or ended something.
pub const FRAME_LOG_WARNING: u32 = 2;
/// The same: it began or ended; a client has proved a key that has an id.
pub const FRAME_LOG_INFO: u32 = 3;
/// The same: what each connection does.
pub const FRAME_LOG_DEBUG: u32 = 4;

/// How a server serves. No time may be FRAME_NO_TIMEOUT: each wait for a client has an end.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameServerOptions {
    /// sizeof(struct frame_server_options).
    pub size: u32,
    /// FRAME_SERVER_PLAIN, FRAME_SERVER_HELLO, FRAME_SERVER_OPEN and FRAME_SERVER_REAP.
    pub flags: u32,
    /// Threads for requests. With 0 requests are served on the thread of frame_server_run() or
    /// frame_server_step(), one at a time. Otherwise commands and files have threads of their own
    /// beside these. All signals are blocked in them.
    pub workers: u32,
    /// Connections; default 1,024. The next one is told `busy` when it sends its request.
    pub max_connections: u32,
    /// Connections beside them that have proved no key yet, or that are being refused; default
    /// 64. The next one closes the oldest of them, once that has had 100 ms.
    pub max_unauthenticated: u32,
    /// Commands that run at once; others wait. Default 2 for each processor.
    pub max_commands: u32,
    /// Requests about files that are served at once; others wait. Default 64.
    pub max_transfers: u32,
    /// The lines that log() gets: this level and those below it; default FRAME_LOG_INFO.
    pub log_level: u32,
    /// Milliseconds for the whole handshake; default 10 s, at most 60 s.
    pub auth_timeout_ms: i32,
    /// Milliseconds from the first byte of a request to the last of its header; default 10 s.
    pub frame_timeout_ms: i32,
    /// Milliseconds without a byte of a request's body, or of the replies that a client reads;
    /// default 30 s. On average 1 KiB must pass in a second.
    pub stall_ms: i32,
    /// Milliseconds without a request after which a connection is ended; default 300 s.
    pub idle_ms: i32,
    /// Milliseconds from frame_server_stop() to the end of what still runs; default 25 s.
    pub drain_ms: i32,
    /// How many users there are.
    pub users_len: u32,
    /// Bytes of a request's header; default 64 KiB, at most 16 MiB.
    pub max_header: u64,
    /// Bytes of a request's body that a handler gets in memory; default 64 MiB, or
    /// FRAME_NO_LIMIT.
    pub max_body: u64,
    /// Bytes of a connection's replies that were not written yet; default 32 MiB.
    pub max_queue: u64,
    /// Bytes of unfinished requests of all connections; default 256 MiB. A request that exceeds
    /// it is told `busy`.
    pub max_memory: u64,
    /// The keys of its clients. The ring may be changed while the server runs, and freed. NULL:
    /// it serves everybody, and without FRAME_SERVER_OPEN listens on this host only.
    pub ring: *const AuthKeyring,
    /// This server's name, as in auth_options; NULL is the empty name.
    pub server_name: *const c_char,
    /// Gets a line of text, which is valid until it returns; may be NULL. No line has a key, what
    /// clients sent is escaped in it, and of each level no more than a few pass in a second. It is
    /// called on any thread of the server, on several at once.
    pub log: Option<unsafe extern "C" fn(context: *mut c_void, level: u32, text: *const c_char)>,
    /// Called exactly once for each request when it is over, also if it was refused, or cut by a
    /// stop or by its client; may be NULL. An audit log is made of this. It is called on the thread
    /// that served the request, on several at once. No call is left out, and the connection's next
    /// request waits for it. A request begins with the last byte of its header.
    pub served: Option<unsafe extern "C" fn(context: *mut c_void, request: *const FrameServed)>,
    /// The user ids whose processes are served at Unix sockets, root no more than others; they are
    /// copied. NULL: whoever can connect, which the mode of the socket's file decides. Others are
    /// told `denied`. Clients at other sockets are not asked for a user.
    pub users: *const u32,
    /// Called before each wait, after each signal, and at least once a second, by the thread of
    /// frame_server_run() or frame_server_step(), not with a timeout of 0; without workers also
    /// while a request waits there. Return non-zero to end the call for the request, and then that
    /// function, with FRAME_ECANCELED. May be NULL.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to log(), served() and interrupted().
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding.
unsafe impl SizedStruct for FrameServerOptions {}

impl FrameServerOptions {
    pub(super) fn convert(&self) -> Result<ServerOptions> {
        let known = FRAME_SERVER_PLAIN | FRAME_SERVER_HELLO | FRAME_SERVER_OPEN | FRAME_SERVER_REAP;
        options::flags(self.flags, known, "frame_server_options.flags")?;
        let (plain, open) =
            (self.flags & FRAME_SERVER_PLAIN != 0, self.flags & FRAME_SERVER_OPEN != 0);
        if plain && !self.server_name.is_null() {
            return Err(options::not_here("server_name", "FRAME_SERVER_PLAIN"));
        }
        let name = Text::of(self.server_name).optional_bytes("server_name")?;
        let name = name.map_or(Ok(ServerName::default()), ServerName::new)?;
        let ring = Ref::of(self.ring).optional().map(AuthKeyring::shared);
        Ok(ServerOptions {
            access: Access {
                ring,
                plain,
                terms: Terms { name, client_serves: false },
                open,
                users: self.users()?,
            },
            workers: self.workers as usize,
            hello: self.flags & FRAME_SERVER_HELLO != 0,
            reap: self.flags & FRAME_SERVER_REAP != 0,
            limits: self.limits()?,
            log: self.log(),
            log_level: match self.log_level {
                FRAME_LOG_ERROR => Level::Error,
                FRAME_LOG_WARNING => Level::Warning,
                0 | FRAME_LOG_INFO => Level::Info,
                FRAME_LOG_DEBUG => Level::Debug,
                other => return Err(options::unknown(other, "log_level")),
            },
            served: self.served(),
            interrupted: self.interrupted.map(|asked| Arc::from(hook::hook(asked, self.context))),
        })
    }

    fn users(&self) -> Result<Option<Vec<u32>>> {
        if self.users.is_null() && self.users_len == 0 {
            return Ok(None);
        }
        numbers(self.users, u64::from(self.users_len), "users").map(Some)
    }

    fn limits(&self) -> Result<Limits> {
        let usual = Limits::default();
        let count = |value: u32, default| if value == 0 { default } else { value as usize };
        Ok(Limits {
            max_connections: count(self.max_connections, usual.max_connections),
            max_unauthenticated: count(self.max_unauthenticated, usual.max_unauthenticated),
            max_commands: count(self.max_commands, usual.max_commands),
            max_transfers: count(self.max_transfers, usual.max_transfers),
            auth_timeout: ends(self.auth_timeout_ms, usual.auth_timeout, "auth_timeout_ms")?,
            frame_timeout: ends(self.frame_timeout_ms, usual.frame_timeout, "frame_timeout_ms")?,
            stall: ends(self.stall_ms, usual.stall, "stall_ms")?,
            idle: ends(self.idle_ms, usual.idle, "idle_ms")?,
            drain: ends(self.drain_ms, usual.drain, "drain_ms")?,
            max_header: limit(
                self.max_header,
                usual.max_header,
                limits::MAX_HEADER_HARD,
                "max_header",
            )?,
            max_body: limit(self.max_body, usual.max_body, u64::MAX, "max_body")?,
            max_queue: limit(self.max_queue, usual.max_queue, u64::MAX, "max_queue")?,
            max_memory: limit(self.max_memory, usual.max_memory, u64::MAX, "max_memory")?,
            max_depth: usual.max_depth,
        })
    }

    fn log(&self) -> Option<LogFunction> {
        let (log, context) = (self.log?, Context::new(self.context));
        Some(Arc::new(move |level, line: &str| {
            let Ok(line) = CString::new(line) else { return };
            hook::line(log, context, level as u32 + FRAME_LOG_ERROR, &line);
        }))
    }

    fn served(&self) -> Option<ServedFunction> {
        let (function, context) = (self.served?, Context::new(self.context));
        Some(Arc::new(move |served| told(function, context, served)))
    }
}

/// A time that always ends.
#[inline(never)]
fn ends(milliseconds: i32, default: Duration, what: &str) -> Result<Duration> {
    let endless = || invalid(format!("{what} cannot be FRAME_NO_TIMEOUT"));
    time(milliseconds, Some(default), what)?.ok_or_else(endless)
}
