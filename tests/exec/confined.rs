//! Commands that may less than the host. What needs root is left out where it is not there.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::exec::LONG;
use crate::common::process::alone;
use crate::common::run::{Talk, limits, run, silent};
use framefd::io::process::child::Status;
use framefd::io::process::spawn::Confinement;
use framefd::io::process::terminal::WindowSize;
use framefd::ops::exec::{Captured, Command, Limits, Stdio};
use framefd::{Error, ErrorKind};
use rustix::process::{Resource, Rlimit};

/// Nobody's, not even "nobody"'s: what counts by user counts only these tests' commands.
const USER: u32 = 64_321;
const GROUP: u32 = 64_322;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn confined(text: &str, confinement: Confinement) -> Command<'_> {
    Command { confinement, ..Command::shell(text.as_bytes()) }
}

fn as_user(user: u32) -> Confinement {
    Confinement { user: Some((user, GROUP)), ..Confinement::default() }
}

#[track_caller]
fn sh(text: &str, confinement: Confinement) -> Captured {
    run(&confined(text, confinement), &limits()).unwrap()
}

#[track_caller]
fn failure(text: &str, confinement: Confinement) -> Error {
    run(&confined(text, confinement), &limits()).unwrap_err()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Lines of /proc/self/limits by their first three words.
fn limits_in(text: &str) -> BTreeMap<String, Vec<String>> {
    let line = |line: &str| {
        let (name, values) = line.split_at(26);
        (name.trim().to_owned(), values.split_whitespace().map(str::to_owned).collect())
    };
    text.lines().skip(1).map(line).collect()
}

#[test]
fn files_are_made_under_its_mask() {
    let root = tempfile::tempdir().unwrap();
    for (umask, expected) in [(Some(0o027), 0o640), (Some(0), 0o666), (Some(0o777), 0)] {
        let path = root.path().join(format!("file {expected:o}"));
        let text = format!(": >'{}'", path.display());
        let output = sh(&text, Confinement { umask, ..Confinement::default() });
        assert_eq!(output.completion.status, Status::Exited(0));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, expected);
    }
}

#[test]
fn each_limit_is_set_and_no_other() {
    let of = |confinement| {
        let argv = vec![b"cat".as_slice(), b"/proc/self/limits"];
        let command = Command { confinement, ..Command::argv(argv) };
        limits_in(text(&run(&command, &limits()).unwrap().stdout))
    };
    let none = Confinement::default();
    let hosts = of(none);
    assert_eq!(hosts, limits_in(&fs::read_to_string("/proc/thread-self/limits").unwrap()));
    for (confinement, name, value) in [
        (Confinement { cpu_seconds: Some(1234), ..none }, "Max cpu time", "1234"),
        (Confinement { memory: Some(1 << 30), ..none }, "Max address space", "1073741824"),
        (Confinement { processes: Some(123), ..none }, "Max processes", "123"),
        (Confinement { file_size: Some(4321), ..none }, "Max file size", "4321"),
    ] {
        let mut expected = hosts.clone();
        expected.get_mut(name).unwrap()[..2].fill(value.to_owned());
        assert_eq!(of(confinement), expected);
    }
}

#[test]
fn processor_time_runs_out() {
    let confinement = Confinement { cpu_seconds: Some(1), ..Confinement::default() };
    let output = sh("while :; do :; done", confinement);
    // The kernel looks at the hard limit first.
    let status = output.completion.status;
    let (xcpu, kill) = (Status::Signaled(libc::SIGXCPU), Status::Signaled(libc::SIGKILL));
    assert!(status == xcpu || status == kill, "{status:?}");
    assert!(!output.completion.timed_out);
}

#[test]
fn memory_runs_out() {
    let hog = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    let confinement = Confinement { memory: Some(100 << 20), ..Confinement::default() };
    let output = sh(hog, confinement);
    assert_eq!(output.completion.status, Status::Exited(1));
    assert!(text(&output.stderr).contains("memory"), "{}", text(&output.stderr));
    assert_eq!(sh(hog, Confinement::default()).completion.status, Status::Exited(0));
}

#[test]
fn a_file_does_not_grow_beyond_its_limit() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let text = format!("exec head -c 5000 /dev/zero >{}", path.display());
    let output = sh(&text, Confinement { file_size: Some(1000), ..Confinement::default() });
    assert_eq!(output.completion.status, Status::Signaled(libc::SIGXFSZ));
    assert_eq!(fs::metadata(&path).unwrap().len(), 1000);
    // What goes through a pipe is no file.
    let output =
        sh("head -c 5000 /dev/zero", Confinement { file_size: Some(0), ..Confinement::default() });
    assert_eq!((output.completion.status, output.stdout.len()), (Status::Exited(0), 5000));
}

