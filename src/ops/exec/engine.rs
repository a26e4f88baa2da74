//! Runs a command to its end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::process::child::{Child, Status};
use crate::io::process::environment::Environment;
use crate::io::process::spawn::{Confinement, Directory, Process};
use crate::io::process::stdio::{Channel, Ends, PIPE_SIZE};
use crate::io::process::terminal::{Terminal, WindowSize};
use crate::io::wait::poll;
use crate::limits;

pub use crate::io::process::stdio::Stdio;

/// What to run, and in which surroundings. It leads a process group of its own.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    /// The program.
    pub program: Program<'a>,
    /// Where it starts: in the host's directory, if nowhere else.
    pub directory: Option<Directory<'a>>,
    /// Its variables.
    pub environment: Environment,
    /// Its descriptors 0, 1 and 2; it has no other.
    pub stdio: Stdio,
    /// What it may not do that the host may.
    pub confinement: Confinement,
}

/// The program of a command.
#[derive(Clone, Debug)]
pub enum Program<'a> {
    /// Shell code, run by `/bin/sh -c`. What is put together from other people's strings
    /// belongs in `Argv`.
    Shell(&'a [u8]),
    /// A program and its arguments, without a shell.
    Argv(Vec<&'a [u8]>),
}

impl<'a> Command<'a> {
    /// `text` as shell code, in the host's directory, with a clean environment.
    pub fn shell(text: &'a [u8]) -> Command<'a> {
        Command::new(Program::Shell(text))
    }

    /// A program and its arguments, in the host's directory, with a clean environment.
    pub fn argv(argv: Vec<&'a [u8]>) -> Command<'a> {
        Command::new(Program::Argv(argv))
    }

    fn new(program: Program<'a>) -> Command<'a> {
        Command {
            program,
            directory: None,
            environment: Environment::default(),
            stdio: Stdio::default(),
            confinement: Confinement::default(),
        }
    }
}

/// What a command may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of shell code, or of all arguments together, each with its NUL. What is
    /// above, or above [`limits::MAX_COMMAND_HARD`], is refused.
    pub max_command: u64,
    /// How long it may run.
    pub time: Option<Duration>,
    /// From SIGTERM to SIGKILL, for a command that has to end.
    pub term_grace: Duration,
    /// How long its output is read on after its end, while something that it started
    /// holds a pipe open.
    pub drain_grace: Duration,
    /// Bytes of output kept, for each stream.
    pub max_output: u64,
    /// What happens to a command that writes more.
    pub on_output_limit: OnOutputLimit,
}

/// What happens to a command that writes more than is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOutputLimit {
    /// It runs on, and the rest of its output is dropped.
    Drain,
    /// It is ended.
    End,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_command: limits::MAX_COMMAND,
            time: None,
            term_grace: limits::TERM_GRACE,
            drain_grace: limits::DRAIN_GRACE,
            max_output: limits::MAX_OUTPUT,
            on_output_limit: OnOutputLimit::Drain,
        }
    }
}

/// How a run went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// How the command ended.
    pub status: Status,
    /// It was ended because its time was up.
    pub timed_out: bool,
    /// Something that it started still held a pipe open when the reading stopped.
    pub pipe_held: bool,
    /// Bytes it wrote to its standard output.
    pub stdout_total: u64,
    /// Bytes it wrote to its standard error.
    pub stderr_total: u64,
    /// From before its start to the end of the run.
    pub elapsed: Duration,
}

/// How a run went, and what the command wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it went.
    pub outcome: Outcome,
    /// The first [`Limits::max_output`] bytes of its standard output.
    pub stdout: Vec<u8>,
    /// The same of its standard error.
    pub stderr: Vec<u8>,
    /// There was more on one of them than was kept.
    pub truncated: bool,
}

/// One of a command's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It is ended: SIGTERM, and SIGKILL after [`Limits::term_grace`]. Its output still
    /// comes in meanwhile.
    End,
    /// Its whole group gets this signal, and so does the job in the foreground of its
    /// terminal.
    Signal(Signal),
    /// Its terminal changes its size; without one nothing does.
    Resize(WindowSize),
}

