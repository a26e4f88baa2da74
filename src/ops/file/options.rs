//! How files are served, and who decides about a request.

use std::cell::Cell;
use std::time::Duration;

use super::Transferred;
use crate::error::Result;
use crate::limits;
use crate::wire::json::header::Header;

/// How files are served.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ServeOptions<'a> {
    /// For the whole request; `None` has no limit.
    pub timeout: Option<Duration>,
    /// How long a request goes on without a byte; `None` is for ever.
    pub stall: Option<Duration>,
    /// Bytes of a file that is taken; `None` has no limit.
    pub max_size: Option<u64>,
    /// Permission bits of what is stored if the request does not say, less the umask. The
    /// default is 0666, and 0777 for directories.
    pub mode: Option<u32>,
    /// Whether files may be replaced. If not, a request cannot ask for it.
    pub overwrite: bool,
    /// Whether a file that is stored would survive a power loss when it is answered.
    pub sync: bool,
    /// Whether directories that are missing on the way are made if the request does not say.
    pub parents: bool,
    /// Whether the digest of what is stored is computed if nobody has asked for it.
    pub checksum: bool,
    /// Whether puts without `data_size` are answered: the oldest uploaders read nothing.
    pub reply: bool,
    /// Bytes of content in a second; `None` is as fast as it goes. A get may ask for less.
    pub rate: Option<u64>,
    /// Asked before anything is opened or made. Its error is the reply; a refusal without a
    /// reason of its own is [`ErrorKind::Denied`](crate::ErrorKind::Denied).
    pub policy: Option<Policy<'a>>,
    /// Set if a put or a get is cut: how much of the file had passed.
    pub so_far: Option<&'a Cell<Transferred>>,
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
    /// Says how much of a file had passed when its transfer was cut.
    pub(super) fn cut(&self, bytes: u64) {
        if let Some(so_far) = self.so_far {
            so_far.set(Transferred { bytes, ..Transferred::default() });
        }
    }

    /// Asks the policy, if there is one.
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

/// Decides whether a request is followed.
pub type Policy<'a> = &'a dyn Fn(&Inquiry<'_>) -> Result<()>;

/// What a policy is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// `put`, `get`, `stat`, `list`, `mkdir` or `symlink`.
    pub cmd: &'a str,
    /// The name in the request. It is acceptable, or empty for the root.
    pub name: &'a [u8],
    /// Bytes of the whole file that is put.
    pub filesize: Option<u64>,
    /// The whole request.
    pub header: &'a Header,
}
