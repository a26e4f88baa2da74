//! Descriptors and whose they are, the end, and a fork.
#![allow(unsafe_code)] // fork(2)

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;

use framefd::ErrorKind;
use framefd::ops::frame::{Connection, ConnectionOptions, Ends};
use rustix::net::sockopt;

use crate::{LONG, connection, numbered, pair, tcp, unread};

#[test]
fn tcp_nodelay_is_set_and_stays_unless_it_is_to_be_left_alone() {
    for (as_is, expected) in [(false, true), (true, false)] {
        let (client, _server) = tcp();
        let options = ConnectionOptions { as_is, ..ConnectionOptions::default() };
        drop(Connection::new(client.as_fd(), options).unwrap());
        assert_eq!(sockopt::tcp_nodelay(&client).unwrap(), expected);
        assert!(!sockopt::socket_keepalive(&client).unwrap());
    }
    let (client, _server) = tcp();
    let options = ConnectionOptions { keepalive: true, ..ConnectionOptions::default() };
    drop(Connection::new(client.as_fd(), options).unwrap());
    assert!(sockopt::socket_keepalive(&client).unwrap());
}

#[test]
fn borrowed_descriptors_stay_open_and_owned_ones_are_closed() {
    let (ours, mut theirs) = pair();
    drop(connection(&ours));
    (&ours).write_all(b"x").unwrap();
    theirs.read_exact(&mut [0]).unwrap();
    drop(Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap());
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_is_no_stream_is_refused_and_not_taken() {
    let (ours, _theirs) = UnixDatagram::pair().unwrap();
    let error = Connection::new(ours.as_fd(), ConnectionOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.detail().contains("SOCK_STREAM"), "{error}");
    assert!(rustix::io::fcntl_getfd(&ours).is_ok());
}

#[test]
fn a_direction_that_is_not_there_is_named() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let only = |reader, writer| {
        Connection::new(Ends::Borrowed(reader, writer), ConnectionOptions::default()).unwrap()
    };
    let mut receiver = only(Some(reader.as_fd()), None);
    let error = receiver.send(None, b"", LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadDescriptor);
    let mut sender = only(None, Some(writer.as_fd()));
    sender.send(None, b"hello", LONG).unwrap();
    let error = sender.recv(LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadDescriptor);
    assert_eq!(receiver.recv(LONG).unwrap().body, b"hello");
}

#[test]
fn what_was_read_ahead_is_given_back_also_by_a_broken_connection() {
    let (ours, mut theirs) = pair();
    theirs.write_all(&[numbered(1, 3), b"the rest".to_vec()].concat()).unwrap();
    let mut receiver = connection(&ours);
    receiver.recv(LONG).unwrap();
    assert_eq!(receiver.unread().unwrap(), b"the rest");
    assert_eq!(receiver.recv(LONG).unwrap_err().kind(), ErrorKind::State);
    receiver.send(None, b"still", LONG).unwrap();

    let (ours, mut theirs) = pair();
    theirs.write_all(b"\xff\xff\xff\xffrest").unwrap();
    let mut receiver = connection(&ours);
    assert_eq!(receiver.recv(LONG).unwrap_err().kind(), ErrorKind::BadLength);
    assert_eq!(receiver.unread().unwrap(), b"\xff\xff\xff\xffrest");
}

#[test]
fn an_end_writes_what_is_queued_and_drains_what_the_peer_sends() {
    let (client, server) = tcp();
    let mut one = Connection::new(client.as_fd(), ConnectionOptions::default()).unwrap();
    let mut other = Connection::new(server.as_fd(), ConnectionOptions::default()).unwrap();
    one.queue(None, b"last words", LONG).unwrap();
    one.end(false, LONG).unwrap();
    assert_eq!(one.send(None, b"", LONG).unwrap_err().kind(), ErrorKind::State);
    assert_eq!(other.recv(LONG).unwrap().body, b"last words");
    assert_eq!(other.recv(LONG).unwrap_err().kind(), ErrorKind::Closed);
    other.send(None, &vec![b'x'; 100_000], LONG).unwrap();
    other.end(true, LONG).unwrap();
    assert_eq!(one.recv(LONG).unwrap().body.len(), 100_000);
    assert_eq!(one.recv(LONG).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_linger_ends_at_256_kib_of_what_nobody_reads() {
    let (ours, theirs) = pair();
    let flooding = std::thread::spawn(move || {
        let mut sent = 0;
        while let Ok(more) = (&theirs).write(&[0; 4096]) {
            sent += more;
        }
        sent
    });
    let mut ending = Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
    ending.end(true, LONG).unwrap();
    drop(ending);
    assert!(flooding.join().unwrap() < 8 << 20);
}

#[test]
fn in_a_child_everything_is_forked_but_to_give_back() {
    let (ours, mut theirs) = pair();
    theirs.write_all(&[numbered(1, 3), numbered(2, 3)].concat()).unwrap();
    let mut connection = connection(&ours);
    connection.recv(LONG).unwrap();
    connection.queue(None, b"queued", LONG).unwrap();
    // SAFETY: the child calls into the library and ends by _exit(2).
    match unsafe { libc::fork() } {
        0 => {
            let kinds = [
                connection.recv(LONG).map(drop).unwrap_err().kind(),
                connection.send(None, b"", LONG).map(drop).unwrap_err().kind(),
                connection.flush(LONG).unwrap_err().kind(),
                connection.end(true, LONG).unwrap_err().kind(),
                connection.call("{}", b"", LONG).map(drop).unwrap_err().kind(),
            ];
            connection.handle().abort();
            let is_good = kinds.iter().all(|kind| *kind == ErrorKind::Forked)
                && connection.unread().is_ok_and(|rest| rest == numbered(2, 3));
            drop(connection);
            // SAFETY: it ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(!is_good)) };
        }
        child => {
            let mut status = -1;
            // SAFETY: `status` is an int, and the child is ours.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
        }
    }
    assert_eq!(unread(&theirs), 0, "the child wrote nothing");
    assert_eq!(connection.recv(LONG).unwrap().header.unwrap().integer("n").unwrap(), 2);
    connection.flush(LONG).unwrap();
    assert!(unread(&theirs) > 0);
    assert!(ours.as_raw_fd() >= 0);
}
