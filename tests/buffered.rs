//! What the reader and the writer cost, and on what they work: memory that follows what came,
//! reads that grow with it, every kind of descriptor. tests/c/buffered.c has the rest.

mod common;

use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::channel::{drain, every_channel, fill, flags, socket_pair, unread};
use common::process::{address_space, alone, memory, peak_memory};
use common::{encoded, kind};
use framefd::ErrorKind;
use framefd::ops::frame::Options;
use framefd::ops::frame::reader::Reader;
use framefd::ops::frame::writer::Writer;
use framefd::wire::frame::decoder::Decoder;
use framefd::wire::frame::packet::PrefixFormat;
use rustix::process::{Resource, Rlimit, setrlimit};

const MIB: u64 = 1024 * 1024;

fn within(timeout: Duration) -> Options {
    Options { timeout: Some(timeout), ..Options::default() }
}

#[test]
fn every_kind_of_descriptor_carries_frames_and_keeps_its_flags() {
    let bodies: Vec<Vec<u8>> = [0usize, 1, 4095, 4096, 70_000, 300_000]
        .map(|size| (0..=255).cycle().take(size).collect())
        .to_vec();
    for timeout in [None, Some(Duration::from_secs(10))] {
        let options = Options { timeout, ..Options::default() };
        for (name, _, channel) in every_channel() {
            let before = (flags(&channel.writer), flags(&channel.reader));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut writer = Writer::new(channel.writer.as_fd(), &options);
                    for body in &bodies {
                        writer.send(Some(r#"{"n":1}"#), body, None, timeout).unwrap();
                        writer.send_packet(body, None, timeout).unwrap();
                    }
                    writer.flush(None, timeout).unwrap();
                });
                let mut reader = Reader::new(channel.reader.as_fd(), &options);
                for body in &bodies {
                    let frame = reader.next_frame().unwrap();
                    assert!(frame.header().ends_with(r#","n":1}"#), "{name}");
                    assert!(frame.body() == *body, "{name}: {} bytes", body.len());
                    assert!(reader.next_packet().unwrap().body() == *body, "{name}");
                }
            });
            assert_eq!((flags(&channel.writer), flags(&channel.reader)), before, "{name}");
            let mut reader = Reader::new(channel.reader.as_fd(), &options);
            drop(channel.writer);
            assert_eq!(kind(reader.next_frame()), ErrorKind::Closed, "{name}");
        }
    }
}

#[test]
fn a_full_descriptor_of_every_kind_is_a_timeout() {
    let (short, long) = (Some(Duration::from_millis(20)), Some(Duration::from_secs(10)));
    for (name, _, channel) in every_channel() {
        fill(&channel.writer);
        let mut writer = Writer::new(channel.writer.as_fd(), &Options::default());
        // A network or a terminal may find room for some more.
        let error = (0..1000).find_map(|_| {
            writer.send(None, b"hello", None, short).unwrap();
            writer.flush(None, short).err()
        });
        let error = error.unwrap_or_else(|| panic!("{name}: every flush succeeded"));
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{name}");
        assert!(writer.left() > 0, "{name}");
        drain(&channel.reader);
        writer.flush(None, long).unwrap();
        assert_eq!(writer.left(), 0, "{name}");
    }
}

