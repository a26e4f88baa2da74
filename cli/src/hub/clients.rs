//! The local clients of a hub. Each asks for one thing, and is answered:
//!
//! | request | reply |
//! |---|---|
//! | `{"cmd":"lend","agent":NAME,"wait_ms":N}` | `{"status":"ok"}`, then one byte with the connection |
//! | `{"cmd":"list"}` | `{"status":"ok"}`; the body has a JSON object for each agent |

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use framefd::auth::KeyId;
use framefd::frame::{
    Connection, ConnectionOptions, Deadline, Header, HeaderBuilder, Message, accept,
};
use framefd::serve::Level;
use framefd::{Error, ErrorKind};
use rustix::event::epoll::EventFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

use super::registry::Missing;
use super::{Hub, Token};

/// Those that are there.
#[derive(Default)]
pub struct Clients(BTreeMap<Token, Client>);

struct Client {
    /// The same socket as that of the connection: the connection is sent on it.
    socket: OwnedFd,
    connection: Connection<'static>,
    /// The process.
    who: String,
    state: State,
    deadline: Instant,
}

enum State {
    Asking,
    /// For a connection of this agent, with this request.
    Waiting(String, String),
    /// What is queued is written.
    Ending,
}

impl Clients {
    /// The first that waits for this agent.
    pub fn waiting_for(&self, name: &str) -> Option<Token> {
        let waits =
            |client: &Client| matches!(&client.state, State::Waiting(agent, _) if agent == name);
        self.0.iter().find(|(_, client)| waits(client)).map(|(token, _)| *token)
    }

    pub fn first_time(&self) -> Option<Instant> {
        self.0.values().map(|client| client.deadline).min()
    }
}

impl Hub {
    pub fn accept_client(&mut self) {
        let Some(door) = &self.door else { return };
        let socket = match accept(door.as_fd(), Deadline::PAST, None) {
            Ok(socket) => socket,
            Err(error) => return self.cannot_accept(&error),
        };
        let Ok(peer) = sockopt::socket_peercred(&socket) else { return };
        let us = rustix::process::geteuid();
        let who = format!("process {} of user {}", peer.pid.as_raw_nonzero(), peer.uid.as_raw());
        if peer.uid != us && !peer.uid.is_root() {
            // The mode of the socket keeps them out before that.
            return self.log.event(Level::Warning, &format!("{who}: refused"));
        }
        if self.clients.0.len() >= MOST
            && let Some((token, _)) = self.clients.0.first_key_value()
        {
            let token = *token;
            self.answer_error(token, ErrorKind::Busy, "too many clients ask at the same time");
            self.end_client(token);
        }
        let options = ConnectionOptions { max_header: 4096, max_body: 0, ..Default::default() };
        let Ok(connection) = socket
            .try_clone()
            .map_err(|_| ())
            .and_then(|copy| Connection::new(copy, options).map_err(|_| ()))
        else {
            return;
        };
        let token = self.next;
        self.next += 1;
        if self.poller.add(&socket, token, EventFlags::IN).is_ok() {
            let (state, deadline) = (State::Asking, Instant::now() + ASKING);
            self.clients.0.insert(token, Client { socket, connection, who, state, deadline });
        }
    }

    /// An event of a client.
    pub fn proceed_client(&mut self, token: Token) {
        let Some(client) = self.clients.0.get_mut(&token) else { return };
        match client.state {
            State::Asking => match client.connection.recv(Duration::ZERO) {
                Ok(Message { header: Some(request), .. }) => self.serve_client(token, &request),
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                _ => self.end_client(token),
            },
            // It has gone, or has more to ask, which it may not.
            State::Waiting(..) => self.end_client(token),
            State::Ending => self.flush_client(token),
        }
    }

    fn serve_client(&mut self, token: Token, request: &Header) {
        match request.string("cmd").as_deref() {
            Ok("list") => {
                let list = self.list();
                self.answer(token, request.text(), |client, request| {
                    client.connection.reply(request, None, list.as_bytes(), Duration::ZERO)
                });
            }
            Ok("lend") => {
                let Ok(name) = request.string("agent").map(Cow::into_owned) else {
                    return self.refuse_client(
                        token,
                        request.text(),
                        ErrorKind::BadField,
                        "no agent",
                    );
                };
                let wait = request.integer("wait_ms").ok().and_then(|ms| u64::try_from(ms).ok());
                let wait = Duration::from_millis(wait.unwrap_or(0)).min(LONGEST);
                if let Some(client) = self.clients.0.get_mut(&token) {
                    client.state = State::Waiting(name.clone(), request.text().to_owned());
                    client.deadline = Instant::now() + wait;
                }
                self.lend(token, &name);
            }
            _ => {
                let why = "a hub knows lend and list only";
                self.refuse_client(token, request.text(), ErrorKind::Unsupported, why);
            }
        }
    }

    /// Lends a connection of the agent to a client that waits for it; false if there is none.
    pub fn lend(&mut self, token: Token, name: &str) -> bool {
        if !self.clients.0.contains_key(&token) {
            return false;
        }
        let (at, socket) = match self.agents.take(name, &self.poller) {
            Ok(found) => found,
            Err(missing) => {
                self.missing(token, name, &missing);
                return false;
            }
        };
        let Some(client) = self.clients.0.get_mut(&token) else { return false };
        if give(client, &socket).is_ok() {
            self.agents.lent(name);
            self.log.event(Level::Info, &format!("{name}: lent to {}", client.who));
        } else if self.poller.add(&socket, at, EventFlags::IN | EventFlags::RDHUP).is_ok() {
            // Nobody has it, and nothing was sent on it.
            let address = self.agents.get(name).map_or(String::new(), |a| a.address.clone());
            self.agents.add(name, at, socket, &address, &self.poller);
        }
        self.end_client(token);
        true
    }

