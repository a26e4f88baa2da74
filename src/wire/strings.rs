//! Strings that are one behind the other, each with a NUL: as execve(2) takes them, and as the
//! body of a request has them.

use crate::error::{Error, ErrorKind, Result};

/// Adds one string, made of three parts.
pub fn add(strings: &mut Vec<u8>, parts: [&[u8]; 3]) -> Result<()> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
    strings.try_reserve(length).map_err(|_| no_memory())?;
    for part in parts {
        if part.contains(&0) {
            let detail = "a NUL byte in an argument, a variable or a path";
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        strings.extend_from_slice(part);
    }
    strings.push(0);
    Ok(())
}

/// The strings, which must be UTF-8.
pub fn list(mut strings: &[u8]) -> Result<Vec<String>> {
    let bad = "strings in the body are not UTF-8, or not ended";
    let bad = Err(Error::new(ErrorKind::BadField, bad));
    let mut list = Vec::new();
    // Not piece by piece: 24 bytes for each NUL are much already.
    let count = strings.iter().map(|byte| usize::from(*byte == 0)).sum();
    list.try_reserve_exact(count).map_err(|_| no_memory())?;
    while let Some(end) = strings.iter().position(|byte| *byte == 0) {
        let Ok(string) = str::from_utf8(&strings[..end]) else { return bad };
        list.push(string.to_owned());
        strings = &strings[end + 1..];
    }
    if strings.is_empty() { Ok(list) } else { bad }
}

fn no_memory() -> Error {
    Error::new(ErrorKind::NoMemory, "arguments or variables")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_listed() {
        let mut strings = Vec::new();
        for parts in [[b"a".as_slice(), b"=", b"b"], [b"", b"", b""], ["ü".as_bytes(), b"", b""]] {
            add(&mut strings, parts).unwrap();
        }
        assert_eq!(list(&strings).unwrap(), ["a=b", "", "ü"]);
        assert!(list(b"").unwrap().is_empty());
        for bad in [b"a".as_slice(), b"a\0b", b"\xff\0", b"a\0\xff"] {
            assert_eq!(list(bad).unwrap_err().kind(), ErrorKind::BadField);
        }
        let error = add(&mut strings, [b"a", b"\0", b""]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
    }
}
