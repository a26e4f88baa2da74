//! An agent that dials out: connections to hubs, each of which waits until a client is lent it.
//!
//! | state | what follows |
//! |---|---|
//! | connecting | waiting; or, after a failure, a pause |
//! | waiting | the first byte of a client: the server has the connection, and the next one is made; its end: a pause |
//! | pause | connecting; pauses grow from 0.2 s to 30 s until a connection has held |

use std::ffi::OsStr;
use std::hash::{BuildHasher as _, RandomState};
use std::io::PipeReader;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use framefd::auth::{KeyId, Keyring};
use framefd::frame::{Deadline, connect};
use framefd::serve::{Level, Server};
use framefd::{ErrorKind, auth, limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};

use crate::dial::{keep_alive, no_delay};
use crate::failure::{Failure, Result, text_of};
use crate::handover::{HandOver, Wait};
use crate::log::Log;
use crate::output::{one_line, shown};
use crate::serve::RULES;

/// What all connections have in common.
pub struct DialOut {
    pub server: Arc<Server>,
    /// The agent's name at the hub, which is its name for clients as well.
    pub name: KeyId,
    /// The file of the key that hubs have. It is read for each connection.
    pub key: PathBuf,
    /// The keys of clients.
    pub ring: Arc<Keyring>,
    pub log: Arc<Log>,
    /// Ends when the server stops.
    pub stop: PipeReader,
}

/// A hub, and how it goes with it.
struct Hub {
    address: Vec<u8>,
    shown: String,
    state: Mutex<State>,
}

/// What was said last.
#[derive(PartialEq)]
enum State {
    New,
    Connected,
    Failed(String),
}

/// What became of a connection that waits.
#[derive(PartialEq)]
enum Found {
    Client,
    End,
    Stop,
}

