//! The processes of a session.

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::proc::{self, Stat};

/// Sends `signal` once to each process of one group of the session, or of all groups but the
/// leader's. New processes get it as well, unless they are made faster than they are found.
pub fn signal(session: Pid, group: Option<Pid>, signal: Signal) {
    let mut signalled = Vec::new();
    for _ in 0..PASSES {
        let before = signalled.len();
        proc::for_each(|pid, stat| {
            let belongs = || stat().is_some_and(|stat| is_of(&stat, session, group));
            if signalled.contains(&pid) || !belongs() {
                return;
            }
            // The open descriptor is for the process that /proc then shows, or for one that has
            // ended, never for a later one with the same number.
            let pidfd = pidfd_open(pid, PidfdFlags::empty());
            if belongs() {
                // It may be gone, or another user's.
                let _ = match &pidfd {
                    Ok(pidfd) => pidfd_send_signal(pidfd, signal),
                    Err(_) => kill_process(pid, signal),
                };
                signalled.push(pid);
            }
        });
        if signalled.len() == before {
            break;
        }
    }
}

fn is_of(stat: &Stat, session: Pid, group: Option<Pid>) -> bool {
    stat.session == Some(session)
        && match group {
            Some(group) => stat.group == Some(group),
            None => stat.group != Some(session),
        }
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
        let is_of = |stat: &[u8], session, group| super::is_of(&Stat::parse(stat), session, group);
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
