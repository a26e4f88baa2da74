//! The content of a file and the trailer behind it, as they pass on a stream.

use std::os::fd::BorrowedFd;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::ops::file::Transfer;
use crate::ops::file::meter::Meter;
use crate::ops::frame::{self, BodyReader};
use crate::wire::digest::Digest;
use crate::wire::json::header::Header;
use crate::wire::message::file::Trailer;

/// Sends `header` and, as its body, the next bytes of `source`: as many as `meter` still
/// expects.
pub(super) fn send_content(
    fd: BorrowedFd<'_>,
    header: &str,
    source: BorrowedFd<'_>,
    mut meter: Meter<'_>,
    patience: Patience,
) -> Result<Transfer> {
    let framing = frame::Options::default();
    let left = meter.left();
    let mut body = frame::send_header_by(fd, Some(header), left, &framing, patience)?;
    let sent = BodyReader::new(source, left).for_each_chunk(meter.step(), patience, |piece| {
        body.write_by(piece, patience)?;
        meter.pass(piece)
    });
    match sent {
        Ok(()) => Ok(meter.finish()),
        Err(error) if error.kind() == ErrorKind::Truncated => {
            Err(error.context("the file is shorter than it was said to be"))
        }
        Err(error) => Err(inside(error)),
    }
}

/// Sends the frame that follows a content.
pub(super) fn send_trailer(
    fd: BorrowedFd<'_>,
    sha256: Option<Digest>,
    patience: Patience,
) -> Result<()> {
    let Some(sha256) = sha256 else { return Ok(()) };
    let header = Trailer { sha256 }.header();
    frame::send_by(fd, Some(&header), &[], &frame::Options::default(), patience).map_err(inside)
}

/// Receives the header of the frame that follows a content. It has no body.
pub(super) fn recv_trailer(fd: BorrowedFd<'_>, patience: Patience) -> Result<Header> {
    let (header, body) =
        frame::recv_header_by(fd, &frame::Options::default(), patience.next()).map_err(inside)?;
    if body.left() > 0 {
        return Err(Error::new(ErrorKind::BadField, "the frame behind the content has a body"));
    }
    Ok(header)
}

/// An error of a stream that was in the middle of an exchange.
pub(super) fn inside(error: Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::TimedOut => ErrorKind::Stalled,
        ErrorKind::Closed => ErrorKind::Truncated,
        _ => return error,
    };
    Error::new(kind, error.detail().to_owned())
}
