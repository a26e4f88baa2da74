//! A command at the peer, with input from a descriptor and output to two.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::event::PollFlags;

use super::handler::Stream;
use super::running::{INPUT_STEP, Running, Turns};
use crate::error::Result;
use crate::io::deadline::{Deadline, Time};
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::ops::frame::Connection;

impl Running {
    /// Copies input from `stdin` to the command and its output to `stdout` and `stderr` until it
    /// has ended: then [`reply`](Self::reply) returns its result. The end of `stdin` ends the
    /// input; without `stdin` the input ends at once. Flags of descriptors are not changed, and
    /// a descriptor is used only if poll(2) reports it as ready.
    ///
    /// [`TimedOut`](crate::ErrorKind::TimedOut): nothing is lost, and the call can be made
    /// again. An error of one of the three descriptors names it.
    pub fn copy(
        &mut self,
        connection: &mut Connection<'_>,
        stdin: Option<BorrowedFd<'_>>,
        [stdout, stderr]: [BorrowedFd<'_>; 2],
        timeout: impl Into<Time>,
    ) -> Result<()> {
        let mut turns = Turns::new(timeout);
        let interrupt = Arc::clone(connection.shared().interrupt());
        let mut source = stdin.map(|fd| Source::new(fd, Deadline::NEVER));
        let mut sinks = [stdout, stderr].map(|fd| Sink::new(fd, Deadline::NEVER));
        if let Some(source) = &mut source {
            source.set_interrupt(Some(Arc::clone(&interrupt)));
        }
        for sink in &mut sinks {
            sink.set_interrupt(Some(Arc::clone(&interrupt)));
        }
        let mut took_input = false;
        loop {
            if source.is_none() {
                self.put_end_of_input(connection)?;
            }
            let mut is_busy = std::mem::take(&mut took_input);
            is_busy |= self.advance(connection)?;
            is_busy |= self.hold_output(connection)?;
            is_busy |= self.write_held(&mut sinks)?;
            let to = self.held().map(|(stream, _)| [stdout, stderr][stream as usize]);
            if to.is_none() && self.has_ended(connection)? {
                return Ok(());
            }
            turns.next(is_busy)?;
            let from = stdin.filter(|_| self.takes_input(connection));
            let watched = [(from, PollFlags::IN), (to, PollFlags::OUT)];
            // Even then input gets its turn.
            let deadline = if is_busy { Deadline::PAST } else { turns.deadline };
            let is_ready = match self.wait(connection, deadline, to.is_none(), watched) {
                Err(error) if is_busy && error.kind() == crate::ErrorKind::TimedOut => false,
                ready => ready?[0],
            };
            if is_ready && let Some(from) = &mut source {
                match self.take_input(from)? {
                    None => {}
                    Some(0) => source = None,
                    Some(_) => {
                        self.send_piece(connection)?;
                        took_input = true;
                    }
                }
            }
        }
    }

    fn take_input(&mut self, from: &mut Source<'_>) -> Result<Option<usize>> {
        let got = from.try_read_more(self.new_piece()?, INPUT_STEP as u64);
        got.map_err(|error| error.context("standard input"))
    }

    /// Writes held output as far as it is accepted; whether some was.
    fn write_held(&mut self, sinks: &mut [Sink<'_>; 2]) -> Result<bool> {
        let Some((stream, held)) = self.held() else { return Ok(false) };
        let written = sinks[stream as usize].try_write(&[IoSlice::new(held)]);
        let written = written.map_err(|error| {
            error.context(match stream {
                Stream::Stdout => "standard output",
                Stream::Stderr => "standard error",
            })
        })?;
        self.written(written.unwrap_or(0));
        Ok(written.is_some())
    }
}
