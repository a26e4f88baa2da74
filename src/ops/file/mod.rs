//! Files: put on a server, got from one, and served.

mod client;
mod content;
mod meter;
mod server;
mod tree;
mod upload;

use std::ops::ControlFlow;
use std::time::Duration;

pub use client::{get, get_path, list, make_directory, partial, put, put_path, stat};
pub use server::{Served, serve};
pub use tree::{get_tree, put_tree};

pub use crate::io::fs::sweep::sweep;
pub use crate::wire::entry::{Entry, Kind, Stat};

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::{Deadline, Patience};
use crate::io::fs::store::StoreOptions;
use crate::limits;
use crate::wire::digest::Digest;
use crate::wire::json::header::Header;

/// How a file is sent, received or served.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Options<'a> {
    /// For the whole call; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// How long it goes on without a byte; `None` is for ever.
    pub stall: Option<Duration>,
    /// Bytes of a file that is taken from the peer.
    pub max_size: u64,
    /// How a file is stored: what a put asks the server for (all but `sync`), what a get
    /// does here, and what a server does if the request does not say. A server that
    /// may not overwrite does not whatever the request says.
    pub store: StoreOptions,
    /// Bytes of the file that the receiving side has already: those of the source, or of
    /// the destination, before where it stands. Zero on a server.
    pub offset: u64,
    /// Whether a client keeps what came of a file that is cut, and goes on from there the
    /// next time.
    pub resume: bool,
    /// Whether a client takes the mode and the time of modification of a source along.
    pub preserve: bool,
    /// What becomes of symbolic links in a tree.
    pub links: Links,
    /// Asked by a server before anything is opened or made. What it fails with is the
    /// reply; a refusal without a reason of its own is [`ErrorKind::Denied`].
    pub policy: Option<Policy<'a>>,
    /// Whether a client sends the digest of what it puts, and asks for that of what it
    /// gets; whether a server computes one that nobody has asked for.
    pub checksum: bool,
    /// Whether a put is answered. Servers that do not answer know no checksum either; a
    /// server may leave only the oldest uploaders, who read nothing, without an answer.
    pub reply: bool,
    /// Told after each piece how many bytes have passed of how many; may break off.
    pub progress: Option<Progress<'a>>,
    /// Bytes of content in a second, sent or received; `None` is as fast as it goes. A get
    /// asks the server to keep to it as well. A server that receives slows the client down
    /// by not reading on: the client sees that go on in steps of up to 64 KiB, so below
    /// 4 KiB/s it may take it for a stall.
    pub rate: Option<u64>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            timeout: None,
            stall: Some(limits::STALL_TIMEOUT),
            max_size: u64::MAX,
            store: StoreOptions::default(),
            offset: 0,
            resume: false,
            preserve: false,
            links: Links::Skip,
            policy: None,
            checksum: true,
            reply: true,
            progress: None,
            rate: None,
        }
    }
}

impl Options<'_> {
    fn patience(&self) -> Patience {
        Patience { deadline: Deadline::from_timeout(self.timeout), stall: self.stall }
    }

    /// Asks the policy, if there is one.
    fn permit(&self, cmd: &str, name: &[u8], filesize: Option<u64>, header: &Header) -> Result<()> {
        self.policy.map_or(Ok(()), |policy| policy(&Inquiry { cmd, name, filesize, header }))
    }

    fn check_size(&self, size: u64) -> Result<()> {
        if size > self.max_size {
            let detail = format!("a file of {size} bytes, the limit is {}", self.max_size);
            return Err(Error::new(ErrorKind::TooBig, detail));
        }
        Ok(())
    }
}

/// What a client does about the symbolic links of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// Leaves them out, and counts them.
    #[default]
    Skip,
    /// Ends with [`ErrorKind::Path`] at the first.
    Refuse,
    /// Puts what they lead to, as long as that is within the tree.
    Follow,
    /// Makes the same links on the other side.
    Copy,
}

/// Told of bytes that have passed, and of how many.
pub type Progress<'a> = &'a dyn Fn(u64, u64) -> ControlFlow<()>;

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

/// What passed of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeTransfer {
    /// Regular files that passed, or were the same on both sides.
    pub files: u64,
    /// Directories, that of the tree itself included.
    pub directories: u64,
    /// Symbolic links that were made.
    pub links: u64,
    /// Links, devices and whatever else was left out.
    pub skipped: u64,
    /// Bytes of the files that passed.
    pub bytes: u64,
}

/// A file that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// The digest of the whole file, if one was computed.
    pub sha256: Option<Digest>,
}

impl Transfer {
    fn check(&self, expected: Option<Digest>) -> Result<()> {
        match (self.sha256, expected) {
            (Some(found), Some(expected)) if found != expected => Err(Error::new(
                ErrorKind::Checksum,
                format!("the content has {found}, and should have {expected}"),
            )),
            _ => Ok(()),
        }
    }
}
