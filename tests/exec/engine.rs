//! Commands that misbehave, and hosts with habits of their own.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command as Host;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::pattern;
use crate::common::process::alone_in;
use crate::common::run::{Cue, Talk, run, silent};
use framefd::error::ErrorKind;
use framefd::io::deadline::Deadline;
use framefd::io::process::child::Status;
use framefd::io::process::environment::{Base, DEFAULT_PATH};
use framefd::io::process::terminal::WindowSize;
use framefd::ops::exec::{Captured, Command, Flow, Limits, OnOutputLimit, Stdio};

/// Far more than any of these commands takes, and far less than the `sleep`s in them.
const LONG: Duration = Duration::from_secs(20);

fn sh_with(text: &str, limits: &Limits) -> Captured {
    run(&Command::shell(text.as_bytes()), limits).unwrap()
}

fn sh(text: &str) -> Captured {
    sh_with(text, &Limits::default())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs the test of this name again, alone in a process of its own, whose signals,
/// descriptors and children `body` may do with as it likes.
fn alone(name: &str, body: fn()) {
    const MARK: &str = "FRAMEFD_TEST_ALONE";
    const DONE: &str = "the body has run";
    if std::env::var_os(MARK).is_some() {
        body();
        println!("{DONE}");
        return;
    }
    let test = Host::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let (stdout, stderr) = (text(&test.stdout), text(&test.stderr));
    assert!(test.status.success() && stdout.contains(DONE), "{}\n{stdout}{stderr}", test.status);
}

fn open_descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let mut links: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).ok()?;
            Some(format!("{} {}", entry.file_name().display(), target.display()))
        })
        .collect();
    links.sort();
    links
}

fn has_no_children() -> bool {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) == -1 }
}

/// Makes a system call fail with `errno` from now on, in this thread.
fn refuse(call: libc::c_long, errno: libc::c_int) {
    refuse_without(call, 0, errno);
}

/// The same where its first argument, if it is a number, has none of `flags`.
fn refuse_without(call: libc::c_long, flags: libc::c_int, errno: libc::c_int) {
    /// In `struct seccomp_data`: the lower half of the first argument.
    const ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    let statement =
        |code: u32, k, jt, jf| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let number = u32::try_from(call).unwrap();
    let errno = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 3),
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, ARGUMENT, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, flags.cast_unsigned(), 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, errno, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: 6, filter: filter.as_mut_ptr() };
    // SAFETY: `program` is valid for the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

fn set_action(signal: libc::c_int, action: libc::sighandler_t) {
    // SAFETY: one of the two fixed actions.
    assert_ne!(unsafe { libc::signal(signal, action) }, libc::SIG_ERR);
}

#[test]
fn a_mebibyte_on_both_streams_in_either_order() {
    for text in [
        "head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2",
        "head -c 1048576 /dev/zero >&2; head -c 1048576 /dev/zero",
    ] {
        let output = sh(text);
        assert_eq!((output.stdout.len(), output.stderr.len()), (1 << 20, 1 << 20));
        assert_eq!(output.completion.status, Status::Exited(0));
        assert!(!output.truncated && !output.completion.pipe_held);
    }
}

#[test]
fn standard_input_is_empty() {
    let output = sh("cat; readlink /proc/self/fd/0");
    assert_eq!(
        (text(&output.stdout), output.completion.status),
        ("/dev/null\n", Status::Exited(0))
    );
}

#[test]
fn a_command_that_runs_too_long_is_ended_with_its_group() {
    let limits = Limits { time: Some(Duration::from_millis(100)), ..Limits::default() };
    let start = Instant::now();
    let output = sh_with("echo before; sleep 1000; echo after", &limits);
    assert!(output.completion.timed_out);
    assert_eq!(output.completion.status, Status::Signaled(libc::SIGTERM));
    assert_eq!(text(&output.stdout), "before\n");
    // The sleep had the pipe as well: it is gone.
    assert!(!output.completion.pipe_held);
    assert!((Duration::from_millis(100)..LONG).contains(&start.elapsed()));
}

