//! Streamed commands: output as it comes, input, signals.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::common::channel::{Kind, set_blocking, socket_pair, tcp, unread};
use crate::common::exec::{LONG, Presence, ask, connect, serve, serve_next};
use crate::common::process::{alone, peak_memory};
use crate::common::stream::{
    Remote, drop_late_input, duplexes, finish, json_of, limited, read_all, read_until, recv, send,
    serving, shell, shell_with, start,
};
use crate::common::{encoded, kind, pattern, sealing};
use framefd::io::process::spawn::Confinement;
use framefd::ops::exec::OnOutputLimit;
use framefd::ops::exec::{self, Choice, Inquiry, Request, ServeOptions, Served};
use framefd::wire::message::exec::{ExecRequest, Outcome, Tty};
use framefd::{Duplex, Error, ErrorKind};
use serde_json::json;

#[test]
fn output_comes_as_it_is_written_and_then_the_reply() {
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell("echo one; read x; echo $x >&2; exit 3"));
        assert!(remote.reply().is_none());
        read_until(&mut remote, "one\n");
        assert_eq!(remote.write(b"two\n", Some(LONG)).unwrap(), 4);
        remote.end_input(Some(LONG)).unwrap();
        let (stdout, stderr, reply) = finish(&mut remote);
        assert_eq!((&*stdout, &*stderr), ("", "two\n"));
        assert_eq!((reply.outcome(), reply.exit_code), (Outcome::Exited, Some(3)));
        assert_eq!((reply.stdout_total, reply.stderr_total), (Some(4), Some(4)));
        assert_eq!((reply.stdout_size, reply.stderr_size), (Some(0), Some(0)));
    });
    assert!(matches!(ran.unwrap(), Served::Ran(report) if !report.client_gone));
}

#[test]
fn every_kind_of_connection_carries_a_stream() {
    let exchange = |client: Duplex<'_>, server: Duplex<'_>| {
        let (ran, ()) = serving(server, &limited(), || {
            let mut remote = start(client, &shell("head -c 300000 /dev/zero; cat; echo end >&2"));
            let all = vec![b'x'; 200_000];
            let mut input = &all[..];
            let mut outputs = [Vec::new(), Vec::new()];
            let mut buf = vec![0; 5000];
            loop {
                match remote.write(input, Some(LONG)).unwrap() {
                    0 if input.is_empty() => break,
                    0 => {
                        let got = remote.read(&mut buf, Some(LONG)).unwrap();
                        let (stream, got) = got.unwrap();
                        outputs[stream as usize].extend_from_slice(&buf[..got]);
                    }
                    taken => input = &input[taken..],
                }
            }
            remote.end_input(Some(LONG)).unwrap();
            let [stdout, stderr] = read_all(&mut remote).unwrap();
            outputs[0].extend(stdout);
            assert_eq!((outputs[0].len(), &*stderr), (500_000, b"end\n".as_slice()));
        });
        assert!(matches!(ran.unwrap(), Served::Ran(_)));
    };
    for blocking in [true, false] {
        let (client, server) = socket_pair();
        set_blocking(&client, blocking);
        set_blocking(&server, blocking);
        exchange(client.as_fd().into(), server.as_fd().into());
        let (client, server) = tcp();
        set_blocking(&client, blocking);
        set_blocking(&server, blocking);
        exchange(client.as_fd().into(), server.as_fd().into());
        for [there, back] in [[Kind::Pipe; 2], [Kind::ToTerminal, Kind::FromTerminal]] {
            let channels = [there.open(), back.open()];
            for channel in &channels {
                set_blocking(&channel.reader, blocking);
                set_blocking(&channel.writer, blocking);
            }
            let (client, server) = duplexes(&channels[0], &channels[1]);
            exchange(client, server);
        }
    }
}

