//! Arguments and variables that are too long for a header travel in the body.

use std::os::fd::AsFd as _;
use std::sync::Mutex;

use crate::common::channel::socket_pair;
use crate::common::exec::{LONG, connect, next_header, serve, serve_next};
use crate::common::kind;
use crate::common::stream::{limited, recv, send};
use framefd::ops::exec::{self, Choice, Inquiry, Request, ServeOptions};
use framefd::wire::message::exec::ExecRequest;
use framefd::{Error, ErrorKind, Result};
use serde_json::{Value, json};

/// A server that takes the longest command there can be, and a client.
fn asked(request: &Request<'_>, stream: bool, options: &ServeOptions<'_>) -> Result<Vec<u8>> {
    let (client, server) = socket_pair();
    // Its end of the connection closes before the server is waited for.
    std::thread::scope(move |scope| {
        let ours = client;
        scope.spawn(move || {
            let mut connection = connect(server.as_fd());
            while serve_next(&mut connection, options).is_ok() {}
        });
        let mut client = connect(ours.as_fd());
        let mut outputs = Vec::new();
        // It leaves the connection in sync, whatever becomes of it.
        let asked = if stream {
            let mut remote = exec::start(&mut client, request, LONG)?;
            let mut buf = vec![0; 100_000];
            loop {
                match remote.read(&mut buf, LONG) {
                    Ok(Some((_, got))) => outputs.extend_from_slice(&buf[..got]),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            }
        } else {
            exec::call(&mut client, request, LONG)
                .map(|reply| outputs.extend_from_slice(reply.stdout()))
        };
        let after = Request { command: b"echo on", ..Request::default() };
        assert_eq!(exec::call(&mut client, &after, LONG).unwrap().stdout(), b"on\n");
        asked.map(|()| outputs)
    })
}

fn argv(arguments: &[&str]) -> ExecRequest {
    let argv = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    ExecRequest { argv: Some(argv), ..ExecRequest::default() }
}

#[test]
fn what_the_kernel_takes_can_be_asked_for() {
    let long = "x".repeat(100_000);
    let many: Vec<String> = (0..10_000).map(|i| i.to_string()).collect();
    let many: Vec<&str> =
        ["printf", "%s"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let env: Vec<(String, String)> = [("A", long.as_str()), ("B", "1\n=ü"), ("A", &long[1..])]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    let mut options = limited();
    options.limits.max_command = 131_071;
    for stream in [false, true] {
        let ask = |options_of, input: &[u8]| {
            let request = Request { options: options_of, input, ..Request::default() };
            asked(&request, stream, &options).unwrap()
        };
        assert_eq!(ask(argv(&["printf", "%s", &long]), b"").len(), long.len());
        assert_eq!(ask(argv(&["printf", "%s.", &long, ""]), b"").len(), long.len() + 2);
        assert_eq!(ask(argv(&many), b"").len(), 38_890);
        let with_env = |options| ExecRequest { env: Some(env.clone()), ..options };
        let shown = ask(with_env(argv(&["sh", "-c", "echo ${#A} \"$B\"; cat"])), b"input");
        assert_eq!(String::from_utf8(shown).unwrap(), "99999 1\n=ü\ninput");
        // Beside shell code.
        let request = Request {
            command: b"echo ${#A}; cat",
            input: b"input",
            options: with_env(ExecRequest::default()),
        };
        // By default a server takes variables of that length as well.
        assert_eq!(asked(&request, stream, &limited()).unwrap(), b"99999\ninput");
    }
}

#[test]
fn what_is_above_a_limit_is_refused() {
    let (long, longer) = ("x".repeat(70_000), "x".repeat(300_000));
    for (options, expected) in [
        (argv(&["true", &long]), ErrorKind::RemoteTooBig),
        (argv(&["true", &longer]), ErrorKind::RemoteTooBig),
        (argv(&["true", &long, "\0"]), ErrorKind::Argument),
        (ExecRequest { env: Some(vec![("A".into(), longer)]), ..argv(&["true"]) }, {
            ErrorKind::RemoteTooBig
        }),
        (ExecRequest { env: Some(vec![("A=".into(), long)]), ..argv(&["true"]) }, {
            ErrorKind::Argument
        }),
        (ExecRequest { argv_size: Some(1), ..ExecRequest::default() }, ErrorKind::Argument),
        (ExecRequest { env_size: Some(1), ..ExecRequest::default() }, ErrorKind::Argument),
    ] {
        let request = Request { options, ..Request::default() };
        let (client, server) = socket_pair();
        let options = limited();
        std::thread::scope(|scope| {
            scope.spawn(move || while serve(server.as_fd().into(), &options).is_ok() {});
            let outcome = exec::call(&mut connect(client.as_fd()), &request, LONG);
            drop(client);
            assert_eq!(kind(outcome), expected);
        });
    }
}

#[test]
fn a_policy_sees_them() {
    let seen = Mutex::new(None);
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| {
        let request = inquiry.request;
        *seen.lock().unwrap() = Some((request.argv.clone(), request.env.clone()));
        assert!(inquiry.command.is_empty());
        Err(Error::new(ErrorKind::Denied, "no"))
    };
    let options = ServeOptions { policy: Some(&policy), ..limited() };
    let long = "x".repeat(60_000);
    let env = vec![("A".to_owned(), long.clone())];
    let wanted = ExecRequest { env: Some(env.clone()), ..argv(&["true", &long]) };
    let argv = wanted.argv.clone();
    let request = Request { options: wanted, ..Request::default() };
    let (client, server) = socket_pair();
    std::thread::scope(|scope| {
        scope.spawn(|| serve(server.as_fd().into(), &options).unwrap());
        let outcome = exec::call(&mut connect(client.as_fd()), &request, LONG);
        assert_eq!(kind(outcome), ErrorKind::RemoteDenied);
    });
    assert_eq!(seen.into_inner().unwrap(), Some((argv, Some(env))));
}

/// A policy that looks at the first of a name would allow what the command does not get.
#[test]
fn a_policy_sees_each_variable_once() {
    let seen = Mutex::new(None);
    let policy = |inquiry: &Inquiry<'_>, _: &mut Choice| {
        *seen.lock().unwrap() = inquiry.request.env.clone();
        Ok(())
    };
    let options = ServeOptions { policy: Some(&policy), ..limited() };
    let request = json!({"cmd": "exec", "env": {"A": "1", "B": "b"}, "env_size": 12});
    let (client, server) = socket_pair();
    let body = [b"echo $A$B$C".as_slice(), b"A=2\0C=3\0C=4\0"].concat();
    send(client.as_fd().into(), &request, &body);
    serve(server.as_fd().into(), &options).unwrap();
    assert_eq!(recv(client.as_fd().into()).body, b"2b4\n");
    let expected = [("B", "b"), ("A", "2"), ("C", "4")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(seen.into_inner().unwrap().unwrap(), expected);
}

#[test]
fn a_body_that_is_no_list_of_strings_is_refused() {
    for (header, body) in [
        (json!({"argv_size": 5}), b"true".as_slice()),
        (json!({"argv_size": 3}), b"true"),
        (json!({"argv_size": 4}), b"true"),
        (json!({"argv_size": 0}), b""),
        (json!({"argv_size": 5, "argv": ["true"]}), b"true\0"),
        (json!({"argv_size": 2}), b"\xff\0"),
        (json!({"argv_size": -1}), b"true\0"),
        (json!({"argv_size": u64::MAX}), b"true\0"),
        (json!({"env_size": 5}), b"true"),
        (json!({"env_size": u64::MAX}), b"true"),
        (json!({"env_size": 3}), b"trueA=1"),
        (json!({"env_size": 2}), b"trueA\0"),
        (json!({"env_size": 3}), b"true=1\0"),
        (json!({"env_size": 4, "stdin_size": 1}), b"A=1\0x"),
        // As a server that does not know these reads it.
        (json!({}), b"true\0"),
        (json!({}), b"trueA=1\0"),
    ] {
        let mut request = json!({"cmd": "exec"});
        request.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
        let (client, server) = socket_pair();
        send(client.as_fd().into(), &request, body);
        serve(server.as_fd().into(), &limited()).unwrap();
        let reply: Value = serde_json::from_str(recv(client.as_fd().into()).header.text()).unwrap();
        assert_eq!(reply["code"], "bad_request", "{request} {body:?}: {reply}");
    }
}

#[test]
fn short_ones_stay_in_the_header() {
    let (client, server) = socket_pair();
    let env = Some(vec![("A".to_owned(), "x".repeat(30_000))]);
    let options = ExecRequest { env, ..argv(&["true", &"x".repeat(30_000)]) };
    let request = Request { options, ..Request::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let header = next_header(&mut connect(server.as_fd())).unwrap();
            let fields: Value = serde_json::from_str(header.text()).unwrap();
            assert_eq!((&fields["data_size"], &fields["argv"][0]), (&json!(0), &json!("true")));
            drop(server);
        });
        kind(exec::call(&mut connect(client.as_fd()), &request, LONG));
    });
}
