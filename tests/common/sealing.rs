//! Sealed connections in suites that were written for plain ones. With FRAMEFD_TEST_SEALED set, the
//! library's end of a conversation is sealed; if its peer is raw, a tunnel is in between.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framefd::ops::auth::keyring::Keyring;
use framefd::ops::frame::{Connection, ConnectionOptions};
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::stream::{Read, Seal};
use framefd::wire::seal::terms::{ServerName, Suite, Terms};
use framefd::{Duplex, ErrorKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;
use serde_json::Value;

use super::encoded;

/// Whether this run seals what it can.
pub fn are_sealed() -> bool {
    std::env::var_os("FRAMEFD_TEST_SEALED").is_some()
}

/// Whether this run leaves out the test that asks, and why it does.
pub fn leaves_out(why: &str) -> bool {
    if are_sealed() {
        println!("left out: {why}");
    }
    are_sealed()
}

/// Why a test is left out: its server is one of old that knows no ids.
pub const NO_IDS: &str = "a server that has proved a key repeats ids";
/// The same: what its peer has not read must stay in the socket.
pub const ROOM: &str = "a tunnel reads ahead, and has room";
/// The same: its peer leaves early.
pub const GONE: &str = "the client is gone before a handshake";

/// What a raw server sends. In a sealed run a reply without an id gets that of its request, since a
/// client takes no other.
pub fn repeating<'a>(id: &str, mut frames: &'a [u8]) -> Cow<'a, [u8]> {
    if !are_sealed() {
        return frames.into();
    }
    let mut sent = Vec::with_capacity(frames.len() + 1000);
    while let Some((header, body, rest)) = first_of(frames) {
        let mut text = header.to_string();
        let is_reply = header.get("status").or(header.get("working")).is_some();
        if is_reply && header.get("id").is_none() {
            text.truncate(text.len() - 1);
            text += &format!(r#","id":"{id}"}}"#);
        }
        sent.extend(encoded(&text, b""));
        sent.extend(body);
        frames = rest;
    }
    sent.extend(frames);
    sent.into()
}

/// The header of a frame, the body as far as it is there, and what follows.
fn first_of(bytes: &[u8]) -> Option<(Value, &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length).try_into().ok()?)?;
    let header: Value = serde_json::from_slice(text).ok()?;
    let size = header.get("data_size").and_then(Value::as_u64).unwrap_or(0);
    let (body, rest) = rest.split_at(rest.len().min(usize::try_from(size).ok()?));
    Some((header, body, rest))
}

/// Seals a connection to a peer that calls [`server`] meanwhile.
pub fn client(connection: &mut Connection<'_>) {
    connection.seal_client(&key(), &id(), &terms(), None, HANDSHAKE).unwrap();
}

/// Seals a connection to a peer that calls [`client`] meanwhile.
pub fn server(connection: &mut Connection<'_>) {
    let ring = Keyring::new();
    ring.add(id(), key()).unwrap();
    connection.seal_server(&ring, &terms(), HANDSHAKE).unwrap();
}

/// Seals both ends of a connection.
pub fn both(ours: &mut Connection<'_>, theirs: &mut Connection<'_>) {
    std::thread::scope(|scope| {
        scope.spawn(|| server(theirs));
        client(ours);
    });
}

/// Whether a receive has failed with this since a raw peer has closed. A tunnel may see that as a
/// half-close or as a hang-up.
pub fn is_closed(kind: ErrorKind) -> bool {
    kind == ErrorKind::Closed || kind == closed()
}

/// What a receive fails with if the peer has closed, and has not ended its direction.
pub fn closed() -> ErrorKind {
    if are_sealed() { ErrorKind::Truncated } else { ErrorKind::Closed }
}

/// The library's end of a conversation on plain descriptors: in a sealed run a sealed connection,
/// and the tunnel from it to them. Dropped in this order.
#[derive(Debug)]
pub struct Link<'fd> {
    connection: Connection<'fd>,
    _tunnel: Option<Tunnel>,
}

/// That of a client. In a plain run `connect` makes the connection.
pub fn as_client<'fd>(plain: Duplex<'fd>, connect: Connect<'fd>) -> Link<'fd> {
    link(plain, connect, true)
}

