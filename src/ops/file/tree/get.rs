//! A tree that is taken.

use std::os::fd::{AsFd as _, OwnedFd};

use super::walk::{Directory, Path, Side, walk};
use super::{Tally, is_same, options_for_all, run};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::fs::directory;
use crate::io::fs::path;
use crate::io::fs::root::Root;
use crate::io::fs::store::StoreOptions;
use crate::ops::Duplex;
use crate::ops::file::client::{self, Place, list_by, stat_by};
use crate::ops::file::{Entry, Links, Options, TreeTransfer};
use crate::wire::name::Name;
use crate::wire::quote;

/// Takes the server's directory `name`, an empty name being its root, and all that is in
/// it, to the directory at `path`, which is made if it is missing. What is there already
/// and not in the tree stays.
///
/// Each file is taken as by [`get_path`](crate::ops::file::get_path), with the options for it;
/// the first error ends it all and says where it was met, and what went before is complete.
/// With `resume`, which implies `preserve`, files that are here with the same size and time
/// of modification do not pass again. `preserve` gives the directories that are made here
/// their mode as well.
///
/// Nothing the server says leads out of the directory, and no link in it is followed. A
/// name that is not one acceptable component is [`ErrorKind::Path`], as is a tree deeper
/// than a name can be; two entries of one name are [`ErrorKind::BadReply`]. Links are made
/// here with `Links::Copy` alone, and only such as cannot lead out of the tree;
/// `Links::Follow` is [`ErrorKind::Argument`].
pub fn get_tree(
    duplex: Duplex<'_>,
    name: &[u8],
    path: &std::path::Path,
    options: &Options<'_>,
) -> Result<TreeTransfer> {
    let options = options_for_all(options)?;
    if options.links == Links::Follow {
        return Err(Error::new(ErrorKind::Argument, "a server's links are not followed"));
    }
    let patience = options.patience();
    let count = || {
        let mut receiver = Receiver::new(duplex, path, &options, patience, None);
        walk(&mut receiver, name, options.links)
    };
    run(&options, count, |options, tally| {
        let mut receiver = Receiver::new(duplex, path, options, patience, Some(tally));
        walk(&mut receiver, name, options.links)
    })
}

struct Receiver<'a> {
    duplex: Duplex<'a>,
    path: &'a std::path::Path,
    options: &'a Options<'a>,
    patience: Patience,
    /// None: nothing is taken, only counted.
    tally: Option<&'a Tally<'a>>,
    /// The directory at the path.
    top: Option<OwnedFd>,
}

impl<'a> Receiver<'a> {
    fn new(
        duplex: Duplex<'a>,
        path: &'a std::path::Path,
        options: &'a Options<'a>,
        patience: Patience,
        tally: Option<&'a Tally<'a>>,
    ) -> Receiver<'a> {
        Receiver { duplex, path, options, patience, tally, top: None }
    }

    /// What the server says is in the directory.
    fn list(&self, at: &Path) -> Result<Vec<Entry>> {
        let mut entries = list_by(self.duplex, at.name(), self.patience)?;
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            None => Ok(entries),
            Some(pair) => {
                let detail = format!("the list has {} twice", quote(&pair[0].name));
                Err(Error::new(ErrorKind::BadReply, detail))
            }
        }
    }

    fn make_top(&mut self, at: &Path) -> Result<Directory> {
        let is_new = path::make_directory(self.path, self.options.store.sync)?;
        let top = path::open_directory(self.path)?;
        let mode = if is_new && self.options.preserve {
            Some(stat_by(self.duplex, at.name(), self.patience)?.mode & 0o777)
        } else {
            None
        };
        let fd = Some(Root::new(top.as_fd())?.open_directory(None)?);
        self.top = Some(top);
        Ok(Directory { fd, mode })
    }

    fn make(&self, above: &Directory, entry: &Entry) -> Result<Directory> {
        let (above, name) = (above.as_fd()?, Name::new(&entry.name)?);
        let is_new = directory::entry(above, &entry.name)?.is_none();
        let mode = self.options.preserve.then_some(entry.stat.mode & 0o777);
        let root = Root::new(above)?;
        let store = StoreOptions {
            mode: mode.map(|mode| mode | 0o700),
            parents: false,
            ..self.options.store
        };
        directory::make_directory(root, name, &store)?;
        let fd = Some(root.open_directory(Some(name))?);
        Ok(Directory { fd, mode: mode.filter(|_| is_new) })
    }

    /// Whether the file is here as the server has it.
    fn is_here(&self, dir: &Directory, entry: &Entry) -> Result<bool> {
        if !self.options.resume || self.options.store.mtime.is_some() {
            return Ok(false);
        }
        let here = directory::entry(dir.as_fd()?, &entry.name)?;
        Ok(here.is_some_and(|here| is_same(&here.stat, &entry.stat)))
    }
}

impl Side for Receiver<'_> {
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &Path,
        entry: Option<&Entry>,
    ) -> Result<(Directory, Vec<Entry>)> {
        let entries = self.list(at)?;
        let dir = match above.zip(entry) {
            _ if self.tally.is_none() => Directory::default(),
            Some((above, entry)) => self.make(above, entry)?,
            None => self.make_top(at)?,
        };
        Ok((dir, entries))
    }

    fn file(&mut self, dir: &Directory, at: &Path, entry: &Entry) -> Result<u64> {
        let Receiver { duplex, options, patience, .. } = *self;
        let Some(tally) = self.tally else { return Ok(entry.stat.size) };
        if self.is_here(dir, entry)? {
            return tally.pass_over(entry.stat.size).map(|()| 0);
        }
        let place = Place { root: Root::new(dir.as_fd()?)?, name: Name::new(&entry.name)? };
        let got = client::get_by(duplex, at.name(), place, options, patience)?;
        tally.add(got.bytes);
        Ok(got.bytes)
    }

    fn link(&mut self, at: &Path, target: &[u8]) -> Result<()> {
        let Some(top) = &self.top else { return Ok(()) };
        let name = Name::new(at.within())?;
        directory::make_link(Root::new(top.as_fd())?, name, target, &self.options.store)
    }

    fn leave(&mut self, dir: &Directory) -> Result<()> {
        match (&dir.fd, dir.mode) {
            (Some(fd), Some(mode)) => directory::restrict(fd.as_fd(), mode),
            _ => Ok(()),
        }
    }
}
