//! Files: put on a server, got from one, and served.

use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;

use super::arguments::{descriptor, invalid, object_mut, path, string};
use super::frame::FrameHandle;
use super::options::{self, SizedStruct, duplex, limit, timeout};
use super::outcome::code;
use crate::Duplex;
use crate::error::{ErrorKind, Result};
use crate::io::store::StoreOptions;
use crate::limits;
use crate::ops::file::{self, Options, Served, Transfer};

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
    /// many; other than 0 breaks off with FRAME_ECANCELLED. May be NULL.
    pub progress:
        Option<unsafe extern "C" fn(context: *mut c_void, done: u64, total: u64) -> c_int>,
    /// What progress is given; the library does not look at it.
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers only, `size` first, no padding.
unsafe impl SizedStruct for FileOptions {}

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
/// what the server says it has stored is something else; in step. FRAME_ETIMEOUT,
/// FRAME_EARGUMENT, FRAME_EBADFD: nothing was sent. Close the connection after all others:
/// FRAME_ETRUNCATED (from_fd ended before length, or the reply was cut), FRAME_ESTALLED,
/// FRAME_ECANCELLED, FRAME_ECLOSED, FRAME_EBADREPLY, FRAME_EIO with errno. Since 0.1.
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
        let (name, length) = unsafe { (string(name, "name")?, read(opts)?.length) };
        let source = descriptor(from_fd)?;
        let length = (length != 0).then_some(length);
        // SAFETY: as above.
        unsafe {
            transfer(fd, opts, result, |duplex, options| {
                file::put(duplex, name, source, length, options)
            })
        }
    })
}

/// Client: as frame_file_put() for the regular file at path, all of it.
///
/// FRAME_EPATH where path is not a regular file, FRAME_ENOTFOUND, FRAME_EDENIED: nothing
/// was sent. Since 0.1.
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
        unsafe {
            transfer(fd, opts, result, |duplex, options| {
                file::put_path(duplex, name, path, options)
            })
        }
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
/// FRAME_ETIMEOUT, FRAME_EARGUMENT, FRAME_EBADFD for fd: nothing was sent. Close the
/// connection after all others: FRAME_ETRUNCATED (the server gave up in the middle, as it
/// does when the file becomes shorter), FRAME_ETOOBIG (above max_size; nothing was
/// written), FRAME_ENOSPACE and FRAME_EIO with errno (also of to_fd), FRAME_ESTALLED,
/// FRAME_ECANCELLED, FRAME_ECLOSED, FRAME_EBADREPLY (the reply contradicts itself),
/// FRAME_EBADFIELD. Since 0.1.
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
        unsafe {
            transfer(fd, opts, result, |duplex, options| file::get(duplex, name, dest, options))
        }
    })
}

/// Client: as frame_file_get() into the file at path, which is there once it is complete,
/// matches its digest and, without FRAME_FILE_NO_SYNC, would survive a power loss. Until
/// then, and after a failure, what was there stays; nothing else is left.
///
/// Only a regular file is replaced, and no symbolic link: FRAME_EPATH. FRAME_EEXISTS,
/// FRAME_ENOTFOUND (the directory), FRAME_EDENIED, FRAME_ENOSPACE: if they are seen
/// beforehand nothing is sent; close the connection all the same. Since 0.1.
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
        unsafe {
            transfer(fd, opts, result, |duplex, options| {
                file::get_path(duplex, name, path, options)
            })
        }
    })
}

