//! Random messages through random calls, with random timeouts, in random pieces: the bytes on
//! the wire are exactly those, and so are the messages.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use framefd::ErrorKind;
use framefd::ops::frame::{Connection, ConnectionOptions, Ends};
use framefd::wire::frame::packet::PrefixFormat;
use framefd::wire::frame::queue::Format;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::channel::Kind;
use crate::common::file_of;
use crate::encoded;

/// One message: its number in the header, if it has one, and its body.
#[derive(Clone, Debug)]
struct Content {
    number: Option<u32>,
    body_len: usize,
}

impl Content {
    fn body(&self) -> Vec<u8> {
        let seed = self.number.unwrap_or(7) as usize;
        (0..self.body_len)
            .map(|at| u8::try_from((at * 31 + at / 251 + seed) % 256).unwrap())
            .collect()
    }

    fn header(&self) -> Option<String> {
        self.number.map(|number| format!(r#"{{"number":{number}}}"#))
    }

    /// The header as it is received.
    fn received(&self) -> String {
        match self.number {
            Some(number) => format!(r#"{{"data_size":{},"number":{number}}}"#, self.body_len),
            None => format!(r#"{{"data_size":{}}}"#, self.body_len),
        }
    }

    fn encoded(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Frames => encoded(&self.received(), &self.body()),
            Format::Packets(prefix) => {
                let bytes = prefix.encode(self.body_len as u64).unwrap();
                [&bytes[..prefix.width()], &self.body()].concat()
            }
        }
    }
}

/// Numbers that decide what comes next, over and over.
#[derive(Clone, Debug)]
struct Choices {
    numbers: Vec<u16>,
    next: usize,
}

impl Choices {
    fn of(&mut self, count: usize) -> usize {
        self.next += 1;
        usize::from(self.numbers[self.next % self.numbers.len()]).wrapping_add(self.next / 7)
            % count
    }

    /// None at all, a little, and as much as it takes.
    fn timeout(&mut self) -> Option<Duration> {
        [Some(Duration::ZERO), Some(Duration::from_micros(300)), None][self.of(3)]
    }

    /// Mostly small, sometimes large.
    fn size(&mut self) -> usize {
        match self.of(4) {
            0 => 1 + self.of(4),
            1 => 1 + self.of(300),
            2 => 1 + self.of(9000),
            _ => 1 + self.of(60_000),
        }
    }
}

/// What a call returned; `None` if it is to be made again.
fn done<T>(outcome: framefd::Result<T>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) if error.kind() == ErrorKind::TimedOut => None,
        Err(error) => panic!("{error}"),
    }
}

fn send_one(sender: &mut Connection<'_>, content: &Content, choices: &mut Choices) {
    let (header, body) = (content.header(), content.body());
    let header = header.as_deref();
    match choices.of(4) {
        0 => while done(sender.send(header, &body, choices.timeout())).is_none() {},
        1 => while done(sender.queue(header, &body, choices.timeout())).is_none() {},
        how => {
            while done(sender.begin(header, body.len() as u64)).is_none() {
                done(sender.flush(choices.timeout()));
            }
            let mut file = file_of(&body);
            let mut given = 0;
            while given < body.len() {
                let len = choices.size().min(body.len() - given);
                let timeout = choices.timeout();
                let more = if how == 2 {
                    done(sender.write(&body[given..given + len], timeout)).unwrap_or(0)
                } else {
                    let more = done(sender.write_from(file.as_fd(), len as u64, timeout));
                    usize::try_from(more.unwrap_or(0)).unwrap()
                };
                given += more;
                assert_eq!(sender.state().to_send, (body.len() - given) as u64);
            }
            assert_eq!(file.stream_position().unwrap() > 0, how == 3 && !body.is_empty());
        }
    }
}

fn receive_one(
    receiver: &mut Connection<'_>,
    format: Format,
    choices: &mut Choices,
) -> (String, Vec<u8>) {
    loop {
        let timeout = choices.timeout();
        let how = choices.of(if format == Format::Frames { 4 } else { 2 });
        if how == 0 {
            match done(receiver.next(timeout)) {
                Some(view) => return (view.header().to_owned(), view.body().to_vec()),
                None => continue,
            }
        }
        if how == 1 {
            let Some(message) = done(receiver.recv(timeout)) else { continue };
            let header = message.header.map_or(String::new(), |header| header.text().to_owned());
            return (header, message.body.into_vec());
        }
        let Some((view, len)) = done(receiver.recv_header(timeout)) else { continue };
        let header = view.header().to_owned();
        let mut file = tempfile::tempfile().unwrap();
        while receiver.to_receive() > 0 {
            let timeout = choices.timeout();
            if how == 2 {
                let mut buf = vec![0; choices.size()];
                let got = done(receiver.read(&mut buf, timeout)).unwrap_or(0);
                file.write_all(&buf[..got]).unwrap();
            } else {
                done(receiver.read_to(file.as_fd(), timeout));
            }
        }
        let mut body = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut body).unwrap();
        assert_eq!(body.len() as u64, len);
        return (header, body);
    }
}

