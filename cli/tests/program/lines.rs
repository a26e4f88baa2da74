//! Each failure that a user can cause has one line that says what to do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::host::usual;
use crate::host::{Host, Kind, Serves, done, read_until, refused, refused_with, told};
use crate::hostile::{known, liar, reply};

#[test]
fn what_is_wrong_with_the_arguments() {
    let host = Host::new(Kind::Plain);
    for (words, why) in [
        (&[][..], "no verb: see framefd --help"),
        (&["key"], "no verb: see framefd key --help"),
        (&["fly"], "unrecognized subcommand 'fly'; see framefd --help"),
        (
            &["run", "--bogus", "a:1", "true"],
            "unexpected argument '--bogus' found; quote shell code",
        ),
        (
            &["run", "a:1", "ls", "-l"],
            "unexpected argument '-l' found; quote shell code, or put --",
        ),
        (&["ls", "--bogus", "a:1:"], "unexpected argument '--bogus' found; see framefd ls --help"),
        (&["ls"], "required arguments were not provided: <HOST:PATH>; see framefd ls --help"),
        (&["run", "--plain", "a:1"], "no COMMAND"),
        (&["run", "--plain", "a:1", ""], "no COMMAND"),
        (&["run", "--plain", "a:1", "true", "--", "true"], "shell code and a program"),
        (&["run"], "no COMMAND"),
        (&["run", "--", "true"], "no HOST"),
        (&["run", "--timeout", "0", "a:1", "true"], "it is not a number of seconds"),
        (&["run", "--env", "A", "a:1", "true"], "--env A: it is not NAME=VALUE"),
        (&["run", "--input", "none", "a:1", "true"], "none: No such file or directory"),
        (&["run", "-k", "key", "--id", "a/b", "a:1", "true"], "--id: "),
        (&["run", "-k", "key", "--name", "a b", "a:1", "true"], "--name: "),
        (&["put", "a:1:b"], "see framefd put --help"),
    ] {
        refused(&mut host.framefd(words), why);
    }
}

#[test]
fn what_is_wrong_with_the_key_or_the_file_of_hosts() {
    let host = Host::new(Kind::Sealed);
    let address = &host.address;
    refused(&mut host.framefd(&["run", address, "true"]), "it needs a key: -k FILE, or --plain");
    refused(
        &mut host.framefd(&["run", "-k", "none", address, "true"]),
        "make one with framefd key new, or see -k",
    );
    std::fs::write(host.home().join("short"), "sixteen bytes ok").unwrap();
    let set_mode = |name: &str, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(host.home().join(name), mode).unwrap();
    };
    set_mode("short", 0o644);
    let with = |key: &str| host.framefd(&["run", "-k", key, address, "true"]);
    refused(&mut with("short"), "chmod 600 it");
    set_mode("short", 0o600);
    refused(&mut with("short"), "the least is 32");
    refused(&mut with("."), "\".\": ");
    std::fs::write(host.home().join("empty"), "").unwrap();
    set_mode("empty", 0o600);
    refused(&mut with("empty"), "0 bytes are too few");
    std::os::unix::fs::symlink("key", host.home().join("link")).unwrap();
    refused(&mut with("link"), "\"link\": it is a symbolic link");
    let serve = ["serve", "--exec", "--listen", "127.0.0.1:0", "-k", "none"];
    refused(&mut host.framefd(&serve), "make one with framefd key new, or see -k");
    host.known("[web\n");
    refused(&mut host.framefd(&["run", "web", "true"]), "hosts.toml: line 1: ");
    std::fs::write(host.home().join(".config/framefd/hosts.toml"), b"\xff").unwrap();
    refused(&mut host.framefd(&["run", "web", "true"]), "hosts.toml: it is not UTF-8 text");
    host.known("[web]\nadress = 'a:1'\n");
    refused(&mut host.framefd(&["run", "web", "true"]), "[web]: no key is called adress");
    set_mode(".config/framefd/hosts.toml", 0o666);
    refused(
        &mut host.framefd(&["run", "web", "true"]),
        "others may write to it: chown it, and chmod",
    );
}

