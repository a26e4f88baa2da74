//! A server that is killed in the middle of a put.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use framefd::ops::file::{ServeOptions, sweep};

use crate::common::encoded;
use crate::{End, Tree, serve};

fn size(tree: &Tree, name: &str) -> u64 {
    std::fs::metadata(tree.at(name)).map_or(0, |stat| stat.len())
}

fn has_unnamed_files(tree: &Tree) -> bool {
    use rustix::fs::{Mode, OFlags, openat};
    openat(&tree.root, ".", OFlags::WRONLY | OFlags::TMPFILE, Mode::RUSR).is_ok()
}

#[test]
fn the_file_is_the_old_one_or_the_new_one_whole() {
    const ROOT: &str = "FRAMEFD_TEST_ROOT";
    if let Some(root) = std::env::var_os(ROOT) {
        let socket = || std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let end = End { reader: socket(), writer: socket() };
        serve(&end, &File::open(root).unwrap(), &ServeOptions::default());
        return;
    }
    let tree = Tree::new();
    let name = "killed::the_file_is_the_old_one_or_the_new_one_whole";
    for round in 0..60_u8 {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name]).env(ROOT, tree.at("")).stdin(OwnedFd::from(server));
        let mut server = command.stdout(Stdio::null()).spawn().unwrap();
        drop(command);

        let before = tree.read("old");
        let length = 300_000 + usize::from(round);
        let after = vec![round; length];
        let resume = if round % 2 == 0 { r#","resume":true"# } else { "" };
        let header = format!(r#"{{"cmd":"put","filename":"old","filesize":{length}{resume}}}"#);
        // Early ones are cut in the content, late ones at any step behind it.
        let request = encoded(&header, &after);
        let part = request.len().min(usize::from(round) * 15_000);
        client.write_all(&request[..part]).unwrap();
        if part == request.len() {
            while !tree.names().iter().any(|name| size(&tree, name) == length as u64) {
                assert!(server.try_wait().unwrap().is_none());
            }
            for _ in 0..u32::from(round % 20) * 1000 {
                std::thread::yield_now();
            }
        }
        server.kill().unwrap();
        server.wait().unwrap();

        // What nobody resumes has no name before it is complete, if the file system allows that.
        if resume.is_empty() && part < request.len() && has_unnamed_files(&tree) {
            assert_eq!(tree.names(), ["old"], "round {round}");
        }
        let found = tree.read("old");
        assert!(found == before || found == after, "round {round}");
        for name in tree.names() {
            if name != "old" {
                assert!(name.starts_with(".framefd-"), "{name}");
                let old = SystemTime::now() - Duration::from_secs(60);
                File::options()
                    .write(true)
                    .open(tree.at(&name))
                    .unwrap()
                    .set_modified(old)
                    .unwrap();
            }
        }
        sweep(tree.root.as_fd(), Duration::from_secs(30)).unwrap();
        assert_eq!(tree.names(), ["old"], "round {round}");
    }
}
