//! The host's callbacks that end a wait, serve a request, or are told about something.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::ControlFlow;

use super::parameters::Context;
use crate::io::wait::Hook;

/// The host's callback as a hook: a non-zero result ends the call.
pub fn hook(asked: extern "C" fn(*mut c_void) -> c_int, context: *mut c_void) -> Hook {
    let context = Context::new(context);
    Box::new(move || match asked(context.get()) {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    })
}

/// A callback that serves a request: with a connection and the request.
pub type ServeFunction<C, R> = unsafe extern "C" fn(*mut c_void, *mut C, *const R) -> c_int;
/// A callback that gets a line of a level.
pub type LineFunction = unsafe extern "C" fn(*mut c_void, u32, *const c_char);

/// Lets the host serve a request. Both objects live until it returns.
pub fn serve<C, R>(
    function: ServeFunction<C, R>,
    context: Context,
    connection: &mut C,
    request: &R,
) -> c_int {
    // SAFETY: the header's contract for the function and its context, and the pointers are valid.
    unsafe { function(context.get(), connection, request) }
}

/// The same for a connection that the host keeps if it returns 0, until it frees it.
pub fn serve_and_keep<C, R>(
    function: ServeFunction<C, R>,
    context: Context,
    connection: C,
    request: &R,
) -> Option<(C, c_int)> {
    let kept = Box::into_raw(Box::new(connection));
    // SAFETY: as above.
    match unsafe { function(context.get(), kept, request) } {
        0 => None,
        // SAFETY: it came from a box, and the host has not freed it: the header says so.
        code => Some((*unsafe { Box::from_raw(kept) }, code)),
    }
}

/// A callback that is told about something.
pub type ToldFunction<T> = unsafe extern "C" fn(*mut c_void, *const T);

/// Tells the host about something, which lives until it returns.
pub fn tell<T>(function: ToldFunction<T>, context: Context, shown: &T) {
    // SAFETY: as above.
    unsafe { function(context.get(), shown) }
}

/// Passes a line to the host, which lives until it returns.
pub fn line(function: LineFunction, context: Context, level: u32, text: &CStr) {
    // SAFETY: as above.
    unsafe { function(context.get(), level, text.as_ptr()) }
}
