//! The beginning and the end of each request: it is counted, and the host is told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::common::Common;
use super::log::add;
use super::peer::Peer;
use super::served::{Account, Noted, Served};
use super::service::Service;
use crate::error::ErrorKind;
use crate::io::signal;
use crate::ops::frame::{Client, Connection};
use crate::wire::frame::head::PREFIX_SIZE;
use crate::wire::json::header::Header;
use crate::wire::message::exec::ExecReply;
use crate::wire::message::file::FileName;

impl Peer {
    /// A request begins: its header has come.
    pub(super) fn open(&mut self, common: &Common, header: &Header) {
        self.is_open = true;
        let (Some(audit), Some(connection)) = (&mut self.audit, &self.connection) else { return };
        let cmd = header.cmd().unwrap_or_default();
        let what = match common.services().get(&cmd) {
            Some(Service::File) => FileName::in_request(header).map_or(Noted::Nothing, Noted::File),
            _ => Noted::Nothing,
        };
        audit.open = Some(Box::new(Account {
            begun: Instant::now(),
            header: header.text().to_owned(),
            cmd: cmd.into_owned(),
            what,
            command: None,
            received: connection.position(),
            sent: connection.accepted(),
        }));
    }

    /// Notes a command, and the reply to it if it ran.
    pub(super) fn note(&mut self, what: Noted, command: Option<ExecReply>) {
        if let Some(account) = self.audit.as_mut().and_then(|audit| audit.open.as_mut()) {
            (account.what, account.command) = (what, command);
        }
    }

    /// The request that has begun is over, if there is one. It is counted, and the host is told.
    pub(super) fn conclude(&mut self, common: &Common, error: Option<ErrorKind>) {
        let is_here = |connection: &Connection<'_>| connection.shared().is_here();
        let is_open = std::mem::take(&mut self.is_open);
        // A handler may have forked, and this be the child.
        if !is_open || !self.connection.as_deref().is_none_or(is_here) {
            return;
        }
        add(&common.counts.requests, 1);
        add(&common.counts.errors, u64::from(error.is_some()));
        let (Some(audit), Some(function)) = (&mut self.audit, &common.options.served) else {
            return;
        };
        let Some(account) = audit.open.take() else { return };
        let key = common.options.access.ring.is_some().then_some(&self.key);
        let (mut bytes_in, mut bytes_out) = (0, 0);
        if let Some(connection) = &self.connection {
            let head = (PREFIX_SIZE + account.header.len()) as u64;
            let taken = connection.position().saturating_sub(account.received);
            let left = match &self.ahead {
                Some((_, body_len)) => body_len.saturating_add(head),
                None => connection.to_receive(),
            };
            let came = taken + left.min(connection.buffered() as u64);
            bytes_in = came.saturating_sub(head);
            bytes_out = connection.accepted().saturating_sub(account.sent);
        }
        let served = Served {
            client: Client::known(key, &audit.address, audit.credentials),
            header: &account.header,
            cmd: &account.cmd,
            what: account.what.shown(),
            error,
            command: account.command.as_ref(),
            bytes_in,
            bytes_out,
            time: account.begun.elapsed(),
        };
        // The host may write to a pipe that nobody reads any more. A panic in it is not ours.
        let told = AssertUnwindSafe(|| signal::with_blocked(|| function(&served)));
        let _ = catch_unwind(told);
    }
}
