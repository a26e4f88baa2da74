//! Commands that have a terminal.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use crate::common::exec::{LONG, Presence};
use crate::common::process::alone;
use crate::common::run::{Cue, Talk, silent};
use framefd::io::deadline::Deadline;
use framefd::io::process::child::Status;
use framefd::io::process::terminal::WindowSize;
use framefd::ops::exec::{Command, Completion, Flow, Limits, Stdio};
use rustix::process::Signal;

const SIZE: WindowSize = WindowSize { rows: 30, columns: 99 };
const A_WHILE: Duration = Duration::from_millis(100);

/// No command outlives a test by long, even if it fails.
fn limits() -> Limits {
    Limits { time: Some(LONG), term_grace: A_WHILE, drain_grace: A_WHILE, ..Limits::default() }
}

fn on_terminal<'a>(argv: &[&'a str]) -> Command<'a> {
    let argv = argv.iter().map(|argument| argument.as_bytes()).collect();
    Command { stdio: Stdio::Terminal(SIZE), ..Command::argv(argv) }
}

/// Runs shell code on a terminal.
fn sh(talk: &mut Talk, text: &str, script: impl FnMut(&mut Talk, Cue) -> Flow) -> Completion {
    talk.run(&on_terminal(&["/bin/sh", "-c", text]), &limits(), script)
}

/// The same with nobody at it.
fn output(text: &str) -> String {
    let mut talk = Talk { open: true, ..Talk::new() };
    let outcome = sh(&mut talk, text, silent);
    assert_eq!(outcome.status, Status::Exited(0), "{}", talk.stdout());
    assert_eq!((outcome.stdout_total, outcome.stderr_total), (talk.output[0].len() as u64, 0));
    talk.stdout().replace("\r\n", "\n")
}

/// Job control, prompts and all.
fn interactive_shells() -> Vec<Command<'static>> {
    let mut shells = vec![on_terminal(&["/bin/sh", "-im"])];
    if std::path::Path::new("/bin/bash").exists() {
        shells.push(on_terminal(&["/bin/bash", "--norc", "--noediting", "-i"]));
    }
    shells
}

#[test]
fn all_three_are_the_controlling_terminal() {
    let text = output("test -t 0 && test -t 1 && test -t 2 && tty && stty size && : </dev/tty");
    let (terminal, rest) = text.split_once('\n').unwrap();
    assert!(terminal.starts_with("/dev/pts/"), "{terminal}");
    assert_eq!(rest, "30 99\n");
    // The shell leads its session, and its group is in the foreground.
    let stat = output("cat /proc/$$/stat; echo $$");
    let (stat, pid) = stat.trim_end().split_once('\n').unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let (group, session, tty, foreground) = (fields[2], fields[3], fields[4], fields[5]);
    assert_eq!([group, session, foreground], [pid; 3]);
    assert_ne!(tty, "0");
}

#[test]
fn what_is_written_keeps_its_order_and_its_lines() {
    let mut talk = Talk { open: true, ..Talk::new() };
    sh(&mut talk, "for i in 1 2 3; do echo out $i; echo err $i >&2; done", silent);
    let expected = "out 1\r\nerr 1\r\nout 2\r\nerr 2\r\nout 3\r\nerr 3\r\n";
    assert_eq!(talk.stdout(), expected);
}

#[test]
fn its_type_is_a_usual_one_unless_it_is_known() {
    assert_eq!(output("echo $TERM"), "xterm\n");
    let mut talk = Talk { open: true, ..Talk::new() };
    let mut command = on_terminal(&["/bin/sh", "-c", "echo $TERM"]);
    command.environment.additions.push((b"TERM".to_vec(), b"vt100".to_vec()));
    talk.run(&command, &limits(), silent);
    assert_eq!(talk.stdout(), "vt100\r\n");
    command.stdio = Stdio::default();
    command.environment.additions.clear();
    let mut talk = Talk::new();
    talk.run(&command, &limits(), silent);
    assert_eq!(talk.stdout(), "\n", "there is no terminal");
}

