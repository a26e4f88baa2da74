//! A command that runs for a client: output is sent to the client, and input and signals are
//! received from it.
//!
//! The state of a session is that of its client (presence.rs) and that of its input (input.rs).
//! Together they determine its waits:
//!
//! | Client                     | Input reading | Input held, closed           | Its writer       |
//! |----------------------------|---------------|------------------------------|------------------|
//! | `Present`                  | IN            | RDHUP; none behind input     | OUT while output |
//! |                            |               | that cannot be probed        | is queued, else  |
//! | `Present`, `OnClose::Run`  | IN            | none                         | its hang-up; if  |
//! | `Closed`, `ClosedLong`     | IN            | none                         | `Run`, nothing   |
//! | `Gone`                     | none          | none                         | none             |
//!
//! If a client closes its stream after input that the command does not take, that looks the same
//! as a client that goes on. A streamed command can probe it with a frame without output, once
//! when RDHUP is seen and then every [`PROBE`]; a client that has closed its socket answers with
//! a reset.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::completion::{Collector, Completion};
use super::handler::{Flow, Handler, Input, Interest, Stream};
use super::input::{ClientEvent, ClientInput};
use super::job::Job;
use super::options::ServeOptions;
use super::output::Destination;
use super::presence::{Presence, hangs_up, seen};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, TimeLimit};
use crate::io::process::terminal::WindowSize;
use crate::io::stream::sink::unread;
use crate::io::wait::{Interrupt, poll};
use crate::limits;
use crate::ops::frame::Connection;
use crate::wire::message::exec::ExecReply;
use crate::wire::message::{ErrorReply, Id};

/// The two sides of a run.
pub(super) struct Session<'a, 'fd> {
    connection: &'a mut Connection<'fd>,
    /// The connection's descriptors.
    ends: [BorrowedFd<'fd>; 2],
    /// As in the options.
    reply_timeout: Option<Duration>,
    /// The end of the command's time.
    time: Deadline,
    presence: Presence,
    output: Destination,
    input: ClientInput,
    /// Why nobody reads the sent bytes.
    lost: Option<Error>,
    /// The client has closed its sending direction after input that was not read yet.
    closed_early: bool,
    /// When to probe a client whose input is not read.
    probe_at: Option<Deadline>,
    /// The time for the rest of the output, once the command has ended.
    rest: TimeLimit,
    /// When a part of it must have been sent, or read.
    stalls: Deadline,
    /// The sent bytes that the client had not read when the wait for that began.
    unread: Option<i32>,
    has_ended: bool,
    /// Why the client's fault ended the run, other than a disconnect.
    abort: Option<Abort>,
}

/// Why a run was ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abort {
    /// The client sent something invalid; an error reply can still be sent.
    Protocol,
    /// The client does not read, or its descriptors cannot be used.
    Stalled,
}

