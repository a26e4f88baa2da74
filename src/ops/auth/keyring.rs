//! Keys by id, which any thread may use and replace.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use super::key_file::{self, Rules};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::ops::frame::{Handle, WeakHandle};
use crate::wire::auth::{ANSWER_SIZE, Challenge, Key, KeyId};
use crate::wire::pairs::sorted;

/// Keys by id. No two ids have the same key, so a proved key identifies one client. Keys are
/// wiped when they are replaced and when the ring is dropped.
#[derive(Default)]
pub struct Keyring {
    /// Sorted by id.
    keys: RwLock<Vec<(KeyId, Key)>>,
    /// A random key, which nobody has: an unknown id takes the same steps as a wrong key.
    decoy: OnceLock<Key>,
    /// Sealed connections, which end when their key is removed.
    sessions: Mutex<Vec<(KeyId, WeakHandle)>>,
    /// How often the keys were replaced.
    generation: AtomicU64,
}

impl Keyring {
    /// An empty ring.
    pub fn new() -> Keyring {
        Keyring::default()
    }

    /// Adds a key. [`ErrorKind::Exists`] if the id has one, [`ErrorKind::Key`] if another id
    /// has this key.
    pub fn add(&self, id: KeyId, key: Key) -> Result<()> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let Err(place) = keys.binary_search_by(|(there, _)| there.cmp(&id)) else {
            return Err(Error::new(ErrorKind::Exists, format!("the key id \"{id}\" is taken")));
        };
        if let Some((other, _)) = keys.iter().find(|(_, there)| there.is_same_as(&key)) {
            return Err(one_key(other, &id));
        }
        keys.insert(place, (id, key));
        Ok(())
    }

    /// Replaces all keys, and aborts the sealed connections whose key is gone. If `path` is a
    /// directory, each of its files is a key and the file's name is the id; if it is a file, it
    /// is one key with the empty id. After an error the ring is unchanged.
    ///
    /// Names that begin with a dot are ignored. Any other file that cannot be used is an error
    /// that names it, and a directory without keys is an error.
    pub fn load(&self, path: &Path, rules: Rules) -> Result<()> {
        let loaded = key_file::load_all(path, rules)?;
        let blocks: Vec<_> = loaded.iter().map(|(id, key)| (key.block(), id)).collect();
        let blocks = sorted(blocks.iter().map(|(block, id)| (block.as_slice(), *id)).collect());
        if let Some(pair) = blocks.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let path = crate::wire::quote(path.as_os_str().as_encoded_bytes());
            return Err(one_key(pair[0].1, pair[1].1).context(&path));
        }
        drop(blocks);
        let mut sorted = Vec::with_capacity(loaded.len());
        for (id, key) in loaded {
            let place = sorted.partition_point(|(there, _)| *there < id);
            sorted.insert(place, (id, key));
        }
        self.replace(sorted);
        Ok(())
    }

    /// Replaces all keys by those of `other`, which a program has loaded and looked at, and aborts
    /// the sealed connections whose key is gone. Connections of `other` are not among them.
    pub fn take_over(&self, other: Keyring) {
        self.replace(other.keys.into_inner().unwrap_or_else(PoisonError::into_inner));
    }

    fn replace(&self, sorted: Vec<(KeyId, Key)>) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = std::mem::replace(&mut *keys, sorted);
        self.generation.fetch_add(1, Ordering::Release);
        self.end_sessions(&replaced, &keys);
        drop(keys); // nobody waits for the wiping
        drop(replaced);
    }

    /// Aborts the connections whose key was in `before` and is not in `now`.
    fn end_sessions(&self, before: &[(KeyId, Key)], now: &[(KeyId, Key)]) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|(id, session)| {
            let stays = match (find(before, id), find(now, id)) {
                (Some(before), Some(now)) => before.is_same_as(now),
                _ => false,
            };
            if !stays {
                session.revoke(&removed(id));
            }
            stays && !session.is_gone()
        });
    }

    /// A connection that was sealed with the key of `id` ends once that key is removed; fails if
    /// it has been since.
    pub(super) fn join(&self, id: &KeyId, key: &Key, session: &Handle) -> Result<()> {
        let keys = self.read();
        check(&keys, id, key)?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() == sessions.capacity() {
            sessions.retain(|(_, session)| !session.is_gone());
            // So many more can join before all of them are looked at again.
            let there = sessions.len();
            sessions.reserve(there + 1);
        }
        sessions.push((id.clone(), session.downgrade()));
        Ok(())
    }

    /// Another number once the keys were replaced.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Fails if this is no longer the key of `id`.
    pub(super) fn check(&self, id: &KeyId, key: &Key) -> Result<()> {
        check(&self.read(), id, key)
    }

    /// A random key, which nobody has. It is drawn once, so that an unknown id takes the same
    /// steps as a wrong key; fails without random numbers, and if a key of the ring is too short
    /// to seal with.
    pub(super) fn decoy(&self) -> Result<Key> {
        for (id, key) in self.read().iter() {
            let len = key.as_bytes().len();
            if len < limits::SEAL_KEY {
                let least = limits::SEAL_KEY;
                let detail = format!("the key \"{id}\" has {len} bytes, sealing needs {least}");
                return Err(Error::new(ErrorKind::Key, detail));
            }
        }
        if let Some(decoy) = self.decoy.get() {
            return Ok(decoy.clone());
        }
        let decoy = Key::generate()?;
        Ok(self.decoy.get_or_init(|| decoy).clone())
    }

    /// The key to seal with for this id; `None` also if it is too short for that.
    pub(super) fn sealing_key(&self, id: &KeyId) -> Option<Key> {
        self.get(id).filter(|key| key.as_bytes().len() >= limits::SEAL_KEY)
    }

    /// The key with this id.
    pub fn get(&self, id: &KeyId) -> Option<Key> {
        find(&self.read(), id).cloned()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// The ids, in the order of their bytes.
    pub fn ids(&self) -> Vec<KeyId> {
        self.read().iter().map(|(id, _)| id.clone()).collect()
    }

    /// The id of the key that the answer was made with. Every key is tried, even after a match.
    pub fn verify(&self, challenge: Challenge, answer: &[u8; ANSWER_SIZE]) -> Result<KeyId> {
        challenge.verify_named(self.read().iter().map(|(id, key)| (id, key)), answer).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<(KeyId, Key)>> {
        // A panic cannot leave the list half changed.
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.ids()).finish()
    }
}

