//! The threads of a server: the only ones that the library starts.
//!
//! They wait for the poller themselves, since to pass each request to another thread takes a
//! third of the time of a small one. All signals are blocked in them. A thread with a request that
//! takes long is replaced, so that as many as the host asked for serve the others.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use rustix::io::Errno;

use super::locked;
use crate::error::{Error, ErrorKind, Result};
use crate::io::signal;

pub(super) struct Pool {
    /// Threads for requests that do not take long.
    workers: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Threads that are not about to end.
    count: AtomicUsize,
}

impl Pool {
    pub(super) fn new(workers: usize) -> Pool {
        Pool { workers, threads: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// Starts the threads, each with its `work`.
    pub(super) fn start<W: FnOnce() + Send + 'static>(&self, work: impl Fn() -> W) -> Result<()> {
        while self.count.load(Ordering::Acquire) < self.workers {
            self.spawn(work())?;
        }
        Ok(())
    }

    /// This thread begins a request that takes long, one of `running`. Fails if no thread would be
    /// left for the others.
    pub(super) fn begin_long(
        &self,
        running: usize,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let free = self.count.load(Ordering::Acquire).saturating_sub(running);
        if free >= self.workers {
            return Ok(());
        }
        self.spawn(work).or_else(|error| if free > 0 { Ok(()) } else { Err(error) })
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.count.fetch_add(1, Ordering::AcqRel);
        let builder = Builder::new().name("framefd".into());
        let started = signal::with_all_blocked(|| builder.spawn(work)).map_err(|error| {
            self.count.fetch_sub(1, Ordering::AcqRel);
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
            Error::system_as(ErrorKind::Io, "start a thread", errno)
        })?;
        let mut threads = locked(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(started);
        Ok(())
    }

    /// Whether this thread is one that nobody needs while `running` requests take long; it is not
    /// counted then.
    pub(super) fn leave(&self, running: usize) -> bool {
        let needed = self.workers + running;
        let less = |count: usize| (count > needed).then(|| count - 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }

    /// Waits until all threads have ended.
    pub(super) fn join(&self) {
        let threads = std::mem::take(&mut *locked(&self.threads));
        for thread in threads {
            let _ = thread.join();
        }
        self.count.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use rustix::io::Errno;

    use std::time::Duration;

    use super::*;
    use crate::io::testing;
    use crate::ops::exec;
    use crate::ops::frame::{Connection, ConnectionOptions};
    use crate::ops::serve::{BodyMode, Commands, Limits, Server, ServerOptions};

    const NO_THREADS: [(libc::c_long, Errno); 1] = [(libc::SYS_clone3, Errno::AGAIN)];

    fn server(workers: usize) -> Server {
        let limits = Limits { max_commands: 4, ..Limits::default() };
        Server::new(ServerOptions { workers, limits, ..ServerOptions::default() }).unwrap()
    }

    #[test]
    fn a_server_without_its_threads_does_not_run() {
        let errno = testing::failing(&NO_THREADS, || server(2).run().unwrap_err().errno());
        assert_eq!(errno, Errno::AGAIN.raw_os_error());
    }

    /// A request that takes long needs another thread for the others: without one it is refused,
    /// unless there are others.
    #[test]
    fn a_long_request_without_a_thread_for_the_others_is_refused() {
        for workers in [1, 2] {
            let server = server(workers);
            server.serve_commands(Commands::default()).unwrap();
            // From then on the thread that has served this starts no other.
            let poison = BodyMode::Whole;
            server
                .handle("poison", poison, |_, _| {
                    testing::fail(&NO_THREADS);
                    Ok(())
                })
                .unwrap();
            let (ours, theirs) = UnixStream::pair().unwrap();
            server.add(OwnedFd::from(theirs)).unwrap();
            let stopper = server.stopper();
            let running = std::thread::spawn(move || server.run());
            let mut client =
                Connection::new(OwnedFd::from(ours), ConnectionOptions::default()).unwrap();
            for _ in 0..4 * workers {
                client.call(r#"{"cmd":"poison"}"#, b"", None).unwrap();
            }
            let request = exec::Request { command: b"true", ..exec::Request::default() };
            let outcome = exec::call(&mut client, &request, Duration::from_secs(20));
            let kind = outcome.err().map(|error| error.kind());
            // Of two, one is left for the others.
            assert_eq!(kind, (workers == 1).then_some(ErrorKind::RemoteBusy));
            client.call(r#"{"cmd":"poison"}"#, b"", None).unwrap();
            drop(client);
            stopper.stop();
            running.join().unwrap().unwrap();
        }
    }
}
