//! The promises of a server, each with its test.

#[path = "../common/mod.rs"]
mod common;
mod forked;
mod later;
mod limits;
mod policies;
mod process_1;
mod requests;
mod served;
mod stop;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framefd::auth::{Key, KeyId, Keyring, Terms};
use framefd::frame::{Connection, ConnectionOptions};
use framefd::serve::{Access, BodyMode, Counters, Level, Server, ServerOptions, Stopper};
use framefd::{ErrorKind, Result};

use common::exec::LONG;

/// With and without threads of its own.
const WORKERS: [usize; 2] = [0, 3];

const NO_TIME: Duration = Duration::ZERO;

type Lines = Arc<Mutex<Vec<(Level, String)>>>;

/// A running server and where it listens. It must be stopped.
struct Running {
    server: Arc<Server>,
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<()>>>,
    lines: Lines,
}

impl Running {
    fn start(options: ServerOptions, prepare: impl FnOnce(&Server)) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Running::at(address, listener.into(), options, prepare)
    }

    /// One that listens there.
    fn at(
        address: SocketAddr,
        listener: OwnedFd,
        mut options: ServerOptions,
        prepare: impl FnOnce(&Server),
    ) -> Running {
        let lines = Lines::default();
        let noted = Arc::clone(&lines);
        options.log_level = Level::Debug;
        options.log = Some(Arc::new(move |level, line: &str| {
            noted.lock().unwrap().push((level, line.to_owned()));
        }));
        let server = Arc::new(Server::new(options).unwrap());
        server.listen(listener).unwrap();
        server
            .handle("echo", BodyMode::Whole, |connection, request| {
                connection.reply(request.header.text(), None, request.body, None)
            })
            .unwrap();
        prepare(&server);
        let (stopper, own) = (server.stopper(), Arc::clone(&server));
        let thread = Some(std::thread::spawn(move || own.run()));
        Running { server, address, stopper, thread, lines }
    }

    /// One without keys.
    fn plain(workers: usize, prepare: impl FnOnce(&Server)) -> Running {
        Running::start(ServerOptions { workers, ..ServerOptions::default() }, prepare)
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn client(&self) -> Connection<'static> {
        client(self.connect())
    }

    fn counters(&self) -> Counters {
        self.server.counters()
    }

    #[track_caller]
    fn has_logged(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|(_, line)| line.contains(text))
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn(&Counters) -> bool) {
        let start = Instant::now();
        while !is_so(&self.counters()) {
            assert!(start.elapsed() < LONG, "{what}: {:?}", self.counters());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_for_end(&mut self) -> Result<()> {
        self.thread.take().unwrap().join().unwrap()
    }

    #[track_caller]
    fn stop(mut self) {
        self.stopper.stop();
        self.wait_for_end().unwrap();
        let counters = self.counters();
        assert_eq!((counters.connections_now, counters.requests_now), (0, 0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test has failed.
        if let Some(thread) = self.thread.take() {
            self.stopper.stop();
            self.stopper.stop();
            let _ = thread.join();
        }
    }
}

fn client(socket: TcpStream) -> Connection<'static> {
    Connection::new(OwnedFd::from(socket), ConnectionOptions::default()).unwrap()
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).unwrap()
}

/// Access with two keys, `a` and `b`, by the plain handshake.
fn keyed() -> Access {
    let ring = Keyring::new();
    for (id, byte) in [(b"a", 1), (b"b", 2)] {
        ring.add(KeyId::new(id).unwrap(), key(byte)).unwrap();
    }
    Access { ring: Some(Arc::new(ring)), plain: true, ..Access::default() }
}

/// The same for sealed connections.
fn sealed() -> Access {
    Access { plain: false, ..keyed() }
}

/// Proves the key `a`.
fn prove(client: &mut Connection<'_>, access: &Access) {
    try_prove(client, access).unwrap();
}

fn try_prove(client: &mut Connection<'_>, access: &Access) -> Result<()> {
    if access.plain {
        client.auth_client(&key(1), LONG)
    } else if access.ring.is_some() {
        let id = KeyId::new(b"a").unwrap();
        client.seal_client(&key(1), &id, &Terms::default(), None, LONG)
    } else {
        Ok(())
    }
}

/// Sends `text` to be echoed.
#[track_caller]
fn echo(client: &mut Connection<'_>, text: &str) -> Result<()> {
    let reply = client.call(r#"{"cmd":"echo"}"#, text.as_bytes(), LONG)?;
    assert_eq!(reply.body, text.as_bytes());
    Ok(())
}

/// What a call for `cmd` fails with.
fn refused(client: &mut Connection<'_>, header: &str, body: &[u8]) -> (ErrorKind, String) {
    let error = client.call(header, body, LONG).unwrap_err();
    (error.kind(), error.detail().to_owned())
}
