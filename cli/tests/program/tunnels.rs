//! Sealed connections for programs that know none.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use crate::host::{Host, Kind, done, eventually, kill, pattern, read_until, refused, told};

/// A forward that is ended with its test.
struct Forward(Child, String);

impl Forward {
    fn new(host: &Host, words: &[&str]) -> Forward {
        let mut child = host.framefd(&[&["forward"], words].concat()).spawn().unwrap();
        let line = read_until(child.stdout.as_mut().unwrap(), "\n");
        let address = line.strip_prefix("listening on ").unwrap().trim().to_owned();
        Forward(child, address)
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.1).unwrap()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both ends of a tunnel to this port: a listener of plain connections.
fn tunnel(host: &Host, listener: &TcpListener) -> (Forward, Forward) {
    let to = listener.local_addr().unwrap().to_string();
    let words = ["--from-sealed", "-k", "key", "--name", "db", "127.0.0.1:0", &to];
    let from = Forward::new(host, &words);
    let to = Forward::new(host, &["-k", "key", "--name", "db", "127.0.0.1:0", &from.1]);
    (to, from)
}

/// Answers each connection with what it has sent, once it has ended.
fn echo(listener: &TcpListener) {
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut all = Vec::new();
                if socket.read_to_end(&mut all).is_ok() {
                    let _ = socket.write_all(&all);
                }
            });
        }
    });
}

#[test]
fn bytes_and_ends_go_through_in_both_directions() {
    let host = Host::new(Kind::Sealed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    echo(&listener);
    let (to, _from) = tunnel(&host, &listener);
    // Many at once, each with a half-close before its answer.
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let mut socket = to.connect();
            std::thread::spawn(move || {
                let sent = pattern(100_000 * n);
                socket.write_all(&sent).unwrap();
                socket.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                socket.read_to_end(&mut got).unwrap();
                assert!(got == sent, "{} of {}", got.len(), sent.len());
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn the_other_side_may_end_first_and_a_cut_is_no_end() {
    let host = Host::new(Kind::Sealed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to, from) = tunnel(&host, &listener);
    let mut client = to.connect();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"bye").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"bye");
    client.write_all(b"still here").unwrap();
    drop(client);
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"still here");
    // The tunnel's middle is killed.
    let mut client = to.connect();
    client.write_all(b"a").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.read_exact(&mut [0]).unwrap();
    drop(from);
    let cut = client.read(&mut [0]).unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset);
    // Nobody behind it.
    let error = to.connect().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_after_a_half_close_is_passed_on() {
    let host = Host::new(Kind::Sealed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to, _from) = tunnel(&host, &listener);
    let client = to.connect();
    let (mut server, _) = listener.accept().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    eventually("the reset is passed on", || server.take_error().unwrap().is_some());
}

#[test]
fn a_peer_that_does_not_read_loses_nothing() {
    let host = Host::new(Kind::Sealed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to, _from) = tunnel(&host, &listener);
    let mut client = to.connect();
    let (mut server, _) = listener.accept().unwrap();
    let sent = pattern(30_000_000);
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        server.write_all(&copy).unwrap();
        // The other direction goes on meanwhile.
        server
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    client.write_all(b"x").unwrap();
    let mut got = vec![0; sent.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == sent);
    writing.join().unwrap().read_exact(&mut [0]).unwrap();
}

#[test]
fn a_stop_waits_for_connections_and_the_second_does_not() {
    let host = Host::new(Kind::Sealed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    echo(&listener);
    let (mut to, _from) = tunnel(&host, &listener);
    let mut client = to.connect();
    client.write_all(b"a").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    kill(&to.0, "-TERM");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(to.0.try_wait().unwrap().is_none(), "it waits");
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"a");
    assert_eq!(to.0.wait().unwrap().code(), Some(0));
}

#[test]
fn strangers_and_mistakes_are_refused() {
    let host = Host::new(Kind::Sealed);
    framefd::auth::generate(&host.home().join("other")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_to, from) = tunnel(&host, &listener);
    let mut stranger = TcpStream::connect(&from.1).unwrap();
    stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    // Closed without a byte, and never passed on.
    assert!(matches!(stranger.read(&mut [0]), Ok(0) | Err(_)));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    refused(
        &mut host.framefd(&["pipe", "-k", "other", "--name", "db", &from.1]),
        "does it have this key (-k)",
    );
    refused(&mut host.framefd(&["pipe", "--plain", &from.1]), "give -k FILE, and no --plain");
    refused(
        &mut host.framefd(&["forward", "-k", "key", "0.0.0.0:0", "a:1"]),
        "whoever reaches it would use your key",
    );
    refused(
        &mut host.framefd(&["forward", "--from-sealed", "127.0.0.1:0", "a:1"]),
        "no key: give -k FILE or --keys",
    );
    refused(
        &mut host.framefd(&["forward", "-k", "key", &from.1, "a:1"]),
        "is another program listening there?",
    );
}

#[test]
fn a_pipe_is_the_connection() {
    let host = Host::new(Kind::Sealed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    echo(&listener);
    let (_to, from) = tunnel(&host, &listener);
    let words = ["pipe", "-k", "key", "--name", "db", &from.1];
    let sent = pattern(5_000_000);
    let mut child = host.framefd(&words).stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, copy) = (child.stdin.take().unwrap(), sent.clone());
    let writing = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.stdout == sent && output.status.success());
    assert_eq!(done(&mut host.framefd(&words)), (0, String::new(), String::new()));
    // It carries the library's own messages to a sealed server.
    let words = ["pipe", "-k", "key", "--id", "me", "--name", "db", &host.address];
    let mut child = host.framefd(&words).stdin(Stdio::piped()).spawn().unwrap();
    let request = br#"{"cmd":"exec","data_size":7}"#;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&u32::try_from(request.len()).unwrap().to_le_bytes()).unwrap();
    stdin.write_all(&[&request[..], b"echo it"].concat()).unwrap();
    let reply = read_until(child.stdout.as_mut().unwrap(), "it\n");
    assert!(reply.contains("\"exit_code\":0"), "{reply}");
    drop(stdin);
    assert_eq!(told(&child.wait_with_output().unwrap()).0, 0);
    // Nobody reads it.
    let mut child = host.framefd(&words).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert!(status == 141 && stderr.contains("nobody reads it any more"), "{status} {stderr}");
}
