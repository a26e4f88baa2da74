//! What a connection costs, and on what it works: memory that follows what came, reads that
//! grow with it, every kind of descriptor. tests/connection and tests/c/buffered.c have the rest.

mod common;

use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::channel::{drain, every_channel, fill, flags, socket_pair, unread};
use common::exec::connect;
use common::process::{address_space, alone, memory, peak_memory};
use common::{encoded, kind};
use framefd::ErrorKind;
use framefd::ops::frame::{Connection, ConnectionOptions, Ends, Options};
use framefd::wire::frame::decoder::Decoder;
use framefd::wire::frame::packet::PrefixFormat;
use framefd::wire::frame::queue::Format;
use rustix::process::{Resource, Rlimit, setrlimit};

const MIB: u64 = 1024 * 1024;

const LONG: Option<Duration> = Some(Duration::from_secs(10));
const SHORT: Option<Duration> = Some(Duration::from_millis(20));

fn reader(fd: &impl AsFd, options: ConnectionOptions) -> Connection<'_> {
    Connection::new(Ends::Borrowed(Some(fd.as_fd()), None), options).unwrap()
}

fn writer(fd: &impl AsFd, options: ConnectionOptions) -> Connection<'_> {
    Connection::new(Ends::Borrowed(None, Some(fd.as_fd())), options).unwrap()
}

fn connection(fd: &UnixStream) -> Connection<'_> {
    connect(fd.as_fd())
}

#[test]
fn every_kind_of_descriptor_carries_frames_and_packets_and_keeps_its_flags() {
    let bodies: Vec<Vec<u8>> = [0usize, 1, 4095, 4096, 70_000, 300_000]
        .map(|size| (0..=255).cycle().take(size).collect())
        .to_vec();
    let formats = [Format::Frames, Format::Packets(PrefixFormat::default())];
    let timeouts = [None, LONG];
    for (timeout, format) in
        timeouts.map(|timeout| formats.map(|format| (timeout, format))).concat()
    {
        let options = || ConnectionOptions { format, ..ConnectionOptions::default() };
        let header = (format == Format::Frames).then_some(r#"{"n":1}"#);
        for (name, _, channel) in every_channel() {
            let before = (flags(&channel.writer), flags(&channel.reader));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut writer = writer(&channel.writer, options());
                    for body in &bodies {
                        writer.queue(header, body, timeout).unwrap();
                    }
                    writer.flush(timeout).unwrap();
                });
                let mut reader = reader(&channel.reader, options());
                for body in &bodies {
                    let message = reader.next(timeout).unwrap();
                    assert_eq!(message.header().ends_with(r#","n":1}"#), header.is_some());
                    assert!(message.body() == *body, "{name}: {} bytes", body.len());
                }
            });
            assert_eq!((flags(&channel.writer), flags(&channel.reader)), before, "{name}");
            let mut reader = reader(&channel.reader, options());
            drop(channel.writer);
            assert_eq!(kind(reader.next(timeout)), ErrorKind::Closed, "{name}");
        }
    }
}

#[test]
fn a_full_descriptor_of_every_kind_is_a_timeout() {
    for (name, _, channel) in every_channel() {
        fill(&channel.writer);
        let mut writer = writer(&channel.writer, ConnectionOptions::default());
        // A network or a terminal may find room for some more.
        let error = (0..1000).find_map(|_| {
            writer.queue(None, b"hello", SHORT).unwrap();
            writer.flush(SHORT).err()
        });
        let error = error.unwrap_or_else(|| panic!("{name}: every flush succeeded"));
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{name}");
        assert!(writer.state().queued > 0, "{name}");
        drain(&channel.reader);
        writer.flush(LONG).unwrap();
        assert_eq!(writer.state().queued, 0, "{name}");
    }
}

