//! What tests of system calls need: a process of their own.

use std::process::Command;

/// Runs `body` in a process of its own: this test binary again, with only the test
/// called `name`, which is the caller. `wrapper` is a command that runs it.
pub fn alone(name: &str, wrapper: &[&str], body: impl FnOnce()) {
    const CHILD: &str = "FRAMEFD_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
    };
    let output = command.args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
}
