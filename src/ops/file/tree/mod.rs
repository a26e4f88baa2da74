//! Whole trees, sent and fetched.

mod get;
mod get_mirror;
mod put;
mod put_mirror;
mod walk;

use std::cell::Cell;
use std::ops::ControlFlow;

pub(super) use get::get_tree;
pub(super) use get_mirror::get_mirror;
pub(super) use put::put_tree;
pub(super) use put_mirror::put_mirror;

use super::{Entry, Kind, Progress, Stat, Transfer, Transferred};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::frame::Connection;

/// Runs `pass` with the options for each file of a tree. If there is a progress callback, it
/// first runs once without a tally, only to count.
fn run<'fd>(
    connection: &mut Connection<'fd>,
    what: &Transfer<'_>,
    done: &mut Transferred,
    mut pass: impl FnMut(
        &mut Connection<'fd>,
        &Transfer<'_>,
        Option<&Tally<'_>>,
        &mut Transferred,
    ) -> Result<()>,
) -> Result<()> {
    // The modification time decides whether a file must be transferred again.
    let what = Transfer { preserve: what.preserve || what.resume, ..*what };
    let Some(progress) = what.progress else {
        return pass(connection, &what, Some(&Tally::default()), done);
    };
    let mut counted = Transferred::default();
    match pass(connection, &what, None, &mut counted) {
        Err(error) if error.kind() != ErrorKind::Incomplete => return Err(error),
        _ => {}
    }
    let total = counted.bytes;
    let tally = Tally { progress: Some(progress), total, passed: Cell::new(0) };
    let report = |name: &[u8], done, _| tally.report(name, done);
    pass(connection, &Transfer { progress: Some(&report), ..what }, Some(&tally), done)
}

/// Whether both are the same file, judged without reading them.
fn is_same(one: &Stat, other: &Stat) -> bool {
    one.kind == Kind::File && (one.size, one.mtime) == (other.size, other.mtime)
}

fn is_same_link(one: &Entry, other: &Entry) -> bool {
    one.stat.kind == Kind::Symlink && one.target == other.target
}

/// Whether more can be transferred. A request of which nothing could be sent does not break the
/// connection.
fn is_in_sync(connection: &Connection<'_>) -> bool {
    connection.shared().check().is_ok() && connection.send_failure().is_none()
}

/// How much of a tree was transferred.
#[derive(Default)]
struct Tally<'a> {
    progress: Option<Progress<'a>>,
    total: u64,
    passed: Cell<u64>,
}

impl Tally<'_> {
    /// `done` bytes of the current file were transferred. The files may have changed since they
    /// were counted.
    fn report(&self, name: &[u8], done: u64) -> ControlFlow<()> {
        let passed = self.passed.get().saturating_add(done);
        self.progress.map_or(ControlFlow::Continue(()), |progress| {
            progress(name, passed, self.total.max(passed))
        })
    }

    /// A file of this many bytes was found.
    fn add(&self, bytes: u64) {
        self.passed.set(self.passed.get().saturating_add(bytes));
    }

    /// A file of this many bytes does not have to be transferred.
    fn pass_over(&self, name: &[u8], bytes: u64) -> Result<()> {
        self.add(bytes);
        match self.report(name, 0) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(ErrorKind::Canceled, "between two files")),
        }
    }
}
