//! Runs a command to its end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::{ioctl_fionread, retry_on_intr};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::Signal;

use crate::error::{Error, ErrorKind, Result};
use crate::io::child::{Child, Status};
use crate::io::deadline::{Deadline, poll};
use crate::io::environment::Environment;
use crate::io::spawn::{Directory, Process, pipe, spawn_error};
use crate::limits;

/// What to run, and in which surroundings. Its standard input is /dev/null, and it leads
/// a process group of its own, which has no terminal to itself.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    /// The program.
    pub program: Program<'a>,
    /// Where it starts: in the host's directory, if nowhere else.
    pub directory: Option<Directory<'a>>,
    /// Its variables.
    pub environment: Environment,
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
        Command { program, directory: None, environment: Environment::default() }
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

/// Whether a command goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It is ended: SIGTERM, and SIGKILL after [`Limits::term_grace`]. Its output still
    /// comes in meanwhile.
    End,
}

/// What is done while a command runs. An error ends its group at once with SIGKILL, and
/// is returned by [`run_with`].
pub trait Events {
    /// The command wrote `bytes`, one or more, to `stream`.
    fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<Flow>;

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
/// SIGKILL. A process that has left the group lives on, and what a command leaves behind
/// when it ends in time is left alone. If the host dies, the command is killed, though
/// not what it has started.
///
/// [`ErrorKind::Argument`] is an empty command, a NUL byte or a malformed variable,
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
    fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<Flow> {
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
    /// By [`Stream`]; `None` once at its end.
    pipes: [Option<Pipe>; 2],
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
    /// The end of the grace for pipes that are held open. `after_kill` tells that there
    /// is nobody left to be signalled.
    Draining { after_kill: bool },
}

/// The reading end of an output.
struct Pipe {
    fd: OwnedFd,
    enlarged: bool,
}

impl<'a> Run<'a> {
    fn start(command: &Command<'_>, limits: &'a Limits) -> Result<Run<'a>> {
        let argv = arguments(&command.program, limits)?;
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(READ_SIZE)
            .map_err(|_| Error::new(ErrorKind::NoMemory, "buffer"))?;
        let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| spawn_error("/dev/null", errno))?;
        let (stdout, stdout_writer) = pipe()?;
        let (stderr, stderr_writer) = pipe()?;
        let process = Process {
            argv: &argv,
            environment: &command.environment,
            directory: command.directory,
            stdin: null.as_fd(),
            stdout: stdout_writer.as_fd(),
            stderr: stderr_writer.as_fd(),
            die_with_parent: true,
        };
        let child = process.spawn()?;
        let pipe = |fd| Some(Pipe { fd, enlarged: false });
        Ok(Run {
            limits,
            child,
            pipes: [pipe(stdout), pipe(stderr)],
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
        while !self.ended || self.pipes.iter().any(Option::is_some) {
            let ready = self.wait(events)?;
            let mut end = false;
            for stream in [Stream::Stdout, Stream::Stderr] {
                if ready.streams[stream as usize] {
                    end |= self.read(stream, events)? == Flow::End;
                }
            }
            if ready.watched.iter().any(|revents| !revents.is_empty()) {
                end |= events.ready(&ready.watched)? == Flow::End;
            }
            if events.deadline().passed() {
                end |= events.overdue()? == Flow::End;
            }
            if ready.ended {
                self.ended = true;
                if self.phase != Phase::Terminating {
                    self.drain();
                }
            }
            if end {
                self.terminate();
            }
            if self.deadline.passed() && !self.next_phase(events)? {
                break;
            }
        }
        if self.phase == Phase::Terminating {
            // The leader obeyed SIGTERM; others of its group need not have.
            self.child.kill();
        }
        Ok(())
    }

    fn wait(&self, events: &dyn Events) -> Result<Ready> {
        let mut fds = Vec::with_capacity(8);
        for pipe in self.pipes.iter().flatten() {
            fds.push(PollFd::new(&pipe.fd, PollFlags::IN));
        }
        let wait_fd = if self.ended { None } else { self.child.wait_fd() };
        if let Some(fd) = wait_fd {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        events.watch(&mut fds);
        let must_ask = !self.ended && wait_fd.is_none();
        let ask = if must_ask { Deadline::after(ASK_AGAIN) } else { Deadline::NEVER };
        poll(&mut fds, self.deadline.min(events.deadline()).min(ask))?;

        let mut revents = fds.iter().map(PollFd::revents);
        let mut is_ready = |polled| polled && revents.next().is_some_and(|r| !r.is_empty());
        let [stdout, stderr] = &self.pipes;
        Ok(Ready {
            streams: [is_ready(stdout.is_some()), is_ready(stderr.is_some())],
            ended: is_ready(wait_fd.is_some()) || (must_ask && self.child.has_ended()),
            watched: revents.collect(),
        })
    }

    fn read(&mut self, stream: Stream, events: &mut dyn Events) -> Result<Flow> {
        let slot = &mut self.pipes[stream as usize];
        let Some(pipe) = slot else { return Ok(Flow::Continue) };
        self.buffer.clear();
        let buffer = &mut self.buffer;
        let length = retry_on_intr(|| rustix::io::read(&pipe.fd, spare_capacity(buffer)))
            .map_err(|errno| Error::system("read", errno))?;
        if length == 0 {
            *slot = None;
            return Ok(Flow::Continue);
        }
        if length >= PIPE_SIZE && !pipe.enlarged {
            // It was full: the command waits for us. That it may not be larger is no harm.
            let _ = fcntl_setpipe_size(&pipe.fd, READ_SIZE);
            pipe.enlarged = true;
        }
        self.totals[stream as usize] += length as u64;
        events.output(stream, &self.buffer)
    }

    /// Asks the group to end.
    fn terminate(&mut self) {
        if matches!(self.phase, Phase::Running | Phase::Draining { after_kill: false }) {
            // What cannot be signalled will not be killed either: the next phase tells.
            let _ = self.child.signal(Signal::TERM);
            self.phase = Phase::Terminating;
            self.deadline = Deadline::after(self.limits.term_grace);
        }
    }

    /// The leader has ended. What it wrote is read, and a little of what others write.
    fn drain(&mut self) {
        self.phase = Phase::Draining { after_kill: self.phase != Phase::Running };
        self.deadline = Deadline::after(self.limits.drain_grace);
    }

    /// The phase is over. False if the run is.
    fn next_phase(&mut self, events: &mut dyn Events) -> Result<bool> {
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
            Phase::Killed => {}
            Phase::Draining { .. } => {
                self.read_what_is_there(events)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the pipes hold at this moment. Even if the grace went by while this process
    /// was not running, nothing that the command itself wrote is lost.
    fn read_what_is_there(&mut self, events: &mut dyn Events) -> Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let Some(pipe) = &self.pipes[stream as usize] else { continue };
            let there = ioctl_fionread(&pipe.fd).map_err(|errno| Error::system("ioctl", errno))?;
            let until = self.totals[stream as usize] + there;
            while self.totals[stream as usize] < until && self.pipes[stream as usize].is_some() {
                self.read(stream, events)?;
            }
        }
        Ok(())
    }

    fn finish(self, started: Instant) -> Outcome {
        let [stdout_total, stderr_total] = self.totals;
        Outcome {
            pipe_held: self.ended && self.pipes.iter().any(Option::is_some),
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
    ended: bool,
    watched: Vec<PollFlags>,
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

/// One read, and a pipe that was found full: 1 MiB is the most that anybody may have
/// (`/proc/sys/fs/pipe-max-size`).
const READ_SIZE: usize = 1024 * 1024;
/// A pipe as the kernel makes it, see pipe(7).
const PIPE_SIZE: usize = 64 * 1024;
/// How often a command without a [`Child::wait_fd`] is looked at.
const ASK_AGAIN: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, test_kill_process};

    use super::*;

    /// Calls a function with each piece of output, and ends the command when told to.
    struct Script<'a> {
        on_output: &'a mut dyn FnMut(&[u8]) -> Result<Flow>,
        stop: Option<OwnedFd>,
    }

    impl Events for Script<'_> {
        fn output(&mut self, _: Stream, bytes: &[u8]) -> Result<Flow> {
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
            Err(Error::new(ErrorKind::Cancelled, "enough"))
        };
        let mut events = Script { on_output: &mut on_output, stop: None };
        let command = Command::shell(b"trap '' TERM; echo $$; sleep 1000");
        let error = run_with(&command, &Limits::default(), &mut events).unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::Cancelled, "enough"));
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
        assert!(!run.next_phase(&mut collector).unwrap());
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