#[test]
fn a_command_that_ignores_sigterm_is_killed() {
    let limits = Limits {
        time: Some(Duration::from_millis(100)),
        term_grace: Duration::from_millis(200),
        ..Limits::default()
    };
    let start = Instant::now();
    let output = sh_with("trap '' TERM; echo up; while :; do sleep 1000; done", &limits);
    assert!(output.completion.timed_out && !output.completion.pipe_held);
    assert_eq!(output.completion.status, Status::Signaled(libc::SIGKILL));
    assert_eq!(text(&output.stdout), "up\n");
    assert!((Duration::from_millis(300)..LONG).contains(&start.elapsed()));
}

#[test]
fn a_command_may_use_its_grace() {
    let limits = Limits { time: Some(Duration::from_millis(200)), ..Limits::default() };
    let output = sh_with("trap 'echo cleaned; exit 9' TERM; sleep 1000 & wait", &limits);
    assert!(output.completion.timed_out);
    assert_eq!((text(&output.stdout), output.completion.status), ("cleaned\n", Status::Exited(9)));
}

#[test]
fn one_of_the_group_that_ignores_sigterm_is_killed() {
    let limits = Limits {
        time: Some(Duration::from_millis(200)),
        term_grace: Duration::from_millis(200),
        ..Limits::default()
    };
    let start = Instant::now();
    let output = sh_with("(trap '' TERM; exec sleep 1000) & sleep 1000", &limits);
    assert!(output.completion.timed_out);
    assert_eq!(output.completion.status, Status::Signaled(libc::SIGTERM));
    assert!(!output.completion.pipe_held);
    assert!(start.elapsed() < LONG);
}