impl<'a, 'fd> Session<'a, 'fd> {
    pub(super) fn new(
        connection: &'a mut Connection<'fd>,
        job: &Job<'_>,
        options: &ServeOptions<'_>,
    ) -> Result<Session<'a, 'fd>> {
        let streams = job.is_streamed();
        let output = if streams {
            Destination::sent(job.request.id.as_ref(), &job.limits)
        } else {
            Destination::Kept(Collector::new(&job.limits))
        };
        let is_last = !streams || job.request.stdin_size.is_some();
        Ok(Session {
            ends: ends_of(connection)?,
            connection,
            reply_timeout: options.reply_timeout,
            time: Deadline::from_timeout(job.limits.time),
            presence: Presence::new(job.request.on_close, options),
            output,
            input: ClientInput::new(streams, is_last),
            lost: None,
            closed_early: false,
            probe_at: None,
            rest: Deadline::NEVER.into(),
            stalls: Deadline::NEVER,
            unread: None,
            has_ended: false,
            abort: None,
        })
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// After a run: sends the reply to it, with the rest of its output.
    pub(super) fn reply(mut self, completion: Completion, id: Option<Id>) -> Result<ExecReply> {
        let captured = self.output.captured(completion);
        let reply = captured.reply(id);
        if self.output.is_stream() {
            self.finish(Some(&reply.header()))?;
            return Ok(reply);
        }
        let mut body = captured.into_body()?;
        let finished = self.finish(None);
        self.input.cut();
        self.connection.put_anyway(&reply.header(), &mut body)?;
        finished.and(self.finish(None))?;
        Ok(reply)
    }

    /// After a run that failed with `error`: whether that is the client's fault. If it sent
    /// something invalid, an error reply is sent.
    pub(super) fn blame(&mut self, error: &Error, id: Option<&Id>) -> bool {
        if self.abort == Some(Abort::Protocol) {
            // The first failure counts.
            let _ = self.refuse(error, id);
        }
        self.abort.is_some()
    }

    fn refuse(&mut self, error: &Error, id: Option<&Id>) -> Result<()> {
        self.input.cut();
        let reply = ErrorReply::new(ErrorKind::BadField, &error.to_string(), id).header();
        self.finish(Some(&reply))
    }

    /// After a run: sends the rest of its output and `reply`, and reads the rest of a begun body
    /// meanwhile. [`ErrorKind::TimedOut`]: neither made progress for too long.
    pub(super) fn finish(&mut self, reply: Option<&str>) -> Result<()> {
        if let (Some(reply), None) = (reply, &self.lost) {
            self.connection.put_anyway(reply, &mut Vec::new())?;
        }
        self.input.close();
        let mut outcome = Ok(());
        let mut was_sent = false;
        self.rest = TimeLimit::for_bytes(self.connection.queued() as u64, self.stall());
        self.renew();
        loop {
            let sent = if self.lost.is_none() { self.connection.try_flush()? } else { 0 };
            let is_sent = self.is_sent();
            if is_sent && !self.input.is_in_body(self.connection) {
                return outcome.and(self.lost.take().map_or(Ok(()), Err));
            }
            if is_sent && !was_sent {
                let stall = self.reply_timeout.unwrap_or(limits::REPLY_TIMEOUT);
                self.rest = TimeLimit::for_dropped(self.connection.to_receive(), stall);
            }
            if sent > 0 || is_sent != was_sent {
                self.renew();
            }
            was_sent = is_sent;
            // A client that writes before it reads must be able to send its input first.
            let reads = self.input.reads(self.connection);
            if self.wait_to_finish(reads)? {
                if let Err(error) = self.input.advance(self.connection) {
                    self.input.cut();
                    outcome = Err(error);
                }
                if is_sent {
                    self.renew();
                }
            }
        }
    }

    /// How long the client may go without reading a byte.
    fn stall(&self) -> Duration {
        match self.reply_timeout {
            Some(stall) => stall,
            // It was not hurried before the end either, so a pause must not cost it the rest.
            None if self.output.is_stream() => {
                self.time.remaining().map_or(Duration::MAX, |left| left.max(limits::REPLY_TIMEOUT))
            }
            None => limits::REPLY_TIMEOUT,
        }
    }

    /// The client may again go without a byte as long as a stall.
    fn renew(&mut self) {
        self.stalls = self.rest.next();
        self.unread = None;
    }

    /// Until when to wait for it.
    fn watch(&mut self) -> Deadline {
        if self.unread.is_none() && !self.is_sent() {
            self.unread = unread(self.ends[1]);
        }
        self.stalls
    }

    /// Whether that time is over. It begins anew if the client reads what was sent.
    fn is_stalled(&mut self) -> bool {
        if !self.stalls.passed() {
            return false;
        }
        let before = self.unread;
        self.renew();
        self.watch();
        self.unread >= before || self.rest.deadline.passed()
    }

    /// Whether there is something to read.
    fn wait_to_finish(&mut self, reads: bool) -> Result<bool> {
        // It may send without a pause.
        if self.is_stalled() {
            return Err(Error::new(ErrorKind::TimedOut, "the client made no progress"));
        }
        if self.input.has_more(self.connection) {
            return Ok(true);
        }
        let deadline = self.watch();
        let mut fds = Vec::with_capacity(2);
        if reads {
            fds.push(PollFd::from_borrowed_fd(self.ends[0], PollFlags::IN));
        }
        if !self.is_sent() {
            fds.push(PollFd::from_borrowed_fd(self.ends[1], PollFlags::OUT));
        }
        let count = poll(&mut fds, deadline, self.interrupt())?;
        Ok(count > 0 && reads && !fds[0].revents().is_empty())
    }

    /// Whether nothing waits to be sent.
    fn is_sent(&self) -> bool {
        self.lost.is_some() || self.connection.queued() == 0
    }

    /// Whether the client has gone: nothing can be received from it or sent to it.
    fn is_loss(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Io || self.connection.is_dead()
    }

    /// Nobody reads the output.
    fn lose(&mut self, error: Error) -> Flow {
        self.lost.get_or_insert(error);
        self.presence.lose()
    }

    /// Sends output as far as it is accepted.
    fn flush(&mut self) -> Result<Flow> {
        if self.lost.is_some() {
            return Ok(Flow::Continue);
        }
        match self.connection.try_flush() {
            Ok(0) => {}
            Ok(_) => self.renew(),
            Err(error) if self.is_loss(&error) => return Ok(self.lose(error)),
            Err(error) => return Err(error),
        }
        Ok(Flow::Continue)
    }

    /// Reads bytes from the client.
    fn receive(&mut self) -> Result<Flow> {
        match self.input.advance(self.connection) {
            Ok(None) => Ok(Flow::Continue),
            Ok(Some(ClientEvent::Signal(signal))) => Ok(Flow::Signal(signal)),
            Ok(Some(ClientEvent::Resize(size))) => {
                Ok(Flow::Resize(WindowSize { rows: size.rows, columns: size.columns }))
            }
            Ok(Some(ClientEvent::End)) => {
                self.presence.close();
                self.probe()
            }
            Err(error) if self.is_loss(&error) => {
                let is_whole = self.connection.to_receive() == 0 && !self.connection.has_input();
                self.input.cut();
                if self.connection.is_dead() {
                    // Of a sealed connection the other direction is lost as well.
                    self.lost.get_or_insert(error.clone());
                }
                if is_whole && !self.presence.kills() {
                    return Ok(Flow::Continue);
                }
                self.lost.get_or_insert(error);
                Ok(self.presence.reset())
            }
            Err(error) => {
                self.abort = Some(Abort::Protocol);
                Err(error)
            }
        }
    }

    /// Sends a frame without output: if the client has gone, it is answered by a reset.
    fn probe(&mut self) -> Result<Flow> {
        let Some(header) = self.output.stream_header().filter(|_| self.presence.kills()) else {
            return Ok(Flow::Continue);
        };
        if self.is_sent() && self.lost.is_none() {
            self.connection.put(header)?;
        }
        self.flush()
    }

    /// Whether a disconnect cannot be seen, because the command does not take the input before
    /// it.
    fn is_blind(&self) -> bool {
        let is_held = self.input.has_unread(self.connection) && !self.input.reads(self.connection);
        is_held && self.presence.kills() && self.output.is_stream() && self.is_sent()
    }
}

impl Handler for Session<'_, '_> {
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        let connection = self.lost.is_none().then_some(&mut *self.connection);
        let flow = match self.output.take(connection, stream, bytes) {
            Err(error) if self.is_loss(&error) => return Ok(self.lose(error)),
            flow => flow,
        };
        if self.has_ended {
            self.renew();
        }
        flow
    }

