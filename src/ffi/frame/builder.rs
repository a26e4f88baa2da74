//! The header builder, for C programs without a JSON library. Failures stick, so a program
//! checks the text only.

use std::ffi::{c_char, c_int};
use std::ptr;

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::outcome::{code, value};
use crate::ffi::boundary::parameters::{Mut, Ref, Text, Value};
use crate::wire::json::writer::HeaderBuilder;

/// A header under construction.
///
/// It belongs to the caller, is freed with frame_builder_free() and may be used by one thread
/// at a time. A failure sticks: every later call returns its code, and there is no text.
pub struct FrameBuilder {
    header: HeaderBuilder,
    failed: Option<Error>,
}

/// Makes a builder with an empty object, freed with frame_builder_free(). Returns NULL if there
/// is no memory; the other functions accept a NULL builder and fail.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_new() -> *mut FrameBuilder {
    value(ptr::null_mut(), || {
        Box::into_raw(Box::new(FrameBuilder { header: HeaderBuilder::new(), failed: None }))
    })
}

/// Adds a string; quotes, newlines and the like are escaped.
///
/// key and value are UTF-8 and are copied. value_len is the number of bytes of value, or
/// SIZE_MAX if value ends with a NUL. value may be NULL if value_len is 0.
///
/// Returns 0, or the first failure of this builder: FRAME_EBADFIELD (the object has the key
/// already, or it is data_size; value is not UTF-8), FRAME_ENOMEM (builder is NULL) or
/// FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_string(
    builder: Mut<FrameBuilder>,
    key: Text,
    value: Text,
    value_len: usize,
) -> c_int {
    code(|| {
        add(builder, |header| {
            let (key, value) = (key.get("key")?, value.sized(value_len, "value")?);
            let not_text = |_| Error::new(ErrorKind::BadField, format!("{key:?} is not UTF-8"));
            header.string(key, str::from_utf8(value).map_err(not_text)?)
        })
    })
}

/// Adds an integer. Returns as frame_builder_string().
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_int(builder: Mut<FrameBuilder>, key: Text, value: i64) -> c_int {
    code(|| add(builder, |header| header.integer(key.get("key")?, value)))
}

/// Adds true or false. Returns as frame_builder_string().
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_bool(builder: Mut<FrameBuilder>, key: Text, value: bool) -> c_int {
    code(|| add(builder, |header| header.boolean(key.get("key")?, value)))
}

/// Adds a value that is already JSON text: an array, an object, null, a fraction.
///
/// Returns as frame_builder_string(), or FRAME_EBADJSON.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_json(builder: Mut<FrameBuilder>, key: Text, json: Text) -> c_int {
    code(|| add(builder, |header| header.json(key.get("key")?, json.get("json")?)))
}

/// Adds the members of another header, byte for byte, as a relay does. It leaves out data_size,
/// and members whose key the object has already.
///
/// Returns as frame_builder_string(), or FRAME_EBADJSON.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_merge(builder: Mut<FrameBuilder>, header: Text) -> c_int {
    code(|| add(builder, |built| built.merge(header.get("header")?)))
}

/// The current object as JSON text with a NUL after it.
///
/// *len, if len is not NULL, is its length without the NUL. The text is valid until the builder
/// is changed or freed. NULL with a length of 0 for a NULL builder and after a failure; the
/// builder's other functions return the code of that failure.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_text(
    builder: Ref<FrameBuilder>,
    len: Value<usize>,
) -> *const c_char {
    value(ptr::null(), || {
        let text = builder.optional().filter(|builder| builder.failed.is_none());
        let text = text.map(|builder| builder.header.text_with_nul());
        len.put(text.map_or(0, |text| text.len() - 1));
        text.map_or(ptr::null(), |text| text.as_ptr().cast())
    })
}

/// Frees a builder; NULL is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_free(builder: Mut<FrameBuilder>) {
    value((), || builder.free());
}

/// Adds to a builder that has not failed.
fn add(
    builder: Mut<FrameBuilder>,
    work: impl FnOnce(&mut HeaderBuilder) -> Result<()>,
) -> Result<()> {
    let no_memory = || Error::new(ErrorKind::NoMemory, "builder is NULL");
    let builder = builder.optional().ok_or_else(no_memory)?;
    if let Some(failed) = &builder.failed {
        return Err(failed.clone());
    }
    work(&mut builder.header).inspect_err(|error| builder.failed = Some(error.clone()))
}
