//! A client that follows the rules: it sends requests of every kind, several at once, and compares
//! every byte of their replies.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use framefd::frame::{Connection, Header, Message};
use framefd::{Error, ErrorKind, Result};
use rustix::net::AddressFamily;

use crate::content::{Random, content, sum};
use crate::world::{LONG, World, wrong};

pub struct Talker {
    pub connection: Connection<'static>,
    pub random: Random,
    /// Its number, and that of its last request.
    number: u64,
    last: u64,
    /// A name of its own, and the request that stored something there. Without a name it has no
    /// requests about files.
    file: String,
    stored: Option<(u64, usize)>,
    /// It has commands.
    pub runs: bool,
    due: VecDeque<Due>,
    /// The same socket, to see what has arrived at the server.
    pub socket: Option<OwnedFd>,
    /// Everything that is due has arrived there before it was stopped.
    pub is_with_the_server: bool,
    /// Replies so far, and those of them that were `busy`.
    pub answered: u64,
    pub busy: u64,
}

/// A request whose reply has not come.
struct Due {
    id: u64,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    /// The content of the request, this long.
    Content(usize),
    /// The same as standard output.
    Output(usize),
    /// What this request has stored.
    File(u64, usize),
    /// Nothing but `ok`, since this was stored.
    Stored(usize),
}

impl Talker {
    pub fn new(world: &World, mut random: Random, file: String) -> Result<Talker> {
        let connection = world.client(&mut random)?;
        Ok(Talker::on(connection, world, random, file))
    }

    /// On a connection that is there.
    pub fn on(
        connection: Connection<'static>,
        world: &World,
        random: Random,
        file: String,
    ) -> Talker {
        Talker {
            connection,
            random,
            number: world.next_number(),
            last: 0,
            file,
            stored: None,
            runs: true,
            due: VecDeque::new(),
            socket: None,
            is_with_the_server: false,
            answered: 0,
            busy: 0,
        }
    }

    /// Sends some requests, and takes their replies.
    pub fn round(&mut self, is_stopping: &AtomicBool) -> Result<()> {
        self.ask_some()?;
        self.flush(is_stopping)?;
        if self.random.one_in(20) {
            sleep(Duration::from_millis(self.random.below(30)));
        }
        self.take_all()
    }

    /// Queues requests of every kind.
    pub fn ask_some(&mut self) -> Result<()> {
        self.is_with_the_server = false;
        let (mut total, most) = (0, 1 + self.random.below(16));
        for _ in 0..most {
            if total > MOST_AT_ONCE {
                break;
            }
            total += match self.random.below(40) {
                0..2 => {
                    self.ask_for_file()?;
                    0
                }
                2 if !self.file.is_empty() => self.put()?,
                3 if self.runs => {
                    // No request may follow before the reply.
                    self.run()?;
                    break;
                }
                4..6 => self.work("pieces")?,
                6 => self.work_in_pieces()?,
                7 => {
                    self.connection.flush(LONG)?;
                    sleep(Duration::from_millis(self.random.below(5)));
                    0
                }
                _ => self.work("work")?,
            };
        }
        Ok(())
    }

    pub fn flush(&mut self, is_stopping: &AtomicBool) -> Result<()> {
        self.connection.flush(LONG)?;
        let has_arrived = self.socket.as_ref().is_none_or(|socket| {
            let is_there = |_| {
                sleep(Duration::from_micros(100));
                on_its_way(socket) == 0
            };
            on_its_way(socket) == 0 || (0..20).any(is_there)
        });
        self.is_with_the_server = has_arrived && !is_stopping.load(Ordering::SeqCst);
        Ok(())
    }

    /// Receives everything that is due.
    pub fn take_all(&mut self) -> Result<()> {
        while let Some(due) = self.due.pop_front() {
            let reply = self.connection.recv(LONG).map_err(|error| {
                let (number, id, what) = (self.number, due.id, &due.expected);
                Error::new(error.kind(), format!("request {number}/{id} for {what:?}: {error}"))
            })?;
            self.check(&due, &reply)?;
            self.answered += 1;
        }
        Ok(())
    }

    /// One small request.
    pub fn ask_shortly(&mut self) -> Result<()> {
        let len = usize::try_from(self.random.below(100)).unwrap();
        self.ask("work", len, 64)?;
        self.connection.flush(LONG)?;
        self.take_all()
    }

    fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A request for the handlers of the soak, with its length and that of its reply.
    fn work(&mut self, cmd: &str) -> Result<usize> {
        let (len, want) = (self.random.size(), self.random.size());
        self.ask(cmd, len, want)?;
        Ok(len + want)
    }

    /// A request of `len` bytes for a reply of `want`.
    pub fn ask(&mut self, cmd: &str, len: usize, want: usize) -> Result<()> {
        let id = self.next_id();
        let body = content(self.number, id, len);
        let header = work_header(cmd, id, self.number, &body, want);
        self.due.push_back(Due { id, expected: Expected::Content(want) });
        self.connection.queue(Some(&header), &body, LONG)
    }

