//! Listening on an address; the file of a Unix socket that nobody listens on is replaced.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, sockopt};

use super::socket::{naming, refused, socket_for, wait};
use super::text::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::limits;

/// Listens on `address` and returns a stream socket that does not block and is closed on exec.
/// If a name has several addresses, the first usable one counts.
///
/// `backlog` is the length of its queue, 0 is the default; the kernel lowers it to
/// net.core.somaxconn. `mode` is that of a Unix socket's file, 0 is 0600; the umask does not
/// apply. The file never has a wider mode.
///
/// A TCP address can be used again at once after its last listener (SO_REUSEADDR). `[::]` takes
/// IPv4 connections too, unless net.ipv6.bindv6only is set.
///
/// An address in use has the errno EADDRINUSE, in every family. The file of a Unix socket that
/// nobody listens on is replaced. Anything else there stays, and is [`ErrorKind::Exists`].
pub fn listen(address: impl AsRef<[u8]>, backlog: i32, mode: u32) -> Result<OwnedFd> {
    let address = Address::parse(address.as_ref())?;
    let invalid = |why: String| Error::new(ErrorKind::Argument, why);
    let backlog = match backlog {
        0 => limits::LISTEN_BACKLOG,
        1.. => backlog,
        _ => return Err(invalid(format!("the backlog is {backlog}"))),
    };
    if let Address::Path(path) = &address {
        return match mode {
            0 => listen_on_path(&address, path, backlog, Mode::RUSR | Mode::WUSR),
            1..=0o777 => listen_on_path(&address, path, backlog, Mode::from_raw_mode(mode)),
            _ => Err(invalid(format!("the mode {mode:o} is not from 1 to 777"))),
        };
    }
    if mode != 0 {
        return Err(invalid("only the file of a Unix socket has a mode".into()));
    }
    listen_on_any(&address.resolve()?, backlog)
}

fn listen_on_any(addresses: &[SocketAddrAny], backlog: i32) -> Result<OwnedFd> {
    let mut failed: Option<Error> = None;
    for address in addresses {
        let listening = socket_for(address).and_then(|socket| {
            if [AddressFamily::INET, AddressFamily::INET6].contains(&address.address_family()) {
                sockopt::set_socket_reuseaddr(&socket, true)
                    .map_err(|errno| Error::system("setsockopt", errno))?;
            }
            rustix::net::bind(&socket, address).map_err(|errno| refused("bind", errno))?;
            start(&socket, backlog)?;
            Ok(socket)
        });
        match listening.map_err(naming(address, "listen on")) {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                failed = Some(match failed {
                    None => error,
                    Some(first) => first.and(&error),
                });
            }
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "the name has no address")))
}

fn start(socket: &OwnedFd, backlog: i32) -> Result<()> {
    rustix::net::listen(socket, backlog).map_err(|errno| refused("listen", errno))
}

fn listen_on_path(address: &Address, path: &[u8], backlog: i32, mode: Mode) -> Result<OwnedFd> {
    let address = &address.resolve()?[0];
    let listening = || {
        let socket = socket_for(address)?;
        // The file that bind(2) makes has the mode of the socket, reduced by the umask, so it
        // never has a wider mode.
        rustix::fs::fchmod(&socket, mode).map_err(|errno| Error::system("fchmod", errno))?;
        let mut bound = rustix::net::bind(&socket, address);
        let mut _lock = None;
        if bound == Err(Errno::ADDRINUSE) {
            _lock = lock_directory(path)?;
            remove_stale(address, path)?;
            bound = rustix::net::bind(&socket, address);
        }
        bound.map_err(|errno| refused("bind", errno))?;
        widen(path, mode).and_then(|()| start(&socket, backlog)).inspect_err(|_| {
            // The first error is the one to report.
            let _ = rustix::fs::unlinkat(CWD, path, AtFlags::empty());
        })?;
        Ok(socket)
    };
    listening().map_err(naming(address, "listen on"))
}

/// Restores the bits that the umask has removed from the new file.
fn widen(path: &[u8], mode: Mode) -> Result<()> {
    let failed = |errno| refused("the mode of the socket", errno);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let there = rustix::fs::fstat(&file).map_err(failed)?.st_mode;
    if !is_socket(there) || there & 0o777 == mode.as_raw_mode() {
        return Ok(());
    }
    // fchmod(2) takes no descriptor of this kind.
    let file = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::chmod(file, mode).map_err(failed)
}

