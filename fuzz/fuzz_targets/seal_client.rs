//! A client of a sealed stream takes any bytes of its server, however they are cut: its own
//! server's, changed anywhere, or others.

#![no_main]

#[path = "seal/mod.rs"]
mod seal;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| seal::attack(input, seal::Which::Client));
