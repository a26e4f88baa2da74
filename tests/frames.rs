//! Frames and packets as they arrive: in any pieces, cut anywhere, of any bytes, on every
//! kind of descriptor.

mod common;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use common::channel::{Channel, Kind, every_channel, fill, flags, socket_pair, tcp, unread};
use common::exec::{LONG, within};
use common::process::{address_space, alone};
use common::proxy::{Direction, Fault, at_every_offset};
use common::{cases, encoded, kind, peer};
use framefd::ErrorKind;
use framefd::io::wait::Interrupt;
use framefd::ops::frame::{self, Frame, IfLarge, Options, Received};
use framefd::wire::frame::packet::PrefixFormat;
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

fn recv(fd: impl AsFd) -> framefd::Result<Frame> {
    frame::recv(fd.as_fd(), &within(LONG))
}

fn send(fd: impl AsFd, header: Option<&str>, body: &[u8]) -> framefd::Result<()> {
    frame::send(fd.as_fd(), header, body, &within(LONG))
}

#[test]
fn a_request_and_its_reply_survive_every_split_and_notice_every_cut() {
    let question: Vec<u8> = (0..=255).collect();
    let client = |stream: &UnixStream| {
        send(stream, Some(r#"{"cmd":"ask"}"#), &question)?;
        recv(stream)
    };
    let server = |stream: &UnixStream| {
        let request = recv(stream)?;
        send(stream, Some(r#"{"status":"ok"}"#), b"the answer")?;
        // The connection ends after the reply, and not in the middle of another frame.
        assert_eq!(kind(recv(stream)), ErrorKind::Closed);
        Ok(request)
    };
    let cut_kind = |at| if at == 0 { ErrorKind::Closed } else { ErrorKind::Truncated };
    let check = |fault, client: framefd::Result<Frame>, server: framefd::Result<Frame>| {
        match fault {
            Fault::Cut(Direction::ToServer, at) => {
                assert_eq!(kind(server), cut_kind(at), "{fault:?}");
                assert_eq!(kind(client), ErrorKind::Closed, "{fault:?}");
                return;
            }
            Fault::Cut(Direction::ToClient, at) => assert_eq!(kind(client), cut_kind(at)),
            _ => {
                let reply = client.unwrap();
                assert_eq!(reply.header.text(), r#"{"data_size":10,"status":"ok"}"#, "{fault:?}");
                assert_eq!(reply.body, b"the answer", "{fault:?}");
            }
        }
        let request = server.unwrap();
        assert_eq!(request.header.text(), r#"{"data_size":256,"cmd":"ask"}"#, "{fault:?}");
        assert_eq!(request.body, question, "{fault:?}");
    };
    let (to_server, to_client) = at_every_offset(client, server, check);
    assert_eq!((to_server, to_client), (4 + 29 + 256, 4 + 30 + 10));
}

#[test]
fn a_cut_frame_tells_how_much_of_it_came() {
    let (mut peer, fd) = socket_pair();
    peer.write_all(&encoded(r#"{"data_size":500}"#, &[b'x'; 123])).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let error = recv(&fd).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated);
    assert!(error.detail().contains("123 of 500"), "{error}");
}

#[test]
fn frames_that_come_together_are_taken_apart_and_nothing_more_is_read() {
    let (mut peer, fd) = socket_pair();
    let mut bytes = Vec::new();
    for n in 0..1000 {
        bytes.extend(encoded(&format!(r#"{{"n":{n},"data_size":{}}}"#, n % 3), &b"abc"[..n % 3]));
    }
    bytes.extend(b"not a frame");
    let writing = std::thread::spawn(move || peer.write_all(&bytes).map(|()| peer));
    for n in 0..1000 {
        let frame = recv(&fd).unwrap();
        assert_eq!(frame.header.integer("n").unwrap(), i64::try_from(n).unwrap());
        assert_eq!(frame.body, &b"abc"[..n % 3]);
    }
    drop(writing.join().unwrap().unwrap());
    let mut rest = String::new();
    (&fd).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "not a frame", "the caller's own read gets it");
}

#[test]
fn every_kind_of_descriptor_carries_frames_and_keeps_its_flags() {
    let bodies: Vec<Vec<u8>> = [0usize, 1, 4095, 4096, 70_000, 300_000]
        .map(|size| (0..=255).cycle().take(size).collect())
        .to_vec();
    for timeout in [None, Some(Duration::from_secs(10))] {
        let options = Options { timeout, ..Options::default() };
        for (name, _, channel) in every_channel() {
            let (writer, reader) = (channel.writer.as_fd(), channel.reader.as_fd());
            let before = (flags(writer), flags(reader));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for body in &bodies {
                        frame::send(writer, Some(r#"{"cmd":"put"}"#), body, &options).unwrap();
                        frame::send_packet(writer, body, &options).unwrap();
                    }
                });
                for body in &bodies {
                    let frame = frame::recv(reader, &options).unwrap();
                    assert_eq!(frame.header.string("cmd").unwrap(), "put");
                    assert!(frame.body == *body, "{name}: {} bytes", body.len());
                    assert!(frame::recv_packet(reader, &options).unwrap() == *body, "{name}");
                }
            });
            assert_eq!((flags(writer), flags(reader)), before, "{name}");
        }
    }
}

#[test]
fn the_end_of_every_kind_of_descriptor_is_a_clean_end() {
    for (name, _, channel) in every_channel() {
        drop(channel.writer);
        assert_eq!(kind(recv(&channel.reader)), ErrorKind::Closed, "{name}");
    }
}

#[test]
fn a_write_that_nobody_can_read_is_an_error_with_its_errno() {
    for (name, kind, channel) in every_channel() {
        let expected: &[Errno] = match kind {
            Kind::UnixSocket | Kind::Pipe => &[Errno::PIPE],
            Kind::TcpSocket => &[Errno::PIPE, Errno::CONNRESET],
            Kind::FromTerminal => &[Errno::IO],
            Kind::ToTerminal => continue, // kept for whoever opens the terminal next
        };
        drop(channel.reader);
        // TCP takes bytes until it hears from the other end.
        let error = (0..1000).find_map(|_| send(&channel.writer, None, b"hello").err());
        let error = error.unwrap_or_else(|| panic!("{name}: every send succeeded"));
        assert_eq!(error.kind(), ErrorKind::Io, "{name}: {error}");
        assert!(expected.iter().any(|e| e.raw_os_error() == error.errno()), "{name}: {error}");
    }
}

#[test]
fn a_half_closed_connection_is_answered() {
    for kind in [Kind::UnixSocket, Kind::TcpSocket] {
        let Channel { writer: client, reader: server } = kind.open();
        send(&client, Some(r#"{"cmd":"last"}"#), b"").unwrap();
        rustix::net::shutdown(&client, rustix::net::Shutdown::Write).unwrap();
        assert_eq!(recv(&server).unwrap().header.string("cmd").unwrap(), "last");
        assert_eq!(common::kind(recv(&server)), ErrorKind::Closed);
        send(&server, None, b"the reply").unwrap();
        assert_eq!(recv(&client).unwrap().body, b"the reply");
    }
}

#[test]
fn a_reset_connection_is_not_a_cut_one() {
    let whole = encoded(r#"{"data_size":10}"#, b"0123456789");
    for cut in [0, 2, 12, 25] {
        let (mut peer, fd) = tcp();
        peer.write_all(&whole[..cut]).unwrap();
        let receiving = std::thread::spawn({
            let fd = fd.try_clone().unwrap();
            move || recv(fd)
        });
        while unread(&fd) > 0 || cut == 0 && receiving.is_finished() {
            std::thread::yield_now();
        }
        rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        let error = receiving.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "after {cut} bytes: {error}");
        assert_eq!(error.errno(), Errno::CONNRESET.raw_os_error(), "after {cut} bytes");
    }
}

#[test]
fn short_writes_go_on_where_they_stopped() {
    let body: Vec<u8> = (0..=250).cycle().take(400_000).collect();
    let Channel { writer, reader } = Kind::UnixSocket.open();
    rustix::net::sockopt::set_socket_send_buffer_size(&writer, 1).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&writer, None, &body).unwrap());
        assert!(recv(&reader).unwrap().body == body);
    });
}

#[test]
fn more_slices_than_one_system_call_takes_are_sent() {
    let slices: Vec<&[u8]> = [&b"abc"[..], b"", b"d"].into_iter().cycle().take(3000).collect();
    for kind in Kind::ALL {
        let Channel { writer, reader } = kind.open();
        let options = within(LONG);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                frame::send_slices(writer.as_fd(), None, &slices, &options).unwrap();
            });
            assert_eq!(recv(&reader).unwrap().body, slices.concat(), "{kind:?}");
        });
    }
}

#[test]
fn more_bytes_than_one_system_call_takes_are_sent_at_once() {
    // Never written to, so all of it is the kernel's one page of zeros.
    let body = vec![0; 0x7fff_f000 + 5];
    let (sender, receiver) = socket_pair();
    std::thread::scope(|scope| {
        scope.spawn(|| frame::send(sender.as_fd(), None, &body, &Options::default()).unwrap());
        let mut frame = peer::next(&receiver).unwrap();
        assert_eq!(frame.left, body.len() as u64);
        frame.skip();
        assert_eq!(frame.left, 0);
    });
    send(&sender, None, b"next").unwrap();
    assert_eq!(recv(&receiver).unwrap().body, b"next");
}

#[test]
fn a_declared_size_costs_nothing_until_its_bytes_come() {
    alone("a_declared_size_costs_nothing_until_its_bytes_come", || {
        let limited = Options { timeout: Some(Duration::from_millis(1)), ..Options::default() };
        let pairs: Vec<_> = (0..100).map(|_| socket_pair()).collect();
        let (mut peer, fd) = socket_pair();
        let (started, wait_for_start) = std::sync::mpsc::channel();
        let feeding = std::thread::spawn(move || {
            started.send(()).unwrap();
            peer.read_exact(&mut [0]).unwrap();
            let zeros = vec![0; 65536];
            let _ = peer.write_all(&encoded(r#"{"data_size":67108864}"#, b""));
            while peer.write_all(&zeros).is_ok() {}
        });
        wait_for_start.recv().unwrap();
        // From here on there is memory for half a body.
        let most = address_space() + (32 << 20);
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
        assert_eq!(kind(frame::recv(fd.as_fd(), &within(LONG))), ErrorKind::NoMemory);
        drop(fd);
        feeding.join().unwrap();
    });
}

#[test]
fn a_message_larger_than_the_buffer_has_memory_of_its_own() {
    let (peer, fd) = socket_pair();
    let data: Vec<u8> = (0..100).collect();
    for size in [0, 1, 99, 100, 101] {
        let mut buf = vec![0; size];
        frame::send_packet(peer.as_fd(), &data, &within(LONG)).unwrap();
        let packet = frame::recv_packet_into(fd.as_fd(), &mut buf, IfLarge::Own, &within(LONG));
        match packet.unwrap() {
            Received::InBuffer(header, body) => assert_eq!((header, &buf[body]), (0..0, &data[..])),
            Received::Own(message) => {
                assert!(message.header.is_none() && message.body == data && size < 100);
            }
        }
        frame::send(peer.as_fd(), None, &data, &within(LONG)).unwrap();
        let frame = frame::recv_into(fd.as_fd(), &mut buf, IfLarge::Own, &within(LONG)).unwrap();
        let Received::Own(message) = frame else { panic!("{frame:?}") };
        assert_eq!(message.header.unwrap().text(), r#"{"data_size":100}"#);
        assert_eq!(message.body, data);
    }
    frame::send_packet(peer.as_fd(), &[], &within(LONG)).unwrap();
    let empty =
        frame::recv_packet_into(fd.as_fd(), &mut [], IfLarge::Refuse, &within(LONG)).unwrap();
    assert!(matches!(empty, Received::InBuffer(header, body) if header == body && body == (0..0)));

    let small = Options { max_body: 99, ..within(LONG) };
    for (if_large, options) in [(IfLarge::Refuse, within(LONG)), (IfLarge::Own, small)] {
        let (peer, fd) = socket_pair();
        frame::send_packet(peer.as_fd(), &data, &options).unwrap();
        let refused = frame::recv_packet_into(fd.as_fd(), &mut [0; 9], if_large, &options);
        assert_eq!(kind(refused), ErrorKind::TooBig);
    }
}

#[test]
fn an_interrupted_call_is_in_sync_only_between_messages() {
    let interrupt = Arc::new(Interrupt::by_hook(Box::new(|| ControlFlow::Break(()))));
    let options = Options { interrupt: Some(interrupt), ..within(LONG) };
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

#[test]
fn a_peer_of_another_protocol_is_named() {
    for (first, name) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP"),
        (b"POST /", "HTTP"),
        (b"HTTP/1.1 400", "HTTP"),
        (b"\x16\x03\x01\x00\xc8\x01", "TLS"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "SSH"),
        (b"\x00\x00\x50\x00{}", "big-endian"),
        (b"{\"cmd\":\"exec\"}\n", "without its length"),
    ] {
        let (mut peer, fd) = socket_pair();
        peer.write_all(first).unwrap();
        let error = recv(&fd).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig, "{name}");
        assert!(error.detail().contains(name), "{error}");
        assert_eq!(unread(&fd), first.len() as u64 - 4, "{name}: only the length was read");
    }
}

#[test]
fn a_header_that_the_library_would_refuse_is_not_sent() {
    let (peer, fd) = socket_pair();
    for (header, expected) in [
        ("", ErrorKind::BadJson),
        ("[]", ErrorKind::BadJson),
        ("{\"a\":1} {}", ErrorKind::BadJson),
        (r#"{"a":1e400}"#, ErrorKind::BadJson),
        (r#"{"a":"\ud800"}"#, ErrorKind::BadJson),
        (r#"{"data_size":0}"#, ErrorKind::BadField),
        (r#"{"data\u005fsize":0}"#, ErrorKind::BadField),
    ] {
        assert_eq!(kind(send(&peer, Some(header), b"")), expected, "{header}");
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(65536));
    assert_eq!(kind(send(&peer, Some(&long), b"")), ErrorKind::TooBig);
    assert_eq!(unread(&fd), 0);
}

#[test]
fn the_deepest_header_fits_a_small_stack() {
    for (depth, accepted) in [(32, true), (33, false), (100_000, false)] {
        let (mut peer, fd) = socket_pair();
        let header = format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let bytes = encoded(&header, b"");
        let writing = std::thread::spawn(move || peer.write_all(&bytes));
        let options = Options { max_header: 1 << 20, ..within(LONG) };
        let small = std::thread::Builder::new().stack_size(64 * 1024);
        let receive = move || frame::recv(fd.as_fd(), &options)?.header.string("a").map(|_| ());
        let received = kind(small.spawn(receive).unwrap().join().unwrap());
        writing.join().unwrap().unwrap();
        // What is accepted is an array and no string.
        let expected = if accepted { ErrorKind::BadField } else { ErrorKind::BadJson };
        assert_eq!(received, expected, "{depth}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(200), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_arrive_whatever_the_pieces(
        frames in vec((any_header(), vec(any::<u8>(), 0..2000)), 1..4),
        pieces in vec(1usize..700, 1..40),
    ) {
        let (sender, captured) = socket_pair();
        for (header, body) in &frames {
            send(&sender, header.as_deref(), body).unwrap();
        }
        let mut bytes = vec![0; usize::try_from(unread(&captured)).unwrap()];
        (&captured).read_exact(&mut bytes).unwrap();

        let (mut peer, fd) = socket_pair();
        let count = frames.len();
        let receiving = std::thread::spawn({
            let fd = fd.try_clone().unwrap();
            move || (0..count).map(|_| recv(&fd)).collect::<Vec<_>>()
        });
        let mut rest = &bytes[..];
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            peer.write_all(now).unwrap();
            while unread(&fd) > 0 && !receiving.is_finished() {
                std::thread::yield_now();
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        for (received, (header, body)) in receiving.join().unwrap().into_iter().zip(&frames) {
            let received = received.unwrap();
            prop_assert_eq!(received.header.data_size(), Some(body.len() as u64));
            prop_assert_eq!(&received.body, body);
            if let Some(header) = header {
                let fields = header.trim_start()[1..].trim_start();
                prop_assert!(received.header.text().ends_with(fields), "{}", header);
            }
        }
        prop_assert_eq!(unread(&fd), 0);
    }

    #[test]
    fn any_bytes_are_taken_or_refused_where_they_should_be(pieces in vec(any_piece(), 0..6)) {
        let bytes = pieces.concat();
        let (mut peer, fd) = socket_pair();
        peer.write_all(&bytes).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut rest = &bytes[..];
        loop {
            let received = recv(&fd);
            let consumed = rest.len() - usize::try_from(unread(&fd)).unwrap();
            let length = rest.first_chunk().map(|prefix| i32::from_le_bytes(*prefix));
            let header_end = length.and_then(|length| usize::try_from(length).ok())
                .map_or(4, |length| 4 + length);
            match received {
                Ok(frame) => {
                    prop_assert_eq!(consumed, header_end + frame.body.len());
                    prop_assert_eq!(frame.header.text().as_bytes(), &rest[4..header_end]);
                    prop_assert_eq!(&frame.body, &rest[header_end..consumed]);
                    rest = &rest[consumed..];
                    continue;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Closed => prop_assert!(rest.is_empty()),
                    ErrorKind::Truncated => prop_assert_eq!(consumed, rest.len()),
                    ErrorKind::BadLength => {
                        prop_assert!(length.unwrap() <= 0);
                        prop_assert_eq!(consumed, 4);
                    }
                    ErrorKind::TooBig if length.unwrap() > 65536 => prop_assert_eq!(consumed, 4),
                    ErrorKind::TooBig | ErrorKind::BadJson | ErrorKind::BadField => {
                        prop_assert_eq!(consumed, header_end);
                    }
                    _ => prop_assert!(false, "{}", error),
                },
            }
            break;
        }
    }

    #[test]
    fn any_bytes_are_a_packet_or_refused(
        bytes in vec(any::<u8>(), 0..300),
        width in prop::sample::select(vec![1u8, 2, 4, 8]),
        big_endian: bool,
        unsigned: bool,
    ) {
        let prefix = PrefixFormat::new(width, big_endian, unsigned).unwrap();
        let options = Options { prefix, max_body: 1000, ..within(LONG) };
        let (mut peer, fd) = socket_pair();
        peer.write_all(&bytes).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let received = frame::recv_packet(fd.as_fd(), &options);
        let consumed = bytes.len() - usize::try_from(unread(&fd)).unwrap();
        match received {
            Ok(data) => {
                prop_assert_eq!(&data, &bytes[prefix.width()..consumed]);
                frame::send_packet(fd.as_fd(), &data, &options).unwrap();
                let mut again = vec![0; consumed];
                peer.read_exact(&mut again).unwrap();
                prop_assert_eq!(&again, &bytes[..consumed], "and has one spelling");
            }
            Err(error) => match error.kind() {
                ErrorKind::Closed => prop_assert!(bytes.is_empty()),
                ErrorKind::Truncated => prop_assert_eq!(consumed, bytes.len()),
                ErrorKind::BadLength | ErrorKind::TooBig => {
                    prop_assert_eq!(consumed, prefix.width());
                }
                _ => prop_assert!(false, "{}", error),
            },
        }
    }
}

/// Headers to send: none, or an object with a few keys.
fn any_header() -> impl Strategy<Value = Option<String>> {
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        "\\PC{0,20}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("[1,{\"a\":null}]".to_owned()),
    ];
    let object = vec(("[a-z]{1,8}", value), 0..5).prop_map(|fields| {
        let fields: Vec<String> = fields.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect();
        format!(" {{ {} }} ", fields.join(" , "))
    });
    prop::option::of(object)
}

/// Bytes that are a frame, nearly one, or none at all.
fn any_piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..12),
        "[{}\\[\\]\":,0-9a-e\\\\u. -]{0,40}".prop_map(|header| encoded(&header, b"")),
        (0usize..40, vec(any::<u8>(), 0..40))
            .prop_map(|(size, body)| { encoded(&format!("{{\"data_size\":{size}}}"), &body) }),
        vec(any::<u8>(), 0..40)
            .prop_map(|body| { encoded(&format!("{{\"data_size\":{}}}", body.len()), &body) }),
    ]
}
