//! Option structs from C: sized, so that programs and libraries of different versions
//! understand each other.

use std::ffi::c_int;
use std::time::Duration;

use crate::error::Result;
use crate::ffi::boundary::arguments::invalid;

/// For a `timeout_ms`: wait forever.
pub const FRAME_NO_TIMEOUT: i32 = -1;
/// For a `timeout_ms`: do not wait at all.
pub const FRAME_DONT_WAIT: i32 = -2;
/// For a limit: none.
pub const FRAME_NO_LIMIT: u64 = u64::MAX;

/// A struct of plain numbers and pointers that begins with its size.
///
/// # Safety
/// The type is `repr(C)`, its first member is `size: u32`, all zero is valid, and it has
/// no padding at its end.
pub unsafe trait SizedStruct: Copy {}

/// Reads the caller's options; NULL is all defaults.
///
/// # Safety
/// `options` is NULL or points to as many bytes as its `size` says.
pub unsafe fn read<T: SizedStruct>(options: *const T, what: &str) -> Result<T> {
    // SAFETY: all zero is valid for these types.
    let mut value: T = unsafe { std::mem::zeroed() };
    if options.is_null() {
        return Ok(value);
    }
    // SAFETY: the caller's promise, and `size` is what such a struct begins with.
    let size = unsafe { options.cast::<u32>().read_unaligned() } as usize;
    if size < size_of::<u32>() {
        return Err(invalid(format!("{what}: its size member is not set")));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are there on both sides.
    unsafe {
        std::ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut value).cast(), known);
    }
    for at in known..size {
        // SAFETY: still within the caller's struct.
        if unsafe { options.cast::<u8>().add(at).read() } != 0 {
            return Err(invalid(format!(
                "{what} sets a member that version {} does not know",
                env!("CARGO_PKG_VERSION")
            )));
        }
    }
    Ok(value)
}

