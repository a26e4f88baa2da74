//! The walk through a tree: in each directory first the files, then the directories.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::ops::file::{Entry, Kind, Links, Transferred};
use crate::wire::name::{Name, turns_back};
use crate::wire::quote;

/// The steps of a walk.
pub(super) trait Side {
    /// Opens a directory, and makes it at the destination; the tree's own has no parent. `None`:
    /// it is the destination of the tree.
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &TreeName,
        entry: Option<&Entry>,
    ) -> Result<Option<(Directory, Vec<Entry>)>>;

    /// Transfers a file, or the target of a link, and returns the number of bytes.
    fn file(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64>;

    /// Makes a link at the destination.
    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()>;

    /// Whether the destination of a mirror has this link.
    fn has_link(&self, _dir: &Directory, _entry: &Entry) -> Result<bool> {
        Ok(false)
    }

    /// The names that a mirror has to remove from a directory of the destination.
    fn surplus(&self, _dir: &Directory, _entries: &[Entry]) -> Result<Vec<Box<[u8]>>> {
        Ok(Vec::new())
    }

    /// Removes one of them.
    fn remove(&mut self, _dir: &Directory, _at: &TreeName, _name: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Finishes a directory and everything in it.
    fn leave(&mut self, dir: &Directory) -> Result<()>;

    /// Whether more can be transferred.
    fn is_in_sync(&self) -> bool;
}

/// A directory of a tree.
#[derive(Default)]
pub(super) struct Directory {
    /// The local one; there may be none if files are only counted.
    pub fd: Option<OwnedFd>,
    /// The permission bits that it gets when it is complete.
    pub mode: Option<u32>,
}

impl Directory {
    pub(super) fn as_fd(&self) -> Result<BorrowedFd<'_>> {
        let none = || Error::new(ErrorKind::State, "the directory is not open");
        self.fd.as_ref().map(OwnedFd::as_fd).ok_or_else(none)
    }
}

/// A place in a tree, as a name on the server.
pub(super) struct TreeName {
    name: Vec<u8>,
    /// Bytes of the name of the tree itself.
    tree: usize,
}

impl TreeName {
    /// The name on the server.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The name in the tree; empty for the tree itself.
    pub(super) fn within(&self) -> &[u8] {
        let slash = usize::from(self.tree > 0);
        self.name.get(self.tree + slash..).unwrap_or_default()
    }

    /// Moves to this name in the directory.
    fn push(&mut self, component: &[u8]) -> Result<()> {
        if !self.name.is_empty() {
            self.name.push(b'/');
        }
        self.name.extend_from_slice(component);
        Name::new(&self.name).map(drop)
    }
}

/// Walks the tree `name` without recursion, and counts in `done`. What cannot be transferred is
/// left out; at the end that is [`ErrorKind::Incomplete`], with the first of these errors. An
/// error that is not one entry's alone ends the walk.
pub(super) fn walk(
    side: &mut dyn Side,
    name: &[u8],
    links: Links,
    done: &mut Transferred,
) -> Result<()> {
    if !name.is_empty() {
        Name::new(name)?;
    }
    let at = TreeName { name: name.to_vec(), tree: name.len() };
    let mut walk = Walk { side, links, at, done, waiting: 0, late: Vec::new(), first: None };
    let mut levels = Vec::new();
    let entered = walk.side.enter(None, &walk.at, None).map_err(|error| walk.context(error))?;
    if let Some((dir, entries)) = entered {
        levels.push(walk.files(dir, entries)?);
    }
    while let Some(mut level) = levels.pop() {
        walk.at.name.truncate(level.length);
        let Some(entry) = level.rest.pop() else {
            if let Err(error) = walk.side.leave(&level.dir) {
                walk.miss(error)?;
            }
            continue;
        };
        walk.waiting -= memory_of(&entry);
        let entered = walk.at.push(&entry.name);
        match entered.and_then(|()| walk.side.enter(Some(&level.dir), &walk.at, Some(&entry))) {
            Ok(Some((dir, entries))) => {
                levels.push(level);
                levels.push(walk.files(dir, entries)?);
            }
            Ok(None) => {
                levels.push(level);
                walk.done.skipped += 1;
            }
            Err(error) => {
                levels.push(level);
                walk.miss(error)?;
            }
        }
    }
    walk.finish()
}

/// A directory whose files are done.
struct Level {
    dir: Directory,
    /// Bytes of its name.
    length: usize,
    /// The directories in it that are still to be visited, the last one first.
    rest: Vec<Entry>,
}

struct Walk<'a> {
    side: &'a mut dyn Side,
    links: Links,
    at: TreeName,
    done: &'a mut Transferred,
    /// Memory of what is still to be visited.
    waiting: usize,
    /// Links that are made last, by their names on the server.
    late: Vec<Entry>,
    /// Why the first entry was left out.
    first: Option<Error>,
}

