//! A tree that is sent.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use super::walk::{Directory, Side, TreeName, walk};
use super::{Tally, is_in_sync, is_same, run};
use crate::error::Result;
use crate::io::deadline::TimeLimit;
use crate::io::fs::check;
use crate::io::fs::directory;
use crate::io::fs::identity::identity;
use crate::io::fs::path;
use crate::io::fs::root::Root;
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
        if !at.name().is_empty() {
            // Its owner must be able to fill it.
            let mode = check::stat(dir)?.0.mode & 0o777 | 0o700;
            mkdir(self.connection, at.name(), Some(mode), what.parents && is_top, time_limit)?;
        }
        if what.resume {
            self.theirs = sorted(list(self.connection, at.name(), time_limit)?);
        }
        Ok(())
    }

    /// Whether the server's file is the same as the local one.
    fn is_there(&self, name: &[u8], here: &Stat) -> bool {
        if !self.what.resume || self.what.mtime.is_some() {
            return false;
        }
        let found = self.theirs.binary_search_by(|theirs| (*theirs.name).cmp(name));
        found.is_ok_and(|index| is_same(&self.theirs[index].stat, here))
    }
}

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
        let Some(tally) = self.tally else { return Ok(here.size) };
        if self.is_there(&entry.name, &here) {
            return tally.pass_over(at.name(), here.size).map(|()| 0);
        }
        let (file, stat) = match followed {
            Some(followed) => followed,
            None => Root::new(dir.as_fd()?)?.open_file(Name::new(&entry.name)?)?,
        };
        let what = Transfer { name: at.name(), length: Some(stat.size), ..*self.what };
        let mut sent = Transferred::default();
        put_fd(self.connection, &what, file.as_fd(), self.time_limit, &mut sent)?;
        tally.add(sent.bytes);
        Ok(sent.bytes)
    }

    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()> {
        let is_directory = |name: Name<'_>| directory::is_directory(self.top, name);
        check_link_target(Name::new(at.within())?, target, &is_directory)?;
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
