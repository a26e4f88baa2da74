//! What a server keeps of a connection that waits for a request.
#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use framefd::auth::{Key, KeyId, Keyring, Rules, Terms};
use framefd::frame::{Connection, ConnectionOptions};
use framefd::serve::{Access, BodyMode, Server, ServerOptions};

/// Counts what the server's thread has allocated, with what malloc(3) of glibc adds to a block.
struct Counting;

static NOW: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_SERVER: Cell<bool> = const { Cell::new(false) };
}

fn count(less: usize, more: usize) {
    let block = |size: usize| match size {
        0 => 0,
        size => (size as u64 + 8).next_multiple_of(16).max(32),
    };
    if IS_SERVER.get() {
        NOW.fetch_add(block(more).wrapping_sub(block(less)), Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), size);
        // SAFETY: as the caller says.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const LONG: Duration = Duration::from_secs(60);
const COUNT: u64 = 512;
/// Held by the test that counts.
static ALONE: Mutex<()> = Mutex::new(());

fn key() -> Key {
    Key::new(&[7; 32]).unwrap()
}

fn id() -> KeyId {
    KeyId::new(b"client").unwrap()
}

/// A request and its reply, of which nothing may be of another connection.
fn echo(client: &mut Connection<'_>, n: u64, round: usize) {
    let text = format!("request {n} of round {round}");
    let reply = client.call(r#"{"cmd":"echo"}"#, text.as_bytes(), LONG).unwrap();
    assert_eq!(reply.body, text.as_bytes());
}

/// Waits until a connection takes no more than `most` bytes.
#[track_caller]
fn wait_for_rest(before: u64, most: u64) {
    let start = Instant::now();
    loop {
        let each = (NOW.load(Ordering::Relaxed) - before) / COUNT;
        if each <= most {
            return println!("{each} bytes a connection, of at most {most}");
        }
        assert!(start.elapsed() < LONG, "{each} bytes a connection, not {most}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection is put to rest when it has proved its key, and again after its requests; then it
/// is served as before. A key that is removed ends it, at rest or not.
#[test]
fn a_connection_at_rest_is_small_and_wakes_up_whole() {
    let _alone = ALONE.lock();
    for (is_sealed, most) in [(false, 512), (true, 2048)] {
        let ring = Arc::new(Keyring::new());
        ring.add(id(), key()).unwrap();
        let access = Access { ring: is_sealed.then(|| Arc::clone(&ring)), ..Access::default() };
        let server =
            Arc::new(Server::new(ServerOptions { access, ..ServerOptions::default() }).unwrap());
        server
            .handle("echo", BodyMode::Whole, |connection, request| {
                connection.reply(request.header.text(), None, request.body, None)
            })
            .unwrap();
        let path = std::env::temp_dir().join(format!("framefd-rest-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        server.listen(OwnedFd::from(listener)).unwrap();
        let stopper = server.stopper();
        let own = Arc::clone(&server);
        let running = std::thread::spawn(move || {
            IS_SERVER.set(true);
            own.run().unwrap();
            IS_SERVER.set(false);
        });
        let connect = |_| {
            let socket = OwnedFd::from(UnixStream::connect(&path).unwrap());
            let mut client = Connection::new(socket, ConnectionOptions::default()).unwrap();
            if is_sealed {
                client.seal_client(&key(), &id(), &Terms::default(), None, LONG).unwrap();
            }
            client
        };
        let wait_for = |connections| {
            let start = Instant::now();
            while server.counters().connections_now != connections {
                assert!(start.elapsed() < LONG, "{:?}", server.counters());
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        // What a server has once it has served.
        echo(&mut connect(0), 0, 0);
        wait_for(0);
        let before = NOW.load(Ordering::Relaxed);
        let mut clients: Vec<_> = (0..COUNT).map(connect).collect();
        wait_for(COUNT);
        wait_for_rest(before, most);
        for round in 1..3 {
            for (n, client) in (0..).zip(&mut clients) {
                echo(client, n, round);
            }
            wait_for_rest(before, most);
        }
        if is_sealed {
            let other = path.with_extension("key");
            std::fs::write(&other, [b'o'; 32]).unwrap();
            std::fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
            ring.load(&other, Rules::default()).unwrap();
            std::fs::remove_file(&other).unwrap();
            for client in &mut clients {
                assert!(client.recv(LONG).is_err());
            }
        } else {
            // One at rest is not cut by a stop, if a request of it is there.
            clients[0].queue(Some(r#"{"cmd":"echo"}"#), b"last", LONG).unwrap();
            clients[0].flush(LONG).unwrap();
        }
        stopper.stop();
        running.join().unwrap();
        assert_eq!(server.counters().connections_now, 0);
        if !is_sealed {
            assert_eq!(clients[0].recv(LONG).unwrap().body, b"last");
        }
        std::fs::remove_file(&path).unwrap();
    }
}

/// A request that is answered later has its body while its handler runs, and not until then.
#[test]
fn a_request_that_is_answered_later_keeps_no_body() {
    const BODY: usize = 200 << 10;
    let _alone = ALONE.lock();
    let server = Arc::new(Server::new(ServerOptions::default()).unwrap());
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    server
        .handle_later("keep", BodyMode::Whole, move |connection, request, later| {
            assert_eq!(request.body.len(), BODY);
            keep.lock().unwrap().push((connection, request.header.text().to_owned(), later));
        })
        .unwrap();
    let stopper = server.stopper();
    let mut clients = Vec::new();
    for _ in 0..COUNT / 8 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        server.add(OwnedFd::from(theirs)).unwrap();
        clients.push(Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap());
    }
    let own = Arc::clone(&server);
    let before = NOW.load(Ordering::Relaxed);
    let running = std::thread::spawn(move || {
        IS_SERVER.set(true);
        own.run().unwrap();
        IS_SERVER.set(false);
    });
    for client in &mut clients {
        client.send(Some(r#"{"cmd":"keep"}"#), &vec![b'x'; BODY], LONG).unwrap();
    }
    let start = Instant::now();
    let is_smaller = |now: u64| now.wrapping_sub(before) < (BODY * clients.len() / 4) as u64;
    while server.counters().requests_now < clients.len() as u64
        || !is_smaller(NOW.load(Ordering::Relaxed))
    {
        let held = NOW.load(Ordering::Relaxed).wrapping_sub(before);
        assert!(start.elapsed() < LONG, "{held} bytes for {} requests", clients.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    for (mut connection, request, later) in kept.lock().unwrap().drain(..) {
        connection.reply(&request, None, b"", LONG).unwrap();
        later.done(connection, Ok(()));
    }
    for client in &mut clients {
        client.recv(LONG).unwrap();
    }
    stopper.stop();
    running.join().unwrap();
}