impl Walk<'_> {
    /// Transfers the files of a directory that was entered.
    fn files(&mut self, dir: Directory, entries: Vec<Entry>) -> Result<Level> {
        self.done.directories += 1;
        let (length, mut rest) = (self.at.name.len(), Vec::new());
        for name in self.side.surplus(&dir, &entries).map_err(|error| self.context(error))? {
            let named = self.at.push(&name);
            if let Err(error) = named.and_then(|()| self.side.remove(&dir, &self.at, &name)) {
                self.miss(error)?;
            }
            self.at.name.truncate(length);
        }
        for entry in entries {
            check_component(&entry.name).map_err(|error| self.context(error))?;
            if entry.stat.kind == Kind::Dir {
                self.wait_for(&entry)?;
                rest.push(entry);
                continue;
            }
            let named = self.at.push(&entry.name);
            if (entry.stat.kind, self.links) == (Kind::Symlink, Links::Refuse) {
                return Err(self.context(Error::new(ErrorKind::Path, "a symbolic link")));
            }
            if let Err(error) = named.and_then(|()| self.entry(&dir, &entry)) {
                self.miss(error)?;
            }
            self.at.name.truncate(length);
        }
        rest.reverse();
        Ok(Level { dir, length, rest })
    }

    /// Transfers what is not a directory.
    fn entry(&mut self, dir: &Directory, entry: &Entry) -> Result<()> {
        let passed = match (entry.stat.kind, self.links) {
            (Kind::File, _) | (Kind::Symlink, Links::Follow) => {
                self.side.file(dir, &self.at, entry).map(|bytes| {
                    self.done.bytes = self.done.bytes.saturating_add(bytes);
                    self.done.files += 1;
                })
            }
            (Kind::Symlink, Links::Copy) => {
                let target = entry.target.as_deref().unwrap_or_default();
                if self.side.has_link(dir, entry)? {
                    self.done.links += 1;
                    return Ok(());
                }
                if turns_back(target) {
                    let late = Entry { name: self.at.name.clone(), ..entry.clone() };
                    self.wait_for(&late)?;
                    self.late.push(late);
                    return Ok(());
                }
                self.link(target)
            }
            _ => {
                self.done.skipped += 1;
                Ok(())
            }
        };
        match passed {
            // The link leads out, to a directory or to nothing.
            Err(error) if entry.stat.kind == Kind::Symlink && is_no_target(&error) => {
                self.done.skipped += 1;
                Ok(())
            }
            passed => passed,
        }
    }

    fn link(&mut self, target: &[u8]) -> Result<()> {
        self.side.link(&self.at, target)?;
        self.done.links += 1;
        Ok(())
    }

    /// Makes the links that had to wait for directories, and reports what was left out.
    fn finish(mut self) -> Result<()> {
        for late in std::mem::take(&mut self.late) {
            self.at.name = late.name;
            match self.link(late.target.as_deref().unwrap_or_default()) {
                Err(error) if is_no_target(&error) => self.done.skipped += 1,
                Err(error) => self.miss(error)?,
                Ok(()) => {}
            }
        }
        let Some(first) = self.first else { return Ok(()) };
        let failed = self.done.failed;
        let detail = format!("{failed} failed, first {}: {}", first.detail(), first.kind().text());
        Err(Error::new(ErrorKind::Incomplete, detail))
    }

    /// Leaves out the current entry because of `error`, if it is that of this entry alone.
    fn miss(&mut self, error: Error) -> Result<()> {
        let error = self.context(error);
        if !is_of_one_entry(error.kind()) || !self.side.is_in_sync() {
            return Err(error);
        }
        self.done.failed += 1;
        self.first.get_or_insert(error);
        Ok(())
    }

    fn wait_for(&mut self, entry: &Entry) -> Result<()> {
        self.waiting += memory_of(entry);
        if self.waiting as u64 > limits::MAX_BODY {
            return Err(Error::new(ErrorKind::TooBig, "too many directories at once"));
        }
        Ok(())
    }

    fn context(&self, error: Error) -> Error {
        error.context(&quote(&self.at.name))
    }
}

/// A server may list what it likes: only the name of one file is acceptable.
fn check_component(name: &[u8]) -> Result<()> {
    Name::new(name)?;
    if name.contains(&b'/') {
        let detail = format!("not the name of one file: {}", quote(name));
        return Err(Error::new(ErrorKind::Path, detail));
    }
    Ok(())
}

fn is_no_target(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Path | ErrorKind::NotFound)
}

/// Whether other entries may do better.
fn is_of_one_entry(kind: ErrorKind) -> bool {
    use ErrorKind as E;
    matches!(
        kind,
        E::Path
            | E::Exists
            | E::NotFound
            | E::Denied
            | E::TooBig
            | E::Checksum
            | E::Busy
            | E::Io
            | E::RemoteDenied
            | E::RemoteNotFound
            | E::RemoteExists
            | E::RemoteTooBig
            | E::RemoteChecksum
            | E::RemoteBusy
            | E::RemoteIo
    )
}

/// The approximate memory of an entry that is still to be visited.
fn memory_of(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.name.len() + entry.target.as_ref().map_or(0, Vec::len)
}
