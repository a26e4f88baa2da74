//! Ranges of an open file, and its position.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result, pread, retry_on_intr};

use crate::error;
use crate::limits;

/// Passes the first `length` bytes of `file` to `take`, as [`read_range`] does.
pub fn read_start(
    file: BorrowedFd<'_>,
    length: u64,
    take: &mut dyn FnMut(&[u8]) -> error::Result<()>,
) -> error::Result<Result<()>> {
    read_range(file, 0, length, take)
}

/// Passes `length` bytes of `file` to `take`, starting at `from`, at most 1 MiB at a time. It
/// ignores and keeps the file's position. EINVAL if the file is shorter. An error of `take` is
/// the outer one.
pub fn read_range(
    file: BorrowedFd<'_>,
    from: u64,
    length: u64,
    take: &mut dyn FnMut(&[u8]) -> error::Result<()>,
) -> error::Result<Result<()>> {
    let step = usize::try_from(length).unwrap_or(usize::MAX).min(limits::COPY_STEP);
    let mut buffer = Vec::new();
    if buffer.try_reserve_exact(step).is_err() {
        return Ok(Err(Errno::NOMEM));
    }
    buffer.resize(step, 0);
    let mut at = 0;
    while at < length {
        let want = usize::try_from(length - at).unwrap_or(usize::MAX).min(step);
        match retry_on_intr(|| pread(file, &mut buffer[..want], from.saturating_add(at))) {
            Ok(0) => return Ok(Err(Errno::INVAL)),
            Ok(got) => {
                take(&buffer[..got])?;
                at += got as u64;
            }
            Err(errno) => return Ok(Err(errno)),
        }
    }
    Ok(Ok(()))
}

/// The position of `file`.
pub fn position(file: BorrowedFd<'_>) -> Result<u64> {
    rustix::fs::tell(file)
}

/// Sets the position of `file`.
pub fn seek(file: BorrowedFd<'_>, at: u64) -> Result<()> {
    rustix::fs::seek(file, SeekFrom::Start(at)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::io::testing::Tree;

    #[test]
    fn a_range_is_read_wherever_the_file_stands() {
        let tree = Tree::new();
        let file = fs::File::open(tree.path("old")).unwrap();
        seek(file.as_fd(), 2).unwrap();
        let read = |from, length| {
            let mut bytes = Vec::new();
            let mut take = |piece: &[u8]| {
                bytes.extend_from_slice(piece);
                Ok(())
            };
            read_range(file.as_fd(), from, length, &mut take).unwrap().map(|()| bytes)
        };
        assert_eq!(read(0, 3).unwrap(), b"old");
        assert_eq!(read(1, 2).unwrap(), b"ld");
        assert_eq!(read(3, 0).unwrap(), b"");
        assert_eq!((read(1, 3), read(u64::MAX, 2)), (Err(Errno::INVAL), Err(Errno::INVAL)));
        assert_eq!(position(file.as_fd()), Ok(2));
    }
}
