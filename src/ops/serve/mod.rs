//! A server: it accepts connections, checks keys, serves requests and stops without losing one.

mod account;
mod common;
mod control;
mod engine;
mod lanes;
mod later;
mod listening;
mod log;
mod options;
mod peer;
mod pool;
mod resting;
mod served;
mod server;
mod service;
mod stop;
mod table;
mod waits;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use later::Later;
pub(crate) use later::{Left, lend};
pub use listening::Listening;
pub use log::{Counters, Level, LogFunction};
pub use options::{Access, Interrupted, Limits, ServerOptions};
pub use served::{Served, ServedFunction, What};
pub use server::{Server, Stopper};
pub use service::{BodyMode, Commands, ExecPolicy, FilePolicy, Files, Handler, Request};
pub(crate) use service::{Handled, Serve};

/// A panic leaves nothing half changed that a lock protects.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
