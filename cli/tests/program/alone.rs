//! The program as one file that needs nothing else. `make test-long` builds it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::host::{Host, Kind, done, kill, pattern, read_until, refused};

#[test]
fn one_static_file_is_small_and_needs_nothing() {
    if std::env::var_os("FRAMEFD_LONG").is_none() {
        return println!("skipped: FRAMEFD_LONG is not set");
    }
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (status, stdout, stderr) =
        done(Command::new("make").args(["--silent", "static"]).current_dir(tree));
    assert_eq!(status, 0, "{stderr}");
    let program = tree.join(stdout.lines().last().unwrap());
    let size = program.metadata().unwrap().len();
    assert!(size <= 2_500_000, "{size} bytes; see [profile.release.package.framefd-cli]");
    let (_, segments, _) = done(Command::new("readelf").arg("-lW").arg(&program));
    assert!(segments.contains("LOAD") && !segments.contains("INTERP"), "{segments}");
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can chroot");
    }
    let host = Host::new(Kind::Plain);
    let empty = host.home();
    std::fs::copy(&program, empty.join("framefd")).unwrap();
    put_shell(&empty);
    // Inside there are a shell and a key, and no /dev, /etc, /proc or /tmp.
    let inside = |words: &[&str]| {
        let mut command = Command::new("chroot");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(&empty).arg("/framefd").args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    assert_eq!(
        done(&mut inside(&["--version"])).1,
        concat!("framefd ", env!("CARGO_PKG_VERSION"), "\n")
    );
    assert_eq!(done(&mut inside(&["key", "new", "/k"])).0, 0);
    let words = ["--exec", "--root", "/", "--writable", "-k", "/k"];
    let words = [&["serve", "--listen", "127.0.0.1:0"], &words[..]].concat();
    let mut serving = inside(&words).stderr(Stdio::null()).spawn().unwrap();
    let line = read_until(serving.stdout.as_mut().unwrap(), "\n");
    let address = line.trim().strip_prefix("listening on ").unwrap();
    let code = "pwd; read x || echo end; exit 4";
    let expected = (4, "/\nend\n".to_owned(), String::new());
    assert_eq!(done(&mut host.framefd(&["run", "-k", "k", address, code])), expected);
    assert_eq!(done(&mut inside(&["run", "-k", "/k", address, code])), expected);
    let place = |name: &str| format!("{address}:{name}");
    std::fs::create_dir(empty.join("tree")).unwrap();
    std::fs::write(empty.join("tree/f"), pattern(100_000)).unwrap();
    for words in [
        ["put", "-k", "/k", "/tree/f", &place("g")],
        ["get", "-k", "/k", &place("tree/f"), "/h"],
        ["sync", "-k", "/k", "/tree", &place("u")],
        ["sync", "-k", "/k", &place("tree"), "/v"],
    ] {
        let (status, _, stderr) = done(&mut inside(&words));
        assert_eq!(status, 0, "{stderr}");
    }
    for name in ["g", "h", "u/f", "v/f"] {
        assert!(std::fs::read(empty.join(name)).unwrap() == pattern(100_000), "{name}");
    }
    let mut lookup = inside(&["run", "-k", "/k", "localhost:1", "true"]);
    refused(&mut lookup, "is a name server there (/etc/resolv.conf)?");
    refused(&mut inside(&["shell", "-k", "/k", address]), "is /dev/pts mounted there?");
    kill(&serving, "-TERM");
    assert_eq!(serving.wait().unwrap().code(), Some(0));
}

/// A shell, and the libraries that it needs.
fn put_shell(root: &Path) {
    let (_, needs, _) = done(Command::new("ldd").arg("/bin/sh"));
    let libraries = needs.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/bin/sh"]) {
        let copy = root.join(&file[1..]);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(file, copy).unwrap();
    }
}
