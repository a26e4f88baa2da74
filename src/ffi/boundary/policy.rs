//! The host's policy callback, called for a request before it is served.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use super::parameters::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::frame::{Client, Credentials};

/// Room for a callback's reason, with the NUL; a longer one would be cut in the reply.
const REASON_SIZE: usize = 1024;

/// Calls a policy: 0 allows the request, a `FRAME_E...` code refuses it with the written reason,
/// and any other number is `FRAME_EACCES`.
pub fn ask(callback: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<()> {
    let mut reason = [0_u8; REASON_SIZE];
    let code = callback(reason.as_mut_ptr().cast(), reason.len());
    if code == 0 {
        return Ok(());
    }
    let text = CStr::from_bytes_until_nul(&reason).map_or(&reason[..], CStr::to_bytes);
    let text = String::from_utf8_lossy(text).into_owned();
    Err(Error::new(ErrorKind::from_code(code).unwrap_or(ErrorKind::Denied), text))
}

/// Calls a policy of C. The inquiry and `reason` live until it returns.
pub fn call<T>(
    policy: unsafe extern "C" fn(*mut c_void, *const T, *mut c_char, usize) -> c_int,
    context: Context,
    shown: &T,
    reason: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: the header's contract for the function and its context, and the pointers are valid.
    unsafe { policy(context.get(), shown, reason, size) }
}

/// Who a client is, for a struct of C; it lives as long as the struct.
pub struct ClientText {
    /// Of its key; `None` if there was no handshake.
    pub key_id: Option<CString>,
    /// Its address, if it is known.
    pub address: Option<CString>,
    /// Its process and user, or what C has in the place of one that is not known.
    pub credentials: Credentials,
}

impl ClientText {
    pub fn of(client: &Client<'_>) -> ClientText {
        // Neither has a NUL inside: a Unix socket with one in its name has no text.
        let text = |text: String| CString::new(text).ok();
        let unknown = Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX };
        ClientText {
            key_id: client.key().and_then(|key| text(key.as_str().to_owned())),
            address: client.address().and_then(text),
            credentials: client.credentials().unwrap_or(unknown),
        }
    }
}

/// A pointer to text that lives longer, or NULL.
pub fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

/// Strings for C: an array that ends with NULL, valid as long as this lives.
pub struct CArray {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl CArray {
    /// Refuses a string with a NUL byte.
    pub fn new(strings: impl Iterator<Item = String>, what: &str) -> Result<CArray> {
        let strings = strings.map(|string| c_string(string, what)).collect::<Result<Vec<_>>>()?;
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Ok(CArray { pointers, _strings: strings })
    }

    /// The array itself.
    pub fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// `text` with a NUL after it; a NUL inside is refused.
pub fn c_string(text: impl Into<Vec<u8>>, what: &str) -> Result<CString> {
    CString::new(text)
        .map_err(|_| Error::new(ErrorKind::BadField, format!("{what} has a NUL byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: c_int, reason: &[u8]) -> Error {
        ask(|to, size| {
            assert!(reason.len() <= size);
            // SAFETY: there is room for `size` bytes.
            unsafe { ptr::copy_nonoverlapping(reason.as_ptr(), to.cast(), reason.len()) };
            code
        })
        .unwrap_err()
    }

    #[test]
    fn a_callback_allows_or_refuses_with_its_code_and_reason() {
        assert!(ask(|_, _| 0).is_ok());
        let busy = refused(ErrorKind::Busy.code(), b"not now\0");
        assert_eq!((busy.kind(), busy.detail()), (ErrorKind::Busy, "not now"));
        for other in [1, -5000] {
            assert_eq!(refused(other, b"").kind(), ErrorKind::Denied);
        }
        assert_eq!(refused(1, &[b'x'; REASON_SIZE]).detail().len(), REASON_SIZE);
        assert_eq!(refused(1, b"\xff\0").detail(), "\u{fffd}");
    }

    #[test]
    fn an_array_ends_with_null_and_has_no_nul_inside() {
        let array = CArray::new(["a".into(), String::new()].into_iter(), "argv").unwrap();
        // SAFETY: two strings and NULL.
        let (first, second, end) =
            unsafe { (*array.as_ptr(), *array.as_ptr().add(1), *array.as_ptr().add(2)) };
        // SAFETY: the array lives.
        assert_eq!(unsafe { (CStr::from_ptr(first), CStr::from_ptr(second)) }, (c"a", c""));
        assert!(end.is_null());
        assert!(CArray::new(["a\0b".into()].into_iter(), "argv").is_err());
    }
}