#[test]
fn a_limit_that_may_not_be_set_is_an_error() {
    alone("confined::a_limit_that_may_not_be_set_is_an_error", || {
        let limit = |size| {
            let limit = Rlimit { current: Some(size), maximum: Some(size) };
            rustix::process::setrlimit(Resource::Fsize, limit)
        };
        limit(1 << 20).unwrap();
        let more = Confinement { file_size: Some(1 << 21), ..Confinement::default() };
        let error = unprivileged(|| failure("true", more));
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, libc::EPERM));
        assert!(error.detail().starts_with("RLIMIT_FSIZE: "), "{error}");
        if is_root() && limit(1 << 21).is_ok() {
            // Root may (CAP_SYS_RESOURCE), and does before it is root no more.
            limit(1 << 20).unwrap();
            let status = sh("true", Confinement { user: Some((USER, GROUP)), ..more });
            assert_eq!(status.completion.status, Status::Exited(0));
        }
    });
}

#[test]
fn it_becomes_another_user_for_good() {
    if !is_root() {
        return;
    }
    let output = sh("id -u; id -ru; id -g; id -rg; id -G", as_user(USER));
    assert_eq!(text(&output.stdout), format!("{USER}\n{USER}\n{GROUP}\n{GROUP}\n{GROUP}\n"));
    let output = sh("cat /proc/self/status", as_user(USER));
    let status = text(&output.stdout);
    let all_four = |name, id| format!("{name}:\t{id}\t{id}\t{id}\t{id}\n");
    assert!(status.contains(&all_four("Uid", USER)), "{status}");
    assert!(status.contains(&all_four("Gid", GROUP)), "{status}");
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
    }
    let output = sh("cat /etc/shadow", as_user(USER));
    assert_ne!(output.completion.status, Status::Exited(0));
}

#[test]
fn only_root_may_make_it_another_user() {
    alone("confined::only_root_may_make_it_another_user", || {
        let error = unprivileged(|| failure("true", as_user(USER)));
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, libc::EPERM));
        assert!(error.detail().starts_with("setgroups: "), "{error}");
    });
}

#[test]
fn what_is_no_user_is_refused() {
    for user in [(u32::MAX, GROUP), (USER, u32::MAX)] {
        for stdio in [Stdio::default(), Stdio::Terminal(WindowSize { rows: 1, columns: 1 })] {
            let confinement = Confinement { user: Some(user), ..Confinement::default() };
            let command = Command { stdio, ..confined("true", confinement) };
            let error = run(&command, &limits()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{user:?}");
        }
    }
}

#[test]
fn another_user_does_not_learn_who_the_host_is() {
    if !is_root() {
        return;
    }
    alone("confined::another_user_does_not_learn_who_the_host_is", || {
        // SAFETY: this thread is the only one that uses the environment.
        unsafe {
            for name in ["HOME", "USER", "LOGNAME"] {
                std::env::set_var(name, "root");
            }
        }
        let names = |confinement| {
            let mut command = confined("exec env", confinement);
            command.environment.additions = vec![(b"USER".into(), b"added".into())];
            text(&run(&command, &limits()).unwrap().stdout).to_owned()
        };
        let (own, other) = (names(Confinement::default()), names(as_user(USER)));
        assert!(own.contains("HOME=root\n") && own.contains("USER=added\n"), "{own}");
        assert!(!other.contains("root") && other.contains("USER=added\n"), "{other}");
    });
}

#[test]
fn its_directory_is_entered_as_the_user() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = confined("pwd", as_user(USER));
    command.directory = Some(root.path());
    let error = run(&command, &limits()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, libc::EACCES));
    assert!(error.detail().starts_with("working directory: "), "{error}");
    command.confinement = Confinement::default();
    assert_eq!(run(&command, &limits()).unwrap().completion.status, Status::Exited(0));
}

#[test]
fn a_program_that_is_not_the_users_is_not_run() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = root.path().join("program");
    fs::copy("/bin/true", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let argv = vec![program.to_str().unwrap().as_bytes()];
    let command = Command { confinement: as_user(USER), ..Command::argv(argv) };
    let error = run(&command, &limits()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Spawn, libc::EACCES));
    assert!(error.detail().starts_with("execve: "), "{error}");
}

#[test]
fn another_user_is_ended_like_any_other() {
    if !is_root() {
        return;
    }
    let limits = Limits {
        time: Some(Duration::from_millis(100)),
        term_grace: Duration::from_millis(100),
        ..Limits::default()
    };
    let text = "trap '' TERM; sleep 1000 & while :; do sleep 1000; done";
    let output = run(&confined(text, as_user(USER)), &limits).unwrap();
    assert_eq!(output.completion.status, Status::Signaled(libc::SIGKILL));
    assert!(output.completion.timed_out && !output.completion.pipe_held);
}

#[test]
fn another_user_cannot_harm_the_host() {
    if !is_root() {
        return;
    }
    let text = "kill -9 $PPID; kill -0 $PPID; cat /proc/$PPID/environ";
    let output = sh(text, as_user(USER));
    assert_eq!((output.completion.status, output.stdout.len()), (Status::Exited(1), 0));
    assert_eq!(self::text(&output.stderr).matches("ermi").count(), 3, "{output:?}");
}

