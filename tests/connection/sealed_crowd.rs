//! Sealed connections beside many others, with slow links, and aborted in each state.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use framefd::ErrorKind;
use framefd::ops::auth::key_file::Rules;
use framefd::ops::auth::keyring::Keyring;
use framefd::ops::frame::Connection;
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::terms::Terms;

use super::common::exec::connect;
use super::{LONG, NO_TIME, connection, kind, pair};

fn key() -> Key {
    Key::new(&[1; 32]).unwrap()
}

fn ring() -> Keyring {
    let ring = Keyring::new();
    ring.add(KeyId::default(), key()).unwrap();
    ring
}

fn seal_client(connection: &mut Connection<'_>) -> framefd::Result<()> {
    connection.seal_client(&key(), &KeyId::default(), &Terms::default(), None, LONG)
}

/// Passes bytes on both ways, each after `delay`.
fn slow_link(to: &TcpStream, delay: Duration) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    let ends = [(far.try_clone(), to.try_clone()), (to.try_clone(), far.try_clone())];
    for (from, to) in ends {
        let (mut from, mut to) = (from.unwrap(), to.unwrap());
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(got @ 1..) = from.read(&mut buf) {
                std::thread::sleep(delay);
                if to.write_all(&buf[..got]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
    near
}

/// Strangers that send garbage, a preface, or nothing do not keep slow clients out.
#[test]
fn clients_with_slow_links_connect_beside_hundreds_of_strangers() {
    const CLIENTS: usize = 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, ring) = (listener.local_addr().unwrap(), ring());
    let (sealed, are_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for socket in listener.incoming() {
                if are_done.load(Ordering::Acquire) > 0 {
                    break;
                }
                let (socket, ring, sealed) = (socket.unwrap(), &ring, &sealed);
                scope.spawn(move || {
                    let mut server = connect(socket.as_fd());
                    if server.seal_server(ring, &Terms::default(), LONG).is_ok() {
                        sealed.fetch_add(1, Ordering::AcqRel);
                        let message = server.recv(LONG).unwrap();
                        server.send(None, &message.body, LONG).unwrap();
                    }
                });
            }
        });
        let strangers = scope.spawn(move || {
            let garbage: [&[u8]; 4] =
                [b"", b"GET / HTTP/1.1\r\n\r\n", b"FDS1\x01\x00\x000", &[0xff; 200]];
            for round in 0..300 {
                let mut stranger = TcpStream::connect(address).unwrap();
                let _ = stranger.write_all(garbage[round % garbage.len()]);
            }
        });
        let clients: [_; CLIENTS] = std::array::from_fn(|number| {
            scope.spawn(move || {
                let server = TcpStream::connect(address).unwrap();
                let near = slow_link(&server, Duration::from_millis(50));
                let mut client = connect(near.as_fd());
                seal_client(&mut client).unwrap();
                let body = number.to_le_bytes();
                client.send(None, &body, LONG).unwrap();
                assert_eq!(client.recv(LONG).unwrap().body[..], body);
                client.end(false, LONG).unwrap();
            })
        });
        for client in clients {
            client.join().unwrap();
        }
        strangers.join().unwrap();
        are_done.store(1, Ordering::Release);
        TcpStream::connect(address).unwrap();
    });
    assert_eq!(sealed.into_inner(), CLIENTS);
}

/// The peer reads a byte at a time, each try takes what fits, and the caller's buffer is used for
/// something else between two tries: what was accepted is what arrives.
#[test]
fn a_peer_that_reads_byte_by_byte_gets_what_was_accepted() {
    const SIZE: usize = 100_000;
    let ((a, b), (ours, theirs), (back, there)) = (pair(), pair(), pair());
    rustix::net::sockopt::set_socket_send_buffer_size(&a, 1).unwrap();
    let ends = |reader, writer| connect(framefd::Duplex { reader, writer });
    let mut client = ends(back.as_fd(), a.as_fd());
    let mut server = ends(theirs.as_fd(), there.as_fd());
    let ring = ring();
    std::thread::scope(|scope| {
        // What the client sends passes through a link that takes one byte at a time.
        scope.spawn(|| {
            let mut byte = [0];
            while (&b).read(&mut byte).unwrap() == 1 {
                (&ours).write_all(&byte).unwrap();
            }
            ours.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let sender = scope.spawn(|| {
            seal_client(&mut client).unwrap();
            let (mut buffer, mut sent) = (vec![0; 20_000], 0);
            client.begin(None, SIZE as u64).unwrap();
            while sent < SIZE {
                let piece = &mut buffer[..(SIZE - sent).min(20_000)];
                for (at, byte) in piece.iter_mut().enumerate() {
                    *byte = u8::try_from((sent + at) % 251).unwrap();
                }
                match client.write(piece, NO_TIME) {
                    Ok(more) => sent += more,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                }
                // Nothing of it is read after the call.
                buffer.fill(0xee);
            }
            client.flush(LONG).unwrap();
            client.end(false, LONG).unwrap();
        });
        server.seal_server(&ring, &Terms::default(), LONG).unwrap();
        let body = server.recv(LONG).unwrap().body;
        assert_eq!(body.len(), SIZE);
        assert!(body.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
        assert_eq!(kind(server.recv(LONG)), ErrorKind::Closed);
        sender.join().unwrap();
    });
}

#[test]
fn an_abort_ends_the_wait_in_each_state() {
    for state in ["client", "server", "recv", "send"] {
        let (a, b) = pair();
        let (mut ours, mut theirs) = (connection(&a), connection(&b));
        let ring = ring();
        if matches!(state, "recv" | "send") {
            std::thread::scope(|scope| {
                scope.spawn(|| seal_client(&mut theirs).unwrap());
                ours.seal_server(&ring, &Terms::default(), LONG).unwrap();
            });
        }
        let handle = ours.handle();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let ended = match state {
                    "client" => seal_client(&mut ours).map(drop),
                    "server" => ours.seal_server(&ring, &Terms::default(), LONG).map(drop),
                    "recv" => ours.recv(LONG).map(drop),
                    _ => ours.send(None, &vec![0; 10 << 20], None).map(drop),
                };
                (kind(ended), kind(ours.recv(NO_TIME)))
            });
            std::thread::sleep(Duration::from_millis(30));
            let begin = Instant::now();
            handle.abort();
            assert_eq!(waiter.join().unwrap(), (ErrorKind::Aborted, ErrorKind::Aborted), "{state}");
            assert!(begin.elapsed() < LONG / 2, "{state}");
        });
    }
}

#[test]
fn a_directory_of_ten_thousand_keys_is_a_ring() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..10_000_u32 {
        let path = directory.path().join(format!("client-{number}"));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
        file.write_all(&[&number.to_le_bytes()[..], &[7; 28]].concat()).unwrap();
    }
    let ring = Keyring::new();
    ring.load(directory.path(), Rules::default()).unwrap();
    let (key, id) = (
        Key::new(&[&9_999_u32.to_le_bytes()[..], &[7; 28]].concat()).unwrap(),
        KeyId::new(b"client-9999").unwrap(),
    );
    let (a, b) = pair();
    let (mut client, mut server) = (connection(&a), connection(&b));
    std::thread::scope(|scope| {
        scope.spawn(|| client.seal_client(&key, &id, &Terms::default(), None, LONG).unwrap());
        assert_eq!(server.seal_server(&ring, &Terms::default(), LONG).unwrap(), id);
    });
}
