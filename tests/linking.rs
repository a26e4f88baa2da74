//! What links the library: a program and the installed one, shared and static; two Rust
//! archives in one program; a program that loads it again and again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use build::{VERSION, files, has, release, root, run, shared_library, succeed, text};

#[path = "common/build.rs"]
mod build;

#[test]
fn a_program_links_the_installed_library() {
    release(); // so that no two of these tests build at once
    let scratch = tempfile::tempdir().unwrap();
    let stage = scratch.path().join("stage");
    let destdir = format!("DESTDIR={}", stage.display());
    // In place of the program, which need not be built.
    fs::write(scratch.path().join("program"), "#!/bin/sh\necho program\n").unwrap();
    let program = format!("PROGRAM={}", scratch.path().join("program").display());
    let told = run("make", &["--silent", "install", &destdir, "PREFIX=/opt/framefd", &program]);
    assert_eq!(told, "", "a package is made: nothing to say");
    for name in ["framefd", "framefd-ssh"] {
        assert_eq!(run(&text(&stage.join("opt/framefd/bin").join(name)), &[]), "program\n");
    }
    let library = stage.join("opt/framefd/lib");
    let soname = format!("libframefd.so.{}", VERSION.split('.').next().unwrap());
    assert_eq!(
        fs::read_link(library.join(&soname)).unwrap(),
        Path::new(&format!("libframefd.so.{VERSION}"))
    );
    assert_eq!(fs::read_link(library.join("libframefd.so")).unwrap(), Path::new(&soname));

    if !has("pkg-config") {
        return;
    }
    let pkg_config = |options: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.args(options).arg("framefd").env("PKG_CONFIG_SYSROOT_DIR", &stage);
        let text = succeed(command.env("PKG_CONFIG_PATH", library.join("pkgconfig")));
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(pkg_config(&["--modversion"]), [VERSION]);
    assert_eq!(pkg_config(&["--variable=archive"]), [text(&library.join("libframefd.a"))]);
    let shared = pkg_config(&["--cflags", "--libs"]);
    let with_static = pkg_config(&["--static", "--cflags", "--libs"]);
    let with_archive = [pkg_config(&["--cflags"]), pkg_config(&["--variable=archive"])].concat();
    let ways = [
        ("shared", "-g", shared),
        ("static", "-static", with_static),
        ("archive", "-g", with_archive),
    ];
    for (way, option, flags) in ways {
        let binary = scratch.path().join(way);
        let mut compile = compiler(&scratch.path().join("program.c"), &binary, OUT_OF_TREE);
        succeed(compile.arg(option).args(&flags));
        let needed = run("readelf", &["-d", &text(&binary)]);
        assert_eq!(needed.contains(&soname), way == "shared", "{way}");
        assert_eq!(needed.contains("libc.so"), way != "static", "{way}");
        let mut program = Command::new(&binary);
        let search = if way == "shared" { &*library } else { Path::new("") };
        program.current_dir("/").env("LD_LIBRARY_PATH", search);
        assert_eq!(succeed(&mut program), format!("{VERSION} hello\n"), "{way}");
    }

    run("make", &["uninstall", &destdir, "PREFIX=/opt/framefd"]);
    let left: Vec<PathBuf> = files(&stage);
    assert!(left.is_empty(), "uninstall leaves {left:?}");
}

/// As under sudo, where cargo is not on the PATH, and as a user who has a prefix at home. The
/// last lines are commands that link a program which runs.
#[test]
fn an_installation_needs_no_cargo_and_says_how_a_program_finds_it() {
    release();
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&scratch.path().join(name));
    let mut install = install(scratch.path());
    install.args(["CARGO=/nonexistent", "LDCONFIG=true", "PREFIX=~/prefix"]);
    let told = succeed(&mut install);
    let (_, commands) = told.split_once(":\n").expect(&told);
    assert!(commands.contains(&format!("-Wl,-rpath,{}", path("prefix/lib"))), "{told}");
    fs::write(path("hello.c"), OUT_OF_TREE).unwrap();
    if has("pkg-config") {
        let mut shell = Command::new("sh");
        shell.args(["-ec", commands]).current_dir(scratch.path());
        succeed(shell.env_remove("LD_LIBRARY_PATH"));
        let mut program = Command::new(path("a.out"));
        assert_eq!(succeed(program.env_remove("LD_LIBRARY_PATH")), format!("{VERSION} hello\n"));
    }
}

