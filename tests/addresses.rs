//! Addresses as text, with real sockets: connect, listen, accept, and the text back.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::kind;
use framefd::io::deadline::Deadline;
use framefd::io::stream::address::{self, address_of, listen};
use framefd::io::wait::Interrupt;
use framefd::{ErrorKind, Result};
use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags};

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(5);

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn short() -> Deadline {
    Deadline::after(SHORT)
}

fn connect(address: impl AsRef<[u8]>, deadline: Deadline) -> Result<OwnedFd> {
    address::connect(address, deadline, None)
}

fn accept(listening: BorrowedFd<'_>, deadline: Deadline) -> Result<OwnedFd> {
    address::accept(listening, deadline, None)
}

fn text(fd: impl AsFd, of_peer: bool) -> String {
    String::from_utf8(address_of(fd.as_fd(), of_peer).unwrap()).unwrap()
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn blocks(fd: impl AsFd) -> bool {
    let close_on_exec = rustix::io::fcntl_getfd(&fd).unwrap();
    assert!(close_on_exec.contains(FdFlags::CLOEXEC));
    !rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Listens on `address`, connects to the text of what came of it, and talks. Returns the
/// text of the listening socket.
fn talks(address: &str) -> String {
    let listening = listen(address, 0, 0).unwrap();
    assert!(!blocks(&listening));
    let name = text(&listening, false);
    let client = connect(&name, soon()).unwrap();
    let server = accept(listening.as_fd(), soon()).unwrap();
    assert!(blocks(&client) && blocks(&server));
    assert_eq!(text(&client, true), text(&server, false), "{address}");
    assert_eq!(text(&client, false), text(&server, true), "{address}");
    let (mut client, mut server) = (fs::File::from(client), fs::File::from(server));
    client.write_all(b"hello").unwrap();
    let mut got = [0; 5];
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    name
}

/// A listening socket whose queue takes nobody any more, and those who fill it.
fn full(address: &str) -> (OwnedFd, String, Vec<OwnedFd>) {
    let listening = listen(address, 1, 0).unwrap();
    let name = text(&listening, false);
    let mut queued = Vec::new();
    while let Ok(socket) = connect(&name, short()) {
        queued.push(socket);
        assert!(queued.len() < 100, "the backlog is heeded");
    }
    (listening, name, queued)
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn every_family_talks_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = unix(&dir.path().join("sock"));
    assert_eq!(talks(&path), path);
    let name = format!("unix:@framefd-{}", std::process::id());
    assert_eq!(talks(&name), name);
    assert!(talks("127.0.0.1:0").starts_with("127.0.0.1:"));
    assert!(talks("localhost:0").rsplit_once(':').is_some());
    if has_ipv6() {
        assert!(talks("[::1]:0").starts_with("[::1]:"));
        assert!(talks("[::]:0").starts_with("[::]:"));
    }
}

#[test]
fn a_link_local_address_is_named_with_its_interface() {
    let interfaces = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    // address, index, prefix, scope (20 is link-local), flags, name
    for line in interfaces.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [address, _, _, "20", _, name] = fields[..] {
            let bits = u128::from_str_radix(address, 16).unwrap();
            let address = std::net::Ipv6Addr::from(bits);
            let talked = talks(&format!("[{address}%{name}]:0"));
            assert!(talked.starts_with(&format!("[{address}%{name}]:")), "{talked}");
        }
    }
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() {
    let only = fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap_or_default();
    if !has_ipv6() || only.trim() != "0" {
        return;
    }
    let listening = listen("[::]:0", 0, 0).unwrap();
    let name = text(&listening, false).replace("[::]", "127.0.0.1");
    let client = connect(&name, soon()).unwrap();
    let server = accept(listening.as_fd(), soon()).unwrap();
    assert_eq!(text(&server, true), text(&client, false));
    assert!(text(&server, true).starts_with("127.0.0.1:"));
}

#[test]
fn a_socket_without_a_name_or_a_peer() {
    let (one, _other) = UnixStream::pair().unwrap();
    assert_eq!((text(&one, false), text(&one, true)), ("unix:".into(), "unix:".into()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = address_of(listener.as_fd(), true).unwrap_err();
    assert_eq!(error.errno(), Errno::NOTCONN.raw_os_error());
    let (pipe, _writer) = std::io::pipe().unwrap();
    assert_eq!(kind(address_of(pipe.as_fd(), false)), ErrorKind::BadDescriptor);
    let netlink = rustix::net::socket(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::RAW,
        None,
    );
    assert_eq!(kind(address_of(netlink.unwrap().as_fd(), false)), ErrorKind::Unsupported);
}

#[test]
fn an_abstract_name_that_no_text_holds_is_refused() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = [&std::process::id().to_ne_bytes()[..], b"\0tail"].concat();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(kind(address_of(listener.as_fd(), false)), ErrorKind::Unsupported);
}

#[test]
fn the_longest_unix_path_comes_back() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let base = dir.path().as_os_str().len() + 1;
    let longest = dir.path().join("x".repeat(107 - base));
    assert_eq!(talks(&unix(&longest)), unix(&longest));
    // Linux itself takes one byte more, which the text of an address does not.
    let longer = dir.path().join("x".repeat(108 - base));
    let address = rustix::net::SocketAddrUnix::new(&longer).unwrap();
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    assert_eq!(text(&socket, false), unix(&longer));
    assert_eq!(kind(listen(unix(&longer), 0, 0)), ErrorKind::Argument);
}

#[test]
fn a_refused_connection_keeps_its_errno_and_names_the_address() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = connect(&closed, soon()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, Errno::CONNREFUSED.raw_os_error()));
    assert!(error.detail().contains(&format!("connect to {closed}: connect: ")), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let error = connect(unix(&path), soon()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, Errno::NOENT.raw_os_error()));
    drop(UnixListener::bind(&path).unwrap());
    let error = connect(unix(&path), soon()).unwrap_err();
    assert_eq!(error.errno(), Errno::CONNREFUSED.raw_os_error());
    assert!(error.detail().contains(&unix(&path)), "{error}");
}

