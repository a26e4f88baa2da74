//! One command at many hosts.

use std::process::Stdio;

use crate::host::{Host, Kind, done, kill, read_until, refused, told};

/// Names for one host, and one that is gone.
fn many(host: &Host, count: usize) -> String {
    let entry = |n: usize| format!("[h{n}]\naddress = '{}'\n", host.address);
    let entries: String = (0..count).map(entry).collect();
    host.known(&format!(
        "{entries}[gone]\naddress = '127.0.0.1:1'\n['*']\nkey = '~/key'\nid = 'me'\nname = 'db'\n"
    ));
    (0..count).map(|n| format!("h{n}")).collect::<Vec<_>>().join(",")
}

#[test]
fn each_line_has_its_host_and_the_summary_counts() {
    let host = Host::new(Kind::Sealed);
    let list = many(&host, 40);
    let code = "printf 'a\\nb'; echo c >&2";
    let (status, stdout, stderr) = done(&mut host.framefd(&["run", "--hosts", &list, code]));
    assert_eq!(status, 0);
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> =
        (0..40).flat_map(|n| [format!("h{n}: a"), format!("h{n}: b")]).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(stderr.lines().filter(|line| line.ends_with(": c")).count(), 40);
    assert!(stderr.ends_with("framefd: hosts: 40, succeeded: 40\n"), "{stderr}");
}

#[test]
fn the_status_says_if_one_failed() {
    let host = Host::new(Kind::Sealed);
    many(&host, 2);
    std::fs::write(host.home().join("list"), "# ours\nh0\n\n  h1 \n").unwrap();
    let code = "mkdir lock 2>/dev/null || exit 3";
    let at = host.home();
    let words = ["run", "--cwd", at.to_str().unwrap(), "--hosts", "list", "--at-once", "1", code];
    let (status, _, stderr) = done(&mut host.framefd(&words));
    assert_eq!(
        (status, stderr.as_str()),
        (1, "framefd: hosts: 2, succeeded: 1, failed: 1 (h1: 3)\n")
    );
    let (status, _, stderr) = done(&mut host.framefd(&["run", "--hosts", "h0,gone", "true"]));
    assert_eq!(status, 255);
    assert!(stderr.contains("framefd: gone: connect to 127.0.0.1:1: "), "{stderr}");
    assert!(stderr.ends_with("hosts: 2, succeeded: 1, not run: 1 (gone)\n"), "{stderr}");
    refused(&mut host.framefd(&["run", "--hosts", ",", "true"]), "it names no host");
    refused(&mut host.framefd(&["run", "--hosts", "h0", "h1", "true"]), "there is no HOST");
}

#[test]
fn each_gets_the_whole_input() {
    let host = Host::new(Kind::Sealed);
    let list = many(&host, 5);
    std::fs::write(host.home().join("in"), vec![b'x'; 1_000_000]).unwrap();
    let words = ["run", "--hosts", &list, "--input", "in", "tr x y | wc -c; yes | head -c 200000"];
    let (status, stdout, _) = done(&mut host.framefd(&words));
    assert_eq!(status, 0);
    assert_eq!(stdout.lines().filter(|line| line.ends_with(": 1000000")).count(), 5);
    assert_eq!(stdout.lines().filter(|line| line.ends_with(": y")).count(), 500_000);
}

#[test]
fn a_signal_goes_to_all_and_no_other_begins() {
    let host = Host::new(Kind::Sealed);
    let list = many(&host, 3);
    let code = "trap 'echo got; exit 4' INT; echo on; while :; do sleep 0.05; done";
    let words = ["run", "--hosts", &list, "--at-once", "2", code];
    let mut child = host.framefd(&words).spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), ": on\n");
    read_until(child.stdout.as_mut().unwrap(), ": on\n");
    kill(&child, "-INT");
    let (status, stdout, stderr) = told(&child.wait_with_output().unwrap());
    assert_eq!((status, stdout.matches(": got\n").count()), (255, 2), "{stdout}{stderr}");
    assert!(stderr.contains("failed: 2 (") && stderr.contains("not begun: 1 (h2)"), "{stderr}");
}

#[test]
fn a_reader_that_goes_ends_it() {
    let host = Host::new(Kind::Sealed);
    let list = many(&host, 3);
    let mut child = host.framefd(&["run", "--hosts", &list, "yes"]).spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), ": y\n");
    drop(child.stdout.take());
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert_eq!((status, stderr.matches('\n').count()), (141, 1), "{stderr}");
    let full = Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let words = ["run", "--hosts", &list, "echo a"];
    refused(host.framefd(&words).stdout(full), "standard output: No space left on device");
}