#[test]
fn input_ends_with_a_frame_and_the_command_may_go_on() {
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell("cat; echo end"));
        assert_eq!(remote.write(b"abc", Some(LONG)).unwrap(), 3);
        read_until(&mut remote, "abc");
        remote.end_input(Some(LONG)).unwrap();
        remote.end_input(Some(LONG)).unwrap();
        assert_eq!(kind(remote.write(b"x", Some(LONG))), ErrorKind::State);
        assert_eq!(finish(&mut remote).0, "end\n");
        assert_eq!(remote.read(&mut [0], None).unwrap(), None, "it is told again");
        assert_eq!(kind(remote.write(b"x", Some(LONG))), ErrorKind::State);
        remote.end_input(Some(LONG)).unwrap();
    });
    ran.unwrap();
}

#[test]
fn input_that_the_command_does_not_read_is_no_error() {
    if sealing::leaves_out(sealing::ROOM) {
        return;
    }
    // What reads none of it, stops in the middle, or closes it and runs on.
    for (command, expected) in
        [("true", ""), ("head -c 3", "xxx"), ("exec <&-; sleep 0.1; echo on", "on\n")]
    {
        let (client, server) = socket_pair();
        let server: Duplex<'_> = server.as_fd().into();
        thread::scope(|scope| {
            scope.spawn(|| {
                let client = client;
                let mut remote = start(client.as_fd().into(), &shell(command));
                let piece = vec![b'x'; 1 << 20];
                // 0 says that output waits, or that the command has ended.
                while remote.write(&piece, Some(LONG)).unwrap() > 0 {}
                let (stdout, _, reply) = finish(&mut remote);
                assert_eq!((&*stdout, reply.exit_code), (expected, Some(0)));
                assert_eq!(remote.write(b"x", Some(LONG)).unwrap(), 0);
                send(client.as_fd().into(), &json!({"cmd": "exec"}), b"printf here");
                assert_eq!(recv(client.as_fd().into()).body, b"here");
            });
            let mut connection = connect(server);
            let ran = serve_next(&mut connection, &limited());
            assert!(matches!(ran, Ok(Served::Ran(_))), "{command}");
            // The client may be in the middle of a frame; it has to get rid of it.
            serve_next(&mut connection, &limited()).unwrap();
        });
    }
}

/// What is there is whole frames.
fn drop_all_late_input(server: &impl AsFd) {
    while unread(server) > 0 {
        drop_late_input(server);
    }
}

#[test]
fn input_that_goes_along_is_all_there_is() {
    let large = vec![b'x'; 3 << 20];
    for input in [b"".as_slice(), b"abc", &large] {
        let (client, server) = socket_pair();
        let client = client.as_fd().into();
        let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
            let options =
                ExecRequest { stdin_size: Some(input.len() as u64), ..ExecRequest::default() };
            let mut remote = start(client, &Request { input, ..shell_with("cat; echo", options) });
            assert_eq!(kind(remote.write(b"more", Some(LONG))), ErrorKind::State);
            let [stdout, _] = read_all(&mut remote).unwrap();
            assert!(stdout[..stdout.len() - 1] == *input);
            remote.end_input(Some(LONG)).unwrap();
        });
        ran.unwrap();
    }
    // Frames with more are dropped, and signals are not.
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let command =
            b"trap 'kill $! 2>/dev/null; exit 7' USR1; x=$(cat); echo $x; sleep 1000 & wait";
        let header = json!({"cmd": "exec", "stream": true, "stdin_size": 3});
        send(client, &header, &[command, b"abc".as_slice()].concat());
        send(client, &json!({"stream": "stdin"}), b"more");
        send(client, &json!({"stream": "stdin", "eof": true}), b"");
        assert_eq!(recv(client).body, b"abc\n");
        send(client, &json!({"signal": "USR1"}), b"");
        assert_eq!(recv(client).header.integer("exit_code").unwrap(), 7);
    });
    ran.unwrap();
}

#[test]
fn a_request_that_makes_no_sense_is_refused_before_anything_is_sent() {
    let (client, server) = socket_pair();
    let options = ExecRequest { stdin_size: Some(4), ..ExecRequest::default() };
    let request = Request { input: b"abc", ..shell_with("cat", options) };
    let client: Duplex<'_> = client.as_fd().into();
    assert_eq!(kind(Remote::start(client, &request)), ErrorKind::Argument);
    assert_eq!(kind(ask(client, &request)), ErrorKind::Argument);
    let stream = ExecRequest { stream: Some(true), ..ExecRequest::default() };
    assert_eq!(kind(ask(client, &shell_with("cat", stream))), ErrorKind::Argument);
    assert_eq!(unread(&server), 0);
}

