//! A mirror that is sent: what differs on the server.

use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use super::put::{Opened, Sender, open_file, seek};
use super::walk::{Directory, Side, TreeName, walk};
use super::{is_in_sync, is_same_link};
use crate::error::{ErrorKind, Result};
use crate::io::deadline::TimeLimit;
use crate::io::fs::path;
use crate::io::fs::root::Root;
use crate::ops::file::client::{has_same, list, make_link, starts_over};
use crate::ops::file::mirror::{Change, Mirror};
use crate::ops::file::{Entry, Transfer, Transferred};
use crate::ops::frame::Connection;
use crate::wire::pairs::sorted;

/// Brings the server's tree into line with the directory at `path`.
pub(in crate::ops::file) fn put_mirror(
    connection: &mut Connection<'_>,
    (what, mirror): (&Transfer<'_>, &Mirror<'_>),
    path: &Path,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    let top = path::open_directory(path)?;
    let (top, tally, theirs, dest) = (Root::new(top.as_fd())?, None, Vec::new(), None);
    let sender = Sender { connection, top, what, time_limit, tally, theirs, dest };
    walk(&mut Mirroring { sender, mirror }, what.name, what.links, done)
}

struct Mirroring<'a, 'c, 'fd> {
    sender: Sender<'a, 'c, 'fd>,
    mirror: &'a Mirror<'a>,
}

impl Mirroring<'_, '_, '_> {
    /// Makes the directory on the server if it is missing, and remembers its entries.
    fn meet(&mut self, dir: BorrowedFd<'_>, at: &TreeName, is_top: bool) -> Result<()> {
        match list(self.sender.connection, at.name(), self.sender.time_limit) {
            Err(error) if error.kind() == ErrorKind::RemoteNotFound => {}
            theirs => {
                self.sender.theirs = sorted(theirs?);
                return Ok(());
            }
        }
        self.sender.theirs.clear();
        if !self.mirror.makes(Change::Directory, at.within())? {
            return Ok(());
        }
        self.sender.make(dir, at, is_top)
    }

    /// Gives the server's file the mode and the time of this one, which has the same content: the
    /// server takes all of it from its own. Whether it did so.
    fn describe(&mut self, what: &Transfer<'_>, file: BorrowedFd<'_>, size: u64) -> Result<bool> {
        // Only with its digest is it certain that the server takes it from there.
        if size == 0 || !what.checksum {
            return Ok(false);
        }
        seek(file, size)?;
        let nothing = Transfer { offset: size, resume: false, ..*what };
        match self.sender.send(&nothing, file, 0) {
            Err(error) if starts_over(&error) => Ok(false),
            // It may have clients put what they may not get.
            Err(error) if error.kind() == ErrorKind::RemoteDenied => Ok(false),
            described => described.map(|_| true),
        }
    }
}

impl Side for Mirroring<'_, '_, '_> {
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &TreeName,
        entry: Option<&Entry>,
    ) -> Result<Option<(Directory, Vec<Entry>)>> {
        let Some(dir) = self.sender.open(above, entry)? else { return Ok(None) };
        self.meet(dir.as_fd(), at, entry.is_none())?;
        self.sender.entries(dir, at, entry.is_none()).map(Some)
    }

    fn file(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64> {
        let Mirroring { sender, mirror } = self;
        let mut source: Option<Opened> = sender.followed(at, entry)?;
        let here = source.as_ref().map_or(entry.stat, |(_, stat)| *stat);
        let theirs = sender.there(&entry.name).map(|theirs| theirs.stat);
        let what = Transfer { name: at.name(), ..*sender.what };
        let mut is_equal = || {
            let (file, stat) = source.take().map_or_else(|| open_file(dir, entry), Ok)?;
            let (connection, time_limit) = (&mut *sender.connection, sender.time_limit);
            let is = has_same(connection, &what, file.as_fd(), stat.size, time_limit);
            source = Some((file, stat));
            is
        };
        let change = match mirror.step(at.within(), &here, theirs.as_ref(), &mut is_equal)? {
            ControlFlow::Break(bytes) => return Ok(bytes),
            ControlFlow::Continue(change) => change,
        };
        let (file, stat) = source.take().map_or_else(|| open_file(dir, entry), Ok)?;
        if change == Change::Attributes && self.describe(&what, file.as_fd(), stat.size)? {
            return Ok(0);
        }
        seek(file.as_fd(), 0)?;
        self.sender.send(&what, file.as_fd(), stat.size)
    }

    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()> {
        self.sender.check_link(at, target)?;
        if !self.mirror.makes(Change::Link, at.within())? {
            return Ok(());
        }
        let Sender { connection, time_limit, .. } = &mut self.sender;
        make_link(connection, at.name(), target, true, *time_limit)
    }

    fn has_link(&self, _: &Directory, entry: &Entry) -> Result<bool> {
        Ok(self.sender.there(&entry.name).is_some_and(|theirs| is_same_link(theirs, entry)))
    }

    fn is_in_sync(&self) -> bool {
        is_in_sync(self.sender.connection)
    }

    fn leave(&mut self, _: &Directory) -> Result<()> {
        Ok(())
    }
}
