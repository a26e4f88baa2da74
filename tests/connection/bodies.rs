//! Bodies in pieces, received and sent, and what is left of them.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;

use framefd::ErrorKind;
use framefd::ops::frame::{Connection, Ends};
use rustix::process::{Resource, Rlimit};

use crate::common::channel::{Channel, Kind, every_channel};
use crate::common::process::{alone, peak_memory};
use crate::{
    LONG, NO_TIME, connect, connection, encoded, exact, fill, kind, numbered, pair, unread,
};

#[test]
fn a_body_is_read_in_pieces_of_any_size() {
    for make in [connection, exact] {
        for step in [1, 7, 8192, 100_000] {
            let (ours, theirs) = pair();
            let writing = std::thread::spawn(move || {
                (&theirs)
                    .write_all(&[numbered(1, 50_000), numbered(2, 3)].concat())
                    .map(|()| theirs)
            });
            let mut receiver = make(&ours);
            let (view, len) = receiver.recv_header(LONG).unwrap();
            assert_eq!((view.body().len(), len), (0, 50_000));
            let (mut piece, mut total) = (vec![0; step], 0);
            loop {
                match receiver.read(&mut piece, LONG).unwrap() {
                    0 => break,
                    got => {
                        assert!(piece[..got].iter().all(|byte| *byte == b'b'));
                        total += got;
                    }
                }
                assert_eq!(receiver.to_receive(), (50_000 - total) as u64);
            }
            assert_eq!(total, 50_000);
            assert_eq!(receiver.recv(LONG).unwrap().body, b"ccc");
            writing.join().unwrap().unwrap();
        }
    }
}

#[test]
fn what_is_left_of_a_body_is_dropped_with_the_next_message() {
    for make in [connection, exact] {
        let (ours, theirs) = pair();
        let writing = std::thread::spawn(move || {
            (&theirs).write_all(&[numbered(1, 1 << 20), numbered(2, 3)].concat()).map(|()| theirs)
        });
        let mut receiver = make(&ours);
        receiver.recv_header(LONG).unwrap();
        assert!(receiver.read(&mut [0; 100], LONG).unwrap() > 0);
        assert_eq!(receiver.next(LONG).unwrap().body(), b"ccc");
        writing.join().unwrap().unwrap();
    }
}

#[test]
fn a_body_is_copied_to_a_descriptor_and_a_full_one_leaves_the_rest() {
    let (ours, theirs) = pair();
    let writing = std::thread::spawn(move || {
        (&theirs).write_all(&[numbered(1, 1 << 20), numbered(2, 3)].concat()).map(|()| theirs)
    });
    let mut receiver = connection(&ours);
    receiver.recv_header(LONG).unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = receiver.read_to(full.as_fd(), LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!((receiver.to_receive(), receiver.state().broken.is_none()), (1 << 20, true));
    let mut file = tempfile::tempfile().unwrap();
    assert_eq!(receiver.read_to(file.as_fd(), LONG).unwrap(), 1 << 20);
    let mut stored = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut stored).unwrap();
    assert!(stored == vec![b'b'; 1 << 20]);
    assert_eq!(receiver.recv(LONG).unwrap().body, b"ccc");
    writing.join().unwrap().unwrap();
}

