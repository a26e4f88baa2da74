//! The side that is asked: stores a file beneath its root, or sends one.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::meter::{Meter, Pace};
use super::{Options, Transfer, inside, recv_trailer, send_content, send_trailer};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::path;
use crate::io::root::Root;
use crate::io::store::{NewFile, StoreOptions};
use crate::limits;
use crate::ops::frame::{self, Body, BodyReader};
use crate::ops::{Duplex, reply};
use crate::wire::header::Header;
use crate::wire::message::file::{GetReply, GetRequest, PutExtent, PutReply, PutRequest, Trailer};
use crate::wire::message::{self, Id};
use crate::wire::name::Name;
use crate::wire::quote;

/// What became of a request; in each case the stream is in step.
#[derive(Debug)]
pub enum Served {
    /// The file was stored or sent.
    Done(Transfer),
    /// The file was stored, but the client is gone and did not wait for the reply, as the
    /// oldest uploaders do not. What it sent before can still be read, and then its end.
    Unanswered(Transfer),
    /// Nothing was stored or sent; the client was told why, if it is still there.
    Refused(Error),
}

/// Serves a received put or get beneath `root`; anything else is refused as unsupported.
///
/// A put is received whole before it is answered, also one that is refused, so that the
/// stream stays in step. An error says that it is not: the connection has to be closed. A
/// client that can be told why was told, and nothing was stored, unless it is the reply
/// that failed. A get whose file shrinks meanwhile ends in such an error: the close is
/// what shows the client that its file is not complete.
pub fn serve<'fd>(
    duplex: Duplex<'fd>,
    request: &Header,
    body: Body<'_, 'fd>,
    root: BorrowedFd<'_>,
    options: &Options<'_>,
) -> Result<Served> {
    let root = Root::new(root)?;
    if body.len() != request.data_size().unwrap_or(0) {
        return Err(Error::new(ErrorKind::State, "a part of the body was received before"));
    }
    let id = message::id_of(request);
    let session = Session { duplex, options, patience: options.patience(), id, silent: false };
    match request.string("cmd") {
        Ok("put") => session.put(request, body, root),
        Ok("get") => session.get(request, body, root),
        Ok(other) => {
            let detail = format!("{} is not served here", quote(other.as_bytes()));
            session.refuse_after(body, Error::new(ErrorKind::Unsupported, detail))
        }
        Err(error) => session.refuse_after(body, error),
    }
}

struct Session<'a, 'fd> {
    duplex: Duplex<'fd>,
    options: &'a Options<'a>,
    patience: Patience,
    id: Option<Id>,
    /// Nothing is answered.
    silent: bool,
}

