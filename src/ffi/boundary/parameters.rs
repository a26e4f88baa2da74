//! The parameters of the C interface, each as a type that checks what C passes.
//!
//! Only C makes these values, as the header requires. So their methods are safe to call, once,
//! inside the call that they were passed to. In the header each is the C type that its comment
//! names; tests/header prints it so.

use std::ffi::{OsStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::arguments::{self, invalid};
use super::options::{self, SizedStruct};
use crate::error::{Error, ErrorKind, Result};

/// `int fd`: a descriptor that stays open for the call.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Fd(c_int);

impl Fd {
    /// A member of a struct that C has written.
    pub fn of(member: c_int) -> Fd {
        Fd(member)
    }

    /// The descriptor, for as long as the caller keeps it open.
    pub fn borrow(self) -> Result<BorrowedFd<'static>> {
        arguments::descriptor(self.0)
    }

    /// The number of it.
    pub fn number(self) -> c_int {
        self.0
    }

    /// The descriptor to read from, and that of a `write_fd` member: 0 is the same.
    pub fn duplex(self, write_fd: c_int) -> Result<crate::Duplex<'static>> {
        options::duplex(self.0, write_fd)
    }

    /// The descriptor, which the library owns from now on; `None` for -1. It was checked to be
    /// open.
    pub fn take(self) -> Option<OwnedFd> {
        // SAFETY: the caller transfers it, as the header says.
        (self.0 >= 0).then(|| unsafe { OwnedFd::from_raw_fd(self.0) })
    }

    /// The descriptor, or `None` for -1.
    pub fn optional(self) -> Result<Option<BorrowedFd<'static>>> {
        if self.0 == -1 { Ok(None) } else { self.borrow().map(Some) }
    }
}

/// `const char *`: a string with a NUL at its end, or NULL.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// A member of a struct that C has passed.
    pub fn of(member: *const c_char) -> Text {
        Text(member)
    }

    /// UTF-8, or `None` for NULL.
    #[inline]
    pub fn optional<'a>(self, what: &str) -> Result<Option<&'a str>> {
        // SAFETY: a C string or NULL, as the header says.
        unsafe { arguments::optional_text(self.0, what) }
    }

    /// Whether it is this very text.
    #[inline]
    pub fn is(self, text: &[u8]) -> bool {
        std::ptr::eq(self.0.cast(), text.as_ptr())
    }

    /// UTF-8.
    #[inline]
    pub fn get<'a>(self, what: &str) -> Result<&'a str> {
        // SAFETY: as above.
        unsafe { arguments::text(self.0, what) }
    }

    /// Any bytes, as the kernel takes names.
    pub fn bytes<'a>(self, what: &str) -> Result<&'a [u8]> {
        // SAFETY: as above.
        unsafe { arguments::string(self.0, what) }
    }

    /// Any bytes, or `None` for NULL.
    pub fn optional_bytes<'a>(self, what: &str) -> Result<Option<&'a [u8]>> {
        if self.0.is_null() { Ok(None) } else { self.bytes(what).map(Some) }
    }

    /// Bytes of this length, or up to the NUL if it is `SIZE_MAX`.
    pub fn sized<'a>(self, len: usize, what: &str) -> Result<&'a [u8]> {
        match len {
            usize::MAX => self.bytes(what),
            // SAFETY: as many bytes as the caller says.
            len => unsafe { arguments::bytes(self.0.cast(), len, what) },
        }
    }

    /// A path.
    pub fn path<'a>(self, what: &str) -> Result<&'a Path> {
        self.bytes(what).map(|path| Path::new(OsStr::from_bytes(path)))
    }

    /// The pointer.
    pub fn as_ptr(self) -> *const c_char {
        self.0
    }
}

/// `const void *`: bytes to read, whose number is another parameter.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Bytes(*const c_void);

impl Bytes {
    /// A member of a struct that C has passed, or bytes of another type.
    pub fn of(member: *const c_void) -> Bytes {
        Bytes(member)
    }

    /// Whether it is NULL.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// `len` of them; NULL is accepted for none.
    #[inline]
    pub fn get<'a>(self, len: usize, what: &str) -> Result<&'a [u8]> {
        // SAFETY: as many bytes as the caller says, which do not change during the call.
        unsafe { arguments::bytes(self.0.cast(), len, what) }
    }
}

/// `void *`: memory to write to, whose size is another parameter.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Room(*mut c_void);

impl Room {
    /// Whether it is NULL.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// `len` bytes of it; NULL is accepted for none.
    pub fn get<'a>(self, len: usize, what: &str) -> Result<&'a mut [u8]> {
        // SAFETY: as much memory as the caller says, which nobody else uses during the call.
        unsafe { arguments::buffer(self.0.cast(), len, what) }
    }
}

/// `char *`: memory for text, whose size is another parameter.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct TextRoom(*mut c_char);

