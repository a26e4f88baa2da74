"""The declarations in _native.py against the C header, and how the library is found."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from typing import Any

import support

from framefd import ErrorCode, Outcome, _native
from framefd._version import ABI_VERSION, VERSION

HEADER = (support.ROOT / "include" / "framefd.h").read_text()
CODE = re.sub(r"/\*.*?\*/|//[^\n]*", "", HEADER, flags=re.S)
FUNCTION = re.compile(r"^(\w[\w ]*?[ *]+)(\w+)\(([^;{]*)\);", re.M)
STRUCT = re.compile(r"^struct (\w+) \{(.*?)^\};", re.M | re.S)
DEFINE = re.compile(r"^#define (\w+) \(?(-?\d+|UINT64_MAX)\)?$", re.M)

STRUCTS: dict[str, type[ctypes.Structure]] = {
    "frame_options": _native.FrameOptions,
    "frame_view": _native.FrameView,
    "auth_options": _native.AuthOptions,
    "exec_inquiry": _native.ExecInquiry,
    "exec_options": _native.ExecOptions,
    "exec_result": _native.ExecResult,
    "frame_file_inquiry": _native.FileInquiry,
    "frame_file_options": _native.FileOptions,
    "frame_file_result": _native.FileResult,
    "frame_file_stat": _native.FileStat,
    "frame_file_tree": _native.FileTree,
    "frame_datagram_options": _native.DatagramOptions,
}
NUMBERS: dict[str, Any] = {
    "int": ctypes.c_int,
    "bool": ctypes.c_bool,
    "size_t": ctypes.c_size_t,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
}


def fits(c_type: str, declared: object) -> bool:
    """Whether a ctypes type stands for a C type, given without its name."""
    words = [word for word in c_type.replace("*", " * ").split() if word != "const"]
    base, stars = " ".join(word for word in words if word != "*"), words.count("*")
    if base.startswith("struct ") and base[7:] in STRUCTS:
        return declared is ctypes.POINTER(STRUCTS[base[7:]])
    if base == "void" and stars == 0:
        return declared is None
    if stars == 0:
        return declared is NUMBERS[base]
    one: Any = {"char": ctypes.c_char_p}.get(base, ctypes.c_void_p)
    if base in NUMBERS:
        one = ctypes.POINTER(NUMBERS[base])
    return declared is (one if stars == 1 else ctypes.POINTER(one))


class Declarations(unittest.TestCase):
    def test_every_function_is_declared_as_in_the_header(self) -> None:
        functions = {name: (result, args) for result, name, args in FUNCTION.findall(CODE)}
        self.assertGreater(len(functions), 40)
        self.assertEqual(sorted(_native.PROTOTYPES), sorted(functions))
        for name, (result, text) in functions.items():
            declared_result, declared = _native.PROTOTYPES[name]
            parameters = [] if text.strip() == "void" else text.split(",")
            with self.subTest(name):
                self.assertEqual(len(declared), len(parameters))
                self.assertTrue(fits(result, declared_result), result)
                for parameter, kind in zip(parameters, declared):
                    c_type = re.sub(r"\w+\s*$", "", parameter)
                    self.assertTrue(fits(c_type, kind), f"{parameter.strip()}: {kind}")

    def test_structs_have_the_members_of_the_header(self) -> None:
        structs = dict(STRUCT.findall(CODE))
        for name, structure in STRUCTS.items():
            with self.subTest(name):
                members = re.findall(r"(\w+)(?:\[\d+\])?(?:\)\([^;]*\))?;", structs[name])
                self.assertEqual([field[0] for field in structure._fields_], members)

    def test_structs_are_laid_out_as_the_compiler_does(self) -> None:
        lines = []
        for name, structure in STRUCTS.items():
            lines.append(f'printf("%zu\\n", sizeof(struct {name}));')
            for field in structure._fields_:
                lines.append(f'printf("%zu\\n", offsetof(struct {name}, {field[0]}));')
        with tempfile.TemporaryDirectory() as temporary:
            program = os.path.join(temporary, "layout")
            source = "#include <framefd.h>\n#include <stdio.h>\nint main(void) {%s}"
            compile_c(source % "\n".join(lines), program, "-I", str(support.ROOT / "include"))
            printed = subprocess.run([program], capture_output=True, check=True).stdout
        ours = []
        for structure in STRUCTS.values():
            ours.append(ctypes.sizeof(structure))
            ours += [getattr(structure, field[0]).offset for field in structure._fields_]
        self.assertEqual([int(number) for number in printed.split()], ours)

    def test_constants_have_the_values_of_the_header(self) -> None:
        header = dict(DEFINE.findall(CODE))
        codes = {name: int(value) for name, value in header.items() if value.startswith("-")}
        codes = {k[7:]: v for k, v in codes.items() if k.startswith("FRAME_E")}
        self.assertEqual(codes, {code.name: code.value for code in ErrorCode})
        for outcome in Outcome:
            self.assertEqual(header[f"EXEC_{outcome.name}"], str(outcome.value))
        self.assertEqual(header["FRAME_NO_LIMIT"], "UINT64_MAX")
        self.assertEqual(_native.NO_LIMIT, 2**64 - 1)
        for name, value in vars(_native).items():
            if name.isupper() and isinstance(value, int) and name != "NO_LIMIT":
                c_name = name if name.startswith(("AUTH_", "EXEC_")) else f"FRAME_{name}"
                with self.subTest(name):
                    self.assertEqual(str(value), header[c_name])

    def test_only_one_module_speaks_of_prototypes(self) -> None:
        for module in (support.PACKAGE / "framefd").glob("*.py"):
            if module.name != "_native.py":
                self.assertNotRegex(module.read_text(), "argtypes|restype|CDLL|_fields_")


class Versions(unittest.TestCase):
    def test_the_package_the_library_and_the_crate_are_of_one_version(self) -> None:
        self.assertEqual(_native.lib.frame_version().decode(), VERSION)
        for manifest in (support.ROOT / "Cargo.toml", support.PACKAGE / "pyproject.toml"):
            found = re.search(r'^version = "(.*)"', manifest.read_text(), re.M)
            assert found is not None
            self.assertEqual(found[1], VERSION)

    def test_the_binary_interface_is_that_of_the_header(self) -> None:
        self.assertEqual(dict(DEFINE.findall(CODE))["FRAME_ABI_VERSION"], str(ABI_VERSION))


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
        abi = self.library("abi.so", ABI_VERSION + 1, VERSION)
        refused = self.imported(FRAMEFD_LIBRARY=abi)
        self.assertIn(f"its binary interface is number {ABI_VERSION + 1}", refused.stderr)
        older = self.library("older.so", ABI_VERSION, "0.0.9")
        refused = self.imported(FRAMEFD_LIBRARY=older)
        self.assertIn(f"its version is 0.0.9, less than {VERSION}", refused.stderr)
        empty = self.library("empty.so", ABI_VERSION, VERSION)
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
