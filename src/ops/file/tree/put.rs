//! A tree that is sent.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::walk::{Directory, Side, TreeName, walk};
use super::{Tally, is_in_sync, is_same, run};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, TimeLimit};
use crate::io::fs::check;
use crate::io::fs::directory;
use crate::io::fs::identity::identity;
use crate::io::fs::path;
use crate::io::fs::range;
use crate::io::fs::root::Root;
use crate::io::wait::poll;
use crate::limits;
use crate::ops::file::client::{self, list, make_link, mkdir, put_fd};
use crate::ops::file::{Entry, Kind, Stat, Transfer, Transferred};
use crate::ops::frame::Connection;
use crate::wire::name::{Name, check_link_target};
use crate::wire::pairs::sorted;

/// Stores the directory at `path`, and everything in it, on the server. The walk uses
/// descriptors, not paths.
pub(in crate::ops::file) fn put_tree(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    path: &Path,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    let top = path::open_directory(path)?;
    let top = Root::new(top.as_fd())?;
    run(connection, what, done, |connection, what, tally, done| {
        let (theirs, dest) = (Vec::new(), None);
        let mut sender = Sender { connection, top, what, time_limit, tally, theirs, dest };
        walk(&mut sender, what.name, what.links, done)
    })
}

pub(super) struct Sender<'a, 'c, 'fd> {
    pub connection: &'c mut Connection<'fd>,
    pub top: Root<'a>,
    pub what: &'a Transfer<'a>,
    pub time_limit: TimeLimit,
    /// `None`: nothing is sent, only counted.
    pub tally: Option<&'a Tally<'a>>,
    /// The server's entries of the current directory, sorted by name.
    pub theirs: Vec<Entry>,
    /// The identity of the directory that the tree is stored as.
    pub dest: Option<String>,
}

impl Sender<'_, '_, '_> {
    /// Opens a directory of the source; the tree's own has none above. `None`: it is the
    /// destination, and the walk would never end.
    pub(super) fn open(
        &self,
        above: Option<&Directory>,
        entry: Option<&Entry>,
    ) -> Result<Option<OwnedFd>> {
        let dir = match above.zip(entry) {
            Some((above, entry)) => {
                Root::new(above.as_fd()?)?.open_directory(Some(Name::new(&entry.name)?))?
            }
            None => self.top.open_directory(None)?,
        };
        let is_dest = self.dest.is_some() && self.dest == identity(dir.as_fd());
        Ok((!is_dest).then_some(dir))
    }

    /// Makes the directory on the server.
    pub(super) fn make(&mut self, dir: BorrowedFd<'_>, at: &TreeName, is_top: bool) -> Result<()> {
        if at.name().is_empty() {
            return Ok(());
        }
        // Its owner must be able to fill it.
        let mode = check::stat(dir)?.0.mode & 0o777 | 0o700;
        let parents = self.what.parents && is_top;
        mkdir(self.connection, at.name(), Some(mode), parents, self.time_limit)
    }

    /// The entries of a directory that was opened, and is there on the server unless nothing is.
    pub(super) fn entries(
        &mut self,
        dir: OwnedFd,
        at: &TreeName,
        is_top: bool,
    ) -> Result<(Directory, Vec<Entry>)> {
        if is_top {
            self.dest = client::identity(self.connection, at.name(), self.time_limit)?;
        }
        let mut entries = Vec::new();
        for name in directory::names(dir.as_fd())? {
            entries.extend(directory::entry(dir.as_fd(), &name)?);
        }
        Ok((Directory { fd: Some(dir), mode: None }, entries))
    }

    /// The server's entry of this name in the current directory.
    pub(super) fn there(&self, name: &[u8]) -> Option<&Entry> {
        let found = self.theirs.binary_search_by(|theirs| (*theirs.name).cmp(name));
        found.ok().map(|index| &self.theirs[index])
    }

    /// Whether the server's file is the same as the local one.
    fn is_there(&self, name: &[u8], here: &Stat) -> bool {
        if !self.what.resume || self.what.mtime.is_some() {
            return false;
        }
        self.there(name).is_some_and(|theirs| is_same(&theirs.stat, here))
    }

    /// The target of a link, open, if links are followed.
    pub(super) fn followed(&self, at: &TreeName, entry: &Entry) -> Result<Option<Opened>> {
        match entry.stat.kind {
            Kind::Symlink => Ok(Some(self.top.open_followed(Name::new(at.within())?)?)),
            _ => Ok(None),
        }
    }

    /// Checks the target of a link as the server will.
    pub(super) fn check_link(&self, at: &TreeName, target: &[u8]) -> Result<()> {
        let is_directory = |name: Name<'_>| directory::is_directory(self.top, name);
        check_link_target(Name::new(at.within())?, target, &is_directory)
    }

    /// Sends the next bytes of `file`. The last attempt may have been cut just now: so with
    /// `resume` it waits until a transfer that is silent can be taken over.
    pub(super) fn send(
        &mut self,
        what: &Transfer<'_>,
        file: BorrowedFd<'_>,
        length: u64,
    ) -> Result<u64> {
        let what = Transfer { length: Some(length), ..*what };
        let begins = range::position(file).map_err(failed)?;
        let patience = Deadline::after(limits::SILENT * 2);
        loop {
            let mut sent = Transferred::default();
            match put_fd(self.connection, &what, file, self.time_limit, &mut sent) {
                Err(error)
                    if error.kind() == ErrorKind::RemoteBusy
                        && what.resume
                        && is_in_sync(self.connection)
                        && !patience.passed() => {}
                done => return done.map(|()| sent.bytes),
            }
            let pause = Deadline::after(PAUSE).min(self.time_limit.deadline);
            poll(&mut [], pause, Some(self.connection.shared().interrupt()))?;
            seek(file, begins)?;
        }
    }
}

