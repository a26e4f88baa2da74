//! Descriptors of streams and datagrams: addresses, reading, writing.

pub mod address;
pub mod aligned;
pub mod datagram;
pub mod ends;
pub mod sink;
pub mod source;
