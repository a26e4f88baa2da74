//! Signals and sizes for a command that runs at the peer, from any thread and from signal
//! handlers.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Error, Result};
use crate::io::process::terminal::WindowSize;
use crate::wire::message::exec::{ClientFrame, Tty, signal_name};

/// Signals and sizes to be sent to a command at the peer. The running call for that command
/// sends them, or the next one does. A signal that is given twice before that is sent once.
///
/// [`signal`](Self::signal) and [`resize`](Self::resize) are async-signal-safe: they change an
/// atomic and write to an eventfd(2).
#[derive(Debug)]
pub(crate) struct Control {
    /// A bit for each signal.
    signals: AtomicU64,
    /// A packed size; 0 is none.
    size: AtomicU32,
    event: OwnedFd,
}

impl Control {
    pub(super) fn new() -> Result<Control> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::system("eventfd", errno))?;
        Ok(Control { signals: AtomicU64::new(0), size: AtomicU32::new(0), event })
    }

    /// Sends the signal with this number to the command's process group. Only HUP, INT, QUIT,
    /// TERM, KILL, USR1, USR2, CONT, TSTP, STOP, WINCH, ALRM and PIPE have a name on the wire;
    /// any other is [`Argument`](crate::ErrorKind::Argument).
    pub(super) fn signal(&self, number: i32) -> Result<()> {
        signal_name(number)?;
        self.signals.fetch_or(1 << number, Ordering::AcqRel);
        self.wake();
        Ok(())
    }

    /// Changes the size of the command's terminal. A size of 0 by 0 is not sent.
    pub(super) fn resize(&self, size: WindowSize) {
        self.size.store(size.pack(), Ordering::Release);
        self.wake();
    }

    /// Readable after one of the calls above.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Makes it unreadable. Call it before [`take`](Self::take), not after.
    pub(crate) fn clear(&self) {
        // Another thread may have been faster.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }

    /// The signals and the size to send.
    pub(crate) fn take(&self) -> impl Iterator<Item = ClientFrame> + use<> {
        let signals = self.signals.swap(0, Ordering::AcqRel);
        let size = WindowSize::unpack(self.size.swap(0, Ordering::AcqRel));
        let resized = size.pack() != 0;
        let size = Tty { rows: size.rows, columns: size.columns };
        (1..64)
            .filter(move |number| signals & 1 << number != 0)
            .map(ClientFrame::Signal)
            .chain(resized.then_some(ClientFrame::Resize(size)))
    }

    fn wake(&self) {
        // It can only fail if the counter is at its end, and then it is readable too.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_comes_twice_is_taken_once() {
        let control = Control::new().unwrap();
        let is_readable = || rustix::io::read(control.fd(), &mut [0; 8]).is_ok();
        assert!(!is_readable() && control.take().next().is_none());
        for number in [libc::SIGTERM, libc::SIGINT, libc::SIGTERM] {
            control.signal(number).unwrap();
        }
        control.resize(WindowSize { rows: 1, columns: 2 });
        control.resize(WindowSize { rows: 0x1234, columns: 0x5678 });
        assert!(is_readable());
        let frames: Vec<_> = control.take().collect();
        let size = Tty { rows: 0x1234, columns: 0x5678 };
        assert_eq!(
            frames,
            [
                ClientFrame::Signal(libc::SIGINT),
                ClientFrame::Signal(libc::SIGTERM),
                ClientFrame::Resize(size)
            ]
        );
        assert!(control.take().next().is_none());
    }

    #[test]
    fn a_signal_without_a_name_is_refused() {
        let control = Control::new().unwrap();
        for number in [i32::MIN, -1, 0, libc::SIGSEGV, 64, 65, i32::MAX] {
            assert_eq!(control.signal(number).unwrap_err().kind(), ErrorKind::Argument);
        }
        assert!(control.take().next().is_none());
    }
}
