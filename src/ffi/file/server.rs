//! Files served below one directory, and what cut transfers leave there swept away.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use super::transfer::{
    FRAME_FILE_NO_CHECKSUM, FRAME_FILE_NO_OVERWRITE, FRAME_FILE_NO_REPLY, FRAME_FILE_NO_SYNC,
    FRAME_FILE_PARENTS, FrameFileResult, mode, result_of, wait,
};
use crate::error::{ErrorKind, Result};
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::options::{self, FRAME_NO_LIMIT, SizedStruct};
use crate::ffi::boundary::outcome::{code, count};
use crate::ffi::boundary::parameters::{Context, Fd, Handle, Options, Results, Text};
use crate::ffi::boundary::policy::{self, c_string};
use crate::ffi::connection::FrameConnection;
use crate::ffi::exec::header_of;
use crate::limits;
use crate::ops::file::{self, Inquiry, Policy, ServeOptions, Served, Transferred};

/// What a client asks of a file server, for a policy. Everything in it is valid until the policy
/// returns.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileInquiry {
    /// sizeof(struct frame_file_inquiry) of this library: members beyond it do not exist.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// "put", "get", "stat", "list", "mkdir" or "symlink".
    pub cmd: *const c_char,
    /// The name, relative to the root: name_len bytes and a NUL, in any encoding. It was found to
    /// be acceptable; "" is the root.
    pub name: *const c_char,
    /// Bytes of name.
    pub name_len: u64,
    /// Bytes of the file that a put wants to store; FRAME_NO_LIMIT for the others.
    pub filesize: u64,
    /// The header of the request, JSON text.
    pub header: *const c_char,
}

/// How files are served. A request cannot go beyond max_size, rate and FRAME_FILE_NO_OVERWRITE.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileOptions {
    /// sizeof(struct frame_file_options).
    pub size: u32,
    /// FRAME_FILE_NO_OVERWRITE, FRAME_FILE_NO_CHECKSUM, FRAME_FILE_NO_SYNC, FRAME_FILE_NO_REPLY,
    /// FRAME_FILE_PARENTS, added up.
    pub flags: u32,
    /// Milliseconds for the whole request; default FRAME_NO_TIMEOUT.
    pub timeout_ms: i32,
    /// Milliseconds without a byte; default 30 s, or FRAME_NO_TIMEOUT.
    pub stall_ms: i32,
    /// Bytes of a file that is stored; default FRAME_NO_LIMIT.
    pub max_size: u64,
    /// Bytes per second that are sent or received; 0 is as fast as it goes.
    pub rate: u64,
    /// Permission bits of a file that is stored, of 0777, if the request does not say; 0 is 0666.
    /// The umask is taken off.
    pub mode: u32,
    /// 0.
    pub reserved: u32,
    /// Asked before anything is opened or stored; may be NULL. 0 allows the request. A FRAME_E...
    /// code refuses it: the client gets the reply code that stands for it, and what was written
    /// to reason, a C string of reason_size bytes at most, as the message. Any other number is
    /// FRAME_EACCES. It is called on the thread of the call.
    pub policy: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            inquiry: *const FrameFileInquiry,
            reason: *mut c_char,
            reason_size: usize,
        ) -> c_int,
    >,
    /// Passed to policy.
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for FrameFileOptions {}

/// Serves a put, get, stat, list, mkdir or symlink below the directory root_fd, whose header was
/// just received with frame_connection_recv_header(): reads its body and replies. Any other cmd
/// is answered as unsupported.
///
/// request is the text of the header. root_fd is opened with O_PATH or O_RDONLY. Everything is
/// borrowed for the call. opts and result may be NULL. Threads may serve side by side, also in
/// one root, on different connections.
///
/// No name leads out of root_fd: symbolic links are followed nowhere, only regular files are read
/// or replaced, and names that begin with .framefd- are the library's own. A file that is put is
/// written beside its place, and takes that place once it is complete and matches the digest that
/// was sent. Whatever fails, the old file stays, and nothing else is left, except for the partial
/// file of a put that is to be resumed. A symbolic link is made only if it cannot lead out. A put
/// that is refused is received to its end all the same, so that the connection stays in sync.
///
/// Returns 0: the client got a reply, or did not wait for it; the error member of *result has the
/// code of an error reply. These leave the connection as it was: FRAME_EINVAL, FRAME_EBADF
/// (root_fd is no directory), FRAME_EBADJSON (request is no header), FRAME_ESTATE (a part of the
/// body was received before). Every other failure breaks the connection: FRAME_ETRUNCATED (a put
/// was cut, or a file that is being sent became shorter, which the client learns when the
/// connection is closed), FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_EBADFIELD and FRAME_ETOOBIG
/// (nobody knows where the put ends; the client was told), FRAME_EIO with errno, and the codes of
/// frame_connection_recv() and frame_connection_send().
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
        let so_far = Cell::default();
        let options = ServeOptions { policy, so_far: Some(&so_far), ..opts.convert()? };
        let served = c.cell.both(|connection| file::serve(connection, &header, root, &options));
        let (done, error) = match &served {
            Ok(Served::Done(done)) => (*done, 0),
            Ok(Served::Unanswered(done)) => (*done, ErrorKind::Closed.code()),
            Ok(Served::Refused(error)) => (Transferred::default(), error.kind().code()),
            Err(_) => (so_far.get(), 0),
        };
        result.put(&result_of(&done, error), "result")?;
        served.map(drop)
    })
}

/// Removes what is left of transfers that were cut, in root_fd and all directories below it:
/// files whose names begin with .framefd-, that nobody writes at present, and that were last
/// written older_than_ms milliseconds ago or earlier; 0 is the default, 24 h. A process that was
/// killed leaves such files, and so does a transfer with FRAME_FILE_RESUME that was cut.
///
/// root_fd is borrowed; symbolic links are not followed. Returns how many files were removed.
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
    fn convert(&self) -> Result<ServeOptions<'static>> {
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
            policy: None,
            so_far: None,
        })
    }

    /// The caller's policy.
    fn policy(&self) -> Option<impl Fn(&Inquiry<'_>) -> Result<()> + use<>> {
        let (policy, context) = (self.policy?, Context::new(self.context));
        Some(move |inquiry: &Inquiry<'_>| {
            show(inquiry, |shown, reason, size| policy::call(policy, context, shown, reason, size))
        })
    }
}

/// Shows an inquiry to a policy of C.
fn show(
    inquiry: &Inquiry<'_>,
    ask: impl FnOnce(&FrameFileInquiry, *mut c_char, usize) -> c_int,
) -> Result<()> {
    let cmd = c_string(inquiry.cmd, "cmd")?;
    let name = c_string(inquiry.name, "filename")?;
    let header = c_string(inquiry.header.text(), "header")?;
    let shown = FrameFileInquiry {
        size: u32::try_from(size_of::<FrameFileInquiry>()).unwrap_or(u32::MAX),
        reserved: 0,
        cmd: cmd.as_ptr(),
        name: name.as_ptr(),
        name_len: inquiry.name.len() as u64,
        filesize: inquiry.filesize.unwrap_or(FRAME_NO_LIMIT),
        header: header.as_ptr(),
    };
    policy::ask(|reason, size| ask(&shown, reason, size))
}
