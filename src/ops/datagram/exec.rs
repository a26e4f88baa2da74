//! Commands requested in datagrams. Each runs at most once, even if datagrams are lost, repeated
//! or reordered.

use std::mem;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::process::fork::Origin;
use crate::io::stream::datagram::{self, Address};
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::datagram::exchange::exchange;
use crate::ops::datagram::replay::{Admission, Asked, Now, Table, name_of, wall};
use crate::ops::exec::{self, Reply, Report, Request, ServeOptions, Served};
use crate::wire;
use crate::wire::auth::{Key, fill_random};
use crate::wire::datagram::DatagramKeys;
use crate::wire::datagram::parts::{Mark, Parts};
use crate::wire::json::header::Header;
use crate::wire::json::reader::Fields;
use crate::wire::json::writer::Writer;
use crate::wire::message::exec::{ExecReply, ExecRequest, OnClose};
use crate::wire::message::{self, ErrorReply, Id, Message as _, ReplyKind};
use rustix::io::Errno;

/// Serves exec requests in datagrams, and remembers the replies. Any number of threads may serve
/// with one at the same time, on one descriptor or several.
///
/// With a key, a datagram gets no answer if its tag is wrong, or if it was made more than 30 s
/// ago or before this server. Without a key all users of this machine are served, and nobody
/// else.
#[derive(Debug)]
pub struct Server {
    keys: Option<DatagramKeys>,
    table: Mutex<Table>,
    start: Instant,
    origin: Origin,
}

/// Outcome of a received datagram.
#[derive(Debug)]
pub enum Answer {
    /// It was a new request.
    Served {
        /// What the reply says.
        served: Served,
        /// Why the reply, or a part of it, could not be sent. The client will ask again.
        unsent: Option<Error>,
    },
    /// It was a repeated request: its reply was sent again if it was still stored.
    Repeated,
    /// It got no answer, for this reason.
    Ignored(Error),
}

impl Server {
    /// A server for clients that hold `key`, or without a key for those on this machine.
    pub fn new(key: Option<&Key>) -> Result<Server> {
        let keys = key.map(DatagramKeys::derive).transpose()?;
        let start = Instant::now();
        let table = Mutex::new(Table::new(Now::since(start), keys.is_some()));
        Ok(Server { keys, table, start, origin: Origin::here() })
    }

    /// Receives one datagram within `timeout`, and answers it. Only a descriptor that fails,
    /// [`ErrorKind::TimedOut`] and an interrupt are errors, and [`ErrorKind::Forked`]: two
    /// processes do not know of each other's requests, and would run one twice.
    pub fn serve(
        &self,
        fd: BorrowedFd<'_>,
        timeout: Option<Duration>,
        options: &ServeOptions<'_>,
    ) -> Result<Answer> {
        if !self.origin.is_here() {
            return Err(Error::new(ErrorKind::Forked, ""));
        }
        let mut buffer = vec![0; limits::DATAGRAM_HARD];
        let deadline = Deadline::from_timeout(timeout);
        let (datagram, source) = loop {
            match datagram::recv(fd, &mut buffer, deadline, options.interrupt) {
                Ok(received) => break received,
                Err(error) if error.kind() == ErrorKind::Limit => {
                    return Ok(Answer::Ignored(error));
                }
                Err(error) if is_of_an_earlier_datagram(&error) => {
                    if deadline.passed() {
                        return Err(Error::new(ErrorKind::TimedOut, ""));
                    }
                }
                Err(error) => return Err(error),
            }
        };
        match self.answer(fd, datagram, source.as_ref(), options) {
            Err(error) if error.kind() != ErrorKind::Canceled => Ok(Answer::Ignored(error)),
            answer => answer,
        }
    }

