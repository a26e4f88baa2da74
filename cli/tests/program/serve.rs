//! The server.

use std::fs;
use std::process::{Child, Stdio};

use crate::host::{Host, Kind, done, eventually, kill, read_until, refused, told};

/// A server that is ended with its test.
struct Serving(Child, String);

impl Serving {
    fn new(host: &Host, words: &[&str]) -> Serving {
        let words = [&["serve", "--listen", "127.0.0.1:0"], words].concat();
        let mut child = host.framefd(&words).stderr(Stdio::null()).spawn().unwrap();
        let line = read_until(child.stdout.as_mut().unwrap(), "\n");
        let address = line.strip_prefix("listening on ").unwrap().trim().to_owned();
        Serving(child, address)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with the key of one client, who is called `me`.
fn with_keys() -> Host {
    let host = Host::new(Kind::Plain);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::create_dir(host.home().join("keys")).unwrap();
    fs::set_permissions(host.home().join("keys"), mode).unwrap();
    fs::rename(host.home().join("key"), host.home().join("keys/me")).unwrap();
    host
}

#[test]
fn it_serves_what_it_was_told_to_and_logs_it() {
    let host = with_keys();
    let words = ["--exec", "--root", "../root", "--keys", "keys", "--name", "db", "--log", "log"];
    let serving = Serving::new(&host, &words);
    let me = ["-k", "keys/me", "--id", "me", "--name", "db", &serving.1];
    let run = |command: &str| done(&mut host.framefd(&[&["run"], &me[..], &[command]].concat()));
    assert_eq!(run("echo a; exit 3"), (3, "a\n".into(), String::new()));
    // Our own environment has a home, and no name of a user.
    assert_eq!(run("test -n \"$HOME\" && test -n \"$USER\" && test -n \"$SHELL\"").0, 0);
    fs::write(host.root("f"), "content").unwrap();
    let place = format!("{}:f", serving.1);
    let words = [&["get"], &me[..6], &[&place, "-"]].concat();
    assert_eq!(done(&mut host.framefd(&words)).1, "content");
    let words = [&["put"], &me[..6], &["keys/me", &place]].concat();
    let (status, _, stderr) = done(&mut host.framefd(&words));
    assert!(status == 1 && stderr.contains("writing is off here"), "{stderr}");
    // A line may come after the reply.
    let read = || fs::read_to_string(host.home().join("log")).unwrap();
    eventually("the last line", || read().contains("\"error\":\"denied\""));
    let log = read();
    for line in [
        r#""cmd":"exec","what":"echo a; exit 3","exit_code":3"#,
        r#""cmd":"get","what":"f""#,
        r#""cmd":"put","what":"f","error":"denied""#,
    ] {
        assert!(log.contains("\"key\":\"me\",\"address\":\"127.0.0.1:"), "{log}");
        assert!(log.contains(line), "{log}");
    }
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
}

#[test]
fn new_keys_are_read_and_old_ones_end() {
    let host = with_keys();
    let serving = Serving::new(&host, &["--exec", "--keys", "keys", "--log", "log"]);
    let run = |id: &str| {
        done(&mut host.framefd(&["run", "-k", "key", "--id", id, &serving.1, "echo a"])).0
    };
    fs::rename(host.home().join("keys/me"), host.home().join("key")).unwrap();
    assert_eq!(run("me"), 0);
    fs::copy(host.home().join("key"), host.home().join("keys/you")).unwrap();
    kill(&serving.0, "-HUP");
    eventually("the new id is known", || run("you") == 0);
    assert_eq!(run("me"), 255);
    // A mistake changes nothing.
    fs::write(host.home().join("keys/bad"), "short").unwrap();
    kill(&serving.0, "-HUP");
    let log = || fs::read_to_string(host.home().join("log")).unwrap();
    eventually("it is said", || log().contains("the keys stay as they are"));
    assert_eq!(run("you"), 0);
}

#[test]
fn a_stop_answers_what_has_come() {
    let host = with_keys();
    let mut serving = Serving::new(&host, &["--exec", "--keys", "keys", "--name", "db"]);
    let words = [
        "run",
        "-k",
        "keys/me",
        "--id",
        "me",
        "--name",
        "db",
        &serving.1,
        "echo on; sleep 0.5; echo off",
    ];
    let mut client = host.framefd(&words).spawn().unwrap();
    read_until(client.stdout.as_mut().unwrap(), "on\n");
    kill(&serving.0, "-TERM");
    let output = client.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"off\n"[..]));
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_that_is_gone_is_said() {
    let host = with_keys();
    let mut serving = Serving::new(&host, &["--exec", "--keys", "keys"]);
    let words = ["run", "-k", "keys/me", "--id", "me", &serving.1, "echo on; exec sleep 60"];
    let mut client = host.framefd(&words).spawn().unwrap();
    read_until(client.stdout.as_mut().unwrap(), "on\n");
    serving.0.kill().unwrap();
    let (status, _, stderr) = told(&client.wait_with_output().unwrap());
    assert!(status == 255 && stderr.ends_with("the connection is lost: try again\n"), "{stderr}");
}

/// A log that nobody reads does not hold it up, and neither do closed descriptors.
#[test]
fn nobody_has_to_read_its_log() {
    let host = with_keys();
    let words = ["serve", "--listen", "127.0.0.1:0", "--exec", "--keys", "keys"];
    let mut child = host.framefd(&words).spawn().unwrap();
    let line = read_until(child.stdout.as_mut().unwrap(), "\n");
    let address = line.trim().strip_prefix("listening on ").unwrap();
    let long = format!("true {}", "\\".repeat(40_000));
    for _ in 0..40 {
        let words = ["run", "-k", "keys/me", "--id", "me", address, &long];
        assert_eq!(done(&mut host.framefd(&words)).0, 0);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let socket = host.home().join("socket");
    let code = format!(
        "exec \"$0\" serve --listen 'unix:{}' --exec --plain <&- >&- 2>&-",
        socket.display()
    );
    let mut shell = std::process::Command::new("sh");
    let mut child = shell.args(["-c", &code, env!("CARGO_BIN_EXE_framefd")]).spawn().unwrap();
    eventually("it listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let address = format!("unix:{}", socket.display());
    let words = ["run", "--plain", &address, "cat; echo a; echo b >&2"];
    assert_eq!(done(&mut host.framefd(&words)), (0, "a\n".into(), "b\n".into()));
    kill(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_would_serve_too_much_or_nothing_is_refused() {
    let host = with_keys();
    let serve =
        |words: &[&str]| host.framefd(&[&["serve", "--listen", "127.0.0.1:0"], words].concat());
    refused(&mut serve(&["--keys", "keys"]), "nothing to serve: give --exec, or --root");
    refused(&mut serve(&["--exec"]), "no key: give -k FILE or --keys DIRECTORY, or --plain");
    refused(&mut serve(&["--exec", "-k", "none"]), "none");
    refused(&mut serve(&["--root", "none", "--plain"]), "--root none: No such file or directory");
    refused(
        &mut host.framefd(&["serve", "--exec", "--plain"]),
        "nowhere to serve: give --listen ADDRESS, --stdio or --dial ADDRESS, or start it from a",
    );
    let wide = ["serve", "--listen", "0.0.0.0:0", "--exec", "--plain"];
    refused(&mut host.framefd(&wide), "beyond this machine a server needs a key");
    let serving = Serving::new(&host, &["--exec", "--plain"]);
    assert_eq!(done(&mut host.framefd(&["run", "--plain", &serving.1, "echo a"])).1, "a\n");
    let again = ["serve", "--listen", &serving.1, "--exec", "--plain"];
    refused(&mut host.framefd(&again), "is another program listening there?");
    for (address, advice) in [
        ("127.0.0.1", "it has no port; write host:port, [::1]:port, unix:/path or vsock:"),
        ("none.invalid:7000", "; is "),
        ("192.0.2.1:7000", "; has this machine that address?"),
        ("unix:/no/such/socket", "; is its directory there?"),
    ] {
        refused(&mut host.framefd(&["serve", "--listen", address, "--exec", "--plain"]), advice);
    }
}
