//! A command at the other end that is fed and read while it runs.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::client::{Request, check_id, check_reply};
use super::control::Control;
use super::handler::Stream;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::io::wait::poll;
use crate::limits;
use crate::ops::Duplex;
use crate::ops::frame::BodyReader;
use crate::ops::frame::link::{Inbox, Outbox};
use crate::wire::frame::head::Head;
use crate::wire::json::header::Header;
use crate::wire::memory::reserve;
use crate::wire::message::exec::{self, ClientFrame, ExecReply, ExecRequest};
use crate::wire::message::{Id, Message as _};

/// A command that runs at the other end of a connection, which nothing else may use
/// meanwhile. Once [`read`](Self::read) or [`copy`](Self::copy) has told its end, the
/// connection is in step.
///
/// An error other than [`ErrorKind::TimedOut`] and [`ErrorKind::State`] is the end as well,
/// and comes again from every later call. After one of a remote kind that came before any
/// output the connection is in step; after any other it has to be closed, which ends the
/// command. So does closing it at any other time, unless the request says otherwise.
#[derive(Debug)]
pub struct RemoteCommand<'fd> {
    duplex: Duplex<'fd>,
    id: Option<Id>,
    outbox: Outbox<'fd>,
    inbox: Inbox<'fd>,
    /// No more input can be given.
    input_ended: bool,
    /// The next piece of input.
    piece: Vec<u8>,
    /// Output that has not been read to the end of its frame.
    output: Option<Output<'fd>>,
    /// Output that was read to be copied, and not written yet.
    held: Held,
    /// Bytes of output that came, by [`Stream`].
    came: [u64; 2],
    /// Whether anything came.
    answered: bool,
    /// What the last frame said.
    end: Option<Result<ExecReply>>,
    /// Why nothing more can be said or heard.
    failure: Option<Error>,
    control: Arc<Control>,
}