impl TextRoom {
    /// Writes `text` with a NUL, unless the memory is NULL; returns its length without the NUL.
    /// [`ErrorKind::TooBig`] if there is too little room; nothing is written then.
    pub fn put(self, cap: usize, text: &[u8], what: &str) -> Result<i64> {
        if !self.0.is_null() {
            if text.len() >= cap {
                let detail = format!("{what} takes {} bytes, and there are {cap}", text.len() + 1);
                return Err(Error::new(ErrorKind::TooBig, detail));
            }
            let room = Room(self.0.cast()).get(cap, what)?;
            room[..text.len()].copy_from_slice(text);
            room[text.len()] = 0;
        }
        Ok(i64::try_from(text.len()).unwrap_or(i64::MAX))
    }
}

/// `const struct T *`: an object that is read.
#[derive(Debug)]
#[repr(transparent)]
pub struct Ref<T>(*const T);

impl<T> Ref<T> {
    /// A member of a struct that C has passed.
    pub fn of(member: *const T) -> Ref<T> {
        Ref(member)
    }

    /// The object.
    #[inline]
    pub fn get<'a>(self, what: &str) -> Result<&'a T> {
        // SAFETY: a live object of the library's or NULL, as the header says.
        unsafe { arguments::object(self.0, what) }
    }

    /// The object, or `None` for NULL.
    #[inline]
    pub fn optional<'a>(self) -> Option<&'a T> {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }
    }

    /// `len` objects in a row.
    pub fn slice<'a>(self, len: usize, what: &str) -> Result<&'a [T]> {
        if len == 0 {
            return Ok(&[]);
        }
        if self.0.is_null()
            || len.checked_mul(size_of::<T>()).is_none_or(|n| isize::try_from(n).is_err())
        {
            return Err(invalid(format!("{what} is NULL, or its length impossible: {len}")));
        }
        // SAFETY: as many of them as the caller says.
        Ok(unsafe { std::slice::from_raw_parts(self.0, len) })
    }
}

/// `struct T *`: an object that is changed.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mut<T>(*mut T);

impl<T> Mut<T> {
    /// The object.
    #[inline]
    pub fn get<'a>(self, what: &str) -> Result<&'a mut T> {
        // SAFETY: a live object of the library's or NULL, which nobody else uses: the header
        // says so.
        unsafe { arguments::object_mut(self.0, what) }
    }

    /// The object, or `None` for NULL.
    pub fn optional<'a>(self) -> Option<&'a mut T> {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }

    /// Frees the object; NULL is ignored.
    pub fn free(self) {
        // SAFETY: it came from `Out::put`, and is not used again: the header says so.
        unsafe { arguments::free(self.0) };
    }
}

/// `struct T *`: an object that several threads may use at once.
#[derive(Debug)]
#[repr(transparent)]
pub struct Handle<T: Sync>(*mut T);

impl<T: Sync> Handle<T> {
    /// The object.
    #[inline]
    pub fn get<'a>(self, what: &str) -> Result<&'a T> {
        // SAFETY: a live object of the library's or NULL, as the header says.
        unsafe { arguments::object(self.0.cast_const(), what) }
    }

    /// The object, for a call in a signal handler: a failure does not allocate.
    pub fn get_in_handler<'a>(self) -> Result<&'a T> {
        if self.0.is_null() { Err(arguments::invalid("")) } else { self.get("") }
    }

    /// Frees the object; NULL is ignored.
    pub fn free(self) {
        // SAFETY: it came from `Place::put`, and is not used again: the header says so.
        unsafe { arguments::free(self.0) };
    }
}

/// `struct T **`: the place for a new object.
#[derive(Debug)]
#[repr(transparent)]
pub struct Out<T>(*mut *mut T);

impl<T> Out<T> {
    /// The place, which is NULL from now on until an object is put there.
    #[inline]
    pub fn get<'a>(self, what: &str) -> Result<Place<'a, T>> {
        // SAFETY: memory for a pointer or NULL, as the header says.
        unsafe { arguments::out(self.0, what) }.map(Place)
    }

    /// The place, or `None` for NULL.
    pub fn optional<'a>(self, what: &str) -> Result<Option<Place<'a, T>>> {
        if self.0.is_null() { Ok(None) } else { self.get(what).map(Some) }
    }
}

/// The place for a new object, checked.
pub struct Place<'a, T>(&'a mut *mut T);

impl<T> Place<'_, T> {
    /// Passes an object to the caller, who frees it.
    #[inline]
    pub fn put<'a>(self, object: T) -> &'a T {
        let object = Box::leak(Box::new(object));
        *self.0 = object;
        object
    }
}

/// `T *`: a number to write, or NULL if the caller does not want it.
#[derive(Debug)]
#[repr(transparent)]
pub struct Value<T>(*mut T);

impl<T: Copy> Value<T> {
    /// Writes it, if it is wanted.
    #[inline]
    pub fn put(self, value: T) {
        // SAFETY: memory for a `T` or NULL, as the header says.
        unsafe { arguments::write_optional(self.0, value) };
    }

