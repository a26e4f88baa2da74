//! Tells whether a directory of the peer is one of this host.

use std::os::fd::BorrowedFd;

use crate::wire::digest::Hasher;

/// A text that only the same directory has: the kernel's boot, its device and its number in it
/// are hashed. `None` without /proc.
pub fn identity(dir: BorrowedFd<'_>) -> Option<String> {
    let stat = rustix::fs::fstat(dir).ok()?;
    let mut hasher = Hasher::default();
    hasher.update(&std::fs::read("/proc/sys/kernel/random/boot_id").ok()?);
    hasher.update(&stat.st_dev.to_ne_bytes());
    hasher.update(&stat.st_ino.to_ne_bytes());
    let mut text = hasher.finish().to_string();
    text.truncate(32);
    Some(text)
}
