//! Files: put on a server, got from one, and served.

use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::arguments::{descriptor, invalid, object_mut, path, string};
use crate::ffi::boundary::options::{self, FRAME_NO_LIMIT, SizedStruct, duplex, limit, timeout};
use crate::ffi::boundary::outcome::code;
use crate::ffi::boundary::policy::{self, c_string};
use crate::ffi::frame::FrameHandle;
use crate::io::deadline::{Deadline, Patience};
use crate::limits;
use crate::ops::file::{
    self, Inquiry, Links, Local, Policy, Progress, ServeOptions, Served, Transfer, Transferred,
};
use crate::ops::frame::{Body, BodyReader, Connection, ConnectionOptions};
use crate::wire::json::header::Header;

/// For frame_file_options.flags: a file that exists is not replaced, and the call fails;
/// which of several at once comes first is decided by one system call.
pub const FRAME_FILE_NO_OVERWRITE: u32 = 1;
/// For frame_file_options.flags: nothing is hashed. A server still checks a digest that a
/// client sends.
pub const FRAME_FILE_NO_CHECKSUM: u32 = 2;
/// For frame_file_options.flags: a file that is stored here need not survive a power loss.
pub const FRAME_FILE_NO_SYNC: u32 = 4;
/// For frame_file_options.flags. Put: the server is an old one that answers nothing; 0
/// then says that all was sent, and no more. Server: a put without data_size is not
/// answered; the oldest uploaders send several on one connection, read nothing, and lose
/// what is still on its way if they close with a reply unread.
pub const FRAME_FILE_NO_REPLY: u32 = 8;

/// For frame_file_options.flags. Put: goes on where an earlier one was cut, after the digest
/// of what the server has was compared, and if it is cut as well the next one can go on
/// from there; the source has to be a regular file. frame_file_get_path(): the same, with
/// the partial file here. Trees: files of the same size and time are passed over, too. A
/// partial file is named .framefd-DIGITS.part, and frame_file_sweep() removes old ones.
pub const FRAME_FILE_RESUME: u32 = 16;
/// For frame_file_options.flags: directories that are missing on the way are made.
pub const FRAME_FILE_PARENTS: u32 = 32;
/// For frame_file_options.flags: the permission bits and the time of modification go along
/// with a path or a tree, in either direction. Directories keep no time, and those that are
/// made on a server all rights for their owner.
pub const FRAME_FILE_PRESERVE: u32 = 64;
/// For frame_file_options.flags, for trees: a symbolic link ends the call with FRAME_EPATH;
/// without a flag for links they are left out and counted.
pub const FRAME_FILE_REFUSE_LINKS: u32 = 128;
/// For frame_file_options.flags, for frame_file_put_tree(): the file that a symbolic link
/// leads to within the tree is sent in its place. FRAME_ENOTSUP where there is no
/// openat2(2), before Linux 5.6.
pub const FRAME_FILE_FOLLOW_LINKS: u32 = 256;
/// For frame_file_options.flags, for trees: symbolic links are made anew; one that leads
/// out of the tree ends the call.
pub const FRAME_FILE_COPY_LINKS: u32 = 512;

