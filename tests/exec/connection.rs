//! Commands on a connection: behind messages that were read ahead, one after the other,
//! resumed, given up and interrupted.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::channel::{fill, socket_pair, unread};
use crate::common::exec::{LONG, Presence, connect, next_header, serve_next};
use crate::common::stream::{limited, shell, shell_with};
use crate::common::{encoded, kind, sealing};
use framefd::ops::exec::{self, Reply, Request, Served, Stream};
use framefd::ops::frame::{Connection, ConnectionOptions};
use framefd::wire::message::exec::ExecRequest;
use framefd::{ErrorKind, Result};

/// Long enough for a thread to have begun to wait.
const SHORT: Duration = Duration::from_millis(200);

/// A client, and a server that serves until the client is gone; what the client made of it,
/// and how the server ended.
fn with_server<T>(client: impl FnOnce(&mut Connection<'_>) -> T) -> (T, ErrorKind) {
    let (ours, theirs) = socket_pair();
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let mut connection = connect(theirs.as_fd());
            if sealing::are_sealed() {
                sealing::server(&mut connection);
            }
            loop {
                if let Err(error) = serve_next(&mut connection, &limited()) {
                    return error.kind();
                }
            }
        });
        let mut connection = connect(ours.as_fd());
        if sealing::are_sealed() {
            sealing::client(&mut connection);
        }
        let outcome = client(&mut connection);
        drop(connection);
        drop(ours);
        (outcome, server.join().unwrap())
    })
}

/// A number in the next message.
fn integer(connection: &mut Connection<'_>, key: &str) -> i64 {
    next_header(connection).unwrap().integer(key).unwrap()
}

fn call(connection: &mut Connection<'_>, command: &str) -> Result<Reply> {
    exec::call(connection, &shell(command), LONG)
}

/// All of a command's standard output.
fn streamed(connection: &mut Connection<'_>, command: &str, input: &[u8]) -> Vec<u8> {
    let mut remote = exec::start(connection, &shell(command), LONG).unwrap();
    let (mut output, mut buf, mut given) = (Vec::new(), [0; 5000], 0);
    while given < input.len() {
        match remote.write(&input[given..], LONG).unwrap() {
            0 => {
                let (stream, got) = remote.read(&mut buf, LONG).unwrap().unwrap();
                assert_eq!(stream, Stream::Stdout);
                output.extend_from_slice(&buf[..got]);
            }
            taken => given += taken,
        }
    }
    remote.end_input(LONG).unwrap();
    while let Some((_, got)) = remote.read(&mut buf, LONG).unwrap() {
        output.extend_from_slice(&buf[..got]);
    }
    assert_eq!(remote.reply().unwrap().exit_code, Some(0));
    output
}

#[test]
fn commands_streams_and_messages_follow_each_other() {
    let large = vec![b'x'; 1 << 20];
    let ((), end) = with_server(|connection| {
        assert_eq!(call(connection, "printf first").unwrap().stdout(), b"first");
        assert!(streamed(connection, "cat", &large) == large);
        let input = Request { input: &large, ..shell("wc -c") };
        let reply = exec::call(connection, &input, LONG).unwrap();
        assert_eq!(reply.stdout(), b"1048576\n");
        assert_eq!(streamed(connection, "printf here; true", b""), b"here");
        assert_eq!(call(connection, "printf last").unwrap().stdout(), b"last");
        assert!(connection.state().broken.is_none());
    });
    assert_eq!(end, sealing::closed());
}

