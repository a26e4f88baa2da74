//! Frames in datagrams, one in each.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::io::deadline::Deadline;
use crate::io::stream::datagram::{self, Address};
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::frame::Frame;
use crate::wire;
use crate::wire::memory::copy;

/// How datagrams are sent and received.
#[derive(Clone, Debug)]
pub struct Options {
    /// For the whole call; `None` waits forever, zero does not wait.
    pub timeout: Option<Duration>,
    /// The largest datagram that is sent, in bytes.
    pub max_datagram: usize,
    /// Ends the call early.
    pub interrupt: Option<Arc<Interrupt>>,
}

impl Default for Options {
    fn default() -> Self {
        Options { timeout: None, max_datagram: limits::DATAGRAM_SEND, interrupt: None }
    }
}

/// Sends one frame as one datagram: to `to`, or to the connected address. A frame that is too
/// large for a datagram is refused, and nothing is sent.
pub fn send(
    fd: BorrowedFd<'_>,
    to: Option<&Address>,
    header: Option<&str>,
    body: &[u8],
    options: &Options,
) -> Result<()> {
    let datagram = wire::datagram::encode(header, body, None, options.max_datagram)?;
    let deadline = Deadline::from_timeout(options.timeout);
    datagram::send(fd, to, &datagram, deadline, options.interrupt.as_deref())
}

/// Receives one datagram, which must be one frame, and returns its sender. A datagram that is
/// refused is lost; the next call receives the next one.
pub fn recv(fd: BorrowedFd<'_>, options: &Options) -> Result<(Frame, Option<Address>)> {
    let mut buffer = vec![0; limits::DATAGRAM_HARD];
    let deadline = Deadline::from_timeout(options.timeout);
    let (datagram, source) =
        datagram::recv(fd, &mut buffer, deadline, options.interrupt.as_deref())?;
    let (header, body) = wire::datagram::decode(datagram, None)?;
    Ok((Frame { header, body: copy(body, 0)? }, source))
}
