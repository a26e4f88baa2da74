//! How a server is asked to stop.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::Result;
use crate::io::poller::Bell;

/// Asks a server to stop.
pub(super) struct Stop {
    count: AtomicU32,
    pub(super) bell: Bell,
    /// A call was ended by it.
    pub(super) has_cut: AtomicBool,
}

impl Stop {
    pub(super) fn new() -> Result<Stop> {
        let (count, has_cut) = (AtomicU32::new(0), AtomicBool::new(false));
        Ok(Stop { count, bell: Bell::new()?, has_cut })
    }

    /// Async-signal-safe.
    pub(super) fn ask(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.bell.ring();
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The call must end that asks this.
    pub(super) fn cut(&self) -> ControlFlow<()> {
        self.has_cut.store(true, Ordering::Release);
        ControlFlow::Break(())
    }
}