#[test]
fn one_of_the_group_that_has_closed_its_output_is_killed_too() {
    alone("engine::one_of_the_group_that_has_closed_its_output_is_killed_too", || {
        // The orphans of its commands become children of this process.
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
        let limits = Limits { time: Some(Duration::from_millis(100)), ..Limits::default() };
        let output = sh_with(
            "trap '' TERM; sleep 1000 >/dev/null 2>&1 & echo $!; trap - TERM; sleep 1000",
            &limits,
        );
        assert_eq!(output.completion.status, Status::Signaled(libc::SIGTERM));
        let stubborn: libc::pid_t = text(&output.stdout).trim().parse().unwrap();
        let (mut status, mut tries) = (0, 0);
        // SAFETY: `status` is valid for the call.
        while unsafe { libc::waitpid(stubborn, &raw mut status, libc::WNOHANG) } != stubborn {
            tries += 1;
            assert!(tries < 1000, "it lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL);
    });
}

#[test]
fn a_background_process_does_not_hold_the_reply() {
    let limits = Limits { drain_grace: Duration::from_millis(100), ..Limits::default() };
    let start = Instant::now();
    let output = sh_with("sleep 5 & echo hi", &limits);
    assert_eq!((text(&output.stdout), output.completion.status), ("hi\n", Status::Exited(0)));
    assert!(output.completion.pipe_held && !output.completion.timed_out);
    let elapsed = start.elapsed();
    assert!((limits.drain_grace..Duration::from_secs(4)).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn a_process_that_leaves_the_group_does_not_hold_the_reply() {
    alone("engine::a_process_that_leaves_the_group_does_not_hold_the_reply", || {
        let root = tempfile::tempdir().unwrap();
        let descriptors = open_descriptors();
        for (end, timed_out) in [("", false), ("sleep 1000", true)] {
            // It has left once it has opened its end of the FIFO.
            let text_ = format!(
                "mkfifo gate; setsid sh -c 'echo $$; : >gate; exec sleep 1000' & \
                 : <gate; rm gate; {end}"
            );
            let mut command = Command::shell(text_.as_bytes());
            command.directory = Some(root.path());
            let limits = Limits {
                time: timed_out.then_some(Duration::from_millis(500)),
                term_grace: Duration::from_millis(100),
                drain_grace: Duration::from_millis(100),
                ..Limits::default()
            };
            let start = Instant::now();
            let output = run(&command, &limits).unwrap();
            assert!(start.elapsed() < LONG);
            assert!(output.completion.pipe_held);
            assert_eq!(output.completion.timed_out, timed_out);
            let escaped = text(&output.stdout).trim().parse().unwrap();
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::kill(escaped, libc::SIGKILL) }, 0, "it lives on");
        }
        assert_eq!(open_descriptors(), descriptors);
        assert!(has_no_children());
    });
}

#[test]
fn nothing_is_left_of_many_commands() {
    alone("engine::nothing_is_left_of_many_commands", || {
        let descriptors = open_descriptors();
        for i in 0..200 {
            assert_eq!(sh(&format!("exit {i}")).completion.status, Status::Exited(i));
        }
        std::thread::scope(|scope| {
            for i in 0..32 {
                scope.spawn(move || {
                    let output = sh(&format!("echo {i}; echo {i} >&2; exit {i}"));
                    let expected = format!("{i}\n");
                    assert_eq!(
                        [text(&output.stdout), text(&output.stderr)],
                        [expected.as_str(); 2]
                    );
                    assert_eq!(output.completion.status, Status::Exited(i));
                });
            }
        });
        for argv in [b"/nonexistent".as_slice(), b"/dev/null"] {
            let error = run(&Command::argv(vec![argv]), &Limits::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Spawn);
        }
        assert_eq!(open_descriptors(), descriptors);
        assert!(has_no_children());
    });
}

/// Linux 6.15 and later tell the status of a process that somebody else has reaped.
fn kernel_keeps_the_status() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

fn statuses(is_right: fn(Status, Status) -> bool) {
    for (text, expected) in [
        ("exit 0", Status::Exited(0)),
        ("exit 7", Status::Exited(7)),
        ("kill -9 $$", Status::Signaled(9)),
        ("sleep 0.01; exit 3", Status::Exited(3)),
    ] {
        for _ in 0..10 {
            let status = sh(text).completion.status;
            assert!(is_right(status, expected), "{text}: {status:?}");
        }
    }
    let limits = Limits { time: Some(Duration::from_millis(50)), ..Limits::default() };
    let output = sh_with("sleep 1000", &limits);
    assert!(output.completion.timed_out && !output.completion.pipe_held);
}

#[test]
fn a_host_that_ignores_its_children() {
    alone("engine::a_host_that_ignores_its_children", || {
        set_action(libc::SIGCHLD, libc::SIG_IGN);
        statuses(|status, expected| {
            status == if kernel_keeps_the_status() { expected } else { Status::Lost }
        });
    });
}

#[test]
fn a_host_that_reaps_its_children() {
    alone("engine::a_host_that_reaps_its_children", || {
        std::thread::spawn(|| {
            loop {
                // SAFETY: no status is asked for.
                if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } == -1 {
                    std::thread::yield_now();
                }
            }
        });
        // Either of us may be the first to wait.
        statuses(|status, expected| {
            status == expected || (status == Status::Lost && !kernel_keeps_the_status())
        });
    });
}

#[test]
fn a_group_outlives_a_leader_that_the_host_has_reaped() {
    alone("engine::a_group_outlives_a_leader_that_the_host_has_reaped", || {
        set_action(libc::SIGCHLD, libc::SIG_IGN);
        let limits = Limits {
            time: Some(Duration::from_millis(100)),
            term_grace: Duration::from_millis(100),
            ..Limits::default()
        };
        let output = sh_with("(trap '' TERM; exec sleep 5) & sleep 5", &limits);
        assert!(output.completion.timed_out);
        assert_eq!(output.completion.pipe_held, !kernel_keeps_the_status());
    });
}

#[test]
fn a_group_that_got_the_number_of_another_is_left_alone() {
    let own_numbers = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let may = Host::new(own_numbers[0]).args(&own_numbers[1..]).arg("true").status();
    if !may.is_ok_and(|status| status.success()) {
        return;
    }
    alone_in("engine::a_group_that_got_the_number_of_another_is_left_alone", &own_numbers, || {
        set_action(libc::SIGCHLD, libc::SIG_IGN);
        for old_kernel in [false, true] {
            if old_kernel {
                refuse(libc::SYS_pidfd_send_signal, libc::ENOSYS);
            }
            let mut talk = Talk::new();
            let limits = Limits {
                term_grace: Duration::from_millis(50),
                drain_grace: Duration::from_millis(300),
                ..Limits::default()
            };
            let mut other = 0;
            let start = Instant::now();
            let outcome = talk.shell("setsid sleep 1000 & echo $$", &limits, |talk, cue| {
                match cue {
                    Cue::Output(_) => {}
                    Cue::Ended => talk.wake = Deadline::after(Duration::ZERO),
                    Cue::Woken => {
                        other = group_of_number(talk.stdout().trim().parse().unwrap());
                        return Flow::End;
                    }
                }
                Flow::Continue
            });
            assert!(outcome.pipe_held && start.elapsed() < LONG);
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::kill(other, 0) }, 0, "old kernel: {old_kernel}");
        }
    });
}

