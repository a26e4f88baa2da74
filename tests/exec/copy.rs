//! A streamed command whose input comes from a descriptor, and whose output goes to two.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::channel::{Kind, fill, flags, set_blocking, socket_pair, unread};
use crate::common::exec::{LONG, Presence, serve};
use crate::common::process::{alone, peak_memory, thread_cpu_time};
use crate::common::stream::{Remote, limited, serving, shell, shell_with, start};
use crate::common::{kind, sealing};
use framefd::ops::exec::Served;
use framefd::wire::message::exec::ExecRequest;
use framefd::{Duplex, ErrorKind, Result};
use rustix::io::Errno;

const SHORT: Duration = Duration::from_millis(50);

fn pipe() -> (OwnedFd, OwnedFd) {
    let channel = Kind::Pipe.open();
    (channel.reader, channel.writer)
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

/// Runs `command` with these three, and what became of it.
fn copy(
    command: &str,
    stdin: Option<BorrowedFd<'_>>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> Result<i32> {
    let (client, server) = socket_pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            let server = server;
            let _ = serve(server.as_fd().into(), &limited());
        });
        let client = client;
        let mut remote = start(client.as_fd().into(), &shell(command));
        remote.copy(stdin, stdout, stderr, Some(LONG))?;
        Ok(remote.reply().unwrap().exit_code.unwrap())
    })
}

#[test]
fn a_command_is_fed_and_drained_by_descriptors_of_every_kind() {
    let large = vec![b'x'; 3 << 20];
    for input in [b"".as_slice(), b"abc", &large] {
        for kind in Kind::ALL {
            for blocking in [true, false] {
                let (from, to) = (kind.open(), kind.open());
                for fd in [&from.reader, &to.writer] {
                    set_blocking(fd, blocking);
                }
                let errors = tempfile::tempfile().unwrap();
                let before = (flags(&from.reader), flags(&to.writer));
                let output = thread::scope(|scope| {
                    let mut feeding = File::from(from.writer);
                    // It stays open: what a closed terminal has not delivered is lost.
                    let feeding = scope.spawn(move || {
                        feeding.write_all(input).unwrap();
                        feeding
                    });
                    let draining = scope.spawn(|| {
                        let mut output = vec![0; input.len() + 4];
                        File::from(to.reader).read_exact(&mut output).unwrap();
                        output
                    });
                    let command =
                        format!("head -c {}; echo end; echo err >&2; exit 4", input.len());
                    let code = copy(
                        &command,
                        Some(from.reader.as_fd()),
                        to.writer.as_fd(),
                        errors.as_fd(),
                    );
                    assert_eq!(code.unwrap(), 4, "{kind:?} {blocking}");
                    feeding.join().unwrap();
                    draining.join().unwrap()
                });
                assert!(output == [input, b"end\n"].concat(), "{kind:?} {blocking}");
                assert_eq!((flags(&from.reader), flags(&to.writer)), before);
                assert_eq!(rustix::fs::fstat(&errors).unwrap().st_size, 4);
            }
        }
    }
}

#[test]
fn a_file_is_ready_at_any_time() {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(&vec![b'x'; 1 << 20]).unwrap();
    input.rewind().unwrap();
    let mut output = tempfile::tempfile().unwrap();
    let code = copy("cat; echo end", Some(input.as_fd()), output.as_fd(), output.as_fd());
    assert_eq!(code.unwrap(), 0);
    let mut text = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut text).unwrap();
    assert_eq!(text.len(), (1 << 20) + 4);
    // The same where the input ends at once, or is none.
    for stdin in [Some(null()), None] {
        let stdin = stdin.as_ref().map(std::os::fd::AsFd::as_fd);
        assert_eq!(copy("cat; exit 5", stdin, null().as_fd(), null().as_fd()).unwrap(), 5);
    }
}

#[test]
fn the_end_of_the_command_does_not_wait_for_input() {
    // Nothing more comes from the one, and always more from the other.
    let (quiet, _writer) = pipe();
    let zero = File::open("/dev/zero").unwrap();
    for stdin in [quiet.as_fd(), zero.as_fd()] {
        for command in ["exit 3", "exec <&-; sleep 0.1; exit 3"] {
            let code = copy(command, Some(stdin), null().as_fd(), null().as_fd());
            assert!(matches!(code, Ok(3)), "{command}: {code:?}");
        }
    }
}

#[test]
fn an_output_that_nobody_reads_any_more_is_named() {
    alone("copy::an_output_that_nobody_reads_any_more_is_named", || {
        for (command, name) in [("yes", "standard output"), ("yes >&2", "standard error")] {
            let presence = Presence::new();
            let (reader, writer) = pipe();
            let null = null();
            let (stdout, stderr) = match name {
                "standard output" => (writer.as_fd(), null.as_fd()),
                _ => (null.as_fd(), writer.as_fd()),
            };
            let error = thread::scope(|scope| {
                scope.spawn(move || {
                    File::from(reader).read_exact(&mut [0; 1000]).unwrap();
                });
                copy(&presence.of(command), None, stdout, stderr).unwrap_err()
            });
            assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, Errno::PIPE.raw_os_error()));
            assert!(error.detail().starts_with(name), "{error}");
            // The connection is closed, and that ends the command.
            presence.wait_for_end();
        }
        let error =
            copy("cat", Some(File::open("/").unwrap().as_fd()), null().as_fd(), null().as_fd());
        let error = error.unwrap_err();
        assert_eq!(error.errno(), Errno::ISDIR.raw_os_error());
        assert!(error.detail().starts_with("standard input"), "{error}");
    });
}

