//! A file server below one directory, and the removal of leftovers of interrupted transfers.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::transfer::{
    FRAME_FILE_NO_CHECKSUM, FRAME_FILE_NO_OVERWRITE, FRAME_FILE_NO_REPLY, FRAME_FILE_NO_SYNC,
    FRAME_FILE_PARENTS, FrameFileResult, mode, result_of, wait,
};
use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::options::{self, FRAME_NO_LIMIT, SizedStruct};
use crate::ffi::boundary::outcome::{code, count};
use crate::ffi::boundary::parameters::{Context, Fd, Handle, Options, Results, Text};
use crate::ffi::boundary::policy::{self, ClientText, c_string, pointer};
use crate::ffi::connection::FrameConnection;
use crate::ffi::exec::header_of;
use crate::limits;
use crate::ops::file::{self, Choice, Inquiry, Policy, Rights, ServeOptions, Served, Transferred};

/// One thing that a client's request would do, as the policy of a file server sees it. Everything
/// in it is valid until the policy returns.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileInquiry {
    /// sizeof(struct frame_file_inquiry) of this library: members beyond it do not exist.
    pub size: u32,
    /// At a Unix socket the client's process; otherwise 0. See frame_credentials.
    pub pid: i32,
    /// "put", "get", "stat", "list", "mkdir" or "symlink": first the cmd of the request. Then
    /// "get", if the reply could tell of bytes that are there (a put with an offset, a stat of the
    /// partial file), and "mkdir" for each directory that `parents` would make. So what cannot be
    /// got cannot be resumed, unless the policy allows "get" where the cmd in header is "put" or
    /// "stat".
    pub cmd: *const c_char,
    /// The name, relative to the root: name_len bytes and a NUL, in any encoding. It was checked
    /// and is acceptable; "" is the root.
    pub name: *const c_char,
    /// Bytes of name.
    pub name_len: u64,
    /// For a put, the size of the file in bytes; otherwise FRAME_NO_LIMIT.
    pub filesize: u64,
    /// The header of the request, as JSON text.
    pub header: *const c_char,
    /// The id of the key that the client has proved, "" for a key without an id; NULL if there
    /// was no handshake.
    pub key_id: *const c_char,
    /// The address of the client, as of frame_address(); NULL if it has none.
    pub address: *const c_char,
    /// At a Unix socket the client's user id; otherwise UINT32_MAX.
    pub uid: u32,
    /// The same: its group id.
    pub gid: u32,
    /// How the request will be served. The policy may change it. The rights count for every
    /// question, and the other members with the first one of a request.
    pub choice: *mut FrameFileChoice,
}

/// A right: content is sent, files and directories are described and listed.
pub const FRAME_SERVE_READ: u32 = 1;
/// The same: new files, directories and links are made.
pub const FRAME_SERVE_CREATE: u32 = 2;
/// The same: the content of a file that is there, or a link, is replaced by another.
pub const FRAME_SERVE_REPLACE: u32 = 4;
/// Both FRAME_SERVE_CREATE and FRAME_SERVE_REPLACE.
pub const FRAME_SERVE_WRITE: u32 = 6;

/// How one request for a file is served, for a policy to change. It has what the server's options
/// say at first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileChoice {
    /// sizeof(struct frame_file_choice) of this library: members beyond it do not exist.
    pub size: u32,
    /// FRAME_SERVE_... flags, combined with |. A policy can take some away; others than the server
    /// has count for nothing.
    pub rights: u32,
    /// Another root directory; -1 is the server's. It is borrowed until the policy's thread has
    /// left it, and duplicated then, so it must not be closed by the policy.
    pub root_fd: i32,
    /// As in frame_file_options.
    pub mode: u32,
    /// As in frame_file_options, and no larger than there; FRAME_NO_LIMIT is none.
    pub max_size: u64,
}

/// How files are served. A request cannot override max_size, rate and FRAME_FILE_NO_OVERWRITE.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileOptions {
    /// sizeof(struct frame_file_options).
    pub size: u32,
    /// FRAME_FILE_NO_OVERWRITE, FRAME_FILE_NO_CHECKSUM, FRAME_FILE_NO_SYNC, FRAME_FILE_NO_REPLY,
    /// FRAME_FILE_PARENTS, combined with |.
    pub flags: u32,
    /// Milliseconds for the whole request; default FRAME_NO_TIMEOUT.
    pub timeout_ms: i32,
    /// Milliseconds without a byte after which the request fails; default 30 s, or
    /// FRAME_NO_TIMEOUT. On average it must let 1 KiB of a content pass in a second.
    pub stall_ms: i32,
    /// The largest file that is stored, in bytes; default FRAME_NO_LIMIT.
    pub max_size: u64,
    /// The most bytes per second that are sent or received; 0 is no limit.
    pub rate: u64,
    /// Permission bits of new files, of 0777, if the request does not insist on others. They are
    /// reduced by the umask, and give the group and others no more than the client's file does.
    /// 0: those of the client's file, or 0666. A file that is replaced keeps its own.
    pub mode: u32,
    /// 0.
    pub reserved: u32,
    /// Called before anything is opened or stored; may be NULL. It is asked about each thing that
    /// the request would do. Return 0 to allow it, after changes of inquiry->choice if you like, or
    /// a FRAME_E... code to refuse the request; any other number is FRAME_EACCES. The client
    /// receives the reply code for it, and as message the C string that was written to reason,
    /// which has reason_size bytes. It is called on the thread of the call.
    pub policy: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            inquiry: *const FrameFileInquiry,
            reason: *mut c_char,
            reason_size: usize,
        ) -> c_int,
    >,
    /// Passed to policy().
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for FrameFileOptions {}

