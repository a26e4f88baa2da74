//! Sockets that a program gets from whoever started it: systemd, inetd, a container's runtime.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::net::{getpeername, sockopt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::failure::{Failure, Result};
use crate::init::STARTED;

/// The listening sockets of systemd, as sd_listen_fds(3) has them; none if it has started
/// something else. Call it once.
pub fn listeners() -> Result<Vec<OwnedFd>> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    // In a container they are for the first process, which has started this one.
    let us = match std::env::var_os(STARTED) {
        Some(_) if std::os::unix::process::parent_id() == 1 => 1,
        _ => std::process::id(),
    };
    let is_ours = number("LISTEN_PID") == Some(us);
    let Some(count) = number("LISTEN_FDS").filter(|count| is_ours && *count > 0) else {
        return Ok(Vec::new());
    };
    let count = RawFd::try_from(count)
        .ok()
        .filter(|count| *count <= MOST)
        .ok_or_else(|| Failure::new(format!("LISTEN_FDS is {count}: more sockets than {MOST}")))?;
    (FIRST..FIRST + count).map(listener).collect()
}

fn listener(number: RawFd) -> Result<OwnedFd> {
    let refused = |why: &str| Failure::new(format!("socket {number} of LISTEN_FDS: {why}"));
    // SAFETY: the variables say that the descriptor was opened for this process, and nothing
    // else of this program uses a descriptor by its number.
    #[expect(unsafe_code, reason = "a number becomes a descriptor")]
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if fcntl_getfd(borrowed).is_err() {
        return Err(refused("it is not open: do not set LISTEN_FDS by hand"));
    }
    // SAFETY: it is open, as was just seen. It has no other owner: this is called once.
    #[expect(unsafe_code, reason = "as above")]
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // It fails for no descriptor that is open.
    let _ = fcntl_setfd(&socket, FdFlags::CLOEXEC);
    match sockopt::socket_acceptconn(&socket) {
        Ok(true) => Ok(socket),
        Ok(false) => Err(refused(
            "it does not listen: a unit with Accept=yes needs StandardInput=socket, and --stdio",
        )),
        Err(_) => Err(refused("it is not a socket")),
    }
}

/// The connection on standard input. Nothing else is written to it from now on, also where
/// inetd has made it the standard error.
pub fn connection() -> Result<OwnedFd> {
    let refused = |why: &str| Failure::new(format!("--stdio: {why}"));
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let stdin = stdin.as_fd();
    let connected = getpeername(stdin).is_ok();
    let socket = fcntl_dupfd_cloexec(stdin, FIRST).map_err(|_| refused("there is no input"));
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| refused(&format!("/dev/null: {error}")))?;
    if is_same(stdin, stderr.as_fd()) {
        let _ = dup2_stderr(&null);
    }
    if connected {
        if is_same(stdin, stdout.as_fd()) {
            let _ = dup2_stdout(&null);
        }
        let _ = dup2_stdin(&null);
        return socket;
    }
    Err(refused(
        "standard input is no connected socket: it is for inetd, socat EXEC, and Accept=yes of \
         systemd",
    ))
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let place = |fd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// Tells systemd something, as sd_notify(3) does.
pub fn notify(what: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    // A service that is not waited for runs as well.
    let _ =
        UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(what.as_bytes(), &address?));
}

/// SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;
/// More than anybody has.
const MOST: RawFd = 1000;
