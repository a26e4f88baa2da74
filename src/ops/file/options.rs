//! How files are served, and the policy that decides about a request.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Transferred;
use crate::error::Result;
use crate::limits;
use crate::ops::frame::Client;
use crate::wire::json::header::Header;

/// How files are served.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ServeOptions<'a> {
    /// For the whole request; `None` has no limit.
    pub timeout: Option<Duration>,
    /// How long a request may go without a byte; `None` is forever. On average
    /// [`limits::LEAST_RATE`] bytes of a content must pass in a second, or the rate that this
    /// limits it to.
    pub stall: Option<Duration>,
    /// The largest file that is accepted, in bytes; `None` has no limit.
    pub max_size: Option<u64>,
    /// Permission bits of new files if the request does not insist on others, reduced by the
    /// umask; less those that the client's file does not give to the group and others. The
    /// default is the client's, or 0666.
    pub mode: Option<u32>,
    /// Whether files may be replaced. If not, a request cannot ask for it.
    pub overwrite: bool,
    /// Whether a stored file would survive a power failure when the reply is sent.
    pub sync: bool,
    /// Whether missing parent directories are made if the request does not say.
    pub parents: bool,
    /// Whether the digest of a stored file is computed even if the request does not ask for it.
    pub checksum: bool,
    /// Whether puts without `data_size` get a reply: the oldest clients do not read one.
    pub reply: bool,
    /// Bytes of content per second; `None` is no limit. A get may ask for less.
    pub rate: Option<u64>,
    /// What may be done with the files.
    pub rights: Rights,
    /// Called before anything is opened or made. Its error is the reply; use
    /// [`ErrorKind::Denied`](crate::ErrorKind::Denied) for a plain refusal.
    pub policy: Option<Policy<'a>>,
    /// Set if a put or a get is interrupted: how much of the file was transferred.
    pub so_far: Option<&'a Mutex<Transferred>>,
}

impl Default for ServeOptions<'_> {
    fn default() -> Self {
        ServeOptions {
            timeout: None,
            stall: Some(limits::STALL_TIMEOUT),
            max_size: None,
            mode: None,
            overwrite: true,
            sync: true,
            parents: false,
            checksum: true,
            reply: true,
            rate: None,
            rights: Rights::ALL,
            policy: None,
            so_far: None,
        }
    }
}

impl ServeOptions<'_> {
    /// Records how much of a file was transferred before an interruption.
    pub(super) fn cut(&self, bytes: u64) {
        if let Some(so_far) = self.so_far {
            let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
            *so_far = Transferred { bytes, ..Transferred::default() };
        }
    }
}

/// What may be done with files. Each request needs rights, not permission for its `cmd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Content is sent, files and directories are described and listed.
    pub read: bool,
    /// New files, directories and links are made.
    pub create: bool,
    /// The content of a file that is there, or a link, is replaced by another.
    pub replace: bool,
}

impl Rights {
    /// Everything that there is.
    pub const ALL: Rights = Rights { read: true, create: true, replace: true };
    /// Nothing is changed.
    pub const READ: Rights = Rights { read: true, create: false, replace: false };
    /// Nothing is told of what is there.
    pub const WRITE: Rights = Rights { read: false, create: true, replace: true };

    /// Those that both have.
    #[must_use]
    pub fn and(self, other: Rights) -> Rights {
        Rights {
            read: self.read && other.read,
            create: self.create && other.create,
            replace: self.replace && other.replace,
        }
    }
}

/// Decides whether a request is served, and may choose how. It is asked about everything that the
/// request would do, in one question each. Of what it chooses, the rights count for every
/// question, and the rest with the first one of a request.
pub type Policy<'a> = &'a (dyn Fn(&Inquiry<'_>, &mut Choice) -> Result<()> + Sync);

/// How one request is served: as the options say, unless the policy changes it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What may be done. A policy can take rights away, but not add to those of the options.
    pub rights: Rights,
    /// Another root; `None` is that of the server.
    pub root: Option<Arc<OwnedFd>>,
    /// The largest file that is accepted, in bytes.
    pub max_size: Option<u64>,
    /// Permission bits of new files, as in the options.
    pub mode: Option<u32>,
}

/// One thing that a client's request would do, as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// `put`, `get`, `stat`, `list`, `mkdir` or `symlink`: first the `cmd` of the request itself.
    /// Then `get`, if it tells of bytes that are there (a put with an offset, a stat of the
    /// partial file), and `mkdir` for each directory that `parents` would make.
    pub cmd: &'a str,
    /// The name in the request. It is acceptable, or empty for the root.
    pub name: &'a [u8],
    /// For a put, bytes of the whole file.
    pub filesize: Option<u64>,
    /// The whole request.
    pub header: &'a Header,
    /// Whose it is.
    pub client: Client<'a>,
}
