//! A sealed handshake in memory, and the arithmetic that it consists of: prints the microseconds
//! that one takes.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use curve25519_dalek::montgomery::MontgomeryPoint;
use framefd::auth::{Key, KeyId, Suite, Terms};
use framefd::wire::seal::handshake::{Handshake, Step};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Of each measurement.
const TIME: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let what = std::env::args().find(|argument| argument == "curve" || argument == "handshake");
    let key = Key::new(&[7; 32])?;
    let mut count = 0_u32;
    let started = Instant::now();
    while started.elapsed() < TIME {
        match what.as_deref() {
            Some("curve") => multiply(),
            Some("handshake") => handshake(&key)?,
            _ => return Err("usage: curve curve|handshake".into()),
        }
        count += 1;
    }
    println!("{:.3}", started.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    Ok(())
}

/// Each end makes a public key, and multiplies the peer's.
fn multiply() {
    for _ in 0..2 {
        let public = MontgomeryPoint::mul_base_clamped(black_box([42; 32]));
        black_box(black_box(public).mul_clamped(black_box([43; 32])));
    }
}

fn handshake(key: &Key) -> Result<()> {
    let terms = Terms::default();
    let key_for = |_: &KeyId| key.clone();
    let (mut client, sent) = Handshake::client(key, &KeyId::default(), &terms, Suite::AesGcm)?;
    let mut server = Handshake::server(&terms)?;
    let replies = pass(&mut server, &sent, &key_for)?;
    let confirm = pass(&mut client, &replies, &key_for)?;
    pass(&mut server, &confirm, &key_for)?;
    Ok(())
}

/// Gives `bytes` to an end; returns what it sends.
fn pass(end: &mut Handshake, mut bytes: &[u8], key_for: &dyn Fn(&KeyId) -> Key) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(end.needs());
        bytes = later;
        match end.step(now, key_for)? {
            Step::More => {}
            Step::Reply(reply) => out = reply,
            Step::Done { session, confirm } => {
                black_box(session);
                out = confirm;
            }
        }
    }
    Ok(out)
}
