"""Runs the tests: all of them, the quick ones, the long ones, or those of one name.

    tests/run.py               everything that decides whether a change may land
    tests/run.py --quick       what finds most mistakes in less than a minute
    tests/run.py --long        what takes longer: every Python, musl, many more random cases
    tests/run.py --pythons     the package's tests with every other Python that is installed
    tests/run.py --list        those Pythons
    tests/run.py --only NAME   the tests whose name has NAME in it, in Rust, C and Python

A suite has one line; what a suite printed is shown if it fails. On a user's machine a
missing tool skips what needs it; with CI set it is an error.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# How long each run takes on two cpus once everything is built, in minutes.
MINUTES = {"all": 10, "quick": 1, "long": 27, "pythons": 5}

# What a check needs beyond cargo, cc, make and python3, and where Debian has it.
STYLE = {
    "cargo-fmt": "rustup component add rustfmt",
    "cargo-clippy": "rustup component add clippy",
}
EXTRAS = STYLE | {
    "valgrind": "apt-get install valgrind",
    "strace": "apt-get install strace",
    "pkg-config": "apt-get install pkg-config",
    "c++": "apt-get install g++",
    "clang": "apt-get install clang",
    "ld.lld": "apt-get install lld",
    "ld.gold": "apt-get install binutils-gold",
    "git": "apt-get install git",
    "rsync": "apt-get install rsync",
    "mypy": "python3 -m pip install mypy",
    "setuptools 77": "python3 -m pip install 'setuptools>=77'",
    "tqdm": "python3 -m pip install tqdm",
    "uvloop": "python3 -m pip install uvloop",
    "rich": "python3 -m pip install rich",
    "noiseprotocol": "python3 -m pip install noiseprotocol",
}

# The lowest version of Rust that Cargo.toml allows.
(OLDEST,) = re.findall(r'^rust-version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)
LONG_EXTRAS = {
    OLDEST: f"rustup toolchain install {OLDEST}",
    "musl-gcc": "apt-get install musl-tools; rustup target add x86_64-unknown-linux-musl",
    "setuptools 77": EXTRAS["setuptools 77"],
    "noiseprotocol": EXTRAS["noiseprotocol"],
}

CARGO_TEST = ["cargo", "test", "--quiet", "--no-fail-fast"]
# The program, which is a crate of its own in cli/.
PROGRAM = ["-p", "framefd-cli"]
DOC_FLAGS = {"RUSTDOCFLAGS": "-D warnings"}

# Of Python's unittest, in the order in which they run.
FOLDERS = [
    "tests/vectors",
    "tests/peers",
    "bindings/python/tests",
    "tests/programs",
    "tests/faults",
    "tests/counts",
]

# The tests of the programs that run on sealed connections as well: a part of them between C and
# Python, and all of them between all programs.
SEALED_PART = [
    "test_exec.Exec.test_both_streams",
    "test_exec.Exec.test_long_output",
    "test_files.Files.test_put_and_get",
    "test_servers.Stop.test_a_reply_in_flight",
    "test_trees.Trees",
    "test_streams.Streams",
    "test_streams.Ends",
    "test_terminals.Commands",
    "test_signals.Signals",
]
SEALED_ALL = ["test_exec.Exec", "test_files.Files", "test_servers", *SEALED_PART[4:]]

# Of the package's own tests, what installs it takes too long for a quick run.
SLOW = {"test_install"}

# Pythons that the package supports, and where pyenv keeps more of them.
PYTHONS = [f"python3.{minor}" for minor in range(9, 16)]
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")

# Tests that build the library once more run if this is set.
LONG = {"FRAMEFD_LONG": "1"}

# Connections of the library are sealed if this is set. Of the tests of files and of the package,
# these show enough for a change to land.
SEALED = {"FRAMEFD_TEST_SEALED": "1"}
SEALED_RUST = ["--test", "exec", "--test", "files", "--test", "c_programs"]
SEALED_FILES = ["refused::", "conversation::", "whole::a_file_of_any_size"]
SEALED_MODULES = ["test_exec_streams", "test_messages", "test_aio_exchanges"]

# Random cases of each property, where `make test` has some hundred.
CASES = "10000"


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
    which.add_argument("--pythons", action="store_true", help="every other Python")
    which.add_argument("--list", action="store_true", help="shows those Pythons")
    which.add_argument("--only", metavar="NAME", help="the tests of this name")
    arguments = parser.parse_args()
    # As a shell's job in the background, or under nohup: the tests of signals must not inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if arguments.only:
        return run([named(arguments.only)], {}, None)
    if arguments.quick:
        return run([quick()], STYLE, MINUTES["quick"])
    if arguments.long:
        return run([long()], LONG_EXTRAS, MINUTES["long"])
    if arguments.pythons:
        return run([package_tests()], {}, MINUTES["pythons"])
    if arguments.list:
        print(*pythons(), sep="\n")
        return 0
    return run(everything(), EXTRAS, MINUTES["all"])


def everything() -> list[list[Suite]]:
    """What needs cargo and what needs Python, at the same time: much of both is waiting."""
    package = str(ROOT / "bindings" / "python" / "framefd")
    rust = [
        *style(),
        Suite("cargo doc", ["cargo", "doc", "--quiet", "--no-deps"], "", DOC_FLAGS),
        Suite("Rust and C", CARGO_TEST),
        Suite("the program framefd", [*CARGO_TEST, *PROGRAM]),
    ]
    python = [
        Suite("mypy", [sys.executable, "-m", "mypy", "--strict", package], "mypy"),
        *(unittest(folder) for folder in FOLDERS),
        Suite("files, sealed", [*CARGO_TEST, "--test", "files", "--", *SEALED_FILES], "", SEALED),
        sealed_package(),
        sealed("1", SEALED_PART),
        soak(20),
    ]
    return [rust, python]


def soak(seconds: int) -> Suite:
    """Servers under load. A build without optimisation has no figures worth showing."""
    environment = {"FRAMEFD_SOAK": str(seconds)}
    return Suite("a server under load", [*CARGO_TEST, "--test", "soak"], "", environment)


def style() -> list[Suite]:
    clippy = ["cargo", "clippy", "--quiet"]
    warnings = ["--", "-D", "warnings"]
    program = [*clippy, *PROGRAM, "--all-targets", *warnings]
    small = [*clippy, "--no-default-features", *warnings]
    return [
        Suite("rustfmt", ["cargo", "fmt", "--all", "--check"], "cargo-fmt"),
        Suite("clippy", [*clippy, "--all-targets", *warnings], "cargo-clippy"),
        Suite("clippy without sealing", small, "cargo-clippy"),
        Suite("clippy, the program", program, "cargo-clippy"),
    ]


def quick() -> list[Suite]:
    files = sorted((ROOT / "bindings" / "python" / "tests").glob("test_*.py"))
    modules = [file.stem for file in files if file.stem not in SLOW]
    return [
        *style(),
        Suite("Rust library", ["cargo", "test", "--quiet", "--lib"]),
        package("Python package", modules),
    ]


def package(name: str, modules: list[str]) -> Suite:
    """Some files of the package's tests."""
    command = [sys.executable, "-m", "unittest", *modules]
    paths = os.pathsep.join(["bindings/python", "bindings/python/tests"])
    return Suite(name, command, "", {"PYTHONPATH": paths})