#[test]
fn a_command_behind_messages_that_were_read_ahead() {
    let (ours, theirs) = socket_pair();
    let mut bytes = encoded(r#"{"cmd":"other","data_size":3}"#, b"abc");
    let request = br"cat; cat >&2";
    let header = format!(r#"{{"cmd":"exec","stream":true,"data_size":{}}}"#, request.len());
    bytes.extend(encoded(&header, request));
    bytes.extend(encoded(r#"{"stream":"stdin","data_size":5}"#, b"input"));
    bytes.extend(encoded(r#"{"stream":"stdin","eof":true}"#, b""));
    (&ours).write_all(&bytes).unwrap();
    let mut server = connect(theirs.as_fd());
    assert_eq!(server.recv(LONG).unwrap().body, b"abc");
    assert_eq!(unread(&theirs), 0, "all of it was read ahead");
    // The client does not close, so that nothing wakes a wait that ought not to be.
    assert!(matches!(serve_next(&mut server, &limited()), Ok(Served::Ran(_))));
    let mut client = connect(ours.as_fd());
    assert_eq!(client.recv(LONG).unwrap().body, b"input");
    assert_eq!(integer(&mut client, "exit_code"), 0);
}

#[test]
fn a_reply_that_came_with_others_is_read_from_the_buffer() {
    let (ours, theirs) = socket_pair();
    let mut bytes = encoded(r#"{"news":1}"#, b"");
    for frame in [
        encoded(r#"{"stream":"stdout","id":"~1","data_size":3}"#, b"out"),
        encoded(r#"{"stream":"stdout","id":"~1"}"#, b""),
        encoded(r#"{"id":"~1","exit_code":0,"stdout_total":3,"stderr_total":0}"#, b""),
        encoded(r#"{"news":2}"#, b""),
    ] {
        bytes.extend(frame);
    }
    (&theirs).write_all(&bytes).unwrap();
    let mut client = connect(ours.as_fd());
    assert_eq!(integer(&mut client, "news"), 1);
    assert_eq!(unread(&ours), 0);
    assert_eq!(streamed(&mut client, "x", b""), b"out");
    assert_eq!(integer(&mut client, "news"), 2);
}

#[test]
fn a_call_that_timed_out_does_not_leave_its_reply_to_the_next() {
    let ((), _) = with_server(|connection| {
        let first = exec::call(connection, &shell("sleep 0.5; echo FIRST"), SHORT);
        assert_eq!(kind(first), ErrorKind::TimedOut);
        thread::sleep(2 * SHORT);
        assert_eq!(kind(call(connection, "echo SECOND")), ErrorKind::Broken);
        assert_eq!(connection.state().broken.unwrap().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_reply_to_something_else_breaks_the_connection() {
    for reply in [
        r#"{"id":"~2","exit_code":0}"#,
        r#"{"id":1,"exit_code":0}"#,
        r#"{"stream":"stdout","id":"~2"}"#,
        r#"{"status":"error","code":"busy","id":"~2"}"#,
    ] {
        for streams in [false, true] {
            let (ours, theirs) = socket_pair();
            let mut client = connect(ours.as_fd());
            (&theirs).write_all(&encoded(reply, b"")).unwrap();
            let outcome = if streams {
                let mut remote = exec::start(&mut client, &shell("x"), LONG).unwrap();
                remote.read(&mut [0], LONG).map(drop)
            } else {
                call(&mut client, "x").map(drop)
            };
            assert_eq!(kind(outcome), ErrorKind::BadReply, "{reply}");
            assert_eq!(kind(call(&mut client, "x")), ErrorKind::Broken);
        }
    }
}

#[test]
fn after_a_reply_with_an_id_none_without_counts() {
    let (ours, theirs) = socket_pair();
    let mut client = connect(ours.as_fd());
    (&theirs).write_all(&encoded(r#"{"id":"~1","exit_code":0}"#, b"")).unwrap();
    call(&mut client, "x").unwrap();
    (&theirs).write_all(&encoded(r#"{"exit_code":0}"#, b"")).unwrap();
    assert_eq!(kind(call(&mut client, "x")), ErrorKind::BadReply);
}

#[test]
fn a_refusal_leaves_the_connection_in_sync() {
    let ((), end) = with_server(|connection| {
        for _ in 0..2 {
            assert_eq!(kind(call(connection, "")), ErrorKind::RemoteBadRequest);
            let mut remote = exec::start(connection, &shell(""), LONG).unwrap();
            assert_eq!(kind(remote.read(&mut [0], LONG)), ErrorKind::RemoteBadRequest);
            drop(remote);
            assert_eq!(call(connection, "printf on").unwrap().stdout(), b"on");
        }
    });
    assert_eq!(end, sealing::closed());
}

/// Whatever refuses it, input and a signal behind the request are not taken for requests.
#[test]
fn a_refused_stream_whose_input_was_sent_leaves_the_connection_in_sync() {
    let nowhere = ExecRequest { cwd: Some("/nowhere".into()), ..Default::default() };
    for (request, refusal) in [
        (shell(""), ErrorKind::RemoteBadRequest),
        (shell_with("cat", nowhere), ErrorKind::RemoteSpawnFailed),
    ] {
        let ((), end) = with_server(|connection| {
            let mut remote = exec::start(connection, &request, LONG).unwrap();
            remote.write(b"input", LONG).unwrap();
            remote.handle().signal(libc::SIGINT).unwrap();
            remote.end_input(LONG).unwrap();
            assert_eq!(kind(remote.read(&mut [0], LONG)), refusal);
            drop(remote);
            assert_eq!(call(connection, "printf on").unwrap().stdout(), b"on");
        });
        assert_eq!(end, sealing::closed());
    }
}

#[test]
fn a_server_without_commands_drops_the_input_of_a_stream_that_it_refuses() {
    let (ours, theirs) = socket_pair();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut server = connect(theirs.as_fd());
            while let Ok((header, _)) = server.recv_header(LONG) {
                let request = header.header().to_owned();
                if request.contains("news") {
                    server.reply(&request, None, b"", LONG).unwrap();
                } else {
                    let unsupported = ErrorKind::Unsupported;
                    server.reply_error(&request, unsupported, None, LONG).unwrap();
                }
            }
        });
        let mut client = connect(ours.as_fd());
        let mut remote = exec::start(&mut client, &shell("cat"), LONG).unwrap();
        remote.write(b"input", LONG).unwrap();
        assert_eq!(kind(remote.read(&mut [0], LONG)), ErrorKind::RemoteUnsupported);
        drop(remote);
        client.call(r#"{"cmd":"news"}"#, b"", LONG).unwrap();
        drop(client);
        drop(ours);
    });
}

#[test]
fn a_request_that_is_not_sent_breaks_nothing() {
    let ((), _) = with_server(|connection| {
        let zero = exec::call(connection, &shell("true"), Duration::ZERO);
        assert_eq!(kind(zero), ErrorKind::Argument);
        let mut both = shell("true");
        both.options.argv = Some(vec!["true".into()]);
        assert_eq!(kind(exec::call(connection, &both, LONG)), ErrorKind::Argument);
        assert_eq!(kind(exec::start(connection, &both, LONG).map(drop)), ErrorKind::Argument);
        call(connection, "true").unwrap();
    });
    // One that finds no room has not been accepted, and can be made again.
    let (ours, _theirs) = socket_pair();
    fill(&ours);
    let mut client = connect(ours.as_fd());
    assert_eq!(kind(exec::call(&mut client, &shell("true"), SHORT)), ErrorKind::TimedOut);
    assert!(client.state().broken.is_none());
}

#[test]
fn a_command_that_is_given_up_breaks_the_connection_and_ends() {
    let presence = Presence::new();
    let ((), end) = with_server(|connection| {
        let command = presence.of("sleep 1000");
        let remote = exec::start(connection, &shell(&command), LONG).unwrap();
        presence.wait_for_begin();
        drop(remote);
        assert_eq!(kind(call(connection, "true")), ErrorKind::Broken);
    });
    assert_eq!(end, ErrorKind::Closed);
    presence.wait_for_end();
}

#[test]
fn output_that_is_not_wanted_is_dropped() {
    let ((), _) = with_server(|connection| {
        let command = shell("head -c 1000000 /dev/zero; echo end >&2; exit 7");
        let mut remote = exec::start(connection, &command, LONG).unwrap();
        let reply = remote.finish(LONG).unwrap();
        assert_eq!((reply.exit_code, reply.stdout_total), (Some(7), Some(1_000_000)));
        drop(remote);
        assert_eq!(call(connection, "printf on").unwrap().stdout(), b"on");
    });
}

/// Makes a call that does not wait until it has an answer.
fn until<T>(mut attempt: impl FnMut() -> Result<T>) -> T {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                assert!(begin.elapsed() < LONG);
                thread::sleep(Duration::from_millis(1));
            }
            outcome => return outcome.unwrap(),
        }
    }
}

#[test]
fn every_call_of_a_stream_can_be_made_again() {
    const NOT: Duration = Duration::ZERO;
    let ((), _) = with_server(|connection| {
        let input = vec![b'x'; 3 << 20];
        let mut remote = exec::start(connection, &shell("cat"), NOT).unwrap();
        let (mut given, mut received, mut buf) = (0, 0, vec![0; 70_000]);
        while received < input.len() {
            if given < input.len() {
                match remote.write(&input[given..], NOT) {
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                    Ok(taken) => given += taken,
                }
            } else if let Err(error) = remote.end_input(NOT) {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
            }
            match remote.read(&mut buf, NOT) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                Ok(got) => received += got.unwrap().1,
            }
        }
        assert_eq!(until(|| remote.read(&mut buf, NOT)), None);
        drop(remote);
        assert_eq!(call(connection, "printf on").unwrap().stdout(), b"on");
    });
}

/// A connection whose waits end once `stop` is set.
fn interruptible<'fd>(fd: &'fd UnixStream, stop: &Arc<AtomicBool>) -> Connection<'fd> {
    let stop = Arc::clone(stop);
    let interrupted = Box::new(move || {
        if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let options =
        ConnectionOptions { interrupted: Some(interrupted), ..ConnectionOptions::default() };
    Connection::new(fd.as_fd(), options).unwrap()
}

#[test]
fn a_hook_interrupts_a_stream_which_goes_on_afterwards() {
    let (ours, theirs) = socket_pair();
    let stop = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(|| serve_next(&mut connect(theirs.as_fd()), &limited()));
        let mut client = interruptible(&ours, &stop);
        let command = shell("trap 'echo caught; exit 3' INT; while :; do sleep 0.01; done");
        let mut remote = exec::start(&mut client, &command, LONG).unwrap();
        assert_eq!(kind(remote.read(&mut [0], SHORT)), ErrorKind::TimedOut);
        stop.store(true, Ordering::SeqCst);
        assert_eq!(kind(remote.read(&mut [0], LONG)), ErrorKind::Canceled);
        stop.store(false, Ordering::SeqCst);
        remote.handle().signal(libc::SIGINT).unwrap();
        let mut buf = [0; 10];
        assert_eq!(remote.read(&mut buf, LONG).unwrap(), Some((Stream::Stdout, 7)));
        assert_eq!(remote.finish(LONG).unwrap().exit_code, Some(3));
        assert!(matches!(server.join().unwrap(), Ok(Served::Ran(_))));
    });
}

#[test]
fn a_hook_ends_a_call_and_what_a_server_runs() {
    let presence = Presence::new();
    let (ours, theirs) = socket_pair();
    let stop = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let ran = scope.spawn(|| serve_next(&mut interruptible(&theirs, &stop), &limited()));
        let called = scope.spawn(|| {
            let mut client = interruptible(&ours, &stop);
            let outcome = call(&mut client, &presence.of("trap '' TERM; sleep 1000"));
            (kind(outcome), kind(call(&mut client, "true")))
        });
        presence.wait_for_begin();
        stop.store(true, Ordering::SeqCst);
        assert_eq!(kind(ran.join().unwrap()), ErrorKind::Canceled);
        presence.wait_for_end();
        assert_eq!(called.join().unwrap(), (ErrorKind::Canceled, ErrorKind::Broken));
    });
}

#[test]
fn an_abort_ends_a_call_and_what_a_server_runs() {
    for aborts_server in [false, true] {
        let presence = Presence::new();
        let (ours, theirs) = socket_pair();
        let (mut client, mut server) = (connect(ours.as_fd()), connect(theirs.as_fd()));
        let handle = if aborts_server { server.handle() } else { client.handle() };
        thread::scope(|scope| {
            let ran = scope.spawn(|| serve_next(&mut server, &limited()));
            let called =
                scope.spawn(|| call(&mut client, &presence.of("trap '' TERM; sleep 1000")));
            presence.wait_for_begin();
            let begin = Instant::now();
            handle.abort();
            let mine = if aborts_server { ran.join().map(kind) } else { called.join().map(kind) };
            assert_eq!(mine.unwrap(), ErrorKind::Aborted);
            assert!(begin.elapsed() < LONG / 4);
        });
        presence.wait_for_end();
    }
}

#[test]
fn input_that_comes_too_late_is_dropped_by_the_connection() {
    let (ours, theirs) = socket_pair();
    let mut server = connect(theirs.as_fd());
    let exec =
        |stream| encoded(&format!(r#"{{"cmd":"exec","stream":{stream},"data_size":4}}"#), b"true");
    (&ours).write_all(&exec(true)).unwrap();
    assert!(matches!(serve_next(&mut server, &limited()), Ok(Served::Ran(_))));
    for late in [
        encoded(r#"{"stream":"stdin","data_size":3}"#, b"abc"),
        encoded(r#"{"signal":"INT"}"#, b""),
        encoded(r#"{"resize":{"rows":1,"columns":2}}"#, b""),
        encoded(r#"{"stream":"stdin","eof":true}"#, b""),
        exec(false),
        encoded(r#"{"signal":"INT"}"#, b""),
    ] {
        (&ours).write_all(&late).unwrap();
    }
    assert!(matches!(serve_next(&mut server, &limited()), Ok(Served::Ran(_))));
    // Once the client has gone on, what it sends is not for a command of before.
    assert_eq!(next_header(&mut server).unwrap().string("signal").unwrap(), "INT");
}

#[test]
fn the_end_of_a_command_may_be_anywhere_in_a_frame_for_it() {
    for frame in [
        encoded(r#"{"stream":"stdin","eof":true}"#, b""),
        encoded(r#"{"stream":"stdin","eof":true,"data_size":3}"#, b"abc"),
        encoded(r#"{"signal":"INT"}"#, b""),
    ] {
        let (ours, theirs) = socket_pair();
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut server = connect(theirs.as_fd());
                while serve_next(&mut server, &limited()).is_ok() {}
            });
            let mut client = connect(ours.as_fd());
            for cut in 0..frame.len() {
                let (before, after) = frame.split_at(cut);
                let exec = encoded(r#"{"cmd":"exec","stream":true,"data_size":4}"#, b"true");
                (&ours).write_all(&[&exec, before].concat()).unwrap();
                assert_eq!(integer(&mut client, "exit_code"), 0, "{cut}");
                (&ours).write_all(after).unwrap();
            }
            assert_eq!(call(&mut client, "echo on").unwrap().stdout(), b"on\n");
            drop(client);
            rustix::net::shutdown(&ours, rustix::net::Shutdown::Write).unwrap();
            server.join().unwrap();
        });
    }
}
