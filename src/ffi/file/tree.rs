//! Directories with all that is in them, to a server and from one.

use std::ffi::{c_char, c_int};

use crate::error::Result;
use crate::ffi::boundary::arguments::{path, string};
use crate::ffi::boundary::options::{self, SizedStruct};
use crate::ffi::boundary::outcome::code;
use crate::ffi::file::{FileOptions, Given, get_by, put_by, with_options};
use crate::ops::file::{Transfer, Transferred};
use crate::ops::frame::Connection;

/// What came of a tree. Initialise it with FRAME_FILE_TREE_INIT: size says how much of it
/// may be written.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FileTree {
    /// sizeof(struct frame_file_tree), set by FRAME_FILE_TREE_INIT.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// Regular files that passed or, with FRAME_FILE_RESUME, were the same on both sides.
    pub files: u64,
    /// Directories that are there now, the uppermost one among them.
    pub directories: u64,
    /// Symbolic links that were made.
    pub links: u64,
    /// What was left out: links without a flag for them, FIFOs, sockets and devices.
    pub skipped: u64,
    /// Bytes of the files that passed.
    pub bytes: u64,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for FileTree {}

/// Client: stores the directory at path, with all that is in it, as the directory name on
/// the server.
///
/// Directories that are missing are made, and what else is in them stays. Each file has
/// the guarantees of frame_file_put(); symbolic links are treated as the flags say, and
/// nothing outside path is ever sent. progress counts the bytes of the whole tree. opts,
/// result, threads and names are as for frame_file_put().
///
/// The first failure ends it; frame_last_error() says which name it was. What was sent
/// before is stored.
///
/// Returns 0, or the codes of frame_file_put_path().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_put_tree(
    fd: c_int,
    name: *const c_char,
    path: *const c_char,
    opts: *const FileOptions,
    result: *mut FileTree,
) -> c_int {
    // SAFETY: the pointers are what the header asks for.
    code(|| unsafe { tree(fd, name, path, opts, result, put_by) })
}

/// Client: stores the server's directory name, with all that is in it, as the directory at
/// path.
///
/// Nothing that the server says leads out of path: a name that is not one component is
/// FRAME_EBADREPLY, and a symbolic link that could lead out is FRAME_EPATH. Each file has
/// the guarantees of frame_file_get_path(); all else is as for frame_file_put_tree().
///
/// Returns 0, or the codes of frame_file_get_path().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_file_get_tree(
    fd: c_int,
    name: *const c_char,
    path: *const c_char,
    opts: *const FileOptions,
    result: *mut FileTree,
) -> c_int {
    // SAFETY: the pointers are what the header asks for.
    code(|| unsafe { tree(fd, name, path, opts, result, get_by) })
}

unsafe fn tree(
    fd: c_int,
    name: *const c_char,
    path: *const c_char,
    opts: *const FileOptions,
    result: *mut FileTree,
    work: fn(&mut Connection<'static>, &Transfer<'_>, &Given<'_>) -> Result<Transferred>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let (name, path) = unsafe {
        options::check_result(result, "struct frame_file_tree")?;
        (string(name, "name")?, self::path(path)?)
    };
    // SAFETY: as above.
    let done = unsafe {
        with_options(fd, opts, |connection, given| {
            work(connection, &Transfer::tree(name, path), given)
        })
    }?;
    let value = FileTree {
        size: 0,
        reserved: 0,
        files: done.files,
        directories: done.directories,
        links: done.links,
        skipped: done.skipped,
        bytes: done.bytes,
    };
    // SAFETY: as above.
    unsafe { options::write(result, &value, "struct frame_file_tree") }
}
