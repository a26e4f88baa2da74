//! Attributes of a file, and the entries of a directory.

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link itself, not its target.
    Symlink,
    /// A device, a FIFO, a socket or anything else.
    Other,
}

/// Attributes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stat {
    /// Its kind.
    pub kind: Kind,
    /// Bytes of a regular file; for others the value of their file system.
    pub size: u64,
    /// Permission bits, those of 07777.
    pub mode: u32,
    /// Time of modification in milliseconds since 1970.
    pub mtime: i64,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, one component. In a list from the peer it can be anything.
    pub name: Vec<u8>,
    /// Its attributes.
    pub stat: Stat,
    /// The target of a symbolic link.
    pub target: Option<Vec<u8>>,
}
