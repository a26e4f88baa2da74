//! Frames and packets: one on a raw descriptor, or many on a connection.

mod client;
pub mod connection;
mod control;
mod exchange;
mod halves;
mod message;
mod messages;
mod raw;
mod receiving;
mod resting;
mod sending;
mod serving;
mod shared;
mod transport;

pub use crate::io::stream::address::Credentials;
pub use crate::io::stream::ends::Ends;
pub use client::Client;
pub(crate) use connection::Pending;
pub use connection::{Connection, ConnectionOptions, Proof, State};
pub use halves::{ReceiveHalf, SendHalf};
pub use message::{Body, Frame, Message};
pub use raw::*;
pub(crate) use receiving::Ahead;
pub(crate) use resting::Resting;
pub use sending::Sent;
pub(crate) use serving::Buffers;
pub use shared::Handle;
pub(crate) use shared::WeakHandle;
