//! What needs a fixed private key, a count of the calls of cryptography, or a kernel without
//! random numbers. The rest is in tests/seal.rs.

use snow::Builder;

use super::cipher::Used;
use super::handshake::{Handshake, Session, Step};
use super::noise::fixed;
use super::record::{Opened, Opener, Sealer};
use super::resolver::{Resolver, calls};
use super::terms::{ServerName, Suite, Terms};
use crate::ErrorKind;
use crate::limits::SEAL_RECORDS;
use crate::wire::auth::{Key, KeyId};

const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

#[test]
fn the_vectors_of_a_session() {
    let index = include_str!("../../../tests/vectors/seal/index.tsv");
    let rows: Vec<Vec<&str>> = index.lines().skip(1).map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let suite = Suite::from_wire(row[0].parse().unwrap()).unwrap();
        let terms = Terms {
            client_serves: row[1] == "1",
            name: ServerName::new(row[3].as_bytes()).unwrap(),
        };
        let (id, key) = (KeyId::new(row[2].as_bytes()).unwrap(), Key::new(&unhex(row[4])).unwrap());
        fixed::set(&[array(row[5]), array(row[6])]);
        let (client, sent) = Handshake::client(&key, &id, &terms, suite).unwrap();
        assert_eq!(sent, unhex(row[9]));
        let mut server = Handshake::server(&terms).unwrap();
        let Step::Reply(reply) = drive(&mut server, &sent, &key) else { panic!() };
        assert_eq!(reply, unhex(row[10]));
        let mut client = client;
        let Step::Done { session, confirm } = drive(&mut client, &reply, &key) else { panic!() };
        assert_eq!((&session.key_id, session.suite), (&id, suite));
        assert_eq!(session.hash[..], unhex(row[11]));
        let records: Vec<Vec<u8>> = row[14].split(',').map(unhex).collect();
        assert_eq!(confirm, records[0]);
        let Step::Done { session: at_server, confirm } = drive(&mut server, &confirm, &key) else {
            panic!()
        };
        assert!(confirm.is_empty());
        assert_eq!((at_server.key_id, at_server.suite), (id, suite));
        assert_eq!(at_server.hash[..], unhex(row[11]));
        client_records(suite, &array(row[12]), &records);
        let records: Vec<Vec<u8>> = row[15].split(',').map(unhex).collect();
        server_records(*session, at_server.sealer, &array(row[13]), &records);
    }
}

/// The client's direction, which is rekeyed after its second record.
fn client_records(suite: Suite, key: &[u8; 32], records: &[Vec<u8>]) {
    let used = Used { n: 1, records: SEAL_RECORDS - 1, bytes: 17 };
    let mut sealer = Sealer::with_key(suite, key, used);
    let (mut sent, mut opener) = (Vec::new(), Opener::with_key(suite, key, used));
    sealer.data(&[b"he", b"", b"llo"], 10, &mut sent).unwrap();
    assert_eq!(sealer.used().unwrap(), Used { n: 2, records: 0, bytes: 0 });
    sealer.raw(3, b"\0\x02hi\0\0\0\0", &mut sent).unwrap();
    sealer.end(&mut sent).unwrap();
    assert_eq!(sent, records[1..].concat());
    let mut read = Vec::new();
    for byte in sent {
        opener.feed(&[byte]).unwrap();
        while opener.open().unwrap() == Opened::Data {
            read.extend_from_slice(opener.opened());
            opener.take(opener.opened().len());
        }
    }
    assert_eq!((&read[..], opener.has_ended()), (&b"hellohi"[..], true));
}

fn server_records(mut at_client: Session, mut sealer: Sealer, key: &[u8; 32], records: &[Vec<u8>]) {
    let mut sent = Vec::new();
    assert_eq!(sealer.data(&[b"worldwide"], 5, &mut sent).unwrap(), 5);
    sealer.end(&mut sent).unwrap();
    assert_eq!(sent, records.concat());
    let fresh = Opener::with_key(at_client.suite, key, Used::default());
    for mut opener in [fresh, at_client.opener] {
        opener.feed(&sent).unwrap();
        assert_eq!((opener.open().unwrap(), opener.opened()), (Opened::Data, &b"world"[..]));
        opener.take(5);
        assert_eq!(opener.open().unwrap(), Opened::End);
        opener.finish().unwrap();
    }
    at_client.sealer.end(&mut sent).unwrap();
}

