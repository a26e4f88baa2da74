//! The child between clone(2) and execve(2): async-signal-safe calls only.
//!
//! It runs on the host's memory, or on a copy in which any lock may be held. So it must not
//! allocate, panic, use a lock or pass a cancellation point. Everything it needs is in a
//! [`Plan`], which the host has prepared.

use std::convert::Infallible;
use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{Error, ErrorKind, Result};
use crate::io::process::confinement::Confinement;

/// Everything that the child needs, ready to use.
pub(super) struct Plan<'a> {
    /// A file, or the name of one in a directory of `path`.
    pub program: CString,
    /// The `PATH` to search. The child joins both: all names together would be the product of
    /// two lengths that a peer may have chosen.
    pub path: Option<&'a [u8]>,
    pub argv: Pointers,
    pub environment: Pointers,
    pub directory: Option<CString>,
    /// All of them 3 or higher: none is overwritten before it is used.
    pub stdio: [c_int; 3],
    pub on_terminal: bool,
    pub confinement: Confinement,
    /// The supplementary groups of another user.
    pub groups: Vec<Gid>,
    /// The parent, whose death kills the child.
    pub parent: Option<u32>,
    pub channel: FailureChannel,
    /// [`UNSEEN`] until the child writes here, which the host sees only if memory is shared;
    /// then [`SEEN`], or its failure, encoded.
    pub outcome: AtomicI32,
}

/// How the child reports a failure to the host.
pub(super) enum FailureChannel {
    /// By [`Plan::outcome`] alone: it is known that memory is shared.
    SharedMemory,
    /// By this pipe as well: memory is not shared, or it is not known whether it is.
    Pipe { reader: OwnedFd, writer: OwnedFd },
}

/// Of [`Plan::outcome`]: nothing was written to it.
pub(super) const UNSEEN: c_int = -1;
/// Of [`Plan::outcome`]: the child runs on the host's memory, and has not failed.
pub(super) const SEEN: c_int = 0;

/// A NULL-terminated array of strings, as execve(2) takes it.
pub(super) struct Pointers {
    pointers: Vec<*const c_char>,
    /// The strings that they point to.
    _strings: Vec<u8>,
}