/// Serves a file request below the directory root_fd: put, get, stat, list, mkdir or symlink.
/// Its header was just received with frame_connection_recv_header(); the call reads the body and
/// replies. The reply to any other cmd is `unsupported`.
///
/// request is the text of the header. root_fd is opened with O_PATH or O_RDONLY. Everything is
/// borrowed for the call. opts and result may be NULL. Threads may serve different connections
/// at the same time, also in the same root.
///
/// No name leads out of root_fd: symbolic links are never followed, only regular files are read
/// or replaced, and names that begin with .framefd- are reserved for the library. A put writes a
/// temporary file, which replaces the old one once it is complete and matches its digest. After
/// a failure the old file stays, and nothing else is left except the partial file of a put that
/// can be resumed. A symbolic link is made only if it cannot lead out. A put is refused as soon
/// as that is known.
///
/// Returns 0: the reply was sent, or the client did not wait for it. If it was an error reply, the
/// error member of *result has its code; what the client still sends of the request is dropped
/// then. If that is more than 16 MiB or takes more than 30 s, the connection is broken. These
/// change nothing: FRAME_EINVAL, FRAME_EBADF (root_fd is not a directory), FRAME_EBADJSON (request
/// is not a header), FRAME_ESTATE (a part of the body was received already). Every other failure
/// breaks the connection: FRAME_ETRUNCATED (a put ended early, or a file became shorter while it
/// was sent; close the connection to report that), FRAME_ETIMEDOUT, FRAME_ECANCELED,
/// FRAME_EBADFIELD and FRAME_ETOOBIG (the end of the put cannot be known; an error reply was
/// sent), FRAME_EIO with errno, and the codes of frame_connection_recv() and
/// frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_serve(
    c: Handle<FrameConnection>,
    request: Text,
    root_fd: Fd,
    opts: Options<FrameFileOptions>,
    result: Results<FrameFileResult>,
) -> c_int {
    code(|| {
        result.check("result")?;
        let (header, root) = (header_of(request)?, root_fd.borrow()?);
        let (opts, c) = (opts.read("opts")?, c.get("c")?);
        let policy = opts.policy();
        let policy = policy.as_ref().map(|policy| policy as Policy<'_>);
        let so_far = Mutex::default();
        let options = ServeOptions { policy, so_far: Some(&so_far), ..opts.convert()? };
        let served = c.cell.both(|connection| file::serve(connection, &header, root, &options));
        let (done, error) = match &served {
            Ok(Served::Done(done)) => (*done, 0),
            Ok(Served::Unanswered(done)) => (*done, ErrorKind::Closed.code()),
            Ok(Served::Refused(error)) => (Transferred::default(), error.kind().code()),
            Err(_) => (*so_far.lock().unwrap_or_else(PoisonError::into_inner), 0),
        };
        result.put(&result_of(&done, error), "result")?;
        served.map(drop)
    })
}

/// Removes the leftovers of interrupted transfers, in root_fd and all directories below it.
/// These are files whose names begin with .framefd-, that no transfer is writing, and that were
/// last written at least older_than_ms milliseconds ago; 0 is the default, 24 h. Killed
/// processes and interrupted transfers with FRAME_FILE_RESUME leave such files.
///
/// root_fd is borrowed; symbolic links are not followed. Returns the number of removed files.
/// FRAME_EINVAL, FRAME_EBADF, FRAME_EIO with errno (some may have been removed).
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_sweep(root_fd: Fd, older_than_ms: i64) -> i64 {
    count(|| {
        let age = match u64::try_from(older_than_ms) {
            Ok(0) => limits::PARTIAL_AGE,
            Ok(age) => Duration::from_millis(age),
            Err(_) => return Err(invalid(format!("older_than_ms is {older_than_ms}"))),
        };
        let removed = file::sweep(root_fd.borrow()?, age)?;
        Ok(i64::try_from(removed).unwrap_or(i64::MAX))
    })
}

impl FrameFileOptions {
    const FLAGS: u32 = FRAME_FILE_NO_OVERWRITE
        | FRAME_FILE_NO_CHECKSUM
        | FRAME_FILE_NO_SYNC
        | FRAME_FILE_NO_REPLY
        | FRAME_FILE_PARENTS;

    /// The options of Rust, without policy.
    pub(in crate::ffi) fn convert(&self) -> Result<ServeOptions<'static>> {
        options::flags(self.flags, Self::FLAGS, "frame_file_options.flags")?;
        options::unused(self.reserved, "frame_file_options.reserved")?;
        let has = |flag| self.flags & flag != 0;
        let set = |value: u64| (value != 0).then_some(value);
        Ok(ServeOptions {
            timeout: wait(self.timeout_ms, None, "timeout_ms")?,
            stall: wait(self.stall_ms, Some(limits::STALL_TIMEOUT), "stall_ms")?,
            max_size: set(self.max_size),
            mode: mode(self.mode)?,
            overwrite: !has(FRAME_FILE_NO_OVERWRITE),
            sync: !has(FRAME_FILE_NO_SYNC),
            parents: has(FRAME_FILE_PARENTS),
            checksum: !has(FRAME_FILE_NO_CHECKSUM),
            reply: !has(FRAME_FILE_NO_REPLY),
            rate: set(self.rate),
            rights: Rights::ALL,
            policy: None,
            so_far: None,
        })
    }

    /// The caller's policy.
    pub(in crate::ffi) fn policy(
        &self,
    ) -> Option<impl Fn(&Inquiry<'_>, &mut Choice) -> Result<()> + Send + Sync + use<>> {
        let (policy, context) = (self.policy?, Context::new(self.context));
        Some(move |inquiry: &Inquiry<'_>, choice: &mut Choice| {
            show(inquiry, choice, |shown, reason, size| {
                policy::call(policy, context, shown, reason, size)
            })
        })
    }
}

