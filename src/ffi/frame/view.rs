//! A message in borrowed memory.

use std::ffi::{c_char, c_void};
use std::ops::Range;
use std::ptr;

use crate::error::Result;
use crate::ffi::boundary::parameters::{Bytes, Text};
use crate::wire::frame::decoder::Span;

/// A message in borrowed memory: that of a connection, of a decoder or of the caller. The
/// function that fills it says how long it is valid. It also describes a message to be queued.
///
/// The struct never grows: it is used in arrays.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameView {
    /// The JSON text of the header with a NUL after it; NULL for a packet.
    pub header: *const c_char,
    /// Its length without the NUL. It is ignored for a message to be queued.
    pub header_len: usize,
    /// The body, or the bytes of a packet; NULL if there are none.
    pub body: *const c_void,
    /// Their number.
    pub body_len: usize,
}

impl FrameView {
    /// A message in `buffer`; the header has its NUL, and is empty for a packet.
    #[inline]
    pub(in crate::ffi) fn new(
        buffer: &[u8],
        header: &Range<usize>,
        body: &Range<usize>,
    ) -> FrameView {
        let at = |range: &Range<usize>| match range.len() {
            0 => ptr::null(),
            _ => buffer.as_ptr().wrapping_add(range.start),
        };
        FrameView {
            header: at(header).cast(),
            header_len: header.len().saturating_sub(1),
            body: at(body).cast(),
            body_len: body.len(),
        }
    }

    /// The header and the body that C passes.
    pub(in crate::ffi) fn parts<'a>(&self) -> Result<(Option<&'a str>, &'a [u8])> {
        let (header, body) = (Text::of(self.header), Bytes::of(self.body));
        Ok((header.optional("header")?, body.get(self.body_len, "body")?))
    }
}

/// The message in `buffer`.
#[inline]
pub(in crate::ffi) fn view_of(buffer: &[u8], span: &Span) -> FrameView {
    FrameView::new(buffer, &span.header, &span.body)
}
