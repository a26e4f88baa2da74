//! The server: stores files beneath its root, sends them, and describes them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use super::asking::Asking;
use super::content::{recv_trailer, send_content, send_trailer, skip_range};
use super::meter::{Flow, Meter, Pace};
use super::upload::{Plan, Upload};
use super::{Kind, ServeOptions, Stat, Transferred};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, TimeLimit};
use crate::io::fs::directory;
use crate::io::fs::identity::identity;
use crate::io::fs::partial::open_partial;
use crate::io::fs::range::seek;
use crate::io::fs::root::Root;
use crate::io::fs::store::StoreOptions;
use crate::limits;
use crate::ops::frame::Connection;
use crate::wire::digest::Digest;
use crate::wire::json::header::Header;
use crate::wire::message::exec::is_stream_request;
use crate::wire::message::file::{
    FileMode, GetReply, GetRequest, Overwrite, PathRequest, PutExtent, PutReply, PutRequest,
    StatReply, Working, done,
};
use crate::wire::message::{self, ErrorReply, Id};
use crate::wire::name::Name;
use crate::wire::quote;

/// Outcome of a request. The connection is in sync.
#[derive(Debug)]
pub enum Served {
    /// The request was served. A file that was stored or sent, or the list of a directory, is
    /// counted.
    Done(Transferred),
    /// The same, but the client has disconnected and did not wait for the reply, like the oldest
    /// clients. Messages that it sent before can still be received, then the end of the stream.
    Unanswered(Transferred),
    /// Nothing was done. An error reply was sent, unless the client has disconnected. If too much
    /// of the request was left, the connection is broken.
    Refused(Error),
}

/// Serves a put, get, stat, list, mkdir or symlink beneath `root`. `connection` has just
/// received its header, but not its body. Any other request is refused as unsupported.
///
/// A refusal is sent as soon as it is known. What is left of the request is then dropped, up to 16
/// MiB and for 30 s. After an error the connection is broken: close it. An error reply was sent if
/// possible, and nothing was stored, unless only the reply failed. A get whose file becomes
/// shorter meanwhile ends in such an error: by the close the client knows that its file is not
/// complete.
///
/// [`ErrorKind::State`] if a part of the body was received already, and
/// [`ErrorKind::BadDescriptor`] for a root that is not a directory: nothing was done.
pub fn serve(
    connection: &mut Connection<'_>,
    request: &Header,
    root: BorrowedFd<'_>,
    options: &ServeOptions<'_>,
) -> Result<Served> {
    let root = Root::new(root)?;
    connection.shared().check()?;
    if connection.to_receive() != request.data_size().unwrap_or(0) {
        return Err(Error::new(ErrorKind::State, "a part of the body was received before"));
    }
    let deadline = Deadline::from_timeout(options.timeout);
    let time_limit = TimeLimit { deadline, stall: options.stall };
    let id = message::id_of(request);
    let at_work = Working::is_asked(request).then(Instant::now);
    let served = Session { connection, options, time_limit, id, is_silent: false, at_work }
        .run(request, root);
    served.inspect_err(|error| connection.shared().break_by(error))
}

struct Session<'a, 'c, 'fd> {
    connection: &'c mut Connection<'fd>,
    options: &'a ServeOptions<'a>,
    time_limit: TimeLimit,
    id: Option<Id>,
    /// Nothing is answered.
    is_silent: bool,
    /// When the client is to be told next that the server is at work, if it wants to know.
    at_work: Option<Instant>,
}