impl Side for Sender<'_, '_, '_> {
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &TreeName,
        entry: Option<&Entry>,
    ) -> Result<Option<(Directory, Vec<Entry>)>> {
        let Some(dir) = self.open(above, entry)? else { return Ok(None) };
        if self.tally.is_some() {
            self.make(dir.as_fd(), at, entry.is_none())?;
            if self.what.resume {
                self.theirs = sorted(list(self.connection, at.name(), self.time_limit)?);
            }
        }
        self.entries(dir, at, entry.is_none()).map(Some)
    }

    fn file(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64> {
        let followed = self.followed(at, entry)?;
        let here = followed.as_ref().map_or(entry.stat, |(_, stat)| *stat);
        let Some(tally) = self.tally else { return Ok(here.size) };
        if self.is_there(&entry.name, &here) {
            return tally.pass_over(at.name(), here.size).map(|()| 0);
        }
        let (file, stat) = followed.map_or_else(|| open_file(dir, entry), Ok)?;
        let what = Transfer { name: at.name(), ..*self.what };
        let sent = self.send(&what, file.as_fd(), stat.size)?;
        tally.add(sent);
        Ok(sent)
    }

    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()> {
        self.check_link(at, target)?;
        let overwrite = self.what.overwrite;
        match self.tally {
            Some(_) => make_link(self.connection, at.name(), target, overwrite, self.time_limit),
            None => Ok(()),
        }
    }

    fn is_in_sync(&self) -> bool {
        is_in_sync(self.connection)
    }

    fn leave(&mut self, _dir: &Directory) -> Result<()> {
        Ok(())
    }
}

/// Opens a file of the source.
pub(super) fn open_file(dir: &Directory, entry: &Entry) -> Result<Opened> {
    Root::new(dir.as_fd()?)?.open_file(Name::new(&entry.name)?)
}

/// A file that is open, and what it is.
pub(super) type Opened = (OwnedFd, Stat);

pub(super) fn seek(file: BorrowedFd<'_>, to: u64) -> Result<()> {
    range::seek(file, to).map_err(failed)
}

fn failed(errno: Errno) -> Error {
    Error::system("the source", errno)
}

/// Between two attempts at a file that is busy.
const PAUSE: Duration = Duration::from_millis(100);
