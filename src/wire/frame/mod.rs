//! Frames and packets: the prefix, the head, the decoder and the queue.

pub mod decoder;
pub mod head;
pub mod packet;
pub mod queue;
