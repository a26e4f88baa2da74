//! The decoder, the reader and the stateless functions find the same frames in the same bytes
//! and end with the same error, however the bytes are cut.

mod common;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use common::channel::socket_pair;
use common::encoded;
use framefd::ErrorKind;
use framefd::ops::frame::{self, Options};
use framefd::ops::reader::Reader;
use framefd::wire::decoder::Decoder;
use framefd::wire::packet::PrefixFormat;
use proptest::collection::vec;
use proptest::prelude::*;

/// What is found in a stream: the messages, and why there is no further one.
#[derive(Debug, PartialEq)]
struct Found {
    messages: Vec<(String, Vec<u8>)>,
    end: ErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Frames,
    Packets,
    /// Frames whose bodies are taken in pieces, so that their size has no limit.
    Streamed,
}

const SMALL: u64 = 200;

fn options(prefix: PrefixFormat) -> Options {
    Options {
        timeout: Some(Duration::from_secs(10)),
        max_header: 100,
        max_depth: 4,
        max_body: SMALL,
        prefix,
    }
}

fn by_stateless(bytes: &[u8], what: What, options: &Options) -> Found {
    let (mut peer, fd) = socket_pair();
    peer.write_all(bytes).unwrap();
    drop(peer);
    let mut messages = Vec::new();
    let end = loop {
        let next = match what {
            What::Frames => frame::recv(fd.as_fd(), options)
                .map(|frame| (frame.header.text().to_owned(), frame.body)),
            What::Packets => {
                frame::recv_packet(fd.as_fd(), options).map(|body| (String::new(), body))
            }
            What::Streamed => {
                frame::recv_header(fd.as_fd(), options).and_then(|(header, mut body)| {
                    Ok((header.text().to_owned(), body.read_all(u64::MAX, options.timeout)?))
                })
            }
        };
        match next {
            Ok(message) => messages.push(message),
            Err(error) => break error.kind(),
        }
    };
    Found { messages, end }
}

fn by_reader(bytes: &[u8], what: What, options: &Options) -> Found {
    let (mut peer, fd) = socket_pair();
    peer.write_all(bytes).unwrap();
    drop(peer);
    let mut reader = Reader::new(fd.as_fd(), options);
    let mut messages = Vec::new();
    let mut next = |reader: &mut Reader<'_>| {
        let view = match what {
            What::Frames => reader.next_frame()?,
            What::Packets => reader.next_packet()?,
            What::Streamed => reader.next_header()?,
        };
        let (header, mut body) = (view.header().to_owned(), view.body().to_vec());
        let mut piece = [0; 7];
        while reader.left() > 0 {
            let got = reader.read(&mut piece, None, options.timeout)?;
            body.extend_from_slice(&piece[..got]);
        }
        messages.push((header, body));
        Ok(())
    };
    let end = loop {
        if let Err(error) = next(&mut reader) {
            let error: framefd::Error = error;
            break error.kind();
        }
    };
    Found { messages, end }
}

/// The bytes are fed in pieces that end at `cuts`.
fn by_decoder(bytes: &[u8], cuts: &[usize], what: What, options: &Options) -> Found {
    let mut decoder = Decoder::new(options.limits());
    let mut messages: Vec<(String, Vec<u8>)> = Vec::new();
    let mut next = |decoder: &mut Decoder| {
        if decoder.left() > 0 {
            let piece = decoder.body(usize::MAX);
            messages.last_mut().unwrap().1.extend_from_slice(piece);
            return Ok(!piece.is_empty());
        }
        let view = match what {
            What::Frames => decoder.next_frame()?,
            What::Packets => decoder.next_packet()?,
            What::Streamed => decoder.next_header()?,
        };
        let found = view.map(|view| (view.header().to_owned(), view.body().to_vec()));
        let is_found = found.is_some();
        messages.extend(found);
        Ok(is_found)
    };
    let mut from = 0;
    let mut failed: Option<framefd::Error> = None;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        let to = to.clamp(from, bytes.len());
        if decoder.feed(&bytes[from..to]).is_err() {
            break;
        }
        from = to;
        loop {
            match next(&mut decoder) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
    }
    let end = decoder.end();
    if let Some(failed) = failed {
        assert_eq!(failed, end, "an error sticks");
    }
    // The other two give no body that was cut.
    if decoder.left() > 0 {
        messages.pop();
    }
    Found { messages, end: end.kind() }
}

