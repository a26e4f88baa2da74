//! The audit: a line for each request when it is over. It has no key, no input and no output.

use framefd::frame::HeaderBuilder;
use framefd::serve::{Served, What};

use crate::log::Log;
use crate::output::one_line;

/// Writes the line of a request.
pub fn record(log: &Log, served: &Served<'_>) {
    let mut line = HeaderBuilder::new();
    if describe(&mut line, served, log.longest()).is_ok() {
        log.record(&line);
    }
}

fn describe(
    line: &mut HeaderBuilder,
    served: &Served<'_>,
    longest: usize,
) -> Result<(), framefd::Error> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    if let Some(key) = served.client.key() {
        line.string("key", key.as_str())?;
    }
    if let Some(address) = served.client.address() {
        line.string("address", &address)?;
    }
    if let Some(credentials) = served.client.credentials() {
        line.integer("pid", credentials.pid.into())?;
        line.integer("uid", credentials.uid.into())?;
    }
    line.string("cmd", &cut(served.cmd.as_bytes(), longest))?;
    match served.what {
        What::Nothing => {}
        What::Shell(code) => line.string("what", &cut(code, longest))?,
        What::File(name) => line.string("what", &cut(name, longest))?,
        What::Program(argv) => line.string("what", &cut(quoted(argv).as_bytes(), longest))?,
    }
    if let Some(reply) = served.command {
        if let Some(code) = reply.exit_code {
            line.integer("exit_code", code.into())?;
        }
        if let Some(signal) = reply.signal {
            line.integer("signal", signal.into())?;
        }
        if reply.timed_out {
            line.boolean("timed_out", true)?;
        }
    }
    if let Some(kind) = served.error {
        line.string("error", &words(&format!("{kind:?}")))?;
    }
    line.integer("bytes_in", number(served.bytes_in))?;
    line.integer("bytes_out", number(served.bytes_out))?;
    line.integer("ms", i64::try_from(served.time.as_millis()).unwrap_or(i64::MAX))
}

fn cut(bytes: &[u8], longest: usize) -> String {
    one_line(&bytes[..bytes.len().min(longest)])
}

/// A program and its arguments, as a shell would read them.
pub fn quoted(argv: &[String]) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "%+,-./:=@_".contains(letter);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(is_plain) {
            return word.clone();
        }
        format!("'{}'", word.replace('\'', "'\\''"))
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// `NotFound` as `not_found`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_can_be_told_from_another_one() {
        let shown = |words: &[&str]| {
            quoted(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(shown(&["ls", "-l", "/a"]), "ls -l /a");
        assert_eq!(shown(&["ls", "a b", "", "it's"]), "ls 'a b' '' 'it'\\''s'");
    }

    #[test]
    fn an_error_is_words() {
        assert_eq!(words("RemoteNotFound"), "remote_not_found");
        assert_eq!(words("Io"), "io");
    }
}
