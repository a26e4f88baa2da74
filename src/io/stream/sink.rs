//! Writing to a descriptor under a deadline, with as few system calls as possible.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time, TimeLimit};
use crate::io::signal::with_blocked;
use crate::io::wait::{Interrupt, poll, turn};

/// Bytes that a ready blocking pipe accepts without blocking, if the kernel has no other way:
/// PIPE_BUF, pipe(7).
const PIPE_STEP: usize = 4096;
/// The same for a terminal, whose buffers grow in units of this.
const TTY_STEP: usize = 256;
/// The most slices of sendmsg(2), IOV_MAX; `rustix` handles it for writev(2) and pwritev2(2).
const MAX_SLICES: usize = 1024;

/// SIOCOUTQ, which is its number too. The type of the constant differs between C libraries.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
const OUTPUT_QUEUE: Opcode = libc::TIOCOUTQ as Opcode;

/// The writing side of a call: a descriptor, its time limit, and whether a part of a message was
/// sent. A timeout before that leaves the stream in sync.
#[derive(Debug)]
pub struct Sink<'fd> {
    fd: BorrowedFd<'fd>,
    time_limit: TimeLimit,
    mid_message: bool,
    is_socket: bool,
    /// The file type of a descriptor that is not a socket, once it was needed.
    without_waiting: Option<WithoutWaiting>,
    interrupt: Option<Arc<Interrupt>>,
}

/// The other direction of a conversation, which is read while a write waits: the peer may be
/// waiting for that.
pub trait Meanwhile {
    /// The descriptor to read, unless nothing may be read.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// Reads available bytes.
    fn take_in(&mut self) -> Taken;
}

/// How a write continues after something was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It goes on to wait for both.
    More,
    /// It waits for room only: nothing more can be received or stored.
    Last,
    /// It stops waiting, as after a timeout.
    Enough,
}

/// How to write to a pipe, terminal or file without waiting, although it may block. Its flags
/// belong to the host and are not changed.
#[derive(Clone, Copy, Debug)]
enum WithoutWaiting {
    /// pwritev2(2) with `RWF_NOWAIT`: a pipe of a recent kernel.
    Nowait,
    /// After poll(2) has reported room; at most this many bytes while the descriptor is
    /// blocking, which the host may change.
    Step(usize),
}

impl<'fd> Sink<'fd> {
    /// Writes a new message to `fd`.
    pub fn new(fd: BorrowedFd<'fd>, time_limit: impl Into<TimeLimit>) -> Sink<'fd> {
        let time_limit = time_limit.into();
        let without_waiting = None;
        Sink {
            fd,
            time_limit,
            mid_message: false,
            is_socket: true,
            without_waiting,
            interrupt: None,
        }
    }

    /// Lets `interrupt` end its waits.
    pub fn set_interrupt(&mut self, interrupt: Option<Arc<Interrupt>>) {
        self.interrupt = interrupt;
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'fd> {
        self.fd
    }

    /// Continues to write under another deadline.
    pub fn set_time_limit(&mut self, time_limit: impl Into<TimeLimit>) {
        self.time_limit = time_limit.into();
    }

    /// Sets whether the next bytes are the start or the middle of a message.
    pub fn set_mid_message(&mut self, mid_message: bool) {
        self.mid_message = mid_message;
    }

    /// Writes all of `bytes`.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all_vectored(&mut [IoSlice::new(bytes)])
    }

    /// Writes all of `slices`, in order. [`ErrorKind::TimedOut`]: nothing was sent.
    /// [`ErrorKind::Stalled`]: a part was.
    pub fn write_all_vectored(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        let mut time = Time::from(self.time_limit);
        while !slices.is_empty() {
            let sent = self.write(slices)?;
            self.mid_message = true;
            IoSlice::advance_slices(&mut slices, sent);
            // A peer that reads without a pause does not extend the call.
            if !slices.is_empty() && !self.time_limit.deadline.is_past() {
                turn(self.interrupt.as_deref(), &mut time).map_err(|error| match error.kind() {
                    ErrorKind::TimedOut => self.late(),
                    _ => self.interrupted(error),
                })?;
            }
        }
        Ok(())
    }

