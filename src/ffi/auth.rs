//! The authentication handshake and its keys.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use super::boundary::arguments::{bytes, free, invalid, object, out, path, write_optional};
use super::boundary::options::{self, SizedStruct, duplex, timeout};
use super::boundary::outcome::{code, value};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::ops::auth;
use crate::ops::auth::key_file::{self, Rules};
use crate::wire::auth::Key;

/// For auth_options.flags: take keys of 1 to 15 bytes, for peers that cannot change
/// theirs. Whoever sees a handshake can try all such keys.
pub const AUTH_SHORT_KEY: u32 = 1;

/// How the handshake is done. Initialise it with AUTH_OPTIONS_INIT; a member that is 0
/// has its default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct AuthOptions {
    /// sizeof(struct auth_options), set by AUTH_OPTIONS_INIT.
    pub size: u32,
    /// Milliseconds for the whole handshake; default 10 s, and never more than 60 s.
    pub timeout_ms: i32,
    /// The descriptor to write to, where it is not the one that is read from.
    pub write_fd: i32,
    /// AUTH_SHORT_KEY or 0.
    pub flags: u32,
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for AuthOptions {}

/// A key in memory; its bytes are wiped when it is freed.
///
/// It belongs to the caller and is freed with auth_key_free(). It never changes: any
/// number of threads may use it.
pub struct AuthKey(Key);

/// Asks the other end to prove that it holds the key: sends a challenge of 32 random
/// bytes, takes HMAC-SHA256(key, challenge) back (RFC 2104) and compares it in constant
/// time. Nothing that follows is read before the verdict.
///
/// This is for networks that are trusted. It proves that the client held the key when the
/// connection opened, and no more: the server is not authenticated, the bytes that follow
/// are neither secret nor protected against change, and whoever sits in between can pass
/// the challenge on.
///
/// key is key_len bytes, 16 to 1,024; HMAC pads with zeros, so a key and the same key with
/// NULs behind it are one. opts may be NULL. Everything is borrowed for the call. Threads
/// may call it side by side on different descriptors.
///
/// Returns 0. FRAME_EAUTH: the answer is wrong. FRAME_EKEY: the key cannot be used, or
/// there are no random numbers; nothing was sent. FRAME_ETIMEDOUT, FRAME_ESTALLED,
/// FRAME_ECLOSED, FRAME_ETRUNCATED: no answer. FRAME_EBADF, FRAME_EIO with errno,
/// FRAME_EINVAL. Close the connection after any of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn auth_server(
    fd: c_int,
    key: *const c_void,
    key_len: usize,
    opts: *const AuthOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (key, options) = unsafe { (bytes(key.cast(), key_len, "key")?, read(opts)?) };
        let key = options.key(key)?;
        auth::server(options.duplex(fd)?, &[&key], options.timeout()?).map(|_| ())
    })
}

/// As auth_server() with any of several keys, so that keys can be replaced one by one.
/// Every key is tried, whichever matches.
///
/// keys is count pointers, none of them NULL. *matched, where matched is not NULL, is the
/// index of the key that matched; it is unchanged on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn auth_server_keys(
    fd: c_int,
    keys: *const *const AuthKey,
    count: usize,
    matched: *mut usize,
    opts: *const AuthOptions,
) -> c_int {
    code(|| {
        if count == 0 || keys.is_null() {
            return Err(Error::new(ErrorKind::Key, "no key was given"));
        }
        if isize::try_from(count.saturating_mul(size_of::<usize>())).is_err() {
            return Err(invalid(format!("{count} keys")));
        }
        // SAFETY: the pointers are what the header asks for.
        let keys = unsafe { std::slice::from_raw_parts(keys, count) };
        // SAFETY: as above.
        let keys: Result<Vec<&Key>> =
            keys.iter().map(|key| unsafe { object(*key, "a key") }.map(|key| &key.0)).collect();
        // SAFETY: as above.
        let options = unsafe { read(opts) }?;
        let index = auth::server(options.duplex(fd)?, &keys?, options.timeout()?)?;
        // SAFETY: as above.
        unsafe { write_optional(matched, index) };
        Ok(())
    })
}