    /// Fails for NULL.
    pub fn required(self, what: &str) -> Result<Value<T>> {
        if self.0.is_null() { Err(arguments::null(what)) } else { Ok(self) }
    }
}

impl<T> Value<*const T> {
    /// The same, which is NULL from now on until a pointer is put there.
    pub fn cleared(self) -> Self {
        // SAFETY: memory for a pointer or NULL, as the header says.
        unsafe { arguments::write_optional(self.0, std::ptr::null()) };
        self
    }
}

/// `T *`: room for `len` values, whose number is another parameter.
#[derive(Debug)]
#[repr(transparent)]
pub struct Array<T>(*mut T);

impl<T: Copy> Array<T> {
    /// The room; it may be uninitialised.
    #[inline]
    pub fn get<'a>(self, len: usize, what: &str) -> Result<&'a mut [MaybeUninit<T>]> {
        if len == 0 {
            return Ok(&mut []);
        }
        if self.0.is_null()
            || len.checked_mul(size_of::<T>()).is_none_or(|n| isize::try_from(n).is_err())
        {
            return Err(invalid(format!("{what} is NULL, or its length impossible: {len}")));
        }
        // SAFETY: memory for as many of them as the caller says, which nobody else uses.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.cast(), len) })
    }
}

/// `const struct T *`: options, sized by their first member, or NULL for the defaults.
#[derive(Debug)]
#[repr(transparent)]
pub struct Options<T>(*const T);

impl<T: SizedStruct> Options<T> {
    /// Whether it is NULL.
    #[inline]
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// A copy; members that an older caller does not have are 0.
    #[inline]
    pub fn read(self, what: &str) -> Result<T> {
        // SAFETY: as many bytes as the size says, or NULL, as the header says.
        unsafe { options::read(self.0, what) }
    }

    /// The same for a request, which must not be NULL.
    pub fn required(self, what: &str) -> Result<T> {
        if self.0.is_null() {
            return Err(invalid(format!("{what} is NULL")));
        }
        self.read(what)
    }
}

/// `struct T *`: a result, sized by its first member, or NULL.
#[derive(Debug)]
#[repr(transparent)]
pub struct Results<T>(*mut T);

impl<T: SizedStruct> Results<T> {
    /// Checks it before any work is done for it.
    pub fn check(&self, what: &str) -> Result<()> {
        // SAFETY: as many bytes as the size says, or NULL, as the header says.
        unsafe { options::check_result(self.0.cast_const(), what) }.map(drop)
    }

    /// Fails for NULL, and for a size that is not set.
    pub fn required(&self, what: &str) -> Result<()> {
        if self.0.is_null() { Err(invalid(format!("{what} is NULL"))) } else { self.check(what) }
    }

    /// Writes it, up to the size that the caller set.
    pub fn put(&self, value: &T, what: &str) -> Result<()> {
        // SAFETY: as above.
        unsafe { options::write(self.0, value, what) }
    }
}

/// `const char *const *`: strings, then NULL.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Texts(*const *const c_char);

impl Texts {
    /// A member of a struct that C has passed.
    pub fn of(member: *const *const c_char) -> Texts {
        Texts(member)
    }

    /// The strings, or `None` for NULL.
    pub fn optional<'a>(self, what: &str) -> Result<Option<Vec<&'a [u8]>>> {
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: C strings and a NULL behind them, as the header says.
        unsafe { arguments::strings(self.0, what) }.map(Some)
    }
}

/// The `len` user or group ids that a member of a struct points to; NULL is accepted for none.
pub fn numbers(member: *const u32, len: u64, what: &str) -> Result<Vec<u32>> {
    let refused = || invalid(format!("{what}_len is {len}"));
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_IDS).ok_or_else(refused)?;
    let bytes = Bytes::of(member.cast()).get(len * size_of::<u32>(), what)?;
    Ok(bytes.as_chunks().0.iter().map(|number| u32::from_ne_bytes(*number)).collect())
}

/// As many groups as Linux takes.
const MAX_IDS: usize = 65_536;

/// `void *context`: passed to a callback and not used otherwise.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Context(*mut c_void);

// SAFETY: only the host's callbacks look at it, and the header says on which threads they run.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub fn new(context: *mut c_void) -> Context {
        Context(context)
    }

    pub fn get(self) -> *mut c_void {
        self.0
    }
}

/// Adds to `buffer` the `n` bytes that C has written after its end.
pub fn commit(buffer: &mut Vec<u8>, n: usize) -> Result<()> {
    let room = buffer.capacity() - buffer.len();
    if n > room {
        return Err(invalid(format!("n is {n}, but there was room for {room}")));
    }
    // SAFETY: there is room for them, and the header says that they were written.
    unsafe { buffer.set_len(buffer.len() + n) };
    Ok(())
}