fn agree(bytes: &[u8], cuts: &[usize], what: What, prefix: PrefixFormat) -> Found {
    let options = options(prefix);
    let found = by_stateless(bytes, what, &options);
    assert_eq!(by_reader(bytes, what, &options), found, "the reader, {what:?}");
    assert_eq!(by_decoder(bytes, cuts, what, &options), found, "the decoder, {what:?}");
    found
}

/// Streams that have every end there is, and what it is.
fn streams() -> Vec<(Vec<u8>, usize, ErrorKind)> {
    let mut good = encoded(r#"{"data_size":5}"#, b"hello");
    good.extend(encoded("{}", b""));
    good.extend(encoded(r#" {"a":[1,{"b":null}],"data_size":0}"#, b""));
    good.extend(encoded(r#"{"data_size":200,"k":"v"}"#, &[b'x'; 200]));
    let and = |bytes: &[u8]| [&good, bytes].concat();
    vec![
        (good.clone(), 4, ErrorKind::Closed),
        (and(b"\x02\0"), 4, ErrorKind::Truncated),
        (and(b"\x02\0\0\0{"), 4, ErrorKind::Truncated),
        (and(&encoded(r#"{"data_size":5}"#, b"hell")), 4, ErrorKind::Truncated),
        (and(&encoded(r#"{"data_size":201}"#, b"")), 4, ErrorKind::TooBig),
        (and(b"\xff\xff\xff\xff"), 4, ErrorKind::BadLength),
        (and(b"\0\0\0\0"), 4, ErrorKind::BadLength),
        (and(b"GET / HTTP/1.1\r\n"), 4, ErrorKind::TooBig),
        (and(&encoded("[]", b"")), 4, ErrorKind::BadJson),
        (and(&encoded(r#"{"a":[[[[1]]]]}"#, b"")), 4, ErrorKind::BadJson),
        (and(&encoded(r#"{"data_size":-1}"#, b"")), 4, ErrorKind::BadField),
        (and(&encoded(r#"{"data_size":1,"data\u005fsize":1}"#, b"x")), 4, ErrorKind::BadField),
    ]
}

#[test]
fn every_end_is_the_same_at_every_split() {
    for (bytes, count, end) in streams() {
        for cut in 0..=bytes.len() {
            let options = options(PrefixFormat::default());
            let found = by_decoder(&bytes, &[cut], What::Frames, &options);
            assert_eq!((found.messages.len(), found.end), (count, end), "cut at {cut}");
        }
        let each: Vec<usize> = (0..bytes.len()).collect();
        let found = agree(&bytes, &each, What::Frames, PrefixFormat::default());
        assert_eq!((found.messages.len(), found.end), (count, end));
        agree(&bytes, &each, What::Streamed, PrefixFormat::default());
    }
}

#[test]
fn every_cut_of_a_stream_is_noticed_alike() {
    for (bytes, ..) in streams() {
        for end in 0..bytes.len() {
            for what in [What::Frames, What::Streamed] {
                agree(&bytes[..end], &[end / 2], what, PrefixFormat::default());
            }
        }
    }
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![
        (0..300_u32).prop_map(|size| format!(r#"{{"data_size":{size}}}"#)),
        (0..9_u32, "[a-z]{1,5}").prop_map(|(size, key)| {
            format!(r#"{{"{key}x":{{"n":[{size}]}}, "data_size": {size}}}"#)
        }),
        r#"[{]"data_size":[-0-9.e"]{0,4}[}]"#,
        ".{0,8}",
    ];
    let frame = (header, vec(any::<u8>(), 0..9)).prop_map(|(header, body)| encoded(&header, &body));
    let piece = prop_oneof![9 => frame, 1 => vec(any::<u8>(), 0..12)];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn any_prefix() -> impl Strategy<Value = PrefixFormat> {
    (0..4_u32, any::<bool>(), any::<bool>())
        .prop_map(|(log, big, unsigned)| PrefixFormat::new(1 << log, big, unsigned).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_alike(
        bytes in any_stream(),
        cuts in vec(0..400_usize, 0..6),
        what in prop_oneof![Just(What::Frames), Just(What::Packets), Just(What::Streamed)],
        prefix in any_prefix(),
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        agree(&bytes, &cuts, what, prefix);
    }
}
