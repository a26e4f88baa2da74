//! Connected descriptors of every kind that a frame may travel on.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;

/// A kind of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    UnixSocket,
    TcpSocket,
    Pipe,
    /// From the master of a pseudo-terminal in raw mode to its terminal.
    ToTerminal,
    /// From the terminal to its master.
    FromTerminal,
}

impl Kind {
    pub const ALL: [Kind; 5] =
        [Kind::UnixSocket, Kind::TcpSocket, Kind::Pipe, Kind::ToTerminal, Kind::FromTerminal];

    pub fn is_socket(self) -> bool {
        matches!(self, Kind::UnixSocket | Kind::TcpSocket)
    }

    /// A new channel of this kind, whose descriptors block.
    pub fn open(self) -> Channel {
        let (writer, reader): (OwnedFd, OwnedFd) = match self {
            Kind::UnixSocket => {
                let (a, b) = UnixStream::pair().unwrap();
                (a.into(), b.into())
            }
            Kind::TcpSocket => {
                let (a, b) = tcp();
                (a.into(), b.into())
            }
            Kind::Pipe => {
                let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
                (writer, reader)
            }
            Kind::ToTerminal => terminal(),
            Kind::FromTerminal => {
                let (master, terminal) = terminal();
                (terminal, master)
            }
        };
        Channel { writer, reader }
    }
}

/// One direction; where the kind has two, the other one works as well.
#[derive(Debug)]
pub struct Channel {
    pub writer: OwnedFd,
    pub reader: OwnedFd,
}

/// Every kind, its descriptors blocking and not.
pub fn every_channel() -> impl Iterator<Item = (String, Kind, Channel)> {
    Kind::ALL.into_iter().flat_map(|kind| {
        [true, false].map(|blocking| {
            let channel = kind.open();
            set_blocking(&channel.writer, blocking);
            set_blocking(&channel.reader, blocking);
            (format!("{kind:?}, blocking: {blocking}"), kind, channel)
        })
    })
}

pub fn socket_pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

pub fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// The master and the terminal, in raw mode.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let mut mode = rustix::termios::tcgetattr(&terminal).unwrap();
    mode.make_raw();
    rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &mode).unwrap();
    (master, terminal)
}

pub fn flags(fd: impl AsFd) -> OFlags {
    rustix::fs::fcntl_getfl(fd).unwrap()
}

pub fn set_blocking(fd: impl AsFd, blocking: bool) {
    let mut flags = flags(&fd);
    flags.set(OFlags::NONBLOCK, !blocking);
    rustix::fs::fcntl_setfl(&fd, flags).unwrap();
}

/// Bytes that have arrived and wait to be read.
pub fn unread(fd: impl AsFd) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap()
}

/// Writes zeros until the channel takes no more; the flags are as before.
pub fn fill(writer: impl AsFd) {
    without_blocking(&writer, || {
        let zeros = vec![0; 65536];
        let mut piece = &zeros[..];
        // TCP and a terminal may take more after a while, though poll(2) does not say so.
        let is_tcp = rustix::net::sockopt::tcp_nodelay(&writer).is_ok();
        let (mut refused, needed) = (0, if is_tcp { 8 } else { 4 });
        while refused < needed {
            match rustix::io::write(&writer, piece) {
                Ok(_) => refused = 0,
                Err(Errno::AGAIN) if piece.len() > 1 => piece = &piece[..1],
                Err(Errno::AGAIN) => {
                    std::thread::sleep(std::time::Duration::from_millis(if is_tcp {
                        40
                    } else {
                        10
                    }));
                    refused += 1;
                }
                Err(errno) => panic!("write: {errno}"),
            }
        }
    });
}

/// Reads until nothing comes any more; the flags are as before.
pub fn drain(reader: impl AsFd) {
    let mut buf = vec![0; 65536];
    without_blocking(&reader, || {
        loop {
            match rustix::io::read(&reader, &mut buf) {
                Ok(0) => break,
                Err(Errno::AGAIN) if !becomes_ready(&reader, PollFlags::IN) => break,
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(errno) => panic!("read: {errno}"),
            }
        }
    });
}

fn without_blocking(fd: impl AsFd, run: impl FnOnce()) {
    let before = flags(&fd);
    set_blocking(&fd, false);
    run();
    rustix::fs::fcntl_setfl(&fd, before).unwrap();
}

/// A terminal's bytes are moved on by a worker of the kernel, TCP's by the network.
fn becomes_ready(fd: impl AsFd, what: PollFlags) -> bool {
    let a_while = Timespec { tv_sec: 0, tv_nsec: 30_000_000 };
    poll(&mut [PollFd::new(&fd, what)], Some(&a_while)).unwrap() > 0
}