/// Server: does what a received put or get asks for, beneath the directory root_fd, and
/// replies.
///
/// request is a frame with the cmd "put" or "get", from frame_recv_header() or, where its
/// body is small, frame_recv(); none of its body may have been read yet. fd is where it
/// came from. root_fd is a directory, opened with O_PATH or O_RDONLY. Everything is
/// borrowed. opts and result may be NULL. Threads may serve side by side, also in one
/// root, on different connections.
///
/// No name leads out of root_fd: symbolic links are followed nowhere, only regular files
/// are read or replaced, and names that begin with .framefd- are the library's own. A file
/// that is put is written beside its place under such a name and takes its place when it
/// is complete and matches the digest that was sent; whatever fails, the old file stays
/// and nothing else is left. A put that is refused is received to its end all the same, so
/// that the reply can follow and the stream stays in step.
///
/// Returns 0: a reply was sent, or the client did not wait for it, and the stream is in
/// step; result->error says what was refused. Anything negative: close the connection.
/// FRAME_ETRUNCATED: a put was cut, or a file that is being sent became shorter, which the
/// client learns from the close. FRAME_ESTALLED, FRAME_ECANCELLED, FRAME_EIO with errno,
/// FRAME_EBADFIELD and FRAME_ETOOBIG (nobody knows where the put ends; the client was
/// told), FRAME_ESTATE (a packet, or a body that was read), FRAME_EBADFD, FRAME_EARGUMENT.
/// Since 0.1.
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
            call(fd, opts, result, |duplex, options| {
                Ok(match file::serve(duplex, header, body, root, options)? {
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

impl FileOptions {
    fn convert(&self) -> Result<Options<'static>> {
        let known = FRAME_FILE_NO_OVERWRITE
            | FRAME_FILE_NO_CHECKSUM
            | FRAME_FILE_NO_SYNC
            | FRAME_FILE_NO_REPLY;
        if self.flags & !known != 0 {
            return Err(invalid(format!("flags are {:#x}", self.flags)));
        }
        if self.mode & !0o777 != 0 {
            return Err(invalid(format!("mode is {:#o}", self.mode)));
        }
        let allowed = |flag| self.flags & flag == 0;
        Ok(Options {
            timeout: timeout(self.timeout_ms, None)?,
            stall: timeout(self.stall_ms, Some(limits::STALL_TIMEOUT))?,
            max_size: limit(self.max_size, u64::MAX, u64::MAX, "max_size")?,
            store: StoreOptions {
                mode: (self.mode != 0).then_some(self.mode),
                mtime: None,
                overwrite: allowed(FRAME_FILE_NO_OVERWRITE),
                sync: allowed(FRAME_FILE_NO_SYNC),
                parents: false,
            },
            checksum: allowed(FRAME_FILE_NO_CHECKSUM),
            reply: allowed(FRAME_FILE_NO_REPLY),
            ..Options::default()
        })
    }
}

/// Reads the caller's options; NULL is all defaults.
unsafe fn read(opts: *const FileOptions) -> Result<FileOptions> {
    // SAFETY: the caller's promise.
    unsafe { options::read(opts, "struct frame_file_options") }
}

/// A client's call.
unsafe fn transfer(
    fd: c_int,
    opts: *const FileOptions,
    result: *mut FileResult,
    work: impl FnOnce(Duplex<'static>, &Options<'_>) -> Result<Transfer>,
) -> Result<()> {
    let work = |duplex: Duplex<'static>, options: &Options<'_>| {
        work(duplex, options).map(|transfer| result_of(Some(transfer), 0))
    };
    // SAFETY: the caller's promise.
    unsafe { call(fd, opts, result, work) }
}

/// Does `work` with the caller's options, and reports what came of it.
unsafe fn call(
    fd: c_int,
    opts: *const FileOptions,
    result: *mut FileResult,
    work: impl FnOnce(Duplex<'static>, &Options<'_>) -> Result<FileResult>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let given = unsafe {
        options::check_result(result, "struct frame_file_result")?;
        read(opts)?
    };
    let progress = given.progress.map(|progress| {
        move |done, total| {
            // SAFETY: the header's contract for the callback and its context.
            match unsafe { progress(given.context, done, total) } {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        }
    });
    let progress = progress.as_ref().map(|progress| progress as &dyn Fn(_, _) -> _);
    let options = Options { progress, ..given.convert()? };
    let value = work(duplex(fd, given.write_fd)?, &options)?;
    // SAFETY: the caller's promise.
    unsafe { options::write(result, &value, "struct frame_file_result") }
}

fn result_of(transfer: Option<Transfer>, error: i32) -> FileResult {
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
