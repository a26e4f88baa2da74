//! Files put, got and served: whole, refused, cut and lied about.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod at_work;
mod broken;
mod continued;
mod conversation;
mod early;
mod in_place;
mod killed;
mod left_out;
mod lies;
mod mirror;
mod modes;
mod paths;
mod peers;
mod rate;
mod refused;
mod resume;
mod rights;
mod sealed;
mod tree_lies;
mod trees;
mod whole;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use common::channel::{socket_pair, tcp};
use common::exec::connect;
use common::sealing::{self, Link};
use common::{encoded, file_of, peer};
use framefd::ops::file::{self, Local, ServeOptions, Served, Transfer, Transferred};
use framefd::ops::frame::{self, Connection, Frame};
use framefd::wire::digest::Hasher;
use framefd::wire::json::header::Header;
use framefd::{Duplex, Error, ErrorKind, Result};
use tempfile::TempDir;

/// A server's root with a file `old`, and a folder beside it for a client's files.
struct Tree {
    dir: TempDir,
    root: File,
}

impl Tree {
    fn new() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "local"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("root/old"), "old").unwrap();
        let root = File::open(dir.path().join("root")).unwrap();
        Tree { dir, root }
    }

    /// In the root.
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    /// Among the client's files.
    fn local(&self, name: &str) -> PathBuf {
        self.dir.path().join("local").join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    /// What is in the root, temporaries included.
    fn names(&self) -> Vec<String> {
        names(&self.at(""))
    }

    fn assert_untouched(&self) {
        assert_eq!((self.names(), self.read("old")), (vec!["old".into()], b"old".to_vec()));
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().display().to_string()).collect();
    names.sort();
    names
}

/// The id of a connection's first request.
const FIRST: &str = "~1";

/// One end of a connection.
struct End {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl End {
    fn of(socket: impl Into<OwnedFd>) -> End {
        let reader = socket.into();
        End { writer: reader.try_clone().unwrap(), reader }
    }

    /// A client's connection of it. What is in sync when it is dropped can go on with another.
    fn connection(&self) -> Link<'_> {
        sealing::as_client(self.duplex(), connect)
    }

    /// A server's.
    fn server(&self) -> Link<'_> {
        sealing::as_server(self.duplex(), connect)
    }

    fn duplex(&self) -> Duplex<'_> {
        Duplex { reader: self.reader.as_fd(), writer: self.writer.as_fd() }
    }

    /// Sends bytes that need not be a frame.
    fn send(&self, bytes: &[u8]) {
        peer::send_bytes(&self.writer, bytes);
    }

    /// Sends a frame whose header is given as text, `data_size` included or not.
    fn send_raw(&self, header: &str, body: &[u8]) {
        self.send(&encoded(header, body));
    }

    /// For sockets: nothing more comes.
    fn half_close(&self) {
        rustix::net::shutdown(&self.writer, rustix::net::Shutdown::Write).unwrap();
    }

    /// For a server: replies to a request with this id.
    fn answer(&self, id: &str, frames: &[u8]) {
        self.send(&sealing::repeating(id, frames));
    }

    fn recv(&self) -> Frame {
        frame::recv(self.reader.as_fd(), &frame::Options::default()).unwrap()
    }

    /// Sends a request and returns the code of the error reply, or `ok`.
    fn ask(&self, header: &str, body: &[u8]) -> String {
        self.send_raw(header, body);
        status(&self.recv())
    }

    /// That the server still reads and answers at the right place.
    fn assert_in_sync(&self) {
        self.assert_in_sync_with("old", b"old");
    }

    /// The same where the file has this content.
    fn assert_in_sync_with(&self, name: &str, content: &[u8]) {
        self.send_raw(&format!(r#"{{"cmd":"get","filename":"{name}"}}"#), b"");
        assert_eq!(self.recv().body, content);
    }

    fn is_closed(&self) -> bool {
        let received = frame::recv(self.reader.as_fd(), &frame::Options::default());
        received.is_err_and(|error| error.kind() == ErrorKind::Closed)
    }
}

fn status(reply: &Frame) -> String {
    let status = reply.header.string("status").unwrap();
    if status == "error" { reply.header.string("code").unwrap().into() } else { status.into() }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Unix,
    Tcp,
    Pipes,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Unix, Kind::Tcp, Kind::Pipes];

    /// A new connection: the client's end and the server's.
    fn connect(self) -> (End, End) {
        match self {
            Kind::Unix => {
                let (client, server) = socket_pair();
                (End::of(client), End::of(server))
            }
            Kind::Tcp => {
                let (client, server) = tcp();
                (End::of(client), End::of(server))
            }
            Kind::Pipes => {
                let flags = rustix::pipe::PipeFlags::CLOEXEC;
                let (up_reader, up_writer) = rustix::pipe::pipe_with(flags).unwrap();
                let (down_reader, down_writer) = rustix::pipe::pipe_with(flags).unwrap();
                (
                    End { reader: down_reader, writer: up_writer },
                    End { reader: up_reader, writer: down_writer },
                )
            }
        }
    }
}

