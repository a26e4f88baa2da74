//! What other threads and signal handlers see of a connection: whether it is broken, aborted,
//! or another process's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::io::process::fork::Origin;
use crate::io::wait::Interrupt;

/// What other threads and signal handlers see of a connection.
#[derive(Debug)]
pub(crate) struct Shared {
    interrupt: Arc<Interrupt>,
    origin: Origin,
    is_broken: AtomicBool,
    cause: Mutex<Option<Error>>,
}

impl Shared {
    pub(super) fn new(interrupt: Arc<Interrupt>) -> Shared {
        let (is_broken, cause) = (AtomicBool::new(false), Mutex::new(None));
        Shared { interrupt, origin: Origin::here(), is_broken, cause }
    }

    /// What ends the waits of the connection.
    pub(crate) fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    /// Fails if nothing can be done with the connection any more.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_broken.load(Ordering::Acquire)
            || self.interrupt.is_aborted()
            || !self.origin.is_here()
        {
            return Err(self.unusable());
        }
        Ok(())
    }

    #[cold]
    fn unusable(&self) -> Error {
        if !self.origin.is_here() {
            return Error::new(ErrorKind::Forked, "");
        }
        if self.interrupt.is_aborted() {
            return Error::new(ErrorKind::Aborted, "");
        }
        let cause = self.cause().map(|cause| cause.to_string()).unwrap_or_default();
        Error::new(ErrorKind::Broken, cause)
    }

    /// The connection is out of sync from now on; the first cause is kept.
    pub(crate) fn break_by(&self, cause: &Error) {
        let mut kept = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() && cause.kind() != ErrorKind::Broken {
            *kept = Some(cause.clone());
        }
        self.is_broken.store(true, Ordering::Release);
    }

    pub(super) fn cause(&self) -> Option<Error> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Ends the waits of a connection from elsewhere: any thread, or a signal handler.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(super) fn new(shared: &Arc<Shared>) -> Handle {
        Handle(Arc::clone(shared))
    }

    /// Whatever waits on the connection fails with [`ErrorKind::Aborted`], and so does every
    /// later call. A socket is shut down, which every process that shares it feels.
    ///
    /// Async-signal-safe. In a forked child it does nothing.
    pub fn abort(&self) {
        if self.0.origin.is_here() {
            self.0.interrupt.abort();
        }
    }
}
