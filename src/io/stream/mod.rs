//! Reading from descriptors and writing to them: streams, and datagrams.

pub mod aligned;
pub mod datagram;
pub mod sink;
pub mod source;