/// That of a server.
pub fn as_server<'fd>(plain: Duplex<'fd>, connect: Connect<'fd>) -> Link<'fd> {
    link(plain, connect, false)
}

type Connect<'fd> = fn(Duplex<'fd>) -> Connection<'fd>;

fn link<'fd>(plain: Duplex<'fd>, connect: Connect<'fd>, is_client: bool) -> Link<'fd> {
    if are_sealed() {
        through_a_tunnel(plain, is_client)
    } else {
        Link { connection: connect(plain), _tunnel: None }
    }
}

impl<'fd> Deref for Link<'fd> {
    type Target = Connection<'fd>;

    fn deref(&self) -> &Connection<'fd> {
        &self.connection
    }
}

impl<'fd> DerefMut for Link<'fd> {
    fn deref_mut(&mut self) -> &mut Connection<'fd> {
        &mut self.connection
    }
}

fn through_a_tunnel(plain: Duplex<'_>, is_client: bool) -> Link<'static> {
    let (near, far) = UnixStream::pair().unwrap();
    let options = ConnectionOptions::default();
    let mut connection = Connection::new(OwnedFd::from(near), options).unwrap();
    let seal = if is_client {
        Seal::server(&terms(), Box::new(|_| key()))
    } else {
        Seal::client(&key(), &id(), &terms(), Suite::preferred())
    };
    let [reader, writer] =
        [plain.reader, plain.writer].map(|fd| File::from(fd.try_clone_to_owned().unwrap()));
    let ends = Ends { reader, writer, far, seal: seal.unwrap(), to_plain: Vec::new() };
    let tunnel = Tunnel(Some(std::thread::spawn(move || ends.carry())));
    if is_client {
        client(&mut connection);
    } else {
        server(&mut connection);
    }
    Link { connection, _tunnel: Some(tunnel) }
}

/// It ends with its connection, once the plain side has taken what was sent.
#[derive(Debug)]
struct Tunnel(Option<JoinHandle<()>>);

impl Drop for Tunnel {
    fn drop(&mut self) {
        let ended = self.0.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

/// What a tunnel is between.
struct Ends {
    reader: File,
    writer: File,
    far: UnixStream,
    seal: Seal,
    /// Opened bytes.
    to_plain: Vec<u8>,
}

/// What was seen of one direction.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Open,
    /// It ended, and the other one goes on.
    Ended,
    /// Nobody is there any more.
    Gone,
}

impl Ends {
    fn carry(mut self) {
        self.far.set_nonblocking(true).unwrap();
        let (mut plain, mut sealed) = (End::Open, End::Open);
        let mut taken = Instant::now();
        loop {
            self.flush_far();
            match plain {
                End::Gone if self.seal.output().is_empty() => {
                    return drop(self.far.shutdown(Shutdown::Both));
                }
                End::Ended if self.seal.output().is_empty() => {
                    let _ = self.far.shutdown(Shutdown::Write);
                }
                _ => {}
            }
            if self.to_plain.is_empty() && sealed == End::Ended {
                let _ = rustix::net::shutdown(&self.writer, rustix::net::Shutdown::Write);
            }
            if self.to_plain.is_empty() && sealed == End::Gone {
                return;
            }
            let [reader, writer, far] = self.wait(plain, sealed);
            let is_still = (reader | writer | far).is_empty();
            if is_still || sealed == End::Gone && taken.elapsed() > 5 * PATIENCE {
                // Nobody has taken the rest for a while.
                return;
            }
            if !far.is_empty() {
                sealed = self.read_far(sealed, far);
                taken = Instant::now();
            }
            if !reader.is_empty() {
                plain = self.read_plain(plain, reader);
            }
            if !writer.is_empty() {
                let before = self.to_plain.len();
                if !self.write_plain(writer) {
                    plain = End::Gone;
                }
                if self.to_plain.len() < before {
                    taken = Instant::now();
                }
            }
        }
    }

    fn wait(&self, plain: End, sealed: End) -> [PollFlags; 3] {
        let flag = |flag, is_set| if is_set { flag } else { PollFlags::empty() };
        let is_ready = self.seal.session().is_some();
        let is_read = plain == End::Open && is_ready && self.seal.output().len() < MOST;
        let far = flag(PollFlags::IN, sealed == End::Open && self.to_plain.len() < MOST)
            | flag(PollFlags::OUT, !self.seal.output().is_empty());
        let writer = flag(PollFlags::OUT, !self.to_plain.is_empty());
        let mut fds = [
            is_read.then(|| PollFd::new(&self.reader, PollFlags::IN)).or_else(|| {
                // Its hang-up.
                let is_watched = is_ready && plain != End::Gone && is_socket(&self.reader);
                is_watched.then(|| PollFd::new(&self.reader, PollFlags::empty()))
            }),
            (!writer.is_empty() || !is_socket(&self.writer))
                .then(|| PollFd::new(&self.writer, writer)),
            (sealed != End::Gone).then(|| PollFd::new(&self.far, far)),
        ];
        let mut polled: Vec<_> = fds.iter().flatten().cloned().collect();
        let timeout = Timespec::try_from(PATIENCE).unwrap();
        let is_ending = sealed == End::Gone || plain == End::Gone;
        poll(&mut polled, is_ending.then_some(&timeout)).unwrap();
        let mut polled = polled.into_iter();
        fds.each_mut().map(|fd| {
            fd.as_ref().and_then(|_| polled.next()).map_or(PollFlags::empty(), |fd| fd.revents())
        })
    }

    fn read_plain(&mut self, before: End, seen: PollFlags) -> End {
        if before == End::Ended {
            return End::Gone;
        }
        let mut buf = vec![0; 65536];
        match self.reader.read(&mut buf) {
            Ok(0) if is_socket(&self.reader) && seen.contains(PollFlags::HUP) => End::Gone,
            Ok(got) => {
                self.seal.write(&buf[..got], got == 0).unwrap();
                if got == 0 { End::Ended } else { End::Open }
            }
            // That of a terminal whose other side is closed, as well.
            Err(_) => End::Gone,
        }
    }

    /// False if nobody reads.
    fn write_plain(&mut self, seen: PollFlags) -> bool {
        if self.to_plain.is_empty() {
            return !seen.contains(PollFlags::ERR);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match rustix::net::send(&self.writer, &self.to_plain, flags) {
            Err(rustix::io::Errno::NOTSOCK) => {
                // As much as a pipe or a terminal takes for sure.
                let piece = &self.to_plain[..self.to_plain.len().min(256)];
                rustix::io::write(&self.writer, piece)
            }
            sent => sent,
        };
        match sent {
            Ok(sent) => drop(self.to_plain.drain(..sent)),
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => return false,
        }
        true
    }

    fn flush_far(&mut self) {
        while !self.seal.output().is_empty() {
            match self.far.write(self.seal.output()) {
                Ok(sent) => self.seal.written(sent),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // The other direction shows the end.
                Err(_) => self.seal.written(self.seal.output().len()),
            }
        }
    }

    fn read_far(&mut self, before: End, seen: PollFlags) -> End {
        let mut buf = vec![0; 65536];
        match self.far.read(&mut buf) {
            Ok(0) if before == End::Ended && !seen.contains(PollFlags::HUP) => return End::Ended,
            Ok(0) => return End::Gone,
            Ok(got) => self.seal.feed(&buf[..got]).unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return before,
            Err(_) => return End::Gone,
        }
        loop {
            match self.seal.read().unwrap() {
                Read::Bytes(bytes) => self.to_plain.extend_from_slice(bytes),
                Read::More => return End::Open,
                Read::End => return End::Ended,
            }
        }
    }
}

fn is_socket(fd: &File) -> bool {
    rustix::net::sockopt::socket_type(fd).is_ok()
}

fn key() -> Key {
    Key::new(&[7; 32]).unwrap()
}

fn id() -> KeyId {
    KeyId::new(b"suite").unwrap()
}

fn terms() -> Terms {
    Terms { name: ServerName::new(b"suite").unwrap(), client_serves: false }
}

const HANDSHAKE: Duration = Duration::from_secs(20);
/// How long a tunnel waits for the last bytes to be taken.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that a tunnel holds in each direction.
const MOST: usize = 16 << 10;