impl DialOut {
    /// The key of hubs, which must be no client's: whoever has the hub could give orders.
    pub fn check_key(&self) -> Result<auth::Key> {
        let key = auth::load(&self.key, RULES).map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::NotFound => "; make one with framefd key new, for this host and the hub",
                _ => "",
            };
            Failure::new(format!("{}{advice}", text_of(&error)))
        })?;
        self.check_no_clients(&key, &self.ring)?;
        Ok(key)
    }

    /// That none of these clients has it.
    pub fn check_clients(&self, clients: &Keyring) -> Result<()> {
        // Without it there are no new connections to hubs.
        auth::load(&self.key, RULES).map_or(Ok(()), |key| self.check_no_clients(&key, clients))
    }

    fn check_no_clients(&self, key: &auth::Key, clients: &Keyring) -> Result<()> {
        let is_same = |id: &KeyId| clients.get(id).is_some_and(|known| known.is_same_as(key));
        if let Some(id) = clients.ids().iter().find(|id| is_same(id)) {
            let whose = if id.as_str().is_empty() { "the clients'" } else { id.as_str() };
            return Err(Failure::new(format!(
                "--dial-key {}: it is the key of {whose} as well, so the hub could give orders: \
                 make another with framefd key new",
                shown(self.key.as_os_str())
            )));
        }
        Ok(())
    }

    /// Keeps `count` connections to a hub.
    pub fn start(self: &Arc<DialOut>, address: &OsStr, count: u16) -> Result<()> {
        let hub = Arc::new(Hub {
            address: address.as_bytes().to_vec(),
            shown: shown(address),
            state: Mutex::new(State::New),
        });
        for _ in 0..count {
            let (own, hub) = (Arc::clone(self), Arc::clone(&hub));
            thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || own.keep(&hub))
                .map_err(|error| Failure::new(format!("--dial: no thread for it: {error}")))?;
        }
        Ok(())
    }

    /// Keeps one connection to a hub, until the server stops.
    fn keep(&self, hub: &Hub) {
        let mut pause = SHORTEST;
        loop {
            let begun = Instant::now();
            let found = match self.dial(hub) {
                Ok(socket) => {
                    hub.say(&self.log, State::Connected);
                    let found = wait_for(socket.as_fd(), self.stop.as_fd());
                    if found == Found::Client
                        && let Err(error) = self.server.add(socket)
                    {
                        let line = format!("{}: {}", hub.shown, text_of(&error));
                        self.log.event(Level::Error, &line);
                    }
                    found
                }
                Err(failure) => {
                    hub.say(&self.log, State::Failed(failure.line));
                    Found::End
                }
            };
            if found == Found::Client || begun.elapsed() >= STEADY {
                pause = SHORTEST;
            }
            let now = if found == Found::Client { BETWEEN } else { jittered(pause) };
            if found == Found::Stop || self.sleep(now) {
                return;
            }
            if found == Found::End {
                pause = (2 * pause).min(LONGEST);
            }
        }
    }

    /// A connection that a hub has taken.
    fn dial(&self, hub: &Hub) -> Result<OwnedFd> {
        let failed = |error: &framefd::Error| Failure::new(text_of(error));
        let key = self.check_key()?;
        let deadline = Deadline::after(limits::AUTH_TIMEOUT);
        let socket = connect(&hub.address, deadline, None).map_err(|error| failed(&error))?;
        keep_alive(&socket);
        no_delay(socket.as_fd());
        let mut handover =
            HandOver::agent(&key, &self.name, socket).map_err(|error| failed(&error))?;
        loop {
            let events = match handover.proceed().map_err(|error| self.refused(&error))? {
                Wait::Done => return Ok(handover.into_socket()),
                Wait::ToRead => PollFlags::IN,
                Wait::ToWrite => PollFlags::IN | PollFlags::OUT,
            };
            let left = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [PollFd::from_borrowed_fd(handover.fd(), events)];
            // If it fails, the next step does.
            let _ = poll(&mut fds, left.as_ref());
            if deadline.passed() {
                return Err(Failure::new("it does not answer: is it a hub?"));
            }
        }
    }

    fn refused(&self, error: &framefd::Error) -> Failure {
        match error.kind() {
            ErrorKind::Truncated | ErrorKind::Closed => Failure::new(format!(
                "the hub refused the handshake: does it have this key (--dial-key), under the \
                 name {}?",
                one_line(self.name.as_str().as_bytes())
            )),
            _ => Failure::new(text_of(error)),
        }
    }

    /// Whether the server has stopped meanwhile.
    fn sleep(&self, time: Duration) -> bool {
        let time = Timespec::try_from(time).ok();
        let mut fds = [PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
        poll(&mut fds, time.as_ref()).is_ok_and(|ready| ready > 0)
    }
}

impl Hub {
    /// Says it, unless it was the last that was said.
    fn say(&self, log: &Log, state: State) {
        let mut last = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == state {
            return;
        }
        match &state {
            State::Failed(why) => {
                log.event(Level::Warning, &format!("{}: {why}; trying again", self.shown));
            }
            _ => log.event(Level::Info, &format!("{}: connected to the hub", self.shown)),
        }
        *last = state;
    }
}

/// Waits for the first byte of a client.
fn wait_for(socket: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> Found {
    loop {
        let mut fds = [socket, stop].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // It ends only with an event, or a signal.
        let _ = poll(&mut fds, None);
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(socket, &mut byte, flags) {
            Ok((_, got)) if got > 0 => return Found::Client,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            _ => return Found::End,
        }
        // Who was lent it, and has sent something, is served before a stop.
        if !fds[1].revents().is_empty() {
            return Found::Stop;
        }
    }
}

/// From half of it to all of it, so that not all agents come back at the same time.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) >> 32;
    let part = u32::try_from(random).unwrap_or(0) / 2 + u32::MAX / 2;
    pause.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// After a client. A hub cannot make an agent spin.
const BETWEEN: Duration = Duration::from_millis(10);
/// A connection that has lasted so long was a good one.
const STEADY: Duration = Duration::from_secs(10);
/// The threads wait, and call nothing deep.
const STACK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_and_stay_within_bounds() {
        let pauses: Vec<_> = (0..100).map(|_| jittered(LONGEST)).collect();
        assert!(pauses.iter().all(|pause| (LONGEST / 2..=LONGEST).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
