//! Processes that this one has inherited, because it is process 1 or a subreaper (prctl(2)): they
//! are reaped once they have ended, since nobody else does it.
//!
//! The kernel does not say whether a child was inherited or started here. The library's own are
//! known. The host waits for those that it has started; so one that has ended is left alone for a
//! round, in which its parent can reap it.

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, child_subreaper, getpid, waitid};

use super::ours::{self, Era};
use super::proc;

/// What the last round has found.
#[derive(Default)]
pub struct Orphans {
    ended: Vec<Ended>,
    era: Option<Era>,
}

/// A child that has ended, and that nobody has reaped.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ended {
    pid: Pid,
    /// Which tells it from a later one of the same number.
    start: u64,
}

impl Orphans {
    /// A round: reaps what had ended before the last one. Call it every second or so.
    pub fn reap(&mut self) {
        let before = std::mem::take(&mut self.ended);
        // A child of the library that was being started then has its place by now.
        let is_settled = self.era.take().is_none_or(|era| era.is_settled());
        if !inherits() || !has_ended_children() {
            return;
        }
        let found = ended_children();
        self.era = Some(Era::begin());
        for ended in found {
            if ours::has(ended.pid) {
                continue;
            }
            if is_settled && before.contains(&ended) {
                // It fails if it was reaped meanwhile.
                let _ = waitid(WaitId::Pid(ended.pid), LOOK);
            } else {
                self.ended.push(ended);
            }
        }
    }
}

/// Whether processes without a parent become this one's children.
fn inherits() -> bool {
    getpid() == Pid::INIT || child_subreaper().is_ok_and(|is_one| is_one.is_some())
}

fn has_ended_children() -> bool {
    let found = waitid(WaitId::All, LOOK | WaitIdOptions::NOWAIT);
    !matches!(found, Ok(None) | Err(Errno::CHILD))
}

fn ended_children() -> Vec<Ended> {
    let (this, mut found) = (getpid(), Vec::new());
    proc::for_each(|pid, stat| {
        if let Some(stat) = stat()
            && (stat.parent, stat.state) == (Some(this), b'Z')
        {
            found.push(Ended { pid, start: stat.start });
        }
    });
    found
}

const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG);
