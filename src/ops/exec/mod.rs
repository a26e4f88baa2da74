//! Commands for somebody else: run one and reply, or ask for one to be run.

mod client;
mod presence;
mod report;
mod server;

pub use client::{Reply, Request, request};
pub(crate) use server::run_request;
pub use server::{Report, ServeOptions, Served, run_and_reply, run_locally, serve};
