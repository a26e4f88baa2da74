//! Policies: what they see of a client, and what they choose for it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use framefd::exec::{self, ExecRequest, Outcome, Request as ExecCommand};
use framefd::file::{self, Rights, Transfer};
use framefd::frame::{Connection, ConnectionOptions, Credentials};
use framefd::serve::{Access, BodyMode, Commands, Files, Server, ServerOptions};
use framefd::{Error, ErrorKind};

use crate::common::exec::LONG;
use crate::common::kind;
use crate::{Running, WORKERS, echo, key, keyed, prove, sealed};

/// Nobody's.
const USER: u32 = 64_331;
const GROUPS: [u32; 3] = [64_332, 64_333, 64_334];

fn run(client: &mut Connection<'_>, command: &str) -> framefd::Result<String> {
    let request = ExecCommand { command: command.as_bytes(), ..ExecCommand::default() };
    let reply = exec::call(client, &request, LONG)?;
    Ok(String::from_utf8(reply.stdout().to_vec()).unwrap())
}

#[test]
fn a_policy_chooses_how_each_command_is_run() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    for workers in WORKERS {
        let options = ServerOptions { workers, access: keyed(), ..ServerOptions::default() };
        let path = dir.path().to_owned();
        let running = Running::start(options, |server| {
            let policy = move |inquiry: &exec::Inquiry<'_>, choice: &mut exec::Choice| {
                assert!(inquiry.client.address().unwrap().starts_with("127.0.0.1:"));
                assert_eq!(inquiry.client.credentials(), None);
                assert_eq!(choice.limits.time, Some(framefd::limits::COMMAND_TIME));
                if inquiry.client.key().unwrap().as_str() == "a" {
                    return Ok(());
                }
                if inquiry.command == b"forbidden" {
                    return Err(Error::new(ErrorKind::Denied, "not for b"));
                }
                choice.directory = Some(path.clone());
                choice.environment.additions.push((b"WHOSE".to_vec(), b"b's".to_vec()));
                choice.confinement.umask = Some(0o037);
                choice.limits.time = Some(Duration::from_millis(300));
                if is_root {
                    choice.confinement.user = Some((USER, GROUPS[0]));
                    choice.groups = GROUPS[1..].to_vec();
                }
                Ok(())
            };
            let policy = Some(Box::new(policy) as _);
            server.serve_commands(Commands { policy, ..Commands::default() }).unwrap();
        });
        let connect = |byte| {
            let mut client = running.client();
            client.auth_client(&key(byte), LONG).unwrap();
            client
        };
        let (mut a, mut b) = (connect(1), connect(2));
        let here = std::env::current_dir().unwrap().to_str().unwrap().to_owned();
        assert_eq!(run(&mut a, "pwd; echo $WHOSE").unwrap(), format!("{here}\n\n"));
        let there = dir.path().to_str().unwrap();
        assert_eq!(
            run(&mut b, "pwd; echo $WHOSE; umask").unwrap(),
            format!("{there}\nb's\n0037\n")
        );
        let error = run(&mut b, "forbidden").unwrap_err();
        assert_eq!((error.kind(), error.detail()), (ErrorKind::RemoteDenied, "not for b"));
        assert!(run(&mut a, "forbidden").is_ok());
        // What the request wishes comes on top.
        let options = ExecRequest {
            cwd: Some("sub".into()),
            env: Some(vec![("WHOSE".into(), "mine".into())]),
            ..ExecRequest::default()
        };
        fs::create_dir_all(dir.path().join("sub")).unwrap();
        let request = ExecCommand { command: b"pwd; echo $WHOSE", input: b"", options };
        let reply = exec::call(&mut b, &request, LONG).unwrap();
        assert_eq!(reply.stdout(), format!("{there}/sub\nmine\n").as_bytes());
        let request = ExecCommand { command: b"sleep 1000", ..ExecCommand::default() };
        let reply = exec::call(&mut b, &request, LONG).unwrap();
        assert_eq!(reply.outcome(), Outcome::TimedOut);
        if is_root {
            let who = run(&mut b, "id -u; id -G; : >made").unwrap();
            assert_eq!(who, format!("{USER}\n{} {} {}\n", GROUPS[0], GROUPS[1], GROUPS[2]));
            let made = fs::metadata(dir.path().join("made")).unwrap();
            assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (USER, GROUPS[0], 0o640));
            assert_eq!(run(&mut a, "id -u").unwrap(), "0\n");
        }
        drop((a, b));
        running.stop();
    }
}

