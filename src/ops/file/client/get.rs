//! A file that is taken: whole, or behind what is here of it already.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use super::{ask, skip_range, starts_over};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::fs::partial::open_partial;
use crate::io::fs::path;
use crate::io::fs::range::position;
use crate::io::fs::root::Root;
use crate::io::fs::store::NewFile;
use crate::io::stream::sink::Sink;
use crate::ops::Duplex;
use crate::ops::file::content::{inside, recv_trailer};
use crate::ops::file::meter::Meter;
use crate::ops::file::{Options, Transfer};
use crate::ops::frame::BodyReader;
use crate::wire::message::file::{FileName, GetReply, GetRequest, Trailer};
use crate::wire::name::Name;

/// Takes the server's file `name` and writes it to `dest`, which has what was received
/// even after a failure.
///
/// With an `offset` the caller has so many bytes of the file already: only the rest is
/// asked for. They are those before where `dest` stands, and have to be readable for their
/// digest, unless there is no checksum. [`ErrorKind::RemoteChecksum`] says that the
/// server's file begins with others, [`ErrorKind::RemoteBadRequest`] that it is shorter.
///
/// Nothing that the server says has a part in where it goes, and it is at most
/// `max_size` bytes. [`ErrorKind::Checksum`] leaves the stream in sync, as an error reply
/// does; any other failure once the request is out does not, also one to write.
pub fn get(
    duplex: Duplex<'_>,
    name: &[u8],
    dest: BorrowedFd<'_>,
    options: &Options<'_>,
) -> Result<Transfer> {
    let patience = options.patience();
    let mut meter = Meter::new(0, options.checksum, options, patience.deadline);
    if options.offset > 0 && options.checksum {
        let stands = position(dest).unwrap_or(0);
        let Some(begins) = stands.checked_sub(options.offset) else {
            let detail = "the destination does not stand behind the offset";
            return Err(Error::new(ErrorKind::Argument, detail));
        };
        skip_range(&mut meter, dest, begins, options.offset, patience)?;
    } else {
        meter.skip_unread(options.offset);
    }
    let incoming = request(duplex, name, meter, options, patience)?;
    if incoming.is_whole && options.offset > 0 {
        let detail = "all of the file comes, and only the rest was asked for";
        return Err(Error::new(ErrorKind::BadReply, detail));
    }
    let mut sink = Sink::new(dest, patience);
    sink.set_mid_message(true);
    incoming.receive(&mut |piece| sink.write_all(piece))
}

/// As [`get`] into a file of its own, which is at `path` once it is complete and has
/// matched its digest: until then, and after a failure, what was there stays.
///
/// With `resume`, what came of a get that is cut stays in a file beside it, and the next
/// one goes on from there; where the server's file begins with something else by then, it
/// starts over.
pub fn get_path(
    duplex: Duplex<'_>,
    name: &[u8],
    path: &Path,
    options: &Options<'_>,
) -> Result<Transfer> {
    let (parent, leaf) = path::open_parent(path)?;
    let place = Place { root: Root::new(parent.as_fd())?, name: Name::new(leaf)? };
    get_by(duplex, name, place, options, options.patience())
}

/// Where a file goes.
#[derive(Clone, Copy)]
pub(in crate::ops::file) struct Place<'a> {
    pub root: Root<'a>,
    pub name: Name<'a>,
}

/// As [`get_path`], with time that is not for this call alone.
pub(in crate::ops::file) fn get_by(
    duplex: Duplex<'_>,
    name: &[u8],
    place: Place<'_>,
    options: &Options<'_>,
    patience: Patience,
) -> Result<Transfer> {
    if options.offset > 0 {
        return Err(Error::new(ErrorKind::Argument, "an offset is for a descriptor"));
    }
    let (mut file, meter) = place.begin(options, patience)?;
    let continued = meter.done() > 0;
    let mut incoming = request(duplex, name, meter, options, patience);
    let refused = incoming.as_ref().is_err_and(starts_over);
    if continued && (refused || incoming.as_ref().is_ok_and(|incoming| incoming.is_whole)) {
        drop(file); // it has the lock of the partial file
        file = place.resume(0, options, &mut |_| ())?;
        if refused {
            let meter = Meter::new(0, options.checksum, options, patience.deadline);
            incoming = request(duplex, name, meter, options, patience);
        }
    }
    let incoming = incoming?;
    if options.preserve {
        let GetReply { mode, mtime, .. } = incoming.reply;
        file.adopt(mode.map(|mode| mode.0), mtime)?;
    }
    match incoming.receive(&mut |piece| file.write(piece)) {
        Ok(got) => file.commit().map(|()| got),
        Err(error) => {
            // What only was cut can be continued.
            if matches!(error.kind(), ErrorKind::Checksum | ErrorKind::BadField) {
                file.discard();
            }
            Err(error)
        }
    }
}

