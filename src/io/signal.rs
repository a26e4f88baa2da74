//! Keeps the signal that a failing write raises (SIGPIPE, SIGXFSZ) from the host.

use std::mem::MaybeUninit;
use std::ptr;

/// Runs `call` with SIGPIPE and SIGXFSZ blocked in this thread, and removes the one that `call`
/// raised, so that the host is not killed and no handler of it runs. The kernel sends these
/// signals to the thread during a system call: write(2) to a pipe without readers, and beyond
/// `RLIMIT_FSIZE` (setrlimit(2)).
///
/// The signal is removed whatever `call` returns: a write that stops after its first bytes also
/// raises the signal, and returns their number. Nothing else changes: the mask, a signal that
/// was pending before, and one from another process, which is delivered afterwards.
pub fn with_blocked<T>(call: impl FnOnce() -> T) -> T {
    let _blocked = Blocked::new();
    call()
}

/// Runs `call` with every signal blocked in this thread. A thread that `call` starts begins so, and
/// the host's handlers never run in it.
pub fn with_all_blocked<T>(call: impl FnOnce() -> T) -> T {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            mask(libc::SIG_SETMASK, &self.0);
        }
    }
    let mut all = MaybeUninit::zeroed();
    // SAFETY: the pointer is valid, and the call fills the set.
    let all = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    };
    let _restore = Restore(mask(libc::SIG_SETMASK, &all));
    call()
}

const SIGNALS: [libc::c_int; 2] = [libc::SIGPIPE, libc::SIGXFSZ];

/// The signals blocked in this thread until this is dropped.
struct Blocked {
    /// Those that were not blocked before.
    newly_blocked: libc::sigset_t,
    /// Those that were not pending before.
    newly_pending: libc::sigset_t,
}

impl Blocked {
    fn new() -> Blocked {
        let before = mask(libc::SIG_BLOCK, &set_of(|_| true));
        let was_blocked = |signal| contains(&before, signal);
        // One that was not blocked would have been delivered and not be pending.
        let any_blocked = SIGNALS.into_iter().any(was_blocked);
        let pending = if any_blocked { pending() } else { set_of(|_| false) };
        Blocked {
            newly_blocked: set_of(|signal| !was_blocked(signal)),
            newly_pending: set_of(|signal| !(was_blocked(signal) && contains(&pending, signal))),
        }
    }

    /// Takes a signal off the thread if this thread raised it. Linux takes what is
    /// pending for the thread before what is pending for the process.
    fn take_back(&self) {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the three pointers are valid for the call.
        let signal = unsafe {
            libc::sigtimedwait(&raw const self.newly_pending, info.as_mut_ptr(), &raw const now)
        };
        if signal < 0 {
            return; // EAGAIN: none was raised
        }
        // SAFETY: zeroed is a valid siginfo_t, and the call has filled it in.
        let info = unsafe { info.assume_init() };
        // SAFETY: si_pid is set for every si_code that names a sender.
        let sender = unsafe { info.si_pid() };
        let raised_here = info.si_code == libc::SI_USER
            && sender == rustix::process::getpid().as_raw_nonzero().get();
        if !raised_here {
            // Returned to the process as if it had just arrived. Only a thread's own number is
            // accepted here; the signal still goes to the process.
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            // SAFETY: `info` is a valid siginfo_t that the kernel has made.
            unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, thread, signal, &raw const info) };
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.take_back();
        mask(libc::SIG_UNBLOCK, &self.newly_blocked);
    }
}

/// Changes this thread's mask; returns what it was.
fn mask(how: libc::c_int, set: &libc::sigset_t) -> libc::sigset_t {
    let mut old = MaybeUninit::zeroed();
    // SAFETY: both pointers are valid; a zeroed sigset_t is one, should the call fail,
    // which it does only for a `how` that does not exist.
    unsafe {
        libc::pthread_sigmask(how, ptr::from_ref(set), old.as_mut_ptr());
        old.assume_init()
    }
}

/// The blocked signals that are pending for this thread or the process.
fn pending() -> libc::sigset_t {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: the pointer is valid; a zeroed sigset_t is one.
    unsafe {
        libc::sigpending(set.as_mut_ptr());
        set.assume_init()
    }
}

