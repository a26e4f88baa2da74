//! What must not change by accident: the exported names, the layout of public structs,
//! the soname, the version, the layers, the header's dialects. Each failure says which
//! command mends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use build::{VERSION, has, read, release, root, run, rust_files, shared_library, succeed, text};

#[path = "common/build.rs"]
mod build;

#[test]
fn exported_names_are_the_checked_in_ones() {
    let exported: String = run("nm", &["-D", "--defined-only", &shared_library()])
        .lines()
        .filter_map(|line| Some(line.split_whitespace().nth(2)?.to_owned() + "\n"))
        .collect();
    for name in exported.lines() {
        assert!(
            ["frame_", "auth_", "exec_"].iter().any(|prefix| name.starts_with(prefix)),
            "{name}"
        );
    }
    compare_or_write("symbols.txt", &exported);
    let archive = release().join("libframefd-c.a");
    let archived = run("nm", &["-g", "--defined-only", &text(&archive)]);
    let mut archived: Vec<&str> =
        archived.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    archived.sort_unstable();
    let exported: Vec<&str> = exported.lines().collect();
    assert_eq!(archived, exported, "the archive exports what the shared library does");
}

#[test]
fn public_structs_are_laid_out_as_checked_in() {
    let header = read("include/framefd.h");
    let mut program =
        String::from("#include <stdio.h>\n#include \"framefd.h\"\nint main(void) {\n");
    for (name, fields) in structs(&header) {
        program += &format!("printf(\"{name} %zu\\n\", sizeof(struct {name}));\n");
        for field in fields {
            program += &format!(
                "printf(\"{name}.{field} %zu %zu\\n\", offsetof(struct {name}, {field}), \
                 sizeof(((struct {name} *)0)->{field}));\n"
            );
        }
    }
    program += "return 0; }\n";
    let scratch = tempfile::tempdir().unwrap();
    let (source, binary) = (scratch.path().join("layout.c"), scratch.path().join("layout"));
    fs::write(&source, program).unwrap();
    run("cc", &["-Iinclude", "-o", &text(&binary), &text(&source)]);
    compare_or_write("layout.txt", &run(&text(&binary), &[]));
}

#[test]
fn the_static_libraries_are_the_checked_in_ones() {
    // Asked for by hand, since cargo prints it only when it builds anew.
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("empty.rs"), "").unwrap();
    let output = Command::new("rustc")
        .args(["--crate-type", "staticlib", "--print", "native-static-libs", "empty.rs"])
        .current_dir(scratch.path())
        .output()
        .unwrap();
    let output = String::from_utf8(output.stderr).unwrap();
    let (_, libraries) = output.split_once("native-static-libs: ").expect(&output);
    // The compiler adds the unwinder by itself, which a static program has under another name.
    let libraries = libraries.lines().next().unwrap().replace("-lgcc_s ", "");
    compare_or_write("native-static-libs.txt", &format!("{libraries}\n"));
}

#[test]
fn the_shared_library_has_its_soname_and_is_small() {
    let dynamic = run("readelf", &["-d", &shared_library()]);
    let major = VERSION.split('.').next().unwrap();
    assert!(
        dynamic.contains(&format!("soname: [libframefd.so.{major}]")),
        "see build.rs: {dynamic}"
    );
    is_below(1_468_006, &shared_library()); // 1.4 MiB
}

#[test]
fn without_its_server_the_shared_library_is_smaller_still() {
    if std::env::var_os("FRAMEFD_LONG").is_none() {
        return println!("skipped: FRAMEFD_LONG is not set");
    }
    let target = root().join("target/without-serve");
    let words = ["rustc", "--quiet", "--lib", "--release", "--crate-type", "cdylib"];
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(words).args(["--no-default-features", "--features", "seal"]);
    cargo.arg("--target-dir").arg(&target).current_dir(root());
    assert!(cargo.status().unwrap().success());
    is_below(1_363_148, &text(&target.join("release/libframefd.so"))); // 1.3 MiB
}

fn is_below(limit: u64, library: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let stripped = scratch.path().join("stripped.so");
    run("strip", &["-o", &text(&stripped), library]);
    let size = fs::metadata(&stripped).unwrap().len();
    assert!(size < limit, "{size} bytes stripped; see [profile.release] in Cargo.toml");
}

