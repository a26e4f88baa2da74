//! Files and trees.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::host::{done, done_with, pattern, read_until, refused_with, told, usual};

#[test]
fn a_file_goes_there_and_comes_back() {
    let host = usual();
    let content = pattern(2_500_000);
    fs::write(host.home().join("a file"), &content).unwrap();
    let (status, stdout, stderr) = done(&mut host.framefd(&["put", "a file", "web:"]));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("put a file: 2500000 bytes, sha256 "), "{stdout}");
    assert!(fs::read(host.root("a file")).unwrap() == content);
    let got = done(&mut host.framefd(&["get", "-q", "web:/a file", "b"]));
    assert_eq!(got, (0, String::new(), String::new()));
    assert!(fs::read(host.home().join("b")).unwrap() == content);
    // By address, into a directory, to standard output, without a checksum.
    let place = format!("{}:a file", host.address);
    fs::create_dir(host.home().join("into")).unwrap();
    assert_eq!(done(&mut host.framefd(&["get", "--no-checksum", &place, "into"])).0, 0);
    assert!(fs::read(host.home().join("into/a file")).unwrap() == content);
    let output = host.framefd(&["get", "web:a file", "-"]).output().unwrap();
    assert!(output.stdout == content && output.stderr.is_empty());
    let input = done_with(&mut host.framefd(&["put", "-", "web:from stdin"]), b"piped");
    assert_eq!((input.0, fs::read(host.root("from stdin")).unwrap()), (0, b"piped".to_vec()));
}

#[test]
fn a_file_of_any_name_is_no_option() {
    let host = usual();
    for name in [&b"-r"[..], b"a\nb", b"\xff\xfe", b"-", b"web:x", b" ", b"*", b"\x1b[2J"] {
        let (name, path) = (OsStr::from_bytes(name), host.home().join(OsStr::from_bytes(name)));
        fs::write(&path, "content").unwrap();
        // Alone it is an option, or standard input.
        let local = Path::new(".").join(name);
        let mut place = OsStr::new("web:").to_owned();
        place.push(name);
        for words in [[local.as_os_str(), &place], [&place, local.as_os_str()]] {
            let verb = if words[0] == place { "get" } else { "put" };
            let (status, stdout, stderr) = done(host.framefd(&[verb, "--"]).args(words));
            assert_eq!((status, stdout.matches('\n').count()), (0, 1), "{stdout}{stderr}");
            assert!(!stdout.contains('\x1b'), "{stdout}");
            assert_eq!(fs::read(host.root("").join(name)).unwrap(), b"content");
            fs::write(&path, "other").unwrap();
        }
    }
    refused_with(&mut host.framefd(&["put", "-r", "web:x"]), 255, "see framefd put --help");
}

#[test]
fn several_files_and_one_that_fails() {
    let host = usual();
    for name in ["a", "b"] {
        fs::write(host.home().join(name), name).unwrap();
    }
    let words = ["put", "--parents", "a", "none", "b", "web:x/y/"];
    let (status, stdout, stderr) = done(&mut host.framefd(&words));
    assert_eq!((status, stdout.lines().count()), (1, 2), "{stderr}");
    assert!(stderr.contains("none: No such file"), "{stderr}");
    assert_eq!(fs::read(host.root("x/y/b")).unwrap(), b"b");
}

#[test]
fn a_tree_keeps_modes_times_and_names_of_any_bytes() {
    let host = usual();
    let odd = OsStr::from_bytes(b"-r\n\xff");
    fs::create_dir_all(host.home().join("tree/sub")).unwrap();
    fs::write(host.home().join("tree/sub").join(odd), "odd").unwrap();
    std::os::unix::fs::symlink("sub", host.home().join("tree/link")).unwrap();
    let (status, stdout, _) =
        done(&mut host.framefd(&["put", "-r", "--links", "copy", "tree", "web:"]));
    assert_eq!(
        (status, stdout.as_str()),
        (0, "put tree: 3 bytes, files: 1, directories: 2, links: 1, left out: 0\n")
    );
    let (here, there) = (host.home().join("tree/sub").join(odd), host.root("tree/sub").join(odd));
    let time = |path: &std::path::Path| path.metadata().unwrap().mtime();
    assert_eq!(time(&here), time(&there));
    let listed = done(&mut host.framefd(&["ls", "web:tree/sub"])).1;
    assert!(listed.starts_with("file 0") && listed.ends_with("Z -r\\x0a\\xff\n"), "{listed}");
    let stat = done(&mut host.framefd(&["stat", "web:tree"])).1;
    assert!(stat.starts_with("dir 0") && stat.ends_with(" tree\n"), "{stat}");
    assert_eq!(done(&mut host.framefd(&["ls", "web:"])).1.lines().count(), 1);
    assert_eq!(done(&mut host.framefd(&["get", "-r", "web:tree", "back"])).0, 0);
    assert_eq!(fs::read(host.home().join("back/sub").join(odd)).unwrap(), b"odd");
    // With --resume nothing is sent again.
    let (_, stdout, _) = done(&mut host.framefd(&["put", "-r", "--resume", "tree", "web:"]));
    assert!(stdout.contains("put tree: 0 bytes, files: 1"), "{stdout}");
    assert_eq!(done(&mut host.framefd(&["mkdir", "-p", "web:m/n"])).0, 0);
    assert!(host.root("m/n").is_dir());
}