    /// Writes as much of `slices`, in order, as is accepted without waiting; `None` if nothing
    /// was. The first slice has at least one byte.
    pub fn try_write(&mut self, slices: &[IoSlice<'_>]) -> Result<Option<usize>> {
        self.set_time_limit(Deadline::PAST);
        match self.write(slices) {
            Ok(sent) => Ok(Some(sent)),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Stalled) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes at least one byte, and returns the number. `slices` are not empty.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<usize> {
        self.write_beside(slices, None)
    }

    /// The same, and reads `other` while it waits. Most sends succeed at once, and those are done
    /// here: after a system call each return from a function costs as much as many instructions.
    #[inline]
    pub(crate) fn write_beside(
        &mut self,
        slices: &[IoSlice<'_>],
        other: Option<&mut dyn Meanwhile>,
    ) -> Result<usize> {
        let may_block = other.is_none() && self.may_block();
        match self.is_socket.then(|| self.send(slices, may_block)) {
            Some(Ok(sent @ 1..)) => Ok(sent),
            first => self.write_on(first, slices, other, may_block),
        }
    }

    /// Goes on after the `first` attempt.
    #[inline(never)]
    fn write_on(
        &mut self,
        first: Option<Result<usize, Errno>>,
        slices: &[IoSlice<'_>],
        other: Option<&mut dyn Meanwhile>,
        may_block: bool,
    ) -> Result<usize> {
        let sent = self.try_each_way(first, slices, other, may_block);
        match &self.interrupt {
            Some(interrupt) if sent.is_err() && interrupt.is_aborted() => interrupt.ask().and(sent),
            _ => sent,
        }
    }

    fn try_each_way(
        &mut self,
        mut first: Option<Result<usize, Errno>>,
        slices: &[IoSlice<'_>],
        mut other: Option<&mut dyn Meanwhile>,
        may_block: bool,
    ) -> Result<usize> {
        let mut until = None;
        loop {
            let outcome = match first.take() {
                Some(outcome) => outcome,
                None if self.is_socket => self.send(slices, may_block),
                None if may_block => with_blocked(|| rustix::io::writev(self.fd, slices)),
                None => self.write_in_step(slices, &mut other, &mut until)?,
            };
            match outcome {
                Ok(0) => return Err(Error::new(ErrorKind::Io, "write took no bytes")),
                Ok(sent) => return Ok(sent),
                Err(Errno::NOTSOCK) if self.is_socket => self.is_socket = false,
                Err(Errno::INTR) => {}
                // A ready descriptor may still lack the memory for more.
                Err(Errno::AGAIN) if until.is_some_and(Deadline::passed) => {
                    return Err(self.late());
                }
                Err(Errno::AGAIN) => self.wait(&mut other, &mut until)?,
                Err(errno) => return Err(Error::system("write", errno)),
            }
        }
    }

    /// Whether a call may block in the kernel: only the peer can end that wait.
    fn may_block(&self) -> bool {
        self.time_limit.is_endless()
            && self.interrupt.as_ref().is_none_or(|interrupt| interrupt.lets_block(self.fd))
    }

    #[inline]
    fn send(&self, slices: &[IoSlice<'_>], may_block: bool) -> Result<usize, Errno> {
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::DONTWAIT, !may_block);
        if let [one] = slices {
            return rustix::net::send(self.fd, one, flags);
        }
        let slices = &slices[..slices.len().min(MAX_SLICES)];
        rustix::net::sendmsg(self.fd, slices, &mut SendAncillaryBuffer::default(), flags)
    }

    fn write_in_step(
        &mut self,
        slices: &[IoSlice<'_>],
        other: &mut Option<&mut dyn Meanwhile>,
        until: &mut Option<Deadline>,
    ) -> Result<Result<usize, Errno>> {
        let step = match self.without_waiting()? {
            WithoutWaiting::Step(step) => step,
            WithoutWaiting::Nowait => match with_blocked(|| self.write_nowait(slices)) {
                // EPERM is from a sandbox.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                    self.without_waiting = Some(WithoutWaiting::Step(PIPE_STEP));
                    PIPE_STEP
                }
                outcome => return Ok(outcome),
            },
        };
        self.wait(other, until)?;
        let total = slices.iter().map(|slice| slice.len()).fold(0, usize::saturating_add);
        let is_whole = total <= step || self.is_nonblocking()?;
        Ok(with_blocked(|| {
            if is_whole {
                rustix::io::writev(self.fd, slices)
            } else {
                rustix::io::write(self.fd, &slices[0][..step.min(slices[0].len())])
            }
        }))
    }

    fn without_waiting(&mut self) -> Result<WithoutWaiting> {
        if let Some(known) = self.without_waiting {
            return Ok(known);
        }
        let stat = rustix::fs::fstat(self.fd).map_err(|errno| Error::system("fstat", errno))?;
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => WithoutWaiting::Nowait,
            FileType::CharacterDevice if rustix::termios::isatty(self.fd) => {
                WithoutWaiting::Step(TTY_STEP)
            }
            _ => WithoutWaiting::Step(usize::MAX),
        };
        self.without_waiting = Some(found);
        Ok(found)
    }

    fn is_nonblocking(&self) -> Result<bool> {
        let flags = rustix::fs::fcntl_getfl(self.fd);
        let flags = flags.map_err(|errno| Error::system("fcntl", errno))?;
        Ok(flags.contains(OFlags::NONBLOCK))
    }

    fn write_nowait(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        rustix::io::pwritev2(self.fd, slices, u64::MAX, ReadWriteFlags::NOWAIT)
    }

    /// Waits until there is room. `until` begins with the first wait for it.
    fn wait(
        &self,
        other: &mut Option<&mut dyn Meanwhile>,
        until: &mut Option<Deadline>,
    ) -> Result<()> {
        let mut unread = self.unread();
        loop {
            let step = *until.get_or_insert_with(|| self.time_limit.next());
            if self.wait_once(other, step)? {
                return Ok(());
            }
            let before = std::mem::replace(&mut unread, self.unread());
            if unread < before && !self.time_limit.deadline.passed() {
                *until = None;
                continue;
            }
            return Err(self.late());
        }
    }

    /// Waits until there is room, and reads `other` meanwhile; false after a timeout.
    fn wait_once(&self, other: &mut Option<&mut dyn Meanwhile>, until: Deadline) -> Result<bool> {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.fd, PollFlags::OUT),
                PollFd::from_borrowed_fd(self.fd, PollFlags::empty()),
            ];
            let mut watched = 1;
            if let Some(readable) = other.as_ref().and_then(|other| other.fd()) {
                fds[1] = PollFd::from_borrowed_fd(readable, PollFlags::IN);
                watched = 2;
            }
            let ready = poll(&mut fds[..watched], until, self.interrupt.as_deref());
            if ready.map_err(|error| self.interrupted(error))? == 0 {
                return Ok(false);
            }
            let [writable, readable] = [fds[0].revents(), fds[1].revents()];
            if writable.contains(PollFlags::NVAL) {
                return Err(Error::system("poll", Errno::BADF));
            }
            if !writable.is_empty() {
                return Ok(true);
            }
            match other.as_mut().filter(|_| !readable.is_empty()).map(|other| other.take_in()) {
                Some(Taken::Enough) => return Err(self.late()),
                // The next receive reports this failure.
                Some(Taken::Last) => *other = None,
                Some(Taken::More) | None => {}
            }
            if until.passed() {
                return Ok(false);
            }
        }
    }

    fn late(&self) -> Error {
        if self.mid_message {
            Error::new(ErrorKind::Stalled, "the peer does not read")
        } else {
            Error::new(ErrorKind::TimedOut, "the peer does not read")
        }
    }

    /// An interruption inside a message leaves the stream out of sync.
    fn interrupted(&self, error: Error) -> Error {
        if self.mid_message && error.kind() == ErrorKind::Canceled {
            return Error::new(ErrorKind::Stalled, "it was interrupted inside the message");
        }
        error
    }

    /// The same if it matters.
    fn unread(&self) -> Option<i32> {
        self.time_limit.stall.and_then(|_| unread(self.fd))
    }
}

/// The sent bytes that the peer has not received yet, if the kernel reports that. A socket is
/// reported as ready only once a large part of its buffer is free. With a slow reader that can
/// take longer than a stall may.
pub fn unread(fd: BorrowedFd<'_>) -> Option<i32> {
    // SAFETY: the call stores one int: tcp(7), unix(7), tty_ioctl(4).
    unsafe { ioctl(fd, Getter::<OUTPUT_QUEUE, i32>::new()) }.ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::io::testing;

    /// With pwritev2(2), without it, and with a sandbox that forbids it.
    fn each_way(body: impl Fn() + Sync) {
        body();
        for errno in [Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP] {
            testing::failing(&[(libc::SYS_pwritev2, errno)], &body);
        }
    }

    fn channels() -> Vec<(&'static str, OwnedFd, OwnedFd)> {
        let (socket, peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let (reader, pipe) = rustix::pipe::pipe().unwrap();
        vec![("socket", peer.into(), socket.into()), ("pipe", reader, pipe)]
    }

    #[test]
    fn a_deadline_holds_on_what_blocks_and_is_full() {
        each_way(|| {
            for (name, reader, writer) in channels() {
                let mut sink = Sink::new(writer.as_fd(), Deadline::NEVER);
                let piece = vec![b'x'; 100_000];
                let mut sent = 0;
                while let Some(more) = sink.try_write(&[IoSlice::new(&piece)]).unwrap() {
                    sent += more;
                }
                assert!(sent > 0, "{name}");
                let start = Instant::now();
                sink.set_time_limit(Deadline::after(Duration::from_millis(20)));
                assert_eq!(sink.write_all(b"y").unwrap_err().kind(), ErrorKind::TimedOut, "{name}");
                assert!(start.elapsed() >= Duration::from_millis(20), "{name}");
                // The accepted bytes were written, and new room is used.
                let reading = std::thread::spawn(move || {
                    let mut all = Vec::new();
                    std::io::Read::read_to_end(&mut std::fs::File::from(reader), &mut all).unwrap();
                    all
                });
                sink.set_time_limit(Deadline::after(Duration::from_secs(10)));
                sink.write_all(&piece).unwrap();
                drop(writer);
                assert_eq!(reading.join().unwrap().len(), sent + piece.len(), "{name}");
            }
        });
    }

    #[test]
    fn a_deadline_holds_although_the_peer_takes_everything() {
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        for timeout in [Duration::from_nanos(1), Duration::ZERO, Duration::from_secs(60)] {
            let mut sink = Sink::new(null.as_fd(), Deadline::after(timeout));
            // One more than a system call takes.
            let sent = sink.write_all_vectored(&mut vec![IoSlice::new(b"x"); MAX_SLICES + 1]);
            let expected = (timeout == Duration::from_nanos(1)).then_some(ErrorKind::Stalled);
            assert_eq!(sent.err().map(|error| error.kind()), expected, "{timeout:?}");
        }
    }

    #[test]
    fn a_deadline_holds_on_what_is_made_blocking_meanwhile() {
        testing::failing(&[(libc::SYS_pwritev2, Errno::NOSYS)], || {
            let (_reader, writer) = rustix::pipe::pipe().unwrap();
            let mut sink = Sink::new(writer.as_fd(), Deadline::NEVER);
            let piece = vec![b'x'; 100_000];
            rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
            assert!(sink.try_write(&[IoSlice::new(&piece[..=PIPE_STEP])]).unwrap().is_some());
            rustix::fs::fcntl_setfl(&writer, OFlags::empty()).unwrap();
            sink.set_time_limit(Deadline::after(Duration::from_millis(20)));
            assert_eq!(sink.write_all(&piece).unwrap_err().kind(), ErrorKind::Stalled);
        });
    }

    #[test]
    fn what_is_ready_and_takes_nothing_is_late() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let calls = [libc::SYS_sendto, libc::SYS_sendmsg].map(|call| (call, Errno::AGAIN));
        testing::failing(&calls, || {
            for pieces in [&mut [IoSlice::new(b"x")][..], &mut [IoSlice::new(b"x"); 2]] {
                let soon = Deadline::after(Duration::from_millis(20));
                let mut sink = Sink::new(ours.as_fd(), soon);
                let late = sink.write_all_vectored(pieces).unwrap_err();
                assert_eq!((late.kind(), soon.passed()), (ErrorKind::TimedOut, true));
            }
        });
    }

    #[test]
    fn a_stall_is_seen_although_the_socket_is_reported_for_its_error_queue() {
        let (ours, _theirs) = testing::with_an_error_queue();
        let mut sink = Sink::new(ours.as_fd(), Deadline::NEVER);
        let piece = vec![b'x'; 100_000];
        while sink.try_write(&[IoSlice::new(&piece)]).unwrap().is_some() {}
        sink.set_time_limit(TimeLimit::for_bytes(1 << 40, Duration::from_millis(20)));
        let late = sink.write_all(&vec![b'x'; 100_000_000]).unwrap_err();
        assert!(matches!(late.kind(), ErrorKind::TimedOut | ErrorKind::Stalled), "{late}");
    }

    /// What was received stops a write also while the peer reads, slowly.
    #[test]
    fn a_write_that_waits_for_a_reader_stops_for_what_was_received() {
        struct Received<'a>(&'a OwnedFd, &'a OwnedFd, u32);
        impl Meanwhile for Received<'_> {
            fn fd(&self) -> Option<BorrowedFd<'_>> {
                Some(self.0.as_fd())
            }
            fn take_in(&mut self) -> Taken {
                self.2 += 1;
                // Too little for the socket to be reported as writable.
                rustix::io::read(self.1, &mut vec![0; 60_000]).unwrap();
                Taken::Enough
            }
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (received, [ours, theirs]) =
            (rustix::pipe::pipe().unwrap(), [ours, theirs].map(OwnedFd::from));
        rustix::io::write(&received.1, b"x").unwrap();
        let bytes = vec![0; 20_000];
        let piece = [IoSlice::new(&bytes)];
        let mut sink = Sink::new(ours.as_fd(), Deadline::NEVER);
        while sink.try_write(&piece).unwrap().is_some() {}
        sink.set_time_limit(TimeLimit::for_bytes(1 << 40, Duration::from_secs(20)));
        let mut other = Received(&received.0, &theirs, 0);
        let stopped = sink.write_beside(&piece, Some(&mut other)).unwrap_err();
        assert!(matches!(stopped.kind(), ErrorKind::TimedOut | ErrorKind::Stalled), "{stopped}");
        assert_eq!(other.2, 1);
    }

    #[test]
    fn a_pipe_takes_all_it_has_room_for_at_once() {
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
        let mut sink = Sink::new(writer.as_fd(), Deadline::NEVER);
        let piece = vec![b'x'; 2 * size];
        let taken = sink.try_write(&[IoSlice::new(&piece)]).unwrap();
        // On a kernel before 6.5 a page is written at a time.
        assert!(taken == Some(size) || taken == Some(PIPE_STEP), "{taken:?} of {size}");
    }
}
