//! The log and the counters of a server.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::locked;
use crate::io::signal;
use crate::wire::escape;

/// How much a line matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// The server could not do its work.
    Error = 0,
    /// It refused or ended something.
    Warning = 1,
    /// It began or ended; a client has proved a key that has an id.
    #[default]
    Info = 2,
    /// What each connection does.
    Debug = 3,
}

/// Called with a level and a line of text, by any thread of the server.
pub type LogFunction = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// Passes lines on, but of each level no more than a few in a second: peers cause them.
pub(super) struct Log {
    function: Option<LogFunction>,
    level: Level,
    buckets: Mutex<[Bucket; 4]>,
}

/// Lines that may still be passed on.
#[derive(Clone, Copy)]
struct Bucket {
    lines: f64,
    filled: Instant,
    left_out: u64,
}

impl Log {
    /// A log of lines up to `level`.
    pub(super) fn new(function: Option<LogFunction>, level: Level) -> Log {
        let bucket = Bucket { lines: BURST, filled: Instant::now(), left_out: 0 };
        Log { function, level, buckets: Mutex::new([bucket; 4]) }
    }

    /// A line; it is formatted only if somebody wants it. What peers sent is escaped in it.
    pub(super) fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        let Some(function) = self.function.as_ref().filter(|_| level <= self.level) else { return };
        let left_out = {
            let bucket = &mut locked(&self.buckets)[level as usize];
            let now = Instant::now();
            let filled = now.saturating_duration_since(bucket.filled).as_secs_f64() * A_SECOND;
            bucket.lines = (bucket.lines + filled).min(BURST);
            bucket.filled = now;
            if bucket.lines < 1.0 {
                bucket.left_out += 1;
                return;
            }
            bucket.lines -= 1.0;
            std::mem::take(&mut bucket.left_out)
        };
        let mut text = text.to_string();
        if text.len() > LONGEST || text.contains(char::is_control) {
            text = escape(text.as_bytes());
        }
        // The host may write to a pipe that nobody reads any more. A panic in it is not ours.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            signal::with_blocked(|| {
                if left_out > 0 {
                    function(level, &format!("{left_out} lines before this were left out"));
                }
                function(level, &text);
            });
        }));
    }
}

/// Lines at once, and then in a second.
const BURST: f64 = 50.0;
const A_SECOND: f64 = 10.0;
/// Bytes of a line.
const LONGEST: usize = 1024;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a server has done so far, and does at the moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[doc = $doc])* pub $name: u64),* }

        /// The same, to be changed by any thread.
        #[derive(Debug, Default)]
        pub(super) struct Counts { $(pub(super) $name: AtomicU64),* }

        impl Counts {
            pub(super) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Connections that were accepted or added.
    connections,
    /// Those that exist.
    connections_now,
    /// Requests that are over: served, refused or cut.
    requests,
    /// Requests that are being served, or wait for it.
    requests_now,
    /// Requests that got an error reply or were cut, and bytes that were no request.
    errors,
    /// Connections that were refused because they proved no key, or not in time, or because of
    /// their user.
    refused_auth,
    /// Connections that were refused or closed, and requests that were told `busy`, because of a
    /// limit.
    refused_limit,
    /// Connections that were closed because the peer was too slow.
    timed_out,
    /// Bytes that were read from clients.
    bytes_in,
    /// Bytes that were written to them.
    bytes_out,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// Takes one from a counter of what exists.
pub(super) fn take(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_counted() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&lines);
        let function: LogFunction =
            Arc::new(move |_, line| noted.lock().unwrap().push(line.to_owned()));
        let log = Log::new(Some(function), Level::Info);
        log.line(Level::Debug, format_args!("nobody wants it"));
        for n in 0..1000 {
            log.line(Level::Warning, format_args!("line {n}"));
        }
        let made = lines.lock().unwrap().len();
        assert!((10..100).contains(&made), "{made}");
        std::thread::sleep(std::time::Duration::from_millis(150));
        log.line(Level::Warning, format_args!("{}", "x\n".repeat(2000)));
        let lines = lines.lock().unwrap();
        let [.., left_out, cut] = &lines[..] else { panic!() };
        assert_eq!(*left_out, format!("{} lines before this were left out", 1000 - made));
        assert!(cut.len() < LONGEST && !cut.contains('\n'), "{cut}");
    }
}
