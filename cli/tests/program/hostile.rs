//! Hosts that lie, and hosts that say nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use framefd::frame::{self, Header};

use crate::host::{Host, Kind, done, eventually, kill, read_until, told};

/// A plain host that answers each request with the bytes that `answer` has for it, or not at all;
/// its address.
pub fn liar(answer: impl Fn(&str, &Header) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, answer) = (socket.unwrap(), std::sync::Arc::clone(&answer));
            std::thread::spawn(move || {
                while let Ok(request) = frame::recv(socket.as_fd(), &frame::Options::default()) {
                    // Input for a command has none.
                    let Ok(cmd) = request.header.string("cmd") else { continue };
                    if socket.write_all(&answer(&cmd, &request.header)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn silent() -> String {
    liar(|_, _| Vec::new())
}

/// A frame that repeats the id of a request.
pub fn reply(request: &Header, keys: &str, body: &[u8]) -> Vec<u8> {
    let id = request.string("id").unwrap();
    let header = format!(r#"{{"id":"{id}","data_size":{},{keys}}}"#, body.len());
    let mut bytes = u32::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn refusal(request: &Header, message: &str) -> Vec<u8> {
    let keys = format!(r#""status":"error","code":"io","message":"{message}""#);
    reply(request, &keys, b"")
}

/// The keys of a reply to a stat.
const DIRECTORY: &str = r#""status":"ok","kind":"dir","size":0,"mode":"0755","mtime":0"#;

fn entry(name: &str, rest: &str) -> String {
    format!(r#"{{"name":"{name}","size":3,"mode":"0644","mtime":0,{rest}}}"#)
}

/// What these hosts are called by a user; each is plain.
pub fn known(host: &Host, addresses: &[&str]) {
    let entries: Vec<String> = addresses
        .iter()
        .enumerate()
        .map(|(n, address)| format!("[h{n}]\naddress = '{address}'\nplain = true\n"))
        .collect();
    host.known(&entries.concat());
}

/// Nothing that a terminal or a reader of lines would take for something else.
#[track_caller]
fn assert_harmless(text: &str) {
    let is_bad =
        |letter: char| letter != '\n' && letter.is_control() || "\u{202e}\u{200b}".contains(letter);
    assert!(!text.contains(is_bad), "{text:?}");
}

#[test]
fn what_a_host_says_and_what_it_calls_its_files_is_one_line_and_text() {
    let host = Host::new(Kind::Plain);
    let evil = r"\u001b]0;x\u0007\u001b[2J\r\n\u009b2J\u202e\u200bframefd: all is well";
    let refuses = liar(move |_, request| refusal(request, evil));
    let lists = liar(move |cmd, request| {
        let names = format!("[{}]", entry(evil, r#""kind":"file""#));
        let body = if cmd == "stat" { "" } else { &names };
        let keys = if cmd == "stat" { DIRECTORY } else { r#""status":"ok""# };
        reply(request, keys, body.as_bytes())
    });
    known(&host, &[&refuses, &lists]);
    fs::create_dir(host.home().join("dir")).unwrap();
    for words in [
        &["run", "h0", "true"][..],
        &["run", "--hosts", "h0", "true"],
        &["shell", "h0"],
        &["ssh", "h0", "true"],
        &["put", "key", "h0:a"],
        &["put", "-r", "dir", "h0:a"],
        &["get", "h0:a", "b"],
        &["get", "-r", "h0:a", "b"],
        &["ls", "h0:"],
        &["stat", "h0:a"],
        &["mkdir", "h0:a"],
        &["sync", "dir", "h0:a"],
        &["sync", "h0:a", "b"],
    ] {
        let (status, stdout, stderr) = done(&mut host.framefd(words));
        assert!(status != 0 && stderr.contains(r"\u{1b}[2J\r\n\u{9b}2J\u{202e}"), "{stderr}");
        let lines = if words[1] == "--hosts" { 2 } else { 1 };
        assert_eq!((stderr.matches('\n').count(), stdout.as_str()), (lines, ""), "{stderr}");
        assert_harmless(&stderr);
    }
    for words in [&["ls", "h1:"][..], &["get", "-r", "h1:a", "c"], &["sync", "-v", "h1:a", "d"]] {
        let (_, stdout, stderr) = done(&mut host.framefd(words));
        assert!(format!("{stdout}{stderr}").contains("[2J"), "{stdout}{stderr}");
        assert_harmless(&stdout);
        assert_harmless(&stderr);
    }
}

/// What a host reports is not what went wrong here.
#[test]
fn a_host_cannot_blame_our_own_descriptors() {
    let host = Host::new(Kind::Plain);
    known(&host, &[&liar(|_, request| refusal(request, "standard output: Broken pipe"))]);
    let (status, _, stderr) = done(&mut host.framefd(&["run", "h0", "true"]));
    assert_eq!(status, 255);
    assert!(stderr.starts_with("framefd: h0: "), "{stderr}");
}

/// On a terminal one of many hosts cannot write the lines of another.
#[test]
fn on_a_terminal_the_output_of_many_is_text() {
    let host = Host::new(Kind::Plain);
    known(&host, &[&host.address, &host.address]);
    let code = r"printf 'a\tb\033[1A\rh1: forged\r\n\033[2J'; printf 'c\033[0m\n' >&2";
    let words = ["run", "--hosts", "h0", code];
    let line = format!("'{}' run --hosts h0 \"$CODE\"", env!("CARGO_BIN_EXE_framefd"));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("HOME", host.home()).env("CODE", code);
    let (_, stdout, _) = done(script.stdin(Stdio::null()));
    let stdout = stdout.replace("\r\n", "\n");
    for line in ["h0: a\tb\\x1b[1A\\x0dh1: forged\n", "h0: \\x1b[2J\n", "h0: c\\x1b[0m\n"] {
        assert!(stdout.contains(line), "{stdout:?}");
    }
    assert!(!stdout.contains(['\x1b', '\r']), "{stdout:?}");
    // A file gets what the host has written.
    let (_, stdout, _) = done(&mut host.framefd(&words));
    assert_eq!(stdout, "h0: a\tb\x1b[1A\rh1: forged\r\nh0: \x1b[2J\n");
}

#[test]
fn no_host_writes_outside_of_what_it_was_asked_for() {
    let host = Host::new(Kind::Plain);
    let outside = host.home().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "mine").unwrap();
    let names = [
        (r#""..""#, "dir"),
        (r#""../outside/f""#, "file"),
        (r#""/tmp/f""#, "file"),
        (r#""a/../../outside/f""#, "file"),
        (r#""link""#, "dir"),
        (r#""leaf""#, "file"),
        (r#""out","target":"../outside""#, "symlink"),
        (r#""out","target":"/etc""#, "symlink"),
    ];
    for (name, kind) in names {
        let list =
            format!(r#"[{{"name":{name},"size":3,"mode":"0777","mtime":0,"kind":"{kind}"}}]"#);
        let inner = r#"[{"name":"f","size":3,"mode":"0777","mtime":0,"kind":"file"}]"#;
        let address = liar(move |cmd, request| match cmd {
            "stat" => reply(request, DIRECTORY, b""),
            "list" if request.string("filename").unwrap() == "a" => {
                reply(request, r#""status":"ok""#, list.as_bytes())
            }
            "list" => reply(request, r#""status":"ok""#, inner.as_bytes()),
            _ => reply(request, r#""status":"ok","filesize":3,"mode":"0777""#, b"bad"),
        });
        known(&host, &[&address]);
        for words in [
            &["get", "-r", "--links", "copy", "h0:a", "to"][..],
            &["get", "-r", "--links", "copy", "--resume", "h0:a", "to"],
            &["sync", "h0:a", "to"],
            &["sync", "--delete", "--checksum", "h0:a", "to"],
        ] {
            let to = host.home().join("to");
            let _ = fs::remove_dir_all(&to);
            fs::create_dir(&to).unwrap();
            std::os::unix::fs::symlink("../outside", to.join("link")).unwrap();
            std::os::unix::fs::symlink("../outside/f", to.join("leaf")).unwrap();
            let (_, stdout, stderr) = done(&mut host.framefd(words));
            let found: Vec<_> = fs::read_dir(&outside).unwrap().collect();
            assert_eq!((found.len(), fs::read(outside.join("f")).unwrap()), (1, b"mine".to_vec()));
            let there = fs::read_dir(host.home()).unwrap().count();
            assert_eq!(there, 4, "{name}: {stdout}{stderr}");
            assert!(!to.join("out").exists(), "{name}");
        }
    }
}

#[test]
fn a_host_that_does_not_end_a_command_is_given_up() {
    let host = Host::new(Kind::Plain);
    known(&host, &[&silent(), &host.address]);
    let mut one = host.framefd(&["run", "--timeout", "0.1", "h0", "true"]).spawn().unwrap();
    let many = host.framefd(&["run", "--timeout", "0.1", "--hosts", "h0,h1", "true"]).spawn();
    drop(one.stdin.take());
    let why = "h0: no word that the command was ended when its time was up (--timeout): the \
               connection was closed\n";
    let (status, _, stderr) = told(&one.wait_with_output().unwrap());
    assert_eq!((status, stderr), (255, format!("framefd: {why}")));
    let (status, _, stderr) = told(&many.unwrap().wait_with_output().unwrap());
    let summary = "framefd: hosts: 2, succeeded: 1, not run: 1 (h0)\n";
    assert_eq!((status, stderr), (255, format!("framefd: {why}{summary}")));
}

#[test]
fn ctrl_c_leaves_a_host_that_says_nothing() {
    let host = Host::new(Kind::Plain);
    known(&host, &[&silent(), &host.address]);
    for (words, summary) in [
        (&["run", "h0", "true"][..], "interrupted: the connection was closed"),
        (&["run", "--hosts", "h1,h0", "echo on"], "succeeded: 1, not run: 1 (h0)"),
    ] {
        let mut child = host.framefd(words).spawn().unwrap();
        if words[1] == "--hosts" {
            read_until(child.stdout.as_mut().unwrap(), "on\n");
        }
        // The first one goes to the command, once it is there to be told.
        let id = child.id();
        let catches = || {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << 1 != 0
        };
        eventually("it catches the signal", catches);
        while child.try_wait().unwrap().is_none() {
            kill(&child, "-INT");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let (status, _, stderr) = told(&child.wait_with_output().unwrap());
        // The first one may have gone to h1 while the end of its command was on its way.
        let ended = status == 255 && stderr.contains("failed: 1 (h1: 130), not run: 1 (h0)");
        assert!(status == 130 && stderr.contains(summary) || ended, "{status} {stderr}");
    }
    // A get that cannot even connect: a listener whose queue is full.
    let socket = host.home().join("deaf");
    let deaf = UnixListener::bind(&socket).unwrap();
    rustix::net::listen(&deaf, 0).unwrap();
    let _first = UnixStream::connect(&socket).unwrap();
    let place = format!("unix:{}:a", socket.display());
    let mut child = host.framefd(&["get", "--plain", &place]).spawn().unwrap();
    let descriptors = format!("/proc/{}/fd", child.id());
    eventually("it connects", || {
        let links = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        let mut targets = links.filter_map(|link| link.path().read_link().ok());
        targets.any(|target| target.as_os_str().as_bytes().starts_with(b"socket:"))
    });
    kill(&child, "-INT");
    assert_eq!(child.wait().unwrap().signal(), Some(2));
}

/// A terminal of a host that is gone.
#[test]
fn a_tilde_and_a_dot_leave_a_host_that_says_nothing() {
    let host = Host::new(Kind::Plain);
    known(&host, &[&silent()]);
    let line = format!("'{}' shell h0; stty -a", env!("CARGO_BIN_EXE_framefd"));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("HOME", host.home());
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // What comes before it is raw is typed into the terminal, and read like all else.
    stdin.write_all(b"echo\r~.").unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.wait().unwrap();
    assert!(stdout.contains("h0: closed: Enter ~ . was typed"), "{stdout}");
    assert!(stdout.contains(" icanon ") && stdout.contains(" echo "), "{stdout}");
}

/// Those who prove nothing keep nobody out.
#[test]
fn strangers_do_not_fill_a_forward() {
    let host = Host::new(Kind::Sealed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let words = ["-k", "key", "--max", "70", "--connect-timeout", "60", "127.0.0.1:0"];
    let words = [&["forward", "--from-sealed"], &words[..], &[&to]].concat();
    let mut forward = host.framefd(&words).spawn().unwrap();
    let line = read_until(forward.stdout.as_mut().unwrap(), "\n");
    let address = line.trim().strip_prefix("listening on ").unwrap();
    let mut strangers: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut pipe = host.framefd(&["pipe", "-k", "key", address]).spawn().unwrap();
    let (mut good, _) = listener.accept().unwrap();
    good.write_all(b"good\n").unwrap();
    assert_eq!(read_until(pipe.stdout.as_mut().unwrap(), "\n"), "good\n");
    // The oldest one was closed for it.
    assert!(matches!(strangers[0].read(&mut [0]), Ok(0) | Err(_)));
    for mut child in [pipe, forward] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
