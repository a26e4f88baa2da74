//! The terminal that the program runs on.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use framefd::exec::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Its size, or the usual one.
pub fn size() -> WindowSize {
    let sizes = [tcgetwinsize(io::stdin()), tcgetwinsize(io::stdout()), tcgetwinsize(io::stderr())];
    let known = sizes.into_iter().flatten().find(|size| size.ws_row > 0 && size.ws_col > 0);
    known.map_or(WindowSize { rows: 24, columns: 80 }, |size| WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Standard input as a terminal that passes on each key.
pub struct Raw {
    before: Mutex<Termios>,
    is_over: AtomicBool,
}

impl Raw {
    /// Starts, if standard input is a terminal.
    pub fn start() -> Option<Raw> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let before = Mutex::new(tcgetattr(io::stdin()).ok()?);
        let raw = Raw { before, is_over: AtomicBool::new(false) };
        raw.again();
        Some(raw)
    }

    /// Once more: a shell has its own modes while the program is stopped.
    pub fn again(&self) {
        let Ok(before) = self.before.lock() else { return };
        if !self.is_over.load(Ordering::Acquire) {
            let mut modes = before.clone();
            modes.make_raw();
            // The terminal may have gone; reading from it reports that.
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &modes);
        }
    }

    /// Restores the modes.
    pub fn end(&self) {
        let Ok(before) = self.before.lock() else { return };
        if !self.is_over.swap(true, Ordering::AcqRel) {
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &before);
        }
    }
}