    /// An error is a datagram that gets no answer.
    fn answer(
        &self,
        fd: BorrowedFd<'_>,
        datagram: &[u8],
        source: Option<&Address>,
        options: &ServeOptions<'_>,
    ) -> Result<Answer> {
        if self.keys.is_none() && !datagram::is_local(fd, source) {
            return Err(Error::new(ErrorKind::Denied, "without a key only this machine is served"));
        }
        let key = self.keys.as_ref().map(|keys| &keys.request);
        let (header, body) = wire::datagram::decode(datagram, key)?;
        let fields = header.fields()?;
        if ["status", "exit_code", "part"].iter().any(|key| fields.has(key)) {
            // Two servers that answered each other would never stop.
            return Err(Error::new(ErrorKind::BadField, "it is a reply"));
        }
        let mark = Mark::of(&fields)?;
        let asked = self.asked(&mark, source)?;
        let missing = fields.numbers("missing");
        if let Ok(Some(missing)) = &missing
            && !missing.is_empty()
        {
            return self.send_missing(fd, source, asked, missing);
        }
        // Unlocked again before anything is sent or run.
        let admission = self.table().admit(asked, self.now())?;
        let mut running = match admission {
            Admission::Run => Running { server: self, name: Some(asked.name) },
            Admission::Repeated(reply) => {
                if let Some(reply) = reply {
                    // If it is lost again, the client asks again.
                    let _ = self.send(fd, source, &reply, &mut (0..reply.count()));
                }
                return Ok(Answer::Repeated);
            }
        };
        let outcome = missing.and_then(|_| self.run(&fields, &header, body, &mark, options));
        let (served, reply) = match outcome {
            Ok((reply, parts)) => (Served::Ran(Report { reply, client_gone: false }), parts),
            Err(error) if error.kind() == ErrorKind::Canceled => return Err(error),
            Err(error) => {
                let text = error.to_string();
                let reply = ErrorReply::new(error.kind(), &text, None);
                let parts = self.parts(&mark, &|header| reply.write(header), Vec::new())?;
                (Served::failed(error), parts)
            }
        };
        let reply = Arc::new(reply);
        running.end(Some(&reply));
        let unsent = self.send(fd, source, &reply, &mut (0..reply.count())).err();
        Ok(Answer::Served { served, unsent })
    }

    /// Sends parts of a reply again. Nothing is run for a client that has some of them.
    fn send_missing(
        &self,
        fd: BorrowedFd<'_>,
        source: Option<&Address>,
        asked: Asked,
        missing: &[u32],
    ) -> Result<Answer> {
        let known = self.table().find(asked, self.now())?;
        let Admission::Repeated(reply) = known else {
            return Err(Error::new(ErrorKind::Denied, "it asks for parts of no known reply"));
        };
        if let Some(reply) = reply {
            let missing = missing.iter().copied().take(limits::DATAGRAM_MISSING);
            // As above.
            let _ = self.send(fd, source, &reply, &mut missing.filter(|at| *at < reply.count()));
        }
        Ok(Answer::Repeated)
    }

    /// Runs a request: the header of the reply, and the datagrams that bring it.
    fn run(
        &self,
        fields: &Fields<'_>,
        header: &Header,
        command: &[u8],
        mark: &Mark,
        options: &ServeOptions<'_>,
    ) -> Result<(ExecReply, Parts)> {
        if message::Request::of(fields)?.cmd != "exec" {
            return Err(Error::new(ErrorKind::Unsupported, "only exec is served here"));
        }
        let (reply, body) = exec::run_request(header, command, options)?;
        let parts = self.parts(mark, &|header| reply.write(header), body)?;
        Ok((reply, parts))
    }

    fn parts(&self, mark: &Mark, reply: &dyn Fn(&mut Writer), body: Vec<u8>) -> Result<Parts> {
        let key = self.keys.as_ref().map(|keys| &keys.reply);
        Parts::new(mark.clone(), reply, body, key, limits::DATAGRAM_SEND)
    }

