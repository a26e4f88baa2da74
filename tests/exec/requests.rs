//! What an exec request can ask for and what its reply says, on the wire and through the
//! client.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::channel::{Kind, socket_pair, tcp};
use crate::common::exec::{LONG, ask, connect, serve, serve_next, within};
use crate::common::process::{alone, peak_memory};
use crate::common::{kind, pattern, peer, sealing};
use framefd::ops::exec::{self, Reply, Request, ServeOptions, Served};
use framefd::ops::exec::{Limits, OnOutputLimit};
use framefd::ops::frame;
use framefd::wire::message;
use framefd::wire::message::exec::{ExecRequest, Outcome};
use framefd::{Duplex, ErrorKind, Result};
use serde_json::{Value, json};

/// A client, as raw as can be, and its server.
struct Connection {
    client: UnixStream,
    server: UnixStream,
    options: ServeOptions<'static>,
}

impl Connection {
    fn new(options: ServeOptions<'static>) -> Connection {
        let (client, server) = socket_pair();
        Connection { client, server, options }
    }

    /// Sends a request of these keys and has it served.
    fn ask(&self, header: Value, body: &[u8]) -> (Value, Vec<u8>, Served) {
        let mut header = header;
        header["cmd"] = json!("exec");
        thread::scope(|scope| {
            let served = scope.spawn(|| serve(self.server.as_fd().into(), &self.options));
            let client = self.client.as_fd();
            frame::send(client, Some(&header.to_string()), body, &within(LONG)).unwrap();
            let reply = frame::recv(client, &within(LONG)).unwrap();
            let header = serde_json::from_str(reply.header.text()).unwrap();
            (header, reply.body, served.join().unwrap().unwrap())
        })
    }

    /// The connection is in step.
    #[track_caller]
    fn check(&self) {
        let (header, body, _) = self.ask(json!({"id": "still there"}), b"printf here");
        assert_eq!((&header["id"], body.as_slice()), (&json!("still there"), b"here".as_slice()));
    }
}

fn limits(limits: Limits) -> ServeOptions<'static> {
    ServeOptions { limits, ..ServeOptions::default() }
}

/// What a client of ours makes of its request.
fn request(request: &Request<'_>, options: &ServeOptions<'_>) -> Result<Reply> {
    let (client, server) = socket_pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            let server = server;
            serve(server.as_fd().into(), options)
        });
        ask(client.as_fd().into(), request)
    })
}

