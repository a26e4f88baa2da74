//! What goes into a running command and comes out of it, and when.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use crate::common::exec::LONG;
use crate::common::pattern;
use crate::common::process::alone;
use crate::common::run::{Cue, Talk, limits, silent};
use framefd::io::deadline::Deadline;
use framefd::io::process::child::Status;
use framefd::ops::exec::{Command, Flow, Limits, Stdio};
use rustix::process::Signal;

const A_WHILE: Duration = Duration::from_millis(100);

#[test]
fn input_goes_in_while_output_comes_out() {
    let bytes = pattern(10 << 20);
    // The output first, the input first, and both at once.
    for (command, before) in
        [("head -c 3000000 /dev/zero; cat", 3_000_000), ("sleep 0.1; cat", 0), ("cat", 0)]
    {
        let mut talk = Talk::with_input(&bytes);
        let outcome = talk.shell(command, &limits(), silent);
        assert_eq!((outcome.status, talk.ended), (Status::Exited(0), 1));
        assert!(talk.input.is_empty() && !talk.input_closed);
        assert_eq!(outcome.stdout_total, talk.output[0].len() as u64);
        assert!(talk.output[0][before..] == bytes, "{command}");
    }
}

#[test]
fn input_that_is_not_read_is_no_error() {
    alone("flow::input_that_is_not_read_is_no_error", || {
        // SAFETY: the default action is an end of this process, which would be seen.
        assert_ne!(unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) }, libc::SIG_ERR);
        for (command, expected) in
            [("true", ""), ("head -c1", "x"), ("exec <&-; sleep 0.1; echo on", "on\n")]
        {
            let mut talk = Talk::with_input(&vec![b'x'; 10 << 20]);
            talk.open = true;
            let outcome = talk.shell(command, &limits(), silent);
            assert_eq!((outcome.status, talk.stdout()), (Status::Exited(0), expected));
            assert!(!talk.input.is_empty());
        }
    });
}

#[test]
fn a_command_that_reads_no_more_is_noticed_without_anything_to_give_it() {
    for input in [b"".as_slice(), b"x"] {
        let mut talk = Talk::with_input(input);
        talk.open = true;
        // The end of its output is what the script waits for, to have the command end.
        let outcome =
            talk.shell("exec <&-; sleep 0.1; echo on; sleep 1000", &limits(), |talk, _| {
                if talk.input_closed { Flow::End } else { Flow::Continue }
            });
        assert_eq!(outcome.status, Status::Signaled(libc::SIGTERM));
        assert!(talk.input_closed && !outcome.timed_out);
    }
}

#[test]
fn input_may_come_later_and_ends() {
    let mut talk = Talk::with_input(b"one\n");
    talk.open = true;
    let outcome = talk.shell("while read line; do echo got $line; done", &limits(), |talk, _| {
        match talk.stdout() {
            "got one\n" => talk.input.extend_from_slice(b"two\n"),
            _ => talk.open = false,
        }
        Flow::Continue
    });
    assert_eq!((outcome.status, talk.stdout()), (Status::Exited(0), "got one\ngot two\n"));
    assert!(!talk.input_closed);
}

#[test]
fn a_command_without_input_reads_none() {
    let mut talk = Talk::with_input(b"never asked for");
    let command = Command::shell(b"cat; readlink /proc/self/fd/0");
    let outcome = talk.run(&command, &limits(), silent);
    assert_eq!((outcome.status, talk.stdout()), (Status::Exited(0), "/dev/null\n"));
}

#[test]
fn merged_outputs_come_in_order() {
    let merged = Stdio::Pipes { input: false, merge: true };
    let text = "for i in $(seq 2000); do echo o; echo e >&2; done; exec >&-; echo last >&2";
    let command = Command { stdio: merged, ..Command::shell(text.as_bytes()) };
    let mut talk = Talk::new();
    let outcome = talk.run(&command, &limits(), silent);
    let expected = "o\ne\n".repeat(2000) + "last\n";
    assert!(talk.stdout() == expected && talk.output[1].is_empty());
    assert_eq!((outcome.stdout_total, outcome.stderr_total), (expected.len() as u64, 0));
}

