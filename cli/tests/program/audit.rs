//! The audit: a line for each request.

use std::borrow::Cow;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use framefd::exec::{self, Request};
use framefd::file::{self, Transfer};
use framefd::frame::{Connection, ConnectionOptions, Header};

use crate::host::{Host, Kind, done, eventually, kill, read_until};

/// A server on a Unix socket that is ended with its test.
struct Serving(Child);

impl Serving {
    fn new(host: &Host, log: &str) -> Serving {
        let words = ["serve", "--listen", "unix:socket", "--exec", "--root", "../root", "--plain"];
        let mut command = host.framefd(&[&words[..], &["--log", log]].concat());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        read_until(child.stdout.as_mut().unwrap(), "\n");
        Serving(child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(host: &Host) -> Connection<'static> {
    let socket = UnixStream::connect(host.home().join("socket")).unwrap();
    Connection::new(OwnedFd::from(socket), ConnectionOptions::default()).unwrap()
}

/// The lines of requests in a file. Each line is a whole object.
fn requests(host: &Host, log: &str) -> Vec<Header> {
    let text = fs::read_to_string(host.home().join(log)).unwrap_or_default();
    let all = text.lines().map(|line| Header::parse(line.as_bytes().to_vec(), 32).unwrap());
    all.filter(|line| line.string("cmd").is_ok()).collect()
}

fn run(connection: &mut Connection<'static>, command: &str) {
    let request = Request { command: command.as_bytes(), ..Request::default() };
    exec::call(connection, &request, None).unwrap();
}

#[test]
fn it_says_who_did_what_and_what_became_of_it() {
    let host = Host::new(Kind::Plain);
    let _serving = Serving::new(&host, "log");
    let mut client = connect(&host);
    run(&mut client, "echo secret; exit 3");
    run(&mut client, "kill -9 $$");
    let argv = Some(vec!["printf".to_owned(), "%s".to_owned(), "a b".to_owned()]);
    let options = exec::ExecRequest { argv, ..exec::ExecRequest::default() };
    let request = Request { options, input: b"secret", ..Request::default() };
    exec::call(&mut client, &request, None).unwrap();
    fs::write(host.root("f"), vec![b'x'; 5000]).unwrap();
    file::get(&mut client, &Transfer::path(b"f", &host.home().join("copy")), None).unwrap();
    file::stat(&mut client, b"../f", None).unwrap_err();
    client.call(r#"{"cmd":"fly"}"#, b"body", None).unwrap_err();
    client.call(r#"{"cmd":"hello"}"#, &[], None).unwrap();
    drop(client);
    eventually("all are there", || requests(&host, "log").len() == 7);
    let lines = requests(&host, "log");
    let text = |at: usize, key: &str| lines[at].string(key).map(Cow::into_owned).ok();
    let number = |at: usize, key: &str| lines[at].integer(key).ok();
    let what = |at| (text(at, "cmd").unwrap(), text(at, "what"), text(at, "error"));
    let expected = |cmd: &str, what: Option<&str>, error: Option<&str>| {
        (cmd.to_owned(), what.map(str::to_owned), error.map(str::to_owned))
    };
    assert_eq!(what(0), expected("exec", Some("echo secret; exit 3"), None));
    assert_eq!((number(0, "exit_code"), number(0, "signal")), (Some(3), None));
    assert_eq!((number(1, "exit_code"), number(1, "signal")), (Some(137), Some(9)));
    assert_eq!(what(2), expected("exec", Some("printf %s 'a b'"), None));
    assert!(number(2, "bytes_in") == Some(6), "{}", lines[2].text());
    assert_eq!(what(3), expected("get", Some("f"), None));
    assert!(number(3, "bytes_out").unwrap() > 5000);
    assert_eq!(what(4), expected("stat", Some("../f"), Some("path")));
    assert_eq!(what(5), expected("fly", None, Some("unsupported")));
    assert_eq!(what(6), expected("hello", None, None));
    for (at, line) in lines.iter().enumerate() {
        let pid = i64::from(std::process::id());
        let uid = i64::from(rustix::process::geteuid().as_raw());
        assert_eq!((number(at, "pid"), number(at, "uid")), (Some(pid), Some(uid)));
        assert!(number(at, "time_ms").is_some() && number(at, "ms").is_some());
        assert!(at == 0 || !line.text().contains("secret"), "{}", line.text());
    }
}

/// Served, refused, malformed, and cut by a client or by a stop.
#[test]
fn there_are_as_many_lines_as_requests() {
    let host = Host::new(Kind::Plain);
    let mut serving = Serving::new(&host, "log");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = connect(&host);
                for turn in 0..245 {
                    match turn % 5 {
                        0 => run(&mut client, ":"),
                        1 => drop(client.call(r#"{"cmd":"hello"}"#, &[], None).unwrap()),
                        2 => drop(client.call(r#"{"cmd":"fly"}"#, b"x", None).unwrap_err()),
                        3 => drop(file::stat(&mut client, b"none", None).unwrap_err()),
                        _ => drop(client.call(r#"{"cmd":1}"#, &[], None).unwrap_err()),
                    }
                }
            });
        }
    });
    let mut cut = Vec::new();
    for turn in 0..20 {
        let mut client = connect(&host);
        let request = Request { command: b"sleep 60", ..Request::default() };
        let _ = exec::start(&mut client, &request, None).unwrap();
        if turn % 2 == 0 {
            // Its own client hangs up.
            drop(client);
        } else {
            cut.push(client);
        }
    }
    eventually("those that hung up are over", || requests(&host, "log").len() == 990);
    kill(&serving.0, "-TERM");
    eventually("it stops", || {
        fs::read_to_string(host.home().join("log")).unwrap().contains("\"stopping\"")
    });
    kill(&serving.0, "-TERM");
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
    let lines = requests(&host, "log");
    assert_eq!(lines.len(), 1000);
    let errors = |error: &str| {
        lines.iter().filter(|line| line.string("error").is_ok_and(|found| found == error)).count()
    };
    assert_eq!((errors("unsupported"), errors("not_found")), (196, 196));
    assert_eq!(errors("aborted"), 10, "cut by the stop");
}

#[test]
fn a_rotation_while_a_command_runs_loses_no_line() {
    let host = Host::new(Kind::Plain);
    let serving = Serving::new(&host, "log");
    let address = format!("unix:{}", host.home().join("socket").display());
    let words = ["run", "--plain", &address, "echo on; read line"];
    let mut client = host.framefd(&words).stdin(Stdio::piped()).spawn().unwrap();
    read_until(client.stdout.as_mut().unwrap(), "on\n");
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut client = connect(&host);
            for _ in 0..200 {
                run(&mut client, ":");
            }
        });
        for turn in 0..5 {
            fs::rename(host.home().join("log"), host.home().join(format!("log.{turn}"))).unwrap();
            kill(&serving.0, "-HUP");
            eventually("there is a new one", || host.home().join("log").exists());
        }
        others.join().unwrap();
    });
    drop(client.stdin.take());
    client.wait().unwrap();
    let count = || -> usize {
        let logs = ["log", "log.0", "log.1", "log.2", "log.3", "log.4"];
        logs.iter().map(|log| requests(&host, log).len()).sum()
    };
    eventually("all lines are there", || count() == 201);
    let last = requests(&host, "log");
    assert!(last.iter().any(|line| line.string("what").unwrap().contains("read line")));
    assert_eq!(done(&mut host.framefd(&["run", "--plain", &address, "echo a"])).1, "a\n");
}
