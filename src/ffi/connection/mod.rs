//! A conversation over one or two descriptors: how it is made, inspected and ended.

mod address;
mod credentials;
mod exchange;
mod receive;
mod send;

pub use address::*;
pub use credentials::*;
pub use exchange::*;
pub(in crate::ffi) use receive::length;
pub use receive::*;
pub use send::*;

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::PollFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::cell::{ConnectionCell, Slot};
use crate::ffi::boundary::hook::hook;
use crate::ffi::boundary::options::{self, SizedStruct, limit, parameter, timeout};
use crate::ffi::boundary::outcome::{code, code_in_handler, value};
use crate::ffi::boundary::parameters::{Fd, Handle, Options, Out, Results, Value};
use crate::ffi::frame::{depth, format};
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::frame::{Connection, ConnectionOptions, Ends};
use crate::wire::json::header::Header;

/// For frame_connection_options.flags: the connection owns the descriptors once
/// frame_connection_new() has returned 0, and frame_connection_free() closes them.
pub const FRAME_CONNECTION_OWN: u32 = 1;
/// The same: one thread may send while another receives. Then a receive does not write queued
/// messages, and a send does not read from the peer.
pub const FRAME_CONNECTION_DUPLEX: u32 = 2;
/// The same: no byte is read beyond the current message, so the descriptor can be passed on
/// after each message. A send does not read from the peer either.
pub const FRAME_CONNECTION_EXACT: u32 = 4;
/// The same: TCP_NODELAY is not changed. Without this flag a connection sets it on a TCP socket
/// and leaves it set. The library changes nothing else on a borrowed descriptor.
pub const FRAME_CONNECTION_AS_IS: u32 = 8;
/// The same: keepalive probes are enabled (SO_KEEPALIVE of socket(7)).
pub const FRAME_CONNECTION_KEEPALIVE: u32 = 16;

/// How a connection is made.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameConnectionOptions {
    /// sizeof(struct frame_connection_options).
    pub size: u32,
    /// FRAME_CONNECTION_... flags, combined with |.
    pub flags: u32,
    /// Milliseconds that FRAME_DEFAULT_TIMEOUT means; default FRAME_NO_TIMEOUT.
    pub timeout_ms: i32,
    /// Milliseconds for frame_connect() with all addresses of the name; default 30,000.
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
    /// The most bytes that may be accepted and not yet written; default 32 MiB.
    pub max_queue: u64,
    /// Called before each wait, after each signal, and at least once a second while a call
    /// lasts. Return non-zero to end the call with FRAME_ECANCELED. A call that does not have to
    /// wait, or has a timeout of 0, does not call it. May be NULL.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to interrupted().
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

    /// The options of Rust, and the value of FRAME_DEFAULT_TIMEOUT.
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
            stall: None,
            interrupted: self.interrupted.map(|asked| hook(asked, self.context)),
        };
        Ok((options, timeout(self.timeout_ms, None)?))
    }
}

/// A conversation over one or two descriptors: messages, bodies in pieces, calls, commands and
/// files, one after the other.
///
/// It belongs to the caller, and is freed with frame_connection_free(). One thread at a time may
/// use it, or one in each direction with FRAME_CONNECTION_DUPLEX; another thread gets
/// FRAME_EBUSY. Functions that any thread or a signal handler may call say so.
///
/// After FRAME_ETIMEDOUT and FRAME_ECANCELED no message is lost: call again. An exchange (call,
/// command, file) that fails after a part of its request was accepted breaks the connection. A
/// framing error breaks it too, and so does an end of stream inside a message. Then every call
/// except frame_connection_inspect(), _unread(), _abort() and _free() returns FRAME_EBROKEN, and
/// frame_last_error() names the first cause.
///
/// After fork(2) every call in the child except _inspect(), _unread() and _free() returns
/// FRAME_EFORKED.
pub struct FrameConnection {
    pub(in crate::ffi) cell: ConnectionCell,
    timeout: Option<Duration>,
    /// Set for the connection of a request that a server waits for.
    give_back: Mutex<Option<GiveBack>>,
    /// The header of the request that a handler serves with it, which outlives it; or NULL.
    asked: AtomicPtr<Header>,
}

