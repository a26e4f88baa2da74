//! Sealed connections for programs that know none: over standard input and output, or listening.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use framefd::auth::{Keyring, Rules, SealedStream, Terms};
use framefd::frame::{Deadline, Interrupt, accept, address_of, connect, listen};
use framefd::{Error, ErrorKind, limits};
use rustix::net::{Shutdown, sockopt};

use crate::args::{Forward, Peer, Pipe};
use crate::dial::{self, handshake_time, keep_alive, no_delay};
use crate::failure::{Failure, Result, text_of};
use crate::hosts::{Hosts, Target, terms};
use crate::output::{nobody_reads, one_line, say, show, shown, unwritten};
use crate::run::without_number;
use crate::signals::Stop;
use crate::tunnel::{Broken, Plain, Tunnel};

/// Runs `framefd pipe`.
pub fn pipe(arguments: &Pipe) -> Result<u8> {
    let target = Hosts::load()?.find(&arguments.host, None, &arguments.peer)?;
    let mut tunnel = dial_sealed(&target, arguments.peer.connect_timeout)?;
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let plain = Plain { from: stdin.as_fd(), to: stdout.as_fd() };
    let copied = tunnel.copy(&plain, || end_of_output(stdout.as_fd()));
    copied.map(|()| 0).map_err(|broken| match broken {
        Broken::Sealed(error) => Failure::to_ask(&target, &error, false),
        Broken::Plain(what, rustix::io::Errno::PIPE) => nobody_reads(what),
        Broken::Plain(what, errno) => unwritten(what, errno),
    })
}

/// Tells whoever reads the output that there is no more.
fn end_of_output(stdout: BorrowedFd<'_>) {
    // A socket in both directions is not closed for the other one.
    if rustix::net::shutdown(stdout, Shutdown::Write).is_err()
        && let Ok(null) = std::fs::File::options().write(true).open("/dev/null")
    {
        // The pipe is closed once no descriptor leads to it.
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// A tunnel to a host, after the handshake.
fn dial_sealed(target: &Target, timeout: Duration) -> Result<Tunnel> {
    let Some(key) = target.key.as_ref().filter(|_| !target.plain) else {
        let line = "this is for sealed connections: give -k FILE, and no --plain";
        return Err(Failure::new(format!("{}: {line}", target.shown)));
    };
    let refused = |error: Error| Failure::to_prove(target, &error);
    let seal = SealedStream::client(key, &target.id, &target.terms, None).map_err(refused)?;
    let socket = dial::socket(target, timeout)?;
    no_delay(socket.as_fd());
    let mut tunnel = Tunnel::new(seal, socket);
    tunnel.handshake(handshake_time(timeout)).map_err(refused)?;
    Ok(tunnel)
}

/// What each connection is passed on to.
enum Way {
    ToSealed(Target, Duration),
    FromSealed {
        ring: Arc<Keyring>,
        terms: Terms,
        address: Vec<u8>,
        timeout: Duration,
        strangers: Strangers,
    },
}

/// Connections that have not proved a key yet, the oldest one first. It is closed if there are too
/// many, so that those who prove nothing keep nobody out.
struct Strangers {
    there: Mutex<VecDeque<Arc<OwnedFd>>>,
    most: usize,
}

impl Strangers {
    /// The socket is a stranger's as long as this is kept.
    fn enter(&self, socket: &OwnedFd) -> io::Result<Stranger<'_>> {
        let socket = Arc::new(socket.try_clone()?);
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.push_back(Arc::clone(&socket));
        if there.len() > self.most
            && let Some(oldest) = there.pop_front()
        {
            // Its thread sees the end.
            let _ = rustix::net::shutdown(&oldest, Shutdown::Both);
        }
        Ok(Stranger(self, socket))
    }
}

struct Stranger<'a>(&'a Strangers, Arc<OwnedFd>);

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        let mut there = self.0.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.retain(|socket| !Arc::ptr_eq(socket, &self.1));
    }
}

/// Runs `framefd forward`.
pub fn forward(arguments: &Forward) -> Result<u8> {
    let way = Arc::new(way(arguments)?);
    let listener = listen(arguments.listen.as_bytes(), 0, 0)
        .map_err(|error| Failure::to_listen(&arguments.listen, &error))?;
    let address = address_of(listener.as_fd(), false)
        .map_err(|error| Failure::of(&shown(&arguments.listen), &error))?;
    if !arguments.from_sealed && !arguments.peer.plain && !is_local(&address) {
        let line = "whoever reaches it would use your key: listen on 127.0.0.1, or give --plain";
        return Err(Failure::new(format!("{}: {line}", one_line(&address))));
    }
    let stop = Stop::start()?;
    // Nobody may be left who reads it.
    let _ = show(&[b"listening on ", &address[..], b"\n"].concat());
    serve(&listener, &way, &stop, arguments.max);
    Ok(0)
}

