//! The side that is asked: stores files beneath its root, sends them, and tells of them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::content::{inside, recv_trailer, send_content, send_trailer};
use super::meter::Meter;
use super::upload::Upload;
use super::{Options, Stat, Transfer};
use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Patience;
use crate::io::fs::directory;
use crate::io::fs::partial::open_partial;
use crate::io::fs::range::{read_start, seek};
use crate::io::fs::root::Root;
use crate::io::fs::store::StoreOptions;
use crate::limits;
use crate::ops::Duplex;
use crate::ops::frame::reply;
use crate::ops::frame::{self, Body, BodyReader};
use crate::wire::digest::{Digest, Hasher};
use crate::wire::json::header::Header;
use crate::wire::message::file::{
    FileMode, GetReply, GetRequest, PathRequest, PutExtent, PutReply, StatReply, done,
};
use crate::wire::message::{self, Id};
use crate::wire::name::Name;
use crate::wire::quote;

/// What became of a request; in each case the stream is in sync.
#[derive(Debug)]
pub enum Served {
    /// What was asked for was done; a file that was stored or sent, or the list of a
    /// directory, is counted.
    Done(Transfer),
    /// The same, but the client is gone and did not wait for the reply, as the oldest
    /// uploaders do not. What it sent before can still be read, and then its end.
    Unanswered(Transfer),
    /// Nothing was done; the client knows why, if it is still there.
    Refused(Error),
}

/// Serves a received put, get, stat, list, mkdir or symlink beneath `root`; anything else
/// is refused as unsupported.
///
/// A put is received whole before it is answered, also one that is refused, so that the
/// stream stays in sync. An error says that it is not: the connection has to be closed. A
/// client that can be told why was told, and nothing was stored, unless it is the reply
/// that failed. A get whose file shrinks meanwhile ends in such an error: the close is
/// what shows the client that its file is not complete.
pub fn serve<'fd>(
    duplex: Duplex<'fd>,
    request: &Header,
    body: Body<'_, 'fd>,
    root: BorrowedFd<'_>,
    options: &Options<'_>,
) -> Result<Served> {
    let root = Root::new(root)?;
    if body.len() != request.data_size().unwrap_or(0) {
        return Err(Error::new(ErrorKind::State, "a part of the body was received before"));
    }
    let id = message::id_of(request);
    let session = Session { duplex, options, patience: options.patience(), id, silent: false };
    let cmd = match request.string("cmd") {
        Ok(cmd) => cmd,
        Err(error) => return session.refuse_after(body, error),
    };
    match &*cmd {
        "put" => session.put(request, body, root),
        "get" => session.get(request, body, root),
        cmd @ ("stat" | "list" | "mkdir" | "symlink") => {
            session.skip(body).map_err(|error| session.give_up(error))?;
            match session.path(cmd, request, root) {
                Ok((header, body)) => session.answer(
                    &header,
                    &body,
                    Transfer { bytes: body.len() as u64, sha256: None },
                ),
                Err(error) => session.refuse(error),
            }
        }
        other => {
            let detail = format!("{} is not served here", quote(other.as_bytes()));
            session.refuse_after(body, Error::new(ErrorKind::Unsupported, detail))
        }
    }
}

struct Session<'a, 'fd> {
    duplex: Duplex<'fd>,
    options: &'a Options<'a>,
    patience: Patience,
    id: Option<Id>,
    /// Nothing is answered.
    silent: bool,
}

