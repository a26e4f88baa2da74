//! A client of a sealed stream takes any bytes of its server, however they are cut: its own
//! server's, changed anywhere, or others.

#![no_main]

#[path = "seal/mod.rs"]
mod seal;

use libfuzzer_sys::fuzz_target;
use seal::{Input, SUITES, client, deliver, server, settle};

fuzz_target!(|input: &[u8]| {
    let Some((input, bytes)) = Input::read(input) else { return };
    let suite = SUITES[usize::from(input.suite & 1)];
    let (mut client, mut server) = (client(suite), server());
    server.write(b"an answer", input.ends).unwrap();
    if input.is_finished {
        settle(&mut client, &mut server);
        server.write(b"and more of it", true).unwrap_or_default();
    } else {
        server.feed(client.output()).unwrap();
        server.read().unwrap();
    }
    let honest = server.output().to_vec();
    deliver(&mut client, &honest, &input, bytes);
});
