//! A command that runs at the peer: the state of its exchange.
//!
//! | State    | How it is reached                     | What the calls do                      |
//! |----------|---------------------------------------|----------------------------------------|
//! | running  | the request was accepted              | send input and control, take output    |
//! | replied  | the reply was received                | give the rest of the output; what was  |
//! |          |                                       | not sent is dropped                    |
//! | ended    | its output was read, and the rest of  | report the reply, or the error reply   |
//! |          | a frame that has begun was sent       |                                        |
//! | failed   | an error that no later call mends     | report it again; the connection is     |
//! |          |                                       | broken                                 |
//!
//! Each call loops until it has something to report. A step sends as much as is accepted and
//! takes one frame; if there was nothing to do, the call waits.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::client::{Request, written};
use super::handler::Stream;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time};
use crate::io::wait::poll;
use crate::limits;
use crate::ops::frame::Connection;
use crate::wire::json::header::Header;
use crate::wire::memory::reserve;
use crate::wire::message::exec::{self, ClientFrame, ExecReply, ExecRequest};
use crate::wire::message::{Id, ReplyKind, read_reply};

/// A command that runs at the peer. Every call gets the connection that it was started on, which
/// nothing else may use until the command has ended.
#[derive(Debug)]
pub struct Running {
    id: Id,
    /// The position in the sent stream of the first frame after the request.
    behind: u64,
    /// The input has ended.
    input_ended: bool,
    /// The next piece of input.
    piece: Vec<u8>,
    /// The current body is output; this many bytes at its end are standard error.
    stderr_len: u64,
    /// Output that was read to be copied and is not written yet.
    held: Held,
    /// Bytes of output that were received, by [`Stream`].
    received: [u64; 2],
    /// Something was received.
    answered: bool,
    /// The reply in the last frame.
    end: Option<Result<ExecReply>>,
    /// The error that no call can continue after.
    failure: Option<Error>,
}

impl Running {
    /// Accepts `request` with `stream`; the calls that follow send the rest of it.
    /// [`ErrorKind::TimedOut`]: it was not accepted, because the messages queued before it could
    /// not be written.
    pub fn start(
        connection: &mut Connection<'_>,
        request: &Request<'_>,
        timeout: impl Into<Time>,
    ) -> Result<Running> {
        let options = request.checked_options()?;
        let id = connection.next_id();
        let input_ended = options.stdin_size.is_some();
        let options = ExecRequest { id: Some(id.clone()), stream: Some(true), ..options };
        let (header, front) = written(options, request.command, connection)?;
        let mut body = Vec::new();
        reserve(&mut body, front.len() + request.input.len())?;
        body.extend_from_slice(&front);
        body.extend_from_slice(request.input);
        connection.shared().new_control()?;
        connection.exchange(|connection| {
            if !connection.takes_body() {
                connection.flush(timeout)?;
            }
            tolerate(connection.put_body(&header, &mut body))
        })?;
        Ok(Running {
            id,
            behind: connection.accepted(),
            input_ended,
            piece: Vec::new(),
            stderr_len: 0,
            held: Held::default(),
            received: [0; 2],
            answered: false,
            end: None,
            failure: None,
        })
    }

    /// Reads 1 to `buf.len()` bytes of output as they are received. `None`: the command has
    /// ended, all of its output was read, and [`reply`](Self::reply) returns its result.
    ///
    /// [`ErrorKind::TimedOut`]: nothing was received in time, and the call can be made again;
    /// zero does not wait. An error reply is an error of a remote kind. A stream that ends
    /// before the reply is [`ErrorKind::Truncated`], or [`ErrorKind::Closed`] if nothing was
    /// received at all. A reply that does not match the received output, and a frame of another
    /// request, is [`ErrorKind::BadReply`].
    pub fn read(
        &mut self,
        connection: &mut Connection<'_>,
        buf: &mut [u8],
        timeout: impl Into<Time>,
    ) -> Result<Option<(Stream, usize)>> {
        if buf.is_empty() {
            return Err(Error::new(ErrorKind::Argument, "a buffer of 0 bytes"));
        }
        let mut turns = Turns::new(timeout);
        loop {
            let is_busy = self.advance(connection)?;
            if let Some((stream, held)) = self.held.bytes() {
                let length = held.len().min(buf.len());
                buf[..length].copy_from_slice(&held[..length]);
                self.held.start += length;
                return Ok(Some((stream, length)));
            }
            if let Some(got) = self.read_output(connection, buf)? {
                return Ok(Some(got));
            }
            if self.has_ended(connection)? {
                return Ok(None);
            }
            self.next_turn(connection, &mut turns, is_busy)?;
        }
    }

