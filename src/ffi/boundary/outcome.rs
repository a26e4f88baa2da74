//! How a call ends: a count or a negative code, errno, and this thread's last error.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::{Error, ErrorKind, Result};

thread_local! {
    /// The text with a NUL. Nothing frees it before the thread has ended.
    static LAST_ERROR: RefCell<[u8; TEXT_SIZE]> = const { RefCell::new([0; TEXT_SIZE]) };
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
}

/// Runs the work of an entry point that returns 0.
#[inline]
pub fn code(work: impl FnOnce() -> Result<()>) -> c_int {
    match caught(work) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => failed(error),
        Err(panic) => panicked(panic),
    }
}

/// Runs the work of an entry point that signal handlers may call. In a library that was loaded
/// by dlopen(3) a thread's first use of a thread-local variable allocates, and so may a text. So
/// nothing is caught, and the last error stays: `work` must not panic, nor allocate.
pub fn code_in_handler(work: impl FnOnce() -> Result<()>) -> c_int {
    work().map_or_else(|error| error.kind().code(), |()| 0)
}

/// Runs the work of an entry point that returns a small non-negative number.
#[inline]
pub fn small(work: impl FnOnce() -> Result<c_int>) -> c_int {
    match caught(work) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => failed(error),
        Err(panic) => panicked(panic),
    }
}

/// Runs the work of an entry point that returns a count.
#[inline]
pub fn count(work: impl FnOnce() -> Result<i64>) -> i64 {
    match caught(work) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => i64::from(failed(error)),
        Err(panic) => i64::from(panicked(panic)),
    }
}

/// Runs the work of an entry point that cannot fail; `fallback` is for a panic.
#[inline]
pub fn value<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    caught(work).unwrap_or(fallback)
}

/// The code of an error, which is stored as this thread's last one.
#[cold]
#[inline(never)]
#[expect(clippy::needless_pass_by_value, reason = "as below")]
fn failed(error: Error) -> c_int {
    remember(&error);
    error.kind().code()
}

/// The code of a panic, which is stored as this thread's last error.
///
/// Nothing unwinds into C. Objects that a panic left half changed belong to the caller, who gets
/// `FRAME_EPANIC`; this function does not use them again.
#[cold]
#[inline(never)]
#[expect(clippy::needless_pass_by_value, reason = "it is dropped here, and not at each call")]
fn panicked(panic: Box<dyn Any + Send>) -> c_int {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    failed(Error::new(ErrorKind::Panic, text.unwrap_or_default()))
}

/// Silences the panic hook for this thread and this call: a panic is reported only by its code.
#[inline]
fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    if !HOOK.is_completed() {
        pass_over_hook();
    }
    // A callback of the caller may call the library again.
    let outer = IN_CALL.try_with(|in_call| in_call.replace(true)).unwrap_or(false);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let _ = IN_CALL.try_with(|in_call| in_call.set(outer));
    outcome
}

static HOOK: Once = Once::new();

#[cold]
#[inline(never)]
fn pass_over_hook() {
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IN_CALL.try_with(Cell::get).unwrap_or(false) {
                print(info);
            }
        }));
    });
}

fn remember(error: &Error) {
    let text = error.to_string().replace('\0', "\\0");
    let most = text.len().min(TEXT_SIZE - 1);
    let len = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let text = &text.as_bytes()[..len];
    // A thread that is ending has no last error any more.
    let _ = LAST_ERROR.try_with(|last| {
        let mut last = last.borrow_mut();
        last[..text.len()].copy_from_slice(text);
        last[text.len()] = 0;
    });
    // 0 without a failed system call: an errno of an earlier one, such as EAGAIN, would mislead.
    // SAFETY: the pointer to this thread's errno is always valid.
    unsafe { *libc::__errno_location() = error.errno() };
}

/// This thread's last error, at the same address as long as the thread lives.
pub fn last() -> *const c_char {
    LAST_ERROR.try_with(|last| last.as_ptr().cast_const().cast()).unwrap_or(c"".as_ptr())
}

/// The line of text for a code, also for one that does not exist.
pub fn text(code: c_int) -> &'static CStr {
    match ErrorKind::from_code(code) {
        Some(kind) => kind.c_text(),
        None if code >= 0 => c"success",
        None => c"unknown error code",
    }
}

/// Bytes of the text of an error, with its NUL: a longer one is cut.
const TEXT_SIZE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn last_text() -> String {
        // SAFETY: `last` is a C string until the next error of this thread.
        unsafe { CStr::from_ptr(last()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn a_panic_becomes_a_code() {
        assert_eq!(code(|| panic!("on {}", "purpose")), ErrorKind::Panic.code());
        assert!(last_text().contains("on purpose"));
        assert_eq!(count(|| panic!("again")), i64::from(ErrorKind::Panic.code()));
        assert_eq!(value(7, || panic!("and again")), 7);
    }

    #[test]
    fn a_failure_sets_the_code_errno_and_the_text() {
        let errno = rustix::io::Errno::NOSPC;
        assert_eq!(code(|| Err(Error::system("write", errno))), ErrorKind::NoSpace.code());
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(28));
        assert!(last_text().contains("No space left"));
        assert_eq!(code(|| Ok(())), 0);
        assert!(last_text().contains("No space left"), "success leaves it alone");
        assert_eq!(code(|| Err(Error::new(ErrorKind::TooBig, ""))), ErrorKind::TooBig.code());
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(0));
    }

    #[test]
    fn the_text_of_a_failure_stays_where_it_is_and_fits() {
        let place = last();
        let long = "é".repeat(TEXT_SIZE);
        for detail in ["a\0b", &long, ""] {
            code(|| Err(Error::new(ErrorKind::Path, detail.to_owned())));
            assert_eq!(last(), place);
            let text = last_text();
            assert!(text.starts_with(ErrorKind::Path.text()), "{text}");
            assert!(text.len() < TEXT_SIZE && text.len() > 900 || detail.len() < 5, "{text}");
        }
        assert_eq!(last_text(), ErrorKind::Path.text());
    }

    #[test]
    fn every_code_has_a_text() {
        for known in ErrorKind::ALL {
            assert_eq!(text(known.code()), known.c_text());
        }
        for unknown in [i32::MIN, -1000, 0, 1, i32::MAX] {
            assert!(!text(unknown).is_empty());
        }
    }
}
