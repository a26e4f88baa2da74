//! A directory that is brought into line with another one, here or at a host.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::Path;

use framefd::ErrorKind;
use framefd::file::{self, Change, Mirror, Transfer, Transferred};
use framefd::frame::Connection;
use rustix::fs::{Mode, OFlags};

use crate::args::Sync;
use crate::failure::{Failure, Result, SOME};
use crate::files::{Session, links};
use crate::hosts::is_place;
use crate::output::{one_line, show, shown};
use crate::run::without_number;

/// What was done, and what is shown of it.
#[derive(Default)]
struct Done {
    copied: Cell<u64>,
    set: Cell<u64>,
    made: Cell<u64>,
    linked: Cell<u64>,
    deleted: Cell<u64>,
    unshown: RefCell<Option<Failure>>,
}

type Work =
    fn(&mut Connection<'static>, &Transfer<'_>, &Mirror<'_>) -> framefd::Result<Transferred>;

/// Runs `framefd sync`.
pub fn run(arguments: &Sync) -> Result<u8> {
    let is_get = match (is_place(&arguments.from), is_place(&arguments.to)) {
        (true, false) => true,
        (false, true) => false,
        _ => {
            let line = "sync: one of the two has to be HOST:DIRECTORY, and the other a directory \
                        here: begin it with ./ if it has a colon";
            return Err(Failure::new(line));
        }
    };
    if arguments.delete && !is_get {
        let line = "sync: --delete is for a directory here: nothing can be deleted at a host but \
                    by a command (see framefd run)";
        return Err(Failure::new(line));
    }
    let (place, local, work): (_, _, Work) = if is_get {
        (&arguments.from, &arguments.to, |c, what, mirror| file::mirror_get(c, what, mirror, None))
    } else {
        (&arguments.to, &arguments.from, |c, what, mirror| file::mirror_put(c, what, mirror, None))
    };
    if local.is_empty() {
        return Err(Failure::new("sync: the directory here has no name: . is the current one"));
    }
    if !is_get && std::fs::metadata(local).is_ok_and(|meta| !meta.is_dir()) {
        let line = format!("{}: it is no directory: for a file there is framefd put", shown(local));
        return Err(Failure::new(line).with_status(SOME));
    }
    let (mut session, path) = Session::open("sync", place, &arguments.peer)?;
    session.again = "run it again, and it goes on";
    let path = path.strip_suffix(b"/").unwrap_or(&path);
    let done = Done::default();
    let report = |change: Change, name: &[u8]| done.report(arguments, change, name);
    let mirror = Mirror {
        digests: arguments.checksum,
        remove: arguments.delete,
        dry_run: arguments.dry_run,
        report: &report,
    };
    let so_far = Cell::new(Transferred::default());
    let what = Transfer {
        resume: true,
        // All of it once, and not each file.
        sync: !is_get,
        links: links(arguments.links),
        so_far: Some(&so_far),
        ..Transfer::tree(path, Path::new(local))
    };
    let outcome = work(&mut session.connection, &what, &mirror);
    if let Some(failure) = done.unshown.take() {
        return Err(failure);
    }
    let is_done = match &outcome {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::Incomplete,
    };
    if is_done && !arguments.quiet {
        show(&done.summary(arguments, &so_far.get()))?;
    }
    if is_done && is_get && !arguments.dry_run {
        let all = rustix::fs::open(local, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        all.and_then(rustix::fs::syncfs).map_err(|errno| {
            let why = without_number(&errno.into());
            Failure::new(format!("{}: {why}: run it again", shown(local))).with_status(SOME)
        })?;
    }
    outcome.map(|_| 0).map_err(|error| session.failed(path, &error))
}

impl Done {
    /// Counts a change, and shows it if that is wanted.
    fn report(&self, arguments: &Sync, change: Change, name: &[u8]) -> ControlFlow<()> {
        let (verb, count) = match change {
            Change::File => ("copy", &self.copied),
            Change::Attributes => ("set", &self.set),
            Change::Directory => ("make", &self.made),
            Change::Link => ("link", &self.linked),
            Change::Remove => ("delete", &self.deleted),
        };
        count.set(count.get() + 1);
        let is_shown = arguments.verbose || arguments.dry_run || change == Change::Remove;
        if !is_shown || arguments.quiet {
            return ControlFlow::Continue(());
        }
        let name = if name.is_empty() { ".".to_owned() } else { one_line(name) };
        match show(format!("{verb} {name}\n").as_bytes()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.unshown.replace(Some(failure));
                ControlFlow::Break(())
            }
        }
    }

    fn summary(&self, arguments: &Sync, done: &Transferred) -> Vec<u8> {
        let verb = if arguments.dry_run { "would sync" } else { "sync" };
        let [copied, set, made, linked, deleted] =
            [&self.copied, &self.set, &self.made, &self.linked, &self.deleted].map(Cell::get);
        let left_out = done.skipped + done.failed;
        format!(
            "{verb} {}: {} bytes, copied: {copied}, set: {set}, made: {made}, links: {linked}, \
             deleted: {deleted}, left out: {left_out}\n",
            shown(&arguments.to),
            done.bytes
        )
        .into_bytes()
    }
}
