//! Runs a command to its end.
//!
//! A run is in one of five phases. Each ends at its deadline, if nothing ends it before:
//!
//! | Phase         | Deadline                | At the deadline                           |
//! |---------------|-------------------------|-------------------------------------------|
//! | `Running`     | [`Limits::time`]        | SIGTERM, `Terminating`; it has timed out  |
//! | `Terminating` | [`Limits::term_grace`]  | SIGKILL, `Killed`; if the leader has      |
//! |               |                         | ended, `Draining`; if it cannot be        |
//! |               |                         | killed, the run is over                   |
//! | `Killed`      | none                    |                                           |
//! | `Draining`    | [`Limits::drain_grace`] | `Emptying`; the clock stands still while  |
//! |               |                         | no output is taken                        |
//! | `Emptying`    | none                    |                                           |
//!
//! | Event                  | `Running`     | `Terminating` | `Killed`   | `Draining`      |
//! |------------------------|---------------|---------------|------------|-----------------|
//! | the leader ends        | `Draining`    | no change     | `Draining` |                 |
//! | [`Flow::End`]          | `Terminating` | no change     | no change  | `Terminating`,  |
//! |                        |               |               |            | unless killed   |
//! | the leader has ended,  |               | SIGKILL, over |            | over            |
//! | both outputs have too  |               |               |            |                 |
//!
//! After the leader's end only others of its group can be ended, so `Terminating` keeps its
//! grace for them. `Emptying` reads only the bytes that the pipes held when it began; then the
//! run is over.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use super::command::{Command, Limits, arguments};
use super::completion::Completion;
use super::handler::{Flow, Handler, Input, Interest, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::process::child::{Child, Status};
use crate::io::process::spawn::Process;
use crate::io::process::stdio::{Channel, Ends, PIPE_SIZE};
use crate::io::process::terminal::Terminal;
use crate::io::wait::{Interrupt, poll};
use crate::limits;

/// Runs a command and passes its output to `handler` as it is read. `handler` must apply
/// `max_output` and `on_output_limit`.
///
/// When the time limit expires, the whole process group is ended: with SIGTERM, then after the
/// grace with SIGKILL. With a terminal that is the whole session with the jobs of a shell. A
/// process that has left the group or session lives on. Processes that a command leaves behind
/// when it ends in time are not ended. If the host dies, the command is killed, but not the
/// processes that it has started.
///
/// [`ErrorKind::Argument`] is an empty command, a NUL byte, a malformed variable or an invalid
/// user, [`ErrorKind::TooBig`] a command above the limit: nothing was run. [`ErrorKind::Spawn`]
/// is a command that could not be started; it names the step and the errno. A status other than
/// 0, a limit that was reached and a lost status are not errors.
pub fn run_with(
    command: &Command<'_>,
    limits: &Limits,
    handler: &mut dyn Handler,
) -> Result<Completion> {
    let mut run = Run::start(command, limits)?;
    run.drive(handler)?;
    Ok(run.finish())
}

/// A running command.
struct Run<'a> {
    limits: &'a Limits,
    child: Child,
    /// Kept open to the end: closing the last descriptor hangs up.
    terminal: Option<Terminal>,
    /// By [`Stream`]; `None` once at its end.
    outputs: [Option<Channel>; 2],
    /// `None` if there is none, and once it is closed.
    stdin: Option<Stdin>,
    totals: [u64; 2],
    buffer: Vec<u8>,
    phase: Phase,
    /// When the phase ends.
    deadline: Deadline,
    /// The leader has ended. It is reaped last: until then its group has its number.
    ended: bool,
    timed_out: bool,
}

/// The phases of the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The end of its time.
    Running,
    /// The end of the grace after SIGTERM.
    Terminating,
    /// Nothing: SIGKILL was sent.
    Killed,
    /// The end of the grace for pipes that are held open.
    Draining {
        /// No process is left to be signalled.
        after_kill: bool,
        /// The rest of the grace, while no output is read.
        paused: Option<Duration>,
    },
    /// The bytes that the pipes held at the end of that grace: until the totals are these.
    Emptying { until: [u64; 2] },
}

