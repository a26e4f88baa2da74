//! The processes that are clients which follow the rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use framefd::{ErrorKind, Result};

use crate::content::Random;
use crate::role::say;
use crate::talk::Talker;
use crate::world::World;

/// Many that have proved their key and are idle. They still work afterwards.
pub fn crowd(world: &World, told: &Receiver<String>) {
    let mut talkers = Vec::new();
    for thread in in_threads(THREADS, |thread| {
        let mut random = world.random(thread);
        let each = share(world.count, THREADS, thread);
        let talkers = (0..each).map(|_| {
            let mut talker = Talker::new(world, Random::new([random.next(), 0, 0]), String::new());
            talker.as_mut().unwrap().ask_shortly().unwrap();
            talker.unwrap()
        });
        talkers.collect::<Vec<_>>()
    }) {
        talkers.extend(thread);
    }
    say("ready");
    told.recv().unwrap();
    for talker in &mut talkers {
        talker.ask_shortly().unwrap();
    }
    say("alive");
    told.recv().unwrap();
}

/// Each asks for one small thing after the other: how many there were, and how long they took.
pub fn steady(world: &World) {
    let begun = Instant::now();
    let times = in_threads(world.count, |thread| {
        let mut talker = Talker::new(world, world.random(thread), String::new()).unwrap();
        let (mut times, end) = (Vec::new(), begun + world.time);
        while times.is_empty() || Instant::now() < end {
            let start = Instant::now();
            talker.ask_shortly().unwrap();
            times.push(start.elapsed());
        }
        times
    });
    let mut times = times.concat();
    times.sort_unstable();
    let of = |percent: usize| times[times.len() * percent / 100].as_micros();
    say(&format!("asked {} {} {}", times.len(), of(50), of(99)));
}

/// One connection after the other.
pub fn sequence(world: &World) {
    in_threads(THREADS, |thread| {
        let mut random = world.random(thread);
        for _ in 0..share(world.count, THREADS, thread) {
            let talker = Talker::new(world, Random::new([random.next(), 0, 0]), String::new());
            let mut talker = talker.unwrap();
            for _ in 0..random.below(3) {
                talker.ask_shortly().unwrap();
            }
            if random.one_in(2) {
                talker.connection.end(false, crate::world::LONG).unwrap();
            }
        }
    });
    say("done");
}

/// Requests of every kind, until the time is up or the server is stopped. What was sent before the
/// parent says so has its reply.
pub fn talkers(world: &World, told: Receiver<String>) {
    let is_stopping = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_stopping);
    std::thread::spawn(move || {
        let Ok(_) = told.recv() else { return };
        flag.store(true, Ordering::SeqCst);
        say("stopping");
        let _ = told.recv();
    });
    let counts = in_threads(world.count, |thread| talk(world, thread, &is_stopping));
    let (answered, busy) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    say(&format!("answered {answered} {busy}"));
}

/// How many replies there were, and how many of them were `busy`.
fn talk(world: &World, thread: usize, is_stopping: &AtomicBool) -> (u64, u64) {
    let (mut random, end) = (world.random(thread), world.end());
    let (mut answered, mut busy) = (0, 0);
    let is_over = |result: &Result<()>, must_be_there: bool| match result {
        Ok(()) => false,
        Err(error) => {
            let is_stop = is_stopping.load(Ordering::SeqCst) && !must_be_there;
            let kinds = [ErrorKind::Closed, ErrorKind::Io, ErrorKind::Truncated, ErrorKind::Auth];
            assert!(is_stop && kinds.contains(&error.kind()), "lost: {error}");
            true
        }
    };
    while Instant::now() < end {
        let name = format!("f{}-{thread}", world.process);
        let connected = world.socket(&mut random).and_then(|socket| {
            let other = socket.try_clone().unwrap();
            Ok((world.prove(socket)?, other))
        });
        let Ok((connection, socket)) = connected else {
            is_over(&connected.map(drop), false);
            break;
        };
        let own = Random::new([random.next(), 0, 0]);
        let mut talker = Talker::on(connection, world, own, name);
        talker.socket = Some(socket);
        let mut ends = false;
        for _ in 0..random.below(60) {
            let done = talker.round(is_stopping);
            ends = is_over(&done, talker.is_with_the_server);
            if ends || Instant::now() > end {
                break;
            }
        }
        assert!(talker.busy == 0 || is_stopping.load(Ordering::SeqCst), "busy");
        answered += talker.answered;
        busy += talker.busy;
        if ends {
            break;
        }
    }
    (answered, busy)
}

/// Runs `work` in so many threads, and returns what they return.
pub fn in_threads<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let start = |thread| {
            let builder = std::thread::Builder::new().stack_size(256 << 10);
            builder.spawn_scoped(scope, move || work(thread)).unwrap()
        };
        let threads: Vec<_> = (0..count).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The part of `count` that one of so many threads has.
fn share(count: usize, threads: usize, thread: usize) -> usize {
    count / threads + usize::from(thread < count % threads)
}

const THREADS: usize = 4;