#[test]
fn a_host_that_is_not_there() {
    let host = Host::new(Kind::Sealed);
    host.usual();
    let run = |words: &[&str]| host.framefd(&[&["run"], words, &["true"]].concat());
    refused(
        &mut run(&["gone"]),
        "gone: connect to 127.0.0.1:1: connect: Connection refused; nothing listens there",
    );
    refused(&mut run(&["nobody"]), "nobody: not in ");
    refused(&mut run(&["host.invalid:7000"]), "is the name right?");
    refused(&mut run(&["unix:/none"]), "is the server running, and is the path right?");
    refused(&mut run(&["127.0.0.1:99999"]), "is not a number from 0 to 65535");
    // A listener whose queue is full and that accepts nobody.
    let deaf = std::os::unix::net::UnixListener::bind(host.home().join("deaf")).unwrap();
    rustix::net::listen(&deaf, 0).unwrap();
    let socket = host.home().join("deaf");
    let _first = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let address = format!("unix:{}", socket.display());
    refused(&mut run(&["--connect-timeout", "0.3", &address]), "timed out: ");
    refused(
        &mut run(&["--connect-timeout", "0.3", &address]),
        "is the host up, and is the port right?",
    );
    // It accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    refused(
        &mut run(&["--connect-timeout", "0.3", &address]),
        "does the server speak sealed? If not, give --plain. Or is the server busy, or the port",
    );
    refused(
        &mut run(&["--connect-timeout", "0.3", "--plain", &address]),
        "If it is sealed, leave out --plain; if it has no key, leave out -k. Or is the server busy, or",
    );
}

#[test]
fn a_key_an_id_or_a_name_that_is_not_the_hosts() {
    let host = Host::new(Kind::Sealed);
    framefd::auth::generate(&host.home().join("other")).unwrap();
    for (key, id, name) in
        [("other", "me", "db"), ("key", "you", "db"), ("key", "me", "web"), ("key", "", "db")]
    {
        let words = ["run", "-k", key, "--id", id, "--name", name, &host.address, "true"];
        refused(
            &mut host.framefd(&words),
            "the server refused the handshake: does it have this key (-k), under this id (--id), \
             and this name (--name)?",
        );
    }
}

#[test]
fn plain_meets_sealed() {
    let (sealed, plain) = (Host::new(Kind::Sealed), Host::new(Kind::Plain));
    let with_key = Host::new(Kind::PlainWithKey);
    let run = |host: &Host, words: &[&str]| {
        let words = [&["run", "--connect-timeout", "1"], words, &[&host.address, "true"]].concat();
        host.framefd(&words)
    };
    let leave_out = "leave out --plain";
    refused(&mut run(&sealed, &["--plain"]), leave_out);
    refused(&mut run(&sealed, &["--plain", "-k", "key"]), leave_out);
    refused(&mut run(&plain, &["-k", "key"]), "--plain");
    refused(&mut run(&with_key, &["-k", "key"]), "speak sealed? If not, give --plain.");
    refused(&mut run(&with_key, &["--plain"]), "does the server want a key (-k)?");
    refused(&mut run(&plain, &["--plain", "-k", "key"]), "if it has no key, leave out -k");
    framefd::auth::generate(&with_key.home().join("other")).unwrap();
    refused(&mut run(&with_key, &["--plain", "-k", "other"]), "is the key (-k) right?");
}

/// What speaks something else, by its first words; each by sealed, plain and plain with a key.
#[test]
fn a_port_of_another_server() {
    let host = Host::new(Kind::Sealed);
    let garbage = [0xa5; 300];
    for (first, sealed, plain) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "begins with \"HT\"",
            "the bytes look like HTTP",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "begins with \"SS\"", "the bytes look like SSH"),
        (b"220 mail ESMTP\r\n", "begins with \"22\"", "does the server want a key (-k)?"),
        (b"\x15\x03\x01\0\x02\x02\x46", "begins with \"\\u{15}", "is the port another server's?"),
        (&garbage, "begins with", "the length prefix is not valid: "),
        (&[0; 300], "begins with \"\\0", "a header of 0 bytes"),
        (b"", "does it have this key (-k)", "the peer closed the connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let first = first.to_vec();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                let _ = socket.write_all(&first);
                let _ = socket.shutdown(Shutdown::Write);
                let _ = socket.read_to_end(&mut Vec::new());
            }
        });
        let place = format!("{address}:a");
        for words in [&["run", &address, "true"][..], &["get", &place], &["pipe", &address]] {
            let all = [&[words[0], "-k", "key"], &words[1..]].concat();
            refused(&mut host.framefd(&all), sealed);
            if words[0] != "pipe" {
                let all = [&[words[0], "--plain"], &words[1..]].concat();
                refused(&mut host.framefd(&all), plain);
                refused(&mut host.framefd(&all), "Or is the port another server's?");
            }
        }
    }
}

