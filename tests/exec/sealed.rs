//! Commands on sealed connections: a client that has ended its direction waits for the reply, and
//! one that was cut is gone.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use framefd::ops::exec::{self, ServeOptions, Served};
use framefd::ops::frame::{Connection, ConnectionOptions};
use framefd::wire::message::exec::OnClose;
use framefd::{ErrorKind, Result};

use crate::common::channel::{socket_pair, tcp};
use crate::common::exec::{LONG, Presence, connect, serve_next};
use crate::common::stream::{limited, shell};
use crate::common::{kind, sealing};

const FOR_EVER: Duration = Duration::from_secs(100_000);

/// Serves one command for a client, over a Unix socket and over TCP.
fn serve<T: Send>(
    options: &ServeOptions<'_>,
    client: impl Fn(Connection<'static>) -> T + Sync,
    check: impl Fn(Result<Served>, T),
) {
    let unix = socket_pair();
    let tcp = tcp();
    for (ours, theirs) in [(unix.0.into(), unix.1.into()), (tcp.0.into(), tcp.1.into())] {
        let (mut ours, mut theirs) = (owner(ours), owner(theirs));
        sealing::both(&mut ours, &mut theirs);
        thread::scope(|scope| {
            let client = scope.spawn(|| client(ours));
            let served = serve_next(&mut theirs, options);
            drop(theirs);
            check(served, client.join().unwrap());
        });
    }
}

fn owner(fd: std::os::fd::OwnedFd) -> Connection<'static> {
    Connection::new(fd, ConnectionOptions::default()).unwrap()
}

/// On TCP a close without an end mark is a FIN, as a half-close is.
#[test]
fn a_client_that_is_cut_ends_its_command_without_the_grace() {
    for stream in [true, false] {
        let presence = Presence::new();
        let command = presence.of("echo up; sleep 1000 & sleep 1000; true");
        let options = ServeOptions { close_grace: FOR_EVER, ..limited() };
        let start = Instant::now();
        let client = |mut ours: Connection<'_>| {
            if stream {
                let mut running = exec::start(&mut ours, &shell(&command), LONG).unwrap();
                assert!(running.read(&mut [0; 9], LONG).unwrap().is_some());
            } else {
                ours.send(Some(r#"{"cmd":"exec"}"#), command.as_bytes(), LONG).unwrap();
                presence.wait_for_begin();
            }
        };
        serve(&options, client, |served, ()| {
            assert_eq!(kind(served), ErrorKind::Closed, "{stream}");
            presence.wait_for_end();
        });
        assert!(start.elapsed() < LONG);
    }
}

#[test]
fn a_client_that_has_ended_its_direction_gets_the_reply() {
    for stream in [true, false] {
        let header = format!(r#"{{"cmd":"exec","stream":{stream},"id":"a"}}"#);
        let client = |mut ours: Connection<'_>| {
            ours.send(Some(&header), b"sleep 0.1; echo out", LONG).unwrap();
            ours.end(false, LONG).unwrap();
            let mut received = Vec::new();
            while let Ok(message) = ours.recv(LONG) {
                received.extend_from_slice(&message.body);
                if message.header.is_some_and(|header| header.integer("exit_code").is_ok()) {
                    return received;
                }
            }
            panic!("there is no reply");
        };
        serve(&limited(), client, |served, received| {
            assert!(matches!(served, Ok(Served::Ran(_))), "{stream}: {served:?}");
            assert_eq!(received, b"out\n");
        });
    }
}

#[test]
fn a_command_that_may_run_on_reads_what_came_before_the_cut_and_ends() {
    for (stream, input) in [(true, &b"input"[..]), (true, b""), (false, b"")] {
        let root = tempfile::tempdir().unwrap();
        let options = ServeOptions {
            on_close: OnClose::Run,
            directory: Some(root.path().to_owned()),
            ..limited()
        };
        let command = "rm -f done; echo up; cat >copy; sleep 0.1; head -c 300000 /dev/zero; \
                       mv copy done";
        let client = |mut ours: Connection<'_>| {
            let header = format!(r#"{{"cmd":"exec","stream":{stream}}}"#);
            ours.send(Some(&header), command.as_bytes(), LONG).unwrap();
            if stream {
                assert_eq!(ours.recv(LONG).unwrap().body, b"up\n");
            }
            if !input.is_empty() {
                ours.send(Some(r#"{"stream":"stdin"}"#), input, LONG).unwrap();
            }
        };
        serve(&options, client, |served, ()| {
            let error = served.unwrap_err();
            // Without a stream nobody reads what comes behind the request.
            let expected = if stream { ErrorKind::Truncated } else { ErrorKind::Io };
            assert_eq!(error.kind(), expected, "{stream}: {error}");
            assert_eq!(fs::read(root.path().join("done")).unwrap(), input);
        });
    }
}

#[test]
fn an_abort_ends_both_sides_of_a_command() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut ours, mut theirs) = (connect(ours.as_fd()), connect(theirs.as_fd()));
    sealing::both(&mut ours, &mut theirs);
    let presence = Presence::new();
    let command = presence.of("sleep 1000");
    let handle = ours.handle();
    thread::scope(|scope| {
        let server = scope.spawn(|| serve_next(&mut theirs, &limited()));
        let request = shell(&command);
        let client = scope.spawn(move || {
            let mut running = exec::start(&mut ours, &request, LONG).unwrap();
            kind(running.read(&mut [0; 9], LONG))
        });
        presence.wait_for_begin();
        handle.abort();
        assert_eq!(client.join().unwrap(), ErrorKind::Aborted);
        assert_eq!(kind(server.join().unwrap()), ErrorKind::Closed);
    });
    presence.wait_for_end();
}
