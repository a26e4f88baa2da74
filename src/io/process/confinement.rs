//! The limits of a process beyond those of the host, and the user it runs as.

use crate::error::{Error, ErrorKind, Result};

/// Limits of a process, and the user that it becomes. By default there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Its file mode creation mask, see umask(2).
    pub umask: Option<u32>,
    /// Seconds of processor time, `RLIMIT_CPU`.
    pub cpu_seconds: Option<u64>,
    /// Bytes of address space, `RLIMIT_AS`.
    pub memory: Option<u64>,
    /// Processes and threads of its real user, `RLIMIT_NPROC`: counted over the whole
    /// system, and not for root.
    pub processes: Option<u64>,
    /// Bytes of a file that it writes, `RLIMIT_FSIZE`.
    pub file_size: Option<u64>,
    /// The user and the group that it becomes, without the host's supplementary groups. Only
    /// root may do that.
    pub user: Option<(u32, u32)>,
}

impl Confinement {
    /// Refuses numbers that mean "no change" to the kernel, and supplementary `groups` of the
    /// host's own user.
    pub(crate) fn check(&self, groups: &[u32]) -> Result<()> {
        let refused = |detail| Err(Error::new(ErrorKind::Argument, detail));
        match self.user {
            None if !groups.is_empty() => refused("groups without a user"),
            Some((u32::MAX, _) | (_, u32::MAX)) => refused("there is no such user or group"),
            _ if groups.contains(&u32::MAX) => refused("there is no such user or group"),
            _ => Ok(()),
        }
    }
}