/// A failure: the arguments, the exit status, what the line says, and its end, the advice.
type Case<'a> = (&'a [&'a str], i32, &'a str, &'a str);

#[track_caller]
fn check(host: &Host, cases: &[Case<'_>]) {
    for (words, status, what, advice) in cases {
        let mut command = host.framefd(words);
        refused_with(&mut command, *status, what);
        refused_with(&mut command, *status, &format!("{advice}\n"));
    }
}

#[test]
fn what_a_server_refuses() {
    let host = usual();
    std::fs::create_dir(host.root("d")).unwrap();
    std::fs::write(host.root("f"), "f").unwrap();
    std::fs::create_dir(host.home().join("tree")).unwrap();
    let below = "; names are below the server's root, and links are not followed";
    let above = "; make the directory above it first (framefd mkdir -p)";
    let or_with = "; make the directory above it first (framefd mkdir -p), or give --parents";
    let name = "; is the name right? It begins at the server's root";
    let other = "; choose another name, or remove what is there";
    check(
        &host,
        &[
            (
                &["run", "web", "--", "/none"],
                255,
                "web: ",
                "; is the program there, and may it be run?",
            ),
            (
                &["run", "--cwd", "/none", "web", "true"],
                255,
                "web: ",
                "; is the directory there (--cwd)?",
            ),
            (&["get", "web:none"], 1, "web:none: not found at the peer", name),
            (&["get", "-r", "web:none", "x"], 1, "web:none: not found at the peer", name),
            (&["get", "web:none/a"], 1, "web:none/a: not found at the peer", name),
            (&["ls", "web:none"], 1, "web:none: ", name),
            (&["stat", "web:../a"], 1, "web:../a: ", below),
            (&["ls", "web:f/a"], 1, "web:f/a: ", below),
            (&["get", "web:d"], 1, "\"d\" is a directory", "; give -r"),
            (
                &["put", "key", "web:d"],
                1,
                "is a directory",
                "; end its name with a slash to put it in there",
            ),
            (&["put", "key", "web:a/b"], 1, "web:a/b: ", or_with),
            (&["put", "-r", "tree", "web:a/b"], 1, "web:a/b: ", or_with),
            (&["sync", "tree", "web:a/b"], 1, "web:a/b: ", above),
            (&["mkdir", "web:a/b"], 1, "web:a/b: ", above),
            (&["mkdir", "web:f"], 1, "web:f: it exists already at the peer", other),
            (&["put", "-r", "tree", "web:f"], 1, "web:f: it exists already at the peer", other),
            (&["put", "none", "web:a"], 1, "none: No such file or directory", ""),
            (&["put", ".", "web:a"], 1, "it is a directory: give -r", ""),
            (&["get", "web:f", "none/f"], 1, "not found", "; is the directory here?"),
            (&["put", "key", ".config", "web:a"], 255, "end it with a slash", ""),
            (&["put", "-", "web:"], 255, "it has no name of its own", ""),
            (&["get", "-r", "web:", "-"], 255, "do not go with standard output", ""),
        ],
    );
}

#[test]
fn what_a_server_was_not_started_for() {
    let host = Host::serving(Kind::Sealed, Serves { commands: false, ..Serves::default() });
    host.usual();
    let exec =
        "; the server has to serve commands (framefd serve --exec), and be no older than this";
    check(
        &host,
        &[
            (&["run", "web", "true"], 255, "web: the peer does not support the request", exec),
            (&["shell", "web"], 255, "\"exec\" is not served here", exec),
            (&["ssh", "web", "true"], 255, "\"exec\" is not served here", exec),
        ],
    );
    let host = Host::serving(Kind::Sealed, Serves { write: false, ..Serves::default() });
    host.usual();
    std::fs::create_dir(host.home().join("tree")).unwrap();
    let writable = "; the server has to allow it (framefd serve --writable)";
    check(
        &host,
        &[
            (&["put", "key", "web:a"], 1, "web:a: the peer refused the request", writable),
            (&["put", "-r", "tree", "web:a"], 1, "web:a: the peer refused the request", writable),
            (&["sync", "tree", "web:a"], 1, "web:a: the peer refused the request", writable),
            (&["mkdir", "web:a"], 1, "web:a: the peer refused the request", writable),
        ],
    );
    let host = Host::serving(Kind::Sealed, Serves { files: false, ..Serves::default() });
    host.usual();
    let files = "; the server has to serve files (framefd serve --root), and be no older than this";
    check(
        &host,
        &[
            (&["put", "key", "web:a"], 1, "web:a: ", files),
            (&["get", "web:a"], 1, "web:a: ", files),
            (&["ls", "web:"], 1, "web:: ", files),
            (&["sync", "web:a", "b"], 1, "web:a: ", files),
        ],
    );
}

/// One that is full says so, and so does one that stops, unless it is gone.
#[test]
fn a_server_that_is_busy_or_stops() {
    let host = Host::serving(Kind::Sealed, Serves { connections: 1, ..Serves::default() });
    host.usual();
    let mut first =
        host.framefd(&["run", "web", "echo on; cat"]).stdin(Stdio::piped()).spawn().unwrap();
    read_until(first.stdout.as_mut().unwrap(), "on\n");
    check(
        &host,
        &[
            (&["run", "web", "true"], 255, "web: the peer is busy", "; try again later"),
            (&["ls", "web:"], 1, "web:: the peer is busy", "; try again later"),
        ],
    );
    host.stopper.stop();
    let words = ["run", "--connect-timeout", "0.3", "web", "true"];
    let (status, _, stderr) = done(&mut host.framefd(&words));
    let is_said = ["; try again later\n", "or the port another one's?\n", "is the port right?\n"]
        .iter()
        .any(|advice| stderr.ends_with(advice));
    assert!(status == 255 && is_said && stderr.matches('\n').count() == 1, "{stderr}");
    drop(first.stdin.take());
    assert_eq!(told(&first.wait_with_output().unwrap()), (0, String::new(), String::new()));
}

/// It knows what this program asks for by another name, or not at all.
#[test]
fn a_server_that_is_older() {
    let host = Host::new(Kind::Plain);
    std::fs::create_dir(host.home().join("tree")).unwrap();
    std::os::unix::fs::symlink("a", host.home().join("tree/l")).unwrap();
    let old = |code: &'static str| {
        liar(move |_, request| {
            let keys = format!(r#""status":"error","code":"{code}","message":"no""#);
            reply(request, &keys, b"")
        })
    };
    known(&host, &[&old("bad_request"), &old("unsupported")]);
    let older = "; is the server older than this program?";
    check(
        &host,
        &[
            (&["run", "--merge", "h0", "true"], 255, "h0: ", older),
            (&["put", "--in-place", "key", "h0:a"], 1, "h0:a: ", older),
            (&["mkdir", "h0:a"], 1, "h0:a: ", older),
            (&["run", "h1", "true"], 255, "h1: ", ", and be no older than this"),
            (
                &["put", "-r", "--links", "copy", "tree", "h1:a"],
                1,
                "h1:a: ",
                ", and be no older than this",
            ),
        ],
    );
}

/// The program as another user, where this one may do everything.
fn as_nobody(host: &Host, words: &[&str]) -> Command {
    if !rustix::process::geteuid().is_root() {
        return host.framefd(words);
    }
    let own = host.directory.path().join("framefd");
    if !own.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_framefd"), &own).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(host.directory.path(), mode).unwrap();
    }
    let mut other = Command::new(own);
    other.env_clear().env("HOME", host.home()).current_dir(host.home()).args(words);
    other.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    other.uid(65_534).gid(65_534);
    other
}

#[test]
fn no_right_here_or_there() {
    let host = Host::new(Kind::Plain);
    known(&host, &[&host.address]);
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::write(host.root("f"), "f").unwrap();
    std::fs::create_dir(host.home().join("closed")).unwrap();
    std::fs::write(host.home().join("secret"), "s").unwrap();
    for (name, mode) in [("closed", 0o555), ("secret", 0), ("key", 0)] {
        set_mode(&host.home().join(name), mode);
    }
    // The server of a user who may not write everywhere, either.
    for (name, mode) in [("locked", 0o555), ("hidden", 0)] {
        std::fs::create_dir(host.root(name)).unwrap();
        set_mode(&host.root(name), mode);
    }
    let words = ["serve", "--listen", "127.0.0.1:0", "--root", "../root", "--writable", "--plain"];
    let mut serving = as_nobody(&host, &words).spawn().unwrap();
    let line = read_until(serving.stdout.as_mut().unwrap(), "\n");
    known(&host, &[&host.address, line.trim().strip_prefix("listening on ").unwrap()]);
    let right = "; has the server's user, and this key, the right to do that?";
    for (words, status, what, advice) in [
        (&["get", "h0:f", "closed/f"][..], 1, "store \"f\"", "; check the permissions here"),
        (&["put", "secret", "h0:x"], 1, "secret", "; check the permissions here"),
        (&["run", "-k", "key", "h0", "true"], 255, "key", "Permission denied"),
        (&["put", "/etc/passwd", "h1:locked/x"], 1, "h1:locked/x: ", right),
        (&["mkdir", "h1:locked/x"], 1, "h1:locked/x: ", right),
        (&["ls", "h1:hidden"], 1, "h1:hidden: ", right),
        (&["get", "h1:hidden/x", "-"], 1, "h1:hidden/x: ", right),
    ] {
        refused_with(&mut as_nobody(&host, words), status, what);
        refused_with(&mut as_nobody(&host, words), status, &format!("{advice}\n"));
    }
    serving.kill().unwrap();
    serving.wait().unwrap();
    set_mode(&host.root("hidden"), 0o700);
}

/// Both disks are full: the server's, and that of a get.
#[test]
fn no_room_here_or_there() {
    let host = Host::new(Kind::Plain);
    std::fs::write(host.home().join("big"), vec![7; 3_000_000]).unwrap();
    std::fs::create_dir(host.home().join("small")).unwrap();
    let code = r#"mount -t tmpfs -o size=1m none small && : > small/ready &&
        exec "$0" serve --listen 127.0.0.1:0 --root . --writable --plain 2>/dev/null"#;
    let mut unshare = Command::new("unshare");
    unshare.args(["-Urm", "sh", "-c", code, env!("CARGO_BIN_EXE_framefd")]);
    unshare.current_dir(host.home()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut serving) = unshare.spawn() else { return println!("skipped: no unshare") };
    let mut line = String::new();
    BufReader::new(serving.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let Some(address) = line.trim().strip_prefix("listening on ") else {
        serving.wait().unwrap();
        return println!("skipped: no name spaces here");
    };
    known(&host, &[address]);
    check(
        &host,
        &[
            (
                &["put", "big", "h0:small/x"],
                1,
                "h0:small/x: ",
                "; make room there, and go on with --resume",
            ),
            (
                &["sync", ".", "h0:small/x"],
                1,
                "h0:small/x: ",
                "; make room there, and run it again, and it goes on",
            ),
        ],
    );
    // In the same name space, to that disk.
    let pid = serving.id().to_string();
    let mut inside = Command::new("nsenter");
    inside.args(["-U", "-m", "--preserve-credentials", "-t", &pid]);
    inside.arg(format!("--wdns={}", host.home().display())).arg(env!("CARGO_BIN_EXE_framefd"));
    inside.args(["get", "h0:big", "small/y"]).env("HOME", host.home());
    refused_with(&mut inside, 1, "; make room here, and go on with --resume\n");
    serving.kill().unwrap();
    serving.wait().unwrap();
}

#[test]
fn help_goes_to_standard_output() {
    let host = Host::new(Kind::Plain);
    for words in [&["--help"][..], &["run", "--help"], &["-h"], &["ssh", "--help"], &["--version"]]
    {
        let (status, stdout, stderr) = done(&mut host.framefd(words));
        assert_eq!((status, stderr.as_str()), (0, ""), "{words:?}");
        assert!(stdout.contains("framefd"), "{stdout}");
        assert!(stdout.lines().all(|line| line.chars().count() <= 100), "{stdout}");
    }
    let ssh = done(&mut host.framefd(&["ssh", "--help"])).1;
    assert!(ssh.contains("[SSH'S OPTIONS] HOST"), "{ssh}");
}
