//! Descriptors only: deadlines, interrupted calls, short reads and writes, processes and
//! paths.
#![allow(unsafe_code)]

pub mod deadline;
pub mod fs;
pub mod poller;
pub mod process;
pub mod signal;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub mod wait;

/// The errno of this thread.
fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())
        .unwrap_or(rustix::io::Errno::IO)
}
