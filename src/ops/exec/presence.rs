//! Whether the client of a command is still connected, and what to do when it is not.
//!
//! | Event                                  | Then                                           |
//! |----------------------------------------|------------------------------------------------|
//! | its end-of-stream is seen              | `Present` becomes `Closed`, with a grace: it   |
//! |                                        | may have closed only its sending side, and     |
//! |                                        | wait for the reply                             |
//! | the grace passes                       | `Closed` becomes `ClosedLong`: the command is  |
//! |                                        | ended, and the reply sent                      |
//! | a reset, a hang-up or a failed write   | `Gone`: the command is ended, and no reply     |
//! |                                        | sent                                           |
//!
//! With [`OnClose::Run`] none of this happens: the client stays `Present`, unless a reset
//! cuts its input.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::handler::Flow;
use super::options::ServeOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::wire::message::exec::OnClose;

/// Signs that a client has disconnected.
pub(super) struct Presence {
    on_close: OnClose,
    grace: Duration,
    client: Client,
}

/// The states of the table above.
#[derive(Clone, Copy, Debug)]
enum Client {
    Present,
    Closed { until: Deadline },
    ClosedLong,
    Gone,
}

impl Presence {
    pub(super) fn new(asked: Option<OnClose>, options: &ServeOptions<'_>) -> Presence {
        Presence {
            on_close: asked.unwrap_or(options.on_close),
            grace: options.close_grace,
            client: Client::Present,
        }
    }

    /// Whether the command ends when the client disconnects.
    pub(super) fn kills(&self) -> bool {
        self.on_close == OnClose::Kill
    }

    pub(super) fn is_present(&self) -> bool {
        matches!(self.client, Client::Present)
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.client, Client::Gone)
    }

    /// Its end of stream was seen, and everything before it was read.
    pub(super) fn close(&mut self) {
        if self.kills() && self.is_present() {
            self.client = Client::Closed { until: Deadline::after(self.grace) };
        }
    }

    /// Nobody reads the written bytes.
    pub(super) fn lose(&mut self) -> Flow {
        if self.kills() { self.reset() } else { Flow::Continue }
    }

    /// Its input was truncated, and a command must not run on with a part of it.
    pub(super) fn reset(&mut self) -> Flow {
        self.client = Client::Gone;
        Flow::End
    }

    /// The end of the grace.
    pub(super) fn deadline(&self) -> Deadline {
        match self.client {
            Client::Closed { until } => until,
            _ => Deadline::NEVER,
        }
    }

    /// Ends the command if the grace has passed.
    pub(super) fn overdue(&mut self) -> Flow {
        if !self.deadline().passed() {
            return Flow::Continue;
        }
        self.client = Client::ClosedLong;
        Flow::End
    }

    /// After a run: an error if the client cannot receive a reply.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_gone() {
            return Err(Error::new(ErrorKind::Closed, "the client disconnected from its command"));
        }
        Ok(())
    }
}

/// The events of the client's descriptors; an error if the host has closed one. A socket that is
/// reported with ERR alone has something in its error queue, and no other event: the client is
/// still connected.
pub(super) fn seen(fds: [BorrowedFd<'_>; 2], ready: [PollFlags; 2]) -> Result<[PollFlags; 2]> {
    if (ready[0] | ready[1]).contains(PollFlags::NVAL) {
        return Err(Error::system("poll", Errno::BADF));
    }
    let of = |end: usize| match ready[end] {
        PollFlags::ERR if sockopt::socket_type(fds[end]).is_ok() => PollFlags::empty(),
        events => events,
    };
    Ok([of(0), of(1)])
}

/// Whether a write descriptor reports that nobody reads.
pub(super) fn hangs_up(writer: PollFlags) -> bool {
    writer.intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Whether the host wants the call to end: then no reply is sent.
pub(super) fn is_interrupt(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Canceled | ErrorKind::Aborted | ErrorKind::Forked)
}
