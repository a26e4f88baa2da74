//! Starts one process the way `posix_spawn` does: nothing of the host is copied, and
//! nothing of it is changed.
//!
//! The child shares the host's memory and the calling thread stands still until the
//! child has become the program (`CLONE_VM | CLONE_VFORK`), so the price does not grow
//! with the host and no lock of the host's can be found held. In return the child may
//! not allocate, panic, touch a lock or pass a cancellation point: everything it needs
//! is prepared before, and it runs on a stack of its own with all signals blocked, as a
//! handler of the host's would otherwise run in it.
//!
//! A child that becomes another user gets a copy of the memory instead, under the same
//! rules: that user's processes may look into it and at its memory, and the kernel takes
//! the permission to dump core from a memory whose user changes.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, c_char, c_int, c_long, c_void};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Pid, PidfdFlags, Resource, Rlimit, Uid, pidfd_open, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::last_errno;
use crate::io::process::child::Child;
use crate::io::process::environment::Environment;
use crate::io::wait;

/// A process to start. It becomes the leader of a new process group without a terminal, or of
/// a session with one, with default actions for all signals, none of them blocked, and no
/// descriptor but its standard three.
#[derive(Debug)]
pub struct Process<'a> {
    /// The program and its arguments. A program without a slash is looked for in the
    /// `PATH` of `environment`, as execvp(3) does, except that a file that is neither a
    /// binary nor begins with `#!` is not handed to a shell.
    pub argv: &'a [&'a [u8]],
    /// Its variables.
    pub environment: &'a Environment,
    /// Where it starts: in the host's directory, if nowhere else.
    pub directory: Option<Directory<'a>>,
    /// Its descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Its descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// Its descriptor 2.
    pub stderr: BorrowedFd<'a>,
    /// What it may not do.
    pub confinement: Confinement,
    /// Whether it leads a new session, whose controlling terminal is `stdin`.
    pub on_terminal: bool,
    /// Whether it gets SIGKILL when the calling *thread* ends (`PR_SET_PDEATHSIG`):
    /// only for a thread that waits for the process. What the process starts itself and
    /// a set-user-ID program are not reached by this.
    pub die_with_parent: bool,
}

/// A working directory.
#[derive(Clone, Copy, Debug)]
pub enum Directory<'a> {
    /// By path; a relative one is relative to the host's.
    Path(&'a Path),
    /// An open directory.
    Fd(BorrowedFd<'a>),
}

/// What a process may not do that the host may. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Its file mode creation mask, see umask(2).
    pub umask: Option<u32>,
    /// Seconds of processor time, `RLIMIT_CPU`.
    pub cpu_seconds: Option<u64>,
    /// Bytes of address space, `RLIMIT_AS`.
    pub memory: Option<u64>,
    /// Processes and threads of its real user, `RLIMIT_NPROC`: counted over the whole
    /// system, and not for root.
    pub processes: Option<u64>,
    /// Bytes of a file that it writes, `RLIMIT_FSIZE`.
    pub file_size: Option<u64>,
    /// The user and the group that it becomes, without any supplementary group. Only root
    /// may do that.
    pub user: Option<(u32, u32)>,
}

impl Confinement {
    /// Refuses numbers that mean "no change" to the kernel.
    pub(crate) fn check(&self) -> Result<()> {
        match self.user {
            Some((u32::MAX, _) | (_, u32::MAX)) => {
                Err(Error::new(ErrorKind::Argument, "there is no such user or group"))
            }
            _ => Ok(()),
        }
    }
}