/// Gives the connection of a request back: with what became of the request, and the text of the
/// error reply.
pub(in crate::ffi) type GiveBack =
    Box<dyn FnOnce(Box<Connection<'static>>, Result<()>, Option<String>) + Send>;

impl FrameConnection {
    pub(in crate::ffi) fn new(
        connection: Box<Connection<'static>>,
        timeout: Option<Duration>,
    ) -> FrameConnection {
        let (cell, give_back) = (ConnectionCell::new(connection), Mutex::default());
        FrameConnection { cell, timeout, give_back, asked: AtomicPtr::default() }
    }

    /// For the time of one call of a handler, which is over before `asked` is.
    #[cfg(feature = "serve")]
    pub(in crate::ffi) fn of_request(
        connection: Box<Connection<'static>>,
        timeout: Option<Duration>,
        asked: &Header,
    ) -> FrameConnection {
        let mut served = FrameConnection::new(connection, timeout);
        served.asked = AtomicPtr::new(std::ptr::from_ref(asked).cast_mut());
        served
    }

    /// The header of the request that a handler serves with it.
    fn asked(&self) -> Option<&Header> {
        // SAFETY: NULL, or a header that outlives this connection and that nobody changes.
        unsafe { self.asked.load(Ordering::Relaxed).as_ref() }
    }

    /// The connection of a request, which its server gets back.
    #[cfg(feature = "serve")]
    pub(in crate::ffi) fn lent(
        connection: Box<Connection<'static>>,
        timeout: Option<Duration>,
        give_back: GiveBack,
    ) -> FrameConnection {
        let mut lent = FrameConnection::new(connection, timeout);
        lent.give_back = Mutex::new(Some(give_back));
        lent
    }

    /// Gives it back.
    pub(in crate::ffi) fn give_back(
        &self,
        outcome: Result<()>,
        message: Option<String>,
    ) -> Result<()> {
        let (connection, give_back) = {
            let mut place = self.give_back.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(give_back) = place.take() else {
                return Err(Error::new(ErrorKind::State, "no server waits for this connection"));
            };
            match self.cell.take() {
                Ok(connection) => (connection, give_back),
                Err(error) => {
                    *place = Some(give_back);
                    return Err(error);
                }
            }
        };
        give_back(connection, outcome, message);
        Ok(())
    }

    /// A timeout parameter of one of its functions.
    #[inline]
    pub(in crate::ffi) fn timeout(&self, milliseconds: c_int) -> Result<Option<Duration>> {
        parameter(milliseconds, self.timeout)
    }

    /// A timeout parameter of an exchange, which cannot be resumed.
    pub(in crate::ffi) fn exchange_timeout(&self, milliseconds: c_int) -> Result<Option<Duration>> {
        match milliseconds {
            0 => Err(invalid("timeout_ms is 0, and an exchange cannot be resumed")),
            other => self.timeout(other),
        }
    }
}

/// Makes a connection of read_fd and write_fd: the same socket twice, or two pipes. -1 is a
/// missing direction.
///
/// On success *out is the connection; on failure it is NULL, and the caller keeps the
/// descriptors. They are borrowed and must stay open until frame_connection_free(), which closes
/// them only with FRAME_CONNECTION_OWN. They are sockets of type SOCK_STREAM, pipes or terminals
/// in raw mode, blocking or not. opts may be NULL.
///
/// Returns 0, FRAME_EBADF (not open), FRAME_EINVAL (a datagram socket, or options), FRAME_ENOMEM
/// or FRAME_EIO with errno (EMFILE: a descriptor that is not a socket needs an eventfd(2)).
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
        place.put(FrameConnection::new(Box::new(connection), timeout));
        Ok(())
    })
}

impl Drop for FrameConnection {
    fn drop(&mut self) {
        if self.give_back.get_mut().is_ok_and(|give_back| give_back.is_none()) {
            return;
        }
        // Without frame_server_done(): the client gets a reply all the same. If there is none to
        // give back, or a call is using it, there is nothing to be done here.
        let _ = self.give_back(Err(Error::new(ErrorKind::Canceled, "")), None);
    }
}

