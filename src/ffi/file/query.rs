//! What a file server has, without the files themselves; and what is left of cut transfers.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use crate::error::Result;
use crate::ffi::boundary::arguments::{descriptor, free, invalid, out, string, write_optional};
use crate::ffi::boundary::options::{self, SizedStruct};
use crate::ffi::boundary::outcome::{code, count, value};
use crate::ffi::file::{FileOptions, FileResult, transfer, with_options};
use crate::ops::file::{self, Entry, Kind, Stat, Transferred};

/// In frame_file_stat.kind: a regular file.
pub const FRAME_FILE_REGULAR: u32 = 1;
/// In frame_file_stat.kind: a directory.
pub const FRAME_FILE_DIRECTORY: u32 = 2;
/// In frame_file_stat.kind: a symbolic link, which is itself described.
pub const FRAME_FILE_SYMLINK: u32 = 3;
/// In frame_file_stat.kind: a FIFO, a socket or a device.
pub const FRAME_FILE_OTHER: u32 = 4;

/// What a name on the server is. Initialise it with FRAME_FILE_STAT_INIT: size says how
/// much of it may be written.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FileStat {
    /// sizeof(struct frame_file_stat), set by FRAME_FILE_STAT_INIT.
    pub size: u32,
    /// FRAME_FILE_REGULAR and the like.
    pub kind: u32,
    /// Bytes of a regular file.
    pub file_size: u64,
    /// Milliseconds since 1970: the time of modification.
    pub mtime_ms: i64,
    /// Permission bits, 07777 at the most.
    pub mode: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FileStat {}

/// The entries of a directory on the server, sorted by name.
///
/// It belongs to the caller and is freed with frame_file_list_free(). It never changes: any
/// number of threads may use it.
pub struct FileList {
    entries: Vec<ListEntry>,
}

struct ListEntry {
    name: CString,
    target: Option<CString>,
    stat: Stat,
}

/// Client: asks what name is on the server, in *stat. Links are not followed.
///
/// name is as for frame_file_put(); "" is the root. opts may be NULL. Threads as for
/// frame_file_put().
///
/// Returns 0. A code of -100 or below: the other end's error reply, such as
/// FRAME_EREMOTE_NOT_FOUND or FRAME_EREMOTE_DENIED; in step. FRAME_ETIMEDOUT,
/// FRAME_EINVAL, FRAME_EBADF: nothing was sent. Close the connection after all others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_stat(
    fd: c_int,
    name: *const c_char,
    stat: *mut FileStat,
    opts: *const FileOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let name = unsafe { string(name, "name") }?;
        // SAFETY: as above.
        if unsafe { options::check_result(stat, "struct frame_file_stat") }? == 0 {
            return Err(invalid("stat is NULL"));
        }
        // SAFETY: as above.
        let found = unsafe {
            with_options(fd, opts, |connection, given| file::stat(connection, name, given.patience))
        }?;
        // SAFETY: as above.
        unsafe { options::write(stat, &converted(&found), "struct frame_file_stat") }
    })
}

/// Client: asks how much the server has of a put of name that was cut, with
/// FRAME_FILE_RESUME: result has its bytes and their digest. The codes are those of
/// frame_file_stat().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_partial(
    fd: c_int,
    name: *const c_char,
    opts: *const FileOptions,
    result: *mut FileResult,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let name = unsafe { string(name, "name") }?;
        // SAFETY: as above.
        unsafe {
            transfer(fd, opts, result, |connection, given| {
                let file::PartialFile { bytes, sha256 } =
                    file::partial(connection, name, given.patience)?;
                Ok(Transferred { bytes, sha256: Some(sha256), ..Transferred::default() })
            })
        }
    })
}

