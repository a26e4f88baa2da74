//! The processes that are clients which break rules, or leave. After each fault the server serves
//! others, and this client too, as far as it has kept to the rules.
#![allow(clippy::unnecessary_wraps, reason = "some faults cannot fail")]

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use framefd::{ErrorKind, Result};
use rustix::net::{SendFlags, Shutdown, sockopt};

use crate::clients::in_threads;
use crate::common::encoded;
use crate::content::{Random, content};
use crate::talk::{Talker, work_header};
use crate::world::{LONG, World, wrong};

/// One fault after the other, in each thread.
pub fn storm(world: &World) {
    in_threads(world.count, |thread| {
        let (mut random, end) = (world.random(thread), world.end());
        let name = format!("s{}-{thread}", world.process);
        while Instant::now() < end {
            let chosen = usize::try_from(random.below(FAULTS.len() as u64)).unwrap();
            let (what, fault) = FAULTS[chosen];
            let mut victim = Victim::new(world, &mut random, &name);
            if let Err(error) = fault(&mut victim, &mut random) {
                panic!("{what}: {error}");
            }
        }
    });
}

/// A connection to break.
struct Victim {
    world: World,
    talker: Talker,
    /// The same socket, past the connection.
    raw: OwnedFd,
    file: String,
}

impl Victim {
    fn new(world: &World, random: &mut Random, name: &str) -> Victim {
        let socket = world.socket(random).unwrap();
        let raw = socket.try_clone().unwrap();
        let connection = world.prove(socket).unwrap();
        let own = Random::new([random.next(), 0, 0]);
        let talker = Talker::on(connection, world, own, String::new());
        Victim { world: world.clone(), talker, raw, file: name.into() }
    }

    /// From now on closing it is a reset.
    fn reset_at_close(&self) {
        // It has no effect on a Unix socket.
        let _ = sockopt::set_socket_linger(&self.raw, Some(Duration::ZERO));
    }

