"""The declarations made of the C header, and how the library is found."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import support

import make_abi
from framefd import ErrorCode, _abi, _native
from framefd._abi import FRAME_ABI_VERSION
from framefd._version import VERSION

HEADER = make_abi.Header(make_abi.HEADER.read_text())

# What each type of C is in Python, in a header of its own.
SAMPLE = """
/* A code. */
#define FRAME_ELOST (-7)
#define FRAME_LIMIT UINT64_MAX
struct sample_seen {
    uint32_t size;
    const char *text;
    const char *bytes;
    size_t bytes_len;
};
struct sample_options {
    uint32_t size;
    /* A comment; with a semicolon. */
    const void *input;
    char name[72];
    int (*ask)(void *context, const struct sample_seen *seen, char *reason, size_t cap);
};
#define SAMPLE_OPTIONS_INIT { sizeof(struct sample_options), 0, { 0 }, 0 }
struct sample;
void sample_free(struct sample *sample);
const char *sample_text(const struct sample *sample, size_t *len);
int64_t sample_new(const char *const *argv, const void **piece, struct sample **out,
                   const struct sample_options *opts);
int sample_handle(struct sample *sample, void (*log)(void *context, const char *text), bool on);
"""
MADE = """
class SampleSeen(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("text", c_char_p),
        ("bytes", c_void_p),
        ("bytes_len", c_size_t),
    ]


SampleOptionsAsk = CFUNCTYPE(c_int, c_void_p, POINTER(SampleSeen), c_void_p, c_size_t)


class SampleOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("input", c_char_p),
        ("name", c_char * 72),
        ("ask", SampleOptionsAsk),
    ]


SampleHandleLog = CFUNCTYPE(None, c_void_p, c_char_p)


# name: (result, parameters)
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "sample_free": (None, (c_void_p,)),
    "sample_text": (c_char_p, (c_void_p, POINTER(c_size_t))),
    "sample_new": (
        c_int64,
        (POINTER(c_char_p), POINTER(c_void_p), POINTER(c_void_p), POINTER(SampleOptions)),
    ),
    "sample_handle": (c_int, (c_void_p, SampleHandleLog, c_bool)),
}
"""


class Declarations(unittest.TestCase):
    def test_they_are_those_of_the_header(self) -> None:
        up_to_date = make_abi.MODULE.read_text() == make_abi.made()
        self.assertTrue(up_to_date, "framefd/_abi.py is out of date; to fix it: make header")

    def test_each_type_of_c_has_its_type_in_python(self) -> None:
        made = make_abi.Header(SAMPLE).module()
        self.assertIn("FRAME_LIMIT = 2**64 - 1\n", made)
        self.assertIn('    LOST = -7\n    """A code."""\n', made)
        self.assertTrue(made.endswith(MADE), made)

    def test_the_compiler_sees_the_same_sizes_places_and_values(self) -> None:
        numbers = [(f"FRAME_E{code.name}", code.value) for code in ErrorCode]
        numbers += [item for item in vars(_abi).items() if re.match("[A-Z_]+$", item[0])]
        numbers = [(name, value) for name, value in numbers if isinstance(value, int)]
        for name, members in HEADER.structs.items():
            structure = getattr(_abi, make_abi.camel(name))
            numbers.append((f"sizeof(struct {name})", ctypes.sizeof(structure)))
            for member in members:
                offset = getattr(structure, member.name).offset
                numbers.append((f"offsetof(struct {name}, {member.name})", offset))
        lines = [f'printf("%llu\\n", (unsigned long long)({name}));' for name, _ in numbers]
        with tempfile.TemporaryDirectory() as temporary:
            program = os.path.join(temporary, "numbers")
            source = "#include <framefd.h>\n#include <stdio.h>\nint main(void) {%s}"
            compile_c(source % "\n".join(lines), program, "-I", str(make_abi.HEADER.parent))
            printed = subprocess.run([program], capture_output=True, check=True).stdout
        self.assertGreater(len(numbers), 100)
        for (name, ours), theirs in zip(numbers, printed.split()):
            self.assertEqual(ours % 2**64, int(theirs), name)

    def test_only_one_module_speaks_of_prototypes(self) -> None:
        for module in (support.PACKAGE / "framefd").glob("*.py"):
            if module.name not in ("_abi.py", "_native.py"):
                self.assertNotRegex(module.read_text(), "argtypes|restype|CDLL|_fields_")


class Versions(unittest.TestCase):
    def test_the_package_the_library_and_the_crate_are_of_one_version(self) -> None:
        self.assertEqual(_native.lib.frame_version().decode(), VERSION)
        for manifest in (support.ROOT / "Cargo.toml", support.PACKAGE / "pyproject.toml"):
            found = re.search(r'^version = "(.*)"', manifest.read_text(), re.M)
            assert found is not None
            self.assertEqual(found[1], VERSION)


class Loading(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def imported(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """What `import framefd` says in a process of its own."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FRAMEFD", "LD_"))}
        command = [sys.executable, "-c", "import framefd; print(framefd._native.lib._name)"]
        path = {"PYTHONPATH": str(support.PACKAGE)}
        env = {**env, **path, **variables}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=20)

    def library(self, name: str, abi: int, version: str) -> str:
        path = str(self.directory / name)
        functions = f"int frame_abi_version(void) {{ return {abi}; }}\n"
        functions += f'const char *frame_version(void) {{ return "{version}"; }}\n'
        compile_c(functions, path, "-shared", "-fPIC")
        return path

    def test_the_variable_decides(self) -> None:
        chosen = self.imported(FRAMEFD_LIBRARY=_native.lib._name)
        self.assertEqual(chosen.stdout.strip(), _native.lib._name, chosen.stderr)

    def test_a_variable_that_points_nowhere_is_an_import_error(self) -> None:
        missing = self.imported(FRAMEFD_LIBRARY="/nowhere/libframefd.so")
        self.assertIn("ImportError: no framefd library can be used", missing.stderr)
        self.assertIn("/nowhere/libframefd.so: cannot open", missing.stderr)

    def test_a_library_that_does_not_fit_is_refused(self) -> None:
        abi = self.library("abi.so", FRAME_ABI_VERSION + 1, VERSION)
        refused = self.imported(FRAMEFD_LIBRARY=abi)
        self.assertIn(f"its binary interface is number {FRAME_ABI_VERSION + 1}", refused.stderr)
        older = self.library("older.so", FRAME_ABI_VERSION, "0.0.9")
        refused = self.imported(FRAMEFD_LIBRARY=older)
        self.assertIn(f"its version is 0.0.9, less than {VERSION}", refused.stderr)
        empty = self.library("empty.so", FRAME_ABI_VERSION, VERSION)
        refused = self.imported(FRAMEFD_LIBRARY=empty)
        self.assertIn("undefined symbol: frame_", refused.stderr)

    def test_the_places_are_tried_in_order(self) -> None:
        tried = list(_native._candidates())
        package, release, debug, system = (tried[0], *tried[-3:])
        self.assertTrue(package.startswith(str(support.PACKAGE / "framefd" / "libframefd.so")))
        self.assertTrue(release.endswith("/release/libframefd.so"))
        self.assertTrue(debug.endswith("/debug/libframefd.so"))
        self.assertEqual(system, f"libframefd.so.{VERSION[0]}")


def compile_c(source: str, output: str, *options: str) -> None:
    command = [os.environ.get("CC", "cc"), "-x", "c", "-", "-o", output, *options]
    subprocess.run(command, input=source.encode(), check=True)


if __name__ == "__main__":
    unittest.main()
