//! The memory of sealed streams: no block that was freed holds a secret, and a record allocates
//! nothing.
#![allow(unsafe_code)] // an allocator that looks at what it frees

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::fs::FileExt as _;
use std::slice;
use std::sync::Mutex;

use curve25519_dalek::montgomery::MontgomeryPoint;
use framefd::limits::SEAL_RECORDS;
use framefd::wire::auth::{Key, KeyId};
use framefd::wire::seal::Used;
use framefd::wire::seal::handshake::{Handshake, Session, Step};
use framefd::wire::seal::record::{Opened, Opener, Sealer};
use framefd::wire::seal::terms::{ServerName, Suite, Terms};

#[path = "common/noise.rs"]
mod noise;

struct Watching;

thread_local! {
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// What a watched thread has allocated, and what was in the blocks that it freed.
struct Blocks {
    live: [(usize, usize); 1024],
    freed: [u8; 4 << 20],
    freed_len: usize,
}

static BLOCKS: Mutex<Blocks> =
    Mutex::new(Blocks { live: [(0, 0); 1024], freed: [0; 4 << 20], freed_len: 0 });

fn allocated(memory: *mut u8, size: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    if IS_WATCHED.get() {
        let mut blocks = BLOCKS.lock().unwrap();
        if let Some(free) = blocks.live.iter_mut().find(|(at, _)| *at == 0) {
            *free = (memory.addr(), size);
        }
    }
}

fn freed(memory: *mut u8, size: usize) {
    if IS_WATCHED.get() {
        let mut blocks = BLOCKS.lock().unwrap();
        if let Some(block) = blocks.live.iter_mut().find(|(at, _)| *at == memory.addr()) {
            *block = (0, 0);
        }
        let (start, end) = (blocks.freed_len, blocks.freed_len + size);
        // SAFETY: the block is still the caller's, who gives it back.
        blocks.freed[start..end].copy_from_slice(unsafe { slice::from_raw_parts(memory, size) });
        blocks.freed_len = end;
    }
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        let memory = unsafe { System.alloc_zeroed(layout) };
        allocated(memory, layout.size());
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        freed(memory, layout.size());
        // SAFETY: as the caller says.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

/// The copies of the blocks that `work` freed.
fn freed_by(work: impl FnOnce()) -> Vec<u8> {
    BLOCKS.lock().unwrap().freed_len = 0;
    IS_WATCHED.set(true);
    work();
    IS_WATCHED.set(false);
    let blocks = BLOCKS.lock().unwrap();
    blocks.freed[..blocks.freed_len].to_vec()
}

/// The private key of `public`: the bytes beside it in a block that is in use.
fn private_of(public: &[u8; 32]) -> Option<[u8; 32]> {
    IS_WATCHED.set(false);
    let blocks = BLOCKS.lock().unwrap();
    let mut found = None;
    for (at, size) in blocks.live.iter().filter(|(at, size)| *at != 0 && *size <= 4096) {
        // SAFETY: the block is in use, and was zeroed before it was.
        let block = unsafe { slice::from_raw_parts(*at as *const u8, *size) };
        for candidate in block.windows(32).map(|window| <[u8; 32]>::try_from(window).unwrap()) {
            if block.windows(32).any(|window| window == public)
                && MontgomeryPoint::mul_base_clamped(candidate).to_bytes() == *public
            {
                found = Some(candidate);
            }
        }
    }
    drop(blocks);
    IS_WATCHED.set(true);
    found
}

/// Every secret of a client with its name.
fn secrets(
    suite: Suite,
    private: [u8; 32],
    e: &[u8; 32],
    re: &[u8; 32],
) -> Vec<(String, [u8; 32])> {
    let mut secrets = noise::secrets(suite, &KEY, private, [e, re], re);
    secrets.extend([("key".to_owned(), KEY), ("private".to_owned(), private)]);
    secrets
}

/// Gives all of `bytes` to `end`; its last step.
fn drive(end: &mut Handshake, mut bytes: &[u8], key: &Key) -> Option<Step> {
    let mut step = None;
    while !bytes.is_empty() {
        let (first, rest) = bytes.split_at(end.needs());
        step = Some(end.step(first, &|_| key.clone()).ok()?);
        bytes = rest;
    }
    step
}

/// How a handshake goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Done,
    ServerGivesUp,
    ReplyIsWrong,
    ConfirmIsWrong,
}

const KEY: [u8; 32] = *b"a key of 32 bytes, and not zeros";

/// One handshake, and all that it had dropped: the client's private key, and both public ones.
fn handshake(suite: Suite, way: Way) -> [[u8; 32]; 3] {
    let key = Key::new(&KEY).unwrap();
    let terms = Terms { name: ServerName::new(b"db").unwrap(), client_serves: false };
    let (mut client, sent) = Handshake::client(&key, &KeyId::default(), &terms, suite).unwrap();
    let e = *sent[8..].first_chunk().unwrap();
    let private = private_of(&e).expect("the client's private key is somewhere");
    let mut server = Handshake::server(&terms).unwrap();
    let Some(Step::Reply(mut reply)) = drive(&mut server, &sent, &key) else { panic!() };
    let re = *reply[2..].first_chunk().unwrap();
    // The server has no use for its private key once it has replied.
    assert_eq!(private_of(&re), None);
    match way {
        Way::ServerGivesUp => {}
        Way::ReplyIsWrong => {
            reply[40] ^= 1;
            assert!(drive(&mut client, &reply, &key).is_none());
        }
        Way::Done | Way::ConfirmIsWrong => {
            let Some(Step::Done { session: at_client, mut confirm }) =
                drive(&mut client, &reply, &key)
            else {
                panic!()
            };
            confirm[18] ^= u8::from(way == Way::ConfirmIsWrong);
            match drive(&mut server, &confirm, &key) {
                Some(Step::Done { session, .. }) => talk(*at_client, *session),
                _ => assert!(way == Way::ConfirmIsWrong),
            }
        }
    }
    [private, e, re]
}

fn talk(mut from: Session, mut to: Session) {
    let mut sent = Vec::with_capacity(1000);
    from.sealer.data(&[b"hello"], 5, &mut sent).unwrap();
    to.opener.feed(&sent).unwrap();
    assert_eq!(to.opener.open().unwrap(), Opened::Data);
}

#[test]
fn no_freed_block_holds_a_secret() {
    // The watch works.
    let seen = freed_by(|| drop(KEY.to_vec()));
    assert!(holds(&seen, &KEY));
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        for way in [Way::Done, Way::ServerGivesUp, Way::ReplyIsWrong, Way::ConfirmIsWrong] {
            let mut made = None;
            let seen = freed_by(|| made = Some(handshake(suite, way)));
            let [private, e, re] = made.unwrap();
            for (name, secret) in secrets(suite, private, &e, &re) {
                assert!(!holds(&seen, &secret), "{suite:?}, {way:?}: {name}");
            }
            assert!(holds(&seen, &e), "the memory of the handshake was seen");
        }
    }
}

