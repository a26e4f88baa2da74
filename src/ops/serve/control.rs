//! The thread that controls a server: it accepts connections, looks at the time, and stops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::engine::Engine;
use super::listening::{LISTENER, Listener, Listening, STOP, TIMER};
use super::locked;
use super::log::{Level, add};
use super::options::Interrupted;
use super::peer::Next;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::poller::{Interest, Token};
use crate::io::stream::address;
use crate::io::wait::SLICE;
use crate::limits;

impl Engine {
    /// Adds a listening socket.
    pub(super) fn listen(&self, socket: Listening) -> Result<()> {
        let mut listeners = locked(&self.listeners);
        let token = LISTENER | listeners.len() as Token;
        self.control.add(socket.fd(), token, Interest::Read)?;
        listeners.push(Listener { socket: Some(socket) });
        Ok(())
    }

    /// One turn; [`ErrorKind::TimedOut`] if there was nothing to do, [`ErrorKind::Closed`] once
    /// the server has stopped.
    pub(super) fn step(
        self: &Arc<Engine>,
        timeout: Option<Duration>,
        tokens: &mut Vec<Token>,
    ) -> Result<()> {
        let stopped = || Err(Error::new(ErrorKind::Closed, "the server has stopped"));
        if self.is_over() {
            return stopped();
        }
        tokens.clear();
        match &self.common.options.interrupted {
            Some(interrupted) if timeout != Some(Duration::ZERO) => {
                self.wait_and_ask(tokens, timeout, interrupted)?;
            }
            _ => self.control.wait::<EVENTS>(tokens, timeout)?,
        }
        let mut clock = None;
        for &token in &*tokens {
            let before = clock.take();
            match token {
                STOP => self.on_stop(),
                TIMER => self.on_time(),
                listener if listener & LISTENER != 0 => {
                    self.accept(usize::try_from(listener & !LISTENER).unwrap_or(usize::MAX), BATCH);
                }
                connection => clock = self.on_event(connection, before),
            }
            if !self.is_here() {
                // A handler has forked, and this is the child.
                return Err(Error::new(ErrorKind::Forked, ""));
            }
        }
        if self.common.is_draining() && self.is_done() {
            self.is_over.store(true, Ordering::Release);
            return stopped();
        }
        match tokens.len() {
            _ if self.stop.was_interrupted() => Err(interrupted()),
            0 => Err(Error::new(ErrorKind::TimedOut, "nothing happened")),
            _ => Ok(()),
        }
    }

    /// Waits for events, and asks the host whether to go on.
    fn wait_and_ask(
        &self,
        tokens: &mut Vec<Token>,
        timeout: Option<Duration>,
        asked: &Interrupted,
    ) -> Result<()> {
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        loop {
            if asked().is_break() {
                return Err(interrupted());
            }
            let left = deadline.remaining().map_or(SLICE, |left| left.min(SLICE));
            self.control.wait::<EVENTS>(tokens, Some(left))?;
            if !tokens.is_empty() || deadline.passed() {
                return Ok(());
            }
        }
    }

    /// Whether nothing is left. What has connected meanwhile is served first, for a while.
    fn is_done(self: &Arc<Engine>) -> bool {
        let sweeps = !self.common.has_stopped_for(limits::LINGER_TIME) && !self.ends_now();
        if sweeps && self.has_none() {
            self.accept_all();
        }
        // A handler that does not look at its connection cannot be ended.
        let is_late = self.ending.get().is_some_and(|at| at.elapsed() >= limits::LINGER_TIME);
        is_late || self.has_none()
    }

    /// Accepts up to `most` connections.
    fn accept(self: &Arc<Engine>, index: usize, most: usize) {
        for _ in 0..most {
            let now = Instant::now();
            let crowded =
                locked(&self.table).crowded_until(self.common.limits().max_unauthenticated);
            if let Some(until) = crowded.filter(|until| *until > now) {
                return self.accept_none(Some(until));
            }
            let accepted = {
                let listeners = locked(&self.listeners);
                let Some(Listener { socket: Some(socket) }) = listeners.get(index) else { return };
                address::accept_from(socket.fd())
            };
            match accepted {
                Ok(None) => return,
                Ok(Some((fd, from))) => match self.connect(fd.into()) {
                    Ok(connection) => self.admit(connection, from),
                    Err(error) => {
                        let log = &self.common.log;
                        log.line(Level::Error, format_args!("a connection is lost: {error}"));
                    }
                },
                Err(error) => return self.cannot_accept(index, &error),
            }
        }
    }

    fn accept_all(self: &Arc<Engine>) {
        let count = locked(&self.listeners).len();
        (0..count).for_each(|index| self.accept(index, limits::LISTEN_BACKLOG as usize));
    }

    /// There is no room for a connection, or the socket is of no use any more.
    fn cannot_accept(&self, index: usize, error: &Error) {
        let is_gone = error.kind() == ErrorKind::BadDescriptor
            || error.errno() == Errno::INVAL.raw_os_error();
        self.common.log.line(Level::Error, format_args!("cannot accept: {error}"));
        if is_gone {
            let mut listeners = locked(&self.listeners);
            if let Some(socket) = listeners.get_mut(index).and_then(|there| there.socket.take()) {
                self.control.remove(socket.fd());
            }
            return;
        }
        add(&self.common.counts.refused_limit, 1);
        self.accept_none(Instant::now().checked_add(limits::ACCEPT_PAUSE));
    }