#[test]
fn a_command_whose_output_is_not_taken_has_to_wait() {
    let mut talk = Talk::new();
    let (mut pauses, mut seen) = (0, 0);
    let outcome = talk.shell("yes", &limits(), |talk, cue| {
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
    assert!(matches!(outcome.status, Status::Signaled(_)) && !outcome.timed_out);
    // Five times what a pipe holds at most: nowhere else was anything kept.
    assert!(outcome.stdout_total <= 5 << 20, "{}", outcome.stdout_total);
}

#[test]
fn the_time_limit_holds_while_output_is_not_taken() {
    let mut talk = Talk { deaf: true, ..Talk::new() };
    let limits = Limits { time: Some(A_WHILE), ..Limits::default() };
    let outcome = talk.shell("echo first; exec yes", &limits, |talk, cue| {
        talk.deaf &= cue != Cue::Ended;
        Flow::Continue
    });
    assert!(outcome.timed_out && !outcome.pipe_held);
    assert_eq!(outcome.status, Status::Signaled(libc::SIGTERM));
    assert!(talk.stdout().starts_with("first\ny\n"));
}

#[test]
fn nothing_is_lost_for_output_that_is_taken_late() {
    // Something holds the pipe open, or nothing does.
    for (command, held) in [
        ("sleep 5 & head -c 60000 /dev/zero; echo err >&2", true),
        ("head -c 60000 /dev/zero; echo err >&2", false),
    ] {
        for drain_grace in [Duration::ZERO, Duration::from_millis(50)] {
            let mut talk = Talk { deaf: true, ..Talk::new() };
            let limits = Limits { drain_grace, ..limits() };
            let outcome = talk.shell(command, &limits, |talk, cue| {
                match cue {
                    Cue::Ended => talk.wake = Deadline::after(A_WHILE),
                    Cue::Woken => talk.deaf = false,
                    // In between it is not taken again.
                    Cue::Output(_) => {
                        (talk.deaf, talk.wake) = (true, Deadline::after(A_WHILE));
                    }
                }
                Flow::Continue
            });
            assert_eq!((outcome.status, outcome.pipe_held), (Status::Exited(0), held));
            assert_eq!(talk.output.map(|output| output.len()), [60_000, 4], "{command}");
        }
    }
}

#[test]
fn what_others_write_is_not_lost_either_while_the_grace_lasts() {
    let mut talk = Talk { deaf: true, ..Talk::new() };
    let limits = Limits { drain_grace: A_WHILE, ..limits() };
    // More than a pipe holds.
    let outcome = talk.shell("head -c 200000 /dev/zero &", &limits, |talk, cue| {
        match cue {
            Cue::Ended => talk.wake = Deadline::after(2 * A_WHILE),
            Cue::Woken => talk.deaf = false,
            Cue::Output(_) => {}
        }
        Flow::Continue
    });
    assert_eq!((outcome.status, outcome.pipe_held), (Status::Exited(0), false));
    assert_eq!(outcome.stdout_total, 200_000);
}

#[test]
fn a_pause_of_the_output_does_not_make_a_held_pipe_last() {
    let mut talk = Talk { deaf: true, ..Talk::new() };
    let a_moment = Duration::from_millis(5);
    let limits = Limits { drain_grace: a_moment, ..limits() };
    // There is always something to be read, and always somebody who is slow.
    let start = Instant::now();
    let outcome = talk.shell("yes & exit 3", &limits, |talk, cue| {
        talk.output[0].clear();
        talk.deaf = cue != Cue::Woken;
        talk.wake = Deadline::after(a_moment);
        Flow::Continue
    });
    assert_eq!((outcome.status, outcome.pipe_held), (Status::Exited(3), true));
    assert!(start.elapsed() < LONG);
}

#[test]
fn a_signal_reaches_the_whole_group() {
    let wait = "trap 'kill $! 2>/dev/null; echo $name; exit 7' USR1; sleep 1000 & echo up; wait";
    let command = format!("(name=one; {wait}) & (name=two; {wait}) & name=three; {wait}");
    let mut talk = Talk::new();
    let mut sent = false;
    let outcome = talk.shell(&command, &limits(), |talk, _| {
        if talk.stdout().matches("up").count() == 3 && !sent {
            sent = true;
            return Flow::Signal(Signal::USR1);
        }
        Flow::Continue
    });
    let mut lines: Vec<&str> = talk.stdout().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "three", "two", "up", "up", "up"]);
    assert_eq!(outcome.status, Status::Exited(7));
}

#[test]
fn a_signal_can_stop_a_command_and_let_it_go_on() {
    for stop in [Signal::STOP, Signal::TSTP] {
        let mut talk = Talk { open: true, ..Talk::new() };
        let command = "echo up; read line; echo $line";
        let outcome = talk.shell(command, &limits(), |talk, cue| match cue {
            Cue::Output(_) if talk.stdout() == "up\n" => {
                talk.input.extend_from_slice(b"on\n");
                talk.wake = Deadline::after(A_WHILE);
                Flow::Signal(stop)
            }
            Cue::Woken => {
                assert_eq!(talk.stdout(), "up\n");
                Flow::Signal(Signal::CONT)
            }
            _ => Flow::Continue,
        });
        assert_eq!((outcome.status, talk.stdout()), (Status::Exited(0), "up\non\n"));
    }
}
