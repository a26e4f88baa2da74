//! Memory that may be refused: an error, where Vec would abort the host.

use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Room for `more` bytes in `buffer`, and no more than that.
#[inline]
pub fn reserve(buffer: &mut Vec<u8>, more: usize) -> Result<()> {
    buffer
        .try_reserve_exact(more)
        .map_err(|_| Error::new(ErrorKind::NoMemory, format!("{more} bytes more")))
}

/// Room for some of the `missing` bytes that the other end has declared: for a first step,
/// then for thrice what came. One that declares much and sends little holds little: memory
/// that nothing was written to is not there yet.
pub fn reserve_step(buffer: &mut Vec<u8>, came: usize, missing: u64) -> Result<()> {
    let step = came.saturating_mul(3).max(limits::FIRST_STEP);
    reserve(buffer, usize::try_from(missing).unwrap_or(usize::MAX).min(step))
}
