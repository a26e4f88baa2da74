//! Records that one end seals and the other opens, against the same bytes without a seal; and
//! any bytes that are sealed as a record of any kind.

#![no_main]

use framefd::limits::{SEAL_BYTES, SEAL_RECORD, SEAL_RECORDS};
use framefd::wire::seal::Used;
use framefd::wire::seal::record::{Opened, Opener, Sealer};
use framefd::wire::seal::terms::Suite;
use libfuzzer_sys::fuzz_target;

// Pairs of bytes are actions: what, and how much.
fuzz_target!(|input: &[u8]| {
    let Some(([what, records, bytes], actions)) = input.split_first_chunk::<3>() else { return };
    let suite = if what & 1 == 0 { Suite::AesGcm } else { Suite::ChaChaPoly };
    // Near the limits of a key.
    let records = SEAL_RECORDS - 1 - u64::from(*records % 16);
    let used = Used { n: 0, records, bytes: SEAL_BYTES - 1 - 64 * u64::from(*bytes) };
    let key = [*what; 32];
    let mut sealer = Sealer::with_key(suite, &key, used);
    let mut opener = Opener::with_key(suite, &key, used);
    let text: Vec<u8> = (0..=250).cycle().take(3 * SEAL_RECORD).collect();
    let (mut wire, mut sent, mut read) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_wrong = false;
    for action in actions.chunks_exact(2) {
        let size = usize::from(action[1]);
        match action[0] {
            0..=99 => {
                let size = size << (action[0] % 8);
                let (one, two) = text[..size].split_at(size / 3);
                let Ok(count) = sealer.data(&[one, two], size, &mut wire) else { continue };
                assert_eq!(count, size);
                sent.extend_from_slice(&text[..size]);
            }
            100..=149 => {
                let body = [&(size as u16).to_be_bytes(), &text[..size + 7]].concat();
                sealer.raw(3, &body, &mut wire).unwrap();
                sent.extend_from_slice(&text[..size]);
            }
            150..=159 => drop(sealer.end(&mut wire)),
            160..=169 => {
                // Any record that the key allows: the first wrong one ends the session.
                sealer.raw(action[1], &actions[..actions.len().min(100)], &mut wire).unwrap();
                is_wrong = true;
            }
            _ => {
                let some = wire.len().min(size * 16);
                receive(&mut opener, &wire[..some], size, &mut read);
                wire.drain(..some);
            }
        }
    }
    receive(&mut opener, &wire, usize::MAX, &mut read);
    if is_wrong || sealer.has_ended() {
        let common = read.len().min(sent.len());
        assert!(is_wrong || read[..common] == sent[..common]);
    } else {
        assert!(read == sent && opener.is_empty());
        assert_eq!(sealer.used(), opener.used());
    }
});

fn receive(opener: &mut Opener, mut bytes: &[u8], size: usize, read: &mut Vec<u8>) {
    while !bytes.is_empty() {
        let Ok(space) = opener.space() else { return };
        let room = space.capacity() - space.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()).min(size.max(1)));
        space.extend_from_slice(first);
        bytes = rest;
        while let Ok(Opened::Data) = opener.open() {
            let some = opener.opened().len().min(size.max(1));
            read.extend_from_slice(&opener.opened()[..some]);
            opener.take(some);
        }
    }
}
