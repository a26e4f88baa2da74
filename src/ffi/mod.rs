//! The C interface: each function checks its arguments, calls one operation, converts
//! the outcome. Types and functions are named as C sees them in include/framefd.h.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // the comment is the header's: all of it is the contract

pub mod auth;
pub mod builder;
pub mod codes;
pub mod datagram;
pub mod decoder;
pub mod exec;
pub mod exec_stream;
pub mod file;
pub mod file_query;
pub mod file_tree;
pub mod frame;
pub mod options;
pub mod reader;
pub mod reply;
pub mod writer;

mod arguments;
mod outcome;
mod policy;
