"""Runs everything that is tested, and says what could not be for want of a tool.

On a user's machine a missing extra skips its check; with CI set it is an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What a check needs beyond cargo, cc, make and python3, and where Debian has it.
EXTRAS = {
    "cargo-fmt": "rustup component add rustfmt",
    "cargo-clippy": "rustup component add clippy",
    "valgrind": "apt-get install valgrind",
    "strace": "apt-get install strace",
    "pkg-config": "apt-get install pkg-config",
    "c++": "apt-get install g++",
    "mypy": "python3 -m pip install mypy",
    "setuptools 70.1": "python3 -m pip install 'setuptools>=70.1'",
    "tqdm": "python3 -m pip install tqdm",
    "rich": "python3 -m pip install rich",
}

# Of Python's unittest.
SUITES = [
    "tests/vectors",
    "tests/peers",
    "bindings/python/tests",
    "tests/programs",
    "tests/faults",
    "tests/counts",
]


def main() -> int:
    missing = [name for name in EXTRAS if not present(name)]
    for name in missing:
        print(f"skipped: what needs {name} ({EXTRAS[name]})")
    if missing and os.environ.get("CI"):
        print("CI runs every check: install what is missing")
        return 1
    failed = [name for name, command in checks(missing) if not passes(name, command)]
    for name in failed:
        print(f"failed: {name}")
    print("failed" if failed else "everything passed")
    return 1 if failed else 0


def checks(missing: list[str]) -> list[tuple[str, list[str]]]:
    discover = [sys.executable, "-m", "unittest", "discover", "-s"]
    found = [("the Rust and C suites", ["cargo", "test", "--quiet"])]
    if "cargo-fmt" not in missing:
        found.insert(0, ("rustfmt", ["cargo", "fmt", "--check"]))
    if "cargo-clippy" not in missing:
        clippy = ["cargo", "clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]
        found.insert(1, ("clippy", clippy))
    if "mypy" not in missing:
        package = ROOT / "bindings" / "python" / "framefd"
        found.append(("mypy", [sys.executable, "-m", "mypy", "--strict", str(package)]))
    for folder in SUITES:
        found.append((folder, [*discover, folder]))
    return found


def passes(name: str, command: list[str]) -> bool:
    print(f"== {name}", flush=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "bindings" / "python")}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


def present(name: str) -> bool:
    if name in ("mypy", "tqdm", "rich"):
        return importlib.util.find_spec(name) is not None
    if name.startswith("setuptools"):
        return version_of("setuptools") >= (70, 1)
    return shutil.which(name) is not None


def version_of(package: str) -> tuple[int, ...]:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in version.split(".")[:2])


if __name__ == "__main__":
    sys.exit(main())
