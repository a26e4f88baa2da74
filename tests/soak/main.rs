//! A server under load: it loses no reply, mixes none up, and uses no more than before.
//!
//! The server is in one process, clients in others, so that the kernel says what the server uses.
//! FRAMEFD_SOAK is how many seconds it takes, about; `make soak` has 600, `make test-long` 120 and
//! `make test` 20. Without it nothing is run.
//! FRAMEFD_SOAK_SEED repeats the random numbers of a run, which are not its times.

mod clients;
#[path = "../common/mod.rs"]
mod common;
mod content;
mod faults;
mod host;
mod pace;
mod plan;
mod role;
mod talk;
mod usage;
mod world;

use std::time::Duration;

use plan::Plan;
use role::{ROLE, Role, told};
use world::World;

/// The test's name.
const TEST: &str = "a_server_under_load";

#[test]
fn a_server_under_load() {
    world::all_descriptors();
    match std::env::var(ROLE) {
        Ok(role) => be(&World::read(&role)),
        Err(_) if std::env::var_os("FRAMEFD_SOAK").is_some() => soak(),
        Err(_) => println!("skipped: set FRAMEFD_SOAK to a number of seconds"),
    }
}

/// This process has a role.
fn be(world: &World) {
    // One thread that has lost something is enough.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(1);
    }));
    let told = told();
    match &*world.role {
        "host" => host::run(world, &Plan::of(world.time)),
        "crowd" => clients::crowd(world, &told),
        "steady" => clients::steady(world),
        "sequence" => clients::sequence(world),
        "talkers" => clients::talkers(world, told),
        "storm" => faults::storm(world),
        "flood" => pace::flood(world),
        "dawdlers" => pace::dawdlers(world, &told),
        other => panic!("no role {other}"),
    }
}

/// Servers of every kind, one after the other.
fn soak() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("FRAMEFD_SOAK_SEED").unwrap_or(clock.subsec_nanos().into());
    let time = Duration::from_secs(number("FRAMEFD_SOAK").unwrap());
    println!("FRAMEFD_SOAK_SEED={seed}");
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let kinds = [(false, 0), (false, 3), (true, 0), (true, 3)];
    for (sealed, workers) in kinds {
        let host = Role::start(&World {
            role: "host".into(),
            addresses: Vec::new(),
            sealed,
            workers,
            seed,
            process: 0,
            count: 0,
            time: time / 4,
        });
        for line in host.hear_all() {
            let (what, value) = line.split_once(" = ").unwrap();
            match rows.iter_mut().find(|(row, _)| row == what) {
                Some((_, values)) => values.push(value.into()),
                None => rows.push((what.into(), vec![value.into()])),
            }
        }
        print(&rows);
        host.finish(world::LONG);
    }
}

fn print(rows: &[(String, Vec<String>)]) {
    let widest = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    println!(
        "{:widest$} {:>14} {:>14} {:>14} {:>14}",
        "", "plain", "3 workers", "sealed", "3 workers"
    );
    for (what, values) in rows {
        print!("{what:widest$}");
        for value in values {
            print!(" {value:>14}");
        }
        println!();
    }
}
