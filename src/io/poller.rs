//! Readiness of many descriptors at once (epoll(7)), with a timer and a bell.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::deadline::Deadline;
use super::wait::poll;
use crate::error::{Error, Result};

/// What to wait for. An error of the descriptor and a hang-up are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Room to write.
    Write,
    /// Either.
    Both,
    /// Nothing, not even an error.
    Pause,
}

/// How an event is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// As long as it lasts: for one thread that waits.
    Always,
    /// Once, until [`Poller::arm`]: to one of several threads that wait. So only one thread at a
    /// time has the descriptor. (EPOLLEXCLUSIVE does not help here: it chooses between several
    /// epolls, and not between the threads that wait for one.)
    Once,
}

/// The number that stands for a descriptor.
pub type Token = u64;

/// A set of descriptors that any thread may wait for and change.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    repeat: Repeat,
}

impl Poller {
    /// An empty set.
    pub fn new(repeat: Repeat) -> Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("epoll_create"))?;
        Ok(Poller { epoll, repeat })
    }

    /// Readable when a wait would return something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Adds a descriptor. Only a file that is always ready is refused.
    pub fn add(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> Result<()> {
        let data = EventData::new_u64(token);
        epoll::add(&self.epoll, fd, data, self.flags(interest)).map_err(failed("epoll_ctl"))
    }

    /// Adds a descriptor of this process that all waiting threads are to see.
    pub fn add_for_all(&self, fd: BorrowedFd<'_>, token: Token) -> Result<()> {
        let data = EventData::new_u64(token);
        epoll::add(&self.epoll, fd, data, EventFlags::IN).map_err(failed("epoll_ctl"))
    }

    /// Waits for the next event of a descriptor that was added.
    pub fn arm(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> Result<()> {
        let data = EventData::new_u64(token);
        epoll::modify(&self.epoll, fd, data, self.flags(interest)).map_err(failed("epoll_ctl"))
    }

    /// Removes a descriptor before it is closed. A process that was forked meanwhile may still
    /// have it open, and closing alone would not end its events.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        // The owner may have closed it before.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits at most `timeout` for up to `N` events, and passes their tokens to `tokens`. A signal
    /// ends the wait with no event.
    pub fn wait<const N: usize>(
        &self,
        tokens: &mut Vec<Token>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let mut events = [MaybeUninit::<Event>::uninit(); N];
        let timeout = timeout.map(|time| Timespec {
            // Kernels before 5.11 count milliseconds in an int.
            tv_sec: time.as_secs().min(LONGEST).cast_signed(),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok((events, _)) => tokens.extend(events.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("epoll_wait", errno)),
        }
        Ok(())
    }

    fn flags(&self, interest: Interest) -> EventFlags {
        let once = match self.repeat {
            Repeat::Always => EventFlags::empty(),
            Repeat::Once => EventFlags::ONESHOT,
        };
        match interest {
            Interest::Read => EventFlags::IN | once,
            Interest::Write => EventFlags::OUT | once,
            Interest::Both => EventFlags::IN | EventFlags::OUT | once,
            // A one-shot event without a mask is never reported: an error neither.
            Interest::Pause => EventFlags::ONESHOT,
        }
    }
}

/// Seconds: about a day.
const LONGEST: u64 = 100_000;

/// Whether there is something to read, an end of stream or an error.
pub fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Deadline::PAST, None).is_ok_and(|ready| ready > 0)
}

/// A descriptor that any thread and any signal handler can make readable.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// One that is silent.
    pub fn new() -> Result<Bell> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        eventfd(0, flags).map(Bell).map_err(failed("eventfd"))
    }

    /// Makes it readable. Async-signal-safe.
    pub fn ring(&self) {
        // It can only fail if the counter is at its maximum, and then it is readable too.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes it silent again.
    pub fn hush(&self) {
        // Another thread may have been faster.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that becomes readable at a point in time.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// One that is not set.
    pub fn new() -> Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        timerfd_create(TimerfdClockId::Monotonic, flags).map(Timer).map_err(failed("timerfd"))
    }

    /// Makes it readable at `at`, and silent until then; `None` is never.
    pub fn set(&self, at: Option<Instant>) {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let soonest = Duration::from_nanos(1); // 0 is never
        let left = at.map(|at| at.saturating_duration_since(Instant::now()).max(soonest));
        let it_value = left.map_or(never, |left| {
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
        });
        let time = Itimerspec { it_interval: never, it_value };
        // It fails only for a time that is none.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &time);
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn failed(what: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(what, errno)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn ready(poller: &Poller, millis: u64) -> Vec<Token> {
        let mut tokens = Vec::new();
        poller.wait::<8>(&mut tokens, Some(Duration::from_millis(millis))).unwrap();
        tokens
    }

    #[test]
    fn an_event_is_reported_always_or_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut theirs, b"x").unwrap();
        for (repeat, again) in [(Repeat::Always, vec![7]), (Repeat::Once, vec![])] {
            let poller = Poller::new(repeat).unwrap();
            poller.add(ours.as_fd(), 7, Interest::Read).unwrap();
            assert!(is_readable(poller.fd()));
            assert_eq!(ready(&poller, 10_000), [7]);
            assert_eq!(ready(&poller, 0), again);
            poller.arm(ours.as_fd(), 8, Interest::Write).unwrap();
            assert_eq!(ready(&poller, 10_000), [8]);
            poller.arm(ours.as_fd(), 9, Interest::Pause).unwrap();
            assert!(ready(&poller, 0).is_empty());
            poller.remove(ours.as_fd());
            poller.remove(ours.as_fd());
        }
    }

    #[test]
    fn a_bell_rings_until_it_is_hushed_and_a_timer_at_its_time() {
        let (poller, bell, timer) = (Poller::new(Repeat::Once), Bell::new(), Timer::new());
        let (poller, bell, timer) = (poller.unwrap(), bell.unwrap(), timer.unwrap());
        poller.add_for_all(bell.fd(), 1).unwrap();
        poller.add_for_all(timer.fd(), 2).unwrap();
        bell.ring();
        bell.ring();
        assert_eq!((ready(&poller, 10_000), ready(&poller, 0)), (vec![1], vec![1]));
        bell.hush();
        assert!(ready(&poller, 0).is_empty());
        timer.set(Some(Instant::now()));
        assert_eq!(ready(&poller, 10_000), [2]);
        timer.set(Some(Instant::now() + Duration::from_secs(60)));
        assert!(ready(&poller, 0).is_empty());
        timer.set(Some(Instant::now()));
        assert_eq!(ready(&poller, 10_000), [2]);
        timer.set(None);
        assert!(ready(&poller, 0).is_empty());
    }
}
