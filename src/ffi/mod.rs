//! The C interface: each function checks its arguments, calls one operation and converts the
//! result. Types and functions have the names of include/framefd.h.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // the comment is the header's: all of it is the contract

pub mod auth;
pub mod boundary;
pub mod codes;
pub mod connection;
pub mod datagram;
pub mod exec;
pub mod file;
pub mod frame;
pub mod seal;
#[cfg(feature = "serve")]
pub mod serve;