#[test]
fn one_version_everywhere() {
    let parts: Vec<&str> = VERSION.split('.').collect();
    let header = read("include/framefd.h");
    for (name, part) in ["MAJOR", "MINOR", "PATCH"].iter().zip(&parts) {
        let line = format!("#define FRAME_VERSION_{name} {part}\n");
        assert!(header.contains(&line), "set it in src/ffi/codes.rs, then: make header");
    }
    // What frame_version() says, `a_program_links_the_installed_library` compares.
    let changelog = read("CHANGELOG.md");
    assert!(changelog.contains(&format!("## {VERSION}")), "CHANGELOG.md has no entry");
    let python = read("bindings/python/pyproject.toml");
    assert!(python.contains(&format!("version = \"{VERSION}\"")), "bindings/python/pyproject.toml");
    let python = read("bindings/python/framefd/_version.py");
    assert!(python.contains(&format!("VERSION = \"{VERSION}\"")), "framefd/_version.py");
}

#[test]
fn the_readme_shows_programs_that_run() {
    let readme = read("README.md");
    let (c, python) = ("examples/c/hello.c", "examples/python/hello.py");
    for (path, language) in [(c, "c"), (python, "python")] {
        let program = read(path);
        assert!(program.lines().count() < 60, "{path} is too long for a README");
        let shown = format!("```{language}\n{program}```");
        assert!(readme.contains(&shown), "README.md shows another program than {path}");
    }
    let serving = read("docs/serving.md");
    // Below the first line, which says what it is. Blank lines count as well in C; in Python the
    // style asks for many of them.
    for (path, language, most, code) in [
        ("examples/c/kv_server.c", "c", 40, 40),
        ("examples/python/kv_server.py", "python", 30, 20),
    ] {
        let server = read(path);
        let below: Vec<&str> = server.lines().skip(1).collect();
        let (lines, blank) = (below.len(), below.iter().filter(|line| line.is_empty()).count());
        assert!(lines <= most && lines - blank <= code, "{path} has {lines} lines, {blank} blank");
        let wide = below.iter().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{path} is to be short, not dense");
        for word in ["accept", "thread", "handshake", "dispatch", "hello", "skip", "linger"] {
            assert!(!server.contains(word), "{path} does with {word} what a server has to");
        }
        let shown = format!("```{language}\n{server}```");
        assert!(serving.contains(&shown), "docs/serving.md shows another program than {path}");
    }
    let target = release();
    run("make", &["examples"]);
    let hello = target.parent().unwrap().join("examples/hello");
    assert_eq!(run(&text(&hello), &[]), "hello\n");
    let mut hello = Command::new("python3");
    hello.arg(python).current_dir(root());
    hello.env("PYTHONPATH", root().join("bindings/python"));
    hello.env("FRAMEFD_LIBRARY", shared_library());
    assert_eq!(succeed(&mut hello), "hello\n");
}

/// As with another key, or a server that dies: they do not wait for ever.
#[test]
fn the_readme_programs_end_if_their_peer_leaves() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&scratch.path().join(name));
    let without = |program: &str, serving: &str, leaving: &str| {
        let source = read(program);
        assert_eq!(source.matches(serving).count(), 1, "{program}");
        source.replace(serving, leaving)
    };
    let serving = "exec_serve(client, request.header, NULL, NULL)";
    fs::write(path("hello.c"), without("examples/c/hello.c", serving, "-1")).unwrap();
    let archive = text(&release().join("libframefd-c.a"));
    run("cc", &["-Iinclude", "-o", &path("hello"), &path("hello.c"), &archive]);
    let (serving, received) = ("client.serve_exec(client.recv_header())", "client.recv_header()");
    fs::write(path("hello.py"), without("examples/python/hello.py", serving, received)).unwrap();
    for (program, argument) in [(path("hello"), ""), ("python3".to_owned(), &*path("hello.py"))] {
        let mut hello = Command::new("timeout");
        hello.args(["60", &program, argument]).current_dir(root());
        hello.env("PYTHONPATH", root().join("bindings/python"));
        let output = hello.env("FRAMEFD_LIBRARY", shared_library()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{program} {output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("closed the connection"), "{program} {errors}");
    }
}

