//! Commands requested in datagrams. Each runs at most once, even if datagrams are lost, repeated
//! or reordered.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::stream::datagram::{self, Address};
use crate::limits;
use crate::ops::datagram::exchange::exchange;
use crate::ops::datagram::replay::{Admission, Name, Now, Origin, Table};
use crate::ops::exec::{self, Reply, Report, Request, ServeOptions, Served};
use crate::wire;
use crate::wire::auth::{Key, fill_random};
use crate::wire::datagram::DatagramKey;
use crate::wire::datagram::parts::{self, Mark};
use crate::wire::json::header::Header;
use crate::wire::json::writer::Writer;
use crate::wire::message::exec::{ExecReply, ExecRequest};
use crate::wire::message::{self, ErrorReply, Id, Message as _};
use rustix::io::Errno;

/// Serves exec requests in datagrams, and remembers the replies. Any number of threads may serve
/// with one at the same time, on one descriptor or several.
///
/// With a key, a datagram gets no answer if its tag is wrong, or if it was made more than 30 s
/// ago or before this server. Without a key all users of this machine are served, and nobody
/// else.
#[derive(Debug)]
pub struct Server {
    key: Option<DatagramKey>,
    table: Mutex<Table>,
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
        let key = key.map(DatagramKey::derive).transpose()?;
        Ok(Server { key, table: Mutex::new(Table::new(Now::read())) })
    }

    /// Receives one datagram within `timeout`, and answers it. Only a descriptor that
    /// fails and [`ErrorKind::TimedOut`] are errors.
    pub fn serve(
        &self,
        fd: BorrowedFd<'_>,
        timeout: Option<Duration>,
        options: &ServeOptions<'_>,
    ) -> Result<Answer> {
        let mut buffer = vec![0; limits::DATAGRAM_HARD];
        let deadline = Deadline::from_timeout(timeout);
        let (datagram, source) = loop {
            match datagram::recv(fd, &mut buffer, deadline, None) {
                Ok(received) => break received,
                Err(error) if error.kind() == ErrorKind::Limit => {
                    return Ok(Answer::Ignored(error));
                }
                Err(error) if is_of_an_earlier_datagram(&error) => {}
                Err(error) => return Err(error),
            }
        };
        Ok(self.answer(fd, datagram, source.as_ref(), options).unwrap_or_else(Answer::Ignored))
    }

    /// An error is a datagram that gets no answer.
    fn answer(
        &self,
        fd: BorrowedFd<'_>,
        datagram: &[u8],
        source: Option<&Address>,
        options: &ServeOptions<'_>,
    ) -> Result<Answer> {
        if self.key.is_none() && !datagram::is_local(fd, source) {
            return Err(Error::new(ErrorKind::Denied, "without a key only this machine is served"));
        }
        let (header, body) = wire::datagram::decode(datagram, self.key.as_ref())?;
        let fields = header.fields()?;
        let mark = Mark::of(&fields)?;
        let request = message::Request::of(&fields)?;
        let name = self.name(&mark, source)?;
        let missing = fields.numbers("missing")?.unwrap_or_default();
        if !missing.is_empty() {
            return self.send_missing(fd, source, &name, &missing);
        }
        let origin = Origin { source: source.cloned(), time: self.key.as_ref().and(mark.time) };
        // Unlocked again before anything is sent or run.
        let admission = self.table().admit(&name, origin, Now::read())?;
        let reply = match admission {
            Admission::Run => Running { server: self, name: Some(name) },
            Admission::Repeated(reply) => {
                // If it is lost again, the client asks again.
                let _ = send_all(fd, source, reply.iter().flat_map(|reply| reply.iter()));
                return Ok(Answer::Repeated);
            }
        };
        let outcome = self.run(&request.cmd, &header, body, &mark, options);
        let (served, datagrams) = match outcome {
            Ok((reply, datagrams)) => {
                (Served::Ran(Report { reply, client_gone: false }), datagrams)
            }
            Err(error) => {
                let text = error.to_string();
                let reply = ErrorReply::new(error.kind(), &text, None);
                let datagrams = self.split(&mark, &|header| reply.write(header), &[])?;
                (Served::failed(error), datagrams)
            }
        };
        let datagrams: Arc<[Vec<u8>]> = datagrams.into();
        reply.finish(Arc::clone(&datagrams));
        let unsent = send_all(fd, source, datagrams.iter()).err();
        Ok(Answer::Served { served, unsent })
    }

    /// Sends parts of a reply again. Nothing is run for a client that has some of them.
    fn send_missing(
        &self,
        fd: BorrowedFd<'_>,
        source: Option<&Address>,
        name: &Name,
        missing: &[u32],
    ) -> Result<Answer> {
        let known = self.table().find(name, source)?;
        let Admission::Repeated(reply) = known else {
            return Err(Error::new(ErrorKind::Denied, "it asks for parts of no known reply"));
        };
        let part = |number: &u32| reply.as_ref()?.get(usize::try_from(*number).ok()?);
        let datagrams = missing.iter().take(limits::DATAGRAM_MISSING).filter_map(part);
        // As above.
        let _ = send_all(fd, source, datagrams);
        Ok(Answer::Repeated)
    }

    /// Runs a request: the reply, and the datagrams that bring it.
    fn run(
        &self,
        cmd: &str,
        header: &Header,
        command: &[u8],
        mark: &Mark,
        options: &ServeOptions<'_>,
    ) -> Result<(ExecReply, Vec<Vec<u8>>)> {
        if cmd != "exec" {
            return Err(Error::new(ErrorKind::Unsupported, "only exec is served here"));
        }
        let (reply, body) = exec::run_request(header, command, options)?;
        let datagrams = self.split(mark, &|header| reply.write(header), &body)?;
        Ok((reply, datagrams))
    }

    fn split(&self, mark: &Mark, reply: &dyn Fn(&mut Writer), body: &[u8]) -> Result<Vec<Vec<u8>>> {
        parts::split(mark, reply, body, self.key.as_ref(), limits::DATAGRAM_SEND)
    }

    /// Identifies a request in the table.
    fn name(&self, mark: &Mark, source: Option<&Address>) -> Result<Name> {
        if matches!(&mark.id, Id::Text(text) if text.len() > limits::DATAGRAM_ID) {
            return Err(Error::new(ErrorKind::BadField, "its id is too long"));
        }
        let nonce = mark.nonce.as_deref().map(parse_nonce).transpose()?;
        match (&self.key, mark.time, nonce) {
            (None, _, _) => Ok(Name::Id(source.cloned(), mark.id.clone())),
            (Some(_), Some(_), Some(nonce)) => Ok(Name::Nonce(nonce)),
            _ => Err(Error::new(ErrorKind::Missing, "a request has a time and a nonce")),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No panic leaves the table half-changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that was admitted. If there is no reply, perhaps because of a panic, it still
/// counts as run.
struct Running<'a> {
    server: &'a Server,
    name: Option<Name>,
}

impl Running<'_> {
    fn finish(mut self, reply: Arc<[Vec<u8>]>) {
        if let Some(name) = self.name.take() {
            self.server.table().finish(&name, Some(reply), Now::read());
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.server.table().finish(&name, None, Now::read());
        }
    }
}

