//! A connection at rest: what is left of one that is in sync, and neither holds nor awaits a byte.
//! A server keeps thousands of them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::connection::{Connection, ConnectionOptions, Proof};
use super::shared::Held;
use crate::wire::seal::record::{Opener, Sealer};

/// A connection at rest.
#[derive(Debug)]
pub(crate) struct Resting {
    fds: [Option<BorrowedFd<'static>>; 2],
    shared: Held,
    seal: Option<Box<Seal>>,
    proof: Option<Box<Proof>>,
    requests: u64,
    echoes: Option<bool>,
    has_repeated_id: bool,
    drops_late_input: bool,
    /// Closed last, as those of a connection.
    owned: [Option<OwnedFd>; 2],
}

/// Both directions of a sealed connection.
#[derive(Debug)]
pub(super) struct Seal {
    pub opener: Opener,
    pub sealer: Sealer,
    pub is_dead: Arc<AtomicBool>,
}

impl Connection<'static> {
    /// Whether nothing is lost if it is put to rest.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.receiving.is_at_rest()
            && self.sending.is_at_rest()
            && self.handshake.is_none()
            && self.challenge.is_none()
            && self.shared.check().is_ok()
    }

    /// Puts it to rest, if it [`is_at_rest`](Self::is_at_rest). `None`: its seal has failed, and
    /// it is closed.
    pub(crate) fn rest(self) -> Option<Resting> {
        let Connection { receiving, sending, shared, requests, proof, echoes, .. } = self;
        let (fds, is_sealed) = ([receiving.fd(), sending.fd()], receiving.is_sealed());
        let drops_late_input = receiving.drops_late_input();
        let directions = receiving.into_opener().zip(sending.into_sealer());
        let seal = directions
            .map(|((opener, is_dead), sealer)| Box::new(Seal { opener, sealer, is_dead }));
        let Connection { has_repeated_id, owned, .. } = self;
        (seal.is_some() == is_sealed).then_some(Resting {
            fds,
            shared,
            seal,
            proof,
            requests,
            echoes,
            has_repeated_id,
            drops_late_input,
            owned,
        })
    }
}

impl Resting {
    /// The connection again, with the options that it had.
    pub(crate) fn wake(self, options: &ConnectionOptions) -> Connection<'static> {
        let mut connection = Connection {
            requests: self.requests,
            echoes: self.echoes,
            has_repeated_id: self.has_repeated_id,
            proof: self.proof,
            owned: self.owned,
            ..Connection::assemble(self.fds, self.shared, options)
        };
        if let Some(seal) = self.seal {
            let Seal { opener, sealer, is_dead } = *seal;
            connection.receiving.seal(opener, &is_dead);
            connection.sending.seal(sealer, Vec::new(), &is_dead);
        }
        if self.drops_late_input {
            connection.receiving.drop_late_input();
        }
        connection
    }
}
