//! Commands for somebody else: run one and reply, or ask for one to be run.

mod client;
mod control;
pub mod engine;
mod feed;
mod output;
mod remote;
mod report;
mod server;
mod session;

pub use client::{Reply, Request, request};
pub use control::Control;
pub use remote::RemoteCommand;
pub(crate) use server::run_request;
pub use server::{
    Inquiry, Policy, Report, ServeOptions, Served, run_and_reply, run_locally, serve,
};

pub use crate::wire::message::exec::is_late_input;
