//! In the place of ssh.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::host::{Host, Kind, done, done_with, pattern, refused, usual};
use crate::sync::snapshot;

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

/// Whether there is such a program; its test is left out otherwise.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    let is_there = found.is_ok_and(|output| output.status.success());
    if !is_there {
        println!("skipped: no {program}");
    }
    is_there
}

#[test]
fn git_calls_it() {
    let host = usual();
    let home = host.home();
    if !has("git") {
        return;
    }
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.args(words).current_dir(&home).env("HOME", &home);
        git.env("GIT_SSH_COMMAND", format!("'{PROGRAM}' ssh"));
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "n").env(format!("GIT_{who}_EMAIL"), "e");
        }
        let (status, stdout, stderr) = done(&mut git);
        assert_eq!(status, 0, "{words:?}: {stderr}");
        stdout
    };
    git(&["init", "-q", "--bare", "there"]);
    git(&["init", "-q", "one"]);
    std::fs::write(home.join("one/f"), pattern(2_000_000)).unwrap();
    git(&["-C", "one", "add", "."]);
    git(&["-C", "one", "commit", "-q", "-m", "first"]);
    // Both ways to write a place.
    let (url, short) =
        (format!("ssh://me@web{}/there", home.display()), format!("web:{}/there", home.display()));
    git(&["-C", "one", "push", "-q", &url, "HEAD:refs/heads/main"]);
    git(&["clone", "-q", "-b", "main", &short, "two"]);
    assert!(std::fs::read(home.join("two/f")).unwrap() == pattern(2_000_000));
    git(&["-C", "two", "commit", "-q", "--allow-empty", "-m", "second"]);
    git(&["-C", "two", "push", "-q"]);
    git(&["-C", "one", "fetch", "-q", &url, "main"]);
    assert!(git(&["-C", "one", "log", "--oneline", "FETCH_HEAD"]).contains(" second\n"));
}

#[test]
fn rsync_calls_it() {
    let host = usual();
    let home = host.home();
    if !has("rsync") {
        return;
    }
    let rsync = |words: &[&str]| {
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "-e", &format!("{PROGRAM} ssh")]).args(words);
        let (status, _, stderr) = done(rsync.env("HOME", &home).current_dir(&home));
        assert_eq!(status, 0, "{stderr}");
    };
    std::fs::create_dir_all(home.join("from/sub dir")).unwrap();
    std::fs::write(home.join("from/a b"), pattern(3_000_000)).unwrap();
    std::fs::write(home.join("from/sub dir/'quoted' \n"), "q").unwrap();
    symlink("a b", home.join("from/link")).unwrap();
    let to = format!("web:{}/to", home.display());
    rsync(&["from/", &to]);
    assert_eq!(snapshot(&home.join("to")), snapshot(&home.join("from")));
    std::fs::write(home.join("to/extra"), "e").unwrap();
    std::fs::write(home.join("from/a b"), pattern(2_999_999)).unwrap();
    rsync(&["--delete", "-z", "from/", &to]);
    assert_eq!(snapshot(&home.join("to")), snapshot(&home.join("from")));
    rsync(&[&format!("{to}/"), "back"]);
    assert_eq!(snapshot(&home.join("back")), snapshot(&home.join("from")));
}

/// Ansible's own plugin for ssh, which calls it.
#[test]
fn ansible_calls_it() {
    let host = usual();
    let home = host.home();
    if !has("ansible-playbook") {
        return;
    }
    symlink(PROGRAM, home.join("framefd-ssh")).unwrap();
    std::fs::write(home.join("source"), pattern(300_000)).unwrap();
    let at = home.display();
    let play = format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n\
         \x20 - raw: \"printf 'a  b'\"\n    register: raw\n\
         \x20 - assert: {{that: [\"raw.stdout == 'a  b'\"]}}\n\
         \x20 - command: {{argv: [printf, '%s|', 'x  y', '*']}}\n    register: command\n\
         \x20 - assert: {{that: [\"command.stdout == 'x  y|*|'\"]}}\n\
         \x20 - shell: echo err >&2; exit 3\n    register: failed\n    failed_when: failed.rc != 3\n\
         \x20 - assert: {{that: [\"failed.stderr == 'err'\"]}}\n\
         \x20 - copy: {{src: '{at}/source', dest: '{at}/copied', mode: '0640'}}\n\
         \x20 - fetch: {{src: '{at}/copied', dest: '{at}/fetched', flat: true}}\n"
    );
    std::fs::write(home.join("play.yml"), play).unwrap();
    let run = |hosts: &str, pipelining: &str| {
        let mut ansible = Command::new("ansible-playbook");
        ansible.args([
            "-i",
            hosts,
            "play.yml",
            "-e",
            "ansible_python_interpreter=/usr/bin/python3",
        ]);
        ansible.args(["-e", &format!("ansible_ssh_executable={at}/framefd-ssh")]);
        ansible.args(["-e", "ansible_ssh_transfer_method=piped"]).current_dir(&home);
        ansible.env("HOME", &home).env("ANSIBLE_PIPELINING", pipelining);
        ansible.env("ANSIBLE_LOCALHOST_WARNING", "0").env("LC_ALL", "C.UTF-8");
        done(&mut ansible)
    };
    for pipelining in ["1", "0"] {
        for name in ["copied", "fetched"] {
            let _ = std::fs::remove_file(home.join(name));
        }
        let (status, stdout, stderr) = run("web,", pipelining);
        assert_eq!(status, 0, "{stdout}{stderr}");
        for name in ["copied", "fetched"] {
            assert!(std::fs::read(home.join(name)).unwrap() == pattern(300_000), "{name}");
        }
    }
    // It can tell a host that is not there from a command that fails, and shows why.
    let (status, stdout, stderr) = run("gone,", "1");
    assert_eq!(status, 4, "{stdout}{stderr}");
    assert!(stdout.contains("UNREACHABLE") && stdout.contains("nothing listens there"), "{stdout}");
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_framefd");
