//! One deadline covers a whole call, whatever the descriptor, however the other end
//! dawdles, and waiting for it costs nothing.

mod common;

use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use common::channel::{drain, every_channel, fill, flags, set_blocking, socket_pair, unread};
use common::process::thread_cpu_time;
use common::{encoded, kind};
use framefd::ErrorKind;
use framefd::ops::frame::{self, Options};
use rustix::event::{PollFd, PollFlags, poll};

const SHORT: Duration = Duration::from_millis(50);
/// Far more than any of these calls should take, on a machine that is busy too.
const AGES: Duration = Duration::from_secs(10);

fn within(timeout: Duration) -> Options {
    Options { timeout: Some(timeout), ..Options::default() }
}

/// Runs a call that has to take `SHORT` at least, and not much more.
#[track_caller]
fn takes_its_time<T>(call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = call();
    let took = start.elapsed();
    assert!((SHORT..AGES).contains(&took), "it took {took:?}");
    outcome
}

#[test]
fn nothing_comes() {
    for (name, _, channel) in every_channel() {
        let before = flags(&channel.reader);
        let received = takes_its_time(|| frame::recv(channel.reader.as_fd(), &within(SHORT)));
        assert_eq!(kind(received), ErrorKind::TimedOut, "{name}");
        assert_eq!(flags(&channel.reader), before, "{name}");
        // Still in step.
        frame::send(channel.writer.as_fd(), None, b"late", &within(AGES)).unwrap();
        assert_eq!(frame::recv(channel.reader.as_fd(), &within(AGES)).unwrap().body, b"late");
    }
}

#[test]
fn a_part_comes() {
    for (name, _, channel) in every_channel() {
        rustix::io::write(&channel.writer, b"\x10\0\0\0{\"data").unwrap();
        let received = takes_its_time(|| frame::recv(channel.reader.as_fd(), &within(SHORT)));
        assert_eq!(kind(received), ErrorKind::Stalled, "{name}");
    }
}

#[test]
fn a_full_channel_takes_nothing() {
    for (name, _, channel) in every_channel() {
        let before = flags(&channel.writer);
        fill(&channel.writer);
        let sent =
            takes_its_time(|| frame::send(channel.writer.as_fd(), None, b"x", &within(SHORT)));
        assert_eq!(kind(sent), ErrorKind::TimedOut, "{name}");
        assert_eq!(flags(&channel.writer), before, "{name}");
        // Nothing of it was sent: what comes next is a whole frame.
        drain(&channel.reader);
        frame::send(channel.writer.as_fd(), None, b"next", &within(AGES)).unwrap();
        let next = frame::recv(channel.reader.as_fd(), &within(AGES));
        assert_eq!(next.unwrap().body, b"next", "{name}");
    }
}

#[test]
fn a_channel_fills_up_in_the_middle_of_a_frame() {
    let body = vec![b'x'; 16 << 20];
    for (name, _, channel) in every_channel() {
        let before = flags(&channel.writer);
        let sent =
            takes_its_time(|| frame::send(channel.writer.as_fd(), None, &body, &within(SHORT)));
        assert_eq!(kind(sent), ErrorKind::Stalled, "{name}");
        assert_eq!(flags(&channel.writer), before, "{name}");
    }
}

#[test]
fn a_slow_reader_is_waited_for() {
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for (name, _, channel) in every_channel() {
        fill(&channel.writer);
        thread::scope(|scope| {
            scope.spawn(|| {
                frame::send(channel.writer.as_fd(), None, &body, &within(AGES)).unwrap();
            });
            // The frame follows the zeros that filled the channel; it does not begin with one.
            let (mut got, mut buf) = (Vec::new(), [0; 4096]);
            let head = b"\x14\0\0\0{\"data_size\":300000}";
            while got.len() < head.len() + body.len() {
                poll(&mut [PollFd::new(&channel.reader, PollFlags::IN)], None).unwrap();
                let count = rustix::io::read(&channel.reader, &mut buf).unwrap();
                let zeros = match got.len() {
                    0 => buf[..count].iter().take_while(|byte| **byte == 0).count(),
                    _ => 0,
                };
                got.extend_from_slice(&buf[zeros..count]);
            }
            assert!(got == [&head[..], &body].concat(), "{name}");
        });
    }
}

