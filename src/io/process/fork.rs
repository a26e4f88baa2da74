//! Whether this is still the process that made an object, or a child of fork(2).

use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The process that an object was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u64);

impl Origin {
    /// This process.
    pub fn here() -> Origin {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let Some(mark) = mark() else { return Origin(own_pid()) };
        let known = mark.load(Ordering::Relaxed);
        if known != 0 {
            return Origin(known);
        }
        // The first object of this process. The counter continues in a child, where the mark is
        // wiped, so no two processes have the same mark.
        let new = NEXT.fetch_add(1, Ordering::Relaxed);
        match mark.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Origin(new),
            Err(other) => Origin(other),
        }
    }

    /// Its number, which no process has that it comes from.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Whether this is the same process. It only reads one word of memory.
    #[inline]
    pub fn is_here(self) -> bool {
        match mark() {
            Some(mark) => mark.load(Ordering::Relaxed) == self.0,
            None => own_pid() == self.0,
        }
    }
}

/// A word that is 0 again in every child: `MADV_WIPEONFORK` of madvise(2). `None` if this
/// kernel has none.
#[inline]
fn mark() -> Option<&'static AtomicU64> {
    static MARK: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    *MARK.get_or_init(wiped_word)
}

#[cold]
fn wiped_word() -> Option<&'static AtomicU64> {
    let page = page_size();
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, of which nobody else knows.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), page, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping that was just made.
    if unsafe { libc::madvise(memory, page, libc::MADV_WIPEONFORK) } != 0 {
        // SAFETY: the same, which nobody uses.
        unsafe { libc::munmap(memory, page) };
        return None;
    }
    // SAFETY: it is never unmapped, a page is aligned for any word, and 0 is a value of it.
    NonNull::new(memory.cast::<AtomicU64>()).map(|word| unsafe { word.as_ref() })
}

fn page_size() -> usize {
    // SAFETY: it only asks.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

fn own_pid() -> u64 {
    u64::from(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_another_process_and_has_an_origin_of_its_own() {
        let ours = Origin::here();
        assert!(ours.is_here());
        assert_eq!(Origin::here(), ours);
        // SAFETY: the child calls nothing but these, and _exit(2).
        match unsafe { libc::fork() } {
            0 => {
                let was_here = ours.is_here();
                let other = Origin::here();
                let is_good = !was_here && other.is_here() && other != ours;
                // SAFETY: it ends the child without running anything of the parent's.
                unsafe { libc::_exit(i32::from(!is_good)) };
            }
            child => {
                let mut status = -1;
                // SAFETY: `status` is an int, and the child is ours.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0);
                assert!(ours.is_here());
            }
        }
    }
}
