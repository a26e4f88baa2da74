//! A conversation over one or two descriptors: made, watched and ended here; its messages and
//! exchanges have files of their own.

mod address;
mod exchange;
mod receive;
mod send;

pub use address::*;
pub use exchange::*;
pub(in crate::ffi) use receive::length;
pub use receive::*;
pub use send::*;

use std::ffi::{c_int, c_void};
use std::time::Duration;

use rustix::event::PollFlags;

use crate::error::Result;
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::cell::ConnectionCell;
use crate::ffi::boundary::hook::hook;
use crate::ffi::boundary::options::{self, SizedStruct, limit, parameter, timeout};
use crate::ffi::boundary::outcome::{code, value};
use crate::ffi::boundary::parameters::{Fd, Handle, Options, Out, Results, Value};
use crate::ffi::frame::{depth, format};
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::exec::Running;
use crate::ops::frame::{Connection, ConnectionOptions, Ends};

/// For frame_connection_options.flags: the connection owns the descriptors, once
/// frame_connection_new() has returned 0; frame_connection_free() closes them.
pub const FRAME_CONNECTION_OWN: u32 = 1;
/// One thread may send while another receives. Then neither direction serves the other: a
/// receive does not write the queue, and a send does not take in what comes.
pub const FRAME_CONNECTION_DUPLEX: u32 = 2;
/// Not a byte is read beyond the message at hand, so that the descriptor can be handed on after
/// any of them. A send does not take in what comes, either.
pub const FRAME_CONNECTION_EXACT: u32 = 4;
/// TCP_NODELAY stays as it is. Without this flag a connection sets it on a TCP socket, and
/// leaves it set: that is the only thing that the library changes on a borrowed descriptor.
pub const FRAME_CONNECTION_AS_IS: u32 = 8;
/// Keepalive probes are switched on: SO_KEEPALIVE of socket(7).
pub const FRAME_CONNECTION_KEEPALIVE: u32 = 16;

/// How a connection is made.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameConnectionOptions {
    /// sizeof(struct frame_connection_options).
    pub size: u32,
    /// FRAME_CONNECTION_... added up.
    pub flags: u32,
    /// Milliseconds that FRAME_DEFAULT_TIMEOUT stands for; default FRAME_NO_TIMEOUT.
    pub timeout_ms: i32,
    /// Milliseconds for all of frame_connect(), every address of the name; default 30,000.
    pub connect_timeout_ms: i32,
    /// Bytes of header text; default 64 KiB, at most 16 MiB.
    pub max_header: u64,
    /// Bytes of a body or packet that is received into memory; default 64 MiB, or
    /// FRAME_NO_LIMIT. A body in pieces has no limit.
    pub max_body: u64,
    /// Levels of nesting in a received header; default 32, at most 127.
    pub max_depth: u32,
    /// FRAME_FORMAT_FRAMES or FRAME_FORMAT_PACKETS.
    pub format: u32,
    /// For packets: the width of the length in bytes (1, 2, 4 or 8), plus
    /// FRAME_PREFIX_BIG_ENDIAN and FRAME_PREFIX_UNSIGNED; default 4, little-endian, signed.
    pub prefix: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes that are accepted and not written; default 32 MiB.
    pub max_queue: u64,
    /// Asked before each wait and after each signal, and at least once a second while a call
    /// lasts: a result other than 0 ends the call with FRAME_ECANCELED. A call that need not wait,
    /// and one with 0 as timeout, does not ask. NULL: nothing is asked.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to interrupted.
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for FrameConnectionOptions {}

impl FrameConnectionOptions {
    const FLAGS: u32 = FRAME_CONNECTION_OWN
        | FRAME_CONNECTION_DUPLEX
        | FRAME_CONNECTION_EXACT
        | FRAME_CONNECTION_AS_IS
        | FRAME_CONNECTION_KEEPALIVE;