impl Session<'_, '_, '_> {
    fn run(&mut self, request: &Header, root: Root<'_>) -> Result<Served> {
        let cmd = match request.string("cmd") {
            Ok(cmd) => cmd,
            Err(error) => return self.refuse_early(error, false),
        };
        match &*cmd {
            "put" => self.put(request, root),
            "get" | "stat" | "list" | "mkdir" | "symlink"
                if self.connection.to_receive() > limits::REFUSED =>
            {
                let error = Error::new(ErrorKind::TooBig, "the body of a request that needs none");
                self.refuse_early(error, false)
            }
            "get" => self.get(request, root),
            cmd @ ("stat" | "list" | "mkdir" | "symlink") => {
                self.skip(false).map_err(|error| self.give_up(error))?;
                match self.path(cmd, request, root) {
                    Ok((header, body)) => {
                        let bytes = body.len() as u64;
                        self.answer(&header, &body, Transferred { bytes, ..Default::default() })
                    }
                    Err(error) => self.refuse(error),
                }
            }
            other => {
                if is_stream_request(request.text()) {
                    self.connection.drop_late_input();
                }
                let detail = format!("{} is not served here", quote(other.as_bytes()));
                self.refuse_early(Error::new(ErrorKind::Unsupported, detail), false)
            }
        }
    }

    fn put(&mut self, request: &Header, root: Root<'_>) -> Result<Served> {
        let is_declared = request.data_size().is_some();
        self.is_silent = !self.options.reply && !is_declared;
        let extent = PutExtent::of(request).map_err(|error| self.give_up(error))?;
        if !is_declared {
            self.connection.expect_body(extent.body);
        }
        let flow = self.flow(None);
        let plan = Plan::new(request, root, self.options, self.connection.client());
        let begun = plan.and_then(|plan| Upload::begin(plan, root, &flow, &mut || self.go_on()));
        let mut upload = match begun {
            Ok(upload) => upload,
            Err(error) => return self.refuse_early(error, extent.trailer),
        };
        if upload.is_question() {
            drop(upload);
            return self.answer(&done(None, self.id.as_ref()), &[], Transferred::default());
        }
        let mut refused = None;
        let received = self.connection.for_each_chunk(upload.step(), self.time_limit, |piece| {
            upload.write(piece).inspect_err(|error| refused = Some(error.clone()))?;
            upload.pass(piece)
        });
        if let Some(error) = refused {
            drop(upload);
            return self.refuse_early(error, extent.trailer);
        }
        match received.and_then(|()| self.trailer(extent.trailer)) {
            Ok(trailer) => match self.finish(upload, trailer.as_ref()) {
                Ok((request, stored)) => {
                    let reply = PutReply {
                        id: request.id,
                        name: request.name,
                        filesize: Some(stored.bytes),
                        sha256: stored.sha256,
                        overwrite: request.overwrite.filter(|how| *how == Overwrite::InPlace),
                    };
                    self.answer(&reply.header(), &[], stored)
                }
                Err(error) => self.refuse(error),
            },
            Err(error) => {
                self.options.cut(upload.done());
                upload.cut(&error);
                Err(self.give_up(error))
            }
        }
    }

    /// Stores a file that was received. That is not interrupted once it has begun.
    fn finish(
        &mut self,
        upload: Upload<'_>,
        trailer: Option<&Header>,
    ) -> Result<(PutRequest, Transferred)> {
        // The client sees that its bytes are taken until now.
        self.at_work = self.at_work.and_then(|_| Instant::now().checked_add(limits::WORKING));
        upload.finish(trailer, &mut || drop(self.go_on()))
    }

    fn get(&mut self, request: &Header, root: Root<'_>) -> Result<Served> {
        self.skip(false).map_err(|error| self.give_up(error))?;
        let (request, stat, file, mut meter) = match self.open(request, root) {
            Ok(opened) => opened,
            Err(error) => return self.refuse(error),
        };
        let reply = GetReply {
            id: request.id,
            name: request.name,
            filesize: stat.size,
            mode: Some(FileMode(stat.mode)),
            mtime: Some(stat.mtime),
            sha256: None,
            trailer: (request.trailer == Some(true)).then_some(true),
        };
        let (header, file, time_limit) = (reply.header(), file.as_fd(), self.time_limit);
        send_content(self.connection, &header, file, &mut meter, time_limit, &mut |_| Ok(false))
            .inspect_err(|_| self.options.cut(meter.done()))?;
        let sent = meter.finish();
        send_trailer(self.connection, sent.sha256, self.time_limit)?;
        Ok(Served::Done(sent))
    }

    /// The requested file, positioned at the first byte to send.
    fn open(
        &mut self,
        header: &Header,
        root: Root<'_>,
    ) -> Result<(GetRequest, Stat, OwnedFd, Meter<'static>)> {
        let request = GetRequest::read(header)?;
        let name = request.name.bytes()?;
        let name = Name::new(&name)?;
        let mut asking = self.asking(header);
        asking.permit("get", name.as_bytes(), None)?;
        let (file, stat) = asking.choice().root(root)?.open_file(name)?;
        let offset = request.offset.unwrap_or(0);
        if offset > stat.size {
            let detail = format!("offset {offset} of a file of {} bytes", stat.size);
            return Err(Error::new(ErrorKind::BadField, detail));
        }
        let is_hashed = request.trailer == Some(true);
        let is_checked = request.prefix_sha256.is_some();
        let flow = self.flow(request.rate);
        let mut passed = Meter::new(stat.size, is_hashed || is_checked, &flow);
        if is_hashed || is_checked {
            skip_range(&mut passed, file.as_fd(), 0, offset, &mut || self.go_on())?;
            passed.check_skipped(request.prefix_sha256)?;
        }
        if !is_hashed {
            passed = Meter::new(stat.size, false, &flow);
            passed.skip_unread(offset);
        }
        let failed = |errno| Error::system("read the file", errno);
        seek(file.as_fd(), offset).map_err(failed)?;
        Ok((request, stat, file, passed))
    }

    /// Serves a request about a name; returns the header and the body of the reply.
    fn path(&mut self, cmd: &str, header: &Header, root: Root<'_>) -> Result<(String, Vec<u8>)> {
        let request = PathRequest::read(header)?;
        let bytes = request.name()?;
        let partial = cmd == "stat" && request.partial == Some(true);
        let name = match &*bytes {
            [] if matches!(cmd, "stat" | "list") && !partial => None,
            bytes => Some(Name::new(bytes)?),
        };
        let named = name.ok_or_else(|| Error::new(ErrorKind::Path, "the root"));
        let mut asking = self.asking(header);
        asking.permit(cmd, &bytes, None)?;
        if partial {
            asking.permit("get", &bytes, None)?;
        }
        let parents = request.parents.unwrap_or(self.options.parents);
        if let ("mkdir" | "symlink", true, Some(name)) = (cmd, parents, name) {
            asking.permit_parents(root, name)?;
        }
        let choice = asking.choice();
        let root = choice.root(root)?;
        let may_replace = self.options.overwrite && choice.rights.replace;
        let store = StoreOptions {
            mode: request.mode.map(|mode| mode.0),
            new_mode: None,
            parents,
            overwrite: may_replace && request.overwrite != Some(false),
            in_place: false,
            mtime: None,
            sync: self.options.sync,
        };
        let id = request.id.as_ref();
        let mut body = Vec::new();
        let header = match cmd {
            "stat" if partial => {
                let (size, sha256) = self.digest_of_partial(root, named?)?;
                StatReply::partial_header(size, sha256, id)
            }
            "stat" => {
                let stat = root.stat(name)?;
                let opened = (stat.kind == Kind::Dir).then(|| root.open_directory(name));
                let identity = opened.and_then(|dir| identity(dir.ok()?.as_fd()));
                StatReply::header(&stat, identity.as_deref(), id)
            }
            "list" => {
                let dir = root.open_directory(name)?;
                body = list(dir.as_fd(), limits::MAX_BODY)?;
                done(identity(dir.as_fd()).as_deref(), id)
            }
            "mkdir" => {
                directory::make_directory(root, named?, &store)?;
                done(None, id)
            }
            _ => {
                directory::make_link(root, named?, &request.target()?, &store)?;
                done(None, id)
            }
        };
        Ok((header, body))
    }

    /// The questions about a request.
    fn asking<'b>(&'b self, header: &'b Header) -> Asking<'b> {
        Asking::new(self.options, header, self.connection.client())
    }

    /// How the content is transferred: at the lower of the two rates.
    fn flow(&self, rate: Option<u64>) -> Flow<'static> {
        Flow {
            progress: None,
            rate: self.options.rate.into_iter().chain(rate).min(),
            patience: self.options.stall,
            deadline: self.time_limit.deadline,
            interrupt: Arc::clone(self.connection.shared().interrupt()),
        }
    }

    fn digest_of_partial(
        &mut self,
        root: Root<'_>,
        name: Name<'_>,
    ) -> Result<(u64, Option<Digest>)> {
        let Some((file, size)) = open_partial(root, name)? else {
            let detail = format!("there is no partial file of {}", quote(name.as_bytes()));
            return Err(Error::new(ErrorKind::NotFound, detail));
        };
        let mut meter = Meter::new(size, true, &self.flow(None));
        skip_range(&mut meter, file.as_fd(), 0, size, &mut || self.go_on())?;
        Ok((size, meter.digest()))
    }

    /// Called again and again while nothing is received or sent; fails if the request must end.
    fn go_on(&mut self) -> Result<()> {
        self.flow(None).check()?;
        if let Some(next) = self.at_work
            && Instant::now() >= next
        {
            let header = Working::header(self.id.as_ref());
            self.connection.send_by(Some(&header), [&[], &[]], self.time_limit)?;
            self.at_work = Instant::now().checked_add(limits::WORKING);
        }
        Ok(())
    }

    /// Drops the rest of a request. An old client that reads no reply must be followed to its
    /// end; from any other no more is read than a refusal is worth.
    fn skip(&mut self, has_trailer: bool) -> Result<()> {
        let mut time_limit = self.time_limit;
        let mut left = u64::MAX;
        if !self.is_silent {
            time_limit.deadline = time_limit.deadline.min(Deadline::after(limits::REFUSED_TIME));
            left = limits::REFUSED;
        }
        let mut pace = Pace::new(&self.flow(None));
        self.connection.for_each_chunk(pace.step(), time_limit, |piece| {
            let is_much = || Error::new(ErrorKind::TooBig, "a request that is not served");
            left = left.checked_sub(piece.len() as u64).ok_or_else(is_much)?;
            pace.pass(piece.len())
        })?;
        self.trailer(has_trailer).map(drop)
    }

    /// The frame after a content, if there is one.
    fn trailer(&mut self, has_trailer: bool) -> Result<Option<Header>> {
        has_trailer.then(|| recv_trailer(self.connection, self.time_limit)).transpose()
    }

    fn answer(&mut self, header: &str, body: &[u8], done: Transferred) -> Result<Served> {
        if self.is_silent {
            return Ok(Served::Done(done));
        }
        match self.connection.send_by(Some(header), [body, &[]], self.time_limit) {
            Ok(()) => Ok(Served::Done(done)),
            Err(_) if self.is_client_gone() => Ok(Served::Unanswered(done)),
            Err(error) => Err(error),
        }
    }

    /// Replies at once to a request whose rest is of no use, and drops the rest. If that is much
    /// or takes long, the connection is broken.
    fn refuse_early(&mut self, error: Error, has_trailer: bool) -> Result<Served> {
        let refused = self.refuse(error)?;
        if let Err(cause) = self.skip(has_trailer) {
            self.connection.shared().break_by(&cause);
        }
        Ok(refused)
    }

    fn refuse(&mut self, error: Error) -> Result<Served> {
        match self.report(&error) {
            Err(failed) if !self.is_client_gone() => Err(failed),
            _ => Ok(Served::Refused(error)),
        }
    }

    /// The connection is out of sync: an error reply may still be sent, and nothing else.
    fn give_up(&mut self, error: Error) -> Error {
        let _ = self.report(&error);
        error
    }

    fn report(&mut self, error: &Error) -> Result<()> {
        if self.is_silent {
            return Ok(());
        }
        // The digest in the text may be of bytes that the client may not read.
        let message = match error.kind() {
            kind @ ErrorKind::Checksum => kind.text().to_owned(),
            _ => error.to_string(),
        };
        let header = ErrorReply::new(error.kind(), &message, self.id.as_ref()).header();
        self.connection.send_last(&header, self.time_limit)
    }

    /// Whether nobody is left to read the reply.
    fn is_client_gone(&self) -> bool {
        let errno = self.connection.send_failure().map(Error::errno);
        [Errno::PIPE, Errno::CONNRESET].iter().any(|gone| Some(gone.raw_os_error()) == errno)
    }
}