/// The vectors that snow publishes for the two suites, from cacophony.
#[test]
fn the_published_vectors_of_noise() {
    let psk: [u8; 32] = *b"This is my Austrian perspective!";
    let privates = [
        array("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"),
        array("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"),
    ];
    for (suite, name, hash, messages) in CACOPHONY {
        let [mut client, mut server] = [true, false].map(|is_client| {
            Builder::with_resolver(name.parse().unwrap(), Box::new(Resolver(suite)))
                .psk(0, &psk)
                .and_then(|builder| builder.prologue(b"John Galt"))
                .map(|builder| {
                    builder.fixed_ephemeral_key_for_testing_only(&privates[usize::from(!is_client)])
                })
                .and_then(|builder| {
                    if is_client { builder.build_initiator() } else { builder.build_responder() }
                })
                .unwrap()
        });
        let (mut out, mut read) = ([0; 100], [0; 100]);
        for (at, (payload, expected)) in messages[..2].iter().enumerate() {
            let (payload, expected) = (unhex(payload), unhex(expected));
            let (from, to) =
                if at == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let len = from.write_message(&payload, &mut out).unwrap();
            assert_eq!(out[..len], expected);
            let len = to.read_message(&expected, &mut read).unwrap();
            assert_eq!(read[..len], payload);
        }
        assert_eq!(client.get_handshake_hash(), unhex(hash));
        let (ours, theirs) = client.dangerously_get_raw_split();
        // The records, by the cipher that ours are made with.
        for (at, (payload, expected)) in messages[2..].iter().enumerate() {
            let key =
                super::cipher::CipherKey::new(suite, if at % 2 == 0 { &ours } else { &theirs });
            let (mut text, n) = (unhex(payload), at as u64 / 2);
            let tag = key.seal(n, &[], &mut text).unwrap();
            assert_eq!([&text[..], &tag].concat(), unhex(expected));
            key.open(n, &[], &mut text, tag).unwrap();
            assert_eq!(text, unhex(payload));
        }
    }
}

/// Records are what snow makes of the same bytes, in both directions and with changed keys.
#[test]
fn records_are_those_of_snow() {
    for suite in SUITES {
        let name = CACOPHONY.iter().find(|(of, ..)| *of == suite).unwrap().1;
        let [mut client, mut server] = [true, false].map(|is_client| {
            let builder = Builder::with_resolver(name.parse().unwrap(), Box::new(Resolver(suite)));
            let builder = builder.psk(0, &[3; 32]).unwrap();
            if is_client { builder.build_initiator() } else { builder.build_responder() }.unwrap()
        });
        let (mut bytes, mut out) = ([0; 100], vec![0; 65_535]);
        let len = client.write_message(&[], &mut bytes).unwrap();
        server.read_message(&bytes[..len], &mut []).unwrap();
        let len = server.write_message(&[], &mut bytes).unwrap();
        client.read_message(&bytes[..len], &mut []).unwrap();
        let (k1, k2) = client.dangerously_get_raw_split();
        let mut transports =
            [client, server].map(|state| state.into_transport_mode().expect("it is finished"));
        let used = Used { records: SEAL_RECORDS - 3, ..Used::default() };
        for (from, key) in [k1, k2].iter().enumerate() {
            let mut sealer = Sealer::with_key(suite, key, used);
            let mut opener = Opener::with_key(suite, key, used);
            for (n, size) in [1, 2, 100, 16_384, 5, 16].into_iter().enumerate() {
                if n == 3 {
                    transports[from].rekey_outgoing();
                    transports[1 - from].rekey_incoming();
                }
                let text = vec![7; size];
                let mut sent = Vec::new();
                sealer.data(&[&text], size, &mut sent).unwrap();
                let plain = [&[0], &text[..]].concat();
                let len = transports[from].write_message(&plain, &mut out).unwrap();
                assert_eq!(sent[2..], out[..len], "record {n}");
                let read = transports[1 - from].read_message(&sent[2..], &mut out).unwrap();
                assert_eq!(out[..read], plain);
                opener.feed(&sent).unwrap();
                assert_eq!((opener.open().unwrap(), opener.opened()), (Opened::Data, &text[..]));
                opener.take(size);
            }
        }
    }
}

#[test]
fn a_wrong_length_is_refused_before_any_cryptography() {
    let (key, id) = (Key::new(&[1; 32]).unwrap(), KeyId::default());
    for suite in SUITES {
        let (_, sent) = Handshake::client(&key, &id, &Terms::default(), suite).unwrap();
        for len in [0_u16, 1, 47, 49, 148, 65_535] {
            let mut server = Handshake::server(&Terms::default()).unwrap();
            let mut client = Handshake::client(&key, &id, &Terms::default(), suite).unwrap().0;
            let mut bytes = sent[..6].to_vec();
            bytes.extend(len.to_be_bytes());
            let made = calls::during(|| {
                assert_eq!(refusal(&mut server, &bytes, &key), ErrorKind::Auth);
            });
            assert_eq!(made, calls::Calls::default(), "a length of {len}");
            let made = calls::during(|| {
                assert_eq!(refusal(&mut client, &bytes[6..], &key), ErrorKind::Auth);
            });
            // What it had is overwritten by a state that has hashed its name.
            assert_eq!(made, calls::Calls { hash: made.hash, ..calls::Calls::default() });
        }
    }
}