    /// There is none: the client waits, if its agent makes new ones.
    fn missing(&mut self, token: Token, name: &str, missing: &Missing) {
        let Some(client) = self.clients.0.get_mut(&token) else { return };
        let State::Waiting(_, request) = &client.state else { return };
        let request = request.clone();
        let is_known = KeyId::new(name.as_bytes()).is_ok_and(|id| self.ring.get(&id).is_some());
        if *missing == Missing::Taken && is_known && client.deadline > Instant::now() {
            // Only its end is of interest.
            let _ = self.poller.change(&client.socket, token, EventFlags::IN | EventFlags::RDHUP);
            return;
        }
        let (kind, why) = match missing {
            _ if !is_known => (ErrorKind::NotFound, "no agent is called so".to_owned()),
            Missing::Taken => {
                let line = "all connections of this agent are in use";
                (ErrorKind::Busy, line.to_owned())
            }
            Missing::Gone(ago) => {
                let line = format!("the agent is not connected; it was {} s ago", ago.as_secs());
                (ErrorKind::NotFound, line)
            }
            Missing::Never => (
                ErrorKind::NotFound,
                "the agent has not connected since the hub was started".to_owned(),
            ),
        };
        self.refuse_client(token, &request, kind, &why);
    }

    /// Those whose time is up.
    pub fn expire_clients(&mut self, now: Instant) {
        let late = |(token, client): (&Token, &Client)| (client.deadline <= now).then_some(*token);
        let late: Vec<Token> = self.clients.0.iter().filter_map(late).collect();
        for token in late {
            let Some(client) = self.clients.0.get(&token) else { continue };
            match &client.state {
                State::Waiting(name, _) => {
                    let name = name.clone();
                    self.lend(token, &name);
                }
                _ => self.end_client(token),
            }
        }
    }

    fn refuse_client(&mut self, token: Token, request: &str, kind: ErrorKind, why: &str) {
        self.answer(token, request, |client, request| {
            client.connection.reply_error(request, kind, Some(why), Duration::ZERO)
        });
    }

    /// As [`refuse_client`](Self::refuse_client) for one that has asked for nothing yet, or waits.
    fn answer_error(&mut self, token: Token, kind: ErrorKind, why: &str) {
        let request = match self.clients.0.get(&token).map(|client| &client.state) {
            Some(State::Waiting(_, request)) => request.clone(),
            _ => "{}".to_owned(),
        };
        self.refuse_client(token, &request, kind, why);
    }

    fn answer(
        &mut self,
        token: Token,
        request: &str,
        reply: impl FnOnce(&mut Client, &str) -> Result<(), Error>,
    ) {
        let Some(client) = self.clients.0.get_mut(&token) else { return };
        if reply(client, request).is_err() {
            return self.end_client(token);
        }
        (client.state, client.deadline) = (State::Ending, Instant::now() + ASKING);
        self.flush_client(token);
    }

    /// Writes what is queued, and closes the connection.
    fn flush_client(&mut self, token: Token) {
        let Some(client) = self.clients.0.get_mut(&token) else { return };
        let flushed = client.connection.flush(Duration::ZERO);
        if flushed.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
            && self.poller.change(&client.socket, token, EventFlags::OUT).is_ok()
        {
            return;
        }
        self.end_client(token);
    }

    fn end_client(&mut self, token: Token) {
        if let Some(client) = self.clients.0.remove(&token) {
            self.poller.remove(&client.socket);
        }
    }

    /// A JSON object for each agent that was there, or has a key.
    fn list(&self) -> String {
        let mut list = String::new();
        let there = self.agents.agents().map(|(name, agent)| (name.to_owned(), Some(agent)));
        let mut all: BTreeMap<String, _> =
            self.ring.ids().iter().map(|id| (id.as_str().to_owned(), None)).collect();
        all.extend(there);
        for (name, agent) in all {
            let mut line = HeaderBuilder::new();
            let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let mut added = line.string("agent", &name);
            if let Some(agent) = agent {
                let seen = number(agent.seen.elapsed().as_secs());
                added = added
                    .and_then(|()| line.integer("free", number(agent.free() as u64)))
                    .and_then(|()| line.integer("lent", number(agent.lent)))
                    .and_then(|()| line.string("address", &agent.address))
                    .and_then(|()| line.integer("seen_s", seen));
            }
            if added.is_ok() {
                list.push_str(line.text());
                list.push('\n');
            }
        }
        list
    }
}

/// Sends the reply, and a byte with the connection.
fn give(client: &mut Client, socket: &OwnedFd) -> Result<(), Error> {
    let State::Waiting(_, request) = &client.state else {
        return Err(Error::new(ErrorKind::State, "it waits for nothing"));
    };
    client.connection.reply(request, None, &[], Duration::ZERO)?;
    client.connection.flush(Duration::ZERO)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [socket.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match sendmsg(&client.socket, &[IoSlice::new(&[0])], &mut ancillary, flags) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Error::system("sendmsg", errno)),
    }
}

/// The most clients at a time.
const MOST: usize = 256;
/// For a request, and for its answer to be read.
const ASKING: Duration = Duration::from_secs(5);
/// The longest wait for a connection.
const LONGEST: Duration = Duration::from_secs(60);