/// Frees a connection; NULL is ignored. Queued bytes are dropped, and nothing is sent or shut
/// down: see frame_connection_end(). The descriptors are closed if the connection owns them.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_free(c: Handle<FrameConnection>) {
    value((), || c.free());
}

/// Writes all queued bytes and ends this direction: the peer sees an end of stream. (Only on a
/// socket; other descriptors end when they are closed.) On a sealed connection an end mark is
/// sent first, on every kind of descriptor. Without it the peer cannot tell the end from a cut,
/// and gets FRAME_ETRUNCATED: end a sealed connection before you free it.
///
/// With linger it then reads and drops at most 256 KiB until the peer has ended its direction
/// too: if a socket is closed with unread input, the peer may lose the last reply. Nothing can
/// be received after that. Without linger only this direction ends. With FRAME_CONNECTION_DUPLEX
/// another thread may be receiving meanwhile.
///
/// Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: call again. FRAME_ESTATE: a body in pieces is
/// not complete, or linger was asked for after frame_connection_unread(). FRAME_EIO with errno,
/// FRAME_EBROKEN, FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY.
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

/// Aborts the connection. Waiting calls return FRAME_EABORTED within 100 ms, later calls at
/// once. It does not interrupt a name lookup or the kernel's work on a file.
///
/// A socket is shut down, for all processes that share it. In a child of fork(2) the call does
/// nothing. Any thread and any signal handler may call it until the connection is freed.
///
/// Returns 0 or FRAME_EINVAL (NULL), and leaves frame_last_error() as it is.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_abort(c: Handle<FrameConnection>) -> c_int {
    code_in_handler(|| {
        c.get_in_handler()?.cell.abort();
        Ok(())
    })
}

/// Stops receiving for good, and returns the bytes that were read ahead. They are the next part
/// of the stream, for code that continues to read from the descriptor. A sealed connection has no
/// such bytes.
///
/// *bytes is valid until frame_connection_free(), and *len is its length. The call works on a
/// broken connection, and in a child of fork(2).
///
/// Returns 0, FRAME_EINVAL, FRAME_EBUSY, FRAME_ENOMEM, FRAME_ESTATE (the connection is sealed),
/// or FRAME_EFORKED: this is a child of fork(2), and another thread was using the connection
/// during the fork.
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
/// The same: the peer has ended its direction.
pub const FRAME_STATE_PEER_ENDED: u32 = 2;
/// The same: a streamed command is running, see exec_start().
pub const FRAME_STATE_EXEC: u32 = 4;
/// The same: everything that is sent and received is sealed.
pub const FRAME_STATE_SEALED: u32 = 8;

/// The state of a connection, and the events that it waits for.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameConnectionState {
    /// sizeof(struct frame_connection_state).
    pub size: u32,
    /// FRAME_STATE_... flags, combined with |.
    pub flags: u32,
    /// The code of the failure that broke the connection or its sending direction, or 0.
    pub broken: i32,
    /// The descriptor to poll(2) for reading, or -1.
    pub read_fd: i32,
    /// The descriptor to poll(2) for writing, or -1.
    pub write_fd: i32,
    /// Events to poll read_fd for. Poll only after a receive has returned FRAME_ETIMEDOUT:
    /// messages may have been read ahead.
    pub read_events: i16,
    /// Events to poll write_fd for; 0 if nothing is queued.
    pub write_events: i16,
    /// Bytes of a received body in pieces that were not read yet.
    pub to_receive: u64,
    /// Bytes of a body in pieces that were not passed to frame_connection_write() yet.
    pub to_send: u64,
    /// Bytes that were accepted and not written yet.
    pub queued: u64,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameConnectionState {}

/// Writes the state of a connection to *out. A program with its own event loop receives with a
/// timeout of 0 until FRAME_ETIMEDOUT, then polls.
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

fn state_of(connection: &Connection<'_>, running: &mut Slot) -> FrameConnectionState {
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
            | flag(FRAME_STATE_PEER_ENDED, state.peer_ended)
            | flag(FRAME_STATE_SEALED, state.sealed),
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