/// How a file is sent, received or served. Initialise it with FRAME_FILE_OPTIONS_INIT; a
/// member that is 0 has its default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FileOptions {
    /// sizeof(struct frame_file_options), set by FRAME_FILE_OPTIONS_INIT.
    pub size: u32,
    /// Milliseconds for the whole call; the default is FRAME_NO_TIMEOUT.
    pub timeout_ms: i32,
    /// The descriptor to write to, where it is not the one that is read from.
    pub write_fd: i32,
    /// FRAME_FILE_NO_OVERWRITE and the like.
    pub flags: u32,
    /// Milliseconds without a byte; default 30 s, or FRAME_NO_TIMEOUT. A server that syncs
    /// a large file before it replies is silent for as long as that takes.
    pub stall_ms: i32,
    /// Permission bits of the file that is stored: on the server for a put, here for
    /// frame_file_get_path(), on a server where the request does not say. Default 0666; the
    /// umask is taken off. Only the bits of 0777.
    pub mode: u32,
    /// Bytes of a file that is taken from the other end, by a get or on a server; default
    /// FRAME_NO_LIMIT.
    pub max_size: u64,
    /// frame_file_put(): bytes to send; 0 is those from where a regular file stands to its
    /// end.
    pub length: u64,
    /// Called after each piece, at most 1 MiB, with how many bytes have passed of how
    /// many; other than 0 breaks off with FRAME_ECANCELED. May be NULL.
    pub progress:
        Option<unsafe extern "C" fn(context: *mut c_void, done: u64, total: u64) -> c_int>,
    /// What progress and policy are given; the library does not look at it.
    pub context: *mut c_void,
    /// frame_file_get(): bytes of the file that to_fd has already, before where it stands;
    /// only the rest is asked for. They have to be readable, to be compared with the
    /// server's, unless FRAME_FILE_NO_CHECKSUM is set. frame_file_put(): bytes that the
    /// server has, before where from_fd stands.
    pub offset: u64,
    /// Bytes per second that are sent or received, at the most; 0 is as fast as it goes.
    pub rate: u64,
    /// Milliseconds since 1970, the time of modification of the file that is stored; 0 is
    /// none in particular.
    pub mtime_ms: i64,
    /// Server: asked before anything is opened or stored; may be NULL. 0 allows the
    /// request. A FRAME_E... code refuses it: the client gets the reply code that stands
    /// for it, and what was written to reason, a C string of reason_size bytes at most, as
    /// the message. Any other number is FRAME_EACCES. It is called on the thread of the
    /// call.
    pub policy: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            inquiry: *const FileInquiry,
            reason: *mut c_char,
            reason_size: usize,
        ) -> c_int,
    >,
}

// SAFETY: numbers and pointers only, `size` first, no padding.
unsafe impl SizedStruct for FileOptions {}

/// What a client asks of a file server, for a policy. Everything in it is valid until the
/// policy returns.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FileInquiry {
    /// sizeof(struct frame_file_inquiry) of this library: what is beyond it is not there.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// "put", "get", "stat", "list", "mkdir" or "symlink".
    pub cmd: *const c_char,
    /// The name, relative to the root: name_len bytes, of any encoding.
    pub name: *const c_char,
    /// Bytes of name.
    pub name_len: usize,
    /// Bytes of the file that a put wants to store; FRAME_NO_LIMIT for the others.
    pub filesize: u64,
    /// The header of the request, JSON text.
    pub header: *const c_char,
}

/// What came of a file. Initialise it with FRAME_FILE_RESULT_INIT: size says how much of
/// it may be written.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FileResult {
    /// sizeof(struct frame_file_result), set by FRAME_FILE_RESULT_INIT.
    pub size: u32,
    /// Server: the FRAME_E... code of what was reported to the client; FRAME_ECLOSED where
    /// the file was stored, but the client did not wait for the reply; else 0.
    pub error: i32,
    /// Bytes of the file.
    pub bytes: u64,
    /// The SHA-256 of the file in 64 lower-case hex digits and a NUL; "" where none was
    /// computed.
    pub sha256: [c_char; 72],
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FileResult {}

/// Client: stores what from_fd gives as the file name on the server.
///
/// name is relative to the server's root: components with one / between each two, in any
/// encoding; the server judges it. from_fd may be a file, pipe or socket, the latter two
/// with opts->length set; it is read from where it stands and not closed. opts and result
/// may be NULL. Memory is constant: 1 MiB. Threads may call it side by side on different
/// connections.
///
/// The file is replaced as a whole or not at all. Its digest follows the content, so that
/// the server stores nothing else, and what the server says it has stored is compared
/// once more. An error reply comes when the whole file was sent.
///
/// Returns 0: stored. A code of -100 or below: the other end's error reply, such as
/// FRAME_EREMOTE_DENIED (the name), FRAME_EREMOTE_EXISTS, FRAME_EREMOTE_NO_SPACE or
/// FRAME_EREMOTE_CHECKSUM: nothing was stored, the stream is in step. FRAME_ECHECKSUM:
/// what the server says it has stored is something else; in step. FRAME_ETIMEDOUT,
/// FRAME_EINVAL, FRAME_EBADF: nothing was sent. Close the connection after all others:
/// FRAME_ETRUNCATED (from_fd ended before length, or the reply was cut), FRAME_ESTALLED,
/// FRAME_ECANCELED, FRAME_ECLOSED, FRAME_EBADREPLY, FRAME_EIO with errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_put(
    fd: c_int,
    name: *const c_char,
    from_fd: c_int,
    opts: *const FileOptions,
    result: *mut FileResult,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let name = unsafe { string(name, "name") }?;
        let what = Transfer::fd(name, descriptor(from_fd)?);
        // SAFETY: as above.
        unsafe { put(fd, &what, opts, result) }
    })
}

