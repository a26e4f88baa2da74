//! The exec request, its reply, and the frames of a streamed run.

use super::{Id, Message, as_reply, written};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::header::Header;
use crate::wire::json::reader::{Fields, required};
use crate::wire::json::writer::Writer;

/// What to do with a command whose client has disconnected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnClose {
    /// It is ended, after a grace for a client that only half-closed.
    #[default]
    Kill,
    /// It runs to its end.
    Run,
}

/// The options of an exec request; the command text is the frame's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Repeated in the reply.
    pub id: Option<Id>,
    /// Program and arguments, in place of a shell command.
    pub argv: Option<Vec<String>>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Added to the clean base environment.
    pub env: Option<Vec<(String, String)>>,
    /// How long the command may run.
    pub timeout_ms: Option<u64>,
    /// Bytes of output kept of each stream.
    pub max_output: Option<u64>,
    /// Bytes of the body that are the arguments, in place of `argv`: each with a NUL.
    pub argv_size: Option<u64>,
    /// Bytes of the body, after those, that are variables: `NAME=value`, each with a NUL.
    pub env_size: Option<u64>,
    /// Bytes of standard input that follow the command in the body.
    pub stdin_size: Option<u64>,
    /// Output is sent in frames while the command runs, instead of in one reply.
    pub stream: Option<bool>,
    /// Standard error is merged into standard output, in order.
    pub merge: Option<bool>,
    /// A terminal of this size is all three standard streams. Only with `stream`.
    pub tty: Option<Tty>,
    /// What to do after a disconnect.
    pub on_close: Option<OnClose>,
}

impl Message for ExecRequest {
    fn of(fields: &Fields<'_>) -> Result<ExecRequest> {
        Ok(ExecRequest {
            id: fields.id()?,
            argv: fields.texts("argv")?,
            cwd: fields.text("cwd")?,
            env: fields.table("env")?,
            timeout_ms: fields.size("timeout_ms")?,
            max_output: fields.size("max_output")?,
            argv_size: fields.size("argv_size")?,
            env_size: fields.size("env_size")?,
            stdin_size: fields.size("stdin_size")?,
            stream: fields.boolean("stream")?,
            merge: fields.boolean("merge")?,
            tty: Tty::at("tty", fields)?,
            on_close: match fields.text("on_close")?.as_deref() {
                None => None,
                Some("kill") => Some(OnClose::Kill),
                Some("run") => Some(OnClose::Run),
                Some(other) => {
                    return Err(bad(format!("on_close is neither kill nor run: {other}")));
                }
            },
        })
    }
}

impl ExecRequest {
    /// The header of its frame.
    pub fn header(&self) -> String {
        super::request("exec", &|header| self.write(header))
    }

