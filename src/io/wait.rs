//! All waits: for descriptors, under a deadline, until the host interrupts them.

use std::fmt;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::deadline::{Deadline, Time};
use crate::error::{Error, ErrorKind, Result};

/// Called before each wait, after each signal, and once a second; `Break` ends the call.
pub type Hook = Box<dyn Fn() -> ControlFlow<()> + Send + Sync>;

/// With a hook no single wait lasts longer than this: the signal that the hook looks for may
/// have been delivered to another thread.
pub(crate) const SLICE: Duration = Duration::from_secs(1);
/// Short compared with any deadline, long compared with a system call.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest single wait if a socket can be aborted that is not waited for.
const ABORT_SLICE: Duration = Duration::from_millis(50);

/// Ends the waits of one conversation, or of one call.
pub struct Interrupt {
    hook: Option<Hook>,
    aborted: AtomicBool,
    /// The descriptors no longer belong to the conversation.
    is_over: AtomicBool,
    /// How many aborts are using the descriptors.
    aborting: AtomicU32,
    /// The sockets that an abort shuts down, which ends waits on them.
    sockets: [Option<BorrowedFd<'static>>; 2],
    /// An eventfd(2), which ends waits on other descriptors.
    event: Option<OwnedFd>,
}

impl Interrupt {
    /// Only a hook: for a call on a raw descriptor.
    pub fn by_hook(hook: Hook) -> Interrupt {
        Interrupt::new(Some(hook), [None; 2], None)
    }

