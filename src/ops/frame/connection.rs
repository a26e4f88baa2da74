//! A conversation over one or two descriptors: what was read ahead, what is queued, and
//! whether both ends still agree on where they are.
//!
//! | state | how it is reached | what is left |
//! |---|---|---|
//! | in sync | at first, and after every message and every whole exchange | everything |
//! | a body in pieces | a header was received, or a message was begun | the other direction; this one goes on with the body |
//! | ended | [`end`](Connection::end), or the peer's end of stream | the other direction |
//! | cannot send | a write failed | receiving, since the peer may have sent before |
//! | broken | a framing error, end of stream inside a message, an exchange that ended before its reply | [`state`](Connection::state), [`unread`](Connection::unread), abort |
//! | aborted | [`Handle::abort`] | the same |
//! | forked | the process is a child of the one that made it | unread |

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};

use super::receiving::Receiving;
use super::sending::Sending;
use super::shared::{Handle, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Time;
use crate::io::stream::ends::Ends;
use crate::io::wait::{Hook, Interrupt};
use crate::limits;
use crate::ops::Duplex;
use crate::wire::auth::Challenge;
use crate::wire::frame::decoder::Limits;
use crate::wire::frame::packet::PrefixFormat;
use crate::wire::frame::queue::Format;

/// How a connection is made.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ConnectionOptions {
    /// Bytes of header text.
    pub max_header: u64,
    /// Levels of nesting in a received header.
    pub max_depth: u32,
    /// Bytes of a body or a packet that is received into memory.
    pub max_body: u64,
    /// Bytes that are accepted and not written.
    pub max_queue: u64,
    /// How its messages look.
    pub format: Format,
    /// Nothing is read beyond the message at hand, so that the descriptor can be handed on
    /// after any of them. Then nothing is taken in while a send waits, either.
    pub exact: bool,
    /// One thread may send while another receives: neither direction serves the other.
    pub duplex: bool,
    /// TCP_NODELAY is left alone.
    pub as_is: bool,
    /// Keepalive probes of tcp(7) are switched on.
    pub keepalive: bool,
    /// Asked before each wait and after each signal.
    pub interrupted: Option<Hook>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            max_header: limits::MAX_HEADER,
            max_depth: limits::MAX_DEPTH,
            max_body: limits::MAX_BODY,
            max_queue: limits::MAX_QUEUE,
            format: Format::Frames,
            exact: false,
            duplex: false,
            as_is: false,
            keepalive: false,
            interrupted: None,
        }
    }
}

impl<'fd> From<Duplex<'fd>> for Ends<'fd> {
    fn from(duplex: Duplex<'fd>) -> Ends<'fd> {
        Ends::Borrowed(Some(duplex.reader), Some(duplex.writer))
    }
}

/// A conversation: messages, bodies in pieces, calls, commands and files, one after the
/// other, over the same descriptors.
///
/// Messages lose nothing: after [`ErrorKind::TimedOut`] and [`ErrorKind::Canceled`] a receive
/// or a send can be called again. Exchanges (calls, commands, files) are whole, or break the
/// connection: then everything but [`state`](Self::state) and [`unread`](Self::unread) is
/// [`ErrorKind::Broken`].
#[derive(Debug)]
pub struct Connection<'fd> {
    pub(crate) receiving: Receiving<'fd>,
    pub(crate) sending: Sending<'fd>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) is_duplex: bool,
    max_body: u64,
    /// How many requests of the library's have gone out.
    pub(super) requests: u64,
    /// What the peer has to answer before anything else: see `ops/auth/connection.rs`.
    pub(crate) challenge: Option<Challenge>,
    /// Whether the peer repeats ids, once it has answered.
    pub(super) echoes: Option<bool>,
    /// Closed last: an abort uses them.
    owned: [Option<OwnedFd>; 2],
}

/// What a connection is about to do.
#[derive(Clone, Debug)]
pub struct State {
    /// What broke it, or what ended its sending.
    pub broken: Option<Error>,
    /// This side has ended its direction.
    pub ended: bool,
    /// The peer has ended its own.
    pub peer_ended: bool,
    /// What to poll the descriptors for, reading and writing.
    pub events: [PollFlags; 2],
    /// Bytes of a body that were not read.
    pub to_receive: u64,
    /// Bytes of a body that were announced and not given.
    pub to_send: u64,
    /// Bytes that were accepted and not written.
    pub queued: u64,
}