/// What a connection costs its server, before it knows that the client has the key.
#[test]
fn a_stranger_costs_no_curve_and_a_replay_two() {
    let (key, id) = (Key::new(&[1; 32]).unwrap(), KeyId::default());
    for suite in SUITES {
        let (mut client, sent) = Handshake::client(&key, &id, &Terms::default(), suite).unwrap();
        let mut strange = sent.clone();
        *strange.last_mut().unwrap() ^= 1;
        let mut server = Handshake::server(&Terms::default()).unwrap();
        let made = calls::during(|| {
            assert_eq!(refusal(&mut server, &strange, &key), ErrorKind::Auth);
        });
        assert_eq!((made.curve, made.random, made.cipher), (0, 0, 1), "{made:?}");
        for _ in 0..2 {
            let mut server = Handshake::server(&Terms::default()).unwrap();
            let mut reply = Vec::new();
            let made = calls::during(|| {
                let Step::Reply(bytes) = drive(&mut server, &sent, &key) else { panic!() };
                reply = bytes;
            });
            assert_eq!((made.curve, made.random, made.cipher), (2, 1, 2), "{made:?}");
            let made = calls::during(|| {
                let _ = drive_some(&mut client, &reply, &key);
            });
            // The first reply ends this client's handshake.
            assert!(made.curve <= 1, "{made:?}");
        }
    }
}

#[test]
fn without_random_numbers_there_is_no_handshake() {
    let (key, id) = (Key::new(&[1; 32]).unwrap(), KeyId::default());
    let terms = Terms::default();
    let made = calls::without_random(|| Handshake::client(&key, &id, &terms, Suite::AesGcm));
    assert_eq!(made.err().unwrap().kind(), ErrorKind::Key);
    let (_, sent) = Handshake::client(&key, &id, &terms, Suite::AesGcm).unwrap();
    let mut server = Handshake::server(&terms).unwrap();
    let kind = calls::without_random(|| refusal(&mut server, &sent, &key));
    assert_eq!(kind, ErrorKind::Key);
    assert_eq!(server.step(&[0], &|_| key.clone()).err().unwrap().kind(), ErrorKind::Key);
}

/// Gives `bytes` to `end`, which takes all of them; the last step.
fn drive(end: &mut Handshake, bytes: &[u8], key: &Key) -> Step {
    drive_some(end, bytes, key).unwrap()
}

fn refusal(end: &mut Handshake, bytes: &[u8], key: &Key) -> ErrorKind {
    drive_some(end, bytes, key).err().expect("it is refused").kind()
}

fn drive_some(end: &mut Handshake, mut bytes: &[u8], key: &Key) -> crate::Result<Step> {
    loop {
        let (first, rest) = bytes.split_at(end.needs().min(bytes.len()));
        let step = end.step(first, &|_| key.clone())?;
        bytes = rest;
        if bytes.is_empty() {
            return Ok(step);
        }
        assert!(matches!(step, Step::More));
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn array(text: &str) -> [u8; 32] {
    unhex(text).try_into().unwrap()
}

type Messages = [(&'static str, &'static str); 6];

const CACOPHONY: [(Suite, &str, &str, Messages); 2] = [
    (
        Suite::AesGcm,
        "Noise_NNpsk0_25519_AESGCM_SHA256",
        "9f3b1f9afd7767767b5b9d1069844a6154fdbdcc36dfb3e31c0fffc5c973d530",
        [
            (
                "4c756477696720766f6e204d69736573",
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79447c37a8\
             9fc17813788d30df2d59501d6066f5f8aecc3406bbd9829f2d24a531b1",
            ),
            (
                "4d757272617920526f746862617264",
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088432f29d7\
             9368ef9de4e1ae7a362fb05bf0ad668e026bf5714554497b3a720461",
            ),
            ("462e20412e20486179656b", "7c01e898a6201f36aecee532e29cd0b7f8ffa29d3366ad0dce39a6"),
            ("4361726c204d656e676572", "a9ff535aace3db6a1da1a7fb00fe2de2622bb373abad9fb42c00e0"),
            (
                "4a65616e2d426170746973746520536179",
                "6cfc49a3e65472edc2d0152abe5ce950170a8a47c959f30bd48b5f0aacf29adbfd",
            ),
            (
                "457567656e2042f6686d20766f6e2042617765726b",
                "9bc86e6d974ed21ba04604a94aa68de21677eb409ead070c0cd569b069ee19ba142aa4\
             c1a9",
            ),
        ],
    ),
    (
        Suite::ChaChaPoly,
        "Noise_NNpsk0_25519_ChaChaPoly_SHA256",
        "f4d03dc34495c95729ea6de9e1b59004b59733102488b3e24bc441e0be208eaf",
        [
            (
                "4c756477696720766f6e204d69736573",
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c794479b962\
             b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54",
            ),
            (
                "4d757272617920526f746862617264",
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843d60627\
             04d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3",
            ),
            ("462e20412e20486179656b", "e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f"),
            ("4361726c204d656e676572", "64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e"),
            (
                "4a65616e2d426170746973746520536179",
                "e2fa0bed0603b62d3ccac2ecabbf3fe33f3e86514909b323361626266cb2471cc8",
            ),
            (
                "457567656e2042f6686d20766f6e2042617765726b",
                "0c01dc9cec1fe4ddd692e8dd32188aa351088dc91183639a53b57aa4692b5ebdef8b8c\
             a111",
            ),
        ],
    ),
];