#[test]
fn two_peers_that_only_send_do_not_wait_for_ever() {
    let (a, b) = socket_pair();
    let body = vec![0; 10 << 20];
    thread::scope(|scope| {
        for end in [&a, &b] {
            scope.spawn(|| {
                let sent = frame::send(end.as_fd(), None, &body, &within(SHORT));
                assert_eq!(kind(sent), ErrorKind::Stalled);
            });
        }
    });
}

/// Sends `bytes`, one every 5 ms, until the other end is gone.
fn trickle(mut peer: UnixStream, bytes: Vec<u8>) {
    for byte in bytes {
        if peer.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_trickle_does_not_move_the_deadline() {
    let header = format!("{{\"pad\":\"{}\"}}", "x".repeat(5000));
    let in_header = encoded(&header, b"");
    let in_body = encoded(r#"{"data_size":5000}"#, &[b'x'; 5000]);
    for bytes in [in_header, in_body] {
        let (peer, fd) = socket_pair();
        let feeding = thread::spawn(|| trickle(peer, bytes));
        let received = takes_its_time(|| frame::recv(fd.as_fd(), &within(SHORT)));
        assert_eq!(kind(received), ErrorKind::Stalled);
        drop(fd);
        feeding.join().unwrap();
    }
}

#[test]
fn waiting_costs_no_processor_time() {
    for blocking in [true, false] {
        let (peer, fd) = socket_pair();
        set_blocking(&fd, blocking);
        // Forty bytes in 200 ms, then nothing for 200 more.
        let feeding =
            thread::spawn(|| trickle(peer, [b"\0\x10\0\0".as_slice(), &[b' '; 36]].concat()));
        let before = thread_cpu_time();
        let received = frame::recv(fd.as_fd(), &within(Duration::from_millis(400)));
        let used = thread_cpu_time().saturating_sub(before);
        assert!(received.is_err());
        assert!(used < Duration::from_millis(100), "{used:?} of 400 ms");
        drop(fd);
        feeding.join().unwrap();
    }
}

#[test]
fn zero_looks_once() {
    let now = within(Duration::ZERO);
    for (name, _, channel) in every_channel() {
        assert_eq!(kind(frame::recv(channel.reader.as_fd(), &now)), ErrorKind::TimedOut, "{name}");
        frame::send(channel.writer.as_fd(), None, b"there", &now).unwrap();
        wait_until_there(&channel.reader, 4 + 15 + 5);
        assert_eq!(frame::recv(channel.reader.as_fd(), &now).unwrap().body, b"there", "{name}");
        fill(&channel.writer);
        let sent = frame::send(channel.writer.as_fd(), None, b"", &now);
        assert_eq!(kind(sent), ErrorKind::TimedOut, "{name}");
    }
}

/// A terminal hands bytes on from a worker of the kernel's.
fn wait_until_there(reader: impl AsFd, count: u64) {
    while unread(&reader) < count {
        thread::yield_now();
    }
}

#[test]
fn the_longest_timeout_is_for_ever() {
    for timeout in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(1 << 62)] {
        let (mut peer, fd) = socket_pair();
        let feeding = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            peer.write_all(b"\x02\0\0\0{}").map(|()| peer)
        });
        frame::recv(fd.as_fd(), &within(timeout)).unwrap();
        frame::send(fd.as_fd(), None, b"", &within(timeout)).unwrap();
        drop(feeding.join().unwrap());
    }
}

#[test]
fn frames_and_pauses_may_alternate() {
    let (peer, fd) = socket_pair();
    for _ in 0..3 {
        frame::send(peer.as_fd(), None, b"x", &within(AGES)).unwrap();
        assert_eq!(frame::recv(fd.as_fd(), &within(SHORT)).unwrap().body, b"x");
        let idle = takes_its_time(|| frame::recv(fd.as_fd(), &within(SHORT)));
        assert_eq!(kind(idle), ErrorKind::TimedOut);
    }
}

#[test]
fn a_deadline_covers_a_regular_file_and_the_null_device_too() {
    use std::io::{Seek as _, SeekFrom};
    let mut file = tempfile::tempfile().unwrap();
    frame::send(file.as_fd(), None, b"kept", &within(SHORT)).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    assert_eq!(frame::recv(file.as_fd(), &within(SHORT)).unwrap().body, b"kept");
    assert_eq!(kind(frame::recv(file.as_fd(), &within(SHORT))), ErrorKind::Closed);
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    frame::send(null.as_fd(), None, &vec![0; 1 << 20], &within(AGES)).unwrap();
    assert_eq!(kind(frame::recv(null.as_fd(), &within(SHORT))), ErrorKind::Closed);
}
