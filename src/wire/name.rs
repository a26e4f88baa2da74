//! File names in requests: relative paths that cannot lead out of the root.

use crate::error::{Error, ErrorKind, Result};
use crate::wire::quote;

/// The prefix of names of the library's own files. A peer can neither read nor replace them. The
/// case of letters is ignored, because some file systems ignore it.
pub const RESERVED: &str = ".framefd-";

/// A file name as bytes, relative to a root: components separated by single slashes.
///
/// These are refused: an empty name, an absolute one, components that are empty, `.` or `..` or
/// begin with [`RESERVED`], NUL, and names longer than [`MAX_NAME`], [`MAX_COMPONENT`] or
/// [`MAX_COMPONENTS`]. Everything else is accepted byte for byte: a leading `-`, a trailing space
/// or dot, a newline, text that is not UTF-8. Two spellings of one character are two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

/// Bytes in a name: the kernel's `PATH_MAX` less the final NUL.
pub const MAX_NAME: usize = 4095;
/// Bytes in one component: `NAME_MAX` of Linux's file systems.
pub const MAX_COMPONENT: usize = 255;
/// Components in a name: each may cost a system call, and nobody nests deeper.
pub const MAX_COMPONENTS: usize = 255;

impl<'a> Name<'a> {
    /// Checks `bytes`; the error is of the kind [`ErrorKind::Path`] and names the mistake.
    pub fn new(bytes: &'a [u8]) -> Result<Name<'a>> {
        match fault(bytes) {
            None => Ok(Name(bytes)),
            Some(fault) => Err(Error::new(ErrorKind::Path, format!("{fault}: {}", quote(bytes)))),
        }
    }

    /// The whole name.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The components, from the root downwards: at least one.
    pub fn components(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The directory that the name is in, `None` for the root itself, and the last
    /// component.
    pub fn split(self) -> (Option<Name<'a>>, &'a [u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (Some(Name(&self.0[..slash])), &self.0[slash + 1..]),
            None => (None, self.0),
        }
    }
}

/// Checks the target of a symbolic link with this name: it must not lead out of the root, on
/// whatever way. `is_directory` tells whether a name is a directory, and not a link to one. The
/// error is of the kind [`ErrorKind::Path`].
///
/// No chain of such links leads out: each `..` goes up from a real directory, either that of a
/// link, which the kernel has reached by then, or one that was asked for. What follows only goes
/// down, or through links of the same kind.
pub fn check_link_target(
    name: Name<'_>,
    target: &[u8],
    is_directory: &dyn Fn(Name<'_>) -> bool,
) -> Result<()> {
    let above = name.split().0.map_or(&b""[..], Name::as_bytes);
    match resolve(above.to_vec(), target, is_directory) {
        Ok(()) => Ok(()),
        Err(fault) => {
            let what = format!("a link to {}: {fault}", quote(target));
            Err(Error::new(ErrorKind::Path, what))
        }
    }
}

/// Follows `target` from the directory `at`, which is empty for the root.
fn resolve(
    mut at: Vec<u8>,
    target: &[u8],
    is_directory: &dyn Fn(Name<'_>) -> bool,
) -> Result<(), &'static str> {
    match target.first() {
        None => return Err("it is empty"),
        Some(b'/') => return Err("it is absolute"),
        _ if target.len() > MAX_NAME => return Err("it is longer than 4095 bytes"),
        _ => {}
    }
    let mut is_real = true;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if at.is_empty() => return Err("it leads out of the root"),
            b".." if !is_real && !is_directory(Name(&at)) => {
                return Err("it has .. behind what is not a directory");
            }
            b".." => {
                is_real = true;
                at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
            }
            part => {
                is_real = false;
                if !at.is_empty() {
                    at.push(b'/');
                }
                at.extend_from_slice(part);
                if let Some(fault) = fault(&at) {
                    return Err(fault);
                }
            }
        }
    }
    Ok(())
}

/// Whether a target of a link has `..` behind a name.
pub fn turns_back(target: &[u8]) -> bool {
    let mut parts = target
        .split(|byte| *byte == b'/')
        .skip_while(|part| matches!(part, [] | [b'.'] | [b'.', b'.']));
    parts.any(|part| part == b"..")
}

fn fault(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the name is empty");
    }
    if name.len() > MAX_NAME {
        return Some("the name is longer than 4095 bytes");
    }
    if name[0] == b'/' {
        return Some("the name is absolute");
    }
    if name.contains(&0) {
        return Some("the name has a NUL");
    }
    let components = || name.split(|byte| *byte == b'/');
    if components().count() > MAX_COMPONENTS {
        return Some("the name has more than 255 components");
    }
    components().find_map(|component| match component {
        b"" => Some("the name has an empty component"),
        b"." | b".." => Some("the name has a component . or .."),
        _ if component.len() > MAX_COMPONENT => Some("a component is longer than 255 bytes"),
        _ if is_reserved(component) => Some("names that begin with .framefd- are reserved"),
        _ => None,
    })
}