/// What this thread's stack holds below its caller: the remains of calls that have returned.
#[inline(never)]
fn stack() -> Vec<u8> {
    let here = 0_u8;
    let mut remains = vec![0; 128 * 1024];
    let start = (&raw const here).addr() - remains.len();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    memory.read_exact_at(&mut remains, start as u64).unwrap();
    remains
}

#[test]
fn the_stack_holds_no_secret_of_a_handshake_that_is_over() {
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        IS_WATCHED.set(true);
        let (key, terms) = (Key::new(&KEY).unwrap(), Terms::default());
        let (mut client, sent) = Handshake::client(&key, &KeyId::default(), &terms, suite).unwrap();
        let begun = stack();
        let e = *sent[8..].first_chunk().unwrap();
        let private = private_of(&e).expect("the client's private key is somewhere");
        let mut server = Handshake::server(&terms).unwrap();
        let Some(Step::Reply(reply)) = drive(&mut server, &sent, &key) else { panic!() };
        let replied = stack();
        let Some(Step::Done { session, confirm }) = drive(&mut client, &reply, &key) else {
            panic!()
        };
        let finished = stack();
        assert!(drive(&mut server, &confirm, &key).is_some());
        IS_WATCHED.set(false);
        let re = *reply[2..].first_chunk().unwrap();
        for (name, secret) in secrets(suite, private, &e, &re) {
            if name == "key" {
                continue; // This test has it, too.
            }
            assert!(!holds(&begun, &secret), "{suite:?}, begun: {name}");
            if name != "private" {
                // The search for it has left it there.
                assert!(!holds(&replied, &secret), "{suite:?}, replied: {name}");
                assert!(!holds(&finished, &secret), "{suite:?}, finished: {name}");
            }
        }
        drop(session);
    }
}

#[test]
fn no_freed_block_holds_a_key_that_was_replaced() {
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        let used = Used { records: SEAL_RECORDS - 1, ..Used::default() };
        let mut text = Vec::with_capacity(1000);
        let seen = freed_by(|| {
            let mut sealer = Sealer::with_key(suite, &KEY, used);
            sealer.data(&[b"x"], 1, &mut text).unwrap();
            let mut opener = Opener::with_key(suite, &KEY, used);
            opener.feed(&text).unwrap();
            assert_eq!(opener.open().unwrap(), Opened::Data);
            opener.fail();
            let mut fresh = Sealer::with_key(suite, &KEY, used);
            fresh.fail();
        });
        assert!(seen.len() > 500, "{} bytes", seen.len());
        assert!(!holds(&seen, &KEY), "{suite:?}");
    }
}

#[test]
fn a_record_allocates_nothing() {
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        let mut sealer = Sealer::with_key(suite, &KEY, Used::default());
        let mut opener = Opener::with_key(suite, &KEY, Used::default());
        let (mut sent, bytes) = (Vec::new(), vec![7; 64 * 1024]);
        let mut round = |size: usize| {
            sent.clear();
            sealer.data(&[&bytes[..size / 2], &bytes[size / 2..size]], size, &mut sent).unwrap();
            let mut received = 0;
            let mut left = &sent[..];
            while received < size {
                let space = opener.space().unwrap();
                let (first, rest) = left.split_at((space.capacity() - space.len()).min(left.len()));
                space.extend_from_slice(first);
                left = rest;
                while opener.open().unwrap() == Opened::Data {
                    let count = opener.opened().len();
                    received += count;
                    opener.take(count);
                }
            }
        };
        for _ in 0..8 {
            round(64 * 1024);
        }
        let before = ALLOCATIONS.get();
        for size in [1, 64, 1000, 16_384, 16_385, 64 * 1024].into_iter().cycle().take(600) {
            round(size);
        }
        assert_eq!(ALLOCATIONS.get() - before, 0);
    }
}

fn holds(seen: &[u8], secret: &[u8; 32]) -> bool {
    seen.windows(32).any(|window| window == secret)
}
