//! The decoder, a connection and the stateless functions find the same frames in the same bytes
//! and end with the same error, however the bytes are cut.

mod common;

use common::agreement::{What, agree};
use common::{cases, encoded};
use framefd::ErrorKind;
use framefd::wire::frame::packet::PrefixFormat;
use proptest::collection::vec;
use proptest::prelude::*;

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
            let found = agree(&bytes, &[cut], What::Frames, PrefixFormat::default());
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
    #![proptest_config(ProptestConfig::with_cases(cases(512)))]

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
