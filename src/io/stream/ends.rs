//! The two directions of a stream, and who owns their descriptors.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

/// The descriptors of a conversation.
#[derive(Debug)]
pub enum Ends<'fd> {
    /// The caller's, to read from and to write to: they stay open, and the caller closes them.
    Borrowed(Option<BorrowedFd<'fd>>, Option<BorrowedFd<'fd>>),
    /// Owned, one for each direction.
    Owned(Option<OwnedFd>, Option<OwnedFd>),
    /// Owned, one for both directions.
    Both(OwnedFd),
}

/// The descriptors of [`Ends`], to read from and to write to.
pub(crate) type Lent = [Option<BorrowedFd<'static>>; 2];

impl Ends<'_> {
    /// The descriptors, and those of them that are owned.
    ///
    /// The first may be used while the second are kept and `'fd` lasts: the caller keeps both in
    /// one object that has `'fd` in its type.
    pub(crate) fn lend(self) -> (Lent, [Option<OwnedFd>; 2]) {
        // SAFETY: open for `'fd`, or as long as the caller keeps its owner.
        let lent = |fd: i32| unsafe { BorrowedFd::borrow_raw(fd) };
        match self {
            Ends::Borrowed(reader, writer) => {
                ([reader, writer].map(|fd| fd.map(|fd| lent(fd.as_raw_fd()))), [None, None])
            }
            Ends::Owned(reader, writer) => {
                let fds = [&reader, &writer].map(|fd| fd.as_ref().map(|fd| lent(fd.as_raw_fd())));
                (fds, [reader, writer])
            }
            Ends::Both(fd) => ([Some(lent(fd.as_raw_fd())); 2], [Some(fd), None]),
        }
    }
}

impl<'fd> From<BorrowedFd<'fd>> for Ends<'fd> {
    fn from(fd: BorrowedFd<'fd>) -> Ends<'fd> {
        Ends::Borrowed(Some(fd), Some(fd))
    }
}

impl From<OwnedFd> for Ends<'_> {
    fn from(fd: OwnedFd) -> Self {
        Ends::Both(fd)
    }
}