    /// The hook, for a wait before there is a connection.
    fn interrupt(&self) -> Option<Interrupt> {
        self.interrupted.map(|asked| Interrupt::by_hook(hook(asked, self.context)))
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The options of Rust, and what FRAME_DEFAULT_TIMEOUT stands for.
    fn convert(&self) -> Result<(ConnectionOptions, Option<Duration>)> {
        options::flags(self.flags, Self::FLAGS, "frame_connection_options")?;
        options::unused(self.reserved, "frame_connection_options.reserved")?;
        let format = format(self.format, self.prefix)?;
        let options = ConnectionOptions {
            max_header: limit(
                self.max_header,
                limits::MAX_HEADER,
                limits::MAX_HEADER_HARD,
                "max_header",
            )?,
            max_depth: depth(self.max_depth)?,
            max_body: limit(self.max_body, limits::MAX_BODY, u64::MAX, "max_body")?,
            max_queue: limit(self.max_queue, limits::MAX_QUEUE, u64::MAX, "max_queue")?,
            format,
            exact: self.has(FRAME_CONNECTION_EXACT),
            duplex: self.has(FRAME_CONNECTION_DUPLEX),
            as_is: self.has(FRAME_CONNECTION_AS_IS),
            keepalive: self.has(FRAME_CONNECTION_KEEPALIVE),
            interrupted: self.interrupted.map(|asked| hook(asked, self.context)),
        };
        Ok((options, timeout(self.timeout_ms, None)?))
    }
}

/// A conversation over one or two descriptors: messages, bodies in pieces, calls, commands and
/// files, one after the other.
///
/// It belongs to the caller, and is freed with frame_connection_free(). One thread at a time
/// may use it, or one in each direction with FRAME_CONNECTION_DUPLEX; a second one gets
/// FRAME_EBUSY. What allows any thread, or a signal handler, says so.
///
/// Messages lose nothing: after FRAME_ETIMEDOUT and FRAME_ECANCELED call again. Exchanges
/// (calls, commands, files) are whole, or break the connection once their request has begun to
/// go out. A framing error and an end of stream inside a message break it too. Then every call
/// but frame_connection_inspect(), _unread(), _abort() and _free() returns FRAME_EBROKEN, and
/// frame_last_error() names the first cause.
///
/// After fork(2) a child gets FRAME_EFORKED from everything but _unread() and _free().
pub struct FrameConnection {
    pub(in crate::ffi) cell: ConnectionCell,
    timeout: Option<Duration>,
}

impl FrameConnection {
    pub(super) fn new(
        connection: Connection<'static>,
        timeout: Option<Duration>,
    ) -> FrameConnection {
        FrameConnection { cell: ConnectionCell::new(connection), timeout }
    }

    /// A timeout parameter of one of its functions.
    #[inline]
    pub(in crate::ffi) fn timeout(&self, milliseconds: c_int) -> Result<Option<Duration>> {
        parameter(milliseconds, self.timeout)
    }

    /// The same for an exchange, which cannot be resumed.
    pub(in crate::ffi) fn exchange_timeout(&self, milliseconds: c_int) -> Result<Option<Duration>> {
        match milliseconds {
            0 => Err(invalid("timeout_ms is 0, and an exchange cannot be resumed")),
            other => self.timeout(other),
        }
    }
}

/// Makes a connection of read_fd and write_fd: one socket twice, a pair of pipes, or -1 for a
/// direction that is not there.
///
/// On success *out is the connection, on failure NULL, and no descriptor was taken. They are
/// borrowed and have to stay open until frame_connection_free(), which closes them only with
/// FRAME_CONNECTION_OWN. They are sockets of type SOCK_STREAM, pipes or terminals in raw mode,
/// blocking or not. opts may be NULL.
///
/// Returns 0, FRAME_EBADF (not open), FRAME_EINVAL (a datagram socket, or options), FRAME_ENOMEM
/// or FRAME_EIO with errno (EMFILE: what is no socket needs an eventfd(2)).
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_new(
    read_fd: Fd,
    write_fd: Fd,
    opts: Options<FrameConnectionOptions>,
    out: Out<FrameConnection>,
) -> c_int {
    code(|| {
        let (place, opts) = (out.get("out")?, opts.read("opts")?);
        let (options, timeout) = opts.convert()?;
        options::unused(opts.connect_timeout_ms, "connect_timeout_ms")?;
        let is_one = read_fd.number() == write_fd.number();
        let (reader, writer) = (read_fd.optional()?, write_fd.optional()?);
        for fd in reader.iter().chain(&writer) {
            // One that is not open is refused before anything is taken.
            rustix::io::fcntl_getfd(fd).map_err(|e| crate::Error::system("fcntl", e))?;
        }
        let connection = Connection::new(Ends::Borrowed(reader, writer), options)?;
        let connection = if opts.has(FRAME_CONNECTION_OWN) {
            connection.owning(read_fd.take(), if is_one { None } else { write_fd.take() })
        } else {
            connection
        };
        place.put(FrameConnection::new(connection, timeout));
        Ok(())
    })
}

/// Ends the object; NULL is ignored. What is queued is dropped, and nothing is sent or shut
/// down: see frame_connection_end(). The descriptors are closed if the connection owns them.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_free(c: Handle<FrameConnection>) {
    value((), || c.free());
}

