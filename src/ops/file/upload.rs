//! A file that a server receives or refuses; its content is read to the end in both cases.

use super::meter::{Flow, Meter, Pace};
use super::{ServeOptions, Transferred, check_size};
use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::root::Root;
use crate::io::fs::store::{NewFile, StoreOptions};
use crate::wire::json::header::Header;
use crate::wire::message::file::{PutRequest, Trailer};
use crate::wire::name::Name;

/// The state of a put.
pub(super) enum Upload<'a> {
    /// The content is being stored.
    Open(Box<Open<'a>>),
    /// It is dropped, as fast as it would be stored; the error reply follows at the end.
    Refused(Error, Pace),
}

/// A file that is being stored.
pub(super) struct Open<'a> {
    request: PutRequest,
    file: NewFile,
    meter: Meter<'a>,
}

impl<'a> Upload<'a> {
    /// Checks everything that can be checked before it creates a file. If a file is continued,
    /// its existing bytes are hashed and compared first; `go_on` is called after each piece of
    /// them, and may end it.
    pub(super) fn begin(
        header: &Header,
        root: Root<'_>,
        options: &ServeOptions<'_>,
        flow: &Flow<'a>,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Upload<'a> {
        match Open::begin(header, root, options, flow, go_on) {
            Ok(open) => Upload::Open(Box::new(open)),
            Err(error) => Upload::Refused(error, Pace::new(flow)),
        }
    }

    /// The most bytes that are transferred at once.
    pub(super) fn step(&self) -> usize {
        match self {
            Upload::Open(open) => open.meter.step(),
            Upload::Refused(_, pace) => pace.step(),
        }
    }

    /// Bytes of the file that were received.
    pub(super) fn done(&self) -> u64 {
        match self {
            Upload::Open(open) => open.meter.done(),
            Upload::Refused(..) => 0,
        }
    }

    /// Takes the next piece of the content, and waits until another one may follow. It fails
    /// only if the rest must not be received.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<()> {
        if let Upload::Open(open) = self {
            match open.file.write(piece) {
                Ok(()) => return open.meter.pass(piece),
                Err(error) => *self = Upload::Refused(error, open.meter.pace().clone()),
            }
        }
        match self {
            Upload::Refused(_, pace) => pace.pass(piece.len()),
            Upload::Open(_) => Ok(()),
        }
    }

    /// Stores the file if it matches its digests.
    pub(super) fn finish(self, trailer: Option<&Header>) -> Result<(PutRequest, Transferred)> {
        match self {
            Upload::Open(open) => open.finish(trailer),
            Upload::Refused(error, _) => Err(error),
        }
    }

    /// Gives up the file because of `error`, and returns the error for the client. The received
    /// part is kept if that was requested and only the connection failed.
    pub(super) fn cut(self, error: Error) -> Error {
        let Open { request, file, .. } = match self {
            Upload::Open(open) => *open,
            Upload::Refused(refused, _) => return refused,
        };
        let is_cut = matches!(
            error.kind(),
            ErrorKind::Truncated
                | ErrorKind::TimedOut
                | ErrorKind::Canceled
                | ErrorKind::Aborted
                | ErrorKind::Io
        );
        if !(is_cut && request.resume == Some(true)) {
            file.discard();
        }
        error
    }
}

impl<'a> Open<'a> {
    fn begin(
        header: &Header,
        root: Root<'_>,
        options: &ServeOptions<'_>,
        flow: &Flow<'a>,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Open<'a>> {
        let request = PutRequest::read(header)?;
        let name = request.name.bytes()?;
        let name = Name::new(&name)?;
        check_size(request.filesize, options.max_size.unwrap_or(u64::MAX))?;
        options.permit("put", name.as_bytes(), Some(request.filesize), header)?;
        let (asked, is_kept) = (request.mode.map(|mode| mode.0), request.keep_mode == Some(true));
        let offset = request.offset.unwrap_or(0);
        if offset > 0 {
            // What it compares with `prefix_sha256`, and the digest of the whole, tell of bytes
            // that the server has.
            options.permit("get", name.as_bytes(), None, header)?;
        }
        let store = StoreOptions {
            mode: asked.filter(|_| !is_kept),
            // Never more than the source's for the group and others.
            new_mode: match options.mode {
                Some(ours) => Some(ours & (asked.unwrap_or(0o777) | 0o700)),
                None => asked,
            },
            mtime: request.mtime,
            overwrite: options.overwrite && request.overwrite != Some(false),
            parents: request.parents.unwrap_or(options.parents),
            sync: options.sync,
        };
        let is_asked = request.sha256.or(request.prefix_sha256).is_some();
        let is_hashed = options.checksum || is_asked || request.trailer == Some(true);
        let mut meter = Meter::new(request.filesize, is_hashed, flow);
        let file = if offset > 0 || request.resume == Some(true) {
            let mut skip = |piece: &[u8]| {
                meter.skip(piece);
                go_on()
            };
            NewFile::resume(root, name, store, offset, &mut skip)?
        } else {
            NewFile::create(root, name, store)?
        };
        meter.check_skipped(request.prefix_sha256)?;
        Ok(Open { request, file, meter })
    }

    fn finish(self, trailer: Option<&Header>) -> Result<(PutRequest, Transferred)> {
        let Open { request, file, meter } = self;
        let received = meter.finish();
        let checked = received.check(request.sha256).and_then(|()| match trailer {
            Some(trailer) => received.check(Some(Trailer::read(trailer)?.sha256)),
            None => Ok(()),
        });
        match checked {
            Ok(()) => file.commit().map(|()| (request, received)),
            Err(error) => {
                file.discard();
                Err(error)
            }
        }
    }
}