def sealed_package() -> Suite:
    some = package("Python package, sealed", SEALED_MODULES)
    return dataclasses.replace(some, environment=some.environment | SEALED)


def long() -> list[Suite]:
    """Every other Python and the oldest Rust, since `make test` has one of each; and many more
    random cases."""
    check = ["cargo", f"+{OLDEST}", "check", "--quiet", "--all-targets"]
    apart = {"CARGO_TARGET_DIR": "target/oldest"}
    return [
        Suite(f"Rust {OLDEST} compiles it", [*check, "--workspace"], OLDEST, apart),
        Suite("Rust and C, more cases", CARGO_TEST, "", {"PROPTEST_CASES": CASES}),
        soak(120),
        Suite("Rust and C, sealed", [*CARGO_TEST, *SEALED_RUST], "", SEALED),
        Suite("the library without its server", [*CARGO_TEST, "--test", "gates", "without"], "", LONG),
        Suite("the time of a refusal", [*CARGO_TEST, "--test", "seal_timing"], "", LONG),
        dataclasses.replace(
            unittest("bindings/python/tests"), name="Python package, sealed", environment=SEALED
        ),
        dataclasses.replace(
            unittest("tests/vectors", only=["key_changes"]),
            name="keys that change, against noiseprotocol",
            needs="noiseprotocol",
            environment=LONG,
        ),
        Suite("musl", [*CARGO_TEST, "--test", "linking", "musl"], "musl-gcc", LONG),
        Suite("the static program", [*CARGO_TEST, *PROGRAM, "static"], "musl-gcc", LONG),
        dataclasses.replace(
            unittest("bindings/python/tests", only=["source_distribution"]),
            name="a source distribution",
            needs="setuptools 77",
            environment=LONG,
        ),
        sealed("all", SEALED_ALL),
        dataclasses.replace(
            unittest("tests/programs", only=["plain_client_with_a_key"]),
            name="the time of a handshake",
            environment=LONG,
        ),
        *(unittest(folder, python) for python in pythons() for folder in FOLDERS[:4]),
    ]


def sealed(pairs: str, names: list[str]) -> Suite:
    """The tests of the programs with these names, on sealed connections: see
    tests/programs/pairs.py."""
    suite = unittest("tests/programs", only=names)
    environment = {"FRAMEFD_SEALED": pairs}
    return dataclasses.replace(suite, name="tests/programs, sealed", environment=environment)


