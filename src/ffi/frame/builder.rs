//! The header builder, for C programs without a JSON library.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use crate::ffi::boundary::arguments::{bytes, free, object_mut, text, write_optional};
use crate::ffi::boundary::outcome::{code, value};
use crate::wire::json::writer::HeaderBuilder;

/// A header that is being put together: always a complete JSON object.
///
/// It belongs to the caller, is freed with frame_builder_free() and may be used by one
/// thread at a time. A call that fails adds nothing, and the object can be used on.
pub struct FrameBuilder(HeaderBuilder);

/// A new, empty object; freed with frame_builder_free(). NULL only where memory is out.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_new() -> *mut FrameBuilder {
    value(ptr::null_mut(), || Box::into_raw(Box::new(FrameBuilder(HeaderBuilder::new()))))
}

/// Adds a string; quotes, newlines and the like are escaped.
///
/// key and value are C strings in UTF-8 and are copied.
///
/// Returns 0, FRAME_EINVAL (NULL, or not UTF-8: see frame_builder_bytes()) or
/// FRAME_EBADFIELD (the key is there already, or is data_size).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_builder_string(
    builder: *mut FrameBuilder,
    key: *const c_char,
    value: *const c_char,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (builder, key, value) =
            unsafe { (object_mut(builder, "builder")?, text(key, "key")?, text(value, "value")?) };
        builder.0.string(key, value)
    })
}

/// Adds len bytes that need not be text, such as a file name: as a string where they are
/// UTF-8, else in Base64 (RFC 4648) under the key with "_b64" behind it.
///
/// value may be NULL where len is 0. The codes of frame_builder_string().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_builder_bytes(
    builder: *mut FrameBuilder,
    key: *const c_char,
    value: *const c_void,
    len: usize,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (builder, key, value) = unsafe {
            (object_mut(builder, "builder")?, text(key, "key")?, bytes(value.cast(), len, "value")?)
        };
        builder.0.bytes(key, value)
    })
}

/// Adds an integer. The codes of frame_builder_string().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_builder_int(
    builder: *mut FrameBuilder,
    key: *const c_char,
    value: i64,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (builder, key) = unsafe { (object_mut(builder, "builder")?, text(key, "key")?) };
        builder.0.integer(key, value)
    })
}

/// Adds true or false. The codes of frame_builder_string().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_builder_bool(
    builder: *mut FrameBuilder,
    key: *const c_char,
    value: bool,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (builder, key) = unsafe { (object_mut(builder, "builder")?, text(key, "key")?) };
        builder.0.boolean(key, value)
    })
}

/// Adds a value that is JSON already: an array, an object, null, a fraction.
///
/// The codes of frame_builder_string(), and FRAME_EBADJSON.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_builder_json(
    builder: *mut FrameBuilder,
    key: *const c_char,
    json: *const c_char,
) -> c_int {
    code(|| {
        // SAFETY: the pointers are what the header asks for.
        let (builder, key, json) =
            unsafe { (object_mut(builder, "builder")?, text(key, "key")?, text(json, "json")?) };
        builder.0.json(key, json)
    })
}

/// The object as it is now, for frame_send(): JSON text with a NUL after it.
///
/// *len, where len is not NULL, is its length without the NUL. Valid until the builder is
/// changed or freed. NULL for a NULL builder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_builder_text(
    builder: *const FrameBuilder,
    len: *mut usize,
) -> *const c_char {
    value(ptr::null(), || {
        // SAFETY: the pointers are what the header asks for.
        let builder = unsafe { builder.as_ref() };
        let text = builder.map_or("", |builder| builder.0.text());
        // SAFETY: as above.
        unsafe { write_optional(len, text.len()) };
        builder.map_or(ptr::null(), |builder| builder.0.text_with_nul().as_ptr().cast())
    })
}

/// Frees a builder; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn frame_builder_free(builder: *mut FrameBuilder) {
    // SAFETY: the pointer is what the header asks for.
    value((), || unsafe { free(builder) });
}
