//! Counts, hashes and reports the bytes of a transfer, and limits its rate.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Progress, Transferred};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::wait::{Interrupt, poll};
use crate::limits;
use crate::wire::digest::{Digest, Hasher};

/// How a content is transferred.
#[derive(Clone)]
pub(super) struct Flow<'a> {
    /// The progress callback, and the name it gets.
    pub progress: Option<(Progress<'a>, &'a [u8])>,
    /// Bytes per second; `None` is no limit, 0 is treated as 1.
    pub rate: Option<u64>,
    /// The peer must keep to [`limits::LEAST_RATE`] on average, but for this much time.
    pub patience: Option<Duration>,
    /// Ends the wait for the rate.
    pub deadline: Deadline,
    /// Ends it as well.
    pub interrupt: Arc<Interrupt>,
}

impl Flow<'_> {
    /// Fails after the deadline, or if the host wants the call to end.
    pub(super) fn check(&self) -> Result<()> {
        self.interrupt.ask()?;
        if self.deadline.passed() {
            return Err(Error::new(ErrorKind::TimedOut, "while the first bytes were read"));
        }
        Ok(())
    }
}

/// A content in transfer.
pub(super) struct Meter<'a> {
    done: u64,
    total: u64,
    hasher: Option<Hasher>,
    progress: Option<(Progress<'a>, &'a [u8])>,
    pace: Pace,
}

impl<'a> Meter<'a> {
    /// Expects `total` bytes.
    pub(super) fn new(total: u64, checksum: bool, flow: &Flow<'a>) -> Meter<'a> {
        let hasher = checksum.then(Hasher::default);
        Meter { done: 0, total, hasher, progress: flow.progress, pace: Pace::new(flow) }
    }

    /// A piece that both sides have, and that is not transferred.
    pub(super) fn skip(&mut self, piece: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        self.done += piece.len() as u64;
    }

    /// Bytes that both sides have, and that are not hashed.
    pub(super) fn skip_unread(&mut self, bytes: u64) {
        self.done += bytes;
    }

    /// Compares the skipped bytes with their digest.
    pub(super) fn check_skipped(&self, expected: Option<Digest>) -> Result<()> {
        Transferred { sha256: self.digest(), ..Transferred::default() }.check(expected)
    }

    /// Expects another number of bytes.
    pub(super) fn expect(&mut self, total: u64) {
        self.total = total;
    }

    /// Whether it computes a digest.
    pub(super) fn is_hashed(&self) -> bool {
        self.hasher.is_some()
    }

    /// The digest of all bytes that were skipped or transferred so far.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.hasher.clone().map(Hasher::finish)
    }

    /// Bytes that were skipped or transferred.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Bytes that are left to transfer.
    pub(super) fn left(&self) -> u64 {
        self.total.saturating_sub(self.done)
    }

    /// The most bytes that are transferred at once.
    pub(super) fn step(&self) -> usize {
        self.pace.step()
    }

    /// Records a piece that was transferred, and waits until the next one may follow.
    pub(super) fn pass(&mut self, piece: &[u8]) -> Result<()> {
        self.skip(piece);
        match self.progress.map(|(progress, name)| progress(name, self.done, self.total)) {
            Some(ControlFlow::Break(())) => Err(Error::new(
                ErrorKind::Canceled,
                format!("after {} of {} bytes", self.done, self.total),
            )),
            _ => self.pace.pass(piece.len()),
        }
    }

    /// Until when `bytes` more must have been transferred.
    pub(super) fn deadline(&mut self, bytes: usize) -> Deadline {
        self.pace.deadline(bytes)
    }

    /// The number of transferred bytes.
    pub(super) fn finish(self) -> Transferred {
        let sha256 = self.hasher.map(Hasher::finish);
        Transferred { bytes: self.done, files: 1, sha256, ..Transferred::default() }
    }
}

/// A token bucket that is empty at first. Each byte is paid for with time after it was
/// transferred, including the last one, so that many small files are as slow as a large one.
/// Idle time is credited, up to [`DEPTH`].
pub(super) struct Pace {
    rate: Option<u64>,
    patience: Option<Duration>,
    /// When the first piece was transferred, and bytes since then.
    begun: Option<Instant>,
    passed: u64,
    /// When all transferred bytes are paid for.
    paid: Instant,
    deadline: Deadline,
    interrupt: Arc<Interrupt>,
}

impl Pace {
    pub(super) fn new(flow: &Flow<'_>) -> Pace {
        Pace {
            rate: flow.rate.map(|rate| rate.max(1)),
            patience: flow.patience,
            begun: None,
            passed: 0,
            paid: Instant::now(),
            deadline: flow.deadline,
            interrupt: Arc::clone(&flow.interrupt),
        }
    }

