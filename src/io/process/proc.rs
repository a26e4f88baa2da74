//! What /proc tells of processes, because no system call lists them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, getpid};

use crate::io::fs::at;
use crate::io::fs::directory::for_each_name;

/// A line of proc_pid_stat(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// A letter.
    pub state: u8,
    pub parent: Option<Pid>,
    pub group: Option<Pid>,
    pub session: Option<Pid>,
    /// When it was started, in the kernel's ticks.
    pub start: u64,
}

impl Stat {
    /// Reads a line: the name in parentheses may be anything. What is missing is none or zero.
    pub(super) fn parse(line: &[u8]) -> Stat {
        let after_name = line.rsplit(|byte| *byte == b')').next().unwrap_or_default();
        let field = |at: usize| {
            after_name.split(|byte| *byte == b' ').nth(at - STATE + 1).unwrap_or_default()
        };
        let start = std::str::from_utf8(field(START)).ok().and_then(|text| text.parse().ok());
        Stat {
            state: field(STATE).first().copied().unwrap_or_default(),
            parent: pid_of(field(PARENT)),
            group: pid_of(field(GROUP)),
            session: pid_of(field(SESSION)),
            start: start.unwrap_or_default(),
        }
    }
}

/// Calls `take` for each process that there is, as far as they can be listed.
pub(super) fn for_each(mut take: impl FnMut(Pid, &dyn Fn() -> Option<Stat>)) {
    let Some(proc) = open() else { return };
    // The part that could be read counts.
    let _ = for_each_name(proc.as_fd(), &mut |name, _| {
        if let Some(pid) = pid_of(name) {
            take(pid, &|| stat(proc.as_fd(), name));
        }
        Ok(())
    });
}

/// /proc, if it is of this process's PID namespace; otherwise its numbers are different.
fn open() -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let proc = at::open(CWD, b"/proc", flags, Mode::empty()).ok()?;
    let this = rustix::fs::readlinkat(&proc, c"self", Vec::new()).ok()?;
    (pid_of(this.to_bytes()) == Some(getpid())).then_some(proc)
}

fn stat(proc: BorrowedFd<'_>, name: &[u8]) -> Option<Stat> {
    // The name of a program has up to 64 bytes, a number 20.
    let mut line = [0; 512];
    let path = [name, b"/stat"].concat();
    let file = at::open(proc, &path, OFlags::RDONLY, Mode::empty()).ok()?;
    let length = rustix::io::read(file, &mut line).ok()?;
    line.get(..length).map(Stat::parse)
}

/// A process that has just been reaped has -1 for its group and its session.
fn pid_of(name: &[u8]) -> Option<Pid> {
    let number: i32 = std::str::from_utf8(name).ok()?.parse().ok()?;
    Pid::from_raw(number.max(0))
}

/// Numbers of fields in the manual page, from 1.
const STATE: usize = 3;
const PARENT: usize = 4;
const GROUP: usize = 5;
const SESSION: usize = 6;
const START: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_behind_a_name_that_may_be_anything() {
        for name in ["sh", "a) R 1 (b", ") Z 1 2 3 (", ""] {
            let rest = "34816 20 4194304 0 0 0 0 1 2 3 4 20 0 1 0 98765 0 0";
            let stat = Stat::parse(format!("9 ({name}) S 1 20 30 {rest}").as_bytes());
            let pid = |number| Pid::from_raw(number);
            let Stat { state, parent, group, session, start } = stat;
            assert_eq!((state, start), (b'S', 98765), "{name}");
            assert_eq!((parent, group, session), (pid(1), pid(20), pid(30)));
        }
        // Of one that was reaped meanwhile, and cut ones.
        let reaped = Stat::parse(b"9 (sh) X 0 -1 -1 0 -1");
        assert_eq!((reaped.parent, reaped.group, reaped.session), (None, None, None));
        for stat in [b"9 (sh".as_slice(), b""] {
            assert_eq!(Stat::parse(stat).session, None);
        }
    }

    #[test]
    fn this_process_is_among_them() {
        let mut found = None;
        for_each(|pid, stat| {
            if pid == getpid() {
                found = stat();
            }
        });
        let found = found.unwrap();
        assert_eq!(found.parent, rustix::process::getppid());
        assert_eq!(found.group, Some(rustix::process::getpgrp()));
        assert!(found.start > 0);
    }
}