fn sh(command: &str) -> Reply {
    let request_of = Request { command: command.as_bytes(), ..Request::default() };
    request(&request_of, &ServeOptions::default()).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What a client of ours makes of a reply: these bytes of header and body, whatever was
/// asked for.
fn answered(header: &str, body: &[u8], options: ExecRequest) -> Result<Reply> {
    let (client, server) = socket_pair();
    frame::send(server.as_fd(), Some(header), body, &within(LONG)).unwrap();
    let request = Request { command: b"x", options, ..Request::default() };
    ask(client.as_fd().into(), &request)
}

#[test]
fn the_reply_says_what_the_command_wrote_and_how_it_ended() {
    let connection = Connection::new(ServeOptions::default());
    let (mut header, body, served) =
        connection.ask(json!({}), b"printf out; printf error >&2; exit 3");
    assert!(header["charset"].take().is_string());
    assert_eq!(
        header,
        json!({
            "data_size": 8, "stdout_size": 3, "stderr_size": 5, "exit_code": 3,
            "stdout_total": 3, "stderr_total": 5, "charset": null,
        })
    );
    assert_eq!(body, b"outerror");
    let Served::Ran(report) = served else { panic!("{served:?}") };
    let local = exec::run_locally(b"exit 3", &ServeOptions::default()).unwrap();
    assert_eq!(local.header.charset, report.reply.charset);
    assert_eq!((report.reply.exit_code, report.client_gone), (Some(3), false));
}

#[test]
fn every_kind_of_connection_carries_a_command() {
    let exchange = |client: Duplex<'_>, server: Duplex<'_>| {
        thread::scope(|scope| {
            let served = scope.spawn(|| serve(server, &ServeOptions::default()).unwrap());
            let command = b"head -c 300000 /dev/zero; echo error >&2";
            let request = Request { command, ..Request::default() };
            let reply = ask(client, &request).unwrap();
            assert_eq!((reply.stdout().len(), reply.stderr()), (300_000, b"error\n".as_slice()));
            assert!(matches!(served.join().unwrap(), Served::Ran(_)));
        });
    };
    let (client, server) = socket_pair();
    exchange(client.as_fd().into(), server.as_fd().into());
    let (client, server) = tcp();
    exchange(client.as_fd().into(), server.as_fd().into());
    for [there, back] in [[Kind::Pipe; 2], [Kind::ToTerminal, Kind::FromTerminal]] {
        let (there, back) = (there.open(), back.open());
        exchange(
            Duplex { reader: back.reader.as_fd(), writer: there.writer.as_fd() },
            Duplex { reader: there.reader.as_fd(), writer: back.writer.as_fd() },
        );
    }
}

#[test]
fn an_old_client_reads_the_reply_by_its_data_size() {
    let (mut client, server) = socket_pair();
    client.write_all(b"\x1d\0\0\0{\"cmd\":\"exec\",\"data_size\":11}").unwrap();
    client.write_all(b"echo one; x").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let server = server;
            serve(server.as_fd().into(), &ServeOptions::default()).unwrap();
        });
        let mut length = [0; 4];
        client.read_exact(&mut length).unwrap();
        let mut header = vec![0; u32::from_le_bytes(length) as usize];
        client.read_exact(&mut header).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        let mut body = vec![0; usize::try_from(header["data_size"].as_u64().unwrap()).unwrap()];
        client.read_exact(&mut body).unwrap();
        assert!(text(&body).starts_with("one\n"), "{}", text(&body));
        assert!(text(&body).contains("x: not found"), "{}", text(&body));
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "nothing but the reply");
    });
}

#[test]
fn a_bare_command_is_answered_like_a_framed_one() {
    let (client, server) = socket_pair();
    let run = |command: &str| {
        let options = ServeOptions::default();
        exec::run_and_reply(server.as_fd().into(), command.as_bytes(), &options).unwrap()
    };
    assert!(matches!(run("echo out"), Served::Ran(_)));
    assert!(matches!(run(""), Served::Refused(error) if error.kind() == ErrorKind::Argument));
    let reply = frame::recv(client.as_fd(), &within(LONG)).unwrap();
    assert_eq!(
        (reply.header.integer("exit_code").unwrap(), &*reply.body),
        (0, b"out\n".as_slice())
    );
    let refusal = frame::recv(client.as_fd(), &within(LONG)).unwrap();
    assert_eq!(refusal.header.string("code").unwrap(), "bad_request");
    assert!(refusal.body.is_empty());
}

#[test]
fn every_way_to_end_is_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let cwd = Some(root.path().to_str().unwrap().to_owned());
    for (command, outcome, exit_code, signal) in [
        ("exit 0", Outcome::Exited, 0, None),
        ("exit 1", Outcome::Exited, 1, None),
        ("exit 255", Outcome::Exited, 255, None),
        ("no-such-program-anywhere", Outcome::Exited, 127, None),
        ("/dev/null", Outcome::Exited, 126, None),
        ("exit 137", Outcome::Exited, 137, None),
        ("kill -9 $$", Outcome::Signaled, 137, Some(9)),
        ("kill -15 $$", Outcome::Signaled, 143, Some(15)),
        ("ulimit -c 0; kill -6 $$", Outcome::Signaled, 134, Some(6)),
        ("ulimit -c unlimited; kill -6 $$", Outcome::Signaled, 134, Some(6)),
        ("kill -64 $$", Outcome::Signaled, 192, Some(64)),
    ] {
        let options = ExecRequest { cwd: cwd.clone(), ..ExecRequest::default() };
        let command_of = Request { command: command.as_bytes(), options, ..Request::default() };
        let reply = request(&command_of, &ServeOptions::default()).unwrap();
        let header = &reply.header;
        assert_eq!(
            (reply.outcome(), header.exit_code, header.signal),
            (outcome, Some(exit_code), signal),
            "{command}"
        );
        assert!(!header.timed_out && !header.truncated && !header.pipe_held, "{command}");
    }
}

