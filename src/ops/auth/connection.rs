//! The handshake on a connection, whose next bytes may have been read already.

use std::time::Duration;

use super::handshake::{handshake_deadline, no_challenge};
use super::keyring::Keyring;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::ops::frame::{Connection, Proof};
use crate::wire::auth::{ANSWER_SIZE, CHALLENGE_SIZE, Challenge, Key, KeyId, answer};

impl<'fd> Connection<'fd> {
    /// Asks the peer to prove that it holds a key of `ring`, before anything else is received,
    /// and returns the id of that key. Nothing else is proved: later bytes are not protected.
    ///
    /// With a `timeout` of zero, [`ErrorKind::TimedOut`] means: call again. Any other failure
    /// breaks the connection.
    pub fn auth_server(&mut self, ring: &Keyring, timeout: Duration) -> Result<KeyId> {
        self.check_plain()?;
        self.handshake(timeout, |connection, deadline| {
            if connection.challenge.is_none() {
                if ring.is_empty() {
                    return Err(Error::new(ErrorKind::Key, "the key ring is empty"));
                }
                let challenge = Challenge::new()?;
                connection.send_raw(challenge.as_bytes(), deadline)?;
                connection.challenge = Some(challenge);
            }
            connection.flush(deadline)?;
            let answer = connection.raw_array::<ANSWER_SIZE>(deadline)?;
            let challenge = connection.challenge.take();
            let none = || Error::new(ErrorKind::State, "there is no challenge");
            let id = ring.verify(challenge.ok_or_else(none)?, &answer).map_err(|error| {
                let is_sealed = answer.starts_with(b"FDS1");
                if is_sealed { Error::new(error.kind(), "the client speaks sealed") } else { error }
            })?;
            connection.proof = Some(Box::new(Proof { key_id: id.clone(), seal: None }));
            Ok(id)
        })
    }

    /// Proves to the peer that this side holds `key`. The server sends no result: a refused key
    /// is reported by the next receive. Otherwise as [`auth_server`](Self::auth_server).
    pub fn auth_client(&mut self, key: &Key, timeout: Duration) -> Result<()> {
        self.check_plain()?;
        self.handshake(timeout, |connection, deadline| {
            let challenge = connection.raw_array::<CHALLENGE_SIZE>(deadline);
            let challenge = challenge.map_err(no_challenge)?;
            connection.send_raw(&answer(key, &challenge), deadline)?;
            match connection.flush(deadline) {
                // It was accepted, and is written with the next message.
                Err(error) if error.kind() == ErrorKind::TimedOut && timeout.is_zero() => Ok(()),
                flushed => flushed,
            }
        })
    }

    /// A sealed handshake that has begun must not become a plain one.
    fn check_plain(&self) -> Result<()> {
        if self.handshake.is_some() {
            return Err(Error::new(ErrorKind::State, "a sealed handshake has begun"));
        }
        Ok(())
    }

    pub(super) fn handshake<T>(
        &mut self,
        timeout: Duration,
        work: impl FnOnce(&mut Connection<'fd>, Deadline) -> Result<T>,
    ) -> Result<T> {
        self.shared().enter_handshake()?;
        let state = self.state();
        if state.sealed {
            return Err(Error::new(ErrorKind::State, "the connection is sealed already"));
        }
        if state.to_send > 0 || state.to_receive > 0 {
            return Err(Error::new(ErrorKind::State, "a body in pieces is not complete"));
        }
        let outcome = work(self, handshake_deadline(timeout)).inspect_err(|error| {
            if error.kind() == ErrorKind::TimedOut && timeout.is_zero() {
                self.shared().suspend_handshake();
            } else {
                self.handshake = None;
                self.shared().break_by(error);
            }
        })?;
        // No program with a key is as old as those that repeat no ids.
        self.echoes = Some(true);
        Ok(outcome)
    }

    fn raw_array<const SIZE: usize>(&mut self, deadline: Deadline) -> Result<[u8; SIZE]> {
        let mut array = [0; SIZE];
        array.copy_from_slice(self.raw_by(SIZE, deadline)?);
        Ok(array)
    }
}
