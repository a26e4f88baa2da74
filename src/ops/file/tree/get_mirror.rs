//! A mirror that is fetched: what differs here.

use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::get::Receiver;
use super::walk::{Directory, Side, TreeName, walk};
use super::{is_in_sync, is_same_link};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::TimeLimit;
use crate::io::fs::directory;
use crate::io::fs::path;
use crate::io::fs::range::read_range;
use crate::io::fs::remove::remove;
use crate::io::fs::root::Root;
use crate::io::fs::store::{NewFile, StoreOptions};
use crate::ops::file::client::has_same;
use crate::ops::file::mirror::{Change, Mirror, in_the_way};
use crate::ops::file::{Entry, Kind, Links, Transfer, Transferred};
use crate::ops::frame::Connection;
use crate::wire::name::{Name, check_link_target};

/// Brings the directory at `path` into line with the server's tree. Like a tree that is fetched,
/// it is all that is written to, and all that is removed from.
pub(in crate::ops::file) fn get_mirror(
    connection: &mut Connection<'_>,
    (what, mirror): (&Transfer<'_>, &Mirror<'_>),
    path: &Path,
    time_limit: TimeLimit,
    done: &mut Transferred,
) -> Result<()> {
    let receiver = Receiver { connection, path, what, time_limit, tally: None, top: None };
    walk(&mut Mirroring { receiver, mirror }, what.name, what.links, done)
}

struct Mirroring<'a, 'c, 'fd> {
    receiver: Receiver<'a, 'c, 'fd>,
    mirror: &'a Mirror<'a>,
}

impl Mirroring<'_, '_, '_> {
    /// The directory of the tree itself, which is made if it is missing.
    fn meet_top(&mut self, at: &TreeName) -> Result<Directory> {
        match path::open_directory(self.receiver.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            top => {
                let top = top?;
                let fd = Some(Root::new(top.as_fd())?.open_directory(None)?);
                self.receiver.top = Some(top);
                return Ok(Directory { fd, mode: None });
            }
        }
        if !self.mirror.makes(Change::Directory, at.within())? {
            return Ok(Directory::default());
        }
        self.receiver.make_top(at)
    }

    /// The same for one in it.
    fn meet(&mut self, above: &Directory, entry: &Entry, at: &TreeName) -> Result<Directory> {
        match here(above, &entry.name)? {
            Some(here) if here.stat.kind == Kind::Dir => {
                let name = Name::new(&entry.name)?;
                let fd = Some(Root::new(above.as_fd()?)?.open_directory(Some(name))?);
                return Ok(Directory { fd, mode: None });
            }
            // It would have been removed.
            Some(_) if !(self.mirror.dry_run && self.mirror.remove) => return Err(in_the_way()),
            _ => {}
        }
        if !self.mirror.makes(Change::Directory, at.within())? {
            return Ok(Directory::default());
        }
        self.receiver.make(above, entry)
    }

    /// Gives the local file the mode and the time of the server's: a copy gets them, since only a
    /// new file shows the umask.
    fn describe(&self, dir: &Directory, entry: &Entry) -> Result<u64> {
        let (root, name) = (Root::new(dir.as_fd()?)?, Name::new(&entry.name)?);
        let (mode, mtime) = (Some(entry.stat.mode & 0o777), Some(entry.stat.mtime));
        let store = StoreOptions { mode, mtime, ..self.receiver.what.store() };
        let (file, stat) = root.open_file(name)?;
        let mut copy = NewFile::create(root, name, store)?;
        read_range(file.as_fd(), 0, stat.size, &mut |piece| copy.write(piece))?
            .map_err(|errno| Error::system("copy the file", errno))?;
        copy.commit().map(|()| 0)
    }
}

impl Side for Mirroring<'_, '_, '_> {
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &TreeName,
        entry: Option<&Entry>,
    ) -> Result<Option<(Directory, Vec<Entry>)>> {
        let Some(entries) = self.receiver.list(at)? else { return Ok(None) };
        let dir = match above.zip(entry) {
            Some((above, entry)) => self.meet(above, entry, at)?,
            None => self.meet_top(at)?,
        };
        Ok(Some((dir, entries)))
    }

    fn file(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64> {
        let there = here(dir, &entry.name)?.map(|here| here.stat);
        let Receiver { connection, what, time_limit, .. } = &mut self.receiver;
        let what = Transfer { name: at.name(), ..**what };
        let mut is_equal = || match Root::new(dir.as_fd()?)?.open_file(Name::new(&entry.name)?) {
            Ok((file, stat)) => has_same(connection, &what, file.as_fd(), stat.size, *time_limit),
            // It cannot be read, but it can be replaced.
            Err(error) if error.kind() == ErrorKind::Denied => Ok(false),
            Err(error) => Err(error),
        };
        match self.mirror.step(at.within(), &entry.stat, there.as_ref(), &mut is_equal)? {
            ControlFlow::Break(bytes) => Ok(bytes),
            ControlFlow::Continue(Change::Attributes) => self.describe(dir, entry),
            ControlFlow::Continue(_) => self.receiver.fetch(dir, at, entry),
        }
    }

    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()> {
        let (name, what) = (Name::new(at.within())?, self.receiver.what);
        let top = self.receiver.top.as_ref().map(|top| Root::new(top.as_fd())).transpose()?;
        // Directories that would be made are missing if nothing is.
        let is_directory = |name: Name<'_>| {
            self.mirror.dry_run || top.is_some_and(|top| directory::is_directory(top, name))
        };
        check_link_target(name, target, &is_directory)?;
        match (self.mirror.makes(Change::Link, at.within())?, top) {
            (true, Some(top)) => directory::make_link(top, name, target, &what.store()),
            _ => Ok(()),
        }
    }

    fn has_link(&self, dir: &Directory, entry: &Entry) -> Result<bool> {
        Ok(here(dir, &entry.name)?.is_some_and(|here| is_same_link(&here, entry)))
    }

    fn surplus(&self, dir: &Directory, entries: &[Entry]) -> Result<Vec<Box<[u8]>>> {
        let mut surplus = Vec::new();
        let Some(fd) = dir.fd.as_ref().filter(|_| self.mirror.remove) else { return Ok(surplus) };
        for name in directory::names(fd.as_fd())? {
            let theirs = entries.binary_search_by(|theirs| (*theirs.name).cmp(&name));
            let is_kept = match theirs.map(|index| entries[index].stat.kind) {
                Err(_) => false,
                Ok(Kind::Other) => true,
                Ok(Kind::Symlink) if self.receiver.what.links != Links::Copy => true,
                Ok(kind) => here(dir, &name)?.is_none_or(|here| here.stat.kind == kind),
            };
            if !is_kept {
                surplus.push(name);
            }
        }
        Ok(surplus)
    }

    fn remove(&mut self, dir: &Directory, at: &TreeName, name: &[u8]) -> Result<()> {
        let above = &at.within()[..at.within().len() - name.len()];
        remove(dir.as_fd()?, name, &mut |gone| {
            self.mirror.makes(Change::Remove, &[above, gone].concat())
        })
    }

    fn is_in_sync(&self) -> bool {
        is_in_sync(self.receiver.connection)
    }

    fn leave(&mut self, dir: &Directory) -> Result<()> {
        self.receiver.leave(dir)
    }
}

/// The local entry of this name; there is none in a directory that is not there.
fn here(dir: &Directory, name: &[u8]) -> Result<Option<Entry>> {
    match &dir.fd {
        Some(fd) => directory::entry(fd.as_fd(), name),
        None => Ok(None),
    }
}