#[test]
fn a_signal_reaches_the_whole_group() {
    for (number, name) in [
        (libc::SIGHUP, "HUP"),
        (libc::SIGINT, "INT"),
        (libc::SIGQUIT, "QUIT"),
        (libc::SIGTERM, "TERM"),
        (libc::SIGKILL, "KILL"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGUSR2, "USR2"),
        (libc::SIGALRM, "ALRM"),
        (libc::SIGPIPE, "PIPE"),
    ] {
        let (client, server) = socket_pair();
        let client = client.as_fd().into();
        let presence = Presence::new();
        let command = presence.of("ulimit -c 0; cat | cat; true");
        let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
            let mut remote = start(client, &shell(&command));
            // A shell between fork(2) and execve(2) may lose a signal.
            remote.write(b"up\n", Some(LONG)).unwrap();
            read_until(&mut remote, "up\n");
            remote.signal(number);
            let (_, _, reply) = finish(&mut remote);
            assert_eq!((reply.outcome(), reply.signal), (Outcome::Signaled, Some(number)));
            assert!(!reply.timed_out);
        });
        assert!(matches!(ran.unwrap(), Served::Ran(_)), "{name}");
        presence.wait_for_end();
    }
}

#[test]
fn a_signal_that_does_not_end_the_command_is_its_own_affair() {
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let command = "trap 'echo one' USR1; trap 'echo two' CONT; trap 'echo three' WINCH
            echo up; while :; do read x; [ \"$x\" = end ] && exit 5; done";
        let mut remote = start(client, &shell(command));
        read_until(&mut remote, "up\n");
        for (number, answer) in
            [(libc::SIGUSR1, "one\n"), (libc::SIGCONT, "two\n"), (libc::SIGWINCH, "three\n")]
        {
            remote.signal(number);
            read_until(&mut remote, answer);
        }
        remote.signal(libc::SIGSTOP);
        remote.signal(libc::SIGTSTP);
        let nothing = remote.read(&mut [0], Some(Duration::from_millis(50)));
        assert_eq!(kind(nothing), ErrorKind::TimedOut, "it stands still");
        remote.signal(libc::SIGCONT);
        assert_eq!(remote.write(b"end\n", Some(LONG)).unwrap(), 4);
        let (stdout, _, reply) = finish(&mut remote);
        assert_eq!((&*stdout, reply.exit_code), ("two\n", Some(5)));
    });
    ran.unwrap();
}

#[test]
fn another_thread_sends_a_signal_while_this_one_waits() {
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell("cat"));
        remote.write(b"up\n", Some(LONG)).unwrap();
        read_until(&mut remote, "up\n");
        let control = remote.connection.handle();
        let reader = rustix::thread::gettid();
        thread::scope(|scope| {
            scope.spawn(move || {
                wait_until_asleep(reader);
                control.signal(libc::SIGINT).unwrap();
            });
            assert_eq!(remote.read(&mut [0], Some(LONG)).unwrap(), None);
        });
        assert_eq!(remote.reply().unwrap().signal, Some(libc::SIGINT));
        // There is nobody left to get it.
        remote.signal(libc::SIGINT);
        assert_eq!(remote.read(&mut [0], Some(LONG)).unwrap(), None);
    });
    ran.unwrap();
    assert_eq!(unread(&server), 0, "nothing is sent after the end");
}

/// Until this thread waits for something.
fn wait_until_asleep(thread: rustix::process::Pid) {
    let path = format!("/proc/self/task/{thread}/stat");
    while !fs::read_to_string(&path).unwrap().contains(") S ") {
        thread::yield_now();
    }
}