/// What there is for a command to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// These bytes come next.
    Bytes(&'a [u8]),
    /// Nothing at the moment.
    Later,
    /// No more; on a terminal the character for that is typed. Not asked for again.
    End,
}

/// What is done while a command runs. An error ends its group at once with SIGKILL, and
/// is returned by [`run_with`].
pub trait Events {
    /// The command wrote `bytes`, one or more, to `stream`. The buffer may be taken, where
    /// another one is left in its place.
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow>;

    /// Whether there is room for more output. Until there is, nothing is read, and the
    /// command has to wait once its pipes are full; nothing that it wrote is lost for it.
    /// Asked before each wait.
    fn takes_output(&self) -> bool {
        true
    }

    /// What the command may read next. Asked before each wait, if its stdin is open.
    fn input(&self) -> Input<'_> {
        Input::End
    }

    /// The command's stdin took the first `length` bytes of that.
    fn consumed(&mut self, _length: usize) {}

    /// The command reads no more, and input can be dropped. Not called after an
    /// [`Input::End`].
    fn input_closed(&mut self) {}

    /// The command has ended; output may still come.
    fn ended(&mut self) {}

    /// Adds descriptors to wait for as well. Asked before each wait.
    fn watch<'a>(&'a self, _fds: &mut Vec<PollFd<'a>>) {}

    /// What those of the last [`watch`](Events::watch) are ready for, in their order.
    /// Called when one of them is.
    fn ready(&mut self, _ready: &[PollFlags]) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// When to be asked even if nothing happens. Asked before each wait.
    fn deadline(&self) -> Deadline {
        Deadline::NEVER
    }

    /// That deadline has passed.
    fn overdue(&mut self) -> Result<Flow> {
        Ok(Flow::Continue)
    }
}

/// Runs a command and keeps its output.
///
/// The whole group is ended when the time is up: with SIGTERM, and after the grace with
/// SIGKILL; with a terminal the whole session is, the jobs of a shell included. A process
/// that has left that lives on, and what a command leaves behind when it ends in time is
/// left alone. If the host dies, the command is killed, though
/// not what it has started.
///
/// [`ErrorKind::Argument`] is an empty command, a NUL byte, a malformed variable or no user,
/// [`ErrorKind::TooBig`] a command above the limit: nothing was run. [`ErrorKind::Spawn`]
/// is a command that could not be started, and tells the step and the errno. A status
/// other than 0, a limit that was reached and a lost status are no errors.
pub fn run(command: &Command<'_>, limits: &Limits) -> Result<Output> {
    let mut collector = Collector::new(limits);
    let outcome = run_with(command, limits, &mut collector)?;
    Ok(collector.into_output(outcome))
}

/// Runs a command and hands its output to `events` as it comes. As [`run`] otherwise;
/// `max_output` and `on_output_limit` are for `events` to keep.
pub fn run_with(
    command: &Command<'_>,
    limits: &Limits,
    events: &mut dyn Events,
) -> Result<Outcome> {
    let started = Instant::now();
    let mut run = Run::start(command, limits)?;
    run.drive(events)?;
    Ok(run.finish(started))
}

/// Keeps the first bytes of both streams.
pub(crate) struct Collector {
    kept: [Vec<u8>; 2],
    max: usize,
    on_limit: OnOutputLimit,
    truncated: bool,
}

impl Collector {
    pub(crate) fn new(limits: &Limits) -> Collector {
        Collector {
            kept: [Vec::new(), Vec::new()],
            max: usize::try_from(limits.max_output).unwrap_or(usize::MAX),
            on_limit: limits.on_output_limit,
            truncated: false,
        }
    }

    pub(crate) fn into_output(self, outcome: Outcome) -> Output {
        let [stdout, stderr] = self.kept;
        Output { outcome, stdout, stderr, truncated: self.truncated }
    }
}

