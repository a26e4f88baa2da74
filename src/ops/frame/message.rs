//! A received message that owns its memory.

use std::ops::Deref;

use crate::wire::json::header::Header;

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// The body.
    pub body: Vec<u8>,
}

/// A message that a connection has received.
#[derive(Debug)]
pub struct Message {
    /// The header; `None` for a packet.
    pub header: Option<Header>,
    /// The body, or the bytes of a packet.
    pub body: Body,
}

/// The bytes of a body. A large one keeps the buffer that it was received in, since a copy of
/// it would take longer than to receive it.
#[derive(Clone, Debug, Default)]
pub struct Body {
    memory: Vec<u8>,
    start: usize,
}

impl Body {
    /// The bytes of `memory` from `start` to its end.
    pub(super) fn within(memory: Vec<u8>, start: usize) -> Body {
        debug_assert!(start <= memory.len());
        Body { memory, start }
    }

    /// The bytes as a vector; those of a large body are moved to its front.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.memory.drain(..self.start);
        self.memory
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::within(bytes, 0)
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Body {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}