#[test]
fn a_terminal_belongs_to_the_user() {
    if !is_root() {
        return;
    }
    let stdio = Stdio::Terminal(WindowSize { rows: 24, columns: 80 });
    let text = "stat -c %u $(tty); : <$(tty); : >/dev/tty; stty size";
    let command = Command { stdio, ..confined(text, as_user(USER)) };
    let mut talk = Talk { open: true, ..Talk::new() };
    let outcome = talk.run(&command, &limits(), silent);
    assert_eq!(talk.stdout(), format!("{USER}\r\n24 80\r\n"));
    assert_eq!(outcome.status, Status::Exited(0));
}

#[test]
fn the_streams_of_another_user_can_be_opened_by_their_names() {
    if !is_root() {
        return;
    }
    for merge in [false, true] {
        let stdio = Stdio::Pipes { input: true, merge };
        let text = "cat /dev/stdin >/dev/stdout; echo err >/dev/stderr";
        let command = Command { stdio, ..confined(text, as_user(USER)) };
        let mut talk = Talk::with_input(b"in ");
        let outcome = talk.run(&command, &limits(), silent);
        assert_eq!(talk.output.concat(), b"in err\n", "{outcome:?}");
    }
    // What is not the command's alone stays as it is.
    sh("true", as_user(USER));
    assert_eq!(fs::metadata("/dev/null").unwrap().uid(), 0);
}

#[test]
fn a_command_that_may_not_be_ended_is_reaped_once_it_has() {
    if !is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return;
    }
    // A program that makes its user another one, as sudo(8) does.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("become");
    fs::copy("/usr/bin/setpriv", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut limits = limits();
    (limits.time, limits.term_grace) = (Some(Duration::from_millis(300)), Duration::ZERO);
    let text = format!("echo $$; exec {} --reuid={} sleep 0.8", program.display(), USER + 2);
    let state = |pid: &str| fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    unprivileged(|| {
        let output = run(&Command::shell(text.as_bytes()), &limits).unwrap();
        let pid = self::text(&output.stdout);
        assert_eq!(output.completion.status, Status::Lost, "{}", self::text(&output.stderr));
        let begin = Instant::now();
        while !state(pid).unwrap().contains(") Z") {
            assert!(begin.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(10));
        }
        sh("true", Confinement::default());
        assert!(state(pid).is_err(), "it is still a zombie");
    });
}

fn processes_of(user: u32) -> usize {
    let is_users = |entry: &fs::DirEntry| {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        is_process && entry.metadata().is_ok_and(|metadata| metadata.uid() == user)
    };
    fs::read_dir("/proc").unwrap().flatten().filter(is_users).count()
}

#[test]
fn a_fork_bomb_stays_small_and_ends() {
    if !is_root() {
        return;
    }
    let user = USER + 1;
    let confinement = Confinement { processes: Some(40), ..as_user(user) };
    // Without its limit it does not go off.
    let bomb = "grep -q 'Max processes *40 ' /proc/self/limits || exit 9; \
                bomb() { bomb | bomb & }; bomb; sleep 1000";
    let limits = Limits {
        time: Some(Duration::from_millis(500)),
        term_grace: Duration::from_millis(100),
        drain_grace: Duration::from_millis(100),
        ..Limits::default()
    };
    let start = Instant::now();
    let output = run(&confined(bomb, confinement), &limits).unwrap();
    assert!(start.elapsed() < LONG);
    assert_ne!(output.completion.status, Status::Exited(9));
    assert!(text(&output.stderr).contains("ork"), "it has hit its limit: {output:?}");
    // Killed processes are gone a moment later.
    let mut tries = 0;
    while processes_of(user) > 0 {
        tries += 1;
        assert!(tries < 1000, "some of it lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_host_stays_as_it_is() {
    alone("confined::the_host_stays_as_it_is", || {
        let state = || {
            let names = ["Umask", "Uid", "Gid", "Groups", "SigBlk", "SigCgt", "CapEff"];
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let lines =
                status.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
            let mut state: Vec<String> = lines.map(str::to_owned).collect();
            state.push(fs::read_to_string("/proc/thread-self/limits").unwrap());
            state.push(std::env::current_dir().unwrap().display().to_string());
            // SAFETY: no pointers.
            let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
            state.push(format!("dumpable: {dumpable}"));
            state
        };
        let before = state();
        assert_eq!(before.last().unwrap(), "dumpable: 1");
        let everything = Confinement {
            umask: Some(0o123),
            cpu_seconds: Some(100),
            memory: Some(1 << 32),
            processes: Some(100),
            file_size: Some(100),
            user: is_root().then_some((USER, GROUP)),
        };
        let mut command = confined("umask; pwd", everything);
        command.directory = Some(Path::new("/"));
        let output = run(&command, &limits()).unwrap();
        assert_eq!(text(&output.stdout), "0123\n/\n");
        assert_eq!(state(), before);
    });
}

/// Runs `body` on a thread of its own that has the rights of nobody, where it had those of
/// root.
fn unprivileged<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if is_root() {
                let user = rustix::process::Uid::from_raw(USER);
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            }
            body()
        });
        thread.join().unwrap()
    })
}
