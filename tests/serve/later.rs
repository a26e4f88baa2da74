//! Requests that are answered after their handler has returned.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use framefd::frame::{Connection, ConnectionOptions};
use framefd::serve::{BodyMode, Later, Server, ServerOptions};
use framefd::{Error, ErrorKind};

use crate::common::exec::LONG;
use crate::{NO_TIME, Running, WORKERS, echo, prove, refused, sealed};

/// A request that its handler has left to the test.
struct Kept {
    connection: Connection<'static>,
    header: String,
    body: Vec<u8>,
    later: Later,
}

impl Kept {
    fn reply(mut self, body: &[u8]) {
        self.connection.reply(&self.header, None, body, NO_TIME).unwrap();
        self.later.done(self.connection, Ok(()));
    }
}

/// Serves `keep` by passing its requests on.
fn keep(server: &Server) -> Receiver<Kept> {
    let (pass, kept) = channel();
    let pass = Mutex::new(pass);
    let handler = move |connection, request: &framefd::serve::Request<'_>, later| {
        let (header, body) = (request.header.text().to_owned(), request.body.to_vec());
        pass.lock().unwrap().send(Kept { connection, header, body, later }).unwrap();
    };
    server.handle_later("keep", BodyMode::Whole, handler).unwrap();
    kept
}

fn keeping(options: ServerOptions) -> (Running, Receiver<Kept>) {
    let mut kept = None;
    let running = Running::start(options, |server| kept = Some(keep(server)));
    (running, kept.unwrap())
}

fn with(workers: usize) -> ServerOptions {
    ServerOptions { workers, ..ServerOptions::default() }
}