    /// Sends datagrams of a reply. Short pauses let the client empty its queue, which would
    /// otherwise drop some. All of them together wait as long as one for a client that does not.
    fn send(
        &self,
        fd: BorrowedFd<'_>,
        to: Option<&Address>,
        reply: &Parts,
        numbers: &mut dyn Iterator<Item = u32>,
    ) -> Result<()> {
        let key = self.keys.as_ref().map(|keys| &keys.reply);
        let deadline = Deadline::after(limits::DATAGRAM_REPLY_TIMEOUT);
        let mut burst = 0;
        for number in numbers {
            let datagram = reply.datagram(number, key)?;
            burst += datagram.len();
            if burst > limits::DATAGRAM_BURST {
                std::thread::sleep(PAUSE);
                burst = datagram.len();
            }
            datagram::send(fd, to, &datagram, deadline, None)?;
        }
        Ok(())
    }

    /// Identifies a request in the table.
    fn asked(&self, mark: &Mark, source: Option<&Address>) -> Result<Asked> {
        if matches!(&mark.id, Id::Text(text) if text.len() > limits::DATAGRAM_ID) {
            return Err(Error::new(ErrorKind::BadField, "its id is too long"));
        }
        let nonce = mark.nonce.as_deref().map(parse_nonce).transpose()?;
        let address = name_of(&source);
        match (&self.keys, mark.time, nonce) {
            (None, _, _) => {
                Ok(Asked { name: name_of(&(address, &mark.id)), source: address, time: None })
            }
            (Some(_), Some(time), Some(name)) => {
                Ok(Asked { name, source: address, time: Some(time) })
            }
            _ => Err(Error::new(ErrorKind::Missing, "a request has a time and a nonce")),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No panic leaves the table half-changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now::since(self.start)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.origin.is_here() && self.table.try_lock().is_err() {
            // In this child of fork(2) there is no thread that would finish its change.
            let empty = Table::new(self.now(), false);
            let table = self.table.get_mut().unwrap_or_else(PoisonError::into_inner);
            mem::forget(mem::replace(table, empty));
        }
    }
}

/// A request that was admitted. If there is no reply, perhaps because of a panic, it still
/// counts as run.
struct Running<'a> {
    server: &'a Server,
    name: Option<u128>,
}

