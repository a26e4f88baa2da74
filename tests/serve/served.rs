//! What the host is told about each request when it is over.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use framefd::exec::{ExecRequest, Outcome, Request as ExecCommand};
use framefd::frame::{Connection, ConnectionOptions};
use framefd::serve::{
    BodyMode, Commands, ExecPolicy, Files, Limits, Served, Server, ServerOptions, What,
};
use framefd::{Error, ErrorKind, exec, file};
use rustix::net::sockopt;

use crate::common::exec::LONG;
use crate::common::{encoded, kind};
use crate::{Running, WORKERS, client, echo, keyed, prove, refused, sealed};

/// What one call has told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    key: Option<String>,
    address: Option<String>,
    cmd: String,
    what: String,
    error: Option<ErrorKind>,
    command: Option<(Outcome, Option<i32>, Option<i32>)>,
    bytes: (u64, u64),
    time: Duration,
}

#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<Told>>>);

impl Book {
    fn options(&self, workers: usize) -> ServerOptions {
        let book = self.clone();
        ServerOptions {
            workers,
            hello: true,
            served: Some(Arc::new(move |served| book.note(served))),
            ..ServerOptions::default()
        }
    }

    fn note(&self, served: &Served<'_>) {
        assert!(served.header.starts_with('{') && served.header.contains(served.cmd));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.0.lock().unwrap().push(Told {
            key: served.client.key().map(|key| key.as_str().to_owned()),
            address: served.client.address(),
            cmd: served.cmd.to_owned(),
            what: match served.what {
                What::Nothing => String::new(),
                What::Shell(code) => format!("shell {}", text(code)),
                What::Program(argv) => format!("program {}", argv.join("|")),
                What::File(name) => format!("file {}", text(name)),
            },
            error: served.error,
            command: served.command.map(|reply| (reply.outcome(), reply.exit_code, reply.signal)),
            bytes: (served.bytes_in, served.bytes_out),
            time: served.time,
        });
    }