#[test]
fn a_header_and_the_first_piece_of_its_body_travel_together() {
    let (ours, mut theirs) = pair();
    let mut sender = connection(&ours);
    sender.begin(Some(r#"{"a":1}"#), 6).unwrap();
    assert_eq!((unread(&theirs), sender.state().to_send), (0, 6));
    assert_eq!(sender.write(b"abc", LONG).unwrap(), 3);
    assert_eq!(unread(&theirs), encoded(r#"{"data_size":6,"a":1}"#, b"abc").len() as u64);
    for kind in [
        sender.send(None, b"", LONG).unwrap_err().kind(),
        sender.queue(None, b"", LONG).unwrap_err().kind(),
        sender.begin(None, 1).unwrap_err().kind(),
        sender.end(false, LONG).unwrap_err().kind(),
        sender.call("{}", b"", LONG).unwrap_err().kind(),
    ] {
        assert_eq!(kind, ErrorKind::State);
    }
    assert_eq!(sender.write(b"defg", LONG).unwrap_err().kind(), ErrorKind::Argument);
    assert_eq!(sender.write(b"def", LONG).unwrap(), 3);
    sender.send(None, b"", LONG).unwrap();
    drop(sender);
    drop(ours);
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).unwrap();
    let frames =
        [encoded(r#"{"data_size":6,"a":1}"#, b"abcdef"), encoded(r#"{"data_size":0}"#, b"")];
    assert_eq!(all, frames.concat());
}

#[test]
fn a_body_comes_from_a_descriptor_and_a_short_one_says_how_much() {
    let (ours, theirs) = pair();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![b'x'; 3000]).unwrap();
    file.rewind().unwrap();
    let mut sender = connection(&ours);
    sender.begin(None, 4000).unwrap();
    assert_eq!(sender.write_from(file.as_fd(), 4000, LONG).unwrap(), 3000);
    assert_eq!(sender.state().to_send, 1000);
    sender.write(&[b'y'; 1000], LONG).unwrap();
    let mut receiver = connection(&theirs);
    let body = receiver.recv(LONG).unwrap().body;
    assert_eq!(body, [vec![b'x'; 3000], vec![b'y'; 1000]].concat());
}

#[test]
fn a_piece_that_was_read_from_a_descriptor_is_not_lost_to_a_timeout() {
    let (ours, theirs) = pair();
    let len = 4 << 20;
    let mut file = tempfile::tempfile().unwrap();
    let content: Vec<u8> =
        (0..len).map(|at: usize| u8::try_from(at / 1000 % 251).unwrap()).collect();
    file.write_all(&content).unwrap();
    file.rewind().unwrap();
    let mut sender = connection(&ours);
    sender.begin(None, len as u64).unwrap();
    let reading = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        connection(&theirs).recv(LONG).unwrap().body
    });
    let mut given = 0;
    while given < len as u64 {
        match sender.write_from(file.as_fd(), len as u64 - given, NO_TIME) {
            Ok(more) => given += more,
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
        }
        sender.flush(std::time::Duration::from_millis(5)).ok();
    }
    sender.flush(LONG).unwrap();
    assert!(reading.join().unwrap() == content);
}

#[test]
fn what_is_queued_is_written_before_a_wait_for_a_descriptor() {
    let (ours, theirs) = pair();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let asking = std::thread::spawn(move || {
        let mut peer = connection(&theirs);
        // It gives the body only once it has got what came before.
        assert_eq!(peer.recv(LONG).unwrap().body, b"before");
        File::from(writer).write_all(b"body").unwrap();
        peer.recv(LONG).unwrap().body
    });
    let mut sender = connection(&ours);
    sender.queue(None, b"before", LONG).unwrap();
    sender.begin(None, 4).unwrap();
    assert_eq!(sender.write_from(reader.as_fd(), 4, LONG).unwrap(), 4);
    sender.flush(LONG).unwrap();
    assert_eq!(asking.join().unwrap(), b"body");
}

#[test]
fn three_gib_pass_in_constant_memory() {
    alone("bodies::three_gib_pass_in_constant_memory", || {
        let size = 3 << 30; // beyond 2^31, and beyond what one system call takes
        let (ours, theirs) = pair();
        let before = peak_memory();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut sender = connection(&theirs);
                let zeros = File::open("/dev/zero").unwrap();
                sender.begin(None, size).unwrap();
                assert_eq!(sender.write_from(zeros.as_fd(), size, None).unwrap(), size);
                sender.send(None, b"next", None).unwrap();
            });
            let mut receiver = connection(&ours);
            assert_eq!(receiver.recv_header(LONG).unwrap().1, size);
            let mut piece = [1; 4096];
            let got = receiver.read(&mut piece, LONG).unwrap();
            assert!(piece[..got].iter().all(|byte| *byte == 0));
            let null = File::options().write(true).open("/dev/null").unwrap();
            assert_eq!(receiver.read_to(null.as_fd(), None).unwrap(), size - got as u64);
            assert_eq!(receiver.read(&mut piece, NO_TIME).unwrap(), 0, "its end, and no further");
            assert_eq!(receiver.read_to(null.as_fd(), NO_TIME).unwrap(), 0);
            assert_eq!(receiver.recv(LONG).unwrap().body, b"next");
        });
        let grown = peak_memory() - before;
        assert!(grown < 16 << 20, "memory grew by {grown} bytes");
    });
}