#[test]
fn the_header_stands_alone_in_every_dialect() {
    let scratch = tempfile::tempdir().unwrap();
    let header = read("include/framefd.h");
    let mut program = String::from("#include \"framefd.h\"\n");
    let mut in_cpp = String::new();
    for (number, line) in header.lines().filter(|line| line.contains("_INIT {")).enumerate() {
        let name = line.split_whitespace().nth(1).unwrap();
        let kind = name.trim_end_matches("_INIT").to_lowercase();
        program += &format!("struct {kind} v{number} = {name};\n");
        // C++ needs no `struct`, unless a function has the name as well.
        in_cpp += &format!("{kind} w{number} = {name};\n");
    }
    program += &format!("#ifdef __cplusplus\n{in_cpp}#endif\n");
    let standards = ["c89", "c99", "c11", "c17", "c2x"]
        .map(|standard| ("cc", standard, "all.c"))
        .into_iter()
        .chain(
            ["c++98", "c++11", "c++14", "c++17", "c++20", "c++2b"]
                .map(|standard| ("c++", standard, "all.cc")),
        );
    for (compiler, standard, file) in standards {
        if !has(compiler) {
            continue;
        }
        let source = scratch.path().join(file);
        fs::write(&source, &program).unwrap();
        let mut arguments = vec!["-Wall", "-Wextra", "-Werror", "-pedantic-errors"];
        if compiler == "c++" {
            arguments.extend(["-Wold-style-cast", "-Wzero-as-null-pointer-constant"]);
        }
        let (standard, source) = (format!("-std={standard}"), text(&source));
        arguments.extend(["-fsyntax-only", "-Iinclude", &standard, &source]);
        run(compiler, &arguments);
        if standard.ends_with("c++17") {
            // What a newcomer to it tries first.
            run(compiler, &["-fsyntax-only", "-Iinclude", "-x", "c++", "examples/c/hello.c"]);
        }
    }
}

#[test]
fn no_struct_has_padding_at_its_end() {
    // A member that is added later would lie where an older program has left any bytes.
    let output = Command::new("cc")
        .args(["-Wpadded", "-Iinclude", "-fsyntax-only", "-x", "c", "include/framefd.h"])
        .current_dir(root())
        .output()
        .unwrap();
    let output = String::from_utf8(output.stderr).unwrap();
    let padded: Vec<&str> = output.lines().filter(|l| l.contains("alignment boundary")).collect();
    assert!(padded.is_empty(), "{padded:#?}");
}

#[test]
fn the_comments_of_the_header_name_what_is_there() {
    let header = read("include/framefd.h").replace("_...", "...");
    let wide = header.lines().find(|line| line.chars().count() > 100);
    assert_eq!(wide, None, "a line of framefd.h that is too wide to read");
    let (mut code, mut comments) = (String::new(), String::new());
    for piece in header.split("/*") {
        let (comment, rest) = piece.split_once("*/").unwrap_or(("", piece));
        comments += comment;
        code += rest;
    }
    // A name in quotes is one of the wire, or of an option.
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '"';
    let known: BTreeSet<&str> = code.split(|c| !is_word(c)).collect();
    let prefixes = ["frame_", "auth_", "exec_", "FRAME_", "AUTH_", "EXEC_"];
    for word in comments.split(|c| !is_word(c)) {
        let is_ours = prefixes.iter().any(|prefix| word.starts_with(prefix));
        let is_family = comments.contains(&format!("{word}..."));
        assert!(
            !is_ours || known.contains(word) || is_family,
            "a comment of framefd.h names {word}"
        );
    }
}