impl Running<'_> {
    fn end(&mut self, reply: Option<&Arc<Parts>>) {
        if let Some(name) = self.name.take() {
            self.server.table().finish(name, reply, self.server.now());
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Runs a command at the server that the socket is connected to, and returns its reply. The
/// command runs at most once; after an error it may not have run. It may run as long as
/// `timeout`, unless [`OnClose::Run`] is requested.
///
/// The request is sent again until the whole reply was received. Replies and errors are as for
/// [`exec::call`]. [`ErrorKind::TimedOut`]: no complete reply in time. If nobody receives and
/// the network reports that, it is [`ErrorKind::Io`] with ECONNREFUSED at once.
pub fn request(
    fd: BorrowedFd<'_>,
    request: &Request<'_>,
    timeout: Option<Duration>,
    key: Option<&Key>,
    interrupt: Option<&Interrupt>,
) -> Result<Reply> {
    if !request.input.is_empty() {
        return Err(Error::new(ErrorKind::Argument, "a request in a datagram has no input"));
    }
    let deadline = Deadline::from_timeout(timeout);
    let keys = key.map(DatagramKeys::derive).transpose()?;
    let mark = new_mark(keys.is_some())?;
    let max_output = request.options.max_output.unwrap_or(limits::DATAGRAM_OUTPUT);
    let asked = ExecRequest {
        id: None,
        max_output: Some(max_output),
        timeout_ms: command_time(&request.options, timeout),
        ..request.options.clone()
    };
    let max_body = usize::try_from(max_output.saturating_mul(2)).unwrap_or(usize::MAX);
    let key = keys.as_ref().map(|keys| &keys.request);
    let encode =
        |header: &str, body| wire::datagram::encode(Some(header), body, key, limits::DATAGRAM_HARD);
    let first = encode(&marked(&mark, &|header| asked.write(header)), request.command)?;
    let datagram = |missing: &[u32]| {
        if missing.is_empty() {
            return Ok(first.clone());
        }
        encode(&marked(&mark, &|header| header.numbers("missing", Some(missing))), &[])
    };
    let key = keys.as_ref().map(|keys| &keys.reply);
    let (header, body) = exchange(fd, datagram, &mark, key, max_body, (deadline, interrupt))?;
    let fields = header.fields()?;
    message::check_reply(&fields)?;
    if !ReplyKind::Exec.is_of(&fields, false)? {
        return Err(Error::new(ErrorKind::BadReply, ReplyKind::Exec.missing()));
    }
    Reply::new(message::read_reply(&header)?, body)
}

/// How long the command may run: no longer than its client waits for the reply, unless it is to
/// run on without a client. Otherwise commands whose clients have given up would fill a server.
fn command_time(options: &ExecRequest, exchange: Option<Duration>) -> Option<u64> {
    if options.on_close == Some(OnClose::Run) {
        return options.timeout_ms;
    }
    let waits = exchange.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
    [options.timeout_ms, waits].into_iter().flatten().min()
}

fn parse_nonce(text: &str) -> Result<u128> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let nonce = u128::from_str_radix(text, 16).ok().filter(|_| digits);
    nonce.ok_or_else(|| Error::new(ErrorKind::BadField, "its nonce is not 32 hex digits"))
}

/// The header of a request that carries `mark`.
fn marked(mark: &Mark, write: &dyn Fn(&mut Writer)) -> String {
    message::request("exec", &|header| {
        mark.write(header);
        write(header);
    })
}

fn new_mark(with_key: bool) -> Result<Mark> {
    let (mut id, mut nonce) = ([0; 8], [0; 16]);
    fill_random(&mut id)?;
    fill_random(&mut nonce)?;
    Ok(Mark {
        id: Id::Text(format!("{:016x}", u64::from_ne_bytes(id))),
        time: with_key.then(wall),
        nonce: with_key.then(|| format!("{:032x}", u128::from_ne_bytes(nonce))),
    })
}

/// Whether a receive failed because of a datagram that was sent before: a connected socket
/// reports such errors on receive (ip(7), IP_RECVERR).
fn is_of_an_earlier_datagram(error: &Error) -> bool {
    let complaints = [
        Errno::CONNREFUSED,
        Errno::HOSTUNREACH,
        Errno::HOSTDOWN,
        Errno::NETUNREACH,
        Errno::NOPROTOOPT,
        Errno::MSGSIZE,
        Errno::PROTO,
    ];
    complaints.iter().any(|errno| errno.raw_os_error() == error.errno())
}

/// Enough for a client on the same machine to be scheduled.
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd as _;

    use super::*;

    fn key() -> Key {
        Key::new(&[5; 32]).unwrap()
    }

    fn answer(server: &Server, datagram: &[u8], source: &str) -> Result<Answer> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let source: SocketAddr = source.parse().unwrap();
        server.answer(socket.as_fd(), datagram, Some(&source.into()), &ServeOptions::default())
    }

    /// The error for which a request for `true` with this header is ignored.
    fn ignored(key: Option<&Key>, header: &str) -> Option<ErrorKind> {
        let server = Server::new(key).unwrap();
        let tag_key = key.map(|key| DatagramKeys::derive(key).unwrap());
        let max = limits::DATAGRAM_HARD;
        let datagram = {
            let key = tag_key.as_ref().map(|keys| &keys.request);
            wire::datagram::encode(Some(header), b"true", key, max)
        };
        let outcome = answer(&server, &datagram.unwrap(), "127.0.0.1:9");
        outcome.err().map(|error| error.kind())
    }

    #[test]
    fn without_a_key_only_this_machine_is_served() {
        let header = r#"{"cmd":"exec","id":1}"#;
        let datagram = wire::datagram::encode(Some(header), b"true", None, 1000).unwrap();
        let server = Server::new(None).unwrap();
        for source in ["10.0.0.1:5", "[2001:db8::1]:5", "[::ffff:10.0.0.1]:5"] {
            let error = answer(&server, &datagram, source).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{source}");
        }
        for source in ["127.0.0.1:5", "127.1.2.3:5"] {
            let answer = answer(&server, &datagram, source).unwrap();
            assert!(matches!(answer, Answer::Served { served: Served::Ran(_), .. }), "{source}");
        }
    }

    #[test]
    fn with_a_key_every_address_is_served() {
        let key = key();
        let keys = DatagramKeys::derive(&key).unwrap();
        let server = Server::new(Some(&key)).unwrap();
        let mark = new_mark(true).unwrap();
        let header = message::request("exec", &|header| mark.write(header));
        let datagram = wire::datagram::encode(Some(&header), b"true", Some(&keys.request), 1000);
        let answer = answer(&server, &datagram.unwrap(), "192.0.2.1:5").unwrap();
        assert!(matches!(answer, Answer::Served { served: Served::Ran(_), .. }));
    }

    #[test]
    fn a_request_needs_an_id_and_with_a_key_a_time_and_a_nonce() {
        let time = wall() + 1000; // the server is not there yet
        let nonce = "0123456789abcdefABCDEF0123456789";
        let key = key();
        let with = |rest: &str| format!(r#"{{"cmd":"exec",{rest}}}"#);
        let good = with(&format!(r#""id":"x","time":{time},"nonce":"{nonce}""#));
        let long_id = with(&format!(r#""id":"{}""#, "x".repeat(257)));
        assert_eq!(ignored(Some(&key), &good), None);
        assert_eq!(ignored(None, &with(r#""id":"x""#)), None);
        for (key, header, kind) in [
            (None, r#"{"cmd":"exec"}"#.to_owned(), ErrorKind::BadField),
            (None, r#"{"cmd":7}"#.to_owned(), ErrorKind::BadField),
            (None, with(r#""id":1,"status":"ok""#), ErrorKind::BadField),
            (None, r#"{"id":1,"exit_code":0}"#.to_owned(), ErrorKind::BadField),
            (None, r#"{"id":1,"part":1,"parts":2}"#.to_owned(), ErrorKind::BadField),
            (None, with(r#""id":1.5"#), ErrorKind::BadField),
            (None, long_id, ErrorKind::BadField),
            (None, with(r#""id":1,"nonce":"12""#), ErrorKind::BadField),
            (None, with(r#""id":1,"missing":[0]"#), ErrorKind::Denied),
            (Some(&key), with(r#""id":1"#), ErrorKind::Missing),
            (Some(&key), with(&format!(r#""id":1,"nonce":"{nonce}""#)), ErrorKind::Missing),
            (Some(&key), with(&format!(r#""id":1,"time":{time}"#)), ErrorKind::Missing),
            (Some(&key), good.replace("0123", "01+3"), ErrorKind::BadField),
            (Some(&key), good.replace("0123", "123"), ErrorKind::BadField),
            (Some(&key), good.replace(&time.to_string(), "\"1\""), ErrorKind::BadField),
            (Some(&key), good.replace(&time.to_string(), "1"), ErrorKind::Denied),
        ] {
            assert_eq!(ignored(key, &header), Some(kind), "{header}");
        }
    }

    #[test]
    fn a_request_that_was_given_up_has_run_all_the_same() {
        let server = Server::new(None).unwrap();
        let asked = Asked { name: 1, source: 2, time: None };
        let admit = || server.table().admit(asked, server.now()).unwrap();
        assert!(matches!(admit(), Admission::Run));
        drop(Running { server: &server, name: Some(1) });
        assert!(matches!(admit(), Admission::Repeated(None)));
    }
}
