//! Every row of tests/vectors: the stream read as a file, which tells how much of it was
//! consumed, and read from a socket that delivers it byte by byte.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use common::channel::{socket_pair, unread};
use framefd::ops::frame::{self, Options};
use framefd::wire::datagram::{DatagramKeys, decode, encode};
use framefd::wire::frame::packet::PrefixFormat;
use framefd::{ErrorKind, Key};

#[test]
fn frames() {
    let files = by_file("frames");
    assert!(files.len() > 100, "{} files", files.len());
    for (name, rows) in files {
        read_both_ways(&format!("frames/{name}"), rows.len(), |fd, at, content| {
            let [_, result, header, body, consumed, options] = &rows[at][..] else {
                panic!("{:?}", rows[at])
            };
            let expected: usize = consumed.parse().unwrap();
            let received = frame::recv(fd, &frame_options(options));
            match received {
                Ok(frame) => {
                    assert_eq!(result, "ok", "{name}");
                    let (sent_header, sent_body) =
                        content[4..expected].split_at(frame.header.text().len());
                    assert!(frame.header.text().as_bytes() == sent_header, "{name}");
                    assert!(frame.body == sent_body, "{name}");
                    assert!(fits(header, sent_header, |text| text.as_bytes().to_vec()), "{name}");
                    assert!(fits(body, sent_body, unhex), "{name}");
                }
                Err(error) => assert_eq!(error.kind(), kind_of(result), "{name}: {error}"),
            }
            expected
        });
    }
}

#[test]
fn packets() {
    let files = by_file("packets");
    assert!(files.len() > 20, "{} files", files.len());
    for (name, rows) in files {
        read_both_ways(&format!("packets/{name}"), rows.len(), |fd, at, content| {
            let [_, result, payload, consumed, width, order, sign, max] = &rows[at][..] else {
                panic!("{:?}", rows[at])
            };
            let expected: usize = consumed.parse().unwrap();
            let width = width.parse().unwrap();
            let prefix = PrefixFormat::new(width, order == "big", sign == "unsigned").unwrap();
            let max_body = max.parse().unwrap_or(u64::MAX);
            let received = frame::recv_packet(fd, &Options { prefix, max_body, ..options() });
            match received {
                Ok(data) => {
                    assert_eq!(result, "ok", "{name}");
                    assert!(data == content[prefix.width()..expected], "{name}");
                    assert!(fits(payload, &data, unhex), "{name}");
                }
                Err(error) => assert_eq!(error.kind(), kind_of(result), "{name}: {error}"),
            }
            expected
        });
    }
}

#[test]
fn answers_to_a_challenge() {
    let rows = rows("auth");
    assert!(rows.len() > 10, "{} rows", rows.len());
    for row in rows {
        let [name, key, challenge, answer] = &row[..] else { panic!("{row:?}") };
        let key = Key::new_short(&unhex(key)).unwrap();
        let (mut server, client) = socket_pair();
        server.write_all(&unhex(challenge)).unwrap();
        framefd::ops::auth::client(client.as_fd().into(), &key, Duration::from_secs(10)).unwrap();
        let mut answered = [0; 32];
        server.read_exact(&mut answered).unwrap();
        assert_eq!(answered[..], unhex(answer), "{name}");
        assert_eq!(unread(&server), 0, "{name}");
    }
}

#[test]
fn datagrams() {
    let rows = rows("datagrams");
    assert!(rows.len() > 30, "{} rows", rows.len());
    for row in rows {
        let [name, key, direction, result, datagram] = &row[..] else { panic!("{row:?}") };
        let keys = DatagramKeys::derive(&Key::new(&unhex(key)).unwrap()).unwrap();
        let tag = if direction == "request" { keys.request } else { keys.reply };
        let datagram = unhex(datagram);
        match decode(&datagram, Some(&tag)) {
            Ok((header, body)) => {
                assert_eq!((&result[..], body), ("ok", &b"true"[..]), "{name}");
                let text = header.text().replacen(r#""data_size":4,"#, "", 1);
                assert!(encode(Some(&text), body, Some(&tag), 8192).unwrap() == datagram, "{name}");
            }
            Err(error) => assert_eq!(error.kind(), kind_of(result), "{name}"),
        }
    }
}

/// Makes the `reads` of one file with `read`, which returns how many bytes it expects to
/// have consumed of the content it is shown.
fn read_both_ways(
    name: &str,
    reads: usize,
    read: impl Fn(BorrowedFd<'_>, usize, &[u8]) -> usize + Sync,
) {
    let content = std::fs::read(root().join(name)).unwrap();

    let mut file = File::open(root().join(name)).unwrap();
    let mut position = 0;
    for at in 0..reads {
        position += read(file.as_fd(), at, &content[position..]);
        assert_eq!(file.stream_position().unwrap(), position as u64, "{name}");
    }
    if name.contains("/good/") {
        assert_eq!(position, content.len(), "{name}");
        assert_eq!(common::kind(frame::recv(file.as_fd(), &options())), ErrorKind::Closed);
    }

    let (mut peer, fd) = socket_pair();
    thread::scope(|scope| {
        let (fd, content, read) = (&fd, &content, &read);
        let reading = scope.spawn(move || {
            let mut position = 0;
            for at in 0..reads {
                position += read(fd.as_fd(), at, &content[position..]);
            }
        });
        // One by one where that does not take long.
        for piece in content.chunks(1 + content.len() / 8192) {
            peer.write_all(piece).unwrap();
            while unread(fd) > 0 && !reading.is_finished() {
                thread::yield_now();
            }
        }
        peer.shutdown(Shutdown::Write).unwrap();
    });
}

fn options() -> Options {
    Options { timeout: Some(Duration::from_secs(10)), ..Options::default() }
}

fn frame_options(column: &str) -> Options {
    let mut options = options();
    if let Some((name, value)) = column.split_once('=') {
        let value = value.parse().unwrap();
        match name {
            "max_header" => options.max_header = value,
            "max_body" => options.max_body = value,
            _ => panic!("no option {name}"),
        }
    }
    options
}

fn kind_of(result: &str) -> ErrorKind {
    match result {
        "CLOSED" => ErrorKind::Closed,
        "TRUNCATED" => ErrorKind::Truncated,
        "BADLENGTH" => ErrorKind::BadLength,
        "AUTH" => ErrorKind::Auth,
        "TOOBIG" => ErrorKind::TooBig,
        "BADJSON" => ErrorKind::BadJson,
        "BADFIELD" => ErrorKind::BadField,
        _ => panic!("succeeded where {result} was expected"),
    }
}

/// Whether a column is what was received: itself, or `@` and how long it is.
fn fits(column: &str, received: &[u8], decode: impl Fn(&str) -> Vec<u8>) -> bool {
    match column.strip_prefix('@') {
        Some(length) => length.parse() == Ok(received.len()),
        None if column == "-" => received.is_empty(),
        None => decode(column) == received,
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn by_file(folder: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut files: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for row in rows(folder) {
        files.entry(row[0].clone()).or_default().push(row);
    }
    files
}

fn rows(folder: &str) -> Vec<Vec<String>> {
    let index = std::fs::read_to_string(root().join(folder).join("index.tsv")).unwrap();
    let lines = index.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}