impl Pointers {
    /// Of strings that are one behind the other, each with its NUL.
    pub fn new(strings: Vec<u8>) -> Result<Pointers> {
        let ends = || (1..).zip(&strings).filter(|(_, byte)| **byte == 0).map(|(end, _)| end);
        let mut pointers = Vec::new();
        let reserved = pointers.try_reserve_exact(ends().count() + 1);
        reserved.map_err(|_| Error::new(ErrorKind::NoMemory, "arguments or variables"))?;
        let mut start = 0;
        for end in ends() {
            pointers.push(strings.as_ptr().wrapping_add(start).cast());
            start = end;
        }
        pointers.push(ptr::null());
        Ok(Pointers { pointers, _strings: strings })
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// Runs the child on the parent's memory; it never returns. `plan` is a [`Plan`].
pub(super) extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: the parent passes a plan, which outlives this function.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    plan.outcome.store(SEEN, Ordering::Relaxed);
    let Err(failure) = become_program(plan);
    let failure = failure.encode();
    plan.outcome.store(failure, Ordering::Relaxed);
    let report = failure.to_ne_bytes();
    // SAFETY: `report` is valid for its length. write(2) is called without the C
    // library's wrapper, which is a cancellation point of the thread we share memory with.
    unsafe {
        if let FailureChannel::Pipe { writer, .. } = &plan.channel {
            libc::syscall(libc::SYS_write, writer.as_raw_fd(), report.as_ptr(), report.len());
        }
        libc::_exit(127)
    }
}

/// Only async-signal-safe calls, no allocation, nothing that can panic.
fn become_program(plan: &Plan<'_>) -> std::result::Result<Infallible, Failure> {
    reset_signals();
    // SAFETY: plain system calls on integers; all pointers are to NUL-terminated strings
    // and NULL-terminated arrays of them in `plan`.
    unsafe {
        if plan.on_terminal {
            Step::Session.check(libc::setsid())?;
            Step::Terminal.check(libc::ioctl(plan.stdio[0], libc::TIOCSCTTY, 0))?;
        } else {
            Step::Group.check(libc::setpgid(0, 0))?;
            leave_the_hosts_terminal();
        }
        for (target, source) in (0..).zip(plan.stdio) {
            Step::Stdio.check(libc::dup2(source, target))?;
        }
        close_the_rest_on_exec()?;
        confine(&plan.confinement, &plan.groups)?;
        // From here on failures are those of the user's program.
        if let Some(parent) = plan.parent {
            Step::DieWithParent.check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // It may have died before; 0 is a parent outside our PID namespace.
            let now = libc::getppid().cast_unsigned();
            if now != parent && now != 0 {
                libc::_exit(127);
            }
        }
        if let Some(path) = &plan.directory {
            Step::Directory.check(libc::chdir(path.as_ptr()))?;
        }
        set_signal_mask(0);
    }
    Err(Failure { step: Step::Program as c_int, errno: execute(plan) })
}

/// Becomes the program, or returns the errno.
fn execute(plan: &Plan<'_>) -> c_int {
    let run = |file: *const c_char| {
        // SAFETY: NUL-terminated strings, and NULL-terminated arrays of them.
        unsafe { libc::execve(file, plan.argv.as_ptr(), plan.environment.as_ptr()) };
        errno()
    };
    let Some(path) = plan.path else { return run(plan.program.as_ptr()) };
    let name = plan.program.to_bytes_with_nul();
    let mut file = [0; libc::PATH_MAX as usize];
    let mut verdict = libc::ENOENT;
    for directory in path.split(|byte| *byte == b':') {
        // Nothing is the current directory.
        let slash = if directory.is_empty() { b"".as_slice() } else { b"/" };
        if directory.len() + slash.len() + name.len() > file.len() {
            return libc::ENAMETOOLONG;
        }
        for (to, from) in file.iter_mut().zip([directory, slash, name].into_iter().flatten()) {
            *to = *from;
        }
        match run(file.as_ptr().cast()) {
            // As execvp(3): neither a missing program nor one that may not be run ends the
            // search, and only the latter is reported.
            libc::EACCES => verdict = libc::EACCES,
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            other => return other,
        }
    }
    verdict
}

/// Gives up the controlling terminal for this process only. Leaving the session as well would
/// make the group an orphan, which SIGTSTP cannot stop.
fn leave_the_hosts_terminal() {
    let flags = libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated. Raw, as open(2) and close(2) are cancellation points.
    unsafe {
        let tty = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/dev/tty".as_ptr(), flags);
        if let Ok(fd) = c_int::try_from(tty)
            && fd >= 0
        {
            libc::ioctl(fd, libc::TIOCNOTTY);
            libc::syscall(libc::SYS_close, fd);
        }
    }
}

/// Raw system calls: the C library's would change the user of all threads of the host.
fn confine(confinement: &Confinement, groups: &[Gid]) -> std::result::Result<(), Failure> {
    let Confinement { umask, cpu_seconds, memory, processes, file_size, user } = *confinement;
    for (step, resource, limit) in [
        (Step::CpuLimit, Resource::Cpu, cpu_seconds),
        (Step::MemoryLimit, Resource::As, memory),
        (Step::ProcessLimit, Resource::Nproc, processes),
        (Step::FileLimit, Resource::Fsize, file_size),
    ] {
        if limit.is_some() {
            step.done(setrlimit(resource, Rlimit { current: limit, maximum: limit }))?;
        }
    }
    if let Some((user, group)) = user {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        Step::Groups.done(set_thread_groups(groups))?;
        Step::GroupId.done(set_thread_res_gid(group, group, group))?;
        Step::UserId.done(set_thread_res_uid(user, user, user))?;
    }
    if let Some(umask) = umask {
        // SAFETY: no pointers.
        unsafe { libc::umask(umask) };
    }
    Ok(())
}

/// Sets default actions for all signals: execve(2) would keep ignored ones ignored, and until
/// then a handler would run on the host's memory.
fn reset_signals() {
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // Larger than the kernel's struct sigaction; zero is `SIG_DFL`.
            let default = [0_u64; 8];
            // SAFETY: the kernel reads its struct from `default` and writes nothing. The
            // raw call also reaches the two signals that the C library keeps to itself.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    default.as_ptr(),
                    ptr::null_mut::<c_void>(),
                    size_of::<u64>(),
                );
            }
        }
    }
}

/// Marks every descriptor above the standard three close-on-exec.
fn close_the_rest_on_exec() -> std::result::Result<(), Failure> {
    // SAFETY: no pointers.
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    // Before Linux 5.11, and in sandboxes that do not know the call.
    if marked == 0 { Ok(()) } else { mark_each_descriptor() }
}