/// Proves to the other end that this one holds the key: takes its challenge of 32 bytes
/// and answers with HMAC-SHA256(key, challenge).
///
/// The wire has no verdict: 0 says that the answer was sent, and a server that refuses it
/// closes the connection, which the next receive shows. What the handshake does not
/// protect is said at auth_server(). Whoever can be the server chooses what is answered:
/// use the key for nothing else.
///
/// Parameters and codes are as for auth_server(), without FRAME_EAUTH; FRAME_ECLOSED: the
/// server closed before its challenge.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn auth_client(
    fd: c_int,
    key: *const c_void,
    key_len: usize,
    opts: *const AuthOptions,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (key, options) = unsafe { (bytes(key.cast(), key_len, "key")?, read(opts)?) };
        let key = options.key(key)?;
        auth::client(options.duplex(fd)?, &key, options.timeout()?)
    })
}

/// A key from bytes in memory, 16 to 1,024 of them, or from 1 with AUTH_SHORT_KEY in
/// flags.
///
/// The bytes are copied. On success *out is the key, freed with auth_key_free(); on
/// failure it is NULL. Returns 0, FRAME_EKEY or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn auth_key_new(
    key: *const c_void,
    key_len: usize,
    flags: u32,
    out: *mut *mut AuthKey,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, key) = unsafe { (self::out(out, "out")?, bytes(key.cast(), key_len, "key")?) };
        *out = Box::into_raw(Box::new(AuthKey(key_of(key, flags)?)));
        Ok(())
    })
}

/// Reads a key from the file at path, less one newline at its end.
///
/// flags is AUTH_SHORT_KEY or 0. On success *out is the key, freed with auth_key_free();
/// on failure it is NULL. May be called from any thread.
///
/// Returns 0. FRAME_EKEY: others may read or write the file, it belongs to another user,
/// is a symbolic link or not a regular file, or the key is empty, too short or too long;
/// frame_last_error() says which. FRAME_ENOENT, FRAME_EACCES, FRAME_EIO, with errno.
/// FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn auth_key_load(
    path: *const c_char,
    flags: u32,
    out: *mut *mut AuthKey,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (out, path) = unsafe { (self::out(out, "out")?, self::path(path)?) };
        let rules = Rules { allow_short: allows_short(flags)?, group_readable: false };
        *out = Box::into_raw(Box::new(AuthKey(key_file::load(path, rules)?)));
        Ok(())
    })
}

/// Writes a new key of 32 random bytes into a new file at path, of mode 0600.
///
/// May be called from any thread. Returns 0. FRAME_EEXIST: there is something at path,
/// and it stays. FRAME_EKEY: no random numbers. FRAME_ENOENT (the directory),
/// FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO, with errno; no file is left. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn auth_key_generate(path: *const c_char) -> c_int {
    // SAFETY: the pointer is what the header asks for.
    code(|| key_file::generate(unsafe { self::path(path) }?))
}

/// The bytes of a key, for auth_server() and auth_client(); valid until auth_key_free().
///
/// *len, where len is not NULL, is their count. NULL with a length of 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn auth_key_bytes(key: *const AuthKey, len: *mut usize) -> *const c_void {
    value(ptr::null(), || {
        // SAFETY: the pointers are what the header asks for.
        let bytes = unsafe { key.as_ref() }.map(|key| key.0.as_bytes());
        // SAFETY: as above.
        unsafe { write_optional(len, bytes.map_or(0, <[u8]>::len)) };
        bytes.map_or(ptr::null(), |bytes| bytes.as_ptr().cast())
    })
}

/// Wipes and frees a key; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn auth_key_free(key: *mut AuthKey) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(key) });
}

impl AuthOptions {
    fn timeout(&self) -> Result<Duration> {
        let limit = limits::AUTH_TIMEOUT_HARD;
        Ok(timeout(self.timeout_ms, Some(limits::AUTH_TIMEOUT))?.unwrap_or(limit))
    }

    fn duplex(&self, fd: c_int) -> Result<crate::Duplex<'static>> {
        duplex(fd, self.write_fd)
    }

    fn key(&self, bytes: &[u8]) -> Result<Key> {
        key_of(bytes, self.flags)
    }
}

/// Reads the caller's options; NULL is all defaults.
unsafe fn read(opts: *const AuthOptions) -> Result<AuthOptions> {
    // SAFETY: the caller's promise.
    unsafe { options::read(opts, "struct auth_options") }
}

fn key_of(bytes: &[u8], flags: u32) -> Result<Key> {
    if allows_short(flags)? { Key::new_short(bytes) } else { Key::new(bytes) }
}

fn allows_short(flags: u32) -> Result<bool> {
    match flags {
        0 => Ok(false),
        AUTH_SHORT_KEY => Ok(true),
        _ => Err(invalid(format!("flags are {flags:#x}"))),
    }
}
