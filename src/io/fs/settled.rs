//! Files whose size is not what there is to read, as in /proc and /sys.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, Stat};
use rustix::io::{pread, retry_on_intr};

use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::check::size;
use crate::io::fs::range::seek;
use crate::io::fs::write::write_all;
use crate::limits;

/// A regular file, with the bytes that it really has: those in /proc say that they have 0, and
/// those in /sys a page. Their content is copied, up to 1 MiB: [`ErrorKind::Path`] above that.
pub(super) fn settled(file: OwnedFd, mut stat: Stat) -> Result<(OwnedFd, Stat)> {
    let failed = |errno| Error::system("read the file", errno);
    let said = size(&stat);
    let last = said.saturating_sub(1);
    let mut byte = [0];
    if said > MAX_PAGE || !said.is_multiple_of(PAGE) {
        return Ok((file, stat));
    }
    let there = retry_on_intr(|| pread(&file, &mut byte, last)).map_err(failed)? > 0;
    if there == (said > 0) {
        return Ok((file, stat));
    }
    let mut len = 0_usize;
    let copied = copy(file.as_fd(), &stat, &mut len).map_err(failed)?;
    if len > limits::COPY_STEP {
        return Err(Error::new(ErrorKind::Path, "it has more bytes than its size says"));
    }
    stat.st_size = i64::try_from(len).unwrap_or(0);
    Ok((copied, stat))
}

/// A file without a name that has the content, and the mode of `stat`, as the sticky bit says.
/// It ends soon after the most bytes that it may have.
fn copy(from: BorrowedFd<'_>, stat: &Stat, len: &mut usize) -> rustix::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(c"framefd", MemfdFlags::CLOEXEC)?;
    let mut piece = [0; 4096];
    while *len <= limits::COPY_STEP {
        let got = retry_on_intr(|| pread(from, &mut piece, *len as u64))?;
        if got == 0 {
            break;
        }
        write_all(file.as_fd(), &piece[..got])?;
        *len += got;
    }
    seek(file.as_fd(), 0)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o777) | Mode::SVTX)?;
    Ok(file)
}

/// What a page can be.
const PAGE: u64 = 4096;
const MAX_PAGE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::path::Path;

    use crate::io::fs::check;
    use crate::io::fs::path::open_file;
    use crate::io::testing::Tree;

    use super::*;

    fn read(path: &Path) -> (String, u64) {
        let (file, stat) = open_file(path).unwrap();
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        (text, stat.size)
    }

    #[test]
    fn what_the_kernel_makes_up_is_read_whole() {
        let version = fs::read_to_string("/proc/version").unwrap();
        assert_eq!(read(Path::new("/proc/version")), (version.clone(), version.len() as u64));
        let (file, stat) = open_file(Path::new("/proc/version")).unwrap();
        let (there, has_mode) = check::stat(file.as_fd()).unwrap();
        assert_eq!((there.mode & 0o777, stat.mode & 0o777, has_mode), (0o444, 0o444, true));
        let page = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
        if let Ok(enabled) = fs::read_to_string(page) {
            assert_eq!(read(page), (enabled.clone(), enabled.len() as u64));
        }
    }

    #[test]
    fn what_is_as_large_as_it_says_is_left_alone() {
        let tree = Tree::new();
        for len in [0, 3, 4096, 8192, 100_000] {
            fs::write(tree.path("old"), "x".repeat(len)).unwrap();
            let (file, stat) = open_file(&tree.path("old")).unwrap();
            assert_eq!(stat.size, len as u64);
            assert_eq!(rustix::fs::fstat(&file).unwrap().st_nlink, 1);
        }
    }

    /// As a file in /proc says it, or one that grows.
    #[test]
    fn what_has_much_more_than_it_says_is_refused() {
        let tree = Tree::new();
        fs::write(tree.path("old"), vec![b'x'; limits::COPY_STEP + 1]).unwrap();
        let settle = |said| {
            let file = OwnedFd::from(fs::File::open(tree.path("old")).unwrap());
            let mut stat = rustix::fs::fstat(&file).unwrap();
            stat.st_size = said;
            settled(file, stat)
        };
        assert_eq!(settle(0).unwrap_err().kind(), ErrorKind::Path);
        assert_eq!(settle(4096).unwrap().1.st_size, 4096);
        fs::write(tree.path("old"), vec![b'x'; limits::COPY_STEP]).unwrap();
        assert_eq!(settle(0).unwrap().1.st_size, 1 << 20);
        fs::write(tree.path("old"), "short").unwrap();
        assert_eq!(settle(4096).unwrap().1.st_size, 5);
    }
}
