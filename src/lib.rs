//! Messages, sealed connections, remote commands and files over any file descriptor.
//!
//! One module for each feature:
//!
//! - [`frame`]: messages, one on a raw descriptor, or a conversation on a
//!   [`Connection`](frame::Connection); addresses; a decoder for event loops.
//! - [`auth`]: proof of a shared key, sealed connections, keys in files, rings of keys.
//! - [`exec`]: commands, run at a peer or for one.
//! - [`mod@file`]: files and trees, served, put and fetched.
//! - [`datagram`]: messages and commands in datagrams.
//! - [`serve`]: a server for all of them, and for a program's own requests.
//!
//! Every failure is an [`Error`] with an [`ErrorKind`], whose numbers are those of the C
//! interface, `include/framefd.h`. A timeout is a `Duration`, or `None` to wait forever.
//!
//! In the source, docs/protocol.md describes the wire and docs/architecture.md the code.

// Some parts have the server alone as their user.
#![cfg_attr(not(feature = "serve"), allow(dead_code, unused_imports))]

pub mod error;
pub mod limits;

/// Messages: a JSON header and a body, or a length and bytes.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
///
/// use framefd::frame::{Connection, ConnectionOptions};
///
/// # fn main() -> framefd::Result<()> {
/// let (ours, theirs) = UnixStream::pair().unwrap();
/// let mut client = Connection::new(OwnedFd::from(ours), ConnectionOptions::default())?;
/// let mut server = Connection::new(OwnedFd::from(theirs), ConnectionOptions::default())?;
///
/// client.send(Some(r#"{"cmd":"add"}"#), b"body", None)?;
/// let message = server.next(Duration::from_secs(5))?;
/// assert_eq!(message.header(), r#"{"data_size":4,"cmd":"add"}"#);
/// assert_eq!(message.body(), b"body");
/// # Ok(())
/// # }
/// ```
pub mod frame {
    pub use crate::io::deadline::{Deadline, Time, TimeLimit};
    pub use crate::io::stream::address::{accept, address_of, connect, listen};
    pub use crate::io::wait::{Hook, Interrupt};
    pub use crate::ops::Duplex;
    pub use crate::ops::frame::{
        Client, Connection, ConnectionOptions, Credentials, Ends, Frame, Handle, IfLarge, Message,
        Options, ReceiveHalf, Received, SendHalf, Sent, State, recv, recv_into, recv_packet,
        recv_packet_into, send, send_packet, send_slices,
    };
    pub use crate::wire::frame::decoder::{Decoder, FrameView, Limits};
    pub use crate::wire::frame::packet::PrefixFormat;
    pub use crate::wire::frame::queue::Format;
    pub use crate::wire::json::header::Header;
    pub use crate::wire::json::writer::HeaderBuilder;
}

/// Proof of a shared key. [`Connection::seal_client`](frame::Connection::seal_client) and
/// [`seal_server`](frame::Connection::seal_server) prove both ends and encrypt everything that
/// follows. [`client`](auth::client), [`server`](auth::server) and their namesakes of a connection
/// prove the client when the connection opens, and nothing else.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
///
/// use framefd::auth::{Key, KeyId, Keyring, ServerName, Terms};
/// use framefd::frame::{Connection, ConnectionOptions};
///
/// # fn main() -> framefd::Result<()> {
/// let (ours, theirs) = UnixStream::pair().unwrap();
/// let (key, id, time) = (Key::generate()?, KeyId::new(b"web-1")?, Duration::from_secs(5));
/// let terms = Terms { name: ServerName::new(b"db")?, client_serves: false };
///
/// let ring = Keyring::new();
/// ring.add(id.clone(), key.clone())?;
/// let known = terms.clone();
/// let server = std::thread::spawn(move || {
///     let mut client = Connection::new(OwnedFd::from(theirs), ConnectionOptions::default())?;
///     client.seal_server(&ring, &known, time)
/// });
/// let mut connection = Connection::new(OwnedFd::from(ours), ConnectionOptions::default())?;
/// connection.seal_client(&key, &id, &terms, None, time)?;
/// assert_eq!(server.join().unwrap()?, id);
/// # Ok(())
/// # }
/// ```
pub mod auth {
    pub use crate::ops::auth::key_file::{Rules, generate, load};
    pub use crate::ops::auth::keyring::Keyring;
    pub use crate::ops::auth::{Options, SealedStream, client, server, server_ring};
    pub use crate::ops::frame::Proof;
    pub use crate::wire::auth::{Key, KeyId};
    pub use crate::wire::seal::stream::Read;
    pub use crate::wire::seal::terms::{ServerName, Suite, Terms};
}

