//! The permission bits of a stored file, and its owner if it replaces another one.

use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Mode, Stat, Uid, fchown};
use rustix::io::{Errno, Result};

/// Gives `file` the owner and the group of the file that it will replace, as far as the process
/// may, and returns that one's permission bits. Members of another group get no more than
/// everybody.
pub(super) fn take_after(file: BorrowedFd<'_>, replaced: &Stat) -> Mode {
    let bits = replaced.st_mode & 0o777;
    let owner = Uid::from_raw(replaced.st_uid);
    let owner = rustix::process::geteuid().is_root().then_some(owner);
    match fchown(file, owner, Some(Gid::from_raw(replaced.st_gid))) {
        Ok(()) => Mode::from_raw_mode(bits),
        Err(_) => Mode::from_raw_mode(bits & (0o707 | (bits & 0o007) << 3)),
    }
}

/// Sets the permission bits. A file system without modes, as FAT, is good enough.
pub(super) fn set(file: BorrowedFd<'_>, mode: Mode) -> Result<()> {
    match rustix::fs::fchmod(file, mode) {
        Err(Errno::PERM | Errno::NOTSUP) => Ok(()),
        set => set,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

    use rustix::process::geteuid;

    use crate::io::fs::store::{NewFile, StoreOptions};
    use crate::io::testing::{Tree, failing, unprivileged};
    use crate::wire::name::Name;

    use super::*;

    const OPTIONS: StoreOptions = StoreOptions { sync: false, ..StoreOptions::DEFAULT };

    fn set_mode(tree: &Tree, name: &str, mode: u32) {
        fs::set_permissions(tree.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode_of(tree: &Tree, name: &str) -> u32 {
        fs::metadata(tree.path(name)).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_replaced_file_keeps_its_permission_bits() {
        let tree = Tree::new();
        for (mode, expected) in [(0o600, 0o600), (0o755, 0o755), (0o4751, 0o751), (0o444, 0o444)] {
            for new_mode in [None, Some(0o777), Some(0o600)] {
                let options = StoreOptions { new_mode, ..OPTIONS };
                set_mode(&tree, "old", mode);
                tree.store("old", b"new", options).unwrap();
                assert_eq!(mode_of(&tree, "old"), expected);
                let name = Name::new(b"old").unwrap();
                for offset in [0, 2] {
                    NewFile::resume(tree.root(), name, options, offset, &mut |_| Ok(()))
                        .unwrap()
                        .commit()
                        .unwrap();
                    assert_eq!(mode_of(&tree, "old"), expected, "{offset}");
                    fs::write(tree.path("old"), "new").unwrap();
                }
            }
        }
        let named = StoreOptions { mode: Some(0o640), new_mode: Some(0o777), ..OPTIONS };
        tree.store("old", b"new", named).unwrap();
        assert_eq!(mode_of(&tree, "old"), 0o640);
        tree.store("new", b"new", StoreOptions { new_mode: Some(0o700), ..OPTIONS }).unwrap();
        assert_eq!(mode_of(&tree, "new"), 0o700);
    }

    #[test]
    fn a_replaced_file_keeps_its_owner_and_no_other_group_gets_its_rights() {
        if !geteuid().is_root() {
            return;
        }
        let tree = Tree::new();
        let own = |mode| {
            chown(tree.path("old"), Some(12), Some(34)).unwrap();
            set_mode(&tree, "old", mode);
        };
        let found = || {
            let there = fs::metadata(tree.path("old")).unwrap();
            (there.uid(), there.gid(), there.mode() & 0o7777)
        };
        own(0o640);
        tree.store("old", b"new", OPTIONS).unwrap();
        assert_eq!(found(), (12, 34, 0o640));
        tree.store("old", b"new", StoreOptions { mode: Some(0o604), ..OPTIONS }).unwrap();
        assert_eq!(found(), (12, 34, 0o604));
        set_mode(&tree, "", 0o777);
        for (mode, expected) in [(0o674, 0o644), (0o640, 0o600), (0o661, 0o601), (0o604, 0o604)] {
            own(mode);
            unprivileged(|| tree.store("old", b"new", OPTIONS)).unwrap();
            assert_eq!(found(), (65534, 65534, expected), "{mode:o}");
        }
        // A file system that knows no owners is good enough.
        let no_owners = [(libc::SYS_fchown, Errno::INVAL)];
        failing(&no_owners, || tree.store("old", b"new", OPTIONS)).unwrap();
        assert_eq!(found(), (0, 0, 0o604));
    }
}
