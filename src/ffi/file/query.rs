//! Requests about names on a file server: stat, list and mkdir.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use super::transfer::{FRAME_FILE_PARENTS, digest_text, mode};
use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::options::{self, SizedStruct};
use crate::ffi::boundary::outcome::{code, count, value};
use crate::ffi::boundary::parameters::{Handle, Mut, Out, Ref, Results, Text, Value};
use crate::ffi::connection::FrameConnection;
use crate::ops::file::{self, Entry, Kind, PartialFile, Stat};

/// For frame_file_stat(): the partial file of an interrupted put with FRAME_FILE_RESUME.
pub const FRAME_FILE_PARTIAL: u32 = 4096;

/// In frame_file_info.kind: a regular file.
pub const FRAME_FILE_REGULAR: u32 = 1;
/// The same: a directory.
pub const FRAME_FILE_DIRECTORY: u32 = 2;
/// The same: a symbolic link; the struct describes the link itself.
pub const FRAME_FILE_SYMLINK: u32 = 3;
/// The same: a FIFO, a socket or a device.
pub const FRAME_FILE_OTHER: u32 = 4;

/// A file, directory or other entry on the server.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameFileInfo {
    /// sizeof(struct frame_file_info).
    pub size: u32,
    /// FRAME_FILE_REGULAR, FRAME_FILE_DIRECTORY, FRAME_FILE_SYMLINK or FRAME_FILE_OTHER.
    pub kind: u32,
    /// Bytes of a regular file.
    pub file_size: u64,
    /// The modification time, in milliseconds since 1970; 0 for a partial file.
    pub mtime_ms: i64,
    /// Permission bits, of 07777; 0 for a partial file.
    pub mode: u32,
    /// 0.
    pub reserved: u32,
    /// For a partial file: its SHA-256 in 64 lower-case hex digits and a NUL. Otherwise "".
    pub sha256: [c_char; 72],
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FrameFileInfo {}

/// The entries of a directory on the server, sorted by name.
///
/// It belongs to the caller and is freed with frame_file_listing_free(). It never changes: any
/// number of threads may use it.
pub struct FrameFileListing {
    entries: Vec<Listed>,
}

struct Listed {
    name: CString,
    target: Option<CString>,
    stat: Stat,
}

/// Asks the server about a name, and writes the answer to *info. Links are not followed.
///
/// name is as in frame_file_transfer; "" is the root. flags are 0 or FRAME_FILE_PARTIAL: the
/// size and digest of the part of an interrupted put that the server has. timeout_ms must not be
/// 0.
///
/// Returns 0. -100 and below: an error reply, such as FRAME_EREMOTE_NOT_FOUND or
/// FRAME_EREMOTE_DENIED; the connection is in sync. Otherwise the codes of
/// frame_connection_call().
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_stat(
    c: Handle<FrameConnection>,
    name: Text,
    flags: u32,
    timeout_ms: c_int,
    info: Results<FrameFileInfo>,
) -> c_int {
    code(|| {
        info.required("info")?;
        let (name, c) = (name.bytes("name")?, c.get("c")?);
        let is_partial = options::flags(flags, FRAME_FILE_PARTIAL, "frame_file_stat()")? != 0;
        let timeout = c.exchange_timeout(timeout_ms)?;
        let found = c.cell.both(|connection| {
            if is_partial {
                file::partial(connection, name, timeout).map(partial_info)
            } else {
                file::stat(connection, name, timeout).map(info_of)
            }
        })?;
        info.put(&found, "info")
    })
}

/// Makes the directory `name` on the server. It is no error if it exists.
///
/// mode is its permission bits, of 0777, reduced by the server's umask; 0 is 0777. flags are 0
/// or FRAME_FILE_PARENTS: missing parent directories are made as well. timeout_ms must not be 0.
///
/// Returns 0 or a code of frame_file_stat(); FRAME_EREMOTE_EXISTS: the name exists and is not a
/// directory.
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_mkdir(
    c: Handle<FrameConnection>,
    name: Text,
    mode: u32,
    flags: u32,
    timeout_ms: c_int,
) -> c_int {
    code(|| {
        let (name, c) = (name.bytes("name")?, c.get("c")?);
        let mode = self::mode(mode)?;
        let parents = options::flags(flags, FRAME_FILE_PARENTS, "frame_file_mkdir()")? != 0;
        let timeout = c.exchange_timeout(timeout_ms)?;
        c.cell.both(|connection| file::mkdir(connection, name, mode, parents, timeout))
    })
}

