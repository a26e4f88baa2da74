//! A file that is sent: whole, or the rest after the bytes that the server has.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::{ask, check_no_body, check_ok, is_working, query, starts_over, wait_for_reply};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::TimeLimit;
use crate::io::fs::range::{self, position};
use crate::io::fs::{check, path};
use crate::limits;
use crate::ops::file::content::{send_content, send_trailer, skip_range};
use crate::ops::file::meter::{Flow, Meter};
use crate::ops::file::{Kind, Stat, Transfer, Transferred};
use crate::ops::frame::Connection;
use crate::wire::json::header::Header;
use crate::wire::message::file::{FileMode, FileName, Overwrite, PutReply, PutRequest};
use crate::wire::message::{Id, check_reply, read_reply};

/// Stores the regular file at `path`, without its first `offset` bytes.
pub(in crate::ops::file) fn put_path(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    path: &Path,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    let (file, stat) = path::open_file(path)?;
    let rest = stat.size.checked_sub(what.offset).ok_or_else(|| {
        Error::new(ErrorKind::Argument, "the offset is beyond the end of the file")
    })?;
    seek(file.as_fd(), what.offset)?;
    let what = Transfer { length: Some(rest), ..*what };
    put_fd(connection, &what, file.as_fd(), time_limit, done)
}

/// Stores the next bytes of `source`; `what.local` is ignored.
pub(in crate::ops::file) fn put_fd(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    source: BorrowedFd<'_>,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    let (stat, is_named) = check::stat(source).map_err(|error| error.context("the source"))?;
    let is_regular = stat.kind == Kind::File;
    let stands = if is_regular { position(source).map_err(failed)? } else { 0 };
    let impossible = |detail| Error::new(ErrorKind::Argument, detail);
    let rest = match what.length {
        Some(length) => length,
        None if is_regular => stat.size.saturating_sub(stands),
        None => return Err(impossible("only a regular file has its own length")),
    };
    let size = what
        .offset
        .checked_add(rest)
        .ok_or_else(|| impossible("the offset and the length are more than a file can have"))?;
    let begins = stands.checked_sub(what.offset);
    if what.offset > 0 && what.checksum && begins.is_none() {
        return Err(impossible("the source is not positioned after the offset"));
    }
    let source = Source { fd: source, begins: begins.unwrap_or(0), size, stat, is_named };
    let flow = Flow {
        progress: what.progress.map(|progress| (progress, what.name)),
        patience: None,
        rate: what.rate,
        deadline: time_limit.deadline,
        interrupt: Arc::clone(connection.shared().interrupt()),
    };
    Put { connection, what, source, flow, time_limit }.run(done)
}

/// The source of a put.
struct Source<'a> {
    fd: BorrowedFd<'a>,
    /// The offset in it at which the file begins.
    begins: u64,
    /// Bytes of the whole file.
    size: u64,
    stat: Stat,
    is_named: bool,
}

impl Source<'_> {
    fn is_regular(&self) -> bool {
        self.stat.kind == Kind::File
    }
}

struct Put<'a, 'c, 'fd> {
    connection: &'c mut Connection<'fd>,
    what: &'a Transfer<'a>,
    source: Source<'a>,
    flow: Flow<'a>,
    time_limit: TimeLimit,
}

impl<'a> Put<'a, '_, '_> {
    fn run(&mut self, done: &mut Transferred) -> Result<()> {
        let Transfer { offset, resume, checksum, reply, .. } = *self.what;
        if offset > 0 {
            let mut meter = self.meter(checksum);
            if checksum {
                let Source { fd, begins, .. } = self.source;
                skip_range(&mut meter, fd, begins, offset, &mut || self.flow.check())?;
            } else {
                meter.skip_unread(offset);
            }
            return self.send(meter, resume, done);
        }
        if !resume || !reply {
            return self.send(self.meter(checksum), false, done);
        }
        let Some(meter) = self.agree()? else {
            return self.send(self.meter(checksum), false, done);
        };
        let is_continued = meter.done() > 0;
        match self.send(meter, true, done) {
            // Another client has put the file meanwhile, or the source has changed.
            Err(error) if is_continued && starts_over(&error) => {
                seek(self.source.fd, self.source.begins)?;
                self.send(self.meter(checksum), true, done)
            }
            sent => sent,
        }
    }

