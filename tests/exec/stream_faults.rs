//! Streamed commands whose client or server goes away, breaks off, lies or does not read.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::channel::{Kind, drain, fill, socket_pair, tcp, unread};
use crate::common::exec::{LONG, Presence, serve, within};
use crate::common::peer::{self, send_bytes};
use crate::common::process::{alone, peak_memory};
use crate::common::proxy::{Direction, Fault, at_every_offset};
use crate::common::stream::{
    Remote, drop_late_input, duplexes, finish, json_of, limited, read_all, read_until, recv, send,
    serving, shell, shell_with, start,
};
use crate::common::{encoded, kind, sealing};
use framefd::ops::exec::{Request, ServeOptions, Served};
use framefd::ops::frame;
use framefd::wire::message::exec::{ExecReply, ExecRequest, OnClose};
use framefd::{Duplex, Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::json;

const SHORT: Duration = Duration::from_millis(50);
/// No test waits for it.
const FOR_EVER: Duration = Duration::MAX;

fn on_close(on_close: OnClose, close_grace: Duration) -> ServeOptions<'static> {
    ServeOptions { on_close, close_grace, ..limited() }
}

/// A client's and a server's end of a connection of each kind.
fn connections() -> [(OwnedFd, OwnedFd); 2] {
    let (unix, unix_server) = socket_pair();
    let (tcp, tcp_server) = tcp();
    [(unix.into(), unix_server.into()), (tcp.into(), tcp_server.into())]
}

/// Has `act` act as a client once its streamed command runs, and says what became of it;
/// the command's processes have to be gone afterwards.
fn serve_until_gone(
    (client, server): (OwnedFd, OwnedFd),
    command: &str,
    options: &ServeOptions<'_>,
    act: impl FnOnce(OwnedFd) + Send,
) -> Result<Served> {
    let presence = Presence::new();
    let header = json!({"cmd": "exec", "stream": true});
    send(client.as_fd().into(), &header, presence.of(command).as_bytes());
    let (ran, ()) = serving(server.as_fd().into(), options, || {
        presence.wait_for_begin();
        act(client);
    });
    presence.wait_for_end();
    ran
}

fn half_close(fd: &OwnedFd) {
    rustix::net::shutdown(fd, rustix::net::Shutdown::Write).unwrap();
}

/// Sends so much input that some of it stays unread, since the command takes none.
fn send_too_much_input(client: &OwnedFd, server: &OwnedFd) -> usize {
    let piece = encoded(r#"{"stream":"stdin","data_size":4096}"#, &[b'x'; 4096]);
    let mut total = 0;
    loop {
        send_bytes(client, &piece);
        total += 4096;
        let begin = Instant::now();
        while unread(server) > 0 {
            if begin.elapsed() > SHORT * 4 {
                return total;
            }
            thread::yield_now();
        }
    }
}

#[test]
fn a_client_that_is_gone_ends_its_command_at_once() {
    for with_input in [false, true] {
        for connection in connections() {
            let start = Instant::now();
            let options = on_close(OnClose::Kill, FOR_EVER);
            let server = connection.1.try_clone().unwrap();
            let ran = serve_until_gone(connection, "sleep 1000 & sleep 1000", &options, |client| {
                if with_input {
                    send_too_much_input(&client, &server);
                }
            });
            // On TCP what is sent to find out is answered by a reset.
            assert_eq!(kind(ran), ErrorKind::Closed, "{with_input}");
            assert!(start.elapsed() < LONG);
        }
    }
}

#[test]
fn a_client_that_is_killed_ends_its_command() {
    const ADDRESS: &str = "FRAMEFD_TEST_ADDRESS";
    const INPUT: &str = "FRAMEFD_TEST_INPUT";
    if let Some(address) = std::env::var_os(ADDRESS) {
        let stream = std::net::TcpStream::connect(address.to_str().unwrap()).unwrap();
        let command = std::env::var("FRAMEFD_TEST_COMMAND").unwrap();
        let mut remote = start(stream.as_fd().into(), &shell(&command));
        if std::env::var_os(INPUT).is_some() {
            let _ = remote.write(&vec![b'x'; 60_000], Some(LONG));
            while remote.write(&vec![b'x'; 60_000], Some(SHORT)).is_ok() {}
        }
        println!("sent");
        let _ = remote.read(&mut [0], Some(LONG));
        panic!("it was not killed");
    }
    for with_input in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let presence = Presence::new();
        let mut client = Command::new(std::env::current_exe().unwrap());
        client
            .args([
                "--exact",
                "--nocapture",
                "stream_faults::a_client_that_is_killed_ends_its_command",
            ])
            .env(ADDRESS, listener.local_addr().unwrap().to_string())
            .env("FRAMEFD_TEST_COMMAND", presence.of("sleep 1000"))
            .stdout(Stdio::piped());
        if with_input {
            client.env(INPUT, "1");
        }
        let mut client = client.spawn().unwrap();
        let (server, _) = listener.accept().unwrap();
        let options = on_close(OnClose::Kill, FOR_EVER);
        let (ran, ()) = serving(server.as_fd().into(), &options, || {
            presence.wait_for_begin();
            let mut said = Vec::new();
            let stdout = client.stdout.as_mut().unwrap();
            while !said.ends_with(b"sent\n") {
                let mut byte = [0];
                stdout.read_exact(&mut byte).unwrap();
                said.push(byte[0]);
            }
            client.kill().unwrap();
        });
        assert_eq!(kind(ran), ErrorKind::Closed, "{with_input}");
        client.wait().unwrap();
        presence.wait_for_end();
    }
}