    /// Accepts nothing for a while, or until a connection leaves or has proved its key.
    fn accept_none(&self, until: Option<Instant>) {
        self.listen_for(Interest::Pause);
        self.is_paused.store(true, Ordering::Relaxed);
        let mut table = locked(&self.table);
        table.resume = until;
        self.timer.set(table.first_time());
    }

    fn listen_for(&self, interest: Interest) {
        for (index, listener) in locked(&self.listeners).iter().enumerate() {
            if let Some(socket) = &listener.socket {
                // The host may have closed it.
                let _ = self.control.arm(socket.fd(), LISTENER | index as Token, interest);
            }
        }
    }

    /// The time of something is up.
    fn on_time(self: &Arc<Engine>) {
        let now = Instant::now();
        if self.is_paused.swap(false, Ordering::Relaxed) {
            locked(&self.table).resume = None;
            if !self.common.is_draining() {
                self.listen_for(Interest::Read);
            }
        }
        if self.common.has_stopped_for(self.common.limits().drain) {
            self.end_now();
        }
        self.reap(now);
        let due = {
            let mut table = locked(&self.table);
            table.put_to_rest(now);
            table.take_due(now)
        };
        for (token, kept) in due {
            let mut peer = kept.wake(&self.common);
            let next = catch_unwind(AssertUnwindSafe(|| peer.expire(&self.common)));
            self.proceed(token, peer, next.unwrap_or(Next::Close));
        }
        let table = locked(&self.table);
        self.timer.set(table.first_time());
    }

    /// Reaps inherited processes, every second.
    pub(super) fn reap(&self, now: Instant) {
        if !self.common.options.reap || locked(&self.table).reap.is_some_and(|at| at > now) {
            return;
        }
        locked(&self.orphans).reap();
        let mut table = locked(&self.table);
        table.reap = now.checked_add(REAP);
        self.timer.set(table.first_time());
    }

    /// Somebody has asked it to stop, or the last connection is closed.
    fn on_stop(self: &Arc<Engine>) {
        self.stop.bell.hush();
        let count = self.stop.count();
        if count > 0 && !self.common.is_draining() {
            self.drain();
        }
        if count > 1 {
            self.end_now();
        }
    }

    fn drain(self: &Arc<Engine>) {
        let now = Instant::now();
        let _ = self.common.stopped.set(now);
        self.common.log.line(Level::Info, format_args!("stopping"));
        self.accept_all();
        self.listen_for(Interest::Pause);
        let mut table = locked(&self.table);
        for token in table.parked() {
            if let Some(due) = table.peek(token).and_then(|kept| kept.drain(now)) {
                table.note(token, due);
            }
        }
        table.end = now.checked_add(self.common.limits().drain);
        self.timer.set(table.first_time());
    }

    /// Ends what still runs.
    pub(super) fn end_now(&self) {
        let now = Instant::now();
        let parked = {
            let mut table = locked(&self.table);
            if self.ending.set(now).is_err() {
                return;
            }
            table.end = now.checked_add(limits::LINGER_TIME);
            let tokens = table.parked();
            tokens
                .into_iter()
                .filter_map(|token| Some((token, table.take(token)?.wake(&self.common))))
                .collect::<Vec<_>>()
        };
        let waiting = locked(&self.lanes).clear();
        let cut = parked.len() + waiting.len();
        for (token, peer) in parked.into_iter().chain(waiting) {
            self.close(token, peer);
        }
        let table = locked(&self.table);
        table.abort_busy();
        self.timer.set(table.first_time());
        let cut = cut + table.count();
        drop(table);
        if cut > 0 {
            self.common.log.line(Level::Warning, format_args!("{cut} connections are cut"));
        }
    }

    /// Closes the listening sockets that it owns.
    pub(super) fn forget_listeners(&self) {
        for listener in locked(&self.listeners).iter_mut() {
            if let Some(socket) = listener.socket.take() {
                self.control.remove(socket.fd());
            }
        }
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Canceled, "the host has ended the wait")
}

/// How often inherited processes are reaped.
const REAP: Duration = Duration::from_secs(1);
/// Events of one turn, and connections that are accepted in one.
const EVENTS: usize = 64;
const BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use crate::io::testing;
    use crate::ops::frame::{Connection, ConnectionOptions};
    use crate::ops::serve::{Server, ServerOptions};

    use super::*;

    /// It pauses, and neither ends nor spins.
    #[test]
    fn whatever_accept_fails_with_it_goes_on() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PERM] {
            let options = ServerOptions { hello: true, ..ServerOptions::default() };
            let server = Server::new(options).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            server.listen(OwnedFd::from(listener)).unwrap();
            let client = TcpStream::connect(address).unwrap();
            let step = || match server.step(Some(Duration::from_millis(10))) {
                Err(error) if error.kind() == ErrorKind::TimedOut => 0,
                stepped => stepped.map_or_else(|error| panic!("{errno}: {error}"), |()| 1),
            };
            let turns: u32 = testing::failing(&[(libc::SYS_accept4, errno)], || {
                let begun = Instant::now();
                let mut turns = 0;
                while begun.elapsed() < Duration::from_millis(500) {
                    turns += step();
                }
                turns
            });
            assert!(server.counters().refused_limit > 0 && turns < 50, "{errno}: {turns}");
            std::thread::scope(|scope| {
                let asking = scope.spawn(|| {
                    let fd = OwnedFd::from(client);
                    let mut client = Connection::new(fd, ConnectionOptions::default()).unwrap();
                    client.call(r#"{"cmd":"hello"}"#, b"", Duration::from_secs(20)).map(drop)
                });
                while !asking.is_finished() {
                    step();
                }
                asking.join().unwrap().unwrap();
            });
        }
    }
}
