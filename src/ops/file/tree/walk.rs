//! The walk through a tree: in each directory first the files, then the directories.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::ops::file::{Entry, Kind, Links, Transferred};
use crate::wire::name::Name;
use crate::wire::quote;

/// The steps of a walk.
pub(super) trait Side {
    /// Opens a directory, and makes it at the destination; the tree's own has no parent.
    fn enter(
        &mut self,
        above: Option<&Directory>,
        at: &TreeName,
        entry: Option<&Entry>,
    ) -> Result<(Directory, Vec<Entry>)>;

    /// Transfers a file, or the target of a link, and returns the number of bytes.
    fn file(&mut self, dir: &Directory, at: &TreeName, entry: &Entry) -> Result<u64>;

    /// Makes a link at the destination.
    fn link(&mut self, at: &TreeName, target: &[u8]) -> Result<()>;

    /// Finishes a directory and everything in it.
    fn leave(&mut self, dir: &Directory) -> Result<()>;
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

    /// Moves to this name in the directory. The name is untrusted: it must be one acceptable
    /// component.
    fn push(&mut self, component: &[u8]) -> Result<()> {
        Name::new(component)?;
        if component.contains(&b'/') {
            let detail = format!("not the name of one file: {}", quote(component));
            return Err(Error::new(ErrorKind::Path, detail));
        }
        if !self.name.is_empty() {
            self.name.push(b'/');
        }
        self.name.extend_from_slice(component);
        Name::new(&self.name).map(drop)
    }
}

/// Walks the tree `name` without recursion, and counts in `done`. The first error ends it, and
/// names the place.
pub(super) fn walk(
    side: &mut dyn Side,
    name: &[u8],
    links: Links,
    done: &mut Transferred,
) -> Result<()> {
    if !name.is_empty() {
        Name::new(name)?;
    }
    let mut walk = Walk {
        side,
        links,
        at: TreeName { name: name.to_vec(), tree: name.len() },
        done,
        waiting: 0,
    };
    let mut levels = vec![walk.visit(None, None)?];
    while let Some(mut level) = levels.pop() {
        walk.at.name.truncate(level.length);
        let Some(entry) = level.rest.pop() else {
            walk.side.leave(&level.dir).map_err(|error| walk.context(error))?;
            continue;
        };
        walk.waiting -= memory_of(&entry);
        walk.at.push(&entry.name)?;
        let below = walk.visit(Some(&level.dir), Some(&entry))?;
        levels.push(level);
        levels.push(below);
    }
    Ok(())
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
    /// Memory of the directories that are still to be visited.
    waiting: usize,
}

impl Walk<'_> {
    /// Enters a directory, and transfers its files.
    fn visit(&mut self, above: Option<&Directory>, entry: Option<&Entry>) -> Result<Level> {
        let entered = self.side.enter(above, &self.at, entry);
        let (dir, entries) = entered.map_err(|error| self.context(error))?;
        self.done.directories += 1;
        let (length, mut rest) = (self.at.name.len(), Vec::new());
        for entry in entries {
            if entry.stat.kind == Kind::Dir {
                self.waiting += memory_of(&entry);
                if self.waiting as u64 > limits::MAX_BODY {
                    return Err(Error::new(ErrorKind::TooBig, "too many directories at once"));
                }
                rest.push(entry);
                continue;
            }
            match (entry.stat.kind, self.links) {
                (Kind::File, _) | (Kind::Symlink, Links::Follow) => {
                    self.at.push(&entry.name)?;
                    let passed = self.side.file(&dir, &self.at, &entry);
                    let passed = passed.map_err(|error| self.context(error))?;
                    self.done.bytes = self.done.bytes.saturating_add(passed);
                    self.done.files += 1;
                }
                (Kind::Symlink, Links::Copy) => {
                    self.at.push(&entry.name)?;
                    let target = entry.target.as_deref().unwrap_or_default();
                    let made = self.side.link(&self.at, target);
                    made.map_err(|error| self.context(error))?;
                    self.done.links += 1;
                }
                (Kind::Symlink, Links::Refuse) => {
                    self.at.push(&entry.name)?;
                    let error = Error::new(ErrorKind::Path, "a symbolic link");
                    return Err(self.context(error));
                }
                _ => self.done.skipped += 1,
            }
            self.at.name.truncate(length);
        }
        rest.reverse();
        Ok(Level { dir, length, rest })
    }

    fn context(&self, error: Error) -> Error {
        error.context(&quote(&self.at.name))
    }
}

/// The approximate memory of a directory that is still to be visited.
fn memory_of(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.name.len()
}
