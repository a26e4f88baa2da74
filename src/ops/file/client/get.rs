//! A file that is fetched: whole, or the rest after the bytes that are already here.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{ask, starts_over};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, TimeLimit};
use crate::io::fs::partial::open_partial;
use crate::io::fs::path;
use crate::io::fs::range::position;
use crate::io::fs::root::Root;
use crate::io::fs::store::NewFile;
use crate::io::stream::sink::Sink;
use crate::limits;
use crate::ops::file::content::{recv_trailer, skip_range};
use crate::ops::file::meter::{Flow, Meter};
use crate::ops::file::{Transfer, Transferred, check_size};
use crate::ops::frame::Connection;
use crate::wire::message::file::{FileName, GetReply, GetRequest, Trailer};
use crate::wire::name::Name;

/// The destination of a content.
trait Dest {
    /// Gets the reply before its content. `is_whole`: the content is the whole file, and not the
    /// rest of it.
    fn begin(&mut self, reply: &GetReply, is_whole: bool) -> Result<()>;
    /// Takes the next piece.
    fn write(&mut self, piece: &[u8]) -> Result<()>;
}

/// A descriptor, and the number of bytes of the file that it already has.
struct ToFd<'a>(Sink<'a>, u64);

impl Dest for ToFd<'_> {
    fn begin(&mut self, _: &GetReply, is_whole: bool) -> Result<()> {
        if is_whole && self.1 > 0 {
            let detail = "the server sends the whole file, and only the rest was requested";
            return Err(Error::new(ErrorKind::BadReply, detail));
        }
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.0.set_mid_message(false);
        self.0.write_all(piece).map_err(|error| match error.kind() {
            ErrorKind::Stalled => {
                Error::new(ErrorKind::TimedOut, "the destination accepts no more bytes")
            }
            _ => error,
        })
    }
}

/// Writes the file to a descriptor.
pub(in crate::ops::file) fn get_fd(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    dest: BorrowedFd<'_>,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    let flow = flow(connection, what, time_limit);
    let mut meter = Meter::new(0, what.checksum, &flow);
    if what.offset > 0 && what.checksum {
        let stands = position(dest).unwrap_or(0);
        let Some(begins) = stands.checked_sub(what.offset) else {
            let detail = "the destination is not positioned after the offset";
            return Err(Error::new(ErrorKind::Argument, detail));
        };
        skip_range(&mut meter, dest, begins, what.offset, &mut || flow.check())?;
    } else {
        meter.skip_unread(what.offset);
    }
    let mut sink = Sink::new(dest, time_limit);
    sink.set_interrupt(Some(Arc::clone(&flow.interrupt)));
    let mut dest = ToFd(sink, what.offset);
    Fetch { what, flow: &flow, time_limit }.run(connection, meter, &mut dest, done)
}

/// Stores the file at a path.
pub(in crate::ops::file) fn get_path(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    path: &Path,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    let (parent, leaf) = path::open_parent(path)?;
    let place = Place { root: Root::new(parent.as_fd())?, name: Name::new(leaf)? };
    get_to(connection, what, place, time_limit, done)
}

/// Whether the server's file has the same content as `file`, which has `size` bytes. Only the
/// digest is sent.
pub(in crate::ops::file) fn has_same(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    file: BorrowedFd<'_>,
    size: u64,
    time_limit: TimeLimit,
) -> Result<bool> {
    let flow = flow(connection, what, time_limit);
    let mut meter = Meter::new(size, true, &flow);
    skip_range(&mut meter, file, 0, size, &mut || flow.check())?;
    let what = Transfer { max_size: Some(size), ..*what };
    let fetch = Fetch { what: &what, flow: &flow, time_limit };
    match fetch.run(connection, meter, &mut Nowhere, &mut Transferred::default()) {
        Ok(()) => Ok(true),
        // It is longer by now, or gone; or this client may only put.
        Err(error) if starts_over(&error) => Ok(false),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::TooBig | ErrorKind::RemoteNotFound | ErrorKind::RemoteDenied
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// For a content that is only compared.
struct Nowhere;

impl Dest for Nowhere {
    fn begin(&mut self, _: &GetReply, _: bool) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        if piece.is_empty() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::TooBig, "it is not the same"))
        }
    }
}