/// What a server did until its client was gone, or it had to close.
#[derive(Debug)]
struct Session {
    served: Vec<Served>,
    end: Error,
    /// Of the transfer that was cut.
    so_far: Transferred,
}

/// Serves one request after the other.
fn serve(end: &End, root: &File, options: &ServeOptions<'_>) -> Session {
    let mut connection = end.server();
    let mut served = Vec::new();
    let so_far = Mutex::default();
    let options = ServeOptions { so_far: Some(&so_far), ..*options };
    let end = loop {
        match serve_one(&mut connection, root, &options) {
            Ok(one) => served.push(one),
            Err(error) => break error,
        }
    };
    let so_far = so_far.into_inner().unwrap();
    Session { served, end, so_far }
}

fn serve_one(
    connection: &mut Connection<'_>,
    root: &File,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let (view, _) = connection.recv_header(None)?;
    let header = Header::parse(view.header().as_bytes().to_vec(), 32)?;
    file::serve(connection, &header, root.as_fd(), options)
}

/// Runs `client` against a server with `options`.
fn against<T>(
    kind: Kind,
    tree: &Tree,
    options: fn() -> ServeOptions<'static>,
    client: impl FnOnce(&End) -> T,
) -> (T, Session) {
    let (client_end, server_end) = kind.connect();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || serve(&server_end, &tree.root, &options()));
        let outcome = client(&client_end);
        drop(client_end);
        (outcome, server.join().unwrap())
    })
}

/// The same if nothing about the connection and the options matters.
fn with_server<T>(tree: &Tree, client: impl FnOnce(&End) -> T) -> T {
    against(Kind::Unix, tree, ServeOptions::default, client).0
}

/// How a transfer is made if nothing is said of it; the name and the place are others.
fn plain() -> Transfer<'static> {
    Transfer::path(b"", Path::new(""))
}

/// A server that does not wait for the disk.
fn quick() -> ServeOptions<'static> {
    ServeOptions { sync: false, ..ServeOptions::default() }
}

fn put_fd(
    end: &End,
    name: &[u8],
    source: BorrowedFd<'_>,
    length: Option<u64>,
    how: &Transfer<'_>,
) -> Result<Transferred> {
    let what = Transfer { name, local: Local::Fd(source), length, ..*how };
    file::put(&mut end.connection(), &what, None)
}

fn put_path(end: &End, name: &[u8], path: &Path, how: &Transfer<'_>) -> Result<Transferred> {
    let what = Transfer { name, local: Local::Path(path), ..*how };
    file::put(&mut end.connection(), &what, None)
}

fn get_fd(end: &End, name: &[u8], dest: BorrowedFd<'_>, how: &Transfer<'_>) -> Result<Transferred> {
    let what = Transfer { name, local: Local::Fd(dest), ..*how };
    file::get(&mut end.connection(), &what, None)
}

fn get_path(end: &End, name: &[u8], path: &Path, how: &Transfer<'_>) -> Result<Transferred> {
    let what = Transfer { name, local: Local::Path(path), ..*how };
    file::get(&mut end.connection(), &what, None)
}

fn send_tree(end: &End, name: &[u8], path: &Path, how: &Transfer<'_>) -> Result<Transferred> {
    put_path(end, name, path, &Transfer { tree: true, ..*how })
}

fn take_tree(end: &End, name: &[u8], path: &Path, how: &Transfer<'_>) -> Result<Transferred> {
    get_path(end, name, path, &Transfer { tree: true, sync: false, ..*how })
}

fn digest(bytes: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish().to_string()
}

/// What came of one whole file without a digest.
fn unhashed_file(bytes: u64) -> Transferred {
    Transferred { bytes, files: 1, ..Transferred::default() }
}

/// Different at every place within a period that fits no buffer.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn rewound(mut file: File) -> File {
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn put(end: &End, name: &str, bytes: &[u8]) -> Result<Transferred> {
    let source = file_of(bytes);
    put_fd(end, name.as_bytes(), source.as_fd(), None, &plain())
}

fn get_with(end: &End, name: &str, how: &Transfer<'_>) -> (Result<Transferred>, Vec<u8>) {
    let dest = tempfile::tempfile().unwrap();
    let got = get_fd(end, name.as_bytes(), dest.as_fd(), how);
    let mut bytes = Vec::new();
    rewound(dest).read_to_end(&mut bytes).unwrap();
    (got, bytes)
}

fn get(end: &End, name: &str) -> (Result<Transferred>, Vec<u8>) {
    get_with(end, name, &plain())
}
