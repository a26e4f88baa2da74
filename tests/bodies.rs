//! Bodies in pieces: of any size in constant memory, and with a count of what is left
//! that stays right whatever fails.

mod common;

use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::channel::{Channel, Kind, fill, socket_pair, unread};
use common::process::{address_space, alone, peak_memory};
use common::{encoded, kind};
use framefd::ErrorKind;
use framefd::io::wait::Interrupt;
use framefd::ops::frame::{self, IfLarge, Options, Received};
use rustix::process::{Resource, Rlimit};

const MIB: u64 = 1 << 20;
const NOW: Option<Duration> = Some(Duration::ZERO);
const SOON: Option<Duration> = Some(Duration::from_secs(10));

fn options() -> Options {
    Options { timeout: SOON, ..Options::default() }
}

/// The next frame arrives whole: the stream is in step.
#[track_caller]
fn assert_in_step(writer: BorrowedFd<'_>, reader: BorrowedFd<'_>) {
    frame::send(writer, None, b"next", &options()).unwrap();
    assert_eq!(frame::recv(reader, &options()).unwrap().body, b"next");
}

#[test]
fn three_gib_pass_in_constant_memory() {
    alone("three_gib_pass_in_constant_memory", || {
        let size = 3 << 30; // beyond 2^31, and beyond what one system call takes
        let (sender, receiver) = socket_pair();
        let before = peak_memory();
        thread::scope(|scope| {
            scope.spawn(|| {
                let zeros = std::fs::File::open("/dev/zero").unwrap();
                let mut body = frame::send_header(sender.as_fd(), None, size, &options()).unwrap();
                body.copy_from(zeros.as_fd(), size, None).unwrap();
                assert_eq!(body.left(), 0);
                body.finish().unwrap();
            });
            let (header, mut body) = frame::recv_header(receiver.as_fd(), &options()).unwrap();
            assert_eq!((header.data_size(), body.left()), (Some(size), size));
            let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
            let mut buf = [1; 4096];
            let read = body.read(&mut buf, SOON).unwrap();
            assert!(buf[..read].iter().all(|byte| *byte == 0));
            body.skip(None).unwrap();
            assert_eq!(body.left(), 0);
            assert_eq!(body.read(&mut buf, NOW).unwrap(), 0, "the end, and not the next frame");
            body.copy_to(null.as_fd(), NOW).unwrap();
        });
        let grown = peak_memory() - before;
        assert!(grown < 16 * MIB, "memory grew by {grown} bytes");
        assert_in_step(sender.as_fd(), receiver.as_fd());
    });
}

#[test]
fn more_bytes_than_one_system_call_takes_are_sent_at_once() {
    // Never written to, so all of it is the kernel's one page of zeros.
    let body = vec![0; 0x7fff_f000 + 5];
    let (sender, receiver) = socket_pair();
    thread::scope(|scope| {
        scope.spawn(|| frame::send(sender.as_fd(), None, &body, &Options::default()).unwrap());
        let (_, mut rest) = frame::recv_header(receiver.as_fd(), &options()).unwrap();
        assert_eq!(rest.left(), body.len() as u64);
        rest.skip(None).unwrap();
    });
    assert_in_step(sender.as_fd(), receiver.as_fd());
}

