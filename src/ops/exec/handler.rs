//! The callbacks of a run.

use std::os::fd::BorrowedFd;

use rustix::event::PollFlags;
use rustix::process::Signal;

use crate::error::Result;
use crate::io::deadline::Deadline;
use crate::io::process::terminal::WindowSize;
use crate::io::wait::Interrupt;

/// One of a command's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    pub(super) const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];
}

/// What to do with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It runs on.
    Continue,
    /// It is ended: SIGTERM, and SIGKILL after [`Limits::term_grace`]. Its output is still
    /// read meanwhile.
    ///
    /// [`Limits::term_grace`]: super::Limits::term_grace
    End,
    /// Its whole group gets this signal, and so does the job in the foreground of its
    /// terminal.
    Signal(Signal),
    /// Its terminal changes its size. Without a terminal this is ignored.
    Resize(WindowSize),
}

/// Input for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// These bytes come next.
    Bytes(&'a [u8]),
    /// Nothing at the moment.
    Later,
    /// The end of the input; on a terminal the end-of-file character is typed. It is not asked
    /// for again.
    End,
}

/// A descriptor to wait for, and the events to wait for.
pub type Interest<'a> = Option<(BorrowedFd<'a>, PollFlags)>;

/// Handles the events of a running command. No call may wait, and each does one step: a run
/// checks its limits between them. An error kills the command's group at once, and
/// [`run_with`](super::run_with) returns it.
pub trait Handler {
    /// The command wrote `bytes`, one or more, to `stream`. The buffer may be taken if
    /// another one is left in its place.
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow>;

    /// Whether there is room for more output. Without room nothing is read, and the command
    /// waits once its pipes are full; no output is lost. Called before each wait.
    fn takes_output(&self) -> bool {
        true
    }

    /// The next input of the command. Called before each wait while its stdin is open.
    fn input(&self) -> Input<'_> {
        Input::End
    }

    /// The command's stdin accepted the first `length` bytes of that.
    fn consumed(&mut self, _length: usize) {}

    /// The command reads no more, and input can be dropped. Not called after an
    /// [`Input::End`].
    fn input_closed(&mut self) {}

    /// The command has ended; output may still come.
    fn ended(&mut self) {}

    /// More descriptors to wait for. Called before each wait.
    fn interests(&self) -> [Interest<'_>; 2] {
        [None; 2]
    }

    /// Whether [`ready`](Self::ready) can go on at once, without any of them.
    fn has_more(&self) -> bool {
        false
    }

    /// May end the wait early, which fails the run.
    fn interrupt(&self) -> Option<&Interrupt> {
        None
    }

    /// The events of the last wait, in the same order. Called if one descriptor is ready or
    /// there was [more](Self::has_more).
    fn ready(&mut self, _ready: [PollFlags; 2]) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// When to be called even if nothing happens. Called before and after each wait.
    fn deadline(&mut self) -> Deadline {
        Deadline::NEVER
    }

    /// That deadline has passed.
    fn overdue(&mut self) -> Result<Flow> {
        Ok(Flow::Continue)
    }
}
