//! Starts one process like `posix_spawn`: the host's memory is neither copied nor changed.
//!
//! The child shares the host's memory, and the calling thread waits until the child has run
//! execve(2) (`CLONE_VM | CLONE_VFORK`). So the cost does not grow with the host's memory. In
//! return the child must not allocate, panic, use a lock or pass a cancellation point:
//! everything it needs is prepared before. It runs on a stack of its own with all signals
//! blocked, because otherwise a handler of the host could run in it. Its code is in
//! `child_side.rs`.
//!
//! A child that becomes another user gets a copy of the memory instead, under the same rules:
//! that user's processes may read the child's memory, and the kernel forbids core dumps of a
//! memory whose user changes.

use std::ffi::{CString, c_int, c_void};
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
use rustix::process::{Gid, Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::last_errno;
use crate::io::process::child::{Child, reap_left_alone};
use crate::io::process::child_side::{
    self, Failure, FailureChannel, Plan, Pointers, SEEN, UNSEEN, set_signal_mask,
};
pub use crate::io::process::confinement::Confinement;
use crate::io::process::environment::Environment;
use crate::io::process::ours::Starting;
use crate::io::wait;
use crate::wire::strings;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// clone(2) by glibc's other name for it: clang's ThreadSanitizer takes every `clone` for a
    /// fork(2), and its own state breaks in a child that shares the memory.
    #[link_name = "__clone"]
    fn clone(
        child: extern "C" fn(*mut c_void) -> c_int,
        stack: *mut c_void,
        flags: c_int,
        argument: *mut c_void,
        ...
    ) -> c_int;
}
#[cfg(not(target_env = "gnu"))]
use libc::clone;

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
    /// Its working directory; by default the host's.
    pub directory: Option<&'a Path>,
    /// Its descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Its descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// Its descriptor 2.
    pub stderr: BorrowedFd<'a>,
    /// Its limits.
    pub confinement: Confinement,
    /// The supplementary groups of another user.
    pub groups: &'a [u32],
    /// Whether it leads a new session, whose controlling terminal is `stdin`.
    pub on_terminal: bool,
    /// Whether it gets SIGKILL when the calling *thread* ends (`PR_SET_PDEATHSIG`): only for a
    /// thread that waits for the process. It does not affect the process's own children or a
    /// set-user-ID program.
    pub die_with_parent: bool,
}

impl Process<'_> {
    /// Starts it. An empty `argv`, a NUL byte, a malformed variable and a user or group of
    /// the number `u32::MAX`, which is none, are [`ErrorKind::Argument`]; everything else is
    /// [`ErrorKind::Spawn`], or [`ErrorKind::NoMemory`], with the errno and the step that failed,
    /// and leaves nothing behind.
    pub fn spawn(&self) -> Result<Child> {
        reap_left_alone();
        self.confinement.check(self.groups)?;
        let user = self.confinement.user;
        let mut variables = self.environment.variables(user.is_some())?;
        if self.on_terminal {
            variables.add_terminal();
        }
        let Some(program) = self.argv.first() else {
            return Err(Error::new(ErrorKind::Argument, "there is no program to run"));
        };
        // As execvp(3).
        let searches = !program.is_empty() && !program.contains(&b'/');
        let path = searches.then(|| variables.path().as_bytes());
        let program = c_string(program)?;
        let mut argv = Vec::new();
        for argument in self.argv {
            strings::add(&mut argv, [argument, b"", b""])?;
        }
        let stdio = [self.stdin, self.stdout, self.stderr];
        let copies = [raised(self.stdin)?, raised(self.stdout)?, raised(self.stderr)?];
        let number = |i: usize| copies[i].as_ref().map_or(stdio[i], AsFd::as_fd).as_raw_fd();
        let shares_memory = user.is_none() && MEMORY_IS_SHARED.load(Ordering::Relaxed);
        let channel = if shares_memory {
            FailureChannel::SharedMemory
        } else {
            let (reader, writer) = pipe_with_flags(PipeFlags::NONBLOCK)?;
            FailureChannel::Pipe { reader, writer }
        };
        let plan = Plan {
            program,
            path,
            argv: Pointers::new(argv)?,
            environment: Pointers::new(variables.joined()?)?,
            directory: self
                .directory
                .map(|path| c_string(path.as_os_str().as_bytes()))
                .transpose()?,
            stdio: [number(0), number(1), number(2)],
            on_terminal: self.on_terminal,
            confinement: self.confinement,
            groups: self.groups.iter().map(|group| Gid::from_raw(*group)).collect(),
            parent: self.die_with_parent.then(std::process::id),
            channel,
            outcome: AtomicI32::new(UNSEEN),
        };
        let child = start(&plan)?;
        match failure_of(plan)? {
            None => Ok(child),
            Some(failure) => {
                let (step, errno) = failure.parts();
                Err(spawn_error(step, errno))
            }
        }
    }
}

