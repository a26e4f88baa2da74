//! Remote commands: run one at the peer, or serve a request for one.

mod client;
mod command;
mod completion;
mod copy;
mod engine;
mod handler;
mod input;
mod job;
mod options;
mod output;
mod presence;
mod raw;
mod remote;
mod running;
mod server;
mod session;

pub use client::{Reply, Request, call};
pub use command::{Command, Limits, OnOutputLimit, Program, Stdio};
pub use completion::{Captured, Collector, Completion};
pub use engine::run_with;
pub use handler::{Flow, Handler, Input, Interest, Stream};
pub use options::{Choice, Inquiry, Policy, ServeOptions};
pub use raw::run_and_reply;
pub use remote::{RemoteCommand, start};
pub use running::Running;
pub use server::{Report, Served, run_locally, serve};

pub(crate) use server::run_request;