#[test]
fn a_timeout_between_two_reads_loses_nothing() {
    for make in [connection, exact] {
        let (ours, mut theirs) = pair();
        let mut receiver = make(&ours);
        theirs.write_all(&encoded(r#"{"data_size":9}"#, b"abc")).unwrap();
        receiver.recv_header(LONG).unwrap();
        let mut piece = [0; 2];
        assert_eq!(receiver.read(&mut piece, LONG).unwrap(), 2);
        assert_eq!((&piece, receiver.to_receive()), (b"ab", 7));
        assert_eq!(receiver.read(&mut piece, LONG).unwrap(), 1);
        let mut file = tempfile::tempfile().unwrap();
        for _ in 0..2 {
            assert_eq!(kind(receiver.read(&mut piece, NO_TIME)), ErrorKind::TimedOut);
            assert_eq!(kind(receiver.read_to(file.as_fd(), NO_TIME)), ErrorKind::TimedOut);
            assert_eq!(receiver.to_receive(), 6);
        }
        theirs.write_all(b"def").unwrap();
        assert_eq!(receiver.read_to(file.as_fd(), NO_TIME).unwrap(), 3);
        assert_eq!(receiver.to_receive(), 3);
        theirs.write_all(b"ghi").unwrap();
        assert_eq!(receiver.read_to(file.as_fd(), LONG).unwrap(), 3);
        file.rewind().unwrap();
        let mut copied = String::new();
        file.read_to_string(&mut copied).unwrap();
        assert_eq!(copied, "defghi");
        theirs.write_all(&numbered(1, 2)).unwrap();
        assert_eq!(receiver.recv(LONG).unwrap().body, b"bb");
    }
}

#[test]
fn a_body_that_is_cut_says_so_however_it_is_read() {
    let reads: [fn(&mut Connection<'_>) -> framefd::Result<()>; 4] = [
        |receiver| receiver.read(&mut [0; 9], LONG).map(drop),
        |receiver| receiver.next(LONG).map(drop),
        |receiver| receiver.recv_header(LONG).map(drop),
        |receiver| {
            let null = File::options().write(true).open("/dev/null").unwrap();
            receiver.read_to(null.as_fd(), LONG).map(drop)
        },
    ];
    for make in [connection, exact] {
        for read in reads {
            let (ours, mut theirs) = pair();
            theirs.write_all(&encoded(r#"{"data_size":9}"#, b"abc")).unwrap();
            drop(theirs);
            let mut receiver = make(&ours);
            receiver.recv_header(LONG).unwrap();
            assert_eq!(receiver.read(&mut [0; 3], LONG).unwrap(), 3);
            assert_eq!(kind(read(&mut receiver)), ErrorKind::Truncated);
            assert!(receiver.state().broken.is_some());
        }
    }
}

#[test]
fn a_destination_that_fails_leaves_the_rest_to_be_read() {
    let broken = Kind::Pipe.open().writer; // its reader is closed
    let full = Kind::Pipe.open();
    fill(&full.writer);
    for (to, expected) in [(&broken, ErrorKind::Io), (&full.writer, ErrorKind::TimedOut)] {
        let (ours, theirs) = pair();
        let writing = std::thread::spawn(move || {
            (&theirs).write_all(&[numbered(1, 1 << 20), numbered(2, 3)].concat()).map(|()| theirs)
        });
        let mut receiver = connection(&ours);
        receiver.recv_header(LONG).unwrap();
        let short = std::time::Duration::from_millis(50);
        assert_eq!(kind(receiver.read_to(to.as_fd(), short)), expected);
        assert_eq!(receiver.to_receive(), 1 << 20);
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert_eq!(receiver.read_to(null.as_fd(), LONG).unwrap(), 1 << 20);
        assert_eq!(receiver.recv(LONG).unwrap().body, b"ccc");
        writing.join().unwrap().unwrap();
    }
}

#[test]
fn a_body_is_copied_byte_for_byte_between_all_kinds_of_descriptors() {
    let content: Vec<u8> = (0..=250).cycle().take(2_500_000).collect();
    for (name, _, Channel { writer, reader }) in every_channel() {
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&content).unwrap();
        let mut target = tempfile::tempfile().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let size = content.len() as u64;
                let mut sender = connect(Ends::Borrowed(None, Some(writer.as_fd())));
                sender.begin(None, size).unwrap();
                assert_eq!(sender.write(&content[..1], LONG).unwrap(), 1);
                assert_eq!(sender.write(b"", LONG).unwrap(), 0);
                source.seek(SeekFrom::Start(1)).unwrap();
                assert_eq!(sender.write_from(source.as_fd(), size - 1, LONG).unwrap(), size - 1);
                sender.flush(LONG).unwrap();
            });
            let mut receiver = connect(Ends::Borrowed(Some(reader.as_fd()), None));
            receiver.recv_header(LONG).unwrap();
            receiver.read_to(target.as_fd(), LONG).unwrap();
            assert_eq!(receiver.to_receive(), 0, "{name}");
        });
        let mut copied = Vec::new();
        target.rewind().unwrap();
        target.read_to_end(&mut copied).unwrap();
        assert!(copied == content, "{name}");
    }
}

