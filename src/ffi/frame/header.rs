//! Fields of a header, found in its text: that of a received message, a borrowed one or an
//! inquiry.

use std::ffi::{c_char, c_int};

use crate::error::{Error, ErrorKind, Result};
use crate::ffi::boundary::outcome::{code, count};
use crate::ffi::boundary::parameters::{Text, TextRoom, Value};
use crate::wire::json::reader;

/// Copies the string at the top-level key `key` to buf, unescaped and with a NUL after it.
///
/// header is the text of a header; NULL, as a packet has it, has no fields. buf takes up to cap
/// bytes, the NUL among them; NULL asks for the length alone. Any thread.
///
/// Returns the length without the NUL. FRAME_EMISSING: no such key. FRAME_EBADFIELD: not a
/// string, or one with a NUL inside, or the key is there twice. FRAME_ETOOBIG: longer than buf,
/// and nothing was written. FRAME_EBADJSON: header is not a JSON object. FRAME_EINVAL.
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
/// header is as for frame_header_string(). After a failure *value is unchanged: a default can
/// be set first. Any thread.
///
/// Returns 0, FRAME_EMISSING, FRAME_EBADFIELD (not an integer, beyond 64 bits with a sign, or
/// the key is there twice), FRAME_EBADJSON or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_header_int(header: Text, key: Text, value: Value<i64>) -> c_int {
    code(|| {
        let value = value.required("value")?;
        let (header, key) = field(header, key)?;
        value.put(reader::integer(header, key)?);
        Ok(())
    })
}

/// Reads the boolean at the top-level key `key` into *value. As frame_header_int() otherwise.
#[unsafe(no_mangle)]
pub extern "C" fn frame_header_bool(header: Text, key: Text, value: Value<bool>) -> c_int {
    code(|| {
        let value = value.required("value")?;
        let (header, key) = field(header, key)?;
        value.put(reader::boolean(header, key)?);
        Ok(())
    })
}

/// Finds the value at the top-level key `key`, of any type, as it stands in the text.
///
/// On success *json points to it inside header, without a NUL behind it; on failure it is NULL.
/// header is as for frame_header_string(). Any thread.
///
/// Returns its length, FRAME_EMISSING, FRAME_EBADFIELD (the key is there twice), FRAME_EBADJSON
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
