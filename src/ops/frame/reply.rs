//! Replies that every kind of request can have.

use std::os::fd::BorrowedFd;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::limits;
use crate::ops::frame;
use crate::wire::message::{self, ErrorReply, Id};

/// Sends the reply that reports `error`.
pub fn send_error(
    fd: BorrowedFd<'_>,
    error: &Error,
    id: Option<&Id>,
    patience: impl Into<Patience>,
) -> Result<()> {
    send_failure(fd, error.kind(), &error.to_string(), id, patience)
}

/// Sends the reply that reports a failure of `kind`, with `message` for people.
pub fn send_failure(
    fd: BorrowedFd<'_>,
    kind: ErrorKind,
    message: &str,
    id: Option<&Id>,
    patience: impl Into<Patience>,
) -> Result<()> {
    let header = ErrorReply::new(kind, message, id).header();
    frame::send_by(fd, Some(&header), &[], &frame::Options::default(), patience.into())
}

/// Answers a `hello`: what this version serves, and its limits.
pub fn send_hello(
    fd: BorrowedFd<'_>,
    cmds: &[&str],
    id: Option<&Id>,
    patience: impl Into<Patience>,
) -> Result<()> {
    let limits = [
        ("max_header", limits::MAX_HEADER),
        ("max_body", limits::MAX_BODY),
        ("max_command", limits::MAX_COMMAND),
        ("max_output", limits::MAX_OUTPUT),
    ];
    let header = message::hello(cmds, &limits, id);
    frame::send_by(fd, Some(&header), &[], &frame::Options::default(), patience.into())
}

/// A deadline that passes between a request and its reply leaves the stream out of step,
/// on both ends: the one still has a reply to send, and the other may still get it.
pub(crate) fn overdue(error: Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::new(ErrorKind::Stalled, "there was no reply in time"),
        _ => error,
    }
}
