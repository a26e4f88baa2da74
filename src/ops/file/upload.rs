//! A file that a server receives.

use super::asking::Asking;
use super::meter::{Flow, Meter};
use super::{Choice, ServeOptions, Transferred, check_size};
use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::root::Root;
use crate::io::fs::store::{NewFile, StoreOptions};
use crate::ops::frame::Client;
use crate::wire::json::header::Header;
use crate::wire::message::file::{Overwrite, PutRequest, Trailer};
use crate::wire::name::Name;

/// A file that is being stored.
pub(super) struct Upload<'a> {
    request: PutRequest,
    file: NewFile,
    meter: Meter<'a>,
}

/// A put that may be done, before anything is read or created.
pub(super) struct Plan {
    request: PutRequest,
    store: StoreOptions,
    choice: Choice,
    is_hashed: bool,
}

impl Plan {
    /// Checks a request, and asks whether it may be done.
    pub(super) fn new(
        header: &Header,
        root: Root<'_>,
        options: &ServeOptions<'_>,
        client: Client<'_>,
    ) -> Result<Plan> {
        let request = PutRequest::read(header)?;
        let name = request.name.bytes()?;
        let name = Name::new(&name)?;
        let mut asking = Asking::new(options, header, client);
        check_size(request.filesize, options.max_size.unwrap_or(u64::MAX))?;
        asking.permit("put", name.as_bytes(), Some(request.filesize))?;
        if request.offset.is_some_and(|offset| offset > 0) {
            // What it compares with `prefix_sha256`, and the digest of the whole, tell of bytes
            // that the server has.
            asking.permit("get", name.as_bytes(), None)?;
        }
        let parents = request.parents.unwrap_or(options.parents);
        if parents {
            asking.permit_parents(root, name)?;
        }
        let choice = asking.choice();
        check_size(request.filesize, choice.max_size.unwrap_or(u64::MAX))?;
        choice.check_new(choice.root(root)?, name)?;
        let (asked, is_kept) = (request.mode.map(|mode| mode.0), request.keep_mode == Some(true));
        let may_replace = options.overwrite && choice.rights.replace;
        let store = StoreOptions {
            mode: asked.filter(|_| !is_kept),
            // Never more than the source's for the group and others.
            new_mode: match choice.mode {
                Some(ours) => Some(ours & (asked.unwrap_or(0o777) | 0o700)),
                None => asked,
            },
            mtime: request.mtime,
            overwrite: may_replace && request.overwrite != Some(Overwrite::No),
            in_place: request.overwrite == Some(Overwrite::InPlace),
            parents,
            sync: options.sync,
        };
        let is_asked = request.sha256.or(request.prefix_sha256).is_some();
        let is_hashed = options.checksum || is_asked || request.trailer == Some(true);
        Ok(Plan { request, store, choice, is_hashed })
    }
}

impl<'a> Upload<'a> {
    /// Creates a file. If one is continued, its existing bytes are hashed and compared first;
    /// `go_on` is called after each piece of them, and may end it.
    pub(super) fn begin(
        plan: Plan,
        root: Root<'_>,
        flow: &Flow<'a>,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Upload<'a>> {
        let Plan { request, store, choice, is_hashed } = plan;
        let root = choice.root(root)?;
        let name = request.name.bytes()?;
        let name = Name::new(&name)?;
        let is_question = request.ask == Some(true);
        // What the server has is read once, for the put itself.
        let offset = if is_question { 0 } else { request.offset.unwrap_or(0) };
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
        if !is_question {
            meter.check_skipped(request.prefix_sha256)?;
        }
        Ok(Upload { request, file, meter })
    }

    /// The most bytes that are transferred at once.
    pub(super) fn step(&self) -> usize {
        self.meter.step()
    }

    /// Whether the client only asks.
    pub(super) fn is_question(&self) -> bool {
        self.request.ask == Some(true)
    }

    /// Bytes of the file that were received.
    pub(super) fn done(&self) -> u64 {
        self.meter.done()
    }

    /// Writes the next piece of the content. After an error drop this.
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write(piece)
    }

    /// Records a piece that was written, and waits until another one may follow. It fails only
    /// if the rest must not be received.
    pub(super) fn pass(&mut self, piece: &[u8]) -> Result<()> {
        self.meter.pass(piece)
    }

    /// Stores the file if it matches its digests. `at_work` is called again and again if that
    /// takes long.
    pub(super) fn finish(
        self,
        trailer: Option<&Header>,
        at_work: &mut dyn FnMut(),
    ) -> Result<(PutRequest, Transferred)> {
        let Upload { request, file, meter } = self;
        let received = meter.finish();
        let checked = received.check(request.sha256).and_then(|()| match trailer {
            Some(trailer) => received.check(Some(Trailer::read(trailer)?.sha256)),
            None => Ok(()),
        });
        match checked {
            Ok(()) => file.commit_at_work(at_work).map(|()| (request, received)),
            Err(error) => {
                file.discard();
                Err(error)
            }
        }
    }

    /// Gives up the file because of `error`. The received part is kept if that was requested and
    /// only the connection failed.
    pub(super) fn cut(self, error: &Error) {
        let is_cut = matches!(
            error.kind(),
            ErrorKind::Truncated
                | ErrorKind::TimedOut
                | ErrorKind::Canceled
                | ErrorKind::Aborted
                | ErrorKind::Io
        );
        if !(is_cut && self.request.resume == Some(true)) {
            self.file.discard();
        }
    }
}