    /// Sends input: 1 to `bytes.len()` bytes are accepted, and their number is returned. 0:
    /// output must be read first, because the peer may accept no input before; or the command
    /// has ended, as [`read`](Self::read) will report.
    ///
    /// [`ErrorKind::TimedOut`]: nothing was accepted in time. [`ErrorKind::State`]: the input
    /// has ended, or was sent with the request. It is no error if the command does not read its
    /// input.
    pub fn write(
        &mut self,
        connection: &mut Connection<'_>,
        bytes: &[u8],
        timeout: impl Into<Time>,
    ) -> Result<usize> {
        if self.input_ended {
            return Err(Error::new(ErrorKind::State, "the input has ended"));
        }
        let mut turns = Turns::new(timeout);
        loop {
            let is_busy = self.advance(connection)?;
            if self.end.is_some() || bytes.is_empty() {
                return Ok(0);
            }
            if connection.takes_body() {
                let length = bytes.len().min(INPUT_STEP);
                self.piece.clear();
                reserve(&mut self.piece, length)?;
                self.piece.extend_from_slice(&bytes[..length]);
                self.send_piece(connection)?;
                return Ok(length);
            }
            if self.has_output(connection) {
                return Ok(0);
            }
            self.next_turn(connection, &mut turns, is_busy)?;
        }
    }

    /// Ends the input, and waits until all of it was sent, output must be read first, or the
    /// command has ended. A second call only waits.
    ///
    /// [`ErrorKind::TimedOut`]: a part is not sent yet; the next calls send it.
    pub fn end_input(
        &mut self,
        connection: &mut Connection<'_>,
        timeout: impl Into<Time>,
    ) -> Result<()> {
        let mut turns = Turns::new(timeout);
        self.put_end_of_input(connection)?;
        loop {
            let is_busy = self.advance(connection)?;
            if queued(connection) == 0 || self.has_output(connection) || self.end.is_some() {
                return Ok(());
            }
            self.next_turn(connection, &mut turns, is_busy)?;
        }
    }

    /// Ends the input, drops the unread output, and waits for the end: then
    /// [`reply`](Self::reply) returns the command's result.
    pub fn finish(
        &mut self,
        connection: &mut Connection<'_>,
        timeout: impl Into<Time>,
    ) -> Result<&ExecReply> {
        let mut turns = Turns::new(timeout);
        self.put_end_of_input(connection)?;
        loop {
            let is_busy = self.advance(connection)?;
            let is_read = self.hold_output(connection)?;
            self.held.start = self.held.end;
            if self.has_ended(connection)? {
                break;
            }
            self.next_turn(connection, &mut turns, is_busy || is_read)?;
        }
        self.reply().ok_or_else(|| Error::new(ErrorKind::State, "the command has not ended"))
    }

    /// The command's result, once a call has reported its end. Its totals are those of the
    /// received output, unless it is `truncated`.
    pub fn reply(&self) -> Option<&ExecReply> {
        match &self.end {
            Some(Ok(reply)) if self.failure.is_none() => Some(reply),
            _ => None,
        }
    }

    /// The events to wait for before a call can do something: `OUT` of the write descriptor,
    /// `IN` of the read descriptor. Any call sends signals and sizes.
    pub fn events(&self, connection: &Connection<'_>) -> PollFlags {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.expects_more(connection));
        events.set(PollFlags::OUT, queued(connection) > 0);
        events
    }

