//! A command that runs for a client: output to the one, input and signals from the other,
//! and what becomes of it when the client goes away.

use std::cell::Cell;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::feed::{Feed, Wish};
use super::output::Output;
use super::report::report;
use super::server::ServeOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Patience};
use crate::io::process::terminal::WindowSize;
use crate::io::wait::poll;
use crate::limits;
use crate::ops::Duplex;
use crate::ops::exec::engine::{self, Events, Flow, Input, Outcome, Stream};
use crate::ops::frame::{self, reply};
use crate::wire::message::Id;
use crate::wire::message::exec::{ExecReply, OnClose};

/// The two ends of a run. Its descriptors are watched without being read where the client
/// has nothing more to say.
pub(super) struct Session<'a, 'b> {
    duplex: Duplex<'a>,
    on_close: OnClose,
    close_grace: Duration,
    reply_timeout: Duration,
    output: Output<'a>,
    feed: Feed<'a, 'b>,
    client: Client,
    /// The client has closed its sending side behind input that was not read yet.
    closed_early: bool,
    /// When to ask a client whether it is there whose input is not read.
    probe_at: Cell<Option<Deadline>>,
    /// When the rest of the output has to have made progress, once the command has ended.
    stalls: Deadline,
    has_ended: bool,
    /// Whether the reader and the writer are among the descriptors of the last wait.
    watched: Cell<[bool; 2]>,
    /// What the client did that ended the run, other than to go away.
    offence: Option<Offence>,
}

#[derive(Clone, Copy, Debug)]
enum Client {
    /// Nothing was heard of its going.
    Present,
    /// It has closed its sending side; perhaps it waits for the reply.
    Closed { until: Deadline },
    /// The same, longer than the grace: its command was ended.
    ClosedLong,
    /// A reset or a hang-up: nobody is there.
    Gone,
}

/// Why a run was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offence {
    /// What it sent cannot be understood; it may still be told so.
    Garbage,
    /// It does not read, or its descriptors cannot be used.
    Deaf,
}

impl<'a, 'b> Session<'a, 'b> {
    pub(super) fn new(
        duplex: Duplex<'a>,
        on_close: OnClose,
        options: &ServeOptions<'_>,
        output: Output<'a>,
        feed: Feed<'a, 'b>,
    ) -> Session<'a, 'b> {
        Session {
            duplex,
            on_close,
            close_grace: options.close_grace,
            reply_timeout: options.reply_timeout,
            output,
            feed,
            client: Client::Present,
            closed_early: false,
            probe_at: Cell::new(None),
            stalls: Deadline::NEVER,
            has_ended: false,
            watched: Cell::default(),
            offence: None,
        }
    }

    /// Whether the client was seen to close its sending side.
    pub(super) fn client_closed(&self) -> bool {
        !matches!(self.client, Client::Present)
    }

    /// After a run: sends the reply to it, with what is left of its output.
    pub(super) fn reply(mut self, outcome: Outcome, id: Option<Id>) -> Result<ExecReply> {
        let truncated = self.output.is_truncated();
        let skipped = if self.output.is_stream() { Ok(()) } else { self.finish(None) };
        let Output::Kept(collector) = self.output else {
            let output =
                engine::Output { outcome, stdout: Vec::new(), stderr: Vec::new(), truncated };
            let reply = report(id, &output);
            self.finish(Some(&reply.header()))?;
            return Ok(reply);
        };
        let output = collector.into_output(outcome);
        let reply = report(id, &output);
        let sent = frame::send_by(
            self.duplex.writer,
            Some(&reply.header()),
            &[&output.stdout, &output.stderr],
            &frame::Options::default(),
            Patience::without_stall(self.reply_timeout),
        );
        skipped.and(sent.map_err(reply::overdue))?;
        Ok(reply)
    }

    /// After a run: an error if nobody is there to be told.
    pub(super) fn check_client(&self) -> Result<()> {
        match self.client {
            Client::Gone => {
                Err(Error::new(ErrorKind::Closed, "the client went away from its command"))
            }
            _ => Ok(()),
        }
    }

    /// After a run that failed with `error`: tells the client where it is to blame, and
    /// then returns the error. `None` says that it is not.
    pub(super) fn blame(&mut self, error: &Error, id: Option<&Id>) -> Option<Error> {
        let offence = self.offence?;
        if offence == Offence::Garbage {
            // What failed first counts.
            let _ = self.refuse_garbage(error, id);
        }
        Some(error.clone())
    }

