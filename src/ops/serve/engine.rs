//! The part of a server that its threads share.
//!
//! | state | entered by | what happens |
//! |---|---|---|
//! | serving | the first `run` or `step` | everything |
//! | draining | the first stop | what waits to be accepted is accepted; requests are served; idle connections are ended |
//! | ending | the second stop, or `drain` after the first | connections are closed; calls on them are aborted |
//! | stopped | no connection is left | `run` returns |

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::net::{SocketAddrAny, sockopt};

use super::common::Common;
use super::lanes::Lanes;
use super::listening::{Listener, QUIT, STOP, TIMER};
use super::locked;
use super::log::{Level, add, take};
use super::options::{Limits, ServerOptions};
use super::peer::{Lane, Next, Peer, Pending, Refused};
use super::pool::Pool;
use super::resting::Kept;
use super::served::Audit;
use super::stop::{Asking, Stop};
use super::table::{Parked, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::io::poller::{Bell, Interest, Poller, Repeat, Timer, Token};
use crate::io::process::fork::Origin;
use crate::io::process::orphans::Orphans;
use crate::io::wait::Hook;
use crate::limits;
use crate::ops::frame::{Connection, ConnectionOptions, Ends};

pub(super) struct Engine {
    pub(super) common: Common,
    origin: Origin,
    /// Listeners, the stop and the timer; without workers the connections as well.
    pub(super) control: Poller,
    /// What the workers wait for.
    pub(super) shared: Option<Poller>,
    pub(super) stop: Arc<Stop>,
    /// Without workers.
    asking: Option<Arc<Asking>>,
    /// Ends the workers.
    pub(super) quit: Bell,
    pub(super) timer: Timer,
    pub(super) table: Mutex<Table>,
    pub(super) lanes: Mutex<Lanes>,
    pub(super) pool: Pool,
    pub(super) listeners: Mutex<Vec<Listener>>,
    /// When the second one came, or it took too long.
    pub(super) ending: OnceLock<Instant>,
    pub(super) is_over: AtomicBool,
    pub(super) is_paused: AtomicBool,
    pub(super) orphans: Mutex<Orphans>,
}

impl Engine {
    pub(super) fn new(options: ServerOptions) -> Result<Engine> {
        let common = Common::new(options)?;
        let control = Poller::new(Repeat::Always)?;
        let shared = (common.options.workers > 0).then(|| Poller::new(Repeat::Once)).transpose()?;
        let stop = Arc::new(Stop::new()?);
        let (timer, quit) = (Timer::new()?, Bell::new()?);
        control.add_for_all(stop.bell.fd(), STOP)?;
        // The first turn comes at once: it starts the threads.
        stop.bell.ring();
        control.add_for_all(timer.fd(), TIMER)?;
        if let Some(shared) = &shared {
            shared.add_for_all(quit.fd(), QUIT)?;
        }
        let Limits { drain, .. } = *common.limits();
        let asking = Asking::new(&stop, drain, common.options.interrupted.as_ref());
        Ok(Engine {
            asking: shared.is_none().then(|| Arc::new(asking)),
            origin: Origin::here(),
            control,
            shared,
            stop,
            quit,
            timer,
            table: Mutex::default(),
            lanes: Mutex::new(Lanes::new(common.limits())),
            pool: Pool::new(common.options.workers),
            listeners: Mutex::default(),
            ending: OnceLock::new(),
            is_over: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            orphans: Mutex::default(),
            common,
        })
    }

    // ---- what peers ask for

    /// Whether this is the process that made it. A child of fork(2) has the same epoll, and must
    /// change nothing in it.
    pub(super) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// Whether it has stopped.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Whether no connection is left.
    pub(super) fn has_none(&self) -> bool {
        locked(&self.table).count() == 0
    }

    /// Requests that take long and run.
    pub(super) fn running(&self) -> usize {
        locked(&self.lanes).running()
    }

    /// Whether nobody is waited for any more.
    pub(super) fn ends_now(&self) -> bool {
        self.ending.get().is_some()
    }

    /// Whether something was cut by the stop.
    pub(super) fn has_cut(&self) -> bool {
        self.ends_now() || self.stop.has_cut.load(Ordering::Acquire)
    }

    /// A connection has proved its key; false if there are too many.
    pub(super) fn settle(&self, token: Token) -> bool {
        let mut table = locked(&self.table);
        let settled = table.count() - table.pending();
        if settled >= self.common.limits().max_connections {
            return false;
        }
        table.settle(token);
        drop(table);
        self.accept_again();
        true
    }

    /// There is room again.
    fn accept_again(&self) {
        if self.is_paused.load(Ordering::Relaxed) {
            self.timer.set(Some(Instant::now()));
        }
    }

    // ---- connections

    /// Makes a connection of a descriptor.
    pub(super) fn connect(&self, ends: Ends<'static>) -> Result<Connection<'static>> {
        let hook = |asking: &Arc<Asking>| -> Hook {
            let asking = Arc::clone(asking);
            Box::new(move || asking.ask())
        };
        let interrupted = self.asking.as_ref().map(hook);
        let options = ConnectionOptions { interrupted, ..self.common.limits().connection() };
        let connection = Connection::new(ends, options)?;
        if let Some(fd) = connection.read_fd()
            && sockopt::set_socket_keepalive(fd, true).is_ok()
        {
            let alive = limits::KEEPALIVE;
            // They fail on a socket that is not TCP.
            let _ = sockopt::set_tcp_keepidle(fd, alive);
            let _ = sockopt::set_tcp_keepintvl(fd, alive / 6);
            let _ = sockopt::set_tcp_keepcnt(fd, 3);
        }
        Ok(connection)
    }

    /// Lets a connection in; `from` is the address that accept(2) has told.
    pub(super) fn admit(
        self: &Arc<Engine>,
        connection: Connection<'static>,
        from: Option<SocketAddrAny>,
    ) {
        let limits = self.common.limits();
        let access = &self.common.options.access;
        let needs_key = access.ring.is_some();
        let is_wrong_user = !access.admits(&connection.client());
        let (token, buffers, evicted, refused) = {
            let mut table = locked(&self.table);
            let is_one_too_many = table.count() - table.pending() >= limits.max_connections;
            let is_pending = needs_key || is_wrong_user || is_one_too_many;
            let is_full = is_pending && table.pending() >= limits.max_unauthenticated;
            let evicted = if is_full { table.evict() } else { None };
            let refused = match (is_wrong_user, is_one_too_many) {
                (true, _) => Some(Refused::User),
                (false, true) => Some(Refused::TooMany),
                (false, false) => None,
            };
            let token = table.insert(connection.handle(), is_pending);
            (token, table.lend(), evicted, refused)
        };
        add(&self.common.counts.connections, 1);
        add(&self.common.counts.connections_now, 1);
        if let Some((token, kept)) = evicted {
            add(&self.common.counts.refused_limit, 1);
            self.common.log.line(
                Level::Warning,
                format_args!("the oldest connection without a key is closed"),
            );
            if let Some(kept) = kept {
                self.close(token, kept.wake(&self.common));
            }
        }
        let audited = self.common.options.served.is_some();
        let audit = audited.then(|| Box::new(Audit::new(&connection, from)));
        let mut peer = Box::new(Peer::new(connection, needs_key, refused, audit));
        self.common.log.line(Level::Debug, format_args!("{}: connected", peer.who()));
        if is_wrong_user {
            add(&self.common.counts.refused_auth, 1);
            let text = format_args!("{}: refused: its user may not use the server", peer.who());
            self.common.log.line(Level::Warning, text);
        }
        peer.adopt(buffers);
        let next = peer.begin(&self.common);
        self.proceed(token, peer, next);
    }

    /// Starts the threads that are missing.
    pub(super) fn start(self: &Arc<Engine>) -> Result<()> {
        self.pool.start(|| self.worker())
    }

    /// The work of a thread.
    fn worker(self: &Arc<Engine>) -> impl FnOnce() + Send + 'static {
        let own = Arc::clone(self);
        move || own.serve()
    }

    fn serve(self: &Arc<Engine>) {
        let Some(poller) = &self.shared else { return };
        let mut tokens = Vec::with_capacity(1);
        loop {
            tokens.clear();
            // One event at a time: another thread takes the next one.
            if let Err(error) = poller.wait::<1>(&mut tokens, Some(SPARE)) {
                return self.common.log.line(Level::Error, format_args!("{error}"));
            }
            match tokens.first() {
                Some(&QUIT) => return,
                Some(&token) => {
                    self.on_event(token, None);
                    if !self.is_here() {
                        return; // a handler has forked, and this is the child
                    }
                }
                None if self.pool.leave(self.running()) => return,
                None => {}
            }
        }
    }

    /// An event of a connection. `clock` is the time, and so is what it returns, if that was looked
    /// at just before.
    pub(super) fn on_event(
        self: &Arc<Engine>,
        token: Token,
        clock: Option<Instant>,
    ) -> Option<Instant> {
        let (kept, buffers) = {
            let mut table = locked(&self.table);
            // It may have been closed since.
            let Some(kept) = table.call(token) else { return clock };
            (kept, table.lend())
        };
        let mut peer = kept.wake(&self.common);
        peer.adopt(buffers);
        let next = self.turn(&mut peer, clock);
        if !self.is_here() {
            Box::leak(peer);
            return None;
        }
        let clock = matches!(next, Next::Wait(..)).then(|| peer.clock()).flatten();
        self.work(token, peer, next);
        clock
    }

    fn turn(&self, peer: &mut Peer, clock: Option<Instant>) -> Next {
        catch_unwind(AssertUnwindSafe(|| peer.turn(&self.common, clock))).unwrap_or(Next::Close)
    }

    /// Does what is next, and everything after that.
    fn work(self: &Arc<Engine>, token: Token, peer: Box<Peer>, next: Next) {
        let (mut peer, mut next) = (peer, next);
        loop {
            let Next::Run(lane) = next else {
                let Some(called) = self.try_proceed(token, peer, next) else { return };
                peer = called;
                next = self.turn(&mut peer, None);
                continue;
            };
            let entered = {
                let mut lanes = locked(&self.lanes);
                if self.ends_now() {
                    drop(lanes);
                    return self.close(token, peer);
                }
                lanes.enter(lane, token, peer)
            };
            if let Some(peer) = entered {
                self.run(token, peer, lane);
            }
            return;
        }
    }

    /// Serves a request that takes long, and then the next ones that wait for its place.
    fn run(self: &Arc<Engine>, token: Token, peer: Box<Peer>, lane: Lane) {
        let mut next = Some((token, peer));
        while let Some((token, mut peer)) = next {
            let _counted = self.common.count_request();
            let running = locked(&self.lanes).running();
            let ran = catch_unwind(AssertUnwindSafe(|| {
                match self.pool.begin_long(running, self.worker()) {
                    Ok(()) => peer.run(&self.common, lane),
                    Err(error) => {
                        self.common.log.line(Level::Error, format_args!("{error}"));
                        peer.refuse_run(&self.common);
                    }
                }
            }));
            if !self.is_here() {
                // A policy has forked, and this is the child.
                Box::leak(peer);
                return;
            }
            if ran.is_err() {
                peer.conclude(&self.common, Some(ErrorKind::Panic));
            }
            next = locked(&self.lanes).leave(lane);
            let after = if ran.is_ok() { self.turn(&mut peer, None) } else { Next::Close };
            // Others wait for the place, and for this thread.
            let after = if let Next::Run(_) = after { peer.give_way(&self.common) } else { after };
            self.proceed(token, peer, after);
        }
    }

    /// Parks or closes a connection, for a thread that serves no requests.
    pub(super) fn proceed(self: &Arc<Engine>, token: Token, peer: Box<Peer>, next: Next) {
        let mut called = self.try_proceed(token, peer, next);
        while let Some(peer) = called {
            // The event comes again.
            let now = Instant::now();
            called = self.park(token, peer, Interest::Both, now + limits::ACCEPT_PAUSE);
        }
    }

    /// The same; the connection, if an event has come meanwhile.
    fn try_proceed(
        self: &Arc<Engine>,
        token: Token,
        mut peer: Box<Peer>,
        next: Next,
    ) -> Option<Box<Peer>> {
        match next {
            Next::Wait(interest, due) => self.park(token, peer, interest, due),
            Next::Proved => {
                let is_one_too_many = !self.settle(token);
                let next = peer.proved(&self.common, is_one_too_many);
                self.try_proceed(token, peer, next)
            }
            Next::Later => {
                self.hold(token, peer);
                None
            }
            Next::Close | Next::Run(_) => {
                self.close(token, peer);
                None
            }
        }
    }

    /// Goes on once its handler gives the connection back. Until then nobody waits for an event of
    /// it here: the host may.
    fn hold(self: &Arc<Engine>, token: Token, mut peer: Box<Peer>) {
        let Some(pending) = peer.pending.take() else { return self.close(token, peer) };
        let Pending { lent, request } = *pending;
        if let (Some(fd), Some(_)) = (request.fd, peer.armed.take()) {
            self.poller().remove(fd);
        }
        add(&self.common.counts.requests_now, 1);
        let engine = Arc::clone(self);
        lent.wait(move |left| {
            if !engine.is_here() {
                Box::leak(peer);
                return;
            }
            take(&engine.common.counts.requests_now);
            let next = peer.resume(&engine.common, &request, left);
            engine.proceed(token, peer, next);
        });
    }

    /// Whether a descriptor is of a kind that can be waited for.
    pub(super) fn check(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.control.add(fd, QUIT, Interest::Pause)?;
        self.control.remove(fd);
        Ok(())
    }

    fn poller(&self) -> &Poller {
        self.shared.as_ref().unwrap_or(&self.control)
    }

    /// Waits for the next event of a connection. It is armed while this thread still has it, so
    /// that nobody can close its descriptor before, and without the lock, for which the thread
    /// that gets the event would wait.
    fn park(
        &self,
        token: Token,
        mut peer: Box<Peer>,
        interest: Interest,
        due: Instant,
    ) -> Option<Box<Peer>> {
        let buffers = peer.give_back();
        let armed = match (peer.fd(), peer.armed.replace(interest)) {
            (None, _) => Err(Error::new(ErrorKind::State, "it has no descriptor")),
            (Some(fd), None) => self.poller().add(fd, token, interest),
            (Some(_), Some(before)) if before == interest && self.shared.is_none() => Ok(()),
            (Some(fd), Some(_)) => self.poller().arm(fd, token, interest),
        };
        if let Err(error) = armed {
            self.common.log.line(Level::Error, format_args!("a connection is closed: {error}"));
            self.close(token, peer);
            return None;
        }
        let kept = Kept::new(peer);
        let mut table = locked(&self.table);
        let parked =
            if self.ends_now() { Parked::Doomed(kept) } else { table.park(token, kept, due) };
        match parked {
            Parked::Here { is_first } => {
                table.keep(buffers);
                if is_first {
                    self.timer.set(table.first_time());
                }
                None
            }
            Parked::Called(kept) => {
                drop(table);
                let mut peer = kept.wake(&self.common);
                peer.adopt(buffers);
                Some(peer)
            }
            Parked::Doomed(kept) => {
                drop(table);
                self.close(token, kept.wake(&self.common));
                None
            }
        }
    }

    pub(super) fn close(&self, token: Token, mut peer: Box<Peer>) {
        let buffers = peer.give_back();
        let why = if self.ends_now() { ErrorKind::Aborted } else { ErrorKind::Closed };
        peer.conclude(&self.common, Some(why));
        peer.count_bytes(&self.common);
        peer.forget_memory(&self.common);
        if let (Some(fd), Some(_)) = (peer.fd(), peer.armed) {
            self.poller().remove(fd);
        }
        self.common.log.line(Level::Debug, format_args!("{}: closed", peer.who()));
        drop(peer);
        let count = {
            let mut table = locked(&self.table);
            table.keep(buffers);
            table.remove(token);
            table.count()
        };
        take(&self.common.counts.connections_now);
        if count == 0 && self.common.is_draining() {
            self.stop.bell.ring();
        } else {
            self.accept_again();
        }
    }
}

/// How long a thread is kept that was started for a request that took long.
const SPARE: Duration = Duration::from_secs(10);
