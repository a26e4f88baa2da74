"""Puts the shared library into the package, and the program framefd beside the scripts of Python.
They are FRAMEFD_LIBRARY and FRAMEFD_PROGRAM, or what cargo builds from the sources: those of the
tree, or of the rust folder of a source distribution. Without cargo they are what `make` has built.
A package without a library is not made; one for a chosen library has the program that is chosen
for it, or none."""

from __future__ import annotations

import functools
import os
import pathlib
import re
import shutil
import subprocess

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

from distutils.command.build_scripts import build_scripts  # setuptools brings it

HERE = pathlib.Path(__file__).resolve().parent
PACKED = HERE / "rust"
SOURCES = PACKED if PACKED.is_dir() else HERE.parents[1]
# The last ones, because the workspace names them.
NEEDED = ["Cargo.toml", "Cargo.lock", "build.rs", "src"]
NEEDED += ["benches/tokio_codec.rs", "cli/Cargo.toml", "cli/src"]

# As in the Makefile, so that cargo does nothing after `make`.
BUILD = ["cargo", "rustc", "--quiet", "--locked", "--lib", "--release"]
KINDS = ["--crate-type", "cdylib,staticlib"]
BUILD_PROGRAM = ["cargo", "build", "--quiet", "--locked", "--release"]
BUILD_PROGRAM += ["-p", "framefd-cli", "--bin", "framefd"]
TARGET = SOURCES / (os.environ.get("CARGO_TARGET_DIR") or "target")
OWN = TARGET / "program"
RELEASE = pathlib.Path(os.environ.get("CARGO_BUILD_TARGET", ""), "release")


@functools.lru_cache(maxsize=None)
def shared_library() -> pathlib.Path:
    """The library; builds it if it can be built."""
    chosen = os.environ.get("FRAMEFD_LIBRARY")
    if chosen:
        return there(pathlib.Path(chosen), "FRAMEFD_LIBRARY is no file")
    built = TARGET / RELEASE / "libframefd.so"
    wanted = "install Rust 1.88 or newer, or set FRAMEFD_LIBRARY to a libframefd.so"
    if shutil.which("cargo"):
        if subprocess.run([*BUILD, *KINDS], cwd=SOURCES).returncode != 0:
            raise SystemExit(f"error: cargo cannot build the framefd library: {wanted}")
    return there(built, f"the framefd library is not built, and there is no cargo: {wanted}")


@functools.lru_cache(maxsize=None)
def program() -> pathlib.Path | None:
    """The program; builds it if it can be built."""
    chosen = os.environ.get("FRAMEFD_PROGRAM")
    if chosen:
        return there(pathlib.Path(chosen), "FRAMEFD_PROGRAM is no file")
    if os.environ.get("FRAMEFD_LIBRARY"):
        return None
    if shutil.which("cargo"):
        command = [*BUILD_PROGRAM, "--target-dir", str(OWN)]
        if subprocess.run(command, cwd=SOURCES).returncode != 0:
            raise SystemExit("error: cargo cannot build the framefd program")
        return there(OWN / RELEASE / "framefd", "cargo has not built the framefd program")
    built = TARGET / RELEASE / "framefd"
    return built if built.is_file() else None


def there(library: pathlib.Path, otherwise: str) -> pathlib.Path:
    if not library.is_file():
        raise SystemExit(f"error: {otherwise}")
    return library


class Build(build_py):
    """Copies the library beside the modules; an editable install finds it in the tree."""

    def run(self) -> None:
        library = shared_library()
        super().run()
        if not self.editable_mode:
            package = pathlib.Path(self.build_lib, "framefd")
            self.copy_file(str(library), str(package / "libframefd.so"))


class Program(build_scripts):
    """Copies the program as it is: it is no text."""

    def run(self) -> None:
        self.mkpath(self.build_dir)
        built = program()
        if built:
            copy, _ = self.copy_file(str(built), os.path.join(self.build_dir, "framefd"))
            os.chmod(copy, 0o755)

    def get_source_files(self) -> list[str]:
        return []


class Wheel(bdist_wheel):
    """For every Python 3, since the library knows none of them, and for every Linux with a C
    library that has the symbols. A static program has none of them."""

    def get_tag(self) -> tuple[str, str, str]:
        files = filter(None, [shared_library(), program()])
        symbols = [minor for file in files for minor in glibc(file.read_bytes())]
        machine = super().get_tag()[2]
        if symbols:
            machine = machine.replace("linux", f"manylinux_2_{max(map(int, symbols))}", 1)
        return "py3", "none", machine


def glibc(binary: bytes) -> list[bytes]:
    """The versions 2.N of the C library that it needs."""
    return re.findall(rb"\0GLIBC_2\.(\d+)", binary)


class Sources(sdist):
    """Adds the sources of the library and the program."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        for name in NEEDED:
            source, copy = SOURCES / name, pathlib.Path(base_dir, "rust", name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)


class Native(Distribution):
    """With the library in it the package is for one platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(
    cmdclass={
        "build_py": Build,
        "build_scripts": Program,
        "bdist_wheel": Wheel,
        "sdist": Sources,
    },
    distclass=Native,
    scripts=["framefd"], # which Program makes
)
