//! A conversation with a running command: what it is given, and what it wrote.

use framefd::Result;
use framefd::io::deadline::Deadline;
use framefd::ops::exec::{
    Captured, Collector, Command, Completion, Flow, Handler, Input, Limits, Stdio, Stream, run_with,
};

use super::exec::LONG;

/// No command outlives a test by long, even if it fails.
pub fn limits() -> Limits {
    Limits { time: Some(LONG), ..Limits::default() }
}

/// Runs a command and keeps its output.
pub fn run(command: &Command<'_>, limits: &Limits) -> Result<Captured> {
    let mut collector = Collector::new(limits);
    let completion = run_with(command, limits, &mut collector)?;
    Ok(collector.captured(completion))
}

/// Why a script is asked what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// The command wrote something; it has been added to what is there.
    Output(Stream),
    /// `wake` has passed.
    Woken,
    /// The command has ended. What the script answers does not matter.
    Ended,
}

/// What a script has to do with.
#[derive(Debug)]
pub struct Talk {
    /// What the command gets to read next.
    pub input: Vec<u8>,
    /// More may follow.
    pub open: bool,
    /// What the command wrote, by stream.
    pub output: [Vec<u8>; 2],
    /// No output is taken.
    pub deaf: bool,
    /// When the script wants to be asked.
    pub wake: Deadline,
    /// The command reads no more.
    pub input_closed: bool,
    /// How often the command has ended.
    pub ended: u32,
}

impl Talk {
    /// Of a command with no input that is listened to.
    pub fn new() -> Talk {
        Talk {
            input: Vec::new(),
            open: false,
            output: [Vec::new(), Vec::new()],
            deaf: false,
            wake: Deadline::NEVER,
            input_closed: false,
            ended: 0,
        }
    }

    /// The same with an input that ends after `bytes`.
    pub fn with_input(bytes: &[u8]) -> Talk {
        Talk { input: bytes.to_vec(), ..Talk::new() }
    }

    /// Runs shell code with pipes for all three.
    pub fn shell(
        &mut self,
        text: &str,
        limits: &Limits,
        script: impl FnMut(&mut Talk, Cue) -> Flow,
    ) -> Completion {
        let mut command = Command::shell(text.as_bytes());
        command.stdio = Stdio::Pipes { input: true, merge: false };
        self.run(&command, limits, script)
    }

    pub fn run(
        &mut self,
        command: &Command<'_>,
        limits: &Limits,
        mut script: impl FnMut(&mut Talk, Cue) -> Flow,
    ) -> Completion {
        self.try_run(command, limits, |talk, cue| Ok(script(talk, cue))).unwrap()
    }

    pub fn try_run(
        &mut self,
        command: &Command<'_>,
        limits: &Limits,
        script: impl FnMut(&mut Talk, Cue) -> Result<Flow>,
    ) -> Result<Completion> {
        run_with(command, limits, &mut Performance { talk: self, script })
    }

    /// What it wrote to its standard output.
    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.output[0]).unwrap()
    }
}

/// A script with nothing to say.
pub fn silent(_: &mut Talk, _: Cue) -> Flow {
    Flow::Continue
}

struct Performance<'a, F> {
    talk: &'a mut Talk,
    script: F,
}

impl<F: FnMut(&mut Talk, Cue) -> Result<Flow>> Handler for Performance<'_, F> {
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        assert!(!bytes.is_empty() && self.takes_output());
        let output = &mut self.talk.output[stream as usize];
        if output.is_empty() {
            // A buffer that is taken away is no loss.
            *output = std::mem::take(bytes);
        } else {
            output.append(bytes);
        }
        (self.script)(self.talk, Cue::Output(stream))
    }

    fn takes_output(&self) -> bool {
        !self.talk.deaf
    }

    fn input(&self) -> Input<'_> {
        assert!(!self.talk.input_closed, "it is closed, and nobody asks for it");
        match self.talk.input.as_slice() {
            [] if self.talk.open => Input::Later,
            [] => Input::End,
            bytes => Input::Bytes(bytes),
        }
    }

    fn consumed(&mut self, length: usize) {
        self.talk.input.drain(..length);
    }

    fn input_closed(&mut self) {
        self.talk.input_closed = true;
    }

    fn ended(&mut self) {
        self.talk.ended += 1;
        let _ = (self.script)(self.talk, Cue::Ended);
    }

    fn deadline(&mut self) -> Deadline {
        self.talk.wake
    }

    fn overdue(&mut self) -> Result<Flow> {
        self.talk.wake = Deadline::NEVER;
        (self.script)(self.talk, Cue::Woken)
    }
}