#[test]
fn more_than_a_body_needs_is_not_taken_from_a_descriptor() {
    let (ours, theirs) = pair();
    let Channel { writer, reader } = Kind::Pipe.open();
    rustix::io::write(&writer, b"12345").unwrap();
    let mut sender = connection(&ours);
    sender.begin(None, 4).unwrap();
    assert_eq!(kind(sender.write_from(reader.as_fd(), 5, LONG)), ErrorKind::Argument);
    assert_eq!((unread(&reader), unread(&theirs), sender.state().to_send), (5, 0, 4));
    assert_eq!(sender.write_from(reader.as_fd(), 4, LONG).unwrap(), 4);
    sender.flush(LONG).unwrap();
    assert_eq!(connection(&theirs).recv(LONG).unwrap().body, b"1234");
}

#[test]
fn a_file_that_may_not_grow_ends_nobody() {
    alone("bodies::a_file_that_may_not_grow_ends_nobody", || {
        // Its default action would end this process.
        let limit = Rlimit { current: Some(4), maximum: Some(4) };
        rustix::process::setrlimit(Resource::Fsize, limit).unwrap();
        let (ours, mut theirs) = pair();
        let mut receiver = connection(&ours);
        for timeout in [None, Some(LONG)] {
            theirs.write_all(&numbered(1, 8)).unwrap();
            receiver.recv_header(LONG).unwrap();
            let file = tempfile::tempfile().unwrap();
            let error = receiver.read_to(file.as_fd(), timeout).unwrap_err();
            assert_eq!(error.errno(), rustix::io::Errno::FBIG.raw_os_error());
            assert_eq!((file.metadata().unwrap().len(), receiver.to_receive()), (4, 4));
        }
        theirs.write_all(&numbered(2, 3)).unwrap();
        assert_eq!(receiver.recv(LONG).unwrap().body, b"ccc");
    });
}
