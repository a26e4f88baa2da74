//! The agents of a hub, and their connections that are free.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::{Poller, Token};

/// Who is there.
#[derive(Default)]
pub struct Registry {
    free: BTreeMap<Token, Free>,
    names: BTreeMap<String, Agent>,
}

/// A connection that can be lent.
struct Free {
    name: String,
    socket: OwnedFd,
}

/// What is known of an agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Connections that can be lent; the newest is lent first, since it is most likely alive.
    free: Vec<Token>,
    pub lent: u64,
    /// Where it came from last.
    pub address: String,
    /// When its last free connection was lent; nothing if it was lost.
    taken: Option<Instant>,
    /// When that was.
    pub seen: Instant,
}

/// Why no connection can be lent.
#[derive(Debug, PartialEq)]
pub enum Missing {
    /// All are lent; its agent will make new ones.
    Taken,
    /// It was there so long ago.
    Gone(Duration),
    /// It was never there.
    Never,
}

impl Agent {
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

impl Registry {
    /// Connections of all agents.
    pub fn count(&self) -> usize {
        self.free.len()
    }

    /// All agents that were there, by name.
    pub fn agents(&self) -> impl Iterator<Item = (&str, &Agent)> {
        self.names.iter().map(|(name, agent)| (name.as_str(), agent))
    }

    pub fn get(&self, name: &str) -> Option<&Agent> {
        self.names.get(name)
    }

    /// Adds a connection; whether the agent was not there before.
    pub fn add(
        &mut self,
        name: &str,
        token: Token,
        socket: OwnedFd,
        address: &str,
        poller: &Poller,
    ) -> bool {
        let agent = self.names.entry(name.to_owned()).or_insert_with(|| Agent {
            free: Vec::new(),
            lent: 0,
            address: String::new(),
            taken: None,
            seen: Instant::now(),
        });
        let is_back = agent.free.is_empty() && agent.taken.is_none();
        (agent.address, agent.seen, agent.taken) = (address.to_owned(), Instant::now(), None);
        agent.free.push(token);
        let oldest = (agent.free.len() > MOST_FREE).then(|| agent.free[0]);
        self.free.insert(token, Free { name: name.to_owned(), socket });
        if let Some(oldest) = oldest {
            self.close(oldest, poller);
        }
        is_back
    }

    /// Takes a connection to lend it. It is put back if nobody gets it.
    pub fn take(&mut self, name: &str, poller: &Poller) -> Result<(Token, OwnedFd), Missing> {
        let Some(agent) = self.names.get_mut(name) else { return Err(Missing::Never) };
        while let Some(token) = agent.free.pop() {
            let Some(free) = self.free.remove(&token) else { continue };
            poller.remove(&free.socket);
            agent.seen = Instant::now();
            if is_quiet(&free.socket) {
                if agent.free.is_empty() {
                    agent.taken = Some(Instant::now());
                }
                return Ok((token, free.socket));
            }
        }
        match agent.taken {
            Some(at) if at.elapsed() < RETURN => Err(Missing::Taken),
            _ => {
                agent.taken = None;
                Err(Missing::Gone(agent.seen.elapsed()))
            }
        }
    }

    /// It was lent.
    pub fn lent(&mut self, name: &str) {
        if let Some(agent) = self.names.get_mut(name) {
            agent.lent += 1;
        }
    }

    /// Closes a free connection, which has ended; false if there is none of that token.
    pub fn close(&mut self, token: Token, poller: &Poller) -> bool {
        let Some(free) = self.free.remove(&token) else { return false };
        poller.remove(&free.socket);
        if let Some(agent) = self.names.get_mut(&free.name) {
            agent.free.retain(|other| *other != token);
            agent.seen = Instant::now();
        }
        true
    }

    /// Closes all connections of an agent.
    pub fn forget(&mut self, name: &str, poller: &Poller) {
        for token in self.names.remove(name).map_or(Vec::new(), |agent| agent.free) {
            if let Some(free) = self.free.remove(&token) {
                poller.remove(&free.socket);
            }
        }
    }
}

/// Whether the agent has neither ended the connection nor sent anything.
fn is_quiet(socket: &OwnedFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(socket.as_fd(), &mut [0], flags), Err(Errno::AGAIN))
}

/// Free connections of one agent. The next one closes the oldest.
const MOST_FREE: usize = 64;
/// An agent makes new connections within that time, if it is there.
const RETURN: Duration = Duration::from_secs(30);
