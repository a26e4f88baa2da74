//! What a test measures of its process and thread, and a process of its own to do it in.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

/// Runs `body` in a process of its own: this test binary again, with only the test
/// called `name`, which is the caller.
pub fn alone(name: &str, body: impl FnOnce()) {
    alone_in(name, &[], body);
}

/// The same where `wrapper` is a command that runs the process.
pub fn alone_in(name: &str, wrapper: &[&str], body: impl FnOnce()) {
    const CHILD: &str = "FRAMEFD_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let this = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(OsStr::new).chain([this.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
}

/// The processor time that this thread has used.
pub fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

/// The most memory this process has had at once, in bytes.
pub fn peak_memory() -> u64 {
    status("VmHWM:")
}

/// The memory this process has, in bytes.
pub fn memory() -> u64 {
    status("VmRSS:")
}

/// The address space this process has, in bytes.
pub fn address_space() -> u64 {
    status("VmSize:")
}

/// A line of proc_pid_status(5) that is in kB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