    /// Adds its keys, other than `cmd`, to a header.
    pub fn write(&self, header: &mut Writer) {
        header.id(self.id.as_ref());
        header.texts("argv", self.argv.as_deref());
        header.text("cwd", self.cwd.as_deref());
        header.table("env", self.env.as_deref());
        header.plain("timeout_ms", self.timeout_ms);
        header.plain("max_output", self.max_output);
        header.plain("argv_size", self.argv_size);
        header.plain("env_size", self.env_size);
        header.plain("stdin_size", self.stdin_size);
        header.plain("stream", self.stream);
        header.plain("merge", self.merge);
        header.json("tty", self.tty.map(Tty::json).as_deref());
        header.text(
            "on_close",
            self.on_close.map(|on_close| match on_close {
                OnClose::Kill => "kill",
                OnClose::Run => "run",
            }),
        );
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tty {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

impl Tty {
    fn at(key: &str, fields: &Fields<'_>) -> Result<Option<Tty>> {
        let Some(size) = fields.object(key)? else { return Ok(None) };
        let of = |key| size.small(key)?.ok_or_else(|| required(key));
        Ok(Some(Tty { rows: of("rows")?, columns: of("columns")? }))
    }

    fn json(self) -> String {
        written(&|object| {
            object.plain("rows", Some(self.rows));
            object.plain("columns", Some(self.columns));
        })
    }
}

/// A client's frame for a running command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// Its body is the command's next input; `last`: the input ends after it.
    Input {
        /// The input ends here.
        last: bool,
    },
    /// The signal with this number is for the command's group.
    Signal(i32),
    /// The command's terminal has a new size.
    Resize(Tty),
}

impl ClientFrame {
    /// Reads a frame for a running command; any other is [`ErrorKind::BadField`].
    pub fn read(header: &Header) -> Result<ClientFrame> {
        let fields = header.fields()?;
        if fields.has("cmd") {
            return Err(bad("a request while a command runs"));
        }
        let (stream, signal) = (fields.text("stream")?, fields.text("signal")?);
        let frame = match (stream.as_deref(), signal.as_deref(), Tty::at("resize", &fields)?) {
            (Some("stdin"), None, None) => {
                return Ok(ClientFrame::Input { last: fields.boolean("eof")? == Some(true) });
            }
            (Some(name), None, None) => {
                return Err(bad(format!("{name:?} is no stream of a client")));
            }
            (None, Some(name), None) => match signal_number(name) {
                Some(number) => ClientFrame::Signal(number),
                None => return Err(bad(format!("{name:?} is no signal that can be sent"))),
            },
            (None, None, Some(size)) => ClientFrame::Resize(size),
            _ => return Err(bad("neither input nor a signal nor a size")),
        };
        match header.data_size() {
            None | Some(0) => Ok(frame),
            Some(_) => Err(bad("a signal or a size with a body")),
        }
    }

    /// Its header; `data_size` is added when it is sent.
    pub fn header(self) -> Result<String> {
        Ok(match self {
            ClientFrame::Input { last: false } => r#"{"stream":"stdin"}"#.into(),
            ClientFrame::Input { last: true } => r#"{"stream":"stdin","eof":true}"#.into(),
            ClientFrame::Signal(number) => {
                format!(r#"{{"signal":"{}"}}"#, signal_name(number)?)
            }
            ClientFrame::Resize(size) => {
                written(&|header| header.json("resize", Some(&size.json())))
            }
        })
    }
}

/// Whether a header is that of a frame for a command that has already ended: input, a signal or
/// a size. A server drops such a frame and its body.
pub fn is_late_input(header: &Header) -> bool {
    header.fields().is_ok_and(|fields| {
        let is_input = || fields.text("stream").is_ok_and(|name| name.as_deref() == Some("stdin"));
        !fields.has("cmd") && (fields.has("signal") || fields.has("resize") || is_input())
    })
}

/// Whether the text of a header is that of a request for a stream: more than the reply may
/// follow it, from the client too.
pub fn is_stream_request(request: &str) -> bool {
    Fields::parse(request).is_ok_and(|fields| {
        let is_exec = fields.text("cmd").is_ok_and(|cmd| cmd.as_deref() == Some("exec"));
        is_exec && fields.boolean("stream").is_ok_and(|streams| streams == Some(true))
    })
}

/// The name of a signal in a frame: as in signal(7), without SIG. A signal that cannot be sent
/// is [`ErrorKind::Argument`].
pub fn signal_name(number: i32) -> Result<&'static str> {
    match SIGNALS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => Ok(name),
        None => Err(Error::new(ErrorKind::Argument, "it is no signal that can be sent")),
    }
}

fn signal_number(name: &str) -> Option<i32> {
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The header of a frame with standard output, 0, or standard error, 1.
pub fn output_header(output: usize, id: Option<&Id>) -> String {
    written(&|header| {
        header.text("stream", Some(OUTPUTS[output]));
        header.id(id);
    })
}

/// The stream of a frame of output; `None` for the reply, which ends them.
pub fn output_of(fields: &Fields<'_>) -> Result<Option<usize>> {
    let Some(name) = as_reply(fields.text("stream"))? else { return Ok(None) };
    match OUTPUTS.iter().position(|output| *output == name) {
        None => Err(contradiction("output of an unknown stream")),
        known => Ok(known),
    }
}

/// Whether a header without an `exit_code` is that of a reply to a command all the same: the
/// oldest servers send only `data_size`. No frame of this protocol is taken for one.
pub fn is_of_oldest(reply: &Fields<'_>) -> bool {
    let others = ["id", "status", "stream", "signal", "resize"];
    reply.has("data_size") && !others.iter().any(|key| reply.has(key))
}

/// The names of standard output and standard error in a frame.
const OUTPUTS: [&str; 2] = ["stdout", "stderr"];

/// The header of an exec reply; its body is stdout, then stderr.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecReply {
    /// The request's.
    pub id: Option<Id>,
    /// Bytes of the body that are standard output; a server that knows only `data_size`
    /// leaves it out, and the whole body is output.
    pub stdout_size: Option<u64>,
    /// Bytes of the body that are standard error, after standard output.
    pub stderr_size: Option<u64>,
    /// The exit code; 128 plus the signal if a signal ended the command; `null` if the status is
    /// lost.
    pub exit_code: Option<i32>,
    /// The signal that ended the command; absent otherwise.
    pub signal: Option<i32>,
    /// It was ended because it exceeded its time limit.
    pub timed_out: bool,
    /// It wrote more than was kept.
    pub truncated: bool,
    /// It ended, but another process kept its output open, and was not waited for.
    pub pipe_held: bool,
    /// Bytes it wrote to standard output, kept or not.
    pub stdout_total: Option<u64>,
    /// Bytes it wrote to standard error, kept or not.
    pub stderr_total: Option<u64>,
    /// The encoding of the server's locale; the output is not converted.
    pub charset: Option<String>,
}

/// How a command ended. An earlier variant takes precedence over a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exceeded its time limit.
    TimedOut,
    /// It wrote more than was kept.
    OutputLimit,
    /// It ended, but its status is not known.
    StatusLost,
    /// A signal ended it.
    Signaled,
    /// It exited.
    Exited,
}