/// Root's list of libraries is renewed, unless a package is made; nothing is said if the library
/// is in it.
#[test]
fn an_installation_by_root_is_found() {
    release();
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&scratch.path().join(name));
    let soname = format!("libframefd.so.{}", VERSION.split('.').next().unwrap());
    let list = format!("echo '\t{soname} (libc6,x86-64) => {}/lib/{soname}'", path("prefix"));
    let ldconfig = format!("#!/bin/sh\necho \"ldconfig $*\" >>{}\n{list}\n", path("log"));
    fs::write(path("ldconfig"), ldconfig).unwrap();
    run("chmod", &["755", &path("ldconfig")]);
    let ldconfig = format!("LDCONFIG={}", path("ldconfig"));
    let told = succeed(install(scratch.path()).args([&ldconfig, "PREFIX=~/prefix"]));
    assert!(!told.contains("rpath"), "{told}");
    let is_root = run("id", &["-u"]) == "0\n";
    let log = fs::read_to_string(path("log")).unwrap();
    assert_eq!(log, if is_root { "ldconfig \nldconfig -p\n" } else { "ldconfig -p\n" });
}

/// Units are installed if they are asked for, and systemd finds no mistake in them.
#[test]
fn what_starts_the_agent_is_installed_on_request() {
    release();
    let scratch = tempfile::tempdir().unwrap();
    let prefix = scratch.path().join("prefix");
    let made = |arguments: &[&str]| {
        let mut install = install(scratch.path());
        install.args(["PREFIX=~/prefix", "LDCONFIG=true"]).args(arguments);
        install.output().unwrap().status.success()
    };
    assert!(made(&[]) && !prefix.join("lib/systemd").exists());
    assert!(!made(&["UNITS=upstart"]));
    let init = format!("INITDIR={}", text(&scratch.path().join("init.d")));
    assert!(made(&["UNITS=systemd"]) && made(&["UNITS=openrc", &init]));
    let script = text(&scratch.path().join("init.d/framefd"));
    run("sh", &["-n", &script]);
    let program = prefix.join("bin/framefd");
    assert!(fs::read_to_string(&script).unwrap().contains(&*text(&program)));
    if !program.exists() {
        // It is built apart from the library.
        fs::create_dir_all(prefix.join("bin")).unwrap();
        fs::write(&program, "#!/bin/sh\n").unwrap();
        run("chmod", &["755", &text(&program)]);
    }
    let units = files(&prefix.join("lib/systemd/system"));
    assert_eq!(units.len(), 4, "{units:?}");
    if has("systemd-analyze") {
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no"]).args(&units);
        let output = verify.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && told.is_empty(), "{told}");
    }
    let mut uninstall = Command::new("make");
    uninstall.args([
        "--silent",
        "uninstall",
        "UNITS=openrc",
        "PREFIX=~/prefix",
        "LDCONFIG=true",
        &init,
    ]);
    succeed(uninstall.env("HOME", scratch.path()).current_dir(root()));
    assert!(files(&prefix.join("lib")).is_empty() && !Path::new(&script).exists());
}

#[test]
fn an_installation_of_nothing_says_what_to_do() {
    let scratch = tempfile::tempdir().unwrap();
    let mut install = install(scratch.path());
    install.args(["PREFIX=~/prefix", &format!("CARGO_TARGET_DIR={}", scratch.path().display())]);
    let output = install.output().unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("nothing is built yet: run make first\n"), "{errors}");
    assert!(files(scratch.path()).is_empty());
}

/// `make install`, with `home` as home directory and no cargo on the PATH.
fn install(home: &Path) -> Command {
    let mut make = Command::new("make");
    make.args(["--silent", "install"]).current_dir(root());
    make.env("HOME", home).env("PATH", "/usr/bin:/bin").env_remove("DESTDIR");
    make
}