/// Whether a component is reserved for the library's own files.
pub fn is_reserved(component: &[u8]) -> bool {
    component
        .get(..RESERVED.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(component: usize, count: usize) -> Vec<u8> {
        vec!["x".repeat(component); count].join("/").into_bytes()
    }

    #[test]
    fn the_shared_vectors() {
        let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/names/index.tsv");
        let vectors = std::fs::read_to_string(vectors).unwrap();
        let rows = || vectors.lines().filter(|line| !line.starts_with('#'));
        for row in rows() {
            let mut columns = row.split('\t');
            let (label, expected, hex) =
                (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap());
            let digits = hex.trim_matches('-').as_bytes().chunks(2);
            let bytes: Vec<u8> = digits
                .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            match Name::new(&bytes) {
                Ok(name) => assert_eq!((expected, name.as_bytes()), ("ok", &*bytes), "{label}"),
                Err(error) => {
                    assert_eq!((expected, error.kind()), ("PATH", ErrorKind::Path), "{label}");
                }
            }
        }
        assert!(rows().count() > 50);
    }

    #[test]
    fn the_error_names_the_fault_and_shows_the_name() {
        let cases: [(&[u8], &str); 11] = [
            (b"", "is empty: \"\""),
            (b"/a", "is absolute: \"/a\""),
            (b"a/../b", "component . or ..: \"a/../b\""),
            (b"a//b", "empty component"),
            (b"a\x1b[2J\0", r#"a NUL: "a\u{1b}[2J\0""#),
            (&[b'x'; MAX_COMPONENT + 1], "255 bytes"),
            (&long(1, MAX_COMPONENTS + 1), "255 components"),
            (&[b'x'; MAX_NAME + 1], "4095 bytes"),
            (b".framefd-", "reserved"),
            (b".framefd-0123456789abcdef.tmp", "reserved"),
            (b"a/.FrameFD-x/b", "reserved"),
        ];
        for (name, expected) in cases {
            let error = Name::new(name).expect_err(expected);
            assert_eq!(error.kind(), ErrorKind::Path);
            assert!(error.detail().contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn everything_else_is_literal() {
        let cases: [&[u8]; 4] = [b".framefd", b"x.framefd-", b"caf\xe9", &long(1, MAX_COMPONENTS)];
        for name in cases {
            assert_eq!(Name::new(name).unwrap().as_bytes(), name);
        }
        let longest = long(MAX_COMPONENT, 16);
        assert_eq!(longest.len(), MAX_NAME);
        assert!(Name::new(&longest).is_ok());
    }

    #[test]
    fn a_link_leads_up_as_far_as_its_directory_is_deep() {
        let is_directory = |name: Name<'_>| [&b"d"[..], b"a", b"a/d", b"a/d/e"].contains(&name.0);
        let check =
            |name: &[u8], target: &[u8]| check_link_target(Name(name), target, &is_directory);
        for (name, target) in [
            (&b"a"[..], &b"b"[..]),
            (b"a", b"b/c"),
            (b"a", b"..b/c.."),
            (b"a", b"caf\xe9"),
            (b"a", b"."),
            (b"a", b"./b/./"),
            (b"a/b", b".."),
            (b"a/b", b"../"),
            (b"a/b", b"../c"),
            (b"a/b", b"..//c/"),
            (b"a/b", b"./.././c"),
            (b"a/b/c", b"../.."),
            (b"a/b/c", b"../../a/b/c"),
            (b"a/b", b"c\nd"),
            (b"x", b"d/../y"),
            (b"a/b", b"d/.."),
            (b"a/b", b"d/e/../../x"),
            (b"a/b", b"d/e/../../../d/../x"),
        ] {
            assert!(check(name, target).is_ok(), "{} {}", quote(name), quote(target));
        }
        for (name, target) in [
            (&b"a"[..], &b""[..]),
            (b"a", b".."),
            (b"a", b"../a"),
            (b"a", b"./.."),
            (b"a/b", b"../.."),
            (b"a/b", b"../../a"),
            (b"a/b", b"..//../a"),
            (b"a/b", b"c/.."),
            (b"a/b", b"../c/../d"),
            (b"a/b", b"d/c/.."),
            (b"a/b", b"d/../../.."),
            (b"x", b"d/../.."),
            (b"a/b", b"/"),
            (b"a/b", b"/etc/passwd"),
            (b"a/b", b"c\0"),
            (b"a/b", b"../.framefd-0123456789abcdef.tmp"),
            (b"a/b", &long(MAX_COMPONENT + 1, 1)),
            (b"a/b", &[&b"../"[..], &long(MAX_COMPONENT, 16)].concat()),
            (b"a/b", &vec![b'.'; MAX_NAME + 1]),
        ] {
            let error = check(name, target).expect_err(&quote(target));
            assert_eq!(error.kind(), ErrorKind::Path);
        }
        let back = [&b"a/.."[..], b"../a/b/../c", b"./a//.."];
        assert!(back.into_iter().all(turns_back));
        assert!([&b".."[..], b"a", b"./../a", b"../..", b""].into_iter().all(|to| !turns_back(to)));
    }

    #[test]
    fn a_name_comes_apart_at_its_slashes() {
        let name = Name::new(b"a/bc/d").unwrap();
        assert_eq!(name.components().collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d"]);
        assert_eq!(name.split(), (Some(Name(b"a/bc")), &b"d"[..]));
        assert_eq!(Name(b"a").split(), (None, &b"a"[..]));
    }
}
