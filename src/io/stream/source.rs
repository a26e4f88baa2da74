//! Reading from a descriptor under one deadline: exactly the requested number of bytes, and none
//! beyond.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::Arc;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time};
use crate::io::last_errno;
use crate::io::wait::{Interrupt, turn, wait};
use crate::limits;
use crate::wire::memory::reserve_step;

/// The reading side of a call: a descriptor, its deadline, and whether a part of a message was
/// read. That decides whether an end of stream is clean, and whether the stream is in sync after
/// a timeout.
#[derive(Debug)]
pub struct Source<'fd> {
    fd: BorrowedFd<'fd>,
    deadline: Deadline,
    mid_message: bool,
    without_waiting: WithoutWaiting,
    interrupt: Option<Arc<Interrupt>>,
}

/// How to read a descriptor without waiting, whatever its flags are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum WithoutWaiting {
    /// preadv2(2) with `RWF_NOWAIT`: sockets and pipes of a recent kernel.
    Nowait,
    /// recv(2) with `MSG_DONTWAIT`: sockets.
    Recv,
    /// After poll(2) has reported bytes to read.
    Poll,
}

impl<'fd> Source<'fd> {
    /// Reads a new message from `fd`.
    #[inline]
    pub fn new(fd: BorrowedFd<'fd>, deadline: Deadline) -> Source<'fd> {
        let without_waiting = WithoutWaiting::Nowait;
        Source { fd, deadline, mid_message: false, without_waiting, interrupt: None }
    }

    /// Lets `interrupt` end its waits.
    pub fn set_interrupt(&mut self, interrupt: Option<Arc<Interrupt>>) {
        if interrupt.as_ref().is_some_and(|interrupt| interrupt.is_socket(self.fd)) {
            // It costs less.
            self.without_waiting = WithoutWaiting::Recv;
        }
        self.interrupt = interrupt;
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'fd> {
        self.fd
    }

    /// Continues to read under another deadline.
    pub fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// Sets whether the next bytes are the start or the middle of a message.
    pub fn set_mid_message(&mut self, mid_message: bool) {
        self.mid_message = mid_message;
    }

    /// Fills `buf`. End of stream before the first byte of a message is [`ErrorKind::Closed`],
    /// after it [`ErrorKind::Truncated`]. In the same way a timeout is [`ErrorKind::TimedOut`]
    /// or [`ErrorKind::Stalled`].
    #[inline]
    pub fn read_exact(&mut self, buf: &mut [u8]) -> Result<()> {
        match self.read(buf)? {
            got if got == buf.len() => Ok(()),
            got => self.read_rest(buf, got),
        }
    }

    #[cold]
    fn read_rest(&mut self, buf: &mut [u8], mut got: usize) -> Result<()> {
        let (mut came, mut time) = (got, Time::from(self.deadline));
        while got < buf.len() {
            if came == 0 {
                return Err(self.cut(got as u64, buf.len() as u64));
            }
            self.turn(&mut time)?;
            came = self.read(&mut buf[got..])?;
            got += came;
        }
        Ok(())
    }

    /// Adds `len` bytes to `out`, whose memory grows with the received bytes, never with a
    /// declared size. After an error `out` has the bytes before it.
    pub fn read_vec(&mut self, out: &mut Vec<u8>, len: u64) -> Result<()> {
        let mut left = len;
        let mut time = Time::from(self.deadline);
        while left > 0 {
            if left < len {
                self.turn(&mut time)?;
            }
            if out.len() == out.capacity() {
                reserve_step(out, limits::FIRST_STEP, out.len(), left)?;
            }
            match self.read_more(out, left)? {
                0 => return Err(self.cut(len - left, len)),
                got => left -= got as u64,
            }
        }
        Ok(())
    }

    /// Adds 1 to `max` received bytes to `out`, within its capacity; 0 is end of stream.
    #[inline]
    pub fn read_more(&mut self, out: &mut Vec<u8>, max: u64) -> Result<usize> {
        let room = out.spare_capacity_mut();
        let want = usize::try_from(max).unwrap_or(usize::MAX).min(room.len());
        let got = self.read_uninit(&mut room[..want])?;
        // SAFETY: the first `got` bytes of the spare capacity were just written.
        unsafe { out.set_len(out.len() + got) };
        Ok(got)
    }

    /// As [`read_more`](Self::read_more) without waiting; `None` if nothing is there.
    pub fn try_read_more(&mut self, out: &mut Vec<u8>, max: u64) -> Result<Option<usize>> {
        self.deadline = Deadline::PAST;
        match self.read_more(out, max) {
            Ok(got) => Ok(Some(got)),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Stalled) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads 1 to `buf.len()` bytes as they are received; 0 is end of stream.
    #[inline]
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        // SAFETY: `read_uninit` only ever writes initialised bytes.
        let buf = unsafe { &mut *(std::ptr::from_mut(buf) as *mut [MaybeUninit<u8>]) };
        self.read_uninit(buf)
    }

    /// Most reads of a socket that must not wait succeed at once, and those are done here: see
    /// [`Sink::write_beside`](crate::io::stream::sink::Sink::write_beside).
    #[inline]
    fn read_uninit(&mut self, buf: &mut [MaybeUninit<u8>]) -> Result<usize> {
        let may_block = self.may_block();
        let is_at_once =
            self.without_waiting == WithoutWaiting::Recv && !may_block && !buf.is_empty();
        match is_at_once.then(|| self.recv(buf)) {
            Some(Ok(got @ 1..)) => {
                self.mid_message = true;
                Ok(got)
            }
            first => self.read_on(first, buf, may_block),
        }
    }

    /// Goes on after the `first` attempt.
    #[inline(never)]
    fn read_on(
        &mut self,
        first: Option<Result<usize, Errno>>,
        buf: &mut [MaybeUninit<u8>],
        may_block: bool,
    ) -> Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let got = self.try_each_way(first, buf, may_block);
        match &self.interrupt {
            // An abort looks like the end of the stream, or like an error of it.
            Some(interrupt) if !matches!(got, Ok(1..)) && interrupt.is_aborted() => {
                interrupt.ask().and(got)
            }
            _ => got,
        }
    }

