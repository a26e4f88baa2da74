//! A tree that is fetched.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::walk::{Directory, Side, TreeName, walk};
use super::{Tally, is_in_sync, is_same, run};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::TimeLimit;
use crate::io::fs::directory;
use crate::io::fs::identity::identity;
use crate::io::fs::path;
use crate::io::fs::root::Root;
use crate::io::fs::store::StoreOptions;
use crate::ops::file::client::{Place, get_to, list_identified, stat};
use crate::ops::file::{Entry, Transfer, Transferred, check_size};
use crate::ops::frame::Connection;
use crate::wire::name::Name;
use crate::wire::pairs::sorted;
use crate::wire::quote;

/// Fetches a directory of the server, and everything in it, to the directory at `path`. No name
/// from the server leads out of it, and no link in it is followed.
pub(in crate::ops::file) fn get_tree(
    connection: &mut Connection<'_>,
    what: &Transfer<'_>,
    path: &Path,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    run(connection, what, done, |connection, what, tally, done| {
        let mut receiver = Receiver { connection, path, what, time_limit, tally, top: None };
        walk(&mut receiver, what.name, what.links, done)
    })
}

pub(super) struct Receiver<'a, 'c, 'fd> {
    pub connection: &'c mut Connection<'fd>,
    pub path: &'a Path,
    pub what: &'a Transfer<'a>,
    pub time_limit: TimeLimit,
    /// `None`: nothing is fetched, only counted.
    pub tally: Option<&'a Tally<'a>>,
    /// The directory at the path.
    pub top: Option<OwnedFd>,
}

impl Receiver<'_, '_, '_> {
    /// The server's list of the directory; `None` if it is the one that the tree is fetched to,
    /// which would never end.
    pub(super) fn list(&mut self, at: &TreeName) -> Result<Option<Vec<Entry>>> {
        let (entries, theirs) = list_identified(self.connection, at.name(), self.time_limit)?;
        let here = self.top.as_ref().and_then(|top| identity(top.as_fd()));
        if theirs.is_some() && theirs == here {
            return Ok(None);
        }
        let entries = sorted(entries);
        match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            None => Ok(Some(entries)),
            Some(pair) => {
                let detail = format!("the list has {} twice", quote(&pair[0].name));
                Err(Error::new(ErrorKind::BadReply, detail))
            }
        }
    }

    pub(super) fn make_top(&mut self, at: &TreeName) -> Result<Directory> {
        let is_new = path::make_directory(self.path, self.what.sync)?;
        let top = path::open_directory(self.path)?;
        let mode = if is_new {
            match stat(self.connection, at.name(), self.time_limit) {
                // A server may list what it does not describe.
                Err(error) if error.kind().is_remote() => None,
                theirs => Some(theirs?.mode & 0o777),
            }
        } else {
            None
        };
        if let Some(mode) = mode {
            // Others must not read in it meanwhile, either.
            directory::restrict(top.as_fd(), mode | 0o700)?;
        }
        let fd = Some(Root::new(top.as_fd())?.open_directory(None)?);
        self.top = Some(top);
        Ok(Directory { fd, mode })
    }

    pub(super) fn make(&self, above: &Directory, entry: &Entry) -> Result<Directory> {
        let (above, name) = (above.as_fd()?, Name::new(&entry.name)?);
        let is_new = directory::entry(above, &entry.name)?.is_none();
        let mode = entry.stat.mode & 0o777;
        let root = Root::new(above)?;
        let store = StoreOptions { mode: Some(mode | 0o700), ..self.what.store() };
        directory::make_directory(root, name, &store)?;
        let fd = Some(root.open_directory(Some(name))?);
        Ok(Directory { fd, mode: is_new.then_some(mode) })
    }

    /// Whether the local file is the same as the server's.
    fn is_here(&self, dir: &Directory, entry: &Entry) -> Result<bool> {
        if !self.what.resume || self.what.mtime.is_some() {
            return Ok(false);
        }
        let here = directory::entry(dir.as_fd()?, &entry.name)?;
        Ok(here.is_some_and(|here| is_same(&here.stat, &entry.stat)))
    }

    /// Fetches a file; returns its bytes.
    pub(super) fn fetch(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64> {
        check_size(entry.stat.size, self.what.max_size.unwrap_or(u64::MAX))?;
        let place = Place { root: Root::new(dir.as_fd()?)?, name: Name::new(&entry.name)? };
        let what = Transfer { name: at.name(), ..*self.what };
        let mut got = Transferred::default();
        get_to(self.connection, &what, place, self.time_limit, &mut got)?;
        Ok(got.bytes)
    }
}

impl Side for Receiver<'_, '_, '_> {
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &TreeName,
        entry: Option<&Entry>,
    ) -> Result<Option<(Directory, Vec<Entry>)>> {
        let Some(entries) = self.list(at)? else { return Ok(None) };
        let dir = match above.zip(entry) {
            above if self.tally.is_none() => {
                if above.is_none() {
                    self.top = path::open_directory(self.path).ok();
                }
                Directory::default()
            }
            Some((above, entry)) => self.make(above, entry)?,
            None => self.make_top(at)?,
        };
        Ok(Some((dir, entries)))
    }

    fn file(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64> {
        let Some(tally) = self.tally else { return Ok(entry.stat.size) };
        if self.is_here(dir, entry)? {
            return tally.pass_over(at.name(), entry.stat.size).map(|()| 0);
        }
        let bytes = self.fetch(dir, at, entry)?;
        tally.add(bytes);
        Ok(bytes)
    }

    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()> {
        let Some((top, _)) = self.top.as_ref().zip(self.tally) else { return Ok(()) };
        let name = Name::new(at.within())?;
        directory::make_link(Root::new(top.as_fd())?, name, target, &self.what.store())
    }

    fn is_in_sync(&self) -> bool {
        is_in_sync(self.connection)
    }

    fn leave(&mut self, dir: &Directory) -> Result<()> {
        match (&dir.fd, dir.mode) {
            (Some(fd), Some(mode)) => directory::restrict(fd.as_fd(), mode),
            _ => Ok(()),
        }
    }
}
