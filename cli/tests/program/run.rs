//! Commands at one host.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::host::{Host, Kind, content_of, done, done_with, eventually, kill, read_until, refused};
use crate::host::{pattern, told};

#[test]
fn output_and_status_are_the_commands() {
    let host = Host::new(Kind::Sealed);
    let run = |command| done(&mut host.with_key(&["run", "{}", command]));
    assert_eq!(run("echo a; echo b >&2; exit 7"), (7, "a\n".into(), "b\n".into()));
    assert_eq!(run("kill -9 $$"), (137, String::new(), String::new()));
    assert_eq!(run("exit 255"), (255, String::new(), String::new()));
    assert_eq!(run(" "), (0, String::new(), String::new()));
    let merged = done(&mut host.with_key(&["run", "--merge", "{}", "echo a; echo b >&2; echo c"]));
    assert_eq!(merged, (0, "a\nb\nc\n".into(), String::new()));
}

#[test]
fn a_program_gets_its_arguments_as_they_are() {
    let host = Host::new(Kind::Sealed);
    let words = ["run", "{}", "--", "printf", "%s|", "a b", "$HOME", "", "--", "-k"];
    assert_eq!(done(&mut host.with_key(&words)).1, "a b|$HOME||--|-k|");
    let mut command = host.with_key(&["run", "{}", "--", "printf", "%s"]);
    let output = command.arg(OsStr::from_bytes(b"\xff'\n")).output().unwrap();
    assert_eq!(output.stdout, b"\xff'\n");
    let mut command = host.with_key(&["run", "{}"]);
    let output = command.arg(OsStr::from_bytes(b"printf '\xfe'")).output().unwrap();
    assert_eq!(output.stdout, b"\xfe");
}

#[test]
fn its_surroundings_are_chosen() {
    let host = Host::new(Kind::Sealed);
    let words = ["run", "--cwd", "/usr", "--env", "A=1=2", "--env", "B=", "{}", "pwd; echo $A,$B,"];
    assert_eq!(done(&mut host.with_key(&words)).1, "/usr\n1=2,,\n");
    let (status, _, stderr) =
        done(&mut host.with_key(&["run", "--timeout", "0.2", "{}", "exec sleep 60"]));
    assert!(status == 143 && stderr.contains("its time was up"), "{status} {stderr}");
}

#[test]
fn input_is_streamed() {
    let host = Host::new(Kind::Sealed);
    let input = pattern(3_000_000);
    let words = ["run", "{}", "cat; echo end >&2"];
    let mut child = host.with_key(&words).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let copy = input.clone();
    let writing = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.stdout == input && output.stderr == b"end\n");
    // It comes before the input has ended, and a command need not read it.
    let mut child = host.with_key(&["run", "{}", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(read_until(child.stdout.as_mut().unwrap(), "\n"), "one\n");
    drop(stdin);
    assert_eq!(told(&child.wait_with_output().unwrap()).0, 0);
    assert_eq!(done_with(&mut host.with_key(&["run", "{}", "true"]), &input).0, 0);
    // A loop of a shell keeps its lines.
    let left = done_with(&mut host.with_key(&["run", "-n", "{}", "cat"]), b"lines");
    assert_eq!(left, (0, String::new(), String::new()));
    std::fs::write(host.home().join("in"), "from a file").unwrap();
    let words = ["run", "--input", "in", "{}", "cat"];
    assert_eq!(done_with(&mut host.with_key(&words), b"not this").1, "from a file");
}

#[test]
fn a_signal_goes_to_the_command_and_the_second_one_ends_it() {
    let host = Host::new(Kind::Sealed);
    for (signal, name) in [("-INT", "INT"), ("-TERM", "TERM"), ("-HUP", "HUP")] {
        let code =
            format!("trap 'echo {name}; exit 9' {name}; echo on; while :; do sleep 0.05; done");
        let mut child = host.with_key(&["run", "{}", &code]).spawn().unwrap();
        read_until(child.stdout.as_mut().unwrap(), "on\n");
        kill(&child, signal);
        let (status, stdout, _) = told(&child.wait_with_output().unwrap());
        assert_eq!((status, stdout), (9, format!("{name}\n")));
    }
    let pid = host.home().join("pid");
    let code =
        format!("trap : INT; echo $$ > '{}'; echo on; while :; do sleep 0.05; done", pid.display());
    let mut child = host.with_key(&["run", "{}", &code]).spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), "on\n");
    kill(&child, "-INT");
    std::thread::sleep(Duration::from_millis(200));
    kill(&child, "-INT");
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert!(status == 130 && stderr.contains("interrupted"), "{status} {stderr}");
    let pid = content_of(&pid).trim().to_owned();
    eventually("the command has ended", || !std::path::Path::new("/proc").join(&pid).exists());
}

/// What Ctrl-C does to most commands: it ends them.
#[test]
fn one_signal_is_enough_for_a_command_that_does_not_catch_it() {
    let host = Host::new(Kind::Sealed);
    let pid = host.home().join("pid");
    let code = format!("echo $$ > '{}'; echo on; exec sleep 600", pid.display());
    let mut child = host.with_key(&["run", "{}", &code]).spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), "on\n");
    kill(&child, "-INT");
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert_eq!((status, stderr.as_str()), (130, ""));
    let process = format!("/proc/{}", content_of(&pid).trim());
    eventually("the command has ended", || !std::path::Path::new(&process).exists());
}