/// Makes a process that leads a group of the number that another has had.
#[expect(clippy::zombie_processes, reason = "this host ignores its children")]
fn group_of_number(number: libc::pid_t) -> libc::pid_t {
    // SAFETY: no pointers.
    while unsafe { libc::kill(-number, 0) } == 0 {
        std::thread::yield_now();
    }
    loop {
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
        let process = Host::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        if process.id() == number.cast_unsigned() {
            return number;
        }
    }
}

#[test]
fn a_status_that_nobody_kept_is_lost() {
    alone("engine::a_status_that_nobody_kept_is_lost", || {
        set_action(libc::SIGCHLD, libc::SIG_IGN);
        refuse(libc::SYS_ioctl, libc::ENOTTY);
        let output = sh("echo here; exit 7");
        assert_eq!((text(&output.stdout), output.completion.status), ("here\n", Status::Lost));
    });
}

#[test]
fn signals_are_as_new_in_the_command_and_as_before_in_the_host() {
    alone("engine::signals_are_as_new_in_the_command_and_as_before_in_the_host", || {
        for signal in [libc::SIGINT, libc::SIGPIPE, libc::SIGTERM, libc::SIGRTMAX()] {
            set_action(signal, libc::SIG_IGN);
        }
        let masks = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let names = ["SigBlk", "SigIgn", "SigCgt"];
            let lines =
                status.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        // SAFETY: the set is initialised by sigfillset.
        unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            assert_eq!(
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()),
                0
            );
        }
        let before = masks();
        assert!(
            before.iter().all(|line| !line.ends_with(&"0".repeat(16)) || !line.contains("Blk"))
        );
        let argv = vec![b"cat".as_slice(), b"/proc/self/status"];
        let output = run(&Command::argv(argv), &Limits::default()).unwrap();
        for none in ["\nSigBlk:\t0000000000000000\n", "\nSigIgn:\t0000000000000000\n"] {
            assert!(text(&output.stdout).contains(none), "{}", text(&output.stdout));
        }
        assert_eq!(masks(), before);
        // A SIGTERM that is ignored here still ends a command.
        let limits = Limits { time: Some(Duration::from_millis(50)), ..Limits::default() };
        let status = sh_with("sleep 1000", &limits).completion.status;
        assert_eq!(status, Status::Signaled(libc::SIGTERM));
    });
}

/// The shell's own descriptors, not those of the `ls` that looks.
const LIST_DESCRIPTORS: &str = "ls /proc/$$/fd; true";

