//! Functions of the host that fork, and children that return from them.
#![allow(unsafe_code)] // fork(2)

use std::fs::File;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use framefd::file::ServeOptions;
use framefd::frame::Connection;
use framefd::serve::{BodyMode, FilePolicy, Files, Request};
use framefd::{Error, ErrorKind};

use crate::common::exec::LONG;
use crate::{Running, WORKERS, echo, refused};

/// The parent returns once the child has ended: its thread is over when the server's function is.
fn fork() {
    // SAFETY: the child returns to the server.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    let mut status = 0;
    if child > 0 {
        // SAFETY: its own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}

/// The child has the same sockets and the same epoll. It leaves everything alone that had an event
/// at the same time, and accepts nobody.
#[test]
fn a_child_that_returns_from_a_handler_serves_nobody() {
    for workers in WORKERS {
        let (let_go, gone) = channel::<()>();
        let gone = Mutex::new(gone);
        let running = Running::plain(workers, |server| {
            let hold = move |_: &mut Connection<'static>, _: &Request<'_>| {
                gone.lock().unwrap().recv_timeout(LONG).unwrap();
                Ok(())
            };
            server.handle("hold", BodyMode::Whole, hold).unwrap();
            let fork = |_: &mut Connection<'static>, _: &Request<'_>| {
                fork();
                Ok(())
            };
            server.handle("fork", BodyMode::Whole, fork).unwrap();
        });
        let [mut holds, mut forks, mut other] = [(); 3].map(|()| running.client());
        for client in [&mut holds, &mut forks, &mut other] {
            echo(client, "before").unwrap();
        }
        holds.send(Some(r#"{"cmd":"hold"}"#), b"", LONG).unwrap();
        running.wait_until("it is held", |counters| counters.requests_now == 1);
        forks.send(Some(r#"{"cmd":"fork"}"#), b"", LONG).unwrap();
        other.send(Some(r#"{"cmd":"echo"}"#), b"meanwhile", LONG).unwrap();
        let mut new = running.client();
        new.send(Some(r#"{"cmd":"echo"}"#), b"at last", LONG).unwrap();
        let_go.send(()).unwrap();
        for client in [&mut holds, &mut forks, &mut other, &mut new] {
            client.recv(LONG).unwrap();
            echo(client, "after").unwrap();
        }
        drop((holds, forks, other, new));
        running.stop();
    }
}

/// A policy is asked where a request takes long.
#[test]
fn a_child_that_returns_from_a_policy_takes_no_client_away() {
    let dir = tempfile::tempdir().unwrap();
    for workers in WORKERS {
        let running = Running::plain(workers, |server| {
            let root = File::open(dir.path()).unwrap().into();
            let policy: FilePolicy = Box::new(|inquiry, _| {
                fork();
                match inquiry.name {
                    b"denied" => Err(Error::new(ErrorKind::Denied, "")),
                    _ => Ok(()),
                }
            });
            let files = Files { root, options: ServeOptions::default(), policy: Some(policy) };
            server.serve_files(files).unwrap();
        });
        let mut client = running.client();
        for _ in 0..2 {
            client.call(r#"{"cmd":"stat","filename":""}"#, b"", LONG).unwrap();
            let denied = r#"{"cmd":"stat","filename":"denied"}"#;
            assert_eq!(refused(&mut client, denied, b"").0, ErrorKind::RemoteDenied);
            echo(&mut client, "after").unwrap();
        }
        drop(client);
        running.stop();
    }
}