/// Removes the file of a socket that nobody listens on; otherwise it is in use.
fn remove_stale(address: &SocketAddrAny, path: &[u8]) -> Result<()> {
    for pause in [Some(STARTING), None] {
        let there = match rustix::fs::lstat(path) {
            Ok(stat) => stat.st_mode,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(refused("lstat", errno)),
        };
        if !is_socket(there) {
            return Err(Error::new(ErrorKind::Exists, "the existing file is not a socket"));
        }
        match rustix::net::connect(&socket_for(address)?, address) {
            Err(Errno::CONNREFUSED) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(refused("connect", errno)),
            // It accepted the connection, or its queue is full, or it is of another type.
            _ => return Err(Error::system("bind", Errno::ADDRINUSE)),
        }
        // A bound socket also refuses until it listens.
        if let Some(pause) = pause {
            wait(&mut [], Deadline::after(pause), None)?;
        }
    }
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(refused("unlink", errno)),
    }
}

/// Prevents two processes that find the same stale file from removing each other's new one. It
/// is best effort: a directory that cannot be read is not locked, and a lock that is held for
/// more than a second is ignored.
fn lock_directory(path: &[u8]) -> Result<Option<OwnedFd>> {
    let parent = match path.iter().rposition(|&byte| byte == b'/') {
        None => &b"."[..],
        Some(0) => b"/",
        Some(at) => &path[..at],
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::open(parent, flags, Mode::empty()) else {
        return Ok(None);
    };
    let deadline = Deadline::after(LOCK);
    while is_locked(directory.as_fd()) && !deadline.passed() {
        wait(&mut [], deadline.min(Deadline::after(STARTING)), None)?;
    }
    Ok(Some(directory))
}

/// Tries to take the lock; whether another process holds it.
fn is_locked(directory: BorrowedFd<'_>) -> bool {
    let lock = FlockOperation::NonBlockingLockExclusive;
    matches!(rustix::fs::flock(directory, lock), Err(Errno::WOULDBLOCK | Errno::INTR))
}

fn is_socket(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Socket
}

/// Far longer than the time between bind(2) and listen(2).
const STARTING: Duration = Duration::from_millis(10);
/// Longest wait for another process that replaces a socket in the same directory.
const LOCK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::io::testing;

    #[test]
    fn a_mode_is_exact_whatever_the_umask_and_never_wider() {
        testing::alone(
            "io::stream::address::listen::tests::a_mode_is_exact_whatever_the_umask_and_never_wider",
            &[],
            || {
                let dir = tempfile::tempdir().unwrap();
                for (number, (umask, mode, expected)) in
                    [(0, 0, 0o600), (0o077, 0o666, 0o666), (0o777, 0, 0o600), (0, 0o640, 0o640)]
                        .into_iter()
                        .enumerate()
                {
                    rustix::process::umask(Mode::from_raw_mode(umask));
                    let path = dir.path().join(number.to_string());
                    let socket = listen(format!("unix:{}", path.display()), 0, mode).unwrap();
                    let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                    assert_eq!(found, expected, "{umask:o} {mode:o}");
                    drop(socket);
                    let left = rustix::process::umask(Mode::empty());
                    assert_eq!(left.as_raw_mode(), umask, "it is the process's");
                }
                // Without chmod(2) the mode stays narrow, as it is from the beginning.
                testing::failing(&[(libc::SYS_fchmodat, Errno::PERM)], || {
                    rustix::process::umask(Mode::empty());
                    let path = dir.path().join("narrow");
                    let address = format!("unix:{}", path.display());
                    listen(&address, 0, 0).unwrap();
                    let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                    assert_eq!(found, 0o600);
                    std::fs::remove_file(&path).unwrap();
                    rustix::process::umask(Mode::from_raw_mode(0o077));
                    assert_eq!(listen(&address, 0, 0o666).unwrap_err().kind(), ErrorKind::Denied);
                    assert!(!path.exists(), "a failure leaves nothing");
                });
            },
        );
    }

    #[test]
    fn two_that_find_one_stale_file_do_not_both_listen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let address = format!("unix:{}", path.display());
        for _ in 0..10 {
            drop(UnixListener::bind(&path).unwrap());
            let results = std::thread::scope(|scope| {
                let both = [0; 2].map(|_| scope.spawn(|| listen(&address, 0, 0)));
                both.map(|thread| thread.join().unwrap())
            });
            let listening = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(listening, 1, "{results:?}");
            let error = results.into_iter().find_map(Result::err).unwrap();
            assert_eq!(error.errno(), Errno::ADDRINUSE.raw_os_error());
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_lock_that_is_held_delays_and_does_not_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        drop(UnixListener::bind(&path).unwrap());
        let directory = std::fs::File::open(dir.path()).unwrap();
        rustix::fs::flock(&directory, FlockOperation::LockExclusive).unwrap();
        let start = std::time::Instant::now();
        listen(format!("unix:{}", path.display()), 0, 0).unwrap();
        assert!((LOCK..10 * LOCK).contains(&start.elapsed()));
    }
}