/// The entries of a directory as a JSON array of at most `max` bytes.
fn list(dir: BorrowedFd<'_>, max: u64) -> Result<Vec<u8>> {
    let mut body = vec![b'['];
    for name in directory::names(dir)? {
        let Some(entry) = directory::entry(dir, &name)? else { continue };
        let text = entry.json();
        if (body.len() + text.len() + 2) as u64 > max {
            return Err(Error::new(ErrorKind::TooBig, "the list of the directory"));
        }
        body.try_reserve(text.len() + 2)
            .map_err(|_| Error::new(ErrorKind::NoMemory, "the list of the directory"))?;
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(text.as_bytes());
    }
    body.push(b']');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::io::testing::{Tree, failing};
    use crate::ops::frame::{self, ConnectionOptions};

    /// Answers the requests, given as header and body, with system calls that fail; the
    /// code of each error reply, or `ok`.
    fn serve_failing(
        tree: &Tree,
        calls: &[(libc::c_long, Errno)],
        requests: &[(&str, &[u8])],
    ) -> Vec<String> {
        let framing = frame::Options::default();
        let (client, server) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(server.as_fd(), ConnectionOptions::default()).unwrap();
        for (header, body) in requests {
            frame::send(client.as_fd(), Some(header), body, &framing).unwrap();
        }
        failing(calls, || {
            for _ in requests {
                let header = connection.header_by(Deadline::NEVER).unwrap();
                let (root, options) = (tree.root.as_fd(), ServeOptions::default());
                serve(&mut connection, &header, root, &options).unwrap();
            }
        });
        let reply = |_| {
            let reply = frame::recv(client.as_fd(), &framing).unwrap().header;
            reply.string("code").or(reply.string("status")).unwrap().into_owned()
        };
        requests.iter().map(reply).collect()
    }

    const GET: (&str, &[u8]) = (r#"{"cmd":"get","filename":"old"}"#, b"");

    #[test]
    fn a_fault_at_any_step_is_told_and_the_next_request_served() {
        let tree = Tree::new();
        let put = |keys| format!(r#"{{"cmd":"put","filename":"old","filesize":3{keys}}}"#);
        let renames = |errno| vec![(libc::SYS_renameat, errno), (libc::SYS_renameat2, errno)];
        for keys in ["", r#","resume":true"#, r#","mtime":0,"mode":"0600""#] {
            for (errno, code) in
                [(Errno::NOSPC, "no_space"), (Errno::DQUOT, "no_space"), (Errno::IO, "io")]
            {
                for calls in
                    [vec![(libc::SYS_write, errno)], vec![(libc::SYS_fsync, errno)], renames(errno)]
                {
                    let replies = serve_failing(&tree, &calls, &[(&put(keys), b"new"), GET]);
                    assert_eq!(replies, [code, "ok"], "{calls:?} {keys}");
                    tree.assert_untouched();
                }
            }
        }
    }

    #[test]
    fn without_openat2_everything_is_the_same() {
        let tree = Tree::new();
        fs::write(tree.path("dir/file"), "file").unwrap();
        let put = r#"{"cmd":"put","filename":"dir/new","filesize":3"#;
        let requests: [(&str, &[u8], &str); 13] = [
            (&format!("{put}}}"), b"new", "ok"),
            (&format!(r#"{put},"resume":true}}"#), b"new", "ok"),
            (&format!(r#"{put},"offset":1}}"#), b"ew", "ok"),
            (r#"{"cmd":"put","filename":"up/x","filesize":3,"parents":true}"#, b"new", "denied"),
            (r#"{"cmd":"get","filename":"dir/new","offset":1}"#, b"", "ok"),
            (r#"{"cmd":"get","filename":"up/file"}"#, b"", "denied"),
            (r#"{"cmd":"stat","filename":"dir/new"}"#, b"", "ok"),
            (r#"{"cmd":"stat","filename":"dir/new","partial":true}"#, b"", "not_found"),
            (r#"{"cmd":"stat","filename":"up/file"}"#, b"", "denied"),
            (r#"{"cmd":"list","filename":"dir"}"#, b"", "ok"),
            (r#"{"cmd":"list","filename":"up"}"#, b"", "denied"),
            (r#"{"cmd":"mkdir","filename":"up/x/y","parents":true}"#, b"", "denied"),
            (r#"{"cmd":"symlink","filename":"up/x","target":"y"}"#, b"", "denied"),
        ];
        std::os::unix::fs::symlink("../outside", tree.path("up")).unwrap();
        let sent: Vec<_> = requests.iter().map(|(header, body, _)| (*header, *body)).collect();
        for errno in [Errno::NOSYS, Errno::PERM] {
            let replies = serve_failing(&tree, &[(libc::SYS_openat2, errno)], &sent);
            assert!(replies.iter().eq(requests.iter().map(|(_, _, code)| code)), "{replies:?}");
        }
        assert_eq!(crate::io::testing::names(&tree.dir.path().join("outside")), ["file"]);
    }

    #[test]
    fn a_list_above_the_limit_is_too_big() {
        let tree = Tree::new();
        let fresh = || tree.root().open_directory(None).unwrap();
        let whole = list(fresh().as_fd(), 1000).unwrap();
        let size = whole.len() as u64;
        assert_eq!(list(fresh().as_fd(), size).unwrap(), whole);
        assert_eq!(list(fresh().as_fd(), size - 1).unwrap_err().kind(), ErrorKind::TooBig);
    }
}