/// Returns once the child has become the program or has failed.
fn start(plan: &Plan<'_>) -> Result<Child> {
    let stack = Stack::new()?;
    let mut pidfd: c_int = -1;
    let memory = if plan.confinement.user.is_none() { libc::CLONE_VM } else { 0 };
    let _starting = Starting::new();
    let signals = BlockedSignals::new();
    // SAFETY: `child` gets the plan it expects and a stack of its own. `plan`,
    // `stack` and `pidfd` outlive its use of them, as the parent goes on only after
    // execve(2) or _exit(2); if that does not hold, memory is not shared either.
    let pid = unsafe {
        clone(
            child_side::child,
            stack.top(),
            memory | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            ptr::from_ref(plan).cast_mut().cast(),
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
    // A host without a standard output must not write to it.
    let pidfd = pidfd.map(|pidfd| raised(pidfd.as_fd()).ok().flatten().unwrap_or(pidfd));
    Ok(Child::new(pid, pidfd, plan.on_terminal))
}

/// The failure of the child of `plan`, if any. By now it was reported.
fn failure_of(plan: Plan<'_>) -> Result<Option<Failure>> {
    let outcome = match (plan.outcome.load(Ordering::Relaxed), plan.channel) {
        (UNSEEN, FailureChannel::SharedMemory) => SEEN,
        (UNSEEN, FailureChannel::Pipe { reader, writer }) => {
            drop(writer);
            read_report(&reader, plan.confinement.user.is_some())?
        }
        (seen, _) => {
            MEMORY_IS_SHARED.store(true, Ordering::Relaxed);
            seen
        }
    };
    Ok((outcome != SEEN).then(|| Failure::decode(outcome)))
}

/// The failure that a child with a copy of the memory reports, [`SEEN`] if there was none.
fn read_report(report: &OwnedFd, is_other_user: bool) -> Result<c_int> {
    // An emulator that turns the call into a plain fork (valgrind, qemu-user) does not wait for
    // the child. If memory is never shared, an emulator cannot be detected, and the end of the
    // pipe is no proof: a process that the host forks at the same time may keep it open.
    let deadline = if is_other_user { Deadline::after(SOON) } else { Deadline::NEVER };
    match wait::wait(report.as_fd(), PollFlags::IN, deadline, None) {
        Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
        _ => {}
    }
    let mut failure = [0; size_of::<c_int>()];
    match rustix::io::retry_on_intr(|| rustix::io::read(report, &mut failure)) {
        Ok(length) if length == failure.len() => Ok(c_int::from_ne_bytes(failure)),
        Ok(_) | Err(Errno::AGAIN) => Ok(SEEN),
        Err(errno) => Err(spawn_error("read", errno)),
    }
}

/// A pipe whose ends are above the standard descriptors, so that a host that has closed one of
/// those cannot write to it by accident.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with_flags(PipeFlags::empty())
}

/// The error of a system call that failed before the command ran.
pub(crate) fn spawn_error(what: &str, errno: Errno) -> Error {
    let kind = if errno == Errno::NOMEM { ErrorKind::NoMemory } else { ErrorKind::Spawn };
    Error::system_as(kind, what, errno)
}

/// The child's stack, with a guard page below.
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

fn c_string(bytes: &[u8]) -> Result<CString> {
    let mut string = Vec::new();
    strings::add(&mut string, [bytes, b"", b""])?;
    let has_nul = |_| Error::new(ErrorKind::Argument, "a NUL byte");
    CString::from_vec_with_nul(string).map_err(has_nul)
}

/// A [`Stack`] that no child uses, or NULL. Mapping one takes a hundredth of the time of a
/// command; keeping one takes a page or two.
static SPARE_STACK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Whether a child was seen to share this process's memory, so that no emulator turns the call
/// into a plain fork. From then on a failure is reported without a pipe.
static MEMORY_IS_SHARED: AtomicBool = AtomicBool::new(false);
/// How long an emulator may take for the child's few system calls.
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

    /// Starts `argv`, searched in `path`, and returns its standard output.
    fn output(argv: &[&[u8]], path: &str, directory: Option<&Path>) -> Result<String> {
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
            groups: &[],
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
        let there = Some(Path::new(open));
        assert_eq!(output(&[b"prog"], "/none:", there).unwrap(), "open\n");
        assert_eq!(output(&[b"./prog"], "", there).unwrap(), "open\n");
        assert_eq!(spawn_errno(&output(&[b"./prog"], open, None)), libc::ENOENT);
    }

    #[test]
    fn it_starts_in_its_directory_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        assert_eq!(
            output(&[b"/bin/pwd"], "", Some(&real)).unwrap(),
            format!("{}\n", real.display())
        );
        for (directory, errno) in
            [(&*real.join("none"), libc::ENOENT), (Path::new("/dev/null"), libc::ENOTDIR)]
        {
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
        let directory = Path::new("/\0");
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
                    groups: &[],
                    on_terminal: false,
                    die_with_parent,
                };
                process.spawn().unwrap()
            })
        };
        let survivor = start(false, None).join().unwrap();
        // The kernel clears PR_SET_PDEATHSIG when the user changes.
        let another = rustix::process::geteuid().is_root().then_some((65534, 65534));
        for user in [None, another] {
            let orphan = start(true, user).join().unwrap();
            let mut end = [PollFd::from_borrowed_fd(orphan.wait_fd().unwrap(), PollFlags::IN)];
            assert_eq!(wait::poll(&mut end, Deadline::after(Duration::from_secs(10)), None), Ok(1));
            assert_eq!(orphan.wait(), Status::Signaled(libc::SIGKILL));
        }
        assert!(!survivor.has_ended());
    }
}
