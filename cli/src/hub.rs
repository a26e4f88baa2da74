//! A hub: agents that dialled out leave their connections to it, and it lends each once, to a
//! local client of the same user. It relays nothing, and holds no key that gives orders.
//!
//! One thread, which waits for nobody:
//!
//! | what | its states |
//! |---|---|
//! | a connection of an agent | proving, free, gone: closed or lent |
//! | a local client | asking, waiting for a free connection, ending |

mod clients;
mod registry;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framefd::auth::Keyring;
use framefd::frame::{Deadline, accept, address_of, listen};
use framefd::serve::Level;
use framefd::{Error, ErrorKind, limits};
use rustix::event::{Timespec, epoll};
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::args::{Hub as Arguments, HubVerb};
use crate::dial::{keep_alive, no_delay};
use crate::failure::{Failure, Result, text_of};
use crate::handover::{HandOver, Wait};
use crate::inherited;
use crate::lend;
use crate::log::Log;
use crate::output::{one_line, show, shown};
use crate::run::without_number;
use crate::serve::RULES;
use clients::Clients;
use registry::Registry;

/// Runs `framefd hub`.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let path = match &arguments.socket {
        Some(path) => path.clone(),
        None => lend::default_socket()?,
    };
    if let Some(HubVerb::List) = arguments.verb {
        return lend::list(&path).map(|()| 0);
    }
    let given = inherited::listeners()?;
    if arguments.listen.is_empty() && given.is_empty() {
        return Err(Failure::new("hub: nowhere to listen: give --listen ADDRESS"));
    }
    let Some(keys) = &arguments.keys else {
        let line = "hub: no keys: give --keys DIRECTORY, with one file for each agent";
        return Err(Failure::new(line));
    };
    let log = Arc::new(Log::open(arguments.log.as_deref())?);
    let mut hub = Hub::new(keys.clone(), arguments.max as usize, log)?;
    let clients = listen([b"unix:", path.as_os_str().as_bytes()].concat(), 0, 0);
    hub.door = Some(clients.map_err(|error| Failure::to_listen(path.as_os_str(), &error))?);
    for socket in given {
        hub.listen(socket, "a socket of systemd")?;
    }
    for address in &arguments.listen {
        let socket = listen(address.as_bytes(), 0, 0)
            .map_err(|error| Failure::to_listen(address, &error))?;
        hub.listen(socket, &shown(address))?;
    }
    let served = hub.serve();
    let _ = fs::remove_file(&path);
    served.map(|()| 0)
}

/// What a descriptor is.
type Token = u64;

const DOOR: Token = 0;
const HANGUP: Token = 1;
const STOP: Token = 2;
/// Those of listeners follow, and after them those of connections.
const LISTENER: Token = 16;
const CONNECTION: Token = 1 << 16;

struct Hub {
    poller: Poller,
    keys: PathBuf,
    ring: Arc<Keyring>,
    /// The most connections of agents.
    max: usize,
    log: Arc<Log>,
    listeners: Vec<OwnedFd>,
    /// Where local clients come.
    door: Option<OwnedFd>,
    next: Token,
    proving: BTreeMap<Token, Proving>,
    agents: Registry,
    clients: Clients,
    /// Nobody is accepted before that: there were no descriptors left.
    resume: Option<Instant>,
    /// No agent is accepted before that: those who prove their keys have their chance.
    crowded: Option<Instant>,
}

/// A connection whose agent is not known yet.
struct Proving {
    handover: HandOver,
    address: String,
    deadline: Instant,
}

impl Hub {
    fn new(keys: PathBuf, max: usize, log: Arc<Log>) -> Result<Hub> {
        raise_limit();
        let ring = Arc::new(Keyring::new());
        load(&ring, &keys)?;
        Ok(Hub {
            poller: Poller::new()?,
            keys,
            ring,
            max,
            log,
            listeners: Vec::new(),
            door: None,
            next: CONNECTION,
            proving: BTreeMap::new(),
            agents: Registry::default(),
            clients: Clients::default(),
            resume: None,
            crowded: None,
        })
    }

    fn listen(&mut self, socket: OwnedFd, name: &str) -> Result<()> {
        let heard = address_of(socket.as_fd(), false).map_err(|error| Failure::of(name, &error))?;
        self.listeners.push(socket);
        // Nobody may be left who reads it.
        let _ = show(&[b"listening on ", &heard[..], b"\n"].concat());
        Ok(())
    }

