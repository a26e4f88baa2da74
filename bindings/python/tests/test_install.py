"""An installed package needs nothing of the source tree, and is whole: it has the library, or is
not made. The program framefd is installed and removed with it."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile

import support

import framefd
from framefd import _native

USE = """
import os, framefd, framefd._native
read, write = os.pipe()
framefd.send(write, {"n": 1}, b"body")
print(framefd.recv(read), framefd._native.lib._name, framefd.__file__)
"""

# In place of cargo: "builds" the library under test and a program, and writes down how it was
# called.
CARGO = """#!/bin/sh
echo "$PWD $*" >>{log}
mkdir -p target/release target/program/release && cp {library} target/release/libframefd.so
case "$*" in *framefd-cli*) cp {program} target/program/release/framefd ;; esac
"""

# In place of the program: some other one that is no script.
PROGRAM = shutil.which("true") or "/bin/true"

PIP = (sys.executable, "-m", "pip", "--quiet", "--no-input", "--no-cache-dir")
OFFLINE = ("--no-index", "--no-deps")


def has(package: str, *version: int) -> bool:
    """Whether a package is there, in this version at least."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return [int(part) for part in found.split(".")[:2]] >= list(version)


CI = bool(os.environ.get("CI"))  # where nothing may be skipped


@unittest.skipUnless(CI or has("setuptools", 77), "needs setuptools 77")
class Install(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name).resolve()
        self.tree, self.bin = self.directory / "tree", self.directory / "bin"
        self.source = self.tree / "bindings" / "python"
        ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        shutil.copytree(support.PACKAGE, self.source, ignore=ignored)
        self.bin.mkdir()
        self.log = self.directory / "log"

    def run_it(
        self, *command: str, library: str = "", program: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A command, in an environment without cargo, unless cargo() was called; it has the
        library and the program for builds only."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FRAMEFD", "PYTHON"))}
        env.update({"FRAMEFD_LIBRARY": library} if library else {})
        env.update({"FRAMEFD_PROGRAM": program} if program else {})
        for name in ("LD_LIBRARY_PATH", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"):
            env.pop(name, None)
        env["PATH"] = f"{self.bin}:/usr/bin:/bin"
        return subprocess.run(
            command, cwd=self.source, env=env, capture_output=True, text=True, timeout=120
        )

    def run_quietly(self, *command: str, library: str = "", program: str = "") -> str:
        done = self.run_it(*command, library=library, program=program)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def library(self) -> str:
        """The library under test, whole: not by a name that needs a search."""
        return os.path.realpath(_native.lib._name)

    def cargo(self, text: str = "") -> None:
        """Puts a cargo on the PATH."""
        cargo = self.bin / "cargo"
        usual = CARGO.format(log=self.log, library=self.library(), program=PROGRAM)
        cargo.write_text(text or usual)
        cargo.chmod(0o755)

    def build_wheel(self, source: str, library: str = "", program: str = "") -> pathlib.Path:
        wheels = self.directory / "wheels"
        build = ["wheel", *OFFLINE, "--no-build-isolation", "-w", str(wheels), source]
        self.run_quietly(*PIP, *build, library=library, program=program)
        (wheel,) = wheels.iterdir()
        return wheel

    def check(self, printed: str, installed: pathlib.Path) -> None:
        frame, library, module = printed.rsplit(None, 2)
        self.assertEqual(frame, "Frame(header={'n': 1}, body=b'body')")
        for path in (library, module):
            self.assertIn(installed.resolve(), pathlib.Path(path).resolve().parents)

    def check_wheel(self, wheel: pathlib.Path, *, program: bool = True) -> None:
        """It works once it is installed, and nothing of it is left once it is not."""
        venv = self.directory / "venv"
        self.run_quietly(sys.executable, "-m", "venv", "--without-pip", str(venv))
        python = str(venv / "bin" / "python")
        self.run_quietly(*PIP, "--python", python, "install", *OFFLINE, str(wheel))
        self.check(self.run_quietly(python, "-I", "-c", USE), venv)
        command = venv / "bin" / "framefd"
        self.assertEqual(command.exists(), program)
        if program:
            self.run_quietly(str(command), "--version")
        self.run_quietly(*PIP, "--python", python, "uninstall", "--yes", "framefd")
        self.assertFalse(command.exists())
        self.assertEqual(list(venv.rglob("framefd*")), [])

    def test_a_build_has_the_library_in_it(self) -> None:
        lib = self.directory / "lib"
        build = ["build", "--build-base", "temporary", "--build-lib", str(lib)]
        setup = [sys.executable, "-W", "ignore", "setup.py", "--quiet", *build]
        self.run_quietly(*setup, library=self.library())
        use = f"import sys; sys.path.insert(0, {str(lib)!r})\n{USE}"
        self.check(self.run_quietly(sys.executable, "-I", "-c", use), lib)

    def test_pip_install(self) -> None:
        wheel = self.build_wheel(str(self.source), self.library(), PROGRAM)
        readelf = ["readelf", "-V", self.library(), PROGRAM]
        needs = subprocess.run(readelf, capture_output=True, text=True).stdout
        glibc = max(int(minor) for minor in re.findall(r"Name: GLIBC_2\.(\d+)", needs))
        self.assertRegex(wheel.name, rf"-py3-none-manylinux_2_{glibc}_\w+\.whl$")
        self.check_wheel(wheel)
        with zipfile.ZipFile(wheel) as packed:
            names = packed.namelist()
            (program,) = (packed.read(n) for n in names if n.endswith("scripts/framefd"))
            (metadata,) = (packed.read(n).decode() for n in names if n.endswith("/METADATA"))
        self.assertEqual(program, pathlib.Path(PROGRAM).read_bytes())
        licences = sorted(name.rpartition("/")[2] for name in names if "LICENSE" in name)
        self.assertEqual(licences, ["LICENSE-APACHE", "LICENSE-MIT"])
        self.assertIn("License-Expression: MIT OR Apache-2.0\n", metadata)
        self.assertIn("Requires-Python: >=3.9\n", metadata)
        self.assertIn((support.PACKAGE / "README.md").read_text(), metadata)
        self.assertIn("framefd/py.typed", names)

    def test_a_source_distribution_is_built_by_cargo(self) -> None:
        for name in ("src", "cli/src"):
            shutil.copytree(support.ROOT / name, self.tree / name)
        files = ("Cargo.toml", "Cargo.lock", "build.rs", "benches/tokio_codec.rs", "cli/Cargo.toml")
        for name in files:
            (self.tree / name).parent.mkdir(exist_ok=True)
            shutil.copy(support.ROOT / name, self.tree / name)
        self.run_quietly(sys.executable, "-W", "ignore", "setup.py", "--quiet", "sdist")
        (packed,) = (self.source / "dist").iterdir()
        with tarfile.open(packed) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        shipped = {"README.md", "LICENSE-MIT", "LICENSE-APACHE", "framefd/aio/__init__.py"}
        self.assertLessEqual({*shipped, "rust/Cargo.lock", "rust/src/lib.rs"}, names)
        self.assertFalse([name for name in names if name.startswith("tests")])
        shutil.rmtree(self.tree / "src")
        if os.environ.get("FRAMEFD_LONG"):
            cargo = shutil.which("cargo")
            self.cargo(f'#!/bin/sh\nexec env PATH="{os.environ["PATH"]}" {cargo} "$@"\n')
        else:
            self.cargo()
        self.check_wheel(self.build_wheel(str(packed)))
        if self.log.exists():
            self.assertRegex(self.log.read_text(), r"^\S+/rust rustc .*--release")
            self.assertRegex(self.log.read_text(), r"(?m)^\S+/rust build .*-p framefd-cli")

    def test_in_the_tree_cargo_builds_what_is_installed(self) -> None:
        self.cargo()
        self.check_wheel(self.build_wheel(str(self.source)))
        self.assertRegex(self.log.read_text(), f"^{self.tree} rustc ")

    def test_without_cargo_what_make_has_built_is_installed(self) -> None:
        built = self.tree / "target" / "release"
        built.mkdir(parents=True)
        shutil.copy(self.library(), built / "libframefd.so")
        shutil.copy(PROGRAM, built / "framefd")
        self.check_wheel(self.build_wheel(str(self.source)))

    @unittest.skipUnless(os.environ.get("FRAMEFD_LONG"), "FRAMEFD_LONG is not set")
    def test_make_wheel_has_the_static_program(self) -> None:
        make = ["make", "--silent", "wheel", f"PYTHON={sys.executable}"]
        done = subprocess.run(make, cwd=support.ROOT, capture_output=True, text=True, timeout=900)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        wheel = support.ROOT / done.stdout.splitlines()[-1]
        self.check_wheel(wheel)
        with zipfile.ZipFile(wheel) as packed:
            (name,) = (name for name in packed.namelist() if name.endswith("scripts/framefd"))
            program = packed.extract(name, self.directory)
        segments = subprocess.run(["readelf", "-lW", program], capture_output=True, text=True)
        self.assertNotIn("INTERP", segments.stdout)
        os.chmod(program, 0o755)
        told = self.run_quietly(program, "--version")
        self.assertEqual(told, f"framefd {framefd.__version__}\n")

    def test_with_a_chosen_library_there_is_no_other_program(self) -> None:
        self.cargo()
        wheel = self.build_wheel(str(self.source), self.library())
        self.check_wheel(wheel, program=False)
        self.assertFalse(self.log.exists())

    def test_without_a_library_nothing_is_installed(self) -> None:
        ways = {"nothing": "", "fails": "#!/bin/sh\nexit 101\n", "no file": ""}
        install = [*PIP, "install", *OFFLINE, "--no-build-isolation", "--target", "installed"]
        for way, cargo in ways.items():
            for editable in ([], ["--editable"]):
                with self.subTest(way, editable=bool(editable)):
                    if cargo:
                        self.cargo(cargo)
                    library = "/nonexistent" if way == "no file" else ""
                    words = [*install, *editable, str(self.source)]
                    done = self.run_it(*words, library=library)
                    self.assertNotEqual(done.returncode, 0)
                    said = re.findall(r"^ *error: (.*)", done.stdout + done.stderr, re.M)
                    self.assertRegex(" ".join(said), "framefd library|FRAMEFD_LIBRARY")
                    self.assertFalse((self.source / "installed" / "framefd").exists())


if __name__ == "__main__":
    unittest.main()
