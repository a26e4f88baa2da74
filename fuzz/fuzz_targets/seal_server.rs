//! A server of sealed streams takes any bytes of a client, however they are cut: an honest
//! client's, changed anywhere, or others.

#![no_main]

#[path = "seal/mod.rs"]
mod seal;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| seal::attack(input, seal::Which::Server));
