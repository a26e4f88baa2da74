//! Our side against the plain Python programs of tests/peers.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use framefd::ErrorKind;
use framefd::ops::file::{ServeOptions, Transfer};

use crate::common::{kind, sealing};
use crate::{End, Session, Tree, content, file_of, get, plain, put, put_fd, serve};

fn peer(name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let mut command = Command::new("python3");
    command.arg(folder.join(name)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A server that runs until this is dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str, tree: &Tree) -> Server {
        let mut command = peer(name);
        command.args(["127.0.0.1", "0"]).arg(tree.at("")).stdout(Stdio::piped());
        let mut process = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Server { process, address }
    }

    fn connect(&self) -> End {
        End::of(TcpStream::connect(self.address).unwrap())
    }

    /// It serves one client after the other: once it has ended the next one, it is done
    /// with all before.
    fn finish(&self) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a client of theirs against our server.
fn ask(name: &str, arguments: &[&str], tree: &Tree, options: &ServeOptions<'_>) -> (bool, Session) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut command = peer(name);
    command.args(["127.0.0.1", &port]).args(arguments).stderr(Stdio::null());
    let mut client = command.spawn().unwrap();
    let session = serve(&End::of(listener.accept().unwrap().0), &tree.root, options);
    (client.wait().unwrap().success(), session)
}

/// Local files of the client, as arguments.
fn sources(tree: &Tree) -> Vec<String> {
    let files = [("empty", vec![]), ("small", b"a\nb".to_vec()), ("big", content(200_000))];
    files
        .into_iter()
        .map(|(name, bytes)| {
            fs::write(tree.local(name), bytes).unwrap();
            tree.local(name).display().to_string()
        })
        .collect()
}

fn assert_stored(tree: &Tree) {
    for name in ["empty", "small", "big"] {
        assert!(tree.read(name) == fs::read(tree.local(name)).unwrap(), "{name}");
    }
}

#[test]
fn the_old_uploader() {
    let tree = Tree::new();
    for path in sources(&tree) {
        let (success, session) =
            ask("file_client.py", &["put", &path], &tree, &ServeOptions::default());
        assert!(success && session.served.len() == 1, "{session:?}");
    }
    assert_stored(&tree);
}

#[test]
fn the_old_uploader_with_several_files() {
    let tree = Tree::new();
    let paths = sources(&tree);
    let arguments: Vec<&str> = ["put"].into_iter().chain(paths.iter().map(|p| &**p)).collect();
    let silent = ServeOptions { reply: false, ..ServeOptions::default() };
    let (success, session) = ask("file_client.py", &arguments, &tree, &silent);
    assert!(success && session.end.kind() == ErrorKind::Closed, "{session:?}");
    assert_stored(&tree);
}

#[test]
fn the_client_that_reads_replies() {
    let tree = Tree::new();
    let options = ServeOptions::default();
    for path in sources(&tree) {
        assert!(ask("file_get_client.py", &["put", &path], &tree, &options).0);
    }
    assert_stored(&tree);
    for name in ["empty", "small", "big"] {
        let copy = tree.local("copy").display().to_string();
        assert!(ask("file_get_client.py", &["get", name, &copy], &tree, &options).0);
        assert!(fs::read(copy).unwrap() == tree.read(name), "{name}");
    }
    let (success, session) = ask("file_get_client.py", &["get", "missing"], &tree, &options);
    assert!(!success && session.served.len() == 1, "{session:?}");
}

#[test]
fn the_old_server() {
    let tree = Tree::new();
    let server = Server::start("file_server.py", &tree);
    let old = Transfer { reply: false, ..plain() };
    let end = server.connect();
    for size in [0, 1, 200_000] {
        let source = file_of(&content(size));
        let name = size.to_string();
        put_fd(&end, name.as_bytes(), source.as_fd(), None, &old).unwrap();
    }
    drop(end);
    server.finish();
    for size in [0, 1, 200_000] {
        assert!(tree.read(&size.to_string()) == content(size), "{size}");
    }
}

#[test]
fn the_server_that_replies_and_knows_no_trailer() {
    if sealing::leaves_out(sealing::NO_IDS) {
        return;
    }
    let tree = Tree::new();
    let server = Server::start("file_get_server.py", &tree);
    let unhashed = Transfer { checksum: false, ..plain() };
    let end = server.connect();
    for size in [0, 1, 200_000] {
        let source = file_of(&content(size));
        put_fd(&end, b"new", source.as_fd(), None, &unhashed).unwrap();
        let (got, bytes) = get(&end, "new");
        assert_eq!(got.unwrap().bytes, size as u64);
        assert!(bytes == content(size), "{size}");
    }
    assert_eq!(kind(get(&end, "missing").0), ErrorKind::RemoteNotFound);
    // It has stored the file when it meets what it does not know, and compares nothing.
    let sent = put(&end, "last", b"content").unwrap();
    assert!(sent.sha256.is_some());
    assert_eq!(tree.read("last"), b"content");
}