/// Client: lists the directory name on the server.
///
/// name is as for frame_file_stat(). On success *out is the list, freed with
/// frame_file_list_free(); on failure it is NULL. Every name in it is one component; one
/// that is not makes the whole reply FRAME_EBADREPLY.
///
/// Returns the count of entries, or the codes of frame_file_stat().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_list(
    fd: c_int,
    name: *const c_char,
    out: *mut *mut FileList,
    opts: *const FileOptions,
) -> i64 {
    count(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, name) = unsafe { (self::out(out, "out")?, string(name, "name")?) };
        // SAFETY: as above.
        let entries = unsafe {
            with_options(fd, opts, |connection, given| file::list(connection, name, given.patience))
        }?;
        let entries = entries.into_iter().map(ListEntry::new).collect::<Result<Vec<_>>>()?;
        let length = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        *out = Box::into_raw(Box::new(FileList { entries }));
        Ok(length)
    })
}

/// The name of the entry at index, counted from 0; NULL beyond the last one.
///
/// *stat, where stat is not NULL, is what the name is; *target, where target is not NULL,
/// where a symbolic link leads, else NULL. Both strings are of any encoding, and valid
/// until frame_file_list_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_list_entry(
    list: *const FileList,
    index: usize,
    stat: *mut FileStat,
    target: *mut *const c_char,
) -> *const c_char {
    value(ptr::null(), || {
        // SAFETY: the pointers are what the header asks for.
        let list = unsafe { list.as_ref() };
        let Some(entry) = list.and_then(|list| list.entries.get(index)) else {
            return ptr::null();
        };
        let leads_to = entry.target.as_ref().map_or(ptr::null(), |target| target.as_ptr());
        // SAFETY: as above.
        unsafe { write_optional(target, leads_to) };
        // SAFETY: as above. A size that is not set is the only failure, and nothing is
        // written then.
        let _ = unsafe { options::write(stat, &converted(&entry.stat), "struct frame_file_stat") };
        entry.name.as_ptr()
    })
}

/// Frees a list; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_list_free(list: *mut FileList) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(list) });
}

/// Client: makes the directory name on the server; one that is there already is fine. With
/// FRAME_FILE_PARENTS those above it as well. opts->mode is its mode, less the server's
/// umask; default 0777. The codes are those of frame_file_stat().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_make_directory(
    fd: c_int,
    name: *const c_char,
    opts: *const FileOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let name = unsafe { string(name, "name") }?;
        // SAFETY: as above.
        unsafe {
            with_options(fd, opts, |connection, given| {
                file::mkdir(connection, name, given.mode(), given.parents(), given.patience)
            })
        }
    })
}

/// Server: removes what is left of transfers that were cut, in root_fd and all directories
/// below it: files whose names begin with .framefd-, that nobody writes to at present, and
/// that were last written older_than_ms milliseconds ago or earlier; 0 is
/// frame_default("partial_age_ms"). A process that was killed leaves such files behind, and
/// so does a put or get with FRAME_FILE_RESUME that was cut.
///
/// root_fd is borrowed; symbolic links are not followed. Returns how many files were
/// removed. FRAME_EINVAL, FRAME_EBADF, FRAME_EIO with errno (some may have been
/// removed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_sweep(root_fd: c_int, older_than_ms: i64) -> i64 {
    count(|| {
        let age = match u64::try_from(older_than_ms) {
            Ok(0) => crate::limits::PARTIAL_AGE,
            Ok(age) => std::time::Duration::from_millis(age),
            Err(_) => return Err(invalid(format!("older_than_ms is {older_than_ms}"))),
        };
        let removed = file::sweep(descriptor(root_fd)?, age)?;
        Ok(i64::try_from(removed).unwrap_or(i64::MAX))
    })
}

impl ListEntry {
    fn new(entry: Entry) -> Result<ListEntry> {
        let text =
            |bytes: Vec<u8>| crate::ffi::boundary::policy::c_string(bytes, "a name in the list");
        Ok(ListEntry {
            name: text(entry.name)?,
            target: entry.target.map(text).transpose()?,
            stat: entry.stat,
        })
    }
}

fn converted(stat: &Stat) -> FileStat {
    FileStat {
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
    }
}