#[test]
fn a_declared_size_costs_nothing_until_its_bytes_come() {
    alone("a_declared_size_costs_nothing_until_its_bytes_come", || {
        let limited = Options { timeout: Some(Duration::from_millis(1)), ..Options::default() };
        let pairs: Vec<_> = (0..100).map(|_| socket_pair()).collect();
        let (mut peer, fd) = socket_pair();
        let (started, wait_for_start) = std::sync::mpsc::channel();
        let feeding = thread::spawn(move || {
            started.send(()).unwrap();
            peer.read_exact(&mut [0]).unwrap();
            let zeros = vec![0; 65536];
            let _ = peer.write_all(&encoded(r#"{"data_size":67108864}"#, b""));
            while peer.write_all(&zeros).is_ok() {}
        });
        wait_for_start.recv().unwrap();
        // From here on there is memory for half a body.
        let most = address_space() + 32 * MIB;
        let limit = Rlimit { current: Some(most), maximum: None };
        rustix::process::setrlimit(Resource::As, limit).unwrap();
        for (mut peer, fd) in pairs {
            peer.write_all(&encoded(r#"{"data_size":67108864}"#, b"ten bytes.")).unwrap();
            assert_eq!(kind(frame::recv(fd.as_fd(), &limited)), ErrorKind::Stalled);
            peer.write_all(b"\xff\xff\xff\x7f").unwrap();
            assert_eq!(kind(frame::recv_packet(fd.as_fd(), &limited)), ErrorKind::TooBig);
        }
        // And when they do come, the lack of memory is an error like any other.
        (&fd).write_all(b"x").unwrap();
        assert_eq!(kind(frame::recv(fd.as_fd(), &options())), ErrorKind::NoMemory);
        drop(fd);
        feeding.join().unwrap();
    });
}

#[test]
fn a_timeout_between_two_reads_loses_nothing() {
    let (mut peer, fd) = socket_pair();
    peer.write_all(&encoded(r#"{"data_size":9}"#, b"abc")).unwrap();
    let (_, mut body) = frame::recv_header(fd.as_fd(), &options()).unwrap();
    let mut buf = [0; 2];
    assert_eq!(body.read(&mut buf, SOON).unwrap(), 2);
    assert_eq!((&buf, body.left()), (b"ab", 7));
    assert_eq!(body.read(&mut buf, SOON).unwrap(), 1);
    for _ in 0..2 {
        assert_eq!(kind(body.read(&mut buf, NOW)), ErrorKind::TimedOut);
        assert_eq!(kind(body.skip(NOW)), ErrorKind::TimedOut);
        assert_eq!(body.left(), 6);
    }
    peer.write_all(b"def").unwrap();
    assert_eq!(kind(body.skip(NOW)), ErrorKind::TimedOut);
    assert_eq!(body.left(), 3, "what was there is gone");
    peer.write_all(b"ghi").unwrap();
    assert_eq!(body.read_all(3, SOON).unwrap(), b"ghi");
    assert_in_step(peer.as_fd(), fd.as_fd());
}

#[test]
fn a_body_above_the_limit_can_still_be_read_in_pieces_or_dropped() {
    let (peer, fd) = socket_pair();
    for skip in [true, false] {
        frame::send(peer.as_fd(), None, b"0123456789", &options()).unwrap();
        let (_, mut body) = frame::recv_header(fd.as_fd(), &options()).unwrap();
        assert_eq!(kind(body.read_all(9, SOON)), ErrorKind::TooBig);
        assert_eq!(body.left(), 10);
        if skip {
            body.skip(SOON).unwrap();
        } else {
            assert_eq!(body.read_all(10, SOON).unwrap(), b"0123456789");
        }
        assert_in_step(peer.as_fd(), fd.as_fd());
    }
}

#[test]
fn a_body_that_is_cut_says_so_however_it_is_read() {
    let reads: [fn(&mut frame::BodyReader<'_>) -> framefd::Result<()>; 4] = [
        |body| body.read(&mut [0; 9], SOON).map(|_| ()),
        |body| body.read_all(100, SOON).map(|_| ()),
        |body| body.skip(SOON),
        |body| {
            let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
            body.copy_to(null.as_fd(), SOON)
        },
    ];
    for read in reads {
        let (mut peer, fd) = socket_pair();
        peer.write_all(&encoded(r#"{"data_size":9}"#, b"abc")).unwrap();
        drop(peer);
        let (_, mut body) = frame::recv_header(fd.as_fd(), &options()).unwrap();
        assert_eq!(body.read(&mut [0; 3], SOON).unwrap(), 3);
        assert_eq!(kind(read(&mut body)), ErrorKind::Truncated);
        assert_eq!(body.left(), 6);
    }
}

#[test]
fn a_destination_that_fails_leaves_the_stream_to_be_brought_back_in_step() {
    let content = vec![b'x'; 3_000_000];
    let broken = Kind::Pipe.open().writer; // its reader is closed
    let full = Kind::Pipe.open();
    fill(&full.writer);
    let short = Some(Duration::from_millis(50));
    let device = std::fs::File::options().write(true).open("/dev/full").unwrap();
    for (to, expected) in [
        (broken.as_fd(), ErrorKind::Io),
        (full.writer.as_fd(), ErrorKind::Stalled),
        (device.as_fd(), ErrorKind::NoSpace),
    ] {
        let (peer, fd) = socket_pair();
        thread::scope(|scope| {
            scope.spawn(|| frame::send(peer.as_fd(), None, &content, &options()).unwrap());
            let (_, mut body) = frame::recv_header(fd.as_fd(), &options()).unwrap();
            assert_eq!(kind(body.copy_to(to, short)), expected);
            assert!((1..3_000_000).contains(&body.left()), "{} are left", body.left());
            body.skip(SOON).unwrap();
        });
        assert_in_step(peer.as_fd(), fd.as_fd());
    }
}

#[test]
fn a_body_is_copied_byte_for_byte_between_all_kinds_of_descriptors() {
    let content: Vec<u8> = (0..=250).cycle().take(2_500_000).collect();
    let mut source = tempfile::tempfile().unwrap();
    source.write_all(&content).unwrap();
    for kind in Kind::ALL {
        std::io::Seek::rewind(&mut source).unwrap();
        let Channel { writer, reader } = kind.open();
        let mut target = tempfile::tempfile().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let size = content.len() as u64;
                let mut body = frame::send_header(writer.as_fd(), None, size, &options()).unwrap();
                body.write(b"\0", SOON).unwrap();
                body.write(b"", SOON).unwrap();
                let mut first = [9];
                (&source).read_exact(&mut first).unwrap();
                assert_eq!(first, [0]);
                body.copy_from(source.as_fd(), size - 1, SOON).unwrap();
                body.finish().unwrap();
            });
            let (_, mut body) = frame::recv_header(reader.as_fd(), &options()).unwrap();
            body.copy_to(target.as_fd(), SOON).unwrap();
        });
        let mut copied = Vec::new();
        std::io::Seek::rewind(&mut target).unwrap();
        target.read_to_end(&mut copied).unwrap();
        assert!(copied == content, "{kind:?}");
    }
}

#[test]
fn a_piece_that_does_not_fit_the_body_is_not_sent() {
    let (sender, receiver) = socket_pair();
    let mut body = frame::send_header(sender.as_fd(), None, 5, &options()).unwrap();
    let head = unread(&receiver);
    assert_eq!(kind(body.write(b"123456", SOON)), ErrorKind::Argument);
    assert_eq!(kind(body.copy_from(receiver.as_fd(), 6, SOON)), ErrorKind::Argument);
    assert_eq!((unread(&receiver), body.left()), (head, 5));
    assert_eq!(kind(body.finish()), ErrorKind::State);
    body.write(b"123", SOON).unwrap();
    assert_eq!(kind(body.write(b"456", SOON)), ErrorKind::Argument);
    body.write(b"45", SOON).unwrap();
    body.finish().unwrap();
    assert_eq!(frame::recv(receiver.as_fd(), &options()).unwrap().body, b"12345");
}

#[test]
fn a_source_that_ends_early_leaves_a_body_that_can_go_on() {
    let (sender, receiver) = socket_pair();
    let mut body = frame::send_header(sender.as_fd(), None, 5, &options()).unwrap();
    let Channel { writer, reader } = Kind::Pipe.open();
    rustix::io::write(&writer, b"12").unwrap();
    drop(writer);
    assert_eq!(kind(body.copy_from(reader.as_fd(), 5, SOON)), ErrorKind::Truncated);
    assert_eq!(body.left(), 3);
    body.write(b"345", SOON).unwrap();
    body.finish().unwrap();
    assert_eq!(frame::recv(receiver.as_fd(), &options()).unwrap().body, b"12345");
}

#[test]
fn a_sender_that_cannot_send_can_try_again_unless_a_part_went_out() {
    let (sender, receiver) = socket_pair();
    let mut body = frame::send_header(sender.as_fd(), None, 10 * MIB, &options()).unwrap();
    let head = usize::try_from(unread(&receiver)).unwrap();
    (&receiver).read_exact(&mut vec![0; head]).unwrap();
    fill(&sender);
    let filled = unread(&receiver);
    assert_eq!(kind(body.write(b"piece", NOW)), ErrorKind::TimedOut);
    assert_eq!(body.left(), 10 * MIB);
    common::channel::drain(&receiver);
    body.write(b"piece", NOW).unwrap();
    assert_eq!(unread(&receiver), 5);
    assert_eq!(body.left(), 10 * MIB - 5);

    assert_eq!(kind(body.write(&vec![0; 9 << 20], NOW)), ErrorKind::Stalled);
    assert!(unread(&receiver) < filled + 65536);
    common::channel::drain(&receiver);
    // Nobody knows how much went out, so nothing more does.
    assert_eq!(kind(body.write(b"x", SOON)), ErrorKind::State);
    assert_eq!(kind(body.copy_from(receiver.as_fd(), 1, SOON)), ErrorKind::State);
    assert_eq!(kind(body.finish()), ErrorKind::State);
    assert_eq!(unread(&receiver), 0);
}

#[test]
fn a_chunk_that_was_taken_from_a_source_is_not_lost_unnoticed() {
    let (sender, receiver) = socket_pair();
    let mut body = frame::send_header(sender.as_fd(), None, 10, &options()).unwrap();
    let Channel { writer, reader } = Kind::Pipe.open();
    // Nothing was taken: the same call again is right.
    assert_eq!(kind(body.copy_from(reader.as_fd(), 10, NOW)), ErrorKind::TimedOut);
    rustix::io::write(&writer, b"12345").unwrap();
    assert_eq!(kind(body.copy_from(reader.as_fd(), 10, NOW)), ErrorKind::TimedOut);
    assert_eq!(body.left(), 5, "what it gave was sent");
    // Something was taken, and could not be sent: nobody has it any more.
    fill(&sender);
    rustix::io::write(&writer, b"67890").unwrap();
    assert_eq!(kind(body.copy_from(reader.as_fd(), 5, NOW)), ErrorKind::Stalled);
    common::channel::drain(&receiver);
    assert_eq!(kind(body.write(b"67890", SOON)), ErrorKind::State);
}

#[test]
fn a_file_that_may_not_grow_ends_nobody() {
    alone("a_file_that_may_not_grow_ends_nobody", || {
        // Its default action would end this process.
        let limit = Rlimit { current: Some(4), maximum: Some(4) };
        rustix::process::setrlimit(Resource::Fsize, limit).unwrap();
        let (sender, receiver) = socket_pair();
        for timeout in [None, SOON] {
            frame::send(sender.as_fd(), None, b"too much", &options()).unwrap();
            let (_, mut body) = frame::recv_header(receiver.as_fd(), &options()).unwrap();
            let file = tempfile::tempfile().unwrap();
            let error = body.copy_to(file.as_fd(), timeout).unwrap_err();
            assert_eq!(error.errno(), rustix::io::Errno::FBIG.raw_os_error());
            assert_eq!(file.metadata().unwrap().len(), 4);
        }
        assert_in_step(sender.as_fd(), receiver.as_fd());
    });
}

#[test]
fn a_message_larger_than_the_buffer_has_memory_of_its_own() {
    let (peer, fd) = socket_pair();
    let data: Vec<u8> = (0..100).collect();
    for size in [0, 1, 99, 100, 101] {
        let mut buf = vec![0; size];
        frame::send_packet(peer.as_fd(), &data, &options()).unwrap();
        let packet = frame::recv_packet_into(fd.as_fd(), &mut buf, IfLarge::Own, &options());
        match packet.unwrap() {
            Received::InBuffer(header, body) => assert_eq!((header, &buf[body]), (0..0, &data[..])),
            Received::Own(message) => {
                assert!(message.header.is_none() && message.body == data && size < 100);
            }
        }
        frame::send(peer.as_fd(), None, &data, &options()).unwrap();
        let frame = frame::recv_into(fd.as_fd(), &mut buf, IfLarge::Own, &options()).unwrap();
        let Received::Own(message) = frame else { panic!("{frame:?}") };
        assert_eq!(message.header.unwrap().text(), r#"{"data_size":100}"#);
        assert_eq!(message.body, data);
    }
    frame::send_packet(peer.as_fd(), &[], &options()).unwrap();
    let empty = frame::recv_packet_into(fd.as_fd(), &mut [], IfLarge::Refuse, &options()).unwrap();
    assert!(matches!(empty, Received::InBuffer(header, body) if header == body && body == (0..0)));

    let small = Options { max_body: 99, ..options() };
    for (if_large, options) in [(IfLarge::Refuse, options()), (IfLarge::Own, small)] {
        let (peer, fd) = socket_pair();
        frame::send_packet(peer.as_fd(), &data, &options).unwrap();
        let refused = frame::recv_packet_into(fd.as_fd(), &mut [0; 9], if_large, &options);
        assert_eq!(kind(refused), ErrorKind::TooBig);
    }
}

#[test]
fn an_interrupted_call_is_in_sync_only_between_messages() {
    let interrupt = Arc::new(Interrupt::by_hook(Box::new(|| ControlFlow::Break(()))));
    let options = Options { interrupt: Some(interrupt), ..options() };
    let (mut peer, fd) = socket_pair();
    assert_eq!(kind(frame::recv(fd.as_fd(), &options)), ErrorKind::Canceled);
    frame::send(peer.as_fd(), None, b"whole", &options).unwrap();
    assert_eq!(frame::recv(fd.as_fd(), &options).unwrap().body, b"whole");
    peer.write_all(&encoded(r#"{"data_size":9}"#, b"abc")).unwrap();
    assert_eq!(kind(frame::recv(fd.as_fd(), &options)), ErrorKind::Stalled);

    assert_eq!(
        kind(frame::send(fd.as_fd(), None, &vec![0; 9 << 20], &options)),
        ErrorKind::Stalled
    );
    fill(&fd);
    assert_eq!(kind(frame::send(fd.as_fd(), None, b"", &options)), ErrorKind::Canceled);
}
