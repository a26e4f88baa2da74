//! The first process of a container. Every process that loses its parent becomes a child of the
//! first one, which must wait for it, or it stays a zombie. A server knows only its own children,
//! so the first process is one that does nothing else: it starts the server, passes signals on,
//! waits for all that end, and ends with the server. Then the kernel ends what is left.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::failure::{FAILED, Failure, Result};

/// In the environment of a server that was started so.
pub const STARTED: &str = "FRAMEFD_INIT";

/// If this is the first process: starts the same program again, and returns its exit status.
pub fn serve_as_first() -> Result<Option<u8>> {
    if std::process::id() != 1 {
        return Ok(None);
    }
    let refused = |error: io::Error| {
        Failure::new(format!("as the first process: {error}; is /proc mounted?"))
    };
    let mut passed_on = vec![SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
    passed_on.push(SIGCHLD);
    let mut signals = Signals::new(&passed_on).map_err(refused)?;
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| OsString::from("framefd"));
    // A terminal sends its signals to a group: they come once, through this process.
    let child = Command::new("/proc/self/exe")
        .arg0(name)
        .args(words)
        .env(STARTED, "1")
        .process_group(0)
        .spawn()
        .map_err(refused)?;
    let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for number in signals.forever() {
        if number != SIGCHLD {
            if let (Some(child), Some(signal)) = (child, Signal::from_named_raw(number)) {
                // It may have ended just now.
                let _ = kill_process(child, signal);
            }
            continue;
        }
        // One signal may stand for several.
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            if Some(ended) == child {
                let by_signal = status.terminating_signal().map(|number| 128 + number);
                let code =
                    status.exit_status().or(by_signal).and_then(|code| u8::try_from(code).ok());
                return Ok(Some(code.unwrap_or(FAILED)));
            }
        }
    }
    Ok(Some(FAILED))
}