impl<'fd> Session<'_, 'fd> {
    fn put(mut self, request: &Header, body: Body<'_, 'fd>, root: Root<'_>) -> Result<Served> {
        self.silent = !self.options.reply && request.data_size().is_none();
        let extent = PutExtent::of(request).map_err(|error| self.give_up(error))?;
        let mut upload = Upload::begin(request, root, self.options, self.patience);
        let mut undeclared = BodyReader::new(self.duplex.reader, extent.body);
        let declared = request.data_size().is_some();
        let body = if declared { body } else { Body::Stream(&mut undeclared) };
        let received =
            self.receive(body, upload.step(), |piece| upload.take(piece)).and_then(|()| {
                extent.trailer.then(|| recv_trailer(self.duplex.reader, self.patience)).transpose()
            });
        let trailer = match received {
            Ok(trailer) => trailer,
            Err(error) => return Err(self.give_up(upload.cut(error))),
        };
        let (request, stored) = match upload.finish(trailer.as_ref()) {
            Ok(finished) => finished,
            Err(error) => return self.refuse(error),
        };
        let reply = PutReply {
            id: request.id,
            name: request.name,
            filesize: Some(stored.bytes),
            sha256: stored.sha256,
        };
        self.answer(&reply.header(), &[], stored)
    }

    fn get(&self, request: &Header, body: Body<'_, '_>, root: Root<'_>) -> Result<Served> {
        self.skip(body).map_err(|error| self.give_up(error))?;
        let (request, stat, file, meter) = match self.open(request, root) {
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
        let (writer, header) = (self.duplex.writer, reply.header());
        let sent =
            send_content(writer, &header, file.as_fd(), meter, self.patience).map_err(inside)?;
        send_trailer(self.duplex.writer, sent.sha256, self.patience)?;
        Ok(Served::Done(sent))
    }

    /// The file that is asked for, at the place where it is to be sent from.
    fn open(
        &self,
        header: &Header,
        root: Root<'_>,
    ) -> Result<(GetRequest, Stat, OwnedFd, Meter<'_>)> {
        let request = GetRequest::read(header)?;
        let name = request.name.bytes()?;
        let name = Name::new(&name)?;
        self.options.permit("get", name.as_bytes(), None, header)?;
        let (file, stat) = root.open_file(name)?;
        let offset = request.offset.unwrap_or(0);
        if offset > stat.size {
            let detail = format!("offset {offset} of a file of {} bytes", stat.size);
            return Err(Error::new(ErrorKind::BadField, detail));
        }
        let hashed = request.trailer == Some(true);
        let checked = request.prefix_sha256.is_some();
        let rate = self.options.rate.into_iter().chain(request.rate).min();
        let options = Options { rate, ..*self.options };
        let meter = |hashed| Meter::new(stat.size, hashed, &options, self.patience.deadline);
        let failed = |errno| Error::system("read the file", errno);
        let mut passed = meter(hashed || checked);
        if hashed || checked {
            let mut skip = |piece: &[u8]| {
                passed.skip(piece);
                Ok(())
            };
            read_start(file.as_fd(), offset, &mut skip).map_err(failed)?;
            passed.check_skipped(request.prefix_sha256)?;
        }
        if !hashed {
            passed = meter(false);
            passed.skip_unread(offset);
        }
        seek(file.as_fd(), offset).map_err(failed)?;
        Ok((request, stat, file, passed))
    }

    /// Does what a request about a name asks for; the header and the body of the reply.
    fn path(&self, cmd: &str, header: &Header, root: Root<'_>) -> Result<(String, Vec<u8>)> {
        let request = PathRequest::read(header)?;
        let bytes = request.name()?;
        let partial = cmd == "stat" && request.partial == Some(true);
        let name = match &*bytes {
            [] if matches!(cmd, "stat" | "list") && !partial => None,
            bytes => Some(Name::new(bytes)?),
        };
        let named = name.ok_or_else(|| Error::new(ErrorKind::Path, "the root"));
        self.options.permit(cmd, &bytes, None, header)?;
        let store = StoreOptions {
            mode: request.mode.map(|mode| mode.0),
            parents: request.parents.unwrap_or(self.options.store.parents),
            overwrite: self.options.store.overwrite && request.overwrite != Some(false),
            ..self.options.store
        };
        let id = request.id.as_ref();
        let mut body = Vec::new();
        let header = match cmd {
            "stat" if partial => {
                let (size, sha256) = digest_of_partial(root, named?)?;
                StatReply::partial_header(size, sha256, id)
            }
            "stat" => StatReply::header(&root.stat(name)?, id),
            "list" => {
                body = list(root, name, limits::MAX_BODY)?;
                done(id)
            }
            "mkdir" => {
                directory::make_directory(root, named?, &store)?;
                done(id)
            }
            _ => {
                directory::make_link(root, named?, &request.target()?, &store)?;
                done(id)
            }
        };
        Ok((header, body))
    }

    fn receive(
        &self,
        mut body: Body<'_, '_>,
        step: usize,
        take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        body.for_each_chunk(step, self.patience, take).map_err(inside)
    }

    /// A body that is not looked at.
    fn skip(&self, body: Body<'_, '_>) -> Result<()> {
        self.receive(body, limits::COPY_STEP, |_| Ok(()))
    }

    fn answer(&self, header: &str, body: &[u8], done: Transfer) -> Result<Served> {
        if self.silent {
            return Ok(Served::Done(done));
        }
        let (writer, framing) = (self.duplex.writer, frame::Options::default());
        match frame::send_by(writer, Some(header), &[body], &framing, self.patience) {
            Ok(()) => Ok(Served::Done(done)),
            Err(error) if is_gone(&error) => Ok(Served::Unanswered(done)),
            Err(error) => Err(inside(error)),
        }
    }

    fn refuse_after(&self, body: Body<'_, '_>, error: Error) -> Result<Served> {
        match self.skip(body) {
            Ok(()) => self.refuse(error),
            Err(_) => Err(self.give_up(error)),
        }
    }

    fn refuse(&self, error: Error) -> Result<Served> {
        match self.report(&error) {
            Err(failed) if !is_gone(&failed) => Err(inside(failed)),
            _ => Ok(Served::Refused(error)),
        }
    }

    /// The stream is out of sync: the client may still get the reason, and that is all.
    fn give_up(&self, error: Error) -> Error {
        let _ = self.report(&error);
        error
    }

    fn report(&self, error: &Error) -> Result<()> {
        if self.silent {
            return Ok(());
        }
        reply::send_error(self.duplex.writer, error, self.id.as_ref(), self.patience)
    }
}

