//! Files and trees, put on a server and got from one: one struct says what passes, and how.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::Result;
use crate::ffi::boundary::arguments::{descriptor, invalid};
use crate::ffi::boundary::options::{self, FRAME_NO_TIMEOUT, SizedStruct, timeout};
use crate::ffi::boundary::outcome::code;
use crate::ffi::boundary::parameters::{Handle, Options, Results, Text};
use crate::ffi::connection::FrameConnection;
use crate::limits;
use crate::ops::file::{self, Links, Progress, Transfer, Transferred};
use crate::ops::frame::Connection;
use crate::wire::digest::Digest;

/// For frame_file_transfer.flags: a directory, with all that is in it. Without this flag it is
/// one file.
pub const FRAME_FILE_TREE: u32 = 1;
/// For frame_file_transfer.flags and frame_file_options.flags: a file that exists is not
/// replaced, and the transfer fails. One system call decides, also between several transfers
/// at once.
pub const FRAME_FILE_NO_OVERWRITE: u32 = 2;
/// The same: no digest is computed. A server still checks a digest that a client sends.
pub const FRAME_FILE_NO_CHECKSUM: u32 = 4;
/// For a get to a path and frame_file_options.flags: a file that was stored need not survive a
/// power loss.
pub const FRAME_FILE_NO_SYNC: u32 = 8;
/// For the put of one file: the server is an old one that never replies, and 0 only says that all
/// was sent.
/// In frame_file_options.flags: a put without data_size gets no reply. The oldest clients read
/// none, and would lose what is still on its way if they closed with a reply unread.
pub const FRAME_FILE_NO_REPLY: u32 = 16;
/// For a put, or a get to a path: what arrives of a transfer that is cut is kept in a partial
/// file, and the next transfer with this flag goes on from there, if both sides have the same
/// bytes until then. A tree passes over files of the same size and time of modification as well,
/// and implies FRAME_FILE_PRESERVE. A partial file is named .framefd-DIGITS.part, and
/// frame_file_sweep() removes old ones.
pub const FRAME_FILE_RESUME: u32 = 32;
/// For a put and frame_file_mkdir(): directories that are missing on the way to the name are made.
/// For frame_file_options.flags: that is so if the request does not say.
pub const FRAME_FILE_PARENTS: u32 = 64;
/// For a put, or a get to a path: permission bits and time of modification are those of the
/// source. Directories keep no time, and those that a put makes keep all rights for their owner.
pub const FRAME_FILE_PRESERVE: u32 = 128;
/// For a tree: a symbolic link ends the transfer with FRAME_EPATH. Without a flag for links they
/// are left out and counted; at most one of the three flags can be set.
pub const FRAME_FILE_REFUSE_LINKS: u32 = 256;
/// For the put of a tree: the file that a symbolic link leads to is sent in its place; a link
/// that leads out of the tree ends the transfer. FRAME_ENOTSUP without openat2(2), before Linux
/// 5.6.
pub const FRAME_FILE_FOLLOW_LINKS: u32 = 512;
/// For a tree: symbolic links are made anew; one that leads out of the tree ends the transfer.
pub const FRAME_FILE_COPY_LINKS: u32 = 1024;
/// For frame_file_transfer.flags: the file that is stored gets mtime_ms as its time of
/// modification.
pub const FRAME_FILE_MTIME: u32 = 8192;

