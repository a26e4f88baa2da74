//! Commands run, asked for and served: whole, streamed, cut, and by clients that go away.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod confined;
mod connection;
mod copy;
mod engine;
mod error_queue;
mod faults;
mod flow;
mod long;
mod memory;
mod older;
mod pace;
mod replies;
mod requests;
mod sealed;
mod stream;
mod stream_faults;
mod terminal;
