//! The C interface: each function checks its arguments, calls one operation, converts
//! the outcome. Types and functions are named as C sees them in include/framefd.h.
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
