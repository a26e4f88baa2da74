//! One connection of a server: its handshake, its requests and their replies.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::common::Common;
use super::later::{Left, Lent};
use super::log::{Level, add};
use super::served::Audit;
use super::service::{BodyMode, Handled, Request, Serve, Service};
use crate::error::{Error, ErrorKind, Result};
use crate::io::poller::{Interest, is_readable};
use crate::io::stream::address;
use crate::limits;
use crate::ops::exec;
use crate::ops::frame::{Ahead, Buffers, Client, Connection};
use crate::wire::auth::KeyId;
use crate::wire::escape;
use crate::wire::json::header::Header;
use crate::wire::message::OkReply;

/// What happens to a connection next.
#[derive(Clone, Copy)]
pub(super) enum Next {
    /// It waits, until then.
    Wait(Interest, Instant),
    /// It has proved its key.
    Proved,
    /// Its request takes long, and needs a place.
    Run(Lane),
    /// Its handler has the connection, and replies later.
    Later,
    Close,
}

impl Next {
    /// The next turn comes at once, since there is room to write.
    fn at_once(self) -> Next {
        match self {
            Next::Wait(_, due) => Next::Wait(Interest::Both, due),
            next => next,
        }
    }
}

/// A kind of request that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Command,
    Transfer,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Nothing,
    Handshake,
    Request,
    Header,
    Body,
    Rest,
    Room,
    End,
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    TooMany,
    /// The user at its Unix socket.
    User,
}

/// What became of a request.
pub(super) enum Dispatched {
    Served,
    /// Its body has not come yet.
    Incomplete,
    Run(Lane),
    /// It is pending.
    Later,
}

/// A request whose handler has returned and not replied.
pub(super) struct Pending {
    pub(super) lent: Lent,
    pub(super) request: Handed,
}

/// A request that was handed to its handler.
pub(super) struct Handed {
    header: Header,
    /// Bytes that the connection had accepted before.
    accepted: u64,
    pub(super) fd: Option<BorrowedFd<'static>>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub(super) struct Peer {
    /// `None`: a handler has it, or has lost it.
    pub(super) connection: Option<Box<Connection<'static>>>,
    pub(super) key: KeyId,
    pub(super) is_authenticated: bool,
    /// Why its first request is refused.
    pub(super) refused: Option<Refused>,
    /// It has had no request yet.
    pub(super) is_fresh: bool,
    /// It ends, see above.
    pub(super) is_ending: bool,
    /// A request has begun that is not over.
    pub(super) is_open: bool,
    /// Bytes may be left that no event tells of: the next turn comes at once.
    pub(super) holds: bool,
    /// When its turn began, and when it last looked at the clock.
    turn: Instant,
    clock: Instant,
    /// The peer has ended its direction.
    pub(super) has_ended: bool,
    /// A request that was not taken yet, and the length of its body.
    pub(super) ahead: Option<(Header, u64)>,
    pub(super) pending: Option<Box<Pending>>,
    /// Memory for the body of a request.
    body: Vec<u8>,
    /// What is missing for the next step.
    missing: Waits,
    pub(super) waits: Waits,
    /// When the wait began.
    pub(super) since: Instant,
    /// When its time is up, whatever happens until then.
    pub(super) limit: Option<Instant>,
    /// When its time is up if nothing happens.
    pub(super) due: Instant,
    /// Bytes that were read and written, as far as they are counted.
    pub(super) received: u64,
    pub(super) written: u64,
    /// Bytes of the latter that the peer has read, as far as the kernel knows: when the wait for room
    /// began, and when that was last looked at.
    pub(super) read_before: i64,
    pub(super) read: i64,
    /// Events in a row that brought nothing.
    pub(super) fruitless: u8,
    /// What the poller waits for; `None`: it does not know this connection.
    pub(super) armed: Option<Interest>,
    /// Bytes in memory that are counted.
    pub(super) counted: u64,
    /// For the host, if it wants to be told about each request.
    pub(super) audit: Option<Box<Audit>>,
}