    /// Whether the exchange is over and the connection free for the next one, or broken.
    pub fn is_over(&self, connection: &Connection<'_>) -> bool {
        self.failure.is_some() || !matches!(self.has_ended(connection), Ok(false))
    }

    /// Whether the command has no end to report: it was refused, or the connection is broken,
    /// aborted or belongs to another process.
    pub fn is_lost(&self, connection: &Connection<'_>) -> bool {
        self.has_ended(connection).is_err() || connection.shared().check().is_err()
    }

    /// Gives up the command. If its exchange is not over, this breaks the connection: the rest
    /// of the exchange must not be taken for another reply.
    pub fn abandon(&self, connection: &mut Connection<'_>) {
        if !self.is_over(connection) {
            let error = Error::new(ErrorKind::State, "a running command was given up");
            connection.shared().break_by(&error);
        }
    }

    /// One step: sends as much as is accepted, and takes at most one frame, without reading
    /// output. Returns whether a frame was taken.
    pub(super) fn advance(&mut self, connection: &mut Connection<'_>) -> Result<bool> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let advanced = self.send(connection).and_then(|()| self.receive(connection));
        self.remember(connection, advanced)
    }

    fn send(&mut self, connection: &mut Connection<'_>) -> Result<()> {
        if self.takes_control(connection)
            && let Some(control) = connection.shared().control()
        {
            for frame in control.take() {
                connection.put(&frame.header()?)?;
            }
        }
        if queued(connection) == 0 { Ok(()) } else { tolerate(connection.try_flush().map(drop)) }
    }

    pub(super) fn put_end_of_input(&mut self, connection: &mut Connection<'_>) -> Result<()> {
        if !self.input_ended {
            self.input_ended = true;
            if self.end.is_none() && self.failure.is_none() && connection.send_failure().is_none() {
                connection.put(&ClientFrame::Input { last: true }.header()?)?;
            }
        }
        Ok(())
    }

    /// Whether a piece of input can be sent now.
    pub(super) fn takes_input(&self, connection: &Connection<'_>) -> bool {
        !self.input_ended && self.end.is_none() && connection.takes_body()
    }

    /// The buffer of the next piece of input, empty and with room for one.
    pub(super) fn new_piece(&mut self) -> Result<&mut Vec<u8>> {
        self.piece.clear();
        reserve(&mut self.piece, INPUT_STEP)?;
        Ok(&mut self.piece)
    }

    pub(super) fn send_piece(&mut self, connection: &mut Connection<'_>) -> Result<()> {
        let header = ClientFrame::Input { last: false }.header()?;
        let sent = tolerate(connection.put_body(&header, &mut self.piece));
        self.remember(connection, sent)
    }