    /// The most bytes that are transferred at once: few enough that the peer sees some several
    /// times a second.
    pub(super) fn step(&self) -> usize {
        let step = self.rate.map_or(u64::MAX, |rate| (rate / STEPS_PER_SECOND).max(1));
        usize::try_from(step).unwrap_or(usize::MAX).min(limits::COPY_STEP)
    }

    /// Until when `bytes` more must have been transferred, at the least rate.
    pub(super) fn deadline(&mut self, bytes: usize) -> Deadline {
        let Some(patience) = self.patience else { return self.deadline };
        let begun = *self.begun.get_or_insert_with(Instant::now);
        // A content that this side slows down cannot be faster.
        let least = self.rate.map_or(limits::LEAST_RATE, |rate| rate.min(limits::LEAST_RATE));
        let time = Duration::from_secs((self.passed + bytes as u64) / least);
        let time = patience.saturating_add(time).saturating_sub(begun.elapsed());
        Deadline::after(time).min(self.deadline)
    }

    /// Waits until `bytes` more are paid for.
    pub(super) fn pass(&mut self, bytes: usize) -> Result<()> {
        if self.patience.is_some() {
            if self.deadline(bytes).passed() && !self.deadline.passed() {
                let detail = format!("less than {} bytes a second", limits::LEAST_RATE);
                return Err(Error::new(ErrorKind::TimedOut, detail));
            }
            self.passed += bytes as u64;
        }
        let Some(rate) = self.rate else { return Ok(()) };
        let now = Instant::now();
        let earliest = now.checked_sub(DEPTH).unwrap_or(now);
        let paid = self.paid.max(earliest).checked_add(price(bytes, rate));
        self.paid = paid.unwrap_or(self.paid);
        let wait = self.paid.saturating_duration_since(now);
        if wait.is_zero() {
            return Ok(());
        }
        let until = Deadline::after(wait).min(self.deadline);
        poll(&mut [], until, Some(&self.interrupt))?;
        if self.deadline.passed() {
            return Err(Error::new(ErrorKind::TimedOut, "the rate is too low for the timeout"));
        }
        Ok(())
    }
}

/// The time that `bytes` take.
fn price(bytes: usize, rate: u64) -> Duration {
    // 64 bits are enough for the bytes of a piece.
    Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate)
}

const STEPS_PER_SECOND: u64 = 4;
/// How much idle time can be credited.
const DEPTH: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: Option<u64>, deadline: Deadline) -> Pace {
        let interrupt = Arc::new(Interrupt::for_descriptors(None, [None; 2]).unwrap());
        Pace::new(&Flow { progress: None, rate, patience: None, deadline, interrupt })
    }

    #[test]
    fn a_wait_ends_with_the_time_there_is() {
        let start = Instant::now();
        let mut pace = pace(Some(1), Deadline::after(Duration::from_millis(20)));
        assert_eq!(pace.pass(100).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn a_wait_ends_when_the_connection_is_aborted() {
        let start = Instant::now();
        let mut pace = pace(Some(1), Deadline::NEVER);
        pace.interrupt.abort();
        assert_eq!(pace.pass(100).unwrap_err().kind(), ErrorKind::Aborted);
        assert!(start.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn a_peer_has_to_keep_to_the_least_rate() {
        let patience = Duration::from_secs(30);
        for rate in [None, Some(100), Some(1 << 20)] {
            let mut pace = Pace { patience: Some(patience), ..pace(rate, Deadline::NEVER) };
            let left = |deadline: Deadline| deadline.remaining().unwrap().as_secs();
            assert!((25..=30).contains(&left(pace.deadline(0))));
            let least = rate.unwrap_or(limits::LEAST_RATE).min(limits::LEAST_RATE);
            let in_all = 30 + (1 << 20) / least;
            assert!((in_all - 5..=in_all).contains(&left(pace.deadline(1 << 20))));
            pace.passed = 1000 * least;
            // A thousand seconds' worth, which took as long, and the patience is over.
            pace.begun = pace.begun.and_then(|at| at.checked_sub(Duration::from_secs(1020)));
            assert!(!pace.deadline(0).passed());
            pace.begun = pace.begun.and_then(|at| at.checked_sub(Duration::from_secs(11)));
            assert_eq!(pace.pass(1).unwrap_err().kind(), ErrorKind::TimedOut);
        }
    }

    #[test]
    fn pieces_are_of_a_quarter_of_a_second() {
        let step = |rate| pace(rate, Deadline::NEVER).step();
        let steps = [None, Some(0), Some(1), Some(1024), Some(u64::MAX)].map(step);
        assert_eq!(steps, [limits::COPY_STEP, 1, 1, 256, limits::COPY_STEP]);
    }

    #[test]
    fn a_pause_is_made_up_for_within_limits() {
        let mut pace = pace(Some(1000), Deadline::NEVER);
        pace.paid = pace.paid.checked_sub(Duration::from_secs(3600)).unwrap_or(pace.paid);
        let start = Instant::now();
        pace.pass(250).unwrap();
        pace.pass(250).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(250));
    }
}