impl Message for ExecReply {
    fn of(fields: &Fields<'_>) -> Result<ExecReply> {
        let flag = |key| Ok::<_, Error>(fields.boolean(key)? == Some(true));
        Ok(ExecReply {
            id: fields.id()?,
            stdout_size: fields.size("stdout_size")?,
            stderr_size: fields.size("stderr_size")?,
            exit_code: fields.small("exit_code")?,
            signal: fields.small("signal")?,
            timed_out: flag("timed_out")?,
            truncated: flag("truncated")?,
            pipe_held: flag("pipe_held")?,
            stdout_total: fields.size("stdout_total")?,
            stderr_total: fields.size("stderr_total")?,
            charset: fields.text("charset")?,
        })
    }
}

impl ExecReply {
    /// Adds its keys to a header.
    pub fn write(&self, header: &mut Writer) {
        header.id(self.id.as_ref());
        header.plain("stdout_size", self.stdout_size);
        header.plain("stderr_size", self.stderr_size);
        match self.exit_code {
            None => header.json("exit_code", Some("null")),
            known => header.plain("exit_code", known),
        }
        header.plain("signal", self.signal);
        header.flag("timed_out", self.timed_out);
        header.flag("truncated", self.truncated);
        header.flag("pipe_held", self.pipe_held);
        header.plain("stdout_total", self.stdout_total);
        header.plain("stderr_total", self.stderr_total);
        header.text("charset", self.charset.as_deref());
    }

    /// The header of its frame.
    pub fn header(&self) -> String {
        written(&|header| self.write(header))
    }

    /// The offset of standard error in a body of `body_len` bytes. Refuses a reply that
    /// contradicts itself: sizes that do not match the body, a signal that does not match the
    /// code, output that is larger than its total, or smaller without a reason.
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

    /// Refuses the reply of a streamed command that contradicts itself or the received output.
    /// It must have no body, and must have the totals.
    pub fn check_streamed(&self, came: [u64; 2]) -> Result<()> {
        let (Some(stdout), Some(stderr)) = (self.stdout_total, self.stderr_total) else {
            return Err(contradiction("it has no totals of the output"));
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
            "output is missing, and it is not marked as truncated"
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

fn bad(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadField, detail.into())
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
            let header = header(&output_header(output, Some(&Id::Number(7))));
            assert_eq!(output_of(&header.fields().unwrap()).unwrap(), Some(output));
            assert_eq!(header.integer("id").unwrap(), 7);
        }
        let of = |text: &str| output_of(&header(text).fields().unwrap());
        assert_eq!(of(r#"{"exit_code":0}"#).unwrap(), None);
        assert_eq!(of(r#"{"stream":"std\u006fut"}"#).unwrap(), Some(0));
        for bad in [r#"{"stream":"stdin"}"#, r#"{"stream":""}"#] {
            assert_eq!(of(bad).unwrap_err().kind(), ErrorKind::BadReply);
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
        ExecReply::of(&Fields::parse(text).unwrap()).unwrap()
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