    fn takes_output(&self) -> bool {
        !self.output.is_stream() || self.is_sent()
    }

    fn input(&self) -> Input<'_> {
        self.input.input(self.connection)
    }

    fn consumed(&mut self, length: usize) {
        self.input.consumed(length);
    }

    fn input_closed(&mut self) {
        self.input.close();
    }

    fn ended(&mut self) {
        self.has_ended = true;
        // More than two pipes and the queue hold.
        self.rest = TimeLimit::for_bytes(limits::DROPPED, self.stall());
        self.renew();
    }

    fn interests(&self) -> [Interest<'_>; 2] {
        if self.presence.is_gone() {
            return [None; 2];
        }
        let kills = self.presence.kills();
        // With unread input, RDHUP does not show whether the client has gone. Only a probe does.
        let can_tell = !self.input.has_unread(self.connection)
            || (self.output.is_stream() && !self.closed_early);
        let reader = if self.input.reads(self.connection) {
            Some(PollFlags::IN)
        } else {
            (kills && self.presence.is_present() && can_tell).then_some(PollFlags::RDHUP)
        };
        let writer =
            if self.is_sent() { kills.then_some(PollFlags::empty()) } else { Some(PollFlags::OUT) };
        [reader.map(|what| (self.ends[0], what)), writer.map(|what| (self.ends[1], what))]
    }

    fn has_more(&self) -> bool {
        !self.presence.is_gone() && self.input.has_more(self.connection)
    }

    fn interrupt(&self) -> Option<&Interrupt> {
        Some(self.connection.shared().interrupt())
    }

    fn ready(&mut self, ready: [PollFlags; 2]) -> Result<Flow> {
        let [reader, writer] = seen(self.ends, ready).inspect_err(|_| {
            // If nothing was sent yet, the reply may still be accepted.
            self.abort = self.output.is_stream().then_some(Abort::Stalled);
        })?;
        if hangs_up(writer) {
            let flow = self.lose(Error::system("write", Errno::PIPE));
            if flow == Flow::End {
                return Ok(flow);
            }
        } else if !writer.is_empty() && self.flush()? == Flow::End {
            return Ok(Flow::End);
        }
        if reader.is_empty() && !self.has_more() {
            return Ok(Flow::Continue);
        }
        if self.input.reads(self.connection) {
            return self.receive();
        }
        // Of a sealed stream that was cut, also behind input that the command does not take.
        if let Err(error) = self.connection.look_for_end() {
            self.lost.get_or_insert(error);
            return Ok(self.presence.reset());
        }
        if !self.input.has_unread(self.connection) {
            self.presence.close();
            return Ok(Flow::Continue);
        }
        self.closed_early = true;
        self.probe()
    }

    fn deadline(&mut self) -> Deadline {
        let grace = self.presence.deadline();
        if self.has_ended && !self.is_sent() {
            return grace.min(self.watch());
        }
        let known = self.probe_at;
        self.probe_at = self.is_blind().then(|| known.unwrap_or_else(|| Deadline::after(PROBE)));
        self.probe_at.map_or(grace, |at| grace.min(at))
    }

    fn overdue(&mut self) -> Result<Flow> {
        if self.has_ended && !self.is_sent() && self.is_stalled() {
            self.abort = Some(Abort::Stalled);
            return Err(Error::new(ErrorKind::TimedOut, "the client does not read"));
        }
        if self.presence.overdue() == Flow::End {
            return Ok(Flow::End);
        }
        self.probe_at = None;
        self.probe()
    }
}