/// Runs a command at the server that the socket is connected to, and returns its reply. The
/// command runs at most once; after an error it may not have run.
///
/// The request is sent again until the whole reply was received. Replies and errors are as for
/// [`exec::call`]. [`ErrorKind::TimedOut`]: no complete reply in time. If nobody receives and
/// the network reports that, it is [`ErrorKind::Io`] with ECONNREFUSED at once.
pub fn request(
    fd: BorrowedFd<'_>,
    request: &Request<'_>,
    timeout: Option<Duration>,
    key: Option<&Key>,
) -> Result<Reply> {
    if !request.input.is_empty() {
        return Err(Error::new(ErrorKind::Argument, "a request in a datagram has no input"));
    }
    let deadline = Deadline::from_timeout(timeout);
    let key = key.map(DatagramKey::derive).transpose()?;
    let mark = new_mark(key.is_some())?;
    let max_output = request.options.max_output.unwrap_or(limits::DATAGRAM_OUTPUT);
    let asked = ExecRequest { id: None, max_output: Some(max_output), ..request.options.clone() };
    let max_body = usize::try_from(max_output.saturating_mul(2)).unwrap_or(usize::MAX);
    let key = key.as_ref();
    let encode =
        |header: &str, body| wire::datagram::encode(Some(header), body, key, limits::DATAGRAM_HARD);
    let first = encode(&marked(&mark, &|header| asked.write(header)), request.command)?;
    let datagram = |missing: &[u32]| {
        if missing.is_empty() {
            return Ok(first.clone());
        }
        encode(&marked(&mark, &|header| header.numbers("missing", Some(missing))), &[])
    };
    let (header, body) = exchange(fd, datagram, &mark, key, max_body, deadline)?;
    let fields = header.fields()?;
    message::check_reply(&fields)?;
    Reply::new(ExecReply::of(&fields)?, body)
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
        time: with_key.then(|| Now::read().wall()),
        nonce: with_key.then(|| format!("{:032x}", u128::from_ne_bytes(nonce))),
    })
}

