//! The suites in tests/c, each a C99 program: compiled without a warning against
//! include/framefd.h, then run with the shared library, under valgrind, and with the archive under
//! the sanitizers, and with threads under ThreadSanitizer. A tool that is missing skips its part;
//! with CI set that is an error. FRAMEFD_C=NAME runs only the suites whose file name has NAME in
//! it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

#[test]
fn with_the_shared_library() {
    let scratch = tempfile::tempdir().unwrap();
    for source in chosen() {
        let binary = compile_shared(&source, scratch.path());
        succeed(Command::new(binary).env("LD_LIBRARY_PATH", scratch.path()));
    }
}

/// Where both ends of a connection are the library's, everything works sealed as it does plain.
/// tests/run.py --long sets the variable for the tests below as well.
#[test]
fn with_the_shared_library_and_sealed_connections() {
    let scratch = tempfile::tempdir().unwrap();
    for source in chosen() {
        let text = fs::read_to_string(&source).unwrap();
        if SEALING.iter().any(|word| text.contains(word)) {
            let binary = compile_shared(&source, scratch.path());
            let library = ("LD_LIBRARY_PATH", scratch.path());
            succeed(Command::new(binary).envs([library]).env("FRAMEFD_TEST_SEALED", "1"));
        }
    }
}

/// A suite with one of these seals connections.
const SEALING: [&str; 4] = ["seal_both(", "seal_client(", "start_server(", "\"commands.h\""];

#[test]
fn under_valgrind() {
    if !is_there("valgrind", &["--version"]) {
        return skip("valgrind");
    }
    let scratch = tempfile::tempdir().unwrap();
    for source in chosen() {
        let binary = compile_shared(&source, scratch.path());
        succeed(
            Command::new("valgrind")
                .args(["-q", "--error-exitcode=9", "--leak-check=full", "--fair-sched=try"])
                .args(["--errors-for-leak-kinds=definite"])
                .arg(format!("--suppressions={}", text(&root().join("tests/c/valgrind.supp"))))
                .arg(binary)
                .env("LD_LIBRARY_PATH", scratch.path()),
        );
    }
}

#[test]
fn under_the_sanitizers_with_the_archive() {
    let scratch = tempfile::tempdir().unwrap();
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let probe = scratch.path().join("probe.c");
    fs::write(&probe, "int main(void) { return 0; }\n").unwrap();
    let probe =
        [flags[0], text(&probe), "-o", text(&scratch.path().join("probe"))].map(str::to_owned);
    if !is_there("cc", &probe) {
        return skip("the address and undefined behaviour sanitizers of cc");
    }
    let libraries = fs::read_to_string(root().join("tests/abi/native-static-libs.txt")).unwrap();
    for source in chosen() {
        let mut link = vec![built("libframefd.a").to_str().unwrap().to_owned()];
        link.extend(libraries.split_whitespace().map(str::to_owned));
        let binary = compile(&source, scratch.path(), &flags, &link);
        succeed(Command::new(binary).env("UBSAN_OPTIONS", "print_stacktrace=1"));
    }
}

/// Those with threads. ThreadSanitizer does not see how the library synchronises, since it is
/// not compiled with it, and so must not judge what the library does with memory.
#[test]
fn under_the_thread_sanitizers_of_gcc_and_clang() {
    let scratch = tempfile::tempdir().unwrap();
    let judged = scratch.path().join("suppressions");
    fs::write(&judged, "called_from_lib:libframefd.so\n").unwrap();
    let options = format!("exitcode=66:suppressions={}", text(&judged));
    std::thread::scope(|scope| {
        for compiler in ["gcc", "clang"] {
            let (scratch, options) = (scratch.path().join(compiler), &options);
            scope.spawn(move || {
                fs::create_dir(&scratch).unwrap();
                if !has_thread_sanitizer(compiler, &scratch) {
                    return skip(&format!("the thread sanitizer of {compiler}"));
                }
                for source in chosen() {
                    if fs::read_to_string(&source).unwrap().contains("pthread_create") {
                        let flags = ["-fsanitize=thread"];
                        let link = link_shared(&scratch);
                        let binary = compile_by(compiler, &source, &scratch, &flags, &link);
                        succeed(
                            Command::new(binary)
                                .env("LD_LIBRARY_PATH", &scratch)
                                .env("TSAN_OPTIONS", options),
                        );
                    }
                }
            });
        }
    });
}

/// Whether a program under it runs: it cannot if the kernel spreads addresses too far for it.
fn has_thread_sanitizer(compiler: &str, scratch: &Path) -> bool {
    let (source, probe) = (scratch.join("probe.c"), scratch.join("probe"));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    is_there(compiler, &["-fsanitize=thread", text(&source), "-o", text(&probe)])
        && is_there(text(&probe), &[""; 0])
}

#[test]
fn every_function_is_called_by_some_suite() {
    let header = fs::read_to_string(root().join("include/framefd.h")).unwrap();
    let suites: String = sources().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let uncalled: BTreeSet<&str> = declared(&header)
        .into_iter()
        .filter(|name| !suites.contains(&format!("{name}(")))
        .collect();
    assert!(uncalled.is_empty(), "no program in tests/c calls {uncalled:?}");
}

/// The names of the functions a header declares, each at the start of a line.
fn declared(header: &str) -> Vec<&str> {
    let names: Vec<&str> = header
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.contains('_'))
        .collect();
    assert!(names.len() > 40, "{names:?}");
    names
}

fn compile_shared(source: &Path, scratch: &Path) -> PathBuf {
    compile(source, scratch, &[], &link_shared(scratch))
}

/// What links the shared library, which is put into `scratch`.
fn link_shared(scratch: &Path) -> [String; 2] {
    // As installed: programs ask for the soname.
    let soname = format!("libframefd.so.{}", env!("CARGO_PKG_VERSION_MAJOR"));
    for name in ["libframefd.so", &soname] {
        let link = scratch.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(built("libframefd.so"), link).unwrap();
        }
    }
    [format!("-L{}", text(scratch)), "-lframefd".to_owned()]
}

fn compile(source: &Path, scratch: &Path, flags: &[&str], link: &[String]) -> PathBuf {
    compile_by("cc", source, scratch, flags, link)
}

fn compile_by(
    compiler: &str,
    source: &Path,
    scratch: &Path,
    flags: &[&str],
    link: &[String],
) -> PathBuf {
    let binary = scratch.join(source.file_stem().unwrap());
    succeed(
        Command::new(compiler)
            .args(["-std=c99", "-D_GNU_SOURCE", "-O1", "-g", "-pthread", "-Iinclude"])
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"])
            .args(flags)
            .arg("-o")
            .args([&binary, source])
            .args(link),
    );
    binary
}

/// The suites to run.
fn chosen() -> Vec<PathBuf> {
    let name = std::env::var("FRAMEFD_C").unwrap_or_default();
    let mut found = sources();
    found.retain(|path| path.file_stem().is_some_and(|stem| text(stem.as_ref()).contains(&name)));
    assert!(!found.is_empty(), "no suite in tests/c has {name} in its name");
    found
}

fn sources() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/c")).unwrap();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{found:?}");
    found
}

/// A library that cargo built for this test: beside it.
fn built(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name(name);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn is_there(program: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn skip(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "missing: {what}");
    println!("skipped: what needs {what}");
}

/// Runs a command to its end, which has to be a good one, and to come: five minutes are more
/// than valgrind takes on a machine that is busy.
fn succeed(command: &mut Command) {
    let child = command.current_dir(root()).stdin(Stdio::null());
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
}
