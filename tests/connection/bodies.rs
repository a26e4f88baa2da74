//! Bodies in pieces, received and sent, and what is left of them.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;

use framefd::ErrorKind;

use crate::{LONG, NO_TIME, connection, exact, frame, numbered, pair, unread};

#[test]
fn a_body_is_read_in_pieces_of_any_size() {
    for is_exact in [false, true] {
        let make = if is_exact { exact } else { connection };
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
    for is_exact in [false, true] {
        let make = if is_exact { exact } else { connection };
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
    assert_eq!(unread(&theirs), frame(r#"{"data_size":6,"a":1}"#, b"abc").len() as u64);
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
    let frames = [frame(r#"{"data_size":6,"a":1}"#, b"abcdef"), frame(r#"{"data_size":0}"#, b"")];
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