/// Client: as frame_file_put() for the regular file at path, all of it.
///
/// FRAME_EPATH where path is not a regular file, FRAME_ENOENT, FRAME_EACCES: nothing
/// was sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_put_path(
    fd: c_int,
    name: *const c_char,
    path: *const c_char,
    opts: *const FileOptions,
    result: *mut FileResult,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (name, path) = unsafe { (string(name, "name")?, self::path(path)?) };
        // SAFETY: as above.
        unsafe { put(fd, &Transfer::path(name, path), opts, result) }
    })
}

/// Client: writes the server's file name to to_fd.
///
/// to_fd may be a file, pipe, socket or terminal; it is not closed, and after a failure
/// has what was received until then. Nothing that the server says has a part in where it
/// goes, and no more than opts->max_size is taken. name, opts, result and threads are as
/// for frame_file_put().
///
/// Returns 0: it came whole, and matches the digest, where the server sends one. A code
/// of -100 or below: the other end's error reply, such as FRAME_EREMOTE_NOT_FOUND or
/// FRAME_EREMOTE_DENIED; in step. FRAME_ECHECKSUM: it does not match; in step.
/// FRAME_ETIMEDOUT, FRAME_EINVAL, FRAME_EBADF for fd: nothing was sent. Close the
/// connection after all others: FRAME_ETRUNCATED (the server gave up in the middle, as it
/// does when the file becomes shorter), FRAME_ETOOBIG (above max_size; nothing was
/// written), FRAME_ENOSPC and FRAME_EIO with errno (also of to_fd), FRAME_ESTALLED,
/// FRAME_ECANCELED, FRAME_ECLOSED, FRAME_EBADREPLY (the reply contradicts itself),
/// FRAME_EBADFIELD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_get(
    fd: c_int,
    name: *const c_char,
    to_fd: c_int,
    opts: *const FileOptions,
    result: *mut FileResult,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let name = unsafe { string(name, "name") }?;
        let dest = descriptor(to_fd)?;
        // SAFETY: as above.
        unsafe { get(fd, &Transfer::fd(name, dest), opts, result) }
    })
}

/// Client: as frame_file_get() into the file at path, which is there once it is complete,
/// matches its digest and, without FRAME_FILE_NO_SYNC, would survive a power loss. Until
/// then, and after a failure, what was there stays; nothing else is left.
///
/// With FRAME_FILE_RESUME what came before a failure is kept in a partial file beside path,
/// for the next call to go on from.
///
/// Only a regular file is replaced, and no symbolic link: FRAME_EPATH. FRAME_EEXIST,
/// FRAME_ENOENT (the directory), FRAME_EACCES, FRAME_ENOSPC: if they are seen
/// beforehand nothing is sent; close the connection all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_get_path(
    fd: c_int,
    name: *const c_char,
    path: *const c_char,
    opts: *const FileOptions,
    result: *mut FileResult,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (name, path) = unsafe { (string(name, "name")?, self::path(path)?) };
        // SAFETY: as above.
        unsafe { get(fd, &Transfer::path(name, path), opts, result) }
    })
}

