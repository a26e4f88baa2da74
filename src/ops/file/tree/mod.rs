//! Whole trees, sent and taken.

mod get;
mod put;
mod walk;

use std::cell::Cell;
use std::ops::ControlFlow;

pub use get::get_tree;
pub use put::put_tree;

use super::{Kind, Options, Progress, Stat, TreeTransfer};
use crate::error::{Error, ErrorKind, Result};

/// Runs `pass` with the options for each file of a tree. If somebody wants to be told how
/// much of the tree has passed, `count` is run first.
fn run(
    options: &Options<'_>,
    count: impl FnOnce() -> Result<TreeTransfer>,
    pass: impl FnOnce(&Options<'_>, &Tally<'_>) -> Result<TreeTransfer>,
) -> Result<TreeTransfer> {
    let Some(progress) = options.progress else {
        return pass(options, &Tally::default());
    };
    let total = count()?.bytes;
    let tally = Tally { progress: Some(progress), total, passed: Cell::new(0) };
    let report = |done, _| tally.report(done);
    pass(&Options { progress: Some(&report), ..*options }, &tally)
}

/// What a tree's files have in common; refuses what makes no sense for them.
fn options_for_all<'a>(options: &Options<'a>) -> Result<Options<'a>> {
    let refused = |detail| Err(Error::new(ErrorKind::Argument, detail));
    if options.offset > 0 {
        return refused("a tree has no offset");
    }
    if !options.reply {
        return refused("a tree needs a server that replies");
    }
    // The time of modification is what tells whether a file has to pass again.
    Ok(Options { preserve: options.preserve || options.resume, ..*options })
}

/// Whether one is the file that the other one is, as far as can be told without reading.
fn is_same(one: &Stat, other: &Stat) -> bool {
    one.kind == Kind::File && (one.size, one.mtime) == (other.size, other.mtime)
}

/// How much of a tree has passed.
#[derive(Default)]
struct Tally<'a> {
    progress: Option<Progress<'a>>,
    total: u64,
    passed: Cell<u64>,
}

impl Tally<'_> {
    /// `done` bytes of the present file have passed. The files may have changed since they
    /// were counted.
    fn report(&self, done: u64) -> ControlFlow<()> {
        let passed = self.passed.get().saturating_add(done);
        self.progress
            .map_or(ControlFlow::Continue(()), |progress| progress(passed, self.total.max(passed)))
    }

    /// A file of so many bytes is there.
    fn add(&self, bytes: u64) {
        self.passed.set(self.passed.get().saturating_add(bytes));
    }

    /// A file of so many bytes does not have to pass.
    fn pass_over(&self, bytes: u64) -> Result<()> {
        self.add(bytes);
        match self.report(0) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(ErrorKind::Canceled, "between two files")),
        }
    }
}