/// The write end of the command's input.
struct Stdin {
    channel: Channel,
    /// The last byte was not the end of a line.
    in_a_line: bool,
    /// The input has ended, and these characters report that to the terminal.
    eof_bytes: Option<Vec<u8>>,
    /// When they are typed again, and the pause after that.
    again: (Deadline, Duration),
}

impl Stdin {
    fn new(channel: Channel) -> Stdin {
        let again = (Deadline::NEVER, limits::TYPE_AGAIN);
        Stdin { channel, in_a_line: false, eof_bytes: None, again }
    }
}

/// The bytes to write next.
fn next_bytes<'a>(eof_bytes: Option<&'a Vec<u8>>, handler: &'a dyn Handler) -> &'a [u8] {
    match eof_bytes {
        Some(eof_bytes) => eof_bytes,
        None => match handler.input() {
            Input::Bytes(bytes) => bytes,
            Input::Later | Input::End => &[],
        },
    }
}

/// The result of a wait.
struct Ready {
    /// By [`Stream`].
    outputs: [bool; 2],
    stdin: PollFlags,
    /// Each in its place in [`Handler::interests`].
    handler: [PollFlags; 2],
    /// The leader has ended.
    ended: bool,
}

impl<'a> Run<'a> {
    fn start(command: &Command<'_>, limits: &'a Limits) -> Result<Run<'a>> {
        let argv = arguments(&command.program, limits)?;
        let mut buffer = Vec::new();
        make_room(&mut buffer, PIPE_SIZE)?;
        command.confinement.check(&command.groups)?;
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
            groups: &command.groups,
            on_terminal: terminal.is_some(),
            die_with_parent: true,
        };
        let child = process.spawn()?;
        Ok(Run {
            limits,
            child,
            terminal,
            outputs,
            stdin: input.map(Stdin::new),
            totals: [0; 2],
            buffer,
            phase: Phase::Running,
            deadline: limits.time.map_or(Deadline::NEVER, Deadline::after),
            ended: false,
            timed_out: false,
        })
    }

    /// Runs until the command and its output have ended, or the waiting is over.
    fn drive(&mut self, handler: &mut dyn Handler) -> Result<()> {
        while !self.ended || Stream::BOTH.iter().any(|stream| self.reads(*stream)) {
            if !self.turn(handler)? {
                break;
            }
        }
        if self.phase == Phase::Terminating {
            // The leader obeyed SIGTERM; others of its group need not have.
            self.child.kill();
        }
        Ok(())
    }

    /// One turn, whose order counts:
    ///
    /// 1. The grace for the output stands still if no output is taken now.
    /// 2. The input is closed if there is no more. The wait needs to know.
    /// 3. The one wait.
    /// 4. Each output is read once, before the end is noted: output that was there first
    ///    does not count against the grace.
    /// 5. The input is written once.
    /// 6. The handler uses its descriptors, and its deadline is checked.
    /// 7. The leader's end is noted.
    /// 8. The phase ends if its deadline has passed. Last, so that the turn after a long
    ///    stop of this process still reads what is there.
    ///
    /// False: the run is over.
    fn turn(&mut self, handler: &mut dyn Handler) -> Result<bool> {
        let taking = handler.takes_output();
        self.pause(!taking);
        self.end_input(handler);
        let ready = self.wait(handler, taking)?;
        if taking && self.is_drained(&ready) {
            return Ok(false);
        }
        for stream in Stream::BOTH {
            // The other output may have filled the destination.
            if ready.outputs[stream as usize] && handler.takes_output() {
                let flow = self.read(stream, handler)?;
                self.follow(flow);
            }
        }
        if !ready.stdin.is_empty() {
            self.write_input(ready.stdin, handler)?;
        }
        if ready.handler != [PollFlags::empty(); 2] || handler.has_more() {
            let flow = handler.ready(ready.handler)?;
            self.follow(flow);
        }
        if handler.deadline().passed() {
            let flow = handler.overdue()?;
            self.follow(flow);
        }
        if ready.ended {
            self.ended = true;
            handler.ended();
            if self.phase != Phase::Terminating {
                self.drain();
            }
        }
        Ok(!self.deadline.passed() || self.next_phase()?)
    }

    /// Whether an output has, or may have, bytes to read.
    fn reads(&self, stream: Stream) -> bool {
        let index = stream as usize;
        self.outputs[index].is_some()
            && match self.phase {
                Phase::Emptying { until } => self.totals[index] < until[index],
                _ => true,
            }
    }

    /// Whether the pipes, which are no longer waited for, are empty.
    fn is_drained(&self, ready: &Ready) -> bool {
        matches!(self.phase, Phase::Emptying { .. }) && ready.outputs == [false; 2]
    }

    fn wait(&self, handler: &mut dyn Handler, taking: bool) -> Result<Ready> {
        let handler_deadline = handler.deadline();
        let reads = Stream::BOTH.map(|stream| taking && self.reads(stream));
        let output = |stream: Stream| {
            let output = self.outputs[stream as usize].as_ref();
            output.filter(|_| reads[stream as usize]).map(|output| (output.as_fd(), PollFlags::IN))
        };
        let stdin = self.stdin.as_ref().map(|stdin| {
            let is_idle = next_bytes(stdin.eof_bytes.as_ref(), handler).is_empty();
            // Otherwise only for the error that reports that nobody reads.
            let what = if is_idle { PollFlags::empty() } else { PollFlags::OUT };
            (stdin.channel.as_fd(), what)
        });
        let wait_fd = if self.ended { None } else { self.child.wait_fd() };
        let [first, second] = handler.interests();
        let interests = [
            output(Stream::Stdout),
            output(Stream::Stderr),
            stdin,
            wait_fd.map(|fd| (fd, PollFlags::IN)),
            first,
            second,
        ];
        let must_ask = !self.ended && wait_fd.is_none();
        let ask = if must_ask { Deadline::after(ASK_AGAIN) } else { Deadline::NEVER };
        let empties = taking && matches!(self.phase, Phase::Emptying { .. });
        let at_once = empties || handler.has_more();
        let deadline = if at_once { Deadline::PAST } else { self.deadline };
        let again = self.stdin.as_ref().map_or(Deadline::NEVER, |stdin| stdin.again.0);
        let deadline = deadline.min(again);
        let [stdout, stderr, stdin, leader, first, second] =
            poll_each(interests, deadline.min(handler_deadline).min(ask), handler.interrupt())?;
        Ok(Ready {
            outputs: [stdout, stderr].map(|revents| !revents.is_empty()),
            stdin,
            handler: [first, second],
            ended: !leader.is_empty() || (must_ask && self.child.has_ended()),
        })
    }

    fn read(&mut self, stream: Stream, handler: &mut dyn Handler) -> Result<Flow> {
        let slot = &mut self.outputs[stream as usize];
        let Some(output) = slot else { return Ok(Flow::Continue) };
        make_room(&mut self.buffer, output.read_size())?;
        match output.read(&mut self.buffer) {
            Ok(0) => *slot = None,
            Ok(length) => {
                self.totals[stream as usize] += length as u64;
                return handler.output(stream, &mut self.buffer);
            }
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(Error::system("read", errno)),
        }
        Ok(Flow::Continue)
    }

    /// Closes the input at its end, or types the end-of-file character on a terminal. It is typed
    /// again and again while the command runs, more and more rarely: a program loses what was typed
    /// before it has changed the terminal's modes, as shells do for each line, and every later
    /// program finds the end as well.
    fn end_input(&mut self, handler: &dyn Handler) {
        let Some(stdin) = &mut self.stdin else { return };
        let begins = stdin.eof_bytes.is_none() && handler.input() == Input::End;
        if begins || stdin.again.0.passed() {
            let eof_bytes = |terminal: &Terminal| terminal.end_of_input(stdin.in_a_line);
            let eof_bytes = self.terminal.as_ref().map(eof_bytes).unwrap_or_default();
            if eof_bytes.is_empty() {
                self.stdin = None;
                return;
            }
            stdin.eof_bytes = Some(eof_bytes);
            let pause = stdin.again.1;
            stdin.again = (Deadline::after(pause), 2 * pause);
        }
    }

    /// Gives the command something to read.
    fn write_input(&mut self, ready: PollFlags, handler: &mut dyn Handler) -> Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        let nobody_reads = ready.intersects(PollFlags::ERR | PollFlags::HUP);
        let bytes = next_bytes(stdin.eof_bytes.as_ref(), handler);
        let written = match bytes {
            _ if nobody_reads => Err(Errno::PIPE),
            [] => return Ok(()),
            _ => stdin.channel.write(bytes),
        };
        match written {
            Ok(length) => {
                let last = bytes.get(..length).and_then(<[u8]>::last);
                let in_a_line = !matches!(last, None | Some(b'\n' | b'\r'));
                match &mut stdin.eof_bytes {
                    Some(eof_bytes) => drop(eof_bytes.drain(..length)),
                    None => handler.consumed(length),
                }
                stdin.in_a_line = in_a_line && stdin.eof_bytes.is_none();
            }
            Err(Errno::AGAIN) => {}
            Err(Errno::PIPE | Errno::IO) => {
                if stdin.eof_bytes.is_none() {
                    handler.input_closed();
                }
                self.stdin = None;
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
                // A terminal that cannot be resized is no error.
                let _ = self.terminal.as_ref().map(|terminal| terminal.resize(size));
            }
        }
    }

    /// Signals the group, and the foreground job if that is another group. Both may have ended.
    fn signal(&self, signal: Signal) {
        let _ = self.child.signal(signal);
        let foreground = self.terminal.as_ref().and_then(Terminal::foreground);
        if let Some(foreground) = foreground.filter(|group| *group != self.child.pid()) {
            self.child.signal_session(Some(foreground), signal);
        }
    }

    /// Sends SIGTERM to the group, and to all processes of the terminal's session.
    fn terminate(&mut self) {
        if matches!(self.phase, Phase::Running | Phase::Draining { after_kill: false, .. }) {
            // A process that cannot be signalled cannot be killed either: the next phase handles
            // that.
            let _ = self.child.signal(Signal::TERM);
            self.child.signal_session(None, Signal::TERM);
            self.phase = Phase::Terminating;
            self.deadline = Deadline::after(self.limits.term_grace);
        }
    }

    /// The leader has ended. Its output is read, and for a short time the output of others.
    fn drain(&mut self) {
        self.phase = Phase::Draining { after_kill: self.phase != Phase::Running, paused: None };
        self.deadline = Deadline::after(self.limits.drain_grace);
    }

    /// The grace for the output counts only while output can be read.
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

    /// Ends the phase. False if the run is over.
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

    /// No output of the command itself is lost, even if the grace expired while this process was
    /// stopped.
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

    fn finish(self) -> Completion {
        let [stdout_total, stderr_total] = self.totals;
        Completion {
            pipe_held: self.ended
                && self.outputs.iter().flatten().any(|output| !output.is_at_end()),
            // A command that cannot be killed has no status.
            status: if self.ended { self.child.wait() } else { Status::Lost },
            timed_out: self.timed_out,
            stdout_total,
            stderr_total,
        }
    }
}

