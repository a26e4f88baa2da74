//! Where the log goes.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::host::{Host, Kind, done, kill, read_until, refused};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framefd");

/// A process that a test which fails does not leave behind.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It has ended, if the test has come to its end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_journal_gets_lines_with_their_priority() {
    let host = Host::new(Kind::Plain);
    fs::create_dir(host.home().join("journal")).unwrap();
    let journal = UnixDatagram::bind(host.home().join("journal/socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // In place of the machine's own.
    let code = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
         mount --bind journal /run/systemd/journal && \
         exec {PROGRAM} serve --listen unix:socket --exec --plain --log journal"
    );
    let namespaces = ["--user", "--map-root-user", "--mount"];
    let mut shell = Command::new("unshare");
    shell.args(namespaces).args(["sh", "-c", &code]).current_dir(host.home());
    let try_it = Command::new("unshare").args(namespaces).arg("true").output();
    if !try_it.is_ok_and(|output| output.status.success()) {
        return println!("skipped: no namespaces can be made here");
    }
    let mut child = Ended(shell.stdout(Stdio::piped()).spawn().unwrap());
    read_until(child.0.stdout.as_mut().unwrap(), "\n");
    let next = |journal: &UnixDatagram| {
        let mut entry = [0; 8192];
        let len = journal.recv(&mut entry).unwrap();
        String::from_utf8(entry[..len].to_vec()).unwrap()
    };
    let serving = next(&journal);
    let end = format!(
        "\"serving\"}}\nPRIORITY=6\nSYSLOG_IDENTIFIER=framefd\nSYSLOG_PID={}\n",
        child.0.id()
    );
    assert!(serving.starts_with("MESSAGE={\"time_ms\":") && serving.ends_with(&end), "{serving}");
    // Its text cannot add a field.
    let address = format!("unix:{}", host.home().join("socket").display());
    let run = |command: &str| done(&mut host.framefd(&["run", "--plain", &address, command])).0;
    assert_eq!(run("true\nPRIORITY=0"), 0);
    let entry = next(&journal);
    assert!(entry.contains(r"true\\x0aPRIORITY=0") && entry.lines().count() == 4, "{entry}");
    // The journal is started again.
    drop(journal);
    fs::remove_file(host.home().join("journal/socket")).unwrap();
    let journal = UnixDatagram::bind(host.home().join("journal/socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(run("echo again"), 0);
    assert!(next(&journal).contains("echo again"));
    kill(&child.0, "-TERM");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_log_that_cannot_be_written_is_said() {
    let host = Host::new(Kind::Plain);
    let serve = |log: &str| {
        let words = ["serve", "--listen", "127.0.0.1:0", "--exec", "--plain", "--log", log];
        host.framefd(&words)
    };
    refused(&mut serve("none/log"), "--log none/log: No such file or directory");
    if !std::path::Path::new("/run/systemd/journal/socket").exists() {
        refused(&mut serve("journal"), "/run/systemd/journal/socket: No such file or directory; ");
    }
}
