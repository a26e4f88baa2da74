//! Helpers for tests of system calls: files, processes of their own, and calls that fail.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use tempfile::TempDir;

use crate::error::Result;
use crate::io::fs::root::Root;
use crate::io::fs::store::{NewFile, StoreOptions};
use crate::wire::name::Name;

/// The number of random cases of a property: `usual`, unless PROPTEST_CASES is set.
pub fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").map_or(usual, |cases| cases.parse().unwrap())
}

/// Both ends of a TCP connection, and something in the error queue of the first: the time of a
/// transmission, as a host asks for it (SO_TIMESTAMPING).
pub fn with_an_error_queue() -> (OwnedFd, OwnedFd) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_TX_SOFTWARE
        | libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    let option = (&raw const flags).cast();
    let (level, name) = (libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
    // SAFETY: the kernel reads four bytes of it.
    assert_eq!(unsafe { libc::setsockopt(ours.as_raw_fd(), level, name, option, 4) }, 0);
    std::io::Write::write_all(&mut ours, b"x").unwrap();
    std::io::Read::read_exact(&mut theirs, &mut [0]).unwrap();
    (ours.into(), theirs.into())
}

/// `outside/file` and, beside it, `root` with a file `old` and a directory `dir`.
pub struct Tree {
    pub dir: TempDir,
    pub root: fs::File,
}

impl Tree {
    pub fn new() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        for name in ["outside", "root", "root/dir"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside/file"), "outside").unwrap();
        fs::write(dir.path().join("root/old"), "old").unwrap();
        let root = fs::File::open(dir.path().join("root")).unwrap();
        Tree { dir, root }
    }

    pub fn root(&self) -> Root<'_> {
        Root::new(self.root.as_fd()).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    pub fn create(&self, name: &str, options: StoreOptions) -> Result<NewFile> {
        NewFile::create(self.root(), Name::new(name.as_bytes()).unwrap(), options)
    }

    pub fn store(&self, name: &str, bytes: &[u8], options: StoreOptions) -> Result<()> {
        let mut file = self.create(name, options)?;
        file.write(bytes)?;
        file.commit()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Checks that nothing in the root was added or changed.
    pub fn assert_untouched(&self) {
        let found = (self.names(""), self.read("old"));
        assert_eq!(found, (vec!["dir".into(), "old".into()], "old".into()));
    }

    /// The names in `dir`, sorted.
    pub fn names(&self, dir: &str) -> Vec<String> {
        names(&self.path(dir))
    }
}

pub fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs `body` in a process of its own: this test binary with only the calling test, `name`.
/// `wrapper` is a command that runs it.
pub fn alone(name: &str, wrapper: &[&str], body: impl FnOnce()) {
    const CHILD: &str = "FRAMEFD_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
    };
    // With one test thread the test runs on the main thread: there is no other that a signal
    // could be delivered to.
    let output = command.args(["--exact", "--test-threads=1", name]).env(CHILD, "1").output();
    let output = output.unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
}

/// Runs `body` on a thread of its own, in which each system call in `calls` fails with its
/// errno: seccomp(2).
pub fn failing<T: Send>(calls: &[(libc::c_long, Errno)], body: impl FnOnce() -> T + Send) -> T {
    on_thread(|| {
        fail(calls);
        body()
    })
}

/// Runs `body` with openat2(2), without it, and with a sandbox that forbids it.
pub fn with_each_resolver(body: impl Fn() + Sync) {
    body();
    for errno in [Errno::NOSYS, Errno::PERM] {
        failing(&[(libc::SYS_openat2, errno)], || {
            let (mode, resolve) = (Mode::empty(), ResolveFlags::empty());
            let opened = rustix::fs::openat2(CWD, "/", OFlags::CLOEXEC, mode, resolve);
            assert_eq!(opened.unwrap_err(), errno);
            body();
        });
    }
}

/// Runs `body` on a thread of its own; if the user is root, with the rights of nobody.
pub fn unprivileged<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    on_thread(|| {
        if rustix::process::geteuid().is_root() {
            let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        }
        body()
    })
}

/// Runs `body` while a thread exchanges two names in `dir`, as fast as it can.
pub fn while_swapping(dir: BorrowedFd<'_>, names: [&str; 2], body: impl FnOnce()) {
    let running = Arc::new(());
    let watch = Arc::downgrade(&running);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while watch.strong_count() > 0 {
                let [one, other] = names;
                rustix::fs::renameat_with(dir, one, dir, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        body();
        drop(running); // as a panic does
    });
}

fn on_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope.spawn(body).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// From now on each of these calls fails in this thread, and in those that it starts.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "all are small")]
pub fn fail(calls: &[(libc::c_long, Errno)]) {
    let step = |code: u32, skip, k| libc::sock_filter { code: code as u16, jt: 0, jf: skip, k };
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (number, errno) in calls {
        let errno = errno.raw_os_error() as u32;
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, *number as u32));
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter outlives the call and reads only the number of a system call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter), 0);
    }
}