#[test]
fn standard_input_is_empty() {
    assert_eq!(text(sh("cat; readlink /proc/self/fd/0").stdout()), "/dev/null\n");
}

#[test]
fn output_is_bytes_on_both_streams() {
    let bytes = pattern(1 << 20);
    assert!((0..=255).all(|byte| bytes.contains(&byte)));
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("bytes");
    fs::write(&path, &bytes).unwrap();
    let reply = sh(&format!("cat {0} >&2; cat {0}", path.display()));
    assert!(reply.stdout() == bytes && reply.stderr() == bytes);
}

#[test]
fn output_that_looks_like_a_frame_is_output() {
    let connection = Connection::new(ServeOptions::default());
    let frame = r#"\035\0\0\0{"status":"error","x":"yyyy"}"#;
    let (header, body, _) = connection.ask(json!({}), format!("printf '{frame}'").as_bytes());
    assert_eq!(header["stdout_size"], 4 + 29);
    assert!(header.get("status").is_none());
    assert!(body.starts_with(b"\x1d\0\0\0{\"status\":\"error\""));
    connection.check();
}

#[test]
fn every_reply_repeats_the_id_of_its_request() {
    let connection = Connection::new(ServeOptions::default());
    for id in [json!("one"), json!(""), json!("\u{0}\n\"ü"), json!(0), json!(-5), json!(i64::MAX)]
    {
        for (options, body, code) in [
            (json!({}), "true", None),
            (json!({}), "", Some("bad_request")),
            (json!({"on_close": 1}), "true", Some("bad_request")),
            (json!({"tty": {"rows": 1, "columns": 1}}), "true", Some("bad_request")),
            (json!({"cwd": "/none"}), "true", Some("spawn_failed")),
        ] {
            let mut header = options;
            header["id"] = id.clone();
            let (reply, ..) = connection.ask(header, body.as_bytes());
            assert_eq!(reply["id"], id);
            assert_eq!(reply.get("code").and_then(Value::as_str), code);
        }
        let body = vec![b'x'; 70_000];
        let (reply, ..) = connection.ask(json!({"id": id}), &body);
        assert_eq!((&reply["id"], &reply["code"]), (&id, &json!("too_big")));
    }
    let (reply, ..) = connection.ask(json!({}), b"true");
    assert!(reply.get("id").is_none(), "{reply}");
}

#[test]
fn an_id_of_another_type_or_too_long_to_repeat_is_refused() {
    let connection = Connection::new(ServeOptions::default());
    let long = json!("x".repeat(65_000));
    for id in [json!(1.5), json!([]), json!({}), json!(true), json!(u64::MAX), long] {
        let (reply, ..) = connection.ask(json!({"id": id}), b"true");
        assert_eq!((reply["code"].as_str(), reply.get("id")), (Some("bad_request"), None));
        assert!(reply["message"].as_str().unwrap().contains("\"id\" is not"), "{reply}");
    }
    connection.check();
}

#[test]
fn an_argv_is_run_without_a_shell() {
    let connection = Connection::new(ServeOptions::default());
    let argv = json!(["printf", "%s|", "$HOME", "a b", "*", "", "`id`", "ü"]);
    let (header, body, _) = connection.ask(json!({"argv": argv}), b"");
    assert_eq!((text(&body), &header["exit_code"]), ("$HOME|a b|*||`id`|ü|", &json!(0)));
}

