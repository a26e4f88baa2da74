//! Files: put on a server, got from one, and served.

mod client;
mod server;

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use client::{get, get_path, put, put_path};
pub use server::{Served, serve};

use super::frame::{self, BodyReader};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Patience};
use crate::io::store::StoreOptions;
use crate::limits;
use crate::wire::digest::{Digest, Hasher};
use crate::wire::header::Header;
use crate::wire::message::{self, file::Trailer};

/// How a file is sent, received or served.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// For the whole call; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// How long it goes on without a byte; `None` is for ever.
    pub stall: Option<Duration>,
    /// Bytes of a file that is taken from the other end.
    pub max_size: u64,
    /// How a file is stored: what a put asks the server for (all but `sync`), what a get
    /// does here, and what a server does where the request does not say. A server that
    /// may not overwrite does not whatever the request says.
    pub store: StoreOptions,
    /// Whether a client sends the digest of what it puts, and asks for that of what it
    /// gets; whether a server computes one that nobody has asked for.
    pub checksum: bool,
    /// Whether a put is answered. Servers that do not answer know no checksum either; a
    /// server may leave only the oldest uploaders, who read nothing, without an answer.
    pub reply: bool,
    /// Told after each piece how many bytes have passed of how many; may break off.
    pub progress: Option<&'a dyn Fn(u64, u64) -> ControlFlow<()>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            timeout: None,
            stall: Some(limits::STALL_TIMEOUT),
            max_size: u64::MAX,
            store: StoreOptions::default(),
            checksum: true,
            reply: true,
            progress: None,
        }
    }
}

impl Options<'_> {
    fn patience(&self) -> Patience {
        Patience { deadline: Deadline::from_timeout(self.timeout), stall: self.stall }
    }

    fn check_size(&self, size: u64) -> Result<()> {
        if size > self.max_size {
            let detail = format!("a file of {size} bytes, the limit is {}", self.max_size);
            return Err(Error::new(ErrorKind::TooBig, detail));
        }
        Ok(())
    }
}

/// A file that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Its bytes.
    pub bytes: u64,
    /// Its digest, where one was computed.
    pub sha256: Option<Digest>,
}

impl Transfer {
    fn check(&self, expected: Option<Digest>) -> Result<()> {
        match (self.sha256, expected) {
            (Some(found), Some(expected)) if found != expected => Err(Error::new(
                ErrorKind::Checksum,
                format!("the content has {found}, and should have {expected}"),
            )),
            _ => Ok(()),
        }
    }
}

/// A file that is passing.
struct Meter<'a> {
    done: u64,
    total: u64,
    hasher: Option<Hasher>,
    progress: Option<&'a dyn Fn(u64, u64) -> ControlFlow<()>>,
}

impl<'a> Meter<'a> {
    fn new(total: u64, checksum: bool, options: &Options<'a>) -> Meter<'a> {
        let hasher = checksum.then(Hasher::default);
        Meter { done: 0, total, hasher, progress: options.progress }
    }

    fn pass(&mut self, piece: &[u8]) -> Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        self.done += piece.len() as u64;
        match self.progress.map(|progress| progress(self.done, self.total)) {
            Some(ControlFlow::Break(())) => Err(Error::new(
                ErrorKind::Cancelled,
                format!("after {} of {} bytes", self.done, self.total),
            )),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Transfer {
        Transfer { bytes: self.done, sha256: self.hasher.map(Hasher::finish) }
    }
}

/// Sends `header` and, as its body, the next bytes of `source`: as many as `meter` expects.
fn send_content(
    fd: BorrowedFd<'_>,
    header: &str,
    source: BorrowedFd<'_>,
    mut meter: Meter<'_>,
    patience: Patience,
) -> Result<Transfer> {
    let framing = frame::Options::default();
    let mut body = frame::send_header_by(fd, Some(header), meter.total, &framing, patience)?;
    let sent =
        BodyReader::new(source, meter.total).for_each_chunk(limits::COPY_STEP, patience, |piece| {
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
fn send_trailer(fd: BorrowedFd<'_>, sha256: Option<Digest>, patience: Patience) -> Result<()> {
    let Some(sha256) = sha256 else { return Ok(()) };
    let header = message::to_header(&Trailer { sha256 })?;
    frame::send_by(fd, Some(&header), &[], &frame::Options::default(), patience).map_err(inside)
}

/// Receives the header of the frame that follows a content. It has no body.
fn recv_trailer(fd: BorrowedFd<'_>, patience: Patience) -> Result<Header> {
    let (header, body) =
        frame::recv_header_by(fd, &frame::Options::default(), patience.next()).map_err(inside)?;
    if body.left() > 0 {
        return Err(Error::new(ErrorKind::BadField, "the frame behind the content has a body"));
    }
    Ok(header)
}

/// An error of a stream that was in the middle of an exchange.
fn inside(error: Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::Timeout => ErrorKind::Stalled,
        ErrorKind::Closed => ErrorKind::Truncated,
        _ => return error,
    };
    Error::new(kind, error.detail().to_owned())
}
