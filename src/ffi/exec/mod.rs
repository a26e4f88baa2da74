//! Commands: run at a peer, streamed, and served.

mod client;
mod datagram;
mod options;
mod request;
mod server;
mod stream;

pub use client::*;
pub use datagram::*;
pub use options::*;
pub use request::*;
pub use server::*;
pub use stream::*;

use std::ffi::{c_char, c_int};

use crate::ffi::boundary::options::SizedStruct;
use crate::ops::exec::Reply;
use crate::wire::message::exec::{ExecReply, Outcome};

/// The command exited; exit_code is its status.
pub const EXEC_EXITED: i32 = 0;
/// A signal ended the command.
pub const EXEC_SIGNALED: i32 = 1;
/// The command was ended because it exceeded its time limit.
pub const EXEC_TIMED_OUT: i32 = 2;
/// The command wrote more than the output limit; the kept output is the first part.
pub const EXEC_OUTPUT_LIMIT: i32 = 3;
/// The command ended, but its status is not known: the server's program reaps or ignores its
/// children, or the server does not report the status.
pub const EXEC_STATUS_LOST: i32 = 4;
/// Server: the command could not be started; an error reply was sent.
pub const EXEC_SPAWN_FAILED: i32 = 5;
/// Server: the request was refused (an empty command, a NUL byte in it, a length above the
/// limit, an invalid field, a policy), or there was no memory; an error reply was sent.
pub const EXEC_REFUSED: i32 = 6;

/// In exec_result.flags: the command was ended since its time was up.
pub const EXEC_RESULT_TIMED_OUT: u32 = 1;
/// In exec_result.flags: the command wrote more than was kept.
pub const EXEC_RESULT_TRUNCATED: u32 = 2;
/// In exec_result.flags: another process kept the command's output open after the command had
/// ended. It was not waited for. Nobody reads what it writes later, so that its next write fails,
/// usually with SIGPIPE: redirect the output of jobs in the background.
pub const EXEC_RESULT_PIPE_HELD: u32 = 4;
/// In exec_result.flags, on a server: the client closed its sending direction during the
/// command. It is never set with EXEC_DETACHED.
pub const EXEC_RESULT_CLIENT_GONE: u32 = 8;

/// How a command ended.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExecResult {
    /// sizeof(struct exec_result).
    pub size: u32,
    /// EXEC_EXITED, EXEC_SIGNALED and so on, as returned by the call.
    pub outcome: i32,
    /// 0 to 255; 128 plus the signal if a signal ended the command; -1 if it is not known.
    pub exit_code: i32,
    /// The signal that ended the command, or 0.
    pub signal: i32,
    /// EXEC_RESULT_... flags, combined with |.
    pub flags: u32,
    /// Server: for EXEC_SPAWN_FAILED and EXEC_REFUSED the code of the error that was reported to
    /// the client; otherwise 0.
    pub error: i32,
    /// Bytes that the command wrote to its standard output, kept or not.
    pub stdout_total: u64,
    /// Bytes that the command wrote to its standard error, kept or not.
    pub stderr_total: u64,
    /// The encoding of the server's locale, such as "UTF-8"; "" if the server did not send it.
    /// The output is never converted.
    pub charset: [c_char; 40],
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for ExecResult {}

/// The result in a reply, for C.
pub(in crate::ffi) fn result_of(reply: &ExecReply, client_gone: bool) -> ExecResult {
    let flags = [
        (reply.timed_out, EXEC_RESULT_TIMED_OUT),
        (reply.truncated, EXEC_RESULT_TRUNCATED),
        (reply.pipe_held, EXEC_RESULT_PIPE_HELD),
        (client_gone, EXEC_RESULT_CLIENT_GONE),
    ];
    ExecResult {
        size: 0,
        outcome: outcome_code(reply.outcome()),
        exit_code: reply.exit_code.unwrap_or(-1),
        signal: reply.signal.unwrap_or(0),
        flags: flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum(),
        error: 0,
        stdout_total: reply.stdout_total.unwrap_or(0),
        stderr_total: reply.stderr_total.unwrap_or(0),
        charset: charset_of(reply.charset.as_deref().unwrap_or_default()),
    }
}

/// The same with the outputs at hand: a reply may leave out how long they are.
pub(in crate::ffi) fn result_of_reply(reply: &Reply) -> ExecResult {
    let or_len = |total: Option<u64>, output: &[u8]| total.unwrap_or(output.len() as u64);
    ExecResult {
        stdout_total: or_len(reply.header.stdout_total, reply.stdout()),
        stderr_total: or_len(reply.header.stderr_total, reply.stderr()),
        ..result_of(&reply.header, false)
    }
}

fn outcome_code(outcome: Outcome) -> c_int {
    match outcome {
        Outcome::Exited => EXEC_EXITED,
        Outcome::Signaled => EXEC_SIGNALED,
        Outcome::TimedOut => EXEC_TIMED_OUT,
        Outcome::OutputLimit => EXEC_OUTPUT_LIMIT,
        Outcome::StatusLost => EXEC_STATUS_LOST,
    }
}

/// A name that fits, with a NUL behind it; the peer's longer ones are none of any encoding.
fn charset_of(name: &str) -> [c_char; 40] {
    let mut charset = [0; 40];
    if name.len() < charset.len() && name.is_ascii() && !name.contains('\0') {
        for (to, from) in charset.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
    }
    charset
}
