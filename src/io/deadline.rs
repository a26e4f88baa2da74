//! The deadline of a whole call, on the monotonic clock.

use std::time::{Duration, Instant};

use crate::limits;

/// When a call must be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(At);

#[derive(Clone, Copy, Debug)]
enum At {
    /// The call does not wait, and does not read the clock.
    Past,
    Point(Instant),
    Never,
}

impl Deadline {
    /// No deadline.
    pub const NEVER: Deadline = Deadline(At::Never);
    /// At once: the call does not wait.
    pub const PAST: Deadline = Deadline(At::Past);

    /// `timeout` from now; never, if that exceeds the clock's range.
    pub fn after(timeout: Duration) -> Deadline {
        if timeout.is_zero() {
            return Deadline::PAST;
        }
        Deadline(Instant::now().checked_add(timeout).map_or(At::Never, At::Point))
    }

    /// `timeout` from now, or never.
    pub fn from_timeout(timeout: Option<Duration>) -> Deadline {
        timeout.map_or(Deadline::NEVER, Deadline::after)
    }

    /// Whether there is no deadline.
    pub fn is_never(self) -> bool {
        matches!(self.0, At::Never)
    }

    /// Whether the call must not wait at all.
    pub fn is_past(self) -> bool {
        matches!(self.0, At::Past)
    }

    /// The time that is left, zero once it has passed; `None` without a deadline.
    pub fn remaining(self) -> Option<Duration> {
        match self.0 {
            At::Past => Some(Duration::ZERO),
            At::Point(at) => Some(at.saturating_duration_since(Instant::now())),
            At::Never => None,
        }
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (At::Past, _) | (_, At::Past) => Deadline::PAST,
            (At::Point(a), At::Point(b)) => Deadline(At::Point(a.min(b))),
            (At::Never, at) | (at, At::Never) => Deadline(at),
        }
    }
}

/// How long a transfer may take: in total, and without a byte.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimit {
    /// For the whole of it.
    pub deadline: Deadline,
    /// For each step, starting anew.
    pub stall: Option<Duration>,
}

/// In total, until then.
impl From<Deadline> for TimeLimit {
    fn from(deadline: Deadline) -> TimeLimit {
        TimeLimit { deadline, stall: None }
    }
}

impl TimeLimit {
    /// For `length` bytes that a peer sends or reads: at most `stall` without one of them, and in
    /// all as long as it takes at [`limits::LEAST_RATE`]. A peer that lets one byte pass before
    /// each stall is not waited for without an end.
    pub fn for_bytes(length: u64, stall: Duration) -> TimeLimit {
        let at_least_rate = Duration::from_secs(length / limits::LEAST_RATE);
        let deadline = Deadline::after(stall.saturating_add(at_least_rate));
        TimeLimit { deadline, stall: Some(stall) }
    }

    /// For `length` bytes that are read to be dropped, of which the peer may declare any number.
    pub fn for_dropped(length: u64, stall: Duration) -> TimeLimit {
        TimeLimit::for_bytes(length.min(limits::DROPPED), stall)
    }

    /// In total, `timeout` from now; `None` is forever.
    pub fn whole(timeout: Option<Duration>) -> TimeLimit {
        Deadline::from_timeout(timeout).into()
    }

    /// The same with no more than `stall` for each step.
    #[must_use]
    pub fn within(self, stall: Option<Duration>) -> TimeLimit {
        TimeLimit { stall: self.stall.into_iter().chain(stall).min(), ..self }
    }

    /// Whether there is no limit at all.
    pub fn is_endless(&self) -> bool {
        self.deadline.is_never() && self.stall.is_none()
    }

    /// The deadline of the next step.
    pub fn next(&self) -> Deadline {
        if self.deadline.is_past() {
            return Deadline::PAST; // without a look at the clock
        }
        self.deadline.min(Deadline::from_timeout(self.stall))
    }
}

/// How long a call that must not wait may work. Without this limit a peer that sends or reads
/// without a pause could keep it busy forever.
const WORK: Duration = Duration::from_millis(100);

/// How long one call may take: a timeout, which starts at the first wait, or a limit that covers
/// several calls.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    limit: Limit,
    /// When the host was last asked, or the second turn began.
    mark: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    /// For this call; `None` waits forever, zero does not wait.
    Span(Option<Duration>),
    /// For several calls.
    By(TimeLimit),
}

impl Time {
    fn new(limit: Limit) -> Time {
        Time { limit, mark: None }
    }

    /// Whether the call has a timeout of zero.
    pub fn is_none(&self) -> bool {
        matches!(self.limit, Limit::Span(Some(span)) if span.is_zero())
    }

    /// The limit, which starts now.
    pub fn time_limit(&mut self) -> TimeLimit {
        let time_limit = match self.limit {
            Limit::Span(span) => TimeLimit::whole(span),
            Limit::By(time_limit) => time_limit,
        };
        self.limit = Limit::By(time_limit);
        time_limit
    }

    /// Whether the time is over, after a turn of the call's loop that made progress.
    pub fn is_up(&mut self) -> bool {
        match self.time_limit().deadline {
            never if never.is_never() => false,
            past if past.is_past() => self.has_worked(WORK),
            deadline => deadline.passed(),
        }
    }

    /// Whether this much time has passed since the call's second turn, or since this was last
    /// true.
    pub fn has_worked(&mut self, long: Duration) -> bool {
        let now = Instant::now();
        let has = now.saturating_duration_since(*self.mark.get_or_insert(now)) >= long;
        if has {
            self.mark = Some(now);
        }
        has
    }
}

impl From<Option<Duration>> for Time {
    fn from(span: Option<Duration>) -> Time {
        Time::new(Limit::Span(span))
    }
}

impl From<Duration> for Time {
    fn from(span: Duration) -> Time {
        Time::new(Limit::Span(Some(span)))
    }
}

impl From<Deadline> for Time {
    fn from(deadline: Deadline) -> Time {
        Time::new(Limit::By(deadline.into()))
    }
}

impl From<TimeLimit> for Time {
    fn from(time_limit: TimeLimit) -> Time {
        Time::new(Limit::By(time_limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_to_keep_to_the_least_rate() {
        let stall = Duration::from_secs(30);
        let left = |limit: TimeLimit| limit.deadline.remaining().map(|left| left.as_secs_f64());
        for (length, seconds) in [(0, 30.0), (1 << 20, 1054.0), (1 << 40, 1_073_741_854.0)] {
            let limit = TimeLimit::for_bytes(length, stall);
            assert!((left(limit).unwrap() - seconds).abs() < 10.0, "{length}");
            assert!(limit.next().remaining().unwrap() <= stall);
        }
        // The length of what is dropped is its sender's choice.
        assert!(left(TimeLimit::for_dropped(u64::MAX, stall)).unwrap() < 5000.0);
        assert_eq!(left(TimeLimit::for_bytes(u64::MAX, Duration::MAX)), None);
    }
}
