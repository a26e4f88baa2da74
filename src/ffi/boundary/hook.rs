//! The host's callback that may end a wait.

use std::ffi::{c_int, c_void};
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
