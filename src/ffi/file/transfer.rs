//! Files and trees, put to a server and fetched from one. One struct describes the transfer.

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

/// For frame_file_transfer.flags: transfer a directory with everything in it. Without this flag
/// one file is transferred.
pub const FRAME_FILE_TREE: u32 = 1;
/// For frame_file_transfer.flags and frame_file_options.flags: an existing file is not replaced,
/// and the transfer fails. The check is atomic, also between simultaneous transfers.
pub const FRAME_FILE_NO_OVERWRITE: u32 = 2;
/// The same: no digest is computed. A server still checks the digest that a client sends.
pub const FRAME_FILE_NO_CHECKSUM: u32 = 4;
/// For a get to a path and frame_file_options.flags: stored files are not synced, and may be
/// lost in a power failure.
pub const FRAME_FILE_NO_SYNC: u32 = 8;
/// For the put of one file: the server is an old one that never replies. 0 then only means that
/// everything was sent. In frame_file_options.flags: a put without data_size gets no reply. The
/// oldest clients do not read one, and if they close with an unread reply, bytes that are still
/// in transit are lost.
pub const FRAME_FILE_NO_REPLY: u32 = 16;
/// For a put, or a get to a path: if the transfer is interrupted, the received bytes are kept in
/// a partial file. The next transfer with this flag continues it if both sides have the same
/// bytes so far. A tree also skips files of the same size and modification time, and implies
/// FRAME_FILE_PRESERVE. A partial file is named .framefd-DIGITS.part; frame_file_sweep() removes
/// old ones. FRAME_EREMOTE_BUSY: another transfer is writing it. One that has written nothing for
/// 2 s, such as one whose connection was lost, loses it to the next, and fails with this code. The
/// put of a tree waits for that.
pub const FRAME_FILE_RESUME: u32 = 32;
/// For a put and frame_file_mkdir(): missing parent directories are made. For
/// frame_file_options.flags: the default for requests that do not say.
pub const FRAME_FILE_PARENTS: u32 = 64;
/// For a put, or a get to a path: permission bits and modification time are those of the source,
/// also if a file is replaced. Directories do not keep their times. With and without this flag,
/// new directories have the permission bits of the source; those that a put makes keep all
/// permissions for their owner.
pub const FRAME_FILE_PRESERVE: u32 = 128;
/// For a tree: a symbolic link ends the transfer with FRAME_EPATH. Without one of the three
/// flags for links, links are skipped and counted; at most one flag may be set.
pub const FRAME_FILE_REFUSE_LINKS: u32 = 256;
/// For the put of a tree: the target of a symbolic link is sent in place of the link. A link
/// that leads out of the tree, to a directory or to nothing is skipped and counted. FRAME_ENOTSUP
/// without openat2(2), before Linux 5.6.
pub const FRAME_FILE_FOLLOW_LINKS: u32 = 512;
/// For a tree: symbolic links are copied as links. A link that leads out of the tree is skipped
/// and counted.
pub const FRAME_FILE_COPY_LINKS: u32 = 1024;
/// For frame_file_transfer.flags: the stored file gets mtime_ms as its modification time.
pub const FRAME_FILE_MTIME: u32 = 8192;

/// For a put, or a get to a path: a file that is there gets the new content, and stays the same
/// file. Its hard links, owner and access control list stay and, without mode, its permission
/// bits; it can be a bind mount, and in a directory in which no file can be made. The content is
/// first received into a temporary file: in that directory, or else in the root, /var/tmp or /tmp.
/// It is copied once it is complete and matches its digest, and space for it is reserved; any
/// failure before that leaves the old content. A failure while it is copied, or a crash, leaves a
/// file that may have a part of each, and frame_last_error() says so. Others can read such a
/// mixture meanwhile. If two copy at once, one gets FRAME_EBUSY or FRAME_EREMOTE_BUSY. Not with
/// FRAME_FILE_NO_OVERWRITE. A server that cannot write in place, such as version 0.1.0, answers
/// FRAME_EREMOTE_BAD_REQUEST and stores nothing; one that ignores the request has replaced the
/// file: FRAME_ENOTSUP.
pub const FRAME_FILE_IN_PLACE: u32 = 16384;

