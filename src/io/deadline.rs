//! One point in time that a whole call has to meet, on the monotonic clock.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// When a call has to be done, or never.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NEVER: Deadline = Deadline(None);

    /// At once: nothing is waited for.
    pub fn now() -> Deadline {
        Deadline(Some(Instant::now()))
    }

    /// `timeout` from now; what lies beyond the clock's range is never.
    pub fn after(timeout: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(timeout))
    }

    /// `timeout` from now, or never.
    pub fn from_timeout(timeout: Option<Duration>) -> Deadline {
        timeout.map_or(Deadline::NEVER, Deadline::after)
    }

    /// Whether there is no deadline.
    pub fn is_never(self) -> bool {
        self.0.is_none()
    }

    /// The time that is left, zero once it has passed; `None` without a deadline.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }
}

/// How long a transfer may take: in all, and without a byte.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the whole of it.
    pub deadline: Deadline,
    /// For each step, counted anew.
    pub stall: Option<Duration>,
}

/// All in all, by then.
impl From<Deadline> for Patience {
    fn from(deadline: Deadline) -> Patience {
        Patience { deadline, stall: None }
    }
}

impl Patience {
    /// As long as it takes, but never longer than `stall` without a byte.
    pub fn without_stall(stall: Duration) -> Patience {
        Patience { deadline: Deadline::NEVER, stall: Some(stall) }
    }

    /// All in all, `timeout` from now; `None` is for ever.
    pub fn whole(timeout: Option<Duration>) -> Patience {
        Deadline::from_timeout(timeout).into()
    }

    /// Whether there is no limit at all.
    pub fn is_endless(&self) -> bool {
        self.deadline.is_never() && self.stall.is_none()
    }

    /// The deadline of the next step.
    pub fn next(&self) -> Deadline {
        self.deadline.min(Deadline::from_timeout(self.stall))
    }
}

/// Waits until one of `fds` is ready or the deadline passes: `Ok(0)` says it passed.
/// An interrupting signal is waited through.
pub fn poll(fds: &mut [PollFd<'_>], deadline: Deadline) -> Result<usize> {
    loop {
        let timeout = deadline.remaining().map(timespec);
        match rustix::event::poll(fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("poll", errno)),
        }
    }
}

/// Waits until `fd` is ready for `what`. Hang-ups and errors count as ready: the read
/// or write that follows tells them.
pub fn wait(fd: BorrowedFd<'_>, what: PollFlags, deadline: Deadline) -> Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), what)];
    if poll(&mut fds, deadline)? == 0 {
        return Err(Error::new(ErrorKind::TimedOut, ""));
    }
    if fds[0].revents().contains(PollFlags::NVAL) {
        return Err(Error::system("poll", Errno::BADF));
    }
    Ok(())
}

/// Beyond the kernel's range is as good as never.
fn timespec(left: Duration) -> Timespec {
    Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}