impl Peer {
    pub(super) fn new(
        connection: Connection<'static>,
        needs_key: bool,
        refused: Option<Refused>,
        audit: Option<Box<Audit>>,
    ) -> Peer {
        let now = Instant::now();
        Peer {
            connection: Some(Box::new(connection)),
            key: KeyId::default(),
            is_authenticated: !needs_key,
            refused,
            is_fresh: true,
            is_ending: false,
            is_open: false,
            holds: false,
            turn: now,
            clock: now,
            has_ended: false,
            ahead: None,
            pending: None,
            body: Vec::new(),
            missing: Waits::Request,
            waits: Waits::Nothing,
            since: now,
            limit: None,
            due: now,
            received: 0,
            written: 0,
            read_before: 0,
            read: 0,
            fruitless: 0,
            armed: None,
            counted: 0,
            audit,
        }
    }

    /// Is served with these buffers.
    pub(super) fn adopt(&mut self, buffers: Option<Buffers>) {
        if let (Some(connection), Some(buffers)) = (&mut self.connection, buffers) {
            self.body = connection.adopt(buffers);
        }
    }

    /// Gives its buffers back, if they are worth keeping.
    pub(super) fn give_back(&mut self) -> Option<Buffers> {
        let buffers = self.connection.as_mut()?.give_back(std::mem::take(&mut self.body));
        buffers.are_usual().then_some(buffers)
    }