/// A transfer: the names on both sides, and its options. A member or flag that does not apply is
/// FRAME_EINVAL, and frame_last_error() names it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileTransfer {
    /// sizeof(struct frame_file_transfer).
    pub size: u32,
    /// FRAME_FILE_... flags, combined with |.
    pub flags: u32,
    /// The name at the server, relative to its root: components separated by single slashes, in
    /// any encoding. "" is the root itself, for a tree only.
    pub name: *const c_char,
    /// The local file or directory, or NULL to use fd.
    pub path: *const c_char,
    /// If path is NULL: a regular file, from its current offset, or a pipe, socket or terminal.
    /// It is borrowed. Must be 0 if path is set.
    pub fd: i32,
    /// Permission bits of the stored file, of 0777, reduced by the umask there. 0: a file that is
    /// replaced keeps its own, and a new one gets those of the source, or 0666 if it has none.
    pub mode: u32,
    /// Put of fd: bytes to send; 0 is up to the end of a regular file. A pipe or a socket needs
    /// a length.
    pub length: u64,
    /// Put of one file: bytes that the server has already, which are not sent: those before the
    /// offset of fd, or the first bytes of path. Get to fd: bytes that fd has before its offset;
    /// only the rest is requested. They must be readable, for the digest, unless
    /// FRAME_FILE_NO_CHECKSUM is set.
    pub offset: u64,
    /// Get: the largest file accepted, in bytes; default FRAME_NO_LIMIT. A larger one is
    /// FRAME_ETOOBIG, and nothing is written.
    pub max_size: u64,
    /// The most bytes per second that are sent or received; 0 is no limit.
    pub rate: u64,
    /// With FRAME_FILE_MTIME: milliseconds since 1970, negative before. Otherwise 0.
    pub mtime_ms: i64,
    /// Milliseconds without a byte after which the transfer fails; default 30 s, or
    /// FRAME_NO_TIMEOUT. A server that reads the first bytes of a file sends that it is at work;
    /// it sends nothing while it syncs a large file before its reply.
    pub stall_ms: i32,
    /// 0.
    pub reserved: u32,
    /// Called after each piece of at most 1 MiB, and once for an empty file, with the file's name
    /// at the server, and with the bytes done of the total, in a tree those of the whole tree.
    /// Return non-zero to end the transfer with FRAME_ECANCELED. May be NULL.
    pub progress: Option<
        extern "C" fn(context: *mut c_void, name: *const c_char, done: u64, total: u64) -> c_int,
    >,
    /// Passed to progress().
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for FrameFileTransfer {}

/// Result of a transfer. After a failure it shows how far the transfer came.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileResult {
    /// sizeof(struct frame_file_result).
    pub size: u32,
    /// Server: the code of the error that was reported to the client; FRAME_ECLOSED if the
    /// request was served and the client did not wait for the reply; otherwise 0.
    pub error: i32,
    /// Bytes of the file, including those that did not have to be transferred. In a tree, files
    /// that were the same on both sides do not count.
    pub bytes: u64,
    /// Regular files that were transferred or, with FRAME_FILE_RESUME, were the same on both
    /// sides.
    pub files: u64,
    /// Directories of a tree that now exist, including the topmost one.
    pub directories: u64,
    /// Symbolic links that were made.
    pub links: u64,
    /// Entries of a tree that were skipped: links without a flag for them or that lead out,
    /// FIFOs, sockets, devices.
    pub skipped: u64,
    /// The SHA-256 of the whole file in 64 lower-case hex digits and a NUL; "" if none was
    /// computed, and for a tree.
    pub sha256: [c_char; 72],
    /// Entries of a tree that could not be transferred: FRAME_EINCOMPLETE.
    pub failed: u64,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameFileResult {}