/// Both libraries panic, and catch it: in each order, by each linker, since they differ in which
/// of two private section groups of the same name they keep.
#[test]
fn the_archive_links_next_to_another_rust_archive() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&scratch.path().join(name));
    fs::write(path("other.rs"), OTHER_ARCHIVE).unwrap();
    let other = path("libother.a");
    let options = ["--edition=2024", "-O", "--crate-type=staticlib", "-o", &other];
    run("rustc", &[&options[..], &[&path("other.rs")]].concat());
    let ours = archive();
    for linker in ["bfd", "gold", "lld"] {
        if !has(&format!("ld.{linker}")) {
            continue;
        }
        let linker = format!("-fuse-ld={linker}");
        for kind in ["-pie", "-no-pie", "-static"] {
            for archives in [[&ours, &other], [&other, &ours]] {
                let binary = scratch.path().join("both");
                let mut compile = compiler(&scratch.path().join("both.c"), &binary, BOTH_ARCHIVES);
                succeed(compile.args(["-Iinclude", kind, &linker]).args(archives));
                let said = succeed(&mut Command::new(&binary));
                assert_eq!(said, "other 1, framefd 1, other 1\n", "{linker} {kind} {archives:?}");
            }
        }
    }
}

/// A fully static program with another C library. `make test-long` builds for it.
#[test]
fn a_program_for_musl_catches_panics_and_runs_commands() {
    if std::env::var_os("FRAMEFD_LONG").is_none() {
        return println!("skipped: FRAMEFD_LONG is not set");
    }
    let scratch = tempfile::tempdir().unwrap();
    let (triple, prefix) = (format!("{}-unknown-linux-musl", std::env::consts::ARCH), "~/prefix");
    let build = [format!("CARGO_BUILD_TARGET={triple}"), "CC=musl-gcc".to_owned()];
    succeed(Command::new("make").args(&build).arg("examples").current_dir(root()));
    succeed(install(scratch.path()).args(&build).arg(format!("PREFIX={prefix}")));
    let library = scratch.path().join("prefix/lib");
    let names: Vec<PathBuf> = files(&library);
    assert_eq!(names.len(), 2, "the archive and framefd.pc: {names:?}");
    let mut flags = Command::new("pkg-config");
    flags.args(["--static", "--cflags", "--libs", "framefd"]);
    let flags = succeed(flags.env("PKG_CONFIG_PATH", library.join("pkgconfig")));
    let binary = scratch.path().join("program");
    for option in ["-static", "-no-pie"] {
        let mut compile = compiler(&scratch.path().join("both.c"), &binary, BOTH_ARCHIVES);
        let mut compile_for_musl = Command::new("musl-gcc");
        compile_for_musl.args(compile.arg(option).get_args());
        succeed(compile_for_musl.arg("-DALONE").args(flags.split_whitespace()));
        assert_eq!(succeed(&mut Command::new(&binary)), "other 1, framefd 1, other 1\n");
    }
    for suite in files(&root().join("tests/c")) {
        if suite.extension().is_some_and(|extension| extension == "c") {
            let mut compile = Command::new("musl-gcc");
            compile.args(["-std=c99", "-D_GNU_SOURCE", "-O1", "-static", "-o"]);
            compile.args([&binary, &suite]).args(flags.split_whitespace());
            succeed(&mut compile);
            succeed(Command::new(&binary).current_dir(root()));
        }
    }
}

#[test]
fn the_library_can_be_loaded_and_unloaded_again_and_again() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&scratch.path().join(name));
    fs::write(path("load.c"), LOAD_AGAIN).unwrap();
    let (source, binary) = (path("load.c"), path("load"));
    run("cc", &["-pthread", "-Iinclude", "-o", &binary, &source, &archive()]);
    assert_eq!(run(&binary, &[&shared_library()]), "same descriptors, same threads\n");
}

#[test]
fn what_signal_handlers_may_call_allocates_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let binary = text(&scratch.path().join("in_handlers"));
    run("cc", &["-pthread", "-Iinclude", "-o", &binary, "tests/linking/in_handlers.c", "-ldl"]);
    let invalid = framefd::ErrorKind::Argument.code();
    let expected = format!("0 {invalid} {invalid} 0 {invalid} {invalid} 105 0 0 0 allocations\n");
    assert_eq!(run(&binary, &[&shared_library()]), expected);
}

