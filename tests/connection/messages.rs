//! Messages: whole, many at once, and nothing lost at any byte.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::frame::{Connection, ConnectionOptions, Sent};
use framefd::wire::frame::packet::PrefixFormat;
use framefd::wire::frame::queue::Format;

use crate::{LONG, NO_TIME, connection, encoded, exact, fill, numbered, pair, unread};

#[test]
fn a_receive_that_times_out_at_any_byte_loses_nothing() {
    let bytes = [numbered(1, 5), numbered(2, 0), numbered(3, 300)].concat();
    for make in [connection, exact] {
        let (ours, mut theirs) = pair();
        let mut receiver = make(&ours);
        let mut seen = Vec::new();
        for byte in &bytes {
            theirs.write_all(&[*byte]).unwrap();
            match receiver.next(NO_TIME) {
                Ok(view) => seen.push((view.header().to_owned(), view.body().len())),
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        let sizes: Vec<usize> = seen.iter().map(|(_, len)| *len).collect();
        assert_eq!(sizes, [5, 0, 300]);
        assert_eq!(seen[2].0, r#"{"data_size":300,"n":3}"#);
        assert!(receiver.state().broken.is_none());
    }
}

#[test]
fn one_read_brings_what_is_there_and_an_exact_one_no_byte_more() {
    for is_exact in [false, true] {
        let left = if is_exact { numbered(2, 7).len() as u64 } else { 0 };
        let (ours, mut theirs) = pair();
        theirs.write_all(&[numbered(1, 7), numbered(2, 7)].concat()).unwrap();
        let mut receiver = if is_exact { exact(&ours) } else { connection(&ours) };
        assert_eq!(receiver.recv(LONG).unwrap().body, b"bbbbbbb");
        assert_eq!(unread(&ours), left);
        assert_eq!(receiver.recv(LONG).unwrap().header.unwrap().integer("n").unwrap(), 2);
        assert_eq!(unread(&ours), 0);
    }
}

#[test]
fn large_and_small_messages_follow_each_other() {
    let sizes = [10, 200_000, 0, 131_072, 131_071, 300_000, 300_000, 5, 3_000_000, 140_000, 1];
    let (ours, theirs) = pair();
    let bytes: Vec<u8> = sizes.iter().enumerate().flat_map(|(n, len)| numbered(n, *len)).collect();
    let writing = std::thread::spawn(move || (&theirs).write_all(&bytes));
    let mut receiver = connection(&ours);
    for (n, len) in sizes.into_iter().enumerate() {
        let message = receiver.recv(LONG).unwrap();
        let expected = vec![b'a' + u8::try_from(n % 26).unwrap(); len];
        assert!(message.body == expected, "message {n} of {len} bytes");
        assert!(message.body.into_vec() == expected);
        assert_eq!(message.header.unwrap().integer("n").unwrap(), i64::try_from(n).unwrap());
    }
    assert_eq!(receiver.recv(LONG).unwrap_err().kind(), ErrorKind::Closed);
    writing.join().unwrap().unwrap();
}

#[test]
fn an_exact_connection_reads_no_byte_beyond_a_message_of_any_size() {
    for len in [0, 1, 9000, 300_000] {
        let (ours, theirs) = pair();
        let bytes = [numbered(1, len), b"next".to_vec()].concat();
        let writing = std::thread::spawn(move || (&theirs).write_all(&bytes).map(|()| theirs));
        let mut receiver = exact(&ours);
        assert_eq!(receiver.next(LONG).unwrap().body().len(), len);
        drop(receiver);
        let mut rest = [0; 4];
        (&ours).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"next");
        drop(writing.join().unwrap());
    }
}

#[test]
fn a_send_that_is_accepted_in_part_is_not_sent_again() {
    let (ours, mut theirs) = pair();
    let mut sender = connection(&ours);
    let body = vec![b'x'; 4 << 20];
    assert_eq!(sender.send(None, &body, NO_TIME).unwrap(), Sent::Queued);
    let queued = sender.state().queued;
    assert!(queued > 0);
    let refused = sender.send(Some(r#"{"second":1}"#), &body, NO_TIME).unwrap_err();
    assert_eq!((refused.kind(), sender.state().queued), (ErrorKind::TimedOut, queued));
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        all
    });
    assert_eq!(sender.send(Some(r#"{"third":1}"#), b"", LONG).unwrap(), Sent::Whole);
    sender.end(false, LONG).unwrap();
    let header = format!(r#"{{"data_size":{}}}"#, body.len());
    let third = encoded(r#"{"data_size":0,"third":1}"#, b"");
    assert!(reading.join().unwrap() == [encoded(&header, &body), third].concat());
}

#[test]
fn a_refused_send_leaves_no_byte_behind() {
    let (ours, mut theirs) = pair();
    fill(&ours);
    let before = usize::try_from(unread(&theirs)).unwrap();
    let mut sender = connection(&ours);
    for len in [0, 10, 100_000] {
        let error = sender.send(None, &vec![b'x'; len], Duration::from_millis(5)).unwrap_err();
        assert_eq!((error.kind(), sender.state().queued), (ErrorKind::TimedOut, 0));
    }
    theirs.read_exact(&mut vec![0; before]).unwrap();
    sender.send(None, b"hello", LONG).unwrap();
    drop(sender);
    drop(ours);
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, encoded(r#"{"data_size":5}"#, b"hello"));
}

#[test]
fn what_is_queued_is_written_before_a_receive_waits() {
    let (ours, theirs) = pair();
    let (mut one, mut other) = (connection(&ours), connection(&theirs));
    one.queue(Some(r#"{"n":1}"#), b"question", LONG).unwrap();
    assert_eq!((unread(&theirs), one.state().queued > 0), (0, true));
    assert_eq!(one.recv(NO_TIME).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(other.recv(NO_TIME).unwrap().body, b"question");
    assert_eq!(one.state().queued, 0);
}

#[test]
fn a_queue_is_bounded() {
    let (ours, _theirs) = pair();
    let options = ConnectionOptions { max_queue: 1 << 20, ..ConnectionOptions::default() };
    let mut sender = Connection::new(ours.as_fd(), options).unwrap();
    let body = vec![b'x'; 10_000];
    let error = loop {
        if let Err(error) = sender.queue(None, &body, NO_TIME) {
            break error;
        }
        assert!(sender.state().queued <= 1 << 20);
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(sender.state().queued > (1 << 20) - 20_000);
    assert!(sender.state().broken.is_none());
}

#[test]
fn two_ends_that_both_send_first_do_not_wait_for_each_other() {
    let (ours, theirs) = pair();
    let body = vec![b'x'; 8 << 20];
    let talk = |fd, body: Vec<u8>| {
        std::thread::spawn(move || {
            let mut connection = connection(&fd);
            connection.send(None, &body, LONG).unwrap();
            let got = connection.recv(LONG).unwrap();
            connection.end(true, LONG).unwrap();
            got.body == body
        })
    };
    let (one, other) = (talk(ours, body.clone()), talk(theirs, body));
    assert!(one.join().unwrap() && other.join().unwrap());
}

#[test]
fn a_clean_end_comes_after_the_last_message_and_again() {
    let (ours, mut theirs) = pair();
    theirs.write_all(&numbered(1, 3)).unwrap();
    drop(theirs);
    let mut receiver = connection(&ours);
    receiver.recv(LONG).unwrap();
    for _ in 0..2 {
        assert_eq!(receiver.recv(LONG).unwrap_err().kind(), ErrorKind::Closed);
    }
    let state = receiver.state();
    assert!(state.broken.is_none() && state.peer_ended);
}

#[test]
fn a_framing_error_breaks_it_and_later_calls_name_the_cause() {
    for (bytes, kind) in [
        (&b"\xff\xff\xff\xff"[..], ErrorKind::BadLength),
        (b"\x02\0\0\0[]", ErrorKind::BadJson),
        (b"GET / HTTP/1.1\r\n", ErrorKind::TooBig),
        (b"\x02\0", ErrorKind::Truncated),
    ] {
        let (ours, mut theirs) = pair();
        theirs.write_all(&[&numbered(1, 3), bytes].concat()).unwrap();
        drop(theirs);
        let mut receiver = connection(&ours);
        receiver.recv(LONG).unwrap();
        let first = receiver.recv(LONG).unwrap_err();
        assert_eq!(first.kind(), kind);
        for _ in 0..2 {
            let later = receiver.recv(LONG).unwrap_err();
            assert_eq!(later.kind(), ErrorKind::Broken);
            assert!(later.detail().contains(first.kind().text()), "{later}");
        }
        assert_eq!(receiver.send(None, b"", LONG).unwrap_err().kind(), ErrorKind::Broken);
        assert_eq!(receiver.state().broken.unwrap().kind(), kind);
    }
}

#[test]
fn what_came_before_a_failed_send_is_received() {
    let (ours, mut theirs) = pair();
    theirs.write_all(&numbered(1, 3)).unwrap();
    drop(theirs);
    let mut connection = connection(&ours);
    assert_eq!(connection.send(None, b"x", LONG).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(connection.send(None, b"x", LONG).unwrap_err().kind(), ErrorKind::Broken);
    assert_eq!(connection.recv(LONG).unwrap().body, b"bbb");
}

#[test]
fn packets_go_both_ways_in_every_prefix() {
    for width in [1, 2, 4, 8] {
        for (big, unsigned) in [(false, false), (true, true)] {
            let format = Format::Packets(PrefixFormat::new(width, big, unsigned).unwrap());
            let options = || ConnectionOptions { format, ..ConnectionOptions::default() };
            let (ours, theirs) = pair();
            let mut sender = Connection::new(ours.as_fd(), options()).unwrap();
            let mut receiver = Connection::new(theirs.as_fd(), options()).unwrap();
            sender.queue(None, b"queued", LONG).unwrap();
            sender.send(None, b"", LONG).unwrap();
            for expected in [&b"queued"[..], b""] {
                let view = receiver.next(LONG).unwrap();
                assert_eq!((view.header(), view.body()), ("", expected));
            }
            let error = sender.send(Some("{}"), b"", LONG).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
        }
    }
}

#[test]
fn a_deadline_holds_while_bytes_trickle_in() {
    let (ours, theirs) = pair();
    let trickling = std::thread::spawn(move || {
        let bytes = numbered(1, 1 << 20);
        for byte in bytes {
            if (&theirs).write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let start = Instant::now();
    let mut receiver = connection(&ours);
    let error = receiver.recv(Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(receiver.state().broken.is_none());
    drop(receiver);
    drop(ours);
    trickling.join().unwrap();
}

#[test]
fn a_receive_gets_what_comes_although_the_peer_reads_nothing() {
    let (ours, mut theirs) = pair();
    let mut connection = connection(&ours);
    assert_eq!(connection.send(None, &vec![b'x'; 8 << 20], NO_TIME).unwrap(), Sent::Queued);
    let start = Instant::now();
    theirs.write_all(&numbered(1, 5)).unwrap();
    assert_eq!(connection.recv(LONG).unwrap().body, b"bbbbb");
    let writing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        (&theirs).write_all(&numbered(2, 5)).unwrap();
        theirs
    });
    assert_eq!(connection.recv(LONG).unwrap().body, b"ccccc");
    drop(writing.join().unwrap());
    assert!(connection.state().queued > 0);
    assert_eq!(connection.recv(LONG).unwrap_err().kind(), ErrorKind::Io, "it was reset");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_queue_waits_for_room_as_long_as_its_time_allows_and_then_accepts_up_to_its_limit() {
    let (ours, theirs) = pair();
    fill(&ours);
    let options = ConnectionOptions { max_queue: 1 << 20, ..ConnectionOptions::default() };
    let mut sender = Connection::new(ours.as_fd(), options).unwrap();
    let start = Instant::now();
    let sizes = [10, 100_000, 10, 60_000, 300_000, 10];
    let time = Duration::from_millis(10);
    for len in sizes {
        // Nobody reads.
        let time = if len < 100_000 { NO_TIME } else { time };
        sender.queue(None, &vec![b'x'; len], time).unwrap();
    }
    assert!((2 * time..LONG).contains(&start.elapsed()));
    let error = sender.queue(None, &vec![b'x'; 1 << 20], Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let mut theirs = theirs;
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        all
    });
    sender.flush(LONG).unwrap();
    sender.end(false, LONG).unwrap();
    let sent: Vec<u8> = sizes
        .iter()
        .flat_map(|len| encoded(&format!(r#"{{"data_size":{len}}}"#), &vec![b'x'; *len]))
        .collect();
    assert!(reading.join().unwrap().ends_with(&sent));
}