/// What is put or got, and how. A member or flag that does not apply is FRAME_EINVAL, and
/// frame_last_error() names it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileTransfer {
    /// sizeof(struct frame_file_transfer).
    pub size: u32,
    /// FRAME_FILE_... added up.
    pub flags: u32,
    /// The name at the server, relative to its root: components with one / between each two, in
    /// any encoding. "" is the root itself, which only a tree can be.
    pub name: *const c_char,
    /// The file or the directory here, or NULL: then it is fd.
    pub path: *const c_char,
    /// If path is NULL: a file, from where it stands, a pipe, a socket or a terminal. It is
    /// borrowed. 0 if path is set.
    pub fd: i32,
    /// Permission bits of the file that is stored, of 0777; 0 is 0666. The umask there is taken
    /// off.
    pub mode: u32,
    /// Put of fd: bytes to send; 0 is all to the end of a regular file. A pipe or a socket needs
    /// a length.
    pub length: u64,
    /// Put of one file: bytes that the server has already. They are not sent: those before where
    /// fd stands, or the first ones at path. Get to fd: bytes that fd has before where it stands;
    /// only the rest is asked for. They have to be readable, for their digest, unless
    /// FRAME_FILE_NO_CHECKSUM is set.
    pub offset: u64,
    /// Get: bytes of a file that are taken; default FRAME_NO_LIMIT. A larger file is
    /// FRAME_ETOOBIG, and nothing of it is written.
    pub max_size: u64,
    /// Bytes per second that are sent or received; 0 is as fast as it goes.
    pub rate: u64,
    /// With FRAME_FILE_MTIME: milliseconds since 1970, or before if it is negative. Else 0.
    pub mtime_ms: i64,
    /// Milliseconds without a byte; default 30 s, or FRAME_NO_TIMEOUT. A server that syncs a
    /// large file before it replies is silent for as long as that takes.
    pub stall_ms: i32,
    /// 0.
    pub reserved: u32,
    /// Called after each piece, at most 1 MiB: name is that of the file at the server, done of
    /// total bytes have passed, in a tree those of the whole tree. A result other than 0 ends the
    /// transfer with FRAME_ECANCELED. May be NULL.
    pub progress: Option<
        extern "C" fn(context: *mut c_void, name: *const c_char, done: u64, total: u64) -> c_int,
    >,
    /// Passed to progress.
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for FrameFileTransfer {}

/// What came of a transfer: written after a failure too, and then it says how far it came.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileResult {
    /// sizeof(struct frame_file_result).
    pub size: u32,
    /// Server: the code of what was reported to the client; FRAME_ECLOSED if the request was
    /// followed and the client did not wait for the reply. Else 0.
    pub error: i32,
    /// Bytes of the file, those that did not have to pass included. In a tree, files that were
    /// the same on both sides do not count.
    pub bytes: u64,
    /// Regular files that passed or, with FRAME_FILE_RESUME, were the same on both sides.
    pub files: u64,
    /// Directories of a tree that are there now, the uppermost one included.
    pub directories: u64,
    /// Symbolic links that were made.
    pub links: u64,
    /// Left out of a tree: links without a flag for them, FIFOs, sockets and devices.
    pub skipped: u64,
    /// The SHA-256 of the whole file in 64 lower-case hex digits and a NUL; "" if none was
    /// computed, and for a tree.
    pub sha256: [c_char; 72],
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameFileResult {}

/// Stores a file on the server, or with FRAME_FILE_TREE a directory with all that is in it.
///
/// what is borrowed for the call. timeout_ms is for the whole transfer, and not 0: it cannot be
/// resumed in the middle. result may be NULL. Memory is constant: 1 MiB, and what a directory's
/// list takes.
///
/// A file is replaced as a whole or not at all. Its digest follows the content, so that the
/// server stores nothing else, and what the server says it has stored is compared once more. An
/// error reply comes once the whole file was sent.
///
/// What a directory on the server has already stays. Nothing outside path is sent. The first
/// failure ends a tree, and frame_last_error() says at which name; files that were sent before
/// are stored.
///
/// Returns 0: stored. These leave the connection in sync: -100 and below, an error reply, such as
/// FRAME_EREMOTE_DENIED (the name), FRAME_EREMOTE_EXISTS, FRAME_EREMOTE_NO_SPACE or
/// FRAME_EREMOTE_CHECKSUM, and nothing was stored; FRAME_ECHECKSUM, the server says that it has
/// stored something else; FRAME_EPATH (path is no regular file, or no directory; a link; a name
/// that the server would not take), FRAME_ENOENT, FRAME_EACCES; FRAME_EINVAL. Once a byte of a
/// request was accepted every other failure breaks the connection: FRAME_ETRUNCATED (the source
/// ended too early), FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_ECLOSED, FRAME_EBADREPLY, FRAME_EIO
/// with errno (of the source as well), and the codes of frame_connection_send() and
/// frame_connection_recv().
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_put(
    c: Handle<FrameConnection>,
    what: Options<FrameFileTransfer>,
    timeout_ms: c_int,
    result: Results<FrameFileResult>,
) -> c_int {
    code(|| transfer(c, what, timeout_ms, &result, |c, what, time| file::put(c, what, time)))
}

