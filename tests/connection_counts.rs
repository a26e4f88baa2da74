//! What a connection costs: system calls and allocations, each counted.
#![allow(unsafe_code)] // an allocator that counts, and seccomp(2)

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::channel::socket_pair as pair;
use common::exec::{LONG, connect};
use framefd::ErrorKind;
use framefd::ops::frame::{Connection, Sent};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    ALLOCATED.set(ALLOCATED.get() + bytes);
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: as the caller says.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of this thread meanwhile.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn connection(fd: &UnixStream) -> Connection<'_> {
    connect(fd.as_fd())
}

#[test]
fn queued_and_borrowed_messages_take_no_allocation_each() {
    let (ours, theirs) = pair();
    let (mut sender, mut receiver) = (connection(&ours), connection(&theirs));
    let mut round = || {
        for _ in 0..100 {
            sender.queue(Some(r#"{"n":1}"#), &[b'x'; 100], LONG).unwrap();
        }
        sender.flush(LONG).unwrap();
        for _ in 0..100 {
            assert_eq!(receiver.next(LONG).unwrap().body(), [b'x'; 100]);
        }
    };
    round();
    round();
    assert_eq!(allocations(|| (0..10).for_each(|_| round())), 0);
}

#[test]
fn a_large_message_gets_memory_once() {
    const LEN: usize = 4 << 20;
    let (ours, theirs) = pair();
    let (mut sender, mut receiver) = (connection(&ours), connection(&theirs));
    let body = vec![b'x'; LEN];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                assert_eq!(sender.send(None, &body, LONG).unwrap(), Sent::Whole);
            }
        });
        for _ in 0..3 {
            let before = ALLOCATED.get();
            assert_eq!(receiver.recv(LONG).unwrap().body.len(), LEN);
            let allocated = ALLOCATED.get() - before;
            assert!(allocated < LEN + LEN / 8, "{allocated} bytes for a message of {LEN}");
        }
    });
}

#[test]
fn messages_that_wait_in_a_queue_take_no_allocation_each() {
    let (ours, theirs) = pair();
    let mut sender = connection(&ours);
    // Nobody reads.
    while sender.state().queued == 0 {
        sender.queue(None, &vec![b'x'; 50_000], Duration::ZERO).unwrap();
        sender.flush(Duration::ZERO).ok();
    }
    let count = allocations(|| {
        for _ in 0..10_000 {
            sender.queue(Some(r#"{"n":1}"#), &[b'x'; 100], Duration::ZERO).unwrap();
        }
    });
    assert!(count < 100, "{count} for 10,000 messages");
    drop(theirs);
}

/// Runs `body` on a thread where each system call in `calls` ends the thread's work with
/// ENOSYS: a call that is made shows as an error.
fn without(calls: &[libc::c_long], body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            forbid(calls);
            body();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "all are small")]
fn forbid(calls: &[libc::c_long]) {
    let step = |code: u32, skip, k| libc::sock_filter { code: code as u16, jt: 0, jf: skip, k };
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for number in calls {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, *number as u32));
        let error = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, error));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter outlives the call and reads only the number of a system call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter), 0);
    }
}

const POLLS: [libc::c_long; 2] = [libc::SYS_poll, libc::SYS_ppoll];

#[test]
fn a_receive_without_a_hook_waits_in_one_read_and_not_in_poll() {
    let (ours, theirs) = pair();
    let late = std::thread::spawn(move || {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(20));
            connection(&theirs).send(None, b"late", LONG).unwrap();
        }
        theirs
    });
    without(&[&POLLS[..], &[libc::SYS_preadv2, libc::SYS_recvfrom]].concat(), || {
        let mut receiver = connection(&ours);
        for _ in 0..3 {
            assert_eq!(receiver.recv(None).unwrap().body, b"late");
        }
    });
    drop(late.join().unwrap());
    // The filter works: a wait with a deadline does poll.
    without(&POLLS, || {
        let (ours, _theirs) = pair();
        let error = connection(&ours).recv(Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    });
}

#[test]
fn a_message_that_there_is_room_for_is_sent_without_a_poll() {
    let (ours, theirs) = pair();
    without(&[&POLLS[..], &[libc::SYS_write, libc::SYS_writev]].concat(), || {
        let mut sender = connection(&ours);
        sender.send(Some(r#"{"n":1}"#), b"small", LONG).unwrap();
        sender.send(None, &vec![b'x'; 20_000], None).unwrap();
    });
    let mut receiver = connection(&theirs);
    assert_eq!(receiver.recv(LONG).unwrap().body, b"small");
    assert_eq!(receiver.recv(LONG).unwrap().body.len(), 20_000);
}