#[test]
fn a_command_has_three_descriptors() {
    assert_eq!(
        output("ls -1 /proc/$$/fd; ls -l /proc/$$/fd | grep -c ptmx || true"),
        "0\n1\n2\n0\n"
    );
}

#[test]
fn a_host_without_standard_descriptors() {
    alone("terminal::a_host_without_standard_descriptors", || {
        // SAFETY: no pointers; nobody else uses the descriptor.
        let kept = unsafe {
            let kept = libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 500);
            assert_eq!(libc::close(0), 0);
            kept
        };
        let text = output("test -t 0 && test -t 2 && ls -1 /proc/$$/fd");
        // SAFETY: as above.
        unsafe {
            assert_eq!(libc::fcntl(0, libc::F_GETFD), -1, "it is closed as before");
            libc::dup2(kept, 0);
        }
        assert_eq!(text, "0\n1\n2\n");
    });
}

#[test]
fn a_new_size_is_told() {
    let mut talk = Talk { open: true, ..Talk::new() };
    let text = "trap 'stty size; exit 4' WINCH; echo up; sleep 1000 & wait";
    let outcome = sh(&mut talk, text, |talk, _| match talk.stdout() {
        "up\r\n" => Flow::Resize(WindowSize { rows: 50, columns: 132 }),
        _ => Flow::Continue,
    });
    assert_eq!((outcome.status, talk.stdout()), (Status::Exited(4), "up\r\n50 132\r\n"));
}

#[test]
fn a_size_is_nothing_to_a_command_without_a_terminal() {
    let mut talk = Talk::new();
    let outcome = talk.shell("echo up", &limits(), |_, _| Flow::Resize(SIZE));
    assert_eq!((outcome.status, talk.stdout()), (Status::Exited(0), "up\n"));
}

#[test]
fn an_interrupt_can_be_typed() {
    let mut talk = Talk { open: true, ..Talk::with_input(b"a line\n\x03") };
    let outcome = talk.run(&on_terminal(&["cat"]), &limits(), silent);
    assert_eq!(outcome.status, Status::Signaled(libc::SIGINT));
    assert!(talk.stdout().ends_with("^C"), "{}", talk.stdout());
}

#[test]
fn the_end_of_input_is_typed() {
    for (input, expected) in
        [("", ""), ("line\n", "line\r\nline\r\n"), ("line\npart", "line\r\npartline\r\npart")]
    {
        let mut talk = Talk::with_input(input.as_bytes());
        let outcome = talk.run(&on_terminal(&["cat"]), &limits(), silent);
        assert_eq!(outcome.status, Status::Exited(0), "{input:?}");
        // The echo and the output may mix, but nothing is lost or added.
        assert_eq!(talk.stdout().len(), expected.len(), "{input:?}: {:?}", talk.stdout());
    }
}

#[test]
fn the_end_of_input_is_what_the_terminal_says_it_is() {
    let at_ready = |talk: &mut Talk, _| {
        talk.open &= !talk.stdout().contains("ready");
        Flow::Continue
    };
    for (modes, reader, expected) in [
        ("-echo eof x", "cat; echo over", "over"),
        ("-echo raw", "head -c1 | od -An -tx1", "04"),
        ("-echo raw eof x", "head -c1", "x"),
    ] {
        let mut talk = Talk { open: true, ..Talk::new() };
        let text = format!("stty {modes}; printf ready; {reader}");
        let outcome = sh(&mut talk, &text, at_ready);
        assert_eq!(outcome.status, Status::Exited(0));
        assert_eq!(talk.stdout().replace("ready", "").trim(), expected, "{modes}");
    }
    let mut talk = Talk { open: true, ..Talk::new() };
    let outcome = sh(&mut talk, "stty eof undef; echo ready; cat", |talk, cue| {
        at_ready(talk, cue);
        if talk.wake.is_never() {
            talk.wake = Deadline::after(A_WHILE);
        }
        if cue == Cue::Woken { Flow::End } else { Flow::Continue }
    });
    assert_eq!(outcome.status, Status::Signaled(libc::SIGTERM), "there is no such character");
}

