//! Requests and their replies.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framefd::exec::Request as ExecRequest;
use framefd::frame::{Connection, ConnectionOptions};
use framefd::serve::{Access, BodyMode, Commands, Files, Server, ServerOptions};
use framefd::{Error, ErrorKind, exec, file};
use rustix::event::{PollFd, PollFlags};

use crate::common::exec::LONG;
use crate::common::{encoded, kind};
use crate::{NO_TIME, Running, WORKERS, client, echo, key, keyed, prove, refused, sealed};

#[test]
fn a_request_is_answered_by_its_handler_or_by_the_server() {
    for workers in WORKERS {
        let running = Running::plain(workers, |server| {
            server.handle("silent", BodyMode::Whole, |_, _| Ok(())).unwrap();
            server
                .handle("fails", BodyMode::Whole, |_, request| {
                    assert_eq!(request.header.integer("n")?, 7);
                    Err(Error::new(ErrorKind::NotFound, "no such thing"))
                })
                .unwrap();
            server.handle("panics", BodyMode::Whole, |_, _| panic!("a defect")).unwrap();
        });
        let mut client = running.client();
        echo(&mut client, "hello").unwrap();
        let reply = client.call(r#"{"cmd":"silent"}"#, b"body", LONG).unwrap();
        assert!(reply.body.is_empty());
        let (kind, detail) = refused(&mut client, r#"{"cmd":"fails","n":7}"#, b"");
        assert_eq!((kind, &*detail), (ErrorKind::RemoteNotFound, "no such thing"));
        let (kind, _) = refused(&mut client, r#"{"cmd":"panics"}"#, b"");
        assert_eq!(kind, ErrorKind::RemoteIo);
        let (kind, _) = refused(&mut client, r#"{"cmd":"other"}"#, &vec![0; 100_000]);
        assert_eq!(kind, ErrorKind::RemoteUnsupported);
        let (kind, _) = refused(&mut client, "{}", b"");
        assert_eq!(kind, ErrorKind::RemoteBadRequest);
        let (kind, _) = refused(&mut client, r#"{"cmd":7}"#, b"");
        assert_eq!(kind, ErrorKind::RemoteBadRequest);
        echo(&mut client, "again").unwrap();
        drop(client);
        running.wait_until("closed", |counters| counters.connections_now == 0);
        let counters = running.counters();
        assert_eq!((counters.requests, counters.errors, counters.connections), (8, 5, 1));
        running.stop();
    }
}

#[test]
fn a_handler_may_read_the_body_in_pieces_or_leave_it() {
    for workers in WORKERS {
        let running = Running::plain(workers, |server| {
            server
                .handle("sum", BodyMode::Streamed, |connection, request| {
                    let (mut sum, mut buf) = (0_u64, vec![0; 10_000]);
                    loop {
                        match connection.read(&mut buf, LONG)? {
                            0 => break,
                            got => {
                                sum += buf[..got].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                            }
                        }
                    }
                    let sum = format!(r#"{{"sum":{sum}}}"#);
                    connection.reply(request.header.text(), Some(&sum), &[], None)
                })
                .unwrap();
            server.handle("leave", BodyMode::Streamed, |_, _| Ok(())).unwrap();
        });
        let mut client = running.client();
        let body = vec![1; 1_000_000];
        for _ in 0..3 {
            let reply = client.call(r#"{"cmd":"sum"}"#, &body, LONG).unwrap();
            assert_eq!(reply.header.unwrap().integer("sum").unwrap(), 1_000_000);
            client.call(r#"{"cmd":"leave"}"#, &body, LONG).unwrap();
        }
        running.stop();
    }
}

/// A handler that has answered and then fails, or answers in part, has a client that waits.
#[test]
fn half_an_answer_ends_the_connection() {
    for workers in WORKERS {
        let running = Running::plain(workers, |server| {
            server
                .handle("half", BodyMode::Whole, |connection, _| {
                    connection.begin(Some(r#"{"status":"ok"}"#), 10)?;
                    connection.write(b"12345", LONG).map(drop)
                })
                .unwrap();
            server
                .handle("both", BodyMode::Whole, |connection, request| {
                    connection.reply(request.header.text(), None, b"first", None)?;
                    Err(Error::new(ErrorKind::Io, "and then it failed"))
                })
                .unwrap();
        });
        let mut client = running.client();
        assert_eq!(kind(client.call(r#"{"cmd":"half"}"#, b"", LONG)), ErrorKind::Truncated);
        let mut client = running.client();
        assert_eq!(client.call(r#"{"cmd":"both"}"#, b"", LONG).unwrap().body, b"first");
        assert_eq!(kind(client.next(LONG)), ErrorKind::Closed);
        running.stop();
    }
}

/// Also if the server sees the end while it waits for room for a reply.
#[test]
fn who_ends_its_direction_gets_every_reply() {
    for workers in WORKERS {
        let running = Running::plain(workers, |_| ());
        let body = vec![7; 770_000];
        for round in 0..40 {
            let mut client = running.client();
            let count = 4 + round % 5;
            for id in 0..count {
                let header = format!(r#"{{"cmd":"echo","id":{id}}}"#);
                client.queue(Some(&header), &body, LONG).unwrap();
            }
            client.end(false, LONG).unwrap();
            for id in 0..count {
                let reply = client.recv(LONG).unwrap();
                assert_eq!(reply.header.unwrap().integer("id").unwrap(), id);
                assert!(reply.body == body);
            }
            assert_eq!(kind(client.recv(LONG)), ErrorKind::Closed);
        }
        running.stop();
    }
}

/// A reply that waits for room reads what comes meanwhile, which no event tells of later.
#[test]
fn sealed_requests_that_came_while_a_reply_waited_are_served() {
    for workers in WORKERS {
        let is_held = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&is_held);
        let options = ServerOptions { workers, access: sealed(), ..ServerOptions::default() };
        let running = Running::start(options, move |server| {
            server
                .handle("first", BodyMode::Whole, move |connection, request| {
                    let body = vec![7; 12 << 20];
                    connection.reply(request.header.text(), None, &body, NO_TIME)?;
                    // Until everything has come.
                    for _ in 0..100 {
                        let _ = connection.flush(NO_TIME);
                        std::thread::sleep(Duration::from_micros(500));
                    }
                    opened.store(false, Ordering::SeqCst);
                    connection.flush(LONG)
                })
                .unwrap();
        });
        for round in 0..10 {
            let mut client = client(through_a_relay(running.address, &is_held));
            prove(&mut client, &sealed());
            is_held.store(true, Ordering::SeqCst);
            let body = vec![9; 1_000_000 + round * 77_777];
            client.send(Some(r#"{"cmd":"first"}"#), b"", LONG).unwrap();
            running.wait_until("it is served", |counters| counters.requests_now == 1);
            client.send(Some(r#"{"cmd":"echo"}"#), &body, LONG).unwrap();
            assert_eq!(client.recv(LONG).unwrap().body.len(), 12 << 20);
            assert!(client.recv(LONG).unwrap().body == body, "round {round}");
        }
        running.stop();
    }
}

/// A connection to `server` through another one, which passes nothing back while it is held.
fn through_a_relay(server: SocketAddr, is_held: &Arc<AtomicBool>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (client, server) = (listener.accept().unwrap().0, TcpStream::connect(server).unwrap());
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to, is_held) = (server, client, Arc::clone(is_held));
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok(got @ 1..) = from.read(&mut bytes) {
            while is_held.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            if to.write_all(&bytes[..got]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    ours
}

#[test]
fn nothing_is_served_before_a_key_is_proved() {
    for workers in WORKERS {
        let options = ServerOptions { workers, access: keyed(), ..ServerOptions::default() };
        let running = Running::start(options, |server| {
            server
                .handle("who", BodyMode::Whole, |connection, request| {
                    let who = request.client.key().unwrap().as_str().as_bytes();
                    connection.reply(request.header.text(), None, who, None)
                })
                .unwrap();
        });
        for (byte, id) in [(1, "a"), (2, "b")] {
            let mut client = running.client();
            client.auth_client(&key(byte), LONG).unwrap();
            // The request comes with the answer, or behind it.
            assert_eq!(client.call(r#"{"cmd":"who"}"#, b"", LONG).unwrap().body, id);
        }
        // A wrong key, and a client that knows of no key.
        let mut wrong = running.client();
        wrong.auth_client(&key(3), LONG).unwrap();
        assert_eq!(kind(wrong.call(r#"{"cmd":"who"}"#, b"", LONG)), ErrorKind::Closed);
        let mut ignorant = running.connect();
        ignorant.write_all(&encoded(r#"{"data_size":0,"cmd":"who","id":1}"#, b"")).unwrap();
        let mut came = Vec::new();
        let _ = ignorant.read_to_end(&mut came);
        assert_eq!(came.len(), 32, "only a challenge");
        running.wait_until("both are refused", |counters| counters.refused_auth == 2);
        assert_eq!(running.counters().requests, 2);
        assert!(running.has_logged("refused: authentication failed"));
        assert!(running.has_logged(" (b): has proved its key"));
        running.stop();
    }
}

#[test]
fn without_keys_it_listens_on_this_host_only_unless_it_is_open() {
    let server = Server::new(ServerOptions::default()).unwrap();
    let listen = |address: &str| server.listen(framefd::frame::listen(address, 0, 0).unwrap());
    for address in ["127.0.0.1:0", "127.1.2.3:0", "[::1]:0", "unix:@framefd-serve-test"] {
        listen(address).unwrap();
    }
    for address in ["0.0.0.0:0", "[::]:0"] {
        let error = listen(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.detail().contains("key ring"), "{error}");
    }
    let (one, _other) = UnixStream::pair().unwrap();
    assert_eq!(kind(server.listen(OwnedFd::from(one))), ErrorKind::Argument);
    let open = Access { open: true, ..Access::default() };
    for access in [keyed(), open] {
        let server = Server::new(ServerOptions { access, ..ServerOptions::default() }).unwrap();
        server.listen(framefd::frame::listen("0.0.0.0:0", 0, 0).unwrap()).unwrap();
    }
    let access = Access { open: true, ..keyed() };
    let server = Server::new(ServerOptions { access, ..ServerOptions::default() });
    assert_eq!(kind(server.map(drop)), ErrorKind::Argument);
}

#[test]
fn commands_files_and_hello_are_off_until_they_are_added() {
    for workers in WORKERS {
        let dir = tempfile::tempdir().unwrap();
        let root = || std::fs::File::open(dir.path()).unwrap().into();
        let options = ServerOptions { workers, hello: true, ..ServerOptions::default() };
        let files = |rights| Files {
            root: root(),
            options: file::ServeOptions { rights, ..file::ServeOptions::default() },
            policy: None,
        };
        let all = Running::start(options.clone(), |server| {
            server.serve_commands(Commands::default()).unwrap();
            server.serve_files(files(file::Rights::ALL)).unwrap();
            assert_eq!(kind(server.serve_files(files(file::Rights::ALL))), ErrorKind::Exists);
        });
        let mut client = all.client();
        let hello = client.call(r#"{"cmd":"hello"}"#, b"", LONG).unwrap().header.unwrap();
        let text = hello.text();
        assert!(text.contains(r#""cmds":["echo","exec","get","list","mkdir","put","#), "{text}");
        assert!(text.contains(r#""max_body":67108864,"max_command":65536"#), "{text}");
        let run = |client: &mut Connection<'_>, command: &str| {
            let request = ExecRequest { command: command.as_bytes(), ..ExecRequest::default() };
            exec::call(client, &request, LONG).map(|reply| reply.stdout().to_vec())
        };
        assert_eq!(run(&mut client, "echo hello").unwrap(), b"hello\n");
        let path = dir.path().join("source");
        std::fs::write(&path, "content").unwrap();
        file::put(&mut client, &file::Transfer::path(b"stored", &path), None).unwrap();
        assert_eq!(std::fs::read(dir.path().join("stored")).unwrap(), b"content");
        assert_eq!(file::list(&mut client, b"", LONG).unwrap().len(), 2);
        echo(&mut client, "after all that").unwrap();
        all.stop();

        let none = Running::plain(workers, |_| ());
        let mut client = none.client();
        for cmd in ["hello", "exec", "put", "get", "stat", "list", "mkdir", "symlink"] {
            let (kind, _) = refused(&mut client, &format!(r#"{{"cmd":"{cmd}"}}"#), b"");
            assert_eq!(kind, ErrorKind::RemoteUnsupported, "{cmd}");
        }
        none.stop();

        // Rights, and not verbs.
        let none = file::Rights::default();
        for (rights, place) in [
            (file::Rights::READ, "read"),
            (file::Rights { create: true, ..none }, "create"),
            (file::Rights { replace: true, ..none }, "replace"),
            (none, "none"),
        ] {
            let running = Running::plain(workers, |server| {
                server.serve_files(files(rights)).unwrap();
            });
            let mut client = running.client();
            let denied = |is_off: bool, outcome: framefd::Result<()>| {
                let kind = outcome.err().map(|error| error.kind());
                assert_eq!(kind, is_off.then_some(ErrorKind::RemoteDenied), "{rights:?}");
            };
            denied(!rights.read, file::list(&mut client, b"", LONG).map(drop));
            denied(!rights.read, file::stat(&mut client, b"stored", LONG).map(drop));
            let made = file::mkdir(&mut client, place.as_bytes(), None, false, LONG);
            denied(!rights.create, made);
            let name = format!("{place}/parents/new");
            let mut new = file::Transfer::path(name.as_bytes(), &path);
            new.parents = true;
            denied(!rights.create, file::put(&mut client, &new, None).map(drop));
            std::fs::write(dir.path().join("old"), "old").unwrap();
            let old = file::Transfer::path(b"old", &path);
            let put = file::put(&mut client, &old, None).map_err(|error| error.kind());
            let expected = match rights {
                file::Rights { replace: true, .. } => Ok(7),
                file::Rights { create: true, .. } => Err(ErrorKind::RemoteExists),
                _ => Err(ErrorKind::RemoteDenied),
            };
            assert_eq!(put.map(|put| put.bytes), expected, "{rights:?}");
            let size = if rights.replace { 7 } else { 3 };
            assert_eq!(std::fs::metadata(dir.path().join("old")).unwrap().len(), size);
            running.stop();
        }
    }
}

#[test]
fn input_for_a_command_that_has_ended_is_dropped() {
    for workers in WORKERS {
        let running =
            Running::plain(workers, |server| server.serve_commands(Commands::default()).unwrap());
        let mut raw = running.connect();
        let mut bytes = encoded(r#"{"data_size":4,"cmd":"exec","stream":true,"id":1}"#, b"true");
        for _ in 0..100 {
            bytes.extend(encoded(r#"{"data_size":3,"stream":"stdin"}"#, b"abc"));
            bytes.extend(encoded(r#"{"data_size":0,"signal":"INT"}"#, b""));
        }
        bytes.extend(encoded(r#"{"data_size":2,"cmd":"echo","id":2}"#, b"hi"));
        // The second request may come only after the reply to the first.
        let (first, rest) = bytes.split_at(80);
        raw.write_all(first).unwrap();
        let mut connection = client(raw.try_clone().unwrap());
        loop {
            let header = connection.recv(LONG).unwrap().header.unwrap();
            if header.integer("exit_code").is_ok() {
                break;
            }
        }
        raw.write_all(rest).unwrap();
        assert_eq!(connection.recv(LONG).unwrap().body, b"hi");
        running.stop();
    }
}

#[test]
fn many_requests_of_one_read_are_answered_in_one_write() {
    for workers in WORKERS {
        let running = Running::plain(workers, |_| ());
        let mut raw = running.connect();
        let mut bytes = Vec::new();
        for n in 0..500 {
            let body = format!("{n}");
            let header = format!(r#"{{"data_size":{},"cmd":"echo","id":{n}}}"#, body.len());
            bytes.extend(encoded(&header, body.as_bytes()));
        }
        raw.write_all(&bytes).unwrap();
        let mut connection = client(raw);
        for n in 0..500 {
            let reply = connection.recv(LONG).unwrap();
            assert_eq!(reply.body, n.to_string().as_bytes());
            assert_eq!(reply.header.unwrap().integer("id").unwrap(), n);
        }
        running.stop();
    }
}

/// A client that writes everything before it reads anything.
#[test]
fn replies_wait_for_a_client_that_writes_first() {
    for workers in WORKERS {
        let running = Running::plain(workers, |_| ());
        let mut raw = running.connect();
        let body = vec![b'x'; 100_000];
        for n in 0..8 {
            let header = format!(r#"{{"data_size":{},"cmd":"echo","id":{n}}}"#, body.len());
            raw.write_all(&encoded(&header, &body)).unwrap();
        }
        raw.shutdown(std::net::Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let mut connection = client(raw);
        for _ in 0..8 {
            assert_eq!(connection.recv(LONG).unwrap().body, body);
        }
        assert_eq!(kind(connection.recv(LONG)), ErrorKind::Closed);
        running.stop();
    }
}

#[test]
fn bytes_that_are_no_request_are_answered_and_end_the_connection() {
    for workers in WORKERS {
        let running = Running::plain(workers, |_| ());
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            encoded("[]", b""),
            (-1_i32).to_le_bytes().to_vec(),
            encoded(&format!(r#"{{"cmd":"{}"}}"#, "x".repeat(70_000)), b""),
        ] {
            let mut raw = running.connect();
            raw.write_all(&bytes).unwrap();
            let mut connection = client(raw);
            let reply = connection.recv(LONG).unwrap().header.unwrap();
            assert_eq!(reply.string("code").unwrap(), "bad_request");
            assert_eq!(kind(connection.recv(LONG)), ErrorKind::Closed);
        }
        assert!(running.has_logged(": refused: "));
        running.stop();
    }
}

#[test]
fn a_connection_that_exists_is_served_and_a_foreign_loop_can_do_it() {
    for workers in WORKERS {
        let options = ServerOptions { workers, ..ServerOptions::default() };
        let server = Server::new(options).unwrap();
        server.handle("ping", BodyMode::Whole, |_, _| Ok(())).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        server.add(OwnedFd::from(theirs)).unwrap();
        assert!(server.add(OwnedFd::from(tempfile::tempfile().unwrap())).is_err());
        let stopper = server.stopper();
        let calling = std::thread::spawn(move || {
            let mut client =
                Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
            for _ in 0..10 {
                client.call(r#"{"cmd":"ping"}"#, b"", LONG).unwrap();
            }
            stopper.stop();
        });
        loop {
            let fd = server.poll_fd();
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            rustix::event::poll(&mut fds, None).unwrap();
            match server.step(Some(NO_TIME)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Closed);
                    break;
                }
            }
        }
        assert_eq!(kind(server.step(None)), ErrorKind::Closed, "and again");
        assert_eq!(server.counters().requests, 10);
        calling.join().unwrap();
    }
}

#[test]
fn a_handler_that_runs_the_server_is_refused() {
    use std::sync::{Arc, OnceLock};
    let own: Arc<OnceLock<Arc<Server>>> = Arc::default();
    let inner = Arc::clone(&own);
    let running = Running::plain(0, |server| {
        server
            .handle("again", BodyMode::Whole, move |_, _| inner.get().unwrap().step(Some(NO_TIME)))
            .unwrap();
    });
    assert!(own.set(Arc::clone(&running.server)).is_ok());
    let (kind, _) = refused(&mut running.client(), r#"{"cmd":"again"}"#, b"");
    assert_eq!(kind, ErrorKind::RemoteBusy);
    let late = running.server.handle("late", BodyMode::Whole, |_, _| Ok(()));
    assert_eq!(crate::common::kind(late), ErrorKind::State);
    running.stop();
}

/// Sealed bytes that were read ahead are no event.
#[test]
fn a_sealed_connection_is_served_like_a_plain_one() {
    for workers in WORKERS {
        let options = ServerOptions { workers, access: sealed(), ..ServerOptions::default() };
        let running = Running::start(options, |server| {
            server.serve_commands(Commands::default()).unwrap();
            server
                .handle("who", BodyMode::Whole, |connection, request| {
                    let who = request.client.key().unwrap().as_str().as_bytes();
                    connection.reply(request.header.text(), None, who, None)
                })
                .unwrap();
        });
        let mut client = running.client();
        prove(&mut client, &sealed());
        assert_eq!(client.call(r#"{"cmd":"who"}"#, b"", LONG).unwrap().body, b"a");
        let large = vec![b'x'; 3_000_000];
        for depth in [1, 3, 2000] {
            let body: &[u8] = if depth == 3 { &large } else { b"small" };
            let sending = std::thread::spawn({
                let header = r#"{"cmd":"echo"}"#;
                let body = body.to_vec();
                move || {
                    for _ in 0..depth {
                        client.queue(Some(header), &body, LONG).unwrap();
                    }
                    client.flush(LONG).unwrap();
                    client
                }
            });
            client = sending.join().unwrap();
            for n in 0..depth {
                assert_eq!(client.recv(LONG).unwrap().body, body, "{n} of {depth}");
            }
        }
        let request = ExecRequest { command: b"cat", input: &large, ..ExecRequest::default() };
        let reply = exec::call(&mut client, &request, LONG).unwrap();
        assert_eq!(reply.stdout(), large);
        echo(&mut client, "at the end").unwrap();
        // One who speaks plain, one with another key, one who is silent behind a half.
        let mut plain = running.client();
        assert_eq!(kind(plain.call(r#"{"cmd":"who"}"#, b"", LONG)), ErrorKind::Closed);
        let mut wrong = running.client();
        let id = framefd::auth::KeyId::new(b"a").unwrap();
        let terms = framefd::auth::Terms::default();
        assert!(wrong.seal_client(&key(2), &id, &terms, None, LONG).is_err());
        running.wait_until("they are refused", |counters| counters.refused_auth == 2);
        drop((client, plain, wrong));
        running.stop();
    }
}
