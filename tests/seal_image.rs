//! What the memory of a process has of a sealed connection: during the session its two keys,
//! afterwards none of them, and at no time a secret of the handshake.
//!
//! The process is this program again, as one end of a connection. The other end is written by hand,
//! and knows every secret: it looks for them in all memory that the process can write to, as a core
//! dump has it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use curve25519_dalek::montgomery::MontgomeryPoint;
use framefd::limits::SEAL_BYTES;
use framefd::ops::auth::key_file::{self, Rules};
use framefd::ops::auth::keyring::Keyring;
use framefd::ops::frame::{Connection, ConnectionOptions};
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::terms::{ServerName, Suite, Terms};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

#[path = "common/noise.rs"]
mod noise;

use noise::Noise;

const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];
const LONG: Duration = Duration::from_secs(20);
const ID: &str = "web-1";
const NAME: &str = "db";

#[test]
fn a_client_keeps_no_secret() {
    if let Some(mut part) = Part::of_this_process() {
        let key = key_file::load(&part.keys().join(ID), Rules::default()).unwrap();
        let id = KeyId::new(ID.as_bytes()).unwrap();
        let mut connection = part.connect();
        connection.seal_client(&key, &id, &terms(), Some(part.suite), LONG).unwrap();
        return part.play(connection, || drop(key));
    }
    for suite in SUITES {
        let mut process = Process::start("a_client_keeps_no_secret", suite);
        let sent: [u8; HELLO + 48] = process.receive();
        let e = *sent[HELLO..].first_chunk().unwrap();
        // It is there meanwhile, and would be found.
        assert!(process.image().has_private_key(&e), "{suite:?}");

        let private = random();
        let re = MontgomeryPoint::mul_base_clamped(private).to_bytes();
        let mut noise = process.noise();
        noise.public(&e);
        assert_eq!(noise.tag(), sent[HELLO + 32..]);
        noise.public(&re);
        noise.multiply(private, &e);
        process.send(&[&[0, 48], &re[..], &noise.tag()].concat());
        let [theirs, ours] = noise.split();
        let confirm: [u8; 19] = process.receive();
        assert_eq!(noise::seal(suite, &theirs, 0, &[], &mut [2]), confirm[3..]);
        process.watch(&noise, &e, [theirs, ours]);
    }
}

#[test]
fn a_server_keeps_no_secret() {
    if let Some(mut part) = Part::of_this_process() {
        let ring = Keyring::new();
        ring.load(&part.keys(), Rules::default()).unwrap();
        let mut connection = part.connect();
        connection.seal_server(&ring, &terms(), LONG).unwrap();
        return part.play(connection, || drop(ring));
    }
    for suite in SUITES {
        let mut process = Process::start("a_server_keeps_no_secret", suite);
        let private = random();
        let e = MontgomeryPoint::mul_base_clamped(private).to_bytes();
        let mut noise = process.noise();
        noise.public(&e);
        process.send(&[&preface(suite)[..], &[0, 48], &e, &noise.tag()].concat());
        let reply: [u8; 50] = process.receive();
        let re = *reply[2..].first_chunk().unwrap();
        noise.public(&re);
        noise.multiply(private, &re);
        assert_eq!(noise.tag(), reply[34..]);
        let [ours, theirs] = noise.split();
        let mut confirm = [2];
        let tag = noise::seal(suite, &ours, 0, &[], &mut confirm);
        process.send(&[&[0, 17], &confirm[..], &tag].concat());
        process.watch(&noise, &re, [theirs, ours]);
    }
}

/// The process that is looked at.
struct Part {
    suite: Suite,
    directory: PathBuf,
    control: UnixStream,
}

impl Part {
    fn of_this_process() -> Option<Part> {
        let part = std::env::var(PART).ok()?;
        let (suite, directory) = part.split_once(' ').unwrap();
        let control = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        Some(Part {
            suite: SUITES.into_iter().find(|known| format!("{known:?}") == suite).unwrap(),
            directory: directory.into(),
            control: control.into(),
        })
    }

    fn keys(&self) -> PathBuf {
        self.directory.join("keys")
    }

    fn connect(&self) -> Connection<'static> {
        let stream = OwnedFd::from(UnixStream::connect(self.directory.join("socket")).unwrap());
        Connection::new(stream, ConnectionOptions::default()).unwrap()
    }

    /// After the handshake.
    fn play(&mut self, mut connection: Connection<'_>, drop_keys: impl FnOnce()) {
        connection.send(None, b"hello", LONG).unwrap();
        self.is_watched();
        let body = vec![b'x'; 16 << 20];
        for _ in 0..SEAL_BYTES / body.len() as u64 {
            connection.send(None, &body, LONG).unwrap();
        }
        drop(body);
        self.is_watched();
        drop(connection);
        self.is_watched();
        drop_keys();
        self.is_watched();
    }

    fn is_watched(&mut self) {
        self.control.write_all(b".").unwrap();
        self.control.read_exact(&mut [0]).unwrap();
    }
}

/// That process as its peer has it.
struct Process {
    child: Child,
    control: UnixStream,
    stream: UnixStream,
    key: Vec<u8>,
    suite: Suite,
    _directory: TempDir,
}