/// A shell that edits its lines changes the modes for each, and loses what was typed before.
#[test]
fn whoever_reads_behind_the_end_of_input_finds_it() {
    let bash = &["/bin/bash", "--norc", "-i"][..];
    for (argv, input, expected) in [
        (bash, "", ""),
        (bash, "echo o'n'\n", "on"),
        (bash, "cat\n", ""),
        (&["/bin/sh", "-c", "cat; cat; echo over"], "", "over"),
    ] {
        if !std::path::Path::new(argv[0]).exists() {
            continue;
        }
        let mut talk = Talk { input: input.into(), ..Talk::new() };
        let outcome = talk.run(&on_terminal(argv), &limits(), silent);
        assert_eq!(outcome.status, Status::Exited(0), "{argv:?} {input:?}");
        assert!(talk.stdout().contains(expected), "{argv:?} {input:?}: {}", talk.stdout());
    }
}

#[test]
fn much_goes_in_and_comes_out() {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
    let mut talk = Talk { open: true, ..Talk::new() };
    let outcome = sh(&mut talk, "stty raw -echo; echo ready; head -c 1000000", |talk, _| {
        if talk.output[0] == b"ready\n" {
            talk.input.clone_from(&bytes);
        }
        Flow::Continue
    });
    assert_eq!(outcome.status, Status::Exited(0));
    assert!(talk.output[0][6..] == bytes);
}

#[test]
fn a_command_whose_output_is_not_taken_has_to_wait() {
    let mut talk = Talk { open: true, ..Talk::new() };
    let (mut pauses, mut seen) = (0, 0);
    let outcome = sh(&mut talk, "yes", |talk, cue| {
        match cue {
            Cue::Output(_) => {
                (talk.deaf, talk.wake) = (true, Deadline::after(A_WHILE));
                seen = talk.output[0].len();
            }
            Cue::Woken => {
                assert_eq!(talk.output[0].len(), seen);
                talk.deaf = false;
                pauses += 1;
            }
            Cue::Ended => talk.deaf = false,
        }
        if pauses < 3 { Flow::Continue } else { Flow::End }
    });
    assert_eq!(outcome.status, Status::Signaled(libc::SIGTERM));
    assert!(outcome.stdout_total < 1 << 20, "{}", outcome.stdout_total);
}

#[test]
fn nothing_is_lost_for_output_that_is_taken_late() {
    for (text, held) in [("", false), ("trap '' HUP; sleep 5 & ", true)] {
        let mut talk = Talk { open: true, deaf: true, ..Talk::new() };
        let text = format!("{text}head -c 3000 /dev/zero");
        let command = on_terminal(&["/bin/sh", "-c", &text]);
        let limits = Limits { drain_grace: Duration::ZERO, ..limits() };
        let outcome = talk.run(&command, &limits, |talk, cue| {
            match cue {
                Cue::Ended => talk.wake = Deadline::after(A_WHILE),
                Cue::Woken => talk.deaf = false,
                Cue::Output(_) => {}
            }
            Flow::Continue
        });
        assert_eq!((outcome.status, outcome.pipe_held), (Status::Exited(0), held));
        assert_eq!(outcome.stdout_total, 3000);
    }
}

