//! Signals: those that go to a command at a host, and those that end what this program does.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use framefd::frame::{Handle, Hook};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Result};
use crate::terminal::{self, Raw};

/// The signals of the user's that are not ignored: nohup(1) and a shell's jobs in the background
/// have some ignored, and they stay so.
fn ours(numbers: &[i32]) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    numbers.iter().copied().filter(|number| mask & 1 << (number - 1) == 0).collect()
}

/// Passes signals on until the program ends.
pub struct Relay {
    /// The signal that has ended the connections.
    ended_by: Arc<AtomicUsize>,
}

impl Relay {
    /// Starts: each signal goes to the commands of all `handles` the first time, ends their
    /// connections the second time, and the program the third time. With a terminal, its size goes
    /// to the commands as well.
    pub fn start(
        handles: impl Fn() -> Vec<Handle> + Send + 'static,
        raw: Option<Arc<Raw>>,
    ) -> Result<Relay> {
        let mut numbers = ours(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT]);
        if raw.is_some() {
            numbers.extend([SIGWINCH, SIGCONT]);
        }
        let refused =
            |error: std::io::Error| Failure::new(format!("no handler of signals: {error}"));
        let mut signals = Signals::new(&numbers).map_err(refused)?;
        let ended_by = Arc::new(AtomicUsize::new(0));
        let ending = Arc::clone(&ended_by);
        let work = move || {
            let mut seen = Vec::new();
            for number in signals.forever() {
                if number == SIGWINCH || number == SIGCONT {
                    if let Some(raw) = &raw {
                        raw.again();
                    }
                    let size = terminal::size();
                    for handle in handles() {
                        // It fails only in a child of this process.
                        let _ = handle.resize(size);
                    }
                } else if ending.load(Ordering::Acquire) != 0 {
                    // Something waits that no connection ends, such as a name server.
                    if let Some(raw) = &raw {
                        raw.end();
                    }
                    std::process::exit(128 + number);
                } else if seen.contains(&number) {
                    ending.store(usize::try_from(number).unwrap_or(0), Ordering::Release);
                    handles().iter().for_each(Handle::abort);
                } else {
                    seen.push(number);
                    // A command that has ended needs none.
                    for handle in handles() {
                        let _ = handle.signal(number);
                    }
                }
            }
        };
        thread::Builder::new().spawn(work).map_err(refused)?;
        Ok(Relay { ended_by })
    }

    /// The signal that has ended the connections.
    pub fn ended_by(&self) -> Option<i32> {
        let number = i32::try_from(self.ended_by.load(Ordering::Acquire)).unwrap_or(0);
        (number != 0).then_some(number)
    }
}

/// A signal that ends the work in good order; a second one ends the program at once. So does the
/// first one before [`watch`](Stop::watch).
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Looks for signals from the beginning.
    pub fn start() -> Result<Stop> {
        let stop = Stop::default();
        stop.watch()?;
        Ok(stop)
    }

    /// Starts to look for signals.
    pub fn watch(&self) -> Result<()> {
        let is_second = Arc::new(AtomicBool::new(false));
        for signal in ours(&[SIGINT, SIGTERM, SIGHUP]) {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_second))
                .and_then(|_| flag::register(signal, Arc::clone(&is_second)))
                .and_then(|_| {
                    let value = usize::try_from(signal).unwrap_or(0);
                    flag::register_usize(signal, Arc::clone(&self.0), value)
                })
                .map_err(|error| Failure::new(format!("no handler of signals: {error}")))?;
        }
        Ok(())
    }

    /// The signal.
    pub fn number(&self) -> Option<i32> {
        let number = i32::try_from(self.0.load(Ordering::Acquire)).unwrap_or(0);
        (number != 0).then_some(number)
    }

    /// Ends the waits of a connection.
    pub fn hook(&self) -> Hook {
        let stop = self.clone();
        Box::new(move || match stop.number() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        })
    }
}
