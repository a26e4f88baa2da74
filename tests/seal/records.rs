//! The records of a session: order, form, sizes, keys, ends and memory.

use super::*;

#[test]
fn a_session_carries_bytes_both_ways_until_each_end() {
    for suite in SUITES {
        let (mut client, mut server, _) = sessions(suite);
        assert_eq!(client.hash, server.hash);
        assert_eq!((&client.key_id, &server.key_id), (&id("web-1"), &id("web-1")));
        assert_eq!((client.suite, server.suite), (suite, suite));
        let (from, to) = (&mut client, &mut server);
        let mut sent = Vec::new();
        assert_eq!(from.sealer.data(&[b"one ", b"two"], usize::MAX, &mut sent).unwrap(), 7);
        assert_eq!(open_all(&mut to.opener, &sent), (b"one two".to_vec(), Ok(Opened::More)));
        sent.clear();
        from.sealer.end(&mut sent).unwrap();
        assert!(from.sealer.has_ended() && !to.opener.has_ended());
        assert_eq!(to.opener.finish().unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(open_all(&mut to.opener, &sent), (Vec::new(), Ok(Opened::End)));
        to.opener.finish().unwrap();
        let more = from.sealer.data(&[b"x"], 1, &mut sent).unwrap_err();
        assert_eq!(more.kind(), ErrorKind::State);
        // The reply still comes.
        sent.clear();
        to.sealer.data(&[b"reply"], usize::MAX, &mut sent).unwrap();
        to.sealer.end(&mut sent).unwrap();
        assert_eq!(open_all(&mut from.opener, &sent), (b"reply".to_vec(), Ok(Opened::End)));
    }
}

#[test]
fn every_size_is_cut_into_records() {
    for suite in SUITES {
        let (mut client, mut server, _) = sessions(suite);
        for size in [1, 16_383, 16_384, 16_385, 65_518, 65_519, 1 << 20] {
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut sent = Vec::new();
            let (one, two) = bytes.split_at(size / 3);
            assert_eq!(client.sealer.data(&[one, two], usize::MAX, &mut sent).unwrap(), size);
            let records = size.div_ceil(SEAL_RECORD);
            assert_eq!(sent.len(), size + 19 * records);
            let (read, last) = open_all(&mut server.opener, &sent);
            assert!(read == bytes && last == Ok(Opened::More) && server.opener.is_empty());
        }
        // A peer may send larger ones, up to what the length holds.
        let mut sent = Vec::new();
        client.sealer.raw(0, &vec![1; 65_518], &mut sent).unwrap();
        assert_eq!(open_all(&mut server.opener, &sent), (vec![1; 65_518], Ok(Opened::More)));
        let error = client.sealer.raw(0, &vec![1; 65_519], &mut sent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth);
    }
}

#[test]
fn every_flipped_bit_of_a_record_is_found() {
    for suite in SUITES {
        // The last one is the first under another key.
        for used in [0, SEAL_RECORDS - 3].map(|records| Used { records, ..Used::default() }) {
            let key = [9; 32];
            let mut sealer = Sealer::with_key(suite, &key, used);
            let mut records = Vec::new();
            for text in [b"one", b"two", b"3.."] {
                let mut sent = Vec::new();
                sealer.data(&[text], 3, &mut sent).unwrap();
                records.push(sent);
            }
            let mut last = Vec::new();
            sealer.data(&[b"!!!!"], 4, &mut last).unwrap();
            records.push(last);
            let stream = records.concat();
            let lengths: Vec<usize> = records.iter().map(Vec::len).collect();
            for bit in 0..stream.len() * 8 {
                let mut bytes = stream.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut opener = Opener::with_key(suite, &key, used);
                let (read, last) = open_all(&mut opener, &bytes);
                let (mut whole, mut end) = (0, 0);
                while end + lengths[whole] <= bit / 8 {
                    end += lengths[whole];
                    whole += 1;
                }
                assert_eq!(read.len(), 3 * whole, "nothing of the changed record");
                // A length that became longer is a wait for what does not come.
                let is_length = bit / 8 - end < 2;
                assert!(last == Err(ErrorKind::Auth) || is_length && last == Ok(Opened::More));
                if last.is_err() {
                    assert!(opener.used().is_none() && opener.opened().is_empty());
                    assert_eq!(opener.feed(&[0]).unwrap_err().kind(), ErrorKind::Auth);
                    assert_eq!(opener.space().unwrap_err().kind(), ErrorKind::Auth);
                    assert_eq!(opener.finish().unwrap_err().kind(), ErrorKind::Auth);
                }
            }
        }
    }
}

/// Records of a session that is not the receiver's, or not in their order.
#[test]
fn records_come_once_in_order_and_from_the_peer() {
    for suite in SUITES {
        let records = |session: &mut Session| -> Vec<Vec<u8>> {
            let record = |text: &[u8]| {
                let mut sent = Vec::new();
                session.sealer.data(&[text], text.len(), &mut sent).unwrap();
                sent
            };
            [&b"one"[..], b"two", b"three"].map(record).to_vec()
        };
        let (mut strange, ..) = sessions(suite);
        let strange = records(&mut strange);
        let wrong: [(&str, &[usize], &[u8]); 5] = [
            ("dropped", &[0, 2], b"one"),
            ("repeated", &[0, 0], b"one"),
            ("swapped", &[1, 0], b""),
            ("of another session", &[0, 3, 1], b"one"),
            ("of the other direction", &[0, 1, 4], b"onetwo"),
        ];
        for (what, order, before) in wrong {
            let (mut client, mut server, _) = sessions(suite);
            let mut all = records(&mut client);
            all.push(strange[1].clone());
            all.push(records(&mut server)[2].clone());
            let bytes: Vec<u8> = order.iter().flat_map(|at| all[*at].clone()).collect();
            let (read, last) = open_all(&mut server.opener, &bytes);
            assert_eq!((&read[..], last), (before, Err(ErrorKind::Auth)), "{what}");
        }
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_was_cut() {
    for suite in SUITES {
        let (mut sealer, key) = (Sealer::with_key(suite, &[3; 32], Used::default()), [3; 32]);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for at in 0..9 {
            sealer.data(&[&[at; 5]], 5, &mut bytes).unwrap();
            ends.push(bytes.len());
        }
        sealer.end(&mut bytes).unwrap();
        for cut in 0..=bytes.len() {
            let mut opener = Opener::with_key(suite, &key, Used::default());
            let (read, last) = open_all(&mut opener, &bytes[..cut]);
            assert_eq!(read.len(), 5 * ends.iter().filter(|end| **end <= cut).count());
            let whole = cut == bytes.len();
            assert_eq!(last, Ok(if whole { Opened::End } else { Opened::More }));
            let kind = opener.finish().map_err(|error| error.kind());
            assert_eq!(kind, if whole { Ok(()) } else { Err(ErrorKind::Truncated) });
        }
    }
}

/// What the key allows and the protocol does not.
#[test]
fn records_of_wrong_form_are_refused() {
    let mut wrong: Vec<(u8, Vec<u8>)> = (4..=255).map(|kind| (kind, b"x".to_vec())).collect();
    wrong.extend([
        (0, vec![]),
        (1, vec![0]),
        (2, vec![]),
        (3, vec![]),
        (3, vec![0]),
        (3, vec![0, 1]),
        (3, vec![0, 3, 1, 2]),
        (3, vec![255; 100]),
    ]);
    for suite in SUITES {
        for (kind, body) in &wrong {
            let (mut client, mut server, _) = sessions_of(suite);
            let mut sent = Vec::new();
            client.raw(*kind, body, &mut sent).unwrap();
            client.data(&[b"later"], 5, &mut sent).unwrap();
            let (read, last) = open_all(&mut server, &sent);
            assert_eq!((&read[..], last), (&b""[..], Err(ErrorKind::Auth)), "{kind} {body:?}");
        }
        for length in 0..17_u16 {
            let (_, mut server, _) = sessions_of(suite);
            let last = open_all(&mut server, &length.to_be_bytes()).1;
            assert_eq!(last, Err(ErrorKind::Auth), "a length of {length}");
        }
        for (what, after) in
            [("END", None), ("DATA", Some(&b"x"[..])), ("half a record", Some(b""))]
        {
            let (mut client, mut server, _) = sessions_of(suite);
            let mut sent = Vec::new();
            client.raw(1, b"", &mut sent).unwrap();
            assert_eq!(open_all(&mut server, &sent), (Vec::new(), Ok(Opened::End)));
            sent.clear();
            match after {
                None => client.raw(1, b"", &mut sent).unwrap(),
                Some(b"") => sent.push(0),
                Some(text) => client.raw(0, text, &mut sent).unwrap(),
            }
            assert_eq!(open_all(&mut server, &sent).1, Err(ErrorKind::Auth), "{what} after END");
        }
        // Padding is taken: none, some, and nothing else.
        let (mut client, mut server, _) = sessions_of(suite);
        let mut sent = Vec::new();
        for body in [&b"\0\0"[..], b"\0\0xxxx", b"\0\x02hi", b"\0\x01!xxxxxx"] {
            client.raw(3, body, &mut sent).unwrap();
        }
        assert_eq!(open_all(&mut server, &sent), (b"hi!".to_vec(), Ok(Opened::More)));
    }
}

/// One direction of a session.
fn sessions_of(suite: Suite) -> (Sealer, Opener, [u8; 32]) {
    let key = [5; 32];
    let used = Used::default();
    (Sealer::with_key(suite, &key, used), Opener::with_key(suite, &key, used), key)
}

#[test]
fn the_last_number_is_never_used() {
    for suite in SUITES {
        let (key, used) = ([5; 32], Used { n: u64::MAX - 1, ..Used::default() });
        let mut sealer = Sealer::with_key(suite, &key, used);
        let mut opener = Opener::with_key(suite, &key, used);
        let mut sent = b"before".to_vec();
        sealer.data(&[b"last"], 4, &mut sent).unwrap();
        let len = sent.len();
        let error = sealer.data(&[b"none"], 4, &mut sent).unwrap_err();
        assert_eq!((error.kind(), sent.len(), sealer.used()), (ErrorKind::Auth, len, None));
        assert_eq!(sealer.end(&mut sent).unwrap_err().kind(), ErrorKind::Auth);
        assert_eq!(open_all(&mut opener, &sent[6..]), (b"last".to_vec(), Ok(Opened::More)));
        assert_eq!(open_all(&mut opener, &sent[6..]), (Vec::new(), Err(ErrorKind::Auth)));
        // Of a call that cannot seal all of its bytes, none are sealed.
        let mut sealer = Sealer::with_key(suite, &key, used);
        sent.clear();
        let long = vec![0; SEAL_RECORD + 1];
        assert!(sealer.data(&[&long], long.len(), &mut sent).is_err() && sent.is_empty());
    }
}

/// Both ends change the key after the same record: by number, and by size.
#[test]
fn a_key_is_replaced_at_its_limits() {
    for suite in SUITES {
        // A record of 5 bytes adds 22 to the sum of the lengths.
        for (records, bytes, is_replaced) in [
            (SEAL_RECORDS - 2, 0, false),
            (SEAL_RECORDS - 1, 0, true),
            (7, SEAL_BYTES - 23, false),
            (7, SEAL_BYTES - 22, true),
            (7, SEAL_BYTES - 21, true),
        ] {
            let (key, used) = ([5; 32], Used { n: 12_345, records, bytes });
            let mut sealer = Sealer::with_key(suite, &key, used);
            let mut opener = Opener::with_key(suite, &key, used);
            let mut sent = Vec::new();
            for n in 0..4_u64 {
                let before = sent.len();
                sealer.data(&[b"12345"], 5, &mut sent).unwrap();
                let last = open_all(&mut opener, &sent[before..]);
                assert_eq!(last, (b"12345".to_vec(), Ok(Opened::More)));
                assert_eq!(sealer.used(), opener.used());
                let after = sealer.used().unwrap();
                let fresh = if is_replaced { n } else { n.saturating_sub(1) };
                assert_eq!(after.n, 12_346 + n);
                if n == 0 && !is_replaced {
                    assert_eq!((after.records, after.bytes), (records + 1, bytes + 22));
                } else {
                    assert_eq!((after.records, after.bytes), (fresh, 22 * fresh));
                }
            }
            // A reader that does not change its key reads no further.
            let mut opener = Opener::with_key(suite, &key, Used { n: 12_345, ..Used::default() });
            let (read, last) = open_all(&mut opener, &sent);
            assert_eq!(read.len(), if is_replaced { 5 } else { 10 });
            assert_eq!(last, Err(ErrorKind::Auth));
        }
    }
}

/// A length is no reason for memory: that grows with the bytes that came.
#[test]
fn memory_follows_what_came() {
    let (mut sealer, mut opener, _) = sessions_of(Suite::AesGcm);
    opener.feed(&[255, 255]).unwrap();
    for _ in 0..10 {
        assert_eq!(opener.open().unwrap(), Opened::More);
        assert!(opener.space().unwrap().capacity() <= 2 * READ_AHEAD_MIN);
    }
    // A stream that flows gets larger reads, up to a limit; an idle one gives all back.
    let mut opener = sessions_of(Suite::AesGcm).1;
    let (bytes, mut largest, mut sent) = (vec![1; 1 << 20], 0, Vec::new());
    sealer.data(&[&bytes], bytes.len(), &mut sent).unwrap();
    let (mut left, mut received) = (&sent[..], 0);
    while !left.is_empty() {
        let space = opener.space().unwrap();
        let room = space.capacity() - space.len();
        assert!(room > 0);
        let (first, rest) = left.split_at(room.min(left.len()));
        space.extend_from_slice(first);
        left = rest;
        largest = largest.max(space.capacity());
        while opener.open().unwrap() == Opened::Data {
            received += opener.opened().len();
            opener.take(opener.opened().len());
        }
    }
    assert_eq!(received, bytes.len());
    assert!((READ_AHEAD_MAX..=3 * READ_AHEAD_MAX).contains(&largest), "{largest}");
    assert!(opener.is_empty());
    opener.release();
    assert!(opener.space().unwrap().capacity() <= READ_AHEAD_MIN);
}

/// Bytes that are taken in small pieces, while more come.
#[test]
fn opened_bytes_stay_until_they_are_taken() {
    let (mut sealer, mut opener, _) = sessions_of(Suite::ChaChaPoly);
    let bytes: Vec<u8> = (0..=250).cycle().take(200_000).collect();
    let mut sent = Vec::new();
    sealer.data(&[&bytes], bytes.len(), &mut sent).unwrap();
    let mut read = Vec::new();
    for piece in sent.chunks(777) {
        opener.feed(piece).unwrap();
        if opener.open().unwrap() == Opened::Data {
            let some = opener.opened().len().min(1000);
            read.extend_from_slice(&opener.opened()[..some]);
            opener.take(some);
        }
    }
    let (rest, last) = open_all(&mut opener, &[]);
    read.extend(rest);
    assert!(read == bytes && last == Ok(Opened::More) && opener.is_empty());
}

/// The same without a start near the limit: a record more than a million.
#[test]
fn a_key_is_replaced_after_a_million_records() {
    let (mut sealer, mut opener, key) = sessions_of(Suite::AesGcm);
    let mut sent = Vec::new();
    for n in 0..=SEAL_RECORDS {
        sent.clear();
        sealer.data(&[b"x"], 1, &mut sent).unwrap();
        opener.feed(&sent).unwrap();
        assert_eq!(opener.open().unwrap(), Opened::Data);
        opener.take(1);
        assert_eq!(sealer.used().unwrap().n, n + 1);
    }
    assert_eq!((sealer.used(), opener.used()), (opener.used(), sealer.used()));
    assert_eq!(sealer.used().unwrap(), Used { n: SEAL_RECORDS + 1, records: 1, bytes: 18 });
    let old = Used { n: SEAL_RECORDS, ..Used::default() };
    let last = open_all(&mut Opener::with_key(Suite::AesGcm, &key, old), &sent).1;
    assert_eq!(last, Err(ErrorKind::Auth), "not with the first key");
}