/// Hands `len` bytes on in random pieces; returns them.
fn relay(from: OwnedFd, to: &OwnedFd, len: usize, choices: &mut Choices) -> (Vec<u8>, OwnedFd) {
    let (mut all, mut from) = (Vec::new(), File::from(from));
    while all.len() < len {
        let mut buf = vec![0; choices.size().min(len - all.len())];
        let got = from.read(&mut buf).unwrap();
        assert!(got > 0, "{} of {len} bytes came", all.len());
        let mut rest = &buf[..got];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(choices.size().min(rest.len()));
            let mut file = File::from(to.try_clone().unwrap());
            file.write_all(piece).unwrap();
            rest = behind;
            if choices.of(20) == 0 {
                std::thread::sleep(Duration::from_micros(400));
            }
        }
        all.extend_from_slice(&buf[..got]);
    }
    (all, from.into())
}

#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    format: Format,
    is_exact: bool,
    max_queue: u64,
    contents: Vec<Content>,
    choices: [Choices; 3],
}

fn cases() -> impl Strategy<Value = Case> {
    let choices = || vec(any::<u16>(), 8..60).prop_map(|numbers| Choices { numbers, next: 0 });
    let body_len = prop_oneof![3 => 0..20_usize, 3 => 0..3000_usize, 1 => 0..200_000_usize];
    let content = (any::<Option<u32>>(), body_len)
        .prop_map(|(number, body_len)| Content { number, body_len });
    let format = prop_oneof![
        2 => Just(Format::Frames),
        1 => Just(Format::Packets(PrefixFormat::new(4, true, false).unwrap())),
    ];
    let kind = proptest::sample::select(&Kind::ALL[..]);
    let max_queue = prop_oneof![Just(1_u64), Just(5000), Just(32 << 20)];
    (kind, format, any::<bool>(), max_queue, vec(content, 1..25), [choices(), choices(), choices()])
        .prop_map(|(kind, format, is_exact, max_queue, mut contents, choices)| {
            for content in &mut contents {
                if format != Format::Frames {
                    content.number = None;
                }
                // A terminal moves a few hundred bytes at a time.
                if !kind.is_socket() && kind != Kind::Pipe {
                    content.body_len %= 9000;
                }
            }
            Case { kind, format, is_exact, max_queue, contents, choices }
        })
}

fn run(case: Case) {
    let Case { kind, format, is_exact, max_queue, contents, choices } = case;
    let [mut sends, mut relays, mut takes] = choices;
    let (first, second) = (kind.open(), kind.open());
    if kind.is_socket() {
        rustix::net::sockopt::set_socket_send_buffer_size(&first.writer, 4096).unwrap();
    }
    let options =
        || ConnectionOptions { format, exact: is_exact, max_queue, ..ConnectionOptions::default() };
    let wire: Vec<u8> = contents.iter().flat_map(|content| content.encoded(format)).collect();
    let len = wire.len();
    let to_send = contents.clone();
    let ends = Ends::Owned(None, Some(first.writer));
    let mut sender = Connection::new(ends, options()).unwrap();
    let sending = std::thread::spawn(move || {
        for content in &to_send {
            send_one(&mut sender, content, &mut sends);
        }
        while done(sender.flush(sends.timeout())).is_none() {}
        sender
    });
    let (from, to) = (first.reader, second.writer);
    let relaying = std::thread::spawn(move || {
        let (bytes, from) = relay(from, &to, len, &mut relays);
        (bytes, from, to)
    });
    let ends = Ends::Owned(Some(second.reader), None);
    let mut receiver = Connection::new(ends, options()).unwrap();
    for content in &contents {
        let (header, body) = receive_one(&mut receiver, format, &mut takes);
        let expected = if format == Format::Frames { content.received() } else { String::new() };
        assert_eq!(header, expected);
        assert!(body == content.body(), "{} of {} bytes", body.len(), content.body_len);
    }
    let sender = sending.join().unwrap();
    let (bytes, from, to) = relaying.join().unwrap();
    assert!(bytes == wire);
    assert_eq!(crate::unread(&from), 0, "nothing behind it");
    assert_eq!(receiver.recv(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
    drop((sender, to));
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(crate::cases(150))
    })]

    #[test]
    fn messages_lose_nothing_at_any_byte(case in cases()) {
        run(case);
    }
}