/// The destination of a file.
#[derive(Clone, Copy)]
pub(in crate::ops::file) struct Place<'a> {
    pub root: Root<'a>,
    pub name: Name<'a>,
}

/// Stores the file at `place`; `what.local` is ignored.
pub(in crate::ops::file) fn get_to(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    place: Place<'_>,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    let flow = flow(connection, what, time_limit);
    let (file, meter) = place.begin(what, &flow)?;
    let is_continued = meter.done() > 0;
    let mut dest = ToPlace { file: Some(file), place, what, is_continued };
    let fetch = Fetch { what, flow: &flow, time_limit };
    let mut got = fetch.run(connection, meter, &mut dest, done);
    if is_continued && got.as_ref().is_err_and(starts_over) {
        dest.start_over()?;
        let meter = Meter::new(0, what.checksum, &flow);
        got = fetch.run(connection, meter, &mut dest, done);
    }
    match (got, dest.file) {
        (Ok(()), Some(file)) => file.commit(),
        (Err(error), Some(file)) => {
            // A get that was only interrupted can be continued.
            if matches!(error.kind(), ErrorKind::Checksum | ErrorKind::BadField) {
                file.discard();
            }
            Err(error)
        }
        (got, None) => got,
    }
}

/// A file that replaces the old one once it is complete.
struct ToPlace<'a> {
    /// None only while another one is made.
    file: Option<NewFile>,
    place: Place<'a>,
    what: &'a Transfer<'a>,
    /// It begins with the bytes of an earlier get.
    is_continued: bool,
}

impl ToPlace<'_> {
    fn start_over(&mut self) -> Result<()> {
        // The old one holds the lock of the partial file.
        self.file = None;
        self.is_continued = false;
        self.file = Some(self.place.resume(0, self.what, &mut |_| Ok(()))?);
        Ok(())
    }

    fn file(&mut self) -> Result<&mut NewFile> {
        let none = || Error::new(ErrorKind::State, "there is no file");
        self.file.as_mut().ok_or_else(none)
    }
}

impl Dest for ToPlace<'_> {
    fn begin(&mut self, reply: &GetReply, is_whole: bool) -> Result<()> {
        if is_whole && self.is_continued {
            self.start_over()?;
        }
        let (mode, preserve) = (reply.mode.map(|mode| mode.0), self.what.preserve);
        let file = self.file()?;
        if preserve { file.adopt(mode, reply.mtime) } else { file.adopt_if_new(mode) }
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file()?.write(piece)
    }
}

impl Place<'_> {
    /// The file to write, and a meter that has skipped the bytes in it.
    fn begin<'a>(&self, what: &Transfer<'a>, flow: &Flow<'a>) -> Result<(NewFile, Meter<'a>)> {
        let meter = |checksum| Meter::new(0, checksum, flow);
        if !what.resume {
            let file = NewFile::create(self.root, self.name, what.store())?;
            return Ok((file, meter(what.checksum)));
        }
        let there = open_partial(self.root, self.name)?.map_or(0, |(_, size)| size);
        let mut skipped = meter(what.checksum || there > 0);
        let mut skip = |piece: &[u8]| {
            skipped.skip(piece);
            flow.check()
        };
        match self.resume(there, what, &mut skip) {
            // Another process has shortened it meanwhile.
            Err(error) if there > 0 && error.kind() == ErrorKind::BadField => {
                Ok((self.resume(0, what, &mut |_| Ok(()))?, meter(what.checksum)))
            }
            file => Ok((file?, skipped)),
        }
    }

    fn resume(
        &self,
        offset: u64,
        what: &Transfer<'_>,
        prefix: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<NewFile> {
        NewFile::resume(self.root, self.name, what.store(), offset, prefix)
    }
}

fn flow<'a>(connection: &Connection<'_>, what: &Transfer<'a>, time_limit: TimeLimit) -> Flow<'a> {
    Flow {
        progress: what.progress.map(|progress| (progress, what.name)),
        patience: None,
        rate: what.rate,
        deadline: time_limit.deadline,
        interrupt: Arc::clone(connection.shared().interrupt()),
    }
}

