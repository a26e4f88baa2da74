//! The handshake of a sealed connection: it proves both ends, and everything after it is
//! encrypted.

use std::cell::RefCell;
use std::time::Duration;

use rustix::io::Errno;

use super::keyring::Keyring;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::ops::frame::{Connection, Pending};
use crate::wire::auth::{Key, KeyId};
use crate::wire::seal::handshake::{Handshake, Step};
use crate::wire::seal::terms::{Suite, Terms};

impl Connection<'_> {
    /// Proves to the server that this side holds `key`, has the server prove the same, and seals
    /// the connection. `id` is the server's name for the key; without a `suite` the processor
    /// decides.
    ///
    /// It must be the first call on the connection. With a `timeout` of zero,
    /// [`ErrorKind::TimedOut`] means: call again. Any other failure breaks the connection.
    /// [`ErrorKind::Auth`]: the server has another key, another name or another idea of the
    /// roles. [`ErrorKind::Truncated`]: it closed the connection, as it does after a refusal.
    pub fn seal_client(
        &mut self,
        key: &Key,
        id: &KeyId,
        terms: &Terms,
        suite: Option<Suite>,
        timeout: Duration,
    ) -> Result<()> {
        let mut first = Vec::new();
        if self.handshake.is_none() {
            self.check_first()?;
            let suite = suite.unwrap_or_else(Suite::preferred);
            let (machine, bytes) = Handshake::client(key, id, terms, suite)?;
            self.handshake =
                Some(Box::new(Pending { machine, key: key.clone(), has_begun: false }));
            first = bytes;
        }
        self.handshake(timeout, |connection, deadline| {
            if !first.is_empty() {
                connection.send_raw(&first, deadline)?;
            }
            connection.proceed(deadline, &Keyring::new()).map(drop).map_err(refused)
        })
    }

    /// Asks the client to prove that it holds a key of `ring`, proves the same to it, and seals
    /// the connection; returns the id of the key. If that key leaves the ring later, the
    /// connection is aborted.
    ///
    /// Otherwise as [`seal_client`](Self::seal_client).
    pub fn seal_server(
        &mut self,
        ring: &Keyring,
        terms: &Terms,
        timeout: Duration,
    ) -> Result<KeyId> {
        if self.handshake.is_none() {
            self.check_first()?;
            if ring.is_empty() {
                return Err(Error::new(ErrorKind::Key, "the key ring is empty"));
            }
            let (machine, key) = (Handshake::server(terms)?, ring.decoy()?);
            self.handshake = Some(Box::new(Pending { machine, key, has_begun: false }));
        }
        self.handshake(timeout, |connection, deadline| {
            let key = connection.proceed(deadline, ring)?;
            let id = connection.proof().map(|proof| proof.key_id.clone()).unwrap_or_default();
            ring.join(&id, &key, &connection.handle())?;
            Ok(id)
        })
    }

    /// Fails unless a sealed conversation can begin.
    fn check_first(&self) -> Result<()> {
        self.shared().check()?;
        if self.receiving.is_exact() {
            let detail = "a connection that reads nothing ahead cannot be sealed: a record may \
                          have several messages";
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        if self.read_fd().is_none() || self.write_fd().is_none() {
            return Err(Error::new(ErrorKind::BadDescriptor, "a handshake needs both directions"));
        }
        if self.accepted() > 0 || self.has_input() || self.proof().is_some() {
            return Err(Error::new(ErrorKind::State, "the connection was used before"));
        }
        Ok(())
    }

    /// Takes the steps of the handshake as their bytes are received; returns the key.
    fn proceed(&mut self, deadline: Deadline, ring: &Keyring) -> Result<Key> {
        let none = || Error::new(ErrorKind::State, "there is no handshake");
        loop {
            self.flush(deadline)?;
            let mut pending = self.handshake.take().ok_or_else(none)?;
            let bytes = match self.raw_by(pending.machine.needs(), deadline) {
                Ok(bytes) => bytes,
                Err(error) if pending.has_begun && is_cut(&error) => {
                    let detail = "the stream ended inside the handshake";
                    return Err(Error::new(ErrorKind::Truncated, detail));
                }
                Err(error) => {
                    self.handshake = Some(pending);
                    return Err(error);
                }
            };
            pending.has_begun = true;
            let Pending { machine, key, .. } = &mut *pending;
            let used = RefCell::new(key);
            let key_for = |id: &KeyId| {
                if let Some(known) = ring.sealing_key(id) {
                    **used.borrow_mut() = known;
                }
                used.borrow().clone()
            };
            match machine.step(bytes, &key_for)? {
                Step::More => self.handshake = Some(pending),
                Step::Reply(bytes) => {
                    self.handshake = Some(pending);
                    self.send_raw(&bytes, deadline)?;
                }
                Step::Done { session, confirm } => {
                    self.seal(*session, confirm)?;
                    match self.flush(deadline) {
                        // It was accepted, and is written with the next message.
                        Err(error) if error.kind() == ErrorKind::TimedOut => {}
                        flushed => flushed?,
                    }
                    return Ok(pending.key);
                }
            }
        }
    }
}

/// Whether the peer has closed the connection, in whatever way.
fn is_cut(error: &Error) -> bool {
    let resets = [Errno::CONNRESET, Errno::PIPE].map(Errno::raw_os_error);
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Truncated)
        || resets.contains(&error.errno())
}

/// What a client can do after a failure.
fn refused(error: Error) -> Error {
    match error.kind() {
        _ if is_cut(&error) => Error::new(
            ErrorKind::Truncated,
            "the server closed the connection during the handshake: is the key one of its keys, \
             under this id, and its name the same at both ends?",
        ),
        ErrorKind::TimedOut => Error::new(error.kind(), "does the server speak sealed?"),
        _ => error,
    }
}