/// Takes a file of the server's, or with FRAME_FILE_TREE a directory with all that is in it.
///
/// what, timeout_ms, result and memory are as for frame_file_put().
///
/// A file at path is there once it is complete, matches its digest and, without
/// FRAME_FILE_NO_SYNC, would survive a power loss. Until then, and after a failure, what was
/// there stays, and nothing else is left, except for the partial file of FRAME_FILE_RESUME. Only
/// a regular file is replaced, and no symbolic link. fd has what was received, also after a
/// failure.
///
/// Nothing that the server says leads out of path: a name that is not one component, and a
/// symbolic link that could lead out, end a tree with FRAME_EPATH. What the directory at path has
/// already stays.
///
/// Returns 0: it came whole, and matches the digest, if the server sends one. These leave the
/// connection in sync: -100 and below, an error reply, such as FRAME_EREMOTE_NOT_FOUND or
/// FRAME_EREMOTE_DENIED; FRAME_ECHECKSUM; FRAME_EINVAL; and if 1 MiB or less of the file is still
/// to come a local failure: FRAME_EPATH, FRAME_EEXIST, FRAME_ENOENT (the directory),
/// FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO with errno, FRAME_ETOOBIG (above max_size),
/// FRAME_ECANCELED (progress). Every other failure breaks the connection once a byte of the
/// request was accepted: FRAME_ETRUNCATED (the server gave up, as it does if the file becomes
/// shorter), FRAME_ETIMEDOUT, FRAME_ECLOSED, FRAME_EBADREPLY (the reply contradicts itself), and
/// the codes of frame_connection_send() and frame_connection_recv().
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_get(
    c: Handle<FrameConnection>,
    what: Options<FrameFileTransfer>,
    timeout_ms: c_int,
    result: Results<FrameFileResult>,
) -> c_int {
    code(|| transfer(c, what, timeout_ms, &result, |c, what, time| file::get(c, what, time)))
}

type Work = fn(&mut Connection<'static>, &Transfer<'_>, Option<Duration>) -> Result<Transferred>;

