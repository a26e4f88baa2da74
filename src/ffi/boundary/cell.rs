//! A connection that C may share between threads: which directions are in use.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::ops::exec::Running;
use crate::ops::frame::{Connection, Handle, ReceiveHalf, SendHalf};

/// A connection, and the directions that a call is using. Another call in the same direction is
/// [`ErrorKind::Busy`], also from a signal handler that interrupted the first.
///
/// After fork(2) during a call the child has an object that is halfway changed.
pub struct ConnectionCell {
    busy: AtomicU8,
    handle: Handle,
    /// From a box.
    connection: NonNull<Connection<'static>>,
    /// The running streamed command, which uses the connection until it has ended.
    running: ManuallyDrop<UnsafeCell<Slot>>,
    is_running: AtomicBool,
    /// Both were moved out. The bits of both directions stay set then.
    is_taken: AtomicBool,
}

/// A streamed command, if there is one: most connections never have any.
pub type Slot = Option<Box<Running>>;

// SAFETY: `connection` and `running` are used only by the holder of a direction's bit, one
// thread at a time; everything in them may be used by any thread.
unsafe impl Sync for ConnectionCell {}
// SAFETY: it owns both.
unsafe impl Send for ConnectionCell {}

const RECEIVING: u8 = 1;
const SENDING: u8 = 2;
const BOTH: u8 = RECEIVING | SENDING;

impl ConnectionCell {
    pub fn new(connection: Box<Connection<'static>>) -> ConnectionCell {
        let handle = connection.handle();
        ConnectionCell {
            busy: AtomicU8::new(0),
            handle,
            connection: NonNull::from(Box::leak(connection)),
            running: ManuallyDrop::new(UnsafeCell::new(None)),
            is_running: AtomicBool::new(false),
            is_taken: AtomicBool::new(false),
        }
    }

