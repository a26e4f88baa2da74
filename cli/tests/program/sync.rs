//! Directories that are brought into line.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use crate::host::{
    done, eventually, kill, pattern, read_until, refused, refused_with, told, usual,
};

/// A file: what it is, its mode, and its time in milliseconds. Of a directory there is no time,
/// and of a link neither.
pub type Found = (String, u32, i64);

/// Everything below a directory.
pub fn snapshot(top: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.mode() & 0o777;
            let what = if meta.is_dir() {
                waiting.push(path.clone());
                ("a directory".to_owned(), mode, 0)
            } else if meta.is_symlink() {
                (format!("-> {}", path.read_link().unwrap().display()), 0, 0)
            } else {
                let time = meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000;
                (format!("{:?}", fs::read(&path).unwrap()), mode, time)
            };
            found.insert(path.strip_prefix(top).unwrap().to_owned(), what);
        }
    }
    found
}

fn write(path: &Path, content: &[u8], mode: u32, milliseconds: u64) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// 2,000 files in 90 directories, and some links.
fn plant(top: &Path) {
    for number in 0..90 {
        let dir = top.join(format!("d{}/e {}/{number}", number % 3, number % 5));
        fs::create_dir_all(&dir).unwrap();
        if number % 30 == 0 {
            symlink("../0", dir.join("link")).unwrap();
            symlink("no\nwhere", dir.join("dangling")).unwrap();
        }
    }
    for number in 0..2000_usize {
        let dir = number % 80;
        let name = match number % 4 {
            0 => format!("-rf {number}").into_bytes(),
            1 => [b"caf\xe9\n".as_slice(), number.to_string().as_bytes()].concat(),
            _ => format!("{number}.txt").into_bytes(),
        };
        let path = top.join(format!("d{}/e {}/{dir}", dir % 3, dir % 5));
        let size = if number == 77 { 3_000_000 } else { number * number % 3001 };
        let mode = [0o644, 0o600, 0o755, 0o440][number % 4];
        let time = 1_500_000_000_000 + number as u64 * 60_001;
        write(&path.join(OsStr::from_bytes(&name)), &pattern(size), mode, time);
    }
}

/// Changes one of each kind.
fn change(top: &Path) {
    write(&top.join("d0/e 0/0/-rf 0"), b"another content", 0o644, 1_600_000_000_000);
    let same_size = vec![b'x'; fs::read(top.join("d2/e 2/2/2.txt")).unwrap().len()];
    write(&top.join("d2/e 2/2/2.txt"), &same_size, 0o755, 1_600_000_000_001);
    write(&top.join("d0/e 0/0/new"), b"new", 0o604, 1_600_000_000_002);
    let mode = fs::Permissions::from_mode(0o711);
    fs::set_permissions(top.join("d0/e 3/3/3.txt"), mode).unwrap();
    fs::create_dir(top.join("d1/fresh")).unwrap();
    fs::remove_file(top.join("d0/e 0/0/link")).unwrap();
    symlink("../../e 0", top.join("d0/e 0/0/link")).unwrap();
    fs::remove_file(top.join("d2/e 1/11/11.txt")).unwrap();
    fs::remove_dir_all(top.join("d2/e 4/14")).unwrap();
}