#[test]
fn every_frame_repeats_the_id_of_its_request() {
    for id in [json!("one"), json!(7)] {
        let (client, server) = socket_pair();
        let client = client.as_fd().into();
        let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
            let header = json!({"cmd": "exec", "stream": true, "id": id});
            send(client, &header, b"echo out; read x; echo err >&2; read x; exit 3");
            for (stream, text) in [("stdout", "out\n"), ("stderr", "err\n")] {
                let frame = recv(client);
                let expected = json!({"data_size": 4, "stream": stream, "id": id});
                assert_eq!((json_of(&frame), &*frame.body), (expected, text.as_bytes()));
                send(client, &json!({"stream": "stdin"}), b"\n");
            }
            let reply = json_of(&recv(client));
            assert_eq!((&reply["id"], &reply["exit_code"]), (&id, &json!(3)));
            for (key, value) in [
                ("data_size", 0),
                ("stdout_size", 0),
                ("stderr_size", 0),
                ("stdout_total", 4),
                ("stderr_total", 4),
            ] {
                assert_eq!(reply[key], value, "{key}");
            }
        });
        ran.unwrap();
    }
}

#[test]
fn the_last_input_may_come_with_its_end() {
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        send(client, &json!({"cmd": "exec", "stream": true}), b"cat");
        send(client, &json!({"stream": "stdin", "new": [1]}), b"one");
        assert_eq!(recv(client).body, b"one");
        send(client, &json!({"stream": "stdin", "eof": true, "id": 5}), b"two");
        send(client, &json!({"stream": "stdin"}), b"three");
        assert_eq!(recv(client).body, b"two");
        assert_eq!(recv(client).header.integer("exit_code").unwrap(), 0);
    });
    ran.unwrap();
}

#[test]
fn output_that_looks_like_a_frame_is_output() {
    let frame = encoded(r#"{"stdout_total":0,"stderr_total":0,"exit_code":0}"#, b"");
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell("cat; echo end; exit 3"));
        remote.write(&frame, Some(LONG)).unwrap();
        remote.end_input(Some(LONG)).unwrap();
        let [stdout, _] = read_all(&mut remote).unwrap();
        assert_eq!(stdout, [&frame, b"end\n".as_slice()].concat());
        assert_eq!(remote.reply().unwrap().exit_code, Some(3));
    });
    ran.unwrap();
}

#[test]
fn a_stream_has_no_limit_of_output_but_its_own() {
    let ends = |end| if end { OnOutputLimit::End } else { OnOutputLimit::Drain };
    for (asked, end, size, redirect) in [
        (None, false, 100_000, ""),
        (None, true, 100_000, ">&2"),
        (Some(1000), false, 1000, ""),
        (Some(1000), true, 1000, ""),
        (Some(1000), false, 1001, ">&2"),
        (Some(1000), false, 3_000_000, ""),
        (Some(0), false, 1, ""),
        (Some(1000), true, 100_000, ""),
    ] {
        let mut options = limited();
        options.limits.max_output = 10;
        options.limits.on_output_limit = ends(end);
        let (client, server) = socket_pair();
        let client = client.as_fd().into();
        let (ran, ()) = serving(server.as_fd().into(), &options, || {
            let ends_by_itself = if end && asked.is_some() && size > 1000 { "yes" } else { "" };
            let command = format!("(head -c {size} /dev/zero; {ends_by_itself}) {redirect}");
            let asked_for = ExecRequest { max_output: asked, ..ExecRequest::default() };
            let mut remote = start(client, &shell_with(&command, asked_for));
            let outputs = read_all(&mut remote).unwrap().map(|bytes| bytes.len() as u64);
            let reply = remote.reply().unwrap();
            let too_much = asked.is_some_and(|max| size > max);
            let mut expected = [size.min(asked.unwrap_or(u64::MAX)), 0];
            expected.rotate_left(usize::from(!redirect.is_empty()));
            assert_eq!((outputs, reply.truncated), (expected, too_much), "{command}");
            if end && too_much {
                assert!(reply.signal.is_some() && reply.outcome() == Outcome::OutputLimit);
            } else {
                let total = reply.stdout_total.unwrap() + reply.stderr_total.unwrap();
                assert_eq!((total, reply.exit_code), (size, Some(0)), "{command}");
            }
        });
        ran.unwrap();
    }
}

