//! Each failure that a user can cause has one line that says what to do.

use std::os::unix::fs::PermissionsExt as _;

use crate::host::{Host, Kind, done, refused, refused_with};

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
    host.known("[web\n");
    refused(&mut host.framefd(&["run", "web", "true"]), "hosts.toml: line 1: ");
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
        "does the server speak sealed?; if it does not, give --plain",
    );
    refused(
        &mut run(&["--connect-timeout", "0.3", "--plain", &address]),
        "if it is sealed, leave out --plain; if it has no key, leave out -k",
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
    refused(&mut run(&with_key, &["-k", "key"]), "if it does not, give --plain");
    refused(&mut run(&with_key, &["--plain"]), "does the server want a key (-k)?");
    refused(&mut run(&plain, &["--plain", "-k", "key"]), "if it has no key, leave out -k");
    framefd::auth::generate(&with_key.home().join("other")).unwrap();
    refused(&mut run(&with_key, &["--plain", "-k", "other"]), "is the key (-k) right?");
}

#[test]
fn what_a_server_refuses() {
    let host = Host::new(Kind::Sealed);
    host.usual();
    refused(
        &mut host.framefd(&["run", "web", "--", "/none"]),
        "is the program there, and may it be run?",
    );
    refused(
        &mut host.framefd(&["run", "--cwd", "/none", "web", "true"]),
        "is the directory there (--cwd)?",
    );
    for (words, why) in [
        (&["get", "web:none"][..], "web:none: the peer has no such file"),
        (&["stat", "web:../a"], "names are below the server's root"),
        (&["ls", "web:none"], "is the name right?"),
        (&["put", "none", "web:a"], "none: No such file or directory"),
        (&["put", ".", "web:a"], "it is a directory: give -r"),
        (&["mkdir", "web:a/b"], "web:a/b: "),
        (&["put", "key", "web:a/b"], "web:a/b: "),
    ] {
        refused_with(&mut host.framefd(words), 1, why);
    }
    refused(&mut host.framefd(&["put", "key", ".config", "web:a"]), "end it with a slash");
    refused(&mut host.framefd(&["put", "-", "web:"]), "it has no name of its own");
    refused(&mut host.framefd(&["get", "-r", "web:", "-"]), "do not go with standard output");
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
}
