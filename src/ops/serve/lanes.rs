//! Requests that take long: how many of each kind run, and who waits for a place.

use super::options::Limits;
use super::peer::{Lane, Peer};
use crate::io::poller::Token;

/// A connection whose request waits.
pub(super) type Waiting = (Token, Box<Peer>);

pub(super) struct Lanes([Places; 2]);

struct Places {
    max: usize,
    running: usize,
    /// The first one is the next.
    waiting: Vec<Waiting>,
}

impl Lanes {
    pub(super) fn new(limits: &Limits) -> Lanes {
        let places = |max| Places { max, running: 0, waiting: Vec::new() };
        Lanes([places(limits.max_commands), places(limits.max_transfers)])
    }

    fn of(&mut self, lane: Lane) -> &mut Places {
        &mut self.0[lane as usize]
    }

    /// Takes a place, and returns the connection; `None`: it waits for one.
    pub(super) fn enter(&mut self, lane: Lane, token: Token, peer: Box<Peer>) -> Option<Box<Peer>> {
        let places = self.of(lane);
        if places.running < places.max {
            places.running += 1;
            return Some(peer);
        }
        places.waiting.push((token, peer));
        None
    }

    /// Passes the place on to the next one, or gives it up.
    pub(super) fn leave(&mut self, lane: Lane) -> Option<Waiting> {
        let places = self.of(lane);
        if places.waiting.is_empty() {
            places.running -= 1;
            return None;
        }
        Some(places.waiting.remove(0))
    }

    /// Requests that run.
    pub(super) fn running(&self) -> usize {
        self.0.iter().map(|places| places.running).sum()
    }

    /// Everybody who waits, and no longer does.
    pub(super) fn clear(&mut self) -> Vec<Waiting> {
        self.0.iter_mut().flat_map(|places| std::mem::take(&mut places.waiting)).collect()
    }
}
