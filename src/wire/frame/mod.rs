//! Frames and packets: the prefix, the head, and the machine that takes them out of bytes.

pub mod decoder;
pub mod head;
pub mod packet;
pub mod queue;