/// Does a transfer, and says how far it came.
fn transfer(
    c: Handle<FrameConnection>,
    what: Options<FrameFileTransfer>,
    timeout_ms: c_int,
    result: &Results<FrameFileResult>,
    work: Work,
) -> Result<()> {
    result.check("result")?;
    let so_far = Cell::default();
    let outcome = what.required("what").and_then(|members| {
        let c = c.get("c")?;
        let timeout = c.exchange_timeout(timeout_ms)?;
        let progress = members.progress();
        let what = Transfer {
            progress: progress.as_ref().map(|progress| progress as Progress<'_>),
            so_far: Some(&so_far),
            ..members.convert()?
        };
        c.cell.both(|connection| work(connection, &what, timeout))
    });
    result.put(&result_of(&so_far.get(), 0), "result")?;
    outcome.map(drop)
}

impl FrameFileTransfer {
    const FLAGS: u32 = FRAME_FILE_TREE
        | FRAME_FILE_NO_OVERWRITE
        | FRAME_FILE_NO_CHECKSUM
        | FRAME_FILE_NO_SYNC
        | FRAME_FILE_NO_REPLY
        | FRAME_FILE_RESUME
        | FRAME_FILE_PARENTS
        | FRAME_FILE_PRESERVE
        | FRAME_FILE_REFUSE_LINKS
        | FRAME_FILE_FOLLOW_LINKS
        | FRAME_FILE_COPY_LINKS
        | FRAME_FILE_MTIME;

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The transfer of Rust, without progress.
    fn convert<'a>(&self) -> Result<Transfer<'a>> {
        options::flags(self.flags, Self::FLAGS, "frame_file_transfer.flags")?;
        options::unused(self.reserved, "frame_file_transfer.reserved")?;
        let set = |value: u64| (value != 0).then_some(value);
        Ok(Transfer {
            tree: self.has(FRAME_FILE_TREE),
            length: set(self.length),
            offset: self.offset,
            mode: mode(self.mode)?,
            mtime: self.mtime()?,
            overwrite: !self.has(FRAME_FILE_NO_OVERWRITE),
            parents: self.has(FRAME_FILE_PARENTS),
            sync: !self.has(FRAME_FILE_NO_SYNC),
            preserve: self.has(FRAME_FILE_PRESERVE),
            resume: self.has(FRAME_FILE_RESUME),
            checksum: !self.has(FRAME_FILE_NO_CHECKSUM),
            reply: !self.has(FRAME_FILE_NO_REPLY),
            links: self.links()?,
            max_size: set(self.max_size),
            rate: set(self.rate),
            stall: wait(self.stall_ms, Some(limits::STALL_TIMEOUT), "stall_ms")?,
            ..self.place()?
        })
    }

    /// The two ends of it.
    fn place<'a>(&self) -> Result<Transfer<'a>> {
        let name = Text::of(self.name).bytes("name")?;
        if name.is_empty() && !self.has(FRAME_FILE_TREE) {
            return Err(invalid("name is empty: the root, which only a tree can be"));
        }
        match (self.path.is_null(), self.fd) {
            (true, fd) => Ok(Transfer::fd(name, descriptor(fd)?)),
            (false, 0) => Ok(Transfer::path(name, Text::of(self.path).path("path")?)),
            (false, _) => Err(options::not_here("fd", "a transfer with a path")),
        }
    }

    fn mtime(&self) -> Result<Option<i64>> {
        match (self.has(FRAME_FILE_MTIME), self.mtime_ms) {
            (true, time) => Ok(Some(time)),
            (false, 0) => Ok(None),
            (false, _) => Err(options::not_here("mtime_ms", "a transfer without FRAME_FILE_MTIME")),
        }
    }

    fn links(&self) -> Result<Links> {
        let flags = FRAME_FILE_REFUSE_LINKS | FRAME_FILE_FOLLOW_LINKS | FRAME_FILE_COPY_LINKS;
        match self.flags & flags {
            0 => Ok(Links::Skip),
            FRAME_FILE_REFUSE_LINKS => Ok(Links::Refuse),
            FRAME_FILE_FOLLOW_LINKS => Ok(Links::Follow),
            FRAME_FILE_COPY_LINKS => Ok(Links::Copy),
            _ => Err(invalid("flags say two things about links")),
        }
    }

    /// The caller's function, which is shown each name with a NUL.
    fn progress(&self) -> Option<impl Fn(&[u8], u64, u64) -> ControlFlow<()> + use<>> {
        let (progress, context) = (self.progress?, self.context);
        Some(move |name: &[u8], done, total| {
            // Neither the caller's name nor one of a tree has a NUL byte.
            let name = CString::new(name).unwrap_or_default();
            match progress(context, name.as_ptr(), done, total) {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })
    }
}

/// A mode: 0 is the default.
pub(super) fn mode(bits: u32) -> Result<Option<u32>> {
    if bits & !0o777 != 0 {
        return Err(invalid(format!("mode is {bits:#o}, and more than 0777")));
    }
    Ok((bits != 0).then_some(bits))
}

/// A time of an exchange, which cannot be FRAME_DONT_WAIT.
pub(super) fn wait(
    milliseconds: i32,
    default: Option<Duration>,
    what: &str,
) -> Result<Option<Duration>> {
    if milliseconds < FRAME_NO_TIMEOUT {
        return Err(invalid(format!("{what} is {milliseconds}")));
    }
    timeout(milliseconds, default)
}

/// What has passed, and what was reported of it.
pub(super) fn result_of(done: &Transferred, error: i32) -> FrameFileResult {
    FrameFileResult {
        size: 0,
        error,
        bytes: done.bytes,
        files: done.files,
        directories: done.directories,
        links: done.links,
        skipped: done.skipped,
        sha256: digest_text(done.sha256),
    }
}

/// Hex digits and a NUL; "" for none.
pub(super) fn digest_text(digest: Option<Digest>) -> [c_char; 72] {
    let text = digest.map(|digest| digest.to_string()).unwrap_or_default();
    let mut digits = [0; 72];
    for (to, from) in digits.iter_mut().zip(text.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    digits
}
