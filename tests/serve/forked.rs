//! Handlers that fork, and children that return from them.
#![allow(unsafe_code)] // fork(2)

use std::sync::Mutex;
use std::sync::mpsc::channel;

use framefd::frame::Connection;
use framefd::serve::{BodyMode, Request};

use crate::common::exec::LONG;
use crate::{Running, WORKERS, echo};

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
                // SAFETY: the child returns to the server, which ends its thread.
                let child = unsafe { libc::fork() };
                assert!(child >= 0);
                let mut status = 0;
                if child > 0 {
                    // SAFETY: its own child.
                    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                    assert_eq!(status, 0);
                }
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
