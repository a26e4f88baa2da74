//! Keys in files: reading them with checks, and making a new one.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::io::deadline::Deadline;
use crate::io::fs::private::{self, Opened};
use crate::io::stream::sink::Sink;
use crate::io::stream::source::Source;
use crate::limits;
use crate::wire::auth::{Key, KeyId};
use crate::wire::quote;

/// Exceptions to the default rules: a key file is a regular file of at least 16 bytes, owned by
/// the process's user and accessible to that user only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// The key may be as short as 1 byte.
    pub allow_short: bool,
    /// Its group may read the file, it may belong to root, and there may be symbolic links to
    /// it: see [`private::open`].
    pub group_readable: bool,
}

/// Reads the key in the file at `path`, without one newline at its end. Unless `rules` allow it,
/// these are refused: a file that others may read or write, a file of another user, a symbolic
/// link, anything but a regular file, and a key that is too short or too long.
pub fn load(path: &Path, rules: Rules) -> Result<Key> {
    let opened = private::open(path, rules.group_readable)?;
    let key = opened.into_file().and_then(|file| read(&file, rules));
    key.map_err(|error| error.context(&quote(path.as_os_str().as_bytes())))
}

/// Reads the keys in the files of the directory at `path`, whose names are the ids. If `path` is
/// a file, it is one key with the empty id.
///
/// Names that begin with a dot are ignored. A name that cannot be an id is an error, and so is a
/// directory without keys or one that others may write to.
pub(super) fn load_all(path: &Path, rules: Rules) -> Result<Vec<(KeyId, Key)>> {
    let opened = private::open(path, rules.group_readable)?;
    let loaded = if opened.is_directory() {
        load_directory(&opened, rules)
    } else {
        let key = opened.into_file().and_then(|file| read(&file, rules));
        key.map(|key| vec![(KeyId::default(), key)])
    };
    loaded.map_err(|error| error.context(&quote(path.as_os_str().as_bytes())))
}

fn load_directory(directory: &Opened, rules: Rules) -> Result<Vec<(KeyId, Key)>> {
    let mut keys = Vec::new();
    for name in directory.names()? {
        let id = KeyId::new(&name)?;
        let key =
            read(&directory.file(&name)?, rules).map_err(|error| error.context(&quote(&name)))?;
        keys.push((id, key));
    }
    if keys.is_empty() {
        return Err(Error::new(ErrorKind::Key, "there is no key in it"));
    }
    Ok(keys)
}

fn read(file: &OwnedFd, rules: Rules) -> Result<Key> {
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
    if rules.allow_short { Key::new_short(key) } else { Key::new(key) }
}

/// Makes a new key of 32 random bytes in a new file at `path`, readable and writable by its
/// owner only.
pub fn generate(path: &Path) -> Result<()> {
    let key = loop {
        let key = Key::generate()?;
        // `load` would remove a newline at the end.
        if key.as_bytes().last() != Some(&b'\n') {
            break key;
        }
    };
    let file = private::create(path)?;
    let fd = file.as_fd();
    let stored = Sink::new(fd, Deadline::NEVER).write_all(key.as_bytes());
    // No partial key is left; the first error is the one to report.
    stored.and_then(|()| private::sync(fd)).inspect_err(|_| private::remove(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::io::testing;

    const SHORT: Rules = Rules { allow_short: true, group_readable: false };

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
        load(path, Rules::default()).unwrap_err()
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
            assert_eq!(
                load(&files.write("key", content, 0o600), Rules::default()).unwrap().as_bytes(),
                key
            );
        }
    }

    #[test]
    fn a_key_of_a_bad_length_is_refused() {
        let files = Files::new();
        for (len, good) in [(0, false), (15, false), (16, true), (1024, true), (1025, false)] {
            for newline in ["", "\n"] {
                let content = "k".repeat(len) + newline;
                let key = load(&files.write("key", content.as_bytes(), 0o600), Rules::default());
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
        assert!(load(&files.write("key", b"k", 0o600), SHORT).is_ok());
        assert!(load(&files.write("key", b"\n", 0o600), SHORT).is_err());
    }

    #[test]
    fn a_file_that_others_can_use_is_refused() {
        let files = Files::new();
        for mode in [0o604, 0o640, 0o602, 0o620, 0o610, 0o777] {
            let error = refused(&files.write("key", &[b'k'; 32], mode));
            assert_eq!(error.kind(), ErrorKind::Key);
            assert!(error.detail().contains("chmod"), "{error}");
        }
        assert!(load(&files.write("key", &[b'k'; 32], 0o400), Rules::default()).is_ok());
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
    fn a_group_may_read_where_the_caller_says_so() {
        let rules = Rules { allow_short: false, group_readable: true };
        let files = Files::new();
        for (mode, good) in
            [(0o440, true), (0o640, true), (0o400, true), (0o460, false), (0o444, false)]
        {
            let key = files.write("key", &[b'k'; 32], mode);
            assert_eq!(load(&key, rules).is_ok(), good, "{mode:o}");
        }
        let key = files.write("key", &[b'k'; 32], 0o440);
        let link = files.0.path().join("link");
        symlink(&key, &link).unwrap();
        assert_eq!(load(&link, rules).unwrap().as_bytes(), [b'k'; 32]);
        assert_eq!(refused(&link).kind(), ErrorKind::Key);
    }

    #[test]
    fn what_systemd_hands_over_needs_no_flag() {
        testing::alone(
            "ops::auth::key_file::tests::what_systemd_hands_over_needs_no_flag",
            &[],
            || {
                let files = Files::new();
                let key = files.write("key", &[b'k'; 32], 0o440);
                assert_eq!(refused(&key).kind(), ErrorKind::Key);
                let sub = files.0.path().join("sub");
                std::fs::create_dir(&sub).unwrap();
                for (dir, good) in [(files.0.path(), true), (&sub, false), (Path::new(""), false)] {
                    // SAFETY: this process runs only this test, on its only thread.
                    #[allow(unsafe_code)]
                    unsafe {
                        std::env::set_var("CREDENTIALS_DIRECTORY", dir);
                    }
                    assert_eq!(load(&key, Rules::default()).is_ok(), good, "{}", dir.display());
                    assert!(load(&sub.join("../key"), Rules::default()).is_err(), "it climbs");
                }
            },
        );
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
            assert!(load(&mine, Rules::default()).is_ok());
            assert_eq!(refused(&theirs).kind(), ErrorKind::Denied);
        });
        assert!(load(&mine, Rules::default()).is_ok(), "root may");
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
        assert_eq!(load(&one, Rules::default()).unwrap().as_bytes(), std::fs::read(&one).unwrap());
        assert_eq!(generate(&one).unwrap_err().kind(), ErrorKind::Exists);
    }
}