/// One request and its reply.
struct Fetch<'a> {
    what: &'a Transfer<'a>,
    flow: &'a Flow<'a>,
    time_limit: TimeLimit,
}

impl Fetch<'_> {
    /// Requests the bytes that `meter` has not skipped, and passes them to `dest`.
    fn run(
        &self,
        connection: &mut Connection<'_>,
        meter: Meter<'_>,
        dest: &mut dyn Dest,
        done: &mut Transferred,
    ) -> Result<()> {
        let id = connection.next_id();
        let offset = Some(meter.done()).filter(|offset| *offset > 0);
        let request = GetRequest {
            id: Some(id.clone()),
            name: FileName::new(self.what.name),
            trailer: meter.is_hashed().then_some(true),
            offset,
            prefix_sha256: offset.and_then(|_| meter.digest()),
            rate: self.what.rate,
        };
        let got = connection.exchange(|connection| {
            let header = ask(connection, &request.header(), &id, self.time_limit)?;
            // A server that does not know offsets sends the whole file.
            let whole = GetReply::read(&header, 0);
            let is_whole = whole.is_ok();
            let reply = whole.or_else(|_| GetReply::read(&header, meter.done()))?;
            reply.name.check(self.what.name)?;
            let mut meter = meter;
            if is_whole {
                meter = Meter::new(0, meter.is_hashed(), self.flow);
            }
            meter.expect(reply.filesize);
            let received = self.receive(connection, &reply, is_whole, &mut meter, dest);
            done.bytes = meter.done();
            if let Some(error) = received? {
                return Ok(Err(self.drop_rest(connection, &reply, error)?));
            }
            let got = meter.finish();
            let checked = if reply.trailer == Some(true) {
                let trailer = Trailer::read(&recv_trailer(connection, self.time_limit)?)?;
                got.check(Some(trailer.sha256))
            } else {
                Ok(())
            };
            Ok(checked.and_then(|()| got.check(reply.sha256)).map(|()| got))
        })??;
        *done = got;
        Ok(())
    }

    /// Passes the content to `dest`. A local failure is the outcome; a failure of the connection
    /// is an error.
    fn receive(
        &self,
        connection: &mut Connection<'_>,
        reply: &GetReply,
        is_whole: bool,
        meter: &mut Meter<'_>,
        dest: &mut dyn Dest,
    ) -> Result<Option<Error>> {
        let max_size = self.what.max_size.unwrap_or(u64::MAX);
        let begun = check_size(reply.filesize, max_size);
        let begun = begun.and_then(|()| dest.begin(reply, is_whole));
        let empty = |()| if meter.left() == 0 { meter.pass(&[]) } else { Ok(()) };
        if let Err(error) = begun.and_then(empty) {
            return Ok(Some(error));
        }
        let mut failed = None;
        let received = connection.for_each_chunk(meter.step(), self.time_limit, |piece| {
            dest.write(piece).and_then(|()| meter.pass(piece)).inspect_err(|error| {
                failed = Some(error.clone());
            })
        });
        match failed {
            Some(error) => Ok(Some(error)),
            None => received.map(|()| None),
        }
    }

    /// Drops the rest of a file that cannot be stored because of `error`. If the rest is small,
    /// `error` is the outcome; otherwise the connection is broken.
    fn drop_rest(
        &self,
        connection: &mut Connection<'_>,
        reply: &GetReply,
        error: Error,
    ) -> Result<Error> {
        if connection.to_receive() > limits::COPY_STEP as u64 {
            return Err(error);
        }
        let deadline = self.time_limit.deadline.min(Deadline::after(DROP_TIME));
        let dropped = connection.skip_by(deadline.into()).and_then(|()| {
            if reply.trailer == Some(true) {
                recv_trailer(connection, deadline.into())?;
            }
            Ok(())
        });
        match dropped {
            Ok(()) => Ok(error),
            Err(_) => Err(error),
        }
    }
}

/// How long the rest of a file that cannot be stored may take.
const DROP_TIME: Duration = Duration::from_secs(1);
