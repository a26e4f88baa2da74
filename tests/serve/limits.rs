//! Each limit is reached, and those inside do not notice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use framefd::exec::{self, Request as ExecRequest};
use framefd::frame::{Connection, ConnectionOptions};
use framefd::serve::{Access, Commands, Files, Limits, ServerOptions};
use framefd::{ErrorKind, file};
use rustix::net::SocketType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::exec::{LONG, Presence};
use crate::common::process::{address_space, alone, memory};
use crate::common::{encoded, kind};
use crate::{
    BodyMode, Running, WORKERS, client, echo, key, keyed, prove, refused, sealed, try_prove,
};

const MILLIS: Duration = Duration::from_millis(1);

fn limited(workers: usize, limits: Limits) -> ServerOptions {
    ServerOptions { workers, limits, ..ServerOptions::default() }
}

/// Waits for the end of the stream; what came before it.
fn to_the_end(mut socket: TcpStream) -> Vec<u8> {
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut came = Vec::new();
    match socket.read_to_end(&mut came) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    came
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_connection_too_many_is_told_busy_and_those_inside_go_on() {
    for workers in WORKERS {
        for access in [Access::default(), keyed(), sealed()] {
            let limits = Limits { max_connections: 3, ..Limits::default() };
            let options = ServerOptions { access: access.clone(), ..limited(workers, limits) };
            let running = Running::start(options, |_| ());
            let connect = || {
                let mut client = running.client();
                prove(&mut client, &access);
                client
            };
            let mut inside: Vec<_> = (0..3).map(|_| connect()).collect();
            for client in &mut inside {
                echo(client, "inside").unwrap();
            }
            for _ in 0..5 {
                let mut fourth = connect();
                let (kind, detail) = refused(&mut fourth, r#"{"cmd":"echo"}"#, b"body");
                assert_eq!(
                    (kind, &*detail),
                    (ErrorKind::RemoteBusy, "in use by another: too many connections")
                );
                assert_eq!(fourth.next(LONG).unwrap_err().kind(), ErrorKind::Closed);
            }
            for client in &mut inside {
                echo(client, "still inside").unwrap();
            }
            assert_eq!(running.counters().refused_limit, 5);
            inside.pop();
            drop(inside);
            running.wait_until("they leave", |counters| counters.connections_now == 0);
            echo(&mut connect(), "again").unwrap();
            running.stop();
        }
    }
}

#[test]
fn the_oldest_that_proves_nothing_makes_room_for_the_next() {
    for workers in WORKERS {
        let limits = Limits { max_unauthenticated: 4, ..Limits::default() };
        let options = ServerOptions { access: keyed(), ..limited(workers, limits) };
        let running = Running::start(options, |_| ());
        let mut good = running.client();
        good.auth_client(&key(1), LONG).unwrap();
        echo(&mut good, "before").unwrap();
        let silent: Vec<_> = (0..4).map(|_| running.connect()).collect();
        running.wait_until("all are there", |counters| counters.connections_now == 5);
        let mut next = running.client();
        next.auth_client(&key(2), LONG).unwrap();
        echo(&mut next, "next").unwrap();
        let mut silent = silent.into_iter();
        assert_eq!(to_the_end(silent.next().unwrap()).len(), 32, "a challenge, and the end");
        echo(&mut good, "after").unwrap();
        let counters = running.counters();
        assert_eq!((counters.connections_now, counters.refused_limit), (5, 1));
        drop((good, next, silent));
        running.stop();
    }
}

/// They wait for their turn, as many as there may be.
#[test]
fn a_burst_of_clients_with_keys_pushes_none_of_them_out() {
    for workers in WORKERS {
        for access in [keyed(), sealed()] {
            let limits = Limits { max_unauthenticated: 4, ..Limits::default() };
            let options = ServerOptions { access: access.clone(), ..limited(workers, limits) };
            let running = Running::start(options, |_| ());
            let all: Vec<_> = (0..64).map(|_| running.client()).collect();
            let served = std::thread::scope(|scope| {
                let each = all.into_iter().map(|mut client| {
                    let access = &access;
                    scope.spawn(move || {
                        try_prove(&mut client, access).and_then(|()| echo(&mut client, "in"))
                    })
                });
                let each: Vec<_> = each.collect();
                each.into_iter().filter_map(|one| one.join().unwrap().ok()).count()
            });
            // On a machine that is busy some do not take their chance.
            assert!(served > 48, "{served}");
            running.stop();
        }
    }
}

#[test]
fn who_dawdles_is_closed() {
    let slow = |millis| Duration::from_millis(millis);
    for workers in WORKERS {
        let limits = Limits {
            auth_timeout: slow(150),
            frame_timeout: slow(150),
            stall: slow(150),
            idle: slow(400),
            ..Limits::default()
        };
        let options = ServerOptions { access: keyed(), ..limited(workers, limits) };
        let with_key = Running::start(options, |_| ());
        let without = Running::start(limited(workers, limits), |_| ());
        // A byte before each deadline does not help.
        let dawdle = |running: &Running, first: &[u8], each: &[u8]| {
            let mut socket = running.connect();
            socket.write_all(first).unwrap();
            let mut dawdling = socket.try_clone().unwrap();
            let bytes = each.to_vec();
            std::thread::spawn(move || {
                for byte in bytes {
                    std::thread::sleep(slow(50));
                    if dawdling.write_all(&[byte]).is_err() {
                        break;
                    }
                }
            });
            let start = Instant::now();
            let came = to_the_end(socket);
            assert!(start.elapsed() >= slow(140), "{:?}", start.elapsed());
            came
        };
        assert_eq!(dawdle(&with_key, b"", &[7; 31]).len(), 32);
        let header = encoded(r#"{"data_size":1000,"cmd":"echo","id":5}"#, b"");
        let came = dawdle(&without, &header[..5], &header[5..30]);
        assert!(has(&came, r#""code":"bad_request""#), "{}", String::from_utf8_lossy(&came));
        // A body may take as long as the least rate allows, but not pause as long.
        let came = dawdle(&without, &header, b"");
        assert!(has(&came, r#""code":"timed_out""#) && has(&came, r#""id":5"#));
        assert_eq!(dawdle(&without, b"", b""), b"", "idle");
        assert_eq!(without.counters().timed_out, 2);
        assert_eq!(with_key.counters().timed_out, 1);
        assert!(with_key.has_logged("no key in time"));
        with_key.stop();
        without.stop();
    }
}

#[test]
fn who_does_not_read_is_closed_and_who_reads_slowly_is_not() {
    for workers in WORKERS {
        let limits = Limits { stall: 300 * MILLIS, ..Limits::default() };
        let running = Running::start(limited(workers, limits), |_| ());
        let body = vec![b'x'; 4 << 20];
        let request = encoded(r#"{"data_size":4194304,"cmd":"echo"}"#, &body);
        let deaf = running.connect();
        let mut slow = running.connect();
        for socket in [&deaf, &slow] {
            let (mut writing, request) = (socket.try_clone().unwrap(), request.clone());
            std::thread::spawn(move || (0..4).try_for_each(|_| writing.write_all(&request)));
        }
        // Another client is served meanwhile.
        let mut good = running.client();
        let (mut got, start) = (0, Instant::now());
        let mut piece = vec![0; 256 * 1024];
        while got < 4 * body.len() {
            match slow.read(&mut piece).unwrap() {
                0 => panic!("a slow reader was closed after {got} bytes"),
                count => got += count,
            }
            echo(&mut good, "meanwhile").unwrap();
            std::thread::sleep(10 * MILLIS);
        }
        assert!(start.elapsed() > 2 * limits.stall);
        running.wait_until("the deaf one is closed", |counters| counters.timed_out == 1);
        drop((deaf, slow, good));
        running.stop();
    }
}

#[test]
fn a_body_above_the_limit_is_refused_and_much_of_it_not_awaited() {
    for workers in WORKERS {
        let limits = Limits { max_body: 1000, max_header: 100, ..Limits::default() };
        let running = Running::start(limited(workers, limits), |_| ());
        let mut client = running.client();
        let (kind, _) = refused(&mut client, r#"{"cmd":"echo"}"#, &[b'x'; 1001]);
        assert_eq!(kind, ErrorKind::RemoteTooBig);
        echo(&mut client, "in sync").unwrap();
        let mut raw = running.connect();
        raw.write_all(&encoded(r#"{"data_size":99999999,"cmd":"echo"}"#, &[b'x'; 5000])).unwrap();
        assert!(has(&to_the_end(raw), r#""code":"too_big""#));
        let mut raw = running.connect();
        raw.write_all(&encoded(&format!(r#"{{"cmd":"{}"}}"#, "e".repeat(100)), b"")).unwrap();
        assert!(has(&to_the_end(raw), r#""code":"bad_request""#));
        drop(client);
        running.stop();
    }
}

#[test]
fn unfinished_requests_of_all_connections_have_one_limit() {
    for workers in WORKERS {
        let limits = Limits { max_memory: 3 << 20, ..Limits::default() };
        let running = Running::start(limited(workers, limits), |_| ());
        let mut half = Vec::new();
        for _ in 0..6 {
            let mut socket = running.connect();
            let piece = vec![b'x'; 1 << 20];
            socket.write_all(&encoded(r#"{"data_size":2000000,"cmd":"echo"}"#, &piece)).unwrap();
            half.push(socket);
        }
        running.wait_until("some are refused", |counters| counters.refused_limit >= 3);
        let mut good = running.client();
        echo(&mut good, "small ones are served").unwrap();
        // Those inside go on.
        let mut served = 0;
        for mut socket in half {
            let _ = socket.write_all(&vec![b'x'; 2_000_000 - (1 << 20)]);
            socket.shutdown(std::net::Shutdown::Write).ok();
            served += usize::from(to_the_end(socket).len() > 2_000_000);
        }
        assert!((1..=3).contains(&served), "{served}");
        running.wait_until("they leave", |counters| counters.connections_now == 1);
        let refused = running.counters().refused_limit;
        let mut again = running.client();
        echo(&mut again, &"y".repeat(2_500_000)).unwrap();
        assert_eq!(running.counters().refused_limit, refused, "what was held is free again");
        drop((good, again));
        running.stop();
    }
}

fn command(text: &str) -> ExecRequest<'_> {
    ExecRequest { command: text.as_bytes(), ..ExecRequest::default() }
}

/// Commands wait for a place; everything else does not wait for them.
#[test]
fn commands_wait_for_a_place_and_nobody_else_does() {
    let limits = Limits { max_commands: 2, ..Limits::default() };
    let running = Running::start(limited(1, limits), |server| {
        server.serve_commands(Commands::default()).unwrap();
    });
    let presences: Vec<_> = (0..2).map(|_| Presence::new()).collect();
    let long: Vec<_> = presences
        .iter()
        .map(|presence| {
            let (mut client, text) = (running.client(), presence.of("sleep 60"));
            std::thread::spawn(move || exec::call(&mut client, &command(&text), LONG))
        })
        .collect();
    presences.iter().for_each(Presence::wait_for_begin);
    let waiting: Vec<_> = (0..3)
        .map(|n| {
            let mut client = running.client();
            std::thread::spawn(move || {
                let text = format!("echo {n}");
                exec::call(&mut client, &command(&text), LONG).map(|reply| reply.stdout().to_vec())
            })
        })
        .collect();
    running.wait_until("all have come", |counters| counters.connections_now == 5);
    let mut good = running.client();
    for _ in 0..100 {
        echo(&mut good, "meanwhile").unwrap();
    }
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "there is no place");
    assert_eq!(running.counters().requests_now, 2);
    // A second stop ends all of them.
    drop(good);
    running.server.stop();
    running.server.stop();
    for asked in waiting {
        assert!(asked.join().unwrap().is_err());
    }
    for asked in long {
        assert!(asked.join().unwrap().is_err());
    }
    presences.iter().for_each(Presence::wait_for_end);
    let mut running = running;
    assert_eq!(kind(running.wait_for_end()), ErrorKind::TimedOut);
}

#[test]
fn a_place_is_passed_on() {
    for workers in WORKERS {
        let limits = Limits { max_commands: 1, max_transfers: 1, ..Limits::default() };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), vec![b'x'; 3 << 20]).unwrap();
        let running = Running::start(limited(workers, limits), |server| {
            server.serve_commands(Commands::default()).unwrap();
            server.serve_files(files_of(dir.path())).unwrap();
        });
        std::thread::scope(|scope| {
            for n in 0..8 {
                let mut client = running.client();
                scope.spawn(move || {
                    for round in 0..5 {
                        let text = format!("echo {n} {round}");
                        let reply = exec::call(&mut client, &command(&text), LONG).unwrap();
                        assert_eq!(reply.stdout(), format!("{n} {round}\n").as_bytes());
                        let stat = file::stat(&mut client, b"file", LONG).unwrap();
                        assert_eq!(stat.size, 3 << 20);
                    }
                });
            }
        });
        running.wait_until("all are counted", |counters| counters.requests == 80);
        running.stop();
    }
}

/// Threads, descriptors and memory do not grow with the number of connections.
#[test]
fn one_connection_after_the_other_leaves_nothing() {
    alone("limits::one_connection_after_the_other_leaves_nothing", || {
        for workers in WORKERS {
            let options = ServerOptions { access: keyed(), ..limited(workers, Limits::default()) };
            let running = Running::start(options, |server| {
                server.serve_commands(Commands::default()).unwrap();
            });
            let count =
                |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
            let round = |n: usize| {
                let mut client = running.client();
                match n % 4 {
                    0 => client.auth_client(&key(9), LONG).unwrap(),
                    1 => {}
                    _ => {
                        client.auth_client(&key(1), LONG).unwrap();
                        echo(&mut client, &"x".repeat(n * 100)).unwrap();
                        if n % 4 == 3 {
                            exec::call(&mut client, &command("true"), LONG).unwrap();
                        }
                    }
                }
                drop(client);
                running.wait_until("closed", |counters| counters.connections_now == 0);
            };
            (0..20).for_each(round);
            let before = (count("fd"), count("task"), memory());
            (0..200).for_each(round);
            assert_eq!((count("fd"), count("task")), (before.0, before.1));
            assert!(memory() < before.2 + (2 << 20), "{} to {}", before.2, memory());
            running.stop();
        }
    });
}

#[test]
fn without_descriptors_it_waits_and_does_not_spin() {
    alone("limits::without_descriptors_it_waits_and_does_not_spin", || {
        for workers in WORKERS {
            let running = Running::start(limited(workers, Limits::default()), |_| ());
            let mut inside = running.client();
            echo(&mut inside, "inside").unwrap();
            let family = rustix::net::AddressFamily::INET;
            let blocked = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
            let before = getrlimit(Resource::Nofile);
            let fillers = use_all_descriptors();
            rustix::net::connect(&blocked, &running.address).unwrap();
            running.wait_until("it is noticed", |counters| counters.refused_limit > 0);
            let start = process_time();
            std::thread::sleep(500 * MILLIS);
            let used = process_time().saturating_sub(start);
            assert!(used < 50 * MILLIS, "{used:?}");
            echo(&mut inside, "still inside").unwrap();
            assert!(running.has_logged("cannot accept"));
            // Whoever waited is served as soon as there is a descriptor.
            drop(fillers);
            setrlimit(Resource::Nofile, before).unwrap();
            echo(&mut client(blocked.into()), "let in").unwrap();
            drop(inside);
            running.stop();
        }
    });
}

/// A body that there is no memory for is refused, and nothing else happens.
#[test]
fn without_memory_one_request_is_refused_and_others_are_served() {
    alone("limits::without_memory_one_request_is_refused_and_others_are_served", || {
        for workers in WORKERS {
            let running = Running::start(limited(workers, Limits::default()), |server| {
                server.serve_commands(Commands::default()).unwrap();
            });
            let mut good = running.client();
            echo(&mut good, "before").unwrap();
            let before = getrlimit(Resource::As);
            let current = Some(address_space() + (30 << 20));
            let maximum = before.maximum;
            setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
            for _ in 0..3 {
                let mut large = running.connect();
                let header = r#"{"data_size":60000000,"cmd":"echo","id":"large"}"#;
                large.write_all(&encoded(header, b"")).unwrap();
                let piece = vec![b'x'; 65536];
                let mut sent = 0;
                while sent < 60_000_000 && large.write_all(&piece).is_ok() {
                    sent += piece.len();
                    // It is served among others.
                    if sent % (4 << 20) == 0 {
                        echo(&mut good, "meanwhile").unwrap();
                    }
                }
                let came = to_the_end(large);
                assert!(has(&came, r#""id":"large""#), "{}", String::from_utf8_lossy(&came));
                assert!(has(&came, r#""code":"busy""#), "{}", String::from_utf8_lossy(&came));
            }
            let reply = exec::call(&mut good, &command("echo after"), LONG).unwrap();
            assert_eq!(reply.stdout(), b"after\n");
            setrlimit(Resource::As, before).unwrap();
            drop(good);
            running.stop();
        }
    });
}

/// From now on this process has no free descriptor.
fn use_all_descriptors() -> Vec<OwnedFd> {
    let mut fillers = Vec::new();
    loop {
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let number = u64::try_from(null.as_raw_fd()).unwrap();
        fillers.push(null);
        let most = std::fs::read_dir("/proc/self/fd").unwrap();
        let most = most.filter_map(|fd| fd.unwrap().file_name().to_str()?.parse::<u64>().ok());
        // Without a gap below it, it is the highest but for the directory's own.
        if most.filter(|open| *open > number + 1).count() == 0 {
            let maximum = getrlimit(Resource::Nofile).maximum;
            let limit = Rlimit { current: Some(number + 1), maximum };
            setrlimit(Resource::Nofile, limit).unwrap();
            return fillers;
        }
    }
}

fn process_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap()
}

/// A byte before each stall does not hold a place, nor a partial file.
#[test]
fn a_put_that_is_too_slow_is_cut() {
    for workers in WORKERS {
        let dir = tempfile::tempdir().unwrap();
        let limits =
            Limits { stall: Duration::from_millis(300), max_transfers: 1, ..Limits::default() };
        let running = Running::start(limited(workers, limits), |server| {
            let root = std::fs::File::open(dir.path()).unwrap().into();
            let options = file::ServeOptions::default();
            server.serve_files(Files { root, options, policy: None }).unwrap();
        });
        let request = r#"{"data_size":100000,"cmd":"put","filename":"slow","filesize":100000}"#;
        let mut slow = running.connect();
        slow.write_all(&encoded(request, b"")).unwrap();
        let start = Instant::now();
        while slow.write_all(b"x").is_ok() && running.counters().timed_out == 0 {
            assert!(start.elapsed() < LONG);
            std::thread::sleep(20 * MILLIS);
        }
        assert!(has(&to_the_end(slow), r#""code":"timed_out""#));
        assert_eq!(running.counters().timed_out, 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // One that is fast enough has as long as it needs.
        let path = dir.path().join("source");
        std::fs::write(&path, vec![1; 3_000_000]).unwrap();
        let mut fast = running.client();
        file::put(&mut fast, &file::Transfer::path(b"fast", &path), None).unwrap();
        drop(fast);
        running.stop();
    }
}

/// A thousand that send nothing, a part of a header or a part of a body, while one is served.
#[test]
fn a_thousand_that_dawdle_do_not_hold_up_one_that_does_not() {
    alone("limits::a_thousand_that_dawdle_do_not_hold_up_one_that_does_not", || {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        for workers in WORKERS {
            for access in [Access::default(), keyed(), sealed()] {
                let limits = Limits { max_connections: 1100, ..Limits::default() };
                let options = ServerOptions { access: access.clone(), ..limited(workers, limits) };
                let running = Running::start(options, |_| ());
                let starts: [&[u8]; 3] = [
                    b"",
                    b"\x20\0\0\0{\"cm",
                    &encoded(r#"{"data_size":1000,"cmd":"echo"}"#, b"half"),
                ];
                let mut good = running.client();
                prove(&mut good, &access);
                echo(&mut good, "alone").unwrap();
                let mut slow = Vec::new();
                for n in 0..1000 {
                    let mut socket = running.connect();
                    let _ = socket.write_all(starts[n % 3]);
                    slow.push(socket);
                    if n % 20 == 0 {
                        echo(&mut good, "while they come").unwrap();
                    }
                }
                let mut longest = Duration::ZERO;
                for socket in &mut slow {
                    let _ = socket.write_all(b"\"");
                    let start = Instant::now();
                    echo(&mut good, "among them").unwrap();
                    longest = longest.max(start.elapsed());
                }
                assert!(longest < Duration::from_secs(2), "{longest:?}");
                let inside = running.counters().connections_now;
                let with_key = access.ring.is_some();
                assert!(if with_key { inside <= 66 } else { inside > 900 }, "{inside}");
                drop((slow, good));
                running.stop();
            }
        }
    });
}

fn files_of(root: &Path) -> Files {
    let root = std::fs::File::open(root).unwrap().into();
    let options = file::ServeOptions::default();
    Files { root, options, policy: None }
}

/// Many requests that have come with one read.
#[test]
fn requests_of_a_client_that_take_their_time_let_others_in_between() {
    for workers in WORKERS {
        let running = Running::start(limited(workers, Limits::default()), |server| {
            server
                .handle("wait", BodyMode::Whole, |_, _| {
                    std::thread::sleep(5 * MILLIS);
                    Ok(())
                })
                .unwrap();
        });
        let mut many = running.connect();
        many.write_all(&encoded(r#"{"cmd":"wait"}"#, b"").repeat(400)).unwrap();
        running.wait_until("one is served", |counters| counters.requests > 0);
        let mut other = running.client();
        echo(&mut other, "in between").unwrap();
        let served = running.counters().requests;
        assert!(served < 200, "{served}");
        many.shutdown(std::net::Shutdown::Both).ok();
        drop((many, other));
        running.stop();
    }
}

/// A reply to a request for a file is small, mostly.
#[test]
fn others_do_not_wait_for_a_client_that_reads_no_replies_about_files() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(limited(0, Limits::default()), |server| {
        server.serve_files(files_of(dir.path())).unwrap();
    });
    let (mut deaf, theirs) = UnixStream::pair().unwrap();
    running.server.add(OwnedFd::from(theirs)).unwrap();
    deaf.set_nonblocking(true).unwrap();
    let request = encoded(r#"{"data_size":0,"cmd":"stat","filename":""}"#, b"");
    let (mut good, start) = (running.client(), Instant::now());
    while start.elapsed() < Duration::from_millis(300) {
        let _ = deaf.write(&request);
        echo(&mut good, "in between").unwrap();
    }
    drop((good, deaf));
    running.stop();
}

/// The reply to the request that breaks a connection, for which there was no room, is sent all the
/// same.
#[test]
fn a_refusal_for_which_there_was_no_room_is_sent_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let stat = r#"{"cmd":"stat","filename":""}"#;
    for workers in WORKERS {
        let running = Running::start(limited(workers, Limits::default()), |server| {
            server.serve_files(files_of(dir.path())).unwrap();
        });
        let pair = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            running.server.add(OwnedFd::from(theirs)).unwrap();
            let connection = OwnedFd::from(ours.try_clone().unwrap());
            (ours, Connection::new(connection, ConnectionOptions::default()).unwrap())
        };
        let (mut raw, _client) = pair();
        raw.write_all(&encoded(stat, b"")).unwrap();
        let len = raw.read(&mut [0; 1024]).unwrap();
        // As many replies as there is room for.
        let (full, _unread) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        let mut count = 0;
        while (&full).write(&vec![b'x'; len]).is_ok() {
            count += 1;
        }
        let (mut raw, mut client) = pair();
        raw.write_all(&encoded(stat, b"").repeat(count)).unwrap();
        let dropped = framefd::limits::REFUSED;
        let header = r#"{"cmd":"stat","filename":"","data_size":"#;
        raw.write_all(&encoded(&format!("{header}{}}}", 2 * dropped), b"")).unwrap();
        // More than is dropped, and the rest fits in the socket.
        raw.write_all(&vec![0; usize::try_from(dropped).unwrap() + 65536]).unwrap();
        for _ in 0..count {
            assert_eq!(client.recv(LONG).unwrap().header.unwrap().string("status").unwrap(), "ok");
        }
        let refusal = client.recv(LONG).unwrap().header.unwrap();
        assert_eq!(refusal.string("code").unwrap(), "too_big", "{refusal:?}");
        drop((raw, client));
        running.stop();
    }
}

/// A server that reads a large file says that it is at work, and does not wait with that.
#[test]
fn what_a_server_says_meanwhile_is_sent_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // The partial file of `old`.
    let part = std::fs::File::create(dir.path().join(".framefd-cba06b5736faf67e.part")).unwrap();
    part.set_len(256 << 20).unwrap();
    for workers in WORKERS {
        let running = Running::start(limited(workers, Limits::default()), |server| {
            server.serve_files(files_of(dir.path())).unwrap();
        });
        let mut client = running.client();
        let asked = r#"{"cmd":"stat","filename":"old","partial":true,"working":true}"#;
        let start = Instant::now();
        client.send(Some(asked), b"", LONG).unwrap();
        let told = client.recv(LONG).unwrap().header.unwrap();
        let first = start.elapsed();
        assert!(told.boolean("working").unwrap(), "{told:?}");
        while client.recv(LONG).unwrap().header.unwrap().string("status").is_err() {}
        assert!(first < start.elapsed() / 2, "{first:?} of {:?}", start.elapsed());
        drop(client);
        running.stop();
    }
}

/// A client that sends all that is legal without a pause, and reads nothing or everything.
#[test]
fn a_flood_is_served_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    for workers in WORKERS {
        let running = Running::start(limited(workers, Limits::default()), |server| {
            server.serve_commands(Commands::default()).unwrap();
            server.handle("leave", BodyMode::Streamed, |_, _| Ok(())).unwrap();
            server.serve_files(files_of(dir.path())).unwrap();
        });
        let over = Arc::new(AtomicBool::new(false));
        let mut flood = Vec::new();
        for (header, body) in [
            (r#"{"data_size":0,"cmd":"echo"}"#, &b""[..]),
            (r#"{"data_size":3,"cmd":"echo"}"#, b"abc"),
            (r#"{"data_size":0,"cmd":"hello"}"#, b""),
            (r#"{"data_size":0,"cmd":"leave"}"#, b""),
            (r#"{"data_size":5,"cmd":"leave"}"#, b"hello"),
            (r#"{"data_size":0,"cmd":"nothing"}"#, b""),
            (r#"{"data_size":0,"cmd":"stat","filename":""}"#, b""),
            (r#"{"data_size":0,"signal":"INT"}"#, b""),
            (r#"{"data_size":0,"resize":{"rows":1,"columns":1}}"#, b""),
            (r#"{"data_size":2,"stream":"stdin"}"#, b"xx"),
            ("{\"data_size\":0}", b""),
        ] {
            flood.extend(encoded(header, body));
        }
        let flood = flood.repeat(100);
        let mut threads = Vec::new();
        let mut sockets = Vec::new();
        for reads in [true, false] {
            let mut socket = running.connect();
            sockets.push(socket.try_clone().unwrap());
            if reads {
                let mut reading = socket.try_clone().unwrap();
                threads.push(std::thread::spawn(move || {
                    while matches!(reading.read(&mut [0; 8192]), Ok(1..)) {}
                }));
            }
            let (flood, over) = (flood.clone(), Arc::clone(&over));
            threads.push(std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) && socket.write_all(&flood).is_ok() {}
            }));
        }
        let (mut good, start) = (running.client(), Instant::now());
        let before = memory();
        while start.elapsed() < Duration::from_millis(500) {
            echo(&mut good, "in between").unwrap();
        }
        assert!(memory() < before + (64 << 20), "{} to {}", before, memory());
        over.store(true, Ordering::Relaxed);
        for socket in sockets {
            socket.shutdown(std::net::Shutdown::Both).ok();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        drop(good);
        running.stop();
    }
}
