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
    /// The host has ended a call.
    is_interrupted: AtomicBool,
}

impl Stop {
    pub(super) fn new() -> Result<Stop> {
        let (has_cut, is_interrupted) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Stop { count: AtomicU32::new(0), bell: Bell::new()?, has_cut, is_interrupted })
    }

    /// Async-signal-safe.
    pub(super) fn ask(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.bell.ring();
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The host wants its thread back.
    pub(super) fn interrupt(&self) -> ControlFlow<()> {
        self.is_interrupted.store(true, Ordering::Release);
        ControlFlow::Break(())
    }

    /// Whether it has wanted that since this was last asked.
    pub(super) fn was_interrupted(&self) -> bool {
        self.is_interrupted.swap(false, Ordering::AcqRel)
    }

    /// The call must end that asks this.
    pub(super) fn cut(&self) -> ControlFlow<()> {
        self.has_cut.store(true, Ordering::Release);
        ControlFlow::Break(())
    }
}
