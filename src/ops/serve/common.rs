//! What the connections of a server have in common.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::log::{Counts, Log, add, take};
use super::options::{Limits, ServerOptions};
use super::service::Services;
use crate::error::Result;

pub(super) struct Common {
    pub(super) options: ServerOptions,
    pub(super) counts: Counts,
    pub(super) log: Log,
    services: OnceLock<Services>,
    /// Bytes of unfinished requests.
    memory: AtomicU64,
    /// When the first stop came.
    pub(super) stopped: OnceLock<Instant>,
}

impl Common {
    pub(super) fn new(mut options: ServerOptions) -> Result<Common> {
        options.limits = options.limits.checked()?;
        Ok(Common {
            counts: Counts::default(),
            log: Log::new(options.log.clone(), options.log_level),
            services: OnceLock::new(),
            memory: AtomicU64::new(0),
            stopped: OnceLock::new(),
            options,
        })
    }

    /// What it serves, from the first turn on.
    pub(super) fn services(&self) -> &Services {
        self.services.get_or_init(Services::default)
    }

    /// Whether it is known what is served.
    pub(super) fn has_services(&self) -> bool {
        self.services.get().is_some()
    }

    pub(super) fn set_services(&self, services: Services) {
        let _ = self.services.set(services);
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    pub(super) fn is_draining(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// Whether the server was stopped this long ago.
    pub(super) fn has_stopped_for(&self, long: Duration) -> bool {
        self.stopped.get().is_some_and(|at| at.elapsed() >= long)
    }

    /// Counts what a connection holds; returns what all hold.
    pub(super) fn count_memory(&self, before: u64, now: u64) -> u64 {
        if before == now {
            return self.memory.load(Ordering::Relaxed);
        }
        let all = self.memory.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        all.wrapping_add(now.wrapping_sub(before))
    }

    /// Counts a request while it is served.
    pub(super) fn count_request(&self) -> impl Drop + use<'_> {
        struct Counted<'a>(&'a AtomicU64);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                take(self.0);
            }
        }
        add(&self.counts.requests_now, 1);
        Counted(&self.counts.requests_now)
    }
}