#[test]
fn a_request_that_cannot_be_followed_is_refused_and_nothing_is_run() {
    let root = tempfile::tempdir().unwrap();
    let directory = Some(root.path().to_owned());
    let connection = Connection::new(ServeOptions { directory, ..ServeOptions::default() });
    let touch = "touch ran;";
    let long = format!("{touch} #{}", "x".repeat(65_536));
    let very_long = format!("{touch} #{}", "x".repeat(131_072));
    for (options, body, code) in [
        (json!({}), "", "bad_request"),
        (json!({}), "touch ran\0; true", "bad_request"),
        (json!({}), &long, "too_big"),
        (json!({}), &very_long, "too_big"),
        (json!({"argv": []}), "", "bad_request"),
        (json!({"argv": [""]}), "", "bad_request"),
        (json!({"argv": ["touch", "ran"]}), touch, "bad_request"),
        (json!({"argv": ["touch", "ran\u{0}"]}), "", "bad_request"),
        (json!({"argv": ["touch", 1]}), "", "bad_request"),
        (json!({"argv": "touch ran"}), "", "bad_request"),
        (json!({"cwd": 1}), touch, "bad_request"),
        (json!({"cwd": "/\u{0}"}), touch, "bad_request"),
        (json!({"env": ["A=1"]}), touch, "bad_request"),
        (json!({"env": {"A": 1}}), touch, "bad_request"),
        (json!({"env": {"": "1"}}), touch, "bad_request"),
        (json!({"env": {"A=B": "1"}}), touch, "bad_request"),
        (json!({"env": {"A": "\u{0}"}}), touch, "bad_request"),
        (json!({"timeout_ms": -1}), touch, "bad_request"),
        (json!({"timeout_ms": 1.5}), touch, "bad_request"),
        (json!({"timeout_ms": "1"}), touch, "bad_request"),
        (json!({"max_output": -1}), touch, "bad_request"),
        (json!({"on_close": "stay"}), touch, "bad_request"),
        (json!({"stream": 1}), touch, "bad_request"),
        (json!({"stdin_size": -1}), touch, "bad_request"),
        (json!({"stdin_size": 11}), touch, "bad_request"),
        (json!({"stdin_size": u64::MAX}), touch, "bad_request"),
        (json!({"stdin_size": 10}), touch, "bad_request"),
        (json!({"merge": 1}), touch, "bad_request"),
        (json!({"tty": {"rows": 24, "columns": 80}}), touch, "bad_request"),
        (json!({"tty": {"rows": 24, "columns": 80}, "stream": false}), touch, "bad_request"),
        (json!({"tty": {"rows": 24}, "stream": true}), touch, "bad_request"),
        (json!({"tty": {"rows": 65536, "columns": 80}, "stream": true}), touch, "bad_request"),
        (json!({"tty": true, "stream": true}), touch, "bad_request"),
    ] {
        let (reply, rest, served) = connection.ask(options.clone(), body.as_bytes());
        let what = format!("{options} {}: {reply}", &body[..body.len().min(30)]);
        assert_eq!((&reply["status"], &reply["code"]), (&json!("error"), &json!(code)), "{what}");
        assert!(reply["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}");
        assert_eq!((&reply["data_size"], rest.len()), (&json!(0), 0), "{what}");
        assert!(matches!(served, Served::Refused(_)), "{what}");
        connection.check();
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "something was run");
    for options in [json!({"stream": false}), json!({"stdin_size": 0}), json!({"unknown": [1]})] {
        let (reply, ..) = connection.ask(options, touch.as_bytes());
        assert_eq!(reply["exit_code"], 0);
    }
    assert!(root.path().join("ran").exists());
}

#[test]
fn a_refusal_that_would_quote_a_whole_header_fits_one() {
    let connection = Connection::new(ServeOptions::default());
    for long in ["x".repeat(65_400), "\u{1}".repeat(10_000), "ü".repeat(32_000)] {
        let (reply, ..) = connection.ask(json!({"on_close": long}), b"true");
        assert_eq!(reply["code"], "bad_request");
        assert!(reply["message"].as_str().unwrap().contains(&long[..100]));
        connection.check();
    }
}

#[test]
fn blanks_are_a_command() {
    assert_eq!(sh(" \n\t").outcome(), Outcome::Exited);
}

#[test]
fn a_command_of_many_mebibytes_is_skipped() {
    alone("requests::a_command_of_many_mebibytes_is_skipped", || {
        let connection = Connection::new(ServeOptions::default());
        let before = peak_memory();
        thread::scope(|scope| {
            let options = &connection.options;
            let server = scope.spawn(|| serve(connection.server.as_fd().into(), options).unwrap());
            let client = &connection.client;
            peer::begin(client, json!({"cmd": "exec"}), 20 << 20);
            let piece = vec![b' '; 1 << 16];
            for _ in 0..20 << 4 {
                peer::send_bytes(client, &piece);
            }
            let reply = frame::recv(client.as_fd(), &within(LONG)).unwrap();
            assert_eq!(reply.header.string("code").unwrap(), "too_big");
            assert!(matches!(server.join().unwrap(), Served::Refused(_)));
        });
        connection.check();
        assert!(peak_memory() - before < 4 << 20, "it was held in memory");
    });
}

#[test]
fn a_command_that_was_read_ahead_is_held_to_the_same_limit() {
    let (client, server) = socket_pair();
    let mut connection = connect(server.as_fd());
    let options = limits(Limits { max_command: 10, ..Limits::default() });
    for (command, code) in [("echo 56789", None), ("echo 567890", Some("too_big"))] {
        let header = Some(r#"{"cmd":"exec"}"#);
        frame::send(client.as_fd(), header, command.as_bytes(), &within(LONG)).unwrap();
        serve_next(&mut connection, &options).unwrap();
        let reply = frame::recv(client.as_fd(), &within(LONG)).unwrap();
        assert_eq!(reply.header.string("code").ok().as_deref(), code);
    }
}

#[test]
fn a_command_that_cannot_be_started_is_told_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let not_executable = root.path().join("text");
    fs::write(&not_executable, "true").unwrap();
    let connection = Connection::new(ServeOptions::default());
    for (options, reason, errno) in [
        (json!({"argv": ["no-such-program"]}), "No such file or directory", libc::ENOENT),
        (json!({"argv": [not_executable]}), "Permission denied", libc::EACCES),
        (json!({"argv": ["true"], "cwd": "/none"}), "No such file or directory", libc::ENOENT),
        (json!({"argv": ["true"], "cwd": ""}), "No such file or directory", libc::ENOENT),
        (json!({"argv": ["true"], "cwd": "/dev/null"}), "Not a directory", libc::ENOTDIR),
    ] {
        let (reply, body, served) = connection.ask(options, b"");
        assert_eq!((&reply["code"], body.len()), (&json!("spawn_failed"), 0), "{reply}");
        assert!(reply["message"].as_str().unwrap().contains(reason), "{reply}");
        let Served::SpawnFailed(error) = served else { panic!("{served:?}") };
        assert_eq!(error.errno(), errno);
        connection.check();
    }
    let options = ExecRequest { cwd: Some("/none".into()), ..ExecRequest::default() };
    let client = Request { command: b"true", options, ..Request::default() };
    let error = request(&client, &ServeOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RemoteSpawnFailed);
    assert!(error.detail().contains("No such file or directory"), "{error}");
}

#[test]
fn a_command_starts_where_the_request_says_or_the_server() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    fs::create_dir(root.join("below")).unwrap();
    let connection =
        Connection::new(ServeOptions { directory: Some(root.clone()), ..ServeOptions::default() });
    for (options, directory) in [
        (json!({}), root.as_path()),
        (json!({"cwd": "/"}), Path::new("/")),
        (json!({"cwd": "below"}), &root.join("below")),
    ] {
        let (_, body, _) = connection.ask(options, b"pwd");
        assert_eq!(text(&body).trim(), directory.to_str().unwrap());
    }
    // Not below the host's own directory, where there is one of this name.
    assert!(Path::new("src").is_dir());
    let (reply, ..) = connection.ask(json!({"cwd": "src"}), b"pwd");
    assert_eq!(reply["code"], "spawn_failed");
    let (_, body, _) = Connection::new(ServeOptions::default()).ask(json!({"cwd": "src"}), b"pwd");
    assert_eq!(text(&body).trim(), std::env::current_dir().unwrap().join("src").to_str().unwrap());
}