impl Events for Collector {
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        let kept = &mut self.kept[stream as usize];
        let taken = &bytes[..bytes.len().min(self.max - kept.len())];
        kept.try_reserve(taken.len()).map_err(|_| Error::new(ErrorKind::NoMemory, "output"))?;
        kept.extend_from_slice(taken);
        if taken.len() == bytes.len() {
            return Ok(Flow::Continue);
        }
        self.truncated = true;
        Ok(match self.on_limit {
            OnOutputLimit::Drain => Flow::Continue,
            OnOutputLimit::End => Flow::End,
        })
    }
}

/// A command that runs.
struct Run<'a> {
    limits: &'a Limits,
    child: Child,
    /// Open to the end: its last descriptor hangs up.
    terminal: Option<Terminal>,
    /// By [`Stream`]; `None` once at its end.
    outputs: [Option<Channel>; 2],
    /// `None` where there is none, and once it is closed.
    input: Option<Feed>,
    totals: [u64; 2],
    buffer: Vec<u8>,
    phase: Phase,
    /// When the phase is over.
    deadline: Deadline,
    /// The leader has ended. It is reaped last: until then its group has its number.
    ended: bool,
    timed_out: bool,
}

/// What a run waits for, besides the end of the command and of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The end of its time.
    Running,
    /// The end of the grace that SIGTERM gave.
    Terminating,
    /// Nothing: SIGKILL was sent.
    Killed,
    /// The end of the grace for pipes that are held open.
    Draining {
        /// There is nobody left to be signalled.
        after_kill: bool,
        /// What is left of the grace, while no output is taken.
        paused: Option<Duration>,
    },
    /// What the pipes held at the end of that grace: until the totals are these.
    Emptying { until: [u64; 2] },
}

/// Where the command's input is written.
struct Feed {
    channel: Channel,
    /// The last byte was not the end of a line.
    in_a_line: bool,
    /// There is no more input, and these characters say so.
    farewell: Option<Vec<u8>>,
}

impl Feed {
    fn new(channel: Channel) -> Feed {
        Feed { channel, in_a_line: false, farewell: None }
    }
}

/// What is to be written next.
fn next_bytes<'a>(farewell: Option<&'a Vec<u8>>, events: &'a dyn Events) -> &'a [u8] {
    match farewell {
        Some(farewell) => farewell,
        None => match events.input() {
            Input::Bytes(bytes) => bytes,
            Input::Later | Input::End => &[],
        },
    }
}

