//! The connections of a server: where each is, when it is due, which has proved nothing yet.
//!
//! | place | who has the connection | what follows |
//! |---|---|---|
//! | parked | the table; the poller waits for it | an event or its time: busy |
//! | busy | one thread, or the lane in which it waits | parked or removed |

use std::time::{Duration, Instant};

use super::peer::Peer;
use crate::io::poller::Token;
use crate::ops::frame::Handle;

/// All connections.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// No connection is due before this. When it has passed, all of them are looked at: that takes
    /// less than to keep thousands of times in order, which change with each request.
    first: Option<Instant>,
    admitted: u64,
    /// Connections, and those of them that have proved no key yet or are being refused.
    count: usize,
    pending: usize,
    /// When connections are accepted again.
    pub(super) resume: Option<Instant>,
    /// When a server that stops ends what still runs, or waits for that no longer.
    pub(super) end: Option<Instant>,
}

struct Slot {
    generation: u32,
    place: Place,
    /// Aborts it while another thread has it.
    handle: Option<Handle>,
    /// When its time is up.
    due: Option<Instant>,
    /// Its number, if it has proved no key yet or is being refused.
    pending: Option<u64>,
    /// To be closed by the thread that has it.
    is_doomed: bool,
    /// An event came while a thread had it, which has to look again.
    is_called: bool,
}

/// What became of a connection that was to be parked.
pub(super) enum Parked {
    /// It is; `is_first`: it is due before all others.
    Here { is_first: bool },
    /// An event has come meanwhile.
    Called(Box<Peer>),
    /// It must be closed.
    Doomed(Box<Peer>),
}

enum Place {
    Free,
    Parked(Box<Peer>),
    Busy,
}

impl Table {
    /// Connections.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Connections that have proved no key yet or are being refused.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Adds a connection, which the caller has.
    pub(super) fn insert(&mut self, handle: Handle, is_pending: bool) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                place: Place::Free,
                handle: None,
                due: None,
                pending: None,
                is_doomed: false,
                is_called: false,
            });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        // The highest bit is for tokens of other descriptors.
        slot.generation = (slot.generation + 1) & 0x7fff_ffff;
        (slot.place, slot.handle) = (Place::Busy, Some(handle));
        (slot.is_doomed, slot.is_called) = (false, false);
        let token = token_of(index as usize, slot);
        self.count += 1;
        self.admitted += 1;
        if is_pending {
            slot.pending = Some(self.admitted);
            self.pending += 1;
        }
        token
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::try_from(token & 0xffff_ffff).ok()?)?;
        (Token::from(slot.generation) == token >> 32 && !matches!(slot.place, Place::Free))
            .then_some(slot)
    }

    /// Takes a parked connection; `None`: another thread has it, or it was closed.
    pub(super) fn take(&mut self, token: Token) -> Option<Box<Peer>> {
        let slot = self.slot(token)?;
        match std::mem::replace(&mut slot.place, Place::Busy) {
            Place::Parked(peer) => Some(peer),
            other => {
                slot.place = other;
                None
            }
        }
    }

    /// As [`take`](Self::take) for an event. The thread that has the connection looks again.
    pub(super) fn call(&mut self, token: Token) -> Option<Box<Peer>> {
        let peer = self.take(token);
        if peer.is_none()
            && let Some(slot) = self.slot(token)
        {
            slot.is_called = true;
        }
        peer
    }

    /// Puts a connection back until an event, or `due`.
    pub(super) fn park(&mut self, token: Token, peer: Box<Peer>, due: Instant) -> Parked {
        let Some(slot) = self.slot(token).filter(|slot| !slot.is_doomed) else {
            return Parked::Doomed(peer);
        };
        if std::mem::take(&mut slot.is_called) {
            return Parked::Called(peer);
        }
        slot.place = Place::Parked(peer);
        Parked::Here { is_first: self.note(token, due) }
    }

    /// Sets when a connection is due; whether that is before all others. A later time than before
    /// costs nothing.
    pub(super) fn note(&mut self, token: Token, due: Instant) -> bool {
        let Some(slot) = self.slot(token) else { return false };
        slot.due = Some(due);
        if self.first.is_some_and(|first| first <= due) {
            return false;
        }
        self.first = Some(due);
        true
    }

    /// The first time at which something may be due.
    pub(super) fn first_time(&self) -> Option<Instant> {
        [self.first, self.resume, self.end].into_iter().flatten().min()
    }

    /// Takes all parked connections whose time is up.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(Token, Box<Peer>)> {
        if self.first.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut first = None::<Instant>;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let (Some(at), Place::Parked(_)) = (slot.due, &slot.place) else { continue };
            if at > now {
                first = Some(first.map_or(at, |first| first.min(at)));
            } else if let Place::Parked(peer) = std::mem::replace(&mut slot.place, Place::Busy) {
                due.push((token_of(index, slot), peer));
            }
        }
        // Not more often than this, however many there are.
        self.first = first.map(|first| first.max(now + SCANS));
        due
    }

    /// It has proved its key.
    pub(super) fn settle(&mut self, token: Token) {
        let Some(slot) = self.slot(token) else { return };
        if slot.pending.take().is_some() {
            self.pending -= 1;
        }
    }

    /// The oldest that has proved nothing. If another thread has it, that thread closes it.
    pub(super) fn evict(&mut self) -> Option<(Token, Option<Box<Peer>>)> {
        let pending = |(index, slot): (usize, &Slot)| Some((slot.pending?, token_of(index, slot)));
        let (_, token) = self.slots.iter().enumerate().filter_map(pending).min()?;
        self.settle(token);
        self.slot(token)?.is_doomed = true;
        Some((token, self.take(token)))
    }

    /// Forgets a connection, which the caller has.
    pub(super) fn remove(&mut self, token: Token) {
        self.settle(token);
        let Some(slot) = self.slot(token) else { return };
        (slot.place, slot.handle, slot.due) = (Place::Free, None, None);
        self.free.push(u32::try_from(token & 0xffff_ffff).unwrap_or(u32::MAX));
        self.count -= 1;
    }

    /// The tokens of all parked connections.
    pub(super) fn parked(&self) -> Vec<Token> {
        let slots = self.slots.iter().enumerate();
        let parked = slots.filter(|(_, slot)| matches!(slot.place, Place::Parked(_)));
        parked.map(|(index, slot)| token_of(index, slot)).collect()
    }

    /// Looks at a parked connection.
    pub(super) fn peek(&mut self, token: Token) -> Option<&mut Peer> {
        match &mut self.slot(token)?.place {
            Place::Parked(peer) => Some(peer),
            _ => None,
        }
    }

    /// Aborts the connections that other threads have.
    pub(super) fn abort_busy(&self) {
        let busy = self.slots.iter().filter(|slot| matches!(slot.place, Place::Busy));
        busy.filter_map(|slot| slot.handle.as_ref()).for_each(Handle::abort);
    }
}

fn token_of(index: usize, slot: &Slot) -> Token {
    Token::from(slot.generation) << 32 | index as Token
}

/// The shortest time between two looks at all connections.
const SCANS: Duration = Duration::from_millis(5);
