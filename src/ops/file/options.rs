//! How files are served, and the policy that decides about a request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Transferred;
use crate::error::{ErrorKind, Result};
use crate::io::fs::root::Root;
use crate::limits;
use crate::wire::json::header::Header;
use crate::wire::name::Name;

/// How files are served.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ServeOptions<'a> {
    /// For the whole request; `None` has no limit.
    pub timeout: Option<Duration>,
    /// How long a request may go without a byte; `None` is forever.
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

    /// Asks for each directory that would be made on the way to `name`.
    pub(super) fn permit_parents(
        &self,
        root: Root<'_>,
        name: Name<'_>,
        header: &Header,
    ) -> Result<()> {
        let mut missing = Vec::new();
        let mut below = name;
        while let Some(dir) = below.split().0.filter(|_| self.policy.is_some())
            && root.stat(Some(dir)).is_err_and(|error| error.kind() == ErrorKind::NotFound)
        {
            missing.push(dir);
            below = dir;
        }
        let mut missing = missing.iter().rev();
        missing.try_for_each(|dir| self.permit("mkdir", dir.as_bytes(), None, header))
    }

    /// Calls the policy, if there is one.
    pub(super) fn permit(
        &self,
        cmd: &str,
        name: &[u8],
        filesize: Option<u64>,
        header: &Header,
    ) -> Result<()> {
        self.policy.map_or(Ok(()), |policy| policy(&Inquiry { cmd, name, filesize, header }))
    }
}

/// Decides whether a request is served. It is asked about everything that the request would do,
/// in one question each.
pub type Policy<'a> = &'a (dyn Fn(&Inquiry<'_>) -> Result<()> + Sync);

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
}