impl Process {
    fn start(test: &str, suite: Suite) -> Process {
        let directory = tempfile::tempdir().unwrap();
        let (keys, path) = (directory.path().join("keys"), directory.path().join("keys").join(ID));
        fs::create_dir(&keys).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
        key_file::generate(&path).unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let (control, other) = UnixStream::pair().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(PART, format!("{suite:?} {}", directory.path().display()))
            .stdin(OwnedFd::from(other))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let timeout = Timespec::try_from(LONG).unwrap();
        let connects = poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&timeout));
        assert_eq!(connects.unwrap(), 1, "it does not connect");
        let (stream, _) = listener.accept().unwrap();
        for waiting in [&stream, &control] {
            waiting.set_read_timeout(Some(LONG)).unwrap();
        }
        let key = fs::read(path).unwrap();
        Process { child, control, stream, key, suite, _directory: directory }
    }

    fn receive<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Of this handshake, at its start.
    fn noise(&self) -> Noise {
        let preface = preface(self.suite);
        let name = [&[u8::try_from(NAME.len()).unwrap()], NAME.as_bytes()].concat();
        let prologue = [noise::VERSION, &[0], &preface, &name].concat();
        Noise::new(self.suite, &self.key, &prologue)
    }

    /// Looks at it in the session and after it. It writes with the first of the keys; `public` is
    /// its part of the handshake.
    fn watch(mut self, noise: &Noise, public: &[u8; 32], [first, read]: [[u8; 32]; 2]) {
        let mut next = [0; 32];
        noise::seal(self.suite, &first, u64::MAX, &[], &mut next);
        let key = self.key.clone();
        let named = [("key", &key[..]), ("first", &first), ("next", &next), ("read", &read)];
        let check = |process: &mut Process, when: &str, expected: &[&str]| {
            let image = process.image();
            for (name, secret) in named {
                let is_there = image.has(secret);
                assert_eq!(is_there, expected.contains(&name), "{when}: {name}");
            }
            for (name, secret) in &noise.secrets {
                let is_known = named.iter().any(|(_, known)| known == secret);
                assert!(is_known || !image.has(secret), "{when}: {name}");
            }
            process.control.write_all(b".").unwrap();
        };
        self.wait();
        assert!(!self.image().has_private_key(public), "in the session: the private key");
        check(&mut self, "in the session", &["key", "first", "read"]);
        let mut stream = self.stream.try_clone().unwrap();
        // All that it sends, to its end.
        let drain = std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        self.wait();
        check(&mut self, "after a change of keys", &["key", "next", "read"]);
        self.wait();
        check(&mut self, "without the connection", &["key"]);
        self.wait();
        check(&mut self, "without the key", &[]);
        assert!(drain.join().unwrap().unwrap() > SEAL_BYTES);
        assert!(self.child.wait().unwrap().success());
    }

    /// Until it waits.
    fn wait(&mut self) {
        self.control.read_exact(&mut [0]).unwrap();
    }

    /// Its memory. It waits meanwhile.
    fn image(&self) -> Image {
        let of_it = Path::new("/proc").join(self.child.id().to_string());
        let memory = File::open(of_it.join("mem")).unwrap();
        let maps = fs::read_to_string(of_it.join("maps")).unwrap();
        let mut mappings = Vec::new();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().unwrap(), words.next().unwrap());
            if !rights.starts_with("rw") {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            memory.read_exact_at(&mut bytes, start).unwrap();
            mappings.extend(used(&bytes));
        }
        assert!(mappings.len() > 5, "{maps}");
        Image(mappings)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// The used parts of a mapping: most pages of a stack are zeros.
fn used(mapping: &[u8]) -> Vec<Vec<u8>> {
    let pages: Vec<_> = mapping.chunks(4096).collect();
    let is_used = |page: &[u8]| page.iter().any(|byte| *byte != 0);
    let parts = pages.chunk_by(|one, next| is_used(one) == is_used(next));
    parts.filter(|part| is_used(part[0])).map(<[_]>::concat).collect()
}

/// The memory of a process, in the parts that it uses.
struct Image(Vec<Vec<u8>>);

impl Image {
    fn has(&self, secret: &[u8]) -> bool {
        let first = secret[0];
        self.0.iter().any(|mapping| {
            let mut left = &mapping[..];
            while let Some(at) = left.iter().position(|byte| *byte == first) {
                left = &left[at..];
                if left.starts_with(secret) {
                    return true;
                }
                left = &left[1..];
            }
            false
        })
    }

    /// Whether it has the private key of `public`, clamped or not.
    fn has_private_key(&self, public: &[u8; 32]) -> bool {
        let is_it = |window: &[u8]| {
            // Neither text nor numbers and addresses: random bytes are neither, with a chance of
            // less than one in a million.
            let is_text = window.iter().all(u8::is_ascii);
            let mut zeros = window.iter().filter(|byte| **byte == 0);
            !is_text && zeros.nth(4).is_none() && {
                let candidate = window.try_into().unwrap();
                MontgomeryPoint::mul_base_clamped(candidate).to_bytes() == *public
            }
        };
        self.0.iter().any(|mapping| mapping.windows(32).any(is_it))
    }
}

/// What a client sends before its message.
fn preface(suite: Suite) -> Vec<u8> {
    [b"FDS1", &[suite as u8, u8::try_from(ID.len()).unwrap()][..], ID.as_bytes()].concat()
}

/// Bytes of that, and of the message's length.
const HELLO: usize = 6 + ID.len() + 2;

fn terms() -> Terms {
    Terms { name: ServerName::new(NAME.as_bytes()).unwrap(), client_serves: false }
}

fn random() -> [u8; 32] {
    Key::generate().unwrap().as_bytes().try_into().unwrap()
}

/// The suite and the directory of a process.
const PART: &str = "FRAMEFD_TEST_PART";