/// The same with /proc/self/fd.
fn mark_each_descriptor() -> std::result::Result<(), Failure> {
    /// Of `struct linux_dirent64`, see getdents64(2).
    const RECORD_LENGTH: usize = 16;
    const NAME: usize = 19;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let path = c"/proc/self/fd".as_ptr();
    // SAFETY: `path` is NUL-terminated. Raw, as open(2) is a cancellation point.
    let directory = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags) };
    Step::Descriptors.check(directory)?;
    loop {
        let mut buffer = [0_u8; 1024];
        // SAFETY: the kernel writes at most the length of `buffer` to it.
        let filled = unsafe {
            libc::syscall(libc::SYS_getdents64, directory, buffer.as_mut_ptr(), buffer.len())
        };
        Step::Descriptors.check(filled)?;
        let mut records = buffer.get(..usize::try_from(filled).unwrap_or(0)).unwrap_or_default();
        if records.is_empty() {
            return Ok(());
        }
        while let Some(&[low, high]) = records.get(RECORD_LENGTH..RECORD_LENGTH + 2) {
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let number = records.get(NAME..length).and_then(leading_number);
            if let Some(fd) = number.filter(|fd| *fd > 2) {
                // SAFETY: no pointers.
                let marked = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
                Step::Descriptors.check(marked)?;
            }
            records = records.get(length..).unwrap_or_default();
        }
    }
}

/// The number that a NUL-terminated name consists of.
fn leading_number(name: &[u8]) -> Option<c_int> {
    let mut number: Option<c_int> = None;
    for byte in name.iter().take_while(|byte| **byte != 0) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.unwrap_or(0).checked_mul(10)?.checked_add(digit.into());
    }
    number
}

/// Sets the calling thread's mask, and returns the one before. Raw, as the C library
/// never blocks the signals with which it cancels threads and changes their user.
pub(super) fn set_signal_mask(mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: both masks are as large as the size says.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            size_of::<u64>(),
        );
    }
    before
}

fn errno() -> c_int {
    // SAFETY: the address is the calling thread's errno.
    unsafe { *libc::__errno_location() }
}

/// The step in which the child failed.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Step {
    Group,
    Session,
    Terminal,
    Stdio,
    Descriptors,
    CpuLimit,
    MemoryLimit,
    ProcessLimit,
    FileLimit,
    Groups,
    GroupId,
    UserId,
    DieWithParent,
    Directory,
    Program,
}

impl Step {
    fn check(self, result: impl Into<c_long>) -> std::result::Result<(), Failure> {
        if result.into() < 0 {
            return Err(Failure { step: self as c_int, errno: errno() });
        }
        Ok(())
    }

    fn done(self, result: std::result::Result<(), Errno>) -> std::result::Result<(), Failure> {
        result.map_err(|errno| Failure { step: self as c_int, errno: errno.raw_os_error() })
    }

    const NAMES: [&str; 15] = [
        "setpgid",
        "setsid",
        "controlling terminal",
        "dup2",
        "close descriptors",
        "RLIMIT_CPU",
        "RLIMIT_AS",
        "RLIMIT_NPROC",
        "RLIMIT_FSIZE",
        "setgroups",
        "setresgid",
        "setresuid",
        "prctl",
        "working directory",
        "execve",
    ];
}

/// A [`Step`] and its errno; the host gets them as one number.
pub(super) struct Failure {
    step: c_int,
    errno: c_int,
}

impl Failure {
    /// Above 0.
    fn encode(&self) -> c_int {
        (self.step << 16) | self.errno
    }

    /// For the host, of a number above 0.
    pub(super) fn decode(report: c_int) -> Failure {
        Failure { step: report >> 16, errno: report & 0xffff }
    }

    /// For the host: the step that failed, and why.
    pub(super) fn parts(&self) -> (&'static str, Errno) {
        let step = usize::try_from(self.step).ok().and_then(|step| Step::NAMES.get(step));
        (step.unwrap_or(&"child"), Errno::from_raw_os_error(self.errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_descriptors() {
        for (name, number) in
            [(b"0\0".as_slice(), Some(0)), (b"307\0\x31", Some(307)), (b".\0", None), (b"\0", None)]
        {
            assert_eq!(leading_number(name), number);
        }
        assert_eq!(leading_number(b"99999999999\0"), None);
    }
}
