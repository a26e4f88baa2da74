//! The time of a refusal does not tell how close a guess was: Welch's t-test between two kinds of
//! guesses, in random order. A comparison that stops at the first difference shows how many
//! samples are enough to see one.
//!
//! It runs if FRAMEFD_LONG is set, and needs a machine that has little else to do.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framefd::ops::auth::SealedStream;
use framefd::ops::auth::keyring::Keyring;
use framefd::wire::auth::{Challenge, Key, KeyId, answer};
use framefd::wire::seal::Used;
use framefd::wire::seal::handshake::Handshake;
use framefd::wire::seal::record::{Opener, Sealer};
use framefd::wire::seal::terms::{Suite, Terms};

#[path = "common/noise.rs"]
mod noise;

const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];
const KEY: [u8; 32] = *b"a key of 32 bytes, and not zeros";

/// Beyond it, three times in turn, is no accident.
const LIMIT: f64 = 5.0;
/// Samples of the first attempt to see the leak, and how long it may stay unseen.
const SAMPLES: usize = 30_000;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_refusal_takes_as_long_for_every_guess() {
    if std::env::var_os("FRAMEFD_LONG").is_none() {
        return println!("left out: FRAMEFD_LONG is not set");
    }
    let samples = enough();
    for suite in SUITES {
        let record = sealed_record(suite);
        check(
            &format!("{suite:?}: the tag of a record"),
            samples,
            |late| {
                let mut opener = Opener::with_key(suite, &KEY, Used::default());
                opener.feed(&wrong(&record, late)).unwrap();
                opener
            },
            |opener| opener.open().is_err(),
        );
        let (hello, message) = first_message(suite, "web-1");
        check(
            &format!("{suite:?}: the tag of message 1"),
            samples,
            |late| {
                let mut server = Handshake::server(&Terms::default()).unwrap();
                let mut left = &hello[..];
                while !left.is_empty() {
                    let (now, later) = left.split_at(server.needs());
                    server.step(now, &|_| key()).unwrap();
                    left = later;
                }
                (server, wrong(&message, late))
            },
            |(server, message)| server.step(message, &|_| key()).is_err(),
        );
        let ring = Arc::new(Keyring::new());
        ring.add(KeyId::new(b"web-1").unwrap(), Key::new(&[9; 32]).unwrap()).unwrap();
        let hellos = ["web-1", "web-2"].map(|id| {
            let (hello, message) = first_message(suite, id);
            [hello, message].concat()
        });
        check(
            &format!("{suite:?}: a key id that is known or not"),
            samples,
            |unknown| {
                let mut server = SealedStream::server(&ring, &Terms::default()).unwrap();
                server.space().unwrap().extend_from_slice(&hellos[usize::from(unknown)]);
                server
            },
            |server| server.read().is_err(),
        );
    }
    check(
        "the answer of the plain handshake",
        samples,
        |late| {
            let challenge = Challenge::new().unwrap();
            let answer = wrong(&answer(&key(), challenge.as_bytes()), late);
            (Some(challenge), <[u8; 32]>::try_from(answer).unwrap(), key())
        },
        |(challenge, answer, key)| challenge.take().unwrap().verify(&[key], answer).is_err(),
    );
}

/// As many samples as show a leak without a doubt.
fn enough() -> usize {
    let (mut samples, begun) = (SAMPLES, Instant::now());
    let tag = noise::seal(Suite::AesGcm, &KEY, 0, &[], &mut [7; 64]);
    loop {
        let leak = difference(
            samples,
            |late| ([7; 64], wrong(&tag, late)),
            |(text, wrong)| {
                let tag = noise::seal(Suite::AesGcm, &KEY, 0, &[], text);
                !tag.iter().zip(wrong.iter()).all(|(one, other)| black_box(one == other))
            },
        );
        println!("{samples} samples: t = {leak:.1} of a leak");
        if leak.abs() > 4.0 * LIMIT {
            return samples;
        }
        assert!(begun.elapsed() < PATIENCE, "this machine is too busy to see a leak");
        samples *= 2;
    }
}

/// A difference that is there shows each time.
fn check<T>(
    what: &str,
    samples: usize,
    prepare: impl Fn(bool) -> T,
    refuses: impl Fn(&mut T) -> bool,
) {
    let times = || {
        let difference = difference(samples, &prepare, &refuses);
        println!("{what}: t = {difference:.1}");
        difference.abs()
    };
    assert!((0..3).any(|_| times() < LIMIT), "{what}");
}

/// Welch's t between the times in which two kinds of guesses are refused.
fn difference<T>(
    samples: usize,
    prepare: impl Fn(bool) -> T,
    refuses: impl Fn(&mut T) -> bool,
) -> f64 {
    let mut times = [Vec::new(), Vec::new()];
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..samples {
        // Xorshift: which kind is next must not have a pattern.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let kind = random & 1 == 1;
        let mut input = black_box(prepare(kind));
        let begun = Instant::now();
        let is_refused = refuses(&mut input);
        let took = begun.elapsed();
        assert!(is_refused);
        times[usize::from(kind)].push(took.as_secs_f64() * 1e9);
    }
    // The slowest were interrupted.
    let mut all = times.concat();
    all.sort_by(f64::total_cmp);
    let slowest = all[all.len() * 4 / 5];
    let [(one, spread), (other, other_spread)] = times.map(|mut times| {
        times.retain(|time| *time <= slowest);
        let count = f64::from(u32::try_from(times.len()).unwrap());
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (one - other) / (spread + other_spread).sqrt()
}

/// These bytes with another bit, in the first or the last of 16.
fn wrong(bytes: &[u8], late: bool) -> Vec<u8> {
    let mut wrong = bytes.to_vec();
    let at = wrong.len() - if late { 1 } else { 16 };
    wrong[at] ^= 1;
    wrong
}

fn sealed_record(suite: Suite) -> Vec<u8> {
    let mut record = Vec::new();
    let mut sealer = Sealer::with_key(suite, &KEY, Used::default());
    sealer.data(&[&[7; 64]], 64, &mut record).unwrap();
    record
}

/// Of an honest client: what it sends before the message, and the message.
fn first_message(suite: Suite, id: &str) -> (Vec<u8>, Vec<u8>) {
    let id = KeyId::new(id.as_bytes()).unwrap();
    let (_, mut sent) = Handshake::client(&key(), &id, &Terms::default(), suite).unwrap();
    let message = sent.split_off(sent.len() - 48);
    (sent, message)
}

fn key() -> Key {
    Key::new(&KEY).unwrap()
}