    /// Its descriptor.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'static>> {
        self.connection.as_deref().and_then(Connection::read_fd)
    }

    /// Who it is, for a log line.
    pub(super) fn who(&self) -> Who<'_> {
        Who { fd: self.fd(), key: &self.key }
    }

    /// What it does before the first event: it sends the challenge. Otherwise it waits.
    pub(super) fn begin(&mut self, common: &Common) -> Next {
        if self.is_authenticated {
            return self.wait(common, Instant::now(), Waits::Request, true);
        }
        self.prove(common)
    }

    /// When it last looked at the clock, if it serves requests.
    pub(super) fn clock(&self) -> Option<Instant> {
        (self.is_authenticated && !self.is_ending).then_some(self.clock)
    }

    /// Everything that can be done now, without waiting for the peer. `clock` is the time, if that
    /// is known.
    pub(super) fn turn(&mut self, common: &Common, clock: Option<Instant>) -> Next {
        self.clock = clock.unwrap_or_else(Instant::now);
        if self.is_ending {
            return self.end(common);
        }
        if !self.is_authenticated {
            return self.prove(common);
        }
        self.serve(common).unwrap_or_else(|error| self.failed(common, &error))
    }

    /// Goes on with the handshake.
    fn prove(&mut self, common: &Common) -> Next {
        match self.shake(common) {
            Ok(false) => self.wait(common, Instant::now(), Waits::Handshake, false),
            Ok(true) => {
                if !self.key.as_str().is_empty() {
                    common
                        .log
                        .line(Level::Info, format_args!("{}: has proved its key", self.who()));
                }
                Next::Proved
            }
            Err(error) => {
                add(&common.counts.refused_auth, 1);
                common.log.line(Level::Warning, format_args!("{}: refused: {error}", self.who()));
                // A reset, because of a request behind the answer, would tell the client less.
                self.begin_end(common)
            }
        }
    }

    /// The key is proved. The first request may have come with it; another turn serves that.
    pub(super) fn proved(&mut self, common: &Common, is_one_too_many: bool) -> Next {
        self.refused = self.refused.or(is_one_too_many.then_some(Refused::TooMany));
        self.holds = true;
        self.wait(common, Instant::now(), Waits::Request, true).at_once()
    }

    fn shake(&mut self, common: &Common) -> Result<bool> {
        let access = &common.options.access;
        let (Some(connection), Some(ring)) = (&mut self.connection, &access.ring) else {
            return Err(Error::new(ErrorKind::Key, "there is no key"));
        };
        let shaken = if access.plain {
            connection.auth_server(ring, Duration::ZERO)
        } else {
            connection.seal_server(ring, &access.terms, Duration::ZERO)
        };
        match shaken {
            Ok(key) => {
                (self.key, self.is_authenticated) = (key, true);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Serves the requests that one read brings, and writes their replies together.
    fn serve(&mut self, common: &Common) -> Result<Next> {
        let (mut has_read, mut got) = (self.has_ended, 0);
        self.turn = self.clock;
        loop {
            let connection = self.connection.as_mut().ok_or_else(lost)?;
            if connection.queued() > limits::REPLIES {
                connection.try_flush()?;
                if connection.queued() > limits::REPLIES {
                    return Ok(self.wait(common, Instant::now(), Waits::Room, false));
                }
            }
            // It stays where it is: most requests are served at once.
            let ahead =
                if self.ahead.is_some() { self.ahead.take() } else { self.look_ahead(common)? };
            if let Some((header, body_len)) = ahead {
                match self.dispatch(common, header, body_len)? {
                    Dispatched::Incomplete => self.missing = Waits::Body,
                    next => match self.served(common, &next)? {
                        Some(next) => return Ok(next),
                        None if self.clock.saturating_duration_since(self.turn) >= limits::TURN => {
                            return Ok(self.give_way(common));
                        }
                        None => continue,
                    },
                }
            }
            let holds =
                |peer: &Peer| peer.connection.as_deref().is_some_and(Connection::holds_sealed);
            if has_read {
                // These are for another turn; a reply that waited for room may have read them.
                self.holds = holds(self);
            } else {
                let count = self.read()?;
                got += count;
                has_read = !holds(self) || got >= limits::READ_AHEAD_MAX;
                self.holds = false;
                if count > 0 {
                    continue;
                }
            }
            return self.pause(common, got > 0);
        }
    }

    /// The next request, if its header has come.
    fn look_ahead(&mut self, common: &Common) -> Result<Option<(Header, u64)>> {
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        self.missing = match connection.ahead()? {
            Ahead::Header(header, len) => {
                self.open(common, &header);
                return Ok(Some((header, len)));
            }
            Ahead::Part => Waits::Header,
            Ahead::Rest => Waits::Rest,
            Ahead::Nothing => Waits::Request,
        };
        Ok(None)
    }

    /// Reads once; the number of bytes.
    fn read(&mut self) -> Result<usize> {
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        let got = connection.read_there()?;
        self.has_ended |= got == Some(0);
        Ok(got.unwrap_or(0))
    }

    /// Nothing more can be done at the moment.
    fn pause(&mut self, common: &Common, moved: bool) -> Result<Next> {
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        connection.try_flush()?;
        let is_late = match self.missing {
            Waits::Request => common.has_stopped_for(limits::QUIET) && !self.has_more(common),
            // What one that goes on and on sends is cut anywhere.
            Waits::Header => common.has_stopped_for(common.limits().drain / 2),
            _ => false,
        };
        if self.has_ended || (is_late && !self.is_fresh) {
            return Ok(self.begin_end(common));
        }
        let next = self.wait(common, self.clock, self.missing, moved);
        Ok(if self.holds { next.at_once() } else { next })
    }

    /// Others come first; its next turn is behind theirs. One that goes on and on after a stop is
    /// ended.
    pub(super) fn give_way(&mut self, common: &Common) -> Next {
        if common.has_stopped_for(common.limits().drain / 2) {
            return self.begin_end(common);
        }
        self.holds = true;
        self.wait(common, Instant::now(), Waits::Request, true).at_once()
    }

    /// Whether requests that have come were not read yet, after a stop. One that goes on and on has
    /// half of the time that is left.
    fn has_more(&self, common: &Common) -> bool {
        !common.has_stopped_for(common.limits().drain / 2)
            && (self.holds || self.fd().is_some_and(is_readable))
    }

    /// After a request, or before one that takes long.
    fn served(&mut self, common: &Common, dispatched: &Dispatched) -> Result<Option<Next>> {
        if matches!(dispatched, Dispatched::Later | Dispatched::Run(_)) {
            // Nobody knows for how long.
            self.body = Vec::new();
        }
        if matches!(dispatched, Dispatched::Later) {
            return Ok(Some(Next::Later));
        }
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        if let Dispatched::Run(lane) = dispatched {
            connection.try_flush()?;
            let queued = connection.queued();
            self.count_bytes(common);
            return Ok(Some(match queued {
                0 => Next::Run(*lane),
                _ => self.wait(common, Instant::now(), Waits::Room, false),
            }));
        }
        // What it waits for next begins anew.
        (self.waits, self.is_fresh) = (Waits::Nothing, false);
        if self.refused.is_some() || self.is_ending || connection.to_receive() > limits::REFUSED {
            return Ok(Some(self.begin_end(common)));
        }
        Ok(None)
    }

    /// Serves the request that is ahead.
    fn dispatch(&mut self, common: &Common, header: Header, body_len: u64) -> Result<Dispatched> {
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        match self.refused {
            None => {}
            Some(Refused::TooMany) => {
                add(&common.counts.refused_limit, 1);
                return self.refuse(common, &header, ErrorKind::Busy, "too many connections");
            }
            Some(Refused::User) => {
                let detail = "this user may not use the server";
                return self.refuse(common, &header, ErrorKind::Denied, detail);
            }
        }
        let cmd = match header.cmd() {
            Ok(cmd) => cmd,
            Err(error) => return self.refuse(common, &header, error.kind(), error.detail()),
        };
        match common.services().get(&cmd) {
            None => {
                let unknown = format!("{} is not served here", crate::wire::quote(cmd.as_bytes()));
                return self.refuse(common, &header, ErrorKind::Unsupported, &unknown);
            }
            Some(service @ (Service::Command | Service::File)) => {
                let is_command = matches!(service, Service::Command);
                self.ahead = Some((header, body_len));
                let lane = if is_command { Lane::Command } else { Lane::Transfer };
                return Ok(Dispatched::Run(lane));
            }
            Some(Service::Hello) => {
                connection.take_header()?;
                let hello = &common.services().hello;
                connection.queue_reply(&OkReply::to(&header, Some(hello))?)?;
                self.conclude(common, None);
            }
            Some(Service::Handler(handler, BodyMode::Streamed)) => {
                connection.take_header()?;
                return self.handle(common, &**handler, header, &[]);
            }
            Some(Service::Handler(handler, BodyMode::Whole)) => {
                if body_len > common.options.limits.max_body {
                    let detail = format!("a body of {body_len} bytes");
                    return self.refuse(common, &header, ErrorKind::TooBig, &detail);
                }
                let Some(start) = connection.body_there(&mut self.body)? else {
                    self.ahead = Some((header, body_len));
                    return Ok(Dispatched::Incomplete);
                };
                let body = std::mem::take(&mut self.body);
                let dispatched = self.handle(common, &**handler, header, &body[start..]);
                self.body = body;
                return dispatched;
            }
        }
        Ok(Dispatched::Served)
    }

    /// Passes a request to its handler, and makes sure that it gets a reply.
    fn handle(
        &mut self,
        common: &Common,
        handler: &dyn Serve,
        header: Header,
        body: &[u8],
    ) -> Result<Dispatched> {
        let mut connection = self.connection.take().ok_or_else(lost)?;
        if handler.may_keep() && connection.queued() > 0 {
            // The replies before it do not wait for the host.
            connection.try_flush()?;
        }
        let (accepted, fd) = (connection.accepted(), connection.read_fd());
        let counted = common.count_request();
        let client = fd.map_or_else(Client::default, Client::at);
        let key = common.options.access.ring.is_some().then_some(&self.key);
        let asked = Request { header: &header, body, client: client.with_key(key) };
        let outcome = handler.serve(connection, &asked);
        drop(counted);
        let left = match outcome {
            Handled::Now(left) => left,
            Handled::Later(lent) => {
                let Some(back) = lent.left() else {
                    let request = Handed { header, accepted, fd };
                    self.pending = Some(Box::new(Pending { lent, request }));
                    return Ok(Dispatched::Later);
                };
                back
            }
        };
        self.answer(common, &header, accepted, left)?;
        let before = std::mem::replace(&mut self.clock, Instant::now());
        // The replies before it do not wait for a handler that takes long.
        if let Some(connection) = &mut self.connection
            && self.clock.saturating_duration_since(before) >= SLOW
        {
            connection.try_flush()?;
        }
        Ok(Dispatched::Served)
    }

    /// Its handler has replied, and given the connection back.
    pub(super) fn resume(&mut self, common: &Common, request: &Handed, left: Left) -> Next {
        self.try_resume(common, request, left).unwrap_or_else(|error| self.failed(common, &error))
    }

    fn try_resume(&mut self, common: &Common, request: &Handed, left: Left) -> Result<Next> {
        self.answer(common, &request.header, request.accepted, left)?;
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        connection.try_flush()?;
        if let Some(next) = self.served(common, &Dispatched::Served)? {
            return Ok(next);
        }
        let next = self.wait(common, Instant::now(), Waits::Request, true);
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        self.holds = connection.buffered() > 0 || connection.holds_sealed() || self.has_ended;
        Ok(if self.holds { next.at_once() } else { next })
    }

    /// Makes sure that a request gets a reply: none was sent if as many bytes are `accepted` as
    /// before.
    fn answer(
        &mut self,
        common: &Common,
        header: &Header,
        accepted: u64,
        left: Left,
    ) -> Result<()> {
        self.connection = left.connection;
        let Some(connection) = self.connection.as_mut() else {
            self.conclude(common, left.outcome.err().map(|error| error.kind()));
            return Err(lost());
        };
        let is_answered = connection.accepted() != accepted;
        let outcome = left.outcome;
        let outcome = outcome.and_then(|()| match connection.to_send() {
            0 => Ok(()),
            left => {
                Err(Error::new(ErrorKind::State, format!("{left} bytes of a reply are missing")))
            }
        });
        let error = outcome.as_ref().err().map(Error::kind);
        match outcome {
            Ok(()) if is_answered => {}
            Ok(()) => connection.queue_reply(&OkReply::to(header, None)?)?,
            Err(error) => {
                let (kind, text) = (error.kind(), left.message.unwrap_or(error.to_string()));
                if is_answered {
                    // Whoever waits for more would wait for ever.
                    self.is_ending = true;
                } else {
                    connection.reply_error(header.text(), kind, Some(&text), Duration::ZERO)?;
                }
                common.log.line(Level::Debug, format_args!("{}: {text}", self.who()));
            }
        }
        self.conclude(common, error);
        Ok(())
    }

    /// Refuses the request that is ahead. Its body is dropped.
    pub(super) fn refuse(
        &mut self,
        common: &Common,
        header: &Header,
        kind: ErrorKind,
        detail: &str,
    ) -> Result<Dispatched> {
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        connection.take_header()?;
        let text = Error::new(kind, detail.to_owned()).to_string();
        let replied = connection.reply_error(header.text(), kind, Some(&text), Duration::ZERO);
        self.conclude(common, Some(kind));
        replied?;
        Ok(Dispatched::Served)
    }

    /// Serves the request that is ahead and takes long.
    pub(super) fn run(&mut self, common: &Common, lane: Lane) {
        let served = self.try_run(common, lane);
        let error = served.as_ref().map_or_else(Some, Option::as_ref);
        self.conclude(common, error.map(Error::kind));
        if let Err(error) = served {
            if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Stalled) {
                add(&common.counts.timed_out, 1);
            }
            common.log.line(Level::Debug, format_args!("{}: {error}", self.who()));
            self.is_ending = true;
        }
        (self.waits, self.is_fresh) = (Waits::Nothing, false);
    }

    fn try_run(&mut self, common: &Common, lane: Lane) -> Result<Option<Error>> {
        let (Some((header, _)), Some(connection)) = (self.ahead.take(), &mut self.connection)
        else {
            return Err(lost());
        };
        connection.take_header()?;
        match lane {
            Lane::Command => {
                let noted = Mutex::default();
                let wanted = self.audit.is_some().then_some(&noted);
                let services = common.services();
                let ran = services.run_command(connection, &header, wanted);
                let noted = noted.into_inner().unwrap_or_else(PoisonError::into_inner);
                let (reply, error) = match ran {
                    Ok(exec::Served::Ran(report)) => (Some(report.reply), Ok(None)),
                    Ok(exec::Served::SpawnFailed(error) | exec::Served::Refused(error)) => {
                        (None, Ok(Some(error)))
                    }
                    Err(error) => (None, Err(error)),
                };
                self.note(noted, reply);
                error
            }
            Lane::Transfer => {
                common.services().serve_file(connection, &header, common.limits().stall)
            }
        }
    }

    /// There is no thread for the request that is ahead.
    pub(super) fn refuse_run(&mut self, common: &Common) {
        let Some((header, _)) = self.ahead.take() else { return };
        add(&common.counts.refused_limit, 1);
        let refused = self.refuse(common, &header, ErrorKind::Busy, "there is no thread for it");
        self.is_ending |= refused.is_err();
    }

    /// The connection cannot go on. If the peer can still be told why, it is.
    fn failed(&mut self, common: &Common, error: &Error) -> Next {
        if error.kind() == ErrorKind::NoMemory
            && let Some((header, _)) = self.ahead.take()
        {
            add(&common.counts.refused_limit, 1);
            common.log.line(Level::Error, format_args!("{}: {error}", self.who()));
            let refused =
                self.refuse(common, &header, ErrorKind::Busy, "there is no memory for it");
            return refused.map_or(Next::Close, |_| self.begin_end(common));
        }
        let was_open = self.is_open;
        self.conclude(common, Some(error.kind()));
        let is_malformed = matches!(
            error.kind(),
            ErrorKind::BadLength | ErrorKind::TooBig | ErrorKind::BadJson | ErrorKind::BadField
        );
        let (level, what) =
            if is_malformed { (Level::Warning, "refused") } else { (Level::Debug, "closed") };
        common.log.line(level, format_args!("{}: {what}: {error}", self.who()));
        let (Some(connection), true) = (&mut self.connection, self.is_authenticated) else {
            return Next::Close;
        };
        if is_malformed && !self.is_ending {
            add(&common.counts.errors, u64::from(!was_open));
            if connection.put_error(error).is_err() {
                return Next::Close;
            }
        } else if !matches!(error.kind(), ErrorKind::Truncated | ErrorKind::Broken)
            || self.is_ending
        {
            return Next::Close;
        }
        self.begin_end(common)
    }
}

/// The address of a peer and its key.
pub(super) struct Who<'a> {
    fd: Option<BorrowedFd<'static>>,
    key: &'a KeyId,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.fd.and_then(|fd| address::address_of(fd, true).ok());
        f.write_str(&address.map_or("a client".into(), |address| escape(&address)))?;
        match self.key.as_str() {
            "" => Ok(()),
            key => write!(f, " ({key})"),
        }
    }
}

/// A handler that takes longer is slow.
const SLOW: Duration = Duration::from_millis(1);

fn lost() -> Error {
    Error::new(ErrorKind::State, "the connection was lost")
}
