//! Checks of arguments from C.

use std::ffi::{CStr, c_char, c_int};
use std::os::fd::BorrowedFd;

use crate::error::{Error, ErrorKind, Result};

// What fails is kept out of the functions that check: they are in every entry point.

/// An invalid argument, in words.
#[cold]
pub fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Argument, detail)
}

#[cold]
#[inline(never)]
pub fn null(what: &str) -> Error {
    invalid(format!("{what} is NULL"))
}

#[cold]
#[inline(never)]
fn no_descriptor(fd: c_int) -> Error {
    Error::new(ErrorKind::BadDescriptor, format!("{fd} is not a descriptor"))
}

#[cold]
#[inline(never)]
fn no_text(what: &str) -> Error {
    invalid(format!("{what} is not UTF-8"))
}

/// The caller's descriptor, borrowed while the caller keeps it open.
#[inline]
pub fn descriptor(fd: c_int) -> Result<BorrowedFd<'static>> {
    if fd < 0 {
        return Err(no_descriptor(fd));
    }
    // SAFETY: not -1. The header makes keeping it open the caller's duty; should it be
    // closed, the kernel says EBADF and no memory is at stake.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// `len` bytes at `bytes`; NULL is allowed for none.
///
/// # Safety
/// `bytes` is NULL or points to `len` readable bytes that live for `'a`.
#[inline]
pub unsafe fn bytes<'a>(bytes: *const u8, len: usize, what: &str) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if bytes.is_null() || isize::try_from(len).is_err() {
        return Err(no_bytes(bytes, len, what));
    }
    // SAFETY: not NULL, not longer than a slice can be, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(bytes, len) })
}

#[cold]
#[inline(never)]
fn no_bytes(bytes: *const u8, len: usize, what: &str) -> Error {
    invalid(if bytes.is_null() {
        format!("{what} is NULL, its length {len}")
    } else {
        format!("the length of {what} is impossible: {len}")
    })
}

/// `len` bytes to write to at `bytes`; NULL is allowed for none.
///
/// # Safety
/// `bytes` is NULL or points to `len` bytes that nobody else uses for `'a`.
pub unsafe fn buffer<'a>(bytes: *mut u8, len: usize, what: &str) -> Result<&'a mut [u8]> {
    // SAFETY: the caller's promise.
    unsafe { self::bytes(bytes, len, what) }?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: checked just above, and the caller's promise. The bytes may be
    // uninitialised for C; they are only ever written to.
    Ok(unsafe { std::slice::from_raw_parts_mut(bytes, len) })
}

/// A C string in UTF-8, or `None` for NULL.
///
/// # Safety
/// `text` is NULL or a C string that lives for `'a`.
#[inline]
pub unsafe fn optional_text<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and the caller's promise.
    let text = unsafe { CStr::from_ptr(text) }.to_str();
    text.map(Some).map_err(|_| no_text(what))
}

/// A C string in UTF-8.
///
/// # Safety
/// As for [`optional_text`].
pub unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    unsafe { optional_text(text, what) }?.ok_or_else(|| null(what))
}

/// C strings, up to the NULL that ends their array.
///
/// # Safety
/// `array` is NULL or points to C strings, and a NULL after them, that live for `'a`.
pub unsafe fn strings<'a>(array: *const *const c_char, what: &str) -> Result<Vec<&'a [u8]>> {
    if array.is_null() {
        return Err(null(what));
    }
    let mut strings = Vec::new();
    loop {
        // SAFETY: not beyond the NULL, by the caller's promise.
        let string = unsafe { *array.add(strings.len()) };
        if string.is_null() {
            return Ok(strings);
        }
        // SAFETY: not NULL, and the caller's promise.
        strings.push(unsafe { CStr::from_ptr(string) }.to_bytes());
    }
}

/// A C string of any bytes, as the kernel takes names.
///
/// # Safety
/// `string` is NULL or a C string that lives for `'a`.
pub unsafe fn string<'a>(string: *const c_char, what: &str) -> Result<&'a [u8]> {
    if string.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, and the caller's promise.
    Ok(unsafe { CStr::from_ptr(string) }.to_bytes())
}

/// An object of the caller's.
///
/// # Safety
/// `object` is NULL or points to a live object that nobody changes for `'a`.
pub unsafe fn object<'a, T>(object: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { object.as_ref() }.ok_or_else(|| null(what))
}

/// An object of the caller's that the call changes.
///
/// # Safety
/// `object` is NULL or points to a live object that nobody else uses for `'a`.
#[inline]
pub unsafe fn object_mut<'a, T>(object: *mut T, what: &str) -> Result<&'a mut T> {
    // SAFETY: the caller's promise.
    unsafe { object.as_mut() }.ok_or_else(|| null(what))
}

/// The place for a new object. It is NULL until the call has succeeded.
///
/// # Safety
/// `out` is NULL or points to memory for a pointer.
#[inline]
pub unsafe fn out<'a, T>(out: *mut *mut T, what: &str) -> Result<&'a mut *mut T> {
    if out.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, and the caller's promise.
    unsafe {
        out.write(std::ptr::null_mut());
        Ok(&mut *out)
    }
}

/// Writes `value` where the caller wants it, if anywhere.
///
/// # Safety
/// `out` is NULL or points to memory for a `T`.
pub unsafe fn write_optional<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not NULL, and the caller's promise.
        unsafe { out.write(value) };
    }
}

/// Frees an object that the library made; NULL is ignored.
///
/// # Safety
/// `object` is NULL or came from `Box::into_raw` and is not used again.
pub unsafe fn free<T>(object: *mut T) {
    if !object.is_null() {
        // SAFETY: not NULL, and the caller's promise.
        drop(unsafe { Box::from_raw(object) });
    }
}