impl<'a> Run<'a> {
    fn start(command: &Command<'_>, limits: &'a Limits) -> Result<Run<'a>> {
        let argv = arguments(&command.program, limits)?;
        let mut buffer = Vec::new();
        make_room(&mut buffer, PIPE_SIZE)?;
        command.confinement.check()?;
        let owner = command.confinement.user.map(|(user, _)| user);
        let Ends { theirs, outputs, input, terminal } = command.stdio.open(owner)?;
        let process = Process {
            argv: &argv,
            environment: &command.environment,
            directory: command.directory,
            stdin: theirs[0].as_fd(),
            stdout: theirs[1].as_fd(),
            stderr: theirs[2].as_fd(),
            confinement: command.confinement,
            on_terminal: terminal.is_some(),
            die_with_parent: true,
        };
        let child = process.spawn()?;
        Ok(Run {
            limits,
            child,
            terminal,
            outputs,
            input: input.map(Feed::new),
            totals: [0; 2],
            buffer,
            phase: Phase::Running,
            deadline: limits.time.map_or(Deadline::NEVER, Deadline::after),
            ended: false,
            timed_out: false,
        })
    }

    /// Until the command and its output have ended, or need no longer be waited for.
    fn drive(&mut self, events: &mut dyn Events) -> Result<()> {
        while !self.ended || Stream::BOTH.iter().any(|stream| self.reads(*stream)) {
            let taking = events.takes_output();
            self.pause(!taking);
            self.end_input(events);
            let ready = self.wait(events, taking)?;
            if matches!(self.phase, Phase::Emptying { .. }) && taking && ready.streams == [false; 2]
            {
                break;
            }
            for stream in Stream::BOTH {
                // The other one may have filled whatever takes it.
                if ready.streams[stream as usize] && events.takes_output() {
                    let flow = self.read(stream, events)?;
                    self.follow(flow);
                }
            }
            if !ready.input.is_empty() {
                self.feed(ready.input, events)?;
            }
            if ready.watched.iter().any(|revents| !revents.is_empty()) {
                let flow = events.ready(&ready.watched)?;
                self.follow(flow);
            }
            if events.deadline().passed() {
                let flow = events.overdue()?;
                self.follow(flow);
            }
            if ready.ended {
                self.ended = true;
                events.ended();
                if self.phase != Phase::Terminating {
                    self.drain();
                }
            }
            if self.deadline.passed() && !self.next_phase()? {
                break;
            }
        }
        if self.phase == Phase::Terminating {
            // The leader obeyed SIGTERM; others of its group need not have.
            self.child.kill();
        }
        Ok(())
    }

    /// Whether there is, or may be, something to be read from an output.
    fn reads(&self, stream: Stream) -> bool {
        let index = stream as usize;
        self.outputs[index].is_some()
            && match self.phase {
                Phase::Emptying { until } => self.totals[index] < until[index],
                _ => true,
            }
    }

    fn wait(&self, events: &dyn Events, taking: bool) -> Result<Ready> {
        let mut fds = Vec::with_capacity(8);
        let polled = Stream::BOTH.map(|stream| taking && self.reads(stream));
        for (output, polled) in self.outputs.iter().zip(polled) {
            if let Some(output) = output.as_ref().filter(|_| polled) {
                fds.push(PollFd::new(output, PollFlags::IN));
            }
        }
        if let Some(feed) = &self.input {
            let idle = next_bytes(feed.farewell.as_ref(), events).is_empty();
            // Then only for the error that tells that nobody reads.
            let what = if idle { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(&feed.channel, what));
        }
        let wait_fd = if self.ended { None } else { self.child.wait_fd() };
        if let Some(fd) = wait_fd {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        events.watch(&mut fds);
        let must_ask = !self.ended && wait_fd.is_none();
        let ask = if must_ask { Deadline::after(ASK_AGAIN) } else { Deadline::NEVER };
        let at_once = taking && matches!(self.phase, Phase::Emptying { .. });
        let deadline = if at_once { Deadline::after(Duration::ZERO) } else { self.deadline };
        poll(&mut fds, deadline.min(events.deadline()).min(ask), None)?;

        let mut revents = fds.iter().map(PollFd::revents);
        let mut of =
            |polled| if polled { revents.next() } else { None }.unwrap_or(PollFlags::empty());
        Ok(Ready {
            streams: polled.map(|polled| !of(polled).is_empty()),
            input: of(self.input.is_some()),
            ended: !of(wait_fd.is_some()).is_empty() || (must_ask && self.child.has_ended()),
            watched: revents.collect(),
        })
    }

    fn read(&mut self, stream: Stream, events: &mut dyn Events) -> Result<Flow> {
        let slot = &mut self.outputs[stream as usize];
        let Some(output) = slot else { return Ok(Flow::Continue) };
        make_room(&mut self.buffer, output.read_size())?;
        match output.read(&mut self.buffer) {
            Ok(0) => *slot = None,
            Ok(length) => {
                self.totals[stream as usize] += length as u64;
                return events.output(stream, &mut self.buffer);
            }
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(Error::system("read", errno)),
        }
        Ok(Flow::Continue)
    }

    /// Closes the input when there is no more, or says so on the terminal.
    fn end_input(&mut self, events: &dyn Events) {
        let Some(feed) = &mut self.input else { return };
        if feed.farewell.is_none() && events.input() == Input::End {
            let farewell = |terminal: &Terminal| terminal.end_of_input(feed.in_a_line);
            feed.farewell = Some(self.terminal.as_ref().map(farewell).unwrap_or_default());
        }
        if feed.farewell.as_ref().is_some_and(Vec::is_empty) {
            self.input = None;
        }
    }

    /// Gives the command something to read.
    fn feed(&mut self, ready: PollFlags, events: &mut dyn Events) -> Result<()> {
        let Some(feed) = &mut self.input else { return Ok(()) };
        let nobody_reads = ready.intersects(PollFlags::ERR | PollFlags::HUP);
        let bytes = next_bytes(feed.farewell.as_ref(), events);
        let written = match bytes {
            _ if nobody_reads => Err(Errno::PIPE),
            [] => return Ok(()),
            _ => feed.channel.write(bytes),
        };
        match written {
            Ok(length) => {
                let last = bytes.get(..length).and_then(<[u8]>::last);
                feed.in_a_line = !matches!(last, None | Some(b'\n' | b'\r'));
                match &mut feed.farewell {
                    Some(farewell) => drop(farewell.drain(..length)),
                    None => events.consumed(length),
                }
            }
            Err(Errno::AGAIN) => {}
            Err(Errno::PIPE | Errno::IO) => {
                if feed.farewell.is_none() {
                    events.input_closed();
                }
                self.input = None;
            }
            Err(errno) => return Err(Error::system("write", errno)),
        }
        Ok(())
    }

    fn follow(&mut self, flow: Flow) {
        match flow {
            Flow::Continue => {}
            Flow::End => self.terminate(),
            Flow::Signal(signal) => self.signal(signal),
            Flow::Resize(size) => {
                // That a terminal may not be resized is no harm.
                let _ = self.terminal.as_ref().map(|terminal| terminal.resize(size));
            }
        }
    }

    /// Signals the group, and the job in the foreground if that is another one. There may
    /// be nobody left.
    fn signal(&self, signal: Signal) {
        let _ = self.child.signal(signal);
        let foreground = self.terminal.as_ref().and_then(Terminal::foreground);
        if let Some(foreground) = foreground.filter(|group| *group != self.child.pid()) {
            self.child.signal_session(Some(foreground), signal);
        }
    }

    /// Asks the group to end, and everybody on the terminal.
    fn terminate(&mut self) {
        if matches!(self.phase, Phase::Running | Phase::Draining { after_kill: false, .. }) {
            // What cannot be signalled will not be killed either: the next phase tells.
            let _ = self.child.signal(Signal::TERM);
            self.child.signal_session(None, Signal::TERM);
            self.phase = Phase::Terminating;
            self.deadline = Deadline::after(self.limits.term_grace);
        }
    }

    /// The leader has ended. What it wrote is read, and a little of what others write.
    fn drain(&mut self) {
        self.phase = Phase::Draining { after_kill: self.phase != Phase::Running, paused: None };
        self.deadline = Deadline::after(self.limits.drain_grace);
    }

    /// The grace for the output goes by only while the output is read.
    fn pause(&mut self, pause: bool) {
        let Phase::Draining { paused, .. } = &mut self.phase else { return };
        match *paused {
            None if pause => {
                *paused = Some(self.deadline.remaining().unwrap_or(Duration::MAX));
                self.deadline = Deadline::NEVER;
            }
            Some(left) if !pause => {
                *paused = None;
                self.deadline = Deadline::after(left);
            }
            _ => {}
        }
    }

    /// The phase is over. False if the run is.
    fn next_phase(&mut self) -> Result<bool> {
        match self.phase {
            Phase::Running => {
                self.timed_out = true;
                self.terminate();
            }
            Phase::Terminating => {
                let will_end = self.child.kill();
                if self.ended {
                    self.drain();
                } else if will_end {
                    self.phase = Phase::Killed;
                    self.deadline = Deadline::NEVER;
                } else {
                    return Ok(false);
                }
            }
            Phase::Draining { .. } => self.empty()?,
            Phase::Killed | Phase::Emptying { .. } => {}
        }
        Ok(true)
    }

    /// Even if the grace went by while this process was not running, nothing that the
    /// command itself wrote is lost.
    fn empty(&mut self) -> Result<()> {
        let mut until = self.totals;
        for (output, until) in self.outputs.iter().zip(&mut until) {
            if let Some(output) = output {
                *until += output.unread().map_err(|errno| Error::system("ioctl", errno))?;
            }
        }
        self.phase = Phase::Emptying { until };
        self.deadline = Deadline::NEVER;
        Ok(())
    }

    fn finish(self, started: Instant) -> Outcome {
        let [stdout_total, stderr_total] = self.totals;
        Outcome {
            pipe_held: self.ended
                && self.outputs.iter().flatten().any(|output| !output.is_at_end()),
            // Not to be had from a command that cannot be killed.
            status: if self.ended { self.child.wait() } else { Status::Lost },
            timed_out: self.timed_out,
            stdout_total,
            stderr_total,
            elapsed: started.elapsed(),
        }
    }
}

