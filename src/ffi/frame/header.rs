//! Fields of a header, read from its JSON text.

use std::ffi::{c_char, c_int};

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::outcome::{code, count};
use crate::ffi::boundary::parameters::{Text, TextRoom, Value};
use crate::wire::json::reader;

/// Copies the string at the top-level key `key` to buf, unescaped and with a NUL after it.
///
/// header is the text of a header. NULL, which is the header of a packet, has no fields. buf has
/// cap bytes, one of them for the NUL; NULL asks for the length only. Any thread.
///
/// Returns the length without the NUL. FRAME_EMISSING: no such key. FRAME_EBADFIELD: not a
/// string, a string with a NUL inside, or the key is given twice. FRAME_ETOOBIG: longer than
/// buf; nothing was written. FRAME_EBADJSON: header is not a JSON object. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_header_string(header: Text, key: Text, buf: TextRoom, cap: usize) -> i64 {
    count(|| {
        let (header, key) = field(header, key)?;
        let text = reader::string(header, key)?;
        if text.contains('\0') {
            return Err(Error::new(ErrorKind::BadField, format!("{key:?} has a NUL inside")));
        }
        buf.put(cap, text.as_bytes(), "buf")
    })
}

/// Reads the integer at the top-level key `key` into *value.
///
/// header is as for frame_header_string(). After a failure *value is unchanged, so it can hold a
/// default before the call. Any thread.
///
/// Returns 0, FRAME_EMISSING, FRAME_EBADFIELD (not an integer, outside of int64_t, or the key is
/// given twice), FRAME_EBADJSON or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_header_int(header: Text, key: Text, value: Value<i64>) -> c_int {
    code(|| {
        let value = value.required("value")?;
        let (header, key) = field(header, key)?;
        value.put(reader::integer(header, key)?);
        Ok(())
    })
}

/// Reads the boolean at the top-level key `key` into *value. Otherwise as frame_header_int().
#[unsafe(no_mangle)]
pub extern "C" fn frame_header_bool(header: Text, key: Text, value: Value<bool>) -> c_int {
    code(|| {
        let value = value.required("value")?;
        let (header, key) = field(header, key)?;
        value.put(reader::boolean(header, key)?);
        Ok(())
    })
}

/// Finds the JSON text of the value at the top-level key `key`, which may have any type.
///
/// On success *json points into header and is not NUL-terminated; on failure it is NULL. header
/// is as for frame_header_string(). Any thread.
///
/// Returns its length, FRAME_EMISSING, FRAME_EBADFIELD (the key is given twice), FRAME_EBADJSON
/// or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_header_json(header: Text, key: Text, json: Value<*const c_char>) -> i64 {
    count(|| {
        let json = json.required("json")?.cleared();
        let (header, key) = field(header, key)?;
        let raw = reader::value(header, key)?.raw();
        json.put(raw.as_ptr().cast());
        Ok(i64::try_from(raw.len()).unwrap_or(i64::MAX))
    })
}

fn field<'a>(header: Text, key: Text) -> Result<(&'a str, &'a str)> {
    let key = key.get("key")?;
    let missing = || Error::new(ErrorKind::Missing, "there is no header");
    Ok((header.optional("header")?.ok_or_else(missing)?, key))
}
