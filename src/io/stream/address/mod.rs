//! Addresses as text, and sockets made from them: connect, listen, accept.
//!
//! | text | |
//! |---|---|
//! | `host:port` | a name or an IPv4 address |
//! | `[::1]:port` | an IPv6 address, with a scope `[fe80::1%eth0]:port` |
//! | `unix:path` | a Unix socket in the file system |
//! | `unix:@name` | one in Linux's abstract namespace; the file `@name` is `unix:./@name` |
//! | `vsock:cid:port` | a virtual machine's socket, both numbers decimal |
//!
//! `unix:` and `vsock:` at the beginning always mean these families.

mod accept;
mod connect;
mod credentials;
mod listen;
mod socket;
mod text;

pub use accept::{accept, accept_from};
pub use connect::connect;
pub use credentials::{Credentials, credentials_of};
pub use listen::listen;
pub use socket::{address_of, text_of};