impl<'fd> Session<'_, 'fd> {
    fn put(mut self, request: &Header, body: Body<'_, 'fd>, root: Root<'_>) -> Result<Served> {
        self.silent = !self.options.reply && request.data_size().is_none();
        let extent = PutExtent::of(request).map_err(|error| self.give_up(error))?;
        let mut upload = Upload::begin(request, root, self.options, self.patience);
        let mut pace = Pace::new(self.options.rate, self.patience.deadline);
        let step = pace.step();
        let take = |piece: &[u8]| {
            if let Ok(open) = &mut upload {
                match open.file.write(piece) {
                    Ok(()) => return open.meter.pass(piece),
                    Err(error) => upload = Err(error),
                }
            }
            pace.pass(piece.len())
        };
        let mut undeclared = BodyReader::new(self.duplex.reader, extent.body);
        let declared = request.data_size().is_some();
        let body = if declared { body } else { Body::Stream(&mut undeclared) };
        let received = self.receive(body, step, take).and_then(|()| {
            extent.trailer.then(|| recv_trailer(self.duplex.reader, self.patience)).transpose()
        });
        match received {
            Ok(trailer) => match upload.and_then(|upload| upload.finish(trailer.as_ref())) {
                Ok((request, stored)) => self.answer(request, stored),
                Err(error) => self.refuse(error),
            },
            Err(error) => Err(self.give_up(upload.err().unwrap_or(error))),
        }
    }

    fn get(&self, request: &Header, body: Body<'_, '_>, root: Root<'_>) -> Result<Served> {
        self.receive(body, limits::COPY_STEP, |_| Ok(())).map_err(|error| self.give_up(error))?;
        let (request, file, size) = match open(request, root) {
            Ok(opened) => opened,
            Err(error) => return self.refuse(error),
        };
        let trailer = request.trailer == Some(true);
        let header = message::to_header(&GetReply {
            status: "ok",
            id: request.id,
            name: request.name,
            filesize: size,
            mode: None,
            mtime: None,
            sha256: None,
            trailer: trailer.then_some(true),
        })?;
        let meter = Meter::new(size, trailer, self.options, self.patience.deadline);
        let sent = send_content(self.duplex.writer, &header, file.as_fd(), meter, self.patience)
            .map_err(inside)?;
        send_trailer(self.duplex.writer, sent.sha256, self.patience)?;
        Ok(Served::Done(sent))
    }

    fn receive(
        &self,
        mut body: Body<'_, '_>,
        step: usize,
        take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        body.for_each_chunk(step, self.patience, take).map_err(inside)
    }

    fn answer(&self, request: PutRequest, stored: Transfer) -> Result<Served> {
        if self.silent {
            return Ok(Served::Done(stored));
        }
        let header = message::to_header(&PutReply {
            status: "ok",
            id: request.id,
            name: request.name,
            filesize: Some(stored.bytes),
            sha256: stored.sha256,
        })?;
        let (writer, framing) = (self.duplex.writer, frame::Options::default());
        match frame::send_by(writer, Some(&header), &[], &framing, self.patience) {
            Ok(()) => Ok(Served::Done(stored)),
            Err(error) if is_gone(&error) => Ok(Served::Unanswered(stored)),
            Err(error) => Err(inside(error)),
        }
    }

    fn refuse_after(&self, body: Body<'_, '_>, error: Error) -> Result<Served> {
        match self.receive(body, limits::COPY_STEP, |_| Ok(())) {
            Ok(()) => self.refuse(error),
            Err(_) => Err(self.give_up(error)),
        }
    }

    fn refuse(&self, error: Error) -> Result<Served> {
        match self.report(&error) {
            Err(failed) if !is_gone(&failed) => Err(inside(failed)),
            _ => Ok(Served::Refused(error)),
        }
    }

    /// The stream is out of step: the client may still be told why, and that is all.
    fn give_up(&self, error: Error) -> Error {
        let _ = self.report(&error);
        error
    }

    fn report(&self, error: &Error) -> Result<()> {
        if self.silent {
            return Ok(());
        }
        reply::send_error(self.duplex.writer, error, self.id.as_ref(), self.patience)
    }
}

/// A file that is being received.
struct Upload<'a> {
    request: PutRequest,
    file: NewFile,
    meter: Meter<'a>,
}

impl<'a> Upload<'a> {
    /// Checks all that can be checked, and only then creates anything.
    fn begin(
        header: &Header,
        root: Root<'_>,
        options: &Options<'a>,
        patience: Patience,
    ) -> Result<Upload<'a>> {
        let request = PutRequest::read(header)?;
        if request.resume == Some(true) || request.offset.is_some_and(|offset| offset > 0) {
            return Err(Error::new(ErrorKind::Unsupported, "an offset, or to resume"));
        }
        let name = request.name.bytes()?;
        options.check_size(request.filesize)?;
        let store = StoreOptions {
            mode: request.mode.map(|mode| mode.0).or(options.store.mode),
            mtime: request.mtime.or(options.store.mtime),
            overwrite: options.store.overwrite && request.overwrite != Some(false),
            ..options.store
        };
        let file = NewFile::create(root, Name::new(&name)?, store)?;
        let asked = request.sha256.or(request.prefix_sha256).is_some();
        let hashed = options.checksum || asked || request.trailer == Some(true);
        let meter = Meter::new(request.filesize, hashed, options, patience.deadline);
        meter.check_skipped(request.prefix_sha256)?;
        Ok(Upload { request, file, meter })
    }

    fn finish(self, trailer: Option<&Header>) -> Result<(PutRequest, Transfer)> {
        let received = self.meter.finish();
        received.check(self.request.sha256)?;
        if let Some(trailer) = trailer {
            let trailer: Trailer = trailer.read_as()?;
            received.check(Some(trailer.sha256))?;
        }
        self.file.commit()?;
        Ok((self.request, received))
    }
}

fn open(header: &Header, root: Root<'_>) -> Result<(GetRequest, OwnedFd, u64)> {
    let request = GetRequest::read(header)?;
    if request.offset.is_some_and(|offset| offset > 0) {
        return Err(Error::new(ErrorKind::Unsupported, "an offset"));
    }
    let name = request.name.bytes()?;
    let (file, stat) = root.open_file(Name::new(&name)?)?;
    Ok((request, file, path::size(&stat)))
}

/// Nobody is there to read what was sent.
fn is_gone(error: &Error) -> bool {
    [Errno::PIPE, Errno::CONNRESET].iter().any(|errno| errno.raw_os_error() == error.errno())
}