    /// Takes a header, unless there is output to be read before it.
    fn receive(&mut self, connection: &mut Connection<'_>) -> Result<bool> {
        if self.end.is_some() || connection.to_receive() > 0 {
            return Ok(false);
        }
        match connection.try_header() {
            Ok(None) => Ok(false),
            Ok(Some(header)) => {
                self.take_frame(connection, &header)?;
                self.answered = true;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Closed && self.answered => {
                Err(Error::new(ErrorKind::Truncated, "there was no reply"))
            }
            Err(error) => Err(error),
        }
    }

    fn take_frame(&mut self, connection: &mut Connection<'_>, header: &Header) -> Result<()> {
        let fields = header.fields()?;
        let length = connection.to_receive();
        if let Some(output) = exec::output_of(&fields)? {
            connection.check_answer(&fields, &self.id)?;
            self.received[output] = self.received[output].saturating_add(length);
            self.stderr_len = if output == 0 { 0 } else { length };
            return Ok(());
        }
        let end = match connection.check_reply(&fields, &self.id, ReplyKind::Exec) {
            Ok(()) => Ok(self.accept(read_reply(header)?, length)?),
            Err(refusal) if !refusal.kind().is_remote() => return Err(refusal),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &end
            && self.received != [0; 2]
        {
            return Err(refusal.clone());
        }
        self.end = Some(end);
        connection.drop_behind(self.behind);
        Ok(())
    }

    fn accept(&mut self, reply: ExecReply, length: u64) -> Result<ExecReply> {
        if self.received == [0; 2] {
            // A peer without streams sends all output in the reply.
            self.stderr_len = length - reply.split(length)?;
        } else if length > 0 {
            return Err(Error::new(ErrorKind::BadReply, "a body in the reply of a stream"));
        } else {
            reply.check_streamed(self.received)?;
        }
        Ok(reply)
    }

    /// Reads received output of one stream.
    fn read_output(
        &mut self,
        connection: &mut Connection<'_>,
        buf: &mut [u8],
    ) -> Result<Option<(Stream, usize)>> {
        let left = connection.to_receive();
        if left == 0 {
            return Ok(None);
        }
        let (stream, left) = match left.saturating_sub(self.stderr_len) {
            0 => (Stream::Stderr, left),
            stdout_left => (Stream::Stdout, stdout_left),
        };
        let length = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        match connection.read(&mut buf[..length], Deadline::PAST) {
            Ok(got) => Ok(Some((stream, got))),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(error) => self.remember(connection, Err(error)),
        }
    }

    /// Whether a call of [`read`](Self::read) would return output, or wait for the rest of
    /// a frame that has begun.
    fn has_output(&self, connection: &Connection<'_>) -> bool {
        connection.to_receive() > 0 || self.held.bytes().is_some()
    }

    /// Whether the reply was received and read, and all frames were sent completely; or the
    /// error of an error reply.
    pub(super) fn has_ended(&self, connection: &Connection<'_>) -> Result<bool> {
        match &self.end {
            Some(_) if queued(connection) > 0 || self.has_output(connection) => Ok(false),
            Some(Err(refusal)) => Err(refusal.clone()),
            end => Ok(end.is_some()),
        }
    }

    fn expects_more(&self, connection: &Connection<'_>) -> bool {
        self.end.is_none() || connection.to_receive() > 0
    }

    fn takes_control(&self, connection: &Connection<'_>) -> bool {
        self.end.is_none() && connection.takes_control()
    }

    /// Reads received output, to be written; whether there was some.
    pub(super) fn hold_output(&mut self, connection: &mut Connection<'_>) -> Result<bool> {
        if connection.to_receive() == 0 || self.held.bytes().is_some() {
            return Ok(false);
        }
        let mut buffer = std::mem::take(&mut self.held.buffer);
        let missing = OUTPUT_STEP - buffer.len();
        reserve(&mut buffer, missing)?;
        buffer.resize(OUTPUT_STEP, 0);
        let got = self.read_output(connection, &mut buffer);
        self.held.buffer = buffer;
        let got = got?;
        if let Some((stream, length)) = got {
            (self.held.stream, self.held.start, self.held.end) = (stream, 0, length);
        }
        Ok(got.is_some())
    }

    /// Output that is held, and its destination.
    pub(super) fn held(&self) -> Option<(Stream, &[u8])> {
        self.held.bytes()
    }

    /// This many bytes of the held output were written.
    pub(super) fn written(&mut self, count: usize) {
        self.held.start += count;
    }

    /// Checks the time, and waits unless the last step found something.
    fn next_turn(
        &self,
        connection: &Connection<'_>,
        turns: &mut Turns,
        is_busy: bool,
    ) -> Result<()> {
        turns.next(is_busy)?;
        if is_busy {
            return Ok(());
        }
        self.wait(connection, turns.deadline, true, [(None, PollFlags::IN); 2]).map(drop)
    }

    /// Waits until bytes can be sent, or received if `receives`, or one of `others` is ready;
    /// whether those are.
    pub(super) fn wait(
        &self,
        connection: &Connection<'_>,
        deadline: Deadline,
        receives: bool,
        others: [(Option<BorrowedFd<'_>>, PollFlags); 2],
    ) -> Result<[bool; 2]> {
        let writes = queued(connection) > 0;
        let receives = receives && self.expects_more(connection);
        let control = connection.shared().control().filter(|_| self.takes_control(connection));
        let wanted = [
            others[0],
            others[1],
            (connection.write_fd().filter(|_| writes), PollFlags::OUT),
            (connection.read_fd().filter(|_| receives), PollFlags::IN),
            (control.map(|control| control.fd()), PollFlags::IN),
        ];
        let mut fds = Vec::with_capacity(wanted.len());
        fds.extend(
            wanted.iter().filter_map(|(fd, what)| Some(PollFd::from_borrowed_fd((*fd)?, *what))),
        );
        if poll(&mut fds, deadline, Some(connection.shared().interrupt()))? == 0 {
            return Err(still_runs());
        }
        let mut revents = fds.iter().map(PollFd::revents);
        let ready =
            wanted.map(|(fd, _)| fd.and_then(|_| revents.next()).unwrap_or(PollFlags::empty()));
        if (ready[2] | ready[3]).contains(PollFlags::NVAL) {
            return Err(Error::system("poll", Errno::BADF));
        }
        if let Some(control) = control.filter(|_| !ready[4].is_empty()) {
            control.clear();
        }
        Ok([!ready[0].is_empty(), !ready[1].is_empty()])
    }

    /// Keeps a failure, which breaks the connection.
    fn remember<T>(&mut self, connection: &Connection<'_>, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome
            && error.kind() != ErrorKind::Canceled
        {
            self.failure = Some(error.clone());
            connection.shared().break_by(error);
        }
        outcome
    }
}

/// Output that is copied from the connection to a descriptor.
#[derive(Debug)]
struct Held {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Held {
    fn default() -> Held {
        Held { stream: Stream::Stdout, buffer: Vec::new(), start: 0, end: 0 }
    }
}

impl Held {
    fn bytes(&self) -> Option<(Stream, &[u8])> {
        (self.start < self.end).then(|| (self.stream, &self.buffer[self.start..self.end]))
    }
}

/// The time of a call, which a continuous stream of frames cannot extend.
pub(super) struct Turns {
    pub(super) deadline: Deadline,
    count: u32,
    /// A wait has ended, and the turn after it has found nothing.
    is_idle: bool,
}

impl Turns {
    pub(super) fn new(timeout: impl Into<Time>) -> Turns {
        Turns { deadline: timeout.into().time_limit().deadline, count: 0, is_idle: false }
    }

    /// Before another turn: without a wait if the last one has found something.
    pub(super) fn next(&mut self, is_busy: bool) -> Result<()> {
        self.count += 1;
        let is_over = match self.deadline {
            deadline if is_busy && deadline.is_past() => self.count >= MAX_TURNS,
            deadline => (is_busy || self.is_idle) && deadline.passed(),
        };
        self.is_idle = !is_busy;
        if is_over { Err(still_runs()) } else { Ok(()) }
    }
}

fn still_runs() -> Error {
    Error::new(ErrorKind::TimedOut, "the command runs on")
}

/// Bytes that are not written yet; 0 once a write has failed.
fn queued(connection: &Connection<'_>) -> usize {
    if connection.send_failure().is_none() { connection.queued() } else { 0 }
}

/// It is no failure if the peer accepts nothing more: its reply may still be received. If it is
/// not, that is the failure.
fn tolerate(sent: Result<()>) -> Result<()> {
    match sent {
        Err(error) if error.kind() == ErrorKind::Io => Ok(()),
        sent => sent,
    }
}

/// Bytes of input in one frame, so that a signal after it does not wait long.
pub(super) const INPUT_STEP: usize = limits::GROW_STEP;
/// Bytes of output that are copied at once.
const OUTPUT_STEP: usize = 4 * limits::GROW_STEP;
/// Frames without content that a call without a wait takes at most.
const MAX_TURNS: u32 = 256;