/// The array of what is in a directory, in at most `max` bytes.
fn list(root: Root<'_>, name: Option<Name<'_>>, max: u64) -> Result<Vec<u8>> {
    let dir = root.open_directory(name)?;
    let mut body = vec![b'['];
    for name in directory::names(dir.as_fd())? {
        let Some(entry) = directory::entry(dir.as_fd(), &name)? else { continue };
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

fn digest_of_partial(root: Root<'_>, name: Name<'_>) -> Result<(u64, Digest)> {
    let Some((file, size)) = open_partial(root, name)? else {
        let detail = format!("there is no partial file of {}", quote(name.as_bytes()));
        return Err(Error::new(ErrorKind::NotFound, detail));
    };
    let mut hasher = Hasher::default();
    let mut take = |piece: &[u8]| {
        hasher.update(piece);
        Ok(())
    };
    read_start(file.as_fd(), size, &mut take)
        .map_err(|errno| Error::system("read the partial file", errno))?;
    Ok((size, hasher.finish()))
}

/// Nobody is there to read what was sent.
fn is_gone(error: &Error) -> bool {
    [Errno::PIPE, Errno::CONNRESET].iter().any(|errno| errno.raw_os_error() == error.errno())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::io::testing::{Tree, failing};

    /// Answers the requests, given as header and body, with system calls that fail; the
    /// code of each error reply, or `ok`.
    fn serve_failing(
        tree: &Tree,
        calls: &[(libc::c_long, Errno)],
        requests: &[(&str, &[u8])],
    ) -> Vec<String> {
        let framing = frame::Options::default();
        let (client, server) = UnixStream::pair().unwrap();
        for (header, body) in requests {
            frame::send(client.as_fd(), Some(header), body, &framing).unwrap();
        }
        failing(calls, || {
            for _ in requests {
                let (header, mut body) = frame::recv_header(server.as_fd(), &framing).unwrap();
                let (body, root) = (Body::Stream(&mut body), tree.root.as_fd());
                serve(server.as_fd().into(), &header, body, root, &Options::default()).unwrap();
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
        let whole = list(tree.root(), None, 1000).unwrap();
        let size = whole.len() as u64;
        assert_eq!(list(tree.root(), None, size).unwrap(), whole);
        assert_eq!(list(tree.root(), None, size - 1).unwrap_err().kind(), ErrorKind::TooBig);
    }
}
