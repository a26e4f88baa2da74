//! Exec clients and servers that go away, dawdle, or break off in the middle.

use std::cell::Cell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::channel::{Kind, fill, socket_pair, tcp};
use crate::common::exec::{LONG, Presence, ask, exact, serve, within};
use crate::common::process::{alone, memory};
use crate::common::proxy::{Direction, Fault, at_every_offset};
use crate::common::{kind, peer, sealing};
use framefd::ops::exec::Limits;
use framefd::ops::exec::{self, Reply, Report, Request, ServeOptions, Served};
use framefd::ops::frame::{self, Frame};
use framefd::wire::message::exec::OnClose;
use framefd::{Duplex, ErrorKind, Result};
use rustix::io::Errno;
use serde_json::json;

const SHORT: Duration = Duration::from_millis(50);
/// No test waits for it.
const FOR_EVER: Duration = Duration::MAX;

/// One end of a connection.
struct End {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl End {
    fn of(fd: impl Into<OwnedFd>) -> End {
        let reader = fd.into();
        End { writer: reader.try_clone().unwrap(), reader }
    }

    fn duplex(&self) -> Duplex<'_> {
        Duplex { reader: self.reader.as_fd(), writer: self.writer.as_fd() }
    }

    fn send(&self, command: &str) {
        self.ask(r#"{"cmd":"exec"}"#, command.as_bytes());
    }

    fn ask(&self, header: &str, body: &[u8]) {
        frame::send(self.writer.as_fd(), Some(header), body, &within(LONG)).unwrap();
    }

    fn recv(&self) -> Frame {
        frame::recv(self.reader.as_fd(), &within(LONG)).unwrap()
    }

    /// Sends no more, but can still receive.
    fn half_close(self) -> OwnedFd {
        let _ = rustix::net::shutdown(&self.writer, rustix::net::Shutdown::Write);
        self.reader
    }
}

/// A client and a server.
fn unix() -> (End, End) {
    let (client, server) = socket_pair();
    (End::of(client), End::of(server))
}

fn over_tcp() -> (End, End) {
    let (client, server) = tcp();
    (End::of(client), End::of(server))
}

fn pipes() -> (End, End) {
    let (there, back) = (Kind::Pipe.open(), Kind::Pipe.open());
    let client = End { reader: back.reader, writer: there.writer };
    (client, End { reader: there.reader, writer: back.writer })
}

fn terminal() -> (End, End) {
    let channel = Kind::ToTerminal.open();
    (End::of(channel.writer), End::of(channel.reader))
}

/// No command outlives a test by long, even if it fails.
fn close_grace(close_grace: Duration) -> ServeOptions<'static> {
    let limits = Limits { time: Some(LONG), ..Limits::default() };
    ServeOptions { close_grace, limits, ..ServeOptions::default() }
}