/// Lists the directory `name` on the server; "" is the root.
///
/// On success *out is the list, which the caller frees with frame_file_listing_free(); on
/// failure it is NULL. timeout_ms must not be 0.
///
/// Returns the number of entries, or a code of frame_file_stat(). A list of more than 64 MiB is
/// FRAME_ETOOBIG and breaks the connection.
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_list(
    c: Handle<FrameConnection>,
    name: Text,
    timeout_ms: c_int,
    out: Out<FrameFileListing>,
) -> i64 {
    count(|| {
        let (place, name) = (out.get("out")?, name.bytes("name")?);
        let c = c.get("c")?;
        let timeout = c.exchange_timeout(timeout_ms)?;
        let entries = c.cell.both(|connection| file::list(connection, name, timeout))?;
        let entries = Listed::all(entries)?;
        let length = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        place.put(FrameFileListing { entries });
        Ok(length)
    })
}

/// The name of the entry at index, counted from 0. NULL beyond the last one, and if the size
/// member of *info is not set.
///
/// *info describes the entry. *target is the target of a symbolic link, or NULL for other
/// entries. Both parameters may be NULL. The strings end with a NUL and are valid until
/// frame_file_listing_free(). They are untrusted and in any encoding: check for / and .. before
/// you use a name in a path.
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_listing_entry(
    list: Ref<FrameFileListing>,
    index: usize,
    info: Results<FrameFileInfo>,
    target: Value<*const c_char>,
) -> *const c_char {
    let mut name = ptr::null();
    // Makes a size that is not set visible in frame_last_error().
    code(|| {
        let list = list.optional();
        let Some(entry) = list.and_then(|list| list.entries.get(index)) else { return Ok(()) };
        info.put(&info_of(entry.stat), "info")?;
        target.put(entry.target.as_ref().map_or(ptr::null(), |target| target.as_ptr()));
        name = entry.name.as_ptr();
        Ok(())
    });
    name
}

/// Frees the object; NULL is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn frame_file_listing_free(list: Mut<FrameFileListing>) {
    value((), || list.free());
}

impl Listed {
    fn all(entries: Vec<Entry>) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        all.try_reserve_exact(entries.len())
            .map_err(|_| Error::new(ErrorKind::NoMemory, "the list"))?;
        for entry in entries {
            all.push(Listed::new(entry)?);
        }
        Ok(all)
    }

    fn new(entry: Entry) -> Result<Listed> {
        let Entry { name, stat, target } = entry;
        let text = |bytes| {
            let refused = |_| Error::new(ErrorKind::BadReply, "a name in the list has a NUL byte");
            CString::new::<Vec<u8>>(bytes).map_err(refused)
        };
        Ok(Listed { name: text(name)?, target: target.map(text).transpose()?, stat })
    }
}

fn info_of(stat: Stat) -> FrameFileInfo {
    FrameFileInfo {
        size: 0,
        kind: match stat.kind {
            Kind::File => FRAME_FILE_REGULAR,
            Kind::Dir => FRAME_FILE_DIRECTORY,
            Kind::Symlink => FRAME_FILE_SYMLINK,
            Kind::Other => FRAME_FILE_OTHER,
        },
        file_size: stat.size,
        mtime_ms: stat.mtime,
        mode: stat.mode,
        reserved: 0,
        sha256: digest_text(None),
    }
}

fn partial_info(partial: PartialFile) -> FrameFileInfo {
    FrameFileInfo {
        size: 0,
        kind: FRAME_FILE_REGULAR,
        file_size: partial.bytes,
        mtime_ms: 0,
        mode: 0,
        reserved: 0,
        sha256: digest_text(Some(partial.sha256)),
    }
}