fn send(client: &mut Connection<'_>, cmd: &str, body: &str) {
    let header = format!(r#"{{"cmd":"{cmd}","id":"{body}"}}"#);
    client.send(Some(&header), body.as_bytes(), LONG).unwrap();
}

#[track_caller]
fn receive(client: &mut Connection<'_>) -> String {
    let reply = client.recv(LONG).unwrap();
    assert_eq!(reply.body, reply.header.unwrap().string("id").unwrap().as_bytes());
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// Replies come in the order of the requests, those before a late one without waiting for it, and
/// other clients do not wait at all.
#[test]
fn a_late_reply_holds_up_only_its_own_client() {
    for workers in WORKERS {
        for access in [None, Some(sealed())] {
            let access = access.unwrap_or_default();
            let (running, kept) =
                keeping(ServerOptions { access: access.clone(), ..with(workers) });
            let mut clients: Vec<_> = (0..3).map(|_| running.client()).collect();
            for client in &mut clients {
                prove(client, &access);
            }
            let mut requests = Vec::new();
            for (number, client) in clients.iter_mut().enumerate().take(2) {
                for (cmd, name) in [("echo", "first"), ("keep", "late"), ("echo", "last")] {
                    send(client, cmd, &format!("{name}{number}"));
                }
                requests.push(kept.recv_timeout(LONG).unwrap());
                assert_eq!(receive(client), format!("first{number}"));
                assert_eq!(client.recv(NO_TIME).unwrap_err().kind(), ErrorKind::TimedOut);
            }
            echo(&mut clients[2], "meanwhile").unwrap();
            assert_eq!(running.counters().requests_now, 2);
            for request in requests.into_iter().rev() {
                let body = request.body.clone();
                request.reply(&body);
            }
            for (number, client) in clients.iter_mut().enumerate().take(2) {
                assert_eq!(receive(client), format!("late{number}"));
                assert_eq!(receive(client), format!("last{number}"));
                echo(client, "and on").unwrap();
            }
            assert_eq!(running.counters().requests, 9);
            drop(clients);
            running.stop();
        }
    }
}

/// A handler may also be done at once, fail, send a part of its reply, panic, or forget.
#[test]
fn every_end_of_a_request_has_its_reply_or_closes() {
    for workers in WORKERS {
        let running = Running::plain(workers, |server| {
            let add = |cmd: &str, handler: fn(&mut Connection<'static>, &str) -> bool| {
                let handle = move |mut connection: Connection<'static>,
                                   request: &framefd::serve::Request<'_>,
                                   later: Later| {
                    if handler(&mut connection, request.header.text()) {
                        let why = Error::new(ErrorKind::NotFound, "no such thing");
                        return later.done(connection, Err(why));
                    }
                    later.done(connection, Ok(()));
                };
                server.handle_later(cmd, BodyMode::Whole, handle).unwrap();
            };
            add("silent", |_, _| false);
            add("fails", |_, _| true);
            add("breaks off", |connection, header| {
                connection.reply(header, None, b"a part", NO_TIME).unwrap();
                true
            });
            add("panics", |_, _| panic!("a defect"));
            server.handle_later("forgets", BodyMode::Whole, |_, _, _| {}).unwrap();
        });
        let mut client = running.client();
        client.call(r#"{"cmd":"silent"}"#, b"", LONG).unwrap();
        let (kind, detail) = refused(&mut client, r#"{"cmd":"fails"}"#, b"");
        assert_eq!((kind, &*detail), (ErrorKind::RemoteNotFound, "no such thing"));
        client.call(r#"{"cmd":"breaks off"}"#, b"", LONG).unwrap();
        assert_eq!(client.recv(LONG).unwrap_err().kind(), ErrorKind::Closed);
        for cmd in ["panics", "forgets"] {
            let mut client = running.client();
            echo(&mut client, "before").unwrap();
            let (kind, _) = refused(&mut client, &format!(r#"{{"cmd":"{cmd}"}}"#), b"");
            assert_eq!(kind, ErrorKind::Closed);
        }
        drop(client);
        running.wait_until("closed", |counters| counters.connections_now == 0);
        running.stop();
    }
}

/// The handler returns, and the connection comes back, at the same moment.
#[test]
fn it_does_not_matter_which_of_the_two_comes_first() {
    for workers in WORKERS {
        let (pass, kept) = channel::<(Connection<'static>, String, Later)>();
        let (pass, meet) = (Mutex::new(pass), Arc::new(Barrier::new(2)));
        let host_meets = Arc::clone(&meet);
        let host = std::thread::spawn(move || {
            for (mut connection, header, later) in kept {
                host_meets.wait();
                connection.reply(&header, None, b"late", NO_TIME).unwrap();
                later.done(connection, Ok(()));
            }
        });
        let running = Running::plain(workers, |server| {
            let handle = move |connection, request: &framefd::serve::Request<'_>, later| {
                let header = request.header.text().to_owned();
                pass.lock().unwrap().send((connection, header, later)).unwrap();
                meet.wait();
            };
            server.handle_later("race", BodyMode::Whole, handle).unwrap();
        });
        let mut client = running.client();
        for _ in 0..2000 {
            assert_eq!(client.call(r#"{"cmd":"race"}"#, b"", LONG).unwrap().body, b"late");
        }
        drop(client);
        running.stop();
        host.join().unwrap();
    }
}

#[test]
fn a_stop_waits_for_late_replies_and_a_second_one_does_not() {
    for workers in WORKERS {
        let (mut running, kept) = keeping(with(workers));
        let mut client = running.client();
        send(&mut client, "keep", "late");
        let request = kept.recv_timeout(LONG).unwrap();
        running.stopper.stop();
        running.wait_until("stopping", |_| running.has_logged("stopping"));
        request.reply(b"late");
        assert_eq!(receive(&mut client), "late");
        assert_eq!(client.recv(LONG).unwrap_err().kind(), ErrorKind::Closed);
        running.wait_for_end().unwrap();

        let (mut running, kept) = keeping(with(workers));
        let mut client = running.client();
        send(&mut client, "keep", "cut");
        let mut request = kept.recv_timeout(LONG).unwrap();
        running.stopper.stop();
        running.stopper.stop();
        assert!(client.recv(LONG).is_err());
        let sent = request.connection.recv(LONG).unwrap_err().kind();
        assert!(matches!(sent, ErrorKind::Aborted | ErrorKind::Canceled), "{sent:?}");
        request.later.done(request.connection, Ok(()));
        assert_eq!(running.wait_for_end().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(running.counters().connections_now, 0);
    }
}

/// It outlives its client, and its server.
#[test]
fn a_late_reply_may_come_when_nobody_waits_for_it() {
    for workers in WORKERS {
        let (running, kept) = keeping(with(workers));
        let mut client = running.client();
        send(&mut client, "keep", "gone");
        let request = kept.recv_timeout(LONG).unwrap();
        drop(client);
        request.reply(&vec![0; 100_000]);
        running.wait_until("closed", |counters| counters.connections_now == 0);

        let mut client = running.client();
        send(&mut client, "keep", "outlives");
        let request = kept.recv_timeout(LONG).unwrap();
        let mut running = running;
        running.stopper.stop();
        running.stopper.stop();
        // A second after it was told to end at once, it does not wait any more.
        assert_eq!(running.wait_for_end().unwrap_err().kind(), ErrorKind::TimedOut);
        drop(running);
        assert!(client.recv(LONG).is_err());
        request.later.done(request.connection, Ok(()));
    }
}

/// Nobody but the host waits for events of a connection that it has.
#[test]
fn a_host_may_read_more_of_its_client_meanwhile() {
    for workers in WORKERS {
        let running = Running::plain(workers, |server| {
            let handler = |mut connection: Connection<'static>,
                           request: &framefd::serve::Request<'_>,
                           later: Later| {
                let header = request.header.text().to_owned();
                std::thread::spawn(move || {
                    let mut total = 0;
                    let mut room = vec![0; 10_000];
                    loop {
                        match connection.read(&mut room, LONG).unwrap() {
                            0 => break,
                            got => total += got,
                        }
                    }
                    let sum = format!(r#"{{"total":{total}}}"#);
                    connection.reply(&header, Some(&sum), &[], LONG).unwrap();
                    later.done(connection, Ok(()));
                });
            };
            server.handle_later("total", BodyMode::Streamed, handler).unwrap();
        });
        let (mut client, piece) = (running.client(), vec![7; 100_000]);
        for _ in 0..3 {
            client.begin(Some(r#"{"cmd":"total"}"#), 1_000_000).unwrap();
            for _ in 0..10 {
                client.write(&piece, LONG).unwrap();
                client.flush(LONG).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            let reply = client.recv(LONG).unwrap();
            assert_eq!(reply.header.unwrap().integer("total").unwrap(), 1_000_000);
            echo(&mut client, "next").unwrap();
        }
        drop(client);
        running.stop();
    }
}

/// The host ends a wait of `run`, or of a request in it, and goes on.
#[test]
fn a_host_that_wants_its_thread_back_gets_it() {
    use std::ops::ControlFlow::{Break, Continue};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    let wants = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&wants);
    let interrupted = move || if asked.load(Ordering::SeqCst) { Break(()) } else { Continue(()) };
    let options = ServerOptions { interrupted: Some(Arc::new(interrupted)), ..with(0) };
    let server = Arc::new(Server::new(options).unwrap());
    let in_request = Arc::clone(&wants);
    server
        .handle("wait", BodyMode::Streamed, move |connection, _| {
            in_request.store(true, Ordering::SeqCst);
            connection.read(&mut [0], None).map(drop)
        })
        .unwrap();
    assert_eq!(server.run().unwrap_err().kind(), ErrorKind::Canceled);
    let (ours, theirs) = UnixStream::pair().unwrap();
    server.add(OwnedFd::from(theirs)).unwrap();
    let mut client = Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
    client.begin(Some(r#"{"cmd":"wait"}"#), 10).unwrap();
    client.flush(LONG).unwrap();
    wants.store(false, Ordering::SeqCst);
    assert_eq!(server.run().unwrap_err().kind(), ErrorKind::Canceled);
    wants.store(false, Ordering::SeqCst);
    drop(client);
    server.stop();
    server.run().unwrap();
}
