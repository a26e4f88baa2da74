//! The processes of a soak: this program again, each with its role.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::world::World;

/// The environment variable that has a [`World`].
pub const ROLE: &str = "FRAMEFD_SOAK_ROLE";

/// Another process. It ends with this one.
pub struct Role {
    name: String,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Role {
    pub fn start(world: &World) -> Role {
        let this = std::env::current_exe().unwrap();
        let mut command = Command::new(this);
        command.args(["--exact", crate::TEST, "--nocapture", "--test-threads=1"]);
        if world.role == "host" {
            // Large memory is given back at once, so that what grows is lost.
            command.envs([("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "65536")]);
        }
        command.env(ROLE, world.written()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The harness writes lines of its own.
                if let Some((_, said)) = line.split_once(MARK) {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Role { name: world.role.clone(), child, input, lines, reader: Some(reader) }
    }

    /// Waits for a line that begins with this word, and returns the rest of it.
    #[track_caller]
    pub fn hear(&self, word: &str, time: Duration) -> String {
        match self.lines.recv_timeout(time) {
            Ok(line) if line.starts_with(word) => line[word.len()..].trim().to_owned(),
            other => panic!("{}: {other:?} instead of {word}", self.name),
        }
    }

    /// Every line until its end.
    pub fn hear_all(&self) -> impl Iterator<Item = String> {
        self.lines.iter()
    }

    pub fn tell(&mut self, word: &str) {
        // If it has ended, that is seen later.
        let _ = writeln!(self.input, "{word}");
    }

    /// Ends it at once. If it has ended before, it must have been well.
    #[track_caller]
    pub fn kill(mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            assert!(status.success(), "{}: {status}", self.name);
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended well.
    #[track_caller]
    pub fn finish(mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return assert!(status.success(), "{}: {status}", self.name),
                None => assert!(Instant::now() < end, "{} does not end", self.name),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Nothing of it is left when others are measured.
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// What a line to the parent begins with.
const MARK: &str = "soak: ";

/// Says something to the parent.
pub fn say(text: &str) {
    println!("\n{MARK}{text}");
}

/// The parent's lines. This process ends when they do.
pub fn told() -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        std::process::exit(2);
    });
    lines
}
