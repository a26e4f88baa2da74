//! A connection that C shares between threads: who is in which direction of it.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::ops::frame::{Connection, Handle, ReceiveHalf, SendHalf};

/// A connection, and the directions that a call is in. A second call in one of them is
/// [`ErrorKind::Busy`], also one by a signal handler that interrupted the first.
///
/// A child that fork(2) made meanwhile has the object as that call left it: halfway.
pub struct ConnectionCell {
    busy: AtomicU8,
    handle: Handle,
    connection: ManuallyDrop<UnsafeCell<Connection<'static>>>,
}

// SAFETY: `connection` is reached only by who holds the bits of its directions, one thread at a
// time each; everything in it may be used by any thread.
unsafe impl Sync for ConnectionCell {}

const RECEIVING: u8 = 1;
const SENDING: u8 = 2;
const BOTH: u8 = RECEIVING | SENDING;

impl ConnectionCell {
    pub fn new(connection: Connection<'static>) -> ConnectionCell {
        let handle = connection.handle();
        let connection = ManuallyDrop::new(UnsafeCell::new(connection));
        ConnectionCell { busy: AtomicU8::new(0), handle, connection }
    }

    /// What ends its waits.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a call that takes both directions.
    pub fn both<T>(&self, work: impl FnOnce(&mut Connection<'static>) -> Result<T>) -> Result<T> {
        let _turn = self.enter(BOTH)?;
        // SAFETY: nobody else has a bit, so nobody else has a reference.
        work(unsafe { &mut *self.connection.get() })
    }

    /// Runs a call that receives.
    #[inline]
    pub fn receive<T>(
        &self,
        work: impl FnOnce(ReceiveHalf<'_, 'static>) -> Result<T>,
    ) -> Result<T> {
        let connection = self.connection.get();
        // SAFETY: it is never changed.
        let is_duplex = unsafe { (*connection).is_duplex };
        let _turn = self.enter(if is_duplex { RECEIVING } else { BOTH })?;
        // SAFETY: whoever sends beside this call has a reference to the field `sending` alone,
        // which is not taken here then. `shared` is never changed.
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
        let connection = self.connection.get();
        // SAFETY: it is never changed.
        let is_duplex = unsafe { (*connection).is_duplex };
        let _turn = self.enter(if is_duplex { SENDING } else { BOTH })?;
        // SAFETY: as above, the other way round.
        let half = unsafe {
            let receiving = if is_duplex { None } else { Some(&mut (*connection).receiving) };
            let sending = &mut (*connection).sending;
            SendHalf { sending, receiving, shared: &(*connection).shared }
        };
        work(half)
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
    fn taken(&self) -> Error {
        if self.handle.is_here() {
            Error::new(ErrorKind::Busy, "another call is in this connection")
        } else {
            Error::new(ErrorKind::Forked, "another thread was in it meanwhile")
        }
    }
}

impl Drop for ConnectionCell {
    fn drop(&mut self) {
        if *self.busy.get_mut() == 0 {
            // SAFETY: it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.connection) };
        } else {
            // Its memory is left alone, but not its descriptors, which no call changes.
            drop(self.connection.get_mut().take_owned());
        }
    }
}

/// The directions that a call is in, until it returns.
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
