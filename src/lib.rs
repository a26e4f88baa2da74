//! Frames, authentication, remote commands and file transfer over any file descriptor.

pub mod error;
pub mod limits;

pub mod wire {
    //! Bytes only: no file descriptors, no clock, no allocation from a declared size.
    pub mod name;
    pub mod packet;
}

pub mod io {
    //! Descriptors only: deadlines, interrupted calls, short reads and writes.
    #![allow(unsafe_code)]
    pub mod deadline;
    pub mod root;
    pub mod signal;
    pub mod store;
    #[cfg(test)]
    mod testing;
}