fn archive() -> String {
    text(&release().join("libframefd-c.a"))
}

/// A command that compiles a program, with its flags yet to come.
fn compiler(source: &Path, binary: &Path, program: &str) -> Command {
    fs::write(source, program).unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-std=gnu99", "-o"]).args([binary, source]).current_dir(root());
    compile
}

const OUT_OF_TREE: &str = r#"
#include <framefd.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    int fds[2];
    struct frame *frame = NULL;
    if (pipe(fds) || frame_send(fds[1], NULL, "hello", 5, NULL) || frame_recv(fds[0], &frame, NULL))
        return 1;
    printf("%s %.5s\n", frame_version(), (const char *)frame_body(frame, NULL));
    frame_free(frame);
    return 0;
}
"#;

/// What clashes with another copy of std if anything does: panics, threads, allocation.
const OTHER_ARCHIVE: &str = r#"
#[unsafe(no_mangle)]
pub extern "C" fn other_catches_panics() -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    let thread = std::thread::spawn(|| panic!("in a thread"));
    i32::from(thread.join().is_err() && std::panic::catch_unwind(|| panic!("here")).is_err())
}
"#;

/// Rust panics if there is no clock; that of the program can fail.
const BOTH_ARCHIVES: &str = r#"
#include <framefd.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef ALONE
static int other_catches_panics(void) { return 1; }
#else
int other_catches_panics(void);
#endif

static bool broken;

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (broken) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}

static int framefd_catches_panics(void) {
    int fds[2], code;
    struct frame *frame;
    struct frame_options opts = FRAME_OPTIONS_INIT;
    struct exec_output *output;
    opts.timeout_ms = 10000;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        return -1;
    broken = true;
    code = frame_recv(fds[0], &frame, &opts);
    broken = false;
    if (code != FRAME_EPANIC || frame_send(fds[1], NULL, "hello", 5, &opts) ||
        frame_recv(fds[0], &frame, &opts))
        return code;
    frame_free(frame);
    code = exec_run("exit 0", 6, NULL, NULL, &output);
    exec_output_free(output);
    return code == EXEC_EXITED;
}

int main(void) {
    printf("other %d, ", other_catches_panics());
    printf("framefd %d, ", framefd_catches_panics());
    printf("other %d\n", other_catches_panics());
    return 0;
}
"#;

/// One copy is linked in, another comes and goes; each is used, and fails, in a thread of
/// its own, so that what belongs to a thread is made and unmade.
const LOAD_AGAIN: &str = r#"
#include <dirent.h>
#include <dlfcn.h>
#include <framefd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const char *library;

static int entries(const char *path) {
    DIR *folder = opendir(path);
    int count = 0;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void *load(void *unused) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    int (*send)(int, const char *, const void *, size_t, const struct frame_options *);
    const char *(*last_error)(void);
    if (handle == NULL)
        return NULL;
    *(void **)&send = dlsym(handle, "frame_send");
    *(void **)&last_error = dlsym(handle, "frame_last_error");
    if (send == frame_send || send(-1, NULL, NULL, 0, NULL) != FRAME_EBADF ||
        frame_send(0, "[", NULL, 0, NULL) != FRAME_EBADJSON ||
        strstr(last_error(), "descriptor") == NULL || strstr(frame_last_error(), "JSON") == NULL)
        return NULL;
    return dlclose(handle) == 0 ? "good" : unused;
}

int main(int argc, char **argv) {
    library = argv[argc - 1];
    int fds = 0, threads = 0;
    for (int i = 0; i < 1000; i++) {
        pthread_t thread;
        void *good = NULL;
        if (pthread_create(&thread, NULL, load, NULL) != 0 || pthread_join(thread, &good) != 0 || !good)
            return 1;
        if (i == 0) {
            fds = entries("/proc/self/fd");
            threads = entries("/proc/self/task");
        }
    }
    if (entries("/proc/self/fd") == fds && entries("/proc/self/task") == threads)
        puts("same descriptors, same threads");
    return 0;
}
"#;
