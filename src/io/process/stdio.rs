//! A command's three standard descriptors, and this process's ends of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags, Uid, fchown};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread, retry_on_intr};
use rustix::pipe::fcntl_setpipe_size;

use crate::error::Result;
use crate::io::deadline::Deadline;
use crate::io::process::spawn::{pipe, spawn_error};
use crate::io::process::terminal::{Terminal, WindowSize};
use crate::io::signal::with_blocked;
use crate::io::wait::poll;

/// The kinds of standard descriptors of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// Its outputs are pipes, and it has no terminal.
    Pipes {
        /// Its standard input is a pipe that is written while it runs; otherwise /dev/null.
        input: bool,
        /// Its standard error is merged into its standard output, in the order in which it
        /// writes.
        merge: bool,
    },
    /// A pseudo-terminal of this size is all three, and the controlling terminal of a new
    /// session that the command leads. All of its output counts as standard output.
    Terminal(WindowSize),
}

/// An empty input, and two outputs.
impl Default for Stdio {
    fn default() -> Stdio {
        Stdio::Pipes { input: false, merge: false }
    }
}

/// The ends of both sides.
#[derive(Debug)]
pub struct Ends {
    /// The command's descriptors 0, 1 and 2.
    pub theirs: [Rc<OwnedFd>; 3],
    /// The read ends of its standard output and its standard error.
    pub outputs: [Option<Channel>; 2],
    /// The write end of its input.
    pub input: Option<Channel>,
    /// The terminal that all of them are, if there is one.
    pub terminal: Option<Terminal>,
}

impl Stdio {
    /// Makes the descriptors. They belong to `owner`, so that a command that becomes this user
    /// can open /dev/stdin, /dev/stdout and /dev/stderr.
    pub fn open(self, owner: Option<u32>) -> Result<Ends> {
        match self {
            Stdio::Pipes { input, merge } => {
                let pipe = || pipe().inspect(|(end, _)| give(end, owner));
                let (stdin, input) =
                    if input { pipe().map(to_command)? } else { (Rc::new(null()?), None) };
                let (stdout, output) = pipe().map(from_command)?;
                let (stderr, errors) =
                    if merge { (Rc::clone(&stdout), None) } else { pipe().map(from_command)? };
                if let Some(input) = &input {
                    ioctl_fionbio(&input.fd, true).map_err(|errno| spawn_error("pipe", errno))?;
                }
                let theirs = [stdin, stdout, stderr];
                Ok(Ends { theirs, outputs: [output, errors], input, terminal: None })
            }
            Stdio::Terminal(size) => {
                let (terminal, slave) = Terminal::open(size, owner)?;
                let slave = Rc::new(slave);
                let channel = || Some(Channel::new(terminal.master(), Kind::Terminal));
                Ok(Ends {
                    theirs: [Rc::clone(&slave), Rc::clone(&slave), slave],
                    outputs: [channel(), None],
                    input: channel(),
                    terminal: Some(terminal),
                })
            }
        }
    }
}

/// One of this process's ends.
#[derive(Debug)]
pub struct Channel {
    fd: Rc<OwnedFd>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pipe,
    /// A pipe that was found full, so that one end waited for the other.
    EnlargedPipe,
    Terminal,
}

impl Channel {
    fn new(fd: Rc<OwnedFd>, kind: Kind) -> Channel {
        Channel { fd, kind }
    }

    /// The most bytes that can be there to be read.
    pub fn read_size(&self) -> usize {
        if self.kind == Kind::EnlargedPipe { ENLARGED_SIZE } else { PIPE_SIZE }
    }

    /// Reads available bytes into the buffer's spare capacity. 0 is the end.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        match retry_on_intr(|| rustix::io::read(&self.fd, spare_capacity(buffer))) {
            Ok(length) if length >= PIPE_SIZE => {
                self.enlarge();
                Ok(length)
            }
            // No process has the terminal open any more.
            Err(Errno::IO) if self.kind == Kind::Terminal => Ok(0),
            answer => answer,
        }
    }

    /// Writes some of `bytes` without waiting. `PIPE`: nobody reads; no signal is raised.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let write = || retry_on_intr(|| rustix::io::write(&self.fd, bytes));
        let written = with_blocked(write)?;
        if written < bytes.len() {
            self.enlarge();
        }
        Ok(written)
    }

    /// The number of bytes to be read, or an upper limit: a terminal does not report all of
    /// them.
    pub fn unread(&self) -> Result<u64, Errno> {
        match self.kind {
            Kind::Terminal => Ok(TERMINAL_SIZE),
            _ => ioctl_fionread(&self.fd),
        }
    }

    /// Whether nothing is left to be read and no writer is left.
    pub fn is_at_end(&self) -> bool {
        let mut fds = [PollFd::new(self, PollFlags::IN)];
        let ready = poll(&mut fds, Deadline::PAST, None);
        ready.is_ok() && fds[0].revents() == PollFlags::HUP
    }

    /// Enlarges a pipe in which one end had to wait for the other. It is no error if that is not
    /// allowed.
    fn enlarge(&mut self) {
        if self.kind == Kind::Pipe {
            let _ = fcntl_setpipe_size(&self.fd, ENLARGED_SIZE);
            self.kind = Kind::EnlargedPipe;
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

type End = (Rc<OwnedFd>, Option<Channel>);

fn to_command((reader, writer): (OwnedFd, OwnedFd)) -> End {
    (Rc::new(reader), Some(Channel::new(Rc::new(writer), Kind::Pipe)))
}

fn from_command((reader, writer): (OwnedFd, OwnedFd)) -> End {
    to_command((writer, reader))
}

/// Gives a new pipe to `owner`. Without that only opening it anew fails.
fn give(pipe: &OwnedFd, owner: Option<u32>) {
    if let Some(owner) = owner {
        let _ = fchown(pipe, Some(Uid::from_raw(owner)), None);
    }
}

fn null() -> Result<OwnedFd> {
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| spawn_error("/dev/null", errno))
}

/// A pipe as the kernel makes it, see pipe(7).
pub const PIPE_SIZE: usize = 64 * 1024;
/// A pipe that was found full: 1 MiB is the limit for ordinary users
/// (`/proc/sys/fs/pipe-max-size`).
const ENLARGED_SIZE: usize = 1024 * 1024;
/// More than the kernel buffers for a terminal.
const TERMINAL_SIZE: u64 = 128 * 1024;
