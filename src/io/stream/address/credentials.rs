//! Who is behind a Unix socket, as the kernel knows it.

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::error::{Error, Result};
use crate::io::last_errno;

/// A process at the other end of a Unix socket, as it was when it connected, or when it made the
/// pair: `SO_PEERCRED` of unix(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its process id; 0 if it is in another pid namespace. The process may have ended since, and
    /// another one have the number.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

/// The credentials of a socket's peer; `None` for a socket that is no Unix socket.
pub fn credentials_of(fd: BorrowedFd<'_>) -> Result<Option<Credentials>> {
    let mut found = MaybeUninit::<libc::ucred>::zeroed();
    let mut len = SIZE;
    // SAFETY: there is room for as many bytes as `len` says.
    let got = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            found.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if got != 0 {
        return Err(Error::system("getsockopt", last_errno()));
    }
    // SAFETY: three integers, for which every value is valid, zero as well.
    let libc::ucred { pid, uid, gid } = unsafe { found.assume_init() };
    // That is what the kernel says of every other socket.
    Ok((uid != u32::MAX).then_some(Credentials { pid, uid, gid }))
}

#[expect(clippy::cast_possible_truncation, reason = "three integers")]
const SIZE: libc::socklen_t = size_of::<libc::ucred>() as libc::socklen_t;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_a_unix_socket_has_credentials() {
        let (one, other) = UnixStream::pair().unwrap();
        drop(other);
        let credentials = credentials_of(one.as_fd()).unwrap().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let pid = std::process::id().cast_signed();
        assert_eq!((credentials.pid, credentials.uid), (pid, uid));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(credentials_of(tcp.as_fd()).unwrap(), None);
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(credentials_of(reader.as_fd()).is_err());
    }
}
