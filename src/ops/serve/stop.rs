//! How a server is asked to stop.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::options::Interrupted;
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

/// What calls ask while they wait, in a server without workers: nobody else could end what runs in
/// its one thread. All connections share it.
pub(super) struct Asking {
    stop: Arc<Stop>,
    drain: Duration,
    interrupted: Option<Interrupted>,
    /// When a call has first seen that the server stops.
    seen: OnceLock<Instant>,
}

impl Asking {
    pub(super) fn new(
        stop: &Arc<Stop>,
        drain: Duration,
        interrupted: Option<&Interrupted>,
    ) -> Asking {
        let (stop, interrupted) = (Arc::clone(stop), interrupted.cloned());
        Asking { stop, drain, interrupted, seen: OnceLock::new() }
    }

    /// Whether the call goes on.
    pub(super) fn ask(&self) -> ControlFlow<()> {
        // A signal's handler may have asked the server to stop.
        if self.interrupted.as_ref().is_some_and(|asked| asked().is_break()) {
            return self.stop.interrupt();
        }
        match self.stop.count() {
            0 => ControlFlow::Continue(()),
            1 if self.seen.get_or_init(Instant::now).elapsed() < self.drain => {
                ControlFlow::Continue(())
            }
            _ => self.stop.cut(),
        }
    }
}