#[test]
fn variables_are_added_to_those_of_the_server() {
    let mut options = ServeOptions::default();
    options.environment.additions = [("ONE", "server"), ("TWO", "server")]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    let connection = Connection::new(options);
    let env = json!({"TWO": "client", "THREE": "a=b c\n", "PATH": "/bin:/usr/bin"});
    let (_, body, _) = connection.ask(
        json!({"env": env}),
        b"printf '%s|' \"$ONE\" \"$TWO\" \"$THREE\" \"$PATH\" \"$SHELL\"",
    );
    assert_eq!(text(&body), "server|client|a=b c\n|/bin:/usr/bin|/bin/sh|");
    let (_, body, _) = connection.ask(json!({}), b"printf '%s|' \"$TWO\" \"$THREE\"");
    assert_eq!(text(&body), "server||", "of one request only");
}

#[test]
fn the_shorter_of_two_times_counts() {
    let (short, long) = (Duration::from_millis(250), 3_600_000);
    for (of_server, of_client) in
        [(None, 250), (Some(Duration::from_secs(3600)), 250), (Some(short), long)]
    {
        let options = limits(Limits { time: of_server, ..Limits::default() });
        let start = Instant::now();
        let options_of = ExecRequest { timeout_ms: Some(of_client), ..ExecRequest::default() };
        let command = b"echo before; sleep 1000";
        let client = Request { command, options: options_of, ..Request::default() };
        let reply = request(&client, &options).unwrap();
        assert!((short..LONG).contains(&start.elapsed()));
        assert_eq!((reply.outcome(), text(reply.stdout())), (Outcome::TimedOut, "before\n"));
        assert_eq!((reply.header.exit_code, reply.header.signal), (Some(143), Some(15)));
    }
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace() {
    let options = limits(Limits {
        time: Some(Duration::from_millis(200)),
        term_grace: Duration::from_millis(200),
        ..Limits::default()
    });
    let connection = Connection::new(options);
    let (header, body, _) =
        connection.ask(json!({}), b"trap '' TERM; echo up; while :; do sleep 1000; done");
    assert_eq!((&header["timed_out"], &header["signal"]), (&json!(true), &json!(9)));
    assert_eq!(text(&body), "up\n");
    // It may also use its grace, and what it says then counts.
    let (header, body, _) =
        connection.ask(json!({}), b"trap 'echo bye; exit 7' TERM; sleep 1000 & wait");
    assert_eq!((&header["timed_out"], &header["exit_code"]), (&json!(true), &json!(7)));
    assert!(header.get("signal").is_none());
    assert_eq!(text(&body), "bye\n");
}

#[test]
fn a_background_process_does_not_hold_the_reply() {
    let drain_grace = Duration::from_millis(50);
    let connection = Connection::new(limits(Limits { drain_grace, ..Limits::default() }));
    let start = Instant::now();
    let (header, body, _) = connection.ask(json!({}), b"sleep 1000 & echo $!");
    assert!((drain_grace..LONG).contains(&start.elapsed()));
    assert_eq!((&header["pipe_held"], &header["exit_code"]), (&json!(true), &json!(0)));
    let pid = rustix::process::Pid::from_raw(text(&body).trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is left alone");
}

#[test]
fn the_smaller_of_two_output_limits_counts_and_is_exact() {
    for (of_server, of_client) in [(1000, None), (1000, Some(1_000_000)), (1_000_000, Some(1000))] {
        let options = limits(Limits { max_output: of_server, ..Limits::default() });
        for size in [0, 999, 1000, 1001, 100_000] {
            for redirect in ["", ">&2"] {
                let command = format!("head -c {size} /dev/zero {redirect}");
                let client = Request {
                    command: command.as_bytes(),
                    options: ExecRequest { max_output: of_client, ..ExecRequest::default() },
                    ..Request::default()
                };
                let reply = request(&client, &options).unwrap();
                let header = &reply.header;
                let streams = [
                    (reply.stdout().len() as u64, header.stdout_total.unwrap()),
                    (reply.stderr().len() as u64, header.stderr_total.unwrap()),
                ];
                let mut expected = [(size.min(1000), size), (0, 0)];
                expected.rotate_left(usize::from(!redirect.is_empty()));
                assert_eq!((streams, header.truncated), (expected, size > 1000), "{command}");
                let outcome = if size > 1000 { Outcome::OutputLimit } else { Outcome::Exited };
                assert_eq!((reply.outcome(), header.exit_code), (outcome, Some(0)));
            }
        }
    }
}

#[test]
fn a_client_asks_for_no_more_output_than_it_takes() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let options = limits(Limits { max_output: 1 << 30, ..Limits::default() });
    for (asked, kept) in [(None, 16 << 20), (Some(1000), 1000)] {
        let client = Request {
            command: b"head -c 40000000 /dev/zero",
            options: ExecRequest { max_output: asked, ..ExecRequest::default() },
            ..Request::default()
        };
        let reply = request(&client, &options).unwrap();
        assert_eq!((reply.stdout().len(), reply.outcome()), (kept, Outcome::OutputLimit));
    }
    // One that sends more all the same is not believed.
    let options = ExecRequest { max_output: Some(10), ..ExecRequest::default() };
    assert!(answered("{}", &[b'x'; 20], options.clone()).is_ok());
    assert_eq!(kind(answered("{}", &[b'x'; 21], options)), ErrorKind::TooBig);
}

#[test]
fn a_flood_of_output_takes_no_memory() {
    alone("requests::a_flood_of_output_takes_no_memory", || {
        const SIZE: u64 = 300_000_000;
        let before = peak_memory();
        let max_output = 1 << 20;
        let options = limits(Limits { max_output, ..Limits::default() });
        let command = format!("head -c {SIZE} /dev/zero; echo end >&2");
        let client = Request { command: command.as_bytes(), ..Request::default() };
        let reply = request(&client, &options).unwrap();
        assert_eq!((reply.stdout().len() as u64, reply.stderr()), (max_output, &b"end\n"[..]));
        assert_eq!(
            (reply.header.stdout_total, reply.outcome()),
            (Some(SIZE), Outcome::OutputLimit)
        );

        let mut options = options;
        options.limits.on_output_limit = OnOutputLimit::End;
        let reply = request(&Request { command: b"yes", ..Request::default() }, &options).unwrap();
        assert_eq!(
            (reply.stdout().len() as u64, reply.outcome()),
            (max_output, Outcome::OutputLimit)
        );
        assert!(reply.header.signal.is_some() && !reply.header.timed_out);
        assert!(peak_memory() - before < 16 << 20, "{}", peak_memory() - before);
    });
}

#[test]
fn requests_that_come_together_are_answered_in_order() {
    if sealing::leaves_out(sealing::ROOM) {
        return;
    }
    let connection = Connection::new(ServeOptions::default());
    let commands = ["echo 0", "", "exit 2", "touch \0", "head -c 100000 /dev/zero", "echo 5"];
    for (id, command) in (0..).zip(commands) {
        let header = json!({"cmd": "exec", "id": id}).to_string();
        let client = connection.client.as_fd();
        frame::send(client, Some(&header), command.as_bytes(), &within(LONG)).unwrap();
    }
    connection.client.shutdown(Shutdown::Write).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in commands {
                serve(connection.server.as_fd().into(), &connection.options).unwrap();
            }
            let end = serve(connection.server.as_fd().into(), &connection.options);
            assert_eq!(kind(end), ErrorKind::Closed);
        });
        let sizes = commands.map(|_| {
            let reply = frame::recv(connection.client.as_fd(), &within(LONG)).unwrap();
            (reply.header.integer("id").unwrap(), reply.body.len())
        });
        assert_eq!(sizes, [(0, 2), (1, 0), (2, 0), (3, 0), (4, 100_000), (5, 2)]);
    });
}