/// What a wait found.
struct Ready {
    streams: [bool; 2],
    input: PollFlags,
    ended: bool,
    watched: Vec<PollFlags>,
}

impl Stream {
    const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];
}

/// Empties the buffer of one read, which somebody may have exchanged for another.
fn make_room(buffer: &mut Vec<u8>, size: usize) -> Result<()> {
    buffer.clear();
    buffer.try_reserve_exact(size).map_err(|_| Error::new(ErrorKind::NoMemory, "buffer"))
}

/// The argument vector of a program that is within the limits.
fn arguments<'a>(program: &Program<'a>, limits: &Limits) -> Result<Vec<&'a [u8]>> {
    let (argv, length, empty) = match program {
        // "--": a command may begin with a dash.
        Program::Shell(text) => {
            (vec![b"/bin/sh".as_slice(), b"-c", b"--", text], text.len(), text.is_empty())
        }
        Program::Argv(argv) => {
            let length = argv.iter().map(|arg| arg.len() + 1).sum();
            (argv.clone(), length, argv.first().is_none_or(|program| program.is_empty()))
        }
    };
    if empty {
        return Err(Error::new(ErrorKind::Argument, "the command is empty"));
    }
    let max = limits.max_command.min(limits::MAX_COMMAND_HARD);
    if length as u64 > max {
        return Err(Error::new(
            ErrorKind::TooBig,
            format!("a command of {length} bytes, where {max} are allowed"),
        ));
    }
    Ok(argv)
}

