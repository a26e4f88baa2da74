//! The server as the first process of a container.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::host::{Host, Kind, done, eventually, read_until};

/// The program as process 1 of new namespaces; nothing if they cannot be made.
fn first(host: &Host, code: &str) -> Option<Child> {
    let namespaces = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let try_it = Command::new("unshare").args(namespaces).arg("true").output();
    if !try_it.is_ok_and(|output| output.status.success()) {
        println!("skipped: no namespaces can be made here");
        return None;
    }
    let code = format!("exec {code}");
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-c", &code]).current_dir(host.home());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Some(command.spawn().unwrap())
}

/// Process 1 as seen from here: the child of unshare.
fn signal_first(unshare: &Child, signal: &str) {
    let pid = unshare.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let child = children.trim();
    assert!(Command::new("kill").args([signal, child]).status().unwrap().success());
}

#[test]
fn the_first_process_waits_for_orphans_and_stops_in_good_order() {
    let host = Host::new(Kind::Plain);
    let program = env!("CARGO_BIN_EXE_framefd");
    let serve = format!("{program} serve --listen unix:socket --exec --plain --log log");
    let Some(mut child) = first(&host, &serve) else { return };
    read_until(child.stdout.as_mut().unwrap(), "listening on unix:socket\n");
    let address = format!("unix:{}", host.home().join("socket").display());
    let run = |command: &str| done(&mut host.framefd(&["run", "--plain", &address, command]));
    assert_eq!(run("cat /proc/1/comm").1, "framefd\n");
    for _ in 0..20 {
        assert_eq!(run("(setsid true &); (setsid sh -c 'exit 3' &); exit 7").0, 7);
    }
    let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    eventually("there are no zombies", || run(zombies).1 == "0\n");
    signal_first(&child, "-HUP");
    assert_eq!(run("echo a").1, "a\n");
    // As `docker stop`: what runs is finished, and then everything ends.
    let command = "echo on; setsid sleep 1000 & sleep 0.5; echo off";
    let mut client = host.framefd(&["run", "--plain", &address, command]).spawn().unwrap();
    read_until(client.stdout.as_mut().unwrap(), "on\n");
    signal_first(&child, "-TERM");
    let output = client.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"off\n"[..]));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn its_exit_status_is_the_servers() {
    let host = Host::new(Kind::Plain);
    let program = env!("CARGO_BIN_EXE_framefd");
    let Some(mut child) = first(&host, &format!("{program} serve --exec 2>mistakes")) else {
        return;
    };
    assert_eq!(child.wait().unwrap().code(), Some(255));
    let said = fs::read_to_string(host.home().join("mistakes")).unwrap();
    assert!(said.starts_with("framefd: serve: nowhere to serve") && said.lines().count() == 1);
    // Sockets that were opened for the first process are the server's.
    let socket = host.home().join("given");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let code = format!("LISTEN_FDS=1 LISTEN_PID=1 exec {program} serve --exec --plain 3<&0");
    let namespaces = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-c", &code]).current_dir(host.home());
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener))).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), "listening on unix:");
    let address = format!("unix:{}", socket.display());
    assert_eq!(done(&mut host.framefd(&["run", "--plain", &address, "echo a"])).1, "a\n");
    signal_first(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
