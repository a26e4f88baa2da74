//! Memory that may be refused: that is an error, and does not abort the host.

use crate::error::{Error, ErrorKind, Result};

/// Room for `more` bytes in `buffer`, and no more than that.
#[inline]
pub fn reserve(buffer: &mut Vec<u8>, more: usize) -> Result<()> {
    buffer
        .try_reserve_exact(more)
        .map_err(|_| Error::new(ErrorKind::NoMemory, format!("{more} bytes more")))
}

/// Room for some of the `missing` bytes that the peer has declared: `first`, and later
/// thrice what came. One that declares much and sends little holds little.
pub fn reserve_step(buffer: &mut Vec<u8>, first: usize, came: usize, missing: u64) -> Result<()> {
    let step = came.saturating_mul(3).max(first);
    reserve(buffer, usize::try_from(missing).unwrap_or(usize::MAX).min(step))
}
