//! A sealed socket and a plain stream, and the bytes between them: nothing is lost, and each
//! direction ends by itself.
//!
//! | state | what it waits for |
//! |---|---|
//! | handshake | the socket, until the deadline |
//! | open | plain input and the socket, each if the other side has taken what there was before |
//! | half closed | the same without the direction that has ended |
//! | done | nothing: both have ended |

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use framefd::auth::{Read, SealedStream};
use framefd::frame::Deadline;
use framefd::{Error, ErrorKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, sockopt};

use crate::sealed::{SealedSocket, lost};

/// The plain side: one descriptor for each direction, or the same for both.
pub struct Plain<'a> {
    pub from: BorrowedFd<'a>,
    pub to: BorrowedFd<'a>,
}

/// Where a tunnel broke.
#[derive(Debug)]
pub enum Broken {
    Sealed(Error),
    Plain(&'static str, Errno),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        Broken::Sealed(error)
    }
}

/// A sealed stream over its socket.
pub struct Tunnel {
    sealed: SealedSocket,
    /// Bytes for the plain side, of which it has taken so many.
    held: Vec<u8>,
    taken: usize,
    /// The peer has ended its direction.
    peer_ended: bool,
}

impl Tunnel {
    pub fn new(seal: SealedStream, socket: OwnedFd) -> Tunnel {
        let sealed = SealedSocket::new(seal, socket);
        Tunnel { sealed, held: Vec::new(), taken: 0, peer_ended: false }
    }

    /// Proves both ends.
    pub fn handshake(&mut self, timeout: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(timeout);
        loop {
            // The last step may bring bytes of the stream.
            self.open()?;
            let is_sent = self.sealed.send()?;
            if self.sealed.seal.proof()?.is_some() {
                return Ok(());
            }
            if deadline.passed() {
                let detail = "does the peer speak sealed?";
                return Err(Error::new(ErrorKind::TimedOut, detail));
            }
            let events = if is_sent { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            let mut fds = [PollFd::from_borrowed_fd(self.sealed.socket.as_fd(), events)];
            let left = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
            wait(&mut fds, left.as_ref())?;
            if fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.sealed.receive()?;
            }
        }
    }

    /// Copies both directions until both have ended. `end` is called at the end of what the peer
    /// sends.
    pub fn copy(&mut self, plain: &Plain<'_>, mut end: impl FnMut()) -> Result<(), Broken> {
        let (mut buffer, mut plain_ended) = (vec![0; PIECE], false);
        let (mut passed_on, mut shut) = (false, false);
        let is_pipe = is_pipe(plain.to);
        loop {
            self.deliver(plain)?;
            let is_sent = self.sealed.send()?;
            if self.peer_ended && self.held.is_empty() && !passed_on {
                end();
                passed_on = true;
            }
            if plain_ended && is_sent && !shut {
                // The end is sealed already; this tells the transport.
                let _ = rustix::net::shutdown(&self.sealed.socket, Shutdown::Write);
                shut = true;
            }
            if passed_on && shut {
                return Ok(());
            }
            let flag = |flag, is_set| if is_set { flag } else { PollFlags::empty() };
            let reads = !self.peer_ended && self.held.is_empty();
            let mut fds = [
                PollFd::from_borrowed_fd(
                    self.sealed.socket.as_fd(),
                    flag(PollFlags::IN, reads) | flag(PollFlags::OUT, !is_sent),
                ),
                PollFd::from_borrowed_fd(plain.from, PollFlags::IN),
                PollFd::from_borrowed_fd(plain.to, flag(PollFlags::OUT, !self.held.is_empty())),
            ];
            // A direction that is over is not watched: its hang-up would be reported for ever.
            let takes = !plain_ended && is_sent;
            let is_open = !self.held.is_empty() || plain_ended || is_pipe;
            let watched = [self.held.is_empty() || !is_sent, takes, !passed_on && is_open];
            let events = wait_for(&mut fds, watched)?;
            let is_gone = events[2].intersects(PollFlags::ERR | PollFlags::HUP);
            if is_gone && self.held.is_empty() {
                return Err(Broken::Plain("standard output", Errno::PIPE));
            }
            if !reads && self.held.is_empty() && events[0].contains(PollFlags::ERR) {
                return Err(lost(Errno::CONNRESET).into());
            }
            if reads && events[0].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.sealed.receive()?;
            }
            if takes && !events[1].is_empty() {
                plain_ended = self.take(plain, &mut buffer)?;
            }
        }
    }

    /// Seals what the plain side has; whether it has ended.
    fn take(&mut self, plain: &Plain<'_>, buffer: &mut [u8]) -> Result<bool, Broken> {
        match rustix::io::read(plain.from, &mut *buffer) {
            Ok(got) => {
                self.sealed.seal.write(&buffer[..got], got == 0)?;
                Ok(got == 0)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(errno) => Err(Broken::Plain("standard input", errno)),
        }
    }

    /// The peer must not take what it got for all.
    pub fn reset(&self) {
        // It fails for no socket that is open.
        let _ = sockopt::set_socket_linger(&self.sealed.socket, Some(Duration::ZERO));
    }

    /// Opens what was received, up to a piece of the stream, which is several records.
    fn open(&mut self) -> Result<(), Error> {
        while self.held.len() < PIECE && !self.peer_ended {
            match self.sealed.seal.read() {
                Ok(Read::Bytes(bytes)) => self.held.extend_from_slice(bytes),
                Ok(Read::End) => self.peer_ended = true,
                // What came before is delivered first.
                Err(_) | Ok(Read::More) if !self.held.is_empty() => return Ok(()),
                Ok(Read::More) if self.sealed.is_drained => return self.sealed.seal.finish(),
                Ok(Read::More) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes to the plain side what is there for it, as far as it takes it.
    fn deliver(&mut self, plain: &Plain<'_>) -> Result<(), Broken> {
        loop {
            while self.taken < self.held.len() {
                match write_some(plain.to, &self.held[self.taken..]) {
                    Ok(written) => self.taken += written,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(errno) => return Err(Broken::Plain("standard output", errno)),
                }
            }
            self.held.clear();
            self.taken = 0;
            if self.peer_ended {
                return Ok(());
            }
            self.open()?;
            if self.held.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Waits for those descriptors that are watched; returns their events.
fn wait_for(fds: &mut [PollFd<'_>; 3], watched: [bool; 3]) -> Result<[PollFlags; 3], Error> {
    let mut chosen: Vec<PollFd<'_>> = fds
        .iter()
        .zip(watched)
        .filter(|(_, is_watched)| *is_watched)
        .map(|(fd, _)| fd.clone())
        .collect();
    wait(&mut chosen, None)?;
    let mut found = chosen.iter();
    let mut next = || found.next().map_or(PollFlags::empty(), PollFd::revents);
    Ok(watched.map(|is_watched| if is_watched { next() } else { PollFlags::empty() }))
}

fn wait(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<(), Error> {
    match poll(fds, timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::system("poll", errno)),
    }
}

/// Writes a part without waiting: to a socket by its own call, to a pipe no more than it has
/// room for once poll(2) says that it has some.
fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    match rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::NOTSOCK) => {}
        sent => return sent,
    }
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut fds, Some(&now))? == 0 {
        return Err(Errno::AGAIN);
    }
    rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_BUF)])
}

fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    let is = |stat: rustix::fs::Stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
    };
    rustix::fs::fstat(fd).is_ok_and(is)
}

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// What a pipe takes without waiting if it takes anything.
const PIPE_BUF: usize = 4096;
