//! The processes that are clients which never stop, or never hurry.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use framefd::frame::Connection;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::content::Random;
use crate::role::say;
use crate::world::{LONG, World};

/// Never stops: every kind of frame, without a pause. Each request is answered in its turn.
pub fn flood(world: &World) {
    let mut random = world.random(0);
    let mut client = world.client(&mut random).unwrap();
    let (mut due, mut id, end) = (VecDeque::new(), 0_u64, world.end());
    while Instant::now() < end {
        for _ in 0..200 {
            id += 1;
            let chosen = usize::try_from(random.below(FLOOD.len() as u64)).unwrap();
            let (header, body) = (format!(r#"{{"id":{id}{}}}"#, FLOOD[chosen].0), FLOOD[chosen].1);
            client.queue(Some(&header), &[b'x'; 100][..body], LONG).unwrap();
            due.push_back(id);
        }
        client.flush(LONG).unwrap();
        while due.len() > 2000 {
            take(&mut client, &mut due);
        }
    }
    while !due.is_empty() {
        take(&mut client, &mut due);
    }
    say(&format!("flooded {id}"));
}

fn take(client: &mut Connection<'_>, due: &mut VecDeque<u64>) {
    let reply = client.recv(LONG).unwrap();
    let header = reply.header.unwrap();
    let id = due.pop_front().and_then(|id| i64::try_from(id).ok());
    assert_eq!(header.integer("id").ok(), id, "{}", header.text());
}

/// The rest of a header, and the length of the body. Without a command, input for one is a request
/// that is not understood.
const FLOOD: [(&str, usize); 11] = [
    (r#","cmd":"hello""#, 0),
    (r#","cmd":"hello""#, 3),
    (r#","cmd":"work","conn":1,"sum":"0","want":10"#, 0),
    (r#","cmd":"pieces","conn":1,"sum":"0","want":10"#, 100),
    (r#","cmd":"nothing""#, 100),
    (r#","cmd":"stat","filename":"""#, 0),
    (r#","cmd":"get","filename":"nothing""#, 0),
    ("", 0),
    (r#","signal":"INT""#, 0),
    (r#","resize":{"rows":1,"columns":1}"#, 0),
    (r#","stream":"stdin""#, 100),
];

/// Many that send nothing, or a byte now and then, until they are told to end.
pub fn dawdlers(world: &World, told: &Receiver<String>) {
    let mut random = world.random(0);
    let mut slow: Vec<_> = (0..world.count).map(|n| dawdler(world, &mut random, n)).collect();
    say("ready");
    while told.recv_timeout(world.time).is_err() {
        for (n, one) in slow.iter_mut().enumerate() {
            let sent = match one {
                Dawdler::Silent(raw) => {
                    let mut byte = [0; 64];
                    match rustix::net::recv(&*raw, &mut byte, RecvFlags::DONTWAIT) {
                        Ok((0, _)) => Err(Errno::PIPE),
                        _ => Ok(0),
                    }
                }
                Dawdler::Bytes(raw) => {
                    rustix::net::send(&*raw, b" ", SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
                }
                Dawdler::Body(client) => {
                    let sent = client.write(b"x", LONG).and_then(|_| client.flush(LONG));
                    sent.map(|()| 1).map_err(|_| Errno::PIPE)
                }
            };
            if sent.is_err() {
                *one = dawdler(world, &mut random, n);
            }
        }
    }
}

enum Dawdler {
    Silent(OwnedFd),
    Bytes(OwnedFd),
    Body(Box<Connection<'static>>),
}

fn dawdler(world: &World, random: &mut Random, n: usize) -> Dawdler {
    let socket = world.socket(random).unwrap();
    match n % 4 {
        0 => Dawdler::Silent(socket),
        1 => Dawdler::Bytes(socket),
        2 => {
            // With a proved key, in a header or a record.
            let raw = socket.try_clone().unwrap();
            let client = world.prove(socket).unwrap();
            let start: &[u8] = if world.sealed { b"\x01\0" } else { b"\0\x10\0\0{" };
            rustix::io::write(&raw, start).unwrap();
            drop(client);
            Dawdler::Bytes(raw)
        }
        _ => {
            let mut client = world.prove(socket).unwrap();
            client.begin(Some(r#"{"cmd":"work","id":1}"#), 1 << 20).unwrap();
            Dawdler::Body(Box::new(client))
        }
    }
}
