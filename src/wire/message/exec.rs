//! The exec request and its reply.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Id;
use crate::error::{Error, ErrorKind, Result};

/// What becomes of a command whose client has gone away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnClose {
    /// It is ended, after a grace for a client that only half-closed.
    #[default]
    Kill,
    /// It runs to its end.
    Run,
}

/// The options of an exec request; the command text is the frame's body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Repeated in the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Program and arguments, in place of a shell command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Added to the clean base environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// How long the command may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Bytes of output kept of each stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// Bytes of standard input that follow the command in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_size: Option<u64>,
    /// Output frames as it appears, in place of one reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// What a disconnect means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_close: Option<OnClose>,
}

/// The header of an exec reply; its body is stdout, then stderr.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecReply {
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Bytes of the body that are standard output; a server that knows only `data_size`
    /// leaves it out, and the whole body is output.
    pub stdout_size: Option<u64>,
    /// Bytes of the body that are standard error, behind it.
    pub stderr_size: Option<u64>,
    /// The exit code, 128 and the signal for a death by signal, or `null` where the
    /// server's host took the status away.
    pub exit_code: Option<i32>,
    /// The signal that ended the command; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// It was ended because its time was up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// It wrote more than was kept.
    #[serde(default, skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// It ended, but another process held its output open, which was not waited for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pipe_held: bool,
    /// Bytes it wrote to standard output, kept or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_total: Option<u64>,
    /// Bytes it wrote to standard error, kept or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_total: Option<u64>,
    /// The encoding of the server's locale; the output is bytes all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
}

/// How a command ended, in the order in which one outweighs the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its time was up.
    TimedOut,
    /// It wrote more than was kept.
    OutputLimit,
    /// It ended, but how is not known.
    StatusLost,
    /// A signal ended it.
    Signaled,
    /// It ended by itself.
    Exited,
}

impl ExecReply {
    /// Where standard error begins in a body of `body_len` bytes. Refuses a reply that
    /// contradicts itself: sizes that are not the body's, a signal whose code is
    /// another, output that is larger than its total, or smaller for no reason.
    pub fn split(&self, body_len: u64) -> Result<u64> {
        let stderr = self.stderr_size.unwrap_or(0);
        let stdout = self.stdout_size.unwrap_or(body_len.saturating_sub(stderr));
        let stdout_total = self.stdout_total.unwrap_or(stdout);
        let stderr_total = self.stderr_total.unwrap_or(stderr);
        let contradiction = if stdout.checked_add(stderr) != Some(body_len) {
            "stdout_size and stderr_size are not the size of the body"
        } else if self.signal.is_some_and(|signal| !(1..=64).contains(&signal)) {
            "signal is not the number of one"
        } else if self.signal.is_some_and(|signal| self.exit_code != Some(128 + signal)) {
            "exit_code is not 128 and the signal"
        } else if self.exit_code.is_some_and(|code| !(0..=255).contains(&code)) {
            "exit_code is not one"
        } else if stdout_total < stdout || stderr_total < stderr {
            "more output came than there was"
        } else if !self.truncated && (stdout_total > stdout || stderr_total > stderr) {
            "output is missing, and it does not say so"
        } else {
            return Ok(stdout);
        };
        Err(Error::new(ErrorKind::BadReply, contradiction))
    }

    /// How the command ended.
    pub fn outcome(&self) -> Outcome {
        if self.timed_out {
            Outcome::TimedOut
        } else if self.truncated {
            Outcome::OutputLimit
        } else if self.exit_code.is_none() {
            Outcome::StatusLost
        } else if self.signal.is_some() {
            Outcome::Signaled
        } else {
            Outcome::Exited
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> ExecReply {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_reply_says_where_standard_error_begins() {
        assert_eq!(reply(r#"{"stdout_size":3,"stderr_size":2}"#).split(5).unwrap(), 3);
        assert_eq!(reply("{}").split(5).unwrap(), 5, "only data_size is known");
        for bad in [
            r#"{"stdout_size":3,"stderr_size":3}"#,
            r#"{"stdout_size":18446744073709551615,"stderr_size":6}"#,
            r#"{"signal":9,"exit_code":0}"#,
            r#"{"signal":2147483647,"exit_code":0}"#,
            r#"{"signal":0,"exit_code":128}"#,
            r#"{"exit_code":256}"#,
            r#"{"exit_code":-1}"#,
            r#"{"stdout_size":5,"stderr_size":0,"stdout_total":4}"#,
            r#"{"stdout_size":5,"stderr_size":0,"stdout_total":6}"#,
        ] {
            assert_eq!(reply(bad).split(5).unwrap_err().kind(), ErrorKind::BadReply, "{bad}");
        }
    }

    #[test]
    fn what_went_wrong_outweighs_the_status() {
        for (text, outcome) in [
            (r#"{"exit_code":0}"#, Outcome::Exited),
            (r#"{"exit_code":143,"signal":15}"#, Outcome::Signaled),
            (r#"{"exit_code":null}"#, Outcome::StatusLost),
            (r#"{"exit_code":0,"truncated":true}"#, Outcome::OutputLimit),
            (r#"{"exit_code":143,"signal":15,"timed_out":true,"truncated":true}"#, {
                Outcome::TimedOut
            }),
        ] {
            assert_eq!(reply(text).outcome(), outcome, "{text}");
        }
    }
}