/// `rsync -a`, if there is one: it makes the same copy.
fn rsync(options: &[&str], from: &Path, to: &Path) -> bool {
    let mut command = Command::new("rsync");
    command.arg("-a").args(options).arg(from.join("")).arg(to);
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn two_thousand_files_are_as_rsync_copies_them() {
    let host = usual();
    let (here, there, back) = (host.home().join("here"), host.root("there"), host.home().join("b"));
    let by_rsync = host.directory.path().join("by rsync");
    fs::create_dir(&here).unwrap();
    plant(&here);
    let sync = |words: &[&str]| {
        let (status, stdout, stderr) = done(&mut host.framefd(&[&["sync"], words].concat()));
        assert_eq!((status, stderr.as_str()), (0, ""), "{words:?}");
        stdout
    };
    let compare = |options: &[&str], copy: &Path| {
        let expected = if rsync(options, &here, &by_rsync) { &by_rsync } else { &here };
        let (expected, found) = (snapshot(expected), snapshot(copy));
        for (path, what) in &expected {
            assert!(found.get(path) == Some(what), "{}", path.display());
        }
        assert_eq!(found.len(), expected.len());
    };
    assert!(sync(&["here", "web:there"]).contains(" copied: 2000, set: 0, made: 109, links: 6,"));
    compare(&[], &there);
    // The other way, and nothing is copied twice.
    assert!(sync(&["web:there/", "b"]).contains(" copied: 2000,"));
    compare(&[], &back);
    let nothing = "0 bytes, copied: 0, set: 0, made: 0, links: 0, deleted: 0, left out: 0\n";
    assert_eq!(sync(&["here", "web:there"]), format!("sync web:there: {nothing}"));
    assert_eq!(sync(&["-c", "web:there", "b"]), format!("sync b: {nothing}"));
    // What has changed, and what is gone.
    change(&here);
    let said = sync(&["here/", "web:/there"]);
    assert!(said.contains(" copied: 3, set: 1, made: 1, links: 1, deleted: 0,"), "{said}");
    compare(&[], &there);
    let second = there.join("d2/e 4");
    fs::remove_dir_all(second.join("14")).unwrap();
    fs::remove_file(there.join("d2/e 1/11/11.txt")).unwrap();
    let said = sync(&["--delete", "web:there", "b"]);
    assert_eq!(said.lines().filter(|line| line.starts_with("delete ")).count(), 27, "{said}");
    assert!(said.contains("\ndelete d2/e 4/14\n") && said.contains(", deleted: 27,"), "{said}");
    compare(&["--delete"], &back);
}

#[test]
fn a_dry_run_shows_what_would_be_done_and_does_nothing() {
    let host = usual();
    fs::create_dir_all(host.root("t/sub\x1b")).unwrap();
    write(&host.root("t/f"), b"content", 0o640, 1_600_000_000_000);
    write(&host.root("t/sub\x1b/g"), b"content", 0o600, 1_600_000_000_000);
    fs::create_dir_all(host.home().join("b/old")).unwrap();
    write(&host.home().join("b/f"), b"content", 0o640, 1_700_000_000_000);
    let run = |words: &[&str]| done(&mut host.framefd(&[&["sync"], words].concat()));
    let expected = "delete old\nset f\nmake sub\\x1b\ncopy sub\\x1b/g\n\
                    would sync b: 7 bytes, copied: 1, set: 1, made: 1, links: 0, deleted: 1, \
                    left out: 0\n";
    let words = ["--delete", "--checksum", "web:t", "b"];
    assert_eq!(run(&[&["-n"], &words[..]].concat()), (0, expected.into(), String::new()));
    assert!(host.home().join("b/old").exists() && !host.home().join("b/sub\x1b").exists());
    let expected = expected.replace("would sync", "sync");
    assert_eq!(run(&[&["-v"], &words[..]].concat()), (0, expected, String::new()));
    assert_eq!(snapshot(&host.home().join("b")), snapshot(&host.root("t")));
    assert_eq!(run(&["-q", "--delete", "web:t", "b"]), (0, String::new(), String::new()));
    // To a directory that is not there.
    let said = run(&["-n", "b", "web:new"]).1;
    assert!(said.starts_with("make .\n") && !host.root("new").exists(), "{said}");
}

#[test]
fn links_are_treated_as_it_is_asked_for() {
    let host = usual();
    let here = host.home().join("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("f"), "f").unwrap();
    symlink("f", here.join("within")).unwrap();
    symlink("/etc/passwd", here.join("out")).unwrap();
    for (links, left_out) in [("copy", 1), ("follow", 1), ("skip", 2)] {
        let place = format!("web:{links}");
        let words = ["sync", "--links", links, "here", &place];
        let (status, stdout, _) = done(&mut host.framefd(&words));
        assert_eq!(status, 0);
        assert!(stdout.ends_with(&format!("left out: {left_out}\n")), "{stdout}");
        assert!(!host.root(links).join("out").exists());
        assert_eq!(host.root(links).join("within").is_symlink(), links == "copy");
        assert_eq!(host.root(links).join("within").exists(), links != "skip");
    }
    let words = ["sync", "--links", "refuse", "here", "web:refuse"];
    refused_with(&mut host.framefd(&words), 1, "a symbolic link");
}

/// Each attempt is killed in the middle, until one is not.
#[test]
fn it_goes_on_after_it_was_cut() {
    let host = usual();
    let here = host.home().join("here");
    fs::create_dir(&here).unwrap();
    for number in 0..4 {
        write(
            &here.join(format!("{number}")),
            &pattern(2_000_000 + number),
            0o644,
            1_600_000_000_000,
        );
    }
    for (from, to) in [("here", "web:there"), ("web:there", "back")] {
        for _ in 0..6 {
            let mut child = host.framefd(&["sync", "-v", from, to]).spawn().unwrap();
            read_until(child.stdout.as_mut().unwrap(), "\n");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // What one has left is not waited for in vain.
        let (status, _, stderr) = done(&mut host.framefd(&["sync", from, to]));
        assert_eq!(status, 0, "{stderr}");
    }
    assert_eq!(snapshot(&host.root("there")), snapshot(&here));
    assert_eq!(snapshot(&host.home().join("back")), snapshot(&here));
    for dir in [host.root("there"), host.home().join("back")] {
        eventually("no partial file is left", || fs::read_dir(&dir).unwrap().count() == 4);
    }
}

#[test]
fn ctrl_c_ends_it_and_a_reader_that_goes_too() {
    let host = usual();
    let here = host.home().join("here");
    fs::create_dir(&here).unwrap();
    for number in 0..400 {
        fs::write(here.join(number.to_string()), pattern(50_000)).unwrap();
    }
    let mut child = host.framefd(&["sync", "-v", "here", "web:there"]).spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), "copy 0\n");
    kill(&child, "-INT");
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert_eq!(status, 130, "{stderr}");
    assert_eq!(stderr, "framefd: interrupted: run it again, and it goes on\n");
    let mut child = host.framefd(&["sync", "-v", "here", "web:other"]).spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), "make .\n");
    drop(child.stdout.take());
    let (status, _, stderr) = told(&child.wait_with_output().unwrap());
    assert!(status == 141 && stderr.contains("nobody reads it any more"), "{status} {stderr}");
    assert!(fs::read_dir(host.root("other")).unwrap().count() < 400);
}

