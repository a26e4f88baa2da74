//! Whether the client of a running command is there.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::io::deadline::Deadline;
use crate::ops::Duplex;
use crate::ops::run::Flow;
use crate::wire::message::exec::OnClose;

/// The client of a running command, as far as its descriptors tell without being read.
pub(super) struct Client<'fd> {
    duplex: Duplex<'fd>,
    on_close: OnClose,
    grace: Duration,
    pub(super) state: ClientState,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ClientState {
    /// Nothing was heard of its going.
    Present,
    /// It has closed its sending side; perhaps it waits for the reply.
    Closed { until: Deadline },
    /// The same, longer than the grace: its command was ended.
    ClosedLong,
    /// A reset or a hang-up: nobody is there.
    Gone,
}

impl<'fd> Client<'fd> {
    pub(super) fn new(duplex: Duplex<'fd>, on_close: OnClose, grace: Duration) -> Client<'fd> {
        Client { duplex, on_close, grace, state: ClientState::Present }
    }

    pub(super) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if self.on_close == OnClose::Run || matches!(self.state, ClientState::Gone) {
            return;
        }
        let watch = |fd: BorrowedFd<'a>, what| PollFd::from_borrowed_fd(fd, what);
        if matches!(self.state, ClientState::Present) {
            fds.push(watch(self.duplex.reader, PollFlags::RDHUP));
        }
        fds.push(watch(self.duplex.writer, PollFlags::empty()));
    }

    pub(super) fn ready(&mut self, ready: &[PollFlags]) -> Result<Flow> {
        let (reader, writer) = match ready {
            [reader, writer] => (*reader, *writer),
            [writer] => (PollFlags::empty(), *writer),
            _ => return Ok(Flow::Continue),
        };
        if (reader | writer).contains(PollFlags::NVAL) {
            // It was the host that closed it.
            return Err(Error::system("poll", Errno::BADF));
        }
        if writer.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.state = ClientState::Gone;
            return Ok(Flow::End);
        }
        if !reader.is_empty() {
            self.state = ClientState::Closed { until: Deadline::after(self.grace) };
        }
        Ok(Flow::Continue)
    }
}
