//! Connects to a host and proves both ends.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use framefd::frame::{Connection, ConnectionOptions, Deadline, Hook, connect};
use framefd::limits;
use rustix::net::sockopt;

use crate::failure::{Failure, Result};
use crate::hosts::Target;
use crate::lend;

/// A connected socket that notices a dead peer.
pub fn socket(target: &Target, timeout: Duration) -> Result<OwnedFd> {
    let socket = match &target.via {
        Some(via) => lend::borrow(&target.shown, via, timeout)?,
        None => connect(&target.address, Deadline::after(timeout), None)
            .map_err(|error| Failure::to_connect(target, &error))?,
    };
    keep_alive(&socket);
    Ok(socket)
}

/// A connection on which requests can be sent. `hook` can end its waits.
pub fn connection(
    target: &Target,
    timeout: Duration,
    hook: Option<Hook>,
) -> Result<Connection<'static>> {
    let options = ConnectionOptions { interrupted: hook, ..ConnectionOptions::default() };
    let mut connection = Connection::new(socket(target, timeout)?, options)
        .map_err(|error| Failure::of(&target.shown, &error))?;
    let timeout = handshake_time(timeout);
    let proved = match &target.key {
        Some(key) if target.plain => connection.auth_client(key, timeout),
        Some(key) => connection.seal_client(key, &target.id, &target.terms, None, timeout),
        None => Ok(()),
    };
    proved.map_err(|error| Failure::to_prove(target, &error))?;
    Ok(connection)
}

/// How long a handshake may take.
pub fn handshake_time(connect_timeout: Duration) -> Duration {
    connect_timeout.min(limits::AUTH_TIMEOUT_HARD)
}

/// A peer that is silent for a minute is asked every 10 s, and given up after the third time: a
/// dead one ends within 90 s. That does not count bytes that were sent and are not acknowledged,
/// for which the kernel has its own, longer time: TCP_USER_TIMEOUT would also end connections to
/// a command that does not read its input.
pub fn keep_alive(socket: &OwnedFd) {
    let second = Duration::from_secs(1);
    // It fails on a socket that is not TCP, and is not needed there.
    let _ = sockopt::set_socket_keepalive(socket, true)
        .and_then(|()| sockopt::set_tcp_keepidle(socket, 60 * second))
        .and_then(|()| sockopt::set_tcp_keepintvl(socket, 10 * second))
        .and_then(|()| sockopt::set_tcp_keepcnt(socket, 3));
}

/// Small writes go out at once.
pub fn no_delay(socket: BorrowedFd<'_>) {
    // As above.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}