fn way(arguments: &Forward) -> Result<Way> {
    let (hosts, peer, timeout) = (Hosts::load()?, &arguments.peer, arguments.peer.connect_timeout);
    if !arguments.from_sealed {
        // --plain is said of the listening side.
        let sealed = Peer { plain: false, ..peer.clone() };
        let target = hosts.find(&arguments.host, None, &sealed)?;
        if target.plain || target.key.is_none() {
            let line = "it is plain in the file of hosts: forwarding goes to a sealed one";
            return Err(Failure::new(format!("{}: {line}", target.shown)));
        }
        return Ok(Way::ToSealed(target, timeout));
    }
    let Some(keys) = arguments.keys.as_ref().or(peer.key.as_ref()) else {
        return Err(Failure::new(
            "forward --from-sealed: no key: give -k FILE or --keys DIRECTORY",
        ));
    };
    if let Some(id) = &peer.id {
        let line = "with --from-sealed the names of the files in --keys are the ids";
        return Err(Failure::new(format!("--id {}: {line}", shown(id))));
    }
    let ring = Keyring::new();
    ring.load(keys, Rules::default()).map_err(|error| Failure::new(text_of(&error)))?;
    let name = terms(peer.name.as_deref().unwrap_or(OsStr::new("")))?;
    let address = hosts.address(&arguments.host)?;
    let most = usize::try_from(arguments.max - 1).unwrap_or(usize::MAX);
    let most = most.clamp(1, limits::UNAUTHENTICATED);
    let strangers = Strangers { there: Mutex::default(), most };
    Ok(Way::FromSealed { ring: Arc::new(ring), terms: name, address, timeout, strangers })
}

/// Whether only this machine can reach it.
pub fn is_local(address: &[u8]) -> bool {
    [&b"unix:"[..], b"127.", b"[::1]:"].iter().any(|prefix| address.starts_with(prefix))
}

/// How many connections there are.
type Count = Arc<(Mutex<u32>, Condvar)>;

/// Accepts until a signal comes, and waits for the connections.
fn serve(listener: &OwnedFd, way: &Arc<Way>, stop: &Stop, max: u32) {
    let count: Count = Arc::default();
    let interrupt = Interrupt::by_hook(stop.hook());
    let mut is_failing = false;
    while stop.number().is_none() {
        wait_below(&count, max, stop);
        match accept(listener.as_fd(), Deadline::NEVER, Some(&interrupt)) {
            Ok(socket) => {
                is_failing = false;
                start(socket, way, &count);
            }
            Err(error) if error.kind() == ErrorKind::Canceled => break,
            Err(error) => {
                // Once, and not with each attempt.
                if !std::mem::replace(&mut is_failing, true) {
                    say(&format!("accept: {}", text_of(&error)));
                }
                // No descriptors, or no memory: until some connection has ended.
                thread::sleep(PAUSE);
            }
        }
    }
    wait_below(&count, 1, &Stop::default());
}

/// Waits until there are fewer connections, or a signal comes.
fn wait_below(count: &Count, max: u32, stop: &Stop) {
    let mut there = count.0.lock().unwrap_or_else(PoisonError::into_inner);
    while *there >= max && stop.number().is_none() {
        let waited = count.1.wait_timeout(there, PAUSE);
        there = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn start(socket: OwnedFd, way: &Arc<Way>, count: &Count) {
    *count.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    let (way, ended) = (Arc::clone(way), Counted(Arc::clone(count)));
    let work = move || {
        let _ended = ended;
        keep_alive(&socket);
        no_delay(socket.as_fd());
        let peer = address_of(socket.as_fd(), true).unwrap_or_default();
        if let Err(failure) = pass_on(socket, &way) {
            say(&format!("{}: {}", one_line(&peer), failure.line));
        }
    };
    // Otherwise the connection is closed.
    if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(work) {
        say(&format!("a connection was closed: no thread for it: {error}"));
    }
}

/// A connection that ends when this does.
struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.1.notify_all();
    }
}

fn pass_on(socket: OwnedFd, way: &Way) -> Result<()> {
    let (mut tunnel, plain) = match way {
        Way::ToSealed(target, timeout) => {
            let dialled = dial_sealed(target, *timeout);
            if dialled.is_err() {
                reset(&socket);
            }
            (dialled?, socket)
        }
        Way::FromSealed { ring, terms, address, timeout, strangers } => {
            let refused = |error: Error| Failure::new(text_of(&error));
            let stranger = strangers
                .enter(&socket)
                .map_err(|error| Failure::new(format!("closed: {}", without_number(&error))))?;
            let seal = SealedStream::server(ring, terms).map_err(refused)?;
            let mut tunnel = Tunnel::new(seal, socket);
            tunnel.handshake(handshake_time(*timeout)).map_err(refused)?;
            drop(stranger);
            let plain = connect(address, Deadline::after(*timeout), None).map_err(refused)?;
            keep_alive(&plain);
            no_delay(plain.as_fd());
            (tunnel, plain)
        }
    };
    let ends = Plain { from: plain.as_fd(), to: plain.as_fd() };
    let copied = tunnel.copy(&ends, || {
        // It may have ended altogether; then the other direction does as well.
        let _ = rustix::net::shutdown(&plain, Shutdown::Write);
    });
    copied.map_err(|broken| {
        // Neither side must take a cut for the end.
        reset(&plain);
        tunnel.reset();
        match broken {
            Broken::Sealed(error) => Failure::new(text_of(&error)),
            Broken::Plain(_, errno) => Failure::new(format!("the plain side: {errno}")),
        }
    })
}

/// Makes the close of a socket a reset.
fn reset(socket: &OwnedFd) {
    // It fails for no socket that is open.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Between two looks at something that does not wake this thread.
const PAUSE: Duration = Duration::from_millis(100);
/// The threads copy, and call nothing deep.
const STACK: usize = 256 * 1024;