impl Process<'_> {
    /// Starts it. An empty `argv`, a NUL byte, a malformed variable and a user or group of
    /// the number `u32::MAX`, which is none, are [`ErrorKind::Argument`]; everything else is
    /// [`ErrorKind::Spawn`] with the errno and the step that failed, and leaves nothing
    /// behind.
    pub fn spawn(&self) -> Result<Child> {
        self.confinement.check()?;
        let user = self.confinement.user;
        let variables = self.environment.variables(user.is_some())?;
        let Some(program) = self.argv.first() else {
            return Err(Error::new(ErrorKind::Argument, "there is no program to run"));
        };
        let programs = candidates(program, variables.path())?;
        let argv = self.argv.iter().map(|arg| c_string(arg)).collect::<Result<_>>()?;
        let stdio = [self.stdin, self.stdout, self.stderr];
        let copies = [raised(self.stdin)?, raised(self.stdout)?, raised(self.stderr)?];
        let number = |i: usize| copies[i].as_ref().map_or(stdio[i], AsFd::as_fd).as_raw_fd();
        let shares_memory = user.is_none() && MEMORY_IS_SHARED.load(Ordering::Relaxed);
        let report = if shares_memory { None } else { Some(pipe_with_flags(PipeFlags::NONBLOCK)?) };
        let plan = Plan {
            programs,
            argv: Pointers::new(argv),
            environment: Pointers::new(variables.into_strings()?),
            directory: self.directory.map(Target::new).transpose()?,
            stdio: [number(0), number(1), number(2)],
            on_terminal: self.on_terminal,
            confinement: self.confinement,
            report: report.as_ref().map(|(_, writer)| writer.as_raw_fd()),
            parent: self.die_with_parent.then(std::process::id),
            memory_is_shared: AtomicBool::new(false),
            failure: AtomicI32::new(0),
        };
        let child = plan.start()?;

        // The child has the program or has failed, and has said so.
        let failure = if plan.memory_is_shared.load(Ordering::Relaxed) {
            MEMORY_IS_SHARED.store(true, Ordering::Relaxed);
            plan.failure.load(Ordering::Relaxed)
        } else {
            match report {
                None => 0,
                Some((reader, writer)) => {
                    drop(writer);
                    read_report(&reader, user.is_some())?
                }
            }
        };
        if failure == 0 { Ok(child) } else { Err(Failure::decode(failure).into()) }
    }
}

/// What a child that got a copy of the memory says of its failure, 0 if there was none.
fn read_report(report: &OwnedFd, is_other_user: bool) -> Result<c_int> {
    // An emulator that turns the call into a plain fork (valgrind, qemu-user) does not wait
    // for the child. Where memory is never shared it is not known whether there is one, and
    // the end of the pipe does not tell: a process that the host forks at the wrong moment
    // holds it open for as long as it likes.
    let deadline = if is_other_user { Deadline::after(SOON) } else { Deadline::NEVER };
    match wait::wait(report.as_fd(), PollFlags::IN, deadline, None) {
        Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
        _ => {}
    }
    let mut failure = [0; size_of::<c_int>()];
    match rustix::io::retry_on_intr(|| rustix::io::read(report, &mut failure)) {
        Ok(length) if length == failure.len() => Ok(c_int::from_ne_bytes(failure)),
        Ok(_) | Err(Errno::AGAIN) => Ok(0),
        Err(errno) => Err(spawn_error("read", errno)),
    }
}

/// A pipe whose ends are above the standard descriptors, so that a host that has closed
/// one of those does not write into it by accident.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with_flags(PipeFlags::empty())
}

/// A system call that failed on the way to a running command.
pub(crate) fn spawn_error(what: &str, errno: Errno) -> Error {
    Error::system_as(ErrorKind::Spawn, what, errno)
}

/// All that the child needs, ready to use.
struct Plan {
    /// To be tried in this order.
    programs: Vec<CString>,
    argv: Pointers,
    environment: Pointers,
    directory: Option<Target>,
    /// All of them 3 or higher: none is overwritten before it is used.
    stdio: [c_int; 3],
    on_terminal: bool,
    confinement: Confinement,
    /// Where a failure goes if memory may turn out not to be shared.
    report: Option<c_int>,
    /// The process to die with.
    parent: Option<u32>,
    /// Set by the child, and seen by the host only where memory is shared.
    memory_is_shared: AtomicBool,
    /// As the child has encoded it.
    failure: AtomicI32,
}

impl Plan {
    /// Returns once the child has become the program or has failed.
    fn start(&self) -> Result<Child> {
        let stack = Stack::new()?;
        let mut pidfd: c_int = -1;
        let memory = if self.confinement.user.is_none() { libc::CLONE_VM } else { 0 };
        let signals = BlockedSignals::new();
        // SAFETY: `child` gets the plan it expects and a stack of its own. `self`,
        // `stack` and `pidfd` outlive its use of them, as the parent goes on only after
        // execve(2) or _exit(2); where that does not hold, memory is not shared either.
        let pid = unsafe {
            libc::clone(
                child,
                stack.top(),
                memory | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
                ptr::from_ref(self).cast_mut().cast(),
                &raw mut pidfd,
            )
        };
        let pid = Pid::from_raw(pid.max(0)).ok_or_else(last_errno);
        drop(signals);
        let pid = pid.map_err(|errno| spawn_error("clone", errno))?;
        // Kernels before 5.2 do not know the flag, and ignore it.
        let pidfd = if pidfd < 0 {
            pidfd_open(pid, PidfdFlags::empty()).ok()
        } else {
            // SAFETY: the kernel has just opened it for us.
            Some(unsafe { OwnedFd::from_raw_fd(pidfd) })
        };
        Ok(Child::new(pid, pidfd, self.on_terminal))
    }
}

