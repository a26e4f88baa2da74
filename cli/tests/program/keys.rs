//! Keys in files.

use std::os::unix::fs::PermissionsExt as _;

use crate::host::{Host, Kind, done, refused_with};

#[test]
fn a_key_is_made_and_shown_without_being_told() {
    let host = Host::new(Kind::Plain);
    let told = done(&mut host.framefd(&["key", "new", "web-1"]));
    assert!(told.0 == 0 && told.1.starts_with("id web-1\nfingerprint "), "{told:?}");
    assert_eq!(done(&mut host.framefd(&["key", "show", "web-1"])), told);
    let file = host.home().join("web-1");
    let (key, mode) =
        (std::fs::read(&file).unwrap(), file.metadata().unwrap().permissions().mode());
    assert_eq!((key.len(), mode & 0o7777), (32, 0o600));
    // Another key has another fingerprint.
    let other = done(&mut host.framefd(&["key", "show", "key"])).1;
    let fingerprint = |text: &str| text.lines().nth(1).unwrap().to_owned();
    assert_ne!(fingerprint(&other), fingerprint(&told.1));
    assert_eq!(fingerprint(&other).len(), "fingerprint ".len() + 32);
    refused_with(&mut host.framefd(&["key", "new", "web-1"]), 1, "it stays as it is");
    assert_eq!(std::fs::read(&file).unwrap(), key);
    refused_with(&mut host.framefd(&["key", "new", "none/a"]), 1, "make its directory first");
    refused_with(&mut host.framefd(&["key", "show", "none"]), 1, "framefd key new");
    std::fs::write(host.home().join("word"), "sixteen bytes ok").unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(host.home().join("word"), mode).unwrap();
    refused_with(&mut host.framefd(&["key", "show", "word"]), 1, "can be guessed");
}