#[test]
fn a_command_whose_time_is_up_is_told_so_with_what_it_wrote() {
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let options = ExecRequest { timeout_ms: Some(250), ..ExecRequest::default() };
        let mut remote = start(client, &shell_with("echo before; sleep 1000", options));
        let (stdout, _, reply) = finish(&mut remote);
        assert_eq!((&*stdout, reply.outcome()), ("before\n", Outcome::TimedOut));
    });
    ran.unwrap();
}

#[test]
fn both_outputs_may_be_one() {
    let command = "for i in 1 2 3; do echo out; echo err >&2; done";
    let expected = "out\nerr\n".repeat(3);
    let options = ExecRequest { merge: Some(true), ..ExecRequest::default() };
    let (client, server) = socket_pair();
    let client: Duplex<'_> = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell_with(command, options.clone()));
        let (stdout, stderr, _) = finish(&mut remote);
        assert_eq!((stdout, &*stderr), (expected.clone(), ""));
    });
    ran.unwrap();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let reply = ask(client, &shell_with(command, options.clone())).unwrap();
        assert_eq!((reply.stdout(), reply.stderr()), (expected.as_bytes(), b"".as_slice()));
    });
    ran.unwrap();
}

#[test]
fn a_command_that_does_not_run_is_refused_in_place_of_a_stream() {
    let root = tempfile::tempdir().unwrap();
    let options = ServeOptions { directory: Some(root.path().to_owned()), ..limited() };
    let (client, server) = socket_pair();
    let client: Duplex<'_> = client.as_fd().into();
    let large = vec![b'x'; 3 << 20];
    for (command, cwd, expected) in [
        ("", None, ErrorKind::RemoteBadRequest),
        ("touch ran\0", None, ErrorKind::RemoteBadRequest),
        (&*format!("touch ran #{}", "x".repeat(70_000)), None, ErrorKind::RemoteTooBig),
        ("touch ran", Some("/none"), ErrorKind::RemoteSpawnFailed),
    ] {
        for input in [b"".as_slice(), b"abc", &large] {
            let (ran, ()) = serving(server.as_fd().into(), &options, || {
                let asked = ExecRequest { cwd: cwd.map(Into::into), ..ExecRequest::default() };
                let request = Request { input, ..shell_with(command, asked) };
                let mut remote = start(client, &request);
                if input.is_empty() {
                    // It does not know yet.
                    remote.write(b"input", Some(LONG)).unwrap();
                    remote.end_input(Some(LONG)).unwrap();
                }
                assert_eq!(kind(read_all(&mut remote)), expected);
                assert_eq!(kind(read_all(&mut remote)), expected, "and it stays so");
                assert!(remote.reply().is_none());
            });
            assert!(matches!(ran.unwrap(), Served::Refused(_) | Served::SpawnFailed(_)));
            drop_all_late_input(&server);
        }
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "something was run");
    still_there(client, server.as_fd().into());
}

/// The connection is in step.
#[track_caller]
fn still_there(client: Duplex<'_>, server: Duplex<'_>) {
    let (ran, reply) = serving(server, &limited(), || ask(client, &shell("printf here")).unwrap());
    assert_eq!(reply.stdout(), b"here");
    ran.unwrap();
}

