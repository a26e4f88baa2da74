//! What a reply says: how a command ended, and the encoding of its output.

use crate::io::process::child::Status;
use crate::ops::exec::engine;
use crate::wire::message::Id;
use crate::wire::message::exec::ExecReply;

/// What the reply says of a run.
pub(super) fn report(id: Option<Id>, output: &engine::Output) -> ExecReply {
    let outcome = &output.outcome;
    let (exit_code, signal) = match outcome.status {
        Status::Exited(code) => (Some(code), None),
        Status::Signaled(signal) => (Some(128 + signal), Some(signal)),
        Status::Lost => (None, None),
    };
    ExecReply {
        id,
        stdout_size: Some(output.stdout.len() as u64),
        stderr_size: Some(output.stderr.len() as u64),
        exit_code,
        signal,
        timed_out: outcome.timed_out,
        truncated: output.truncated,
        pipe_held: outcome.pipe_held,
        stdout_total: Some(outcome.stdout_total),
        stderr_total: Some(outcome.stderr_total),
        charset: charset(),
    }
}

/// The encoding that the locale variables name, as locale(7) reads them: the command gets
/// the same ones.
fn charset() -> Option<String> {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty());
    codeset_of(&locale.unwrap_or_default()).map(str::to_owned)
}

/// Of `language_TERRITORY.codeset@modifier`. Where it names none, only the C library knows.
fn codeset_of(locale: &str) -> Option<&str> {
    let (locale, _) = locale.split_once('@').unwrap_or((locale, ""));
    match locale.split_once('.') {
        Some((_, codeset)) => Some(codeset),
        None => matches!(locale, "" | "C" | "POSIX").then_some("US-ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_tells_its_codeset_or_it_is_not_known() {
        for (locale, codeset) in [
            ("", Some("US-ASCII")),
            ("C", Some("US-ASCII")),
            ("POSIX", Some("US-ASCII")),
            ("C.UTF-8", Some("UTF-8")),
            ("de_DE.ISO-8859-15@euro", Some("ISO-8859-15")),
            ("de_DE", None),
            ("de_DE@euro", None),
        ] {
            assert_eq!(codeset_of(locale), codeset, "{locale}");
        }
    }
}
