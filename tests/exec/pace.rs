//! Peers that send without a pause, and peers that send one byte before each deadline.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::channel::{fill, socket_pair};
use crate::common::exec::{LONG, connect, serve_next};
use crate::common::process::{alone, peak_memory};
use crate::common::stream::shell;
use crate::common::{encoded, kind};
use framefd::ErrorKind;
use framefd::ops::exec::{self, Limits, ServeOptions, Served};

const SHORT: Duration = Duration::from_millis(100);

/// The frames that a client may send while its command runs.
fn frames_of_a_client() -> Vec<Vec<u8>> {
    [
        (r#"{"stream":"stdin","data_size":0}"#, b"".as_slice()),
        (r#"{"stream":"stdin","data_size":5}"#, b"input"),
        (r#"{"stream":"stdin","eof":true,"data_size":0}"#, b""),
        (r#"{"stream":"stdin","eof":true,"data_size":1}"#, b"x"),
        (r#"{"signal":"CONT"}"#, b""),
        (r#"{"resize":{"rows":1,"columns":2}}"#, b""),
    ]
    .map(|(header, body)| encoded(header, body))
    .into()
}

/// Writes the same frames again and again, until the peer is gone.
fn flood(mut peer: &UnixStream, frame: &[u8]) {
    let frames = frame.repeat(1000);
    while peer.write_all(&frames).is_ok() {}
}

/// Writes one byte after the other until `is_over`, less than a deadline apart.
fn trickle(mut peer: &UnixStream, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) && peer.write_all(b" ").is_ok() {
        thread::sleep(SHORT / 4);
    }
}

fn ask(client: &UnixStream, header: &str, body: &[u8]) {
    (&mut &*client).write_all(&encoded(header, body)).unwrap();
}

fn hurried() -> ServeOptions<'static> {
    let limits = Limits {
        max_command: 300,
        time: Some(SHORT),
        term_grace: SHORT,
        drain_grace: SHORT,
        ..Limits::default()
    };
    ServeOptions { limits, reply_timeout: Some(SHORT), ..ServeOptions::default() }
}

#[test]
fn a_flood_lifts_no_limit_of_a_server() {
    alone("pace::a_flood_lifts_no_limit_of_a_server", || {
        let before = peak_memory();
        // It ends by the first signal, by the second, and only others hold its output.
        for (text, is_timed_out) in [
            ("echo up; exec sleep 1000", true),
            ("trap '' TERM; echo up; while :; do sleep 1000; done", true),
            ("echo up; setsid sleep 2 & exit 0", false),
        ] {
            for frame in frames_of_a_client() {
                let (client, server) = socket_pair();
                let header =
                    format!(r#"{{"cmd":"exec","stream":true,"data_size":{}}}"#, text.len());
                ask(&client, &header, text.as_bytes());
                thread::scope(|scope| {
                    scope.spawn(|| flood(&client, &frame));
                    let reader = scope.spawn(|| {
                        let mut output = Vec::new();
                        let _ = (&client).read_to_end(&mut output);
                        String::from_utf8_lossy(&output).into_owned()
                    });
                    let begin = Instant::now();
                    let mut options = hurried();
                    if !is_timed_out {
                        options.limits.time = Some(LONG); // It may wait for a processor.
                    }
                    let ran = serve_next(&mut connect(server.as_fd()), &options);
                    let Ok(Served::Ran(report)) = ran else { panic!("{text}: {ran:?}") };
                    assert_eq!(report.reply.timed_out, is_timed_out, "{text}");
                    assert!(begin.elapsed() < LONG / 4, "{text}: {:?}", begin.elapsed());
                    drop(server);
                    let output = reader.join().unwrap();
                    assert!(is_timed_out || output.contains("up\n"), "{text}");
                });
            }
        }
        assert!(peak_memory() - before < 16 << 20, "{}", peak_memory() - before);
    });
}

#[test]
fn a_flood_does_not_hold_a_server_whose_reply_is_not_read() {
    for frame in frames_of_a_client() {
        let (client, server) = socket_pair();
        fill(&server);
        ask(&client, r#"{"cmd":"exec","stream":true,"data_size":4}"#, b"true");
        thread::scope(|scope| {
            scope.spawn(|| flood(&client, &frame));
            let ran = serve_next(&mut connect(server.as_fd()), &hurried());
            assert_eq!(kind(ran), ErrorKind::Stalled);
            drop(server);
        });
    }
}

#[test]
fn a_flood_holds_no_call_of_a_client() {
    for (header, body) in [
        (r#"{"stream":"stdout","id":"~1"}"#, b"".as_slice()),
        (r#"{"stream":"stderr","id":"~1","data_size":0}"#, b""),
        (r#"{"stream":"stdout","id":"~1","data_size":1}"#, b"x"),
        (r#"{"stream":"stderr","id":"~1","data_size":3}"#, b"abc"),
    ] {
        for timeout in [Duration::ZERO, SHORT] {
            let (ours, theirs) = socket_pair();
            thread::scope(|scope| {
                scope.spawn(|| {
                    flood(&theirs, &encoded(header, body));
                    drop(theirs);
                });
                let mut client = connect(ours.as_fd());
                let mut remote = exec::start(&mut client, &shell("x"), LONG).unwrap();
                let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
                for call in 0..5 {
                    let begin = Instant::now();
                    let outcome = match call {
                        0 if body.is_empty() => remote.read(&mut [0], timeout).map(drop),
                        1 => remote.copy(None, null.as_fd(), null.as_fd(), timeout),
                        2 => remote.finish(timeout).map(drop),
                        // They are over once output must be read first, or all was sent.
                        3 => remote.end_input(timeout),
                        _ => remote.read(&mut [0], Duration::ZERO).map(drop),
                    };
                    if (1..3).contains(&call) {
                        assert_eq!(kind(outcome), ErrorKind::TimedOut, "call {call}");
                    }
                    assert!(begin.elapsed() < LONG / 4, "call {call}: {:?}", begin.elapsed());
                }
                drop(remote);
                drop(client);
                drop(ours);
            });
        }
    }
}

/// What a client begins and never ends, and what the reply to it says; nothing, if there is none.
const UNENDING: [(&str, &str, &[u8], &str); 7] = [
    ("a command", r#"{"cmd":"exec","data_size":200}"#, b"", ""),
    ("the command of a stream", r#"{"cmd":"exec","stream":true,"data_size":200}"#, b"", ""),
    ("a command that is too long", r#"{"cmd":"exec","data_size":500}"#, b"", "too_big"),
    (
        "a request that is refused",
        r#"{"cmd":"exec","tty":{"rows":1,"columns":1},"data_size":500}"#,
        b"",
        "bad_request",
    ),
    (
        "input that is read",
        r#"{"cmd":"exec","stdin_size":500,"data_size":503}"#,
        b"cat",
        "timed_out",
    ),
    (
        "input that is not read",
        r#"{"cmd":"exec","stdin_size":500,"data_size":504}"#,
        b"true",
        "exit_code",
    ),
    (
        "a piece of input",
        r#"{"cmd":"exec","stream":true,"data_size":4}"#,
        b"true\x22\0\0\0{\"stream\":\"stdin\",\"data_size\":500}",
        "exit_code",
    ),
];

#[test]
fn a_byte_before_each_deadline_does_not_hold_a_server() {
    thread::scope(|scope| {
        for (what, header, body, reply) in UNENDING {
            scope.spawn(move || {
                let (client, server) = socket_pair();
                let is_over = AtomicBool::new(false);
                ask(&client, header, body);
                let (ran, took) = thread::scope(|scope| {
                    scope.spawn(|| trickle(&client, &is_over));
                    let begin = Instant::now();
                    let ran = serve_next(&mut connect(server.as_fd()), &hurried());
                    is_over.store(true, Ordering::Relaxed);
                    (ran, begin.elapsed())
                });
                assert_eq!(kind(ran), ErrorKind::Stalled, "{what}");
                assert!(took < LONG / 4, "{what}: {took:?}");
                drop(server);
                let mut answer = Vec::new();
                let _ = (&client).read_to_end(&mut answer);
                let answer = String::from_utf8_lossy(&answer);
                assert!(answer.contains(reply), "{what}: {answer:?}");
            });
        }
    });
}

/// A socket is writable again only once most of what was sent is read.
#[test]
fn a_client_that_reads_before_each_deadline_gets_everything() {
    let options =
        ServeOptions { reply_timeout: Some(Duration::from_secs(1)), ..ServeOptions::default() };
    thread::scope(|scope| {
        for header in
            [r#"{"cmd":"exec","data_size":24}"#, r#"{"cmd":"exec","stream":true,"data_size":24}"#]
        {
            let options = &options;
            scope.spawn(move || {
                let (client, server) = socket_pair();
                ask(&client, header, b"head -c 600000 /dev/zero");
                let reading = thread::spawn(move || {
                    let mut all = vec![0; 200_000];
                    for piece in all.chunks_mut(50_000) {
                        thread::sleep(Duration::from_millis(450));
                        (&client).read_exact(piece).unwrap();
                    }
                    (&client).read_to_end(&mut all).unwrap()
                });
                let ran = serve_next(&mut connect(server.as_fd()), options);
                assert!(matches!(ran, Ok(Served::Ran(_))), "{ran:?}");
                drop(server);
                assert!(reading.join().unwrap() > 400_000);
            });
        }
    });
}