    /// Waits for so many calls, and takes them.
    #[track_caller]
    fn take(&self, count: usize) -> Vec<Told> {
        let start = Instant::now();
        while self.0.lock().unwrap().len() < count {
            assert!(start.elapsed() < LONG, "{:?}", self.0.lock().unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
        let told = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(told.len(), count, "{told:?}");
        told
    }

    #[track_caller]
    fn one(&self) -> Told {
        self.take(1).remove(0)
    }
}

#[test]
fn each_request_is_told_once_with_all_that_is_known() {
    for workers in WORKERS {
        for access in [keyed(), sealed()] {
            let book = Book::default();
            let options = ServerOptions { access: access.clone(), ..book.options(workers) };
            let running = Running::start(options, |server| {
                server
                    .handle("fails", BodyMode::Whole, |_, _| {
                        Err(Error::new(ErrorKind::NotFound, "no such thing"))
                    })
                    .unwrap();
                server.handle("panics", BodyMode::Whole, |_, _| panic!("a defect")).unwrap();
                server.handle("leave", BodyMode::Streamed, |_, _| Ok(())).unwrap();
            });
            let socket = running.connect();
            let address = socket.local_addr().unwrap().to_string();
            let mut client = client(socket);
            prove(&mut client, &access);
            echo(&mut client, "hello").unwrap();
            let told = book.one();
            assert_eq!((told.key.as_deref(), told.address), (Some("a"), Some(address)));
            assert_eq!(
                (&*told.cmd, &*told.what, told.error, told.command),
                ("echo", "", None, None)
            );
            assert_eq!(told.bytes.0, 5);
            // A length, a header with a status and a size, and the body.
            assert!((30..100).contains(&told.bytes.1), "{}", told.bytes.1);
            assert!(told.time < LONG);
            for (cmd, error) in [
                (r#""cmd":"hello""#, None),
                (r#""cmd":"leave""#, None),
                (r#""cmd":"fails""#, Some(ErrorKind::NotFound)),
                (r#""cmd":"panics""#, Some(ErrorKind::Panic)),
                (r#""cmd":"other""#, Some(ErrorKind::Unsupported)),
                (r#""cmd":7"#, Some(ErrorKind::BadField)),
                ("", Some(ErrorKind::Missing)),
            ] {
                let called = client.call(&format!("{{{cmd}}}"), b"", LONG);
                assert_eq!(called.is_err(), error.is_some(), "{cmd}");
                let told = book.one();
                assert_eq!(told.error, error, "{cmd}");
                assert!(cmd.contains(&told.cmd));
            }
            // Several in one write.
            let many = 100;
            for _ in 0..many {
                client.queue(Some(r#"{"cmd":"echo"}"#), b"x", LONG).unwrap();
            }
            client.flush(LONG).unwrap();
            let told = book.take(many);
            assert!(told.iter().all(|told| told.bytes == (1, told.bytes.1)), "{told:?}");
            let counters = running.counters();
            assert_eq!((counters.requests, counters.errors), (108, 5));
            drop(client);
            running.stop();
        }
    }
}

#[test]
fn commands_are_told_with_their_text_and_their_end() {
    let policy: fn() -> ExecPolicy = || {
        Box::new(|inquiry, _| match inquiry.command {
            b"forbidden" => Err(Error::new(ErrorKind::Denied, "not this one")),
            b"panic" => panic!("a defect"),
            _ => Ok(()),
        })
    };
    for workers in WORKERS {
        let book = Book::default();
        let running = Running::start(book.options(workers), |server| {
            let commands = Commands { policy: Some(policy()), ..Commands::default() };
            server.serve_commands(commands).unwrap();
        });
        let mut client = running.client();
        let mut run = |command: &str, options: ExecRequest| {
            let request = ExecCommand { command: command.as_bytes(), input: b"", options };
            let _ = exec::call(&mut client, &request, LONG);
            book.one()
        };
        let told = run("echo hello; exit 3", ExecRequest::default());
        assert_eq!((&*told.cmd, &*told.what), ("exec", "shell echo hello; exit 3"));
        assert_eq!(told.command, Some((Outcome::Exited, Some(3), None)));
        assert_eq!((told.error, told.key, told.bytes.0), (None, None, 18));
        let told = run("kill -9 $$", ExecRequest::default());
        assert_eq!(told.command, Some((Outcome::Signaled, Some(137), Some(9))));
        let argv = Some(vec!["printf".into(), "%s".into(), "a b".into()]);
        let told = run("", ExecRequest { argv, ..ExecRequest::default() });
        assert_eq!((&*told.what, told.error), ("program printf|%s|a b", None));
        let argv = Some(vec!["/no/such/program".into()]);
        let told = run("", ExecRequest { argv, ..ExecRequest::default() });
        assert_eq!((told.error, told.command), (Some(ErrorKind::Spawn), None));
        let told = run("forbidden", ExecRequest::default());
        assert_eq!((told.error, &*told.what), (Some(ErrorKind::Denied), "shell forbidden"));
        let told = run(&"x".repeat(100_000), ExecRequest::default());
        assert_eq!((told.error, &*told.what), (Some(ErrorKind::TooBig), ""));
        let told = run("panic", ExecRequest::default());
        assert_eq!(told.error, Some(ErrorKind::Panic));
        // A stream with input, whose client leaves it.
        let mut gone = running.client();
        let request = ExecCommand { command: b"cat; sleep 1000", ..ExecCommand::default() };
        let mut command = exec::start(&mut gone, &request, LONG).unwrap();
        command.write(&[7; 1000], LONG).unwrap();
        let mut came = 0;
        while came < 1000 {
            came += command.read(&mut [0; 4096], LONG).unwrap().unwrap().1;
        }
        drop(command);
        drop(gone);
        let told = book.one();
        assert_eq!((told.error, &*told.what), (Some(ErrorKind::Closed), "shell cat; sleep 1000"));
        assert!(told.bytes.0 > 1000 && told.bytes.1 > 1000, "{told:?}");
        running.stop();
    }
}

#[test]
fn files_are_told_with_their_name_and_size() {
    for workers in WORKERS {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::default();
        let running = Running::start(book.options(workers), |server| {
            let root = std::fs::File::open(dir.path()).unwrap().into();
            let options = file::ServeOptions::default();
            server.serve_files(Files { root, options, policy: None }).unwrap();
        });
        let mut client = running.client();
        let path = dir.path().join("source");
        std::fs::write(&path, vec![1; 300_000]).unwrap();
        file::put(&mut client, &file::Transfer::path(b"stored", &path), None).unwrap();
        let told = book.one();
        assert_eq!((&*told.cmd, &*told.what, told.error), ("put", "file stored", None));
        assert!((300_000..301_000).contains(&told.bytes.0), "{told:?}");
        let copy = dir.path().join("copy");
        file::get(&mut client, &file::Transfer::path(b"stored", &copy), None).unwrap();
        let told = book.one();
        assert_eq!((&*told.cmd, &*told.what, told.error), ("get", "file stored", None));
        assert!((300_000..301_000).contains(&told.bytes.1), "{told:?}");
        let _ = file::stat(&mut client, b"missing", LONG);
        assert_eq!(book.one().error, Some(ErrorKind::NotFound));
        let (kind, _) = refused(&mut client, r#"{"cmd":"get","filename":"../secret"}"#, b"");
        assert_eq!(kind, ErrorKind::RemoteDenied);
        let told = book.one();
        assert_eq!((&*told.what, told.error), ("file ../secret", Some(ErrorKind::Path)));
        running.stop();
    }
}

/// Exactly one call each, also for a client that has gone, and its address is still known.
#[test]
fn what_is_refused_or_cut_is_told_as_well() {
    for workers in WORKERS {
        let book = Book::default();
        let limits = Limits {
            max_connections: 1,
            max_commands: 1,
            stall: Duration::from_millis(200),
            ..Limits::default()
        };
        let options = ServerOptions { limits, ..book.options(workers) };
        let mut running = Running::start(options, |server| {
            server.serve_commands(Commands::default()).unwrap();
        });
        let half = encoded(r#"{"data_size":1000,"cmd":"echo"}"#, b"half");
        // It sends no more, and is given up.
        let mut slow = running.connect();
        slow.write_all(&half).unwrap();
        let told = book.one();
        assert_eq!((told.error, told.bytes.0), (Some(ErrorKind::TimedOut), 4));
        drop(slow);
        running.wait_until("it leaves", |counters| counters.connections_now == 0);
        // It resets the connection, or ends its direction.
        for how in ["reset", "end"] {
            let mut gone = running.connect();
            let address = gone.local_addr().unwrap().to_string();
            gone.write_all(&half).unwrap();
            running.wait_until("it is read", |counters| counters.connections_now == 1);
            if how == "reset" {
                sockopt::set_socket_linger(&gone, Some(Duration::ZERO)).unwrap();
            }
            gone.shutdown(Shutdown::Write).unwrap();
            drop(gone);
            let told = book.one();
            let gone = [ErrorKind::Truncated, ErrorKind::Closed, ErrorKind::Io];
            assert!(gone.contains(&told.error.unwrap()), "{how}: {told:?}");
            assert_eq!(told.address, Some(address));
            running.wait_until("it leaves", |counters| counters.connections_now == 0);
        }
        // One too many.
        let mut first = running.client();
        echo(&mut first, "inside").unwrap();
        book.one();
        let mut second = running.client();
        assert_eq!(refused(&mut second, r#"{"cmd":"echo"}"#, b"").0, ErrorKind::RemoteBusy);
        assert_eq!(book.one().error, Some(ErrorKind::Busy));
        drop((first, second));
        running.wait_until("they leave", |counters| counters.connections_now == 0);
        running.stopper.stop();
        running.wait_for_end().unwrap();
        assert_eq!(running.counters().requests, 5);
    }
}

/// Once it is done, or given up, and not when its handler returns.
#[test]
fn a_request_that_is_answered_later_is_told_then() {
    for workers in WORKERS {
        let book = Book::default();
        let (lent, kept) = std::sync::mpsc::channel();
        let lent = Mutex::new(lent);
        let running = Running::start(book.options(workers), |server| {
            server
                .handle_later("keep", BodyMode::Streamed, move |connection, _, later| {
                    lent.lock().unwrap().send((connection, later)).unwrap();
                })
                .unwrap();
            server.handle_later("forget", BodyMode::Whole, |_, _, _| {}).unwrap();
        });
        let mut client = running.client();
        client.send(Some(r#"{"cmd":"keep"}"#), &[1; 5000], LONG).unwrap();
        let (mut connection, later) = kept.recv_timeout(LONG).unwrap();
        let mut missing = 5000;
        while missing > 0 {
            missing -= connection.read(&mut [0; 1000], LONG).unwrap();
        }
        let mut other = running.client();
        echo(&mut other, "meanwhile").unwrap();
        assert_eq!(book.one().cmd, "echo");
        later.done(connection, Err(Error::new(ErrorKind::NoSpace, "")));
        let reply = client.recv(LONG).unwrap();
        assert_eq!(reply.header.unwrap().string("code").unwrap(), "no_space");
        let told = book.one();
        assert_eq!((&*told.cmd, told.error), ("keep", Some(ErrorKind::NoSpace)));
        assert_eq!(told.bytes.0, 5000);
        running.wait_until("all is counted", |counters| counters.bytes_in > 5000);
        assert_eq!(kind(client.call(r#"{"cmd":"forget"}"#, b"", LONG)), ErrorKind::Closed);
        assert_eq!(book.one().error, Some(ErrorKind::Canceled));
        drop(other);
        running.stop();
    }
}

#[test]
fn what_a_stop_cuts_is_told() {
    let book = Book::default();
    let limits = Limits { max_commands: 1, ..Limits::default() };
    let mut running = Running::start(ServerOptions { limits, ..book.options(2) }, |server| {
        server.serve_commands(Commands::default()).unwrap();
    });
    let whole = encoded(r#"{"data_size":10,"cmd":"exec"}"#, b"sleep 1000");
    let half = encoded(r#"{"data_size":1000,"cmd":"echo"}"#, b"half");
    let _clients = [&whole, &whole, &whole, &half].map(|request| {
        let mut socket = running.connect();
        socket.write_all(request).unwrap();
        socket
    });
    let bytes = (3 * whole.len() + half.len()) as u64;
    running.wait_until("one runs", |counters| {
        counters.requests_now == 1 && counters.bytes_in == bytes
    });
    running.stopper.stop();
    running.stopper.stop();
    assert_eq!(running.wait_for_end().unwrap_err().kind(), ErrorKind::TimedOut);
    let told = book.take(4);
    assert!(told.iter().all(|told| told.error == Some(ErrorKind::Aborted)), "{told:?}");
    assert_eq!(told.iter().filter(|told| told.what == "shell sleep 1000").count(), 1);
    assert_eq!(running.counters().requests, 4);
}

#[test]
fn a_panic_in_the_hosts_function_does_no_harm() {
    for workers in WORKERS {
        let count = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&count);
        let options = ServerOptions {
            workers,
            served: Some(Arc::new(move |_| {
                *counted.lock().unwrap() += 1;
                std::panic::resume_unwind(Box::new("a defect"));
            })),
            ..ServerOptions::default()
        };
        let running = Running::start(options, |_| ());
        let mut client = running.client();
        for _ in 0..50 {
            echo(&mut client, "on and on").unwrap();
        }
        drop(client);
        running.wait_until("closed", |counters| counters.connections_now == 0);
        assert_eq!(*count.lock().unwrap(), 50);
        running.stop();
    }
}

#[test]
fn a_client_at_a_unix_socket_is_told_with_its_process() {
    let seen = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&seen);
    let server = Server::new(ServerOptions {
        served: Some(Arc::new(move |served| {
            let client = &served.client;
            *noted.lock().unwrap() = Some((client.address(), client.credentials()));
        })),
        hello: true,
        ..ServerOptions::default()
    });
    let server = Arc::new(server.unwrap());
    let (ours, theirs) = UnixStream::pair().unwrap();
    server.add(OwnedFd::from(theirs)).unwrap();
    let (own, stopper) = (Arc::clone(&server), server.stopper());
    let running = std::thread::spawn(move || own.run());
    let mut client = Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
    client.call(r#"{"cmd":"hello"}"#, b"", LONG).unwrap();
    drop(client);
    stopper.stop();
    running.join().unwrap().unwrap();
    let (address, credentials) = seen.lock().unwrap().take().unwrap();
    let credentials = credentials.unwrap();
    assert_eq!(address.as_deref(), Some("unix:"));
    assert_eq!(credentials.pid, std::process::id().cast_signed());
    assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
}
