//! A server of sealed streams takes any bytes of a client, however they are cut: an honest
//! client's, changed anywhere, or others.

#![no_main]

#[path = "seal/mod.rs"]
mod seal;

use libfuzzer_sys::fuzz_target;
use seal::{Input, SUITES, client, deliver, server, settle};

fuzz_target!(|input: &[u8]| {
    let Some((input, bytes)) = Input::read(input) else { return };
    let suite = SUITES[usize::from(input.suite & 1)];
    let (mut client, mut server) = (client(suite), server());
    client.write(b"a request", input.ends).unwrap();
    if input.is_finished {
        settle(&mut client, &mut server);
        client.write(b"and more of it", true).unwrap_or_default();
    } else if input.suite & 2 != 0 {
        // Up to what follows the server's message.
        server.feed(client.output()).unwrap();
        client.written(client.output().len());
        server.read().unwrap();
        client.feed(server.output()).unwrap();
        client.read().unwrap();
    }
    let honest = client.output().to_vec();
    deliver(&mut server, &honest, &input, bytes);
});