#[test]
fn a_reset_ends_a_command_at_once() {
    let (client, server) = tcp();
    let options = on_close(OnClose::Kill, FOR_EVER);
    let connection = (client.into(), server.into());
    let ran = serve_until_gone(connection, "sleep 1000", &options, |client| {
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(kind(ran), ErrorKind::Closed);
}

#[test]
fn a_failed_write_ends_a_command() {
    for (client, server) in connections() {
        let options = on_close(OnClose::Kill, FOR_EVER);
        let ran = serve_until_gone((client, server), "yes", &options, drop);
        assert_eq!(kind(ran), ErrorKind::Closed);
    }
    let (there, back) = (Kind::Pipe.open(), Kind::Pipe.open());
    let presence = Presence::new();
    let header = json!({"cmd": "exec", "stream": true}).to_string();
    let command = presence.of("sleep 1000");
    frame::send(there.writer.as_fd(), Some(&header), command.as_bytes(), &within(LONG)).unwrap();
    let server = Duplex { reader: there.reader.as_fd(), writer: back.writer.as_fd() };
    let client = back.reader;
    let (ran, ()) = serving(server, &on_close(OnClose::Kill, FOR_EVER), || {
        presence.wait_for_begin();
        drop(client);
    });
    assert_eq!(kind(ran), ErrorKind::Closed, "its pipe is closed");
    presence.wait_for_end();
}

#[test]
fn a_half_close_ends_the_input_and_the_command_after_the_grace() {
    for connection in connections() {
        let begin = Instant::now();
        let options = on_close(OnClose::Kill, SHORT);
        let (client, server) = connection;
        let open = client.try_clone().unwrap();
        let command = "cat >/dev/null; echo end of input; sleep 1000";
        let ran = serve_until_gone((client, server), command, &options, |client| {
            half_close(&client);
        });
        assert!((SHORT..LONG).contains(&begin.elapsed()));
        assert!(matches!(ran, Ok(Served::Ran(report)) if report.client_gone));
        let mut output = Vec::new();
        let reply = loop {
            let mut frame = recv(open.as_fd().into());
            output.append(&mut frame.body);
            if frame.header.string("stream").is_err() {
                break frame;
            }
        };
        assert_eq!(output, b"end of input\n");
        assert_eq!(reply.header.integer("signal").unwrap(), 15);
    }
}

#[test]
fn a_half_closed_client_gets_its_reply() {
    for (on_close_of, grace, command) in [
        (OnClose::Kill, FOR_EVER, "cat; sleep 0.05; echo end"),
        (OnClose::Run, Duration::ZERO, "cat; sleep 0.2; echo end"),
    ] {
        for (client, server) in connections() {
            let options = on_close(on_close_of, grace);
            let client: Duplex<'_> = client.as_fd().into();
            let (ran, ()) = serving(server.as_fd().into(), &options, || {
                let mut remote = start(client, &shell(command));
                remote.write(b"abc", Some(LONG)).unwrap();
                read_until(&mut remote, "abc");
                rustix::net::shutdown(client.writer, rustix::net::Shutdown::Write).unwrap();
                let (stdout, _, reply) = finish(&mut remote);
                assert_eq!((&*stdout, reply.exit_code), ("end\n", Some(0)));
            });
            let Served::Ran(report) = ran.unwrap() else { panic!() };
            assert_eq!(report.client_gone, on_close_of == OnClose::Kill);
        }
    }
}

#[test]
fn a_half_close_behind_input_that_is_not_read_yet_does_not_end_the_command() {
    for (client, server) in connections() {
        let presence = Presence::new();
        let command = presence.of("read go <$0; cat | wc -c");
        let root = tempfile::tempdir().unwrap();
        let go = root.path().join("go");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &go,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let command = command.replace("$0", go.to_str().unwrap());
        // What is not seen as long as input is unread starts no grace.
        let options = on_close(OnClose::Kill, Duration::from_secs(10));
        let header = json!({"cmd": "exec", "stream": true});
        send(client.as_fd().into(), &header, command.as_bytes());
        let (ran, ()) = serving(server.as_fd().into(), &options, || {
            presence.wait_for_begin();
            let sent = send_too_much_input(&client, &server);
            half_close(&client);
            // The server asks whether anybody is there.
            let probe = recv(client.as_fd().into());
            assert_eq!(json_of(&probe), json!({"data_size": 0, "stream": "stdout"}));
            thread::sleep(SHORT);
            assert!(unread(&client) < 1000, "it asks again and again");
            File::options().write(true).open(&go).unwrap().write_all(b"go\n").unwrap();
            let output = loop {
                let frame = recv(client.as_fd().into());
                if !frame.body.is_empty() {
                    break String::from_utf8(frame.body).unwrap();
                }
            };
            assert_eq!(output.trim(), sent.to_string());
            let reply = recv(client.as_fd().into());
            assert_eq!(reply.header.integer("exit_code").unwrap(), 0);
        });
        assert!(matches!(ran, Ok(Served::Ran(_))), "{ran:?}");
    }
}

#[test]
fn a_command_may_run_on_without_its_client() {
    let input = b"abc\n".repeat(10_000);
    for from_request in [false, true] {
        for (client, server) in connections() {
            let root = tempfile::tempdir().unwrap();
            let options = if from_request {
                on_close(OnClose::Kill, Duration::ZERO)
            } else {
                on_close(OnClose::Run, Duration::ZERO)
            };
            let options = ServeOptions { directory: Some(root.path().to_owned()), ..options };
            let mut header = json!({"cmd": "exec", "stream": true});
            if from_request {
                header["on_close"] = json!("run");
            }
            // It writes while nobody is there, and reads all that was sent before.
            let command =
                b"echo up; sleep 0.1; head -c 300000 /dev/zero; cat >copy; echo done >done";
            let (ran, ()) = serving(server.as_fd().into(), &options, || {
                let client = client;
                send(client.as_fd().into(), &header, command);
                send(client.as_fd().into(), &json!({"stream": "stdin"}), &input);
                assert_eq!(recv(client.as_fd().into()).body, b"up\n");
            });
            let error = ran.unwrap_err();
            let errnos = [Errno::PIPE, Errno::CONNRESET].map(Errno::raw_os_error);
            // A sealed stream without an end mark was cut, whether or not it was written to.
            let is_cut = sealing::are_sealed() && error.kind() == ErrorKind::Truncated;
            assert!(errnos.contains(&error.errno()) || is_cut, "{error}");
            assert_eq!(fs::read(root.path().join("done")).unwrap(), b"done\n");
            assert!(fs::read(root.path().join("copy")).unwrap() == input);
        }
    }
}

#[test]
fn what_is_no_frame_for_a_command_ends_it() {
    let too_long = u32::MAX.to_le_bytes();
    let header = |header: &str| encoded(header, b"");
    for (name, bytes, closes, expected) in [
        ("a request", header(r#"{"cmd":"exec","data_size":0}"#), false, ErrorKind::BadField),
        ("no JSON", header("hello"), false, ErrorKind::BadJson),
        ("an unknown frame", header(r#"{"new":1}"#), false, ErrorKind::BadField),
        ("nothing known", header("{}"), false, ErrorKind::BadField),
        ("an unknown stream", header(r#"{"stream":"stdout"}"#), false, ErrorKind::BadField),
        ("an unknown signal", header(r#"{"signal":"SEGV"}"#), false, ErrorKind::BadField),
        (
            "a signal with a body",
            header(r#"{"signal":"INT","data_size":1}"#),
            false,
            ErrorKind::BadField,
        ),
        ("a size of one", header(r#"{"resize":{"rows":1}}"#), false, ErrorKind::BadField),
        (
            "a data_size of another kind",
            header(r#"{"stream":"stdin","data_size":"1"}"#),
            false,
            ErrorKind::BadField,
        ),
        (
            "a negative data_size",
            header(r#"{"stream":"stdin","data_size":-1}"#),
            false,
            ErrorKind::BadField,
        ),
        (
            "a data_size above all",
            header(r#"{"stream":"stdin","data_size":9223372036854775808}"#),
            false,
            ErrorKind::TooBig,
        ),
        ("a negative length", too_long.to_vec(), false, ErrorKind::BadLength),
        ("no length", vec![0; 4], false, ErrorKind::BadLength),
        ("a long header", 65_537_u32.to_le_bytes().to_vec(), false, ErrorKind::TooBig),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false, ErrorKind::TooBig),
        ("half of a length", vec![5, 0], true, ErrorKind::Truncated),
        ("half of a header", b"\x05\0\0\0{".to_vec(), true, ErrorKind::Truncated),
        (
            "less than it says",
            encoded(r#"{"stream":"stdin","data_size":6}"#, b"hello"),
            true,
            ErrorKind::Truncated,
        ),
    ] {
        for of in [OnClose::Kill, OnClose::Run] {
            for (client, server) in connections() {
                let options = on_close(of, FOR_EVER);
                let open = client.try_clone().unwrap();
                // With output that waits, which has to come whole before anything else.
                let command = "trap '' TERM; echo up; cat >/dev/null; sleep 1000";
                let ran = serve_until_gone((client, server), command, &options, |client| {
                    assert_eq!(recv(client.as_fd().into()).body, b"up\n");
                    send_bytes(&client, &bytes);
                    if closes {
                        half_close(&client);
                    }
                    loop {
                        let reply = json_of(&recv(client.as_fd().into()));
                        if reply.get("stream").is_none() {
                            assert_eq!(
                                (&reply["status"], &reply["code"]),
                                (&json!("error"), &json!("bad_request")),
                                "{name}"
                            );
                            break;
                        }
                    }
                });
                assert_eq!(kind(ran), expected, "{name}");
                drop(open);
            }
        }
    }
}

#[test]
fn a_client_of_ours_is_told_what_the_server_did_not_understand() {
    let (client, server) = socket_pair();
    let client: Duplex<'_> = client.as_fd().into();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell("echo up; sleep 1000"));
        read_until(&mut remote, "up\n");
        send(client, &json!({"cmd": "exec"}), b"echo second");
        assert_eq!(kind(remote.read(&mut [0], Some(LONG))), ErrorKind::RemoteBadRequest);
    });
    assert_eq!(kind(ran), ErrorKind::BadField);
}

#[test]
fn a_client_that_does_not_read_slows_its_command_down() {
    alone("stream_faults::a_client_that_does_not_read_slows_its_command_down", || {
        let root = tempfile::tempdir().unwrap();
        for (client, server) in connections() {
            let before = peak_memory();
            let options = ServeOptions {
                directory: Some(root.path().to_owned()),
                reply_timeout: Some(SHORT),
                ..limited()
            };
            // 64 KiB after 64 KiB; the count of them is there to be looked at.
            let command = "exec 4>count; while head -c 65536 /dev/zero; do echo x >&4; done";
            let (ran, ()) = serving(server.as_fd().into(), &options, || {
                let mut remote = start(client.as_fd().into(), &shell(command));
                let count = || fs::metadata(root.path().join("count")).map_or(0, |m| m.len() / 2);
                let mut last = 0;
                // It stands still, for longer than a reply may wait.
                let mut still = Instant::now();
                while still.elapsed() < SHORT * 6 {
                    thread::sleep(SHORT / 10);
                    if count() != last {
                        (last, still) = (count(), Instant::now());
                    }
                }
                assert!((1..1000).contains(&last), "{last} pieces");
                // And goes on when it is read.
                let mut buf = vec![0; 1 << 20];
                while count() < last + 100 {
                    remote.read(&mut buf, Some(LONG)).unwrap().unwrap();
                }
                remote.signal(libc::SIGKILL);
                read_all(&mut remote).unwrap();
            });
            ran.unwrap();
            assert!(peak_memory() - before < 8 << 20, "{}", peak_memory() - before);
        }
    });
}

#[test]
fn a_client_that_never_reads_is_given_up_after_the_end() {
    if sealing::leaves_out(sealing::ROOM) {
        return;
    }
    for command in ["head -c 10000000 /dev/zero", "yes"] {
        for connection in connections() {
            let mut options = ServeOptions { reply_timeout: Some(SHORT), ..limited() };
            options.limits.time = Some(SHORT * 4);
            let begin = Instant::now();
            let mut open = None;
            // How much is on its way depends on the machine.
            fill(&connection.1);
            let ran = serve_until_gone(connection, command, &options, |client| {
                open = Some(client);
            });
            assert_eq!(kind(ran), ErrorKind::Stalled);
            assert!(begin.elapsed() < LONG);
        }
    }
    // As is one that has no room for the reply alone.
    for (client, server) in connections() {
        let options = ServeOptions { reply_timeout: Some(SHORT), ..limited() };
        send(client.as_fd().into(), &json!({"cmd": "exec", "stream": true}), b"true");
        fill(&server);
        assert_eq!(kind(serve(server.as_fd().into(), &options)), ErrorKind::Stalled);
    }
}

#[test]
fn a_client_that_reads_slowly_gets_everything() {
    const SIZE: usize = 3 << 20;
    let time_limit = Duration::from_millis(500);
    // Most of it is read after the end of the command.
    let (client, server) = socket_pair();
    let options = ServeOptions { reply_timeout: Some(time_limit), ..limited() };
    let command = format!("head -c {SIZE} /dev/zero");
    let (ran, ()) = serving(server.as_fd().into(), &options, || {
        let mut remote = start(client.as_fd().into(), &shell(&command));
        let begin = Instant::now();
        let mut piece = vec![0; SIZE / 120];
        let mut total = 0;
        while let Some((_, got)) = remote.read(&mut piece, Some(LONG)).unwrap() {
            total += got;
            thread::sleep(Duration::from_millis(15));
        }
        assert!(begin.elapsed() > time_limit * 2, "it was not slow");
        assert_eq!(total, SIZE);
    });
    assert!(matches!(ran, Ok(Served::Ran(_))), "{ran:?}");
}

#[test]
fn output_that_comes_long_after_the_end_has_its_time_too() {
    let time_limit = Duration::from_millis(400);
    let mut options = ServeOptions { reply_timeout: Some(time_limit), ..limited() };
    options.limits.drain_grace = LONG;
    let (client, server) = socket_pair();
    let (ran, ()) = serving(server.as_fd().into(), &options, || {
        let command = "(sleep 0.8; head -c 3000000 /dev/zero) & exit 4";
        let mut remote = start(client.as_fd().into(), &shell(command));
        let [stdout, _] = read_all(&mut remote).unwrap();
        assert_eq!((stdout.len(), remote.reply().unwrap().exit_code), (3_000_000, Some(4)));
    });
    assert!(matches!(ran, Ok(Served::Ran(_))), "{ran:?}");
}

#[test]
fn a_reply_waits_for_a_client_that_writes_first() {
    let (client, server) = socket_pair();
    fill(&server);
    let filler = usize::try_from(unread(&client)).unwrap();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let raw: Duplex<'_> = client.as_fd().into();
        send(raw, &json!({"cmd": "exec", "stream": true}), b"true");
        // In the middle of it the command has ended, and there is no room for the reply.
        send(raw, &json!({"stream": "stdin"}), &vec![b'x'; 10 << 20]);
        (&client).read_exact(&mut vec![0; filler]).unwrap();
        assert_eq!(recv(raw).header.integer("exit_code").unwrap(), 0);
    });
    assert!(matches!(ran, Ok(Served::Ran(_))), "{ran:?}");
}

#[test]
fn what_is_not_understood_is_told_behind_the_output_before_it() {
    // Over TCP, which takes a frame in parts.
    let (client, server) = tcp();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let raw: Duplex<'_> = client.as_fd().into();
        send(raw, &json!({"cmd": "exec", "stream": true}), b"yes");
        let (mut last, mut still) = (0, Instant::now());
        while last == 0 || still.elapsed() < SHORT {
            if unread(&client) != last {
                (last, still) = (unread(&client), Instant::now());
            }
            thread::yield_now();
        }
        send(raw, &json!({"new": 1}), b"");
        let reply = loop {
            let frame = recv(raw);
            if frame.header.string("stream").is_err() {
                break frame;
            }
        };
        assert_eq!(reply.header.string("code").unwrap(), "bad_request");
    });
    assert_eq!(kind(ran), ErrorKind::BadField);
}

#[test]
fn a_reset_in_the_middle_of_input_ends_any_command() {
    for of in [OnClose::Kill, OnClose::Run] {
        let (client, server) = tcp();
        let options = on_close(of, FOR_EVER);
        let connection = (client.into(), server.into());
        let ran = serve_until_gone(connection, "cat; sleep 1000", &options, |client| {
            let half = encoded(r#"{"stream":"stdin","data_size":6}"#, b"hel");
            send_bytes(&client, &half);
            assert!(b"hel".starts_with(&recv(client.as_fd().into()).body));
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        });
        assert_eq!(kind(ran), ErrorKind::Closed, "{of:?}");
    }
}

#[test]
fn a_client_that_writes_before_it_reads_is_read_from_to_the_end() {
    if sealing::leaves_out(sealing::ROOM) {
        return;
    }
    // More than the connection holds, both ways, while the command is gone already.
    for (client, server) in connections() {
        thread::scope(|scope| {
            scope.spawn(|| {
                let client = client;
                let client: Duplex<'_> = client.as_fd().into();
                let command = b"exec <&-; head -c 3000000 /dev/zero";
                send(client, &json!({"cmd": "exec", "stream": true}), command);
                for _ in 0..20 {
                    send(client, &json!({"stream": "stdin"}), &vec![b'x'; 1 << 20]);
                }
                let mut total = 0;
                loop {
                    let frame = recv(client);
                    total += frame.body.len();
                    if frame.header.integer("exit_code").is_ok() {
                        break;
                    }
                }
                assert_eq!(total, 3_000_000);
            });
            assert!(matches!(serve(server.as_fd().into(), &limited()), Ok(Served::Ran(_))));
            while drop_late_input(&server) {}
        });
    }
}

#[test]
fn input_for_one_reply_takes_no_memory_and_its_client_may_go_away() {
    alone("stream_faults::input_for_one_reply_takes_no_memory_and_its_client_may_go_away", || {
        const SIZE: u64 = 100 << 20;
        let piece = vec![b'x'; 1 << 20];
        let before = peak_memory();
        for (command, expected) in [("wc -c", Some(SIZE)), ("true", None)] {
            for (client, server) in connections() {
                let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
                    let header = json!({"cmd": "exec", "stdin_size": SIZE});
                    peer::begin(&client, header, command.len() as u64 + SIZE);
                    send_bytes(&client, command.as_bytes());
                    for _ in 0..SIZE >> 20 {
                        send_bytes(&client, &piece);
                    }
                    let text = String::from_utf8(recv(client.as_fd().into()).body).unwrap();
                    assert_eq!(text.trim().parse().ok(), expected);
                });
                ran.unwrap();
            }
        }
        assert!(peak_memory() - before < 4 << 20, "{}", peak_memory() - before);

        // In the middle of the input, which is then known not to be whole.
        for on_close_of in [OnClose::Kill, OnClose::Run] {
            for (client, server) in connections() {
                let presence = Presence::new();
                let command = presence.of("cat; sleep 1000");
                let header = json!({"cmd": "exec", "stdin_size": SIZE});
                let options = on_close(on_close_of, FOR_EVER);
                let (ran, ()) = serving(server.as_fd().into(), &options, || {
                    let client = client;
                    peer::begin(&client, header, command.len() as u64 + SIZE);
                    send_bytes(&client, command.as_bytes());
                    send_bytes(&client, b"some");
                    presence.wait_for_begin();
                });
                assert!(
                    matches!(kind(ran), ErrorKind::Truncated | ErrorKind::Closed),
                    "{on_close_of:?}"
                );
                presence.wait_for_end();
            }
        }
        // What is not read yet says nothing of its end.
        for (client, server) in connections() {
            let input = vec![b'x'; 2 << 20];
            let (grace, hold) = (Duration::from_secs(1), "sleep 1.5; wc -c");
            let options = on_close(OnClose::Kill, grace);
            let (ran, ()) = serving(server.as_fd().into(), &options, || {
                let header = json!({"cmd": "exec", "stdin_size": input.len()});
                let body = [hold.as_bytes(), &input].concat();
                send(client.as_fd().into(), &header, &body);
                half_close(&client);
                let text = String::from_utf8(recv(client.as_fd().into()).body).unwrap();
                assert_eq!(text.trim(), input.len().to_string());
            });
            ran.unwrap();
        }
        // Behind it, as without any.
        for (client, server) in connections() {
            let presence = Presence::new();
            let command = presence.of("cat; sleep 1000");
            let options = on_close(OnClose::Kill, SHORT);
            let (ran, ()) = serving(server.as_fd().into(), &options, || {
                let client = client;
                let header = json!({"cmd": "exec", "stdin_size": 3});
                send(client.as_fd().into(), &header, format!("{command}abc").as_bytes());
                presence.wait_for_begin();
                half_close(&client);
                let reply = recv(client.as_fd().into());
                assert_eq!(reply.header.integer("signal").unwrap(), 15);
            });
            assert!(matches!(ran, Ok(Served::Ran(report)) if report.client_gone));
            presence.wait_for_end();
        }
    });
}

/// What a client of ours makes of these frames: output, and how it ended.
fn answered(frames: &[(&str, &[u8])], options: ExecRequest) -> Result<ExecReply> {
    let (client, server) = socket_pair();
    let bytes: Vec<u8> = frames.iter().flat_map(|(header, body)| encoded(header, body)).collect();
    let client = client.as_fd().into();
    let mut remote = Remote::start(client, &shell_with("x", options)).unwrap();
    (&server).write_all(&bytes).unwrap();
    server.shutdown(std::net::Shutdown::Write).unwrap();
    let outcome = read_all(&mut remote);
    let again = remote.read(&mut [0], Some(LONG));
    match outcome {
        Ok(_) => assert_eq!(again.unwrap(), None),
        Err(error) => {
            assert_eq!(again.unwrap_err(), error, "it stays so");
            assert!(remote.reply().is_none());
            return Err(error);
        }
    }
    Ok(remote.reply().unwrap().clone())
}

#[test]
fn a_server_that_lies_is_not_believed() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let out = (r#"{"stream":"stdout","data_size":3}"#, b"out".as_slice());
    let err = (r#"{"stream":"stderr","data_size":3}"#, b"err".as_slice());
    let probe = (r#"{"stream":"stdout","data_size":0}"#, b"".as_slice());
    let good =
        r#"{"exit_code":0,"stdout_size":0,"stderr_size":0,"stdout_total":3,"stderr_total":3}"#;
    let empty: &[u8] = b"";
    let none = ExecRequest::default;
    assert_eq!(answered(&[out, probe, err, (good, empty)], none()).unwrap().exit_code, Some(0));
    assert_eq!(answered(&[probe, err, out, (good, empty)], none()).unwrap().exit_code, Some(0));
    for frames in [
        &[out, (good, empty)][..],
        &[err, (good, empty)],
        &[(good, empty)],
        &[out, out, err, (good, empty)],
        &[out, err, (r#"{"exit_code":0}"#, empty)],
        &[out, err, (r#"{"exit_code":0,"stdout_total":3}"#, empty)],
        &[out, ("{}", empty)],
        &[out, err, (r#"{"exit_code":0,"stdout_total":3,"stderr_total":3,"data_size":1}"#, b"x")],
        &[out, err, (r#"{"exit_code":300,"stdout_total":3,"stderr_total":3}"#, empty)],
        &[(r#"{"exit_code":0,"stdout_total":0,"stderr_total":0,"data_size":1}"#, b"x")],
        &[(r#"{"stream":"stdin","data_size":3}"#, b"abc"), (good, empty)],
        &[(r#"{"stream":"","data_size":3}"#, b"abc"), (good, empty)],
        &[(r#"{"stream":"stdout","data_size":3,"id":7}"#, b"out"), err, (good, empty)],
        &[out, err, (r#"{"id":7,"exit_code":0,"stdout_total":3,"stderr_total":3}"#, empty)],
        &[(r#"{"status":"error","code":"busy","data_size":1}"#, b"x")],
    ] {
        assert_eq!(kind(answered(frames, none())), ErrorKind::BadReply, "{frames:?}");
    }
    for (frames, expected) in [
        (&[("hello", empty)][..], ErrorKind::BadJson),
        (&[(r#"{"stream":1}"#, empty)], ErrorKind::BadReply),
        (&[(r#"{"stream":"stdout","data_size":-1}"#, empty)], ErrorKind::BadField),
        (&[(r#"{"exit_code":0,"stdout_total":-1}"#, empty)], ErrorKind::BadReply),
        (&[(r#"{"status":"error","code":"busy"}"#, empty)], ErrorKind::RemoteBusy),
        (&[out, (r#"{"status":"error","code":"io"}"#, empty)], ErrorKind::RemoteIo),
        (&[], ErrorKind::Closed),
        (&[out], ErrorKind::Truncated),
        (&[probe], ErrorKind::Truncated),
        (&[(r#"{"stream":"stdout","data_size":4}"#, b"out")], ErrorKind::Truncated),
        (
            &[(r#"{"stream":"stdout","data_size":9223372036854775807}"#, b"out")],
            ErrorKind::Truncated,
        ),
    ] {
        assert_eq!(kind(answered(frames, none())), expected, "{frames:?}");
    }
    // Where there was too much of it, some is missing for a reason.
    let truncated = r#"{"exit_code":0,"truncated":true,"stdout_total":9,"stderr_total":3}"#;
    assert!(answered(&[out, err, (truncated, empty)], none()).unwrap().truncated);
    assert_eq!(kind(answered(&[out, err, err, (truncated, empty)], none())), ErrorKind::BadReply);

    let with_id = (r#"{"stream":"stdout","data_size":3,"id":"~1"}"#, b"out".as_slice());
    let reply = r#"{"id":"~1","exit_code":0,"stdout_total":3,"stderr_total":0}"#;
    assert!(answered(&[with_id, (reply, empty)], none()).is_ok());
    let without = r#"{"exit_code":0,"stdout_total":3,"stderr_total":0}"#;
    assert_eq!(kind(answered(&[with_id, (without, empty)], none())), ErrorKind::BadReply);
    // A server that could not make out the id refuses without it.
    let refusal = r#"{"status":"error","code":"bad_request"}"#;
    assert_eq!(kind(answered(&[(refusal, empty)], none())), ErrorKind::RemoteBadRequest);
}

#[test]
fn a_server_that_is_gone_is_no_success() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    for (client, server) in connections() {
        let client: Duplex<'_> = client.as_fd().into();
        let mut remote = start(client, &shell("cat"));
        frame::recv(server.as_fd(), &within(LONG)).unwrap();
        drop(server);
        let mut outcome = Ok(1);
        while matches!(outcome, Ok(1..)) {
            outcome = remote.write(&vec![b'x'; 100_000], Some(LONG));
        }
        let kinds = [ErrorKind::Closed, ErrorKind::Io];
        assert!(kinds.contains(&kind(outcome)));
        assert!(kinds.contains(&kind(remote.end_input(Some(LONG)))));
        assert!(kinds.contains(&kind(remote.read(&mut [0], Some(LONG)))));
    }
}

#[test]
fn a_call_takes_no_longer_than_its_time_and_can_be_made_again() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    // Not TCP, which may find more room after a while.
    for [there, back] in [Kind::UnixSocket, Kind::Pipe].map(|kind| [kind.open(), kind.open()]) {
        let (client, _) = duplexes(&there, &back);
        let mut remote = start(client, &shell("cat"));
        let mut in_time = |call: &mut dyn FnMut(&mut Remote<'_>) -> Error| {
            for _ in 0..2 {
                let begin = Instant::now();
                let error = call(&mut remote);
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                assert!((SHORT..LONG).contains(&begin.elapsed()));
            }
        };
        in_time(&mut |remote| remote.read(&mut [0], Some(SHORT)).unwrap_err());
        // Half of a header, half of a body: each can be waited for anew.
        let bytes = encoded(r#"{"stream":"stdout","data_size":4}"#, b"abcd");
        send_bytes(&back.writer, &bytes[..10]);
        in_time(&mut |remote| remote.read(&mut [0], Some(SHORT)).unwrap_err());
        send_bytes(&back.writer, &bytes[10..bytes.len() - 4]);
        in_time(&mut |remote| remote.read(&mut [0], Some(SHORT)).unwrap_err());
        send_bytes(&back.writer, b"abcd");
        let mut buf = [0; 10];
        assert_eq!(remote.read(&mut buf, Some(LONG)).unwrap().unwrap().1, 4);
        // Nobody takes the input.
        while remote.write(&vec![b'x'; 100_000], Some(SHORT)).is_ok() {}
        let begin = Instant::now();
        assert_eq!(kind(remote.write(b"x", Some(SHORT))), ErrorKind::TimedOut);
        assert!((SHORT..LONG).contains(&begin.elapsed()));
        let begin = Instant::now();
        assert_eq!(kind(remote.end_input(Some(SHORT))), ErrorKind::TimedOut);
        assert!((SHORT..LONG).contains(&begin.elapsed()));
        // Output has to be read first.
        send_bytes(&back.writer, &bytes);
        remote.end_input(Some(LONG)).unwrap();
        assert!(remote.events().contains(PollFlags::IN | PollFlags::OUT));
    }
    for (client, server) in connections() {
        fill(&client);
        let begin = Instant::now();
        let mut remote = start(client.as_fd().into(), &shell("cat"));
        assert!(remote.events().contains(PollFlags::OUT), "it was accepted, and is queued");
        assert_eq!(kind(remote.read(&mut [0], Some(SHORT))), ErrorKind::TimedOut);
        assert!((SHORT..LONG).contains(&begin.elapsed()));
        drop(server);
    }
}

#[test]
fn a_frame_that_has_begun_is_sent_to_its_end_and_no_other() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let reply = encoded(r#"{"exit_code":0,"stdout_total":0,"stderr_total":0}"#, b"");
    let refusal = encoded(r#"{"status":"error","code":"busy"}"#, b"");
    for (bytes, has_begun) in [(&reply, true), (&refusal, true), (&reply, false), (&refusal, false)]
    {
        let (client, server) = socket_pair();
        // A request that is sent as far as there is room, or input for which there is none.
        let input = vec![b'x'; if has_begun { 1 << 20 } else { 0 }];
        let request = Request { input: &input, ..shell("cat") };
        let mut remote = start(client.as_fd().into(), &request);
        let mut request = peer::next(&server).unwrap();
        if !has_begun {
            fill(&client);
            assert_eq!(remote.write(b"input", Some(LONG)).unwrap(), 5);
        }
        remote.signal(libc::SIGINT);
        (&server).write_all(bytes).unwrap();
        let ended = remote.read(&mut [0], Some(SHORT)).map_err(|error| error.kind());
        let expected = if bytes == &reply { Ok(None) } else { Err(ErrorKind::RemoteBusy) };
        if has_begun {
            assert_eq!(ended, Err(ErrorKind::TimedOut), "the other end needs the rest");
        } else {
            assert_eq!(ended, expected);
            drain(&server);
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let ended = remote.read(&mut [0], Some(LONG)).map_err(|error| error.kind());
                assert_eq!(ended, expected);
                assert!(remote.events().is_empty());
                client.shutdown(std::net::Shutdown::Write).unwrap();
            });
            if has_begun {
                request.skip();
                assert_eq!(request.left, 0);
            }
            assert!(peer::next(&server).is_none());
        });
    }
}

#[test]
fn a_single_thread_cannot_block_itself() {
    // Neither end reads before it has written: 0 says whose turn it is.
    for (client, server) in connections() {
        let client: Duplex<'_> = client.as_fd().into();
        let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
            let mut remote = start(client, &shell("cat; echo end >&2"));
            let piece = vec![b'x'; 1 << 20];
            let mut sent = 0;
            loop {
                match remote.write(&piece, Some(LONG)).unwrap() {
                    0 => break,
                    taken => sent += taken,
                }
            }
            assert!(sent > 100_000);
            remote.end_input(Some(LONG)).unwrap();
            let [stdout, stderr] = read_all(&mut remote).unwrap();
            assert_eq!((stdout.len(), &*stderr), (sent, b"end\n".as_slice()));
        });
        ran.unwrap();
    }
    // As with input that goes along.
    let input = vec![b'x'; 10 << 20];
    for (client, server) in connections() {
        let client: Duplex<'_> = client.as_fd().into();
        let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
            let mut remote = start(client, &Request { input: &input, ..shell("cat") });
            assert!(read_all(&mut remote).unwrap()[0] == input);
        });
        ran.unwrap();
    }
}

#[test]
fn a_loop_of_the_callers_own_is_told_what_to_wait_for() {
    if sealing::leaves_out(
        "it waits for the plain descriptor; tests/c/streams.c for the sealed one",
    ) {
        return;
    }
    let (client, server) = socket_pair();
    let client: Duplex<'_> = client.as_fd().into();
    let input = vec![b'x'; 3 << 20];
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell("cat"));
        let (mut rest, mut total) = (&input[..], 0);
        let mut buf = vec![0; 70_000];
        let at_once = Some(Duration::ZERO);
        loop {
            if rest.is_empty() {
                match remote.end_input(at_once) {
                    Err(error) if error.kind() == ErrorKind::TimedOut => {}
                    ended => ended.unwrap(),
                }
            } else {
                match remote.write(rest, at_once) {
                    Err(error) if error.kind() == ErrorKind::TimedOut => {}
                    taken => rest = &rest[taken.unwrap()..],
                }
            }
            match remote.read(&mut buf, at_once) {
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    let mut fds = [PollFd::from_borrowed_fd(client.reader, remote.events())];
                    let long = Timespec::try_from(LONG).unwrap();
                    if rest.is_empty() || remote.events().contains(PollFlags::OUT) {
                        assert_ne!(poll(&mut fds, Some(&long)).unwrap(), 0);
                    }
                }
                got => match got.unwrap() {
                    None => break,
                    Some((_, got)) => total += got,
                },
            }
        }
        assert_eq!(total, input.len());
        assert!(remote.events().is_empty());
    });
    ran.unwrap();
}

#[test]
fn a_stream_survives_every_split_and_notices_every_cut() {
    let presence = Presence::new();
    let mut options = ServeOptions { close_grace: SHORT / 10, ..limited() };
    options.limits.term_grace = SHORT;
    let command = presence.of("read x; echo $x; cat >&2; exit 3");
    let client = |stream: &UnixStream| {
        let mut remote = Remote::start(stream.as_fd().into(), &shell(&command))?;
        remote.write(b"out\n", Some(LONG))?;
        let mut stdout = Vec::new();
        let mut buf = [0; 4];
        while stdout.len() < 4 {
            let (_, got) = remote.read(&mut buf, Some(LONG))?.expect("it reads on");
            stdout.extend_from_slice(&buf[..got]);
        }
        remote.write(b"err\n", Some(LONG))?;
        remote.end_input(Some(LONG))?;
        let [rest, stderr] = read_all(&mut remote)?;
        assert_eq!((&*stdout, &*rest, &*stderr), (&b"out\n"[..], &b""[..], &b"err\n"[..]));
        Ok(remote.reply().unwrap().clone())
    };
    let server = |stream: &UnixStream| serve(stream.as_fd().into(), &options);
    let ends = Cell::new(0);
    let check = |fault, client: Result<ExecReply>, server: Result<Served>| {
        let Fault::Cut(direction, at) = fault else {
            assert_eq!(client.unwrap().exit_code, Some(3), "{fault:?}");
            assert!(matches!(server, Ok(Served::Ran(_))), "{fault:?}");
            return;
        };
        presence.wait_for_end();
        // The server may be fast enough to say that it saw the cut.
        let expected = [ErrorKind::Closed, ErrorKind::Truncated, ErrorKind::RemoteBadRequest];
        assert!(expected.contains(&kind(client)), "{fault:?}");
        if direction == Direction::ToServer {
            // A cut between two frames of input is its end, and the command's own.
            if server.is_ok() {
                return ends.set(ends.get() + 1);
            }
            let expected = if at == 0 { ErrorKind::Closed } else { ErrorKind::Truncated };
            assert_eq!(kind(server), expected, "{fault:?}");
        }
    };
    let (to_server, to_client) = at_every_offset(client, server, check);
    assert!(to_server > 150 && to_client > 150, "{to_server}, {to_client}");
    assert_eq!(ends.get(), 3, "behind the request, and behind each piece of input");
}
