//! Files: put to a server, fetched from one, described, and served.

mod query;
mod server;
mod transfer;

pub use query::*;
pub use server::*;
pub use transfer::*;
