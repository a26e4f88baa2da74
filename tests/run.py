"""Runs the tests: all of them, the quick ones, the long ones, or those of one name.

    tests/run.py               everything that decides whether a change may land
    tests/run.py --quick       what finds most mistakes in less than a minute
    tests/run.py --long        what takes longer: every Python, many more random cases
    tests/run.py --only NAME   the tests whose name has NAME in it, in Rust, C and Python

A suite has one line; what a suite printed is shown if it fails. On a user's machine a
missing tool skips what needs it; with CI set it is an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# How long each run takes on two cpus once everything is built, in minutes.
MINUTES = {"all": 9, "quick": 1, "long": 30}

# What a check needs beyond cargo, cc, make and python3, and where Debian has it.
EXTRAS = {
    "cargo-fmt": "rustup component add rustfmt",
    "cargo-clippy": "rustup component add clippy",
    "valgrind": "apt-get install valgrind",
    "strace": "apt-get install strace",
    "pkg-config": "apt-get install pkg-config",
    "c++": "apt-get install g++",
    "mypy": "python3 -m pip install mypy",
    "setuptools 77": "python3 -m pip install 'setuptools>=77'",
    "tqdm": "python3 -m pip install tqdm",
    "rich": "python3 -m pip install rich",
}

# Of Python's unittest, in the order in which they run.
FOLDERS = [
    "tests/vectors",
    "tests/peers",
    "bindings/python/tests",
    "tests/programs",
    "tests/faults",
    "tests/counts",
]

# Of the package's own tests, what installs it takes too long for a quick run.
SLOW = {"test_install"}

# Pythons that the package supports.
PYTHONS = [f"python3.{minor}" for minor in range(9, 16)]

# Random cases of each property, where `make test` has some hundred.
CASES = "20000"


@dataclasses.dataclass
class Suite:
    """A command, and what it needs of EXTRAS."""

    name: str
    command: list[str]
    needs: str = ""
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Count:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.skipped

    def __add__(self, other: Count) -> Count:
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the tests.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="less than a minute")
    which.add_argument("--long", action="store_true", help="what takes longer")
    which.add_argument("--only", metavar="NAME", help="the tests of this name")
    arguments = parser.parse_args()
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # As a shell's job in the background: the tests of Ctrl-C must not inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments.only:
        suites, minutes = named(arguments.only), None
    elif arguments.quick:
        suites, minutes = quick(), MINUTES["quick"]
    elif arguments.long:
        suites, minutes = long(), MINUTES["long"]
    else:
        suites, minutes = everything(), MINUTES["all"]
    return run(suites, minutes, may_be_empty=not arguments.only)


def everything() -> list[Suite]:
    cargo = ["cargo", "test", "--quiet", "--no-fail-fast"]
    package = str(ROOT / "bindings" / "python" / "framefd")
    return [
        *style(),
        Suite("cargo doc", ["cargo", "doc", "--quiet", "--no-deps"], "", DOC_FLAGS),
        Suite("mypy", [sys.executable, "-m", "mypy", "--strict", package], "mypy"),
        Suite("Rust and C", cargo),
        *(unittest(folder) for folder in FOLDERS),
    ]


DOC_FLAGS = {"RUSTDOCFLAGS": "-D warnings"}


def style() -> list[Suite]:
    clippy = ["cargo", "clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]
    return [
        Suite("rustfmt", ["cargo", "fmt", "--check"], "cargo-fmt"),
        Suite("clippy", clippy, "cargo-clippy"),
    ]


def quick() -> list[Suite]:
    files = sorted((ROOT / "bindings" / "python" / "tests").glob("test_*.py"))
    modules = [file.stem for file in files if file.stem not in SLOW]
    paths = os.pathsep.join(["bindings/python", "bindings/python/tests"])
    return [
        *style(),
        Suite("Rust library", ["cargo", "test", "--quiet", "--lib"]),
        Suite("Python package", [sys.executable, "-m", "unittest", *modules], "", {"PYTHONPATH": paths}),
    ]


def long() -> list[Suite]:
    """Every other Python, since `make test` has one; and the properties at length."""
    properties = ["cargo", "test", "--quiet", "--release", "--no-fail-fast"]
    suites = [
        Suite("properties: library", [*properties, "--lib"], "", {"PROPTEST_CASES": CASES}),
        *(
            Suite(
                f"properties: {test}",
                [*properties, "--test", test],
                "",
                {"PROPTEST_CASES": CASES},
            )
            for test in ("frames", "agreement")
        ),
    ]
    for python in filter(works, PYTHONS):
        for folder in ("tests/vectors", "bindings/python/tests", "tests/programs"):
            suites.append(unittest(folder, python))
    return suites


def named(name: str) -> list[Suite]:
    """Tests with this name, files of tests with this name, and suites in C."""
    cargo = ["cargo", "test", "--quiet", "--no-fail-fast"]
    suites = [Suite("Rust", [*cargo, name])]
    files = [path.stem for path in sorted((ROOT / "tests").glob(f"*{name}*.rs"))]
    files += [path.parent.name for path in sorted((ROOT / "tests").glob(f"*{name}*/main.rs"))]
    if files:
        chosen = [word for file in files for word in ("--test", file)]
        suites.append(Suite("Rust, whole files", [*cargo, *chosen]))
    if any((ROOT / "tests" / "c").glob(f"*{name}*.c")):
        programs = [*cargo, "--test", "c_programs"]
        suites.append(Suite("C", programs, "", {"FRAMEFD_C": name}))
    for folder in FOLDERS:
        suite = unittest(folder)
        suites.append(dataclasses.replace(suite, command=[*suite.command, "-k", name]))
    return suites


def unittest(folder: str, python: str = sys.executable) -> Suite:
    name = folder if python == sys.executable else f"{folder}, {python}"
    return Suite(name, [python, "-m", "unittest", "discover", "-s", folder])


def works(python: str) -> bool:
    """Whether there is such a Python, and it is not the one that runs this."""
    print_version = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        seen = subprocess.run(print_version, capture_output=True, text=True)
    except FileNotFoundError:
        return False
    here = "%d.%d" % sys.version_info[:2]
    return seen.returncode == 0 and seen.stdout.strip() != here


def run(suites: list[Suite], minutes: int | None, may_be_empty: bool) -> int:
    """Runs them one after the other; the last line counts."""
    missing = report_missing(suites)
    if missing and os.environ.get("CI"):
        print("CI runs every check: install what is missing")
        return 1
    if minutes:
        print(f"{len(suites)} suites, about {plural(minutes, 'minute')} on two cpus", flush=True)
    begin, count, broken, left_out = time.monotonic(), Count(), [], 0
    for suite in suites:
        if suite.needs in missing:
            left_out += 1
            line(suite.name, f"skipped: {suite.needs} is missing")
            continue
        seen, passed = run_one(suite)
        count += seen
        if not passed:
            broken.append(suite.name)
    if not may_be_empty and count.total == 0 and not broken:
        print("no test has this name")
        return 1
    seconds = time.monotonic() - begin
    for name in broken:
        print(f"failed: {name}")
    suite_count = f"{len(suites) - len(broken) - left_out} of {len(suites)} suites passed"
    print(
        f"{suite_count}; tests: {count.passed} passed, {count.failed} failed,"
        f" {count.skipped} skipped; {seconds:.0f} s"
    )
    return 1 if broken else 0


def report_missing(suites: Iterable[Suite]) -> set[str]:
    """Names what is not there, if any of these suites may need it."""
    if not any(suite.name == "Rust and C" for suite in suites):
        return set()
    missing = {name for name in EXTRAS if not present(name)}
    for name in sorted(missing):
        print(f"missing, and skipped where it is needed: {name} ({EXTRAS[name]})")
    return missing


def run_one(suite: Suite) -> tuple[Count, bool]:
    print(f"{suite.name:38}", end="", flush=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "bindings" / "python")}
    environment |= suite.environment
    begin = time.monotonic()
    done = subprocess.run(
        suite.command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    seconds = time.monotonic() - begin
    count = counted(done.stdout)
    # From 3.12 on unittest has a status of its own for "no tests were run".
    passed = done.returncode == 0 or (count.total == 0 and "NO TESTS RAN" in done.stdout)
    print(f"{told(count) if passed else 'FAILED':44}{seconds:6.1f} s", flush=True)
    if not passed:
        print(done.stdout, flush=True)
    return count, passed


def line(name: str, text: str) -> None:
    print(f"{name:38}{text}", flush=True)


def told(count: Count) -> str:
    skipped = f", {count.skipped} skipped" if count.skipped else ""
    return f"{count.passed} passed{skipped}" if count.total else "ok"


def plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


RUST = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.M)
PYTHON = re.compile(r"^Ran (\d+) tests? in .*\n\n(.*)$", re.M)


def counted(output: str) -> Count:
    """What cargo's and Python's test programs say at their end."""
    count = Count()
    for result in RUST.finditer(output):
        count += Count(*map(int, result.groups()))
    for result in PYTHON.finditer(output):
        parts = dict(re.findall(r"(\w+)=(\d+)", result[2]))
        failed = int(parts.get("failures", 0)) + int(parts.get("errors", 0))
        skipped = int(parts.get("skipped", 0))
        count += Count(int(result[1]) - failed - skipped, failed, skipped)
    return count


def present(name: str) -> bool:
    if name in ("mypy", "tqdm", "rich"):
        return importlib.util.find_spec(name) is not None
    if name.startswith("setuptools"):
        return version_of("setuptools") >= (77,)
    return shutil.which(name) is not None


def version_of(package: str) -> tuple[int, ...]:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in version.split(".")[:2])


if __name__ == "__main__":
    sys.exit(main())
