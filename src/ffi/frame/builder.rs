//! The header builder, for C programs without a JSON library. Failures stick, so that only the
//! text has to be checked.

use std::ffi::{c_char, c_int};
use std::ptr;

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::outcome::{code, value};
use crate::ffi::boundary::parameters::{Mut, Ref, Text, Value};
use crate::wire::json::writer::HeaderBuilder;

/// A header that is being put together.
///
/// It belongs to the caller, is freed with frame_builder_free() and may be used by one thread
/// at a time. A failure sticks: every later call returns its code, and there is no text.
pub struct FrameBuilder {
    header: HeaderBuilder,
    failed: Option<Error>,
}

/// A new, empty object; freed with frame_builder_free(). NULL if memory is out, which the other
/// functions take.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_new() -> *mut FrameBuilder {
    value(ptr::null_mut(), || {
        Box::into_raw(Box::new(FrameBuilder { header: HeaderBuilder::new(), failed: None }))
    })
}

/// Adds a string; quotes, newlines and the like are escaped.
///
/// key and value are UTF-8 and are copied. value_len is the number of bytes of value, or
/// SIZE_MAX: it ends with a NUL. value may be NULL if value_len is 0.
///
/// Returns 0, or the first failure of this builder: FRAME_EBADFIELD (the key is there already,
/// or is data_size; value is not UTF-8), FRAME_ENOMEM (builder is NULL) or FRAME_EINVAL.
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

/// Adds an integer. The codes of frame_builder_string().
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_int(builder: Mut<FrameBuilder>, key: Text, value: i64) -> c_int {
    code(|| add(builder, |header| header.integer(key.get("key")?, value)))
}

/// Adds true or false. The codes of frame_builder_string().
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_bool(builder: Mut<FrameBuilder>, key: Text, value: bool) -> c_int {
    code(|| add(builder, |header| header.boolean(key.get("key")?, value)))
}

/// Adds a value that is JSON already: an array, an object, null, a fraction.
///
/// The codes of frame_builder_string(), and FRAME_EBADJSON.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_json(builder: Mut<FrameBuilder>, key: Text, json: Text) -> c_int {
    code(|| add(builder, |header| header.json(key.get("key")?, json.get("json")?)))
}

/// Adds the members of another header as they stand in its text, for a relay: all but data_size
/// and those whose key is there already.
///
/// The codes of frame_builder_string(), and FRAME_EBADJSON.
#[unsafe(no_mangle)]
pub extern "C" fn frame_builder_merge(builder: Mut<FrameBuilder>, header: Text) -> c_int {
    code(|| add(builder, |built| built.merge(header.get("header")?)))
}

/// The object as it is now: JSON text with a NUL after it.
///
/// *len, if len is not NULL, is its length without the NUL. Valid until the builder is changed
/// or freed. NULL with a length of 0 after a failure, whose code the builder's other functions
/// return, and for a NULL builder.
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