    fn try_each_way(
        &mut self,
        mut first: Option<Result<usize, Errno>>,
        buf: &mut [MaybeUninit<u8>],
        may_block: bool,
    ) -> Result<usize> {
        let mut is_ready = false;
        loop {
            let outcome = match (first.take(), self.without_waiting) {
                (Some(outcome), _) => outcome,
                _ if may_block => self.read_waiting(buf),
                (None, WithoutWaiting::Nowait) => self.read_nowait(buf),
                (None, WithoutWaiting::Recv) => self.recv(buf),
                (None, WithoutWaiting::Poll) => {
                    self.wait()?;
                    self.read_waiting(buf)
                }
            };
            match outcome {
                Ok(got) => {
                    self.mid_message |= got > 0;
                    return Ok(got);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if is_ready && self.without_waiting == WithoutWaiting::Nowait => {
                    // A file that is not in the page cache is reported as ready too.
                    self.without_waiting = WithoutWaiting::Recv;
                }
                // A ready descriptor may still have nothing to read.
                Err(Errno::AGAIN) if is_ready && self.deadline.passed() => {
                    return Err(self.late());
                }
                Err(Errno::AGAIN) => {
                    self.wait()?;
                    is_ready = true;
                }
                Err(errno) if self.try_another_way(errno) => {}
                // The errno of a pty whose other side is closed.
                Err(Errno::IO) if rustix::termios::isatty(self.fd) => return Ok(0),
                Err(errno) => return Err(Error::system("read", errno)),
            }
        }
    }

    /// Whether a call may block in the kernel: only received bytes can end that wait.
    fn may_block(&self) -> bool {
        self.deadline.is_never()
            && self.interrupt.as_ref().is_none_or(|interrupt| interrupt.lets_block(self.fd))
    }

    #[inline]
    fn read_waiting(&self, buf: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
        rustix::io::read(self.fd, buf).map(|(got, _)| got.len())
    }

    #[inline]
    fn recv(&self, buf: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
        let received = rustix::net::recv(self.fd, buf, RecvFlags::DONTWAIT);
        received.map(|(got, _)| got.0.len())
    }

    fn read_nowait(&self, buf: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
        let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        let (fd, position) = (self.fd.as_raw_fd(), -1_isize);
        // By number, since musl has no such function before 1.2.5.
        // SAFETY: the kernel writes to `buf`, and gets its length.
        let got = unsafe {
            let (part, count, flags) = (&raw const part, 1_usize, libc::RWF_NOWAIT);
            libc::syscall(libc::SYS_preadv2, fd, part, count, position, position, flags)
        };
        usize::try_from(got).map_err(|_| last_errno())
    }

    /// Switches to the next way to read without waiting, if `errno` shows that this one is not
    /// available.
    fn try_another_way(&mut self, errno: Errno) -> bool {
        self.without_waiting = match (self.without_waiting, errno) {
            // EPERM is from a sandbox.
            (WithoutWaiting::Nowait, Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                WithoutWaiting::Recv
            }
            (WithoutWaiting::Recv, Errno::NOTSOCK) => WithoutWaiting::Poll,
            _ => return false,
        };
        true
    }

    fn wait(&self) -> Result<()> {
        let interrupt = self.interrupt.as_deref();
        wait(self.fd, PollFlags::IN, self.deadline, interrupt).map_err(|error| self.ended(error))
    }

    /// Between two reads for one call: bytes that come without a pause do not extend it.
    fn turn(&self, time: &mut Time) -> Result<()> {
        if self.deadline.is_past() {
            return Ok(());
        }
        turn(self.interrupt.as_deref(), time).map_err(|error| self.ended(error))
    }

    fn ended(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::TimedOut => self.late(),
            ErrorKind::Canceled if self.mid_message => {
                Error::new(ErrorKind::Stalled, "it was interrupted inside the message")
            }
            _ => error,
        }
    }