/// The child's way: on the parent's memory, and never back.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `Plan::start` passes a plan that outlives this function.
    let plan = unsafe { &*plan.cast::<Plan>() };
    plan.memory_is_shared.store(true, Ordering::Relaxed);
    let Err(failure) = become_program(plan);
    let failure = failure.encode();
    plan.failure.store(failure, Ordering::Relaxed);
    let report = failure.to_ne_bytes();
    // SAFETY: `report` is valid for its length. write(2) is called without the C
    // library's wrapper, which is a cancellation point of the thread we share memory with.
    unsafe {
        if let Some(fd) = plan.report {
            libc::syscall(libc::SYS_write, fd, report.as_ptr(), report.len());
        }
        libc::_exit(127)
    }
}

/// Only async-signal-safe calls, no allocation, nothing that can panic.
fn become_program(plan: &Plan) -> std::result::Result<Infallible, Failure> {
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
        confine(&plan.confinement)?;
        // From here on it is the user's doing.
        if let Some(parent) = plan.parent {
            Step::DieWithParent.check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // It may have died before; 0 is a parent outside our PID namespace.
            let now = libc::getppid().cast_unsigned();
            if now != parent && now != 0 {
                libc::_exit(127);
            }
        }
        match &plan.directory {
            Some(Target::Path(path)) => Step::Directory.check(libc::chdir(path.as_ptr()))?,
            Some(Target::Fd(fd)) => Step::Directory.check(libc::fchdir(*fd))?,
            None => {}
        }
        set_signal_mask(0);
        let mut verdict = libc::ENOENT;
        for program in &plan.programs {
            libc::execve(program.as_ptr(), plan.argv.as_ptr(), plan.environment.as_ptr());
            match errno() {
                // As execvp(3): a program that may not be run is worth reporting, one
                // that is not there is not, and neither ends the search.
                libc::EACCES => verdict = libc::EACCES,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                other => return Err(Failure { step: Step::Program as c_int, errno: other }),
            }
        }
        Err(Failure { step: Step::Program as c_int, errno: verdict })
    }
}

/// Gives up the controlling terminal, which only this process does. To leave the session as
/// well would make the group an orphan, which cannot be stopped by SIGTSTP.
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
fn confine(confinement: &Confinement) -> std::result::Result<(), Failure> {
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
        Step::Groups.done(set_thread_groups(&[]))?;
        Step::GroupId.done(set_thread_res_gid(group, group, group))?;
        Step::UserId.done(set_thread_res_uid(user, user, user))?;
    }
    if let Some(umask) = umask {
        // SAFETY: no pointers.
        unsafe { libc::umask(umask) };
    }
    Ok(())
}

/// Default actions for all signals: execve(2) itself would leave the ignored ones so,
/// and until then a handler would run on the host's memory.
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

/// The same by way of /proc/self/fd.
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