#[test]
fn a_connection_holds_what_came_and_not_what_was_declared() {
    alone("a_connection_holds_what_came_and_not_what_was_declared", || {
        let wide = Format::Packets(PrefixFormat::new(8, false, false).unwrap());
        let pairs: Vec<_> = (0..100).map(|_| socket_pair()).collect();
        let before = address_space();
        let mut connections: Vec<Connection<'_>> = Vec::new();
        for (n, (peer, fd)) in pairs.iter().enumerate() {
            let mut peer: &UnixStream = peer;
            let format = if n % 2 == 0 { wide } else { Format::Frames };
            let start = match format {
                Format::Packets(_) => [&(1u64 << 32).to_le_bytes()[..], &[b'x'; 10]].concat(),
                Format::Frames => encoded(r#"{"data_size":4294967296}"#, &[b'x'; 10]),
            };
            peer.write_all(&start).unwrap();
            let options = ConnectionOptions { format, max_body: u64::MAX, ..Default::default() };
            let mut connection = Connection::new(fd.as_fd(), options).unwrap();
            for _ in 0..2 {
                assert_eq!(kind(connection.next(Duration::from_millis(1))), ErrorKind::TimedOut);
            }
            connections.push(connection);
        }
        let each = (address_space() - before) / connections.len() as u64;
        assert!(each < 32 * 1024, "{each} bytes for each connection");
    });
}

#[test]
fn a_buffer_that_was_large_is_given_back() {
    alone("a_buffer_that_was_large_is_given_back", || {
        let (peer, fd) = socket_pair();
        let body = vec![b'x'; 32 << 20];
        let (mut reader, mut writer) = (connection(&fd), connection(&peer));
        let before = memory();
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                // What is not taken by then is queued.
                writer.send(None, &body, Duration::from_millis(1)).unwrap();
                writer.flush(LONG).unwrap();
            });
            assert!(reader.next(LONG).unwrap().body() == body);
            assert!(memory() - before > 30 * MIB, "it is in memory now");
            sending.join().unwrap();
        });
        writer.send(None, b"small", LONG).unwrap();
        assert_eq!(reader.next(LONG).unwrap().body(), b"small");
        let kept = memory().saturating_sub(before);
        assert!(kept < 4 * MIB, "{kept} bytes are kept");
    });
}

