//! Datagrams over a network that loses, repeats and reorders them, and with good and bad
//! peers.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use framefd::ops::datagram::exec::{Answer, Server};
use framefd::ops::datagram::{self, Options};
use framefd::ops::exec::{Choice, Inquiry, Reply, Request, ServeOptions, Served};
use framefd::wire::datagram::{DatagramKeys, decode, encode};
use framefd::wire::json::header::Header;
use framefd::wire::message::exec::{ExecRequest, OnClose};
use framefd::{Error, ErrorKind, Key, Result};

const LARGEST: usize = 65_507;
/// Long enough for any answer, short enough for a broken test to end.
const LONG: Duration = Duration::from_secs(20);

fn udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn connected(to: SocketAddr) -> UdpSocket {
    let socket = udp();
    socket.connect(to).unwrap();
    socket
}

fn address(of: &UdpSocket) -> SocketAddr {
    of.local_addr().unwrap()
}

fn soon() -> Options {
    Options { timeout: Some(LONG), ..Options::default() }
}

fn key() -> Key {
    Key::new(b"a key of both ends, 32 bytes long").unwrap()
}

fn keys() -> DatagramKeys {
    DatagramKeys::derive(&key()).unwrap()
}

/// The time and the nonce of a request with a key, made now.
fn stamp(nonce: u32) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!(r#""time":{now},"nonce":"{nonce:032x}""#)
}

// ---- one frame in one datagram

#[test]
fn a_frame_goes_there_and_its_answer_back_to_its_source() {
    let (client, server) = (udp(), udp());
    let to = address(&server).into();
    datagram::send(client.as_fd(), Some(&to), Some(r#"{"a":1}"#), b"there", &soon()).unwrap();
    let (frame, source) = datagram::recv(server.as_fd(), &soon()).unwrap();
    assert_eq!((frame.header.integer("a").unwrap(), &frame.body[..]), (1, &b"there"[..]));
    assert_eq!(source, Some(address(&client).into()));
    datagram::send(server.as_fd(), source.as_ref(), None, b"back", &soon()).unwrap();
    assert_eq!(datagram::recv(client.as_fd(), &soon()).unwrap().0.body, b"back");
}

#[test]
fn a_datagram_of_65507_bytes_goes_and_of_65508_does_not() {
    let (client, server) = (udp(), udp());
    client.connect(address(&server)).unwrap();
    let options = Options { max_datagram: LARGEST, ..soon() };
    let head = r#"    {"data_size":65486}"#.len();
    let body = vec![7; LARGEST - head];
    datagram::send(client.as_fd(), None, None, &body, &options).unwrap();
    assert!(datagram::recv(server.as_fd(), &options).unwrap().0.body == body);

    let body = vec![7; LARGEST - head + 1];
    let error = datagram::send(client.as_fd(), None, None, &body, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
    let error = datagram::send(client.as_fd(), None, None, &[7; 8192], &soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig, "8 KiB is the default limit");
    let nothing = Options { timeout: Some(Duration::ZERO), ..soon() };
    let error = datagram::recv(server.as_fd(), &nothing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "nothing was sent");
}

#[test]
fn a_datagram_that_was_cut_is_reported_and_the_next_one_is_whole() {
    let (one, other) = UnixDatagram::pair().unwrap();
    let large = encode(None, &vec![7; 70_000], None, usize::MAX).unwrap();
    one.send(&large).unwrap();
    datagram::send(one.as_fd(), None, None, b"next", &soon()).unwrap();
    let error = datagram::recv(other.as_fd(), &soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.detail().contains(&large.len().to_string()), "{error}");
    let (frame, source) = datagram::recv(other.as_fd(), &soon()).unwrap();
    assert_eq!((&frame.body[..], source), (&b"next"[..], None));
}

#[test]
fn bad_datagrams_are_refused_and_do_no_harm() {
    let (client, server) = (udp(), udp());
    client.connect(address(&server)).unwrap();
    let with_length = |length: i32, rest: &[u8]| [&length.to_le_bytes(), rest].concat();
    let whole = br#"{"data_size":2}ab"#;
    for (bytes, kind) in [
        (Vec::new(), ErrorKind::BadLength),
        (vec![0xff], ErrorKind::BadLength),
        (vec![2, 0, 0, 0], ErrorKind::BadLength),
        (with_length(0, b"{}"), ErrorKind::BadLength),
        (with_length(-1, whole), ErrorKind::BadLength),
        (with_length(i32::MIN, whole), ErrorKind::BadLength),
        (with_length(i32::MAX, whole), ErrorKind::BadLength),
        (with_length(18, whole), ErrorKind::BadLength),
        (with_length(14, whole), ErrorKind::BadJson),
        (with_length(15, &whole[..16]), ErrorKind::BadLength),
        (with_length(15, b"{\"data_size\":2}abc"), ErrorKind::BadLength),
        (with_length(2, b"{}a"), ErrorKind::BadLength),
        (with_length(2, b"[]"), ErrorKind::BadJson),
        (with_length(16, b"{\"data_size\":-1}"), ErrorKind::BadField),
    ] {
        client.send(&bytes).unwrap();
        let error = datagram::recv(server.as_fd(), &soon()).unwrap_err();
        assert_eq!(error.kind(), kind, "{bytes:?}");
    }
    client.send(&with_length(15, whole)).unwrap();
    assert_eq!(datagram::recv(server.as_fd(), &soon()).unwrap().0.body, b"ab");
}

// ---- a command in a datagram

/// A server that answers on a thread, and what became of each datagram.
struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Answer>>>,
}

impl Running {
    fn start(key: Option<&Key>) -> Running {
        Running::with(Arc::new(Server::new(key).unwrap()), udp())
    }

    fn with(server: Arc<Server>, socket: UdpSocket) -> Running {
        let address = address(&socket);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut answers = Vec::new();
            let tick = Some(Duration::from_millis(10));
            while !stopped.load(Ordering::SeqCst) {
                match server.serve(socket.as_fd(), tick, &ServeOptions::default()) {
                    Ok(answer) => answers.push(answer),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
                }
            }
            answers
        });
        Running { address, stop, thread: Some(thread) }
    }

    fn stop(mut self) -> Vec<Answer> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn ask(socket: &UdpSocket, command: &str, key: Option<&Key>) -> Result<Reply> {
    ask_for(socket, command, key, LONG)
}

fn ask_for(
    socket: &UdpSocket,
    command: &str,
    key: Option<&Key>,
    timeout: Duration,
) -> Result<Reply> {
    let request = Request { command: command.as_bytes(), ..Request::default() };
    datagram::exec::request(socket.as_fd(), &request, Some(timeout), key, None)
}

/// Sends a request to `instead`, which does not answer, and returns its bytes. The command may take
/// longer than its client waits.
fn recorded(client: &UdpSocket, instead: &UdpSocket, command: &str, key: &Key) -> Vec<u8> {
    client.connect(address(instead)).unwrap();
    let options = ExecRequest { on_close: Some(OnClose::Run), ..ExecRequest::default() };
    let request = Request { command: command.as_bytes(), options, ..Request::default() };
    let short = Some(Duration::from_millis(1));
    let asked = datagram::exec::request(client.as_fd(), &request, short, Some(key), None);
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::TimedOut);
    received(instead)
}

