//! A host to connect to, made with the library, and the program as a user runs it.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framefd::auth::{Key, KeyId, Keyring, ServerName, Terms, generate};
use framefd::serve::{Access, Commands, Files, Limits, Server, ServerOptions, Stopper};
use framefd::{Result, file, frame};

/// A server with a directory: its files are in `root`, the user's home beside it.
pub struct Host {
    pub address: String,
    pub directory: tempfile::TempDir,
    pub stopper: Stopper,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Which connections a host takes.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Sealed,
    Plain,
    PlainWithKey,
}

/// What a host serves: all of it by default.
#[derive(Clone, Copy)]
pub struct Serves {
    pub commands: bool,
    pub files: bool,
    pub write: bool,
    pub connections: usize,
}

impl Default for Serves {
    fn default() -> Serves {
        Serves { commands: true, files: true, write: true, connections: 1000 }
    }
}

impl Host {
    /// A host named `db` that knows the key `me` in the user's `key`.
    pub fn new(kind: Kind) -> Host {
        Host::serving(kind, Serves::default())
    }

    /// One that serves no more than this.
    pub fn serving(kind: Kind, offer: Serves) -> Host {
        let directory = tempfile::tempdir().unwrap();
        for name in ["root", "home"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let key = directory.path().join("home/key");
        generate(&key).unwrap();
        let ring = Keyring::new();
        let bytes = std::fs::read(&key).unwrap();
        ring.add(KeyId::new(b"me").unwrap(), Key::new(&bytes).unwrap()).unwrap();
        let terms = Terms { name: ServerName::new(b"db").unwrap(), ..Terms::default() };
        let ring = (kind != Kind::Plain).then(|| Arc::new(ring));
        let plain = kind == Kind::PlainWithKey;
        let access = Access { ring, plain, terms, ..Access::default() };
        let limits = Limits { max_connections: offer.connections, ..Limits::default() };
        let options = ServerOptions { access, workers: 4, limits, ..ServerOptions::default() };
        let server = Server::new(options).unwrap();
        if offer.commands {
            server.serve_commands(Commands::default()).unwrap();
        }
        if offer.files {
            let root: OwnedFd = std::fs::File::open(directory.path().join("root")).unwrap().into();
            let rights = if offer.write { file::Rights::ALL } else { file::Rights::READ };
            let options =
                file::ServeOptions { sync: false, rights, ..file::ServeOptions::default() };
            let files = Files { root, options, policy: None };
            server.serve_files(files).unwrap();
        }
        let listener = frame::listen("127.0.0.1:0", 0, 0).unwrap();
        let address = frame::address_of(listener.as_fd(), false).unwrap();
        server.listen(listener).unwrap();
        let stopper = server.stopper();
        let thread = Some(std::thread::spawn(move || server.run()));
        Host { address: String::from_utf8(address).unwrap(), directory, stopper, thread }
    }

    /// The program with nothing in its environment but a home.
    pub fn framefd(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_framefd"));
        command.env_clear().env("HOME", self.home()).current_dir(self.home()).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// With the arguments that reach this host, before `{}` in `words`.
    pub fn with_key(&self, words: &[&str]) -> Command {
        let mut all = vec![words[0], "-k", "key", "--id", "me", "--name", "db"];
        let words: Vec<String> =
            words[1..].iter().map(|word| word.replace("{}", &self.address)).collect();
        all.extend(words.iter().map(String::as_str));
        self.framefd(&all)
    }

    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub fn root(&self, name: &str) -> PathBuf {
        self.directory.path().join("root").join(name)
    }

    /// Writes the file of hosts.
    pub fn known(&self, text: &str) {
        let directory = self.home().join(".config/framefd");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("hosts.toml"), text).unwrap();
    }

    /// One that knows this host as `web` and a port where nobody listens as `gone`.
    pub fn usual(&self) {
        self.known(&format!(
            "[web]\naddress = '{}'\n[gone]\naddress = '127.0.0.1:1'\n\
             ['*']\nkey = '~/key'\nid = 'me'\nname = 'db'\n",
            self.address
        ));
    }
}

/// A host that the user knows as `web`.
pub fn usual() -> Host {
    let host = Host::new(Kind::Sealed);
    host.usual();
    host
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stopper.stop();
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a program has said, and how it ended.
pub fn done(command: &mut Command) -> (i32, String, String) {
    told(&command.output().unwrap())
}

pub fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The same with bytes on standard input.
pub fn done_with(command: &mut Command, input: &[u8]) -> (i32, String, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    told(&output)
}

/// The program failed with 255 and one line with this in it.
#[track_caller]
pub fn refused(command: &mut Command, why: &str) {
    refused_with(command, 255, why);
}

#[track_caller]
pub fn refused_with(command: &mut Command, status: i32, why: &str) {
    let (code, stdout, stderr) = done(command);
    assert!(stderr.contains(why), "{stderr}");
    assert!(stderr.starts_with("framefd: ") && stderr.ends_with('\n'), "{stderr:?}");
    assert_eq!((stderr.matches('\n').count(), code, stdout.as_str()), (1, status, ""), "{stderr}");
}

/// Sends a signal to a program.
pub fn kill(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// Reads up to the text.
pub fn read_until(from: &mut impl std::io::Read, text: &str) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(text.as_bytes()) {
        let got = from.read(&mut byte).unwrap();
        assert_eq!(got, 1, "it ended after {:?}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    String::from_utf8(seen).unwrap()
}

/// Waits until it is true.
#[track_caller]
pub fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a file has, once it has anything.
pub fn content_of(path: &Path) -> String {
    eventually("a file has content", || std::fs::read(path).is_ok_and(|bytes| !bytes.is_empty()));
    let mut text = String::new();
    std::fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Bytes that do not repeat soon.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..u32::try_from(len).unwrap()).map(|i| ((i * 31) >> 5).to_le_bytes()[0]).collect()
}
