//! The connections of a server: where each is, when it is due, which has proved nothing yet.
//!
//! | place | who has the connection | what follows |
//! |---|---|---|
//! | parked | the table; the poller waits for it | an event or its time: busy |
//! | busy | one thread, or the lane in which it waits | parked or removed |

use std::time::{Duration, Instant};

use super::resting::Kept;
use crate::io::poller::Token;
use crate::limits;
use crate::ops::frame::{Buffers, Handle};

/// All connections.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// No connection is due before this. When it has passed, all of them are looked at: that takes
    /// less than to keep thousands of times in order, which change with each request.
    first: Option<Instant>,
    /// Connections, and those of them that have proved no key yet or are being refused.
    count: usize,
    pending: usize,
    /// When connections are to be put to rest.
    rest: Option<Instant>,
    /// When inherited processes are reaped.
    pub(super) reap: Option<Instant>,
    /// When connections are accepted again.
    pub(super) resume: Option<Instant>,
    /// When a server that stops ends what still runs, or waits for that no longer.
    pub(super) end: Option<Instant>,
    /// Of connections that were served, for the next ones.
    buffers: Vec<Buffers>,
}

struct Slot {
    generation: u32,
    place: Place,
    /// Aborts it while another thread has it.
    handle: Option<Handle>,
    /// When its time is up.
    due: Option<Instant>,
    /// When it was let in, if it has proved no key yet or is being refused.
    pending: Option<Instant>,
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
    Called(Kept),
    /// It must be closed.
    Doomed(Kept),
}

enum Place {
    Free,
    Parked(Kept),
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
        if is_pending {
            slot.pending = Some(Instant::now());
            self.pending += 1;
        }
        token
    }

    /// Buffers for a connection that is to be served.
    pub(super) fn lend(&mut self) -> Option<Buffers> {
        self.buffers.pop()
    }

    /// Keeps the buffers of a connection that was served.
    pub(super) fn keep(&mut self, buffers: Option<Buffers>) {
        if self.buffers.len() < BUFFERS {
            self.buffers.extend(buffers);
        }
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::try_from(token & 0xffff_ffff).ok()?)?;
        (Token::from(slot.generation) == token >> 32 && !matches!(slot.place, Place::Free))
            .then_some(slot)
    }

    /// Takes a parked connection; `None`: another thread has it, or it was closed.
    pub(super) fn take(&mut self, token: Token) -> Option<Kept> {
        let slot = self.slot(token)?;
        match std::mem::replace(&mut slot.place, Place::Busy) {
            Place::Parked(kept) => Some(kept),
            other => {
                slot.place = other;
                None
            }
        }
    }

    /// As [`take`](Self::take) for an event. The thread that has the connection looks again.
    pub(super) fn call(&mut self, token: Token) -> Option<Kept> {
        let kept = self.take(token);
        if kept.is_none()
            && let Some(slot) = self.slot(token)
        {
            slot.is_called = true;
        }
        kept
    }

    /// Puts a connection back until an event, or `due`.
    pub(super) fn park(&mut self, token: Token, kept: Kept, due: Instant) -> Parked {
        let Some(slot) = self.slot(token).filter(|slot| !slot.is_doomed) else {
            return Parked::Doomed(kept);
        };
        if std::mem::take(&mut slot.is_called) {
            return Parked::Called(kept);
        }
        let rests_at = kept.rests_at();
        slot.place = Place::Parked(kept);
        let is_first = self.note(token, due);
        if self.rest.is_none() {
            self.rest = rests_at;
        }
        Parked::Here { is_first: is_first || self.rest == rests_at && rests_at.is_some() }
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
        [self.first, self.rest, self.reap, self.resume, self.end].into_iter().flatten().min()
    }

    /// Takes all parked connections whose time is up.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(Token, Kept)> {
        if self.first.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut first = None::<Instant>;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let (Some(at), Place::Parked(_)) = (slot.due, &slot.place) else { continue };
            if at > now {
                first = Some(first.map_or(at, |first| first.min(at)));
            } else if let Place::Parked(kept) = std::mem::replace(&mut slot.place, Place::Busy) {
                due.push((token_of(index, slot), kept));
            }
        }
        // Not more often than this, however many there are.
        self.first = first.map(|first| first.max(now + SCANS));
        due
    }

    /// Puts connections to rest that have waited for a while.
    pub(super) fn put_to_rest(&mut self, now: Instant) {
        if self.rest.is_none_or(|at| at > now) {
            return;
        }
        self.rest = None;
        let mut left = AT_ONCE;
        for slot in &mut self.slots {
            let Place::Parked(kept) = &slot.place else { continue };
            let Some(at) = kept.rests_at() else { continue };
            if at > now || left == 0 {
                self.rest = Some(self.rest.map_or(at, |rest| rest.min(at)));
            } else if let Place::Parked(kept) = std::mem::replace(&mut slot.place, Place::Busy) {
                slot.place = Place::Parked(kept.rest());
                left -= 1;
            }
        }
        self.rest = self.rest.map(|at| at.max(now + SCANS));
    }

    /// It has proved its key.
    pub(super) fn settle(&mut self, token: Token) {
        let Some(slot) = self.slot(token) else { return };
        if slot.pending.take().is_some() {
            self.pending -= 1;
        }
    }

    /// Until when as many as `most` have a chance to prove their keys: nobody is let in before, who
    /// would push one of them out. A burst of clients waits for its turn in the kernel.
    pub(super) fn crowded_until(&self, most: usize) -> Option<Instant> {
        if self.pending < most {
            return None;
        }
        self.slots.iter().filter_map(|slot| slot.pending).min()?.checked_add(limits::CHANCE)
    }

    /// The oldest that has proved nothing. If another thread has it, that thread closes it.
    pub(super) fn evict(&mut self) -> Option<(Token, Option<Kept>)> {
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
    pub(super) fn peek(&mut self, token: Token) -> Option<&mut Kept> {
        match &mut self.slot(token)?.place {
            Place::Parked(kept) => Some(kept),
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

/// Buffers that are kept: those of as many threads.
const BUFFERS: usize = 16;
/// The shortest time between two looks at all connections.
const SCANS: Duration = Duration::from_millis(5);
/// Connections that are put to rest in one look, during which other threads wait.
const AT_ONCE: usize = 256;