#[test]
fn a_reply_with_only_its_size_is_output() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let reply = answered("{}", b"hello", ExecRequest::default()).unwrap();
    assert_eq!((reply.stdout(), reply.stderr()), (b"hello".as_slice(), b"".as_slice()));
    assert_eq!((reply.outcome(), reply.header.exit_code), (Outcome::StatusLost, None));
}

#[test]
fn a_reply_that_contradicts_itself_or_the_request_is_refused() {
    for bad in [
        r#"{"stdout_size":5,"stderr_size":1,"exit_code":0}"#,
        r#"{"stdout_size":4,"stderr_size":0,"exit_code":0}"#,
        r#"{"stdout_size":4,"exit_code":0}"#,
        r#"{"stderr_size":6,"exit_code":0}"#,
        r#"{"stdout_size":18446744073709551615,"stderr_size":6,"exit_code":0}"#,
        r#"{"exit_code":256}"#,
        r#"{"exit_code":-1}"#,
        r#"{"exit_code":0,"signal":9}"#,
        r#"{"exit_code":null,"signal":9}"#,
        r#"{"exit_code":128,"signal":0}"#,
        r#"{"exit_code":0,"stdout_total":4}"#,
        r#"{"exit_code":0,"stdout_total":6}"#,
        r#"{"exit_code":0,"stderr_total":1}"#,
        r#"{"exit_code":0,"id":1}"#,
        r#"{"exit_code":0,"id":"another"}"#,
        r#"{"stream":"stdout"}"#,
        r#"{"exit_code":"0"}"#,
        r#"{"exit_code":1.5}"#,
        r#"{"exit_code":9000000000}"#,
        r#"{"stdout_size":-1}"#,
        r#"{"truncated":1}"#,
        r#"{"charset":[]}"#,
    ] {
        assert_eq!(
            kind(answered(bad, b"hello", ExecRequest::default())),
            ErrorKind::BadReply,
            "{bad}"
        );
    }
}

