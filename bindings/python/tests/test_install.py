"""An installed package needs nothing of the source tree, and is whole: it has the library, or is
not made."""

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

from framefd import _native

USE = """
import os, framefd, framefd._native
read, write = os.pipe()
framefd.send(write, {"n": 1}, b"body")
print(framefd.recv(read), framefd._native.lib._name, framefd.__file__)
"""

# In place of cargo: "builds" the library under test, and writes down how it was called.
CARGO = """#!/bin/sh
echo "$PWD $*" >>{log}
mkdir -p target/release && cp {library} target/release/libframefd.so
"""

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

    def run_it(self, *command: str, library: str = "") -> subprocess.CompletedProcess[str]:
        """A command, in an environment without cargo, unless cargo() was called; it has the
        library for builds only."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FRAMEFD", "PYTHON"))}
        env.update({"FRAMEFD_LIBRARY": library} if library else {})
        for name in ("LD_LIBRARY_PATH", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"):
            env.pop(name, None)
        env["PATH"] = f"{self.bin}:/usr/bin:/bin"
        return subprocess.run(
            command, cwd=self.source, env=env, capture_output=True, text=True, timeout=120
        )

    def run_quietly(self, *command: str, library: str = "") -> str:
        done = self.run_it(*command, library=library)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def library(self) -> str:
        """The library under test, whole: not by a name that needs a search."""
        return os.path.realpath(_native.lib._name)

    def cargo(self, text: str = "") -> None:
        """Puts a cargo on the PATH."""
        program = self.bin / "cargo"
        program.write_text(text or CARGO.format(log=self.log, library=self.library()))
        program.chmod(0o755)

    def build_wheel(self, source: str, library: str = "") -> pathlib.Path:
        wheels = self.directory / "wheels"
        build = ["wheel", *OFFLINE, "--no-build-isolation", "-w", str(wheels), source]
        self.run_quietly(*PIP, *build, library=library)
        (wheel,) = wheels.iterdir()
        return wheel

    def check(self, printed: str, installed: pathlib.Path) -> None:
        frame, library, module = printed.rsplit(None, 2)
        self.assertEqual(frame, "Frame(header={'n': 1}, body=b'body')")
        for path in (library, module):
            self.assertIn(installed.resolve(), pathlib.Path(path).resolve().parents)

    def check_wheel(self, wheel: pathlib.Path) -> None:
        """It works once it is installed."""
        venv = self.directory / "venv"
        self.run_quietly(sys.executable, "-m", "venv", "--without-pip", str(venv))
        python = str(venv / "bin" / "python")
        self.run_quietly(*PIP, "--python", python, "install", *OFFLINE, str(wheel))
        self.check(self.run_quietly(python, "-I", "-c", USE), venv)

    def test_a_build_has_the_library_in_it(self) -> None:
        lib = self.directory / "lib"
        build = ["build", "--build-base", "temporary", "--build-lib", str(lib)]
        setup = [sys.executable, "-W", "ignore", "setup.py", "--quiet", *build]
        self.run_quietly(*setup, library=self.library())
        use = f"import sys; sys.path.insert(0, {str(lib)!r})\n{USE}"
        self.check(self.run_quietly(sys.executable, "-I", "-c", use), lib)

    def test_pip_install(self) -> None:
        wheel = self.build_wheel(str(self.source), self.library())
        needs = subprocess.run(
            ["readelf", "-V", self.library()], capture_output=True, text=True
        ).stdout
        glibc = max(int(minor) for minor in re.findall(r"Name: GLIBC_2\.(\d+)", needs))
        self.assertRegex(wheel.name, rf"-py3-none-manylinux_2_{glibc}_\w+\.whl$")
        self.check_wheel(wheel)
        with zipfile.ZipFile(wheel) as packed:
            names = packed.namelist()
            (metadata,) = (packed.read(n).decode() for n in names if n.endswith("/METADATA"))
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

    def test_in_the_tree_cargo_builds_what_is_installed(self) -> None:
        self.cargo()
        self.check_wheel(self.build_wheel(str(self.source)))
        self.assertRegex(self.log.read_text(), f"^{self.tree} rustc ")

    def test_without_cargo_what_make_has_built_is_installed(self) -> None:
        built = self.tree / "target" / "release" / "libframefd.so"
        built.parent.mkdir(parents=True)
        shutil.copy(self.library(), built)
        self.check_wheel(self.build_wheel(str(self.source)))

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