/// Whatever it is, with its input.
#[test]
fn a_policy_may_have_something_else_run() {
    let running = Running::plain(0, |server| {
        let policy = |inquiry: &exec::Inquiry<'_>, choice: &mut exec::Choice| {
            let asked = inquiry.request.argv.as_ref().map(|argv| argv.join("|").into_bytes());
            let asked = asked.unwrap_or_else(|| inquiry.command.to_vec());
            choice.environment.additions.push((b"ASKED".to_vec(), asked));
            choice.command = Some(b"echo \"$ASKED\"; cat".to_vec());
            Ok(())
        };
        let policy = Some(Box::new(policy) as _);
        server.serve_commands(Commands { policy, ..Commands::default() }).unwrap();
    });
    let mut client = running.client();
    assert_eq!(run(&mut client, "rm -rf /").unwrap(), "rm -rf /\n");
    let argv = Some(vec!["rm".to_owned(), "a b".to_owned()]);
    let options = ExecRequest { argv, ..ExecRequest::default() };
    let request = ExecCommand { options, input: b"input", ..ExecCommand::default() };
    let reply = exec::call(&mut client, &request, LONG).unwrap();
    assert_eq!(reply.stdout(), b"rm|a b\ninput");
    drop(client);
    running.stop();
}

#[test]
fn groups_need_a_user() {
    let running = Running::plain(0, |server| {
        let policy = |_: &exec::Inquiry<'_>, choice: &mut exec::Choice| {
            choice.groups = vec![1];
            Ok(())
        };
        let policy = Some(Box::new(policy) as _);
        server.serve_commands(Commands { policy, ..Commands::default() }).unwrap();
    });
    let mut client = running.client();
    assert_eq!(run(&mut client, "id").unwrap_err().kind(), ErrorKind::RemoteBadRequest);
    drop(client);
    running.stop();
}

#[test]
fn a_policy_chooses_what_each_client_may_do_with_files_and_where() {
    for workers in WORKERS {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let open = |n: usize| OwnedFd::from(fs::File::open(dirs[n].path()).unwrap());
        let own = Arc::new(open(1));
        let options = ServerOptions { workers, access: keyed(), ..ServerOptions::default() };
        let running = Running::start(options, |server| {
            let policy = move |inquiry: &file::Inquiry<'_>, choice: &mut file::Choice| {
                assert!(inquiry.client.address().unwrap().starts_with("127.0.0.1:"));
                match inquiry.client.key().unwrap().as_str() {
                    "a" => {
                        choice.root = Some(Arc::clone(&own));
                        choice.max_size = Some(10);
                        choice.mode = Some(0o600);
                        // They are not the server's to give.
                        choice.rights = Rights::ALL;
                    }
                    _ => choice.rights = Rights::READ,
                }
                Ok(())
            };
            let rights = Rights { replace: false, ..Rights::ALL };
            let options = file::ServeOptions { rights, ..file::ServeOptions::default() };
            server
                .serve_files(Files { root: open(0), options, policy: Some(Box::new(policy)) })
                .unwrap();
        });
        let connect = |byte| {
            let mut client = running.client();
            client.auth_client(&key(byte), LONG).unwrap();
            client
        };
        let (mut a, mut b) = (connect(1), connect(2));
        let source = |content: &str| {
            let path = dirs[2].path().join("source");
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            path
        };
        let path = source("content");
        fs::write(dirs[0].path().join("b's"), "here").unwrap();
        file::put(&mut a, &Transfer::path(b"new", &path), None).unwrap();
        let made = dirs[1].path().join("new");
        assert_eq!(fs::read(&made).unwrap(), b"content");
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o600);
        file::mkdir(&mut a, b"dir/below", None, true, LONG).unwrap();
        assert!(dirs[1].path().join("dir/below").is_dir());
        let again = file::put(&mut a, &Transfer::path(b"new", &path), None);
        assert_eq!(kind(again), ErrorKind::RemoteExists);
        let path = source("much too long");
        let long = file::put(&mut a, &Transfer::path(b"long", &path), None);
        assert_eq!(kind(long), ErrorKind::RemoteTooBig);
        let denied = file::put(&mut b, &Transfer::path(b"new", &path), None);
        assert_eq!(kind(denied), ErrorKind::RemoteDenied);
        for (client, name) in [(&mut a, "new"), (&mut b, "b's")] {
            let there = file::list(client, b"", LONG).unwrap();
            assert!(there.iter().any(|entry| entry.name == name.as_bytes()), "{there:?}");
            let copy = dirs[2].path().join(name);
            file::get(client, &Transfer::path(name.as_bytes(), &copy), None).unwrap();
        }
        drop((a, b));
        running.stop();
    }
}

