//! A tree that is brought into line with that of the other side: what has to be done for it.

use std::ops::ControlFlow;

use super::transfer::refuse;
use super::{Kind, Stat, Transfer};
use crate::error::{Error, ErrorKind, Result};

/// How a tree is brought into line with its source. Files that differ are transferred with their
/// modes and times, links are made as [`Transfer::links`](super::Transfer::links) says.
/// Directories that are there keep their modes, and none keeps its time.
///
/// A file is the same if it has the size and the modification time of the source. One of the same
/// content gets the mode and the time of the source without being transferred. A mode is another
/// one if it differs for the owner, or gives the others more: the receiver's umask may give them
/// less.
#[derive(Clone, Copy)]
pub struct Mirror<'a> {
    /// Files of the same size are the same if they have the same SHA-256, whatever their times.
    pub digests: bool,
    /// Get: what the server does not have in the tree is removed, and so is what is in the way: a
    /// file with the name of a directory, or the other way round. No link is followed, and nothing
    /// is removed from a file system that is mounted in the tree.
    pub remove: bool,
    /// Nothing is changed: only the changes are reported.
    pub dry_run: bool,
    /// Called before each change, with the name in the tree; it may cancel the transfer.
    pub report: &'a dyn Fn(Change, &[u8]) -> ControlFlow<()>,
}

/// What is done to the destination of a [`Mirror`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file is transferred.
    File,
    /// A file of the same content gets the mode and the modification time of the source.
    Attributes,
    /// A directory is made.
    Directory,
    /// A symbolic link is made, or gets another target.
    Link,
    /// A file or a link is removed, or a directory, after what is in it.
    Remove,
}

impl Mirror<'_> {
    /// Reports a change; whether it is to be made.
    pub(super) fn makes(&self, change: Change, name: &[u8]) -> Result<bool> {
        match (self.report)(change, name) {
            ControlFlow::Continue(()) => Ok(!self.dry_run),
            ControlFlow::Break(()) => Err(Error::new(ErrorKind::Canceled, "before a change")),
        }
    }

    /// Decides about a file, and reports what is done to that of the destination, if there is
    /// one: that change, or the bytes that count without it. `is_equal` compares the contents.
    pub(super) fn step(
        &self,
        name: &[u8],
        source: &Stat,
        dest: Option<&Stat>,
        is_equal: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<ControlFlow<u64, Change>> {
        let Some(change) = self.change(source, dest, is_equal)? else {
            return Ok(ControlFlow::Break(0));
        };
        if self.makes(change, name)? {
            return Ok(ControlFlow::Continue(change));
        }
        if !self.remove && dest.is_some_and(|dest| dest.kind != Kind::File) {
            return Err(in_the_way());
        }
        Ok(ControlFlow::Break(if change == Change::File { source.size } else { 0 }))
    }

    fn change(
        &self,
        source: &Stat,
        dest: Option<&Stat>,
        is_equal: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<Option<Change>> {
        let is_file = |dest: &&Stat| dest.kind == Kind::File;
        let Some(dest) = dest.filter(is_file).filter(|dest| dest.size == source.size) else {
            return Ok(Some(Change::File));
        };
        let is_timely = dest.mtime == source.mtime;
        let is_same = if self.digests { is_equal()? } else { is_timely };
        Ok(match is_same {
            false => Some(Change::File),
            true if is_timely && !is_other_mode(source.mode, dest.mode) => None,
            true => Some(Change::Attributes),
        })
    }
}

/// The transfer of a tree as a mirror needs it; refuses options that do not apply.
pub(super) fn of_tree<'t>(what: &Transfer<'t>) -> Result<Transfer<'t>> {
    refuse(
        "a mirror",
        [
            ("a single file", !what.tree),
            ("mode", what.mode.is_some()),
            ("mtime", what.mtime.is_some()),
            ("overwrite", !what.overwrite),
            ("progress", what.progress.is_some()),
        ],
    )?;
    Ok(Transfer { preserve: true, ..*what })
}

/// The destination has something else of the same name, and it may not be removed.
pub(super) fn in_the_way() -> Error {
    Error::new(ErrorKind::Exists, "the destination has something else of this name")
}

fn is_other_mode(source: u32, dest: u32) -> bool {
    (source ^ dest) & 0o700 != 0 || dest & !source & 0o077 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Stat = Stat { kind: Kind::File, size: 3, mode: 0o654, mtime: 7 };

    fn change(digests: bool, dest: Option<Stat>, is_equal: bool) -> Option<Change> {
        let report = |_: Change, _: &[u8]| ControlFlow::Continue(());
        let mirror = Mirror { digests, remove: false, dry_run: false, report: &report };
        let mut is_compared = false;
        let mut compare = || {
            is_compared = true;
            Ok(is_equal)
        };
        let change = mirror.change(&SOURCE, dest.as_ref(), &mut compare).unwrap();
        assert!(digests || !is_compared);
        change
    }

    #[test]
    fn a_file_differs_by_its_size_its_time_or_its_digest() {
        let (file, attributes) = (Some(Change::File), Some(Change::Attributes));
        let (longer, later) = (Stat { size: 4, ..SOURCE }, Stat { mtime: 8, ..SOURCE });
        for (digests, dest, is_equal, expected) in [
            (false, None, true, file),
            (false, Some(SOURCE), false, None),
            (false, Some(longer), true, file),
            (false, Some(later), true, file),
            (false, Some(Stat { kind: Kind::Dir, ..SOURCE }), true, file),
            (true, Some(SOURCE), true, None),
            (true, Some(SOURCE), false, file),
            (true, Some(longer), true, file),
            (true, Some(later), true, attributes),
            (true, Some(later), false, file),
        ] {
            assert_eq!(change(digests, dest, is_equal), expected, "{digests} {dest:?} {is_equal}");
        }
    }

    #[test]
    fn a_umask_is_no_other_mode() {
        for (mode, expected) in [
            (0o654, None),
            (0o600, None),
            (0o644, None),
            (0o7654, None),
            (0o655, Some(Change::Attributes)),
            (0o674, Some(Change::Attributes)),
            (0o754, Some(Change::Attributes)),
            (0o454, Some(Change::Attributes)),
        ] {
            assert_eq!(change(false, Some(Stat { mode, ..SOURCE }), true), expected, "{mode:o}");
        }
    }
}