    /// A hook, if any, and an abort for these descriptors. An eventfd is made only if one of
    /// them is no socket.
    ///
    /// The descriptors must stay open as long as [`abort`](Self::abort) can be called.
    pub fn for_descriptors(
        hook: Option<Hook>,
        fds: [Option<BorrowedFd<'static>>; 2],
    ) -> Result<Interrupt> {
        let is_socket = |fd: &BorrowedFd<'_>| rustix::net::sockopt::socket_type(fd).is_ok();
        let sockets = match fds {
            [Some(both), Some(again)] if both.as_raw_fd() == again.as_raw_fd() => {
                [Some(both).filter(is_socket); 2]
            }
            fds => fds.map(|fd| fd.filter(is_socket)),
        };
        let is_other =
            fds.iter().zip(&sockets).any(|(fd, socket)| fd.is_some() && socket.is_none());
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = is_other.then(|| eventfd(0, flags)).transpose();
        let event = event.map_err(|errno| Error::system("eventfd", errno))?;
        Ok(Interrupt::new(hook, sockets, event))
    }

    fn new(
        hook: Option<Hook>,
        sockets: [Option<BorrowedFd<'static>>; 2],
        event: Option<OwnedFd>,
    ) -> Interrupt {
        let (aborted, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        Interrupt { hook, aborted, is_over, aborting: AtomicU32::new(0), sockets, event }
    }

    /// From now on an abort does not use the descriptors: they may be closed.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        while self.aborting.load(Ordering::SeqCst) > 0 {
            // Another thread is between two system calls that do not wait.
            std::hint::spin_loop();
        }
    }

    /// Makes current and later waits fail with [`ErrorKind::Aborted`].
    ///
    /// Async-signal-safe: it sets an atomic, and calls shutdown(2) and write(2).
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.aborting.fetch_add(1, Ordering::SeqCst);
        if !self.is_over.load(Ordering::SeqCst) {
            for socket in self.sockets.iter().flatten() {
                // It fails if the socket is no longer connected; then nobody waits on it.
                let _ = rustix::net::shutdown(socket, Shutdown::Both);
            }
            if let Some(event) = &self.event {
                // It can only fail if the counter is at its maximum, and then it is readable
                // too.
                let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
            }
        }
        self.aborting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether [`abort`](Self::abort) was called.
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Whether it is one of its descriptors, and a socket.
    pub(crate) fn is_socket(&self, fd: BorrowedFd<'_>) -> bool {
        let mut sockets = self.sockets.iter().flatten();
        sockets.any(|socket| socket.as_raw_fd() == fd.as_raw_fd())
    }

    /// Whether a call may block in the kernel: on a socket that an abort shuts down, if there is
    /// no hook.
    pub(crate) fn lets_block(&self, fd: BorrowedFd<'_>) -> bool {
        self.hook.is_none() && self.is_socket(fd)
    }

    /// The longest single wait for `fds`.
    fn slice(&self, fds: &[PollFd<'_>]) -> Deadline {
        let has_sockets = self.sockets.iter().any(Option::is_some);
        // An abort shuts down the sockets, which does not end waits for other descriptors.
        if has_sockets && self.event.is_none() && !fds.iter().any(|fd| self.is_socket(fd.as_fd())) {
            Deadline::after(ABORT_SLICE)
        } else if self.hook.is_some() {
            Deadline::after(SLICE)
        } else {
            Deadline::NEVER
        }
    }

    /// Fails if the host or another thread wants the call to end.
    pub(crate) fn ask(&self) -> Result<()> {
        if self.is_aborted() {
            return Err(aborted());
        }
        match self.hook.as_ref().map(|hook| hook()) {
            Some(ControlFlow::Break(())) => Err(Error::new(ErrorKind::Canceled, "")),
            _ => Ok(()),
        }
    }

    /// Called after each turn of a call's loop; fails if the call must end. A peer that sends or
    /// reads without a pause must not hold a call longer than a silent one.
    pub(crate) fn turn(&self, time: &mut Time) -> Result<()> {
        if self.is_aborted() {
            return Err(aborted());
        }
        turn(None, time)?;
        if self.hook.is_some() && time.has_worked(SLICE) { self.ask() } else { Ok(()) }
    }
}

/// The same for a call that may have no interrupt.
pub(crate) fn turn(interrupt: Option<&Interrupt>, time: &mut Time) -> Result<()> {
    match interrupt {
        Some(interrupt) => interrupt.turn(time),
        None if time.is_up() => {
            Err(Error::new(ErrorKind::TimedOut, "timed out before the call was done"))
        }
        None => Ok(()),
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").field("aborted", &self.aborted).finish_non_exhaustive()
    }
}

/// Waits until one of `fds` is ready or the deadline passes (`Ok(0)`). A signal does not end the
/// wait; it calls the hook.
///
/// The call that follows may still find nothing. So whoever tries again looks at the deadline
/// first.
pub fn poll(
    fds: &mut [PollFd<'_>],
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<usize> {
    let ready = match interrupt {
        Some(interrupt) => poll_interrupted(fds, deadline, interrupt)?,
        None => loop {
            match poll_once(fds, deadline) {
                Ok(ready) => break ready,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system("poll", errno)),
            }
        },
    };
    if ready > 0 && fds.iter().all(|fd| (fd.revents() - PollFlags::ERR).is_empty()) {
        // The error queue of a socket is reported until the host has read it.
        let _ = poll_once(&mut [], deadline.min(Deadline::after(PAUSE)));
    }
    Ok(ready)
}

/// Waits until `fd` is ready for `what`. Hang-ups and errors count as ready: the read
/// or write that follows reports them.
pub fn wait(
    fd: BorrowedFd<'_>,
    what: PollFlags,
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(fd, what)];
    if poll(&mut fds, deadline, interrupt)? == 0 {
        return Err(Error::new(ErrorKind::TimedOut, ""));
    }
    if fds[0].revents().contains(PollFlags::NVAL) {
        return Err(Error::system("poll", Errno::BADF));
    }
    Ok(())
}

fn poll_interrupted(
    fds: &mut [PollFd<'_>],
    deadline: Deadline,
    interrupt: &Interrupt,
) -> Result<usize> {
    // The eventfd follows the caller's descriptors, whose results are copied back.
    let mut with_event: Vec<PollFd<'_>> = Vec::new();
    loop {
        if !deadline.is_past() {
            interrupt.ask()?;
        }
        let until = deadline.min(interrupt.slice(fds));
        let ready = match &interrupt.event {
            None => poll_once(fds, until),
            Some(event) => {
                with_event.clear();
                with_event.extend(fds.iter().cloned());
                // SAFETY: `interrupt` keeps it open, and the copies below end with this call.
                let event = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
                with_event.push(PollFd::from_borrowed_fd(event, PollFlags::IN));
                let ready = poll_once(&mut with_event, until);
                for (fd, polled) in fds.iter_mut().zip(&with_event) {
                    *fd = polled.clone();
                }
                ready
            }
        };
        match ready {
            Ok(_) if interrupt.is_aborted() => return Err(aborted()),
            Ok(0) if deadline.passed() => return Ok(0),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(ready) => return Ok(ready),
            Err(errno) => return Err(Error::system("poll", errno)),
        }
    }
}

/// One poll(2), which a signal ends.
fn poll_once(fds: &mut [PollFd<'_>], deadline: Deadline) -> Result<usize, Errno> {
    // A timeout beyond the kernel's range is treated as none.
    let longest = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    let timeout = deadline.remaining().map(|left| Timespec::try_from(left).unwrap_or(longest));
    rustix::event::poll(fds, timeout.as_ref())
}

fn aborted() -> Error {
    Error::new(ErrorKind::Aborted, "")
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use super::*;
    use crate::io::testing;

    fn wait_on(fd: BorrowedFd<'_>, millis: u64, interrupt: &Interrupt) -> Result<usize> {
        let deadline = Deadline::after(Duration::from_millis(millis));
        poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], deadline, Some(interrupt))
    }

    fn forever(fd: &OwnedFd) -> BorrowedFd<'static> {
        // SAFETY: the tests keep the descriptor open longer than they use this.
        unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
    }

    #[test]
    fn a_hook_is_asked_before_a_wait_and_ends_it() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let interrupt =
            Interrupt::by_hook(Box::new(move || match count.fetch_add(1, Ordering::Relaxed) {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }));
        let start = Instant::now();
        let error = wait_on(reader.as_fd(), 60_000, &interrupt).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Canceled);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!((SLICE..3 * SLICE).contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[test]
    fn a_deadline_holds_beside_a_hook() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let interrupt = Interrupt::by_hook(Box::new(|| ControlFlow::Continue(())));
        assert_eq!(wait_on(reader.as_fd(), 20, &interrupt).unwrap(), 0);
    }

