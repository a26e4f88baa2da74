//! A tree that is sent.

use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::walk::{Directory, Side, TreeName, walk};
use super::{Tally, is_in_sync, is_same, is_same_link, run};
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
use crate::ops::file::client::{self, has_same, list, make_link, mkdir, put_fd, starts_over};
use crate::ops::file::{Change, Entry, Kind, Mirror, Stat, Transfer, Transferred};
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

struct Sender<'a, 'c, 'fd> {
    connection: &'c mut Connection<'fd>,
    top: Root<'a>,
    what: &'a Transfer<'a>,
    time_limit: TimeLimit,
    /// `None`: nothing is sent, only counted.
    tally: Option<&'a Tally<'a>>,
    /// The server's entries of the current directory, sorted by name.
    theirs: Vec<Entry>,
    /// The identity of the directory that the tree is stored as.
    dest: Option<String>,
}

impl Sender<'_, '_, '_> {
    /// Makes the directory on the server, and remembers its existing entries.
    fn make(&mut self, dir: BorrowedFd<'_>, at: &TreeName, is_top: bool) -> Result<()> {
        let Sender { what, time_limit, .. } = *self;
        if let Some(mirror) = what.mirror {
            match list(self.connection, at.name(), time_limit) {
                Err(error) if error.kind() == ErrorKind::RemoteNotFound => self.theirs.clear(),
                theirs => {
                    self.theirs = sorted(theirs?);
                    return Ok(());
                }
            }
            if !mirror.makes(Change::Directory, at.within())? {
                return Ok(());
            }
        }
        if !at.name().is_empty() {
            // Its owner must be able to fill it.
            let mode = check::stat(dir)?.0.mode & 0o777 | 0o700;
            mkdir(self.connection, at.name(), Some(mode), what.parents && is_top, time_limit)?;
        }
        if what.resume && what.mirror.is_none() {
            self.theirs = sorted(list(self.connection, at.name(), time_limit)?);
        }
        Ok(())
    }

    /// The server's entry of this name in the current directory.
    fn there(&self, name: &[u8]) -> Option<&Entry> {
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

    /// Sends a file of a mirror if that is needed; returns the bytes that were sent. It may be
    /// open already.
    fn mirror(
        &mut self,
        mirror: &Mirror<'_>,
        dir: &Directory,
        at: &TreeName,
        entry: &Entry,
        mut source: Option<Opened>,
    ) -> Result<u64> {
        let here = source.as_ref().map_or(entry.stat, |(_, stat)| *stat);
        let theirs = self.there(&entry.name).map(|theirs| theirs.stat);
        let open = || Root::new(dir.as_fd()?)?.open_file(Name::new(&entry.name)?);
        let what = Transfer { name: at.name(), ..*self.what };
        let mut is_equal = || {
            let (file, stat) = source.take().map_or_else(open, Ok)?;
            let (connection, time_limit) = (&mut *self.connection, self.time_limit);
            let is = has_same(connection, &what, file.as_fd(), stat.size, time_limit);
            source = Some((file, stat));
            is
        };
        let change = match mirror.step(at.within(), &here, theirs.as_ref(), &mut is_equal)? {
            ControlFlow::Break(bytes) => return Ok(bytes),
            ControlFlow::Continue(change) => change,
        };
        let (file, stat) = source.take().map_or_else(open, Ok)?;
        if change == Change::Attributes && self.describe(&what, file.as_fd(), stat.size)? {
            return Ok(0);
        }
        seek(file.as_fd(), 0)?;
        self.send(&what, file.as_fd(), stat.size)
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
        match self.send(&nothing, file, 0) {
            Err(error) if starts_over(&error) => Ok(false),
            // It may have clients put what they may not get.
            Err(error) if error.kind() == ErrorKind::RemoteDenied => Ok(false),
            described => described.map(|_| true),
        }
    }

    /// Sends the next bytes of `file`. The last attempt may have been cut just now: so with
    /// `resume` it waits until a transfer that is silent can be taken over.
    fn send(&mut self, what: &Transfer<'_>, file: BorrowedFd<'_>, length: u64) -> Result<u64> {
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

/// A file that is open, and what it is.
type Opened = (OwnedFd, Stat);

fn seek(file: BorrowedFd<'_>, to: u64) -> Result<()> {
    range::seek(file, to).map_err(failed)
}

fn failed(errno: Errno) -> Error {
    Error::system("the source", errno)
}

/// Between two attempts at a file that is busy.
const PAUSE: Duration = Duration::from_millis(100);

impl Side for Sender<'_, '_, '_> {
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &TreeName,
        entry: Option<&Entry>,
    ) -> Result<Option<(Directory, Vec<Entry>)>> {
        let dir = match above.zip(entry) {
            Some((above, entry)) => {
                Root::new(above.as_fd()?)?.open_directory(Some(Name::new(&entry.name)?))?
            }
            None => self.top.open_directory(None)?,
        };
        // It would never end.
        if self.dest.is_some() && self.dest == identity(dir.as_fd()) {
            return Ok(None);
        }
        if self.tally.is_some() {
            self.make(dir.as_fd(), at, entry.is_none())?;
        }
        if entry.is_none() {
            self.dest = client::identity(self.connection, at.name(), self.time_limit)?;
        }
        let mut entries = Vec::new();
        for name in directory::names(dir.as_fd())? {
            entries.extend(directory::entry(dir.as_fd(), &name)?);
        }
        Ok(Some((Directory { fd: Some(dir), mode: None }, entries)))
    }

    fn file(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64> {
        let followed = match entry.stat.kind {
            Kind::Symlink => Some(self.top.open_followed(Name::new(at.within())?)?),
            _ => None,
        };
        let here = followed.as_ref().map_or(entry.stat, |(_, stat)| *stat);
        if let Some(mirror) = &self.what.mirror {
            return self.mirror(mirror, dir, at, entry, followed);
        }
        let Some(tally) = self.tally else { return Ok(here.size) };
        if self.is_there(&entry.name, &here) {
            return tally.pass_over(at.name(), here.size).map(|()| 0);
        }
        let (file, stat) = match followed {
            Some(followed) => followed,
            None => Root::new(dir.as_fd()?)?.open_file(Name::new(&entry.name)?)?,
        };
        let what = Transfer { name: at.name(), ..*self.what };
        let sent = self.send(&what, file.as_fd(), stat.size)?;
        tally.add(sent);
        Ok(sent)
    }

    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()> {
        let is_directory = |name: Name<'_>| directory::is_directory(self.top, name);
        check_link_target(Name::new(at.within())?, target, &is_directory)?;
        if let Some(mirror) = &self.what.mirror
            && !mirror.makes(Change::Link, at.within())?
        {
            return Ok(());
        }
        let overwrite = self.what.overwrite;
        match self.tally {
            Some(_) => make_link(self.connection, at.name(), target, overwrite, self.time_limit),
            None => Ok(()),
        }
    }

    fn has_link(&self, _: &Directory, entry: &Entry) -> Result<bool> {
        let theirs = self.there(&entry.name).filter(|_| self.what.mirror.is_some());
        Ok(theirs.is_some_and(|theirs| is_same_link(theirs, entry)))
    }

    fn is_in_sync(&self) -> bool {
        is_in_sync(self.connection)
    }

    fn leave(&mut self, _dir: &Directory) -> Result<()> {
        Ok(())
    }
}