#[test]
fn what_is_not_all_of_a_tree_says_so() {
    let host = usual();
    fs::create_dir(host.home().join("tree")).unwrap();
    fs::write(host.home().join("tree/a"), "a").unwrap();
    fs::create_dir_all(host.root("tree/a")).unwrap();
    let (status, stdout, stderr) = done(&mut host.framefd(&["put", "-r", "tree", "web:"]));
    assert_eq!((status, stderr.matches('\n').count()), (1, 1), "{stderr}");
    assert!(stdout.contains("left out: 1"), "{stdout}");
}

#[test]
fn a_cut_put_goes_on() {
    let host = usual();
    let content = pattern(4_000_000);
    fs::write(host.home().join("big"), &content).unwrap();
    // What an attempt has left that was cut.
    let begun = || host.framefd(&["put", "--resume", "big", "web:big"]).spawn().unwrap();
    for _ in 0..5 {
        let mut child = begun();
        std::thread::sleep(std::time::Duration::from_millis(15));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (status, _, stderr) = done(&mut host.framefd(&["put", "--resume", "big", "web:big"]));
    assert_eq!(status, 0, "{stderr}");
    assert!(fs::read(host.root("big")).unwrap() == content);
}

#[test]
fn in_place_it_stays_the_same_file() {
    let host = usual();
    fs::write(host.root("f"), "old").unwrap();
    let number = host.root("f").metadata().unwrap().ino();
    assert_eq!(done(&mut host.framefd(&["put", "--in-place", "key", "web:f"])).0, 0);
    assert_eq!(host.root("f").metadata().unwrap().ino(), number);
    assert_eq!(fs::read(host.root("f")).unwrap().len(), 32);
}

#[test]
fn an_interrupted_put_leaves_no_file() {
    let host = usual();
    let fifo = host.home().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let child = host.framefd(&["put", "fifo", "web:x"]).spawn().unwrap();
    let mut writer = fs::File::options().write(true).open(&fifo).unwrap();
    std::io::Write::write_all(&mut writer, b"a part").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    crate::host::kill(&child, "-INT");
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert!(status == 130 && stderr.contains("interrupted"), "{status} {stderr}");
    drop(writer);
    assert!(!host.root("x").exists());
}

#[test]
fn output_that_nobody_takes() {
    let host = usual();
    fs::write(host.root("big"), vec![0; 3_000_000]).unwrap();
    let mut child = host.framefd(&["get", "web:big", "-"]).spawn().unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    drop(child.stdout.take());
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert!(status == 141 && stderr.contains("nobody reads it any more"), "{status} {stderr}");
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    refused_with(
        host.framefd(&["get", "web:big", "-"]).stdout(full()),
        1,
        "No space left on device",
    );
    let mut child = host.framefd(&["ls", "web:"]);
    crate::host::refused(child.stdout(full()), "No space left on device");
}

#[test]
fn a_bar_is_for_a_terminal_only() {
    let host = usual();
    fs::write(host.root("f"), vec![0; 1_000_000]).unwrap();
    let program = env!("CARGO_BIN_EXE_framefd");
    for (options, is_there) in [("", true), ("-q", false)] {
        let code = format!("'{program}' get {options} web:f g");
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &code, "/dev/null"]).env("HOME", host.home()).env("TERM", "xterm");
        script.current_dir(host.home()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = script.spawn().unwrap();
        if is_there {
            read_until(child.stdout.as_mut().unwrap(), "MB/s");
        }
        let (status, stdout, _) = told(&child.wait_with_output().unwrap());
        assert_eq!((status, is_there || !stdout.contains('#')), (0, true), "{stdout}");
    }
}