    /// Serves until a signal comes.
    fn serve(&mut self) -> Result<()> {
        let refused = |error: io::Error| Failure::new(format!("no handler of signals: {error}"));
        let mut ends = Vec::new();
        for (token, numbers) in [(HANGUP, &[SIGHUP][..]), (STOP, &[SIGINT, SIGTERM])] {
            let (read, write) = UnixStream::pair().map_err(refused)?;
            for &number in numbers {
                let write = write.try_clone().map_err(refused)?;
                pipe::register(number, write).map_err(refused)?;
            }
            self.poller.add(&read, token, epoll::EventFlags::IN)?;
            ends.push(read);
        }
        self.arm_listeners(true)?;
        inherited::notify("READY=1");
        self.log.event(Level::Info, "serving");
        loop {
            for (token, _) in self.poller.wait(self.first_time())? {
                match token {
                    STOP => {
                        inherited::notify("STOPPING=1");
                        self.log.event(Level::Info, "stopped");
                        return Ok(());
                    }
                    HANGUP => {
                        let mut byte = [0; 64];
                        let _ = io::Read::read(&mut ends[0], &mut byte);
                        self.hang_up();
                    }
                    DOOR => self.accept_client(),
                    token if token < CONNECTION => self.accept_agent(token),
                    token if self.proving.contains_key(&token) => self.proceed(token),
                    token if self.agents.close(token, &self.poller) => {}
                    token => self.proceed_client(token),
                }
            }
            self.on_time();
        }
    }

    /// The log and the keys are read again. Agents whose keys have changed are gone.
    fn hang_up(&mut self) {
        self.log.again();
        let before: Vec<_> =
            self.ring.ids().into_iter().map(|id| (self.ring.get(&id), id)).collect();
        if let Err(failure) = load(&self.ring, &self.keys) {
            let line = format!("the keys stay as they are: {}", failure.line);
            return self.log.event(Level::Error, &line);
        }
        for (key, id) in before {
            let is_same =
                key.zip(self.ring.get(&id)).is_some_and(|(before, now)| before.is_same_as(&now));
            if !is_same {
                self.agents.forget(id.as_str(), &self.poller);
            }
        }
        self.log.event(Level::Info, "the keys were read again");
    }

    // ---- agents