#[test]
fn no_import_points_up_a_layer() {
    let layers = ["ffi", "ops", "io", "wire"];
    for (depth, layer) in layers.iter().enumerate() {
        for path in rust_files(&root().join("src").join(layer)) {
            let source = fs::read_to_string(&path).unwrap();
            for above in &layers[..depth] {
                let import = format!("crate::{above}");
                assert!(!source.contains(&import), "{} uses {import}", path.display());
            }
            assert!(
                !source.contains("super::super"),
                "{}: name the layer: crate::...",
                path.display()
            );
            let message = "crate::wire::message";
            assert!(
                *layer != "io" || !source.contains(message),
                "{} knows a message of the wire",
                path.display()
            );
            // Tests may reach for anything; shipped wire code reaches for no descriptor.
            let shipped = source.split("#[cfg(test)]").next().unwrap();
            if *layer == "wire" {
                for word in ["std::os::fd", "std::time", "std::fs", "std::net", "rustix"] {
                    assert!(!shipped.contains(word), "{} uses {word}", path.display());
                }
            }
        }
    }
    for folder in ["src/ops/file", "src/ops/auth"] {
        for path in rust_files(&root().join(folder)) {
            let source = fs::read_to_string(&path).unwrap();
            let shipped = source.split("#[cfg(test)]").next().unwrap();
            for calls in ["rustix::fs", "rustix::process", "libc::"] {
                assert!(!shipped.contains(calls), "{}: {calls} belongs into io", path.display());
            }
        }
    }
    for file in ["error.rs", "limits.rs"] {
        let source = read(&format!("src/{file}"));
        assert!(layers.iter().all(|layer| !source.contains(&format!("crate::{layer}"))), "{file}");
    }
}

/// Two files that import each other are one file in two places. A `mod.rs` may re-export from
/// the files of its folder: that is its table of contents, and no import.
#[test]
fn no_two_files_import_each_other() {
    let src = root().join("src");
    let files: BTreeMap<String, String> = rust_files(&src)
        .iter()
        .map(|path| {
            let module = text(path.strip_prefix(&src).unwrap()).replace('/', "::");
            let module = module.trim_end_matches(".rs").trim_end_matches("::mod").to_owned();
            (module, fs::read_to_string(path).unwrap())
        })
        .collect();
    let imports: BTreeMap<&str, Vec<String>> = files
        .iter()
        .map(|(module, source)| {
            let is_folder = src.join(module.replace("::", "/")).is_dir();
            (&**module, imported_files(module, is_folder, source, &files))
        })
        .collect();
    for (module, imported) in &imports {
        for other in imported {
            let back = &imports[&**other];
            assert!(
                !back.iter().any(|file| file == module),
                "{module} and {other} import each other"
            );
        }
    }
    let count: usize = imports.values().map(Vec::len).sum();
    assert!(count > 2 * files.len(), "imports are found at all: {count}");
}

/// The modules among `files` that the shipped part of `source` names.
fn imported_files(
    module: &str,
    is_folder: bool,
    source: &str,
    files: &BTreeMap<String, String>,
) -> Vec<String> {
    let shipped = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: String = shipped
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let above = module.rsplit_once("::").map_or("", |(above, _)| above);
    let here = if is_folder { module } else { above };
    let mut paths = Vec::new();
    for (start, base) in [("crate::", ""), ("super::", above), ("self::", here)] {
        for (at, _) in code.match_indices(start) {
            let base = if base.is_empty() { String::new() } else { format!("{base}::") };
            expand(&base, &code[at + start.len()..], &mut paths);
        }
    }
    let file_of = |path: &String| {
        let mut path = path.trim_end_matches("::");
        while !files.contains_key(path) {
            path = path.rsplit_once("::")?.0;
        }
        Some(path.to_owned())
    };
    let mut found: Vec<String> =
        paths.iter().filter_map(file_of).filter(|other| other != module).collect();
    found.sort();
    found.dedup();
    found
}

/// Adds to `paths` what `text` begins with: `a::B`, or `a::{b::C, d::{E, F}}` as four paths.
/// Returns how much of the text that is.
fn expand(base: &str, text: &str, paths: &mut Vec<String>) -> usize {
    let is_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
    let end = text.find(|character| !is_path(character)).unwrap_or(text.len());
    let path = format!("{base}{}", &text[..end]);
    if !text[end..].starts_with('{') {
        paths.push(path);
        return end;
    }
    let mut at = end + 1;
    loop {
        at += text[at..].find(|next: char| next == '}' || is_path(next)).unwrap();
        if text[at..].starts_with('}') {
            return at + 1;
        }
        at += expand(&path, &text[at..], paths);
    }
}