#[track_caller]
fn report(served: Result<Served>) -> Report {
    match served {
        Ok(Served::Ran(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// Serves the request that `client` has sent, and lets it act once the command runs. The
/// command's processes have to be gone afterwards.
fn serve_until_gone<T: Send>(
    (client, server): (End, End),
    command: &str,
    options: &ServeOptions<'_>,
    act: impl FnOnce(End) -> T + Send,
) -> (Result<Served>, T) {
    let presence = Presence::new();
    client.send(&presence.of(command));
    let outcomes = thread::scope(|scope| {
        let acting = scope.spawn(|| {
            presence.wait_for_begin();
            act(client)
        });
        (serve(server.duplex(), options), acting.join().unwrap())
    });
    presence.wait_for_end();
    outcomes
}

/// Returns what stays open.
type HangUp = fn(End) -> Option<OwnedFd>;

#[test]
fn a_client_that_hangs_up_ends_its_command_at_once() {
    let (master, slave) = terminal();
    let cases: [(&str, (End, End), HangUp); 5] = [
        ("a Unix socket is closed", unix(), |_| None),
        ("a TCP socket is reset", over_tcp(), |client| {
            let at_once = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(&client.writer, at_once).unwrap();
            None
        }),
        ("the reply's pipe is closed", pipes(), |client| Some(client.writer)),
        ("a terminal's master is closed", terminal(), |_| None),
        ("a terminal is closed", (slave, master), |_| None),
    ];
    for (name, connection, hang_up) in cases {
        let start = Instant::now();
        let command = "sleep 1000 & sleep 1000; echo";
        let (served, _) = serve_until_gone(connection, command, &close_grace(FOR_EVER), hang_up);
        assert_eq!(kind(served), ErrorKind::Closed, "{name}");
        assert!(start.elapsed() < LONG, "{name}");
    }
}

#[test]
fn a_command_whose_client_is_gone_is_killed_if_need_be() {
    let mut options = close_grace(FOR_EVER);
    options.limits.term_grace = SHORT;
    let command = "trap '' TERM; while :; do sleep 1000; done";
    let (served, ()) = serve_until_gone(unix(), command, &options, drop);
    assert_eq!(kind(served), ErrorKind::Closed);
}

#[test]
fn a_tcp_client_that_closes_ends_its_command_after_the_grace() {
    let start = Instant::now();
    let (served, ()) = serve_until_gone(over_tcp(), "sleep 1000", &close_grace(SHORT), drop);
    assert!((SHORT..LONG).contains(&start.elapsed()));
    let report = report(served);
    assert_eq!((report.client_gone, report.reply.signal), (true, Some(15)));
    assert!(!report.reply.timed_out);
}

#[test]
fn a_half_closed_client_gets_its_reply_within_the_grace() {
    for (client, server) in [unix(), over_tcp(), pipes()] {
        // Before the command has begun, which is no less of a half-close.
        client.send("sleep 0.05; echo done");
        let client = End::of(client.half_close());
        let report = report(serve(server.duplex(), &close_grace(FOR_EVER)));
        assert_eq!((report.client_gone, report.reply.exit_code), (true, Some(0)));
        assert_eq!(client.recv().body, b"done\n");
    }
}

#[test]
fn a_half_closed_client_is_told_that_its_command_was_ended_after_the_grace() {
    for connection in [unix(), over_tcp(), pipes()] {
        let start = Instant::now();
        let (served, client) =
            serve_until_gone(connection, "sleep 1000 & wait", &close_grace(SHORT), End::half_close);
        assert!((SHORT..LONG).contains(&start.elapsed()));
        assert!(report(served).client_gone);
        let reply = End::of(client).recv();
        assert_eq!(reply.header.integer("signal").unwrap(), 15);
        assert!(reply.header.boolean("timed_out").is_err(), "its time was not up");
    }
}

#[test]
fn a_command_may_run_on_without_its_client() {
    if sealing::leaves_out(sealing::GONE) {
        return;
    }
    let of_server = ServeOptions { on_close: OnClose::Run, ..close_grace(Duration::ZERO) };
    let of_request = close_grace(Duration::ZERO);
    for (options, header) in
        [(of_server, r#"{"cmd":"exec"}"#), (of_request, r#"{"cmd":"exec","on_close":"run"}"#)]
    {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("done");
        let command = format!("sleep 0.1; echo done | tee {}", path.display());
        for (client, server) in [unix(), over_tcp(), pipes()] {
            client.ask(header, command.as_bytes());
            let client = End::of(client.half_close());
            assert_eq!(report(serve(server.duplex(), &options)).reply.exit_code, Some(0));
            assert_eq!(client.recv().body, b"done\n", "it is only half-closed");
            fs::remove_file(&path).unwrap();
        }
        for (client, server) in [unix(), pipes()] {
            client.ask(header, command.as_bytes());
            drop(client);
            let error = serve(server.duplex(), &options).unwrap_err();
            assert_eq!(
                (error.kind(), error.errno()),
                (ErrorKind::Io, Errno::PIPE.raw_os_error()),
                "and this process did not get the signal"
            );
            fs::remove_file(&path).expect("the command has run to its end");
        }
    }
}

#[test]
fn a_request_can_have_its_command_ended_where_the_server_would_not() {
    let options = ServeOptions { on_close: OnClose::Run, ..close_grace(Duration::ZERO) };
    let (client, server) = unix();
    client.ask(r#"{"cmd":"exec","on_close":"kill"}"#, b"sleep 1000");
    drop(client);
    assert_eq!(kind(serve(server.duplex(), &options)), ErrorKind::Closed);
}

#[test]
fn a_client_that_does_not_read_its_reply_is_given_up() {
    alone("faults::a_client_that_does_not_read_its_reply_is_given_up", || {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = (memory(), descriptors());
        let options = ServeOptions { reply_timeout: Some(SHORT), ..ServeOptions::default() };
        for (client, server) in [unix(), over_tcp(), pipes(), unix(), over_tcp(), pipes()] {
            let start = Instant::now();
            client.send("head -c 16777216 /dev/zero");
            assert_eq!(kind(serve(server.duplex(), &options)), ErrorKind::Stalled);
            assert!((SHORT..LONG).contains(&start.elapsed()));
        }
        let after = (memory(), descriptors());
        assert_eq!(after.1, before.1);
        // The allocator keeps two of the six for later.
        assert!(after.0 < before.0 + (40 << 20), "{} bytes are still there", after.0 - before.0);
        let children = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
        assert_eq!(children.unwrap_err(), Errno::CHILD);
    });
}

#[test]
fn a_client_that_has_no_room_for_a_reply_is_given_up_as_well() {
    if sealing::leaves_out(sealing::ROOM) {
        return;
    }
    let options = ServeOptions { reply_timeout: Some(SHORT), ..ServeOptions::default() };
    for command in ["true", ""] {
        for (client, server) in [unix(), over_tcp(), pipes()] {
            client.send(command);
            fill(&server.writer);
            assert_eq!(kind(serve(server.duplex(), &options)), ErrorKind::Stalled);
        }
    }
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_its_reply() {
    const SIZE: usize = 3 << 20;
    let time_limit = Duration::from_millis(500);
    let options = ServeOptions { reply_timeout: Some(time_limit), ..ServeOptions::default() };
    let (client, server) = unix();
    client.send(&format!("head -c {SIZE} /dev/zero"));
    thread::scope(|scope| {
        let outcome = scope.spawn(|| serve(server.duplex(), &options));
        let mut reply = peer::next(&client.reader).unwrap();
        let start = Instant::now();
        let mut piece = vec![0; SIZE / 60];
        while reply.left > 0 {
            assert!(reply.read(&mut piece).unwrap() > 0);
            thread::sleep(Duration::from_millis(10));
        }
        assert!(start.elapsed() > time_limit, "it was not slow");
        assert_eq!(report(outcome.join().unwrap()).reply.exit_code, Some(0));
    });
}

#[test]
fn a_request_that_does_not_come_whole_is_not_run() {
    let root = tempfile::tempdir().unwrap();
    let options = ServeOptions {
        reply_timeout: Some(SHORT),
        directory: Some(root.path().to_owned()),
        ..ServeOptions::default()
    };
    let (client, server) = unix();
    peer::begin(&client.writer, json!({"cmd": "exec"}), 20);
    peer::send_bytes(&client.writer, b"touch ran;");
    assert_eq!(kind(serve(server.duplex(), &options)), ErrorKind::Stalled);
    assert!(!root.path().join("ran").exists());
}

#[test]
fn a_refused_request_that_does_not_come_whole_gets_its_reply() {
    let options = ServeOptions { reply_timeout: Some(SHORT), ..ServeOptions::default() };
    for (half_closes, expected) in [(true, ErrorKind::Truncated), (false, ErrorKind::Stalled)] {
        for (client, server) in [unix(), over_tcp(), pipes()] {
            peer::begin(&client.writer, json!({"cmd": "exec", "id": 7}), 1 << 30);
            peer::send_bytes(&client.writer, b"too big");
            let client = if half_closes { End::of(client.half_close()) } else { client };
            assert_eq!(kind(serve(server.duplex(), &options)), expected);
            let reply = client.recv();
            assert_eq!(reply.header.string("code").unwrap(), "too_big");
            assert_eq!(reply.header.integer("id").unwrap(), 7);
        }
    }
}

#[test]
fn a_refused_request_may_take_longer_than_a_reply() {
    let time_limit = Duration::from_millis(300);
    let options = ServeOptions { reply_timeout: Some(time_limit), ..ServeOptions::default() };
    let (client, server) = unix();
    thread::scope(|scope| {
        let outcome = scope.spawn(|| serve(server.duplex(), &options));
        let start = Instant::now();
        peer::begin(&client.writer, json!({"cmd": "exec"}), 1 << 20);
        for _ in 0..1 << 6 {
            peer::send_bytes(&client.writer, &[b' '; 1 << 14]);
            thread::sleep(Duration::from_millis(6));
        }
        assert!(start.elapsed() > time_limit, "it was not slow");
        assert!(matches!(outcome.join().unwrap(), Ok(Served::Refused(_))));
    });
}

#[test]
fn one_deadline_covers_the_exchange_of_a_client() {
    let request = Request { command: b"x", ..Request::default() };
    let ask = |client: &End| {
        let start = Instant::now();
        let error =
            kind(exec::call(&mut sealing::as_client(client.duplex(), exact), &request, SHORT));
        assert!((SHORT..LONG).contains(&start.elapsed()));
        error
    };
    for (client, server) in [unix(), over_tcp(), pipes()] {
        assert_eq!(ask(&client), ErrorKind::TimedOut, "no reply comes");
        let _still_open = server;
    }
    for (client, server) in [unix(), over_tcp(), pipes()] {
        let mut reply = b"\x11\0\0\0{\"data_size\":999}".to_vec();
        reply.resize(4 + 17 + 999, b'x');
        thread::scope(|scope| {
            // One byte after the other: each in time, but all of them too late.
            scope.spawn(|| {
                let mut writer = fs::File::from(server.writer);
                for byte in reply {
                    thread::sleep(Duration::from_millis(5));
                    if writer.write_all(&[byte]).is_err() {
                        break;
                    }
                }
            });
            assert_eq!(ask(&client), ErrorKind::TimedOut, "it comes too slowly");
            drop(client);
        });
    }
    for (client, server) in [unix(), over_tcp(), pipes()] {
        fill(&client.writer);
        assert_eq!(ask(&client), ErrorKind::TimedOut, "nothing was sent");
        let _still_open = server;
    }
}

#[test]
fn a_server_that_closes_instead_of_replying() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let request = Request { command: b"x", ..Request::default() };
    for ((client, server), sent, expected) in [
        (unix(), b"".as_slice(), ErrorKind::Closed),
        (over_tcp(), b"", ErrorKind::Closed),
        (pipes(), b"", ErrorKind::Closed),
        (unix(), b"\x02\0\0\0{", ErrorKind::Truncated),
        (unix(), b"\x0f\0\0\0{\"data_size\":2}x", ErrorKind::Truncated),
        (unix(), b"HTTP/1.1 400 Bad Request\r\n", ErrorKind::TooBig),
    ] {
        thread::scope(|scope| {
            scope.spawn(|| {
                frame::recv(server.reader.as_fd(), &within(LONG)).unwrap();
                fs::File::from(server.writer).write_all(sent).unwrap();
                drop(server.reader);
            });
            assert_eq!(kind(ask(client.duplex(), &request)), expected);
        });
    }
}

#[test]
fn a_command_survives_every_split_and_notices_every_cut() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("log");
    let options = ServeOptions {
        directory: Some(root.path().to_owned()),
        limits: Limits { term_grace: SHORT, ..Limits::default() },
        ..ServeOptions::default()
    };
    let client = |stream: &UnixStream| {
        let command = b"echo >>log; echo out; echo err >&2; exit 3";
        let request = Request { command, ..Request::default() };
        ask(stream.as_fd().into(), &request)
    };
    let server = |stream: &UnixStream| serve(stream.as_fd().into(), &options);
    let runs = Cell::new(0);
    let check = |fault, client: Result<Reply>, server: Result<Served>| {
        let ran = fs::read(&log).unwrap().len() - runs.get();
        runs.set(runs.get() + ran);
        let cut_kind = |at| if at == 0 { ErrorKind::Closed } else { ErrorKind::Truncated };
        match fault {
            Fault::Cut(Direction::ToServer, at) => {
                assert_eq!(kind(server), cut_kind(at), "{fault:?}");
                assert_eq!(kind(client), ErrorKind::Closed, "{fault:?}");
                assert_eq!(ran, 0, "{fault:?}: a part of a request was run");
                return;
            }
            Fault::Cut(Direction::ToClient, at) => {
                assert_eq!(kind(client), cut_kind(at), "{fault:?}");
            }
            _ => {
                let reply = client.unwrap();
                assert_eq!((reply.stdout(), reply.stderr()), (&b"out\n"[..], &b"err\n"[..]));
                assert_eq!(reply.header.exit_code, Some(3), "{fault:?}");
            }
        }
        assert_eq!(report(server).reply.exit_code, Some(3), "{fault:?}");
        assert_eq!(ran, 1, "{fault:?}");
    };
    let (to_server, to_client) = at_every_offset(client, server, check);
    assert!(to_server == 4 + 61 + 42 && to_client > 100, "{to_server}, {to_client}");
}