/// Writes what is queued, and ends this direction: the peer sees an end of stream (on a socket;
/// anything else ends when it is closed).
///
/// With linger it then drops what the peer sends, until the peer has ended its direction too,
/// at most 256 KiB: a close with unread input would take the last reply from the peer. Nothing is
/// received after that. Without it one direction ends and the other goes on, with
/// FRAME_CONNECTION_DUPLEX beside a thread that receives.
///
/// Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: call again. FRAME_ESTATE: a body in pieces is
/// not complete, or there is nothing to drop after frame_connection_unread(). FRAME_EIO with
/// errno, FRAME_EBROKEN, FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_end(
    c: Handle<FrameConnection>,
    linger: bool,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        let c = c.get("c")?;
        let timeout = c.timeout(timeout_ms)?;
        if linger {
            c.cell.both(|connection| connection.end(linger, timeout))
        } else {
            c.cell.send(|mut half| half.end(timeout))
        }
    })
}

/// Makes whatever waits on the connection return FRAME_EABORTED within 100 ms, and every later
/// call at once; but not a name lookup, and not what the kernel does with a file.
///
/// A socket is shut down, which every process that shares it feels. In a child of fork(2) it
/// does nothing. Any thread, and any signal handler, while the connection is not freed.
///
/// Returns 0 or FRAME_EINVAL (NULL).
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_abort(c: Handle<FrameConnection>) -> c_int {
    code(|| {
        c.get("c")?.cell.handle().abort();
        Ok(())
    })
}

/// Gives receiving up for good, and gives back what was read ahead: the next part of the
/// stream, for whoever goes on with the descriptor.
///
/// *bytes is borrowed until frame_connection_free(), and *len its length. It works on a broken
/// connection, and in a child of fork(2).
///
/// Returns 0, FRAME_EINVAL, FRAME_EBUSY, FRAME_ENOMEM, or FRAME_EFORKED: in a child, if another
/// thread of its parent was in the connection when it forked.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_unread(
    c: Handle<FrameConnection>,
    bytes: Value<*const c_void>,
    len: Value<usize>,
) -> c_int {
    code(|| {
        let (bytes, len) = (bytes.required("bytes")?, len.required("len")?);
        c.get("c")?.cell.any(|connection, _| {
            let unread = connection.unread()?;
            bytes.put(unread.as_ptr().cast());
            len.put(unread.len());
            Ok(())
        })
    })
}

/// For frame_connection_state.flags: this side has ended its direction.
pub const FRAME_STATE_ENDED: u32 = 1;
/// The same: the peer has ended its own.
pub const FRAME_STATE_PEER_ENDED: u32 = 2;
/// The same: a streamed command runs, see exec_start().
pub const FRAME_STATE_EXEC: u32 = 4;

/// What a connection is about to do.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameConnectionState {
    /// sizeof(struct frame_connection_state).
    pub size: u32,
    /// FRAME_STATE_... added up.
    pub flags: u32,
    /// The code that broke the connection, or its sending; 0 if nothing did.
    pub broken: i32,
    /// Where to poll(2) for reading, or -1.
    pub read_fd: i32,
    /// Where to poll for writing, or -1.
    pub write_fd: i32,
    /// For poll(2); poll only after a receive has returned FRAME_ETIMEDOUT, since messages may
    /// have been read already.
    pub read_events: i16,
    /// For poll(2): 0 if nothing is queued.
    pub write_events: i16,
    /// Bytes of a body in pieces that were not read.
    pub to_receive: u64,
    /// Bytes of a body that was begun, which were not given.
    pub to_send: u64,
    /// Bytes that were accepted and not written.
    pub queued: u64,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameConnectionState {}

/// Writes what a connection is about to do to *out. For a program with its own event loop:
/// receive with 0 as timeout until FRAME_ETIMEDOUT, then poll.
///
/// Returns 0, FRAME_EINVAL or FRAME_EBUSY; never FRAME_EBROKEN.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_inspect(
    c: Handle<FrameConnection>,
    out: Results<FrameConnectionState>,
) -> c_int {
    code(|| {
        out.required("out")?;
        let state =
            c.get("c")?.cell.any(|connection, running| Ok(state_of(connection, running)))?;
        out.put(&state, "out")
    })
}

fn state_of(connection: &Connection<'_>, running: &mut Option<Running>) -> FrameConnectionState {
    let mut state = connection.state();
    if let Some(running) = running {
        let events = running.events(connection);
        state.events = [PollFlags::IN, PollFlags::OUT].map(|flag| events & flag);
    }
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    let [read_fd, write_fd] = connection.descriptors();
    #[expect(clippy::cast_possible_wrap, reason = "poll(2) has them in a short")]
    let events = |events: PollFlags| events.bits() as i16;
    FrameConnectionState {
        size: 0,
        flags: flag(FRAME_STATE_EXEC, running.is_some())
            | flag(FRAME_STATE_ENDED, state.ended)
            | flag(FRAME_STATE_PEER_ENDED, state.peer_ended),
        broken: state.broken.map_or(0, |cause| cause.kind().code()),
        read_fd,
        write_fd,
        read_events: events(state.events[0]),
        write_events: events(state.events[1]),
        to_receive: state.to_receive,
        to_send: state.to_send,
        queued: state.queued,
    }
}
