//! A conversation over one or two descriptors: bytes that were read ahead, queued bytes, and
//! whether the stream is in sync.
//!
//! | state | how it is reached | what is left |
//! |---|---|---|
//! | in sync | at first, and after every message and every whole exchange | everything |
//! | in a handshake | a handshake that was not complete in its time | the handshake |
//! | a body in pieces | a header was received, or a message was begun | the other direction; this one goes on with the body |
//! | ended | [`end`](Connection::end), or the peer's end of stream | the other direction |
//! | cannot send | a write failed | receiving, since the peer may have sent before |
//! | broken | a framing error, end of stream inside a message, an exchange that ended before its reply | [`state`](Connection::state), [`unread`](Connection::unread), abort |
//! | aborted | [`Handle::abort`] | the same |
//! | forked | the process is a child of the one that made it | unread |

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};

use super::receiving::Receiving;
use super::sending::Sending;
use super::shared::{Handle, Held, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Time;
use crate::io::stream::ends::Ends;
use crate::io::wait::{Hook, Interrupt};
use crate::limits;
use crate::ops::Duplex;
use crate::wire::auth::{Challenge, Key, KeyId};
use crate::wire::frame::decoder::Limits;
use crate::wire::frame::packet::PrefixFormat;
use crate::wire::frame::queue::Format;
use crate::wire::seal::handshake::{Handshake, Session};
use crate::wire::seal::terms::Suite;

/// Options of a connection.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ConnectionOptions {
    /// Bytes of header text.
    pub max_header: u64,
    /// Levels of nesting in a received header.
    pub max_depth: u32,
    /// Bytes of a body or a packet that is received into memory.
    pub max_body: u64,
    /// The most bytes that may be accepted and not yet written.
    pub max_queue: u64,
    /// The format of its messages.
    pub format: Format,
    /// No byte is read beyond the current message, so that the descriptor can be passed on after
    /// each message. Then a send that waits does not read either.
    pub exact: bool,
    /// One thread may send while another receives. Then a receive does not write, and a send
    /// does not read.
    pub duplex: bool,
    /// TCP_NODELAY is not changed.
    pub as_is: bool,
    /// Keepalive probes of tcp(7) are enabled.
    pub keepalive: bool,
    /// For a server: the longest wait for a byte to come or to be taken, whatever the timeout of
    /// the call is. A message is queued without a wait as long as the queue has room.
    pub stall: Option<Duration>,
    /// Called before each wait and after each signal.
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
            stall: None,
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
/// After [`ErrorKind::TimedOut`] and [`ErrorKind::Canceled`] no message is lost: call the
/// receive or send again. An exchange (call, command, file) that fails halfway breaks the
/// connection: then everything but [`state`](Self::state) and [`unread`](Self::unread) is
/// [`ErrorKind::Broken`].
#[derive(Debug)]
pub struct Connection<'fd> {
    pub(crate) receiving: Receiving<'fd>,
    pub(crate) sending: Sending<'fd>,
    pub(crate) shared: Held,
    pub(crate) is_duplex: bool,
    pub(super) max_body: u64,
    /// The number of requests that the library has sent.
    pub(super) requests: u64,
    /// The challenge that the peer must answer first: see `ops/auth/connection.rs`.
    pub(crate) challenge: Option<Challenge>,
    /// The handshake of a sealed connection, until it is complete: see `ops/auth/sealed.rs`.
    pub(crate) handshake: Option<Box<Pending>>,
    /// What the handshake has proved.
    pub(crate) proof: Option<Box<Proof>>,
    /// Whether the peer repeats ids; known once it has replied, or has done a handshake.
    pub(crate) echoes: Option<bool>,
    /// It has repeated one.
    pub(super) has_repeated_id: bool,
    /// Closed last: an abort uses them.
    pub(super) owned: [Option<OwnedFd>; 2],
}

/// A handshake that is not complete.
#[derive(Debug)]
pub(crate) struct Pending {
    pub machine: Handshake,
    /// The key that it uses; a server knows it once it has the id.
    pub key: Key,
    /// The peer has taken a step.
    pub has_begun: bool,
}

/// What a handshake has proved.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The id of the key.
    pub key_id: KeyId,
    /// For a sealed connection: how its records are sealed, and the handshake's hash. The hash is
    /// the same at both ends of this connection, and differs from that of any other one.
    pub seal: Option<(Suite, [u8; 32])>,
}

/// The state of a connection.
#[derive(Clone, Debug)]
pub struct State {
    /// Everything that is sent and received is sealed.
    pub sealed: bool,
    /// The failure that broke it or ended its sending.
    pub broken: Option<Error>,
    /// This side has ended its direction.
    pub ended: bool,
    /// The peer has ended its direction.
    pub peer_ended: bool,
    /// The events to poll the descriptors for, to read and to write.
    pub events: [PollFlags; 2],
    /// Bytes of a received body that were not read yet.
    pub to_receive: u64,
    /// Bytes of a body in pieces that were not passed to a write yet.
    pub to_send: u64,
    /// Bytes that were accepted and not written.
    pub queued: u64,
}

