//! One command and its reply on raw descriptors: the client is watched, but not read.

use rustix::event::PollFlags;

use super::completion::Collector;
use super::handler::{Flow, Handler, Interest, Stream};
use super::job::Job;
use super::options::ServeOptions;
use super::presence::{Presence, hangs_up, is_interrupt, seen};
use super::server::{Report, Served};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, TimeLimit};
use crate::io::wait::Interrupt;
use crate::ops::Duplex;
use crate::ops::frame::{self, Client};
use crate::wire::message::ErrorReply;
use crate::wire::message::exec::ExecRequest;

/// Runs `command` through `/bin/sh -c` and sends one reply.
pub fn run_and_reply(
    duplex: Duplex<'_>,
    command: &[u8],
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let mut job = Job::new(ExecRequest::default(), options);
    let admitted = job.admit(command, None, Client::at(duplex.reader));
    let mut watched = Watched {
        duplex,
        interrupt: options.interrupt,
        presence: Presence::new(None, options),
        collector: Collector::new(&job.limits),
    };
    let completion = match admitted.and_then(|()| job.run(command, &mut watched)) {
        Ok(completion) => completion,
        Err(error) if is_interrupt(&error) => return Err(error),
        Err(error) => {
            let message = error.to_string();
            let refusal = ErrorReply::new(error.kind(), &message, None).header();
            send_reply(duplex, &refusal, &[], options)?;
            return Ok(Served::failed(error));
        }
    };
    watched.presence.check()?;
    let client_gone = !watched.presence.is_present();
    let captured = watched.collector.captured(completion);
    let reply = captured.reply(None);
    let body = [&captured.stdout[..], &captured.stderr];
    send_reply(duplex, &reply.header(), &body, options)?;
    Ok(Served::Ran(Report { reply, client_gone }))
}

/// Sends a reply. A deadline that passes before it leaves the stream out of sync, on both ends:
/// this one still has a reply to send, and the other may still get it.
fn send_reply(
    duplex: Duplex<'_>,
    header: &str,
    body: &[&[u8]],
    options: &ServeOptions<'_>,
) -> Result<()> {
    let length = body.iter().map(|part| part.len() as u64).sum();
    let time_limit = TimeLimit::for_bytes(length, options.stall());
    let framing = frame::Options::default();
    let sent = frame::send_by(duplex.writer, Some(header), body, &framing, time_limit);
    sent.map_err(|error| match error.kind() {
        ErrorKind::TimedOut => Error::new(ErrorKind::Stalled, "there was no reply in time"),
        _ => error,
    })
}

/// A command whose output is kept, and whose client sends nothing.
struct Watched<'fd, 'a> {
    duplex: Duplex<'fd>,
    interrupt: Option<&'a Interrupt>,
    presence: Presence,
    collector: Collector,
}

impl Handler for Watched<'_, '_> {
    fn output(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Result<Flow> {
        self.collector.output(stream, bytes)
    }

    fn interests(&self) -> [Interest<'_>; 2] {
        if !self.presence.kills() || self.presence.is_gone() {
            return [None; 2];
        }
        let reader = (self.duplex.reader, PollFlags::RDHUP);
        let writer = (self.duplex.writer, PollFlags::empty());
        [Some(reader).filter(|_| self.presence.is_present()), Some(writer)]
    }

    fn interrupt(&self) -> Option<&Interrupt> {
        self.interrupt
    }

    fn ready(&mut self, ready: [PollFlags; 2]) -> Result<Flow> {
        let [reader, writer] = seen([self.duplex.reader, self.duplex.writer], ready)?;
        if hangs_up(writer) {
            return Ok(self.presence.lose());
        }
        if !reader.is_empty() {
            self.presence.close();
        }
        Ok(Flow::Continue)
    }

    fn deadline(&mut self) -> Deadline {
        self.presence.deadline()
    }

    fn overdue(&mut self) -> Result<Flow> {
        Ok(self.presence.overdue())
    }
}
