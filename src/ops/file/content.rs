//! The content of a file and the trailer after it, on a connection.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::meter::Meter;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, TimeLimit};
use crate::io::fs::range::read_range;
use crate::io::stream::aligned::reserve_aligned;
use crate::io::stream::source::Source;
use crate::ops::frame::Connection;
use crate::wire::digest::Digest;
use crate::wire::json::header::Header;
use crate::wire::message::file::Trailer;

/// Sends `header` and, as its body, the next bytes of `source`: as many as `meter` still
/// expects. If `source` fails before the first byte, nothing was sent. `is_over` is called before
/// each further piece, and while the peer does not read; true ends it.
pub(super) fn send_content(
    connection: &mut Connection<'_>,
    header: &str,
    source: BorrowedFd<'_>,
    meter: &mut Meter<'_>,
    time_limit: TimeLimit,
    is_over: &mut dyn FnMut(&mut Connection<'_>) -> Result<bool>,
) -> Result<()> {
    let len = meter.left();
    if len == 0 {
        meter.pass(&[])?;
        return connection.begin_by(header, 0, &[], time_limit);
    }
    let mut source = Source::new(source, Deadline::NEVER);
    source.set_interrupt(Some(Arc::clone(connection.shared().interrupt())));
    let step = usize::try_from(len).unwrap_or(usize::MAX).min(meter.step());
    let mut piece = Vec::new();
    let start = reserve_aligned(&mut piece, step)?;
    let mut is_first = true;
    while meter.left() > 0 {
        piece.truncate(start);
        source.set_deadline(time_limit.next());
        source.set_mid_message(false);
        if source.read_more(&mut piece, meter.left().min(step as u64))? == 0 {
            let detail = format!("the file is {} bytes shorter than declared", meter.left());
            return Err(Error::new(ErrorKind::Truncated, detail));
        }
        let deadline = time_limit.deadline.min(meter.deadline(piece.len() - start));
        let time_limit = TimeLimit { deadline, ..time_limit };
        if is_first {
            connection.begin_by(header, len, &piece[start..], time_limit)?;
        } else {
            let mut sent = start;
            while sent < piece.len() {
                if is_over(connection)? {
                    return Ok(());
                }
                sent += connection.write_until_received(&piece[sent..], time_limit)?;
            }
        }
        is_first = false;
        meter.pass(&piece[start..])?;
    }
    Ok(())
}

/// Sends the frame that follows a content.
pub(super) fn send_trailer(
    connection: &mut Connection<'_>,
    sha256: Option<Digest>,
    time_limit: TimeLimit,
) -> Result<()> {
    let Some(sha256) = sha256 else { return Ok(()) };
    connection.send_by(Some(&Trailer { sha256 }.header()), [&[], &[]], time_limit)
}

/// Receives the header of the frame that follows a content. It has no body.
pub(super) fn recv_trailer(
    connection: &mut Connection<'_>,
    time_limit: TimeLimit,
) -> Result<Header> {
    let header = connection.header_by(time_limit).map_err(|error| match error.kind() {
        ErrorKind::Closed => {
            Error::new(ErrorKind::Truncated, "the digest of the content is missing")
        }
        _ => error,
    })?;
    if connection.to_receive() > 0 {
        return Err(Error::new(ErrorKind::BadField, "the frame after the content has a body"));
    }
    Ok(header)
}

/// Lets `meter` skip `len` bytes of a regular file, from the byte `from` on. `go_on` is called
/// after each piece, and may end it.
pub(super) fn skip_range(
    meter: &mut Meter<'_>,
    file: BorrowedFd<'_>,
    from: u64,
    len: u64,
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let skipped = read_range(file, from, len, &mut |piece| {
        meter.skip(piece);
        go_on()
    })?;
    match skipped {
        Ok(()) => Ok(()),
        Err(Errno::SPIPE | Errno::BADF | Errno::INVAL) => {
            let detail = format!("the {len} bytes before the rest cannot be read");
            Err(Error::new(ErrorKind::Argument, detail))
        }
        Err(errno) => Err(Error::system("read the first bytes", errno)),
    }
}
