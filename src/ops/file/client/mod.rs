//! The side that asks: sends files, takes them, and asks about them.

mod get;
mod put;
mod query;

use std::os::fd::BorrowedFd;

use super::meter::Meter;
use crate::ops::Duplex;
use crate::ops::frame::reply;
use crate::ops::frame::{self, BodyReader};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::fs::range::read_range;
use crate::wire::json::header::Header;
use crate::wire::message::{check_reply, id_of};

pub(super) use get::{Place, get_by};
pub use get::{get, get_path};
pub(super) use put::put_by;
pub use put::{put, put_path};
pub use query::{list, make_directory, partial, stat};
pub(super) use query::{list_by, make_directory_by, make_link_by, stat_by};

/// Sends a request without a body and receives the header of its reply, whose body is
/// still to come.
fn ask<'fd>(
    duplex: Duplex<'fd>,
    request: &str,
    patience: Patience,
) -> Result<(Header, BodyReader<'fd>)> {
    frame::send_by(duplex.writer, Some(request), &[], &frame::Options::default(), patience)?;
    recv_reply(duplex.reader, patience)
}

/// The header of the reply to a request without an id, and its body, which is still to
/// come. An error reply has none.
fn recv_reply(reader: BorrowedFd<'_>, patience: Patience) -> Result<(Header, BodyReader<'_>)> {
    let (header, body) = frame::recv_header_by(reader, &frame::Options::default(), patience.next())
        .map_err(reply::overdue)?;
    let bad = |detail: &'static str| Err(Error::new(ErrorKind::BadReply, detail));
    match header.fields().and_then(|fields| check_reply(&fields)) {
        _ if id_of(&header).is_some() => bad("it answers another request"),
        Err(_) if body.left() > 0 => bad("an error reply has a body"),
        checked => checked.map(|()| (header, body)),
    }
}

/// The header of a reply that has no body.
fn recv_bare_reply(reader: BorrowedFd<'_>, patience: Patience) -> Result<Header> {
    let (header, body) = recv_reply(reader, patience)?;
    without_body(header, &body)
}

fn without_body(header: Header, body: &BodyReader<'_>) -> Result<Header> {
    if body.left() > 0 {
        return Err(Error::new(ErrorKind::BadReply, "the reply has a body"));
    }
    Ok(header)
}

/// Whether the peer has refused what was said of the first bytes of a file, so that
/// all of it has to pass.
fn starts_over(error: &Error) -> bool {
    use ErrorKind::{RemoteBadRequest, RemoteChecksum, RemoteUnsupported};
    matches!(error.kind(), RemoteBadRequest | RemoteChecksum | RemoteUnsupported)
}

/// Lets `meter` skip `length` bytes of a regular file, from the byte `from` on.
fn skip_range(
    meter: &mut Meter<'_>,
    file: BorrowedFd<'_>,
    from: u64,
    length: u64,
    patience: Patience,
) -> Result<()> {
    let skipped = read_range(file, from, length, &mut |piece| {
        meter.skip(piece);
        if patience.deadline.passed() { Err(Errno::TIMEDOUT) } else { Ok(()) }
    });
    skipped.map_err(|errno| match errno {
        Errno::TIMEDOUT => Error::new(ErrorKind::TimedOut, "while the first bytes were read"),
        Errno::SPIPE | Errno::BADF | Errno::INVAL => {
            let detail = format!("the {length} bytes before the rest cannot be read");
            Error::new(ErrorKind::Argument, detail)
        }
        errno => Error::system("read the first bytes", errno),
    })
}