impl Place<'_> {
    /// The file that is to be written, and a meter that has skipped what is in it.
    fn begin<'a>(&self, options: &Options<'a>, patience: Patience) -> Result<(NewFile, Meter<'a>)> {
        let meter = |checksum| Meter::new(0, checksum, options, patience.deadline);
        if !options.resume {
            let file = NewFile::create(self.root, self.name, options.store)?;
            return Ok((file, meter(options.checksum)));
        }
        let there = open_partial(self.root, self.name)?.map_or(0, |(_, size)| size);
        let mut skipped = meter(options.checksum || there > 0);
        match self.resume(there, options, &mut |piece| skipped.skip(piece)) {
            // Somebody else has shortened it meanwhile.
            Err(error) if there > 0 && error.kind() == ErrorKind::BadField => {
                Ok((self.resume(0, options, &mut |_| ())?, meter(options.checksum)))
            }
            file => Ok((file?, skipped)),
        }
    }

    fn resume(
        &self,
        offset: u64,
        options: &Options<'_>,
        prefix: &mut dyn FnMut(&[u8]),
    ) -> Result<NewFile> {
        NewFile::resume(self.root, self.name, options.store, offset, prefix)
    }
}

/// Asks for what `meter` has not skipped.
fn request<'a>(
    duplex: Duplex<'a>,
    name: &[u8],
    mut meter: Meter<'a>,
    options: &Options<'a>,
    patience: Patience,
) -> Result<Incoming<'a>> {
    let offset = Some(meter.done()).filter(|offset| *offset > 0);
    let request = GetRequest {
        name: FileName::new(name),
        trailer: meter.is_hashed().then_some(true),
        offset,
        prefix_sha256: offset.and_then(|_| meter.digest()),
        rate: options.rate,
        ..GetRequest::default()
    };
    let (header, body) = ask(duplex, &request.header(), patience)?;
    // A server that knows no offset sends all of the file.
    let whole = GetReply::read(&header, 0);
    let is_whole = whole.is_ok();
    let reply = whole.or_else(|_| GetReply::read(&header, meter.done()))?;
    options.check_size(reply.filesize)?;
    if is_whole {
        meter = Meter::new(0, meter.is_hashed(), options, patience.deadline);
    }
    meter.expect(reply.filesize);
    Ok(Incoming { reader: duplex.reader, reply, is_whole, body, meter, patience })
}

/// A file whose content is still to come.
struct Incoming<'a> {
    reader: BorrowedFd<'a>,
    reply: GetReply,
    /// The content is the whole file, and not the rest of it.
    is_whole: bool,
    body: BodyReader<'a>,
    meter: Meter<'a>,
    patience: Patience,
}

impl Incoming<'_> {
    /// Hands the content to `write`, and compares its digest in the end.
    fn receive(mut self, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Transfer> {
        let (meter, patience) = (&mut self.meter, self.patience);
        let step = meter.step();
        let got = self.body.for_each_chunk(step, patience, |chunk| {
            write(chunk)?;
            meter.pass(chunk)
        });
        got.map_err(inside)?;
        let got = self.meter.finish();
        if self.reply.trailer == Some(true) {
            let trailer = Trailer::read(&recv_trailer(self.reader, patience)?)?;
            got.check(Some(trailer.sha256))?;
        }
        got.check(self.reply.sha256)?;
        Ok(got)
    }
}
