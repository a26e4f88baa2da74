//! The server as others start it: systemd, inetd, a shell.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use framefd::auth::{KeyId, Rules, Terms};
use framefd::exec::{self, Request};
use framefd::frame::{Connection, ConnectionOptions};

use crate::host::{Host, Kind, done, eventually, kill, read_until, refused};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framefd");

/// The other program, with our socket as its standard input and output.
fn on_socket(host: &Host, words: &[&str]) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let mut command = host.framefd(words);
    // As inetd does it.
    for copy in [Command::stdout, Command::stderr] {
        copy(&mut command, Stdio::from(theirs.try_clone().unwrap()));
    }
    (command.stdin(Stdio::from(theirs)).spawn().unwrap(), ours)
}

fn echo(connection: &mut Connection<'static>, command: &str) -> Vec<u8> {
    let request = Request { command: command.as_bytes(), ..Request::default() };
    exec::call(connection, &request, None).unwrap().stdout().to_vec()
}

#[test]
fn one_connection_on_standard_input_is_served_to_its_end() {
    let host = Host::new(Kind::Sealed);
    let words = ["serve", "--stdio", "--exec", "-k", "key", "--log", "log"];
    let (mut child, ours) = on_socket(&host, &words);
    let mut connection =
        Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
    let key = framefd::auth::load(&host.home().join("key"), Rules::default()).unwrap();
    let (id, terms) = (KeyId::default(), Terms::default());
    connection.seal_client(&key, &id, &terms, None, std::time::Duration::from_secs(20)).unwrap();
    // A command that writes to the three of the server's would break the connection.
    assert_eq!(echo(&mut connection, "echo a; cat; echo b >&2"), b"a\n");
    assert_eq!(echo(&mut connection, "ls -l /proc/self/fd | grep -c socket"), b"0\n");
    drop(connection);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(fs::read_to_string(host.home().join("log")).unwrap().contains("echo a; cat"));
}

#[test]
fn a_stop_ends_the_one_connection_and_mistakes_are_not_sent_to_the_peer() {
    let host = Host::new(Kind::Plain);
    let (mut child, ours) = on_socket(&host, &["serve", "--stdio", "--exec", "--plain"]);
    let mut connection =
        Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
    assert_eq!(echo(&mut connection, "echo a"), b"a\n");
    kill(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (mut child, mut ours) = on_socket(&host, &["serve", "--stdio", "--exec"]);
    assert_eq!(child.wait().unwrap().code(), Some(255));
    let mut got = String::new();
    std::io::Read::read_to_string(&mut ours, &mut got).unwrap();
    assert_eq!(got, "");
    let words = ["serve", "--stdio", "--exec", "--plain"];
    refused(&mut host.framefd(&words), "standard input is no connected socket: it is for inetd");
    let words = ["serve", "--stdio", "--listen", "127.0.0.1:0", "--exec", "--plain"];
    refused(&mut host.framefd(&words), "cannot be used with");
}

/// The program with a socket as descriptor 3, and what systemd says of it.
fn activated(host: &Host, socket: OwnedFd, variables: &str, words: &str) -> Command {
    let code = format!("exec 3<&0 0</dev/null; {variables} exec {PROGRAM} serve {words}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &code]).env_clear().current_dir(host.home());
    shell.stdin(Stdio::from(socket)).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

#[test]
fn the_sockets_of_systemd_are_listened_on() {
    let host = Host::new(Kind::Plain);
    let path = host.home().join("socket");
    let address = format!("unix:{}", path.display());
    let listener = UnixListener::bind(&path).unwrap();
    let socket = || OwnedFd::from(listener.try_clone().unwrap());
    let manager = UnixDatagram::bind(host.home().join("manager")).unwrap();
    let variables = "LISTEN_FDS=1 LISTEN_PID=$$ NOTIFY_SOCKET=$PWD/manager";
    let mut child = activated(&host, socket(), variables, "--exec --plain").spawn().unwrap();
    let line = read_until(child.stdout.as_mut().unwrap(), "\n");
    assert_eq!(line, format!("listening on {address}\n"));
    let run = |command: &str| done(&mut host.framefd(&["run", "--plain", &address, command]));
    assert_eq!(run("echo a").1, "a\n");
    assert_eq!(run("ls /proc/self/fd | wc -l; env | grep -c LISTEN").1, "4\n0\n");
    let mut told = [0; 100];
    let len = manager.recv(&mut told).unwrap();
    assert_eq!(&told[..len], b"READY=1");
    kill(&child, "-TERM");
    let len = manager.recv(&mut told).unwrap();
    assert_eq!(&told[..len], b"STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let refused = |socket: OwnedFd, variables: &str, why: &str| {
        let words = "--exec --plain";
        crate::host::refused(&mut activated(&host, socket, variables, words), why);
    };
    // Those of somebody else.
    refused(socket(), "LISTEN_FDS=1 LISTEN_PID=1", "nowhere to serve: give --listen");
    refused(socket(), "LISTEN_FDS=1", "nowhere to serve: give --listen");
    refused(socket(), "LISTEN_FDS=2 LISTEN_PID=$$", "socket 4 of LISTEN_FDS: it is not open");
    refused(socket(), "LISTEN_FDS=1001 LISTEN_PID=$$", "more sockets than 1000");
    let (one, _other) = UnixStream::pair().unwrap();
    let why = "socket 3 of LISTEN_FDS: it does not listen: a unit with Accept=yes needs";
    refused(one.into(), "LISTEN_FDS=1 LISTEN_PID=$$", why);
    let file = fs::File::open("/dev/null").unwrap();
    refused(
        file.into(),
        "LISTEN_FDS=1 LISTEN_PID=$$",
        "socket 3 of LISTEN_FDS: it is not a socket",
    );
}

#[test]
fn systemd_itself_starts_it() {
    let host = Host::new(Kind::Plain);
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        return println!("skipped: systemd-socket-activate is not installed");
    }
    for (kind, words) in [(&[][..], &[][..]), (&["--accept", "--inetd"], &["--stdio"])] {
        let path = host.home().join(format!("socket{}", kind.len()));
        let mut activate = Command::new("systemd-socket-activate");
        activate.args(kind).arg("--listen").arg(&path).args([PROGRAM, "serve", "--exec"]);
        activate.arg("--plain").args(words).current_dir(host.home());
        activate.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = activate.spawn().unwrap();
        // Its name is there before it listens.
        eventually("it listens", || UnixStream::connect(&path).is_ok());
        let address = format!("unix:{}", path.display());
        for _ in 0..2 {
            let words = ["run", "--plain", &address, "echo a"];
            assert_eq!(done(&mut host.framefd(&words)), (0, "a\n".into(), String::new()));
        }
        kill(&child, "-TERM");
        child.wait().unwrap();
    }
}
