//! File names in requests: relative paths that cannot lead out of the root.

use crate::error::{Error, ErrorKind, Result};
use crate::wire::quote;

/// The prefix of names of the library's own files. A peer can neither read nor replace them. The
/// case of letters is ignored, because some file systems ignore it.
pub const RESERVED: &str = ".framefd-";

/// A file name as bytes, relative to a root: components separated by single slashes.
///
/// These are refused: an empty name, an absolute one, components that are empty, `.` or `..` or
/// begin with [`RESERVED`], NUL and other ASCII control characters, and names longer than
/// [`MAX_NAME`], [`MAX_COMPONENT`] or [`MAX_COMPONENTS`]. Everything else is accepted byte for
/// byte: a leading `-`, a trailing space or dot, text that is not UTF-8. Two spellings of one
/// character are two names.
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

/// Checks the target of a symbolic link with this name: at most as many `..` as the link's
/// directory is deep, then components as in a name. The error is of the kind
/// [`ErrorKind::Path`].
///
/// No chain of such links leads out: each `..` goes up from a real directory, since the kernel
/// has followed all links before it. The components after it only go down, or through links of
/// the same kind.
pub fn check_link_target(name: Name<'_>, target: &[u8]) -> Result<()> {
    let ups = target.split(|byte| *byte == b'/').take_while(|part| *part == b"..").count();
    let fault = match target.get(3 * ups..) {
        _ if target.len() > MAX_NAME => Some("it is longer than 4095 bytes"),
        _ if ups >= name.components().count() => Some("it leads out of the root"),
        Some(rest) => fault(rest),
        None => None, // nothing but `..`
    };
    match fault {
        None => Ok(()),
        Some(fault) => {
            let what = format!("a link to {}: {fault}", quote(target));
            Err(Error::new(ErrorKind::Path, what))
        }
    }
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
    if name.iter().any(u8::is_ascii_control) {
        return Some("the name has a control character");
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
            (b"a\x1b[2J", r#"control character: "a\u{1b}[2J""#),
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
        let check = |name: &[u8], target: &[u8]| check_link_target(Name(name), target);
        for (name, target) in [
            (&b"a"[..], &b"b"[..]),
            (b"a", b"b/c"),
            (b"a", b"..b/c.."),
            (b"a", b"caf\xe9"),
            (b"a/b", b".."),
            (b"a/b", b"../c"),
            (b"a/b/c", b"../.."),
            (b"a/b/c", b"../../a/b/c"),
        ] {
            assert!(check(name, target).is_ok(), "{} {}", quote(name), quote(target));
        }
        for (name, target) in [
            (&b"a"[..], &b""[..]),
            (b"a", b".."),
            (b"a", b"../a"),
            (b"a/b", b"../.."),
            (b"a/b", b"../../a"),
            (b"a/b", b"../"),
            (b"a/b", b"..//c"),
            (b"a/b", b"c/.."),
            (b"a/b", b"../c/../d"),
            (b"a/b", b"."),
            (b"a/b", b"./c"),
            (b"a/b", b"c/"),
            (b"a/b", b"/"),
            (b"a/b", b"/etc/passwd"),
            (b"a/b", b"c\nd"),
            (b"a/b", b"c\0"),
            (b"a/b", b"../.framefd-0123456789abcdef.tmp"),
            (b"a/b", &long(MAX_COMPONENT + 1, 1)),
            (b"a/b", &[&b"../"[..], &long(MAX_COMPONENT, 16)].concat()),
        ] {
            let error = check(name, target).expect_err(&quote(target));
            assert_eq!(error.kind(), ErrorKind::Path);
        }
    }

    #[test]
    fn a_name_comes_apart_at_its_slashes() {
        let name = Name::new(b"a/bc/d").unwrap();
        assert_eq!(name.components().collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d"]);
        assert_eq!(name.split(), (Some(Name(b"a/bc")), &b"d"[..]));
        assert_eq!(Name(b"a").split(), (None, &b"a"[..]));
    }
}