#[test]
fn a_copy_goes_on_where_its_time_was_up() {
    let (client, server) = socket_pair();
    let client: Duplex<'_> = client.as_fd().into();
    let (stdin, feeding) = pipe();
    let (draining, stdout) = pipe();
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell("cat; head -c 1000000 /dev/zero"));
        let copy = |remote: &mut Remote<'_>, timeout| {
            remote.copy(Some(stdin.as_fd()), stdout.as_fd(), stdout.as_fd(), Some(timeout))
        };
        let start = Instant::now();
        assert_eq!(kind(copy(&mut remote, SHORT)), ErrorKind::TimedOut, "no input");
        assert!((SHORT..LONG).contains(&start.elapsed()));
        rustix::io::write(&feeding, b"abc").unwrap();
        drop(feeding);
        assert_eq!(kind(copy(&mut remote, SHORT)), ErrorKind::TimedOut, "nobody takes the output");
        // What is held is handed out by a read as well.
        let mut got = unread(&draining);
        let mut buf = [0; 1000];
        got += remote.read(&mut buf, Some(LONG)).unwrap().unwrap().1 as u64;
        let total = thread::scope(|scope| {
            let draining = scope.spawn(|| {
                let mut total = 0;
                let mut buf = vec![0; 70_000];
                while total < 3 + 1_000_000 - 1000 {
                    total += rustix::io::read(&draining, &mut buf).unwrap();
                }
                total
            });
            copy(&mut remote, LONG).unwrap();
            draining.join().unwrap()
        });
        assert!(got > 1000 && total == 3 + 1_000_000 - 1000);
        assert_eq!(remote.reply().unwrap().stdout_total, Some(1_000_003));
    });
    assert!(matches!(ran.unwrap(), Served::Ran(_)));
}

#[test]
fn a_signal_is_sent_while_nobody_takes_the_output() {
    let (client, server) = socket_pair();
    let client: Duplex<'_> = client.as_fd().into();
    let (draining, stdout) = pipe();
    fill(&stdout);
    let presence = Presence::new();
    let command = presence.of("yes");
    let (ran, ()) = serving(server.as_fd().into(), &limited(), || {
        let mut remote = start(client, &shell(&command));
        let control = remote.connection.handle();
        thread::scope(|scope| {
            scope.spawn(|| {
                presence.wait_for_begin();
                control.signal(libc::SIGKILL).unwrap();
                presence.wait_for_end();
                let mut draining = File::from(draining);
                std::io::copy(&mut draining, &mut null()).unwrap();
            });
            let stdout = stdout;
            remote.copy(None, stdout.as_fd(), stdout.as_fd(), Some(LONG)).unwrap();
        });
        assert_eq!(remote.reply().unwrap().signal, Some(libc::SIGKILL));
    });
    ran.unwrap();
}

#[test]
fn a_copy_takes_no_memory_and_no_time_while_nothing_happens() {
    if sealing::leaves_out(sealing::ROOM) {
        return;
    }
    alone("copy::a_copy_takes_no_memory_and_no_time_while_nothing_happens", || {
        let before = peak_memory();
        let zero = File::open("/dev/zero").unwrap();
        let command = "head -c 100000000; head -c 100000000 /dev/zero >&2";
        let (client, server) = socket_pair();
        thread::scope(|scope| {
            scope.spawn(|| {
                let server = server;
                serve(server.as_fd().into(), &limited()).unwrap();
            });
            let mut remote = start(client.as_fd().into(), &shell(command));
            let null = null();
            remote.copy(Some(zero.as_fd()), null.as_fd(), null.as_fd(), Some(LONG)).unwrap();
            let reply = remote.reply().unwrap();
            let totals = (reply.stdout_total, reply.stderr_total);
            assert_eq!(totals, (Some(100_000_000), Some(100_000_000)));
        });
        assert!(peak_memory() - before < 8 << 20, "{}", peak_memory() - before);

        let (client, server) = socket_pair();
        let (stdin, _writer) = pipe();
        let (_reader, full) = pipe();
        fill(&full);
        let client: Duplex<'_> = client.as_fd().into();
        let options = ExecRequest { timeout_ms: Some(500), ..ExecRequest::default() };
        let (_, used) = serving(server.as_fd().into(), &limited(), || {
            let mut remote = start(client, &shell_with("yes", options));
            let start = thread_cpu_time();
            let copied =
                remote.copy(Some(stdin.as_fd()), full.as_fd(), full.as_fd(), Some(SHORT * 6));
            assert_eq!(kind(copied), ErrorKind::TimedOut);
            let used = thread_cpu_time().saturating_sub(start);
            remote.copy(None, null().as_fd(), null().as_fd(), Some(LONG)).unwrap();
            used
        });
        assert!(used < SHORT, "{used:?}");
    });
}

#[test]
fn descriptors_are_named_that_cannot_be_used() {
    let read_only = File::open("/dev/null").unwrap();
    let write_only = File::options().write(true).open("/dev/null").unwrap();
    for (stdin, stdout, name) in
        [(&write_only, &write_only, "standard input"), (&read_only, &read_only, "standard output")]
    {
        let error = copy("cat; echo", Some(stdin.as_fd()), stdout.as_fd(), write_only.as_fd());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadDescriptor);
        assert!(error.detail().starts_with(name), "{error}");
    }
    assert!(fs::metadata(format!("/proc/self/fd/{}", read_only.as_raw_fd())).is_ok());
}