#[test]
fn a_name_that_is_not_known_is_not_found() {
    let error = connect("no-such-host.invalid:80", soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.detail().contains("the lookup of \"no-such-host.invalid\""), "{error}");
    assert_eq!(kind(connect("127.0.0.1:0", soon())), ErrorKind::Argument, "only to listen");
    assert_eq!(kind(connect("localhost:0", soon())), ErrorKind::Argument);
}

#[test]
fn a_listener_that_does_not_answer_is_waited_for_until_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["127.0.0.1:0".to_owned(), unix(&dir.path().join("sock"))] {
        let (listening, name, queued) = full(&address);
        let start = Instant::now();
        let error = connect(&name, short()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.detail().contains(&name), "{error}");
        assert!((SHORT..20 * SHORT).contains(&start.elapsed()), "{:?}", start.elapsed());
        // Once somebody was accepted there is room again.
        let waiting = thread::spawn(move || connect(&name, soon()));
        for _ in 0..=queued.len() {
            drop(accept(listening.as_fd(), soon()).unwrap());
        }
        waiting.join().unwrap().unwrap();
    }
}

#[test]
fn an_address_in_use_is_refused_and_one_that_was_is_not() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["127.0.0.1:0".to_owned(), unix(&dir.path().join("sock"))] {
        let listening = listen(&address, 0, 0).unwrap();
        let name = text(&listening, false);
        let error = listen(&name, 0, 0).unwrap_err();
        let expected = (ErrorKind::Io, Errno::ADDRINUSE.raw_os_error());
        assert_eq!((error.kind(), error.errno()), expected, "{error}");
        assert!(error.detail().contains(&name), "{error}");
        // A connection that this end closed first would hold a TCP port for a minute.
        let client = connect(&name, soon()).unwrap();
        drop(accept(listening.as_fd(), soon()));
        drop((listening, client));
        let again = listen(&name, 0, 0).unwrap();
        connect(&name, soon()).unwrap();
        drop(again);
    }
}

#[test]
fn what_is_not_a_socket_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("file"), "kept").unwrap();
    fs::create_dir(path("dir")).unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    std::os::unix::fs::symlink(path("stale"), path("link")).unwrap();
    std::os::unix::fs::symlink(path("none"), path("dangling")).unwrap();
    for name in ["file", "dir", "link", "dangling"] {
        let error = listen(unix(&path(name)), 0, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists, "{name}: {error}");
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "kept");
    assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(path("stale")).unwrap().file_type().is_socket());
    assert!(path("dir").is_dir());
    let error = listen(unix(&path("none/sock")), 0, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[test]
fn a_socket_of_another_type_or_with_a_full_queue_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("datagram");
    let _bound = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let in_use = Errno::ADDRINUSE.raw_os_error();
    assert_eq!(listen(unix(&path), 0, 0).unwrap_err().errno(), in_use);
    let (_listening, name, _queued) = full(&unix(&dir.path().join("full")));
    assert_eq!(listen(&name, 0, 0).unwrap_err().errno(), in_use);
    connect(&name, Deadline::PAST).unwrap_err();
}