/// Waits until one of them is ready or the deadline passes; what each is ready for.
fn poll_each<const N: usize>(
    interests: [Interest<'_>; N],
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<[PollFlags; N]> {
    let mut fds = Vec::with_capacity(N);
    fds.extend(interests.iter().flatten().map(|(fd, what)| PollFd::from_borrowed_fd(*fd, *what)));
    poll(&mut fds, deadline, interrupt)?;
    let mut revents = fds.iter().map(PollFd::revents);
    Ok(interests
        .map(|interest| interest.and_then(|_| revents.next()).unwrap_or(PollFlags::empty())))
}

/// Empties the read buffer, which the handler may have exchanged for another one.
fn make_room(buffer: &mut Vec<u8>, size: usize) -> Result<()> {
    buffer.clear();
    buffer.try_reserve_exact(size).map_err(|_| Error::new(ErrorKind::NoMemory, "buffer"))
}

/// How often a command without a [`Child::wait_fd`] is checked.
const ASK_AGAIN: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    use rustix::process::{Pid, test_kill_process};

    use super::*;
    use crate::io::process::spawn::pipe;
    use crate::ops::exec::Collector;

    /// Calls a function with each piece of output, and ends the command if it says so.
    struct Script<'a> {
        on_output: &'a mut dyn FnMut(&[u8]) -> Result<Flow>,
        stop: Option<OwnedFd>,
    }

    impl Handler for Script<'_> {
        fn output(&mut self, _: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
            (self.on_output)(bytes)
        }

        fn interests(&self) -> [Interest<'_>; 2] {
            [None, self.stop.as_ref().map(|fd| (fd.as_fd(), PollFlags::IN))]
        }

        fn ready(&mut self, ready: [PollFlags; 2]) -> Result<Flow> {
            assert!(ready[0].is_empty() && ready[1].contains(PollFlags::IN));
            self.stop = None;
            Ok(Flow::End)
        }
    }

    #[test]
    fn a_descriptor_of_the_handler_ends_the_command() {
        let (stop, stopper) = pipe().unwrap();
        let command = Command::shell(b"echo up; sleep 1000");
        let mut on_output = |_: &[u8]| {
            rustix::io::write(&stopper, b"x").unwrap();
            Ok(Flow::Continue)
        };
        let mut handler = Script { on_output: &mut on_output, stop: Some(stop) };
        let completion = run_with(&command, &Limits::default(), &mut handler).unwrap();
        assert_eq!(completion.status, Status::Signaled(libc::SIGTERM));
        assert!(!completion.timed_out && !completion.pipe_held);
        assert_eq!(completion.stdout_total, 3);
    }

    #[test]
    fn the_handler_ends_the_command_or_what_is_left_of_it() {
        for text in [b"yes".as_slice(), b"(sleep 0.1; exec yes) &"] {
            let mut on_output = |_: &[u8]| Ok(Flow::End);
            let mut handler = Script { on_output: &mut on_output, stop: None };
            let limits = Limits { drain_grace: Duration::from_secs(60), ..Limits::default() };
            let start = Instant::now();
            let completion = run_with(&Command::shell(text), &limits, &mut handler).unwrap();
            assert!(start.elapsed() < Duration::from_secs(30));
            assert!(!completion.timed_out && !completion.pipe_held);
        }
    }

    #[test]
    fn an_error_of_the_handler_leaves_nothing_behind() {
        let mut pid = 0;
        let mut on_output = |bytes: &[u8]| {
            pid = std::str::from_utf8(bytes).unwrap().trim().parse().unwrap();
            Err(Error::new(ErrorKind::Canceled, "enough"))
        };
        let mut handler = Script { on_output: &mut on_output, stop: None };
        let command = Command::shell(b"trap '' TERM; echo $$; sleep 1000");
        let error = run_with(&command, &Limits::default(), &mut handler).unwrap_err();
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
            let completion = run.finish();
            assert_eq!((completion.status, completion.timed_out), (status, time.is_some()));
            assert_eq!(collector.captured(completion).stdout, b"x\n");
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
        let captured = collector.captured(run.finish());
        assert_eq!((&captured.stdout[..], &captured.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert!(captured.completion.pipe_held);
    }
}