#[test]
fn a_policy_is_asked_before_anything_runs() {
    let root = tempfile::tempdir().unwrap();
    let refused = Error::new(ErrorKind::Denied, "not on a Monday");
    let asked = Mutex::new(Vec::new());
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| {
        let header = inquiry.header.map(|header| header.string("note").unwrap().into_owned());
        let argv = inquiry.request.argv.clone().unwrap_or_default().concat();
        let command = String::from_utf8_lossy(inquiry.command).into_owned();
        asked.lock().unwrap().push((command, argv, header));
        if inquiry.command.starts_with(b"touch") || inquiry.request.argv.is_some() {
            return Err(refused.clone());
        }
        Ok(())
    };
    let options = ServeOptions {
        directory: Some(root.path().to_owned()),
        policy: Some(&policy),
        ..limited()
    };
    let (client, server) = socket_pair();
    let (client, server): (Duplex<'_>, Duplex<'_>) = (client.as_fd().into(), server.as_fd().into());
    for (header, body) in [
        (json!({"cmd": "exec", "note": "a"}), b"touch ran".as_slice()),
        (json!({"cmd": "exec", "note": "b", "argv": ["touch", "ran"]}), b""),
        (json!({"cmd": "exec", "note": "c", "stream": true}), b"touch ran"),
        (json!({"cmd": "exec", "note": "d", "stdin_size": 5}), b"touch raninput"),
        (json!({"cmd": "exec", "note": "e", "stdin_size": 5, "stream": true}), b"touch raninput"),
    ] {
        let (ran, ()) = serving(server, &options, || {
            send(client, &header, body);
            let reply = json_of(&recv(client));
            assert_eq!((&reply["status"], &reply["code"]), (&json!("error"), &json!("denied")));
            assert!(reply["message"].as_str().unwrap().contains("not on a Monday"));
        });
        assert!(matches!(ran.unwrap(), Served::Refused(error) if error == refused));
    }
    let ran = exec::run_and_reply(server, b"touch ran", &options).unwrap();
    assert!(matches!(ran, Served::Refused(error) if error == refused));
    assert_eq!(recv(client).header.string("code").unwrap(), "denied");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "something was run");
    assert!(matches!(exec::run_and_reply(server, b"true", &options), Ok(Served::Ran(_))));
    recv(client);

    let known = |text: &str, argv: &str, note: Option<&str>| {
        (text.to_owned(), argv.to_owned(), note.map(str::to_owned))
    };
    assert_eq!(
        *asked.lock().unwrap(),
        [
            known("touch ran", "", Some("a")),
            known("", "touchran", Some("b")),
            known("touch ran", "", Some("c")),
            known("touch ran", "", Some("d")),
            known("touch ran", "", Some("e")),
            known("touch ran", "", None),
            known("true", "", None),
        ]
    );
    // What is of no use otherwise is not asked about, and there is no client here.
    exec::run_locally(b"touch ran", &options).unwrap();
    serving(server, &options, || {
        send(client, &json!({"cmd": "exec", "on_close": 1}), b"touch ran");
        recv(client);
    })
    .0
    .unwrap();
    assert_eq!(asked.lock().unwrap().len(), 7);
}

#[test]
fn late_input_is_told_from_a_request_and_can_be_skipped() {
    let (client, server) = socket_pair();
    let (client, server): (Duplex<'_>, Duplex<'_>) = (client.as_fd().into(), server.as_fd().into());
    let (ran, ()) = serving(server, &limited(), || {
        send(client, &json!({"cmd": "exec", "stream": true}), b"true");
        assert_eq!(recv(client).header.integer("exit_code").unwrap(), 0);
    });
    ran.unwrap();
    send(client, &json!({"stream": "stdin"}), &[b'x'; 1000]);
    send(client, &json!({"signal": "INT"}), b"");
    send(client, &json!({"signal": "UNKNOWN"}), b"");
    send(client, &json!({"resize": {"rows": 1, "columns": 1}}), b"");
    send(client, &json!({"stream": "stdin", "eof": true}), b"");
    drop_all_late_input(&server.reader);
    still_there(client, server);
}

#[test]
fn input_may_come_with_a_request_for_one_reply() {
    let large = pattern(3 << 20);
    for (command, input, expected) in [
        ("cat", b"abc".as_slice(), b"abc".as_slice()),
        ("cat; readlink /proc/self/fd/0 | cut -c 1-4", b"abc", b"abcpipe\n"),
        ("cat", &large, &large),
        ("true", &large, b""),
        ("head -c 5; exec <&-; sleep 0.1", &large, &large[..5]),
        ("sleep 0.1; cat", &large, &large),
        ("cat; readlink /proc/self/fd/0", b"", b"/dev/null\n"),
    ] {
        let (client, server) = socket_pair();
        let (client, server): (Duplex<'_>, Duplex<'_>) =
            (client.as_fd().into(), server.as_fd().into());
        for _ in 0..2 {
            let (ran, ()) = serving(server, &limited(), || {
                let reply = ask(client, &Request { input, ..shell(command) }).unwrap();
                assert!(reply.stdout() == expected, "{command}");
                assert_eq!(reply.header.exit_code, Some(0));
            });
            assert!(matches!(ran.unwrap(), Served::Ran(report) if !report.client_gone));
        }
    }
}