/// Commands: run at a peer, streamed, or served.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
///
/// use framefd::exec::{self, Request, ServeOptions};
/// use framefd::frame::{Connection, ConnectionOptions, Header};
///
/// # fn main() -> framefd::Result<()> {
/// let (ours, theirs) = UnixStream::pair().unwrap();
/// std::thread::spawn(move || -> framefd::Result<()> {
///     let mut client = Connection::new(OwnedFd::from(theirs), ConnectionOptions::default())?;
///     let (view, _) = client.recv_header(None)?;
///     let request = Header::parse(view.header().into(), 32)?;
///     exec::serve(&mut client, &request, &ServeOptions::default())?;
///     client.end(true, Duration::from_secs(1))
/// });
/// let mut server = Connection::new(OwnedFd::from(ours), ConnectionOptions::default())?;
/// let request = Request { command: b"echo hello", ..Request::default() };
/// let reply = exec::call(&mut server, &request, Duration::from_secs(10))?;
/// assert_eq!(reply.stdout(), b"hello\n");
/// # Ok(())
/// # }
/// ```
pub mod exec {
    pub use crate::io::process::environment::{Base, Environment};
    pub use crate::io::process::spawn::Confinement;
    pub use crate::io::process::terminal::WindowSize;
    pub use crate::ops::exec::{
        Choice, Inquiry, Limits, OnOutputLimit, Policy, RemoteCommand, Reply, Report, Request,
        Running, ServeOptions, Served, Stream, call, run_and_reply, run_locally, serve, start,
    };
    pub use crate::wire::message::exec::{ExecReply, ExecRequest, OnClose, Outcome, Tty};
}

/// Files and trees: put to a server, fetched from one, or served.
///
/// ```no_run
/// use std::path::Path;
/// use std::time::Duration;
///
/// use framefd::file::{self, Transfer};
/// use framefd::frame::{self, Connection, ConnectionOptions, Deadline};
///
/// # fn main() -> framefd::Result<()> {
/// let fd = frame::connect("localhost:7001", Deadline::after(Duration::from_secs(10)), None)?;
/// let mut server = Connection::new(fd, ConnectionOptions::default())?;
/// let stored = file::put(&mut server, &Transfer::path(b"notes/a", Path::new("a")), None)?;
/// println!("{} bytes", stored.bytes);
/// # Ok(())
/// # }
/// ```
pub mod file {
    pub use crate::ops::file::{
        Change, Choice, Entry, Inquiry, Kind, Links, Local, Mirror, PartialFile, Policy, Progress,
        Rights, ServeOptions, Served, Stat, Transfer, Transferred, get, list, mirror_get,
        mirror_put, mkdir, partial, put, serve, stat, sweep,
    };
    pub use crate::wire::digest::Digest;
}

/// Messages and commands in datagrams, UDP or Unix.
///
/// ```
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixDatagram;
///
/// use framefd::datagram::{self, Options};
///
/// # fn main() -> framefd::Result<()> {
/// let (ours, theirs) = UnixDatagram::pair().unwrap();
/// datagram::send(ours.as_fd(), None, Some(r#"{"n":1}"#), b"body", &Options::default())?;
/// let (frame, _) = datagram::recv(theirs.as_fd(), &Options::default())?;
/// assert_eq!((frame.header.integer("n")?, &frame.body[..]), (1, &b"body"[..]));
/// # Ok(())
/// # }
/// ```
pub mod datagram {
    pub use crate::ops::datagram::exec::{Answer, Server, request};
    pub use crate::ops::datagram::{Options, recv, send};
}

#[cfg(feature = "serve")]
/// Servers: they accept connections, check keys, serve requests, and stop without losing one.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use std::os::unix::net::UnixStream;
///
/// use framefd::frame::{Connection, ConnectionOptions};
/// use framefd::serve::{BodyMode, Server, ServerOptions};
///
/// # fn main() -> framefd::Result<()> {
/// let (ours, theirs) = UnixStream::pair().unwrap();
/// let server = Server::new(ServerOptions::default())?;
/// server.add(OwnedFd::from(theirs))?;
/// server.handle("shout", BodyMode::Whole, |connection, request| {
///     let loud = request.body.to_ascii_uppercase();
///     connection.reply(request.header.text(), None, &loud, None)
/// })?;
/// let stopper = server.stopper();
/// let running = std::thread::spawn(move || server.run());
/// let mut client = Connection::new(OwnedFd::from(ours), ConnectionOptions::default())?;
/// assert_eq!(client.call(r#"{"cmd":"shout"}"#, b"hello", None)?.body, b"HELLO");
/// stopper.stop();
/// running.join().unwrap()
/// # }
/// ```
pub mod serve {
    pub use crate::ops::serve::{
        Access, BodyMode, Commands, Counters, ExecPolicy, FilePolicy, Files, Handler, Interrupted,
        Later, Level, Limits, Listening, LogFunction, Request, Served, ServedFunction, Server,
        ServerOptions, Stopper, What,
    };
}

// The layers, each importing only from those below it. They are public only for the tests of
// this crate, and change without notice.

#[doc(hidden)]
pub mod ffi;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod ops;
#[doc(hidden)]
pub mod wire;

pub use error::{Error, ErrorKind, Result};
#[doc(hidden)]
pub use ops::Duplex;
#[doc(hidden)]
pub use wire::auth::Key;