    /// A meter that has skipped the bytes that the server has, with the source positioned after
    /// them; `None` if the server cannot resume.
    fn agree(&mut self) -> Result<Option<Meter<'a>>> {
        let Source { fd, begins, size, .. } = self.source;
        let theirs = match query::partial(self.connection, self.what.name, self.time_limit) {
            Ok(theirs) if self.source.is_regular() && theirs.bytes <= size => theirs,
            Err(error) if error.kind() == ErrorKind::RemoteUnsupported => return Ok(None),
            // A server may let its clients put what they may not get.
            Err(error)
                if !matches!(error.kind(), ErrorKind::RemoteNotFound | ErrorKind::RemoteDenied) =>
            {
                return Err(error);
            }
            _ => return Ok(Some(self.meter(self.what.checksum))),
        };
        let mut meter = self.meter(true);
        skip_range(&mut meter, fd, begins, theirs.bytes, &mut || self.flow.check())?;
        if meter.check_skipped(Some(theirs.sha256)).is_err() {
            return Ok(Some(self.meter(self.what.checksum)));
        }
        seek(fd, begins + theirs.bytes)?;
        Ok(Some(meter))
    }

    fn meter(&self, checksum: bool) -> Meter<'a> {
        Meter::new(self.source.size, checksum, &self.flow)
    }

    /// Sends the bytes that `meter` has not skipped.
    fn send(&mut self, mut meter: Meter<'_>, resume: bool, done: &mut Transferred) -> Result<()> {
        let Put { what, time_limit, .. } = *self;
        let has_trailer = meter.is_hashed() && what.reply;
        self.ask_first(&meter, resume)?;
        let id = what.reply.then(|| self.connection.next_id());
        let header = self.request(id.clone(), &meter, has_trailer, resume).header();
        let fd = self.source.fd;
        let sent = self.connection.exchange(|connection| {
            let mut early = Early { id: id.as_ref(), reply: None };
            let mut stop = |connection: &mut Connection<'_>| early.ends(connection);
            let outcome = send_content(connection, &header, fd, &mut meter, time_limit, &mut stop);
            done.bytes = meter.done();
            early.conclude(connection, outcome)?;
            let sent = meter.finish();
            if has_trailer {
                send_trailer(connection, sent.sha256, time_limit)?;
            }
            let Some(id) = &id else { return Ok(Ok(sent)) };
            let reply = match early.reply {
                Some(reply) => reply,
                None => wait_for_reply(connection, id, time_limit)?,
            };
            check_ok(connection, &reply, id)?;
            check_no_body(connection)?;
            Ok(check_stored(&reply, what, &sent)?.map(|()| sent))
        })??;
        *done = sent;
        Ok(())
    }

    /// Asks whether the server would refuse a large file: if it did so later, the connection would
    /// be broken. Only for a put that is several requests anyway: the other end may expect a
    /// plain one to be one. And only if the server repeats ids: older ones might take the
    /// question for an empty file.
    fn ask_first(&mut self, meter: &Meter<'_>, resume: bool) -> Result<()> {
        let Put { what, time_limit, .. } = *self;
        let is_large = meter.left() > limits::ASKED && (what.tree || what.resume);
        if !(is_large && self.connection.repeats_ids()) {
            return Ok(());
        }
        let id = self.connection.next_id();
        let mut request = self.request(Some(id.clone()), meter, false, resume);
        request.ask = Some(true);
        request.prefix_sha256 = None;
        let asked = self.connection.exchange(|connection| {
            ask(connection, &request.header(), &id, time_limit)?;
            check_no_body(connection)
        });
        match asked {
            // One that does not know the question.
            Err(error) if starts_over(&error) => Ok(()),
            asked => asked,
        }
    }

    fn request(
        &self,
        id: Option<Id>,
        meter: &Meter<'_>,
        has_trailer: bool,
        resume: bool,
    ) -> PutRequest {
        let Put { what, source, .. } = self;
        let is_kept = what.preserve && source.is_regular();
        // A server that does not reply knows no modes.
        let is_new_mode = !is_kept && source.is_regular() && source.is_named && what.reply;
        let own = (is_kept || is_new_mode).then_some(source.stat.mode);
        let mode = what.mode.or(own);
        let offset = Some(meter.done()).filter(|offset| *offset > 0);
        PutRequest {
            id,
            name: FileName::new(what.name),
            filesize: source.size,
            sha256: None,
            mode: mode.map(|mode| FileMode(mode & 0o777)),
            keep_mode: (what.mode.is_none() && is_new_mode).then_some(true),
            mtime: what.mtime.or(is_kept.then_some(source.stat.mtime)),
            trailer: has_trailer.then_some(true),
            overwrite: match (what.overwrite, what.in_place) {
                (false, _) => Some(Overwrite::No),
                (true, in_place) => in_place.then_some(Overwrite::InPlace),
            },
            parents: what.parents.then_some(true),
            offset,
            prefix_sha256: offset.and_then(|_| meter.digest()),
            resume: resume.then_some(true),
            ask: None,
        }
    }
}

