//! Files put, got and served: whole, refused, cut and lied about.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod broken;
mod continued;
mod killed;
mod lies;
mod paths;
mod peers;
mod rate;
mod refused;
mod resume;
mod tree_lies;
mod trees;
mod whole;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use common::encoded;
use framefd::ops::file::{self, Options, Served, Transfer};
use framefd::ops::frame::{self, Body, Frame};
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

/// One end of a connection.
struct End {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl End {
    fn duplex(&self) -> Duplex<'_> {
        Duplex { reader: self.reader.as_fd(), writer: self.writer.as_fd() }
    }

    /// Sends bytes that need not be a frame.
    fn send(&self, bytes: &[u8]) {
        File::from(self.writer.try_clone().unwrap()).write_all(bytes).unwrap();
    }

    /// Sends a frame whose header is given as text, `data_size` included or not.
    fn send_raw(&self, header: &str, body: &[u8]) {
        self.send(&encoded(header, body));
    }

    /// For sockets: nothing more comes.
    fn half_close(&self) {
        rustix::net::shutdown(&self.writer, rustix::net::Shutdown::Write).unwrap();
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
    fn assert_in_step(&self) {
        self.assert_in_step_with("old", b"old");
    }

    /// The same where the file has this content.
    fn assert_in_step_with(&self, name: &str, content: &[u8]) {
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
        fn both(socket: impl Into<OwnedFd>) -> End {
            let reader = socket.into();
            End { writer: reader.try_clone().unwrap(), reader }
        }
        match self {
            Kind::Unix => {
                let (client, server) = UnixStream::pair().unwrap();
                (both(client), both(server))
            }
            Kind::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                (both(client), both(listener.accept().unwrap().0))
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
}

/// Serves one request after the other.
fn serve(end: &End, root: &File, options: &Options<'_>) -> Session {
    let mut served = Vec::new();
    let mut one = || {
        let (header, mut body) =
            frame::recv_header(end.reader.as_fd(), &frame::Options::default())?;
        let body = Body::Stream(&mut body);
        served.push(file::serve(end.duplex(), &header, body, root.as_fd(), options)?);
        Ok(())
    };
    let end = loop {
        if let Err(error) = one() {
            break error;
        }
    };
    Session { served, end }
}

/// Runs `client` against a server with `options`.
fn against<T>(
    kind: Kind,
    tree: &Tree,
    options: fn() -> Options<'static>,
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

/// The same where nothing about the connection and the options matters.
fn with_server<T>(tree: &Tree, client: impl FnOnce(&End) -> T) -> T {
    against(Kind::Unix, tree, Options::default, client).0
}

/// Different at every place within a period that fits no buffer.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    rewound(file)
}

fn rewound(mut file: File) -> File {
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn put(end: &End, name: &str, bytes: &[u8]) -> Result<Transfer> {
    let source = file_of(bytes);
    file::put(end.duplex(), name.as_bytes(), source.as_fd(), None, &Options::default())
}

fn get_with(end: &End, name: &str, options: &Options<'_>) -> (Result<Transfer>, Vec<u8>) {
    let dest = tempfile::tempfile().unwrap();
    let got = file::get(end.duplex(), name.as_bytes(), dest.as_fd(), options);
    let mut bytes = Vec::new();
    rewound(dest).read_to_end(&mut bytes).unwrap();
    (got, bytes)
}

fn get(end: &End, name: &str) -> (Result<Transfer>, Vec<u8>) {
    get_with(end, name, &Options::default())
}