    /// A wait that is over at once, again and again, costs no processor.
    #[test]
    fn an_error_queue_that_nobody_reads_does_not_spin() {
        let (socket, _peer) = testing::with_an_error_queue();
        let aborted = Interrupt::for_descriptors(None, [Some(forever(&socket)), None]).unwrap();
        let (start, long) = (Instant::now(), Duration::from_millis(50));
        let mut waits = 0;
        while start.elapsed() < long {
            assert_eq!(wait_on(socket.as_fd(), 60_000, &aborted).unwrap(), 1);
            waits += 1;
        }
        assert!(waits <= long.as_millis() + 1, "{waits}");
    }

    #[test]
    fn an_abort_wakes_a_wait_on_a_pipe_and_on_a_socket() {
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        for (fd, has_event) in [(pipe, true), (socket.into(), false)] {
            let fds = [Some(forever(&fd)), None];
            let interrupt = Arc::new(Interrupt::for_descriptors(None, fds).unwrap());
            assert_eq!(interrupt.event.is_some(), has_event);
            assert_eq!(interrupt.lets_block(fd.as_fd()), !has_event);
            let other = Arc::clone(&interrupt);
            let aborting = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                other.abort();
            });
            let start = Instant::now();
            let error = wait_on(fd.as_fd(), 60_000, &interrupt).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Aborted);
            assert!(start.elapsed() < Duration::from_secs(10));
            aborting.join().unwrap();
            let error = wait_on(fd.as_fd(), 60_000, &interrupt).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Aborted, "and every later one");
        }
    }
}
