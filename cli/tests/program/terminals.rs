//! On a terminal.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use crate::host::{Host, Kind, read_until, told};

/// A shell line on a terminal of its own.
fn on_terminal(host: &Host, line: &str) -> Child {
    host.usual();
    let line = line.replace("framefd", &format!("'{}'", env!("CARGO_BIN_EXE_framefd")));
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty rows 33 cols 77; {line}"), "/dev/null"]);
    script.env_clear().env("HOME", host.home()).env("TERM", "vt100").env("SHELL", "/bin/sh");
    script.env("PATH", "/usr/bin:/bin");
    script.current_dir(host.home()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_shell_has_a_terminal_like_ours() {
    let host = Host::new(Kind::Sealed);
    let mut child = on_terminal(&host, "framefd shell web; echo status $?; stty -a");
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.as_mut().unwrap());
    // What is typed is echoed once, by the other side.
    stdin.write_all(b"stty size; echo $TERM; echo re''ady\n").unwrap();
    let seen = read_until(stdout, "ready\r\n");
    assert!(seen.contains("33 77\r\nvt100\r\n"), "{seen}");
    // Ctrl-C goes to what runs in the shell, not to the program.
    stdin.write_all(b"trap 'echo go''t' INT; echo o''n; read x\n").unwrap();
    read_until(stdout, "on\r\n");
    stdin.write_all(b"\x03").unwrap();
    read_until(stdout, "got\r\n");
    stdin.write_all(b"\nexit 3\n").unwrap();
    let seen = read_until(stdout, "status 3\r\n");
    assert!(!seen.contains("framefd:"), "{seen}");
    // The terminal is as it was.
    let (_, stdout, _) = told(&child.wait_with_output().unwrap());
    assert!(
        stdout.contains(" icanon ") && stdout.contains(" echo ") && stdout.contains("\nopost "),
        "{stdout}"
    );
}

#[test]
fn a_new_size_is_passed_on() {
    let host = Host::new(Kind::Sealed);
    let line = "(sleep 0.4; stty rows 50 cols 99) </dev/tty & framefd run --tty web \
                'trap \"stty size; exit\" WINCH; echo on; while :; do sleep 0.05; done'";
    let mut child = on_terminal(&host, line);
    let stdin = child.stdin.take();
    read_until(child.stdout.as_mut().unwrap(), "50 99\r\n");
    drop(stdin);
    child.wait().unwrap();
}

#[test]
fn what_is_typed_is_not_the_input_of_run() {
    let host = Host::new(Kind::Sealed);
    let mut child =
        on_terminal(&host, "framefd run web 'cat; echo end'; read line; echo \"had $line\"");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"typed\n").unwrap();
    let seen = read_until(child.stdout.as_mut().unwrap(), "had typed\r\n");
    assert!(seen.contains("end\r\n"), "{seen}");
    drop(stdin);
    child.wait().unwrap();
}