    /// Moves the connection out, which is out of sync if a streamed command is running. Later calls
    /// are [`ErrorKind::State`]. [`ErrorKind::Busy`]: another call is using it.
    pub fn take(&self) -> Result<Box<Connection<'static>>> {
        let turn = self.enter(BOTH)?;
        self.is_taken.store(true, Ordering::Release);
        // Nobody enters any more.
        std::mem::forget(turn);
        // SAFETY: nobody uses them, and with both bits set nobody will. They are not dropped again.
        let (connection, running) =
            unsafe { (Box::from_raw(self.connection.as_ptr()), self.running.get().read()) };
        if running.is_some() {
            connection.shared().break_by(&is_streaming());
        }
        Ok(connection)
    }

    /// Aborts the connection, unless it was moved out.
    pub fn abort(&self) {
        if !self.is_taken.load(Ordering::Acquire) {
            self.handle.abort();
        }
    }

    /// Its interrupt.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a call that uses both directions, if no streamed command is running.
    pub fn both<T>(&self, work: impl FnOnce(&mut Connection<'static>) -> Result<T>) -> Result<T> {
        self.any(|connection, running| match running {
            None => work(connection),
            Some(_) => Err(is_streaming()),
        })
    }

    /// Starts a streamed command.
    pub fn start(
        &self,
        work: impl FnOnce(&mut Connection<'static>) -> Result<Running>,
    ) -> Result<()> {
        self.any(|connection, running| {
            if running.is_some() {
                return Err(is_streaming());
            }
            *running = Some(Box::new(work(connection)?));
            Ok(())
        })
    }

    /// Runs a call that uses both directions, also during a streamed command.
    pub fn any<T>(
        &self,
        work: impl FnOnce(&mut Connection<'static>, &mut Slot) -> Result<T>,
    ) -> Result<T> {
        let _turn = self.enter(BOTH)?;
        // SAFETY: nobody else has a bit, so nobody else has a reference.
        let (connection, running) =
            unsafe { (&mut *self.connection.as_ptr(), &mut *self.running.get()) };
        let outcome = work(connection, running);
        self.is_running.store(running.is_some(), Ordering::Relaxed);
        outcome
    }

    /// Runs a call that receives.
    #[inline]
    pub fn receive<T>(
        &self,
        work: impl FnOnce(ReceiveHalf<'_, 'static>) -> Result<T>,
    ) -> Result<T> {
        let connection = self.connection.as_ptr();
        // SAFETY: it is never changed.
        let is_duplex = unsafe { (*connection).is_duplex };
        let _turn = self.enter(if is_duplex { RECEIVING } else { BOTH })?;
        self.check_free()?;
        // SAFETY: a thread that sends meanwhile has a reference to the field `sending` only,
        // which is not used here then. `shared` is never changed.
        let half = unsafe {
            let sending = if is_duplex { None } else { Some(&mut (*connection).sending) };
            let receiving = &mut (*connection).receiving;
            ReceiveHalf { receiving, sending, shared: &(*connection).shared }
        };
        work(half)
    }

    /// Runs a call that sends.
    #[inline]
    pub fn send<T>(&self, work: impl FnOnce(SendHalf<'_, 'static>) -> Result<T>) -> Result<T> {
        let connection = self.connection.as_ptr();
        // SAFETY: it is never changed.
        let is_duplex = unsafe { (*connection).is_duplex };
        let _turn = self.enter(if is_duplex { SENDING } else { BOTH })?;
        self.check_free()?;
        // SAFETY: as above, the other way round.
        let half = unsafe {
            let receiving = if is_duplex { None } else { Some(&mut (*connection).receiving) };
            let sending = &mut (*connection).sending;
            SendHalf { sending, receiving, shared: &(*connection).shared }
        };
        work(half)
    }

    /// Whether no streamed command is running. Starting and ending one needs both directions, so
    /// holding one bit is enough to check.
    #[inline]
    fn check_free(&self) -> Result<()> {
        if self.is_running.load(Ordering::Relaxed) { Err(is_streaming()) } else { Ok(()) }
    }

    #[inline]
    fn enter(&self, directions: u8) -> Result<Turn<'_>> {
        let mut busy = self.busy.load(Ordering::Relaxed);
        loop {
            if busy & directions != 0 {
                return Err(self.taken());
            }
            let taken = busy | directions;
            let order = (Ordering::Acquire, Ordering::Relaxed);
            match self.busy.compare_exchange_weak(busy, taken, order.0, order.1) {
                Ok(_) => return Ok(Turn { busy: &self.busy, directions }),
                Err(now) => busy = now,
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn taken(&self) -> Error {
        if self.is_taken.load(Ordering::Acquire) {
            Error::new(ErrorKind::State, "its request is done, and the connection the server's")
        } else if self.handle.is_here() {
            Error::new(ErrorKind::Busy, "another call is using this connection")
        } else {
            Error::new(ErrorKind::Forked, "another thread was using it during fork(2)")
        }
    }
}

impl Drop for ConnectionCell {
    fn drop(&mut self) {
        if *self.is_taken.get_mut() {
            return;
        }
        if *self.busy.get_mut() == 0 {
            // SAFETY: they are not used again.
            unsafe {
                ManuallyDrop::drop(&mut self.running);
                drop(Box::from_raw(self.connection.as_ptr()));
            }
        } else {
            // Its memory is not touched. Its descriptors are closed, since no call changes them.
            // SAFETY: as above, and it is never freed.
            drop(unsafe { self.connection.as_mut() }.take_owned());
        }
    }
}

/// The directions that a call is using, until it returns.
struct Turn<'a> {
    busy: &'a AtomicU8,
    directions: u8,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.directions == BOTH {
            // Nobody else has a bit, and a store is cheaper.
            self.busy.store(0, Ordering::Release);
        } else {
            self.busy.fetch_and(!self.directions, Ordering::Release);
        }
    }
}

#[cold]
#[inline(never)]
fn is_streaming() -> Error {
    Error::new(ErrorKind::State, "a streamed command is running: see exec_finish()")
}
