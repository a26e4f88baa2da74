//! A file that is sent: whole, or behind what the server has of it already.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;

use super::{query, recv_bare_reply, skip_range, starts_over};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::fs::range::{self, position};
use crate::io::fs::{check, path};
use crate::ops::Duplex;
use crate::ops::file::content::{send_content, send_trailer};
use crate::ops::file::meter::Meter;
use crate::ops::file::{Kind, Options, Stat, Transfer};
use crate::wire::message::file::{FileMode, FileName, PutReply, PutRequest};
use crate::wire::message::read_reply;

/// Stores the next `length` bytes of `source` on the server as `name`; without a length,
/// those to the end of a regular file. What the server says it has stored is compared with
/// what was sent.
///
/// With `resume`, what arrives of a put that is cut stays on the server, in a file beside
/// `name`. The next one asks for it, and where it is how a regular `source` begins, only
/// the rest is sent; else, and from a server that cannot resume, all of it. `offset` is for
/// a caller who knows beforehand what the server has: the file that is stored consists of
/// that many bytes before where `source` stands, which are not sent, and of those that
/// `length` counts. They have to be readable for their digest, unless there is no checksum.
///
/// The server judges the name. Its error reply is an error of a remote kind, and comes
/// once the whole file was sent. [`ErrorKind::Truncated`] if the source ends early;
/// after that, or any other failure once the header is out, the stream is out of sync.
pub fn put(
    duplex: Duplex<'_>,
    name: &[u8],
    source: BorrowedFd<'_>,
    length: Option<u64>,
    options: &Options<'_>,
) -> Result<Transfer> {
    put_by(duplex, name, source, length, options, options.patience())
}

/// As [`put`] for the regular file at `path`; [`ErrorKind::Path`] for anything else. An
/// `offset` is where it begins.
pub fn put_path(
    duplex: Duplex<'_>,
    name: &[u8],
    path: &Path,
    options: &Options<'_>,
) -> Result<Transfer> {
    let (file, stat) = path::open_file(path)?;
    let rest = stat.size.checked_sub(options.offset).ok_or_else(|| {
        Error::new(ErrorKind::Argument, "the offset lies behind the end of the file")
    })?;
    seek(file.as_fd(), options.offset)?;
    put(duplex, name, file.as_fd(), Some(rest), options)
}

/// As [`put`], with time that is not for this call alone.
pub(in crate::ops::file) fn put_by(
    duplex: Duplex<'_>,
    name: &[u8],
    source: BorrowedFd<'_>,
    length: Option<u64>,
    options: &Options<'_>,
    patience: Patience,
) -> Result<Transfer> {
    let stat = check::stat(source).map_err(|error| error.context("the source"))?;
    let regular = stat.kind == Kind::File;
    let stands = if regular { position(source).map_err(failed)? } else { 0 };
    let rest = match length {
        Some(length) => length,
        None if regular => stat.size.saturating_sub(stands),
        None => {
            let detail = "only a regular file says its own length";
            return Err(Error::new(ErrorKind::Argument, detail));
        }
    };
    let impossible = |detail| Err(Error::new(ErrorKind::Argument, detail));
    let Some(size) = options.offset.checked_add(rest) else {
        return impossible("the offset and the length are more than a file can have");
    };
    if options.offset > 0 && !options.reply {
        return impossible("a server that does not reply knows no offset");
    }
    let begins = stands.checked_sub(options.offset);
    if options.offset > 0 && options.checksum && begins.is_none() {
        return impossible("the source does not stand behind the offset");
    }
    let source = Source { fd: source, begins: begins.unwrap_or(0), size, stat };
    Put { duplex, name, source, options, patience }.run()
}

/// What is sent.
struct Source<'a> {
    fd: BorrowedFd<'a>,
    /// Where in it the file begins.
    begins: u64,
    /// Bytes of the whole file.
    size: u64,
    stat: Stat,
}

impl Source<'_> {
    fn is_regular(&self) -> bool {
        self.stat.kind == Kind::File
    }
}

struct Put<'a> {
    duplex: Duplex<'a>,
    name: &'a [u8],
    source: Source<'a>,
    options: &'a Options<'a>,
    patience: Patience,
}