def package_tests() -> list[Suite]:
    return [unittest("bindings/python/tests", python) for python in pythons()]


def named(name: str) -> list[Suite]:
    """Tests with this name, files of tests with this name, and suites in C."""
    suites = [
        Suite("Rust", [*CARGO_TEST, name]),
        Suite("the program framefd", [*CARGO_TEST, *PROGRAM, name]),
    ]
    files = [path.stem for path in sorted((ROOT / "tests").glob(f"*{name}*.rs"))]
    files += [path.parent.name for path in sorted((ROOT / "tests").glob(f"*{name}*/main.rs"))]
    if files:
        chosen = [word for file in files for word in ("--test", file)]
        suites.append(Suite("Rust, whole files", [*CARGO_TEST, *chosen]))
    if any((ROOT / "tests" / "c").glob(f"*{name}*.c")):
        programs = [*CARGO_TEST, "--test", "c_programs"]
        suites.append(Suite("C", programs, "", {"FRAMEFD_C": name}))
    for folder in FOLDERS:
        suites.append(unittest(folder, only=[name]))
    return suites


def unittest(folder: str, python: str = sys.executable, only: Sequence[str] = ()) -> Suite:
    name = folder if python == sys.executable else f"{Path(python).name} {folder}"
    chosen = [word for part in only for word in ("-k", part)]
    return Suite(name, [python, "-m", "unittest", "discover", "-s", folder, *chosen])


def pythons() -> list[str]:
    """Those that work, one of each version, without the one that runs this."""
    found = {sys.version_info[:2]: ""}
    for name in PYTHONS:
        for python in [name, *map(str, sorted(PYENV.glob(f"*/bin/{name}")))]:
            version = version_of_python(python)
            if version is not None:
                found.setdefault(version, python)
    return [python for python in found.values() if python]


def version_of_python(python: str) -> tuple[int, int] | None:
    # Without these two it can neither use the package nor install it.
    show = [python, "-c", "import ctypes, pip, sys; print(*sys.version_info[:2])"]
    try:
        shown = subprocess.run(show, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    if shown.returncode != 0:
        return None
    major, minor = map(int, shown.stdout.split())
    return major, minor


def run(lanes: list[list[Suite]], extras: dict[str, str], minutes: int | None) -> int:
    """Runs the lanes at the same time, and the suites of each one after the other; the last
    line counts. Without ``minutes``, running no test at all is a failure."""
    suites = [suite for lane in lanes for suite in lane]
    missing = [name for name in extras if not present(name)]
    for name in missing:
        print(f"missing, so what needs it is skipped: {name} ({extras[name]})")
    if missing and os.environ.get("CI"):
        print("CI runs every check: install what is missing")
        return 1
    if minutes:
        words = plural(minutes, "minute")
        print(f"{len(suites)} suites, about {words} on two cpus", flush=True)
    begin, count, broken, left_out = time.monotonic(), Count(), [], 0
    interrupted = threading.Event()

    def run_lane(lane: list[Suite]) -> list[tuple[Suite, Count, bool] | None]:
        return [run_one(suite, missing) for suite in lane if not interrupted.is_set()]

    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        try:
            done = list(pool.map(run_lane, lanes))
        except KeyboardInterrupt:
            interrupted.set()
            raise
    for outcome in itertools.chain(*done):
        if outcome is None:
            left_out += 1
            continue
        suite, seen, passed = outcome
        count += seen
        if not passed:
            broken.append(suite.name)
    if minutes is None and count.total == 0 and not broken:
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


def run_one(suite: Suite, missing: list[str]) -> tuple[Suite, Count, bool] | None:
    """Runs a suite, and shows a line once it is over; ``None`` if it was left out."""
    if suite.needs in missing:
        print(f"{suite.name:38}skipped: {suite.needs} is missing", flush=True)
        return None
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
    text = f"{suite.name:38}{told(count) if passed else 'FAILED':44}{seconds:6.1f} s\n"
    # At once, beside the other lane.
    sys.stdout.write(text if passed else f"{text}{done.stdout}\n")
    sys.stdout.flush()
    return suite, count, passed


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
    if name == OLDEST:
        return has_toolchain(name)
    if name in ("mypy", "tqdm", "rich", "uvloop"):
        return importlib.util.find_spec(name) is not None
    if name == "noiseprotocol":
        return version_of(name) > ()
    if name.startswith("setuptools"):
        return version_of("setuptools") >= (77,)
    return shutil.which(name) is not None


def has_toolchain(version: str) -> bool:
    if shutil.which("rustup") is None:
        return False
    listed = subprocess.run(["rustup", "toolchain", "list"], capture_output=True, text=True)
    return any(line.startswith(f"{version}-") for line in listed.stdout.splitlines())


def version_of(package: str) -> tuple[int, ...]:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in version.split(".")[:2])


if __name__ == "__main__":
    sys.exit(main())
