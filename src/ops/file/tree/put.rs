//! A tree that is sent.

use std::os::fd::{AsFd as _, BorrowedFd};

use super::walk::{Directory, Path, Side, walk};
use super::{Tally, is_same, options_for_all, run};
use crate::error::Result;
use crate::io::deadline::Patience;
use crate::io::fs::check;
use crate::io::fs::directory;
use crate::io::fs::path;
use crate::io::fs::root::Root;
use crate::io::fs::store::StoreOptions;
use crate::ops::Duplex;
use crate::ops::file::client::{self, list_by, make_directory_by, make_link_by};
use crate::ops::file::{Entry, Kind, Options, Stat, TreeTransfer};
use crate::wire::name::{Name, check_link_target};

/// Stores the directory at `path`, and all that is in it, on the server as `name`; an
/// empty name is its root. What is there already and not in the tree stays.
///
/// Each file is stored as by [`put`](crate::ops::file::put), with the options for it; the first
/// error ends it all and says where it was met, and what went before is complete. With
/// `resume`, which implies `preserve`, files that are there with the same size and time of
/// modification do not pass again. With `preserve` the owner of a directory keeps all
/// rights in it, as it could not be filled otherwise.
///
/// The tree is gone through by descriptors: no link leads out of it, however it is changed
/// meanwhile. What is neither file, directory nor link is left out and counted; a name that
/// the server would not take is [`Path`](crate::ErrorKind::Path). `links` decides about
/// links: to follow one that leads out of the tree, to a directory or to nothing, or to copy
/// one that may lead out, is an error.
pub fn put_tree(
    duplex: Duplex<'_>,
    name: &[u8],
    path: &std::path::Path,
    options: &Options<'_>,
) -> Result<TreeTransfer> {
    let options = options_for_all(options)?;
    let patience = options.patience();
    let top = path::open_directory(path)?;
    let top = Root::new(top.as_fd())?;
    let count = || {
        let mut sender = Sender::new(duplex, top, &options, patience, None);
        walk(&mut sender, name, options.links)
    };
    run(&options, count, |options, tally| {
        let mut sender = Sender::new(duplex, top, options, patience, Some(tally));
        walk(&mut sender, name, options.links)
    })
}

struct Sender<'a> {
    duplex: Duplex<'a>,
    top: Root<'a>,
    options: &'a Options<'a>,
    patience: Patience,
    /// None: nothing is sent, only counted.
    tally: Option<&'a Tally<'a>>,
    /// What the server has in the present directory, in the order of the names.
    theirs: Vec<Entry>,
}

impl<'a> Sender<'a> {
    fn new(
        duplex: Duplex<'a>,
        top: Root<'a>,
        options: &'a Options<'a>,
        patience: Patience,
        tally: Option<&'a Tally<'a>>,
    ) -> Sender<'a> {
        Sender { duplex, top, options, patience, tally, theirs: Vec::new() }
    }

    /// Makes the directory on the server, and takes note of what is there already.
    fn make(&mut self, dir: BorrowedFd<'_>, at: &Path, is_top: bool) -> Result<()> {
        let Sender { duplex, options, patience, .. } = *self;
        if !at.name().is_empty() {
            let store = StoreOptions {
                mode: options.preserve.then_some(check::stat(dir)?.mode & 0o777 | 0o700),
                parents: options.store.parents && is_top,
                ..options.store
            };
            make_directory_by(duplex, at.name(), &Options { store, ..*options }, patience)?;
        }
        if options.resume {
            self.theirs = list_by(duplex, at.name(), patience)?;
            self.theirs.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        }
        Ok(())
    }

    /// Whether the server has the file as it is here.
    fn is_there(&self, name: &[u8], here: &Stat) -> bool {
        if !self.options.resume || self.options.store.mtime.is_some() {
            return false;
        }
        let found = self.theirs.binary_search_by(|theirs| (*theirs.name).cmp(name));
        found.is_ok_and(|index| is_same(&self.theirs[index].stat, here))
    }
}

impl Side for Sender<'_> {
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &Path,
        entry: Option<&Entry>,
    ) -> Result<(Directory, Vec<Entry>)> {
        let dir = match above.zip(entry) {
            Some((above, entry)) => {
                Root::new(above.as_fd()?)?.open_directory(Some(Name::new(&entry.name)?))?
            }
            None => self.top.open_directory(None)?,
        };
        if self.tally.is_some() {
            self.make(dir.as_fd(), at, entry.is_none())?;
        }
        let mut entries = Vec::new();
        for name in directory::names(dir.as_fd())? {
            entries.extend(directory::entry(dir.as_fd(), &name)?);
        }
        Ok((Directory { fd: Some(dir), mode: None }, entries))
    }

    fn file(&mut self, dir: &Directory, at: &Path, entry: &Entry) -> Result<u64> {
        let Sender { duplex, options, patience, top, .. } = *self;
        let followed = match entry.stat.kind {
            Kind::Symlink => Some(top.open_followed(Name::new(at.within())?)?),
            _ => None,
        };
        let here = followed.as_ref().map_or(entry.stat, |(_, stat)| *stat);
        let Some(tally) = self.tally else { return Ok(here.size) };
        if self.is_there(&entry.name, &here) {
            return tally.pass_over(here.size).map(|()| 0);
        }
        let (file, stat) = match followed {
            Some(followed) => followed,
            None => Root::new(dir.as_fd()?)?.open_file(Name::new(&entry.name)?)?,
        };
        let (name, size) = (at.name(), Some(stat.size));
        let sent = client::put_by(duplex, name, file.as_fd(), size, options, patience)?;
        tally.add(sent.bytes);
        Ok(sent.bytes)
    }

    fn link(&mut self, at: &Path, target: &[u8]) -> Result<()> {
        check_link_target(Name::new(at.within())?, target)?;
        match self.tally {
            Some(_) => make_link_by(self.duplex, at.name(), target, self.options, self.patience),
            None => Ok(()),
        }
    }

    fn leave(&mut self, _dir: &Directory) -> Result<()> {
        Ok(())
    }
}
