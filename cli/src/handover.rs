//! How an agent that dials out and a hub prove themselves to each other, and leave the connection
//! to a client: docs/agents.md says why.
//!
//! | state | the agent | the hub |
//! |---|---|---|
//! | handshake | is the client, `client_serves` | is the server |
//! | proved | waits for the hub's end | sends its end |
//! | ended | sends its end | waits for the agent's end |
//! | done | no byte is on its way, in either direction | the same |

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use framefd::auth::{Key, KeyId, Keyring, Read, SealedStream, ServerName, Terms};
use framefd::{Error, ErrorKind};

use crate::sealed::SealedSocket;

/// A connection that is being handed over.
pub struct HandOver {
    sealed: SealedSocket,
    /// The hub ends first: then the agent has read everything of it that is sealed before the
    /// hub lends the connection to somebody who sends.
    is_hub: bool,
    has_ended: bool,
    peer_ended: bool,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    ToRead,
    ToWrite,
    Done,
}

impl HandOver {
    /// The agent's side.
    pub fn agent(key: &Key, name: &KeyId, socket: OwnedFd) -> Result<HandOver, Error> {
        Ok(HandOver::new(SealedStream::client(key, name, &terms()?, None)?, socket, false))
    }

    /// The hub's side.
    pub fn hub(agents: &Arc<Keyring>, socket: OwnedFd) -> Result<HandOver, Error> {
        Ok(HandOver::new(SealedStream::server(agents, &terms()?)?, socket, true))
    }

    fn new(seal: SealedStream, socket: OwnedFd, is_hub: bool) -> HandOver {
        let sealed = SealedSocket::new(seal, socket);
        HandOver { sealed, is_hub, has_ended: false, peer_ended: false }
    }

    /// Does what can be done without waiting.
    pub fn proceed(&mut self) -> Result<Wait, Error> {
        loop {
            match self.sealed.seal.read()? {
                Read::End => self.peer_ended = true,
                Read::More if self.sealed.is_drained => {
                    self.sealed.seal.finish()?;
                }
                Read::More => {}
                Read::Bytes(_) => {
                    let detail = "the peer is no hub, and no agent of one";
                    return Err(Error::new(ErrorKind::BadReply, detail));
                }
            }
            let is_proved = self.sealed.seal.proof()?.is_some();
            if is_proved && !self.has_ended && (self.is_hub || self.peer_ended) {
                self.sealed.seal.write(&[], true)?;
                self.has_ended = true;
            }
            if !self.sealed.send()? {
                return Ok(Wait::ToWrite);
            }
            if self.has_ended && self.peer_ended {
                return Ok(Wait::Done);
            }
            if !self.sealed.receive()? {
                return Ok(Wait::ToRead);
            }
        }
    }

    /// The name of the agent, once it has proved it.
    pub fn name(&self) -> Option<KeyId> {
        self.sealed.seal.proof().ok().flatten().map(|proof| proof.key_id)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.sealed.socket.as_fd()
    }

    /// The connection, which is as new.
    pub fn into_socket(self) -> OwnedFd {
        self.sealed.socket
    }
}

/// What both know. No client has this name, and none this role: so the key is of no use to
/// somebody who wants to ask for something.
fn terms() -> Result<Terms, Error> {
    Ok(Terms { name: ServerName::new(b"hub")?, client_serves: true })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn ends() -> (HandOver, HandOver) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (key, name) = (Key::generate().unwrap(), KeyId::new(b"web-1").unwrap());
        let ring = Keyring::new();
        ring.add(name.clone(), key.clone()).unwrap();
        let agent = HandOver::agent(&key, &name, ours.into()).unwrap();
        (agent, HandOver::hub(&Arc::new(ring), theirs.into()).unwrap())
    }

    #[test]
    fn both_prove_themselves_and_leave_nothing_behind() {
        let (mut agent, mut hub) = ends();
        let mut steps = 0;
        while (agent.proceed().unwrap(), hub.proceed().unwrap()) != (Wait::Done, Wait::Done) {
            steps += 1;
            assert!(steps < 10);
        }
        assert_eq!(hub.name().unwrap().as_str(), "web-1");
        let mut ends = [agent, hub].map(|end| UnixStream::from(end.into_socket()));
        for (from, to) in [(0, 1), (1, 0)] {
            ends[from].write_all(b"hello").unwrap();
            let mut got = [0; 5];
            ends[to].read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello");
        }
    }

    #[test]
    fn the_agent_ends_last() {
        let (mut agent, mut hub) = ends();
        agent.proceed().unwrap();
        assert_eq!(hub.proceed().unwrap(), Wait::ToRead);
        assert_eq!(agent.proceed().unwrap(), Wait::ToRead, "it has not seen the hub's end");
        assert_eq!(hub.proceed().unwrap(), Wait::ToRead, "it has not seen the agent's end");
        assert_eq!(agent.proceed().unwrap(), Wait::Done);
        assert_eq!(hub.proceed().unwrap(), Wait::Done);
    }

    #[test]
    fn whoever_asks_for_something_is_no_hub() {
        let (mut agent, hub) = ends();
        let mut hub = SealedSocket { is_drained: false, ..hub.sealed };
        agent.proceed().unwrap();
        for _ in 0..2 {
            while hub.receive().unwrap() {
                assert_eq!(hub.seal.read().unwrap(), Read::More);
            }
            hub.send().unwrap();
            agent.proceed().unwrap();
        }
        hub.seal.write(b"{}", false).unwrap();
        hub.send().unwrap();
        assert_eq!(agent.proceed().unwrap_err().kind(), ErrorKind::BadReply);
    }

    #[test]
    fn a_cut_is_no_end() {
        let (mut agent, hub) = ends();
        agent.proceed().unwrap();
        drop(hub);
        assert_eq!(agent.proceed().unwrap_err().kind(), ErrorKind::Truncated);
    }
}