impl<'fd> Connection<'fd> {
    /// Makes a connection of descriptors. It sets TCP_NODELAY on a TCP socket and leaves it set;
    /// nothing else of a borrowed descriptor is changed.
    pub fn new(
        ends: impl Into<Ends<'fd>>,
        mut options: ConnectionOptions,
    ) -> Result<Connection<'fd>> {
        let (fds, owned) = ends.into().lend();
        let [reader, writer] = fds;
        let number = |fd: &BorrowedFd<'_>| fd.as_raw_fd();
        let other = writer.filter(|fd| reader.as_ref().map(number) != Some(number(fd)));
        for fd in reader.into_iter().chain(other) {
            prepare(fd, &options)?;
        }
        let interrupt = Arc::new(Interrupt::for_descriptors(options.interrupted.take(), fds)?);
        let shared = Held::new(interrupt);
        Ok(Connection { owned, ..Connection::assemble(fds, shared, &options) })
    }

    /// A connection that nothing was received or sent on.
    pub(super) fn assemble(
        fds: [Option<BorrowedFd<'static>>; 2],
        shared: Held,
        options: &ConnectionOptions,
    ) -> Connection<'fd> {
        let ConnectionOptions { max_header, max_queue, format, exact, stall, .. } = *options;
        let limits = Limits {
            max_header,
            max_depth: options.max_depth,
            max_body: options.max_body,
            prefix: match format {
                Format::Frames => PrefixFormat::default(),
                Format::Packets(prefix) => prefix,
            },
        };
        // A server's own limit for requests does not limit its replies.
        let max_header =
            if stall.is_some() { max_header.max(limits::MAX_HEADER) } else { max_header };
        let interrupt = shared.interrupt();
        Connection {
            receiving: Receiving::new(fds[0], interrupt, limits, format, exact, stall),
            sending: Sending::new(fds[1], interrupt, format, max_header, max_queue, stall),
            shared,
            is_duplex: options.duplex,
            max_body: options.max_body,
            requests: 0,
            echoes: None,
            has_repeated_id: false,
            challenge: None,
            handshake: None,
            proof: None,
            owned: [None, None],
        }
    }

    /// Gives the connection the descriptors that it was made of, to close them.
    pub(crate) fn owning(
        mut self,
        reader: Option<OwnedFd>,
        writer: Option<OwnedFd>,
    ) -> Connection<'fd> {
        self.owned = [reader, writer];
        self
    }

    /// The numbers of its read and write descriptors; -1 is none.
    pub(crate) fn descriptors(&self) -> [i32; 2] {
        let number = |fd: Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
        [number(self.receiving.fd()), number(self.sending.fd())]
    }

    /// The handle to abort it from another thread or a signal handler.
    pub fn handle(&self) -> Handle {
        Handle::new(&self.shared)
    }

    /// Bytes of a body that is received into memory.
    pub(crate) fn max_body(&self) -> u64 {
        self.max_body
    }

    /// Its interrupt, for a feature that waits for other descriptors as well.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Its state. It never fails.
    pub fn state(&self) -> State {
        let queued = self.sending.queued() as u64;
        let reads = self.receiving.fd().is_some() && !self.receiving.is_over();
        let writes = queued > 0 && self.sending.failure().is_none();
        let flag = |flag, is_set| if is_set { flag } else { PollFlags::empty() };
        State {
            sealed: self.receiving.is_sealed(),
            broken: self.shared.cause().or_else(|| self.sending.failure().cloned()),
            ended: self.sending.has_ended(),
            peer_ended: self.receiving.has_ended(),
            events: [flag(PollFlags::IN, reads), flag(PollFlags::OUT, writes)],
            to_receive: self.receiving.left(),
            to_send: self.sending.to_send(),
            queued,
        }
    }

    /// What its handshake has proved.
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.as_deref()
    }

    /// From now on everything is sealed. `first` is sent before that as it is.
    pub(crate) fn seal(&mut self, session: Session, first: Vec<u8>) -> Result<()> {
        let Session { sealer, mut opener, hash, key_id, suite } = session;
        self.receiving.pass_on(&mut opener)?;
        let is_dead = Arc::default();
        self.receiving.seal(opener, &is_dead);
        self.sending.seal(sealer, first, &is_dead);
        self.proof = Some(Box::new(Proof { key_id, seal: Some((suite, hash)) }));
        Ok(())
    }

    /// Stops receiving for good, and returns the bytes that were read ahead. They are the next
    /// part of the stream, for code that continues to read from the descriptor.
    /// [`ErrorKind::State`]: the connection is sealed.
    pub fn unread(&mut self) -> Result<&[u8]> {
        self.receiving.unread()
    }

    /// Takes out the descriptors that it owns. Dropping the returned value closes them.
    pub(crate) fn take_owned(&mut self) -> [Option<OwnedFd>; 2] {
        std::mem::take(&mut self.owned)
    }

    /// Writes all queued bytes and ends this direction. `linger` then reads and drops at most
    /// 256 KiB until the peer has ended its direction: if a socket is closed with unread input,
    /// the peer may lose the last reply.
    pub fn end(&mut self, linger: bool, timeout: impl Into<Time>) -> Result<()> {
        // The time covers both parts.
        let mut time = Time::from(timeout.into().time_limit());
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
        // It fails on a socket that is not TCP.
        let _ = sockopt::set_tcp_nodelay(fd, true);
    }
    if options.keepalive {
        let set = sockopt::set_socket_keepalive(fd, true);
        set.map_err(|errno| Error::system("setsockopt", errno))?;
    }
    Ok(())
}
