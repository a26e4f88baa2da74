//! Fallible allocation: a lack of memory is an error, and does not abort the host.

use crate::error::{Error, ErrorKind, Result};

/// Makes room for exactly `more` bytes in `buffer`.
#[inline]
pub fn reserve(buffer: &mut Vec<u8>, more: usize) -> Result<()> {
    buffer
        .try_reserve_exact(more)
        .map_err(|_| Error::new(ErrorKind::NoMemory, format!("{more} bytes more")))
}

/// A copy of `bytes`, with room for `more` after them.
pub fn copy(bytes: &[u8], more: usize) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    reserve(&mut copy, bytes.len().saturating_add(more))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Makes room for some of the `missing` bytes that the peer has declared: `first`, and later
/// three times the received bytes. A peer that declares much and sends little uses little
/// memory.
pub fn reserve_step(buffer: &mut Vec<u8>, first: usize, came: usize, missing: u64) -> Result<()> {
    let step = came.saturating_mul(3).max(first);
    reserve(buffer, usize::try_from(missing).unwrap_or(usize::MAX).min(step))
}
