"""What the tests of servers share."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import support

import framefd

#: Seconds, long enough for any machine.
LONG = 20.0

WORKERS = (0, 2)


def server_with(**options: Any) -> framefd.Server:
    """A server, with keys in a run with sealed connections."""
    if support.SEALED and not {"key", "keys"} & options.keys():
        options.update(keys={"tests": support.KEY}, name="tests")
    options.setdefault("log", ignore)
    return framefd.Server(**options)


def ignore(level: int, text: str) -> None:
    """A log that nobody reads."""


class Case(unittest.TestCase):
    def client(self, address: str, own: bool = True, **options: Any) -> framefd.Connection:
        """A connection to a server of server_with(); if not ``own``, to another one."""
        if support.SEALED and own and "key" not in options:
            options.update(key=support.KEY, key_id="tests", name="tests")
        connection = framefd.connect(address, timeout=LONG, **options)
        self.addCleanup(connection.close)
        return connection

    @contextlib.contextmanager
    def served(self, server: framefd.Server) -> Iterator[framefd.Connection]:
        """A client of a server, which serves during the block."""
        address = server.listen("127.0.0.1:0")
        with server, server.serving(), self.client(address) as client:
            yield client

    def directory(self) -> pathlib.Path:
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        return pathlib.Path(made.name)

    @contextlib.contextmanager
    def program(self, source: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """A program of its own that prints a line when it is ready."""
        environment = {**os.environ, "PYTHONPATH": str(support.PACKAGE)}
        command = [sys.executable, "-X", "dev", "-c", source]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            **options,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """The status of a program, and the rest of what it has written."""
        out, err = process.communicate(timeout=LONG)
        return process.returncode, out, err

    def wait_until(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + LONG
        while not what():
            if time.monotonic() > end:
                self.fail("it does not come about")
            time.sleep(0.005)


class Lines(logging.Handler):
    """The records of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def logger() -> tuple[logging.Logger, Lines]:
    """A logger of its own, and what comes to it."""
    made, lines = logging.Logger("tests"), Lines()
    made.addHandler(lines)
    return made, lines


@contextlib.contextmanager
def no_child() -> Iterator[None]:
    """The block leaves no child of this process behind."""
    yield
    with contextlib.suppress(ChildProcessError):
        raise AssertionError(f"a child is left: {os.waitpid(-1, os.WNOHANG)}")
