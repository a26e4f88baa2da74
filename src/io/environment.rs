//! The environment a command gets: a clean base, or the host's, and additions on top.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::error::{Error, ErrorKind, Result};

/// Where a command finds its programs, unless an addition says otherwise.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the additions are added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// `PATH` is [`DEFAULT_PATH`] and `SHELL` is `/bin/sh`. From the host come only
    /// `HOME`, `USER`, `LOGNAME`, `TMPDIR`, `TZ` and the locale, `LANG` and `LC_*`, so
    /// that output is in the host's encoding; what the host has not set stays unset.
    /// Nothing that loads or runs code (`LD_*`, `ENV`, `BASH_ENV`) or that holds the
    /// host's secrets gets through.
    #[default]
    Clean,
    /// Everything the host has, `LD_*` included.
    Host,
}

/// The variables of a new process.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// What it starts from.
    pub base: Base,
    /// Names and values on top; each replaces a variable of the same name, and a later
    /// one an earlier one. They are not judged: whoever takes them from a stranger does.
    pub additions: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The variables themselves, read from the host and checked.
pub(super) struct Variables(BTreeMap<OsString, OsString>);

impl Environment {
    /// Reads the host's variables. A name that is empty or has a `=`, and a NUL byte
    /// anywhere, are refused as [`ErrorKind::Argument`].
    pub(super) fn variables(&self) -> Result<Variables> {
        let mut variables: BTreeMap<OsString, OsString> = match self.base {
            Base::Host => std::env::vars_os().collect(),
            Base::Clean => std::env::vars_os().filter(|(name, _)| is_clean(name)).collect(),
        };
        if self.base == Base::Clean {
            variables.insert("PATH".into(), DEFAULT_PATH.into());
            variables.insert("SHELL".into(), "/bin/sh".into());
        }
        for (name, value) in &self.additions {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
                return Err(Error::new(
                    ErrorKind::Argument,
                    "a variable's name is empty or has a '=', or a NUL byte is in it",
                ));
            }
            variables.insert(OsStr::from_bytes(name).into(), OsStr::from_bytes(value).into());
        }
        Ok(Variables(variables))
    }
}

impl Variables {
    /// Where programs are looked for.
    pub(super) fn path(&self) -> &OsStr {
        self.0.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), |path| path)
    }

    /// As execve(2) wants them: `name=value`.
    pub(super) fn into_strings(self) -> Result<Vec<CString>> {
        self.0
            .into_iter()
            .map(|(name, value)| {
                let mut pair = name.into_vec();
                pair.push(b'=');
                pair.extend_from_slice(value.as_bytes());
                CString::new(pair)
                    .map_err(|_| Error::new(ErrorKind::Argument, "a variable has a NUL byte"))
            })
            .collect()
    }
}

fn is_clean(name: &OsStr) -> bool {
    let name = name.as_bytes();
    matches!(name, b"HOME" | b"USER" | b"LOGNAME" | b"TMPDIR" | b"TZ" | b"LANG")
        || name.starts_with(b"LC_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(environment: &Environment) -> Vec<String> {
        let strings = environment.variables().unwrap().into_strings().unwrap();
        strings.into_iter().map(|pair| pair.into_string().unwrap()).collect()
    }

    #[test]
    fn the_clean_base_has_these_names_and_no_other() {
        for pair in strings(&Environment::default()) {
            let name = pair.split_once('=').unwrap().0;
            let fixed = matches!(name, "PATH" | "SHELL");
            assert!(fixed || is_clean(OsStr::new(name)), "{pair}");
        }
        for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "IFS", "PATH", "XLC_ALL"] {
            assert!(!is_clean(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_host_base_is_the_hosts() {
        let environment = Environment { base: Base::Host, additions: Vec::new() };
        assert_eq!(environment.variables().unwrap().0, std::env::vars_os().collect());
    }

    #[test]
    fn an_addition_replaces_what_is_there() {
        let additions = [("PATH", "/a"), ("X", "1"), ("X", "2=3"), ("EMPTY", "")]
            .map(|(name, value)| (name.into(), value.into()));
        let environment = Environment { base: Base::Clean, additions: additions.into() };
        assert_eq!(environment.variables().unwrap().path(), "/a");
        let strings = strings(&environment);
        for pair in ["PATH=/a", "X=2=3", "EMPTY="] {
            assert_eq!(strings.iter().filter(|there| *there == pair).count(), 1, "{strings:?}");
        }
        assert!(!strings.contains(&"X=1".to_owned()));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for (name, value) in [("", "1"), ("A=B", "1"), ("A\0", "1"), ("A", "\0")] {
            let additions = vec![(name.into(), value.into())];
            let error = Environment { base: Base::Clean, additions }.variables().err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Argument, "{name:?}");
        }
    }
}
