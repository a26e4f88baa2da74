//! The connections of a server: where each is, when it is due, which has proved nothing yet.
//!
//! | place | who has the connection | what follows |
//! |---|---|---|
//! | parked | the table; the poller waits for it | an event or its time: busy |
//! | busy | one thread, or the lane in which it waits | parked or removed |

use std::collections::BTreeSet;
use std::time::Instant;

use super::peer::Peer;
use crate::io::poller::Token;
use crate::ops::frame::Handle;

/// All connections.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// When each connection must be looked at, at the latest. Its own time may be later.
    times: BTreeSet<(Instant, Token)>,
    /// Connections that have proved no key yet or are being refused, the oldest first.
    pending: BTreeSet<(u64, Token)>,
    admitted: u64,
    count: usize,
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
    /// Its entry in `times`.
    noted: Option<Instant>,
    /// Its entry in `pending`.
    pending: Option<u64>,
    /// To be closed by the thread that has it.
    is_doomed: bool,
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
        self.pending.len()
    }

    /// Adds a connection, which the caller has.
    pub(super) fn insert(&mut self, handle: Handle, is_pending: bool) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                place: Place::Free,
                handle: None,
                due: None,
                noted: None,
                pending: None,
                is_doomed: false,
            });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        // The highest bit is for tokens of other descriptors.
        slot.generation = (slot.generation + 1) & 0x7fff_ffff;
        (slot.place, slot.handle, slot.is_doomed) = (Place::Busy, Some(handle), false);
        let token = Token::from(slot.generation) << 32 | Token::from(index);
        self.count += 1;
        self.admitted += 1;
        if is_pending {
            slot.pending = Some(self.admitted);
            self.pending.insert((self.admitted, token));
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

    /// Puts a connection back until an event, or `due`. If it must be closed, it is returned.
    /// True: `due` is before all other times.
    pub(super) fn park(
        &mut self,
        token: Token,
        peer: Box<Peer>,
        due: Instant,
    ) -> Result<bool, Box<Peer>> {
        let Some(slot) = self.slot(token).filter(|slot| !slot.is_doomed) else {
            return Err(peer);
        };
        slot.place = Place::Parked(peer);
        Ok(self.note(token, due))
    }

    /// Sets when a connection is due. A later time than before is only remembered: so a busy
    /// connection costs nothing here.
    pub(super) fn note(&mut self, token: Token, due: Instant) -> bool {
        let Some(slot) = self.slot(token) else { return false };
        slot.due = Some(due);
        if slot.noted.is_some_and(|noted| noted <= due) {
            return false;
        }
        let before = slot.noted.replace(due);
        if let Some(before) = before {
            self.times.remove(&(before, token));
        }
        let is_first = self.first_time().is_none_or(|first| due < first);
        self.times.insert((due, token));
        is_first
    }

    /// The first time at which something may be due.
    pub(super) fn first_time(&self) -> Option<Instant> {
        let first = self.times.first().map(|(at, _)| *at);
        [first, self.resume, self.end].into_iter().flatten().min()
    }

    /// Takes a connection whose time is up.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Token, Box<Peer>)> {
        while let Some(&(at, token)) = self.times.first()
            && at <= now
        {
            self.times.remove(&(at, token));
            let Some(slot) = self.slot(token) else { continue };
            slot.noted = None;
            match slot.due {
                Some(due) if due > now => {
                    self.note(token, due);
                }
                // The thread that has it notes its next time.
                _ => {
                    if let Some(peer) = self.take(token) {
                        return Some((token, peer));
                    }
                }
            }
        }
        None
    }

    /// It has proved its key.
    pub(super) fn settle(&mut self, token: Token) {
        let Some(slot) = self.slot(token) else { return };
        if let Some(order) = slot.pending.take() {
            self.pending.remove(&(order, token));
        }
    }

    /// The oldest that has proved nothing. If another thread has it, that thread closes it.
    pub(super) fn evict(&mut self) -> Option<(Token, Option<Box<Peer>>)> {
        let &(order, token) = self.pending.first()?;
        self.pending.remove(&(order, token));
        let slot = self.slot(token)?;
        (slot.pending, slot.is_doomed) = (None, true);
        let peer = self.take(token);
        Some((token, peer))
    }

    /// Forgets a connection, which the caller has.
    pub(super) fn remove(&mut self, token: Token) {
        self.settle(token);
        let Some(slot) = self.slot(token) else { return };
        (slot.place, slot.handle, slot.due) = (Place::Free, None, None);
        if let Some(noted) = slot.noted.take() {
            self.times.remove(&(noted, token));
        }
        self.free.push(u32::try_from(token & 0xffff_ffff).unwrap_or(u32::MAX));
        self.count -= 1;
    }

    /// The tokens of all parked connections.
    pub(super) fn parked(&self) -> Vec<Token> {
        let token = |(index, slot): (usize, &Slot)| {
            let is_parked = matches!(slot.place, Place::Parked(_));
            is_parked.then(|| Token::from(slot.generation) << 32 | index as Token)
        };
        self.slots.iter().enumerate().filter_map(token).collect()
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