#[test]
fn a_request_behind_the_input_of_another_stays_in_the_stream() {
    if sealing::leaves_out(sealing::ROOM) {
        return;
    }
    for command in ["cat", "true", "head -c 2"] {
        let (client, server) = socket_pair();
        let (client, server): (Duplex<'_>, Duplex<'_>) =
            (client.as_fd().into(), server.as_fd().into());
        // All of it is there before anything is read.
        let text = format!("{command}inputs");
        send(client, &json!({"cmd": "exec", "stdin_size": 6}), text.as_bytes());
        send(client, &json!({"cmd": "exec", "id": 2}), b"echo second");
        for _ in 0..2 {
            assert!(matches!(serve(server, &limited()), Ok(Served::Ran(_))), "{command}");
        }
        assert!(recv(client).body.len() <= 6);
        assert_eq!(recv(client).body, b"second\n");
    }
}

#[test]
fn input_that_was_read_ahead_is_read_as_well() {
    let (client, server) = socket_pair();
    let (client, server): (Duplex<'_>, Duplex<'_>) = (client.as_fd().into(), server.as_fd().into());
    let mut connection = connect(server);
    let small = pattern(3000);
    for stream in [false, true] {
        for (command, expected) in [("cat", small.as_slice()), ("head -c 3", &small[..3])] {
            let header = json!({"cmd": "exec", "stdin_size": small.len(), "stream": stream});
            let mut body = command.as_bytes().to_vec();
            body.extend_from_slice(&small);
            send(client, &header, &body);
            assert!(matches!(serve_next(&mut connection, &limited()), Ok(Served::Ran(_))));
            assert_eq!(unread(server.reader), 0);
            let mut output = Vec::new();
            loop {
                let mut frame = recv(client);
                output.append(&mut frame.body);
                if frame.header.integer("exit_code").is_ok() {
                    break;
                }
            }
            assert!(output == expected, "{command}");
        }
    }
    // A signal that was read ahead comes through, though the command reads nothing.
    let header = json!({"cmd": "exec", "stdin_size": small.len(), "stream": true});
    let mut body = b"trap 'echo up; exit 4' TERM; while :; do sleep 0.01; done".to_vec();
    body.extend_from_slice(&small);
    send(client, &header, &body);
    send(client, &json!({"signal": "TERM"}), b"");
    let Ok(Served::Ran(report)) = serve_next(&mut connection, &limited()) else { panic!() };
    assert!([Some(4), Some(143)].contains(&report.reply.exit_code));
}

#[test]
fn a_flood_both_ways_takes_no_memory_and_nothing_is_lost() {
    alone("stream::a_flood_both_ways_takes_no_memory_and_nothing_is_lost", || {
        const SIZE: usize = 100 << 20;
        let piece = pattern(1 << 20);
        let before = peak_memory();
        for over_tcp in [false, true] {
            let (client, server) = if over_tcp {
                let (client, server) = tcp();
                (OwnedFd::from(client), OwnedFd::from(server))
            } else {
                let (client, server) = socket_pair();
                (client.into(), server.into())
            };
            let (client, server): (Duplex<'_>, Duplex<'_>) =
                (client.as_fd().into(), server.as_fd().into());
            let (ran, ()) = serving(server, &limited(), || {
                let mut remote = start(client, &shell("cat"));
                let (mut sent, mut came) = (0, 0);
                let mut buf = vec![0; 300_000];
                loop {
                    let rest = &piece[sent % piece.len()..];
                    match if sent < SIZE { remote.write(rest, Some(LONG)).unwrap() } else { 0 } {
                        0 => {
                            let room = buf.len().min(piece.len() - came % piece.len());
                            let got = remote.read(&mut buf[..room], Some(LONG)).unwrap();
                            let Some((_, got)) = got else { break };
                            let at = came % piece.len();
                            assert!(buf[..got] == piece[at..at + got], "at {came}");
                            came += got;
                        }
                        taken => sent += taken,
                    }
                    if sent == SIZE {
                        remote.end_input(Some(LONG)).unwrap();
                    }
                }
                assert_eq!((sent, came), (SIZE, SIZE));
                assert_eq!(remote.reply().unwrap().stdout_total, Some(SIZE as u64));
            });
            ran.unwrap();
        }
        let used = peak_memory() - before;
        // Two tunnels have buffers as well.
        let most = if sealing::are_sealed() { 16 << 20 } else { 8 << 20 };
        assert!(used < most, "{used} bytes");
    });
}