    fn arm_listeners(&mut self, is_first: bool) -> Result<()> {
        let all = (LISTENER..).zip(self.listeners.iter());
        for (token, socket) in all.chain(self.door.iter().map(|door| (DOOR, door))) {
            let is_paused = self.resume.is_some() || (token != DOOR && self.crowded.is_some());
            let flags = if is_paused { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
            if is_first {
                self.poller.add(socket, token, flags)?;
            } else {
                self.poller.change(socket, token, flags)?;
            }
        }
        Ok(())
    }

    fn accept_agent(&mut self, token: Token) {
        let index = usize::try_from(token - LISTENER).unwrap_or(usize::MAX);
        let Some(listener) = self.listeners.get(index) else { return };
        let until = self.crowded_until().filter(|until| *until > Instant::now());
        if until.is_some() {
            self.crowded = until;
            let _ = self.arm_listeners(false);
            return;
        }
        let socket = match accept(listener.as_fd(), Deadline::PAST, None) {
            Ok(socket) => socket,
            Err(error) => return self.cannot_accept(&error),
        };
        keep_alive(&socket);
        no_delay(socket.as_fd());
        if self.proving.len() >= UNPROVED
            && let Some((_, oldest)) = self.proving.pop_first()
        {
            self.poller.remove(oldest.handover.fd());
            self.log.event(Level::Warning, "the oldest connection without a key is closed");
        }
        let address = one_line(&address_of(socket.as_fd(), true).unwrap_or_default());
        let (token, deadline) = (self.next, Instant::now() + limits::AUTH_TIMEOUT);
        self.next += 1;
        let Ok(handover) = HandOver::hub(&self.ring, socket) else { return };
        if self.poller.add(handover.fd(), token, epoll::EventFlags::IN).is_ok() {
            self.proving.insert(token, Proving { handover, address, deadline });
        }
    }

    /// Until when the oldest of too many that have proved nothing has its chance.
    fn crowded_until(&self) -> Option<Instant> {
        let oldest = self.proving.values().next().filter(|_| self.proving.len() >= UNPROVED)?;
        (oldest.deadline + limits::CHANCE).checked_sub(limits::AUTH_TIMEOUT)
    }

    /// Until there may be a descriptor again.
    fn cannot_accept(&mut self, error: &Error) {
        if error.kind() != ErrorKind::TimedOut {
            let line = format!("cannot accept: {}; see ulimit -n", text_of(error));
            self.log.event(Level::Error, &line);
            self.resume = Some(Instant::now() + PAUSE);
            let _ = self.arm_listeners(false);
        }
    }

    /// Goes on with the proof of an agent.
    fn proceed(&mut self, token: Token) {
        let Some(proving) = self.proving.get_mut(&token) else { return };
        let flags = match proving.handover.proceed() {
            Ok(Wait::ToRead) => epoll::EventFlags::IN,
            Ok(Wait::ToWrite) => epoll::EventFlags::IN | epoll::EventFlags::OUT,
            Ok(Wait::Done) => return self.proved(token),
            Err(error) => {
                let line = format!("{}: refused: {}", proving.address, text_of(&error));
                self.log.event(Level::Warning, &line);
                return self.refuse(token);
            }
        };
        if self.poller.change(proving.handover.fd(), token, flags).is_err() {
            self.refuse(token);
        }
    }

    fn refuse(&mut self, token: Token) {
        if let Some(proving) = self.proving.remove(&token) {
            self.poller.remove(proving.handover.fd());
        }
    }

    /// An agent is there: it is for the client that waits for it, or free.
    fn proved(&mut self, token: Token) {
        let Some(proving) = self.proving.remove(&token) else { return };
        let Some(name) = proving.handover.name() else { return };
        let name = name.as_str();
        if self.agents.count() >= self.max {
            self.poller.remove(proving.handover.fd());
            let line = format!("{name}: refused: there are {} connections (--max)", self.max);
            return self.log.event(Level::Warning, &line);
        }
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        if self.poller.change(proving.handover.fd(), token, flags).is_err() {
            return self.poller.remove(proving.handover.fd());
        }
        let socket = proving.handover.into_socket();
        if self.agents.add(name, token, socket, &proving.address, &self.poller) {
            self.log.event(Level::Info, &format!("{name}: connected from {}", proving.address));
        }
        while let Some(client) = self.clients.waiting_for(name) {
            if !self.lend(client, name) {
                return;
            }
        }
    }

    // ---- time

    fn first_time(&self) -> Option<Instant> {
        let proving = self.proving.values().next().map(|proving| proving.deadline);
        [proving, self.clients.first_time(), self.resume, self.crowded].into_iter().flatten().min()
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        let paused = (self.resume, self.crowded);
        self.resume = self.resume.filter(|at| *at > now);
        self.crowded = self.crowded.filter(|at| *at > now && self.proving.len() >= UNPROVED);
        if (self.resume, self.crowded) != paused {
            let _ = self.arm_listeners(false);
        }
        // They are in the order of their deadlines.
        while let Some(first) = self.proving.first_entry()
            && first.get().deadline <= now
        {
            let (_, late) = first.remove_entry();
            self.poller.remove(late.handover.fd());
            let line = format!("{}: refused: it proved no key in time", late.address);
            self.log.event(Level::Warning, &line);
        }
        self.expire_clients(now);
    }
}

/// Loads the keys of agents, whose files have their names.
fn load(ring: &Keyring, keys: &Path) -> Result<()> {
    if keys.is_file() {
        let path = shown(keys.as_os_str());
        let line = format!("--keys {path}: it is a file: give a directory with one for each agent");
        return Err(Failure::new(line));
    }
    ring.load(keys, RULES).map_err(|error| Failure::new(text_of(&error)))
}

/// Each agent takes some descriptors. It starts no other program, which would inherit this.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Otherwise it stays as it is.
    let _ =
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}

/// epoll(7).
pub struct Poller(OwnedFd);

impl Poller {
    fn new() -> Result<Poller> {
        let made = epoll::create(epoll::CreateFlags::CLOEXEC);
        made.map(Poller).map_err(Poller::failed)
    }

    fn failed(errno: rustix::io::Errno) -> Failure {
        Failure::new(format!("hub: epoll: {}", without_number(&errno.into())))
    }

    fn add(&self, fd: impl AsFd, token: Token, flags: epoll::EventFlags) -> Result<()> {
        epoll::add(&self.0, fd, epoll::EventData::new_u64(token), flags).map_err(Poller::failed)
    }

    fn change(&self, fd: impl AsFd, token: Token, flags: epoll::EventFlags) -> Result<()> {
        epoll::modify(&self.0, fd, epoll::EventData::new_u64(token), flags).map_err(Poller::failed)
    }

    /// It must be removed before it is lent: it goes on to be watched as long as anybody has it.
    fn remove(&self, fd: impl AsFd) {
        // It fails only if it was never added.
        let _ = epoll::delete(&self.0, fd);
    }

    fn wait(&self, until: Option<Instant>) -> Result<Vec<(Token, epoll::EventFlags)>> {
        let left = until.map(|until| {
            // A little later than early, for which it would spin.
            until.saturating_duration_since(Instant::now()) + Duration::from_millis(1)
        });
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Poller::failed(errno)),
        }
        Ok(events.iter().map(|event| (event.data.u64(), event.flags)).collect())
    }
}

/// Connections that have proved nothing yet; the next one closes the oldest, once that has had its
/// chance.
const UNPROVED: usize = 64;
/// Without descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Events of one turn.
const EVENTS: usize = 64;