    fn refuse_garbage(&mut self, error: &Error, id: Option<&Id>) -> Result<()> {
        self.feed.cut();
        self.finish(None)?;
        let (kind, text) = (ErrorKind::BadField, error.to_string());
        let patience = Patience::without_stall(self.reply_timeout);
        reply::send_failure(self.duplex.writer, kind, &text, id, patience)
    }

    /// After a run: sends what is left of its output, and the reply to a stream, while what
    /// has begun to come is read to its end. [`ErrorKind::Stalled`] says that for too long
    /// neither went on.
    pub(super) fn finish(&mut self, reply: Option<&str>) -> Result<()> {
        if let Some(reply) = reply {
            self.output.put(reply)?;
        }
        self.feed.close();
        let mut outcome = Ok(());
        let mut deadline = Deadline::after(self.reply_timeout);
        loop {
            let sent = self.output.flush()?;
            let is_sent = self.output.is_sent();
            if is_sent && !self.feed.is_mid_frame() {
                return outcome.and(self.output.failure());
            }
            if sent > 0 {
                deadline = Deadline::after(self.reply_timeout);
            }
            // A client that writes without reading has to get rid of its input first.
            let reads = self.feed.reads();
            let mut fds = Vec::with_capacity(2);
            if reads {
                fds.push(PollFd::from_borrowed_fd(self.duplex.reader, PollFlags::IN));
            }
            if !is_sent {
                fds.push(PollFd::from_borrowed_fd(self.duplex.writer, PollFlags::OUT));
            }
            if poll(&mut fds, deadline, None)? == 0 {
                return Err(Error::new(ErrorKind::Stalled, "the client does not go on"));
            }
            if reads && !fds[0].revents().is_empty() {
                if let Err(error) = self.feed.advance() {
                    self.feed.cut();
                    outcome = Err(error);
                }
                if is_sent {
                    deadline = Deadline::after(self.reply_timeout);
                }
            }
        }
    }

    /// Whether the client's going away ends the command.
    fn kills(&self) -> bool {
        self.on_close == OnClose::Kill
    }

    /// What to wait for on the two descriptors.
    fn wanted(&self) -> [Option<PollFlags>; 2] {
        if matches!(self.client, Client::Gone) {
            return [None; 2];
        }
        let is_present = matches!(self.client, Client::Present);
        // Behind input that was not read it tells no end of the client, and only an answer
        // to a frame does.
        let asks = !self.feed.has_unread() || (self.output.is_stream() && !self.closed_early);
        let reader = if self.feed.reads() {
            Some(PollFlags::IN)
        } else {
            (self.kills() && is_present && asks).then_some(PollFlags::RDHUP)
        };
        let writer = if self.output.is_sent() {
            self.kills().then_some(PollFlags::empty())
        } else {
            Some(PollFlags::OUT)
        };
        [reader, writer]
    }

    /// Nobody reads the output.
    fn lose(&mut self, error: Error) -> Flow {
        self.output.give_up(error);
        if self.kills() {
            self.client = Client::Gone;
            return Flow::End;
        }
        Flow::Continue
    }

    /// Sends what is taken of the output.
    fn flush(&mut self) -> Result<Flow> {
        match self.output.flush() {
            Ok(0) => {}
            Ok(_) => self.stalls = Deadline::after(self.reply_timeout),
            Err(error) if error.kind() == ErrorKind::Io => return Ok(self.lose(error)),
            Err(error) => return Err(error),
        }
        Ok(Flow::Continue)
    }

    /// Reads what the client has sent.
    fn receive(&mut self) -> Result<Flow> {
        match self.feed.advance() {
            Ok(None) => Ok(Flow::Continue),
            Ok(Some(Wish::Signal(signal))) => Ok(Flow::Signal(signal)),
            Ok(Some(Wish::Resize(size))) => {
                Ok(Flow::Resize(WindowSize { rows: size.rows, columns: size.columns }))
            }
            Ok(Some(Wish::End)) => {
                self.close();
                self.probe()
            }
            Err(error) if error.kind() == ErrorKind::Io => {
                let is_whole = !self.feed.is_mid_frame();
                self.feed.cut();
                if is_whole && !self.kills() {
                    return Ok(Flow::Continue);
                }
                self.client = Client::Gone;
                self.output.give_up(error);
                Ok(Flow::End)
            }
            Err(error) => {
                self.offence = Some(Offence::Garbage);
                Err(error)
            }
        }
    }