/// The rights that flags of C give.
pub(in crate::ffi) fn rights(flags: u32, what: &str) -> Result<Rights> {
    let flags = options::flags(flags, FRAME_SERVE_READ | FRAME_SERVE_WRITE, what)?;
    let has = |flag| flags & flag != 0;
    let (read, create) = (has(FRAME_SERVE_READ), has(FRAME_SERVE_CREATE));
    Ok(Rights { read, create, replace: has(FRAME_SERVE_REPLACE) })
}

impl FrameFileChoice {
    fn of(choice: &Choice) -> FrameFileChoice {
        let Rights { read, create, replace } = choice.rights;
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        FrameFileChoice {
            size: u32::try_from(size_of::<FrameFileChoice>()).unwrap_or(u32::MAX),
            rights: flag(FRAME_SERVE_READ, read)
                | flag(FRAME_SERVE_CREATE, create)
                | flag(FRAME_SERVE_REPLACE, replace),
            root_fd: -1,
            mode: choice.mode.unwrap_or(0),
            max_size: choice.max_size.unwrap_or(FRAME_NO_LIMIT),
        }
    }

    /// What a policy has made of it.
    fn apply(&self, choice: &mut Choice) -> Result<()> {
        choice.rights = rights(self.rights, "frame_file_choice.rights")?;
        choice.mode = mode(self.mode)?;
        choice.max_size = (self.max_size != FRAME_NO_LIMIT).then_some(self.max_size);
        if let Some(root) = Fd::of(self.root_fd).optional()? {
            choice.root = Some(Arc::new(copied(root)?));
        }
        Ok(())
    }
}

/// A copy of the host's descriptor.
pub(in crate::ffi) fn copied(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|errno| Error::system("fcntl", errno))
}

/// Shows an inquiry to a policy of C.
fn show(
    inquiry: &Inquiry<'_>,
    choice: &mut Choice,
    ask: impl FnOnce(&FrameFileInquiry, *mut c_char, usize) -> c_int,
) -> Result<()> {
    let cmd = c_string(inquiry.cmd, "cmd")?;
    let name = c_string(inquiry.name, "filename")?;
    let header = c_string(inquiry.header.text(), "header")?;
    let who = ClientText::of(&inquiry.client);
    let mut chosen = FrameFileChoice::of(choice);
    let shown = FrameFileInquiry {
        size: u32::try_from(size_of::<FrameFileInquiry>()).unwrap_or(u32::MAX),
        pid: who.credentials.pid,
        cmd: cmd.as_ptr(),
        name: name.as_ptr(),
        name_len: inquiry.name.len() as u64,
        filesize: inquiry.filesize.unwrap_or(FRAME_NO_LIMIT),
        header: header.as_ptr(),
        key_id: pointer(who.key_id.as_ref()),
        address: pointer(who.address.as_ref()),
        uid: who.credentials.uid,
        gid: who.credentials.gid,
        choice: &raw mut chosen,
    };
    policy::ask(|reason, size| ask(&shown, reason, size))?;
    chosen.apply(choice)
}