/// Server: does what a received put, get, stat, list, mkdir or symlink asks for, beneath the
/// directory root_fd, and replies.
///
/// request is a frame with one of these as its cmd, from frame_recv_header() or, where its
/// body is small, frame_recv(); none of its body may have been read yet. fd is where it
/// came from. root_fd is a directory, opened with O_PATH or O_RDONLY. Everything is
/// borrowed. opts and result may be NULL. Threads may serve side by side, also in one
/// root, on different connections.
///
/// No name leads out of root_fd: symbolic links are followed nowhere, only regular files
/// are read or replaced, and names that begin with .framefd- are the library's own. A file
/// that is put is written beside its place under such a name and takes its place when it
/// is complete and matches the digest that was sent; whatever fails, the old file stays
/// and nothing else is left, but for the partial file of a put that is to be resumed. A
/// symbolic link is made only where it cannot lead out. A put that is refused is received
/// to its end all the same, so that the reply can follow and the stream stays in step.
///
/// Returns 0: a reply was sent, or the client did not wait for it, and the stream is in
/// step; result->error says what was refused. Anything negative: close the connection.
/// FRAME_ETRUNCATED: a put was cut, or a file that is being sent became shorter, which the
/// client learns from the close. FRAME_ESTALLED, FRAME_ECANCELED, FRAME_EIO with errno,
/// FRAME_EBADFIELD and FRAME_ETOOBIG (nobody knows where the put ends; the client was
/// told), FRAME_ESTATE (a packet, or a body that was read), FRAME_EBADF, FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_serve(
    fd: c_int,
    request: *mut FrameHandle,
    root_fd: c_int,
    opts: *const FileOptions,
    result: *mut FileResult,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let request = unsafe { object_mut(request, "request") }?;
        let (header, body) = request.parts()?;
        let root = descriptor(root_fd)?;
        // SAFETY: as above.
        unsafe {
            call(fd, opts, result, |connection, given| {
                let served = serve(connection, header, body, root, given);
                Ok(match served.map_err(late)? {
                    Served::Done(transfer) => result_of(Some(transfer), 0),
                    Served::Unanswered(transfer) => {
                        result_of(Some(transfer), ErrorKind::Closed.code())
                    }
                    Served::Refused(error) => result_of(None, error.kind().code()),
                })
            })
        }
    })
}

/// Serves a request whose body may have been received before.
fn serve(
    connection: &mut Connection<'static>,
    header: &Header,
    body: Body<'_, 'static>,
    root: BorrowedFd<'_>,
    given: &Given<'_>,
) -> Result<Served> {
    if body.len() != header.data_size().unwrap_or(0) {
        return Err(Error::new(ErrorKind::State, "a part of the body was received before"));
    }
    if let Body::Memory(bytes) = &body {
        connection.take_back(bytes)?;
    }
    connection.expect_body(body.len());
    let served = file::serve(connection, header, root, &given.serve()?);
    if let (Body::Stream(reader), Some(fd)) = (body, connection.read_fd()) {
        *reader = BodyReader::new(fd, connection.to_receive());
    }
    served
}

/// The options of a call.
pub(in crate::ffi) struct Given<'a> {
    members: FileOptions,
    links: Links,
    progress: Option<Progress<'a>>,
    policy: Option<Policy<'a>>,
    pub patience: Patience,
}

impl<'a> Given<'a> {
    fn has(&self, flag: u32) -> bool {
        self.members.flags & flag != 0
    }

    pub fn parents(&self) -> bool {
        self.has(FRAME_FILE_PARENTS)
    }

    pub fn mode(&self) -> Option<u32> {
        (self.members.mode != 0).then_some(self.members.mode)
    }

