//! One request in a datagram, sent again until its reply is complete.

use std::os::fd::BorrowedFd;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::stream::datagram;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::wire;
use crate::wire::datagram::DatagramKey;
use crate::wire::datagram::parts::{Mark, Reassembly};
use crate::wire::json::header::Header;
use crate::wire::memory::copy;
use crate::wire::message::Message as _;

/// Sends a request, which carries `mark`, to the connected address, and returns the header of
/// its reply and the body of at most `max_body` bytes.
///
/// `request` makes the datagram: the request itself or, given numbers, a request for these parts
/// of the reply. It is sent again if nothing is received: after 200 ms, then after twice as long
/// each time, up to 2 s. Datagrams with another id or nonce or a wrong tag, requests, truncated
/// and malformed ones are ignored. Without a complete reply by the deadline the call is
/// [`ErrorKind::TimedOut`]. `key` is that of replies.
pub(crate) fn exchange(
    fd: BorrowedFd<'_>,
    request: impl Fn(&[u32]) -> Result<Vec<u8>>,
    mark: &Mark,
    key: Option<&DatagramKey>,
    max_body: usize,
    (deadline, interrupt): (Deadline, Option<&Interrupt>),
) -> Result<(Header, Vec<u8>)> {
    let buffer = vec![0; limits::DATAGRAM_HARD];
    let mut replies = Replies { fd, mark, key, interrupt, buffer, last: None };
    let mut parts = Reassembly::new(max_body);
    let mut interval = limits::DATAGRAM_RESEND;
    loop {
        // Without a wait nobody asks: a peer that hurries must not hold the call either.
        interrupt.map_or(Ok(()), Interrupt::ask)?;
        let missing = parts.missing(limits::DATAGRAM_MISSING);
        datagram::send(fd, None, &request(&missing)?, deadline, interrupt)?;
        let mut quiet = Deadline::after(interval).min(deadline);
        interval = (interval * 2).min(limits::DATAGRAM_RESEND_MAX);
        while let Some((header, body)) = replies.next(quiet)? {
            if parts.add(header, body)? {
                interval = limits::DATAGRAM_RESEND;
                quiet = Deadline::after(interval).min(deadline);
            } else if quiet.passed() {
                break;
            }
            if let Some(reply) = parts.finish()? {
                return Ok(reply);
            }
            if deadline.passed() {
                break;
            }
            if !missing.is_empty() && missing.iter().all(|part| parts.has(*part)) {
                break; // all that was asked for is there: ask for more at once
            }
        }
        if deadline.passed() {
            return Err(replies.timeout(&parts));
        }
    }
}

/// The datagrams that answer a request.
struct Replies<'a> {
    fd: BorrowedFd<'a>,
    mark: &'a Mark,
    key: Option<&'a DatagramKey>,
    interrupt: Option<&'a Interrupt>,
    buffer: Vec<u8>,
    /// The error for which the last datagram was ignored.
    last: Option<Error>,
}

impl Replies<'_> {
    /// The header and the body of the next of them; `None` once `until` has passed.
    fn next(&mut self, until: Deadline) -> Result<Option<(Header, Vec<u8>)>> {
        loop {
            let refused = match datagram::recv(self.fd, &mut self.buffer, until, self.interrupt) {
                Ok((datagram, _)) => match accept(datagram, self.mark, self.key) {
                    Ok(reply) => return Ok(Some(reply)),
                    Err(error) if error.kind() == ErrorKind::NoMemory => return Err(error),
                    Err(error) => error,
                },
                Err(error) if error.kind() == ErrorKind::Limit => error,
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(error),
            };
            self.last = Some(refused);
            if until.passed() {
                return Ok(None);
            }
        }
    }

    fn timeout(&self, parts: &Reassembly) -> Error {
        let mut detail = match parts.progress() {
            (_, None) => "no reply was received".to_owned(),
            (came, Some(parts)) => format!("{came} of {parts} parts of the reply were received"),
        };
        if let Some(last) = &self.last {
            detail.push_str(&format!("; a datagram was ignored: {last}"));
        }
        Error::new(ErrorKind::TimedOut, detail)
    }
}

/// The header and the body of a datagram that answers the request with `mark`.
fn accept(datagram: &[u8], mark: &Mark, key: Option<&DatagramKey>) -> Result<(Header, Vec<u8>)> {
    let (header, body) = wire::datagram::decode(datagram, key)?;
    let fields = header.fields()?;
    if fields.has("cmd") {
        // Somebody sent the request back: an echo server, perhaps.
        return Err(Error::new(ErrorKind::BadReply, "it is a request"));
    }
    let theirs = Mark::of(&fields)?;
    if (&theirs.id, &theirs.nonce) != (&mark.id, &mark.nonce) {
        return Err(Error::new(ErrorKind::BadReply, "it is the reply to another request"));
    }
    Ok((header, copy(body, 0)?))
}