    /// The client has closed its sending side, and all that it sent has been read.
    fn close(&mut self) {
        if self.kills() && matches!(self.client, Client::Present) {
            self.client = Client::Closed { until: Deadline::after(self.close_grace) };
        }
    }

    /// Sends a frame of no output: where nobody is there a reset comes back.
    fn probe(&mut self) -> Result<Flow> {
        if !self.kills() || !self.output.is_stream() {
            return Ok(Flow::Continue);
        }
        self.output.probe()?;
        self.flush()
    }

    /// Whether the client's going away cannot be seen, since the command does not take what
    /// it sent before.
    fn is_blind(&self) -> bool {
        let is_held = self.feed.has_unread() && !self.feed.reads();
        is_held && self.kills() && self.output.is_stream() && self.output.is_sent()
    }
}

impl Events for Session<'_, '_> {
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        let flow = match self.output.take(stream, bytes) {
            Err(error) if error.kind() == ErrorKind::Io => return Ok(self.lose(error)),
            flow => flow,
        };
        if self.has_ended {
            self.stalls = Deadline::after(self.reply_timeout);
        }
        flow
    }

    fn takes_output(&self) -> bool {
        self.output.is_sent()
    }

    fn input(&self) -> Input<'_> {
        self.feed.input()
    }

    fn consumed(&mut self, length: usize) {
        self.feed.consumed(length);
    }

    fn input_closed(&mut self) {
        self.feed.close();
    }

    fn ended(&mut self) {
        self.has_ended = true;
        self.stalls = Deadline::after(self.reply_timeout);
    }

    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let wanted = self.wanted();
        self.watched.set(wanted.map(|what| what.is_some()));
        let descriptors = [self.duplex.reader, self.duplex.writer];
        for (fd, what) in descriptors.into_iter().zip(wanted) {
            fds.extend(what.map(|what| PollFd::from_borrowed_fd(fd, what)));
        }
    }

    fn ready(&mut self, ready: &[PollFlags]) -> Result<Flow> {
        let mut ready = ready.iter().copied();
        let [reader, writer] = self
            .watched
            .get()
            .map(|watched| watched.then(|| ready.next()).flatten().unwrap_or(PollFlags::empty()));
        if (reader | writer).contains(PollFlags::NVAL) {
            // It was the host that closed it. Before anything was sent, the other of the
            // two may still take a reply.
            self.offence = self.output.is_stream().then_some(Offence::Deaf);
            return Err(Error::system("poll", Errno::BADF));
        }
        if writer.intersects(PollFlags::HUP | PollFlags::ERR) {
            let flow = self.lose(Error::system("write", Errno::PIPE));
            if flow == Flow::End {
                return Ok(flow);
            }
        } else if !writer.is_empty() && self.flush()? == Flow::End {
            return Ok(Flow::End);
        }
        if reader.is_empty() {
            return Ok(Flow::Continue);
        }
        if self.feed.reads() {
            return self.receive();
        }
        if !self.feed.has_unread() {
            self.close();
            return Ok(Flow::Continue);
        }
        self.closed_early = true;
        self.probe()
    }

    fn deadline(&self) -> Deadline {
        let grace = match self.client {
            Client::Closed { until } => until,
            _ => Deadline::NEVER,
        };
        if self.has_ended && !self.output.is_sent() {
            return grace.min(self.stalls);
        }
        let known = self.probe_at.get();
        let probe_at = self.is_blind().then(|| known.unwrap_or_else(|| Deadline::after(PROBE)));
        self.probe_at.set(probe_at);
        probe_at.map_or(grace, |at| grace.min(at))
    }

    fn overdue(&mut self) -> Result<Flow> {
        if self.has_ended && !self.output.is_sent() && self.stalls.passed() {
            self.offence = Some(Offence::Deaf);
            return Err(Error::new(ErrorKind::Stalled, "the client does not read on"));
        }
        if matches!(self.client, Client::Closed { until } if until.passed()) {
            self.client = Client::ClosedLong;
            return Ok(Flow::End);
        }
        self.probe_at.set(None);
        self.probe()
    }
}

/// How often a client is asked whether it is there while its input is not read.
const PROBE: Duration = limits::CLOSE_GRACE;
