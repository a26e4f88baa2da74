//! A socket with something in its error queue, which poll(2) reports for as long as the host does
//! not read it: no call takes that for input, for room, or for a client that is gone.
#![allow(unsafe_code)]

use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use framefd::ops::exec::{self, Running, ServeOptions, Served};
use framefd::ops::frame::{self, Connection};
use framefd::{ErrorKind, Result};
use serde_json::json;

use crate::common::channel::{fill, tcp};
use crate::common::exec::{LONG, connect, serve_next, within};
use crate::common::kind;
use crate::common::stream::{limited, send, shell};

/// Both ends of a connection; the first one has the time of a transmission in its error queue.
fn with_an_error_queue() -> (TcpStream, TcpStream) {
    let (mut ours, mut theirs) = tcp();
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_TX_SOFTWARE
        | libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    let (option, level, name) = (&raw const flags, libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
    // SAFETY: the kernel reads four bytes of it.
    assert_eq!(unsafe { libc::setsockopt(ours.as_raw_fd(), level, name, option.cast(), 4) }, 0);
    std::io::Write::write_all(&mut ours, b"x").unwrap();
    std::io::Read::read_exact(&mut theirs, &mut [0]).unwrap();
    (ours, theirs)
}

const SHORT: Duration = Duration::from_millis(20);

/// A call on the connection, whose socket is the last argument.
type Call = fn(&mut Connection<'_>, Duration, &TcpStream) -> Result<()>;

fn command(connection: &mut Connection<'_>) -> Running {
    Running::start(connection, &shell("x"), LONG).unwrap()
}

#[test]
fn every_timeout_holds() {
    let calls: [Call; 9] = [
        |connection, time, _| connection.recv(time).map(drop),
        |connection, time, _| connection.call("{}", b"", time.max(SHORT)).map(drop),
        |connection, time, _| command(connection).read(connection, &mut [0], time).map(drop),
        |connection, time, _| command(connection).finish(connection, time).map(drop),
        |connection, time, _| {
            let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
            let outputs = [null.as_fd(), null.as_fd()];
            command(connection).copy(connection, None, outputs, time)
        },
        |_, time, socket| frame::recv(socket.as_fd(), &within(time)).map(drop),
        |connection, time, socket| {
            let mut running = command(connection);
            fill(socket);
            running.end_input(connection, time)
        },
        |connection, time, socket| {
            fill(socket);
            connection.send(None, b"", time).map(drop)
        },
        |_, time, socket| {
            fill(socket);
            frame::send(socket.as_fd(), None, b"", &within(time))
        },
    ];
    for (number, call) in calls.into_iter().enumerate() {
        // To fill a socket takes long.
        for time in [SHORT, Duration::ZERO].into_iter().take(if number < 6 { 2 } else { 1 }) {
            let (ours, _theirs) = with_an_error_queue();
            let start = Instant::now();
            let late = kind(call(&mut connect(ours.as_fd()), time, &ours));
            assert_eq!((late, start.elapsed() >= time), (ErrorKind::TimedOut, true), "{number}");
        }
    }
}

#[test]
fn a_command_runs_to_its_end() {
    // The close of a client ends a command after this time.
    let options = ServeOptions { close_grace: Duration::from_millis(1), ..limited() };
    for stream in [true, false] {
        let (ours, theirs) = with_an_error_queue();
        send(theirs.as_fd().into(), &json!({"cmd": "exec", "stream": stream}), COMMAND);
        let served = serve_next(&mut connect(ours.as_fd()), &options);
        assert!(matches!(served, Ok(Served::Ran(report)) if report.reply.exit_code == Some(3)));
    }
    let (ours, _theirs) = with_an_error_queue();
    let served = exec::run_and_reply(ours.as_fd().into(), COMMAND, &options);
    assert!(matches!(served, Ok(Served::Ran(report)) if report.reply.exit_code == Some(3)));
}

const COMMAND: &[u8] = b"sleep 0.1; exit 3";
