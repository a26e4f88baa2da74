//! The processes of a session, found in /proc because no system call lists them.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal,
};

use crate::io::fs::at;
use crate::io::fs::directory::for_each_name;

/// Sends `signal` once to each process of one group of the session, or of all groups but the
/// leader's. New processes get it as well, unless they are made faster than they are found.
pub fn signal(session: Pid, group: Option<Pid>, signal: Signal) {
    let mut signalled = Vec::new();
    for _ in 0..PASSES {
        let before = signalled.len();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Ok(proc) = at::open(CWD, b"/proc", flags, Mode::empty()) else { return };
        let proc = proc.as_fd();
        if !shows_us(proc) {
            return;
        }
        // The part that could be read counts.
        let _ = for_each_name(proc, &mut |name, _| {
            let Some(pid) = pid_of(name) else { return Ok(()) };
            if signalled.contains(&pid) || !belongs(proc, name, session, group) {
                return Ok(());
            }
            // The open descriptor is for the process that /proc then shows, or for one that has
            // ended, never for a later one with the same number.
            let pidfd = pidfd_open(pid, PidfdFlags::empty());
            if belongs(proc, name, session, group) {
                // It may be gone, or another user's.
                let _ = match &pidfd {
                    Ok(pidfd) => pidfd_send_signal(pidfd, signal),
                    Err(_) => kill_process(pid, signal),
                };
                signalled.push(pid);
            }
            Ok(())
        });
        if signalled.len() == before {
            break;
        }
    }
}

/// Whether /proc is of this process's PID namespace; otherwise its numbers are different.
fn shows_us(proc: BorrowedFd<'_>) -> bool {
    let this = rustix::fs::readlinkat(proc, c"self", Vec::new());
    this.is_ok_and(|this| pid_of(this.to_bytes()) == Some(getpid()))
}

fn belongs(proc: BorrowedFd<'_>, name: &[u8], session: Pid, group: Option<Pid>) -> bool {
    // The name of a program has up to 64 bytes, a number 11.
    let mut stat = [0; 512];
    let path = [name, b"/stat"].concat();
    let length = at::open(proc, &path, OFlags::RDONLY, Mode::empty())
        .and_then(|file| rustix::io::read(file, &mut stat));
    length.is_ok_and(|length| is_of(stat.get(..length).unwrap_or_default(), session, group))
}

/// Reads a line of proc_pid_stat(5): the name in parentheses may be anything, and after it
/// come the state, the parent, the group and the session.
fn is_of(stat: &[u8], session: Pid, group: Option<Pid>) -> bool {
    let after_name = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default();
    let mut fields = after_name.split(|byte| *byte == b' ').skip(3).map(pid_of);
    let (of_group, of_session) = (fields.next().flatten(), fields.next().flatten());
    of_session == Some(session)
        && match group {
            Some(group) => of_group == Some(group),
            None => of_group != Some(session),
        }
}

/// A process that has just been reaped has -1 for its group and its session.
fn pid_of(name: &[u8]) -> Option<Pid> {
    let number: i32 = std::str::from_utf8(name).ok()?.parse().ok()?;
    Pid::from_raw(number.max(0))
}

/// Enough for a shell and whatever it has just started.
const PASSES: usize = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use rustix::io::Errno;
    use rustix::process::setsid;

    use super::*;
    use crate::io::testing;

    #[test]
    fn a_session_is_signalled_on_an_old_kernel_too() {
        for calls in [&[][..], &[(libc::SYS_pidfd_open, Errno::NOSYS)]] {
            let mut command = Command::new("sleep");
            // SAFETY: setsid is async-signal-safe, and the closure calls nothing else.
            unsafe { command.arg("1000").pre_exec(|| Ok(setsid().map(drop)?)) };
            let mut leader = command.spawn().unwrap();
            let pid = Pid::from_child(&leader);
            testing::failing(calls, || {
                signal(pid, None, Signal::KILL);
                signal(pid, Some(Pid::INIT), Signal::KILL);
                signal(pid, Some(pid), Signal::TERM);
            });
            assert_eq!(leader.wait().unwrap().signal(), Some(libc::SIGTERM));
        }
    }

    #[test]
    fn a_process_is_told_by_its_session_and_its_group() {
        let pid = |number| Pid::from_raw(number).unwrap();
        for stat in [b"9 (sh) S 1 20 30 34816 20".as_slice(), b"9 (a) R 1 (b) S 1 20 30 0 -1"] {
            assert!(is_of(stat, pid(30), None));
            assert!(is_of(stat, pid(30), Some(pid(20))));
            assert!(!is_of(b"9 (sh) S 1 30 30 34816 30", pid(30), None));
            assert!(is_of(b"9 (sh) S 1 30 30 34816 30", pid(30), Some(pid(30))));
            assert!(!is_of(stat, pid(30), Some(pid(21))));
            assert!(!is_of(stat, pid(20), None));
        }
        // Of the kernel's own threads, of one that was reaped meanwhile, and cut ones.
        let reaped = b"9 (sh) X 0 -1 -1 0 -1".as_slice();
        for stat in [b"2 (kthreadd) S 0 0 0 0 -1", reaped, b"9 (sh) S 1", b"9 (sh", b""] {
            assert!(!is_of(stat, pid(30), None));
        }
    }
}