/// The number a NUL-terminated name consists of.
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
fn set_signal_mask(mask: u64) -> u64 {
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

/// What the child was about when it failed.
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
struct Failure {
    step: c_int,
    errno: c_int,
}

impl Failure {
    /// Never 0.
    fn encode(&self) -> c_int {
        (self.step << 16) | self.errno
    }

    fn decode(report: c_int) -> Failure {
        Failure { step: report >> 16, errno: report & 0xffff }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let step = usize::try_from(failure.step).ok().and_then(|step| Step::NAMES.get(step));
        spawn_error(step.unwrap_or(&"child"), Errno::from_raw_os_error(failure.errno))
    }
}

/// A NULL-terminated array of strings, as execve(2) takes it.
struct Pointers {
    pointers: Vec<*const c_char>,
    /// What they point to.
    _strings: Vec<CString>,
}

impl Pointers {
    fn new(strings: Vec<CString>) -> Pointers {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Pointers { pointers, _strings: strings }
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// A [`Directory`] as the child needs it.
enum Target {
    Path(CString),
    Fd(c_int),
}

impl Target {
    fn new(directory: Directory<'_>) -> Result<Target> {
        Ok(match directory {
            Directory::Path(path) => Target::Path(c_string(path.as_os_str().as_bytes())?),
            Directory::Fd(fd) => Target::Fd(fd.as_raw_fd()),
        })
    }
}

/// The child's stack, with a guard below that it cannot cross.
struct Stack(*mut c_void);

impl Stack {
    const SIZE: usize = 64 * 1024;
    /// A multiple of any page size.
    const GUARD: usize = 64 * 1024;

    fn new() -> Result<Stack> {
        let spare = SPARE_STACK.swap(ptr::null_mut(), Ordering::Acquire);
        if spare.is_null() { Stack::map() } else { Ok(Stack(spare)) }
    }

    fn map() -> Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let size = Stack::GUARD + Stack::SIZE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(spawn_error("mmap", last_errno()));
        }
        let stack = Stack(base);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the part of the mapping above its guard.
        if unsafe { libc::mprotect(base.add(Stack::GUARD), Stack::SIZE, access) } != 0 {
            return Err(spawn_error("mprotect", last_errno()));
        }
        Ok(stack)
    }

    /// Stacks grow down on every architecture that Linux and Rust share.
    fn top(&self) -> *mut c_void {
        // SAFETY: the end of the mapping.
        unsafe { self.0.add(Stack::GUARD + Stack::SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let none = ptr::null_mut();
        let kept = SPARE_STACK.compare_exchange(none, self.0, Ordering::Release, Ordering::Relaxed);
        if kept.is_err() {
            // SAFETY: the mapping that `map` made; the child no longer runs on it.
            unsafe { libc::munmap(self.0, Stack::GUARD + Stack::SIZE) };
        }
    }
}

/// All signals blocked in the calling thread, until dropped.
struct BlockedSignals(u64);

impl BlockedSignals {
    fn new() -> BlockedSignals {
        BlockedSignals(set_signal_mask(u64::MAX))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        set_signal_mask(self.0);
    }
}

fn pipe_with_flags(flags: PipeFlags) -> Result<(OwnedFd, OwnedFd)> {
    let ends = pipe_with(PipeFlags::CLOEXEC | flags);
    let (reader, writer) = ends.map_err(|errno| spawn_error("pipe", errno))?;
    Ok((above_standard(reader)?, above_standard(writer)?))
}

/// `fd`, or a copy in its place if its number is one of the standard three.
pub(super) fn above_standard(fd: OwnedFd) -> Result<OwnedFd> {
    raised(fd.as_fd()).map(|copy| copy.unwrap_or(fd))
}

/// A copy of one of the standard descriptors, above them; `None` for any other.
fn raised(fd: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    if fd.as_raw_fd() > 2 {
        return Ok(None);
    }
    fcntl_dupfd_cloexec(fd, 3).map(Some).map_err(|errno| spawn_error("dup", errno))
}

/// The files to try for `program`, see execvp(3).
fn candidates(program: &[u8], path: &OsStr) -> Result<Vec<CString>> {
    if program.is_empty() || program.contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let directories = path.as_bytes().split(|byte| *byte == b':');
    directories
        .map(|directory| match directory {
            // The current directory.
            [] => c_string(program),
            _ => c_string(&[directory, b"/", program].concat()),
        })
        .collect()
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes)
        .map_err(|_| Error::new(ErrorKind::Argument, "a NUL byte in an argument or a path"))
}

/// A [`Stack`] that no child runs on, or NULL: to map one takes a hundredth of what a command
/// costs, and to keep one a page or two.
static SPARE_STACK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Whether a child was seen to share this process' memory, so that no emulator turns the
/// call into a plain fork: from then on a failure is told without a pipe.
static MEMORY_IS_SHARED: AtomicBool = AtomicBool::new(false);
/// What an emulator may take to run the child's few system calls.
const SOON: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use rustix::event::PollFd;

    use super::*;
    use crate::io::process::child::Status;
    use crate::io::process::environment::Base;

    /// Starts `argv` with `path` to look for it, and returns what it writes to `stdout`.
    fn output(argv: &[&[u8]], path: &str, directory: Option<Directory<'_>>) -> Result<String> {
        let (mut reader, writer) = pipe().map(|(reader, writer)| (File::from(reader), writer))?;
        let null = File::open("/dev/null").unwrap();
        let additions = vec![(b"PATH".to_vec(), path.into())];
        let environment = Environment { base: Base::Clean, additions };
        let process = Process {
            argv,
            environment: &environment,
            directory,
            stdin: null.as_fd(),
            stdout: writer.as_fd(),
            stderr: null.as_fd(),
            confinement: Confinement::default(),
            on_terminal: false,
            die_with_parent: false,
        };
        let child = process.spawn()?;
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait(), Status::Exited(0));
        Ok(text)
    }

    fn script(path: &Path, text: &str, mode: u32) {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn spawn_errno(result: &Result<String>) -> i32 {
        let error = result.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
        assert!(error.detail().starts_with("execve: "), "{error}");
        error.errno()
    }

    #[test]
    fn a_program_is_looked_for_as_execvp_does() {
        let root = tempfile::tempdir().unwrap();
        let directory = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (locked, open, other) = (directory("locked"), directory("open"), directory("other"));
        script(&locked.join("prog"), "echo locked", 0o644);
        script(&open.join("prog"), "echo open", 0o755);
        script(&other.join("prog"), "echo other", 0o755);
        script(&other.join("broken"), "", 0o755);
        fs::write(other.join("broken"), "no program").unwrap();
        let path = |parts: &[&str]| parts.join(":");
        let [locked, open, other] = [&locked, &open, &other].map(|path| path.to_str().unwrap());

        let found = |path: &str| output(&[b"prog"], path, None);
        assert_eq!(found(&path(&["/none", locked, open, other])).unwrap(), "open\n");
        assert_eq!(found(&path(&[other, open])).unwrap(), "other\n");
        assert_eq!(spawn_errno(&found(&path(&[locked, "/none"]))), libc::EACCES);
        assert_eq!(spawn_errno(&found(&path(&["/none", "/dev/null"]))), libc::ENOENT);
        assert_eq!(spawn_errno(&output(&[b"broken"], other, None)), libc::ENOEXEC);

        // An empty part and a name with a slash are relative to where the program starts.
        let there = Some(Directory::Path(Path::new(open)));
        assert_eq!(output(&[b"prog"], "/none:", there).unwrap(), "open\n");
        assert_eq!(output(&[b"./prog"], "", there).unwrap(), "open\n");
        assert_eq!(spawn_errno(&output(&[b"./prog"], open, None)), libc::ENOENT);
    }

    #[test]
    fn a_directory_is_a_path_or_a_descriptor() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        let expected = format!("{}\n", real.display());
        let open = File::open(&real).unwrap();
        for directory in [Directory::Path(&real), Directory::Fd(open.as_fd())] {
            assert_eq!(output(&[b"/bin/pwd"], "", Some(directory)).unwrap(), expected);
        }

        let null = File::open("/dev/null").unwrap();
        for (directory, errno) in [
            (Directory::Path(&real.join("none")), libc::ENOENT),
            (Directory::Path(Path::new("/dev/null")), libc::ENOTDIR),
            (Directory::Fd(null.as_fd()), libc::ENOTDIR),
        ] {
            let error = output(&[b"/bin/pwd"], "", Some(directory)).unwrap_err();
            assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, errno));
            assert!(error.detail().starts_with("working directory: "), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_a_program_is_refused() {
        for argv in [vec![], vec![b"/bin/true\0".as_slice()], vec![b"/bin/true", b"\0"]] {
            let error = output(&argv, "", None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{argv:?}");
        }
        let directory = Directory::Path(Path::new("/\0"));
        let error = output(&[b"/bin/true"], "", Some(directory)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
    }

    #[test]
    fn it_dies_with_the_thread_that_started_it_if_asked_to() {
        let start = |die_with_parent, user| {
            std::thread::spawn(move || {
                let null = File::options().read(true).write(true).open("/dev/null").unwrap();
                let process = Process {
                    argv: &[b"/bin/sleep", b"1000"],
                    environment: &Environment::default(),
                    directory: None,
                    stdin: null.as_fd(),
                    stdout: null.as_fd(),
                    stderr: null.as_fd(),
                    confinement: Confinement { user, ..Confinement::default() },
                    on_terminal: false,
                    die_with_parent,
                };
                process.spawn().unwrap()
            })
        };
        let survivor = start(false, None).join().unwrap();
        // The kernel forgets the wish when the user changes.
        let another = rustix::process::geteuid().is_root().then_some((65534, 65534));
        for user in [None, another] {
            let orphan = start(true, user).join().unwrap();
            let mut end = [PollFd::from_borrowed_fd(orphan.wait_fd().unwrap(), PollFlags::IN)];
            assert_eq!(wait::poll(&mut end, Deadline::after(Duration::from_secs(10)), None), Ok(1));
            assert_eq!(orphan.wait(), Status::Signaled(libc::SIGKILL));
        }
        assert!(!survivor.has_ended());
    }

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