#[test]
fn a_reader_holds_what_came_and_not_what_was_declared() {
    alone("a_reader_holds_what_came_and_not_what_was_declared", || {
        let options = Options { max_body: u64::MAX, ..within(Duration::from_millis(1)) };
        let packets = Options { prefix: PrefixFormat::new(8, false, false).unwrap(), ..options };
        let pairs: Vec<_> = (0..100).map(|_| socket_pair()).collect();
        let before = address_space();
        let mut readers: Vec<Reader<'_>> = Vec::new();
        for (n, (peer, fd)) in pairs.iter().enumerate() {
            let mut peer: &UnixStream = peer;
            let is_packet = n % 2 == 0;
            if is_packet {
                peer.write_all(&(1u64 << 32).to_le_bytes()).unwrap();
                peer.write_all(&[b'x'; 10]).unwrap();
            } else {
                let start = encoded(r#"{"data_size":4294967296}"#, &[b'x'; 10]);
                peer.write_all(&start).unwrap();
            }
            let options = if is_packet { &packets } else { &options };
            let mut reader = Reader::new(fd.as_fd(), options);
            for _ in 0..2 {
                let next = if is_packet { reader.next_packet() } else { reader.next_frame() };
                assert_eq!(kind(next), ErrorKind::TimedOut);
            }
            readers.push(reader);
        }
        let each = (address_space() - before) / readers.len() as u64;
        assert!(each < 32 * 1024, "{each} bytes for each reader");
    });
}

#[test]
fn a_buffer_that_was_large_is_given_back() {
    alone("a_buffer_that_was_large_is_given_back", || {
        let options = within(Duration::from_secs(10));
        let (peer, fd) = socket_pair();
        let body = vec![b'x'; 32 << 20];
        let mut reader = Reader::new(fd.as_fd(), &options);
        let mut writer = Writer::new(peer.as_fd(), &options);
        let before = memory();
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                // What is not taken by then is queued.
                writer.send(None, &body, None, Some(Duration::from_millis(1))).unwrap();
                writer.flush(None, options.timeout).unwrap();
            });
            assert!(reader.next_frame().unwrap().body() == body);
            assert!(memory() - before > 30 * MIB, "it is in memory now");
            sending.join().unwrap();
        });
        writer.send(None, b"small", None, options.timeout).unwrap();
        writer.flush(None, options.timeout).unwrap();
        assert_eq!(reader.next_frame().unwrap().body(), b"small");
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
fn more_is_asked_for_where_more_comes() {
    let options = within(Duration::from_secs(10));
    let (mut peer, fd) = socket_pair();
    peer.set_nonblocking(true).unwrap();
    let frames: Vec<u8> = encoded(r#"{"data_size":40}"#, &[b'x'; 40]).repeat(1000);
    let mut reader = Reader::new(fd.as_fd(), &options);
    let (mut sent, mut reads) = (0, Vec::new());
    while reads.len() < 20 {
        match peer.write(&frames[sent % frames.len()..]) {
            Ok(count) => sent += count,
            Err(error) => assert_eq!(error.kind(), IoErrorKind::WouldBlock),
        }
        let before = unread(&fd);
        reader.next_frame().unwrap();
        let read = before - unread(&fd);
        if read > 0 {
            reads.push(read);
        }
    }
    assert!(reads[0] <= 8 * 1024, "{reads:?}");
    assert!(reads[10..].iter().all(|read| (120..=260).contains(&(read / 1024))), "{reads:?}");
}

#[test]
fn what_comes_while_a_writer_waits_is_told_by_the_reader() {
    let options = within(Duration::from_millis(20));
    let (_full_peer, full) = socket_pair();
    fill(&full);
    let mut writer = Writer::new(full.as_fd(), &options);
    writer.send(None, b"hello", None, None).unwrap();

    // A reset is told once by the kernel, and hides behind an end after that.
    let (mut peer, fd) = socket_pair();
    rustix::io::write(&fd, b"what is never read").unwrap();
    peer.write_all(&encoded("{}", b"")).unwrap();
    drop(peer);
    let mut reader = Reader::new(fd.as_fd(), &options);
    assert_eq!(kind(writer.flush(Some(&mut reader), options.timeout)), ErrorKind::TimedOut);
    assert_eq!(reader.next_frame().unwrap().header(), "{}");
    assert_eq!(kind(reader.next_frame()), ErrorKind::Io);
    assert_eq!(kind(reader.next_frame()), ErrorKind::Closed);

    // What is no frame is there for who knows what it is.
    let (mut peer, fd) = socket_pair();
    let mut reader = Reader::new(fd.as_fd(), &options);
    peer.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(kind(reader.next_frame()), ErrorKind::TooBig);
    peer.write_all(b"\r\n").unwrap();
    assert_eq!(kind(writer.flush(Some(&mut reader), options.timeout)), ErrorKind::TimedOut);
    assert_eq!(reader.rest().unwrap(), b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(kind(reader.next_frame()), ErrorKind::TooBig);
}

#[test]
fn a_message_that_is_cut_for_want_of_memory_is_the_last() {
    alone("a_message_that_is_cut_for_want_of_memory_is_the_last", || {
        let (_peer, fd) = socket_pair();
        let mut writer = Writer::new(fd.as_fd(), &Options::default());
        let body = vec![b'x'; 256 << 20];
        let limit = address_space() + 16 * MIB;
        setrlimit(Resource::As, Rlimit { current: Some(limit), maximum: None }).unwrap();
        let at_once = Some(Duration::ZERO);
        assert_eq!(kind(writer.send(None, &body, None, at_once)), ErrorKind::NoMemory);
        assert_eq!(kind(writer.send(None, b"hello", None, at_once)), ErrorKind::NoMemory);
        assert_eq!(kind(writer.flush(None, at_once)), ErrorKind::NoMemory);
    });
}

#[test]
fn a_writer_that_waits_has_no_more_taken_in_than_a_bound() {
    const COUNT: u32 = 80;
    alone("a_writer_that_waits_has_no_more_taken_in_than_a_bound", || {
        let options = within(Duration::from_secs(10));
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
            let mut reader = Reader::new(fd.as_fd(), &options);
            let mut writer = Writer::new(fd.as_fd(), &options);
            fill(&fd);
            writer.send(None, b"hello", None, None).unwrap();
            let mut wait = || {
                let waited = writer.flush(Some(&mut reader), Some(Duration::from_millis(100)));
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
                assert_eq!(reader.next_frame().unwrap().body().len(), 1_000_000);
            }
        });
    });
}