    /// What every transfer has.
    fn both(&self, what: &Transfer<'a>) -> Transfer<'a> {
        Transfer {
            offset: self.members.offset,
            mode: self.mode(),
            mtime: (self.members.mtime_ms != 0).then_some(self.members.mtime_ms),
            overwrite: !self.has(FRAME_FILE_NO_OVERWRITE),
            preserve: self.has(FRAME_FILE_PRESERVE),
            resume: self.has(FRAME_FILE_RESUME),
            checksum: !self.has(FRAME_FILE_NO_CHECKSUM),
            links: if what.tree { self.links } else { Links::Skip },
            rate: (self.members.rate != 0).then_some(self.members.rate),
            stall: self.patience.stall,
            progress: self.progress,
            ..*what
        }
    }

    fn put(&self, what: &Transfer<'a>) -> Transfer<'a> {
        let length = self.members.length;
        let has_length = matches!(what.local, Local::Fd(_)) && length != 0;
        let what = Transfer {
            length: has_length.then_some(length),
            parents: self.parents(),
            reply: !self.has(FRAME_FILE_NO_REPLY),
            ..self.both(what)
        };
        if what.reply {
            return what;
        }
        let (mode, mtime, overwrite) = (None, None, true);
        let (parents, preserve, resume) = (false, false, false);
        Transfer { mode, mtime, overwrite, parents, preserve, resume, ..what }
    }

    fn get(&self, what: &Transfer<'a>) -> Result<Transfer<'a>> {
        let max_size = limit(self.members.max_size, u64::MAX, u64::MAX, "max_size")?;
        let what = Transfer {
            max_size: Some(max_size),
            sync: !self.has(FRAME_FILE_NO_SYNC),
            reply: !what.tree || !self.has(FRAME_FILE_NO_REPLY),
            ..self.both(what)
        };
        if matches!(what.local, Local::Path(_)) {
            return Ok(what);
        }
        let (mode, mtime, overwrite) = (None, None, true);
        let (sync, preserve, resume) = (true, false, false);
        Ok(Transfer { mode, mtime, overwrite, sync, preserve, resume, ..what })
    }

    fn serve(&self) -> Result<ServeOptions<'a>> {
        Ok(ServeOptions {
            timeout: timeout(self.members.timeout_ms, None)?,
            stall: self.patience.stall,
            max_size: Some(limit(self.members.max_size, u64::MAX, u64::MAX, "max_size")?),
            mode: self.mode(),
            overwrite: !self.has(FRAME_FILE_NO_OVERWRITE),
            sync: !self.has(FRAME_FILE_NO_SYNC),
            parents: self.parents(),
            checksum: !self.has(FRAME_FILE_NO_CHECKSUM),
            reply: !self.has(FRAME_FILE_NO_REPLY),
            rate: (self.members.rate != 0).then_some(self.members.rate),
            policy: self.policy,
        })
    }
}

impl FileOptions {
    /// Refuses flags that are not known or contradict each other; returns what they say of links.
    fn links(&self) -> Result<Links> {
        if self.flags & !KNOWN_FLAGS != 0 {
            return Err(invalid(format!("flags are {:#x}", self.flags)));
        }
        if self.mode & !0o777 != 0 {
            return Err(invalid(format!("mode is {:#o}", self.mode)));
        }
        match self.flags & LINK_FLAGS {
            0 => Ok(Links::Skip),
            FRAME_FILE_REFUSE_LINKS => Ok(Links::Refuse),
            FRAME_FILE_FOLLOW_LINKS => Ok(Links::Follow),
            FRAME_FILE_COPY_LINKS => Ok(Links::Copy),
            _ => Err(invalid("flags say two things about links")),
        }
    }
}

const LINK_FLAGS: u32 = FRAME_FILE_REFUSE_LINKS | FRAME_FILE_FOLLOW_LINKS | FRAME_FILE_COPY_LINKS;
const KNOWN_FLAGS: u32 = FRAME_FILE_NO_OVERWRITE
    | FRAME_FILE_NO_CHECKSUM
    | FRAME_FILE_NO_SYNC
    | FRAME_FILE_NO_REPLY
    | FRAME_FILE_RESUME
    | FRAME_FILE_PARENTS
    | FRAME_FILE_PRESERVE
    | LINK_FLAGS;

/// Reads the caller's options; NULL is all defaults.
unsafe fn read(opts: *const FileOptions) -> Result<FileOptions> {
    // SAFETY: the caller's promise.
    unsafe { options::read(opts, "struct frame_file_options") }
}

/// A client's put.
unsafe fn put(
    fd: c_int,
    what: &Transfer<'_>,
    opts: *const FileOptions,
    result: *mut FileResult,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { transfer(fd, opts, result, |connection, given| put_by(connection, what, given)) }
}

/// A client's get.
unsafe fn get(
    fd: c_int,
    what: &Transfer<'_>,
    opts: *const FileOptions,
    result: *mut FileResult,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { transfer(fd, opts, result, |connection, given| get_by(connection, what, given)) }
}

pub(in crate::ffi) fn put_by(
    connection: &mut Connection<'static>,
    what: &Transfer<'_>,
    given: &Given<'_>,
) -> Result<Transferred> {
    file::put(connection, &given.put(what), given.patience)
}

pub(in crate::ffi) fn get_by(
    connection: &mut Connection<'static>,
    what: &Transfer<'_>,
    given: &Given<'_>,
) -> Result<Transferred> {
    file::get(connection, &given.get(what)?, given.patience)
}

/// A client's call.
///
/// # Safety
/// The pointers are what the header asks for.
pub(in crate::ffi) unsafe fn transfer(
    fd: c_int,
    opts: *const FileOptions,
    result: *mut FileResult,
    work: impl FnOnce(&mut Connection<'static>, &Given<'_>) -> Result<Transferred>,
) -> Result<()> {
    let work = |connection: &mut Connection<'static>, given: &Given<'_>| {
        work(connection, given).map(|transfer| result_of(Some(transfer), 0))
    };
    // SAFETY: the caller's promise.
    unsafe { call(fd, opts, result, work) }
}

/// Does `work` with the caller's options, and reports what came of it.
unsafe fn call(
    fd: c_int,
    opts: *const FileOptions,
    result: *mut FileResult,
    work: impl FnOnce(&mut Connection<'static>, &Given<'_>) -> Result<FileResult>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { options::check_result(result, "struct frame_file_result") }?;
    // SAFETY: as above.
    let value = unsafe { with_options(fd, opts, work) }?;
    // SAFETY: as above.
    unsafe { options::write(result, &value, "struct frame_file_result") }
}

/// Does `work` with the caller's options, on a connection that reads nothing ahead.
///
/// # Safety
/// `opts` is what the header asks for.
pub(in crate::ffi) unsafe fn with_options<T>(
    fd: c_int,
    opts: *const FileOptions,
    work: impl FnOnce(&mut Connection<'static>, &Given<'_>) -> Result<T>,
) -> Result<T> {
    // SAFETY: the caller's promise.
    let members = unsafe { read(opts) }?;
    let progress = members.progress.map(|progress| {
        move |_: &[u8], done, total| {
            // SAFETY: the header's contract for the callback and its context.
            match unsafe { progress(members.context, done, total) } {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        }
    });
    let policy = members
        .policy
        .map(|policy| move |inquiry: &Inquiry<'_>| inquire(policy, members.context, inquiry));
    let given = Given {
        members,
        links: members.links()?,
        progress: progress.as_ref().map(|progress| progress as Progress<'_>),
        policy: policy.as_ref().map(|policy| policy as Policy<'_>),
        patience: Patience {
            deadline: Deadline::from_timeout(timeout(members.timeout_ms, None)?),
            stall: timeout(members.stall_ms, Some(limits::STALL_TIMEOUT))?,
        },
    };
    let options = ConnectionOptions { exact: true, as_is: true, ..ConnectionOptions::default() };
    let mut connection = Connection::new(duplex(fd, members.write_fd)?, options)?;
    let outcome = work(&mut connection, &given);
    if connection.state().broken.is_some() { outcome.map_err(late) } else { outcome }
}

/// A descriptor remembers nothing: the code says that the stream is out of sync.
fn late(error: Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::new(ErrorKind::Stalled, error.detail().to_owned()),
        _ => error,
    }
}

type PolicyFn = unsafe extern "C" fn(
    context: *mut c_void,
    inquiry: *const FileInquiry,
    reason: *mut c_char,
    reason_size: usize,
) -> c_int;

/// Shows a request to the caller's policy.
fn inquire(policy: PolicyFn, context: *mut c_void, inquiry: &Inquiry<'_>) -> Result<()> {
    let cmd = c_string(inquiry.cmd, "cmd")?;
    let header = c_string(inquiry.header.text(), "header")?;
    let shown = FileInquiry {
        size: u32::try_from(size_of::<FileInquiry>()).unwrap_or(u32::MAX),
        reserved: 0,
        cmd: cmd.as_ptr(),
        name: inquiry.name.as_ptr().cast(),
        name_len: inquiry.name.len(),
        filesize: inquiry.filesize.unwrap_or(FRAME_NO_LIMIT),
        header: header.as_ptr(),
    };
    // SAFETY: the header's contract for the callback and its context; all that is shown
    // lives until it returns.
    policy::ask(|reason, size| unsafe { policy(context, &raw const shown, reason, size) })
}

pub(in crate::ffi) fn result_of(transfer: Option<Transferred>, error: i32) -> FileResult {
    let mut result = FileResult { size: 0, error, bytes: 0, sha256: [0; 72] };
    if let Some(transfer) = transfer {
        result.bytes = transfer.bytes;
        let text = transfer.sha256.map(|digest| digest.to_string()).unwrap_or_default();
        for (to, from) in result.sha256.iter_mut().zip(text.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
    }
    result
}
