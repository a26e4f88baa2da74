//! The exec request, its reply, and the frames of a streamed run.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::Id;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::header::Header;

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
    /// Standard error goes where standard output goes, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<bool>,
    /// A terminal of this size is all three standard streams. Only with `stream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<Tty>,
    /// What a disconnect means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_close: Option<OnClose>,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// What a client's frame says while its command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// Its body is the next of the command's input; `last`: and there is no more.
    Input {
        /// The input ends here.
        last: bool,
    },
    /// The command's group is to get the signal with this number.
    Signal(i32),
    /// The command's terminal has another size.
    Resize(Tty),
}

impl ClientFrame {
    /// Reads a frame that comes while a command runs; any other is
    /// [`ErrorKind::BadField`].
    pub fn read(header: &Header) -> Result<ClientFrame> {
        #[derive(Deserialize)]
        struct Keys {
            cmd: Option<IgnoredAny>,
            stream: Option<String>,
            eof: Option<bool>,
            signal: Option<String>,
            resize: Option<Tty>,
        }
        let bad = |detail: String| Err(Error::new(ErrorKind::BadField, detail));
        let keys: Keys = header.read_as()?;
        if keys.cmd.is_some() {
            return bad("a request while a command runs".into());
        }
        let frame = match (keys.stream.as_deref(), keys.signal.as_deref(), keys.resize) {
            (Some("stdin"), None, None) => {
                return Ok(ClientFrame::Input { last: keys.eof == Some(true) });
            }
            (Some(name), None, None) => {
                return bad(format!("{name:?} is no stream of a client"));
            }
            (None, Some(name), None) => match signal_number(name) {
                Some(number) => ClientFrame::Signal(number),
                None => return bad(format!("{name:?} is no signal that can be sent")),
            },
            (None, None, Some(size)) => ClientFrame::Resize(size),
            _ => return bad("neither input nor a signal nor a size".into()),
        };
        match header.data_size() {
            None | Some(0) => Ok(frame),
            Some(_) => bad("a signal or a size with a body".into()),
        }
    }

    /// Its header; `data_size` is added where it is sent.
    pub fn header(self) -> Result<String> {
        Ok(match self {
            ClientFrame::Input { last: false } => r#"{"stream":"stdin"}"#.into(),
            ClientFrame::Input { last: true } => r#"{"stream":"stdin","eof":true}"#.into(),
            ClientFrame::Signal(number) => {
                format!(r#"{{"signal":"{}"}}"#, signal_name(number)?)
            }
            ClientFrame::Resize(Tty { rows, columns }) => {
                format!(r#"{{"resize":{{"rows":{rows},"columns":{columns}}}}}"#)
            }
        })
    }
}

/// Whether a header is that of a frame for a command that has ended meanwhile: input, a
/// signal or a size. A server drops such a frame and its body, and goes on.
pub fn is_late_input(header: &Header) -> bool {
    #[derive(Deserialize)]
    struct Keys {
        cmd: Option<IgnoredAny>,
        stream: Option<String>,
        signal: Option<IgnoredAny>,
        resize: Option<IgnoredAny>,
    }
    header.read_as().is_ok_and(|keys: Keys| {
        let is_input = keys.stream.as_deref() == Some("stdin");
        keys.cmd.is_none() && (is_input || keys.signal.is_some() || keys.resize.is_some())
    })
}

/// The name that stands for a signal in a frame: that of signal(7) without SIG. One that
/// cannot be sent is [`ErrorKind::Argument`].
pub fn signal_name(number: i32) -> Result<&'static str> {
    match SIGNALS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => Ok(name),
        None => Err(Error::new(ErrorKind::Argument, "it is no signal that can be sent")),
    }
}

fn signal_number(name: &str) -> Option<i32> {
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The header of a frame that brings more of standard output, 0, or standard error, 1.
pub fn output_header(output: usize, id: Option<&Id>) -> Result<String> {
    #[derive(Serialize)]
    struct Output<'a> {
        stream: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Id>,
    }
    super::to_header(&Output { stream: OUTPUTS[output], id })
}

/// Which of these a frame brings more of; `None` is the reply, which ends them.
pub fn output_of(header: &Header) -> Result<Option<usize>> {
    #[derive(Deserialize)]
    struct Output {
        stream: Option<String>,
    }
    let Output { stream } = header.read_as()?;
    let Some(name) = stream else { return Ok(None) };
    match OUTPUTS.iter().position(|output| *output == name) {
        None => Err(contradiction("output of an unknown stream")),
        known => Ok(known),
    }
}

