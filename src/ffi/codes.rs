//! Versions, and the texts of error codes. The codes themselves are in src/error.rs.

use std::ffi::{c_char, c_int};

use super::boundary::outcome;

/// The version of the library that this header belongs to.
pub const FRAME_VERSION_MAJOR: i32 = 0;
/// See FRAME_VERSION_MAJOR.
pub const FRAME_VERSION_MINOR: i32 = 1;
/// See FRAME_VERSION_MAJOR.
pub const FRAME_VERSION_PATCH: i32 = 0;
/// It changes when programs must be rebuilt. Compare it with frame_abi_version().
pub const FRAME_ABI_VERSION: i32 = 0;

/// The version of the library as text, such as "0.1.0".
///
/// The text is static. May be called from any thread and from a signal handler. Cannot
/// fail.
#[unsafe(no_mangle)]
pub extern "C" fn frame_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The version of the library's binary interface. A program that was built with another
/// FRAME_ABI_VERSION must not use the library.
///
/// May be called from any thread and from a signal handler. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn frame_abi_version() -> c_int {
    FRAME_ABI_VERSION
}

/// One line of English for a code, without a full stop.
///
/// Every int has a text; it is static. May be called from any thread and from a signal
/// handler. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn frame_strerror(code: c_int) -> *const c_char {
    outcome::text(code).as_ptr()
}

/// This thread's last failure in words: the line of its code, then the details, such as the
/// expected value, the received one and the text of the errno. It is for people; a program
/// branches on the code.
///
/// The text is empty before the first failure. It is valid until the thread's next failure or
/// its end. Bytes of the peer are escaped. May be called from any thread. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn frame_last_error() -> *const c_char {
    outcome::last()
}
