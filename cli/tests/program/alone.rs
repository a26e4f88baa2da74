//! The program as one file that needs nothing else. `make test-long` builds it.

use std::path::Path;
use std::process::Command;

use crate::host::done;

#[test]
fn one_static_file_is_small_and_needs_nothing() {
    if std::env::var_os("FRAMEFD_LONG").is_none() {
        return println!("skipped: FRAMEFD_LONG is not set");
    }
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (status, stdout, stderr) =
        done(Command::new("make").args(["--silent", "static"]).current_dir(tree));
    assert_eq!(status, 0, "{stderr}");
    let program = tree.join(stdout.lines().last().unwrap());
    let size = program.metadata().unwrap().len();
    assert!(size <= 2_500_000, "{size} bytes; see [profile.release.package.framefd-cli]");
    let (_, segments, _) = done(Command::new("readelf").arg("-lW").arg(&program));
    assert!(segments.contains("LOAD") && !segments.contains("INTERP"), "{segments}");
    let empty = tempfile::tempdir().unwrap();
    std::fs::copy(&program, empty.path().join("framefd")).unwrap();
    let mut command = Command::new("chroot");
    command.arg(empty.path()).args(["/framefd", "--version"]);
    if rustix::process::geteuid().is_root() {
        assert_eq!(done(&mut command).1, format!("framefd {}\n", env!("CARGO_PKG_VERSION")));
    }
}
