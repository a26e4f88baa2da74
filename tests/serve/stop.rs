//! A stop loses nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use framefd::exec::{self, Request as ExecRequest};
use framefd::frame::Connection;
use framefd::serve::{Access, BodyMode, Commands, Limits, Server, ServerOptions};
use framefd::{ErrorKind, Result};

use crate::common::exec::{LONG, Presence};
use crate::common::{encoded, kind};
use crate::{Running, WORKERS, client, echo, keyed, prove, sealed, try_prove};

const MILLIS: Duration = Duration::from_millis(1);
/// Of a body.
const LONGEST: u64 = 50_000;

/// More rounds in the long suite.
fn rounds() -> u32 {
    if std::env::var_os("FRAMEFD_LONG").is_some() { 500 } else { 50 }
}

/// A server whose requests take a moment.
fn slow_server(workers: usize, access: Access) -> Running {
    Running::start(ServerOptions { workers, access, ..ServerOptions::default() }, |server| {
        server
            .handle("slow", BodyMode::Whole, |connection, request| {
                std::thread::sleep(MILLIS / 2);
                connection.reply(request.header.text(), None, request.body, None)
            })
            .unwrap();
    })
}

/// Every request that was sent before the stop gets its own reply, whatever it waits for: in the
/// backlog, in the kernel, for a thread, behind others on its connection.
#[test]
fn every_request_that_was_sent_before_a_stop_is_answered() {
    let answered = AtomicU64::new(0);
    for round in 0..rounds() {
        for workers in WORKERS {
            let access = [Access::default(), sealed()][usize::from(round % 2 == 1)].clone();
            let mut running = slow_server(workers, access.clone());
            let has_stopped = AtomicBool::new(false);
            let is_over = |connection: Result<()>| match connection {
                Ok(()) => false,
                Err(error) => {
                    assert!(has_stopped.load(Ordering::SeqCst), "before the stop: {error}");
                    true
                }
            };
            std::thread::scope(|scope| {
                for number in 0..6_u64 {
                    let (address, is_over) = (running.address, &is_over);
                    let (has_stopped, answered, access) = (&has_stopped, &answered, &access);
                    scope.spawn(move || {
                        let mut sent = 0_u64;
                        'connections: loop {
                            let Ok(socket) = TcpStream::connect(address) else { break };
                            let mut client = client(socket);
                            if is_over(try_prove(&mut client, access)) {
                                break;
                            }
                            for depth in [1, 1, 5, 1, 20] {
                                let mut due = Vec::new();
                                for _ in 0..depth {
                                    sent += 1;
                                    let mut body = format!("{number}/{sent}");
                                    // More than the server reads at once, in some rounds.
                                    let len = (sent * 7919 % LONGEST) * u64::from(round % 4 / 2);
                                    body.push_str(&"x".repeat(usize::try_from(len).unwrap()));
                                    let header = format!(r#"{{"cmd":"slow","id":{sent}}}"#);
                                    let went = client.queue(Some(&header), body.as_bytes(), LONG);
                                    if is_over(went) {
                                        break 'connections;
                                    }
                                    due.push((sent, body));
                                }
                                let went = client.flush(LONG);
                                // It is with the server now, or the server has stopped before.
                                let was_before = !has_stopped.load(Ordering::SeqCst);
                                if is_over(went) {
                                    break 'connections;
                                }
                                for (id, body) in due {
                                    let reply = match client.recv(LONG) {
                                        Ok(reply) => reply,
                                        Err(error) => {
                                            assert!(!was_before, "lost {id}: {error}");
                                            // Whoever connected later may be reset.
                                            let kinds = [
                                                ErrorKind::Closed,
                                                ErrorKind::Truncated,
                                                ErrorKind::Io,
                                            ];
                                            assert!(kinds.contains(&error.kind()), "{error}");
                                            break 'connections;
                                        }
                                    };
                                    assert!(reply.body == body.as_bytes(), "another body");
                                    let header = reply.header.unwrap();
                                    let id = i64::try_from(id).unwrap();
                                    assert_eq!(header.integer("id").unwrap(), id);
                                    answered.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        }
                    });
                }
                std::thread::sleep(Duration::from_micros(u64::from(round * 377 % 5000)));
                has_stopped.store(true, Ordering::SeqCst);
                running.stopper.stop();
                running.wait_for_end().unwrap();
            });
            assert_eq!(running.counters().connections_now, 0);
        }
    }
    assert!(answered.into_inner() > u64::from(rounds()) * 10);
}

/// They were not read when the time of an idle connection was over.
#[test]
fn requests_behind_one_that_takes_long_are_answered() {
    for workers in WORKERS {
        for access in [Access::default(), keyed(), sealed()] {
            let options = ServerOptions { workers, access: access.clone(), ..Default::default() };
            let mut running = Running::start(options, |server| {
                server
                    .handle("wait", BodyMode::Whole, |_, _| {
                        std::thread::sleep(100 * MILLIS);
                        Ok(())
                    })
                    .unwrap();
            });
            let mut client = running.client();
            prove(&mut client, &access);
            client.send(Some(r#"{"cmd":"wait"}"#), b"", LONG).unwrap();
            running.wait_until("it is served", |counters| counters.requests_now == 1);
            for n in 0..50_u8 {
                client.queue(Some(r#"{"cmd":"echo"}"#), &[n; 500], LONG).unwrap();
            }
            client.flush(LONG).unwrap();
            running.stopper.stop();
            client.recv(LONG).unwrap();
            for n in 0..50_u8 {
                assert_eq!(client.recv(LONG).unwrap().body, [n; 500]);
            }
            running.wait_for_end().unwrap();
        }
    }
}

/// It came with the proof of the key, and was read with it.
#[test]
fn a_request_that_was_read_and_waits_for_a_thread_is_answered() {
    let access = keyed();
    let options = ServerOptions { workers: 1, access: access.clone(), ..Default::default() };
    let mut running = Running::start(options, |server| {
        server
            .handle("wait", BodyMode::Whole, |_, request| {
                let millis = u32::try_from(request.header.integer("millis")?).unwrap();
                std::thread::sleep(millis * MILLIS);
                Ok(())
            })
            .unwrap();
    });
    let mut clients = [(); 3].map(|()| running.client());
    let [first, second, third] = &mut clients;
    prove(first, &access);
    prove(second, &access);
    echo(second, "there").unwrap();
    let proving = std::thread::scope(|scope| {
        first.send(Some(r#"{"cmd":"wait","millis":150}"#), b"", LONG).unwrap();
        running.wait_until("it is served", |counters| counters.requests_now == 1);
        let proving = scope.spawn(|| {
            prove(third, &access);
            third.send(Some(r#"{"cmd":"echo"}"#), b"third", LONG).unwrap();
        });
        std::thread::sleep(50 * MILLIS);
        second.send(Some(r#"{"cmd":"wait","millis":400}"#), b"", LONG).unwrap();
        running.stopper.stop();
        proving.join()
    });
    proving.unwrap();
    for client in &mut clients {
        client.recv(LONG).unwrap();
    }
    running.wait_for_end().unwrap();
}

/// One that never stops sending is ended all the same.
#[test]
fn a_flood_does_not_hold_a_stop_up() {
    for workers in WORKERS {
        let limits = Limits { drain: 6000 * MILLIS, ..Limits::default() };
        let mut running =
            Running::start(ServerOptions { workers, limits, ..Default::default() }, |_| ());
        let mut sockets = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..3 {
            let mut socket = running.connect();
            let mut reading = socket.try_clone().unwrap();
            sockets.push(socket.try_clone().unwrap());
            let requests = encoded(r#"{"data_size":1,"cmd":"echo"}"#, b"x").repeat(1000);
            threads.push(std::thread::spawn(move || while socket.write_all(&requests).is_ok() {}));
            threads.push(std::thread::spawn(move || {
                while matches!(reading.read(&mut [0; 8192]), Ok(1..)) {}
            }));
        }
        running.wait_until("they flood", |counters| counters.requests > 1000);
        running.stopper.stop();
        let start = Instant::now();
        // Before the end of its time, when requests would be cut.
        running.wait_for_end().unwrap();
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
        for socket in sockets {
            socket.shutdown(Shutdown::Both).ok();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

/// Clients that have connected, and of which the server has not seen anything.
#[test]
fn what_waits_to_be_accepted_is_served() {
    for workers in WORKERS {
        for access in [Access::default(), keyed(), sealed()] {
            let options = ServerOptions { workers, access: access.clone(), ..Default::default() };
            let server = Server::new(options).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            server.listen(OwnedFd::from(listener)).unwrap();
            server
                .handle("echo", BodyMode::Whole, |connection, request| {
                    connection.reply(request.header.text(), None, request.body, None)
                })
                .unwrap();
            let asking: Vec<_> = (0..60)
                .map(|n| {
                    let mut client = client(TcpStream::connect(address).unwrap());
                    let (body, access) = (format!("body {n}"), access.clone());
                    let is_first = access.ring.is_none();
                    let ask = move |client: &mut Connection<'_>| {
                        client.send(Some(r#"{"cmd":"echo"}"#), body.as_bytes(), LONG)
                    };
                    if is_first {
                        ask(&mut client).unwrap();
                    }
                    std::thread::spawn(move || {
                        prove(&mut client, &access);
                        if !is_first {
                            ask(&mut client).unwrap();
                        }
                        assert_eq!(client.recv(LONG).unwrap().body, format!("body {n}").as_bytes());
                        assert_eq!(kind(client.recv(LONG)), ErrorKind::Closed);
                    })
                })
                .collect();
            server.stop();
            let running = std::thread::spawn(move || server.run());
            for one in asking {
                one.join().unwrap();
            }
            running.join().unwrap().unwrap();
            assert!(TcpStream::connect(address).is_err(), "its listener is closed");
        }
    }
}

#[test]
fn a_stop_takes_as_long_as_the_requests_and_idle_clients_see_the_end() {
    for workers in WORKERS {
        let mut running = Running::plain(workers, |server| {
            server
                .handle("wait", BodyMode::Whole, |_, _| {
                    std::thread::sleep(200 * MILLIS);
                    Ok(())
                })
                .unwrap();
        });
        let mut idle = running.client();
        echo(&mut idle, "hello").unwrap();
        let waiting = std::thread::spawn(move || {
            let seen = kind(idle.recv(LONG));
            assert_eq!(seen, ErrorKind::Closed);
        });
        let mut busy = running.client();
        let asking = std::thread::spawn(move || busy.call(r#"{"cmd":"wait"}"#, b"", LONG));
        let start = Instant::now();
        running.wait_until("it is served", |counters| counters.requests_now == 1);
        running.stopper.stop();
        running.wait_for_end().unwrap();
        assert!(start.elapsed() < 900 * MILLIS, "{:?}", start.elapsed());
        waiting.join().unwrap();
        asking.join().unwrap().unwrap();
    }
}

/// Nobody would serve them, and their clients would wait for ever.
#[test]
fn once_it_has_stopped_it_takes_no_socket() {
    let server = Server::new(ServerOptions::default()).unwrap();
    server.stop();
    server.run().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(kind(server.listen(OwnedFd::from(listener))), ErrorKind::State);
    assert!(TcpStream::connect(address).is_err());
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(kind(server.add(OwnedFd::from(ours))), ErrorKind::State);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

/// One that goes on sending does not hold a stop up.
#[test]
fn a_stop_ends_although_clients_go_on() {
    for workers in WORKERS {
        let mut running = slow_server(workers, Access::default());
        let clients: Vec<_> = (0..3)
            .map(|n| {
                let mut client = running.client();
                std::thread::spawn(move || while echo(&mut client, &n.to_string()).is_ok() {})
            })
            .collect();
        // And one that only holds its connection, one that has begun a request.
        let silent = running.connect();
        let mut half = running.connect();
        half.write_all(&encoded(r#"{"data_size":9,"cmd":"echo"}"#, b"half")).unwrap();
        running.wait_until("they are there", |counters| counters.connections_now == 5);
        let start = Instant::now();
        running.stopper.stop();
        std::thread::sleep(50 * MILLIS);
        half.write_all(b" done").unwrap();
        assert_eq!(client(half).recv(LONG).unwrap().body, b"half done");
        running.wait_for_end().unwrap();
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        for client in clients {
            client.join().unwrap();
        }
        drop(silent);
    }
}

#[test]
fn a_second_stop_or_the_end_of_its_time_ends_everything() {
    for workers in WORKERS {
        for is_asked in [true, false] {
            let drain = if is_asked { LONG } else { 100 * MILLIS };
            let limits = Limits { drain, ..Limits::default() };
            let options = ServerOptions { workers, limits, ..ServerOptions::default() };
            let mut running = Running::start(options, |server| {
                server.serve_commands(Commands::default()).unwrap();
            });
            let presence = Presence::new();
            let (mut client, text) = (running.client(), presence.of("sleep 60"));
            let calling = std::thread::spawn(move || {
                let request = ExecRequest { command: text.as_bytes(), ..ExecRequest::default() };
                exec::call(&mut client, &request, LONG).map(drop)
            });
            presence.wait_for_begin();
            let start = Instant::now();
            running.stopper.stop();
            if is_asked {
                running.stopper.stop();
            }
            assert_eq!(kind(running.wait_for_end()), ErrorKind::TimedOut);
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
            presence.wait_for_end();
            assert!(calling.join().unwrap().is_err());
        }
    }
}

/// A handler that does not return cannot be ended, and is waited for when the server is dropped.
#[test]
fn a_handler_that_does_not_return_holds_up_nothing_but_the_end() {
    let mut running = Running::plain(2, |server| {
        server
            .handle("stuck", BodyMode::Whole, |_, _| {
                std::thread::sleep(Duration::from_secs(3));
                Ok(())
            })
            .unwrap();
    });
    let mut stuck = running.connect();
    stuck.write_all(&encoded(r#"{"data_size":0,"cmd":"stuck"}"#, b"")).unwrap();
    running.wait_until("it is served", |counters| counters.requests_now == 1);
    echo(&mut running.client(), "others are").unwrap();
    running.stopper.stop();
    running.stopper.stop();
    let start = Instant::now();
    assert_eq!(kind(running.wait_for_end()), ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
    stuck.shutdown(Shutdown::Both).ok();
}
