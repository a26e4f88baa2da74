//! Files: put on a server, got from one, asked about, and served.

mod query;
mod server;
mod transfer;

pub use query::*;
pub use server::*;
pub use transfer::*;
