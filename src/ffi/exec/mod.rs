//! Commands: run for a client, asked of a server, and streamed.

mod calls;
pub mod stream;

pub use calls::*;
