//! The environment a command gets: a clean base, or the host's, and additions on top.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::error::{Error, ErrorKind, Result};
use crate::wire::pairs::keep_last;
use crate::wire::strings;

/// The default `PATH` of a command.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The default `TERM` of a command on a terminal, as `docker run -t` has it.
pub const DEFAULT_TERM: &str = "xterm";

/// The base that variables are added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// `PATH` is [`DEFAULT_PATH`] and `SHELL` is `/bin/sh`. From the host come only `HOME`,
    /// `USER`, `LOGNAME`, `TMPDIR`, `TZ` and the locale, `LANG` and the `LC_*` of locale(7), so
    /// that output is in the host's encoding; other variables stay unset. Nothing that loads or
    /// runs code (`LD_*`, `ENV`, `BASH_ENV`) or that holds the host's secrets gets through. A
    /// command that becomes another user gets no `HOME`, `USER` and `LOGNAME`.
    #[default]
    Clean,
    /// All variables of the host, including `LD_*`, but no `FRAMEFD_*`: those may say where a
    /// host's keys are.
    Host,
}

/// The variables of a new process.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// The base.
    pub base: Base,
    /// Names and values to add. Each replaces an earlier variable of the same name. They are not
    /// filtered: a caller that receives them from a peer must do that.
    pub additions: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The variables themselves, read from the host and checked.
pub(super) struct Variables<'a>(List<'a>);

type List<'a> = Vec<(Cow<'a, [u8]>, Cow<'a, [u8]>)>;

impl Environment {
    /// Reads the host's variables; those of the clean base that describe its user are left out
    /// for `another_user`. A name that is empty or has a `=`, and a NUL byte anywhere, are
    /// refused as [`ErrorKind::Argument`].
    pub(super) fn variables(&self, another_user: bool) -> Result<Variables<'_>> {
        let mut variables = Vec::new();
        match self.base {
            Base::Host => add_all_of_the_host(&mut variables),
            Base::Clean => add_clean(&mut variables, another_user),
        }
        for (name, value) in &self.additions {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
                return Err(Error::new(
                    ErrorKind::Argument,
                    "a variable's name is empty or has a '=', or a NUL byte is in it",
                ));
            }
            variables.push((name.into(), value.into()));
        }
        keep_last(&mut variables);
        Ok(Variables(variables))
    }
}

impl Variables<'_> {
    /// For a command on a terminal, whose programs need the terminal's type: a usual one, unless
    /// it is known.
    pub(super) fn add_terminal(&mut self) {
        if self.get(b"TERM").is_none() {
            self.0.push((b"TERM".into(), DEFAULT_TERM.as_bytes().into()));
        }
    }

    /// Its `PATH`.
    pub(super) fn path(&self) -> &OsStr {
        OsStr::from_bytes(self.get(b"PATH").unwrap_or(DEFAULT_PATH.as_bytes()))
    }

    fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|pair| *pair.0 == *name).map(|pair| &*pair.1)
    }

    /// For execve(2): `name=value`, one behind the other, each with a NUL.
    pub(super) fn joined(&self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for (name, value) in &self.0 {
            strings::add(&mut all, [name, b"=", value])?;
        }
        Ok(all)
    }
}

fn add_all_of_the_host(variables: &mut List<'_>) {
    for (name, value) in std::env::vars_os() {
        if !name.as_bytes().starts_with(b"FRAMEFD_") {
            variables.push((name.into_vec().into(), value.into_vec().into()));
        }
    }
}

/// Reads each by name: copying the whole environment would take a hundredth of the time of a
/// command.
fn add_clean(variables: &mut List<'_>, another_user: bool) {
    let of_user = if another_user { &[][..] } else { &OF_USER };
    for name in of_user.iter().chain(&OF_ANYBODY) {
        if let Some(value) = std::env::var_os(name) {
            variables.push((name.as_bytes().into(), value.into_vec().into()));
        }
    }
    for (name, value) in [("PATH", DEFAULT_PATH), ("SHELL", "/bin/sh")] {
        variables.push((name.as_bytes().into(), value.as_bytes().into()));
    }
}