/// Ctrl-Z for a while, and on.
#[test]
fn a_stop_loses_nothing() {
    let host = Host::new(Kind::Sealed);
    let code = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    let mut child = host.with_key(&["run", "{}", code]).spawn().unwrap();
    let mut seen = read_until(child.stdout.as_mut().unwrap(), "100\n");
    kill(&child, "-STOP");
    std::thread::sleep(Duration::from_millis(500));
    kill(&child, "-CONT");
    let (status, stdout, _) = told(&child.wait_with_output().unwrap());
    seen += &stdout;
    let lines: Vec<String> = (0..20_000).map(|line| line.to_string()).collect();
    assert!(status == 0 && seen == lines.join("\n") + "\n", "{} bytes", seen.len());
}

/// In a pipe of a shell, as it is typed; the command does not know of it.
#[test]
fn head_ends_it() {
    let host = Host::new(Kind::Sealed);
    host.usual();
    std::fs::write(host.root("big"), vec![b'\n'; 3_000_000]).unwrap();
    for line in [
        "framefd run web 'yes' | head -1 | grep -q y",
        "framefd run --hosts web,web 'yes' | head -1 | grep -q 'web: y'",
        "framefd ssh web 'yes' | head -1 | grep -q y",
        "framefd get web:big - | head -1 | grep -q ''",
    ] {
        let code = format!("{line}; echo \"${{PIPESTATUS[0]}} $?\"");
        let code = code.replace("framefd", &format!("'{}'", env!("CARGO_BIN_EXE_framefd")));
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &code]).env("HOME", host.home());
        let (_, stdout, stderr) = done(&mut shell);
        assert_eq!(stdout, "141 0\n", "{line}: {stderr}");
        assert_eq!(stderr.matches('\n').count(), 1, "{line}: {stderr}");
    }
    // SIGPIPE is what it usually is for the command.
    let run = |command| done(&mut host.with_key(&["run", "{}", command]));
    assert_eq!(run("grep SigIgn: /proc/self/status").1, "SigIgn:\t0000000000000000\n");
}

#[test]
fn without_an_environment_it_works_as_well() {
    let host = Host::new(Kind::Sealed);
    let run = host.with_key(&["run", "{}", "echo a"]);
    let mut env = std::process::Command::new("env");
    env.arg("-i").arg(run.get_program()).args(run.get_args()).current_dir(host.home());
    assert_eq!(done(&mut env), (0, "a\n".into(), String::new()));
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let host = Host::new(Kind::Sealed);
    let run = host.with_key(&["run", "{}", "echo on; sleep 0.5; echo off"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", r#"trap "" INT HUP; exec "$@""#, "sh"]).arg(run.get_program());
    shell.args(run.get_args()).current_dir(host.home()).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), "on\n");
    kill(&child, "-INT");
    kill(&child, "-HUP");
    assert_eq!(told(&child.wait_with_output().unwrap()).1, "off\n");
}

#[test]
fn nobody_reads_or_there_is_no_room() {
    let host = Host::new(Kind::Sealed);
    let mut child = host.with_key(&["run", "{}", "yes"]).spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), "y\ny\n");
    drop(child.stdout.take());
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert!(status == 141 && stderr.contains("nobody reads it any more"), "{status} {stderr}");
    assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    refused(host.with_key(&["run", "{}", "echo a"]).stdout(full()), "No space left on device");
    refused(host.framefd(&["--help"]).stdout(full()), "standard output: No space left on device");
    // Nobody to tell it to.
    let output = host.with_key(&["run", "{}", "echo a; exit 3"]).stderr(full()).output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"a\n"[..]));
}

#[test]
fn closed_descriptors_hurt_nobody() {
    let host = Host::new(Kind::Sealed);
    let run = host.with_key(&["run", "{}", "cat; echo a; echo b >&2; exit 5"]);
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!(r#"exec "$@" {closed}"#), "sh"]).arg(run.get_program());
        let output = shell.args(run.get_args()).current_dir(host.home()).output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{closed}");
        if !closed.contains('>') {
            assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"a\n"[..], &b"b\n"[..]));
        }
    }
}

#[test]
fn a_large_output_meets_a_slow_reader() {
    let host = Host::new(Kind::Sealed);
    let words = ["run", "{}", "head -c 40000000 /dev/zero"];
    let begin = Instant::now();
    let child = host.with_key(&words).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 40_000_000));
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn plain_hosts_are_for_those_who_ask_for_them() {
    let plain = Host::new(Kind::Plain);
    let words = ["run", "--plain", &plain.address, "echo a"];
    assert_eq!(done(&mut plain.framefd(&words)).1, "a\n");
    let with_key = Host::new(Kind::PlainWithKey);
    let words = ["run", "--plain", "-k", "key", &with_key.address, "echo a"];
    assert_eq!(done(&mut with_key.framefd(&words)).1, "a\n");
}
