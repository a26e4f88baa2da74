//! Which children of this process the library has started, so that nobody else reaps them.
//!
//! There is no lock: in a child of fork(2) the lock of another thread may never be released.

use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use rustix::process::Pid;

/// A child that the library waits for; dropped once it is reaped.
#[derive(Debug)]
pub(super) struct Ours(&'static Place);

/// A place in a list that never becomes shorter: it has as many as there were children at once.
#[derive(Debug)]
struct Place {
    /// 0: it is free.
    pid: AtomicI32,
    next: Option<&'static Place>,
}

impl Ours {
    pub(super) fn new(pid: Pid) -> Ours {
        let pid = pid.as_raw_nonzero().get();
        let taken = |place: &&Place| {
            place.pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        Ours(places().find(taken).unwrap_or_else(|| add(pid)))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.0.pid.store(0, Ordering::Release);
    }
}

/// Whether the library waits for this child.
pub(super) fn has(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero().get();
    places().any(|place| place.pid.load(Ordering::Acquire) == pid)
}

fn places() -> impl Iterator<Item = &'static Place> {
    // SAFETY: NULL, or a place that is never freed.
    let first = unsafe { FIRST.load(Ordering::Acquire).as_ref() };
    std::iter::successors(first, |place| place.next)
}

fn add(pid: i32) -> &'static Place {
    let new = Box::leak(Box::new(Place { pid: AtomicI32::new(pid), next: None }));
    let mut first = FIRST.load(Ordering::Acquire);
    loop {
        // SAFETY: as above.
        new.next = unsafe { first.as_ref() };
        let added = ptr::from_mut(new);
        match FIRST.compare_exchange(first, added, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it is never freed, and nobody changes it but by its atomic any more.
            Ok(_) => return unsafe { &*added },
            Err(other) => first = other,
        }
    }
}

static FIRST: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());

/// A child is being started, and has no place yet.
#[derive(Debug)]
pub(super) struct Starting(usize);

impl Starting {
    pub(super) fn new() -> Starting {
        let era = ERA.load(Ordering::SeqCst) % 2;
        STARTING[era].fetch_add(1, Ordering::SeqCst);
        Starting(era)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        STARTING[self.0].fetch_sub(1, Ordering::SeqCst);
    }
}

/// From now on children are started in a new era.
pub(super) struct Era(usize);

impl Era {
    pub(super) fn begin() -> Era {
        Era(ERA.fetch_add(1, Ordering::SeqCst) % 2)
    }

    /// Whether each child that was started before it has its place.
    pub(super) fn is_settled(&self) -> bool {
        STARTING[self.0].load(Ordering::SeqCst) == 0
    }
}

static ERA: AtomicUsize = AtomicUsize::new(0);
/// Children that are being started, of an even and of an odd era.
static STARTING: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_many_threads_find_theirs() {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                std::thread::spawn(move || {
                    for n in 0..1000 {
                        let number = 1_000_000_000 + thread * 10_000 + n;
                        let pid = Pid::from_raw(number).unwrap();
                        assert!(!has(pid));
                        let ours = Ours::new(pid);
                        assert!(has(pid));
                        drop(ours);
                        assert!(!has(pid));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        // Other tests have children, too.
        assert!(places().count() < 1000);
    }

    #[test]
    fn what_began_before_an_era_is_waited_for() {
        let before = Starting::new();
        let era = Era::begin();
        assert!(!era.is_settled());
        drop(before);
        let start = std::time::Instant::now();
        // Other tests start children, too.
        while !era.is_settled() {
            assert!(start.elapsed() < std::time::Duration::from_secs(20));
            std::thread::yield_now();
        }
    }
}
