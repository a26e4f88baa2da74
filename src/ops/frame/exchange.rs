//! Exchanges on a connection: a request and its reply. One that fails halfway breaks the
//! connection.

use super::connection::Connection;
use super::message::Message;
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Time;
use crate::wire::json::header::Header;
use crate::wire::message::{self, Id};

impl<'fd> Connection<'fd> {
    /// Runs an exchange. If it fails after a byte of its request was accepted, and not by an
    /// error reply, the connection is broken: a late reply must not be taken for that of the
    /// next request.
    pub(crate) fn exchange<T>(
        &mut self,
        work: impl FnOnce(&mut Connection<'fd>) -> Result<T>,
    ) -> Result<T> {
        self.check_exchange()?;
        if self.sending.to_send() > 0 {
            let detail = "the body of a message is still being sent";
            return Err(Error::new(ErrorKind::State, detail));
        }
        let before = self.accepted();
        let outcome = work(self);
        if let Err(error) = &outcome
            && !error.kind().is_remote()
            && self.accepted() > before
        {
            self.shared.break_by(error);
        }
        outcome
    }

    /// Fails for packets: requests and replies need headers.
    pub(crate) fn check_exchange(&self) -> Result<()> {
        self.shared.check()?;
        self.receiving.check_format()
    }

    /// The id of the library's next request: `~1`, `~2` and so on.
    pub(crate) fn next_id(&mut self) -> Id {
        self.requests += 1;
        Id::Text(format!("~{}", self.requests))
    }

    /// Whether a frame is the reply to the request with this id. If the first reply has no id,
    /// the peer does not repeat ids. After a reply with an id, one without is accepted only if
    /// it is the error `bad_request`: the peer could not read the id.
    pub(crate) fn check_answer(&mut self, answer: &Header, asked: &Id) -> Result<()> {
        let fields = answer.fields()?;
        // One that cannot be read is there all the same.
        let id = fields.id();
        let has_id = !matches!(id, Ok(None));
        let is_ours = match &id {
            Ok(Some(id)) => id == asked,
            Err(_) => false,
            Ok(None) => {
                self.echoes != Some(true)
                    || message::check_reply(&fields)
                        .is_err_and(|error| error.kind() == ErrorKind::RemoteBadRequest)
            }
        };
        if !is_ours {
            return Err(Error::new(ErrorKind::BadReply, "it is the reply to another request"));
        }
        if has_id || self.echoes.is_none() {
            self.echoes = Some(has_id);
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
            connection.check_answer(&reply, &id)?;
            let max = connection.max_body();
            let body = connection.body_by(max, time.time_limit())?;
            let fields = reply.fields()?;
            message::check_reply(&fields)?;
            if fields.text("status")?.as_deref() != Some("ok") {
                return Err(Error::new(ErrorKind::BadReply, "it has no \"status\":\"ok\""));
            }
            Ok(Message { header: Some(reply), body: body.into() })
        })
    }
}