#[test]
fn every_error_of_a_server_reaches_the_client_as_one_of_its_own() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    for server in ErrorKind::ALL.iter().filter(|kind| !kind.is_remote()) {
        let header = message::ErrorReply::new(*server, "why", None).header();
        let error = answered(&header, b"", ExecRequest::default()).unwrap_err();
        assert!(error.kind().is_remote() && error.kind() != ErrorKind::RemoteOther, "{server:?}");
        assert_eq!(error.detail(), "why");
    }
    for (server, client) in [
        (ErrorKind::Argument, ErrorKind::RemoteBadRequest),
        (ErrorKind::BadField, ErrorKind::RemoteBadRequest),
        (ErrorKind::TooBig, ErrorKind::RemoteTooBig),
        (ErrorKind::Spawn, ErrorKind::RemoteSpawnFailed),
        (ErrorKind::Unsupported, ErrorKind::RemoteUnsupported),
        (ErrorKind::Denied, ErrorKind::RemoteDenied),
        (ErrorKind::Busy, ErrorKind::RemoteBusy),
        (ErrorKind::Stalled, ErrorKind::RemoteTimedOut),
        (ErrorKind::NoMemory, ErrorKind::RemoteIo),
    ] {
        let header = message::ErrorReply::new(server, "", None).header();
        assert_eq!(kind(answered(&header, b"", ExecRequest::default())), client);
    }
    let unknown = r#"{"status":"error","code":"new","message":"bell \u0007"}"#;
    let error = answered(unknown, b"", ExecRequest::default()).unwrap_err();
    assert_eq!((error.kind(), error.detail()), (ErrorKind::RemoteOther, r"bell \u{7}"));
}