/// How often a command without a [`Child::wait_fd`] is looked at.
const ASK_AGAIN: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::process::{Pid, test_kill_process};

    use super::*;
    use crate::io::process::spawn::pipe;

    /// Calls a function with each piece of output, and ends the command when told to.
    struct Script<'a> {
        on_output: &'a mut dyn FnMut(&[u8]) -> Result<Flow>,
        stop: Option<OwnedFd>,
    }

    impl Events for Script<'_> {
        fn output(&mut self, _: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
            (self.on_output)(bytes)
        }

        fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
            fds.extend(self.stop.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        }

        fn ready(&mut self, ready: &[PollFlags]) -> Result<Flow> {
            assert_eq!(ready.len(), 1);
            assert!(ready[0].contains(PollFlags::IN));
            self.stop = None;
            Ok(Flow::End)
        }
    }

    #[test]
    fn a_watched_descriptor_ends_the_command() {
        let (stop, stopper) = pipe().unwrap();
        let command = Command::shell(b"echo up; sleep 1000");
        let mut on_output = |_: &[u8]| {
            rustix::io::write(&stopper, b"x").unwrap();
            Ok(Flow::Continue)
        };
        let mut events = Script { on_output: &mut on_output, stop: Some(stop) };
        let outcome = run_with(&command, &Limits::default(), &mut events).unwrap();
        assert_eq!(outcome.status, Status::Signaled(libc::SIGTERM));
        assert!(!outcome.timed_out && !outcome.pipe_held);
        assert_eq!(outcome.stdout_total, 3);
    }

    #[test]
    fn the_handler_ends_the_command_or_what_is_left_of_it() {
        for text in [b"yes".as_slice(), b"(sleep 0.1; exec yes) &"] {
            let mut on_output = |_: &[u8]| Ok(Flow::End);
            let mut events = Script { on_output: &mut on_output, stop: None };
            let limits = Limits { drain_grace: Duration::from_secs(60), ..Limits::default() };
            let outcome = run_with(&Command::shell(text), &limits, &mut events).unwrap();
            assert!(outcome.elapsed < Duration::from_secs(30));
            assert!(!outcome.timed_out && !outcome.pipe_held);
        }
    }

    #[test]
    fn an_error_of_the_handler_leaves_nothing_behind() {
        let mut pid = 0;
        let mut on_output = |bytes: &[u8]| {
            pid = std::str::from_utf8(bytes).unwrap().trim().parse().unwrap();
            Err(Error::new(ErrorKind::Canceled, "enough"))
        };
        let mut events = Script { on_output: &mut on_output, stop: None };
        let command = Command::shell(b"trap '' TERM; echo $$; sleep 1000");
        let error = run_with(&command, &Limits::default(), &mut events).unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::Canceled, "enough"));
        let gone = test_kill_process(Pid::from_raw(pid).unwrap());
        assert_eq!(gone, Err(rustix::io::Errno::SRCH));
    }

    #[test]
    fn a_kernel_without_process_descriptors_will_do() {
        let time = Some(Duration::from_millis(50));
        for (text, time, status) in [
            (b"echo x; exit 3".as_slice(), None, Status::Exited(3)),
            (b"echo x; kill -9 $$", None, Status::Signaled(9)),
            (b"echo x; sleep 1000", time, Status::Signaled(15)),
            (b"echo x; exec >&- 2>&-; sleep 0.05", None, Status::Exited(0)),
        ] {
            let limits = Limits { time, ..Limits::default() };
            let mut collector = Collector::new(&limits);
            let mut run = Run::start(&Command::shell(text), &limits).unwrap();
            run.child.forget_pidfd();
            run.drive(&mut collector).unwrap();
            let outcome = run.finish(Instant::now());
            assert_eq!((outcome.status, outcome.timed_out), (status, time.is_some()));
            assert_eq!(collector.kept[0], b"x\n");
        }
    }

    #[test]
    fn what_the_command_wrote_is_read_even_after_the_grace() {
        let limits = Limits { drain_grace: Duration::ZERO, ..Limits::default() };
        let mut collector = Collector::new(&limits);
        let command = Command::shell(b"sleep 2 & echo out; echo err >&2");
        let mut run = Run::start(&command, &limits).unwrap();
        while !run.child.has_ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        run.ended = true;
        run.drain();
        assert!(run.next_phase().unwrap());
        run.drive(&mut collector).unwrap();
        assert_eq!(collector.kept, [b"out\n", b"err\n"]);
        assert!(run.finish(Instant::now()).pipe_held);
    }

    #[test]
    fn a_command_is_within_its_limits() {
        let limits = |max_command| Limits { max_command, ..Limits::default() };
        let text = vec![b'x'; 200_000];
        let length = |program: &Program<'_>, max| arguments(program, &limits(max)).map(|_| ());
        let too_big = Some(ErrorKind::TooBig);
        for (size, max, kind) in [
            (1, 1, None),
            (2, 1, too_big),
            (65_536, limits::MAX_COMMAND, None),
            (65_537, limits::MAX_COMMAND, too_big),
            (131_071, u64::MAX, None),
            (131_072, u64::MAX, too_big),
        ] {
            let shell = Program::Shell(&text[..size]);
            assert_eq!(length(&shell, max).err().map(|error| error.kind()), kind, "{size}");
            // Two arguments, each with its NUL.
            if size > 3 {
                let argv = Program::Argv(vec![b"x", &text[..size - 3]]);
                assert_eq!(length(&argv, max).err().map(|error| error.kind()), kind, "{size}");
            }
        }
    }
}
