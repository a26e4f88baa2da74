//! A pseudo-terminal, as pty(7) describes it: the master is ours, the slave a command's.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, Uid};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};

use crate::error::Result;
use crate::io::process::spawn::{above_standard, spawn_error};

/// The size of a terminal in characters; 0 if it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in each.
    pub columns: u16,
}

impl WindowSize {
    /// Both in one number, for an atomic.
    pub fn pack(self) -> u32 {
        u32::from(self.rows) << 16 | u32::from(self.columns)
    }

    /// The size that [`pack`](Self::pack) made a number of.
    pub fn unpack(packed: u32) -> WindowSize {
        let [rows_high, rows_low, columns_high, columns_low] = packed.to_be_bytes();
        let of = |high, low| u16::from_be_bytes([high, low]);
        WindowSize { rows: of(rows_high, rows_low), columns: of(columns_high, columns_low) }
    }
}

/// The master of a pseudo-terminal. When its last descriptor is closed, the session of the
/// terminal gets SIGHUP.
#[derive(Debug)]
pub struct Terminal {
    master: Rc<OwnedFd>,
}

impl Terminal {
    /// Makes a terminal with the kernel's modes: lines, echo, signals. The master does not
    /// block; the slave, which is returned with it, does. It belongs to `owner`, by default to
    /// this process's user.
    pub fn open(size: WindowSize, owner: Option<u32>) -> Result<(Terminal, OwnedFd)> {
        let failed = |errno| spawn_error("terminal", errno);
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = above_standard(openpt(flags).map_err(failed)?)?;
        unlockpt(&master).map_err(failed)?;
        ioctl_fionbio(&master, true).map_err(failed)?;
        // Before Linux 4.13 there is only the name, which is wrong if /dev/pts is another one
        // than the master's.
        let slave =
            ioctl_tiocgptpeer(&master, flags).or_else(|_| open_by_name(&master)).map_err(failed)?;
        if let Some(owner) = owner {
            rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), None)
                .map_err(|errno| spawn_error("terminal's owner", errno))?;
        }
        let terminal = Terminal { master: Rc::new(master) };
        terminal.resize(size).map_err(failed)?;
        Ok((terminal, slave))
    }

    /// The descriptor of this end.
    pub fn master(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.master)
    }

    /// Changes its size, and sends SIGWINCH to its foreground group.
    pub fn resize(&self, size: WindowSize) -> Result<(), Errno> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size)
    }

    /// The process group in its foreground.
    pub fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(&self.master).ok()
    }

    /// The end-of-file characters, as the reading program has set them. After a part of a line
    /// the first one only submits that part.
    pub fn end_of_input(&self, after_part_of_a_line: bool) -> Vec<u8> {
        let Ok(modes) = tcgetattr(&self.master) else { return Vec::new() };
        match modes.special_codes[SpecialCodeIndex::VEOF] {
            DISABLED => Vec::new(),
            end if after_part_of_a_line && modes.local_modes.contains(LocalModes::ICANON) => {
                vec![end; 2]
            }
            end => vec![end],
        }
    }
}

fn open_by_name(master: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(ptsname(master, Vec::new())?, flags, Mode::empty())
}

/// `_POSIX_VDISABLE`: there is no such character.
const DISABLED: u8 = 0;

#[cfg(test)]
mod tests {
    use rustix::fs::fstat;
    use rustix::termios::tcgetwinsize;

    use super::*;

    #[test]
    fn a_terminal_has_its_size_and_is_found_by_its_name() {
        let size = WindowSize { rows: 7, columns: 70 };
        let (terminal, slave) = Terminal::open(size, None).unwrap();
        let named = open_by_name(&terminal.master()).unwrap();
        assert_eq!(fstat(&slave).unwrap().st_rdev, fstat(&named).unwrap().st_rdev);
        let size = tcgetwinsize(&named).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (7, 70));
    }

    #[test]
    fn it_becomes_nobodys_own_by_being_opened() {
        let (terminal, slave) = Terminal::open(WindowSize { rows: 0, columns: 0 }, None).unwrap();
        drop(open_by_name(&terminal.master()).unwrap());
        assert_eq!(terminal.foreground(), None);
        drop(slave);
    }
}
