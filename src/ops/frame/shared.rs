//! The part of a connection that other threads and signal handlers use: whether it is broken,
//! aborted, or belongs to another process.

use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::io::process::fork::Origin;
use crate::io::process::terminal::WindowSize;
use crate::io::wait::Interrupt;

/// For [`Shared::usable`]: everything can be done.
const USABLE: u8 = 0;
/// A handshake was begun, and nothing else can be done before it is complete.
const IN_HANDSHAKE: u8 = 1;
const BROKEN: u8 = 2;

/// The part of a connection that other threads and signal handlers use.
#[derive(Debug)]
pub(crate) struct Shared {
    interrupt: Arc<Interrupt>,
    origin: Origin,
    usable: AtomicU8,
    /// No lock: in a child of fork(2) it could be held by a thread that does not exist there.
    cause: OnceLock<Error>,
    /// For the command that runs at the peer. It is made for the first command, and kept: a
    /// signal handler may use it at any time.
    control: OnceLock<Control>,
}

impl Shared {
    fn new(interrupt: Arc<Interrupt>) -> Shared {
        let (usable, cause) = (AtomicU8::new(USABLE), OnceLock::new());
        Shared { interrupt, origin: Origin::here(), usable, cause, control: OnceLock::new() }
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
        if self.usable.load(Ordering::Acquire) != USABLE
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
            let cause = self.cause().filter(|cause| cause.kind() == ErrorKind::Auth);
            let detail = cause.map(|cause| cause.detail().to_owned()).unwrap_or_default();
            return Error::new(ErrorKind::Aborted, detail);
        }
        if self.usable.load(Ordering::Acquire) == IN_HANDSHAKE {
            return Error::new(ErrorKind::State, "the handshake is not complete: call it again");
        }
        let cause = self.cause().map(|cause| cause.to_string()).unwrap_or_default();
        Error::new(ErrorKind::Broken, cause)
    }

    /// The connection is out of sync from now on; the first cause is kept.
    pub(crate) fn break_by(&self, cause: &Error) {
        if cause.kind() != ErrorKind::Broken {
            let _ = self.cause.set(cause.clone());
        }
        self.usable.store(BROKEN, Ordering::Release);
    }

    /// A handshake begins or goes on: only its own calls follow.
    pub(crate) fn enter_handshake(&self) -> Result<()> {
        let (from, to) = (IN_HANDSHAKE, USABLE);
        let _ = self.usable.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        self.check()
    }

    /// A handshake is to be called again.
    pub(crate) fn suspend_handshake(&self) {
        let (from, to) = (USABLE, IN_HANDSHAKE);
        let _ = self.usable.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
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
    fn end(&self) {
        if self.is_here() {
            self.interrupt.end();
        }
    }
}

/// The connection's own share, which ends with it.
#[derive(Debug)]
pub(crate) struct Held(Arc<Shared>);

impl Held {
    pub(super) fn new(interrupt: Arc<Interrupt>) -> Held {
        Held(Arc::new(Shared::new(interrupt)))
    }
}

impl Deref for Held {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end();
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

    /// The same handle, which does not keep the connection's memory.
    pub(crate) fn downgrade(&self) -> WeakHandle {
        WeakHandle(Arc::downgrade(&self.0))
    }
}

/// A connection that may be gone.
#[derive(Debug)]
pub(crate) struct WeakHandle(Weak<Shared>);

impl WeakHandle {
    /// Whether the connection is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }

    /// Aborts the connection, if there still is one, and says why.
    pub(crate) fn revoke(&self, cause: &Error) {
        if let Some(shared) = self.0.upgrade() {
            let _ = shared.cause.set(cause.clone());
            Handle(shared).abort();
        }
    }
}
