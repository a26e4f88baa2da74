//! The permission bits of a stored file, and its owner if it replaces another one.

use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Mode, Stat, Uid, XattrFlags, fchown, fremovexattr, fsetxattr};
use rustix::io::{Errno, Result};

use crate::io::fs::at;

/// Gives `file` the group of the file that it will replace, if the process may, and returns that
/// one's permission bits. Members of another group get no more than everybody.
pub(super) fn take_after(file: BorrowedFd<'_>, replaced: &Stat) -> Mode {
    let bits = Mode::from_raw_mode(replaced.st_mode & 0o777);
    match fchown(file, None, Some(Gid::from_raw(replaced.st_gid))) {
        Ok(()) => bits,
        Err(_) => without_group(bits),
    }
}

/// Gives `file` the owner of the file that it will replace, if the process is root and may. This
/// comes last: root that has `CAP_CHOWN` alone can change nothing else afterwards.
pub(super) fn take_owner(file: BorrowedFd<'_>, replaced: &Stat) {
    let (owner, us) = (Uid::from_raw(replaced.st_uid), rustix::process::geteuid());
    if us.is_root() && owner != us {
        let _ = fchown(file, Some(owner), None);
    }
}

/// Gives `file` the access control list of the file that it will replace, and not that of new files
/// of the directory. Returns the permission bits that are left of `bits`: without the list, its
/// mask would be taken for the rights of the group.
pub(super) fn take_acl(
    file: BorrowedFd<'_>,
    (dir, leaf): (BorrowedFd<'_>, &[u8]),
    bits: Mode,
) -> Mode {
    let mut list = [0; MAX_ACL];
    let taken = match at::attribute(dir, leaf, ACL, &mut list) {
        Ok(len) => fsetxattr(file, ACL, &list[..len], XattrFlags::empty()),
        Err(Errno::RANGE) => fremovexattr(file, ACL).and(Err(Errno::RANGE)),
        Err(_) => {
            let _ = fremovexattr(file, ACL); // It has none, or its file system knows none.
            Ok(())
        }
    };
    taken.map_or_else(|_| without_group(bits), |()| bits)
}

fn without_group(bits: Mode) -> Mode {
    let bits = bits.as_raw_mode();
    Mode::from_raw_mode(bits & (0o707 | (bits & 0o007) << 3))
}

/// Sets the permission bits. A file system without modes, as FAT, is good enough.
pub(super) fn set(file: BorrowedFd<'_>, mode: Mode) -> Result<()> {
    match rustix::fs::fchmod(file, mode) {
        Err(Errno::PERM | Errno::NOTSUP) => Ok(()),
        set => set,
    }
}

/// The name of a list, and the most bytes that are copied: 8 for each user or group in it.
const ACL: &str = "system.posix_acl_access";
const MAX_ACL: usize = 2048;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

    use rustix::process::geteuid;
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

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

    /// As a service or a container with few capabilities.
    #[test]
    fn root_keeps_all_that_it_may() {
        if !geteuid().is_root() {
            return;
        }
        let tree = Tree::new();
        chown(tree.path("old"), Some(12), Some(34)).unwrap();
        set_mode(&tree, "old", 0o640);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut ours = capabilities(None).unwrap();
                ours.effective.remove(CapabilitySet::FOWNER);
                set_capabilities(None, ours).unwrap();
                let options = StoreOptions { mtime: Some(1_700_000_000_123), ..OPTIONS };
                tree.store("old", b"new", options).unwrap();
            });
        });
        let there = fs::metadata(tree.path("old")).unwrap();
        assert_eq!((there.uid(), there.gid(), mode_of(&tree, "old")), (12, 34, 0o640));
        assert_eq!(there.mtime(), 1_700_000_000);
    }

    /// As setfacl(1) makes it; the rights of user 12, of the group and of others, at most `mask`.
    fn list(user: u8, group: u8, mask: u8) -> Vec<u8> {
        const NOBODY: u32 = u32::MAX;
        let entries = [
            (1, 6, NOBODY),
            (2, user, 12),
            (4, group, NOBODY),
            (16, mask, NOBODY),
            (32, 0, NOBODY),
        ];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            bytes.extend([tag, 0, rights, 0]);
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_replaced_file_keeps_its_access_control_list_and_gets_no_other() {
        let tree = Tree::new();
        let set_list = |name: &str, kind: &str, list: &[u8]| {
            rustix::fs::setxattr(tree.path(name), kind, list, XattrFlags::empty())
        };
        let found = || {
            let mut list = [0; 100];
            let len = rustix::fs::getxattr(tree.path("old"), ACL, &mut list);
            (mode_of(&tree, "old"), len.map(|len| list[..len].to_vec()).ok())
        };
        let store = |options| tree.store("old", b"new", options).unwrap();
        let (narrow, wide) = (list(6, 0, 6), list(7, 7, 7));
        if set_list("old", ACL, &narrow).is_err() {
            return; // The file system has none.
        }
        store(OPTIONS);
        assert_eq!(found(), (0o660, Some(narrow.clone())));
        // A list that cannot be kept leaves no rights for those that it named.
        failing(&[(libc::SYS_fsetxattr, Errno::PERM)], || store(OPTIONS));
        assert_eq!(found(), (0o600, None));
        set_mode(&tree, "old", 0o640);
        set_list("", "system.posix_acl_default", &wide).unwrap();
        store(OPTIONS);
        assert_eq!(found(), (0o640, None));
        set_list("old", ACL, &narrow).unwrap();
        store(OPTIONS);
        assert_eq!(found(), (0o660, Some(narrow)));
        // A mode that was asked for is that of a new file.
        store(StoreOptions { mode: Some(0o600), ..OPTIONS });
        assert_eq!(found(), (0o600, Some(list(7, 7, 0))));
    }
}