/// Opens two descriptors that a careless exec would hand on, one of them a high one.
fn open_carelessly() {
    let null = File::open("/dev/null").unwrap();
    // SAFETY: no pointers.
    unsafe {
        assert!(libc::dup(null.as_raw_fd()) > 2);
        assert_eq!(libc::dup2(null.as_raw_fd(), 900), 900);
    }
}

#[test]
fn a_command_has_three_descriptors() {
    alone("engine::a_command_has_three_descriptors", || {
        open_carelessly();
        assert_eq!(text(&sh(LIST_DESCRIPTORS).stdout), "0\n1\n2\n");
    });
}

#[test]
fn a_command_has_three_descriptors_on_an_old_kernel() {
    alone("engine::a_command_has_three_descriptors_on_an_old_kernel", || {
        open_carelessly();
        refuse(libc::SYS_close_range, libc::ENOSYS);
        assert_eq!(text(&sh(LIST_DESCRIPTORS).stdout), "0\n1\n2\n");
    });
}

#[test]
fn a_host_without_standard_descriptors() {
    alone("engine::a_host_without_standard_descriptors", || {
        for closed in [&[0][..], &[1], &[2], &[0, 1], &[0, 1, 2]] {
            // SAFETY: no pointers; nobody else uses the standard descriptors.
            let kept: Vec<(i32, i32)> = unsafe {
                let copy = |fd: &i32| (*fd, libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 500));
                let kept = closed.iter().map(copy).collect();
                for fd in closed {
                    assert_eq!(libc::close(*fd), 0);
                }
                kept
            };
            let text = format!("readlink /proc/$$/fd/0; echo err >&2; {LIST_DESCRIPTORS}");
            let mut talk = Talk::new();
            talk.run(&Command::shell(text.as_bytes()), &Limits::default(), |_, _| {
                // What the host writes to one of them must not come from it.
                for fd in closed {
                    // SAFETY: no pointers.
                    assert_eq!(unsafe { libc::fcntl(*fd, libc::F_GETFD) }, -1, "{fd} is in use");
                }
                Flow::Continue
            });
            for (fd, copy) in kept {
                // SAFETY: no pointers.
                unsafe {
                    assert_eq!(libc::dup2(copy, fd), fd);
                    libc::close(copy);
                }
            }
            assert_eq!(talk.stdout(), "/dev/null\n0\n1\n2\n", "{closed:?}");
            assert_eq!(talk.output[1], b"err\n");
        }
    });
}

#[test]
fn a_command_is_started_without_a_copy_of_the_hosts_memory() {
    alone("engine::a_command_is_started_without_a_copy_of_the_hosts_memory", || {
        for (call, flags) in [
            (libc::SYS_clone, libc::CLONE_VM),
            (libc::SYS_clone3, 0),
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_fork, 0),
        ] {
            refuse_without(call, flags, libc::ENOMEM);
        }
        // SAFETY: the closure does nothing.
        let forked = unsafe { Host::new("true").pre_exec(|| Ok(())).status() };
        assert!(forked.is_err(), "the standard library would have copied it here");
        assert_eq!(text(&sh("echo runs").stdout), "runs\n");
    });
}

#[test]
fn the_hosts_terminal_is_not_the_commands() {
    const NAME: &str = "engine::the_hosts_terminal_is_not_the_commands";
    const MARK: &str = "FRAMEFD_TEST_ON_TERMINAL";
    if std::env::var_os(MARK).is_some() {
        let terminal = || fs::read_to_string("/proc/self/stat").unwrap();
        let before = terminal();
        assert!(File::open("/dev/tty").is_ok(), "this host has one");
        let output = sh("(: </dev/tty) 2>&1; cut -d' ' -f7 /proc/self/stat");
        assert!(text(&output.stdout).ends_with("No such device or address\n0\n"), "{output:?}");
        let field = |stat: &str| stat.split(' ').nth(6).unwrap().to_owned();
        assert_eq!(field(&terminal()), field(&before));
        return;
    }
    let this = std::env::current_exe().unwrap();
    let argv = [this.to_str().unwrap(), NAME, "--exact", "--nocapture"];
    let mut command = Command::argv(argv.map(str::as_bytes).to_vec());
    command.stdio = Stdio::Terminal(WindowSize { rows: 24, columns: 80 });
    command.environment.additions = vec![(MARK.into(), b"1".to_vec())];
    let mut talk = Talk { open: true, ..Talk::new() };
    let outcome = talk.run(&command, &Limits::default(), silent);
    assert!(talk.stdout().contains("1 passed"), "{outcome:?} {}", talk.stdout());
}