/// Writes a result into the caller's struct, up to the size that the caller set.
///
/// # Safety
/// `result` is NULL or points to as many bytes as its `size` says.
pub unsafe fn write<T: SizedStruct>(result: *mut T, value: &T, what: &str) -> Result<()> {
    // SAFETY: the caller's promise.
    let size = unsafe { check_result(result, what) }?;
    if size == 0 {
        return Ok(());
    }
    let skip = size_of::<u32>();
    let known = size.min(size_of::<T>());
    // SAFETY: both structs have `known` bytes; the size member stays the caller's.
    unsafe {
        std::ptr::copy_nonoverlapping(
            std::ptr::from_ref(value).cast::<u8>().add(skip),
            result.cast::<u8>().add(skip),
            known - skip,
        );
        result.cast::<u8>().add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// Checks a result struct before any work is done for it; 0 for NULL.
///
/// # Safety
/// `result` is NULL or points to a struct that begins with its size.
pub unsafe fn check_result<T: SizedStruct>(result: *const T, what: &str) -> Result<usize> {
    if result.is_null() {
        return Ok(0);
    }
    // SAFETY: the caller's promise.
    let size = unsafe { result.cast::<u32>().read_unaligned() } as usize;
    if size < size_of::<u32>() {
        return Err(invalid(format!("{what}: its size member is not set")));
    }
    Ok(size)
}

/// A `timeout_ms` member: `None` is forever, 0 the default.
#[inline]
pub fn timeout(milliseconds: i32, default: Option<Duration>) -> Result<Option<Duration>> {
    time(milliseconds, default, "timeout_ms")
}

/// The same for a member of another name.
#[inline]
pub fn time(milliseconds: i32, default: Option<Duration>, what: &str) -> Result<Option<Duration>> {
    match milliseconds {
        0 => Ok(default),
        FRAME_NO_TIMEOUT => Ok(None),
        FRAME_DONT_WAIT => Ok(Some(Duration::ZERO)),
        1.. => Ok(Some(Duration::from_millis(u64::from(milliseconds.unsigned_abs())))),
        _ => Err(no_time(milliseconds, what)),
    }
}

#[cold]
#[inline(never)]
fn no_time(milliseconds: i32, what: &str) -> crate::Error {
    invalid(format!("{what} is {milliseconds}"))
}

/// As a timeout parameter: the object's own timeout. As a member, 0 means the default.
pub const FRAME_DEFAULT_TIMEOUT: i32 = i32::MIN;

/// A `timeout_ms` parameter, as for poll(2): 0 does not wait, -1 waits forever, and
/// `FRAME_DEFAULT_TIMEOUT` is `default`.
#[inline]
pub fn parameter(milliseconds: i32, default: Option<Duration>) -> Result<Option<Duration>> {
    match milliseconds {
        0.. => Ok(Some(Duration::from_millis(u64::from(milliseconds.unsigned_abs())))),
        -1 => Ok(None),
        FRAME_DEFAULT_TIMEOUT => Ok(default),
        _ => Err(no_time(milliseconds, "timeout_ms")),
    }
}

/// Refuses a member that does not apply here, unless it is 0.
pub fn unused<T: Default + PartialEq + Copy>(value: T, what: &str) -> Result<()> {
    if value == T::default() { Ok(()) } else { Err(invalid(format!("{what} does not apply here"))) }
}

/// The error for a member that another one excludes.
pub fn not_here(member: &str, to: &str) -> crate::Error {
    invalid(format!("{member} does not apply to {to}"))
}

/// The error for an unknown value.
pub fn unknown(value: impl std::fmt::Display, what: &str) -> crate::Error {
    invalid(format!("{what} is {value}, which is not known"))
}

/// Refuses flags other than `known`.
pub fn flags(flags: u32, known: u32, what: &str) -> Result<u32> {
    match flags & !known {
        0 => Ok(flags),
        unknown => Err(invalid(format!("{what} has flags that do not apply here: {unknown:#x}"))),
    }
}

/// A limit member: 0 is the default, more than `hard` is refused.
pub fn limit(value: u64, default: u64, hard: u64, what: &str) -> Result<u64> {
    match value {
        0 => Ok(default),
        FRAME_NO_LIMIT => Ok(hard),
        value if value <= hard => Ok(value),
        value => Err(invalid(format!("{what} is {value}, the most is {hard}"))),
    }
}

/// A `write_fd` member: 0 is the descriptor that is read from.
pub fn duplex(fd: c_int, write_fd: c_int) -> Result<crate::Duplex<'static>> {
    let reader = crate::ffi::boundary::arguments::descriptor(fd)?;
    let writer =
        if write_fd == 0 { reader } else { crate::ffi::boundary::arguments::descriptor(write_fd)? };
    Ok(crate::Duplex { reader, writer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Now {
        size: u32,
        first: u32,
        second: u64,
    }
    // SAFETY: as the trait asks.
    unsafe impl SizedStruct for Now {}

    #[repr(C)]
    struct Later {
        now: Now,
        third: u64,
    }

    #[test]
    fn an_older_program_gets_defaults_for_what_it_does_not_know() {
        let older = Now { size: 8, first: 1, second: 99 };
        // SAFETY: the struct is larger than it says.
        let read = unsafe { read(&raw const older, "options") }.unwrap();
        assert_eq!(read, Now { size: 8, first: 1, second: 0 });
    }

    #[test]
    fn a_newer_program_may_not_ask_for_what_is_not_known() {
        let now = Now { size: 24, first: 1, second: 2 };
        for third in [0, 1 << 63] {
            let later = Later { now, third };
            // SAFETY: `Later` is the 24 bytes that its size says.
            let read = unsafe { read((&raw const later).cast::<Now>(), "options") };
            match third {
                0 => assert_eq!(read.unwrap(), now),
                _ => assert_eq!(read.unwrap_err().kind(), ErrorKind::Argument),
            }
        }
    }

    #[test]
    fn a_size_that_was_not_set_is_refused() {
        let unset = Now { size: 0, first: 0, second: 0 };
        // SAFETY: a whole struct.
        let read = unsafe { read(&raw const unset, "options") };
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Argument);
    }

    #[test]
    fn a_result_goes_no_further_than_the_caller_said() {
        let mut older = Now { size: 8, first: 0, second: 99 };
        let value = Now { size: 0, first: 1, second: 2 };
        // SAFETY: the struct is larger than it says.
        unsafe { write(&raw mut older, &value, "result") }.unwrap();
        assert_eq!(older, Now { size: 8, first: 1, second: 99 });
        let mut later = Later { now: Now { size: 24, first: 9, second: 9 }, third: 9 };
        // SAFETY: `Later` is the 24 bytes that its size says.
        unsafe { write((&raw mut later).cast::<Now>(), &value, "result") }.unwrap();
        assert_eq!((later.now.second, later.third), (2, 0));
    }

    #[test]
    fn timeouts_are_what_their_names_say() {
        let default = Some(Duration::from_secs(9));
        assert_eq!(timeout(0, default).unwrap(), default);
        assert_eq!(timeout(FRAME_NO_TIMEOUT, default).unwrap(), None);
        assert_eq!(timeout(FRAME_DONT_WAIT, default).unwrap(), Some(Duration::ZERO));
        assert_eq!(timeout(5, default).unwrap(), Some(Duration::from_millis(5)));
        assert!(timeout(i32::MAX, default).unwrap() > Some(Duration::from_secs(2_000_000)));
        assert_eq!(timeout(-3, default).unwrap_err().kind(), ErrorKind::Argument);
        assert_eq!(timeout(i32::MIN, default).unwrap_err().kind(), ErrorKind::Argument);
    }
}
