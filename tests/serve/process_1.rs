//! A server in process 1, which inherits what its commands leave behind.

use std::process::Command;
use std::time::{Duration, Instant};

use framefd::exec::{self, Request as ExecRequest};
use framefd::serve::{Commands, ServerOptions};

use crate::common::exec::LONG;
use crate::common::process::alone_in;
use crate::{Running, WORKERS};

const OWN_NUMBERS: [&str; 5] = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"];

/// Children of this process that have ended, and that nobody has reaped.
fn zombies() -> usize {
    let this = std::process::id().to_string();
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        (fields[0] == "Z" && fields[1] == this).then_some(())
    };
    std::fs::read_dir("/proc").unwrap().filter_map(of).count()
}

fn wait_until(what: &str, is_so: impl Fn(usize) -> bool) {
    let start = Instant::now();
    while !is_so(zombies()) {
        assert!(start.elapsed() < LONG, "{what}: {}", zombies());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_reaps_what_it_inherits_and_takes_no_other_status() {
    let may = Command::new(OWN_NUMBERS[0]).args(&OWN_NUMBERS[1..]).arg("true").status();
    if !may.is_ok_and(|status| status.success()) {
        return;
    }
    let name = "process_1::it_reaps_what_it_inherits_and_takes_no_other_status";
    alone_in(name, &OWN_NUMBERS, || {
        assert_eq!(std::process::id(), 1);
        for workers in WORKERS {
            for reap in [false, true] {
                let options = ServerOptions { workers, reap, ..ServerOptions::default() };
                let running = Running::start(options, |server| {
                    server.serve_commands(Commands::default()).unwrap();
                });
                let mut client = running.client();
                let mut run = |command: &str| {
                    let command = command.as_bytes();
                    let request = ExecRequest { command, ..ExecRequest::default() };
                    exec::call(&mut client, &request, LONG).unwrap().header.exit_code
                };
                // Two processes each, which outlive the shell that has started them.
                let leave = "for n in 1 2; do (sleep 0.1; exit 5) </dev/null >/dev/null 2>&1 & done; exit 7";
                for _ in 0..10 {
                    assert_eq!(run(leave), Some(7));
                }
                wait_until("they have ended", |count| count > 0);
                if !reap {
                    wait_until("nobody reaps them", |count| count == 20);
                    continue;
                }
                // Meanwhile every status is its own, the host's too.
                let start = Instant::now();
                let mut own = Command::new("sh").args(["-c", "exit 9"]).spawn().unwrap();
                while zombies() > 1 || start.elapsed() < Duration::from_millis(1500) {
                    assert!(start.elapsed() < LONG, "{}", zombies());
                    assert_eq!(run("exit 3"), Some(3));
                    let status = Command::new("sh").args(["-c", "exit 4"]).status().unwrap();
                    assert_eq!(status.code(), Some(4));
                }
                // The host has not waited for its own in time.
                wait_until("all are reaped", |count| count == 0);
                assert!(own.wait().is_err());
                drop(client);
                running.stop();
            }
        }
    });
}