/// The names of standard output and standard error in a frame.
const OUTPUTS: [&str; 2] = ["stdout", "stderr"];

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
        if stdout.checked_add(stderr) != Some(body_len) {
            return Err(contradiction("stdout_size and stderr_size are not the size of the body"));
        }
        let totals = [self.stdout_total.unwrap_or(stdout), self.stderr_total.unwrap_or(stderr)];
        self.check([stdout, stderr], totals)?;
        Ok(stdout)
    }

    /// Refuses the reply of a streamed command that contradicts itself, or what came of
    /// its outputs. It has no body, and has to say how much there was.
    pub fn check_streamed(&self, came: [u64; 2]) -> Result<()> {
        let (Some(stdout), Some(stderr)) = (self.stdout_total, self.stderr_total) else {
            return Err(contradiction("it does not say how much output there was"));
        };
        if self.stdout_size.unwrap_or(0) != 0 || self.stderr_size.unwrap_or(0) != 0 {
            return Err(contradiction("output in the reply of a streamed command"));
        }
        self.check(came, [stdout, stderr])
    }

    fn check(&self, [stdout, stderr]: [u64; 2], totals: [u64; 2]) -> Result<()> {
        let [stdout_total, stderr_total] = totals;
        Err(contradiction(if self.signal.is_some_and(|signal| !(1..=64).contains(&signal)) {
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
            return Ok(());
        }))
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

fn contradiction(what: &'static str) -> Error {
    Error::new(ErrorKind::BadReply, what)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Those that a client may send.
const SIGNALS: [(&str, i32); 13] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("TERM", libc::SIGTERM),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("CONT", libc::SIGCONT),
    ("TSTP", libc::SIGTSTP),
    ("STOP", libc::SIGSTOP),
    ("WINCH", libc::SIGWINCH),
    ("ALRM", libc::SIGALRM),
    ("PIPE", libc::SIGPIPE),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Header {
        Header::parse(text.as_bytes().to_vec(), 32).unwrap()
    }

    #[test]
    fn a_frame_of_a_client_is_read_as_it_was_meant() {
        let signals = SIGNALS.iter().map(|(_, number)| ClientFrame::Signal(*number));
        for frame in signals.chain([
            ClientFrame::Input { last: false },
            ClientFrame::Input { last: true },
            ClientFrame::Resize(Tty { rows: 0, columns: 65_535 }),
        ]) {
            let header = header(&frame.header().unwrap());
            assert_eq!(ClientFrame::read(&header).unwrap(), frame);
            assert!(is_late_input(&header));
        }
        let more = header(r#"{"stream":"stdin","eof":false,"data_size":5,"new":[1]}"#);
        assert_eq!(ClientFrame::read(&more).unwrap(), ClientFrame::Input { last: false });
        for number in [-1, 0, libc::SIGSEGV, 65] {
            let error = ClientFrame::Signal(number).header().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
        }
    }

    #[test]
    fn a_frame_that_no_client_sends_is_refused() {
        for (bad, is_late) in [
            ("{}", false),
            (r#"{"cmd":"exec"}"#, false),
            (r#"{"cmd":"exec","stream":"stdin"}"#, false),
            (r#"{"cmd":1,"signal":"INT"}"#, false),
            (r#"{"stream":"stdout"}"#, false),
            (r#"{"stream":"stdin","stream":"stdin"}"#, false),
            (r#"{"stream":1}"#, false),
            (r#"{"stream":"stdin","eof":1}"#, true),
            (r#"{"stream":"stdin","signal":"INT"}"#, true),
            (r#"{"signal":"SIGINT"}"#, true),
            (r#"{"signal":"int"}"#, true),
            (r#"{"signal":2}"#, true),
            (r#"{"signal":"INT","data_size":1}"#, true),
            (r#"{"resize":{"rows":24}}"#, true),
            (r#"{"resize":{"rows":24,"columns":65536}}"#, true),
            (r#"{"resize":{"rows":-1,"columns":80}}"#, true),
        ] {
            let header = header(bad);
            let error = ClientFrame::read(&header).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadField, "{bad}");
            assert_eq!(is_late_input(&header), is_late, "{bad}");
        }
    }

    #[test]
    fn output_is_told_from_the_reply() {
        for output in [0, 1] {
            let header = header(&output_header(output, Some(&Id::Number(7))).unwrap());
            assert_eq!(output_of(&header).unwrap(), Some(output));
            assert_eq!(header.integer("id").unwrap(), 7);
        }
        assert_eq!(output_of(&header(r#"{"exit_code":0}"#)).unwrap(), None);
        assert_eq!(output_of(&header(r#"{"stream":"std\u006fut"}"#)).unwrap(), Some(0));
        for bad in [r#"{"stream":"stdin"}"#, r#"{"stream":""}"#] {
            assert_eq!(output_of(&header(bad)).unwrap_err().kind(), ErrorKind::BadReply);
        }
    }

    #[test]
    fn the_reply_of_a_streamed_command_accounts_for_its_output() {
        let good = r#"{"stdout_size":0,"stderr_size":0,"stdout_total":5,"stderr_total":2}"#;
        assert!(reply(good).check_streamed([5, 2]).is_ok());
        for came in [[4, 2], [6, 2], [5, 1], [5, 3]] {
            let error = reply(good).check_streamed(came).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadReply, "{came:?}");
        }
        let truncated = r#"{"truncated":true,"stdout_total":5,"stderr_total":2}"#;
        assert!(reply(truncated).check_streamed([4, 2]).is_ok());
        assert!(reply(truncated).check_streamed([6, 2]).is_err());
        for bad in [
            r#"{"stdout_total":5}"#,
            r#"{"stderr_total":2}"#,
            r#"{"stdout_size":5,"stdout_total":5,"stderr_total":2}"#,
            r#"{"stdout_total":5,"stderr_total":2,"exit_code":256}"#,
        ] {
            assert!(reply(bad).check_streamed([5, 2]).is_err(), "{bad}");
        }
    }

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