/// The reply to a put that is there before all of it was sent: a server refuses as soon as it
/// can.
struct Early<'a> {
    /// The request's, if there will be a reply.
    id: Option<&'a Id>,
    reply: Option<Header>,
}

impl Early<'_> {
    /// Looks for the reply, without a wait. True: it is a refusal, and much is left to send.
    fn ends(&mut self, connection: &mut Connection<'_>) -> Result<bool> {
        let Some(id) = self.id else { return Ok(false) };
        // A server that says without a pause that it is at work does not extend the call.
        for _ in 0..AT_ONCE {
            if self.reply.is_some() {
                break;
            }
            match connection.try_header() {
                Ok(Some(frame)) if is_working(connection, &frame, id)? => {}
                Ok(Some(frame)) => {
                    connection.check_answer(&frame.fields()?, id)?;
                    self.reply = Some(frame);
                }
                Ok(None) => break,
                // What can still be sent may be stored all the same.
                Err(error) if error.kind() == ErrorKind::Closed => break,
                Err(error) => return Err(error),
            }
        }
        // So much arrives before the server has dropped as much as it drops.
        Ok(self.refusal().is_some() && connection.to_send() > limits::REFUSED / 2)
    }

    /// If the content was not sent to its end, a refusal is the reason for it.
    fn conclude(&mut self, connection: &mut Connection<'_>, sent: Result<()>) -> Result<()> {
        let is_cut = match &sent {
            Ok(()) => connection.to_send() > 0,
            Err(error) => error.kind() != ErrorKind::Canceled && self.ends(connection).is_ok(),
        };
        match self.refusal().filter(|_| is_cut) {
            Some(refusal) => {
                connection.shared().break_by(&refusal);
                Err(refusal)
            }
            None => sent,
        }
    }

    fn refusal(&self) -> Option<Error> {
        self.reply.as_ref()?.fields().and_then(|fields| check_reply(&fields)).err()
    }
}

/// Compares the reply with the sent file. A reply for another file is an error; a wrong digest,
/// or that it was stored in another way, is the outcome.
fn check_stored(reply: &Header, what: &Transfer<'_>, sent: &Transferred) -> Result<Result<()>> {
    let reply: PutReply = read_reply(reply)?;
    reply.name.check(what.name)?;
    if what.in_place && reply.overwrite != Some(Overwrite::InPlace) {
        let detail = "the server has stored the file, but not in place";
        return Ok(Err(Error::new(ErrorKind::Unsupported, detail)));
    }
    Ok(match reply.filesize {
        None => return Err(Error::new(ErrorKind::BadReply, "it has no filesize")),
        Some(stored) if stored != sent.bytes => {
            let detail = format!("{stored} bytes were stored of {}", sent.bytes);
            Err(Error::new(ErrorKind::Checksum, detail))
        }
        _ => sent.check(reply.sha256),
    })
}

fn seek(source: BorrowedFd<'_>, to: u64) -> Result<()> {
    range::seek(source, to).map_err(failed)
}

fn failed(errno: Errno) -> Error {
    Error::system("the source", errno)
}

/// Frames that are taken in one look for a reply: a server at work sends one in seconds.
const AT_ONCE: u32 = 16;
