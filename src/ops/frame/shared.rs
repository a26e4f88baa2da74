//! The part of a connection that other threads and signal handlers use: whether it is broken,
//! aborted, or belongs to another process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::io::process::fork::Origin;
use crate::io::process::terminal::WindowSize;
use crate::io::wait::Interrupt;

/// The part of a connection that other threads and signal handlers use.
#[derive(Debug)]
pub(crate) struct Shared {
    interrupt: Arc<Interrupt>,
    origin: Origin,
    is_broken: AtomicBool,
    /// No lock: in a child of fork(2) it could be held by a thread that does not exist there.
    cause: OnceLock<Error>,
    /// For the command that runs at the peer. It is made for the first command, and kept: a
    /// signal handler may use it at any time.
    control: OnceLock<Control>,
}

impl Shared {
    pub(super) fn new(interrupt: Arc<Interrupt>) -> Shared {
        let (is_broken, cause) = (AtomicBool::new(false), OnceLock::new());
        Shared { interrupt, origin: Origin::here(), is_broken, cause, control: OnceLock::new() }
    }

    /// Signals and sizes for the command that runs at the peer, if there ever was one.
    pub(crate) fn control(&self) -> Option<&Control> {
        self.control.get()
    }

    /// The same for a new command, without the signals for the one before.
    pub(crate) fn new_control(&self) -> Result<&Control> {
        let control = if let Some(control) = self.control.get() {
            control
        } else {
            let control = Control::new()?;
            self.control.get_or_init(|| control)
        };
        control.clear();
        drop(control.take());
        Ok(control)
    }

    /// Ends the waits of the connection.
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
        if cause.kind() != ErrorKind::Broken {
            let _ = self.cause.set(cause.clone());
        }
        self.is_broken.store(true, Ordering::Release);
    }

    pub(super) fn cause(&self) -> Option<Error> {
        self.cause.get().cloned()
    }

    /// Whether this is the process that made the connection.
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// The descriptors may be closed from now on. In a child of fork(2) there is no thread to
    /// wait for, even if another thread of its parent was aborting.
    pub(super) fn end(&self) {
        if self.is_here() {
            self.interrupt.end();
        }
    }
}

/// Controls a connection from any thread or signal handler. Every method is async-signal-safe.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(super) fn new(shared: &Arc<Shared>) -> Handle {
        Handle(Arc::clone(shared))
    }

    /// Sends a signal to the process group of the command that runs at the peer. The running
    /// call for the command sends it, or the next one does. Only HUP, INT, QUIT, TERM, KILL,
    /// USR1, USR2, CONT, TSTP, STOP, WINCH, ALRM and PIPE have a name on the wire; any other is
    /// [`ErrorKind::Argument`]. [`ErrorKind::State`]: no command was ever started.
    pub fn signal(&self, number: i32) -> Result<()> {
        self.control()?.signal(number)
    }

    /// Changes the size of that command's terminal, in the same way. A size of 0 by 0 is not
    /// sent.
    pub fn resize(&self, size: WindowSize) -> Result<()> {
        self.control()?.resize(size);
        Ok(())
    }

    fn control(&self) -> Result<&Control> {
        if !self.0.origin.is_here() {
            return Err(Error::new(ErrorKind::Forked, ""));
        }
        let control = self.0.control();
        control.ok_or_else(|| Error::new(ErrorKind::State, "no command was started"))
    }

    /// Aborts the connection: waiting and later calls fail with [`ErrorKind::Aborted`]. A socket
    /// is shut down, for all processes that share it.
    ///
    /// In a forked child it does nothing.
    pub fn abort(&self) {
        if self.is_here() {
            self.0.interrupt.abort();
        }
    }

    /// Whether this is the process that made the connection, and not a child of it.
    pub(crate) fn is_here(&self) -> bool {
        self.0.is_here()
    }
}
