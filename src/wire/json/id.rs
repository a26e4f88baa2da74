//! The id of a request, which its replies repeat.

/// The `id` of a request; each of its replies repeats it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// An integer.
    Number(i64),
    /// A string of at most 1 KiB, so that it fits the header of any reply.
    Text(String),
}

impl Id {
    /// A string as an id, unless it is too long.
    pub fn text(text: String) -> Option<Id> {
        (text.len() <= MAX_TEXT).then_some(Id::Text(text))
    }
}

/// Bytes of a peer's text that a header repeats.
pub const MAX_TEXT: usize = 1024;
