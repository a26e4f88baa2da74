//! A file that is being received by a server.

use super::meter::{Meter, Pace};
use super::{Options, Transfer};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::fs::root::Root;
use crate::io::fs::store::{NewFile, StoreOptions};
use crate::wire::json::header::Header;
use crate::wire::message::file::{PutRequest, Trailer};
use crate::wire::name::Name;

/// A put on its way. Its body is received to the end even if the file was refused, so that the
/// stream stays in sync.
pub(super) struct Upload<'a> {
    file: Result<Open<'a>>,
    /// Of a body whose file was refused.
    pace: Pace,
}

impl<'a> Upload<'a> {
    /// Checks all that can be checked, and only then creates anything. If the file is
    /// continued, the bytes that are there already are hashed and compared first.
    pub fn begin(
        header: &Header,
        root: Root<'_>,
        options: &Options<'a>,
        patience: Patience,
    ) -> Upload<'a> {
        let file = Open::begin(header, root, options, patience);
        Upload { file, pace: Pace::new(options.rate, patience.deadline) }
    }

    /// Bytes of a piece, at most.
    pub fn step(&self) -> usize {
        self.pace.step()
    }

    /// Takes the next piece. An error ends the exchange; one to write does not, and is
    /// reported by [`finish`](Self::finish).
    pub fn take(&mut self, piece: &[u8]) -> Result<()> {
        if let Ok(open) = &mut self.file {
            match open.file.write(piece) {
                Ok(()) => return open.meter.pass(piece),
                Err(error) => self.file = Err(error),
            }
        }
        self.pace.pass(piece.len())
    }

    /// Ends it before its end, with what the server reports of it. The received bytes stay
    /// if the request asked for that and only the stream was at fault.
    pub fn cut(self, error: Error) -> Error {
        match self.file {
            Ok(open) => {
                open.cut(&error);
                error
            }
            Err(refused) => refused,
        }
    }

    /// Stores the file, if it is what its digests say.
    pub fn finish(self, trailer: Option<&Header>) -> Result<(PutRequest, Transfer)> {
        self.file?.finish(trailer)
    }
}

/// What a put asks for, and what has come of it.
struct Open<'a> {
    request: PutRequest,
    file: NewFile,
    meter: Meter<'a>,
}

impl<'a> Open<'a> {
    fn begin(
        header: &Header,
        root: Root<'_>,
        options: &Options<'a>,
        patience: Patience,
    ) -> Result<Open<'a>> {
        let request = PutRequest::read(header)?;
        let name = request.name.bytes()?;
        let name = Name::new(&name)?;
        options.check_size(request.filesize)?;
        options.permit("put", name.as_bytes(), Some(request.filesize), header)?;
        let store = StoreOptions {
            mode: request.mode.map(|mode| mode.0).or(options.store.mode),
            mtime: request.mtime.or(options.store.mtime),
            overwrite: options.store.overwrite && request.overwrite != Some(false),
            parents: request.parents.unwrap_or(options.store.parents),
            ..options.store
        };
        let asked = request.sha256.or(request.prefix_sha256).is_some();
        let hashed = options.checksum || asked || request.trailer == Some(true);
        let mut meter = Meter::new(request.filesize, hashed, options, patience.deadline);
        let offset = request.offset.unwrap_or(0);
        let file = if offset > 0 || request.resume == Some(true) {
            NewFile::resume(root, name, store, offset, &mut |piece| meter.skip(piece))?
        } else {
            NewFile::create(root, name, store)?
        };
        meter.check_skipped(request.prefix_sha256)?;
        Ok(Open { request, file, meter })
    }

    fn cut(self, error: &Error) {
        let cut = matches!(
            error.kind(),
            ErrorKind::Truncated | ErrorKind::Stalled | ErrorKind::Canceled | ErrorKind::Io
        );
        if !(cut && self.request.resume == Some(true)) {
            self.file.discard();
        }
    }

    fn finish(self, trailer: Option<&Header>) -> Result<(PutRequest, Transfer)> {
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