/// The descriptors of a connection, which must have both directions.
fn ends_of<'fd>(connection: &Connection<'fd>) -> Result<[BorrowedFd<'fd>; 2]> {
    match (connection.read_fd(), connection.write_fd()) {
        (Some(reader), Some(writer)) => Ok([reader, writer]),
        _ => Err(Error::new(ErrorKind::BadDescriptor, "a command needs both directions")),
    }
}

/// How often a client is probed while its input is not read.
const PROBE: Duration = limits::CLOSE_GRACE;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::ops::frame::ConnectionOptions;
    use crate::wire::message::exec::ExecRequest;

    /// How long a client that does not read is waited for after the command's end.
    fn patience(
        stream: bool,
        time: Option<Duration>,
        reply_timeout: Option<Duration>,
    ) -> Option<Duration> {
        let (server, _client) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut connection = Connection::new(server.as_fd(), ConnectionOptions::default()).unwrap();
        let mut options = ServeOptions { reply_timeout, ..ServeOptions::default() };
        options.limits.time = time;
        let request = ExecRequest { stream: Some(stream), ..ExecRequest::default() };
        let job = Job::new(request, &options);
        let mut session = Session::new(&mut connection, &job, &options).unwrap();
        let mut more = || session.output(Stream::Stdout, &mut vec![0; 10 << 20]).unwrap();
        assert_eq!(more(), Flow::Continue);
        if stream {
            session.ended();
            assert!(!session.is_sent());
            return session.deadline().remaining();
        }
        Some(session.stall())
    }

    #[test]
    fn the_end_of_a_command_does_not_hurry_the_client_of_a_stream() {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        const SOON: Duration = Duration::from_millis(10);
        assert_eq!(patience(true, None, None), None);
        assert!(patience(true, Some(DAY), None) > Some(DAY / 2));
        assert!(patience(true, Some(SOON), None) > Some(limits::REPLY_TIMEOUT / 2));
        // A limit that the server's owner has set counts.
        for time in [None, Some(DAY)] {
            assert!(patience(true, time, Some(SOON)) <= Some(SOON));
        }
        assert_eq!(patience(false, None, None), Some(limits::REPLY_TIMEOUT));
    }
}