#[test]
fn mistakes_are_said() {
    let host = usual();
    fs::create_dir(host.home().join("a:b")).unwrap();
    for (words, why) in [
        (&["a", "b"][..], "one of the two has to be HOST:DIRECTORY"),
        (&["web:a", "web:b"], "one of the two has to be HOST:DIRECTORY"),
        (&["a:b", "web:b"], "begin it with ./ if it has a colon"),
        (&["--delete", "a", "web:b"], "nothing can be deleted at a host"),
        (&["", "web:b"], ". is the current one"),
        (&["-q", "-n", "a", "web:b"], "cannot be used with"),
    ] {
        refused(&mut host.framefd(&[&["sync"], words].concat()), why);
    }
    for (words, why) in [
        (&["none", "web:b"], "none"),
        (&["key", "web:b"], "key"),
        (&["web:none", "b"], "is the name right?"),
        (&["web:../a", "b"], "the name has a component . or .."),
        (&["./a:b", "web:x/y"], "web:x/y: "),
        (&["web:", "none/b"], "none/b"),
    ] {
        refused_with(&mut host.framefd(&[&["sync"], &words[..]].concat()), 1, why);
    }
    assert_eq!(done(host.framefd(&["sync", "-q", "./a:b", "web:x"]).stdin(Stdio::null())).0, 0);
    // What one file's failure leaves out.
    fs::write(host.home().join("a:b/f"), "f").unwrap();
    fs::create_dir(host.root("x/f")).unwrap();
    let (status, stdout, stderr) = done(&mut host.framefd(&["sync", "./a:b", "web:x"]));
    assert!(status == 1 && stdout.ends_with("left out: 1\n"), "{stdout}");
    assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
}
