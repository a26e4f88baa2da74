//! Exchanges on a connection: a request and its reply. One that fails halfway breaks the
//! connection.

use super::connection::Connection;
use super::message::Message;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Time};
use crate::wire::json::reader::Fields;
use crate::wire::message::{self, Id, ReplyKind};

impl<'fd> Connection<'fd> {
    /// Runs an exchange. If it fails after a byte of its request was accepted, and not by an
    /// error reply, the connection is broken: a late reply must not be taken for that of the
    /// next request.
    ///
    /// A peer may refuse a request before it has read all of it, and read no more: then the error
    /// reply is the outcome, and the connection is broken.
    pub(crate) fn exchange<T>(
        &mut self,
        work: impl FnOnce(&mut Connection<'fd>) -> Result<T>,
    ) -> Result<T> {
        self.check_exchange()?;
        if self.sending.to_send() > 0 && self.send_failure().is_none() {
            let detail = "the body of a message is still being sent";
            return Err(Error::new(ErrorKind::State, detail));
        }
        let before = self.accepted();
        work(self).map_err(|error| self.failed(error, before))
    }

    /// The outcome of an exchange that failed, and of which this much was accepted before.
    #[cold]
    fn failed(&mut self, error: Error, before: u64) -> Error {
        let is_cut = self.send_failure().is_some() || self.queued() > 0 || self.to_send() > 0;
        let error = match error.kind() {
            ErrorKind::Io | ErrorKind::TimedOut if is_cut => self.refusal().unwrap_or(error),
            _ => error,
        };
        if (is_cut || !error.kind().is_remote()) && self.accepted() > before {
            self.shared.break_by(&error);
        }
        error
    }

    /// The error reply to the last request, if the peer sent one before it stopped reading.
    fn refusal(&mut self) -> Option<Error> {
        let reply = self.receiving.header(None, &mut Deadline::PAST.into()).ok()?;
        let asked = numbered(self.requests);
        let refused = self.check_reply(&reply.fields().ok()?, &asked, ReplyKind::Ok).err();
        refused.filter(|error| error.kind().is_remote())
    }

    /// Fails for packets: requests and replies need headers.
    pub(crate) fn check_exchange(&self) -> Result<()> {
        self.shared.check()?;
        self.receiving.check_format()
    }

    /// The id of the library's next request: `~1`, `~2` and so on.
    pub(crate) fn next_id(&mut self) -> Id {
        self.requests += 1;
        numbered(self.requests)
    }

    /// Whether the peer is known to repeat ids.
    pub(crate) fn repeats_ids(&self) -> bool {
        self.has_repeated_id
    }

    /// Checks that a received frame answers the request with this id. If the first answer has no
    /// id, the peer does not repeat ids. After one with an id, and after a handshake, one without
    /// is accepted only if it is the error `bad_request`: the peer could not read the id.
    pub(crate) fn check_answer(&mut self, answer: &Fields<'_>, asked: &Id) -> Result<()> {
        let bad = |detail: &'static str| Err(Error::new(ErrorKind::BadReply, detail));
        if answer.has("cmd") {
            return bad("it is a request, and not a reply");
        }
        // One that cannot be read is there all the same.
        let id = answer.id();
        let has_id = !matches!(id, Ok(None));
        let is_ours = match &id {
            Ok(Some(id)) => id == asked,
            Err(_) => false,
            Ok(None) => {
                self.echoes != Some(true)
                    || message::check_reply(answer)
                        .is_err_and(|error| error.kind() == ErrorKind::RemoteBadRequest)
            }
        };
        if !is_ours {
            return bad("it is the reply to another request");
        }
        self.has_repeated_id |= has_id;
        if has_id || self.echoes.is_none() {
            self.echoes = Some(has_id);
        }
        Ok(())
    }

    /// Checks that the frame whose header was received last is the reply to the request with
    /// this id, and of this kind. An error reply is an error of a remote kind.
    pub(crate) fn check_reply(
        &mut self,
        reply: &Fields<'_>,
        asked: &Id,
        kind: ReplyKind,
    ) -> Result<()> {
        self.check_answer(reply, asked)?;
        let bad = |detail: &'static str| Err(Error::new(ErrorKind::BadReply, detail));
        match message::check_reply(reply) {
            Err(error) if error.kind().is_remote() && self.to_receive() > 0 => {
                return bad("an error reply has a body");
            }
            checked => checked?,
        }
        if !kind.is_of(reply, self.echoes == Some(false))? {
            return bad(kind.missing());
        }
        Ok(())
    }

    /// Sends a request with an id of the library and receives its reply, which has
    /// `"status":"ok"`. An error reply is an error of a remote kind.
    pub fn call(&mut self, header: &str, body: &[u8], timeout: impl Into<Time>) -> Result<Message> {
        let mut time = timeout.into();
        if time.is_none() {
            return Err(Error::new(ErrorKind::Argument, "a call has to wait for its reply"));
        }
        let id = self.next_id();
        let header = message::with_id(header, &id)?;
        self.exchange(|connection| {
            connection.send_by(Some(&header), [body, &[]], time.time_limit())?;
            let reply = connection.header_by(time.time_limit())?;
            connection.check_reply(&reply.fields()?, &id, ReplyKind::Ok)?;
            let max = connection.max_body();
            let body = connection.body_by(max, time.time_limit())?;
            Ok(Message { header: Some(reply), body: body.into() })
        })
    }
}

fn numbered(request: u64) -> Id {
    Id::Text(format!("~{request}"))
}