impl<'fd> RemoteCommand<'fd> {
    /// Sends `request` with `stream`, within its time. What is not taken at once of its
    /// input is sent by the calls that follow.
    ///
    /// [`ErrorKind::TimedOut`] and [`ErrorKind::Argument`] say that nothing was sent.
    pub fn start(duplex: Duplex<'fd>, request: &Request<'_>) -> Result<RemoteCommand<'fd>> {
        let deadline = Deadline::from_timeout(request.timeout);
        let stdin_size = request.stdin_size()?;
        let options = ExecRequest { stream: Some(true), stdin_size, ..request.options.clone() };
        let mut remote = RemoteCommand {
            duplex,
            id: options.id.clone(),
            outbox: Outbox::new(duplex.writer),
            inbox: Inbox::new(duplex.reader),
            input_ended: stdin_size.is_some(),
            piece: Vec::new(),
            output: None,
            held: Held::default(),
            came: [0; 2],
            answered: false,
            end: None,
            failure: None,
            control: Arc::new(Control::new()?),
        };
        let header = options.header();
        let body_len = request.command.len() as u64 + request.input.len() as u64;
        let head = Head::new(Some(&header), body_len, limits::MAX_HEADER)?;
        let [start, keys] = head.pieces();
        let mut sink = Sink::new(duplex.writer, deadline);
        sink.write_all_vectored(&mut [start, keys, request.command].map(IoSlice::new))?;
        // The rest may have to wait until output is read.
        let mut input = request.input;
        if !input.is_empty() {
            input = &input[sink.try_write(&[IoSlice::new(input)])?.unwrap_or(0)..];
        }
        if !input.is_empty() {
            remote.outbox.put_rest(copy_of(input)?);
        }
        Ok(remote)
    }

    /// Reads 1 to `buf.len()` bytes of output as they come. `None`: the command has ended,
    /// all of its output was read, and [`reply`](Self::reply) says how it went.
    ///
    /// [`ErrorKind::TimedOut`] says that nothing came in time, and that the call can be made
    /// again; zero does not wait. An error reply is an error of a remote kind. A stream
    /// that ends before the reply is [`ErrorKind::Truncated`], or [`ErrorKind::Closed`] if
    /// nothing came at all; a reply that does not account for what came, and a frame that
    /// is none of this request's, is [`ErrorKind::BadReply`].
    pub fn read(
        &mut self,
        buf: &mut [u8],
        timeout: Option<Duration>,
    ) -> Result<Option<(Stream, usize)>> {
        if buf.is_empty() {
            return Err(Error::new(ErrorKind::Argument, "a buffer of 0 bytes"));
        }
        let deadline = Deadline::from_timeout(timeout);
        loop {
            self.advance()?;
            let held = self.held.bytes();
            if !held.is_empty() {
                let length = held.len().min(buf.len());
                buf[..length].copy_from_slice(&held[..length]);
                self.held.start += length;
                return Ok(Some((self.held.stream, length)));
            }
            if let Some(got) = self.read_output(buf)? {
                return Ok(Some(got));
            }
            if self.has_ended()? {
                return Ok(None);
            }
            self.wait(deadline, true, [(None, PollFlags::IN); 2])?;
        }
    }

    /// Gives input: 1 to `bytes.len()` bytes are taken, and their count returned. 0 says
    /// that output waits and has to be read first, as the other end may take no input
    /// before; or that the command has ended, as [`read`](Self::read) will tell.
    ///
    /// [`ErrorKind::TimedOut`]: nothing was taken in time. [`ErrorKind::State`]: the input
    /// has ended, or went along with the request. That the command reads none of it is no
    /// error.
    pub fn write(&mut self, bytes: &[u8], timeout: Option<Duration>) -> Result<usize> {
        if self.input_ended {
            return Err(Error::new(ErrorKind::State, "the input has ended"));
        }
        let deadline = Deadline::from_timeout(timeout);
        loop {
            self.advance()?;
            if self.end.is_some() || bytes.is_empty() {
                return Ok(0);
            }
            if self.outbox.takes_body() {
                let length = bytes.len().min(INPUT_STEP);
                self.piece.clear();
                reserve(&mut self.piece, length)?;
                self.piece.extend_from_slice(&bytes[..length]);
                self.send_piece()?;
                return Ok(length);
            }
            if self.has_output() {
                return Ok(0);
            }
            self.wait(deadline, true, [(None, PollFlags::IN); 2])?;
        }
    }

    /// Ends the input, and waits until all of it has been sent, or output has to be read
    /// first, or the command has ended. A second call only waits.
    ///
    /// [`ErrorKind::TimedOut`]: it has not all been sent, and will be by the next calls.
    pub fn end_input(&mut self, timeout: Option<Duration>) -> Result<()> {
        let deadline = Deadline::from_timeout(timeout);
        if !self.input_ended {
            self.input_ended = true;
            self.put(ClientFrame::Input { last: true })?;
        }
        loop {
            self.advance()?;
            if self.outbox.is_empty() || self.has_output() || self.end.is_some() {
                return Ok(());
            }
            self.wait(deadline, true, [(None, PollFlags::IN); 2])?;
        }
    }

    /// What sends signals and sizes. It can be cloned and used by any thread at any time.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Carries input from `stdin` to the command and its output to `stdout` and `stderr`
    /// until it has ended: then [`reply`](Self::reply) says how it went. The end of `stdin`
    /// is that of the input; without one it ends at once. Flags of descriptors are not
    /// changed, and none is read or written that poll(2) does not report as ready.
    ///
    /// [`ErrorKind::TimedOut`]: the time was up; the call can be made again, and nothing is
    /// lost. An error of one of the three descriptors says which.
    pub fn copy(
        &mut self,
        stdin: Option<BorrowedFd<'_>>,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let deadline = Deadline::from_timeout(timeout);
        let mut source = stdin.map(|fd| Source::new(fd, deadline));
        let outputs = [stdout, stderr];
        let mut sinks = outputs.map(|fd| Sink::new(fd, deadline));
        loop {
            if source.is_none() && !self.input_ended {
                self.input_ended = true;
                self.put(ClientFrame::Input { last: true })?;
            }
            self.advance()?;
            self.hold_output()?;
            self.write_held(&mut sinks)?;
            let is_held = !self.held.bytes().is_empty();
            if !is_held && self.has_ended()? {
                return Ok(());
            }
            let takes_input = !self.input_ended && self.end.is_none() && self.outbox.takes_body();
            let from = stdin.filter(|_| takes_input);
            let to = is_held.then_some(outputs[self.held.stream as usize]);
            let watched = [(from, PollFlags::IN), (to, PollFlags::OUT)];
            let [is_ready, _] = self.wait(deadline, !is_held, watched)?;
            if let (true, Some(from)) = (is_ready, &mut source) {
                self.piece.clear();
                reserve(&mut self.piece, INPUT_STEP)?;
                let got = from.try_read_more(&mut self.piece, INPUT_STEP as u64);
                match got.map_err(|error| error.context("standard input"))? {
                    None => {}
                    Some(0) => source = None,
                    Some(_) => self.send_piece()?,
                }
            }
        }
    }

    /// How the command went, once [`read`](Self::read) or [`copy`](Self::copy) has told its
    /// end. Its totals are those of the output that came, unless it is `truncated`.
    pub fn reply(&self) -> Option<&ExecReply> {
        match &self.end {
            Some(Ok(reply)) if self.failure.is_none() => Some(reply),
            _ => None,
        }
    }

    /// What the descriptors have to be ready for before a call can do something: `OUT` of
    /// the one that is written to, `IN` of the one that is read from. What
    /// [`control`](Self::control) was told is sent by any call.
    pub fn events(&self) -> PollFlags {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.expects_more());
        events.set(PollFlags::OUT, !self.outbox.is_empty());
        events
    }

    /// Sends and receives what can be without waiting: output is not read.
    fn advance(&mut self) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let advanced = self.send().and_then(|()| self.receive());
        self.remember(advanced)
    }

    fn send(&mut self) -> Result<()> {
        if self.takes_control() {
            self.control.take().try_for_each(|frame| self.put(frame))?;
        }
        tolerate(self.outbox.flush().map(|_| ()))
    }

    fn put(&mut self, frame: ClientFrame) -> Result<()> {
        self.outbox.put(&frame.header()?)
    }

    fn send_piece(&mut self) -> Result<()> {
        let header = ClientFrame::Input { last: false }.header()?;
        let sent = tolerate(self.outbox.send(&header, &mut self.piece));
        self.remember(sent)
    }

    /// Takes headers, up to that of output or of the reply.
    fn receive(&mut self) -> Result<()> {
        while self.end.is_none() && self.output.is_none() {
            match self.inbox.next() {
                Ok(None) => break,
                Ok(Some((header, body))) => {
                    self.take_frame(&header, body)?;
                    self.answered = true;
                }
                Err(error) if error.kind() == ErrorKind::Closed && self.answered => {
                    return Err(Error::new(ErrorKind::Truncated, "there was no reply"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_frame(&mut self, header: &Header, body: BodyReader<'fd>) -> Result<()> {
        let asked = self.id.as_ref();
        let fields = header.fields()?;
        if let Some(output) = exec::output_of(&fields)? {
            check_id(fields.id().ok().flatten().as_ref(), asked)?;
            let length = body.left();
            self.came[output] = self.came[output].saturating_add(length);
            self.output = Output::new(body, if output == 0 { length } else { 0 });
            return Ok(());
        }
        let end = match check_reply(&fields, asked) {
            Ok(()) => Ok(self.accept(ExecReply::of(&fields)?, body)?),
            Err(refusal) if refusal.kind().is_remote() => Err(refusal),
            Err(error) => return Err(error),
        };
        self.end = Some(end);
        self.outbox.drop_unsent();
        Ok(())
    }

    fn accept(&mut self, reply: ExecReply, body: BodyReader<'fd>) -> Result<ExecReply> {
        if self.came == [0; 2] {
            // All of it is here where the other end knows no streams.
            let stdout_len = reply.split(body.left())?;
            self.output = Output::new(body, stdout_len);
        } else if body.left() > 0 {
            return Err(Error::new(ErrorKind::BadReply, "a body in the reply of a stream"));
        } else {
            reply.check_streamed(self.came)?;
        }
        Ok(reply)
    }

    /// Reads output that is there.
    fn read_output(&mut self, buf: &mut [u8]) -> Result<Option<(Stream, usize)>> {
        let Some(output) = &mut self.output else { return Ok(None) };
        match output.read(buf) {
            Ok(got) => {
                if output.body.left() == 0 {
                    self.output = None;
                }
                Ok(Some(got))
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(error) => self.remember(Err(error)),
        }
    }

    /// Whether a call of [`read`](Self::read) would return output, or wait for the rest of
    /// a frame that has begun.
    fn has_output(&self) -> bool {
        self.output.is_some() || !self.held.bytes().is_empty()
    }

    /// Whether the reply is there and was read, and the other end has all that it needs to
    /// be in step; the error, if it is an error reply.
    fn has_ended(&self) -> Result<bool> {
        match &self.end {
            Some(_) if !self.outbox.is_empty() || self.output.is_some() => Ok(false),
            Some(Err(refusal)) => Err(refusal.clone()),
            end => Ok(end.is_some()),
        }
    }

    fn expects_more(&self) -> bool {
        self.end.is_none() || self.output.is_some()
    }

    fn takes_control(&self) -> bool {
        self.end.is_none() && self.outbox.takes_control()
    }

    /// Output that is there, to be written.
    fn hold_output(&mut self) -> Result<()> {
        if self.output.is_none() || !self.held.bytes().is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.held.buffer);
        let missing = OUTPUT_STEP - buffer.len();
        reserve(&mut buffer, missing)?;
        buffer.resize(OUTPUT_STEP, 0);
        let got = self.read_output(&mut buffer);
        self.held.buffer = buffer;
        if let Some((stream, length)) = got? {
            (self.held.stream, self.held.start, self.held.end) = (stream, 0, length);
        }
        Ok(())
    }

    fn write_held(&mut self, sinks: &mut [Sink<'_>; 2]) -> Result<()> {
        let held = self.held.bytes();
        if held.is_empty() {
            return Ok(());
        }
        let stream = self.held.stream;
        let written = sinks[stream as usize].try_write(&[IoSlice::new(held)]);
        self.held.start += written
            .map_err(|error| {
                error.context(match stream {
                    Stream::Stdout => "standard output",
                    Stream::Stderr => "standard error",
                })
            })?
            .unwrap_or(0);
        Ok(())
    }

    /// Until something can be sent, received if `receives`, or one of `others` is ready;
    /// whether those are.
    fn wait(
        &self,
        deadline: Deadline,
        receives: bool,
        others: [(Option<BorrowedFd<'_>>, PollFlags); 2],
    ) -> Result<[bool; 2]> {
        let writes = !self.outbox.is_empty();
        let receives = receives && self.expects_more();
        let wanted = [
            others[0],
            others[1],
            (Some(self.duplex.writer).filter(|_| writes), PollFlags::OUT),
            (Some(self.duplex.reader).filter(|_| receives), PollFlags::IN),
            (Some(self.control.fd()).filter(|_| self.takes_control()), PollFlags::IN),
        ];
        let mut fds: Vec<_> = wanted
            .iter()
            .filter_map(|(fd, what)| Some(PollFd::from_borrowed_fd((*fd)?, *what)))
            .collect();
        if poll(&mut fds, deadline, None)? == 0 {
            return Err(Error::new(ErrorKind::TimedOut, "the command runs on"));
        }
        let mut revents = fds.iter().map(PollFd::revents);
        let ready =
            wanted.map(|(fd, _)| fd.and_then(|_| revents.next()).unwrap_or(PollFlags::empty()));
        if (ready[2] | ready[3]).contains(PollFlags::NVAL) {
            return Err(Error::system("poll", Errno::BADF));
        }
        if !ready[4].is_empty() {
            self.control.clear();
        }
        Ok([!ready[0].is_empty(), !ready[1].is_empty()])
    }

    fn remember<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.failure = Some(error.clone());
        }
        outcome
    }
}

/// A body that is output, standard output first.
#[derive(Debug)]
struct Output<'fd> {
    body: BodyReader<'fd>,
    stderr_len: u64,
}

impl<'fd> Output<'fd> {
    /// None if the body has 0 bytes: a frame of output that has only asks whether anybody is
    /// there.
    fn new(body: BodyReader<'fd>, stdout_len: u64) -> Option<Output<'fd>> {
        let stderr_len = body.left().saturating_sub(stdout_len);
        (body.left() > 0).then_some(Output { body, stderr_len })
    }

    /// Reads what is there, of one stream.
    fn read(&mut self, buf: &mut [u8]) -> Result<(Stream, usize)> {
        let left = self.body.left();
        let (stream, left) = match left.saturating_sub(self.stderr_len) {
            0 => (Stream::Stderr, left),
            stdout_left => (Stream::Stdout, stdout_left),
        };
        let length = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let got = self.body.read(&mut buf[..length], Some(Duration::ZERO))?;
        Ok((stream, got))
    }
}

/// Output on its way from the connection to a descriptor.
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
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

/// That the other end takes nothing more is no failure: its reply may still come, and if
/// it does not, that is.
fn tolerate(sent: Result<()>) -> Result<()> {
    match sent {
        Err(error) if error.kind() == ErrorKind::Io => Ok(()),
        sent => sent,
    }
}

fn copy_of(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    reserve(&mut copy, bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Bytes of input in one frame: a signal behind it is not kept waiting for long.
const INPUT_STEP: usize = limits::GROW_STEP;
/// Bytes of output that are copied at once.
const OUTPUT_STEP: usize = 4 * limits::GROW_STEP;
