//! Keys in files: what is refused to be one, and a new one.

use std::os::fd::AsFd as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::Result;
use crate::io::deadline::Deadline;
use crate::io::fs::private;
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::limits;
use crate::wire::auth::Key;

/// Reads the key in the file at `path`, less one newline at its end. Refused are a file
/// that others may read or write, one of another user's, a symbolic link, anything that
/// is not a regular file, and a key that is too short (unless `allow_short`) or too long.
pub fn load(path: &Path, allow_short: bool) -> Result<Key> {
    let file = private::open(path)?;
    let limit = limits::MAX_KEY + 1; // one more for the newline
    let mut bytes = Zeroizing::new(vec![0; limit + 1]);
    let mut source = Source::new(file.as_fd(), Deadline::NEVER);
    let mut len = 0;
    loop {
        match source.read(&mut bytes[len..])? {
            0 => break,
            got => len += got,
        }
    }
    let key = bytes[..len].strip_suffix(b"\n").unwrap_or(&bytes[..len]);
    let key = if allow_short { Key::new_short(key) } else { Key::new(key) };
    key.map_err(|error| error.context(&shown(path)))
}

/// Makes a new key of 32 random bytes in a new file at `path`, readable and writable by
/// its owner alone.
pub fn generate(path: &Path) -> Result<()> {
    let key = loop {
        let key = Key::generate()?;
        // `load` would take a newline at the end for the text editor's.
        if key.as_bytes().last() != Some(&b'\n') {
            break key;
        }
    };
    let file = private::create(path)?;
    let fd = file.as_fd();
    let stored = Sink::new(fd, Deadline::NEVER).write_all(key.as_bytes());
    // Half a key is none; the first error is the one to report.
    stored.and_then(|()| private::sync(fd)).inspect_err(|_| private::remove(path))
}

fn shown(path: &Path) -> String {
    crate::wire::quote(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::io::testing;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Files {
            Files(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    fn refused(path: &Path) -> Error {
        load(path, false).unwrap_err()
    }

    #[test]
    fn one_newline_at_the_end_is_not_the_key() {
        let files = Files::new();
        for (content, key) in [
            (&b"sixteen bytes ok"[..], &b"sixteen bytes ok"[..]),
            (b"sixteen bytes ok\n", b"sixteen bytes ok"),
            (b"sixteen bytes ok\n\n", b"sixteen bytes ok\n"),
            (b"sixteen bytes ok\r\n", b"sixteen bytes ok\r"),
        ] {
            assert_eq!(load(&files.write("key", content, 0o600), false).unwrap().as_bytes(), key);
        }
    }

    #[test]
    fn a_key_of_a_bad_length_is_refused() {
        let files = Files::new();
        for (len, good) in [(0, false), (15, false), (16, true), (1024, true), (1025, false)] {
            for newline in ["", "\n"] {
                let content = "k".repeat(len) + newline;
                let key = load(&files.write("key", content.as_bytes(), 0o600), false);
                assert_eq!(key.is_ok(), good, "{len} {newline:?}");
                if let Err(error) = key {
                    assert_eq!(error.kind(), ErrorKind::Key);
                }
            }
        }
        assert_eq!(
            refused(&files.write("key", &vec![b'k'; 100_000], 0o600)).kind(),
            ErrorKind::Key
        );
        assert!(load(&files.write("key", b"k", 0o600), true).is_ok());
        assert!(load(&files.write("key", b"\n", 0o600), true).is_err());
    }

    #[test]
    fn a_file_that_others_can_use_is_refused() {
        let files = Files::new();
        for mode in [0o604, 0o640, 0o602, 0o620, 0o610, 0o777] {
            let error = refused(&files.write("key", &[b'k'; 32], mode));
            assert_eq!(error.kind(), ErrorKind::Key);
            assert!(error.detail().contains("chmod"), "{error}");
        }
        assert!(load(&files.write("key", &[b'k'; 32], 0o400), false).is_ok());
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_without_waiting() {
        let files = Files::new();
        let key = files.write("key", &[b'k'; 32], 0o600);
        let link = files.0.path().join("link");
        symlink(&key, &link).unwrap();
        let fifo = files.0.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [link, fifo, files.0.path().to_owned()] {
            assert_eq!(refused(&path).kind(), ErrorKind::Key, "{}", path.display());
        }
        assert_eq!(refused(&files.0.path().join("none")).kind(), ErrorKind::NotFound);
    }

    #[test]
    fn another_users_file_is_refused() {
        let files = Files::new();
        let mine = files.write("mine", &[b'k'; 32], 0o600);
        let theirs = files.write("theirs", &[b'k'; 32], 0o600);
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(files.0.path(), open).unwrap();
        std::os::unix::fs::chown(&mine, Some(65534), None).unwrap();
        testing::unprivileged(|| {
            assert!(load(&mine, false).is_ok());
            assert_eq!(refused(&theirs).kind(), ErrorKind::Denied);
        });
        assert!(load(&mine, false).is_ok(), "root may");
    }

    #[test]
    fn a_new_key_is_random_private_and_replaces_nothing() {
        let files = Files::new();
        let (one, two) = (files.0.path().join("one"), files.0.path().join("two"));
        generate(&one).unwrap();
        generate(&two).unwrap();
        let mode = std::fs::metadata(&one).unwrap().permissions().mode() & 0o7777;
        assert_eq!((std::fs::read(&one).unwrap().len(), mode), (32, 0o600));
        assert_ne!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        assert_eq!(load(&one, false).unwrap().as_bytes(), std::fs::read(&one).unwrap());
        assert_eq!(generate(&one).unwrap_err().kind(), ErrorKind::Exists);
    }
}