impl<'fd> Connection<'fd> {
    /// Makes a connection of descriptors. A TCP socket gets TCP_NODELAY, which stays; nothing
    /// else of a borrowed descriptor is changed.
    pub fn new(ends: impl Into<Ends<'fd>>, options: ConnectionOptions) -> Result<Connection<'fd>> {
        let (fds, owned) = ends.into().lend();
        for fd in fds.iter().flatten() {
            prepare(*fd, &options)?;
        }
        let interrupt = Arc::new(Interrupt::for_descriptors(options.interrupted, fds)?);
        let prefix = match options.format {
            Format::Frames => PrefixFormat::default(),
            Format::Packets(prefix) => prefix,
        };
        let limits = Limits {
            max_header: options.max_header,
            max_depth: options.max_depth,
            max_body: options.max_body,
            prefix,
        };
        let ConnectionOptions { max_header, max_queue, format, exact, .. } = options;
        Ok(Connection {
            receiving: Receiving::new(fds[0], &interrupt, limits, format, exact),
            sending: Sending::new(fds[1], &interrupt, format, max_header, max_queue),
            shared: Arc::new(Shared::new(interrupt)),
            is_duplex: options.duplex,
            max_body: options.max_body,
            requests: 0,
            echoes: None,
            challenge: None,
            owned,
        })
    }

    /// The same connection, which closes these descriptors: they are those that it was made of.
    pub(crate) fn owning(
        mut self,
        reader: Option<OwnedFd>,
        writer: Option<OwnedFd>,
    ) -> Connection<'fd> {
        self.owned = [reader, writer];
        self
    }

    /// The numbers of its descriptors, to read from and to write to; -1 is none.
    pub(crate) fn descriptors(&self) -> [i32; 2] {
        let number = |fd: Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
        [number(self.receiving.fd()), number(self.sending.fd())]
    }

    /// What ends its waits from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle::new(&self.shared)
    }

    /// Bytes of a body that is received into memory.
    pub(crate) fn max_body(&self) -> u64 {
        self.max_body
    }

    /// What ends its waits, for a feature that waits for other descriptors as well.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What it is about to do. It never fails.
    pub fn state(&self) -> State {
        let queued = self.sending.queued() as u64;
        let reads = self.receiving.fd().is_some() && !self.receiving.is_over();
        let writes = queued > 0 && self.sending.failure().is_none();
        let flag = |flag, is_set| if is_set { flag } else { PollFlags::empty() };
        State {
            broken: self.shared.cause().or_else(|| self.sending.failure().cloned()),
            ended: self.sending.has_ended(),
            peer_ended: self.receiving.has_ended(),
            events: [flag(PollFlags::IN, reads), flag(PollFlags::OUT, writes)],
            to_receive: self.receiving.left(),
            to_send: self.sending.to_send(),
            queued,
        }
    }

    /// Gives up receiving for good, and returns what was read ahead: the next part of the
    /// stream, for whoever goes on with the descriptor.
    pub fn unread(&mut self) -> Result<&[u8]> {
        self.receiving.unread()
    }

    /// Takes the descriptors that it owns out of it: they are closed with what is returned.
    pub(crate) fn take_owned(&mut self) -> [Option<OwnedFd>; 2] {
        std::mem::take(&mut self.owned)
    }

    /// Writes what is queued and ends this direction. `linger` drains the other one until the
    /// peer has ended it, 256 KiB at most: a close with unread input would take the last reply
    /// from the peer.
    pub fn end(&mut self, linger: bool, timeout: impl Into<Time>) -> Result<()> {
        // For both of its parts.
        let mut time = Time::from(timeout.into().patience());
        if linger {
            self.receiving.check_drain()?;
        }
        self.send_half().end(time)?;
        if linger {
            self.receiving.drain(limits::LINGER, &mut time)?;
        }
        Ok(())
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// Checks a descriptor, and sets the options of a socket.
fn prepare(fd: BorrowedFd<'_>, options: &ConnectionOptions) -> Result<()> {
    let kind = match sockopt::socket_type(fd) {
        Ok(kind) => kind,
        Err(Errno::NOTSOCK) => return Ok(()),
        Err(errno) => return Err(Error::system("getsockopt", errno)),
    };
    if kind != SocketType::STREAM {
        let detail =
            "a connection needs a stream: a socket of type SOCK_STREAM, a pipe, a terminal";
        return Err(Error::new(ErrorKind::Argument, detail));
    }
    if !options.as_is {
        // It fails on what is not TCP.
        let _ = sockopt::set_tcp_nodelay(fd, true);
    }
    if options.keepalive {
        let set = sockopt::set_socket_keepalive(fd, true);
        set.map_err(|errno| Error::system("setsockopt", errno))?;
    }
    Ok(())
}