/// Variables of the host that describe its user.
const OF_USER: [&str; 3] = ["HOME", "USER", "LOGNAME"];
/// Other variables of the host in the clean base.
const OF_ANYBODY: [&str; 16] = [
    "TMPDIR",
    "TZ",
    "LANG",
    "LC_ALL",
    "LC_ADDRESS",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing;

    fn strings(environment: &Environment) -> Vec<String> {
        let strings = environment.variables(false).unwrap().joined().unwrap();
        let strings = String::from_utf8(strings).unwrap();
        strings.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn the_clean_base_has_these_names_and_no_other() {
        let name = "io::process::environment::tests::the_clean_base_has_these_names_and_no_other";
        testing::alone(name, &[], || {
            let dangerous =
                ["LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "IFS", "LC_", "XLC_ALL"];
            let expected: Vec<_> = OF_USER.into_iter().chain(OF_ANYBODY).collect();
            for name in expected.iter().chain(&dangerous).chain(&["PATH", "SHELL"]) {
                // SAFETY: this thread is the only one that uses the environment.
                unsafe { std::env::set_var(name, "host's") };
            }
            let mut expected: Vec<_> =
                expected.iter().map(|name| format!("{name}=host's")).collect();
            expected.extend([format!("PATH={DEFAULT_PATH}"), "SHELL=/bin/sh".into()]);
            expected.sort();
            let mut strings = strings(&Environment::default());
            strings.sort();
            assert_eq!(strings, expected);
        });
    }

    #[test]
    fn the_host_base_is_the_hosts_without_its_keys_places() {
        let name =
            "io::process::environment::tests::the_host_base_is_the_hosts_without_its_keys_places";
        testing::alone(name, &[], || {
            let hosts = || std::env::vars_os().filter(|(name, _)| name != "FRAMEFD_TEST_ALONE");
            // SAFETY: this thread is the only one that uses the environment.
            unsafe {
                std::env::set_var("FRAMEFD", "1");
                std::env::set_var("XFRAMEFD_", "1");
            }
            let expected: List<'_> = hosts()
                .map(|(name, value)| (name.into_vec().into(), value.into_vec().into()))
                .collect();
            // SAFETY: as above.
            unsafe {
                std::env::set_var("FRAMEFD_SECRET", "1");
                std::env::set_var("FRAMEFD_", "1");
            }
            let environment = Environment { base: Base::Host, additions: Vec::new() };
            assert_eq!(environment.variables(false).unwrap().0, expected);
            // Variables that are added explicitly are kept.
            let additions = vec![(b"FRAMEFD_SECRET".to_vec(), b"2".to_vec())];
            let environment = Environment { base: Base::Host, additions };
            let added = strings(&environment);
            assert!(added.contains(&"FRAMEFD_SECRET=2".to_owned()), "{added:?}");
        });
    }

    #[test]
    fn another_user_gets_the_clean_base_without_the_hosts_user() {
        let environment = Environment::default();
        let names = |another_user| -> Vec<_> {
            let variables = environment.variables(another_user).unwrap().0;
            variables.into_iter().map(|(name, _)| name).collect()
        };
        let mut expected = names(false);
        expected.retain(|name| !["HOME", "USER", "LOGNAME"].map(str::as_bytes).contains(&&**name));
        assert_eq!(names(true), expected);
    }

    #[test]
    fn an_addition_replaces_what_is_there() {
        let additions = [("PATH", "/a"), ("X", "1"), ("X", "2=3"), ("EMPTY", "")]
            .map(|(name, value)| (name.into(), value.into()));
        let environment = Environment { base: Base::Clean, additions: additions.into() };
        assert_eq!(environment.variables(false).unwrap().path(), "/a");
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
            let error =
                Environment { base: Base::Clean, additions }.variables(false).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Argument, "{name:?}");
        }
    }
}
