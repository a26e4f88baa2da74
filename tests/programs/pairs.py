"""What the suites of this folder share: programs in C, in Python and of old, held against
each other.

With FRAMEFD_SEALED set the connections of our programs are sealed: with "1" between C and Python,
with "all" between all of ours. What cannot be sealed is skipped.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import sys
import tempfile
import unittest
from collections.abc import Callable, Iterable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests" / "peers")]

import launch  # noqa: E402
import wire as plain  # noqa: E402
from driver import peer  # noqa: E402

__all__ = [
    "CLIENT",
    "KEY",
    "KINDS",
    "OLD",
    "OURS",
    "PAIRS",
    "SEALED",
    "Case",
    "Servers",
    "in_clear",
    "launch",
    "peer",
    "plain",
    "redirecting",
    "tcp_exec_client",
    "tcp_exec_server",
    "wires",
]

KEY = b"a key that both sides of this test have"
SEALED = os.environ.get("FRAMEFD_SEALED", "")

OLD = "old"
KINDS = launch.LANGUAGES if SEALED else (*launch.LANGUAGES, OLD)
# Server and client: the pairs of ours, and those with one side from the tutorial.
OURS = tuple(
    pair
    for pair in itertools.product(launch.LANGUAGES, repeat=2)
    if SEALED != "1" or pair[0] != pair[1]
)
PAIRS = tuple(
    pair
    for pair in itertools.product(KINDS, repeat=2)
    if pair != (OLD, OLD) and (OLD in pair or pair in OURS)
)

# For a test of old programs, or of bytes on the wire.
in_clear = unittest.skipIf(SEALED, "this is not sealed")


def wires(*names: str) -> tuple[str, ...]:
    """Those of them that connections may have."""
    return tuple(name for name in names if name == "frame" or not SEALED)


def seal_all() -> None:
    """From now on the programs that can seal do."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(KEY)
    atexit.register(os.unlink, file.name)
    for name in ("exec_server", "exec_client", "file_server", "file_client"):
        launch.ADDED[name] = ["--seal", "--key-file", file.name]


if SEALED:
    seal_all()


def tcp_exec_server(kind: str, wire: str, *options: str) -> list[str]:
    if kind == OLD:
        return peer(f"{wire}_server", "127.0.0.1", "0", *options)
    return launch.program(kind, "exec_server", "--wire", wire, *options)


def tcp_exec_client(kind: str, wire: str, address: tuple[str, str], *words: str) -> list[str]:
    if kind == OLD:
        return peer(f"{wire}_client", *address, *words)
    return launch.program(kind, "exec_client", *address, "--wire", wire, *words)


def redirecting(redirected: str, command: list[str]) -> list[str]:
    """A command with descriptors as the shell makes them."""
    return ["sh", "-c", f'exec "$@" {redirected}', "sh", *command]


# What begins a line about a client in a server's log: its address, unless it has gone.
CLIENT = r"(127\.0\.0\.1:\d+|a client)"


class Case(unittest.TestCase):
    """A test that runs one check for many cases, several at a time."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)

    def each(self, cases: Iterable[tuple[str, ...]], check: Callable[..., None]) -> None:
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            pending = {case: pool.submit(check, *case) for case in cases}
        for case, future in pending.items():
            with self.subTest(" / ".join(case)):
                future.result()

    def key_file(self, name: str = "key", key: bytes = KEY) -> str:
        path = self.directory / name
        path.write_bytes(key)
        path.chmod(0o600)
        return str(path)


class Servers:
    """Servers that stay for a whole class, started when they are first asked for."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.running: dict[tuple[str, ...], launch.Server] = {}

    def start(self, command: list[str]) -> launch.Server:
        name = tuple(command)
        if name not in self.running:
            self.running[name] = self.stack.enter_context(
                launch.server(command, directory=self.directory)
            )
        return self.running[name]

    def close(self) -> None:
        self.stack.close()


# A few more than processors: clients wait as much as they work.
THREADS = 2 * (os.cpu_count() or 1)