#[test]
fn other_threads_may_allocate_meanwhile() {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut size = 1;
                while !done.load(Ordering::Relaxed) {
                    size = (size * 7 + 1) % 300_000;
                    std::hint::black_box(vec![1_u8; size]);
                }
            });
        }
        for _ in 0..500 {
            let command = Command::argv(vec![b"/bin/true"]);
            let status = run(&command, &Limits::default()).unwrap().completion.status;
            assert_eq!(status, Status::Exited(0));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_no_command_is_refused() {
    let marker = tempfile::tempdir().unwrap();
    let touched = marker.path().join("touched");
    let touch = format!("touch {}\0", touched.display());
    let long = vec![b' '; 65_537];
    for (command, kind) in [
        (Command::shell(b""), ErrorKind::Argument),
        (Command::shell(touch.as_bytes()), ErrorKind::Argument),
        (Command::argv(vec![]), ErrorKind::Argument),
        (Command::argv(vec![b""]), ErrorKind::Argument),
        (Command::argv(vec![b"echo", b"a\0b"]), ErrorKind::Argument),
        (Command::shell(&long), ErrorKind::TooBig),
    ] {
        assert_eq!(run(&command, &Limits::default()).unwrap_err().kind(), kind, "{command:?}");
    }
    assert!(!touched.exists());
}

#[test]
fn blanks_and_dashes_are_the_shells_business() {
    for blank in [" ", "\n", "\t \n", "# nothing"] {
        let output = sh(blank);
        assert_eq!((output.completion.status, output.stderr.len()), (Status::Exited(0), 0));
    }
    // Not an option of the shell's.
    let output = sh("-c");
    assert_eq!(output.completion.status, Status::Exited(127));
    assert!(text(&output.stderr).contains("not found"), "{}", text(&output.stderr));
}

#[test]
fn the_longest_command_there_can_be_runs() {
    let limits = Limits { max_command: u64::MAX, ..Limits::default() };
    let mut command = "echo long; #".to_owned();
    command.extend(std::iter::repeat_n('x', 131_071 - command.len()));
    assert_eq!(text(&sh_with(&command, &limits).stdout), "long\n");
    command.push('x');
    let error = run(&Command::shell(command.as_bytes()), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
}

#[test]
fn arguments_are_not_read_by_a_shell() {
    let argv = vec![b"printf".as_slice(), b"%s|", b"$HOME", b"`id`", b"; exit 3", b"", b"\xff"];
    let output = run(&Command::argv(argv), &Limits::default()).unwrap();
    assert_eq!(output.stdout, b"$HOME|`id`|; exit 3||\xff|");
    assert_eq!(output.completion.status, Status::Exited(0));
}

#[test]
fn what_cannot_be_started_says_why() {
    let root = tempfile::tempdir().unwrap();
    let plain = root.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let plain = plain.to_str().unwrap().as_bytes();
    let none = root.path().join("none");
    let mut nowhere = Command::shell(b"true");
    nowhere.directory = Some(&none);
    for (command, errno, step) in [
        (Command::argv(vec![b"/nonexistent/sh"]), libc::ENOENT, "execve"),
        (Command::argv(vec![b"no-such-program-anywhere"]), libc::ENOENT, "execve"),
        (Command::argv(vec![plain]), libc::EACCES, "execve"),
        (nowhere, libc::ENOENT, "working directory"),
    ] {
        let error = run(&command, &Limits::default()).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, errno));
        assert!(error.detail().starts_with(step), "{error}");
    }
}