#[test]
fn a_background_process_does_not_hold_the_reply() {
    let mut talk = Talk { open: true, ..Talk::new() };
    let start = Instant::now();
    let outcome = sh(&mut talk, "trap '' HUP; sleep 5 & echo hi", silent);
    assert_eq!((outcome.status, talk.stdout()), (Status::Exited(0), "hi\r\n"));
    assert!(outcome.pipe_held && !outcome.timed_out);
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_command_may_close_its_terminal_and_go_on() {
    let mut talk = Talk { open: true, ..Talk::new() };
    let text = "echo up; trap 'exit 7' HUP; exec <&- >&- 2>&-; sleep 0.1; exit 5";
    let outcome = sh(&mut talk, text, silent);
    assert_eq!((outcome.status, talk.stdout()), (Status::Exited(5), "up\r\n"));
    assert!(talk.input_closed && !outcome.pipe_held);
}

#[test]
fn the_time_limit_ends_it() {
    let mut talk = Talk { open: true, ..Talk::new() };
    let limits = Limits { time: Some(A_WHILE), ..limits() };
    let outcome = talk.run(&on_terminal(&["cat"]), &limits, silent);
    assert_eq!((outcome.status, outcome.timed_out), (Status::Signaled(libc::SIGTERM), true));
}

/// What a shell runs in another group than its own.
fn ends_with_the_shell(shell: &Command<'_>, typed: &str, flow: impl Fn(&mut Talk) -> Flow) {
    let presence = Presence::new();
    let job = presence.of("trap '' HUP TERM; exec sleep 1000");
    let input = typed.replace("JOB", &format!("sh -c \"{job}\""));
    let mut talk = Talk { open: true, ..Talk::with_input(input.as_bytes()) };
    let mut begun = false;
    let start = Instant::now();
    talk.run(shell, &limits(), |talk, _| {
        if talk.input.is_empty() && !begun {
            presence.wait_for_begin();
            begun = true;
            return flow(talk);
        }
        Flow::Continue
    });
    assert!(begun && start.elapsed() < LONG, "{}", talk.stdout());
    presence.wait_for_end();
}

#[test]
fn no_job_of_a_shell_outlives_the_end() {
    for shell in interactive_shells() {
        for typed in ["JOB &\n", "JOB\n", "JOB & JOB\n"] {
            ends_with_the_shell(&shell, typed, |_| Flow::End);
        }
    }
}

#[test]
fn a_job_of_a_shell_may_use_its_grace() {
    for shell in interactive_shells() {
        let input = b"sh -c 'trap \"echo by\"\"e; exit\" TERM; echo u\"\"p; sleep 1000 & wait'\n";
        let mut talk = Talk { open: true, ..Talk::with_input(input) };
        talk.run(&shell, &limits(), |talk, _| {
            if talk.stdout().contains("up\r\n") { Flow::End } else { Flow::Continue }
        });
        assert!(talk.stdout().contains("bye\r\n"), "{}", talk.stdout());
    }
}

#[test]
fn no_job_of_a_shell_outlives_an_error() {
    for shell in interactive_shells() {
        let presence = Presence::new();
        let job = presence.of("trap '' HUP TERM; exec sleep 1000");
        let mut talk = Talk { open: true, ..Talk::new() };
        talk.input = format!("sh -c \"{job}\" &\n").into_bytes();
        let error = talk.try_run(&shell, &limits(), |talk, _| {
            if talk.input.is_empty() {
                presence.wait_for_begin();
                return Err(framefd::Error::new(framefd::ErrorKind::Canceled, "enough"));
            }
            Ok(Flow::Continue)
        });
        assert_eq!(crate::common::kind(error), framefd::ErrorKind::Canceled);
        presence.wait_for_end();
    }
}

#[test]
fn a_signal_reaches_the_job_in_the_foreground() {
    for shell in interactive_shells() {
        let input = b"sh -c 'trap \"echo g\"\"ot; exit\" INT; echo u\"\"p; sleep 5 & wait'\n";
        let mut talk = Talk { open: true, ..Talk::with_input(input) };
        let (mut signalled, mut left) = (false, false);
        let outcome = talk.run(&shell, &limits(), |talk, _| {
            if !signalled && talk.stdout().contains("up\r\n") {
                signalled = true;
                return Flow::Signal(Signal::INT);
            }
            if !left && talk.stdout().contains("got\r\n") {
                left = true;
                talk.input.extend_from_slice(b"exit 3\n");
            }
            Flow::Continue
        });
        assert_eq!(outcome.status, Status::Exited(3), "{}", talk.stdout());
        assert!(signalled && left);
    }
}
