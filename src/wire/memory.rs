//! Memory that may be refused: an error, where Vec would abort the host.

use crate::error::{Error, ErrorKind, Result};

/// Room for `more` bytes in `buffer`, and no more than that.
#[inline]
pub fn reserve(buffer: &mut Vec<u8>, more: usize) -> Result<()> {
    buffer
        .try_reserve_exact(more)
        .map_err(|_| Error::new(ErrorKind::NoMemory, format!("{more} bytes more")))
}