#[test]
fn a_decoder_that_is_fed_gives_a_large_buffer_back() {
    alone("a_decoder_that_is_fed_gives_a_large_buffer_back", || {
        let large = encoded(r#"{"data_size":33554432}"#, &vec![b'x'; 32 << 20]);
        let mut decoder = Decoder::new(Options::default().limits());
        let before = memory();
        decoder.feed(&large).unwrap();
        assert_eq!(decoder.next_frame().unwrap().unwrap().body().len(), 32 << 20);
        assert!(memory() - before > 30 * MIB, "it is in memory now");
        decoder.feed(b"\x02\0\0\0{}").unwrap();
        let kept = memory().saturating_sub(before);
        assert!(kept < 4 * MIB, "{kept} bytes are kept");
        assert!(decoder.next_frame().unwrap().is_some());
    });
}

/// The size of the reads, with more to be read each time than is asked for.
#[test]
fn more_is_asked_for_if_more_comes() {
    let (mut peer, fd) = socket_pair();
    peer.set_nonblocking(true).unwrap();
    let frames: Vec<u8> = encoded(r#"{"data_size":40}"#, &[b'x'; 40]).repeat(1000);
    let mut connection = connection(&fd);
    let (mut sent, mut reads) = (0, Vec::new());
    while reads.len() < 20 {
        match peer.write(&frames[sent % frames.len()..]) {
            Ok(count) => sent += count,
            Err(error) => assert_eq!(error.kind(), IoErrorKind::WouldBlock),
        }
        let before = unread(&fd);
        connection.next(LONG).unwrap();
        let read = before - unread(&fd);
        if read > 0 {
            reads.push(read);
        }
    }
    assert!(reads[0] <= 8 * 1024, "{reads:?}");
    assert!(reads[10..].iter().all(|read| (120..=260).contains(&(read / 1024))), "{reads:?}");
}

/// A connection that reads one socket and writes to another, which is full.
fn with_full_writer<'fd>(fd: &'fd UnixStream, full: &'fd UnixStream) -> Connection<'fd> {
    fill(full);
    let ends = Ends::Borrowed(Some(fd.as_fd()), Some(full.as_fd()));
    let mut connection = Connection::new(ends, ConnectionOptions::default()).unwrap();
    connection.queue(None, b"hello", LONG).unwrap();
    connection
}

#[test]
fn what_comes_while_a_send_waits_is_told_by_the_next_receive() {
    let (_full_peer, full) = socket_pair();
    // A reset is told once by the kernel, and hides behind an end after that.
    let (mut peer, fd) = socket_pair();
    rustix::io::write(&fd, b"what is never read").unwrap();
    peer.write_all(&encoded("{}", b"")).unwrap();
    drop(peer);
    let mut connection = with_full_writer(&fd, &full);
    assert_eq!(kind(connection.flush(SHORT)), ErrorKind::TimedOut);
    assert_eq!(connection.next(SHORT).unwrap().header(), "{}");
    assert_eq!(kind(connection.next(SHORT)), ErrorKind::Io);

    // What is no frame is there for who knows what it is.
    let (mut peer, fd) = socket_pair();
    let mut connection = with_full_writer(&fd, &full);
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(kind(connection.flush(SHORT)), ErrorKind::TimedOut);
    assert_eq!(kind(connection.next(SHORT)), ErrorKind::TooBig);
    assert_eq!(connection.unread().unwrap(), b"GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn a_message_that_is_cut_for_want_of_memory_is_the_last() {
    alone("a_message_that_is_cut_for_want_of_memory_is_the_last", || {
        let (_peer, fd) = socket_pair();
        let options = ConnectionOptions { max_queue: u64::MAX, ..Default::default() };
        let mut connection = Connection::new(fd.as_fd(), options).unwrap();
        let body = vec![b'x'; 256 << 20];
        let limit = address_space() + 16 * MIB;
        setrlimit(Resource::As, Rlimit { current: Some(limit), maximum: None }).unwrap();
        assert_eq!(kind(connection.send(None, &body, Duration::ZERO)), ErrorKind::NoMemory);
        assert_eq!(kind(connection.send(None, b"hello", Duration::ZERO)), ErrorKind::Broken);
        assert_eq!(kind(connection.flush(Duration::ZERO)), ErrorKind::Broken);
    });
}

#[test]
fn a_send_that_waits_takes_in_no_more_than_a_bound() {
    const COUNT: u32 = 80;
    alone("a_send_that_waits_takes_in_no_more_than_a_bound", || {
        let (mut peer, fd) = socket_pair();
        let piece = encoded(r#"{"data_size":1000000}"#, &vec![b'x'; 1_000_000]);
        let sent = AtomicU64::new(0);
        let before = memory();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..COUNT {
                    peer.write_all(&piece).unwrap();
                    sent.fetch_add(piece.len() as u64, Relaxed);
                }
            });
            let mut connection = with_full_writer(&fd, &fd);
            let mut wait = || {
                let waited = connection.flush(Duration::from_millis(100));
                assert_eq!(kind(waited), ErrorKind::TimedOut);
            };
            while sent.load(Relaxed) < 60 * MIB {
                wait();
            }
            for _ in 0..5 {
                wait();
            }
            let taken = sent.load(Relaxed);
            assert!(taken < 70 * MIB, "{taken} bytes were taken in");
            let peak = peak_memory() - before;
            assert!(peak < 140 * MIB, "{peak} bytes at most");
            for _ in 0..COUNT {
                assert_eq!(connection.next(LONG).unwrap().body().len(), 1_000_000);
            }
        });
    });
}