#[test]
fn a_command_runs_and_its_reply_comes_back() {
    for key in [None, Some(&key())] {
        let server = Running::start(key);
        let client = connected(server.address);
        let reply = ask(&client, "echo out; echo err >&2; exit 3", key).unwrap();
        assert_eq!((reply.stdout(), reply.stderr()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(reply.header.exit_code, Some(3));
        let reply = ask(&client, "kill -KILL $$", key).unwrap();
        assert_eq!((reply.header.signal, reply.header.exit_code), (Some(9), Some(137)));
        let ran = |answer: &Answer| {
            matches!(answer, Answer::Served { served: Served::Ran(_), unsent: None })
        };
        assert!(server.stop().iter().all(ran));
    }
}

#[test]
fn a_long_reply_comes_in_parts() {
    for key in [None, Some(&key())] {
        let server = Running::start(key);
        let client = connected(server.address);
        let reply = ask(&client, "seq 100000; seq 50000 >&2", key).unwrap();
        let seq = |last: u32| {
            let lines: Vec<String> = (1..=last).map(|n| n.to_string()).collect();
            lines.join("\n") + "\n"
        };
        assert!(reply.stdout() == seq(100_000).as_bytes());
        assert!(reply.stderr() == seq(50_000).as_bytes());
        assert!(!reply.header.truncated);
    }
}

#[test]
fn output_is_kept_to_the_lower_limit() {
    let server = Running::start(None);
    let client = connected(server.address);
    let reply = ask(&client, "head -c 3000000 /dev/zero", None).unwrap();
    assert_eq!((reply.stdout().len(), reply.header.truncated), (1024 * 1024, true));
    assert_eq!(reply.header.stdout_total, Some(3_000_000));
    let options = ExecRequest { max_output: Some(5), ..ExecRequest::default() };
    let request = Request { command: b"echo long output", options, ..Request::default() };
    let reply = datagram::exec::request(client.as_fd(), &request, Some(LONG), None, None).unwrap();
    assert_eq!((reply.stdout(), reply.header.truncated), (&b"long "[..], true));
}

#[test]
fn what_is_refused_is_told() {
    let server = Running::start(None);
    let client = connected(server.address);
    let kind = |command: &str| ask(&client, command, None).unwrap_err().kind();
    assert_eq!(kind(""), ErrorKind::RemoteBadRequest);
    assert_eq!(kind("a\0b"), ErrorKind::RemoteBadRequest);
    let options = ExecRequest { argv: Some(vec!["/nonexistent".into()]), ..ExecRequest::default() };
    let request = Request { options, ..Request::default() };
    let error =
        datagram::exec::request(client.as_fd(), &request, Some(LONG), None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RemoteSpawnFailed);

    datagram::send(client.as_fd(), None, Some(r#"{"cmd":"get","id":7}"#), b"", &soon()).unwrap();
    let (frame, _) = datagram::recv(client.as_fd(), &soon()).unwrap();
    assert_eq!(frame.header.string("code").unwrap(), "unsupported");
    assert_eq!(frame.header.integer("id").unwrap(), 7);

    let error = ask(&client, &"x".repeat(LARGEST), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig, "before anything is sent");
}

#[test]
fn a_policy_is_asked_once_before_anything_runs() {
    let root = tempfile::tempdir().unwrap();
    let asked = AtomicUsize::new(0);
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| {
        asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!(inquiry.header.unwrap().string("cmd").unwrap(), "exec");
        match inquiry.command {
            b"touch ran" => Err(Error::new(ErrorKind::Denied, "not today")),
            _ => Ok(()),
        }
    };
    let options = ServeOptions {
        directory: Some(root.path().to_owned()),
        policy: Some(&policy),
        ..ServeOptions::default()
    };
    let (socket, server) = (udp(), Server::new(None).unwrap());
    let client = connected(address(&socket));
    for command in ["touch ran", "true"] {
        let header = format!(r#"{{"cmd":"exec","id":"{command}"}}"#);
        // The second one is the first one again.
        for _ in 0..2 {
            let header = Some(header.as_str());
            datagram::send(client.as_fd(), None, header, command.as_bytes(), &soon()).unwrap();
            server.serve(socket.as_fd(), Some(LONG), &options).unwrap();
            let (frame, _) = datagram::recv(client.as_fd(), &soon()).unwrap();
            let code = frame.header.string("code").ok();
            assert_eq!(code.as_deref(), (command != "true").then_some("denied"));
            let message = frame.header.string("message").unwrap_or_default();
            assert_eq!(message.contains("not today"), command != "true");
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "something was run");
}

#[test]
fn a_frame_with_an_id_and_no_valid_cmd_is_a_bad_request() {
    for with_key in [false, true] {
        let server = Running::start(with_key.then(key).as_ref());
        let client = connected(server.address);
        let keys = with_key.then(keys);
        for (number, bad) in
            [r#""a":1"#, r#""cmd":7"#, r#""cmd":"x","cmd":"x""#, r#""missing":[-1]"#]
                .iter()
                .enumerate()
        {
            let number = u32::try_from(number).unwrap();
            let header = format!(r#"{{"id":{number},{},{bad}}}"#, stamp(number));
            let request = keys.as_ref().map(|keys| &keys.request);
            client.send(&encode(Some(&header), b"true", request, LARGEST).unwrap()).unwrap();
            let reply = received(&client);
            let (reply, _) = decode(&reply, keys.as_ref().map(|keys| &keys.reply)).unwrap();
            assert_eq!(reply.string("code").unwrap(), "bad_request", "{bad}");
            assert_eq!(reply.integer("id").unwrap(), i64::from(number));
        }
    }
}

#[test]
fn a_reply_is_not_answered() {
    let server = Running::start(None);
    let client = connected(server.address);
    // Whoever echoes what it receives would otherwise keep a server busy for ever.
    client.send(&frame(r#"{"cmd":"exec","id":1}"#, b"seq 5000")).unwrap();
    let parts = owned(&received(&client)).0.integer("parts").unwrap();
    assert!(parts > 2);
    let mut replies: Vec<_> = (1..parts).map(|_| received(&client)).collect();
    client.send(&frame(r#"{"id":2}"#, b"")).unwrap();
    replies.push(received(&client));
    for reply in &replies {
        client.send(reply).unwrap();
    }
    client.send(&frame(r#"{"cmd":"exec","id":3}"#, b"echo yes")).unwrap();
    assert_eq!(owned(&received(&client)).1, b"yes\n");
}

#[test]
fn a_command_ends_when_its_client_has_given_up() {
    let (socket, server) = (udp(), Server::new(None).unwrap());
    let client = connected(address(&socket));
    let start = Instant::now();
    let timed_out = |on_close| {
        let options = ExecRequest { on_close, timeout_ms: Some(60_000), ..ExecRequest::default() };
        let command = if on_close.is_some() { "sleep 0.2" } else { "sleep 1000" };
        let request = Request { command: command.as_bytes(), options, ..Request::default() };
        let short = Some(Duration::from_millis(100));
        let error =
            datagram::exec::request(client.as_fd(), &request, short, None, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        match server.serve(socket.as_fd(), Some(LONG), &ServeOptions::default()).unwrap() {
            Answer::Served { served: Served::Ran(report), .. } => report.reply.timed_out,
            other => panic!("{other:?}"),
        }
    };
    assert!(timed_out(None));
    assert!(start.elapsed() < LONG);
    assert!(!timed_out(Some(OnClose::Run)), "it was to run on without its client");
}

#[test]
fn a_client_that_reads_slowly_does_not_hold_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("server")).unwrap();
    let server = Server::new(None).unwrap();
    let client = UnixDatagram::bind(dir.path().join("client")).unwrap();
    client.connect(dir.path().join("server")).unwrap();
    client.send(&frame(r#"{"cmd":"exec","id":1}"#, b"head -c 1000000 /dev/zero")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each wait for it is shorter than the one that a whole reply may take.
            while !done.load(Ordering::SeqCst) {
                client.recv(&mut vec![0; LARGEST]).unwrap();
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let answer = server.serve(socket.as_fd(), Some(LONG), &ServeOptions::default()).unwrap();
        done.store(true, Ordering::SeqCst);
        assert!(
            matches!(&answer, Answer::Served { unsent: Some(error), .. } if error.kind() == ErrorKind::TimedOut),
            "{answer:?}"
        );
    });
}

#[test]
fn there_are_no_streams_and_no_input() {
    let server = Running::start(None);
    let client = connected(server.address);
    for options in [
        ExecRequest { stream: Some(true), ..ExecRequest::default() },
        ExecRequest { stdin_size: Some(0), stream: Some(true), ..ExecRequest::default() },
    ] {
        let request = Request { command: b"true", options, ..Request::default() };
        let error =
            datagram::exec::request(client.as_fd(), &request, Some(LONG), None, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RemoteUnsupported);
    }
    let header = Some(r#"{"cmd":"exec","id":7,"stdin_size":2}"#);
    datagram::send(client.as_fd(), None, header, b"catxx", &soon()).unwrap();
    let (frame, _) = datagram::recv(client.as_fd(), &soon()).unwrap();
    assert_eq!(frame.header.string("code").unwrap(), "unsupported");
    let request = Request { command: b"cat", input: b"x", ..Request::default() };
    let error =
        datagram::exec::request(client.as_fd(), &request, Some(LONG), None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument, "before anything is sent");

    let options = ExecRequest { merge: Some(true), ..ExecRequest::default() };
    let command = b"echo out; echo err >&2";
    let request = Request { command, options, ..Request::default() };
    let reply = datagram::exec::request(client.as_fd(), &request, Some(LONG), None, None).unwrap();
    assert_eq!((reply.stdout(), reply.stderr()), (&b"out\nerr\n"[..], &b""[..]));
}

#[test]
fn a_unix_socket_serves_the_clients_that_have_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, server) =
        (UnixDatagram::bind(dir.path().join("server")).unwrap(), Server::new(None).unwrap());
    let client = UnixDatagram::bind(dir.path().join("client")).unwrap();
    client.connect(dir.path().join("server")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve(socket.as_fd(), Some(LONG), &ServeOptions::default()));
        let request = Request { command: b"seq 100000", ..Request::default() };
        let reply =
            datagram::exec::request(client.as_fd(), &request, Some(LONG), None, None).unwrap();
        assert_eq!(reply.stdout().len(), 588_895);
    });
}

#[test]
fn threads_share_one_server_and_one_socket() {
    let (server, socket) = (Arc::new(Server::new(None).unwrap()), udp());
    let both = [0, 1].map(|_| Running::with(Arc::clone(&server), socket.try_clone().unwrap()));
    let clients = [0, 1].map(|_| connected(address(&socket)));
    let dir = tempfile::tempdir().unwrap();
    let meet = |me: &str, other: &str| {
        let dir = dir.path().display();
        format!("touch {dir}/{me}; while ! [ -e {dir}/{other} ]; do sleep 0.01; done; echo met")
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(&clients[0], &meet("a", "b"), None));
        let second = ask(&clients[1], &meet("b", "a"), None).unwrap();
        assert_eq!(second.stdout(), b"met\n", "the two commands ran at the same time");
        assert_eq!(first.join().unwrap().unwrap().stdout(), b"met\n");
    });
    drop(both);
}

// ---- at most once

/// A file that commands add lines to.
struct Lines(tempfile::NamedTempFile);

impl Lines {
    fn new() -> Lines {
        Lines(tempfile::NamedTempFile::new().unwrap())
    }

    fn add(&self, line: &str) -> String {
        format!("echo {line} >> {}; echo {line}", self.0.path().display())
    }

    fn all(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// What the network between a client and a server does, in percent.
#[derive(Clone, Copy, Default)]
struct Faults {
    loss: u64,
    repeats: u64,
    reorder: u64,
}

/// A network: what comes from the client goes to the server and back.
struct Network {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Network {
    fn to(server: SocketAddr, faults: Faults, seed: u64) -> Network {
        let front = Arc::new(udp());
        let back = Arc::new(connected(server));
        let network = Network { address: address(&front), stop: Arc::default() };
        let client = Arc::new(std::sync::Mutex::new(None));
        for (from, to, seed) in [(&front, &back, seed), (&back, &front, !seed)] {
            let (from, to, client) = (Arc::clone(from), Arc::clone(to), Arc::clone(&client));
            let is_front = address(&from) == network.address;
            let stop = Arc::clone(&network.stop);
            let mut rng = Rng::new(seed);
            from.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            std::thread::spawn(move || {
                let pass = |bytes: &[u8]| {
                    // A server that is not there makes no network fail.
                    let _ = if is_front {
                        to.send(bytes)
                    } else {
                        to.send_to(bytes, client.lock().unwrap().unwrap())
                    };
                };
                let mut buffer = vec![0; LARGEST];
                let mut held: Option<Vec<u8>> = None;
                while !stop.load(Ordering::SeqCst) {
                    let Ok((len, source)) = from.recv_from(&mut buffer) else {
                        held.take().inspect(|bytes| pass(bytes));
                        continue;
                    };
                    if is_front {
                        *client.lock().unwrap() = Some(source);
                    }
                    let bytes = &buffer[..len];
                    if rng.percent(faults.loss) {
                        continue;
                    }
                    if held.is_none() && rng.percent(faults.reorder) {
                        held = Some(bytes.to_vec());
                        continue;
                    }
                    pass(bytes);
                    if rng.percent(faults.repeats) {
                        pass(bytes);
                    }
                    held.take().inspect(|bytes| pass(bytes));
                }
            });
        }
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// xorshift64: the same faults each time.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 100 < percent
    }
}

/// Asks for `count` commands through such a network: each reply is right, and each command
/// ran once.
fn runs_once_each(count: usize, faults: Faults, seed: u64, key: Option<&Key>) -> Vec<Answer> {
    let lines = Lines::new();
    let server = Running::start(key);
    let network = Network::to(server.address, faults, seed);
    let client = connected(network.address);
    let expected: Vec<String> = (0..count).map(|n| format!("line{n}")).collect();
    for line in &expected {
        let reply = ask(&client, &lines.add(line), key).unwrap();
        assert_eq!(reply.stdout(), format!("{line}\n").as_bytes());
    }
    drop(network);
    assert_eq!(lines.all(), expected);
    server.stop()
}

fn repeated(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| matches!(answer, Answer::Repeated)).count()
}

#[test]
fn repeated_datagrams_run_nothing_twice() {
    let faults = Faults { repeats: 30, ..Faults::default() };
    for key in [None, Some(&key())] {
        let answers = runs_once_each(50, faults, 11, key);
        assert!(repeated(&answers) > 5, "{}", repeated(&answers));
    }
}

#[test]
fn a_network_that_reorders_changes_no_reply() {
    let faults = Faults { reorder: 50, repeats: 30, ..Faults::default() };
    runs_once_each(20, faults, 12, Some(&key()));
    let server = Running::start(None);
    let network = Network::to(server.address, faults, 13);
    let reply = ask(&connected(network.address), "seq 20000", None).unwrap();
    assert_eq!(reply.stdout().len(), 108_894);
}

#[test]
fn a_tenth_lost_is_sent_again() {
    let faults = Faults { loss: 10, ..Faults::default() };
    let answers = runs_once_each(10, faults, 14, Some(&key()));
    assert!(repeated(&answers) > 0);
}

#[test]
fn half_lost_is_sent_again() {
    let faults = Faults { loss: 50, ..Faults::default() };
    let answers = runs_once_each(3, faults, 23, None);
    assert!(repeated(&answers) > 0);
}

#[test]
fn lost_parts_are_sent_again() {
    let faults = Faults { loss: 20, reorder: 20, repeats: 20 };
    let server = Running::start(Some(&key()));
    let network = Network::to(server.address, faults, 16);
    let reply = ask(&connected(network.address), "seq 20000", Some(&key())).unwrap();
    assert_eq!(reply.stdout().len(), 108_894);
    let answers = server.stop();
    assert!(repeated(&answers) > 0);
    assert_eq!(answers.len() - repeated(&answers), 1);
}

#[test]
fn a_request_that_is_repeated_while_it_runs_is_not_run_again() {
    let lines = Lines::new();
    let server = Arc::new(Server::new(None).unwrap());
    let socket = udp();
    let both = [0, 1].map(|_| Running::with(Arc::clone(&server), socket.try_clone().unwrap()));
    let client = connected(address(&socket));
    let reply = ask(&client, &format!("{}; sleep 0.5", lines.add("once")), None).unwrap();
    assert_eq!(reply.stdout(), b"once\n");
    assert_eq!(lines.all(), ["once"]);
    let answers: Vec<Answer> = both.into_iter().flat_map(Running::stop).collect();
    assert!(repeated(&answers) > 0, "the client asked again meanwhile");
}

#[test]
fn a_recorded_request_gets_nothing_from_the_server() {
    let lines = Lines::new();
    let key = key();
    let server = Running::start(Some(&key));
    let client = connected(server.address);
    let recorded = recorded(&client, &udp(), &lines.add("once"), &key);

    // The request arrives, its reply goes to the client; repeated, it is not run again.
    client.connect(server.address).unwrap();
    client.send(&recorded).unwrap();
    let reply = received(&client);
    client.send(&recorded).unwrap();
    assert!(received(&client) == reply, "the same bytes");

    // From elsewhere, changed or without its tag it gets no answer at all.
    let attacker = connected(server.address);
    attacker.send(&recorded).unwrap();
    let mut changed = recorded.clone();
    changed[20] ^= 1;
    client.send(&changed).unwrap();
    client.send(&recorded[..recorded.len() - 32]).unwrap();
    // What comes next is the answer to this one.
    assert!(ask(&client, "true", Some(&key)).is_ok());
    for socket in [&client, &attacker] {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 2000]).is_err());
    }
    assert_eq!(lines.all(), ["once"]);
    let ignored: Vec<ErrorKind> = server
        .stop()
        .iter()
        .filter_map(|answer| match answer {
            Answer::Ignored(error) => Some(error.kind()),
            _ => None,
        })
        .collect();
    assert_eq!(ignored, [ErrorKind::Denied, ErrorKind::Auth, ErrorKind::Auth]);
}

#[test]
fn a_recorded_request_is_not_run_by_the_next_server() {
    let lines = Lines::new();
    let (socket, key) = (udp(), key());
    let client = connected(address(&socket));
    let server = Server::new(Some(&key)).unwrap();
    let recorded = recorded(&client, &socket, &lines.add("once"), &key);
    while socket.set_nonblocking(true).is_ok() && socket.recv(&mut [0; 2000]).is_ok() {}
    client.send(&recorded).unwrap();
    let serve = |server: &Server| {
        server.serve(socket.as_fd(), Some(LONG), &ServeOptions::default()).unwrap()
    };
    assert!(matches!(serve(&server), Answer::Served { .. }));
    drop(server);
    client.send(&recorded).unwrap();
    match serve(&Server::new(Some(&key)).unwrap()) {
        Answer::Ignored(error) => assert_eq!(error.kind(), ErrorKind::Denied),
        other => panic!("{other:?}"),
    }
    assert_eq!(lines.all(), ["once"]);
}

#[test]
fn a_request_without_the_key_gets_no_answer() {
    let server = Running::start(Some(&key()));
    let client = connected(server.address);
    let short = Duration::from_millis(50);
    let other = Key::new(&[9; 16]).unwrap();
    for wrong in [None, Some(&other)] {
        let error = ask_for(&client, "true", wrong, short).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.detail().contains("no reply was received"), "{error}");
    }
    let ignored = |answer: &Answer| matches!(answer, Answer::Ignored(_));
    assert!(server.stop().iter().all(ignored));
}

// ---- what a client sees

/// A client whose first request is handed to `answer`, with the socket it came by and the
/// client's address.
struct Asking {
    client: UdpSocket,
    _peer: Arc<UdpSocket>,
}

impl Asking {
    fn new(answer: impl FnOnce(&UdpSocket, SocketAddr, &str) + Send + 'static) -> Asking {
        let peer = Arc::new(udp());
        let client = connected(address(&peer));
        let socket = Arc::clone(&peer);
        std::thread::spawn(move || {
            let mut buffer = vec![0; LARGEST];
            let (len, source) = socket.recv_from(&mut buffer).unwrap();
            let (header, _) = decode(&buffer[..len], None).unwrap();
            answer(&socket, source, &header.string("id").unwrap());
        });
        Asking { client, _peer: peer }
    }

    fn ask(&self, timeout: Duration) -> Result<Reply> {
        ask_for(&self.client, "true", None, timeout)
    }
}

fn frame(header: &str, body: &[u8]) -> Vec<u8> {
    encode(Some(header), body, None, LARGEST).unwrap()
}

const OK: &str = r#""stdout_size":2,"stderr_size":0,"exit_code":0"#;

#[test]
fn nobody_at_the_port_is_an_error_at_once() {
    let gone = address(&udp());
    let client = connected(gone);
    let start = Instant::now();
    let error = ask(&client, "true", None).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, libc::ECONNREFUSED));
    assert!(start.elapsed() < LONG);
}

#[test]
fn a_client_that_is_gone_does_not_end_the_server() {
    let (socket, client) = (udp(), udp());
    client.connect(address(&socket)).unwrap();
    socket.connect(address(&client)).unwrap(); // such a socket hears of closed ports
    client.send(&frame(r#"{"cmd":"exec","id":1}"#, b"true")).unwrap();
    let port = address(&client);
    drop(client);
    let server = Running::with(Arc::new(Server::new(None).unwrap()), socket);
    std::thread::sleep(Duration::from_millis(100)); // the refusal has come
    let again = UdpSocket::bind(port).unwrap();
    again.connect(server.address).unwrap();
    assert!(ask(&again, "true", None).is_ok());
}

#[test]
fn a_reply_from_another_address_is_ignored() {
    let asking = Asking::new(|_, source, id| {
        let forged = frame(&format!(r#"{{"id":"{id}",{OK}}}"#), b"ab");
        udp().send_to(&forged, source).unwrap();
    });
    let error = asking.ask(Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_request_that_is_sent_back_is_not_its_reply() {
    for key in [None, Some(&key())] {
        let echo = udp();
        let client = connected(address(&echo));
        std::thread::scope(|scope| {
            scope.spawn(|| echo.send_to(&received(&echo), address(&client)).unwrap());
            let error = ask_for(&client, "echo no", key, Duration::from_millis(300)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let why = if key.is_some() { "tag" } else { "it is a request" };
            assert!(error.detail().contains(why), "{error}");
        });
    }
}

/// What a client with or without a key makes of a reply with these keys and the body `ab`.
fn outcome_of(keys_of_reply: &str, with_key: bool) -> Result<Reply> {
    let server = udp();
    let client = connected(address(&server));
    let (keys, key) = (with_key.then(keys), with_key.then(key));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (tag, reply) =
                (keys.as_ref().map(|keys| &keys.request), keys.as_ref().map(|keys| &keys.reply));
            let request = received(&server);
            let (header, _) = decode(&request, tag).unwrap();
            let nonce = header.string("nonce").map(|text| format!(r#""nonce":"{text}","#));
            let id = header.string("id").unwrap();
            let header = format!(r#"{{"id":"{id}",{}{keys_of_reply}}}"#, nonce.unwrap_or_default());
            let datagram = encode(Some(&header), b"ab", reply, LARGEST).unwrap();
            server.send_to(&datagram, address(&client)).unwrap();
        });
        ask_for(&client, "true", key.as_ref(), LONG)
    })
}

#[test]
fn what_is_neither_an_exit_code_nor_an_error_is_no_reply() {
    for with_key in [false, true] {
        for bad in [
            r#""a":1"#,
            r#""status":"ok""#,
            r#""status":"perhaps","exit_code":0"#,
            r#""status":7,"exit_code":0"#,
            r#""exit_code":"0""#,
            r#""exit_code":0,"exit_code":0"#,
        ] {
            let error = outcome_of(bad, with_key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadReply, "{bad}");
        }
        let lost = outcome_of(r#""exit_code":null"#, with_key).unwrap();
        assert_eq!((lost.header.exit_code, lost.stdout()), (None, &b"ab"[..]));
        let error = outcome_of(r#""status":"error","code":"busy""#, with_key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RemoteBusy);
    }
}

#[test]
fn a_flood_of_the_same_part_does_not_hold_up_the_deadline() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let asking = Asking::new(move |socket, source, id| {
        let part = frame(&format!(r#"{{"id":"{id}","part":1,"parts":2}}"#), b"");
        while !stopped.load(Ordering::SeqCst) {
            let _ = socket.send_to(&part, source);
        }
    });
    let error = asking.ask(Duration::from_millis(100)).unwrap_err();
    stop.store(true, Ordering::SeqCst);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.detail().contains("1 of 2 parts"), "{error}");
}

#[test]
fn replies_to_other_requests_and_broken_ones_are_ignored() {
    let asking = Asking::new(|socket, source, id| {
        let good = frame(&format!(r#"{{"id":"{id}",{OK}}}"#), b"ab");
        for bytes in [
            frame(&format!(r#"{{"id":"late",{OK}}}"#), b"no"),
            frame(&format!(r#"{{"id":"{id}","nonce":"ab",{OK}}}"#), b"no"),
            frame("{}", b""),
            Vec::new(),
            good[..good.len() - 1].to_vec(),
            good,
        ] {
            socket.send_to(&bytes, source).unwrap();
        }
    });
    assert_eq!(asking.ask(LONG).unwrap().stdout(), b"ab");
}

#[test]
fn a_reply_that_contradicts_itself_is_refused() {
    let part = |id: &str, number: &str| frame(&format!(r#"{{"id":"{id}",{number},{OK}}}"#), b"ab");
    let asking = Asking::new(move |socket, source, id| {
        socket.send_to(&part(id, r#""part":0,"parts":2"#), source).unwrap();
        socket.send_to(&part(id, r#""part":1,"parts":3"#), source).unwrap();
    });
    assert_eq!(asking.ask(LONG).unwrap_err().kind(), ErrorKind::BadReply);
    let asking = Asking::new(|socket, source, id| {
        socket.send_to(&frame(&format!(r#"{{"id":"{id}",{OK}}}"#), b"abc"), source).unwrap();
    });
    assert_eq!(asking.ask(LONG).unwrap_err().kind(), ErrorKind::BadReply);
}

#[test]
fn a_missing_part_is_a_timeout_that_says_so() {
    let asking = Asking::new(|socket, source, id| {
        let part = frame(&format!(r#"{{"id":"{id}","part":0,"parts":2,{OK}}}"#), b"a");
        socket.send_to(&part, source).unwrap();
    });
    let error = asking.ask(Duration::from_millis(500)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.detail().contains("1 of 2 parts"), "{error}");
}

#[test]
fn a_flood_of_other_datagrams_does_not_hold_up_the_deadline() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let asking = Asking::new(move |socket, source, _| {
        while !stopped.load(Ordering::SeqCst) {
            let _ = socket.send_to(b"noise", source);
        }
    });
    let error = asking.ask(Duration::from_millis(100)).unwrap_err();
    stop.store(true, Ordering::SeqCst);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.detail().contains("ignored"), "{error}");
}

#[test]
fn a_request_is_sent_again_unchanged() {
    let server = udp();
    let client = connected(address(&server));
    let error = ask_for(&client, "true", Some(&key()), Duration::from_millis(500)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let (first, again) = (received(&server), received(&server));
    assert_eq!(first, again);
    let (header, body) = decode(&first, Some(&keys().request)).unwrap();
    assert_eq!((&*header.string("cmd").unwrap(), body), ("exec", &b"true"[..]));
}

#[test]
fn only_the_missing_parts_are_asked_for_and_sent() {
    // The client's side: part 1 of 3 comes, the others have to be asked for.
    let server = udp();
    let client = connected(address(&server));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&client, "true", None));
        let (header, _) = owned(&received(&server));
        let id = header.string("id").unwrap();
        let part = |number: u32, body: &[u8]| {
            let ok = r#""stdout_size":6,"stderr_size":0,"exit_code":0"#;
            let header = format!(r#"{{"id":"{id}","part":{number},"parts":3,{ok}}}"#);
            server.send_to(&frame(&header, body), address(&client)).unwrap();
        };
        part(1, b"cd");
        let (again, body) = loop {
            let (again, body) = owned(&received(&server));
            if again.text().contains("missing") {
                break (again, body);
            }
        };
        assert!(again.text().contains(r#""missing":[0,2]"#), "{}", again.text());
        assert_eq!((again.string("id").unwrap(), &body[..]), (id.clone(), &b""[..]));
        part(2, b"ef");
        part(0, b"ab");
        assert_eq!(asking.join().unwrap().unwrap().stdout(), b"abcdef");
    });

    // The server's side.
    let server = Running::start(None);
    let client = connected(server.address);
    client.send(&frame(r#"{"cmd":"exec","id":1}"#, b"seq 10000")).unwrap();
    let mut parts = vec![received(&client)];
    let count = owned(&parts[0]).0.integer("parts").unwrap();
    parts.extend((1..count).map(|_| received(&client)));
    assert!(count > 4);
    client.send(&frame(r#"{"cmd":"exec","id":1,"missing":[1,3,99]}"#, b"")).unwrap();
    assert!(received(&client) == parts[1]);
    assert!(received(&client) == parts[3]);
    // What comes next answers another request; and for parts of nothing nothing comes.
    client.send(&frame(r#"{"cmd":"exec","id":2,"missing":[0]}"#, b"echo no")).unwrap();
    client.send(&frame(r#"{"cmd":"exec","id":3}"#, b"echo yes")).unwrap();
    assert_eq!(owned(&received(&client)).1, b"yes\n");
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut buffer = vec![0; LARGEST];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) => return buffer[..len].to_vec(),
            // With a timeout the kernel restarts nothing, not even after an ignored signal.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Interrupted),
        }
    }
}

fn owned(datagram: &[u8]) -> (Header, Vec<u8>) {
    let (header, body) = decode(datagram, None).unwrap();
    (header, body.to_vec())
}

// ---- the plain peers, which know nothing of this library

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

fn key_file(key: &Key) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), key.as_bytes()).unwrap();
    file
}

fn python(program: &str, host: &str, port: u16, key: Option<&Path>) -> Command {
    let mut command = Command::new("python3");
    command.arg(peers().join(program)).args([host, &port.to_string()]);
    if let Some(key) = key {
        command.arg("--key-file").arg(key);
    }
    command
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_plain_client_asks_this_server() {
    let key = key();
    let file = key_file(&key);
    for (key, file) in [(None, None), (Some(&key), Some(file.path()))] {
        let server = Running::start(key);
        let output = python("udp_frame_client.py", "127.0.0.1", server.address.port(), file)
            .args(["echo out; echo err >&2", "seq 5000"])
            .output()
            .unwrap();
        let (stdout, stderr) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{stderr}");
        assert!(stdout.starts_with("out\n1\n2\n") && stdout.ends_with("\n5000\n"), "{stdout}");
        assert_eq!(stderr, "err\n");
    }
}

#[test]
fn this_client_asks_the_plain_server() {
    let key = key();
    let file = key_file(&key);
    for (key, file) in [(None, None), (Some(&key), Some(file.path()))] {
        let mut command = python("udp_frame_server.py", "127.0.0.1", 0, file);
        let mut server = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        let client = connected(address);
        let reply = ask(&client, "echo out; echo err >&2; exit 4", key).unwrap();
        assert_eq!((reply.stdout(), reply.stderr()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(reply.header.exit_code, Some(4));
        let reply = ask(&client, "seq 5000", key).unwrap();
        assert_eq!(reply.stdout().len(), 23_893);
    }
}
