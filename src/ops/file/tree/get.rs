//! A tree that is fetched.

use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::walk::{Directory, Side, TreeName, walk};
use super::{Tally, is_in_sync, is_same, is_same_link, run};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::TimeLimit;
use crate::io::fs::directory;
use crate::io::fs::identity::identity;
use crate::io::fs::path;
use crate::io::fs::range::read_range;
use crate::io::fs::remove::remove;
use crate::io::fs::root::Root;
use crate::io::fs::store::{NewFile, StoreOptions};
use crate::ops::file::client::{Place, get_to, has_same, list_identified, stat};
use crate::ops::file::mirror::in_the_way;
use crate::ops::file::{
    Change, Entry, Kind, Links, Mirror, Stat, Transfer, Transferred, check_size,
};
use crate::ops::frame::Connection;
use crate::wire::name::{Name, check_link_target};
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

struct Receiver<'a, 'c, 'fd> {
    connection: &'c mut Connection<'fd>,
    path: &'a Path,
    what: &'a Transfer<'a>,
    time_limit: TimeLimit,
    /// `None`: nothing is fetched, only counted.
    tally: Option<&'a Tally<'a>>,
    /// The directory at the path.
    top: Option<OwnedFd>,
}

impl Receiver<'_, '_, '_> {
    /// The server's list of the directory; `None` if it is the one that the tree is fetched to,
    /// which would never end.
    fn list(&mut self, at: &TreeName) -> Result<Option<Vec<Entry>>> {
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

    /// The directory of the destination, which is made if it is missing.
    fn meet(
        &mut self,
        mirror: &Mirror<'_>,
        above: Option<(&Directory, &Entry)>,
        at: &TreeName,
    ) -> Result<Directory> {
        let there = match above {
            None => match path::open_directory(self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                top => {
                    let top = top?;
                    let fd = Root::new(top.as_fd())?.open_directory(None)?;
                    self.top = Some(top);
                    Some(fd)
                }
            },
            Some((above, entry)) => match here(above, &entry.name)? {
                Some(here) if here.stat.kind == Kind::Dir => {
                    let root = Root::new(above.as_fd()?)?;
                    Some(root.open_directory(Some(Name::new(&entry.name)?))?)
                }
                Some(_) if !(mirror.dry_run && mirror.remove) => return Err(in_the_way()),
                _ => None,
            },
        };
        if let Some(fd) = there {
            return Ok(Directory { fd: Some(fd), mode: None });
        }
        match (mirror.makes(Change::Directory, at.within())?, above) {
            (false, _) => Ok(Directory::default()),
            (true, Some((above, entry))) => self.make(above, entry),
            (true, None) => self.make_top(at),
        }
    }

    /// What is to be done to a local file of a mirror, or the bytes that count without it.
    fn step(
        &mut self,
        mirror: &Mirror<'_>,
        dir: &Directory,
        at: &TreeName,
        entry: &Entry,
    ) -> Result<ControlFlow<u64, Change>> {
        let there = here(dir, &entry.name)?.map(|here| here.stat);
        let what = Transfer { name: at.name(), ..*self.what };
        let mut is_equal = || {
            let name = Name::new(&entry.name)?;
            match Root::new(dir.as_fd()?)?.open_file(name) {
                Ok((file, stat)) => {
                    has_same(self.connection, &what, file.as_fd(), stat.size, self.time_limit)
                }
                // It cannot be read, but it can be replaced.
                Err(error) if error.kind() == ErrorKind::Denied => Ok(false),
                Err(error) => Err(error),
            }
        };
        mirror.step(at.within(), &entry.stat, there.as_ref(), &mut is_equal)
    }

    /// Gives the local file the mode and the time of the server's: a copy gets them, since only a
    /// new file shows the umask.
    fn describe(&self, place: Place<'_>, stat: &Stat) -> Result<()> {
        let (mode, mtime) = (Some(stat.mode & 0o777), Some(stat.mtime));
        let store = StoreOptions { mode, mtime, ..self.what.store() };
        let (file, here) = place.root.open_file(place.name)?;
        let mut copy = NewFile::create(place.root, place.name, store)?;
        read_range(file.as_fd(), 0, here.size, &mut |piece| copy.write(piece))?
            .map_err(|errno| Error::system("copy the file", errno))?;
        copy.commit()
    }

    fn make_top(&mut self, at: &TreeName) -> Result<Directory> {
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

    fn make(&self, above: &Directory, entry: &Entry) -> Result<Directory> {
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
        let here = here(dir, &entry.name)?;
        Ok(here.is_some_and(|here| is_same(&here.stat, &entry.stat)))
    }
}

/// The local entry of this name; there is none in a directory that is not there.
fn here(dir: &Directory, name: &[u8]) -> Result<Option<Entry>> {
    match &dir.fd {
        Some(fd) => directory::entry(fd.as_fd(), name),
        None => Ok(None),
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
            above => match (&self.what.mirror, above) {
                (Some(mirror), above) => self.meet(mirror, above, at)?,
                (None, Some((above, entry))) => self.make(above, entry)?,
                (None, None) => self.make_top(at)?,
            },
        };
        Ok(Some((dir, entries)))
    }

    fn file(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64> {
        let Some(tally) = self.tally else { return Ok(entry.stat.size) };
        let mut change = Change::File;
        if let Some(mirror) = &self.what.mirror {
            match self.step(mirror, dir, at, entry)? {
                ControlFlow::Break(bytes) => return Ok(bytes),
                ControlFlow::Continue(needed) => change = needed,
            }
        } else if self.is_here(dir, entry)? {
            return tally.pass_over(at.name(), entry.stat.size).map(|()| 0);
        }
        check_size(entry.stat.size, self.what.max_size.unwrap_or(u64::MAX))?;
        let place = Place { root: Root::new(dir.as_fd()?)?, name: Name::new(&entry.name)? };
        if change == Change::Attributes {
            return self.describe(place, &entry.stat).map(|()| 0);
        }
        let what = Transfer { name: at.name(), ..*self.what };
        let mut got = Transferred::default();
        get_to(self.connection, &what, place, self.time_limit, &mut got)?;
        tally.add(got.bytes);
        Ok(got.bytes)
    }

    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()> {
        let name = Name::new(at.within())?;
        if let Some(mirror) = &self.what.mirror {
            let top = self.top.as_ref().map(|top| Root::new(top.as_fd())).transpose()?;
            // Directories that would be made are missing if nothing is.
            let is_directory = |name: Name<'_>| {
                mirror.dry_run || top.is_some_and(|top| directory::is_directory(top, name))
            };
            check_link_target(name, target, &is_directory)?;
            if !mirror.makes(Change::Link, at.within())? {
                return Ok(());
            }
        }
        let Some((top, _)) = self.top.as_ref().zip(self.tally) else { return Ok(()) };
        directory::make_link(Root::new(top.as_fd())?, name, target, &self.what.store())
    }

    fn has_link(&self, dir: &Directory, entry: &Entry) -> Result<bool> {
        let there = if self.what.mirror.is_some() { here(dir, &entry.name)? } else { None };
        Ok(there.is_some_and(|there| is_same_link(&there, entry)))
    }

    fn surplus(&self, dir: &Directory, entries: &[Entry]) -> Result<Vec<Box<[u8]>>> {
        let Some(fd) = dir.fd.as_ref().filter(|_| self.what.mirror.is_some_and(|m| m.remove))
        else {
            return Ok(Vec::new());
        };
        let mut surplus = Vec::new();
        for name in directory::names(fd.as_fd())? {
            let theirs = entries.binary_search_by(|theirs| (*theirs.name).cmp(&name));
            let is_kept = match theirs.map(|index| entries[index].stat.kind) {
                Err(_) => false,
                Ok(Kind::Other) => true,
                Ok(Kind::Symlink) if self.what.links != Links::Copy => true,
                Ok(kind) => here(dir, &name)?.is_none_or(|here| here.stat.kind == kind),
            };
            if !is_kept {
                surplus.push(name);
            }
        }
        Ok(surplus)
    }

    fn remove(&mut self, dir: &Directory, at: &TreeName, name: &[u8]) -> Result<()> {
        let Some(mirror) = &self.what.mirror else { return Ok(()) };
        let above = &at.within()[..at.within().len() - name.len()];
        remove(dir.as_fd()?, name, &mut |gone| {
            mirror.makes(Change::Remove, &[above, gone].concat())
        })
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