#[test]
fn too_few_descriptors_are_an_error_that_leaks_none() {
    alone("engine::too_few_descriptors_are_an_error_that_leaks_none", || {
        let before = open_descriptors();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is valid for the call.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        let first_free = File::open("/dev/null").unwrap().into_raw_fd();
        // SAFETY: it was opened for this number alone.
        unsafe { libc::close(first_free) };
        let mut started = Vec::new();
        for more in 0..12 {
            let few =
                libc::rlimit { rlim_cur: u64::from(first_free.unsigned_abs()) + more, ..limit };
            // SAFETY: both are valid for the calls.
            let result = unsafe {
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few);
                let result = run(&Command::shell(b"exit 5"), &Limits::default());
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                result
            };
            match &result {
                Ok(output) => assert_eq!(output.completion.status, Status::Exited(5)),
                Err(error) => {
                    assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, libc::EMFILE));
                }
            }
            started.push(result.is_ok());
            assert_eq!(open_descriptors(), before);
        }
        assert_eq!((started.first(), started.last()), (Some(&false), Some(&true)));
        assert!(started.is_sorted(), "{started:?}");
        assert!(has_no_children());
    });
}

#[test]
fn a_process_that_cannot_be_made_leaks_nothing() {
    alone("engine::a_process_that_cannot_be_made_leaks_nothing", || {
        let before = open_descriptors();
        refuse(libc::SYS_clone, libc::EAGAIN);
        let error = run(&Command::shell(b"true"), &Limits::default()).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, libc::EAGAIN));
        assert!(error.detail().starts_with("clone: "), "{error}");
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_group_is_ended_on_an_old_kernel() {
    alone("engine::a_group_is_ended_on_an_old_kernel", || {
        refuse(libc::SYS_pidfd_send_signal, libc::ENOSYS);
        let limits = Limits { time: Some(Duration::from_millis(50)), ..Limits::default() };
        let output = sh_with("sleep 1000; true", &limits);
        assert_eq!(output.completion.status, Status::Signaled(libc::SIGTERM));
        assert!(!output.completion.pipe_held);
    });
}

#[test]
fn output_is_bytes() {
    let bytes = pattern(1 << 20);
    assert!((0..=255).all(|byte| bytes.contains(&byte)));
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("bytes");
    fs::write(&path, &bytes).unwrap();
    let output = sh(&format!("cat {0}; cat {0} >&2", path.display()));
    assert!(output.stdout == bytes && output.stderr == bytes);
}

#[test]
fn every_way_to_end_is_told() {
    for (text, status) in [
        ("exit 0", Status::Exited(0)),
        ("exit 1", Status::Exited(1)),
        ("exit 255", Status::Exited(255)),
        ("no-such-program-anywhere", Status::Exited(127)),
        ("/dev/null", Status::Exited(126)),
        ("exit 137", Status::Exited(137)),
        ("kill -9 $$", Status::Signaled(9)),
        ("exit 143", Status::Exited(143)),
        ("kill -TERM $$", Status::Signaled(15)),
        ("ulimit -c 0; kill -SEGV $$", Status::Signaled(11)),
    ] {
        assert_eq!(sh(text).completion.status, status, "{text}");
    }
}

#[test]
fn the_environment_is_clean_unless_asked_for() {
    alone("engine::the_environment_is_clean_unless_asked_for", || {
        let hostile = [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "BASH_ENV",
            "ENV",
            "IFS",
            "PATH",
            "SECRET",
            "FRAMEFD_SECRET",
        ];
        let kept = [("HOME", "/h"), ("USER", "u"), ("LC_ALL", "C"), ("TZ", "UTC")];
        // SAFETY: this thread is the only one that uses the environment.
        unsafe {
            for (name, value) in hostile.map(|name| (name, "/hostile")).into_iter().chain(kept) {
                std::env::set_var(name, value);
            }
            for (name, _) in std::env::vars_os() {
                if !hostile.iter().chain(&kept.map(|(name, _)| name)).any(|known| name == **known) {
                    std::env::remove_var(name);
                }
            }
        }
        let mut command = Command::argv(vec![b"/usr/bin/env"]);
        command.environment.additions = vec![(b"ADDED".into(), b"a=b c".into())];
        let variables = |command: &Command<'_>| -> BTreeSet<String> {
            let output = run(command, &Limits::default()).unwrap();
            text(&output.stdout).lines().map(str::to_owned).collect()
        };
        let path = format!("PATH={DEFAULT_PATH}");
        let expected =
            ["ADDED=a=b c", "HOME=/h", "LC_ALL=C", &path, "SHELL=/bin/sh", "TZ=UTC", "USER=u"];
        assert_eq!(variables(&command), expected.map(str::to_owned).into());

        command.environment.base = Base::Host;
        let all = variables(&command);
        for pair in ["SECRET=/hostile", "LD_PRELOAD=/hostile", "PATH=/hostile", "ADDED=a=b c"] {
            assert!(all.contains(pair), "{pair}: {all:?}");
        }
        assert!(!all.iter().any(|pair| pair.starts_with("FRAMEFD_")), "{all:?}");
    });
}