/// A server at a Unix socket, which says who its client is.
fn at_a_unix_socket(
    access: Access,
    look: impl FnOnce(&Server, &dyn Fn() -> Connection<'static>) + Send,
) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let options = ServerOptions { access, workers: 1, ..ServerOptions::default() };
    let server = Server::new(options).unwrap();
    server.listen(OwnedFd::from(UnixListener::bind(&path).unwrap())).unwrap();
    server
        .handle("who", BodyMode::Whole, |connection, request| {
            let Credentials { pid, uid, gid } = request.client.credentials().unwrap();
            assert_eq!(request.client.address().as_deref(), Some("unix:"));
            let who = format!("{pid} {uid} {gid}");
            connection.reply(request.header.text(), None, who.as_bytes(), None)
        })
        .unwrap();
    let policy = |inquiry: &exec::Inquiry<'_>, _: &mut exec::Choice| {
        let pid = inquiry.client.credentials().unwrap().pid;
        assert_eq!(pid, std::process::id().cast_signed());
        Ok(())
    };
    let policy = Some(Box::new(policy) as _);
    server.serve_commands(Commands { policy, ..Commands::default() }).unwrap();
    let connect = || {
        let socket = UnixStream::connect(&path).unwrap();
        Connection::new(OwnedFd::from(socket), ConnectionOptions::default()).unwrap()
    };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.run());
        let stopper = server.stopper();
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            look(&server, &connect);
        }));
        stopper.stop();
        running.join().unwrap().unwrap();
        looked.unwrap();
    });
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[test]
fn the_process_at_a_unix_socket_is_known() {
    at_a_unix_socket(Access::default(), |_, connect| {
        let mut client = connect();
        let reply = client.call(r#"{"cmd":"who"}"#, b"", LONG).unwrap();
        let gid = rustix::process::getegid().as_raw();
        let expected = format!("{} {} {gid}", std::process::id(), own_uid());
        assert_eq!(reply.body, expected.as_bytes());
        run(&mut client, "true").unwrap();
        // It works both ways.
        let server = client.client().credentials().unwrap();
        assert_eq!((server.pid, server.uid), (std::process::id().cast_signed(), own_uid()));
    });
}

#[test]
fn only_these_users_are_served_at_a_unix_socket() {
    for ring in [false, true] {
        let access = |users| {
            let access = if ring { sealed() } else { Access::default() };
            Access { users: Some(users), ..access }
        };
        let start = |connect: &dyn Fn() -> Connection<'static>| {
            let mut client = connect();
            if ring {
                prove(&mut client, &sealed());
            }
            client
        };
        at_a_unix_socket(access(vec![1, own_uid()]), |server, connect| {
            start(connect).call(r#"{"cmd":"who"}"#, b"", LONG).unwrap();
            assert_eq!(server.counters().refused_auth, 0);
        });
        at_a_unix_socket(access(vec![own_uid() + 1]), |server, connect| {
            let mut client = start(connect);
            let error = client.call(r#"{"cmd":"who"}"#, b"", LONG).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RemoteDenied);
            assert!(error.detail().contains("this user may not use the server"), "{error}");
            assert_eq!(kind(client.next(LONG)), ErrorKind::Closed);
            assert_eq!(server.counters().refused_auth, 1);
        });
    }
    // Nobody is asked for a user elsewhere.
    let access = Access { users: Some(vec![]), ..Access::default() };
    let running = Running::start(ServerOptions { access, ..ServerOptions::default() }, |_| ());
    echo(&mut running.client(), "over TCP").unwrap();
    running.stop();
}