    fn late(&self) -> Error {
        if self.mid_message {
            Error::new(ErrorKind::Stalled, "the rest of the message was not received")
        } else {
            Error::new(ErrorKind::TimedOut, "nothing was received")
        }
    }

    /// End of stream after `got` of `expected` bytes.
    pub(crate) fn cut(&self, got: u64, expected: u64) -> Error {
        if self.mid_message {
            Error::new(ErrorKind::Truncated, format!("{got} of {expected} bytes were received"))
        } else {
            Error::new(ErrorKind::Closed, "")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::io::testing;

    /// A reading and a writing end of each kind that blocks.
    fn channels() -> Vec<(&'static str, OwnedFd, std::fs::File)> {
        let (socket, peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let (pipe, writer) = rustix::pipe::pipe().unwrap();
        vec![("socket", socket.into(), OwnedFd::from(peer).into()), ("pipe", pipe, writer.into())]
    }

    /// With preadv2(2), without it, and with a sandbox that forbids it.
    fn each_way(body: impl Fn() + Sync) {
        body();
        for errno in [Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP] {
            testing::failing(&[(libc::SYS_preadv2, errno)], &body);
        }
    }

    #[test]
    fn a_deadline_holds_on_what_blocks() {
        each_way(|| {
            for (name, reader, mut writer) in channels() {
                let soon = Deadline::after(Duration::from_millis(20));
                let mut source = Source::new(reader.as_fd(), soon);
                let start = Instant::now();
                assert_eq!(source.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
                assert!(start.elapsed() >= Duration::from_millis(20), "{name}");
                writer.write_all(b"ab").unwrap();
                source.set_deadline(Deadline::PAST);
                let mut buf = [0; 8];
                assert_eq!((source.read(&mut buf).unwrap(), &buf[..2]), (2, &b"ab"[..]), "{name}");
                assert_eq!(source.read(&mut buf).unwrap_err().kind(), ErrorKind::Stalled);
                drop(writer);
                assert_eq!(source.read(&mut buf).unwrap(), 0, "{name}");
            }
        });
    }

    #[test]
    fn what_is_ready_and_gives_nothing_is_late() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        let calls = [libc::SYS_preadv2, libc::SYS_recvfrom].map(|call| (call, Errno::AGAIN));
        testing::failing(&calls, || {
            let soon = Deadline::after(Duration::from_millis(20));
            let error = Source::new(ours.as_fd(), soon).read(&mut [0; 1]).unwrap_err();
            assert_eq!((error.kind(), soon.passed()), (ErrorKind::TimedOut, true));
        });
    }

    /// It would take the error of the socket.
    #[test]
    fn to_read_nothing_asks_nobody() {
        for way in [WithoutWaiting::Nowait, WithoutWaiting::Recv] {
            let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.write_all(b"unread").unwrap();
            drop(theirs);
            let mut source = Source::new(ours.as_fd(), Deadline::PAST);
            source.without_waiting = way;
            assert_eq!(source.read(&mut []).unwrap(), 0);
            let error = source.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.errno(), Errno::CONNRESET.raw_os_error(), "{way:?}");
        }
    }

    #[test]
    fn a_deadline_holds_although_bytes_come_without_a_pause() {
        let zeros = std::fs::File::open("/dev/zero").unwrap();
        for timeout in [Duration::from_nanos(1), Duration::ZERO, Duration::from_secs(60)] {
            let mut source = Source::new(zeros.as_fd(), Deadline::after(timeout));
            let mut out = Vec::new();
            let read = source.read_vec(&mut out, 3 * limits::FIRST_STEP as u64);
            let expected = (timeout == Duration::from_nanos(1)).then_some(ErrorKind::Stalled);
            assert_eq!(read.err().map(|error| error.kind()), expected, "{timeout:?}");
        }
    }

    #[test]
    fn what_comes_late_is_waited_for() {
        each_way(|| {
            for (name, reader, mut writer) in channels() {
                let late = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(20));
                    writer.write_all(b"late").unwrap();
                });
                let mut buf = [0; 4];
                let deadline = Deadline::after(Duration::from_secs(10));
                Source::new(reader.as_fd(), deadline).read_exact(&mut buf).unwrap();
                assert_eq!(&buf, b"late", "{name}");
                late.join().unwrap();
            }
        });
    }

    #[test]
    fn a_file_is_read_under_a_deadline_to_its_end() {
        each_way(|| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![b'x'; 100_000]).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            let mut source = Source::new(file.as_fd(), Deadline::after(Duration::from_secs(10)));
            let mut all = Vec::new();
            source.read_vec(&mut all, 100_000).unwrap();
            assert_eq!((all.len(), source.read(&mut [0; 1]).unwrap()), (100_000, 0));
        });
    }
}