impl<'a> Put<'a> {
    fn run(&self) -> Result<Transfer> {
        let Options { offset, resume, checksum, reply, .. } = *self.options;
        if offset > 0 {
            let mut meter = self.meter(checksum);
            if checksum {
                skip_range(&mut meter, self.source.fd, self.source.begins, offset, self.patience)?;
            } else {
                meter.skip_unread(offset);
            }
            return self.send(meter, resume);
        }
        if !resume || !reply {
            return self.send(self.meter(checksum), false);
        }
        let Some(meter) = self.agree()? else {
            return self.send(self.meter(checksum), false);
        };
        let continued = meter.done() > 0;
        match self.send(meter, true) {
            // Somebody else has put the file meanwhile, or the source has changed.
            Err(error) if continued && starts_over(&error) => {
                seek(self.source.fd, self.source.begins)?;
                self.send(self.meter(checksum), true)
            }
            sent => sent,
        }
    }

    /// A meter that has skipped what the server has of the file, and the source stands
    /// behind it; `None` if the server cannot resume.
    fn agree(&self) -> Result<Option<Meter<'a>>> {
        let Source { fd, begins, size, .. } = self.source;
        let theirs = match query::partial_by(self.duplex, self.name, self.patience) {
            Ok(theirs) if self.source.is_regular() && theirs.bytes <= size => theirs,
            Err(error) if error.kind() == ErrorKind::RemoteUnsupported => return Ok(None),
            Err(error) if error.kind() != ErrorKind::RemoteNotFound => return Err(error),
            _ => return Ok(Some(self.meter(self.options.checksum))),
        };
        let mut meter = self.meter(true);
        skip_range(&mut meter, fd, begins, theirs.bytes, self.patience)?;
        if meter.check_skipped(theirs.sha256).is_err() {
            return Ok(Some(self.meter(self.options.checksum)));
        }
        seek(fd, begins + theirs.bytes)?;
        Ok(Some(meter))
    }

    fn meter(&self, checksum: bool) -> Meter<'a> {
        Meter::new(self.source.size, checksum, self.options, self.patience.deadline)
    }

    /// Sends what `meter` has not skipped.
    fn send(&self, meter: Meter<'_>, resume: bool) -> Result<Transfer> {
        let Put { duplex, options, patience, .. } = *self;
        let trailer = meter.is_hashed() && options.reply;
        let header = self.request(&meter, trailer, resume).header();
        let sent = send_content(duplex.writer, &header, self.source.fd, meter, patience)?;
        if trailer {
            send_trailer(duplex.writer, sent.sha256, patience)?;
        }
        if options.reply {
            check_stored(duplex.reader, sent, patience)?;
        }
        Ok(sent)
    }

    fn request(&self, meter: &Meter<'_>, trailer: bool, resume: bool) -> PutRequest {
        let Put { options: Options { store, preserve, reply, .. }, source, .. } = self;
        let name = FileName::new(self.name);
        let plain = PutRequest { name, filesize: source.size, ..PutRequest::default() };
        if !reply {
            return plain;
        }
        let kept = *preserve && source.is_regular();
        let mode = store.mode.or(kept.then_some(source.stat.mode));
        let offset = Some(meter.done()).filter(|offset| *offset > 0);
        PutRequest {
            mode: mode.map(|mode| FileMode(mode & 0o777)),
            mtime: store.mtime.or(kept.then_some(source.stat.mtime)),
            overwrite: (!store.overwrite).then_some(false),
            parents: store.parents.then_some(true),
            trailer: trailer.then_some(true),
            offset,
            prefix_sha256: offset.and_then(|_| meter.digest()),
            resume: resume.then_some(true),
            ..plain
        }
    }
}

fn check_stored(reader: BorrowedFd<'_>, sent: Transfer, patience: Patience) -> Result<()> {
    let header = recv_bare_reply(reader, patience)?;
    let reply: PutReply = read_reply(&header)?;
    if let Some(stored) = reply.filesize.filter(|stored| *stored != sent.bytes) {
        let detail = format!("{stored} bytes were stored of {}", sent.bytes);
        return Err(Error::new(ErrorKind::Checksum, detail));
    }
    sent.check(reply.sha256)
}

fn seek(source: BorrowedFd<'_>, to: u64) -> Result<()> {
    range::seek(source, to).map_err(failed)
}

fn failed(errno: Errno) -> Error {
    Error::system("the source", errno)
}