    /// The body comes in small pieces.
    fn work_in_pieces(&mut self) -> Result<usize> {
        let (id, len) = (self.next_id(), usize::try_from(self.random.below(20_000)).unwrap());
        let body = content(self.number, id, len);
        let header = work_header("work", id, self.number, &body, 100);
        self.due.push_back(Due { id, expected: Expected::Content(100) });
        self.connection.begin(Some(&header), len as u64)?;
        let mut rest = &body[..];
        while !rest.is_empty() {
            let most = usize::try_from(1 + self.random.below(5_000)).unwrap();
            let (piece, after) = rest.split_at(most.min(rest.len()));
            self.connection.write(piece, LONG)?;
            self.connection.flush(LONG)?;
            sleep(Duration::from_micros(self.random.below(1000)));
            rest = after;
        }
        Ok(len)
    }

    fn run(&mut self) -> Result<()> {
        let (id, len) = (self.next_id(), self.random.size());
        let mut body = format!("cat; printf {}/{id} >&2", self.number).into_bytes();
        body.extend(content(self.number, id, len));
        let header = format!(r#"{{"cmd":"exec","id":{id},"stdin_size":{len}}}"#);
        self.due.push_back(Due { id, expected: Expected::Output(len) });
        self.connection.queue(Some(&header), &body, LONG)
    }

    fn put(&mut self) -> Result<usize> {
        let (id, len) = (self.next_id(), self.random.size());
        let header =
            format!(r#"{{"cmd":"put","id":{id},"filename":"{}","filesize":{len}}}"#, self.file);
        self.due.push_back(Due { id, expected: Expected::Stored(len) });
        self.stored = Some((id, len));
        self.connection.queue(Some(&header), &content(self.number, id, len), LONG)?;
        Ok(len)
    }

    fn ask_for_file(&mut self) -> Result<()> {
        let Some((of, len)) = self.stored else { return Ok(()) };
        let id = self.next_id();
        let header = format!(r#"{{"cmd":"get","id":{id},"filename":"{}"}}"#, self.file);
        self.due.push_back(Due { id, expected: Expected::File(of, len) });
        self.connection.queue(Some(&header), b"", LONG)
    }

    /// Whether a reply is that of this request, and of no other.
    fn check(&mut self, due: &Due, reply: &Message) -> Result<()> {
        let Some(header) = &reply.header else { return Err(wrong("no header")) };
        let fail = |what: &str| {
            let (number, id, text) = (self.number, due.id, header.text());
            Err(wrong(format!("request {number}/{id}: {what}: {text}")))
        };
        if header.integer("id").ok() != i64::try_from(due.id).ok() {
            return fail("the reply of another");
        }
        let text = |key: &str| header.string(key).unwrap_or_default();
        if text("status") == "error" && text("code") == "busy" {
            self.busy += 1;
            if let Expected::Stored(_) = due.expected {
                self.stored = None;
            }
            return Ok(());
        }
        let expected = match due.expected {
            Expected::Stored(len) => {
                let is_stored = header.integer("filesize").ok() == i64::try_from(len).ok();
                return if is_stored { Ok(()) } else { fail("not stored") };
            }
            // If a put was refused, it is that of one before.
            Expected::File(..) if self.busy > 0 => return Ok(()),
            Expected::File(of, len) => content(self.number, of, len),
            Expected::Output(len) => {
                let mut body = content(self.number, due.id, len);
                body.extend(format!("{}/{}", self.number, due.id).bytes());
                if header.integer("exit_code").ok() != Some(0) {
                    return fail("the command failed");
                }
                body
            }
            Expected::Content(len) => {
                let is_ours = header.integer("conn").ok() == i64::try_from(self.number).ok();
                if !is_ours || text("sum") != format!("{:x}", sum(&reply.body)) {
                    return fail("not what the server has sent");
                }
                content(self.number, due.id, len)
            }
        };
        if reply.body == expected { Ok(()) } else { fail("another body") }
    }
}

/// The header of a request for a handler of the soak.
pub fn work_header(cmd: &str, id: u64, connection: u64, body: &[u8], want: usize) -> String {
    let sum = sum(body);
    format!(r#"{{"cmd":"{cmd}","id":{id},"conn":{connection},"sum":"{sum:x}","want":{want}}}"#)
}

/// What such a request asks for.
pub struct Work {
    connection: u64,
    id: u64,
    sum: String,
    want: usize,
}

impl Work {
    pub fn read(header: &Header) -> Result<Work> {
        let number = |name: &str| {
            u64::try_from(header.integer(name)?).map_err(|_| wrong("a negative number"))
        };
        Ok(Work {
            connection: number("conn")?,
            id: number("id")?,
            sum: header.string("sum")?.into(),
            want: usize::try_from(number("want")?.min(1 << 20)).unwrap_or_default(),
        })
    }

    /// The reply, if this is the body.
    pub fn reply(&self, body: &[u8]) -> Result<(String, Vec<u8>)> {
        if self.sum != format!("{:x}", sum(body)) {
            return Err(Error::new(ErrorKind::Checksum, "another body"));
        }
        let reply = content(self.connection, self.id, self.want);
        Ok((format!(r#"{{"conn":{},"sum":"{:x}"}}"#, self.connection, sum(&reply)), reply))
    }
}

/// Bytes that were sent, and have not arrived at the host of the peer: tcp(7). On a Unix socket
/// they are there once they are sent.
#[allow(unsafe_code)]
fn on_its_way(socket: &OwnedFd) -> i32 {
    if rustix::net::getsockname(socket).unwrap().address_family() == AddressFamily::UNIX {
        return 0;
    }
    let mut bytes = 0;
    // SAFETY: the call stores one int.
    assert_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }, 0);
    bytes
}

/// Bytes of requests and replies under way on one connection.
const MOST_AT_ONCE: usize = 4 << 20;