#[test]
fn a_unix_socket_has_the_mode_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, expected) in [(0, 0o600), (0o660, 0o660), (0o777, 0o777), (0o200, 0o200)] {
        let path = dir.path().join(format!("{mode:o}"));
        let _listening = listen(unix(&path), 0, mode).unwrap();
        let found = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, expected, "{mode:o}");
    }
    let path = unix(&dir.path().join("sock"));
    assert_eq!(kind(listen(&path, 0, 0o1000)), ErrorKind::Argument);
    assert_eq!(kind(listen(&path, -1, 0)), ErrorKind::Argument);
    for address in ["127.0.0.1:0", "unix:@framefd-mode", "vsock:1:1"] {
        assert_eq!(kind(listen(address, 0, 0o600)), ErrorKind::Argument, "{address}");
    }
}

#[test]
fn nobody_is_a_timeout_whether_the_socket_blocks_or_not() {
    let blocking = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    assert!(blocks(&blocking));
    for listening in [blocking, listen("127.0.0.1:0", 0, 0).unwrap()] {
        let blocking = blocks(&listening);
        for limit in [Duration::ZERO, SHORT] {
            let start = Instant::now();
            let error = accept(listening.as_fd(), Deadline::after(limit)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!((limit..limit + 20 * SHORT).contains(&start.elapsed()));
        }
        let client = connect(text(&listening, false), soon()).unwrap();
        let server = accept(listening.as_fd(), Deadline::PAST).unwrap();
        assert_eq!(text(&server, true), text(&client, false), "what is there needs no time");
        assert_eq!(blocks(&listening), blocking, "its flags stay");
    }
}

#[test]
fn a_hook_ends_the_wait_for_a_connection_and_for_an_answer() {
    let interrupt = Interrupt::by_hook(Box::new(|| ControlFlow::Break(())));
    let nobody = listen("127.0.0.1:0", 0, 0).unwrap();
    let accepted = address::accept(nobody.as_fd(), soon(), Some(&interrupt));
    assert_eq!(kind(accepted), ErrorKind::Canceled);
    let dir = tempfile::tempdir().unwrap();
    for address in ["127.0.0.1:0".to_owned(), unix(&dir.path().join("sock"))] {
        let (_listening, name, _queued) = full(&address);
        let connected = address::connect(&name, soon(), Some(&interrupt));
        assert_eq!(kind(connected), ErrorKind::Canceled);
    }
}

#[test]
fn what_does_not_listen_is_refused_at_once() {
    let (stream, _peer) = UnixStream::pair().unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for fd in [OwnedFd::from(stream), OwnedFd::from(pipe), OwnedFd::from(udp)] {
        assert_eq!(kind(accept(fd.as_fd(), Deadline::NEVER)), ErrorKind::BadDescriptor);
    }
}

#[test]
fn threads_that_race_for_a_connection_keep_their_deadlines() {
    for listening in [
        OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()),
        listen("127.0.0.1:0", 0, 0).unwrap(),
    ] {
        let name = text(&listening, false);
        let taking = |fd: BorrowedFd<'_>| {
            let deadline = Deadline::after(Duration::from_millis(300));
            std::iter::from_fn(|| accept(fd, deadline).ok()).count()
        };
        let start = Instant::now();
        let taken = thread::scope(|scope| {
            let threads = [0; 4].map(|_| scope.spawn(|| taking(listening.as_fd())));
            for _ in 0..100 {
                drop(TcpStream::connect(&name).unwrap());
            }
            while threads.iter().any(|thread| !thread.is_finished()) && start.elapsed() < LONG {
                thread::sleep(SHORT);
            }
            if start.elapsed() >= LONG {
                // Wakes one that sleeps in accept(2), so that the test fails and ends.
                rustix::net::shutdown(&listening, rustix::net::Shutdown::Both).unwrap();
            }
            threads.map(|thread| thread.join().unwrap())
        });
        // Each wakes all four for one connection; those that lose must not sleep in accept(2).
        assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
        let late = std::iter::from_fn(|| accept(listening.as_fd(), Deadline::PAST).ok());
        assert_eq!(taken.iter().sum::<usize>() + late.count(), 100, "{taken:?}");
    }
}

#[test]
fn a_virtual_machines_socket_listens_where_there_is_one() {
    let listening = match listen("vsock:4294967295:4294967295", 0, 0) {
        Ok(listening) => listening,
        Err(error) => {
            let absent = [ErrorKind::Unsupported, ErrorKind::Io, ErrorKind::Denied];
            assert!(absent.contains(&error.kind()), "{error}");
            return;
        }
    };
    assert!(text(&listening, false).starts_with("vsock:4294967295:"));
    let start = Instant::now();
    // Cid 1 is this machine, if the kernel has vsock_loopback.
    let port = text(&listening, false).rsplit_once(':').unwrap().1.to_owned();
    match connect(format!("vsock:1:{port}"), short()) {
        Ok(client) => assert_eq!(text(&client, true), format!("vsock:1:{port}")),
        Err(error) => assert!(error.detail().contains("connect to vsock:1:"), "{error}"),
    }
    assert!(start.elapsed() < 20 * SHORT);
}
