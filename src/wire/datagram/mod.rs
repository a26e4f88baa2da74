//! Datagrams: whole frames with a tag, and replies in parts.

pub mod parts;
mod whole;

use whole::size;
pub use whole::{DatagramKey, DatagramKeys, decode, encode};