#[test]
fn a_command_may_have_a_terminal_whose_size_changes() {
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let tty = Some(Tty { rows: 24, columns: 80 });
        let options = ExecRequest { tty, ..ExecRequest::default() };
        let command = "stty -echo; tty >&2; trap 'stty size' WINCH; stty size
            while :; do read x; [ \"$x\" = end ] && exit 5; done";
        let mut remote = start(client, &shell_with(command, options));
        read_until(&mut remote, "24 80\r\n");
        remote.resize(50, 132);
        read_until(&mut remote, "50 132\r\n");
        // What is typed last counts.
        remote.resize(1, 1);
        remote.resize(7, 300);
        read_until(&mut remote, "7 300\r\n");
        remote.write(b"end\n", Some(LONG)).unwrap();
        let (_, stderr, reply) = finish(&mut remote);
        assert_eq!((&*stderr, reply.exit_code, reply.stderr_total), ("", Some(5), Some(0)));
    });
    ran.unwrap();
}

#[test]
fn the_end_of_the_input_of_a_terminal_is_its_end_of_file_character() {
    for input in [b"".as_slice(), b"abc\n"] {
        let (client, server) = socket_pair();
        let client = client.as_fd().into();
        let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
            let options = ExecRequest {
                tty: Some(Tty { rows: 24, columns: 80 }),
                stdin_size: Some(input.len() as u64),
                ..ExecRequest::default()
            };
            let request = Request { input, ..shell_with("cat >/dev/null; echo end", options) };
            let mut remote = start(client, &request);
            let (stdout, _, reply) = finish(&mut remote);
            assert!(stdout.ends_with("end\r\n"), "{stdout}");
            assert_eq!(reply.exit_code, Some(0));
        });
        ran.unwrap();
    }
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let tty = Some(Tty { rows: 24, columns: 80 });
        let options = ExecRequest { tty, ..ExecRequest::default() };
        let mut remote = start(client, &shell_with("stty -echo; echo up; cat; echo end", options));
        read_until(&mut remote, "up\r\n");
        remote.write(b"abc\n", Some(LONG)).unwrap();
        read_until(&mut remote, "abc\r\n");
        remote.end_input(Some(LONG)).unwrap();
        assert_eq!(finish(&mut remote).0, "end\r\n");
    });
    ran.unwrap();
}

#[test]
fn a_key_on_a_terminal_is_a_signal() {
    let (client, server) = socket_pair();
    let client = client.as_fd().into();
    let presence = Presence::new();
    let command = presence.of("cat");
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let tty = Some(Tty { rows: 24, columns: 80 });
        let options = ExecRequest { tty, ..ExecRequest::default() };
        let mut remote = start(client, &shell_with(&command, options));
        remote.write(b"up\n", Some(LONG)).unwrap();
        read_until(&mut remote, "up\r\nup\r\n");
        remote.write(b"\x03", Some(LONG)).unwrap();
        assert_eq!(finish(&mut remote).2.signal, Some(libc::SIGINT));
    });
    ran.unwrap();
    presence.wait_for_end();
}

#[test]
fn the_command_of_a_stream_is_confined_too() {
    let confinement = Confinement { umask: Some(0o77), ..Confinement::default() };
    let options = ServeOptions { confinement, ..limited() };
    let (client, server) = socket_pair();
    let client: Duplex<'_> = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &options, || {
        assert_eq!(finish(&mut start(client, &shell("umask"))).0, "0077\n");
    });
    ran.unwrap();
    let request = || ask(client, &shell("umask")).unwrap().stdout().to_vec();
    let (ran, stdout) = serving(server.as_fd().into(), &options, request);
    ran.unwrap();
    assert_eq!(stdout, b"0077\n");
}
