//! Descriptors only: deadlines, interrupted calls, short reads and writes, processes and
//! paths.
#![allow(unsafe_code)]

pub mod aligned;
mod at;
pub mod child;
pub mod datagram;
pub mod deadline;
pub mod directory;
pub mod environment;
pub mod locked;
pub mod partial;
pub mod path;
pub mod root;
mod session;
pub mod signal;
pub mod sink;
pub mod source;
pub mod spawn;
pub mod stdio;
pub mod store;
pub mod sweep;
mod temporary;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;

/// Why the last call of the C library failed in this thread.
fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())
        .unwrap_or(rustix::io::Errno::IO)
}
