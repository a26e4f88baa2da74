//! What the processes of a soak know of each other, and how they connect.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use framefd::auth::{Key, KeyId, Keyring, Terms};
use framefd::frame::{Connection, ConnectionOptions, Deadline, connect};
use framefd::serve::Access;
use framefd::{Error, ErrorKind, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::content::Random;

/// Far more than an answer takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// What a process is told.
#[derive(Clone, Debug)]
pub struct World {
    /// What it does.
    pub role: String,
    pub addresses: Vec<String>,
    pub sealed: bool,
    pub workers: usize,
    pub seed: u64,
    /// Which process it is.
    pub process: u64,
    /// How many connections, or threads.
    pub count: usize,
    pub time: Duration,
}

impl World {
    pub fn read(text: &str) -> World {
        let told: Value = serde_json::from_str(text).unwrap();
        let number = |name: &str| told[name].as_u64().unwrap();
        let addresses = told["addresses"].as_array().unwrap().iter();
        World {
            role: told["role"].as_str().unwrap().into(),
            addresses: addresses.map(|one| one.as_str().unwrap().into()).collect(),
            sealed: told["sealed"].as_bool().unwrap(),
            workers: usize::try_from(number("workers")).unwrap(),
            seed: number("seed"),
            process: number("process"),
            count: usize::try_from(number("count")).unwrap(),
            time: Duration::from_millis(number("millis")),
        }
    }

    pub fn written(&self) -> String {
        json!({
            "role": self.role,
            "addresses": self.addresses,
            "sealed": self.sealed,
            "workers": self.workers,
            "seed": self.seed,
            "process": self.process,
            "count": self.count,
            "millis": u64::try_from(self.time.as_millis()).unwrap(),
        })
        .to_string()
    }

    /// Random numbers for one of its threads.
    pub fn random(&self, thread: usize) -> Random {
        Random::new([self.seed, self.process, thread as u64])
    }

    /// When its time is up.
    pub fn end(&self) -> Instant {
        Instant::now() + self.time
    }

    /// The number of a connection that no other has.
    pub fn next_number(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        self.process << 32 | LAST.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection to one of the addresses.
    pub fn socket(&self, random: &mut Random) -> Result<OwnedFd> {
        let chosen = usize::try_from(random.below(self.addresses.len() as u64)).unwrap();
        connect(&self.addresses[chosen], Deadline::after(LONG), None)
    }

    /// The same with a proved key.
    pub fn client(&self, random: &mut Random) -> Result<Connection<'static>> {
        self.prove(self.socket(random)?)
    }

    pub fn prove(&self, socket: OwnedFd) -> Result<Connection<'static>> {
        let mut client = Connection::new(socket, ConnectionOptions::default())?;
        if self.sealed {
            client.seal_client(&key(), &id(), &Terms::default(), None, LONG)?;
        } else {
            client.auth_client(&key(), LONG)?;
        }
        Ok(client)
    }

    /// Who may use the server.
    pub fn access(&self) -> Access {
        let ring = Keyring::new();
        ring.add(id(), key()).unwrap();
        let ring = Some(Arc::new(ring));
        Access { ring, plain: !self.sealed, ..Access::default() }
    }
}

fn key() -> Key {
    Key::new(&[7; 32]).unwrap()
}

fn id() -> KeyId {
    KeyId::new(b"soak").unwrap()
}

/// An error for what is not as it should be.
pub fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadReply, what.into())
}

/// As many descriptors as this process may have; their number.
pub fn all_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.current.unwrap_or(u64::MAX)
}