/// The set of those signals that `include` selects.
fn set_of(include: impl Fn(libc::c_int) -> bool) -> libc::sigset_t {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: sigemptyset makes the set that sigaddset adds to.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in SIGNALS.into_iter().filter(|signal| include(*signal)) {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

fn contains(set: &libc::sigset_t, signal: libc::c_int) -> bool {
    // SAFETY: the pointer is valid.
    unsafe { libc::sigismember(ptr::from_ref(set), signal) == 1 }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use rustix::io::Errno;
    use rustix::process::Signal;

    use super::*;
    use crate::io::testing;

    /// A pipe that nobody reads.
    fn broken_pipe() -> OwnedFd {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap().1
    }

    fn write_to_broken_pipe() {
        assert_eq!(rustix::io::write(broken_pipe(), b"x"), Err(Errno::PIPE));
    }

    fn raise(signal: Signal) {
        // SAFETY: a plain call.
        assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
    }

    fn current_mask() -> Vec<bool> {
        let mask = mask(libc::SIG_BLOCK, &set_of(|_| false));
        (1..=libc::SIGRTMAX()).map(|signal| contains(&mask, signal)).collect()
    }

    fn is_pending(signal: Signal) -> bool {
        contains(&pending(), signal.as_raw())
    }

    static HANDLED: AtomicU32 = AtomicU32::new(0);

    extern "C" fn count(_signal: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }

    /// Changes the whole process: for tests that run alone.
    fn dispose(signal: Signal, how: libc::sighandler_t) {
        // SAFETY: `how` is SIG_DFL or a handler that only adds to an atomic.
        unsafe { libc::signal(signal.as_raw(), how) };
    }

    #[test]
    fn a_broken_pipe_ends_nobody() {
        testing::alone("io::signal::tests::a_broken_pipe_ends_nobody", &[], || {
            dispose(Signal::PIPE, libc::SIG_DFL);
            with_blocked(write_to_broken_pipe);
        });
    }

    #[test]
    fn a_write_that_is_cut_short_ends_nobody() {
        testing::alone("io::signal::tests::a_write_that_is_cut_short_ends_nobody", &[], || {
            dispose(Signal::PIPE, libc::SIG_DFL);
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
            let reading = std::thread::spawn(move || {
                // Once a byte can be read the writer is inside its call.
                rustix::io::read(&reader, &mut [0; 1]).unwrap();
            });
            let bytes = vec![0; 4 * size];
            let written = with_blocked(|| rustix::io::write(&writer, &bytes));
            assert!(written.unwrap() < bytes.len());
            reading.join().unwrap();
        });
    }

    #[test]
    fn a_handler_is_not_run() {
        testing::alone("io::signal::tests::a_handler_is_not_run", &[], || {
            dispose(Signal::PIPE, count as *const () as libc::sighandler_t);
            with_blocked(write_to_broken_pipe);
            assert_eq!(HANDLED.load(Ordering::SeqCst), 0);
            write_to_broken_pipe();
            assert_eq!(HANDLED.load(Ordering::SeqCst), 1, "without it, it is run");
        });
    }

    /// As sigqueue(3) does, but to this thread: none other may handle it meanwhile.
    fn queue(signal: Signal) {
        let process = rustix::process::getpid().as_raw_nonzero().get();
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        // SAFETY: a zeroed siginfo_t is one, and the pointer is valid.
        let sent = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            info.si_code = libc::SI_QUEUE;
            let number = libc::SYS_rt_tgsigqueueinfo;
            libc::syscall(number, process, thread, signal.as_raw(), &raw const info)
        };
        assert_eq!(sent, 0);
    }

    #[test]
    fn a_signal_from_elsewhere_is_delivered_afterwards() {
        let name = "io::signal::tests::a_signal_from_elsewhere_is_delivered_afterwards";
        testing::alone(name, &[], || {
            dispose(Signal::PIPE, count as *const () as libc::sighandler_t);
            with_blocked(|| {
                queue(Signal::PIPE);
                assert_eq!(HANDLED.load(Ordering::SeqCst), 0);
            });
            // Any thread of the process may be the one that handles it.
            let start = Instant::now();
            while HANDLED.load(Ordering::SeqCst) == 0 && start.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
            assert_eq!(HANDLED.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn the_mask_is_the_same_afterwards() {
        for blocked in [false, true] {
            if blocked {
                mask(libc::SIG_BLOCK, &set_of(|signal| signal == libc::SIGPIPE));
            }
            let before = current_mask();
            let inside = with_blocked(|| {
                write_to_broken_pipe();
                current_mask()
            });
            assert!(inside[libc::SIGPIPE as usize - 1]);
            assert_eq!(current_mask(), before);
            assert!(!is_pending(Signal::PIPE), "blocked before: {blocked}");
        }
    }

    #[test]
    fn the_mask_is_the_same_after_a_panic() {
        let before = current_mask();
        let panicked = std::panic::catch_unwind(|| with_blocked(|| panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(current_mask(), before);
    }

    #[test]
    fn a_pending_signal_stays_pending() {
        mask(libc::SIG_BLOCK, &set_of(|signal| signal == libc::SIGPIPE));
        raise(Signal::PIPE);
        with_blocked(write_to_broken_pipe);
        assert!(is_pending(Signal::PIPE));
    }
}