#[test]
fn every_entry_point_catches_panics() {
    let cannot_fail = ["frame_version", "frame_abi_version", "frame_strerror", "frame_last_error"];
    let in_handlers = ["exec_signal", "exec_resize", "frame_connection_abort", "frame_server_stop"];
    let mut seen = 0;
    for path in rust_files(&root().join("src/ffi")) {
        let source = fs::read_to_string(&path).unwrap();
        for function in source.split("extern \"C\" fn ").skip(1) {
            let name = function.split('(').next().unwrap();
            seen += 1;
            let body = function.split("\n}").next().unwrap();
            let guarded = ["code(", "small(", "count(", "value("].iter().any(|guard| {
                body.contains(&format!("    {guard}"))
                    || body.contains(&format!("outcome::{guard}"))
                    || body.contains(&format!("self::{guard}"))
            });
            // Signal handlers may call these, which have no panic to catch.
            let is_in_handlers = body.contains("    code_in_handler(");
            assert_eq!(is_in_handlers, in_handlers.contains(&name), "{name}");
            assert!(
                guarded || is_in_handlers || cannot_fail.contains(&name),
                "{name}: see src/ffi/boundary/outcome.rs"
            );
        }
    }
    assert_eq!(seen, read("tests/abi/symbols.txt").lines().count(), "every name is looked at");
}

/// Each finding of careful users names the tests that fail without its mend, or says why there is
/// none.
#[test]
fn every_finding_has_its_tests() {
    let names = names_with_tests("tests/findings.tsv");
    let numbered = [("core-", 1..=18), ("field-2.", 1..=20), ("python-P", 1..=31), ("c-", 1..=19)];
    for (list, numbers) in numbered {
        for name in numbers.map(|number| format!("{list}{number}")) {
            assert!(names.contains(&name), "{name} has no line");
        }
    }
}

/// So does each fault that a server must survive.
#[test]
fn every_fault_has_its_tests() {
    assert!(names_with_tests("tests/faults.tsv").len() > 20);
}

/// The names in a table, each of whose lines names tests that are there, or a reason.
fn names_with_tests(table: &str) -> BTreeSet<String> {
    let table = fs::read_to_string(root().join(table)).unwrap();
    let mut names = BTreeSet::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let &[name, kind, tests, reason] = &columns[..] else { panic!("four columns: {line}") };
        assert!(!kind.is_empty(), "{line}");
        names.insert(name.split(':').next().unwrap().to_owned());
        if tests == "-" {
            assert!(!reason.is_empty(), "{name} has neither a test nor a reason");
            continue;
        }
        for test in tests.split(' ') {
            let (path, function) = test.split_once("::").unwrap_or_else(|| panic!("{test}"));
            let function = function.rsplit("::").next().unwrap();
            let source = fs::read_to_string(root().join(path));
            let source = source.unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
            let is_there = source.contains(&format!("{function}("));
            assert!(is_there, "{name}: there is no {function} in {path}");
        }
    }
    names
}

/// The structs of the header whose members are public, with the members' names.
fn structs(header: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut lines = header.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("struct ").and_then(|rest| rest.strip_suffix(" {"))
        else {
            continue;
        };
        let members: String = lines
            .by_ref()
            .take_while(|line| *line != "};")
            .filter(|line| !line.trim_start().starts_with(['/', '*']))
            .collect();
        let members = members.split_terminator(';').map(member_name).collect();
        found.insert(name.to_owned(), members);
    }
    assert!(!found.is_empty());
    found
}

/// `uint32_t size`, `char sha256[72]`, `int (*progress)(void *context, ...)`
fn member_name(member: &str) -> String {
    let name = match member.split_once("(*") {
        Some((_, rest)) => rest.split(')').next().unwrap(),
        None => member.split('[').next().unwrap(),
    };
    name.split([' ', '*']).next_back().unwrap().to_owned()
}

fn compare_or_write(name: &str, found: &str) {
    let path = root().join("tests/abi").join(name);
    if std::env::var_os("FRAMEFD_WRITE_ABI").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "tests/abi/{name} differs; if that is meant: make abi");
}
