"""An installed package needs nothing of the source tree."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import support

from framefd import _native

USE = """
import os, framefd, framefd._native
read, write = os.pipe()
framefd.send(write, {"n": 1}, b"body")
print(framefd.recv(read), framefd._native.lib._name, framefd.__file__)
"""


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
        self.directory = pathlib.Path(directory.name)
        ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "tests")
        self.source = self.directory / "source"
        shutil.copytree(support.PACKAGE, self.source, ignore=ignored)

    def run_quietly(self, *command: str, library: str = "") -> str:
        """A command's output; its environment has the library for builds only."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FRAMEFD", "PYTHON"))}
        env.update({"FRAMEFD_LIBRARY": library} if library else {})
        env.pop("LD_LIBRARY_PATH", None)
        done = subprocess.run(
            command, cwd=self.source, env=env, capture_output=True, text=True, timeout=120
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def library(self) -> str:
        """The library under test, whole: not by a name that needs a search."""
        return os.path.realpath(_native.lib._name)

    def check(self, printed: str, installed: pathlib.Path) -> None:
        frame, library, module = printed.rsplit(None, 2)
        self.assertEqual(frame, "Frame(header={'n': 1}, body=b'body')")
        for path in (library, module):
            self.assertIn(installed.resolve(), pathlib.Path(path).resolve().parents)

    def test_a_build_has_the_library_in_it(self) -> None:
        lib = self.directory / "lib"
        build = ["build", "--build-base", "temporary", "--build-lib", str(lib)]
        setup = [sys.executable, "-W", "ignore", "setup.py", "--quiet", *build]
        self.run_quietly(*setup, library=self.library())
        use = f"import sys; sys.path.insert(0, {str(lib)!r})\n{USE}"
        self.check(self.run_quietly(sys.executable, "-I", "-c", use), lib)

    def test_pip_install(self) -> None:
        pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--no-cache-dir"]
        offline = ["--no-index", "--no-deps"]
        wheels, venv = self.directory / "wheels", self.directory / "venv"
        build = ["wheel", *offline, "--no-build-isolation", "-w", str(wheels), str(self.source)]
        self.run_quietly(*pip, *build, library=self.library())
        (wheel,) = wheels.iterdir()
        self.assertRegex(wheel.name, r"-cp39-abi3-linux_\w+\.whl$")
        self.run_quietly(sys.executable, "-m", "venv", "--without-pip", str(venv))
        python = str(venv / "bin" / "python")
        self.run_quietly(*pip, "--python", python, "install", *offline, str(wheel))
        self.check(self.run_quietly(python, "-I", "-c", USE), venv)


if __name__ == "__main__":
    unittest.main()
