"""Puts the shared library into the package, where the build finds one: FRAMEFD_LIBRARY, or
target/release of the source tree. Without it the package uses the system's library."""

from __future__ import annotations

import os
import pathlib

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py


def shared_library() -> pathlib.Path | None:
    chosen = os.environ.get("FRAMEFD_LIBRARY")
    if chosen:
        return pathlib.Path(chosen)
    root = pathlib.Path(__file__).resolve().parents[2]
    target = root / (os.environ.get("CARGO_TARGET_DIR") or "target")
    built = target / "release" / "libframefd.so"
    return built if (root / "include" / "framefd.h").exists() and built.exists() else None


class BuildWithLibrary(build_py):
    """Copies the library beside the modules; an editable install finds it by itself."""

    def run(self) -> None:
        super().run()
        library = shared_library()
        if library is not None and not getattr(self, "editable_mode", False):
            self.copy_file(
                str(library), os.path.join(self.build_lib, "framefd", "libframefd.so")
            )


class PlatformDistribution(Distribution):
    """With the library in it the package is for one platform."""

    def has_ext_modules(self) -> bool:
        return shared_library() is not None


setup(
    cmdclass={"build_py": BuildWithLibrary},
    distclass=PlatformDistribution,
    options={"bdist_wheel": {"py_limited_api": "cp39"}},  # one wheel for every Python
)