/// The key of `id` in keys that are sorted by id.
fn find<'keys>(keys: &'keys [(KeyId, Key)], id: &KeyId) -> Option<&'keys Key> {
    let place = keys.binary_search_by(|(there, _)| there.cmp(id)).ok()?;
    Some(&keys[place].1)
}

/// Fails if `key` is not the one of `id`.
fn check(keys: &[(KeyId, Key)], id: &KeyId, key: &Key) -> Result<()> {
    let is_there = find(keys, id).is_some_and(|there| there.is_same_as(key));
    if is_there { Ok(()) } else { Err(removed(id)) }
}

fn removed(id: &KeyId) -> Error {
    Error::new(ErrorKind::Auth, format!("the key with the id \"{id}\" was removed"))
}

fn one_key(one: &KeyId, other: &KeyId) -> Error {
    let detail = format!("the ids \"{one}\" and \"{other}\" have the same key");
    Error::new(ErrorKind::Key, detail)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::io::testing;
    use crate::ops::frame::{Connection, ConnectionOptions};
    use crate::wire::auth::answer;

    const GROUP: Rules = Rules { allow_short: false, group_readable: true };

    fn id(text: &str) -> KeyId {
        if text.is_empty() { KeyId::default() } else { KeyId::new(text.as_bytes()).unwrap() }
    }

    fn key(byte: u8) -> Key {
        Key::new(&[byte; 32]).unwrap()
    }

    fn ids(ring: &Keyring) -> Vec<String> {
        ring.ids().iter().map(KeyId::to_string).collect()
    }

    fn who(ring: &Keyring, key: &Key) -> Result<KeyId> {
        let challenge = Challenge::new().unwrap();
        let answer = answer(key, challenge.as_bytes());
        ring.verify(challenge, &answer)
    }

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o700);
        dir
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn write(dir: &Path, name: &str, bytes: &[u8]) {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o600);
    }

    #[test]
    fn the_keys_of_another_ring_replace_all() {
        let (ring, other) = (Keyring::new(), Keyring::new());
        ring.add(id("a"), key(1)).unwrap();
        ring.add(id("b"), key(2)).unwrap();
        other.add(id("c"), key(3)).unwrap();
        other.add(id("b"), key(4)).unwrap();
        ring.take_over(other);
        assert_eq!(ids(&ring), ["b", "c"]);
        assert_eq!(who(&ring, &key(4)).unwrap(), id("b"));
        assert!(who(&ring, &key(1)).is_err() && who(&ring, &key(2)).is_err());
    }

    #[test]
    fn the_id_of_the_key_that_matched_is_returned() {
        let ring = Keyring::new();
        assert_eq!(who(&ring, &key(1)).unwrap_err().kind(), ErrorKind::Auth);
        for (text, byte) in [("web-1", 1), ("", 2), ("a", 3)] {
            ring.add(id(text), key(byte)).unwrap();
        }
        for (text, byte) in [("web-1", 1), ("", 2), ("a", 3)] {
            assert_eq!(who(&ring, &key(byte)).unwrap(), id(text));
            assert_eq!(ring.get(&id(text)).unwrap().as_bytes(), [byte; 32]);
        }
        assert_eq!(who(&ring, &key(4)).unwrap_err().kind(), ErrorKind::Auth);
        assert!(ring.get(&id("b")).is_none());
        assert_eq!(format!("{ring:?}"), r#"Keyring([KeyId(""), KeyId("a"), KeyId("web-1")])"#);
    }

    #[test]
    fn an_id_has_one_key_and_a_key_one_id() {
        let ring = Keyring::new();
        ring.add(id("a"), key(1)).unwrap();
        assert_eq!(ring.add(id("a"), key(2)).unwrap_err().kind(), ErrorKind::Exists);
        let padded = Key::new(&[&[1; 32][..], &[0; 8]].concat()).unwrap();
        for same in [key(1), padded] {
            let error = ring.add(id("b"), same).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Key);
            assert_eq!(error.detail(), r#"the ids "a" and "b" have the same key"#);
        }
        assert_eq!(ids(&ring), ["a"]);
        assert_eq!(who(&ring, &key(1)).unwrap(), id("a"));
    }

    #[test]
    fn a_directory_replaces_all_keys() {
        let dir = directory();
        write(dir.path(), "web-1", &[1; 32]);
        write(dir.path(), "web-2", b"a key of a text editor, and 32 long\n");
        write(dir.path(), ".hidden", b"short");
        std::fs::create_dir(dir.path().join("..data")).unwrap();
        let ring = Keyring::new();
        ring.add(id("old"), key(9)).unwrap();
        ring.load(dir.path(), Rules::default()).unwrap();
        assert_eq!(ids(&ring), ["web-1", "web-2"]);
        assert_eq!(who(&ring, &key(1)).unwrap(), id("web-1"));
        assert_eq!(who(&ring, &key(9)).unwrap_err().kind(), ErrorKind::Auth, "it is gone");

        std::fs::remove_file(dir.path().join("web-1")).unwrap();
        write(dir.path(), "web-3", &[3; 32]);
        ring.load(dir.path(), Rules::default()).unwrap();
        assert_eq!(ids(&ring), ["web-2", "web-3"]);
    }

    #[test]
    fn a_file_is_the_one_key_without_an_id() {
        let dir = directory();
        write(dir.path(), "any name", &[1; 32]);
        let ring = Keyring::new();
        ring.add(id("old"), key(9)).unwrap();
        ring.load(&dir.path().join("any name"), Rules::default()).unwrap();
        assert_eq!((ids(&ring), who(&ring, &key(1)).unwrap()), (vec![String::new()], id("")));
        write(dir.path(), "short", b"short");
        let short = dir.path().join("short");
        assert_eq!(ring.load(&short, Rules::default()).unwrap_err().kind(), ErrorKind::Key);
        ring.load(&short, Rules { allow_short: true, group_readable: false }).unwrap();
        assert_eq!(ring.get(&id("")).unwrap().as_bytes(), b"short");
    }

    #[test]
    fn whatever_is_wrong_is_named_and_leaves_the_ring_as_it_was() {
        type Break = fn(&Path);
        let cases: [(&str, Break); 10] = [
            ("\"web 1\" cannot be the id", |dir| write(dir, "web 1", &[2; 32])),
            ("\"web-1~\" cannot be the id", |dir| write(dir, "web-1~", &[2; 32])),
            ("longer than 64", |dir| write(dir, &"x".repeat(65), &[2; 32])),
            ("\"a\" and \"z\" have the same key", |dir| write(dir, "z", &[1; 32])),
            ("\"short\": 15 bytes are too few", |dir| write(dir, "short", &[2; 15])),
            ("\"sub\": it is not a regular file", |dir| {
                std::fs::create_dir(dir.join("sub")).unwrap();
            }),
            ("\"link\"", |dir| symlink(dir.join("a"), dir.join("link")).unwrap()),
            ("\"fifo\": it is not a regular file", |dir| {
                let mode = rustix::fs::Mode::RUSR;
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, dir.join("fifo"), kind, mode, 0).unwrap();
            }),
            ("\"open\": others may use it", |dir| {
                write(dir, "open", &[2; 32]);
                set_mode(&dir.join("open"), 0o640);
            }),
            ("others may add files", |dir| set_mode(dir, 0o770)),
        ];
        let ring = Keyring::new();
        ring.add(id("old"), key(9)).unwrap();
        for (why, breaks) in cases {
            let dir = directory();
            write(dir.path(), "a", &[1; 32]);
            breaks(dir.path());
            let error = ring.load(dir.path(), Rules::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Key, "{error}");
            assert!(error.detail().contains(why), "{why}: {error}");
            assert!(error.detail().contains(dir.path().to_str().unwrap()), "{error}");
            assert_eq!(ids(&ring), ["old"]);
        }
        let dir = directory();
        let error = ring.load(dir.path(), Rules::default()).unwrap_err();
        assert!(error.detail().ends_with("there is no key in it"), "{error}");
        let error = ring.load(&dir.path().join("none"), Rules::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(who(&ring, &key(9)).unwrap(), id("old"));
    }

    #[test]
    fn a_kubernetes_secret_is_taken_by_the_flag() {
        let dir = directory();
        let data = dir.path().join("..2026");
        std::fs::create_dir(&data).unwrap();
        write(&data, "web-1", &[1; 32]);
        set_mode(&data.join("web-1"), 0o440);
        symlink("..2026", dir.path().join("..data")).unwrap();
        symlink("..data/web-1", dir.path().join("web-1")).unwrap();
        set_mode(dir.path(), 0o1777);
        let ring = Keyring::new();
        assert_eq!(ring.load(dir.path(), Rules::default()).unwrap_err().kind(), ErrorKind::Key);
        ring.load(dir.path(), GROUP).unwrap();
        assert_eq!(ids(&ring), ["web-1"]);
        set_mode(dir.path(), 0o777);
        let error = ring.load(dir.path(), GROUP).unwrap_err();
        assert!(error.detail().contains("others may add files"), "{error}");
        set_mode(dir.path(), 0o700);
        set_mode(&data.join("web-1"), 0o444);
        let error = ring.load(dir.path(), GROUP).unwrap_err();
        assert!(error.detail().contains("others may use it"), "{error}");
    }

    #[test]
    fn a_key_that_somebody_else_put_there_is_refused_even_for_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = directory();
        write(dir.path(), "mine", &[1; 32]);
        write(dir.path(), "theirs", &[2; 32]);
        std::os::unix::fs::chown(dir.path().join("theirs"), Some(65534), None).unwrap();
        let ring = Keyring::new();
        let error = ring.load(dir.path(), GROUP).unwrap_err();
        assert!(error.detail().contains("\"theirs\": it belongs to user 65534"), "{error}");
        // The keys of a service, which root loads for it.
        std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
        ring.load(dir.path(), Rules::default()).unwrap();
        assert_eq!(ids(&ring), ["mine", "theirs"]);
        // And root's, which the service's group may read.
        std::os::unix::fs::chown(dir.path(), Some(0), None).unwrap();
        std::fs::remove_file(dir.path().join("theirs")).unwrap();
        set_mode(dir.path(), 0o755);
        std::os::unix::fs::chown(dir.path().join("mine"), None, Some(65534)).unwrap();
        set_mode(&dir.path().join("mine"), 0o440);
        testing::unprivileged(|| {
            ring.load(dir.path(), GROUP).unwrap();
            assert_eq!(ring.load(dir.path(), Rules::default()).unwrap_err().kind(), ErrorKind::Key);
        });
    }

    /// Otherwise each connection costs as much as there are others.
    #[test]
    fn not_every_connection_looks_at_all_others() {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let connect = || Connection::new(socket.as_fd(), ConnectionOptions::default()).unwrap();
        let (ring, living, gone) = (Keyring::new(), connect(), connect());
        ring.add(id("a"), key(1)).unwrap();
        let join = |one: &Connection<'_>| {
            ring.join(&id("a"), &key(1), &one.handle()).unwrap();
            let sessions = ring.sessions.lock().unwrap();
            (sessions.len(), sessions.capacity())
        };
        while join(&living).0 < 100 {}
        let (mut len, room) = join(&gone);
        while len < room {
            len = join(&living).0;
        }
        drop(gone);
        let (now, room) = join(&living);
        assert!(now == len && room >= 2 * len, "{now} {len} {room}");
        drop(living);
    }

    #[test]
    fn ten_thousand_keys_load() {
        // In memory: a disk takes ten seconds to make and remove the files.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| directory());
        for number in 0..10_000_u32 {
            let mut bytes = [1; 32];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            write(dir.path(), &format!("client-{number}"), &bytes);
        }
        let ring = Keyring::new();
        ring.load(dir.path(), Rules::default()).unwrap();
        assert_eq!(ring.ids().len(), 10_000);
        assert_eq!(who(&ring, &key(1)).unwrap_err().kind(), ErrorKind::Auth);
        let last = ring.get(&id("client-9999")).unwrap();
        assert_eq!(who(&ring, &last).unwrap(), id("client-9999"));
    }

    #[test]
    fn threads_verify_while_another_replaces() {
        let (one, other) = (directory(), directory());
        write(one.path(), "a", &[1; 32]);
        write(one.path(), "stays", &[3; 32]);
        write(other.path(), "b", &[1; 32]);
        write(other.path(), "stays", &[3; 32]);
        let ring = Keyring::new();
        ring.load(one.path(), Rules::default()).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let found = who(&ring, &key(1)).unwrap();
                        assert!(["a", "b"].contains(&found.as_str()));
                        assert_eq!(who(&ring, &key(3)).unwrap(), id("stays"));
                    }
                });
            }
            for dir in [&other, &one].iter().cycle().take(200) {
                ring.load(dir.path(), Rules::default()).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
