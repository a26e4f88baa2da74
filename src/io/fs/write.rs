//! Calls on a file that is open for writing.

use std::os::fd::{BorrowedFd, IntoRawFd as _, OwnedFd};

use rustix::fs::{Timespec, Timestamps};
use rustix::io::{Errno, Result, retry_on_intr};

use crate::io::signal::with_blocked;

/// Writes all of `bytes` at its position.
#[inline(never)]
pub(super) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    with_blocked(|| {
        while !bytes.is_empty() {
            match retry_on_intr(|| rustix::io::write(file, bytes))? {
                0 => return Err(Errno::IO),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    })
}

/// Closes the file, and returns the error that a network file system reports only then.
pub(super) fn close(file: OwnedFd) -> Result<()> {
    // SAFETY: the descriptor was owned, and nothing uses it any more.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 {
        return Ok(());
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(Errno::INTR) | None => Ok(()), // Linux has closed it: close(2)
        Some(errno) => Err(errno),
    }
}

/// Sets the time of modification, in milliseconds since 1970, if there is one.
pub(super) fn set_time(file: BorrowedFd<'_>, milliseconds: Option<i64>) -> Result<()> {
    let Some(milliseconds) = milliseconds else { return Ok(()) };
    let nanoseconds = milliseconds.rem_euclid(1000) * 1_000_000;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: milliseconds.div_euclid(1000), tv_nsec: nanoseconds },
    };
    rustix::fs::futimens(file, &times)
}
