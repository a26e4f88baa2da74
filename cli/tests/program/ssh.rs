//! In the place of ssh.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::host::{Host, Kind, done, done_with, refused};

#[test]
fn a_command_is_joined_as_ssh_does() {
    let host = Host::new(Kind::Sealed);
    host.usual();
    let words =
        ["ssh", "-o", "BatchMode=yes", "-T", "me@web", "echo", "'a  b'", "$0;", "exit", "6"];
    let (status, stdout, _) = done(&mut host.framefd(&words));
    assert_eq!(status, 6);
    assert!(stdout.starts_with("a  b "), "{stdout}");
    assert_eq!(done_with(&mut host.framefd(&["ssh", "web", "cat"]), b"in").1, "in");
    assert_eq!(done_with(&mut host.framefd(&["ssh", "-n", "web", "cat"]), b"in").1, "");
    assert_eq!(
        done_with(&mut host.framefd(&["ssh", "web"]), b"echo shell; exit 2\n"),
        (2, "shell\n".into(), String::new())
    );
    refused(&mut host.framefd(&["ssh", "gone", "true"]), "Connection refused");
    // An address by its port, and the name that some callers want.
    let (address, port) = host.address.split_once(':').unwrap();
    let other = host.home().join("framefd-ssh");
    symlink(env!("CARGO_BIN_EXE_framefd"), &other).unwrap();
    let mut command = Command::new(other);
    command.env_clear().env("HOME", host.home()).args(["-p", port, address, "echo it"]);
    assert_eq!(done(&mut command).1, "it\n");
    let terminal = done(&mut host.framefd(&["ssh", "-tt", "web", "tty >/dev/null && stty size"]));
    assert_eq!(terminal.1, "24 80\r\n");
}

#[test]
fn git_and_rsync_call_it() {
    let host = Host::new(Kind::Sealed);
    host.usual();
    let (home, program) = (host.home(), env!("CARGO_BIN_EXE_framefd"));
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.args(words).current_dir(&home).env("HOME", &home);
        git.env("GIT_SSH_COMMAND", format!("'{program}' ssh"));
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "n").env(format!("GIT_{who}_EMAIL"), "e");
        }
        done(&mut git)
    };
    if Command::new("git").arg("--version").output().is_ok() {
        assert_eq!(git(&["init", "-q", "one"]).0, 0);
        assert_eq!(git(&["-C", "one", "commit", "-q", "--allow-empty", "-m", "m"]).0, 0);
        let place = format!("ssh://web{}/one", home.display());
        let (status, _, stderr) = git(&["clone", "-q", &place, "two"]);
        assert_eq!(status, 0, "{stderr}");
        assert!(git(&["-C", "two", "log", "--oneline"]).1.ends_with(" m\n"));
    }
    if Command::new("rsync").arg("--version").output().is_ok() {
        std::fs::create_dir(home.join("from")).unwrap();
        std::fs::write(home.join("from/a b"), vec![7; 300_000]).unwrap();
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "-e", &format!("{program} ssh"), "from/"]).env("HOME", &home);
        rsync.arg(format!("web:{}/to", home.display())).current_dir(&home);
        let (status, _, stderr) = done(&mut rsync);
        assert_eq!(status, 0, "{stderr}");
        assert_eq!(std::fs::read(home.join("to/a b")).unwrap(), vec![7; 300_000]);
    }
}