/// Stores a file on the server, or with FRAME_FILE_TREE a directory with everything in it.
///
/// what is borrowed for the call. timeout_ms covers the whole transfer, and must not be 0: the
/// call cannot be resumed. result may be NULL. Memory is constant: 1 MiB, plus the list of one
/// directory.
///
/// A file is replaced as a whole or not at all, unless FRAME_FILE_IN_PLACE is set. Its digest is
/// sent after the content, and the server stores the file only if it matches. The digest in the
/// server's reply is compared as well. With FRAME_FILE_TREE or FRAME_FILE_RESUME the server is
/// asked whether it would refuse a file before more than 1 MiB of it is sent. An error reply that
/// comes while the content is being sent ends the put.
///
/// Other files of an existing directory on the server stay. Nothing outside path is sent. What
/// cannot be read or stored, or vanishes meanwhile, is left out and counted in failed. At the end
/// that is FRAME_EINCOMPLETE, and frame_last_error() names the first one; all else is stored. A
/// failure that is not one file's alone, such as a full disk, ends a tree.
///
/// Returns 0: the file is stored. These leave the connection in sync: -100 and below, an error
/// reply, such as FRAME_EREMOTE_DENIED (the name), FRAME_EREMOTE_EXISTS, FRAME_EREMOTE_NO_SPACE
/// or FRAME_EREMOTE_CHECKSUM, and nothing was stored (with more than 8 MiB left to send, the
/// connection is broken); FRAME_EINCOMPLETE; FRAME_ECHECKSUM, the server's reply has
/// another digest; FRAME_EPATH (path is not a regular file, or not a directory; a link; a name
/// that the server would not accept), FRAME_ENOENT, FRAME_EACCES; FRAME_EINVAL. Once a byte of a
/// request was accepted, every other failure breaks the connection: FRAME_ETRUNCATED (the source
/// ended too early), FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_ECLOSED, FRAME_EBADREPLY, FRAME_EIO
/// with errno (also of the source), and the codes of frame_connection_send() and
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

/// Fetches a file from the server, or with FRAME_FILE_TREE a directory with everything in it.
///
/// what, timeout_ms, result and memory are as for frame_file_put().
///
/// A file appears at path once it is complete, matches its digest and, without
/// FRAME_FILE_NO_SYNC, would survive a power failure. Until then, and after a failure, an old
/// file stays, and nothing else is left except the partial file of FRAME_FILE_RESUME. Only a
/// regular file is replaced, never a symbolic link. FRAME_FILE_IN_PLACE is an exception. fd gets
/// all bytes that are received, also before a failure.
///
/// A server cannot make the client write outside of path: a name that is not one component ends a
/// tree with FRAME_EPATH, and a symbolic link that could lead out is skipped. Other files of an
/// existing directory at path stay. What cannot be fetched is left out as by frame_file_put().
///
/// Returns 0: the file is complete, and matches the digest if the server sends one. These leave
/// the connection in sync: -100 and below, an error reply, such as FRAME_EREMOTE_NOT_FOUND or
/// FRAME_EREMOTE_DENIED; FRAME_ECHECKSUM; FRAME_EINVAL; and, if 1 MiB or less of the file is
/// left to receive, a local failure: FRAME_EPATH, FRAME_EEXIST, FRAME_ENOENT (the directory),
/// FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO with errno, FRAME_ETOOBIG (above max_size),
/// FRAME_ECANCELED (progress). Once a byte of the request was accepted, every other failure
/// breaks the connection: FRAME_ETRUNCATED (the server gave up, for example because the file
/// became shorter), FRAME_ETIMEDOUT, FRAME_ECLOSED, FRAME_EBADREPLY (the reply contradicts
/// itself), and the codes of frame_connection_send() and frame_connection_recv().
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

/// Runs a transfer, and reports how far it came.
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
        | FRAME_FILE_MTIME
        | FRAME_FILE_IN_PLACE;

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
            in_place: self.has(FRAME_FILE_IN_PLACE),
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
            return Err(invalid("name is empty: only a tree can be the root"));
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
            _ => Err(invalid("flags have two treatments of links")),
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

/// The transferred bytes, and the error that was reported.
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
        failed: done.failed,
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
