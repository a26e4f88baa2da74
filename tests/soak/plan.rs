//! How much of everything: the quick form for each change, a longer one, and the soak.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections that are idle, that ask for something beside them, that dawdle, that come one
    /// after the other.
    pub crowd: usize,
    pub active: usize,
    pub dawdlers: usize,
    pub sequence: usize,
    /// Threads with requests of every kind, and those of a process that breaks rules.
    pub talkers: usize,
    pub faults: usize,
    /// How long the server has to give back the memory of idle ones, how long these are watched,
    /// and clients measured.
    pub rest: Duration,
    pub idle: Duration,
    pub steady: Duration,
    /// Between two bytes of those that dawdle.
    pub pause: Duration,
    pub warm: Duration,
    pub storm: Duration,
    /// The longest time until the next process is killed, in milliseconds.
    pub life: u64,
    /// Whether there is time to see that all threads end.
    pub waits_for_threads: bool,
}

impl Plan {
    /// For so much time, for each of the servers.
    pub fn of(time: Duration) -> Plan {
        if time < Duration::from_secs(20) {
            return Plan {
                crowd: 500,
                active: 20,
                dawdlers: 200,
                sequence: 300,
                talkers: 10,
                faults: 4,
                rest: Duration::ZERO,
                idle: time / 10,
                steady: time / 20,
                pause: time / 50,
                warm: time / 10,
                storm: time / 4,
                life: 400,
                waits_for_threads: false,
            };
        }
        Plan {
            crowd: 10_000,
            active: 100,
            dawdlers: 1000,
            sequence: usize::try_from(time.as_secs()).unwrap() * 170,
            talkers: 50,
            faults: 12,
            rest: Duration::from_millis(2500),
            idle: time / 15,
            steady: time / 30,
            pause: (time / 30).min(Duration::from_secs(5)),
            warm: time / 15,
            storm: time / 3,
            life: 1500,
            waits_for_threads: true,
        }
    }
}
