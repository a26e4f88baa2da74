//! A process we started, and its process group: waiting for its end, signals, its status.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group,
    pidfd_send_signal, waitid,
};

use crate::io::deadline::Deadline;
use crate::io::last_errno;
use crate::io::process::ours::Ours;
use crate::io::process::sessions;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It is not known: the host ignores or reaps its children itself and the kernel is older
    /// than 6.15, or the command survived SIGKILL because it had become another user's.
    Lost,
}

/// A running command, the leader of a process group of its own, and maybe of a session.
///
/// Dropping it kills all of that with SIGKILL and waits for the leader, which takes only as long
/// as the kernel needs to end it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: Option<OwnedFd>,
    leads_session: bool,
    reaped: bool,
    /// Until it is reaped.
    ours: Option<Ours>,
}

impl Child {
    /// Takes a child that nobody has waited for, and its pidfd, which kernels before 5.3 do not
    /// have.
    pub(super) fn new(pid: Pid, pidfd: Option<OwnedFd>, leads_session: bool) -> Child {
        Child { pid, pidfd, leads_session, reaped: false, ours: Some(Ours::new(pid)) }
    }

    /// Its process id, which is also its group's.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable once the command has ended. Without it, on kernels before 5.3, call
    /// [`has_ended`](Child::has_ended) from time to time.
    pub fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Whether the command has ended. It stays a zombie until [`wait`](Child::wait), so that its
    /// group's number cannot be reused.
    pub fn has_ended(&self) -> bool {
        matches!(self.look(WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT), Ok(Some(_)))
            || self.was_reaped_by_the_host()
    }

    /// Sends `signal` to every process of the group. `SRCH`: none is left, or the host has
    /// reaped the leader on a kernel before 6.9, and the group's number may have been reused.
    /// `PERM`: all of them belong to another user.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        // Since Linux 6.9 the group is named by the descriptor and cannot be mistaken for
        // another, not even after the host has reaped the leader.
        let by_descriptor = self.wait_fd().map(|pidfd| pidfd_signal_group(pidfd, signal));
        match by_descriptor {
            Some(done @ (Ok(()) | Err(Errno::SRCH))) => done,
            _ if self.was_reaped_by_the_host() => Err(Errno::SRCH),
            _ => kill_process_group(self.pid, signal),
        }
    }

    /// Sends `signal` to the other groups of the session that the command leads, or to one
    /// of them. Shells make these for their jobs.
    pub fn signal_session(&self, group: Option<Pid>, signal: Signal) {
        // After the leader was reaped its number may belong to another session.
        if self.leads_session && !self.was_reaped_by_the_host() {
            sessions::signal(self.pid, group, signal);
        }
    }

    /// Sends SIGKILL to every process of the group, and of the session if it leads one. False if
    /// the leader may not be signalled because it has become another user's; it may run on then.
    pub fn kill(&self) -> bool {
        // The result for the leader itself counts: the call for the group succeeds if one member
        // may be signalled.
        let _ = self.signal(Signal::KILL);
        self.signal_session(None, Signal::KILL);
        match self.wait_fd().map(|pidfd| pidfd_send_signal(pidfd, Signal::KILL)) {
            Some(Ok(()) | Err(Errno::SRCH)) => true,
            _ if self.was_reaped_by_the_host() => true,
            _ => kill_process(self.pid, Signal::KILL) != Err(Errno::PERM),
        }
    }

    /// Waits for the command's end, without a limit, and reaps it.
    pub fn wait(mut self) -> Status {
        self.reap()
    }

    fn reap(&mut self) -> Status {
        self.reaped = true;
        loop {
            match self.look(WaitIdOptions::empty()) {
                Ok(Some(status)) => {
                    let code = status.exit_status().map(Status::Exited);
                    let signal = || status.terminating_signal().map(Status::Signaled);
                    return code.or_else(signal).unwrap_or(Status::Lost);
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(_) => return self.status_kept_by_the_kernel().unwrap_or(Status::Lost),
            }
        }
    }

    /// If another thread has reaped the process, its status is lost, except that since Linux
    /// 6.15 the pidfd still reports it.
    fn status_kept_by_the_kernel(&self) -> Option<Status> {
        let pidfd = self.wait_fd()?;
        // It may be reported after waitid(2) has failed, once the other thread's call is done. On
        // a busy machine that thread may have to wait for a processor.
        let deadline = Deadline::after(Duration::from_secs(5));
        loop {
            if let Some(status) = pidfd_exit_status(pidfd).ok()? {
                return Some(status);
            }
            if deadline.passed() {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn was_reaped_by_the_host(&self) -> bool {
        let answer = self.look(WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
        matches!(answer, Err(Errno::CHILD))
    }

    /// waitid(2) for the command's end. By descriptor if the kernel can (5.4): if the
    /// host reaps our child, its number may by now be another child's.
    fn look(&self, options: WaitIdOptions) -> Result<Option<WaitIdStatus>, Errno> {
        let options = options | WaitIdOptions::EXITED;
        match self.wait_fd().map(|pidfd| waitid(WaitId::PidFd(pidfd), options)) {
            None | Some(Err(Errno::INVAL)) => waitid(WaitId::Pid(self.pid), options),
            Some(answer) => answer,
        }
    }

    #[cfg(test)]
    pub(crate) fn forget_pidfd(&mut self) {
        self.pidfd = None;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        if self.kill() {
            self.reap();
        } else if let (Some(_), Ok(mut left)) = (&self.pidfd, LEFT_ALONE.try_lock())
            && left.try_reserve(1).is_ok()
        {
            left.push(Child {
                pid: self.pid,
                pidfd: self.pidfd.take(),
                leads_session: self.leads_session,
                reaped: true,
                ours: self.ours.take(),
            });
        }
    }
}

/// Reaps commands that could not be ended, and have ended since.
pub(super) fn reap_left_alone() {
    // In a child of fork(2) the lock of another thread may never be released.
    if let Ok(mut left) = LEFT_ALONE.try_lock() {
        left.retain(|child| matches!(child.look(WaitIdOptions::NOHANG), Ok(None)));
    }
}

/// Commands that have become another user's. The next command reaps them, so that they do not
/// stay zombies for as long as the host lives.
static LEFT_ALONE: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// `PIDFD_SIGNAL_PROCESS_GROUP` of `pidfd_send_signal(2)`, which rustix does not have.
fn pidfd_signal_group(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and no siginfo is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal.as_raw(),
            std::ptr::null::<libc::siginfo_t>(),
            libc::PIDFD_SIGNAL_PROCESS_GROUP,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// The `PIDFD_GET_INFO` request of pidfs, Linux 6.15: the status of a process that was
/// reaped, `None` while it is not.
fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> Result<Option<Status>, Errno> {
    // SAFETY: a struct of integers, for which zero is valid.
    let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
    info.mask = libc::PIDFD_INFO_EXIT.into();
    // SAFETY: the kernel writes no more than the size that is part of the request's number.
    if unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) } != 0 {
        return Err(last_errno());
    }
    if info.mask & u64::from(libc::PIDFD_INFO_EXIT) == 0 {
        return Ok(None);
    }
    Ok(Some(if libc::WIFEXITED(info.exit_code) {
        Status::Exited(libc::WEXITSTATUS(info.exit_code))
    } else {
        Status::Signaled(libc::WTERMSIG(info.exit_code))
    }))
}