/// Sends datagrams of a reply. Short pauses let the client empty its queue, which would
/// otherwise drop some.
fn send_all<'a>(
    fd: BorrowedFd<'_>,
    to: Option<&Address>,
    datagrams: impl Iterator<Item = &'a Vec<u8>>,
) -> Result<()> {
    let mut burst = 0;
    for datagram in datagrams {
        burst += datagram.len();
        if burst > limits::DATAGRAM_BURST {
            std::thread::sleep(PAUSE);
            burst = datagram.len();
        }
        datagram::send(fd, to, datagram, Deadline::after(limits::DATAGRAM_REPLY_TIMEOUT), None)?;
    }
    Ok(())
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
        let tag_key = key.map(|key| DatagramKey::derive(key).unwrap());
        let max = limits::DATAGRAM_HARD;
        let datagram = wire::datagram::encode(Some(header), b"true", tag_key.as_ref(), max);
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
        let tag_key = DatagramKey::derive(&key).unwrap();
        let server = Server::new(Some(&key)).unwrap();
        let mark = new_mark(true).unwrap();
        let header = message::request("exec", &|header| mark.write(header));
        let datagram = wire::datagram::encode(Some(&header), b"true", Some(&tag_key), 1000);
        let answer = answer(&server, &datagram.unwrap(), "192.0.2.1:5").unwrap();
        assert!(matches!(answer, Answer::Served { served: Served::Ran(_), .. }));
    }

    #[test]
    fn a_request_needs_an_id_and_with_a_key_a_time_and_a_nonce() {
        let time = Now::read().wall() + 1000; // the server is not there yet
        let nonce = "0123456789abcdefABCDEF0123456789";
        let key = key();
        let with = |rest: &str| format!(r#"{{"cmd":"exec",{rest}}}"#);
        let good = with(&format!(r#""id":"x","time":{time},"nonce":"{nonce}""#));
        let long_id = with(&format!(r#""id":"{}""#, "x".repeat(257)));
        assert_eq!(ignored(Some(&key), &good), None);
        assert_eq!(ignored(None, &with(r#""id":"x""#)), None);
        for (key, header, kind) in [
            (None, r#"{"cmd":"exec"}"#.to_owned(), ErrorKind::BadField),
            (None, r#"{"id":1}"#.to_owned(), ErrorKind::BadField),
            (None, with(r#""id":1.5"#), ErrorKind::BadField),
            (None, long_id, ErrorKind::BadField),
            (None, with(r#""id":1,"nonce":"12""#), ErrorKind::BadField),
            (None, with(r#""id":1,"missing":[0]"#), ErrorKind::Denied),
            (None, with(r#""id":1,"missing":[-1]"#), ErrorKind::BadField),
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
        let name = Name::Id(None, Id::Number(1));
        let origin = Origin { source: None, time: None };
        let admit = || server.table().admit(&name, origin.clone(), Now::read()).unwrap();
        assert!(matches!(admit(), Admission::Run));
        drop(Running { server: &server, name: Some(name.clone()) });
        assert!(matches!(admit(), Admission::Repeated(None)));
    }
}