#[test]
fn the_hosts_directory_may_be_gone() {
    alone("engine::the_hosts_directory_may_be_gone", || {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("gone/below")).unwrap();
        std::env::set_current_dir(root.path().join("gone")).unwrap();
        let mut command = Command::shell(b"basename $(pwd)");
        command.directory = Some(Path::new("below"));
        let output = run(&command, &Limits::default()).unwrap();
        assert_eq!(text(&output.stdout), "below\n");

        fs::remove_dir_all(root.path().join("gone")).unwrap();
        assert_eq!(text(&sh("echo runs").stdout), "runs\n");
        let error = run(&command, &Limits::default()).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, libc::ENOENT));
    });
}

#[test]
fn the_output_limit_is_exact_on_both_streams() {
    for on_output_limit in [OnOutputLimit::Drain, OnOutputLimit::End] {
        let limits = Limits { max_output: 100_000, on_output_limit, ..Limits::default() };
        for size in [0, 99_999, 100_000, 100_001] {
            for redirect in ["", ">&2"] {
                let output = sh_with(&format!("head -c {size} /dev/zero {redirect}"), &limits);
                let totals = (output.completion.stdout_total, output.completion.stderr_total);
                let (kept, other, totals) = match redirect {
                    "" => (output.stdout, output.stderr, totals),
                    _ => (output.stderr, output.stdout, (totals.1, totals.0)),
                };
                assert_eq!((kept.len() as u64, other.len()), (size.min(100_000), 0));
                assert_eq!(totals, (size, 0));
                assert_eq!(output.truncated, size > 100_000, "{size} {redirect}");
            }
        }
    }
}

#[test]
fn more_output_than_is_kept_is_dropped_or_the_end() {
    let drain = Limits { max_output: 10, ..Limits::default() };
    let output = sh_with("head -c 3000000 /dev/zero; echo end >&2", &drain);
    assert_eq!((output.stdout.len(), output.completion.stdout_total), (10, 3_000_000));
    assert_eq!((text(&output.stderr), output.completion.status), ("end\n", Status::Exited(0)));
    assert!(output.truncated);

    let end = Limits { on_output_limit: OnOutputLimit::End, ..drain };
    let start = Instant::now();
    let output = sh_with("yes", &end);
    assert_eq!((text(&output.stdout), output.truncated), ("y\ny\ny\ny\ny\n", true));
    assert!(
        matches!(output.completion.status, Status::Signaled(_)) && !output.completion.timed_out
    );
    assert!(start.elapsed() < LONG);
}
