//! The side that asks: sends a file, or takes one.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::FileType;

use super::meter::Meter;
use super::{Options, Transfer, inside, recv_trailer, send_content, send_trailer};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::path;
use crate::io::root::Root;
use crate::io::sink::Sink;
use crate::io::store::NewFile;
use crate::ops::frame::{self, BodyReader};
use crate::ops::{Duplex, reply};
use crate::wire::header::Header;
use crate::wire::message::file::{
    FileMode, FileName, GetReply, GetRequest, PutReply, PutRequest, Trailer,
};
use crate::wire::message::{check_reply, id_of, read_reply, to_request};
use crate::wire::name::Name;

/// Stores the next `length` bytes of `source` on the server as `name`; without a length,
/// those to the end of a regular file. What the server says it has stored is compared with
/// what was sent.
///
/// The server judges the name. Its error reply is an error of a remote kind, and comes
/// once the whole file was sent. [`ErrorKind::Truncated`] where the source ends early;
/// after that, or any other failure once the header is out, the stream is out of step.
pub fn put(
    duplex: Duplex<'_>,
    name: &[u8],
    source: BorrowedFd<'_>,
    length: Option<u64>,
    options: &Options<'_>,
) -> Result<Transfer> {
    let length = length.map_or_else(|| rest_of(source), Ok)?;
    let trailer = options.checksum && options.reply;
    let mut request =
        PutRequest { name: FileName::new(name), filesize: length, ..PutRequest::default() };
    if options.reply {
        request.mode = options.store.mode.map(|mode| FileMode(mode & 0o777));
        request.mtime = options.store.mtime;
        request.overwrite = (!options.store.overwrite).then_some(false);
        request.trailer = trailer.then_some(true);
    }
    let header = to_request("put", &request)?;
    let patience = options.patience();
    let meter = Meter::new(length, options.checksum, options, patience.deadline);
    let sent = send_content(duplex.writer, &header, source, meter, patience)?;
    if trailer {
        send_trailer(duplex.writer, sent.sha256, patience)?;
    }
    if options.reply {
        check_stored(duplex.reader, sent, patience)?;
    }
    Ok(sent)
}

/// As [`put`] for the regular file at `path`; [`ErrorKind::Path`] for anything else.
pub fn put_path(
    duplex: Duplex<'_>,
    name: &[u8],
    path: &Path,
    options: &Options<'_>,
) -> Result<Transfer> {
    let (file, stat) = path::open_file(path)?;
    put(duplex, name, file.as_fd(), Some(path::size(&stat)), options)
}

/// Takes the server's file `name` and writes it to `dest`, which has what was received
/// even after a failure.
///
/// Nothing that the server says has a part in where it goes, and it is at most
/// `max_size` bytes. [`ErrorKind::Checksum`] leaves the stream in step, as an error reply
/// does; any other failure once the request is out does not, also one to write.
pub fn get(
    duplex: Duplex<'_>,
    name: &[u8],
    dest: BorrowedFd<'_>,
    options: &Options<'_>,
) -> Result<Transfer> {
    let patience = options.patience();
    let mut sink = Sink::new(dest, patience);
    sink.set_mid_message(true);
    receive(duplex, name, options, patience, |piece| sink.write_all(piece))
}

/// As [`get`] into a file of its own, which is at `path` once it is complete and has
/// matched its digest: until then, and after a failure, what was there stays.
pub fn get_path(
    duplex: Duplex<'_>,
    name: &[u8],
    path: &Path,
    options: &Options<'_>,
) -> Result<Transfer> {
    let (parent, leaf) = path::open_parent(path)?;
    let mut file = NewFile::create(Root::new(parent.as_fd())?, Name::new(leaf)?, options.store)?;
    let patience = options.patience();
    let got = receive(duplex, name, options, patience, |piece| file.write(piece))?;
    file.commit()?;
    Ok(got)
}

fn check_stored(reader: BorrowedFd<'_>, sent: Transfer, patience: Patience) -> Result<()> {
    let (header, body) = recv_reply(reader, patience)?;
    if body.left() > 0 {
        return Err(Error::new(ErrorKind::BadReply, "the reply to a put has a body"));
    }
    let reply: PutReply = read_reply(&header)?;
    if let Some(stored) = reply.filesize.filter(|stored| *stored != sent.bytes) {
        let detail = format!("{stored} bytes were stored of {}", sent.bytes);
        return Err(Error::new(ErrorKind::Checksum, detail));
    }
    sent.check(reply.sha256)
}

fn receive(
    duplex: Duplex<'_>,
    name: &[u8],
    options: &Options<'_>,
    patience: Patience,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Transfer> {
    let request = GetRequest {
        name: FileName::new(name),
        trailer: options.checksum.then_some(true),
        ..GetRequest::default()
    };
    let header = to_request("get", &request)?;
    frame::send_by(duplex.writer, Some(&header), &[], &frame::Options::default(), patience)?;
    let (header, mut body) = recv_reply(duplex.reader, patience)?;
    let reply = GetReply::read(&header, 0)?;
    options.check_size(reply.filesize)?;
    let mut meter = Meter::new(reply.filesize, options.checksum, options, patience.deadline);
    let got = body.for_each_chunk(meter.step(), patience, |chunk| {
        write(chunk)?;
        meter.pass(chunk)
    });
    got.map_err(inside)?;
    let got = meter.finish();
    if reply.trailer == Some(true) {
        let trailer = Trailer::read(&recv_trailer(duplex.reader, patience)?)?;
        got.check(Some(trailer.sha256))?;
    }
    got.check(reply.sha256)?;
    Ok(got)
}

/// The header of the reply to a request without an id, and its body, which is still to
/// come. An error reply has none.
fn recv_reply(reader: BorrowedFd<'_>, patience: Patience) -> Result<(Header, BodyReader<'_>)> {
    let (header, body) = frame::recv_header_by(reader, &frame::Options::default(), patience.next())
        .map_err(reply::overdue)?;
    let bad = |detail: &'static str| Err(Error::new(ErrorKind::BadReply, detail));
    match check_reply(&header) {
        _ if id_of(&header).is_some() => bad("it answers another request"),
        Err(_) if body.left() > 0 => bad("an error reply has a body"),
        checked => checked.map(|()| (header, body)),
    }
}

/// Bytes from where a regular file stands to its end.
fn rest_of(source: BorrowedFd<'_>) -> Result<u64> {
    let failed = |errno| Error::system("the source", errno);
    let stat = rustix::fs::fstat(source).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new(ErrorKind::Argument, "only a regular file says its own length"));
    }
    Ok(path::size(&stat).saturating_sub(rustix::fs::tell(source).map_err(failed)?))
}