    /// Sends bytes, as long as the server takes them.
    fn send_raw(&self, bytes: &[u8]) {
        let _ = rustix::net::send(&self.raw, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

type Fault = fn(&mut Victim, &mut Random) -> Result<()>;

const FAULTS: &[(&str, Fault)] = &[
    ("leaves before its replies", leaves_before_its_replies),
    ("leaves in a request", leaves_in_a_request),
    ("leaves in the middle of bytes", leaves_in_the_middle),
    ("leaves its command", leaves_its_command),
    ("half a handshake", half_a_handshake),
    ("random bytes", random_bytes),
    ("random bytes before the handshake", random_bytes_at_first),
    ("random frames", random_frames),
    ("reads late", reads_late),
    ("ends its direction", ends_its_direction),
    ("a byte at a time", a_byte_at_a_time),
    ("half a file", half_a_file),
];

fn leaves_before_its_replies(victim: &mut Victim, random: &mut Random) -> Result<()> {
    victim.talker.ask_some()?;
    victim.talker.connection.flush(LONG)?;
    pause(random, 20);
    if random.one_in(2) {
        victim.reset_at_close();
    }
    Ok(())
}

fn leaves_in_a_request(victim: &mut Victim, random: &mut Random) -> Result<()> {
    let len = random.size().max(1);
    let cmd = ["work", "pieces"][usize::from(random.one_in(2))];
    let body = content(0, 0, len);
    let header = work_header(cmd, 1, 0, &body, 1);
    victim.talker.connection.begin(Some(&header), len as u64)?;
    let part = usize::try_from(random.below(len as u64)).unwrap();
    victim.talker.connection.write(&body[..part], LONG)?;
    victim.talker.connection.flush(LONG)?;
    // Without workers nobody is served while a handler waits for the rest of a body.
    if cmd == "work" {
        pause(random, 50);
    }
    if random.one_in(2) {
        victim.reset_at_close();
    }
    Ok(())
}

fn leaves_in_the_middle(victim: &mut Victim, random: &mut Random) -> Result<()> {
    let bytes = if victim.world.sealed {
        [&[1, 0][..], &random.bytes(200)].concat()
    } else {
        encoded(r#"{"data_size":100,"cmd":"work"}"#, &random.bytes(100))
    };
    let len = usize::try_from(random.below(bytes.len() as u64)).unwrap();
    victim.send_raw(&bytes[..len]);
    pause(random, 50);
    Ok(())
}

fn leaves_its_command(victim: &mut Victim, random: &mut Random) -> Result<()> {
    // Without workers everybody waits for it.
    let command = if victim.world.workers > 0 { "sleep 1" } else { "sleep 0.01" };
    let asked =
        victim.talker.connection.send(Some(r#"{"cmd":"exec","id":1}"#), command.as_bytes(), LONG);
    asked?;
    pause(random, 50);
    if random.one_in(2) {
        victim.reset_at_close();
    }
    Ok(())
}

fn half_a_handshake(victim: &mut Victim, random: &mut Random) -> Result<()> {
    let socket = victim.world.socket(random)?;
    let bytes = if victim.world.sealed {
        [b"FDS1\x01\x04soak\x00\x30", &random.bytes(48)[..]].concat()
    } else {
        random.bytes(32)
    };
    let len = usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap();
    rustix::io::write(&socket, &bytes[..len]).unwrap();
    pause(random, 100);
    Ok(())
}

/// What was asked before is answered, unless the connection is sealed: then they are a failure of
/// all of it.
fn random_bytes(victim: &mut Victim, random: &mut Random) -> Result<()> {
    let before = random.below(4);
    for _ in 0..before {
        victim.talker.ask("work", 10, 1000)?;
    }
    victim.talker.connection.flush(LONG)?;
    let len = usize::try_from(1 + random.below(2000)).unwrap();
    victim.send_raw(&random.bytes(len));
    if !victim.world.sealed {
        victim.talker.take_all()?;
    }
    if random.one_in(2) {
        // It is the end, with a word or without.
        rustix::net::shutdown(&victim.raw, Shutdown::Write).ok();
        to_the_end(&victim.raw);
    }
    Ok(())
}

fn random_bytes_at_first(victim: &mut Victim, random: &mut Random) -> Result<()> {
    let socket = victim.world.socket(random)?;
    let len = usize::try_from(1 + random.below(200)).unwrap();
    rustix::io::write(&socket, &random.bytes(len)).unwrap();
    rustix::net::shutdown(&socket, Shutdown::Write).ok();
    to_the_end(&socket);
    Ok(())
}

fn random_frames(victim: &mut Victim, random: &mut Random) -> Result<()> {
    let connection = &mut victim.talker.connection;
    for _ in 0..=random.below(30) {
        let (header, body) = random_frame(random);
        if connection.queue(Some(&header), &body, LONG).is_err() {
            return Ok(()); // it has said enough
        }
    }
    // A command that runs takes what follows it for a fault.
    let _ = connection.flush(LONG);
    for _ in 0..random.below(30) {
        if connection.recv(Duration::from_millis(50)).is_err() {
            break;
        }
    }
    Ok(())
}

fn reads_late(victim: &mut Victim, random: &mut Random) -> Result<()> {
    for _ in 0..=random.below(8) {
        victim.talker.ask("work", 10, 1 << 20)?;
    }
    victim.talker.connection.flush(LONG)?;
    pause(random, 300);
    if random.one_in(2) { victim.talker.take_all() } else { Ok(()) }
}

fn ends_its_direction(victim: &mut Victim, _: &mut Random) -> Result<()> {
    // A command would be ended.
    victim.talker.runs = false;
    victim.talker.ask_some()?;
    victim.talker.connection.end(false, LONG)?;
    victim.talker.take_all()?;
    match victim.talker.connection.recv(LONG) {
        Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
        other => Err(wrong(format!("{:?} instead of the end", other.map(|_| "a reply")))),
    }
}

fn a_byte_at_a_time(victim: &mut Victim, random: &mut Random) -> Result<()> {
    let socket = victim.world.socket(random)?;
    let raw = socket.try_clone().unwrap();
    if !victim.world.sealed {
        // A handshake and a request whose bytes come one by one: the wrong answer is the end.
        for byte in random.bytes(32) {
            rustix::io::write(&raw, &[byte]).ok();
            pause(random, 1);
        }
        to_the_end(&raw);
        return Ok(());
    }
    let mut client = victim.world.prove(socket)?;
    client.send(Some(r#"{"cmd":"hello","id":1}"#), b"", LONG)?;
    client.recv(LONG).map(drop)
}

/// A put that is cut stores nothing: what was there before stays.
fn half_a_file(victim: &mut Victim, random: &mut Random) -> Result<()> {
    let (len, name) = (1000 + random.size(), victim.file.clone());
    let put = format!(r#"{{"cmd":"put","id":1,"filename":"{name}","filesize":{len}}}"#);
    victim.talker.connection.begin(Some(&put), len as u64)?;
    let part = usize::try_from(random.below(len as u64)).unwrap();
    victim.talker.connection.write(&content(1, 2, 1 << 20)[..part], LONG)?;
    victim.talker.connection.flush(LONG)?;
    rustix::net::shutdown(&victim.raw, Shutdown::Both).ok();
    let mut next = victim.world.client(random)?;
    match next.call(&format!(r#"{{"cmd":"get","filename":"{name}"}}"#), b"", LONG) {
        Err(error) if error.kind() == ErrorKind::RemoteNotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(wrong("a part of a file was stored")),
    }
}

/// A frame that is legal, whatever it asks for.
fn random_frame(random: &mut Random) -> (String, Vec<u8>) {
    let id = match random.below(4) {
        0 => "\"text\"".to_owned(),
        1 => "null".to_owned(),
        2 => "[1]".to_owned(),
        _ => random.below(1 << 40).to_string(),
    };
    let len = usize::try_from(random.below(3) * random.below(30_000)).unwrap();
    let body = random.bytes(len);
    let rest = match random.below(18) {
        0 => r#""cmd":"hello""#.into(),
        1 => r#""cmd":"work""#.into(),
        2 => r#""cmd":"pieces","conn":1,"sum":"0","want":1"#.into(),
        3 => r#""cmd":"work","conn":1,"sum":"0","want":100000000"#.into(),
        4 => r#""cmd":"work","conn":-1,"sum":[],"want":{}"#.into(),
        5 => format!(r#""cmd":"{}""#, "x".repeat(len)),
        6 => r#""signal":"INT""#.into(),
        7 => r#""resize":{"rows":-1,"columns":1e9}"#.into(),
        8 => r#""stream":"stdin","eof":true"#.into(),
        9 => r#""cmd":"stat","filename":"""#.into(),
        10 => r#""cmd":"stat","filename":"../../etc/passwd""#.into(),
        11 => r#""cmd":"get","filename":"nothing","offset":7"#.into(),
        12 => r#""cmd":"put","filename":".","filesize":1"#.into(),
        13 => r#""cmd":"put","filename":"a/b/c","filesize":-1"#.into(),
        14 => r#""cmd":"exec","argv":["exit"],"timeout_ms":50"#.into(),
        15 => r#""cmd":"exec","stdin_size":99999999"#.into(),
        16 => format!(r#""deep":{}{}"#, "[".repeat(20), "]".repeat(20)),
        _ => r#""cmd":7"#.into(),
    };
    (format!(r#"{{"id":{id},{rest}}}"#), body)
}

fn pause(random: &mut Random, most: u64) {
    sleep(Duration::from_micros(random.below(most * 1000)));
}

/// Reads until the server has ended the connection.
fn to_the_end(socket: &OwnedFd) {
    let _ = sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(LONG));
    let mut bytes = [0; 4096];
    loop {
        match rustix::io::read(socket, &mut bytes) {
            Ok(0) | Err(rustix::io::Errno::CONNRESET) => return,
            Ok(_) => {}
            Err(errno) => panic!("{errno}"),
        }
    }
}
